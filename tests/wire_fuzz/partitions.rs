//! Whole partitions that take steps together while one of them lies: blocks that were changed come just before the honest ones. Whatever
//! is accepted goes through the kernels; where every lie was refused, the steps have the roots that they have on one node.

use std::{
    cell::Cell,
    path::Path,
    sync::{Arc, OnceLock},
};

use emmy::{
    backend::{cpu::Cpu, isa::Isa},
    contract::Contract,
    exchange::packing::Packing,
    member::common_of,
    node::{Node, State},
    partition::{
        Partition, Progress,
        cuts::{Cuts, Sketch},
        keys::key,
    },
    scenario::{format::Scenario, generate, read},
    spawn,
    transport::Tag,
    wire::{Epoch, NodeId},
};

use crate::{chance::Chance, hostile, number, sessions};

const CONTRACTS: [Contract; 4] = [Contract::Native64, Contract::Portable64, Contract::Portable32, Contract::Fast32];
const STEPS: u64 = 4;
const EPOCH: Epoch = Epoch(1);
/// Rounds of work after which a step is stuck: a lie stands where the honest block should.
const ROUNDS_MAX: usize = 60;

/// A few particles under one contract, and the roots of their first steps on one node.
struct Scene {
    state: State,
    roots: Vec<u128>,
}

fn scene(chance: &mut Chance) -> &'static Scene {
    static SCENES: OnceLock<Vec<Scene>> = OnceLock::new();
    let scenes = SCENES.get_or_init(|| CONTRACTS.map(make_scene).into());
    chance.pick(scenes).expect("one for each contract")
}

pub(crate) fn scenario_of(contract: Contract, dt: &str) -> Scenario {
    let tests: String = (0..5)
        .map(|k| format!("(mass: 0, inertia: 0.001, position: (-{k}.3, 1, 0.{k}), velocity: (0.1, -0.{k}, 0)),"))
        .collect();
    let text = format!(
        "(version: 1, name: \"few\", contract: {contract}, integrator: Leapfrog(dt: {dt}), until: Steps(1000), \
         generators: [Plummer(count: 35, mass: 1.0, radius: 1.0, place: (seed: 3))], bodies: [{tests}], \
         gravity: (softening: 0.05), audit: (energy_every: 2))"
    );
    read::read("test", &text, &[]).expect("a right scenario")
}

pub(crate) fn state_of(contract: Contract, dt: &str) -> State {
    let scenario = scenario_of(contract, dt);
    let bodies = generate::population(&scenario, Path::new(".")).expect("it needs no files");
    spawn::state(&scenario, &bodies).expect("the bodies fit their quanta")
}

fn make_scene(contract: Contract) -> Scene {
    let state = state_of(contract, "0.02");
    let mut one = Node::new(state.clone(), Cpu::new(Isa::widest(), 1).expect("a thread"));
    let roots = (0..=STEPS).map(|_| (one.root().0, one.advance(1)).0).collect();
    Scene { state, roots }
}

/// Partitions and what is known of their traffic.
struct Town {
    parts: Vec<Partition>,
    sketch: Sketch,
    heard: Vec<Vec<u8>>,
    lies: u64,
    /// Whether a lie was accepted: then nothing is promised but that nobody panics.
    deceived: bool,
}

impl Town {
    fn new(chance: &mut Chance, state: &State) -> Self {
        static CPU: OnceLock<Arc<Cpu>> = OnceLock::new();
        let cpu = CPU.get_or_init(|| Arc::new(Cpu::new(Isa::widest(), 1).expect("a thread")));
        let bits = state.law.contract.position_bits();
        let mut keys: Vec<u128> = state.particles.iter().map(|p| key(p.position.0, bits)).collect();
        let members: Vec<NodeId> = (0..2 + chance.below(2) as u16).map(NodeId).collect();
        let sketch = Sketch::of(&mut keys);
        let cuts = random_cuts(chance, &sketch, members.len());
        let common = common_of(state);
        let packs = chance.below(2) == 0;
        let part = |&me: &NodeId| {
            let mine = state.particles.iter().copied().filter(|p| cuts.owner(key(p.position.0, bits)) == me);
            let mut part = Partition::new((me, EPOCH), &members, cuts.clone(), common, mine, Arc::clone(cpu));
            part.pack(Packing::given(packs));
            part
        };
        let parts = members.iter().map(part).collect();
        Self { parts, sketch, heard: Vec::new(), lies: 0, deceived: false }
    }

    /// Works until each has come to an end of what it was at, or all are stuck.
    fn drive(&mut self, chance: &mut Chance) -> Option<Vec<Progress>> {
        let mut ended: Vec<Option<Progress>> = self.parts.iter().map(|_| None).collect();
        for _ in 0..ROUNDS_MAX {
            for (part, ended) in self.parts.iter_mut().zip(&mut ended) {
                work(part, ended);
            }
            if ended.iter().all(Option::is_some) && self.parts.iter_mut().all(|part| part.outbox().len() == 0) {
                return ended.into_iter().collect();
            }
            self.deliver(chance, &mut ended);
        }
        assert!(self.deceived, "honest partitions are stuck");
        None
    }

    fn deliver(&mut self, chance: &mut Chance, ended: &mut [Option<Progress>]) {
        let mut posts = Vec::new();
        for part in &mut self.parts {
            let from = part.me();
            posts.extend(part.outbox().map(|post| (from, post)));
        }
        for (from, post) in posts {
            self.heard.push(post.bytes.clone());
            let to = usize::from(post.to.0);
            if from == NodeId(1) && chance.below(3) > 0 {
                self.lie(chance, (from, to), post.tag, &mut ended[to]);
            }
            let taken = self.parts[to].take(from, post.tag, post.bytes);
            assert!(taken.is_ok() || self.deceived, "{taken:?}");
            work(&mut self.parts[to], &mut ended[to]);
        }
        self.heard.drain(..self.heard.len().saturating_sub(12));
    }

    /// A lie instead of an honest block, which comes after it.
    fn lie(&mut self, chance: &mut Chance, (from, to): (NodeId, usize), tag: Tag, ended: &mut Option<Progress>) {
        self.lies += 1;
        let bytes = hostile(chance, &self.heard);
        let tag = if chance.below(20) == 0 { other_tag(chance, tag) } else { tag };
        let part = &mut self.parts[to];
        if part.take(from, tag, bytes).is_ok() && !work(part, ended) {
            self.deceived = true;
        }
    }
}

fn other_tag(chance: &mut Chance, tag: Tag) -> Tag {
    match chance.below(4) {
        0 => Tag { kind: chance.below(5) as u16, ..tag },
        1 => Tag { part: number(chance) as u16, ..tag },
        2 => Tag { step: number(chance), ..tag },
        _ => Tag { epoch: Epoch(chance.below(3) as u32), ..tag },
    }
}

/// Works as long as there is something to do; whether a block was refused meanwhile.
fn work(part: &mut Partition, ended: &mut Option<Progress>) -> bool {
    loop {
        match part.work() {
            Ok(Progress::Working) => {}
            Ok(Progress::Waiting | Progress::Idle) => return false,
            Ok(other) => *ended = Some(other),
            Err(_) => return true,
        }
    }
}

fn random_cuts(chance: &mut Chance, sketch: &Sketch, nodes: usize) -> Cuts {
    let mut shares: Vec<(NodeId, u64)> = (0..nodes as u16).map(|node| (NodeId(node), chance.below(5))).collect();
    shares[0].1 += 1;
    Cuts::by_shares(std::slice::from_ref(sketch), &shares)
}

/// Steps, with hand-overs and counts between them, until all are taken or a lie had its way: how many lies were told, and whether all
/// steps were taken and every lie was refused.
fn a_run_with_a_liar(chance: &mut Chance) -> (u64, bool) {
    let scene = scene(chance);
    let mut town = Town::new(chance, &scene.state);
    for step in 1..=STEPS {
        town.parts.iter_mut().for_each(|part| part.begin(step, step % 2 == 0));
        let Some(ended) = town.drive(chance) else { break };
        let proposed = |end: &Progress| matches!(end, Progress::Proposed(_));
        if !ended.iter().all(proposed) {
            assert!(town.deceived, "step {step}: {ended:?}");
            break;
        }
        let root = town.parts.iter().fold(0, |sum: u128, part| sum.wrapping_add(part.root().0));
        assert!(town.deceived || root == scene.roots[step as usize], "{}, step {step}", scene.state.law.contract);
        town.parts.iter_mut().for_each(Partition::commit);
        if chance.below(2) == 0 {
            let cuts = random_cuts(chance, &town.sketch, town.parts.len());
            town.parts.iter_mut().for_each(|part| part.hand_over(step, Some(cuts.clone())));
            let Some(ended) = town.drive(chance) else { break };
            assert!(ended.iter().all(|end| *end == Progress::HandedOver { step }), "{ended:?}");
        }
        if chance.below(4) == 0 {
            town.parts.iter_mut().for_each(|part| part.begin_count(step, 7));
            if town.drive(chance).is_none() {
                break;
            }
        }
    }
    (town.lies, !town.deceived)
}

#[test]
fn a_partition_that_lies_makes_no_other_panic_and_lies_that_are_refused_leave_no_trace() {
    let clean = Cell::new((0, 0));
    sessions("partitions", 70, |chance| {
        let (lies, all_refused) = a_run_with_a_liar(chance);
        let (runs, told) = clean.get();
        clean.set(if all_refused { (runs + 1, told + lies) } else { (runs, told) });
        lies
    });
    let (runs, told) = clean.get();
    eprintln!("partitions: {runs} runs in which all of {told} lies were refused, with the roots of one node");
    assert!(told > 0 || crate::environment("EMMY_FUZZ_SESSION").is_some(), "no run came through");
}
