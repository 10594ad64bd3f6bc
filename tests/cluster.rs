//! Runs on many nodes, with real processes and sockets: the result of one node, whoever is killed, and clear words for who may not take part.
//!
//! `EMMY_KILLS=50` kills more often; `--nocapture` shows how long the others took to go on.

mod process;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use emmy::{audit_log, metrics::Stopwatch, security::keys::SecretKey};
use process::{EMMY, Place};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn emmy(arguments: &[&str]) -> Output {
    Command::new(EMMY).args(arguments).current_dir(ROOT).stdin(Stdio::null()).output().expect("emmy starts")
}

fn result(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// What must be the same whoever computed it.
fn assert_same(one: &serde_json::Value, many: &serde_json::Value, what: &str) {
    for key in [
        "state_root_start",
        "state_root_end",
        "steps",
        "time",
        "bodies",
        "conserved",
        "expect",
        "breaches",
        "exit_reason",
    ] {
        assert_eq!(one[key], many[key], "{what}: {key}");
    }
}

fn scenario(name: &str) -> String {
    format!("{ROOT}/scenarios/{name}.ron")
}

#[test]
fn a_cluster_of_processes_gives_the_result_of_one() {
    for (name, steps, nodes) in
        [("plummer_1k", "80", "3"), ("outer_solar_system", "400", "2"), ("figure_eight", "200", "5")]
    {
        let scenario = scenario(name);
        let common = [scenario.as_str(), "--steps", steps, "--set", "expect=[]", "--no-files", "--json", "-q"];
        let one = result(&emmy(&[&["run"], &common[..]].concat()));
        let many = result(&emmy(&[&["cluster", "run", "--nodes", nodes], &common[..]].concat()));
        assert_same(&one, &many, name);
        assert_eq!(many["nodes"].to_string(), nodes);
    }
}

/// A block of commands of the README.
fn readme(marker: &str) -> Vec<String> {
    let readme = fs::read_to_string(format!("{ROOT}/README.md")).expect("a README");
    let block = readme.split(marker).nth(1).and_then(|rest| rest.split("```").nth(1)).expect("a block");
    block.lines().filter(|line| line.starts_with("emmy ")).map(str::to_owned).collect()
}

#[test]
fn the_commands_of_the_readme_for_several_nodes_are_right() {
    for command in readme("<!-- cluster-command -->") {
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        let output = emmy(&[&arguments[..], &["--no-files", "-q"]].concat());
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let folder = Place::new("cluster-readme");
    for command in readme("<!-- server-commands -->") {
        let shell = command.replacen("emmy", &format!("'{EMMY}'"), 1);
        let done = Command::new("sh").args(["-ec", &shell]).current_dir(&folder.0).status().expect("a shell");
        assert!(done.success(), "{command}");
    }
    let trusted = emmy::security::trust::read(&folder.0.join("trust")).expect("a trust file");
    assert_eq!(trusted.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["server-1", "server-2", "server-3", "me"]);
}

#[test]
fn files_of_a_cluster_run_are_those_of_a_run_and_it_is_resumed_on_another_number_of_nodes() {
    let folder = Place::new("cluster-files");
    let (out, scenario) = (folder.file("run"), scenario("plummer_1k"));
    let first = emmy(&["cluster", "run", &scenario, "--nodes", "2", "--steps", "40", "--out", &out, "--json", "-q"]);
    result(&first);
    for name in ["scenario.ron", "scenario.used.ron", "diagnostics.jsonl", "manifest.json", "checkpoints"] {
        assert!(Path::new(&out).join(name).exists(), "{name}");
    }
    let on = emmy(&["cluster", "run", "--resume", &out, "--steps", "70", "--nodes", "3", "--no-files", "--json", "-q"]);
    let one = result(&emmy(&["run", &scenario, "--steps", "70", "--no-files", "--json", "-q"]));
    assert_eq!(result(&on)["state_root_end"], one["state_root_end"]);
}

/// A cluster run whose servers' processes are known.
struct Started {
    child: Child,
    servers: Vec<u32>,
    /// What it has said so far.
    said: Arc<Mutex<String>>,
    stderr: thread::JoinHandle<()>,
}

impl Started {
    /// Waits until it has said something, after something else; at most a minute.
    fn wait_for(&self, before: &str, what: &str) {
        let watch = Stopwatch::start();
        loop {
            let said = self.said.lock().expect("nobody panicked").clone();
            if said.split_once(before).is_some_and(|(_, rest)| rest.contains(what)) {
                return;
            }
            assert!(watch.seconds() < 60.0, "no `{what}` after `{before}`: {said}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it printed, and what it said, when it has ended.
    fn end(self) -> (Output, String) {
        let output = self.child.wait_with_output().expect("it ends");
        self.stderr.join().expect("text");
        let said = self.said.lock().expect("nobody panicked").clone();
        (output, said)
    }
}

/// Starts a run on nodes of this machine and comes back when it has begun.
fn start(arguments: &[&str]) -> Started {
    let mut command = Command::new(EMMY);
    command.args(arguments).args(["-v"]).current_dir(ROOT);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("emmy starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it was asked for"));
    let (mut servers, mut seen) = (Vec::new(), String::new());
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).expect("text") > 0, "the run ended before it began: {seen}");
        let process: Option<u32> = line.split("process ").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
        servers.extend(process);
        seen.push_str(&line);
        if line.contains("quanta: ") {
            break;
        }
    }
    let said = Arc::new(Mutex::new(seen));
    let shared = Arc::clone(&said);
    let stderr = thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            let mut said = shared.lock().expect("nobody panicked");
            said.push_str(&line);
            said.push('\n');
        }
    });
    Started { child, servers, said, stderr }
}

fn now_utc() -> String {
    let date = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%6NZ"]).output().expect("date");
    String::from_utf8(date.stdout).expect("text").trim().to_owned()
}

/// Seconds of the day of a time stamp.
fn seconds(utc: &str) -> f64 {
    let part = |from: usize, to: usize| utc[from..to].parse::<f64>().expect("a number");
    3600.0 * part(11, 13) + 60.0 * part(14, 16) + utc[17..utc.len() - 1].parse::<f64>().expect("a number")
}

#[test]
fn a_run_ends_as_it_would_have_ended_whoever_is_killed() {
    let kills: u64 = std::env::var("EMMY_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let scenario = scenario("plummer_1k");
    let common = [scenario.as_str(), "--steps", "1500", "--no-files", "--json"];
    let one = result(&emmy(&[&["run", "-q"], &common[..]].concat()));
    for kill in 0..kills {
        let folder = Place::new(&format!("cluster-kill-{kill}"));
        let log = folder.file("log");
        let started = start(&[&["cluster", "run", "--nodes", "4", "--log", &log], &common[..]].concat());
        let victim = (2 * kill % 4 + kill / 2 % 2) as usize;
        // A moment that differs from time to time.
        thread::sleep(Duration::from_millis(100 + 137 * kill % 1500));
        let killed_at = now_utc();
        let killed = Command::new("kill").args(["-9", &started.servers[victim].to_string()]).status().expect("kill");
        let watch = Stopwatch::start();
        let (output, stderr) = started.end();
        let many: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("node {victim} killed: {error}: {stderr}"));
        assert_same(&one, &many, &format!("node {victim} killed"));
        assert!(killed.success(), "the run was over before node {victim} could be killed");
        let took = check_logs(&folder.0.join("log"), victim, &killed_at);
        assert!(took.is_finite(), "an epoch without node {victim} began: {stderr}");
        let logs = whole_logs(&folder, "log");
        (0..4)
            .for_each(|node| assert!(node == victim || held_to_the_others(&logs, node) > 0, "nobody witnessed {node}"));
        a_log_that_is_cut_off_is_refused(&folder, &logs, (victim + 1) % 4);
        println!(
            "node {victim} killed: the others went on after {took:.2} s, the run ended {:.2} s later",
            watch.seconds()
        );
    }
}

/// Every log verifies, but for the end of the killed node's; how long it took until an epoch began without that node [s].
fn check_logs(folder: &Path, victim: usize, killed_at: &str) -> f64 {
    let mut took = f64::NAN;
    let mut logs = 0;
    for entry in fs::read_dir(folder).expect("logs") {
        let path = entry.expect("a log").path();
        let bytes = fs::read(&path).expect("a log");
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let checked = audit_log::verify(&path, &bytes[..whole], None).unwrap_or_else(|error| panic!("{error}"));
        logs += 1;
        assert!(checked.signatures > 0, "{}", path.display());
        for line in String::from_utf8_lossy(&bytes[..whole]).lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let epoch = &line["event"]["epoch"];
            let members = epoch["members"].as_array().map(Vec::as_slice).unwrap_or_default();
            let without = epoch["epoch"].as_u64() > Some(1) && !members.contains(&victim.into());
            if without {
                took = took.min(seconds(line["utc"].as_str().expect("text")) - seconds(killed_at));
            }
        }
    }
    assert_eq!(logs, 4, "each node writes one");
    took
}

/// The logs of all nodes up to their last whole lines: whoever was killed may have been writing.
fn whole_logs(folder: &Place, from: &str) -> Vec<PathBuf> {
    let mut logs: Vec<PathBuf> =
        fs::read_dir(folder.0.join(from)).expect("logs").map(|entry| entry.expect("a log").path()).collect();
    logs.sort();
    for path in &mut logs {
        let bytes = fs::read(&*path).expect("a log");
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        *path = folder.0.join(path.file_name().expect("a file"));
        fs::write(&*path, &bytes[..whole]).expect("a copy");
    }
    logs
}

/// Verifies the log of a node with those of all others: the last line that they have witnessed.
fn held_to_the_others(logs: &[PathBuf], node: usize) -> u64 {
    let names: Vec<&str> = logs.iter().map(|path| path.to_str().expect("a name")).collect();
    let others = names.iter().enumerate().filter(|(other, _)| *other != node).map(|(_, name)| *name);
    let arguments: Vec<&str> = ["audit", "verify", "--json", names[node], "--with"].into_iter().chain(others).collect();
    result(&emmy(&arguments))["witnessed_up_to"].as_u64().expect("a number")
}

/// Its owner cuts off what the others have witnessed: by itself the log is what was written.
fn a_log_that_is_cut_off_is_refused(folder: &Place, logs: &[PathBuf], node: usize) {
    let up_to = held_to_the_others(logs, node) as usize;
    let bytes = fs::read(&logs[node]).expect("a log");
    let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').take(up_to - 1).collect();
    let cut = folder.file("cut.jsonl");
    fs::write(&cut, lines.concat()).expect("a file");
    assert!(emmy(&["audit", "verify", &cut]).status.success());
    let others: Vec<&str> = logs.iter().map(|path| path.to_str().expect("a name")).collect();
    let refused = emmy(&[&["audit", "verify", cut.as_str(), "--with"], &others[..]].concat());
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("line {}: the log ends here, and its line", up_to - 1)), "{told}");
}

#[test]
fn servers_by_hand_take_part_in_several_runs_and_say_how_they_are() {
    let folder = Place::new("cluster-servers");
    let secrets = keys(&folder, 3);
    let mut servers = Vec::new();
    let mut list = String::from("# key, address\n");
    for k in 0..2 {
        let (server, address) = serve(&folder, &format!("{k}.key"), &[]);
        servers.push(server);
        list.push_str(&format!("{} {address}\n", secrets[k].public()));
    }
    fs::write(folder.file("nodes"), list).expect("a file");
    let (nodes, key, scenario) = (folder.file("nodes"), folder.file("2.key"), scenario("figure_eight"));
    let common = [scenario.as_str(), "--steps", "100", "--set", "expect=[]", "--no-files", "--json", "-q"];
    let one = result(&emmy(&[&["run"], &common[..]].concat()));

    for _ in 0..2 {
        let many = result(&emmy(&[&["cluster", "run", "--nodes", &nodes, "--key", &key], &common[..]].concat()));
        assert_same(&one, &many, "servers by hand");
    }
    let status = emmy(&["cluster", "status", "--nodes", &nodes, "--key", &key]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.status.success(), "{text}");
    assert_eq!(text.matches("\"runs\":2").count(), 2, "{text}");

    // A stranger is not heard, and is told so.
    SecretKey::generate().expect("random numbers").write_new(&folder.0.join("stranger.key")).expect("a new file");
    let stranger = folder.file("stranger.key");
    let refused = emmy(&["cluster", "status", "--nodes", &nodes, "--key", &stranger]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("2 of 2 servers did not answer"), "{told}");
    for mut server in servers {
        server.kill().expect("it runs");
        server.wait().expect("it ends");
    }
}

/// So many secret keys in `0.key`, `1.key`, …, and a trust file with all of them.
fn keys(folder: &Place, count: usize) -> Vec<SecretKey> {
    let secrets: Vec<SecretKey> = (0..count).map(|_| SecretKey::generate().expect("random numbers")).collect();
    for (k, secret) in secrets.iter().enumerate() {
        secret.write_new(&folder.path(&format!("{k}.key"))).expect("a new file");
    }
    let trust: String = secrets.iter().map(|secret| format!("{}  a friend\n", secret.public())).collect();
    folder.write("trust", trust);
    secrets
}

/// A server and where it listens.
fn serve(folder: &Place, key: &str, more: &[&str]) -> (Child, String) {
    serve_at(folder, key, "127.0.0.1:0", more)
}

fn serve_at(folder: &Place, key: &str, at: &str, more: &[&str]) -> (Child, String) {
    let mut command = Command::new(EMMY);
    command.args(["serve", "-q", "--threads", "1", "--listen", at, "--key", &folder.file(key)]);
    command.args(["--trust", &folder.file("trust")]).args(more).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("emmy starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it was asked for")).read_line(&mut line).expect("text");
    let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("`{line}`")).to_owned();
    (child, address)
}

#[test]
fn a_server_that_is_killed_and_started_again_is_taken_in_again() {
    let folder = Place::new("cluster-again");
    let secrets = keys(&folder, 4);
    let log = folder.file("log");
    let mut servers: Vec<(Child, String)> =
        (0..3).map(|k| serve(&folder, &format!("{k}.key"), &["--log", &log])).collect();
    let nodes: Vec<String> =
        servers.iter().zip(&secrets).map(|((_, address), secret)| format!("{}@{address}", secret.public())).collect();
    let (nodes, key, scenario) = (nodes.join(","), folder.file("3.key"), scenario("plummer_1k"));
    let common = [scenario.as_str(), "--set", "expect=[]", "--no-files", "--json"];
    let started =
        start(&[&["cluster", "run", "--steps", "1000000", "--nodes", &nodes, "--key", &key], &common[..]].concat());
    thread::sleep(Duration::from_millis(300));
    let (mut victim, address) = servers.remove(1);
    victim.kill().expect("it runs");
    victim.wait().expect("it ends");
    servers.insert(1, serve_at(&folder, "1.key", &address, &["--log", &log]));

    started.wait_for("nodes 0, 2, ", "nodes 0, 1, 2, ");
    let interrupted = Command::new("kill").args(["-INT", &started.child.id().to_string()]).status().expect("kill");
    assert!(interrupted.success());
    let (output, stderr) = started.end();
    let many: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    assert_eq!(many["exit_reason"], "interrupted");
    let steps = many["steps"].to_string();
    let one = result(&emmy(&[&["run", "-q", "--steps", &steps], &common[..]].concat()));
    assert_eq!(many["state_root_end"], one["state_root_end"], "after {steps} steps");
    for (mut server, _) in servers {
        let asked = Command::new("kill").args(["-TERM", &server.id().to_string()]).status().expect("kill");
        assert!(asked.success() && server.wait().expect("it ends").success());
    }
    // It went on with the log that it had, and the others have witnessed that.
    let logs = whole_logs(&folder, "log");
    let log = fs::read_to_string(&logs[1]).expect("a log");
    assert_eq!((logs.len(), log.matches("\"resumed\"").count()), (3, 1), "{log}");
    let resumed = log.lines().position(|line| line.contains("\"resumed\"")).expect("it was counted");
    assert!(held_to_the_others(&logs, 1) > resumed as u64 + 1, "{log}");
}

#[test]
fn who_is_too_few_decides_nothing_and_the_client_says_so_and_leaves() {
    for victim in 0..2 {
        let scenario = scenario("plummer_1k");
        let common = [scenario.as_str(), "--steps", "100000", "--set", "expect=[]", "--no-files", "--json"];
        let started = start(&[&["cluster", "run", "--nodes", "2", "--silence", "2s"], &common[..]].concat());
        thread::sleep(Duration::from_millis(300));
        let killed = Command::new("kill").args(["-9", &started.servers[victim].to_string()]).status().expect("kill");
        assert!(killed.success());
        let (output, stderr) = started.end();
        assert_eq!(output.status.code(), Some(3), "node {victim} of 2 killed: {stderr}");
        assert!(stderr.contains("too few nodes are there to decide anything"), "{stderr}");
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        assert_eq!(result["exit_reason"], "cluster_lost");
    }
}

#[test]
fn a_server_that_is_let_go_on_alone_ends_the_run_in_a_branch_of_its_own() {
    let folder = Place::new("cluster-alone");
    let secrets = keys(&folder, 4);
    let mut servers: Vec<(Child, String)> = (0..2).map(|k| serve(&folder, &format!("{k}.key"), &["--once"])).collect();
    let nodes: Vec<String> =
        servers.iter().zip(&secrets).map(|((_, address), secret)| format!("{}@{address}", secret.public())).collect();
    let (key, operator, scenario) = (folder.file("2.key"), folder.file("3.key"), scenario("plummer_1k"));
    let common = [scenario.as_str(), "--steps", "3000", "--set", "expect=[]", "--no-files", "--json"];
    let started = start(&[&["cluster", "run", "--nodes", &nodes.join(","), "--key", &key], &common[..]].concat());
    thread::sleep(Duration::from_millis(300));
    servers[1].0.kill().expect("it runs");
    servers[1].0.wait().expect("it ends");

    let alone = emmy(&["cluster", "alone", "--nodes", &nodes[0], "--key", &operator]);
    let said = String::from_utf8_lossy(&alone.stdout).into_owned();
    assert!(alone.status.success() && said.contains("node 0 goes on alone from step"), "{alone:?}");
    let (output, stderr) = started.end();
    let many: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    let one = result(&emmy(&[&["run", "-q"], &common[..]].concat()));
    assert_same(&one, &many, "one of two, alone");
    assert!(many["branch"].as_u64() > Some(0) && one["branch"].is_null(), "{many}");
    servers[0].0.wait().expect("it was there for one run");
    let over = emmy(&["cluster", "alone", "--nodes", &nodes[0], "--key", &operator]);
    assert_eq!(over.status.code(), Some(1), "nobody is there any more");
}

#[test]
fn random_bytes_do_not_disturb_a_server() {
    let folder = Place::new("cluster-noise");
    let secrets: Vec<SecretKey> = (0..2).map(|_| SecretKey::generate().expect("random numbers")).collect();
    for (k, secret) in secrets.iter().enumerate() {
        secret.write_new(&folder.0.join(format!("{k}.key"))).expect("a new file");
    }
    fs::write(folder.file("trust"), format!("{}\n", secrets[1].public())).expect("a file");
    let (mut server, address) = serve(&folder, "0.key", &["--once"]);
    let noise = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut seed = 1_u64;
    for k in 0..20_000_usize {
        let bytes: Vec<u8> = (0..k % 1400)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed as u8
            })
            .collect();
        let _ = noise.send_to(&bytes, &address);
    }
    let nodes = format!("{}@{address}", secrets[0].public());
    let (key, scenario) = (folder.file("1.key"), scenario("figure_eight"));
    let common = [scenario.as_str(), "--steps", "50", "--set", "expect=[]", "--no-files", "--json", "-q"];
    let many = result(&emmy(&[&["cluster", "run", "--nodes", &nodes, "--key", &key], &common[..]].concat()));
    assert_same(&result(&emmy(&[&["run"], &common[..]].concat())), &many, "after noise");
    assert!(server.wait().expect("it ends").success(), "--once: it leaves after one run");
}

#[test]
fn what_is_wrong_is_told_with_its_remedy_before_anything_is_started() {
    let folder = Place::new("cluster-wrong");
    let (scenario, secret) = (scenario("figure_eight"), SecretKey::generate().expect("random numbers"));
    let key = folder.file("a.key");
    secret.write_new(Path::new(&key)).expect("a new file");
    fs::write(folder.file("trust"), "").expect("a file");
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let taken = taken.local_addr().expect("an address").to_string();
    let nobody = format!("{}@127.0.0.1:9", secret.public());
    let (missing, trust, bad) = (folder.file("none.key"), folder.file("trust"), folder.file("bad"));
    fs::write(&bad, "emmy-key-1:12 127.0.0.1:1\n").expect("a file");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["cluster", "run", &scenario, "--nodes", "0"], 2, "from 1 to 64"),
        (&["cluster", "run", &scenario, "--nodes", "99"], 2, "from 1 to 64"),
        (&["cluster", "run", &scenario, "--nodes", "nonsense", "--key", &key], 2, "KEY@ADDRESS"),
        (&["cluster", "run", &scenario, "--nodes", &nobody], 2, "--key is missing"),
        (&["cluster", "run", &scenario, "--nodes", &nobody, "--key", &missing], 2, "emmy keygen"),
        (&["cluster", "run", &scenario, "--nodes", &bad, "--key", &key], 2, "64 hexadecimal digits"),
        (&["cluster", "run", "no.ron", "--nodes", "2"], 2, "no.ron"),
        (&["cluster", "run", &scenario, "--nodes", "2", "--backend", "gpu"], 2, "CPU only"),
        (&["serve", "--key", &missing, "--trust", &trust], 2, "emmy keygen"),
        (&["serve", "--key", &key, "--trust", &missing], 2, "none.key"),
        (&["serve", "--key", &key, "--trust", &trust, "--listen", "here"], 2, "no address with a port"),
        (&["serve", "--key", &key, "--trust", &trust, "--listen", &taken], 3, "choose another port"),
    ];
    for (arguments, code, told) in cases {
        let output = emmy(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(told), "{arguments:?}: {stderr}");
    }
}
