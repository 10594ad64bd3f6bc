//! The way to a GPU: which there are, how one is opened, and whether it computes what the CPU computes.
//!
//! From low to high: [`error`] says what can go wrong and what to do about it; [`adapter`] lists what is there and chooses;
//! [`device`] opens one and keeps its first fault; [`strict`] turns WGSL into a module whose arithmetic the driver may not
//! rearrange; [`compute`] runs such a module over buffers; [`selftest`] compares a device with the CPU, bit by bit. `door` is the
//! one file with unsafe code. No window and no display is ever asked for.
//!
//! On top of these stands [`Gpu`]: a device that holds the columns of a run and moves them. [`programs`] puts its shaders together,
//! `columns` keeps its buffers, `steps` submits steps and reads their records, `survey` counts, [`tally`] reads sums, `pack` fetches a few particles.
//!
//! Shaders stand in `shaders/` at the root of the repository. The first line of each names its twin on the CPU, and
//! `tests/gpu.rs` parses every one of them, without a GPU.

pub mod adapter;
mod columns;
pub mod compute;
pub mod device;
mod door;
pub mod error;
mod pack;
pub mod programs;
pub mod selftest;
mod steps;
pub mod strict;
mod survey;
pub mod tally;

use bevy_ecs::prelude::*;

pub use self::columns::{bytes, room};
use self::{columns::Columns, device::Device, error::GpuError, programs::Programs, steps::Reader, strict::Strictness};
use crate::{
    contract::Contract,
    force::Kick,
    integrator::kernel::Stride,
    metrics::{Phase, Phases, Stopwatch},
    particle::WorkingSet,
};

/// What moves particles for one step: the kicks and drifts of a splitting, as factors of the kernels.
#[derive(Clone, Copy, Debug)]
pub struct Stages<'a> {
    /// Kicks, one more than drifts.
    pub kicks: &'a [Kick],
    /// Drifts.
    pub strides: &'a [Stride],
    /// Whether impulses may leave their range and are watched.
    pub guarded: bool,
    /// Whether angular momentum is booked.
    pub angular: bool,
}

/// A device that moves the particles of a run under one contract.
#[derive(Resource, Debug)]
pub struct Gpu {
    device: Device,
    contract: Contract,
    programs: Programs,
    readers: [Reader; 2],
    columns: Option<Columns>,
    /// The kick that the impulses on the device belong to, while positions are those that they were evaluated at.
    fresh: Option<Kick>,
    /// Steps in one submission.
    pace: usize,
    phases: Phases,
    /// Bytes that were read or written by the host.
    traffic: u64,
    /// Time that the host has waited for steps [s].
    waited: f64,
}

impl Gpu {
    /// A device that has passed its self-test for a portable contract.
    ///
    /// # Errors
    /// If the device lacks something, fails the self-test, or fails altogether.
    ///
    /// # Panics
    /// If the contract is none of a GPU.
    pub fn new(device: Device, contract: Contract) -> Result<Self, GpuError> {
        assert!(contract.is_portable(), "{contract} is a contract of the CPU");
        selftest::requirements(&device, contract)?;
        let mut gpu = Self::untested(device, contract, Strictness::Strict);
        selftest::bodies(&mut gpu)?;
        gpu.clear();
        Ok(gpu)
    }

    /// Forgets what it holds and what it has counted: whoever takes it next finds it as if it were new.
    pub fn clear(&mut self) {
        self.unload();
        self.phases = Phases::default();
        self.traffic = 0;
        self.waited = 0.0;
    }

    /// The same without the self-test: for the self-test itself, and for tests of what it would refuse.
    #[must_use]
    pub fn untested(device: Device, contract: Contract, strictness: Strictness) -> Self {
        let programs = Programs::compile(&device, contract, strictness);
        let readers = [Reader::new(&device), Reader::new(&device)];
        Self {
            device,
            contract,
            programs,
            readers,
            columns: None,
            fresh: None,
            pace: 1,
            phases: Phases::default(),
            traffic: 0,
            waited: 0.0,
        }
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The contract that its shaders were made for.
    #[must_use]
    pub fn contract(&self) -> Contract {
        self.contract
    }

    /// Forgets what it holds: the particles have changed elsewhere.
    pub fn unload(&mut self) {
        self.columns = None;
        self.fresh = None;
        // Other particles may be more.
        self.pace = 1;
    }

    /// Whether it holds columns.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.columns.is_some()
    }

    /// Takes a working set to the device.
    ///
    /// # Errors
    /// If it does not fit, or the device fails.
    pub fn upload(&mut self, set: &WorkingSet) -> Result<(), GpuError> {
        let watch = Stopwatch::start();
        // Before the new ones are made: memory may not have room for both.
        self.columns = None;
        let columns = Columns::upload(&self.device, &self.programs, set)?;
        self.traffic += 72 * columns.cut.rows as u64;
        self.columns = Some(columns);
        self.fresh = None;
        self.phases.add(Phase::Transfer, watch.seconds());
        Ok(())
    }

    /// Brings positions and momenta back into the working set that was uploaded.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If nothing was uploaded.
    pub fn download(&mut self, set: &mut WorkingSet) -> Result<(), GpuError> {
        let watch = Stopwatch::start();
        let columns = self.columns.as_ref().expect("columns were uploaded");
        columns.download(&self.device, set)?;
        self.traffic += 48 * columns.cut.rows as u64;
        self.phases.add(Phase::Transfer, watch.seconds());
        Ok(())
    }

    /// The present state is good: [`Gpu::restore`] leads back to it, until this is called again.
    ///
    /// # Panics
    /// If nothing was uploaded.
    pub fn keep(&mut self) {
        self.copy(Columns::keep);
    }

    /// Takes the last good state back, on the device.
    ///
    /// # Panics
    /// If nothing was uploaded.
    pub fn restore(&mut self) {
        self.fresh = None;
        self.copy(Columns::restore);
    }

    fn copy(&self, record: impl FnOnce(&Columns, &mut wgpu::CommandEncoder)) {
        let mut encoder = self.device.wgpu().create_command_encoder(&Default::default());
        record(self.columns.as_ref().expect("columns were uploaded"), &mut encoder);
        self.device.queue().submit([encoder.finish()]);
    }

    /// The time that phases took on the device since this was last asked.
    pub fn take_phases(&mut self) -> Phases {
        std::mem::take(&mut self.phases)
    }

    /// Bytes that went from the host to the device or back, so far.
    #[must_use]
    pub fn traffic(&self) -> u64 {
        self.traffic
    }

    /// Time that the host has spent waiting for steps, with nothing else to do, so far [s].
    #[must_use]
    pub fn waited(&self) -> f64 {
        self.waited
    }
}
