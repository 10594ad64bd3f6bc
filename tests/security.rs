//! What an attacker can do to the datagrams of a node, and that it comes to nothing: forged, replayed, flooded, worn-out, outdated.

mod network;

use std::{collections::BTreeSet, fs, net::SocketAddr, path::PathBuf};

use emmy::{
    security::{
        cookie::CookieJar,
        frame::{
            self, CHALLENGE_BYTES, COUNTER_BYTES, HEADER_BYTES, INITIATION_BYTES, OVERHEAD_BYTES, REFUSAL_BYTES,
            RESPONSE_BYTES, SessionId,
        },
        handshake::{Asked, Hello, Identity, Initiation, Refusal, Suite},
        keys::{KeyError, PublicKey, PublicKeyError, SecretKey},
        replay::{ReplayWindow, WINDOW},
        session::{COUNTER_MAX, OpenError, Session},
        trust,
    },
    transport::{
        Datagrams,
        laminar::{Gate, Notice, Place, TEMPORARY_FIRST},
    },
    wire::{Incarnation, NodeId, Time},
};
use network::{A, B, MS, Pair, Random, SECOND, address, config, dropped, key, notices, payloads, secret, stack, table};

// ------------------------------------------------------------------------------------------------ keys and files

/// A folder of this test alone, gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("emmy-security-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder can be made");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_secret_key_is_written_once_and_read_by_its_owner_alone() {
    let folder = Folder::new("keys");
    let path = folder.0.join("node.key");
    let made = SecretKey::generate().expect("random numbers");

    made.write_new(&path).expect("a new file");
    let read = SecretKey::read(&path).expect("its own file");
    let again = SecretKey::generate().expect("random numbers").write_new(&path);

    assert_eq!(read.public(), made.public());
    assert!(matches!(again, Err(KeyError::Exists { .. })), "{again:?}");
    assert_eq!(SecretKey::read(&path).expect("unchanged").public(), made.public());
    assert!(!format!("{made:?}").contains(|c: char| c.is_ascii_digit()), "a log must not show it");
}

#[cfg(unix)]
#[test]
fn a_secret_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("exposed");
    let path = folder.0.join("node.key");
    SecretKey::generate().expect("random numbers").write_new(&path).expect("a new file");
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        let refused = SecretKey::read(&path).expect_err("others can read it");

        assert!(refused.to_string().contains("chmod 600"), "{refused}");
    }
}

#[test]
fn a_public_key_is_one_word_that_can_be_pasted() {
    let key = key(5);
    let word = key.to_string();

    assert_eq!(word.parse(), Ok(key));
    assert!(!word.contains(char::is_whitespace));
    let digits = &word["emmy-key-1:".len()..];
    assert_eq!("emmy-key-2:00".parse::<PublicKey>(), Err(PublicKeyError::Word));
    assert_eq!(format!("emmy-key-1:{}", &digits[1..]).parse::<PublicKey>(), Err(PublicKeyError::Length(63)));
    assert_eq!(format!("emmy-key-1:{}g", &digits[1..]).parse::<PublicKey>(), Err(PublicKeyError::Digit(64)));
    assert_eq!(format!("emmy-key-1:{}", "0".repeat(64)).parse::<PublicKey>(), Err(PublicKeyError::LowOrder));
}

#[test]
fn a_trust_file_says_where_it_is_wrong_and_what_to_do() {
    let good = format!("# lab\n\n  {}  left rack # moved\r\n{}\n", key(1), key(2));
    let cases = [
        (format!("{good}  nonsense\n"), "t:5:3: `nonsense` is not a public key"),
        (format!("{good}{} twice\n", key(1)), "t:5:1: this key stands in line 3 already"),
        (format!("{good}emmy-key-1:00 short\n"), "64 hexadecimal digits"),
        (format!("{} {}\n", key(3), "x".repeat(200)), "t:1:1: a name of 200 bytes"),
    ];

    let read = trust::parse("t", good.as_bytes()).expect("it is as it should be");

    let named: Vec<_> = read.iter().map(|peer| (peer.key, peer.name.as_str())).collect();
    assert_eq!(named, [(key(1), "left rack"), (key(2), "")]);
    for (text, expected) in cases {
        let error = trust::parse("t", text.as_bytes()).expect_err("something is wrong").to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("; "), "no remedy: {error}");
    }
    let error = trust::parse("t", b"\xc3\xa4 \xff").expect_err("no text");
    assert_eq!((error.line, error.column), (1, 3));
}

#[test]
fn reading_keys_and_trust_files_ends_whatever_the_bytes_are() {
    let mut random = Random(2);
    let good = format!("# lab\n{} left rack\n{}\n", key(1), key(2)).into_bytes();
    let secret = format!("emmy-secret-key-1 {}\n", "5a".repeat(32)).into_bytes();
    assert!(SecretKey::parse(&secret).is_some());

    for _ in 0..20_000 {
        let mut bytes = if random.percent(50) { good.clone() } else { secret.clone() };
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(4) {
                0 => bytes[at] = random.draw() as u8,
                1 => bytes.insert(at, random.draw() as u8),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let _ = trust::parse("t", &bytes).map_err(|error| error.to_string());
        let _ = SecretKey::parse(&bytes);
        let _ = String::from_utf8_lossy(&bytes).parse::<PublicKey>();
    }
}

// ------------------------------------------------------------------------------------------------ replay window

/// The same promise, kept with all the memory in the world.
#[derive(Default)]
struct Model {
    seen: BTreeSet<u64>,
}

impl Model {
    fn accept(&mut self, counter: u64) -> bool {
        let next = self.seen.last().map_or(0, |largest| largest + 1);
        let too_old = next > counter && next - counter > WINDOW;
        !too_old && self.seen.insert(counter)
    }
}

#[test]
fn the_replay_window_agrees_with_a_set_that_forgets_nothing() {
    let mut random = Random(3);
    for case in 0..200 {
        let (mut window, mut model) = (ReplayWindow::default(), Model::default());
        let mut newest = random.below(3) * random.below(1 << 40);
        for _ in 0..2_000 {
            let back = [1, 64, 70, 4_000, 9_000, WINDOW + 2][random.below(6) as usize];
            let ahead = [1, 1, 2, 64, 65, 9_000, 100_000][random.below(7) as usize];
            let counter = (newest + random.below(ahead + 1)).saturating_sub(random.below(back));
            newest = newest.max(counter);

            assert_eq!(window.accept(counter), model.accept(counter), "case {case}, counter {counter}");
        }
    }
}

#[test]
fn the_last_counter_of_all_does_not_wrap_the_window() {
    let mut window = ReplayWindow::default();

    assert!(window.accept(u64::MAX - 1));
    assert!(!window.accept(u64::MAX));
    assert!(!window.accept(u64::MAX - 1));
    assert!(!window.accept(0));
}

// ---------------------------------------------------------------------------------------------------- handshakes

fn hello() -> Hello {
    Hello {
        program: "emmy 0.1.0".to_owned(),
        incarnation: Incarnation(7),
        application: vec![1; 256],
        ..Hello::default()
    }
}

fn id(number: u32) -> SessionId {
    SessionId::new(number).expect("24 bits")
}

/// Both ends of a handshake between nodes 1 and 2.
fn handshake(suite: Suite) -> (Session, Session) {
    let (a, b) = (Identity::new(secret(1)), Identity::new(secret(2)));
    let mut initiation = Initiation::new(&a, b.public(), suite, (id(11), 1), &hello(), None);
    let asked = Asked::read(&b, initiation.datagram()).expect("genuine");
    assert_eq!((asked.key, &asked.hello, asked.attempt), (a.public(), &hello(), 1));
    let mut response = [0; RESPONSE_BYTES];
    let responder = asked.answer(id(22), &hello(), &mut response);
    let (initiator, said) = initiation.finish(&response).expect("genuine");
    assert_eq!(said, hello());
    (initiator, responder)
}

/// Sends a payload from one session to the other.
fn carry(from: &mut Session, to: &mut Session, payload: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut datagram = vec![0; payload.len() + OVERHEAD_BYTES];
    let length = from.seal(payload, &mut datagram).expect("fresh keys");
    let mut out = vec![0; 1500];
    let Ok(frame::Frame::Data { counter, sealed, .. }) = frame::parse(&datagram[..length]) else { panic!("data") };
    let length = to.open(counter, sealed, &mut out)?;
    Ok(out[..length].to_vec())
}

#[test]
fn either_suite_serves_whatever_the_responder_prefers() {
    for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
        let (mut a, mut b) = handshake(suite);

        assert_eq!(carry(&mut a, &mut b, b"there").as_deref(), Ok(&b"there"[..]));
        assert_eq!(carry(&mut b, &mut a, b"and back").as_deref(), Ok(&b"and back"[..]));

        let mut pair = Pair::with(
            emmy::transport::laminar::Config { suite, ..config(10) },
            emmy::transport::laminar::Config { suite: Suite::ChaChaPoly, ..config(10) },
        );
        pair.polls(6);
        assert!(pair.are_connected(), "{suite:?}");
    }
}

#[test]
fn the_longest_hello_fits_and_every_handshake_is_equally_long() {
    let a = Identity::new(secret(1));
    let longest = Hello {
        program: "p".repeat(32),
        incarnation: Incarnation(u64::MAX),
        node: Some(NodeId(u16::MAX)),
        unix_seconds: u64::MAX,
        application: vec![255; 256],
    };

    for hello in [Hello::default(), longest] {
        let initiation = Initiation::new(&a, key(2), Suite::AesGcm, (id(0xff_ffff), u64::MAX), &hello, None);
        let asked = Asked::read(&Identity::new(secret(2)), initiation.datagram()).expect("genuine");

        assert_eq!(asked.hello, hello);
        assert_eq!(initiation.datagram().len(), INITIATION_BYTES);
    }
}

#[test]
fn a_handshake_with_any_bit_flipped_or_any_byte_missing_is_refused() {
    let (a, b) = (Identity::new(secret(1)), Identity::new(secret(2)));
    let mut initiation = Initiation::new(&a, b.public(), Suite::AesGcm, (id(11), 1), &hello(), None);
    let genuine = initiation.datagram().to_vec();
    let asked = Asked::read(&b, &genuine).expect("genuine");
    let mut response = [0; RESPONSE_BYTES];
    let _ = asked.answer(id(22), &hello(), &mut response);

    // The last 16 bytes are a MAC that is looked at only when there are too many handshakes.
    for bit in 0..8 * (INITIATION_BYTES - 16) {
        let mut flipped = genuine.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let still = matches!(frame::parse(&flipped), Ok(frame::Frame::Initiation { .. }));
        assert!(!still || Asked::read(&b, &flipped).is_err(), "bit {bit} of the initiation");
    }
    for bit in 0..8 * RESPONSE_BYTES {
        let mut flipped = response;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(initiation.finish(&flipped).is_err(), "bit {bit} of the response");
    }
    for length in 0..INITIATION_BYTES {
        assert!(Asked::read(&b, &genuine[..length]).is_err(), "{length} bytes");
    }
    assert!(initiation.finish(&response).is_ok(), "the true answer is taken after all the forged ones");
}

#[test]
fn who_does_not_know_our_key_costs_a_hash_and_gets_no_answer() {
    let mut pair = Pair::new();
    let wrong = key(9);
    pair.a.set_peers(&[(wrong, Place { node: Some(B), address: Some(address(2)) })].into()).expect("one place");

    pair.polls(4);

    assert!(!pair.are_connected());
    assert_eq!(pair.b.counters().drops.not_for_us, 1);
    assert!(pair.network.intercept(address(1)).is_empty(), "no answer");
    let told = notices(&mut pair.b);
    assert!(matches!(told[..], [Notice::WrongKey { own, .. }] if own == key(2)), "{told:?}");
}

#[test]
fn an_unknown_peer_is_refused_and_both_hear_what_to_do() {
    let mut pair = Pair::new();
    pair.b.set_peers(&table(&[5])).expect("one place");

    pair.polls(4);

    assert!(!pair.are_connected());
    assert_eq!(pair.b.counters().drops.untrusted, 1);
    let told = notices(&mut pair.b).remove(0).to_string();
    assert!(told.contains(&key(1).to_string()) && told.contains("192.0.2.2:7000"), "{told}");
    let told = notices(&mut pair.a).remove(0).to_string();
    assert!(told.contains("node 2") && told.contains("trust") && told.contains(&key(1).to_string()), "{told}");
}

#[test]
fn another_wire_version_is_refused_in_words() {
    let mut pair = Pair::new();
    pair.a.poll(Time(1));
    let (from, mut initiation) = pair.network.intercept(address(2)).remove(0);
    initiation[2] = 9;

    pair.network.put(from, address(2), &initiation);
    pair.b.poll(Time(2));

    assert_eq!(pair.b.counters().drops.other_version, 1);
    let told = notices(&mut pair.b).remove(0).to_string();
    assert!(told.contains("version 9") && told.contains("same emmy"), "{told}");
    let answer = pair.network.intercept(address(1));
    assert_eq!(answer.iter().map(|(_, bytes)| bytes.len()).collect::<Vec<_>>(), [REFUSAL_BYTES]);
}

#[test]
fn a_forged_refusal_or_challenge_changes_nothing() {
    let mut pair = Pair::new();
    pair.a.poll(Time(1));
    let initiation = pair.network.intercept(address(2)).remove(0).1;
    let session = id(u32::from_le_bytes(initiation[4..8].try_into().expect("four bytes")));
    let mut refusal = [0; REFUSAL_BYTES];
    // By someone who does not know the responder's key, and by someone who knows it but not the initiation.
    for (own, seen) in [(key(7), &initiation[..]), (key(2), &[0; 480][..])] {
        emmy::security::handshake::refuse(&own, session, Refusal::Untrusted, seen, &mut refusal);
        pair.network.put(address(2), address(1), &refusal);
        let mut challenge = [0; CHALLENGE_BYTES];
        emmy::security::cookie::challenge(&own, session, seen, &[1; 32], &mut challenge);
        pair.network.put(address(2), address(1), &challenge);
    }

    pair.a.poll(Time(2));

    assert_eq!(pair.a.counters().drops.unexpected, 4);
    assert_eq!(notices(&mut pair.a), []);
    pair.network.put(address(1), address(2), &initiation);
    pair.polls(4);
    assert!(pair.are_connected());
}

#[test]
fn a_clock_that_is_far_off_is_told_but_lets_the_peer_in() {
    let at = |unix_seconds| {
        let mut config = config(10);
        config.hello.unix_seconds = unix_seconds;
        config
    };
    let mut pair = Pair::with(at(1_700_000_000), at(1_700_000_100));

    pair.polls(6);

    assert!(pair.are_connected());
    let told = notices(&mut pair.a);
    assert!(told.contains(&Notice::ClockOff { peer: B, ahead: 100 }), "{told:?}");
    let told = notices(&mut pair.b);
    assert!(told.contains(&Notice::ClockOff { peer: A, ahead: -100 }), "{told:?}");
}

#[test]
fn what_an_application_says_in_a_handshake_comes_with_the_session() {
    let mut pair = Pair::new();
    pair.a.gate_mut().say(Some(NodeId(9)), b"gpu: 2");

    pair.polls(6);

    let hello = pair.b.status(A).and_then(|status| status.hello).expect("a session");
    assert_eq!(
        (hello.node, &hello.application[..], &hello.program[..]),
        (Some(NodeId(9)), &b"gpu: 2"[..], "emmy test")
    );
    let told = notices(&mut pair.b);
    assert!(told.contains(&Notice::Named { peer: A, itself: NodeId(9) }), "{told:?}");
    assert!(pair.a.status(B).and_then(|status| status.round_trip).is_some_and(|time| time <= 2 * MS));
}

#[test]
fn attempts_come_ever_more_rarely_and_the_owner_hears_that_nobody_answers() {
    let mut pair = Pair::new();
    pair.network.with(|net| net.cut.push((address(1), address(2))));
    let mut begun = Vec::new();

    for _ in 0..600 {
        pair.after(100 * MS);
        begun.push(pair.a.counters().handshakes_begun);
    }

    // 0, 0.25, 0.75, 1.75, 3.75, 7.75 s, then every 5 s.
    assert_eq!((begun[8], begun[38], begun[80]), (3, 5, 6), "{begun:?}");
    assert!((15..=17).contains(&begun[599]), "{}", begun[599]);
    let told = notices(&mut pair.a).remove(0).to_string();
    assert!(told.contains("node 2 at 192.0.2.3:7000 does not answer (6 attempts)"), "{told}");
    pair.network.with(|net| net.cut.clear());
    pair.after(5 * SECOND);
    pair.polls(4);
    assert!(pair.are_connected());
}

#[test]
fn two_that_begin_at_once_end_with_one_session_that_both_use() {
    for reversed in [false, true] {
        let mut pair = Pair::new();
        pair.b.connect(A, key(1), address(1)).expect("a free place");
        for _ in 0..10 {
            pair.now = pair.now.plus(MS);
            if reversed {
                pair.b.poll(pair.now);
                pair.a.poll(pair.now);
            } else {
                pair.a.poll(pair.now);
                pair.b.poll(pair.now);
            }
        }
        assert!(pair.are_connected());
        let done = (pair.a.counters().handshakes_done, pair.b.counters().handshakes_done);
        assert_eq!(done, (1, 1), "reversed: {reversed}");

        pair.a.send(B, b"to b");
        pair.b.send(A, b"to a");
        pair.polls(2);
        assert_eq!(payloads(&mut pair.b), [b"to b"]);
        assert_eq!(payloads(&mut pair.a), [b"to a"]);
    }
}

#[test]
fn a_key_without_a_place_gets_a_temporary_number_and_keeps_its_session_when_it_gets_one() {
    let mut pair = Pair::new();
    pair.b.set_peers(&[(key(1), Place::default())].into()).expect("a table");
    pair.polls(6);
    pair.a.send(B, b"early");
    pair.polls(2);
    let early = pair.b.receive().expect("it came");

    pair.b.set_peers(&table(&[1, 4])).expect("a table");
    pair.a.send(B, b"late");
    pair.polls(2);

    let late = pair.b.receive().expect("it came");
    assert_eq!((early.0, &early.2[..]), (TEMPORARY_FIRST, &b"early"[..]));
    assert_eq!((late.0, &late.2[..]), (A, &b"late"[..]));
    assert_eq!(pair.b.counters().handshakes_done, 1);
    assert!(
        pair.b
            .set_peers(
                &[(key(1), Place { node: Some(A), address: None }), (key(3), Place { node: Some(A), address: None })]
                    .into()
            )
            .is_err()
    );
    pair.b.set_peers(&table(&[4])).expect("a table");
    pair.a.send(B, b"gone");
    pair.polls(2);
    assert_eq!(pair.b.receive(), None, "no longer in the table");
    assert_eq!(pair.b.counters().drops.unknown_session, 1);
}

// -------------------------------------------------------------------------------------------------------- replays

#[test]
fn a_replayed_datagram_is_dropped_and_counted() {
    let mut pair = Pair::connected();
    pair.a.send(B, b"once");
    pair.a.poll(pair.now);
    let (from, datagram) = pair.network.intercept(address(2)).remove(0);

    for _ in 0..5 {
        pair.network.put(from, address(2), &datagram);
    }
    pair.poll();

    assert_eq!(payloads(&mut pair.b), [b"once"]);
    assert_eq!(pair.b.counters().drops.replayed, 4);
}

#[test]
fn a_replayed_handshake_takes_nothing_from_the_session_in_use() {
    let mut pair = Pair::new();
    pair.network.listen();
    pair.polls(6);
    let handshake =
        pair.network.heard().into_iter().find(|(_, to, bytes)| *to == address(2) && bytes.len() == INITIATION_BYTES);
    let (from, to, initiation) = handshake.expect("there was one");

    for _ in 0..3 {
        pair.network.put(from, to, &initiation);
        pair.poll();
    }
    pair.a.send(B, b"still there");
    pair.b.send(A, b"me too");
    pair.polls(2);

    assert_eq!(pair.b.counters().drops.stale_handshake, 3);
    assert_eq!(payloads(&mut pair.b), [b"still there"]);
    assert_eq!(payloads(&mut pair.a), [b"me too"]);

    // A node that has forgotten everything takes it for new, and still believes only the one that can use the keys.
    pair.restart_b(11);
    pair.network.put(from, to, &initiation);
    pair.polls(3);
    assert_eq!(pair.b.counters().handshakes_answered, 1);
    assert!(!pair.b.status(A).expect("a peer").connected);
    pair.a.send(B, b"is anyone there");
    pair.poll();
    pair.after(6 * SECOND);
    pair.polls(6);
    pair.a.send(B, b"really me");
    pair.polls(2);
    assert_eq!(payloads(&mut pair.b), [b"really me"]);
}

#[test]
fn a_handshake_that_was_held_back_makes_keys_that_nobody_uses() {
    let rekeying = emmy::transport::laminar::Config { rekey_after: 8, ..config(10) };
    let mut pair = Pair::with(rekeying, config(10));
    pair.polls(6);
    for n in 0..10_u8 {
        pair.a.send(B, &[n]);
    }
    pair.a.poll(pair.now);
    let held: Vec<_> = pair.network.intercept(address(2));
    let (from, initiation) = held.iter().find(|(_, bytes)| bytes.len() == INITIATION_BYTES).expect("new keys are due");

    // It is new to the responder, which answers it; but the answer is lost, and whoever held it back cannot use the keys.
    pair.network.put(*from, address(2), initiation);
    pair.b.poll(pair.now);
    assert_eq!(pair.network.intercept(address(1)).len(), 1, "an answer");
    pair.b.send(A, b"under the old keys");
    pair.b.poll(pair.now);
    pair.a.poll(pair.now);
    pair.a.send(B, b"as before");
    pair.a.poll(pair.now);
    pair.b.poll(pair.now);

    assert_eq!(payloads(&mut pair.a), [b"under the old keys"]);
    assert_eq!(payloads(&mut pair.b), [b"as before"]);
    assert_eq!(pair.b.counters().rekeys, 0);
    pair.after(SECOND);
    pair.polls(4);
    assert_eq!(pair.b.counters().rekeys, 1, "the next attempt gets through");
}

#[test]
fn a_handshake_replayed_from_elsewhere_does_not_move_the_peer() {
    let mut pair = Pair::new();
    pair.network.listen();
    pair.polls(6);
    let sent = pair.network.heard();

    for (_, to, bytes) in sent.iter().filter(|(_, to, _)| *to == address(2)) {
        pair.network.put(address(66), *to, bytes);
    }
    pair.polls(2);

    assert_eq!(pair.b.status(A).expect("a peer").address, Some(address(1)));
    assert_eq!(pair.b.counters().moves, 0);
}

#[test]
fn an_older_incarnation_is_refused_and_a_newer_one_replaces_it() {
    let mut pair = Pair::connected();
    let mut old = stack(&pair.network, 1, config(9));
    old.connect(B, key(2), address(2)).expect("a free place");
    notices(&mut pair.b);

    for _ in 0..4 {
        pair.now = pair.now.plus(MS);
        old.poll(pair.now);
        pair.b.poll(pair.now);
    }

    assert_eq!(pair.b.counters().drops.old_incarnation, 1);
    assert_eq!(pair.b.status(A).expect("a peer").incarnation, Some(Incarnation(10)));
    let told = notices(&mut pair.b).remove(0).to_string();
    assert!(told.contains("earlier start (9)") && told.contains("(10)"), "{told}");
    let told = notices(&mut old).remove(0).to_string();
    assert!(told.contains("later start of this node"), "{told}");

    let mut new = stack(&pair.network, 1, config(11));
    new.connect(B, key(2), address(2)).expect("a free place");
    for _ in 0..4 {
        pair.now = pair.now.plus(MS);
        new.poll(pair.now);
        pair.b.poll(pair.now);
    }
    assert_eq!(pair.b.status(A).expect("a peer").incarnation, Some(Incarnation(11)));
    assert!(matches!(notices(&mut pair.b)[..], [Notice::Connected { restarted: true, .. }]));

    // What the old life still sends is no longer opened.
    pair.a.send(B, b"from the grave");
    pair.a.poll(pair.now);
    pair.b.poll(pair.now);
    assert_eq!(pair.b.receive(), None);
}

// ---------------------------------------------------------------------------------------------- forged datagrams

#[test]
fn a_datagram_with_any_bit_flipped_or_any_byte_missing_is_dropped_and_counted() {
    let mut pair = Pair::connected();
    pair.a.send(B, &[5; 40]);
    pair.a.poll(pair.now);
    let (from, datagram) = pair.network.intercept(address(2)).remove(0);
    let before = dropped(&pair.b.counters().drops);
    let (mut sent, mut out) = (0, [0; 1500]);

    for bit in 0..8 * datagram.len() {
        let mut flipped = datagram.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(pair.b.gate_mut().take(pair.now, from, &flipped, &mut out), None, "bit {bit}");
        sent += 1;
    }
    for length in 0..datagram.len() {
        assert_eq!(pair.b.gate_mut().take(pair.now, from, &datagram[..length], &mut out), None, "{length} bytes");
        sent += 1;
    }

    assert_eq!(dropped(&pair.b.counters().drops) - before, sent);
    let taken = pair.b.gate_mut().take(pair.now, from, &datagram, &mut out).expect("the true one is opened after all");
    // laminar's header stands before the payload.
    assert_eq!(out[5..taken.0], [5; 40]);
}

/// Random bytes that look more or less like datagrams of ours.
fn random_datagram<'d>(random: &mut Random, room: &'d mut [u8; 1600]) -> &'d [u8] {
    let lengths = [28, INITIATION_BYTES, RESPONSE_BYTES, CHALLENGE_BYTES, REFUSAL_BYTES, 1200, 1453];
    let length = match random.below(3) {
        0 => random.below(64) as usize,
        1 => lengths[random.below(7) as usize],
        _ => random.below(1600) as usize,
    };
    // Filling all of it would take longer than looking at it.
    random.fill(&mut room[..length.min(40)]);
    if length > 8 && random.percent(80) {
        room[0] = [0x17, 0x28, 0x4d, 0x72, 0x9b][random.below(5) as usize];
        room[2..4].copy_from_slice(&u16::to_le_bytes(random.below(2) as u16));
        room[7] = 0;
        room[1] = random.below(4) as u8;
    }
    if length > 12 && room[0] == 0x9b {
        room[1..4].copy_from_slice(&[random.below(6) as u8, 0, 0]);
    }
    &room[..length]
}

#[test]
fn a_million_random_datagrams_are_dropped_counted_and_take_no_memory() {
    const COUNT: u64 = 1_000_000;
    let mut pair = Pair::connected();
    let mut random = Random(4);
    let (mut room, mut out) = ([0; 1600], [0; 1500]);
    let before = dropped(&pair.b.counters().drops);
    let memory = resident_bytes();

    for n in 0..COUNT {
        let from = if random.percent(50) { address(1) } else { address(random.below(60_000) as u16) };
        let datagram = random_datagram(&mut random, &mut room);
        assert_eq!(pair.b.gate_mut().take(Time(SECOND + n * 1_000), from, datagram, &mut out), None);
        while pair.b.gate_mut().reply().is_some() {}
    }

    let grown = resident_bytes().saturating_sub(memory);
    assert!(grown < 32 << 20, "{grown} bytes more than before");
    assert_eq!(dropped(&pair.b.counters().drops) - before, COUNT, "{:?}", pair.b.counters());
    assert!(pair.b.counters().drops.forged > 1_000, "some got as far as the cipher");
    pair.now = Time(3 * SECOND);
    pair.polls(2);
    pair.a.send(B, b"unimpressed");
    pair.polls(2);
    assert_eq!(payloads(&mut pair.b), [b"unimpressed"]);
}

/// Resident memory of this process; 0 where nobody says.
fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

#[test]
fn a_peer_that_moves_is_followed_only_by_what_it_sealed() {
    let mut pair = Pair::connected();
    let moved = address(77);
    pair.a.send(B, b"from my new place");
    pair.a.poll(pair.now);
    let datagram = pair.network.intercept(address(2)).remove(0).1;
    let mut flipped = datagram.clone();
    flipped[20] ^= 1;

    pair.network.put(moved, address(2), &flipped);
    pair.b.poll(pair.now);
    let after_forgery = pair.b.status(A).expect("a peer").address;
    pair.network.put(moved, address(2), &datagram);
    pair.b.poll(pair.now);

    assert_eq!(after_forgery, Some(address(1)));
    assert_eq!(pair.b.status(A).expect("a peer").address, Some(moved));
    pair.b.send(A, b"found you");
    pair.b.poll(pair.now);
    assert_eq!(pair.network.intercept(moved).len(), 1);
}

// ------------------------------------------------------------------------------------------------------- floods

/// Genuine first messages of strangers that know our key, from as many addresses.
fn flood(gate: &mut Gate, count: u16, now: Time) -> (u64, u64) {
    let stranger = Identity::new(secret(500));
    let (mut answers, mut longest) = (0, 0);
    // One is enough: what it costs does not depend on who made it.
    let initiation = Initiation::new(&stranger, gate.own_key(), Suite::AesGcm, (id(1), 1), &Hello::default(), None);
    for n in 0..count {
        gate.take(now, address(1000 + n), initiation.datagram(), &mut [0; 1500]);
        while let Some(reply) = gate.reply() {
            answers += 1;
            longest = longest.max(reply.bytes().len() as u64);
        }
    }
    (answers, longest)
}

#[test]
fn a_flood_of_handshakes_is_answered_with_challenges_shorter_than_the_questions() {
    let mut gate = Gate::new(secret(2), config(10));
    let memory = resident_bytes();

    let (answers, longest) = flood(&mut gate, 50_000, Time(0));

    let counters = *gate.counters();
    assert_eq!(counters.drops.untrusted, 100, "as many as may come at once are read");
    assert_eq!(counters.drops.challenged, 49_900);
    assert!(answers <= 2_000 && longest <= CHALLENGE_BYTES as u64, "{answers} answers, {longest} bytes");
    let grown = resident_bytes().saturating_sub(memory);
    assert!(grown < 32 << 20, "{grown} bytes more than before");
    let told = std::iter::from_fn(|| gate.notice()).count();
    assert!(told <= 20, "{told} notices");
}

#[test]
fn a_newcomer_gets_through_a_flood_by_showing_its_cookie() {
    let mut pair = Pair::new();
    flood(pair.b.gate_mut(), 200, Time(0));

    // Time stands still, so no token comes back: only the cookie can open the way.
    for _ in 0..6 {
        pair.a.poll(Time(0));
        pair.b.poll(Time(0));
    }

    assert!(pair.are_connected(), "{:?}", pair.b.counters());
    assert!(pair.b.counters().challenges > 100);
    assert_eq!(pair.a.counters().handshakes_begun, 2);
}

#[test]
fn a_flood_of_strangers_does_not_keep_a_known_peer_from_new_keys() {
    let rekeying = emmy::transport::laminar::Config { rekey_after: 8, ..config(10) };
    let mut pair = Pair::with(rekeying, config(10));
    pair.polls(6);
    let moment = pair.now;
    flood(pair.b.gate_mut(), 200, moment);

    for _ in 0..10 {
        pair.a.send(B, b"x");
    }
    for _ in 0..6 {
        pair.a.poll(moment);
        pair.b.poll(moment);
    }

    assert_eq!(pair.a.counters().rekeys, 1);
}

#[test]
fn a_cookie_is_good_for_one_address_and_two_periods() {
    let jar = CookieJar::new([9; 32]);
    let period = emmy::security::cookie::PERIOD;
    let home: SocketAddr = "192.0.2.1:7000".parse().expect("a literal address");
    let identity = Identity::new(secret(1));
    let cookie = jar.cookie(Time(0), home);
    let shown = Initiation::new(&identity, key(2), Suite::AesGcm, (id(1), 1), &Hello::default(), Some(&cookie));
    let shown = shown.datagram();

    assert!(jar.accepts(Time(0), home, shown));
    assert!(jar.accepts(Time(2 * period - 1), home, shown));
    assert!(!jar.accepts(Time(2 * period), home, shown));
    assert!(!jar.accepts(Time(0), "192.0.2.1:7001".parse().expect("a literal address"), shown));
    assert!(!jar.accepts(Time(0), "192.0.2.9:7000".parse().expect("a literal address"), shown));
    assert!(!CookieJar::new([8; 32]).accepts(Time(0), home, shown));
}

// ---------------------------------------------------------------------------------------------------- worn-out keys

/// Session and counter of a data datagram.
fn nonce(datagram: &[u8]) -> (Vec<u8>, u64) {
    let counter = datagram[HEADER_BYTES..HEADER_BYTES + COUNTER_BYTES].try_into().expect("eight bytes");
    (datagram[..HEADER_BYTES].to_vec(), u64::from_le_bytes(counter))
}

#[test]
fn no_counter_is_used_twice_under_one_key_and_keys_are_renewed_in_time() {
    let rekeying = || emmy::transport::laminar::Config { rekey_after: 64, ..config(10) };
    let mut pair = Pair::with(rekeying(), rekeying());
    pair.network.listen();
    pair.polls(6);
    let (mut there, mut back) = (0, 0);

    for _ in 0..200 {
        for n in 0..5_u8 {
            pair.a.send(B, &[n; 30]);
            pair.b.send(A, &[n; 20]);
        }
        pair.after(200 * MS);
        there += payloads(&mut pair.b).len();
        back += payloads(&mut pair.a).len();
    }
    pair.polls(2);
    there += payloads(&mut pair.b).len();
    back += payloads(&mut pair.a).len();

    let mut seen = BTreeSet::new();
    for (from, _, datagram) in pair.network.heard().into_iter().filter(|(_, _, bytes)| bytes[0] == 0x9b) {
        let (session, counter) = nonce(&datagram);
        assert!(counter < 64 + 32, "a key that was worn out at 64 sealed {counter}");
        assert!(seen.insert((from, session, counter)), "a counter twice under one key");
    }
    assert!(pair.a.counters().rekeys >= 8, "{:?}", pair.a.counters());
    // Nothing is lost when keys change: what was sealed under the old ones is still opened.
    assert_eq!((there, back), (1000, 1000));
}

#[test]
fn a_key_that_is_all_used_up_seals_nothing_more() {
    let (mut a, mut b) = handshake(Suite::AesGcm);
    a.skip(COUNTER_MAX - 1);

    assert!(carry(&mut a, &mut b, b"the last").is_ok());

    let mut datagram = [0; 100];
    assert!(a.seal(b"one more", &mut datagram).is_err());
    assert_eq!(datagram, [0; 100]);

    // In the stack: counted, and new keys are made.
    let mut pair = Pair::connected();
    pair.a.gate_mut().skip_counters(B, COUNTER_MAX);
    pair.a.send(B, b"lost");
    pair.a.poll(pair.now);
    assert_eq!(pair.a.counters().drops.key_exhausted, 1);
    pair.polls(4);
    pair.a.send(B, b"under new keys");
    pair.polls(2);
    assert_eq!(payloads(&mut pair.b), [b"under new keys"]);
}

#[test]
fn a_key_that_is_old_is_renewed_though_little_was_sent() {
    let mut pair = Pair::connected();

    for _ in 0..4_000 {
        pair.after(SECOND);
    }

    assert!(pair.are_connected());
    assert!((1..=2).contains(&pair.a.counters().rekeys), "{:?}", pair.a.counters());
}
