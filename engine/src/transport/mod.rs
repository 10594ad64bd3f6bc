//! Blocks of bytes from node to node: one trait, whatever carries them.
//!
//! A block that was posted comes out at the other end once and whole, or not at all: it is lost only when its receiver dies or is
//! given up, or when it was cancelled. Blocks may overtake each other: who needs an order finds it in the [`Tag`]. Nothing blocks,
//! nothing reads a clock: the owner polls and says what time it is, so that a simulated network runs the same code.
//!
//! Below a [`Transport`] that crosses a network lie [`Datagrams`], which may lose, repeat, reorder and delay, but never forge.

pub mod bulk;
pub mod memory;
pub mod network;

use serde::{Deserialize, Serialize};

pub mod laminar;

use crate::wire::{Epoch, Incarnation, NodeId, Time};

/// What a block is about; with its sender it is unique among the blocks of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag {
    /// The epoch in which it was posted.
    pub epoch: Epoch,
    /// The step that it belongs to.
    pub step: u64,
    /// What it is, as a number that its users give a name.
    pub kind: u16,
    /// Which of several of its kind: a stage, a part.
    pub part: u16,
}

/// What a transport can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether bytes cost time: if not, compressing them cannot pay.
    pub crosses_a_network: bool,
    /// Largest block [bytes].
    pub block_max: usize,
}

/// What is known of the way to a peer, as it was measured while blocks went there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// A round trip when nothing is in the way [ns].
    pub round_trip_ns: u64,
    /// What a byte takes among many, sealing and opening included [ps]; `None` before several datagrams left at once.
    pub byte_ps: Option<u64>,
    /// What may be under way before somebody answers [bytes].
    pub window_bytes: u64,
}

impl Path {
    /// What a byte of a block of so many takes [ps], waiting for answers included where the block is more than may be under way; `None`
    /// if that was not measured yet.
    #[must_use]
    pub fn byte_ps_of(&self, block_bytes: u64) -> Option<u64> {
        let waits = if block_bytes > self.window_bytes {
            self.round_trip_ns.saturating_mul(1000) / self.window_bytes.max(1)
        } else {
            0
        };
        self.byte_ps.map(|byte| byte.saturating_add(waits))
    }
}

/// Why a block was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// Larger than any block may be.
    #[error("a block of {bytes} bytes: at most {most} are carried")]
    Oversize {
        /// Its size.
        bytes: usize,
        /// The largest that is carried.
        most: usize,
    },
    /// Too much waits for this peer already: it does not read, or its link is slow.
    #[error("{waiting} bytes wait for {to} already, at most {most} may")]
    Full {
        /// The peer.
        to: NodeId,
        /// Bytes that wait.
        waiting: usize,
        /// Bytes that may wait.
        most: usize,
    },
    /// No such peer.
    #[error("{0} is no peer")]
    Unknown(NodeId),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A block came, whole and unharmed.
    Received {
        /// Its sender.
        from: NodeId,
        /// Which life of it.
        incarnation: Incarnation,
        /// What it is about.
        tag: Tag,
        /// Its contents.
        bytes: Vec<u8>,
    },
    /// A block that was posted arrived.
    Delivered {
        /// Its receiver.
        to: NodeId,
        /// What it was about.
        tag: Tag,
    },
    /// A peer is there under a new incarnation: whatever was under way to or from the old one is lost.
    Restarted {
        /// The peer.
        peer: NodeId,
        /// Its new life.
        incarnation: Incarnation,
    },
}

/// Carries blocks.
pub trait Transport {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Takes a block for a peer.
    ///
    /// # Errors
    /// If the block is too large, too much waits already, or there is no such peer; nothing was taken then.
    fn post(&mut self, to: NodeId, tag: Tag, bytes: Vec<u8>) -> Result<(), PostError>;

    /// Whether a block of so many bytes would be refused now and may be taken later: see [`PostError::Full`].
    fn is_full(&self, to: NodeId, bytes: usize) -> bool;

    /// What is known of the way to a peer; `None` where nothing was measured yet, or bytes cost nothing.
    fn path(&self, to: NodeId) -> Option<Path>;

    /// Does what is due and says what happened; to be called until it says `None`.
    fn poll(&mut self, now: Time) -> Option<Event>;

    /// A number that grows while a block that is more than a datagram comes in, so that slow is not taken for stuck.
    fn parts_received(&self) -> u64;

    /// Forgets what is under way in either direction with a tag of an older epoch.
    fn cancel_before(&mut self, epoch: Epoch);

    /// Forgets what is under way to and from one peer.
    fn give_up(&mut self, peer: NodeId);
}

/// Carries datagrams between peers that have proved who they are: unordered, unreliable, unrepeatable by others.
pub trait Datagrams {
    /// Largest payload [bytes].
    fn payload_max(&self) -> usize;

    /// Queues a datagram. One that cannot be sent is lost, as any other may be.
    ///
    /// # Panics
    /// If the payload is larger than [`Datagrams::payload_max`].
    fn send(&mut self, to: NodeId, payload: &[u8]);

    /// Sends what is queued, does what is due (handshakes), and takes in what has come.
    fn poll(&mut self, now: Time);

    /// The next datagram that came: its sender, the sender's incarnation, its payload.
    fn receive(&mut self) -> Option<(NodeId, Incarnation, Vec<u8>)>;
}
