//! One force evaluation, or one count of potential energy, by all partitions together.
//!
//! Positions go out first; then own pairs are evaluated, and pairs with guests as these come in. When the pairs with the guests of a
//! node are done, their impulses go back at once; or nothing goes back, because their owner evaluates the same pairs. The evaluation
//! is over when all tiles are done and all impulses of the own particles that others evaluated are back.
//!
//! Either way both owners post what passed between them as one sum over the sources of one of the two: their momentum, and the angular
//! momentum where they are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Offence, Partition, Progress, share::RecountShare};
use crate::{
    backend::{deal::Deal, fast::FastWork},
    contract::Contract,
    exchange::{Pairing, Segment, field::Group, pairing::Guest},
    force::Kick,
    ledger::Amounts,
    math::sum_of_crosses,
    metrics::{Phase, Stopwatch},
    wire::NodeId,
};

/// Pairs for each thread between two looks at the network: about two milliseconds.
const PAIRS_A_TURN: usize = 2_000_000;
/// The same for blocks of `fast32`.
const FAST_PAIRS_A_TURN: usize = 2 * PAIRS_A_TURN;

/// Tiles of one deal, and how many of them are done.
#[derive(Clone, Debug)]
struct Tiles {
    /// Whose guests take part.
    guest: Option<Guest>,
    deal: Deal,
    done: usize,
    /// What all before them gave the own sources, where that is what is counted.
    before: Option<Amounts>,
}

impl Tiles {
    fn new(guest: Option<Guest>, deal: Deal) -> Self {
        Self { guest, deal, done: 0, before: None }
    }

    fn are_done(&self) -> bool {
        self.done == self.deal.count()
    }
}

/// What is evaluated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Purpose {
    /// Impulses of a kick.
    Impulses(Kick),
    /// Potential energy, with halos of its own if positions were not exchanged just now.
    Binding,
}

/// An evaluation in progress.
#[derive(Clone, Debug)]
pub(super) struct Evaluation {
    pub(super) purpose: Purpose,
    pub(super) step: u64,
    /// The part in tags, and the stage whose past predicts.
    pub(super) part: u16,
    pub(super) halos: BTreeSet<NodeId>,
    pub(super) returns: BTreeSet<NodeId>,
    /// The first are worked on; own pairs come before all others.
    tiles: VecDeque<Tiles>,
    /// All guests are evaluated together, when all are there.
    pub(super) at_once: bool,
    /// What is done of that.
    together: Option<Box<FastWork>>,
    /// One value a row of the arena, if impulses are evaluated.
    pub(super) sums: [Vec<i64>; 3],
    binding: i128,
    overflow: Option<[u64; 2]>,
    /// Impulses that came back.
    pub(super) back: [Vec<i64>; 3],
    pub(super) transfers: BTreeMap<NodeId, Amounts>,
}

/// A stage that no splitting has: counts of energy, whose positions are never predicted.
pub(super) const COUNT: u16 = 0x8000;

impl Partition {
    /// Begins an evaluation at the present positions.
    pub(super) fn begin_evaluation(&mut self, kick: Kick, step: u64, stage: u16) {
        let fast = self.common.contract() == Contract::Fast32;
        let mut evaluation = self.evaluation(Purpose::Impulses(kick), step, stage, fast);
        if !self.is_twice() {
            evaluation.returns = self.links.pairing.hosts.iter().map(|host| host.node).collect();
        }
        evaluation.back = std::array::from_fn(|_| vec![0; self.set.rows()]);
        self.send_halos(step, stage);
        self.evaluation = Some(evaluation);
    }

    /// Begins to count potential energy. `exchanged`: whether the guests are where they are now.
    pub(super) fn begin_binding(&mut self, step: u64, id: u16, exchanged: bool) {
        if !exchanged {
            self.relink();
        }
        let mut evaluation = self.evaluation(Purpose::Binding, step, COUNT | (id & !COUNT), false);
        if exchanged {
            evaluation.halos.clear();
            let shared = Pairing::shared(&self.members, self.me);
            shared.guests.iter().for_each(|guest| self.seat(&mut evaluation, *guest));
        } else {
            self.send_halos(step, evaluation.part);
        }
        self.evaluation = Some(evaluation);
    }

    fn evaluation(&mut self, purpose: Purpose, step: u64, part: u16, at_once: bool) -> Evaluation {
        self.links.arena.follow(&self.set);
        let own = self.links.arena.own();
        let mut deal = Deal::of_rows(self.set.rows());
        deal.among(own.sources.lanes());
        deal.on_rows(own.tests.lanes(), own.sources.lanes());
        let deal = if purpose == Purpose::Binding { deal.of_sources() } else { deal };
        Evaluation {
            purpose,
            step,
            part,
            halos: self.links.pairing.guests.iter().map(|guest| guest.node).collect(),
            returns: BTreeSet::new(),
            tiles: (!at_once).then(|| Tiles::new(None, deal)).into_iter().collect(),
            at_once,
            together: None,
            sums: std::array::from_fn(|_| vec![0; self.links.arena.rows()]),
            binding: 0,
            overflow: None,
            back: Default::default(),
            transfers: BTreeMap::new(),
        }
    }

    /// Does a bit of the evaluation.
    pub(super) fn work_on_evaluation(&mut self) -> Result<Progress, Offence> {
        let Some(mut evaluation) = self.evaluation.take() else { return Ok(Progress::Idle) };
        let worked = self.bit_of(&mut evaluation);
        if matches!(worked, Ok(None)) {
            return Ok(self.end_evaluation(evaluation));
        }
        self.evaluation = Some(evaluation);
        worked.map(|progress| progress.unwrap_or(Progress::Working))
    }

    /// `None` when all is done.
    fn bit_of(&mut self, evaluation: &mut Evaluation) -> Result<Option<Progress>, Offence> {
        self.take_halos(evaluation)?;
        self.take_returns(evaluation)?;
        if let Some(mut tiles) = evaluation.tiles.pop_front() {
            self.do_tiles(evaluation, &mut tiles);
            match tiles.are_done() {
                true => self.close(evaluation, &tiles),
                false => evaluation.tiles.push_front(tiles),
            }
            return Ok(Some(Progress::Working));
        }
        if evaluation.at_once && evaluation.halos.is_empty() {
            self.do_some_of_all(evaluation);
            return Ok(Some(Progress::Working));
        }
        let over = evaluation.halos.is_empty() && evaluation.returns.is_empty();
        Ok(if over { None } else { Some(Progress::Waiting) })
    }

    /// The guests of a node are there: their pairs are to be evaluated.
    pub(super) fn seat(&mut self, evaluation: &mut Evaluation, guest: Guest) {
        let tiles = match evaluation.purpose {
            Purpose::Impulses(_) if self.is_twice() => Tiles::new(Some(guest), self.deal_of_both(guest)),
            Purpose::Impulses(_) => Tiles::new(Some(guest), self.deal_of_one(guest)),
            Purpose::Binding => Tiles::new(None, self.deal_of_one(guest).of_sources()),
        };
        evaluation.tiles.push_back(tiles);
    }

    /// The pairs with the guests of one node, evaluated here alone.
    fn deal_of_one(&self, guest: Guest) -> Deal {
        let arena = &self.links.arena;
        let (own, theirs) = (arena.own(), arena.guests(guest.node).expect("guests are seated"));
        // Where everybody is here, half of them may be meant.
        let whole = self.links.pairing.guest(guest.node).is_some_and(|seated| seated.theirs == Segment::All);
        let part = if whole { guest.theirs } else { Segment::All };
        let [their_sources, their_tests] = [theirs.sources, theirs.tests].map(|rows| rows.lanes_of(part));
        let [my_sources, my_tests] = [own.sources, own.tests].map(|rows| rows.lanes_of(guest.mine));
        let mut deal = Deal::of_rows(arena.rows());
        deal.between(my_sources.clone(), their_sources.clone());
        deal.on_rows(my_tests, their_sources);
        deal.on_rows(their_tests, my_sources);
        deal
    }

    /// The pairs with the guests of one node, evaluated there too: what their sources get is of use only if it is counted there.
    fn deal_of_both(&self, guest: Guest) -> Deal {
        let arena = &self.links.arena;
        let (own, theirs) = (arena.own(), arena.guests(guest.node).expect("guests are seated"));
        let mut deal = Deal::of_rows(arena.rows());
        if self.counts_here(guest.node) {
            deal.on_rows(own.sources.lanes(), theirs.sources.lanes());
        } else {
            deal.between(own.sources.lanes(), theirs.sources.lanes());
        }
        deal.on_rows(own.tests.lanes(), theirs.sources.lanes());
        deal
    }

    /// Whether what passes between here and a node is counted here, where both evaluate their pairs.
    fn counts_here(&self, node: NodeId) -> bool {
        self.is_twice() && Pairing::counts_at(&self.members, self.me, node)
    }

    fn do_tiles(&mut self, evaluation: &mut Evaluation, tiles: &mut Tiles) {
        let watch = Stopwatch::start();
        if tiles.done == 0 && tiles.guest.is_some_and(|guest| self.counts_here(guest.node)) {
            tiles.before = Some(self.given_to(self.links.arena.own(), &evaluation.sums));
        }
        let size = tiles.deal.tile_rows();
        let turn = (PAIRS_A_TURN * self.cpu.threads() / (size * size)).max(1);
        let some = tiles.done..tiles.deal.count().min(tiles.done + turn);
        tiles.done = some.end;
        let field = self.links.arena.field(self.common.sources);
        let contract = self.common.contract();
        match evaluation.purpose {
            Purpose::Impulses(kick) => {
                let sums = &mut evaluation.sums;
                let done = self.cpu.add_impulses(&field, &tiles.deal, some, contract, kick, self.plan.guarded, sums);
                evaluation.name(done.err().map(|pair| self.links.arena.pair([pair.row, pair.column])));
                self.pair_seconds += watch.seconds();
                self.pairs += if tiles.are_done() { tiles.deal.pairs() } else { 0 };
                self.phases.add(Phase::Force, watch.seconds());
            }
            Purpose::Binding => {
                let binding = self.cpu.binding(&field, &tiles.deal, some, &self.common.law);
                evaluation.binding = evaluation.binding.saturating_add(binding);
                self.phases.add(Phase::Audit, watch.seconds());
            }
        }
        self.busy += watch.seconds();
    }

    /// Pairs with the guests of a node are done: what passed between them and the own particles is posted, and goes home if their owner
    /// does not know it.
    fn close(&mut self, evaluation: &mut Evaluation, tiles: &Tiles) {
        let Some(guest) = tiles.guest else { return };
        if !self.is_twice() {
            return self.send_home(evaluation, guest);
        }
        let group = self.links.arena.guests(guest.node).expect("guests are seated");
        let taken = match tiles.before {
            Some(before) => self.given_to(self.links.arena.own(), &evaluation.sums).plus(before.counter_entry()),
            None => self.given_to(group, &evaluation.sums).counter_entry(),
        };
        evaluation.transfers.insert(guest.node, taken);
    }

    /// Under `fast32` blocks are made of all bodies: each node evaluates its part of them.
    fn do_some_of_all(&mut self, evaluation: &mut Evaluation) {
        let Purpose::Impulses(kick) = evaluation.purpose else { unreachable!("energies are counted tile by tile") };
        let watch = Stopwatch::start();
        let arena = &self.links.arena;
        let field = arena.field(self.common.sources);
        let begun = evaluation.together.take().or_else(|| self.begin_all(kick).map(Box::new));
        let more = begun.and_then(|mut work| {
            let more = work.advance(&self.cpu, &field, FAST_PAIRS_A_TURN * self.cpu.threads());
            if more {
                return Some(work);
            }
            let done = work.end(&mut evaluation.sums);
            evaluation.name(done.err().map(|pair| arena.pair([pair.row, pair.column])));
            None
        });
        evaluation.at_once = more.is_some();
        evaluation.together = more;
        self.phases.add(Phase::Force, watch.seconds());
        self.busy += watch.seconds();
        if !evaluation.at_once {
            let guests = self.links.pairing.guests.clone();
            guests.into_iter().for_each(|guest| self.send_home(evaluation, guest));
        }
    }

    fn begin_all(&self, kick: Kick) -> Option<FastWork> {
        let arena = &self.links.arena;
        let rows =
            |of: fn(Group) -> crate::exchange::field::Rows| arena.groups().map(|group| of(group).real()).collect();
        let rows = [rows(|group| group.sources), rows(|group| group.tests)];
        let me = self.members.iter().position(|&node| node == self.me).expect("a member");
        FastWork::begin(&arena.field(self.common.sources), rows, (me, self.members.len()), kick)
    }

    /// What the sources of a group get.
    pub(super) fn given_to(&self, group: Group, sums: &[Vec<i64>; 3]) -> Amounts {
        let sums = sums.each_ref().map(|axis| &axis[group.sources.real()]);
        amounts_of(self.links.arena.positions(group.sources.real()), sums, self.plan.angular)
    }

    fn end_evaluation(&mut self, evaluation: Evaluation) -> Progress {
        match evaluation.purpose {
            Purpose::Binding => {
                let common = &self.common;
                let share = RecountShare::of(&self.cpu, &self.set, &common.law, &common.quanta, evaluation.binding);
                self.after_count(share)
            }
            Purpose::Impulses(kick) => {
                let rows = self.set.rows();
                self.impulse = evaluation.back;
                for (impulse, sums) in self.impulse.iter_mut().zip(&evaluation.sums) {
                    impulse.iter_mut().zip(&sums[..rows]).for_each(|(j, sum)| *j = j.wrapping_add(*sum));
                }
                self.transfers = evaluation.transfers;
                self.fresh = Some(kick);
                self.links.current = true;
                self.after_evaluation(evaluation.overflow)
            }
        }
    }
}

impl Evaluation {
    /// Where it is in the run, and whose positions or impulses are awaited. Energy is counted after all stages of a step.
    pub(super) fn waits_for(&self) -> ((u64, u16), Vec<NodeId>) {
        ((self.step, self.part), self.halos.union(&self.returns).copied().collect())
    }

    /// Remembers the lowest pair that is out of range.
    fn name(&mut self, pair: Option<[u64; 2]>) {
        self.overflow = self.overflow.into_iter().chain(pair).min();
    }
}

/// Momentum and angular momentum of impulses at these positions.
pub(super) fn amounts_of(positions: [&[i64]; 3], impulses: [&[i64]; 3], angular: bool) -> Amounts {
    Amounts {
        momentum: impulses.map(|axis| axis.iter().map(|&j| i128::from(j)).sum()),
        angular_momentum: if angular { sum_of_crosses(positions, impulses) } else { [0; 3] },
        ..Amounts::default()
    }
}
