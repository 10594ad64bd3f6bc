//! From a command line to a scenario, its bodies, and a backend; every fault is reported with its place.

use std::path::{Path, PathBuf};

use super::{BackendArgs, Exit, ScenarioArgs, complain, remark};
use crate::{
    backend::{cpu::Cpu, isa::Isa},
    node::State,
    scenario::{check::Fault, format::Scenario, generate, read},
    snapshot::checkpoint::{self, Checkpoint, CheckpointError},
    spawn,
};

/// A scenario that was read and checked.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Its name for messages: the file.
    pub(super) name: String,
    /// Its text as given.
    pub(super) text: String,
    /// Overrides of the command line.
    pub(super) overrides: Vec<(String, String)>,
    /// Where its tables are looked for.
    pub(super) folder: PathBuf,
    /// What it says.
    pub(super) scenario: Scenario,
}

impl Loaded {
    /// The state at the start. All faults of the bodies are reported.
    pub(super) fn state(&self) -> Result<State, Exit> {
        let bodies = generate::population(&self.scenario, &self.folder).map_err(|fault| self.refuse(&[fault]))?;
        spawn::state(&self.scenario, &bodies).map_err(|faults| self.refuse(&faults))
    }

    fn refuse(&self, faults: &[Fault]) -> Exit {
        print_report(read::report(&self.name, &self.text, &self.overrides, faults));
        Exit::WrongInput
    }
}

/// Reads the scenario that the command line names.
pub(super) fn scenario(args: &ScenarioArgs) -> Result<Loaded, Exit> {
    let Some(file) = &args.file else {
        complain("no scenario file", "name one, or `-` for standard input; `emmy new NAME` writes one to start from");
        return Err(Exit::WrongInput);
    };
    let text = read::read_file(file).map_err(|error| {
        complain(&error.to_string(), "check the path; `emmy new NAME` writes a scenario to start from");
        Exit::WrongInput
    })?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    from_text(&file.display().to_string(), text, args.overrides(), folder)
}

/// Reads a scenario from its text.
pub(super) fn from_text(
    name: &str,
    text: String,
    overrides: Vec<(String, String)>,
    folder: &Path,
) -> Result<Loaded, Exit> {
    let scenario = read::read(name, &text, &overrides).map_err(|report| {
        print_report(report);
        Exit::WrongInput
    })?;
    Ok(Loaded { name: name.to_owned(), text, overrides, folder: folder.to_owned(), scenario })
}

fn print_report(report: read::Report) {
    remark(format_args!("{:?}", miette::Report::from(report)));
}

/// The CPU as the command line asks for it; without a word, all cores and the widest instruction set.
pub(super) fn cpu(args: &BackendArgs) -> Result<Cpu, Exit> {
    #[expect(clippy::disallowed_methods, reason = "the command line asks, and hands the number down")]
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or_else(cores, usize::from);
    Cpu::new(args.isa.unwrap_or_else(Isa::widest), threads).map_err(|error| {
        complain(&format!("cannot start {threads} threads: {error}"), "ask for fewer with --threads");
        Exit::Environment
    })
}

/// The checkpoint of that name, or the newest good one of that folder of a run.
pub(super) fn checkpoint(path: &Path) -> Result<(PathBuf, Checkpoint), Exit> {
    if !path.is_dir() {
        return checkpoint::read(path)
            .map(|checkpoint| (path.to_owned(), checkpoint))
            .map_err(|error| refuse_checkpoint(&error, path));
    }
    let folder = if path.join("checkpoints").is_dir() { path.join("checkpoints") } else { path.to_owned() };
    for (_, file) in checkpoint::list(&folder).unwrap_or_default() {
        match checkpoint::read(&file) {
            Ok(checkpoint) => return Ok((file, checkpoint)),
            Err(error) => tracing::warn!("{error}; looking for an older one"),
        }
    }
    complain(&format!("{} holds no checkpoint that can be read", path.display()), "run the scenario from the start");
    Err(Exit::WrongInput)
}

fn refuse_checkpoint(error: &CheckpointError, path: &Path) -> Exit {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let good = match checkpoint::newest_good(folder) {
        Some(good) => format!("the last good checkpoint beside it is {}", good.display()),
        None => "there is no good checkpoint beside it".to_owned(),
    };
    let newer = matches!(error, CheckpointError::Version { found, .. } if *found > checkpoint::VERSION);
    let remedy = if newer { format!("a newer emmy reads it; {good}") } else { good };
    complain(&error.to_string(), &remedy);
    Exit::WrongInput
}
