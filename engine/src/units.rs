//! Units of a scenario and the gravitational constant that follows from them.
//!
//! Inside a run all numbers are plain `f64` in the scenario's units, or integers in quanta of them. The block is written into
//! every output so that a reader knows what a number means.
//!
//! Sources: IAU 2012 Resolution B2 (the astronomical unit, exact), IAU 2015 Resolution B2 (the parsec), IAU 2015 Resolution B3
//! (nominal GM of Sun, Jupiter, Earth), CODATA 2018 (G, used for kilograms only). GM is known to nine digits and more, G to
//! five: so a mass is held as its GM, and G in solar masses never passes through kilograms.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The astronomical unit, in m, exact.
const AU: f64 = 149_597_870_700.0;
/// The parsec [m]: 648000/π au, exact by definition.
const PARSEC: f64 = 648_000.0 / std::f64::consts::PI * AU;
/// The day [s].
const DAY: f64 = 86_400.0;
/// The Julian year [s].
const YEAR: f64 = 365.25 * DAY;
/// CODATA 2018 gravitational constant [m³ kg⁻¹ s⁻²].
const G: f64 = 6.674_30e-11;

/// The `units` block of a scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Units {
    /// Dimensionless, with G = 1 unless the scenario says otherwise.
    #[default]
    Nbody,
    /// Named units; G follows from them unless the scenario gives it.
    Physical {
        /// Unit of length.
        length: Length,
        /// Unit of mass.
        mass: Mass,
        /// Unit of time.
        time: Time,
    },
}

/// A unit of length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Length {
    /// Metre.
    M,
    /// Kilometre.
    Km,
    /// Astronomical unit.
    Au,
    /// Parsec.
    Pc,
    /// 1000 parsecs.
    Kpc,
    /// A million parsecs.
    Mpc,
}

/// A unit of mass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mass {
    /// Kilogram.
    Kg,
    /// Mass of the Earth.
    Mearth,
    /// Mass of Jupiter.
    Mjup,
    /// Mass of the Sun.
    Msun,
}

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Time {
    /// Second.
    S,
    /// Day of 86400 seconds.
    Day,
    /// Julian year of 365.25 days.
    Year,
    /// 1000 Julian years.
    Kyr,
    /// A million Julian years.
    Myr,
    /// A thousand million Julian years.
    Gyr,
}

impl Units {
    /// G in these units [length³ mass⁻¹ time⁻²]; 1 for N-body units.
    pub fn gravitational_constant(self) -> f64 {
        match self {
            Self::Nbody => 1.0,
            Self::Physical { length, mass, time } => {
                let per_length = time.seconds() / length.metres();
                mass.standard_gravity() / length.metres() * per_length * per_length
            }
        }
    }

    /// What to print after a length; empty for N-body units, as for the other labels.
    pub fn length_label(self) -> &'static str {
        match self {
            Self::Nbody => "",
            Self::Physical { length, .. } => length.label(),
        }
    }

    /// What to print after a mass.
    pub fn mass_label(self) -> &'static str {
        match self {
            Self::Nbody => "",
            Self::Physical { mass, .. } => mass.label(),
        }
    }

    /// What to print after a time.
    pub fn time_label(self) -> &'static str {
        match self {
            Self::Nbody => "",
            Self::Physical { time, .. } => time.label(),
        }
    }
}

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nbody => f.write_str("N-body units"),
            Self::Physical { length, mass, time } => {
                write!(f, "{}, {}, {}", length.label(), mass.label(), time.label())
            }
        }
    }
}

impl Length {
    /// This unit, in m.
    pub fn metres(self) -> f64 {
        match self {
            Self::M => 1.0,
            Self::Km => 1e3,
            Self::Au => AU,
            Self::Pc => PARSEC,
            Self::Kpc => 1e3 * PARSEC,
            Self::Mpc => 1e6 * PARSEC,
        }
    }

    /// What to print after a number.
    pub fn label(self) -> &'static str {
        match self {
            Self::M => "m",
            Self::Km => "km",
            Self::Au => "au",
            Self::Pc => "pc",
            Self::Kpc => "kpc",
            Self::Mpc => "Mpc",
        }
    }
}

impl Mass {
    /// G times this unit [m³ s⁻²]: nominal values of IAU 2015 Resolution B3, and CODATA's G for the kilogram.
    pub fn standard_gravity(self) -> f64 {
        match self {
            Self::Kg => G,
            Self::Mearth => 3.986_004e14,
            Self::Mjup => 1.266_865_3e17,
            Self::Msun => 1.327_124_4e20,
        }
    }

    /// This unit, in kg: GM divided by CODATA's G, so good to five digits only, save for the kilogram itself.
    pub fn kilograms(self) -> f64 {
        self.standard_gravity() / G
    }

    /// What to print after a number.
    pub fn label(self) -> &'static str {
        match self {
            Self::Kg => "kg",
            Self::Mearth => "M_earth",
            Self::Mjup => "M_jup",
            Self::Msun => "M_sun",
        }
    }
}

impl Time {
    /// This unit, in s.
    pub fn seconds(self) -> f64 {
        match self {
            Self::S => 1.0,
            Self::Day => DAY,
            Self::Year => YEAR,
            Self::Kyr => 1e3 * YEAR,
            Self::Myr => 1e6 * YEAR,
            Self::Gyr => 1e9 * YEAR,
        }
    }

    /// What to print after a number.
    pub fn label(self) -> &'static str {
        match self {
            Self::S => "s",
            Self::Day => "d",
            Self::Year => "yr",
            Self::Kyr => "kyr",
            Self::Myr => "Myr",
            Self::Gyr => "Gyr",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(length: Length, mass: Mass, time: Time) -> f64 {
        Units::Physical { length, mass, time }.gravitational_constant()
    }

    #[test]
    fn the_solar_system_has_the_constant_of_gauss() {
        let gauss = 0.017_202_098_95_f64;

        let found = constant(Length::Au, Mass::Msun, Time::Day);

        // Gauss's k fixed the old unit of length; the au of 2012 and the nominal Sun keep it to 3.1e-10.
        assert!((found / (gauss * gauss) - 1.0).abs() < 4e-10, "{found:e}");
    }

    #[test]
    fn galaxies_have_the_constant_of_the_textbooks() {
        // 4.30091e-3 pc (km/s)² per solar mass, with 1 km/s = 1.022712e-3 kpc/Myr.
        let found = constant(Length::Kpc, Mass::Msun, Time::Myr);

        assert!((found / (4.300_917e-6 * 1.022_712_2e-3 * 1.022_712_2e-3) - 1.0).abs() < 1e-5, "{found:e}");
    }

    #[test]
    fn si_units_give_codata() {
        assert_eq!(constant(Length::M, Mass::Kg, Time::S), 6.674_30e-11);
        assert_eq!(Units::Nbody.gravitational_constant(), 1.0);
        assert!((Mass::Msun.kilograms() / 1.988_41e30 - 1.0).abs() < 1e-5);
        assert!((Mass::Mearth.kilograms() / 5.972_17e24 - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_parsec_is_what_the_iau_says() {
        assert!((Length::Pc.metres() - 3.085_677_581_491_367e16).abs() <= 8.0);
    }
}
