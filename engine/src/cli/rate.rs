//! How fast particles are moved here, measured briefly on some of the bodies of a run.

use std::time::Duration;

use crate::{
    advance::{Burst, Impulse, Plan, propose, propose_on_device},
    backend::{
        cpu::Cpu,
        gpu::{Gpu, error::GpuError},
    },
    commit,
    ledger::Amounts,
    metrics::Stopwatch,
    node::State,
    particle::{Particle, WorkingSet},
};

/// So many particles are enough to measure the CPU.
const CPU_SAMPLE: usize = 4096;
/// So many keep a large device busy enough to compare it.
pub(super) const GPU_SAMPLE: usize = 16_384;
/// So many steps at once, at most.
const STEPS_MAX: u64 = 256;
/// So many bursts of steps, at most: a handful of bodies is measured in a millisecond.
const BURSTS_MAX: usize = 12;
/// No measurement begins after so much time.
const ENOUGH: Duration = Duration::from_millis(60);

/// Unique pairs per second of audited steps on the CPU.
pub(super) fn of_cpu(state: &State, cpu: &Cpu) -> f64 {
    let mut sample = Sample::of(state, CPU_SAMPLE);
    let mut impulse = Impulse::default();
    sample.measure(cpu, |sample, due, steps| propose(cpu, &mut sample.set, &mut impulse, &sample.plan, due, steps))
}

/// Unique pairs per second of audited steps on a device, which is then as if it were new.
///
/// # Errors
/// If the device fails.
pub(super) fn of_gpu(state: &State, cpu: &Cpu, gpu: &mut Gpu, most: usize) -> Result<f64, GpuError> {
    let mut sample = Sample::of(state, most);
    let mut fault = None;
    gpu.clear();
    let rate = sample.measure(cpu, |sample, due, steps| {
        let burst = propose_on_device(gpu, cpu, &mut sample.set, &sample.plan, due, steps);
        burst.unwrap_or_else(|error| {
            fault = Some(error);
            Burst::default()
        })
    });
    gpu.clear();
    fault.map_or(Ok(rate), Err)
}

/// Some of the bodies of a run, ready to move.
struct Sample {
    set: WorkingSet,
    plan: Plan,
    angular: bool,
}

impl Sample {
    fn of(state: &State, most: usize) -> Self {
        let some: &[Particle] = &state.particles[..state.particles.len().min(most)];
        let set = WorkingSet::of(some);
        let mass_max = set.mass.iter().copied().fold(0.0, f64::max);
        let angular = state.rules.angular_momentum;
        let masses = (mass_max, set.sources);
        let plan = Plan::new(state.splitting, &state.law, &state.quanta, state.clock.dt, masses, angular);
        Self { set, plan, angular }
    }

    /// Takes bursts of steps, each longer than the one before, and returns the best rate of pairs. 0 if no step succeeds.
    fn measure(&mut self, cpu: &Cpu, mut burst: impl FnMut(&mut Self, &Amounts, u64) -> Burst) -> f64 {
        let mut due = commit::count(cpu, &self.set, self.angular);
        let pairs = (self.set.pairs() * self.plan.evaluations()) as f64;
        // The first step evaluates the forces once more than those after it, and a device has the bodies to take first.
        due = due.plus(burst(self, &due, 1).book.gained());
        let (began, mut best, mut steps) = (Stopwatch::start(), 0.0_f64, 1);
        for _ in 0..BURSTS_MAX {
            let watch = Stopwatch::start();
            let done = burst(self, &due, steps);
            let seconds = watch.seconds();
            due = due.plus(done.book.gained());
            best = best.max(done.good as f64 * pairs / seconds.max(1e-9));
            // What is slow is measured once; and the bodies that went astray without the others go nowhere from here.
            if done.trouble.is_some() || done.good < steps || began.elapsed() > ENOUGH {
                break;
            }
            steps = (2 * steps).min(STEPS_MAX);
        }
        best
    }
}
