//! Decides what may pass between the wire and laminar: opens what peers sealed, seals what goes to them, and keeps their sessions.
//!
//! No sockets and no clock: datagrams, addresses and the time come in, payloads come out; what is to be sent waits in outboxes. So the
//! same gate runs above a real socket and in a simulation. Towards laminar a peer has a *synthetic address*, `fd00::<slot>:<life>`:
//! it changes when the peer is started anew, so laminar meets a new peer then, and only then, wherever the peer may be.
//!
//! A datagram that proves nothing takes no memory and is counted by its reason. An answer is never longer than its question. What
//! begins, repeats and ends handshakes stands in `greet.rs`.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use super::{
    config::Config,
    counters::Counters,
    notice::{Notice, Notices},
    peers::{self, Live, Peers, Place, TableError, Which},
};
use crate::{
    security::{
        bucket::TokenBucket,
        cookie::CookieJar,
        frame::{self, Frame, INITIATION_BYTES, OVERHEAD_BYTES, SessionId},
        handshake::{Hello, Identity},
        keys::{PublicKey, SecretKey},
        session::OpenError,
    },
    wire::{Incarnation, NodeId, Time},
};

/// Answers that wait to be sent at most. Our own initiations are not counted: there is one for each peer at most.
const REPLIES_MAX: usize = 1024;
/// A synthetic address begins like this; such addresses are private and never routed.
const SYNTHETIC: u16 = 0xfd00;

/// A datagram outside of any session.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Where it goes.
    pub to: SocketAddr,
    bytes: [u8; INITIATION_BYTES],
    length: usize,
}

impl Reply {
    /// The datagram.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// What it is called.
    pub node: NodeId,
    /// By this it is known.
    pub key: PublicKey,
    /// Where it was last heard, or should be.
    pub address: Option<SocketAddr>,
    /// Whether there is a session with it.
    pub connected: bool,
    /// Which life of it the session is with.
    pub incarnation: Option<Incarnation>,
    /// What it said of itself when that session was made.
    pub hello: Option<Hello>,
    /// How long the answer to our handshake took [ns], if we began it.
    pub round_trip: Option<u64>,
    /// When something that it sealed was last opened.
    pub last_heard: Option<Time>,
    /// Since when it has said nothing to what we sent, if so.
    pub unanswered_since: Option<Time>,
    /// Payloads sealed for it.
    pub sent: u64,
    /// Payloads opened.
    pub received: u64,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Gate {
    pub(super) identity: Identity,
    pub(super) config: Config,
    pub(super) peers: Peers,
    pub(super) jar: CookieJar,
    /// Decryptions for datagrams from addresses that are not their peer's.
    strangers: TokenBucket,
    /// Handshakes of unknown addresses; of those that have shown a cookie; challenges and refusals.
    pub(super) handshakes: TokenBucket,
    pub(super) proved: TokenBucket,
    pub(super) answers: TokenBucket,
    pub(super) replies: VecDeque<Reply>,
    pub(super) notices: Notices,
    pub(super) attempts: u64,
    pub(super) counters: Counters,
}

impl Gate {
    /// A gate with nobody outside.
    ///
    /// # Panics
    /// If the limits make no sense together.
    #[must_use]
    pub fn new(secret: SecretKey, config: Config) -> Self {
        config.check();
        let bucket = |(rate, burst): (u32, u32)| TokenBucket::new(rate, burst, Time(0));
        Self {
            identity: Identity::new(secret),
            peers: Peers::default(),
            jar: CookieJar::new(config.cookie_seed),
            strangers: bucket(config.stranger_rate),
            handshakes: bucket(config.handshake_rate),
            proved: bucket(config.handshake_rate),
            answers: bucket(config.stranger_rate),
            replies: VecDeque::new(),
            notices: Notices::default(),
            attempts: 0,
            counters: Counters::default(),
            config,
        }
    }

    /// Our public key.
    #[must_use]
    pub fn own_key(&self) -> PublicKey {
        self.identity.public()
    }

    /// Its limits.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What has passed and what has not.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// The next thing that the owner should hear of.
    pub fn notice(&mut self) -> Option<Notice> {
        self.notices.pop()
    }

    pub(super) fn tell(&mut self, now: Time, notice: Notice) {
        if !self.notices.push(now, notice) {
            self.counters.notices_dropped += 1;
        }
    }

    /// Says who may speak with us: whoever is not in the table is a peer no more, whoever stays keeps its session.
    ///
    /// # Errors
    /// If two keys have one place; then nothing has changed.
    pub fn set_peers(&mut self, table: &BTreeMap<PublicKey, Place>, now: Time) -> Result<(), TableError> {
        peers::check(table, &self.config)?;
        self.peers.replace(table, &self.config, now);
        Ok(())
    }

    /// Adds one peer to the table, or gives it another place.
    ///
    /// # Errors
    /// If another key has that place; then nothing has changed.
    pub fn set_peer(&mut self, key: PublicKey, place: &Place, now: Time) -> Result<(), TableError> {
        self.peers.admits(&key, place, &self.config)?;
        self.peers.place(key, place, &self.config, now);
        Ok(())
    }

    /// What is known of a peer.
    #[must_use]
    pub fn status(&self, node: NodeId) -> Option<PeerStatus> {
        let peer = self.peers.get(self.peers.of_node(node)?)?;
        Some(PeerStatus {
            node,
            key: peer.key,
            address: peer.address,
            connected: peer.current.is_some(),
            incarnation: peer.current.as_ref().map(|live| live.incarnation),
            hello: peer.current.as_ref().map(|live| live.hello.clone()),
            round_trip: peer.round_trip,
            last_heard: peer.last_heard,
            unanswered_since: peer.unanswered_since,
            sent: peer.sent,
            received: peer.received,
        })
    }

    /// All peers, by what they are called.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.peers.nodes()
    }

    /// The peer at a synthetic address, and which life of it.
    #[must_use]
    pub fn who(&self, address: SocketAddr) -> Option<(NodeId, Incarnation)> {
        let (slot, incarnation) = read_synthetic(address)?;
        Some((self.peers.get(slot)?.node, incarnation))
    }

    /// The synthetic address of a peer, if there is a session with it.
    #[must_use]
    pub fn address_of(&self, node: NodeId) -> Option<SocketAddr> {
        let slot = self.peers.of_node(node)?;
        let live = self.peers.get(slot)?.current.as_ref()?;
        Some(synthetic(slot, live.incarnation))
    }

    /// Takes a datagram from the wire. If a peer sealed a payload in it, the payload stands in `out`: its length, and the peer's
    /// synthetic address.
    ///
    /// # Panics
    /// If `out` is shorter than the longest datagram.
    pub fn take(
        &mut self,
        now: Time,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Option<(usize, SocketAddr)> {
        self.counters.datagrams += 1;
        self.counters.bytes_received += datagram.len() as u64;
        let Ok(frame) = frame::parse(datagram) else {
            self.counters.drops.unreadable += 1;
            return None;
        };
        match frame {
            Frame::Data { to, counter, sealed } => return self.open(now, from, (to, counter, sealed), out),
            Frame::Initiation { from: theirs } => self.take_initiation(now, from, theirs, datagram),
            Frame::Foreign { version, from: theirs } => self.take_foreign(now, from, version, theirs, datagram),
            Frame::Response { to } => self.take_response(now, from, to, datagram),
            Frame::Challenge { to } => self.take_challenge(now, to, datagram),
            Frame::Refusal { to, reason, version } => self.take_refusal(now, to, (reason, version), datagram),
        }
        None
    }

    fn open(
        &mut self,
        now: Time,
        from: SocketAddr,
        (to, counter, sealed): (SessionId, u64, &[u8]),
        out: &mut [u8],
    ) -> Option<(usize, SocketAddr)> {
        let drops = &mut self.counters.drops;
        let Some(slot) = self.peers.of_session(to) else {
            drops.unknown_session += 1;
            return None;
        };
        let peer = self.peers.get_mut(slot).expect("a session has a peer");
        let at_home = peer.address == Some(from);
        if !at_home && !self.strangers.take(now) {
            drops.stranger_rate += 1;
            return None;
        }
        if at_home && !peer.bucket.take(now) {
            drops.peer_rate += 1;
            return None;
        }
        // The name of a handshake that is under way is no session yet.
        let Some((live, which)) = peer.session(to) else {
            drops.unknown_session += 1;
            return None;
        };
        match live.session.open(counter, sealed, out) {
            Err(OpenError::Forged) => drops.forged += 1,
            Err(OpenError::Replayed) => drops.replayed += 1,
            Ok(length) => return self.opened(now, from, (slot, which), length),
        }
        None
    }

    /// A datagram was opened: its sender is who it says, and there.
    fn opened(
        &mut self,
        now: Time,
        from: SocketAddr,
        (slot, which): (u32, Which),
        length: usize,
    ) -> Option<(usize, SocketAddr)> {
        if which == Which::Next {
            self.promote(now, slot, from);
        }
        let peer = self.peers.get_mut(slot).expect("it has just sent something");
        peer.last_heard = Some(now);
        peer.unanswered_since = None;
        let live = match which {
            Which::Previous => peer.previous.as_mut(),
            Which::Current | Which::Next => peer.current.as_mut(),
        };
        let live = live.expect("a datagram was opened under it");
        live.heard = true;
        let (incarnation, newest) = (live.incarnation, live.session.opened_newest());
        if which != Which::Previous && newest && peer.address != Some(from) {
            self.move_peer(now, slot, from);
        }
        if length == 0 {
            return None;
        }
        let peer = self.peers.get_mut(slot).expect("it has just sent something");
        peer.received += 1;
        peer.owing_since.get_or_insert(now);
        self.counters.received += 1;
        Some((length, synthetic(slot, incarnation)))
    }

    fn move_peer(&mut self, now: Time, slot: u32, to: SocketAddr) {
        let peer = self.peers.get(slot).expect("it has just sent something");
        let (node, before) = (peer.node, peer.address);
        self.peers.settle(slot, to);
        self.counters.moves += 1;
        self.tell(now, Notice::Moved { peer: node, before, now: to });
    }

    /// Seals a payload for the peer at a synthetic address, into its outbox; says whether it did. An older life gets nothing.
    pub fn seal(&mut self, now: Time, address: SocketAddr, payload: &[u8]) -> Option<u32> {
        let current = read_synthetic(address).filter(|(slot, incarnation)| {
            let live = self.peers.get(*slot).and_then(|peer| peer.current.as_ref());
            live.is_some_and(|live| live.incarnation == *incarnation)
        });
        let Some((slot, _)) = current else {
            self.counters.drops.not_connected += 1;
            return None;
        };
        self.seal_for(now, slot, payload).then_some(slot)
    }

    /// Seals a payload for a peer with a session.
    pub(super) fn seal_for(&mut self, now: Time, slot: u32, payload: &[u8]) -> bool {
        let drops = &mut self.counters.drops;
        let peer = self.peers.get_mut(slot).expect("who seals has looked");
        let Some(Live { session, .. }) = &mut peer.current else { return false };
        let Some(room) = peer.outbox.room(payload.len() + OVERHEAD_BYTES, self.config.outbox_bytes) else {
            drops.outbox_full += 1;
            return false;
        };
        let Ok(length) = session.seal(payload, room) else {
            drops.key_exhausted += 1;
            return false;
        };
        peer.outbox.push(length);
        peer.owing_since = None;
        if !payload.is_empty() {
            peer.sent += 1;
            peer.unanswered_since.get_or_insert(now);
            self.counters.sent += 1;
        }
        true
    }

    /// The next datagram to send that belongs to no session.
    pub fn reply(&mut self) -> Option<Reply> {
        self.replies.pop_front()
    }

    /// Answers a datagram, unless too many answers wait already.
    pub(super) fn push_answer(&mut self, to: SocketAddr, datagram: &[u8]) {
        if self.replies.len() < REPLIES_MAX {
            self.push_initiation(to, datagram);
        } else {
            self.counters.drops.replies_full += 1;
        }
    }

    pub(super) fn push_initiation(&mut self, to: SocketAddr, datagram: &[u8]) {
        let mut bytes = [0; INITIATION_BYTES];
        bytes[..datagram.len()].copy_from_slice(datagram);
        self.replies.push_back(Reply { to, bytes, length: datagram.len() });
    }

    /// Sealed datagrams to one peer, as many as one call may send: where to, the bytes, the length of each.
    #[must_use]
    pub fn waiting(&self, slot: u32, segments: usize, bytes_max: usize) -> Option<(SocketAddr, &[u8], usize)> {
        let peer = self.peers.get(slot)?;
        let (bytes, segment) = peer.outbox.front(segments, bytes_max)?;
        Some((peer.address?, bytes, segment))
    }

    /// Bytes that wait for a peer.
    #[must_use]
    pub fn bytes_waiting(&self, slot: u32) -> usize {
        self.peers.get(slot).map_or(0, |peer| peer.outbox.waiting())
    }

    /// So many of the waiting bytes are sent, or given up.
    pub fn sent(&mut self, slot: u32, bytes: usize) {
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.outbox.pop(bytes);
        }
    }

    /// Slots that may have something to send, in order.
    #[must_use]
    pub fn slots(&self) -> std::ops::Range<u32> {
        self.peers.slots()
    }

    /// Leaves out counters of the session with a peer, as if so many more datagrams had been sealed: for tests of the limits.
    pub fn skip_counters(&mut self, node: NodeId, counters: u64) {
        let live = self.peers.of_node(node).and_then(|slot| self.peers.get_mut(slot)?.current.as_mut());
        if let Some(live) = live {
            live.session.skip(counters);
        }
    }
}

/// What laminar takes for the address of a peer.
fn synthetic(slot: u32, incarnation: Incarnation) -> SocketAddr {
    let [a, b] = [(slot >> 16) as u16, slot as u16];
    let life = |word: u32| (incarnation.0 >> (16 * word)) as u16;
    let ip = Ipv6Addr::new(SYNTHETIC, 0, a, b, life(3), life(2), life(1), life(0));
    SocketAddr::new(ip.into(), 1)
}

fn read_synthetic(address: SocketAddr) -> Option<(u32, Incarnation)> {
    let IpAddr::V6(ip) = address.ip() else { return None };
    let [SYNTHETIC, 0, a, b, life @ ..] = ip.segments() else { return None };
    let slot = u32::from(a) << 16 | u32::from(b);
    Some((slot, Incarnation(life.iter().fold(0, |value, word| value << 16 | u64::from(*word)))))
}
