//! Whole steps, audited and committed, through the pipeline that a run uses; the state root stands beside each speed.

use std::{path::Path, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use emmy::{
    backend::{
        Backend,
        cpu::Cpu,
        gpu::{Gpu, adapter::Adapters, device::Device},
        isa::Isa,
    },
    contract::Contract,
    node::Node,
    scenario::{generate, read},
    spawn,
};

fn node(file: &str, overrides: &[(&str, &str)], threads: usize) -> Node {
    node_on(file, overrides, Cpu::new(Isa::widest(), threads).expect("threads start"))
}

fn node_on(file: &str, overrides: &[(&str, &str)], backend: impl Into<Backend>) -> Node {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios")).join(file);
    let text = std::fs::read_to_string(&path).expect("the scenario is there");
    let overrides: Vec<_> = overrides.iter().map(|&(path, value)| (path.to_owned(), value.to_owned())).collect();
    let scenario = read::read(file, &text, &overrides).expect("the scenario is right");
    let bodies = generate::population(&scenario, Path::new(".")).expect("its bodies are right");
    let mut state = spawn::state(&scenario, &bodies).expect("they fit their quanta");
    // Energy is recounted on a cadence of its own: here the steps between are measured.
    state.rules.energy_every = 1 << 40;
    Node::new(state, backend)
}

/// Goes forth and back, so that every sample moves the same state and ends where it began: equal roots prove it.
fn bench(c: &mut Criterion, name: &str, mut node: Node, steps: u64) {
    let start = node.root();
    let mut group = c.benchmark_group("steps");
    group.throughput(Throughput::Elements(2 * steps));
    group.bench_function(name, |b| {
        b.iter(|| {
            for _ in 0..2 {
                assert_eq!(node.advance(steps), steps);
                node.reverse();
            }
        });
    });
    assert_eq!(node.root(), start, "{name}: forth and back");
    node.advance(steps);
    println!("    state root after {steps} steps {}", node.root());
}

fn six_bodies(c: &mut Criterion) {
    let file = "outer_solar_system.ron";
    let momentum_only = ("audit.angular_momentum", "false");
    for integrator in ["Leapfrog(dt: 40.0)", "Yoshida4(dt: 40.0)", "Srkn6b(dt: 40.0)", "Srkn11b(dt: 25.0)"] {
        let change = [
            ("integrator", integrator),
            ("until", "Steps(1000000)"),
            ("quanta", "Auto(headroom: 4)"),
            ("expect", "[]"),
        ];
        bench(c, &format!("six bodies, {integrator}"), node(file, &change, 1), 10_000);
        let change: Vec<_> = change.into_iter().chain([momentum_only]).collect();
        bench(c, &format!("six bodies, {integrator}, momentum only"), node(file, &change, 1), 10_000);
    }
}

fn clusters(c: &mut Criterion) {
    for threads in [1, 2] {
        bench(c, &format!("plummer_1k, {threads} threads"), node("plummer_1k.ron", &[], threads), 20);
        bench(c, &format!("plummer_16k, {threads} threads"), node("plummer_16k.ron", &[], threads), 1);
    }
}

/// The portable contracts on the CPU and on the first device, if there is one; `EMMY_DEVICE` names another.
fn devices(c: &mut Criterion) {
    let (name, adapters) = (std::env::var("EMMY_DEVICE").ok(), Adapters::find());
    for contract in Contract::ALL.into_iter().filter(|contract| contract.is_portable()) {
        let change = [("contract", contract.name())];
        bench(c, &format!("plummer_1k, {contract}, 1 thread"), node("plummer_1k.ron", &change, 1), 20);
        let opened = adapters.choose(name.as_deref()).and_then(Device::open).and_then(|d| Gpu::new(d, contract));
        match opened {
            Ok(gpu) => {
                let title = format!("plummer_1k, {contract}, {}", gpu.device().facts().name);
                let cpu = Cpu::new(Isa::widest(), 1).expect("one thread");
                bench(c, &title, node_on("plummer_1k.ron", &change, Backend { cpu, gpu: Some(gpu) }), 20);
            }
            Err(error) => println!("    no device: {error}"),
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    targets = six_bodies, clusters, devices
}
criterion_main!(benches);
