//! An open device, and the first thing that went wrong on it.
//!
//! wgpu reports errors later than their cause, through callbacks, and by default it panics. Here they are kept, and [`Device::check`]
//! tells: the first fault stays, because those after it are mostly its consequences. Nothing that was computed since the last
//! good check may be believed.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use super::{
    adapter::{Adapter, Facts},
    error::GpuError,
};

/// What the engine asks of a device, where the adapter has it.
const KNOWN: wgpu::Features = wgpu::Features::SHADER_F64
    .union(wgpu::Features::SHADER_INT64)
    .union(wgpu::Features::TIMESTAMP_QUERY)
    .union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS)
    .union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES)
    .union(wgpu::Features::PASSTHROUGH_SHADERS)
    .union(wgpu::Features::IMMEDIATES);

/// A device and its queue.
#[derive(Debug)]
pub struct Device {
    wgpu: wgpu::Device,
    queue: wgpu::Queue,
    facts: Facts,
    /// The first fault, once there is one.
    fault: Arc<OnceLock<GpuError>>,
}

impl Device {
    /// Opens it, with all the limits of the adapter and those features that the engine knows.
    pub fn open(adapter: &Adapter) -> Result<Self, GpuError> {
        let facts = adapter.facts().clone();
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("emmy"),
            required_features: adapter.wgpu().features() & KNOWN,
            required_limits: adapter.wgpu().limits(),
            ..Default::default()
        };
        let (wgpu, queue) = pollster::block_on(adapter.wgpu().request_device(&descriptor))
            .map_err(|error| GpuError::Driver { device: facts.name.clone(), message: error.to_string() })?;
        let fault = Arc::new(OnceLock::new());
        listen(&wgpu, &facts.name, &fault);
        Ok(Self { wgpu, queue, facts, fault })
    }

    /// What is known of it.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The device as wgpu knows it.
    #[must_use]
    pub fn wgpu(&self) -> &wgpu::Device {
        &self.wgpu
    }

    /// Where commands and data go in.
    #[must_use]
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// The first thing that went wrong, if anything did.
    pub fn check(&self) -> Result<(), GpuError> {
        self.fault.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// Waits until all that was submitted is done, and checks.
    pub fn wait(&self) -> Result<(), GpuError> {
        self.poll(wgpu::PollType::wait_indefinitely())
    }

    fn poll(&self, until: wgpu::PollType) -> Result<(), GpuError> {
        // When a device is lost while somebody waits for it, wgpu calls the callback first and then panics in `poll`.
        let waited = catch_unwind(AssertUnwindSafe(|| self.wgpu.poll(until)));
        self.check()?;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.lost(&error.to_string())),
            Err(_) => Err(self.lost("it stopped answering")),
        }
    }

    /// Waits until this submission is done, and checks.
    pub fn wait_for(&self, submission: wgpu::SubmissionIndex) -> Result<(), GpuError> {
        self.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None })
    }

    /// Loses the device, as a reset of the driver would: for tests that inject this fault, and for nothing else.
    pub fn lose(&self) {
        self.wgpu.destroy();
        // The callback comes with the next wait; what this one returns is the very fault that was wanted.
        let _ = self.wait();
    }

    /// Keeps a fault that no callback told, unless there was one before, and returns the first.
    fn lost(&self, reason: &str) -> GpuError {
        let fault = GpuError::Lost { device: self.facts.name.clone(), reason: reason.to_owned() };
        self.fault.get_or_init(|| fault).clone()
    }
}

/// Keeps the first fault of a device.
fn listen(device: &wgpu::Device, name: &str, fault: &Arc<OnceLock<GpuError>>) {
    let (of_errors, of_loss) = (fault.clone(), fault.clone());
    let (name, lost) = (name.to_owned(), name.to_owned());
    device.on_uncaptured_error(Arc::new(move |error| {
        let _ = of_errors.set(fault_of(&name, error));
    }));
    device.set_device_lost_callback(move |reason, message| {
        let reason = match reason {
            wgpu::DeviceLostReason::Destroyed => "it was given up".to_owned(),
            wgpu::DeviceLostReason::Unknown => message,
        };
        let _ = of_loss.set(GpuError::Lost { device: lost.clone(), reason });
    });
}

fn fault_of(device: &str, error: wgpu::Error) -> GpuError {
    let device = device.to_owned();
    match error {
        wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory { device },
        wgpu::Error::Validation { description: message, .. } => GpuError::Validation { device, message },
        wgpu::Error::Internal { description: message, .. } => GpuError::Driver { device, message },
    }
}
