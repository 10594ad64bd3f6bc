//! Letters of the step protocol: each that can be written is read back, and whatever else is read can be written, hashed and shown.

use emmy::{
    coordinator::{Body, Decision, Letter, Verdict, Vote},
    text::harmless,
};

use crate::{chance::Chance, hostile, made, sessions};

/// Letters of each session, and lies about each of them.
const LETTERS: u64 = 4;
const LIES_EACH: u64 = 5;

/// Everything that becomes of a decision without a machine.
fn use_decision(decision: &Decision) {
    assert_eq!(decision.hash(), decision.clone().hash());
    match &decision.verdict {
        Verdict::Undo { cause, .. } => is_harmless(&cause.to_string()),
        Verdict::CommitAndRecord(breach) | Verdict::CommitAndStop(breach) => is_harmless(&breach.to_string()),
        Verdict::Commit => {}
    }
}

/// What is shown of a letter can do nothing to a terminal.
fn is_harmless(shown: &str) {
    assert!(!shown.contains(char::is_control) && !shown.contains('\u{202e}'), "{shown:?}");
    assert!(shown.len() < 10_000, "{} bytes", shown.len());
}

fn use_letter(letter: &Letter) {
    match &letter.body {
        Body::Vote { vote: Vote::No { breach, .. }, .. } => is_harmless(&breach.to_string()),
        Body::Vote { vote: Vote::Yes(share), .. } => _ = share.is_well_formed() && share.gained_in_all().count > 0,
        Body::Accept(decision) | Body::Decide(decision) => use_decision(decision),
        Body::Promise { log, .. } => log.iter().for_each(use_decision),
        Body::Begin(config) | Body::Propose { config, .. } => {
            assert_eq!(config.hash(), config.clone().hash());
            config.troubles.iter().chain(config.isolated.values()).for_each(|text| is_harmless(&harmless(text)));
            config.log.iter().for_each(use_decision);
        }
        _ => {}
    }
}

fn some_letters(chance: &mut Chance) -> u64 {
    let mut heard = Vec::new();
    for _ in 0..LETTERS {
        let kind = chance.below(made::BODIES);
        let letter = made::letter(chance, kind);
        let bytes = letter.to_bytes();
        let read = Letter::from_bytes(&bytes).expect("what was written can be read");
        // By bytes: some floats are not equal to themselves.
        assert_eq!(read.to_bytes(), bytes, "{letter:?}");
        use_letter(&read);
        heard.push(bytes);
    }
    for _ in 0..LETTERS * LIES_EACH {
        let lie = hostile(chance, &heard);
        let Ok(read) = Letter::from_bytes(&lie) else { continue };
        let again = read.to_bytes();
        // A number may have been written longer than it need be, a text shorter than the number that it spells.
        assert!(again.len() <= 64 * lie.len(), "{} bytes from {}", again.len(), lie.len());
        assert_eq!(Letter::from_bytes(&again).expect("it was just written").to_bytes(), again);
        use_letter(&read);
    }
    LETTERS * (1 + LIES_EACH)
}

#[test]
fn letters_are_read_back_and_those_of_a_liar_can_be_used() {
    sessions("letters", 200, some_letters);
}
