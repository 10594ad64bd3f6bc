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

/// Impulses of all pairs, or of one part of so many, added to `impulse`. `rows` are those of sources and of test particles.
pub(super) fn impulses(
    cpu: &Cpu,
    field: &Field<'_>,
    rows: [Vec<Range<usize>>; 2],
    (part, parts): (usize, usize),
    kick: Kick,
    impulse: &mut [Vec<i64>; 3],
) -> Result<(), PairOverflow> {
    let kick = KickFast::of(kick, Contract::Fast32.impulse_bits(field.sources));
    let [sources, tests] = rows.map(|rows| {
        let mut blocks = Blocks::default();
        blocks.arrange(field.bodies, field.id, rows.into_iter().flatten(), &kick);
        blocks
    });
    let mut on_sources = zeros(sources.count());
    let mut on_tests = zeros(tests.count());
    let overflow = {
        let sums = [SharedSums::new(&mut on_sources, LOCKED_ROWS), SharedSums::new(&mut on_tests, LOCKED_ROWS)];
        let tasks = Tasks { sources: sources.count(), tests: tests.count() };
        let work = |strip: &mut Strip, number: usize| {
            let mine = |task: &Task| task.row % parts == part;
            let Some(Task { row, columns, mutual }) = tasks.task(number).filter(mine) else { return Ok(()) };
            let rows = if mutual { &sources } else { &tests };
            let at = columns.start * BLOCK;
            let met = cpu.isa().run(StripKernel { rows, row, sources: &sources, columns, mutual, kick: &kick, strip });
            let on_rows = &sums[usize::from(!mutual)];
            on_rows.add(&(row * BLOCK..(row + 1) * BLOCK), &strip.on_rows);
            if mutual {
                sums[0].add(&(at..at + strip.on_columns[0].len()), &strip.on_columns);
            }
            met
        };
        // The pair that is named must not depend on who was first: all are looked at, the lowest counts.
        let order = |pair: &PairOverflow| (field.id[pair.row], field.id[pair.column]);
        match cpu.pool_for(tasks.pairs()) {
            Some(pool) => pool.install(|| {
                let all = (0..tasks.count()).into_par_iter();
                all.map_init(Strip::default, |strip, k| work(strip, k).err()).flatten().min_by_key(order)
            }),
            None => {
                let mut strip = Strip::default();
                (0..tasks.count()).filter_map(|k| work(&mut strip, k).err()).min_by_key(order)
            }
        }
    };
    sources.scatter(&on_sources, impulse);
    tests.scatter(&on_tests, impulse);
    overflow.map_or(Ok(()), Err)
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

/// The tasks of one evaluation, numbered so that the task of a number can be made without a list: one for a million bodies would be
/// larger than the bodies.
struct Tasks {
    /// Blocks of sources, and of test particles.
    sources: usize,
    tests: usize,
}

impl Tasks {
    /// Strips of all sources.
    fn strips(&self) -> usize {
        self.sources.div_ceil(STRIP)
    }

    fn count(&self) -> usize {
        (self.sources + self.tests) * self.strips()
    }

    /// About so many pairs.
    fn pairs(&self) -> u64 {
        ((self.sources / 2 + self.tests) * self.sources * BLOCK * BLOCK) as u64
    }

    /// Each pair of blocks of sources once, each block of test particles with each block of sources. Among sources a row leaves
    /// out the strips before its own: their numbers stand for nothing.
    fn task(&self, number: usize) -> Option<Task> {
        let (row, first) = (number / self.strips(), number % self.strips() * STRIP);
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
