//! `emmy devices`: lists the GPUs of this machine, and whether each computes what the CPU computes.

use clap::Args;
use serde::Serialize;

use super::{Exit, complain, tell};
use crate::backend::gpu::{
    adapter::{Adapter, Adapters, Facts},
    device::Device,
    error::GpuError,
    selftest::{self, Precision},
    strict::Strictness,
};

/// `emmy devices`
#[derive(Clone, Debug, Args)]
pub(super) struct DevicesArgs {
    /// Write the list as JSON.
    #[arg(long)]
    json: bool,
}

/// What is said of a device. What was measured on it stands beside what it promises: the self-test, and here belongs the rate
/// of pairs of each contract.
#[derive(Debug, Serialize)]
struct Entry {
    #[serde(flatten)]
    facts: Facts,
    /// Whether its arithmetic can be made strict; where it cannot, the self-test alone decides.
    strict: bool,
    self_test: SelfTest,
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
        Self { strict: facts.is_strict(), facts, self_test }
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

/// A line for each device, and below it how its self-test failed.
fn table(entries: &[Entry]) -> String {
    let titles = ["", "name", "kind", "backend", "f64", "i64", "timestamps", "memory", "single", "double", "driver"];
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
        for (precision, verdict) in [("single", &entry.self_test.single), ("double", &entry.self_test.double)] {
            if verdict.starts_with("failed") {
                text += &format!("   {precision} {verdict}\n");
            }
        }
    }
    text
}

fn row(entry: &Entry) -> [String; 11] {
    let Entry { facts, self_test, .. } = entry;
    let yes = |has: bool| if has { "yes" } else { "no" }.to_owned();
    let short = |verdict: &str| verdict.split(':').next().unwrap_or_default().to_owned();
    [
        facts.number.to_string(),
        facts.name.clone(),
        facts.kind.to_string(),
        facts.backend.to_string(),
        yes(facts.features.f64),
        yes(facts.features.i64),
        yes(facts.features.timestamps),
        facts.memory.map_or_else(|| "?".to_owned(), |bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))),
        short(&self_test.single),
        short(&self_test.double),
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

        let text = table(&[Entry { strict: facts.is_strict(), facts, self_test }]);

        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[1], "0  Apple M4  integrated  metal    no   yes  yes         ?       failed  no f64");
        assert_eq!(lines[2], "   single failed: x*y - x*z in f32: …");
    }
}
