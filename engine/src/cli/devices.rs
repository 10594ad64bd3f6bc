//! `emmy devices`: lists the GPUs of this machine, whether each computes what the CPU computes, and how fast.

use clap::Args;
use serde::Serialize;

use super::{Exit, bench, complain, rate, tell};
use crate::{
    backend::{
        cpu::Cpu,
        gpu::{
            Gpu,
            adapter::{Adapter, Adapters, Facts, Kind},
            device::Device,
            error::GpuError,
            selftest::{self, Precision},
            strict::Strictness,
        },
        isa::Isa,
    },
    contract::Contract,
    node::State,
};

/// `emmy devices`
#[derive(Clone, Debug, Args)]
pub(super) struct DevicesArgs {
    /// Write the list as JSON.
    #[arg(long)]
    json: bool,
}

/// The contracts of GPUs, in the order of their columns.
const CONTRACTS: [Contract; 2] = [Contract::Portable64, Contract::Portable32];

/// What is said of a device: what it promises, what it proves, and how fast it is.
#[derive(Debug, Serialize)]
struct Entry {
    #[serde(flatten)]
    facts: Facts,
    /// Whether its arithmetic can be made strict; where it cannot, the self-test alone decides.
    strict: bool,
    self_test: SelfTest,
    contracts: Vec<Proof>,
}

/// What becomes of a contract on a device.
#[derive(Debug, Serialize)]
struct Proof {
    contract: Contract,
    /// Of the whole self-test: `passed`, `no f64`, or `failed: …`.
    verdict: String,
    /// Unique pairs per second of audited steps, measured briefly.
    pairs_per_second: Option<f64>,
}

/// What the self-test says of each precision: `passed`, `no f64`, or `failed: …`.
#[derive(Debug, Serialize)]
struct SelfTest {
    single: String,
    double: String,
}

/// Lists.
pub(super) fn devices(args: &DevicesArgs) -> Exit {
    let adapters = Adapters::find();
    if adapters.is_empty() {
        let none = GpuError::NoAdapter;
        complain(&none.to_string(), none.remedy());
        return Exit::Environment;
    }
    let entries: Vec<Entry> = adapters.iter().map(Entry::of).collect();
    let text = if args.json { json(&entries) } else { table(&entries) };
    tell(&text).map_or_else(|exit| exit, |()| Exit::Done)
}

impl Entry {
    fn of(adapter: &Adapter) -> Self {
        let facts = adapter.facts().clone();
        let device = Device::open(adapter);
        let test = |precision| match &device {
            Ok(device) => verdict(selftest::operations(device, Strictness::Strict, precision)),
            Err(error) => format!("failed: {error}"),
        };
        let self_test = SelfTest { single: test(Precision::Single), double: test(Precision::Double) };
        let contracts = CONTRACTS.map(|contract| Proof::of(adapter, contract)).into();
        Self { strict: facts.is_strict(), facts, self_test, contracts }
    }
}

impl Proof {
    fn of(adapter: &Adapter, contract: Contract) -> Self {
        let measured = Device::open(adapter).and_then(|device| Gpu::new(device, contract)).and_then(|mut gpu| {
            // What the host does meanwhile is next to nothing.
            let cpu = Cpu::new(Isa::widest(), 1).expect("one thread needs no pool");
            let bodies = if adapter.facts().kind == Kind::Software { 4096 } else { 65_536 };
            let rate = |state: State| rate::of_gpu(&state, &cpu, &mut gpu, bodies as usize);
            bench::sphere(bodies, contract).ok().map(rate).transpose()
        });
        let pairs_per_second = measured.as_ref().ok().copied().flatten();
        Self { contract, verdict: verdict(measured.map(drop)), pairs_per_second }
    }

    /// For the table: the rate, `no f64`, or `failed`, which has a line of its own.
    fn cell(&self) -> String {
        match self.pairs_per_second {
            Some(rate) => format!("{rate:.1e} pairs/s"),
            None => self.verdict.split(':').next().unwrap_or_default().to_owned(),
        }
    }
}

fn verdict(result: Result<(), GpuError>) -> String {
    match result {
        Ok(()) => "passed".to_owned(),
        Err(GpuError::Feature { feature, .. }) => format!("no {}", feature.split(' ').next().unwrap_or(feature)),
        Err(GpuError::SelfTest { failure, .. }) => format!("failed: {failure}"),
        Err(error) => format!("failed: {error}"),
    }
}

fn json(entries: &[Entry]) -> String {
    let text = serde_json::to_string_pretty(&serde_json::json!({ "devices": entries }));
    text.expect("plain fields are JSON") + "\n"
}

/// A line for each device, and below it how it failed.
fn table(entries: &[Entry]) -> String {
    let [first, second] = CONTRACTS.map(Contract::name);
    let titles = ["", "name", "kind", "backend", "f64", "i64", "timestamps", "memory", first, second, "driver"];
    let mut rows = vec![titles.map(str::to_owned)];
    rows.extend(entries.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 11] = std::array::from_fn(width);
    let line = |row: &[String; 11]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(&rows[0]);
    for (entry, row) in entries.iter().zip(&rows[1..]) {
        text += &line(row);
        for Proof { contract, verdict, .. } in &entry.contracts {
            if verdict.starts_with("failed") {
                text += &format!("   {contract} {verdict}\n");
            }
        }
    }
    text + "\nA rate means: the self-test was passed. It counts every pair once, in whole audited steps; `emmy bench` measures longer.\n"
}

fn row(entry: &Entry) -> [String; 11] {
    let Entry { facts, contracts, .. } = entry;
    let yes = |has: bool| if has { "yes" } else { "no" }.to_owned();
    let cell = |place: usize| contracts.get(place).map(Proof::cell).unwrap_or_default();
    [
        facts.number.to_string(),
        facts.name.clone(),
        facts.kind.to_string(),
        facts.backend.to_string(),
        yes(facts.features.f64),
        yes(facts.features.i64),
        yes(facts.features.timestamps),
        facts.memory.map_or_else(|| "?".to_owned(), |bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))),
        cell(0),
        cell(1),
        facts.driver.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::adapter::{Features, Interface, Kind, Limits};

    #[test]
    fn a_device_that_failed_says_how_on_a_line_of_its_own() {
        let features = Features {
            f64: false,
            i64: true,
            timestamps: true,
            timestamps_inside_passes: false,
            passthrough: false,
            immediates: true,
        };
        let limits = Limits {
            buffer: 1,
            storage_binding: 1,
            workgroup_memory: 1,
            workgroup_invocations: 1,
            workgroups: 1,
            immediates: 1,
        };
        let facts = Facts {
            number: 0,
            name: "Apple M4".into(),
            kind: Kind::Integrated,
            driver: String::new(),
            backend: Interface::Metal,
            features,
            limits,
            memory: None,
        };
        let self_test = SelfTest { single: "failed: x*y - x*z in f32: …".into(), double: "no f64".into() };
        let proof = |contract, verdict: &str| Proof { contract, verdict: verdict.into(), pairs_per_second: None };
        let contracts = vec![
            proof(Contract::Portable64, "no f64"),
            proof(Contract::Portable32, "failed: Apple M4 does not compute what the CPU computes: x*y - x*z in f32: …"),
        ];

        let text = table(&[Entry { strict: facts.is_strict(), facts, self_test, contracts }]);

        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "0  Apple M4  integrated  metal    no   yes  yes         ?       no f64      failed");
        assert_eq!(
            lines[2],
            "   portable32 failed: Apple M4 does not compute what the CPU computes: x*y - x*z in f32: …"
        );
        assert_eq!(lines[3], "");
    }
}
