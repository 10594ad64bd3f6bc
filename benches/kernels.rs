//! Kernels: pairs per second by instruction set and threads, particles per second of the motions between force evaluations.
//!
//! Beside every force figure stands a hash of all impulses: equal bits, or the speed means nothing. The bodies are those of the
//! published test vectors, a uniform cube.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use emmy::{
    backend::{cpu::Cpu, isa::Isa},
    contract::Contract,
    force::Kick,
    integrator::kernel::Stride,
    particle::{Mass, Momentum, Particle, ParticleId, Position, Radius, WorkingSet},
};

/// `n` bodies uniform in a cube of half edge 2⁴⁶ quanta, within the range of every contract, from a xorshift generator.
fn cube(n: usize) -> WorkingSet {
    let mut state = 88_172_645_463_325_252_u64;
    let mut unit = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let far = (1_u64 << 46) as f64;
    let particles: Vec<Particle> = (0..n as u64)
        .map(|id| Particle {
            id: ParticleId(id),
            position: Position(std::array::from_fn(|_| ((unit() * 2.0 - 1.0) * far) as i64)),
            momentum: Momentum([id as i64, -7, 1 << 40]),
            mass: Mass { quanta: 1 + (unit() * 1e9) as i64, pulls: true },
            radius: Radius(0),
        })
        .collect();
    WorkingSet::of(&particles)
}

fn kick() -> Kick {
    let far2 = (1_u64 << 46) as f64 * (1_u64 << 46) as f64;
    // The strongest pairs give about 2³⁹ quanta.
    Kick { factor: 1.5e-10 * far2, softening2: 1e-4 * far2 }
}

/// FNV-1a over all impulses.
fn hash(impulse: &[Vec<i64>; 3]) -> u64 {
    let bytes = impulse.iter().flatten().flat_map(|v| v.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn force(c: &mut Criterion) {
    for n in [1024, 16_384] {
        let set = cube(n);
        let mut group = c.benchmark_group(format!("force/{n}"));
        group.throughput(Throughput::Elements(set.pairs()));
        let wide =
            Isa::available().iter().copied().filter(|isa| !["scalar", "sse2"].contains(&isa.to_string().as_str()));
        let runs: Vec<(Isa, usize)> = wide.map(|isa| (isa, 1)).chain([(Isa::widest(), 2)]).collect();
        for (contract, &(isa, threads)) in Contract::ALL.into_iter().flat_map(|c| runs.iter().map(move |run| (c, run)))
        {
            let cpu = Cpu::new(isa, threads).expect("threads start");
            let mut impulse = Default::default();
            let name = BenchmarkId::new(format!("{contract} {isa}"), format!("{threads} threads"));
            group.bench_function(name, |b| {
                b.iter(|| cpu.impulses(&set, contract, kick(), false, black_box(&mut impulse)))
            });
            println!("    impulses {:016x}", hash(&impulse));
        }
    }
}

fn motion(c: &mut Criterion) {
    const N: usize = 1_000_000;
    let mut set = cube(N);
    let impulse: [Vec<i64>; 3] = std::array::from_fn(|_| vec![1; set.rows()]);
    let mut group = c.benchmark_group("motion/1000000");
    group.throughput(Throughput::Elements(N as u64));
    let native = Contract::Native64;
    let portable = Contract::Portable64;
    let runs = [(native, 1, false), (native, 1, true), (native, 2, false), (native, 2, true), (portable, 1, true)];
    for (contract, threads, angular) in runs {
        let cpu = Cpu::new(Isa::widest(), threads).expect("threads start");
        let booked = if angular { "angular momentum booked" } else { "momentum only" };
        let name = BenchmarkId::new("kick, drift and audit", format!("{contract}, {threads} threads, {booked}"));
        let mut stride = Stride(1e-3);
        group.bench_function(name, |b| {
            b.iter(|| {
                // To and fro, so that positions stay in range however often this runs.
                stride.0 = -stride.0;
                black_box(cpu.kick_and_drift(&mut set, &impulse, contract, stride, angular));
                black_box(cpu.count(&set, angular))
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    targets = force, motion
}
criterion_main!(benches);
