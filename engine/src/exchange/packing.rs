//! Whether columns are packed: by what that takes and what it saves, both as they are measured.
//!
//! Nobody has to agree with anybody. Each block says itself whether it is packed, and no bit of the state depends on it, so whoever
//! sends chooses; and does the other thing now and then, so that both are known.

use super::codec::PACKED_ROWS;
use crate::{
    metrics::{Least, Stopwatch},
    transport::Path,
};

/// Bytes of three values as they are.
const PLAIN_BYTES: u64 = 24;
/// Of so many blocks one goes the other way; the first of them soon.
const TRIAL_EVERY: u64 = 64;
const TRIAL_FIRST: u64 = 8;

/// Who decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rule {
    /// Somebody else.
    #[default]
    Given,
    /// What is measured.
    Measured,
    /// What is measured of paths and bytes; packing and unpacking three values takes so long [ps].
    Priced(u64),
}

/// A choice, and what it stands on. Times and bytes are those of three values: a position, or an impulse.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packing {
    rule: Rule,
    on: bool,
    /// Blocks since the start.
    blocks: u64,
    /// Time to write and to read, as they are and packed [ps].
    wrote: [Least; 2],
    read: [Least; 2],
    /// Bytes of what is packed [thousandths].
    packed_bytes: Least,
    /// Bytes of the last block, had it not been packed.
    block_bytes: u64,
}

impl Packing {
    /// Always, or never.
    #[must_use]
    pub fn given(pack: bool) -> Self {
        Self { on: pack, ..Self::default() }
    }

    /// By what it costs, and packed until that is known. `price_ps`: what packing and unpacking three values takes [ps], where no clock
    /// may be looked at.
    #[must_use]
    pub fn chosen(price_ps: Option<u64>) -> Self {
        Self { rule: price_ps.map_or(Rule::Measured, Rule::Priced), on: true, ..Self::default() }
    }

    /// Whether blocks are packed at present.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Writes a block of so many rows with `encode`, which is told whether to pack. `counts`: whether the block is columns alone.
    pub fn write(&mut self, rows: usize, counts: bool, encode: impl FnOnce(bool) -> Vec<u8>) -> Vec<u8> {
        let trial = self.rule != Rule::Given && self.blocks % TRIAL_EVERY == TRIAL_FIRST;
        let pack = self.on != trial;
        self.blocks += 1;
        let watch = Stopwatch::start();
        let bytes = encode(pack);
        if counts && rows >= PACKED_ROWS {
            self.wrote[usize::from(pack)].take(picoseconds(&watch, rows));
            self.block_bytes = PLAIN_BYTES * rows as u64;
            if pack {
                self.packed_bytes.take(1000 * bytes.len() as u64 / rows as u64);
            }
        }
        bytes
    }

    /// A block of so many bytes, columns of so many rows, was read while the watch went.
    pub fn read(&mut self, rows: usize, bytes: usize, watch: &Stopwatch) {
        if rows >= PACKED_ROWS {
            let packed = (bytes as u64) < PLAIN_BYTES * rows as u64;
            self.read[usize::from(packed)].take(picoseconds(watch, rows));
        }
    }

    /// Chooses anew, by the slowest of the paths that blocks take. What is not known changes nothing, nor does a difference of less than
    /// a quarter.
    pub fn weigh(&mut self, paths: impl Iterator<Item = Path>) {
        if self.rule == Rule::Given {
            return;
        }
        let slowest = paths.filter_map(|path| path.byte_ps_of(self.block_bytes)).max();
        let Some(((byte_ps, bytes), takes)) = slowest.zip(self.packed_bytes.get()).zip(self.takes()) else { return };
        let saves = (1000 * PLAIN_BYTES).saturating_sub(bytes).saturating_mul(byte_ps) / 1000;
        let (saves, takes) = (u128::from(saves), u128::from(takes));
        if 4 * saves > 5 * takes {
            self.on = true;
        } else if 5 * saves < 4 * takes {
            self.on = false;
        }
    }

    /// What packing and unpacking take beyond writing and reading values as they are [ps].
    fn takes(&self) -> Option<u64> {
        if let Rule::Priced(price_ps) = self.rule {
            return Some(price_ps);
        }
        let more = |[plain, packed]: [Least; 2]| Some(packed.get()?.saturating_sub(plain.get()?));
        Some(more(self.wrote)? + more(self.read)?)
    }
}

fn picoseconds(watch: &Stopwatch, rows: usize) -> u64 {
    u64::try_from(1000 * watch.elapsed().as_nanos() / rows as u128).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes blocks of 1000 rows, 10 bytes each if packed; whether each of them was packed.
    fn written(packing: &mut Packing, blocks: usize) -> Vec<bool> {
        let mut packed = Vec::new();
        for _ in 0..blocks {
            packing.write(1000, true, |pack| {
                packed.push(pack);
                vec![0; if pack { 10_000 } else { 24_000 }]
            });
        }
        packed
    }

    fn path(byte_ps: u64) -> Path {
        Path { round_trip_ns: 50_000, byte_ps: Some(byte_ps), window_bytes: 1 << 20 }
    }

    #[test]
    fn slow_paths_are_packed_for_and_fast_ones_are_not() {
        // 100 ns for 14 bytes: it pays from 7.1 ns a byte on.
        let mut packing = Packing::chosen(Some(100_000));
        packing.weigh([path(1)].into_iter());
        assert!(packing.is_on(), "nothing is known of what it saves");
        written(&mut packing, 1);
        for (byte_ps, on) in [(800, false), (7_500, false), (9_500, true), (7_500, true), (5_000, false)] {
            packing.weigh([path(byte_ps), path(1)].into_iter());
            assert_eq!(packing.is_on(), on, "{byte_ps} ps a byte");
        }
        packing.weigh([Path { byte_ps: None, ..path(0) }].into_iter());
        assert!(!packing.is_on());
    }

    #[test]
    fn the_other_side_is_tried_now_and_then_and_only_where_there_is_a_choice() {
        let mut chosen = Packing::chosen(Some(1));
        let tried: Vec<usize> =
            written(&mut chosen, 200).iter().enumerate().filter(|(_, pack)| !**pack).map(|(at, _)| at).collect();
        assert_eq!(tried, [8, 72, 136]);
        for pack in [false, true] {
            let mut given = Packing::given(pack);
            assert!(written(&mut given, 200).iter().all(|&packed| packed == pack));
            given.weigh([path(1_000_000), path(0)].into_iter());
            assert_eq!(given.is_on(), pack);
        }
    }

    #[test]
    fn what_is_measured_decides_once_both_ways_were_taken() {
        let mut packing = Packing::chosen(None);
        written(&mut packing, 8);
        packing.weigh([path(0)].into_iter());
        assert!(packing.is_on(), "it is not known what values take that are not packed");
        written(&mut packing, 1);
        let watch = Stopwatch::start();
        packing.read(1000, 24_000, &watch);
        packing.read(1000, 10_000, &watch);
        packing.weigh([path(0)].into_iter());
        // Nothing is saved, and packing takes as long or longer.
        assert!(!packing.is_on() || packing.takes() == Some(0));
        packing.weigh([path(1 << 40)].into_iter());
        assert!(packing.is_on());
    }
}
