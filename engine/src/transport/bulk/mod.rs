//! Blocks over datagrams that may be lost, repeated and reordered: a machine without sockets, clock or randomness of its own.
//!
//! A block that was posted is handed over once and whole, or not at all. It is cut into chunks; every datagram has a number; what came is
//! acknowledged by number, and what is missing is sent again. A block is looked at only after its BLAKE3 hash was.
//!
//! Both ends are bounded whatever the other does: see [`Limits`] and `limits.rs`. **All nodes of a run must have the same limits**: what a
//! receiver holds is what its sender may send before it hears otherwise.
//!
//! A connection is two lives (incarnations) and two counts of fresh starts (sessions); a datagram that names another connection changes
//! nothing. So blocks flow only after each end has heard of the other: the first datagram is a greeting.
//!
//! What it does not promise: order among blocks (small ones overtake large ones), and that a `Delivered` block was wanted: a receiver that
//! has cancelled its epoch confirms it too, and throws it away. Nothing is encrypted or authenticated here: that lies below.

pub mod counters;
pub mod frame;
pub mod limits;

mod congestion;
mod pace;
mod ranges;
mod receiver;
mod rtt;
mod sender;

use std::collections::BTreeMap;

use self::{
    counters::{Drops, PeerStatistics},
    frame::{ACK_BYTES_MAX, CHUNK_HEADER_BYTES, Frame, Frames, Header, NUMBERED_HEADER_BYTES, PLAIN_HEADER_BYTES},
    limits::{BATCH_DATAGRAMS, CHUNK_MIN, Limits, TRANSMIT_DATAGRAMS_MAX, cost},
    receiver::{Receiver, Refused},
    sender::Sender,
};
use crate::{
    transport::{Event, Path, PostError, Tag},
    wire::{Epoch, Incarnation, NodeId, Time},
};

/// Smallest payload of a datagram that this works over: an acknowledgement must fit, and a chunk [bytes].
pub const PAYLOAD_MIN: usize = PLAIN_HEADER_BYTES + ACK_BYTES_MAX;

const _: () = assert!(PAYLOAD_MIN >= NUMBERED_HEADER_BYTES + CHUNK_HEADER_BYTES + CHUNK_MIN as usize);

/// One end of all connections of a node.
#[derive(Debug)]
pub struct Bulk {
    node: NodeId,
    incarnation: Incarnation,
    payload_max: usize,
    limits: Limits,
    /// Blocks of older epochs are not taken in.
    oldest: Epoch,
    peers: Vec<Peer>,
    places: BTreeMap<NodeId, usize>,
    /// How many rounds of peers have begun: each begins at another.
    rounds: usize,
    /// When something was last sent, as the owner said.
    transmitted_at: Option<Time>,
    next_event: usize,
    drops: Drops,
    scratch: Scratch,
}

/// Room for what is being put together.
#[derive(Debug, Default)]
struct Scratch {
    datagram: Vec<u8>,
    finished: Vec<u8>,
    ranges: Vec<u8>,
}

/// The connection with one peer.
#[derive(Debug)]
struct Peer {
    node: NodeId,
    /// Fresh starts with this peer.
    session: u32,
    /// Its life, and its fresh starts with us.
    theirs: Option<(Incarnation, u32)>,
    restarted: Option<Incarnation>,
    greeting_due: bool,
    greet_at: Time,
    greetings: u32,
    sender: Sender,
    receiver: Receiver,
    statistics: PeerStatistics,
}

impl Bulk {
    /// A node without peers, in this life of it.
    ///
    /// # Panics
    /// If the limits contradict each other, or no chunk fits a datagram.
    #[must_use]
    pub fn new(node: NodeId, incarnation: Incarnation, payload_max: usize, limits: Limits) -> Self {
        limits.assert_consistent();
        assert!((PAYLOAD_MIN..=usize::from(u16::MAX)).contains(&payload_max), "datagrams of {payload_max} bytes");
        Self {
            node,
            incarnation,
            payload_max,
            limits,
            oldest: Epoch(0),
            peers: Vec::new(),
            places: BTreeMap::new(),
            rounds: 0,
            transmitted_at: None,
            next_event: 0,
            drops: Drops::default(),
            scratch: Scratch::default(),
        }
    }

    /// Makes a node a peer, if it is none yet; false if there are as many as there may be.
    pub fn add_peer(&mut self, peer: NodeId) -> bool {
        if self.places.contains_key(&peer) {
            return true;
        }
        if self.peers.len() >= usize::from(self.limits.peers_max) {
            return false;
        }
        self.places.insert(peer, self.peers.len());
        self.peers.push(Peer::new(peer, self.payload_max, &self.limits));
        true
    }

    /// Takes a block for a peer.
    ///
    /// # Errors
    /// If it is too large, too much waits already, or there is no such peer; nothing was taken then.
    pub fn post(&mut self, to: NodeId, tag: Tag, bytes: Vec<u8>) -> Result<(), PostError> {
        let Some(&place) = self.places.get(&to) else { return Err(PostError::Unknown(to)) };
        let most = self.limits.block_bytes_max;
        let length = u32::try_from(bytes.len()).ok().filter(|&length| length <= most);
        let Some(length) = length else { return Err(PostError::Oversize { bytes: bytes.len(), most: most as usize }) };
        let sender = &mut self.peers[place].sender;
        if sender.queued + cost(length) > self.limits.send_bytes_max {
            let (waiting, most) = (sender.queued as usize, self.limits.send_bytes_max as usize);
            return Err(PostError::Full { to, waiting, most });
        }
        sender.post(tag, bytes);
        Ok(())
    }

    /// Whether a block of so many bytes has to wait until others have gone.
    #[must_use]
    pub fn is_full(&self, to: NodeId, bytes: usize) -> bool {
        let length = u32::try_from(bytes).ok().filter(|&length| length <= self.limits.block_bytes_max);
        let sender = self.places.get(&to).map(|&place| &self.peers[place].sender);
        length.zip(sender).is_some_and(|(length, sender)| sender.queued + cost(length) > self.limits.send_bytes_max)
    }

    /// Takes in a datagram.
    pub fn receive(&mut self, now: Time, from: NodeId, incarnation: Incarnation, datagram: &[u8]) {
        let Some(&place) = self.places.get(&from) else {
            self.drops.stranger += 1;
            return;
        };
        let peer = &mut self.peers[place];
        peer.statistics.received_datagrams += 1;
        peer.statistics.received_bytes += datagram.len() as u64;
        let Ok((header, frames)) = frame::decode(datagram) else {
            self.drops.malformed += 1;
            return;
        };
        if !peer.recognise((incarnation, header.session), self.payload_max, &self.limits) {
            self.drops.stale_sender += 1;
            return;
        }
        if (header.to_incarnation, header.to_session) != (self.incarnation, peer.session) {
            // A sender that does not know us greets with zeros; one that knows an older life of us must hear of it.
            self.drops.stale_receiver += u64::from(header.to_session != 0);
            peer.greeting_due = true;
            return;
        }
        // An owner who sends and takes in again without looking at its clock cannot tell how long an answer took.
        let timed = self.transmitted_at != Some(now);
        let all_taken = peer.take_in(frames, (now, timed), (&self.limits, self.oldest), &mut self.drops);
        if let (true, Some(number)) = (all_taken, header.number) {
            peer.receiver.note(number, now, &self.limits, &mut self.drops);
        }
    }

    /// Sends what is due.
    pub fn transmit(&mut self, now: Time, send: &mut impl FnMut(NodeId, &[u8])) {
        let peers = self.peers.len();
        self.transmitted_at = Some(now);
        for peer in &mut self.peers {
            peer.sender.on_time(now, &self.limits, &mut peer.statistics);
        }
        // Rounds of one batch for each peer; each node, and each call, begins at another peer, against incast.
        let first = usize::from(self.node.0).wrapping_add(self.rounds);
        self.rounds = self.rounds.wrapping_add(1);
        let mut left = TRANSMIT_DATAGRAMS_MAX;
        loop {
            let before = left;
            for turn in 0..peers {
                let peer = &mut self.peers[first.wrapping_add(turn) % peers];
                let context = Context { now, payload_max: self.payload_max, limits: &self.limits };
                left -= peer.transmit_batch(&context, left.min(BATCH_DATAGRAMS), &mut self.scratch, send);
            }
            if left == before || left == 0 {
                return;
            }
        }
    }

    /// What happened next, as it was received so far. Peers take turns.
    pub fn event(&mut self) -> Option<Event> {
        for _ in 0..self.peers.len() {
            let place = self.next_event % self.peers.len();
            self.next_event = place + 1;
            if let Some(event) = self.peers[place].event() {
                return Some(event);
            }
        }
        None
    }

    /// Whether [`Bulk::event`] has something to say.
    #[must_use]
    pub fn has_event(&self) -> bool {
        self.peers.iter().any(Peer::has_event)
    }

    /// When [`Bulk::transmit`] has something to do, if nothing comes before. A moment that has passed means now.
    pub fn next_wakeup(&mut self) -> Option<Time> {
        let (payload_max, limits) = (self.payload_max, &self.limits);
        self.peers.iter_mut().filter_map(|peer| peer.next_wakeup(payload_max, limits)).min()
    }

    /// Forgets what is under way in either direction with a tag of an older epoch, and takes in no more of it.
    pub fn cancel_before(&mut self, epoch: Epoch) {
        self.oldest = self.oldest.max(epoch);
        for peer in &mut self.peers {
            peer.sender.cancel_before(epoch);
            peer.receiver.cancel_before(epoch);
        }
    }

    /// Forgets what is under way to and from one peer. If the peer lives, it hears of it as of a restart.
    pub fn give_up(&mut self, peer: NodeId) {
        if let Some(&place) = self.places.get(&peer) {
            let (payload_max, limits) = (self.payload_max, &self.limits);
            let peer = &mut self.peers[place];
            peer.session = peer.session.checked_add(1).expect("a run ends before four thousand million fresh starts");
            peer.restarted = None;
            peer.greeting_due = peer.theirs.is_some();
            peer.start_afresh(payload_max, limits);
        }
    }

    /// What came and was not used.
    #[must_use]
    pub fn drops(&self) -> Drops {
        self.drops
    }

    /// How a peer is doing; `None` if it is none.
    #[must_use]
    pub fn statistics(&self, peer: NodeId) -> Option<PeerStatistics> {
        self.places.get(&peer).map(|&place| self.peers[place].describe())
    }

    /// Chunks of large blocks that came, from anybody: see [`super::Transport::parts_received`].
    #[must_use]
    pub fn parts_received(&self) -> u64 {
        self.peers.iter().map(|peer| peer.receiver.parts).fold(0, u64::wrapping_add)
    }

    /// What is known of the way to a peer; `None` before something came back from there.
    #[must_use]
    pub fn path(&self, to: NodeId) -> Option<Path> {
        self.peers[*self.places.get(&to)?].sender.path()
    }

    /// The limits that it keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// What a batch needs to know.
struct Context<'a> {
    now: Time,
    payload_max: usize,
    limits: &'a Limits,
}

impl Peer {
    fn new(node: NodeId, payload_max: usize, limits: &Limits) -> Self {
        Self {
            node,
            session: 1,
            theirs: None,
            restarted: None,
            greeting_due: false,
            greet_at: Time(0),
            greetings: 0,
            sender: Sender::new(payload_max, limits),
            receiver: Receiver::default(),
            statistics: PeerStatistics::default(),
        }
    }

    /// Whether this is the life of the peer that we talk with; a newer one takes the place of an older.
    fn recognise(&mut self, life: (Incarnation, u32), payload_max: usize, limits: &Limits) -> bool {
        match self.theirs {
            Some(known) if life == known => return true,
            Some(known) if life < known => return false,
            Some(_) => {
                self.restarted = Some(life.0);
                self.start_afresh(payload_max, limits);
            }
            None => {}
        }
        self.theirs = Some(life);
        true
    }

    fn start_afresh(&mut self, payload_max: usize, limits: &Limits) {
        self.statistics.received_blocks += self.receiver.blocks;
        self.sender = Sender::new(payload_max, limits);
        self.receiver = Receiver::default();
    }

    /// Takes in the frames of a datagram; whether it took in all of them.
    fn take_in(
        &mut self,
        frames: Frames<'_>,
        (now, timed): (Time, bool),
        (limits, oldest): (&Limits, Epoch),
        drops: &mut Drops,
    ) -> bool {
        let mut all_taken = true;
        for frame in frames {
            let taken = match frame {
                Ok(Frame::Chunk { block, index, shape, bytes }) => {
                    self.receiver.on_chunk((block, index), shape, bytes, (limits, drops))
                }
                Ok(Frame::Open { block, shape, tag, hash }) => {
                    self.receiver.on_open((block, shape), (tag, hash), oldest, (limits, drops))
                }
                Ok(Frame::Ack(ack)) => {
                    self.sender.on_ack(&ack, (now, timed), limits, (&mut self.statistics, drops));
                    Ok(())
                }
                Ok(Frame::Skip { block, length }) => self.receiver.on_skip(block, length, drops),
                Ok(Frame::Credit(credit)) => {
                    self.sender.on_credit(credit);
                    Ok(())
                }
                Ok(Frame::Blocked(known)) => {
                    self.receiver.on_blocked(known);
                    Ok(())
                }
                Err(_) => {
                    drops.malformed += 1;
                    Err(Refused)
                }
            };
            all_taken &= taken.is_ok();
        }
        all_taken
    }

    /// Sends up to so many datagrams, and says how many.
    fn transmit_batch(
        &mut self,
        context: &Context<'_>,
        most: usize,
        scratch: &mut Scratch,
        send: &mut impl FnMut(NodeId, &[u8]),
    ) -> usize {
        let Some(theirs) = self.theirs else { return self.greet(context, most, scratch, send) };
        let header = Header { session: self.session, to_session: theirs.1, to_incarnation: theirs.0, number: None };
        let (mut sent, mut bytes) = (0, 0);
        while sent < most && bytes < self.sender.batch() && self.sender.may_send(context.now, context.payload_max) {
            scratch.datagram.clear();
            frame::put_header(&mut scratch.datagram, &Header { number: Some(self.sender.next_number()), ..header });
            let credit = self.receiver.credit_due(context.limits);
            let room = (context.payload_max, credit);
            if !self.sender.fill(&mut scratch.datagram, context.now, room, &mut self.statistics) {
                break;
            }
            if let Some(credit) = credit {
                self.receiver.credit_told(credit);
            }
            if scratch.datagram.len() + ACK_BYTES_MAX <= context.payload_max {
                self.put_ack(context, scratch);
            }
            self.sender.sealed(scratch.datagram.len());
            self.statistics.sent_datagrams += 1;
            self.hand_over(scratch, send);
            bytes += scratch.datagram.len() as u64;
            sent += 1;
        }
        if bytes > 0 {
            self.sender.left(context.now, bytes);
        }
        let ack_due = self.receiver.ack_due().is_some_and(|at| at <= context.now);
        if sent < most && (ack_due || self.greeting_due) {
            scratch.datagram.clear();
            frame::put_header(&mut scratch.datagram, &header);
            self.put_ack(context, scratch);
            self.statistics.sent_plain_datagrams += 1;
            self.hand_over(scratch, send);
            sent += 1;
        }
        sent
    }

    fn put_ack(&mut self, context: &Context<'_>, scratch: &mut Scratch) {
        let lists = (&mut scratch.finished, &mut scratch.ranges);
        if let Some(ack) = self.receiver.ack(context.now, context.limits, lists) {
            frame::put_frame(&mut scratch.datagram, &Frame::Ack(ack));
        }
    }

    fn hand_over(&mut self, scratch: &Scratch, send: &mut impl FnMut(NodeId, &[u8])) {
        // Any datagram that names this connection tells the peer who we are.
        self.greeting_due = false;
        self.statistics.sent_bytes += scratch.datagram.len() as u64;
        send(self.node, &scratch.datagram);
    }

    /// Makes itself known to a peer of which nothing was heard yet, if there is something to say.
    fn greet(
        &mut self,
        context: &Context<'_>,
        most: usize,
        scratch: &mut Scratch,
        send: &mut impl FnMut(NodeId, &[u8]),
    ) -> usize {
        if most == 0 || !self.sender.has_waiting() || context.now < self.greet_at {
            return 0;
        }
        let wait = context.limits.resend_ns_first << self.greetings.min(10);
        self.greet_at = context.now.plus(wait.min(context.limits.resend_ns_max));
        self.greetings += 1;
        scratch.datagram.clear();
        let header = Header { session: self.session, to_session: 0, to_incarnation: Incarnation(0), number: None };
        frame::put_header(&mut scratch.datagram, &header);
        self.statistics.sent_plain_datagrams += 1;
        self.hand_over(scratch, send);
        1
    }

    fn event(&mut self) -> Option<Event> {
        if let Some(incarnation) = self.restarted.take() {
            return Some(Event::Restarted { peer: self.node, incarnation });
        }
        if let Some((tag, bytes)) = self.receiver.take() {
            let (incarnation, _) = self.theirs.expect("a block came, so its sender is known");
            return Some(Event::Received { from: self.node, incarnation, tag, bytes });
        }
        self.sender.take_delivered().map(|tag| Event::Delivered { to: self.node, tag })
    }

    fn has_event(&self) -> bool {
        self.restarted.is_some() || self.receiver.has_ready() || self.sender.has_delivered()
    }

    fn next_wakeup(&mut self, payload_max: usize, limits: &Limits) -> Option<Time> {
        if self.theirs.is_none() {
            return self.sender.has_waiting().then_some(self.greet_at);
        }
        let greeting = self.greeting_due.then_some(Time(0));
        let credit = self.receiver.credit_due(limits).map(|_| Time(0));
        let credit = credit.filter(|&now| self.sender.may_send(now, payload_max));
        let sender = self.sender.next_wakeup(payload_max, limits);
        [greeting, credit, self.receiver.ack_due(), sender].into_iter().flatten().min()
    }

    fn describe(&self) -> PeerStatistics {
        let mut statistics = self.statistics;
        self.sender.describe(&mut statistics);
        statistics.held_bytes = self.receiver.held;
        statistics.incoming_blocks = self.receiver.incoming_blocks() as u64;
        statistics.received_blocks += self.receiver.blocks;
        statistics
    }
}
