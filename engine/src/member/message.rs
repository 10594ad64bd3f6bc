//! What nodes and the client of a run say to each other beyond halos and the letters of the step protocol.
//!
//! Every message is refused where what it says cannot be: a book or a record that no run can have, a particle out of every range. Texts
//! are such as a terminal may show.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{
    audit::BreachReport,
    contract::Contract,
    coordinator::{Account, Share},
    exchange::Way,
    ledger::Amounts,
    node::History,
    particle::Particle,
    partition::{
        Proposal, RecountShare,
        cuts::{Cuts, Sketch},
    },
    snapshot::{
        checkpoint::{RECORD_BYTES, particle, record},
        validate::check_history,
    },
    text::read_all_harmless,
    wire::{DecodeError, Epoch, NodeId, decode, encode},
};

/// What a block is, in [`crate::transport::Tag::kind`]; numbers below 16 are those of [`crate::exchange::message::Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// A letter of the step protocol.
    Letter = 16,
    /// From the client: steps may be taken up to here.
    Grant = 17,
    /// To the client: where the run stands.
    News = 18,
    /// From the client: send your particles.
    Collect = 19,
    /// To the client: here they are.
    Particles = 20,
    /// From the client: count energy and centre of mass.
    Count = 21,
    /// To the client: my share of it.
    Counted = 22,
    /// To the buddy: keep this.
    Copy = 23,
    /// From the buddy: it is kept.
    Kept = 24,
    /// From the client: the run is over.
    Close = 25,
    /// From the client: still there.
    Ping = 26,
    /// To the client: what happened here, for people.
    Remarks = 27,
}

impl Kind {
    /// The kind of a number.
    #[must_use]
    pub fn of(number: u16) -> Option<Self> {
        let all = [
            Self::Letter,
            Self::Grant,
            Self::News,
            Self::Collect,
            Self::Particles,
            Self::Count,
            Self::Counted,
            Self::Copy,
            Self::Kept,
            Self::Close,
            Self::Ping,
            Self::Remarks,
        ];
        all.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// Bytes of a message that is not made of particles, at most.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Positions stay within ±2^(this) under every contract.
const POSITION_BITS_MAX: u32 = Contract::Native64.position_bits();

/// Steps may be taken up to `up_to`. The book and the record at the start go along, because nobody may decide without them; breaches
/// of the past do not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The last step of the protocol that is allowed.
    pub up_to: u64,
    /// What the run has behind it.
    #[serde(deserialize_with = "read_history")]
    pub history: History,
}

/// A history that a run can have.
fn read_history<'de, D: Deserializer<'de>>(input: D) -> Result<History, D::Error> {
    let history = History::deserialize(input)?;
    check_history(&history.ledger, &history.drifts).map_err(D::Error::custom)?;
    Ok(history)
}

/// What happened at a node, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remarks(#[serde(deserialize_with = "read_all_harmless")] pub Vec<String>);

/// Breaches in one piece of news, at most.
pub const NEWS_BREACHES_MAX: usize = 64;

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct News {
    /// 0, or the branch of a node that an operator let go on alone.
    pub branch: u64,
    /// The epoch, who decides in it, and who takes part.
    pub epoch: Epoch,
    /// Who decides.
    pub coordinator: NodeId,
    /// Who takes part.
    pub members: Vec<NodeId>,
    /// Decisions so far.
    pub index: u64,
    /// Committed steps of the protocol.
    pub step: u64,
    /// The state root.
    pub root: u128,
    /// The book and the record; `None` before the first step.
    pub notes: Option<Notes>,
    /// The newest breaches, [`NEWS_BREACHES_MAX`] at most: whoever hears news now and then has heard of those before.
    pub breaches: Vec<BreachReport>,
    /// Whether the run is over, by a breach or because it cannot go on.
    pub stopped: bool,
    /// Whether enough nodes are there to decide anything.
    pub can_decide: bool,
}

/// The book and the record after a step: what whoever decides about the next one needs to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawNotes")]
pub struct Notes {
    /// The book of all partitions together.
    pub ledger: crate::ledger::Ledger,
    /// The record of what may drift.
    pub drifts: crate::audit::Drifts,
}

/// Notes as they travel, before it is known whether they can be.
#[derive(Deserialize)]
struct RawNotes {
    ledger: crate::ledger::Ledger,
    drifts: crate::audit::Drifts,
}

impl TryFrom<RawNotes> for Notes {
    type Error = String;

    fn try_from(RawNotes { ledger, drifts }: RawNotes) -> Result<Self, String> {
        check_history(&ledger, &drifts).map(|()| Self { ledger, drifts })
    }
}

/// Send the particles of this step, or count energies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Which question.
    pub id: u16,
    /// The epoch in which it is asked.
    pub epoch: Epoch,
    /// The committed step at which it is asked.
    pub step: u64,
}

/// An answer to a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The question.
    pub ask: Ask,
    /// The share of energy and centre of mass.
    pub share: RecountShare,
    /// What the particles hold.
    pub held: Amounts,
    /// Their share of the state root.
    pub root: u128,
}

/// Acknowledges a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The step after which it was taken.
    pub step: u64,
    /// The share of the state root that its particles have where they are kept.
    pub root: u128,
}

/// What changes at a boundary; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrangement {
    /// Who owns what.
    pub cuts: Option<Cuts>,
    /// How often the pairs of two partitions are evaluated.
    pub way: Option<Way>,
}

impl Arrangement {
    /// Its bytes; none if nothing changes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        if *self == Self::default() { Vec::new() } else { encode(self) }
    }

    /// Reads it. Bytes that spell none, or cuts that these members cannot use, change nothing: all members have the same bytes, and all of
    /// them leave them aside.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], members: &[NodeId]) -> Self {
        let read: Self = decode(bytes, "arrangement", crate::coordinator::CUTS_BYTES_MAX).unwrap_or_default();
        Self { cuts: read.cuts.filter(|cuts| cuts.sound_for(members)), ..read }
    }
}

/// What the pairs of a node take, and what it waits for: before a boundary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Pairs that it evaluated since the last boundary.
    pub pairs: u64,
    /// Time that they took [ns].
    pub pair_ns: u64,
    /// The longest round trip to another node, when nothing is in the way [ns].
    pub round_trip_ns: u64,
    /// How pairs are evaluated at present.
    pub way: Way,
}

/// What the judge is told with a share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extra {
    /// Where energy is recounted.
    pub recount: Option<RecountShare>,
    /// Before a boundary: where the particles are.
    pub sketch: Option<Sketch>,
    /// Time spent computing since the last boundary [ns].
    pub effort_ns: u64,
    /// Before a boundary: what decides how pairs are evaluated after it.
    pub pace: Option<Pace>,
}

/// A share of a step as the protocol wants it.
#[must_use]
pub fn share(proposal: &Proposal, extra: &Extra) -> Share {
    let angular = |angular_momentum| Amounts { angular_momentum, ..Amounts::default() };
    let book = &proposal.book;
    let own = [
        (Account::KickRounding, angular(book.kick_rounding)),
        (Account::DriftRounding, angular(book.drift_rounding)),
        (Account::Reaction, book.reaction),
    ];
    let peers = proposal.peers.iter().map(|(&node, &gained)| (Account::Peer(node), gained));
    let mut gained: Vec<_> = own.into_iter().chain(peers).filter(|(_, gained)| *gained != Amounts::default()).collect();
    gained.sort_by_key(|(account, _)| *account);
    Share {
        held: proposal.held,
        gained,
        root: proposal.root.0,
        extra: encode(extra),
        work_ns: proposal.took.nanoseconds,
    }
}

/// Particles of one partition, with the cuts that were in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Who owns what.
    pub cuts: Cuts,
    /// The particles.
    pub particles: Vec<Particle>,
}

/// The bytes of particles, with a head before them.
#[must_use]
pub fn write_particles(head: &impl Serialize, particles: &[Particle]) -> Vec<u8> {
    let head = encode(head);
    let mut bytes = Vec::with_capacity(4 + head.len() + RECORD_BYTES * particles.len());
    bytes.extend((head.len() as u32).to_le_bytes());
    bytes.extend(head);
    for particle in particles {
        record(particle).iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    }
    bytes
}

/// Reads them. Each is within the widest ranges that there are; a contract may have narrower ones.
///
/// # Errors
/// If they are none.
pub fn read_particles<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<(T, Vec<Particle>), DecodeError> {
    let malformed = |error: &str| DecodeError::Malformed { what: "list of particles", error: error.to_owned() };
    let (length, rest) = bytes.split_at_checked(4).ok_or_else(|| malformed("it has no head"))?;
    let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
    let (head, rest) = rest.split_at_checked(length).ok_or_else(|| malformed("its head is cut off"))?;
    let head = decode(head, "head of a list of particles", MESSAGE_BYTES_MAX)?;
    let (records, left) = rest.as_chunks::<RECORD_BYTES>();
    if !left.is_empty() {
        return Err(malformed("its last particle is cut off"));
    }
    let particles: Vec<Particle> = records.iter().map(particle).collect();
    particles.iter().try_for_each(|particle| particle.check(POSITION_BITS_MAX)).map_err(|why| malformed(&why))?;
    Ok((head, particles))
}
