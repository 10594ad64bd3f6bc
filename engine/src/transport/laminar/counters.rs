//! Counts what crosses the socket, and every datagram that does not, by its reason.

use serde::Serialize;

/// Why datagrams were dropped, and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drops {
    /// Came: of no kind, length or version of ours.
    pub unreadable: u64,
    /// Came: of a session that we do not have.
    pub unknown_session: u64,
    /// Came: not sealed by who should have, or changed on the way.
    pub forged: u64,
    /// Came: seen before, or much too late.
    pub replayed: u64,
    /// Came: more than this peer may send.
    pub peer_rate: u64,
    /// Came: from an address that is not its peer's, more often than that may happen.
    pub stranger_rate: u64,
    /// Came: a handshake of someone who does not know our public key.
    pub not_for_us: u64,
    /// Came: a handshake that does not decrypt, or to nonsense.
    pub bad_handshake: u64,
    /// Came: a handshake of another version.
    pub other_version: u64,
    /// Came: a handshake of a key that we do not trust.
    pub untrusted: u64,
    /// Came: a handshake of an incarnation that has been replaced.
    pub old_incarnation: u64,
    /// Came: a handshake that was answered before.
    pub stale_handshake: u64,
    /// Came: a handshake while ours, which goes first, was under way.
    pub simultaneous: u64,
    /// Came: a handshake of too many, answered with a challenge.
    pub challenged: u64,
    /// Came: an answer to nothing that we asked.
    pub unexpected: u64,
    /// Came: there was no room for its payload, because nobody took the earlier ones.
    pub receive_queue_full: u64,
    /// To be sent: there is no session with the peer (yet, or any more).
    pub not_connected: u64,
    /// To be sent: too many waited already.
    pub send_queue_full: u64,
    /// To be sent: the system took none for too long.
    pub outbox_full: u64,
    /// To be sent: the system refused it.
    pub send_refused: u64,
    /// To be sent: too many answers to handshakes waited already.
    pub replies_full: u64,
    /// To be sent: the key is worn out.
    pub key_exhausted: u64,
}

/// What crossed the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Payloads sealed and handed to the system.
    pub sent: u64,
    /// Payloads opened and handed up.
    pub received: u64,
    /// Bytes of all datagrams handed to the system.
    pub bytes_sent: u64,
    /// Bytes of all datagrams that came, whatever they were.
    pub bytes_received: u64,
    /// Datagrams that came, whatever they were.
    pub datagrams: u64,
    /// Calls of the system that send.
    pub send_calls: u64,
    /// Calls of the system that receive.
    pub receive_calls: u64,
    /// Calls of the system that failed other than for want of room.
    pub receive_errors: u64,
    /// Handshakes begun, every attempt.
    pub handshakes_begun: u64,
    /// Handshakes of others that were answered.
    pub handshakes_answered: u64,
    /// Handshakes that led to a session.
    pub handshakes_done: u64,
    /// Sessions that replaced one of the same incarnation.
    pub rekeys: u64,
    /// Peers that went on from another address.
    pub moves: u64,
    /// Challenges sent.
    pub challenges: u64,
    /// Notices that were not given, because there were too many.
    pub notices_dropped: u64,
    /// What was dropped.
    pub drops: Drops,
}
