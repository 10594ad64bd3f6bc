//! No bytes whatever make the reader of checkpoints panic, hang or take much memory, and what it accepts is a state that runs.
//!
//! `EMMY_FUZZ_CASES` sets the number of cases (200 000 if not set); `EMMY_FUZZ_SEED` the seed, which a failure prints.

use std::{path::Path, sync::OnceLock};

use emmy::{
    backend::{cpu::Cpu, isa::Isa},
    run::{Run, StopRequest},
    scenario::{
        generate::{population, random::Random},
        read,
    },
    snapshot::checkpoint::{self, Checkpoint, decode, encode},
    spawn,
};
use serde_json::{Value, json};

const PLANETS: &str = "(version: 1, name: \"planets\", integrator: Leapfrog(dt: 0.01), until: Steps(40), bodies: [\
    (name: \"sun\", mass: 1, position: (0, 0, 0), velocity: (0, 0, 0)), \
    (name: \"planet\", mass: 1e-3, position: (1, 0, 0), velocity: (0, 1, 0), radius: 0.01), \
    (name: \"dust\", mass: 0, inertia: 1e-6, position: (0, -2, 0), velocity: (0.7, 0, 0))], \
    expect: [EnergyDrift(below: 1e-2), Position(of: \"planet\", at: 0.1, is: (1, 0.1, 0), within: 0.1)])";
const CLUSTER: &str = "(version: 1, name: \"cluster\", integrator: Srkn6b(dt: 0.01), until: Steps(40), \
    quanta: Given(position: -54, momentum: -60, mass: -56), gravity: (softening: 0.05), audit: (energy_every: 7), \
    generators: [Plummer(count: 20, mass: 1, radius: 1)])";
/// It breaches after a step or two and goes on.
const BREACHED: &str = "(version: 1, name: \"breached\", integrator: Leapfrog(dt: 0.1), until: Steps(40), \
    audit: (energy_every: 1, energy_tolerance: 1e-14, on_breach: Record), bodies: [\
    (mass: 1, position: (0, 0, 0), velocity: (0, 0, 0)), (mass: 1e-3, position: (1, 0, 0), velocity: (0, 1, 0))])";

fn run_of(text: &str) -> Run {
    let scenario = read::read("test", text, &[]).unwrap_or_else(|report| panic!("{:?}", miette::Report::from(report)));
    let bodies = population(&scenario, Path::new(".")).expect("the scenario is right");
    let state = spawn::state(&scenario, &bodies).expect("the bodies fit their quanta");
    Run::new(scenario, state, Cpu::new(Isa::widest(), 1).expect("one thread"))
}

/// Real checkpoints: in the middle of runs and at the end of one.
fn seeds() -> &'static [Vec<u8>] {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let mut seeds = Vec::new();
        for text in [PLANETS, CLUSTER, BREACHED] {
            let mut run = run_of(text);
            run.node.advance(12);
            seeds.push(encode(&run.checkpoint()));
        }
        let mut run = run_of(PLANETS);
        run.finish(&StopRequest::default(), None, &mut |_| ()).expect("it writes no files");
        seeds.push(encode(&run.checkpoint()));
        seeds
    })
}

fn read_back(bytes: &[u8]) -> Result<Checkpoint, String> {
    decode(bytes, Path::new("x.ckpt")).map_err(|error| error.to_string())
}

// ------------------------------------------------------------------------------------------- parts of a file

/// Magic, version and length of the header.
const FIXED: usize = 20;
const RECORD: usize = 72;

fn header_end(bytes: &[u8]) -> usize {
    FIXED + u64::from_le_bytes(bytes[12..20].try_into().expect("eight bytes")) as usize
}

fn header_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(&bytes[FIXED..header_end(bytes)]).expect("a header is JSON")
}

/// A file with this header and these records, its hash and all lengths right.
fn sealed(header: &[u8], records: &[u8]) -> Vec<u8> {
    let mut bytes = checkpoint::MAGIC.to_vec();
    bytes.extend(checkpoint::VERSION.to_le_bytes());
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header);
    bytes.extend(records);
    sealed_again(bytes)
}

fn sealed_again(mut bytes: Vec<u8>) -> Vec<u8> {
    let hash = blake3::hash(&bytes);
    bytes.extend(hash.as_bytes());
    bytes
}

/// The file with its header changed, and the root of its records as it must be.
fn with_header(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut header = header_of(bytes);
    change(&mut header);
    sealed(&serde_json::to_vec(&header).unwrap(), &bytes[header_end(bytes)..bytes.len() - 32])
}

/// The file with its records changed: count and root fit, so that only sense is left to find the change.
fn with_records(bytes: &[u8], change: impl FnOnce(&mut Vec<[i64; 9]>)) -> Vec<u8> {
    let raw = &bytes[header_end(bytes)..bytes.len() - 32];
    let word = |chunk: &[u8], k: usize| i64::from_le_bytes(chunk[8 * k..8 * k + 8].try_into().expect("eight bytes"));
    let mut records: Vec<[i64; 9]> =
        raw.chunks_exact(RECORD).map(|chunk| std::array::from_fn(|k| word(chunk, k))).collect();
    change(&mut records);
    let mut root = emmy::snapshot::root::StateRoot::default();
    for [id, x, y, z, px, py, pz, mass, _] in records.iter().copied() {
        use emmy::particle::{Mass, Momentum, ParticleId, Position};
        let mass = Mass { quanta: mass.saturating_abs(), pulls: mass > 0 };
        root.add(ParticleId(id as u64), Position([x, y, z]), Momentum([px, py, pz]), mass);
    }
    let mut header = header_of(bytes);
    header["root"] = root.to_string().into();
    header["count"] = records.len().into();
    let records: Vec<u8> = records.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
    sealed(&serde_json::to_vec(&header).unwrap(), &records)
}

// ---------------------------------------------------------------------------------------------- single cases

#[test]
fn what_was_written_is_read_and_written_again() {
    for seed in seeds() {
        let read = read_back(seed).expect("it was just written");
        assert_eq!(&encode(&read), seed);
        assert_eq!(&with_header(seed, |_| ()).len(), &seed.len(), "the parts are put together as the writer does");
    }
}

#[test]
fn every_length_but_the_whole_is_refused() {
    for seed in seeds() {
        for length in 0..seed.len() {
            let error = read_back(&seed[..length]).expect_err("it is not whole");
            let said = if length < 8 { "is not a checkpoint" } else { "is truncated" };
            let damaged = length >= 8 && error.contains("is damaged");
            assert!(error.starts_with("x.ckpt") && (error.contains(said) || damaged), "{length}: {error}");
        }
        for more in [1, 31, 32, 72, 4096] {
            let mut longer = seed.clone();
            longer.extend(vec![0; more]);
            assert!(read_back(&longer).unwrap_err().contains("is damaged"));
        }
    }
}

#[test]
fn every_single_bit_counts() {
    for seed in seeds() {
        for at in 0..seed.len() {
            for bit in [0, 3, 7] {
                let mut flipped = seed.clone();
                flipped[at] ^= 1 << bit;
                assert!(read_back(&flipped).is_err(), "bit {bit} of byte {at} is not looked at");
            }
        }
    }
}

#[test]
fn another_version_is_named() {
    for version in [0, 2, 7, u32::MAX] {
        let mut bytes = seeds()[0].clone();
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        bytes.truncate(bytes.len() - 32);
        let error = read_back(&sealed_again(bytes)).unwrap_err();
        assert!(error.contains(&format!("version {version}")) && error.contains("reads version 1"), "{error}");
    }
}

#[test]
fn a_header_that_claims_a_huge_length_is_refused() {
    for length in [u64::MAX, u64::MAX / 2, 1 << 60, 256 << 20, 1 << 20] {
        let mut bytes = seeds()[0].clone();
        bytes[12..20].copy_from_slice(&length.to_le_bytes());
        bytes.truncate(bytes.len() - 32);
        assert!(read_back(&sealed_again(bytes)).is_err(), "{length}");
    }
}

/// A header with one value changed, and what must be said about it.
type HeaderCase = (&'static str, Value, &'static str);

#[test]
fn a_whole_file_that_cannot_be_true_is_refused_with_what_is_wrong() {
    let cases: &[HeaderCase] = &[
        ("/quanta/position", json!(i32::MAX), "position quantum"),
        ("/quanta/momentum", json!(i32::MIN), "momentum quantum"),
        ("/quanta/mass", json!(5000), "mass quantum"),
        ("/quanta/energy", json!(-1100), "too much energy"),
        ("/quanta/energy", json!(-2000), "energy quantum"),
        ("/step", json!(41), "step 41 of 40"),
        ("/step", json!(u64::MAX), "step 18446744073709551615 of 40"),
        ("/step", json!(0), "step 0"),
        ("/last_step", json!(39), "its scenario at step 40"),
        ("/last_step", json!(u64::MAX), "its scenario at step 40"),
        ("/wall_seconds", json!(-1.0), "wall time"),
        ("/wall_seconds", json!(null), "its header"),
        ("/count", json!(4), "4 particles do not take"),
        ("/count", json!(u64::MAX), "particles do not take"),
        ("/root", json!("00000000000000000000000000000000"), "its particles have root"),
        ("/root", json!("nonsense"), "not a state root"),
        ("/scenario", json!(""), "its scenario: "),
        ("/scenario", json!("(version: 1)"), "its scenario: "),
        ("/names/7", json!("ghost"), "names particle 7"),
        ("/names/1", json!("sun"), "the name \"sun\" twice"),
        ("/ledger/opening/count", json!("4"), "particle count"),
        ("/ledger/opening/mass", json!("5"), "mass is"),
        ("/ledger/opening/momentum", json!(["1", "2", "3"]), "momentum along x"),
        ("/ledger/opening/angular_momentum", json!(["1", "2", "3"]), "angular momentum about x"),
        ("/ledger/opening/mass", json!(i128::MIN.to_string()), "more than there can be"),
        ("/ledger/opening/energy", json!(i128::MAX.to_string()), "more than there can be"),
        ("/ledger/accounts/drift rounding/energy", json!(i128::MAX.to_string()), "more than there can be"),
        ("/drifts/energy_start", json!(i128::MAX.to_string()), "record of energy"),
        ("/drifts/energy_last", json!(i128::MIN.to_string()), "record of energy"),
        ("/drifts/energy_scale", json!(0.0), "less than one quantum"),
        ("/drifts/energy_scale", json!(-1e20), "less than one quantum"),
        ("/drifts/angular_scale", json!(0.0), "less than one quantum"),
        ("/breaches", json!([breach(json!({"momentum": 3}), 1)]), "along axis 3"),
        ("/breaches", json!([breach(json!("mass"), 99)]), "breach at step 99"),
        ("/outcomes", json!([outcome(7, 1)]), "expectation 7"),
        ("/outcomes", json!([outcome(1, 10), outcome(1, 10)]), "two outcomes"),
        ("/outcomes", json!([outcome(1, 30)]), "which is to come"),
        ("/surprise", json!(1), "unknown field"),
    ];
    for (path, value, said) in cases {
        let bytes = with_header(&seeds()[0], |header| put(header, path, value.clone()));
        let error = read_back(&bytes).expect_err(path);
        assert!(error.contains("x.ckpt is damaged: ") && error.contains(said), "{path} = {value}: {error}");
    }
    let given = with_header(&seeds()[1], |header| put(header, "/quanta/mass", json!(-55)));
    assert!(read_back(&given).unwrap_err().contains("not those that its scenario gives"));
}

fn breach(what: Value, step: u64) -> Value {
    json!({"step": step, "time": 0.1, "breach": {"exact": {"what": what, "due": "1", "counted": "2"}}, "undone": false})
}

fn outcome(index: usize, step: u64) -> Value {
    json!({"index": index, "step": step, "expected": "e", "found": "f", "held": true})
}

/// Sets a value; the last name of the path may be new.
fn put(header: &mut Value, path: &str, value: Value) {
    let (parent, name) = path.rsplit_once('/').expect("paths begin with a stroke");
    header.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}"))[name] = value;
}

/// Records with something changed, and what must be said about it.
type RecordCase = (fn(&mut Vec<[i64; 9]>), &'static str);

#[test]
fn particles_that_cannot_be_are_refused_with_what_is_wrong() {
    let cases: &[RecordCase] = &[
        (|all| all.clear(), "it has no particles"),
        (|all| all.swap(0, 1), "not in order of identity"),
        (|all| all[1][0] = all[0][0], "not in order of identity"),
        (|all| all[2][0] = -1, "no particle has the number"),
        (|all| all[0][7] = 0, "a mass of 0 quanta"),
        (|all| all[0][7] = i64::MIN, "a mass of"),
        (|all| all[0][7] = (1 << 52) + 1, "a mass of"),
        (|all| all[1][2] = (1 << 61) + 1, "out of the range of positions"),
        (|all| all[1][3] = i64::MIN, "out of the range of positions"),
        (|all| all[1][4] = i64::MIN, "out of the range of momenta"),
        (|all| all[1][5] = (1 << 62) + 1, "out of the range of momenta"),
        (|all| all[1][8] = -1, "a radius of -1"),
        (|all| all[1][6] += 1, "momentum along z"),
        (|all| all[1][7] += 1, "mass is"),
        (|all| all[1][1] += 1, "angular momentum about"),
        (|all| all.truncate(2), "names particle 2"),
    ];
    for (change, said) in cases {
        let error = read_back(&with_records(&seeds()[0], change)).expect_err(said);
        assert!(error.contains("x.ckpt is damaged: ") && error.contains(said), "{said}: {error}");
    }
}

// ------------------------------------------------------------------------------------------------ many cases

fn environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

fn below(random: &mut Random, bound: usize) -> usize {
    (random.bits() % bound.max(1) as u64) as usize
}

/// Flips, cuts, repeats and mixes bytes.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = below(random, bytes.len());
    match below(random, 7) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << below(random, 8),
        1 if !bytes.is_empty() => bytes[at] = random.bits() as u8,
        2 => bytes.truncate(at),
        3 => {
            let end = (at + below(random, 200)).min(bytes.len());
            let part = bytes[at..end].to_vec();
            let to = below(random, bytes.len());
            bytes.splice(to..to, part);
        }
        4 => drop(bytes.drain(at..(at + 1 + below(random, 40)).min(bytes.len()))),
        5 => {
            let other = &seeds()[below(random, seeds().len())];
            let from = below(random, other.len());
            let part = &other[from..(from + below(random, 300)).min(other.len())];
            let end = (at + part.len()).min(bytes.len());
            bytes.splice(at..end, part.iter().copied());
        }
        _ => {
            const WORDS: [&str; 12] = [
                "null",
                "-1",
                "1e999",
                "99999999999999999999",
                "\"",
                "{}",
                "[",
                "18446744073709551615",
                "true",
                "0.5",
                ",",
                "\\u0000",
            ];
            let word = WORDS[below(random, WORDS.len())].bytes();
            let end = (at + below(random, 6)).min(bytes.len());
            bytes.splice(at..end, word);
        }
    }
}

/// A number at the edge of something.
fn edge(random: &mut Random) -> i64 {
    let bits = below(random, 64) as u32;
    let value = 1_i64.wrapping_shl(bits).wrapping_add(below(random, 3) as i64 - 1);
    if random.bits().is_multiple_of(2) { value } else { value.wrapping_neg() }
}

/// Changes one leaf of a JSON value to something of the same or of another kind.
fn mutate_json(value: &mut Value, random: &mut Random) {
    let leaf = below(random, 6) == 0;
    match value {
        Value::Object(fields) if !leaf && !fields.is_empty() => {
            let nth = below(random, fields.len());
            let (_, inner) = fields.iter_mut().nth(nth).expect("there are more");
            mutate_json(inner, random);
        }
        Value::Array(items) if !leaf && !items.is_empty() => {
            let nth = below(random, items.len());
            mutate_json(&mut items[nth], random);
        }
        Value::Array(items) if !items.is_empty() => {
            let again = items[below(random, items.len())].clone();
            items.push(again);
        }
        Value::String(text) if text.len() > 60 => {
            let mut bytes = std::mem::take(text).into_bytes();
            mutate(&mut bytes, random);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        Value::String(text) if below(random, 3) > 0 => *text = edge(random).to_string(),
        Value::Number(_) if below(random, 3) > 0 => *value = json!(edge(random)),
        _ => {
            let other =
                [json!(null), json!(-1), json!(0.5), json!(""), json!([]), json!({}), json!(1e300), json!(true)];
            *value = other[below(random, other.len())].clone();
        }
    }
}

/// One case: raw damage, or damage under a hash that fits, to the bytes, to the header or to the particles.
fn mutated(random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds()[below(random, seeds().len())].clone();
    let times = 1 + below(random, 3);
    match below(random, 4) {
        0 => {
            (0..times).for_each(|_| mutate(&mut bytes, random));
            bytes
        }
        1 => {
            bytes.truncate(bytes.len() - 32);
            (0..times).for_each(|_| mutate(&mut bytes, random));
            sealed_again(bytes)
        }
        2 => with_header(&bytes, |header| (0..times).for_each(|_| mutate_json(header, random))),
        _ => with_records(&bytes, |records| {
            for _ in 0..times {
                let (row, column) = (below(random, records.len()), below(random, 9));
                match below(random, 4) {
                    0 => records[row][column] = edge(random),
                    1 => records[row][column] = records[row][column].wrapping_add(edge(random)),
                    2 => records[row][column] ^= 1 << below(random, 64),
                    _ => records.push(records[row]),
                }
            }
        }),
    }
}

/// What is accepted says the same when it is written again, and a step can be taken from it.
fn check_accepted(checkpoint: Checkpoint) {
    let bytes = encode(&checkpoint);
    let again = read_back(&bytes).expect("what was accepted is accepted when written again");
    assert_eq!(encode(&again), bytes);
    let scenario = read::read("header", &again.header.scenario, &[]).expect("it was looked at");
    let (steps, step) = (again.header.last_step, again.header.step);
    let cpu = Cpu::new(Isa::widest(), 1).expect("one thread");
    let mut run = Run::resumed(scenario, again, cpu);
    run.node.advance(2.min(steps - step));
    run.node.recount();
    run.node.counted();
    // What a run writes it can read, if its floats stayed numbers.
    let next = run.checkpoint();
    for breach in run.node.breaches() {
        let _ = breach.to_string();
    }
    assert!(next.header.step >= step);
}

#[test]
fn no_bytes_make_the_reader_panic_and_what_it_accepts_runs() {
    let cases = environment("EMMY_FUZZ_CASES", 200_000);
    let seed = environment("EMMY_FUZZ_SEED", 1);
    #[expect(clippy::disallowed_methods, reason = "the cases are the same on any number of threads")]
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(2) as u64;
    let part = |first: u64| {
        let mut accepted = 0_u64;
        for case in (first..cases).step_by(threads as usize) {
            let bytes = mutated(&mut Random::new(seed, case as usize));
            let outcome = std::panic::catch_unwind(|| read_back(&bytes).map(check_accepted).is_ok());
            let taken = outcome.unwrap_or_else(|_| panic!("EMMY_FUZZ_SEED={seed}, case {case} of {cases}"));
            accepted += u64::from(taken);
        }
        accepted
    };
    let accepted: u64 = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|first| scope.spawn(move || part(first))).collect();
        parts.into_iter().map(|part| part.join().expect("a case failed")).sum()
    });
    println!("{cases} cases, {accepted} accepted");
    assert!(cases < 1000 || (accepted > cases / 1000 && accepted < cases), "{accepted} of {cases} were accepted");
}
