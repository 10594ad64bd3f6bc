//! When something is due: by step, by simulated time, by wall time; whichever comes first.
//!
//! Steps and simulated times are functions of the step count alone, so that a resumed run writes where the uninterrupted one
//! would have written. Wall time is the exception that a cadence may ask for, and it never touches state.

use crate::scenario::format::Cadence;

/// A cadence with its place in a run.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    cadence: Cadence,
    dt: f64,
    wall_last: f64,
}

impl Schedule {
    /// A schedule for steps of `dt`.
    #[must_use]
    pub fn new(cadence: Cadence, dt: f64) -> Self {
        Self { cadence, dt, wall_last: 0.0 }
    }

    /// The first step after `step` at which something is due by step or by simulated time.
    #[must_use]
    pub fn next_step(&self, step: u64) -> u64 {
        let by_step = self.cadence.steps.map_or(u64::MAX, |every| (step / every + 1).saturating_mul(every));
        let by_time = self.cadence.time.map_or(u64::MAX, |every| self.first_step_in_next_interval(step, every));
        by_step.min(by_time)
    }

    /// The first step at or after the next multiple of `every`.
    fn first_step_in_next_interval(&self, step: u64, every: f64) -> u64 {
        if every <= self.dt {
            return step + 1;
        }
        // A step that falls short of a multiple by rounding alone counts as being there.
        let interval = |step: u64| (step as f64 * self.dt / every * (1.0 + 1e-12)).floor();
        let target = (interval(step) + 1.0) * every;
        let near = (target / self.dt).ceil().max(1.0) as u64;
        let near = near.saturating_sub(1).max(step + 1);
        (near..=near.saturating_add(2)).find(|&s| interval(s) > interval(step)).unwrap_or(near)
    }

    /// Whether something is due at this step, or by wall time [s]; if so, the wall clock of the schedule starts anew.
    pub fn is_due(&mut self, step: u64, wall: f64) -> bool {
        let by_step = step > 0 && self.next_step(step - 1) == step;
        let by_wall = self.cadence.wall.is_some_and(|every| wall - self.wall_last >= every);
        if by_step || by_wall {
            self.wall_last = wall;
        }
        by_step || by_wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(cadence: Cadence, dt: f64, steps: u64) -> Vec<u64> {
        let mut schedule = Schedule::new(cadence, dt);
        (1..=steps).filter(|&step| schedule.is_due(step, 0.0)).collect()
    }

    #[test]
    fn every_third_step_and_every_unit_of_time() {
        let every = |steps, time| Cadence { steps, time, wall: None };
        assert_eq!(due(every(Some(3), None), 0.1, 10), [3, 6, 9]);
        assert_eq!(due(every(None, Some(1.0)), 0.1, 30), [10, 20, 30]);
        assert_eq!(due(every(None, Some(0.25)), 0.1, 10), [3, 5, 8, 10]);
        assert_eq!(due(every(Some(4), Some(0.3)), 0.1, 9), [3, 4, 6, 8, 9]);
        assert_eq!(due(every(None, None), 0.1, 9), [0; 0]);
        assert_eq!(due(every(None, Some(1e-3)), 0.1, 3), [1, 2, 3]);
        assert_eq!(due(every(None, Some(5e-324)), 0.1, 3), [1, 2, 3]);
    }

    #[test]
    fn next_step_is_the_next_that_is_due() {
        let cadence = Cadence { steps: Some(7), time: Some(0.35), wall: None };
        let schedule = Schedule::new(cadence, 0.1);
        let mut step = 0;
        let mut seen = vec![];
        while step < 40 {
            step = schedule.next_step(step);
            seen.push(step);
        }
        assert_eq!(seen, due(cadence, 0.1, step));
    }

    #[test]
    fn wall_time_counts_from_the_last_time() {
        let mut schedule = Schedule::new(Cadence { wall: Some(2.0), ..Cadence::default() }, 1.0);
        assert!(!schedule.is_due(1, 1.9));
        assert!(schedule.is_due(2, 2.5));
        assert!(!schedule.is_due(3, 4.0));
        assert!(schedule.is_due(4, 4.5));
    }
}
