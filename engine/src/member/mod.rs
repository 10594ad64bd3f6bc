//! A node of a run on many nodes: its partition, its part in the step protocol, and what it carries from one to the other.
//!
//! Nobody is waited for. The owner polls, says what time it is, and hears how soon to poll again; servers do so with a network and a
//! clock, tests with a simulated one. What is decided is decided by [`crate::coordinator`]; what is computed, by [`crate::partition`].

mod client;
mod copies;
mod inbox;
pub mod judge;
pub mod message;
mod orders;
mod outbox;
mod setup;
pub mod spent;
mod work;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, OnceLock},
};

pub use self::setup::{Setup, common_of};
use self::{
    judge::Physics,
    message::{Ask, Snapshot},
    spent::{Idleness, Spent},
};
use crate::{
    backend::cpu::Cpu,
    commit::Breaches,
    coordinator::{AuditEvent, Boundary, CopyRecord, CopyShare, Input, Machine, Options, Output, Standing},
    exchange::packing::Packing,
    metrics::Stopwatch,
    node::History,
    particle::Names,
    partition::{Common, Partition, Proposal, Took},
    step::Clock,
    transport::{Tag, Transport},
    wire::{Epoch, Incarnation, NodeId, Time},
};

/// What the partition is to do next.
#[derive(Clone, Debug)]
enum Task {
    Step(u64),
    HandOver { step: u64, boundary: Boundary, buddy: Option<NodeId> },
    Count(Ask),
}

/// The epoch in the tags of letters and news: one that never ends.
const LETTERS: Epoch = Epoch(u32::MAX);

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
    /// Who sent what cannot be used, and the step of that time: nothing more is computed in this epoch.
    offended: Option<(NodeId, u64)>,
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
            common: common_of(&setup.state),
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
            offended: None,
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

    fn tell(&mut self, input: Input, now: Time) {
        if let Input::Proposed { step, .. } = &input {
            self.idleness.voted(*step);
        }
        let watch = Stopwatch::start();
        let outputs = self.machine.step(now, input);
        self.spent.protocol += watch.seconds();
        self.obey(outputs, now);
    }
}
