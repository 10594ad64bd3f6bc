//! What bounds the bulk layer: every queue, buffer, timer and claim has a number here.

/// What a block costs beyond its bytes wherever bytes are counted: so blocks of no bytes are bounded too [bytes].
pub const BLOCK_OVERHEAD: u64 = 256;

/// Blocks that may be under way to one peer at once, and so the span of sequence numbers that a receiver looks at.
pub const BLOCKS_OPEN_MAX: usize = 256;

/// Datagrams to one peer in one go: the unit of pacing, because it is what one call hands to the kernel.
pub const BATCH_DATAGRAMS: usize = 50;

/// Datagrams that one [`super::Bulk::transmit`] sends at most, over all peers.
pub const TRANSMIT_DATAGRAMS_MAX: usize = 4096;

/// Datagrams to one peer of which the fate is remembered.
pub const SENT_MAX: usize = 16_384;

/// Stretches of numbers of datagrams that are remembered, and told in an acknowledgement.
pub const RANGES_MAX: usize = 64;

/// Smallest chunk that is taken, so that a bitmap stays small beside its block [bytes].
pub const CHUNK_MIN: u16 = 64;

/// Numbered datagrams after which an acknowledgement no longer waits.
pub const ACK_EVERY: u32 = 8;

/// Smallest window [datagrams]. Ten is what RFC 6928 lets a connection begin with: a link that loses a tenth of all datagrams
/// still moves, and what a timeout leaves (one probe, then twice the wait) is what protects a path that is really full.
pub const WINDOW_MIN_DATAGRAMS: u64 = 10;

const _: () = assert!(BLOCKS_OPEN_MAX.is_multiple_of(64), "the bitmap of finished blocks is whole words");
const _: () = assert!(BATCH_DATAGRAMS < SENT_MAX && RANGES_MAX <= 255);

/// The limits that an owner may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest block [bytes].
    pub block_bytes_max: u32,
    /// What one peer may make us hold: blocks that are incomplete, and whole ones that nobody has polled yet. A claimed length
    /// counts as soon as its first chunk comes [bytes].
    pub receive_bytes_max: u64,
    /// What may wait for one peer, under way included [bytes].
    pub send_bytes_max: u64,
    /// Peers.
    pub peers_max: u16,
    /// Largest congestion window [bytes].
    pub window_bytes_max: u64,
    /// How long an acknowledgement may wait for company [ns].
    pub ack_delay_ns: u64,
    /// Shortest time until what was not acknowledged is sent again without other evidence [ns].
    pub resend_ns_min: u64,
    /// Longest such time, whatever was measured and however often it has passed [ns].
    pub resend_ns_max: u64,
    /// The time until the first attempts are repeated, before any round trip was measured [ns].
    pub resend_ns_first: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            block_bytes_max: 256 << 20,
            receive_bytes_max: 320 << 20,
            send_bytes_max: 320 << 20,
            peers_max: 1024,
            window_bytes_max: 8 << 20,
            ack_delay_ns: 200_000,
            resend_ns_min: 2_000_000,
            resend_ns_max: 1_000_000_000,
            resend_ns_first: 20_000_000,
        }
    }
}

impl Limits {
    /// What must hold among them.
    ///
    /// # Panics
    /// If the largest block does not fit what may be held or may wait beside the small ones, or if times are out of order.
    pub fn assert_consistent(&self) {
        let small = BLOCKS_OPEN_MAX as u64 * (BLOCK_OVERHEAD + 2048);
        let need = cost(self.block_bytes_max) + small;
        assert!(
            self.receive_bytes_max >= need,
            "a receiver must be able to hold {need} bytes, or a block can wait for ever"
        );
        assert!(self.send_bytes_max >= cost(self.block_bytes_max), "the largest block must fit the queue");
        assert!(self.resend_ns_min > 0 && self.resend_ns_min <= self.resend_ns_first, "shortest first");
        assert!(
            self.resend_ns_first <= self.resend_ns_max && self.ack_delay_ns <= self.resend_ns_min,
            "shortest first"
        );
        assert!(self.peers_max > 0, "no peers, nothing to carry");
    }
}

/// What a block of so many bytes counts.
#[must_use]
pub fn cost(length: u32) -> u64 {
    u64::from(length) + BLOCK_OVERHEAD
}
