//! `emmy info`: describes a scenario, a checkpoint, or the folder of a run.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{Exit, complain, load, report::short, tell};
use crate::snapshot::checkpoint::{self, Checkpoint};

/// `emmy info`
#[derive(Clone, Debug, Args)]
pub(super) struct InfoArgs {
    /// Scenario, checkpoint, or folder of a run.
    file: PathBuf,
}

/// Describes.
pub(super) fn info(args: &InfoArgs) -> Exit {
    let path = &args.file;
    let described = if path.is_dir() {
        folder(path)
    } else if is_checkpoint(path) {
        load::checkpoint(path).map(|(_, checkpoint)| about_checkpoint(path, &checkpoint))
    } else {
        scenario(path)
    };
    described.and_then(|text| tell(&text)).map_or_else(|exit| exit, |()| Exit::Done)
}

/// By its name, or by its first bytes: a damaged checkpoint is still one, and so is one with another name.
fn is_checkpoint(path: &Path) -> bool {
    let mut first = [0; checkpoint::MAGIC.len()];
    let begun = File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok();
    path.extension().is_some_and(|extension| extension == "ckpt") || begun && first == *checkpoint::MAGIC
}

fn scenario(path: &Path) -> Result<String, Exit> {
    let args = super::ScenarioArgs { file: Some(path.to_owned()), ..Default::default() };
    let loaded = load::scenario(&args)?;
    let scenario = &loaded.scenario;
    let description = match scenario.description.as_str() {
        "" => String::new(),
        text => format!("  {text}\n"),
    };
    Ok(format!(
        "{}\n{description}  {} bodies, {} with dt = {}, {} steps to t = {}, {} expectations\n",
        scenario.name,
        scenario.count(),
        scenario.integrator_name(),
        scenario.dt(),
        scenario.steps(),
        short(scenario.steps() as f64 * scenario.dt()),
        scenario.expect.len(),
    ))
}

fn about_checkpoint(path: &Path, checkpoint: &Checkpoint) -> String {
    let header = &checkpoint.header;
    let quanta = &header.quanta;
    format!(
        "{}: checkpoint version {}\n  {} particles at step {} of {}\n  state root {} (at the start {})\n  quanta: position {}, \
         momentum {}, mass {}\n  largest |dE/E| {:.3e}, {} breaches, {:.1} s of wall time\n",
        path.display(),
        checkpoint::VERSION,
        header.count,
        header.step,
        header.last_step,
        header.root,
        header.root_start,
        quanta.position,
        quanta.momentum,
        quanta.mass,
        header.drifts.energy_max,
        header.breaches.len(),
        header.wall_seconds,
    )
}

/// The folder of a run, or the folder of its checkpoints.
fn folder(path: &Path) -> Result<String, Exit> {
    let manifest = path.join("manifest.json");
    let checkpoints = [path.join("checkpoints"), path.to_owned()].into_iter().find(|folder| folder.is_dir());
    let checkpoints = checkpoints.as_deref().map(list).unwrap_or_default();
    match std::fs::read_to_string(&manifest) {
        Ok(text) => Ok(about_run(path, &manifest, &text)? + &checkpoints),
        Err(_) if !checkpoints.is_empty() => Ok(format!("{}:\n{checkpoints}", path.display())),
        Err(error) => {
            let remedy = "name a scenario, a checkpoint, or the folder of a run: that one holds manifest.json";
            complain(&format!("{}: {error}", manifest.display()), remedy);
            Err(Exit::WrongInput)
        }
    }
}

fn about_run(path: &Path, manifest: &Path, text: &str) -> Result<String, Exit> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        let remedy = "the manifest is damaged; `emmy info` also reads checkpoints";
        complain(&format!("{}: {error}", manifest.display()), remedy);
        Exit::WrongInput
    })?;
    let field = |name: &str| value[name].as_str().map_or_else(|| value[name].to_string(), str::to_owned);
    let about = format!("{}: {} by {} {}", path.display(), field("scenario"), field("program"), field("version"));
    if value["ended"].is_null() {
        let root = field("state_root_start");
        return Ok(format!("{about}\n  started {}, not ended\n  state root {root} at the start\n", field("started")));
    }
    Ok(format!(
        "{about}\n  started {}, ended {}, {} after {} steps\n  state root {} → {}\n",
        field("started"),
        field("ended"),
        field("exit_reason"),
        field("steps"),
        field("state_root_start"),
        field("state_root_end"),
    ))
}

/// One line for each checkpoint, newest first: good, or what is wrong with it.
fn list(folder: &Path) -> String {
    let mut lines = String::new();
    for (step, file) in checkpoint::list(folder).unwrap_or_default() {
        let state = checkpoint::read(&file).map_or_else(|error| error.to_string(), |_| "good".to_owned());
        lines.push_str(&format!("  checkpoint of step {step}: {state}\n"));
    }
    lines
}
