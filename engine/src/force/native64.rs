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

use super::{
    Kick,
    kernel::{self, Formula, Pull},
};
use crate::math::MAGIC;

/// The contract, for the lanes of [`super::kernel`].
#[derive(Clone, Copy, Debug)]
pub struct Native64;

impl Formula for Native64 {
    const EXACT_POSITIONS: bool = false;

    #[inline(always)]
    fn distance2(d: [f64; 3], softening2: f64) -> f64 {
        d[0].mul_add(d[0], d[1].mul_add(d[1], d[2].mul_add(d[2], softening2)))
    }

    #[inline(always)]
    fn pull(r2: f64, masses: f64, factor: f64) -> Pull {
        let r = r2.sqrt();
        Pull { f: (masses * factor) / (r2 * r), r }
    }

    #[inline(always)]
    fn shifted(f: f64, d: f64) -> f64 {
        f.mul_add(d, MAGIC)
    }

    #[inline(always)]
    fn binding(r2: f64, masses: f64, energy_factor: f64) -> f64 {
        (masses * energy_factor) / r2.sqrt()
    }
}

/// The impulse on i [momentum quanta].
///
/// `d`: from i to j [position quanta]; `masses`: of i and j [mass quanta].
#[inline(always)]
#[must_use]
pub fn impulse(d: [f64; 3], masses: [f64; 2], kick: Kick) -> [i64; 3] {
    kernel::impulse::<Native64>(d, masses, kick)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{force::separation, math::out_of_magic};

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
