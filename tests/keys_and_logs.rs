//! `emmy keygen` and `emmy audit verify`, from outside: what they print where, which code they end with, and what they refuse.

mod process;

use std::{collections::BTreeSet, fs};

use emmy::{
    audit_log::{AuditLog, Event, PURPOSE, Signer},
    security::{
        keys::{PublicKey, SecretKey},
        trust,
    },
};
use process::{Place, Said};
use serde_json::Value;

const UTC: &str = "2026-01-01T00:00:00Z";

impl Place {
    /// The signer of the secret key in a file.
    fn signer(&self, key: &str) -> Signer {
        let secret = SecretKey::read(&self.path(key)).expect("a secret key");
        Signer::of(&secret.derive(PURPOSE))
    }

    /// A log of ten lines: opened, an epoch, three times committed and signed, undone, closed.
    fn write_log(&self, name: &str, signer: &Signer) -> AuditLog {
        let mut log = AuditLog::create(&self.path(name), signer.clone()).expect("a new file");
        log.append(UTC, opened(signer, 0)).unwrap();
        log.append(UTC, epoch()).unwrap();
        for from in [1, 11, 21] {
            log.append(UTC, committed(from, from + 9)).unwrap();
            log.sign(UTC).unwrap();
        }
        let undone = Event::Undone { epoch: 1, step: 31, index: 31, why: "momentum".into(), decision: hash(31) };
        log.append(UTC, undone).unwrap();
        log.append(UTC, closed(30, "breach")).unwrap();
        log
    }

    /// A log that tells the ends of another one, as the server of node 1 would have heard them.
    fn write_witness(&self, name: &str, of: &str, entries: &[u64]) {
        let signer = Signer::of(&[9; 32]);
        let mut log = AuditLog::create(&self.path(name), signer.clone()).expect("a new file");
        log.append(UTC, opened(&signer, 1)).unwrap();
        for line in lines(&self.read(of)) {
            let line: Value = serde_json::from_slice(line).expect("JSON");
            let (entry, signed) = (line["entry"].as_u64().expect("a number"), &line["event"]["signed"]);
            if entries.contains(&entry) {
                let text = |value: &Value| value.as_str().expect("text").to_owned();
                let (key, signature) = (text(&signed["key"]), text(&signed["signature"]));
                let (utc, previous) = (text(&line["utc"]), text(&line["previous"]));
                let witness = Event::Witness { node: 0, life: 1, entry, utc, previous, key, signature };
                log.append(UTC, witness).unwrap();
            }
        }
        log.sign(UTC).unwrap();
    }
}

fn opened(signer: &Signer, node: u16) -> Event {
    opened_run(signer, node, "test")
}

fn opened_run(signer: &Signer, node: u16, run: &str) -> Event {
    let (run, scenario, program) = (run.to_owned(), hash(0), "emmy".to_owned());
    Event::Opened { run, scenario, program, node, life: 1, step: 0, backwards: false, signer: signer.public() }
}

fn hash(of: u64) -> String {
    format!("{of:064x}")
}

fn root(of: u64) -> String {
    format!("{of:032x}")
}

/// The first of a run.
fn epoch() -> Event {
    Event::Epoch {
        branch: 0,
        epoch: 1,
        coordinator: 0,
        members: vec![0, 1],
        isolated: Vec::new(),
        why: Vec::new(),
        from_step: 0,
        to_step: 0,
        index: 0,
        root: root(0),
        decision: hash(0),
    }
}

fn committed(from: u64, to: u64) -> Event {
    Event::Committed { epoch: 1, from, to, index: to, root: root(to), decision: hash(to) }
}

fn closed(step: u64, reason: &str) -> Event {
    Event::Closed { step, root: root(step), reason: reason.to_owned() }
}

impl Said {
    /// The only key in a text for a trust file, and its name.
    #[track_caller]
    fn peer(&self) -> (PublicKey, String) {
        let peers = trust::parse("stdout", self.out.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{}", self.out));
        assert_eq!(peers.len(), 1, "{}", self.out);
        (peers[0].key, peers[0].name.clone())
    }
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn set(words: &str) -> BTreeSet<&str> {
    words.split_whitespace().collect()
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|&byte| byte == b'\n').collect()
}

// -------------------------------------------------------------------------------------------------- keygen

#[test]
fn a_new_key_is_its_owners_alone_and_its_line_is_one_of_a_trust_file() {
    let place = Place::new("keys-new");

    let said = place.emmy(&["keygen", "left rack.key"]).with(0);

    let secret = SecretKey::read(&place.path("left rack.key")).expect("a secret key");
    assert_eq!(said.peer(), (secret.public(), "left rack".to_owned()));
    assert_eq!(said.out.lines().count(), 1, "{}", said.out);
    assert!(said.out.starts_with("emmy-key-1:"), "{}", said.out);
    let said = said.remarking(&["wrote 'left rack.key'", "trust file", "emmy keygen --show 'left rack.key'"]);
    let digits = String::from_utf8(place.read("left rack.key")).unwrap();
    let digits = digits.trim().rsplit(' ').next().unwrap();
    assert!(digits.len() == 64 && !said.out.contains(digits) && !said.err.contains(digits), "the secret was told");
    #[cfg(unix)]
    {
        let mode = fs::metadata(place.path("left rack.key")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o7777, 0o600);
    }
    let quiet = place.emmy(&["keygen", "b", "-q"]).with(0);
    assert_eq!((quiet.err.as_str(), quiet.peer().1.as_str()), ("", "b"));
    assert_ne!(quiet.peer().0, secret.public(), "two keys are two keys");
}

#[test]
fn a_key_that_is_there_is_never_overwritten() {
    let place = Place::new("keys-twice");
    place.emmy(&["keygen", "a"]).with(0);
    place.write("precious", "data");
    let before = place.read("a");

    let remedies = ["a exists", "never overwritten", "move the old file away", "emmy keygen --show a"];
    place.emmy(&["keygen", "a"]).with(3).complaining(&remedies);
    place.emmy(&["keygen", "precious"]).with(3).complaining(&["precious exists"]);

    assert_eq!(place.read("a"), before);
    assert_eq!(place.read("precious"), b"data");
}

#[test]
fn shown_again_it_is_the_same_key_with_that_of_its_logs() {
    let place = Place::new("keys-show");
    let made = place.emmy(&["keygen", "a.key"]).with(0);

    let shown = place.emmy(&["keygen", "--show", "a.key"]).with(0);

    assert_eq!(shown.err, "");
    assert_eq!(shown.peer(), made.peer());
    let signer = place.signer("a.key").public();
    assert_eq!(shown.out, format!("{}# signs its audit logs: {signer}\n", made.out));
    assert!(!made.out.contains(&signer), "another key than that of the datagrams");
}

#[test]
fn names_are_such_that_a_trust_file_gives_them_back() {
    let place = Place::new("keys-names");
    place.emmy(&["keygen", "a"]).with(0);
    let name = |arguments: &[&str]| place.emmy(&[&["keygen", "--show"], arguments].concat()).with(0).peer().1;

    assert_eq!(name(&["a", "--name", "  the left  rack "]), "the left  rack");
    assert_eq!(name(&["a", "--name", "Größe 7"]), "Größe 7");
    let long = "x".repeat(trust::NAME_MAX);
    assert_eq!(name(&["a", "--name", &long]), long);
    // A file may be called what nobody may.
    fs::copy(place.path("a"), place.path("a#b\n")).unwrap();
    assert_eq!(name(&["a#b\n"]), "node");
    for wrong in ["", " ", "a#b", "a\nb", "a\u{1b}[2J", &format!("{long}x")] {
        place.emmy(&["keygen", "--show", "a", "--name", wrong]).with(2).complaining(&["--name"]);
    }
}

#[test]
fn a_folder_that_is_not_there_or_cannot_be_written_is_code_3() {
    let place = Place::new("keys-folders");
    place.write("plain", "a file");
    fs::create_dir_all(place.path("folder")).unwrap();

    place.emmy(&["keygen", "missing/a"]).with(3).complaining(&["missing/a: ", "choose a folder"]);
    place.emmy(&["keygen", "plain/a"]).with(3).complaining(&["plain/a: ", "choose a folder"]);
    place.emmy(&["keygen", "folder"]).with(3).complaining(&["folder"]);
    place.emmy(&["keygen"]).with(2).complaining(&["FILE"]);
    assert_eq!(fs::read_dir(place.path("folder")).unwrap().count(), 0);
}

#[test]
fn what_is_no_secret_key_of_its_owner_alone_is_code_2() {
    let place = Place::new("keys-wrong");
    place.emmy(&["keygen", "good"]).with(0);
    let good = place.read("good");
    fs::create_dir_all(place.path("folder")).unwrap();
    let show = |name: &str| place.emmy(&["keygen", "--show", name]).with(2);
    // A file that only its owner can read, as keygen makes them.
    let private = |name: &str, bytes: &[u8]| {
        fs::copy(place.path("good"), place.path(name)).unwrap();
        place.write(name, bytes);
    };

    show("missing").complaining(&["missing: ", "check the path"]);
    show("folder").complaining(&["folder: ", "directory", "check the path"]);
    private("empty", b"");
    private("short", &good[..good.len() - 2]);
    private("long", &[&good[..good.len() - 1], b"0\n"].concat());
    private("two", &[&good[..], &good].concat());
    private("public", place.emmy(&["keygen", "--show", "good"]).out.as_bytes());
    private("binary", &[0, 159, 146, 150]);
    for name in ["empty", "short", "long", "two", "public", "binary"] {
        show(name).complaining(&[&format!("{name} is not a secret key"), "64 hexadecimal digits", "bring back a copy"]);
    }
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new("keys-exposed");
    place.emmy(&["keygen", "a"]).with(0);

    for mode in [0o644, 0o640, 0o604, 0o660] {
        fs::set_permissions(place.path("a"), fs::Permissions::from_mode(mode)).unwrap();
        let words = [&format!("mode {mode:o}")[..], "can be read by others", "chmod 600 a"];
        place.emmy(&["keygen", "--show", "a"]).with(2).complaining(&words);
    }
    fs::set_permissions(place.path("a"), fs::Permissions::from_mode(0o400)).unwrap();
    place.emmy(&["keygen", "--show", "a"]).with(0);
}

// --------------------------------------------------------------------------------------------- audit verify

#[test]
fn a_log_that_is_what_was_written_tells_what_happened() {
    let place = Place::new("keys-good");
    let shown = {
        place.emmy(&["keygen", "a"]).with(0);
        place.emmy(&["keygen", "--show", "a"]).with(0).out
    };
    let key = shown.split_whitespace().last().expect("the key of its logs");
    place.write_log("log", &place.signer("a")).sign(UTC).unwrap();

    let said = place.emmy(&["audit", "verify", "log", "--key", key]).with(0);
    let json = place.emmy(&["audit", "verify", "log", "--json", "--key", &key.to_uppercase()]).with(0).json();
    let without = place.emmy(&["audit", "verify", "log"]).with(0);
    let quiet = place.emmy(&["audit", "verify", "log", "-q"]).with(0);

    assert_eq!(said.err, "");
    for part in [
        "log: what was written",
        "11, 4 of them",
        "0 after",
        "30 committed, 1 undone",
        "node 0",
        key,
        "as asked",
        "breach",
    ] {
        assert!(said.out.contains(part), "`{part}` is missing in:\n{}", said.out);
    }
    assert!(without.out.contains("as the log itself says") && without.err.is_empty(), "{}{}", without.out, without.err);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    let expected = serde_json::json!({
        "schema": 1, "file": "log", "verified": true, "entries": 11, "signatures": 4, "unsigned": 0, "committed": 30,
        "undone": 1, "cut_bytes": 0, "run": "test", "writer": "node 0", "key": key, "key_given": true, "closed": "breach",
        "witnessed": 0, "witnessed_up_to": 0,
    });
    assert_eq!(json, expected);
}

#[test]
fn what_nobody_signed_is_warned_of() {
    let place = Place::new("keys-unsigned");
    let signer = Signer::of(&[7; 32]);
    drop(place.write_log("log", &signer));
    let whole = place.read("log");
    let verify = |name: &str| place.emmy(&["audit", "verify", name, "--json"]).with(0);

    let said = verify("log").remarking(&["warning: log: 2 lines at the end with no signature after them"]);
    assert!(!said.err.contains("how the run ended"), "{}", said.err);
    // Cut off between two lines: what is left is what was written, but it has no end.
    place.write("cut", lines(&whole)[..8].concat());
    let said = verify("cut").remarking(&["warning: cut: ", "does not say how the run ended"]);
    assert!(!said.err.contains("no signature"), "{}", said.err);
    assert_eq!((&said.json()["closed"], &said.json()["unsigned"]), (&Value::Null, &0.into()));
    place.write("begun", lines(&whole)[0]);
    verify("begun").remarking(&["1 line at the end with no signature at all", "does not say how the run ended"]);
    // Nothing is signed with the key that was asked for.
    let words = ["begun, line 1: ", "nothing in it is signed with"];
    place.emmy(&["audit", "verify", "begun", "--key", &signer.public()]).with(1).complaining(&words);
}

#[test]
fn a_log_that_was_changed_is_code_1_with_line_and_fault() {
    let place = Place::new("keys-broken");
    place.write_log("log", &Signer::of(&[7; 32])).sign(UTC).unwrap();
    let whole = place.read("log");
    let broken = |name: &str, bytes: &[u8], words: &[&str]| {
        place.write(name, bytes);
        let help = "nothing from this line on is proved";
        place.emmy(&["audit", "verify", name]).with(1).complaining(&[words, &[name, help]].concat());
    };
    let changed = String::from_utf8(whole.clone()).unwrap().replacen("momentum", "momentun", 1);

    // The line itself still reads well: that it was changed shows in the next one.
    broken("tampered", changed.as_bytes(), &["tampered, line 10: the line before is not the one"]);
    let mut flipped = whole.clone();
    let inside = lines(&whole)[..3].concat().len() + 3;
    flipped[inside] ^= 1;
    broken("flipped", &flipped, &["line 4: no entry of an audit log: column "]);
    let removed = [&lines(&whole)[..3], &lines(&whole)[4..]].concat().concat();
    broken("removed", &removed, &["line 4: entry 5 stands where entry 4 should"]);
    let mut swapped = lines(&whole);
    swapped.swap(8, 9);
    broken("swapped", &swapped.concat(), &["line 9: entry 10 stands where entry 9 should"]);
    broken("headless", &lines(&whole)[1..].concat(), &["line 1: entry 2 stands where entry 1 should"]);
    broken("truncated", &whole[..whole.len() - 7], &["line 11: the line does not end"]);
    broken("empty", b"", &["line 1: the log is empty"]);
    broken("prose", b"Dear diary,\n", &["line 1: no entry of an audit log"]);
    broken("binary", &[0, 159, 146, 150, b'\n'], &["line 1: no entry of an audit log"]);
    broken("other", b"{\"step\":0}\n", &["line 1: no entry of an audit log", "step"]);
    broken("endless", &vec![b'{'; 3 << 20], &["line 1: the line does not end"]);

    let said = place.emmy(&["audit", "verify", "removed", "--json"]).with(1).remarking(&["removed, line 4"]);
    let json = said.json();
    assert_eq!(keys(&json), set("schema file verified line fault"));
    assert_eq!((&json["verified"], &json["line"]), (&false.into(), &4.into()));
}

#[test]
fn another_history_written_with_another_key_shows_where_the_right_key_is_known() {
    let place = Place::new("keys-forged");
    let (right, other) = (Signer::of(&[7; 32]), Signer::of(&[8; 32]));
    place.write_log("log", &right).sign(UTC).unwrap();
    place.write_log("forged", &other).sign(UTC).unwrap();
    let verify = |name: &str, key: &str| place.emmy(&["audit", "verify", name, "--key", key]);

    verify("log", &right.public()).with(0);
    place.emmy(&["audit", "verify", "forged"]).with(0);
    let words = ["forged, line 4: signed with the key", "not with", &right.public(), &other.public()];
    verify("forged", &right.public()).with(1).complaining(&words);
    verify("log", &other.public()).with(1).complaining(&["log, line 4: signed with the key"]);
    // What is no key at all is a wrong command line.
    verify("log", "").with(2).complaining(&["64 hexadecimal digits"]);
    verify("log", "abc").with(2).complaining(&["64 hexadecimal digits expected, not 3"]);
    verify("log", &"g".repeat(64)).with(2).complaining(&["character 1 is no hexadecimal digit"]);
    let node = SecretKey::from_bytes([7; 32]).public().to_string();
    verify("log", &node).with(2).complaining(&["the other one that `emmy keygen --show` prints"]);
}

#[test]
fn a_file_that_cannot_be_read_is_code_2() {
    let place = Place::new("keys-unreadable");
    fs::create_dir_all(place.path("folder")).unwrap();

    for name in ["missing", "folder"] {
        let words = [&format!("{name}: ")[..], "check the path"];
        place.emmy(&["audit", "verify", name]).with(2).complaining(&words);
        place.emmy(&["audit", "verify", name, "--json"]).with(2).complaining(&words);
    }
    place.emmy(&["audit", "verify"]).with(2).complaining(&["FILE"]);
    place.emmy(&["audit"]).with(2);
}

#[test]
fn what_a_log_says_cannot_command_a_terminal() {
    let place = Place::new("keys-hostile");
    let signer = Signer::of(&[7; 32]);
    let mut log = AuditLog::create(&place.path("log"), signer.clone()).unwrap();
    log.append(UTC, opened_run(&signer, 0, &format!("\u{1b}[2J{}", "x".repeat(5000)))).unwrap();
    log.append(UTC, epoch()).unwrap();
    log.append(UTC, closed(0, "\u{202e}done\r\n")).unwrap();
    log.sign(UTC).unwrap();
    place.write("fault", "{\"\u{1b}[2J\u{7}\": 1}\n");

    let said = place.emmy(&["audit", "verify", "log"]).with(0);
    let fault = place.emmy(&["audit", "verify", "fault"]).with(1);

    assert!(
        said.out.contains("\\u{1b}[2Jxxx") && said.out.contains("x…") && said.out.contains("done\\r"),
        "{}",
        said.out
    );
    assert!(said.out.len() < 1500 && said.out.lines().count() == 7, "{}", said.out);
    for text in [&said.out, &fault.err] {
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{7}', '\r']), "{text:?}");
    }
}

#[test]
fn what_a_log_says_must_fit_together_whoever_signed_it() {
    let place = Place::new("keys-contents");
    let signer = Signer::of(&[7; 32]);
    let refused = |name: &str, entries: &[Event], words: &[&str]| {
        let mut log = AuditLog::create(&place.path(name), signer.clone()).unwrap();
        log.append(UTC, opened(&signer, 0)).unwrap();
        log.append(UTC, epoch()).unwrap();
        entries.iter().for_each(|entry| log.append(UTC, entry.clone()).unwrap());
        log.sign(UTC).unwrap();
        place.emmy(&["audit", "verify", name]).with(1).complaining(&[&[name], words].concat());
    };
    let gap = ["line 5: line 4 is not decision 11 of epoch 1, and no epoch began since that says why"];
    refused("gap", &[committed(1, 10), committed(12, 20), closed(20, "closed")], &gap);
    let twice = ["line 4: decision 10 stands here, and decision 11 should"];
    refused("twice", &[committed(1, 10), committed(10, 20)], &twice);
    let other = ["line 4: the run ends with another root than step 10 had"];
    let wrong = Event::Closed { step: 10, root: root(9), reason: "closed".into() };
    refused("root", &[committed(1, 10), wrong], &other);
    for (name, from, to) in [("huge", 0, u64::MAX), ("backwards", u64::MAX, 0), ("high", 1, u64::MAX)] {
        let entry = Event::Committed { epoch: 1, from, to, index: 3, root: root(1), decision: hash(1) };
        refused(name, &[entry], &["line 3: "]);
    }
}

#[test]
fn a_log_that_its_owner_wrote_anew_or_cut_off_does_not_fit_to_what_others_witnessed() {
    let place = Place::new("keys-witness");
    let signer = Signer::of(&[7; 32]);
    place.write_log("log", &signer).sign(UTC).unwrap();
    place.write_witness("other", "log", &[4, 8, 11]);
    let whole = place.read("log");
    let verify = |name: &str| place.emmy(&["audit", "verify", name, "--with", "other"]);

    let said = verify("log").with(0);
    assert!(said.out.contains("witnessed    3 ends, up to line 11") && said.err.is_empty(), "{}{}", said.out, said.err);
    let json = place.emmy(&["audit", "verify", "log", "--json", "--with", "other", "other"]).with(0).json();
    assert_eq!((&json["witnessed"], &json["witnessed_up_to"]), (&6.into(), &11.into()));
    // Cut off behind a signature: by itself it is what was written.
    place.write("cut", lines(&whole)[..8].concat());
    place.emmy(&["audit", "verify", "cut"]).with(0);
    verify("cut").with(1).complaining(&["cut, line 8: the log ends here", "its line 11 was witnessed (other, line 4)"]);
    // Written anew from the fifth line on, by who has the key.
    let mut anew = AuditLog::create(&place.path("anew"), signer.clone()).unwrap();
    anew.append(UTC, opened(&signer, 0)).unwrap();
    anew.append(UTC, epoch()).unwrap();
    for (from, to) in [(1, 10), (11, 19), (20, 30), (31, 40)] {
        anew.append(UTC, committed(from, to)).unwrap();
        anew.sign(UTC).unwrap();
    }
    place.emmy(&["audit", "verify", "anew"]).with(0);
    let said = verify("anew").with(1);
    said.complaining(&["anew, line 8: another line 8 was witnessed (other, line 3)", "written anew"]);
    // Another run, and a log of which nobody has heard.
    let mut log = AuditLog::create(&place.path("elsewhere"), signer.clone()).unwrap();
    log.append(UTC, opened_run(&signer, 0, "another")).unwrap();
    log.sign(UTC).unwrap();
    verify("elsewhere").with(1).complaining(&["other, line 1: ", "elsewhere is of another run"]);
    place.write_log("deaf", &signer).sign(UTC).unwrap();
    place.emmy(&["audit", "verify", "other", "--with", "deaf"]).with(0).remarking(&["deaf has witnessed nothing"]);
    place.emmy(&["audit", "verify", "log", "--with", "missing"]).with(2).complaining(&["missing: "]);
}

#[test]
fn lists_of_servers_and_trust_files_cannot_command_a_terminal_either() {
    let place = Place::new("keys-lists");
    place.emmy(&["keygen", "key"]).with(0);
    place.write("list", "emmy-key-1:\u{1b}[2J\u{202e} 192.0.2.1:7447\n");

    let status = place.emmy(&["cluster", "status", "--nodes", "list", "--key", "key"]).with(2);
    let serve = place.emmy(&["serve", "--listen", "127.0.0.1:0", "--key", "key", "--trust", "list"]).with(2);

    for said in [status, serve] {
        assert!(!said.err.contains(['\u{1b}', '\u{202e}']), "{:?}", said.err);
        said.complaining(&["`emmy-key-1:\\u{1b}[2J", "64 hexadecimal digits"]);
    }
}

/// A file of 64 GiB without a single line: whoever read it as a whole would need as much memory.
#[cfg(target_os = "linux")]
#[test]
fn a_huge_file_is_not_read_as_a_whole() {
    let place = Place::new("keys-huge");
    fs::File::create(place.path("log")).and_then(|file| file.set_len(64 << 30)).expect("a file with a hole");

    place.emmy(&["audit", "verify", "log"]).with(1).complaining(&["line 1: the line does not end"]);
}

// ------------------------------------------------------------------------------------------ help and streams

#[test]
fn the_help_of_both_lists_the_exit_codes_that_the_others_have() {
    let place = Place::new("keys-help");
    let codes = |arguments: &[&str]| -> BTreeSet<String> {
        let help = place.emmy(arguments).with(0).out;
        let list = help.split("Exit codes:\n").nth(1).unwrap_or_else(|| panic!("no exit codes in\n{help}"));
        let words = list.lines().filter_map(|line| line.split_whitespace().next());
        words.filter(|word| word.parse::<u8>().is_ok()).map(str::to_owned).collect()
    };
    let all = codes(&["--help"]);

    for help in ["--help", "-h"] {
        assert_eq!(codes(&["keygen", help]), set("0 2 3").into_iter().map(str::to_owned).collect());
        let verify = codes(&["audit", "verify", help]);
        assert_eq!(verify, set("0 1 2 3").into_iter().map(str::to_owned).collect());
        assert!(verify.is_subset(&all));
    }
    let help = place.emmy(&["--help"]).with(0).out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("keygen") && help.contains("audit log is not what was written"), "{help}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_standard_output_is_code_3() {
    let place = Place::new("keys-full");
    place.emmy(&["keygen", "a"]).with(0);
    place.write_log("log", &place.signer("a")).sign(UTC).unwrap();

    for arguments in
        [&["keygen", "--show", "a"][..], &["audit", "verify", "log"], &["audit", "verify", "log", "--json"]]
    {
        let full = fs::File::create("/dev/full").unwrap();
        let output = place.command(arguments).stdout(full).output().unwrap();
        Said::of(output, "to /dev/full").with(3).complaining(&["standard output", "make room"]);
    }
}
