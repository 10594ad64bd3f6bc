//! Whatever ends a run, it goes on to the bits it would have had anyway: kill -9, signals, a full disk, damaged checkpoints.
#![cfg(unix)]

mod process;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::OnceLock,
    thread::sleep,
    time::Duration,
};

use emmy::metrics::Stopwatch;
use process::{Place, Said};
use serde_json::Value;

/// 200 bodies for a second or two, with checkpoints and lines by steps and by time, and expectations all along the way.
const CLUSTER: &str = "(version: 1, name: \"cluster\", integrator: Leapfrog(dt: 0.0009765625), until: Steps(12000), \
    gravity: (softening: 0.05), \
    bodies: [(name: \"probe\", mass: 0, inertia: 1e-6, position: (2, 0, 0), velocity: (0, 0.5, 0))], \
    generators: [Plummer(count: 200, mass: 1, radius: 1, place: (seed: 3))], \
    audit: (energy_every: 250), \
    output: (diagnostics: (steps: 400, time: 0.7), checkpoint: (steps: 500), keep_checkpoints: 4), \
    expect: [EnergyDrift(below: 1e-2), AngularMomentumDrift(below: 1e-9), VirialRatio(at: 0.5, between: (0.1, 1)), \
        Position(of: \"probe\", at: 2, is: (0, 0, 0), within: 100), LagrangeRadius(fraction: 0.5, at: 5, between: (0.1, 9)), \
        Velocity(of: \"probe\", is: (0, 0, 0), within: 100)])";
const LAST: u64 = 12_000;

/// A folder with the scenario in it.
fn place(test: &str) -> Place {
    let place = Place::new(&format!("recovery-{test}"));
    place.write("cluster.ron", CLUSTER);
    place
}

impl Place {
    /// Starts a run into the folder `o`, slowly, and waits until it has written a checkpoint at or after `step`.
    fn start(&self, arguments: &[&str], step: u64) -> Child {
        // The bits do not depend on it, and a busy machine has time to send its signal.
        let child = self.command(arguments).args(["--isa", "scalar"]).spawn().expect("emmy starts");
        let began = Stopwatch::start();
        while newest(&self.path("o")).is_none_or(|(at, _)| at < step) {
            assert!(began.elapsed() < Duration::from_secs(60), "no checkpoint of step {step} in a minute");
            sleep(Duration::from_millis(2));
        }
        child
    }

    fn log(&self, folder: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(folder).join("diagnostics.jsonl")).expect("a log");
        text.lines().map(|line| without_clocks(serde_json::from_str(line).expect("whole lines"))).collect()
    }
}

/// A line of the log but for what a wall clock said.
fn without_clocks(mut line: Value) -> Value {
    let fields = line.as_object_mut().expect("a line is an object");
    assert!(fields.remove("wall").is_some() && fields.remove("step_seconds").is_some());
    line
}

fn checkpoints(run: &Path) -> Vec<(u64, PathBuf)> {
    emmy::snapshot::checkpoint::list(&run.join("checkpoints")).unwrap_or_default()
}

fn newest(run: &Path) -> Option<(u64, PathBuf)> {
    checkpoints(run).into_iter().next()
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
    assert!(sent.expect("kill is there").success(), "the run was over too soon");
}

/// The uninterrupted run: its result and its log.
fn whole() -> &'static (Value, Vec<Value>) {
    static WHOLE: OnceLock<(Value, Vec<Value>)> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let place = place("whole");
        let result = place.emmy(&["run", "cluster.ron", "--out", "w", "--json", "--threads", "1"]).with(0).json();
        let log = place.log("w");
        let by_steps = log.iter().filter(|line| line["step"].as_u64().unwrap() % 400 == 0).count();
        assert_eq!(by_steps, 31, "0, 400, … 12 000");
        assert!(log.len() > 40, "and those by time");
        (result, log)
    })
}

/// What a resumed run must share with the uninterrupted one.
#[track_caller]
fn equals_the_whole(result: &Value) {
    let whole = &whole().0;
    for key in ["state_root_start", "state_root_end", "steps", "time", "conserved", "expect", "breaches", "exit_reason"]
    {
        assert_eq!(result[key], whole[key], "{key}");
    }
}

#[track_caller]
fn logged_the_whole(place: &Place) {
    let (log, whole) = (place.log("o"), &whole().1);
    for (k, line) in whole.iter().enumerate() {
        assert_eq!(log.get(k), Some(line), "line {k}");
    }
    assert_eq!(log.len(), whole.len());
}

// ------------------------------------------------------------------------------------------------- kill -9

#[test]
fn a_killed_run_goes_on_to_the_bits_it_would_have_had() {
    let place = place("kill");
    let mut child = place.start(&["run", "cluster.ron", "--threads", "1", "--out", "o"], 2000);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "it was over before it was killed: {status:?}");

    let resumed = place.emmy(&["run", "--resume", "o", "--json", "--threads", "2"]).with(0).json();

    equals_the_whole(&resumed);
    logged_the_whole(&place);
    let manifest: Value = serde_json::from_slice(&fs::read(place.path("o/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["starts"].as_array().unwrap().len(), 2);
    assert_eq!(manifest["exit_reason"], "completed");
}

#[test]
fn killed_again_and_again_it_still_comes_to_the_same_end() {
    let place = place("chain");
    let mut child = place.start(&["run", "cluster.ron", "--threads", "1", "--out", "o"], 500);
    for (round, threads) in ["1", "2", "3", "1", "2"].into_iter().enumerate() {
        let reached = newest(&place.path("o")).expect("there is one").0;
        if round % 2 == 0 {
            child.kill().unwrap();
            child.wait().unwrap();
        } else {
            signal(&child, "TERM");
            Said::of(child.wait_with_output().unwrap(), "run").with(143);
        }
        let arguments = ["run", "--resume", "o", "--threads", threads];
        child = place.start(&arguments, reached + 1000);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let short = place.emmy(&["run", "--resume", "o", "--max-wall", "0.05"]).with(4);
    short.remarking(&["resume with: emmy run --resume o"]);

    let resumed = place.emmy(&["run", "--resume", "o", "--json"]).with(0).json();

    equals_the_whole(&resumed);
    logged_the_whole(&place);
}

#[test]
fn a_run_that_is_over_says_the_same_again_and_writes_nothing_twice() {
    let place = place("over");
    place.emmy(&["run", "cluster.ron", "--out", "o"]).with(0);

    let again = place.emmy(&["run", "--resume", "o", "--json"]).with(0).json();

    equals_the_whole(&again);
    logged_the_whole(&place);
}

#[test]
fn a_run_stopped_before_its_first_step_has_its_first_line_once() {
    let place = place("first");
    place.emmy(&["run", "cluster.ron", "--out", "o", "--max-wall", "0"]).with(4);

    equals_the_whole(&place.emmy(&["run", "--resume", "o", "--json"]).with(0).json());
    logged_the_whole(&place);
}

#[test]
fn an_older_checkpoint_gives_the_same_end_and_is_not_pruned_away() {
    let place = place("older");
    place.emmy(&["run", "cluster.ron", "--out", "o"]).with(0);
    let (step, oldest) = checkpoints(&place.path("o")).pop().unwrap();
    assert!(step < LAST);

    let mut child = place.command(&["run", "--resume", oldest.to_str().unwrap()]).spawn().unwrap();
    sleep(Duration::from_millis(100));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(newest(&place.path("o")).is_some_and(|(step, _)| step == LAST), "later checkpoints stay");
    let resumed = place.emmy(&["run", "--resume", oldest.to_str().unwrap(), "--json"]);

    equals_the_whole(&resumed.with(0).json());
    logged_the_whole(&place);
    assert_eq!(checkpoints(&place.path("o")).len(), 4, "keep_checkpoints");
}

#[test]
fn a_run_can_go_on_in_another_folder_or_without_files() {
    let place = place("elsewhere");
    place.emmy(&["run", "cluster.ron", "--out", "a", "--max-wall", "0.2"]).with(4);
    let before = fs::read(place.path("a/diagnostics.jsonl")).unwrap();

    let bare = place.emmy(&["run", "--resume", "a", "--no-files", "--json"]).with(0).json();
    let other = place.emmy(&["run", "--resume", "a", "--out", "b", "--json"]).with(0).json();

    equals_the_whole(&bare);
    equals_the_whole(&other);
    assert_eq!(fs::read(place.path("a/diagnostics.jsonl")).unwrap(), before, "the first folder is left alone");
    place.emmy(&["run", "--resume", "a", "--out", "b"]).with(3).remarking(&["never overwritten"]);
}

#[test]
fn a_checkpoint_is_found_from_where_it_stands() {
    let place = place("inside");
    place.emmy(&["run", "cluster.ron", "--out", "o", "--max-wall", "0.2"]).with(4);
    let name = newest(&place.path("o")).unwrap().1.file_name().unwrap().to_owned();

    let mut command = place.command(&["run", "--json", "--resume"]);
    let said = Said::of(command.arg(name).current_dir(place.path("o/checkpoints")).output().unwrap(), "run").with(0);

    equals_the_whole(&said.json());
    logged_the_whole(&place);
}

#[test]
fn a_run_that_is_made_longer_looks_at_its_end_again() {
    let place = place("longer");
    place.emmy(&["run", "cluster.ron", "--out", "o", "--steps", "6000"]).with(0);

    let longer = place.emmy(&["run", "--resume", "o", "--steps", "12000", "--json"]).with(0).json();

    assert_eq!(longer["state_root_end"], whole().0["state_root_end"]);
    let looked: Vec<u64> =
        longer["expect"].as_array().unwrap().iter().map(|outcome| outcome["step"].as_u64().unwrap()).collect();
    let due: Vec<u64> =
        whole().0["expect"].as_array().unwrap().iter().map(|outcome| outcome["step"].as_u64().unwrap()).collect();
    assert_eq!(looked, due);
    assert!(fs::read_to_string(place.path("o/scenario.used.ron")).unwrap().contains("Steps(12000)"));
    place
        .emmy(&["run", "--resume", "o", "--steps", "5500"])
        .with(2)
        .remarking(&["end at step 5500", "stands at step 12000"]);
    place.emmy(&["run", "--resume", "o", "--set", "integrator.dt=1"]).with(2).remarking(&["another run", "--steps"]);
}

#[test]
fn a_resumed_run_can_be_taken_back_to_the_first_bit() {
    let place = place("back");
    place.emmy(&["run", "cluster.ron", "--out", "o", "--max-wall", "0.2"]).with(4);

    let back = place.emmy(&["run", "--resume", "o", "--reverse", "--json"]).with(0).json();

    assert_eq!(back["reversed"], true);
    assert_eq!(back["state_root_end"], whole().0["state_root_start"]);
}

#[test]
fn two_never_write_into_one_folder() {
    let place = place("two");
    let mut child = place.start(&["run", "cluster.ron", "--threads", "1", "--out", "o"], 500);

    let second = place.emmy(&["run", "--resume", "o"]).with(3);

    second.remarking(&["o: another emmy is running in this folder", "--out"]);
    child.kill().unwrap();
    child.wait().unwrap();
    equals_the_whole(&place.emmy(&["run", "--resume", "o", "--json"]).with(0).json());
    logged_the_whole(&place);
}

#[test]
fn a_cadence_of_wall_time_writes_and_never_touches_state() {
    let place = place("cadence");
    let often = "output=(diagnostics: (wall: 0.02), checkpoint: (wall: 0.1), keep_checkpoints: 100)";
    let arguments = ["run", "cluster.ron", "--out", "o", "--json", "--threads", "1", "--isa", "scalar", "--set", often];

    let result = place.emmy(&arguments).with(0).json();

    equals_the_whole(&result);
    let lines = place.log("o").len();
    assert!((4..=1000).contains(&lines), "{lines} lines");
    let written = checkpoints(&place.path("o")).len();
    assert!((3..=100).contains(&written), "{written} checkpoints");
}

#[test]
fn more_words_are_said_when_asked_for() {
    let place = place("verbose");

    let mut command = place.command(&["run", "cluster.ron", "--out", "o", "-v", "--steps", "6000"]);
    let said = Said::of(command.env_remove("NO_COLOR").output().unwrap(), "run").with(0);

    let said =
        said.remarking(&["writes to o", "quanta: position 2^", "wrote o/checkpoints/step-0000000000006000.ckpt"]);
    assert!(!said.err.contains('\u{1b}'), "no colours where nobody sees them");
    let again = place.emmy(&["run", "--resume", "o", "-v"]).with(0);
    again.remarking(&["goes on from o/checkpoints/step-0000000000006000.ckpt at step 6000 of 6000"]);
}

// -------------------------------------------------------------------------------------------------- signals

#[test]
fn signals_checkpoint_leave_with_their_codes_and_name_the_command() {
    for (name, code, reason) in [("INT", 130, "interrupted"), ("TERM", 143, "terminated")] {
        let place = place(name);
        let child = place.start(&["run", "cluster.ron", "--threads", "1", "--out", "o", "--json"], 1500);
        signal(&child, name);
        let said = Said::of(child.wait_with_output().unwrap(), "run").with(code);

        let said = said.remarking(&["resume with: emmy run --resume o"]);
        let stopped = said.json();
        assert_eq!(stopped["exit_reason"], reason);
        assert!(stopped["steps"].as_u64().unwrap() < LAST);
        assert_eq!(
            newest(&place.path("o")).unwrap().0,
            stopped["steps"].as_u64().unwrap(),
            "a checkpoint of that step"
        );
        let manifest: Value = serde_json::from_slice(&fs::read(place.path("o/manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest["exit_reason"], reason);

        let command = said.err.lines().find_map(|line| line.split("resume with: emmy ").nth(1)).unwrap();
        let mut arguments: Vec<&str> = command.split_whitespace().collect();
        arguments.push("--json");
        equals_the_whole(&place.emmy(&arguments).with(0).json());
        logged_the_whole(&place);
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let place = place("second");
    // One step takes many seconds.
    let slow = "(version: 1, name: \"slow\", integrator: Srkn11b(dt: 0.01), until: Steps(100), \
        gravity: (softening: 0.05), generators: [Plummer(count: 20000, mass: 1, radius: 1)])";
    fs::write(place.path("slow.ron"), slow).unwrap();
    let child = place.command(&["run", "slow.ron", "--out", "o", "--threads", "1", "--isa", "scalar"]).spawn().unwrap();
    let began = Stopwatch::start();
    while !place.path("o/manifest.json").exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "it has not begun in a minute");
        sleep(Duration::from_millis(5));
    }
    sleep(Duration::from_millis(200));

    signal(&child, "INT");
    sleep(Duration::from_millis(300));
    let second = Stopwatch::start();
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();

    assert!(second.elapsed() < Duration::from_secs(2), "{:?}", second.elapsed());
    Said::of(output, "run").with(130);
}

#[test]
fn a_signal_while_taking_back_leaves_with_its_code() {
    let place = place("turn");
    let child = place.start(&["run", "cluster.ron", "--threads", "1", "--out", "o", "--reverse", "--json"], LAST);
    signal(&child, "TERM");

    let said = Said::of(child.wait_with_output().unwrap(), "run").with(143);

    assert_eq!(said.json()["reversed"], Value::Null, "it is not known");
}

// ------------------------------------------------------------------------------------------------- damage

/// A run that was stopped on its way, with several checkpoints.
fn stopped(test: &str) -> Place {
    let place = place(test);
    let child = place.start(&["run", "cluster.ron", "--threads", "1", "--out", "o"], 3000);
    signal(&child, "TERM");
    Said::of(child.wait_with_output().unwrap(), "run").with(143);
    assert!(checkpoints(&place.path("o")).len() >= 3);
    place
}

#[test]
fn a_damaged_checkpoint_is_refused_and_the_last_good_one_is_named() {
    let place = stopped("damage");
    let all = checkpoints(&place.path("o"));
    let (newest, good) = (&all[0].1, &all[1].1);
    let whole = fs::read(newest).unwrap();
    let length = whole.len();
    let mut cases: Vec<(String, Vec<u8>, &str)> = vec![("empty".into(), vec![], "is not a checkpoint")];
    for keep in [1, 7, 8, 11, 12, 19, 20, 40, 500, length / 2, length - 33, length - 32, length - 1] {
        let words = if keep < 8 { "is not a checkpoint" } else { "is " };
        cases.push((format!("cut to {keep}"), whole[..keep].to_vec(), words));
    }
    cases.push(("cut in the particles".into(), whole[..length - 1000].to_vec(), "is truncated"));
    for at in [0, 3, 13, 25, 300, length / 2, length - 40, length - 5] {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        cases.push((format!("byte {at} flipped"), flipped, if at < 8 { "is not a checkpoint" } else { "is " }));
    }
    let mut newer = whole.clone();
    newer[8] = 2;
    cases.push(("a newer version".into(), newer, "checkpoint version 2; this program reads version 1"));
    cases.push(("another file".into(), CLUSTER.into(), "is not a checkpoint"));
    let mut longer = whole.clone();
    longer.extend([0; 100]);
    cases.push(("longer".into(), longer, "is damaged"));

    for (what, bytes, words) in cases {
        fs::write(newest, bytes).unwrap();
        let (newest, good) = (newest.to_str().unwrap(), good.to_str().unwrap());
        for verb in [&["run", "--resume", newest][..], &["info", newest]] {
            let said = place.emmy(verb);
            assert_eq!(said.code, Some(2), "{what}: {}", said.err);
            assert_eq!(said.out, "", "{what}");
            said.remarking(&[newest, words, "last good checkpoint", good]);
        }
        let info = place.emmy(&["info", "o"]).with(0).out;
        assert_eq!(info.matches(": good").count(), all.len() - 1, "{what}: {info}");
    }
    fs::remove_file(newest).unwrap();
    let gone = place.emmy(&["run", "--resume", newest.to_str().unwrap()]).with(2);
    gone.remarking(&[newest.to_str().unwrap(), "No such file", good.to_str().unwrap()]);

    equals_the_whole(&place.emmy(&["run", "--resume", good.to_str().unwrap(), "--json"]).with(0).json());
    logged_the_whole(&place);
}

#[test]
fn a_run_goes_on_from_its_newest_good_checkpoint() {
    let place = stopped("skip");
    let all = checkpoints(&place.path("o"));
    for (_, damaged) in &all[..2] {
        let mut bytes = fs::read(damaged).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(damaged, bytes).unwrap();
    }

    let said = place.emmy(&["run", "--resume", "o", "--json"]).with(0);

    let said = said.remarking(&[all[0].1.file_name().unwrap().to_str().unwrap(), "looking for an older one"]);
    equals_the_whole(&said.json());
    logged_the_whole(&place);
}

#[test]
fn without_any_good_checkpoint_the_start_is_named() {
    let place = stopped("none");
    for (_, file) in checkpoints(&place.path("o")) {
        fs::write(file, "rubbish").unwrap();
    }
    let some = newest(&place.path("o")).unwrap().1;

    place.emmy(&["run", "--resume", "o"]).with(2).remarking(&["no checkpoint that can be read", "from the start"]);
    place.emmy(&["run", "--resume", some.to_str().unwrap()]).with(2).remarking(&["no good checkpoint beside it"]);
    place.emmy(&["run", "--resume", "/dev/zero"]).with(2).remarking(&["/dev/zero is not a checkpoint"]);
}

#[test]
fn what_a_crash_left_half_written_is_dropped() {
    let place = stopped("torn");
    let log = place.path("o/diagnostics.jsonl");
    let mut torn = fs::read(&log).unwrap();
    torn.extend(b"{\"step\":400,\"time\":\xff\xfe");
    fs::write(&log, torn).unwrap();
    let partial = place.path("o/checkpoints/step-0000000000099999.partial");
    fs::write(&partial, "half").unwrap();

    equals_the_whole(&place.emmy(&["run", "--resume", "o", "--json"]).with(0).json());
    logged_the_whole(&place);
    assert!(!partial.exists());
}

// ---------------------------------------------------------------------------------------------- a full disk

/// Runs emmy with files limited to so many blocks of 512 bytes.
fn with_files_up_to(blocks: u32, place: &Place, arguments: &str) -> Said {
    let emmy = env!("CARGO_BIN_EXE_emmy");
    // Some shells count in blocks of 1024 bytes: then the limit is twice as large, which the callers allow for.
    let script = format!("ulimit -f {blocks}; exec '{emmy}' {arguments}");
    let output = Command::new("sh").arg("-c").arg(script).current_dir(&place.0).output().expect("a shell");
    Said::of(output, "run")
}

#[test]
fn a_log_that_cannot_grow_ends_the_run_and_loses_nothing() {
    let place = place("log-full");
    let arguments = "run cluster.ron --out o --set output.diagnostics=(steps:20) --set output.checkpoint.steps=12000";

    let said = with_files_up_to(64, &place, &arguments.replace('(', "'(").replace(')', ")'")).with(3);

    assert_eq!(said.out, "");
    let said = said.remarking(&["o/diagnostics.jsonl", "make room", "emmy run --resume o/checkpoints/step-"]);
    let reached = newest(&place.path("o")).expect("a checkpoint at the moment of the fault").0;
    assert!(reached > 500, "{reached}");
    let command = said.err.lines().find_map(|line| line.split("go on with: emmy ").nth(1)).unwrap();
    let mut arguments: Vec<&str> = command.split_whitespace().collect();
    arguments.push("--json");
    let resumed = place.emmy(&arguments).with(0).json();
    assert_eq!(resumed["state_root_end"], whole().0["state_root_end"]);
    let steps: Vec<u64> = place.log("o").iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (0..=600).map(|k| 20 * k).collect::<Vec<_>>());
}

#[test]
fn a_checkpoint_that_does_not_fit_is_reported_and_leaves_no_half_file() {
    let place = place("checkpoint-full");

    let said = with_files_up_to(8, &place, "run cluster.ron --out o").with(3);

    said.remarking(&["o/checkpoints/step-0000000000000500.ckpt", "make room"]);
    assert_eq!(fs::read_dir(place.path("o/checkpoints")).unwrap().count(), 0);
}

#[test]
fn a_folder_of_checkpoints_that_cannot_be_written_ends_the_run_with_code_3() {
    let place = place("no-folder");
    let child = place.start(&["run", "cluster.ron", "--threads", "1", "--out", "o"], 1000);
    fs::rename(place.path("o/checkpoints"), place.path("o/aside")).unwrap();
    fs::write(place.path("o/checkpoints"), "a file where a folder was").unwrap();

    Said::of(child.wait_with_output().unwrap(), "run").with(3).remarking(&["o/checkpoints", "make room"]);

    fs::remove_file(place.path("o/checkpoints")).unwrap();
    fs::rename(place.path("o/aside"), place.path("o/checkpoints")).unwrap();
    equals_the_whole(&place.emmy(&["run", "--resume", "o", "--json"]).with(0).json());
    logged_the_whole(&place);
}
