//! The CPU backend: kernels over tiles and blocks, on a number of threads that no bit depends on.
//!
//! Work is cut by the data alone. Threads take tiles in any order and add integers into shared sums; integer addition does not
//! care. A force evaluation needs 24 bytes a particle and a small scratch per thread, however many threads there are.

use std::{ops::Range, sync::Mutex};

use bevy_ecs::prelude::*;
use rayon::prelude::*;

use super::{
    deal::{Deal, Tile},
    fast::FastWork,
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

    /// The threads, if so many pairs are worth waking them.
    pub(super) fn pool_for(&self, pairs: u64) -> Option<&rayon::ThreadPool> {
        self.pool.as_ref().filter(|_| pairs >= PARALLEL_PAIRS)
    }

    /// Does something for each axis, at once where columns of so many rows are worth waking other threads.
    pub fn axes<T: Send>(&self, rows: usize, work: impl Fn(usize) -> T + Sync) -> [T; 3] {
        match self.pool.as_ref().filter(|_| rows >= PARALLEL_ROWS) {
            Some(pool) => pool.install(|| {
                let (x, (y, z)) = rayon::join(|| work(0), || rayon::join(|| work(1), || work(2)));
                [x, y, z]
            }),
            None => [0, 1, 2].map(work),
        }
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
        let field = Field::of(set);
        if contract == Contract::Fast32 {
            let (sources, tests) = (0..set.sources, set.test_rows().start..set.test_rows().start + set.tests);
            let Some(mut work) = FastWork::begin(&field, [vec![sources], vec![tests]], (0, 1), kick) else {
                return Ok(());
            };
            while work.advance(self, &field, usize::MAX) {}
            return work.end(impulse);
        }
        let deal = Deal::of_all(set);
        self.add_impulses(&field, &deal, 0..deal.count(), contract, kick, guarded, impulse)
    }

    /// Adds the impulses of some tiles to `impulse` (one `Vec` per axis, as long as the field). All contracts but `fast32`.
    ///
    /// # Errors
    /// A pair whose impulse is out of range: of those that tiles name, the lowest. All tiles are evaluated even so.
    #[expect(clippy::too_many_arguments, reason = "what is evaluated, and how")]
    pub fn add_impulses(
        &self,
        field: &Field<'_>,
        deal: &Deal,
        tiles: Range<usize>,
        contract: Contract,
        kick: Kick,
        guarded: bool,
        impulse: &mut [Vec<i64>; 3],
    ) -> Result<(), PairOverflow> {
        // No gravity: 0/0 would be no number where two particles meet.
        if kick.factor == 0.0 {
            return Ok(());
        }
        let sums = SharedSums::new(impulse, deal.tile_rows());
        let mode = Mode { mutual: true, guarded, range_bits: contract.impulse_bits(field.sources) };
        let work = |scratch: &mut [Sums; 2], tile: Tile| {
            let [rows, columns] = scratch;
            rows.reset(tile.rows.len());
            columns.reset(if tile.is_diagonal() { 0 } else { tile.columns.len() });
            let mode = Mode { mutual: tile.mutual, ..mode };
            let evaluated =
                self.isa.run(TileKernel { bodies: field.bodies, tile: &tile, contract, kick, mode, rows, columns });
            sums.add(&tile.rows, &rows.0);
            if tile.mutual && !tile.is_diagonal() {
                sums.add(&tile.columns, &columns.0);
            }
            evaluated
        };
        // The pair that is named must not depend on who was first: all tiles are looked at, the lowest counts.
        let order = |pair: &PairOverflow| (field.id[pair.row], field.id[pair.column]);
        let overflow = match self.pool_for(deal.pairs()) {
            Some(pool) => pool.install(|| {
                let all = tiles.into_par_iter();
                all.map_init(Default::default, |scratch, k| work(scratch, deal.tile(k)).err())
                    .flatten()
                    .min_by_key(order)
            }),
            _ => {
                let mut scratch = Default::default();
                tiles.filter_map(|k| work(&mut scratch, deal.tile(k)).err()).min_by_key(order)
            }
        };
        overflow.map_or(Ok(()), Err)
    }

    /// Potential energy of the sources [energy quanta].
    #[must_use]
    pub fn potential_energy(&self, set: &WorkingSet, law: &Law) -> i128 {
        let deal = Deal::of_all(set).of_sources();
        -Exact::sum_of_parts(self.binding(&Field::of(set), &deal, 0..deal.count(), law))
    }

    /// Minus the potential energy of some tiles of sources, as a part that is added to others and then given to
    /// [`Exact::sum_of_parts`].
    #[must_use]
    pub fn binding(&self, field: &Field<'_>, deal: &Deal, tiles: Range<usize>, law: &Law) -> i128 {
        let binding = |k: usize| self.isa.run(BindingKernel { bodies: field.bodies, tile: &deal.tile(k), law });
        match self.pool_for(deal.pairs()) {
            Some(pool) => pool.install(|| tiles.into_par_iter().map(binding).sum::<i128>()),
            _ => tiles.map(binding).sum::<i128>(),
        }
    }

    /// Kinetic energy of the sources [energy quanta]: p²/2m, each particle's rounded to a quantum.
    #[must_use]
    pub fn kinetic_energy(&self, set: &WorkingSet, contract: Contract, quanta: &Quanta) -> i128 {
        Exact::sum_of_parts(self.kinetic(set, contract, quanta))
    }

    /// The same as a part that is added to others and then given to [`Exact::sum_of_parts`].
    #[must_use]
    pub fn kinetic(&self, set: &WorkingSet, contract: Contract, quanta: &Quanta) -> i128 {
        if contract.is_portable() {
            let scale = portable::kinetic_scale(quanta);
            let one = |row: usize| portable::kinetic(set.momentum_at(row), set.inverse_mass[row], scale);
            return (0..set.sources).map(one).sum();
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
        total
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

/// Bodies that pull each other, whoever owns them.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Where they are, and their masses.
    pub bodies: Bodies<'a>,
    /// Their identities, row by row.
    pub id: &'a [u64],
    /// How many pull, of all partitions: the range of impulses depends on it.
    pub sources: usize,
}

impl<'a> Field<'a> {
    /// The bodies of one set, which are all that there are.
    #[must_use]
    pub fn of(set: &'a WorkingSet) -> Self {
        let bodies = Bodies { position: set.position.each_ref().map(Vec::as_slice), mass: &set.mass };
        Self { bodies, id: &set.id, sources: set.sources }
    }
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

struct TileKernel<'a> {
    bodies: Bodies<'a>,
    tile: &'a Tile,
    contract: Contract,
    kick: Kick,
    mode: Mode,
    rows: &'a mut Sums,
    columns: &'a mut Sums,
}

impl Kernel for TileKernel<'_> {
    type Output = Result<(), PairOverflow>;

    #[inline(always)]
    fn run<const L: usize, const ADDS: bool>(self) -> Self::Output {
        let Tile { rows, columns, .. } = self.tile.clone();
        let (bodies, kick, mode, sums) = (self.bodies, self.kick, self.mode, (self.rows, self.columns));
        match self.contract {
            Contract::Portable64 => {
                pairs::tile::<Portable64, L, ADDS>(bodies, rows, columns, kick, mode, sums.0, sums.1)
            }
            Contract::Portable32 => {
                portable32_kernel::tile::<L>(bodies, rows, columns, Kick32::of(kick), mode, sums.0, sums.1)
            }
            _ => pairs::tile::<Native64, L, ADDS>(bodies, rows, columns, kick, mode, sums.0, sums.1),
        }
    }
}

struct BindingKernel<'a> {
    bodies: Bodies<'a>,
    tile: &'a Tile,
    law: &'a Law,
}

impl Kernel for BindingKernel<'_> {
    type Output = i128;

    #[inline(always)]
    fn run<const L: usize, const ADDS: bool>(self) -> i128 {
        let Tile { rows, columns, .. } = self.tile.clone();
        let (bodies, Law { energy_factor, softening2, .. }) = (self.bodies, *self.law);
        match self.law.contract {
            Contract::Portable64 => {
                pairs::binding_tile::<Portable64, L, ADDS>(bodies, rows, columns, energy_factor, softening2)
            }
            Contract::Portable32 => {
                portable32_kernel::binding_tile::<L>(bodies, rows, columns, energy_factor, softening2)
            }
            _ => pairs::binding_tile::<Native64, L, ADDS>(bodies, rows, columns, energy_factor, softening2),
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
