//! Changing the epoch: a replica that sees something wrong seals the epoch and has its successor chosen.
//!
//! Single-decree Paxos among the replicas of the epoch: a majority promises (and so seals), then accepts. Ballots are
//! (round, node); waiting times grow with the place in the list of replicas and with the number of attempts, so that two proposers
//! do not keep each other from succeeding.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Ballot, Body, Cause, Config, CopyRecord, Decision, Head, LOG_MAX, Machine, NODES_MAX, Output, Report, Then,
    Verdict,
    member::COPIES_MAX,
    offence::{Offence, shortened},
    planted::Planted,
    replica::ROUNDS_MAX,
    replicas_of,
};
use crate::wire::{Epoch, Incarnation, NodeId, Time};

/// Waiting times double with each attempt, up to this often.
const DOUBLINGS_MAX: u32 = 4;

/// Decisions by which another replica may be ahead.
const AHEAD_MAX: u64 = 4;

/// An attempt to choose the successor.
#[derive(Clone, Debug)]
pub(super) struct Bid {
    pub(super) ballot: Ballot,
    began: Time,
    promises: BTreeMap<NodeId, Promise>,
    reports: BTreeMap<NodeId, (Incarnation, Report)>,
    proposed: Option<Config>,
    agreed: BTreeSet<NodeId>,
}

#[derive(Clone, Debug)]
struct Promise {
    log: Vec<Decision>,
    accepted: Option<(Ballot, Config)>,
}

/// What the replicas' logs say together.
struct Base {
    log: Vec<Decision>,
    head: Head,
    copy: CopyRecord,
    notes: Vec<u8>,
}

impl Base {
    /// What a step was undone for that ended this epoch, if somebody was accused.
    fn offence(&self, epoch: Epoch) -> Option<&Offence> {
        match &self.log.last().filter(|last| last.epoch == epoch)?.verdict {
            Verdict::Undo { cause: Cause::Offence(offence), .. } => Some(offence),
            _ => None,
        }
    }
}

/// The step of a copy, and who takes which partition.
type Restart = (CopyRecord, BTreeMap<NodeId, NodeId>);

impl Machine {
    /// Begins an attempt when something has been wrong for long enough, ends one that takes too long, and resends.
    pub(super) fn tend_succession(&mut self) {
        if self.bid.is_some() {
            self.tend_bid();
            return;
        }
        let Some(patience_ns) = self.unrest_ns() else {
            self.unrest_since = None;
            return;
        };
        let since = *self.unrest_since.get_or_insert(self.now);
        let patience_ns = patience_ns << self.attempts.min(DOUBLINGS_MAX);
        if self.now.since(since) >= patience_ns {
            self.begin_bid();
        }
    }

    /// How long this replica bears what is wrong before it does something about it; nothing if all is well [ns].
    fn unrest_ns(&self) -> Option<u64> {
        let config = self.config.as_ref()?;
        let rank = config.replicas.iter().position(|node| *node == self.me)? as u64;
        let patience = self.options.patience_ns;
        if config.is_over() {
            return None;
        }
        let over = self.found.something() || self.must_take_again();
        if over && rank == 0 {
            return Some(0);
        }
        if over || self.acceptor.is_sealed() || self.accuses_in_vain() {
            return Some(patience * (1 + rank));
        }
        if rank > 0 {
            return self.suspects(config.coordinator).then_some(patience * rank / 2);
        }
        if config.nodes().any(|node| self.suspects(node)) {
            return Some(0);
        }
        let settled = self.work.next > self.chain.head.step && !self.chain.is_stopped();
        let newcomers = settled && self.newcomers().next().is_some();
        (newcomers || self.members_are_apart()).then_some(patience)
    }

    /// Nodes that want to be taken in and may be.
    fn newcomers(&self) -> impl Iterator<Item = NodeId> + '_ {
        let config = self.config.as_ref();
        let may = move |node: &NodeId| config.is_some_and(|config| !config.isolated.contains_key(node));
        let new = move |node: &NodeId| {
            let life = self.peers.get(node).map(|peer| peer.life);
            config.is_some_and(|config| config.incarnation(*node) != life)
        };
        let asking = self.peers.keys().copied().filter(|node| self.wants_in(*node) && self.is_heard_by_all(*node));
        asking.filter(may).filter(new)
    }

    fn begin_bid(&mut self) {
        self.round_max += 1;
        let ballot = Ballot { round: self.round_max, node: self.me };
        self.bid = Some(Bid {
            ballot,
            began: self.now,
            promises: BTreeMap::new(),
            reports: BTreeMap::new(),
            proposed: None,
            agreed: BTreeSet::new(),
        });
        self.ask();
    }

    /// Asks whatever has not been answered.
    fn ask(&mut self) {
        let Some(bid) = self.bid.clone() else { return };
        let replicas = self.current().replicas.clone();
        if let Some(config) = bid.proposed {
            let open: Vec<NodeId> = replicas.into_iter().filter(|node| !bid.agreed.contains(node)).collect();
            self.send_all(open, &Body::Propose { ballot: bid.ballot, config: Box::new(config) });
            return;
        }
        let open: Vec<NodeId> = replicas.into_iter().filter(|node| !bid.promises.contains_key(node)).collect();
        self.send_all(open, &Body::Prepare(bid.ballot));
        let everybody: Vec<NodeId> = self.roster.iter().copied().collect();
        let open = everybody.into_iter().filter(|node| !bid.reports.contains_key(node));
        self.send_all(open, &Body::Query(bid.ballot));
    }

    fn tend_bid(&mut self) {
        let Some(bid) = &self.bid else { return };
        let limit = self.options.bid_ns << self.attempts.min(DOUBLINGS_MAX);
        if self.now.since(bid.began) > limit {
            self.give_up_bid();
        } else {
            self.ask();
            self.propose_if_ready();
        }
    }

    /// Lets another attempt, of this node or of another, have its time.
    pub(super) fn give_up_bid(&mut self) {
        self.bid = None;
        self.attempts += 1;
        let jitter = self.jitter(self.options.patience_ns);
        self.unrest_since = Some(self.now.plus(jitter));
    }

    pub(super) fn hear_refuse(&mut self, promised: Ballot) {
        if promised.round > ROUNDS_MAX {
            return;
        }
        self.round_max = self.round_max.max(promised.round);
        if self.bid.as_ref().is_some_and(|bid| bid.ballot < promised) {
            self.give_up_bid();
        }
    }

    pub(super) fn answer_query(&mut self, from: NodeId, epoch: Epoch, ballot: Ballot) {
        let report = Report {
            snapshots: self.snapshots.iter().copied().collect(),
            copies: self.copies.iter().copied().collect(),
            hears: self.hears(),
        };
        // The answer belongs to the epoch of the question, which this node may not have begun.
        let mine = std::mem::replace(&mut self.epoch, epoch);
        self.send(from, Body::Report { ballot, report });
        self.epoch = mine;
    }

    pub(super) fn hear_report(&mut self, (from, life): (NodeId, Incarnation), ballot: Ballot, report: Report) {
        let fits = report.copies.len() <= COPIES_MAX
            && report.snapshots.len() <= COPIES_MAX
            && report.hears.len() <= NODES_MAX;
        let Some(bid) = self.bid.as_mut().filter(|bid| bid.ballot == ballot && fits) else { return };
        bid.reports.insert(from, (life, report));
        self.propose_if_ready();
    }

    pub(super) fn hear_promise(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        log: Vec<Decision>,
        accepted: Option<(Ballot, Box<Config>)>,
    ) {
        let is_replica = self.current().replicas.contains(&from) && log.len() <= LOG_MAX + 1;
        let asked = self.bid.as_ref().is_some_and(|bid| bid.ballot == ballot);
        let next = accepted.as_ref().is_none_or(|(_, config)| self.may_be_next(config));
        if asked && is_replica && from != self.me && (!next || self.contradicts(&log)) {
            // Nothing can be built on it; there are other replicas.
            self.object_to(from, "it promises with a chain that is not this one".to_owned());
            return;
        }
        let Some(bid) = self.bid.as_mut().filter(|bid| bid.ballot == ballot && is_replica) else { return };
        let accepted = accepted.map(|(ballot, config)| (ballot, *config));
        bid.promises.insert(from, Promise { log, accepted });
        self.propose_if_ready();
    }

    /// Whether a replica's last decisions are others than those that are known here. There may be gaps in them: a decision counts without
    /// having been stored by all.
    fn contradicts(&self, log: &[Decision]) -> bool {
        let known = |index: u64| self.chain.log.get(&index).or_else(|| self.chain.stored.get(&index));
        let other = |decision: &Decision| known(decision.index).is_some_and(|known| known.hash() != decision.hash());
        // Nobody is far ahead: without the vote of this node nothing counts.
        let ahead = |decision: &Decision| decision.index > self.chain.head.index;
        let strange = |decision: &Decision| {
            let here = decision.epoch == self.epoch && decision.config == self.config_hash;
            ahead(decision) && (!here || decision.index > self.chain.head.index + AHEAD_MAX)
        };
        log.iter().any(|decision| other(decision) || strange(decision))
    }

    /// Whether a configuration can be the successor of this one.
    pub(super) fn may_be_next(&self, config: &Config) -> bool {
        Some(config.epoch.0) == self.epoch.0.checked_add(1)
            && config.parent == self.config_hash
            && self.may_follow(config)
    }

    fn propose_if_ready(&mut self) {
        let Some(bid) = &self.bid else { return };
        let needed = self.majority();
        if bid.proposed.is_some() || bid.promises.len() < needed {
            return;
        }
        let accepted = bid.promises.values().filter_map(|promise| promise.accepted.as_ref());
        let accepted = accepted.max_by_key(|(ballot, _)| *ballot).map(|(_, config)| config.clone());
        let config = match accepted {
            Some(config) if !self.plants(Planted::AcceptedForgotten) => Some(config),
            _ if self.awaits_reports() => return,
            _ => self.write_config(),
        };
        let Some(config) = config else {
            self.give_up_bid();
            return;
        };
        if !config.is_sound() {
            self.give_up_bid();
            return;
        }
        if let Some(bid) = &mut self.bid {
            bid.proposed = Some(config);
        }
        self.ask();
    }

    /// Whether somebody who should have something to say has not said it, and there is time.
    fn awaits_reports(&self) -> bool {
        let Some(bid) = &self.bid else { return false };
        let members = self.members().into_iter().filter(|node| !self.suspects(*node));
        let open = members.chain(self.newcomers()).any(|node| !bid.reports.contains_key(&node));
        open && self.now.since(bid.began) < self.options.report_ns
    }

    pub(super) fn hear_agreed(&mut self, from: NodeId, ballot: Ballot) {
        let needed = self.majority();
        let is_replica = self.current().replicas.contains(&from);
        let Some(bid) = self.bid.as_mut().filter(|bid| bid.ballot == ballot && is_replica) else { return };
        bid.agreed.insert(from);
        if bid.agreed.len() < needed {
            return;
        }
        let Some(config) = self.bid.take().and_then(|bid| bid.proposed) else { return };
        self.begin_epoch(config);
    }

    /// The successor is chosen: everybody in it is told, and whoever is left out hears it when it beats.
    fn begin_epoch(&mut self, config: Config) {
        let others: Vec<NodeId> = config.nodes().filter(|node| *node != self.me).collect();
        self.send_all(others, &Body::Begin(Box::new(config.clone())));
        if config.has(self.me, self.life) {
            self.install(config);
        } else {
            self.leave(config.epoch);
            self.bequest = Some(Box::new(config));
        }
    }

    // ---------------------------------------------------------------------------------- writing a configuration

    /// The successor of this epoch, from what was promised and reported; nothing if a partition cannot be had, for now.
    fn write_config(&mut self) -> Option<Config> {
        let base = self.base();
        let (isolated, believed) = self.isolated(&base);
        let members = self.reachable(&isolated);
        if members.is_empty() {
            return None;
        }
        let from_copy = self.recover(&base.copy, &members);
        let may_start_over = self.attempts >= self.options.bids_for_copies;
        let (restart, adoption) = from_copy.or_else(|| may_start_over.then(|| self.start_over(&members)))?;
        let nodes: Vec<NodeId> = members.iter().map(|(node, _)| *node).collect();
        let coordinator = if nodes.contains(&self.me) { self.me } else { *nodes.first()? };
        let trouble = self.found.trouble.clone().map(shortened);
        let offences = self.remembered_offences(base.copy.step, base.offence(self.epoch));
        let config = self.current();
        let earlier = config.troubles.iter().filter(|_| trouble.is_some());
        let troubles = earlier.chain(&trouble).cloned().collect();
        let stalls_before = if base.head.step == config.head.step { config.stalls } else { 0 };
        Some(Config {
            branch: config.branch,
            epoch: Epoch(config.epoch.0 + 1),
            parent: self.config_hash,
            coordinator,
            replicas: replicas_of(coordinator, &members),
            members,
            restart,
            adoption,
            copy: base.copy,
            head: base.head,
            log: base.log,
            notes: base.notes,
            next_boundary: base.head.step + 2,
            isolated,
            troubles,
            offences,
            believed,
            stalls: if self.found.stalled { stalls_before + 1 } else { 0 },
        })
    }

    /// Where the chain ends: everything that any of the promising replicas has stored.
    fn base(&self) -> Base {
        let bid = self.bid.as_ref().expect("a bid is under way");
        let own_only = self.plants(Planted::OwnLogOnly);
        let promises = bid.promises.iter().filter(|(node, _)| !own_only || **node == self.me);
        let known = self.chain.log.values().chain(promises.flat_map(|(_, promise)| &promise.log));
        let from = self.chain.log.first_key_value().map_or(self.chain.head.index + 1, |(index, _)| *index);
        let mut found: BTreeMap<u64, Decision> = BTreeMap::new();
        for decision in known.filter(|decision| decision.index >= from) {
            found.entry(decision.index).or_insert_with(|| decision.clone());
        }
        // Whatever counts is stored by a majority, and so by one of those that promise; and each was made after the one before it
        // counted. So nothing after a gap, or that does not follow, can count: it was made up.
        let mut log: BTreeMap<u64, Decision> = BTreeMap::new();
        for (index, decision) in found {
            let last = log.values().next_back().map(|last| (last.index, last.hash()));
            let end =
                last.or_else(|| self.chain.log.is_empty().then_some((self.chain.head.index, self.chain.head.hash)));
            if end.is_some_and(|(last, hash)| index != last + 1 || decision.previous != hash) {
                break;
            }
            log.insert(index, decision);
        }
        let newest = log.values().rev().find_map(|decision| decision.copy.clone());
        let copy = newest.filter(|copy| copy.step > self.chain.copy.step).unwrap_or_else(|| self.chain.copy.clone());
        let of_copy = log.values().find(|decision| decision.step == copy.step && decision.verdict.is_commit());
        let first = of_copy.map_or(0, |decision| decision.index);
        let log: Vec<Decision> = log.into_values().filter(|decision| decision.index >= first).collect();
        let head = log.last().map_or(self.chain.head, Head::after);
        let notes = log.last().map_or_else(|| self.chain.notes.clone(), |last| last.notes.clone());
        Base { log, head, copy, notes }
    }

    /// Who takes part no more, and why; and at whose word alone somebody was left out.
    fn isolated(&self, base: &Base) -> (BTreeMap<NodeId, String>, BTreeSet<NodeId>) {
        let config = self.current();
        let (mut isolated, mut believed) = (config.isolated.clone(), config.believed.clone());
        if self.plants(Planted::IsolatedStays) {
            return (isolated, believed);
        }
        isolated.extend(self.found.isolate.clone());
        if let Some(Verdict::Undo { cause, then: Then::Isolate(node) }) = base.log.last().map(|last| &last.verdict) {
            isolated.insert(*node, cause.to_string());
        }
        let offences = base.offence(self.epoch).into_iter().chain(&self.found.offence);
        let spent = offences.filter(|offence| isolated.contains_key(&offence.of) && !offence.seen);
        believed.extend(spent.map(|offence| offence.by));
        isolated.values_mut().for_each(|why| *why = shortened(std::mem::take(why)));
        (isolated, believed)
    }

    /// Who can be a member: whoever reported, is not known to be wrong, and hears all the others.
    fn reachable(&self, isolated: &BTreeMap<NodeId, String>) -> Vec<(NodeId, Incarnation)> {
        let bid = self.bid.as_ref().expect("a bid is under way");
        let mut found: BTreeMap<NodeId, (Incarnation, &Report)> = BTreeMap::new();
        for (node, (life, report)) in bid.reports.iter().filter(|(node, _)| !isolated.contains_key(node)) {
            let newest = *node == self.me || self.peers.get(node).is_some_and(|peer| peer.life == *life);
            let member = self.current().has(*node, *life);
            if newest && (member || *node == self.me || self.wants_in(*node)) {
                found.insert(*node, (*life, report));
            }
        }
        let hear = |a: NodeId, b: NodeId, found: &BTreeMap<NodeId, (Incarnation, &Report)>| {
            found[&a].1.hears.contains(&b) && found[&b].1.hears.contains(&a)
        };
        // Greedy: whoever misses most goes, until all that are left hear each other. This node stays as long as anybody.
        while found.len() > 1 {
            let missing =
                |node: NodeId| found.keys().filter(|other| **other != node && !hear(node, **other, &found)).count();
            let worst = found.keys().map(|node| (missing(*node), *node != self.me, *node)).max();
            match worst {
                Some((1.., _, node)) => found.remove(&node),
                _ => break,
            };
        }
        found.into_iter().map(|(node, (life, _))| (node, life)).collect()
    }

    /// Who takes which partition of a copy, if each is kept by its owner or by somebody else among the members.
    fn recover(&self, copy: &CopyRecord, members: &[(NodeId, Incarnation)]) -> Option<Restart> {
        if copy.step == 0 {
            return Some(self.start_over(members));
        }
        let reports = &self.bid.as_ref()?.reports;
        let mut adoption = BTreeMap::new();
        for part in &copy.partitions {
            let owner_has_it = members.contains(&(part.node, part.incarnation))
                && reports.get(&part.node).is_some_and(|(_, report)| report.snapshots.contains(&copy.step));
            let has_copy = |node: &NodeId| reports[node].1.copies.contains(&(part.node, copy.step));
            let adopter =
                if owner_has_it { part.node } else { members.iter().map(|(node, _)| *node).find(has_copy)? };
            adoption.insert(part.node, adopter);
        }
        Some((copy.clone(), adoption))
    }

    /// From the initial state, which everybody can make: partitions of absent nodes go to the next member in the ring.
    fn start_over(&self, members: &[(NodeId, Incarnation)]) -> Restart {
        let nodes: Vec<NodeId> = members.iter().map(|(node, _)| *node).collect();
        let adopter = |owner: NodeId| *nodes.iter().find(|node| **node >= owner).unwrap_or(&nodes[0]);
        let parts = self.genesis.partitions.iter();
        let adoption = parts.map(|part| (part.node, adopter(part.node))).collect();
        (self.genesis.clone(), adoption)
    }

    /// A branch of one: the operator's wish, and in the audit log as such.
    pub(super) fn go_on_alone(&mut self) {
        let Some(config) = &self.config else { return };
        if config.members.len() == 1 {
            return;
        }
        let branch = (u64::from(config.epoch.0) << 16 | u64::from(self.me.0)) + 1;
        let copy = self.chain.copy.clone();
        let kept = |owner: NodeId| {
            let own = owner == self.me && self.snapshots.contains(&copy.step);
            own || self.copies.contains(&(owner, copy.step))
        };
        let members = vec![(self.me, self.life)];
        let complete = copy.step > 0 && copy.partitions.iter().all(|part| kept(part.node));
        let restart = if complete { copy.clone() } else { self.genesis.clone() };
        let alone = Config {
            branch,
            epoch: Epoch(config.epoch.0 + 1),
            parent: self.config_hash,
            coordinator: self.me,
            replicas: vec![self.me],
            members,
            adoption: restart.partitions.iter().map(|part| (part.node, self.me)).collect(),
            restart,
            copy,
            head: self.chain.head,
            log: self.chain.log.values().cloned().collect(),
            notes: self.chain.notes.clone(),
            next_boundary: self.chain.head.step + 2,
            isolated: config.isolated.clone(),
            troubles: Vec::new(),
            offences: Vec::new(),
            believed: BTreeSet::new(),
            stalls: 0,
        };
        self.install(alone);
    }

    /// Whether this node is trying to change the epoch.
    #[must_use]
    pub fn is_bidding(&self) -> bool {
        self.bid.is_some()
    }

    /// Whether the configuration that this node proposes was found accepted by another replica: for tests that count it.
    #[must_use]
    pub fn proposes_anew(&self) -> bool {
        let Some(bid) = &self.bid else { return false };
        bid.proposed.is_some() && bid.promises.values().any(|promise| promise.accepted.is_some())
    }
}

impl Output {
    /// The letter, if it is one.
    #[must_use]
    pub fn letter(&self) -> Option<(NodeId, &super::Letter)> {
        match self {
            Self::Send { to, letter } => Some((*to, letter)),
            _ => None,
        }
    }
}
