//! Exactness: what is promised to the last bit, compared with `==` on integers and hashes. There is no tolerance in this file.
//!
//! Each promise has a red control: the usual floating-point way of doing the same thing, which must fail the same test. A test
//! that nothing can fail proves nothing.

use std::{ops::Range, path::Path};

use emmy::{
    advance::{Burst, Impulse, Plan, Trouble, propose},
    backend::{
        cpu::{Bookings, Cpu},
        few::{Few, Walk},
        isa::{Isa, Kernel},
    },
    contract::Contract,
    force::{Kick, PairOverflow, native64, portable64, separation},
    integrator::{
        self,
        kernel::{self as motion, Block, Stride, Totals},
    },
    ledger::{Amounts, DRIFT_ROUNDING, KICK_ROUNDING, REACTION},
    math::{add3, cross, wide_product},
    node::{Node, State},
    particle::{Mass, Momentum, Particle, ParticleId, Position, Radius, WorkingSet},
    quanta::exp2,
    scenario::{generate, read},
    snapshot::root::StateRoot,
    spawn,
};

/// Integrators as scenario files name them.
const INTEGRATORS: [&str; 4] = ["Leapfrog", "Yoshida4", "Srkn6b", "Srkn11b"];

// ---------------------------------------------------------------------------------------------- scenes

/// Marsaglia's xorshift with the shifts 13, 7, 17: the generator of the published test vectors.
struct Xorshift(u64);

impl Xorshift {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Uniform in [0, 1) with 53 bits.
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / exp2(53)
    }

    fn signed(&mut self) -> f64 {
        2.0 * self.unit() - 1.0
    }

    /// Uniform in ±2^bits.
    fn integer(&mut self, bits: u32) -> i64 {
        (self.bits() as i64) >> (63 - bits)
    }
}

fn cpu(isa: Isa, threads: usize) -> Cpu {
    Cpu::new(isa, threads).expect("threads start")
}

/// The bodies of the published test vectors of `native64`, and their kick: `n` bodies uniform in a cube of ±2⁵² quanta with
/// masses between 0.5/n and 1.5/n, and a factor that is no power of two.
fn cube(n: usize) -> (WorkingSet, Kick) {
    let mut random = Xorshift(88_172_645_463_325_252);
    let mut set = WorkingSet::with_room_for(n, 0);
    for row in 0..n {
        for axis in 0..3 {
            set.position[axis][row] = (random.signed() * exp2(52)) as i64;
        }
        set.mass[row] = (0.5 + random.unit()) / n as f64;
    }
    let factor = 0.7 * (n * n) as f64 * exp2(36);
    (set, Kick { factor: factor * exp2(104), softening2: 1e-4 * exp2(104) })
}

/// Sources and test particles in a cube of ±2⁵⁰ quanta, with masses from 1 to 2²⁰, and a kick without softening in which typical
/// pairs give 2³⁰ quanta: the closest pair of a thousand then stays below 2⁵⁰.
fn crowd(sources: usize, tests: usize) -> (WorkingSet, Kick) {
    let mut random = Xorshift(0x9e37_79b9 + (sources * 64 + tests) as u64);
    let particles: Vec<Particle> = (0..sources + tests)
        .map(|k| Particle {
            id: ParticleId(k as u64),
            position: Position(std::array::from_fn(|_| random.integer(50))),
            momentum: Momentum(std::array::from_fn(|_| random.integer(40))),
            mass: Mass { quanta: 1 + (random.unit() * exp2(20)) as i64, pulls: k < sources },
            radius: Radius(0),
        })
        .collect();
    (WorkingSet::of(&particles), Kick { factor: 0.7 * exp2(92), softening2: 0.0 })
}

/// A cluster of bodies with unequal masses (over three decades) and of test particles, as a scenario would make it.
fn state(sources: usize, tests: usize, (contract, integrator): (Contract, &str), softening: f64) -> State {
    let mut random = Xorshift(0x5851_f42d_4c95_7f2d + (sources + 1000 * tests) as u64);
    let vector = |random: &mut Xorshift, size: f64| {
        let v: [f64; 3] = std::array::from_fn(|_| size * random.signed());
        format!("({:?}, {:?}, {:?})", v[0], v[1], v[2])
    };
    let bodies: String = (0..sources + tests)
        .map(|k| {
            let mass = (0.5 + random.unit()) * [1.0, 0.1, 0.001][k % 3] / sources as f64;
            let mass = if k < sources { format!("mass: {mass:?}") } else { format!("mass: 0, inertia: {mass:?}") };
            let (position, velocity) = (vector(&mut random, 1.0), vector(&mut random, 0.5));
            format!("({mass}, position: {position}, velocity: {velocity}),\n")
        })
        .collect();
    state_of(&format!(
        "(version: 1, name: \"x\", contract: {contract}, integrator: {integrator}(dt: 0.01), until: Steps(1000), \
         gravity: (softening: {softening:?}), bodies: [{bodies}])"
    ))
}

fn state_of(text: &str) -> State {
    let scenario = read::read("test", text, &[]).unwrap_or_else(|report| panic!("{:?}", miette::Report::from(report)));
    let bodies = generate::population(&scenario, Path::new(".")).expect("the scenario is right");
    spawn::state(&scenario, &bodies).expect("the bodies fit their quanta")
}

fn node(state: &State) -> Node {
    Node::new(state.clone(), cpu(Isa::widest(), 1))
}

fn root_of(particles: &[Particle]) -> StateRoot {
    let mut root = StateRoot::default();
    particles.iter().for_each(|p| root.add(p.id, p.position, p.momentum, p.mass));
    root
}

/// Σ p, counted here and not by the engine [momentum quanta].
fn momentum_of(particles: &[Particle]) -> [i128; 3] {
    particles.iter().fold([0; 3], |sum, p| add3(sum, p.momentum.0.map(i128::from)))
}

/// Σ x × p, counted here and not by the engine.
fn angular_momentum_of(particles: &[Particle]) -> [i128; 3] {
    particles.iter().fold([0; 3], |sum, p| add3(sum, cross(p.position.0, p.momentum.0)))
}

// ---------------------------------------------------------------------------------------------- the pair contract

/// FNV-1a over the little-endian bytes of x, y, z of every body in turn.
fn fnv(impulse: &[Vec<i64>; 3], n: usize) -> u64 {
    let values = (0..n).flat_map(|row| impulse.each_ref().map(|axis| axis[row]));
    values
        .flat_map(i64::to_le_bytes)
        .fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The contracts on f64, whose definitions are functions of one pair.
const ON_F64: [Contract; 2] = [Contract::Native64, Contract::Portable64];

/// Impulses by the definition: every ordered pair by itself, no symmetry used.
fn by_definition(set: &WorkingSet, contract: Contract, kick: Kick) -> [Vec<i64>; 3] {
    let impulse_of_pair = match contract {
        Contract::Native64 => native64::impulse,
        _ => portable64::impulse,
    };
    let mut impulse: [Vec<i64>; 3] = std::array::from_fn(|_| vec![0; set.rows()]);
    for i in set.real_rows() {
        for j in (0..set.sources).filter(|&j| j != i) {
            let d = separation(set.position_at(i), set.position_at(j));
            let k = impulse_of_pair(d, [set.mass[i], set.mass[j]], kick);
            for axis in 0..3 {
                impulse[axis][i] = impulse[axis][i].wrapping_add(k[axis]);
            }
        }
    }
    impulse
}

fn impulses(cpu: &Cpu, set: &WorkingSet, contract: Contract, kick: Kick, guarded: bool) -> [Vec<i64>; 3] {
    let mut impulse = Default::default();
    cpu.impulses(set, contract, kick, guarded, &mut impulse).expect("impulses are in range");
    impulse
}

#[test]
fn impulses_have_the_published_hashes() {
    let published = [
        (8192, Contract::Native64, 0xf761_0f9d_856c_8cd1_u64),
        (16384, Contract::Native64, 0xb3e5_5314_da03_5f63),
        (8192, Contract::Portable64, 0x61a8_1bd3_563f_290e),
    ];
    for (n, contract, published) in published {
        let (set, kick) = cube(n);
        let impulse = impulses(&cpu(Isa::widest(), 2), &set, contract, kick, false);
        assert_eq!(fnv(&impulse, n), published, "{n} bodies: {:016x}", fnv(&impulse, n));
    }
}

#[test]
fn among_many_sources_a_pair_may_not_be_so_strong_that_the_sum_of_all_could_wrap() {
    // The closest pair of the published cube is below 2^51, but not below 2^62 / 16384.
    let ((set, kick), native) = (cube(16_384), Contract::Native64);
    for &isa in Isa::available().iter().rev().take(2) {
        assert!(cpu(isa, 2).impulses(&set, native, kick, true, &mut Default::default()).is_err(), "{isa}");
        let weaker = Kick { factor: kick.factor / 64.0, ..kick };
        let found = |guarded| impulses(&cpu(isa, 2), &set, native, weaker, guarded);
        assert_eq!(found(true), found(false), "{isa}");
    }
}

/// Rows that stand next to each other are met one by one, others on lanes: the range of impulses is the same for both.
#[test]
fn among_many_sources_a_strong_pair_is_refused_wherever_its_rows_stand() {
    let sources = 4096;
    for contract in Contract::ALL {
        let bits = contract.impulse_bits(sources);
        let (heavy, apart) = (1_i64 << 20, 1_i64 << 20);
        for (a, b) in [(0, 1), (1, 2), (2, 3), (0, 2), (0, 9), (0, 3000)] {
            let particle = |k: usize| {
                let [position, mass] = match k {
                    _ if k == a => [[0; 3], [heavy; 3]],
                    _ if k == b => [[apart, 0, 0], [heavy; 3]],
                    _ => [[1 << 45, (k as i64 + 1) << 32, 0], [1; 3]],
                };
                Particle {
                    id: ParticleId(k as u64),
                    position: Position(position),
                    momentum: Momentum([0; 3]),
                    mass: Mass { quanta: mass[0], pulls: true },
                    radius: Radius(0),
                }
            };
            let set = WorkingSet::of(&(0..sources).map(particle).collect::<Vec<_>>());
            let kick = |size: f64| Kick { factor: size * exp2(bits as i32), softening2: 0.0 };
            for &isa in Isa::available() {
                let refused = |kick| cpu(isa, 1).impulses(&set, contract, kick, true, &mut Default::default()).is_err();
                let scene = format!("{contract}, rows {a} and {b}, {isa}");
                assert!(refused(kick(1.4)), "{scene}");
                assert!(!refused(kick(0.3)), "{scene}");
            }
        }
    }
}

#[test]
fn every_instruction_set_and_number_of_threads_gives_the_impulses_of_the_definition() {
    let scenes = [cube(256), cube(1000), crowd(300, 0), crowd(250, 77), crowd(5, 1000), crowd(1000, 3)];
    for ((set, kick), contract) in scenes.iter().flat_map(|scene| ON_F64.map(|contract| (scene, contract))) {
        let expected = by_definition(set, contract, *kick);
        for &isa in Isa::available() {
            for threads in [1, 2, 3, 7] {
                for guarded in [false, true] {
                    let found = impulses(&cpu(isa, threads), set, contract, *kick, guarded);
                    let scene = (set.sources, set.tests, contract, isa, threads, guarded);
                    assert!(found == expected, "{scene:?}");
                }
            }
        }
    }
}

#[test]
fn every_size_of_a_set_gives_the_impulses_of_the_definition() {
    let cpus: Vec<Cpu> = Isa::available().iter().map(|&isa| cpu(isa, 1)).collect();
    for sources in 0..=40 {
        for tests in [0, 1, 5, 8, 13] {
            let (set, unsoftened) = crowd(sources, tests);
            for (softening2, contract) in
                [0.0, exp2(90)].into_iter().flat_map(|e2| ON_F64.map(|contract| (e2, contract)))
            {
                let kick = Kick { softening2, ..unsoftened };
                let expected = by_definition(&set, contract, kick);
                for cpu in &cpus {
                    for guarded in [softening2 == 0.0, true] {
                        let found = impulses(cpu, &set, contract, kick, guarded);
                        let scene = (sources, tests, contract, cpu.isa(), softening2, guarded);
                        assert!(found == expected, "{scene:?}");
                    }
                }
            }
        }
    }
}

/// round(f·d) to nearest, ties to even, in integers: the exact product of a float and an integer-valued float.
fn nearest_product(f: f64, d: f64) -> i64 {
    let exponent = ((f.to_bits() >> 52) & 0x7ff) as i32 - 1075;
    let mantissa = ((f.to_bits() & ((1 << 52) - 1)) | 1 << 52) as i128 * if f < 0.0 { -1 } else { 1 };
    let product = mantissa * d as i128;
    if exponent >= 0 {
        return (product << exponent) as i64;
    }
    if exponent < -125 {
        return 0;
    }
    let floor = product >> -exponent;
    let rest = product - (floor << -exponent);
    let half = 1_i128 << (-exponent - 1);
    (floor + i128::from(rest > half || (rest == half && floor & 1 == 1))) as i64
}

#[test]
fn an_impulse_is_the_exact_product_rounded_once() {
    let mut random = Xorshift(17);
    for k in 0..300_000 {
        let d: [i64; 3] = std::array::from_fn(|_| random.integer(20 + k % 42));
        let d = separation([0; 3], d);
        let masses = [random.unit() * exp2(52), 1.0 + random.unit() * exp2(k as i32 % 52)];
        let r2 = d[0].mul_add(d[0], d[1].mul_add(d[1], d[2] * d[2]));
        // Impulses of every size up to 2⁵⁰, by way of the factor.
        let factor = random.unit() * exp2(k as i32 % 51) * r2 / (masses[0] * masses[1]);
        let f = ((masses[0] * masses[1]) * factor) / (r2 * r2.sqrt());

        let found = native64::impulse(d, masses, Kick { factor, softening2: 0.0 });

        assert_eq!(found, d.map(|d| nearest_product(f, d)), "{d:?} {f:e}");
    }
}

#[test]
fn half_quanta_go_to_the_even_neighbour_and_action_stays_minus_reaction() {
    // d = (2, 0, 0): f·d = m·M·w / 4, every other multiple of which is a tie or a whole number.
    for product in 0..4000_i64 {
        let kick = Kick { factor: 1.0, softening2: 0.0 };
        let there = native64::impulse([2.0, 0.0, 0.0], [product as f64, 1.0], kick);
        let back = native64::impulse([-2.0, 0.0, 0.0], [1.0, product as f64], kick);

        let even = (product / 4) + i64::from(product % 4 == 3 || (product % 4 == 2 && product / 4 % 2 == 1));
        assert_eq!((there, back), ([even, 0, 0], [-even, 0, 0]), "{product}/4");
    }
}

/// Calls `each` for the first `count` pairs of the published bodies, with positions and masses.
fn pairs_of_cube(count: usize, mut each: impl FnMut([f64; 3], [f64; 3], [f64; 2], Kick)) {
    let (set, kick) = cube(8192);
    let pairs = (0..8192).flat_map(|i| (i + 1..8192).map(move |j| (i, j))).take(count);
    for (i, j) in pairs {
        let (a, b) = (set.position_at(i), set.position_at(j));
        let (there, back) = (separation(a, b), separation(b, a));
        each(there, back, [set.mass[i], set.mass[j]], kick);
    }
}

#[test]
fn action_is_minus_reaction_for_five_million_pairs_and_not_if_the_factor_is_folded_into_a_mass() {
    let (mut broken, mut broken_if_folded) = (0_u32, 0_u32);

    pairs_of_cube(5_000_000, |there, back, [mi, mj], kick| {
        let forth = native64::impulse(there, [mi, mj], kick);
        broken += u32::from(forth != native64::impulse(back, [mj, mi], kick).map(|k| -k));
        // The red control: (m_i·w)·m_j is not (m_j·w)·m_i.
        let unit = Kick { factor: 1.0, ..kick };
        let forth = native64::impulse(there, [mi * kick.factor, mj], unit);
        broken_if_folded += u32::from(forth != native64::impulse(back, [mj * kick.factor, mi], unit).map(|k| -k));
    });

    assert_eq!(broken, 0);
    assert!(broken_if_folded > 0, "the test does not see what it is for");
}

#[test]
fn action_is_minus_reaction_at_the_edges_of_every_range() {
    let edge = 1_i64 << 61;
    let places = [0, 1, -1, edge - 1, -edge, edge / 3, (1 << 53) + 1, -(1 << 54) - 3];
    let mut random = Xorshift(5);
    let mut points: Vec<[i64; 3]> = places.iter().flat_map(|&x| places.map(|y| [x, y, x ^ y])).collect();
    points.extend((0..64).map(|_| std::array::from_fn(|_| random.integer(61))));
    let masses = [1.0, 3.0, exp2(52), exp2(52) - 1.0, 1e9 + 7.0];
    for a in &points {
        for b in &points {
            for (k, &mi) in masses.iter().enumerate() {
                let mj = masses[(k * 2 + 1) % masses.len()];
                let d = separation(*a, *b);
                let r = (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]).sqrt().max(1.0);
                // Impulses of 2⁵⁰, of half a quantum, of nothing at all; the last factor is subnormal.
                for size in [0.9 * exp2(50), 0.5, 1e-9, 1e-290] {
                    let factor = size * r * r / (mi * mj);
                    for softening2 in [0.25, 1e30] {
                        let kick = Kick { factor, softening2 };
                        let there = native64::impulse(separation(*a, *b), [mi, mj], kick);
                        let back = native64::impulse(separation(*b, *a), [mj, mi], kick);
                        assert_eq!(there, back.map(|k| -k), "{a:?} {b:?} {mi} {mj} {kick:?}");
                        if a == b {
                            assert_eq!(there, [0; 3], "bodies at one place, softened, do not pull");
                        }
                    }
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------- the guard

/// Two bodies `distance` apart along x, among `others` bodies that weigh one quantum and are far off, and a kick for which the
/// pair's f·d is exactly `impulse`.
fn close_pair(impulse: f64, distance: i64, others: usize) -> (WorkingSet, Kick) {
    let heavy = 1_i64 << 30;
    let particle = |k: usize, x: [i64; 3], mass: i64| Particle {
        id: ParticleId(k as u64),
        position: Position(x),
        momentum: Momentum([0; 3]),
        mass: Mass { quanta: mass, pulls: true },
        radius: Radius(0),
    };
    let mut particles: Vec<Particle> =
        (0..others).map(|k| particle(k + 2, [1 << 50, (k as i64 + 1) << 40, 0], 1)).collect();
    particles.insert(others / 3, particle(0, [0; 3], heavy));
    particles.insert(others / 2 + 1, particle(1, [distance, 0, 0], heavy));
    // All numbers are powers of two but `impulse`, so nothing is rounded.
    let factor = impulse * (distance * distance) as f64 / exp2(60);
    (WorkingSet::of(&particles), Kick { factor, softening2: 0.0 })
}

fn ids(set: &WorkingSet, pair: PairOverflow) -> [u64; 2] {
    let mut ids = [set.id[pair.row], set.id[pair.column]];
    ids.sort_unstable();
    ids
}

#[test]
fn an_impulse_is_refused_from_two_to_the_51_on_and_the_pair_is_named_whichever_comes_first() {
    let limit = exp2(51);
    let sizes = [(0.5 * limit, true), (limit - 1.0, true), (limit - 0.75, true)];
    let too_large = [(limit - 0.5, false), (limit, false), (limit + 1.0, false), (4.0 * limit, false), (1e25, false)];
    for (size, fits) in sizes.into_iter().chain(too_large) {
        for distance in [1 << 20, -(1 << 20)] {
            for others in [2, 9, 14, 60, 700] {
                let (set, kick) = close_pair(size, distance, others);
                for &isa in Isa::available() {
                    let cpu = cpu(isa, 1 + others / 300);
                    let scene = format!("{size} {distance} {others} {isa}");
                    let mut impulse = Default::default();
                    let many = cpu
                        .impulses(&set, Contract::Native64, kick, true, &mut impulse)
                        .map_err(|pair| ids(&set, pair));
                    assert_eq!(many, if fits { Ok(()) } else { Err([0, 1]) }, "{scene}");
                    // The same through a whole step, which takes another way for a few bodies.
                    let plan = Plan {
                        contract: Contract::Native64,
                        kicks: vec![kick; 2],
                        strides: vec![Stride(0.0)],
                        guarded: true,
                        angular: false,
                    };
                    let due = Amounts::default();
                    let burst = propose(&cpu, &mut set.clone(), &mut Impulse::default(), &plan, &due, 1);
                    match burst.trouble {
                        None => assert!(fits, "{scene}"),
                        Some(Trouble::Impulse(pair)) => assert_eq!((fits, ids(&set, pair)), (false, [0, 1]), "{scene}"),
                        other => panic!("{scene}: {other:?}"),
                    }
                }
            }
        }
    }
}

#[test]
fn two_bodies_at_one_place_are_refused_without_softening_and_do_not_pull_with_it() {
    for others in [2, 14, 60] {
        let (mut set, kick) = close_pair(1.0, 1 << 20, others);
        let row = |id: u64| set.id.iter().position(|&k| k == id).expect("it is there");
        let (a, b) = (row(0), row(1));
        (0..3).for_each(|axis| set.position[axis][b] = set.position[axis][a]);
        for &isa in Isa::available() {
            let cpu = cpu(isa, 1);
            let refused = cpu
                .impulses(&set, Contract::Native64, kick, true, &mut Default::default())
                .map_err(|pair| ids(&set, pair));
            assert_eq!(refused, Err([0, 1]), "{others} {isa}");
            let softened = Kick { softening2: 1.0, ..kick };
            assert_eq!(
                impulses(&cpu, &set, Contract::Native64, softened, true),
                by_definition(&set, Contract::Native64, softened),
                "{others} {isa}"
            );
        }
    }
}

#[test]
fn no_particle_can_stand_where_padding_stands_and_the_last_corner_of_the_range_is_like_any_place() {
    let corner = (1_i64 << 61) - 1;
    for sources in [3, 20, 70] {
        let (mut set, kick) = crowd(sources, 3);
        let real: Vec<usize> = set.real_rows().collect();
        for padding in (0..set.rows()).filter(|row| !real.contains(row)) {
            assert!(set.position_at(padding).iter().any(|&x| x > corner), "{:?}", set.position_at(padding));
        }
        (0..3).for_each(|axis| set.position[axis][1] = corner);
        for &isa in Isa::available() {
            assert_eq!(
                impulses(&cpu(isa, 1), &set, Contract::Native64, kick, true),
                by_definition(&set, Contract::Native64, kick),
                "{sources} sources, {isa}"
            );
        }
    }
}

// ---------------------------------------------------------------------------------------------- drifts

#[test]
fn every_instruction_set_drifts_alike_and_to_the_nearest_quantum_however_large_the_momenta() {
    let mut random = Xorshift(99);
    let rows = 2000;
    let mut start = WorkingSet::with_room_for(rows, 24);
    let mut impulse: [Vec<i64>; 3] = std::array::from_fn(|_| vec![0; start.rows()]);
    for row in start.real_rows() {
        for axis in 0..3 {
            start.position[axis][row] = random.integer(60);
            start.momentum[axis][row] = random.integer(61 - row as u32 % 50);
            impulse[axis][row] = random.integer(50);
        }
        start.mass[row] = 1.0 + (random.unit() * exp2(row as i32 % 52)).floor();
        start.inverse_mass[row] = 1.0 / start.mass[row];
    }
    for stride in [0.25, -0.25, 0.1, 1e-3, 7e-12] {
        let outcomes: Vec<_> = Isa::available()
            .iter()
            .map(|&isa| {
                let mut set = start.clone();
                let bookings = cpu(isa, 2).kick_and_drift(&mut set, &impulse, Contract::Native64, Stride(stride), true);
                (set.position, set.momentum, bookings)
            })
            .collect();

        for row in start.real_rows() {
            for axis in 0..3 {
                let p = start.momentum[axis][row] + impulse[axis][row];
                let (dx, _) = wide_product(p as f64, stride * start.inverse_mass[row]);
                assert_eq!(outcomes[0].0[axis][row], start.position[axis][row].wrapping_add(dx));
                assert_eq!(outcomes[0].1[axis][row], p);
            }
        }
        for (isa, outcome) in Isa::available().iter().zip(&outcomes) {
            assert!(*outcome == outcomes[0], "{isa} at stride {stride}");
        }
    }
}

/// Particles with positions within ±2^x_bits and momenta within ±2^p_bits, at these edges and everywhere between, and impulses
/// like the momenta.
fn at_the_edges(sources: usize, tests: usize, x_bits: u32, p_bits: u32) -> (WorkingSet, [Vec<i64>; 3]) {
    let mut random = Xorshift(sources as u64 + 7);
    let one_of = |random: &mut Xorshift, bits: u32| match random.bits() >> 61 {
        0 => i64::MAX >> (63 - bits),
        1 => i64::MIN >> (63 - bits),
        2 => 0,
        3 => -1,
        4 => random.integer(32),
        _ => random.integer(bits),
    };
    let particles: Vec<Particle> = (0..sources + tests)
        .map(|k| Particle {
            id: ParticleId(k as u64),
            position: Position(std::array::from_fn(|_| one_of(&mut random, x_bits))),
            momentum: Momentum(std::array::from_fn(|_| one_of(&mut random, p_bits))),
            mass: Mass { quanta: 1 + (random.integer(52) >> (k % 50)).abs(), pulls: k < sources },
            radius: Radius(0),
        })
        .collect();
    let set = WorkingSet::of(&particles);
    let mut impulse: [Vec<i64>; 3] = std::array::from_fn(|_| vec![0; set.rows()]);
    set.real_rows().for_each(|row| impulse.iter_mut().for_each(|axis| axis[row] = one_of(&mut random, p_bits)));
    (set, impulse)
}

/// Σ a × b over some rows, one by one, modulo 2¹²⁸.
fn crosses(rows: Range<usize>, a: impl Fn(usize) -> [i64; 3], b: impl Fn(usize) -> [i64; 3]) -> [i128; 3] {
    rows.fold([0; 3], |sum, row| add3(sum, cross(a(row), b(row))))
}

#[test]
fn what_is_booked_and_counted_is_the_sum_one_by_one_at_the_edges_of_every_range() {
    for (sources, tests) in [(1, 0), (7, 2), (64, 9), (1500, 70), (5000, 1200)] {
        // Momenta stay within ±2⁶² when they are kicked, and no drift is longer than 2⁶¹.
        let (start, impulse) = at_the_edges(sources, tests, 61, 61);
        let j = |row: usize| impulse.each_ref().map(|axis| axis[row]);
        for &isa in Isa::available() {
            let cpu = cpu(isa, 3);
            let scene = format!("{sources} + {tests} particles, {isa}");

            let mut moved = start.clone();
            let drifted = cpu.kick_and_drift(&mut moved, &impulse, Contract::Native64, Stride(0.3), true);
            let mut kicked = start.clone();
            let (counted, totals) = cpu.kick_and_count(&mut kicked, &impulse, true);

            let dx = |row: usize| -> [i64; 3] {
                let (to, from) = (moved.position_at(row), start.position_at(row));
                std::array::from_fn(|axis| to[axis].wrapping_sub(from[axis]))
            };
            let groups = [
                (start.source_rows(), drifted.sources, counted.sources),
                (start.test_rows(), drifted.tests, counted.tests),
            ];
            for (rows, drifted, counted) in groups {
                let gained = rows.clone().fold([0; 3], |sum, row| add3(sum, j(row).map(i128::from)));
                let torque = crosses(rows.clone(), |row| start.position_at(row), j);
                assert_eq!((drifted.impulse, counted.impulse), (gained, gained), "{scene}");
                assert_eq!((drifted.torque, counted.torque), (torque, torque), "{scene}");
                assert_eq!(drifted.sway, crosses(rows, dx, |row| moved.momentum_at(row)), "{scene}");
            }
            let all = 0..start.rows();
            let momentum = all.clone().fold([0; 3], |sum, row| add3(sum, kicked.momentum_at(row).map(i128::from)));
            let angular = crosses(all, |row| kicked.position_at(row), |row| kicked.momentum_at(row));
            assert_eq!((totals.momentum, totals.angular_momentum), (momentum, angular), "{scene}");
            assert_eq!(cpu.count(&kicked, true), totals, "{scene}");
        }
    }
}

/// Drifts a few bodies without a kick, then counts them.
struct FewDrift<'a>(&'a mut Few);

impl Kernel for FewDrift<'_> {
    type Output = (Bookings, Totals);

    #[inline(always)]
    fn run<const L: usize, const ADDS: bool>(self) -> Self::Output {
        let mut walk = Walk(self.0);
        let bookings = walk.kick_and_drift::<ADDS>(Stride(0.2), true);
        (bookings, walk.kick_and_count(true).1)
    }
}

#[test]
fn a_few_bodies_are_booked_and_counted_like_many_at_the_edges_of_every_range() {
    for (sources, tests) in [(1, 0), (3, 2), (8, 0), (9, 7), (16, 0)] {
        // Positions stay within ±2⁶¹ when they drift by up to 0.2·2⁶².
        let (start, impulse) = at_the_edges(sources, tests, 60, 62);
        let none = impulse.each_ref().map(|axis| vec![0; axis.len()]);
        for &isa in Isa::available() {
            let scene = format!("{sources} + {tests} particles, {isa}");
            let mut many = start.clone();
            let booked = cpu(isa, 1).kick_and_drift(&mut many, &none, Contract::Native64, Stride(0.2), true);
            let mut few = Few::of(&start).expect("they are few");

            let (few_booked, few_totals) = isa.run(FewDrift(&mut few));

            let mut after = start.clone();
            few.put_back(&mut after);
            assert_eq!((&after.position, &after.momentum), (&many.position, &many.momentum), "{scene}");
            let sway = |b: &Bookings| add3(b.sources.sway, b.tests.sway);
            let outside = |b: &Bookings| b.sources.outside | b.tests.outside != 0;
            assert_eq!(sway(&few_booked), sway(&booked), "{scene}");
            assert_eq!(outside(&few_booked), outside(&booked), "{scene}");
            assert_eq!(few_totals, cpu(isa, 1).count(&many, true), "{scene}");
        }
    }
}

#[test]
fn what_leaves_its_range_is_reported_and_is_no_panic() {
    for (sources, tests) in [(1, 0), (16, 0), (9, 7), (64, 9), (1500, 70)] {
        let (start, impulse) = at_the_edges(sources, tests, 63, 63);
        for &isa in Isa::available() {
            let scene = format!("{sources} + {tests} particles, {isa}");
            let cpu = cpu(isa, 1);
            let mut set = start.clone();
            let booked = cpu.kick_and_drift(&mut set, &impulse, Contract::Native64, Stride(3.0), true);
            assert_ne!(booked.sources.outside, 0, "{scene}");
            let (booked, _) = cpu.kick_and_count(&mut set, &impulse, true);
            assert_ne!(booked.sources.outside, 0, "{scene}");
            if let Some(mut few) = Few::of(&start) {
                assert_ne!(isa.run(FewDrift(&mut few)).0.sources.outside, 0, "{scene}");
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------- runs

/// Every contract with every splitting that is worth it: the first with all of them, the others with the shortest and one of many
/// stages.
fn runs() -> impl Iterator<Item = (Contract, &'static str)> {
    let native = INTEGRATORS.iter().map(|&integrator| (Contract::Native64, integrator));
    let others = Contract::ALL.into_iter().skip(1).flat_map(|contract| [(contract, "Leapfrog"), (contract, "Srkn6b")]);
    native.chain(others)
}

#[test]
fn momentum_is_the_same_integer_after_every_step_of_every_splitting() {
    for run in runs() {
        for sources in (2..=20).chain([200]) {
            for tests in [0, 3] {
                let start = state(sources, tests, run, if sources % 2 == 0 { 0.05 } else { 0.3 });
                let opening = momentum_of(&start.particles);
                let mut node = node(&start);
                for step in 1..=12 {
                    let scene = format!("{run:?}, {sources} + {tests} bodies, step {step}");
                    assert_eq!(node.advance(1), 1, "{scene}: {:?}", node.breaches());
                    let reaction = node.ledger().accounts.get(REACTION).map_or([0; 3], |held| held.momentum);
                    assert_eq!(add3(momentum_of(&node.particles()), reaction), opening, "{scene}");
                    assert_eq!(tests == 0, reaction == [0; 3], "{scene}");
                }
            }
        }
    }
}

#[test]
fn unsoftened_close_bodies_keep_momentum_too() {
    for run in runs() {
        let start = state(5, 2, run, 0.0);
        let opening = momentum_of(&start.particles);
        let mut node = node(&start);
        let steps = node.advance(300);
        assert_eq!(steps, 300, "{run:?}: {:?}", node.breaches());
        let reaction = node.ledger().accounts[REACTION].momentum;
        assert_eq!(add3(momentum_of(&node.particles()), reaction), opening, "{run:?}");
    }
}

/// A permutation of 0..n.
fn permutation(n: usize) -> Vec<usize> {
    let mut random = Xorshift(n as u64 + 31);
    let mut order: Vec<usize> = (0..n).collect();
    (1..n).for_each(|k| order.swap(k, (random.unit() * (k + 1) as f64) as usize));
    order
}

#[test]
fn neither_the_order_of_particles_nor_their_labels_nor_threads_show_in_a_bit() {
    for run in runs() {
        for (sources, tests) in [(2, 0), (9, 0), (16, 0), (12, 4), (20, 0), (64, 9), (300, 40)] {
            let start = state(sources, tests, run, 0.05);
            let order = permutation(sources + tests);
            let shuffled = State { particles: order.iter().map(|&k| start.particles[k]).collect(), ..start.clone() };
            let mut relabelled = start.clone();
            relabelled.particles.iter_mut().zip(&order).for_each(|(p, &k)| p.id = ParticleId(k as u64));

            let mut natural = node(&start);
            let mut shuffled = Node::new(shuffled, cpu(Isa::widest(), 7));
            let mut relabelled = Node::new(relabelled, cpu(Isa::SCALAR, 3));
            for node in [&mut natural, &mut shuffled, &mut relabelled] {
                assert_eq!(node.advance(20), 20);
            }

            let scene = format!("{run:?}, {sources} + {tests} bodies");
            assert_eq!(shuffled.root(), natural.root(), "{scene}");
            assert_eq!(shuffled.ledger(), natural.ledger(), "{scene}");
            let mut back = relabelled.particles();
            let label = |id: u64| order.iter().position(|&k| k as u64 == id).expect("a permutation") as u64;
            back.iter_mut().for_each(|p| p.id = ParticleId(label(p.id.0)));
            assert_eq!(root_of(&back), natural.root(), "{scene}");
        }
    }
}

#[test]
fn a_run_backwards_returns_to_the_first_root_and_empties_the_accounts() {
    for run in runs() {
        for (sources, tests) in [(2, 0), (7, 0), (12, 4), (16, 1), (50, 7), (200, 0)] {
            let start = state(sources, tests, run, 0.05);
            let steps = if sources < 17 { 400 } else { 40 };
            let mut node = node(&start);
            let first = node.root();
            assert_eq!(node.advance(steps), steps);
            assert_ne!(node.root(), first);

            node.reverse();
            assert_eq!(node.advance(steps), steps);

            let scene = format!("{run:?}, {sources} + {tests} bodies");
            assert_eq!(node.root(), first, "{scene}");
            assert_eq!(node.clock().step, 0, "{scene}");
            for (account, held) in &node.ledger().accounts {
                assert_eq!(held.without_energy(), Amounts::default(), "{scene}, {account}");
            }
        }
    }
}

#[test]
fn flipped_momenta_lead_back_to_the_first_root() {
    let flip = |state: &mut State| {
        state.particles.iter_mut().for_each(|p| p.momentum.0 = p.momentum.0.map(|p| -p));
        state.history = None;
        state.clock.step = 0;
    };
    for run in runs() {
        for (sources, tests) in [(2, 0), (12, 4), (40, 5)] {
            let start = state(sources, tests, run, 0.05);
            let mut forth = node(&start);
            assert_eq!(forth.advance(100), 100);
            let mut turned = forth.state();
            flip(&mut turned);
            let mut back = node(&turned);
            assert_eq!(back.advance(100), 100);
            let mut end = back.state();
            flip(&mut end);
            assert_eq!(root_of(&end.particles), root_of(&start.particles), "{run:?}, {sources} + {tests} bodies");
        }
    }
}

#[test]
fn sixteen_bodies_move_alike_with_and_without_tiles() {
    for integrator in INTEGRATORS {
        for sources in [2, 11, 16] {
            let few = state(sources, 0, (Contract::Native64, integrator), 0.05);
            // Far off, at rest and as light as can be: no impulse on it rounds to a quantum, so the books must not differ.
            let mut many = few.clone();
            many.particles.extend((sources..17).map(|k| Particle {
                id: ParticleId(k as u64),
                position: Position([(1 << 61) - 1000 * k as i64, 1 << 60, 0]),
                momentum: Momentum([0; 3]),
                mass: Mass { quanta: 1, pulls: false },
                radius: Radius(0),
            }));
            for &isa in Isa::available() {
                let scene = format!("{integrator}, {sources} bodies, {isa}");
                let mut few = Node::new(few.clone(), cpu(isa, 1));
                let mut many = Node::new(many.clone(), cpu(isa, 2));
                for _ in 0..5 {
                    assert_eq!((few.advance(13), many.advance(13)), (13, 13), "{scene}");
                    assert_eq!(few.particles()[..], many.particles()[..sources], "{scene}");
                    for account in [KICK_ROUNDING, DRIFT_ROUNDING] {
                        assert_eq!(few.ledger().accounts[account], many.ledger().accounts[account], "{scene}");
                    }
                }
                assert_ne!(few.ledger().accounts[KICK_ROUNDING], Amounts::default(), "{scene}");
            }
        }
    }
}

#[test]
fn every_instruction_set_runs_to_the_same_root_and_the_same_books() {
    for run in runs() {
        for (sources, tests) in [(6, 0), (5, 3), (100, 0), (90, 21)] {
            let start = state(sources, tests, run, 0.05);
            let outcomes: Vec<_> = Isa::available()
                .iter()
                .map(|&isa| {
                    let mut node = Node::new(start.clone(), cpu(isa, 1));
                    assert_eq!(node.advance(50), 50);
                    (node.root(), node.ledger().clone(), node.recount(), node.counted())
                })
                .collect();
            for (isa, outcome) in Isa::available().iter().zip(&outcomes) {
                assert_eq!(outcome, &outcomes[0], "{run:?}, {sources} + {tests} bodies, {isa}");
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------- the books

#[test]
fn angular_momentum_is_what_it_was_plus_what_was_booked() {
    for run in runs() {
        for (sources, tests) in [(3, 0), (12, 4), (60, 9)] {
            let start = state(sources, tests, run, 0.05);
            let opening = angular_momentum_of(&start.particles);
            let mut node = node(&start);
            for step in 1..=30 {
                assert_eq!(node.advance(1), 1);
                let booked = node.ledger().booked().angular_momentum;
                let scene = format!("{run:?}, {sources} + {tests} bodies, step {step}");
                assert_eq!(add3(angular_momentum_of(&node.particles()), booked), opening, "{scene}");
                assert_ne!(booked, [0; 3], "{scene}: rounding books something, or there is nothing to test");
            }
        }
    }
}

/// Walks one step kernel by kernel; returns every single booking line of angular momentum, in order.
fn lines_of_one_step(cpu: &Cpu, set: &mut WorkingSet, plan: &Plan) -> Vec<[i128; 3]> {
    let mut lines = Vec::new();
    for (stage, kick) in plan.kicks.iter().enumerate() {
        let impulse = impulses(cpu, set, plan.contract, *kick, true);
        let mut block = Block {
            position: set.position.each_mut().map(|axis| &mut axis[..]),
            momentum: set.momentum.each_mut().map(|axis| &mut axis[..]),
            inverse_mass: &set.inverse_mass,
            impulse: impulse.each_ref().map(|axis| &axis[..]),
        };
        lines.push(motion::kick(&mut block, true).torque);
        if let Some(&stride) = plan.strides.get(stage) {
            lines.push(motion::drift::<false>(&mut block, plan.contract, stride, true).sway);
        }
    }
    lines
}

#[test]
fn a_booking_line_that_is_left_out_is_noticed() {
    let cpu = cpu(Isa::widest(), 1);
    for splitting in integrator::ALL {
        let start = state(40, 3, (Contract::Native64, "Leapfrog"), 0.05);
        let mut set = WorkingSet::of(&start.particles);
        let plan = Plan::new(splitting, &start.law, &start.quanta, 0.01, (set.mass[0], set.sources), true);
        let opening = cpu.count(&set, true).angular_momentum;

        let lines = lines_of_one_step(&cpu, &mut set, &plan);

        let closing = cpu.count(&set, true).angular_momentum;
        let booked_without = |left_out: usize| {
            lines.iter().enumerate().filter(|(k, _)| *k != left_out).fold(opening, |sum, (_, line)| add3(sum, *line))
        };
        assert_eq!(booked_without(usize::MAX), closing, "{}", splitting.name);
        for k in 0..lines.len() {
            assert_ne!(booked_without(k), closing, "{}: line {k} of {} was not missed", splitting.name, lines.len());
        }
        // The same step, proposed by the engine, books the same.
        let mut again = WorkingSet::of(&start.particles);
        let due =
            Amounts { momentum: cpu.count(&again, false).momentum, angular_momentum: opening, ..Amounts::default() };
        let Burst { good, book, .. } = propose(&cpu, &mut again, &mut Impulse::default(), &plan, &due, 1);
        assert_eq!((good, add3(opening, book.gained().angular_momentum)), (1, closing), "{}", splitting.name);
        assert_eq!((again.position, again.momentum), (set.position, set.momentum), "{}", splitting.name);
    }
}

// ---------------------------------------------------------------------------------------------- red controls

/// Bodies for the smallest leapfrog there is, whose forces can be made in several ways, right and wrong.
#[derive(Clone, Debug, PartialEq)]
struct Swarm {
    x: Vec<[i64; 3]>,
    p: Vec<[i64; 3]>,
    m: Vec<f64>,
}

/// How forces become integers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rounding {
    /// By the contract: each pair once, to nearest.
    PairToNearest,
    /// Each pair, downwards.
    PairDown,
    /// The float sum of all forces on a particle, to nearest.
    Particle,
}

impl Swarm {
    fn new(n: usize) -> (Self, Kick) {
        let mut random = Xorshift(n as u64);
        let vectors =
            |random: &mut Xorshift, bits| (0..n).map(|_| std::array::from_fn(|_| random.integer(bits))).collect();
        let x = vectors(&mut random, 50);
        let p = vectors(&mut random, 53);
        let m = (0..n).map(|_| (1.0 + random.unit() * exp2(20)).floor()).collect();
        // A typical pair gives 2⁴⁴ quanta: float sums of such numbers still have bits below a quantum, as any run has somewhere.
        (Self { x, p, m }, Kick { factor: 0.7 * exp2(106), softening2: exp2(94) })
    }

    fn permuted(&self, order: &[usize]) -> Self {
        Self {
            x: order.iter().map(|&k| self.x[k]).collect(),
            p: order.iter().map(|&k| self.p[k]).collect(),
            m: order.iter().map(|&k| self.m[k]).collect(),
        }
    }

    /// f·d of a pair, as a float.
    fn pull(&self, i: usize, j: usize, kick: Kick) -> [f64; 3] {
        let d = separation(self.x[i], self.x[j]);
        let r2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2] + kick.softening2;
        d.map(|d| (self.m[i] * self.m[j]) * kick.factor / (r2 * r2.sqrt()) * d)
    }

    fn impulse(&self, i: usize, kick: Kick, rounding: Rounding) -> [i64; 3] {
        let others = (0..self.x.len()).filter(|&j| j != i);
        let sum = |sum: [i64; 3], k: [i64; 3]| std::array::from_fn(|axis| sum[axis] + k[axis]);
        match rounding {
            Rounding::PairToNearest => others.fold([0; 3], |total, j| {
                let d = separation(self.x[i], self.x[j]);
                sum(total, native64::impulse(d, [self.m[i], self.m[j]], kick))
            }),
            Rounding::PairDown => {
                others.fold([0; 3], |total, j| sum(total, self.pull(i, j, kick).map(|k| k.floor() as i64)))
            }
            Rounding::Particle => {
                let add = |total: [f64; 3], k: [f64; 3]| std::array::from_fn(|axis| total[axis] + k[axis]);
                let total = others.fold([0.0; 3], |total: [f64; 3], j| add(total, self.pull(i, j, kick)));
                total.map(|k| k.round_ties_even() as i64)
            }
        }
    }

    /// Kick, drift, kick; backwards if `sign` is -1.
    fn step(&mut self, kick: Kick, sign: f64, rounding: Rounding) {
        let kick = Kick { factor: sign * kick.factor, ..kick };
        self.kick(kick, rounding);
        for i in 0..self.x.len() {
            for axis in 0..3 {
                self.x[i][axis] += wide_product(self.p[i][axis] as f64, sign * 0.05 / self.m[i] * exp2(12)).0;
            }
        }
        self.kick(kick, rounding);
    }

    fn kick(&mut self, kick: Kick, rounding: Rounding) {
        let impulses: Vec<_> = (0..self.x.len()).map(|i| self.impulse(i, kick, rounding)).collect();
        for (p, k) in self.p.iter_mut().zip(impulses) {
            *p = std::array::from_fn(|axis| p[axis] + k[axis]);
        }
    }

    fn momentum(&self) -> [i128; 3] {
        self.p.iter().fold([0; 3], |sum, p| add3(sum, p.map(i128::from)))
    }
}

/// What a way of rounding keeps in ten steps: momentum, independence of order, and the way back.
fn what_it_keeps(rounding: Rounding) -> [bool; 3] {
    let (start, kick) = Swarm::new(60);
    let order = permutation(60);
    let run = |mut swarm: Swarm, sign| {
        (0..10).for_each(|_| swarm.step(kick, sign, rounding));
        swarm
    };
    let end = run(start.clone(), 1.0);
    let shuffled = run(start.permuted(&order), 1.0);
    let back = run(end.clone(), -1.0);
    assert_ne!(end, start);
    [end.momentum() == start.momentum(), shuffled == end.permuted(&order), back == start]
}

#[test]
fn a_pair_rounded_to_nearest_keeps_momentum_order_and_the_way_back() {
    assert_eq!(what_it_keeps(Rounding::PairToNearest), [true, true, true]);
}

#[test]
fn red_control_rounding_down_breaks_momentum_and_the_way_back() {
    assert_eq!(what_it_keeps(Rounding::PairDown), [false, true, false]);
}

#[test]
fn red_control_rounding_per_particle_breaks_momentum_and_depends_on_order() {
    assert_eq!(what_it_keeps(Rounding::Particle), [false, false, true]);
}

#[test]
fn red_control_a_float_sum_of_forces_is_not_zero_and_depends_on_order() {
    let (swarm, kick) = Swarm::new(200);
    let order = permutation(200);
    let force_on = |i: usize, others: &mut dyn Iterator<Item = usize>| {
        others.filter(|&j| j != i).fold([0.0; 3], |total: [f64; 3], j| {
            let k = swarm.pull(i, j, kick);
            std::array::from_fn(|axis| total[axis] + k[axis])
        })
    };
    let natural: Vec<[f64; 3]> = (0..200).map(|i| force_on(i, &mut (0..200))).collect();
    let shuffled: Vec<[f64; 3]> = (0..200).map(|i| force_on(i, &mut order.iter().copied())).collect();
    let net: [f64; 3] = std::array::from_fn(|axis| natural.iter().map(|f| f[axis]).sum());

    assert_ne!(natural, shuffled);
    assert_ne!(net, [0.0; 3]);
}
