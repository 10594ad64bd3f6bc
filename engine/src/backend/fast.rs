//! The contract `fast32` on threads: strips of blocks in any order, added into shared integer sums.
//!
//! Blocks are made anew for every evaluation, because they are a function of the positions; a step back then meets the blocks of
//! the step there. That costs one or two per cent.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    cpu::{Cpu, SharedSums},
    isa::Kernel,
};
use crate::{
    contract::Contract,
    force::{
        Kick, PairOverflow,
        fast32::KickFast,
        fast32_blocks::{BLOCK, Blocks},
        fast32_kernel::{self, Strip},
        kernel::Bodies,
    },
    particle::WorkingSet,
};

/// Blocks of columns in one strip: their sums, 48 KiB, stay near.
const STRIP: usize = 32;
/// Rows under one lock of the shared sums.
const LOCKED_ROWS: usize = 8 * BLOCK;

/// Impulses of all pairs, added to `impulse`.
pub(super) fn impulses(
    cpu: &Cpu,
    set: &WorkingSet,
    kick: Kick,
    impulse: &mut [Vec<i64>; 3],
) -> Result<(), PairOverflow> {
    let kick = KickFast::of(kick, Contract::Fast32.impulse_bits(set.sources));
    let bodies = Bodies { position: set.position.each_ref().map(Vec::as_slice), mass: &set.mass };
    let [mut sources, mut tests] = <[Blocks; 2]>::default();
    let first_test = set.test_rows().start;
    sources.arrange(bodies, &set.id, 0..set.sources, &kick);
    tests.arrange(bodies, &set.id, first_test..first_test + set.tests, &kick);
    let mut on_sources = zeros(sources.count());
    let mut on_tests = zeros(tests.count());
    let overflow = {
        let sums = [SharedSums::new(&mut on_sources, LOCKED_ROWS), SharedSums::new(&mut on_tests, LOCKED_ROWS)];
        let tasks: Vec<Task> = Task::all(&sources, true).chain(Task::all_of_tests(&tests, &sources)).collect();
        let work = |strip: &mut Strip, task: &Task| {
            let rows = if task.mutual { &sources } else { &tests };
            let Task { row, columns, mutual } = task.clone();
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
        let order = |pair: &PairOverflow| (pair.row, pair.column);
        match cpu.pool_for(set) {
            Some(pool) => pool.install(|| {
                let all = tasks.par_iter().map_init(Strip::default, |strip, task| work(strip, task).err());
                all.flatten().min_by_key(order)
            }),
            None => {
                let mut strip = Strip::default();
                tasks.iter().filter_map(|task| work(&mut strip, task).err()).min_by_key(order)
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
#[derive(Clone, Debug)]
struct Task {
    row: usize,
    columns: Range<usize>,
    mutual: bool,
}

impl Task {
    /// Each pair of blocks of sources once.
    fn all(sources: &Blocks, mutual: bool) -> impl Iterator<Item = Self> + use<> {
        let count = sources.count();
        (0..count).flat_map(move |row| strips(row..count).map(move |columns| Self { row, columns, mutual }))
    }

    /// Each block of test particles with each block of sources.
    fn all_of_tests(tests: &Blocks, sources: &Blocks) -> impl Iterator<Item = Self> + use<> {
        let (rows, count) = (tests.count(), sources.count());
        (0..rows).flat_map(move |row| strips(0..count).map(move |columns| Self { row, columns, mutual: false }))
    }
}

fn strips(columns: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    columns.clone().step_by(STRIP).map(move |first| first..columns.end.min(first + STRIP))
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
