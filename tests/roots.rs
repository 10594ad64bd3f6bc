//! The table of equal roots: scenario × contract × backend × threads, held against `tests/data/roots.txt`.
//!
//! `cargo test --release --test roots -- --nocapture` prints it. Within a scenario and a contract all roots must be equal, and equal to
//! those of the file, which were computed on other machines too. After a change that is meant to change bits (a new version of a
//! contract), `EMMY_ROOTS=write` writes the file anew; `EMMY_ROOTS=all` takes the rows that are too long for every day as well.

use std::{fmt::Write, fs, path::Path};

use emmy::{
    backend::{
        Backend,
        cpu::Cpu,
        gpu::{Gpu, adapter::Adapters, device::Device},
        isa::Isa,
    },
    contract::Contract,
    node::{Node, State},
    scenario::{generate, read},
    snapshot::root::StateRoot,
    spawn,
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const GOLDEN: &str = "tests/data/roots.txt";

/// Scenarios of at most 4 096 bodies, and how many steps of each are taken: every day, and on request.
const SCENARIOS: &[(&str, u64, u64)] = &[
    ("kepler_e09", 1000, 1000),
    ("figure_eight", 1000, 1000),
    ("outer_solar_system", 1000, 1000),
    ("plummer_1k", 250, 1000),
    ("cold_sphere", 25, 1000),
];

/// Who computes, and in which order the particles are given.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Cpu { isa: Isa, threads: usize, shuffled: bool },
    Device,
}

impl Way {
    fn name(self) -> String {
        match self {
            Self::Cpu { isa, threads, shuffled } => {
                let isa = if isa == Isa::widest() { "widest".to_owned() } else { isa.to_string() };
                format!("cpu {isa} {threads}{}", if shuffled { " shuffled" } else { "" })
            }
            Self::Device => "device".to_owned(),
        }
    }

    /// All ways that a contract can go.
    fn of(contract: Contract) -> Vec<Self> {
        let cpu = |isa, threads, shuffled| Self::Cpu { isa, threads, shuffled };
        let mut ways = vec![cpu(Isa::widest(), 1, false), cpu(Isa::widest(), 2, false), cpu(Isa::widest(), 7, true)];
        // One below the widest: another number of lanes.
        ways.extend(Isa::available().iter().rev().nth(1).map(|isa| cpu(*isa, 2, true)));
        ways.extend(contract.is_portable().then_some(Self::Device));
        ways
    }
}

fn state(scenario: &str, contract: Contract) -> State {
    let file = Path::new(ROOT).join("scenarios").join(scenario).with_extension("ron");
    let text = read::read_file(&file).unwrap_or_else(|error| panic!("{error}"));
    let overrides = [("contract", contract.name()), ("quanta", "Auto(headroom: 32)")];
    let overrides = overrides.map(|(path, value)| (path.to_owned(), value.to_owned()));
    let scenario =
        read::read(scenario, &text, &overrides).unwrap_or_else(|report| panic!("{:?}", miette::Report::from(report)));
    let bodies = generate::population(&scenario, file.parent().expect("a folder")).expect("the scenario is right");
    spawn::state(&scenario, &bodies).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// Every third particle first, then the rest backwards.
fn shuffled(mut state: State) -> State {
    let (first, mut rest): (Vec<_>, Vec<_>) = state.particles.into_iter().partition(|p| p.id.0 % 3 == 0);
    rest.reverse();
    state.particles = [first, rest].concat();
    state
}

fn root_after(state: &State, way: Way, steps: u64) -> StateRoot {
    let cpu = |isa, threads| Cpu::new(isa, threads).expect("threads start");
    let mut node = match way {
        Way::Cpu { isa, threads, shuffled: true } => Node::new(shuffled(state.clone()), cpu(isa, threads)),
        Way::Cpu { isa, threads, shuffled: false } => Node::new(state.clone(), cpu(isa, threads)),
        Way::Device => {
            let name = std::env::var("EMMY_DEVICE").unwrap_or_else(|_| "llvmpipe".to_owned());
            let adapters = Adapters::find();
            let gpu = adapters.choose(Some(&name)).and_then(Device::open).and_then(|d| Gpu::new(d, state.law.contract));
            let gpu = gpu.unwrap_or_else(|error| panic!("{error}: {}", error.remedy()));
            Node::new(state.clone(), Backend { cpu: cpu(Isa::widest(), 2), gpu: Some(gpu) })
        }
    };
    assert_eq!(node.advance(steps), steps, "{:?}", node.breaches());
    assert!(node.fell_back().is_none(), "{:?}", node.fell_back());
    node.root()
}

/// A row of the table: what it is about, and the root.
struct Row {
    scenario: &'static str,
    contract: Contract,
    steps: u64,
    way: String,
    root: StateRoot,
}

impl Row {
    fn text(&self) -> String {
        let Self { scenario, contract, steps, way, root } = self;
        format!("{scenario:20} {contract:10} {steps:5}  {way:24} {root}")
    }
}

fn table(all: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for &(scenario, every_day, on_request) in SCENARIOS {
        let lengths = if all && on_request != every_day { vec![every_day, on_request] } else { vec![every_day] };
        for contract in Contract::ALL {
            let state = state(scenario, contract);
            for &steps in &lengths {
                for way in Way::of(contract) {
                    let root = root_after(&state, way, steps);
                    rows.push(Row { scenario, contract, steps, way: way.name(), root });
                    println!("{}", rows.last().expect("just pushed").text());
                }
            }
        }
    }
    rows
}

#[test]
fn every_backend_and_number_of_threads_gives_the_roots_of_the_table() {
    let wanted = std::env::var("EMMY_ROOTS").unwrap_or_default();
    let rows = table(wanted == "all" || wanted == "write");

    for row in &rows {
        let same =
            |other: &&Row| (other.scenario, other.contract, other.steps) == (row.scenario, row.contract, row.steps);
        let first = rows.iter().find(same).expect("the row itself");
        assert_eq!(row.root, first.root, "\n{}\n{}", first.text(), row.text());
    }
    let file = Path::new(ROOT).join(GOLDEN);
    if wanted == "write" {
        let text = rows.iter().fold(String::new(), |mut text, row| {
            writeln!(text, "{}", row.text()).expect("a string takes everything");
            text
        });
        fs::write(&file, text).expect("the file can be written");
    }
    let golden = fs::read_to_string(&file).expect("the file is there");
    for row in &rows {
        // The second widest instruction set is another one on another machine; its row has a twin that is not.
        let known = golden.lines().any(|line| line == row.text());
        assert!(known || row.way.contains("cpu") && !row.way.contains("widest"), "{GOLDEN} has no row\n{}", row.text());
    }
}
