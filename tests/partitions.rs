//! Several partitions give what one node gives: roots, books, records and breaches, wherever is cut and whoever evaluates what.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use emmy::{
    audit::Breach,
    backend::{cpu::Cpu, isa::Isa},
    cluster::Cluster,
    contract::Contract,
    exchange::{Way, packing::Packing},
    ledger::Amounts,
    member::common_of,
    node::{Node, State},
    partition::{
        Partition, Progress,
        share::{owned_by, share_out},
    },
    run::engine::Engine,
    scenario::{generate, read},
    snapshot::root::StateRoot,
    spawn,
    wire::{Epoch, NodeId},
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const WAYS: [Way; 2] = [Way::Shared, Way::Twice];
const CONTRACTS: [Contract; 4] = [Contract::Native64, Contract::Portable64, Contract::Portable32, Contract::Fast32];

fn state_of(text: &str, overrides: &[(String, String)]) -> State {
    let scenario =
        read::read("test", text, overrides).unwrap_or_else(|report| panic!("{:?}", miette::Report::from(report)));
    let bodies = generate::population(&scenario, Path::new(ROOT)).expect("the scenario is right");
    spawn::state(&scenario, &bodies).unwrap_or_else(|faults| panic!("the bodies fit their quanta: {faults:?}"))
}

fn file(name: &str, overrides: &[(&str, &str)]) -> State {
    let text = std::fs::read_to_string(Path::new(ROOT).join("scenarios").join(name)).expect("a scenario");
    let overrides: Vec<_> = overrides.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect();
    state_of(&text, &overrides)
}

/// A sphere with test particles in and about it.
fn sphere(contract: Contract, integrator: &str, count: usize, more: &str) -> State {
    let tests: String = (0..11)
        .map(|k| format!("(mass: 0, inertia: 0.001, position: (-{k}.3, 1, 0.{k}), velocity: (0.1, -0.{k}, 0)),"))
        .collect();
    let text = format!(
        "(version: 1, name: \"sphere\", contract: {contract}, integrator: {integrator}(dt: 0.02), until: Steps(1000), \
         generators: [Plummer(count: {count}, mass: 1.0, radius: 1.0, place: (seed: 3))], bodies: [{tests}], {more})"
    );
    state_of(&text, &[])
}

const SOFT: &str = "gravity: (softening: 0.05), audit: (energy_every: 7)";

/// Everything with either way.
fn pairs_of<T: Copy>(all: &[T], ways: [Way; 2]) -> Vec<(T, Way)> {
    all.iter().flat_map(|&one| ways.map(|way| (one, way))).collect()
}

fn cpu(threads: usize) -> Cpu {
    Cpu::new(Isa::widest(), threads).expect("threads")
}

fn assert_alike(one: &mut Node, many: &mut Cluster, what: &str) {
    assert_eq!(many.root(), one.root(), "{what}: the state root");
    assert_eq!(many.ledger(), one.ledger(), "{what}: the book");
    assert_eq!(many.counted(), one.counted(), "{what}: what was counted");
    assert_eq!(many.drifts(), one.drifts(), "{what}: the record of drifts");
    assert_eq!(many.clock(), one.clock(), "{what}: the clock");
    assert_eq!(many.breaches(), one.breaches(), "{what}: breaches");
}

#[test]
fn every_contract_and_splitting_gives_the_bits_and_books_of_one_node_step_by_step() {
    for contract in CONTRACTS {
        for integrator in ["Leapfrog", "Yoshida4", "Srkn6b"] {
            let state = sphere(contract, integrator, 150, SOFT);
            for shares in [&[1_u64][..], &[1, 1], &[3, 1, 2], &[1, 1, 1, 1], &[5, 0, 1, 40, 1], &[1; 8]] {
                let mut one = Node::new(state.clone(), cpu(1));
                let mut many = Cluster::with_shares(state.clone(), cpu(1), shares);
                many.hand_over_every(3, false);
                for step in 0..16 {
                    let what = format!("{contract}, {integrator}, shares {shares:?}, step {step}");
                    assert_alike(&mut one, &mut many, &what);
                    assert_eq!((one.advance(1), many.advance(1)), (1, 1), "{what}");
                }
                assert_eq!(many.count_bounded(), one.count_bounded());
                assert_eq!(many.particles(), one.particles());
                assert_eq!(many.counts().iter().sum::<usize>(), 161);
            }
        }
    }
}

#[test]
fn pairs_that_both_sides_evaluate_give_the_same_bits_and_books_step_by_step() {
    for contract in CONTRACTS {
        for integrator in ["Leapfrog", "Srkn6b"] {
            let state = sphere(contract, integrator, 150, SOFT);
            for shares in [&[1_u64][..], &[1, 1], &[3, 1, 2], &[1, 1, 1, 1], &[5, 0, 1, 40, 1], &[1; 8]] {
                let mut one = Node::new(state.clone(), cpu(1));
                let mut many = WAYS.map(|_| Cluster::with_shares(state.clone(), cpu(1), shares));
                for (way, many) in WAYS.into_iter().zip(&mut many) {
                    many.evaluate(way);
                    many.hand_over_every(3, false);
                }
                for step in 0..12 {
                    for (way, many) in WAYS.into_iter().zip(&mut many) {
                        let what = format!("{contract}, {integrator}, shares {shares:?}, {way:?}, step {step}");
                        assert_alike(&mut one, many, &what);
                        assert_eq!(many.advance(1), 1, "{what}");
                    }
                    one.advance(1);
                }
                let [shared, twice] = many.map(|many| many.traffic().map_or(0, |traffic| traffic.return_particles));
                let returns = contract == Contract::Fast32 && shares.len() > 1;
                assert_eq!((shared > 0, twice > 0), (shares.len() > 1, returns), "{contract}, {shares:?}");
            }
        }
    }
}

#[test]
fn a_run_changes_its_way_between_steps_and_keeps_its_bits() {
    for contract in CONTRACTS {
        let state = sphere(contract, "Leapfrog", 90, SOFT);
        for partitions in [2, 3, 4, 6] {
            let mut one = Node::new(state.clone(), cpu(1));
            let mut many = Cluster::new(state.clone(), cpu(1), partitions);
            many.hand_over_every(4, true);
            for step in 0..24 {
                many.evaluate(WAYS[step / 3 % 2]);
                many.pack(step % 5 == 0);
                assert_eq!((one.advance(1), many.advance(1)), (1, 1));
                assert_alike(&mut one, &mut many, &format!("{contract}, {partitions} partitions, step {step}"));
                assert_eq!(many.count_bounded(), one.count_bounded());
            }
        }
    }
}

#[test]
fn every_scenario_gives_the_roots_of_one_node_for_any_number_of_partitions() {
    for (name, steps) in
        [("kepler_e09.ron", 150), ("figure_eight.ron", 150), ("outer_solar_system.ron", 150), ("plummer_1k.ron", 12)]
    {
        let state = file(name, &[]);
        let mut one = Node::new(state.clone(), cpu(1));
        let roots: Vec<StateRoot> = (0..steps).map(|_| (one.advance(1), one.root()).1).collect();
        for partitions in [1, 2, 3, 4, 5, 8] {
            let mut many = Cluster::new(state.clone(), cpu(2), partitions);
            many.hand_over_every(5, false);
            many.pack(partitions.is_multiple_of(2));
            many.evaluate(WAYS[usize::from(partitions) / 2 % 2]);
            for (step, root) in roots.iter().enumerate() {
                assert_eq!((many.advance(1), many.root()), (1, *root), "{name}, {partitions} partitions, step {step}");
            }
            assert_alike(&mut one, &mut many, name);
        }
    }
}

#[test]
#[ignore = "two minutes: run by hand, with --ignored, in release"]
fn the_large_scenarios_give_the_roots_of_one_node_too() {
    for name in ["cold_sphere.ron", "plummer_16k.ron", "two_galaxies.ron"] {
        let state = file(name, &[]);
        let mut one = Node::new(state.clone(), cpu(2));
        let roots: Vec<StateRoot> = (0..3).map(|_| (one.advance(1), one.root()).1).collect();
        for partitions in [2, 3, 4, 5, 8] {
            let mut many = Cluster::new(state.clone(), cpu(2), partitions);
            many.hand_over_every(1, false);
            for (step, root) in roots.iter().enumerate() {
                assert_eq!((many.advance(1), many.root()), (1, *root), "{name}, {partitions} partitions, step {step}");
            }
        }
    }
}

#[test]
fn particles_change_hands_where_their_keys_say_and_cuts_follow_the_work() {
    let state = sphere(Contract::Native64, "Leapfrog", 300, SOFT);
    let mut one = Node::new(state.clone(), cpu(1));
    let mut many = Cluster::with_shares(state, cpu(1), &[30, 1, 1]);
    let before = many.counts();
    many.hand_over_every(4, true);
    assert_eq!((one.advance(120), many.advance(120)), (120, 120));

    assert_alike(&mut one, &mut many, "cuts that follow the work");
    let traffic = many.traffic().expect("there are partitions");
    assert!(traffic.handed_over > 0, "{traffic:?}");
    assert!(before[0] > 250 && many.counts()[0] < 250, "{before:?}, then {:?}", many.counts());
}

#[test]
fn a_run_backwards_returns_to_the_first_root() {
    for contract in CONTRACTS {
        let state = sphere(contract, "Srkn6b", 100, SOFT);
        let mut many = Cluster::new(state, cpu(1), 3);
        many.hand_over_every(6, false);
        many.evaluate(Way::Twice);
        let start = many.root();
        assert_eq!(many.advance(50), 50);
        assert_ne!(many.root(), start);
        many.reverse();
        assert_eq!(many.advance(u64::MAX), 50);
        assert_eq!(many.root(), start, "{contract}");
    }
}

#[test]
fn a_bad_step_is_undone_everywhere_and_names_the_pair_that_one_node_names() {
    let text = "(version: 1, name: \"collision\", contract: native64, integrator: Leapfrog(dt: 0.01), until: Steps(1000), \
         quanta: Auto(headroom: 2), bodies: [\
         (name: \"a\", mass: 1, position: (-0.5, 0, 0), velocity: (0, 0, 0)), (name: \"b\", mass: 1, position: (0.5, 0, 0), velocity: (0, 0, 0)), \
         (name: \"c\", mass: 1, position: (3, 9, 1), velocity: (0.1, 0, 0)), (name: \"d\", mass: 1, position: (-5, 0, 5), velocity: (0, 0, 0))])";
    for contract in CONTRACTS {
        let state = state_of(text, &[("contract".to_owned(), contract.name().to_owned())]);
        for (shares, way) in pairs_of(&[&[1_u64, 1][..], &[1, 1, 1, 1], &[1, 0, 1], &[1]], WAYS) {
            let mut one = Node::new(state.clone(), cpu(1));
            let mut many = Cluster::with_shares(state.clone(), cpu(1), shares);
            many.evaluate(way);
            assert_eq!(many.advance(1000), one.advance(1000));
            assert!(
                many.stopped()
                    && matches!(many.breaches(), [report] if matches!(report.breach, Breach::Impulse { .. }))
            );
            assert_alike(&mut one, &mut many, &format!("{contract}, {shares:?}, {way:?}"));
        }
    }
}

#[test]
fn a_particle_that_leaves_its_range_is_named_as_on_one_node() {
    let text = "(version: 1, name: \"escape\", integrator: Leapfrog(dt: 1.0), until: Steps(1000), quanta: Auto(headroom: 2), \
         gravity: (softening: 0.1), bodies: [(name: \"sun\", mass: 1, position: (0, 0, 0), velocity: (0, 0, 0)), \
         (name: \"comet\", mass: 0.001, position: (1, 0, 0), velocity: (3, 0, 0)), \
         (mass: 0, inertia: 0.001, position: (-1, 0, 0), velocity: (0, 1, 0))])";
    let state = state_of(text, &[]);
    for (partitions, way) in pairs_of(&[1, 2, 3], WAYS) {
        let mut one = Node::new(state.clone(), cpu(1));
        let mut many = Cluster::new(state.clone(), cpu(1), partitions);
        many.evaluate(way);
        assert_eq!(many.advance(1000), one.advance(1000));
        assert!(
            matches!(many.breaches(), [report] if matches!(&report.breach, Breach::Range { name, .. } if name == "comet"))
        );
        assert_alike(&mut one, &mut many, "an escape");
    }
}

/// Partitions, and blocks that travel in any order.
struct Scattered {
    parts: Vec<Partition>,
    under_way: Vec<(NodeId, emmy::partition::Outgoing)>,
    seed: u64,
    /// What the first node says of what it gained from the second in the last step.
    gained: BTreeMap<(NodeId, NodeId), Amounts>,
}

impl Scattered {
    fn new(state: &State, partitions: u16, seed: u64) -> Self {
        let nodes: Vec<NodeId> = (0..partitions).map(NodeId).collect();
        let shares: Vec<(NodeId, u64)> = nodes.iter().map(|&node| (node, 1)).collect();
        let (cuts, owners) = share_out(&state.particles, state.law.contract, &shares);
        let common = common_of(state);
        let shared = Arc::new(cpu(1));
        let part = |&node: &NodeId| {
            let mine = owned_by(&state.particles, &owners, node);
            let mut part = Partition::new((node, Epoch(0)), &nodes, cuts.clone(), common, mine, Arc::clone(&shared));
            part.pack(Packing::given(seed.is_multiple_of(2)));
            part.evaluate(WAYS[seed as usize / 2 % 2]);
            part
        };
        Self { parts: nodes.iter().map(part).collect(), under_way: Vec::new(), seed: seed | 1, gained: BTreeMap::new() }
    }

    /// Whether for every two what one gained is what the other lost.
    fn fits(&self) -> bool {
        self.gained.iter().all(|(&(a, b), gained)| self.gained.get(&(b, a)) == Some(&gained.counter_entry()))
    }

    fn random(&mut self, below: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as usize % below
    }

    /// One step, in an order that the seed chooses: who works next, and which block arrives next.
    fn step(&mut self, step: u64, hand_over: bool) -> StateRoot {
        if hand_over {
            self.parts.iter_mut().for_each(|part| part.hand_over(step - 1, None));
            self.until_all_end();
        }
        self.parts.iter_mut().for_each(|part| part.begin(step, step.is_multiple_of(4)));
        let root = self.until_all_end();
        self.parts.iter_mut().for_each(Partition::commit);
        root
    }

    /// The sum of the shares of the root.
    fn until_all_end(&mut self) -> StateRoot {
        self.gained.clear();
        let mut root = 0_u128;
        let mut left = self.parts.len();
        while left > 0 {
            if !self.under_way.is_empty() && self.random(3) == 0 {
                let at = self.random(self.under_way.len());
                let (from, block) = self.under_way.swap_remove(at);
                self.parts[usize::from(block.to.0)].take(from, block.tag, block.bytes).expect("a good block");
            } else {
                let at = self.random(self.parts.len());
                match self.parts[at].work().expect("good blocks") {
                    Progress::Proposed(proposal) => {
                        root = root.wrapping_add(proposal.root.0);
                        let me = self.parts[at].me();
                        self.gained.extend(proposal.peers.iter().map(|(&peer, &gained)| ((me, peer), gained)));
                        left -= 1;
                    }
                    Progress::HandedOver { .. } => left -= 1,
                    _ => {}
                }
                let me = self.parts[at].me();
                let sent: Vec<_> = self.parts[at].outbox().map(|block| (me, block)).collect();
                self.under_way.extend(sent);
            }
        }
        StateRoot(root)
    }
}

#[test]
fn blocks_may_overtake_each_other_and_nobody_waits_for_ever() {
    for seed in 1..=40 {
        let contract = CONTRACTS[seed as usize % 4];
        let state = sphere(contract, "Yoshida4", 60, SOFT);
        let mut one = Node::new(state.clone(), cpu(1));
        let mut many = Scattered::new(&state, 2 + (seed % 5) as u16, seed);
        for step in 1..=8 {
            one.advance(1);
            assert_eq!(many.step(step, step.is_multiple_of(3)), one.root(), "seed {seed}, {contract}, step {step}");
        }
        assert!(many.under_way.is_empty(), "every block was awaited");
    }
}

#[test]
fn a_node_that_sees_others_where_they_are_not_is_found_by_the_postings_if_both_sides_evaluate() {
    for contract in [Contract::Native64, Contract::Portable64, Contract::Portable32] {
        let state = sphere(contract, "Leapfrog", 40, SOFT);
        let mut many = Scattered::new(&state, 3, 3);
        many.parts.iter_mut().for_each(|part| part.evaluate(Way::Twice));
        many.step(1, false);
        assert!(many.fits() && many.gained.len() == 6, "{contract}: {:?}", many.gained);

        many.parts.iter_mut().for_each(|part| part.begin(2, false));
        // Nothing goes out before somebody works.
        while many.under_way.len() < 6 {
            for at in 0..3 {
                let me = many.parts[at].me();
                many.parts[at].work().expect("good blocks");
                let sent: Vec<_> = many.parts[at].outbox().map(|block| (me, block)).collect();
                many.under_way.extend(sent);
            }
        }
        let (sender, halo) = &mut many.under_way[0];
        // The first of its sources, along the last axis: bit 40 of its place.
        let rows: usize = many.parts[usize::from(sender.0)].groups().iter().sum();
        let first = halo.bytes.len() - 8 * rows;
        halo.bytes[first + 5] ^= 1;
        many.until_all_end();
        assert!(!many.fits(), "{contract}: one of them computed with another position than the others");
    }
}
