//! Under a portable contract a device gives the bits of the CPU: every root, every booking, every verdict.
//!
//! The device is lavapipe, Mesa's Vulkan on the CPU, because every machine can have it; on a machine with another Vulkan device
//! `EMMY_DEVICE=name` runs the same tests there. Comparisons are `==` on integers and roots.

use std::path::Path;

use bevy_ecs::prelude::*;
use emmy::{
    audit::Breach,
    backend::{
        Backend,
        cpu::Cpu,
        gpu::{Gpu, adapter::Adapters, device::Device, error::GpuError},
        isa::Isa,
    },
    contract::Contract,
    ledger::{Amounts, Ledger},
    metrics::Work,
    node::{Node, State},
    particle::{Mass, Momentum, Particle, ParticleId, Position, Radius},
    residence::{ANCHOR_STEPS, OnLoss},
    run::{ExitReason, Run, StopRequest},
    scenario::{generate, read},
    spawn,
    step::Clock,
};

const PORTABLE: [Contract; 2] = [Contract::Portable64, Contract::Portable32];

fn cpu(threads: usize) -> Cpu {
    Cpu::new(Isa::widest(), threads).expect("threads start")
}

fn gpu(contract: Contract) -> Gpu {
    let name = std::env::var("EMMY_DEVICE").unwrap_or_else(|_| "llvmpipe".to_owned());
    let adapters = Adapters::find();
    let opened = adapters.choose(Some(&name)).and_then(Device::open).and_then(|device| Gpu::new(device, contract));
    opened.unwrap_or_else(|error| panic!("{error}: {}", error.remedy()))
}

fn state_of(text: &str) -> State {
    let scenario = read::read("test", text, &[]).unwrap_or_else(|report| panic!("{:?}", miette::Report::from(report)));
    let bodies = generate::population(&scenario, Path::new(".")).expect("the scenario is right");
    spawn::state(&scenario, &bodies).unwrap_or_else(|faults| panic!("the bodies fit their quanta: {faults:?}"))
}

/// A cluster with some test particles, that moves by a splitting under a contract.
fn cluster(contract: Contract, integrator: &str, count: usize, more: &str) -> State {
    let tests: String = (0..5)
        .map(|k| format!("(mass: 0, inertia: 0.001, position: ({k}.5, 1, -0.25), velocity: (0, 0.{k}, 0)),"))
        .collect();
    state_of(&format!(
        "(version: 1, name: \"cluster\", contract: {contract}, integrator: {integrator}(dt: 0.01), until: Steps(1000), \
         generators: [Plummer(count: {count}, mass: 1.0, radius: 1.0, place: (seed: 3))], bodies: [{tests}], {more})"
    ))
}

fn on_cpu(state: &State, threads: usize) -> Node {
    Node::new(state.clone(), cpu(threads))
}

fn on_device(state: &State) -> Node {
    Node::new(state.clone(), Backend { cpu: cpu(1), gpu: Some(gpu(state.law.contract)) })
}

/// Everything that two runs can differ in.
fn assert_alike(device: &mut Node, cpu: &mut Node, what: &str) {
    assert!(device.fell_back().is_none(), "{what}: {:?}", device.fell_back());
    assert_eq!(device.root(), cpu.root(), "{what}: the state root");
    assert_eq!(device.ledger(), cpu.ledger(), "{what}: the book");
    assert_eq!(device.counted(), cpu.counted(), "{what}: what was counted");
    assert_eq!(device.count_bounded(), cpu.count_bounded(), "{what}: energy and centre");
    assert_eq!(device.drifts(), cpu.drifts(), "{what}: the record of drifts");
    assert_eq!(device.clock(), cpu.clock(), "{what}: the clock");
}

#[test]
fn every_splitting_gives_the_roots_and_the_books_of_the_cpu() {
    for contract in PORTABLE {
        for integrator in ["Leapfrog", "Yoshida4", "Srkn6b", "Srkn11b"] {
            for softening in ["gravity: (softening: 0.05)", "quanta: Auto(headroom: 1000)"] {
                let state = cluster(contract, integrator, 150, softening);
                let (mut device, mut cpu) = (on_device(&state), on_cpu(&state, 2));
                for steps in [1, 7, 30] {
                    assert_eq!((device.advance(steps), cpu.advance(steps)), (steps, steps));
                    assert_alike(&mut device, &mut cpu, &format!("{contract}, {integrator}, {softening}"));
                }
                assert_eq!(device.particles(), cpu.particles());
            }
        }
    }
}

#[test]
fn a_run_backwards_on_the_device_returns_to_the_first_root() {
    for contract in PORTABLE {
        let state = cluster(contract, "Srkn6b", 100, "gravity: (softening: 0.05)");
        let mut node = on_device(&state);
        let start = node.root();
        node.advance(100);
        assert_ne!(node.root(), start);
        node.reverse();
        assert_eq!(node.advance(u64::MAX), 100);
        assert_eq!(node.root(), start);
        assert!(node.fell_back().is_none());
    }
}

/// Two bodies that fall onto each other among others that do not.
fn collision(contract: Contract) -> State {
    state_of(&format!(
        "(version: 1, name: \"collision\", contract: {contract}, integrator: Leapfrog(dt: 0.01), until: Steps(1000), \
         quanta: Auto(headroom: 2), bodies: [\
         (name: \"a\", mass: 1, position: (-0.5, 0, 0), velocity: (0, 0, 0)), (name: \"b\", mass: 1, position: (0.5, 0, 0), velocity: (0, 0, 0)), \
         (name: \"c\", mass: 1, position: (3, 9, 1), velocity: (0.1, 0, 0)), (name: \"d\", mass: 1, position: (-5, 0, 5), velocity: (0, 0, 0))])"
    ))
}

#[test]
fn a_step_that_is_bad_on_the_device_is_undone_and_the_pair_is_named_as_on_the_cpu() {
    for contract in PORTABLE {
        let state = collision(contract);
        let (mut device, mut cpu) = (on_device(&state), on_cpu(&state, 1));
        assert_eq!(device.advance(1000), cpu.advance(1000));
        assert_eq!(device.breaches(), cpu.breaches());
        assert!(
            matches!(device.breaches(), [report] if report.undone && matches!(report.breach, Breach::Impulse { .. }))
        );
        assert_alike(&mut device, &mut cpu, contract.name());
    }
}

#[test]
fn a_particle_that_leaves_its_range_is_named_as_on_the_cpu() {
    for contract in PORTABLE {
        let state = state_of(&format!(
            "(version: 1, name: \"escape\", contract: {contract}, integrator: Leapfrog(dt: 0.01), until: Steps(9000), \
             quanta: Auto(headroom: 2), gravity: (softening: 1), bodies: [\
             (name: \"slow\", mass: 1, position: (1, 0, 0), velocity: (0, 0, 0)), \
             (name: \"fast\", mass: 1, position: (-1, 0, 0), velocity: (-1, 0, 0.5))])"
        ));
        let (mut device, mut cpu) = (on_device(&state), on_cpu(&state, 1));
        assert_eq!(device.advance(9000), cpu.advance(9000));
        assert_eq!(device.breaches(), cpu.breaches());
        assert!(matches!(device.breaches(), [report] if matches!(report.breach, Breach::Range { .. })), "{contract}");
        assert_alike(&mut device, &mut cpu, contract.name());
    }
}

#[test]
fn a_bound_that_breaks_on_the_device_undoes_the_step_that_broke_it_however_steps_are_grouped() {
    for contract in PORTABLE {
        let audit = "audit: (energy_every: 10, energy_tolerance: 1e-7), gravity: (softening: 0.05)";
        let state = cluster(contract, "Leapfrog", 60, audit);
        let mut cpu = on_cpu(&state, 1);
        let committed = cpu.advance(100);
        assert_eq!(committed % 10, 9, "the step before a recount stays");
        for group in [100, 1, 7] {
            let mut device = on_device(&state);
            let steps: u64 = (0..100 / group).map(|_| device.advance(group)).sum();
            assert_eq!((steps, device.breaches()), (committed, cpu.breaches()), "{contract}, {group} at a time");
            assert_alike(&mut device, &mut cpu, contract.name());
        }
    }
}

/// A wind that pushes every particle, and posts it.
fn push_and_post(mut particles: Query<(&Position, &mut Momentum)>, mut ledger: ResMut<Ledger>) {
    for (position, mut momentum) in &mut particles {
        momentum.0[1] += 1000;
        ledger.post("wind", Amounts::of_impulse(position.0, [0, 1000, 0]));
    }
}

/// One quantum for one particle at one step, from nowhere.
fn push_in_secret(mut particles: Query<(&ParticleId, &mut Momentum)>, clock: Res<Clock>) {
    for (id, mut momentum) in &mut particles {
        momentum.0[0] += i64::from(id.0 == 7 && clock.step == 4);
    }
}

#[test]
fn extensions_see_the_particles_of_the_device_and_what_they_do_is_audited() {
    for contract in PORTABLE {
        let state = cluster(contract, "Leapfrog", 40, "gravity: (softening: 0.05)");
        let (mut device, mut cpu) = (on_device(&state), on_cpu(&state, 1));
        for node in [&mut device, &mut cpu] {
            node.extend(push_and_post).expect("no order is missing");
            assert_eq!(node.advance(20), 20);
            assert_eq!(node.ledger().accounts["wind"].momentum, [0, -20 * 45 * 1000, 0]);
        }
        assert_alike(&mut device, &mut cpu, contract.name());

        let (mut device, mut cpu) = (on_device(&state), on_cpu(&state, 1));
        for node in [&mut device, &mut cpu] {
            node.extend(push_in_secret).expect("no order is missing");
            assert_eq!(node.advance(20), 4, "the fifth is undone");
        }
        assert_eq!(device.breaches(), cpu.breaches());
        assert_alike(&mut device, &mut cpu, contract.name());
    }
}

#[test]
fn sets_of_every_shape_move_as_on_the_cpu() {
    let shapes = [(0, 0), (1, 0), (0, 1), (0, 9), (1, 1), (128, 0), (129, 1), (8, 128)];
    for (contract, (sources, tests)) in PORTABLE.into_iter().flat_map(|c| shapes.map(|shape| (c, shape))) {
        let mut state = cluster(contract, "Leapfrog", 3, "gravity: (softening: 0.05)");
        let particle = |k: i64| Particle {
            id: ParticleId(k as u64),
            position: Position([(k + 1) << 30, -5, 7 << 20]),
            momentum: Momentum([100 + k, 0, -3]),
            mass: Mass { quanta: 1000, pulls: k < sources },
            radius: Radius(0),
        };
        state.particles = (0..sources + tests).map(particle).collect();
        let (mut device, mut cpu) = (on_device(&state), on_cpu(&state, 1));
        assert_eq!((device.advance(20), cpu.advance(20)), (20, 20));
        assert_alike(&mut device, &mut cpu, &format!("{contract}, {sources} + {tests}"));
        assert_eq!(device.particles(), cpu.particles());
    }
}

#[test]
fn without_gravity_two_bodies_may_meet_on_a_device_too() {
    for contract in PORTABLE {
        let state = state_of(&format!(
            "(version: 1, name: \"meet\", contract: {contract}, integrator: Leapfrog(dt: 0.015625), until: Steps(100), \
             gravity: (constant: 0), bodies: [(mass: 1, position: (-0.5, 0, 0), velocity: (1, 0, 0)), \
             (mass: 1, position: (0.5, 0, 0), velocity: (-1, 0, 0))])"
        ));
        let (mut device, mut cpu) = (on_device(&state), on_cpu(&state, 1));
        assert_eq!((device.advance(100), cpu.advance(100)), (100, 100));
        assert_alike(&mut device, &mut cpu, contract.name());
    }
}

#[test]
fn a_device_that_is_lost_under_an_extension_takes_nothing_with_it() {
    let state = cluster(Contract::Portable64, "Leapfrog", 40, "gravity: (softening: 0.05)");
    let (mut device, mut cpu) = (on_device(&state), on_cpu(&state, 1));
    for node in [&mut device, &mut cpu] {
        node.extend(push_and_post).expect("no order is missing");
        assert_eq!(node.advance(5), 5);
    }
    device.gpu().expect("it is there").device().lose();
    assert_eq!((device.advance(15), cpu.advance(15)), (15, 15));
    assert!(device.fell_back().is_some());
    assert_eq!((device.root(), device.ledger()), (cpu.root(), cpu.ledger()));
}

#[test]
fn a_device_that_is_lost_after_a_recorded_breach_takes_nothing_with_it() {
    let audit = "audit: (energy_every: 10, energy_tolerance: 1e-9, on_breach: Record), gravity: (softening: 0.05)";
    let state = cluster(Contract::Portable64, "Leapfrog", 60, audit);
    let (mut device, mut cpu) = (on_device(&state), on_cpu(&state, 1));
    assert_eq!((device.advance(50), cpu.advance(50)), (50, 50));
    assert!(!device.breaches().is_empty());
    device.gpu().expect("it is there").device().lose();
    assert_eq!((device.advance(10), cpu.advance(10)), (10, 10));
    assert_eq!((device.root(), device.ledger(), device.breaches()), (cpu.root(), cpu.ledger(), cpu.breaches()));
}

#[test]
fn a_device_that_is_lost_on_the_way_back_takes_nothing_with_it() {
    for (there, back) in [(50, 20), (13, 13), (30, 0), (4, 1)] {
        let state =
            cluster(Contract::Portable32, "Leapfrog", 40, "gravity: (softening: 0.05), audit: (energy_every: 7)");
        let (mut device, mut cpu) = (on_device(&state), on_cpu(&state, 1));
        let start = device.root();
        for node in [&mut device, &mut cpu] {
            assert_eq!(node.advance(there), there);
            node.reverse();
            assert_eq!(node.advance(back), back);
        }
        device.gpu().expect("it is there").device().lose();
        assert_eq!((device.advance(1000), cpu.advance(1000)), (there - back, there - back));
        assert_eq!((device.root(), device.ledger(), device.drifts()), (cpu.root(), cpu.ledger(), cpu.drifts()));
        assert_eq!(device.root(), start);
    }
}

#[test]
fn one_particle_is_fetched_alone() {
    for contract in PORTABLE {
        let state = cluster(contract, "Leapfrog", 300, "gravity: (softening: 0.05)");
        let (mut device, mut cpu) = (on_device(&state), on_cpu(&state, 1));
        assert_eq!((device.advance(7), cpu.advance(7)), (7, 7));
        let before = device.gpu().expect("it is there").traffic();
        for particle in cpu.particles().into_iter().step_by(13) {
            assert_eq!(device.particle(particle.id), Some(particle), "{contract}");
            assert_eq!(cpu.particle(particle.id), Some(particle), "{contract}");
        }
        assert_eq!(device.particle(ParticleId(1 << 40)), None);
        let bytes = device.gpu().expect("it is there").traffic() - before;
        assert_eq!(bytes, 305_u64.div_ceil(13) * 52, "a row and a state for each");
    }
}

#[test]
fn the_entities_are_never_farther_behind_than_they_may_be() {
    let state =
        cluster(Contract::Portable32, "Leapfrog", 2, "gravity: (softening: 0.05), audit: (energy_every: 1000000)");
    let mut node = on_device(&state);
    assert_eq!(node.advance(9000), 9000);
    let passes = node.world_mut().resource::<Work>().passes;
    assert_eq!(passes, 9000_u64.div_ceil(ANCHOR_STEPS));
}

#[test]
fn a_lost_device_loses_nothing_and_the_cpu_ends_the_run_with_the_same_bits() {
    for contract in PORTABLE {
        let state = cluster(contract, "Leapfrog", 100, "gravity: (softening: 0.05)");
        let (mut device, mut cpu) = (on_device(&state), on_cpu(&state, 2));
        device.advance(37);
        device.gpu().expect("it is there").device().lose();
        assert_eq!(device.advance(63), 63);
        assert!(matches!(device.fell_back(), Some(GpuError::Lost { .. })), "{:?}", device.fell_back());
        assert!(device.gpu().is_none());
        cpu.advance(100);
        assert_eq!(device.root(), cpu.root());
        assert_eq!(device.ledger(), cpu.ledger());
        assert_eq!(device.drifts(), cpu.drifts());
    }
}

#[test]
fn a_run_that_may_not_go_on_without_its_device_stands_where_the_entities_are() {
    for contract in PORTABLE {
        let state = cluster(contract, "Leapfrog", 60, "gravity: (softening: 0.05)");
        let (mut device, mut cpu) = (on_device(&state), on_cpu(&state, 1));
        device.on_device_loss(OnLoss::Stop);
        assert_eq!(device.advance(20), 20);
        // A look brings the entities up to step 20.
        assert_eq!(device.particles().len(), 65);
        assert_eq!(device.advance(30), 30);
        device.gpu().expect("it is there").device().lose();
        device.advance(10);
        assert!(device.stands_still());
        assert_eq!(device.advance(10), 0, "it goes no farther");
        cpu.advance(20);
        assert_eq!(device.clock(), cpu.clock());
        assert_eq!((device.root(), device.ledger(), device.drifts()), (cpu.root(), cpu.ledger(), cpu.drifts()));
    }
}

#[test]
fn a_run_whose_device_is_lost_ends_as_it_was_told_to() {
    let text = "(version: 1, name: \"lost\", contract: portable64, integrator: Leapfrog(dt: 0.01), until: Steps(200), \
         gravity: (softening: 0.05), generators: [Plummer(count: 50, mass: 1.0, radius: 1.0, place: (seed: 3))])";
    let scenario = read::read("test", text, &[]).unwrap_or_else(|report| panic!("{:?}", miette::Report::from(report)));
    let start = |on_loss| {
        let state = state_of(text);
        let backend = Backend { cpu: cpu(1), gpu: Some(gpu(Contract::Portable64)) };
        let mut run = Run::new(scenario.clone(), state, backend);
        run.node.on_device_loss(on_loss);
        run
    };
    let never = StopRequest::default();
    let end = |run: &mut Run, at: u64| {
        let mut lose = |run: &mut Run| {
            if run.node.clock().step >= at {
                run.node.gpu().into_iter().for_each(|gpu| gpu.device().lose());
            }
        };
        run.finish(&never, None, &mut lose).expect("nothing is written")
    };
    let mut goes_on = start(OnLoss::GoOn);
    assert_eq!(end(&mut goes_on, 1), ExitReason::Completed);
    // In mid-run, and when the last step is taken and only the end is to be told.
    let [mut stops, mut stops_late] = [start(OnLoss::Stop), start(OnLoss::Stop)];
    assert_eq!([end(&mut stops, 1), end(&mut stops_late, 200)], [ExitReason::DeviceLost; 2]);
    let mut alone = on_cpu(&state_of(text), 2);
    alone.advance(200);
    assert_eq!(goes_on.node.root(), alone.root());
    assert!(stops.node.clock().step < 200 && stops.node.stands_still());
}

#[test]
fn a_device_that_is_lost_while_somebody_looks_is_replaced_too() {
    let state = cluster(Contract::Portable64, "Leapfrog", 50, "gravity: (softening: 0.05)");
    let (mut device, mut cpu) = (on_device(&state), on_cpu(&state, 1));
    device.advance(20);
    cpu.advance(20);
    device.gpu().expect("it is there").device().lose();
    assert_eq!(device.particles(), cpu.particles());
    assert_eq!(device.root(), cpu.root());
}

#[test]
fn the_host_and_the_device_exchange_less_than_four_kibibytes_a_step() {
    for contract in PORTABLE {
        let state = cluster(contract, "Srkn11b", 1000, "gravity: (softening: 0.05), audit: (energy_every: 100)");
        let mut node = on_device(&state);
        node.advance(1);
        let before = node.gpu().expect("it is there").traffic();
        node.advance(100);
        let bytes = node.gpu().expect("it is there").traffic() - before;
        println!("{contract}: {} bytes a step", bytes / 100);
        assert!(bytes / 100 < 4096, "{contract}: {bytes} bytes for 100 steps");
    }
}
