//! What it costs to send positions, and when it is faster not to wait for an answer.
//!
//! `cargo bench --bench exchange -- packing [rows…]`: time and bytes of a position, packed and as it is, from steps of a Plummer sphere.
//!
//! `cargo bench --bench exchange -- ways [one-way microseconds…]`: a step of 256, 1 024 and 4 096 bodies on 2 and 4 partitions whose pairs
//! are evaluated by one side, or by both. Each partition has a clock of its own, which goes on by the time that its work takes here; a
//! block arrives so long after it was sent, and each of its bytes takes 0.8 ns (10 Gbit/s) on the way out of its sender. Votes are left
//! out: they travel while the next step is computed. The state roots must be equal.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use emmy::{
    backend::{cpu::Cpu, isa::Isa},
    exchange::{Way, codec::Predictor},
    member::common_of,
    metrics::{Least, Stopwatch},
    node::{Node, State},
    partition::{
        Outgoing, Partition, Progress,
        share::{owned_by, share_out},
    },
    scenario::{generate, read},
    spawn,
    wire::{Epoch, NodeId, bytes::Reader},
};

const BODIES: [usize; 3] = [256, 1_024, 4_096];
const STEPS: u64 = 200;
const BYTE_NS: f64 = 0.8;

fn sphere(bodies: usize) -> State {
    let text = format!(
        "(version: 1, name: \"plummer\", integrator: Leapfrog(dt: 0.0078125), until: Steps(100000), gravity: (softening: 0.01), \
         audit: (energy_every: 100000), generators: [Plummer(count: {bodies}, mass: 1, radius: 1)])"
    );
    let scenario = read::read("plummer", &text, &[]).expect("the scenario is right");
    let population = generate::population(&scenario, Path::new(".")).expect("its bodies are right");
    spawn::state(&scenario, &population).expect("they fit their quanta")
}

fn cpu() -> Cpu {
    Cpu::new(Isa::widest(), 1).expect("a thread")
}

// ------------------------------------------------------------------------------------------------ packing

/// Positions of so many rows after each of some steps, as a partition sends them.
fn positions(rows: usize) -> Vec<[Vec<i64>; 3]> {
    let mut node = Node::new(sphere(rows), cpu());
    let after = |node: &mut Node| {
        node.advance(1);
        let particles = node.particles();
        std::array::from_fn(|axis| particles.iter().map(|p| p.position.0[axis]).collect())
    };
    (0..12).map(|_| after(&mut node)).collect()
}

fn packing(rows: usize) {
    let (cpu, steps) = (cpu(), positions(rows));
    let mut figures = Vec::new();
    for pack in [false, true] {
        let (mut wrote, mut read, mut length) = (Least::default(), Least::default(), 0);
        for _ in 0..(400_000 / rows).max(3) {
            let (mut here, mut there) = (Predictor::default(), Predictor::default());
            for (step, now) in steps.iter().enumerate() {
                let watch = Stopwatch::start();
                let bytes = here.encode(now.each_ref().map(Vec::as_slice), pack, &cpu);
                let writing = watch.elapsed();
                let watch = Stopwatch::start();
                let back = there.decode(&mut Reader(&bytes), rows, &cpu).expect("what was written");
                there.keep(&back);
                let reading = watch.elapsed();
                assert_eq!(&back, now);
                // Predictions have a past by then.
                if step >= 5 {
                    wrote.take(writing.as_nanos() as u64);
                    read.take(reading.as_nanos() as u64);
                    length = bytes.len();
                }
            }
        }
        let per_row = |least: Least| least.get().unwrap_or(0) as f64 / rows as f64;
        figures.push((per_row(wrote), per_row(read), length as f64 / rows as f64));
    }
    let [plain, packed] = [figures[0], figures[1]];
    println!(
        "{rows:7} rows: as they are {:5.1} ns to write, {:5.1} to read, {:4.1} bytes; packed {:5.1} ns to write, {:5.1} to read, {:4.1} bytes",
        plain.0, plain.1, plain.2, packed.0, packed.1, packed.2
    );
}

// --------------------------------------------------------------------------------------------------- ways

/// Partitions with clocks of their own, and blocks on the way [ns].
struct Model {
    parts: Vec<Partition>,
    clocks: Vec<f64>,
    /// When the sender's line is free again.
    lines: Vec<f64>,
    flying: BTreeMap<(u64, u64), (NodeId, Outgoing)>,
    sent: u64,
    one_way_ns: f64,
}

impl Model {
    fn new(state: &State, partitions: u16, way: Way, one_way_ns: f64) -> Self {
        let nodes: Vec<NodeId> = (0..partitions).map(NodeId).collect();
        let shares: Vec<(NodeId, u64)> = nodes.iter().map(|&node| (node, 1)).collect();
        let (cuts, owners) = share_out(&state.particles, state.law.contract, &shares);
        let common = common_of(state);
        let shared = Arc::new(cpu());
        let part = |&node: &NodeId| {
            let mine = owned_by(&state.particles, &owners, node);
            let mut part = Partition::new((node, Epoch(0)), &nodes, cuts.clone(), common, mine, Arc::clone(&shared));
            part.evaluate(way);
            part
        };
        let (parts, count) = (nodes.iter().map(part).collect(), nodes.len());
        Self { parts, clocks: vec![0.0; count], lines: vec![0.0; count], flying: BTreeMap::new(), sent: 0, one_way_ns }
    }

    /// One step of all; the share of the root that they have together.
    fn step(&mut self, step: u64) -> u128 {
        self.parts.iter_mut().for_each(|part| part.begin(step, false));
        let (mut root, mut waiting, mut left) = (0_u128, vec![false; self.parts.len()], self.parts.len());
        let mut done = vec![false; self.parts.len()];
        while left > 0 {
            let ready = (0..self.parts.len()).filter(|&at| !(waiting[at] || done[at]));
            let next = ready.min_by(|&a, &b| self.clocks[a].total_cmp(&self.clocks[b]));
            let arrival = self.flying.first_key_value().map(|((at, _), _)| *at as f64);
            match next {
                Some(at) if arrival.is_none_or(|arrival| self.clocks[at] < arrival) => {
                    let watch = Stopwatch::start();
                    let progress = self.parts[at].work().expect("good blocks");
                    self.clocks[at] += watch.elapsed().as_nanos() as f64;
                    self.send(at);
                    match progress {
                        Progress::Proposed(proposal) => {
                            root = root.wrapping_add(proposal.root.0);
                            (done[at], left) = (true, left - 1);
                        }
                        Progress::Waiting => waiting[at] = true,
                        _ => {}
                    }
                }
                _ => {
                    let to = self.arrive();
                    waiting[to] = false;
                }
            }
        }
        self.parts.iter_mut().for_each(Partition::commit);
        root
    }

    fn send(&mut self, from: usize) {
        let sender = self.parts[from].me();
        for block in self.parts[from].outbox() {
            let leaves = self.lines[from].max(self.clocks[from]) + block.bytes.len() as f64 * BYTE_NS;
            self.lines[from] = leaves;
            self.sent += 1;
            self.flying.insert(((leaves + self.one_way_ns) as u64, self.sent), (sender, block));
        }
    }

    /// The next block arrives; where.
    fn arrive(&mut self) -> usize {
        let ((at, _), (from, block)) = self.flying.pop_first().expect("somebody works, or a block is on its way");
        let to = usize::from(block.to.0);
        self.clocks[to] = self.clocks[to].max(at as f64);
        self.parts[to].take(from, block.tag, block.bytes).expect("a good block");
        to
    }

    fn now(&self) -> f64 {
        self.clocks.iter().copied().fold(0.0, f64::max)
    }
}

fn ways(one_way_us: f64) {
    for bodies in BODIES {
        let state = sphere(bodies);
        for partitions in [2, 4] {
            let figures = [Way::Shared, Way::Twice].map(|way| {
                let mut model = Model::new(&state, partitions, way, 1000.0 * one_way_us);
                let mut least = Least::default();
                let mut root = 0;
                for step in 1..=STEPS {
                    let begun = model.now();
                    root = model.step(step);
                    least.take((model.now() - begun) as u64);
                }
                (least.get().unwrap_or(0) as f64 / 1000.0, root)
            });
            let [(shared, root), (twice, other)] = figures;
            assert_eq!(root, other, "the bits are those of either way");
            println!(
                "{one_way_us:6} µs one way, {bodies:5} bodies on {partitions}: {shared:8.1} µs a step by one side, {twice:8.1} by both; root {root:032x}"
            );
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let numbers: Vec<f64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let asked = |what: &str| words.iter().any(|word| word == what);
    if asked("packing") || !asked("ways") {
        let rows = if numbers.is_empty() { vec![64.0, 256.0, 1_024.0, 4_096.0, 25_000.0] } else { numbers.clone() };
        rows.into_iter().for_each(|rows| packing(rows as usize));
    }
    if asked("ways") || !asked("packing") {
        let latencies = if numbers.is_empty() { vec![5.0, 15.0, 25.0, 50.0, 250.0, 2_500.0] } else { numbers };
        latencies.into_iter().for_each(ways);
    }
}
