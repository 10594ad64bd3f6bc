//! Where the committed state is: in the entities, or on a device that is ahead of them.
//!
//! A device keeps the columns from pass to pass, and the entities are brought up to date when someone looks. Until then they hold
//! an older committed state, the anchor. Steps are pure functions of integers, so a device that is lost loses nothing: the CPU
//! takes the steps since the anchor again and arrives at the same bits.

use bevy_ecs::prelude::*;

use crate::{backend::gpu::error::GpuError, ledger::Ledger, step::Clock};

/// After so many steps the entities are brought up to date even if nobody looks, so that a loss costs no more than these.
pub const ANCHOR_STEPS: u64 = 4096;

/// Where the committed state is.
#[derive(Resource, Clone, Debug, Default)]
pub struct Residence {
    /// What the entities hold while a device is ahead of them.
    anchor: Option<Anchor>,
    /// Why the pass could not be finished on the device: nothing of it counts.
    pub fault: Option<GpuError>,
    /// Why the run went on without the device that it began with.
    pub fell_back: Option<GpuError>,
}

/// An older committed state.
#[derive(Clone, Debug, PartialEq)]
pub struct Anchor {
    /// Where the run stood.
    pub clock: Clock,
    /// The book as it was.
    pub ledger: Ledger,
}

impl Residence {
    /// Whether a device is ahead of the entities.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.anchor.is_some()
    }

    /// A device goes ahead; what the entities hold is this, unless it was away already.
    pub fn leave(&mut self, clock: Clock, ledger: &Ledger) {
        self.anchor.get_or_insert_with(|| Anchor { clock, ledger: ledger.clone() });
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
