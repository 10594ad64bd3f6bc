//! Who is there: beats, lives, and whose letters are heard.

use std::collections::BTreeSet;

use super::{Body, Config, Detector, Letter, Machine, NODES_MAX, Output, offence::Standing, planted::Planted};
use crate::wire::{Epoch, Incarnation, NodeId, Time};

/// Beats that may be missed before a peer is no longer said to be heard.
const BEATS_HEARD: u64 = 8;

/// Epochs that a node may have missed and still believe that they were.
const EPOCHS_MISSED_MAX: u32 = 1 << 20;

/// What is known of another node.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Its newest life.
    pub(super) life: Incarnation,
    /// When anything last came from it.
    pub(super) heard: Time,
    /// Counts beats that say that this node is heard too: a link that carries only one way is none.
    pub(super) detector: Detector,
    /// Whom it hears, by its last beat.
    pub(super) hears: BTreeSet<NodeId>,
    /// Since when it has not heard some other member that it should hear.
    pub(super) apart_since: Option<Time>,
    /// Index of the last decision that it knows.
    pub(super) index: u64,
    /// When it last asked to be taken in.
    pub(super) joined: Option<Time>,
    /// How far it is in this epoch, and since when.
    pub(super) standing: Standing,
    pub(super) moved: Time,
}

impl Peer {
    pub(super) fn new(life: Incarnation, now: Time, beat_ns: u64) -> Self {
        Self {
            life,
            heard: now,
            detector: Detector::starting_at(now, beat_ns),
            hears: BTreeSet::new(),
            apart_since: None,
            index: 0,
            joined: None,
            standing: Standing::default(),
            moved: now,
        }
    }
}

impl Machine {
    /// A letter from the network.
    pub(super) fn receive(&mut self, from: NodeId, life: Incarnation, letter: Letter) {
        if from == self.me || !self.roster.contains(&from) {
            return;
        }
        let (now, beat_ns) = (self.now, self.options.beat_ns);
        let peer = self.peers.entry(from).or_insert_with(|| Peer::new(life, now, beat_ns));
        if life > peer.life {
            *peer = Peer::new(life, now, beat_ns);
        }
        if life < peer.life {
            return;
        }
        peer.heard = now;
        let to_me = letter.to.is_none_or(|to| to == self.life);
        if letter.branch == self.branch && to_me {
            self.hear(from, life, letter);
        }
    }

    /// A letter whose sender is known to be alive: those of other epochs say nothing but where their senders are.
    pub(super) fn hear(&mut self, from: NodeId, life: Incarnation, letter: Letter) {
        let Letter { epoch, body, .. } = letter;
        if self.config.as_ref().is_some_and(|config| config.isolated.contains_key(&from)) {
            // Who was left out for what it did is told so, and not heard.
            if epoch < self.epoch && matches!(body, Body::Beat { .. }) {
                self.help_up(from, life);
            }
            return;
        }
        match body {
            Body::Beat { index, granted, hears, standing } => {
                self.hear_beat((from, life), epoch, index, granted, hears);
                if epoch == self.epoch {
                    self.hear_standing(from, standing);
                }
            }
            Body::Join { granted, hears } => self.hear_join((from, life), granted, hears),
            Body::Begin(config) => self.hear_begin(from, *config),
            Body::Expelled => self.hear_expelled(epoch),
            Body::Query(ballot) if epoch >= self.epoch => self.answer_query(from, epoch, ballot),
            body => {
                let current = epoch == self.epoch || self.plants(Planted::OldEpochCounts);
                let life_counts = self.config.as_ref().is_some_and(|config| config.has(from, life));
                // Reports come from those who want to be members, too.
                let counts = life_counts || (self.config.is_some() && matches!(body, Body::Report { .. }));
                if current && counts {
                    self.hear_in_epoch((from, life), body);
                }
            }
        }
    }

    fn hear_in_epoch(&mut self, (from, life): (NodeId, Incarnation), body: Body) {
        match body {
            Body::Vote { step, vote } => self.hear_vote(from, step, vote),
            Body::Halt { step, stage } => self.hear_halt(from, step, stage),
            Body::Accept(decision) => self.hear_accept(from, *decision),
            Body::Accepted { index, hash } => self.hear_accepted(from, index, hash),
            Body::Decide(decision) => self.hear_decide(from, *decision),
            Body::Again { step, root } => self.hear_again(from, step, root),
            Body::Copied(copy) => self.hear_copied(from, copy),
            Body::Prepare(ballot) => self.hear_prepare(from, ballot),
            Body::Promise { ballot, log, accepted } => self.hear_promise(from, ballot, log, accepted),
            Body::Refuse { promised } => self.hear_refuse(promised),
            Body::Report { ballot, report } => self.hear_report((from, life), ballot, report),
            Body::Propose { ballot, config } => self.hear_propose(from, ballot, *config),
            Body::Agreed(ballot) => self.hear_agreed(from, ballot),
            Body::Beat { .. } | Body::Join { .. } | Body::Begin(_) | Body::Expelled | Body::Query(_) => {}
        }
    }

    fn hear_beat(
        &mut self,
        (from, life): (NodeId, Incarnation),
        epoch: Epoch,
        index: u64,
        granted: u64,
        hears: Vec<NodeId>,
    ) {
        self.granted = self.granted.max(granted);
        let both_ways = hears.contains(&self.me);
        let now = self.now;
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.hears = hears.into_iter().take(NODES_MAX).collect();
            peer.joined = None;
            peer.index = if epoch == self.epoch { index } else { 0 };
            if both_ways {
                peer.detector.beat(now);
            }
        }
        self.watch_links();
        if epoch < self.epoch {
            self.help_up(from, life);
        }
    }

    /// Somebody lives in an epoch that is over.
    fn help_up(&mut self, from: NodeId, life: Incarnation) {
        let Some(config) = self.config.as_ref().or(self.bequest.as_deref()) else { return };
        if config.has(from, life) {
            let begin = Body::Begin(Box::new(config.clone()));
            self.send(from, begin);
        } else {
            self.send(from, Body::Expelled);
        }
    }

    fn hear_join(&mut self, (from, life): (NodeId, Incarnation), granted: u64, hears: Vec<NodeId>) {
        self.granted = self.granted.max(granted);
        let now = self.now;
        let config = self.config.as_ref().filter(|config| config.has(from, life));
        if let Some(begin) = config.map(|config| Body::Begin(Box::new(config.clone()))) {
            // A member that does not know it yet, or a letter that comes late.
            self.send(from, begin);
        } else if let Some(peer) = self.peers.get_mut(&from) {
            peer.hears = hears.into_iter().take(NODES_MAX).collect();
            peer.joined = Some(now);
        }
    }

    fn hear_begin(&mut self, from: NodeId, config: Config) {
        let newer = config.epoch > self.epoch && config.branch == self.branch;
        if !newer || !config.has(self.me, self.life) {
            return;
        }
        if self.may_follow(&config) && self.can_begin(&config) {
            self.install(config);
        } else {
            self.object_to(from, format!("{} begins with a chain that is not this one", config.epoch));
        }
    }

    /// Whether this node keeps what it is given to begin with.
    fn can_begin(&self, config: &Config) -> bool {
        let step = config.restart.step;
        let kept = |owner: NodeId| {
            step == 0 || self.copies.contains(&(owner, step)) || (owner == self.me && self.snapshots.contains(&step))
        };
        config.adoption.iter().filter(|(_, adopter)| **adopter == self.me).all(|(owner, _)| kept(*owner))
    }

    /// Whether a configuration can be a later one of this run: it holds every decision that counts here.
    pub(super) fn may_follow(&self, config: &Config) -> bool {
        let head = self.chain.head;
        let same = |decision: &super::Decision| {
            self.chain.log.get(&decision.index).is_none_or(|known| known.hash() == decision.hash())
        };
        let at_end = config.head.index > head.index || config.head == head;
        config.epoch < Epoch(u32::MAX)
            && config.is_sound()
            && config.head.index >= head.index
            && at_end
            && config.log.iter().all(same)
    }

    fn hear_expelled(&mut self, epoch: Epoch) {
        // An epoch beyond is made up.
        let near = (self.epoch.0 + 1..self.epoch.0.saturating_add(EPOCHS_MISSED_MAX)).contains(&epoch.0);
        if near {
            self.leave(epoch);
        }
    }

    /// An epoch without this node has begun.
    pub(super) fn leave(&mut self, epoch: Epoch) {
        assert!(epoch > self.epoch, "{epoch} after {}", self.epoch);
        self.epoch = epoch;
        self.config = None;
        self.bequest = None;
        self.chair = None;
        self.bid = None;
        self.unrest_since = None;
        self.chain.stored.clear();
        self.work = super::Work::default();
        self.own_letters.clear();
        self.outputs.push(Output::Expelled);
    }

    /// What is due by the clock.
    pub(super) fn tick(&mut self) {
        if self.now >= self.beat_at {
            self.beat_at = self.now.plus(self.options.beat_ns);
            self.beat();
        }
        if self.now >= self.resend_at {
            self.resend_at = self.now.plus(self.options.resend_ns);
            self.resend_member();
            self.resend_chair();
            self.watch_standing();
            self.tend_succession();
        }
    }

    fn beat(&mut self) {
        let hears = self.hears();
        let body = match &self.config {
            Some(_) => {
                let standing = self.standing_told();
                Body::Beat { index: self.chain.head.index, granted: self.granted, hears, standing }
            }
            None => Body::Join { granted: self.granted, hears },
        };
        let others: Vec<NodeId> = self.roster.iter().copied().filter(|node| *node != self.me).collect();
        self.send_all(others, &body);
    }

    /// From whom something came lately.
    pub(super) fn hears(&self) -> Vec<NodeId> {
        let window = BEATS_HEARD * self.options.beat_ns;
        let lately = |peer: &Peer| self.now.since(peer.heard) <= window;
        self.peers.iter().filter(|(node, peer)| **node != self.me && lately(peer)).map(|(node, _)| *node).collect()
    }

    /// Whether a peer asked lately to be taken in.
    pub(super) fn wants_in(&self, node: NodeId) -> bool {
        let window = BEATS_HEARD * self.options.beat_ns;
        let asked = self.peers.get(&node).and_then(|peer| peer.joined);
        asked.is_some_and(|asked| self.now.since(asked) <= window)
    }

    /// Whether a peer and all members hear each other: one that does not would be left out again, and the epoch changed for nothing.
    pub(super) fn is_heard_by_all(&self, node: NodeId) -> bool {
        let Some(peer) = self.peers.get(&node) else { return false };
        self.members().into_iter().all(|member| {
            let heard = self.peers.get(&member).is_some_and(|other| other.hears.contains(&node));
            peer.hears.contains(&member) && (heard || member == self.me)
        })
    }

    /// Whether a member seems to be dead, or is known to have died and come back.
    pub(super) fn suspects(&self, node: NodeId) -> bool {
        if node == self.me {
            return false;
        }
        let Some(peer) = self.peers.get(&node) else { return true };
        let superseded = self.config.as_ref().and_then(|config| config.incarnation(node)) != Some(peer.life);
        let silent = peer.detector.suspects(
            self.now,
            self.options.suspect_phi,
            [self.options.suspect_ns_min, self.options.suspect_ns_max],
        );
        superseded || silent
    }

    /// Notes since when members have not heard each other.
    fn watch_links(&mut self) {
        let members = self.members();
        for node in &members {
            let Some(peer) = self.peers.get_mut(node) else { continue };
            let apart = *node != self.me && members.iter().any(|other| other != node && !peer.hears.contains(other));
            match (apart, peer.apart_since) {
                (false, _) => peer.apart_since = None,
                (true, None) => peer.apart_since = Some(self.now),
                (true, Some(_)) => {}
            }
        }
    }

    /// Whether two members have not heard each other for too long.
    pub(super) fn members_are_apart(&self) -> bool {
        let too_long = |since: Time| self.now.since(since) > self.options.suspect_ns_max + self.options.patience_ns;
        let members = self.config.iter().flat_map(Config::nodes).filter(|node| *node != self.me);
        members.filter_map(|node| self.peers.get(&node)?.apart_since).any(too_long)
    }

    /// This node did not listen for a while: what it took for silence was its own sleep.
    pub(super) fn excuse(&mut self, ns: u64) {
        if ns > BEATS_HEARD / 2 * self.options.beat_ns {
            self.peers.values_mut().for_each(|peer| peer.detector.excuse(ns, self.options.suspect_ns_max));
        }
    }

    /// A new epoch gives everybody time to be heard.
    pub(super) fn restart_detectors(&mut self, config: &Config) {
        for (node, life) in &config.members {
            let fresh = Peer::new(*life, self.now, self.options.beat_ns);
            let peer = self.peers.entry(*node).or_insert_with(|| fresh.clone());
            if peer.life < *life {
                *peer = fresh;
            } else {
                peer.detector.restart(self.now);
                (peer.standing, peer.moved) = (fresh.standing, self.now);
                peer.apart_since = None;
                peer.index = 0;
            }
            peer.joined = None;
        }
    }
}
