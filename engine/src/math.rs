//! Float functions with the same bits on every platform, and the ways from floats to integers.
//!
//! Elementary functions come from the pure-Rust `libm`: the platform's own differ in their last bits. The rest is + − × and
//! bit patterns, which IEEE 754 fixes.

pub use libm::{acos, asin, atan2, cbrt, ceil, cos, exp, hypot, log, pow, round, sin, sincos, tan};

/// 1.5·2⁵²: added to a float below 2⁵¹ it leaves the nearest integer in the low bits of the mantissa.
///
/// 1.5 and not 1, so that negative integers stay in the same binade; the constant is an even integer, so that ties go to even
/// and the rounding is odd: `round(-v) == -round(v)`.
pub const MAGIC: f64 = 1.5 * (1_u64 << 52) as f64;
/// The bit pattern of [`MAGIC`].
pub const MAGIC_BITS: i64 = MAGIC.to_bits() as i64;

/// The integer that a magic add left in `shifted`.
///
/// Within range the result is below 2⁵¹ in size. Bit patterns of positive floats are ordered like the floats, so a sum that left
/// the binade of [`MAGIC`] gives a result of at least 2⁵¹ in size, and a NaN too: [`out_of_magic`] sees every failure.
#[inline(always)]
#[must_use]
pub fn magic_integer(shifted: f64) -> i64 {
    (shifted.to_bits() as i64).wrapping_sub(MAGIC_BITS)
}

/// Not zero iff `integer` came out of a magic add that was out of range: the same for `integer` and `-integer`, so that it does
/// not matter which of a pair comes first.
#[inline(always)]
#[must_use]
pub fn out_of_magic(integer: i64) -> i64 {
    integer.wrapping_abs() >> 51
}

/// The nearest integer, ties to even, for |value| < 2⁵¹.
#[inline(always)]
#[must_use]
pub fn to_quanta(value: f64) -> i64 {
    debug_assert!(value.abs() < (1_u64 << 51) as f64, "{value} quanta");
    magic_integer(value + MAGIC)
}

/// Where [`wide_product`] cuts a result into an upper and a lower part.
const WIDE_SHIFT: u32 = 40;
/// [`MAGIC`] for multiples of 2⁴⁰.
const WIDE_MAGIC: f64 = MAGIC * (1_u64 << WIDE_SHIFT) as f64;
const WIDE_MAGIC_BITS: i64 = WIDE_MAGIC.to_bits() as i64;

/// a·b as an integer, for |a·b| < 2⁶¹ (and a second value that is not zero when that does not hold).
///
/// The upper part is the multiple of 2⁴⁰ nearest to the exact product; what is left, computed with one rounding to 53 bits,
/// is below 2³⁹ in size and is then rounded to the nearest integer. So the result is within 1/2 + 2⁻¹⁴ of the exact product
/// however large it is, and odd in a and in b. One f64 product would lose everything below 2⁻⁵³ of its size, which at 2⁶⁰ quanta
/// is 128 of them.
#[inline(always)]
#[must_use]
pub fn wide_product(a: f64, b: f64) -> (i64, i64) {
    let shifted = a.mul_add(b, WIDE_MAGIC);
    let rest = a.mul_add(b, -(shifted - WIDE_MAGIC));
    let upper = (shifted.to_bits() as i64).wrapping_sub(WIDE_MAGIC_BITS);
    let integer = (upper << WIDE_SHIFT).wrapping_add(magic_integer(rest + MAGIC));
    (integer, upper.wrapping_add(1 << 21) >> 22)
}

/// `v as f64` (to nearest, ties to even) from additions alone: AVX2 has no instruction for it.
///
/// The low half becomes the mantissa of a float in [2⁵², 2⁵³), the high half that of one near 2⁸⁴; both are exact, and taking
/// both offsets away rounds once.
#[inline(always)]
#[must_use]
pub fn f64_from_i64(v: i64) -> f64 {
    const TWO_52: u64 = 0x4330_0000_0000_0000;
    const TWO_84_PLUS_2_63: u64 = 0x4530_0000_8000_0000;
    const OFFSETS: f64 = f64::from_bits(0x4530_0000_8010_0000); // 2^84 + 2^63 + 2^52
    let low = f64::from_bits((v as u64 & 0xffff_ffff) | TWO_52);
    let high = f64::from_bits((v as u64 >> 32) ^ TWO_84_PLUS_2_63);
    (high - OFFSETS) + low
}

/// a × b, exactly.
#[inline(always)]
#[must_use]
pub fn cross(a: [i64; 3], b: [i64; 3]) -> [i128; 3] {
    let product = |u: usize, v: usize| i128::from(a[u]) * i128::from(b[v]);
    [product(1, 2) - product(2, 1), product(2, 0) - product(0, 2), product(0, 1) - product(1, 0)]
}

/// Σ a × b, exactly, over rows of vectors that are kept one slice per axis; `a` within ±2⁶¹ and `b` within ±2⁶².
///
/// No CPU multiplies 64 by 64 bits on lanes, so each number is cut into a signed low half and a signed high half of 32 bits:
/// a·b = hh·2⁶⁴ + (hl + lh)·2³² + ll, four products of lanes. Within the ranges above the terms of equal weight of one component
/// add up to less than 2⁶³; their sums over rows are kept in halves again, which have room for 2³¹ rows.
#[inline(always)]
#[must_use]
pub fn sum_of_crosses(a: [&[i64]; 3], b: [&[i64]; 3]) -> [i128; 3] {
    const ROWS: usize = 8;
    let rows = a[0].len();
    let mut sums = [[HalfSums::<ROWS>::default(); 3]; 3];
    let whole = rows / ROWS * ROWS;
    let chunk = |v: [&[i64]; 3], first: usize| -> [[i64; ROWS]; 3] {
        v.map(|axis| axis[first..first + ROWS].try_into().expect("as long as the chunk"))
    };
    for first in (0..whole).step_by(ROWS) {
        add_crosses(&mut sums, chunk(a, first), chunk(b, first));
    }
    if whole < rows {
        let last = |v: [&[i64]; 3]| v.map(|axis| std::array::from_fn(|k| axis.get(whole + k).copied().unwrap_or(0)));
        add_crosses(&mut sums, last(a), last(b));
    }
    sums.map(|[hh, mid, ll]| {
        let weighted = hh.total().wrapping_shl(64).wrapping_add(mid.total().wrapping_shl(32));
        weighted.wrapping_add(ll.total())
    })
}

#[inline(always)]
fn add_crosses<const ROWS: usize>(sums: &mut [[HalfSums<ROWS>; 3]; 3], a: [[i64; ROWS]; 3], b: [[i64; ROWS]; 3]) {
    for axis in 0..3 {
        let (u, v) = ((axis + 1) % 3, (axis + 2) % 3);
        let [hh, mid, ll] = &mut sums[axis];
        for k in 0..ROWS {
            let ([au, hu], [av, hv]) = (halves(a[u][k]), halves(a[v][k]));
            let ([bu, gu], [bv, gv]) = (halves(b[u][k]), halves(b[v][k]));
            // Out of range they wrap: whoever calls has seen that already and will undo the step.
            hh.add(k, (hu * gv).wrapping_sub(hv * gu));
            mid.add(k, (hu * bv).wrapping_add(au * gv).wrapping_sub((hv * bu).wrapping_add(av * gu)));
            ll.add(k, (au * bv).wrapping_sub(av * bu));
        }
    }
}

/// The low and the high 32 bits of an integer, both signed: v = low + high·2³².
#[inline(always)]
fn halves(v: i64) -> [i64; 2] {
    let low = (v << 32) >> 32;
    [low, v.wrapping_sub(low) >> 32]
}

/// Sums of 64-bit integers on lanes, low and high halves apart.
#[derive(Clone, Copy, Debug)]
struct HalfSums<const ROWS: usize> {
    low: [i64; ROWS],
    high: [i64; ROWS],
}

impl<const ROWS: usize> Default for HalfSums<ROWS> {
    fn default() -> Self {
        Self { low: [0; ROWS], high: [0; ROWS] }
    }
}

impl<const ROWS: usize> HalfSums<ROWS> {
    #[inline(always)]
    fn add(&mut self, lane: usize, v: i64) {
        self.low[lane] += v & 0xffff_ffff;
        self.high[lane] += v >> 32;
    }

    #[inline(always)]
    fn total(self) -> i128 {
        let sum = |lanes: [i64; ROWS]| i128::from(lanes.into_iter().sum::<i64>());
        sum(self.low) + (sum(self.high) << 32)
    }
}

/// a + b, component by component, modulo 2¹²⁸.
#[inline(always)]
#[must_use]
pub fn add3(a: [i128; 3], b: [i128; 3]) -> [i128; 3] {
    [a[0].wrapping_add(b[0]), a[1].wrapping_add(b[1]), a[2].wrapping_add(b[2])]
}

/// −a.
#[must_use]
pub fn negate3(a: [i128; 3]) -> [i128; 3] {
    a.map(i128::wrapping_neg)
}

/// An order-free sum of floats: each is rounded to a quantum of 2⁰ and added as an integer.
///
/// A float is cut at 2⁴⁰ into two integers, so that values up to 2⁹⁰ keep all 53 bits of theirs. The sum of the lower parts has
/// room for 2²³ values; [`Exact::total`] folds both into 128 bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exact {
    upper: i64,
    lower: i64,
    outside: i64,
}

impl Exact {
    /// What a sum comes to when a value was beyond 2⁹⁰ or not a number: far more than any sum of proper values, and still small
    /// enough that millions of such sums do not wrap. A recount that meets it cannot pass for a small drift.
    pub const BEYOND: i128 = 1 << 96;

    /// The sum of sums of values that are not negative. Of what was beyond, each part tells once and drops what else it held: so
    /// however the parts were cut, a sum that reaches [`Exact::BEYOND`] is that and no more.
    #[must_use]
    pub fn sum_of_parts(sum: i128) -> i128 {
        sum.min(Self::BEYOND)
    }

    /// Adds the nearest integer to `value`, for |value| < 2⁹⁰.
    #[inline(always)]
    pub fn add(&mut self, value: f64) {
        let shifted = value + WIDE_MAGIC;
        let rest = value - (shifted - WIDE_MAGIC);
        let upper = (shifted.to_bits() as i64).wrapping_sub(WIDE_MAGIC_BITS);
        self.upper = self.upper.wrapping_add(upper);
        self.lower = self.lower.wrapping_add(magic_integer(rest + MAGIC));
        self.outside |= upper.wrapping_add(1 << 50) >> 51;
    }

    /// The sum, or [`Exact::BEYOND`].
    #[must_use]
    pub fn total(self) -> i128 {
        if self.outside != 0 {
            return Self::BEYOND;
        }
        (i128::from(self.upper) << WIDE_SHIFT) + i128::from(self.lower)
    }
}

/// The length of a vector of exact components, as a float.
#[must_use]
pub fn norm(v: [f64; 3]) -> f64 {
    (v[0] * v[0] + (v[1] * v[1] + v[2] * v[2])).sqrt()
}

/// A running sum that keeps what each addition rounds off (Neumaier, Z. angew. Math. Mech. 54, 39 (1974)).
///
/// The error of the total is that of one rounding as long as the terms do not cancel to less than 1e-16 of their sum of sizes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    high: f64,
    low: f64,
}

impl Sum {
    /// Adds one term.
    pub fn add(&mut self, term: f64) {
        let total = self.high + term;
        self.low += if self.high.abs() >= term.abs() { (self.high - total) + term } else { (term - total) + self.high };
        self.high = total;
    }

    /// The sum of all terms so far.
    pub fn total(self) -> f64 {
        self.high + self.low
    }
}

/// Sine and cosine of an angle in degrees; exact at every multiple of 90.
pub fn sincos_degrees(degrees: f64) -> (f64, f64) {
    let turned = degrees % 360.0;
    match (turned / 90.0, turned % 90.0 == 0.0) {
        (quarters, true) => match (quarters as i32).rem_euclid(4) {
            0 => (0.0, 1.0),
            1 => (1.0, 0.0),
            2 => (0.0, -1.0),
            _ => (-1.0, 0.0),
        },
        _ => sincos(radians(turned)),
    }
}

/// An angle in radians, from degrees.
pub fn radians(degrees: f64) -> f64 {
    degrees * (std::f64::consts::PI / 180.0)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test compares with the platform, within a tolerance")]
mod tests {
    use super::*;

    /// SplitMix64: enough to spread test values.
    fn mix(k: u64) -> u64 {
        let mut z = k.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[test]
    fn the_magic_add_rounds_to_even_and_is_odd() {
        for (value, nearest) in
            [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (0.49, 0), (1e15 + 0.5, 1_000_000_000_000_000)]
        {
            assert_eq!(to_quanta(value), nearest, "{value}");
            assert_eq!(to_quanta(-value), -nearest, "{value}");
        }
    }

    #[test]
    fn every_magic_add_out_of_range_is_seen() {
        let limit = (1_u64 << 51) as f64;
        for value in [limit, -limit * 1.01, 1e17, -1e17, 1e40, -1e300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            assert_ne!(out_of_magic(magic_integer(value + MAGIC)), 0, "{value}");
        }
        for value in [0.0, limit - 1.0, 1.0 - limit, 12.3] {
            assert_eq!(out_of_magic(magic_integer(value + MAGIC)), 0, "{value}");
        }
    }

    #[test]
    fn integers_become_floats_by_additions_as_by_instruction() {
        for k in 0..200_000_u64 {
            let v = (mix(k) as i64) >> (k % 64);
            assert_eq!(f64_from_i64(v), v as f64, "{v}");
        }
        for v in [0, 1, -1, i64::MIN, i64::MAX, 1 << 53, (1 << 53) + 1, (1 << 54) + 2, (1 << 54) + 6] {
            assert_eq!(f64_from_i64(v), v as f64, "{v}");
        }
    }

    #[test]
    fn a_wide_product_is_odd_and_nearest() {
        for k in 0..100_000_u64 {
            let p = (mix(k) as i64) >> (1 + k % 60);
            let stride = (1.0 + (mix(k ^ 0xabc) >> 12) as f64 / 4.5e15) * 2f64.powi((k % 7) as i32 - 6);
            let (forth, outside) = wide_product(p as f64, stride);
            let (back, _) = wide_product(-(p as f64), stride);
            if (p as f64 * stride).abs() >= 2f64.powi(61) {
                continue;
            }
            assert_eq!(outside, 0, "{p} {stride}");
            assert_eq!(forth, -back, "{p} {stride}");
            // The exact product: two 53-bit mantissas in i128, in units of 2^(e).
            let (m, e) = mantissa(stride);
            let (n, f) = mantissa(p as f64);
            let exact = (i128::from(m) * i128::from(n)) as f64 * 2f64.powi(e + f);
            assert!(
                (forth as f64 - exact).abs() <= 0.5001 + exact.abs() * 2f64.powi(-52),
                "{p} {stride} {forth} {exact}"
            );
        }
        assert_ne!(wide_product(2f64.powi(61), 2.0).1, 0);
        assert_ne!(wide_product(-2f64.powi(62), 1e9).1, 0);
    }

    fn mantissa(v: f64) -> (i64, i32) {
        if v == 0.0 {
            return (0, 0);
        }
        let bits = v.to_bits();
        let m = ((bits & ((1 << 52) - 1)) | (1 << 52)) as i64;
        (if v < 0.0 { -m } else { m }, ((bits >> 52) & 0x7ff) as i32 - 1075)
    }

    #[test]
    fn an_exact_sum_does_not_depend_on_order() {
        let values: Vec<f64> = (0..10_000).map(|k| (mix(k) as i64 as f64) * 2f64.powi((k % 40) as i32 - 20)).collect();
        let sum = |order: &mut dyn Iterator<Item = &f64>| {
            let mut sum = Exact::default();
            order.for_each(|&v| sum.add(v));
            sum.total()
        };
        let naive: i128 = values.iter().map(|v| v.round_ties_even() as i128).sum();
        assert_eq!(sum(&mut values.iter()), sum(&mut values.iter().rev()));
        assert_eq!(sum(&mut values.iter()), naive);
    }

    #[test]
    fn a_value_too_large_for_an_exact_sum_is_not_lost_in_it() {
        for value in [2f64.powi(91), -2f64.powi(91), 1e300, f64::INFINITY, f64::NAN] {
            let mut sum = Exact::default();
            sum.add(1.0);
            sum.add(value);
            assert_eq!(sum.total(), Exact::BEYOND, "{value}");
        }
    }

    #[test]
    fn a_cross_product_of_the_widest_integers_is_exact() {
        let far = i64::MAX;
        assert_eq!(cross([far, 0, 0], [0, far, 0]), [0, 0, i128::from(far) * i128::from(far)]);
        assert_eq!(cross([1, 2, 3], [4, 5, 6]), [-3, 6, -3]);
    }

    #[test]
    fn a_sum_of_crosses_is_exact_to_the_edges_of_its_ranges() {
        let edges =
            |bits: u32| [0, 1, -1, 1 << bits, -(1 << bits), (1 << bits) - 1, 0x8000_0000, -0x8000_0000, 0x7fff_ffff];
        let random = |k: u64, bits: u32| match k % 3 {
            0 => edges(bits)[(mix(k) % 9) as usize],
            _ => (mix(k) as i64) >> (63 - bits + (k % 40) as u32 % bits),
        };
        for rows in [0, 1, 7, 8, 9, 100, 3000] {
            let column =
                |axis: u64, bits| (0..rows).map(|k| random(7 * k + axis + 1000 * rows, bits)).collect::<Vec<i64>>();
            let (a, b) = ([0, 1, 2].map(|axis| column(axis, 61)), [3, 4, 5].map(|axis| column(axis, 62)));
            let at = |v: &[Vec<i64>; 3], k: usize| [v[0][k], v[1][k], v[2][k]];
            let one_by_one = (0..rows as usize).fold([0; 3], |sum, k| add3(sum, cross(at(&a, k), at(&b, k))));
            let slices = |v: &'static [Vec<i64>; 3]| v.each_ref().map(Vec::as_slice);
            let (a, b) = (Box::leak(Box::new(a)), Box::leak(Box::new(b)));
            assert_eq!(sum_of_crosses(slices(a), slices(b)), one_by_one, "{rows} rows");
        }
    }

    #[test]
    fn a_sum_keeps_what_plain_addition_loses() {
        let mut sum = Sum::default();

        for term in [1e16, 1.0, 1.0, -1e16] {
            sum.add(term);
        }

        assert_eq!(sum.total(), 2.0);
    }

    #[test]
    fn right_angles_are_exact() {
        assert_eq!(sincos_degrees(90.0), (1.0, 0.0));
        assert_eq!(sincos_degrees(-180.0), (0.0, -1.0));
        assert_eq!(sincos_degrees(630.0), (-1.0, 0.0));
        assert!((sincos_degrees(30.0).0 - 0.5).abs() < 1e-15);
    }
}
