//! How fast a path is: what a round trip takes when nothing is in the way, and what each byte adds to it.
//!
//! Datagrams that leave at one moment queue behind each other, and the last of them comes back later than one that travels alone, by
//! what the others take: to be sealed, on the wire, to be opened. An end that computes while they come makes them later still, never
//! earlier, so the least counts.

use crate::{metrics::Least, transport::Path};

/// What was measured of a path.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    round_trip_ns: Least,
    byte_ps: Least,
}

/// Fewer bytes than this in one go say nothing: they are not much later than one datagram is.
const TRAIN_BYTES: u64 = 2_000;

impl Pace {
    /// A datagram was answered after so long, less the time that the other end waited; with it `train` bytes had left in one go,
    /// itself the last.
    pub(super) fn answered(&mut self, took_ns: u64, train: u64) {
        // What is quicker than all before says something of the round trip, and nothing yet of those that left together.
        let alone = self.round_trip_ns.get().filter(|alone| took_ns >= *alone);
        self.round_trip_ns.take(took_ns);
        if let Some(alone) = alone.filter(|_| train >= TRAIN_BYTES) {
            self.byte_ps.take((took_ns - alone).saturating_mul(1000) / train);
        }
    }

    /// What that says of the path; `None` before anything was answered.
    pub(super) fn path(&self, window_bytes: u64) -> Option<Path> {
        let round_trip_ns = self.round_trip_ns.get()?;
        Some(Path { round_trip_ns, byte_ps: self.byte_ps.get(), window_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_byte_takes_is_found_beside_ends_that_are_late() {
        // 1 Gbit/s: 8 ns a byte; every fourth answer comes at once, the others up to 3 ms late.
        let mut pace = Pace::default();
        for k in 0..400_u64 {
            let late = if k % 4 == 0 { 0 } else { k * 7919 % 3_000_000 };
            let train = if k % 8 < 2 { 100 } else { 24_000 };
            pace.answered(100_000 + 8 * train + late, train);
        }
        let path = pace.path(1 << 20).expect("it was measured");
        assert!((100_000..160_000).contains(&path.round_trip_ns), "{path:?}");
        assert!((6_000..12_000).contains(&path.byte_ps.expect("trains left")), "{path:?}");
    }

    #[test]
    fn a_block_that_is_more_than_a_window_waits_for_answers() {
        let path = Path { round_trip_ns: 1_000_000, byte_ps: Some(800), window_bytes: 10_000 };
        assert_eq!(path.byte_ps_of(10_000), Some(800));
        assert_eq!(path.byte_ps_of(10_001), Some(100_800));
        assert_eq!(Path { byte_ps: None, ..path }.byte_ps_of(10_001), None);
    }
}
