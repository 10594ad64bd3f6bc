//! Tiles of pairs of [`super::portable32`] on lanes, in safe code: the f32 counterpart of [`super::kernel`], with the same promises.
//!
//! A tile first turns its bodies into f32 columns; then each component of an impulse costs seven operations: the two levels go as
//! bit patterns into 32-bit sums, from which the constants are taken off once a tile. The guard is that of [`super::kernel`].

use std::ops::Range;

use super::{
    PairOverflow,
    kernel::{Bodies, Mode, Sums},
    portable32::{self as contract, Kick32, LOWER, SEED, UPPER},
};
use crate::{math::Exact, quanta::exp2};

/// Bodies of one side of a tile that are swept at once.
///
/// An impulse is below 2⁴³, so its levels are at most 2²¹: the sum of 512 of them stays below 2³¹. Floats and sums of one side
/// take 26 KiB and stay in the first-level cache.
const SIDE: usize = 512;

/// The impulses of all pairs of `rows` × `columns`, either the same range or apart.
///
/// Adds the impulses on the rows to `row_sums` and subtracts those on the columns from `column_sums`; on the diagonal both go
/// to `row_sums`. `L`: lanes of 64 bits. Bodies without mass (padding) take no part, wherever they are.
///
/// # Errors
/// The first pair whose impulse is out of range, if `mode.guarded`; the sums are then of no use.
#[inline(always)]
pub fn tile<const L: usize>(
    bodies: Bodies<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    kick: Kick32,
    mode: Mode,
    row_sums: &mut Sums,
    column_sums: &mut Sums,
) -> Result<(), PairOverflow> {
    let mut pass = Pass { bodies, kick, rows, columns, row_sums, column_sums };
    let largest = match L {
        8 => pass.run::<16, 1, { SIDE / 16 }>(mode),
        4 => pass.run::<8, 1, { SIDE / 8 }>(mode),
        2 => pass.run::<4, 1, { SIDE / 4 }>(mode),
        _ => pass.run::<1, 1, SIDE>(mode),
    };
    // The guard is an upper bound of |K|, rounded: near the edge the impulses themselves decide.
    let safe = (exp2(mode.range_bits as i32 - 1) as f32).to_bits() << 1;
    if largest >= safe { pass.find_overflow(mode.range_bits) } else { Ok(()) }
}

struct Pass<'a, 's> {
    bodies: Bodies<'a>,
    kick: Kick32,
    rows: Range<usize>,
    columns: Range<usize>,
    row_sums: &'s mut Sums,
    column_sums: &'s mut Sums,
}

/// `L` bodies as f32 columns.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Lanes<const L: usize> {
    high: [[f32; L]; 3],
    low: [[f32; L]; 3],
    mass: [f32; L],
    softening2: [f32; L],
}

/// 32-bit sums of `L` columns, upper and lower levels, constants still in them.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Levels<const L: usize> {
    upper: [[u32; L]; 3],
    lower: [[u32; L]; 3],
}

/// `C` times `L` bodies of one side of a tile.
struct Side<const L: usize, const C: usize> {
    lanes: [Lanes<L>; C],
    /// How many of them are in use.
    len: usize,
}

impl<const L: usize, const C: usize> Side<L, C> {
    /// Converts a range of bodies and fills up whole lanes. Bodies without mass get a place of their own beyond the range of
    /// positions, on `side` of it: impulses with them are exactly 0, and no distance is 0.
    #[inline(always)]
    fn of(bodies: Bodies<'_>, range: Range<usize>, side: f32, softening2: f32) -> Self {
        let none = Lanes { high: [[0.0; L]; 3], low: [[0.0; L]; 3], mass: [0.0; L], softening2: [softening2; L] };
        let mut found = Self { lanes: [none; C], len: range.len().div_ceil(L) };
        for (k, lanes) in found.lanes[..found.len].iter_mut().enumerate() {
            let first = range.start + k * L;
            let here = first..range.end.min(first + L);
            for (mass, exact) in lanes.mass.iter_mut().zip(&bodies.mass[here.clone()]) {
                *mass = *exact as f32;
            }
            for axis in 0..3 {
                let position = &bodies.position[axis][here.clone()];
                for ((high, low), &x) in lanes.high[axis].iter_mut().zip(&mut lanes.low[axis]).zip(position) {
                    (*high, *low) = contract::split(x);
                }
                for l in 0..L {
                    let nowhere = side * ((1_u32 << 24) + 4 * (k * L + l) as u32) as f32;
                    let missing = lanes.mass[l] == 0.0;
                    lanes.high[axis][l] = if missing { nowhere } else { lanes.high[axis][l] };
                    lanes.low[axis][l] = if missing { 0.0 } else { lanes.low[axis][l] };
                }
            }
        }
        found
    }

    /// The same lanes with only those after one row: earlier ones have no mass and are not at distance 0, so that their impulse
    /// is exactly 0.
    #[inline(always)]
    fn later_than(&self, block: usize, lane: usize) -> Lanes<L> {
        let mut lanes = self.lanes[block];
        for l in 0..L {
            lanes.mass[l] = if l > lane { lanes.mass[l] } else { 0.0 };
            lanes.softening2[l] = if l > lane { lanes.softening2[l] } else { 1.0 };
        }
        lanes
    }
}

impl Pass<'_, '_> {
    /// All pairs; an upper bound of |K|, as [`sweep`] keeps it.
    #[inline(always)]
    fn run<const L: usize, const R: usize, const C: usize>(&mut self, mode: Mode) -> u32 {
        match (mode.mutual, mode.guarded) {
            (true, true) => self.sides::<L, R, C, true, true>(),
            (true, false) => self.sides::<L, R, C, true, false>(),
            (false, true) => self.sides::<L, R, C, false, true>(),
            (false, false) => self.sides::<L, R, C, false, false>(),
        }
    }

    /// Cuts rows and columns into sides.
    #[inline(always)]
    fn sides<const L: usize, const R: usize, const C: usize, const MUTUAL: bool, const GUARDED: bool>(
        &mut self,
    ) -> u32 {
        let triangle = self.rows == self.columns;
        let softening2 = self.kick.softening2;
        let mut largest = [0; L];
        for first in self.rows.clone().step_by(SIDE) {
            let rows = first..self.rows.end.min(first + SIDE);
            let row_side = Side::<L, C>::of(self.bodies, rows.clone(), -1.0, softening2);
            let first = if triangle { first } else { self.columns.start };
            for first in (first..self.columns.end).step_by(SIDE) {
                let columns = first..self.columns.end.min(first + SIDE);
                if triangle && rows == columns {
                    self.triangle::<L, R, C, GUARDED>(&row_side, rows.start, &mut largest);
                } else {
                    let column_side = Side::<L, C>::of(self.bodies, columns.clone(), 1.0, softening2);
                    let at = [rows.start, columns.start];
                    self.rectangle::<L, R, C, MUTUAL, GUARDED>(&row_side, &column_side, at, &mut largest);
                }
            }
        }
        largest.into_iter().fold(0, u32::max)
    }

    /// Every row of one side against every column of another.
    #[inline(always)]
    fn rectangle<const L: usize, const R: usize, const C: usize, const MUTUAL: bool, const GUARDED: bool>(
        &mut self,
        rows: &Side<L, C>,
        columns: &Side<L, C>,
        at: [usize; 2],
        largest: &mut [u32; L],
    ) {
        let mut levels = [Levels { upper: [[0; L]; 3], lower: [[0; L]; 3] }; C];
        let (lanes, levels) = (&columns.lanes[..columns.len], &mut levels[..columns.len]);
        for block in 0..rows.len {
            // Lanes are whole groups of rows.
            for lane in (0..L).step_by(R) {
                let row = Row::<R>::of(&rows.lanes[block], lane, self.kick.factor);
                let sums = sweep::<L, R, MUTUAL, GUARDED>(&row, lanes, levels, largest);
                self.add_to_rows(at[0] + block * L + lane, &sums, (columns.len * L) as u32);
            }
        }
        if MUTUAL {
            let met = |_| (rows.len * L) as u32;
            if self.rows == self.columns {
                subtract_levels(self.row_sums, at[1] - self.rows.start, levels, met);
            } else {
                subtract_levels(self.column_sums, at[1] - self.columns.start, levels, met);
            }
        }
    }

    /// Every pair of one side once: the lanes in which a row itself stands with a mask, then all later ones.
    #[inline(always)]
    fn triangle<const L: usize, const R: usize, const C: usize, const GUARDED: bool>(
        &mut self,
        side: &Side<L, C>,
        start: usize,
        largest: &mut [u32; L],
    ) {
        let mut levels = [Levels { upper: [[0; L]; 3], lower: [[0; L]; 3] }; C];
        let (lanes, levels) = (&side.lanes[..side.len], &mut levels[..side.len]);
        let factor = self.kick.factor;
        for block in 0..lanes.len() {
            for lane in 0..L {
                let row = Row::<1>::of(&lanes[block], lane, factor);
                let own = [side.later_than(block, lane)];
                let sums = sweep::<L, 1, true, GUARDED>(&row, &own, &mut levels[block..=block], largest);
                self.add_to_rows(start + block * L + lane, &sums, L as u32);
            }
            let later = block + 1..lanes.len();
            for lane in (0..L).step_by(R) {
                let row = Row::<R>::of(&lanes[block], lane, factor);
                let sums =
                    sweep::<L, R, true, GUARDED>(&row, &lanes[later.clone()], &mut levels[later.clone()], largest);
                self.add_to_rows(start + block * L + lane, &sums, (later.len() * L) as u32);
            }
        }
        // As a column, a body was met by all rows up to the end of its own lanes.
        subtract_levels(self.row_sums, start - self.rows.start, levels, |block| ((block + 1) * L) as u32);
    }

    /// Adds what `R` rows gained from `count` columns each.
    #[inline(always)]
    fn add_to_rows<const R: usize>(&mut self, first: usize, gained: &[[[u32; 3]; 2]; R], count: u32) {
        for (r, [upper, lower]) in gained.iter().enumerate() {
            // Rows that only fill up the last lanes have no sum.
            if first + r >= self.rows.end {
                return;
            }
            for axis in 0..3 {
                let sum = &mut self.row_sums.0[axis][first + r - self.rows.start];
                *sum = sum.wrapping_add(contract::joined([upper[axis], lower[axis]], count));
            }
        }
    }

    /// Goes through the tile again, pair by pair, to name the one that is out of range.
    #[cold]
    fn find_overflow(&self, range_bits: u32) -> Result<(), PairOverflow> {
        let outside = |k: i64| contract::out_of_range(k) || k.unsigned_abs() >> range_bits != 0;
        let at = |k: usize| std::array::from_fn(|axis| self.bodies.position[axis][k]);
        for i in self.rows.clone() {
            for j in self.columns.clone() {
                let masses = [self.bodies.mass[i] as f32, self.bodies.mass[j] as f32];
                if i == j || masses[0] * masses[1] == 0.0 {
                    continue;
                }
                let k = contract::impulse(contract::separation(at(i), at(j)), masses, self.kick);
                if k.into_iter().any(outside) {
                    return Err(PairOverflow { row: i, column: j });
                }
            }
        }
        Ok(())
    }
}

/// `R` rows as a sweep reads them.
struct Row<const R: usize> {
    high: [[f32; 3]; R],
    low: [[f32; 3]; R],
    mass: [f32; R],
    factor: f32,
}

impl<const R: usize> Row<R> {
    #[inline(always)]
    fn of<const L: usize>(lanes: &Lanes<L>, lane: usize, factor: f32) -> Self {
        Self {
            high: std::array::from_fn(|r| lanes.high.each_ref().map(|axis| axis[lane + r])),
            low: std::array::from_fn(|r| lanes.low.each_ref().map(|axis| axis[lane + r])),
            mass: std::array::from_fn(|r| lanes.mass[lane + r]),
            factor,
        }
    }
}

/// `R` rows against lanes of columns; what each row gained, upper and lower levels, constants still in them.
///
/// With `MUTUAL`, `levels` take what the columns lost, as positive numbers. With `GUARDED`, `largest` keeps an upper bound of all |K|
/// as twice the bit pattern of |f|·r: the doubling drops the sign, and as integers bit patterns order like the floats, with NaN
/// (two bodies at one place) above everything.
#[inline(always)]
fn sweep<const L: usize, const R: usize, const MUTUAL: bool, const GUARDED: bool>(
    row: &Row<R>,
    columns: &[Lanes<L>],
    levels: &mut [Levels<L>],
    largest: &mut [u32; L],
) -> [[[u32; 3]; 2]; R] {
    let mut upper_i = [[[0_u32; L]; 3]; R];
    let mut lower_i = [[[0_u32; L]; 3]; R];
    for (column, lost) in columns.iter().zip(levels) {
        let mut on_columns = *lost;
        for r in 0..R {
            for l in 0..L {
                let d: [f32; 3] = std::array::from_fn(|axis| {
                    (column.high[axis][l] - row.high[r][axis]) + (column.low[axis][l] - row.low[r][axis])
                });
                let r2 = d[0] * d[0] + (d[1] * d[1] + (d[2] * d[2] + column.softening2[l]));
                let half = r2 * 0.5;
                let mut y = f32::from_bits(SEED.wrapping_sub(r2.to_bits() >> 1));
                y *= 1.5 - (y * y) * half;
                y *= 1.5 - (y * y) * half;
                y *= 1.5 - (y * y) * half;
                let f = (((row.mass[r] * column.mass[l]) * row.factor) * y) * (y * y);
                for axis in 0..3 {
                    let t = f * d[axis];
                    let shifted = t + UPPER;
                    let rest = t - (shifted - UPPER);
                    let (upper, lower) = (shifted.to_bits(), (rest + LOWER).to_bits());
                    upper_i[r][axis][l] = upper_i[r][axis][l].wrapping_add(upper);
                    lower_i[r][axis][l] = lower_i[r][axis][l].wrapping_add(lower);
                    if MUTUAL {
                        on_columns.upper[axis][l] = on_columns.upper[axis][l].wrapping_add(upper);
                        on_columns.lower[axis][l] = on_columns.lower[axis][l].wrapping_add(lower);
                    }
                }
                if GUARDED {
                    largest[l] = largest[l].max((f * (r2 * y)).to_bits() << 1);
                }
            }
        }
        if MUTUAL {
            *lost = on_columns;
        }
    }
    let mut totals = [[[0_u32; 3]; 2]; R];
    for r in 0..R {
        for axis in 0..3 {
            for l in 0..L {
                totals[r][0][axis] = totals[r][0][axis].wrapping_add(upper_i[r][axis][l]);
                totals[r][1][axis] = totals[r][1][axis].wrapping_add(lower_i[r][axis][l]);
            }
        }
    }
    totals
}

/// Takes what the columns lost off their sums; those of block k met `met(k)` rows.
#[inline(always)]
fn subtract_levels<const L: usize>(sums: &mut Sums, first: usize, levels: &[Levels<L>], met: impl Fn(usize) -> u32) {
    for axis in 0..3 {
        for (block, (sums, levels)) in sums.0[axis][first..].chunks_mut(L).zip(levels).enumerate() {
            let met = met(block);
            for ((sum, &upper), &lower) in sums.iter_mut().zip(&levels.upper[axis]).zip(&levels.lower[axis]) {
                *sum = sum.wrapping_sub(contract::joined([upper, lower], met));
            }
        }
    }
}

/// Minus the potential energy of all pairs of `rows` × `columns` [energy quanta]; on the diagonal, of each pair once.
///
/// Each pair's energy is rounded to a quantum and added as an integer, so that neither tiles nor lanes nor threads matter.
#[inline(always)]
#[must_use]
pub fn binding_tile<const L: usize>(
    bodies: Bodies<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    energy_factor: f64,
    softening2: f64,
) -> i128 {
    match L {
        8 => binding_lanes::<16, { SIDE / 16 }>(bodies, rows, columns, energy_factor, softening2),
        4 => binding_lanes::<8, { SIDE / 8 }>(bodies, rows, columns, energy_factor, softening2),
        2 => binding_lanes::<4, { SIDE / 4 }>(bodies, rows, columns, energy_factor, softening2),
        _ => binding_lanes::<1, SIDE>(bodies, rows, columns, energy_factor, softening2),
    }
}

#[inline(always)]
fn binding_lanes<const L: usize, const C: usize>(
    bodies: Bodies<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    energy_factor: f64,
    softening2: f64,
) -> i128 {
    let triangle = rows == columns;
    let factor = contract::energy_factor_in_spans(energy_factor);
    let softening2 = contract::in_spans2(softening2);
    let mut total = 0;
    for first in columns.clone().step_by(SIDE) {
        let side = Side::<L, C>::of(bodies, first..columns.end.min(first + SIDE), 1.0, softening2);
        for i in rows.clone() {
            let mass = bodies.mass[i] as f32;
            let from = if triangle { (i + 1).saturating_sub(first) } else { 0 };
            // Padding has no energy, and need not stand where a position may be.
            if mass == 0.0 || from >= side.len * L {
                continue;
            }
            let at = bodies.position.map(|axis| contract::split(axis[i]));
            let mut sums = [Exact::default(); L];
            for (k, lanes) in side.lanes[..side.len].iter().enumerate().skip(from / L) {
                for l in 0..L {
                    let d = std::array::from_fn(|axis| {
                        (lanes.high[axis][l] - at[axis].0) + (lanes.low[axis][l] - at[axis].1)
                    });
                    // Neither itself, nor earlier ones on the diagonal.
                    let counts = k * L + l >= from;
                    let (d, other) = if counts { (d, lanes.mass[l]) } else { ([1.0; 3], 0.0) };
                    sums[l].add(f64::from(contract::binding(d, [mass, other], factor, softening2)));
                }
            }
            total += sums.into_iter().map(Exact::total).sum::<i128>();
        }
    }
    total
}
