//! What is simulated, and what it must come to: a run of one node.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use emmy::{
    audit::{BreachReport, Drifts},
    backend::{cpu::Cpu, isa::Isa},
    ledger::Ledger,
    node::{Node, State},
    scenario::{generate, read},
    spawn,
};

/// Steps of a reference: no seed may take more.
pub(crate) const STEPS_MAX: usize = 2_500;

/// A run of one node, step by step.
pub(crate) struct Reference {
    pub(crate) state: State,
    steps: Vec<(u128, Ledger, Drifts)>,
    /// Where the run ends by itself, and why.
    pub(crate) end: Option<(u64, Vec<BreachReport>)>,
}

impl Reference {
    fn of(state: State) -> Self {
        let mut node = Node::new(state.clone(), cpu());
        let mut steps = vec![(node.root().0, node.ledger().clone(), *node.drifts())];
        while steps.len() <= STEPS_MAX && node.advance(1) == 1 {
            steps.push((node.root().0, node.ledger().clone(), *node.drifts()));
        }
        let last = steps.len() as u64 - 1;
        let end = node.stopped().then(|| (last, node.breaches().to_vec()));
        if let Some(last) = steps.last_mut().filter(|_| end.is_some()) {
            (last.1, last.2) = (node.ledger().clone(), *node.drifts());
        }
        Self { state, steps, end }
    }

    pub(crate) fn root(&self, step: u64) -> Option<u128> {
        self.at(step).map(|(root, ..)| *root)
    }

    pub(crate) fn at(&self, step: u64) -> Option<&(u128, Ledger, Drifts)> {
        self.steps.get(usize::try_from(step).ok()?)
    }
}

pub(crate) fn cpu() -> Cpu {
    Cpu::new(Isa::widest(), 1).expect("a thread")
}

fn state_of(text: &str) -> State {
    let scenario = read::read("test", text, &[]).unwrap_or_else(|report| panic!("{:?}", miette::Report::from(report)));
    let bodies = generate::population(&scenario, Path::new(".")).expect("the scenario is right");
    spawn::state(&scenario, &bodies).unwrap_or_else(|faults| panic!("the bodies fit their quanta: {faults:?}"))
}

fn sphere(contract: &str, count: usize, tests: usize) -> State {
    let tests: String = (0..tests)
        .map(|k| format!("(mass: 0, inertia: 0.001, position: (-{k}.3, 1, 0.{k}), velocity: (0.1, -0.{k}, 0)),"))
        .collect();
    state_of(&format!(
        "(version: 1, name: \"sphere\", contract: {contract}, integrator: Leapfrog(dt: 0.02), until: Steps(100000), \
         generators: [Plummer(count: {count}, mass: 1.0, radius: 1.0, place: (seed: 3))], bodies: [{tests}], \
         gravity: (softening: 0.05), audit: (energy_every: 7))"
    ))
}

/// Two bodies fall onto each other: a run that ends with an undone step.
fn collision() -> State {
    state_of(
        "(version: 1, name: \"collision\", integrator: Leapfrog(dt: 0.01), until: Steps(1000), \
         quanta: Auto(headroom: 2), bodies: [\
         (name: \"a\", mass: 1, position: (-0.5, 0, 0), velocity: (0, 0, 0)), \
         (name: \"b\", mass: 1, position: (0.5, 0, 0), velocity: (0, 0, 0)), \
         (name: \"c\", mass: 1, position: (3, 9, 1), velocity: (0.1, 0, 0)), \
         (name: \"d\", mass: 1, position: (-5, 0, 5), velocity: (0, 0, 0))])",
    )
}

pub(crate) const SCENES: usize = 4;

pub(crate) fn reference(scene: usize) -> Arc<Reference> {
    static ALL: [OnceLock<Arc<Reference>>; SCENES] = [const { OnceLock::new() }; SCENES];
    let make = || {
        Arc::new(Reference::of(match scene {
            0 => sphere("native64", 12, 2),
            1 => sphere("fast32", 24, 3),
            2 => sphere("native64", 100, 0),
            _ => collision(),
        }))
    };
    Arc::clone(ALL[scene].get_or_init(make))
}
