//! No text whatever makes the reader panic, and what it accepts is right.
//!
//! `EMMY_FUZZ_CASES` sets the number of cases (200 000 if not set); `EMMY_FUZZ_SEED` the seed, which a failure prints.

use std::path::Path;

use emmy::scenario::check::check;
use emmy::scenario::generate::{population, random::Random};
use emmy::scenario::place::{Outline, set};
use emmy::scenario::read::{read, report};

const SEEDS: [&str; 3] = [include_str!("data/all_fields.ron"), include_str!("data/galaxy.ron"), SMALL];
const SMALL: &str = "(version: 1, name: \"n\", integrator: Leapfrog(dt: 0.5), until: Steps(3), \
    bodies: [(mass: 1, position: (0, 0, 0), velocity: (0, 0, 0))], /* ( */ audit: ())";

/// Bits of text that change meaning more often than a random byte does.
const SPLICES: [&str; 32] = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "\"",
    "'",
    "/*",
    "*/",
    "//",
    "\n",
    "r#\"",
    "\"#",
    "#![",
    "Some(",
    "None",
    "NaN",
    "-inf",
    "1e999",
    "-0.0",
    "0",
    "18446744073709551616",
    "version: 7,",
    "\u{FEFF}",
    "é",
    "\u{2028}",
    "b'",
    "\\",
    "name: \"x\", ",
];

const PATHS: [(&str, &str); 10] = [
    ("integrator.dt", "5.0"),
    ("bodies[0].mass", "-1"),
    ("bodies[1].position[2]", "NaN"),
    ("generators[0].place.seed", "7"),
    ("audit.energy_every", "3"),
    ("until", "Steps(4)"),
    ("units.length", "Pc"),
    ("a.b.c", "(x: 1)"),
    ("name", "\"other\""),
    ("bodies", "[]"),
];

fn environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

fn below(random: &mut Random, bound: usize) -> usize {
    (random.bits() % bound.max(1) as u64) as usize
}

fn mutated(random: &mut Random) -> String {
    let mut bytes = SEEDS[below(random, SEEDS.len())].as_bytes().to_vec();
    for _ in 0..=below(random, 4) {
        mutate(&mut bytes, random);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = below(random, bytes.len());
    let end = (at + 1 + below(random, 40)).min(bytes.len());
    match below(random, 6) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << below(random, 8),
        1 => drop(bytes.drain(at.min(end)..end)),
        2 => {
            let splice = SPLICES[below(random, SPLICES.len())];
            bytes.splice(at..at, splice.bytes());
        }
        3 => {
            let piece = bytes[at.min(end)..end].repeat(1 + below(random, 5));
            bytes.splice(at..at, piece);
        }
        4 => {
            let other = SEEDS[below(random, SEEDS.len())].as_bytes();
            let from = below(random, other.len());
            let to = (from + below(random, 60)).min(other.len());
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        _ => bytes.truncate(at),
    }
}

/// Everything a caller may do with a text. What is accepted passes its check and survives being written and read.
fn try_everything(text: &str, random: &mut Random) {
    let (path, value) = PATHS[below(random, PATHS.len())];
    let overrides = match below(random, 2) {
        0 => vec![],
        _ => vec![(path.to_string(), value.to_string())],
    };
    match read("fuzz.ron", text, &overrides) {
        Ok(scenario) => {
            assert!(check(&scenario).is_empty());
            assert_eq!(Outline::of(text).expect("an outline").flaw(), None, "accepted, but the outline sees a flaw");
            assert_eq!(read("again.ron", &scenario.to_ron(), &[]).as_ref().ok(), Some(&scenario));
            if scenario.count() <= 3000 {
                let made = population(&scenario, Path::new("/nowhere"));
                assert!(made.is_err() || made.is_ok_and(|made| made.len() as u64 == scenario.count()));
            }
            if overrides.is_empty() {
                let found = Outline::of(text).unwrap().find(text, "integrator.dt").expect("a dt");
                assert!(text[found].contains(|c: char| c.is_ascii_digit()));
            }
        }
        Err(wrong) => assert!(!wrong.faults().is_empty()),
    }
    if let Ok(changed) = set(text, path, value) {
        let outline = Outline::of(&changed).expect("an outline");
        assert_eq!(outline.flaw(), None);
        assert_eq!(outline.find(&changed, path).map(|range| &changed[range]), Some(value), "{path} in {changed}");
    }
    if below(random, 100) == 0 {
        let mut shown = String::new();
        let fault = emmy::scenario::check::Fault::new(path, "anything");
        let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
        handler.render_report(&mut shown, &report("fuzz.ron", text, &overrides, &[fault])).expect("it can be shown");
        assert!(shown.len() > 10);
    }
}

#[test]
fn no_text_makes_the_reader_panic() {
    let (cases, seed) = (environment("EMMY_FUZZ_CASES", 200_000), environment("EMMY_FUZZ_SEED", 1));
    let mut random = Random::new(seed, 0);
    for case in 0..cases {
        let text = mutated(&mut random);
        let outcome = std::panic::catch_unwind(|| try_everything(&text, &mut random.clone()));
        assert!(outcome.is_ok(), "seed {seed}, case {case}: {text:?}");
        random.bits();
    }
}
