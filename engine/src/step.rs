//! The phases of a step, their order, and the clock that counts steps.
//!
//! This module names the phases and knows nobody: who runs in a phase is said in [`crate::plugins`].

use bevy_ecs::{prelude::*, schedule::ScheduleLabel};

/// The schedule that proposes, audits and commits one pass of one or more steps.
#[derive(ScheduleLabel, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step;

/// The phases of [`Step`], in order.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepSystems {
    /// Takes in what came from outside since the last pass and gathers the particles into lanes.
    Admit,
    /// Moves the proposal by whole steps: drift, force, kick, each stage booked and every step recounted.
    Advance,
    /// Systems of extensions: they change particles and post what they did to the ledger.
    Extend,
    /// Recounts what must be conserved and compares it with the ledger.
    Audit,
    /// Makes the steps final, or undoes them.
    Commit,
    /// Closes the account of the pass.
    Account,
}

impl StepSystems {
    /// All phases, in order.
    pub const ORDER: [Self; 6] = [Self::Admit, Self::Advance, Self::Extend, Self::Audit, Self::Commit, Self::Account];
}

/// Counts committed steps. Time is a step index, so that it has no rounding of its own.
#[derive(Resource, Clone, Copy, Debug, PartialEq)]
pub struct Clock {
    /// Committed steps since the start of the scenario; it counts down when the run goes backwards.
    pub step: u64,
    /// Length of a step [time].
    pub dt: f64,
    /// Whether steps are taken backwards.
    pub backwards: bool,
}

impl Clock {
    /// Simulated time [time].
    #[must_use]
    pub fn time(&self) -> f64 {
        self.step as f64 * self.dt
    }

    /// The signed length of the next step [time].
    #[must_use]
    pub fn signed_dt(&self) -> f64 {
        if self.backwards { -self.dt } else { self.dt }
    }

    /// The step count after `steps` more steps in the present direction.
    #[must_use]
    pub fn after(&self, steps: u64) -> u64 {
        if self.backwards { self.step.saturating_sub(steps) } else { self.step.saturating_add(steps) }
    }

    /// Counts `steps` committed steps.
    pub fn advance(&mut self, steps: u64) {
        self.step = self.after(steps);
    }
}
