//! What can go wrong between the engine and a GPU, and what to do about it.
//!
//! Nothing here is about physics: a device that fails takes no step with it, because a step counts only after its audit.

use thiserror::Error;

use super::selftest::Failure;

/// Why a GPU cannot be used, or can no longer be.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum GpuError {
    /// No driver offers a device.
    #[error("there is no GPU here, and no software device either")]
    NoAdapter,
    /// None has the name or the number that was asked for.
    #[error("there is no GPU `{wanted}` here; there {}", list(.there))]
    UnknownAdapter {
        /// What was asked for.
        wanted: String,
        /// What there is, as `number: name`.
        there: Vec<String>,
    },
    /// It lacks something that cannot be done without.
    #[error("{device} has no {feature}, which {purpose} needs")]
    Feature {
        /// Its name.
        device: String,
        /// What it lacks.
        feature: &'static str,
        /// What needs it.
        purpose: &'static str,
    },
    /// The columns do not fit.
    #[error("{needed} bytes are needed on {device}, which has {available}")]
    Memory {
        /// Its name.
        device: String,
        /// What would be taken [bytes].
        needed: u64,
        /// What there is [bytes].
        available: u64,
    },
    /// Its arithmetic is not that of the CPU.
    #[error("{device} does not compute what the CPU computes: {failure}")]
    SelfTest {
        /// Its name.
        device: String,
        /// What differs.
        failure: Box<Failure>,
    },
    /// It reported what the CPU, from the same state, does not find.
    #[error("{device} reported a step that breaks a law, and the CPU takes the same step without a breach")]
    Disagrees {
        /// Its name.
        device: String,
    },
    /// It is gone: unplugged, reset by its driver, or given up on purpose.
    #[error("{device} was lost: {reason}")]
    Lost {
        /// Its name.
        device: String,
        /// In the words of the driver.
        reason: String,
    },
    /// Its memory is full.
    #[error("{device} is out of memory")]
    OutOfMemory {
        /// Its name.
        device: String,
    },
    /// It was asked for something that is not allowed: a fault of ours.
    #[error("{device} refused what it was asked: {message}")]
    Validation {
        /// Its name.
        device: String,
        /// In the words of wgpu.
        message: String,
    },
    /// The driver failed in a way of its own.
    #[error("the driver of {device} failed: {message}")]
    Driver {
        /// Its name.
        device: String,
        /// In the words of the driver.
        message: String,
    },
}

impl GpuError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoAdapter => {
                "install the Vulkan driver of the GPU; `apt-get install mesa-vulkan-drivers` gives a software device; \
                 `--backend cpu` runs everywhere"
            }
            Self::UnknownAdapter { .. } => "`emmy devices` lists them: give part of a name, or the number",
            Self::Feature { .. } => "`emmy devices` says what each can do; `--backend cpu` runs everywhere",
            Self::Memory { .. } => {
                "take fewer bodies or another device; `--backend cpu` uses the memory of the machine"
            }
            Self::SelfTest { .. } => {
                "a newer driver may help; until then its results would not be reproducible, and `--backend cpu` runs everywhere"
            }
            Self::Lost { .. } => {
                "resume from the last checkpoint; if it happens again, `--backend cpu` runs everywhere"
            }
            Self::Disagrees { .. } => {
                "its memory or its driver may be faulty: do not trust it; `--backend cpu` runs everywhere"
            }
            Self::OutOfMemory { .. } => "close what else uses it or take fewer bodies; `--backend cpu` runs everywhere",
            Self::Validation { .. } => "this is a fault in Emmy: please report it; `--backend cpu` runs everywhere",
            Self::Driver { .. } => "a newer driver may help; `--backend cpu` runs everywhere",
        }
    }
}

fn list(names: &[String]) -> String {
    match names {
        [] => "are none".to_owned(),
        [one] => format!("is {one}"),
        many => format!("are {}", many.join(", ")),
    }
}
