//! A step of one partition: the walk of [`crate::advance`], cut open where it waits for others.

use std::collections::BTreeMap;

use super::{Columns, Offence, Partition, Progress, Proposal, RecountShare, Took, Violation, evaluation::COUNT};
use crate::{
    advance::{Book, fastest},
    audit::{self, Breach},
    backend::cpu::Bookings,
    integrator::kernel::{OutOfRange, Totals, outside_in},
    ledger::Amounts,
    math::{add3, negate3},
    metrics::{Phase, Stopwatch},
    particle::Names,
    wire::NodeId,
};

/// A step in progress.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    step: u64,
    /// The next kick.
    stage: usize,
    recount: bool,
    /// What the particles held before.
    before: Amounts,
    book: Book,
    peers: BTreeMap<NodeId, Amounts>,
    proposal: Option<Box<Proposal>>,
}

impl Partition {
    /// Begins a step. With `recount`, energy and centre of mass are counted after it.
    ///
    /// # Panics
    /// If something is being done already.
    pub fn begin(&mut self, step: u64, recount: bool) {
        self.assert_at_rest();
        (self.busy, self.pairs, self.pair_seconds) = (0.0, 0, 0.0);
        // What changed hands since the last step belongs to this one.
        let peers = std::mem::take(&mut self.carried);
        let handed = peers.values().fold(Amounts::default(), |sum, gained| sum.plus(*gained));
        let before = self.held().plus(handed.counter_entry());
        self.halt = None;
        self.early.retain(|(_, at, part, _), _| part & COUNT == 0 || *at >= step);
        self.walk = Some(Walk { step, stage: 0, recount, before, book: Book::default(), peers, proposal: None });
    }

    /// Somebody found something wrong at this stage (as [`super::Violation::stage`] counts): the step goes no further than through it.
    pub fn halt(&mut self, stage: u16) {
        self.halt = Some(stage);
    }

    /// How far the step is, as [`super::Violation::stage`] counts.
    fn phase(&self) -> u16 {
        let stage = self.walk.as_ref().map_or(0, |walk| 2 * walk.stage as u16);
        if self.evaluation.is_some() || self.fresh.is_none() { stage } else { stage + 1 }
    }

    /// Begins to count energy and centre of mass where the particles are, committed and all together. `id` is the same for all and
    /// another one for each count.
    ///
    /// # Panics
    /// If something is being done already.
    pub fn begin_count(&mut self, step: u64, id: u16) {
        self.assert_at_rest();
        let current = self.links.current;
        self.begin_binding(step, id, current);
    }

    /// Gives up a count that is under way, if one is.
    pub fn abandon_count(&mut self) {
        if self.walk.is_none() && self.evaluation.take().is_some() && !self.links.current {
            self.relink();
        }
    }

    /// Works for about two milliseconds, or less.
    ///
    /// # Errors
    /// If a peer sent what no correct node sends; it is to be isolated, and the step to be undone.
    pub fn work(&mut self) -> Result<Progress, Offence> {
        if self.handover.is_some() {
            return self.work_on_handover();
        }
        if let (Some(halt), Some(walk)) = (self.halt, &self.walk)
            && self.phase() > halt
        {
            let (step, stage) = (walk.step, halt);
            self.walk = None;
            self.evaluation = None;
            self.fresh = None;
            return Ok(Progress::Held { step, stage });
        }
        if self.evaluation.is_some() {
            return self.work_on_evaluation();
        }
        if self.walk.is_some() { Ok(self.next_stage()) } else { Ok(Progress::Idle) }
    }

    /// Goes on after impulses are known, or are not needed anew.
    fn next_stage(&mut self) -> Progress {
        let walk = self.walk.as_ref().expect("there is a step");
        let (step, stage, last) = (walk.step, walk.stage, self.plan.strides.len());
        let kick = self.plan.kicks[stage];
        if self.fresh != Some(kick) {
            self.fresh = None;
            self.begin_evaluation(kick, step, stage as u16);
            return Progress::Working;
        }
        if stage < last { self.kick_and_drift() } else { self.kick_and_end() }
    }

    /// Impulses are there; some pair may have been out of range.
    pub(super) fn after_evaluation(&mut self, overflow: Option<[u64; 2]>) -> Progress {
        let Some(pair) = overflow else { return Progress::Working };
        // Names are the coordinator's: here particles have numbers.
        self.violated(0, pair, Breach::impulse(pair, &Names::default()))
    }

    fn violated(&mut self, half: u16, order: [u64; 2], breach: Breach) -> Progress {
        let walk = self.walk.take().expect("there is a step");
        self.fresh = None;
        let stage = 2 * walk.stage as u16 + half;
        Progress::Violated(Box::new(Violation { step: walk.step, stage, order, breach }))
    }

    fn kick_and_drift(&mut self) -> Progress {
        let watch = Stopwatch::start();
        let stage = self.walk.as_ref().expect("there is a step").stage;
        let (stride, angular, contract) = (self.plan.strides[stage], self.plan.angular, self.common.contract());
        self.fresh = None;
        self.links.current = false;
        let bookings = self.cpu.kick_and_drift(&mut self.set, &self.impulse, contract, stride, angular);
        self.book(&bookings);
        self.phases.add(Phase::Motion, watch.seconds());
        self.busy += watch.seconds();
        if bookings.outside() {
            return self.out_of_range();
        }
        self.walk.as_mut().expect("there is a step").stage += 1;
        Progress::Working
    }

    fn kick_and_end(&mut self) -> Progress {
        let watch = Stopwatch::start();
        let (bookings, totals) = self.cpu.kick_and_count(&mut self.set, &self.impulse, self.plan.angular);
        self.book(&bookings);
        let ended = if bookings.outside() { Err(self.out_of_range()) } else { Ok(self.proposal(&totals)) };
        self.phases.add(Phase::Audit, watch.seconds());
        self.busy += watch.seconds();
        match ended {
            Err(violated) => violated,
            Ok(Err(breach)) => self.violated(1, [0; 2], breach),
            Ok(Ok(proposal)) => {
                let (step, recount) = (proposal.step, self.walk.as_ref().is_some_and(|walk| walk.recount));
                if !recount {
                    return self.propose(proposal);
                }
                self.walk.as_mut().expect("there is a step").proposal = Some(Box::new(proposal));
                self.begin_binding(step, 0, true);
                Progress::Working
            }
        }
    }

    /// What the kick gave and took: between partitions, from rounding, and from the account of reactions.
    fn book(&mut self, bookings: &Bookings) {
        let walk = self.walk.as_mut().expect("there is a step");
        walk.book.take(bookings);
        for (&node, taken) in &self.transfers {
            let entry = walk.peers.entry(node).or_default();
            *entry = entry.plus(*taken);
            walk.book.kick_rounding = add3(walk.book.kick_rounding, negate3(taken.angular_momentum));
        }
    }

    /// The step as it is proposed, if it passes the audit of this partition alone.
    fn proposal(&self, totals: &Totals) -> Result<Proposal, Breach> {
        let walk = self.walk.as_ref().expect("there is a step");
        let proposal = Proposal {
            step: walk.step,
            held: Amounts {
                count: self.set.count() as i128,
                mass: self.set.real_rows().map(|row| self.set.mass[row] as i128).sum(),
                momentum: totals.momentum,
                angular_momentum: totals.angular_momentum,
                energy: 0,
            },
            book: walk.book,
            peers: walk.peers.clone(),
            root: self.root(),
            recount: None,
            took: Took::default(),
        };
        let due = walk.before.plus(proposal.gained());
        audit::exact(&proposal.held, &due, self.plan.angular).map(|()| proposal)
    }

    fn propose(&mut self, proposal: Proposal) -> Progress {
        self.walk = None;
        self.undecided.push(Columns::of(&self.set));
        let nanoseconds = |seconds: f64| (seconds * 1e9) as u64;
        let (whole, in_pairs) = (nanoseconds(self.busy), nanoseconds(self.pair_seconds));
        let took = Took { nanoseconds: whole, pairs: self.pairs, pair_nanoseconds: in_pairs };
        Progress::Proposed(Box::new(Proposal { took, ..proposal }))
    }

    /// Energy is counted: in a step it is the last thing.
    pub(super) fn after_count(&mut self, share: RecountShare) -> Progress {
        match self.walk.as_mut().and_then(|walk| walk.proposal.take()) {
            Some(proposal) => self.propose(Proposal { recount: Some(share), ..*proposal }),
            None => {
                if !self.links.current {
                    self.relink();
                }
                Progress::Counted(Box::new(share))
            }
        }
    }

    /// Names the lowest particle that is out of range, or the fastest if a drift was too long to be held.
    #[cold]
    fn out_of_range(&mut self) -> Progress {
        let set = &self.set;
        let contract = self.common.contract();
        let found = set.real_rows().filter_map(|row| outside_in(set, row, contract).map(|what| (set.id[row], what)));
        let (id, what) =
            found.min_by_key(|(id, _)| *id).unwrap_or_else(|| (set.id[fastest(set)], OutOfRange::Position));
        let what = match what {
            OutOfRange::Position => "position",
            OutOfRange::Momentum => "momentum",
        };
        self.violated(1, [id, 0], Breach::out_of_range(what, id, &Names::default()))
    }
}
