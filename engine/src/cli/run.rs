//! `emmy run`: from a scenario or a checkpoint to the end of a run, with its files, its table and its JSON.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use clap::Args;

use super::{
    BackendArgs, Exit, ScenarioArgs, Talk,
    backend::{self, Task},
    complain, load,
    progress::Progress,
    remark, report, shell_word, tell,
};
use crate::{
    cluster::Cluster,
    node::{Node, State},
    residence::OnLoss,
    run::{ExitReason, Run, StopRequest, engine::Engine},
    scenario::format::Scenario,
    snapshot::{
        checkpoint::{self, Checkpoint},
        folder::{FolderError, RunFolder},
    },
};

/// `emmy run`
#[derive(Clone, Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) scenario: ScenarioArgs,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
    /// Cut the particles into so many partitions, each with a node of its own inside this program: what servers do, without servers.
    /// The bits of the result do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) partitions: Option<u16>,
    /// After the end, take everything back, bit by bit, and check that the start is found again.
    #[arg(long)]
    pub(super) reverse: bool,
    /// Folder of this run; it must not be there yet. Without it: runs/<name>-<utc>-<hash>.
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Write no files at all.
    #[arg(long, conflicts_with = "out")]
    pub(super) no_files: bool,
    /// Go on from a checkpoint, or from the newest good one of the folder of a run.
    #[arg(long, value_name = "CHECKPOINT|DIR")]
    pub(super) resume: Option<PathBuf>,
    /// Checkpoint and leave with code 4 after so much wall time, as in `2h` or `90s`.
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds)]
    pub(super) max_wall: Option<f64>,
    /// What happens when the GPU fails in mid-run: `go-on` with the CPU, which arrives at the same bits, or `stop` with a checkpoint
    /// and code 3.
    #[arg(long, value_name = "WHAT", default_value = "go-on", value_parser = parse_on_loss)]
    pub(super) on_device_loss: OnLoss,
    /// One JSON object on standard output instead of the table.
    #[arg(long)]
    pub(super) json: bool,
}

fn parse_on_loss(text: &str) -> Result<OnLoss, &'static str> {
    match text {
        "go-on" => Ok(OnLoss::GoOn),
        "stop" => Ok(OnLoss::Stop),
        _ => Err("expected go-on or stop"),
    }
}

/// `90`, `90s`, `15m`, `2h`, `1d` in seconds.
pub(super) fn parse_seconds(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.trim_end_matches(['s', 'm', 'h', 'd']) {
        number if number.len() == text.len() => (number, 1.0),
        number => (
            number,
            match &text[number.len()..] {
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                other => return Err(format!("`{other}` is not a unit of time: use s, m, h or d")),
            },
        ),
    };
    let seconds =
        number.trim().parse::<f64>().map_err(|_| format!("`{text}` is not a duration: write 90s, 15m or 2h"))? * factor;
    if seconds.is_finite() && seconds >= 0.0 { Ok(seconds) } else { Err(format!("`{text}` is not a duration")) }
}

/// Runs.
pub(super) fn run(args: &RunArgs, talk: &Talk) -> Exit {
    let started = prepare(args).and_then(|prepared| start(prepared, args, talk));
    started.map_or_else(|exit| exit, |mut run| conduct(&mut run, args, talk))
}

/// A run that is known to be right, before anybody moves its particles.
pub(super) enum Prepared {
    /// From the start of a scenario.
    New {
        /// The scenario.
        loaded: load::Loaded,
        /// The state at its start.
        state: Box<State>,
    },
    /// From a checkpoint.
    Resumed {
        /// Its file.
        file: PathBuf,
        /// The scenario.
        loaded: load::Loaded,
        /// What the file holds.
        checkpoint: Box<Checkpoint>,
    },
}

/// Reads what the command line names.
pub(super) fn prepare(args: &RunArgs) -> Result<Prepared, Exit> {
    match &args.resume {
        Some(path) => resumed(args, path),
        None => load::scenario(&args.scenario).and_then(Prepared::of),
    }
}

/// Starts a prepared run with whoever the command line wants.
pub(super) fn start(prepared: Prepared, args: &RunArgs, talk: &Talk) -> Result<Run, Exit> {
    let engine = engine(args, &prepared.task(), talk)?;
    prepared.start(args, |state| Ok(engine(state)))
}

impl Prepared {
    /// From the start of a scenario.
    pub(super) fn of(loaded: load::Loaded) -> Result<Self, Exit> {
        let state = Box::new(loaded.state()?);
        Ok(Self::New { loaded, state })
    }

    /// The scenario, every default filled in.
    pub(super) fn scenario(&self) -> &Scenario {
        match self {
            Self::New { loaded, .. } | Self::Resumed { loaded, .. } => &loaded.scenario,
        }
    }

    fn task(&self) -> Task {
        match self {
            Self::New { loaded, state } => {
                Task::new(&loaded.scenario, state.quanta, &state.particles, loaded.scenario.steps())
            }
            Self::Resumed { loaded, checkpoint, .. } => {
                let left = loaded.scenario.steps() - checkpoint.header.step;
                Task::new(&loaded.scenario, checkpoint.header.quanta, &checkpoint.particles, left)
            }
        }
    }

    /// Starts it, with its files.
    pub(super) fn start(
        self,
        args: &RunArgs,
        engine: impl FnOnce(State) -> Result<Box<dyn Engine>, Exit>,
    ) -> Result<Run, Exit> {
        match self {
            Self::New { loaded, state } => {
                let mut run = Run::start(loaded.scenario.clone(), *state, engine)?;
                if !args.no_files {
                    let path = args.out.clone().unwrap_or_else(|| default_folder(&run));
                    let (used, keep) = (run.scenario.to_ron(), run.scenario.output.keep_checkpoints);
                    let folder = RunFolder::create(&path, &loaded.text, &used, keep);
                    run.folder = Some(folder.map_err(|error| folder_trouble(&error))?);
                    tracing::info!("writes to {}", path.display());
                }
                let quanta = run.node.quanta();
                let [position, momentum, mass] = [quanta.position, quanta.momentum, quanta.mass];
                let root = run.root_start;
                tracing::info!("quanta: position {position}, momentum {momentum}, mass {mass}; state root {root}");
                Ok(run)
            }
            Self::Resumed { file, loaded, checkpoint } => {
                let step = checkpoint.header.step;
                let mut run = Run::resume(loaded.scenario, *checkpoint, engine)?;
                tracing::info!("goes on from {} at step {step} of {}", file.display(), run.last_step());
                if !args.no_files {
                    let (used, keep) = (run.scenario.to_ron(), run.scenario.output.keep_checkpoints);
                    let folder = match &args.out {
                        Some(out) => RunFolder::create(out, &loaded.text, &used, keep),
                        None => RunFolder::resume(&run_folder_of(&file), &used, keep, step),
                    };
                    run.folder = Some(folder.map_err(|error| folder_trouble(&error))?);
                }
                Ok(run)
            }
        }
    }
}

/// Who will move the particles.
fn engine(args: &RunArgs, task: &Task, talk: &Talk) -> Result<impl FnOnce(State) -> Box<dyn Engine> + use<>, Exit> {
    let backend = match args.partitions {
        None => backend::open(&args.backend, task, talk)?,
        Some(_) => backend::open_cpu(&args.backend)?.into(),
    };
    let partitions = args.partitions;
    Ok(move |state| -> Box<dyn Engine> {
        match partitions {
            None => Box::new(Node::new(state, backend)),
            Some(partitions) => Box::new(Cluster::new(state, backend.cpu, partitions)),
        }
    })
}

fn default_folder(run: &Run) -> PathBuf {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let hash = blake3::hash(format!("{}{}", run.scenario.to_ron(), std::process::id()).as_bytes());
    let name = run.scenario.name.replace(' ', "_");
    Path::new("runs").join(format!("{name}-{now}-{}", &hash.to_hex()[..6]))
}

/// A run from a checkpoint; a scenario on the command line must be the one of the checkpoint.
fn resumed(args: &RunArgs, path: &Path) -> Result<Prepared, Exit> {
    let (file, checkpoint) = load::checkpoint(path)?;
    let mut overrides = args.scenario.overrides();
    if args.scenario.file.is_some() || !args.scenario.overrides.is_empty() {
        complain(
            "--resume takes the scenario from the checkpoint; a file or --set beside it would make it another run",
            "leave them out; --steps and --until may lengthen the run",
        );
        return Err(Exit::WrongInput);
    }
    let text = checkpoint.header.scenario.clone();
    let loaded = load::from_text(&file.display().to_string(), text, std::mem::take(&mut overrides), Path::new("."))?;
    if loaded.scenario.steps() < checkpoint.header.step {
        let (end, step) = (loaded.scenario.steps(), checkpoint.header.step);
        complain(
            &format!("the run would end at step {end}, the checkpoint stands at step {step}"),
            "ask for more steps",
        );
        return Err(Exit::WrongInput);
    }
    Ok(Prepared::Resumed { file, loaded, checkpoint: Box::new(checkpoint) })
}

/// The folder of the run that a checkpoint belongs to: two levels up, if it stands in `checkpoints`.
fn run_folder_of(file: &Path) -> PathBuf {
    // A bare file name says nothing about the folder that it stands in.
    let bare = file.parent().is_none_or(|parent| parent.as_os_str().is_empty());
    let whole = if bare { file.canonicalize().ok() } else { None };
    let file = whole.as_deref().unwrap_or(file);
    let parent = file.parent().unwrap_or(Path::new("."));
    match (parent.file_name(), parent.parent()) {
        (Some(name), Some(run)) if name == "checkpoints" => run.to_owned(),
        _ => parent.to_owned(),
    }
}

fn folder_trouble(error: &FolderError) -> Exit {
    complain(&error.to_string(), "choose another folder with --out, or --no-files to write nothing");
    Exit::Environment
}

/// Brings a prepared run to its end and reports.
pub(super) fn conduct(run: &mut Run, args: &RunArgs, talk: &Talk) -> Exit {
    let stop = listen_for_signals();
    run.node.on_device_loss(args.on_device_loss);
    let mut manifest = report::Manifest::begin(run);
    if let Err(error) = write_manifest(run, &manifest) {
        return folder_trouble(&error);
    }
    let mut progress = Progress::start(run, talk.quiet);
    let ended = run.finish(&stop, args.max_wall, &mut |run| progress.show(run));
    let reason = match ended {
        Ok(reason) => reason,
        Err(error) => {
            progress.end();
            return disk_trouble(run, &error);
        }
    };
    let mut result = report::RunResult::of(run, reason);
    if args.reverse && reason == ExitReason::Completed {
        progress.turn();
        let reason = run.take_back(&stop, &mut |run| progress.show(run));
        result.took_back(run, reason);
    }
    progress.end();
    manifest.complete(run, &result);
    let written = write_manifest(run, &manifest);
    // Results are told even if the manifest could not be written.
    let told = show(run, &result, args, talk);
    report_breaches(run);
    match (written, told) {
        (Err(error), _) => disk_trouble(run, &error),
        (_, Err(exit)) => exit,
        _ => leave(run, &result),
    }
}

fn show(run: &Run, result: &report::RunResult, args: &RunArgs, talk: &Talk) -> Result<(), Exit> {
    match (args.json, talk.quiet) {
        (true, _) => {
            let text = serde_json::to_string_pretty(result).expect("a result is plain numbers and text");
            tell(&(text + "\n"))
        }
        (false, true) => Ok(()),
        (false, false) => tell(&report::table(run, result)),
    }
}

fn write_manifest(run: &Run, manifest: &report::Manifest) -> Result<(), FolderError> {
    run.folder.as_ref().map_or(Ok(()), |folder| folder.manifest(manifest))
}

fn report_breaches(run: &Run) {
    for breach in run.node.breaches() {
        remark(format_args!("breach: {breach}"));
    }
}

/// The exit code, with the command that resumes where that makes sense.
fn leave(run: &Run, result: &report::RunResult) -> Exit {
    let exit = match result.exit_reason {
        ExitReason::Completed if result.all_held() => Exit::Done,
        ExitReason::Completed | ExitReason::Breach => Exit::CheckFailed,
        ExitReason::Interrupted => Exit::Interrupted,
        ExitReason::Terminated => Exit::Terminated,
        ExitReason::WallTime => Exit::Resumable,
        ExitReason::DeviceLost | ExitReason::ClusterLost => Exit::Environment,
    };
    let lost = matches!(result.exit_reason, ExitReason::DeviceLost | ExitReason::ClusterLost);
    if lost || matches!(exit, Exit::Interrupted | Exit::Terminated | Exit::Resumable) {
        match &run.folder {
            Some(folder) => remark(format_args!("resume with: emmy run --resume {}", shell_word(folder.path()))),
            None => remark("nothing was written: with --no-files there is nothing to resume"),
        }
    }
    exit
}

/// A file could not be written in mid-run: say what is safe.
fn disk_trouble(run: &Run, error: &FolderError) -> Exit {
    let folder = run.folder.as_ref().map(|folder| folder.path().join("checkpoints"));
    let good = folder.and_then(|folder| checkpoint::newest_good(&folder));
    let remedy = match good {
        Some(good) => format!("make room, then go on with: emmy run --resume {}", shell_word(&good)),
        None => "make room, or choose another folder with --out".to_owned(),
    };
    complain(&error.to_string(), &remedy);
    Exit::Environment
}

/// The first SIGINT or SIGTERM asks the run to stop after a checkpoint, a second one ends at once.
pub(super) fn listen_for_signals() -> StopRequest {
    use signal_hook::{consts, flag};

    let request: StopRequest = Arc::new(AtomicUsize::new(0));
    for signal in [consts::SIGINT, consts::SIGTERM] {
        let asked_before = Arc::new(AtomicBool::new(false));
        let registered = flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked_before))
            .and_then(|_| flag::register(signal, asked_before))
            .and_then(|_| flag::register_usize(signal, Arc::clone(&request), signal as usize));
        if let Err(error) = registered {
            tracing::warn!("signal {signal} will end the run without a checkpoint: {error}");
        }
    }
    // A limit on the size of files must come as an error of the write, which names the last good checkpoint, not as a death.
    if let Err(error) = flag::register(consts::SIGXFSZ, Arc::default()) {
        tracing::warn!("a limit on the size of files will end the run at once: {error}");
    }
    request
}
