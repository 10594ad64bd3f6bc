//! Does this device compute what the CPU computes? Asked of every device before it may touch a particle.
//!
//! A table of the operations that shaders are built of runs on pseudo-random inputs, and every result is compared with that of
//! the CPU as a bit pattern. It leaves out what shaders do without, because no specification promises it: division, square
//! roots, `fma`, and results below the normal range. `tests/gpu.rs` holds the controls that must turn red.

mod block;
mod double;
mod single;

use std::fmt;

use bytemuck::Pod;
use thiserror::Error;

use super::{
    Gpu,
    compute::{self, Binding},
    device::Device,
    error::GpuError,
    strict::{self, Strictness},
};
use crate::contract::Contract;

/// Inputs of the table. Enough that a device which fuses or reorders is caught many times over.
const INPUTS: usize = 4096;
/// Invocations of a workgroup, as in both shaders.
const WORKGROUP: usize = 64;

/// The widest numbers that an operation handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32, and integers of 32 bits: every device has them.
    Single,
    /// f64, and integers of 64 bits.
    Double,
}

/// An operation whose results are not those of the CPU.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{operation} in {numbers}: {differ} of {inputs} results differ from the CPU's; first: {first}")]
pub struct Failure {
    /// Its name, as a formula.
    pub operation: &'static str,
    /// What it computes with, as in WGSL.
    pub numbers: &'static str,
    /// How many results differ.
    pub differ: usize,
    /// Of how many.
    pub inputs: usize,
    /// The first of them.
    pub first: Difference,
}

/// One result that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// As `x = …, y = …`.
    pub input: String,
    /// What the device says.
    pub got: String,
    /// What the CPU says.
    pub expected: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, got {}, expected {}", self.input, self.got, self.expected)
    }
}

/// One row of the table: an operation, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name, as a formula.
    pub operation: &'static str,
    /// How it fails, if it does.
    pub verdict: Result<(), Failure>,
}

/// Whether all operations give the bits of the CPU; the error names the first that does not.
pub fn operations(device: &Device, strictness: Strictness, precision: Precision) -> Result<(), GpuError> {
    let failed = table(device, strictness, precision)?.into_iter().find_map(|row| row.verdict.err());
    failed.map_or(Ok(()), |failure| {
        Err(GpuError::SelfTest { device: device.facts().name.clone(), failure: Box::new(failure) })
    })
}

/// What a contract asks of a device, and whether its operations give the bits of the CPU.
pub fn requirements(device: &Device, contract: Contract) -> Result<(), GpuError> {
    if !device.facts().features.immediates {
        let (device, feature, purpose) = (device.facts().name.clone(), "immediates", "every shader of the engine");
        return Err(GpuError::Feature { device, feature, purpose });
    }
    operations(device, Strictness::Strict, Precision::Single)?;
    if contract.is_single() { Ok(()) } else { operations(device, Strictness::Strict, Precision::Double) }
}

/// Whether a block of bodies moves as on the CPU. What was uploaded before is gone.
pub fn bodies(gpu: &mut Gpu) -> Result<(), GpuError> {
    block::compare(gpu)
}

/// The whole table.
pub fn table(device: &Device, strictness: Strictness, precision: Precision) -> Result<Vec<Row>, GpuError> {
    let (features, name) = (device.facts().features, || device.facts().name.clone());
    let missing = |feature| Err(GpuError::Feature { device: name(), feature, purpose: "the self-test in f64" });
    match precision {
        Precision::Single => compare(device, strictness, single::SHADER, &single::operations(), None),
        Precision::Double if !features.f64 => missing("f64 in shaders"),
        Precision::Double if !features.i64 => missing("i64 in shaders"),
        Precision::Double => {
            compare(device, strictness, double::SHADER, &double::operations(), Some(&double::CONSTANTS))
        }
    }
}

/// One row of input: numbers of every kind, of which an operation takes some.
trait Input: Pod {
    /// The input number `k`.
    fn draw(random: &mut Random, k: usize) -> Self;

    /// The number of this name, for people.
    fn show(&self, name: char) -> String;
}

/// What the shader and the CPU both compute.
struct Operation<I> {
    /// As a formula.
    name: &'static str,
    /// The numbers it takes, by their letters.
    takes: &'static str,
    /// What it gives.
    gives: Gives,
    /// What the CPU does, as the bits of the result.
    twin: fn(&I) -> u64,
}

/// What the bits of a result mean.
#[derive(Clone, Copy)]
enum Gives {
    F32,
    U32,
    /// Two words, the low one first.
    Pair,
    F64,
    I64,
}

impl Gives {
    fn numbers(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::U32 | Self::Pair => "u32",
            Self::F64 => "f64",
            Self::I64 => "i64",
        }
    }

    fn show(self, bits: u64) -> String {
        match self {
            Self::F32 => format!("{:?}", f32::from_bits(bits as u32)),
            Self::U32 => format!("{:#010x}", bits as u32),
            Self::Pair | Self::I64 => format!("{bits:#018x}"),
            Self::F64 => format!("{:?}", f64::from_bits(bits)),
        }
    }
}

/// Runs all operations on the device and on the CPU.
fn compare<I: Input>(
    device: &Device,
    strictness: Strictness,
    shader: &str,
    operations: &[Operation<I>],
    constants: Option<&[f64]>,
) -> Result<Vec<Row>, GpuError> {
    let mut random = Random::default();
    let inputs: Vec<I> = (0..INPUTS).map(|k| I::draw(&mut random, k)).collect();
    let module = strict::module(device, "self-test", shader, strictness);
    let results = Binding::Write((size_of::<u64>() * INPUTS * operations.len()) as u64);
    let mut bindings = vec![Binding::Read(bytemuck::cast_slice(&inputs)), results];
    bindings.extend(constants.map(|constants| Binding::Read(bytemuck::cast_slice(constants))));
    let written = compute::run(device, &module, &bindings, [INPUTS.div_ceil(WORKGROUP) as u32, 1, 1])?;
    let results: Vec<u64> = written[0].as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    let row = |(place, operation): (usize, &Operation<I>)| {
        let column = results.iter().skip(place).step_by(operations.len()).copied();
        Row { operation: operation.name, verdict: judge(operation, &inputs, column) }
    };
    Ok(operations.iter().enumerate().map(row).collect())
}

/// Compares one operation.
fn judge<I: Input>(operation: &Operation<I>, inputs: &[I], results: impl Iterator<Item = u64>) -> Result<(), Failure> {
    let mut wrong = inputs.iter().zip(results).filter(|(input, got)| (operation.twin)(input) != *got);
    let Some((input, got)) = wrong.next() else { return Ok(()) };
    let takes = operation.takes.chars().map(|name| format!("{name} = {}", input.show(name)));
    let first = Difference {
        input: takes.collect::<Vec<_>>().join(", "),
        got: operation.gives.show(got),
        expected: operation.gives.show((operation.twin)(input)),
    };
    let (operation, numbers) = (operation.name, operation.gives.numbers());
    Err(Failure { operation, numbers, differ: 1 + wrong.count(), inputs: inputs.len(), first })
}

/// Xorshift (Marsaglia 2003, 13-7-17): the same inputs on every machine.
struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(88_172_645_463_325_252)
    }
}

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A float of either sign between 2⁻¹⁰ and 2¹⁰ in size, all bits of its mantissa at random: sums of two of them cancel, and
    /// no product of five leaves the normal range.
    fn float(&mut self) -> f64 {
        let exponent = 1023 - 10 + self.bits() % 20;
        let (sign, mantissa) = (self.bits() & (1 << 63), self.bits() >> 12);
        f64::from_bits(sign | exponent << 52 | mantissa)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_where_and_how_often() {
        let first = Difference { input: "x = 1.5, y = 2.0".into(), got: "3.0".into(), expected: "3.5".into() };
        let failure = Failure { operation: "x*y - x*z", numbers: "f32", differ: 41, inputs: 4096, first };

        assert_eq!(
            failure.to_string(),
            "x*y - x*z in f32: 41 of 4096 results differ from the CPU's; first: x = 1.5, y = 2.0, got 3.0, expected 3.5"
        );
    }

    #[test]
    fn the_inputs_tell_fused_from_unfused_and_reordered_from_ordered() {
        let mut random = Random::default();
        let inputs: Vec<[f64; 3]> = (0..INPUTS).map(|_| std::array::from_fn(|_| random.float())).collect();

        let count = |differs: fn(&[f64; 3]) -> bool| inputs.iter().filter(|input| differs(input)).count();
        let fused = count(|[x, y, z]| x.mul_add(*y, *z) != x * y + z);
        let folded = count(|[x, _, z]| (x + z) - x != *z);

        assert!(fused > INPUTS / 10 && folded > INPUTS / 10, "of {INPUTS}, {fused} and {folded} would show it");
    }
}
