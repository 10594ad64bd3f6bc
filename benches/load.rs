//! From text to a state that can move: reading, checking, generating, rounding.

use std::{hint::black_box, path::Path, time::Duration};

use bevy_ecs::prelude::*;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use emmy::{
    particle::Particle,
    scenario::{generate, read},
    snapshot::root::StateRoot,
    spawn,
};

fn small(c: &mut Criterion) {
    let text = include_str!("../scenarios/outer_solar_system.ron");
    c.bench_function("read and check outer_solar_system.ron", |b| {
        b.iter(|| read::read("outer_solar_system.ron", black_box(text), &[]).expect("the scenario is right"));
    });
}

fn million(c: &mut Criterion) {
    let text =
        "(version: 1, name: \"million\", integrator: Leapfrog(dt: 0.001), until: Steps(1), gravity: (softening: 0.01),
        generators: [Plummer(count: 1000000, mass: 1, radius: 1)])";
    let scenario = read::read("million", text, &[]).expect("the scenario is right");
    let mut group = c.benchmark_group("a million bodies");
    group.throughput(Throughput::Elements(1_000_000));
    group.bench_function("generate", |b| b.iter(|| generate::population(&scenario, Path::new("."))));
    let bodies = generate::population(&scenario, Path::new(".")).expect("its bodies are right");
    group.bench_function("round to quanta", |b| b.iter(|| spawn::state(&scenario, black_box(&bodies))));
    let state = spawn::state(&scenario, &bodies).expect("they fit their quanta");
    let mut world = World::new();
    world.spawn_batch(state.particles.into_iter().map(Particle::bundle));
    group.bench_function("state root", |b| b.iter(|| StateRoot::of(&mut world)));
    println!("    state root {}", StateRoot::of(&mut world));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    targets = small, million
}
criterion_main!(benches);
