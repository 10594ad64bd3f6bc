//! Expectations: what a scenario says must hold, looked at when its time has come.

use crate::{
    math::norm,
    particle::{Particle, in_units},
    run::engine::Engine,
    scenario::format::{Expectation, Scenario},
    snapshot::checkpoint::Outcome,
};

/// The step at which an expectation is looked at.
#[must_use]
pub fn due_at(expectation: &Expectation, scenario: &Scenario) -> u64 {
    match expectation {
        Expectation::EnergyDrift { .. } | Expectation::AngularMomentumDrift { .. } => scenario.steps(),
        Expectation::Position { at, .. }
        | Expectation::Velocity { at, .. }
        | Expectation::VirialRatio { at, .. }
        | Expectation::LagrangeRadius { at, .. }
        | Expectation::StateRoot { at, .. } => scenario.step_of(*at),
    }
}

/// Looks at one expectation now.
pub fn look(index: usize, expectation: &Expectation, node: &mut dyn Engine) -> Outcome {
    let (expected, found, held) = match expectation {
        Expectation::EnergyDrift { below } => at_most("largest |dE/E|", node.drifts().energy_max, *below),
        Expectation::AngularMomentumDrift { below } => at_most("largest |dL/L|", node.drifts().angular_max, *below),
        Expectation::Position { of, is, within, .. } => {
            let place = body(node, of).map(|p| in_units(p.position.0, node.quanta().position.0));
            near(&format!("position of {of}"), place, is.0, *within)
        }
        Expectation::Velocity { of, is, within, .. } => {
            let velocity = body(node, of).map(|p| velocity(&p, node));
            near(&format!("velocity of {of}"), velocity, is.0, *within)
        }
        Expectation::VirialRatio { between, .. } => {
            let recount = node.count_bounded();
            let ratio = recount.kinetic as f64 / -(recount.potential as f64);
            inside("virial ratio T/|W|", ratio, *between)
        }
        Expectation::LagrangeRadius { fraction, between, .. } => {
            let radius = lagrange_radius(&node.particles(), *fraction) * node.quanta().position.size();
            inside(&format!("radius that holds {fraction} of the mass"), radius, *between)
        }
        Expectation::StateRoot { is, .. } => {
            let root = node.root().to_string();
            let held = root.eq_ignore_ascii_case(is);
            (format!("state root {is}"), root, held)
        }
    };
    Outcome { index, step: node.clock().step, expected, found, held }
}

/// The velocity of a particle [length / time].
#[must_use]
pub fn velocity(particle: &Particle, node: &dyn Engine) -> [f64; 3] {
    let quanta = node.quanta();
    let mass = particle.mass.quanta as f64;
    in_units(particle.momentum.0, quanta.momentum.0 - quanta.mass.0).map(|p| p / mass)
}

fn body(node: &mut dyn Engine, name: &str) -> Option<Particle> {
    let id = node.names().find(name)?;
    node.particle(id)
}

fn at_most(what: &str, found: f64, bound: f64) -> (String, String, bool) {
    (format!("{what} at most {bound:e}"), format!("{found:.3e}"), found <= bound)
}

fn inside(what: &str, found: f64, (low, high): (f64, f64)) -> (String, String, bool) {
    (format!("{what} from {low} to {high}"), format!("{found:.6}"), low <= found && found <= high)
}

fn near(what: &str, found: Option<[f64; 3]>, is: [f64; 3], within: f64) -> (String, String, bool) {
    let expected = format!("{what} within {within:e} of ({}, {}, {})", is[0], is[1], is[2]);
    match found {
        None => (expected, "no such body".into(), false),
        Some(place) => {
            let off = norm(std::array::from_fn(|axis| place[axis] - is[axis]));
            (expected, format!("{off:.3e} away"), off <= within)
        }
    }
}

/// The radius about the centre of mass of the sources that holds a fraction of their mass [position quanta].
fn lagrange_radius(particles: &[Particle], fraction: f64) -> f64 {
    let sources = || particles.iter().filter(|particle| particle.mass.pulls);
    let total: f64 = sources().map(|p| p.mass.quanta as f64).sum();
    let centre: [f64; 3] = std::array::from_fn(|axis| {
        sources().map(|p| p.mass.quanta as f64 * p.position.0[axis] as f64).sum::<f64>() / total
    });
    let from_centre = |p: &Particle| norm(std::array::from_fn(|axis| p.position.0[axis] as f64 - centre[axis]));
    let mut shells: Vec<(f64, f64)> = sources().map(|p| (from_centre(p), p.mass.quanta as f64)).collect();
    shells.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut held = 0.0;
    let found = shells.iter().find(|(_, mass)| {
        held += mass;
        held >= fraction * total
    });
    found.or(shells.last()).map_or(f64::NAN, |(radius, _)| *radius)
}
