//! What a run tells at its end: one JSON object with stable keys, a table for people, and the manifest in its folder.

use std::{collections::BTreeMap, fmt::Write};

use serde::Serialize;

use crate::{
    audit::BreachReport,
    ledger::Amounts,
    math::norm,
    metrics::Phases,
    run::{
        ExitReason, Run,
        engine::{Engine, Traffic},
    },
    snapshot::{checkpoint::Outcome, folder::RunFolder, root::StateRoot},
};

/// The result of a run. Its keys stay stable; integers that may exceed 2⁵³ are text.
#[derive(Debug, Serialize)]
pub(super) struct RunResult {
    schema: u32,
    scenario: String,
    contract: &'static str,
    /// `gpu` if a device moved the particles to the end.
    backend: &'static str,
    device: Option<String>,
    driver: Option<String>,
    /// Why the device that the run began with is no longer used.
    fell_back: Option<String>,
    isa: String,
    threads: usize,
    nodes: usize,
    /// The branch of a node that was let go on without the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<u64>,
    /// What they sent each other, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<Traffic>,
    integrator: &'static str,
    bodies: usize,
    steps: u64,
    time: f64,
    wall_seconds: f64,
    steps_per_second: f64,
    /// Unique pairs.
    pairs_per_second: f64,
    /// Where the time of the steps went [s].
    phases: Phases,
    /// Bytes between the host and the device, all in all, for each step.
    device_bytes_per_step: Option<f64>,
    state_root_start: StateRoot,
    state_root_end: StateRoot,
    conserved: Conserved,
    expect: Vec<Outcome>,
    breaches: Vec<BreachReport>,
    /// Whether taking everything back found the start again; null if it was not asked for.
    reversed: Option<bool>,
    folder: Option<String>,
    pub(super) exit_reason: ExitReason,
}

#[derive(Debug, Serialize)]
struct Conserved {
    count: Exact<String>,
    mass: Exact<String>,
    momentum: Exact<[String; 3]>,
    angular_momentum: Booked<[f64; 3]>,
    energy: Booked<f64>,
}

/// A quantity that is compared with `==` [quanta]; `drift` is what it is less what the ledger says it must be.
#[derive(Debug, Serialize)]
struct Exact<T> {
    start: T,
    end: T,
    drift: T,
}

/// A quantity that is booked [scenario units].
#[derive(Debug, Serialize)]
struct Booked<T> {
    start: T,
    end: T,
    /// What it is, less what the ledger says it must be [scenario units]; for angular momentum, what rounding booked.
    drift: f64,
    max_relative_drift: f64,
    /// What each account holds [quanta].
    booked: BTreeMap<String, serde_json::Value>,
}

impl RunResult {
    /// The result as things stand.
    pub(super) fn of(run: &mut Run, exit_reason: ExitReason) -> Self {
        let counted = run.node.counted();
        let state_root_end = run.node.root();
        let pairs_per_step = run.node.pairs_per_step();
        let conserved = Conserved::of(run, &counted);
        let Mover { backend, device, driver, fell_back } = Mover::of(&*run.node);
        Self {
            schema: 1,
            scenario: run.scenario.name.clone(),
            contract: run.scenario.contract.name(),
            backend,
            device,
            driver,
            fell_back,
            isa: run.node.cpu().isa().to_string(),
            threads: run.node.cpu().threads(),
            nodes: run.node.nodes(),
            branch: Some(run.node.branch()).filter(|branch| *branch != 0),
            traffic: run.node.traffic(),
            integrator: run.scenario.integrator_name(),
            bodies: counted.count as usize,
            steps: run.node.clock().step,
            time: run.node.clock().time(),
            wall_seconds: run.wall_seconds(),
            steps_per_second: run.steps_per_second(),
            pairs_per_second: run.steps_per_second() * pairs_per_step as f64,
            phases: *run.node.phases(),
            device_bytes_per_step: device_bytes_per_step(run),
            state_root_start: run.root_start,
            state_root_end,
            conserved,
            expect: run.outcomes.clone(),
            breaches: run.node.breaches().to_vec(),
            reversed: None,
            folder: run.folder.as_ref().map(|folder| folder.path().display().to_string()),
            exit_reason,
        }
    }

    /// Takes in that the run was taken back: the end is the start again, or it is a failure.
    pub(super) fn took_back(&mut self, run: &mut Run, reason: ExitReason) {
        self.state_root_end = run.node.root();
        self.steps = run.node.clock().step;
        self.time = run.node.clock().time();
        self.wall_seconds = run.wall_seconds();
        Mover { backend: self.backend, device: self.device, driver: self.driver, fell_back: self.fell_back } =
            Mover::of(&*run.node);
        (self.phases, self.device_bytes_per_step) = (*run.node.phases(), device_bytes_per_step(run));
        let found = reason == ExitReason::Completed && self.state_root_end == self.state_root_start;
        self.reversed = matches!(reason, ExitReason::Completed | ExitReason::Breach).then_some(found);
        let counted = run.node.counted();
        self.conserved = Conserved::of(run, &counted);
        self.breaches = run.node.breaches().to_vec();
        self.exit_reason = reason;
    }

    /// Whether everything that was declared held.
    pub(super) fn all_held(&self) -> bool {
        self.breaches.is_empty() && self.expect.iter().all(|outcome| outcome.held) && self.reversed != Some(false)
    }
}

/// Bytes between the host and the device that moves the particles, all in all, for each step that this program has taken.
fn device_bytes_per_step(run: &Run) -> Option<f64> {
    run.node.gpu().map(|gpu| gpu.traffic() as f64 / run.steps_taken.max(1) as f64)
}

/// Who moves the particles.
#[derive(Clone, Debug, Serialize)]
struct Mover {
    backend: &'static str,
    device: Option<String>,
    driver: Option<String>,
    fell_back: Option<String>,
}

impl Mover {
    fn of(node: &dyn Engine) -> Self {
        let facts = node.gpu().map(|gpu| gpu.device().facts());
        Self {
            backend: if facts.is_some() { "gpu" } else { "cpu" },
            device: facts.map(|facts| facts.name.clone()),
            driver: facts.map(|facts| facts.driver.clone()),
            fell_back: node.fell_back().map(ToString::to_string),
        }
    }
}

impl Conserved {
    /// As things stand now, wherever the last recount of the run was.
    fn of(run: &mut Run, counted: &Amounts) -> Self {
        let recount = run.node.count_bounded();
        let (node, ledger) = (&run.node, run.node.ledger());
        let (opening, due, drifts) = (&ledger.opening, ledger.due(), node.drifts());
        let scalar = |start: i128, end: i128, due: i128| Exact {
            start: start.to_string(),
            end: end.to_string(),
            drift: (end - due).to_string(),
        };
        let text = |v: [i128; 3]| v.map(|v| v.to_string());
        let (energy, angular) = (node.quanta().energy.size(), node.quanta().angular_momentum().size());
        let accounts = |value: fn(&Amounts) -> serde_json::Value| {
            ledger.accounts.iter().map(|(name, held)| (name.clone(), value(held))).collect()
        };
        Self {
            count: scalar(opening.count, counted.count, due.count),
            mass: scalar(opening.mass, counted.mass, due.mass),
            momentum: Exact {
                start: text(opening.momentum),
                end: text(counted.momentum),
                drift: std::array::from_fn(|k| (counted.momentum[k] - due.momentum[k]).to_string()),
            },
            angular_momentum: Booked {
                start: opening.angular_momentum.map(|l| l as f64 * angular),
                end: counted.angular_momentum.map(|l| l as f64 * angular),
                drift: norm(recount.angular_rounding.map(|l| l as f64)) * angular,
                max_relative_drift: drifts.angular_max,
                booked: accounts(|held| held.angular_momentum.map(|l| l.to_string()).to_vec().into()),
            },
            energy: Booked {
                start: drifts.energy_start() as f64 * energy,
                end: (recount.kinetic + recount.potential) as f64 * energy,
                drift: (recount.energy() - drifts.energy_start()) as f64 * energy,
                max_relative_drift: drifts.energy_max,
                booked: accounts(|held| held.energy.to_string().into()),
            },
        }
    }
}

/// The closing table: what ran, every conserved quantity, what the accounts of the ledger hold, and what became of the expectations.
pub(super) fn table(run: &Run, result: &RunResult) -> String {
    let mut out = String::new();
    let row = |name: &str, value: String| format!("  {name:<17} {value}\n");
    let plural = if result.bodies == 1 { "body" } else { "bodies" };
    out += &row("scenario", format!("{}, {} {plural}", result.scenario, result.bodies));
    let cpu = || format!("{} on {}", result.isa, counted(result.threads, "thread"));
    let who = result.device.clone().unwrap_or_else(cpu);
    out += &row("moved by", format!("{}, {}, {who}", result.integrator, result.contract));
    if let Some(fault) = &result.fell_back {
        out += &match result.exit_reason {
            ExitReason::DeviceLost => row("device lost", fault.clone()),
            _ => row("fell back", format!("to the CPU, with the same bits: {fault}")),
        };
    }
    out += &row("steps", format!("{}, to t = {}", result.steps, short(result.time)));
    let rates = [result.steps_per_second, result.pairs_per_second].map(si);
    out += &row("speed", format!("{}steps/s, {}pairs/s, {} in all", rates[0], rates[1], duration(result.wall_seconds)));
    if let Some(shares) = shares(&result.phases) {
        out += &row("time in", shares);
    }
    out.push_str(&conserved_rows(&result.conserved));
    out.push_str(&ledger_rows(run));
    out += &row("state root", format!("{} → {}", result.state_root_start, result.state_root_end));
    if let Some(reversed) = result.reversed {
        out += &row("taken back", if reversed { "to the first bit".into() } else { "NOT to the start".into() });
    }
    for outcome in &result.expect {
        let mark = if outcome.held { "held" } else { "FAILED" };
        out += &row(mark, format!("step {}: {}: {}", outcome.step, outcome.expected, outcome.found));
    }
    if let Some(folder) = &result.folder {
        out += &row("files", folder.clone());
    }
    out
}

/// Where the time of the steps went, if it is worth a word. A handful of bodies is not looked at that closely: all of it is one phase.
fn shares(phases: &Phases) -> Option<String> {
    let total = phases.total();
    let Phases { force, motion, audit, transfer } = *phases;
    let all = [("force", force), ("motion", motion), ("audit", audit), ("transfer", transfer)];
    let some: Vec<_> = all.into_iter().filter(|(_, seconds)| *seconds > 0.0).collect();
    let share = |&(name, seconds): &(&str, f64)| format!("{name} {:.0} %", 100.0 * seconds / total);
    (total > 1e-3 && some.len() > 1).then(|| some.iter().map(share).collect::<Vec<_>>().join(", "))
}

/// What must not change: integers with their drift in quanta, the bounded ones with their largest relative drift.
fn conserved_rows(conserved: &Conserved) -> String {
    let mut out = format!("\n  {:<17} {:>21} {:>21}   drift\n", "conserved", "at the start", "at the end");
    let mut row = |name: &str, [start, end, drift]: [&str; 3]| {
        let _ = writeln!(out, "  {name:<17} {start:>21} {end:>21}   {drift}");
    };
    let Conserved { count, mass, momentum, angular_momentum, energy } = conserved;
    row("count", [&count.start, &count.end, &count.drift]);
    row("mass", [&mass.start, &mass.end, &format!("{} quanta", mass.drift)]);
    for (axis, name) in ["momentum x", "momentum y", "momentum z"].into_iter().enumerate() {
        let drift = format!("{} quanta", momentum.drift[axis]);
        row(name, [&momentum.start[axis], &momentum.end[axis], &drift]);
    }
    let mut bounded = |name: &str, start: f64, end: f64, worst: f64| {
        row(name, [&format!("{start:.12e}"), &format!("{end:.12e}"), &format!("at most {worst:.2e}, relative")]);
    };
    let [start, end] = [angular_momentum.start, angular_momentum.end].map(norm);
    bounded("|ang. momentum|", start, end, angular_momentum.max_relative_drift);
    bounded("energy", energy.start, energy.end, energy.max_relative_drift);
    out
}

/// What each account of the ledger holds.
fn ledger_rows(run: &Run) -> String {
    let mut out = format!("\n  {:<17} {:>21} {:>21}   momentum [quanta]\n", "ledger", "|ang. momentum|", "energy");
    let quanta = run.node.quanta();
    for (name, held) in &run.node.ledger().accounts {
        let angular = norm(held.angular_momentum.map(|l| l as f64)) * quanta.angular_momentum().size();
        let energy = held.energy as f64 * quanta.energy.size();
        let momentum = held.momentum.map(|p| p.to_string()).join(", ");
        let _ = writeln!(out, "  {name:<17} {angular:>21.3e} {energy:>21.3e}   ({momentum})");
    }
    out + "\n"
}

/// A number with its prefix, to four digits.
pub(super) fn si(value: f64) -> String {
    let prefixes = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];
    let (size, prefix) = prefixes.into_iter().find(|(size, _)| value >= *size).unwrap_or((1.0, ""));
    let scaled = value / size;
    let digits = match scaled {
        _ if scaled.fract() == 0.0 => 0,
        ..10.0 => 3,
        10.0..100.0 => 2,
        _ => 1,
    };
    format!("{scaled:.digits$} {prefix}")
}

/// So many things, in the singular for one.
pub(super) fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A number as it was meant, without the digits that rounding added.
pub(super) fn short(value: f64) -> f64 {
    format!("{value:.12e}").parse().unwrap_or(value)
}

/// A time span for people.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{:.0} ms", seconds * 1e3),
        1.0..120.0 => format!("{seconds:.1} s"),
        120.0..7200.0 => format!("{:.0} min", seconds / 60.0),
        7200.0..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        172_800.0..1e9 => format!("{:.0} days", seconds / 86400.0),
        _ => "more than 30 years".into(),
    }
}

/// How a run came about, for whoever wants to do it again. Written at the start, completed at the end.
#[derive(Debug, Serialize)]
pub(super) struct Manifest {
    schema: u32,
    program: &'static str,
    version: &'static str,
    commit: &'static str,
    rustc: &'static str,
    target: &'static str,
    profile: &'static str,
    /// Who moved the particles at the start, and in the end whether it was replaced.
    #[serde(flatten)]
    mover: Mover,
    isa: String,
    threads: usize,
    host: String,
    command: Vec<String>,
    /// One entry for each time that the run was started or resumed.
    starts: Vec<serde_json::Value>,
    scenario: String,
    scenario_blake3: String,
    contract: &'static str,
    quanta: crate::quanta::Quanta,
    started: String,
    state_root_start: StateRoot,
    ended: Option<String>,
    state_root_end: Option<StateRoot>,
    steps: Option<u64>,
    exit_reason: Option<ExitReason>,
    files_blake3: BTreeMap<String, String>,
    reproducible: [&'static str; 2],
}

impl Manifest {
    /// What is known at the start.
    pub(super) fn begin(run: &Run) -> Self {
        let command: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        let now = jiff::Timestamp::now().to_string();
        let before = run.folder.as_ref().and_then(RunFolder::read_manifest).unwrap_or_default();
        let mut starts = before["starts"].as_array().cloned().unwrap_or_default();
        starts.push(serde_json::json!({ "started": now, "from_step": run.node.clock().step, "command": command }));
        Self {
            schema: 1,
            program: "emmy",
            version: env!("CARGO_PKG_VERSION"),
            commit: env!("EMMY_COMMIT"),
            rustc: env!("EMMY_RUSTC"),
            target: env!("EMMY_TARGET"),
            profile: env!("EMMY_PROFILE"),
            mover: Mover::of(&*run.node),
            isa: run.node.cpu().isa().to_string(),
            threads: run.node.cpu().threads(),
            host: std::fs::read_to_string("/etc/hostname")
                .map_or_else(|_| "unknown".into(), |name| name.trim().to_owned()),
            command,
            starts,
            scenario: run.scenario.name.clone(),
            scenario_blake3: blake3::hash(run.scenario.to_ron().as_bytes()).to_string(),
            contract: run.scenario.contract.name(),
            quanta: *run.node.quanta(),
            started: before["started"].as_str().map_or(now, str::to_owned),
            state_root_start: run.root_start,
            ended: None,
            state_root_end: None,
            steps: None,
            exit_reason: None,
            files_blake3: BTreeMap::new(),
            reproducible: [
                "particle state, momenta, ledger and state roots: bit for bit on any CPU, instruction set and number of threads, \
                 and under a portable contract on any GPU that passes its self-test, from scenario.used.ron and the same version of emmy",
                "not reproducible: wall times, and the lines of diagnostics.jsonl that a wall-time cadence asked for",
            ],
        }
    }

    /// What is known at the end.
    pub(super) fn complete(&mut self, run: &Run, result: &RunResult) {
        self.mover.fell_back.clone_from(&result.fell_back);
        self.ended = Some(jiff::Timestamp::now().to_string());
        self.state_root_end = Some(result.state_root_end);
        self.steps = Some(result.steps);
        self.exit_reason = Some(result.exit_reason);
        self.files_blake3 = run.folder.as_ref().and_then(|folder| folder.hashes().ok()).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_time_are_told_if_they_are_worth_a_word() {
        let phases = |force, motion, audit, transfer| Phases { force, motion, audit, transfer };

        assert_eq!(shares(&phases(0.93, 0.04, 0.03, 0.0)).as_deref(), Some("force 93 %, motion 4 %, audit 3 %"));
        assert_eq!(shares(&phases(0.0, 0.0, 0.0, 0.0)), None);
        assert_eq!(shares(&phases(5e-4, 1e-4, 1e-4, 0.0)), None, "too short");
        assert_eq!(shares(&phases(2.0, 0.0, 0.0, 0.0)), None, "a handful of bodies: one phase stands for all");
    }
}
