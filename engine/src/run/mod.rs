//! Runs a scenario to its end: moves the node from one event to the next, writes what is due, looks at expectations, and stops
//! in good order when it is asked to.
//!
//! How far the node is sent at a time depends on the wall clock, so that signals and progress are answered soon; no bit of the
//! state depends on it.

pub mod cadence;
pub mod engine;
pub mod expect;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde::Serialize;

use crate::{
    audit::{BreachReport, Recount},
    backend::Backend,
    ledger::Amounts,
    metrics::Stopwatch,
    node::{History, Node, State},
    particle::Names,
    run::{cadence::Schedule, engine::Engine},
    scenario::format::{OnBreach, Scenario},
    snapshot::{
        checkpoint::{Checkpoint, Header, Outcome},
        folder::{FolderError, RunFolder},
        root::StateRoot,
    },
    spawn,
};

/// The node is not sent farther than this at a time [s].
const SPRINT_SECONDS: f64 = 0.05;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// The last step was taken.
    Completed,
    /// A breach stopped it.
    Breach,
    /// SIGINT, after a checkpoint.
    Interrupted,
    /// SIGTERM, after a checkpoint.
    Terminated,
    /// The wall time that was allowed is over; after a checkpoint.
    WallTime,
    /// The device failed and nobody was to take its place; after a checkpoint of where the run stands.
    DeviceLost,
    /// Too few nodes are left to decide anything; after a checkpoint of the last state that the client holds.
    ClusterLost,
}

/// A run in progress.
#[derive(Debug)]
pub struct Run {
    /// The scenario, every default filled in.
    pub scenario: Scenario,
    /// The particles.
    pub node: Box<dyn Engine>,
    /// The root at step 0.
    pub root_start: StateRoot,
    /// Outcomes of expectations so far.
    pub outcomes: Vec<Outcome>,
    /// Where its files go.
    pub folder: Option<RunFolder>,
    diagnostics: Schedule,
    checkpoints: Schedule,
    stopwatch: Stopwatch,
    /// Wall time before the run was resumed [s].
    wall_before: f64,
    /// Wall time spent in steps since the run was started or resumed [s].
    pub stepping_seconds: f64,
    /// Steps taken since the run was started or resumed, either way.
    pub steps_taken: u64,
    sprint: u64,
    /// Whether it was at its end already when it was resumed.
    over: bool,
}

/// A request to stop, set by a signal handler: the number of the signal, or 0.
pub type StopRequest = Arc<AtomicUsize>;

impl Run {
    /// A run from the start of a scenario, on one node.
    #[must_use]
    pub fn new(scenario: Scenario, state: State, backend: impl Into<Backend>) -> Self {
        let Ok(run) = Self::start::<Infallible>(scenario, state, |state| Ok(Box::new(Node::new(state, backend))));
        run
    }

    /// A run from the start of a scenario, on an engine that is made of its state.
    ///
    /// # Errors
    /// If there is no engine.
    pub fn start<E>(
        mut scenario: Scenario,
        state: State,
        engine: impl FnOnce(State) -> Result<Box<dyn Engine>, E>,
    ) -> Result<Self, E> {
        scenario.audit.energy_every = state.rules.energy_every;
        let mut node = engine(state)?;
        let root_start = node.root();
        Ok(Self::with(scenario, node, root_start, Vec::new(), 0.0))
    }

    /// A run from a checkpoint of this scenario, on one node.
    #[must_use]
    pub fn resumed(scenario: Scenario, checkpoint: Checkpoint, backend: impl Into<Backend>) -> Self {
        let Ok(run) = Self::resume::<Infallible>(scenario, checkpoint, |state| Ok(Box::new(Node::new(state, backend))));
        run
    }

    /// A run from a checkpoint of this scenario, on an engine that is made of its state.
    ///
    /// # Errors
    /// If there is no engine.
    pub fn resume<E>(
        scenario: Scenario,
        checkpoint: Checkpoint,
        engine: impl FnOnce(State) -> Result<Box<dyn Engine>, E>,
    ) -> Result<Self, E> {
        let Checkpoint { mut header, particles } = checkpoint;
        let over = header.step == header.last_step && header.last_step == scenario.steps();
        // In a run that was made longer, what is looked at in the end has yet to be looked at.
        let stands = |outcome: &Outcome| {
            scenario.expect.get(outcome.index).is_some_and(|e| expect::due_at(e, &scenario) == outcome.step)
        };
        header.outcomes.retain(stands);
        let ends_it = |breach: &BreachReport| breach.undone || scenario.audit.on_breach == OnBreach::Stop;
        let stopped = header.breaches.last().is_some_and(ends_it);
        let history = History { ledger: header.ledger, drifts: header.drifts, breaches: header.breaches };
        let mut state = spawn::state_of(&scenario, header.quanta, particles, Names(header.names));
        state.clock.step = header.step;
        state.history = Some(history);
        let mut node = engine(state)?;
        node.set_stopped(stopped);
        let run = Self::with(scenario, node, header.root_start, header.outcomes, header.wall_seconds);
        Ok(Self { over, ..run })
    }

    fn with(
        scenario: Scenario,
        node: Box<dyn Engine>,
        root_start: StateRoot,
        outcomes: Vec<Outcome>,
        wall_before: f64,
    ) -> Self {
        let dt = scenario.dt();
        Self {
            diagnostics: Schedule::new(scenario.output.diagnostics, dt),
            checkpoints: Schedule::new(scenario.output.checkpoint, dt),
            scenario,
            node,
            root_start,
            outcomes,
            folder: None,
            stopwatch: Stopwatch::start(),
            wall_before,
            stepping_seconds: 0.0,
            steps_taken: 0,
            sprint: 1,
            over: false,
        }
    }

    /// The step at which the run ends.
    #[must_use]
    pub fn last_step(&self) -> u64 {
        self.scenario.steps()
    }

    /// Wall time so far, before it was resumed included [s].
    #[must_use]
    pub fn wall_seconds(&self) -> f64 {
        self.wall_before + self.stopwatch.seconds()
    }

    /// Steps per second since the run was started or resumed.
    #[must_use]
    pub fn steps_per_second(&self) -> f64 {
        if self.stepping_seconds > 0.0 { self.steps_taken as f64 / self.stepping_seconds } else { 0.0 }
    }

    /// Runs to the end or until something stops it. `watch` is called now and then.
    ///
    /// # Errors
    /// If a file cannot be written. If only the log cannot, a checkpoint is written all the same.
    pub fn finish(
        &mut self,
        stop: &StopRequest,
        max_wall: Option<f64>,
        watch: &mut dyn FnMut(&mut Self),
    ) -> Result<ExitReason, FolderError> {
        let ended = self.go(stop, max_wall, watch);
        if ended.is_err() {
            // The first error is the one that is reported; this is the attempt to lose nothing.
            let _ = self.save();
        }
        ended
    }

    fn go(
        &mut self,
        stop: &StopRequest,
        max_wall: Option<f64>,
        watch: &mut dyn FnMut(&mut Self),
    ) -> Result<ExitReason, FolderError> {
        if self.node.stopped() {
            return Ok(ExitReason::Breach);
        }
        if self.over {
            return Ok(ExitReason::Completed);
        }
        self.log_where_it_stands()?;
        self.look_at_expectations(0);
        while self.node.clock().step < self.last_step() {
            if let Some(reason) = self.stop_reason(stop, max_wall) {
                self.save()?;
                return Ok(reason);
            }
            let before = self.node.clock().step;
            self.sprint_to(self.next_event(before));
            watch(self);
            if self.node.stands_still() {
                return self.stand_still();
            }
            if self.node.stopped() {
                self.log()?;
                // The line asks the device, which may be lost only now: then the breach lies ahead again.
                if self.node.stands_still() {
                    return self.stand_still();
                }
                self.save()?;
                return Ok(ExitReason::Breach);
            }
            // Nodes elsewhere may take longer than a sprint for a step: what was looked at is not looked at again.
            if self.node.clock().step != before {
                self.look_at_expectations(before);
                self.write_what_is_due()?;
            }
        }
        // A device that fails from here on takes nothing with it.
        self.node.look();
        if self.node.stands_still() {
            return self.stand_still();
        }
        self.end()?;
        Ok(ExitReason::Completed)
    }

    /// The device is lost, and nobody is to take its place: what is certain is kept.
    fn stand_still(&mut self) -> Result<ExitReason, FolderError> {
        let stands = self.node.clock().step;
        self.outcomes.retain(|outcome| outcome.step <= stands);
        self.save()?;
        Ok(self.node.standstill())
    }

    /// Takes back, step by step, all that was done; the root at the start is then found again.
    pub fn take_back(&mut self, stop: &StopRequest, watch: &mut dyn FnMut(&mut Self)) -> ExitReason {
        self.node.reverse();
        while self.node.clock().step > 0 {
            if let Some(reason) = self.stop_reason(stop, None) {
                return reason;
            }
            self.sprint_to(0);
            watch(self);
            if self.node.stands_still() {
                return self.node.standstill();
            }
            if self.node.stopped() {
                return ExitReason::Breach;
            }
        }
        ExitReason::Completed
    }

    fn stop_reason(&self, stop: &StopRequest, max_wall: Option<f64>) -> Option<ExitReason> {
        match stop.load(Ordering::Relaxed) as i32 {
            signal_hook::consts::SIGINT => Some(ExitReason::Interrupted),
            signal_hook::consts::SIGTERM => Some(ExitReason::Terminated),
            _ => max_wall.is_some_and(|most| self.stopwatch.seconds() >= most).then_some(ExitReason::WallTime),
        }
    }

    /// Where the node must stop next: for an expectation, an output, or the end.
    fn next_event(&self, step: u64) -> u64 {
        let expected = self.scenario.expect.iter().map(|e| expect::due_at(e, &self.scenario)).filter(|&due| due > step);
        let due = [self.diagnostics.next_step(step), self.checkpoints.next_step(step), self.last_step()];
        expected.chain(due).min().unwrap_or(step)
    }

    /// Sends the node towards `target`, but not for longer than a moment.
    fn sprint_to(&mut self, target: u64) {
        let steps = self.node.clock().step.abs_diff(target).min(self.sprint);
        self.node.head_for(target);
        let watch = Stopwatch::start();
        self.steps_taken += self.node.advance(steps);
        let seconds = watch.seconds();
        self.stepping_seconds += seconds;
        if seconds < 0.5 * SPRINT_SECONDS {
            self.sprint = self.sprint.saturating_mul(2);
        } else if seconds > 2.0 * SPRINT_SECONDS {
            self.sprint = (self.sprint / 2).max(1);
        }
    }

    /// Looks at the expectations that came up after `before`, up to now; drifts are known only when all is done.
    fn look_at_expectations(&mut self, before: u64) {
        let (now, last) = (self.node.clock().step, self.last_step());
        for index in 0..self.scenario.expect.len() {
            let expectation = &self.scenario.expect[index];
            let due = expect::due_at(expectation, &self.scenario);
            let seen = self.outcomes.iter().any(|outcome| outcome.index == index);
            if !seen && due == now && (due > before || now == 0) && now < last {
                self.outcomes.push(expect::look(index, expectation, &mut *self.node));
            }
        }
    }

    fn write_what_is_due(&mut self) -> Result<(), FolderError> {
        let (step, wall) = (self.node.clock().step, self.stopwatch.seconds());
        if self.diagnostics.is_due(step, wall) && step < self.last_step() {
            self.log()?;
        }
        if self.checkpoints.is_due(step, wall) && step < self.last_step() {
            self.save()?;
        }
        Ok(())
    }

    /// The last recount, the last expectations, the last line and the last checkpoint.
    fn end(&mut self) -> Result<(), FolderError> {
        self.node.recount();
        for index in 0..self.scenario.expect.len() {
            if !self.outcomes.iter().any(|outcome| outcome.index == index) {
                self.outcomes.push(expect::look(index, &self.scenario.expect[index], &mut *self.node));
            }
        }
        self.outcomes.sort_by_key(|outcome| outcome.index);
        self.log()?;
        self.save()
    }

    /// The line of the step at which the run is started or resumed, unless it is there already. It may have stopped at a line that
    /// the disk would not take.
    fn log_where_it_stands(&mut self) -> Result<(), FolderError> {
        let step = self.node.clock().step;
        let due = step == 0 || self.diagnostics.next_step(step - 1) == step;
        let logged = self.folder.as_ref().and_then(RunFolder::last_logged);
        if due && logged != Some(step) { self.log() } else { Ok(()) }
    }

    /// Appends a line to the diagnostics log.
    fn log(&mut self) -> Result<(), FolderError> {
        if self.folder.is_none() {
            return Ok(());
        }
        let line = Line::of(self);
        self.folder.as_mut().map_or(Ok(()), |folder| folder.log(line.step, &line))
    }

    /// Writes a checkpoint, if the run has a folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&mut self) -> Result<(), FolderError> {
        if self.folder.is_none() {
            return Ok(());
        }
        let checkpoint = self.checkpoint();
        self.folder.as_ref().map_or(Ok(()), |folder| folder.checkpoint(&checkpoint).map(drop))
    }

    /// Everything that determines the rest of the run.
    pub fn checkpoint(&mut self) -> Checkpoint {
        // The particles first: a device that is lost between the two then leaves no root that is not theirs.
        let state = self.node.state();
        let root = self.node.root();
        let history = state.history.expect("a node has its history");
        let header = Header {
            scenario: self.scenario.to_ron(),
            names: state.names.0,
            quanta: state.quanta,
            step: state.clock.step,
            last_step: self.last_step(),
            root_start: self.root_start,
            root,
            ledger: history.ledger,
            drifts: history.drifts,
            breaches: history.breaches,
            outcomes: self.outcomes.clone(),
            wall_seconds: self.wall_seconds(),
            count: state.particles.len() as u64,
        };
        Checkpoint { header, particles: state.particles }
    }

    /// Whether everything that was declared held: no breach, every expectation.
    #[must_use]
    pub fn held(&self) -> bool {
        self.node.breaches().is_empty() && self.outcomes.iter().all(|outcome| outcome.held)
    }
}

/// A line of the diagnostics log. Integers that may exceed 2⁵³ are text.
#[derive(Debug, Serialize)]
struct Line {
    step: u64,
    /// Simulated time.
    time: f64,
    /// Wall time since the start of the run [s].
    wall: f64,
    /// [energy units of the scenario]
    kinetic: f64,
    potential: f64,
    energy: f64,
    /// Relative.
    energy_drift: f64,
    /// [momentum quanta]
    momentum: [String; 3],
    /// What momentum is less what the ledger says it must be [momentum quanta].
    momentum_drift: [String; 3],
    /// [angular momentum units of the scenario]
    angular_momentum: [f64; 3],
    /// Relative.
    angular_momentum_drift: f64,
    /// Wall time per step since the run was started or resumed [s].
    step_seconds: f64,
    breaches: usize,
}

impl Line {
    fn of(run: &mut Run) -> Self {
        let recount: Recount = run.node.count_bounded();
        let counted: Amounts = run.node.counted();
        let node = &run.node;
        let (quanta, ledger) = (*node.quanta(), node.ledger());
        let (energy, angular) = (quanta.energy.size(), quanta.angular_momentum().size());
        let due = ledger.due();
        Self {
            step: node.clock().step,
            time: node.clock().time(),
            wall: run.wall_seconds(),
            kinetic: recount.kinetic as f64 * energy,
            potential: recount.potential as f64 * energy,
            energy: recount.energy() as f64 * energy,
            energy_drift: node.drifts().energy_error(&recount),
            momentum: counted.momentum.map(|p| p.to_string()),
            momentum_drift: std::array::from_fn(|k| (counted.momentum[k] - due.momentum[k]).to_string()),
            angular_momentum: counted.angular_momentum.map(|l| l as f64 * angular),
            angular_momentum_drift: node.drifts().angular_error(&recount),
            step_seconds: run.stepping_seconds / run.steps_taken.max(1) as f64,
            breaches: node.breaches().len(),
        }
    }
}
