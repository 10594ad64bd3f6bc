//! The coordinator of an epoch: gathers what became of a step everywhere, decides, and has the decision stored before it counts.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    AuditEvent, Body, Boundary, CUTS_BYTES_MAX, Cause, Config, CopyRecord, CopyShare, Decision, Fault, Hash, Holding,
    LOG_MAX, Machine, NOTES_BYTES_MAX, Output, Ruling, Share, Then, Totals, Verdict, Vote,
    account::{Checks, balance_with},
    balance,
    planted::Planted,
};
use crate::{ledger::Amounts, wire::NodeId};

/// How often a step is taken again because two nodes disagree.
const RETRIES_MAX: usize = 1;
/// Decisions for which there is room in the log when steps wait for a copy: epochs may follow in which one is begun anew.
const LOG_KEPT_FREE: usize = 64;

/// What the coordinator keeps.
#[derive(Clone, Debug)]
pub(super) struct Chair {
    /// What became of the step that is being decided.
    pub(super) votes: BTreeMap<NodeId, Vote>,
    /// What each member held after the step before it.
    previous: BTreeMap<NodeId, Amounts>,
    /// The decision that is being stored.
    pending: Option<Pending>,
    /// The copy that is being made.
    copying: Option<Copying>,
    /// A copy that became complete since the last decision.
    complete: Option<CopyRecord>,
}

#[derive(Clone, Debug)]
struct Pending {
    decision: Decision,
    hash: Hash,
    stored_by: BTreeSet<NodeId>,
}

#[derive(Clone, Debug)]
struct Copying {
    step: u64,
    root: u128,
    previous: BTreeMap<NodeId, Amounts>,
    shares: BTreeMap<NodeId, Share>,
}

impl Chair {
    pub(super) fn new(config: &Config) -> Self {
        let holdings = config.holdings_at_restart();
        Self {
            votes: BTreeMap::new(),
            previous: holdings.into_iter().map(|(node, totals)| (node, totals.held)).collect(),
            pending: None,
            copying: None,
            complete: None,
        }
    }

    /// The coordinator's own member has committed.
    pub(super) fn committed(&mut self, decision: &Decision) {
        self.previous = decision.held();
        self.pending = None;
        if decision.boundary.as_ref().is_some_and(|boundary| boundary.copy) {
            let (step, root) = (decision.step, decision.totals.root);
            self.copying = Some(Copying { step, root, previous: decision.held(), shares: BTreeMap::new() });
        }
    }

    /// The stage in which the earliest refusal that is known happened.
    fn refused_stage(&self) -> Option<u16> {
        let stage = |vote: &Vote| if let Vote::No { stage, .. } = vote { Some(*stage) } else { None };
        self.votes.values().filter_map(stage).min()
    }

    /// Whether a vote says all that matters, given a refusal in this stage.
    fn suffices(vote: &Vote, refused: Option<u16>) -> bool {
        match vote {
            Vote::Yes(_) | Vote::No { .. } | Vote::Accuses { .. } => true,
            Vote::Held { stage } => refused.is_some_and(|refused| *stage >= refused),
        }
    }

    fn shares(&self) -> BTreeMap<NodeId, Share> {
        let share = |vote: &Vote| if let Vote::Yes(share) = vote { Some(share.clone()) } else { None };
        self.votes.iter().filter_map(|(node, vote)| Some((*node, share(vote)?))).collect()
    }
}

impl Machine {
    pub(super) fn hear_vote(&mut self, from: NodeId, step: u64, vote: Vote) {
        let Some(chair) = &mut self.chair else { return };
        let next = self.work.next;
        if step < next && self.options.planted != Some(Planted::StaleVoteCounts) {
            self.tell_again(from, step);
            return;
        }
        if self.work.undone {
            self.tell_undone(from);
            return;
        }
        if step > next {
            return;
        }
        let known = chair.votes.get(&from).is_some_and(|known| !matches!(known, Vote::Held { .. }));
        if !known && chair.pending.is_none() {
            chair.votes.insert(from, vote);
            self.consider();
        }
    }

    /// Somebody has not heard what became of a step.
    fn tell_again(&mut self, to: NodeId, step: u64) {
        let decided_here = self.chain.commit(step).filter(|decision| decision.epoch == self.epoch);
        let body = match (decided_here, self.chain.root(step)) {
            (Some(decision), _) => Body::Decide(Box::new(decision.clone())),
            (None, Some(root)) => Body::Again { step, root },
            // Recomputed from before the last copy: the root is no longer known, and was not compared here either.
            (None, None) => Body::Again { step, root: 0 },
        };
        self.send(to, body);
    }

    fn tell_undone(&mut self, to: NodeId) {
        if let Some((_, last)) = self.chain.log.last_key_value()
            && !last.verdict.is_commit()
            && last.epoch == self.epoch
        {
            let decide = Body::Decide(Box::new(last.clone()));
            self.send(to, decide);
        }
    }

    /// Looks whether enough is known of the step to decide.
    fn consider(&mut self) {
        let members = self.members();
        // Once a step was undone, the epoch decides nothing more.
        let Some(chair) = self.chair.as_ref().filter(|_| !self.work.undone) else { return };
        let refused = chair.refused_stage();
        let open = |node: &NodeId| !chair.votes.get(node).is_some_and(|vote| Chair::suffices(vote, refused));
        let open: Vec<NodeId> = members.into_iter().filter(open).collect();
        let step = self.work.next;
        let early = self.plants(Planted::FirstRefusalReported) && refused.is_some();
        let missing = usize::from(self.plants(Planted::OneVoteMissing) && step > self.chain.head.step);
        // Whoever waits for the one that is accused will never vote.
        let accused = self.accusation();
        if open.len() > missing && !early && accused.is_none() {
            if let Some(stage) = refused {
                self.send_all(open, &Body::Halt { step, stage });
            }
            return;
        }
        if step <= self.chain.head.step {
            match accused {
                Some(offence) => self.offended_again(offence),
                None => self.compare(step),
            }
        } else if !self.chain.is_stopped() {
            self.decide(step);
        }
    }

    /// A recomputed step must be what it was.
    fn compare(&mut self, step: u64) {
        let chair = self.chair.as_ref().expect("only the coordinator compares");
        let refused = |vote: &Vote| !matches!(vote, Vote::Yes(_));
        let wrong = chair.votes.iter().find(|(_, vote)| refused(vote)).map(|(node, _)| *node);
        let shares = chair.shares();
        let verdict = match wrong {
            Some(node) => Err((Some(node), "refused a step that was committed".to_owned())),
            None => self.compare_shares(step, &shares),
        };
        match verdict {
            Ok(root) => {
                let held = shares.iter().map(|(node, share)| (*node, share.held)).collect();
                self.chair.as_mut().expect("as above").previous = held;
                self.send_all(self.members(), &Body::Again { step, root });
            }
            Err(_) if self.plants(Planted::RecomputedUnchecked) => {
                let held = shares.iter().map(|(node, share)| (*node, share.held)).collect();
                self.chair.as_mut().expect("as above").previous = held;
                let root = shares.values().fold(0_u128, |sum, share| sum.wrapping_add(share.root));
                self.send_all(self.members(), &Body::Again { step, root });
            }
            Err(_) if self.current().members.len() == 1 => self.stop_for_good(),
            Err((Some(node), why)) => {
                self.found.isolate.insert(node, format!("step {step} recomputed: {why}"));
            }
            Err((None, why)) => self.found.trouble = Some(format!("step {step} recomputed: {why}")),
        }
    }

    /// The root of a recomputed step, or who is wrong, and why.
    fn compare_shares(&self, step: u64, shares: &BTreeMap<NodeId, Share>) -> Result<u128, (Option<NodeId>, String)> {
        let config = self.current();
        let chair = self.chair.as_ref().expect("only the coordinator compares");
        if step == config.restart.step {
            for (node, due) in config.holdings_at_restart() {
                let share = &shares[&node];
                if share.held.without_energy() != due.held.without_energy() || share.root != due.root {
                    return Err((Some(node), "what was restored is not what was copied".to_owned()));
                }
            }
            return Ok(config.restart.root);
        }
        let totals = balance(&chair.previous, shares).map_err(|fault| match &fault {
            Fault::Node { node, .. } | Fault::Malformed { node } => (Some(*node), fault.to_string()),
            // What each of them had when the step was committed settles it.
            Fault::Pair { .. } => (self.who_differs(step, shares), fault.to_string()),
        })?;
        let Some(root) = self.chain.root(step).filter(|root| *root != totals.root) else { return Ok(totals.root) };
        let why = format!("the state root is {:032x}, it was {root:032x}", totals.root);
        Err((self.who_differs(step, shares), why))
    }

    /// Who has another share of the root than when the step was committed, if the partitions were the same then.
    fn who_differs(&self, step: u64, shares: &BTreeMap<NodeId, Share>) -> Option<NodeId> {
        let config = self.current();
        let decision = self.chain.commit(step)?;
        let owners = |holdings: &[Holding]| holdings.iter().map(|holding| holding.node).collect::<Vec<_>>();
        let moved = (config.restart.step + 1..step).any(|s| self.chain.commit(s).is_none_or(|d| d.boundary.is_some()));
        if moved || owners(&decision.holdings) != owners(&config.restart.partitions) {
            return None;
        }
        let mut due: BTreeMap<NodeId, u128> = BTreeMap::new();
        for holding in &decision.holdings {
            let sum = due.entry(config.adoption[&holding.node]).or_default();
            *sum = sum.wrapping_add(holding.root);
        }
        let differs = |(node, share): &(&NodeId, &Share)| due.get(node).copied().unwrap_or_default() != share.root;
        shares.iter().find(differs).map(|(node, _)| *node)
    }

    /// Writes the decision on a step and has it stored.
    fn decide(&mut self, step: u64) {
        assert_eq!(step, self.chain.head.step + 1, "{}: a step is left out", self.me);
        if !self.judge.is_ready(&self.chain.notes) {
            return;
        }
        if self.log_is_full() {
            return;
        }
        let decision = self.write_decision(step);
        let hash = decision.hash();
        let chair = self.chair.as_mut().expect("only the coordinator decides");
        assert!(chair.pending.is_none(), "one decision at a time");
        let stored_by = BTreeSet::new();
        chair.pending = Some(Pending { decision: decision.clone(), hash, stored_by });
        let replicas = self.current().replicas.clone();
        self.send_all(replicas, &Body::Accept(Box::new(decision)));
    }

    /// Whether nothing more can be decided before a copy is complete: steps go on while one may still be begun, and whoever keeps it
    /// from being completed can always be accused.
    fn log_is_full(&self) -> bool {
        let Some(chair) = &self.chair else { return false };
        let kept = if chair.copying.is_some() { LOG_KEPT_FREE } else { 1 };
        chair.complete.is_none() && self.chain.log.len() + kept >= LOG_MAX && self.accusation().is_none()
    }

    fn write_decision(&mut self, step: u64) -> Decision {
        let chair = self.chair.as_ref().expect("only the coordinator decides");
        let shares = chair.shares();
        let (verdict, totals, notes) = self.rule(step, &shares);
        let commits = verdict.is_commit();
        let (boundary, next_boundary) =
            if commits { self.plan(step, &shares) } else { (None, self.chain.next_boundary) };
        let life = |node: &NodeId| self.current().incarnation(*node).expect("only members vote");
        let holding = |(node, share): (&NodeId, &Share)| Holding {
            node: *node,
            incarnation: life(node),
            held: share.held,
            root: share.root,
        };
        let holdings = if commits { shares.iter().map(holding).collect() } else { Vec::new() };
        let copy = if commits { self.chair.as_mut().and_then(|chair| chair.complete.take()) } else { None };
        Decision {
            epoch: self.epoch,
            index: self.chain.head.index + 1,
            step,
            verdict,
            totals,
            holdings,
            next_boundary,
            boundary,
            copy,
            notes,
            config: self.config_hash,
            previous: self.chain.head.hash,
        }
    }

    /// What becomes of a step, what all hold after it, and the judge's notes.
    fn rule(&self, step: u64, shares: &BTreeMap<NodeId, Share>) -> (Verdict, Totals, Vec<u8>) {
        let chair = self.chair.as_ref().expect("only the coordinator rules");
        let held = chair.previous.values().fold(Amounts::default(), |sum, held| sum.plus(*held));
        let before = Totals { held, root: self.chain.head.root };
        let undo = |cause, then| (Verdict::Undo { cause, then }, before, self.chain.notes.clone());
        if let Some(offence) = self.accusation() {
            let then = self.after_offence(&offence);
            return undo(Cause::Offence(offence), then);
        }
        if let Some(cause) = self.first_refusal() {
            return undo(cause, Then::Stop);
        }
        let checks =
            Checks { nodes: !self.plants(Planted::NodesUnchecked), pairs: !self.plants(Planted::PairsUnchecked) };
        let mut previous = chair.previous.clone();
        previous.retain(|node, _| shares.contains_key(node));
        let totals = match balance_with(&previous, shares, checks) {
            Ok(totals) => totals,
            Err(fault) => {
                let then = self.after(&fault, step);
                return undo(Cause::Entry(fault), then);
            }
        };
        let (ruling, notes) = self.judge.judge(step, &self.chain.notes, shares, &totals);
        assert!(notes.len() <= NOTES_BYTES_MAX, "{} bytes of notes", notes.len());
        match ruling {
            Ruling::Keep => (Verdict::Commit, totals, notes),
            Ruling::Record(breach) => (Verdict::CommitAndRecord(breach), totals, notes),
            Ruling::KeepAndStop(breach) => (Verdict::CommitAndStop(breach), totals, notes),
            Ruling::Undo(breach) => undo(Cause::Judged(breach), Then::Stop),
        }
    }

    /// The refusal that comes first in the step, if there is one: the same, whoever was heard first.
    fn first_refusal(&self) -> Option<Cause> {
        let refusal = |(node, vote): (&NodeId, &Vote)| match vote {
            Vote::No { stage, order, breach } => Some(((*stage, *order, *node), breach.clone())),
            Vote::Yes(_) | Vote::Held { .. } | Vote::Accuses { .. } => None,
        };
        let refusals = self.chair.as_ref()?.votes.iter().filter_map(refusal);
        let ((stage, order, node), breach) = refusals.min_by_key(|(place, _)| *place)?;
        Some(Cause::Violation { node, stage, order, breach })
    }

    /// What follows when the books do not balance.
    fn after(&self, fault: &Fault, step: u64) -> Then {
        let alone = self.current().members.len() == 1;
        match fault {
            Fault::Node { node, .. } | Fault::Malformed { node } if !alone => Then::Isolate(*node),
            Fault::Node { .. } | Fault::Malformed { .. } => Then::Stop,
            Fault::Pair { .. } => {
                let retried = |decision: &&Decision| {
                    let cause = |verdict: &Verdict| {
                        matches!(verdict, Verdict::Undo { cause: Cause::Entry(Fault::Pair { .. }), then: Then::Retry })
                    };
                    decision.step == step && cause(&decision.verdict)
                };
                let retries = self.chain.log.values().rev().take_while(retried).count();
                if retries < RETRIES_MAX { Then::Retry } else { Then::Stop }
            }
        }
    }

    /// What happens before the next step, and which is the next step before which something happens.
    fn plan(&self, step: u64, shares: &BTreeMap<NodeId, Share>) -> (Option<Boundary>, u64) {
        let chair = self.chair.as_ref().expect("only the coordinator plans");
        let every = self.options.boundary_every.max(1);
        if step + 1 == self.chain.next_boundary {
            let cuts = self.judge.cuts(step, shares);
            assert!(cuts.len() <= CUTS_BYTES_MAX, "{} bytes of cuts", cuts.len());
            return (Some(Boundary { copy: chair.copying.is_none(), cuts }), step + 1 + every);
        }
        let log_is_long = self.chain.log.len() >= LOG_MAX / 2 && chair.copying.is_none();
        let soon = if log_is_long { step + 2 } else { u64::MAX };
        (None, self.chain.next_boundary.min(soon))
    }

    pub(super) fn hear_accepted(&mut self, from: NodeId, index: u64, hash: Hash) {
        let is_replica = self.current().replicas.contains(&from);
        let needed = if self.plants(Planted::CoordinatorAloneDecides) { 1 } else { self.majority() };
        let Some(pending) = self.chair.as_mut().and_then(|chair| chair.pending.as_mut()) else { return };
        if !is_replica || pending.decision.index != index || pending.hash != hash {
            return;
        }
        pending.stored_by.insert(from);
        let by_itself = pending.stored_by.contains(&self.me);
        if pending.stored_by.len() < needed || !by_itself {
            return;
        }
        let Some(pending) = self.chair.as_mut().and_then(|chair| chair.pending.take()) else { return };
        self.send_all(self.members(), &Body::Decide(Box::new(pending.decision)));
    }

    pub(super) fn hear_copied(&mut self, from: NodeId, copy: CopyShare) {
        let needed = self.members().len() - usize::from(self.plants(Planted::CopyIncomplete));
        let Some(chair) = &mut self.chair else { return };
        let Some(copying) = chair.copying.as_mut().filter(|copying| copying.step == copy.step) else { return };
        copying.shares.insert(from, copy.share);
        if copying.shares.len() < needed.max(1) {
            return;
        }
        let Some(copying) = chair.copying.take() else { return };
        if self.plants(Planted::CopyIncomplete) {
            self.complete_copy(copying, Totals::default());
            return;
        }
        match balance(&copying.previous, &copying.shares) {
            Ok(totals) if totals.root == copying.root => self.complete_copy(copying, totals),
            Ok(_) => self.refuse_copy(copying.step, "the state root is another one".to_owned()),
            Err(fault) => self.refuse_copy(copying.step, fault.to_string()),
        }
    }

    fn complete_copy(&mut self, copying: Copying, totals: Totals) {
        let life = |node: &NodeId| self.current().incarnation(*node).expect("only members copy");
        let holding = |(node, share): (&NodeId, &Share)| Holding {
            node: *node,
            incarnation: life(node),
            held: share.held,
            root: share.root,
        };
        let partitions = copying.shares.iter().map(holding).collect();
        let record = CopyRecord { step: copying.step, root: totals.root, partitions };
        self.chair.as_mut().expect("only the coordinator is told of copies").complete = Some(record);
        // The log was full, and this makes room.
        self.consider_again();
    }

    /// Decides, if only the coordinator itself was not ready.
    pub(super) fn consider_again(&mut self) {
        let waits = self.chair.as_ref().is_some_and(|chair| chair.pending.is_none() && !chair.votes.is_empty());
        if waits && !self.work.undone {
            self.consider();
        }
    }

    fn refuse_copy(&mut self, step: u64, why: String) {
        self.outputs.push(Output::Record(AuditEvent::UnsoundCopy { step, why }));
        // Steps waited for it, and need not wait for the next one to be begun.
        self.consider_again();
    }

    /// Whatever was not answered.
    pub(super) fn resend_chair(&mut self) {
        let Some(chair) = &self.chair else { return };
        if self.work.undone {
            self.tell_all_undone();
            return;
        }
        if let Some(pending) = chair.pending.clone().filter(|_| !self.plants(Planted::AcceptsSentOnce)) {
            let replicas = self.current().replicas.clone();
            let open: Vec<NodeId> = replicas.into_iter().filter(|node| !pending.stored_by.contains(node)).collect();
            self.send_all(open, &Body::Accept(Box::new(pending.decision)));
        } else if chair.refused_stage().is_some() && self.found.isolate.is_empty() {
            self.consider();
        }
    }

    /// Members that were waiting for somebody have not voted: they are told until their beats show that they know.
    fn tell_all_undone(&mut self) {
        let index = self.chain.head.index;
        let behind = |node: &NodeId| self.peers.get(node).is_some_and(|peer| peer.index < index);
        let behind: Vec<NodeId> = self.members().into_iter().filter(behind).collect();
        for node in behind {
            self.tell_undone(node);
        }
    }
}
