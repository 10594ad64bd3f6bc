//! Decisions: what became of a step, chained by their hashes.
//!
//! There is one decision for each place in the chain, and at most one of each epoch for each step. A decision that undoes a step
//! is the last of its epoch. The hash covers everything, the hash of the decision before included, so that whoever holds the
//! head of the chain can tell whether any older one was changed.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    account::{Fault, Totals},
    offence::{Offence, WHAT_BYTES_MAX},
};
use crate::{
    audit::Breach,
    ledger::Amounts,
    wire::{Epoch, Incarnation, NodeId, encode},
};

/// Bytes of new cuts that a boundary may carry.
pub const CUTS_BYTES_MAX: usize = 1 << 16;
/// Bytes that a judge may hand on from step to step.
pub const NOTES_BYTES_MAX: usize = 1 << 16;

/// A BLAKE3 hash.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Of the bytes of a value.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        Self(*blake3::hash(&encode(value)).as_bytes())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

/// What a node held after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The node.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// What its particles held.
    pub held: Amounts,
    /// Its share of the state root.
    pub root: u128,
}

/// What happens before the next step, when nothing is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundary {
    /// Whether every member keeps a snapshot (after the hand-over) and sends a copy of it to its buddy.
    pub copy: bool,
    /// Where the particles live from now on, for those who know how to read it.
    pub cuts: Vec<u8>,
}

/// A copy of the whole state that is known to be complete: every partition is kept by its owner and by the owner's buddy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRecord {
    /// The step after which it was taken. No two copies are of one step.
    pub step: u64,
    /// The state root.
    pub root: u128,
    /// Who owned what, after the hand-over.
    pub partitions: Vec<Holding>,
}

/// Why a step was undone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Cause {
    /// A node's own audit refused it. Of several, the one that comes first in the step, whoever was heard first.
    Violation {
        /// The node.
        node: NodeId,
        /// Stage of the splitting.
        stage: u16,
        /// Place within the stage: particle, other particle.
        order: (u64, u64),
        /// What broke.
        breach: Breach,
    },
    /// The books do not balance across nodes.
    Entry(Fault),
    /// The judge refused it.
    Judged(Breach),
    /// A node cannot use what another one sent.
    Offence(Offence),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation { node, stage, breach, .. } => write!(f, "{breach} (found by {node} in stage {stage})"),
            Self::Entry(fault) => write!(f, "{fault}"),
            Self::Judged(breach) => write!(f, "{breach}"),
            Self::Offence(offence) => write!(f, "{offence}"),
        }
    }
}

/// What happens after a step was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    /// The run ends, with the state before the step.
    Stop,
    /// The step is taken again, from the last copy.
    Retry,
    /// The step is taken again without this node.
    Isolate(NodeId),
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// Final.
    Commit,
    /// Final, and this is remembered.
    CommitAndRecord(Breach),
    /// Final as evidence, and the run ends.
    CommitAndStop(Breach),
    /// As if it had not been.
    Undo {
        /// Why.
        cause: Cause,
        /// What now.
        then: Then,
    },
}

impl Verdict {
    /// Whether the step stays.
    #[must_use]
    pub fn is_commit(&self) -> bool {
        !matches!(self, Self::Undo { .. })
    }

    /// Whether no step follows.
    #[must_use]
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::CommitAndStop(_) | Self::Undo { then: Then::Stop, .. })
    }
}

/// A link of the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The epoch in which it was made.
    pub epoch: Epoch,
    /// Its place in the chain; the first is 1.
    pub index: u64,
    /// The step it is about.
    pub step: u64,
    /// What became of the step.
    pub verdict: Verdict,
    /// What all nodes held after the step together, and the state root; where the step was undone, those of before.
    pub totals: Totals,
    /// What each node held after the step; nothing where it was undone.
    pub holdings: Vec<Holding>,
    /// The next step before which the pipeline is drained for a boundary: at least two steps ahead, because the next one may
    /// have begun already.
    pub next_boundary: u64,
    /// What happens before the next step, if it is that of a boundary.
    pub boundary: Option<Boundary>,
    /// A copy that has become complete: older ones may go.
    pub copy: Option<CopyRecord>,
    /// What the judge hands on to whoever judges the next step.
    pub notes: Vec<u8>,
    /// Hash of the configuration under which it was made.
    pub config: Hash,
    /// Hash of the decision before.
    pub previous: Hash,
}

impl Decision {
    /// Covers everything, the decision before included.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(self)
    }

    /// Whether what is said for people keeps its limits.
    pub(super) fn has_short_texts(&self) -> bool {
        match &self.verdict {
            Verdict::Undo { cause: Cause::Offence(offence), .. } => offence.what.len() <= WHAT_BYTES_MAX,
            _ => true,
        }
    }

    /// The last step that stays.
    #[must_use]
    pub fn last_step(&self) -> u64 {
        if self.verdict.is_commit() { self.step } else { self.step.saturating_sub(1) }
    }

    /// What each node held, by node.
    #[must_use]
    pub fn held(&self) -> BTreeMap<NodeId, Amounts> {
        self.holdings.iter().map(|holding| (holding.node, holding.held)).collect()
    }
}

/// Where the chain ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Index of the last decision; 0 if there is none.
    pub index: u64,
    /// The last committed step.
    pub step: u64,
    /// Its state root.
    pub root: u128,
    /// Hash of the last decision; of the start if there is none.
    pub hash: Hash,
}

impl Head {
    /// After one more decision.
    #[must_use]
    pub fn after(decision: &Decision) -> Self {
        Self { index: decision.index, step: decision.last_step(), root: decision.totals.root, hash: decision.hash() }
    }
}
