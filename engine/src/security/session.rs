//! Seals datagrams for one peer and opens those of its own, under keys that both made in one handshake.
//!
//! A counter is the nonce. It is never used twice: it only grows, and sealing is refused long before it could wrap; long before that
//! the owner is told to make new keys. A datagram that was opened once is not opened again.

use std::fmt;

use snow::StatelessTransportState;

use super::{
    frame::{COUNTER_BYTES, HEADER_BYTES, OVERHEAD_BYTES, SessionId, TAG_BYTES, clear_data},
    replay::ReplayWindow,
};

/// Datagrams that one key may seal at the very most. AES-GCM loses its margin much earlier, hence [`REKEY_AFTER`].
pub const COUNTER_MAX: u64 = 1 << 60;
/// Datagrams after which new keys are due, unless the owner wants them earlier.
pub const REKEY_AFTER: u64 = 1 << 40;

/// Why a datagram was not sealed: its key is worn out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key has sealed {COUNTER_MAX} datagrams and seals no more")]
pub struct Exhausted;

/// Why a datagram was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was not sealed under this key, or not like this.
    #[error("not sealed by this peer, or changed on the way")]
    Forged,
    /// It came before, or it is so old that nobody can tell.
    #[error("it came before, or much too late")]
    Replayed,
}

/// The keys of one handshake.
pub struct Session {
    keys: StatelessTransportState,
    local: SessionId,
    remote: SessionId,
    next: u64,
    window: ReplayWindow,
    newest: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("local", &self.local)
            .field("remote", &self.remote)
            .field("sealed", &self.next)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(keys: StatelessTransportState, local: SessionId, remote: SessionId) -> Self {
        Self { keys, local, remote, next: 0, window: ReplayWindow::default(), newest: false }
    }

    /// What we call it.
    #[must_use]
    pub fn local(&self) -> SessionId {
        self.local
    }

    /// Datagrams sealed so far, which is also the counter of the next.
    #[must_use]
    pub fn sealed(&self) -> u64 {
        self.next
    }

    /// Whether we began the handshake.
    #[must_use]
    pub fn is_initiator(&self) -> bool {
        self.keys.is_initiator()
    }

    /// Whether the datagram that was opened last is the newest that was opened.
    #[must_use]
    pub fn opened_newest(&self) -> bool {
        self.newest
    }

    /// Leaves out counters, as if so many more datagrams had been sealed: for tests of what happens at the limits.
    pub fn skip(&mut self, counters: u64) {
        self.next = self.next.saturating_add(counters);
    }

    /// Writes the datagram that carries this payload; returns its length.
    ///
    /// # Errors
    /// If the key has sealed as many as it may.
    ///
    /// # Panics
    /// If `out` is shorter than the payload and [`OVERHEAD_BYTES`].
    pub fn seal(&mut self, payload: &[u8], out: &mut [u8]) -> Result<usize, Exhausted> {
        let length = payload.len() + OVERHEAD_BYTES;
        assert!(out.len() >= length, "{} bytes for a datagram of {length}", out.len());
        if self.next >= COUNTER_MAX {
            return Err(Exhausted);
        }
        let counter = self.next;
        self.next += 1;
        let (clear, sealed) = out[..length].split_at_mut(HEADER_BYTES + COUNTER_BYTES);
        clear.copy_from_slice(&clear_data(self.remote, counter));
        let written = self.keys.write_message(counter, payload, sealed).expect("the lengths were checked");
        assert_eq!(written, sealed.len(), "payload and tag");
        Ok(length)
    }

    /// Opens what [`super::frame::parse`] found; returns the length of the payload, which stands at the beginning of `out`.
    ///
    /// # Errors
    /// If it was not sealed by this peer, or came before.
    ///
    /// # Panics
    /// If `out` is shorter than the payload.
    pub fn open(&mut self, counter: u64, sealed: &[u8], out: &mut [u8]) -> Result<usize, OpenError> {
        let length = sealed.len().checked_sub(TAG_BYTES).ok_or(OpenError::Forged)?;
        assert!(out.len() >= length, "{} bytes for a payload of {length}", out.len());
        if counter >= COUNTER_MAX {
            return Err(OpenError::Forged);
        }
        self.keys.read_message(counter, sealed, out).map_err(|_| OpenError::Forged)?;
        // Only now: the counter of a forged datagram says nothing.
        self.newest = self.window.is_newest(counter);
        if self.window.accept(counter) { Ok(length) } else { Err(OpenError::Replayed) }
    }
}
