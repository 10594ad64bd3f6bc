//! `emmy demo`: a first run that needs no file, no GPU and no window.

use std::path::Path;

use clap::Args;

use super::{BackendArgs, Exit, Talk, load, remark, run};

const SCENARIO: &str = include_str!("../../../scenarios/outer_solar_system.ron");

/// `emmy demo`
#[derive(Clone, Debug, Args)]
pub(super) struct DemoArgs {
    #[command(flatten)]
    backend: BackendArgs,
}

/// Runs the outer Solar System for a thousand years, and back.
pub(super) fn demo(args: &DemoArgs, talk: &Talk) -> Exit {
    if !talk.quiet {
        remark("The outer Solar System, 1 000 years forwards and 1 000 back: momentum exact, the start found again.");
    }
    let args = run::RunArgs {
        scenario: Default::default(),
        backend: args.backend.clone(),
        partitions: None,
        reverse: true,
        out: None,
        no_files: true,
        resume: None,
        max_wall: None,
        json: false,
        on_device_loss: crate::residence::OnLoss::default(),
    };
    let started = load::from_text("outer_solar_system.ron", SCENARIO.to_owned(), Vec::new(), Path::new("."))
        .and_then(run::Prepared::of)
        .and_then(|prepared| run::start(prepared, &args, talk));
    started.map_or_else(|exit| exit, |mut started| run::conduct(&mut started, &args, talk))
}
