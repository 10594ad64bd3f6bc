//! Where the committed state is: in the entities, or on a device that is ahead of them.
//!
//! A device keeps the columns from pass to pass, and the entities are brought up to date when someone looks. Until then they hold
//! an older committed state, the anchor. Steps are pure functions of integers, so a device that is lost loses nothing: the CPU
//! takes the steps since the anchor again and arrives at the same bits; or the run stands still at the anchor, and is resumed
//! from there.

use bevy_ecs::prelude::*;

use crate::{
    audit::{BreachReport, Drifts},
    backend::gpu::error::GpuError,
    ledger::Ledger,
    step::Clock,
};

/// After so many steps the entities are brought up to date even if nobody looks, so that a loss costs no more than these; in sets
/// of more than 2¹⁷ rows after one step for every 32 rows. Either way that is at most 1.5 KiB a step.
pub const ANCHOR_STEPS: u64 = 4096;

/// What happens when the device fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// The CPU goes on from the last audited step.
    #[default]
    GoOn,
    /// The run stands still where the entities are.
    Stop,
}

/// Where the committed state is.
#[derive(Resource, Clone, Debug, Default)]
pub struct Residence {
    /// What the entities hold while a device is ahead of them.
    anchor: Option<Anchor>,
    /// Why the pass could not be finished on the device: nothing of it counts.
    pub fault: Option<GpuError>,
    /// Why the device that the run began with is no longer used.
    pub lost: Option<GpuError>,
    /// What happens then.
    pub on_loss: OnLoss,
}

/// An older committed state, beside the particles.
#[derive(Clone, Debug, PartialEq)]
pub struct Anchor {
    /// Where the run stood.
    pub clock: Clock,
    /// The book as it was.
    pub ledger: Ledger,
    /// The record of what may drift.
    pub drifts: Option<Drifts>,
    /// Breaches until then.
    pub breaches: Vec<BreachReport>,
}

impl Residence {
    /// Whether a device is ahead of the entities.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.anchor.is_some()
    }

    /// A device goes ahead. Unless it was away already, what the entities hold is told by `anchor`.
    pub fn leave(&mut self, anchor: impl FnOnce() -> Anchor) {
        self.anchor.get_or_insert_with(anchor);
    }

    /// Steps by which the device is ahead.
    #[must_use]
    pub fn ahead(&self, clock: Clock) -> u64 {
        self.anchor.as_ref().map_or(0, |anchor| anchor.clock.step.abs_diff(clock.step))
    }

    /// The entities are up to date again, or are about to be: hands over what they held.
    pub fn come_home(&mut self) -> Option<Anchor> {
        self.anchor.take()
    }
}
