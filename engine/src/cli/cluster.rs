//! `emmy cluster`: runs on many nodes, as their client.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::{Args, Subcommand};

use super::{BackendArgs, Exit, ScenarioArgs, Talk, backend, complain, remark, run, serve, tell};
use crate::{
    metrics::Stopwatch,
    residence::OnLoss,
    run::{Run, engine::Engine},
    security::{keys::SecretKey, trust},
    server::launch::{self, Address, LaunchError},
};

/// Nodes of one machine, at most.
const LOCAL_MAX: u16 = 64;
/// Silence after which a run is given up [s], unless the user says otherwise.
const SILENCE_SECONDS: f64 = 60.0;

/// `emmy cluster`
#[derive(Clone, Debug, Args)]
pub(super) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum ClusterCommand {
    /// Run a scenario on several nodes; the bits of the result are those of `emmy run`.
    Run(Box<ClusterRunArgs>),
    /// Ask servers how they are.
    Status(StatusArgs),
    /// Let one server go on without the others, when too few are left to decide anything.
    ///
    /// What it does then is another branch of the run: should the others be alive after all, the two never hear each other.
    Alone(StatusArgs),
}

#[derive(Clone, Debug, Args)]
struct ClusterRunArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// A number: so many servers are started on this machine for this run. Or servers that are there: a file with a public key and an
    /// address in each line, or `KEY@ADDRESS,KEY@ADDRESS`.
    #[arg(long, value_name = "N|LIST|FILE")]
    nodes: String,
    /// Secret key of this client, where the servers are there already; they must trust it.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Folder of this run; it must not be there yet. Without it: runs/<name>-<utc>-<hash>.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write no files at all.
    #[arg(long, conflicts_with = "out")]
    no_files: bool,
    /// Folder for the audit logs of servers that are started here.
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// Go on from a checkpoint, or from the newest good one of the folder of a run.
    #[arg(long, value_name = "CHECKPOINT|DIR")]
    resume: Option<PathBuf>,
    /// Checkpoint and leave with code 4 after so much wall time, as in `2h` or `90s`.
    #[arg(long, value_name = "DURATION", value_parser = run::parse_seconds)]
    max_wall: Option<f64>,
    /// Give the run up, with a checkpoint of the last state that is here, after so much silence: too few nodes are there then.
    #[arg(long, value_name = "DURATION", value_parser = run::parse_seconds)]
    silence: Option<f64>,
    /// One JSON object on standard output instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, Args)]
struct StatusArgs {
    /// The servers: a file with a public key and an address in each line, or `KEY@ADDRESS,KEY@ADDRESS`.
    #[arg(long, value_name = "LIST|FILE")]
    nodes: String,
    /// Secret key of this client; the servers must trust it.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// Runs it.
pub(super) fn cluster(args: &ClusterArgs, talk: &Talk) -> Exit {
    let done = match &args.command {
        ClusterCommand::Run(args) => on_nodes(args, talk),
        ClusterCommand::Status(args) => status(args),
        ClusterCommand::Alone(args) => alone(args),
    };
    done.unwrap_or_else(|exit| exit)
}

/// Servers that were started for one run, and the folder of their keys; both go with it.
struct Local {
    children: Vec<Child>,
    folder: PathBuf,
    secret: SecretKey,
    servers: Vec<Address>,
}

impl Drop for Local {
    fn drop(&mut self) {
        let watch = Stopwatch::start();
        for child in &mut self.children {
            // They leave by themselves when the run is over.
            while watch.seconds() < 3.0 && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A new folder that is nobody else's business.
fn private_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn environment(what: &str, remedy: &str) -> Exit {
    complain(what, remedy);
    Exit::Environment
}

/// Starts servers on this machine, each with a key of its own that lives as long as they do.
fn start_local(count: u16, args: &ClusterRunArgs, talk: &Talk) -> Result<Local, Exit> {
    let failed = |error: &dyn std::fmt::Display| {
        environment(
            &format!("servers on this machine: {error}"),
            "start them by hand with `emmy serve`, or give fewer --nodes",
        )
    };
    let folder =
        std::env::temp_dir().join(format!("emmy-cluster-{}-{:x}", std::process::id(), crate::server::new_life().0));
    private_folder(&folder).map_err(|error| failed(&error))?;
    let secret = SecretKey::generate().map_err(|error| failed(&error))?;
    let mut local = Local { children: Vec::new(), folder, secret, servers: Vec::new() };
    let keys: Vec<SecretKey> =
        (0..count).map(|_| SecretKey::generate()).collect::<Result<_, _>>().map_err(|error| failed(&error))?;
    let everybody = keys.iter().chain([&local.secret]).map(|key| format!("{}\n", key.public())).collect::<String>();
    let trust = local.folder.join("trust");
    std::fs::write(&trust, everybody).map_err(|error| failed(&error))?;
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let threads = usize::from(args.backend.threads_or_all()).div_ceil(usize::from(count)).max(1);
    for (k, key) in keys.iter().enumerate() {
        let file = local.folder.join(format!("node-{k}.key"));
        key.write_new(&file).map_err(|error| failed(&error))?;
        let mut command = Command::new(&program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--once", "--backend", "cpu", "--key"]);
        command.arg(&file).arg("--trust").arg(&trust).args(["--threads", &threads.to_string()]);
        if let Some(isa) = args.backend.isa() {
            command.args(["--isa", &isa.to_string()]);
        }
        if let Some(log) = &args.log {
            command.arg("--log").arg(log);
        }
        command.args(if talk.verbose > 0 { "-v" } else { "-q" }.split_whitespace());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| failed(&error))?;
        let mut line = String::new();
        let output = child.stdout.take().expect("it was asked for");
        local.children.push(child);
        BufReader::new(output).read_line(&mut line).map_err(|error| failed(&error))?;
        let address: Option<SocketAddr> = line.trim().strip_prefix("listening on ").and_then(|text| text.parse().ok());
        let address = address.ok_or_else(|| failed(&format!("node {k} does not listen")))?;
        local.servers.push(Address { key: key.public(), address });
        tracing::info!("node {k}: process {}, {address}", local.children[k].id());
    }
    Ok(local)
}

/// Servers that are named on the command line or in a file.
fn listed(text: &str) -> Result<Vec<Address>, Exit> {
    let wrong = |what: String| {
        let remedy = "name servers as KEY@ADDRESS, or in a file with a public key and an address in each line";
        complain(&format!("--nodes: {what}"), remedy);
        Exit::WrongInput
    };
    let unreadable = |error: std::io::Error| wrong(format!("{text}: {error}"));
    let (list, in_file) = match std::fs::File::open(text) {
        Ok(file) => {
            let mut list = String::new();
            file.take(trust::FILE_MAX + 1).read_to_string(&mut list).map_err(unreadable)?;
            (list, true)
        }
        // A list of servers is no name of a file, and may be longer than one can be.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(unreadable(error)),
        Err(_) => (text.to_owned(), false),
    };
    if list.len() as u64 > trust::FILE_MAX {
        return Err(wrong(format!("more than {} bytes: is {text} a list of servers?", trust::FILE_MAX)));
    }
    let named = launch::read_list(&list, in_file).map_err(wrong)?;
    named.into_iter().map(|(key, at)| Ok(Address { key, address: serve::address(&at)? })).collect()
}

fn client_key(path: Option<&Path>) -> Result<SecretKey, Exit> {
    let Some(path) = path else {
        complain(
            "--key is missing",
            "servers that are there already speak only with whom they trust: `emmy keygen FILE` makes a key",
        );
        return Err(Exit::WrongInput);
    };
    serve::secret(path)
}

fn on_nodes(args: &ClusterRunArgs, talk: &Talk) -> Result<Exit, Exit> {
    let run_args = run::RunArgs {
        scenario: args.scenario.clone(),
        backend: args.backend.clone(),
        partitions: None,
        reverse: false,
        out: args.out.clone(),
        no_files: args.no_files,
        resume: args.resume.clone(),
        max_wall: args.max_wall,
        on_device_loss: OnLoss::default(),
        json: args.json,
    };
    let cpu = backend::open_cpu(&args.backend)?;
    let number: Option<u16> = args.nodes.parse().ok();
    // Before anything is started: a scenario that is wrong needs no servers.
    let prepared = run::prepare(&run_args)?;
    let local = match number {
        Some(count) if (1..=LOCAL_MAX).contains(&count) => Some(start_local(count, args, talk)?),
        Some(count) => {
            complain(&format!("{count} nodes on this machine"), &format!("give a number from 1 to {LOCAL_MAX}"));
            return Err(Exit::WrongInput);
        }
        None => None,
    };
    let (servers, secret) = match &local {
        Some(local) => (local.servers.clone(), local.secret.clone()),
        None => (listed(&args.nodes)?, client_key(args.key.as_deref())?),
    };
    let silence = args.silence.unwrap_or(SILENCE_SECONDS);
    let scenario = prepared.scenario().to_ron();
    let launched = |state| launch::launch(&servers, &secret, &scenario, state, cpu, silence);
    let mut run = prepared.start(&run_args, |state| {
        launched(state).map(|remote| Box::new(remote) as Box<dyn Engine>).map_err(|error| refuse(&error))
    })?;
    let exit = run::conduct(&mut run, &run_args, talk);
    close(run);
    Ok(exit)
}

/// Tells the servers that the run is over.
fn close(mut run: Run) {
    run.node.close();
}

fn refuse(error: &LaunchError) -> Exit {
    let remedy = match error {
        LaunchError::Silent(_) => {
            "is `emmy serve` running there, is the address right and open for UDP, does it trust this client's key, and is the key \
             in --nodes its own?"
        }
        LaunchError::Refused { .. } => "see what it says; its own log says more",
        LaunchError::Socket(_) | LaunchError::Run(_) => "see the log of the servers, or try again with -v",
    };
    environment(&error.to_string(), remedy)
}

fn status(args: &StatusArgs) -> Result<Exit, Exit> {
    let (servers, secret) = (listed(&args.nodes)?, serve::secret(&args.key)?);
    let answers = launch::ask(&servers, &secret, 3.0).map_err(|error| refuse(&error))?;
    let mut text = String::new();
    for (k, server) in servers.iter().enumerate() {
        let answer = answers.get(&k).map(|status| serde_json::to_value(status).expect("a status is plain"));
        let line = serde_json::json!({ "address": server.address.to_string(), "key": server.key.to_string(), "status": answer });
        text.push_str(&line.to_string());
        text.push('\n');
    }
    tell(&text)?;
    if answers.len() < servers.len() {
        remark(format_args!("{} of {} servers did not answer", servers.len() - answers.len(), servers.len()));
        return Ok(Exit::CheckFailed);
    }
    Ok(Exit::Done)
}

fn alone(args: &StatusArgs) -> Result<Exit, Exit> {
    let (servers, secret) = (listed(&args.nodes)?, serve::secret(&args.key)?);
    let [server] = servers.as_slice() else {
        complain(&format!("--nodes names {} servers", servers.len()), "name the one that is to go on alone");
        return Err(Exit::WrongInput);
    };
    let answer = launch::alone(*server, &secret, 3.0).map_err(|error| refuse(&error))?;
    match answer.map(|status| status.run) {
        Some(Some(run)) if run.alone => {
            tell(&format!("node {} goes on alone from step {}, in a branch of its own\n", run.node, run.step))?;
            Ok(Exit::Done)
        }
        Some(Some(run)) => {
            remark(format_args!("node {} takes part in no epoch now and cannot go on alone", run.node));
            Ok(Exit::CheckFailed)
        }
        Some(None) => {
            remark(format_args!("{} takes part in no run", server.address));
            Ok(Exit::CheckFailed)
        }
        None => {
            remark(format_args!("{} did not answer", server.address));
            Ok(Exit::CheckFailed)
        }
    }
}
