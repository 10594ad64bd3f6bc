//! Finds what cannot be right in a scenario that could be read: every fault, each with its path and a remedy.
//!
//! It looks at numbers and names only. What needs the particles themselves (rows of tables, overflow) is found by `generate`,
//! as a [`Fault`] too; what needs quanta or memory is found when the world is made.

use std::collections::BTreeMap;
use std::fmt;

use super::format::{
    Audit, Body, Cadence, Expectation, Generator, Gravity, Placement, QuantaChoice, Scenario, Until, Vector,
};
use super::nearest::did_you_mean;

/// The version of the format that this program reads.
pub const VERSION: u32 = 1;
/// Steps are counted in f64 here and there: this many are counted exactly.
pub const STEPS_MAX: u64 = 1 << 53;
/// Particles are numbered in 32 bits.
pub const PARTICLES_MAX: u64 = 1 << 32;
/// More headroom than this leaves too few bits for the particles themselves.
pub const HEADROOM_MAX: f64 = 1_048_576.0;
/// Quanta are powers of two with exponents of at most this size, so that ratios of them are ordinary f64.
pub const EXPONENT_MAX: i32 = 1000;
/// The name becomes a folder name; file systems allow 255 bytes, and extensions are added.
const NAME_LEN_MAX: usize = 100;

/// Something in a scenario that cannot be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, as a path in the file: `bodies[3].mass`.
    pub path: String,
    /// What is wrong, with the value.
    pub message: String,
    /// What can be done about it.
    pub help: Option<String>,
    /// The path of a second place that has to do with it.
    pub also: Option<String>,
}

impl Fault {
    /// A fault at a path.
    pub fn new(path: impl fmt::Display, message: impl Into<String>) -> Self {
        Self { path: path.to_string(), message: message.into(), help: None, also: None }
    }

    /// The same fault with a remedy.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same fault with a second place.
    #[must_use]
    pub fn with_also(mut self, path: impl fmt::Display) -> Self {
        self.also = Some(path.to_string());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl std::error::Error for Fault {}

/// Every fault of a scenario, in the order of the format. Empty if it can be run.
pub fn check(scenario: &Scenario) -> Vec<Fault> {
    let mut checker = Checker { faults: Vec::new() };
    checker.head(scenario);
    checker.gravity(&scenario.gravity);
    checker.length_of_run(scenario);
    checker.quanta(scenario.quanta);
    checker.bodies(&scenario.bodies);
    checker.generators(&scenario.generators);
    checker.population(scenario);
    checker.audit(&scenario.audit);
    checker.output(scenario);
    checker.expectations(scenario);
    checker.faults
}

// ------------------------------------------------------------------------------------------------- the tools

/// A path that is only written out when there is a fault: a file may have a million bodies and none at fault.
#[derive(Clone, Copy)]
enum At<'a> {
    Root,
    Field(&'a At<'a>, &'static str),
    Index(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    fn field(&'a self, name: &'static str) -> At<'a> {
        At::Field(self, name)
    }

    fn index(&'a self, index: usize) -> At<'a> {
        At::Index(self, index)
    }
}

/// The last name: `mass` of `bodies[3].mass`, `position[1]` of `bodies[3].position[1]`.
fn last_name(at: &At<'_>) -> String {
    match at {
        At::Root => "the file".into(),
        At::Field(_, name) => (*name).into(),
        At::Index(outer, index) => format!("{}[{index}]", last_name(outer)),
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Root => Ok(()),
            At::Field(At::Root, name) => f.write_str(name),
            At::Field(outer, name) => write!(f, "{outer}.{name}"),
            At::Index(outer, index) => write!(f, "{outer}[{index}]"),
        }
    }
}

/// What a number must be, besides finite.
#[derive(Clone, Copy)]
enum Need {
    Finite,
    NotNegative,
    Positive,
}

struct Checker {
    faults: Vec<Fault>,
}

impl Checker {
    fn fault(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.faults.push(Fault::new(at, message));
    }

    fn fault_with_help(&mut self, at: &At<'_>, message: impl Into<String>, help: impl Into<String>) {
        self.faults.push(Fault::new(at, message).with_help(help));
    }

    /// Whether a number is what it must be; a fault if not. NaN fails every comparison, so it fails here.
    fn number(&mut self, at: &At<'_>, value: f64, need: Need) -> bool {
        let (right, must) = match need {
            Need::Finite => (true, "a finite number"),
            Need::NotNegative => (value >= 0.0, "zero or above, and finite"),
            Need::Positive => (value > 0.0, "above zero, and finite"),
        };
        let right = right && value.is_finite();
        if !right {
            self.fault(at, format!("`{}` is {value}; it must be {must}", last_name(at)));
        }
        right
    }

    fn finite(&mut self, at: &At<'_>, value: f64) -> bool {
        self.number(at, value, Need::Finite)
    }

    fn not_negative(&mut self, at: &At<'_>, value: f64) -> bool {
        self.number(at, value, Need::NotNegative)
    }

    fn positive(&mut self, at: &At<'_>, value: f64) -> bool {
        self.number(at, value, Need::Positive)
    }

    fn positive_if_given(&mut self, at: &At<'_>, value: Option<f64>) {
        if let Some(value) = value {
            self.positive(at, value);
        }
    }

    fn vector(&mut self, at: &At<'_>, vector: &Vector) {
        for (k, &component) in vector.0.iter().enumerate() {
            self.finite(&at.index(k), component);
        }
    }

    fn at_least_one(&mut self, at: &At<'_>, count: u64) {
        if count == 0 {
            self.fault(at, format!("`{}` is 0; it must be at least 1", last_name(at)));
        }
    }

    fn between(&mut self, at: &At<'_>, (low, high): (f64, f64)) {
        let finite = self.finite(&at.index(0), low) & self.finite(&at.index(1), high);
        if finite && low > high {
            self.fault_with_help(
                at,
                format!("the lower bound {low} is above the upper bound {high}"),
                format!("write ({high}, {low})"),
            );
        }
    }
}

// ------------------------------------------------------------------------------------------- the whole file

impl Checker {
    fn head(&mut self, scenario: &Scenario) {
        if scenario.version != VERSION {
            let message = format!("this program reads version {VERSION}, not {}", scenario.version);
            self.fault(&At::Root.field("version"), message);
        }
        if let Some(why) = unsafe_file_name(&scenario.name) {
            self.fault_with_help(
                &At::Root.field("name"),
                format!("the name \"{}\" {why}", scenario.name.escape_debug()),
                "it is the stem of file names: use letters a-z, digits, `-`, `_`, `.` and blanks",
            );
        }
    }

    fn gravity(&mut self, gravity: &Gravity) {
        let at = At::Root.field("gravity");
        if let Some(constant) = gravity.constant {
            self.not_negative(&at.field("constant"), constant);
        }
        self.not_negative(&at.field("softening"), gravity.softening);
    }

    fn length_of_run(&mut self, scenario: &Scenario) {
        let dt_right = self.positive(&At::Root.field("integrator").field("dt"), scenario.dt());
        let at = At::Root.field("until");
        match scenario.until {
            Until::Steps(0) => self.fault(&at, "the run has 0 steps; it must have at least 1"),
            Until::Steps(steps) if steps > STEPS_MAX => self.too_many_steps(&at, steps as f64),
            Until::Steps(_) => {}
            Until::Time(time) => {
                let time_right = self.positive(&at.index(0), time);
                if dt_right && time_right {
                    self.steps_to(&at, time, scenario);
                }
            }
        }
    }

    fn steps_to(&mut self, at: &At<'_>, time: f64, scenario: &Scenario) {
        let quotient = time / scenario.dt();
        if quotient > STEPS_MAX as f64 {
            self.too_many_steps(at, quotient);
        } else if scenario.steps() == 0 {
            self.fault(at, format!("the run ends at {time}, before its first step of {} does anything", scenario.dt()));
        }
    }

    fn too_many_steps(&mut self, at: &At<'_>, steps: f64) {
        self.fault_with_help(
            at,
            format!("the run would take {steps:.3e} steps; at most 2^53 (9.007e15) can be counted"),
            "end it sooner, or take a longer `dt`",
        );
    }

    fn quanta(&mut self, quanta: QuantaChoice) {
        let at = At::Root.field("quanta");
        match quanta {
            QuantaChoice::Auto { headroom } => self.headroom(&at.field("headroom"), headroom),
            QuantaChoice::Given { position, momentum, mass } => {
                self.exponent(&at.field("position"), position);
                self.exponent(&at.field("momentum"), momentum);
                self.exponent(&at.field("mass"), mass);
            }
        }
    }

    fn headroom(&mut self, at: &At<'_>, headroom: f64) {
        if !(1.0..=HEADROOM_MAX).contains(&headroom) {
            self.fault(at, format!("`headroom` is {headroom}; it must lie between 1 and 2^20 ({HEADROOM_MAX})"));
        }
    }

    fn exponent(&mut self, at: &At<'_>, exponent: i32) {
        if !(-EXPONENT_MAX..=EXPONENT_MAX).contains(&exponent) {
            let name = last_name(at);
            let message = format!("`{name}` is {exponent}; it must lie between -{EXPONENT_MAX} and {EXPONENT_MAX}");
            self.fault_with_help(at, message, format!("it is an exponent: the quantum is 2^{name}"));
        }
    }

    /// Faults that need all bodies at once.
    fn population(&mut self, scenario: &Scenario) {
        if scenario.bodies.is_empty() && scenario.generators.is_empty() {
            self.fault_with_help(
                &At::Root.field("bodies"),
                "there are no bodies",
                "write some in `bodies: [...]`, or have them made by `generators: [...]`",
            );
        }
        if scenario.count() > PARTICLES_MAX {
            let message = format!("there would be {} bodies; at most 2^32 can be numbered", scenario.count());
            self.fault(&At::Root.field("generators"), message);
        }
        self.duplicate_names(scenario);
        if scenario.gravity.softening == 0.0 {
            self.coincidences(&scenario.bodies);
        }
        if scenario.recentre && scenario.generators.is_empty() && !scenario.bodies.iter().any(|body| body.mass != 0.0) {
            self.fault(&At::Root.field("recentre"), "without a single mass there is no centre of mass to shift to");
        }
    }

    fn duplicate_names(&mut self, scenario: &Scenario) {
        let mut first = BTreeMap::new();
        for (name, path) in names(scenario) {
            match first.get(name) {
                None => drop(first.insert(name, path)),
                Some(earlier) => self.faults.push(
                    Fault::new(path, format!("the name \"{}\" is given twice", name.escape_debug()))
                        .with_also(earlier)
                        .with_help("names of bodies are unique, so that an expectation means one of them"),
                ),
            }
        }
    }

    /// Sorted by position, bodies at one point are neighbours.
    fn coincidences(&mut self, bodies: &[Body]) {
        let key = |&body: &usize| bodies[body].position.0.map(|x| (x + 0.0).to_bits());
        let mut order: Vec<usize> = (0..bodies.len()).collect();
        order.sort_by_key(|body| (key(body), *body));
        for pair in order.windows(2) {
            if key(&pair[0]) == key(&pair[1]) {
                let [x, y, z] = bodies[pair[0]].position.0;
                let (first, second) = (format!("bodies[{}]", pair[0]), format!("bodies[{}]", pair[1]));
                self.faults.push(
                    Fault::new(
                        format!("{second}.position"),
                        format!("{first} and {second} are both at ({x}, {y}, {z})"),
                    )
                    .with_also(format!("{first}.position"))
                    .with_help("their pull would be infinite: move one, or give `gravity: (softening: ...)`"),
                );
            }
        }
    }

    fn audit(&mut self, audit: &Audit) {
        let at = At::Root.field("audit");
        self.positive_if_given(&at.field("energy_step_tolerance"), audit.energy_step_tolerance);
        self.positive_if_given(&at.field("energy_tolerance"), audit.energy_tolerance);
        self.positive_if_given(&at.field("centre_of_mass_tolerance"), audit.centre_of_mass_tolerance);
    }

    fn output(&mut self, scenario: &Scenario) {
        let at = At::Root.field("output");
        self.cadence(&at.field("diagnostics"), &scenario.output.diagnostics);
        self.cadence(&at.field("checkpoint"), &scenario.output.checkpoint);
        self.at_least_one(&at.field("keep_checkpoints"), scenario.output.keep_checkpoints.into());
    }

    fn cadence(&mut self, at: &At<'_>, cadence: &Cadence) {
        if let Some(steps) = cadence.steps {
            self.at_least_one(&at.field("steps"), steps);
        }
        self.positive_if_given(&at.field("time"), cadence.time);
        self.positive_if_given(&at.field("wall"), cadence.wall);
    }
}

/// Why a name would not do as a file name on every system; `None` if it would.
fn unsafe_file_name(name: &str) -> Option<String> {
    let odd = |c: &char| !(c.is_ascii_alphanumeric() || "-_. ".contains(*c));
    if name.is_empty() {
        return Some("is empty".into());
    }
    if let Some(odd) = name.chars().find(odd) {
        return Some(format!("has the character {odd:?}"));
    }
    if name.starts_with(['.', ' ', '-']) || name.ends_with(['.', ' ']) {
        return Some("starts with `.`, `-` or a blank, or ends with `.` or a blank".into());
    }
    if name.len() > NAME_LEN_MAX {
        return Some(format!("has {} characters; at most {NAME_LEN_MAX} are allowed", name.len()));
    }
    is_device_name(name).then(|| "is the name of a device on Windows".into())
}

fn is_device_name(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).to_ascii_uppercase();
    let numbered = stem.strip_prefix("COM").or(stem.strip_prefix("LPT"));
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || numbered.is_some_and(|number| number.len() == 1 && number.as_bytes()[0].is_ascii_digit())
}

/// All names of bodies that stand in the file, each with its path.
fn names(scenario: &Scenario) -> impl Iterator<Item = (&str, String)> {
    let written = scenario.bodies.iter().enumerate().filter_map(|(k, body)| {
        let name = body.name.as_deref()?;
        Some((name, format!("bodies[{k}].name")))
    });
    let made = scenario.generators.iter().enumerate().flat_map(|(k, generator)| match generator {
        Generator::Kepler { names: Some((first, second)), .. } => {
            let path = |index: usize| format!("generators[{k}].names[{index}]");
            vec![(first.as_str(), path(0)), (second.as_str(), path(1))]
        }
        _ => Vec::new(),
    });
    written.chain(made)
}

// -------------------------------------------------------------------------------------- bodies and generators

impl Checker {
    fn bodies(&mut self, bodies: &[Body]) {
        let list = At::Root.field("bodies");
        for (k, body) in bodies.iter().enumerate() {
            let at = list.index(k);
            self.masses(&at, body);
            self.vector(&at.field("position"), &body.position);
            self.vector(&at.field("velocity"), &body.velocity);
            self.not_negative(&at.field("radius"), body.radius);
            if let Some(name) = &body.name {
                self.body_name(&at.field("name"), name);
            }
        }
    }

    fn masses(&mut self, at: &At<'_>, body: &Body) {
        let mass_right = self.not_negative(&at.field("mass"), body.mass);
        match body.inertia {
            None if body.mass == 0.0 => self.fault_with_help(&at.field("mass"), MASSLESS, MASSLESS_HELP),
            None => {}
            Some(inertia) => {
                self.positive(&at.field("inertia"), inertia);
                if mass_right && body.mass > 0.0 {
                    let message = format!("a body of mass {} cannot have another inertia", body.mass);
                    self.fault_with_help(&at.field("inertia"), message, "leave `inertia` away, or make `mass` 0");
                }
            }
        }
    }

    fn body_name(&mut self, at: &At<'_>, name: &str) {
        if name.is_empty() || name.chars().any(char::is_control) {
            let message = format!("the name \"{}\" is empty or has control characters", name.escape_debug());
            self.fault_with_help(at, message, "leave the name away, or write a visible one");
        }
    }

    fn generators(&mut self, generators: &[Generator]) {
        let list = At::Root.field("generators");
        for (k, generator) in generators.iter().enumerate() {
            self.generator(&list.index(k), generator);
        }
    }

    fn generator(&mut self, at: &At<'_>, generator: &Generator) {
        match generator {
            Generator::Plummer { count, mass, radius, place } | Generator::Hernquist { count, mass, radius, place } => {
                self.sphere(at, *count, *mass, *radius, place);
            }
            Generator::UniformSphere { count, mass, radius, virial_ratio, place } => {
                self.sphere(at, *count, *mass, *radius, place);
                self.virial_ratio(at, *count, *virial_ratio);
            }
            Generator::ExponentialDisc { .. } => self.disc(at, generator),
            Generator::CubicLattice { side, spacing, mass, place } => {
                self.at_least_one(&at.field("side"), *side);
                self.positive(&at.field("spacing"), *spacing);
                self.positive(&at.field("mass"), *mass);
                self.placement(at, place);
            }
            Generator::Kepler { .. } => self.kepler(at, generator),
            Generator::Table { path, place } => {
                if path.is_empty() {
                    self.fault(&at.field("path"), "the path is empty");
                }
                self.placement(at, place);
            }
        }
    }

    fn placement(&mut self, at: &At<'_>, place: &Placement) {
        self.vector(&at.field("place").field("offset"), &place.offset);
        self.vector(&at.field("place").field("velocity"), &place.velocity);
    }

    fn sphere(&mut self, at: &At<'_>, count: u64, mass: f64, radius: f64, place: &Placement) {
        self.at_least_one(&at.field("count"), count);
        self.positive(&at.field("mass"), mass);
        self.positive(&at.field("radius"), radius);
        self.placement(at, place);
    }

    fn virial_ratio(&mut self, at: &At<'_>, count: u64, ratio: f64) {
        let right = self.not_negative(&at.field("virial_ratio"), ratio);
        if right && ratio > 0.0 && count == 1 {
            let message = "a single body rests in its own centre of mass: it cannot have a virial ratio";
            self.fault(&at.field("virial_ratio"), message);
        }
    }

    fn disc(&mut self, at: &At<'_>, generator: &Generator) {
        let Generator::ExponentialDisc {
            count, mass, scale_length, scale_height, toomre_q, inclination, place, ..
        } = generator
        else {
            return;
        };
        self.sphere_of_halo(at, generator);
        self.at_least_one(&at.field("count"), *count);
        self.positive(&at.field("mass"), *mass);
        self.positive(&at.field("scale_length"), *scale_length);
        self.not_negative(&at.field("scale_height"), *scale_height);
        self.not_negative(&at.field("toomre_q"), *toomre_q);
        self.finite(&at.field("inclination"), *inclination);
        self.placement(at, place);
    }

    /// The three halo fields are given together, or not at all.
    fn sphere_of_halo(&mut self, at: &At<'_>, generator: &Generator) {
        let Generator::ExponentialDisc { halo_mass, halo_radius, halo_count, .. } = generator else {
            return;
        };
        let right = self.not_negative(&at.field("halo_mass"), *halo_mass)
            & self.not_negative(&at.field("halo_radius"), *halo_radius);
        let given =
            [("halo_mass", *halo_mass > 0.0), ("halo_radius", *halo_radius > 0.0), ("halo_count", *halo_count > 0)];
        if right && given.iter().any(|field| field.1) {
            for (name, _) in given.iter().filter(|field| !field.1) {
                let message = format!("the halo has no `{name}`");
                let help = "a halo needs `halo_mass`, `halo_radius` and `halo_count`, all above zero; none of them for no halo";
                self.fault_with_help(&at.field(name), message, help);
            }
        }
    }

    fn kepler(&mut self, at: &At<'_>, generator: &Generator) {
        let Generator::Kepler { masses, semi_major_axis, eccentricity, names, place, .. } = generator else {
            return;
        };
        self.positive(&at.field("masses").index(0), masses.0);
        self.positive(&at.field("masses").index(1), masses.1);
        self.positive(&at.field("semi_major_axis"), *semi_major_axis);
        if !(0.0..1.0).contains(eccentricity) {
            let message = format!("`eccentricity` is {eccentricity}; it must be at least 0 and below 1");
            self.fault_with_help(&at.field("eccentricity"), message, "open orbits are written out as two `bodies`");
        }
        self.kepler_angles(at, generator);
        if let Some((first, second)) = names {
            self.body_name(&at.field("names").index(0), first);
            self.body_name(&at.field("names").index(1), second);
        }
        self.placement(at, place);
    }

    fn kepler_angles(&mut self, at: &At<'_>, generator: &Generator) {
        let Generator::Kepler { inclination, ascending_node, pericentre, mean_anomaly, .. } = generator else {
            return;
        };
        self.finite(&at.field("inclination"), *inclination);
        self.finite(&at.field("ascending_node"), *ascending_node);
        self.finite(&at.field("pericentre"), *pericentre);
        self.finite(&at.field("mean_anomaly"), *mean_anomaly);
    }
}

/// Said of a body with `mass: 0` and no `inertia`; also of a row of a table.
pub(crate) const MASSLESS: &str = "a body of mass 0 has no momentum, so it cannot be moved by one";
/// What a test particle is, and how it is written.
pub(crate) const MASSLESS_HELP: &str = "a test particle, which is pulled but does not pull, needs an inertia for its own momentum: add \
     `inertia: ...` (any number above zero, its path does not depend on it)";

// ------------------------------------------------------------------------------------------------ expectations

impl Checker {
    fn expectations(&mut self, scenario: &Scenario) {
        let list = At::Root.field("expect");
        for (k, expectation) in scenario.expect.iter().enumerate() {
            self.expectation(&list.index(k), expectation, scenario);
            self.moment(&list.index(k).field("at"), moment_of(expectation), scenario);
        }
        self.faults.extend(unknown_names(scenario));
    }

    fn expectation(&mut self, at: &At<'_>, expectation: &Expectation, scenario: &Scenario) {
        match expectation {
            Expectation::EnergyDrift { below } => {
                self.positive(&at.field("below"), *below);
            }
            Expectation::AngularMomentumDrift { below } => {
                self.not_negative(&at.field("below"), *below);
            }
            Expectation::Position { is, within, .. } | Expectation::Velocity { is, within, .. } => {
                self.vector(&at.field("is"), is);
                self.not_negative(&at.field("within"), *within);
            }
            Expectation::VirialRatio { between, .. } => {
                self.between(&at.field("between"), *between);
                if scenario.gravitational_constant() == 0.0 {
                    self.fault(at, "without gravity there is no virial ratio");
                }
            }
            Expectation::LagrangeRadius { fraction, between, .. } => {
                self.between(&at.field("between"), *between);
                self.fraction(&at.field("fraction"), *fraction);
            }
            Expectation::StateRoot { is, .. } => self.root(&at.field("is"), is),
        }
    }

    fn fraction(&mut self, at: &At<'_>, fraction: f64) {
        if !(fraction > 0.0 && fraction <= 1.0) {
            self.fault(at, format!("`fraction` is {fraction}; it must be above 0 and at most 1"));
        }
    }

    fn root(&mut self, at: &At<'_>, root: &str) {
        if root.len() != 32 || !root.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            let message = format!("\"{}\" is not a state root, which has 32 hexadecimal digits", root.escape_debug());
            self.fault(at, message);
        }
    }

    /// A moment is the end of a step of the run, or its start. Only a right run length can tell.
    fn moment(&mut self, at: &At<'_>, time: Option<f64>, scenario: &Scenario) {
        let Some(time) = time else { return };
        let dt = scenario.dt();
        let usable = self.not_negative(at, time) && dt > 0.0 && dt.is_finite();
        if !usable {
            return;
        }
        let steps = time / dt;
        let nearest = steps.round();
        if nearest > scenario.steps() as f64 {
            let end = scenario.steps() as f64 * dt;
            self.fault(at, format!("`at` is {time}, after the end of the run at {end}"));
        } else if (steps - nearest).abs() > whole_tolerance(steps) {
            let (before, after) = (steps.floor() * dt, steps.ceil() * dt);
            self.fault_with_help(
                at,
                format!("`at` is {time}, which is not a whole number of steps of {dt}"),
                format!("the nearest are {before} and {after}"),
            );
        }
    }
}

/// How far from a whole number a quotient of times in steps may be: 1e-9 of it, which is what a time written with ten digits
/// may be off, but never so much that any time would do.
fn whole_tolerance(steps: f64) -> f64 {
    (1e-9 * steps).clamp(1e-9, 1e-3)
}

fn moment_of(expectation: &Expectation) -> Option<f64> {
    match expectation {
        Expectation::EnergyDrift { .. } | Expectation::AngularMomentumDrift { .. } => None,
        Expectation::Position { at, .. }
        | Expectation::Velocity { at, .. }
        | Expectation::VirialRatio { at, .. }
        | Expectation::LagrangeRadius { at, .. }
        | Expectation::StateRoot { at, .. } => *at,
    }
}

/// Names in expectations that no body of the file has. With a table only `generate` knows all names.
fn unknown_names(scenario: &Scenario) -> Vec<Fault> {
    match scenario.generators.iter().any(|generator| matches!(generator, Generator::Table { .. })) {
        true => Vec::new(),
        false => expected_but_unknown(scenario, names(scenario).map(|(name, _)| name)),
    }
}

/// A fault for every expectation of a body whose name is not among those that exist.
pub(crate) fn expected_but_unknown<'a>(scenario: &Scenario, known: impl Iterator<Item = &'a str>) -> Vec<Fault> {
    let wanted = scenario.expect.iter().enumerate().filter_map(|(k, expectation)| match expectation {
        Expectation::Position { of, .. } | Expectation::Velocity { of, .. } => Some((k, of.as_str())),
        _ => None,
    });
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let known: std::collections::BTreeSet<&str> = known.collect();
    wanted
        .into_iter()
        .filter(|(_, name)| !known.contains(name))
        .map(|(k, name)| Fault {
            path: format!("expect[{k}].of"),
            message: format!("no body has the name \"{}\"", name.escape_debug()),
            help: did_you_mean(name, known.iter().copied())
                .or_else(|| known.is_empty().then(|| "no body has a name: add `name: \"...\"` to it".into())),
            also: None,
        })
        .collect()
}
