//! How long a round trip takes, and how long to wait: RFC 6298 in integers.
//!
//! Every datagram has a number of its own, sent again or not, so no sample is ambiguous (what Karn's rule is for).

use super::limits::Limits;

/// An estimate of the round-trip time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RoundTrip {
    /// Smoothed [ns]; 0 before the first sample.
    pub(super) smoothed_ns: u64,
    deviation_ns: u64,
    latest_ns: u64,
}

impl RoundTrip {
    /// Takes a sample, less the time that the other end says it waited.
    pub(super) fn sample(&mut self, measured_ns: u64, waited_ns: u64) {
        // A wait that the other end may not have had cannot make a round trip shorter than half of what was measured.
        let sample = measured_ns.saturating_sub(waited_ns.min(measured_ns / 2)).max(1);
        self.latest_ns = sample;
        if self.smoothed_ns == 0 {
            self.smoothed_ns = sample;
            self.deviation_ns = sample / 2;
            return;
        }
        let error = self.smoothed_ns.abs_diff(sample);
        self.deviation_ns = self.deviation_ns - self.deviation_ns / 4 + error / 4;
        self.smoothed_ns = (self.smoothed_ns - self.smoothed_ns / 8 + sample / 8).max(1);
    }

    /// How long silence may last before a probe is sent, doubled for each time it did.
    pub(super) fn timeout_ns(&self, limits: &Limits, doublings: u32) -> u64 {
        let base = match self.smoothed_ns {
            0 => limits.resend_ns_first,
            smoothed => smoothed.saturating_add(4 * self.deviation_ns).saturating_add(limits.ack_delay_ns),
        };
        let base = base.clamp(limits.resend_ns_min, limits.resend_ns_max);
        base.saturating_mul(1 << doublings.min(20)).min(limits.resend_ns_max)
    }

    /// How much earlier than an acknowledged datagram another must have been sent to count as lost. `patience` grows from 1 with
    /// each loss that was none.
    pub(super) fn reorder_ns(&self, patience: u64) -> u64 {
        let round_trip = self.smoothed_ns.max(self.latest_ns);
        (round_trip / 8).saturating_mul(patience).max(GRANULARITY_NS)
    }
}

/// Datagrams closer together than this say nothing about each other's fate: batches are taken in whole.
const GRANULARITY_NS: u64 = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_stays_within_its_limits_whatever_is_measured() {
        let limits = Limits::default();
        let mut round_trip = RoundTrip::default();
        for sample in [0, 1, 100, u64::MAX / 8, 50_000, 0, 3] {
            round_trip.sample(sample, 10);
            for doublings in 0..70 {
                let timeout = round_trip.timeout_ns(&limits, doublings);
                assert!((limits.resend_ns_min..=limits.resend_ns_max).contains(&timeout), "{timeout}");
            }
        }
    }

    #[test]
    fn a_steady_round_trip_is_learnt() {
        let mut round_trip = RoundTrip::default();
        (0..200).for_each(|_| round_trip.sample(1_000_000, 0));
        assert!(round_trip.smoothed_ns.abs_diff(1_000_000) < 100, "{round_trip:?}");
        assert!(round_trip.timeout_ns(&Limits::default(), 0) == 2_000_000);
    }
}
