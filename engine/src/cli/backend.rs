//! Who moves the particles of a run: `--backend` and what becomes of it.
//!
//! A device is taken only if it proves that it gives the bits of the CPU, and, without a word from the user, only if it is faster.

use std::str::FromStr;

use super::{BackendArgs, Exit, Talk, complain, load, rate, remark};
use crate::{
    backend::{
        Backend,
        cpu::Cpu,
        gpu::{
            self, Gpu,
            adapter::{Adapter, Adapters, Kind},
            device::Device,
            error::GpuError,
        },
    },
    contract::Contract,
    node::State,
    particle::{Names, Particle},
    quanta::Quanta,
    scenario::format::Scenario,
    spawn,
};

/// A run of fewer pairs is over before a device has been opened and tested.
const WORTH_LOOKING: f64 = 1e9;

/// What `--backend` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Choice {
    /// Whoever is faster.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The best device, or the one with this number or with this in its name.
    Gpu(Option<String>),
}

impl FromStr for Choice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu(None)),
            _ => match text.strip_prefix("gpu:").map(str::trim) {
                Some(name) if !name.is_empty() => Ok(Self::Gpu(Some(name.to_owned()))),
                Some(_) => Err("after `gpu:` comes part of a name, or the number from `emmy devices`"),
                None => Err("expected auto, cpu, gpu, or gpu:NAME with a NAME from `emmy devices`"),
            },
        }
    }
}

/// What is to be done, as far as it matters to who does it.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// Particles that pull, and those that are only pulled.
    counts: [usize; 2],
    /// Unique pairs of the whole run.
    pairs: f64,
    /// Some of its particles.
    sample: State,
}

impl Task {
    /// A number of steps of a scenario with these particles.
    pub(super) fn new(scenario: &Scenario, quanta: Quanta, particles: &[Particle], steps: u64) -> Self {
        // Those that pull first: the others make no pairs among themselves.
        let (pulling, pulled): (Vec<&Particle>, Vec<_>) = particles.iter().partition(|particle| particle.mass.pulls);
        let (sources, tests) = (pulling.len(), pulled.len());
        let some = pulling.into_iter().chain(pulled).take(rate::GPU_SAMPLE).copied().collect();
        let sample = spawn::state_of(scenario, quanta, some, Names::default());
        let (sources_f, tests_f) = (sources as f64, tests as f64);
        let evaluations = steps as f64 * sample.splitting.evaluations() as f64;
        let pairs = evaluations * (0.5 * sources_f * (sources_f - 1.0) + sources_f * tests_f);
        Self { counts: [sources, tests], pairs, sample }
    }

    fn contract(&self) -> Contract {
        self.sample.law.contract
    }

    /// Unique pairs of the whole run.
    pub(super) fn pairs(&self) -> f64 {
        self.pairs
    }

    /// What its columns take on a device [bytes].
    pub(super) fn device_bytes(&self) -> u64 {
        gpu::bytes(self.counts[0], self.counts[1])
    }

    /// Unique pairs per second of this backend, measured.
    ///
    /// # Errors
    /// If the device fails.
    pub(super) fn rate(&self, backend: &mut Backend) -> Result<f64, GpuError> {
        match &mut backend.gpu {
            Some(gpu) => rate::of_gpu(&self.sample, &backend.cpu, gpu, rate::GPU_SAMPLE),
            None => Ok(rate::of_cpu(&self.sample, &backend.cpu)),
        }
    }
}

/// The backend that the command line asks for.
pub(super) fn open(args: &BackendArgs, task: &Task, talk: &Talk) -> Result<Backend, Exit> {
    let cpu = load::cpu(args)?;
    let mut backend = Backend::from(cpu);
    let contract = task.contract();
    match &args.backend {
        Choice::Cpu => {}
        Choice::Gpu(_) if !contract.is_portable() => return Err(refuse_contract(contract)),
        Choice::Gpu(name) => {
            let adapters = Adapters::find();
            let opened = adapters.choose(name.as_deref()).and_then(|adapter| task.open(adapter));
            backend.gpu = Some(opened.map_err(|error| refuse(&error))?);
        }
        Choice::Auto if !contract.is_portable() => {
            tracing::info!("backend: cpu ({contract} is a contract of the CPU)");
        }
        Choice::Auto if task.pairs < WORTH_LOOKING => {
            tracing::info!("backend: cpu (the run is too short for a GPU to be worth looking for)");
        }
        Choice::Auto => {
            let why;
            (backend, why) = faster(backend, task);
            if !talk.quiet {
                remark(format_args!("backend: {why}"));
            }
        }
    }
    Ok(backend)
}

/// The CPU alone, for partitions.
pub(super) fn open_cpu(args: &BackendArgs) -> Result<Cpu, Exit> {
    match args.backend {
        Choice::Auto | Choice::Cpu => load::cpu(args),
        Choice::Gpu(_) => {
            complain("--partitions works on the CPU only", "leave out --backend gpu, or --partitions");
            Err(Exit::WrongInput)
        }
    }
}

/// A GPU was asked for a contract that none can do.
pub(super) fn refuse_contract(contract: Contract) -> Exit {
    complain(
        &format!("`{contract}` is a contract of the CPU: no GPU can give its bits"),
        "`contract: portable64` in the scenario, `--set contract=portable64`, or `bench --contract portable64`, makes it a run that a GPU can do; it is another \
         run, with other bits",
    );
    Exit::WrongInput
}

/// A device cannot be used.
pub(super) fn refuse(error: &GpuError) -> Exit {
    complain(&error.to_string(), error.remedy());
    Exit::Environment
}

impl Task {
    /// A device with room for the run that has passed its self-test.
    fn open(&self, adapter: &Adapter) -> Result<Gpu, GpuError> {
        gpu::room(adapter.facts(), self.counts[0], self.counts[1])?;
        Gpu::new(Device::open(adapter)?, self.contract())
    }
}

/// The faster of the CPU and the best GPU, both measured on the bodies of the run, and why it was taken.
fn faster(mut backend: Backend, task: &Task) -> (Backend, String) {
    let adapters = Adapters::find();
    let mut real: Vec<&Adapter> = adapters.iter().collect();
    real.sort_by_key(|adapter| adapter.facts().kind);
    let (mut candidates, mut opened) = (Vec::new(), None);
    for adapter in real {
        let candidate = |finding| Candidate { name: adapter.facts().name.clone(), finding };
        if adapter.facts().kind == Kind::Software {
            candidates.push(candidate(Finding::Software));
        } else if opened.is_none() {
            let measured = task.open(adapter).and_then(|mut gpu| {
                let rate = rate::of_gpu(&task.sample, &backend.cpu, &mut gpu, rate::GPU_SAMPLE)?;
                Ok((rate, gpu))
            });
            candidates.push(match measured {
                Ok((rate, gpu)) => {
                    opened = Some(gpu);
                    candidate(Finding::Measured(rate))
                }
                Err(error) => candidate(Finding::Refused(error.to_string())),
            });
        }
    }
    let here = if opened.is_some() { rate::of_cpu(&task.sample, &backend.cpu) } else { 0.0 };
    let (takes, why) = choose(here, &candidates);
    backend.gpu = opened.filter(|_| takes);
    (backend, why)
}

/// A device that might be taken.
#[derive(Clone, Debug)]
struct Candidate {
    name: String,
    finding: Finding,
}

/// What came of looking at it.
#[derive(Clone, Debug)]
enum Finding {
    /// It is the CPU in disguise.
    Software,
    /// It cannot be used.
    Refused(String),
    /// Unique pairs per second.
    Measured(f64),
}

/// Whether the device that was measured is taken, and why. `here` is what the CPU does [unique pairs/s].
fn choose(here: f64, candidates: &[Candidate]) -> (bool, String) {
    let measured = candidates.iter().find_map(|candidate| match candidate.finding {
        Finding::Measured(rate) => Some((&candidate.name, rate)),
        _ => None,
    });
    if let Some((name, rate)) = measured {
        return match rate > here {
            true => (true, format!("{name} ({rate:.1e} pairs/s, the CPU {here:.1e})")),
            false => (false, format!("cpu ({here:.1e} pairs/s, {name} {rate:.1e})")),
        };
    }
    let said = |candidate: &Candidate| match &candidate.finding {
        Finding::Software => format!("{} is the CPU in disguise", candidate.name),
        Finding::Refused(why) => why.clone(),
        Finding::Measured(_) => String::new(),
    };
    let mut reasons: Vec<String> = candidates.iter().map(said).collect();
    if !candidates.iter().any(|candidate| matches!(candidate.finding, Finding::Refused(_))) {
        reasons.insert(0, "no GPU here".to_owned());
    }
    (false, format!("cpu ({})", reasons.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, finding: Finding) -> Candidate {
        Candidate { name: name.to_owned(), finding }
    }

    #[test]
    fn the_faster_one_is_taken_and_both_rates_are_told() {
        let h200 = |rate| [candidate("NVIDIA H200", Finding::Measured(rate))];

        assert_eq!(choose(4.1e9, &h200(3.2e11)), (true, "NVIDIA H200 (3.2e11 pairs/s, the CPU 4.1e9)".to_owned()));
        assert_eq!(choose(4.1e9, &h200(3.2e8)), (false, "cpu (4.1e9 pairs/s, NVIDIA H200 3.2e8)".to_owned()));
        // A device on which no step succeeded, and equals: the CPU is what every run has.
        assert!(!choose(4.1e9, &h200(0.0)).0 && !choose(4.1e9, &h200(4.1e9)).0);
    }

    #[test]
    fn without_a_device_that_can_be_used_the_cpu_is_taken_and_every_reason_is_told() {
        let software = || candidate("llvmpipe", Finding::Software);
        let refused =
            || candidate("Apple M4", Finding::Refused("Apple M4 has no f64, which portable64 needs".to_owned()));

        assert_eq!(choose(0.0, &[]), (false, "cpu (no GPU here)".to_owned()));
        assert_eq!(
            choose(0.0, &[software()]),
            (false, "cpu (no GPU here; llvmpipe is the CPU in disguise)".to_owned())
        );
        assert_eq!(
            choose(0.0, &[refused(), software()]),
            (false, "cpu (Apple M4 has no f64, which portable64 needs; llvmpipe is the CPU in disguise)".to_owned())
        );
    }

    #[test]
    fn a_device_behind_one_that_is_refused_may_be_taken() {
        let found = [
            candidate("broken", Finding::Refused("broken is out of memory".to_owned())),
            candidate("sound", Finding::Measured(2e9)),
        ];

        assert_eq!(choose(1e9, &found), (true, "sound (2.0e9 pairs/s, the CPU 1.0e9)".to_owned()));
    }

    #[test]
    fn the_option_is_read_as_it_is_documented() {
        assert_eq!("auto".parse(), Ok(Choice::Auto));
        assert_eq!("cpu".parse(), Ok(Choice::Cpu));
        assert_eq!("gpu".parse(), Ok(Choice::Gpu(None)));
        assert_eq!("gpu:H200".parse(), Ok(Choice::Gpu(Some("H200".to_owned()))));
        for wrong in ["", "gpu:", "gpu: ", "GPU", "cuda"] {
            assert!(wrong.parse::<Choice>().is_err(), "{wrong}");
        }
    }
}
