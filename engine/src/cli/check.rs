//! `emmy check`: reads a scenario, reports every fault, and says what a run would take.

use clap::Args;

use super::{
    BackendArgs, Exit, ScenarioArgs, Talk,
    backend::{self, Task},
    load,
    report::{counted, duration, short, si},
    tell,
};
use crate::{backend::Backend, node::State, particle::WorkingSet, quanta::exp2};

/// Bytes a particle takes in a direct-sum run: its entity, its lanes, its impulses. Measured; see `benches/README.md`.
const BYTES_PER_PARTICLE: u64 = 300;

/// `emmy check`
#[derive(Clone, Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    #[command(flatten)]
    backend: BackendArgs,
}

/// Checks.
pub(super) fn check(args: &CheckArgs, talk: &Talk) -> Exit {
    let described = load::scenario(&args.scenario).and_then(|loaded| {
        let state = loaded.state()?;
        let task = Task::new(&loaded.scenario, state.quanta, &state.particles, loaded.scenario.steps());
        let mut backend = backend::open(&args.backend, &task, talk)?;
        if talk.quiet {
            return Ok(());
        }
        let rate = task.rate(&mut backend).map_err(|error| backend::refuse(&error))?;
        tell(&describe(&loaded, &state, &task, &backend, rate))
    });
    described.map_or_else(|exit| exit, |()| Exit::Done)
}

fn describe(loaded: &load::Loaded, state: &State, task: &Task, backend: &Backend, rate: f64) -> String {
    let (scenario, quanta) = (&loaded.scenario, &state.quanta);
    let set = WorkingSet::of(&state.particles);
    let steps = scenario.steps();
    let memory = (state.particles.len() as u64 * BYTES_PER_PARTICLE) as f64;
    let (there, who) = match &backend.gpu {
        Some(gpu) => (format!(", {}B on the GPU", si(task.device_bytes() as f64)), gpu.device().facts().name.clone()),
        None => (String::new(), format!("{}, {}", counted(backend.cpu.threads(), "thread"), backend.cpu.isa())),
    };
    // Without pairs, or if no step succeeds, there is nothing to go by.
    let seconds = if rate > 0.0 { task.pairs() / rate } else { 0.0 };
    let lightest = state.particles.iter().map(|p| p.mass.quanta).min().unwrap_or(1);
    let grain = exp2(quanta.momentum.0 - quanta.mass.0) / lightest as f64;
    format!(
        "{}: ok\n  bodies      {} ({} of them test particles)\n  steps       {} of {}, to t = {}\n  moved by    {}, {} a step\n  \
         pairs       {} in all\n  quanta      position {}, momentum {}, mass {}\n  grain       {:.1e} in position, {:.1e} in the \
         velocity of the lightest body\n  memory      about {}B for the bodies{there}\n  time        about {} on {who}\n",
        loaded.name,
        set.count(),
        set.tests,
        steps,
        scenario.dt(),
        short(steps as f64 * scenario.dt()),
        state.splitting.name,
        counted(state.splitting.evaluations(), "force evaluation"),
        si(task.pairs()).trim_end(),
        quanta.position,
        quanta.momentum,
        quanta.mass,
        quanta.position.size(),
        grain,
        si(memory),
        duration(seconds),
    )
}
