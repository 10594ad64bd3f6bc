//! Says how often something may happen: so often at once, then so often a second.
//!
//! Integers only, and the time is handed in, so a limit is the same on every machine and in every simulation.

use crate::wire::Time;

const SECOND: u64 = 1_000_000_000;

/// A token bucket: each event takes a token, tokens come back at a steady rate.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// Time in which one token comes back [ns].
    interval: u64,
    /// What a full bucket holds, as the time in which it fills [ns].
    capacity: u64,
    /// What it holds now, as time [ns].
    level: u64,
    last: Time,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens, of which `per_second` come back each second.
    ///
    /// # Panics
    /// If one of the two is zero: that is no limit but a wall.
    #[must_use]
    pub fn new(per_second: u32, burst: u32, now: Time) -> Self {
        assert!(per_second > 0 && burst > 0, "{per_second} a second in bursts of {burst}");
        let interval = SECOND / u64::from(per_second);
        let capacity = interval * u64::from(burst);
        Self { interval, capacity, level: capacity, last: now }
    }

    /// Takes a token if there is one. A clock that goes backwards brings none.
    pub fn take(&mut self, now: Time) -> bool {
        self.level = self.level.saturating_add(now.since(self.last)).min(self.capacity);
        self.last = self.last.max(now);
        let enough = self.level >= self.interval;
        if enough {
            self.level -= self.interval;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_and_never_more_than_the_burst_after_a_rest() {
        let mut bucket = TokenBucket::new(10, 3, Time(0));

        let at_once = (0..5).filter(|_| bucket.take(Time(0))).count();
        let in_a_second = (0..1000).filter(|ms| bucket.take(Time(ms * 1_000_000))).count();
        let after_a_rest = (0..9).filter(|_| bucket.take(Time(100 * SECOND))).count();

        assert_eq!((at_once, in_a_second, after_a_rest), (3, 9, 3));
    }

    #[test]
    fn a_clock_that_goes_backwards_brings_no_tokens() {
        let mut bucket = TokenBucket::new(1, 1, Time(5 * SECOND));
        assert!(bucket.take(Time(5 * SECOND)));

        let taken = (0..10).rev().filter(|s| bucket.take(Time(s * SECOND / 2))).count();

        assert_eq!(taken, 0);
        assert!(bucket.take(Time(6 * SECOND)));
    }
}
