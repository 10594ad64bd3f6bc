//! The limits of the datagram stack: every queue, rate and time has one.

use crate::security::{
    frame::{DATAGRAM_MAX, INITIATION_BYTES, OVERHEAD_BYTES},
    handshake::{Hello, Suite},
    session::REKEY_AFTER,
};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

/// What laminar puts before an unreliable payload [bytes].
pub const LAMINAR_HEADER_BYTES: usize = 5;

/// What can be set. Times are in nanoseconds of the clock that is handed in.
#[derive(Clone, Debug)]
pub struct Config {
    /// What this node says of itself in handshakes. The wall clock in it is that of [`Config::hello`]'s making, at time zero.
    pub hello: Hello,
    /// The cipher of the sessions that this node begins.
    pub suite: Suite,
    /// Random bytes that nobody else knows, for cookies: see [`crate::security::keys::random_seed`].
    pub cookie_seed: [u8; 32],
    /// Longest UDP payload, headers of all layers included, at most [`DATAGRAM_MAX`] [bytes]. 1200 passes everywhere.
    pub datagram_bytes: usize,
    /// Datagrams taken in by one poll: the rest waits, so that a flood cannot keep a poll from sending.
    pub datagrams_per_poll: usize,
    /// Payloads that may wait to be sent until the next poll.
    pub send_queue: usize,
    /// Payloads that may wait to be received.
    pub receive_queue: usize,
    /// Sealed datagrams of one peer that may wait for the system [bytes].
    pub outbox_bytes: usize,
    /// Peers at most.
    pub peers_max: u16,
    /// Datagrams under one key, after which new keys are made.
    pub rekey_after: u64,
    /// Age of a key, after which new keys are made.
    pub rekey_age: u64,
    /// How long the first attempt of a handshake waits for its answer; each further one waits twice as long.
    pub retry: u64,
    /// How long an attempt waits at most.
    pub retry_max: u64,
    /// How long after receiving something a node says at least that it is there.
    pub keepalive: u64,
    /// How long a peer may say nothing to what is sent, until a new handshake is tried.
    pub silence: u64,
    /// Datagrams of one peer in a second, and at once.
    pub peer_rate: (u32, u32),
    /// Datagrams from addresses that are not their peer's in a second, and at once: each costs a decryption.
    pub stranger_rate: (u32, u32),
    /// Handshakes of strangers in a second, and at once: each costs a tenth of a millisecond. Beyond, cookies are asked for.
    pub handshake_rate: (u32, u32),
    /// How far a peer's wall clock may be off before that is worth a notice [s].
    pub clock_tolerance: u64,
}

impl Config {
    /// The usual limits, for a node that says this of itself.
    #[must_use]
    pub fn new(hello: Hello, cookie_seed: [u8; 32]) -> Self {
        Self {
            hello,
            suite: Suite::for_this_processor(),
            cookie_seed,
            datagram_bytes: 1200,
            datagrams_per_poll: 2048,
            send_queue: 16_384,
            receive_queue: 16_384,
            outbox_bytes: 1 << 20,
            peers_max: 1024,
            rekey_after: REKEY_AFTER,
            rekey_age: 3_600 * SECOND,
            retry: 250 * MILLISECOND,
            retry_max: 5 * SECOND,
            keepalive: SECOND,
            silence: 5 * SECOND,
            peer_rate: (4_000_000, 4_000_000),
            stranger_rate: (2_000, 2_000),
            handshake_rate: (50, 100),
            clock_tolerance: 30,
        }
    }

    /// Largest payload that fits a datagram [bytes].
    #[must_use]
    pub const fn payload_max(&self) -> usize {
        self.datagram_bytes - OVERHEAD_BYTES - LAMINAR_HEADER_BYTES
    }

    /// # Panics
    /// If the limits make no sense together.
    pub(super) fn check(&self) {
        let bytes = self.datagram_bytes;
        assert!((INITIATION_BYTES..=DATAGRAM_MAX).contains(&bytes), "datagrams of {bytes} bytes");
        assert!(self.hello.fits(), "what a node says of itself must fit a handshake");
        assert!(self.outbox_bytes >= 2 * DATAGRAM_MAX, "an outbox of {} bytes", self.outbox_bytes);
        assert!(self.datagrams_per_poll > 0 && self.rekey_after > 0 && self.retry > 0, "nothing would ever happen");
    }
}
