//! The step as a transaction: extensions post what they do or are undone, a breach is named, bursts do not show.

use std::path::Path;

use bevy_ecs::prelude::*;
use emmy::{
    audit::Breach,
    backend::{cpu::Cpu, isa::Isa},
    ledger::{Amounts, Ledger},
    node::Node,
    particle::{Mass, Momentum, ParticleId, Position},
    scenario::{
        format::{OnBreach, Scenario},
        generate, read,
    },
    spawn,
    step::Clock,
};

fn scenario(text: &str) -> Scenario {
    read::read("test", text, &[]).unwrap_or_else(|report| panic!("{:?}", miette::Report::from(report)))
}

fn node_of(scenario: &Scenario) -> Node {
    let bodies = generate::population(scenario, Path::new(".")).expect("the scenario is right");
    let state = spawn::state(scenario, &bodies).expect("the bodies fit their quanta");
    Node::new(state, Cpu::new(Isa::widest(), 1).expect("one thread"))
}

const CLUSTER: &str = "(version: 1, name: \"c\", integrator: Leapfrog(dt: 0.01), until: Steps(100), \
    gravity: (softening: 0.05), generators: [Plummer(count: 40, mass: 1, radius: 1)])";
const PLANETS: &str = "(version: 1, name: \"p\", integrator: Srkn6b(dt: 0.01), until: Steps(100), bodies: [\
    (name: \"sun\", mass: 1, position: (0, 0, 0), velocity: (0, 0, 0)), \
    (name: \"a\", mass: 1e-3, position: (1, 0, 0), velocity: (0, 1, 0)), \
    (name: \"b\", mass: 1e-3, position: (0, 3, 0.1), velocity: (-0.5, 0, 0)), \
    (name: \"dust\", mass: 0, inertia: 1e-6, position: (0, -2, 0), velocity: (0.7, 0, 0))])";

/// One quantum of momentum for the first particle, from nowhere.
fn push(mut particles: Query<(&ParticleId, &mut Momentum)>, clock: Res<Clock>) {
    for (id, mut momentum) in &mut particles {
        if id.0 == 0 && clock.step == 2 {
            momentum.0[1] += 1;
        }
    }
}

/// The same, posted.
fn push_and_post(mut particles: Query<(&Position, &mut Momentum)>, mut ledger: ResMut<Ledger>) {
    for (position, mut momentum) in &mut particles {
        momentum.0[1] += 1;
        ledger.post("wind", Amounts::of_impulse(position.0, [0, 1, 0]));
    }
}

#[test]
fn one_quantum_from_nowhere_is_named_and_the_step_is_undone_bit_for_bit() {
    for text in [CLUSTER, PLANETS] {
        let scenario = scenario(text);
        let mut untouched = node_of(&scenario);
        untouched.advance(2);

        let mut node = node_of(&scenario);
        node.extend(push).expect("one system has no order to be missing");
        let committed = node.advance(10);

        assert_eq!(committed, 2);
        assert!(node.stopped());
        assert_eq!(node.root(), untouched.root());
        assert_eq!(node.ledger().due(), untouched.ledger().due());
        let report = &node.breaches()[0];
        assert_eq!((report.step, report.undone), (3, true));
        assert!(matches!(&report.breach, Breach::Exact { .. }), "{report}");
        assert!(report.to_string().contains("momentum along y"), "{report}");
    }
}

#[test]
fn a_breach_is_kept_as_evidence_or_recorded_where_the_scenario_says_so() {
    for (on_breach, committed, stopped, breaches) in [(OnBreach::Stop, 3, true, 1), (OnBreach::Record, 10, false, 1)] {
        let scenario = scenario(CLUSTER);
        let bodies = generate::population(&scenario, Path::new(".")).expect("right");
        let mut state = spawn::state(&scenario, &bodies).expect("fits");
        state.rules.on_breach = on_breach;
        let mut node = Node::new(state, Cpu::new(Isa::widest(), 1).expect("one thread"));
        node.extend(push).expect("no order is missing");

        assert_eq!(node.advance(10), committed, "{on_breach:?}");
        assert_eq!((node.stopped(), node.breaches().len()), (stopped, breaches), "{on_breach:?}");
        assert!(!node.breaches()[0].undone);
    }
}

#[test]
fn what_an_extension_posts_is_no_breach() {
    let scenario = scenario(CLUSTER);
    let mut node = node_of(&scenario);
    node.extend(push_and_post).expect("no order is missing");

    assert_eq!(node.advance(50), 50);
    assert_eq!(node.breaches(), []);
    assert_eq!(node.ledger().accounts["wind"].momentum, [0, -50 * 40, 0]);
}

/// Removes the particle with the highest number.
fn remove_last(mut commands: Commands, particles: Query<(Entity, &ParticleId)>) {
    let last = particles.iter().max_by_key(|(_, id)| **id).expect("there are particles");
    commands.entity(last.0).despawn();
}

#[test]
fn a_particle_that_vanishes_is_a_breach_and_comes_back() {
    let scenario = scenario(CLUSTER);
    let mut node = node_of(&scenario);
    let before = node.particles();
    node.extend(remove_last).expect("no order is missing");

    assert_eq!(node.advance(5), 0);
    assert!(node.breaches()[0].to_string().contains("particle count is 39"), "{}", node.breaches()[0]);
    assert_eq!(node.particles(), before);
}

fn write_masses(mut masses: Query<&mut Mass>) {
    masses.iter_mut().for_each(|mut mass| mass.quanta += 1);
}

fn read_masses(masses: Query<&Mass>, mut ledger: ResMut<Ledger>) {
    let mass = masses.iter().map(|mass| i128::from(mass.quanta)).sum();
    ledger.post("scales", Amounts { mass, ..Amounts::default() });
}

#[test]
fn an_unordered_pair_of_writers_is_refused_and_an_ordered_one_is_not() {
    let scenario = scenario(CLUSTER);
    assert!(node_of(&scenario).extend((write_masses, read_masses)).is_err());
    assert!(node_of(&scenario).extend((write_masses, read_masses).chain()).is_ok());
}

#[test]
fn mass_from_nowhere_is_a_breach() {
    let mut node = node_of(&scenario(CLUSTER));
    node.extend(write_masses).expect("no order is missing");
    assert_eq!(node.advance(5), 0);
    assert!(node.breaches()[0].to_string().starts_with("step 1 (t = 0.01): mass is"), "{}", node.breaches()[0]);
}

#[test]
fn how_steps_are_grouped_into_passes_does_not_show() {
    for text in [CLUSTER, PLANETS] {
        let scenario = scenario(text);
        let run = |group: &[u64]| {
            let mut node = node_of(&scenario);
            group.iter().for_each(|&steps| assert_eq!(node.advance(steps), steps));
            (node.root(), node.ledger().clone(), *node.drifts())
        };
        let whole = run(&[100]);
        assert_eq!(whole, run(&[1; 100]));
        assert_eq!(whole, run(&[7, 1, 59, 33]));
        let mut extended = node_of(&scenario);
        extended.extend(|| {}).expect("no order is missing");
        extended.advance(100);
        assert_eq!((whole.0, whole.1), (extended.root(), extended.ledger().clone()));
    }
}

#[test]
fn test_particles_do_not_pull_and_the_books_balance_all_the_same() {
    let scenario = scenario(PLANETS);
    let mut with_dust = node_of(&scenario);
    let mut without = scenario.clone();
    without.bodies.pop();
    without.quanta = emmy::scenario::format::QuantaChoice::Given {
        position: with_dust.quanta().position.0,
        momentum: with_dust.quanta().momentum.0,
        mass: with_dust.quanta().mass.0,
    };
    let mut without = node_of(&without);
    with_dust.advance(100);
    without.advance(100);

    assert_eq!(with_dust.particles()[..3], without.particles()[..]);
    let reaction = with_dust.ledger().accounts["reaction"];
    assert_ne!(reaction.momentum, [0; 3]);
    assert_eq!(with_dust.counted().momentum, with_dust.ledger().due().momentum);
}

#[test]
fn a_particle_that_leaves_its_range_is_named_and_the_last_good_step_stays() {
    let mut scenario = scenario(PLANETS);
    scenario.bodies[2].velocity.0 = [0.0, 40.0, 0.0];
    scenario.quanta = emmy::scenario::format::QuantaChoice::Auto { headroom: 2.0 };
    let mut node = node_of(&scenario);

    let committed = node.advance(100);

    let report = node.breaches()[0].clone();
    assert!(committed > 2 && committed < 20, "{committed}");
    assert_eq!(report.breach, Breach::Range { what: "position".into(), particle: 2, name: "b".into() });
    assert_eq!((report.step, report.undone), (committed + 1, true));
    let mut again = node_of(&scenario);
    again.advance(committed);
    assert_eq!(node.root(), again.root());
}

#[test]
fn two_bodies_that_fall_into_each_other_are_named_as_a_pair() {
    let text = "(version: 1, name: \"fall\", integrator: Leapfrog(dt: 0.01), until: Steps(1000), bodies: [\
        (name: \"left\", mass: 1, position: (-1, 0, 0), velocity: (0, 0, 0)), \
        (name: \"right\", mass: 1, position: (1, 0, 0), velocity: (0, 0, 0)), \
        (name: \"far\", mass: 1e-9, position: (0, 50, 0), velocity: (0, 0, 0))], quanta: Auto(headroom: 4))";
    for extra in [0, 20] {
        let mut scenario = scenario(text);
        for k in 0..extra {
            let body = emmy::scenario::format::Body {
                name: None,
                position: emmy::scenario::format::Vector([f64::from(k), 100.0, 0.0]),
                ..scenario.bodies[2].clone()
            };
            scenario.bodies.push(body);
        }
        let mut node = node_of(&scenario);
        node.advance(1000);
        let report = &node.breaches()[0];
        assert!(report.undone, "{report}");
        assert!(report.to_string().contains("left and right came too close"), "{report}");
    }
}

#[test]
fn an_energy_bound_undoes_the_step_that_broke_it_whatever_the_passes() {
    let text = CLUSTER.replace("generators", "audit: (energy_every: 10, energy_tolerance: 1e-9), generators");
    let scenario = scenario(&text);
    let outcome = |group: u64| {
        let mut node = node_of(&scenario);
        let committed: u64 = (0..100 / group).map(|_| node.advance(group)).sum();
        (committed, node.root(), node.breaches().to_vec())
    };
    let (committed, root, breaches) = outcome(100);
    assert_eq!(committed % 10, 9, "the step before a recount stays");
    assert_eq!(breaches[0].step, committed + 1);
    assert_eq!(outcome(1), (committed, root, breaches.clone()));
    assert_eq!(outcome(4), (committed, root, breaches));
}

#[test]
fn going_back_ends_at_the_start() {
    let mut node = node_of(&scenario(PLANETS));
    let start = node.root();
    node.advance(30);
    node.reverse();

    assert_eq!(node.advance(1000), 30);
    assert_eq!((node.root(), node.clock().step), (start, 0));
}

#[test]
fn test_particles_alone_drift_straight_on_and_their_record_has_no_holes() {
    let text = "(version: 1, name: \"dust\", integrator: Leapfrog(dt: 0.5), until: Steps(10), bodies: [\
        (name: \"a\", mass: 0, inertia: 1, position: (0, 0, 0), velocity: (1, 0, 0)), \
        (name: \"b\", mass: 0, inertia: 1, position: (0, 1, 0), velocity: (0, 0, 0))])";
    let mut node = node_of(&scenario(text));
    assert_eq!(node.advance(10), 10);
    node.recount();
    let record = serde_json::to_string(node.drifts()).expect("plain numbers");
    assert!(!record.contains("null"), "{record}");
    assert_eq!(node.particles()[0].position.0[0] as f64 * node.quanta().position.size(), 5.0);
}

#[test]
fn a_bound_that_does_not_hold_at_the_very_end_is_a_breach_too() {
    let text = CLUSTER.replace("generators", "audit: (energy_every: 1000, energy_tolerance: 1e-12), generators");
    let mut node = node_of(&scenario(&text));
    assert_eq!(node.advance(100), 100);
    assert_eq!(node.breaches(), []);

    node.recount();

    assert!(node.breaches()[0].to_string().contains("relative energy drift"), "{}", node.breaches()[0]);
}

#[test]
fn a_particle_that_is_out_of_range_within_a_step_only_is_named_and_no_other() {
    for speed in [43.0, 45.0, 47.1, 49.0] {
        let text = format!(
            "(version: 1, name: \"r\", integrator: Yoshida4(dt: 0.1), until: Steps(10), gravity: (constant: 0), \
             quanta: Auto(headroom: 2), bodies: [\
             (name: \"home\", mass: 1, position: (0, 0, 0), velocity: (0, 0, 0)), \
             (name: \"runaway\", mass: 1, position: (1, 0, 0), velocity: ({speed}, 0, 0))])"
        );
        let mut node = node_of(&scenario(&text));
        node.advance(10);
        let report = &node.breaches()[0];
        assert!(matches!(&report.breach, Breach::Range { name, .. } if name == "runaway"), "{speed}: {report}");
    }
}

#[test]
fn a_particle_too_many_is_found_at_the_first_step_however_long_the_pass() {
    for group in [1, 100] {
        let mut node = node_of(&scenario(CLUSTER));
        let mut extra = node.particles()[0];
        extra.id = ParticleId(999);
        extra.momentum = Momentum([0; 3]);
        node.world_mut().spawn(extra.bundle());
        assert_eq!((0..100 / group).map(|_| node.advance(group)).sum::<u64>(), 0);
        assert_eq!(node.breaches()[0].step, 1);
    }
}

#[test]
fn without_gravity_two_particles_may_meet() {
    let text = "(version: 1, name: \"x\", integrator: Leapfrog(dt: 0.5), until: Steps(8), gravity: (constant: 0), bodies: [\
        (mass: 1, position: (-1, 0, 0), velocity: (1, 0, 0)), (mass: 1, position: (1, 0, 0), velocity: (-1, 0, 0))])";
    let mut node = node_of(&scenario(text));
    assert_eq!(node.advance(8), 8);
    assert_eq!(node.breaches(), []);
}

#[test]
fn numbers_that_no_quanta_hold_are_a_fault_and_no_panic() {
    for mass in ["1e160", "1e-200"] {
        let text = format!(
            "(version: 1, name: \"m\", integrator: Leapfrog(dt: 0.5), until: Steps(8), bodies: [\
             (mass: {mass}, position: (-1, 0, 0), velocity: (0, 0, 0)), (mass: {mass}, position: (1, 0, 0), velocity: (0, 0, 0))])"
        );
        let scenario = scenario(&text);
        let bodies = generate::population(&scenario, Path::new(".")).expect("plain bodies");
        let faults = spawn::state(&scenario, &bodies).expect_err("no quanta hold these");
        assert!(faults[0].to_string().contains("too large or too small"), "{}", faults[0]);
    }
}
