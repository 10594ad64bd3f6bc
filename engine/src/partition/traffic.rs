//! What partitions send each other: blocks that come wait for their turn, and blocks that go for their owner to send them. During an
//! evaluation positions go out, impulses come back, and both sides of each link remember what went over it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Offence, Outgoing, Partition,
    evaluation::{COUNT, Evaluation, Purpose, amounts_of},
};
use crate::{
    exchange::{
        Pairing, Segment,
        codec::Predictor,
        field::Arena,
        message::{self, Kind, Roster},
        pairing::Guest,
    },
    metrics::{Phase, Stopwatch},
    particle::WorkingSet,
    transport::Tag,
    wire::NodeId,
};

/// What both sides of each link know of what went over it. It begins anew when particles change hands.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    pub(super) pairing: Pairing,
    /// Own and guest bodies, as they were last told.
    pub(super) arena: Arena,
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

/// Blocks that may wait for their turn, for each peer: a peer can be one stage ahead, and have sent its migrants.
const EARLY_BLOCKS_MAX: usize = 8;

impl Partition {
    /// Blocks to send, in order.
    pub fn outbox(&mut self) -> std::vec::Drain<'_, Outgoing> {
        self.outbox.drain(..)
    }

    pub(super) fn post(&mut self, to: NodeId, kind: Kind, step: u64, part: u16, bytes: Vec<u8>) {
        let tag = Tag { epoch: self.epoch, step, kind: kind as u16, part };
        self.outbox.push(Outgoing { to, tag, bytes });
    }

    /// Takes a block that came. What belongs to another epoch is dropped.
    ///
    /// # Errors
    /// If no correct peer would have sent it.
    pub fn take(&mut self, from: NodeId, tag: Tag, bytes: Vec<u8>) -> Result<(), Offence> {
        if tag.epoch != self.epoch {
            return Ok(());
        }
        let offence = |what: String, block| Err(Offence { from, what, block });
        if !self.members.contains(&from) || from == self.me {
            return offence("it owns nothing".into(), bytes);
        }
        let Some(kind) = Kind::of(tag.kind) else { return offence(format!("kind {}", tag.kind), bytes) };
        if tag.part & COUNT != 0 {
            self.take_for_count((kind, tag.step, tag.part, from), bytes);
            return Ok(());
        }
        let waits = |(_, _, part, sender): &&(Kind, u64, u16, NodeId)| *sender == from && part & COUNT == 0;
        if self.early.keys().filter(waits).count() >= EARLY_BLOCKS_MAX {
            return offence(format!("{EARLY_BLOCKS_MAX} of its blocks wait already"), bytes);
        }
        match self.early.insert((kind, tag.step, tag.part, from), bytes) {
            None => Ok(()),
            Some(first) => {
                offence(format!("two blocks of kind {} for step {} part {}", tag.kind, tag.step, tag.part), first)
            }
        }
    }

    /// Of counts only the newest matters: who asked for one before has asked again.
    fn take_for_count(&mut self, (kind, step, part, from): (Kind, u64, u16, NodeId), bytes: Vec<u8>) {
        let known = |(_, _, part, sender): &&(Kind, u64, u16, NodeId)| *sender == from && part & COUNT != 0;
        let known = self.early.keys().find(known).copied();
        if known.is_some_and(|(_, at, id, _)| (at, id) > (step, part)) {
            return;
        }
        known.map(|key| self.early.remove(&key));
        self.early.insert((kind, step, part, from), bytes);
    }

    /// Sends the positions of the own particles to all who evaluate pairs with them. Each segment is packed once.
    pub(super) fn send_halos(&mut self, step: u64, part: u16) {
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
            let rows = slices[0].len();
            let bytes = self.packing.write(rows, roster.is_none(), |pack| {
                message::halo(roster.as_ref(), slices, predictor, pack, &self.cpu)
            });
            for node in to {
                self.sent.halo_particles += rows as u64;
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

    pub(super) fn take_halos(&mut self, evaluation: &mut Evaluation) -> Result<(), Offence> {
        let Evaluation { step, part, .. } = *evaluation;
        let here =
            evaluation.halos.iter().copied().filter(|&node| self.early.contains_key(&(Kind::Halo, step, part, node)));
        for node in here.collect::<Vec<_>>() {
            let watch = Stopwatch::start();
            let bytes = self.early.remove(&(Kind::Halo, step, part, node)).expect("it was seen just now");
            let known = self.links.rosters.entry(node).or_default();
            let new = known.is_none();
            let predictor = self.links.halos_in.entry((node, part)).or_default();
            let reading = Stopwatch::start();
            let bits = self.common.contract().position_bits();
            let length = bytes.len();
            let read = message::read_halo(&bytes, bits, known, predictor, &self.cpu);
            let positions = read.map_err(|error| Offence::of(node, &error, bytes))?;
            if new {
                self.links.arena.seat(node, known.as_ref().expect("a first halo says who they are"));
            } else {
                self.packing.read(positions[0].len(), length, &reading);
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
                if let Some(guest) = pairing.guest(node) {
                    self.seat(evaluation, *guest);
                }
            }
            self.phases.add(Phase::Transfer, watch.seconds());
        }
        Ok(())
    }

    /// Sends guests their impulses; what their sources got, the own sources gave.
    pub(super) fn send_home(&mut self, evaluation: &mut Evaluation, guest: Guest) {
        let watch = Stopwatch::start();
        let group = self.links.arena.guests(guest.node).expect("guests are seated");
        let given = self.given_to(group, &evaluation.sums);
        let entry = evaluation.transfers.entry(guest.node).or_default();
        *entry = entry.plus(given.counter_entry());
        let columns = evaluation.sums.each_ref().map(|axis| {
            let [sources, tests] = [group.sources, group.tests].map(|rows| &axis[rows.real()]);
            [sources, tests].concat()
        });
        let rows = columns[0].len();
        self.sent.return_particles += rows as u64;
        let predictor = self.links.returns_out.entry((guest.node, evaluation.part)).or_default();
        let slices = columns.each_ref().map(Vec::as_slice);
        let bytes = self.packing.write(rows, true, |pack| message::impulses(slices, predictor, pack, &self.cpu));
        self.post(guest.node, Kind::Return, evaluation.step, evaluation.part, bytes);
        self.phases.add(Phase::Transfer, watch.seconds());
    }

    pub(super) fn take_returns(&mut self, evaluation: &mut Evaluation) -> Result<(), Offence> {
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
            let reading = Stopwatch::start();
            let length = bytes.len();
            let read = message::read_impulses(&bytes, rows.clone().count(), predictor, &self.cpu);
            let sums = read.map_err(|error| Offence::of(node, &error, bytes))?;
            self.packing.read(sums[0].len(), length, &reading);
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
