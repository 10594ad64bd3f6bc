//! Blocks over any datagrams: the bulk machine, driven.

use super::{
    Capabilities, Datagrams, Event, Path, PostError, Tag, Transport,
    bulk::{Bulk, limits::Limits},
};
use crate::wire::{Epoch, Incarnation, NodeId, Time};

/// Datagrams that are taken in before something is sent again: what waits in the network must not keep our own words back.
const RECEIVE_DATAGRAMS_MAX: usize = 4096;

/// A [`Transport`] over [`Datagrams`].
#[derive(Debug)]
pub struct Network<D> {
    datagrams: D,
    bulk: Bulk,
    /// When datagrams were last moved.
    moved_at: Option<Time>,
}

impl<D: Datagrams> Network<D> {
    /// This node, in this life of it, and its peers.
    ///
    /// # Panics
    /// If the limits contradict each other, if there are more peers than they allow, or if the datagrams are too short.
    #[must_use]
    pub fn new(datagrams: D, (node, incarnation): (NodeId, Incarnation), peers: &[NodeId], limits: Limits) -> Self {
        let mut bulk = Bulk::new(node, incarnation, datagrams.payload_max(), limits);
        for &peer in peers {
            assert!(bulk.add_peer(peer), "{} peers: at most {} may be", peers.len(), limits.peers_max);
        }
        Self { datagrams, bulk, moved_at: None }
    }

    /// The machine, for its figures.
    pub fn bulk(&self) -> &Bulk {
        &self.bulk
    }

    /// What carries the datagrams.
    pub fn datagrams_mut(&mut self) -> &mut D {
        &mut self.datagrams
    }

    /// Makes a node a peer; false if there are as many as there may be.
    pub fn add_peer(&mut self, peer: NodeId) -> bool {
        self.bulk.add_peer(peer)
    }

    /// When [`Transport::poll`] has something to do, if no datagram comes before; a moment that has passed means now. What the datagrams
    /// themselves wait for is not included.
    pub fn next_wakeup(&mut self) -> Option<Time> {
        if self.bulk.has_event() { Some(Time(0)) } else { self.bulk.next_wakeup() }
    }

    /// Takes in what has come and sends what is due.
    fn move_datagrams(&mut self, now: Time) {
        self.moved_at = Some(now);
        self.datagrams.poll(now);
        for _ in 0..RECEIVE_DATAGRAMS_MAX {
            let Some((from, incarnation, payload)) = self.datagrams.receive() else { break };
            self.bulk.receive(now, from, incarnation, &payload);
        }
        let mut sent = false;
        let datagrams = &mut self.datagrams;
        self.bulk.transmit(now, &mut |to, payload| {
            sent = true;
            datagrams.send(to, payload);
        });
        if sent {
            self.datagrams.poll(now);
        }
    }
}

impl<D: Datagrams> Transport for Network<D> {
    fn capabilities(&self) -> Capabilities {
        Capabilities { crosses_a_network: true, block_max: self.bulk.limits().block_bytes_max as usize }
    }

    fn post(&mut self, to: NodeId, tag: Tag, bytes: Vec<u8>) -> Result<(), PostError> {
        self.bulk.post(to, tag, bytes)
    }

    fn is_full(&self, to: NodeId, bytes: usize) -> bool {
        self.bulk.is_full(to, bytes)
    }

    fn path(&self, to: NodeId) -> Option<Path> {
        self.bulk.path(to)
    }

    fn poll(&mut self, now: Time) -> Option<Event> {
        // An owner who asks until there is no more pays for the network twice, at the start and at the end, not for every event.
        if self.moved_at != Some(now) || !self.bulk.has_event() {
            self.move_datagrams(now);
        }
        self.bulk.event()
    }

    fn parts_received(&self) -> u64 {
        self.bulk.parts_received()
    }

    fn cancel_before(&mut self, epoch: Epoch) {
        self.bulk.cancel_before(epoch);
    }

    fn give_up(&mut self, peer: NodeId) {
        self.bulk.give_up(peer);
    }
}
