//! How much may be under way, and how fast it leaves: NewReno in bytes (RFC 5681, RFC 6582) with the gentler cut of CUBIC (RFC 9438), paced.
//!
//! RFC 8085 asks this of everything on UDP. A cut that turns out to be wrong, because all that seemed lost came after all, is taken
//! back (Eifel, RFC 4015).

use super::limits::{BATCH_DATAGRAMS, Limits, WINDOW_MIN_DATAGRAMS};
use crate::wire::Time;

/// The window and the pace towards one peer.
#[derive(Clone, Debug)]
pub(super) struct Congestion {
    /// May be under way [bytes].
    pub(super) window: u64,
    threshold: u64,
    /// Bytes acknowledged since the window last grew by a datagram.
    credit: u64,
    datagram: u64,
    window_max: u64,
    /// Numbers below this were sent before the last cut: their loss is no news.
    recovery_until: u64,
    /// Window and threshold before the last cut, and how many losses speak for it.
    before: (u64, u64),
    evidence: u64,
    /// When the next batch may leave.
    pub(super) next_batch: Time,
}

impl Congestion {
    pub(super) fn new(datagram: usize, limits: &Limits) -> Self {
        let datagram = datagram as u64;
        let window_max = limits.window_bytes_max.max(WINDOW_MIN_DATAGRAMS * datagram);
        let window = (WINDOW_MIN_DATAGRAMS * datagram).min(window_max);
        Self {
            window,
            threshold: u64::MAX,
            credit: 0,
            datagram,
            window_max,
            recovery_until: 0,
            before: (window, u64::MAX),
            evidence: 0,
            next_batch: Time(0),
        }
    }

    fn window_min(&self) -> u64 {
        WINDOW_MIN_DATAGRAMS * self.datagram
    }

    /// A datagram arrived. `limited`: the window, and not the owner, was what held more back.
    pub(super) fn acknowledged(&mut self, number: u64, bytes: u64, limited: bool) {
        if number < self.recovery_until || !limited {
            return;
        }
        if self.window < self.threshold {
            self.window += bytes;
        } else {
            self.credit += bytes;
            if self.credit >= self.window {
                self.credit -= self.window;
                self.window += self.datagram;
            }
        }
        self.window = self.window.min(self.window_max);
    }

    /// A datagram was lost, when `next` was the next number: one cut per round trip.
    pub(super) fn lost(&mut self, number: u64, next: u64) {
        if number < self.recovery_until {
            self.evidence += 1;
            return;
        }
        self.before = (self.window, self.threshold);
        self.evidence = 1;
        self.recovery_until = next;
        self.window = (self.window * 7 / 10).max(self.window_min());
        self.threshold = self.window;
        self.credit = 0;
    }

    /// A datagram that was taken for lost had arrived.
    pub(super) fn not_lost(&mut self) {
        if self.evidence == 0 {
            return;
        }
        self.evidence -= 1;
        if self.evidence == 0 {
            (self.window, self.threshold) = (self.window.max(self.before.0), self.threshold.max(self.before.1));
        }
    }

    /// Nothing was heard for several timeouts: begin anew.
    pub(super) fn collapse(&mut self, next: u64) {
        self.threshold = (self.window / 2).max(self.window_min());
        self.window = self.window_min();
        self.recovery_until = next;
        self.evidence = 0;
        self.credit = 0;
    }

    /// A batch left: says when the next may. Twice the window per round trip at the start, then 5/4 of it.
    pub(super) fn left(&mut self, now: Time, bytes: u64, round_trip_ns: u64) {
        if round_trip_ns == 0 {
            return;
        }
        let quarters = if self.window < self.threshold { 8 } else { 5 };
        let interval = u128::from(bytes) * u128::from(round_trip_ns) * 4 / (u128::from(self.window) * quarters);
        // An owner that comes late may catch up, by a quarter of a round trip at most.
        let earliest = Time(now.0.saturating_sub(round_trip_ns / 4));
        self.next_batch = self.next_batch.max(earliest).plus(u64::try_from(interval).unwrap_or(u64::MAX));
    }

    /// Bytes that may leave in one go.
    pub(super) fn batch(&self) -> u64 {
        BATCH_DATAGRAMS as u64 * self.datagram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_losses_of_one_round_trip_are_one_cut_and_none_of_them_real_is_no_cut() {
        let mut congestion = Congestion::new(1000, &Limits::default());
        for number in 0..100 {
            congestion.acknowledged(number, 1000, true);
        }
        let before = congestion.window;

        for number in 100..110 {
            congestion.lost(number, 200);
        }
        assert_eq!(congestion.window, before * 7 / 10);
        for _ in 0..10 {
            congestion.not_lost();
        }
        assert_eq!(congestion.window, before);
    }

    #[test]
    fn the_window_stays_within_its_limits() {
        let limits = Limits { window_bytes_max: 100_000, ..Limits::default() };
        let mut congestion = Congestion::new(1000, &limits);
        for number in 0..10_000 {
            congestion.acknowledged(number, 1000, true);
            assert!(congestion.window <= 100_000);
        }
        for number in 10_000..10_100 {
            congestion.lost(number, number + 1);
            congestion.collapse(number + 1);
            assert!(congestion.window >= 10_000);
        }
    }
}
