//! What a run asks of whoever moves its particles: one node, or several that own a partition each.

use std::fmt::Debug;

use crate::{
    audit::{BreachReport, Drifts, Recount, Rules},
    backend::{
        cpu::Cpu,
        gpu::{Gpu, error::GpuError},
    },
    ledger::{Amounts, Ledger},
    metrics::Phases,
    node::{Node, State},
    particle::{Names, Particle, ParticleId},
    quanta::Quanta,
    residence::OnLoss,
    run::ExitReason,
    snapshot::root::StateRoot,
    step::Clock,
};

/// Moves the particles of a run. What each method says stands with the method of the same name of [`Node`].
pub trait Engine: Debug {
    /// Takes up to so many steps and returns how many were committed.
    fn advance(&mut self, steps: u64) -> u64;
    /// Turns the direction of time.
    fn reverse(&mut self);
    /// Brings what others see up to date.
    fn look(&mut self);
    /// The state root now.
    fn root(&mut self) -> StateRoot;
    /// The particles now, in order of identity.
    fn particles(&mut self) -> Vec<Particle>;
    /// One particle now.
    fn particle(&mut self, id: ParticleId) -> Option<Particle>;
    /// Recounts energy and centre of mass now and takes them into the record.
    fn recount(&mut self) -> Recount;
    /// Recounts energy and centre of mass now, and leaves the record alone.
    fn count_bounded(&mut self) -> Recount;
    /// What the particles hold now.
    fn counted(&mut self) -> Amounts;
    /// Everything that a checkpoint keeps.
    fn state(&mut self) -> State;
    /// Where the run stands.
    fn clock(&self) -> Clock;
    /// Sizes of the integer units.
    fn quanta(&self) -> &Quanta;
    /// The book.
    fn ledger(&self) -> &Ledger;
    /// The record of what may drift.
    fn drifts(&self) -> &Drifts;
    /// What is checked.
    fn rules(&self) -> &Rules;
    /// Names of particles.
    fn names(&self) -> &Names;
    /// Breaches so far.
    fn breaches(&self) -> &[BreachReport];
    /// Whether a breach ended the run.
    fn stopped(&self) -> bool;
    /// Says whether one did, after a checkpoint.
    fn set_stopped(&mut self, stopped: bool);
    /// Where the time of the steps went.
    fn phases(&self) -> &Phases;
    /// Unique pairs that one step evaluates.
    fn pairs_per_step(&mut self) -> u64;
    /// The CPU backend.
    fn cpu(&self) -> &Cpu;

    /// The device that takes part, if there is one.
    fn gpu(&self) -> Option<&Gpu> {
        None
    }

    /// Why the device that the run began with is no longer used.
    fn fell_back(&self) -> Option<&GpuError> {
        None
    }

    /// Where somebody looks next: the steps up to there come one after another, however few are asked for at a time.
    fn head_for(&mut self, _step: u64) {}

    /// Says what happens when the device fails.
    fn on_device_loss(&mut self, _on_loss: OnLoss) {}

    /// Whether the device has failed and nobody may take its place.
    fn stands_still(&self) -> bool {
        false
    }

    /// Why a run that stands still does.
    fn standstill(&self) -> ExitReason {
        ExitReason::DeviceLost
    }

    /// Nodes, or partitions, that take part.
    fn nodes(&self) -> usize {
        1
    }

    /// 0 for the run itself; another number where an operator let one node go on without the others: a branch of its own.
    fn branch(&self) -> u64 {
        0
    }

    /// Tells whoever takes part that the run is over.
    fn close(&mut self) {}

    /// What partitions sent each other, if there are several.
    fn traffic(&self) -> Option<Traffic> {
        None
    }
}

/// What partitions sent each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Traffic {
    /// Partitions.
    pub partitions: usize,
    /// Positions for force evaluations [bytes].
    pub halo_bytes: u64,
    /// How many positions that were.
    pub halo_particles: u64,
    /// Impulses that went back [bytes].
    pub return_bytes: u64,
    /// How many impulses that were.
    pub return_particles: u64,
    /// Particles that changed hands.
    pub handed_over: u64,
}

impl Engine for Node {
    fn advance(&mut self, steps: u64) -> u64 {
        Self::advance(self, steps)
    }

    fn reverse(&mut self) {
        Self::reverse(self);
    }

    fn look(&mut self) {
        Self::look(self);
    }

    fn root(&mut self) -> StateRoot {
        Self::root(self)
    }

    fn particles(&mut self) -> Vec<Particle> {
        Self::particles(self)
    }

    fn particle(&mut self, id: ParticleId) -> Option<Particle> {
        Self::particle(self, id)
    }

    fn recount(&mut self) -> Recount {
        Self::recount(self)
    }

    fn count_bounded(&mut self) -> Recount {
        Self::count_bounded(self)
    }

    fn counted(&mut self) -> Amounts {
        Self::counted(self)
    }

    fn state(&mut self) -> State {
        Self::state(self)
    }

    fn clock(&self) -> Clock {
        Self::clock(self)
    }

    fn quanta(&self) -> &Quanta {
        Self::quanta(self)
    }

    fn ledger(&self) -> &Ledger {
        Self::ledger(self)
    }

    fn drifts(&self) -> &Drifts {
        Self::drifts(self)
    }

    fn rules(&self) -> &Rules {
        Self::rules(self)
    }

    fn names(&self) -> &Names {
        Self::names(self)
    }

    fn breaches(&self) -> &[BreachReport] {
        Self::breaches(self)
    }

    fn stopped(&self) -> bool {
        Self::stopped(self)
    }

    fn set_stopped(&mut self, stopped: bool) {
        Self::set_stopped(self, stopped);
    }

    fn phases(&self) -> &Phases {
        Self::phases(self)
    }

    fn pairs_per_step(&mut self) -> u64 {
        Self::pairs_per_step(self)
    }

    fn cpu(&self) -> &Cpu {
        Self::cpu(self)
    }

    fn gpu(&self) -> Option<&Gpu> {
        Self::gpu(self)
    }

    fn fell_back(&self) -> Option<&GpuError> {
        Self::fell_back(self)
    }

    fn on_device_loss(&mut self, on_loss: OnLoss) {
        Self::on_device_loss(self, on_loss);
    }

    fn stands_still(&self) -> bool {
        Self::stands_still(self)
    }
}
