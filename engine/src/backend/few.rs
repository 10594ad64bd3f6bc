//! A handful of bodies: whole bursts of steps on fixed arrays, without tiles, tasks or allocation.
//!
//! Planetary systems have six bodies and want millions of steps a second. Here the pairs stand in a list and are evaluated eight
//! at a time whoever they belong to; everything stays in the first-level cache. The bits are those of the tiles, because the
//! pair contract is the same and integer sums have no order; `tests/exactness.rs` holds the two together.

use super::cpu::Bookings;
use crate::{
    force::{Kick, PairOverflow},
    integrator::kernel::{Stride, Totals, momentum_outside, position_outside},
    math::{MAGIC, add3, cross, f64_from_i64, magic_integer, out_of_magic, wide_product},
    particle::{LANES, WorkingSet},
};

/// As many bodies as fit.
pub const FEW: usize = 16;
/// The range of positions: only `native64` walks like this.
const POSITION_BITS: u32 = 61;
/// As many pairs as they can have.
const PAIRS: usize = FEW * (FEW - 1) / 2;

type Vectors = [[i64; FEW]; 3];

/// The bodies, sources first, without padding between sources and test particles.
#[derive(Clone, Debug)]
pub struct Few {
    count: usize,
    sources: usize,
    /// Rows of the working set that they came from.
    rows: [usize; FEW],
    position: Vectors,
    momentum: Vectors,
    inverse_mass: [f64; FEW],
    /// Pairs of sources, each once; then each test particle with each source.
    pairs: Pairs,
    impulse: Vectors,
    /// The kick that `impulse` and `gained` belong to, while the positions are those that it was evaluated at.
    fresh: Option<Kick>,
    gained: Bookings,
}

#[derive(Clone, Debug)]
struct Pairs {
    mutual: usize,
    count: usize,
    left: [u8; PAIRS],
    right: [u8; PAIRS],
    /// Products of the masses; 0 beyond `count`.
    product: [f64; PAIRS],
}

impl Few {
    /// The bodies of a working set, if they are few.
    #[must_use]
    pub fn of(set: &WorkingSet) -> Option<Self> {
        if set.count() > FEW {
            return None;
        }
        let mut few = Self {
            count: set.count(),
            sources: set.sources,
            rows: [0; FEW],
            position: [[0; FEW]; 3],
            momentum: [[0; FEW]; 3],
            inverse_mass: [0.0; FEW],
            pairs: Pairs { mutual: 0, count: 0, left: [0; PAIRS], right: [1; PAIRS], product: [0.0; PAIRS] },
            impulse: [[0; FEW]; 3],
            fresh: None,
            gained: Bookings::default(),
        };
        for (k, row) in set.real_rows().enumerate() {
            few.rows[k] = row;
            few.inverse_mass[k] = set.inverse_mass[row];
            for axis in 0..3 {
                few.position[axis][k] = set.position[axis][row];
                few.momentum[axis][k] = set.momentum[axis][row];
            }
        }
        few.list_pairs(set);
        Some(few)
    }

    fn list_pairs(&mut self, set: &WorkingSet) {
        let sources = self.sources;
        let mutual = (0..sources).flat_map(|i| (i + 1..sources).map(move |j| (i, j)));
        let one_sided = (sources..self.count).flat_map(|i| (0..sources).map(move |j| (i, j)));
        self.pairs.mutual = sources * sources.saturating_sub(1) / 2;
        for (k, (i, j)) in mutual.chain(one_sided).enumerate() {
            self.pairs.left[k] = i as u8;
            self.pairs.right[k] = j as u8;
            self.pairs.product[k] = set.mass[self.rows[i]] * set.mass[self.rows[j]];
            self.pairs.count = k + 1;
        }
    }

    /// Writes positions and momenta back to where they came from.
    pub fn put_back(&self, set: &mut WorkingSet) {
        for (k, &row) in self.rows[..self.count].iter().enumerate() {
            for axis in 0..3 {
                set.position[axis][row] = self.position[axis][k];
                set.momentum[axis][row] = self.momentum[axis][k];
            }
        }
    }
}

/// The motions of a few bodies.
#[derive(Debug)]
pub struct Walk<'a>(pub &'a mut Few);

impl Walk<'_> {
    /// The impulses of a kick; nothing to do if they are known already.
    ///
    /// # Errors
    /// The first pair whose impulse is out of range.
    #[inline(always)]
    pub fn evaluate<const L: usize, const ADDS: bool>(
        &mut self,
        kick: Kick,
        angular: bool,
    ) -> Result<(), PairOverflow> {
        if self.0.fresh == Some(kick) {
            return Ok(());
        }
        let few = &mut *self.0;
        few.impulse = [[0; FEW]; 3];
        // No gravity: 0/0 would be no number where two particles meet.
        let pairs = if kick.factor == 0.0 { 0 } else { few.pairs.count };
        for first in (0..pairs).step_by(LANES) {
            let (impulses, outside) = eight_pairs::<L, ADDS>(few, first, kick);
            if outside != 0 {
                return Err(few.find_overflow(first, &impulses));
            }
            few.scatter(first, &impulses);
        }
        few.fresh = Some(kick);
        few.gained = few.book_impulses(angular);
        Ok(())
    }

    /// p ← p + J, x ← x + Δt·p/m.
    #[inline(always)]
    pub fn kick_and_drift<const ADDS: bool>(&mut self, stride: Stride, angular: bool) -> Bookings {
        let few = &mut *self.0;
        let mut bookings = few.kick();
        let mut moved = [[0; FEW]; 3];
        let to_f64 = |v: i64| if ADDS { f64_from_i64(v) } else { v as f64 };
        let mut outside = 0;
        for first in (0..few.count).step_by(LANES) {
            for axis in 0..3 {
                for k in first..first + LANES {
                    let (dx, too_far) = wide_product(to_f64(few.momentum[axis][k]), stride.0 * few.inverse_mass[k]);
                    let x = few.position[axis][k].wrapping_add(dx);
                    few.position[axis][k] = x;
                    moved[axis][k] = dx;
                    outside |= too_far | position_outside(x, POSITION_BITS);
                }
            }
        }
        bookings.sources.outside |= outside;
        if angular {
            bookings.sources.sway = crosses(&moved, &few.momentum, 0..few.count);
        }
        few.fresh = None;
        bookings
    }

    /// p ← p + J, then recounts.
    #[inline(always)]
    pub fn kick_and_count(&mut self, angular: bool) -> (Bookings, Totals) {
        let few = &mut *self.0;
        let bookings = few.kick();
        let momentum = std::array::from_fn(|axis| few.momentum[axis][..few.count].iter().map(|&p| i128::from(p)).sum());
        let all = 0..few.count;
        let angular_momentum = if angular { crosses(&few.position, &few.momentum, all) } else { [0; 3] };
        (bookings, Totals { momentum, angular_momentum })
    }
}

impl Few {
    #[inline(always)]
    fn kick(&mut self) -> Bookings {
        let mut outside = 0;
        for first in (0..self.count).step_by(LANES) {
            for axis in 0..3 {
                for k in first..first + LANES {
                    let j = self.impulse[axis][k];
                    let p = self.momentum[axis][k].wrapping_add(j);
                    self.momentum[axis][k] = p;
                    outside |= momentum_outside(p) | momentum_outside(j);
                }
            }
        }
        let mut bookings = self.gained;
        bookings.sources.outside |= outside;
        bookings
    }

    #[inline(always)]
    fn scatter(&mut self, first: usize, impulses: &[[i64; LANES]; 3]) {
        for l in 0..LANES.min(self.pairs.count - first) {
            let (i, j) = (self.pairs.left[first + l] as usize % FEW, self.pairs.right[first + l] as usize % FEW);
            let mutual = first + l < self.pairs.mutual;
            for axis in 0..3 {
                let k = impulses[axis][l];
                self.impulse[axis][i] = self.impulse[axis][i].wrapping_add(k);
                if mutual {
                    self.impulse[axis][j] = self.impulse[axis][j].wrapping_sub(k);
                }
            }
        }
    }

    /// What the particles gain from a kick with these impulses at these positions.
    #[inline(always)]
    fn book_impulses(&self, angular: bool) -> Bookings {
        let (sources, tests) = (0..self.sources, self.sources..self.count);
        let mut bookings = Bookings::default();
        for k in tests.clone() {
            let one = std::array::from_fn(|axis| i128::from(self.impulse[axis][k]));
            bookings.tests.impulse = add3(bookings.tests.impulse, one);
        }
        if angular {
            bookings.sources.torque = crosses(&self.position, &self.impulse, sources);
            bookings.tests.torque = crosses(&self.position, &self.impulse, tests);
        }
        bookings
    }

    #[cold]
    fn find_overflow(&self, first: usize, impulses: &[[i64; LANES]; 3]) -> PairOverflow {
        let outside = |l: &usize| (0..3).any(|axis| out_of_magic(impulses[axis][*l]) != 0);
        let pair = first + (0..LANES).find(outside).expect("a lane was out of range");
        let row = |k: u8| self.rows[k as usize];
        PairOverflow { row: row(self.pairs.left[pair]), column: row(self.pairs.right[pair]) }
    }
}

/// The impulses of eight pairs of the list, `L` at a time, and a value that is not zero if one was out of range.
#[inline(always)]
fn eight_pairs<const L: usize, const ADDS: bool>(few: &Few, first: usize, kick: Kick) -> ([[i64; LANES]; 3], i64) {
    let to_f64 = |v: i64| if ADDS { f64_from_i64(v) } else { v as f64 };
    let left: &[u8; LANES] = few.pairs.left[first..first + LANES].try_into().expect("eight lanes");
    let right: &[u8; LANES] = few.pairs.right[first..first + LANES].try_into().expect("eight lanes");
    let product: &[f64; LANES] = few.pairs.product[first..first + LANES].try_into().expect("eight lanes");
    let mut d = [[0_i64; LANES]; 3];
    for axis in 0..3 {
        for l in 0..LANES {
            let x = &few.position[axis];
            d[axis][l] = x[right[l] as usize % FEW].wrapping_sub(x[left[l] as usize % FEW]);
        }
    }
    let mut impulses = [[0; LANES]; 3];
    let mut outside = [0; LANES];
    for l in 0..LANES {
        let d: [f64; 3] = std::array::from_fn(|axis| to_f64(d[axis][l]));
        let r2 = d[0].mul_add(d[0], d[1].mul_add(d[1], d[2].mul_add(d[2], kick.softening2)));
        let f = (product[l] * kick.factor) / (r2 * r2.sqrt());
        for axis in 0..3 {
            let k = magic_integer(f.mul_add(d[axis], MAGIC));
            impulses[axis][l] = k;
            outside[l] |= out_of_magic(k);
        }
    }
    (impulses, outside.into_iter().fold(0, |all, one| all | one))
}

#[inline(always)]
fn crosses(a: &Vectors, b: &Vectors, range: std::ops::Range<usize>) -> [i128; 3] {
    range.fold([0; 3], |sum, k| add3(sum, cross([a[0][k], a[1][k], a[2][k]], [b[0][k], b[1][k], b[2][k]])))
}

const _: () = assert!(PAIRS.is_multiple_of(LANES) && FEW.is_multiple_of(LANES), "lists are whole lanes");
