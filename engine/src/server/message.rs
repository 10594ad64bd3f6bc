//! What clients and servers say to each other around a run. Texts that are only shown are such as a terminal may show.

use serde::{Deserialize, Serialize};

use crate::{node::History, quanta::Quanta, text::read_harmless};

/// What a block is, in [`crate::transport::Tag::kind`]; smaller numbers are those of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// From a client: take part in this run.
    Open = 32,
    /// To the client: ready, or why not.
    Opened = 33,
    /// From the client: it begins.
    Begin = 34,
    /// From anybody trusted: how are you?
    Ask = 35,
    /// The answer.
    Status = 36,
    /// From a member: my audit log ends so.
    Head = 37,
    /// From an operator: go on without the others, in a branch of your own. The answer is a [`Kind::Status`].
    Alone = 38,
}

impl Kind {
    /// The kind of a number.
    #[must_use]
    pub fn of(number: u16) -> Option<Self> {
        let all = [Self::Open, Self::Opened, Self::Begin, Self::Ask, Self::Status, Self::Head, Self::Alone];
        all.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// The place of a node in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Its public key, as text.
    #[serde(deserialize_with = "read_harmless")]
    pub key: String,
    /// Where it listens.
    #[serde(deserialize_with = "read_harmless")]
    pub address: String,
}

/// A run: the head of a list of its particles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// A number that no other run has.
    pub run: u64,
    /// The program of the client.
    #[serde(deserialize_with = "read_harmless")]
    pub program: String,
    /// The scenario, every default filled in.
    pub scenario: String,
    /// Names of particles.
    pub names: std::collections::BTreeMap<u64, String>,
    /// Sizes of the integer units.
    pub quanta: Quanta,
    /// Committed steps.
    pub step: u64,
    /// What the run has behind it, if it is resumed.
    pub history: Option<History>,
    /// The root of the particles.
    pub root: u128,
    /// Who takes part, by place.
    pub seats: Vec<Seat>,
    /// The place of the one who reads this.
    pub you: u16,
    /// Whether the run is under way, and the reader is to join it: then all lives are known.
    pub joins: bool,
    /// The lives of all, where they are known.
    pub lives: Vec<u64>,
}

/// What a server says to a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opened {
    /// It is ready, and will take part in this life.
    Ready {
        /// The run.
        run: u64,
        /// Its life.
        life: u64,
        /// How many threads it has.
        threads: u32,
        /// Its instruction set; no bit depends on it.
        #[serde(deserialize_with = "read_harmless")]
        isa: String,
    },
    /// It is not.
    Refused {
        /// The run.
        run: u64,
        /// Why.
        #[serde(deserialize_with = "read_harmless")]
        why: String,
    },
}

/// It begins: who is there in which life, by place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The run.
    pub run: u64,
    /// The lives.
    pub lives: Vec<u64>,
}

/// How a server is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its program.
    #[serde(deserialize_with = "read_harmless")]
    pub program: String,
    /// Seconds since it was started.
    pub up_seconds: f64,
    /// How many runs it has taken part in.
    pub runs: u64,
    /// Threads.
    pub threads: u32,
    /// The instruction set.
    #[serde(deserialize_with = "read_harmless")]
    pub isa: String,
    /// The run that it takes part in.
    pub run: Option<RunStatus>,
}

/// How a run is, as one of its nodes sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStatus {
    /// Its name.
    #[serde(deserialize_with = "read_harmless")]
    pub name: String,
    /// The place of this node.
    pub node: u16,
    /// The epoch.
    pub epoch: u32,
    /// Whether an operator let it go on alone, in a branch of its own.
    pub alone: bool,
    /// Who decides, if this node is a member.
    pub coordinator: Option<u16>,
    /// Who takes part.
    pub members: Vec<u16>,
    /// Committed steps of the run.
    pub step: u64,
    /// The state root.
    #[serde(deserialize_with = "read_harmless")]
    pub root: String,
    /// Particles here.
    pub particles: u64,
    /// How suspicious each other node is, in hundredths of phi.
    pub phi_hundredths: Vec<(u16, u32)>,
}
