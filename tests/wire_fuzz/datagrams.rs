//! Datagrams of strangers and of peers: frames, handshakes whose seals are right and whose insides are not, sealed frames, and the gate
//! behind which all of it arrives.

use emmy::{
    security::{
        cookie::read_challenge,
        frame::{self, CLEAR_BYTES, HEADER_BYTES, INITIATION_BYTES, RESPONSE_BYTES, SessionId},
        handshake::{Asked, Hello, Identity, Initiation, Suite},
        session::Session,
    },
    transport::{Datagrams, bulk::frame as bulk},
    wire::{Incarnation, NodeId},
};

use crate::{
    chance::Chance,
    hostile, made, mutated,
    network::{A, B, MS, Pair, address, dropped, key, payloads, secret},
    number, random_bytes, sessions,
};

/// The purpose of the key of the first look, as `security/handshake.rs` has it.
const KNOCK: &str = "emmy datagrams 1: first look at a handshake";

/// Puts the MAC right that everybody can make who knows the receiver's public key.
fn knocked(mut datagram: Vec<u8>, receiver: u16, after: usize) -> Vec<u8> {
    let key = blake3::derive_key(KNOCK, key(receiver).as_bytes());
    if let Some((body, rest)) = datagram.split_at_mut_checked(after)
        && rest.len() >= 16
    {
        rest[..16].copy_from_slice(&blake3::keyed_hash(&key, body).as_bytes()[..16]);
    }
    datagram
}

fn hello(chance: &mut Chance) -> Hello {
    let program: String = made::text(chance).chars().take(8).collect();
    Hello {
        program,
        incarnation: made::life(chance),
        node: made::maybe(chance, made::node),
        unix_seconds: number(chance),
        application: random_bytes(chance, 200),
    }
}

/// One handshake and what changed copies of its datagrams come to: nothing, unless they are copies.
fn a_handshake(chance: &mut Chance) -> u64 {
    const LIES: u64 = 12;
    let (own, other) = (Identity::new(secret(1)), Identity::new(secret(2)));
    let suite = if chance.below(2) == 0 { Suite::AesGcm } else { Suite::ChaChaPoly };
    let id = |chance: &mut Chance| SessionId::new(chance.below(u64::from(SessionId::COUNT)) as u32).expect("small");
    let (ours, theirs, said) = (id(chance), id(chance), hello(chance));
    let attempt = number(chance);
    let mut initiation = Initiation::new(&own, other.public(), suite, (ours, attempt), &said, None);
    let first = initiation.datagram().to_vec();
    for _ in 0..LIES / 2 {
        let lie = knocked(mutated(chance, std::slice::from_ref(&first)), 2, INITIATION_BYTES - 32);
        if let Ok(asked) = Asked::read(&other, &lie) {
            assert_eq!(
                (asked.key, asked.attempt, &asked.hello),
                (own.public(), attempt, &said),
                "sealed, so unchanged"
            );
        }
        let _ = read_challenge(&other.public(), &first, &lie);
    }
    let asked = Asked::read(&other, &first).expect("an honest initiation");
    let mut response = [0; RESPONSE_BYTES];
    let mut remote = asked.answer(theirs, &said, &mut response);
    for _ in 0..LIES / 2 {
        let lie = knocked(mutated(chance, &[response.to_vec()]), 1, RESPONSE_BYTES - 16);
        // What stands in clear says only for whom it is: anybody may write it anew.
        let sealed = |datagram: &[u8]| datagram.get(CLEAR_BYTES..RESPONSE_BYTES - 16).map(<[u8]>::to_vec);
        if sealed(&lie) != sealed(&response) || lie.len() != RESPONSE_BYTES {
            assert!(initiation.finish(&lie).is_err());
        }
    }
    let (mut local, heard) = initiation.finish(&response).expect("the honest response after all lies");
    assert_eq!(heard, said);
    LIES + sealed_frames(chance, &mut remote, &mut local)
}

/// Sealed datagrams: only what the peer sealed opens, and once.
fn sealed_frames(chance: &mut Chance, from: &mut Session, to: &mut Session) -> u64 {
    const LIES: u64 = 40;
    let mut out = [0; 1600];
    let mut seal = |payload: &[u8]| {
        let length = from.seal(payload, &mut out).expect("it is new");
        out[..length].to_vec()
    };
    let honest: Vec<Vec<u8>> = [&b"one"[..], &[7; 300], b"", &[0; 1200]].map(&mut seal).into();
    let mut plain = [0; 2000];
    for _ in 0..LIES {
        let lie = hostile(chance, &honest);
        // The number of the session is not sealed: it says which keys are tried.
        let same = |datagram: &Vec<u8>| datagram.get(HEADER_BYTES..) == lie.get(HEADER_BYTES..);
        if let Ok(frame::Frame::Data { counter, sealed, .. }) = frame::parse(&lie)
            && !honest.iter().any(same)
        {
            assert!(to.open(counter, sealed, &mut plain).is_err(), "it was changed");
        }
    }
    for datagram in &honest {
        let Ok(frame::Frame::Data { counter, sealed, .. }) = frame::parse(datagram) else { panic!("it is sealed") };
        assert!(to.open(counter, sealed, &mut plain).is_ok(), "lies do not spend counters");
        assert!(to.open(counter, sealed, &mut plain).is_err(), "a second time");
    }
    LIES
}

#[test]
fn handshakes_and_sealed_frames_of_a_liar_open_nothing() {
    sessions("handshakes", 10, a_handshake);
}

/// A frame of either layer, from any bytes.
fn frames(chance: &mut Chance, honest: &[Vec<u8>]) {
    let lie = hostile(chance, honest);
    let _ = frame::parse(&lie);
    let Ok((header, frames)) = bulk::decode(&lie) else { return };
    let mut again = Vec::new();
    bulk::put_header(&mut again, &header);
    let read = frames.map_while(Result::ok).inspect(|frame| {
        if let bulk::Frame::Ack(ack) = frame {
            assert!(ack.finished_beyond().count() + ack.stretches().count() <= 8 * lie.len());
        }
    });
    read.for_each(|frame| bulk::put_frame(&mut again, &frame));
    assert!(again.len() <= lie.len() && lie.starts_with(&again), "what was understood is what stands there");
}

/// Two nodes that hold a session while a stranger sends changed copies of everything, from anywhere.
fn a_gate(chance: &mut Chance) -> u64 {
    const LIES: u64 = 400;
    let mut pair = Pair::new();
    pair.network.listen();
    pair.polls(6);
    for k in 0..6_u8 {
        pair.a.send(B, &[k; 100]);
        pair.b.send(A, &[k; 40]);
        pair.polls(1);
    }
    assert!(pair.are_connected());
    let heard: Vec<Vec<u8>> = pair.network.heard().into_iter().map(|(_, _, bytes)| bytes).collect();
    for stack in [&mut pair.a, &mut pair.b] {
        payloads(stack);
    }
    for _ in 0..LIES / 8 {
        for _ in 0..8 {
            let to = 1 + chance.below(2) as u16;
            let from = chance.below(5) as u16;
            let lie = match chance.below(3) {
                0 => knocked(mutated(chance, &heard), to, INITIATION_BYTES - 32),
                1 => knocked(mutated(chance, &heard), to, RESPONSE_BYTES - 16),
                _ => hostile(chance, &heard),
            };
            frames(chance, std::slice::from_ref(&lie));
            if lie.len() <= frame::DATAGRAM_MAX {
                pair.network.put(address(from), address(to), &lie);
            }
        }
        pair.after(chance.below(20) * MS);
    }
    // A datagram that was repeated is dropped, one that was changed too; then honest ones come through.
    let seen = pair.a.counters().drops;
    assert!(dropped(&seen) > 0, "nothing was dropped: {seen:?}");
    for stack in [&mut pair.a, &mut pair.b] {
        payloads(stack);
    }
    pair.a.send(B, b"honest");
    pair.polls(3);
    assert_eq!(payloads(&mut pair.b), [b"honest"]);
    let lives = [pair.a.status(B), pair.b.status(A)].map(|status| status.and_then(|status| status.incarnation));
    assert_eq!(lives, [Some(Incarnation(10)); 2]);
    assert!(pair.a.gate().nodes().all(|node| node == NodeId(2)));
    LIES
}

#[test]
fn a_stranger_with_copies_of_everything_brings_no_node_down() {
    sessions("gates", 20, a_gate);
}
