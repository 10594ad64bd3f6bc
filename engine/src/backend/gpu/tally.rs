//! Records of sums that come back from a device, limb by limb. The shaders' side is `shaders/part/tally.wgsl`.

use crate::{
    backend::cpu::Bookings,
    integrator::kernel::{Booking, Totals},
};

/// Limbs of a sum: 16 bits each, in words of 32, so that adding to them needs no carries.
const LIMBS: usize = 8;

/// The layout of a record: so many sums, then a word of flags, padded to whole sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many sums.
    pub sums: usize,
}

impl Layout {
    /// One step: see [`StepRecord`].
    pub const STEP: Self = Self { sums: 18 };
    /// One survey: see [`SurveyRecord`].
    pub const SURVEY: Self = Self { sums: 19 };

    /// Words of a record.
    #[must_use]
    pub const fn words(self) -> usize {
        (self.sums + 1) * LIMBS
    }

    /// Bytes of a record.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        4 * self.words() as u64
    }

    /// The constants that a shader needs.
    #[must_use]
    pub fn constants(self) -> String {
        let (sums, flags, record) = (self.sums, self.sums * LIMBS, self.words());
        format!("const SUMS: u32 = {sums}u;\nconst FLAGS: u32 = {flags}u;\nconst RECORD: u32 = {record}u;\n")
    }

    fn flags(self, words: &[u32]) -> u32 {
        words[self.sums * LIMBS]
    }
}

/// Something left its range.
const OUT_OF_RANGE: u32 = 1;
/// The impulse of a pair cannot be held.
const IMPULSE_OUT_OF_RANGE: u32 = 2;
/// The potential energy of a pair cannot be held.
const POTENTIAL_OUT_OF_RANGE: u32 = 4;

/// The integer that limbs stand for, modulo 2¹²⁸.
fn sum_of_limbs(limbs: &[u32]) -> i128 {
    let weighted = limbs.iter().enumerate().map(|(limb, value)| u128::from(*value) << (16 * limb));
    weighted.fold(0_u128, u128::wrapping_add) as i128
}

fn sum(words: &[u32], place: usize) -> i128 {
    sum_of_limbs(&words[place * LIMBS..][..LIMBS])
}

fn vector(words: &[u32], place: usize) -> [i128; 3] {
    std::array::from_fn(|axis| sum(words, place + axis))
}

/// What one step booked, and what was counted after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepRecord {
    /// What the particles gained, over all stages.
    pub bookings: Bookings,
    /// What they hold.
    pub totals: Totals,
    /// Whether the impulse of a pair was out of range.
    pub pair_out_of_range: bool,
}

impl StepRecord {
    /// Reads a record.
    #[must_use]
    pub fn of(words: &[u32]) -> Self {
        let flags = Layout::STEP.flags(words);
        let sources = Booking {
            torque: vector(words, 3),
            sway: vector(words, 9),
            outside: i64::from(flags & OUT_OF_RANGE),
            ..Booking::default()
        };
        let tests = Booking { impulse: vector(words, 0), torque: vector(words, 6), ..Booking::default() };
        Self {
            bookings: Bookings { sources, tests },
            totals: Totals { momentum: vector(words, 12), angular_momentum: vector(words, 15) },
            pair_out_of_range: flags & IMPULSE_OUT_OF_RANGE != 0,
        }
    }
}

/// What a device counted over all particles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SurveyRecord {
    /// Particles.
    pub count: i128,
    /// Their mass [mass quanta].
    pub mass: i128,
    /// Their momentum and angular momentum.
    pub totals: Totals,
    /// Kinetic energy of the sources [energy quanta].
    pub kinetic: i128,
    /// Σ|x × p| of the sources, in units of [`crate::audit::TAXICAB_UNIT`].
    pub angular_size: u128,
    /// Σ m·x of the sources.
    pub centre: [i128; 3],
    /// Mass of the sources [mass quanta].
    pub source_mass: i128,
    /// Momentum of the sources.
    pub source_momentum: [i128; 3],
    /// The state root.
    pub root: u128,
    /// Minus the potential energy of the sources [energy quanta], if it was asked for.
    pub binding: i128,
    /// Whether the energy of a pair could not be held.
    pub binding_out_of_range: bool,
}

impl SurveyRecord {
    /// The sum that the force shaders add to.
    pub(super) const POTENTIAL: usize = 18;

    /// Reads a record.
    #[must_use]
    pub fn of(words: &[u32]) -> Self {
        Self {
            count: sum(words, 0),
            mass: sum(words, 1),
            totals: Totals { momentum: vector(words, 2), angular_momentum: vector(words, 5) },
            kinetic: sum(words, 8),
            angular_size: sum(words, 9) as u128,
            centre: vector(words, 10),
            source_mass: sum(words, 13),
            source_momentum: vector(words, 14),
            root: sum(words, 17) as u128,
            binding: sum(words, Self::POTENTIAL),
            binding_out_of_range: Layout::SURVEY.flags(words) & POTENTIAL_OUT_OF_RANGE != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limbs as a device leaves them: each value cut into 16 bits, added without carries.
    fn limbs(values: &[i128]) -> [u32; LIMBS] {
        values.iter().fold([0; LIMBS], |limbs, value| {
            std::array::from_fn(|k| limbs[k] + (*value as u128 >> (16 * k) & 0xffff) as u32)
        })
    }

    #[test]
    fn limbs_add_up_to_the_sum_however_many_there_were() {
        for values in [vec![0], vec![-1; 60_000], vec![i128::MAX / 7, -12, 1 << 100], vec![i128::MIN, -1]] {
            let expected = values.iter().fold(0_i128, |sum, value| sum.wrapping_add(*value));
            assert_eq!(sum_of_limbs(&limbs(&values)), expected);
        }
    }

    #[test]
    fn flags_stand_behind_the_sums() {
        let mut words = vec![0; Layout::STEP.words()];
        assert_eq!(StepRecord::of(&words), StepRecord::default());
        words[18 * LIMBS] = OUT_OF_RANGE | IMPULSE_OUT_OF_RANGE;
        words[12 * LIMBS] = 7;
        let record = StepRecord::of(&words);
        assert!(record.bookings.outside() && record.pair_out_of_range);
        assert_eq!(record.totals.momentum, [7, 0, 0]);
    }
}
