//! A node of a run on many nodes: its partition, its part in the step protocol, and what it carries from one to the other.
//!
//! Nobody is waited for. The owner polls, says what time it is, and hears how soon to poll again; servers do so with a network and a
//! clock, tests with a simulated one. What is decided is decided by [`crate::coordinator`]; what is computed, by [`crate::partition`].

pub mod judge;
pub mod message;
pub mod spent;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, OnceLock},
};

use self::{
    judge::{Physics, read_notes},
    message::{
        Arrangement, Ask, Counted, Extra, Grant, Kept, Kind, MESSAGE_BYTES_MAX, NEWS_BREACHES_MAX, News, Pace, Remarks,
        Snapshot, read_particles, write_particles,
    },
    spent::{Awaited, Idleness, Spent},
};
use crate::{
    audit::BreachReport,
    backend::cpu::Cpu,
    commit::Breaches,
    coordinator::{
        Account, AuditEvent, Boundary, Cause, Config, CopyRecord, CopyShare, Decision, Holding, Input, Letter, Machine,
        Options, Output, Share, Standing, Verdict,
    },
    exchange::packing::Packing,
    ledger::Amounts,
    metrics::Stopwatch,
    node::{History, State},
    particle::{Names, Particle},
    partition::{
        Common, Offence, Partition, Progress, Proposal, Took,
        cuts::Cuts,
        share::{Whole, share_out},
    },
    snapshot::root::StateRoot,
    step::Clock,
    text::harmless,
    transport::{Event, PostError, Tag, Transport},
    wire::{Epoch, Incarnation, NodeId, Time, decode, encode},
};

/// Everything that all nodes of a run know at its start, from the scenario alone.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The particles, and what they are moved by.
    pub state: State,
    /// Who takes part, in which life.
    pub nodes: Vec<(NodeId, Incarnation)>,
    /// Who owns what.
    pub cuts: Cuts,
    /// The owner of each particle.
    owners: Vec<NodeId>,
}

impl Setup {
    /// A setup in which all nodes own equally many particles.
    #[must_use]
    pub fn even(state: State, nodes: Vec<(NodeId, Incarnation)>) -> Self {
        let shares: Vec<(NodeId, u64)> = nodes.iter().map(|(node, _)| (*node, 1)).collect();
        let (cuts, owners) = share_out(&state.particles, state.law.contract, &shares);
        Self { state, nodes, cuts, owners }
    }

    fn common(&self) -> Common {
        let state = &self.state;
        Common::of(&Whole {
            particles: &state.particles,
            quanta: state.quanta,
            law: state.law,
            splitting: state.splitting,
            dt: state.clock.signed_dt(),
            rules: state.rules,
        })
    }

    /// What a node owns at the start.
    fn particles_of(&self, node: NodeId) -> Vec<Particle> {
        let owned = self.state.particles.iter().zip(&self.owners);
        owned.filter(|(_, owner)| **owner == node).map(|(particle, _)| *particle).collect()
    }

    /// The copy of step 0 that everybody has.
    fn genesis(&self) -> CopyRecord {
        let angular = self.state.rules.angular_momentum;
        let holding = |&(node, incarnation): &(NodeId, Incarnation)| {
            let (held, root) = held_by(&self.particles_of(node), angular);
            Holding { node, incarnation, held, root }
        };
        let partitions: Vec<Holding> = self.nodes.iter().map(holding).collect();
        let root = partitions.iter().fold(0, |sum: u128, part| sum.wrapping_add(part.root));
        CopyRecord { step: 0, root, partitions }
    }
}

/// What particles hold, energy aside, and their share of the state root.
fn held_by(particles: &[Particle], angular: bool) -> (Amounts, u128) {
    let mut held = Amounts::default();
    for particle in particles {
        let whole = Amounts::of_impulse(particle.position.0, particle.momentum.0);
        let one = Amounts { count: 1, mass: i128::from(particle.mass.quanta), ..whole };
        held = held.plus(one);
    }
    if !angular {
        held.angular_momentum = [0; 3];
    }
    (held, StateRoot::of_particles(particles).0)
}

/// What the partition is to do next.
#[derive(Clone, Debug)]
enum Task {
    Step(u64),
    HandOver { step: u64, boundary: Boundary, buddy: Option<NodeId> },
    Count(Ask),
}

/// The epoch in the tags of letters and news: one that never ends.
const LETTERS: Epoch = Epoch(u32::MAX);
/// Blocks of epochs that have not begun here, from one peer, at most.
const FUTURE_BLOCKS_MAX: usize = 16;
/// Letters that may wait for one peer. Who does not read is told again what it missed once it does.
const LETTERS_WAITING_MAX: usize = 128;
/// Bytes of them; one letter may wait however long it is.
const LETTER_BYTES_WAITING_MAX: usize = 8 << 20;
/// How long the client waits for news while steps are taken [ns].
const NEWS_NS: u64 = 5_000_000;
/// Blocks that wait for the owner, at most.
const OTHERS_MAX: usize = 64;
/// A replica that is so suspicious is taken for silent when the client is told whether anything can be decided.
const SILENT_PHI_HUNDREDTHS: u32 = 1000;
/// Remarks that are kept for the client, at most.
const REMARKS_MAX: usize = 256;
/// Blocks that are kept as evidence until the owner takes them, at most.
const EVIDENCE_MAX: usize = 4;

/// A block that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The epoch in which it was sent.
    pub epoch: Epoch,
    /// Who sent it.
    pub of: NodeId,
    /// The block.
    pub block: Vec<u8>,
}

/// What a step took to compute.
pub type Measure = Box<dyn Fn(&Proposal) -> Took + Send>;

/// What an owner needs to know after a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// There is work: poll again at once.
    Busy,
    /// Nothing to do before this time, unless something comes.
    Idle {
        /// When to poll again at the latest.
        until: Time,
    },
}

/// A node of a run.
pub struct Member<T> {
    me: NodeId,
    life: Incarnation,
    setup: Setup,
    common: Common,
    names: Names,
    start: Clock,
    machine: Machine,
    transport: T,
    cpu: Arc<Cpu>,
    history: Arc<OnceLock<History>>,
    partition: Option<Partition>,
    tasks: VecDeque<Task>,
    /// The step or the task that the partition is at.
    at: Option<Task>,
    snapshots: BTreeMap<u64, Snapshot>,
    copies: BTreeMap<(NodeId, u64), Snapshot>,
    /// Whether somebody sent what cannot be used: nothing more is computed in this epoch.
    offended: bool,
    /// The blocks that were it, for the owner.
    evidence: Vec<Evidence>,
    /// Counts whatever moves.
    moved: u64,
    /// What the machine was told last.
    stood: Standing,
    /// A copy that the buddy has yet to acknowledge.
    copying: Option<(Epoch, CopyShare)>,
    future: Vec<(NodeId, Tag, Vec<u8>)>,
    /// Blocks of this epoch that the transport had no room for.
    backlog: VecDeque<(NodeId, Tag, Vec<u8>)>,
    /// Letters that were not delivered yet: their numbers and sizes.
    waiting: BTreeMap<NodeId, BTreeMap<u64, usize>>,
    /// The step that the committed state of the partition belongs to: behind the chain while steps are computed again.
    here: Option<u64>,
    next_boundary: u64,
    /// What steps took since the last boundary.
    took: Took,
    breaches: Breaches,
    remarks: Vec<String>,
    /// How many of them the client was told.
    remarks_told: usize,
    events: Vec<AuditEvent>,
    spent: Spent,
    idleness: Idleness,
    measure: Measure,
    /// What packing takes, where no clock may be looked at.
    packing_ps: Option<u64>,
    granted: u64,
    news_at: Option<Time>,
    /// What the client was told last: whether all allowed steps are done, whether the run is over, the epoch.
    told: Option<(bool, bool, Epoch)>,
    /// Questions that wait until the state that they ask for is here.
    collect: Option<Ask>,
    count: Option<Ask>,
    letters: u64,
    stopped: bool,
    /// What came and is none of a run's.
    others: Vec<(NodeId, u16, Vec<u8>)>,
    client_heard_at: Time,
    closed: bool,
}

impl<T: std::fmt::Debug> std::fmt::Debug for Member<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("me", &self.me).field("life", &self.life).finish_non_exhaustive()
    }
}

impl<T: Transport> Member<T> {
    /// A member from the start of a run.
    ///
    /// # Panics
    /// If it is not among the nodes of the setup.
    #[must_use]
    pub fn starting(me: NodeId, setup: Setup, cpu: Arc<Cpu>, transport: T, options: Options, now: Time) -> Self {
        let life = setup.nodes.iter().find(|(node, _)| *node == me).expect("a node of the run").1;
        Self::with(me, life, setup, cpu, transport, now, |genesis, judge| {
            Machine::starting(me, genesis, judge, options, now)
        })
    }

    /// A node that was started anew in the middle of a run: it asks to be taken in.
    #[must_use]
    pub fn joining(
        (me, life): (NodeId, Incarnation),
        setup: Setup,
        cpu: Arc<Cpu>,
        transport: T,
        options: Options,
        now: Time,
    ) -> Self {
        let roster = setup.nodes.iter().map(|(node, _)| *node).collect();
        Self::with(me, life, setup, cpu, transport, now, |genesis, judge| {
            (Machine::joining((me, life), genesis, roster, judge, options, now), Vec::new())
        })
    }

    fn with(
        me: NodeId,
        life: Incarnation,
        setup: Setup,
        cpu: Arc<Cpu>,
        transport: T,
        now: Time,
        machine: impl FnOnce(CopyRecord, Box<dyn crate::coordinator::Judge>) -> (Machine, Vec<Output>),
    ) -> Self {
        let history = Arc::new(OnceLock::new());
        if let Some(known) = setup.state.history.clone() {
            history.set(known).expect("it is new");
        }
        let state = &setup.state;
        let physics =
            Physics { rules: state.rules, quanta: state.quanta, start: state.clock, history: Arc::clone(&history) };
        let (machine, outputs) = machine(setup.genesis(), Box::new(physics));
        let mut member = Self {
            me,
            life,
            common: setup.common(),
            names: state.names.clone(),
            start: state.clock,
            machine,
            transport,
            cpu,
            history,
            partition: None,
            tasks: VecDeque::new(),
            at: None,
            snapshots: BTreeMap::new(),
            copies: BTreeMap::new(),
            offended: false,
            evidence: Vec::new(),
            moved: 0,
            stood: Standing::default(),
            copying: None,
            future: Vec::new(),
            backlog: VecDeque::new(),
            waiting: BTreeMap::new(),
            here: None,
            next_boundary: 0,
            took: Took::default(),
            breaches: Breaches::default(),
            remarks: Vec::new(),
            remarks_told: 0,
            events: Vec::new(),
            spent: Spent::default(),
            idleness: Idleness::default(),
            measure: Box::new(|proposal| proposal.took),
            packing_ps: None,
            granted: 0,
            news_at: None,
            told: None,
            collect: None,
            count: None,
            letters: 0,
            stopped: false,
            others: Vec::new(),
            client_heard_at: now,
            closed: false,
            setup,
        };
        member.obey(outputs, now);
        member
    }

    /// The node.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// Whether a node has a place in the run, member or not.
    #[must_use]
    pub fn has_place(&self, node: NodeId) -> bool {
        self.setup.nodes.iter().any(|(known, _)| *known == node)
    }

    /// Its part in the step protocol.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What carries its blocks.
    pub fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Its particles.
    pub fn partition_mut(&mut self) -> Option<&mut Partition> {
        self.partition.as_mut()
    }

    /// What it is at, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { at, tasks, future, remarks, .. } = self;
        let remarks = &remarks[remarks.len().saturating_sub(3)..];
        format!("at {at:?}, then {tasks:?}, {} blocks of later epochs, remarks {remarks:?}", future.len())
    }

    /// Whether the run is over here.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// What is to be written to the audit log.
    pub fn take_events(&mut self) -> Vec<AuditEvent> {
        std::mem::take(&mut self.events)
    }

    /// Blocks that could not be used and that nobody has taken yet: what this node accuses others by.
    pub fn take_evidence(&mut self) -> Vec<Evidence> {
        std::mem::take(&mut self.evidence)
    }

    /// What came and is none of a run's: sender, kind, contents.
    pub fn take_others(&mut self) -> Vec<(NodeId, u16, Vec<u8>)> {
        std::mem::take(&mut self.others)
    }

    /// Sends something that is none of a run's.
    pub fn post_message(&mut self, to: NodeId, kind: u16, bytes: Vec<u8>) {
        self.letters += 1;
        self.post(to, Tag { epoch: Epoch(u32::MAX), step: self.letters, kind, part: 0 }, bytes);
    }

    /// Whether the client said that the run is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// When the client was last heard.
    #[must_use]
    pub fn client_heard_at(&self) -> Time {
        self.client_heard_at
    }

    /// Takes another measure than the clock on the wall: who computes longer is given less to own, and how long pairs take decides how
    /// often they are evaluated. `packing_ps` is what packing and unpacking three values takes [ps].
    pub fn measure_by(&mut self, measure: Measure, packing_ps: u64) {
        (self.measure, self.packing_ps) = (measure, Some(packing_ps));
        let packing = self.packing();
        self.partition.iter_mut().for_each(|partition| partition.pack(packing));
    }

    /// Whether blocks are packed, before anything is measured: never where they cross no network.
    fn packing(&self) -> Packing {
        match self.transport.capabilities().crosses_a_network {
            true => Packing::chosen(self.packing_ps),
            false => Packing::given(false),
        }
    }

    /// Where the time went.
    #[must_use]
    pub fn spent(&self) -> &Spent {
        &self.spent
    }

    /// The operator wants this node to go on without the others.
    pub fn go_on_alone(&mut self, now: Time) {
        self.tell(Input::GoOnAlone, now);
    }

    /// Takes in what came, does what is due, and works a little.
    pub fn poll(&mut self, now: Time) -> Activity {
        self.idleness.end(&mut self.spent);
        self.listen(now);
        if now >= self.machine.wake() {
            self.report_standing(now);
            self.tell(Input::Tick, now);
        }
        self.begin_next();
        let busy = self.work(now);
        self.send_blocks();
        self.answer_collect();
        self.send_news(now, false);
        self.send_remarks();
        if busy || self.begins_at_once() {
            // Work took time. What was posted goes out when the owner polls again, which is at once and with the time that it is then.
            return Activity::Busy;
        }
        self.listen(now);
        if self.begins_at_once() {
            return Activity::Busy;
        }
        self.idleness.begin(self.awaited());
        Activity::Idle { until: self.machine.wake() }
    }

    fn listen(&mut self, now: Time) {
        loop {
            let watch = Stopwatch::start();
            let event = self.transport.poll(now);
            self.spent.transport += watch.seconds();
            let Some(event) = event else { return };
            self.take(event, now);
        }
    }

    /// What a member that has nothing to do waits for.
    fn awaited(&self) -> Awaited {
        if self.at.is_some() {
            Awaited::Blocks
        } else if self.machine.head().step < self.granted {
            Awaited::Decision
        } else {
            Awaited::Client
        }
    }

    fn begins_at_once(&self) -> bool {
        let free = self.at.is_none() || self.counts_in_vain();
        free && !self.offended && self.partition.is_some() && (!self.tasks.is_empty() || self.may_count().is_some())
    }

    /// Whether a count is under way that nobody waits for any more. It may never end: others may have left it out.
    fn counts_in_vain(&self) -> bool {
        matches!(self.at, Some(Task::Count(_))) && !(self.tasks.is_empty() && self.count.is_none())
    }

    /// Whether the committed state is the one that is asked for.
    fn is_at(&self, ask: Ask) -> bool {
        ask.epoch == self.machine.epoch() && self.here == Some(ask.step)
    }

    /// The question that can be answered by counting now.
    fn may_count(&self) -> Option<Ask> {
        let settled = self.partition.as_ref().is_some_and(Partition::is_settled);
        self.count.filter(|ask| settled && self.is_at(*ask))
    }

    fn tell(&mut self, input: Input, now: Time) {
        if let Input::Proposed { step, .. } = &input {
            self.idleness.voted(*step);
        }
        let watch = Stopwatch::start();
        let outputs = self.machine.step(now, input);
        self.spent.protocol += watch.seconds();
        self.obey(outputs, now);
    }

    // ---------------------------------------------------------------------------------------- what comes

    fn take(&mut self, event: Event, now: Time) {
        match event {
            Event::Received { from, incarnation, tag, bytes } => match Kind::of(tag.kind) {
                None if tag.kind < Kind::Letter as u16 => self.take_block(from, tag, bytes, now),
                None => self.take_other(from, tag.kind, bytes),
                Some(kind) => self.take_message(from, incarnation, kind, tag, &bytes, now),
            },
            Event::Delivered { to, tag } => {
                if tag.epoch == LETTERS
                    && let Some(waiting) = self.waiting.get_mut(&to)
                {
                    waiting.remove(&tag.step);
                }
            }
            Event::Restarted { peer, incarnation } => {
                self.waiting.remove(&peer);
                tracing::info!("{peer} is there in another life ({})", incarnation.0);
            }
        }
    }

    /// A block that is none of a run's, for the owner.
    fn take_other(&mut self, from: NodeId, kind: u16, bytes: Vec<u8>) {
        if self.others.len() < OTHERS_MAX {
            self.others.push((from, kind, bytes));
        }
    }

    /// A block of a step, for the partition: now, or when its epoch begins here.
    fn take_block(&mut self, from: NodeId, tag: Tag, bytes: Vec<u8>, now: Time) {
        let epoch = self.machine.epoch();
        if tag.epoch > epoch {
            if self.future.iter().filter(|(sender, ..)| *sender == from).count() < FUTURE_BLOCKS_MAX {
                self.future.push((from, tag, bytes));
            } else {
                self.remark(format!("{from} is far ahead: a block of {} is dropped", tag.epoch));
            }
            return;
        }
        if let Some(partition) = self.partition.as_mut().filter(|_| tag.epoch == epoch)
            && !self.offended
        {
            self.moved += 1;
            if let Err(offence) = partition.take(from, tag, bytes) {
                self.accuse(offence, now);
            }
        }
    }

    /// Nothing more can be computed in this epoch, and whose fault that is. It has proved who it is: its own code or memory is at fault.
    fn accuse(&mut self, offence: Offence, now: Time) {
        let Offence { from: of, what, block } = &offence;
        let hash = blake3::hash(block);
        let what = format!("it sent {} bytes (BLAKE3 {hash}) that cannot be used: {what}", block.len());
        self.remark(format!("{of}: {what}"));
        let epoch = self.machine.epoch();
        if self.evidence.len() < EVIDENCE_MAX && !self.offended {
            self.evidence.push(Evidence { epoch, of: *of, block: offence.block });
        }
        self.offended = true;
        self.tell(Input::Offended { epoch, of: offence.from, what }, now);
    }

    fn take_message(&mut self, from: NodeId, incarnation: Incarnation, kind: Kind, tag: Tag, bytes: &[u8], now: Time) {
        if from == NodeId::CLIENT {
            self.client_heard_at = now;
        }
        let taken = match (kind, from == NodeId::CLIENT) {
            (Kind::Letter, false) => {
                let watch = Stopwatch::start();
                let letter = Letter::from_bytes(bytes);
                self.spent.protocol += watch.seconds();
                letter.map(|letter| self.tell(Input::Message { from, incarnation, letter: Box::new(letter) }, now))
            }
            (Kind::Copy, false) => {
                self.keep_copy(from, tag, bytes, now);
                Ok(())
            }
            (Kind::Kept, false) => {
                decode(bytes, "receipt", MESSAGE_BYTES_MAX).map(|kept| self.copy_kept(from, kept, now))
            }
            (Kind::Grant, true) => decode(bytes, "grant", MESSAGE_BYTES_MAX).map(|grant| self.take_grant(grant, now)),
            (Kind::Collect, true) => decode(bytes, "question", MESSAGE_BYTES_MAX).map(|ask| self.collect = Some(ask)),
            (Kind::Ping, true) => Ok(()),
            (Kind::Close, true) => {
                self.closed = true;
                Ok(())
            }
            (Kind::Count, true) => decode(bytes, "question", MESSAGE_BYTES_MAX).map(|ask| self.count = Some(ask)),
            _ => {
                self.remark(format!("{from} may not send a message of kind {kind:?}"));
                Ok(())
            }
        };
        if let Err(error) = taken {
            self.remark(format!("{from} sent what cannot be read: {error}"));
        }
    }

    fn take_grant(&mut self, grant: Grant, now: Time) {
        if self.history.set(grant.history).is_ok() {
            tracing::debug!("{}: the books are open", self.me);
        }
        self.granted = self.granted.max(grant.up_to);
        self.tell(Input::Grant { up_to: grant.up_to }, now);
        self.send_news(now, true);
    }

    fn remark(&mut self, remark: String) {
        tracing::warn!("{}: {}", self.me, harmless(&remark));
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(remark);
        }
    }

    // ---------------------------------------------------------------------------------------- what is to be done

    fn obey(&mut self, outputs: Vec<Output>, now: Time) {
        for output in outputs {
            match output {
                Output::Send { to, letter } => {
                    let watch = Stopwatch::start();
                    let bytes = letter.to_bytes();
                    self.spent.protocol += watch.seconds();
                    self.post_letter(to, Kind::Letter, bytes);
                }
                Output::Start(config) => self.start(&config, now),
                Output::Compute { step } => self.tasks.push_back(Task::Step(step)),
                Output::Commit(decision) => self.commit(&decision),
                Output::Again { step } => {
                    self.partition.as_mut().expect("it proposed the step").commit();
                    self.here = Some(step);
                }
                Output::Undo(decision) => self.undo(&decision),
                Output::Boundary { step, boundary, buddy } => {
                    self.tasks.push_back(Task::HandOver { step, boundary, buddy });
                }
                Output::Halt { step, stage } => self.halt(step, stage, now),
                Output::DropCopiesBefore { step } => {
                    self.snapshots.retain(|kept, _| *kept >= step);
                    self.copies.retain(|(_, kept), _| *kept >= step);
                }
                Output::Record(event) => self.events.push(event),
                Output::Stop => {
                    self.stopped = true;
                    self.news_at = None;
                }
                Output::Expelled => {
                    self.partition = None;
                    self.here = None;
                    self.backlog.clear();
                    self.tasks.clear();
                    self.at = None;
                    self.remark("left out of the run; asks to be taken in again".into());
                }
            }
        }
    }

    fn post(&mut self, to: NodeId, tag: Tag, bytes: Vec<u8>) -> bool {
        match self.transport.post(to, tag, bytes) {
            Ok(()) => return true,
            Err(error @ (PostError::Full { .. } | PostError::Unknown(_))) => tracing::debug!("{}: {error}", self.me),
            Err(error @ PostError::Oversize { .. }) => self.remark(error.to_string()),
        }
        false
    }

    /// Posts what may get lost, because it is sent again as long as it matters; says whether it was posted. No epoch cancels it: so only so much may wait for a peer
    /// that is dead, or cut off.
    fn post_letter(&mut self, to: NodeId, kind: Kind, bytes: Vec<u8>) -> bool {
        self.letters += 1;
        let waiting = self.waiting.entry(to).or_default();
        let (length, bytes_waiting) = (bytes.len(), waiting.values().sum::<usize>());
        let fits = waiting.is_empty() || bytes_waiting + length <= LETTER_BYTES_WAITING_MAX;
        if waiting.len() >= LETTERS_WAITING_MAX || !fits {
            return false;
        }
        let number = self.letters;
        let posted = self.post(to, Tag { epoch: LETTERS, step: number, kind: kind as u16, part: 0 }, bytes);
        if posted {
            self.waiting.entry(to).or_default().insert(number, length);
        }
        posted
    }

    /// Posts what must arrive if the epoch is to go on: when there is no room for it, it waits here.
    fn post_surely(&mut self, to: NodeId, tag: Tag, bytes: Vec<u8>) {
        self.backlog.push_back((to, tag, bytes));
        self.post_backlog();
    }

    fn post_backlog(&mut self) {
        for _ in 0..self.backlog.len() {
            let Some((to, tag, bytes)) = self.backlog.pop_front() else { return };
            if self.transport.is_full(to, bytes.len()) {
                self.backlog.push_back((to, tag, bytes));
            } else {
                self.post(to, tag, bytes);
            }
        }
    }

    /// A new epoch: takes what it is given of the copy from which all begin.
    fn start(&mut self, config: &Config, now: Time) {
        self.transport.cancel_before(config.epoch);
        self.tasks.clear();
        self.at = None;
        self.offended = false;
        self.stood = Standing::default();
        self.copying = None;
        self.here = None;
        self.backlog.clear();
        // Whoever asked has heard of the epoch already.
        self.collect = self.collect.filter(|ask| ask.epoch >= config.epoch);
        self.count = self.count.filter(|ask| ask.epoch >= config.epoch);
        (self.next_boundary, self.took) = (config.next_boundary, Took::default());
        let step = config.restart.step;
        let mut particles = Vec::new();
        let mut cuts = None;
        for (&owner, _) in config.adoption.iter().filter(|(_, adopter)| **adopter == self.me) {
            let snapshot = self.snapshot_of(owner, step);
            particles.extend(snapshot.particles);
            cuts = cuts.or(Some(snapshot.cuts));
        }
        let cuts = config.adoption.iter().fold(cuts.unwrap_or_else(|| Cuts::whole(self.me)), |cuts, (&from, &to)| {
            if from == to { cuts } else { cuts.adopted(from, to) }
        });
        let (held, root) = held_by(&particles, self.common.rules.angular_momentum);
        let members: Vec<NodeId> = config.nodes().collect();
        let me = (self.me, config.epoch);
        let mut partition = Partition::new(me, &members, cuts, self.common, particles, Arc::clone(&self.cpu));
        partition.pack(self.packing());
        partition.propose_restored();
        self.partition = Some(partition);
        // Its own snapshot of that step stays what it was: what it adopted is kept as a copy, and the next epoch may begin there again.
        let future = std::mem::take(&mut self.future);
        future.into_iter().for_each(|(from, tag, bytes)| self.take_block(from, tag, bytes, now));
        let share = Share { held, gained: Vec::new(), root, extra: encode(&Extra::default()), work_ns: 0 };
        self.tell(Input::Proposed { epoch: config.epoch, step, share }, now);
    }

    /// What a node owned after a step that was copied.
    fn snapshot_of(&self, owner: NodeId, step: u64) -> Snapshot {
        if step == 0 {
            return Snapshot { cuts: self.setup.cuts.clone(), particles: self.setup.particles_of(owner) };
        }
        let own = self.snapshots.get(&step).filter(|_| owner == self.me);
        let kept = own.or_else(|| self.copies.get(&(owner, step)));
        kept.unwrap_or_else(|| panic!("{} was given what it does not keep: {owner} after step {step}", self.me)).clone()
    }

    fn commit(&mut self, decision: &Decision) {
        self.partition.as_mut().expect("it proposed the step").commit();
        self.idleness.decided(decision.step, &mut self.spent);
        self.here = Some(decision.step);
        self.next_boundary = decision.next_boundary;
        match &decision.verdict {
            Verdict::CommitAndRecord(breach) | Verdict::CommitAndStop(breach) => {
                let breach = breach.clone();
                self.breached(decision.step, breach, false);
            }
            _ => {}
        }
        self.breaches.stopped |= decision.verdict.is_stop();
    }

    fn breached(&mut self, step: u64, breach: crate::audit::Breach, undone: bool) {
        let step = self.start.after(step);
        let breach = breach.renamed(&self.names);
        self.breaches.record(BreachReport { step, time: step as f64 * self.start.dt, breach, undone });
    }

    fn undo(&mut self, decision: &Decision) {
        self.tasks.clear();
        self.at = None;
        if let Some(partition) = &mut self.partition {
            partition.undo();
        }
        let Verdict::Undo { cause, .. } = &decision.verdict else { return };
        if decision.verdict.is_stop() {
            self.breaches.stopped = true;
            match cause {
                Cause::Violation { breach, .. } | Cause::Judged(breach) => {
                    self.breached(decision.step, breach.clone(), true);
                }
                Cause::Entry(_) | Cause::Offence(_) => {
                    self.remark(format!("step {}: {cause}", self.start.after(decision.step)));
                }
            }
        } else {
            self.remark(format!("step {} is taken again: {cause}", self.start.after(decision.step)));
        }
    }

    fn halt(&mut self, step: u64, stage: u16, now: Time) {
        let waits = self.tasks.iter().position(|task| matches!(task, Task::Step(waiting) if *waiting == step));
        if let Some(at) = waits {
            self.tasks.remove(at);
            let epoch = self.machine.epoch();
            self.tell(Input::Held { epoch, step, stage }, now);
        } else if let (Some(Task::Step(at)), Some(partition)) = (&self.at, &mut self.partition)
            && *at == step
        {
            partition.halt(stage);
        }
    }

    // ---------------------------------------------------------------------------------------- work

    fn begin_next(&mut self) {
        let in_vain = self.counts_in_vain();
        let counts = if self.tasks.is_empty() { self.may_count() } else { None };
        let Some(partition) = self.partition.as_mut() else { return };
        if in_vain {
            partition.abandon_count();
            self.at = None;
        }
        if self.at.is_some() || self.offended {
            return;
        }
        let Some(task) = self.tasks.pop_front().or(counts.map(Task::Count)) else { return };
        match &task {
            Task::Step(step) => {
                let recount = self.start.after(*step).is_multiple_of(self.common.rules.energy_every);
                let others = partition.members().to_vec();
                partition.weigh_packing(others.into_iter().filter_map(|node| self.transport.path(node)));
                partition.begin(*step, recount);
            }
            Task::HandOver { step, boundary, .. } => {
                let Arrangement { cuts, way } = Arrangement::from_bytes(&boundary.cuts, partition.members());
                way.into_iter().for_each(|way| partition.evaluate(way));
                partition.hand_over(*step, cuts);
            }
            Task::Count(ask) => {
                self.count = None;
                partition.begin_count(ask.step, ask.id);
            }
        }
        self.at = Some(task);
    }

    /// Whether there is more to do.
    fn work(&mut self, now: Time) -> bool {
        let may = self.at.is_some() && !self.offended;
        let Some(partition) = self.partition.as_mut().filter(|_| may) else { return false };
        let progress = partition.work();
        self.spent.phases.add_all(&partition.take_phases());
        match progress {
            Ok(Progress::Working) => {
                self.moved += 1;
                return true;
            }
            Ok(Progress::Waiting | Progress::Idle) => return false,
            Ok(ended) => {
                self.moved += 1;
                self.end_task(ended, now);
            }
            Err(offence) => self.accuse(offence, now),
        }
        true
    }

    /// Tells the machine how far the work is.
    fn report_standing(&mut self, now: Time) {
        let progress = self.moved.wrapping_add(self.transport.parts_received());
        let buddy = self.machine.config().and_then(|config| config.buddy(self.me));
        let copying = self.copying.as_ref().zip(buddy).map(|((_, copy), buddy)| ((copy.step, u16::MAX), vec![buddy]));
        let waits = self.partition.as_ref().and_then(Partition::waits_for).or(copying);
        let rest = Standing { progress, ..Standing::default() };
        let standing = waits.map_or(rest, |(at, waits_for)| Standing { progress, at, waits_for });
        if self.stood != standing {
            self.stood = standing.clone();
            let epoch = self.machine.epoch();
            self.tell(Input::Standing { epoch, standing }, now);
        }
    }

    fn end_task(&mut self, ended: Progress, now: Time) {
        let task = self.at.take();
        let epoch = self.machine.epoch();
        match (ended, task) {
            (Progress::Proposed(mut proposal), _) => {
                proposal.took = (self.measure)(&proposal);
                self.took = self.took.plus(proposal.took);
                let last = proposal.step + 1 == self.next_boundary;
                let pace = last.then(|| self.pace());
                let partition = self.partition.as_mut().expect("it worked");
                let sketch = last.then(|| partition.sketch());
                let extra = Extra { recount: proposal.recount, sketch, effort_ns: self.took.nanoseconds, pace };
                let share = message::share(&proposal, &extra);
                self.tell(Input::Proposed { epoch, step: proposal.step, share }, now);
            }
            (Progress::Violated(violation), _) => {
                let order = (violation.order[0], violation.order[1]);
                let (step, stage, breach) = (violation.step, violation.stage, violation.breach);
                self.tell(Input::Violated { epoch, step, stage, order, breach }, now);
            }
            (Progress::Held { step, stage }, _) => self.tell(Input::Held { epoch, step, stage }, now),
            (Progress::HandedOver { step }, Some(Task::HandOver { boundary, buddy, .. })) => {
                self.took = Took::default();
                if boundary.copy {
                    self.copy(step, buddy, now);
                }
            }
            (Progress::Counted(share), Some(Task::Count(ask))) => self.answer_count(ask, *share),
            (ended, task) => unreachable!("{task:?} ended with {ended:?}"),
        }
    }

    /// What decides how pairs are evaluated.
    fn pace(&self) -> Pace {
        let partition = self.partition.as_ref().expect("it worked");
        let paths = partition.members().iter().filter_map(|&node| self.transport.path(node));
        let round_trip_ns = paths.map(|path| path.round_trip_ns).max().unwrap_or(0);
        let Took { pairs, pair_nanoseconds: pair_ns, .. } = self.took;
        Pace { pairs, pair_ns, round_trip_ns, way: partition.way() }
    }

    fn send_blocks(&mut self) {
        let Some(partition) = &mut self.partition else { return };
        let outgoing: Vec<_> = partition.outbox().collect();
        self.backlog.extend(outgoing.into_iter().map(|block| (block.to, block.tag, block.bytes)));
        self.post_backlog();
    }

    // ---------------------------------------------------------------------------------------- copies

    /// Keeps a snapshot of the committed state, and sends a copy of it to the buddy.
    fn copy(&mut self, step: u64, buddy: Option<NodeId>, now: Time) {
        let partition = self.partition.as_mut().expect("it handed over");
        let (particles, cuts) = (partition.particles(), partition.cuts().clone());
        let (held, root) = held_by(&particles, self.common.rules.angular_momentum);
        let gained = partition.carried().iter().map(|(&node, &gained)| (Account::Peer(node), gained)).collect();
        let share = Share { held, gained, root, extra: Vec::new(), work_ns: 0 };
        let epoch = self.machine.epoch();
        let copy = CopyShare { step, share };
        match buddy {
            Some(buddy) => {
                let tag = Tag { epoch, step, kind: Kind::Copy as u16, part: 0 };
                self.post_surely(buddy, tag, write_particles(&cuts, &particles));
                self.copying = Some((epoch, copy));
            }
            None => self.tell(Input::Copied { epoch, copy }, now),
        }
        self.snapshots.insert(step, Snapshot { cuts, particles });
    }

    /// Keeps what another node owns.
    fn keep_copy(&mut self, owner: NodeId, tag: Tag, bytes: &[u8], now: Time) {
        let config = self.machine.config().filter(|config| tag.epoch == config.epoch);
        let Some(config) =
            config.filter(|config| config.buddy(owner) == Some(self.me) && tag.step > config.restart.step)
        else {
            return;
        };
        let members: Vec<NodeId> = config.nodes().collect();
        let read = read_particles::<Cuts>(bytes).map_err(|error| error.to_string());
        let sound = |(cuts, _): &(Cuts, Vec<Particle>)| {
            if cuts.sound_for(&members) { Ok(()) } else { Err("a copy with cuts that cannot be used".to_owned()) }
        };
        let (cuts, particles) = match read.and_then(|copy| sound(&copy).map(|()| copy)) {
            Ok(copy) => copy,
            Err(what) => {
                self.accuse(Offence { from: owner, what, block: bytes.to_vec() }, now);
                return;
            }
        };
        let root = StateRoot::of_particles(&particles).0;
        self.copies.insert((owner, tag.step), Snapshot { cuts, particles });
        self.tell(Input::Stored { owner, step: tag.step }, now);
        // However many an owner sends, only so many are kept.
        let machine = &self.machine;
        self.copies.retain(|(owner, step), _| machine.keeps_copy(*owner, *step));
        let receipt = Tag { kind: Kind::Kept as u16, ..tag };
        self.post_surely(owner, receipt, encode(&Kept { step: tag.step, root }));
    }

    fn copy_kept(&mut self, from: NodeId, kept: Kept, now: Time) {
        let buddy = self.machine.config().and_then(|config| config.buddy(self.me));
        let fits = self.copying.as_ref().is_some_and(|(_, copy)| copy.step == kept.step);
        if !fits || buddy != Some(from) {
            return;
        }
        let (epoch, copy) = self.copying.take().expect("it was seen just now");
        if copy.share.root == kept.root {
            self.tell(Input::Copied { epoch, copy }, now);
        } else {
            let what = format!("it keeps another copy of step {} than was sent to it", kept.step);
            self.accuse(Offence { from, what, block: encode(&kept) }, now);
        }
    }

    // ---------------------------------------------------------------------------------------- the client

    /// Sends the particles, if they were asked for and are where they were asked for.
    fn answer_collect(&mut self) {
        let Some(ask) = self.collect else { return };
        let there = self.is_at(ask);
        let at_rest = self.at.is_none() && self.tasks.is_empty();
        let Some(partition) = self.partition.as_mut().filter(|_| there && at_rest) else { return };
        let bytes = write_particles(&ask, &partition.particles());
        self.collect = None;
        let tag = Tag { epoch: ask.epoch, step: ask.step, kind: Kind::Particles as u16, part: ask.id };
        self.post(NodeId::CLIENT, tag, bytes);
    }

    fn answer_count(&mut self, ask: Ask, share: crate::partition::RecountShare) {
        let partition = self.partition.as_ref().expect("it counted");
        let counted = Counted { ask, share, held: partition.held(), root: partition.root().0 };
        let tag = Tag { epoch: ask.epoch, step: ask.step, kind: Kind::Counted as u16, part: ask.id };
        self.post(NodeId::CLIENT, tag, encode(&counted));
    }

    /// Whether a majority of the replicas is there, as far as this node hears.
    fn can_decide(&self, config: &Config) -> bool {
        let here = |node: &&NodeId| {
            **node == self.me || self.machine.phi_hundredths(**node).is_some_and(|phi| phi < SILENT_PHI_HUNDREDTHS)
        };
        config.replicas.iter().filter(here).count() >= config.majority()
    }

    /// Tells the client what happened here, once.
    fn send_remarks(&mut self) {
        let new = &self.remarks[self.remarks_told..];
        if !new.is_empty() && self.post_letter(NodeId::CLIENT, Kind::Remarks, encode(&Remarks(new.to_vec()))) {
            self.remarks_told = self.remarks.len();
        }
    }

    /// Tells the client where the run stands, if this node decides: now and then, at once when the last allowed step is done, and when it
    /// asks.
    fn send_news(&mut self, now: Time, asked: bool) {
        let Some(config) = self.machine.config().filter(|config| config.coordinator == self.me) else { return };
        let head = self.machine.head();
        let done = head.step >= self.granted || self.stopped;
        let due = self.news_at.is_none_or(|at| now >= at.plus(if done { 20 * NEWS_NS } else { NEWS_NS }));
        let news = News {
            branch: config.branch,
            epoch: config.epoch,
            coordinator: config.coordinator,
            members: config.nodes().collect(),
            index: head.index,
            step: head.step,
            root: head.root,
            notes: None,
            breaches: Vec::new(),
            stopped: self.stopped,
            can_decide: self.can_decide(config),
        };
        let mark = (news.step >= self.granted, news.stopped, news.epoch);
        if !(due || asked || self.told != Some(mark)) {
            return;
        }
        (self.news_at, self.told) = (Some(now), Some(mark));
        let known = &self.breaches.reports;
        let breaches = known[known.len().saturating_sub(NEWS_BREACHES_MAX)..].to_vec();
        let news = News { notes: read_notes(self.machine.notes()), breaches, ..news };
        self.post_letter(NodeId::CLIENT, Kind::News, encode(&news));
    }
}
