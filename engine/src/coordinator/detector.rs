//! Phi-accrual failure detection: how unlikely it is that a peer is still there, from the rhythm of its beats.
//!
//! phi = −log₁₀ of the probability that a beat still comes after so long a silence, if intervals are normally distributed as they
//! were of late (Hayashibara and others, 2004). Everything is an integer and the distribution a table, so no float decides. A
//! suspicion alone expels nobody: it makes a replica ask the others.

use std::collections::VecDeque;

use crate::wire::Time;

/// Intervals that are remembered.
const WINDOW: usize = 64;

/// By how many thousandths of a standard deviation a silence exceeds the mean interval, where phi is 0, 1, 2, …: the quantiles
/// of the normal distribution whose upper tail is 10⁻ᵖʰⁱ (phi = 0 stands for the mean itself, where it is 0.3).
const QUANTILES: [u64; 17] =
    [0, 1_282, 2_326, 3_090, 3_719, 4_265, 4_753, 5_199, 5_612, 5_998, 6_361, 6_706, 7_034, 7_349, 7_651, 7_941, 8_222];

/// The largest phi that is told apart, and that may be a threshold.
pub const PHI_MAX: u32 = QUANTILES.len() as u32 - 1;

/// The rhythm of one peer.
#[derive(Clone, Debug)]
pub struct Detector {
    last: Time,
    intervals: VecDeque<u64>,
    deviation_ns_min: u64,
    /// How much of the silence since the last beat was excused [ns].
    excused_ns: u64,
}

impl Detector {
    /// Starts with the interval that is expected, and half of it as deviation.
    #[must_use]
    pub fn starting_at(now: Time, interval_ns: u64) -> Self {
        let intervals = VecDeque::from([interval_ns / 2, interval_ns + interval_ns / 2]);
        Self { last: now, intervals, deviation_ns_min: interval_ns / 2, excused_ns: 0 }
    }

    /// A beat came.
    pub fn beat(&mut self, now: Time) {
        assert!(self.intervals.len() <= WINDOW);
        if self.intervals.len() == WINDOW {
            self.intervals.pop_front();
        }
        self.intervals.push_back(now.since(self.last));
        (self.last, self.excused_ns) = (now, 0);
    }

    /// From now on silence counts anew; the rhythm is remembered.
    pub fn restart(&mut self, now: Time) {
        (self.last, self.excused_ns) = (now, 0);
    }

    /// Whoever did not listen for so long cannot tell silence from its own sleep: this much does not count, but no more than
    /// `ns_max` between two beats, so that somebody who sleeps often suspects late, and not never.
    pub fn excuse(&mut self, ns: u64, ns_max: u64) {
        let ns = ns.min(ns_max.saturating_sub(self.excused_ns));
        self.last = self.last.plus(ns);
        self.excused_ns += ns;
    }

    /// When a beat last came.
    #[must_use]
    pub fn last(&self) -> Time {
        self.last
    }

    /// How long a silence may be before phi reaches a threshold [ns].
    #[must_use]
    pub fn patience_ns(&self, phi: u32) -> u64 {
        let (mean, deviation) = self.rhythm();
        let sigmas = u128::from(QUANTILES[phi.min(PHI_MAX) as usize]);
        mean.saturating_add(u64::try_from(u128::from(deviation) * sigmas / 1000).unwrap_or(u64::MAX))
    }

    /// Whether the silence is too long. However the beats were, one of less than the first of `bounds` is not, and one of more than the
    /// second is.
    #[must_use]
    pub fn suspects(&self, now: Time, phi: u32, bounds: [u64; 2]) -> bool {
        now.since(self.last) > self.patience_ns(phi).max(bounds[0]).min(bounds[1])
    }

    /// phi in hundredths, for display.
    #[must_use]
    pub fn phi_hundredths(&self, now: Time) -> u32 {
        let (mean, deviation) = self.rhythm();
        let over = u128::from(now.since(self.last).saturating_sub(mean)) * 1000 / u128::from(deviation);
        let over = u64::try_from(over).unwrap_or(u64::MAX);
        let Some(next) = QUANTILES.iter().position(|quantile| *quantile > over) else { return PHI_MAX * 100 };
        let (low, high) = (QUANTILES[next - 1], QUANTILES[next]);
        (next as u32 - 1) * 100 + ((over - low) * 100 / (high - low)) as u32
    }

    /// Mean and standard deviation of the intervals [ns].
    fn rhythm(&self) -> (u64, u64) {
        let count = self.intervals.len() as u128;
        let mean = self.intervals.iter().map(|ns| u128::from(*ns)).sum::<u128>() / count;
        let square = |ns: &u64| u128::from(*ns).abs_diff(mean).saturating_pow(2);
        let variance = self.intervals.iter().map(square).fold(0, u128::saturating_add) / count;
        let deviation = u64::try_from(variance.isqrt()).unwrap_or(u64::MAX);
        (u64::try_from(mean).unwrap_or(u64::MAX), deviation.max(self.deviation_ns_min).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn beating(every_ms: &[u64]) -> (Detector, Time) {
        let mut detector = Detector::starting_at(Time(0), 50 * MS);
        let mut now = Time(0);
        for ms in every_ms.iter().cycle().take(200) {
            now = now.plus(ms * MS);
            detector.beat(now);
        }
        (detector, now)
    }

    #[test]
    fn silence_makes_suspicious_and_a_beat_clears_it() {
        let (mut detector, now) = beating(&[50]);

        let phis = [0, 50, 100, 150, 200].map(|ms| detector.phi_hundredths(now.plus(ms * MS)));
        assert!(phis.windows(2).all(|pair| pair[0] <= pair[1]), "{phis:?}");
        assert!(!detector.suspects(now.plus(150 * MS), 8, [0, u64::MAX]));
        assert!(detector.suspects(now.plus(200 * MS), 8, [0, u64::MAX]));

        detector.beat(now.plus(200 * MS));
        assert!(!detector.suspects(now.plus(250 * MS), 8, [0, u64::MAX]));
    }

    #[test]
    fn an_irregular_peer_is_given_more_time_up_to_a_limit() {
        let (steady, _) = beating(&[50]);
        let (irregular, now) = beating(&[10, 20, 300, 10]);

        assert!(irregular.patience_ns(8) > 2 * steady.patience_ns(8));
        assert!(!irregular.suspects(now.plus(500 * MS), 8, [0, u64::MAX]));
        assert!(irregular.suspects(now.plus(500 * MS), 8, [0, 400 * MS]));
    }

    #[test]
    fn own_sleep_is_no_silence_of_others_but_not_for_ever() {
        let (mut detector, now) = beating(&[50]);
        let suspects = |detector: &Detector, ms| detector.suspects(now.plus(ms * MS), 8, [0, u64::MAX]);
        assert!(suspects(&detector, 900));

        detector.excuse(800 * MS, 1_000 * MS);
        assert!(!suspects(&detector, 900) && suspects(&detector, 1_100));

        detector.excuse(800 * MS, 1_000 * MS);
        assert!(!suspects(&detector, 1_100) && suspects(&detector, 1_300), "200 ms were left to be excused");
    }

    #[test]
    fn the_rhythm_outlives_a_restart() {
        let (mut detector, now) = beating(&[10, 20, 300, 10]);
        let patience = detector.patience_ns(8);

        detector.restart(now.plus(5_000 * MS));

        assert_eq!(detector.patience_ns(8), patience);
        assert!(!detector.suspects(now.plus(5_400 * MS), 8, [0, u64::MAX]));
    }

    #[test]
    fn the_threshold_and_the_display_agree() {
        let (detector, now) = beating(&[40, 60]);

        for phi in 1..PHI_MAX {
            let edge = now.plus(detector.patience_ns(phi));
            assert!(!detector.suspects(edge, phi, [0, u64::MAX]));
            let shown = detector.phi_hundredths(edge);
            assert!(shown.abs_diff(phi * 100) <= 1, "phi {phi} is shown as {shown}");
        }
    }
}
