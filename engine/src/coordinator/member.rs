//! The member: computes, votes, and does what was decided.
//!
//! At most one step is computed ahead of the one that is being decided, and its vote waits until that one is decided. A step
//! before which there is a boundary is not begun ahead.

use std::collections::BTreeMap;

use super::{
    AuditEvent, Body, Boundary, CopyShare, Decision, Head, LOG_MAX, Machine, Output, Then, Verdict, Vote,
    planted::Planted,
};
use crate::wire::{Epoch, NodeId};

/// Copies of others that are remembered.
pub(super) const COPIES_MAX: usize = 4 * super::NODES_MAX;

/// Where this node is in its epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct Work {
    /// The step whose decision comes next. At the start of an epoch that is the step of the copy: restoring it is voted on, too.
    pub(super) next: u64,
    /// The last step that was begun.
    pub(super) started: u64,
    /// What became of [`Work::next`] and of the one after it.
    pub(super) outcomes: BTreeMap<u64, Vote>,
    /// The last step that was voted on: sent once as soon as it can be, and then by the clock.
    voted: Option<u64>,
    /// The copy that the buddy has.
    copied: Option<CopyShare>,
    /// Who sent something that cannot be used here, and what: until it can be said.
    pub(super) grievance: Option<(NodeId, String)>,
    /// Whether a step was undone: then nothing happens any more in this epoch.
    pub(super) undone: bool,
}

impl Work {
    pub(super) fn starting_at(step: u64) -> Self {
        Self { next: step, started: step, ..Self::default() }
    }
}

impl Machine {
    /// Something came from the node's own computing.
    pub(super) fn take_outcome(&mut self, epoch: Epoch, step: u64, vote: Vote) {
        if epoch != self.epoch || self.config.is_none() || self.work.undone {
            return;
        }
        let (next, started) = (self.work.next, self.work.started);
        let expected = (next..=next + 1).contains(&step) && step <= started;
        let known = self.work.outcomes.get(&step).is_some_and(|known| !matches!(known, Vote::Held { .. }));
        if !expected || known {
            return;
        }
        if let Vote::Yes(share) = &vote {
            assert!(share.is_well_formed(), "{}: {share:?}", self.me);
        }
        self.say(step, vote);
    }

    /// What became of a step is known, and is told at once if something else was told before.
    pub(super) fn say(&mut self, step: u64, vote: Vote) {
        self.work.outcomes.insert(step, vote);
        if self.work.voted == Some(step) {
            self.vote(step);
        }
    }

    /// Votes and begins steps, as far as that is possible now.
    pub(super) fn drive(&mut self) {
        if self.config.is_none() || self.work.undone || self.current().is_over() {
            self.stop_if_over();
            return;
        }
        self.complain();
        let next = self.work.next;
        if self.work.voted != Some(next) && self.work.outcomes.contains_key(&next) {
            self.work.voted = Some(next);
            self.vote(next);
        }
        // Of two steps at most: the one that is being decided, and the one after it.
        for _ in 0..2 {
            if self.may_begin(self.work.started + 1) {
                self.work.started += 1;
                self.outputs.push(Output::Compute { step: self.work.started });
            }
        }
    }

    fn may_begin(&self, step: u64) -> bool {
        let (next, head) = (self.work.next, self.chain.head.step);
        let granted = step <= self.granted || step <= head || self.plants(Planted::GrantIgnored);
        let drained = step != self.chain.next_boundary || step == next || self.plants(Planted::BoundaryNotDrained);
        let passed = matches!(self.work.outcomes.get(&next), Some(Vote::Yes(_)));
        let in_order = step == next || (step == next + 1 && passed);
        let over = self.chain.is_stopped() && step > head;
        granted && drained && in_order && !over
    }

    fn vote(&mut self, step: u64) {
        let Some(vote) = self.work.outcomes.get(&step).cloned() else { return };
        let coordinator = self.current().coordinator;
        self.send(coordinator, Body::Vote { step, vote });
    }

    pub(super) fn resend_member(&mut self) {
        if self.config.is_none() || self.plants(Planted::VotesSentOnce) {
            return;
        }
        if let Some(step) = self.work.voted.filter(|step| *step == self.work.next && !self.work.undone) {
            self.vote(step);
        }
        let coordinator = self.current().coordinator;
        if let Some(copy) = self.work.copied.clone() {
            self.send(coordinator, Body::Copied(copy));
        }
    }

    pub(super) fn hear_halt(&mut self, from: NodeId, step: u64, stage: u16) {
        let from_coordinator = from == self.current().coordinator;
        // Who has not begun the step will refuse it or wait by itself; then the next letter finds it.
        let computing = step == self.work.next && step <= self.work.started && !self.work.undone;
        if !from_coordinator || !computing {
            return;
        }
        match self.work.outcomes.get(&step) {
            Some(Vote::Held { stage: held }) if *held < stage => self.outputs.push(Output::Halt { step, stage }),
            None => self.outputs.push(Output::Halt { step, stage }),
            Some(_) => self.vote(step),
        }
    }

    pub(super) fn hear_decide(&mut self, from: NodeId, decision: Decision) {
        let from_coordinator = from == self.current().coordinator || self.plants(Planted::AnybodyDecides);
        let follows = decision.index == self.chain.head.index + 1 && decision.step == self.work.next;
        if !from_coordinator || !follows || self.work.undone {
            return;
        }
        if let Some(what) = self.objection(&decision) {
            self.object_to(from, format!("decision {}: {what}", decision.index));
            return;
        }
        self.append(&decision);
        match &decision.verdict {
            Verdict::Undo { .. } => self.undo(decision),
            _ => self.commit(decision),
        }
        self.stop_if_over();
    }

    /// Why a decision cannot be one of this epoch, if it cannot.
    fn objection(&self, decision: &Decision) -> Option<&'static str> {
        let voted = matches!(self.work.outcomes.get(&decision.step), Some(Vote::Yes(_)));
        let newer = |copy: &super::CopyRecord| copy.step > self.chain.copy.step;
        [
            (decision.previous != self.chain.head.hash, "it does not follow the one before"),
            (decision.config != self.config_hash, "it is of another epoch"),
            (self.chain.log.len() >= LOG_MAX, "there are too many since the last copy"),
            (decision.verdict.is_commit() && !voted, "it counts, and this node has not voted for the step"),
            (!decision.copy.iter().all(newer), "its copy is older than the last one"),
            (decision.boundary.is_some() && self.work.started > decision.step, "its boundary was not announced"),
            (!decision.has_short_texts(), "its texts are too long"),
        ]
        .into_iter()
        .find_map(|(wrong, what)| wrong.then_some(what))
    }

    /// A decision counts: the chain grows.
    fn append(&mut self, decision: &Decision) {
        self.chain.head = Head::after(decision);
        self.chain.notes.clone_from(&decision.notes);
        self.chain.next_boundary = decision.next_boundary;
        self.chain.stored.retain(|index, _| *index > decision.index);
        self.chain.log.insert(decision.index, decision.clone());
        self.chain.recorded = decision.index;
        self.outputs.push(Output::Record(AuditEvent::Decided(Box::new(decision.clone()))));
    }

    fn commit(&mut self, decision: Decision) {
        let step = decision.step;
        if let Some(chair) = &mut self.chair {
            chair.committed(&decision);
        }
        self.outputs.push(Output::Commit(Box::new(decision.clone())));
        self.chain.delivered = self.chain.delivered.max(step);
        self.advance();
        if let Some(record) = decision.copy {
            self.take_copy_record(record);
        }
        if let Some(boundary) = decision.boundary {
            self.begin_boundary(step, boundary);
        }
    }

    fn begin_boundary(&mut self, step: u64, boundary: Boundary) {
        if self.plants(Planted::CopiesDroppedEarly) && boundary.copy {
            self.snapshots.clear();
            self.copies.clear();
            self.outputs.push(Output::DropCopiesBefore { step });
        }
        let buddy = self.current().buddy(self.me);
        self.outputs.push(Output::Boundary { step, boundary, buddy });
    }

    /// A copy is complete: older ones may go, and so may the decisions before it.
    fn take_copy_record(&mut self, record: super::CopyRecord) {
        let step = record.step;
        if self.work.copied.as_ref().is_some_and(|copied| copied.step <= step) {
            self.work.copied = None;
        }
        self.chain.copy = record;
        if let Some(first) = self.chain.commit(step).map(|decision| decision.index) {
            self.chain.log.retain(|index, _| *index >= first);
        }
        self.snapshots.retain(|kept| *kept >= step);
        self.copies.retain(|(_, kept)| *kept >= step);
        self.outputs.push(Output::DropCopiesBefore { step });
    }

    fn undo(&mut self, decision: Decision) {
        self.work.undone = true;
        self.work.outcomes.clear();
        self.outputs.push(Output::Undo(Box::new(decision)));
    }

    pub(super) fn hear_again(&mut self, from: NodeId, step: u64, root: u128) {
        let expected = from == self.current().coordinator && step == self.work.next && step <= self.chain.head.step;
        if !expected || self.work.undone {
            return;
        }
        let voted = matches!(self.work.outcomes.get(&step), Some(Vote::Yes(_)));
        let known = self.chain.root(step);
        let same = known.is_none_or(|known| known == root) || self.plants(Planted::RecomputedUnchecked);
        if !voted || !same {
            self.object_to(from, format!("step {step} again: voted for here {voted}, the same root {same}"));
            return;
        }
        match self.chain.commit(step).cloned() {
            Some(decision) if step > self.chain.delivered => self.outputs.push(Output::Commit(Box::new(decision))),
            _ => self.outputs.push(Output::Again { step }),
        }
        self.chain.delivered = self.chain.delivered.max(step);
        self.advance();
        self.stop_if_over();
    }

    fn advance(&mut self) {
        self.work.outcomes.remove(&self.work.next);
        self.work.next += 1;
        if let Some(chair) = &mut self.chair {
            chair.votes.clear();
        }
    }

    /// Says once that the run is over: when the last step that counts is there.
    fn stop_if_over(&mut self) {
        let Some(config) = &self.config else { return };
        let there = self.work.next > self.chain.head.step;
        let over = (self.chain.is_stopped() && there) || config.is_over();
        if over && !self.stopped {
            self.stopped = true;
            self.outputs.push(Output::Stop);
        }
    }

    /// The last member recomputes something else than was committed: nobody is left who could be trusted.
    pub(super) fn stop_for_good(&mut self) {
        self.work.undone = true;
        if !self.stopped {
            self.stopped = true;
            self.outputs.push(Output::Stop);
        }
    }

    /// Whether the epoch ended with a step that has to be taken again.
    pub(super) fn must_take_again(&self) -> bool {
        let again = |verdict: &Verdict| matches!(verdict, Verdict::Undo { then: Then::Retry | Then::Isolate(_), .. });
        self.work.undone && self.chain.end().is_some_and(again)
    }

    /// The buddy has this node's copy.
    pub(super) fn take_copied(&mut self, epoch: Epoch, copy: CopyShare) {
        if copy.step <= self.chain.copy.step || epoch != self.epoch || self.config.is_none() {
            return;
        }
        // One copy is under way at a time: another one that is not complete was refused.
        let complete = self.chain.copy.step;
        self.snapshots.retain(|step| *step == complete);
        self.snapshots.insert(copy.step);
        let coordinator = self.current().coordinator;
        self.send(coordinator, Body::Copied(copy.clone()));
        self.work.copied = Some(copy);
    }

    /// A copy of somebody else's partition has come.
    pub(super) fn take_stored(&mut self, owner: NodeId, step: u64) {
        let complete = self.chain.copy.step;
        if step < complete {
            return;
        }
        self.copies.insert((owner, step));
        // The owner may know already that the one before it is complete, when this node does not: two of each owner stay.
        let of_owner = self.copies.iter().filter(|(node, step)| *node == owner && *step != complete);
        let newest: Vec<u64> = of_owner.map(|(_, step)| *step).rev().take(2).collect();
        self.copies.retain(|(node, step)| *node != owner || *step == complete || newest.contains(step));
        assert!(self.copies.len() <= COPIES_MAX, "{} copies", self.copies.len());
    }
}
