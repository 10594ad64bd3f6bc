//! The contract `fast32` on threads: strips of blocks in any order, added into shared integer sums.
//!
//! Blocks are made anew for every evaluation, because they are a function of the positions; a step back then meets the blocks of
//! the step there. That costs one or two per cent.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    cpu::{Cpu, Field, SharedSums},
    isa::Kernel,
};
use crate::{
    contract::Contract,
    force::{
        Kick, PairOverflow,
        fast32::KickFast,
        fast32_blocks::{BLOCK, Blocks},
        fast32_kernel::{self, Strip},
    },
};

/// Blocks of columns in one strip: their sums, 48 KiB, stay near.
const STRIP: usize = 32;
/// Rows under one lock of the shared sums.
const LOCKED_ROWS: usize = 8 * BLOCK;

/// Impulses of all pairs, or of one part of them, that may be evaluated a bit at a time: the blocks as they were at the start, and
/// the sums so far.
#[derive(Clone, Debug)]
pub struct FastWork {
    kick: KickFast,
    tasks: Tasks,
    sources: Blocks,
    tests: Blocks,
    on_sources: [Vec<i64>; 3],
    on_tests: [Vec<i64>; 3],
    done: usize,
    overflow: Option<PairOverflow>,
}

impl FastWork {
    /// Part k of n of all pairs, as `part` says, because blocks are a function of all bodies. `rows` are those of sources and of test
    /// particles. Nothing if there is nothing to do.
    pub fn begin(
        field: &Field<'_>,
        rows: [Vec<Range<usize>>; 2],
        (part, parts): (usize, usize),
        kick: Kick,
    ) -> Option<Self> {
        if kick.factor == 0.0 {
            return None;
        }
        let kick = KickFast::of(kick, Contract::Fast32.impulse_bits(field.sources));
        let [sources, tests] = rows.map(|rows| {
            let mut blocks = Blocks::default();
            blocks.arrange(field.bodies, field.id, rows.into_iter().flatten(), &kick);
            blocks
        });
        let tasks = Tasks { sources: sources.count(), tests: tests.count(), part, parts };
        let (on_sources, on_tests) = (zeros(sources.count()), zeros(tests.count()));
        Some(Self { kick, tasks, sources, tests, on_sources, on_tests, done: 0, overflow: None })
    }

    /// Evaluates about so many pairs more at the same positions, and says whether there are any left.
    pub fn advance(&mut self, cpu: &Cpu, field: &Field<'_>, pairs: usize) -> bool {
        let turn = (pairs / (BLOCK * BLOCK * STRIP)).max(1);
        let all = self.tasks.count();
        let some = self.done..all.min(self.done.saturating_add(turn));
        self.done = some.end;
        let Self { kick, tasks, sources, tests, on_sources, on_tests, .. } = self;
        let (kick, tasks, sources, tests) = (&*kick, &*tasks, &*sources, &*tests);
        let sums = [SharedSums::new(on_sources, LOCKED_ROWS), SharedSums::new(on_tests, LOCKED_ROWS)];
        let work = |strip: &mut Strip, number: usize| {
            let Some(Task { row, columns, mutual }) = tasks.task(number) else { return Ok(()) };
            let rows = if mutual { sources } else { tests };
            let at = columns.start * BLOCK;
            let met = cpu.isa().run(StripKernel { rows, row, sources, columns, mutual, kick, strip });
            let on_rows = &sums[usize::from(!mutual)];
            on_rows.add(&(row * BLOCK..(row + 1) * BLOCK), &strip.on_rows);
            if mutual {
                sums[0].add(&(at..at + strip.on_columns[0].len()), &strip.on_columns);
            }
            met
        };
        // The pair that is named must not depend on who was first: all are looked at, the lowest counts.
        let order = |pair: &PairOverflow| (field.id[pair.row], field.id[pair.column]);
        let met = match cpu.pool_for(tasks.pairs_of(some.len())) {
            Some(pool) => pool.install(|| {
                let all = some.into_par_iter();
                all.map_init(Strip::default, |strip, k| work(strip, k).err()).flatten().min_by_key(order)
            }),
            None => {
                let mut strip = Strip::default();
                some.filter_map(|k| work(&mut strip, k).err()).min_by_key(order)
            }
        };
        self.overflow = self.overflow.take().into_iter().chain(met).min_by_key(order);
        self.done < all
    }

    /// Adds what was evaluated to `impulse`, row by row of the field.
    ///
    /// # Errors
    /// The lowest pair whose impulse is out of range.
    ///
    /// # Panics
    /// If there is something left to evaluate.
    pub fn end(self, impulse: &mut [Vec<i64>; 3]) -> Result<(), PairOverflow> {
        assert_eq!(self.done, self.tasks.count(), "it ends when all is done");
        self.sources.scatter(&self.on_sources, impulse);
        self.tests.scatter(&self.on_tests, impulse);
        self.overflow.map_or(Ok(()), Err)
    }
}

fn zeros(blocks: usize) -> [Vec<i64>; 3] {
    std::array::from_fn(|_| vec![0; blocks * BLOCK])
}

/// A block of rows against a strip of blocks of sources.
struct Task {
    row: usize,
    columns: Range<usize>,
    /// Whether the columns take the reaction.
    mutual: bool,
}

/// The tasks of one part of an evaluation, numbered so that the task of a number can be made without a list: one for a million bodies
/// would be larger than the bodies.
#[derive(Clone, Debug)]
struct Tasks {
    /// Blocks of sources, and of test particles.
    sources: usize,
    tests: usize,
    /// Of the rows of blocks, this part has every `parts`th.
    part: usize,
    parts: usize,
}

impl Tasks {
    /// Strips of all sources.
    fn strips(&self) -> usize {
        self.sources.div_ceil(STRIP)
    }

    fn count(&self) -> usize {
        (self.sources + self.tests).saturating_sub(self.part).div_ceil(self.parts) * self.strips()
    }

    /// About so many pairs have so many tasks.
    fn pairs_of(&self, tasks: usize) -> u64 {
        let all = (self.sources / 2 + self.tests) * self.sources / self.parts;
        (all * tasks / self.count().max(1) * BLOCK * BLOCK) as u64
    }

    /// Each pair of blocks of sources once, each block of test particles with each block of sources. Among sources a row leaves
    /// out the strips before its own: their numbers stand for nothing.
    fn task(&self, number: usize) -> Option<Task> {
        let (row, first) = (self.part + number / self.strips() * self.parts, number % self.strips() * STRIP);
        let last = self.sources.min(first + STRIP);
        match row.checked_sub(self.sources) {
            None => (last > row).then(|| Task { row, columns: row.max(first)..last, mutual: true }),
            Some(row) => Some(Task { row, columns: first..last, mutual: false }),
        }
    }
}

struct StripKernel<'a> {
    rows: &'a Blocks,
    row: usize,
    sources: &'a Blocks,
    columns: Range<usize>,
    mutual: bool,
    kick: &'a KickFast,
    strip: &'a mut Strip,
}

impl Kernel for StripKernel<'_> {
    type Output = Result<(), PairOverflow>;

    #[inline(always)]
    fn run<const L: usize, const ADDS: bool>(self) -> Self::Output {
        let Self { rows, row, sources, columns, mutual, kick, strip } = self;
        fast32_kernel::strip::<L>(rows, row, sources, columns, mutual, kick, strip)
    }
}
