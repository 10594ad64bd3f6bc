//! Motion and kinetic energy of the portable contracts: integers alone, so that a GPU without f64 computes the same bits.
//!
//! A drift multiplies a momentum by Δt/m. Here that factor is an integer times a power of two, the product is exact in 128 bits,
//! and it is rounded once, to nearest, ties to even: an odd function of p and of Δt, like every rounding of state. The GPU's twin
//! is `shaders/motion.wgsl`, in pairs of 32-bit words (`shaders/part/wide.wgsl`).

use crate::quanta::Quanta;

/// A positive normal float as `mantissa`·2^`exponent`, with 53 bits of mantissa; 0 is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scaled {
    mantissa: u64,
    exponent: i32,
}

impl Scaled {
    /// The size of a float.
    #[inline(always)]
    fn of(value: f64) -> Self {
        let bits = value.to_bits() & (u64::MAX >> 1);
        let exponent = (bits >> 52) as i32;
        if exponent == 0 {
            return Self { mantissa: 0, exponent: 0 };
        }
        Self { mantissa: bits & ((1 << 52) - 1) | 1 << 52, exponent: exponent - 1075 }
    }
}

/// Bits of the product of two mantissas, 105 or 106, that are dropped to make it one word.
const DROPPED: u32 = 42;

/// Δt/m, in position quanta per momentum quantum, of one particle and one drift: `mantissa`·2^−`shift`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Multiplier {
    mantissa: u64,
    shift: i32,
    backwards: bool,
}

impl Multiplier {
    /// Of a stride and a reciprocal mass; their product is cut to 63 or 64 bits.
    #[inline(always)]
    #[must_use]
    pub fn new(stride: f64, inverse_mass: f64) -> Self {
        let (a, b) = (Scaled::of(stride), Scaled::of(inverse_mass));
        Self {
            mantissa: ((u128::from(a.mantissa) * u128::from(b.mantissa)) >> DROPPED) as u64,
            shift: -(a.exponent + b.exponent + DROPPED as i32),
            backwards: stride < 0.0,
        }
    }

    /// How far a particle of this momentum drifts [position quanta], and whether that is more than 2^62 or cannot be said.
    #[inline(always)]
    #[must_use]
    pub fn displacement(self, p: i64) -> (i64, bool) {
        let product = u128::from(p.unsigned_abs()) * u128::from(self.mantissa);
        let (size, beyond) = match self.shift {
            // A stride of more than a quantum for the least of momenta.
            ..1 => (0, product != 0),
            1..=127 => {
                let size = round_to_even(product, self.shift as u32);
                (size as u64 & (u64::MAX >> 2), size >> 62 != 0)
            }
            // Less than a half, because the product has at most 127 bits.
            _ => (0, false),
        };
        let size = size as i64;
        (if self.backwards != (p < 0) { -size } else { size }, beyond)
    }
}

/// The nearest integer to `v`·2^−`shift`, ties to even, for `v` below 2¹²⁷ and a `shift` of 1 to 127.
#[inline(always)]
fn round_to_even(v: u128, shift: u32) -> u128 {
    let odd = (v >> shift) & 1;
    (v + ((1 << (shift - 1)) - 1) + odd) >> shift
}

/// p²/2m of one particle [energy quanta], cut to whole quanta axis by axis.
///
/// `scale` is [`kinetic_scale`]. The reciprocal mass is R·2^e with 64 bits of R: V = (|p|·R) >> 64 is a velocity with as many bits
/// as p has, and |p|·V is exact.
#[inline(always)]
#[must_use]
pub fn kinetic(momentum: [i64; 3], inverse_mass: f64, scale: i32) -> i128 {
    let w = Scaled::of(inverse_mass);
    let (reciprocal, exponent) = (w.mantissa << 11, w.exponent - 11);
    let shift = -(64 + exponent + scale);
    momentum.into_iter().fold(0, |sum, p| {
        let p = u128::from(p.unsigned_abs());
        let velocity = (p * u128::from(reciprocal)) >> 64;
        sum + shifted_right(p * velocity, shift) as i128
    })
}

/// The exponent that turns p²/m, of quanta, into 2·energy quanta, halved.
#[must_use]
pub fn kinetic_scale(quanta: &Quanta) -> i32 {
    2 * quanta.momentum.0 - quanta.mass.0 - quanta.energy.0 - 1
}

/// `v`·2^−`shift`, cut; kept within what a sum of millions can hold when it is too large.
#[inline(always)]
fn shifted_right(v: u128, shift: i32) -> u128 {
    const MOST: u128 = 1 << 96;
    match shift {
        128.. => 0,
        0..128 => (v >> shift).min(MOST),
        ..0 if v == 0 => 0,
        -96..0 if v.leading_zeros() as i32 > 31 - shift => v << -shift,
        ..0 => MOST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quanta::{Quantum, exp2};

    /// Δt/m·p as the nearest integer, from the factor that the multiplier holds.
    fn by_hand(multiplier: Multiplier, p: i64) -> i128 {
        let product = i128::from(p.unsigned_abs()) * i128::from(multiplier.mantissa);
        let unit = 1_i128 << multiplier.shift;
        let (whole, rest) = (product / unit, product % unit);
        let up = 2 * rest > unit || (2 * rest == unit && whole % 2 == 1);
        let size = whole + i128::from(up);
        if multiplier.backwards != (p < 0) { -size } else { size }
    }

    #[test]
    fn a_drift_is_the_exact_product_rounded_once() {
        for (stride, inverse_mass) in [(0.017, 1.0 / 3.0), (-0.3, 1.0 / 1e12), (exp2(-20), exp2(-30)), (1.0, 0.5)] {
            let multiplier = Multiplier::new(stride, inverse_mass);
            let factor = stride * inverse_mass;
            for p in [0, 1, -1, 3, 12_345_678_901, -(1 << 60) + 7, (1 << 62) - 1] {
                let (dx, beyond) = multiplier.displacement(p);
                let near = factor * p as f64;
                if near.abs() > exp2(61) {
                    continue;
                }
                assert!(!beyond);
                assert_eq!(i128::from(dx), by_hand(multiplier, p), "{stride} {inverse_mass} {p}");
                assert!((dx as f64 - near).abs() <= 0.5 + near.abs() * 1e-15, "{dx} {near}");
                assert_eq!(multiplier.displacement(-p).0, -dx);
                assert_eq!(Multiplier::new(-stride, inverse_mass).displacement(p).0, -dx);
            }
        }
    }

    #[test]
    fn halves_go_to_the_even_neighbour() {
        let half = Multiplier::new(0.5, 1.0);
        assert_eq!([1, 3, 5, 7, -1, -3].map(|p| half.displacement(p).0), [0, 2, 2, 4, 0, -2]);
    }

    #[test]
    fn a_drift_that_cannot_be_held_is_reported() {
        assert!(Multiplier::new(exp2(60), 1.0).displacement(5).1);
        assert!(Multiplier::new(exp2(200), 1.0).displacement(1).1);
        assert_eq!(Multiplier::new(exp2(200), 1.0).displacement(0), (0, false));
        assert_eq!(Multiplier::new(exp2(-200), 1.0).displacement(1 << 61), (0, false));
        assert_eq!(Multiplier::new(0.0, 1.0).displacement(1 << 61), (0, false));
    }

    #[test]
    fn kinetic_energy_is_right_to_a_few_quanta() {
        let quanta =
            Quanta { position: Quantum(-40), momentum: Quantum(-50), mass: Quantum(-30), energy: Quantum(-60) };
        let (p, mass) = ([123_456_789_012_345, -98_765_432_109, 7], 3.0e8);
        let found = kinetic(p, 1.0 / mass, kinetic_scale(&quanta));
        let p2: f64 = p.iter().map(|&p| p as f64 * p as f64).sum();
        let expected = p2 / (2.0 * mass) * exp2(2 * -50 + 30 + 60);
        assert!((found as f64 / expected - 1.0).abs() < 1e-12, "{found} {expected}");
        assert_eq!(kinetic(p, 1.0 / mass, 2000), 3 << 96);
        assert_eq!(kinetic(p, 1.0 / mass, -2000), 0);
    }
}
