//! The step protocol: how many nodes agree on what became of every step, whoever fails.
//!
//! One [`Machine`] is the whole protocol of one node. It has no socket, no clock, no thread and no randomness: its owner hands it
//! what happened and what time it is, and does what it answers. So the servers and `tests/simulator.rs` run the same code.
//!
//! **A step.** Each member computes a step, audits it and votes (`member.rs`). The coordinator of the epoch gathers the votes of
//! *all* members, balances the books across nodes ([`balance`]), asks the [`Judge`], and writes a [`Decision`] (`chair.rs`). The decision
//! counts when a majority of the epoch's replicas has stored it, the coordinator among them, and only then is it told to anybody.
//! Members compute the next step meanwhile; a boundary (hand-over, new cuts, a copy) waits until nothing is under way.
//!
//! **An epoch** has one fixed coordinator and fixed members ([`Config`]). A replica that suspects somebody asks a majority of the
//! epoch's replicas to *seal* it and to choose its successor, by single-decree Paxos (`replica.rs`, `successor.rs`; Vertical Paxos of Lamport,
//! Malkhi and Zhou). The new epoch goes back to the last complete copy and computes the steps since then again: the physics is
//! deterministic, so they must have the roots that they had, and whoever comes to another one is found.
//!
//! # Why it is safe
//!
//! * *One decision for each place of the chain in an epoch*: only the coordinator of the epoch, in one life, writes them, one at a time.
//! * *What anybody was told survives*: it was stored by a majority of the replicas before. A successor needs promises of a majority,
//!   which has at least one replica in common with it; a replica that has promised stores nothing more of the epoch. So what is stored
//!   by any of those that promise, as far as one follows the other, ends at or after the last decision that was told, and the new epoch
//!   begins there. What was stored and not
//!   decided may be carried on too: nobody was told otherwise.
//! * *One successor*: a proposer that finds one accepted proposes it again. Replicas forget everything when they die, and their next
//!   life is no replica of that epoch: so of 2F + 1 replicas, F may die in each epoch.
//! * *Nothing older counts*: letters carry epoch and life, and a machine hears no older ones. Whoever is behind is told, and begins anew.
//! * *A minority decides nothing*, because it is no majority of replicas. A survivor may be told by its operator to go on alone; that
//!   is another branch, by name, and the two never hear each other.
//!
//! Nodes are trusted to follow the protocol, and not trusted with physics: who changes amounts, loses particles or recomputes
//! wrongly is named by the books; who sends what cannot be used, or keeps back what is waited for, is accused (`offence.rs`); and only the coordinator's decisions are heard. A node that lies about its log is not found out.
//!
//! Times are compared, never trusted: a clock that jumps or drifts costs time, not agreement.

mod account;
mod chair;
mod config;
mod decision;
mod detector;
mod judge;
mod letter;
mod member;
mod offence;
mod peers;
#[doc(hidden)]
pub mod planted;
mod replica;
mod successor;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use account::{Account, EXTRA_BYTES_MAX, Fault, NODES_MAX, Share, Totals, balance};
pub use config::{Config, LOG_MAX, REPLICAS, TROUBLES_MAX, replicas_of};
pub use decision::{
    Boundary, CUTS_BYTES_MAX, Cause, CopyRecord, Decision, Hash, Head, Holding, NOTES_BYTES_MAX, Then, Verdict,
};
pub use detector::{Detector, PHI_MAX};
pub use judge::{Judge, Lenient, Ruling};
pub use letter::{Ballot, Body, CopyShare, LETTER_BYTES_MAX, Letter, Report, Vote};
pub use offence::{Offence, Standing, WHAT_BYTES_MAX};
use planted::Planted;

use self::{chair::Chair, member::Work, offence::Findings, peers::Peer, replica::Acceptor, successor::Bid};
use crate::{
    audit::Breach,
    wire::{Epoch, Incarnation, NodeId, Time},
};

/// How a machine behaves in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// From beat to beat [ns].
    pub beat_ns: u64,
    /// From one sending of what is unanswered to the next [ns].
    pub resend_ns: u64,
    /// At which phi a peer is suspected, at most [`PHI_MAX`].
    pub suspect_phi: u32,
    /// Before which silence nobody is suspected, however regular it was [ns].
    pub suspect_ns_min: u64,
    /// After which silence a peer is suspected, however irregular it was [ns].
    pub suspect_ns_max: u64,
    /// How long something may be wrong before a replica does something about it [ns].
    pub patience_ns: u64,
    /// How long reports are waited for while an epoch is changed [ns].
    pub report_ns: u64,
    /// For how long nothing may move, anywhere, while there is something to be done [ns].
    pub stall_ns: u64,
    /// How long an attempt to change the epoch may take [ns].
    pub bid_ns: u64,
    /// How often such an attempt is given up because a partition cannot be had from anybody, before all begin at step 0.
    pub bids_for_copies: u32,
    /// From boundary to boundary [steps].
    pub boundary_every: u64,
    /// For jitter; every node should have its own.
    pub seed: u64,
    /// For tests only.
    #[doc(hidden)]
    pub planted: Option<Planted>,
}

impl Default for Options {
    fn default() -> Self {
        const MS: u64 = 1_000_000;
        Self {
            beat_ns: 50 * MS,
            resend_ns: 25 * MS,
            suspect_phi: 8,
            suspect_ns_min: 0,
            suspect_ns_max: 1_000 * MS,
            patience_ns: 300 * MS,
            report_ns: 200 * MS,
            stall_ns: 60_000 * MS,
            bid_ns: 500 * MS,
            bids_for_copies: 4,
            boundary_every: 64,
            seed: 0,
            planted: None,
        }
    }
}

/// What a machine is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Time has passed. Needed at least as often as [`Machine::wake`] says.
    Tick,
    /// A letter came.
    Message {
        /// Its sender, as the transport knows it.
        from: NodeId,
        /// Which life of it.
        incarnation: Incarnation,
        /// The letter.
        letter: Box<Letter>,
    },
    /// A step was computed here and passed the node's own audit; for the first step after [`Output::Start`]: the copy was restored.
    Proposed {
        /// The epoch in which it was asked for.
        epoch: Epoch,
        /// The step.
        step: u64,
        /// What this node says of it.
        share: Share,
    },
    /// A step failed the node's own audit.
    Violated {
        /// The epoch in which it was asked for.
        epoch: Epoch,
        /// The step.
        step: u64,
        /// Stage of the splitting.
        stage: u16,
        /// Place within the stage.
        order: (u64, u64),
        /// What broke.
        breach: Breach,
    },
    /// A member sent what no correct node sends: nothing more can be computed in this epoch.
    Offended {
        /// The epoch in which it was sent.
        epoch: Epoch,
        /// Who sent it.
        of: NodeId,
        /// What it was, for people; cut off after [`WHAT_BYTES_MAX`].
        what: String,
    },
    /// How far the computing is here, in this epoch.
    Standing {
        /// The epoch.
        epoch: Epoch,
        /// How far.
        standing: Standing,
    },
    /// Answer to [`Output::Halt`]: nothing wrong up to this stage, and it goes no further.
    Held {
        /// The epoch in which it was asked for.
        epoch: Epoch,
        /// The step.
        step: u64,
        /// The stage.
        stage: u16,
    },
    /// The copy that [`Output::Boundary`] asked for is kept here, and by the buddy: what it holds and its root are those that the
    /// buddy recounted (where there is none, this node), what was gained in the hand-over is what this node says.
    Copied {
        /// The epoch in which it was asked for.
        epoch: Epoch,
        /// What it is.
        copy: CopyShare,
    },
    /// This node now holds a copy of what another owns.
    Stored {
        /// The other.
        owner: NodeId,
        /// The step after which it was taken.
        step: u64,
    },
    /// The client allows steps up to this one.
    Grant {
        /// The last step that is allowed.
        up_to: u64,
    },
    /// The operator of this node wants it to go on without the others, in a branch of its own.
    GoOnAlone,
}

/// What a machine asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this letter.
    Send {
        /// To whom.
        to: NodeId,
        /// The letter.
        letter: Box<Letter>,
    },
    /// A new epoch: drop all that is under way, and all snapshots and copies but those of [`Config::copy`]; restore what
    /// [`Config::adoption`] gives to this node of the copy [`Config::restart`], and propose its step with what was restored.
    Start(Box<Config>),
    /// Compute this step, from the one before (which may not be decided yet).
    Compute {
        /// The step.
        step: u64,
    },
    /// A step is final. Its state is the proposal of this node.
    Commit(Box<Decision>),
    /// A step that was final before has been recomputed; its state is the proposal of this node.
    Again {
        /// The step.
        step: u64,
    },
    /// A step was undone: back to the one before, and whatever was begun after it is void.
    Undo(Box<Decision>),
    /// Before the step after this one: hand over by the cuts; then, if asked for, keep a snapshot, send a copy of it to the buddy, and
    /// say [`Input::Copied`] when the buddy has it. Of snapshots, only the last complete one and this one are needed.
    Boundary {
        /// The step that was committed last.
        step: u64,
        /// What to do.
        boundary: Boundary,
        /// Who keeps the copy; nobody where there is no other member.
        buddy: Option<NodeId>,
    },
    /// Somebody refused this step in this stage: go on no further than through it, and answer [`Input::Held`] or [`Input::Violated`].
    Halt {
        /// The step.
        step: u64,
        /// The stage.
        stage: u16,
    },
    /// Snapshots and copies of steps before this one are not needed any more.
    DropCopiesBefore {
        /// The step.
        step: u64,
    },
    /// For the audit log, in the order of the chain.
    Record(AuditEvent),
    /// The run is over.
    Stop,
    /// This node was left out; it asks to be taken in again, with nothing to own.
    Expelled,
}

/// What the audit log is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum AuditEvent {
    /// A link of the chain.
    Decided(Box<Decision>),
    /// An epoch began. Where a node was absent, links are missing before this.
    Began(Box<Config>),
    /// The shares of a copy did not add up; it does not count.
    UnsoundCopy {
        /// Its step.
        step: u64,
        /// What did not.
        why: String,
    },
}

/// The chain of decisions as far as this node knows it.
#[derive(Clone, Debug)]
struct Chain {
    /// Decisions that count, by index, since the last complete copy.
    log: BTreeMap<u64, Decision>,
    /// Decisions that are stored but not known to count: at most a few after [`Chain::head`].
    stored: BTreeMap<u64, Decision>,
    head: Head,
    copy: CopyRecord,
    notes: Vec<u8>,
    next_boundary: u64,
    /// The last step that was handed out as committed.
    delivered: u64,
    /// The last index that was handed out for the audit log.
    recorded: u64,
}

impl Chain {
    /// What ended the run or the epoch, if the last decision did.
    fn end(&self) -> Option<&Verdict> {
        let last = &self.log.last_key_value()?.1.verdict;
        (last.is_stop() || !last.is_commit()).then_some(last)
    }

    fn is_stopped(&self) -> bool {
        self.end().is_some_and(Verdict::is_stop)
    }

    /// The root of a committed step, if it is still known.
    fn root(&self, step: u64) -> Option<u128> {
        if step == self.head.step {
            return Some(self.head.root);
        }
        if step == self.copy.step {
            return Some(self.copy.root);
        }
        self.commit(step).map(|decision| decision.totals.root)
    }

    fn commit(&self, step: u64) -> Option<&Decision> {
        self.log.values().rev().find(|decision| decision.step == step && decision.verdict.is_commit())
    }
}

/// The protocol of one node.
pub struct Machine {
    me: NodeId,
    life: Incarnation,
    options: Options,
    judge: Box<dyn Judge>,
    genesis: CopyRecord,
    roster: BTreeSet<NodeId>,
    now: Time,
    random: u64,
    branch: u64,
    /// The newest epoch that is known to have begun.
    epoch: Epoch,
    /// Its configuration; nothing while this node is no member.
    config: Option<Config>,
    config_hash: Hash,
    /// The successor that this node had chosen and is no member of: it tells those who are.
    bequest: Option<Box<Config>>,
    chain: Chain,
    work: Work,
    chair: Option<Chair>,
    found: Findings,
    acceptor: Acceptor,
    bid: Option<Bid>,
    /// Since when something has been wrong, and how often it was tried to mend it.
    unrest_since: Option<Time>,
    attempts: u32,
    round_max: u32,
    peers: BTreeMap<NodeId, Peer>,
    snapshots: BTreeSet<u64>,
    copies: BTreeSet<(NodeId, u64)>,
    granted: u64,
    /// How far the computing is here, and since when.
    standing: Standing,
    moved: Time,
    stopped: bool,
    beat_at: Time,
    resend_at: Time,
    outputs: Vec<Output>,
    /// Letters of this node to itself.
    own_letters: VecDeque<Body>,
}

impl Machine {
    /// A member of the first epoch: the node `me` owns its partition of the initial state, and all others are there too.
    ///
    /// # Panics
    /// If `me` owns no partition of it.
    #[must_use]
    pub fn starting(
        me: NodeId,
        genesis: CopyRecord,
        judge: Box<dyn Judge>,
        options: Options,
        now: Time,
    ) -> (Self, Vec<Output>) {
        let first = Config::first(&genesis, options.boundary_every.max(2));
        let life = first.incarnation(me).expect("a member of the first epoch");
        let roster = first.nodes().collect();
        let mut machine = Self::blank((me, life), genesis, roster, judge, options, now);
        for (node, incarnation) in &first.members {
            machine.peers.insert(*node, Peer::new(*incarnation, now, options.beat_ns));
        }
        machine.install(first);
        machine.work_off();
        let outputs = std::mem::take(&mut machine.outputs);
        (machine, outputs)
    }

    /// A node that was started anew, or comes later: it remembers nothing and asks the nodes of the roster to take it in.
    #[must_use]
    pub fn joining(
        me: (NodeId, Incarnation),
        genesis: CopyRecord,
        roster: BTreeSet<NodeId>,
        judge: Box<dyn Judge>,
        options: Options,
        now: Time,
    ) -> Self {
        assert!(!roster.is_empty() && roster.len() <= NODES_MAX, "{} nodes", roster.len());
        Self::blank(me, genesis, roster, judge, options, now)
    }

    fn blank(
        (me, life): (NodeId, Incarnation),
        genesis: CopyRecord,
        roster: BTreeSet<NodeId>,
        judge: Box<dyn Judge>,
        options: Options,
        now: Time,
    ) -> Self {
        assert!(options.suspect_phi <= PHI_MAX && options.beat_ns > 0 && options.resend_ns > 0, "{options:?}");
        let head = Head { index: 0, step: 0, root: genesis.root, hash: Hash::of(&genesis) };
        let chain = Chain {
            log: BTreeMap::new(),
            stored: BTreeMap::new(),
            head,
            copy: genesis.clone(),
            notes: Vec::new(),
            next_boundary: 0,
            delivered: 0,
            recorded: 0,
        };
        Self {
            me,
            life,
            options,
            judge,
            genesis,
            roster,
            now,
            random: options.seed ^ (u64::from(me.0) << 32) ^ life.0,
            branch: 0,
            epoch: Epoch(0),
            config: None,
            config_hash: Hash::default(),
            bequest: None,
            chain,
            work: Work::default(),
            chair: None,
            found: Findings::default(),
            acceptor: Acceptor::default(),
            bid: None,
            unrest_since: None,
            attempts: 0,
            round_max: 0,
            peers: BTreeMap::new(),
            snapshots: BTreeSet::new(),
            copies: BTreeSet::new(),
            granted: 0,
            standing: Standing::default(),
            moved: now,
            stopped: false,
            beat_at: now,
            resend_at: now,
            outputs: Vec::new(),
            own_letters: VecDeque::new(),
        }
    }

    /// Takes in what happened and says what to do.
    pub fn step(&mut self, now: Time, input: Input) -> Vec<Output> {
        // A clock that jumps back stands still here: every comparison below may rely on an order.
        self.excuse(now.since(self.now));
        self.now = self.now.max(now);
        match input {
            Input::Tick => self.tick(),
            Input::Message { from, incarnation, letter } => self.receive(from, incarnation, *letter),
            Input::Proposed { epoch, step, share } => self.take_outcome(epoch, step, Vote::Yes(share)),
            Input::Violated { epoch, step, stage, order, breach } => {
                self.take_outcome(epoch, step, Vote::No { stage, order, breach });
            }
            Input::Offended { epoch, of, what } => self.take_offence(epoch, of, what),
            Input::Standing { epoch, standing } if epoch == self.epoch => self.take_standing(standing),
            Input::Standing { .. } => {}
            Input::Held { epoch, step, stage } => self.take_outcome(epoch, step, Vote::Held { stage }),
            Input::Copied { epoch, copy } => self.take_copied(epoch, copy),
            Input::Stored { owner, step } => self.take_stored(owner, step),
            Input::Grant { up_to } => {
                self.granted = self.granted.max(up_to);
                self.consider_again();
            }
            Input::GoOnAlone => self.go_on_alone(),
        }
        self.work_off();
        std::mem::take(&mut self.outputs)
    }

    /// Does what has become possible, until nothing has.
    fn work_off(&mut self) {
        const ROUNDS_MAX: usize = 10_000;
        for _ in 0..ROUNDS_MAX {
            self.drive();
            let Some(body) = self.own_letters.pop_front() else { return };
            let letter = Letter { branch: self.branch, epoch: self.epoch, to: None, body };
            self.hear(self.me, self.life, letter);
        }
        panic!("{}: letters to itself without end", self.me);
    }

    /// When [`Input::Tick`] is next needed.
    #[must_use]
    pub fn wake(&self) -> Time {
        self.beat_at.min(self.resend_at)
    }

    /// The newest epoch that is known to have begun.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// 0 for the run itself; something else where an operator sent this node on alone.
    #[must_use]
    pub fn branch(&self) -> u64 {
        self.branch
    }

    /// The configuration of the epoch, where this node is a member of it.
    #[must_use]
    pub fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// The end of the chain, as far as this node knows.
    #[must_use]
    pub fn head(&self) -> Head {
        self.chain.head
    }

    /// The judge's notes at the end of the chain.
    #[must_use]
    pub fn notes(&self) -> &[u8] {
        &self.chain.notes
    }

    /// The last step that this node handed out as committed.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.chain.delivered
    }

    /// The last complete copy, as far as this node knows.
    #[must_use]
    pub fn copy(&self) -> &CopyRecord {
        &self.chain.copy
    }

    /// Whether this node has promised to let the epoch end.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.acceptor.is_sealed()
    }

    /// phi of a peer in hundredths, for display.
    #[must_use]
    pub fn phi_hundredths(&self, peer: NodeId) -> Option<u32> {
        Some(self.peers.get(&peer)?.detector.phi_hundredths(self.now))
    }

    /// Whether a copy of what another node owned is still of use.
    #[must_use]
    pub fn keeps_copy(&self, owner: NodeId, step: u64) -> bool {
        self.copies.contains(&(owner, step))
    }

    /// Numbers of things that are kept: for tests that hold them to their limits.
    #[must_use]
    pub fn sizes(&self) -> [usize; 4] {
        [self.chain.log.len(), self.chain.stored.len(), self.copies.len(), self.snapshots.len()]
    }

    fn plants(&self, planted: Planted) -> bool {
        self.options.planted == Some(planted)
    }

    /// The configuration in a place where there must be one.
    fn current(&self) -> &Config {
        self.config.as_ref().expect("a member")
    }

    /// Sends a letter of this epoch.
    fn send(&mut self, to: NodeId, body: Body) {
        if to == self.me {
            self.own_letters.push_back(body);
            return;
        }
        let life = self.peers.get(&to).map(|peer| peer.life);
        let letter = Box::new(Letter { branch: self.branch, epoch: self.epoch, to: life, body });
        self.outputs.push(Output::Send { to, letter });
    }

    /// Sends the same to several.
    fn send_all(&mut self, to: impl IntoIterator<Item = NodeId>, body: &Body) {
        for node in to {
            self.send(node, body.clone());
        }
    }

    fn members(&self) -> Vec<NodeId> {
        self.config.iter().flat_map(Config::nodes).collect()
    }

    /// A number below `below`, from the seed (splitmix64).
    fn jitter(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }

    /// Begins an epoch: everything of the one before is dropped.
    fn install(&mut self, config: Config) {
        assert!(config.is_sound(), "{config:?}");
        assert!(config.epoch > self.epoch || config.branch != self.branch, "{} after {}", config.epoch, self.epoch);
        assert!(config.has(self.me, self.life), "{} is no member of {}", self.me, config.epoch);
        let head = self.chain.head;
        assert!(
            config.head.index >= head.index,
            "{}: {:?} would be lost, the head is {:?}",
            self.me,
            head,
            config.head
        );
        assert!(config.head.index > head.index || config.head == head, "{}: two chains", self.me);
        for decision in &config.log {
            let known = self.chain.log.get(&decision.index);
            assert!(known.is_none_or(|known| known.hash() == decision.hash()), "two decisions at {}", decision.index);
        }
        for decision in config.log.iter().filter(|decision| decision.index > self.chain.recorded) {
            self.outputs.push(Output::Record(AuditEvent::Decided(Box::new(decision.clone()))));
        }
        self.outputs.push(Output::Record(AuditEvent::Began(Box::new(config.clone()))));
        self.chain.recorded = config.head.index;
        self.chain.log = config.log.iter().map(|decision| (decision.index, decision.clone())).collect();
        self.chain.stored.clear();
        self.chain.head = config.head;
        self.chain.copy = config.copy.clone();
        // A copy that was not complete when its epoch ended never will be.
        self.snapshots.retain(|step| *step == config.copy.step);
        self.copies.retain(|(_, step)| *step == config.copy.step);
        self.chain.notes = config.notes.clone();
        self.chain.next_boundary = config.next_boundary;
        self.branch = config.branch;
        self.epoch = config.epoch;
        self.config_hash = config.hash();
        self.acceptor = Acceptor::default();
        self.bid = None;
        self.bequest = None;
        self.unrest_since = None;
        self.attempts = 0;
        self.work = Work::starting_at(config.restart.step);
        (self.standing, self.moved) = (Standing::default(), self.now);
        self.found = Findings::default();
        self.chair = (config.coordinator == self.me).then(|| Chair::new(&config));
        self.own_letters.clear();
        self.restart_detectors(&config);
        self.outputs.push(Output::Start(Box::new(config.clone())));
        self.config = Some(config);
    }
}
