//! The command line, from outside: what it prints where, which code it ends with, and what it says about everything wrong.

mod process;

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    process::{Command, Stdio},
};

use process::{Place, Said};
use serde_json::Value;

/// Two bodies on an orbit, a test particle, and a name with blanks.
const SMALL: &str = "(version: 1, name: \"small one\", integrator: Leapfrog(dt: 0.01), until: Steps(100), bodies: [\
    (name: \"sun\", mass: 1, position: (0, 0, 0), velocity: (0, 0, 0)), \
    (name: \"planet\", mass: 1e-3, position: (1, 0, 0), velocity: (0, 1, 0)), \
    (name: \"dust\", mass: 0, inertia: 1e-6, position: (0, -2, 0), velocity: (0.7, 0, 0))], \
    expect: [EnergyDrift(below: 1e-3)])";

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn set(words: &str) -> BTreeSet<&str> {
    words.split_whitespace().collect()
}

// ------------------------------------------------------------------------------------------- what goes right

#[test]
fn a_run_writes_its_table_its_files_and_nothing_to_stderr() {
    let place = Place::new("cli-run");
    let file = place.write("small one.ron", SMALL);

    let said = place.emmy(&["run", &file, "--out", "my run"]).with(0);

    assert_eq!(said.err, "");
    for row in [
        "scenario",
        "moved by",
        "steps",
        "speed",
        "count",
        "mass",
        "momentum x",
        "momentum z",
        "|ang. momentum|",
        "energy",
        "ledger",
        "kick rounding",
        "drift rounding",
        "reaction",
        "state root",
        "held",
        "files",
    ] {
        assert!(said.out.lines().any(|line| line.trim_start().starts_with(row)), "no row `{row}` in\n{}", said.out);
    }
    let folder = place.0.join("my run");
    assert_eq!(fs::read_to_string(folder.join("scenario.ron")).unwrap(), SMALL);
    assert!(folder.join("checkpoints/step-0000000000000100.ckpt").is_file());
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["exit_reason"], "completed");
    assert_eq!(manifest["steps"], 100);
    let log = fs::read_to_string(folder.join("diagnostics.jsonl")).unwrap();
    let hash = blake3::hash(log.as_bytes()).to_string();
    assert_eq!(manifest["files_blake3"]["diagnostics.jsonl"], hash.as_str());
    let steps: Vec<u64> =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 100]);
}

#[test]
fn the_scenario_with_all_defaults_gives_the_same_run() {
    let place = Place::new("cli-used");
    let file = place.write("s.ron", SMALL);
    let first = place.emmy(&["run", &file, "--out", "a", "--json"]).with(0).json();

    let again = place.emmy(&["run", "a/scenario.used.ron", "--out", "b", "--json"]).with(0).json();

    for key in ["state_root_start", "state_root_end", "conserved", "expect"] {
        assert_eq!(first[key], again[key], "{key}");
    }
    let used = |folder: &str| fs::read_to_string(place.0.join(folder).join("scenario.used.ron")).unwrap();
    assert_eq!(used("a"), used("b"));
}

#[test]
fn without_out_a_folder_of_its_own_appears_under_runs() {
    let place = Place::new("cli-runs");
    let file = place.write("s.ron", SMALL);

    place.emmy(&["run", &file]).with(0);

    let entries: Vec<String> = fs::read_dir(place.0.join("runs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(entries.len(), 1);
    assert!(entries[0].starts_with("small_one-"), "{entries:?}");
}

#[test]
fn no_files_means_no_files() {
    let place = Place::new("cli-nofiles");
    let file = place.write("s.ron", SMALL);

    place.emmy(&["run", &file, "--no-files"]).with(0);

    let left: Vec<_> = fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["s.ron"]);
}

#[test]
fn the_keys_of_the_json_result_are_these_and_no_others() {
    let place = Place::new("cli-json");
    let file = place.write("s.ron", SMALL);

    let said = place.emmy(&["run", &file, "--no-files", "--json"]).with(0);

    assert_eq!(said.err, "");
    let result = said.json();
    let required = "schema scenario contract backend threads nodes steps time wall_seconds steps_per_second \
        pairs_per_second state_root_start state_root_end conserved expect exit_reason";
    let beyond = "isa integrator bodies breaches reversed folder device driver fell_back phases device_bytes_per_step";
    assert_eq!(keys(&result), set(&format!("{required} {beyond}")));
    let conserved = &result["conserved"];
    assert_eq!(keys(conserved), set("count mass momentum angular_momentum energy"));
    for exact in ["count", "mass", "momentum"] {
        assert_eq!(keys(&conserved[exact]), set("start end drift"), "{exact}");
    }
    for booked in ["angular_momentum", "energy"] {
        assert_eq!(keys(&conserved[booked]), set("start end drift max_relative_drift booked"), "{booked}");
        assert_eq!(keys(&conserved[booked]["booked"]).len(), 3, "{booked}");
    }
    assert_eq!(keys(&result["expect"][0]), set("index step expected found held"));
    assert_eq!(conserved["count"]["drift"], "0");
    assert_eq!(conserved["mass"]["drift"], "0");
    assert_eq!(conserved["momentum"]["drift"], serde_json::json!(["0", "0", "0"]));
    assert_eq!((&result["schema"], &result["nodes"]), (&1.into(), &1.into()));
    assert_eq!(result["scenario"], "small one");
    assert_eq!(result["contract"], "native64");
    assert_eq!(result["backend"], "cpu");
    for of_devices in ["device", "driver", "fell_back", "device_bytes_per_step"] {
        assert_eq!(result[of_devices], Value::Null, "{of_devices}");
    }
    assert_eq!(keys(&result["phases"]), set("force motion audit transfer"));
    assert_eq!(result["steps"], 100);
    assert_eq!(result["time"], 1.0);
    assert_eq!(result["exit_reason"], "completed");
    assert_eq!(result["state_root_end"].as_str().unwrap().len(), 32);
    let rates = ["steps_per_second", "pairs_per_second"].map(|key| result[key].as_f64().unwrap());
    // Two sources and a test particle: one pair and two pulls, once a step.
    assert!((rates[1] / rates[0] - 3.0).abs() < 1e-9, "{rates:?}");
}

#[test]
fn threads_and_instruction_sets_do_not_show_in_any_bit() {
    let place = Place::new("cli-bits");
    let cluster = "(version: 1, name: \"c\", integrator: Yoshida4(dt: 0.01), until: Steps(20), \
        gravity: (softening: 0.01), generators: [Plummer(count: 300, mass: 1, radius: 1, place: (seed: 5))])";
    let file = place.write("c.ron", cluster);
    let help = place.emmy(&["run", "--help"]).with(0).out.split_whitespace().collect::<Vec<_>>().join(" ");
    let names = help.split("[here: ").nth(1).and_then(|rest| rest.split(']').next()).expect("--help lists them");
    let mut ways: Vec<Vec<String>> = vec![];
    ways.extend(["1", "2", "3"].map(|n| vec!["--threads".into(), n.into()]));
    ways.extend(names.split(", ").map(|isa| vec!["--isa".into(), isa.into()]));
    assert!(ways.len() >= 5, "{ways:?}");

    let mut seen = BTreeSet::new();
    for way in &ways {
        let mut arguments = vec!["run", &file, "--no-files", "--json"];
        arguments.extend(way.iter().map(String::as_str));
        let result = place.emmy(&arguments).with(0).json();
        seen.insert(format!("{} {}", result["state_root_end"], result["conserved"]));
        let asked: Vec<&str> = way.iter().map(String::as_str).collect();
        match asked[..] {
            ["--threads", n] => assert_eq!(result["threads"].to_string(), n),
            _ => assert_eq!(result["isa"], asked[1]),
        }
    }

    assert_eq!(seen.len(), 1, "{seen:#?}");
}

#[test]
fn taken_back_a_run_is_at_its_start_again() {
    let place = Place::new("cli-reverse");
    let file = place.write("s.ron", SMALL);

    let result = place.emmy(&["run", &file, "--reverse", "--no-files", "--json"]).with(0).json();
    let table = place.emmy(&["run", &file, "--reverse", "--no-files"]).with(0).out;

    assert_eq!(result["reversed"], true);
    assert_eq!(result["state_root_end"], result["state_root_start"]);
    assert_eq!(result["steps"], 0);
    assert!(table.contains("taken back") && table.contains("to the first bit"), "{table}");
}

#[test]
fn overrides_change_what_they_name() {
    let place = Place::new("cli-set");
    let file = place.write("s.ron", SMALL);
    let run = |arguments: &[&str]| {
        let mut all = vec!["run", &file, "--no-files", "--json"];
        all.extend(arguments);
        place.emmy(&all).with(0).json()
    };
    let plain = run(&[]);

    assert_eq!(run(&["--set", "until=Steps(7)"])["steps"], 7);
    assert_eq!(run(&["--steps", "8"])["steps"], 8);
    assert_eq!(run(&["--until", "0.25"])["steps"], 25);
    assert_eq!(run(&["--set", "integrator.dt=0.02", "--until", "0.5"])["steps"], 25);
    assert_eq!(run(&["--set", "integrator=Srkn6b(dt: 0.01)"])["integrator"], "srkn6b");
    assert_eq!(run(&["--set", "name=\"other\""])["scenario"], "other");
    let heavier = run(&["--set", "bodies[1].mass = 0.002"]);
    assert_ne!(heavier["state_root_start"], plain["state_root_start"]);
    let both = run(&["--set", "until=Steps(7)", "--set", "until=Steps(9)"]);
    assert_eq!(both["steps"], 9, "the last one counts");
}

#[test]
fn a_scenario_may_come_from_standard_input() {
    let place = Place::new("cli-stdin");
    let mut child = place
        .command(&["run", "-", "--no-files", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(SMALL.as_bytes()).unwrap();

    let said = Said::of(child.wait_with_output().unwrap(), "run -").with(0);

    assert_eq!(said.json()["steps"], 100);
}

#[test]
fn check_says_what_a_run_would_take_and_takes_nothing() {
    let place = Place::new("cli-check");
    let file = place.write("s.ron", SMALL);

    let said = place.emmy(&["check", &file, "--threads", "1"]).with(0);

    assert_eq!(said.err, "");
    assert!(said.out.starts_with("s.ron: ok\n"), "{}", said.out);
    for words in
        ["3 (1 of them test particles)", "100 of 0.01, to t = 1", "300 in all", "memory      about", "on 1 thread,"]
    {
        assert!(said.out.contains(words), "`{words}` is missing in\n{}", said.out);
    }
    assert!(!place.0.join("runs").exists());
    assert_eq!(place.emmy(&["check", &file, "-q"]).with(0).out, "");
}

#[test]
fn a_new_scenario_runs_and_holds_and_is_never_overwritten() {
    let place = Place::new("cli-new");

    let said = place.emmy(&["new", "my first"]).with(0);
    assert!(said.out.contains("emmy run 'my first.ron'"), "{}", said.out);
    place.emmy(&["check", "my first.ron"]).with(0);
    place.emmy(&["run", "my first.ron", "--no-files"]).with(0);

    place.emmy(&["new", "my first"]).with(3).complaining(&["my first.ron", "never overwritten"]);
    for name in ["a/b", "", ".hidden", "nul", "a\"b", "é", &"x".repeat(200)] {
        let said = place.emmy(&["new", name]).with(2);
        assert!(said.err.contains("letters a-z") || said.err.contains("at most 100"), "{name}: {}", said.err);
    }
    assert_eq!(place.emmy(&["new", "quiet", "-q"]).with(0).out, "");
    assert_eq!(fs::read_dir(&place.0).unwrap().count(), 2);
}

#[test]
fn info_describes_scenarios_checkpoints_and_folders() {
    let place = Place::new("cli-info");
    let file = place.write("s.ron", SMALL);
    let root = place.emmy(&["run", &file, "--out", "o", "--json"]).with(0).json()["state_root_end"].clone();
    let checkpoint = "o/checkpoints/step-0000000000000100.ckpt";
    fs::copy(place.0.join(checkpoint), place.0.join("renamed.bin")).unwrap();

    let scenario = place.emmy(&["info", &file]).with(0).out;
    assert!(scenario.contains("small one") && scenario.contains("3 bodies"), "{scenario}");
    for of_run in [checkpoint, "renamed.bin", "o"] {
        let said = place.emmy(&["info", of_run]).with(0);
        assert!(said.out.contains(root.as_str().unwrap()) && said.err.is_empty(), "{of_run}: {}", said.out);
    }
    let list = place.emmy(&["info", "o/checkpoints"]).with(0).out;
    assert!(list.contains("checkpoint of step 100: good"), "{list}");
}

#[test]
fn the_demo_needs_nothing_and_takes_itself_back() {
    let place = Place::new("cli-demo");

    let said = place.emmy(&["demo"]).with(0);

    assert!(said.out.contains("to the first bit") && !said.out.contains("FAILED"), "{}", said.out);
    assert_eq!(fs::read_dir(&place.0).unwrap().count(), 0, "it writes no files");
    let quiet = place.emmy(&["demo", "-q"]).with(0);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
}

// ------------------------------------------------------------------------------------------------ on a GPU

/// Some bodies and a test particle, under a contract that a GPU can do. Long enough for sprints of several steps.
const CLUSTER: &str = "(version: 1, name: \"cluster\", contract: portable64, integrator: Yoshida4(dt: 0.01), until: Steps(60), \
    gravity: (softening: 0.05), audit: (energy_every: 7), \
    bodies: [(name: \"dust\", mass: 0, inertia: 1e-6, position: (0, -2, 0), velocity: (0.7, 0, 0))], \
    generators: [Plummer(count: 80, mass: 1, radius: 1, place: (seed: 5))], expect: [EnergyDrift(below: 1e-3)])";
/// The software device of the tests: see `tests/gpu.rs`.
const DEVICE: &str = "gpu:llvmpipe";

/// Hides every Vulkan device from a command.
fn without_devices(command: &mut Command) -> &mut Command {
    command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent")
}

/// A result but for who moved the particles, and how fast.
fn without_mover(mut result: Value) -> Value {
    let fields = result.as_object_mut().expect("an object");
    let of_mover =
        "backend device driver phases device_bytes_per_step wall_seconds steps_per_second pairs_per_second folder";
    for field in set(of_mover) {
        assert!(fields.remove(field).is_some(), "{field} is missing");
    }
    result
}

#[test]
fn the_commands_of_the_readme_for_a_gpu_are_right() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let readme = fs::read_to_string(format!("{root}/README.md")).unwrap();
    let block = readme.split("<!-- gpu-commands -->").nth(1).and_then(|rest| rest.split("```").nth(1));
    let commands: Vec<&str> = block.expect("a block").lines().filter_map(|line| line.strip_prefix("emmy ")).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    let place = Place::new("cli-readme");

    for command in commands {
        let arguments: Vec<&str> = command.split(' ').collect();
        let output = place.command(&arguments).current_dir(root).output().expect("emmy starts");
        Said::of(output, command).with(0);
    }
}

#[test]
fn a_contract_of_the_cpu_is_refused_on_a_gpu_with_the_contract_that_is_not() {
    let place = Place::new("cli-cpucontract");
    let file = place.write("s.ron", SMALL);

    for contract in ["native64", "fast32"] {
        let contract_is = format!("contract={contract}");
        for verb in ["run", "check"] {
            let said = place.emmy(&[verb, &file, "--backend", "gpu", "--set", &contract_is]).with(2);
            said.complaining(&[&format!("`{contract}` is a contract of the CPU"), "--set contract=portable64"]);
        }
    }
    assert!(!place.0.join("runs").exists(), "a refused run leaves no folder");
}

#[test]
fn a_gpu_that_is_not_here_is_code_3_with_what_is() {
    let place = Place::new("cli-nogpu");
    let file = place.write("c.ron", CLUSTER);

    for arguments in [&["run", &file, "--backend", "gpu:Voodoo"][..], &["bench", "--backend", "gpu:Voodoo"]] {
        let said = place.emmy(arguments).with(3);
        said.complaining(&["no GPU `Voodoo` here", "0: ", "llvmpipe", "emmy devices"]);
    }
    assert!(!place.0.join("runs").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn without_any_device_a_gpu_is_code_3_and_auto_takes_the_cpu_and_says_so() {
    let place = Place::new("cli-nodevice");
    let file = place.write("c.ron", CLUSTER);
    let run = |arguments: &[&str]| {
        let output = without_devices(&mut place.command(arguments)).output().expect("emmy starts");
        Said::of(output, &format!("{arguments:?}"))
    };

    run(&["run", &file, "--backend", "gpu"]).with(3).complaining(&["no GPU here", "mesa-vulkan-drivers"]);
    // A run that is long enough for a GPU to be worth looking for.
    let long = ["run", &file, "--no-files", "--json", "--steps", "1000000", "--max-wall", "0"];
    let said = run(&long).with(4);
    assert!(said.err.contains("backend: cpu (no GPU here)"), "{}", said.err);
    assert_eq!(said.json()["backend"], "cpu");
    assert_eq!(run(&[&long[..], &["-q"]].concat()).with(4).err.matches("backend").count(), 0);
    assert_eq!(run(&[&long[..], &["--backend", "cpu"]].concat()).with(4).err.matches("backend").count(), 0);
}

#[test]
fn a_software_device_is_not_taken_without_a_word() {
    let place = Place::new("cli-disguise");
    let file = place.write("c.ron", CLUSTER);

    let said = place.emmy(&["run", &file, "--no-files", "--steps", "1000000", "--max-wall", "0", "--json"]).with(4);

    // A machine may have a real one beside it.
    let taken = said.json()["device"].as_str().unwrap_or_default().to_owned();
    assert!(said.err.contains("backend: ") && !taken.contains("llvmpipe"), "{}", said.err);
}

#[test]
fn a_gpu_and_the_cpu_give_the_same_result_but_for_names_and_times() {
    let place = Place::new("cli-sameresult");
    let file = place.write("c.ron", CLUSTER);
    for contract in ["contract=portable64", "contract=portable32"] {
        for reverse in [&[][..], &["--reverse"]] {
            let run = |backend: &str| {
                let arguments = ["run", &file, "--no-files", "--json", "--set", contract, "--backend", backend];
                place.emmy(&[&arguments[..], reverse].concat()).with(0).json()
            };
            let (gpu, cpu) = (run(DEVICE), run("cpu"));

            assert_eq!((&gpu["backend"], &cpu["backend"]), (&"gpu".into(), &"cpu".into()));
            assert!(gpu["device"].as_str().is_some_and(|name| name.contains("llvmpipe")), "{gpu}");
            assert!(
                gpu["driver"].is_string() && gpu["device_bytes_per_step"].as_f64().is_some_and(|b| b > 0.0),
                "{gpu}"
            );
            assert!(gpu["phases"]["force"].as_f64().is_some_and(|seconds| seconds > 0.0), "{gpu}");
            assert_eq!(without_mover(gpu), without_mover(cpu), "{contract} {reverse:?}");
        }
    }
}

#[test]
fn the_table_and_the_manifest_name_the_gpu() {
    let place = Place::new("cli-gputable");
    let file = place.write("c.ron", CLUSTER);

    let table = place.emmy(&["run", &file, "--out", "o", "--backend", DEVICE]).with(0).out;
    let check = place.emmy(&["check", &file, "--backend", DEVICE]).with(0).out;

    let row = |name: &str| table.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
    assert!(row("moved by").contains("yoshida4, portable64, llvmpipe"), "{table}");
    assert!(row("time in").contains("force ") && row("time in").contains(" %"), "{table}");
    assert!(check.contains("on the GPU") && check.contains("on llvmpipe"), "{check}");
    let manifest: Value = serde_json::from_slice(&fs::read(place.0.join("o/manifest.json")).unwrap()).unwrap();
    assert_eq!((&manifest["backend"], &manifest["fell_back"]), (&"gpu".into(), &Value::Null));
    assert!(manifest["device"].as_str().is_some_and(|name| name.contains("llvmpipe")), "{manifest}");
}

#[test]
fn a_run_goes_on_from_a_checkpoint_of_a_gpu_on_the_cpu_and_the_other_way_round() {
    let place = Place::new("cli-crossresume");
    let file = place.write("c.ron", CLUSTER);
    let whole = place.emmy(&["run", &file, "--no-files", "--json", "--backend", "cpu"]).with(0).json();

    for (first, second) in [(DEVICE, "cpu"), ("cpu", DEVICE)] {
        let out = first.replace(':', "-");
        place.emmy(&["run", &file, "--out", &out, "--steps", "23", "--backend", first]).with(0);
        let resume = ["run", "--resume", &out, "--steps", "60", "--json", "--backend", second];
        let resumed = place.emmy(&resume).with(0).json();

        for key in ["state_root_start", "state_root_end", "conserved", "steps"] {
            assert_eq!(resumed[key], whole[key], "{first}, then {second}: {key}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_signal_during_a_run_on_a_gpu_leaves_a_checkpoint_that_the_cpu_goes_on_from() {
    let place = Place::new("cli-gpusignal");
    let file = place.write("c.ron", CLUSTER.replace("audit:", "output: (checkpoint: (steps: 20)), audit:"));
    let child = place
        .command(&["run", &file, "--out", "o", "--steps", "1000000", "--backend", DEVICE])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let checkpoints = place.0.join("o/checkpoints");
    let some = || {
        emmy::snapshot::checkpoint::list(&checkpoints).unwrap_or_default().first().is_some_and(|(step, _)| *step > 0)
    };
    for _ in 0..3000 {
        if some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let sent = Command::new("kill").arg("-INT").arg(child.id().to_string()).status();
    assert!(sent.expect("kill is there").success());
    Said::of(child.wait_with_output().unwrap(), "run").with(130);

    let (step, _) = emmy::snapshot::checkpoint::list(&checkpoints).unwrap()[0];
    let steps = (step + 10).to_string();
    let resumed = place
        .emmy(&["run", "--resume", "o", "--no-files", "--steps", &steps, "--json", "--backend", "cpu"])
        .with(0)
        .json();
    let whole =
        place.emmy(&["run", &file, "--no-files", "--steps", &steps, "--json", "--backend", "cpu"]).with(0).json();
    assert_eq!(resumed["state_root_end"], whole["state_root_end"], "after step {step}");
}

#[test]
fn a_bench_gives_the_same_roots_on_a_gpu_and_on_the_cpu() {
    let place = Place::new("cli-bench");
    let bench = |backend: &str| {
        let contracts = ["--contract", "portable64", "--contract", "portable32"];
        let arguments = ["bench", "--backend", backend, "--bodies", "256", "--seconds", "0.1", "--json"];
        place.emmy(&[&arguments[..], &contracts].concat()).with(0).json()
    };

    let (gpu, cpu) = (bench(DEVICE), bench("cpu"));

    let roots = |report: &Value| -> Vec<String> {
        let rows = report["rows"].as_array().expect("rows");
        rows.iter().map(|row| format!("{} {} {}", row["contract"], row["bodies"], row["state_root"])).collect()
    };
    assert_eq!(roots(&gpu), roots(&cpu));
    assert_eq!(roots(&gpu).len(), 2);
    assert_eq!((&gpu["machine"]["backend"], &cpu["machine"]["backend"]), (&"gpu".into(), &"cpu".into()));
    for row in gpu["rows"].as_array().unwrap() {
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {row}"));
        assert!((number("ordered_pairs_per_second") / number("unique_pairs_per_second") - 256.0 / 127.5).abs() < 1e-9);
        assert!(number("force_unique_pairs_per_second") > number("unique_pairs_per_second"), "{row}");
        assert!(number("host_microseconds") <= number("step_microseconds"), "{row}");
        assert!(number("steps") >= 1.0 && row["failed"].is_null(), "{row}");
    }
}

#[test]
fn a_bench_says_on_its_first_line_what_it_measured_and_when() {
    let place = Place::new("cli-benchtable");

    let cpu =
        place.emmy(&["bench", "--backend", "cpu", "--threads", "1", "--bodies", "64", "--seconds", "0"]).with(0).out;
    let gpu = place.emmy(&["bench", "--backend", DEVICE, "--bodies", "64", "--seconds", "0", "-q"]).with(0);

    assert!(cpu.starts_with("the CPU, ") && cpu.contains(" on 1 thread; 20"), "{cpu}");
    for contract in ["native64", "portable64", "portable32", "fast32"] {
        assert!(cpu.lines().any(|line| line.trim_start().starts_with(&format!("64  {contract}"))), "{contract}\n{cpu}");
    }
    let first = gpu.out.lines().next().unwrap_or_default();
    assert!(first.starts_with("llvmpipe") && first.contains("driver ") && first.contains(" UTC, emmy "), "{first}");
    assert!(gpu.out.contains("portable32") && !gpu.out.contains("native64"), "{}", gpu.out);
    assert!(!gpu.err.contains("measuring"), "{}", gpu.err);
}

// ---------------------------------------------------------------------------------------- streams and codes

#[test]
fn quiet_is_silent_and_still_gives_json() {
    let place = Place::new("cli-quiet");
    let file = place.write("s.ron", SMALL);

    let said = place.emmy(&["run", &file, "--no-files", "-q"]).with(0);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    let said = place.emmy(&["-q", "run", &file, "--no-files", "--json"]).with(0);
    assert_eq!((said.json()["steps"].as_u64(), said.err.as_str()), (Some(100), ""));
    place.emmy(&["run", "missing.ron", "-q"]).with(2).complaining(&["missing.ron"]);
}

#[test]
fn help_lists_every_exit_code() {
    let place = Place::new("cli-help");

    let help = place.emmy(&["--help"]).with(0);

    assert_eq!(help.err, "");
    for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "130 ", "143 "] {
        assert!(help.out.lines().any(|line| line.trim_start().starts_with(code)), "{code} is missing in\n{}", help.out);
    }
    assert!(place.emmy(&["--version"]).with(0).out.starts_with("emmy "));
}

#[test]
fn a_failed_expectation_is_code_1_and_says_what_was_found() {
    let place = Place::new("cli-expect");
    let file = place.write("s.ron", SMALL.replace("EnergyDrift(below: 1e-3)", "EnergyDrift(below: 1e-30)"));

    let said = place.emmy(&["run", &file, "--no-files"]).with(1);
    let result = place.emmy(&["run", &file, "--no-files", "--json"]).with(1).json();

    let row = said.out.lines().find(|line| line.contains("FAILED")).expect("a row that says so");
    assert!(row.contains("step 100") && row.contains("1e-30"), "{row}");
    assert_eq!(result["expect"][0]["held"], false);
    assert_eq!(result["exit_reason"], "completed");
}

#[test]
fn a_breach_is_code_1_and_names_quantity_step_and_particles() {
    let place = Place::new("cli-breach");
    let fall = "(version: 1, name: \"fall\", integrator: Leapfrog(dt: 0.01), until: Steps(10000), bodies: [\
        (name: \"left\", mass: 1, position: (-1, 0, 0), velocity: (0, 0, 0)), \
        (name: \"right\", mass: 1, position: (1, 0, 0), velocity: (0, 0, 0))])";
    let file = place.write("fall.ron", fall);
    let bounded = format!("audit: (energy_tolerance: 1e-15, energy_every: 1), {}", &SMALL[1..]);
    let strict = place.write("strict.ron", format!("({bounded}"));

    let said = place.emmy(&["run", &file, "--out", "o"]).with(1);
    assert!(said.err.contains("breach: step ") && said.err.contains("undone"), "{}", said.err);
    assert!(said.err.contains("left left the range of its position"), "{}", said.err);
    let said = place.emmy(&["run", &strict, "--no-files", "--json"]).with(1);
    assert!(said.err.contains("relative energy drift is"), "{}", said.err);
    assert_eq!(said.json()["exit_reason"], "breach");

    // It is over: going on gives the same report again, once, and writes no line twice.
    let log = || fs::read_to_string(place.0.join("o/diagnostics.jsonl")).unwrap();
    let before = log();
    let again = place.emmy(&["run", "--resume", "o"]).with(1);
    assert_eq!(again.err.matches("breach: ").count(), 1, "{}", again.err);
    assert_eq!(log(), before);
}

#[test]
fn a_folder_that_cannot_be_written_or_is_in_use_is_code_3() {
    let place = Place::new("cli-unwritable");
    let file = place.write("s.ron", SMALL);
    place.write("plain", "a file");
    fs::create_dir_all(place.0.join("used")).unwrap();
    place.write("used/precious", "data");
    fs::create_dir_all(place.0.join("empty")).unwrap();

    let remedy = "choose another folder with --out";
    place.emmy(&["run", &file, "--out", "plain/o"]).with(3).complaining(&["plain/o", remedy]);
    place.emmy(&["run", &file, "--out", "plain"]).with(3).complaining(&["plain", remedy]);
    place.emmy(&["run", &file, "--out", "used"]).with(3).complaining(&["used", "never overwritten", remedy]);
    assert_eq!(fs::read_to_string(place.0.join("used/precious")).unwrap(), "data");
    assert_eq!(fs::read_dir(place.0.join("used")).unwrap().count(), 1);
    place.emmy(&["run", &file, "--out", "empty"]).with(0);
}

#[test]
fn a_wall_time_that_is_over_is_code_4_and_names_the_command_that_resumes() {
    let place = Place::new("cli-wall");
    let file = place.write("s.ron", SMALL);
    let whole = place.emmy(&["run", &file, "--out", "whole", "--json"]).with(0).json();

    for word in ["0s", "0", "0m", "0h", "0d"] {
        let out = format!("my {word}");
        let said = place.emmy(&["run", &file, "--max-wall", word, "--out", &out, "--json"]).with(4);
        assert_eq!(said.json()["exit_reason"], "wall_time");
        assert!(said.err.contains(&format!("emmy run --resume 'my {word}'")), "{}", said.err);
    }
    let resumed = place.emmy(&["run", "--resume", "my 0s", "--json"]).with(0).json();
    for key in ["state_root_start", "state_root_end", "conserved", "expect"] {
        assert_eq!(resumed[key], whole[key], "{key}");
    }
    let said = place.emmy(&["run", &file, "--max-wall", "0s", "--no-files"]).with(4);
    assert!(said.err.contains("nothing to resume"), "{}", said.err);
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let place = Place::new("cli-pipe");
    let file = place.write("s.ron", SMALL);
    place.emmy(&["run", &file, "--out", "o"]).with(0);
    let emmy = env!("CARGO_BIN_EXE_emmy");
    for line in [
        "run s.ron --no-files",
        "run s.ron --no-files --json",
        "check s.ron",
        "info s.ron",
        "info o",
        "new fresh",
        "demo",
        "--help",
        "run --help",
        "run missing.ron",
        "run s.ron --set bodies[0].mass=-1 --no-files",
        "run s.ron --max-wall 0 --out p",
        "frobnicate",
    ] {
        // Both streams end at a process that does not read; the code comes by a file.
        let script = format!("( '{emmy}' {line}; echo $? > code ) 2>&1 | true");
        for wait in ["", "sleep 0.2; "] {
            let script = script.replacen("( ", &format!("( {wait}"), 1);
            let _ = fs::remove_dir_all(place.0.join("p"));
            let _ = fs::remove_file(place.0.join("fresh.ron"));
            Command::new("sh").arg("-c").arg(&script).current_dir(&place.0).status().expect("a shell");
            // The subshell may outlive the pipe.
            let code = (0..200)
                .find_map(|_| {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    fs::read_to_string(place.0.join("code")).ok().filter(|text| text.ends_with('\n'))
                })
                .unwrap_or_else(|| panic!("{line}: no code"));
            assert_ne!(code.trim(), "101", "{line}");
            fs::remove_file(place.0.join("code")).unwrap();
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_standard_output_is_code_3() {
    let place = Place::new("cli-full");
    let file = place.write("s.ron", SMALL);
    for arguments in [&["check", &file][..], &["run", &file, "--no-files", "--json"], &["info", &file]] {
        let full = fs::File::create("/dev/full").unwrap();
        let output = place.command(arguments).stdout(full).output().unwrap();
        Said::of(output, "to /dev/full").with(3).complaining(&["standard output", "make room"]);
    }
}

// ----------------------------------------------------------------------------------------- what goes wrong

/// Every verb that reads a scenario refuses it, with the same words.
fn refused(place: &Place, file: &str, words: &[&str]) {
    for verb in ["run", "check", "info"] {
        place.emmy(&[verb, file]).with(2).complaining(words);
    }
    assert!(!place.0.join("runs").exists(), "a refused scenario leaves no folder");
}

#[test]
fn files_that_are_no_scenarios_are_refused_with_the_reason() {
    let place = Place::new("cli-files");
    fs::create_dir_all(place.0.join("folder")).unwrap();
    place.write("latin.ron", b"(version: 1, name: \"caf\xe9\")");
    place.write("empty.ron", "");
    place.write("binary.ron", [0_u8, 159, 146, 150]);

    refused(&place, "missing.ron", &["missing.ron: there is no such file", "emmy new NAME"]);
    for verb in ["run", "check"] {
        place.emmy(&[verb, "folder"]).with(2).complaining(&["folder: this is a directory, not a scenario file"]);
    }
    refused(&place, "latin.ron", &["latin.ron: not UTF-8", "offset 23"]);
    refused(&place, "empty.ron", &["empty.ron:1:1", "the file is empty"]);
    refused(&place, "binary.ron", &["binary.ron: not UTF-8", "offset 1"]);
    place.emmy(&["run"]).with(2).complaining(&["no scenario file", "emmy new NAME"]);
    place.emmy(&["check"]).with(2).complaining(&["no scenario file"]);
    place.emmy(&["info", "folder"]).with(2).complaining(&["folder/manifest.json", "folder of a run"]);
}

#[cfg(unix)]
#[test]
fn an_argument_that_is_not_unicode_is_no_panic() {
    use std::os::unix::ffi::OsStrExt;

    let place = Place::new("cli-unicode");
    let odd = std::ffi::OsStr::from_bytes(b"odd\xff.ron");
    fs::write(place.0.join(odd), SMALL).unwrap();
    for verb in ["run", "check", "info"] {
        Said::of(place.command(&[verb]).arg(odd).output().unwrap(), verb).with(0);
    }
    Said::of(place.command(&["new"]).arg(odd).output().unwrap(), "new").with(2);
}

#[test]
fn everything_wrong_in_a_scenario_is_shown_with_place_value_and_remedy() {
    let place = Place::new("cli-faults");
    let near = |what: &str, with: &str| SMALL.replacen(what, with, 1);
    let cases: &[(String, &[&str])] = &[
        (near("until:", "untill:"), &["untill", "did you mean `until`?"]),
        (near("velocity: (0, 1, 0)", "velocty: (0, 1, 0)"), &["velocty", "did you mean `velocity`?"]),
        (near("version: 1", "version: 7"), &["version 1", "version 7", "use a program that reads it"]),
        (near("version: 1, ", ""), &["version"]),
        (near("mass: 1e-3", "mass: -0.25"), &["`mass` is -0.25", "zero or above"]),
        (near("dt: 0.01", "dt: 0.0"), &["`dt` is 0", "above zero"]),
        (near("dt: 0.01", "dt: -3.5"), &["`dt` is -3.5", "above zero"]),
        (near("dt: 0.01", "dt: NaN"), &["`dt` is NaN"]),
        (
            near("position: (1, 0, 0)", "position: (0, 0, 0)"),
            &["bodies[0] and bodies[1] are both at (0, 0, 0)", "softening"],
        ),
        (
            near("until:", "quanta: Given(position: -100, momentum: -50, mass: -50), until:"),
            &["range too small for the quanta", "position", "2^-100", "Auto(headroom: 32)"],
        ),
        (near("Leapfrog", "Leapfrgo"), &["Leapfrgo", "did you mean `Leapfrog`?"]),
        (near("Leapfrog", "Yoshida"), &["Yoshida", "did you mean `Yoshida4`?"]),
        (near("small one", "a/b"), &["a/b", "letters a-z"]),
        (near("Steps(100)", "Steps(0)"), &["0 steps", "at least 1"]),
        (near("Steps(100)", "Steps(100"), &["s.ron:1:"]),
    ];
    for (text, words) in cases {
        let file = place.write("s.ron", text);
        for verb in ["run", "check"] {
            let mut all = vec!["s.ron"];
            all.extend(*words);
            place.emmy(&[verb, &file]).with(2).complaining(&all);
        }
    }
    assert!(!place.0.join("runs").exists(), "a refused scenario leaves no folder");
}

#[test]
fn several_faults_are_reported_at_once() {
    let place = Place::new("cli-several");
    let text = SMALL.replacen("mass: 1e-3", "mass: -1", 1).replacen("dt: 0.01", "dt: -2", 1).replacen("100", "0", 1);
    let file = place.write("s.ron", text);

    refused(&place, &file, &["s.ron has 3 faults", "`mass` is -1", "`dt` is -2", "0 steps"]);
}

#[test]
fn a_wrong_command_line_is_code_2_and_says_what_would_be_right() {
    let place = Place::new("cli-usage");
    let file = place.write("s.ron", SMALL);
    let isa = place.emmy(&["run", &file, "--isa", "avx9000"]).with(2);
    assert!(isa.err.contains("avx9000") && isa.err.contains("scalar"), "{}", isa.err);
    let cases: &[(&[&str], &[&str])] = &[
        (&[], &["Usage", "run"]),
        (&["frobnicate"], &["frobnicate"]),
        (&["chek", "s.ron"], &["chek", "check"]),
        (&["run", "s.ron", "--frob"], &["--frob"]),
        (&["run", "s.ron", "--set", "until"], &["until", "PATH=VALUE"]),
        (&["run", "s.ron", "--set", "untl=Steps(1)"], &["untl", "did you mean"]),
        (&["run", "s.ron", "--set", "bodies[9].mass=1"], &["--set bodies[9].mass=1"]),
        (&["run", "s.ron", "--set", "bodies[1].mass=-1"], &["`mass` is -1", "--set bodies[1].mass=-1"]),
        (&["run", "s.ron", "--set", "until=("], &["--set until=("]),
        (&["run", "s.ron", "--set", "=1"], &["--set =1"]),
        (&["run", "s.ron", "--backend", "cuda"], &["cuda", "auto, cpu, gpu", "emmy devices"]),
        (&["run", "s.ron", "--backend", "gpu:"], &["after `gpu:` comes part of a name"]),
        (&["bench", "--bodies", "1"], &["--bodies", "2"]),
        (&["bench", "--contract", "native32"], &["native32", "native64, portable64, portable32, fast32"]),
        (
            &["bench", "--backend", "gpu", "--contract", "native64"],
            &["`native64` is a contract of the CPU", "portable64"],
        ),
        (&["run", "s.ron", "--threads", "0"], &["--threads", "1"]),
        (&["run", "s.ron", "--threads", "many"], &["many", "--threads"]),
        (&["run", "s.ron", "--steps", "-4"], &["-4"]),
        (&["run", "s.ron", "--steps", "0"], &["0 steps"]),
        (&["run", "s.ron", "--until", "-4"], &["-4", "above zero"]),
        (&["run", "s.ron", "--until", "nan"], &["NaN", "above zero"]),
        (&["run", "s.ron", "--steps", "4", "--until", "4"], &["--steps", "--until"]),
        (&["run", "s.ron", "--max-wall", "soon"], &["soon", "90s"]),
        (&["run", "s.ron", "--max-wall", "5y"], &["5y", "90s"]),
        (&["run", "s.ron", "--max-wall", "5ms"], &["ms", "s, m, h or d"]),
        (&["run", "s.ron", "--max-wall", "nan"], &["nan"]),
        (&["run", "s.ron", "--max-wall", ""], &["duration"]),
        (&["run", "s.ron", "--out", "a", "--no-files"], &["--out", "--no-files"]),
        (&["run", "s.ron", "-q", "-v"], &["--quiet", "--verbose"]),
        (&["run", "s.ron", "--resume", "o"], &["o"]),
        (&["run", "--resume", "s.ron"], &["s.ron is not a checkpoint", "there is no good checkpoint beside it"]),
        (&["run", "--resume", "nowhere"], &["nowhere"]),
        (&["run", "--resume", "."], &["holds no checkpoint", "from the start"]),
        (&["new"], &["NAME"]),
        (&["info"], &["FILE"]),
    ];
    for (arguments, words) in cases {
        place.emmy(arguments).with(2).complaining(words);
    }
    assert!(!place.0.join("runs").exists() && !place.0.join("a").exists());
}

#[test]
fn a_run_of_seconds_is_never_silent_for_long() {
    let place = Place::new("cli-progress");
    let cluster = "(version: 1, name: \"c\", integrator: Leapfrog(dt: 1e-6), until: Steps(1000000000), \
        gravity: (softening: 0.01), generators: [Plummer(count: 64, mass: 1, radius: 1)])";
    let file = place.write("c.ron", cluster);

    let said = place.emmy(&["run", &file, "--no-files", "--max-wall", "11s", "--threads", "1"]).with(4);

    let lines: Vec<&str> = said.err.lines().filter(|line| line.starts_with("step ")).collect();
    assert_eq!(lines.len(), 1, "{}", said.err);
    for word in [" of 1000000000, ", " left, ", "t = ", "steps/s", "pairs/s", "dE/E"] {
        assert!(lines[0].contains(word), "`{word}` is missing in: {}", lines[0]);
    }
}
