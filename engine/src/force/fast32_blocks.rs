//! Blocks of neighbours for [`super::fast32`]: a function of the set of particles alone, whatever their rows.
//!
//! The set is halved along the longest edge of its box, at a whole number of blocks, then each half again, down to one block. Ties
//! of coordinates are decided by identity. Nothing is kept from one evaluation to the next but memory: blocks are a function of
//! positions, so that a step back meets the blocks of the step there.

use std::ops::Range;

use super::{
    fast32::{Bounds, KickFast},
    kernel::Bodies,
    portable32::split,
};

/// Bodies of a block; a whole number of lanes.
pub const BLOCK: usize = 64;

/// Particles in blocks of neighbours, with the f32 columns that kernels read. All blocks but the last are full.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    /// Row of each particle in the working set, block by block.
    pub rows: Vec<u32>,
    /// What rules need to know, block by block.
    pub bounds: Vec<Bounds>,
    /// Whole spans of the positions, one `Vec` per axis; the last block is filled up.
    pub(super) high: [Vec<f32>; 3],
    /// What is left of the positions [spans].
    pub(super) low: [Vec<f32>; 3],
    /// Strengths; 0 where no particle is.
    pub(super) strength: Vec<f32>,
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    position: [i64; 3],
    id: u64,
    row: u32,
}

impl Blocks {
    /// Cuts the particles in these rows (of particles, not padding) into blocks.
    ///
    /// Positions within ±2⁴⁷ quanta; `id`, row by row: unique.
    pub fn arrange(&mut self, bodies: Bodies<'_>, id: &[u64], rows: impl Iterator<Item = usize>, kick: &KickFast) {
        let position = |row: usize| bodies.position.map(|axis| axis[row]);
        self.places.clear();
        self.places.extend(rows.map(|row: usize| Place { position: position(row), id: id[row], row: row as u32 }));
        halve(&mut self.places);
        let room = self.places.len().next_multiple_of(BLOCK);
        for axis in 0..3 {
            // Where no particle is, each lane has a place of its own beyond the range of positions.
            let nowhere = (0..room).map(|k| ((1_u32 << 24) + 4 * (k % BLOCK) as u32) as f32);
            self.high[axis].clear();
            self.high[axis].extend(nowhere);
            self.low[axis].clear();
            self.low[axis].resize(room, 0.0);
            for (k, place) in self.places.iter().enumerate() {
                (self.high[axis][k], self.low[axis][k]) = split(place.position[axis]);
            }
        }
        self.rows.clear();
        self.rows.extend(self.places.iter().map(|place| place.row));
        self.strength.clear();
        self.strength.extend(self.rows.iter().map(|&row| kick.strength(bodies.mass[row as usize])));
        self.strength.resize(room, 0.0);
        self.bounds.clear();
        for (places, strengths) in self.places.chunks(BLOCK).zip(self.strength.chunks(BLOCK)) {
            let mut bounds = Bounds::EMPTY;
            places.iter().zip(strengths).for_each(|(place, &strength)| bounds.add(place.position, strength));
            self.bounds.push(bounds);
        }
    }

    /// Number of blocks.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bounds.len()
    }

    /// Number of particles.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Particles of one block, as indices of [`Blocks::rows`].
    #[must_use]
    pub fn block(&self, number: usize) -> Range<usize> {
        number * BLOCK..self.len().min((number + 1) * BLOCK)
    }

    /// Where a particle is [position quanta].
    #[must_use]
    pub(super) fn position(&self, index: usize) -> [i64; 3] {
        self.places[index].position
    }

    /// Adds sums in the order of blocks to the rows of the working set.
    pub fn scatter(&self, sums: &[Vec<i64>; 3], impulse: &mut [Vec<i64>; 3]) {
        for (impulse, sums) in impulse.iter_mut().zip(sums) {
            for (&row, &sum) in self.rows.iter().zip(sums) {
                impulse[row as usize] = impulse[row as usize].wrapping_add(sum);
            }
        }
    }
}

/// Halves places until each part is one block.
fn halve(places: &mut [Place]) {
    let blocks = places.len().div_ceil(BLOCK);
    if blocks < 2 {
        return;
    }
    let edge = |axis: usize| {
        let at = |place: &Place| place.position[axis];
        let [lowest, highest] = places.iter().fold([i64::MAX, i64::MIN], |[a, b], p| [a.min(at(p)), b.max(at(p))]);
        highest - lowest
    };
    let edges = [edge(0), edge(1), edge(2)];
    // The first of the longest.
    let axis = (0..3).rev().max_by_key(|&axis| edges[axis]).expect("three axes");
    let middle = blocks / 2 * BLOCK;
    places.select_nth_unstable_by_key(middle, |place| (place.position[axis], place.id));
    let (left, right) = places.split_at_mut(middle);
    halve(left);
    halve(right);
}
