//! The command line: what `emmy` understands, and what its exit code means.
//!
//! Results go to standard output, everything else to standard error.

mod audit;
mod backend;
mod bench;
mod check;
mod cluster;
mod demo;
mod devices;
mod info;
mod keygen;
mod load;
mod new;
mod progress;
mod rate;
mod report;
mod run;
mod serve;

use std::{
    ffi::OsString,
    fmt::Display,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::backend::isa::Isa;

/// How `emmy` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, and every declared check held.
    Done = 0,
    /// The run ended but a declared check failed; an audit log is not what was written.
    CheckFailed = 1,
    /// Wrong command line, scenario, checkpoint, secret key or name of a file.
    WrongInput = 2,
    /// The environment does not allow it: disk full, no permission, no GPU that can be used.
    Environment = 3,
    /// Stopped before the end, resumable.
    Resumable = 4,
    /// SIGINT, after a checkpoint.
    Interrupted = 130,
    /// SIGTERM, after a checkpoint.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done, every declared check held
  1    the run ended but a declared check failed, or a breach stopped it;
       an audit log is not what was written
  2    wrong command line, scenario, checkpoint or secret key, or a file that cannot be read
  3    the environment does not allow it: disk full, no permission, no GPU that can be used
       or (--on-device-loss stop) one that failed in mid-run
  4    stopped before the end (--max-wall); the message names the command that resumes
  130  SIGINT, after a checkpoint; a second signal ends at once
  143  SIGTERM, after a checkpoint";

/// Particle simulation in which every step is a transaction: audited, then committed or undone.
#[derive(Debug, Parser)]
#[command(name = "emmy", version, after_help = EXIT_CODES, after_long_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    talk: Talk,
}

#[derive(Debug, Args)]
struct Talk {
    /// Say less: no progress, no table.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more; twice for even more.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario.
    Run(run::RunArgs),
    /// Read a scenario and say what it would take, without running it.
    Check(check::CheckArgs),
    /// Write a commented scenario to start from.
    New(new::NewArgs),
    /// Describe a scenario, a checkpoint or the folder of a run.
    Info(info::InfoArgs),
    /// A first run that needs no file: the outer Solar System.
    Demo(demo::DemoArgs),
    /// List the GPUs of this machine: whether they compute what the CPU computes, and how fast.
    Devices(devices::DevicesArgs),
    /// Take part in runs on many nodes, as a server without a window.
    Serve(serve::ServeArgs),
    /// Run a scenario on many nodes, or ask servers how they are.
    Cluster(cluster::ClusterArgs),
    /// Measure how many pairs per second a GPU or the CPU does, with state roots beside the figures.
    Bench(bench::BenchArgs),
    /// Make the secret key of a node, or show the public keys that belong to one.
    Keygen(keygen::KeygenArgs),
    /// Read audit logs.
    Audit(audit::AuditArgs),
}

/// Which scenario, and what of it is overridden.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ScenarioArgs {
    /// Scenario file (RON), or `-` for standard input.
    file: Option<PathBuf>,
    /// Override a value: `--set integrator.dt=5.0`, `--set 'integrator=Leapfrog(dt: 5.0)'`, `--set bodies[0].mass=2`.
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = parse_override)]
    overrides: Vec<(String, String)>,
    /// Run so many steps: short for --set 'until=Steps(N)'.
    #[arg(long, value_name = "N", conflicts_with = "until")]
    steps: Option<u64>,
    /// Run to this simulated time: short for --set 'until=Time(T)'.
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    until: Option<f64>,
}

impl ScenarioArgs {
    /// All overrides, in order; the shorts last.
    fn overrides(&self) -> Vec<(String, String)> {
        let mut all = self.overrides.clone();
        all.extend(self.steps.map(|steps| ("until".to_owned(), format!("Steps({steps})"))));
        all.extend(self.until.map(|time| ("until".to_owned(), format!("Time({time:?})"))));
        all
    }
}

fn parse_override(text: &str) -> Result<(String, String), String> {
    let (path, value) = text.split_once('=').ok_or("expected PATH=VALUE, as in integrator.dt=5.0")?;
    Ok((path.trim().to_owned(), value.trim().to_owned()))
}

/// Where the work is done.
#[derive(Clone, Debug, Args)]
pub(crate) struct BackendArgs {
    /// Who moves the particles: auto, cpu, gpu, or gpu:NAME with part of a name or the number from `emmy devices`; no bit of the
    /// result depends on it. A GPU takes the contracts portable64 and portable32.
    #[arg(long, value_name = "WHO", default_value = "auto", value_parser = |text: &str| text.parse::<backend::Choice>())]
    backend: backend::Choice,
    /// Number of threads; the bits of the result do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// Instruction set; the bits of the result do not depend on it.
    #[arg(long, value_name = "NAME", help = isa_help(), value_parser = |text: &str| text.parse::<Isa>())]
    isa: Option<Isa>,
}

impl BackendArgs {
    /// Threads as asked for, or one for each core.
    fn threads_or_all(&self) -> u16 {
        #[expect(clippy::disallowed_methods, reason = "the command line asks, and hands the number down")]
        let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4096) as u16);
        self.threads.unwrap_or_else(cores)
    }

    fn isa(&self) -> Option<Isa> {
        self.isa
    }
}

fn isa_help() -> String {
    let names: Vec<String> = Isa::available().iter().map(Isa::to_string).collect();
    format!("Instruction set; the bits of the result do not depend on it [here: {}]", names.join(", "))
}

/// Runs the command line and returns the exit code.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors; a closed pipe is not worth a word.
            let _ = error.print();
            return if error.use_stderr() { Exit::WrongInput.into() } else { Exit::Done.into() };
        }
    };
    start_log(&cli.talk);
    let exit = match cli.command {
        Command::Run(args) => run::run(&args, &cli.talk),
        Command::Check(args) => check::check(&args, &cli.talk),
        Command::New(args) => new::new(&args, &cli.talk),
        Command::Info(args) => info::info(&args),
        Command::Demo(args) => demo::demo(&args, &cli.talk),
        Command::Devices(args) => devices::devices(&args),
        Command::Serve(args) => serve::serve(&args, &cli.talk),
        Command::Cluster(args) => cluster::cluster(&args, &cli.talk),
        Command::Bench(args) => bench::bench(&args, &cli.talk),
        Command::Keygen(args) => keygen::keygen(&args, &cli.talk),
        Command::Audit(args) => audit::audit(&args, &cli.talk),
    };
    exit.into()
}

/// Log lines go to standard error; `RUST_LOG` has the last word.
fn start_log(talk: &Talk) {
    let level = match (talk.quiet, talk.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, _) => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| level.into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|word| word.is_empty());
    let log = log.with_ansi(colours).log_internal_errors(false);
    // A second call, from a test in the same process, changes nothing.
    let _ = log.compact().without_time().try_init();
}

/// Writes a result to standard output. A reader that has gone away (`emmy … | head`) is no fault, a full disk is.
fn tell(text: &str) -> Result<(), Exit> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("standard output: {error}"), "the result could not be written: make room");
            Err(Exit::Environment)
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error. If nobody reads it, that is no reason to stop.
fn remark(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Says what went wrong and how to go on.
fn complain(message: &str, remedy: &str) {
    remark(format_args!("error: {message}"));
    if !remedy.is_empty() {
        remark(format_args!("  help: {remedy}"));
    }
}

/// A path as a word of a shell command.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:+,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
