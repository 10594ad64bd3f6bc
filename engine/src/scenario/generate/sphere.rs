//! Spheres of equal masses about the origin: Plummer's, Hernquist's and the uniform one.

use std::f64::consts::SQRT_2;

use super::Particle;
use super::random::Random;
use crate::math::{self, Sum};

/// Hernquist spheres end at this many scale radii. Without an end a particle in a thousand would be at a thousand.
const HERNQUIST_EXTENT: f64 = 100.0;

/// Plummer's sphere in equilibrium after S. Aarseth, M. Hénon and R. Wielen, Astron. Astrophys. 37, 183 (1974), without an
/// outer end.
pub(super) fn plummer(
    count: u64,
    mass: f64,
    radius: f64,
    gravity: f64,
    mut random: Random,
    particles: &mut Vec<Particle>,
) {
    let each = mass / count as f64;
    let speed_unit = (gravity * mass / radius).sqrt();
    particles.extend((0..count).map(|_| {
        let (distance, speed) = plummer_orbit(&mut random);
        let position = scaled(random.direction(), radius * distance);
        let velocity = scaled(random.direction(), speed_unit * speed);
        Particle::new(each, position, velocity)
    }));
}

/// Distance and speed, in units in which G, mass and scale radius are 1.
///
/// With c the cube root of the enclosed mass X, the paper's r = (X^(-2/3) - 1)^(-1/2) is c/s, where s² = 1 - c², and its
/// velocity of escape √2 (1 + r²)^(-1/4) is √2 √s: one cube root and two square roots do.
#[inline]
pub(super) fn plummer_orbit(random: &mut Random) -> (f64, f64) {
    let c = math::cbrt(random.unit());
    let s = ((1.0 - c) * (1.0 + c)).sqrt();
    (c / s, plummer_speed(random) * SQRT_2 * s.sqrt())
}

/// The speed as a part of that of escape, from g(q) = q² (1 - q²)^(7/2), which is below 0.1. Squares are compared: no root.
#[inline]
fn plummer_speed(random: &mut Random) -> f64 {
    loop {
        let q = random.unit();
        let y = 0.1 * random.unit();
        let square = q * q;
        let rest = 1.0 - square;
        let rest_3 = rest * rest * rest;
        if y * y < square * square * rest_3 * rest_3 * rest {
            return q;
        }
    }
}

/// Hernquist's sphere in equilibrium (L. Hernquist, Astrophys. J. 356, 359 (1990)): radii from his mass profile
/// M(r) = M r²/(r + a)², cut at 100 a, isotropic velocities from his distribution function of the energy.
pub(super) fn hernquist(
    count: u64,
    mass: f64,
    radius: f64,
    gravity: f64,
    mut random: Random,
    particles: &mut Vec<Particle>,
) {
    let root_max = HERNQUIST_EXTENT / (1.0 + HERNQUIST_EXTENT);
    let enclosed_max = root_max * root_max;
    let each = mass * enclosed_max / count as f64;
    let speed_unit = (gravity * mass / radius).sqrt();
    particles.extend((0..count).map(|_| {
        let root = (random.unit() * enclosed_max).sqrt();
        let distance = root / (1.0 - root);
        let position = scaled(random.direction(), radius * distance);
        let speed = hernquist_speed(distance, &mut random);
        Particle::new(each, position, scaled(random.direction(), speed_unit * speed))
    }));
}

/// The largest value of [`hernquist_factor`], which falls from here, at q = 0, to 3π/2 at q = 1.
const HERNQUIST_FACTOR_MAX: f64 = 25.6;

/// The speed at a distance, in units in which G, mass and scale radius are 1, from v² f(E).
///
/// With x the speed as a part of that of escape and b the distance, the square of Hernquist's q is (1 - x²)/(1 + b), and
/// f is, up to a constant, C(q) q⁵ (1 - q²)^(-5/2) with a tame C. So the density of x is C(q) k(x), where
/// k(x) = x² ((1 - x²)/(b + x²))^(5/2) has its largest value where y = x² solves y² + (3/2 + 7b/2) y - b = 0.
/// A candidate passes k first and C, which is dearer, second.
fn hernquist_speed(distance: f64, random: &mut Random) -> f64 {
    let b = distance;
    let kernel = |y: f64| {
        let ratio = (1.0 - y) / (b + y);
        y * ratio * ratio * ratio.sqrt()
    };
    let half = 1.5 + 3.5 * b;
    let kernel_max = kernel(2.0 * b / (half + (half * half + 4.0 * b).sqrt()));
    loop {
        let x = random.unit();
        let y = x * x;
        if random.unit() * kernel_max < kernel(y) {
            let q = ((1.0 - y) / (1.0 + b)).sqrt();
            if random.unit() * HERNQUIST_FACTOR_MAX < hernquist_factor(q) {
                return x * (2.0 / (1.0 + b)).sqrt();
            }
        }
    }
}

/// The bracket of Hernquist's distribution function, 3 asin q + q √(1 - q²) (1 - 2q²) (8q⁴ - 8q² - 3), divided by q⁵.
/// Its first two powers cancel; where that would cost digits the next two, 128/5 q⁵ - 192/7 q⁷, stand for it.
fn hernquist_factor(q: f64) -> f64 {
    let square = q * q;
    if q < 0.01 {
        return 25.6 - square * (192.0 / 7.0);
    }
    let polynomial = (1.0 - 2.0 * square) * (8.0 * square * square - 8.0 * square - 3.0);
    let bracket = 3.0 * math::asin(q.min(1.0)) + q * (1.0 - square).max(0.0).sqrt() * polynomial;
    bracket / (square * square * q)
}

/// A uniform ball; velocities are normal, and scaled afterwards.
pub(super) fn uniform(count: u64, mass: f64, radius: f64, mut random: Random, particles: &mut Vec<Particle>) {
    let each = mass / count as f64;
    particles.extend((0..count).map(|_| {
        let distance = radius * math::cbrt(random.unit());
        let position = scaled(random.direction(), distance);
        Particle::new(each, position, random.normal_triple())
    }));
}

/// Scales all velocities to a kinetic energy. What is at rest stays so.
pub(super) fn set_kinetic_energy(particles: &mut [Particle], wanted: f64) {
    let mut energy = Sum::default();
    for particle in &*particles {
        energy.add(0.5 * particle.mass * dot(particle.velocity, particle.velocity));
    }
    let factor = if energy.total() > 0.0 { (wanted / energy.total()).sqrt() } else { 0.0 };
    for particle in particles {
        particle.velocity = scaled(particle.velocity, factor);
    }
}

#[inline]
pub(super) fn scaled(vector: [f64; 3], factor: f64) -> [f64; 3] {
    [vector[0] * factor, vector[1] * factor, vector[2] * factor]
}

pub(super) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_of_hernquist_falls_from_its_bound() {
        let values: Vec<f64> = (1..=10_000).map(|k| hernquist_factor(f64::from(k) * 1e-4)).collect();

        assert!(values[0] <= HERNQUIST_FACTOR_MAX);
        // At small q the cancellation leaves 1e-7 of noise.
        assert!(values.windows(2).all(|pair| pair[1] < pair[0] + 1e-5));
        assert!((values[9_999] - 1.5 * std::f64::consts::PI).abs() < 1e-9);
    }

    #[test]
    fn the_speed_of_plummer_never_exceeds_that_of_escape() {
        let mut random = Random::new(3, 0);

        for _ in 0..100_000 {
            let (r, v) = plummer_orbit(&mut random);
            assert!(0.5 * v * v < 1.0 / (1.0 + r * r).sqrt(), "r {r}, v {v}");
        }
    }
}
