//! Whether a step counts: a recount of what must be conserved, compared with the ledger.
//!
//! Particle count, mass and momentum are integers and are compared with `==` after every step, and so is the booking identity
//! of angular momentum, L(t) = L(0) + booked. Energy and the centre of mass may drift within declared bounds and are looked at
//! now and then. NaN is a breach: comparisons are written so that it cannot pass.
//!
//! A breach is a value. It names the quantity, the amounts, the step and, where that can be known, the particle or the pair.

use std::fmt;

use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    ledger::Amounts,
    math::{cross, norm},
    particle::{Names, ParticleId, WorkingSet},
    quanta::{Quanta, exp2},
    scenario::format::OnBreach,
    text::harmless,
};

/// What is checked beyond the exact quantities, and what happens on a breach.
#[derive(Resource, Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Whether angular momentum is booked stage by stage.
    pub angular_momentum: bool,
    /// Energy is recounted at steps that are multiples of this, at least 1.
    pub energy_every: u64,
    /// Largest |ΔE|/|E₀| from one recount to the next.
    pub energy_step_tolerance: Option<f64>,
    /// Largest |E − E₀|/|E₀|.
    pub energy_tolerance: Option<f64>,
    /// Largest distance of the centre of mass from its uniform motion [length].
    pub centre_of_mass_tolerance: Option<f64>,
    /// What happens on a breach.
    pub on_breach: OnBreach,
}

/// Quantities that are compared with `==`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exact {
    /// Number of particles.
    Count,
    /// Mass.
    Mass,
    /// Linear momentum along an axis (0, 1, 2).
    Momentum(usize),
    /// Angular momentum about an axis, less what the ledger booked.
    AngularMomentum(usize),
}

/// Quantities that may drift within a declared bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bounded {
    /// Energy against the last recount, relative.
    EnergyStep,
    /// Energy against the start, relative.
    Energy,
    /// Centre of mass against its uniform motion [length].
    CentreOfMass,
}

/// What broke.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Breach {
    /// A quantity that is compared with `==`, in quanta, as decimal text.
    Exact {
        /// The quantity.
        what: Exact,
        /// What the ledger says it must be.
        due: String,
        /// What was counted.
        counted: String,
    },
    /// A quantity that may drift within a bound.
    Bounded {
        /// The quantity.
        what: Bounded,
        /// How far it was.
        drift: f64,
        /// How far it may be.
        bound: f64,
    },
    /// A particle left the range of its integers.
    Range {
        /// `position` or `momentum`.
        what: String,
        /// The particle.
        particle: u64,
        /// Its name.
        name: String,
    },
    /// The impulse of a pair is larger than the contract can carry.
    Impulse {
        /// The particle that is pulled.
        particle: u64,
        /// Its name.
        name: String,
        /// The particle that pulls.
        other: u64,
        /// Its name.
        other_name: String,
    },
}

impl Breach {
    /// A particle out of range.
    #[must_use]
    pub fn out_of_range(what: &str, id: u64, names: &Names) -> Self {
        Self::Range { what: what.to_owned(), particle: id, name: names.of(ParticleId(id)) }
    }

    /// A pair out of range.
    #[must_use]
    pub fn impulse(pair: [u64; 2], names: &Names) -> Self {
        let [name, other_name] = pair.map(|id| names.of(ParticleId(id)));
        Self::Impulse { particle: pair[0], name, other: pair[1], other_name }
    }
}

impl Breach {
    /// The same with the names of its particles, where only their numbers were known.
    #[must_use]
    pub fn renamed(self, names: &Names) -> Self {
        match self {
            Self::Range { what, particle, .. } => Self::out_of_range(&what, particle, names),
            Self::Impulse { particle, other, .. } => Self::impulse([particle, other], names),
            other => other,
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact { what, due, counted } => {
                // It may come from a peer, and so may every text in it.
                let axis = |axis: &usize| ["x", "y", "z"].get(*axis).copied().unwrap_or("no axis");
                let (counted, due) = (harmless(counted), harmless(due));
                let name = match what {
                    Exact::Count => "particle count".to_owned(),
                    Exact::Mass => "mass".to_owned(),
                    Exact::Momentum(a) => format!("momentum along {}", axis(a)),
                    Exact::AngularMomentum(a) => format!("angular momentum about {}", axis(a)),
                };
                write!(f, "{name} is {counted} quanta, the ledger says {due}")
            }
            Self::Bounded { what, drift, bound } => {
                let name = match what {
                    Bounded::EnergyStep => "relative energy change since the last recount",
                    Bounded::Energy => "relative energy drift",
                    Bounded::CentreOfMass => "distance of the centre of mass from its uniform motion",
                };
                write!(f, "{name} is {drift:.3e}, the bound is {bound:.3e}")
            }
            Self::Range { what, name, .. } => {
                let (name, what) = (harmless(name), harmless(what));
                write!(f, "{name} left the range of its {what}: choose coarser quanta or a larger headroom")
            }
            Self::Impulse { name, other_name, .. } => {
                let (name, other_name) = (harmless(name), harmless(other_name));
                write!(
                    f,
                    "{name} and {other_name} came too close for the momentum quantum: use softening, a smaller dt or a larger headroom"
                )
            }
        }
    }
}

/// A breach with its place in time, and what was done about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreachReport {
    /// The step that was audited.
    pub step: u64,
    /// Simulated time after that step [time].
    pub time: f64,
    /// What broke.
    pub breach: Breach,
    /// Whether the step was undone.
    pub undone: bool,
}

impl fmt::Display for BreachReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = if self.undone { "the step was undone" } else { "the step was kept" };
        write!(f, "step {} (t = {}): {}; {fate}", self.step, self.time, self.breach)
    }
}

/// Kept or undone.
#[must_use = "a step is neither kept nor undone until its verdict is applied"]
#[derive(Resource, Clone, Debug, Default, PartialEq)]
pub enum Verdict {
    /// Make the steps final.
    #[default]
    Keep,
    /// Keep the steps but remember this.
    KeepAndRecord(Breach),
    /// Keep the steps as evidence and stop.
    KeepAndStop(Breach),
    /// Keep the first `good` steps of the pass, undo the one after them, stop.
    Undo {
        /// Steps of the pass that stay.
        good: u64,
        /// What broke in the next one.
        breach: Breach,
    },
}

/// Compares counted amounts with what is due: count, mass, momentum and, if `angular`, angular momentum.
///
/// # Errors
/// The first quantity that differs.
pub fn exact(counted: &Amounts, due: &Amounts, angular: bool) -> Result<(), Breach> {
    let equal = |what: Exact, counted: i128, due: i128| {
        if counted == due {
            return Ok(());
        }
        Err(Breach::Exact { what, due: due.to_string(), counted: counted.to_string() })
    };
    equal(Exact::Count, counted.count, due.count)?;
    equal(Exact::Mass, counted.mass, due.mass)?;
    for axis in 0..3 {
        equal(Exact::Momentum(axis), counted.momentum[axis], due.momentum[axis])?;
    }
    for axis in (0..3).filter(|_| angular) {
        equal(Exact::AngularMomentum(axis), counted.angular_momentum[axis], due.angular_momentum[axis])?;
    }
    Ok(())
}

/// NaN is a breach, not a pass.
fn within(what: Bounded, drift: f64, bound: Option<f64>) -> Result<(), Breach> {
    let Some(bound) = bound else { return Ok(()) };
    let within = drift.abs() <= bound;
    if within { Ok(()) } else { Err(Breach::Bounded { what, drift, bound }) }
}

/// Mass-weighted sum of the positions of the sources [mass quanta · position quanta], and their mass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Centre {
    sum: [i128; 3],
    mass: i128,
}

impl Centre {
    /// Counts it.
    #[must_use]
    pub fn of(set: &WorkingSet) -> Self {
        let mut centre = Self::default();
        for row in 0..set.sources {
            let mass = set.mass[row] as i128;
            centre.mass += mass;
            for axis in 0..3 {
                centre.sum[axis] += mass * i128::from(set.position[axis][row]);
            }
        }
        centre
    }

    /// From sums that somebody else made: Σ m·x, and Σ m.
    #[must_use]
    pub fn of_sums(sum: [i128; 3], mass: i128) -> Self {
        Self { sum, mass }
    }

    /// The centre of mass [position quanta]; the origin where nothing has mass.
    #[must_use]
    pub fn place(&self) -> [f64; 3] {
        self.sum.map(|sum| sum as f64 / self.mass.max(1) as f64)
    }
}

/// A recount of the bounded quantities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recount {
    /// Step at which it was made.
    pub step: u64,
    /// Kinetic energy of the sources [energy quanta].
    pub kinetic: i128,
    /// Potential energy of the sources [energy quanta].
    pub potential: i128,
    /// Energy that accounts outside the particles hold [energy quanta].
    pub booked: i128,
    /// What rounding did to the angular momentum since the start [position quanta · momentum quanta].
    pub angular_rounding: [i128; 3],
    /// Σ|x × p| of the sources: the angular momentum that is in play, whether or not it adds up to zero.
    pub angular_size: f64,
    /// Centre of mass of the sources [position quanta].
    pub centre: [f64; 3],
}

impl Recount {
    /// Energy that must not drift [energy quanta]. Shares of it come from peers: what is beyond 128 bits ends there.
    #[must_use]
    pub fn energy(&self) -> i128 {
        self.kinetic.saturating_add(self.potential).saturating_add(self.booked)
    }
}

/// The bounded quantities since the start of the run.
#[derive(Resource, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drifts {
    /// Energy at the start, as two halves of an i128 [energy quanta].
    energy_start: Wide,
    /// Energy at the last recount [energy quanta].
    energy_last: Wide,
    /// What relative energy errors are relative to [energy quanta]: |E₀|, or the sum of |T| and |U| where E₀ is all but zero.
    energy_scale: f64,
    /// What relative angular momentum errors are relative to: the largest Σ|x × p| of all recounts so far.
    angular_scale: f64,
    /// Centre of mass at the start [position quanta].
    centre_start: [f64; 3],
    /// Its velocity [position quanta per time].
    centre_velocity: [f64; 3],
    /// Largest relative energy error of all recounts so far.
    pub energy_max: f64,
    /// Relative energy error of the last recount.
    pub energy_now: f64,
    /// Largest relative angular momentum error of all recounts so far.
    pub angular_max: f64,
    /// Relative angular momentum error of the last recount.
    pub angular_now: f64,
    /// Largest distance of the centre of mass from its uniform motion so far [length].
    pub centre_max: f64,
}

/// An i128 that survives JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Wide(i128);

impl From<Wide> for String {
    fn from(value: Wide) -> Self {
        value.0.to_string()
    }
}

impl TryFrom<String> for Wide {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl Drifts {
    /// Starts the record with a first recount. `momentum` is that of the sources [momentum quanta].
    #[must_use]
    pub fn starting_at(first: &Recount, centre: Centre, momentum: [i128; 3], quanta: &Quanta) -> Self {
        let (energy, size) = (first.energy() as f64, first.kinetic as f64 - first.potential as f64);
        let per_mass = exp2(quanta.momentum.0 - quanta.mass.0 - quanta.position.0) / centre.mass.max(1) as f64;
        Self {
            energy_start: Wide(first.energy()),
            energy_last: Wide(first.energy()),
            energy_scale: if energy.abs() > 1e-6 * size { energy.abs() } else { size.max(1.0) },
            angular_scale: first.angular_size.max(1.0),
            centre_start: first.centre,
            centre_velocity: momentum.map(|p| p as f64 * per_mass),
            energy_max: 0.0,
            energy_now: 0.0,
            angular_max: 0.0,
            angular_now: 0.0,
            centre_max: 0.0,
        }
    }

    /// Takes a recount into the record. `time` is that of the recount.
    ///
    /// # Errors
    /// The first bound that does not hold.
    pub fn take(&mut self, recount: &Recount, time: f64, quanta: &Quanta, rules: &Rules) -> Result<(), Breach> {
        let change = recount.energy().saturating_sub(self.energy_last.0) as f64 / self.energy_scale;
        self.energy_now = self.energy_error(recount);
        self.energy_last = Wide(recount.energy());
        self.energy_max = worst(self.energy_max, self.energy_now);
        self.angular_scale = self.angular_scale.max(recount.angular_size);
        self.angular_now = self.angular_error(recount);
        self.angular_max = worst(self.angular_max, self.angular_now);
        let strayed = std::array::from_fn(|axis| {
            recount.centre[axis] - (self.centre_start[axis] + self.centre_velocity[axis] * time)
        });
        let strayed = norm(strayed) * quanta.position.size();
        self.centre_max = worst(self.centre_max, strayed);
        within(Bounded::EnergyStep, change, rules.energy_step_tolerance)?;
        within(Bounded::Energy, self.energy_now, rules.energy_tolerance)?;
        within(Bounded::CentreOfMass, strayed, rules.centre_of_mass_tolerance)
    }

    /// What relative angular momentum errors are relative to: the largest Σ|x × p| so far [position quanta · momentum quanta].
    #[must_use]
    pub fn angular_scale(&self) -> f64 {
        self.angular_scale
    }

    /// The relative energy error that a recount shows.
    #[must_use]
    pub fn energy_error(&self, recount: &Recount) -> f64 {
        recount.energy().saturating_sub(self.energy_start.0) as f64 / self.energy_scale
    }

    /// The relative angular momentum error that a recount shows: what rounding did, over the largest Σ|x × p| so far.
    #[must_use]
    pub fn angular_error(&self, recount: &Recount) -> f64 {
        norm(recount.angular_rounding.map(|l| l as f64)) / self.angular_scale.max(recount.angular_size).max(1.0)
    }

    /// Whether every float of it is a number. One that is not passes no recount, and no file can hold it.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        let Self { energy_scale, angular_scale, centre_start, centre_velocity, .. } = *self;
        let seen = [self.energy_max, self.energy_now, self.angular_max, self.angular_now, self.centre_max];
        let all = [centre_start, centre_velocity].concat();
        [energy_scale, angular_scale].into_iter().chain(seen).chain(all).all(f64::is_finite)
    }

    /// Energy at the start [energy quanta].
    #[must_use]
    pub fn energy_start(&self) -> i128 {
        self.energy_start.0
    }

    /// Energy at the last recount [energy quanta].
    #[must_use]
    pub fn energy_last(&self) -> i128 {
        self.energy_last.0
    }
}

/// The larger size; NaN stays.
fn worst(so_far: f64, now: f64) -> f64 {
    if now.abs() <= so_far { so_far } else { now.abs() }
}

/// Σ|x × p| over the sources, where |·| adds the sizes of the components: an integer sum, so it does not depend on who counts.
#[must_use]
pub fn angular_size(set: &WorkingSet) -> f64 {
    let sizes = (0..set.sources).map(|row| taxicab(cross(set.position_at(row), set.momentum_at(row))));
    sizes.fold(0_u128, u128::saturating_add) as f64 * TAXICAB_UNIT
}

/// The unit of [`taxicab`]: coarse enough that millions of particles at the edge of every range can be added.
pub const TAXICAB_UNIT: f64 = (1_u64 << 16) as f64;

/// |x| + |y| + |z|, in whole [`TAXICAB_UNIT`]s.
#[must_use]
pub fn taxicab(v: [i128; 3]) -> u128 {
    (v[0].unsigned_abs() + v[1].unsigned_abs() + v[2].unsigned_abs()) >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_a_breach_not_a_pass() {
        assert!(within(Bounded::Energy, f64::NAN, Some(1.0)).is_err());
        assert!(within(Bounded::Energy, 1.0, Some(1.0)).is_ok());
        assert!(worst(1.0, f64::NAN).is_nan());
    }

    #[test]
    fn one_quantum_too_many_is_named() {
        let due = Amounts { count: 2, momentum: [5, 0, -7], ..Amounts::default() };
        let counted = Amounts { momentum: [5, 0, -6], ..due };

        let breach = exact(&counted, &due, true).unwrap_err();

        assert_eq!(breach.to_string(), "momentum along z is -6 quanta, the ledger says -7");
    }
}
