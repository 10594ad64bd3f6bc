//! The published vectors of every contract, `assets/contracts/*.ron`: what any implementation must reproduce, here or elsewhere.
//!
//! Each pair is evaluated by the definition of its contract, by the CPU on every instruction set, and by a device where the
//! contract is portable; so is a cube of 1 024 bodies. The files were made by the CPU (see `print_vectors`) and checked with exact
//! rationals by another program, in another language.

use emmy::{
    backend::{
        cpu::Cpu,
        gpu::{Gpu, Stages, adapter::Adapters, device::Device},
        isa::Isa,
    },
    contract::Contract,
    force::{
        Kick,
        fast32::{self, Bounds, KickFast, Rule},
        native64,
        portable32::{self, Kick32},
        portable64, separation,
    },
    integrator::kernel::Stride,
    particle::{Mass, Momentum, Particle, ParticleId, Position, Radius, WorkingSet},
    quanta::exp2,
};
use serde::Deserialize;

const FILES: [(Contract, &str); 4] = [
    (Contract::Native64, include_str!("../assets/contracts/native64.ron")),
    (Contract::Portable64, include_str!("../assets/contracts/portable64.ron")),
    (Contract::Portable32, include_str!("../assets/contracts/portable32.ron")),
    (Contract::Fast32, include_str!("../assets/contracts/fast32.ron")),
];

/// A file of `assets/contracts`: what a contract makes of some pairs, and of a cube of bodies.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    contract: Contract,
    version: u32,
    pairs: Vec<Pair>,
    cube: Cube,
}

/// `factor` and `softening2`: bit patterns of f64, in quanta.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    from: (i64, i64, i64),
    to: (i64, i64, i64),
    masses: (i64, i64),
    factor: String,
    softening2: String,
    impulse: (i64, i64, i64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cube {
    bodies: usize,
    position_bits: u32,
    factor: String,
    softening2: String,
    hash: String,
}

impl Pair {
    fn kick(&self) -> Kick {
        kick_of(&self.factor, &self.softening2)
    }

    fn places(&self) -> [[i64; 3]; 2] {
        [self.from.into(), self.to.into()]
    }

    /// The two bodies, at rest.
    fn set(&self) -> WorkingSet {
        let (places, masses) = (self.places(), <[i64; 2]>::from(self.masses));
        let body = |k: usize| particle(k, places[k], masses[k]);
        WorkingSet::of(&[body(0), body(1)])
    }
}

fn bits(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a bit pattern")
}

fn kick_of(factor: &str, softening2: &str) -> Kick {
    Kick { factor: f64::from_bits(bits(factor)), softening2: f64::from_bits(bits(softening2)) }
}

fn vectors(contract: Contract) -> Vectors {
    let text = FILES.iter().find(|(of, _)| *of == contract).expect("every contract has a file").1;
    let vectors: Vectors = ron::from_str(text).expect("a file of vectors");
    assert_eq!((vectors.contract, vectors.version), (contract, Contract::VERSION));
    assert!(vectors.pairs.len() >= 24, "{contract}: {} pairs", vectors.pairs.len());
    vectors
}

/// One pair, by the definition of its contract.
fn by_definition(contract: Contract, [from, to]: [[i64; 3]; 2], masses: [i64; 2], kick: Kick) -> [i64; 3] {
    let as_f64 = masses.map(|mass| mass as f64);
    match contract {
        Contract::Native64 => native64::impulse(separation(from, to), as_f64, kick),
        Contract::Portable64 => portable64::impulse(separation(from, to), as_f64, kick),
        Contract::Portable32 => {
            portable32::impulse(portable32::separation(from, to), as_f64.map(|mass| mass as f32), Kick32::of(kick))
        }
        Contract::Fast32 => {
            let kick = KickFast::of(kick, 51);
            let strengths = as_f64.map(|mass| kick.strength(mass));
            let mut blocks = [Bounds::EMPTY; 2];
            blocks[0].add(from, strengths[0]);
            blocks[1].add(to, strengths[1]);
            fast32::impulse(from, to, strengths, &kick, &Rule::of(&blocks[0], &blocks[1], &kick))
        }
    }
}

fn particle(id: usize, position: [i64; 3], mass: i64) -> Particle {
    Particle {
        id: ParticleId(id as u64),
        position: Position(position),
        momentum: Momentum([0; 3]),
        mass: Mass { quanta: mass, pulls: true },
        radius: Radius(0),
    }
}

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
    fn place(&mut self, bits: u32) -> [i64; 3] {
        std::array::from_fn(|_| (self.bits() as i64) >> (63 - bits))
    }
}

/// Bodies in a cube of ±2^`bits` quanta with masses from 2¹⁹ to 2²⁰.
fn cube(bodies: usize, bits: u32) -> WorkingSet {
    let mut random = Xorshift(88_172_645_463_325_252);
    let body = |k| particle(k, random.place(bits), (1 << 19) + (random.bits() >> 45) as i64);
    WorkingSet::of(&(0..bodies).map(body).collect::<Vec<_>>())
}

/// FNV-1a over the little-endian bytes of x, y, z of every body in turn.
fn fnv(impulse: &[Vec<i64>; 3], n: usize) -> u64 {
    let values = (0..n).flat_map(|row| impulse.each_ref().map(|axis| axis[row]));
    values
        .flat_map(i64::to_le_bytes)
        .fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn on_cpu(isa: Isa, contract: Contract, set: &WorkingSet, kick: Kick) -> [Vec<i64>; 3] {
    let mut impulse = Default::default();
    let cpu = Cpu::new(isa, 2).expect("threads start");
    cpu.impulses(set, contract, kick, true, &mut impulse).expect("impulses are in range");
    impulse
}

fn device(contract: Contract) -> Gpu {
    let name = std::env::var("EMMY_DEVICE").unwrap_or_else(|_| "llvmpipe".to_owned());
    let adapters = Adapters::find();
    let opened = adapters.choose(Some(&name)).and_then(Device::open).and_then(|device| Gpu::new(device, contract));
    opened.unwrap_or_else(|error| panic!("{error}: {}", error.remedy()))
}

/// Impulses from a step in which nothing drifts: bodies at rest then have twice the impulse.
fn on_device(gpu: &mut Gpu, set: &WorkingSet, kick: Kick) -> [Vec<i64>; 3] {
    let stages = Stages { kicks: &[kick, kick], strides: &[Stride(0.0)], guarded: true, angular: false };
    gpu.upload(set).expect("two bodies fit");
    gpu.propose(&stages, 1, |record| {
        // Bodies on the very edge of the range count as outside; their impulse is right all the same.
        assert!(!record.pair_out_of_range);
        true
    })
    .expect("the device works");
    let mut moved = set.clone();
    gpu.download(&mut moved).expect("the device works");
    assert_eq!(moved.position, set.position);
    moved.momentum.map(|axis| {
        assert!(axis.iter().all(|p| p % 2 == 0));
        axis.iter().map(|p| p / 2).collect()
    })
}

#[test]
fn definitions_reproduce_the_vectors_and_action_is_minus_reaction() {
    for contract in Contract::ALL {
        for pair in vectors(contract).pairs {
            let [from, to] = pair.places();
            let found = by_definition(contract, [from, to], pair.masses.into(), pair.kick());
            assert_eq!(found, <[i64; 3]>::from(pair.impulse), "{contract}: {from:?} to {to:?}");
            let back = by_definition(contract, [to, from], [pair.masses.1, pair.masses.0], pair.kick());
            assert_eq!(back, found.map(|k| -k), "{contract}: {to:?} to {from:?}");
        }
    }
}

#[test]
fn the_cpu_reproduces_the_vectors_on_every_instruction_set() {
    for contract in Contract::ALL {
        let vectors = vectors(contract);
        for &isa in Isa::available() {
            // Two bodies of one block have another rule than two blocks of one body.
            for pair in vectors.pairs.iter().filter(|_| contract != Contract::Fast32) {
                let impulse = on_cpu(isa, contract, &pair.set(), pair.kick());
                let found: [i64; 3] = std::array::from_fn(|axis| impulse[axis][0]);
                assert_eq!(found, <[i64; 3]>::from(pair.impulse), "{contract}, {isa}: {:?}", pair.places());
            }
            let Cube { bodies, position_bits, factor, softening2, hash } = &vectors.cube;
            let impulse = on_cpu(isa, contract, &cube(*bodies, *position_bits), kick_of(factor, softening2));
            assert_eq!(fnv(&impulse, *bodies), bits(hash), "{contract}, {isa}: {:016x}", fnv(&impulse, *bodies));
        }
    }
}

#[test]
fn a_device_reproduces_the_vectors_of_the_portable_contracts() {
    for contract in Contract::ALL.into_iter().filter(|contract| contract.is_portable()) {
        let (vectors, mut gpu) = (vectors(contract), device(contract));
        for pair in &vectors.pairs {
            let impulse = on_device(&mut gpu, &pair.set(), pair.kick());
            let found: [i64; 3] = std::array::from_fn(|axis| impulse[axis][0]);
            assert_eq!(found, <[i64; 3]>::from(pair.impulse), "{contract}: {:?}", pair.places());
        }
        let Cube { bodies, position_bits, factor, softening2, hash } = &vectors.cube;
        let impulse = on_device(&mut gpu, &cube(*bodies, *position_bits), kick_of(factor, softening2));
        assert_eq!(fnv(&impulse, *bodies), bits(hash), "{contract}: {:016x}", fnv(&impulse, *bodies));
    }
}

/// Pairs at the edges, at one place and at random; each impulse half as large as the one before.
fn some_pairs(contract: Contract) -> Vec<([[i64; 3]; 2], [i64; 2], Kick)> {
    let (position, strongest) = (contract.position_bits(), contract.impulse_bits(2) as i32 - 1);
    let mut random = Xorshift(0x2545_f491_4f6c_dd1d);
    let pair = |k: u32| {
        let places = match k {
            0 => [[0; 3], [2, 0, 0]],
            1 => [[7, -9, 11], [7, -9, 11]],
            2 => [[-(1 << position); 3], [1 << position; 3]],
            3 => [[(1 << 24) + 1, 0, -(1 << 23)], [-(1 << 24) - 1, 1, (1 << 23) - 1]],
            _ => [random.place(position - k), random.place(position - k)],
        };
        let masses = [1 + (random.bits() >> (12 + k)) as i64, 1 + (random.bits() >> 12) as i64];
        let d = |axis: usize| (places[1][axis] - places[0][axis]) as f64;
        let r2 = (0..3).map(|axis| d(axis) * d(axis)).sum::<f64>().max(1.0);
        let softening2 = if k == 1 || k.is_multiple_of(3) { 0.37 * r2 } else { 0.0 };
        let size = exp2(strongest - 1 - k as i32) * if k.is_multiple_of(2) { 0.7 } else { -0.9 };
        (places, masses, Kick { factor: size * r2 / (masses[0] as f64 * masses[1] as f64), softening2 })
    };
    (0..36).map(pair).collect()
}

#[test]
#[ignore = "prints vectors, for a new version of a contract: cargo test --test contracts -- --ignored --nocapture"]
fn print_vectors() {
    for contract in Contract::ALL {
        println!("(\n    contract: {contract},\n    version: {},\n    pairs: [", Contract::VERSION);
        let triple = |v: [i64; 3]| format!("({}, {}, {})", v[0], v[1], v[2]);
        for (places, masses, kick) in some_pairs(contract) {
            let impulse = by_definition(contract, places, masses, kick);
            let [from, to, impulse] = [places[0], places[1], impulse].map(triple);
            let (factor, softening2) = (kick.factor.to_bits(), kick.softening2.to_bits());
            println!("        (\n            from: {from}, to: {to}, masses: ({}, {}),", masses[0], masses[1]);
            println!("            factor: \"{factor:#018x}\", softening2: \"{softening2:#018x}\",");
            println!("            impulse: {impulse},\n        ),");
        }
        // Two of the largest masses, at the distance where they pull most, give half of what can be held.
        let (bodies, position) = (1024, contract.position_bits() - 1);
        let softening2 = 0.81 * exp2(2 * (position as i32 - 8));
        let factor = 2.598 * softening2 * exp2(contract.impulse_bits(bodies) as i32 - 2 - 40);
        let impulse = on_cpu(Isa::SCALAR, contract, &cube(bodies, position), Kick { factor, softening2 });
        let (factor, softening2, hash) = (factor.to_bits(), softening2.to_bits(), fnv(&impulse, bodies));
        println!("    ],\n    cube: (\n        bodies: {bodies}, position_bits: {position},");
        println!(
            "        factor: \"{factor:#018x}\", softening2: \"{softening2:#018x}\", hash: \"{hash:#018x}\",\n    ),\n)"
        );
    }
}
