//! The f32 contracts: unique pairs per second of one thread, force error against f64, share of near pairs of blocks.
//!
//! Beside every figure stands a hash of all impulses: equal bits, or the speed means nothing.
#![expect(
    clippy::disallowed_methods,
    reason = "a scene for measurements, which need not be the same on every platform"
)]

use emmy::{
    backend::isa::{Isa, Kernel},
    force::{
        Kick,
        fast32::{KickFast, Rule},
        fast32_blocks::Blocks,
        fast32_kernel::{Strip, strip},
        kernel::{Bodies, Mode, Sums},
        portable32::Kick32,
        portable32_kernel,
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

    fn cube(n: usize, softening: f64, bits: i32) -> Self {
        Self::new("cube", n, 2f64.powi(46), softening, bits, |random| {
            std::array::from_fn(|_| 2.0 * random.unit() - 1.0)
        })
    }

    /// Plummer's sphere with scale length 1, cut at 50.
    fn plummer(n: usize, softening: f64, bits: i32) -> Self {
        Self::new("plummer", n, 2f64.powi(41), softening, bits, |random| {
            loop {
                let r = 1.0 / (random.unit().powf(-2.0 / 3.0) - 1.0).sqrt();
                if r < 50.0 {
                    return random.direction().map(|d| d * r);
                }
            }
        })
    }
}

fn bodies(set: &WorkingSet) -> Bodies<'_> {
    Bodies { position: set.position.each_ref().map(Vec::as_slice), mass: &set.mass }
}

struct Portable<'a>(&'a WorkingSet, Kick32, usize, usize, [&'a mut Sums; 2]);

impl Kernel for Portable<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const L: usize, const ADDS: bool>(self) {
        let Self(set, kick, first, second, [rows, columns]) = self;
        let bodies = bodies(set);
        let block = |first: usize| first..set.rows().min(first + 512);
        let mode = Mode { mutual: true, guarded: false, range_bits: 43 };
        portable32_kernel::tile::<L>(bodies, block(first), block(second), kick, mode, rows, columns).expect("in range");
    }
}

fn portable(isa: Isa, scene: &Scene) -> Columns {
    let set = &scene.set;
    let mut impulse: Columns = std::array::from_fn(|_| vec![0; set.rows()]);
    let (mut rows, mut columns) = (Sums::default(), Sums::default());
    let kick = Kick32::of(scene.kick);
    for first in (0..set.rows()).step_by(512) {
        for second in (first..set.rows()).step_by(512) {
            let len = |first: usize| 512.min(set.rows() - first);
            rows.reset(len(first));
            columns.reset(len(second));
            isa.run(Portable(set, kick, first, second, [&mut rows, &mut columns]));
            for (at, sums) in [(first, &rows), (second, &columns)] {
                for axis in 0..3 {
                    let sums = &sums.0[axis];
                    impulse[axis][at..].iter_mut().zip(sums).for_each(|(sum, part)| *sum += *part);
                }
            }
        }
    }
    impulse
}

struct Fast<'a>(&'a Blocks, usize, &'a KickFast, &'a mut Strip);

impl Kernel for Fast<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const L: usize, const ADDS: bool>(self) {
        let Self(blocks, row, kick, sums) = self;
        strip::<L>(blocks, row, blocks, row..blocks.count(), true, kick, sums).expect("in range");
    }
}

fn fast(isa: Isa, scene: &Scene, blocks: &mut Blocks) -> Columns {
    let set = &scene.set;
    let kick = KickFast::of(scene.kick, 48);
    blocks.arrange(bodies(set), &set.id, 0..set.sources, &kick);
    let mut sums: Columns = std::array::from_fn(|_| vec![0; blocks.count() * 64]);
    let mut part = Strip::default();
    for row in 0..blocks.count() {
        isa.run(Fast(blocks, row, &kick, &mut part));
        for axis in 0..3 {
            let add = |(sum, part): (&mut i64, &i64)| *sum += *part;
            sums[axis][row * 64..].iter_mut().zip(&part.on_rows[axis]).for_each(add);
            sums[axis][row * 64..].iter_mut().zip(&part.on_columns[axis]).for_each(add);
        }
    }
    let mut impulse: Columns = std::array::from_fn(|_| vec![0; set.rows()]);
    blocks.scatter(&sums, &mut impulse);
    impulse
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

fn near_share(scene: &Scene, blocks: &Blocks) -> f64 {
    let kick = KickFast::of(scene.kick, 48);
    let pairs: Vec<bool> = (0..blocks.count())
        .flat_map(|a| (a..blocks.count()).map(move |b| (a, b)))
        .map(|(a, b)| Rule::of(&blocks.bounds[a], &blocks.bounds[b], &kick).near)
        .collect();
    pairs.iter().filter(|&&near| near).count() as f64 / pairs.len() as f64
}

fn main() {
    let wide: Vec<Isa> = Isa::available().iter().copied().filter(|isa| isa.to_string().starts_with("avx")).collect();
    for n in [8192, 16_384] {
        for (fast_scene, portable_scene) in [
            (Scene::cube(n, 1e-2, 47), Scene::cube(n, 1e-2, 42)),
            (Scene::plummer(n, 1e-2, 47), Scene::plummer(n, 1e-2, 42)),
            (Scene::plummer(n, 1e-3, 47), Scene::plummer(n, 1e-3, 42)),
        ] {
            let pairs = (n * (n - 1) / 2) as f64;
            let name = fast_scene.name;
            for &isa in &wide {
                let (seconds, impulse) = best(10, || portable(isa, &portable_scene));
                let (rate, error, hash) = (pairs / seconds / 1e9, error(&portable_scene, &impulse), hash(&impulse));
                println!("{name:8} {n:6} portable32 {isa:7} {rate:6.3} Gpairs/s  rms {error:.1e}  {hash:016x}");
                let mut blocks = Blocks::default();
                let (seconds, impulse) = best(10, || fast(isa, &fast_scene, &mut blocks));
                let kick = KickFast::of(fast_scene.kick, 48);
                let (arranging, ()) =
                    best(5, || blocks.arrange(bodies(&fast_scene.set), &fast_scene.set.id, 0..n, &kick));
                let (rate, error) = (pairs / seconds / 1e9, crate::error(&fast_scene, &impulse));
                let (near, share, hash) =
                    (near_share(&fast_scene, &blocks), arranging / seconds, crate::hash(&impulse));
                println!(
                    "{name:8} {n:6} fast32     {isa:7} {rate:6.3} Gpairs/s  rms {error:.1e}  {hash:016x}  near {near:.2}  \
                     arranging {share:.2}"
                );
            }
        }
    }
}
