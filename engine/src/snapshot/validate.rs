//! Whether what a checkpoint says can be true: a file may be whole, with a hash that fits, and still be nonsense.
//!
//! Everything that a run relies on without looking again is checked here, among it the promise of the engine itself: what the
//! particles hold is what the ledger says they must hold, as integers.

use std::collections::BTreeSet;

use super::checkpoint::Header;
use crate::{
    audit::{Breach, Drifts, Exact, Recount, exact},
    contract::Contract,
    ledger::{Amounts, Ledger},
    math::cross,
    particle::Particle,
    quanta::{Quanta, exp2},
    scenario::{
        format::{QuantaChoice, Scenario},
        read,
    },
};

/// Exponents of quanta: what the numbers of a scenario can lead to, and no sum of a few of them leaves 32 bits.
const EXPONENT_MAX: i32 = 1200;
/// Booked energies: far above what a state can hold, and no sum of a few of them leaves 128 bits.
const ENERGY_BITS_MAX: u32 = 120;
/// One particle's kinetic energy, as sums of energy can hold it [energy quanta].
const KINETIC_BITS_MAX: i32 = 90;
/// Count, mass and momentum of all particles: 2³² of them, each within 2⁶².
const TOTAL_BITS_MAX: u32 = 94;

/// Says what cannot be true of a header and its particles.
///
/// # Errors
/// The first thing that is wrong, in words.
pub fn validate(header: &Header, particles: &[Particle]) -> Result<(), String> {
    let scenario = read::read("scenario", &header.scenario, &[]).map_err(|report| format!("its scenario: {report}"))?;
    check_particles(particles, scenario.contract)?;
    check_quanta(&header.quanta, &scenario, particles)?;
    check_steps(header, &scenario)?;
    check_names(header, particles)?;
    check_book(header, &scenario, particles)?;
    check_breaches(header)?;
    check_outcomes(header, &scenario)
}

fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn check_particles(particles: &[Particle], contract: Contract) -> Result<(), String> {
    must(!particles.is_empty(), || "it has no particles".into())?;
    let in_order = particles.windows(2).find(|pair| pair[0].id >= pair[1].id);
    must(in_order.is_none(), || "its particles are not in order of identity, or one is there twice".into())?;
    particles.iter().try_for_each(|particle| particle.check(contract.position_bits()))
}

/// Whether a run can begin with these quanta and particles, whoever says so: what [`validate`] asks of a file, where there is none.
///
/// # Errors
/// The first thing that is wrong, in words.
pub fn check_start(scenario: &Scenario, quanta: &Quanta, particles: &[Particle]) -> Result<(), String> {
    must(!particles.is_empty(), || "there are no particles".into())?;
    let different: BTreeSet<u64> = particles.iter().map(|particle| particle.id.0).collect();
    must(different.len() == particles.len(), || "two particles have one number".into())?;
    particles.iter().try_for_each(|particle| particle.check(scenario.contract.position_bits()))?;
    check_quanta(quanta, scenario, particles)
}

fn check_quanta(quanta: &Quanta, scenario: &Scenario, particles: &[Particle]) -> Result<(), String> {
    for (name, quantum) in
        [("position", quanta.position), ("momentum", quanta.momentum), ("mass", quanta.mass), ("energy", quanta.energy)]
    {
        let right = (-EXPONENT_MAX..=EXPONENT_MAX).contains(&quantum.0);
        must(right, || format!("its {name} quantum is {quantum}"))?;
    }
    if let QuantaChoice::Given { position, momentum, mass } = scenario.quanta {
        let given = [position, momentum, mass] == [quanta.position.0, quanta.momentum.0, quanta.mass.0];
        must(given, || "its quanta are not those that its scenario gives".into())?;
    }
    let scale = 0.5 * exp2(2 * quanta.momentum.0 - quanta.mass.0 - quanta.energy.0);
    particles.iter().filter(|particle| particle.mass.pulls).try_for_each(|particle| {
        let p2: f64 = particle.momentum.0.iter().map(|&p| p as f64 * p as f64).sum();
        let kinetic = p2 * (scale / particle.mass.quanta as f64);
        let right = kinetic < exp2(KINETIC_BITS_MAX);
        must(right, || {
            format!("particle {} has too much energy for the energy quantum {}", particle.id.0, quanta.energy)
        })
    })
}

fn check_steps(header: &Header, scenario: &Scenario) -> Result<(), String> {
    let Header { step, last_step, wall_seconds, .. } = header;
    let of_scenario = scenario.steps();
    must(*last_step == of_scenario, || format!("it ends at step {last_step}, its scenario at step {of_scenario}"))?;
    must(step <= last_step, || format!("it stands at step {step} of {last_step}"))?;
    let at_start = *step > 0 || header.root == header.root_start;
    must(at_start, || "it stands at step 0 and its root is not the one at the start".into())?;
    must(*wall_seconds >= 0.0, || format!("it has taken {wall_seconds} s of wall time"))
}

fn check_names(header: &Header, particles: &[Particle]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    header.names.iter().try_for_each(|(id, name)| {
        let known = particles.binary_search_by_key(id, |particle| particle.id.0).is_ok();
        must(known, || format!("it names particle {id}, which it does not have"))?;
        must(seen.insert(name), || format!("it gives the name \"{}\" twice", name.escape_debug()))
    })
}

/// Whether a book and a record can be those of any run: sums of what they hold stay within 128 bits, and every float is a number.
///
/// # Errors
/// What cannot be, in words.
pub fn check_history(ledger: &Ledger, drifts: &Drifts) -> Result<(), String> {
    let fits = |value: i128, bits: u32| value.unsigned_abs() <= 1 << bits;
    let sums = [ledger.opening, ledger.booked(), ledger.due()];
    for held in ledger.accounts.values().chain(&sums) {
        let [x, y, z] = held.momentum;
        let exact = [held.count, held.mass, x, y, z].into_iter().all(|value| fits(value, TOTAL_BITS_MAX));
        must(exact && fits(held.energy, ENERGY_BITS_MAX), || "its ledger holds more than there can be".into())?;
    }
    let energies = [drifts.energy_start(), drifts.energy_last()];
    must(energies.into_iter().all(|e| fits(e, ENERGY_BITS_MAX)), || "its record of energy is out of range".into())?;
    must(drifts.is_finite(), || "its record holds what is no number".into())?;
    let scales = [energy_scale(drifts), drifts.angular_scale()];
    must(scales.into_iter().all(|scale| scale >= 1.0), || "its record measures drifts by less than one quantum".into())
}

/// What the particles hold must be what the ledger says, unless a breach was kept.
fn check_book(header: &Header, scenario: &Scenario, particles: &[Particle]) -> Result<(), String> {
    check_history(&header.ledger, &header.drifts)?;
    if header.breaches.is_empty() {
        let due = header.ledger.due();
        let counted = Amounts { energy: due.energy, ..count(particles) };
        exact(&counted, &due, scenario.audit.angular_momentum)
            .map_err(|breach| format!("its particles are not what its ledger says: {breach}"))?;
    }
    Ok(())
}

/// What energy errors are relative to, as one quantum of error shows it [energy quanta].
fn energy_scale(drifts: &Drifts) -> f64 {
    let kinetic = drifts.energy_start() + 1;
    let recount = Recount {
        step: 0,
        kinetic,
        potential: 0,
        booked: 0,
        angular_rounding: [0; 3],
        angular_size: 0.0,
        centre: [0.0; 3],
    };
    1.0 / drifts.energy_error(&recount)
}

fn count(particles: &[Particle]) -> Amounts {
    let one = |p: &Particle| Amounts {
        count: 1,
        mass: p.mass.quanta.into(),
        momentum: p.momentum.0.map(i128::from),
        angular_momentum: cross(p.position.0, p.momentum.0),
        energy: 0,
    };
    particles.iter().map(one).fold(Amounts::default(), Amounts::plus)
}

fn check_breaches(header: &Header) -> Result<(), String> {
    header.breaches.iter().try_for_each(|report| {
        let axis = match report.breach {
            Breach::Exact { what: Exact::Momentum(axis) | Exact::AngularMomentum(axis), .. } => axis,
            _ => 0,
        };
        must(axis < 3, || format!("a breach along axis {axis}"))?;
        // The step that was undone is the one after those that count.
        let step = report.step;
        must(step <= header.step + 1, || format!("a breach at step {step}, and it stands at step {}", header.step))
    })
}

fn check_outcomes(header: &Header, scenario: &Scenario) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    header.outcomes.iter().try_for_each(|outcome| {
        let index = outcome.index;
        must(index < scenario.expect.len(), || {
            format!("an outcome of expectation {index}, which its scenario has not")
        })?;
        must(seen.insert(index), || format!("two outcomes of expectation {index}"))?;
        must(outcome.step <= header.step, || format!("an outcome of step {}, which is to come", outcome.step))
    })
}
