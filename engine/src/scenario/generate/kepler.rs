//! Two bodies on a Kepler orbit, from its elements.

use std::f64::consts::PI;

use super::Particle;
use super::sphere::scaled;
use crate::math::{self, radians, sincos_degrees};
use crate::scenario::format::Generator;

/// Makes the two bodies about their centre of mass. The elements are those of the second body's path relative to the first.
pub(super) fn pair(generator: &Generator, gravity: f64, particles: &mut Vec<Particle>) {
    let Generator::Kepler { masses, semi_major_axis, eccentricity, mean_anomaly, names, .. } = generator else {
        return;
    };
    let total = masses.0 + masses.1;
    let (position, velocity) = in_plane(gravity * total, *semi_major_axis, *eccentricity, *mean_anomaly);
    let (position, velocity) = (turned(generator, position), turned(generator, velocity));
    let part = |factor: f64, mass: f64| Particle::new(mass, scaled(position, factor), scaled(velocity, factor));
    let mut bodies = [part(-masses.1 / total, masses.0), part(masses.0 / total, masses.1)];
    if let Some((first, second)) = names {
        bodies[0].name = Some(first.as_str().into());
        bodies[1].name = Some(second.as_str().into());
    }
    particles.extend(bodies);
}

/// Position and velocity in the plane of the orbit, pericentre along x. `mu` is G times both masses.
fn in_plane(mu: f64, axis: f64, eccentricity: f64, mean_anomaly: f64) -> ([f64; 3], [f64; 3]) {
    let anomaly = eccentric_anomaly(radians(mean_anomaly % 360.0), eccentricity);
    let (sin, cos) = math::sincos(anomaly);
    let flattening = ((1.0 - eccentricity) * (1.0 + eccentricity)).sqrt();
    let speed = (mu / axis).sqrt() / (1.0 - eccentricity * cos);
    let position = [axis * (cos - eccentricity), axis * flattening * sin, 0.0];
    (position, [-speed * sin, speed * flattening * cos, 0.0])
}

/// Solves Kepler's equation M = E - e sin E for E.
///
/// E - e sin E grows with E, and E lies within e of M: a Newton step that leaves the bracket is replaced by bisection, so the
/// search comes to an end for every e below 1. Angles in radians.
fn eccentric_anomaly(mean: f64, eccentricity: f64) -> f64 {
    let mean = if mean > PI {
        mean - 2.0 * PI
    } else if mean < -PI {
        mean + 2.0 * PI
    } else {
        mean
    };
    let (mut low, mut high) = (mean - eccentricity, mean + eccentricity);
    // Danby's starting value: J. Danby, Celest. Mech. 40, 303 (1987).
    let mut anomaly = mean + 0.85 * eccentricity * if mean < 0.0 { -1.0 } else { 1.0 };
    for _ in 0..100 {
        let (sin, cos) = math::sincos(anomaly);
        let excess = anomaly - eccentricity * sin - mean;
        match excess > 0.0 {
            true => high = anomaly,
            false => low = anomaly,
        }
        let newton = anomaly - excess / (1.0 - eccentricity * cos);
        let next = if newton >= low && newton <= high { newton } else { 0.5 * (low + high) };
        if next == anomaly {
            break;
        }
        anomaly = next;
    }
    anomaly
}

/// From the plane of the orbit to space: argument of pericentre about z, inclination about x, ascending node about z.
fn turned(generator: &Generator, vector: [f64; 3]) -> [f64; 3] {
    let Generator::Kepler { inclination, ascending_node, pericentre, .. } = generator else {
        return vector;
    };
    let about_z = |[x, y, z]: [f64; 3], degrees: f64| {
        let (sin, cos) = sincos_degrees(degrees);
        [cos * x - sin * y, sin * x + cos * y, z]
    };
    let [x, y, z] = about_z(vector, *pericentre);
    let (sin, cos) = sincos_degrees(*inclination);
    about_z([x, cos * y - sin * z, sin * y + cos * z], *ascending_node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keplers_equation_is_solved_to_the_last_digits_at_any_eccentricity() {
        for eccentricity in [0.0, 0.1, 0.9, 0.9999, 1.0 - 1e-12] {
            for k in -1800..=1800 {
                let mean = f64::from(k) * PI / 1800.0;

                let anomaly = eccentric_anomaly(mean, eccentricity);

                let found = anomaly - eccentricity * math::sin(anomaly);
                assert!((found - mean).abs() < 2e-15, "e {eccentricity}, M {mean}: {found}");
            }
        }
    }
}
