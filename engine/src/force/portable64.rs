//! The pair contract `portable64`, version 1: as [`super::native64`], without a root, a division or a fused operation, so that a
//! GPU computes the same bits.
//!
//! With d = x_j − x_i (exact, because positions stay within ±2⁵²), w = G·Δt in quanta and ε² the softening:
//! ```text
//! r² = dx·dx + (dy·dy + (dz·dz + ε²))        every + − × rounded once, in this order
//! h  = r²·0.5
//! y  = float(0x5fe6eb50c7b537a9 − (bits(r²) >> 1))
//! 4 times: y = y·(1.5 − (y·y)·h)
//! f  = (((m_i·m_j)·w)·y)·(y·y)
//! K  = bits(f·d + M) − bits(M)               the rounded product, rounded to an integer, ties to even
//! ```
//! The seed of the reciprocal root halves the exponent by an integer shift; its error of 3.4e-2 falls to 1.7e-3, 4.7e-6, 3e-11
//! and then to the last bits. K acts on i, −K on j: the formula is odd in d and symmetric in the masses. The vectors that every
//! backend must reproduce are in `assets/contracts/portable64.ron`; the GPU's twin is `shaders/force64.wgsl`.

use super::{
    Kick,
    kernel::{self, Formula, Pull},
};
use crate::math::MAGIC;

/// Minus half the exponent of a float, by an integer shift, and a mantissa that spreads the error evenly.
const SEED: u64 = 0x5fe6_eb50_c7b5_37a9;

/// The contract, for the lanes of [`super::kernel`].
#[derive(Clone, Copy, Debug)]
pub struct Portable64;

impl Formula for Portable64 {
    const EXACT_POSITIONS: bool = true;

    #[inline(always)]
    fn distance2(d: [f64; 3], softening2: f64) -> f64 {
        d[0] * d[0] + (d[1] * d[1] + (d[2] * d[2] + softening2))
    }

    #[inline(always)]
    fn pull(r2: f64, masses: f64, factor: f64) -> Pull {
        let y = reciprocal_root(r2);
        Pull { f: ((masses * factor) * y) * (y * y), r: r2 * y }
    }

    #[inline(always)]
    fn shifted(f: f64, d: f64) -> f64 {
        f * d + MAGIC
    }

    #[inline(always)]
    fn binding(r2: f64, masses: f64, energy_factor: f64) -> f64 {
        (masses * energy_factor) * reciprocal_root(r2)
    }
}

/// 1/√r², in the operations of the contract.
#[inline(always)]
#[must_use]
pub fn reciprocal_root(r2: f64) -> f64 {
    let h = r2 * 0.5;
    let mut y = f64::from_bits(SEED.wrapping_sub(r2.to_bits() >> 1));
    y *= 1.5 - (y * y) * h;
    y *= 1.5 - (y * y) * h;
    y *= 1.5 - (y * y) * h;
    y *= 1.5 - (y * y) * h;
    y
}

/// The impulse on i [momentum quanta].
///
/// `d`: from i to j [position quanta]; `masses`: of i and j [mass quanta].
#[inline(always)]
#[must_use]
pub fn impulse(d: [f64; 3], masses: [f64; 2], kick: Kick) -> [i64; 3] {
    kernel::impulse::<Portable64>(d, masses, kick)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{math::out_of_magic, quanta::exp2};

    #[test]
    fn the_reciprocal_root_is_right_to_its_last_bits_over_the_whole_range_of_distances() {
        for exponent in 0..=107 {
            for part in 0..64 {
                let r2 = exp2(exponent) * (1.0 + f64::from(part) / 64.0);
                let error = reciprocal_root(r2) * r2.sqrt() - 1.0;
                assert!(error.abs() < 4.5e-16, "{r2:e}: {error:e}");
            }
        }
    }

    #[test]
    fn two_bodies_at_one_place_are_out_of_range() {
        let k = impulse([0.0; 3], [1.0, 1.0], Kick { factor: 0.7, softening2: 0.0 });
        assert!(k.into_iter().all(|k| out_of_magic(k) != 0), "{k:?}");
    }
}
