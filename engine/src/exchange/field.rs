//! The bodies that meet on one node: its own, and those of others that came to be evaluated here.

use std::ops::Range;

use super::{Segment, message::Roster};
use crate::{
    backend::cpu::Field,
    force::kernel::Bodies,
    particle::{LANES, PADDING, WorkingSet},
    wire::NodeId,
};

/// Rows of one group of bodies in an [`Arena`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// The first row, at a whole lane.
    pub first: usize,
    /// Number of bodies; padding follows them.
    pub count: usize,
}

impl Rows {
    /// Rows that stand for bodies.
    #[must_use]
    pub fn real(self) -> Range<usize> {
        self.first..self.first + self.count
    }

    /// With padding.
    #[must_use]
    pub fn lanes(self) -> Range<usize> {
        self.first..(self.first + self.count).next_multiple_of(LANES)
    }

    /// Rows of one segment, with padding.
    #[must_use]
    pub fn lanes_of(self, segment: Segment) -> Range<usize> {
        let part = segment.of(self.count);
        self.first + part.start..(self.first + part.end).next_multiple_of(LANES)
    }
}

/// Sources and test particles of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Those that pull.
    pub sources: Rows,
    /// Those that are only pulled.
    pub tests: Rows,
}

/// Own bodies and guests in one set of columns, so that kernels see one field.
#[derive(Clone, Debug, Default)]
pub struct Arena {
    position: [Vec<i64>; 3],
    mass: Vec<f64>,
    id: Vec<u64>,
    /// Own bodies stand first, in the rows of the working set.
    own: Group,
    guests: Vec<(NodeId, Group)>,
}

impl Arena {
    /// Takes in the own bodies and sends all guests home.
    pub fn begin(&mut self, set: &WorkingSet) {
        self.guests.clear();
        self.mass.clone_from(&set.mass);
        self.id.clone_from(&set.id);
        for (axis, position) in self.position.iter_mut().zip(&set.position) {
            axis.clone_from(position);
        }
        let tests = Rows { first: set.test_rows().start, count: set.tests };
        self.own = Group { sources: Rows { first: 0, count: set.sources }, tests };
    }

    /// Moves the own bodies to where the working set has them now.
    pub fn follow(&mut self, set: &WorkingSet) {
        for (axis, position) in self.position.iter_mut().zip(&set.position) {
            axis[..position.len()].copy_from_slice(position);
        }
    }

    /// Seats guests: who they are.
    pub fn seat(&mut self, node: NodeId, roster: &Roster) {
        let sources = self.seat_group(&roster.id[..roster.sources], &roster.mass[..roster.sources]);
        let tests = self.seat_group(&roster.id[roster.sources..], &roster.mass[roster.sources..]);
        self.guests.push((node, Group { sources, tests }));
    }

    fn seat_group(&mut self, id: &[u64], mass: &[i64]) -> Rows {
        let rows = Rows { first: self.mass.len(), count: id.len() };
        let end = rows.lanes().end;
        self.id.extend(id);
        self.id.resize(end, u64::MAX);
        self.mass.extend(mass.iter().map(|&mass| mass as f64));
        self.mass.resize(end, 0.0);
        for (axis, position) in self.position.iter_mut().enumerate() {
            // Each row of padding has a place of its own, beyond the range of positions.
            position.extend((rows.first..end).map(|row| PADDING + if axis == 0 { (row as i64) << 10 } else { 0 }));
        }
        rows
    }

    /// Moves guests to where they are now: their sources, then their test particles.
    ///
    /// # Panics
    /// If they were not seated, or are not as many.
    pub fn place(&mut self, node: NodeId, positions: &[Vec<i64>; 3]) {
        let group = self.guests(node).expect("guests are seated before they are placed");
        for (axis, from) in self.position.iter_mut().zip(positions) {
            let (sources, tests) = from.split_at(group.sources.count);
            axis[group.sources.real()].copy_from_slice(sources);
            axis[group.tests.real()].copy_from_slice(tests);
        }
    }

    /// The own bodies.
    #[must_use]
    pub fn own(&self) -> Group {
        self.own
    }

    /// The rows of the guests of a node.
    #[must_use]
    pub fn guests(&self, node: NodeId) -> Option<Group> {
        self.guests.iter().find(|(guest, _)| *guest == node).map(|(_, group)| *group)
    }

    /// All groups: the own one, then the guests.
    pub fn groups(&self) -> impl Iterator<Item = Group> + '_ {
        std::iter::once(self.own).chain(self.guests.iter().map(|(_, group)| *group))
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.mass.len()
    }

    /// Positions of some rows.
    #[must_use]
    pub fn positions(&self, rows: Range<usize>) -> [&[i64]; 3] {
        self.position.each_ref().map(|axis| &axis[rows.clone()])
    }

    /// What kernels read. `sources`: how many pull, of all partitions.
    #[must_use]
    pub fn field(&self, sources: usize) -> Field<'_> {
        let bodies = Bodies { position: self.position.each_ref().map(Vec::as_slice), mass: &self.mass };
        Field { bodies, id: &self.id, sources }
    }

    /// The identities of a pair: of two sources the lower first, of a source and a test particle the latter, which is pulled.
    #[must_use]
    pub fn pair(&self, [row, column]: [usize; 2]) -> [u64; 2] {
        let is_test = self.groups().any(|group| group.tests.real().contains(&row));
        let [a, b] = [self.id[row], self.id[column]];
        if is_test || a < b { [a, b] } else { [b, a] }
    }
}
