//! What must hold after every event, as seen from outside by somebody who sees everything; and what the seeds have met.

use std::collections::{BTreeMap, BTreeSet};

use emmy::{
    coordinator::{AuditEvent, Body, Cause, Config, Decision, Fault, Hash, LOG_MAX, Offence, Output, Then, Verdict},
    wire::{Epoch, NodeId},
};

use crate::{
    faults::{Lie, Refusal, Swarm},
    physics::{self, Particles, Truth},
    world::World,
};

/// What the whole world has done.
pub(crate) struct Checks {
    truth: Truth,
    refusals: Vec<Refusal>,
    /// Nodes that are healed in the end.
    pub(crate) core: BTreeSet<NodeId>,
    /// Every configuration that was begun in the run itself.
    pub(crate) configs: BTreeMap<Epoch, Config>,
    /// When the newest of them was begun.
    pub(crate) newest_began: u64,
    pub(crate) now: u64,
    /// The chain, by index.
    chain: BTreeMap<u64, Decision>,
    /// Hash of the commit of each step.
    commits: BTreeMap<u64, Hash>,
    /// One decision for each epoch and step.
    decided: BTreeMap<(Epoch, u64), Hash>,
    /// Decisions that somebody was told.
    told: BTreeSet<Hash>,
    /// Who has stored a decision.
    stored: BTreeMap<Hash, BTreeSet<NodeId>>,
    /// Who has proposed a step in an epoch.
    proposals: BTreeMap<(Epoch, u64), BTreeSet<NodeId>>,
    /// Who owns what after a step of an epoch.
    owned: BTreeMap<(Epoch, u64), BTreeMap<NodeId, Particles>>,
    /// The last step that each node committed.
    last: BTreeMap<NodeId, u64>,
    /// The end of each node's audit log.
    audit_end: BTreeMap<NodeId, Hash>,
    liars: BTreeMap<NodeId, Lie>,
    pub(crate) stopped: BTreeSet<NodeId>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Checks {
    pub(crate) fn new(truth: Truth, swarm: &Swarm) -> Self {
        Self {
            truth,
            refusals: swarm.refusals.clone(),
            core: BTreeSet::new(),
            configs: BTreeMap::new(),
            newest_began: 0,
            now: 0,
            chain: BTreeMap::new(),
            commits: BTreeMap::new(),
            decided: BTreeMap::new(),
            told: BTreeSet::new(),
            stored: BTreeMap::new(),
            proposals: BTreeMap::new(),
            owned: BTreeMap::new(),
            last: BTreeMap::new(),
            audit_end: BTreeMap::new(),
            liars: BTreeMap::new(),
            stopped: BTreeSet::new(),
            counts: BTreeMap::new(),
        }
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn committed_max(&self) -> u64 {
        self.commits.last_key_value().map_or(0, |(step, _)| *step)
    }

    /// The hash of a decision of the run that somebody was told.
    pub(crate) fn decision(&self, index: u64) -> Option<Hash> {
        self.chain.get(&index).map(Decision::hash)
    }

    pub(crate) fn committed_by(&self, id: NodeId) -> u64 {
        self.last.get(&id).copied().unwrap_or(0)
    }

    /// A node has lost its memory.
    pub(crate) fn forget(&mut self, id: NodeId) {
        self.absent(id);
        self.stopped.remove(&id);
    }

    /// A node is left out: others go on without it.
    pub(crate) fn absent(&mut self, id: NodeId) {
        self.last.remove(&id);
        self.audit_end.remove(&id);
    }

    pub(crate) fn proposed(&mut self, epoch: Epoch, step: u64, id: NodeId) {
        self.proposals.entry((epoch, step)).or_default().insert(id);
    }

    pub(crate) fn liar(&mut self, id: NodeId, lie: Lie) {
        self.count("somebody lied");
        self.liars.insert(id, lie);
    }

    pub(crate) fn may_lie(&self, id: NodeId) -> bool {
        self.liars.keys().all(|liar| *liar == id)
    }

    /// A state that counts: every particle once, and the bits of the reference.
    pub(crate) fn owned(
        &mut self,
        config: &Config,
        epoch: Epoch,
        step: u64,
        id: NodeId,
        state: &Particles,
        decision: Option<&Decision>,
    ) {
        if config.branch != 0 {
            return;
        }
        let owners = self.owned.entry((epoch, step)).or_default();
        owners.insert(id, state.clone());
        let complete = config.nodes().all(|node| owners.contains_key(&node));
        if complete {
            let all: Particles = owners.values().flatten().copied().collect();
            let ids: BTreeSet<u32> = all.iter().map(|particle| particle.id).collect();
            let due = self.truth.steps[step as usize];
            assert_eq!(ids.len(), all.len(), "step {step}: a particle has two owners");
            assert_eq!(physics::held(&all), due.1, "step {step}: double entry over all nodes");
            assert_eq!(physics::root(&all), due.0, "step {step} in {epoch}: the bits are others");
        }
        while self.owned.len() > 64 {
            self.owned.pop_first();
        }
        if decision.is_some() {
            let last = self.last.insert(id, step);
            assert!(last.is_none_or(|last| last + 1 == step), "{id}: step {step} after {last:?}");
        } else {
            assert!(self.commits.contains_key(&step) || step == 0, "{id}: step {step} was never committed");
        }
    }

    /// A decision that somebody was told.
    fn counts_now(&mut self, decision: &Decision) {
        let hash = decision.hash();
        let known = self.chain.insert(decision.index, decision.clone());
        if let Some(known) = known {
            assert_eq!(known.hash(), hash, "agreement: two decisions at {}", decision.index);
            return;
        }
        let other = self.decided.insert((decision.epoch, decision.step), hash);
        assert!(other.is_none_or(|other| other == hash), "{}: two decisions on {}", decision.epoch, decision.step);
        let before = self.chain.get(&(decision.index - 1)).map(Decision::hash);
        assert!(before.is_none_or(|before| before == decision.previous), "the chain broke at {}", decision.index);
        if decision.verdict.is_commit() {
            self.commit_counts(decision, hash);
        } else {
            self.undo_counts(decision);
        }
    }

    fn commit_counts(&mut self, decision: &Decision, hash: Hash) {
        let step = decision.step;
        let other = self.commits.insert(step, hash);
        assert!(other.is_none(), "step {step} was committed twice");
        assert!(step == 1 || self.commits.contains_key(&(step - 1)), "step {step} without the one before");
        let (root, held) = self.truth.steps[step as usize];
        assert_eq!(decision.totals.root, root, "step {step}: the root of the reference is another one");
        assert_eq!(decision.totals.held, held, "step {step}: double entry");
        let config = self.configs.get(&decision.epoch).expect("an epoch that was begun");
        let voted = self.proposals.get(&(decision.epoch, step)).cloned().unwrap_or_default();
        assert!(config.nodes().all(|node| voted.contains(&node)), "validity: step {step} was voted for by {voted:?}");
        assert!(!self.refusals.iter().any(|refusal| refusal.step == step), "step {step} was refused");
        if let Some(copy) = &decision.copy {
            let sum = copy.partitions.iter().fold(0_u128, |sum, part| sum.wrapping_add(part.root));
            assert_eq!(sum, self.truth.steps[copy.step as usize].0, "the copy of step {} is incomplete", copy.step);
            self.count("a copy became complete");
        }
        if matches!(decision.verdict, Verdict::CommitAndRecord(_)) {
            self.count("a breach was recorded");
        }
    }

    /// Only what is wrong is undone, and only who is wrong is named.
    fn undo_counts(&mut self, decision: &Decision) {
        let Verdict::Undo { cause, then } = &decision.verdict else { return };
        let step = decision.step;
        match cause {
            Cause::Violation { stage, order, .. } => {
                let first = self.refusals.iter().filter(|refusal| refusal.step == step).min();
                let first = first.unwrap_or_else(|| panic!("step {step} was fine"));
                assert_eq!((*stage, order.0), (first.stage, u64::from(first.particle)), "not the first refusal");
                self.count("a step was refused");
            }
            Cause::Entry(Fault::Node { node, .. }) => {
                assert!(self.liars.contains_key(node), "{node} is honest: {cause}");
                self.count("a liar was named");
            }
            Cause::Entry(Fault::Pair { a, b, .. }) => {
                let liar = [a, b].into_iter().any(|node| self.liars.contains_key(node));
                assert!(liar, "{a} and {b} are honest: {cause}");
                self.count(if *then == Then::Stop { "a disputed pair stopped the run" } else { "a pair was retried" });
            }
            Cause::Offence(Offence { of, by, .. }) => {
                let liar = [of, by].into_iter().any(|node| self.liars.contains_key(node));
                assert!(liar, "{of} and {by} are honest: {cause}");
                self.count("a step was undone for an offence");
            }
            Cause::Entry(Fault::Malformed { .. }) | Cause::Judged(_) => panic!("nobody does that: {cause}"),
        }
    }

    fn began(&mut self, config: &Config) {
        if config.branch != 0 {
            self.count("somebody went on alone");
            return;
        }
        if let Some(known) = self.configs.get(&config.epoch) {
            assert_eq!(known.hash(), config.hash(), "two configurations of {}", config.epoch);
            return;
        }
        let newest = self.chain.last_key_value().map_or(0, |(index, _)| *index);
        assert!(config.head.index >= newest, "{} begins at {}, {newest} was told", config.epoch, config.head.index);
        for decision in &config.log {
            self.counts_now(decision);
        }
        self.count_epoch(config);
        for decision in self.chain.values() {
            if let Verdict::Undo { then: Then::Isolate(node), .. } = &decision.verdict
                && decision.epoch < config.epoch
            {
                assert!(config.incarnation(*node).is_none(), "{node} was isolated and is a member");
            }
        }
        if config.is_over() {
            assert!(!self.liars.is_empty(), "everybody is honest: {:?}", config.troubles);
            self.count("recomputing failed and named nobody");
        }
        self.check_isolated(config);
        for offence in &config.offences {
            let liar = [offence.of, offence.by].into_iter().any(|node| self.liars.contains_key(&node));
            assert!(liar || offence.what.contains("keeps back"), "both are honest: {offence}");
        }
        self.newest_began = self.now;
        self.configs.insert(config.epoch, config.clone());
    }

    /// Who is left out has lied; but one node may have been slandered.
    fn check_isolated(&mut self, config: &Config) {
        let honest: Vec<_> = config.isolated.iter().filter(|(node, _)| !self.liars.contains_key(node)).collect();
        let slander = self.liars.values().any(|lie| *lie == Lie::Accuses);
        assert!(honest.len() <= usize::from(slander), "honest nodes are left out: {honest:?}");
        if !honest.is_empty() {
            self.count("somebody was slandered and left out");
        }
        if config.stalls > 0 {
            self.count("an epoch in which nothing moved was ended");
        }
    }

    fn count_epoch(&mut self, config: &Config) {
        let Some(parent) = self.configs.get(&Epoch(config.epoch.0 - 1)).cloned() else { return };
        let adopted = config.adoption.iter().any(|(owner, adopter)| owner != adopter);
        let fresh = config.members.iter().any(|(node, life)| !parent.has(*node, *life));
        let unheard = parent.members.len() > 1
            && config.log.last().is_some_and(|last| last.epoch == parent.epoch && !self.told.contains(&last.hash()));
        let left = parent.nodes().any(|node| config.incarnation(node).is_none());
        let met = [
            (true, "an epoch was changed"),
            (adopted && config.restart.step > 0, "a copy was used for adoption"),
            (config.restart.step == 0 && config.copy.step > 0, "all began again at step 0"),
            (unheard, "a stored decision was carried on that nobody had heard"),
            (fresh, "a node joined"),
            (left, "a node was left out"),
            (config.coordinator != parent.coordinator, "the coordinator changed"),
            (!config.isolated.is_empty() && parent.isolated.is_empty(), "a liar was isolated"),
            (config.restart.step < config.head.step, "committed steps were computed again"),
        ];
        for (_, what) in met.into_iter().filter(|(met, _)| *met) {
            self.count(what);
        }
    }

    /// A node's audit log is a chain; where it was absent, it goes on after a gap that it can see.
    fn recorded(&mut self, id: NodeId, event: &AuditEvent) {
        match event {
            AuditEvent::Decided(decision) => {
                let end = self.audit_end.insert(id, decision.hash());
                let absent = end.is_none();
                assert!(
                    absent || end == Some(decision.previous) || decision.index == 1,
                    "{id}: its audit log has a gap"
                );
            }
            AuditEvent::Began(config) => {
                if let Some(end) = self.audit_end.insert(id, config.head.hash) {
                    assert!(end == config.head.hash, "{id}: {} begins elsewhere", config.epoch);
                }
                self.began(config);
            }
            AuditEvent::UnsoundCopy { why, .. } => {
                assert!(!self.liars.is_empty(), "everybody is honest: {why}");
                self.count("a copy was refused");
            }
        }
    }
}

impl World {
    pub(crate) fn check_output(&mut self, id: NodeId, output: &Output) {
        self.checks.now = self.now;
        let on_branch = self.machine(id).and_then(|machine| machine.config()).is_some_and(|config| config.branch != 0);
        match output {
            Output::Send { letter, .. } if letter.branch == 0 => self.check_letter(id, &letter.body),
            Output::Record(AuditEvent::Decided(decision)) if !on_branch => {
                self.checks.recorded(id, &AuditEvent::Decided(decision.clone()));
                self.check_epoch_of(decision);
                self.checks.counts_now(decision);
            }
            Output::Record(event) if !on_branch => self.checks.recorded(id, event),
            Output::Record(AuditEvent::Began(config)) => self.checks.began(config),
            Output::Compute { step } => {
                assert!(*step <= self.granted.max(self.checks.committed_max()), "{id}: step {step} was not granted")
            }
            Output::DropCopiesBefore { step } => {
                let copy = self.machine(id).expect("it has just spoken").copy().step;
                assert!(*step <= copy, "{id}: copies before {step} are dropped, the last complete one is of {copy}");
            }
            Output::Undo(decision) => {
                assert!(self.checks.committed_by(id) < decision.step, "{id}: committed, and then undone");
            }
            Output::Expelled => self.checks.absent(id),
            Output::Stop => drop(self.checks.stopped.insert(id)),
            _ => {}
        }
    }

    fn check_epoch_of(&self, decision: &Decision) {
        let newest = self.checks.configs.last_key_value().map_or(Epoch(0), |(epoch, _)| *epoch);
        assert!(decision.epoch <= newest, "a decision of an epoch that nobody has begun");
    }

    fn check_letter(&mut self, id: NodeId, body: &Body) {
        match body {
            Body::Accepted { hash, .. } => drop(self.checks.stored.entry(*hash).or_default().insert(id)),
            Body::Decide(decision) => {
                self.checks.told.insert(decision.hash());
                let Some(config) = self.checks.configs.get(&decision.epoch) else { return };
                let stored = self.checks.stored.get(&decision.hash());
                let others = stored.map_or(0, |by| by.iter().filter(|node| config.replicas.contains(node)).count());
                let by = 1 + others;
                // Whoever tells it again in a later epoch relies on the configuration, which a majority has accepted.
                assert!(by >= config.majority(), "{}: told when {by} had stored it", decision.index);
            }
            _ => {}
        }
    }

    /// After an event at a node.
    pub(crate) fn look(&mut self, id: NodeId) {
        let Some(machine) = self.machine(id) else { return };
        let [log, stored, copies, snapshots] = machine.sizes();
        assert!(log <= LOG_MAX && stored <= 2, "{id}: {log} decisions, {stored} stored");
        // The last complete copy, and one that is under way; a few of them from nodes that are gone.
        assert!(copies <= 16 && snapshots <= 2, "{id}: {copies} copies, {snapshots} snapshots");
        if machine.proposes_anew() {
            self.checks.count("an accepted successor was proposed again");
        }
        let machine = self.machine(id).expect("as above");
        let kept = machine.copy();
        let owner = kept.partitions.iter().any(|part| part.node == id && part.incarnation == self.nodes[&id].life);
        let driver = &self.nodes[&id].driver;
        let keeps = kept.step == 0 || !owner || driver.snapshots.contains_key(&kept.step);
        assert!(keeps, "{id}: the snapshot of the last complete copy ({}) is gone", kept.step);
    }
}
