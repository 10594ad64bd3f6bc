//! Progress: a bar on a terminal, one plain line every ten seconds elsewhere, nothing when asked to be quiet.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    remark,
    report::{duration, short, si},
};
use crate::{metrics::Stopwatch, run::Run};

/// Seconds between plain lines.
const LINE_SECONDS: f64 = 10.0;

/// Shows how far a run is.
pub(super) enum Progress {
    /// Says nothing.
    Quiet,
    /// A bar.
    Bar(ProgressBar),
    /// Lines.
    Lines {
        /// Since the last line.
        since: Stopwatch,
    },
}

impl Progress {
    /// Starts to show.
    pub(super) fn start(run: &Run, quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        let step = run.node.clock().step;
        if !std::io::stderr().is_terminal() {
            return Self::Lines { since: Stopwatch::start() };
        }
        let bar = ProgressBar::new(run.last_step());
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} steps, {eta} left\n  {msg}");
        bar.set_style(style.expect("the template is a constant"));
        bar.set_position(step);
        bar.reset_eta();
        Self::Bar(bar)
    }

    /// Shows where the run is.
    pub(super) fn show(&mut self, run: &mut Run) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar) => {
                bar.set_position(run.node.clock().step);
                bar.set_message(words(run));
            }
            Self::Lines { since } => {
                if since.seconds() >= LINE_SECONDS {
                    *since = Stopwatch::start();
                    let (step, last) = (run.node.clock().step, run.last_step());
                    let goal = if run.node.clock().backwards { 0 } else { last };
                    let left = step.abs_diff(goal) as f64 / run.steps_per_second();
                    let doing = if run.node.clock().backwards { "taking back, step" } else { "step" };
                    remark(format_args!("{doing} {step} of {last}, about {} left, {}", duration(left), words(run)));
                }
            }
        }
    }

    /// The run turns round.
    pub(super) fn turn(&mut self) {
        if let Self::Bar(bar) = self {
            bar.set_style(
                ProgressStyle::with_template("{wide_bar} taking back, {pos} steps left\n  {msg}").expect("a constant"),
            );
        }
    }

    /// Clears the bar.
    pub(super) fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn words(run: &mut Run) -> String {
    let pairs = run.steps_per_second() * run.node.pairs_per_step() as f64;
    let (time, drift) = (run.node.clock().time(), run.node.drifts().energy_now);
    format!("t = {}, {}steps/s, {}pairs/s, dE/E {drift:.1e}", short(time), si(run.steps_per_second()), si(pairs))
}
