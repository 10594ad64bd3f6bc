//! The world of whole members: hosts with clocks of their own, a network that does everything to datagrams but forge them, and checks after
//! whatever happens.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use emmy::{
    backend::cpu::Cpu,
    coordinator::{AuditEvent, Config, Decision, Hash, Verdict},
    exchange::Way,
    member::{Activity, Member, Setup, message::Arrangement},
    partition::{Proposal, Took},
    transport::{bulk::limits::BLOCKS_OPEN_MAX, network::Network},
    wire::{Epoch, Incarnation, NodeId, Time},
};

use crate::{
    bulk_network::{Links, Random, SharedPort},
    scenes::Reference,
    swarm::{Fault, MS, Swarm},
};

/// After so many steps pairs are dear that were cheap.
pub(crate) const PAIRS_CHANGE_STEPS: u64 = 128;
/// What packing three values takes [ps]: it pays on the slower half of the links.
const PACKING_PS: u64 = 500_000;

pub(crate) type Wire = Network<SharedPort>;

/// After all faults have ended, how long the run may take to go on.
const PATIENCE_NS: u64 = 60_000 * MS;
/// The least that a look at the world takes.
const LOOK_NS: u64 = 2_000;
/// What may wait for a peer that does not read, with bodies as few as here [bytes].
const QUEUED_MAX: u64 = 512 << 10;

/// A machine with a node on it, or with none.
pub(crate) struct Host {
    pub(crate) member: Option<Member<Wire>>,
    port: SharedPort,
    incarnation: Incarnation,
    /// When it has something to do, and before when it can do nothing.
    due: u64,
    ready: u64,
    paused_until: u64,
    /// What its clock showed when it was stopped: the first thing that it believes afterwards.
    stale: Option<Time>,
    drift_ppm: u64,
    was_member: bool,
    handed_over: u64,
    packs: bool,
}

#[derive(Debug)]
struct Packet {
    from: usize,
    incarnation: Incarnation,
    to: usize,
    payload: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) clock: Rc<Cell<u64>>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) client: SharedPort,
    pub(crate) swarm: Swarm,
    pub(crate) healed_at: Option<u64>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) trace: u64,
    /// The most that ever waited for a peer [bytes].
    pub(crate) queued_max: u64,
    /// The last step that anybody committed, and when.
    pub(crate) committed: (u64, u64),
    /// The newest epoch that anybody began.
    pub(crate) newest: Option<Config>,
    /// Deaths while a successor of the newest epoch was being chosen: its replicas may be among them.
    deaths_in_change: u32,
    reference: Arc<Reference>,
    setup: Setup,
    cpu: Arc<Cpu>,
    links: Links,
    random: Random,
    faults: BTreeMap<(u64, u64), Fault>,
    flying: BTreeMap<(u64, u64), Packet>,
    sequence: u64,
    busy_until: BTreeMap<(usize, usize), u64>,
    in_burst: BTreeSet<(usize, usize)>,
    /// From whom nothing gets to whom, and how often that was wanted.
    cuts: BTreeMap<(usize, usize), u32>,
    /// Decisions by index, and configurations by epoch.
    decided: BTreeMap<u64, Hash>,
    began: BTreeMap<Epoch, Hash>,
}

fn place_of(node: NodeId, hosts: usize) -> usize {
    if node == NodeId::CLIENT { hosts } else { usize::from(node.0) }
}

impl World {
    pub(crate) fn new(swarm: Swarm, reference: Arc<Reference>, cpu: Arc<Cpu>) -> Self {
        let nodes: Vec<NodeId> = (0..swarm.nodes).map(|node| NodeId(node as u16)).collect();
        let lives = nodes.iter().map(|&node| (node, Incarnation(1))).collect();
        let mut world = Self {
            now: 1,
            clock: Rc::new(Cell::new(1)),
            hosts: Vec::new(),
            client: SharedPort::default(),
            healed_at: None,
            counts: BTreeMap::new(),
            trace: swarm.seed,
            queued_max: 0,
            committed: (0, 0),
            newest: None,
            deaths_in_change: 0,
            setup: Setup::even(reference.state.clone(), lives),
            reference,
            cpu,
            links: swarm.links,
            random: Random(swarm.seed ^ 0x5eed),
            faults: swarm.faults().into_iter().enumerate().map(|(k, (at, fault))| ((at, k as u64), fault)).collect(),
            flying: BTreeMap::new(),
            sequence: 0,
            busy_until: BTreeMap::new(),
            in_burst: BTreeSet::new(),
            cuts: BTreeMap::new(),
            decided: BTreeMap::new(),
            began: BTreeMap::new(),
            swarm,
        };
        for place in 0..nodes.len() {
            let host = Host {
                member: None,
                port: SharedPort::default(),
                incarnation: Incarnation(1),
                due: 0,
                ready: 0,
                paused_until: 0,
                stale: None,
                drift_ppm: world.random.below(world.swarm.drift_ppm_max + 1),
                was_member: false,
                handed_over: 0,
                packs: true,
            };
            world.hosts.push(host);
            world.start(place, false);
        }
        world
    }

    pub(crate) fn setup(&self) -> Setup {
        self.setup.clone()
    }

    /// The end of the client's links.
    pub(crate) fn client_wire(&self) -> Wire {
        let peers: Vec<NodeId> = (0..self.hosts.len()).map(|node| NodeId(node as u16)).collect();
        Network::new(self.client.clone(), (NodeId::CLIENT, Incarnation(1)), &peers, self.swarm.limits)
    }

    fn start(&mut self, place: usize, joins: bool) {
        let me = NodeId(place as u16);
        let others =
            (0..self.hosts.len().max(self.swarm.nodes)).map(|node| NodeId(node as u16)).filter(|node| *node != me);
        let peers: Vec<NodeId> = others.chain([NodeId::CLIENT]).collect();
        let (now, life) = (self.local(place), self.hosts[place].incarnation);
        let port = SharedPort::default();
        let wire = Network::new(port.clone(), (me, life), &peers, self.swarm.limits);
        let (setup, cpu, options) = (self.setup.clone(), Arc::clone(&self.cpu), self.swarm.options(place));
        let mut member = if joins {
            Member::joining((me, life), setup, cpu, wire, options, now)
        } else {
            Member::starting(me, setup, cpu, wire, options, now)
        };
        // Some are slower than others, and that changes: so particles move house. Pairs are cheap and dear in turn: so they are evaluated
        // by both sides, and by one again.
        let speed = 1 + self.random.below(4);
        let measure = move |proposal: &Proposal| {
            let turn = 1 + (speed + proposal.step / 16) % 4;
            let cheap = (proposal.step / PAIRS_CHANGE_STEPS).is_multiple_of(2);
            let pair_ns = if cheap { 1 } else { 100_000 };
            let nanoseconds = 1000 * turn * (1 + proposal.held.count as u64);
            Took { nanoseconds, pair_nanoseconds: pair_ns * proposal.took.pairs, ..proposal.took }
        };
        member.measure_by(Box::new(measure), PACKING_PS);
        let host = &mut self.hosts[place];
        (host.member, host.port) = (Some(member), port);
        (host.due, host.was_member) = (self.now, false);
    }

    /// What the clock of a host shows.
    fn local(&self, place: usize) -> Time {
        Time(1 + self.now + self.now * self.hosts[place].drift_ppm / 1_000_000)
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn mix(&mut self, value: u64) {
        self.trace = (self.trace.rotate_left(7) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    // ------------------------------------------------------------------------------------ time

    /// Goes on to the next moment at which something is due, but not beyond `until`.
    pub(crate) fn step(&mut self, until: u64) {
        let of_host = |host: &Host| host.member.as_ref().map(|_| host.due.max(host.ready).max(host.paused_until));
        let hosts = self.hosts.iter().filter_map(of_host).min();
        let flying = self.flying.keys().next().map(|(at, _)| *at);
        let fault = self.faults.keys().next().map(|(at, _)| *at);
        let next = [hosts, flying, fault].into_iter().flatten().min().unwrap_or(u64::MAX).max(self.now);
        self.now = next.min(until);
        self.clock.set(self.now);
        if next > until {
            return;
        }
        while let Some((&key, _)) = self.faults.first_key_value().filter(|((at, _), _)| *at <= self.now) {
            let fault = self.faults.remove(&key).expect("it was just looked at");
            self.befall(fault);
        }
        self.land();
        for place in 0..self.hosts.len() {
            if of_host(&self.hosts[place]).is_some_and(|due| due <= self.now) {
                self.poll(place);
            }
        }
        let patience = self.healed_at.map_or(u64::MAX, |healed| healed + PATIENCE_NS);
        assert!(self.now < patience, "no progress after {:?}:\n{}", self.committed, self.describe());
    }

    /// Lets time pass while the client waits.
    pub(crate) fn pass(&mut self, wire: &mut Wire) {
        self.depart(self.hosts.len());
        let begun = self.now;
        let wakes = wire.next_wakeup().map_or(u64::MAX, |at| at.0);
        let (least, most) = (begun + 50_000, wakes.clamp(begun + 50_000, begun + MS));
        while self.now < least || (self.now < most && self.client.0.borrow().inbox.is_empty()) {
            self.step(if self.now < least { least } else { most });
        }
    }

    fn poll(&mut self, place: usize) {
        let local = self.local(place);
        let host = &mut self.hosts[place];
        let member = host.member.as_mut().expect("only the living are polled");
        let shown = host.stale.take().unwrap_or(local);
        let activity = member.poll(shown);
        let cost = match activity {
            Activity::Busy => self.swarm.work_ns,
            Activity::Idle { .. } => LOOK_NS,
        };
        let wakes = match activity {
            Activity::Busy => Time(0),
            Activity::Idle { until } => until,
        };
        let wire = member.transport_mut().next_wakeup().unwrap_or(Time(u64::MAX));
        let waits = wakes.min(wire).0.saturating_sub(local.0);
        (host.ready, host.due) = (self.now + cost, self.now.saturating_add(waits));
        self.depart(place);
        self.observe(place);
    }

    // ------------------------------------------------------------------------------------ the network

    fn land(&mut self) {
        while let Some((&key, _)) = self.flying.first_key_value().filter(|((at, _), _)| *at <= self.now) {
            let packet = self.flying.remove(&key).expect("it was just looked at");
            let node = if packet.from == self.hosts.len() { NodeId::CLIENT } else { NodeId(packet.from as u16) };
            self.mix(key.0 ^ key.1.rotate_left(32));
            let entry = (node, packet.incarnation, packet.payload);
            let now = self.now;
            match self.hosts.get_mut(packet.to) {
                None => self.client.0.borrow_mut().inbox.push_back(entry),
                Some(host) if host.member.is_some() => {
                    let mut port = host.port.0.borrow_mut();
                    // A socket's buffer ends somewhere.
                    if port.inbox.len() < 2_000 {
                        port.inbox.push_back(entry);
                    }
                    host.due = host.due.min(now);
                }
                Some(_) => {}
            }
        }
    }

    /// What a node, or the client, sent enters its links.
    fn depart(&mut self, from: usize) {
        let port = self.hosts.get(from).map_or(&self.client, |host| &host.port);
        let outbox = std::mem::take(&mut port.0.borrow_mut().outbox);
        let incarnation = self.hosts.get(from).map_or(Incarnation(1), |host| host.incarnation);
        for (node, payload) in outbox {
            let to = place_of(node, self.hosts.len());
            let words = payload.chunks(8).map(|word| word.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)));
            let sum = words.fold(0, u64::wrapping_add);
            self.mix(sum ^ (from as u64) << 8 ^ to as u64);
            if let Some(leaves) = self.enter((from, to), payload.len() as u64) {
                self.fly((from, to), leaves, incarnation, payload);
            }
        }
    }

    /// When a datagram has left its link; `None` if it is lost.
    fn enter(&mut self, link: (usize, usize), bytes: u64) -> Option<u64> {
        let links = self.links;
        if self.cuts.get(&link).is_some_and(|wanted| *wanted > 0) {
            self.count("datagram cut off");
            return None;
        }
        let (begins, goes_on) = links.burst_permille;
        let burst = self.random.permille(if self.in_burst.contains(&link) { goes_on } else { begins });
        if burst {
            self.in_burst.insert(link)
        } else {
            self.in_burst.remove(&link)
        };
        if burst || self.random.permille(links.loss_permille) {
            self.count("datagram lost");
            return None;
        }
        if links.bandwidth == 0 {
            return Some(self.now);
        }
        let busy = self.busy_until.entry(link).or_insert(0);
        let waits = u128::from(busy.saturating_sub(self.now)) * u128::from(links.bandwidth) / 1_000_000_000;
        if waits > u128::from(links.queue_bytes) {
            self.count("datagram dropped at a full queue");
            return None;
        }
        *busy = (*busy).max(self.now) + bytes * 1_000_000_000 / links.bandwidth;
        Some(*busy)
    }

    fn fly(&mut self, (from, to): (usize, usize), leaves: u64, incarnation: Incarnation, payload: Vec<u8>) {
        let links = self.links;
        let mut arrivals = vec![leaves + links.delay + self.random.below(links.jitter + 1)];
        if self.random.permille(links.repeat_permille) {
            let very = self.random.permille(links.very_late_permille);
            self.count(if very { "datagram repeated very late" } else { "datagram repeated" });
            let late = if very { 10_000 * MS } else { 4 * links.delay + 1000 };
            arrivals.push(leaves + links.delay + self.random.below(late));
        }
        for at in arrivals {
            self.sequence += 1;
            self.flying.insert((at, self.sequence), Packet { from, incarnation, to, payload: payload.clone() });
        }
    }

    // ------------------------------------------------------------------------------------ faults

    fn befall(&mut self, fault: Fault) {
        match fault {
            Fault::Kill { place, back_after } if self.may_kill(place) => {
                self.kill(place);
                if let Some(after) = back_after {
                    self.later(after, Fault::Restart { place });
                }
            }
            Fault::Kill { .. } => {}
            Fault::Restart { place } => self.restart(place),
            Fault::Pause { place, for_ns } if self.hosts[place].member.is_some() => {
                self.count("a process was stopped for a while");
                let local = self.local(place);
                let host = &mut self.hosts[place];
                (host.stale, host.paused_until) = (Some(local), self.now + for_ns);
            }
            Fault::Pause { .. } => {}
            Fault::Cut { links, for_ns } => {
                self.count(if links.len() == 1 { "one way was cut" } else { "a side was cut off" });
                links.iter().for_each(|link| *self.cuts.entry(*link).or_default() += 1);
                self.later(for_ns, Fault::Heal { links });
            }
            Fault::Heal { links } => {
                for link in links {
                    if let Some(wanted) = self.cuts.get_mut(&link) {
                        *wanted = wanted.saturating_sub(1);
                    }
                }
            }
            Fault::HealAll => self.heal(),
        }
    }

    /// Cuts some off from all others, the client too if it is none of them.
    pub(crate) fn cut_off(&mut self, some: &[usize], for_ns: u64) {
        let ends = self.hosts.len() + 1;
        let pairs = (0..ends).flat_map(|a| (0..ends).map(move |b| (a, b)));
        let links = pairs.filter(|(a, b)| some.contains(a) != some.contains(b)).collect();
        self.befall(Fault::Cut { links, for_ns });
    }

    /// The end of the chain, as a node knows it.
    pub(crate) fn index(&self, place: usize) -> Option<u64> {
        Some(self.hosts[place].member.as_ref()?.machine().head().index)
    }

    pub(crate) fn later(&mut self, after: u64, fault: Fault) {
        self.sequence += 1;
        self.faults.insert((self.now + after, self.sequence), fault);
    }

    /// All faults end; who is dead stays dead.
    fn heal(&mut self) {
        self.healed_at = Some(self.now);
        self.faults.clear();
        self.cuts.clear();
        self.links = Links { loss_permille: self.links.loss_permille.min(20), burst_permille: (0, 0), ..self.links };
        self.hosts.iter_mut().for_each(|host| host.paused_until = host.paused_until.min(self.now));
    }

    /// Whether a majority of the replicas of every epoch that may still matter lives on without this node.
    fn may_kill(&self, place: usize) -> bool {
        let Some(newest) = self.newest.as_ref().map(|config| config.epoch) else { return false };
        let configs = self.hosts.iter().filter_map(|host| host.member.as_ref()?.machine().config());
        let matter = configs.chain(&self.newest).filter(|config| config.epoch.0 + 1 >= newest.0);
        let lives = |node: &NodeId, config: &Config| {
            let host = &self.hosts[usize::from(node.0)];
            usize::from(node.0) != place && host.member.is_some() && config.has(*node, host.incarnation)
        };
        let holds =
            |config: &Config| config.replicas.iter().filter(|node| lives(node, config)).count() >= config.majority();
        let in_change = self.is_changing() && self.deaths_in_change > 0;
        self.hosts[place].member.is_some() && !in_change && { matter }.all(holds)
    }

    /// Whether somebody is choosing a successor of the epoch.
    fn is_changing(&self) -> bool {
        let machines = self.hosts.iter().filter_map(|host| Some(host.member.as_ref()?.machine()));
        { machines }.any(|machine| machine.is_bidding() || machine.is_sealed())
    }

    pub(crate) fn kill(&mut self, place: usize) {
        let decides = self.newest.as_ref().is_some_and(|config| usize::from(config.coordinator.0) == place);
        self.count(if decides { "a coordinator died" } else { "a member died" });
        if self.is_changing() {
            self.deaths_in_change += 1;
            self.count("somebody died while the epoch was changed");
        }
        self.hosts[place].member = None;
    }

    fn restart(&mut self, place: usize) {
        let host = &mut self.hosts[place];
        if host.member.is_some() {
            return;
        }
        host.incarnation = Incarnation(host.incarnation.0 + 1);
        (host.paused_until, host.stale, host.handed_over) = (0, None, 0);
        self.count("a node was started again");
        self.start(place, true);
    }

    // ------------------------------------------------------------------------------------ checks

    fn observe(&mut self, place: usize) {
        let events = self.hosts[place].member.as_mut().expect("it was polled").take_events();
        for event in events {
            match event {
                AuditEvent::Decided(decision) => self.check_decision(&decision),
                AuditEvent::Began(config) => self.check_epoch(place, *config),
                AuditEvent::UnsoundCopy { step, why } => panic!("the copy of step {step} is unsound: {why}"),
            }
        }
        let host = &mut self.hosts[place];
        let member = host.member.as_mut().expect("it was polled");
        let is_member = member.machine().config().is_some();
        let left_out = std::mem::replace(&mut host.was_member, is_member) && !is_member;
        let lives_again = host.incarnation.0 > 1;
        let (owns, sent) = member.partition_mut().map_or((0, 0), |part| (part.count(), part.sent().handed_over));
        let handed_over = std::mem::replace(&mut host.handed_over, sent) < sent;
        let packs = member.partition_mut().is_none_or(|part| part.packs());
        let changed = std::mem::replace(&mut host.packs, packs) != packs;
        for (seen, what) in [
            (left_out, "left out while alive"),
            (lives_again && owns > 0, "who was started again owns particles"),
            (handed_over, "particles were handed over"),
            (changed && packs, "blocks are packed again"),
            (changed && !packs, "blocks are not packed"),
        ] {
            if seen {
                self.count(what);
            }
        }
        self.check_bounds(place);
    }

    fn check_decision(&mut self, decision: &Decision) {
        let hash = decision.hash();
        let first = self.decided.insert(decision.index, hash);
        assert!(first.is_none_or(|first| first == hash), "two decisions at {}", decision.index);
        let root = self.reference.root(decision.last_step());
        assert_eq!(Some(decision.totals.root), root, "step {}: the state root", decision.last_step());
        if first.is_some() {
            return;
        }
        self.mix(decision.index ^ decision.totals.root as u64);
        match &decision.verdict {
            Verdict::Undo { .. } => self.count("a step was undone"),
            _ if decision.step > self.committed.0 => self.committed = (decision.step, self.now),
            _ => {}
        }
        if decision.copy.is_some() {
            self.count("a copy became complete");
        }
        if let Some(boundary) = &decision.boundary {
            let nodes: Vec<NodeId> = (0..self.hosts.len()).map(|node| NodeId(node as u16)).collect();
            let Arrangement { cuts, way } = Arrangement::from_bytes(&boundary.cuts, &nodes);
            for (seen, what) in [
                (cuts.is_some(), "cuts were moved"),
                (way == Some(Way::Twice), "pairs are evaluated by both sides"),
                (way == Some(Way::Shared), "pairs are evaluated by one side again"),
            ] {
                if seen {
                    self.count(what);
                }
            }
        }
    }

    fn check_epoch(&mut self, place: usize, config: Config) {
        let hash = config.hash();
        let first = self.began.insert(config.epoch, hash);
        assert!(first.is_none_or(|first| first == hash), "two configurations of {}", config.epoch);
        assert!(config.isolated.is_empty(), "nobody is wrong: {:?}", config.isolated);
        assert_eq!(config.troubles, Vec::<String>::new(), "nothing is recomputed wrongly");
        if self.hosts[place].incarnation.0 > 1 {
            self.count("who was started again is a member");
        }
        if first.is_some() || self.newest.as_ref().is_some_and(|newest| newest.epoch > config.epoch) {
            return;
        }
        self.deaths_in_change = 0;
        if let Some(before) = self.newest.replace(config.clone()) {
            self.count("the epoch changed");
            let adopts = config.adoption.iter().any(|(from, to)| from != to);
            for (seen, what) in [
                (before.coordinator != config.coordinator, "the coordinator changed"),
                (adopts && config.restart.step > 0, "a copy was adopted"),
                (before.restart == config.restart && config.restart.step > 0, "a copy was used twice"),
                (config.restart.step == 0 && config.copy.step > 0, "all began again at step 0"),
                (config.restart.step < config.head.step, "committed steps were computed again"),
                (config.members.len() < before.members.len(), "went on with fewer members"),
            ] {
                if seen {
                    self.count(what);
                }
            }
        }
    }

    fn check_bounds(&mut self, place: usize) {
        let peers: Vec<NodeId> =
            (0..self.hosts.len()).map(|node| NodeId(node as u16)).chain([NodeId::CLIENT]).collect();
        let member = self.hosts[place].member.as_mut().expect("it was polled");
        let bulk = member.transport_mut().bulk();
        for seen in peers.into_iter().filter_map(|peer| bulk.statistics(peer)) {
            self.queued_max = self.queued_max.max(seen.queued_bytes);
            assert!(seen.queued_bytes <= QUEUED_MAX, "too much waits: {seen:?}");
            assert!(seen.held_bytes <= bulk.limits().receive_bytes_max, "{seen:?}");
            assert!(seen.open_blocks <= BLOCKS_OPEN_MAX as u64, "{seen:?}");
        }
        let drops = bulk.drops();
        let faults = [drops.malformed, drops.stranger, drops.oversize, drops.inconsistent, drops.over_credit];
        assert_eq!(faults, [0; 5], "honest peers make no faults: {drops:?}");
    }

    pub(crate) fn describe(&self) -> String {
        let line = |(place, host): (usize, &Host)| {
            let Some(member) = &host.member else { return format!("{place}: dead") };
            let machine = member.machine();
            let config = machine.config().map(|config| (config.coordinator, &config.members, &config.replicas));
            let (epoch, head, committed) = (machine.epoch(), machine.head(), machine.committed());
            let work = member.describe();
            let (sealed, bids) = (machine.is_sealed(), machine.is_bidding());
            format!(
                "{place}: {epoch:?} step {} of {committed} index {} sealed {sealed} bids {bids} {config:?} {work}",
                head.step, head.index
            )
        };
        let lines: Vec<String> = self.hosts.iter().enumerate().map(line).collect();
        format!("at {} ms, healed at {:?}\n{}", self.now / MS, self.healed_at, lines.join("\n"))
    }
}

/// A world that is shared with what the client does while it waits.
pub(crate) type Shared = Rc<RefCell<World>>;
