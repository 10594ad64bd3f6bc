//! Random numbers with the same bits everywhere: xoshiro256++ 1.0, seeded by SplitMix64.
//!
//! Source: D. Blackman and S. Vigna, ACM Trans. Math. Softw. 47, 36 (2021), and the public-domain C code at
//! <https://prng.di.unimi.it/>. SplitMix64 is G. Steele, D. Lea and C. Flood, OOPSLA 2014.

use crate::math;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The stream of a generator: its seed, and its place in the list, so that two groups with one seed differ.
    pub fn new(seed: u64, generator: usize) -> Self {
        let mut group = generator as u64;
        let mut mixed = seed ^ split_mix(&mut group);
        Self { state: [0; 4].map(|_: u64| split_mix(&mut mixed)) }
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A number in (0, 1): the middle of one of 2^52 equal parts, so neither end occurs.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 12) as f64 + 0.5) * (1.0 / (1_u64 << 52) as f64)
    }

    /// A number in (-1, 1).
    #[inline]
    pub fn signed(&mut self) -> f64 {
        2.0 * self.unit() - 1.0
    }

    /// A direction, uniform on the sphere (G. Marsaglia, Ann. Math. Stat. 43, 645 (1972)): no angle, one root.
    #[inline]
    pub fn direction(&mut self) -> [f64; 3] {
        let (a, b, square) = self.in_disc();
        let scale = 2.0 * (1.0 - square).sqrt();
        [a * scale, b * scale, 1.0 - 2.0 * square]
    }

    /// Two independent numbers from the normal distribution (Marsaglia's polar method, SIAM Rev. 6, 260 (1964)).
    pub fn normal_pair(&mut self) -> (f64, f64) {
        let (a, b, square) = self.in_disc();
        let scale = (-2.0 * math::log(square) / square).sqrt();
        (a * scale, b * scale)
    }

    /// Three independent numbers from the normal distribution.
    pub fn normal_triple(&mut self) -> [f64; 3] {
        let (x, y) = self.normal_pair();
        [x, y, self.normal_pair().0]
    }

    /// A point of the open unit disc other than its centre, and the square of its radius.
    #[inline]
    fn in_disc(&mut self) -> (f64, f64, f64) {
        loop {
            let (a, b) = (self.signed(), self.signed());
            let square = a * a + b * b;
            if square < 1.0 && square > 0.0 {
                return (a, b, square);
            }
        }
    }
}

/// The next number of SplitMix64.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test compares with the platform, within a tolerance")]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_those_of_the_reference_code() {
        let mut random = Random { state: [1, 2, 3, 4] };

        let bits: Vec<u64> = (0..6).map(|_| random.bits()).collect();

        let reference = [
            41_943_041,
            58_720_359,
            3_588_806_011_781_223,
            3_591_011_842_654_386,
            9_228_616_714_210_784_205,
            9_973_669_472_204_895_162,
        ];
        assert_eq!(bits, reference);
    }

    #[test]
    fn the_seeding_is_that_of_the_reference_code() {
        let mut state = 0;

        assert_eq!(split_mix(&mut state), 0xE220_A839_7B1D_CDAF);
        assert_eq!(split_mix(&mut state), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn groups_with_one_seed_differ() {
        assert_ne!(Random::new(1, 0).bits(), Random::new(1, 1).bits());
        assert_ne!(Random::new(1, 0).bits(), Random::new(2, 0).bits());
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let mut random = Random::new(1, 0);
        let numbers: Vec<f64> = (0..100_000).flat_map(|_| random.normal_triple()).collect();

        let moment = |power: i32| numbers.iter().map(|x| x.powi(power)).sum::<f64>() / numbers.len() as f64;

        assert!(moment(1).abs() < 0.008, "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.01, "{}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.08, "{}", moment(4));
    }
}
