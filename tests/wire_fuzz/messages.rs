//! Messages of the client and of servers, and what a judge and a client make of whatever they accept.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use emmy::{
    audit::Rules,
    backend::{cpu::Cpu, isa::Isa},
    contract::Contract,
    coordinator::{CUTS_BYTES_MAX, EXTRA_BYTES_MAX, Judge, Share, Totals},
    ledger::Ledger,
    member::{
        judge::{Physics, read_notes},
        message::{
            Arrangement, Ask, Counted, Extra, Grant, Kept, MESSAGE_BYTES_MAX, News, Notes, Remarks, read_particles,
            write_particles,
        },
    },
    node::{Node, State},
    particle::{Mass, Momentum, Names, Particle, ParticleId, Position, Radius},
    partition::RecountShare,
    quanta::{Quanta, Quantum},
    scenario::format::{OnBreach, Scenario},
    server::message::{Begin, Description, Opened, RunStatus, Seat, Status},
    snapshot::{
        root::StateRoot,
        validate::{self, check_history},
    },
    spawn,
    step::Clock,
    text::harmless,
    wire::{DecodeError, Epoch, NodeId, decode, encode},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    chance::Chance,
    hostile,
    made::{self, maybe, some, text},
    number,
    partitions::{scenario_of, state_of},
    sessions,
};

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode(bytes, "message", MESSAGE_BYTES_MAX)
}

/// Reads a lie about a message. What is accepted can be written, and read again with the same bytes.
fn lie<T: Serialize + DeserializeOwned>(chance: &mut Chance, honest: &T) -> Option<T> {
    let bytes = hostile(chance, &[encode(honest)]);
    let found: T = read(&bytes).ok()?;
    let again = encode(&found);
    assert_eq!(encode(&read::<T>(&again).expect("it was just written")), again);
    Some(found)
}

fn ask(chance: &mut Chance) -> Ask {
    Ask { id: number(chance) as u16, epoch: Epoch(number(chance) as u32), step: number(chance) }
}

fn is_shown_harmlessly(text: &str) {
    assert_eq!(harmless(text), text);
    assert!(!text.contains(char::is_control), "{text:?}");
}

// ----------------------------------------------------------------------------------------- the client and members

fn grants(chance: &mut Chance) {
    let right = chance.below(2) == 0;
    let grant = Grant { up_to: number(chance), history: made::history(chance, right) };
    assert!(read::<Grant>(&encode(&grant)).is_ok() || !right, "{grant:?}");
    if let Some(Grant { history, .. }) = lie(chance, &grant) {
        assert_eq!(check_history(&history.ledger, &history.drifts), Ok(()));
        assert!(history.drifts.is_finite());
        history.breaches.iter().for_each(|breach| drop(breach.to_string()));
    }
}

fn news(chance: &mut Chance) {
    let news = News {
        branch: number(chance),
        epoch: Epoch(number(chance) as u32),
        coordinator: made::node(chance),
        members: some(chance, 4, made::node),
        index: number(chance),
        step: number(chance),
        root: made::root(chance),
        notes: read_notes(&made::notes(chance)),
        breaches: some(chance, 2, made::report),
        stopped: chance.below(2) == 0,
        can_decide: chance.below(2) == 0,
    };
    let remarks = Remarks(some(chance, 3, text));
    if let Some(Remarks(found)) = lie(chance, &remarks) {
        found.iter().for_each(|remark| is_shown_harmlessly(remark));
    }
    let clock = Clock { step: number(chance), dt: 0.5, backwards: chance.below(2) == 0 };
    if let Some(found) = lie(chance, &news) {
        assert!(found.notes.is_none_or(|notes| notes.drifts.is_finite()));
        assert!(clock.after(found.step) >= clock.step || clock.backwards);
    }
}

/// The client adds up whatever nodes count.
fn counts(chance: &mut Chance) {
    let counted = Counted {
        ask: ask(chance),
        share: made::recount_share(chance),
        held: made::amounts(chance),
        root: made::root(chance),
    };
    let found = lie(chance, &counted).unwrap_or(counted);
    let share = found.share.plus(made::recount_share(chance));
    let recount = share.recount(&Ledger::default(), number(chance));
    assert!(recount.centre.iter().all(|x| x.is_finite()), "{share:?}");
    let _ = recount.energy();
}

fn small(chance: &mut Chance) {
    let ask = ask(chance);
    lie(chance, &ask);
    let kept = Kept { step: number(chance), root: made::root(chance) };
    lie(chance, &kept);
    let cuts = made::cuts(chance);
    let found = lie(chance, &cuts).unwrap_or(cuts);
    let members = [NodeId(0), NodeId(1), NodeId(2)];
    if found.sound_for(&members) {
        assert!(members.contains(&found.owner(made::root(chance))) && members.contains(&found.owner(0)));
    }
}

// ----------------------------------------------------------------------------------------- the judge

fn judge(history: OnceLock<emmy::node::History>) -> Physics {
    let quanta = Quanta { position: Quantum(-40), momentum: Quantum(-60), mass: Quantum(-50), energy: Quantum(-70) };
    let rules = Rules {
        angular_momentum: true,
        energy_every: 1,
        energy_step_tolerance: None,
        energy_tolerance: Some(1e-3),
        centre_of_mass_tolerance: Some(1.0),
        on_breach: OnBreach::Record,
    };
    Physics { rules, quanta, start: Clock { step: 3, dt: 0.5, backwards: false }, history: Arc::new(history) }
}

/// Whoever coordinates judges by what members send and by the notes of decisions before, which a peer wrote.
fn judges(chance: &mut Chance) {
    let history = OnceLock::new();
    if chance.below(2) == 0 {
        history.set(made::history(chance, true)).expect("it is new");
    }
    let judge = judge(history);
    let notes = match chance.below(4) {
        0 => Vec::new(),
        1 => made::notes(chance),
        _ => {
            let honest = made::notes(chance);
            hostile(chance, &[honest])
        }
    };
    let mut share = |node: u16| (NodeId(node), Share { extra: extra(chance), ..made::share(chance) });
    let shares: BTreeMap<NodeId, Share> = (0..3).map(&mut share).collect();
    let cuts = judge.cuts(5, &shares);
    assert!(cuts.len() <= CUTS_BYTES_MAX);
    if !cuts.is_empty() {
        let members = [NodeId(0), NodeId(1), NodeId(2)];
        let read: Arrangement = decode(&cuts, "arrangement", CUTS_BYTES_MAX).expect("it was just written");
        assert!(read.cuts.as_ref().is_none_or(|cuts| cuts.sound_for(&members)));
        assert_eq!(Arrangement::from_bytes(&cuts, &members), read);
    }
    assert!(!judge.is_ready(&notes) || notes.is_empty() || read_notes(&notes).is_some());
    if judge.is_ready(&notes) {
        let (_, after) = judge.judge(number(chance), &notes, &shares, &Totals::default());
        // What comes of it may be beyond what a run can have; then nobody judges by it.
        let _ = judge.is_ready(&after);
    }
}

fn extra(chance: &mut Chance) -> Vec<u8> {
    let honest = made::extra(chance);
    let bytes = if chance.below(2) == 0 { encode(&honest) } else { hostile(chance, &[encode(&honest)]) };
    if let Ok(found) = decode::<Extra>(&bytes, "share", EXTRA_BYTES_MAX) {
        drop(encode(&found));
    }
    bytes
}

// ----------------------------------------------------------------------------------------- particles and servers

fn particle(chance: &mut Chance, k: u64) -> Particle {
    let mut any = || if chance.below(8) == 0 { number(chance) as i64 } else { chance.below(1 << 40) as i64 };
    Particle {
        id: ParticleId(k),
        position: Position([any(), any(), any()]),
        momentum: Momentum([any(), any(), any()]),
        mass: Mass { quanta: any().saturating_abs().max(1), pulls: any() % 3 > 0 },
        radius: Radius(any()),
    }
}

fn particles(chance: &mut Chance) {
    let all: Vec<Particle> = (0..chance.below(6)).map(|k| particle(chance, k)).collect();
    let right = all.iter().all(|particle| particle.check(61).is_ok());
    let head = ask(chance);
    let bytes = write_particles(&head, &all);
    assert_eq!(read_particles::<Ask>(&bytes).ok(), right.then_some((head, all)));
    let lie = hostile(chance, &[bytes]);
    if let Ok((_, found)) = read_particles::<Ask>(&lie) {
        assert!(found.iter().all(|particle| particle.check(61).is_ok()));
        assert!(72 * found.len() <= lie.len());
        let _ = StateRoot::of_particles(&found);
    }
}

/// What a server accepts as the start of a run can be run, whatever becomes of its steps.
fn starts(chance: &mut Chance) {
    static SCENARIO: OnceLock<(Scenario, State)> = OnceLock::new();
    let (scenario, state) = SCENARIO.get_or_init(|| {
        let state = state_of(Contract::Fast32, "0.02");
        (scenario_of(Contract::Fast32, "0.02"), state)
    });
    let (mut quanta, mut particles) = (state.quanta, state.particles.clone());
    for _ in 0..=chance.below(3) {
        let at = chance.below(particles.len() as u64) as usize;
        let small = chance.below(9) as i32 - 4;
        match chance.below(5) {
            0 => particles[at] = particle(chance, at as u64),
            1 => particles[at].position.0 = [number(chance) as i64 % (1 << 48); 3],
            2 => quanta.momentum.0 = quanta.momentum.0.wrapping_add(number(chance) as i32),
            3 => quanta.energy.0 += small,
            _ => quanta.position.0 += small,
        }
    }
    if validate::check_start(scenario, &quanta, &particles).is_ok() {
        let state = spawn::state_of(scenario, quanta, particles, Names::default());
        let mut node = Node::new(state, Cpu::new(Isa::widest(), 1).expect("a thread"));
        assert!(node.advance(2) <= 2);
    }
}

fn description(chance: &mut Chance) -> Description {
    let right = chance.below(2) == 0;
    Description {
        run: number(chance),
        program: text(chance),
        scenario: text(chance),
        names: some(chance, 3, |chance| (number(chance), text(chance))).into_iter().collect(),
        quanta: Quanta {
            position: Quantum(number(chance) as i32),
            momentum: Quantum(number(chance) as i32),
            mass: Quantum(-3),
            energy: Quantum(5),
        },
        step: number(chance),
        history: maybe(chance, |chance| made::history(chance, right)),
        root: made::root(chance),
        seats: some(chance, 3, |chance| Seat { key: text(chance), address: text(chance) }),
        you: number(chance) as u16,
        joins: chance.below(2) == 0,
        lives: some(chance, 3, number),
    }
}

fn status(chance: &mut Chance) -> Status {
    let run = |chance: &mut Chance| RunStatus {
        name: text(chance),
        node: 1,
        epoch: number(chance) as u32,
        alone: chance.below(2) == 0,
        coordinator: maybe(chance, |chance| number(chance) as u16),
        members: some(chance, 3, |chance| number(chance) as u16),
        step: number(chance),
        root: text(chance),
        particles: number(chance),
        phi_hundredths: some(chance, 3, |chance| (number(chance) as u16, number(chance) as u32)),
    };
    Status {
        program: text(chance),
        up_seconds: f64::from_bits(number(chance)),
        runs: number(chance),
        threads: number(chance) as u32,
        isa: text(chance),
        run: maybe(chance, run),
    }
}

fn servers(chance: &mut Chance) {
    let description = description(chance);
    if let Some(found) = lie(chance, &description) {
        is_shown_harmlessly(&found.program);
        found.seats.iter().for_each(|seat| is_shown_harmlessly(&seat.key));
    }
    let refused = Opened::Refused { run: number(chance), why: text(chance) };
    let ready = Opened::Ready { run: number(chance), life: 1, threads: 2, isa: text(chance) };
    for opened in [refused, ready] {
        if let Some(Opened::Refused { why: shown, .. } | Opened::Ready { isa: shown, .. }) = lie(chance, &opened) {
            is_shown_harmlessly(&shown);
        }
    }
    let begin = Begin { run: number(chance), lives: some(chance, 5, number) };
    lie(chance, &begin);
    let status = status(chance);
    if let Some(found) = lie(chance, &status) {
        let shown = serde_json::to_string(&found).expect("a status is plain");
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}

#[test]
fn messages_of_a_liar_are_refused_or_can_be_used() {
    let one_of_each = |chance: &mut Chance| {
        grants(chance);
        news(chance);
        counts(chance);
        small(chance);
        judges(chance);
        particles(chance);
        starts(chance);
        servers(chance);
        // What each of them reads: lies, and what it wrote itself.
        19
    };
    sessions("messages", 130, one_of_each);
}

#[test]
fn a_record_that_is_no_number_is_refused() {
    let mut chance = Chance::new(1, 1);
    let right = Grant { up_to: 5, history: made::history(&mut chance, true) };
    assert_eq!(read::<Grant>(&encode(&right)).as_ref(), Ok(&right));
    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut drifts = right.history.drifts;
        drifts.centre_max = wrong;
        let history = emmy::node::History { drifts, ..right.history.clone() };
        assert!(read::<Grant>(&encode(&Grant { up_to: 5, history })).is_err(), "{wrong}");
        let notes = encode(&Notes { ledger: Ledger::default(), drifts });
        assert_eq!(read_notes(&notes), None, "{wrong}");
    }
}

#[test]
fn shares_at_the_edges_of_128_bits_are_added_without_leaving_them() {
    for edge in [i128::MAX, i128::MIN] {
        let share = RecountShare { kinetic: edge, binding: edge, ..RecountShare::default() };
        let recount = share.plus(share).recount(&Ledger::default(), 1);
        let mut drifts = made::drifts(&mut Chance::new(1, 1), true);
        let judge = judge(OnceLock::new());
        let taken = drifts.take(&recount, 0.0, &judge.quanta, &judge.rules);
        assert!(taken.is_err() && drifts.is_finite(), "{edge}: {drifts:?}");
    }
}
