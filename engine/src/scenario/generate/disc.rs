//! An exponential disc that rotates in its own gravity and in that of a live Plummer halo.
//!
//! Disc: surface density Σ₀ exp(-R/h) to 5 h, sech² layers, circular velocity of K. Freeman, Astrophys. J. 160, 811 (1970) for the
//! disc without end plus that of the halo; radial dispersion from A. Toomre's Q, the others from the epicycle and from the
//! isothermal sheet, mean rotation from the equation of asymmetric drift. Halo: Plummer's density with the isotropic Jeans
//! dispersion in the gravity of halo and disc, the disc taken as a sphere of the same enclosed mass; normal velocities, cut
//! off below that of escape. Equations as in J. Binney and S. Tremaine, Galactic Dynamics (2nd edition): the model is near
//! equilibrium, not in it, as all models of this kind.

use std::f64::consts::PI;

use super::Particle;
use super::random::Random;
use super::sphere::{dot, scaled};
use crate::math::{self, sincos_degrees};
use crate::scenario::format::Generator;

/// The disc ends at this many scale lengths, which hold 96 % of one without end.
const EXTENT: f64 = 5.0;
/// Halo velocities stay below this part of that of escape.
const ESCAPE_PART: f64 = 0.95;
/// Points of the table of the halo's dispersion. Doubling it changes no dispersion by more than 1e-5 of the largest.
const TABLE_POINTS: usize = 2048;

/// Makes disc and halo about the origin.
pub(super) fn disc(generator: &Generator, gravity: f64, mut random: Random, particles: &mut Vec<Particle>) {
    let Generator::ExponentialDisc { count, mass, halo_mass, halo_count, inclination, .. } = generator else {
        return;
    };
    let Some(model) = Model::new(generator, gravity) else {
        return;
    };
    let turn = sincos_degrees(*inclination);
    let each = mass / *count as f64;
    particles.extend((0..*count).map(|_| {
        let (position, velocity) = model.disc_orbit(&mut random);
        Particle::new(each, inclined(position, turn), inclined(velocity, turn))
    }));
    if *halo_count > 0 {
        let halo = Halo::new(&model);
        let each = halo_mass / *halo_count as f64;
        particles.extend((0..*halo_count).map(|_| {
            let (position, velocity) = halo.orbit(&mut random);
            Particle::new(each, position, velocity)
        }));
    }
}

/// Turns about the x axis.
fn inclined([x, y, z]: [f64; 3], (sin, cos): (f64, f64)) -> [f64; 3] {
    [x, cos * y - sin * z, sin * y + cos * z]
}

/// The smooth galaxy that the particles sample.
struct Model {
    gravity: f64,
    disc_mass: f64,
    /// Scale length h.
    length: f64,
    /// Scale height z₀.
    height: f64,
    /// Central surface density Σ₀.
    surface_density: f64,
    halo_mass: f64,
    /// Scale radius b.
    halo_radius: f64,
    toomre_q: f64,
}

impl Model {
    fn new(generator: &Generator, gravity: f64) -> Option<Self> {
        let Generator::ExponentialDisc { mass, scale_length, scale_height, halo_mass, halo_radius, toomre_q, .. } =
            generator
        else {
            return None;
        };
        Some(Self {
            gravity,
            disc_mass: *mass,
            length: *scale_length,
            height: *scale_height,
            surface_density: mass / (2.0 * PI * scale_length * scale_length * mass_part(EXTENT)),
            halo_mass: *halo_mass,
            halo_radius: *halo_radius,
            toomre_q: *toomre_q,
        })
    }

    /// Position and velocity of a disc particle, spin along z.
    fn disc_orbit(&self, random: &mut Random) -> ([f64; 3], [f64; 3]) {
        let x = scaled_radius(random);
        let angle = 2.0 * PI * random.unit();
        let (sin, cos) = math::sincos(angle);
        let radius = x * self.length;
        let position = [radius * cos, radius * sin, self.layer_height(random)];
        let [outward, forward, up] = self.disc_velocity(radius, random);
        (position, [outward * cos - forward * sin, outward * sin + forward * cos, up])
    }

    /// Height from the density sech²(z/z₀), whose cumulative part is (1 + tanh(z/z₀))/2.
    fn layer_height(&self, random: &mut Random) -> f64 {
        let part = random.unit();
        0.5 * self.height * math::log(part / (1.0 - part))
    }

    /// Velocity outward, forward and up.
    fn disc_velocity(&self, radius: f64, random: &mut Random) -> [f64; 3] {
        let circular = self.circular_square(radius).max(0.0);
        if self.toomre_q == 0.0 {
            return [0.0, circular.sqrt(), 0.0];
        }
        let [radial, tangential, vertical] = self.dispersions(radius);
        let forward = self.rotation_square(radius, radial, tangential).max(0.0).sqrt();
        let normal = random.normal_triple();
        [radial * normal[0], forward + tangential * normal[1], vertical * normal[2]]
    }

    /// σ_R = 3.36 Q G Σ/κ (Toomre), σ_φ = σ_R κ/2Ω (epicycle), σ_z² = π G Σ z₀ (isothermal sheet).
    fn dispersions(&self, radius: f64) -> [f64; 3] {
        let density = self.surface_density * math::exp(-radius / self.length);
        let radial = self.radial_dispersion(radius, density);
        let ratio = self.epicycle_square(radius) * radius * radius / (4.0 * self.circular_square(radius));
        let vertical = (PI * self.gravity * density * self.height).sqrt();
        [radial, radial * ratio.max(0.0).sqrt(), vertical]
    }

    fn radial_dispersion(&self, radius: f64, density: f64) -> f64 {
        let epicycle = self.epicycle_square(radius);
        if epicycle > 0.0 { 3.36 * self.toomre_q * self.gravity * density / epicycle.sqrt() } else { 0.0 }
    }

    /// Asymmetric drift: v_φ² = v_c² + σ_R² (1 - σ_φ²/σ_R² + d ln(Σ σ_R²)/d ln R). With σ_R ∝ Σ/κ the logarithm is 3 ln Σ - ln κ².
    fn rotation_square(&self, radius: f64, radial: f64, tangential: f64) -> f64 {
        let step = 1e-3;
        let epicycle = |factor: f64| math::log(self.epicycle_square(radius * factor).max(f64::MIN_POSITIVE));
        let slope = (epicycle(1.0 + step) - epicycle(1.0 - step)) / (2.0 * step);
        let gradient = -3.0 * radius / self.length - slope;
        self.circular_square(radius) + radial * radial * (1.0 + gradient) - tangential * tangential
    }

    /// v_c² of disc and halo: 4π G Σ₀ h y² (I₀K₀ - I₁K₁) with y = R/2h (Freeman), and G M R²/(R² + b²)^(3/2).
    fn circular_square(&self, radius: f64) -> f64 {
        let y = radius / (2.0 * self.length);
        let Bessel { i0, i1, k0, k1 } = Bessel::at(y);
        let disc = self.freeman() * y * y * (i0 * k0 - i1 * k1);
        disc + self.halo_term(radius, 1.5) * radius * radius
    }

    /// κ² = 2 v²/R² + (dv²/dR)/R. From I₀' = I₁, K₀' = -K₁, I₁' = I₀ - I₁/y, K₁' = -K₀ - K₁/y the derivative of I₀K₀ - I₁K₁ is
    /// 2 (I₁K₀ - I₀K₁) + 2 I₁K₁/y.
    fn epicycle_square(&self, radius: f64) -> f64 {
        let y = radius / (2.0 * self.length);
        let Bessel { i0, i1, k0, k1 } = Bessel::at(y);
        let slope = 2.0 * y * (i0 * k0 - i1 * k1) + y * y * (2.0 * (i1 * k0 - i0 * k1) + 2.0 * i1 * k1 / y);
        let disc = self.freeman() * slope / (2.0 * self.length);
        let squares = radius * radius;
        let halo = self.halo_term(radius, 1.5) * 2.0 * radius - self.halo_term(radius, 2.5) * 3.0 * radius * squares;
        2.0 * self.circular_square(radius) / squares + (disc + halo) / radius
    }

    fn freeman(&self) -> f64 {
        4.0 * PI * self.gravity * self.surface_density * self.length
    }

    /// G M (R² + b²)^(-power) for a power of 3/2 or 5/2; 0 without a halo.
    fn halo_term(&self, radius: f64, power: f64) -> f64 {
        if self.halo_mass == 0.0 {
            return 0.0;
        }
        let square = radius * radius + self.halo_radius * self.halo_radius;
        let root = square.sqrt();
        let cube = self.gravity * self.halo_mass / (square * root);
        if power > 2.0 { cube / square } else { cube }
    }

    /// The mass of the disc within a radius.
    fn disc_mass_within(&self, radius: f64) -> f64 {
        self.disc_mass * mass_part((radius / self.length).min(EXTENT)) / mass_part(EXTENT)
    }
}

/// The part of an endless exponential disc within x scale lengths.
fn mass_part(x: f64) -> f64 {
    // Below 1e-4 the difference loses its digits: x²/2 - x³/3 stands for it.
    if x < 1e-4 { x * x * (0.5 - x / 3.0) } else { 1.0 - (1.0 + x) * math::exp(-x) }
}

/// R/h with the density x exp(-x) to the end of the disc: the sum of two exponential deviates.
fn scaled_radius(random: &mut Random) -> f64 {
    loop {
        let x = -math::log(random.unit()) - math::log(random.unit());
        if x < EXTENT && x > 0.0 {
            return x;
        }
    }
}

// ----------------------------------------------------------------------------------------------------- halo

/// The live halo. Radii are told by c, the sine of atan(r/b): c³ is the part of the mass within r.
struct Halo<'m> {
    model: &'m Model,
    /// σ² that the disc adds, at equal steps of c from 0 to 1.
    disc_part: Vec<f64>,
}

impl<'m> Halo<'m> {
    /// Jeans: ρσ² = ∫ ρ G M(r)/r² dr from r outwards. For the halo's own mass that gives σ² = GM/6√(r² + b²); with c the integral
    /// for the disc's mass is σ² = G/b (1 - c²)^(-5/2) ∫ (1 - t²)² M(t)/t² dt from c to 1, done here by trapezoids from outside.
    fn new(model: &'m Model) -> Self {
        let step = 1.0 / (TABLE_POINTS - 1) as f64;
        let radius = |c: f64| model.halo_radius * c / ((1.0 - c) * (1.0 + c)).sqrt();
        let integrand = |k: usize| match k {
            0 => 0.5 * model.disc_mass / mass_part(EXTENT) * square(model.halo_radius / model.length),
            k if k == TABLE_POINTS - 1 => 0.0,
            k => {
                let c = k as f64 * step;
                square((1.0 - c * c) / c) * model.disc_mass_within(radius(c))
            }
        };
        let mut disc_part = vec![0.0; TABLE_POINTS];
        let mut integral = 0.0;
        for k in (0..TABLE_POINTS - 1).rev() {
            integral += 0.5 * step * (integrand(k) + integrand(k + 1));
            let c = k as f64 * step;
            let rest = (1.0 - c) * (1.0 + c);
            disc_part[k] = model.gravity / model.halo_radius * integral / (rest * rest * rest.sqrt());
        }
        Self { model, disc_part }
    }

    fn orbit(&self, random: &mut Random) -> ([f64; 3], [f64; 3]) {
        let c = math::cbrt(random.unit());
        let rest = ((1.0 - c) * (1.0 + c)).sqrt();
        let radius = self.model.halo_radius * c / rest;
        let own = self.model.gravity * self.model.halo_mass * rest / (6.0 * self.model.halo_radius);
        let dispersion = (own + self.disc_part(c)).sqrt();
        let limit = 2.0 * square(ESCAPE_PART) * self.escape_energy(radius);
        (scaled(random.direction(), radius), slow_velocity(dispersion, limit, random))
    }

    /// The table, straight between its points.
    fn disc_part(&self, c: f64) -> f64 {
        let place = c * (TABLE_POINTS - 1) as f64;
        let k = (place as usize).min(TABLE_POINTS - 2);
        let part = place - k as f64;
        self.disc_part[k] * (1.0 - part) + self.disc_part[k + 1] * part
    }

    /// -Φ: the halo's own, and that of the sphere that stands for the disc, G (M(r)/r + ∫ dM/s from r outwards).
    ///
    /// Since the density falls outwards, the Jeans dispersion σ² is never above it, so that [`slow_velocity`] is quick.
    fn escape_energy(&self, radius: f64) -> f64 {
        let model = self.model;
        let own = model.halo_mass / (radius * radius + square(model.halo_radius)).sqrt();
        let within = model.disc_mass_within(radius) / radius.max(f64::MIN_POSITIVE);
        let x = (radius / model.length).min(EXTENT);
        let outside = (math::exp(-x) - math::exp(-EXTENT)) / mass_part(EXTENT);
        model.gravity * (own + within + model.disc_mass / model.length * outside)
    }
}

/// A normal velocity whose square is not above a limit; NaN, for `population` to find, where numbers have overflowed.
fn slow_velocity(dispersion: f64, limit: f64, random: &mut Random) -> [f64; 3] {
    if !(dispersion * dispersion <= limit && limit.is_finite()) {
        return [f64::NAN; 3];
    }
    loop {
        let velocity = scaled(random.normal_triple(), dispersion);
        if dot(velocity, velocity) <= limit {
            return velocity;
        }
    }
}

fn square(x: f64) -> f64 {
    x * x
}

// --------------------------------------------------------------------------------------------------- Bessel

/// Modified Bessel functions of orders 0 and 1 at one place, by M. Abramowitz and I. Stegun, Handbook of Mathematical Functions,
/// 9.8.1 to 9.8.8; relative errors are below 2e-7.
struct Bessel {
    i0: f64,
    i1: f64,
    k0: f64,
    k1: f64,
}

impl Bessel {
    /// For x above 0 and below 700.
    fn at(x: f64) -> Self {
        let (i0, i1) = if x <= 3.75 { first_kind_small(x) } else { first_kind_large(x) };
        let (k0, k1) = if x <= 2.0 { second_kind_small(x, i0, i1) } else { second_kind_large(x) };
        Self { i0, i1, k0, k1 }
    }
}

/// c₀ + c₁ x + c₂ x² + …
fn polynomial(x: f64, coefficients: &[f64]) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// 9.8.1 and 9.8.3.
fn first_kind_small(x: f64) -> (f64, f64) {
    let t = square(x / 3.75);
    let i0 = polynomial(t, &[1.0, 3.515_622_9, 3.089_942_4, 1.206_749_2, 0.265_973_2, 0.036_076_8, 0.004_581_3]);
    let i1 = polynomial(t, &[0.5, 0.878_905_94, 0.514_988_69, 0.150_849_34, 0.026_587_33, 0.003_015_32, 0.000_324_11]);
    (i0, x * i1)
}

/// 9.8.2 and 9.8.4.
fn first_kind_large(x: f64) -> (f64, f64) {
    let t = 3.75 / x;
    let scale = math::exp(x) / x.sqrt();
    let i0 = polynomial(
        t,
        &[
            0.398_942_28,
            0.013_285_92,
            0.002_253_19,
            -0.001_575_65,
            0.009_162_81,
            -0.020_577_06,
            0.026_355_37,
            -0.016_476_33,
            0.003_923_77,
        ],
    );
    let i1 = polynomial(
        t,
        &[
            0.398_942_28,
            -0.039_880_24,
            -0.003_620_18,
            0.001_638_01,
            -0.010_315_55,
            0.022_829_67,
            -0.028_953_12,
            0.017_876_54,
            -0.004_200_59,
        ],
    );
    (scale * i0, scale * i1)
}

/// 9.8.5 and 9.8.7.
fn second_kind_small(x: f64, i0: f64, i1: f64) -> (f64, f64) {
    let t = square(x / 2.0);
    let log = math::log(x / 2.0);
    let k0 = polynomial(
        t,
        &[-0.577_215_66, 0.422_784_20, 0.230_697_56, 0.034_885_90, 0.002_626_98, 0.000_107_50, 0.000_007_40],
    );
    let k1 =
        polynomial(t, &[1.0, 0.154_431_44, -0.672_785_79, -0.181_568_97, -0.019_194_02, -0.001_104_04, -0.000_046_86]);
    (k0 - log * i0, log * i1 + k1 / x)
}

/// 9.8.6 and 9.8.8.
fn second_kind_large(x: f64) -> (f64, f64) {
    let t = 2.0 / x;
    let scale = math::exp(-x) / x.sqrt();
    let k0 = polynomial(
        t,
        &[1.253_314_14, -0.078_323_58, 0.021_895_68, -0.010_624_46, 0.005_878_72, -0.002_515_40, 0.000_532_08],
    );
    let k1 = polynomial(
        t,
        &[1.253_314_14, 0.234_986_19, -0.036_556_20, 0.015_042_68, -0.007_803_53, 0.003_256_14, -0.000_682_45],
    );
    (scale * k0, scale * k1)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test compares with the platform, within a tolerance")]
mod tests {
    use super::*;

    fn model(halo_mass: f64) -> Model {
        let generator = Generator::ExponentialDisc {
            count: 1,
            mass: 1.0,
            scale_length: 1.0,
            scale_height: 0.1,
            halo_mass,
            halo_radius: 3.0,
            halo_count: 1,
            toomre_q: 1.5,
            inclination: 0.0,
            place: Default::default(),
        };
        Model::new(&generator, 1.0).unwrap()
    }

    #[test]
    fn bessel_functions_have_their_tabulated_values() {
        // Abramowitz & Stegun, tables 9.8 and 9.11, to ten digits.
        let table = [
            (1.0, [1.266_065_878, 0.565_159_104, 0.421_024_438, 0.601_907_230]),
            (2.0, [2.279_585_302, 1.590_636_855, 0.113_893_873, 0.139_865_882]),
            (5.0, [27.239_871_82, 24.335_642_14, 0.003_691_098_334, 0.004_044_613_445]),
        ];
        for (x, expected) in table {
            let Bessel { i0, i1, k0, k1 } = Bessel::at(x);
            for (found, expected) in [i0, i1, k0, k1].into_iter().zip(expected) {
                assert!((found / expected - 1.0).abs() < 3e-7, "at {x}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn the_rotation_curve_peaks_where_freeman_says() {
        let model = model(0.0);

        let peak = (1..1000)
            .map(|k| f64::from(k) * 0.01)
            .max_by(|a, b| model.circular_square(*a).total_cmp(&model.circular_square(*b)));

        // At 2.15 scale lengths, with v² = 0.774 πGΣ₀h; here Σ₀ = 1/(2π 0.9596).
        let peak = peak.unwrap();
        assert!((peak - 2.15).abs() < 0.02, "{peak}");
        let square = model.circular_square(peak);
        assert!((square / (0.774 * PI * model.surface_density) - 1.0).abs() < 2e-3, "{square}");
    }

    #[test]
    fn the_epicycle_is_the_derivative_of_the_rotation_curve() {
        let model = model(5.0);

        for k in 1..50 {
            let radius = f64::from(k) * 0.1;
            let step = 1e-3 * radius;
            let slope = (model.circular_square(radius + step) - model.circular_square(radius - step)) / (2.0 * step);
            let expected = 2.0 * model.circular_square(radius) / (radius * radius) + slope / radius;
            let found = model.epicycle_square(radius);
            assert!((found / expected - 1.0).abs() < 1e-3, "at {radius}: {found}, not {expected}");
        }
    }

    #[test]
    fn the_halo_is_slow_enough_to_be_bound_however_light_it_is() {
        for mass in [1e-6, 1.0, 1e6] {
            let model = model(mass);
            let halo = Halo::new(&model);
            for k in 1..1000 {
                let c = f64::from(k) * 1e-3;
                let radius = 3.0 * c / (1.0 - c * c).sqrt();
                let own = mass * (1.0 - c * c).sqrt() / 18.0;
                assert!(own + halo.disc_part(c) < halo.escape_energy(radius), "{mass} at {radius}");
            }
        }
    }

    #[test]
    fn the_dispersion_of_the_halo_solves_the_equation_of_jeans() {
        let model = model(5.0);
        let halo = Halo::new(&model);

        for radius in [0.5, 1.0, 3.0, 8.0_f64] {
            // ∫ ρ M/r² dr from here to 2000, by the midpoint rule in ln r.
            let density = |r: f64| (1.0 + square(r / 3.0)).powf(-2.5);
            let steps = 100_000;
            let width = (2000.0 / radius).ln() / f64::from(steps);
            let integral: f64 = (0..steps)
                .map(|k| radius * ((f64::from(k) + 0.5) * width).exp())
                .map(|r| density(r) * model.disc_mass_within(r) / r * width)
                .sum();
            let expected = integral / density(radius);
            let found = halo.disc_part(radius / (radius * radius + 9.0).sqrt());
            assert!((found / expected - 1.0).abs() < 2e-4, "at {radius}: {found}, not {expected}");
        }
    }
}
