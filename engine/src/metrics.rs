//! Counts what was done and how long it took. Nothing here reaches state.

use std::time::{Duration, Instant};

use bevy_ecs::prelude::*;
use serde::Serialize;

/// The one clock of the engine that looks at the wall.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts it.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the stopwatch that the ban names")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// The moment so long after the start, whether it has come or not: for libraries that insist on an `Instant` and shall get
    /// the time of a clock that is handed in.
    #[must_use]
    pub fn moment(&self, after: Duration) -> Instant {
        self.0 + after
    }

    /// Seconds since the start.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}

/// Work done so far.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Passes of the pipeline.
    pub passes: u64,
}

/// Closes the account of a pass.
pub fn account(mut work: ResMut<'_, Work>) {
    work.passes += 1;
}

/// What the time of a step goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Impulses of pairs.
    Force,
    /// Kicks, drifts and their bookings.
    Motion,
    /// Last kicks with the recount after each step, and recounts.
    Audit,
    /// Columns to a device and back.
    Transfer,
}

/// Where the time went, phase by phase, whoever did the work: a device measures its own phases, the CPU's are measured around the
/// calls. A handful of bodies is too fast to be looked at that closely: their steps are all `Force`.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Phases {
    /// [s]
    pub force: f64,
    /// [s]
    pub motion: f64,
    /// [s]
    pub audit: f64,
    /// [s]
    pub transfer: f64,
}

impl Phases {
    /// Adds to a phase.
    pub fn add(&mut self, phase: Phase, seconds: f64) {
        let spent = match phase {
            Phase::Force => &mut self.force,
            Phase::Motion => &mut self.motion,
            Phase::Audit => &mut self.audit,
            Phase::Transfer => &mut self.transfer,
        };
        *spent += seconds;
    }

    /// Does something and adds how long it took.
    pub fn time<T>(&mut self, phase: Phase, work: impl FnOnce() -> T) -> T {
        let watch = Stopwatch::start();
        let done = work();
        self.add(phase, watch.seconds());
        done
    }

    /// Adds all phases of another account.
    pub fn add_all(&mut self, other: &Self) {
        self.force += other.force;
        self.motion += other.motion;
        self.audit += other.audit;
        self.transfer += other.transfer;
    }

    /// All of them [s].
    #[must_use]
    pub fn total(&self) -> f64 {
        self.force + self.motion + self.audit + self.transfer
    }
}
