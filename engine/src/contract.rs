//! The names of the pair contracts, and how far the integers of a run reach under each of them.
//!
//! A pair contract is the exact sequence of floating-point operations that turns two particles into one integer impulse. Its name
//! and version stand in the scenario and in every checkpoint: another contract is another run. What each of them computes is said
//! in [`crate::force`], and `assets/contracts/` holds vectors that every backend must reproduce.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::quanta::MOMENTUM_RANGE_BITS;

/// A pair contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Contract {
    /// f64 with fused multiply-add, correctly rounded root and division: the same bits on any IEEE CPU.
    #[default]
    Native64,
    /// f64 with + − × alone: the same bits on CPUs and on GPUs that know f64 and 64-bit integers.
    Portable64,
    /// f32 with + − × alone and impulses in two levels: the same bits on CPUs and on every GPU that passes its self-test.
    Portable32,
    /// f32 with fused multiply-add, correctly rounded root and division, and a quantum for each pair of blocks: the fastest on a
    /// CPU, the same bits on any IEEE CPU.
    Fast32,
}

impl Contract {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Native64, Self::Portable64, Self::Portable32, Self::Fast32];

    /// The version of the operations behind every name; one of them changes, and so does this.
    pub const VERSION: u32 = 1;

    /// The name, as in scenario files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native64 => "native64",
            Self::Portable64 => "portable64",
            Self::Portable32 => "portable32",
            Self::Fast32 => "fast32",
        }
    }

    /// Whether a GPU can give the bits of the CPU.
    #[must_use]
    pub fn is_portable(self) -> bool {
        matches!(self, Self::Portable64 | Self::Portable32)
    }

    /// Whether floats of a pair are f32.
    #[must_use]
    pub fn is_single(self) -> bool {
        matches!(self, Self::Portable32 | Self::Fast32)
    }

    /// Positions stay within ±2^(this) quanta.
    ///
    /// `native64`: 61, so that the difference of two does not wrap; it is rounded to f64. `portable64`: 52, so that every position
    /// and every difference is an exact f64. On f32: 47, so that a position is the sum of two f32 of 24 bits and a difference
    /// comes out of them with one rounding.
    #[must_use]
    pub const fn position_bits(self) -> u32 {
        match self {
            Self::Native64 => 61,
            Self::Portable64 => 52,
            Self::Portable32 | Self::Fast32 => 47,
        }
    }

    /// The impulse of one pair among so many sources stays below 2^(this) quanta in one kick: at most what rounding to integers can
    /// carry, 2⁵¹ or, in two levels of f32, 2⁴³; and so small that the sum over all sources stays within the range of momenta
    /// and cannot wrap unseen.
    #[must_use]
    pub fn impulse_bits(self, sources: usize) -> u32 {
        let carried = if self == Self::Portable32 { 43 } else { 51 };
        let sources = usize::BITS - sources.max(1).next_power_of_two().leading_zeros() - 1;
        carried.min(MOMENTUM_RANGE_BITS.saturating_sub(sources))
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_all_impulses_on_a_particle_stays_within_the_range_of_momenta() {
        for contract in Contract::ALL {
            for sources in [1, 2, 2047, 2048, 2049, 1 << 20, (1 << 20) + 1] {
                let most = (sources as u128) << contract.impulse_bits(sources);
                assert!(most <= 1 << MOMENTUM_RANGE_BITS, "{contract}, {sources} sources");
            }
        }
    }
}
