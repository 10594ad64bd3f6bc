//! From a scenario to a state: chooses the quanta, rounds every body to them, and fills in rules and clock.
//!
//! This is the only place where floats become state. What does not fit the quanta is a fault with its place in the file.

use std::collections::BTreeMap;

use crate::{
    audit::Rules,
    contract::Contract,
    force::Law,
    integrator::Splitting,
    math::norm,
    node::State,
    particle::{Mass, Momentum, Names, Particle, ParticleId, Position, Radius},
    quanta::{ENERGY_BITS, MASS_RANGE_BITS, MOMENTUM_RANGE_BITS, Quanta, Quantum},
    scenario::{
        check::Fault,
        format::{QuantaChoice, Scenario},
        generate,
    },
    step::Clock,
};

/// The sum of all masses stays within 2⁶⁰ quanta, so that mass-weighted sums of positions fit 128 bits.
const TOTAL_MASS_BITS: u32 = 60;
/// Above so many bodies the closest pair is estimated and not searched.
const SEARCHED_BODIES: usize = 2048;
/// At most so many faults of one kind are listed.
const FAULTS_MAX: usize = 20;

/// The state at the start of a scenario, from its bodies.
///
/// # Errors
/// Every body that does not fit the quanta.
pub fn state(scenario: &Scenario, bodies: &[generate::Particle]) -> Result<State, Vec<Fault>> {
    let chosen = match scenario.quanta {
        QuantaChoice::Auto { headroom } => choose(scenario, bodies, splitting(scenario), headroom),
        QuantaChoice::Given { position, momentum, mass } => {
            energy_quantum(&Extent::of(scenario, bodies)).map(|energy| Quanta {
                position: Quantum(position),
                momentum: Quantum(momentum),
                mass: Quantum(mass),
                energy,
            })
        }
    };
    let Some(quanta) = chosen else {
        let message = "the numbers of this scenario are too large or too small for any quanta";
        return Err(vec![
            Fault::new("units", message).with_help("choose units in which masses, lengths and times are nearer to 1"),
        ]);
    };
    let mut faults = Vec::new();
    let mut particles = Vec::with_capacity(bodies.len());
    let mut names = BTreeMap::new();
    for (k, body) in bodies.iter().enumerate() {
        match round(k as u64, body, &quanta, scenario.contract) {
            Ok(particle) => particles.push(particle),
            Err(fault) if faults.len() < FAULTS_MAX => faults.push(fault.at(k, scenario)),
            Err(_) => {}
        }
        if let Some(name) = &body.name {
            names.insert(k as u64, name.to_string());
        }
    }
    check_total_mass(&particles, &quanta, &mut faults);
    let state = state_of(scenario, quanta, particles, Names(names));
    check_contract(&state, &mut faults);
    if faults.is_empty() { Ok(state) } else { Err(faults) }
}

/// A state of a scenario with these particles, at step 0 and without a history.
#[must_use]
pub fn state_of(scenario: &Scenario, quanta: Quanta, particles: Vec<Particle>, names: Names) -> State {
    State {
        particles,
        names,
        quanta,
        law: Law::new(scenario.contract, scenario.gravitational_constant(), scenario.gravity.softening, &quanta),
        splitting: splitting(scenario),
        clock: Clock { step: 0, dt: scenario.dt(), backwards: false },
        rules: rules(scenario),
        history: None,
    }
}

fn splitting(scenario: &Scenario) -> &'static Splitting {
    Splitting::named(scenario.integrator_name()).expect("the format knows no other names")
}

/// The rules of a scenario, with the cadence of energy filled in.
#[must_use]
pub fn rules(scenario: &Scenario) -> Rules {
    let audit = &scenario.audit;
    Rules {
        angular_momentum: audit.angular_momentum,
        energy_every: match audit.energy_every {
            0 => (scenario.steps() / 256).max(1),
            every => every,
        },
        energy_step_tolerance: audit.energy_step_tolerance,
        energy_tolerance: audit.energy_tolerance,
        centre_of_mass_tolerance: audit.centre_of_mass_tolerance,
        on_breach: audit.on_breach,
    }
}

/// Sizes of an initial state, in scenario units.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// Largest coordinate, or radius, or softening length.
    reach: f64,
    /// Largest inertial mass, and the sum of all.
    mass_max: f64,
    mass_total: f64,
    /// Largest momentum: of a body, or what gravity gives the heaviest one from `reach`.
    momentum: f64,
    /// Kinetic and potential energy, as orders of magnitude.
    energy: f64,
}

impl Extent {
    fn of(scenario: &Scenario, bodies: &[generate::Particle]) -> Self {
        let g = scenario.gravitational_constant();
        let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        let coordinate = largest(&mut bodies.iter().flat_map(|b| b.position.map(f64::abs)));
        let speed = largest(&mut bodies.iter().map(|b| norm(b.velocity)));
        let radius = largest(&mut bodies.iter().map(|b| b.radius));
        let reach = positive_or(coordinate.max(radius).max(speed * scenario.dt()).max(scenario.gravity.softening), 1.0);
        let mass_max = positive_or(largest(&mut bodies.iter().map(|b| b.inertia)), 1.0);
        let mass_total = positive_or(bodies.iter().map(|b| b.inertia).sum(), 1.0);
        // Two bodies that fall towards each other share one momentum: that of their reduced mass.
        let reduced = mass_max * (mass_total - mass_max) / mass_total;
        let fall = reduced * (g * mass_total / reach).sqrt();
        let momentum = largest(&mut bodies.iter().map(|b| b.inertia * norm(b.velocity)));
        let kinetic: f64 = bodies.iter().map(|b| 0.5 * b.mass * norm(b.velocity) * norm(b.velocity)).sum();
        let potential = g * mass_total * mass_total / reach;
        let momentum = positive_or(momentum.max(fall), mass_max * reach / scenario.dt());
        Self {
            reach,
            mass_max,
            mass_total,
            momentum,
            energy: positive_or(kinetic + potential, momentum * momentum / mass_max),
        }
    }
}

fn positive_or(value: f64, otherwise: f64) -> f64 {
    if value > 0.0 { value } else { otherwise }
}

/// The finest quanta with which the run has `headroom`: particles may get that many times farther out than they are at the
/// start, and pairs that many times closer.
fn choose(scenario: &Scenario, bodies: &[generate::Particle], splitting: &Splitting, headroom: f64) -> Option<Quanta> {
    let extent = Extent::of(scenario, bodies);
    // Twice at the least: bodies start in the inner half of the range.
    let position = Quantum::reaching(extent.reach * headroom.max(2.0), scenario.contract.position_bits())?;
    let mass = Quantum::reaching(extent.mass_max, MASS_RANGE_BITS)?
        .max(Quantum::reaching(extent.mass_total, TOTAL_MASS_BITS)?);
    // Half a range to spare: the guard of the kernels looks at an upper bound.
    let by_impulse = match largest_impulse(scenario, bodies, splitting, headroom) {
        impulse if impulse > 0.0 => Quantum::reaching(impulse, scenario.contract.impulse_bits(bodies.len()) - 1)?,
        _ => Quantum(i32::MIN),
    };
    let momentum = Quantum::reaching(extent.momentum * headroom, MOMENTUM_RANGE_BITS - 1)?.max(by_impulse);
    Some(Quanta { position, momentum, mass, energy: energy_quantum(&extent)? })
}

fn energy_quantum(extent: &Extent) -> Option<Quantum> {
    Quantum::reaching(extent.energy, ENERGY_BITS)
}

/// The largest impulse of one kick that a pair may come to [mass · length / time]: that of the strongest pair of the initial
/// state when it is `headroom` times closer, or the bound that softening sets, whichever is less.
fn largest_impulse(scenario: &Scenario, bodies: &[generate::Particle], splitting: &Splitting, headroom: f64) -> f64 {
    let (g, softening) = (scenario.gravitational_constant(), scenario.gravity.softening);
    let share = splitting.kick.iter().fold(0.0_f64, |longest, share| longest.max(share.abs()));
    let strength = g * scenario.dt() * share;
    let closer = strongest_pair(bodies) * headroom * headroom;
    // r/(r² + ε²)^(3/2) is at most 2/(3√3 ε²).
    let heaviest = bodies.iter().map(|b| b.inertia).fold(0.0, f64::max);
    let softened = heaviest * heaviest * 0.385 / (softening * softening);
    strength * closer.min(softened)
}

/// The largest m·M/r² of a pair: searched for among few bodies; for many, that of two of the heaviest at the distance that the
/// closest two of as many bodies typically have, reach · N^(-2/3).
fn strongest_pair(bodies: &[generate::Particle]) -> f64 {
    if bodies.len() > SEARCHED_BODIES {
        let heaviest = bodies.iter().map(|b| b.inertia).fold(0.0, f64::max);
        let reach = bodies.iter().flat_map(|b| b.position.map(f64::abs)).fold(0.0, f64::max);
        let count = bodies.len() as f64;
        let apart = reach / crate::math::cbrt(count * count);
        return heaviest * heaviest / (apart * apart);
    }
    let of_pair = |a: &generate::Particle, b: &generate::Particle| {
        let r = norm(std::array::from_fn(|axis| a.position[axis] - b.position[axis]));
        let pulls = a.mass > 0.0 || b.mass > 0.0;
        if pulls && r > 0.0 { a.inertia * b.inertia / (r * r) } else { 0.0 }
    };
    let later = |k: usize| bodies[k + 1..].iter().map(move |other| of_pair(&bodies[k], other));
    (0..bodies.len()).flat_map(later).fold(0.0, f64::max)
}

/// What of a body does not fit, and where it stands in the file.
struct Misfit {
    field: &'static str,
    message: String,
    help: &'static str,
}

const LARGER_QUANTA: &str = "choose larger quanta, or `quanta: Auto(headroom: 32)`, which finds them";
const LARGER_INERTIA: &str = "the heaviest body sets the quantum: leave the lightest out, or make it a test particle (mass: 0) with a larger `inertia`, on \
     which its path does not depend";

impl Misfit {
    fn at(self, index: usize, scenario: &Scenario) -> Fault {
        let path = match scenario.bodies.len() {
            written if index < written => format!("bodies[{index}].{}", self.field),
            written => generator_of(index - written, scenario),
        };
        Fault::new(path, self.message).with_help(self.help)
    }
}

fn generator_of(index: usize, scenario: &Scenario) -> String {
    let mut last = 0;
    for (k, generator) in scenario.generators.iter().enumerate() {
        last += generator.count() as usize;
        if index < last {
            return format!("generators[{k}]");
        }
    }
    "generators".to_owned()
}

/// Rounds one body to quanta.
fn round(id: u64, body: &generate::Particle, quanta: &Quanta, contract: Contract) -> Result<Particle, Misfit> {
    let misfit = |field, what: &str, value: f64, quantum: Quantum, bits: u32| Misfit {
        field,
        message: format!("range too small for the quanta: {what} {value:e} is more than 2^{bits} quanta of {quantum}"),
        help: LARGER_QUANTA,
    };
    let mass = quanta.mass.count(body.inertia, MASS_RANGE_BITS);
    let mass = mass.ok_or_else(|| misfit("mass", "mass", body.inertia, quanta.mass, MASS_RANGE_BITS))?;
    if mass == 0 {
        let message = format!("mass {:e} is less than half a quantum of {}", body.inertia, quanta.mass);
        return Err(Misfit { field: "mass", message, help: LARGER_INERTIA });
    }
    // The momentum of the rounded mass: so the velocity is the one that was asked for.
    let rounded_mass = mass as f64 * quanta.mass.size();
    let (mut position, mut momentum) = ([0; 3], [0; 3]);
    for axis in 0..3 {
        let (x, p) = (body.position[axis], rounded_mass * body.velocity[axis]);
        let bits = contract.position_bits() - 1;
        position[axis] =
            quanta.position.count(x, bits).ok_or_else(|| misfit("position", "position", x, quanta.position, bits))?;
        let bits = MOMENTUM_RANGE_BITS - 1;
        momentum[axis] =
            quanta.momentum.count(p, bits).ok_or_else(|| misfit("velocity", "momentum", p, quanta.momentum, bits))?;
    }
    let bits = contract.position_bits();
    let radius = quanta.position.count(body.radius, bits);
    let radius = radius.ok_or_else(|| misfit("radius", "radius", body.radius, quanta.position, bits))?;
    Ok(Particle {
        id: ParticleId(id),
        position: Position(position),
        momentum: Momentum(momentum),
        mass: Mass { quanta: mass, pulls: body.mass > 0.0 },
        radius: Radius(radius),
    })
}

/// Whether the numbers of the kernels are within what the contract computes with.
fn check_contract(state: &State, faults: &mut Vec<Fault>) {
    let masses = state.particles.iter().map(|p| p.mass.quanta as f64);
    let range = masses.fold([f64::INFINITY, 0.0], |[least, most], mass| [mass.min(least), mass.max(most)]);
    let durations = state.splitting.kick.iter().map(|share| share * state.clock.dt);
    if !state.particles.is_empty() && !state.law.fits(durations, range) {
        let contract = state.law.contract;
        let message = format!("the numbers of this scenario leave the range of f32, on which {contract} computes");
        faults
            .push(Fault::new("contract", message).with_help(
                "take `portable64` or `native64`, or units, masses and a softening that are less far apart",
            ));
    }
}

fn check_total_mass(particles: &[Particle], quanta: &Quanta, faults: &mut Vec<Fault>) {
    let total: i128 = particles.iter().map(|p| i128::from(p.mass.quanta)).sum();
    if total > 1 << (TOTAL_MASS_BITS + 1) {
        let message =
            format!("range too small for the quanta: all masses together are {total} quanta of {}", quanta.mass);
        faults
            .push(Fault::new("quanta", message).with_help(format!("the sum may be 2^{} quanta", TOTAL_MASS_BITS + 1)));
    }
}
