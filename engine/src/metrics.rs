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

/// What something costs when nothing else gets in the way: the least of what is measured, forgotten slowly, so that it follows what
/// changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Least(Option<u64>);

/// A measurement above the least, however far, makes it larger by no more than one part in so many of itself.
const DISBELIEF: u64 = 64;

impl Least {
    /// Takes in a measurement.
    pub fn take(&mut self, measured: u64) {
        self.0 = Some(match self.0 {
            Some(least) => measured.min(least.saturating_add(least / DISBELIEF + 1)),
            None => measured,
        });
    }

    /// The least; `None` before the first measurement.
    #[must_use]
    pub fn get(self) -> Option<u64> {
        self.0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_believed_at_once_and_more_slowly_however_much_it_is() {
        let mut least = Least::default();
        assert_eq!(least.get(), None);
        for (measured, believed) in [(6_400, 6_400), (9_000_000, 6_501), (6_450, 6_450), (100, 100), (u64::MAX, 102)] {
            least.take(measured);
            assert_eq!(least.get(), Some(believed), "{measured}");
        }
        (0..1_000).for_each(|_| least.take(6_400));
        assert_eq!(least.get(), Some(6_400), "what stays is learnt");
    }
}
