//! What comes in from one peer: chunks become blocks, blocks are checked and handed over, and what came is acknowledged.
//!
//! Nothing is held beyond `Limits::receive_bytes_max`, whatever is claimed: a block counts with its whole claimed length from its first
//! chunk on, until somebody has polled it.

use std::collections::{BTreeMap, VecDeque};

use super::{
    counters::Drops,
    frame::{Ack, HASH_BYTES, Shape, put_stretch, tag_bytes},
    limits::{ACK_EVERY, BLOCKS_OPEN_MAX, Limits, RANGES_MAX, cost},
    ranges::{Insertion, Ranges},
};
use crate::{
    transport::Tag,
    wire::{Epoch, Time},
};

const WORDS: usize = BLOCKS_OPEN_MAX / 64;

/// A frame was not taken in, so its datagram must not be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// A block that is not whole yet.
#[derive(Debug)]
struct Incoming {
    shape: Shape,
    announced: Option<(Tag, [u8; HASH_BYTES])>,
    bytes: Vec<u8>,
    /// One bit per chunk that is there.
    have: Vec<u64>,
    missing: u32,
}

/// The receiving half of a connection.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// Every block below this is finished.
    finished_below: u64,
    /// Those beyond that are, one bit each.
    finished: [u64; WORDS],
    incoming: BTreeMap<u64, Incoming>,
    /// Whole blocks that nobody has polled.
    ready: VecDeque<(Tag, Vec<u8>)>,
    /// What all of these count [bytes].
    pub(super) held: u64,
    /// What was finished and is no longer held, ever [bytes].
    consumed: u64,
    /// The credit that was last told in a way that is sure to arrive.
    told: u64,
    /// The peer said that it waits for more credit than this.
    blocked_at: Option<u64>,
    came: Ranges,
    newest: (u64, Time),
    unacknowledged: u32,
    ack_now: bool,
    ack_at: Option<Time>,
    pub(super) blocks: u64,
    /// Chunks of blocks that have several.
    pub(super) parts: u64,
}

impl Receiver {
    /// A numbered datagram came, and all of its frames were taken in.
    pub(super) fn note(&mut self, number: u64, now: Time, limits: &Limits, drops: &mut Drops) {
        let insertion = self.came.insert(number);
        match insertion {
            Insertion::InOrder => {}
            Insertion::OutOfOrder => self.ack_now = true,
            Insertion::Repeated => {
                // Its acknowledgement may have been lost.
                self.ack_now = true;
                drops.repeated_datagram += 1;
            }
        }
        if number >= self.newest.0 && insertion != Insertion::Repeated {
            self.newest = (number, now);
        }
        self.unacknowledged += 1;
        self.ack_now |= self.unacknowledged >= ACK_EVERY;
        self.ack_at.get_or_insert(now.plus(limits.ack_delay_ns));
    }

    /// When an acknowledgement is due.
    pub(super) fn ack_due(&self) -> Option<Time> {
        if self.ack_now { Some(Time(0)) } else { self.ack_at }
    }

    /// An acknowledgement of all that came. The two lists are room for its parts.
    pub(super) fn ack<'a>(
        &mut self,
        now: Time,
        limits: &Limits,
        (finished, ranges): (&'a mut Vec<u8>, &'a mut Vec<u8>),
    ) -> Option<Ack<'a>> {
        if self.came.is_empty() {
            return None;
        }
        (self.unacknowledged, self.ack_now, self.ack_at) = (0, false, None);
        finished.clear();
        let words = self.finished.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
        self.finished[..words].iter().for_each(|word| finished.extend(word.to_le_bytes()));
        ranges.clear();
        let largest = self.came.newest_first().next()?.1;
        let mut above = largest.wrapping_add(1);
        for stretch in self.came.newest_first().take(RANGES_MAX) {
            if !put_stretch(ranges, above, stretch) {
                break;
            }
            above = stretch.0;
        }
        let waited_ns = u32::try_from(now.since(self.newest.1)).unwrap_or(u32::MAX);
        let fixed = (largest, waited_ns, self.credit(limits), self.finished_below);
        Some(Ack::new(fixed, finished, ranges).expect("what came makes a sound list"))
    }

    /// How much may have been sent to us, ever.
    fn credit(&self, limits: &Limits) -> u64 {
        self.consumed.saturating_add(limits.receive_bytes_max)
    }

    /// The credit to tell in a way that is sure to arrive, if it is time.
    pub(super) fn credit_due(&self, limits: &Limits) -> Option<u64> {
        let credit = self.credit(limits);
        let more = credit.saturating_sub(self.told.max(limits.receive_bytes_max));
        let wanted = self.blocked_at.is_some_and(|known| credit > known);
        (wanted || more >= limits.receive_bytes_max / 4).then_some(credit)
    }

    pub(super) fn credit_told(&mut self, credit: u64) {
        assert!(credit >= self.told, "credit is never taken back");
        self.told = credit;
        // If it is not enough, the peer says so again.
        self.blocked_at = None;
    }

    pub(super) fn on_blocked(&mut self, known: u64) {
        self.blocked_at = Some(known);
    }

    /// Whether a block is finished, or why its number cannot be looked at.
    fn is_finished(&self, block: u64, drops: &mut Drops) -> Result<bool, Refused> {
        let Some(ahead) = block.checked_sub(self.finished_below) else { return Ok(true) };
        if ahead >= BLOCKS_OPEN_MAX as u64 {
            drops.too_many_blocks += 1;
            return Err(Refused);
        }
        Ok(self.finished[(ahead / 64) as usize] >> (ahead % 64) & 1 == 1)
    }

    fn finish(&mut self, block: u64) {
        let ahead = block - self.finished_below;
        assert!(ahead < BLOCKS_OPEN_MAX as u64, "only what may be open finishes");
        self.finished[(ahead / 64) as usize] |= 1 << (ahead % 64);
        while self.finished[0] == u64::MAX {
            self.finished.rotate_left(1);
            self.finished[WORDS - 1] = 0;
            self.finished_below += 64;
        }
        let shift = self.finished[0].trailing_ones();
        for at in 0..WORDS {
            let carried = self.finished.get(at + 1).map_or(0, |next| if shift == 0 { 0 } else { next << (64 - shift) });
            self.finished[at] = self.finished[at] >> shift | carried;
        }
        self.finished_below += u64::from(shift);
        self.ack_now = true;
    }

    /// The entry of a block that is not finished, made if there is room for it.
    fn entry(
        &mut self,
        block: u64,
        shape: Shape,
        limits: &Limits,
        drops: &mut Drops,
    ) -> Result<&mut Incoming, Refused> {
        if let Some(incoming) = self.incoming.get(&block) {
            if incoming.shape != shape {
                drops.inconsistent += 1;
                return Err(Refused);
            }
        } else {
            if shape.length > limits.block_bytes_max {
                drops.oversize += 1;
                return Err(Refused);
            }
            if self.held.saturating_add(cost(shape.length)) > limits.receive_bytes_max {
                drops.over_credit += 1;
                return Err(Refused);
            }
            assert!(self.incoming.len() < BLOCKS_OPEN_MAX, "numbers are within the span, so there are no more");
            self.held += cost(shape.length);
            let missing = shape.chunks();
            let (bytes, have) = (vec![0; shape.length as usize], vec![0; missing.div_ceil(64) as usize]);
            self.incoming.insert(block, Incoming { shape, announced: None, bytes, have, missing });
        }
        Ok(self.incoming.get_mut(&block).expect("it is there or was just made"))
    }

    /// Takes in the announcement of a block.
    pub(super) fn on_open(
        &mut self,
        (block, shape): (u64, Shape),
        (tag, hash): (Tag, [u8; HASH_BYTES]),
        oldest: Epoch,
        (limits, drops): (&Limits, &mut Drops),
    ) -> Result<(), Refused> {
        if self.is_finished(block, drops)? {
            drops.repeated_chunk += 1;
            self.ack_now = true;
            return Ok(());
        }
        let incoming = self.entry(block, shape, limits, drops)?;
        if incoming.announced.is_some_and(|known| known != (tag, hash)) {
            drops.inconsistent += 1;
            return Err(Refused);
        }
        incoming.announced = Some((tag, hash));
        if tag.epoch < oldest {
            drops.old_epoch += 1;
            self.release(block, shape.length);
        } else {
            self.complete(block, drops);
        }
        Ok(())
    }

    /// Takes in a part of a block.
    pub(super) fn on_chunk(
        &mut self,
        (block, index): (u64, u32),
        shape: Shape,
        bytes: &[u8],
        (limits, drops): (&Limits, &mut Drops),
    ) -> Result<(), Refused> {
        if self.is_finished(block, drops)? {
            drops.repeated_chunk += 1;
            self.ack_now = true;
            return Ok(());
        }
        let incoming = self.entry(block, shape, limits, drops)?;
        let (word, bit) = ((index / 64) as usize, 1 << (index % 64));
        if incoming.have[word] & bit != 0 {
            drops.repeated_chunk += 1;
            return Ok(());
        }
        incoming.bytes[shape.span(index)].copy_from_slice(bytes);
        incoming.have[word] |= bit;
        incoming.missing -= 1;
        self.parts += u64::from(shape.chunks() > 1);
        if self.incoming[&block].missing == 0 {
            self.complete(block, drops);
        }
        Ok(())
    }

    /// A block will not come.
    pub(super) fn on_skip(&mut self, block: u64, length: u32, drops: &mut Drops) -> Result<(), Refused> {
        if self.is_finished(block, drops)? {
            self.ack_now = true;
            return Ok(());
        }
        let length = self.incoming.get(&block).map_or(length, |incoming| incoming.shape.length);
        self.release(block, length);
        Ok(())
    }

    /// Finishes a block without handing it over.
    fn release(&mut self, block: u64, length: u32) {
        if self.incoming.remove(&block).is_some() {
            self.held -= cost(length);
        }
        self.consumed = self.consumed.saturating_add(cost(length));
        self.finish(block);
    }

    /// Hands a block over if all of it is there and it is what was announced; forgets it if it is not.
    fn complete(&mut self, block: u64, drops: &mut Drops) {
        let whole = |incoming: &Incoming| incoming.missing == 0 && incoming.announced.is_some();
        if !self.incoming.get(&block).is_some_and(whole) {
            return;
        }
        let incoming = self.incoming.remove(&block).expect("it was just looked at");
        let (tag, announced) = incoming.announced.expect("it is whole");
        self.ack_now = true;
        if hash(tag, &incoming.bytes) != announced {
            // Not finished, though every datagram of it is acknowledged: by that the sender sees that it must begin again.
            drops.wrong_hash += 1;
            self.held -= cost(incoming.shape.length);
            return;
        }
        self.blocks += 1;
        self.ready.push_back((tag, incoming.bytes));
        self.finish(block);
    }

    /// The next whole block. What it held is free again.
    pub(super) fn take(&mut self) -> Option<(Tag, Vec<u8>)> {
        let (tag, bytes) = self.ready.pop_front()?;
        self.free(bytes.len());
        Some((tag, bytes))
    }

    fn free(&mut self, length: usize) {
        let cost = cost(u32::try_from(length).expect("it came with such a length"));
        self.held -= cost;
        self.consumed = self.consumed.saturating_add(cost);
    }

    /// Forgets what an older epoch has sent.
    pub(super) fn cancel_before(&mut self, epoch: Epoch) {
        let old = |incoming: &Incoming| incoming.announced.is_some_and(|(tag, _)| tag.epoch < epoch);
        let cancelled: Vec<(u64, u32)> =
            self.incoming.iter().filter(|(_, incoming)| old(incoming)).map(|(&n, i)| (n, i.shape.length)).collect();
        for (block, length) in cancelled {
            self.release(block, length);
        }
        let mut freed = 0;
        self.ready.retain(|(tag, bytes)| {
            let kept = tag.epoch >= epoch;
            freed += if kept { 0 } else { cost(bytes.len() as u32) };
            kept
        });
        self.held -= freed;
        self.consumed = self.consumed.saturating_add(freed);
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn incoming_blocks(&self) -> usize {
        self.incoming.len()
    }
}

/// What travels of the hash of a block: of its contents, then its tag, so that neither can be mistaken for another's.
pub(super) fn hash(tag: Tag, bytes: &[u8]) -> [u8; HASH_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(bytes).update(&tag_bytes(tag));
    *hasher.finalize().as_bytes().first_chunk().expect("a hash is longer")
}
