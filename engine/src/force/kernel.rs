//! Tiles of pairs on lanes: a contract on f64 for many pairs at once, in safe code.
//!
//! The operations of a contract stand in one place, its [`Formula`]; here they are put together, for one pair ([`impulse`], the
//! definition) and for tiles of them.
//!
//! A tile is a block of rows against a block of columns; on the diagonal, each pair of one block once. Loops over `[T; LANES]`
//! become vector code when the [backend](crate::backend) compiles them for an instruction set; the bits do not depend on it.
//!
//! Each component of an impulse costs one multiplication, one addition (fused or not) and two integer adds: the magic-shifted bits go straight into the
//! sums, and `count · bits(MAGIC)` is taken off once per tile. Everything wraps; an impulse so large that it, or the sum
//! over all sources, might leave its range is found by the guard.

use std::{marker::PhantomData, ops::Range};

use super::{Kick, PairOverflow, separation};
use crate::{
    math::{Exact, MAGIC_BITS, f64_from_i64, magic_integer, out_of_magic},
    quanta::exp2,
};

/// The operations of a pair contract on f64, in their order.
pub trait Formula {
    /// Whether every position is an exact float, so that the difference of two floats is that of the integers.
    const EXACT_POSITIONS: bool;

    /// r² + ε² [position quanta²].
    fn distance2(d: [f64; 3], softening2: f64) -> f64;

    /// What multiplies d; `masses` is the product of both.
    fn pull(r2: f64, masses: f64, factor: f64) -> Pull;

    /// f·d, shifted by [`crate::math::MAGIC`].
    fn shifted(f: f64, d: f64) -> f64;

    /// Minus the potential energy [energy quanta], not yet rounded to an integer.
    fn binding(r2: f64, masses: f64, energy_factor: f64) -> f64;
}

/// The pull of a pair.
#[derive(Clone, Copy, Debug)]
pub struct Pull {
    /// The impulse is f·d.
    pub f: f64,
    /// About √r²: |f|·r bounds the impulse.
    pub r: f64,
}

/// The impulse on i [momentum quanta]: what a contract says of one pair.
#[inline(always)]
#[must_use]
pub fn impulse<F: Formula>(d: [f64; 3], masses: [f64; 2], kick: Kick) -> [i64; 3] {
    let pull = F::pull(F::distance2(d, kick.softening2), masses[0] * masses[1], kick.factor);
    d.map(|d| magic_integer(F::shifted(pull.f, d)))
}

/// Positions and masses that a kernel reads: one slice per axis, whole lanes.
#[derive(Clone, Copy, Debug)]
pub struct Bodies<'a> {
    /// Positions [position quanta].
    pub position: [&'a [i64]; 3],
    /// Masses [mass quanta].
    pub mass: &'a [f64],
}

impl Bodies<'_> {
    fn separation(&self, from: usize, to: usize) -> [f64; 3] {
        let at = |k: usize| std::array::from_fn(|axis| self.position[axis][k]);
        separation(at(from), at(to))
    }
}

/// Sums of impulses of one block of particles, one `Vec` per axis [momentum quanta].
#[derive(Clone, Debug, Default)]
pub struct Sums(pub [Vec<i64>; 3]);

impl Sums {
    /// Zeros, `len` of them.
    pub fn reset(&mut self, len: usize) {
        for axis in &mut self.0 {
            axis.clear();
            axis.resize(len, 0);
        }
    }
}

/// How a pass treats its pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Whether the columns take the reaction. It is false for test particles, which are rows and are not columns.
    pub mutual: bool,
    /// Whether impulses may leave their range and must be watched: without softening they may.
    pub guarded: bool,
    /// Impulses stay below 2^(this): see [`crate::contract::Contract::impulse_bits`].
    pub range_bits: u32,
}

/// The impulses of all pairs of `rows` × `columns`, two ranges of whole lanes, either the same or apart.
///
/// Adds the impulses on the rows to `row_sums` and subtracts those on the columns from `column_sums`; on the diagonal both go
/// to `row_sums`. `L` lanes at a time; `ADDS` converts integers to floats by additions.
///
/// # Errors
/// The first pair whose impulse is out of range, if `mode.guarded`.
#[inline(always)]
pub fn tile<F: Formula, const L: usize, const ADDS: bool>(
    bodies: Bodies<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    kick: Kick,
    mode: Mode,
    row_sums: &mut Sums,
    column_sums: &mut Sums,
) -> Result<(), PairOverflow> {
    let mut pass = Pass::<'_, '_, F> { bodies, kick, rows, columns, row_sums, column_sums, formula: PhantomData };
    // Rows that share one sweep over the columns: four rows of eight lanes just fit 32 registers, two of four lanes 16.
    let largest = if L == 8 { pass.run::<L, 4, ADDS>(mode) } else { pass.run::<L, 2, ADDS>(mode) };
    // The guard is an upper bound of |K|, rounded: near the edge the impulses themselves decide.
    let safe = exp2(mode.range_bits as i32 - 1).to_bits() << 1;
    if largest >= safe { pass.find_overflow(mode.range_bits) } else { Ok(()) }
}

struct Pass<'a, 's, F> {
    bodies: Bodies<'a>,
    kick: Kick,
    rows: Range<usize>,
    columns: Range<usize>,
    row_sums: &'s mut Sums,
    column_sums: &'s mut Sums,
    formula: PhantomData<F>,
}

impl<F: Formula> Pass<'_, '_, F> {
    /// All pairs; an upper bound of |K|, as [`Pass::sweep`] keeps it.
    #[inline(always)]
    fn run<const L: usize, const R: usize, const ADDS: bool>(&mut self, mode: Mode) -> u64 {
        match (self.rows == self.columns, mode.mutual, mode.guarded) {
            (true, _, true) => self.triangle::<L, R, ADDS, true>(mode.range_bits),
            (true, _, false) => self.triangle::<L, R, ADDS, false>(mode.range_bits),
            (false, true, true) => self.rectangle::<L, R, ADDS, true, true>(),
            (false, true, false) => self.rectangle::<L, R, ADDS, true, false>(),
            (false, false, true) => self.rectangle::<L, R, ADDS, false, true>(),
            (false, false, false) => self.rectangle::<L, R, ADDS, false, false>(),
        }
    }

    /// Every row against every column.
    #[inline(always)]
    fn rectangle<const L: usize, const R: usize, const ADDS: bool, const MUTUAL: bool, const GUARDED: bool>(
        &mut self,
    ) -> u64 {
        let mut largest = [0; L];
        for row in self.rows.clone().step_by(R) {
            self.sweep::<L, R, ADDS, MUTUAL, GUARDED, false>(row, self.columns.clone(), &mut largest);
        }
        self.remove_bias(self.columns.len(), if MUTUAL { self.rows.len() } else { 0 });
        largest.into_iter().fold(0, u64::max)
    }

    /// Every pair of one block once: the pairs among a few rows one by one, then these rows against all later columns.
    #[inline(always)]
    fn triangle<const L: usize, const R: usize, const ADDS: bool, const GUARDED: bool>(
        &mut self,
        range_bits: u32,
    ) -> u64 {
        let (mut largest, mut largest_half) = ([0; L], [0; R]);
        let mut outside = 0;
        for row in self.rows.clone().step_by(R) {
            outside |= self.among_rows::<R>(row, range_bits);
            let next = row + R;
            let whole = next.next_multiple_of(L);
            self.sweep::<R, R, ADDS, true, GUARDED, true>(row, next..whole, &mut largest_half);
            self.sweep::<L, R, ADDS, true, GUARDED, true>(row, whole..self.rows.end, &mut largest);
        }
        // As a column, each row was met by all rows before its own few.
        for axis in &mut self.row_sums.0 {
            for (k, sum) in axis.iter_mut().enumerate() {
                *sum = sum.wrapping_add(MAGIC_BITS.wrapping_mul((k / R * R) as i64));
            }
        }
        let seen = if outside == 0 { 0 } else { u64::MAX };
        largest.into_iter().chain(largest_half).fold(seen, u64::max)
    }

    /// The pairs of a few neighbouring rows, by the contract itself. Not zero if one was out of range.
    #[inline(always)]
    fn among_rows<const R: usize>(&mut self, first: usize, range_bits: u32) -> i64 {
        let mut outside = 0;
        for i in first..first + R {
            for j in i + 1..first + R {
                let masses = [self.bodies.mass[i], self.bodies.mass[j]];
                // Padding without mass takes no part: two such rows need not be apart.
                if masses[1] == 0.0 {
                    continue;
                }
                let k = impulse::<F>(self.bodies.separation(i, j), masses, self.kick);
                for (axis, k) in self.row_sums.0.iter_mut().zip(k) {
                    axis[i - self.rows.start] = axis[i - self.rows.start].wrapping_add(k);
                    axis[j - self.rows.start] = axis[j - self.rows.start].wrapping_sub(k);
                    outside |= out_of_magic(k) | (k.unsigned_abs() >> range_bits) as i64;
                }
            }
        }
        outside
    }

    /// `R` rows against a range of columns, `L` columns at a time.
    ///
    /// With `GUARDED`, `largest` keeps an upper bound of all |K| as twice the bit pattern of |f|·r: the doubling drops the
    /// sign, and as integers bit patterns order like the floats, with NaN (two bodies at one place) above everything.
    #[inline(always)]
    fn sweep<
        const L: usize,
        const R: usize,
        const ADDS: bool,
        const MUTUAL: bool,
        const GUARDED: bool,
        const TRIANGLE: bool,
    >(
        &mut self,
        row: usize,
        columns: Range<usize>,
        largest: &mut [u64; L],
    ) {
        let to_f64 = |v: i64| if ADDS { f64_from_i64(v) } else { v as f64 };
        let xi: [[i64; 3]; R] = std::array::from_fn(|r| self.bodies.position.map(|axis| axis[row + r]));
        let mi: [f64; R] = std::array::from_fn(|r| self.bodies.mass[row + r]);
        let mut on_rows = [[[0_i64; L]; 3]; R];
        let count = columns.len();
        let first = columns.start - if TRIANGLE { self.rows.start } else { self.columns.start };
        let sums = if TRIANGLE { &mut self.row_sums.0 } else { &mut self.column_sums.0 };
        let [x, y, z] = self.bodies.position.map(|axis| axis[columns.clone()].as_chunks::<L>().0);
        let mass = self.bodies.mass[columns].as_chunks::<L>().0;
        let [sx, sy, sz] = sums.each_mut().map(|axis| axis[first..first + count].as_chunks_mut::<L>().0);
        let mut here = [[0.0; 3]; R];
        for r in 0..R {
            for axis in 0..3 {
                here[r][axis] = to_f64(xi[r][axis]);
            }
        }
        for k in 0..mass.len() {
            let (xj, mj) = ([x[k], y[k], z[k]], mass[k]);
            let mut there = [[0.0; L]; 3];
            for axis in 0..3 {
                for l in 0..L {
                    there[axis][l] = to_f64(xj[axis][l]);
                }
            }
            let mut on_columns = [sx[k], sy[k], sz[k]];
            for r in 0..R {
                for l in 0..L {
                    let d: [f64; 3] = if F::EXACT_POSITIONS {
                        std::array::from_fn(|axis| there[axis][l] - here[r][axis])
                    } else {
                        std::array::from_fn(|axis| to_f64(xj[axis][l].wrapping_sub(xi[r][axis])))
                    };
                    let pull = F::pull(F::distance2(d, self.kick.softening2), mi[r] * mj[l], self.kick.factor);
                    for axis in 0..3 {
                        let bits = F::shifted(pull.f, d[axis]).to_bits() as i64;
                        on_rows[r][axis][l] = on_rows[r][axis][l].wrapping_add(bits);
                        if MUTUAL {
                            on_columns[axis][l] = on_columns[axis][l].wrapping_sub(bits);
                        }
                    }
                    if GUARDED {
                        largest[l] = largest[l].max((pull.f * pull.r).to_bits() << 1);
                    }
                }
            }
            if MUTUAL {
                [sx[k], sy[k], sz[k]] = on_columns;
            }
        }
        self.add_to_rows::<L, R, TRIANGLE>(row, &on_rows, count);
    }

    /// Folds the lanes into the sums of `R` rows; in a triangle their magic bits are taken off here.
    #[inline(always)]
    fn add_to_rows<const L: usize, const R: usize, const TRIANGLE: bool>(
        &mut self,
        row: usize,
        lanes: &[[[i64; L]; 3]; R],
        count: usize,
    ) {
        let bias = if TRIANGLE { MAGIC_BITS.wrapping_mul(count as i64) } else { 0 };
        for (r, row_lanes) in lanes.iter().enumerate() {
            for (sums, lanes) in self.row_sums.0.iter_mut().zip(row_lanes) {
                let sum = &mut sums[row - self.rows.start + r];
                *sum = lanes.iter().fold(*sum, |sum, lane| sum.wrapping_add(*lane)).wrapping_sub(bias);
            }
        }
    }

    /// Takes off the magic bits of a rectangle: each row met `columns` columns, each column `rows` rows.
    #[inline(always)]
    fn remove_bias(&mut self, columns: usize, rows: usize) {
        let bias = |count: usize| MAGIC_BITS.wrapping_mul(count as i64);
        for axis in &mut self.row_sums.0 {
            axis.iter_mut().for_each(|sum| *sum = sum.wrapping_sub(bias(columns)));
        }
        for axis in &mut self.column_sums.0 {
            axis.iter_mut().for_each(|sum| *sum = sum.wrapping_add(bias(rows)));
        }
    }

    /// Goes through the tile again, pair by pair, to name the one that is out of range.
    #[cold]
    fn find_overflow(&self, range_bits: u32) -> Result<(), PairOverflow> {
        let outside = |k: i64| out_of_magic(k) != 0 || k.unsigned_abs() >> range_bits != 0;
        for i in self.rows.clone() {
            for j in self.columns.clone() {
                let masses = [self.bodies.mass[i], self.bodies.mass[j]];
                if i == j || masses[0] * masses[1] == 0.0 {
                    continue;
                }
                let k = impulse::<F>(self.bodies.separation(i, j), masses, self.kick);
                if k.into_iter().any(outside) {
                    return Err(PairOverflow { row: i, column: j });
                }
            }
        }
        Ok(())
    }
}

/// Minus the potential energy of all pairs of `rows` × `columns` [energy quanta]; on the diagonal, of each pair once.
///
/// Each pair's energy is rounded to a quantum and added as an integer, so that neither tiles nor lanes nor threads matter.
#[inline(always)]
#[must_use]
pub fn binding_tile<F: Formula, const L: usize, const ADDS: bool>(
    bodies: Bodies<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    energy_factor: f64,
    softening2: f64,
) -> i128 {
    let to_f64 = |v: i64| if ADDS { f64_from_i64(v) } else { v as f64 };
    let triangle = rows == columns;
    let mut total = 0;
    for i in rows {
        let xi: [i64; 3] = bodies.position.map(|axis| axis[i]);
        let mi = bodies.mass[i];
        let first = if triangle { (i + 1).next_multiple_of(L).min(columns.end) } else { columns.start };
        let mut sums = [Exact::default(); L];
        let later = first..columns.end;
        let [x, y, z] = bodies.position.map(|axis| axis[later.clone()].as_chunks::<L>().0);
        let mass = bodies.mass[later].as_chunks::<L>().0;
        for k in 0..mass.len() {
            for l in 0..L {
                let d = [x[k][l], y[k][l], z[k][l]];
                let d = std::array::from_fn(|axis| to_f64(d[axis].wrapping_sub(xi[axis])));
                sums[l].add(F::binding(F::distance2(d, softening2), mi * mass[k][l], energy_factor));
            }
        }
        total += sums.into_iter().map(Exact::total).sum::<i128>();
        if triangle {
            total += binding_one_by_one::<F>(bodies, i, i + 1..first, energy_factor, softening2);
        }
    }
    total
}

/// One row against the few columns that stand before the first whole lanes.
#[inline(always)]
fn binding_one_by_one<F: Formula>(
    bodies: Bodies<'_>,
    i: usize,
    columns: Range<usize>,
    energy_factor: f64,
    softening2: f64,
) -> i128 {
    let mut sum = Exact::default();
    for j in columns {
        let masses = [bodies.mass[i], bodies.mass[j]];
        if masses[0] * masses[1] != 0.0 {
            let r2 = F::distance2(bodies.separation(i, j), softening2);
            sum.add(F::binding(r2, masses[0] * masses[1], energy_factor));
        }
    }
    sum.total()
}
