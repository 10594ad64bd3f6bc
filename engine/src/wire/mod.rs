//! What nodes call each other, and how values become bytes.
//!
//! Identities here are numbers that fence: a message carries the epoch in which it was sent and the incarnation of its sender, and
//! what comes from an older one changes nothing. Sizes are explicit and bounded: what does not fit is refused before it is read.

pub mod bytes;

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A node of a run: its place in the roster. Never reused within a run; a node that was restarted keeps it, under a new
/// [`Incarnation`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u16);

impl NodeId {
    /// Who asked for the run: a peer that computes nothing and has no vote.
    pub const CLIENT: Self = Self(u16::MAX);
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::CLIENT { f.write_str("the client") } else { write!(f, "node {}", self.0) }
    }
}

/// Which life of a node: a later start has a larger number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// Which membership: every change of members or of the coordinator begins a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}", self.0)
    }
}

/// A moment on the clock that is handed to every machine: nanoseconds since some start. No machine reads a clock of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// So much later.
    #[must_use]
    pub const fn plus(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }

    /// Nanoseconds since an earlier moment; 0 if it is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Why bytes are not the value that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than such a value may have.
    #[error("{found} bytes, at most {most} expected")]
    Oversize {
        /// Bytes that came.
        found: usize,
        /// Bytes that may come.
        most: usize,
    },
    /// They do not spell such a value.
    #[error("not a {what}: {error}")]
    Malformed {
        /// What was expected.
        what: &'static str,
        /// What the decoder said.
        error: String,
    },
    /// A value, and then more.
    #[error("{left} bytes after the end of the {what}")]
    Trailing {
        /// What was expected.
        what: &'static str,
        /// Bytes too many.
        left: usize,
    },
}

/// The bytes of a small value (postcard).
#[must_use]
pub fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).expect("plain numbers, text and lists can be written")
}

/// The value of these bytes, all of them. `what` is for messages, `most` the number of bytes that such a value may have.
///
/// # Errors
/// If there are more bytes than that, or if they do not spell exactly one value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str, most: usize) -> Result<T, DecodeError> {
    if bytes.len() > most {
        return Err(DecodeError::Oversize { found: bytes.len(), most });
    }
    let (value, rest) =
        postcard::take_from_bytes(bytes).map_err(|error| DecodeError::Malformed { what, error: error.to_string() })?;
    if rest.is_empty() { Ok(value) } else { Err(DecodeError::Trailing { what, left: rest.len() }) }
}
