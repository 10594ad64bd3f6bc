//! The pair contract `portable32`, version 1, as scalar Rust: the definition that every kernel must equal bit for bit.
//!
//! Made for machines without 64-bit arithmetic and without promises about division and roots, such as the shaders of a GPU: only
//! + − × of f32, each rounded to nearest, ties to even, and operations on 32-bit integers.
//! ```text
//! d  = x_j − x_i, rounded once, in spans of 2²⁴ quanta       |x| ≤ 2⁴⁷ quanta
//! r² = dx·dx + (dy·dy + (dz·dz + ε²));   h = r²·0.5
//! y  = f32(0x5f3759df − (bits(r²) >> 1));   three times  y = y·(1.5 − (y·y)·h)
//! f  = (((m_i·m_j)·w)·y)·(y·y)
//! t  = f·d;   s = t + U;   upper = bits(s) − bits(U);   rest = t − (s − U);   lower = bits(rest + M) − bits(M)
//! K  = upper·2²² + lower          U = 1.5·2⁴⁵, M = 1.5·2²³
//! ```
//! K acts on i, −K on j. K is the integer nearest to t, ties to even: s − U is the multiple of 2²² nearest to t, `rest` is exact,
//! and 2²² is even. Nothing is fused.
//!
//! **Lengths in spans.** A span is 2²⁴ quanta. Counted in quanta, m·M·w would leave the range of f32 in ordinary scenes (2⁴³ quanta
//! of impulse between bodies 2⁴⁴ apart: 2¹³¹). A power of four in r² shifts exponents only, that of the seed too, so K has the same
//! bits wherever both are in range.
//!
//! **Positions in two floats.** x = (high + low) spans, as [`split`] cuts it; then d = (high_j − high_i) + (low_j − low_i). Both
//! differences are exact, because they are integers (of spans, of quanta) of at most 2²⁴; so the sum rounds once, and whatever
//! the tie rule of the cut, d is the float nearest to x_j − x_i.
//!
//! **Symmetry.** Every operation is odd in d or even, and symmetric in the masses as long as these are multiplied with each other
//! *first*: K(i, j) = −K(j, i) exactly.
//!
//! **Range.** U stands in the middle of a binade of steps of 2²². While s stays in it, K is right and |upper| ≤ 2²². When s leaves
//! it, |upper| ≥ 2²²: bit patterns of positive floats are ordered like the floats, those of negative floats, infinities and NaN
//! are farther from bits(U) than 2²⁹. `lower` is then any 32-bit integer, so |K| ≥ 2⁴⁴ − 2³¹. Hence |K| < 2⁴³ proves that K is
//! right, and [`out_of_range`] sees every failure, alike for K and −K. Products below the normal range belong to impulses far
//! below half a quantum, so machines that flush them to zero agree.
//!
//! The vectors that every backend must reproduce are in `assets/contracts/portable32.ron`; the GPU's twin is `shaders/force32.wgsl`.

use super::Kick;

/// Impulses stay below 2^(this) quanta.
pub const RANGE_BITS: u32 = 43;

/// A span is 2^(this) quanta.
pub const SPAN_BITS: u32 = 24;
/// One quantum in spans.
const QUANTUM: f32 = 1.0 / (1_u32 << SPAN_BITS) as f32;

/// Bits of the lower level.
pub const LEVEL_BITS: u32 = 22;
/// 1.5·2²³: added to a float below 2²² it leaves the nearest integer in the low bits of the mantissa.
pub const LOWER: f32 = 1.5 * (1_u32 << 23) as f32;
/// 1.5·2⁴⁵: the same for multiples of 2²².
pub const UPPER: f32 = LOWER * (1_u32 << LEVEL_BITS) as f32;
/// From this integer, minus half the bit pattern of r², Newton's iteration for 1/r starts: 3.4 % off at worst.
pub const SEED: u32 = 0x5f37_59df;

/// What one kick needs to know, in f32 and in spans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kick32 {
    /// `w`: multiplies the product of the masses.
    pub factor: f32,
    /// Softening length squared [span²].
    pub softening2: f32,
}

impl Kick32 {
    /// A kick with factor and softening each rounded once.
    #[inline(always)]
    #[must_use]
    pub fn of(kick: Kick) -> Self {
        // An impulse goes with d/r³: both change by the square of the unit of length, a power of two.
        Self { factor: in_spans2(kick.factor), softening2: in_spans2(kick.softening2) }
    }
}

/// A length squared, or the factor of 1/length², from quanta to spans, rounded once.
#[inline(always)]
#[must_use]
pub fn in_spans2(value: f64) -> f32 {
    const QUANTUM2: f64 = QUANTUM as f64 * QUANTUM as f64;
    (value * QUANTUM2) as f32
}

/// G of potential energies, from quanta to spans, rounded once.
#[inline(always)]
#[must_use]
pub fn energy_factor_in_spans(energy_factor: f64) -> f32 {
    (energy_factor * f64::from(QUANTUM)) as f32
}

/// A position as the nearest whole number of spans (ties go up) and what is left, both exact and both in spans.
///
/// `x`: within ±2⁴⁷ quanta. From here on only 32-bit operations follow: a machine without 64-bit integers gets `high` and `low`
/// from the two words of x + 2²³ by shifts and masks.
#[inline(always)]
#[must_use]
pub fn split(x: i64) -> (f32, f32) {
    const HALF: i64 = 1 << (SPAN_BITS - 1);
    let shifted = x.wrapping_add(HALF);
    let high = (shifted >> SPAN_BITS) as i32;
    let low = (shifted as i32 & ((1 << SPAN_BITS) - 1)) - HALF as i32;
    (high as f32, low as f32 * QUANTUM)
}

/// From `from` to `to` [spans]: the float nearest to the exact difference.
#[inline(always)]
#[must_use]
pub fn separation(from: [i64; 3], to: [i64; 3]) -> [f32; 3] {
    std::array::from_fn(|axis| {
        let ((high_i, low_i), (high_j, low_j)) = (split(from[axis]), split(to[axis]));
        (high_j - high_i) + (low_j - low_i)
    })
}

/// r² + ε², in the order of the contract.
#[inline(always)]
#[must_use]
pub fn distance2(d: [f32; 3], softening2: f32) -> f32 {
    d[0] * d[0] + (d[1] * d[1] + (d[2] * d[2] + softening2))
}

/// 1/√r² from the integer seed, with a relative error of a few 2⁻²⁴.
#[inline(always)]
#[must_use]
pub fn inverse_root(r2: f32) -> f32 {
    let half = r2 * 0.5;
    let y = f32::from_bits(SEED.wrapping_sub(r2.to_bits() >> 1));
    let y = y * (1.5 - (y * y) * half);
    let y = y * (1.5 - (y * y) * half);
    y * (1.5 - (y * y) * half)
}

/// The bit patterns in which the two levels of an impulse stand, still with [`UPPER`] and [`LOWER`] in them.
#[inline(always)]
#[must_use]
pub fn levels(t: f32) -> [u32; 2] {
    let shifted = t + UPPER;
    let rest = t - (shifted - UPPER);
    [shifted.to_bits(), (rest + LOWER).to_bits()]
}

/// The integer of two levels: of one impulse, or of a sum of impulses when the constants have been taken off `count` times.
#[inline(always)]
#[must_use]
pub fn joined([upper, lower]: [u32; 2], count: u32) -> i64 {
    let upper = upper.wrapping_sub(UPPER.to_bits().wrapping_mul(count)) as i32;
    let lower = lower.wrapping_sub(LOWER.to_bits().wrapping_mul(count)) as i32;
    (i64::from(upper) << LEVEL_BITS) + i64::from(lower)
}

/// The impulse on i [momentum quanta].
///
/// `d`: from i to j [spans]; `masses`: of i and j [mass quanta].
#[inline(always)]
#[must_use]
pub fn impulse(d: [f32; 3], masses: [f32; 2], kick: Kick32) -> [i64; 3] {
    let y = inverse_root(distance2(d, kick.softening2));
    let f = (((masses[0] * masses[1]) * kick.factor) * y) * (y * y);
    d.map(|d| joined(levels(f * d), 1))
}

/// Whether an impulse left the range in which it is right; the same for `impulse` and `-impulse`.
#[inline(always)]
#[must_use]
pub fn out_of_range(impulse: i64) -> bool {
    impulse.unsigned_abs() >> RANGE_BITS != 0
}

/// Minus the potential energy of a pair [energy quanta], not yet rounded to an integer.
///
/// `energy_factor`: see [`energy_factor_in_spans`]; `softening2` [span²].
#[inline(always)]
#[must_use]
pub fn binding(d: [f32; 3], masses: [f32; 2], energy_factor: f32, softening2: f32) -> f32 {
    ((masses[0] * masses[1]) * energy_factor) * inverse_root(distance2(d, softening2))
}
