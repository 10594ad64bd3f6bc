//! Several partitions in one process, one thread driving them in turn: `emmy run --partitions N`.
//!
//! The partitions are those that servers run, and so are the blocks between them; only the way from one to the other is a move of
//! bytes. A step counts if every partition did it, if for every two of them what one took is what the other gave, and if the whole
//! passes the audit of a run on one node: balanced and judged by the code of servers, but here and at once. The bits are those of
//! one node, the book and the record too.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    audit::{Breach, BreachReport, Drifts, Recount, Rules},
    backend::cpu::Cpu,
    commit::Breaches,
    coordinator::{Judge, Ruling, Share, balance},
    exchange::{Way, message::Kind, packing::Packing},
    force::Law,
    integrator::Splitting,
    ledger::{Amounts, Ledger},
    member::{
        common_of,
        judge::{Physics, read_notes},
        message::{Extra, Notes, share},
    },
    metrics::Phases,
    node::{History, State},
    particle::{Names, Particle, ParticleId},
    partition::{
        Partition, Progress, Proposal, RecountShare, Violation,
        cuts::{Cuts, Effort, Sketch, rebalanced},
        share::{owned_by, share_out},
    },
    quanta::Quanta,
    run::engine::{Engine, Traffic},
    snapshot::root::StateRoot,
    step::Clock,
    wire::{Epoch, NodeId, encode},
};

/// Steps between two times at which particles change hands.
pub const HANDOVER_STEPS: u64 = 64;

/// Several partitions and what is decided over all of them.
#[derive(Debug)]
pub struct Cluster {
    parts: Vec<Partition>,
    /// What each partition holds, and what of that is committed.
    held: Vec<Amounts>,
    cpu: Arc<Cpu>,
    names: Names,
    quanta: Quanta,
    law: Law,
    splitting: &'static Splitting,
    clock: Clock,
    rules: Rules,
    ledger: Ledger,
    drifts: Option<Drifts>,
    breaches: Breaches,
    phases: Phases,
    traffic: Traffic,
    handover_steps: u64,
    since_handover: u64,
    counts: u16,
    /// Whether cuts follow the times that partitions take.
    balances: bool,
    efforts: BTreeMap<NodeId, Effort>,
    physics: Physics,
}

/// What a partition says of a step.
fn share_of(proposal: &Proposal) -> Share {
    share(proposal, &Extra { recount: proposal.recount, ..Extra::default() })
}

impl Cluster {
    /// The particles of a state, cut into so many partitions of equally many.
    ///
    /// # Panics
    /// If there is to be none.
    #[must_use]
    pub fn new(state: State, cpu: Cpu, partitions: u16) -> Self {
        Self::with_shares(state, cpu, &vec![1; usize::from(partitions)])
    }

    /// The same with a share of the particles for each partition.
    ///
    /// # Panics
    /// If nobody gets anything.
    #[must_use]
    pub fn with_shares(state: State, cpu: Cpu, shares: &[u64]) -> Self {
        let nodes: Vec<NodeId> = (0..shares.len() as u16).map(NodeId).collect();
        let shares: Vec<(NodeId, u64)> = nodes.iter().copied().zip(shares.iter().copied()).collect();
        let (cuts, owners) = share_out(&state.particles, state.law.contract, &shares);
        let (common, cpu) = (common_of(&state), Arc::new(cpu));
        let part = |&node: &NodeId| {
            let mine = owned_by(&state.particles, &owners, node);
            Partition::new((node, Epoch(0)), &nodes, cuts.clone(), common, mine, Arc::clone(&cpu))
        };
        let parts: Vec<Partition> = nodes.iter().map(part).collect();
        let mut cluster = Self {
            held: parts.iter().map(Partition::held).collect(),
            traffic: Traffic { partitions: parts.len(), ..Traffic::default() },
            parts,
            cpu,
            names: state.names,
            quanta: state.quanta,
            law: state.law,
            splitting: state.splitting,
            clock: state.clock,
            rules: state.rules,
            ledger: Ledger::default(),
            drifts: None,
            breaches: Breaches::default(),
            phases: Phases::default(),
            handover_steps: HANDOVER_STEPS,
            since_handover: 0,
            counts: 0,
            balances: true,
            efforts: BTreeMap::new(),
            physics: Physics {
                rules: state.rules,
                quanta: state.quanta,
                // Steps are counted from the start of the scenario, whichever way the run goes.
                start: Clock { step: 0, dt: state.clock.dt, backwards: false },
                history: Arc::default(),
            },
        };
        match state.history {
            Some(History { ledger, drifts, breaches }) => {
                cluster.ledger = ledger;
                cluster.drifts = Some(drifts);
                cluster.breaches.reports = breaches;
            }
            None => cluster.open_books(),
        }
        cluster
    }

    /// After how many steps particles change hands, and whether cuts follow the times that partitions take. The bits are the same.
    pub fn hand_over_every(&mut self, steps: u64, balances: bool) {
        (self.handover_steps, self.balances) = (steps.max(1), balances);
    }

    /// Whether bytes are compressed as for a network, so that traffic is what it would be there.
    pub fn pack(&mut self, pack: bool) {
        self.parts.iter_mut().for_each(|part| part.pack(Packing::given(pack)));
    }

    /// How often pairs of two partitions are evaluated from now on. The bits are the same.
    pub fn evaluate(&mut self, way: Way) {
        self.parts.iter_mut().for_each(|part| part.evaluate(way));
    }

    /// Particles of each partition.
    #[must_use]
    pub fn counts(&self) -> Vec<usize> {
        self.parts.iter().map(Partition::count).collect()
    }

    fn open_books(&mut self) {
        let share = self.count_all();
        let first = share.recount(&self.ledger, self.clock.step);
        self.drifts = Some(Drifts::starting_at(&first, share.centre(), share.momentum, &self.quanta));
        let opening = self.held.iter().fold(Amounts::default(), |sum, held| sum.plus(*held));
        self.ledger = Ledger::opened_with(Amounts { energy: first.energy(), ..opening });
    }

    /// Energy and centre of mass of the committed state.
    fn count_all(&mut self) -> RecountShare {
        self.counts = self.counts.wrapping_add(1);
        let (step, id) = (self.clock.step, self.counts);
        self.parts.iter_mut().for_each(|part| part.begin_count(step, id));
        let ended = self.drive();
        let shares = ended.into_iter().map(|progress| match progress {
            Progress::Counted(share) => *share,
            other => unreachable!("a count ends with a count, not with {other:?}"),
        });
        shares.fold(RecountShare::default(), RecountShare::plus)
    }

    /// Lets all partitions work until each of them has come to an end, or waits for one that was stopped.
    fn drive(&mut self) -> Vec<Progress> {
        let mut ended: Vec<Progress> = vec![Progress::Working; self.parts.len()];
        loop {
            let mut moved = false;
            for at in 0..self.parts.len() {
                if matches!(ended[at], Progress::Working | Progress::Waiting) {
                    let progress = self.parts[at].work();
                    ended[at] = progress.unwrap_or_else(|offence| unreachable!("in one process: {offence}"));
                    moved |= ended[at] != Progress::Waiting;
                }
                moved |= self.deliver(at);
            }
            if !moved {
                self.parts.iter_mut().for_each(|part| self.phases.add_all(&part.take_phases()));
                return ended;
            }
        }
    }

    /// Carries what a partition has to send.
    fn deliver(&mut self, from: usize) -> bool {
        let outgoing: Vec<_> = self.parts[from].outbox().collect();
        let sender = self.parts[from].me();
        let any = !outgoing.is_empty();
        for block in outgoing {
            let bytes = block.bytes.len() as u64;
            match block.tag.kind {
                kind if kind == Kind::Halo as u16 => self.traffic.halo_bytes += bytes,
                kind if kind == Kind::Return as u16 => self.traffic.return_bytes += bytes,
                _ => {}
            }
            let to = &mut self.parts[usize::from(block.to.0)];
            to.take(sender, block.tag, block.bytes).unwrap_or_else(|offence| unreachable!("in one process: {offence}"));
        }
        any
    }

    fn step(&mut self) {
        let next = self.clock.after(1);
        let recount = next.is_multiple_of(self.rules.energy_every);
        if self.since_handover >= self.handover_steps {
            let (cuts, step) = (self.next_cuts(), self.clock.step);
            self.parts.iter_mut().for_each(|part| part.hand_over(step, cuts.clone()));
            self.drive();
            self.since_handover = 0;
        }
        self.since_handover += 1;
        self.parts.iter_mut().for_each(|part| part.begin(next, recount));
        let ended = self.drive();
        let violation = ended.iter().filter_map(|progress| match progress {
            Progress::Violated(violation) => Some(violation.as_ref()),
            _ => None,
        });
        let first = violation.min_by_key(|v| (v.stage, v.order)).cloned();
        match first {
            Some(Violation { breach, .. }) => self.undo(breach.renamed(&self.names)),
            None => self.judge(ended),
        }
    }

    /// Where partitions are to be cut from now on, if that is to change.
    fn next_cuts(&mut self) -> Option<Cuts> {
        let efforts: Vec<(NodeId, Effort)> = std::mem::take(&mut self.efforts).into_iter().collect();
        if !self.balances || efforts.len() < self.parts.len() {
            return None;
        }
        let shares = rebalanced(&efforts)?;
        let sketches: Vec<Sketch> = self.parts.iter_mut().map(Partition::sketch).collect();
        tracing::debug!("new cuts: shares {shares:?}");
        Some(Cuts::by_shares(&sketches, &shares))
    }

    /// Every partition did the step: whether it counts, by the rules of servers.
    fn judge(&mut self, ended: Vec<Progress>) {
        let proposals: Vec<Box<Proposal>> = ended
            .into_iter()
            .map(|progress| match progress {
                Progress::Proposed(proposal) => proposal,
                other => unreachable!("nobody was stopped, and yet a step ended with {other:?}"),
            })
            .collect();
        let nodes = || self.parts.iter().map(Partition::me);
        let shares: BTreeMap<NodeId, Share> = nodes().zip(&proposals).map(|(node, p)| (node, share_of(p))).collect();
        let held: BTreeMap<NodeId, Amounts> = nodes().zip(self.held.iter().copied()).collect();
        let totals = balance(&held, &shares)
            .unwrap_or_else(|fault| panic!("partitions of one process contradict each other: {fault}"));
        let (ruling, notes) = self.physics.judge(self.clock.after(1), &self.notes(), &shares, &totals);
        let (breach, stopped) = match ruling {
            Ruling::Undo(breach) => return self.undo(breach),
            Ruling::Keep => (None, false),
            Ruling::Record(breach) => (Some(breach), false),
            Ruling::KeepAndStop(breach) => (Some(breach), true),
        };
        let notes = read_notes(&notes).expect("a judge writes notes");
        (self.ledger, self.drifts) = (notes.ledger, Some(notes.drifts));
        self.keep(&proposals, breach, stopped);
    }

    /// The book and the record, as a judge reads them.
    fn notes(&self) -> Vec<u8> {
        encode(&Notes { ledger: self.ledger.clone(), drifts: *self.drifts() })
    }

    fn keep(&mut self, proposals: &[Box<Proposal>], breach: Option<Breach>, stopped: bool) {
        for (part, (held, proposal)) in self.parts.iter_mut().zip(self.held.iter_mut().zip(proposals)) {
            part.commit();
            *held = proposal.held;
            let effort = self.efforts.entry(part.me()).or_default();
            effort.particles = part.count() as u64;
            effort.nanoseconds += proposal.took.nanoseconds;
        }
        self.clock.advance(1);
        self.breaches.stopped |= stopped;
        if let Some(breach) = breach {
            let report = BreachReport { step: self.clock.step, time: self.clock.time(), breach, undone: false };
            self.breaches.record(report);
        }
    }

    fn undo(&mut self, breach: Breach) {
        self.parts.iter_mut().for_each(Partition::undo);
        // Particles that changed hands stay where they are now: the state is the same.
        self.held = self.parts.iter().map(Partition::held).collect();
        let step = self.clock.after(1);
        self.breaches.stopped = true;
        self.breaches.record(BreachReport { step, time: step as f64 * self.clock.dt, breach, undone: true });
    }
}

impl Engine for Cluster {
    fn advance(&mut self, steps: u64) -> u64 {
        let steps = if self.clock.backwards { steps.min(self.clock.step) } else { steps };
        let start = self.clock.step;
        for _ in 0..steps {
            if self.breaches.stopped {
                break;
            }
            self.step();
        }
        start.abs_diff(self.clock.step)
    }

    fn reverse(&mut self) {
        self.clock.backwards = !self.clock.backwards;
        let dt = self.clock.signed_dt();
        self.parts.iter_mut().for_each(|part| part.set_dt(dt));
    }

    fn look(&mut self) {}

    fn root(&mut self) -> StateRoot {
        let shares = self.parts.iter().map(Partition::root);
        StateRoot(shares.fold(0, |sum, share| sum.wrapping_add(share.0)))
    }

    fn particles(&mut self) -> Vec<Particle> {
        let mut all: Vec<Particle> = self.parts.iter_mut().flat_map(Partition::particles).collect();
        all.sort_unstable_by_key(|particle| particle.id);
        all
    }

    fn particle(&mut self, id: ParticleId) -> Option<Particle> {
        self.parts.iter_mut().find_map(|part| part.particle(id))
    }

    fn recount(&mut self) -> Recount {
        let recount = self.count_bounded();
        let (time, quanta, rules) = (self.clock.time(), self.quanta, self.rules);
        let drifts = self.drifts.as_mut().expect("the books are open");
        if let Err(breach) = drifts.take(&recount, time, &quanta, &rules) {
            self.breaches.record(BreachReport { step: recount.step, time, breach, undone: false });
        }
        recount
    }

    fn count_bounded(&mut self) -> Recount {
        self.count_all().recount(&self.ledger, self.clock.step)
    }

    fn counted(&mut self) -> Amounts {
        let mut counted = self.held.iter().fold(Amounts::default(), |sum, held| sum.plus(*held));
        counted.energy = self.drifts().energy_last() - self.ledger.booked().energy;
        counted
    }

    fn state(&mut self) -> State {
        State {
            particles: self.particles(),
            names: self.names.clone(),
            quanta: self.quanta,
            law: self.law,
            splitting: self.splitting,
            clock: self.clock,
            rules: self.rules,
            history: Some(History {
                ledger: self.ledger.clone(),
                drifts: *self.drifts(),
                breaches: self.breaches.reports.clone(),
            }),
        }
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn quanta(&self) -> &Quanta {
        &self.quanta
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn drifts(&self) -> &Drifts {
        self.drifts.as_ref().expect("the books are open")
    }

    fn rules(&self) -> &Rules {
        &self.rules
    }

    fn names(&self) -> &Names {
        &self.names
    }

    fn breaches(&self) -> &[BreachReport] {
        &self.breaches.reports
    }

    fn stopped(&self) -> bool {
        self.breaches.stopped
    }

    fn set_stopped(&mut self, stopped: bool) {
        self.breaches.stopped = stopped;
    }

    fn phases(&self) -> &Phases {
        &self.phases
    }

    fn pairs_per_step(&mut self) -> u64 {
        let sources: u64 = self.parts.iter().map(|part| part.groups()[0] as u64).sum();
        let tests: u64 = self.parts.iter().map(|part| part.groups()[1] as u64).sum();
        (sources * sources.saturating_sub(1) / 2 + sources * tests) * self.parts[0].evaluations()
    }

    fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    fn nodes(&self) -> usize {
        self.parts.len()
    }

    fn traffic(&self) -> Option<Traffic> {
        let mut traffic = self.traffic;
        for part in &self.parts {
            let sent = part.sent();
            traffic.halo_particles += sent.halo_particles;
            traffic.return_particles += sent.return_particles;
            traffic.handed_over += sent.handed_over;
        }
        Some(traffic)
    }
}
