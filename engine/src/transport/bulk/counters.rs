//! What the bulk layer counts: why something was dropped, and how each peer is doing.

/// Datagrams, frames and blocks that came and were not used, by reason. Each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Datagrams that do not spell a header and whole frames.
    pub malformed: u64,
    /// Datagrams of a sender that is no peer.
    pub stranger: u64,
    /// Datagrams of an older life of their sender.
    pub stale_sender: u64,
    /// Datagrams that were meant for an older life of ours, or of a connection that was given up.
    pub stale_receiver: u64,
    /// Datagrams that came before: their contents change nothing.
    pub repeated_datagram: u64,
    /// Chunks that were there already, or whose block is finished.
    pub repeated_chunk: u64,
    /// Blocks that claim to be larger than any may be.
    pub oversize: u64,
    /// Frames that contradict what was said of the same block before.
    pub inconsistent: u64,
    /// Blocks that no credit was given for.
    pub over_credit: u64,
    /// Blocks too far ahead of those that are not finished: more at once than may be under way.
    pub too_many_blocks: u64,
    /// Blocks of an epoch that was cancelled.
    pub old_epoch: u64,
    /// Blocks whose hash was another than announced; they are asked for again.
    pub wrong_hash: u64,
    /// Acknowledgements of what was never sent.
    pub impossible_ack: u64,
}

/// How one peer is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStatistics {
    /// Numbered datagrams sent: those that carry blocks or ask for an answer.
    pub sent_datagrams: u64,
    /// Datagrams sent that carry acknowledgements or greetings only.
    pub sent_plain_datagrams: u64,
    /// Bytes of all datagrams sent.
    pub sent_bytes: u64,
    /// Chunks and announcements that were sent once more.
    pub resent: u64,
    /// Datagrams that were taken for lost.
    pub lost_datagrams: u64,
    /// Datagrams that were taken for lost and were not.
    pub spurious_losses: u64,
    /// Times that nothing was heard for too long, so that a probe was sent.
    pub timeouts: u64,
    /// Blocks that were sent all over again, because the other end found a wrong hash.
    pub repeated_blocks: u64,
    /// Datagrams received.
    pub received_datagrams: u64,
    /// Bytes of all datagrams received.
    pub received_bytes: u64,
    /// Blocks received whole.
    pub received_blocks: u64,
    /// Smoothed round-trip time [ns]; 0 before the first was measured.
    pub round_trip_ns: u64,
    /// Congestion window [bytes].
    pub window_bytes: u64,
    /// Bytes of datagrams of which nothing is known yet.
    pub flight_bytes: u64,
    /// What waits for the peer, under way included, overheads included [bytes].
    pub queued_bytes: u64,
    /// What is held for the peer: incomplete blocks and whole ones that nobody has polled, overheads included [bytes].
    pub held_bytes: u64,
    /// Blocks under way to the peer.
    pub open_blocks: u64,
    /// Blocks that come in from the peer and are incomplete.
    pub incoming_blocks: u64,
    /// Datagrams whose fate is remembered.
    pub remembered_datagrams: u64,
    /// Chunks that wait to be sent once more.
    pub resend_queue: u64,
}
