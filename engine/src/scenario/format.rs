//! Version 1 of the scenario format: every field a scenario file may have, with its default.
//!
//! The Rust types are the format: what is not here is refused. Numbers are in the scenario's units unless said otherwise.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{contract::Contract, units::Units};

/// A scenario file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Version of the format; required, 1.
    pub version: u32,
    /// Short name; also the stem of the run directory. Letters, digits, `-`, `_`, `.` and blanks.
    pub name: String,
    /// What it shows.
    #[serde(default)]
    pub description: String,
    /// Units of all numbers in the file.
    #[serde(default)]
    pub units: Units,
    /// The law of gravity.
    #[serde(default)]
    pub gravity: Gravity,
    /// Which sequence of floating-point operations turns two particles into one integer impulse.
    #[serde(default)]
    pub contract: Contract,
    /// How particles move, and the time step.
    pub integrator: Integrator,
    /// When the run ends.
    pub until: Until,
    /// Sizes of the integer units.
    #[serde(default)]
    pub quanta: QuantaChoice,
    /// Bodies written out.
    #[serde(default)]
    pub bodies: Vec<Body>,
    /// Groups of bodies made by rule, after the written ones, in this order.
    #[serde(default)]
    pub generators: Vec<Generator>,
    /// Whether to shift everything so that the centre of mass is at rest at the origin.
    #[serde(default)]
    pub recentre: bool,
    /// What is checked, how often, and what happens on a breach.
    #[serde(default)]
    pub audit: Audit,
    /// What is written, how often.
    #[serde(default)]
    pub output: Output,
    /// What must hold: the scenario is a test of itself.
    #[serde(default)]
    pub expect: Vec<Expectation>,
}

/// Newton's law with Plummer softening: the potential of a pair is -G m M / sqrt(r² + softening²).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gravity {
    /// Gravitational constant; `None` takes it from the units.
    pub constant: Option<f64>,
    /// Plummer softening length.
    pub softening: f64,
}

/// Names of the splittings, each with its time step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Integrator {
    /// Kick-drift-kick, order 2.
    Leapfrog {
        /// Time step.
        dt: f64,
    },
    /// Forest-Ruth / Yoshida composition, order 4.
    Yoshida4 {
        /// Time step.
        dt: f64,
    },
    /// Blanes & Moan SRKN6b, order 4.
    Srkn6b {
        /// Time step.
        dt: f64,
    },
    /// Blanes & Moan SRKN11b, order 6.
    Srkn11b {
        /// Time step.
        dt: f64,
    },
}

/// Run length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Until {
    /// A number of steps.
    Steps(u64),
    /// A simulated time; the run ends with the first step at or after it.
    Time(f64),
}

/// Sizes of the integer units. All are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum QuantaChoice {
    /// Chosen from the initial state.
    Auto {
        /// How many times farther out, or closer together, particles may get than they are at the start.
        #[serde(default = "default_headroom")]
        headroom: f64,
    },
    /// Given as exponents of two, in scenario units.
    Given {
        /// Position quantum 2^position.
        position: i32,
        /// Momentum quantum 2^momentum.
        momentum: i32,
        /// Mass quantum 2^mass.
        mass: i32,
    },
}

/// One body written out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// Name, for expectations and reports; unique if given.
    #[serde(default)]
    pub name: Option<String>,
    /// Mass: the source of gravity and, unless `inertia` is given, the inertia.
    pub mass: f64,
    /// Makes it a test particle: it is pulled but does not pull (`mass` must be 0), and this is its inertial mass.
    #[serde(default)]
    pub inertia: Option<f64>,
    /// Position.
    pub position: Vector,
    /// Velocity.
    pub velocity: Vector,
    /// Radius; for collisions and pictures.
    #[serde(default)]
    pub radius: f64,
}

/// Three numbers, written (x, y, z) or [x, y, z].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Vector(pub [f64; 3]);

impl Serialize for Vector {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(output)
    }
}

impl<'de> Deserialize<'de> for Vector {
    /// Asks for whatever is there, because RON has one request for tuples and another for lists, and both are welcome.
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(ThreeNumbers)
    }
}

struct ThreeNumbers;

impl<'de> de::Visitor<'de> for ThreeNumbers {
    type Value = Vector;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("three numbers (x, y, z)")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut numbers: A) -> Result<Vector, A::Error> {
        let mut vector = [0.0; 3];
        for (k, component) in vector.iter_mut().enumerate() {
            *component = numbers.next_element()?.ok_or_else(|| de::Error::invalid_length(k, &self))?;
        }
        match numbers.next_element::<f64>()? {
            Some(_) => Err(de::Error::invalid_length(4, &self)),
            None => Ok(Vector(vector)),
        }
    }
}

/// Where a generated group is put, and the random numbers it uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// Added to every position.
    pub offset: Vector,
    /// Added to every velocity.
    pub velocity: Vector,
    /// Seed of the random numbers of this group.
    pub seed: u64,
}

/// A group of bodies made by rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Generator {
    /// Plummer sphere in equilibrium (Aarseth, Hénon & Wielen 1974), equal masses.
    Plummer {
        /// Number of bodies.
        count: u64,
        /// Total mass.
        mass: f64,
        /// Scale radius a.
        radius: f64,
        /// Where and with which random numbers.
        #[serde(default)]
        place: Placement,
    },
    /// Hernquist sphere in equilibrium (Hernquist 1990), equal masses, velocities from the distribution function.
    Hernquist {
        /// Number of bodies.
        count: u64,
        /// Total mass (before truncation at 100 scale radii, which is part of the sampling).
        mass: f64,
        /// Scale radius a.
        radius: f64,
        /// Where and with which random numbers.
        #[serde(default)]
        place: Placement,
    },
    /// Uniform sphere with a chosen virial ratio, equal masses.
    UniformSphere {
        /// Number of bodies.
        count: u64,
        /// Total mass.
        mass: f64,
        /// Radius.
        radius: f64,
        /// T/|W|: 0 is cold, 0.5 virialised. W is that of the continuous sphere, -3GM²/5R.
        #[serde(default)]
        virial_ratio: f64,
        /// Where and with which random numbers.
        #[serde(default)]
        place: Placement,
    },
    /// Exponential disc that rotates in its own gravity and in that of a central spherical halo.
    ExponentialDisc {
        /// Number of disc bodies, equal masses.
        count: u64,
        /// Mass of the disc.
        mass: f64,
        /// Scale length of the surface density exp(-R/scale_length), cut at 5 scale lengths.
        scale_length: f64,
        /// Scale height of the sech² layer.
        scale_height: f64,
        /// Live halo: a Plummer sphere of this mass; 0 for none.
        #[serde(default)]
        halo_mass: f64,
        /// Scale radius of the halo.
        #[serde(default)]
        halo_radius: f64,
        /// Number of halo bodies, equal masses, after those of the disc.
        #[serde(default)]
        halo_count: u64,
        /// Toomre's Q of the radial velocity dispersion; 0 for exactly circular orbits.
        #[serde(default)]
        toomre_q: f64,
        /// Inclination of the spin axis against z, in degrees (turned about the x axis).
        #[serde(default)]
        inclination: f64,
        /// Where and with which random numbers.
        #[serde(default)]
        place: Placement,
    },
    /// Simple cubic lattice centred on the offset, at rest.
    CubicLattice {
        /// Bodies along each axis.
        side: u64,
        /// Distance between neighbours.
        spacing: f64,
        /// Mass of each body.
        mass: f64,
        /// Where; the seed is not used.
        #[serde(default)]
        place: Placement,
    },
    /// Two bodies on a Kepler orbit, from elements; the centre of mass is at the offset.
    Kepler {
        /// Masses of the two bodies.
        masses: (f64, f64),
        /// Semi-major axis of the relative orbit.
        semi_major_axis: f64,
        /// Eccentricity, at least 0 and below 1.
        eccentricity: f64,
        /// Inclination in degrees.
        #[serde(default)]
        inclination: f64,
        /// Longitude of the ascending node in degrees.
        #[serde(default)]
        ascending_node: f64,
        /// Argument of pericentre in degrees.
        #[serde(default)]
        pericentre: f64,
        /// Mean anomaly in degrees; 180 is apocentre.
        #[serde(default)]
        mean_anomaly: f64,
        /// Names of the two bodies.
        #[serde(default)]
        names: Option<(String, String)>,
        /// Where; the seed is not used.
        #[serde(default)]
        place: Placement,
    },
    /// A CSV file with a header line and the columns x, y, z, vx, vy, vz, mass and, if there, radius, name, inertia; any order.
    Table {
        /// Path, relative to the folder of the scenario file.
        path: String,
        /// Where; the seed is not used.
        #[serde(default)]
        place: Placement,
    },
}

/// What is checked. Count, mass and momentum are compared with `==` after every step, always.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Book angular momentum stage by stage and check L(t) = L(0) + booked, as integers, after every step.
    pub angular_momentum: bool,
    /// Energy is recounted every so many steps; 0 for about 256 times in the run.
    pub energy_every: u64,
    /// Largest |E - E before| / |E at the start| from one recount to the next; `None` for no bound.
    pub energy_step_tolerance: Option<f64>,
    /// Largest |E - E at the start| / |E at the start|; `None` for no bound.
    pub energy_tolerance: Option<f64>,
    /// Largest distance of the centre of mass from its uniform motion, in units of length; `None` for no bound.
    pub centre_of_mass_tolerance: Option<f64>,
    /// What happens on a breach.
    pub on_breach: OnBreach,
}

/// What happens when a step breaches what must be conserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnBreach {
    /// Keep the step as evidence and stop.
    Stop,
    /// Undo the step and stop at the last good state.
    #[default]
    Undo,
    /// Keep the step, record the breach and go on. A range overflow stops all the same.
    Record,
}

/// What is written, how often.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Output {
    /// Lines of the diagnostics log.
    pub diagnostics: Cadence,
    /// Checkpoints, besides those at a signal and at the end.
    pub checkpoint: Cadence,
    /// How many checkpoints are kept.
    pub keep_checkpoints: u32,
}

/// How often: every so many steps, every so much simulated time, every so many seconds of wall time; what is given applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cadence {
    /// Every so many steps.
    pub steps: Option<u64>,
    /// At the first step at or after every multiple of this simulated time.
    pub time: Option<f64>,
    /// Every so many seconds of wall time.
    pub wall: Option<f64>,
}

/// Something that must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Expectation {
    /// The largest relative energy error of all recounts stays at or below a bound.
    EnergyDrift {
        /// Bound.
        below: f64,
    },
    /// The largest relative angular momentum error of all recounts stays at or below a bound.
    AngularMomentumDrift {
        /// Bound.
        below: f64,
    },
    /// A named body is where it should be.
    Position {
        /// Name of the body.
        of: String,
        /// Simulated time, a whole number of steps; the end if not given.
        #[serde(default)]
        at: Option<f64>,
        /// Where it should be.
        is: Vector,
        /// Largest distance from there.
        within: f64,
    },
    /// A named body is as fast as it should be.
    Velocity {
        /// Name of the body.
        of: String,
        /// Simulated time, a whole number of steps; the end if not given.
        #[serde(default)]
        at: Option<f64>,
        /// The velocity it should have.
        is: Vector,
        /// Largest difference.
        within: f64,
    },
    /// T/|W| lies between two bounds.
    VirialRatio {
        /// Simulated time, a whole number of steps; the end if not given.
        #[serde(default)]
        at: Option<f64>,
        /// Lowest and highest value allowed.
        between: (f64, f64),
    },
    /// The radius about the centre of mass that holds a fraction of the mass lies between two bounds.
    LagrangeRadius {
        /// Fraction of the total mass, above 0 and at most 1.
        fraction: f64,
        /// Simulated time, a whole number of steps; the end if not given.
        #[serde(default)]
        at: Option<f64>,
        /// Lowest and highest value allowed.
        between: (f64, f64),
    },
    /// The state root has exactly these bits.
    StateRoot {
        /// Simulated time, a whole number of steps; the end if not given.
        #[serde(default)]
        at: Option<f64>,
        /// 32 hexadecimal digits.
        is: String,
    },
}

fn default_headroom() -> f64 {
    32.0
}

impl Default for QuantaChoice {
    fn default() -> Self {
        Self::Auto { headroom: default_headroom() }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            angular_momentum: true,
            energy_every: 0,
            energy_step_tolerance: None,
            energy_tolerance: None,
            centre_of_mass_tolerance: None,
            on_breach: OnBreach::default(),
        }
    }
}

impl Default for Output {
    fn default() -> Self {
        Self {
            diagnostics: Cadence { wall: Some(10.0), ..Cadence::default() },
            checkpoint: Cadence { wall: Some(60.0), ..Cadence::default() },
            keep_checkpoints: 3,
        }
    }
}
