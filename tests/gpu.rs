//! A GPU may take part only if it computes what the CPU computes, and says so when it does not.
//!
//! The device of these tests is lavapipe, Mesa's Vulkan on the CPU, because every machine can have it; other devices that are here
//! are listed and tried, and may fail. Red controls show that the self-test can fail: plain WGSL loses on lavapipe what
//! strict modules keep. The tests of shader sources need no device at all.

use std::{
    collections::BTreeSet,
    fs,
    mem::offset_of,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use emmy::backend::gpu::{
    Gpu,
    adapter::{Adapter, Adapters, Kind},
    compute::{self, Binding},
    device::Device,
    error::GpuError,
    programs::{self, Pack, Pull32, Pull64, Stage, Survey},
    selftest::{self, Failure, Precision},
    strict::{self, Strictness},
};
use emmy::contract::Contract;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const INSTALL: &str =
    "install the Debian package mesa-vulkan-drivers (`tests/run` does): it is a GPU for every machine";

/// Lavapipe, which calls itself llvmpipe.
fn lavapipe() -> Adapter {
    let adapters = Adapters::find();
    assert!(!adapters.is_empty(), "no Vulkan device at all: {INSTALL}");
    adapters.choose(Some("llvmpipe")).unwrap_or_else(|error| panic!("{error}: {INSTALL}")).clone()
}

fn open() -> Device {
    Device::open(&lavapipe()).unwrap_or_else(|error| panic!("{error}: {}", error.remedy()))
}

fn failure(result: Result<(), GpuError>) -> Failure {
    match result {
        Err(GpuError::SelfTest { failure, .. }) => *failure,
        other => panic!("the self-test was to fail, and it says {other:?}"),
    }
}

// --------------------------------------------------------------------------------------------------- devices

#[test]
fn the_software_device_is_found_and_described() {
    let adapter = lavapipe();

    let facts = adapter.facts();
    assert_eq!(facts.kind, Kind::Software);
    assert!(facts.is_strict(), "{facts:?}");
    assert!(facts.features.f64 && facts.features.i64 && facts.features.timestamps, "{facts:?}");
    assert!(
        facts.limits.storage_binding >= 128 << 20 && facts.limits.buffer >= facts.limits.storage_binding,
        "{facts:?}"
    );
    assert!(facts.memory.is_some_and(|bytes| bytes > 1 << 28), "{facts:?}");
}

#[test]
fn a_number_means_the_same_device_every_time() {
    let names = || Adapters::find().iter().map(|adapter| adapter.facts().name.clone()).collect::<Vec<_>>();

    assert_eq!(names(), names());
    for adapter in Adapters::find().iter() {
        let number = adapter.facts().number.to_string();
        assert_eq!(
            Adapters::find().choose(Some(&number)).map(|found| found.facts().number),
            Ok(adapter.facts().number)
        );
    }
}

#[test]
fn an_unknown_name_is_refused_with_what_there_is() {
    let there = lavapipe().facts().name.clone();

    let error = Adapters::find().choose(Some("Voodoo 2")).expect_err("nobody has one any more");

    assert!(matches!(error, GpuError::UnknownAdapter { .. }), "{error:?}");
    assert!(error.to_string().contains("`Voodoo 2`") && error.to_string().contains(&there), "{error}");
    assert!(error.remedy().contains("emmy devices"), "{}", error.remedy());
}

#[test]
fn the_program_lists_devices_with_their_verdicts() {
    let name = lavapipe().facts().name.clone();

    let (table, json) = (devices(&["devices"]), devices(&["devices", "--json"]));

    let text = String::from_utf8(table.stdout).expect("emmy writes UTF-8");
    let line = text.lines().find(|line| line.contains(&name)).unwrap_or_else(|| panic!("no line for {name}:\n{text}"));
    assert_eq!(line.matches("pairs/s").count(), 2, "{line}");
    assert!(text.lines().next().is_some_and(|titles| titles.contains("portable64     portable32")), "{text}");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    let list = json["devices"].as_array().expect("a list");
    let entry = list.iter().find(|entry| entry["name"] == name.as_str()).expect("lavapipe is there");
    assert_eq!(entry["self_test"], serde_json::json!({ "single": "passed", "double": "passed" }), "{entry}");
    for (proof, contract) in entry["contracts"].as_array().expect("a list").iter().zip(["portable64", "portable32"]) {
        assert_eq!((&proof["contract"], &proof["verdict"]), (&contract.into(), &"passed".into()), "{entry}");
        assert!(proof["pairs_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{entry}");
    }
    assert_eq!((&entry["kind"], &entry["strict"]), (&"software".into(), &true.into()), "{entry}");
}

#[test]
#[cfg(target_os = "linux")]
fn without_any_device_the_program_says_what_to_install() {
    let mut command = emmy(&["devices"]);
    let nowhere = command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");

    let output = nowhere.output().expect("emmy starts");

    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{told}");
    assert!(told.contains("no GPU here") && told.contains("mesa-vulkan-drivers"), "{told}");
}

fn emmy(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emmy"));
    command.args(arguments);
    command
}

fn devices(arguments: &[&str]) -> Output {
    let output = emmy(arguments).output().expect("emmy starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

// ------------------------------------------------------------------------------------------------- arithmetic

#[test]
fn strict_modules_compute_what_the_cpu_computes() {
    let device = open();

    for precision in [Precision::Single, Precision::Double] {
        for row in selftest::table(&device, Strictness::Strict, precision).expect("the table runs") {
            assert_eq!(row.verdict, Ok(()), "{precision:?}");
        }
    }
}

/// Red control: without strictness the self-test refuses this very device.
#[test]
fn plain_modules_are_refused_and_the_operation_is_named() {
    let device = open();

    for precision in [Precision::Single, Precision::Double] {
        let refused = failure(selftest::operations(&device, Strictness::Plain, precision));

        assert!(["(x + z) - x", "error term of TwoSum"].contains(&refused.operation), "{refused}");
        assert!(refused.differ > refused.inputs / 10, "{refused}");
        assert_eq!(refused.numbers, if precision == Precision::Single { "f32" } else { "f64" });
        println!("{refused}");
    }
}

/// Red control of the red control: integers wrap exactly, strict or not, so it is the floats that fail above.
#[test]
fn integers_do_not_need_strictness() {
    let device = open();

    for precision in [Precision::Single, Precision::Double] {
        let rows = selftest::table(&device, Strictness::Plain, precision).expect("the table runs");
        let failed = rows.into_iter().filter_map(|row| row.verdict.err());
        for failure in failed {
            println!("{failure}");
            assert!(["f32", "f64"].contains(&failure.numbers), "{failure}");
        }
    }
}

/// Red control: `fma` of WGSL is no fused multiply-add. Here it rounds twice, on others once: so no shader uses it.
#[test]
fn a_shader_cannot_take_fma_for_fused() {
    const SOURCE: &str = "@group(0) @binding(0) var<storage, read_write> v: array<vec4f>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
            v[id.x].w = fma(v[id.x].x, v[id.x].y, v[id.x].z);
        }";
    let mut random = random();
    let mut float = || f32::from_bits(0x3f00_0000 + (random() >> 8));
    let inputs: Vec<[f32; 4]> = (0..4096).map(|_| [float(), float(), -float(), 0.0]).collect();
    let device = open();
    let module = strict::module(&device, "fma", SOURCE, Strictness::Strict);
    let bytes: Vec<u8> = inputs.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();

    let results = compute::run(&device, &module, &[Binding::ReadWrite(&bytes)], [64, 1, 1]).expect("the shader runs");

    let got = words(&results[0]).skip(3).step_by(4).map(f32::from_bits);
    let differs = |fused: fn([f32; 3]) -> f32| {
        inputs
            .iter()
            .zip(got.clone())
            .filter(|([x, y, z, _], got)| fused([*x, *y, *z]).to_bits() != got.to_bits())
            .count()
    };
    let (fused, unfused) = (differs(|[x, y, z]| x.mul_add(y, z)), differs(|[x, y, z]| x * y + z));
    println!("of 4096, {fused} differ from the fused result and {unfused} from the unfused one");
    assert!(fused > 400, "this lavapipe fuses `fma` ({fused} of 4096 differ, {unfused} from the unfused result)");
}

/// The door and its safe twin: where there is nothing to contract, both ways to a module give the same results.
#[test]
fn strict_and_plain_modules_agree_on_integers() {
    const SOURCE: &str = "@group(0) @binding(0) var<storage, read> seeds: array<u32>;
        @group(0) @binding(1) var<storage, read_write> hashes: array<u32>;
        @group(0) @binding(2) var<uniform> salt: vec4u;
        var<workgroup> shared_words: array<u32, 64>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
            shared_words[lane] = seeds[id.x];
            workgroupBarrier();
            var hash = salt.x;
            for (var k = 0u; k < 64u; k++) {
                hash = (hash ^ shared_words[(lane + k) % 64u]) * 0x9e3779b1u;
                hash ^= hash >> 15u;
            }
            hashes[id.x] = hash;
        }";
    let mut random = random();
    let seeds: Vec<u8> = (0..4096).flat_map(|_| random().to_le_bytes()).collect();
    let salt: Vec<u8> = [7_u32, 0, 0, 0].into_iter().flat_map(u32::to_le_bytes).collect();
    let device = open();
    let hash = |strictness| {
        let module = strict::module(&device, "hash", SOURCE, strictness);
        let bindings = [Binding::Read(&seeds), Binding::Write(seeds.len() as u64), Binding::Uniform(&salt)];
        compute::run(&device, &module, &bindings, [64, 1, 1]).expect("the shader runs").remove(0)
    };

    let strict = hash(Strictness::Strict);

    assert_eq!(strict, hash(Strictness::Plain));
    let word: Vec<u32> = words(&seeds).collect();
    let first = (0..64).fold(7_u32, |hash, k| {
        let hash = (hash ^ word[k]).wrapping_mul(0x9e37_79b1);
        hash ^ hash >> 15
    });
    assert_eq!(words(&strict).next(), Some(first), "the first hash, as the CPU computes it");
}

#[test]
fn a_block_of_bodies_moves_as_on_the_cpu() {
    for contract in [Contract::Portable64, Contract::Portable32] {
        let tested = Gpu::new(open(), contract);
        assert!(tested.is_ok(), "{contract}: {}", tested.expect_err("it failed"));
    }
}

/// Red control: the same shaders, compiled as WGSL allows, do not move bodies as the CPU does. Rounding in two levels is what a
/// driver undoes when it may reorder.
#[test]
fn a_block_of_bodies_moves_otherwise_when_shaders_are_not_strict() {
    for contract in [Contract::Portable64, Contract::Portable32] {
        let mut gpu = Gpu::untested(open(), contract, Strictness::Plain);
        let refused = failure(selftest::bodies(&mut gpu));
        println!("{refused}");
        assert_eq!((refused.operation, refused.numbers), ("two steps of 256 bodies", contract.name()));
    }
}

/// Devices other than lavapipe may fail; none may bring the program down.
#[test]
fn every_device_gives_a_verdict() {
    let adapters = Adapters::find();
    assert!(!adapters.is_empty(), "no Vulkan device at all: {INSTALL}");

    for adapter in adapters.iter() {
        for precision in [Precision::Single, Precision::Double] {
            let verdict =
                Device::open(adapter).and_then(|device| selftest::operations(&device, Strictness::Strict, precision));
            println!("{}, {precision:?}: {verdict:?}", adapter.facts().name);
        }
    }
}

// ----------------------------------------------------------------------------------------------------- faults

#[test]
fn a_lost_device_is_an_error_and_no_panic() {
    let device = open();
    assert_eq!(device.check(), Ok(()));

    device.lose();

    let lost = device.check().expect_err("the device is gone");
    assert!(matches!(lost, GpuError::Lost { .. }), "{lost:?}");
    assert!(lost.remedy().contains("checkpoint"), "{}", lost.remedy());
    // Whatever is asked of it afterwards gives the same error.
    assert_eq!(selftest::operations(&device, Strictness::Strict, Precision::Single), Err(lost.clone()));
    assert_eq!(device.wait(), Err(lost.clone()));
    assert_eq!(device.check(), Err(lost));
}

#[test]
fn what_does_not_fit_is_refused_with_both_sizes() {
    let device = open();
    let available = device.facts().limits.buffer;

    let error = compute::buffer(&device, available + 4, wgpu::BufferUsages::STORAGE).expect_err("too large");

    let expected = GpuError::Memory { device: device.facts().name.clone(), needed: available + 4, available };
    assert_eq!(error, expected);
    assert_eq!(device.check(), Ok(()), "it was not even tried");
}

#[test]
fn a_fault_of_ours_is_told_apart_from_a_loss_and_the_first_one_stays() {
    let device = open();
    let module = strict::module(&device, "none", "@compute @workgroup_size(1) fn main() {}", Strictness::Plain);

    // An entry point that is not there, and then a loss.
    let _ = device.wgpu().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: Some("other"),
        compilation_options: Default::default(),
        cache: None,
    });
    device.lose();

    let error = device.check().expect_err("there is no such entry point");
    assert!(matches!(error, GpuError::Validation { .. }), "{error:?}");
}

// ---------------------------------------------------------------------------------------------------- shaders

#[test]
fn every_shader_is_valid_as_it_is_compiled() {
    let whole = shaders().into_iter().filter(|(name, _)| name.starts_with("shaders/selftest"));
    let assembled = programs::sources().into_iter().map(|(name, source)| (name.to_owned(), source));
    let mut seen = BTreeSet::new();
    for (name, source) in whole.chain(assembled) {
        if let Err(message) = strict::validate(&source) {
            panic!("{name}:\n{message}");
        }
        seen.insert(name);
    }
    let missing: Vec<_> = shaders().into_iter().map(|(name, _)| name).filter(|name| !seen.contains(name)).collect();
    assert!(missing.iter().all(|name| name.starts_with("shaders/part/")), "never compiled: {missing:?}");
}

/// A struct of Rust: its size, and its fields with their offsets.
macro_rules! mirror {
    ($type:ty: $($field:ident $(. $inner:ident)?),+) => {
        (size_of::<$type>(), vec![$((stringify!($field $(. $inner)?), offset_of!($type, $field $(. $inner)?))),+])
    };
}

/// The parameters that come with a dispatch are bytes: Rust and WGSL must agree on every one of them.
#[test]
fn parameters_have_the_same_layout_in_rust_and_in_the_shaders() {
    let pull32 = mirror!(Pull32: factor, softening2, over.rows, over.sources, over.tiles, over.slot, over.range_bits, over.unused);
    let pull64 = mirror!(Pull64: factor, softening2, over.rows, over.sources, over.tiles, over.slot, over.range_bits, over.unused);
    let mirrors = [
        ("shaders/motion.wgsl", "Stage", mirror!(Stage: rows, tests, slot, parts, stride, position_bits, angular)),
        ("shaders/pack.wgsl", "Pack", mirror!(Pack: rows, chosen)),
        ("shaders/survey.wgsl", "Survey", mirror!(Survey: rows, tests, kinetic_scale, unused)),
        ("shaders/force32.wgsl", "Pull", pull32),
        ("shaders/force64.wgsl", "Pull", pull64),
    ];
    for (file, name, (size, fields)) in mirrors {
        for (_, source) in programs::sources().into_iter().filter(|(of, _)| *of == file) {
            let module = naga::front::wgsl::parse_str(&source).expect("the shader is valid");
            let found = module.types.iter().find(|(_, found)| found.name.as_deref() == Some(name));
            let (_, found) = found.unwrap_or_else(|| panic!("{file} has no `{name}`"));
            let naga::TypeInner::Struct { members, span } = &found.inner else {
                panic!("{file}: `{name}` is no struct")
            };
            let there: Vec<(&str, usize)> =
                members.iter().map(|m| (m.name.as_deref().unwrap_or_default(), m.offset as usize)).collect();
            let here: Vec<(&str, usize)> =
                fields.iter().map(|(field, at)| (field.rsplit(['.', ' ']).next().unwrap_or(field), *at)).collect();
            assert_eq!((there, *span as usize), (here, size), "{file}: `{name}`");
        }
    }
}

/// The first line ends in `CPU twin: engine/src/….rs::function`.
#[test]
fn every_shader_names_its_twin_on_the_cpu() {
    for (name, source) in shaders() {
        let line = source.lines().next().unwrap_or_default();
        let twin = line.strip_prefix("// ").and_then(|line| line.split_once("CPU twin: ")).map(|(_, twin)| twin.trim());
        let (file, function) = twin
            .and_then(|twin| twin.split_once("::"))
            .unwrap_or_else(|| panic!("{name}: the first line must be `// … CPU twin: engine/src/….rs::function`"));
        assert!(file.starts_with("engine/src/"), "{name}: the twin stands in the engine, not in {file}");
        let text =
            fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_else(|error| panic!("{name}: {file}: {error}"));
        let declared = [format!("fn {function}("), format!("fn {function}<")];
        assert!(declared.iter().any(|start| text.contains(start)), "{name}: {file} has no function `{function}`");
        let shader = name.rsplit('/').next().expect("a path has a last part");
        assert!(text.contains(shader), "{name}: {file} does not name its shader in turn");
    }
}

/// Every `shaders/**/*.wgsl`.
fn shaders() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("shaders")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(Path::new(ROOT).join(&folder)).expect("the folder can be read") {
            let entry = entry.expect("an entry can be read");
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "wgsl") {
                let source = fs::read_to_string(entry.path()).expect("a shader can be read");
                found.push((path.display().to_string().replace('\\', "/"), source));
            }
        }
    }
    assert!(found.len() >= 2, "there are shaders: {found:?}");
    found
}

// ----------------------------------------------------------------------------------------------------- helpers

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + Clone {
    bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Xorshift (Marsaglia 2003).
fn random() -> impl FnMut() -> u32 {
    let mut state = 2_463_534_242_u32;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    }
}
