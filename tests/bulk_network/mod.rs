//! A network that loses, repeats, reorders and delays datagrams, in simulated time, from one seed: the same seed, the same run.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use emmy::{
    transport::{Datagrams, Event, Transport, bulk::limits::Limits, network::Network},
    wire::{Incarnation, NodeId, Time},
};

/// What a datagram may carry: 1200 bytes less the headers below.
pub(crate) const PAYLOAD_MAX: usize = 1167;

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(crate) fn permille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for word in bytes.chunks_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes()[..word.len()]);
        }
        bytes
    }
}

/// What the links do to datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Links {
    /// One way [ns].
    pub(crate) delay: u64,
    /// On top, evenly spread: reorders [ns].
    pub(crate) jitter: u64,
    pub(crate) loss_permille: u64,
    /// Chance that a burst of losses begins, and that it goes on.
    pub(crate) burst_permille: (u64, u64),
    pub(crate) repeat_permille: u64,
    /// Of the repeated ones, those that come up to ten seconds late.
    pub(crate) very_late_permille: u64,
    /// Bytes per second and link; 0 is without end.
    pub(crate) bandwidth: u64,
    /// What may wait before a link [bytes].
    pub(crate) queue_bytes: u64,
    /// Nothing passes from and until [ns].
    pub(crate) blackout: (u64, u64),
}

/// The end of a node, shared with the world.
#[derive(Debug, Default)]
pub(crate) struct Port {
    pub(crate) outbox: Vec<(NodeId, Vec<u8>)>,
    pub(crate) inbox: VecDeque<(NodeId, Incarnation, Vec<u8>)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SharedPort(pub(crate) Rc<RefCell<Port>>);

impl Datagrams for SharedPort {
    fn payload_max(&self) -> usize {
        PAYLOAD_MAX
    }

    fn send(&mut self, to: NodeId, payload: &[u8]) {
        assert!(payload.len() <= PAYLOAD_MAX, "{} bytes", payload.len());
        self.0.borrow_mut().outbox.push((to, payload.to_vec()));
    }

    fn poll(&mut self, _: Time) {}

    fn receive(&mut self) -> Option<(NodeId, Incarnation, Vec<u8>)> {
        self.0.borrow_mut().inbox.pop_front()
    }
}

#[derive(Debug)]
struct Packet {
    from: usize,
    incarnation: Incarnation,
    to: usize,
    payload: Vec<u8>,
}

/// A node that was started.
pub(crate) struct Member {
    pub(crate) network: Network<SharedPort>,
    pub(crate) incarnation: Incarnation,
    /// Whether its owner polls.
    pub(crate) reads: bool,
    port: SharedPort,
}

/// All nodes, all links, and what is on the way.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) members: Vec<Member>,
    pub(crate) links: Links,
    pub(crate) random: Random,
    pub(crate) limits: Limits,
    /// Everything that happened, as a number.
    pub(crate) trace: u64,
    pub(crate) datagrams: u64,
    /// The most that was on the way at once.
    pub(crate) tail_drops: u64,
    flying: BTreeMap<(u64, u64), Packet>,
    sequence: u64,
    busy_until: BTreeMap<(usize, usize), u64>,
    in_burst: BTreeMap<(usize, usize), bool>,
    turns_at_now: u32,
}

fn started(place: usize, nodes: usize, incarnation: Incarnation, limits: Limits) -> Member {
    let peers: Vec<NodeId> = (0..nodes).filter(|&n| n != place).map(|n| NodeId(n as u16)).collect();
    let port = SharedPort::default();
    let network = Network::new(port.clone(), (NodeId(place as u16), incarnation), &peers, limits);
    Member { network, incarnation, reads: true, port }
}

impl World {
    pub(crate) fn new(seed: u64, nodes: usize, links: Links, limits: Limits) -> Self {
        Self {
            now: Time(1),
            members: (0..nodes).map(|place| started(place, nodes, Incarnation(1), limits)).collect(),
            links,
            random: Random(seed),
            limits,
            trace: 0,
            datagrams: 0,
            tail_drops: 0,
            flying: BTreeMap::new(),
            sequence: 0,
            busy_until: BTreeMap::new(),
            in_burst: BTreeMap::new(),
            turns_at_now: 0,
        }
    }

    /// A node dies and comes back: what it knew is gone, what it sent still flies.
    pub(crate) fn restart(&mut self, place: usize) {
        let incarnation = Incarnation(self.members[place].incarnation.0 + 1);
        self.members[place] = started(place, self.members.len(), incarnation, self.limits);
    }

    fn mix(&mut self, value: u64) {
        self.trace = (self.trace.rotate_left(7) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// Goes on to the next moment at which something is due, and says what happened then; `None` if nothing ever will, or not before
    /// `until`.
    pub(crate) fn step(&mut self, until: Time) -> Option<Vec<(usize, Event)>> {
        let due = |member: &mut Member| match (member.reads, member.port.0.borrow().inbox.is_empty()) {
            (false, _) => None,
            (true, false) => Some(Time(0)),
            (true, true) => member.network.next_wakeup(),
        };
        let waking = self.members.iter_mut().filter_map(due).min();
        let landing = self.flying.keys().next().map(|&(at, _)| Time(at));
        let next = [waking, landing].into_iter().flatten().min().map_or(Time(u64::MAX), |next| next.max(self.now));
        if next > until {
            self.now = until;
            return None;
        }
        self.turns_at_now = if next == self.now { self.turns_at_now + 1 } else { 0 };
        assert!(self.turns_at_now < 100_000, "time stands still at {next:?}");
        self.now = next;
        self.land();
        let mut events = Vec::new();
        for place in 0..self.members.len() {
            if !self.members[place].reads {
                continue;
            }
            while let Some(event) = self.members[place].network.poll(next) {
                self.note(place, &event);
                events.push((place, event));
            }
            self.depart(place);
        }
        Some(events)
    }

    fn land(&mut self) {
        while let Some((&(at, tie), _)) = self.flying.first_key_value() {
            if at > self.now.0 {
                return;
            }
            let packet = self.flying.remove(&(at, tie)).expect("it was just looked at");
            self.mix(at ^ tie.rotate_left(32));
            let entry = (NodeId(packet.from as u16), packet.incarnation, packet.payload);
            let mut port = self.members[packet.to].port.0.borrow_mut();
            // A socket's buffer ends somewhere too.
            if port.inbox.len() < 100_000 {
                port.inbox.push_back(entry);
            }
        }
    }

    fn note(&mut self, place: usize, event: &Event) {
        self.mix(place as u64 ^ self.now.0);
        match event {
            Event::Received { from, tag, bytes, .. } => {
                self.mix(tag.step ^ u64::from(from.0) << 32 ^ (bytes.len() as u64) << 40)
            }
            Event::Delivered { to, tag } => self.mix(tag.step ^ u64::from(to.0) << 33),
            Event::Restarted { peer, incarnation } => self.mix(u64::from(peer.0) ^ incarnation.0 << 34),
        }
    }

    /// What a node sent enters its links.
    fn depart(&mut self, place: usize) {
        let outbox = std::mem::take(&mut self.members[place].port.0.borrow_mut().outbox);
        for (to, payload) in outbox {
            self.datagrams += 1;
            self.mix(payload.len() as u64);
            let to = usize::from(to.0);
            if let Some(leaves) = self.pass(place, to, payload.len() as u64) {
                self.fly(place, to, leaves, payload);
            }
        }
    }

    /// When a datagram has left its link; `None` if it is lost.
    fn pass(&mut self, from: usize, to: usize, bytes: u64) -> Option<u64> {
        let now = self.now.0;
        let links = self.links;
        if (links.blackout.0..links.blackout.1).contains(&now) {
            return None;
        }
        let (begins, goes_on) = links.burst_permille;
        let was = self.in_burst.get(&(from, to)).copied().unwrap_or(false);
        let burst = self.random.permille(if was { goes_on } else { begins });
        self.in_burst.insert((from, to), burst);
        if burst || self.random.permille(links.loss_permille) {
            return None;
        }
        if links.bandwidth == 0 {
            return Some(now);
        }
        let busy = self.busy_until.entry((from, to)).or_insert(0);
        let waits = busy.saturating_sub(now) as u128 * u128::from(links.bandwidth) / 1_000_000_000;
        if waits > u128::from(links.queue_bytes) {
            self.tail_drops += 1;
            return None;
        }
        *busy = (*busy).max(now) + bytes * 1_000_000_000 / links.bandwidth;
        Some(*busy)
    }

    fn fly(&mut self, from: usize, to: usize, leaves: u64, payload: Vec<u8>) {
        let links = self.links;
        let incarnation = self.members[from].incarnation;
        let mut copies = vec![leaves + links.delay + self.random.below(links.jitter + 1)];
        if self.random.permille(links.repeat_permille) {
            let late =
                if self.random.permille(links.very_late_permille) { 10_000_000_000 } else { 4 * links.delay + 1000 };
            copies.push(leaves + links.delay + self.random.below(late));
        }
        for at in copies {
            self.sequence += 1;
            self.flying.insert((at, self.sequence), Packet { from, incarnation, to, payload: payload.clone() });
        }
    }
}
