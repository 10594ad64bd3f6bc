//! What nodes write to each other. Every letter may be lost, come twice, late, or from an epoch that is over.

use serde::{Deserialize, Serialize};

use super::{
    account::Share,
    config::Config,
    decision::{Decision, Hash},
    offence::Standing,
};
use crate::{
    audit::Breach,
    wire::{DecodeError, Epoch, Incarnation, NodeId, decode, encode},
};

/// Bytes that a letter may have: a configuration with its log is the longest.
pub const LETTER_BYTES_MAX: usize = 1 << 25;

/// A proposal's number: the higher one wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ballot {
    /// Counts attempts.
    pub round: u32,
    /// Whose attempt.
    pub node: NodeId,
}

/// What became of a step at one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Vote {
    /// It passed the node's own audit.
    Yes(Share),
    /// It did not.
    No {
        /// Stage of the splitting.
        stage: u16,
        /// Place within the stage.
        order: (u64, u64),
        /// What broke.
        breach: Breach,
    },
    /// Nothing wrong up to this stage; it waits there for somebody who refused.
    Held {
        /// The stage.
        stage: u16,
    },
    /// It cannot be computed: somebody sent what no correct node sends.
    Accuses {
        /// Who.
        of: NodeId,
        /// What, for people.
        what: String,
    },
}

/// The copy that a node's buddy has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyShare {
    /// The step after which it was taken.
    pub step: u64,
    /// What it holds and its share of the root, recounted by who keeps it; and what was gained in the hand-over before it.
    pub share: Share,
}

/// What a node can contribute to a new epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Steps of which it keeps its own snapshot.
    pub snapshots: Vec<u64>,
    /// Copies of others that it holds: owner, step.
    pub copies: Vec<(NodeId, u64)>,
    /// Whom it hears.
    pub hears: Vec<NodeId>,
}

/// What a letter says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// I am here.
    Beat {
        /// Index of the last decision that I know.
        index: u64,
        /// Steps that the client allowed.
        granted: u64,
        /// Whom I hear: a beat counts only for those whom its sender hears.
        hears: Vec<NodeId>,
        /// How far I am.
        standing: Standing,
    },
    /// I was started anew and remember nothing; or I was left out.
    Join {
        /// Steps that the client allowed.
        granted: u64,
        /// Whom I hear.
        hears: Vec<NodeId>,
    },
    /// To the coordinator: what became of a step here.
    Vote {
        /// The step.
        step: u64,
        /// What became of it.
        vote: Vote,
    },
    /// From the coordinator: somebody refused the step in this stage; go no further, and say how far you are.
    Halt {
        /// The step.
        step: u64,
        /// The stage.
        stage: u16,
    },
    /// From the coordinator to replicas: store this.
    Accept(Box<Decision>),
    /// Stored.
    Accepted {
        /// Place in the chain.
        index: u64,
        /// Hash of what was stored.
        hash: Hash,
    },
    /// From the coordinator: this counts.
    Decide(Box<Decision>),
    /// From the coordinator: a step that was committed before has been recomputed, with the same root.
    Again {
        /// The step.
        step: u64,
        /// The root.
        root: u128,
    },
    /// To the coordinator: my copy is where it should be.
    Copied(CopyShare),
    /// To the replicas of an epoch: take part in choosing its successor, and in nothing else any more.
    Prepare(Ballot),
    /// I will; this is what I know.
    Promise {
        /// The ballot.
        ballot: Ballot,
        /// The last decisions that were stored.
        log: Vec<Decision>,
        /// The successor that was accepted, and under which ballot.
        accepted: Option<(Ballot, Box<Config>)>,
    },
    /// A higher ballot is under way.
    Refuse {
        /// It.
        promised: Ballot,
    },
    /// To everybody: what could you contribute?
    Query(Ballot),
    /// This.
    Report {
        /// The ballot.
        ballot: Ballot,
        /// What there is.
        report: Report,
    },
    /// To the replicas: accept this successor.
    Propose {
        /// The ballot.
        ballot: Ballot,
        /// The successor.
        config: Box<Config>,
    },
    /// I did.
    Agreed(Ballot),
    /// This configuration was chosen, and you are a member.
    Begin(Box<Config>),
    /// An epoch without you has begun.
    Expelled,
}

/// A message, with what fences it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// Which branch of the run.
    pub branch: u64,
    /// The epoch in which it was written.
    pub epoch: Epoch,
    /// Which life of the receiver it was written to, where that matters: letters to a dead one are not for its successor.
    pub to: Option<Incarnation>,
    /// What it says.
    pub body: Body,
}

impl Letter {
    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = encode(self);
        assert!(bytes.len() <= LETTER_BYTES_MAX, "{} bytes", bytes.len());
        bytes
    }

    /// From bytes.
    ///
    /// # Errors
    /// If they are not exactly one letter.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, "letter", LETTER_BYTES_MAX)
    }
}
