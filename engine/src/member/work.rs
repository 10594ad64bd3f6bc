//! What the partition of a member is at: steps, hand-overs and counts, a bit at a time.

use super::{
    Member, Task,
    message::{self, Arrangement, Ask, Extra, Pace},
    spent::Awaited,
};
use crate::{
    coordinator::{Input, Standing},
    partition::{Partition, Progress, Took},
    transport::Transport,
    wire::Time,
};

impl<T: Transport> Member<T> {
    pub(super) fn begin_next(&mut self) {
        let in_vain = self.counts_in_vain();
        let counts = if self.tasks.is_empty() { self.may_count() } else { None };
        let Some(partition) = self.partition.as_mut() else { return };
        if in_vain {
            partition.abandon_count();
            self.at = None;
        }
        if self.at.is_some() || self.offended.is_some() {
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
    pub(super) fn work(&mut self, now: Time) -> bool {
        let may = self.at.is_some() && self.offended.is_none();
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
    pub(super) fn report_standing(&mut self, now: Time) {
        let progress = self.moved.wrapping_add(self.transport.parts_received());
        let buddy = self.machine.config().and_then(|config| config.buddy(self.me));
        let copying = self.copying.as_ref().zip(buddy).map(|((_, copy), buddy)| ((copy.step, u16::MAX), vec![buddy]));
        let offended = self.offended.map(|(of, step)| ((step, 0), vec![of]));
        let waits = offended.or(self.partition.as_ref().and_then(Partition::waits_for)).or(copying);
        let rest = Standing { progress, ..Standing::default() };
        let standing = waits.map_or(rest, |(at, waits_for)| Standing { progress, at, waits_for });
        if self.stood != standing {
            self.stood = standing.clone();
            let epoch = self.machine.epoch();
            self.tell(Input::Standing { epoch, standing }, now);
        }
    }

    pub(super) fn end_task(&mut self, ended: Progress, now: Time) {
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
    pub(super) fn pace(&self) -> Pace {
        let partition = self.partition.as_ref().expect("it worked");
        let paths = partition.members().iter().filter_map(|&node| self.transport.path(node));
        let round_trip_ns = paths.map(|path| path.round_trip_ns).max().unwrap_or(0);
        let Took { pairs, pair_nanoseconds: pair_ns, .. } = self.took;
        Pace { pairs, pair_ns, round_trip_ns, way: partition.way() }
    }

    /// What a member that has nothing to do waits for.
    pub(super) fn awaited(&self) -> Awaited {
        if self.at.is_some() {
            Awaited::Blocks
        } else if self.machine.head().step < self.granted {
            Awaited::Decision
        } else {
            Awaited::Client
        }
    }

    pub(super) fn begins_at_once(&self) -> bool {
        let free = self.at.is_none() || self.counts_in_vain();
        free && self.offended.is_none()
            && self.partition.is_some()
            && (!self.tasks.is_empty() || self.may_count().is_some())
    }

    /// Whether a count is under way that nobody waits for any more. It may never end: others may have left it out.
    pub(super) fn counts_in_vain(&self) -> bool {
        matches!(self.at, Some(Task::Count(_))) && !(self.tasks.is_empty() && self.count.is_none())
    }

    /// Whether the committed state is the one that is asked for.
    pub(super) fn is_at(&self, ask: Ask) -> bool {
        ask.epoch == self.machine.epoch() && self.here == Some(ask.step)
    }

    /// The question that can be answered by counting now.
    pub(super) fn may_count(&self) -> Option<Ask> {
        let settled = self.partition.as_ref().is_some_and(Partition::is_settled);
        self.count.filter(|ask| settled && self.is_at(*ask))
    }
}
