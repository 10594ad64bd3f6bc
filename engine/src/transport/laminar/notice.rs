//! What the owner of a socket should hear of, in words that name the peer, its address and what to do.
//!
//! Anyone can send datagrams, so whatever a stranger can cause is told only so often; the counters miss nothing.

use std::{collections::VecDeque, fmt, net::SocketAddr};

use crate::{
    security::{bucket::TokenBucket, frame::WIRE_VERSION, handshake::Refusal, keys::PublicKey},
    wire::{Incarnation, NodeId, Time},
};

/// Notices that wait at most.
const WAITING_MAX: usize = 256;
/// Notices that strangers may cause in a second, and at once.
const RATE: (u32, u32) = (5, 20);

/// Something that happened between us and a peer, or someone who would be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// There is a session with a peer, where there was none or one with an older life of it.
    Connected {
        /// The peer.
        peer: NodeId,
        /// Its key.
        key: PublicKey,
        /// Where it is.
        address: SocketAddr,
        /// Which life of it.
        incarnation: Incarnation,
        /// Whether there was a session with an older life.
        restarted: bool,
    },
    /// A peer goes on from another address.
    Moved {
        /// The peer.
        peer: NodeId,
        /// Where it was.
        before: Option<SocketAddr>,
        /// Where it is.
        now: SocketAddr,
    },
    /// A peer calls itself something else than we do.
    Named {
        /// What we call it.
        peer: NodeId,
        /// What it calls itself.
        itself: NodeId,
    },
    /// A peer's wall clock is far from ours. It is let in: no wall clock decides anything.
    ClockOff {
        /// The peer.
        peer: NodeId,
        /// How far it is ahead of ours [s].
        ahead: i64,
    },
    /// Nobody answers.
    Unanswered {
        /// The peer.
        peer: NodeId,
        /// Its key, as far as we know.
        key: PublicKey,
        /// Where we look for it.
        address: SocketAddr,
        /// How often we tried.
        attempts: u32,
    },
    /// A peer will not have us.
    RefusedBy {
        /// The peer.
        peer: NodeId,
        /// Where it is.
        address: SocketAddr,
        /// Why.
        reason: Refusal,
        /// The version that it speaks.
        version: u16,
        /// Our key.
        own: PublicKey,
    },
    /// Someone speaks with us who takes us for someone else.
    WrongKey {
        /// Where it is.
        from: SocketAddr,
        /// Our key.
        own: PublicKey,
    },
    /// Someone whose key we do not trust.
    Untrusted {
        /// Where it is.
        from: SocketAddr,
        /// Its key.
        key: PublicKey,
        /// What it calls itself.
        program: String,
    },
    /// Someone of another version.
    OtherVersion {
        /// Where it is.
        from: SocketAddr,
        /// Its version.
        version: u16,
    },
    /// An earlier life of a peer.
    OldIncarnation {
        /// The peer.
        peer: NodeId,
        /// Where it is.
        address: SocketAddr,
        /// Which life.
        found: Incarnation,
        /// The latest that we have met.
        newest: Incarnation,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { peer, address, restarted: false, .. } => write!(f, "{peer} is there, at {address}"),
            Self::Connected { peer, address, .. } => write!(f, "{peer} was started anew, at {address}"),
            Self::Moved { peer, before: Some(before), now } => write!(f, "{peer} has moved from {before} to {now}"),
            Self::Moved { peer, before: None, now } => write!(f, "{peer} is at {now}"),
            Self::Named { peer, itself } => {
                write!(f, "{peer} calls itself {itself}: it may belong to another run; its key says that it is {peer}")
            }
            Self::ClockOff { peer, ahead } => {
                let (seconds, where_) = (ahead.unsigned_abs(), if *ahead > 0 { "ahead of" } else { "behind" });
                write!(
                    f,
                    "the clock of {peer} is {seconds} s {where_} ours: set both by NTP, or logs will not fit together"
                )
            }
            Self::Unanswered { peer, key, address, attempts } => write!(
                f,
                "{peer} at {address} does not answer ({attempts} attempts): is it running, may UDP pass, and is its public key still \
                 {key}?"
            ),
            Self::RefusedBy { peer, address, reason, version, own } => {
                write!(f, "{peer} at {address} will not speak with us: ")?;
                match reason {
                    Refusal::Version => {
                        write!(f, "it speaks version {version}, we speak {WIRE_VERSION}: run the same emmy on both")
                    }
                    Refusal::Untrusted => {
                        write!(f, "it does not trust our key: add this line to its trust file: {own}")
                    }
                    Refusal::OldIncarnation => write!(
                        f,
                        "it has met a later start of this node: is another process using our key, or was the clock set back?"
                    ),
                }
            }
            Self::WrongKey { from, own } => {
                write!(
                    f,
                    "{from} wants to speak with someone else: if it means this node, its key for it should be {own}"
                )
            }
            Self::Untrusted { from, key, program } => {
                let program = program.escape_debug();
                write!(f, "{from} ({program}) is not trusted: if it should be, add this line to the trust file: {key}")
            }
            Self::OtherVersion { from, version } => {
                write!(f, "{from} speaks version {version}, we speak {WIRE_VERSION}: run the same emmy on both")
            }
            Self::OldIncarnation { peer, address, found, newest } => write!(
                f,
                "{peer} at {address} is an earlier start ({}) than one that we have met ({}): is an old process still running?",
                found.0, newest.0
            ),
        }
    }
}

impl Notice {
    /// Whether anyone can cause it, without being a peer.
    fn is_strangers(&self) -> bool {
        !matches!(self, Self::Connected { .. } | Self::Moved { .. } | Self::Named { .. } | Self::ClockOff { .. })
    }
}

/// Notices that wait to be taken.
#[derive(Debug)]
pub(super) struct Notices {
    waiting: VecDeque<Notice>,
    bucket: TokenBucket,
}

impl Default for Notices {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bucket: TokenBucket::new(RATE.0, RATE.1, Time(0)) }
    }
}

impl Notices {
    /// Adds one, if there is room and strangers have not caused too many; says whether it did.
    pub(super) fn push(&mut self, now: Time, notice: Notice) -> bool {
        let takes = self.waiting.len() < WAITING_MAX && (!notice.is_strangers() || self.bucket.take(now));
        if takes {
            self.waiting.push_back(notice);
        }
        takes
    }

    pub(super) fn pop(&mut self) -> Option<Notice> {
        self.waiting.pop_front()
    }
}
