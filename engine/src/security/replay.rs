//! Remembers which counters were seen, so that a datagram that was captured and sent again is refused.
//!
//! A ring of bits in the manner of RFC 6479: constant memory, no shifting, whatever the reordering. Only counters of datagrams that
//! the cipher has opened may be shown to it: a forged counter would push the window away from the honest ones.

/// Blocks of 64 bits in the ring; a power of two.
const BLOCKS: usize = 128;

/// How far behind the newest a counter may be: one block less than the ring holds, since the newest block is never full.
pub const WINDOW: u64 = (BLOCKS as u64 - 1) * 64;

/// The counters of one direction under one key.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// One more than the largest counter seen.
    next: u64,
    seen: [u64; BLOCKS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { next: 0, seen: [0; BLOCKS] }
    }
}

impl ReplayWindow {
    /// Whether this counter is new: neither seen before nor too old to tell. It counts as seen from now on.
    pub fn accept(&mut self, counter: u64) -> bool {
        if self.next > counter && self.next - counter > WINDOW {
            return false;
        }
        let Some(next) = counter.checked_add(1) else { return false };
        if counter >= self.next {
            self.clear_between(self.next.saturating_sub(1) / 64, counter / 64);
            self.next = next;
        }
        let block = &mut self.seen[(counter / 64) as usize % BLOCKS];
        let bit = 1 << (counter % 64);
        let new = *block & bit == 0;
        *block |= bit;
        new
    }

    /// Whether no larger counter was seen.
    #[must_use]
    pub fn is_newest(&self, counter: u64) -> bool {
        counter >= self.next
    }

    /// Forgets what the ring holds in the blocks after `old`, up to `new`.
    fn clear_between(&mut self, old: u64, new: u64) {
        for step in 1..=(new - old).min(BLOCKS as u64) {
            self.seen[(old + step) as usize % BLOCKS] = 0;
        }
    }
}
