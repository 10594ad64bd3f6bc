//! The CPU backend: kernels over tiles and blocks, on a number of threads that no bit depends on.
//!
//! Work is cut by the data alone. Threads take tiles in any order and add integers into shared sums; integer addition does not
//! care. A force evaluation needs 24 bytes a particle and a small scratch per thread, however many threads there are.

use std::{ops::Range, sync::Mutex};

use bevy_ecs::prelude::*;
use rayon::prelude::*;

use super::{
    fast,
    isa::{Isa, Kernel},
};
use crate::{
    contract::Contract,
    force::{
        Kick, Law, PairOverflow,
        kernel::{self as pairs, Bodies, Mode, Sums},
        native64::Native64,
        portable32::Kick32,
        portable32_kernel,
        portable64::Portable64,
    },
    integrator::{
        kernel::{self as motion, BLOCK_ROWS, Block, Booking, Stride, Totals},
        portable,
    },
    math::Exact,
    particle::{LANES, WorkingSet},
    quanta::{Quanta, exp2},
};

/// Fewer rows than this are not worth waking another thread for.
const PARALLEL_ROWS: usize = 4 * BLOCK_ROWS;
/// Fewer pairs than this are not worth waking another thread for: about 50 µs of work.
const PARALLEL_PAIRS: u64 = 30_000;

/// A number of threads and an instruction set.
#[derive(Resource, Debug)]
pub struct Cpu {
    isa: Isa,
    threads: usize,
    /// Missing when one thread is enough.
    pool: Option<rayon::ThreadPool>,
}

/// What sources and test particles gained in one motion, apart: the latter from the account of reactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bookings {
    /// What the sources gained.
    pub sources: Booking,
    /// What the test particles gained.
    pub tests: Booking,
}

impl Bookings {
    /// Whether something left its range.
    #[inline(always)]
    #[must_use]
    pub fn outside(&self) -> bool {
        self.sources.outside | self.tests.outside != 0
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { sources: self.sources.plus(other.sources), tests: self.tests.plus(other.tests) }
    }
}

impl Cpu {
    /// A backend with this many threads.
    ///
    /// # Errors
    /// If the operating system refuses to start them.
    ///
    /// # Panics
    /// If `threads` is 0.
    pub fn new(isa: Isa, threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        assert!(threads > 0, "a backend has at least one thread");
        let pool = match threads {
            1 => None,
            _ => Some(
                rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|k| format!("pairs {k}")).build()?,
            ),
        };
        Ok(Self { isa, threads, pool })
    }

    /// The instruction set.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The threads, if the pairs of a set are worth waking them.
    pub(super) fn pool_for(&self, set: &WorkingSet) -> Option<&rayon::ThreadPool> {
        self.pool.as_ref().filter(|_| set.pairs() >= PARALLEL_PAIRS)
    }

    /// The impulses of all pairs in one kick, into `impulse` (one `Vec` per axis, as long as the set).
    ///
    /// # Errors
    /// A pair whose impulse is out of range; `impulse` is then of no use.
    pub fn impulses(
        &self,
        set: &WorkingSet,
        contract: Contract,
        kick: Kick,
        guarded: bool,
        impulse: &mut [Vec<i64>; 3],
    ) -> Result<(), PairOverflow> {
        for axis in impulse.iter_mut() {
            axis.clear();
            axis.resize(set.rows(), 0);
        }
        // No gravity: 0/0 would be no number where two particles meet.
        if kick.factor == 0.0 {
            return Ok(());
        }
        if contract == Contract::Fast32 {
            return fast::impulses(self, set, kick, impulse);
        }
        let tiles = Tiles::of(set);
        let sums = SharedSums::new(impulse, tiles.size);
        let order = |pair: &PairOverflow| (pair.row, pair.column);
        let work = |scratch: &mut [Sums; 2], tile: Tile| {
            let [rows, columns] = scratch;
            rows.reset(tile.rows.len());
            columns.reset(if tile.is_diagonal() { 0 } else { tile.columns.len() });
            self.isa.run(TileKernel { set, tile: &tile, contract, kick, guarded, rows, columns })?;
            sums.add(&tile.rows, &rows.0);
            if tile.mutual && !tile.is_diagonal() {
                sums.add(&tile.columns, &columns.0);
            }
            Ok(())
        };
        // The pair that is named must not depend on who was first: all tiles are looked at, the lowest counts.
        let overflow = match self.pool_for(set) {
            Some(pool) => pool.install(|| {
                let all = (0..tiles.count()).into_par_iter();
                all.map_init(Default::default, |scratch, k| work(scratch, tiles.tile(k)).err())
                    .flatten()
                    .min_by_key(order)
            }),
            _ => {
                let mut scratch = Default::default();
                (0..tiles.count()).filter_map(|k| work(&mut scratch, tiles.tile(k)).err()).min_by_key(order)
            }
        };
        overflow.map_or(Ok(()), Err)
    }

    /// Potential energy of the sources [energy quanta].
    #[must_use]
    pub fn potential_energy(&self, set: &WorkingSet, law: &Law) -> i128 {
        let tiles = Tiles::of(set);
        let binding = |k: usize| self.isa.run(BindingKernel { set, tile: &tiles.tile(k), law });
        let sum = match self.pool_for(set) {
            Some(pool) => pool.install(|| (0..tiles.mutual_count()).into_par_iter().map(binding).sum::<i128>()),
            _ => (0..tiles.mutual_count()).map(binding).sum::<i128>(),
        };
        -Exact::sum_of_parts(sum)
    }

    /// Kinetic energy of the sources [energy quanta]: p²/2m, each particle's rounded to a quantum.
    #[must_use]
    pub fn kinetic_energy(&self, set: &WorkingSet, contract: Contract, quanta: &Quanta) -> i128 {
        if contract.is_portable() {
            let scale = portable::kinetic_scale(quanta);
            let one = |row: usize| portable::kinetic(set.momentum_at(row), set.inverse_mass[row], scale);
            return Exact::sum_of_parts((0..set.sources).map(one).sum());
        }
        let scale = 0.5 * exp2(2 * quanta.momentum.0 - quanta.mass.0 - quanta.energy.0);
        let mut total = 0;
        for first in (0..set.sources).step_by(BLOCK_ROWS) {
            let mut sum = Exact::default();
            for row in first..set.sources.min(first + BLOCK_ROWS) {
                let p = set.momentum_at(row).map(|p| p as f64);
                let p2 = p[0] * p[0] + (p[1] * p[1] + p[2] * p[2]);
                sum.add(p2 * (scale * set.inverse_mass[row]));
            }
            total += sum.total();
        }
        Exact::sum_of_parts(total)
    }

    /// p ← p + J, then x ← x + Δt·p/m.
    pub fn kick_and_drift(
        &self,
        set: &mut WorkingSet,
        impulse: &[Vec<i64>; 3],
        contract: Contract,
        stride: Stride,
        book_angular: bool,
    ) -> Bookings {
        let motion =
            |mut block: Block<'_>| self.isa.run(KickDrift { block: &mut block, contract, stride, book_angular });
        let [sources, tests] = self.over_blocks(set, impulse, motion, Booking::plus);
        Bookings { sources, tests }
    }

    /// p ← p + J, then recounts what the particles hold.
    pub fn kick_and_count(&self, set: &mut WorkingSet, impulse: &[Vec<i64>; 3], angular: bool) -> (Bookings, Totals) {
        let both = |a: (Booking, Totals), b: (Booking, Totals)| (a.0.plus(b.0), a.1.plus(b.1));
        let motion = |mut block: Block<'_>| self.isa.run(KickCount { block: &mut block, angular });
        let [sources, tests] = self.over_blocks(set, impulse, motion, both);
        (Bookings { sources: sources.0, tests: tests.0 }, sources.1.plus(tests.1))
    }

    /// Recounts what the particles hold.
    #[must_use]
    pub fn count(&self, set: &WorkingSet, angular: bool) -> Totals {
        let one = |first: usize| {
            let rows = first..set.rows().min(first + BLOCK_ROWS);
            let position = set.position.each_ref().map(|axis| &axis[rows.clone()]);
            let momentum = set.momentum.each_ref().map(|axis| &axis[rows.clone()]);
            self.isa.run(Count { position, momentum, angular })
        };
        let blocks = 0..set.rows().div_ceil(BLOCK_ROWS);
        match &self.pool {
            Some(pool) if set.rows() >= PARALLEL_ROWS => {
                let all = || blocks.into_par_iter().map(|k| one(k * BLOCK_ROWS)).reduce(Totals::default, Totals::plus);
                pool.install(all)
            }
            _ => blocks.map(|k| one(k * BLOCK_ROWS)).fold(Totals::default(), Totals::plus),
        }
    }

    /// Runs `work` over all blocks of rows and adds up what comes out: of the sources, and of the test particles.
    fn over_blocks<T: Default + Copy + Send>(
        &self,
        set: &mut WorkingSet,
        impulse: &[Vec<i64>; 3],
        work: impl Fn(Block<'_>) -> T + Sync,
        plus: impl Fn(T, T) -> T + Sync + Send,
    ) -> [T; 2] {
        let sources = set.source_rows().end;
        let parallel = self.pool.as_ref().filter(|_| set.rows() >= PARALLEL_ROWS);
        let [mut x0, mut x1, mut x2] = set.position.each_mut().map(|axis| axis.split_at_mut(sources));
        let [mut p0, mut p1, mut p2] = set.momentum.each_mut().map(|axis| axis.split_at_mut(sources));
        let j = impulse.each_ref().map(|axis| axis.split_at(sources));
        let w = set.inverse_mass.split_at(sources);
        let sum_up =
            |position: [&mut [i64]; 3], momentum: [&mut [i64]; 3], impulse: [&[i64]; 3], inverse_mass: &[f64]| {
                let blocks = blocks(position, momentum, inverse_mass, impulse);
                match parallel {
                    None => blocks.map(&work).fold(T::default(), &plus),
                    Some(pool) => {
                        let blocks: Vec<Block<'_>> = blocks.collect();
                        pool.install(|| blocks.into_par_iter().map(&work).reduce(T::default, &plus))
                    }
                }
            };
        let of_sources =
            sum_up([&mut x0.0, &mut x1.0, &mut x2.0], [&mut p0.0, &mut p1.0, &mut p2.0], j.map(|j| j.0), w.0);
        let of_tests =
            sum_up([&mut x0.1, &mut x1.1, &mut x2.1], [&mut p0.1, &mut p1.1, &mut p2.1], j.map(|j| j.1), w.1);
        [of_sources, of_tests]
    }
}

/// A block of rows against a block of columns.
#[derive(Clone, Debug)]
struct Tile {
    rows: Range<usize>,
    columns: Range<usize>,
    /// Whether the columns take the reaction.
    mutual: bool,
}

impl Tile {
    fn is_diagonal(&self) -> bool {
        self.rows == self.columns
    }
}

/// The tiles of one evaluation, numbered so that the tile of a number can be made without a list: a list for a million bodies
/// would be larger than the bodies.
struct Tiles {
    /// Rows of a block.
    size: usize,
    sources: Range<usize>,
    tests: Range<usize>,
}

impl Tiles {
    fn of(set: &WorkingSet) -> Self {
        Self { size: tile_rows(set.rows()), sources: set.source_rows(), tests: set.test_rows() }
    }

    fn source_blocks(&self) -> usize {
        self.sources.len().div_ceil(self.size)
    }

    /// Tiles of sources with sources: they come first.
    fn mutual_count(&self) -> usize {
        self.source_blocks() * (self.source_blocks() + 1) / 2
    }

    fn count(&self) -> usize {
        self.mutual_count() + self.source_blocks() * self.tests.len().div_ceil(self.size)
    }

    /// The tile of a number. As in a tournament, in round c block i meets block i + c, counted in a circle: every two blocks meet
    /// once within half a circle. Round 0, the diagonal with half the work, comes last, so that threads end together.
    fn tile(&self, number: usize) -> Tile {
        let blocks = self.source_blocks();
        match number.checked_sub(self.mutual_count()) {
            None => {
                let game = self.mutual_count() - 1 - number;
                let (round, i) = (game / blocks, game % blocks);
                let [rows, columns] = [i, (i + round) % blocks].map(|k| block(&self.sources, k, self.size));
                Tile { rows, columns, mutual: true }
            }
            Some(number) => Tile {
                rows: block(&self.tests, number / blocks, self.size),
                columns: block(&self.sources, number % blocks, self.size),
                mutual: false,
            },
        }
    }
}

/// The k-th block of a range.
fn block(range: &Range<usize>, k: usize, size: usize) -> Range<usize> {
    let first = range.start + k * size;
    first..range.end.min(first + size)
}

/// Rows of a tile: small enough that a few threads can share the work, large enough to sweep, and small enough that positions,
/// masses and sums of a tile's columns stay in the first-level cache (56 bytes a column).
fn tile_rows(rows: usize) -> usize {
    (rows / 8).next_multiple_of(64).clamp(64, 512)
}

/// Sums of impulses into which several threads add, one lock per block of rows.
pub(super) struct SharedSums<'a> {
    size: usize,
    blocks: Vec<Mutex<[&'a mut [i64]; 3]>>,
}

impl<'a> SharedSums<'a> {
    pub(super) fn new(impulse: &'a mut [Vec<i64>; 3], size: usize) -> Self {
        let [x, y, z] = impulse.each_mut().map(|axis| axis.chunks_mut(size));
        let blocks = x.zip(y).zip(z).map(|((x, y), z)| Mutex::new([x, y, z]));
        Self { size, blocks: blocks.collect() }
    }

    /// Adds the sums of a block of rows; the block may straddle two locks where test particles begin.
    pub(super) fn add(&self, rows: &Range<usize>, sums: &[Vec<i64>; 3]) {
        let mut row = rows.start;
        while row < rows.end {
            let (block, within) = (row / self.size, row % self.size);
            let mut shared = self.blocks[block].lock().expect("a thread that held this lock panicked");
            let len = (rows.end - row).min(self.size - within);
            for (shared, sums) in shared.iter_mut().zip(sums) {
                let sums = &sums[row - rows.start..][..len];
                shared[within..within + len]
                    .iter_mut()
                    .zip(sums)
                    .for_each(|(total, sum)| *total = total.wrapping_add(*sum));
            }
            row += len;
        }
    }
}

/// Cuts columns into blocks.
fn blocks<'a>(
    position: [&'a mut [i64]; 3],
    momentum: [&'a mut [i64]; 3],
    inverse_mass: &'a [f64],
    impulse: [&'a [i64]; 3],
) -> impl Iterator<Item = Block<'a>> {
    let [x0, x1, x2] = position.map(|axis| axis.chunks_mut(BLOCK_ROWS));
    let [p0, p1, p2] = momentum.map(|axis| axis.chunks_mut(BLOCK_ROWS));
    let [j0, j1, j2] = impulse.map(|axis| axis.chunks(BLOCK_ROWS));
    let moving = x0.zip(x1).zip(x2).zip(p0).zip(p1).zip(p2);
    moving.zip(j0).zip(j1).zip(j2).zip(inverse_mass.chunks(BLOCK_ROWS)).map(
        |(((((((((x0, x1), x2), p0), p1), p2), j0), j1), j2), inverse_mass)| Block {
            position: [x0, x1, x2],
            momentum: [p0, p1, p2],
            inverse_mass,
            impulse: [j0, j1, j2],
        },
    )
}

fn bodies(set: &WorkingSet) -> Bodies<'_> {
    Bodies { position: set.position.each_ref().map(Vec::as_slice), mass: &set.mass }
}

struct TileKernel<'a> {
    set: &'a WorkingSet,
    tile: &'a Tile,
    contract: Contract,
    kick: Kick,
    guarded: bool,
    rows: &'a mut Sums,
    columns: &'a mut Sums,
}

impl Kernel for TileKernel<'_> {
    type Output = Result<(), PairOverflow>;

    #[inline(always)]
    fn run<const L: usize, const ADDS: bool>(self) -> Self::Output {
        let Tile { rows, columns, mutual } = self.tile.clone();
        let range_bits = self.contract.impulse_bits(self.set.sources);
        let mode = Mode { mutual, guarded: self.guarded, range_bits };
        let (set, kick, sums) = (bodies(self.set), self.kick, (self.rows, self.columns));
        match self.contract {
            Contract::Portable64 => pairs::tile::<Portable64, L, ADDS>(set, rows, columns, kick, mode, sums.0, sums.1),
            Contract::Portable32 => {
                portable32_kernel::tile::<L>(set, rows, columns, Kick32::of(kick), mode, sums.0, sums.1)
            }
            _ => pairs::tile::<Native64, L, ADDS>(set, rows, columns, kick, mode, sums.0, sums.1),
        }
    }
}

struct BindingKernel<'a> {
    set: &'a WorkingSet,
    tile: &'a Tile,
    law: &'a Law,
}

impl Kernel for BindingKernel<'_> {
    type Output = i128;

    #[inline(always)]
    fn run<const L: usize, const ADDS: bool>(self) -> i128 {
        let Tile { rows, columns, .. } = self.tile.clone();
        let Law { energy_factor, softening2, .. } = *self.law;
        match self.law.contract {
            Contract::Portable64 => {
                pairs::binding_tile::<Portable64, L, ADDS>(bodies(self.set), rows, columns, energy_factor, softening2)
            }
            Contract::Portable32 => {
                portable32_kernel::binding_tile::<L>(bodies(self.set), rows, columns, energy_factor, softening2)
            }
            _ => pairs::binding_tile::<Native64, L, ADDS>(bodies(self.set), rows, columns, energy_factor, softening2),
        }
    }
}

struct KickDrift<'a, 'b> {
    block: &'a mut Block<'b>,
    contract: Contract,
    stride: Stride,
    book_angular: bool,
}

impl Kernel for KickDrift<'_, '_> {
    type Output = Booking;

    #[inline(always)]
    fn run<const L: usize, const ADDS: bool>(self) -> Booking {
        let kicked = motion::kick(self.block, self.book_angular);
        kicked.plus(motion::drift::<ADDS>(self.block, self.contract, self.stride, self.book_angular))
    }
}

struct Count<'a> {
    position: [&'a [i64]; 3],
    momentum: [&'a [i64]; 3],
    angular: bool,
}

impl Kernel for Count<'_> {
    type Output = Totals;

    #[inline(always)]
    fn run<const L: usize, const ADDS: bool>(self) -> Totals {
        motion::totals(self.position, self.momentum, self.angular)
    }
}

struct KickCount<'a, 'b> {
    block: &'a mut Block<'b>,
    angular: bool,
}

impl Kernel for KickCount<'_, '_> {
    type Output = (Booking, Totals);

    #[inline(always)]
    fn run<const L: usize, const ADDS: bool>(self) -> Self::Output {
        let booking = motion::kick(self.block, self.angular);
        let position = self.block.position.each_ref().map(|x| &**x);
        let momentum = self.block.momentum.each_ref().map(|p| &**p);
        (booking, motion::totals(position, momentum, self.angular))
    }
}

const _: () = assert!(BLOCK_ROWS.is_multiple_of(LANES), "blocks are whole lanes");
