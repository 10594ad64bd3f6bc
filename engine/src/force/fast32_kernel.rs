//! Pairs of blocks of [`super::fast32`] on lanes, in safe code.
//!
//! One call takes one block of rows against a range of blocks of columns, so that the sums of the rows stay on their lanes
//! while column blocks with the same step come and go: they are folded only when the step changes or 32 bits might run
//! over. Column blocks are taken in the order of their rules; integer sums do not care.

use std::ops::Range;

use super::{
    PairOverflow,
    fast32::{self as contract, KickFast, Rule, from_origin},
    fast32_blocks::{BLOCK, Blocks},
};
use crate::quanta::exp2;

/// Impulses that a 32-bit sum may take: their parts are at most 2²², so 2³⁰ in all.
const ADDS: usize = 256;

/// Sums and scratch of one thread.
#[derive(Clone, Debug, Default)]
pub struct Strip {
    /// Impulses on the block of rows [momentum quanta].
    pub on_rows: [Vec<i64>; 3],
    /// Impulses on the columns, from the first of the range of blocks on [momentum quanta].
    pub on_columns: [Vec<i64>; 3],
    order: Vec<(Rule, usize)>,
}

/// The impulses between block `row` of `rows` and the blocks `columns` of `sources`, into `strip`.
///
/// `mutual`: the rows are sources too, and the columns take the reaction; if the range begins with the block of rows itself, each
/// pair in it counts once, and all go to `on_rows`. Otherwise the rows are test particles. `L`: lanes of 64 bits.
///
/// # Errors
/// The pair whose impulse is out of range, as rows of the working set; the lowest, lower row first if mutual.
#[inline(always)]
pub fn strip<const L: usize>(
    rows: &Blocks,
    row: usize,
    sources: &Blocks,
    columns: Range<usize>,
    mutual: bool,
    kick: &KickFast,
    strip: &mut Strip,
) -> Result<(), PairOverflow> {
    match (L, mutual) {
        (8, true) => Pass { rows, row, sources, columns, kick }.run::<16, 2, 2, { BLOCK / 16 }, true>(strip),
        (8, false) => Pass { rows, row, sources, columns, kick }.run::<16, 2, 2, { BLOCK / 16 }, false>(strip),
        (4, true) => Pass { rows, row, sources, columns, kick }.run::<8, 2, 1, { BLOCK / 8 }, true>(strip),
        (4, false) => Pass { rows, row, sources, columns, kick }.run::<8, 2, 1, { BLOCK / 8 }, false>(strip),
        (2, true) => Pass { rows, row, sources, columns, kick }.run::<4, 4, 2, { BLOCK / 4 }, true>(strip),
        (2, false) => Pass { rows, row, sources, columns, kick }.run::<4, 4, 2, { BLOCK / 4 }, false>(strip),
        (_, true) => Pass { rows, row, sources, columns, kick }.run::<1, 1, 1, BLOCK, true>(strip),
        (_, false) => Pass { rows, row, sources, columns, kick }.run::<1, 1, 1, BLOCK, false>(strip),
    }
}

struct Pass<'a> {
    rows: &'a Blocks,
    row: usize,
    sources: &'a Blocks,
    columns: Range<usize>,
    kick: &'a KickFast,
}

/// `L` bodies as a kernel reads them: u of far pairs (`low` unused), or whole spans and what is left.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Lanes<const L: usize> {
    high: [[f32; L]; 3],
    low: [[f32; L]; 3],
    strength: [f32; L],
    softening2: [f32; L],
}

/// Bit patterns summed in 32 bits on `L` lanes: one level of far pairs, or two of near ones.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Levels<const L: usize>([[[u32; L]; 3]; 2]);

/// One block, `C` times `L` bodies.
struct Side<const L: usize, const C: usize> {
    lanes: [Lanes<L>; C],
    /// How many of them are in use.
    len: usize,
}

/// Sums of the rows on their lanes.
struct RowLanes<const L: usize> {
    levels: [Levels<L>; BLOCK],
    /// How often each lane was added to.
    adds: usize,
    near: bool,
    shift: u32,
}

impl Pass<'_> {
    #[inline(always)]
    fn run<const L: usize, const R: usize, const N: usize, const C: usize, const MUTUAL: bool>(
        &self,
        strip: &mut Strip,
    ) -> Result<(), PairOverflow> {
        strip.order.clear();
        strip.order.extend(self.columns.clone().map(|column| (self.rule(column), column)));
        strip.order.sort_unstable_by_key(|(rule, column)| (rule.near, rule.shift, *column));
        reset(&mut strip.on_rows, BLOCK);
        reset(&mut strip.on_columns, if MUTUAL { self.columns.len() * BLOCK } else { 0 });
        let mut lanes = RowLanes::<L> { levels: [Levels([[[0; L]; 3]; 2]); BLOCK], adds: 0, near: false, shift: 0 };
        let mut named: Option<PairOverflow> = None;
        let mut sides = Sides::<L, C>::of(self);
        for k in 0..strip.order.len() {
            let (rule, column) = strip.order[k];
            if (lanes.near, lanes.shift) != (rule.near, rule.shift) || lanes.adds + C > ADDS {
                lanes.fold(&mut strip.on_rows);
                (lanes.near, lanes.shift) = (rule.near, rule.shift);
            }
            let largest = match rule.near {
                true if rule.guarded => {
                    self.tile::<L, N, C, MUTUAL, true, true>(column, &rule, &mut sides, &mut lanes, strip)
                }
                true => self.tile::<L, N, C, MUTUAL, true, false>(column, &rule, &mut sides, &mut lanes, strip),
                false => self.tile::<L, R, C, MUTUAL, false, false>(column, &rule, &mut sides, &mut lanes, strip),
            };
            let safe = (exp2(self.kick.range_bits as i32 - 1) as f32).to_bits() << 1;
            if rule.guarded && largest >= safe {
                let order = |pair: &PairOverflow| (pair.row, pair.column);
                named = named.into_iter().chain(self.find_overflow(column, &rule, MUTUAL)).min_by_key(order);
            }
        }
        lanes.fold(&mut strip.on_rows);
        named.map_or(Ok(()), Err)
    }

    /// How this block of rows meets a block of columns.
    fn rule(&self, column: usize) -> Rule {
        Rule::of(&self.rows.bounds[self.row], &self.sources.bounds[column], self.kick)
    }

    /// All pairs of two blocks; an upper bound of |K| if guarded, as [`sweep`] keeps it.
    #[inline(always)]
    fn tile<
        const L: usize,
        const R: usize,
        const C: usize,
        const MUTUAL: bool,
        const NEAR: bool,
        const GUARDED: bool,
    >(
        &self,
        column: usize,
        rule: &Rule,
        sides: &mut Sides<L, C>,
        lanes: &mut RowLanes<L>,
        strip: &mut Strip,
    ) -> u32 {
        sides.columns.read::<NEAR>(self.sources, column, rule);
        if !NEAR {
            sides.far.measure(&sides.near, rule);
        }
        let (rows, columns) = (if NEAR { &sides.near } else { &sides.far }, &sides.columns);
        let mut levels = [Levels([[[0; L]; 3]; 2]); C];
        let levels = &mut levels[..columns.len];
        let mut largest = [0; L];
        let constants = [rule.upper(), rule.lower()];
        if MUTUAL && column == self.row {
            triangle::<L, R, C, NEAR, GUARDED>(rows, columns, constants, levels, lanes, &mut largest);
            subtract::<L, NEAR>(&mut strip.on_rows, 0, levels, rule.shift, |block| ((block + 1) * L) as u32);
        } else {
            let columns = &columns.lanes[..columns.len];
            for row in (0..rows.len * L).step_by(R) {
                let few = Row::<R>::of(rows, row, constants);
                let sums = &mut lanes.levels[row..row + R];
                sweep::<L, R, MUTUAL, NEAR, GUARDED>(&few, columns, levels, sums, &mut largest);
            }
            if MUTUAL {
                let at = (column - self.columns.start) * BLOCK;
                subtract::<L, NEAR>(&mut strip.on_columns, at, levels, rule.shift, |_| (rows.len * L) as u32);
            }
        }
        lanes.adds += columns.len;
        largest.into_iter().fold(0, u32::max)
    }

    /// Goes through two blocks again, pair by pair, to name the lowest that is out of range.
    #[cold]
    fn find_overflow(&self, column: usize, rule: &Rule, mutual: bool) -> Option<PairOverflow> {
        let mut found = Vec::new();
        for i in self.rows.block(self.row) {
            for j in self.sources.block(column) {
                if mutual && column == self.row && i == j {
                    continue;
                }
                let strengths = [self.rows.strength[i], self.sources.strength[j]];
                let (from, to) = (self.rows.position(i), self.sources.position(j));
                let k = contract::impulse(from, to, strengths, self.kick, rule);
                if k.into_iter().any(|k| contract::out_of_range(k, self.kick, rule)) {
                    let (row, column) = (self.rows.rows[i] as usize, self.sources.rows[j] as usize);
                    let swap = mutual && column < row;
                    found.push(if swap { [column, row] } else { [row, column] });
                }
            }
        }
        found.into_iter().min().map(|[row, column]| PairOverflow { row, column })
    }
}

/// The block of rows, for near and for far blocks of columns, and one of these.
struct Sides<const L: usize, const C: usize> {
    near: Side<L, C>,
    far: Side<L, C>,
    columns: Side<L, C>,
}

impl<const L: usize, const C: usize> Sides<L, C> {
    #[inline(always)]
    fn of(pass: &Pass<'_>) -> Self {
        let none = Lanes {
            high: [[0.0; L]; 3],
            low: [[0.0; L]; 3],
            strength: [0.0; L],
            softening2: [pass.kick.softening2; L],
        };
        let empty = || Side { lanes: [none; C], len: 0 };
        let mut sides = Self { near: empty(), far: empty(), columns: empty() };
        sides.near.read::<true>(pass.rows, pass.row, &pass.rule(pass.columns.start));
        sides.near.turn(pass.rows.block(pass.row).len(), pass.kick.sign);
        sides
    }
}

impl<const L: usize, const C: usize> Side<L, C> {
    /// Takes in one block of columns.
    #[inline(always)]
    fn read<const NEAR: bool>(&mut self, blocks: &Blocks, number: usize, rule: &Rule) {
        self.len = blocks.block(number).len().div_ceil(L);
        let here = number * BLOCK..(number + 1) * BLOCK;
        for axis in 0..3 {
            let (high, _) = blocks.high[axis][here.clone()].as_chunks::<L>();
            let (low, _) = blocks.low[axis][here.clone()].as_chunks::<L>();
            for ((lanes, high), low) in self.lanes.iter_mut().zip(high).zip(low) {
                if NEAR {
                    lanes.high[axis] = *high;
                    lanes.low[axis] = *low;
                } else {
                    lanes.high[axis] = measured(*high, *low, rule.origin[axis]);
                }
            }
        }
        for (lanes, strength) in self.lanes.iter_mut().zip(blocks.strength[here].as_chunks::<L>().0) {
            lanes.strength = *strength;
        }
    }

    /// Takes over a block with positions from the origin of a rule.
    #[inline(always)]
    fn measure(&mut self, near: &Self, rule: &Rule) {
        self.len = near.len;
        for (far, near) in self.lanes.iter_mut().zip(&near.lanes) {
            for axis in 0..3 {
                far.high[axis] = measured(near.high[axis], near.low[axis], rule.origin[axis]);
            }
            far.strength = near.strength;
        }
    }

    /// Makes rows of columns: strengths with the sign of the kick, and lanes that stand for no body on the other side of all
    /// bodies, because rows and columns may have them at one place.
    #[inline(always)]
    fn turn(&mut self, bodies: usize, sign: f32) {
        for (k, lanes) in self.lanes.iter_mut().enumerate() {
            lanes.strength.iter_mut().for_each(|strength| *strength *= sign);
            for axis in &mut lanes.high {
                axis.iter_mut().enumerate().for_each(|(l, u)| *u = if k * L + l < bodies { *u } else { -*u });
            }
        }
    }

    /// The same lanes with only those after one row: earlier ones have no strength and are not at distance 0, so that their
    /// impulse is exactly 0.
    #[inline(always)]
    fn later_than(&self, block: usize, lane: usize) -> Lanes<L> {
        let mut lanes = self.lanes[block];
        for l in 0..L {
            lanes.strength[l] = if l > lane { lanes.strength[l] } else { 0.0 };
            lanes.softening2[l] = if l > lane { lanes.softening2[l] } else { 1.0 };
        }
        lanes
    }
}

/// Every pair of one block once: the lanes in which a row itself stands with a mask, then all later ones.
#[inline(always)]
fn triangle<const L: usize, const R: usize, const C: usize, const NEAR: bool, const GUARDED: bool>(
    rows: &Side<L, C>,
    columns: &Side<L, C>,
    constants: [f32; 2],
    levels: &mut [Levels<L>],
    lanes: &mut RowLanes<L>,
    largest: &mut [u32; L],
) {
    for block in 0..levels.len() {
        let first = block * L;
        for lane in 0..L {
            let row = Row::<1>::of(rows, first + lane, constants);
            let own = [columns.later_than(block, lane)];
            let sums = &mut lanes.levels[first + lane..=first + lane];
            sweep::<L, 1, true, NEAR, GUARDED>(&row, &own, &mut levels[block..=block], sums, largest);
        }
        let later = block + 1..levels.len();
        for row in (first..first + L).step_by(R) {
            let few = Row::<R>::of(rows, row, constants);
            let (columns, levels) = (&columns.lanes[later.clone()], &mut levels[later.clone()]);
            sweep::<L, R, true, NEAR, GUARDED>(&few, columns, levels, &mut lanes.levels[row..row + R], largest);
        }
        // The lanes before their own, which these rows did not meet, count as so many impulses of 0.
        let nothing = if NEAR { constants } else { [constants[1], 0.0] };
        for row in &mut lanes.levels[first..first + L] {
            for (level, constant) in row.0.iter_mut().zip(nothing) {
                let add = constant.to_bits().wrapping_mul(block as u32);
                level.as_flattened_mut().iter_mut().for_each(|lane| *lane = lane.wrapping_add(add));
            }
        }
    }
}

impl<const L: usize> RowLanes<L> {
    /// Adds the sums of the rows to `on_rows` and starts again.
    #[inline(always)]
    fn fold(&mut self, on_rows: &mut [Vec<i64>; 3]) {
        match (self.adds, self.near) {
            (0, _) => {}
            (_, true) => self.fold_all::<true>(on_rows),
            (_, false) => self.fold_all::<false>(on_rows),
        }
        self.adds = 0;
    }

    #[inline(always)]
    fn fold_all<const NEAR: bool>(&mut self, on_rows: &mut [Vec<i64>; 3]) {
        let (count, shift) = (self.adds as u32, self.shift);
        for (row, levels) in self.levels.iter_mut().enumerate() {
            for axis in 0..3 {
                let [upper, lower] = levels.0.map(|level| level[axis]);
                let mut gained = [0_i64; L];
                for l in 0..L {
                    gained[l] = match NEAR {
                        true => contract::near_integer([upper[l], lower[l]], shift, count),
                        false => contract::far_integer(upper[l], shift, count),
                    };
                }
                let total: i64 = gained.into_iter().sum();
                on_rows[axis][row] = on_rows[axis][row].wrapping_add(total << shift);
            }
            *levels = Levels([[[0; L]; 3]; 2]);
        }
    }
}

/// Positions from the origin of a rule; arrays by value, because that is what becomes vector code.
#[inline(always)]
fn measured<const L: usize>(high: [f32; L], low: [f32; L], origin: f32) -> [f32; L] {
    let mut u = [0.0; L];
    for l in 0..L {
        u[l] = from_origin((high[l], low[l]), origin);
    }
    u
}

fn reset(sums: &mut [Vec<i64>; 3], len: usize) {
    for axis in sums {
        axis.clear();
        axis.resize(len, 0);
    }
}

/// Takes what the columns lost off their sums; those of lanes k met `met(k)` rows.
#[inline(always)]
fn subtract<const L: usize, const NEAR: bool>(
    sums: &mut [Vec<i64>; 3],
    first: usize,
    levels: &[Levels<L>],
    shift: u32,
    met: impl Fn(usize) -> u32,
) {
    for axis in 0..3 {
        let (sums, _) = sums[axis][first..].as_chunks_mut::<L>();
        for (k, (sums, levels)) in sums.iter_mut().zip(levels).enumerate() {
            let met = met(k);
            let [upper, lower] = levels.0.map(|level| level[axis]);
            let mut left = *sums;
            for l in 0..L {
                let lost = match NEAR {
                    true => contract::near_integer([upper[l], lower[l]], shift, met),
                    false => contract::far_integer(upper[l], shift, met),
                };
                left[l] = left[l].wrapping_sub(lost << shift);
            }
            *sums = left;
        }
    }
}

/// `R` rows as a sweep reads them, and the constants U·2^k and M·2^k.
struct Row<const R: usize> {
    high: [[f32; 3]; R],
    low: [[f32; 3]; R],
    strength: [f32; R],
    constants: [f32; 2],
}

impl<const R: usize> Row<R> {
    #[inline(always)]
    fn of<const L: usize, const C: usize>(side: &Side<L, C>, row: usize, constants: [f32; 2]) -> Self {
        let (lanes, lane) = (&side.lanes[row / L], row % L);
        Self {
            high: std::array::from_fn(|r| lanes.high.each_ref().map(|axis| axis[lane + r])),
            low: std::array::from_fn(|r| lanes.low.each_ref().map(|axis| axis[lane + r])),
            strength: std::array::from_fn(|r| lanes.strength[lane + r]),
            constants,
        }
    }
}

/// `R` rows against some columns, as bit patterns into `sums` of the rows and, with `MUTUAL`, as positive numbers into `levels` of the
/// columns.
///
/// With `GUARDED`, `largest` keeps an upper bound of all |K| as twice the bit pattern of |f|·r: the doubling drops the sign, and as
/// integers bit patterns order like the floats, with NaN (two bodies at one place) above everything.
#[inline(always)]
fn sweep<const L: usize, const R: usize, const MUTUAL: bool, const NEAR: bool, const GUARDED: bool>(
    row: &Row<R>,
    columns: &[Lanes<L>],
    levels: &mut [Levels<L>],
    sums: &mut [Levels<L>],
    largest: &mut [u32; L],
) {
    let [upper, lower] = row.constants;
    let both = upper + lower;
    let mut on_rows = [[[[0_u32; L]; 3]; 2]; R];
    for (column, lost) in columns.iter().zip(levels) {
        let mut on_columns = lost.0;
        for r in 0..R {
            for l in 0..L {
                let d: [f32; 3] = std::array::from_fn(|axis| {
                    let whole = column.high[axis][l] - row.high[r][axis];
                    if NEAR { whole + (column.low[axis][l] - row.low[r][axis]) } else { whole }
                });
                let r2 = d[0].mul_add(d[0], d[1].mul_add(d[1], d[2].mul_add(d[2], column.softening2[l])));
                let s = r2.sqrt();
                let f = (row.strength[r] * column.strength[l]) / (r2 * s);
                for axis in 0..3 {
                    let bits = if NEAR {
                        let shifted = f.mul_add(d[axis], upper);
                        let bits = f.mul_add(d[axis], both - shifted).to_bits();
                        on_rows[r][1][axis][l] = on_rows[r][1][axis][l].wrapping_add(bits);
                        if MUTUAL {
                            on_columns[1][axis][l] = on_columns[1][axis][l].wrapping_add(bits);
                        }
                        shifted.to_bits()
                    } else {
                        f.mul_add(d[axis], lower).to_bits()
                    };
                    on_rows[r][0][axis][l] = on_rows[r][0][axis][l].wrapping_add(bits);
                    if MUTUAL {
                        on_columns[0][axis][l] = on_columns[0][axis][l].wrapping_add(bits);
                    }
                }
                if GUARDED {
                    largest[l] = largest[l].max((f * s).to_bits() << 1);
                }
            }
        }
        if MUTUAL {
            lost.0[0] = on_columns[0];
            if NEAR {
                lost.0[1] = on_columns[1];
            }
        }
    }
    for (sums, gained) in sums.iter_mut().zip(&on_rows) {
        for level in 0..if NEAR { 2 } else { 1 } {
            for axis in 0..3 {
                for l in 0..L {
                    sums.0[level][axis][l] = sums.0[level][axis][l].wrapping_add(gained[level][axis][l]);
                }
            }
        }
    }
}
