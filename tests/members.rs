//! Whole members (partition, step protocol, transport) give the bits of one node, and go on when some of them die.

use std::{
    cell::{Cell, RefCell},
    path::Path,
    rc::Rc,
    sync::Arc,
};

use emmy::{
    backend::{cpu::Cpu, isa::Isa},
    contract::Contract,
    coordinator::Options,
    member::{Member, Setup},
    node::{Node, State},
    remote::Remote,
    run::engine::Engine,
    scenario::{generate, read},
    spawn,
    transport::memory::{Loopback, hub},
    wire::{Incarnation, NodeId, Time},
};

fn state_of(text: &str) -> State {
    let scenario = read::read("test", text, &[]).unwrap_or_else(|report| panic!("{:?}", miette::Report::from(report)));
    let bodies = generate::population(&scenario, Path::new(".")).expect("the scenario is right");
    spawn::state(&scenario, &bodies).unwrap_or_else(|faults| panic!("the bodies fit their quanta: {faults:?}"))
}

fn sphere(contract: Contract, count: usize) -> State {
    let tests: String = (0..5)
        .map(|k| format!("(mass: 0, inertia: 0.001, position: (-{k}.3, 1, 0.{k}), velocity: (0.1, -0.{k}, 0)),"))
        .collect();
    state_of(&format!(
        "(version: 1, name: \"sphere\", contract: {contract}, integrator: Leapfrog(dt: 0.02), until: Steps(100000), \
         generators: [Plummer(count: {count}, mass: 1.0, radius: 1.0, place: (seed: 3))], bodies: [{tests}], \
         gravity: (softening: 0.05), audit: (energy_every: 7))"
    ))
}

fn cpu() -> Cpu {
    Cpu::new(Isa::widest(), 1).expect("a thread")
}

fn options(node: u16) -> Options {
    const MS: u64 = 1_000_000;
    Options {
        beat_ns: 5 * MS,
        resend_ns: 5 * MS,
        suspect_ns_max: 100 * MS,
        patience_ns: 30 * MS,
        report_ns: 30 * MS,
        bid_ns: 100 * MS,
        boundary_every: 8,
        seed: u64::from(node),
        ..Options::default()
    }
}

/// From poll to poll [ns].
const TICK: u64 = 100_000;

/// Members that live in this thread and move whenever the client waits; their clock goes a tenth of a millisecond at a time.
struct Town {
    members: Rc<RefCell<Vec<Option<Member<Loopback>>>>>,
    now: Rc<Cell<u64>>,
}

fn town(state: &State, nodes: u16) -> (Town, Remote<Loopback>) {
    let ids: Vec<NodeId> = (0..nodes).map(NodeId).collect();
    let mut hub = hub(&[&ids[..], &[NodeId::CLIENT]].concat());
    let client = hub.pop().expect("the client");
    let setup = Setup::even(state.clone(), ids.iter().map(|&node| (node, Incarnation(0))).collect());
    let shared = Arc::new(cpu());
    let member = |(transport, &node): (Loopback, &NodeId)| {
        Some(Member::starting(node, setup.clone(), Arc::clone(&shared), transport, options(node.0), Time(0)))
    };
    let members: Vec<_> = hub.into_iter().zip(&ids).map(member).collect();
    let town = Town { members: Rc::new(RefCell::new(members)), now: Rc::default() };
    let (members, clock) = (Rc::clone(&town.members), Rc::clone(&town.now));
    let idle = Box::new(move |_: &mut Loopback| {
        clock.set(clock.get() + TICK);
        for member in members.borrow_mut().iter_mut().flatten() {
            member.poll(Time(clock.get()));
        }
    });
    let remote = Remote::new(setup, cpu(), client, 60.0, idle).expect("all are there");
    (town, remote)
}

impl Town {
    fn kill(&self, node: usize) {
        self.members.borrow_mut()[node] = None;
    }
}

fn assert_alike(one: &mut Node, many: &mut Remote<Loopback>, what: &str) {
    assert_eq!(many.clock(), one.clock(), "{what}: the clock");
    assert_eq!(many.root(), one.root(), "{what}: the state root");
    assert_eq!(many.ledger(), one.ledger(), "{what}: the book");
    assert_eq!(many.counted(), one.counted(), "{what}: what was counted");
    assert_eq!(many.drifts(), one.drifts(), "{what}: the record of drifts");
    assert_eq!(many.count_bounded(), one.count_bounded(), "{what}: energy and centre");
    assert_eq!(many.particles(), one.particles(), "{what}: the particles");
    assert_eq!(many.breaches(), one.breaches(), "{what}: breaches");
}

fn advance(many: &mut Remote<Loopback>, steps: u64) {
    let target = many.clock().step + steps;
    while many.clock().step < target && !many.stopped() && !many.stands_still() {
        many.advance(target - many.clock().step);
    }
}

#[test]
fn any_number_of_members_gives_the_bits_and_books_of_one_node() {
    for contract in [Contract::Native64, Contract::Fast32] {
        let state = sphere(contract, 80);
        for nodes in [1, 2, 3, 4, 5, 8] {
            let mut one = Node::new(state.clone(), cpu());
            let (_town, mut many) = town(&state, nodes);
            for steps in [1, 2, 9, 30] {
                one.advance(steps);
                advance(&mut many, steps);
                assert_alike(&mut one, &mut many, &format!("{contract}, {nodes} members"));
            }
            assert_eq!(many.epochs(), 1);
        }
    }
}

#[test]
fn a_run_goes_on_with_the_same_bits_whoever_dies() {
    let state = sphere(Contract::Native64, 60);
    for victim in 0..4 {
        for at in [0, 3, 13, 29] {
            let mut one = Node::new(state.clone(), cpu());
            let (town, mut many) = town(&state, 4);
            one.advance(at);
            advance(&mut many, at);
            town.kill(victim);
            one.advance(40);
            advance(&mut many, 40);
            assert_alike(&mut one, &mut many, &format!("node {victim} dies after step {at}"));
            assert!(many.epochs() > 1, "an epoch without it has begun");
        }
    }
}

#[test]
fn a_minority_never_decides() {
    let state = sphere(Contract::Native64, 40);
    let (town, mut many) = town(&state, 3);
    advance(&mut many, 10);
    town.kill(1);
    town.kill(2);
    many.allow(50);
    let committed = || town.members.borrow()[0].as_ref().expect("it lives").machine().committed();
    let before = committed();
    assert_eq!(before, many.clock().step);
    // More steps are allowed, and there are ten seconds to take them; but the client would wait for a minute, so it is not asked.
    for tick in 0..100_000_u64 {
        let now = Time(town.now.get() + TICK * tick);
        town.members.borrow_mut().iter_mut().flatten().for_each(|member| _ = member.poll(now));
    }
    assert_eq!(committed(), before, "nothing was decided without a majority");
}

#[test]
fn a_breach_is_reported_as_on_one_node() {
    let state = state_of(
        "(version: 1, name: \"collision\", integrator: Leapfrog(dt: 0.01), until: Steps(1000), \
         quanta: Auto(headroom: 2), bodies: [\
         (name: \"a\", mass: 1, position: (-0.5, 0, 0), velocity: (0, 0, 0)), (name: \"b\", mass: 1, position: (0.5, 0, 0), velocity: (0, 0, 0)), \
         (name: \"c\", mass: 1, position: (3, 9, 1), velocity: (0.1, 0, 0)), (name: \"d\", mass: 1, position: (-5, 0, 5), velocity: (0, 0, 0))])",
    );
    for nodes in [1, 2, 3, 4] {
        let mut one = Node::new(state.clone(), cpu());
        let (_town, mut many) = town(&state, nodes);
        one.advance(1000);
        advance(&mut many, 1000);
        assert!(many.stopped(), "{nodes} members");
        assert_alike(&mut one, &mut many, &format!("{nodes} members"));
    }
}
