//! Turns WGSL into modules whose arithmetic a driver may neither fuse nor reorder.
//!
//! WGSL lets an implementation contract `x*y + z` and reassociate sums, and so does Vulkan, unless the result of an instruction is
//! decorated `NoContraction`: then every + − × is one correctly rounded operation. naga writes no such decoration. So on Vulkan
//! the engine translates its shaders itself, decorates every floating-point result, and passes the words on as they are.
//!
//! What it leaves out: Metal and DX12 know no such decoration and get plain modules, whatever is asked for. There, and for
//! drivers that ignore it, nothing but the self-test decides whether a device may be used. Division, square roots and `fma` are
//! not correctly rounded by this either (the specifications allow more), and results below the normal range may be flushed to
//! zero: shaders do without all four.

use std::borrow::Cow;

use naga::{
    back::spv,
    front::wgsl,
    proc::{BoundsCheckPolicies, BoundsCheckPolicy},
    valid::{Capabilities, ValidationFlags, Validator},
};

use super::{device::Device, door};

/// How much freedom the driver has with arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// None, where the interface allows that: every + − × is rounded once, in the order of the source.
    Strict,
    /// All that WGSL gives it. The safe twin, which wgpu compiles and checks; in tests the control that must turn red.
    Plain,
}

/// SPIR-V of a valid module, with strict arithmetic.
#[derive(Clone, Debug)]
pub(super) struct Spirv(Vec<u32>);

impl Spirv {
    /// The words of the module.
    pub(super) fn words(&self) -> &[u32] {
        &self.0
    }
}

/// Compiles WGSL for a device. The bindings of a module are numbered from 0 without a gap, in group 0.
///
/// # Panics
///
/// If the source is not valid WGSL: it is ours.
#[must_use]
pub fn module(device: &Device, label: &str, source: &str, strictness: Strictness) -> wgpu::ShaderModule {
    if strictness == Strictness::Strict && device.facts().is_strict() {
        return door::module(device.wgpu(), &spirv(source), label);
    }
    // Only to fail in the same way on both paths: wgpu would report a fault in the source later and elsewhere.
    let _ = validated(source);
    device.wgpu().create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(label),
        source: wgpu::ShaderSource::Wgsl(Cow::Borrowed(source)),
    })
}

/// Parses and validates WGSL, and returns what is wrong with it in naga's words.
pub fn validate(source: &str) -> Result<(), String> {
    parse(source).map(|_| ())
}

fn parse(source: &str) -> Result<(naga::Module, naga::valid::ModuleInfo), String> {
    let module = wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).map_err(|error| error.emit_to_string(source))?;
    Ok((module, info))
}

fn validated(source: &str) -> (naga::Module, naga::valid::ModuleInfo) {
    parse(source).unwrap_or_else(|message| panic!("a shader of the engine is not valid:\n{message}"))
}

fn spirv(source: &str) -> Spirv {
    let (module, info) = validated(source);
    let options = spv::Options {
        lang_version: (1, 3),
        flags: spv::WriterFlags::empty(),
        bounds_check_policies: BoundsCheckPolicies {
            // Arrays of a workgroup or of an invocation: nobody else would bound them.
            index: BoundsCheckPolicy::Restrict,
            // Buffers: the device bounds them.
            ..Default::default()
        },
        // Every loop of our shaders ends by its own count, so none needs a second one.
        force_loop_bounding: false,
        ..Default::default()
    };
    let words = spv::write_vec(&module, &info, &options, None).expect("a valid module can be written");
    Spirv(without_contraction(&words))
}

/// Opcodes of SPIR-V.
mod op {
    pub(super) const EXT_INST: u32 = 12;
    pub(super) const FIRST_TYPE: u32 = 19;
    pub(super) const LAST_TYPE: u32 = 39;
    pub(super) const DECORATE: u32 = 71;
    pub(super) const MEMBER_DECORATE: u32 = 72;
    pub(super) const F_NEGATE: u32 = 127;
    pub(super) const F_ADD: u32 = 129;
    pub(super) const F_SUB: u32 = 131;
    pub(super) const F_MUL: u32 = 133;
    pub(super) const F_DIV: u32 = 136;
    /// OpFRem, OpFMod, and products of vectors and matrices up to OpDot.
    pub(super) const F_REM: u32 = 140;
    pub(super) const DOT: u32 = 148;
}

/// The decoration `NoContraction`.
const NO_CONTRACTION: u32 = 42;
/// Words before the first instruction.
const HEADER_WORDS: usize = 5;

/// Decorates the result of every floating-point instruction with `NoContraction`.
///
/// Decorations stand before all types, so the new ones go in before the first decoration or type.
fn without_contraction(words: &[u32]) -> Vec<u32> {
    let mut results = Vec::new();
    let mut decorations = None;
    for (at, opcode) in instructions(words) {
        match opcode {
            op::F_NEGATE | op::F_ADD | op::F_SUB | op::F_MUL | op::F_DIV | op::F_REM..=op::DOT | op::EXT_INST => {
                // An instruction with a result: its opcode, its type, its result.
                results.push(words[at + 2]);
            }
            op::DECORATE | op::MEMBER_DECORATE | op::FIRST_TYPE..=op::LAST_TYPE => {
                decorations.get_or_insert(at);
            }
            _ => {}
        }
    }
    let (before, after) = words.split_at(decorations.expect("a module has types"));
    let new = results.iter().flat_map(|result| [3 << 16 | op::DECORATE, *result, NO_CONTRACTION]);
    before.iter().copied().chain(new).chain(after.iter().copied()).collect()
}

/// Where each instruction begins, and its opcode.
fn instructions(words: &[u32]) -> impl Iterator<Item = (usize, u32)> {
    let mut at = HEADER_WORDS;
    std::iter::from_fn(move || {
        let first = *words.get(at)?;
        let here = at;
        // The upper half counts the words of the instruction, this one included.
        at += (first >> 16) as usize;
        Some((here, first & 0xffff))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "@group(0) @binding(0) var<storage, read_write> v: array<vec4<f32>>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let x = v[id.x];
            v[id.x] = vec4<f32>(x.x * x.y + x.z, dot(x, x), -x.x / x.y, sqrt(x.w));
        }";

    #[test]
    fn every_float_result_is_decorated_and_nothing_else_changes() {
        let words = spirv(SOURCE).0;

        let of = |wanted: u32| instructions(&words).filter(move |(_, opcode)| *opcode == wanted);
        let decorated: Vec<u32> =
            of(op::DECORATE).filter(|(at, _)| words[at + 2] == NO_CONTRACTION).map(|(at, _)| words[at + 1]).collect();
        for opcode in [op::F_ADD, op::F_MUL, op::F_DIV, op::F_NEGATE, op::DOT, op::EXT_INST] {
            assert!(of(opcode).count() > 0, "the source was to have opcode {opcode}");
            for (at, _) in of(opcode) {
                assert!(decorated.contains(&words[at + 2]), "opcode {opcode} at word {at} is not decorated");
            }
        }
        let undecorated = words.len() - 3 * decorated.len();
        assert_eq!(undecorated, plain_length(), "words besides the decorations");
    }

    fn plain_length() -> usize {
        let (module, info) = validated(SOURCE);
        let policies = BoundsCheckPolicies { index: BoundsCheckPolicy::Restrict, ..Default::default() };
        let options = spv::Options {
            lang_version: (1, 3),
            flags: spv::WriterFlags::empty(),
            bounds_check_policies: policies,
            force_loop_bounding: false,
            ..Default::default()
        };
        spv::write_vec(&module, &info, &options, None).expect("a valid module can be written").len()
    }

    #[test]
    #[should_panic(expected = "expected")]
    fn a_fault_in_a_shader_is_told_in_the_words_of_the_compiler() {
        let _ = spirv("fn main( {");
    }
}
