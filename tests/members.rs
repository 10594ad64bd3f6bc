//! Whole members (partition, step protocol, transport) give the bits of one node, and go on when some of them die, send what
//! nobody can use, or keep back what the others wait for.

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
    exchange::message::Kind,
    member::{Member, Setup},
    node::{Node, State},
    remote::Remote,
    run::engine::Engine,
    scenario::{generate, read},
    spawn,
    transport::{
        Capabilities, Event, Path as Way, PostError, Tag, Transport,
        memory::{Loopback, hub},
    },
    wire::{Epoch, Incarnation, NodeId, Time},
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
        suspect_ns_min: 60 * MS,
        suspect_ns_max: 100 * MS,
        patience_ns: 30 * MS,
        report_ns: 30 * MS,
        bid_ns: 100 * MS,
        stall_ns: 300 * MS,
        boundary_every: 8,
        seed: u64::from(node),
        ..Options::default()
    }
}

/// What becomes of a block: other bytes, or nothing.
type Spoil = Box<dyn FnMut(NodeId, Tag, Vec<u8>) -> Option<Vec<u8>>>;

/// Carries blocks within this thread, and spoils what it is told to.
struct Carrier {
    inner: Loopback,
    spoil: Option<Spoil>,
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl Transport for Carrier {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn post(&mut self, to: NodeId, tag: Tag, bytes: Vec<u8>) -> Result<(), PostError> {
        let bytes = match &mut self.spoil {
            Some(spoil) => spoil(to, tag, bytes),
            None => Some(bytes),
        };
        bytes.map_or(Ok(()), |bytes| self.inner.post(to, tag, bytes))
    }

    fn is_full(&self, to: NodeId, bytes: usize) -> bool {
        self.inner.is_full(to, bytes)
    }

    fn poll(&mut self, now: Time) -> Option<Event> {
        self.inner.poll(now)
    }

    fn path(&self, to: NodeId) -> Option<Way> {
        self.inner.path(to)
    }

    fn parts_received(&self) -> u64 {
        self.inner.parts_received()
    }

    fn cancel_before(&mut self, epoch: Epoch) {
        self.inner.cancel_before(epoch);
    }

    fn give_up(&mut self, peer: NodeId) {
        self.inner.give_up(peer);
    }
}

/// From poll to poll [ns].
const TICK: u64 = 100_000;

/// Members that live in this thread and move whenever the client waits; their clock goes a tenth of a millisecond at a time.
struct Town {
    members: Rc<RefCell<Vec<Option<Member<Carrier>>>>>,
    now: Rc<Cell<u64>>,
}

fn town(state: &State, nodes: u16) -> (Town, Remote<Carrier>) {
    let ids: Vec<NodeId> = (0..nodes).map(NodeId).collect();
    let hub = hub(&[&ids[..], &[NodeId::CLIENT]].concat());
    let mut hub: Vec<Carrier> = hub.into_iter().map(|inner| Carrier { inner, spoil: None }).collect();
    let client = hub.pop().expect("the client");
    let setup = Setup::even(state.clone(), ids.iter().map(|&node| (node, Incarnation(0))).collect());
    let shared = Arc::new(cpu());
    let member = |(transport, &node): (Carrier, &NodeId)| {
        Some(Member::starting(node, setup.clone(), Arc::clone(&shared), transport, options(node.0), Time(0)))
    };
    let members: Vec<_> = hub.into_iter().zip(&ids).map(member).collect();
    let town = Town { members: Rc::new(RefCell::new(members)), now: Rc::default() };
    let (members, clock) = (Rc::clone(&town.members), Rc::clone(&town.now));
    let idle = Box::new(move |_: &mut Carrier| {
        clock.set(clock.get() + TICK);
        for member in members.borrow_mut().iter_mut().flatten() {
            member.poll(Time(clock.get()));
        }
    });
    let remote = Remote::new(setup, cpu(), client, 60.0, idle).expect("all are there");
    (town, remote)
}

impl Town {
    fn spoil(&self, node: usize, spoil: impl FnMut(NodeId, Tag, Vec<u8>) -> Option<Vec<u8>> + 'static) {
        let mut members = self.members.borrow_mut();
        members[node].as_mut().expect("it lives").transport_mut().spoil = Some(Box::new(spoil));
    }

    /// Who takes part, as the lowest node that lives sees it, without those that are to be left out.
    fn members(&self) -> Vec<u16> {
        let members = self.members.borrow();
        let configs = members.iter().flatten().filter_map(|member| member.machine().config());
        let newest = configs.max_by_key(|config| config.epoch).expect("somebody takes part");
        newest.nodes().map(|node| node.0).collect()
    }

    /// All but one go on for a while.
    fn let_sleep(&self, sleeper: usize, ns: u64) {
        for _ in 0..ns / TICK {
            self.now.set(self.now.get() + TICK);
            let mut members = self.members.borrow_mut();
            let awake = members.iter_mut().enumerate().filter(|(node, _)| *node != sleeper);
            awake.filter_map(|(_, member)| member.as_mut()).for_each(|member| _ = member.poll(Time(self.now.get())));
        }
    }

    fn kill(&self, node: usize) {
        self.members.borrow_mut()[node] = None;
    }
}

fn assert_alike(one: &mut Node, many: &mut Remote<Carrier>, what: &str) {
    assert_eq!(many.clock(), one.clock(), "{what}: the clock");
    assert_eq!(many.root(), one.root(), "{what}: the state root");
    assert_eq!(many.ledger(), one.ledger(), "{what}: the book");
    assert_eq!(many.counted(), one.counted(), "{what}: what was counted");
    assert_eq!(many.drifts(), one.drifts(), "{what}: the record of drifts");
    assert_eq!(many.count_bounded(), one.count_bounded(), "{what}: energy and centre");
    assert_eq!(many.particles(), one.particles(), "{what}: the particles");
    assert_eq!(many.breaches(), one.breaches(), "{what}: breaches");
}

fn advance(many: &mut Remote<Carrier>, steps: u64) {
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

#[test]
fn a_block_that_cannot_be_used_costs_an_epoch_and_no_bit() {
    let state = sphere(Contract::Native64, 60);
    for (kind, at) in [(Kind::Halo, 3), (Kind::Return, 13), (Kind::Migrants, 6), (Kind::Halo, 0)] {
        let mut one = Node::new(state.clone(), cpu());
        let (town, mut many) = town(&state, 4);
        advance(&mut many, at);
        let mut left = 1;
        town.spoil(2, move |_, tag, mut bytes| {
            if tag.kind == kind as u16 && left > 0 {
                left -= 1;
                bytes.push(0);
            }
            Some(bytes)
        });
        one.advance(at + 30);
        advance(&mut many, 30);
        assert_alike(&mut one, &mut many, &format!("a {kind:?} after step {at}"));
        assert_eq!(many.epochs(), 2, "{kind:?}: the step was taken again in another epoch");
        assert_eq!(town.members(), [0, 1, 2, 3], "{kind:?}: once is forgiven");
    }
}

#[test]
fn whoever_sends_what_cannot_be_used_again_and_again_is_left_out() {
    let state = sphere(Contract::Native64, 60);
    for culprit in 0..4 {
        for kind in [Kind::Halo, Kind::Migrants] {
            let mut one = Node::new(state.clone(), cpu());
            let (town, mut many) = town(&state, 4);
            advance(&mut many, 5);
            town.spoil(culprit, move |_, tag, bytes| {
                let spoilt = tag.kind == kind as u16;
                Some(if spoilt { vec![9; 7] } else { bytes })
            });
            one.advance(45);
            advance(&mut many, 40);
            assert_alike(&mut one, &mut many, &format!("node {culprit} sends a {kind:?} of nonsense"));
            let others: Vec<u16> = (0..4).filter(|node| usize::from(*node) != culprit).collect();
            assert_eq!(town.members(), others, "node {culprit}, {kind:?}");
            assert_eq!(many.epochs(), 3, "the first time is forgiven");
        }
    }
}

#[test]
fn whoever_keeps_back_what_the_others_wait_for_is_left_out() {
    let state = sphere(Contract::Native64, 60);
    for culprit in 0..4 {
        let mut one = Node::new(state.clone(), cpu());
        let (town, mut many) = town(&state, 4);
        advance(&mut many, 5);
        // Everything of the step protocol goes on, but no impulses come back.
        town.spoil(culprit, |_, tag, bytes| (tag.kind != Kind::Return as u16).then_some(bytes));
        one.advance(30);
        advance(&mut many, 25);
        assert_alike(&mut one, &mut many, &format!("node {culprit} keeps impulses back"));
        if culprit != 0 {
            assert!(!town.members().contains(&(culprit as u16)), "node {culprit} is left out");
        }
    }
}

#[test]
fn a_nap_costs_no_epoch() {
    let state = sphere(Contract::Native64, 60);
    let mut one = Node::new(state.clone(), cpu());
    let (town, mut many) = town(&state, 4);
    for sleeper in 0..4 {
        one.advance(3);
        advance(&mut many, 3);
        town.let_sleep(sleeper, options(0).suspect_ns_min * 9 / 10);
    }
    one.advance(10);
    advance(&mut many, 10);
    assert_alike(&mut one, &mut many, "everybody has slept once");
    assert_eq!(many.epochs(), 1);
}

#[test]
fn a_survivor_that_is_let_go_on_alone_ends_the_run_with_the_same_bits_and_says_so() {
    let state = sphere(Contract::Native64, 40);
    let mut one = Node::new(state.clone(), cpu());
    let (town, mut many) = town(&state, 3);
    advance(&mut many, 20);
    town.kill(1);
    town.kill(2);
    let now = Time(town.now.get());
    town.members.borrow_mut()[0].as_mut().expect("it lives").go_on_alone(now);
    one.advance(50);
    advance(&mut many, 30);
    assert_alike(&mut one, &mut many, "one of three");
    assert_ne!(many.branch(), 0, "it is a branch, by name");
}
