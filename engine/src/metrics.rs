//! Counts what was done and how long it took. Nothing here reaches state.

use std::time::{Duration, Instant};

use bevy_ecs::prelude::*;

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
