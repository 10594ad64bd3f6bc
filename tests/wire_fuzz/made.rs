//! Values of every kind that nodes send each other, drawn from a stream: sound in form, wild in contents.

use emmy::{
    audit::{Bounded, Breach, BreachReport, Drifts, Exact},
    coordinator::{
        Account, Ballot, Body, Boundary, Cause, Config, CopyRecord, CopyShare, Decision, Fault, Hash, Head, Holding,
        Letter, Offence, Report, Share, Standing, Then, Totals, Verdict, Vote,
    },
    exchange::pairing::Way,
    ledger::{Amounts, DRIFT_ROUNDING, KICK_ROUNDING, Ledger},
    member::message::{Extra, Notes, Pace},
    node::History,
    partition::{
        RecountShare,
        cuts::{Cuts, Sketch},
    },
    wire::{Epoch, Incarnation, NodeId},
};

use crate::{chance::Chance, number};

pub(crate) fn some<T>(chance: &mut Chance, most: u64, mut make: impl FnMut(&mut Chance) -> T) -> Vec<T> {
    (0..chance.below(most + 1)).map(|_| make(chance)).collect()
}

pub(crate) fn maybe<T>(chance: &mut Chance, make: impl FnOnce(&mut Chance) -> T) -> Option<T> {
    (chance.below(2) == 0).then(|| make(chance))
}

/// Small, at the edges of 64 or of 128 bits, or any.
pub(crate) fn wide(chance: &mut Chance) -> i128 {
    match chance.below(6) {
        0 => i128::MAX - i128::from(chance.below(2)),
        1 => i128::MIN + i128::from(chance.below(2)),
        2 => 1_i128 << chance.below(127),
        3 => (i128::from(chance.next()) << 64) | i128::from(chance.next()),
        4 => -i128::from(number(chance)),
        _ => i128::from(number(chance)),
    }
}

fn float(chance: &mut Chance) -> f64 {
    const ODD: [f64; 7] = [0.0, -0.0, 1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MIN_POSITIVE];
    match chance.below(3) {
        0 => *chance.pick(&ODD).expect("there are some"),
        1 => chance.below(1000) as f64 / 8.0,
        _ => f64::from_bits(chance.next()),
    }
}

/// A text as people write it, or as somebody writes who wants a terminal to do something.
pub(crate) fn text(chance: &mut Chance) -> String {
    const PIECES: [&str; 8] = ["node 3 ", "\u{1b}[2J", "\r\n", "\u{202e}", "é", "\0", "\u{9b}31m", "a reason "];
    (0..chance.below(5)).map(|_| *chance.pick(&PIECES).expect("there are some")).collect()
}

pub(crate) fn node(chance: &mut Chance) -> NodeId {
    NodeId(if chance.below(4) == 0 { number(chance) as u16 } else { chance.below(4) as u16 })
}

pub(crate) fn life(chance: &mut Chance) -> Incarnation {
    Incarnation(number(chance))
}

fn hash(chance: &mut Chance) -> Hash {
    Hash(std::array::from_fn(|_| chance.next() as u8))
}

pub(crate) fn root(chance: &mut Chance) -> u128 {
    wide(chance) as u128
}

pub(crate) fn amounts(chance: &mut Chance) -> Amounts {
    let mut three = || std::array::from_fn(|_| wide(chance));
    let (momentum, angular_momentum) = (three(), three());
    Amounts { count: wide(chance), mass: wide(chance), momentum, angular_momentum, energy: wide(chance) }
}

fn account(chance: &mut Chance) -> Account {
    match chance.below(4) {
        0 => Account::KickRounding,
        1 => Account::DriftRounding,
        2 => Account::Reaction,
        _ => Account::Peer(node(chance)),
    }
}

pub(crate) fn share(chance: &mut Chance) -> Share {
    let extra = if chance.below(2) == 0 { emmy::wire::encode(&extra(chance)) } else { some(chance, 40, byte) };
    Share {
        held: amounts(chance),
        gained: some(chance, 4, |chance| (account(chance), amounts(chance))),
        root: root(chance),
        extra,
        work_ns: number(chance),
    }
}

fn byte(chance: &mut Chance) -> u8 {
    chance.next() as u8
}

fn pace(chance: &mut Chance) -> Pace {
    let way = if chance.below(2) == 0 { Way::Shared } else { Way::Twice };
    Pace { pairs: number(chance), pair_ns: number(chance), round_trip_ns: number(chance), way }
}

pub(crate) fn recount_share(chance: &mut Chance) -> RecountShare {
    RecountShare {
        kinetic: wide(chance),
        binding: wide(chance),
        angular_size: wide(chance) as u128,
        centre: std::array::from_fn(|_| wide(chance)),
        mass: wide(chance),
        momentum: std::array::from_fn(|_| wide(chance)),
    }
}

pub(crate) fn sketch(chance: &mut Chance) -> Sketch {
    Sketch { count: number(chance), keys: some(chance, 20, root) }
}

pub(crate) fn extra(chance: &mut Chance) -> Extra {
    Extra {
        recount: maybe(chance, recount_share),
        sketch: maybe(chance, sketch),
        effort_ns: number(chance),
        pace: maybe(chance, pace),
    }
}

/// Cuts that are sound, for these owners.
pub(crate) fn cuts(chance: &mut Chance) -> Cuts {
    let mut first: Vec<u128> = some(chance, 5, root);
    first.push(0);
    first.sort_unstable();
    first.dedup();
    let owner = first.iter().map(|_| NodeId(chance.below(3) as u16)).collect();
    Cuts::new(first, owner).expect("they grow from 0")
}

pub(crate) fn breach(chance: &mut Chance) -> Breach {
    match chance.below(4) {
        0 => {
            let axis = number(chance) as usize % 5;
            let kinds = [Exact::Count, Exact::Mass, Exact::Momentum(axis), Exact::AngularMomentum(axis)];
            let what = *chance.pick(&kinds).expect("there are some");
            Breach::Exact { what, due: text(chance), counted: wide(chance).to_string() }
        }
        1 => {
            let kinds = [Bounded::EnergyStep, Bounded::Energy, Bounded::CentreOfMass];
            let what = *chance.pick(&kinds).expect("there are some");
            Breach::Bounded { what, drift: float(chance), bound: float(chance) }
        }
        2 => Breach::Range { what: text(chance), particle: number(chance), name: text(chance) },
        _ => Breach::Impulse {
            particle: number(chance),
            name: text(chance),
            other: number(chance),
            other_name: text(chance),
        },
    }
}

pub(crate) fn report(chance: &mut Chance) -> BreachReport {
    let (step, time, undone) = (number(chance), float(chance), chance.below(2) == 0);
    BreachReport { step, time, breach: breach(chance), undone }
}

pub(crate) fn ledger(chance: &mut Chance) -> Ledger {
    let mut ledger = Ledger::opened_with(amounts(chance));
    for account in [KICK_ROUNDING, DRIFT_ROUNDING, &text(chance)] {
        if chance.below(2) == 0 {
            ledger.post(account, amounts(chance));
        }
    }
    ledger
}

/// A record, from its text: nobody else can make one with these numbers.
pub(crate) fn drifts(chance: &mut Chance, right: bool) -> Drifts {
    let mut number = || if right { 1.0 + chance.below(100) as f64 } else { float(chance) };
    let numbers: [f64; 13] = std::array::from_fn(|_| number());
    let energy = |chance: &mut Chance| if right { 7 } else { wide(chance) }.to_string();
    let bytes = [
        emmy::wire::encode(&(energy(chance), energy(chance))),
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
    ]
    .concat();
    emmy::wire::decode(&bytes, "record", bytes.len()).expect("two texts and thirteen floats")
}

pub(crate) fn history(chance: &mut Chance, right: bool) -> History {
    let ledger = if right { Ledger::default() } else { ledger(chance) };
    History { ledger, drifts: drifts(chance, right), breaches: some(chance, 2, report) }
}

pub(crate) fn notes(chance: &mut Chance) -> Vec<u8> {
    let right = chance.below(2) == 0;
    let ledger = if right { Ledger::default() } else { ledger(chance) };
    emmy::wire::encode(&Notes { ledger, drifts: drifts(chance, right) })
}

// ----------------------------------------------------------------------------------------- letters

fn vote(chance: &mut Chance) -> Vote {
    match chance.below(4) {
        0 => Vote::Yes(share(chance)),
        1 => Vote::No { stage: number(chance) as u16, order: (number(chance), number(chance)), breach: breach(chance) },
        2 => Vote::Accuses { of: node(chance), what: text(chance) },
        _ => Vote::Held { stage: number(chance) as u16 },
    }
}

fn fault(chance: &mut Chance) -> Fault {
    match chance.below(3) {
        0 => Fault::Node { node: node(chance), breach: breach(chance) },
        1 => Fault::Pair { a: node(chance), b: node(chance), breach: breach(chance) },
        _ => Fault::Malformed { node: node(chance) },
    }
}

fn cause(chance: &mut Chance) -> Cause {
    match chance.below(3) {
        0 => Cause::Violation {
            node: node(chance),
            stage: number(chance) as u16,
            order: (number(chance), number(chance)),
            breach: breach(chance),
        },
        1 => Cause::Entry(fault(chance)),
        _ => Cause::Judged(breach(chance)),
    }
}

fn verdict(chance: &mut Chance) -> Verdict {
    match chance.below(4) {
        0 => Verdict::Commit,
        1 => Verdict::CommitAndRecord(breach(chance)),
        2 => Verdict::CommitAndStop(breach(chance)),
        _ => {
            let thens = [Then::Stop, Then::Retry, Then::Isolate(node(chance))];
            let then = *chance.pick(&thens).expect("there are some");
            Verdict::Undo { cause: cause(chance), then }
        }
    }
}

fn holding(chance: &mut Chance) -> Holding {
    Holding { node: node(chance), incarnation: life(chance), held: amounts(chance), root: root(chance) }
}

fn copy_record(chance: &mut Chance) -> CopyRecord {
    CopyRecord { step: number(chance), root: root(chance), partitions: some(chance, 3, holding) }
}

fn boundary(chance: &mut Chance) -> Boundary {
    Boundary { copy: chance.below(2) == 0, cuts: emmy::wire::encode(&cuts(chance)) }
}

pub(crate) fn decision(chance: &mut Chance) -> Decision {
    Decision {
        epoch: Epoch(number(chance) as u32),
        index: number(chance),
        step: number(chance),
        verdict: verdict(chance),
        totals: Totals { held: amounts(chance), root: root(chance) },
        holdings: some(chance, 3, holding),
        next_boundary: number(chance),
        boundary: maybe(chance, boundary),
        copy: maybe(chance, copy_record),
        notes: notes(chance),
        config: hash(chance),
        previous: hash(chance),
    }
}

fn config(chance: &mut Chance) -> Config {
    Config {
        branch: number(chance),
        epoch: Epoch(number(chance) as u32),
        parent: hash(chance),
        coordinator: node(chance),
        members: some(chance, 4, |chance| (node(chance), life(chance))),
        replicas: some(chance, 3, node),
        restart: copy_record(chance),
        adoption: some(chance, 4, |chance| (node(chance), node(chance))).into_iter().collect(),
        copy: copy_record(chance),
        head: Head { index: number(chance), step: number(chance), root: root(chance), hash: hash(chance) },
        log: some(chance, 2, decision),
        notes: notes(chance),
        next_boundary: number(chance),
        isolated: some(chance, 2, |chance| (node(chance), text(chance))).into_iter().collect(),
        troubles: some(chance, 2, text),
        offences: some(chance, 2, |chance| Offence {
            of: node(chance),
            by: node(chance),
            what: text(chance),
            seen: chance.below(2) == 0,
        }),
        believed: some(chance, 2, node).into_iter().collect(),
        stalls: number(chance) as u32,
    }
}

fn ballot(chance: &mut Chance) -> Ballot {
    Ballot { round: number(chance) as u32, node: node(chance) }
}

/// How many kinds of bodies there are.
pub(crate) const BODIES: u64 = 18;

/// A body of one kind.
pub(crate) fn body(chance: &mut Chance, kind: u64) -> Body {
    let step = number(chance);
    match kind {
        0 => Body::Beat {
            index: step,
            granted: number(chance),
            hears: some(chance, 4, node),
            standing: Standing {
                progress: number(chance),
                at: (number(chance), number(chance) as u16),
                waits_for: some(chance, 3, node),
            },
        },
        1 => Body::Join { granted: step, hears: some(chance, 4, node) },
        2 => Body::Vote { step, vote: vote(chance) },
        3 => Body::Halt { step, stage: number(chance) as u16 },
        4 => Body::Accept(Box::new(decision(chance))),
        5 => Body::Accepted { index: step, hash: hash(chance) },
        6 => Body::Decide(Box::new(decision(chance))),
        7 => Body::Again { step, root: root(chance) },
        8 => Body::Copied(CopyShare { step, share: share(chance) }),
        9 => Body::Prepare(ballot(chance)),
        10 => Body::Promise {
            ballot: ballot(chance),
            log: some(chance, 2, decision),
            accepted: maybe(chance, |chance| (ballot(chance), Box::new(config(chance)))),
        },
        11 => Body::Refuse { promised: ballot(chance) },
        12 => Body::Query(ballot(chance)),
        13 => Body::Report {
            ballot: ballot(chance),
            report: Report {
                snapshots: some(chance, 4, number),
                copies: some(chance, 4, |chance| (node(chance), number(chance))),
                hears: some(chance, 4, node),
            },
        },
        14 => Body::Propose { ballot: ballot(chance), config: Box::new(config(chance)) },
        15 => Body::Agreed(ballot(chance)),
        16 => Body::Begin(Box::new(config(chance))),
        17 => Body::Expelled,
        other => unreachable!("there is no body {other}"),
    }
}

pub(crate) fn letter(chance: &mut Chance, kind: u64) -> Letter {
    Letter {
        branch: number(chance),
        epoch: Epoch(number(chance) as u32),
        to: maybe(chance, life),
        body: body(chance, kind),
    }
}
