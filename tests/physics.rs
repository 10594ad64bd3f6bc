//! Published problems with known answers: orbits, orders of convergence, an exact discrete invariant, the outer Solar System.
//!
//! Figures are those of the problem set that the engine was designed with: reference solutions with 34 digits, analytic formulas,
//! or properties of a scheme that any correct program of it reproduces. Every tolerance says where it comes from.

use std::{
    f64::consts::{LN_2, PI},
    path::Path,
};

use emmy::{
    advance::{Mover, Plan, walk},
    backend::{
        cpu::{Bookings, Cpu},
        isa::Isa,
    },
    contract::Contract,
    force::{Kick, PairOverflow},
    integrator::{
        LEAPFROG,
        kernel::{Booking, Stride, Totals},
    },
    ledger::Amounts,
    math::{add3, atan2, cross, log, norm, sincos_degrees, wide_product},
    node::Node,
    particle::{ParticleId, in_units},
    quanta::exp2,
    run::expect::velocity,
    scenario::{generate, read},
    spawn,
};

// ---------------------------------------------------------------------------------------------- helpers

/// A node at the start of a scenario.
fn node_of(text: &str) -> Node {
    let scenario = read::read("test", text, &[]).unwrap_or_else(|report| panic!("{:?}", miette::Report::from(report)));
    let bodies = generate::population(&scenario, Path::new(".")).expect("the scenario is right");
    let state = spawn::state(&scenario, &bodies).expect("the bodies fit their quanta");
    Node::new(state, Cpu::new(Isa::widest(), 2).expect("two threads"))
}

/// A node after all steps of a scenario, without a breach.
fn run(text: &str) -> Node {
    let scenario = read::read("test", text, &[]).unwrap_or_else(|report| panic!("{:?}", miette::Report::from(report)));
    let mut node = node_of(text);
    assert_eq!(node.advance(scenario.steps()), scenario.steps(), "{:?}", node.breaches());
    node
}

/// A body as a scenario writes it; a mass of 0 makes it a test particle.
fn body(name: &str, mass: f64, position: [f64; 3], velocity: [f64; 3]) -> String {
    let vector = |v: [f64; 3]| format!("({:?}, {:?}, {:?})", v[0], v[1], v[2]);
    let inertia = if mass == 0.0 { ", inertia: 1e-4" } else { "" };
    let (position, velocity) = (vector(position), vector(velocity));
    format!("(name: \"{name}\", mass: {mass:?}{inertia}, position: {position}, velocity: {velocity}), ")
}

/// A scenario of these bodies with G = 1, in which energy is recounted after every step.
fn scenario(integrator: &str, dt: f64, steps: u64, bodies: &str) -> String {
    format!(
        "(version: 1, name: \"p\", integrator: {integrator}(dt: {dt:?}), until: Steps({steps}), \
         audit: (energy_every: 1), bodies: [{bodies}])"
    )
}

fn places(node: &mut Node) -> Vec<[f64; 3]> {
    let quantum = node.quanta().position.0;
    node.particles().iter().map(|p| in_units(p.position.0, quantum)).collect()
}

fn velocities(node: &mut Node) -> Vec<[f64; 3]> {
    let particles = node.particles();
    particles.iter().map(|particle| velocity(particle, node)).collect()
}

fn minus(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|axis| a[axis] - b[axis])
}

fn apart(a: &[[f64; 3]], b: &[[f64; 3]]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| norm(minus(*a, *b))).fold(0.0, f64::max)
}

/// Asserts that `found` is `expected` but for a relative error.
fn assert_near(what: &str, found: f64, expected: f64, relative: f64) {
    let error = (found / expected - 1.0).abs();
    println!("{what}: {found:.8e}, expected {expected:e}, relative difference {error:.1e}");
    assert!(error <= relative, "{what} is {found:.8e}, expected {expected:e} within {relative:e}");
}

// ---------------------------------------------------------------------------------------------- Kepler

/// Two bodies whose relative orbit has GM = 1, a = 1 and starts at apocentre.
fn kepler(e: f64, steps: u64, integrator: &str) -> String {
    let (r, v) = (1.0 + e, ((1.0 - e) / (1.0 + e)).sqrt());
    let one = |name, mass, share: f64| body(name, mass, [share * r, 0.0, 0.0], [0.0, share * v, 0.0]);
    let bodies = one("heavy", 0.75, -0.25) + &one("light", 0.25, 0.75);
    scenario(integrator, 2.0 * PI / steps as f64, steps, &bodies)
}

/// One orbit: max|dE/E| of all steps, the distance from the start at the end, and the turn of the apocentre [rad].
fn orbit(e: f64, steps: u64, integrator: &str) -> [f64; 3] {
    orbit_of(&kepler(e, steps, integrator))
}

fn orbit_of(text: &str) -> [f64; 3] {
    let relative = |node: &mut Node| {
        let (x, v) = (places(node), velocities(node));
        (minus(x[1], x[0]), minus(v[1], v[0]))
    };
    let start = relative(&mut node_of(text)).0;
    let mut node = run(text);
    let (r, v) = relative(&mut node);
    // The Laplace-Runge-Lenz vector v × (r × v) − r/|r| points to pericentre, which is at −x at the start.
    let l = r[0] * v[1] - r[1] * v[0];
    let lrl = [v[1] * l - r[0] / norm(r), -v[0] * l - r[1] / norm(r)];
    [node.drifts().energy_max, norm(minus(r, start)), atan2(-lrl[1], -lrl[0])]
}

// The tables of problems.md show five digits: half a unit of the last one is at most 5e-5 of the number. Rounding to quanta
// shows below that: it shifts positions by some 1e-14, which is 1e-8 of the smallest number compared.
const FIVE_DIGITS: f64 = 6e-5;
const FOUR_DIGITS: f64 = 6e-4;

#[test]
fn a_kepler_orbit_of_eccentricity_0_9_has_the_errors_of_leapfrog() {
    for (n, energy, distance, turn) in [
        (1000, 9.0790e-2, 2.0440e-2, -1.077309e-2),
        (2000, 2.2945e-2, 5.1450e-3, -2.711708e-3),
        (4000, 5.7520e-3, 1.2885e-3, -6.790989e-4),
        (8000, 1.4390e-3, 3.2226e-4, -1.698483e-4),
    ] {
        let found = orbit(0.9, n, "Leapfrog");
        assert_near(&format!("n = {n}: max|dE/E|"), found[0], energy, FIVE_DIGITS);
        assert_near(&format!("n = {n}: |dr|"), found[1], distance, FIVE_DIGITS);
        // Seven digits are shown; the end of the orbit is not quite the apocentre, where the error of the energy returns to 0.
        assert_near(&format!("n = {n}: precession"), found[2], turn, 1e-4);
    }
}

#[test]
fn a_kepler_orbit_of_eccentricity_0_9_has_the_errors_of_yoshida_4() {
    for (n, energy, distance, turn) in [
        (1000, 2.8456e-3, 4.0919e-3, 2.159766e-3),
        (2000, 1.8525e-4, 2.7245e-4, 1.438060e-4),
        (4000, 1.1694e-5, 1.7288e-5, 9.125015e-6),
        (8000, 7.3428e-7, 1.0845e-6, 5.724529e-7),
    ] {
        let found = orbit(0.9, n, "Yoshida4");
        assert_near(&format!("n = {n}: max|dE/E|"), found[0], energy, FIVE_DIGITS);
        assert_near(&format!("n = {n}: |dr|"), found[1], distance, FIVE_DIGITS);
        assert_near(&format!("n = {n}: precession"), found[2], turn, 1e-4);
    }
}

#[test]
fn circles_and_half_eccentric_orbits_have_the_errors_of_leapfrog() {
    for (e, n, energy, distance) in [
        (0.0, 100, 3.873e-6, 8.2560e-3),
        (0.0, 200, 2.432e-7, 2.0663e-3),
        (0.0, 400, 1.521e-8, 5.1672e-4),
        (0.5, 100, 1.0322e-2, 2.2247e-2),
        (0.5, 200, 2.6189e-3, 5.6105e-3),
        (0.5, 400, 6.5716e-4, 1.4057e-3),
    ] {
        let found = orbit(e, n, "Leapfrog");
        assert_near(&format!("e = {e}, n = {n}: max|dE/E|"), found[0], energy, FOUR_DIGITS);
        assert_near(&format!("e = {e}, n = {n}: |dr|"), found[1], distance, FIVE_DIGITS);
    }
}

#[test]
fn a_test_particle_moves_as_the_relative_orbit_of_two_bodies_does() {
    let bodies =
        body("star", 1.0, [0.0; 3], [0.0; 3]) + &body("dust", 0.0, [1.9, 0.0, 0.0], [0.0, 0.1 / 0.19_f64.sqrt(), 0.0]);
    let mut node = run(&scenario("Leapfrog", 2.0 * PI / 2000.0, 2000, &bodies));
    let found = places(&mut node);
    assert_eq!(found[0], [0.0; 3], "nothing pulls the star");
    assert_near("|dr|", norm(minus(found[1], [1.9, 0.0, 0.0])), 5.1450e-3, FIVE_DIGITS);
}

/// The same with room for bodies to come four times closer than they start, and not 32 times: six bits finer.
fn finer(text: &str) -> String {
    text.replace("bodies:", "quanta: Auto(headroom: 4), bodies:")
}

/// Asserts that the error falls with this order from one number of steps to twice as many.
fn assert_order(what: &str, order: f64, [coarse, fine]: [f64; 2]) {
    let slope = log(coarse / fine) / LN_2;
    println!("{what}: order {slope:.3}, {coarse:.2e} to {fine:.2e}");
    // Step lengths are chosen in the asymptotic range and above rounding (1e-14): 0.06 is the most that was found.
    assert!((slope - order).abs() < 0.15, "{what}: order {slope:.3}");
}

#[test]
fn energy_errors_fall_with_the_order_of_every_splitting() {
    for (integrator, order, n) in
        [("Leapfrog", 2.0, 1000), ("Yoshida4", 4.0, 800), ("Srkn6b", 4.0, 600), ("Srkn11b", 6.0, 80)]
    {
        let error = |n| orbit_of(&finer(&kepler(0.5, n, integrator)))[0];
        assert_order(&format!("energy, Kepler e = 0.5, {integrator}"), order, [error(n), error(2 * n)]);
    }
}

#[test]
fn position_errors_fall_with_the_order_of_every_splitting() {
    // Not after a whole Kepler orbit: there the leading error of SRKN6b changes sign at 300 steps.
    for (integrator, order, n) in
        [("Leapfrog", 2.0, 100), ("Yoshida4", 4.0, 100), ("Srkn6b", 4.0, 80), ("Srkn11b", 6.0, 8)]
    {
        let error = |n: u64| {
            let mut node = run(&finer(&scenario(integrator, 1.0 / n as f64, n, &figure_eight())));
            apart(&places(&mut node), &EIGHT_AT_1)
        };
        assert_order(&format!("position, figure-eight, {integrator}"), order, [error(n), error(2 * n)]);
    }
}

// ---------------------------------------------------------------------------------------------- harmonic oscillator

/// One body on a spring with m = k = 1, in integers of one quantum; the wall takes the reaction.
struct Spring {
    q: i64,
    p: i64,
    impulse: i64,
}

/// Quantum of the oscillator: 2⁻⁶⁰.
const SPRING_BITS: i32 = 60;

impl Spring {
    fn kick(&mut self) -> Bookings {
        self.p += self.impulse;
        let tests = Booking { impulse: [i128::from(self.impulse), 0, 0], ..Booking::default() };
        Bookings { tests, ..Bookings::default() }
    }

    fn state(&self) -> (f64, f64) {
        (self.q as f64 * exp2(-SPRING_BITS), self.p as f64 * exp2(-SPRING_BITS))
    }
}

impl Mover for Spring {
    fn evaluate(&mut self, kick: Kick, _angular: bool) -> Result<(), PairOverflow> {
        self.impulse = wide_product(self.q as f64, -kick.factor).0;
        Ok(())
    }

    fn kick_and_drift(&mut self, stride: Stride, _angular: bool) -> Bookings {
        let bookings = self.kick();
        self.q += wide_product(self.p as f64, stride.0).0;
        bookings
    }

    fn kick_and_count(&mut self, _angular: bool) -> (Bookings, Totals) {
        let bookings = self.kick();
        (bookings, Totals { momentum: [i128::from(self.p), 0, 0], angular_momentum: [0; 3] })
    }
}

#[test]
fn a_harmonic_oscillator_keeps_its_discrete_invariant() {
    let h = 0.1;
    let plan = Plan {
        contract: Contract::Native64,
        kicks: LEAPFROG.kick.iter().map(|share| Kick { factor: share * h, softening2: 0.0 }).collect(),
        strides: LEAPFROG.drift.iter().map(|share| Stride(share * h)).collect(),
        guarded: false,
        angular: false,
    };
    let mut spring = Spring { q: 1 << SPRING_BITS, p: 0, impulse: 0 };
    let invariant = |(q, p): (f64, f64)| 0.5 * p * p + 0.5 * q * q * (1.0 - 0.25 * h * h);
    let first = invariant(spring.state());
    let (mut strayed, mut lowest, mut highest) = (0.0_f64, 0.0_f64, f64::MIN);
    for step in 0..100_000 {
        let due = Amounts { momentum: [i128::from(spring.p), 0, 0], ..Amounts::default() };
        let burst = walk(&mut spring, &plan, &due, 1);
        assert_eq!((burst.good, burst.trouble), (1, None), "step {step}");
        let (q, p) = spring.state();
        strayed = strayed.max((invariant((q, p)) / first - 1.0).abs());
        let energy = (p * p + q * q) - 1.0;
        (lowest, highest) = (lowest.min(energy), highest.max(energy));
    }

    let (q, _) = spring.state();
    println!("q = {q:.16}, invariant strayed by {strayed:.1e}, dE/E from {lowest:.10} to {highest:.3e}");
    // Positions and momenta become floats of 53 bits before they are multiplied: some 4e-18 a step, a random walk of 1e-15 in
    // 10⁵ steps, and twice that in the invariant. A drift, one way at every step, would be a hundred times more; plain f64
    // state gives 9e-14.
    assert!(strayed < 1e-14, "{strayed:e}");
    // cos(n arccos(1 - h²/2)) with 60 digits and h = 0.1 as a float. problems.md says 0.2284100062603909 and is wrong by
    // 3.6e-12: there the formula was evaluated in f64, which loses four digits in the arc cosine. With h = 1/10 exactly it is
    // 0.22841000626451871. The random walk above also moves the phase.
    assert!((q - 0.228_410_006_263_977_6).abs() < 1e-14, "{q:.17}");
    // Analytic bounds, and the random walk above.
    assert!((-0.0025 - 1e-14..-0.002_499_9).contains(&lowest), "{lowest}");
    assert!(highest <= 1e-14 && highest > -1e-7, "{highest:e}");
}

// ---------------------------------------------------------------------------------------------- figure-eight

const EIGHT_PERIOD: f64 = 6.325_913_98;

fn figure_eight() -> String {
    let (x, v) = ([0.970_004_36, -0.243_087_53, 0.0], [-0.932_407_37, -0.864_731_46, 0.0]);
    let half = v.map(|v| -0.5 * v);
    body("1", 1.0, x, half) + &body("2", 1.0, x.map(|x| -x), half) + &body("3", 1.0, [0.0; 3], v)
}

/// Reference positions at t = 1.
const EIGHT_AT_1: [[f64; 3]; 3] = [
    [0.993_582_919_940_978, 0.219_204_947_114_696, 0.0],
    [-0.050_734_285_274_952, 0.046_861_246_685_959, 0.0],
    [-0.942_848_634_666_026, -0.266_066_193_800_654, 0.0],
];

/// Reference velocities at t = 1.
const EIGHT_V_AT_1: [[f64; 3]; 3] = [
    [-0.402_748_886_061_384, 0.446_097_702_849_646, 0.0],
    [0.937_191_908_698_128, -0.858_642_185_238_168, 0.0],
    [-0.534_443_022_636_745, 0.412_544_482_388_522, 0.0],
];

#[test]
fn the_figure_eight_is_where_the_reference_is_at_t_1() {
    let mut node = run(&scenario("Srkn11b", exp2(-8), 256, &figure_eight()));

    let off = [apart(&places(&mut node), &EIGHT_AT_1), apart(&velocities(&mut node), &EIGHT_V_AT_1)];
    let energy = node.drifts().energy_start() as f64 * node.quanta().energy.size();
    println!("figure-eight at t = 1: {off:?}; E = {energy:.16}");
    // The reference shows 15 decimals; at this step the error of the scheme is below 1e-12, and momenta are rounded to 1e-14.
    assert!(off[0] < 2e-12 && off[1] < 2e-12, "{off:?}");
    // Positions and momenta rounded to quanta change E in the 15th digit.
    assert_near("E", energy, -1.287_141_991_766_326, 2e-14);
}

#[test]
fn the_figure_eight_has_the_errors_of_leapfrog() {
    for (steps, distance, energy) in
        [(100, 1.1626e-4, 5.888e-5), (200, 2.9069e-5, 1.473e-5), (400, 7.2674e-6, 3.682e-6)]
    {
        let mut node = run(&scenario("Leapfrog", 1.0 / steps as f64, steps, &figure_eight()));
        assert_near(&format!("{steps} steps: distance"), apart(&places(&mut node), &EIGHT_AT_1), distance, FIVE_DIGITS);
        assert_near(&format!("{steps} steps: max|dE/E|"), node.drifts().energy_max, energy, FOUR_DIGITS);
    }
}

#[test]
fn after_a_third_of_its_period_the_figure_eight_has_swapped_its_bodies() {
    let text = scenario("Srkn11b", EIGHT_PERIOD / 3.0 / 512.0, 512, &figure_eight());
    let start = places(&mut node_of(&text));
    let mut node = run(&text);

    let off = apart(&places(&mut node), &[[0.0; 3], start[0], start[1]].map(|x| x));

    // Eight digits of initial conditions close to 2e-8; a run that closed better would not have them.
    println!("figure-eight at T/3: {off:.3e}");
    assert!(off < 3e-8 && off > 5e-9, "{off:e}");
}

// ---------------------------------------------------------------------------------------------- outer Solar System

/// Name, mass, position, velocity [au, day, solar mass]: Applegate et al., Astron. J. 92, 176 (1986), as REBOUND has it.
fn outer_solar_system() -> String {
    [
        (
            "Sun",
            1.000_005_976_82,
            [-4.064_285_670_342_26e-3, -6.088_137_564_359_87e-3, -1.661_623_042_258_34e-6],
            [6.690_488_906_361_61e-6, -6.339_224_795_835_93e-6, -3.132_021_455_907_67e-9],
        ),
        (
            "Jupiter",
            1.0 / 1047.355,
            [3.405_466_142_274_66, 3.629_781_900_758_64, 3.423_862_617_665_77e-2],
            [-5.597_979_693_106_64e-3, 5.518_153_994_801_16e-3, -2.667_113_928_655_91e-6],
        ),
        (
            "Saturn",
            1.0 / 3501.6,
            [6.608_015_544_034_66, 6.380_846_745_850_64, -1.361_459_637_245_42e-1],
            [-4.173_540_203_070_64e-3, 3.997_237_517_481_16e-3, 1.672_063_205_714_41e-5],
        ),
        (
            "Uranus",
            1.0 / 22869.0,
            [11.163_633_140_559_7, 16.037_347_905_725_6, 3.617_832_793_699_58e-1],
            [-3.258_848_061_510_64e-3, 2.064_384_129_059_16e-3, -2.176_990_421_805_59e-5],
        ),
        (
            "Neptune",
            1.0 / 19314.0,
            [-30.177_724_340_520_3, 1.911_553_149_980_64, -1.538_875_956_210_42e-1],
            [-2.174_717_850_455_38e-4, -3.113_611_110_258_84e-3, 3.583_447_054_914_41e-5],
        ),
        (
            "Pluto",
            0.0,
            [-21.385_897_753_157_3, 32.071_910_473_988_6, 2.492_456_895_560_96],
            [-1.769_365_772_524_84e-3, -2.067_209_383_817_24e-3, 6.580_919_314_938_44e-4],
        ),
    ]
    .map(|(name, mass, x, v)| body(name, mass, x, v))
    .concat()
}

/// k² with Gauss' k = 0.01720209895.
const GAUSS: f64 = 2.959_122_082_855_911e-4;

/// Quanta that suit this system, and those that are chosen without a word: these leave room for bodies to come 32 times closer,
/// which costs ten bits of every impulse.
const OUTER_QUANTA: [&str; 2] = ["Given(position: -54, momentum: -73, mass: -51)", "Auto(headroom: 32)"];

fn outer(steps: u64, quanta: &str) -> String {
    scenario("Srkn11b", 25.0, steps, &outer_solar_system())
        .replace("bodies:", &format!("gravity: (constant: {GAUSS:?}), quanta: {quanta}, bodies:"))
}

type Places = [[f64; 3]; 6];

const OUTER_AT_1000: (Places, Places) = (
    [
        [0.004207325652, -0.007017781214, 0.000018266743],
        [-3.554699023347, 3.935033819863, 0.000297497307],
        [1.453601548433, 8.915963409427, -0.094668643773],
        [7.703707543787, 17.767693453520, 0.332925085409],
        [-30.233381996211, -1.206741058642, -0.117293813609],
        [-23.097756925195, 29.922617437608, 3.143448623103],
    ],
    [
        [7.24668742644e-6, 4.33614265242e-6, 2.99652475692e-8],
        [-5.69165797681e-3, -4.69933035953e-3, -5.08492109773e-5],
        [-5.80833142599e-3, 8.81265002954e-4, 6.37996118967e-5],
        [-3.63950658977e-3, 1.38170760269e-3, -3.58133759831e-5],
        [1.06150420628e-4, -3.11740626529e-3, 3.72873160349e-5],
        [-1.65177025291e-3, -2.23098020404e-3, 6.43181787993e-4],
    ],
);

const OUTER_AT_36525: (Places, Places) = (
    [
        [0.006750541241, 0.000919351902, -0.000003569217],
        [-5.168828523584, -1.713877614778, -0.034365245320],
        [-9.221311883519, -2.835704377196, 0.138280426216],
        [-10.584905297625, 15.214567541101, 0.034475130314],
        [24.738341476670, 16.640323700938, -0.089181398653],
        [32.051853513263, -21.790540201922, -6.252490807645],
    ],
    [
        [-2.32637024953e-6, 8.00013976095e-6, 1.59797414063e-8],
        [2.28179189547e-3, -6.81272752493e-3, -1.96431307571e-5],
        [1.33745318972e-3, -5.34022306216e-3, 2.86355951388e-5],
        [-3.25893512955e-3, -2.43021196019e-3, -7.77391054527e-5],
        [-1.77088960090e-3, 2.62395137790e-3, -3.86934034477e-5],
        [1.94826289471e-3, 1.82533451345e-3, -6.81367087969e-4],
    ],
);

#[test]
fn the_outer_solar_system_starts_with_the_energy_and_angular_momentum_of_its_reference() {
    let mut node = node_of(&outer(1, OUTER_QUANTA[0]));
    let energy = node.drifts().energy_start() as f64 * node.quanta().energy.size();
    // Masses are whole quanta of 2⁻⁵¹, for the Sun's sake; half a quantum is 2.3e-13 of Jupiter's, to which E is proportional.
    assert_near("E", energy, -3.217_748_285_545_802e-8, 3e-13);
    let particles = node.particles();
    let sources = particles.iter().filter(|p| p.mass.pulls);
    let l = sources.fold([0; 3], |sum, p| add3(sum, cross(p.position.0, p.momentum.0)));
    let unit = node.quanta().angular_momentum().size();
    // Eleven or twelve digits are shown.
    for (found, expected) in l.iter().zip([-7.292_639_476_2e-8, -2.683_924_695_0e-8, 6.073_765_844_33e-5]) {
        assert_near("L", *found as f64 * unit, expected, 1e-11);
    }
}

#[test]
fn the_outer_solar_system_follows_its_reference_for_a_hundred_years() {
    // The table shows twelve decimals: up to 9e-13 for three axes. With quanta that suit it, what comes on top after a hundred
    // years is the error of the splitting (3e-11 for Jupiter) and the walk of 16 071 rounded kicks (2e-11 for Neptune). With
    // the quanta that are chosen by default the kicks of the light planets keep some 30 bits, and their walk is all there is:
    // 5e-11 after 1000 days, 1e-8 after a hundred years, however short the step.
    let [suited, default] = OUTER_QUANTA;
    for (steps, reference, quanta, within) in [
        (40, OUTER_AT_1000, suited, 2e-12),
        (1461, OUTER_AT_36525, suited, 5e-11),
        (40, OUTER_AT_1000, default, 3e-10),
        (1461, OUTER_AT_36525, default, 1e-7),
    ] {
        let mut node = run(&outer(steps, quanta));
        let off = [apart(&places(&mut node), &reference.0), apart(&velocities(&mut node), &reference.1)];
        let (days, energy) = (node.clock().time(), node.drifts().energy_max);
        println!("outer Solar System after {days} d, {quanta}: off by {off:?}, max|dE/E| {energy:.2e}");
        assert!(off[0] < within, "{days} d, {quanta}: {off:?}");
        // Velocities are smaller by the angular speed of Jupiter, 1.5e-3 per day; velocities of the table show 1e-14.
        assert!(off[1] < 2e-3 * within + 1e-14, "{days} d, {quanta}: {off:?}");
    }
}

// ---------------------------------------------------------------------------------------------- Plummer sphere

#[test]
fn a_plummer_sphere_stays_in_equilibrium() {
    let text = "(version: 1, name: \"p\", integrator: Leapfrog(dt: 0.001953125), until: Time(10), recentre: true, \
        gravity: (softening: 0.01), audit: (energy_every: 64), \
        generators: [Plummer(count: 1024, mass: 1, radius: 0.589048623, place: (seed: 1))])";
    let mut node = node_of(text);
    let start = node.drifts().energy_start() as f64 * node.quanta().energy.size();
    let momentum = node.counted().momentum;
    // Eight samples of 1024 bodies lay between -0.233 and -0.266, about the analytic -1/4.
    println!("E at the start {start:.5}");
    assert!(start > -0.27 && start < -0.23, "{start}");
    let mut ratios = Vec::new();
    for _ in 0..20 {
        assert_eq!(node.advance(256), 256, "{:?}", node.breaches());
        let recount = node.count_bounded();
        ratios.push(recount.kinetic as f64 / -(recount.potential as f64));
    }
    let (low, high) = ratios.iter().fold((f64::MAX, f64::MIN), |(low, high), &q| (low.min(q), high.max(q)));
    let radii = [0.1, 0.5, 0.9].map(|fraction| lagrange_radius(&mut node, fraction));
    println!("Q from {low:.4} to {high:.4}, radii {radii:?}, max|dE/E| {:.2e}", node.drifts().energy_max);

    assert_eq!(node.counted().momentum, momentum);
    // Eight samples gave 2.5e-6 to 5.5e-6; drift-kick-drift, with half the error constant, 1.4e-6 to 2.2e-6 (problems.md).
    assert!(node.drifts().energy_max < 1e-5, "{:e}", node.drifts().energy_max);
    // Eight samples gave ratios from 0.476 to 0.519 and in the end radii from 0.271 to 0.360, 0.724 to 0.840 and 2.00 to 2.59;
    // the analytic values are 0.5, 0.309, 0.769 and 2.184.
    assert!(low > 0.46 && high < 0.54, "{low} {high}");
    for (radius, (least, most)) in radii.iter().zip([(0.25, 0.38), (0.68, 0.87), (1.9, 2.7)]) {
        assert!((least..most).contains(radius), "{radii:?}");
    }
}

/// The radius about the origin that holds a share of equal masses.
fn lagrange_radius(node: &mut Node, share: f64) -> f64 {
    let mut radii: Vec<f64> = places(node).into_iter().map(norm).collect();
    radii.sort_unstable_by(f64::total_cmp);
    radii[(share * radii.len() as f64).ceil() as usize - 1]
}

// ---------------------------------------------------------------------------------------------- Lagrange's triangle

#[test]
fn lagranges_triangle_breaks_at_the_rate_it_should_and_keeps_its_momentum() {
    let period = 2.0 * PI / 3f64.sqrt();
    let bodies: String = (0..3)
        .map(|k| {
            let (sin, cos) = sincos_degrees(120.0 * f64::from(k));
            let r = 1.0 / 3f64.sqrt();
            // Tangential speed 1; one coordinate is off by 1e-10.
            let x = r * cos + if k == 0 { 1e-10 } else { 0.0 };
            body(&k.to_string(), 1.0, [x, r * sin, 0.0], [-sin, cos, 0.0])
        })
        .collect();
    let text = scenario("Srkn11b", period / 400.0, 2400, &bodies);
    let mut node = node_of(&text);
    let start = places(&mut node);
    let momentum = node.counted().momentum;
    let mut strayed = Vec::new();
    for _ in 0..6 {
        assert_eq!(node.advance(400), 400, "{:?}", node.breaches());
        strayed.push(apart(&places(&mut node), &start));
        let counted = node.particles().iter().fold([0; 3], |sum, p| add3(sum, p.momentum.0.map(i128::from)));
        assert_eq!(counted, momentum);
    }
    let factors: Vec<f64> = strayed.windows(2).map(|pair| pair[1] / pair[0]).collect();
    println!("strayed {strayed:?}, factors {factors:?}");
    // e^(√2 π) = 85.02 in linear theory. In the first two periods decaying and oscillating modes still count, in the fifth the
    // growth is no longer linear: an independent program found 81, 85, 85, 88 for another offset.
    for factor in &factors[1..4] {
        assert!((75.0..95.0).contains(factor), "{factors:?}");
    }
    // The triangle has broken in the end.
    assert!(strayed[5] > 0.05, "{strayed:?}");
    assert_eq!(node.names().find("0"), Some(ParticleId(0)));
}
