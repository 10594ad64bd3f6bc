//! What it costs to cut a run into partitions: work per CPU-second against one node, and bytes per particle and stage.
//!
//! `cargo bench --bench partitions -- [bodies] [steps]`. One thread drives everything in turn, so that CPU time is what is compared;
//! bytes are packed as for a network. The state roots must be equal.

use std::path::Path;

use emmy::{
    backend::{cpu::Cpu, isa::Isa},
    cluster::Cluster,
    node::Node,
    run::engine::Engine,
    scenario::{generate, read},
    spawn,
};

/// CPU time of this thread [s], as Linux counts it.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says how long a thread ran");
    let nanoseconds: u64 = text.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    nanoseconds as f64 * 1e-9
}

/// Pairs per CPU-second of some steps after two that do not count.
fn rate(engine: &mut dyn Engine, steps: u64) -> f64 {
    assert_eq!(engine.advance(2), 2);
    let start = cpu_seconds();
    assert_eq!(engine.advance(steps), steps);
    let seconds = cpu_seconds() - start;
    engine.pairs_per_step() as f64 * steps as f64 / seconds
}

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let (bodies, steps) = (numbers.first().copied().unwrap_or(16_384), numbers.get(1).copied().unwrap_or(6));
    let text = format!(
        "(version: 1, name: \"plummer\", integrator: Leapfrog(dt: 0.0078125), until: Steps(100000), gravity: (softening: 0.01), \
         audit: (energy_every: 100000), generators: [Plummer(count: {bodies}, mass: 1, radius: 1)])"
    );
    let scenario = read::read("plummer", &text, &[]).expect("the scenario is right");
    let population = generate::population(&scenario, Path::new(".")).expect("its bodies are right");
    let state = spawn::state(&scenario, &population).expect("they fit their quanta");
    let cpu = || Cpu::new(Isa::widest(), 1).expect("a thread");

    println!("{bodies} bodies, {steps} steps, one thread");
    let mut one = Node::new(state.clone(), cpu());
    let alone = rate(&mut one, steps);
    println!("one node:     {alone:.3e} pairs per CPU-second, root {}", one.root());
    for (partitions, pack) in [(2, true), (4, true), (4, false), (8, true)] {
        let mut many = Cluster::new(state.clone(), cpu(), partitions);
        many.pack(pack);
        // Both measure the same steps; the first positions stand for themselves and are not counted.
        assert_eq!(many.advance(2), 2);
        let before = many.traffic().expect("partitions");
        let start = cpu_seconds();
        assert_eq!(many.advance(steps), steps);
        let seconds = cpu_seconds() - start;
        let rate = many.pairs_per_step() as f64 * steps as f64 / seconds;
        let after = many.traffic().expect("partitions");
        let per = |bytes: [u64; 2], count: [u64; 2]| (bytes[1] - bytes[0]) as f64 / (count[1] - count[0]) as f64;
        let position = per([before.halo_bytes, after.halo_bytes], [before.halo_particles, after.halo_particles]);
        let impulse = per([before.return_bytes, after.return_bytes], [before.return_particles, after.return_particles]);
        println!(
            "{partitions} partitions, {}: {rate:.3e} pairs per CPU-second, {:.1} % of one node; {position:.1} bytes a position, \
             {impulse:.1} an impulse; root {}",
            if pack { "packed" } else { "as they are" },
            100.0 * rate / alone,
            many.root()
        );
        assert_eq!(many.root(), one.root(), "the bits are those of one node");
    }
}
