//! The pair contract `fast32`, version 1, as scalar Rust: the definition that every kernel must equal bit for bit.
//!
//! The fastest exact contract of a CPU: f32 with fused multiply-adds and correctly rounded root and division. What 24 bits cannot
//! do for all pairs at once, they do for the pairs of two *blocks* of neighbours: each pair of blocks has its own [`Rule`], a step
//! in which the impulses between them are counted. A rule depends on the two blocks alone and not on their order, and blocks
//! ([`super::fast32_blocks`]) depend on the set of particles alone: so neither rows nor threads nor partitions show in a bit.
//! ```text
//! s_i = f32(m_i·√|w|)                                    strengths, so that s_i·s_j is symmetric
//! r²  = fma(dx, dx, fma(dy, dy, fma(dz, dz, ε²)));       f = ±(s_i·s_j) / (r²·√r²), the sign that of w
//! far   d = u_j − u_i, u = f32(x − o), o the middle of the two blocks
//!       K = 2^k·(bits(fma(f, d, M·2^k)) − bits(M·2^k))
//! near  d = x_j − x_i, rounded once
//!       s = fma(f, d, U·2^k);   t = fma(f, d, (U + M)·2^k − s)
//!       K = 2^k·((bits(s) − bits(U·2^k))·2²² + bits(t) − bits(M·2^k))
//! ```
//! K acts on i, −K on j. Lengths are in spans of 2²⁴ quanta, as in [`super::portable32`]; M and U are its constants.
//!
//! Far: f·d rounded once to a multiple of 2^k, where k is the least with which 22 bits hold every impulse between the blocks. The
//! bound is that of the strongest two bodies at the gap between the boxes (or at ε/√2, where softened attraction is
//! strongest); where even that is small beside 2²² quanta, k is 0.
//! Near: blocks whose gap is small beside their size, or whose masses are very different, hold pairs of very different impulses.
//! They get 43 bits: s − U·2^k is the multiple of 2²²·2^k nearest to f·d, and M is one of 2²², so that (U + M)·2^k − s is exact
//! and t rounds only once, what s left over.
//!
//! **Symmetry.** d, f·d and both roundings are odd under an exchange of the two, and M, U are even multiples of their steps, so
//! K(i, j) = −K(j, i) exactly.
//!
//! **Range.** K stays below 2^(range bits), 51 at most. A far pair cannot leave it. Where the bound of a near pair of blocks
//! does not exclude it, its rule is guarded: kernels then watch each impulse. As in [`super::portable32`], K/2^k < 2⁴³ proves that
//! K is right.

use super::{
    Kick,
    portable32::{self, LEVEL_BITS, LOWER, RANGE_BITS, UPPER, in_spans2, joined, split},
};
use crate::quanta::{ceil_log2, exp2};

/// Two blocks are near if the distance at which they attract most is below this share of their size, the geometric mean of their
/// longest edges.
///
/// The mean, not the longer edge: a step that is coarse for the pairs of a large block and a small one beside it is still fine
/// beside what all the others do to either. With the longer edge and the same error, three times as many pairs of blocks of a
/// Plummer sphere would be near.
const NEAR: f64 = 0.2;
/// Two blocks also count as near below this share of the longer edge: the rounding of positions, 2⁻²⁴ of that edge, must not push
/// impulses beyond their bound.
const SHARP: f64 = 1.0 / 1024.0;
/// Two blocks also count as near if they attract most at less than this distance [spans]: so close, the rounding of positions
/// measured from a whole number of spans, about a quantum, would show in d and push impulses beyond their bound.
const CLOSE: f64 = 1.0 / 1024.0;
/// Two blocks count as near if the masses in one of them differ by more than this factor.
///
/// One step holds for all impulses between two far blocks, so that a body of a hundredth of the mass gets a hundred times the
/// relative error.
const UNEVEN: f32 = 16.0;
/// Bounds are computed in f64 and impulses in f32, whose roundings they must cover.
const SLACK: f64 = 1.001;

/// What one kick needs to know, in spans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KickFast {
    /// √|w|: a mass times this is a strength.
    pub root: f64,
    /// 1, or −1 for a kick backward in time.
    pub sign: f32,
    /// Softening length squared [span²].
    pub softening2: f32,
    /// Impulses stay below 2^(this) quanta, 51 at most.
    pub range_bits: u32,
}

impl KickFast {
    /// A kick whose impulses stay below 2^`range_bits` quanta.
    #[must_use]
    pub fn of(kick: Kick, range_bits: u32) -> Self {
        debug_assert!(range_bits <= 51, "{range_bits} bits");
        let factor = kick.factor * exp2(-2 * portable32::SPAN_BITS as i32);
        Self {
            root: factor.abs().sqrt(),
            sign: if factor < 0.0 { -1.0 } else { 1.0 },
            softening2: in_spans2(kick.softening2),
            range_bits,
        }
    }

    /// The strength of a mass [mass quanta].
    #[inline(always)]
    #[must_use]
    pub fn strength(&self, mass: f64) -> f32 {
        (mass * self.root) as f32
    }
}

/// What a rule needs to know of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Lowest coordinates [position quanta].
    pub lowest: [i64; 3],
    /// Highest coordinates [position quanta].
    pub highest: [i64; 3],
    /// The largest strength.
    pub strongest: f32,
    /// The smallest strength.
    pub weakest: f32,
}

impl Bounds {
    /// Of nothing yet.
    pub const EMPTY: Self =
        Self { lowest: [i64::MAX; 3], highest: [i64::MIN; 3], strongest: 0.0, weakest: f32::INFINITY };

    /// Takes in one body.
    pub fn add(&mut self, position: [i64; 3], strength: f32) {
        for axis in 0..3 {
            self.lowest[axis] = self.lowest[axis].min(position[axis]);
            self.highest[axis] = self.highest[axis].max(position[axis]);
        }
        self.strongest = self.strongest.max(strength);
        self.weakest = self.weakest.min(strength);
    }

    /// Whether impulses on the lightest bodies are small beside those on the heaviest at the same place.
    fn uneven(&self) -> bool {
        self.strongest > UNEVEN * self.weakest
    }

    /// The longest edge [spans].
    fn size(&self) -> f64 {
        let edge = |axis: usize| self.highest[axis] - self.lowest[axis];
        spans(edge(0).max(edge(1)).max(edge(2)))
    }
}

fn spans(quanta: i64) -> f64 {
    quanta as f64 * exp2(-(portable32::SPAN_BITS as i32))
}

/// How the impulses between two blocks are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Whether the blocks are near each other.
    pub near: bool,
    /// k: impulses are multiples of 2^k momentum quanta.
    pub shift: u32,
    /// Whether impulses might leave their range.
    pub guarded: bool,
    /// o: the middle of the two blocks, as a whole number of spans.
    pub origin: [f32; 3],
}

impl Rule {
    /// The rule of two blocks, in either order.
    #[inline]
    #[must_use]
    pub fn of(a: &Bounds, b: &Bounds, kick: &KickFast) -> Self {
        let gap = |axis: usize| spans((b.lowest[axis] - a.highest[axis]).max(a.lowest[axis] - b.highest[axis]).max(0));
        let [x, y, z] = [gap(0), gap(1), gap(2)];
        let e2 = f64::from(kick.softening2);
        // Attraction r/(r² + ε²)^(3/2) falls beyond ε/√2: nowhere outside the gap is it stronger than here.
        let reach2 = (x * x + (y * y + z * z)).max(0.5 * e2);
        let s2 = reach2 + e2;
        let bound = SLACK * (f64::from(a.strongest) * f64::from(b.strongest)) * reach2.sqrt() / (s2 * s2.sqrt());
        let [size_a, size_b] = [a.size(), b.size()];
        let range = exp2(kick.range_bits as i32 - 1);
        let bounded = bound < range;
        let least = CLOSE.max(SHARP * size_a.max(size_b));
        let coarse2 = (NEAR * size_a * (NEAR * size_b)).max(least * least);
        let near = !bounded || a.uneven() || b.uneven() || reach2 < coarse2;
        let bits = if near { RANGE_BITS } else { LEVEL_BITS };
        let needed = if bounded { ceil_log2(bound.max(1.0)) } else { kick.range_bits as i32 };
        let middle = |axis: usize| (a.lowest[axis] + a.highest[axis] + b.lowest[axis] + b.highest[axis]) >> 2;
        Self {
            near,
            shift: (needed - bits as i32).max(0) as u32,
            guarded: !bounded,
            origin: std::array::from_fn(|axis| split(middle(axis)).0),
        }
    }

    /// M·2^k.
    #[inline(always)]
    #[must_use]
    pub fn lower(&self) -> f32 {
        scaled(LOWER, self.shift)
    }

    /// U·2^k.
    #[inline(always)]
    #[must_use]
    pub fn upper(&self) -> f32 {
        scaled(UPPER, self.shift)
    }
}

/// `value`·2^`shift`, by the exponent.
#[inline(always)]
fn scaled(value: f32, shift: u32) -> f32 {
    f32::from_bits(value.to_bits() + (shift << 23))
}

/// x − o, rounded once [spans].
#[inline(always)]
#[must_use]
pub fn from_origin((high, low): (f32, f32), origin: f32) -> f32 {
    (high - origin) + low
}

/// r² + ε², in the order of the contract.
#[inline(always)]
#[must_use]
pub fn distance2(d: [f32; 3], softening2: f32) -> f32 {
    d[0].mul_add(d[0], d[1].mul_add(d[1], d[2].mul_add(d[2], softening2)))
}

/// The impulse on the body at `from` [momentum quanta].
///
/// `from`, `to`: [position quanta], within ±2⁴⁷; `strengths`: see [`KickFast::strength`]; `rule`: that of their blocks.
#[must_use]
pub fn impulse(from: [i64; 3], to: [i64; 3], strengths: [f32; 2], kick: &KickFast, rule: &Rule) -> [i64; 3] {
    let u = |x: [i64; 3], axis: usize| from_origin(split(x[axis]), rule.origin[axis]);
    let d = match rule.near {
        true => portable32::separation(from, to),
        false => std::array::from_fn(|axis| u(to, axis) - u(from, axis)),
    };
    let r2 = distance2(d, kick.softening2);
    let f = ((kick.sign * strengths[0]) * strengths[1]) / (r2 * r2.sqrt());
    let (upper, lower) = (rule.upper(), rule.lower());
    d.map(|d| {
        let k = if rule.near {
            let shifted = f.mul_add(d, upper);
            let rest = f.mul_add(d, (upper + lower) - shifted);
            near_integer([shifted.to_bits(), rest.to_bits()], rule.shift, 1)
        } else {
            far_integer(f.mul_add(d, lower).to_bits(), rule.shift, 1)
        };
        k << rule.shift
    })
}

/// K/2^k of a near pair, or of the sum of `count` of them, from bit patterns with U·2^k and M·2^k in them.
#[inline(always)]
#[must_use]
pub fn near_integer([upper, lower]: [u32; 2], shift: u32, count: u32) -> i64 {
    // The exponents of U·2^k and M·2^k are higher by k.
    let bias = (shift << 23).wrapping_mul(count);
    joined([upper.wrapping_sub(bias), lower.wrapping_sub(bias)], count)
}

/// K/2^k of a far pair, or of the sum of `count` of them, from bit patterns with M·2^k in them.
#[inline(always)]
#[must_use]
pub fn far_integer(bits: u32, shift: u32, count: u32) -> i64 {
    let bias = (LOWER.to_bits() + (shift << 23)).wrapping_mul(count);
    i64::from(bits.wrapping_sub(bias) as i32)
}

/// Whether an impulse left the range in which it is right and may be; the same for `impulse` and `-impulse`.
#[inline(always)]
#[must_use]
pub fn out_of_range(impulse: i64, kick: &KickFast, rule: &Rule) -> bool {
    let size = impulse.unsigned_abs();
    size >> kick.range_bits != 0 || (rule.near && size >> rule.shift >> RANGE_BITS != 0)
}
