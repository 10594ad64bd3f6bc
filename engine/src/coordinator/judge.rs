//! What the protocol does not know: whether a balanced step is good physics, and where particles should live.

use std::collections::BTreeMap;

use super::account::{Share, Totals};
use crate::{audit::Breach, wire::NodeId};

/// What a judge finds.
#[derive(Clone, Debug, PartialEq)]
pub enum Ruling {
    /// Nothing.
    Keep,
    /// A breach that is remembered.
    Record(Breach),
    /// A breach that ends the run; the step stays as evidence.
    KeepAndStop(Breach),
    /// A breach that ends the run without the step.
    Undo(Breach),
}

/// Rules on steps whose books balance.
///
/// Both functions must be pure: whoever becomes coordinator must come to the same ruling. What has to be remembered from step
/// to step goes into the notes, which travel with the decisions.
pub trait Judge {
    /// Whether this node can judge after these notes. If not, decisions wait; it is asked again when the client allows steps.
    fn is_ready(&self, _notes: &[u8]) -> bool {
        true
    }

    /// Rules on a step, given the notes of the step before, and writes the notes for the next one (at most
    /// [`super::NOTES_BYTES_MAX`]).
    fn judge(&self, step: u64, notes: &[u8], shares: &BTreeMap<NodeId, Share>, totals: &Totals) -> (Ruling, Vec<u8>);

    /// Where the particles live after `step`, among these members (at most [`super::CUTS_BYTES_MAX`]).
    fn cuts(&self, step: u64, shares: &BTreeMap<NodeId, Share>) -> Vec<u8>;
}

/// Keeps everything and never moves a particle to another node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lenient;

impl Judge for Lenient {
    fn judge(&self, _: u64, _: &[u8], _: &BTreeMap<NodeId, Share>, _: &Totals) -> (Ruling, Vec<u8>) {
        (Ruling::Keep, Vec::new())
    }

    fn cuts(&self, _: u64, _: &BTreeMap<NodeId, Share>) -> Vec<u8> {
        Vec::new()
    }
}
