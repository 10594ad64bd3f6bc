//! Makes the particles of a scenario.
//!
//! The same scenario gives the same bits on every platform: only `+ - * /` and square roots, `crate::math` for the rest, and
//! random numbers of our own. Each generated group (save tables, whose numbers are taken as they stand) is shifted so that its
//! centre of mass is at the offset and moves with the velocity of its placement, as closely as f64 can tell.
//!
//! Models are those of Newtonian gravity: that the run softens it is not taken into account.

mod disc;
mod kepler;
pub mod random;
mod sphere;
mod table;

use std::collections::BTreeMap;
use std::path::Path;

use self::random::Random;
use super::check::{Fault, PARTICLES_MAX, expected_but_unknown};
use super::format::{Body, Generator, Placement, Scenario};
use crate::math::Sum;

/// A particle at the start, in scenario units.
#[derive(Clone, Debug, PartialEq)]
pub struct Particle {
    /// Name, where it has one.
    pub name: Option<Box<str>>,
    /// Source of gravity; 0 for a test particle.
    pub mass: f64,
    /// Inertial mass: equal to the mass, unless it is a test particle.
    pub inertia: f64,
    /// Position.
    pub position: [f64; 3],
    /// Velocity.
    pub velocity: [f64; 3],
    /// Radius, for collisions and pictures.
    pub radius: f64,
}

impl Particle {
    /// A nameless particle without radius.
    fn new(mass: f64, position: [f64; 3], velocity: [f64; 3]) -> Self {
        Self { name: None, mass, inertia: mass, position, velocity, radius: 0.0 }
    }
}

/// The particles of a scenario that passed `check`: written bodies first, then each generator's, in order, then recentred if
/// asked for. `folder` is the folder of the scenario file; paths of tables start there.
///
/// Fails for a table that cannot be read, for numbers that overflow, for names that are there twice or not at all, and where
/// memory does not suffice.
pub fn population(scenario: &Scenario, folder: &Path) -> Result<Vec<Particle>, Fault> {
    let mut particles = Vec::new();
    make_room(&mut particles, scenario)?;
    particles.extend(scenario.bodies.iter().map(written));
    for (k, generator) in scenario.generators.iter().enumerate() {
        let path = format!("generators[{k}]");
        let first = particles.len();
        generate(generator, k, scenario.gravitational_constant(), folder, &mut particles)
            .map_err(|fault| Fault { path: format!("{path}{}", fault.path), ..fault })?;
        check_finite(&particles[first..], &path)?;
    }
    check_whole(scenario, &particles)?;
    if scenario.recentre {
        recentre(&mut particles)?;
    }
    Ok(particles)
}

fn make_room(particles: &mut Vec<Particle>, scenario: &Scenario) -> Result<(), Fault> {
    let count = scenario.count();
    let room = usize::try_from(count).ok().and_then(|count| particles.try_reserve_exact(count).ok());
    room.ok_or_else(|| {
        let gib = count as f64 * size_of::<Particle>() as f64 / (1_u64 << 30) as f64;
        Fault::new("generators", format!("{count} particles take {gib:.1} GiB, which this machine does not give"))
            .with_help("make fewer, or use a machine with more memory")
    })
}

fn written(body: &Body) -> Particle {
    Particle {
        name: body.name.as_deref().map(Box::from),
        mass: body.mass,
        inertia: body.inertia.unwrap_or(body.mass),
        position: body.position.0,
        velocity: body.velocity.0,
        radius: body.radius,
    }
}

/// Adds the particles of one generator. Paths of faults are relative to it, and begin with a dot.
fn generate(
    generator: &Generator,
    index: usize,
    gravity: f64,
    folder: &Path,
    particles: &mut Vec<Particle>,
) -> Result<(), Fault> {
    let first = particles.len();
    let random = |place: &Placement| Random::new(place.seed, index);
    let place = match generator {
        Generator::Plummer { count, mass, radius, place } => {
            sphere::plummer(*count, *mass, *radius, gravity, random(place), particles);
            place
        }
        Generator::Hernquist { count, mass, radius, place } => {
            sphere::hernquist(*count, *mass, *radius, gravity, random(place), particles);
            place
        }
        Generator::UniformSphere { count, mass, radius, virial_ratio, place } => {
            sphere::uniform(*count, *mass, *radius, random(place), particles);
            // The motion of the centre is no motion of the group in itself, so it goes before the energy is set.
            settle(&mut particles[first..], &Placement::default());
            sphere::set_kinetic_energy(&mut particles[first..], virial_ratio * 0.6 * gravity * mass * mass / radius);
            place
        }
        Generator::ExponentialDisc { place, .. } => {
            disc::disc(generator, gravity, random(place), particles);
            place
        }
        Generator::CubicLattice { side, spacing, mass, place } => {
            cubic_lattice(*side, *spacing, *mass, particles);
            place
        }
        Generator::Kepler { place, .. } => {
            kepler::pair(generator, gravity, particles);
            place
        }
        Generator::Table { path, place } => {
            table::rows(&folder.join(path), particles)?;
            shift(&mut particles[first..], place.offset.0, place.velocity.0);
            return Ok(());
        }
    };
    settle(&mut particles[first..], place);
    Ok(())
}

/// A lattice about the origin, x fastest.
fn cubic_lattice(side: u64, spacing: f64, mass: f64, particles: &mut Vec<Particle>) {
    let coordinate = |k: u64| (k as f64 - (side - 1) as f64 / 2.0) * spacing;
    for z in 0..side {
        for y in 0..side {
            for x in 0..side {
                particles.push(Particle::new(mass, [x, y, z].map(coordinate), [0.0; 3]));
            }
        }
    }
}

// ------------------------------------------------------------------------------------------ centres of mass

/// Brings the centre of mass to its place, and to its velocity.
///
/// Twice: the first shift is rounded particle by particle, the second takes out what that added up to.
fn settle(particles: &mut [Particle], place: &Placement) {
    for _ in 0..2 {
        let (position, velocity) = centre(particles);
        shift(particles, position.map(|x| -x), velocity.map(|v| -v));
    }
    shift(particles, place.offset.0, place.velocity.0);
}

/// Centre of mass and its velocity; NaN without mass.
fn centre(particles: &[Particle]) -> ([f64; 3], [f64; 3]) {
    let mut mass = Sum::default();
    let mut position = [Sum::default(); 3];
    let mut velocity = [Sum::default(); 3];
    for particle in particles {
        mass.add(particle.mass);
        for k in 0..3 {
            position[k].add(particle.mass * particle.position[k]);
            velocity[k].add(particle.mass * particle.velocity[k]);
        }
    }
    let mean = |sum: Sum| sum.total() / mass.total();
    (position.map(mean), velocity.map(mean))
}

fn shift(particles: &mut [Particle], offset: [f64; 3], boost: [f64; 3]) {
    for particle in particles {
        for k in 0..3 {
            particle.position[k] += offset[k];
            particle.velocity[k] += boost[k];
        }
    }
}

fn recentre(particles: &mut [Particle]) -> Result<(), Fault> {
    if particles.iter().all(|particle| particle.mass == 0.0) {
        return Err(Fault::new("recentre", "without a single mass there is no centre of mass to shift to"));
    }
    settle(particles, &Placement::default());
    check_finite(particles, "recentre")
}

// --------------------------------------------------------------------------------------------------- checks

fn check_finite(particles: &[Particle], path: &str) -> Result<(), Fault> {
    let finite = |particle: &Particle| {
        let numbers = particle.position.iter().chain(&particle.velocity).chain([&particle.mass, &particle.inertia]);
        numbers.into_iter().all(|number| number.is_finite())
    };
    match particles.iter().position(|particle| !finite(particle)) {
        None => Ok(()),
        Some(k) => Err(Fault::new(path, format!("particle {k} made here has numbers too large for a computer"))
            .with_help("choose units in which the numbers are closer to 1")),
    }
}

/// What only the whole population can tell, tables included.
fn check_whole(scenario: &Scenario, particles: &[Particle]) -> Result<(), Fault> {
    if particles.is_empty() {
        return Err(Fault::new("generators", "there are no bodies: the tables are empty"));
    }
    if particles.len() as u64 > PARTICLES_MAX {
        return Err(Fault::new("generators", format!("{} bodies; at most 2^32 can be numbered", particles.len())));
    }
    let mut names = BTreeMap::new();
    for (k, particle) in particles.iter().enumerate() {
        let Some(name) = particle.name.as_deref() else {
            continue;
        };
        if let Some(first) = names.insert(name, k) {
            let message = format!("particles {first} and {k} both have the name \"{}\"", name.escape_debug());
            return Err(Fault::new("generators", message).with_help("names of bodies are unique"));
        }
    }
    expected_but_unknown(scenario, names.into_keys()).into_iter().next().map_or(Ok(()), Err)
}
