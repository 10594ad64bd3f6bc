//! Files that a user was given: keys, trust files, lists of servers, audit logs. Reading them ends, and what is said of them is on one line.

use std::{path::Path, sync::OnceLock};

use emmy::{
    audit_log::{AuditLog, Event, Signer, verify},
    security::{
        keys::{PublicKey, SecretKey},
        trust,
    },
    server::launch::read_list,
};

use crate::{
    chance::Chance,
    hostile, made, mutated,
    network::{key, secret},
    sessions,
};

fn says_it_on_one_line(error: &str) {
    assert!(!error.contains(char::is_control) && error.len() < 2000, "{error:?}");
}

fn keys(chance: &mut Chance) {
    let secret = format!("emmy-secret-key-1 {}\n", "5a".repeat(32)).into_bytes();
    let lie = hostile(chance, std::slice::from_ref(&secret));
    if let Some(read) = SecretKey::parse(&lie) {
        assert_eq!(lie.trim_ascii_end().len(), secret.len() - 1, "64 digits and nothing more");
        let _ = read.public();
    }
    let word = key(1).to_string().into_bytes();
    let lie = String::from_utf8_lossy(&mutated(chance, &[word])).into_owned();
    if let Ok(read) = lie.parse::<PublicKey>() {
        assert_eq!(read.to_string(), lie.to_lowercase());
    }
}

fn trust_files(chance: &mut Chance) {
    let names = [made::text(chance), made::text(chance)].map(|name| name.replace('\n', " "));
    let good = format!("# lab\n{} {}\r\n\n  {}  {} # moved\n", key(1), names[0], key(2), names[1]).into_bytes();
    let lie = hostile(chance, &[good]);
    match trust::parse("trust", &lie) {
        Ok(trusted) => {
            assert!(trusted.len() <= lie.len() / 64);
            assert!(trusted.iter().all(|peer| peer.name.len() <= trust::NAME_MAX));
        }
        Err(error) => says_it_on_one_line(&error.to_string()),
    }
}

fn lists_of_servers(chance: &mut Chance) {
    let in_file = chance.below(2) == 0;
    let (between, after) = if in_file { (" ", "\n") } else { ("@", ",") };
    let one = |host: u16| format!("{}{between}192.0.2.{host}:7447{after}", key(host));
    let honest = [one(1), one(2), one(3)].concat().trim_end_matches(',').to_owned();
    assert_eq!(read_list(&honest, in_file).map(|list| list.len()), Ok(3));
    let lie = String::from_utf8_lossy(&hostile(chance, &[honest.into_bytes()])).into_owned();
    match read_list(&lie, in_file) {
        Ok(list) => assert!(!list.is_empty() && list.len() <= lie.len() / 64),
        Err(error) => says_it_on_one_line(&error),
    }
}

/// An honest log with an entry of every kind.
fn log() -> &'static [u8] {
    static LOG: OnceLock<Vec<u8>> = OnceLock::new();
    LOG.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("emmy-wire-fuzz-{}.jsonl", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let signer = Signer::of(&secret(1).derive(emmy::audit_log::PURPOSE));
        let key = signer.public();
        let mut log = AuditLog::create(&path, signer).expect("a new file");
        let text = || "node 1".to_owned();
        let (root, hash) = (|of: u64| format!("{of:032x}"), |of: u64| format!("{of:064x}"));
        let (run, scenario, program) = (text(), hash(0), text());
        let opened = Event::Opened { run, scenario, program, node: 1, life: 1, step: 0, backwards: false, signer: key };
        let epoch = Event::Epoch {
            branch: 0,
            epoch: 1,
            coordinator: 0,
            members: vec![0, 1],
            isolated: Vec::new(),
            why: vec![text()],
            from_step: 0,
            to_step: 0,
            index: 0,
            root: root(0),
            decision: hash(0),
        };
        let took_over = Event::TookOver { from: 2, by: 0, copy_of_step: 0 };
        let committed = Event::Committed { epoch: 1, from: 1, to: 9, index: 9, root: root(9), decision: hash(9) };
        let breached = Event::Breached { step: 9, what: text() };
        let unsound = Event::UnsoundCopy { step: 8, why: text() };
        let undone = Event::Undone { epoch: 1, step: 10, index: 10, why: text(), decision: hash(10) };
        let isolated = Event::Isolated { node: 0, why: text() };
        let closed = Event::Closed { step: 9, root: root(9), reason: text() };
        for event in [opened, epoch, took_over, committed, breached, unsound, undone, isolated, closed] {
            log.append("2026-01-01T00:00:00Z", event).expect("there is room");
            log.sign("2026-01-01T00:00:00Z").expect("there is room");
        }
        let bytes = std::fs::read(&path).expect("it was just written");
        let _ = std::fs::remove_file(&path);
        bytes
    })
}

/// The lines of a log, some of them moved, changed or made up, with the hashes of the lines before put right.
fn forged(chance: &mut Chance) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = log().split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    for _ in 0..=chance.below(3) {
        let at = chance.below(lines.len() as u64) as usize;
        let other = chance.below(lines.len() as u64) as usize;
        match chance.below(3) {
            0 => lines.swap(at, other),
            1 => drop(lines.remove(at)),
            _ => lines[at] = mutated(chance, &[lines[at].clone(), lines[other].clone()]),
        }
        if lines.is_empty() {
            break;
        }
    }
    if chance.below(2) == 0 {
        chain(&mut lines);
    }
    lines.join(&b'\n')
}

/// Makes every line that is an entry name the one before, and count on.
fn chain(lines: &mut [Vec<u8>]) {
    let mut previous = blake3::hash(b"");
    for (k, line) in lines.iter_mut().enumerate() {
        let text = String::from_utf8_lossy(line).into_owned();
        let middle = text.split_once(",\"utc\"").and_then(|(_, rest)| rest.rsplit_once(",\"previous\""));
        if let Some((middle, _)) = middle {
            *line = format!("{{\"entry\":{},\"utc\"{middle},\"previous\":\"{previous}\"}}", k + 1).into();
        }
        previous = blake3::hash(line);
    }
}

fn logs(chance: &mut Chance) {
    let lie = if chance.below(4) == 0 { hostile(chance, &[log().to_vec()]) } else { forged(chance) };
    let signer = Signer::of(&secret(1).derive(emmy::audit_log::PURPOSE)).public();
    let key = (chance.below(2) == 0).then_some(signer.as_str());
    match verify(Path::new("log"), &lie, key) {
        Ok(found) => {
            // Up to the last signature it is what was written, whoever copied it; the digits of that one may be capitals.
            let signed = (found.entries - found.unsigned) as usize;
            let lines = |bytes: &[u8]| -> Vec<Vec<u8>> {
                let mut lines: Vec<_> =
                    bytes.split_inclusive(|&byte| byte == b'\n').take(signed).map(<[u8]>::to_vec).collect();
                lines.last_mut().into_iter().for_each(|last| last.make_ascii_lowercase());
                lines
            };
            assert!(lines(&lie) == lines(log()), "{}", String::from_utf8_lossy(&lie));
        }
        Err(error) => assert!(error.to_string().len() < 4000 + lie.len()),
    }
}

#[test]
fn files_that_somebody_made_up_are_refused_with_a_word_about_them() {
    let one_of_each = |chance: &mut Chance| {
        keys(chance);
        trust_files(chance);
        lists_of_servers(chance);
        logs(chance);
        5
    };
    sessions("files", 60, one_of_each);
}

#[test]
fn an_honest_log_verifies_and_a_forged_chain_does_not() {
    let checked = verify(Path::new("log"), log(), None).expect("it is what was written");
    assert_eq!((checked.entries, checked.signatures, checked.unsigned), (18, 9, 0));
    let mut lines: Vec<Vec<u8>> = log().split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.pop();
    chain(&mut lines);
    let again = [lines.join(&b'\n'), b"\n".to_vec()].concat();
    assert!(again == log(), "the chain of an honest log is its own");
    lines.remove(4);
    chain(&mut lines);
    let forged = [lines.join(&b'\n'), b"\n".to_vec()].concat();
    let refused = verify(Path::new("log"), &forged, None).expect_err("a signature stands on what is gone").to_string();
    assert!(refused.contains("signature"), "{refused}");
}
