//! The pair contract `native64`, version 1, as scalar Rust: the definition that every kernel must equal bit for bit.
//!
//! With d = x_j − x_i (as integers, then to the nearest float), w = G·Δt in quanta and ε² the softening:
//! ```text
//! r² = fma(dx, dx, fma(dy, dy, fma(dz, dz, ε²)))
//! f  = ((m_i·m_j)·w) / (r²·√r²)
//! K  = round(f·d)        the exact product, rounded once, to nearest, ties to even
//! ```
//! K acts on i, −K on j. Root and division are correctly rounded, the multiply-adds are fused: IEEE 754 fixes every bit.
//!
//! The formula is odd in d and symmetric in the masses, so K(i, j) = −K(j, i) exactly. For that the masses are multiplied with
//! each other *first*: `(m_i·w)·m_j` rounds differently from `(m_j·w)·m_i` in a few pairs of a million, and a small test does
//! not find them. K is valid below 2⁵¹ quanta; [`crate::math::out_of_magic`] tells.

use super::Kick;
use crate::math::{MAGIC, magic_integer};

/// The impulse on i [momentum quanta].
///
/// `d`: from i to j [position quanta]; `masses`: of i and j [mass quanta].
#[inline(always)]
#[must_use]
pub fn impulse(d: [f64; 3], masses: [f64; 2], kick: Kick) -> [i64; 3] {
    let r2 = distance2(d, kick.softening2);
    let f = ((masses[0] * masses[1]) * kick.factor) / (r2 * r2.sqrt());
    d.map(|d| magic_integer(f.mul_add(d, MAGIC)))
}

/// Minus the potential energy of a pair [energy quanta], not yet rounded to an integer.
#[inline(always)]
#[must_use]
pub fn binding(d: [f64; 3], masses: [f64; 2], energy_factor: f64, softening2: f64) -> f64 {
    ((masses[0] * masses[1]) * energy_factor) / distance2(d, softening2).sqrt()
}

/// r² + ε², in the order of the contract.
#[inline(always)]
fn distance2(d: [f64; 3], softening2: f64) -> f64 {
    d[0].mul_add(d[0], d[1].mul_add(d[1], d[2].mul_add(d[2], softening2)))
}

/// From `from` to `to`, exact as an integer, then to the nearest float.
#[inline(always)]
#[must_use]
pub fn separation(from: [i64; 3], to: [i64; 3]) -> [f64; 3] {
    std::array::from_fn(|axis| to[axis].wrapping_sub(from[axis]) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::out_of_magic;

    const KICK: Kick = Kick { factor: 0.7, softening2: 0.0 };

    #[test]
    fn action_is_minus_reaction_on_half_quanta_too() {
        let tie = Kick { factor: 0.5, softening2: 0.0 };
        assert_eq!(impulse([1.0, 0.0, 0.0], [3.0, 1.0], tie), [2, 0, 0], "one and a half quanta");
        for (d, masses) in
            [([1, 0, 0], [3.0, 1.0]), ([3, -4, 12], [3e6, 7e5]), ([1 << 61, 1, -(1 << 60)], [4e15, 4e15])]
        {
            let there = impulse(separation([0; 3], d), masses, tie);
            let back = impulse(separation(d, [0; 3]), [masses[1], masses[0]], tie);
            assert_eq!(there.map(|k| -k), back, "{d:?}");
        }
    }

    #[test]
    fn an_impulse_that_is_too_large_is_seen() {
        let k = impulse([1.0, 0.0, 0.0], [1e9, 1e9], KICK);
        assert_ne!(out_of_magic(k[0]), 0);
        let k = impulse([0.0; 3], [1.0, 1.0], KICK);
        assert_ne!(out_of_magic(k[0]), 0, "two bodies at one place without softening");
    }
}
