//! The f32 contracts, compared with `==` on integers: kernels equal their definitions on every instruction set, in every order and
//! partition; action is minus reaction. Only the test of accuracy has a tolerance.

use std::ops::Range;

use emmy::{
    backend::isa::{Isa, Kernel},
    contract::Contract,
    force::{
        Kick, PairOverflow,
        fast32::{self, Bounds, KickFast, Rule},
        fast32_blocks::{BLOCK, Blocks},
        fast32_kernel::{self, Strip},
        kernel::{Bodies, Mode, Sums},
        portable32::{self, Kick32},
        portable32_kernel,
    },
    math::Exact,
    particle::{Mass, Momentum, Particle, ParticleId, Position, Radius, WorkingSet},
    quanta::exp2,
};

/// Range bits of `fast32` in this file.
const FAST_BITS: u32 = 51;

type Columns = [Vec<i64>; 3];

// ---------------------------------------------------------------------------------------------- scenes

/// Marsaglia's xorshift with the shifts 13, 7, 17.
struct Xorshift(u64);

impl Xorshift {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Uniform in ±2^bits.
    fn integer(&mut self, bits: u32) -> i64 {
        (self.bits() as i64) >> (63 - bits)
    }

    fn place(&mut self, bits: u32) -> [i64; 3] {
        std::array::from_fn(|_| self.integer(bits))
    }
}

/// Particles in a cube of ±2^`bits` quanta with masses from 2¹⁹ to 2²⁰.
fn particles(sources: usize, tests: usize, bits: u32) -> Vec<Particle> {
    let mut random = Xorshift(88_172_645_463_325_252);
    let particle = |k: usize| Particle {
        id: ParticleId(k as u64),
        position: Position(random.place(bits)),
        momentum: Momentum([0; 3]),
        mass: Mass { quanta: (1 << 19) + (random.bits() >> 45) as i64, pulls: k < sources },
        radius: Radius(0),
    };
    (0..sources + tests).map(particle).collect()
}

/// A kick in which two of the largest masses give at most 2^`impulse_bits` quanta, with a softening of 2^`softening` quanta.
fn kick(impulse_bits: i32, softening: i32) -> Kick {
    Kick { factor: 0.9 * 2.598 * exp2(impulse_bits + 2 * softening - 40), softening2: 0.81 * exp2(2 * softening) }
}

fn add(impulse: &mut Columns, first: usize, sums: &Columns) {
    for (impulse, sums) in impulse.iter_mut().zip(sums) {
        impulse[first..].iter_mut().zip(sums).for_each(|(total, sum)| *total = total.wrapping_add(*sum));
    }
}

fn zeros(len: usize) -> Columns {
    std::array::from_fn(|_| vec![0; len])
}

// ---------------------------------------------------------------------------------------------- drivers

fn bodies(set: &WorkingSet) -> Bodies<'_> {
    Bodies { position: set.position.each_ref().map(Vec::as_slice), mass: &set.mass }
}

struct Tile<'a> {
    set: &'a WorkingSet,
    rows: Range<usize>,
    columns: Range<usize>,
    kick: Kick32,
    mode: Mode,
    sums: &'a mut [Sums; 2],
}

impl Kernel for Tile<'_> {
    type Output = Result<(), PairOverflow>;

    #[inline(always)]
    fn run<const L: usize, const ADDS: bool>(self) -> Self::Output {
        let [rows, columns] = self.sums;
        let bodies = bodies(self.set);
        portable32_kernel::tile::<L>(bodies, self.rows, self.columns, self.kick, self.mode, rows, columns)
    }
}

/// All impulses of `portable32` by tiles of `size` rows.
fn portable(isa: Isa, set: &WorkingSet, kick: Kick, size: usize, guarded: bool) -> Result<Columns, PairOverflow> {
    let mut impulse = zeros(set.rows());
    let (mut sums, kick) = (<[Sums; 2]>::default(), Kick32::of(kick));
    let blocks = |range: Range<usize>| range.clone().step_by(size).map(move |k| k..range.end.min(k + size));
    for (mutual, all) in [(true, set.source_rows()), (false, set.test_rows())] {
        for rows in blocks(all) {
            for columns in blocks(set.source_rows()).filter(|columns| !mutual || columns.start >= rows.start) {
                sums[0].reset(rows.len());
                sums[1].reset(columns.len());
                let mode = Mode { mutual, guarded, range_bits: portable32::RANGE_BITS };
                let (rows, columns) = (rows.clone(), columns.clone());
                let at = [rows.start, columns.start];
                isa.run(Tile { set, rows, columns, kick, mode, sums: &mut sums })?;
                add(&mut impulse, at[0], &sums[0].0);
                add(&mut impulse, at[1], &sums[1].0);
            }
        }
    }
    Ok(impulse)
}

fn portable_by_definition(set: &WorkingSet, kick: Kick) -> Columns {
    let mut impulse = zeros(set.rows());
    let kick = Kick32::of(kick);
    for i in set.real_rows() {
        for j in (0..set.sources).filter(|&j| j != i) {
            let d = portable32::separation(set.position_at(i), set.position_at(j));
            let k = portable32::impulse(d, [set.mass[i] as f32, set.mass[j] as f32], kick);
            (0..3).for_each(|axis| impulse[axis][i] += k[axis]);
        }
    }
    impulse
}

struct FastStrip<'a> {
    rows: &'a Blocks,
    row: usize,
    sources: &'a Blocks,
    columns: Range<usize>,
    mutual: bool,
    kick: &'a KickFast,
    strip: &'a mut Strip,
}

impl Kernel for FastStrip<'_> {
    type Output = Result<(), PairOverflow>;

    #[inline(always)]
    fn run<const L: usize, const ADDS: bool>(self) -> Self::Output {
        let Self { rows, row, sources, columns, mutual, kick, strip } = self;
        fast32_kernel::strip::<L>(rows, row, sources, columns, mutual, kick, strip)
    }
}

/// Sources and test particles in blocks.
fn blocks_of(set: &WorkingSet, kick: &KickFast) -> [Blocks; 2] {
    let mut blocks = <[Blocks; 2]>::default();
    let tests = set.test_rows().start;
    blocks[0].arrange(bodies(set), &set.id, 0..set.sources, kick);
    blocks[1].arrange(bodies(set), &set.id, tests..tests + set.tests, kick);
    blocks
}

/// All impulses of `fast32`, a strip of `length` blocks of columns at a time.
fn fast(isa: Isa, set: &WorkingSet, kick: Kick, length: usize) -> Result<Columns, PairOverflow> {
    let kick = KickFast::of(kick, FAST_BITS);
    let [sources, tests] = &blocks_of(set, &kick);
    let mut impulse = zeros(set.rows());
    let mut on_sources = zeros(sources.count() * BLOCK);
    let mut strip = Strip::default();
    for (mutual, rows) in [(true, sources), (false, tests)] {
        let mut on_rows = zeros(rows.count() * BLOCK);
        for row in 0..rows.count() {
            for first in (if mutual { row } else { 0 }..sources.count()).step_by(length) {
                let columns = first..sources.count().min(first + length);
                isa.run(FastStrip { rows, row, sources, columns, mutual, kick: &kick, strip: &mut strip })?;
                add(&mut on_rows, row * BLOCK, &strip.on_rows);
                add(&mut on_sources, first * BLOCK, &strip.on_columns);
            }
        }
        rows.scatter(&on_rows, &mut impulse);
    }
    sources.scatter(&on_sources, &mut impulse);
    Ok(impulse)
}

fn fast_by_definition(set: &WorkingSet, kick: Kick) -> Columns {
    let kick = KickFast::of(kick, FAST_BITS);
    let [sources, tests] = &blocks_of(set, &kick);
    let mut impulse = zeros(set.rows());
    for rows in [sources, tests] {
        for (a, b) in (0..rows.count()).flat_map(|a| (0..sources.count()).map(move |b| (a, b))) {
            let rule = Rule::of(&rows.bounds[a], &sources.bounds[b], &kick);
            for &i in &rows.rows[rows.block(a)] {
                for &j in sources.rows[sources.block(b)].iter().filter(|&&j| j != i) {
                    let (i, j) = (i as usize, j as usize);
                    let strengths = [set.mass[i], set.mass[j]].map(|mass| kick.strength(mass));
                    let k = fast32::impulse(set.position_at(i), set.position_at(j), strengths, &kick, &rule);
                    (0..3).for_each(|axis| impulse[axis][i] += k[axis]);
                }
            }
        }
    }
    impulse
}

// ---------------------------------------------------------------------------------------------- positions in two floats

/// x_j − x_i to the nearest f32, in spans; the difference of two positions within ±2⁴⁷ is exact in f64.
fn nearest_difference(from: i64, to: i64) -> f32 {
    ((to - from) as f64 * exp2(-24)) as f32
}

#[test]
fn a_difference_of_split_positions_is_the_nearest_float() {
    let edge = 1_i64 << Contract::Portable32.position_bits();
    let mut places = vec![0, 1, edge, edge - 1, edge / 3, (1 << 23) - 1, 1 << 23, (1 << 24) - 1, 1 << 24, 3 << 23];
    places.extend((20..47).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1, (5 << (bits - 2)) + 3]));
    places.extend(places.clone().iter().map(|x| -x));
    let mut random = Xorshift(1);
    let check = |a: i64, b: i64| {
        let found = portable32::separation([a; 3], [b; 3])[0];
        assert_eq!(found.to_bits(), nearest_difference(a, b).to_bits(), "{a} {b}");
        assert_eq!(nearest_difference(a, b), (b - a) as f32 * exp2(-24) as f32, "{a} {b}");
    };
    for &a in &places {
        places.iter().for_each(|&b| check(a, b));
    }
    for k in 0..1_000_000 {
        let a = random.integer(47);
        check(a, random.integer(47));
        check(a, (a + random.integer(k % 47)).clamp(-edge, edge));
    }
}

#[test]
fn a_split_position_is_whole_spans_and_less_than_one() {
    for x in [0, 1, -1, (1 << 23) - 1, 1 << 23, -(1 << 23), -(1 << 23) - 1, 1 << 47, -(1 << 47)] {
        let (high, low) = portable32::split(x);
        assert_eq!(f64::from(high) * exp2(24) + f64::from(low) * exp2(24), x as f64);
        assert_eq!(high, high.round_ties_even());
        assert!((-0.5..0.5).contains(&low), "{x}: {low}");
    }
}

// ---------------------------------------------------------------------------------------------- kernels and definitions

#[test]
fn portable_kernels_equal_the_definition_for_every_size_and_tile() {
    for (sources, tests) in [(1, 0), (2, 3), (7, 1), (15, 0), (16, 5), (17, 0), (33, 40), (64, 0), (130, 9), (600, 20)]
    {
        let set = WorkingSet::of(&particles(sources, tests, 46));
        for (kick, guarded) in [(kick(42, 30), false), (kick(42, 30), true), (kick(20, 46), true)] {
            let unsoftened = Kick { softening2: 0.0, factor: kick.factor * exp2(-30) };
            for kick in [kick, unsoftened] {
                let expected = portable_by_definition(&set, kick);
                for &isa in Isa::available() {
                    for size in [8, 64, 512, 1024] {
                        let found = portable(isa, &set, kick, size, guarded);
                        assert_eq!(found.as_ref(), Ok(&expected), "{sources} {tests} {isa} {size} {kick:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn fast_kernels_equal_the_definition_for_every_size_and_partition() {
    for (sources, tests) in [(1, 0), (2, 3), (63, 1), (64, 0), (65, 70), (200, 9), (700, 100)] {
        let mut set = WorkingSet::of(&particles(sources, tests, 46));
        set.mass[sources / 2] = 3.0;
        for kick in [kick(50, 30), kick(47, 44), kick(20, 46), Kick { factor: -0.7 * exp2(70), softening2: 0.0 }] {
            let expected = fast_by_definition(&set, kick);
            for &isa in Isa::available() {
                for length in [1, 3, 100] {
                    let found = fast(isa, &set, kick, length);
                    assert_eq!(found.as_ref(), Ok(&expected), "{sources} {tests} {isa} {length} {kick:?}");
                }
            }
        }
    }
}

#[test]
fn the_scene_of_the_fast_kernels_has_blocks_of_every_kind() {
    let set = WorkingSet::of(&particles(700, 0, 46));
    let rules = |kick: Kick| {
        let kick = KickFast::of(kick, FAST_BITS);
        let [sources, _] = blocks_of(&set, &kick);
        let bounds = &sources.bounds;
        bounds.iter().flat_map(|a| bounds.iter().map(|b| Rule::of(a, b, &kick)).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let softened = rules(kick(50, 30));
    assert!(softened.iter().any(|rule| rule.near && rule.shift > 0 && !rule.guarded), "near, not guarded");
    assert!(softened.iter().any(|rule| !rule.near), "far");
    assert!(rules(kick(47, 44)).iter().any(|rule| !rule.near && rule.shift > 0), "far, in coarse steps");
    let unsoftened = rules(Kick { factor: -0.7 * exp2(70), softening2: 0.0 });
    assert!(unsoftened.iter().any(|rule| rule.near && rule.guarded), "near, guarded");
}

#[test]
fn neither_the_order_of_rows_nor_that_of_evaluation_shows_in_fast_impulses() {
    let ordered = particles(500, 150, 46);
    let mut shuffled = ordered.clone();
    let mut random = Xorshift(7);
    (1..shuffled.len()).rev().for_each(|k| shuffled.swap(k, random.bits() as usize % (k + 1)));
    // Ties: some share a coordinate, some a place.
    let tie = |particles: &mut Vec<Particle>| {
        for particle in particles.iter_mut() {
            match particle.id.0 % 5 {
                0 => particle.position.0[0] = 12_345,
                1 => particle.position.0 = [1 << 40; 3],
                _ => {}
            }
        }
    };
    let by_id = |mut particles: Vec<Particle>| {
        tie(&mut particles);
        let set = WorkingSet::of(&particles);
        let found = fast(Isa::widest(), &set, kick(50, 30), 4).expect("in range");
        let mut found: Vec<_> =
            set.real_rows().map(|row| (set.id[row], [0, 1, 2].map(|axis| found[axis][row]))).collect();
        found.sort_unstable();
        found
    };
    assert_eq!(by_id(ordered), by_id(shuffled));
}

// ---------------------------------------------------------------------------------------------- action and reaction

#[test]
fn action_is_minus_reaction_for_millions_of_pairs_and_not_if_the_factor_is_folded_into_a_mass() {
    let mut random = Xorshift(3);
    let (mut broken, mut folded) = (0, 0);
    for k in 0..3_000_000_u32 {
        let (a, b) = (random.place(47), random.place(20 + k % 28));
        let masses = [1 + (random.bits() >> 12) as i64, 1 + (random.bits() >> (12 + k % 50)) as i64];
        let [mi, mj] = masses.map(|mass| mass as f32);
        let r2 = (0..3).map(|axis| ((b[axis] - a[axis]) as f64).abs()).fold(1.0, f64::max);
        let factor = 0.7 * exp2((k % 43) as i32) * r2 * r2 / (f64::from(mi) * f64::from(mj));
        let kick = Kick32::of(Kick { factor, softening2: 1.0 });
        let (there, back) = (portable32::separation(a, b), portable32::separation(b, a));
        broken += i32::from(
            portable32::impulse(there, [mi, mj], kick) != portable32::impulse(back, [mj, mi], kick).map(|k| -k),
        );
        // The red control: (m_i·w)·m_j is not (m_j·w)·m_i.
        let unit = Kick32 { factor: 1.0, ..kick };
        let w = kick.factor;
        folded += i32::from(
            portable32::impulse(there, [mi * w, mj], unit) != portable32::impulse(back, [mj * w, mi], unit).map(|k| -k),
        );
    }
    assert_eq!(broken, 0);
    assert!(folded > 0, "the test does not see what it is for");
}

#[test]
fn fast_action_is_minus_reaction_for_every_rule() {
    let mut random = Xorshift(4);
    for k in 0..200_000_u32 {
        let (a, b) = (random.place(47), random.place(10 + k % 38));
        let kick =
            Kick { factor: random.integer(40) as f64 * exp2((k % 60) as i32), softening2: exp2((k % 90) as i32) };
        let kick = KickFast::of(kick, FAST_BITS);
        let strengths = [1 + (random.bits() >> 40), 1 + (random.bits() >> 44)].map(|mass| kick.strength(mass as f64));
        let mut sides = [Bounds::EMPTY; 2];
        for (side, place) in sides.iter_mut().zip([a, b]) {
            side.add(place, strengths[0].max(strengths[1]));
            side.add(place.map(|x| x + random.integer(k % 40)), strengths[0].min(strengths[1]));
        }
        let rules = [Rule::of(&sides[0], &sides[1], &kick), Rule::of(&sides[1], &sides[0], &kick)];
        assert_eq!(rules[0], rules[1]);
        let there = fast32::impulse(a, b, strengths, &kick, &rules[0]);
        let back = fast32::impulse(b, a, [strengths[1], strengths[0]], &kick, &rules[1]);
        let outside = |k: &i64| fast32::out_of_range(*k, &kick, &rules[0]);
        assert_eq!(there.iter().any(outside), back.iter().any(outside));
        assert!(rules[0].guarded || !there.iter().any(outside), "{:?}", rules[0]);
        if !there.iter().any(outside) {
            assert_eq!(there, back.map(|k| -k), "{a:?} {b:?} {:?}", rules[0]);
        }
    }
}

#[test]
fn close_blocks_far_below_a_span_keep_to_their_bound() {
    let mut random = Xorshift(12);
    for k in 0..100_000_u32 {
        let home = random.place(46);
        let near_home = |random: &mut Xorshift| home.map(|x| x + random.integer(1 + k % 30));
        let (a, b) = (near_home(&mut random), near_home(&mut random));
        let r2 = (0..3).map(|axis| ((b[axis] - a[axis]) as f64).abs()).fold(1.0, f64::max);
        let kick = KickFast::of(Kick { factor: 0.7 * exp2(47) * r2 * r2, softening2: 0.0 }, FAST_BITS);
        let mut sides = [Bounds::EMPTY; 2];
        sides.iter_mut().zip([a, b]).for_each(|(side, place)| side.add(place, kick.strength(1.0)));
        let rule = Rule::of(&sides[0], &sides[1], &kick);
        let strengths = [kick.strength(1.0); 2];
        let found = fast32::impulse(a, b, strengths, &kick, &rule);
        if a != b {
            let d: [f64; 3] = std::array::from_fn(|axis| (b[axis] - a[axis]) as f64);
            let norm = (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]).sqrt();
            let size = 0.7 * exp2(47) * r2 * r2 / (norm * norm);
            for axis in 0..3 {
                let off = (found[axis] as f64 - size * d[axis] / norm).abs();
                assert!(off < 1e-3 * size, "{a:?} {b:?} {rule:?} {found:?}");
            }
        }
    }
}

#[test]
fn half_quanta_go_to_the_even_neighbour_at_every_size() {
    // d = 2 quanta: f·d = m·M·w / 4; Newton's iteration is exact for no power of two, so these are the levels alone.
    for base in [0, 1 << 22, 3 << 21, (1 << 22) - 2, 1 << 20] {
        for quarter in -40..40_i32 {
            let t = base as f32 + quarter as f32 * 0.25;
            let found = portable32::joined(portable32::levels(t), 1);
            assert_eq!(found, f64::from(t).round_ties_even() as i64, "{t}");
            assert_eq!(portable32::joined(portable32::levels(-t), 1), -found, "{t}");
        }
    }
    let mut random = Xorshift(8);
    for k in 0..1_000_000 {
        let t = random.integer(63) as f32 * exp2(-20 - (k % 60)) as f32;
        assert_eq!(portable32::joined(portable32::levels(t), 1), f64::from(t).round_ties_even() as i64, "{t:e}");
    }
}

#[test]
fn every_impulse_out_of_range_is_seen_from_both_sides() {
    let limit = exp2(portable32::RANGE_BITS as i32) as f32;
    let mut large = vec![
        limit,
        limit * 1.5,
        limit * 2.0,
        limit * 3.9,
        limit * 6.0,
        limit * 8.0,
        1e20,
        1e38,
        f32::MAX,
        f32::INFINITY,
    ];
    large.extend((0x5500_0000..0x7f80_0000).step_by(4099).map(f32::from_bits));
    for t in large.into_iter().filter(|t| *t >= limit) {
        for t in [t, -t] {
            assert!(portable32::out_of_range(portable32::joined(portable32::levels(t), 1)), "{t:e}");
        }
    }
    for nan in [0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0xffff_ffff] {
        assert!(portable32::out_of_range(portable32::joined(portable32::levels(f32::from_bits(nan)), 1)), "{nan:x}");
    }
    let below = f32::from_bits(limit.to_bits() - 1);
    assert!(!portable32::out_of_range(portable32::joined(portable32::levels(below), 1)));
}

#[test]
fn the_sum_of_all_impulses_is_zero() {
    let set = WorkingSet::of(&particles(1000, 0, 46));
    for found in [portable(Isa::widest(), &set, kick(42, 30), 512, true), fast(Isa::widest(), &set, kick(50, 30), 5)] {
        let found = found.expect("in range");
        assert_eq!(found.each_ref().map(|axis| axis.iter().sum::<i64>()), [0; 3]);
        assert!(found[0].iter().any(|&k| k.unsigned_abs() > 1 << 20), "impulses of some size");
    }
}

// ---------------------------------------------------------------------------------------------- the guard

#[test]
fn bodies_at_one_place_do_not_pull_if_softened_and_are_named_if_not() {
    for others in [0, 6, 90, 300] {
        let mut particles = particles(others + 2, 0, 46);
        particles[1].position = particles[others / 2 + 1].position;
        particles[0].position = particles[1].position;
        let (first, second) = (0, 1);
        let set = WorkingSet::of(&particles);
        let softened = kick(42, 30);
        let unsoftened = Kick { factor: exp2(20), softening2: 0.0 };
        for &isa in Isa::available() {
            assert_eq!(portable(isa, &set, softened, 64, true), Ok(portable_by_definition(&set, softened)), "{isa}");
            assert_eq!(fast(isa, &set, softened, 2), Ok(fast_by_definition(&set, softened)), "{isa}");
            let named = PairOverflow { row: first, column: second };
            assert_eq!(portable(isa, &set, unsoftened, 64, true), Err(named), "{others} {isa}");
            assert_eq!(fast(isa, &set, unsoftened, 2), Err(named), "{others} {isa}");
        }
    }
}

#[test]
fn a_pair_that_is_too_close_is_named_and_one_that_is_not_is_evaluated() {
    for others in [0, 30, 200] {
        let mut particles = particles(others + 2, 0, 46);
        particles[1].position = Position(particles[0].position.0.map(|x| x + 1000));
        (0..2).for_each(|k| particles[k].mass.quanta = 1 << 20);
        let set = WorkingSet::of(&particles);
        let at = |bits: i32| Kick { factor: exp2(bits - 40) * 3e6 * 1.7320, softening2: 0.0 };
        for &isa in Isa::available() {
            for (bits, fits) in [(42, true), (44, false), (70, false), (120, false)] {
                let found = portable(isa, &set, at(bits), 64, true);
                assert_eq!(found.is_ok(), fits, "portable32 {bits} {isa}");
                assert!(fits || found == Err(PairOverflow { row: 0, column: 1 }));
            }
            for (bits, fits) in [(42, true), (50, true), (53, false), (100, false)] {
                let found = fast(isa, &set, at(bits), 2);
                assert_eq!(found.is_ok(), fits, "fast32 {bits} {isa}");
                assert!(fits || found == Err(PairOverflow { row: 0, column: 1 }));
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------- accuracy and energy

/// The rms relative error of the impulses of sources against f64.
fn error(set: &WorkingSet, kick: Kick, impulse: &Columns) -> f64 {
    let norm2 = |v: [f64; 3]| v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
    let of = |i: usize| {
        let mut force = [0.0; 3];
        for j in (0..set.sources).filter(|&j| j != i) {
            let d: [f64; 3] = std::array::from_fn(|axis| (set.position[axis][j] - set.position[axis][i]) as f64);
            let r2 = norm2(d) + kick.softening2;
            let f = set.mass[i] * set.mass[j] * kick.factor / (r2 * r2.sqrt());
            (0..3).for_each(|axis| force[axis] += f * d[axis]);
        }
        norm2(std::array::from_fn(|axis| impulse[axis][i] as f64 - force[axis])) / norm2(force)
    };
    ((0..set.sources).map(of).sum::<f64>() / set.sources as f64).sqrt()
}

#[test]
fn forces_have_the_precision_of_single_floats() {
    let set = WorkingSet::of(&particles(2000, 0, 46));
    let (strong, stronger) = (kick(42, 39), kick(50, 39));
    let portable = error(&set, strong, &portable(Isa::widest(), &set, strong, 512, false).expect("in range"));
    let fast = error(&set, stronger, &fast(Isa::widest(), &set, stronger, 8).expect("in range"));
    assert!(portable < 3e-7 && portable > 1e-9, "portable32: {portable:e}");
    assert!(fast < 3e-7 && fast > 1e-9, "fast32: {fast:e}");
}

#[test]
fn light_bodies_among_heavy_ones_get_precise_forces_too() {
    let mut particles = particles(2000, 0, 46);
    particles.iter_mut().step_by(7).for_each(|light| light.mass.quanta >>= 10);
    let set = WorkingSet::of(&particles);
    let strong = kick(50, 39);
    let found = error(&set, strong, &fast(Isa::widest(), &set, strong, 8).expect("in range"));
    assert!(found < 3e-7 && found > 1e-9, "fast32: {found:e}");
}

struct Binding<'a>(&'a WorkingSet, Range<usize>, Range<usize>, f64, f64);

impl Kernel for Binding<'_> {
    type Output = i128;

    #[inline(always)]
    fn run<const L: usize, const ADDS: bool>(self) -> i128 {
        let bodies = bodies(self.0);
        portable32_kernel::binding_tile::<L>(bodies, self.1, self.2, self.3, self.4)
    }
}

#[test]
fn binding_energies_are_those_of_the_definition_however_they_are_cut() {
    let set = WorkingSet::of(&particles(333, 0, 46));
    let (factor, softening2) = (0.7 * exp2(70), exp2(60));
    let [factor32, softening32] = [portable32::energy_factor_in_spans(factor), portable32::in_spans2(softening2)];
    let mut expected = Exact::default();
    for (i, j) in (0..333).flat_map(|i| (i + 1..333).map(move |j| (i, j))) {
        let d = portable32::separation(set.position_at(i), set.position_at(j));
        let masses = [set.mass[i] as f32, set.mass[j] as f32];
        expected.add(f64::from(portable32::binding(d, masses, factor32, softening32)));
    }
    let all = set.source_rows();
    for &isa in Isa::available() {
        let whole = isa.run(Binding(&set, all.clone(), all.clone(), factor, softening2));
        let cut = [(0..64, 0..64), (0..64, 64..all.end), (64..all.end, 64..all.end)];
        let parts = cut.map(|(rows, columns)| isa.run(Binding(&set, rows, columns, factor, softening2)));
        assert_eq!(whole, expected.total(), "{isa}");
        assert_eq!(parts.into_iter().sum::<i128>(), whole, "{isa}");
    }
}
