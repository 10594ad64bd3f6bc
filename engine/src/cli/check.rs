//! `emmy check`: reads a scenario, reports every fault, and says what a run would take.

use clap::Args;

use super::{
    BackendArgs, Exit, ScenarioArgs, Talk, load,
    report::{counted, duration, short, si},
    tell,
};
use crate::{advance::Plan, backend::cpu::Cpu, metrics::Stopwatch, node::State, particle::WorkingSet, quanta::exp2};

/// Bytes a particle takes in a direct-sum run: its entity, its lanes, its impulses. Measured; see `benches/README.md`.
const BYTES_PER_PARTICLE: u64 = 300;
/// So many particles are enough to measure the rate of pairs.
const SAMPLE: usize = 4096;

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
        let cpu = load::backend(&args.backend)?;
        if talk.quiet { Ok(()) } else { tell(&describe(&loaded, &state, &cpu)) }
    });
    described.map_or_else(|exit| exit, |()| Exit::Done)
}

fn describe(loaded: &load::Loaded, state: &State, cpu: &Cpu) -> String {
    let (scenario, quanta) = (&loaded.scenario, &state.quanta);
    let set = WorkingSet::of(&state.particles);
    let steps = scenario.steps();
    let evaluations = steps.saturating_mul(state.splitting.evaluations() as u64);
    let pairs = evaluations as f64 * set.pairs() as f64;
    let memory = (state.particles.len() as u64 * BYTES_PER_PARTICLE) as f64;
    let seconds = estimate_seconds(state, &set, cpu, evaluations);
    let lightest = state.particles.iter().map(|p| p.mass.quanta).min().unwrap_or(1);
    let grain = exp2(quanta.momentum.0 - quanta.mass.0) / lightest as f64;
    format!(
        "{}: ok\n  bodies      {} ({} of them test particles)\n  steps       {} of {}, to t = {}\n  moved by    {}, {} a step\n  \
         pairs       {} in all\n  quanta      position {}, momentum {}, mass {}\n  grain       {:.1e} in position, {:.1e} in the \
         velocity of the lightest body\n  memory      about {}B for the bodies\n  time        about {} on {}, {}\n",
        loaded.name,
        set.count(),
        set.tests,
        steps,
        scenario.dt(),
        short(steps as f64 * scenario.dt()),
        state.splitting.name,
        counted(state.splitting.evaluations(), "force evaluation"),
        si(pairs).trim_end(),
        quanta.position,
        quanta.momentum,
        quanta.mass,
        quanta.position.size(),
        grain,
        si(memory),
        duration(seconds),
        counted(cpu.threads(), "thread"),
        cpu.isa(),
    )
}

/// Times one force evaluation of a sample and scales it by the number of pairs.
fn estimate_seconds(state: &State, set: &WorkingSet, cpu: &Cpu, evaluations: u64) -> f64 {
    let sample = WorkingSet::of(&state.particles[..state.particles.len().min(SAMPLE)]);
    let mass_max = set.mass.iter().copied().fold(0.0, f64::max);
    let plan = Plan::new(state.splitting, &state.law, &state.quanta, state.clock.dt, (mass_max, set.sources), true);
    let mut impulse = Default::default();
    let mut evaluate = || {
        let watch = Stopwatch::start();
        // A pair out of range would end the run at its first step; here only the time matters.
        let _ = cpu.impulses(&sample, plan.contract, plan.kicks[0], plan.guarded, &mut impulse);
        watch.seconds()
    };
    evaluate();
    let per_evaluation = (0..3).map(|_| evaluate()).fold(f64::MAX, f64::min);
    per_evaluation * evaluations as f64 * (set.pairs().max(1) as f64 / sample.pairs().max(1) as f64)
}
