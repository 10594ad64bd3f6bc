//! Every file in `scenarios/`: it can be read, what it means can be written out and read back, and the small ones are run to
//! their end, where all that they expect must hold.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicUsize},
};

use emmy::{
    backend::{cpu::Cpu, isa::Isa},
    run::{ExitReason, Run},
    scenario::{
        format::{OnBreach, Scenario},
        generate, read,
    },
    spawn,
};

/// A scenario with more pair evaluations than this is not run here: some seconds of work.
const EVALUATIONS_MAX: u64 = 3_000_000_000;

/// The scenario files, by name.
fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let entries = fs::read_dir(&folder).expect("the folder of scenarios is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "ron"));
    files.sort();
    assert!(!files.is_empty(), "no scenarios in {}", folder.display());
    files
}

fn scenario(file: &Path) -> Scenario {
    let text = read::read_file(file).unwrap_or_else(|error| panic!("{error}"));
    let name = file.display().to_string();
    read::read(&name, &text, &[]).unwrap_or_else(|report| panic!("{:?}", miette::Report::from(report)))
}

fn run(file: &Path, scenario: &Scenario) -> Run {
    let folder = file.parent().expect("a folder");
    let name = file.display();
    let bodies = generate::population(scenario, folder).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
    let state = spawn::state(scenario, &bodies).unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
    Run::new(scenario.clone(), state, Cpu::new(Isa::widest(), 2).expect("two threads"))
}

#[test]
fn every_scenario_can_be_read_and_its_used_form_means_the_same() {
    for file in files() {
        let scenario = scenario(&file);
        let used = scenario.to_ron();
        let again =
            read::read("used", &used, &[]).unwrap_or_else(|report| panic!("{:?}", miette::Report::from(report)));
        assert_eq!(again, scenario, "{}", file.display());
        assert_eq!(again.to_ron(), used, "{}", file.display());
    }
}

#[test]
fn every_scenario_has_bodies_that_fit_their_quanta_and_takes_a_step() {
    for file in files() {
        let mut run = run(&file, &scenario(&file));
        assert_eq!(run.node.advance(1), 1, "{}: {:?}", file.display(), run.node.breaches());
        run.node.reverse();
        assert_eq!(run.node.advance(1), 1, "{}: {:?}", file.display(), run.node.breaches());
        assert_eq!(run.node.root(), run.root_start, "{}", file.display());
    }
}

#[test]
fn every_small_scenario_keeps_what_it_promises() {
    for file in files() {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let scenario = scenario(&file);
        let mut run = run(&file, &scenario);
        let evaluations = run.node.pairs_per_step().saturating_mul(scenario.steps());
        if evaluations > EVALUATIONS_MAX {
            println!("{name}: {:.1e} pair evaluations, not run here", evaluations as f64);
            continue;
        }
        assert_keeps_its_promises(&name, &mut run);
    }
}

#[test]
fn what_emmy_new_writes_keeps_what_it_promises() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/template.ron");
    assert_keeps_its_promises("template.ron", &mut run(&file, &scenario(&file)));
}

/// Runs to the end, where every expectation must have been looked at once and must hold.
fn assert_keeps_its_promises(name: &str, run: &mut Run) {
    let stop = Arc::new(AtomicUsize::new(0));

    let reason = run.finish(&stop, None, &mut |_| {}).expect("nothing is written");

    for outcome in &run.outcomes {
        let verdict = if outcome.held { "holds" } else { "DOES NOT HOLD" };
        println!("{name}: {} at step {}: found {}: {verdict}", outcome.expected, outcome.step, outcome.found);
    }
    // A scenario may be about a breach only if it says that breaches are recorded.
    if run.node.rules().on_breach != OnBreach::Record {
        assert_eq!(run.node.breaches(), [], "{name}");
    }
    assert_eq!(reason, ExitReason::Completed, "{name}: {:?}", run.node.breaches());
    assert_eq!(run.outcomes.len(), run.scenario.expect.len(), "{name}: every expectation is looked at once");
    assert!(run.outcomes.iter().all(|outcome| outcome.held), "{name}: {:#?}", run.outcomes);
}
