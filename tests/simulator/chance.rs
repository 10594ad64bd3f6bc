//! Randomness of the simulation: one stream for each link, node and kind of fault, all split from one seed.

/// A stream (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The stream of a seed for one purpose.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut chance = Self(seed ^ purpose.wrapping_mul(0xd134_2543_de82_ef95));
        chance.next();
        chance
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below `below`.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.next() % below.max(1)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// With a probability in thousandths.
    pub(crate) fn once_in_1000(&mut self, thousandths: u64) -> bool {
        self.below(1000) < thousandths
    }

    /// Roughly exponential with this mean, in integers: a few halvings of a geometric series and something in between.
    pub(crate) fn exponential(&mut self, mean: u64) -> u64 {
        let halvings = u64::from(self.next().trailing_zeros().min(8));
        mean * halvings * 7 / 10 + self.below(mean * 7 / 10 + 1)
    }

    pub(crate) fn pick<'s, T>(&mut self, from: &'s [T]) -> Option<&'s T> {
        if from.is_empty() { None } else { Some(&from[self.below(from.len() as u64) as usize]) }
    }
}

/// Spreads the bits of a number.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
