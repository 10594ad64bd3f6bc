//! What goes out to one peer: blocks wait for credit, are cut into chunks, and are sent until the other end says that they are finished.
//!
//! Every datagram has a number of its own. What is acknowledged is numbers; which chunks they carried is remembered here. A number that
//! is missing a good while after a later one came is lost, and its chunks are sent again under a new number.

use std::collections::VecDeque;

use super::{
    congestion::Congestion,
    counters::{Drops, PeerStatistics},
    frame::{
        Ack, CHUNK_HEADER_BYTES, Frame, HASH_BYTES, NUMBERED_HEADER_BYTES, OPEN_BYTES, SKIP_BYTES, Shape, put_frame,
    },
    limits::{BLOCK_OVERHEAD, BLOCKS_OPEN_MAX, Limits, SENT_MAX, cost},
    pace::Pace,
    receiver::hash,
    rtt::RoundTrip,
};
use crate::{
    transport::{Path, Tag},
    wire::{Epoch, Time},
};

/// What a datagram carries, small enough to be remembered until its fate is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Open(u64),
    Chunk(u64, u32),
    Skip(u64),
    Credit(u64),
    Blocked(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Flight,
    Arrived,
    Lost,
}

/// A datagram that was sent; its units lie in `Sender::units` from `first_unit` on.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Time,
    first_unit: u64,
    units: u16,
    bytes: u16,
    fate: Fate,
    /// Bytes that had left at that moment, its own the last.
    train: u32,
}

/// A block that is under way.
#[derive(Debug)]
struct Outgoing {
    tag: Tag,
    bytes: Vec<u8>,
    hash: [u8; HASH_BYTES],
    shape: Shape,
    /// The next part that was never sent: 0 is the announcement, n the chunk n - 1.
    next: u32,
    /// One bit per part that arrived.
    arrived: Vec<u64>,
    missing: u32,
    cancelled: bool,
}

impl Outgoing {
    fn parts(&self) -> u32 {
        self.shape.chunks() + 1
    }

    fn has_arrived(&self, part: u32) -> bool {
        self.arrived[(part / 64) as usize] >> (part % 64) & 1 == 1
    }

    /// Begins anew.
    fn reset(&mut self) {
        self.next = 0;
        self.missing = self.parts();
        self.arrived.fill(0);
    }
}

/// Blocks of one class that are not sent yet: small ones, which fit one datagram, go before large ones.
#[derive(Debug, Default)]
struct Class {
    waiting: VecDeque<(Tag, Vec<u8>)>,
    /// Blocks under way with parts that were never sent.
    fresh: VecDeque<u64>,
}

/// Where the next unit comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    Notice,
    Resend,
    Fresh(usize),
}

/// The sending half of a connection.
#[derive(Debug)]
pub(super) struct Sender {
    chunk: u16,
    classes: [Class; 2],
    /// What waits, is under way, or was delivered without anybody having polled that yet [bytes].
    pub(super) queued: u64,
    delivered: VecDeque<Tag>,
    /// Blocks from `first_open` on; `None` is finished.
    open: VecDeque<Option<Outgoing>>,
    first_open: u64,
    /// What the peer lets us send, ever, and what was sent of it [bytes].
    credit: u64,
    spent: u64,
    /// The credit at which the peer was told that more is needed.
    blocked_at: Option<u64>,
    tell_blocked: bool,
    /// Credit that was told and did not arrive.
    tell_credit: Option<u64>,
    resend: VecDeque<Unit>,
    /// Datagrams from the number `first_sent` on, and the parts they carried.
    sent: VecDeque<Sent>,
    first_sent: u64,
    units: VecDeque<Unit>,
    first_unit: u64,
    /// Every datagram below this has arrived or is lost.
    decided_below: u64,
    flight: u64,
    largest_arrived: Option<u64>,
    loss_at: Option<Time>,
    last_sent: Time,
    doublings: u32,
    probes: u32,
    patience: u64,
    round_trip: RoundTrip,
    pace: Pace,
    congestion: Congestion,
}

const SMALL: usize = 0;
const LARGE: usize = 1;
/// Losses that were none make the wait for late datagrams longer, up to three round trips in all.
const PATIENCE_MAX: u64 = 16;
/// Timeouts in a row after which the path counts as gone.
const COLLAPSE_AFTER: u32 = 3;

impl Sender {
    pub(super) fn new(payload_max: usize, limits: &Limits) -> Self {
        let chunk =
            u16::try_from(payload_max - NUMBERED_HEADER_BYTES - CHUNK_HEADER_BYTES).expect("a datagram is short");
        Self {
            chunk,
            classes: [Class::default(), Class::default()],
            queued: 0,
            delivered: VecDeque::new(),
            open: VecDeque::new(),
            first_open: 0,
            credit: limits.receive_bytes_max,
            spent: 0,
            blocked_at: None,
            tell_blocked: false,
            tell_credit: None,
            resend: VecDeque::new(),
            sent: VecDeque::new(),
            first_sent: 0,
            units: VecDeque::new(),
            first_unit: 0,
            decided_below: 0,
            flight: 0,
            largest_arrived: None,
            loss_at: None,
            last_sent: Time(0),
            doublings: 0,
            probes: 0,
            patience: 1,
            round_trip: RoundTrip::default(),
            pace: Pace::default(),
            congestion: Congestion::new(payload_max, limits),
        }
    }

    /// Takes a block whose size was looked at.
    pub(super) fn post(&mut self, tag: Tag, bytes: Vec<u8>) {
        self.queued += cost(u32::try_from(bytes.len()).expect("its size was looked at"));
        let small = bytes.len() + OPEN_BYTES <= usize::from(self.chunk);
        self.classes[if small { SMALL } else { LARGE }].waiting.push_back((tag, bytes));
    }

    pub(super) fn next_number(&self) -> u64 {
        self.first_sent + self.sent.len() as u64
    }

    fn next_block(&self) -> u64 {
        self.first_open + self.open.len() as u64
    }

    fn outgoing(&self, block: u64) -> Option<&Outgoing> {
        self.open.get(usize::try_from(block.checked_sub(self.first_open)?).ok()?)?.as_ref()
    }

    fn outgoing_mut(&mut self, block: u64) -> Option<&mut Outgoing> {
        self.open.get_mut(usize::try_from(block.checked_sub(self.first_open)?).ok()?)?.as_mut()
    }

    // ------------------------------------------------------------------------------------------- what to send

    /// Whether a unit is still of use.
    fn is_wanted(&self, unit: Unit) -> bool {
        match unit {
            Unit::Open(block) => self.outgoing(block).is_some_and(|o| !o.cancelled && !o.has_arrived(0)),
            Unit::Chunk(block, index) => {
                self.outgoing(block).is_some_and(|o| !o.cancelled && !o.has_arrived(index + 1))
            }
            Unit::Skip(block) => self.outgoing(block).is_some_and(|o| o.cancelled),
            Unit::Credit(_) | Unit::Blocked(_) => true,
        }
    }

    /// The next unit and where it lies. Opens blocks for which there is credit.
    fn peek(&mut self) -> Option<(Unit, Source)> {
        if let Some(notice) = self.notice() {
            return Some((notice, Source::Notice));
        }
        while let Some(&unit) = self.resend.front() {
            if self.is_wanted(unit) {
                return Some((unit, Source::Resend));
            }
            self.resend.pop_front();
        }
        for class in [SMALL, LARGE] {
            while let Some(&block) = self.classes[class].fresh.front() {
                match self.outgoing(block) {
                    Some(o) if !o.cancelled && o.next < o.parts() => {
                        let unit = if o.next == 0 { Unit::Open(block) } else { Unit::Chunk(block, o.next - 1) };
                        return Some((unit, Source::Fresh(class)));
                    }
                    _ => self.classes[class].fresh.pop_front(),
                };
            }
            if let Some(block) = self.open_next(class) {
                return Some((Unit::Open(block), Source::Fresh(class)));
            }
        }
        // Opening a block may have failed for want of credit.
        self.notice().map(|notice| (notice, Source::Notice))
    }

    fn notice(&self) -> Option<Unit> {
        let blocked = self.tell_blocked.then_some(Unit::Blocked(self.credit));
        self.tell_credit.map(Unit::Credit).or(blocked)
    }

    /// Puts the next waiting block under way, if there is room and credit.
    fn open_next(&mut self, class: usize) -> Option<u64> {
        let length = u32::try_from(self.classes[class].waiting.front()?.1.len()).expect("its size was looked at");
        if self.open.len() >= BLOCKS_OPEN_MAX {
            return None;
        }
        if self.spent + cost(length) > self.credit {
            if self.blocked_at != Some(self.credit) {
                (self.blocked_at, self.tell_blocked) = (Some(self.credit), true);
            }
            return None;
        }
        let (tag, bytes) = self.classes[class].waiting.pop_front().expect("it was just looked at");
        self.spent += cost(length);
        let block = self.next_block();
        let shape = Shape { length, size: self.chunk };
        let hash = hash(tag, &bytes);
        let mut outgoing =
            Outgoing { tag, bytes, hash, shape, next: 0, arrived: Vec::new(), missing: 0, cancelled: false };
        outgoing.arrived = vec![0; outgoing.parts().div_ceil(64) as usize];
        outgoing.missing = outgoing.parts();
        self.open.push_back(Some(outgoing));
        self.classes[class].fresh.push_back(block);
        Some(block)
    }

    fn size(&self, unit: Unit) -> usize {
        match unit {
            Unit::Open(_) => OPEN_BYTES,
            Unit::Chunk(block, index) => {
                CHUNK_HEADER_BYTES + self.outgoing(block).map_or(0, |outgoing| outgoing.shape.span(index).len())
            }
            Unit::Skip(_) => SKIP_BYTES,
            Unit::Credit(_) | Unit::Blocked(_) => 9,
        }
    }

    fn put(&self, out: &mut Vec<u8>, unit: Unit) {
        let outgoing = |block| self.outgoing(block).expect("only what is wanted is sent");
        match unit {
            Unit::Open(block) => {
                let Outgoing { shape, tag, hash, .. } = *outgoing(block);
                put_frame(out, &Frame::Open { block, shape, tag, hash });
            }
            Unit::Chunk(block, index) => {
                let Outgoing { shape, bytes, .. } = outgoing(block);
                let bytes = &bytes[shape.span(index)];
                put_frame(out, &Frame::Chunk { block, index, shape: *shape, bytes });
            }
            Unit::Skip(block) => put_frame(out, &Frame::Skip { block, length: outgoing(block).shape.length }),
            Unit::Credit(credit) => put_frame(out, &Frame::Credit(credit)),
            Unit::Blocked(credit) => put_frame(out, &Frame::Blocked(credit)),
        }
    }

    fn took(&mut self, source: Source, statistics: &mut PeerStatistics) {
        match source {
            Source::Notice if self.tell_credit.is_some() => self.tell_credit = None,
            Source::Notice => self.tell_blocked = false,
            Source::Resend => {
                self.resend.pop_front();
                statistics.resent += 1;
            }
            Source::Fresh(class) => {
                let block = *self.classes[class].fresh.front().expect("it was just looked at");
                let outgoing = self.outgoing_mut(block).expect("it was just looked at");
                outgoing.next += 1;
                if outgoing.next == outgoing.parts() {
                    self.classes[class].fresh.pop_front();
                }
            }
        }
    }

    /// Whether the window, the pace and the memory let a datagram leave now; a probe always may.
    pub(super) fn may_send(&self, now: Time, payload_max: usize) -> bool {
        self.probes > 0 || (self.has_room(payload_max) && now >= self.congestion.next_batch)
    }

    fn has_room(&self, payload_max: usize) -> bool {
        self.flight + payload_max as u64 <= self.congestion.window
    }

    /// Fills a datagram, behind its header, with what is due; false if there is nothing.
    pub(super) fn fill(
        &mut self,
        out: &mut Vec<u8>,
        now: Time,
        (payload_max, credit): (usize, Option<u64>),
        statistics: &mut PeerStatistics,
    ) -> bool {
        self.make_room(now, statistics);
        let first_unit = self.first_unit + self.units.len() as u64;
        if let Some(credit) = credit {
            self.put(out, Unit::Credit(credit));
            self.units.push_back(Unit::Credit(credit));
        }
        while let Some((unit, source)) = self.peek() {
            if out.len() + self.size(unit) > payload_max {
                break;
            }
            self.put(out, unit);
            self.units.push_back(unit);
            self.took(source, statistics);
        }
        let units = (self.first_unit + self.units.len() as u64 - first_unit) as u16;
        if units == 0 {
            return false;
        }
        self.probes = self.probes.saturating_sub(1);
        self.last_sent = now;
        let train = self.sent.back().filter(|last| last.at == now).map_or(0, |last| last.train);
        self.sent.push_back(Sent { at: now, first_unit, units, bytes: 0, fate: Fate::Flight, train });
        true
    }

    /// The datagram that was filled last has so many bytes.
    pub(super) fn sealed(&mut self, bytes: usize) {
        let sent = self.sent.back_mut().expect("one was filled");
        sent.bytes = u16::try_from(bytes).expect("a datagram is short");
        sent.train = sent.train.saturating_add(u32::from(sent.bytes));
        self.flight += bytes as u64;
    }

    /// A batch has left.
    pub(super) fn left(&mut self, now: Time, bytes: u64) {
        self.congestion.left(now, bytes, self.round_trip.smoothed_ns);
    }

    /// What is known of the path.
    pub(super) fn path(&self) -> Option<Path> {
        self.pace.path(self.congestion.window)
    }

    /// Bytes that may leave in one go.
    pub(super) fn batch(&self) -> u64 {
        self.congestion.batch()
    }

    /// Forgets the oldest datagram if too many are remembered.
    fn make_room(&mut self, now: Time, statistics: &mut PeerStatistics) {
        if self.sent.len() >= SENT_MAX {
            if self.sent[0].fate == Fate::Flight {
                self.lose(self.first_sent, statistics);
            }
            self.forget_oldest();
            self.forget(now, 0);
        }
        assert!(self.sent.len() < SENT_MAX, "what is remembered is bounded");
    }

    // -------------------------------------------------------------------------------------------- what arrived

    /// Takes in an acknowledgement. `timed`: whether `now` is when it came.
    pub(super) fn on_ack(
        &mut self,
        ack: &Ack<'_>,
        (now, timed): (Time, bool),
        limits: &Limits,
        (statistics, drops): (&mut PeerStatistics, &mut Drops),
    ) {
        let last_block = ack.finished_beyond().last().map_or(ack.finished_below, |last| last.saturating_add(1));
        if ack.largest >= self.next_number() || last_block > self.next_block() {
            drops.impossible_ack += 1;
            return;
        }
        self.on_credit(ack.credit);
        // Finished blocks first: a block whose parts have all arrived and that is not finished then has to be sent again.
        (self.first_open..ack.finished_below).for_each(|block| self.finish(block));
        ack.finished_beyond().for_each(|block| self.finish(block));
        while let Some(None) = self.open.front() {
            self.open.pop_front();
            self.first_open += 1;
        }
        let limited = 2 * self.flight >= self.congestion.window;
        let mut news = false;
        for (first, last) in ack.stretches() {
            if last < self.first_sent {
                break;
            }
            for number in first.max(self.first_sent)..=last {
                let sent = self.sent[(number - self.first_sent) as usize];
                if sent.fate == Fate::Arrived {
                    continue;
                }
                if number == ack.largest {
                    let (measured_ns, waited_ns) = (now.since(sent.at), u64::from(ack.waited_ns));
                    self.round_trip.sample(measured_ns, waited_ns);
                    if timed {
                        self.pace.answered(measured_ns.saturating_sub(waited_ns), u64::from(sent.train));
                    }
                }
                self.arrive(number, sent, limited, statistics);
                news = true;
            }
        }
        if news {
            (self.doublings, self.probes) = (0, 0);
            self.largest_arrived = self.largest_arrived.max(Some(ack.largest));
        }
        self.find_losses(now, statistics);
        self.forget(now, 3 * self.round_trip.timeout_ns(limits, 0));
    }

    pub(super) fn on_credit(&mut self, credit: u64) {
        self.credit = self.credit.max(credit);
    }

    /// A datagram arrived.
    fn arrive(&mut self, number: u64, sent: Sent, limited: bool, statistics: &mut PeerStatistics) {
        self.sent[(number - self.first_sent) as usize].fate = Fate::Arrived;
        if sent.fate == Fate::Lost {
            statistics.spurious_losses += 1;
            self.patience = (self.patience + 1).min(PATIENCE_MAX);
            self.congestion.not_lost();
        } else {
            self.flight -= u64::from(sent.bytes);
            self.congestion.acknowledged(number, u64::from(sent.bytes), limited);
        }
        let first = (sent.first_unit - self.first_unit) as usize;
        for at in first..first + usize::from(sent.units) {
            match self.units[at] {
                Unit::Open(block) => self.part_arrived(block, 0, statistics),
                Unit::Chunk(block, index) => self.part_arrived(block, index + 1, statistics),
                Unit::Skip(_) | Unit::Credit(_) | Unit::Blocked(_) => {}
            }
        }
    }

    fn part_arrived(&mut self, block: u64, part: u32, statistics: &mut PeerStatistics) {
        let next_number = self.next_number();
        let Some(outgoing) = self.outgoing_mut(block) else { return };
        if outgoing.cancelled || outgoing.has_arrived(part) {
            return;
        }
        outgoing.arrived[(part / 64) as usize] |= 1 << (part % 64);
        outgoing.missing -= 1;
        if outgoing.missing > 0 {
            return;
        }
        // All of it is there, and yet it is not finished: its hash was wrong there. Once more, and slowly.
        outgoing.reset();
        statistics.repeated_blocks += 1;
        let class = if outgoing.parts() <= 2 { SMALL } else { LARGE };
        self.classes[class].fresh.push_back(block);
        self.congestion.collapse(next_number);
    }

    /// The other end has finished with a block.
    fn finish(&mut self, block: u64) {
        let Some(at) = block.checked_sub(self.first_open) else { return };
        let Some(outgoing) = self.open[at as usize].take() else { return };
        if outgoing.cancelled {
            self.queued -= BLOCK_OVERHEAD;
        } else {
            self.queued -= u64::from(outgoing.shape.length);
            self.delivered.push_back(outgoing.tag);
        }
    }

    /// The next block that was delivered.
    pub(super) fn take_delivered(&mut self) -> Option<Tag> {
        let tag = self.delivered.pop_front()?;
        self.queued -= BLOCK_OVERHEAD;
        Some(tag)
    }

    // ------------------------------------------------------------------------------------------------ what was lost

    /// How long after it was sent a datagram is lost if later ones have arrived.
    fn loss_ns(&self) -> u64 {
        self.round_trip.smoothed_ns.saturating_add(self.round_trip.reorder_ns(self.patience))
    }

    fn find_losses(&mut self, now: Time, statistics: &mut PeerStatistics) {
        self.loss_at = None;
        let Some(largest) = self.largest_arrived else { return };
        self.decided_below = self.decided_below.max(self.first_sent);
        while self.decided_below < largest {
            let number = self.decided_below;
            let sent = self.sent[(number - self.first_sent) as usize];
            if sent.fate == Fate::Flight {
                let lost_at = sent.at.plus(self.loss_ns());
                if now < lost_at {
                    self.loss_at = Some(lost_at);
                    return;
                }
                self.lose(number, statistics);
            }
            self.decided_below += 1;
        }
    }

    /// A datagram counts as lost: what it carried is sent again.
    fn lose(&mut self, number: u64, statistics: &mut PeerStatistics) {
        let at = (number - self.first_sent) as usize;
        let sent = self.sent[at];
        assert!(sent.fate == Fate::Flight, "lost once");
        self.sent[at].fate = Fate::Lost;
        self.flight -= u64::from(sent.bytes);
        statistics.lost_datagrams += 1;
        self.congestion.lost(number, self.next_number());
        self.send_again(sent);
    }

    fn send_again(&mut self, sent: Sent) {
        let first = (sent.first_unit - self.first_unit) as usize;
        for at in first..first + usize::from(sent.units) {
            let unit = self.units[at];
            if self.is_wanted(unit) {
                match unit {
                    Unit::Credit(credit) => self.tell_credit = self.tell_credit.max(Some(credit)),
                    Unit::Blocked(_) => self.tell_blocked = true,
                    Unit::Open(_) | Unit::Chunk(..) | Unit::Skip(_) => self.resend.push_back(unit),
                }
            }
        }
    }

    fn forget(&mut self, now: Time, late_ns: u64) {
        while let Some(sent) = self.sent.front() {
            let kept = match sent.fate {
                Fate::Flight => true,
                Fate::Arrived => false,
                Fate::Lost => now.since(sent.at) < late_ns,
            };
            if kept {
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(sent) = self.sent.pop_front() else { return };
        self.first_sent += 1;
        self.first_unit += u64::from(sent.units);
        self.units.drain(..usize::from(sent.units));
        assert!(self.units.len() >= self.sent.len(), "every datagram that is remembered carries something");
    }

    // ------------------------------------------------------------------------------------------------------- time

    fn silence_ends(&self, limits: &Limits) -> Option<Time> {
        (self.flight > 0).then(|| self.last_sent.plus(self.round_trip.timeout_ns(limits, self.doublings)))
    }

    /// Does what time asks for.
    pub(super) fn on_time(&mut self, now: Time, limits: &Limits, statistics: &mut PeerStatistics) {
        if self.loss_at.is_some_and(|at| at <= now) {
            self.find_losses(now, statistics);
        }
        if self.silence_ends(limits).is_some_and(|at| at <= now) {
            self.probe(statistics);
            // A probe that cannot leave at once is not another silence.
            self.last_sent = now;
        }
    }

    /// Nothing was heard for too long: whatever the window says, the oldest undecided datagram is sent once more.
    fn probe(&mut self, statistics: &mut PeerStatistics) {
        statistics.timeouts += 1;
        self.doublings = (self.doublings + 1).min(30);
        self.probes = 2;
        if self.doublings >= COLLAPSE_AFTER {
            self.congestion.collapse(self.next_number());
        }
        let oldest = self.sent.iter().find(|sent| sent.fate == Fate::Flight).copied().expect("something is in flight");
        self.send_again(oldest);
        if self.peek().is_none() {
            // All that it carried has come by other ways; an answer is wanted all the same.
            self.tell_blocked = true;
        }
    }

    /// When something is to be done.
    pub(super) fn next_wakeup(&mut self, payload_max: usize, limits: &Limits) -> Option<Time> {
        let sendable = match self.probes {
            0 if self.has_room(payload_max) => self.peek().map(|_| self.congestion.next_batch),
            0 => None,
            _ => self.peek().map(|_| Time(0)),
        };
        [sendable, self.loss_at, self.silence_ends(limits)].into_iter().flatten().min()
    }

    // ------------------------------------------------------------------------------------------------ forgetting

    /// Forgets blocks of older epochs; the peer is told of those that it may have seen.
    pub(super) fn cancel_before(&mut self, epoch: Epoch) {
        let mut freed = 0;
        for class in &mut self.classes {
            class.waiting.retain(|(tag, bytes)| {
                let kept = tag.epoch >= epoch;
                freed += if kept { 0 } else { cost(bytes.len() as u32) };
                kept
            });
        }
        for (block, outgoing) in (self.first_open..).zip(&mut self.open) {
            let Some(outgoing) = outgoing.as_mut().filter(|o| o.tag.epoch < epoch && !o.cancelled) else { continue };
            outgoing.cancelled = true;
            outgoing.bytes = Vec::new();
            outgoing.arrived = Vec::new();
            freed += u64::from(outgoing.shape.length);
            self.resend.push_back(Unit::Skip(block));
        }
        self.delivered.retain(|tag| {
            let kept = tag.epoch >= epoch;
            freed += if kept { 0 } else { BLOCK_OVERHEAD };
            kept
        });
        self.queued -= freed;
    }

    /// Whether anything waits to be sent for the first time.
    pub(super) fn has_waiting(&self) -> bool {
        self.classes.iter().any(|class| !class.waiting.is_empty())
    }

    pub(super) fn has_delivered(&self) -> bool {
        !self.delivered.is_empty()
    }

    /// Writes down how it is doing.
    pub(super) fn describe(&self, statistics: &mut PeerStatistics) {
        statistics.round_trip_ns = self.round_trip.smoothed_ns;
        statistics.window_bytes = self.congestion.window;
        statistics.flight_bytes = self.flight;
        statistics.queued_bytes = self.queued;
        statistics.open_blocks = self.open.iter().flatten().count() as u64;
        statistics.remembered_datagrams = self.sent.len() as u64;
        statistics.resend_queue = self.resend.len() as u64;
    }
}
