//! Integrators as tables: a splitting is a palindrome of kicks and drifts, and a step walks along it.
//!
//! A drift depends on a particle's own momentum alone, a kick on positions alone. Both round to integers in a way that is odd in
//! Δt, and a palindrome read backwards is itself: so a step with −Δt undoes a step with Δt to the last bit, whatever the table.
//! At equal positions the last kick of a step and the first of the next are the same integers: evaluated once, applied twice.

pub mod kernel;
pub mod portable;

/// A scheme that starts and ends with a kick: `kick[0] drift[0] kick[1] … drift[n-1] kick[n]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Splitting {
    /// Its name in reports.
    pub name: &'static str,
    /// The power of Δt with which the error of a run falls.
    pub order: u32,
    /// Where its coefficients are published.
    pub source: &'static str,
    /// Shares of the time step, one more than `drift`; a palindrome that adds up to 1.
    pub kick: &'static [f64],
    /// Shares of the time step; a palindrome that adds up to 1.
    pub drift: &'static [f64],
}

impl Splitting {
    /// Force evaluations per step; the first kick takes its forces from the step before.
    #[must_use]
    pub fn evaluations(&self) -> usize {
        self.drift.len()
    }

    /// The table of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().copied().find(|splitting| splitting.name == name)
    }
}

/// Every table, as scenario files may name them (in lower case here).
pub const ALL: [&Splitting; 4] = [&LEAPFROG, &YOSHIDA_4, &SRKN_6B, &SRKN_11B];

/// Kick, drift, kick.
pub const LEAPFROG: Splitting = Splitting {
    name: "leapfrog",
    order: 2,
    source: "L. Verlet, Phys. Rev. 159, 98 (1967); as kick-drift-kick in W. C. Swope et al., J. Chem. Phys. 76, 637 (1982)",
    kick: &[0.5, 0.5],
    drift: &[1.0],
};

/// Three leapfrogs whose third-order errors cancel: shares g, 1 − 2g, g of a step with g = 1/(2 − 2^(1/3)).
pub const YOSHIDA_4: Splitting = Splitting {
    name: "yoshida4",
    order: 4,
    source: "E. Forest & R. D. Ruth, Physica D 43, 105 (1990); H. Yoshida, Phys. Lett. A 150, 262 (1990)",
    kick: &[0.675_603_595_979_828_8, -0.175_603_595_979_828_83, -0.175_603_595_979_828_83, 0.675_603_595_979_828_8],
    drift: &[1.351_207_191_959_657_6, -1.702_414_383_919_315_3, 1.351_207_191_959_657_6],
};

/// Runge-Kutta-Nyström splitting of order 4 in six evaluations; it uses that the kicks commute with each other.
pub const SRKN_6B: Splitting = Splitting {
    name: "srkn6b",
    order: 4,
    source: "S. Blanes & P. C. Moan, J. Comput. Appl. Math. 142, 313 (2002), table 3, SRKN_6^b",
    kick: &[
        0.082_984_406_417_405_2,
        0.396_309_801_498_368,
        -0.039_056_304_922_348_6,
        0.119_524_194_013_150_8,
        -0.039_056_304_922_348_6,
        0.396_309_801_498_368,
        0.082_984_406_417_405_2,
    ],
    drift: &[
        0.245_298_957_184_271,
        0.604_872_665_711_08,
        -0.350_171_622_895_351,
        -0.350_171_622_895_351,
        0.604_872_665_711_08,
        0.245_298_957_184_271,
    ],
};

/// Runge-Kutta-Nyström splitting of order 6 in eleven evaluations: the choice where errors below 1e-9 are wanted.
pub const SRKN_11B: Splitting = Splitting {
    name: "srkn11b",
    order: 6,
    source: "S. Blanes & P. C. Moan, J. Comput. Appl. Math. 142, 313 (2002), table 3, SRKN_11^b",
    kick: &[
        0.041_464_998_518_262_4,
        0.198_128_671_918_067,
        -0.040_006_192_104_153_3,
        0.075_253_984_301_580_7,
        -0.011_511_387_420_687_9,
        0.236_669_924_786_931_1,
        0.236_669_924_786_931_1,
        -0.011_511_387_420_687_9,
        0.075_253_984_301_580_7,
        -0.040_006_192_104_153_3,
        0.198_128_671_918_067,
        0.041_464_998_518_262_4,
    ],
    drift: &[
        0.123_229_775_946_271,
        0.290_553_797_799_558,
        -0.127_049_212_625_417,
        -0.246_331_761_062_075,
        0.357_208_872_795_928,
        0.204_777_054_291_47,
        0.357_208_872_795_928,
        -0.246_331_761_062_075,
        -0.127_049_212_625_417,
        0.290_553_797_799_558,
        0.123_229_775_946_271,
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_a_palindrome_of_shares_that_add_up_to_one() {
        for splitting in ALL {
            for shares in [splitting.kick, splitting.drift] {
                let mirrored: Vec<f64> = shares.iter().rev().copied().collect();
                assert_eq!(shares, mirrored, "{}", splitting.name);
                assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-14, "{}", splitting.name);
            }
            assert_eq!(splitting.kick.len(), splitting.drift.len() + 1, "{}", splitting.name);
        }
    }
}
