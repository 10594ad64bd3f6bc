//! Integer units: how big one quantum of each quantity is, and how far each integer may reach.
//!
//! Every quantum is a power of two of the scenario's unit, so that going from quanta to units and back is exact. The ranges
//! are what the kernels rely on (those of positions and impulses depend on the [contract](crate::contract)); leaving one is a breach that names the particle, never a silent wrap.

use std::fmt;

use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};

/// Momenta stay within ±2⁶² quanta.
pub const MOMENTUM_RANGE_BITS: u32 = 62;
/// Masses stay within 2⁵² quanta: as `f64` they are exact.
pub const MASS_RANGE_BITS: u32 = 52;
/// The energy of the initial state is booked with about this many bits: the rounding of a pair's share to a quantum is then far
/// below the precision of the share itself, and close pairs may hold a million times the initial energy (2⁹⁰ quanta).
pub const ENERGY_BITS: u32 = 70;

/// The size of one integer unit: a power of two, kept as its exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantum(pub i32);

impl Quantum {
    /// The size in scenario units, exactly.
    #[must_use]
    pub fn size(self) -> f64 {
        exp2(self.0)
    }

    /// The smallest quantum of which `2^bits` reach at least `reach`; `None` if that is no number whose quantum could be
    /// squared and still be a normal float.
    #[must_use]
    pub fn reaching(reach: f64, bits: u32) -> Option<Self> {
        let moderate = reach >= exp2(-400) && reach <= exp2(400);
        moderate.then(|| Self(ceil_log2(reach) - bits as i32))
    }

    /// `value` in quanta, to nearest, ties to even; `None` if it is not a number or needs more than `bits` bits.
    #[must_use]
    pub fn count(self, value: f64, bits: u32) -> Option<i64> {
        let quanta = (value * exp2(-self.0)).round_ties_even();
        (quanta.abs() <= exp2(bits as i32)).then_some(quanta as i64)
    }
}

impl fmt::Display for Quantum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2^{}", self.0)
    }
}

/// The quanta of one run.
#[derive(Resource, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quanta {
    /// One unit of position [length].
    pub position: Quantum,
    /// One unit of momentum [mass · length / time].
    pub momentum: Quantum,
    /// One unit of mass [mass].
    pub mass: Quantum,
    /// One unit of booked energy [mass · length² / time²].
    pub energy: Quantum,
}

impl Quanta {
    /// One unit of angular momentum: position quantum times momentum quantum.
    #[must_use]
    pub fn angular_momentum(&self) -> Quantum {
        Quantum(self.position.0 + self.momentum.0)
    }
}

/// 2^`exponent`, exactly; exponents outside the normal range give 0 or infinity.
#[must_use]
pub fn exp2(exponent: i32) -> f64 {
    match exponent {
        ..-1022 => 0.0,
        -1022..=1023 => f64::from_bits(((exponent + 1023) as u64) << 52),
        1024.. => f64::INFINITY,
    }
}

/// The smallest e with `value` ≤ 2^e, for positive finite normal `value`.
#[must_use]
pub fn ceil_log2(value: f64) -> i32 {
    let bits = value.to_bits();
    let floor = ((bits >> 52) & 0x7ff) as i32 - 1023;
    floor + i32::from(bits & ((1 << 52) - 1) != 0)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test compares with the platform, within a tolerance")]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_are_exact_and_found_again() {
        for e in [-1000, -61, -1, 0, 1, 52, 1000] {
            assert_eq!(exp2(e), 2f64.powi(e));
            assert_eq!(ceil_log2(exp2(e)), e);
            assert_eq!(ceil_log2(exp2(e) * 1.25), e + 1);
        }
    }

    #[test]
    fn a_quantum_reaches_what_was_asked_and_not_twice_as_far() {
        for reach in [1e-9, 0.3, 1.0, 50.0, 6.02e23] {
            let quantum = Quantum::reaching(reach, 61).expect("a moderate number");
            let far = quantum.size() * exp2(61);
            assert!(far >= reach && far < 2.0 * reach, "{reach} {far}");
        }
    }

    #[test]
    fn what_does_not_fit_is_none() {
        let quantum = Quantum(-52);
        assert_eq!(quantum.count(1.0, 52), Some(1 << 52));
        assert_eq!(quantum.count(-1.0, 52), Some(-(1 << 52)));
        assert_eq!(quantum.count(1.0 + f64::EPSILON, 52), None);
        assert_eq!(quantum.count(f64::NAN, 52), None);
        for reach in [0.0, -1.0, 1e-200, 1e200, f64::INFINITY, f64::NAN] {
            assert_eq!(Quantum::reaching(reach, 52), None, "{reach}");
        }
    }
}
