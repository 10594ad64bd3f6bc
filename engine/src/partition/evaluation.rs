//! One force evaluation, or one count of potential energy, by all partitions together.
//!
//! Positions go out first; then own pairs are evaluated, and pairs with guests as these come in. When the pairs with the guests of a
//! node are done, their impulses go back at once. The evaluation is over when all tiles are done and all impulses of the own
//! particles that others evaluated are back.

use std::collections::{BTreeMap, BTreeSet};

use super::{Offence, Partition, Progress, share::RecountShare};
use crate::{
    backend::{deal::Deal, fast::FastWork},
    contract::Contract,
    exchange::{
        Pairing, Segment,
        codec::Predictor,
        field::{Arena, Group},
        message::{self, Kind, Roster},
        pairing::Guest,
    },
    force::Kick,
    ledger::Amounts,
    math::sum_of_crosses,
    metrics::{Phase, Stopwatch},
    particle::WorkingSet,
    wire::NodeId,
};

/// Pairs for each thread between two looks at the network: about two milliseconds.
const PAIRS_A_TURN: usize = 2_000_000;
/// The same for blocks of `fast32`.
const FAST_PAIRS_A_TURN: usize = 2 * PAIRS_A_TURN;

/// What both sides of each link know of what went over it. It begins anew when particles change hands.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    pub(super) pairing: Pairing,
    /// Own and guest bodies, as they were last told.
    arena: Arena,
    /// Whether all of them are where they are now.
    pub(super) current: bool,
    rosters: BTreeMap<NodeId, Option<Roster>>,
    /// Who was told who the particles are.
    told: BTreeSet<NodeId>,
    halos_out: BTreeMap<(Segment, u16), Predictor>,
    halos_in: BTreeMap<(NodeId, u16), Predictor>,
    returns_out: BTreeMap<(NodeId, u16), Predictor>,
    returns_in: BTreeMap<(NodeId, u16), Predictor>,
}

impl Links {
    pub(super) fn new(pairing: Pairing, set: &WorkingSet) -> Self {
        let mut links = Self { pairing, ..Self::default() };
        links.arena.begin(set);
        links
    }
}

/// Tiles of one deal, and how many of them are done.
#[derive(Clone, Debug)]
struct Tiles {
    /// Whose guests take part.
    guest: Option<Guest>,
    deal: Deal,
    done: usize,
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
    purpose: Purpose,
    step: u64,
    /// The part in tags, and the stage whose past predicts.
    part: u16,
    halos: BTreeSet<NodeId>,
    returns: BTreeSet<NodeId>,
    tiles: Vec<Tiles>,
    /// All guests are evaluated together, when all are there.
    at_once: bool,
    /// What is done of that.
    together: Option<Box<FastWork>>,
    /// One value a row of the arena, if impulses are evaluated.
    sums: [Vec<i64>; 3],
    binding: i128,
    overflow: Option<[u64; 2]>,
    /// Impulses that came back.
    back: [Vec<i64>; 3],
    transfers: BTreeMap<NodeId, Amounts>,
}

/// A stage that no splitting has: counts of energy, whose positions are never predicted.
pub(super) const COUNT: u16 = 0x8000;

impl Partition {
    /// Begins an evaluation at the present positions.
    pub(super) fn begin_evaluation(&mut self, kick: Kick, step: u64, stage: u16) {
        let fast = self.common.contract() == Contract::Fast32;
        let hosts = self.links.pairing.hosts.iter().map(|host| host.node).collect();
        let mut evaluation = self.evaluation(Purpose::Impulses(kick), step, stage, fast);
        evaluation.returns = hosts;
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
            evaluation.tiles.extend(shared.guests.iter().map(|guest| self.tiles_with(*guest, Purpose::Binding)));
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
        deal.on_tests(own.tests.lanes(), own.sources.lanes());
        let deal = if purpose == Purpose::Binding { deal.of_sources() } else { deal };
        Evaluation {
            purpose,
            step,
            part,
            halos: self.links.pairing.guests.iter().map(|guest| guest.node).collect(),
            returns: BTreeSet::new(),
            tiles: if at_once { Vec::new() } else { vec![Tiles { guest: None, deal, done: 0 }] },
            at_once,
            together: None,
            sums: std::array::from_fn(|_| vec![0; self.links.arena.rows()]),
            binding: 0,
            overflow: None,
            back: Default::default(),
            transfers: BTreeMap::new(),
        }
    }

    /// Sends the positions of the own particles to all who evaluate pairs with them. Each segment is packed once.
    fn send_halos(&mut self, step: u64, part: u16) {
        let watch = Stopwatch::start();
        let hosts = self.links.pairing.hosts.clone();
        for segment in [Segment::All, Segment::First] {
            let to: Vec<NodeId> = hosts.iter().filter(|host| host.mine == segment).map(|host| host.node).collect();
            if to.is_empty() {
                continue;
            }
            let positions = own_columns(&self.set, &self.set.position, segment);
            let telling: Vec<bool> = to.iter().map(|&node| self.links.told.insert(node)).collect();
            assert!(telling.iter().all(|&t| t == telling[0]), "all are told together");
            let roster = telling[0].then(|| self.own_roster(segment));
            let predictor = self.links.halos_out.entry((segment, part)).or_default();
            let slices = positions.each_ref().map(Vec::as_slice);
            let bytes = message::halo(roster.as_ref(), slices, predictor, self.pack);
            for node in to {
                self.sent.halo_particles += slices[0].len() as u64;
                self.post(node, Kind::Halo, step, part, bytes.clone());
            }
        }
        if part & COUNT != 0 {
            self.links.halos_out.retain(|(_, stage), _| stage & COUNT == 0);
        }
        self.phases.add(Phase::Transfer, watch.seconds());
    }

    fn own_roster(&self, segment: Segment) -> Roster {
        let set = &self.set;
        let rows = own_rows(set, segment);
        Roster {
            sources: segment.of(set.sources).len(),
            id: rows.clone().map(|row| set.id[row]).collect(),
            mass: rows.map(|row| set.mass[row] as i64).collect(),
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
        if let Some(at) = evaluation.tiles.iter().position(|tiles| tiles.done < tiles.deal.count()) {
            self.do_tiles(evaluation, at);
            return Ok(Some(Progress::Working));
        }
        // Deals without a tile have nothing to evaluate, but their guests wait for an answer.
        while let Some(at) = evaluation.tiles.iter().position(|tiles| tiles.guest.is_some()) {
            let tiles = evaluation.tiles.swap_remove(at);
            self.send_home(evaluation, tiles.guest.expect("it has guests"));
        }
        if evaluation.at_once && evaluation.halos.is_empty() {
            self.do_some_of_all(evaluation);
            return Ok(Some(Progress::Working));
        }
        let over = evaluation.halos.is_empty() && evaluation.returns.is_empty();
        Ok(if over { None } else { Some(Progress::Waiting) })
    }

    fn take_halos(&mut self, evaluation: &mut Evaluation) -> Result<(), Offence> {
        let Evaluation { step, part, .. } = *evaluation;
        let here =
            evaluation.halos.iter().copied().filter(|&node| self.early.contains_key(&(Kind::Halo, step, part, node)));
        for node in here.collect::<Vec<_>>() {
            let watch = Stopwatch::start();
            let bytes = self.early.remove(&(Kind::Halo, step, part, node)).expect("it was seen just now");
            let known = self.links.rosters.entry(node).or_default();
            let new = known.is_none();
            let predictor = self.links.halos_in.entry((node, part)).or_default();
            let bits = self.common.contract().position_bits();
            let read = message::read_halo(&bytes, bits, known, predictor);
            let positions = read.map_err(|error| Offence::of(node, &error, bytes))?;
            if new {
                self.links.arena.seat(node, known.as_ref().expect("a first halo says who they are"));
            }
            self.links.arena.place(node, &positions);
            evaluation.halos.remove(&node);
            let rows = self.links.arena.rows();
            evaluation.sums.iter_mut().for_each(|axis| axis.resize(rows, 0));
            if !evaluation.at_once {
                // Energies are shared out pair by pair, even where everybody is here.
                let pairing = match evaluation.purpose {
                    Purpose::Impulses(_) => self.links.pairing.clone(),
                    Purpose::Binding => Pairing::shared(&self.members, self.me),
                };
                let guest = pairing.guest(node).copied();
                evaluation.tiles.extend(guest.map(|guest| self.tiles_with(guest, evaluation.purpose)));
            }
            self.phases.add(Phase::Transfer, watch.seconds());
        }
        Ok(())
    }

    /// Tiles with the guests of one node.
    fn tiles_with(&self, guest: Guest, purpose: Purpose) -> Tiles {
        let arena = &self.links.arena;
        let (own, theirs) = (arena.own(), arena.guests(guest.node).expect("guests are seated"));
        // Where everybody is here, half of them may be meant.
        let whole = self.links.pairing.guest(guest.node).is_some_and(|seated| seated.theirs == Segment::All);
        let part = if whole { guest.theirs } else { Segment::All };
        let [their_sources, their_tests] = [theirs.sources, theirs.tests].map(|rows| rows.lanes_of(part));
        let [my_sources, my_tests] = [own.sources, own.tests].map(|rows| rows.lanes_of(guest.mine));
        let mut deal = Deal::of_rows(arena.rows());
        deal.between(my_sources.clone(), their_sources.clone());
        deal.on_tests(my_tests, their_sources);
        deal.on_tests(their_tests, my_sources);
        match purpose {
            Purpose::Impulses(_) => Tiles { guest: Some(guest), deal, done: 0 },
            Purpose::Binding => Tiles { guest: None, deal: deal.of_sources(), done: 0 },
        }
    }

    fn do_tiles(&mut self, evaluation: &mut Evaluation, at: usize) {
        let watch = Stopwatch::start();
        let tiles = &mut evaluation.tiles[at];
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

    /// Sends guests their impulses; what their sources got, the own sources gave.
    fn send_home(&mut self, evaluation: &mut Evaluation, guest: Guest) {
        let watch = Stopwatch::start();
        let group = self.links.arena.guests(guest.node).expect("guests are seated");
        let given = self.transfer(&evaluation.sums, self.links.arena.positions(group.sources.real()), group);
        let entry = evaluation.transfers.entry(guest.node).or_default();
        *entry = entry.plus(given.counter_entry());
        let columns = evaluation.sums.each_ref().map(|axis| {
            let [sources, tests] = [group.sources, group.tests].map(|rows| &axis[rows.real()]);
            [sources, tests].concat()
        });
        self.sent.return_particles += columns[0].len() as u64;
        let predictor = self.links.returns_out.entry((guest.node, evaluation.part)).or_default();
        let bytes = message::impulses(columns.each_ref().map(Vec::as_slice), predictor, self.pack);
        self.post(guest.node, Kind::Return, evaluation.step, evaluation.part, bytes);
        self.phases.add(Phase::Transfer, watch.seconds());
    }

    /// What the sources of a group get.
    fn transfer(&self, sums: &[Vec<i64>; 3], positions: [&[i64]; 3], group: Group) -> Amounts {
        let sums = sums.each_ref().map(|axis| &axis[group.sources.real()]);
        amounts_of(positions, sums, self.plan.angular)
    }

    fn take_returns(&mut self, evaluation: &mut Evaluation) -> Result<(), Offence> {
        let Evaluation { step, part, .. } = *evaluation;
        let here = evaluation
            .returns
            .iter()
            .copied()
            .filter(|&node| self.early.contains_key(&(Kind::Return, step, part, node)));
        for node in here.collect::<Vec<_>>() {
            let watch = Stopwatch::start();
            let bytes = self.early.remove(&(Kind::Return, step, part, node)).expect("it was seen just now");
            let segment = self.links.pairing.host(node).expect("impulses are awaited from hosts").mine;
            let rows = own_rows(&self.set, segment);
            let predictor = self.links.returns_in.entry((node, part)).or_default();
            let read = message::read_impulses(&bytes, rows.clone().count(), predictor);
            let sums = read.map_err(|error| Offence::of(node, &error, bytes))?;
            let sources = segment.of(self.set.sources);
            let positions = self.set.position.each_ref().map(|axis| &axis[sources.clone()]);
            let taken = sums.each_ref().map(|axis| &axis[..sources.len()]);
            let entry = evaluation.transfers.entry(node).or_default();
            *entry = entry.plus(amounts_of(positions, taken, self.plan.angular));
            for (back, sums) in evaluation.back.iter_mut().zip(&sums) {
                rows.clone().zip(sums).for_each(|(row, sum)| back[row] = back[row].wrapping_add(*sum));
            }
            evaluation.returns.remove(&node);
            self.phases.add(Phase::Transfer, watch.seconds());
        }
        Ok(())
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
fn amounts_of(positions: [&[i64]; 3], impulses: [&[i64]; 3], angular: bool) -> Amounts {
    Amounts {
        momentum: impulses.map(|axis| axis.iter().map(|&j| i128::from(j)).sum()),
        angular_momentum: if angular { sum_of_crosses(positions, impulses) } else { [0; 3] },
        ..Amounts::default()
    }
}

/// Rows of the own particles of a segment, sources first.
fn own_rows(set: &WorkingSet, segment: Segment) -> impl Iterator<Item = usize> + Clone + use<> {
    let first_test = set.test_rows().start;
    let (sources, tests) = (segment.of(set.sources), segment.of(set.tests));
    sources.chain(tests.start + first_test..tests.end + first_test)
}

fn own_columns(set: &WorkingSet, columns: &[Vec<i64>; 3], segment: Segment) -> [Vec<i64>; 3] {
    columns.each_ref().map(|axis| own_rows(set, segment).map(|row| axis[row]).collect())
}
