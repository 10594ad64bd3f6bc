//! Whole members under a member that lies: copies of what was really sent, changed, with the name of a peer that is one of them. None of
//! the honest ones panics, and what they keep stays within bounds.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{Arc, Once, OnceLock},
};

use emmy::{
    backend::{cpu::Cpu, isa::Isa},
    contract::Contract,
    coordinator::{Ballot, Body, Config, Decision, Letter, Options},
    member::{Member, Setup, message},
    node::State,
    remote::Remote,
    transport::{Capabilities, Event, Path, PostError, Tag, Transport},
    wire::{Epoch, Incarnation, NodeId, Time},
};

use crate::{chance::Chance, hostile, made, number, partitions::state_of, sessions};

const MS: u64 = 1_000_000;
const NODES: u16 = 3;
/// Blocks that the wire remembers, for lies.
const HEARD_MAX: usize = 40;

/// What is under way, and what was.
#[derive(Debug, Default)]
struct Net {
    queues: Vec<VecDeque<Event>>,
    heard: VecDeque<(NodeId, Tag, Vec<u8>)>,
}

/// One end of the wire: everything arrives at once, in order.
#[derive(Debug)]
struct Wire {
    me: NodeId,
    net: Rc<RefCell<Net>>,
}

fn place(node: NodeId) -> usize {
    usize::from(node.0.min(NODES))
}

impl Transport for Wire {
    fn capabilities(&self) -> Capabilities {
        Capabilities { crosses_a_network: true, block_max: 1 << 28 }
    }

    fn post(&mut self, to: NodeId, tag: Tag, bytes: Vec<u8>) -> Result<(), PostError> {
        if to != NodeId::CLIENT && to.0 >= NODES {
            return Err(PostError::Unknown(to));
        }
        let mut net = self.net.borrow_mut();
        net.heard.push_back((self.me, tag, bytes.clone()));
        if net.heard.len() > HEARD_MAX {
            net.heard.pop_front();
        }
        let received = Event::Received { from: self.me, incarnation: Incarnation(0), tag, bytes };
        net.queues[place(to)].push_back(received);
        net.queues[place(self.me)].push_back(Event::Delivered { to, tag });
        Ok(())
    }

    fn is_full(&self, _: NodeId, _: usize) -> bool {
        false
    }

    fn poll(&mut self, _: Time) -> Option<Event> {
        self.net.borrow_mut().queues[place(self.me)].pop_front()
    }

    fn path(&self, _: NodeId) -> Option<Path> {
        None
    }

    fn parts_received(&self) -> u64 {
        0
    }

    fn cancel_before(&mut self, _: Epoch) {}

    fn give_up(&mut self, _: NodeId) {}
}

/// How a liar lies. One way alone, because a panic ends a run, and the commonest would hide the others.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// Bytes of what is no letter are changed: blocks, copies, receipts.
    Blocks,
    /// Letters of any kind, about any step, and bytes of letters.
    Letters,
    /// Decisions that are all but right.
    Decisions,
    /// Configurations that are all but right.
    Configurations,
}

/// Members that move while the client waits, and a liar among them.
struct Town {
    members: Vec<Member<Wire>>,
    net: Rc<RefCell<Net>>,
    now: u64,
    chance: Chance,
    /// The member whose name is under every lie: the one that decides, or another.
    liar: NodeId,
    habit: Habit,
    /// Lies that are still to be told.
    lies: u64,
}

fn state() -> &'static State {
    static STATE: OnceLock<State> = OnceLock::new();
    STATE.get_or_init(|| state_of(Contract::Native64, "0.02"))
}

fn cpu() -> Cpu {
    Cpu::new(Isa::widest(), 1).expect("a thread")
}

fn options(node: u16) -> Options {
    Options {
        beat_ns: 5 * MS,
        resend_ns: 5 * MS,
        suspect_ns_max: 100 * MS,
        patience_ns: 30 * MS,
        report_ns: 30 * MS,
        bid_ns: 100 * MS,
        boundary_every: 4,
        seed: u64::from(node),
        ..Options::default()
    }
}

impl Town {
    fn new(setup: &Setup, chance: Chance, habit: Habit) -> Self {
        let net = Rc::new(RefCell::new(Net::default()));
        net.borrow_mut().queues.resize_with(usize::from(NODES) + 1, VecDeque::new);
        let shared = Arc::new(cpu());
        let member = |node: u16| {
            let wire = Wire { me: NodeId(node), net: Rc::clone(&net) };
            Member::starting(NodeId(node), setup.clone(), Arc::clone(&shared), wire, options(node), Time(0))
        };
        let members = (0..NODES).map(member).collect();
        let mut chance = chance;
        let liar = NodeId(chance.below(2) as u16);
        Self { members, net, now: 0, chance, liar, habit, lies: 0 }
    }

    fn pass(&mut self) {
        self.now += MS / 10;
        if self.lies > 0 && self.chance.below(4) == 0 {
            self.lies -= 1;
            self.lie();
        }
        for member in &mut self.members {
            member.poll(Time(self.now));
            drop(member.take_events());
            drop(member.take_others());
        }
        self.check_bounds();
    }

    /// A lie to one of the others.
    fn lie(&mut self) {
        let to = self.liar.0 + 1 + self.chance.below(2) as u16;
        let to = usize::from(to % NODES);
        let config = self.members[to].machine().config().cloned();
        let (chance, liar) = (&mut self.chance, self.liar);
        let mut net = self.net.borrow_mut();
        let blocks_only = matches!(self.habit, Habit::Blocks);
        let may_be = |tag: &Tag| !(blocks_only && tag.kind == message::Kind::Letter as u16);
        let sent: Vec<_> = net.heard.iter().filter(|(from, tag, _)| *from == liar && may_be(tag)).cloned().collect();
        let Some((_, tag, _)) = chance.pick(&sent).cloned() else { return };
        let alike: Vec<Vec<u8>> =
            sent.into_iter().filter(|(_, other, _)| other.kind == tag.kind).map(|(.., bytes)| bytes).collect();
        let bytes = match message::Kind::of(tag.kind) {
            Some(message::Kind::Letter) => changed_letter(chance, self.habit, &alike, config),
            _ => hostile(chance, &alike),
        };
        let other = if chance.below(8) == 0 { other_tag(chance, tag) } else { tag };
        let tag = if may_be(&other) { other } else { tag };
        net.queues[to].push_back(Event::Received { from: liar, incarnation: Incarnation(0), tag, bytes });
    }

    fn check_bounds(&self) {
        for member in &self.members {
            let [log, stored, copies, snapshots] = member.machine().sizes();
            assert!(log <= 512 && stored <= 2 && copies <= 1024 && snapshots <= 4, "{:?}", member.machine().sizes());
        }
    }
}

/// A letter whose fence is right, and whose contents are another's or all but right.
fn changed_letter(chance: &mut Chance, habit: Habit, honest: &[Vec<u8>], config: Option<Config>) -> Vec<u8> {
    let read = chance.pick(honest).map(|bytes| Letter::from_bytes(bytes));
    let Some(Ok(mut letter)) = read else { return Vec::new() };
    match (habit, &mut letter.body, config) {
        (Habit::Decisions, Body::Accept(decision) | Body::Decide(decision), _) => {
            change_decision(chance, decision);
            if chance.below(2) == 0 {
                letter.body = Body::Decide(decision.clone());
            }
        }
        (Habit::Configurations, _, Some(config)) => {
            let config = Box::new(changed_config(chance, config));
            let ballot = Ballot { round: number(chance) as u32, node: letter_node(chance) };
            letter.body = if chance.below(2) == 0 { Body::Begin(config) } else { Body::Propose { ballot, config } };
        }
        (Habit::Letters, ..) if chance.below(4) > 0 => {
            let kind = chance.below(made::BODIES);
            letter.body = made::body(chance, kind);
            near(chance, &mut letter.body);
        }
        _ => return hostile(chance, honest),
    }
    letter.to_bytes()
}

fn letter_node(chance: &mut Chance) -> NodeId {
    NodeId(chance.below(u64::from(NODES)) as u16)
}

/// Steps and indices that are those of the moment, or of the one before or after it.
fn near(chance: &mut Chance, body: &mut Body) {
    let close = chance.below(8);
    match body {
        Body::Vote { step, .. } | Body::Halt { step, .. } | Body::Again { step, .. } => *step = close,
        Body::Accepted { index, .. } | Body::Beat { index, .. } => *index = close,
        Body::Copied(copy) => copy.step = close,
        Body::Prepare(ballot) | Body::Agreed(ballot) | Body::Query(ballot) | Body::Promise { ballot, .. } => {
            *ballot = Ballot { round: chance.below(4) as u32, node: letter_node(chance) };
        }
        _ => {}
    }
}

fn change_decision(chance: &mut Chance, decision: &mut Decision) {
    let other = made::decision(chance);
    for _ in 0..=chance.below(2) {
        match chance.below(9) {
            0 => decision.index = decision.index.wrapping_add(chance.below(3)).wrapping_sub(1),
            1 => decision.step = decision.step.wrapping_add(chance.below(3)).wrapping_sub(1),
            2 => decision.verdict = other.verdict.clone(),
            3 => decision.boundary.clone_from(&other.boundary),
            4 => decision.copy.clone_from(&other.copy),
            5 => decision.notes.clone_from(&other.notes),
            6 => decision.next_boundary = number(chance),
            7 => decision.totals = other.totals,
            _ => decision.previous = other.previous,
        }
    }
}

/// The successor of a configuration, right but for a few things.
fn changed_config(chance: &mut Chance, config: Config) -> Config {
    let mut next = Config { epoch: Epoch(config.epoch.0.wrapping_add(1)), ..config };
    for _ in 0..chance.below(3) {
        match chance.below(9) {
            0 => next.epoch = Epoch(number(chance) as u32),
            1 => next.coordinator = letter_node(chance),
            2 => drop(next.members.pop()),
            3 => next.restart.step = chance.below(8),
            4 => next.head.index = chance.below(8),
            5 => next.notes = made::notes(chance),
            6 => next.head.step = chance.below(8),
            7 => next.adoption = next.adoption.keys().map(|node| (*node, letter_node(chance))).collect(),
            _ => next.next_boundary = number(chance),
        }
    }
    next
}

fn other_tag(chance: &mut Chance, tag: Tag) -> Tag {
    match chance.below(4) {
        0 => Tag { kind: chance.below(40) as u16, ..tag },
        1 => Tag { part: number(chance) as u16, ..tag },
        2 => Tag { step: number(chance), ..tag },
        _ => Tag { epoch: Epoch(number(chance) as u32), ..tag },
    }
}

/// Lies of a run, and how often the members move in it: long enough for a change of the epoch.
const LIES: u64 = 100;
const PASSES: u64 = 2500;

fn a_run_with_a_liar(chance: &mut Chance, habit: Habit) -> u64 {
    let nodes = (0..NODES).map(|node| (NodeId(node), Incarnation(0))).collect();
    let setup = Setup::even(state().clone(), nodes);
    let town = Town::new(&setup, chance.clone(), habit);
    let wire = Wire { me: NodeId::CLIENT, net: Rc::clone(&town.net) };
    let town = Rc::new(RefCell::new(town));
    let (clock, moves) = (Rc::clone(&town), Rc::clone(&town));
    let now = Box::new(move || Time(clock.borrow().now));
    let idle = Box::new(move |_: &mut Wire| moves.borrow_mut().pass());
    // The run begins among honest members. Later nobody waits for anything: a lie may stop all of it, and that is no panic.
    let mut remote = Remote::with_clock(setup, cpu(), wire, 10.0, (now, idle)).expect("they answer");
    remote.allow(40);
    town.borrow_mut().lies = LIES;
    for _ in 0..PASSES {
        town.borrow_mut().pass();
    }
    LIES
}

thread_local! {
    /// What the last panic of this thread said, and whether that is all that is to become of it.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
    static LISTENS: Cell<bool> = const { Cell::new(false) };
}

/// Keeps what panics of threads that listen say; those of others are told as ever.
fn listen_to_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if LISTENS.get() {
                SAID.set(panic.to_string().chars().take(300).collect());
            } else {
                before(panic);
            }
        }));
    });
}

/// Runs with liars of a habit, and tells the panics that were met, each with the first session that meets it.
fn met(habit: Habit) -> String {
    listen_to_panics();
    let (found, session) = (RefCell::new(BTreeMap::new()), Cell::new(0_u64));
    sessions(&format!("members, {habit:?}"), 10, |chance| {
        LISTENS.set(true);
        let outcome = catch_unwind(AssertUnwindSafe(|| a_run_with_a_liar(chance, habit)));
        LISTENS.set(false);
        if outcome.is_err() {
            let said = SAID.take();
            let place = said.lines().next().unwrap_or_default().to_owned();
            found.borrow_mut().entry(place).or_insert((0, session.get(), said)).0 += 1;
        }
        session.set(session.get() + 1);
        LIES
    });
    let line = |(times, first, said): &(u64, u64, String)| format!("{times} times, first in session {first}: {said}");
    found.into_inner().values().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn members_that_are_sent_changed_blocks_do_not_panic() {
    let met = met(Habit::Blocks);
    assert!(met.is_empty(), "{met}");
}

#[test]
fn members_that_are_sent_letters_that_break_the_protocol_do_not_panic() {
    let all = [Habit::Letters, Habit::Decisions, Habit::Configurations].map(met).join("\n");
    assert!(all.trim().is_empty(), "{all}");
}
