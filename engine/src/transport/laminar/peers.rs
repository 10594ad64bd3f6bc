//! Everything that is known of each peer: its key and place, its sessions, the handshake under way, what waits to be sent.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::SocketAddr,
};

use super::{config::Config, outbox::Outbox};
use crate::{
    security::{
        bucket::TokenBucket,
        cookie::Cookie,
        frame::SessionId,
        handshake::{Hello, Initiation},
        keys::PublicKey,
        session::Session,
    },
    wire::{Incarnation, NodeId, Time},
};

/// The first of the numbers that are given to trusted peers which have no place in a run yet.
pub const TEMPORARY_FIRST: NodeId = NodeId(0xF000);

/// Handshakes that a known peer may begin in a second, and at once.
const HANDSHAKES: (u32, u32) = (2, 10);

/// A peer of the table that the owner hands in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its place in the run; `None` gives it a temporary one, from [`TEMPORARY_FIRST`] on, which it keeps until it gets one.
    pub node: Option<NodeId>,
    /// Where to look for it; `None` if it will come by itself.
    pub address: Option<SocketAddr>,
}

/// Why a table of peers is not taken; the one before stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// One place for two keys.
    #[error("two public keys for {0}: a place in a run has one")]
    Twice(NodeId),
    /// A number that is given to those without a place.
    #[error("{0} cannot be a place in a run: numbers from {first} on are temporary", first = TEMPORARY_FIRST.0)]
    Temporary(NodeId),
    /// Too many.
    #[error("more than {0} peers")]
    Many(u16),
}

fn is_temporary(node: NodeId) -> bool {
    node >= TEMPORARY_FIRST && node != NodeId::CLIENT
}

/// What is wrong with a table, if anything is.
pub(super) fn check(table: &BTreeMap<PublicKey, Place>, config: &Config) -> Result<(), TableError> {
    if table.len() > usize::from(config.peers_max) {
        return Err(TableError::Many(config.peers_max));
    }
    let mut nodes = BTreeSet::new();
    for node in table.values().filter_map(|place| place.node) {
        if is_temporary(node) {
            return Err(TableError::Temporary(node));
        }
        if !nodes.insert(node) {
            return Err(TableError::Twice(node));
        }
    }
    Ok(())
}

/// A session and whose life it is with.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) session: Session,
    pub(super) incarnation: Incarnation,
    pub(super) hello: Hello,
    pub(super) since: Time,
    /// Whether something was opened under it.
    pub(super) heard: bool,
    /// When to say again that it is there, until something was heard.
    pub(super) confirm_at: Time,
}

/// A handshake that we began.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) initiation: Initiation,
    pub(super) sent: Time,
    pub(super) next: Time,
    pub(super) tries: u32,
}

/// Someone who may speak with us.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) key: PublicKey,
    pub(super) node: NodeId,
    /// Where to look for it first.
    pub(super) home: Option<SocketAddr>,
    /// Where it was last heard.
    pub(super) address: Option<SocketAddr>,
    /// The latest life that was proved, and the number of its latest handshake.
    pub(super) newest: (Incarnation, u64),
    /// What is sealed is sealed under this one.
    pub(super) current: Option<Live>,
    /// The one before: what was under way is still opened.
    pub(super) previous: Option<Live>,
    /// Made by an initiation that may have been captured and sent again: it counts once something was opened under it.
    pub(super) next: Option<Live>,
    pub(super) pending: Option<Pending>,
    pub(super) cookie: Option<Cookie>,
    pub(super) bucket: TokenBucket,
    pub(super) handshakes: TokenBucket,
    pub(super) outbox: Outbox,
    pub(super) last_heard: Option<Time>,
    /// Since when we have said nothing to what it said.
    pub(super) owing_since: Option<Time>,
    /// Since when it has said nothing to what we said.
    pub(super) unanswered_since: Option<Time>,
    pub(super) round_trip: Option<u64>,
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Peer {
    fn new(key: PublicKey, node: NodeId, home: Option<SocketAddr>, config: &Config, now: Time) -> Self {
        Self {
            key,
            node,
            home,
            address: home,
            newest: (Incarnation(0), 0),
            current: None,
            previous: None,
            next: None,
            pending: None,
            cookie: None,
            bucket: TokenBucket::new(config.peer_rate.0, config.peer_rate.1, now),
            handshakes: TokenBucket::new(HANDSHAKES.0, HANDSHAKES.1, now),
            outbox: Outbox::default(),
            last_heard: None,
            owing_since: None,
            unanswered_since: None,
            round_trip: None,
            sent: 0,
            received: 0,
        }
    }

    /// The session of this name.
    pub(super) fn session(&mut self, id: SessionId) -> Option<(&mut Live, Which)> {
        let named = |live: &&mut Live| live.session.local() == id;
        let found = [
            (self.current.as_mut(), Which::Current),
            (self.next.as_mut(), Which::Next),
            (self.previous.as_mut(), Which::Previous),
        ];
        found.into_iter().find_map(|(live, which)| Some((live.filter(named)?, which)))
    }

    fn session_ids(&self) -> impl Iterator<Item = SessionId> {
        let live = [&self.current, &self.previous, &self.next].into_iter().flatten().map(|live| live.session.local());
        live.chain(self.pending.iter().map(|pending| pending.initiation.local()))
    }
}

/// Which of a peer's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The one that we seal under.
    Current,
    /// The one that is not confirmed.
    Next,
    /// The one before.
    Previous,
}

/// All peers. A peer keeps its slot as long as it is trusted, whatever it is called; slots are not used again.
#[derive(Debug, Default)]
pub(super) struct Peers {
    slots: Vec<Option<Box<Peer>>>,
    keys: BTreeMap<PublicKey, u32>,
    nodes: BTreeMap<NodeId, u32>,
    sessions: BTreeMap<SessionId, u32>,
    addresses: BTreeMap<SocketAddr, u32>,
    last_session: u32,
}

impl Peers {
    pub(super) fn get(&self, slot: u32) -> Option<&Peer> {
        self.slots.get(slot as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Peer> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    pub(super) fn slots(&self) -> std::ops::Range<u32> {
        0..self.slots.len() as u32
    }

    pub(super) fn of_key(&self, key: &PublicKey) -> Option<u32> {
        self.keys.get(key).copied()
    }

    pub(super) fn of_node(&self, node: NodeId) -> Option<u32> {
        self.nodes.get(&node).copied()
    }

    pub(super) fn of_session(&self, id: SessionId) -> Option<u32> {
        self.sessions.get(&id).copied()
    }

    pub(super) fn of_address(&self, address: SocketAddr) -> Option<u32> {
        self.addresses.get(&address).copied()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.keys().copied()
    }

    /// A name for a new session of this peer.
    pub(super) fn name_session(&mut self, slot: u32) -> SessionId {
        loop {
            self.last_session = (self.last_session + 1) % SessionId::COUNT;
            let id = SessionId::new(self.last_session).expect("below the count");
            if let Entry::Vacant(free) = self.sessions.entry(id) {
                free.insert(slot);
                return id;
            }
        }
    }

    pub(super) fn forget_session(&mut self, id: SessionId) {
        self.sessions.remove(&id);
    }

    pub(super) fn settle(&mut self, slot: u32, address: SocketAddr) {
        let Some(peer) = self.get_mut(slot) else { return };
        let before = peer.address.replace(address);
        if let Some(before) = before.filter(|before| self.addresses.get(before) == Some(&slot)) {
            self.addresses.remove(&before);
        }
        self.addresses.insert(address, slot);
    }

    /// Makes the table what the owner says: who is not in it is a peer no more, who stays keeps its sessions.
    pub(super) fn replace(&mut self, table: &BTreeMap<PublicKey, Place>, config: &Config, now: Time) {
        let gone: Vec<PublicKey> = self.keys.keys().filter(|key| !table.contains_key(key)).copied().collect();
        for key in gone {
            self.remove(&key);
        }
        // Those with a place first, so that no temporary number stands in their way.
        let placed = table.iter().filter(|(_, place)| place.node.is_some());
        let unplaced = table.iter().filter(|(_, place)| place.node.is_none());
        self.nodes.retain(|node, _| is_temporary(*node));
        for (key, place) in placed.chain(unplaced) {
            self.place(*key, place, config, now);
        }
    }

    /// Whether this place can be given to this key.
    pub(super) fn admits(&self, key: &PublicKey, place: &Place, config: &Config) -> Result<(), TableError> {
        let known = self.of_key(key);
        if let Some(node) = place.node {
            if is_temporary(node) {
                return Err(TableError::Temporary(node));
            }
            if self.of_node(node).is_some_and(|slot| Some(slot) != known) {
                return Err(TableError::Twice(node));
            }
        }
        let full = known.is_none() && self.keys.len() >= usize::from(config.peers_max);
        if full { Err(TableError::Many(config.peers_max)) } else { Ok(()) }
    }

    /// Adds a peer, or says anew who and where it is.
    pub(super) fn place(&mut self, key: PublicKey, place: &Place, config: &Config, now: Time) {
        let known = self.of_key(&key);
        let node = place.node.unwrap_or_else(|| self.temporary(known));
        let slot = known.unwrap_or_else(|| {
            let slot = self.slots.len() as u32;
            self.slots.push(Some(Box::new(Peer::new(key, node, place.address, config, now))));
            self.keys.insert(key, slot);
            slot
        });
        let peer = self.get_mut(slot).expect("it was there or has just been added");
        let before = std::mem::replace(&mut peer.node, node);
        peer.home = place.address;
        // Where a peer was heard is where it is; where it should be is a guess.
        let address = if peer.current.is_some() { None } else { place.address };
        if self.nodes.get(&before) == Some(&slot) {
            self.nodes.remove(&before);
        }
        let other = self.nodes.insert(node, slot);
        assert!(other.is_none(), "two keys for {node}");
        if let Some(address) = address {
            self.settle(slot, address);
        }
    }

    /// The temporary number that a peer has, or the first that is free.
    fn temporary(&self, known: Option<u32>) -> NodeId {
        let has = known.and_then(|slot| self.get(slot)).map(|peer| peer.node).filter(|node| is_temporary(*node));
        has.unwrap_or_else(|| {
            let mut numbers = TEMPORARY_FIRST.0..NodeId::CLIENT.0;
            let free = numbers.find(|number| !self.nodes.contains_key(&NodeId(*number)));
            NodeId(free.expect("there are fewer peers than temporary numbers"))
        })
    }

    fn remove(&mut self, key: &PublicKey) {
        let Some(slot) = self.keys.remove(key) else { return };
        let peer = self.slots[slot as usize].take().expect("a key has a peer");
        self.nodes.remove(&peer.node);
        for id in peer.session_ids() {
            self.sessions.remove(&id);
        }
        self.addresses.retain(|_, of| *of != slot);
    }
}
