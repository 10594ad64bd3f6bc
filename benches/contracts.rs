//! Every contract: unique pairs per second of one thread, force error against f64, share of near pairs of blocks.
//!
//! Beside every figure stands a hash of all impulses: equal bits, or the speed means nothing.
#![expect(
    clippy::disallowed_methods,
    reason = "a scene for measurements, which need not be the same on every platform"
)]

use emmy::{
    backend::{cpu::Cpu, isa::Isa},
    contract::Contract,
    force::{
        Kick,
        fast32::{KickFast, Rule},
        fast32_blocks::Blocks,
        kernel::Bodies,
    },
    metrics::Stopwatch,
    particle::WorkingSet,
};

type Columns = [Vec<i64>; 3];

struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn direction(&mut self) -> [f64; 3] {
        let z = 2.0 * self.unit() - 1.0;
        let (sin, cos) = (std::f64::consts::TAU * self.unit()).sin_cos();
        let r = (1.0 - z * z).sqrt();
        [r * cos, r * sin, z]
    }
}

/// A scene, the quanta in its unit of length, and its softening.
struct Scene {
    name: &'static str,
    set: WorkingSet,
    kick: Kick,
}

impl Scene {
    /// `n` bodies at `place(random)` with masses near 2⁵⁰ quanta; the strongest impulse possible is just below 2^`bits`.
    fn new(
        name: &'static str,
        n: usize,
        unit: f64,
        softening: f64,
        bits: i32,
        place: impl Fn(&mut Random) -> [f64; 3],
    ) -> Self {
        let mut random = Random(88_172_645_463_325_252);
        let mut set = WorkingSet::with_room_for(n, 0);
        let mut mass: f64 = 0.0;
        for row in 0..n {
            let p = place(&mut random);
            for axis in 0..3 {
                set.position[axis][row] = (p[axis] * unit).round() as i64;
            }
            set.mass[row] = ((0.5 + random.unit()) * 2f64.powi(50)).floor();
            set.id[row] = row as u64;
            mass = mass.max(set.mass[row]);
        }
        let softening2 = (softening * unit).powi(2);
        let factor = 2f64.powi(bits) * 0.97 * softening2 * (1.5 * 3f64.sqrt()) / (mass * mass);
        Self { name, set, kick: Kick { factor, softening2 } }
    }

    fn cube(name: &'static str, n: usize, softening: f64, bits: i32) -> Self {
        Self::new(name, n, 2f64.powi(46), softening, bits, |random| std::array::from_fn(|_| 2.0 * random.unit() - 1.0))
    }

    /// Plummer's sphere with scale length 1, cut at 50.
    fn plummer(name: &'static str, n: usize, softening: f64, bits: i32) -> Self {
        Self::new(name, n, 2f64.powi(41), softening, bits, |random| {
            loop {
                let r = 1.0 / (random.unit().powf(-2.0 / 3.0) - 1.0).sqrt();
                if r < 50.0 {
                    return random.direction().map(|d| d * r);
                }
            }
        })
    }
}

/// Forces of every 16th body in f64, and the rms relative error of `impulse` there.
fn error(scene: &Scene, impulse: &Columns) -> f64 {
    let (set, kick) = (&scene.set, scene.kick);
    let (mut sum, mut count) = (0.0, 0.0);
    for i in (0..set.sources).step_by(16) {
        let mut force = [0.0; 3];
        for j in (0..set.sources).filter(|&j| j != i) {
            let d: [f64; 3] = std::array::from_fn(|axis| (set.position[axis][j] - set.position[axis][i]) as f64);
            let r2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2] + kick.softening2;
            let f = set.mass[i] * set.mass[j] * kick.factor / (r2 * r2.sqrt());
            (0..3).for_each(|axis| force[axis] += f * d[axis]);
        }
        let norm2 = |v: [f64; 3]| v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
        sum += norm2(std::array::from_fn(|axis| impulse[axis][i] as f64 - force[axis])) / norm2(force);
        count += 1.0;
    }
    (sum / count).sqrt()
}

fn hash(impulse: &Columns) -> u64 {
    let bytes = impulse.iter().flatten().flat_map(|v| v.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Best of several runs [s].
fn best<T>(repeats: usize, mut work: impl FnMut() -> T) -> (f64, T) {
    let mut best = f64::INFINITY;
    let mut last = None;
    for _ in 0..repeats {
        let watch = Stopwatch::start();
        last = Some(work());
        best = best.min(watch.seconds());
    }
    (best, last.expect("at least one run"))
}

/// The share of near pairs of blocks under `fast32`.
fn near_share(scene: &Scene) -> f64 {
    let set = &scene.set;
    let kick = KickFast::of(scene.kick, 48);
    let mut blocks = Blocks::default();
    let bodies = Bodies { position: set.position.each_ref().map(Vec::as_slice), mass: &set.mass };
    blocks.arrange(bodies, &set.id, 0..set.sources, &kick);
    let count = blocks.count();
    let pairs = (0..count).flat_map(|a| (a..count).map(move |b| (a, b)));
    let near = pairs.filter(|&(a, b)| Rule::of(&blocks.bounds[a], &blocks.bounds[b], &kick).near).count();
    near as f64 / (count * (count + 1) / 2) as f64
}

fn measure(scene: &Scene, contract: Contract, isa: Isa) {
    let cpu = Cpu::new(isa, 1).expect("one thread");
    let (seconds, impulse) = best(10, || {
        let mut impulse = Default::default();
        cpu.impulses(&scene.set, contract, scene.kick, false, &mut impulse).expect("in range");
        impulse
    });
    let rate = scene.set.pairs() as f64 / seconds / 1e9;
    let (error, hash, bodies) = (error(scene, &impulse), hash(&impulse), scene.set.sources);
    print!("{:18} {bodies:6} {contract:10} {isa:7} {rate:6.3} Gpairs/s  rms {error:.1e}  {hash:016x}", scene.name);
    let near = (contract == Contract::Fast32).then(|| format!("  near {:.2}", near_share(scene)));
    println!("{}", near.unwrap_or_default());
}

fn main() {
    let wide: Vec<Isa> = Isa::available().iter().copied().filter(|isa| isa.to_string().starts_with("avx")).collect();
    for (n, contract) in [8192, 16_384].into_iter().flat_map(|n| Contract::ALL.map(|contract| (n, contract))) {
        // The strongest pairs use all bits but a few, as a scenario would have it.
        let bits = contract.impulse_bits(n) as i32 - 1;
        let scenes = [
            Scene::cube("cube, eps 1e-2", n, 1e-2, bits),
            Scene::plummer("plummer, eps 1e-2", n, 1e-2, bits),
            Scene::plummer("plummer, eps 1e-3", n, 1e-3, bits),
        ];
        for scene in &scenes {
            wide.iter().for_each(|&isa| measure(scene, contract, isa));
        }
    }
}
