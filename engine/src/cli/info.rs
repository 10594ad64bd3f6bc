//! `emmy info`: describes a scenario, a checkpoint, or the folder of a run.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Exit, complain, load};
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
    } else if path.extension().is_some_and(|extension| extension == "ckpt") {
        checkpoint::read(path).map(|checkpoint| about_checkpoint(path, &checkpoint)).map_err(|error| {
            complain(&error.to_string(), "name another checkpoint, or the folder of the run");
            Exit::WrongInput
        })
    } else {
        scenario(path)
    };
    match described {
        Ok(text) => {
            print!("{text}");
            Exit::Done
        }
        Err(exit) => exit,
    }
}

fn scenario(path: &Path) -> Result<String, Exit> {
    let args = super::ScenarioArgs { file: Some(path.to_owned()), ..Default::default() };
    let loaded = load::scenario(&args)?;
    let scenario = &loaded.scenario;
    Ok(format!(
        "{}\n  {}\n  {} bodies, {} with dt = {}, {} steps to t = {}, {} expectations\n",
        scenario.name,
        scenario.description,
        scenario.count(),
        scenario.integrator_name(),
        scenario.dt(),
        scenario.steps(),
        scenario.steps() as f64 * scenario.dt(),
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

fn folder(path: &Path) -> Result<String, Exit> {
    let manifest = path.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).map_err(|error| {
        complain(&format!("{}: {error}", manifest.display()), "name the folder of a run: it holds manifest.json");
        Exit::WrongInput
    })?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
        complain(
            &format!("{}: {error}", manifest.display()),
            "the manifest is damaged; `emmy info` also reads checkpoints",
        );
        Exit::WrongInput
    })?;
    let field = |name: &str| value[name].as_str().map_or_else(|| value[name].to_string(), str::to_owned);
    let mut about = format!(
        "{}: {} by {} {}\n  started {}, ended {}, {}\n  state root {} → {}\n",
        path.display(),
        field("scenario"),
        field("program"),
        field("version"),
        field("started"),
        field("ended"),
        field("exit_reason"),
        field("state_root_start"),
        field("state_root_end"),
    );
    for (step, file) in checkpoint::list(&path.join("checkpoints")).unwrap_or_default() {
        let state = checkpoint::read(&file).map_or_else(|error| error.to_string(), |_| "good".to_owned());
        about.push_str(&format!("  checkpoint of step {step}: {state}\n"));
    }
    Ok(about)
}
