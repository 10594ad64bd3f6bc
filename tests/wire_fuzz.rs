//! No bytes whatever make the readers of what comes from others panic, hang or take much memory: blocks and letters of peers, messages of
//! clients and servers, datagrams of strangers, key, trust and log files. What they accept can be used, and what they refuse changes nothing.
//!
//! `EMMY_FUZZ_CASES` sets the number of cases of all tests together (200 000 if not set): one case is one piece of bytes that is read, and
//! each test has its share of them. They come in sessions, because what is known from block to block matters. A failure prints the seed
//! and the session; `EMMY_FUZZ_SEED=… EMMY_FUZZ_SESSION=…` with the name of the test repeats that one alone.

#[path = "wire_fuzz/blocks.rs"]
mod blocks;
#[allow(dead_code, reason = "two tests share it, and neither uses all")]
#[path = "simulator/chance.rs"]
mod chance;
#[path = "wire_fuzz/datagrams.rs"]
mod datagrams;
#[path = "wire_fuzz/files.rs"]
mod files;
#[path = "wire_fuzz/letters.rs"]
mod letters;
#[path = "wire_fuzz/made.rs"]
mod made;
#[path = "wire_fuzz/members.rs"]
mod members;
#[path = "wire_fuzz/messages.rs"]
mod messages;
mod network;
#[path = "wire_fuzz/partitions.rs"]
mod partitions;

use std::panic::{AssertUnwindSafe, catch_unwind};

use chance::Chance;

/// Cases of all tests together unless EMMY_FUZZ_CASES says otherwise.
const CASES: u64 = 200_000;
/// What this process may map at most [bytes]: threads have stacks, and allocators take memory in large pieces.
const ADDRESS_SPACE_MAX: u64 = 4 << 30;

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}

/// Runs sessions of a test until it has had its share, in thousandths, of all cases; each says how many it made.
fn sessions(test: &str, share: u64, act: impl Fn(&mut Chance) -> u64) {
    let seed = environment("EMMY_FUZZ_SEED").unwrap_or(1);
    let due = environment("EMMY_FUZZ_CASES").unwrap_or(CASES) * share / 1000;
    let one = environment("EMMY_FUZZ_SESSION");
    let (mut session, mut cases) = (one.unwrap_or(0), 0);
    while cases < due && one.is_none_or(|one| one == session) {
        let mut chance = Chance::new(seed, session);
        let outcome = catch_unwind(AssertUnwindSafe(|| act(&mut chance)));
        let made = outcome.unwrap_or_else(|_| panic!("{test}: EMMY_FUZZ_SEED={seed} EMMY_FUZZ_SESSION={session}"));
        (session, cases) = (session + 1, cases + made.max(1));
    }
    let most = address_space_peak();
    assert!(most.is_none_or(|most| most < ADDRESS_SPACE_MAX), "{test}: {most:?} bytes were asked for");
    eprintln!("{test}: {cases} cases in {session} sessions");
}

/// The most that this process has mapped [bytes], where the system says so.
fn address_space_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?.trim().strip_suffix(" kB")?;
    Some(1024 * kilobytes.parse::<u64>().ok()?)
}

/// Numbers at which something changes its meaning.
const EDGES: [u64; 20] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0xffff,
    1 << 16,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 47,
    1 << 52,
    (1 << 52) + 1,
    1 << 60,
    1 << 61,
    (1 << 62) + 1,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// A number: small, at an edge, or any.
fn number(chance: &mut Chance) -> u64 {
    match chance.below(3) {
        0 => chance.below(100),
        1 => *chance.pick(&EDGES).expect("there are edges"),
        _ => chance.next() >> chance.below(64),
    }
}

/// One of these, changed in a few places.
fn mutated(chance: &mut Chance, honest: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = chance.pick(honest).cloned().unwrap_or_default();
    for _ in 0..=chance.below(4) {
        mutate(chance, &mut bytes, honest);
    }
    bytes
}

fn mutate(chance: &mut Chance, bytes: &mut Vec<u8>, honest: &[Vec<u8>]) {
    // Most of what decides stands at the beginning.
    let reach = if chance.below(2) == 0 { bytes.len().min(64) } else { bytes.len() };
    let at = chance.below(reach as u64) as usize;
    let end = (at + 1 + chance.below(40) as usize).min(bytes.len());
    let start = at.min(end);
    match chance.below(9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
        1 if at < bytes.len() => bytes[at] = chance.next() as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(start..end)),
        4 => {
            let piece = bytes[start..end].repeat(1 + chance.below(4) as usize);
            bytes.splice(at..at, piece);
        }
        5 => {
            let other = chance.pick(honest).map(Vec::as_slice).unwrap_or_default();
            let from = chance.below(other.len() as u64 + 1) as usize;
            let to = (from + chance.below(200) as usize).min(other.len());
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        6 => {
            let word = number(chance).to_le_bytes();
            let width = [1, 2, 4, 8][chance.below(4) as usize];
            let end = (at + width).min(bytes.len());
            bytes[start..end].copy_from_slice(&word[..end - start]);
        }
        7 => bytes.extend(random_bytes(chance, 20)),
        _ => {
            let word = number(chance).to_le_bytes();
            bytes.splice(at..at, word);
        }
    }
}

fn random_bytes(chance: &mut Chance, most: u64) -> Vec<u8> {
    let length = chance.below(most);
    (0..length).map(|_| chance.next() as u8).collect()
}

/// Mostly something honest that was changed, now and then nothing but noise.
fn hostile(chance: &mut Chance, honest: &[Vec<u8>]) -> Vec<u8> {
    if chance.below(16) == 0 { random_bytes(chance, 300) } else { mutated(chance, honest) }
}
