//! What follows from a scenario by arithmetic, without making a particle.
//!
//! The answers hold for a scenario that passed `check`; for any other they are some number, never a panic.

use super::format::{Generator, Integrator, Scenario, Until};
use crate::math;

impl Integrator {
    /// The time step, in scenario units.
    pub fn dt(self) -> f64 {
        match self {
            Self::Leapfrog { dt } | Self::Yoshida4 { dt } | Self::Srkn6b { dt } | Self::Srkn11b { dt } => dt,
        }
    }

    /// The name of the splitting: `leapfrog`, `yoshida4`, `srkn6b` or `srkn11b`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leapfrog { .. } => "leapfrog",
            Self::Yoshida4 { .. } => "yoshida4",
            Self::Srkn6b { .. } => "srkn6b",
            Self::Srkn11b { .. } => "srkn11b",
        }
    }
}

impl Generator {
    /// How many bodies it makes; 0 for a table, whose file is not looked at.
    pub fn count(&self) -> u64 {
        match self {
            Self::Plummer { count, .. } | Self::Hernquist { count, .. } | Self::UniformSphere { count, .. } => *count,
            Self::ExponentialDisc { count, halo_count, .. } => count.saturating_add(*halo_count),
            Self::CubicLattice { side, .. } => side.saturating_mul(*side).saturating_mul(*side),
            Self::Kepler { .. } => 2,
            Self::Table { .. } => 0,
        }
    }

    /// Its name in a scenario file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Plummer { .. } => "Plummer",
            Self::Hernquist { .. } => "Hernquist",
            Self::UniformSphere { .. } => "UniformSphere",
            Self::ExponentialDisc { .. } => "ExponentialDisc",
            Self::CubicLattice { .. } => "CubicLattice",
            Self::Kepler { .. } => "Kepler",
            Self::Table { .. } => "Table",
        }
    }
}

impl Scenario {
    /// The time step, in scenario units.
    pub fn dt(&self) -> f64 {
        self.integrator.dt()
    }

    /// The name of the splitting: `leapfrog`, `yoshida4`, `srkn6b` or `srkn11b`.
    pub fn integrator_name(&self) -> &'static str {
        self.integrator.name()
    }

    /// The number of steps of the whole run. A time that is a whole number of steps but for rounding takes no extra step.
    pub fn steps(&self) -> u64 {
        match self.until {
            Until::Steps(steps) => steps,
            Until::Time(time) => math::ceil(steps_short_of(time / self.dt())) as u64,
        }
    }

    /// The step at whose end a simulated time is reached, to the nearest; the last step for `None`.
    pub fn step_of(&self, at: Option<f64>) -> u64 {
        at.map_or_else(|| self.steps(), |time| math::round(time / self.dt()) as u64)
    }

    /// The gravitational constant in scenario units: as given, or as it follows from the units.
    pub fn gravitational_constant(&self) -> f64 {
        self.gravity.constant.unwrap_or_else(|| self.units.gravitational_constant())
    }

    /// The number of particles, without making them. Rows of tables are not counted.
    pub fn count(&self) -> u64 {
        let written = self.bodies.len() as u64;
        self.generators.iter().map(Generator::count).fold(written, u64::saturating_add)
    }

    /// The scenario as a RON file with every default filled in. Reading it gives an equal scenario.
    pub fn to_ron(&self) -> String {
        let pretty = ron::ser::PrettyConfig::new().depth_limit(PRETTY_DEPTH).compact_arrays(false);
        super::read::options()
            .to_string_pretty(self, pretty)
            .expect("a scenario is plain data of bounded depth, and writing to a string cannot fail")
    }
}

/// Groups this deep get lines of their own; deeper ones (vectors, placements) stay on one line.
const PRETTY_DEPTH: usize = 3;

/// A quotient of times in steps, less what rounding may have added to it: 1e-9 of a step, or four units in the last place of a
/// quotient so large that these are more.
fn steps_short_of(quotient: f64) -> f64 {
    quotient - f64::max(1e-9, 4.0 * f64::EPSILON * quotient)
}
