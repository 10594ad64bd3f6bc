//! What the step protocol asks of a member, done: epochs begun, steps committed and undone.

use std::sync::Arc;

use super::{
    Member, Task,
    message::{Extra, Kind},
    setup::held_by,
};
use crate::{
    audit::BreachReport,
    coordinator::{Cause, Config, Decision, Input, Output, Share, Standing, Verdict},
    metrics::Stopwatch,
    partition::{Partition, Took, cuts::Cuts},
    transport::Transport,
    wire::{NodeId, Time, encode},
};

impl<T: Transport> Member<T> {
    pub(super) fn obey(&mut self, outputs: Vec<Output>, now: Time) {
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

    /// A new epoch: takes what it is given of the copy from which all begin.
    pub(super) fn start(&mut self, config: &Config, now: Time) {
        self.transport.cancel_before(config.epoch);
        self.tasks.clear();
        self.at = None;
        self.offended = None;
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

    pub(super) fn commit(&mut self, decision: &Decision) {
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

    pub(super) fn breached(&mut self, step: u64, breach: crate::audit::Breach, undone: bool) {
        let step = self.start.after(step);
        let breach = breach.renamed(&self.names);
        self.breaches.record(BreachReport { step, time: step as f64 * self.start.dt, breach, undone });
    }

    pub(super) fn undo(&mut self, decision: &Decision) {
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

    pub(super) fn halt(&mut self, step: u64, stage: u16, now: Time) {
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
}
