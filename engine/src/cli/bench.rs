//! `emmy bench`: pairs per second of whole audited steps, with a state root beside every figure.
//!
//! The root is that of a fixed number of steps, so it is the same whoever moves the particles and however fast: equal bits, or the
//! figure means nothing.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::{
    BackendArgs, Exit, Talk,
    backend::{self, Choice},
    load, remark,
    report::counted,
    run, tell,
};
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
    metrics::{Phases, Stopwatch},
    node::{Node, State},
    residence::OnLoss,
    snapshot::root::StateRoot,
};

/// After so many steps the root is taken.
const ROOT_STEPS: u64 = 4;

/// `emmy bench`
#[derive(Clone, Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    backend: BackendArgs,
    /// Contract to measure; may be given several times. Without it, all that the backend knows.
    #[arg(long = "contract", value_name = "NAME", value_parser = contract)]
    contracts: Vec<Contract>,
    /// Number of bodies; may be given several times. Without it: 1024, 16384 and, on a GPU, 262144; on a software
    /// device 1024 and 4096.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1 << 24))]
    bodies: Vec<u32>,
    /// Measure each for at least so long, as in `3` or `1m`; one step is taken in any case.
    #[arg(long, value_name = "DURATION", default_value = "1", value_parser = run::parse_seconds)]
    seconds: f64,
    /// One JSON object on standard output instead of the table.
    #[arg(long)]
    json: bool,
}

fn contract(text: &str) -> Result<Contract, String> {
    let names = Contract::ALL.map(Contract::name).join(", ");
    Contract::ALL.into_iter().find(|known| known.name() == text).ok_or_else(|| format!("expected one of {names}"))
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    machine: Machine,
    /// The root of each entry is that after so many steps.
    root_steps: u64,
    rows: Vec<Row>,
}

/// Where and when.
#[derive(Clone, Debug, Serialize)]
struct Machine {
    backend: &'static str,
    device: Option<String>,
    driver: Option<String>,
    isa: String,
    threads: usize,
    date: String,
    version: &'static str,
    profile: &'static str,
}

/// One figure, or why there is none.
#[derive(Debug, Serialize)]
struct Row {
    bodies: u32,
    contract: Contract,
    #[serde(flatten)]
    measured: Option<Measured>,
    failed: Option<String>,
}

/// What came of one contract and one number of bodies.
#[derive(Debug, Serialize)]
struct Measured {
    /// Steps that were measured.
    steps: u64,
    /// Of whole steps: N² pairs each, as a GPU evaluates them.
    ordered_pairs_per_second: f64,
    /// Of whole steps: N(N-1)/2 pairs each, as a CPU evaluates them.
    unique_pairs_per_second: f64,
    /// The same for the force phase alone; null where the device cannot time its phases.
    force_ordered_pairs_per_second: Option<f64>,
    force_unique_pairs_per_second: Option<f64>,
    step_microseconds: f64,
    /// Time of a step in which the host did not wait for the device; null on a CPU.
    host_microseconds: Option<f64>,
    device_bytes_per_step: Option<u64>,
    state_root: StateRoot,
}

/// Measures.
pub(super) fn bench(args: &BenchArgs, talk: &Talk) -> Exit {
    let measured = find(&args.backend.backend, &args.contracts).and_then(|adapter| {
        if let (Some(_), Some(wrong)) = (&adapter, args.contracts.iter().find(|contract| !contract.is_portable())) {
            return Err(backend::refuse_contract(*wrong));
        }
        measure_all(args, adapter.as_ref(), talk)
    });
    let told = measured.and_then(|report| {
        let any = report.rows.iter().any(|row| row.measured.is_some());
        tell(&if args.json { json(&report) } else { table(&report) })?;
        if any { Ok(Exit::Done) } else { Err(Exit::Environment) }
    });
    told.unwrap_or_else(|exit| exit)
}

/// The device that is asked for; without a word the best real one, and none if there is none or a contract is one of the CPU.
fn find(choice: &Choice, contracts: &[Contract]) -> Result<Option<Adapter>, Exit> {
    match choice {
        Choice::Cpu => Ok(None),
        Choice::Auto if contracts.iter().any(|contract| !contract.is_portable()) => Ok(None),
        Choice::Gpu(name) => {
            let adapters = Adapters::find();
            adapters.choose(name.as_deref()).cloned().map(Some).map_err(|error| backend::refuse(&error))
        }
        Choice::Auto => {
            let best = Adapters::find().choose(None).cloned().ok();
            Ok(best.filter(|adapter| adapter.facts().kind != Kind::Software))
        }
    }
}

fn measure_all(args: &BenchArgs, adapter: Option<&Adapter>, talk: &Talk) -> Result<Report, Exit> {
    let facts = adapter.map(Adapter::facts);
    let contracts = match (&args.contracts[..], facts) {
        ([], Some(_)) => Contract::ALL.into_iter().filter(|contract| contract.is_portable()).collect(),
        ([], None) => Contract::ALL.to_vec(),
        (some, _) => some.to_vec(),
    };
    let bodies = match (&args.bodies[..], facts.map(|facts| facts.kind)) {
        ([], None) => vec![1024, 16_384],
        ([], Some(Kind::Software)) => vec![1024, 4096],
        ([], Some(_)) => vec![1024, 16_384, 262_144],
        (some, _) => some.to_vec(),
    };
    let cpu = load::cpu(&args.backend)?;
    let machine = Machine {
        backend: if adapter.is_some() { "gpu" } else { "cpu" },
        device: facts.map(|facts| facts.name.clone()),
        driver: facts.map(|facts| facts.driver.clone()),
        isa: cpu.isa().to_string(),
        threads: cpu.threads(),
        date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
        version: env!("CARGO_PKG_VERSION"),
        profile: env!("EMMY_PROFILE"),
    };
    let mut rows = Vec::new();
    for contract in contracts {
        let cpu = load::cpu(&args.backend)?;
        let opened = adapter.map(|adapter| Device::open(adapter).and_then(|device| Gpu::new(device, contract)));
        let mut backend = opened.transpose().map(|gpu| Backend { cpu, gpu });
        for &bodies in &bodies {
            let outcome;
            (outcome, backend) = measure_one(bodies, contract, backend, args.seconds, talk)?;
            let (measured, failed) = match outcome {
                Ok(measured) => (Some(measured), None),
                Err(error) => (None, Some(error.to_string())),
            };
            rows.push(Row { bodies, contract, measured, failed });
        }
    }
    Ok(Report { schema: 1, machine, root_steps: ROOT_STEPS, rows })
}

/// A backend that may have failed.
type Attempt = Result<Backend, GpuError>;

/// Measures one number of bodies and hands the backend back, or what is wrong with it.
fn measure_one(
    bodies: u32,
    contract: Contract,
    backend: Attempt,
    seconds: f64,
    talk: &Talk,
) -> Result<(Result<Measured, GpuError>, Attempt), Exit> {
    let backend = match backend {
        Ok(backend) => backend,
        Err(error) => return Ok((Err(error.clone()), Err(error))),
    };
    let room = backend.gpu.as_ref().map_or(Ok(()), |gpu| gpu::room(gpu.device().facts(), bodies as usize, 0));
    if let Err(error) = room {
        return Ok((Err(error), Ok(backend)));
    }
    if !talk.quiet {
        remark(format_args!("measuring {contract}, {bodies} bodies"));
    }
    let mut node = Node::new(sphere(bodies, contract)?, backend);
    // Nobody measures a CPU in the place of a device.
    node.on_device_loss(OnLoss::Stop);
    let measured = measure(&mut node, bodies, seconds);
    let world = node.world_mut();
    let gpu = world.remove_resource::<Gpu>();
    let cpu = world.remove_resource::<Cpu>().expect("every node has one");
    // Last: the look at the world may have been what lost the device.
    let failed = node.fell_back().cloned();
    Ok(match failed {
        Some(error) => (Err(error.clone()), Err(error)),
        None => (Ok(measured), Ok(Backend { cpu, gpu })),
    })
}

/// A Plummer sphere, the same every time.
pub(super) fn sphere(bodies: u32, contract: Contract) -> Result<State, Exit> {
    let text = format!(
        "(version: 1, name: \"bench\", contract: {contract}, integrator: Leapfrog(dt: 0.0009765625), \
         until: Steps(1000000000), gravity: (softening: 0.05), \
         generators: [Plummer(count: {bodies}, mass: 1, radius: 1, place: (seed: 1))])"
    );
    load::from_text("bench", text, Vec::new(), Path::new(".")).and_then(|loaded| loaded.state())
}

/// Takes steps for the root, then as many as fill the time, and looks at those.
fn measure(node: &mut Node, bodies: u32, seconds: f64) -> Measured {
    node.advance(ROOT_STEPS);
    let state_root = node.root();
    let mut steps = 1;
    let (before, after, wall) = loop {
        let (before, watch) = (Account::of(node), Stopwatch::start());
        node.advance(steps);
        let (wall, after) = (watch.seconds(), Account::of(node));
        if wall >= seconds || node.stopped() || node.stands_still() {
            break (before, after, wall);
        }
        // A little more than the time that is left would take, and not too much after a start that was no measure.
        steps = ((1.1 * seconds / wall.max(1e-6) * steps as f64).ceil() as u64).clamp(steps + 1, 16 * steps);
    };
    let steps = after.step.saturating_sub(before.step);
    let force = after.phases.force - before.phases.force;
    let [n, per_step] = [f64::from(bodies), wall / steps.max(1) as f64];
    let [ordered, unique] = [n * n, 0.5 * n * (n - 1.0)];
    let of_force = |pairs: f64| (force > 0.0).then(|| pairs * steps as f64 / force);
    let device = before.traffic.zip(after.traffic);
    Measured {
        steps,
        ordered_pairs_per_second: ordered / per_step,
        unique_pairs_per_second: unique / per_step,
        force_ordered_pairs_per_second: of_force(ordered),
        force_unique_pairs_per_second: of_force(unique),
        step_microseconds: 1e6 * per_step,
        host_microseconds: device.map(|_| 1e6 * (wall - (after.waited - before.waited)) / steps.max(1) as f64),
        device_bytes_per_step: device.map(|(before, after)| (after - before) / steps.max(1)),
        state_root,
    }
}

/// What a node has spent so far.
struct Account {
    step: u64,
    phases: Phases,
    traffic: Option<u64>,
    waited: f64,
}

impl Account {
    fn of(node: &Node) -> Self {
        Self {
            step: node.clock().step,
            phases: *node.phases(),
            traffic: node.gpu().map(Gpu::traffic),
            waited: node.gpu().map_or(0.0, Gpu::waited),
        }
    }
}

fn json(report: &Report) -> String {
    serde_json::to_string_pretty(report).expect("a report is plain numbers and text") + "\n"
}

/// Where and when on the first line, then a line for each figure.
fn table(report: &Report) -> String {
    let Machine { device, driver, isa, threads, date, version, profile, .. } = &report.machine;
    let who = match (device, driver) {
        (Some(device), Some(driver)) => format!("{device}, driver {driver}"),
        _ => format!("the CPU, {isa} on {}", counted(*threads, "thread")),
    };
    let mut text = format!(
        "{who}; {date}, emmy {version} ({profile})\n\n\
         A Plummer sphere with softening 0.05, leapfrog, every step audited. Ordered pairs are N² a step, as a GPU evaluates \
         them,\nunique pairs N(N-1)/2, as a CPU does: compare like with like. \"Force\" is the phase of the pairs alone, the rest is \
         whole steps.\n\n\
         {:>8}  {:<10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}  {}\n\
         {:>8}  {:<10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}  {}\n",
        "bodies",
        "contract",
        "ordered",
        "unique",
        "force,",
        "force,",
        "µs",
        "µs",
        "state root",
        "",
        "",
        "pairs/s",
        "pairs/s",
        "ordered",
        "unique",
        "a step",
        "of host",
        format_args!("after {} steps", report.root_steps),
    );
    for row in &report.rows {
        text += &line(row);
    }
    text
}

fn line(row: &Row) -> String {
    let head = format!("{:>8}  {:<10}", row.bodies, row.contract);
    let Some(measured) = &row.measured else {
        return format!("{head} failed: {}\n", row.failed.as_deref().unwrap_or_default());
    };
    let rate = |rate: Option<f64>| rate.map_or_else(|| "?".to_owned(), |rate| format!("{rate:.3e}"));
    let time = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |time| format!("{time:.1}"));
    format!(
        "{head} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}  {}\n",
        rate(Some(measured.ordered_pairs_per_second)),
        rate(Some(measured.unique_pairs_per_second)),
        rate(measured.force_ordered_pairs_per_second),
        rate(measured.force_unique_pairs_per_second),
        time(Some(measured.step_microseconds)),
        time(measured.host_microseconds),
        measured.state_root,
    )
}
