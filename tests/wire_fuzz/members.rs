//! Whole members under a member that lies: copies of what was really sent, changed, with the name of a peer that is one of them. None of
//! the honest ones panics, and what they keep stays within bounds.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    sync::{Arc, OnceLock},
};

use emmy::{
    backend::{cpu::Cpu, isa::Isa},
    contract::Contract,
    coordinator::{Letter, Options},
    member::{Member, Setup, message},
    node::State,
    remote::Remote,
    run::engine::Engine,
    transport::{Capabilities, Event, PostError, Tag, Transport},
    wire::{Epoch, Incarnation, NodeId, Time},
};

use crate::{chance::Chance, hostile, made, number, partitions::state_of, sessions};

const MS: u64 = 1_000_000;
const NODES: u16 = 3;
/// The member whose name is under every lie.
const LIAR: NodeId = NodeId(1);
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

    fn cancel_before(&mut self, _: Epoch) {}

    fn give_up(&mut self, _: NodeId) {}
}

/// Members that move while the client waits, and a liar among them.
struct Town {
    members: Vec<Member<Wire>>,
    net: Rc<RefCell<Net>>,
    now: u64,
    chance: Chance,
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
    fn new(setup: &Setup, chance: Chance, lies: u64) -> Self {
        let net = Rc::new(RefCell::new(Net::default()));
        net.borrow_mut().queues.resize_with(usize::from(NODES) + 1, VecDeque::new);
        let shared = Arc::new(cpu());
        let member = |node: u16| {
            let wire = Wire { me: NodeId(node), net: Rc::clone(&net) };
            Member::starting(NodeId(node), setup.clone(), Arc::clone(&shared), wire, options(node), Time(0))
        };
        let members = (0..NODES).map(member).collect();
        Self { members, net, now: 0, chance, lies }
    }

    fn pass(&mut self) {
        self.now += MS / 10;
        if self.lies > 0 && self.chance.below(2) == 0 {
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
        let chance = &mut self.chance;
        let mut net = self.net.borrow_mut();
        let sent: Vec<_> = net.heard.iter().filter(|(from, ..)| *from == LIAR).cloned().collect();
        let Some((_, tag, _)) = chance.pick(&sent).cloned() else { return };
        let alike: Vec<Vec<u8>> =
            sent.into_iter().filter(|(_, other, _)| other.kind == tag.kind).map(|(.., bytes)| bytes).collect();
        let bytes = match (message::Kind::of(tag.kind), chance.below(4)) {
            (Some(message::Kind::Letter), 0) => changed_letter(chance, &alike[0]),
            _ => hostile(chance, &alike),
        };
        let tag = if chance.below(8) == 0 { other_tag(chance, tag) } else { tag };
        let to = if chance.below(2) == 0 { 0 } else { 2 };
        net.queues[to].push_back(Event::Received { from: LIAR, incarnation: Incarnation(0), tag, bytes });
    }

    fn check_bounds(&self) {
        for member in &self.members {
            let [log, stored, copies, snapshots] = member.machine().sizes();
            assert!(log <= 512 && stored <= 2 && copies <= 1024 && snapshots <= 4, "{:?}", member.machine().sizes());
        }
    }
}

/// A letter whose fence is right and whose contents are another's.
fn changed_letter(chance: &mut Chance, honest: &[u8]) -> Vec<u8> {
    let kind = chance.below(made::BODIES);
    let body = made::body(chance, kind);
    Letter::from_bytes(honest).map_or_else(|_| honest.to_vec(), |letter| Letter { body, ..letter }.to_bytes())
}

fn other_tag(chance: &mut Chance, tag: Tag) -> Tag {
    match chance.below(4) {
        0 => Tag { kind: chance.below(40) as u16, ..tag },
        1 => Tag { part: number(chance) as u16, ..tag },
        2 => Tag { step: number(chance), ..tag },
        _ => Tag { epoch: Epoch(number(chance) as u32), ..tag },
    }
}

fn a_run_with_a_liar(chance: &mut Chance) -> u64 {
    const LIES: u64 = 40;
    let nodes = (0..NODES).map(|node| (NodeId(node), Incarnation(0))).collect();
    let setup = Setup::even(state().clone(), nodes);
    let town = Town::new(&setup, chance.clone(), LIES);
    let wire = Wire { me: NodeId::CLIENT, net: Rc::clone(&town.net) };
    let town = Rc::new(RefCell::new(town));
    let (clock, moves) = (Rc::clone(&town), Rc::clone(&town));
    let now = Box::new(move || Time(clock.borrow().now));
    let idle = Box::new(move |_: &mut Wire| moves.borrow_mut().pass());
    // The client gives up after a second of silence: a lie may have stopped everything, and that is no fault.
    if let Ok(mut remote) = Remote::with_clock(setup, cpu(), wire, 1.0, (now, idle)) {
        for _ in 0..12 {
            remote.advance(1);
        }
    }
    LIES
}

#[test]
fn members_that_are_lied_to_do_not_panic() {
    sessions("members", 5, a_run_with_a_liar);
}
