//! Blocks between members of one process: queues under a lock, nothing copied, nothing lost.
//!
//! It keeps the promises of a [`Transport`] with as few means as possible; members may live on threads of their own. A block is
//! delivered when its receiver takes it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use super::{Capabilities, Event, Path, PostError, Tag, Transport};
use crate::wire::{Epoch, Incarnation, NodeId, Time};

/// Largest block [bytes].
pub const BLOCK_BYTES_MAX: usize = 256 << 20;
/// What may wait between two members, overheads included [bytes].
pub const WAITING_BYTES_MAX: usize = 320 << 20;
/// What a block counts beyond its bytes [bytes].
pub const BLOCK_OVERHEAD: usize = 256;

const _: () = assert!(BLOCK_BYTES_MAX + BLOCK_OVERHEAD <= WAITING_BYTES_MAX, "the largest block fits an empty queue");

/// A block that waits.
#[derive(Debug)]
struct Parcel {
    from: NodeId,
    tag: Tag,
    bytes: Vec<u8>,
}

/// What lies ready for one member.
#[derive(Debug, Default)]
struct Mailbox {
    parcels: VecDeque<Parcel>,
    /// Blocks of this member that were taken: by whom, and which.
    delivered: VecDeque<(NodeId, Tag)>,
    /// What of this member waits for each peer, or was delivered without its having asked [bytes].
    waiting: BTreeMap<NodeId, usize>,
    oldest: Epoch,
}

type Mailboxes = BTreeMap<NodeId, Mailbox>;

/// One member of a hub.
#[derive(Debug)]
pub struct Loopback {
    node: NodeId,
    mailboxes: Arc<Mutex<Mailboxes>>,
}

/// One member for each of these nodes, in their order; each is a peer of all.
///
/// # Panics
/// If a node is named twice.
#[must_use]
pub fn hub(nodes: &[NodeId]) -> Vec<Loopback> {
    let mailboxes: Mailboxes = nodes.iter().map(|&node| (node, Mailbox::default())).collect();
    assert_eq!(mailboxes.len(), nodes.len(), "a node is one member");
    let mailboxes = Arc::new(Mutex::new(mailboxes));
    nodes.iter().map(|&node| Loopback { node, mailboxes: Arc::clone(&mailboxes) }).collect()
}

fn cost(bytes: &[u8]) -> usize {
    bytes.len() + BLOCK_OVERHEAD
}

/// Takes back what waits from one member for another, where `dropped` says so.
fn withdraw(mailboxes: &mut Mailboxes, from: NodeId, to: NodeId, dropped: impl Fn(Tag) -> bool) {
    let mut freed = 0;
    if let Some(mailbox) = mailboxes.get_mut(&to) {
        mailbox.parcels.retain(|parcel| {
            let kept = parcel.from != from || !dropped(parcel.tag);
            freed += if kept { 0 } else { cost(&parcel.bytes) };
            kept
        });
    }
    if let Some(waiting) = mailboxes.get_mut(&from).and_then(|mailbox| mailbox.waiting.get_mut(&to)) {
        *waiting -= freed;
    }
}

impl Mailbox {
    /// Forgets notices of delivery to one peer, where `dropped` says so.
    fn forget_delivered(&mut self, peer: NodeId, dropped: impl Fn(Tag) -> bool) {
        let before = self.delivered.len();
        self.delivered.retain(|&(by, tag)| by != peer || !dropped(tag));
        let freed = (before - self.delivered.len()) * BLOCK_OVERHEAD;
        if let Some(waiting) = self.waiting.get_mut(&peer) {
            *waiting -= freed;
        }
    }
}

impl Loopback {
    fn lock(&self) -> MutexGuard<'_, Mailboxes> {
        // A member that panicked did so outside: nothing here is left half done.
        self.mailboxes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Transport for Loopback {
    fn capabilities(&self) -> Capabilities {
        Capabilities { crosses_a_network: false, block_max: BLOCK_BYTES_MAX }
    }

    fn post(&mut self, to: NodeId, tag: Tag, bytes: Vec<u8>) -> Result<(), PostError> {
        let from = self.node;
        let mut mailboxes = self.lock();
        if !mailboxes.contains_key(&to) {
            return Err(PostError::Unknown(to));
        }
        if bytes.len() > BLOCK_BYTES_MAX {
            return Err(PostError::Oversize { bytes: bytes.len(), most: BLOCK_BYTES_MAX });
        }
        // What the receiver has cancelled arrives nowhere and takes no room.
        if tag.epoch < mailboxes[&to].oldest {
            return Ok(());
        }
        let own = mailboxes.get_mut(&from).expect("a member has a mailbox");
        let waiting = own.waiting.entry(to).or_default();
        if *waiting + cost(&bytes) > WAITING_BYTES_MAX {
            return Err(PostError::Full { to, waiting: *waiting, most: WAITING_BYTES_MAX });
        }
        *waiting += cost(&bytes);
        mailboxes.get_mut(&to).expect("it was just looked at").parcels.push_back(Parcel { from, tag, bytes });
        Ok(())
    }

    fn is_full(&self, to: NodeId, bytes: usize) -> bool {
        let mailboxes = self.lock();
        let waiting = mailboxes[&self.node].waiting.get(&to).copied().unwrap_or(0);
        bytes <= BLOCK_BYTES_MAX && waiting + bytes + BLOCK_OVERHEAD > WAITING_BYTES_MAX
    }

    fn path(&self, _: NodeId) -> Option<Path> {
        None
    }

    fn poll(&mut self, _: Time) -> Option<Event> {
        let node = self.node;
        let mut mailboxes = self.lock();
        let own = mailboxes.get_mut(&node).expect("a member has a mailbox");
        if let Some((to, tag)) = own.delivered.pop_front() {
            *own.waiting.get_mut(&to).expect("it was posted") -= BLOCK_OVERHEAD;
            return Some(Event::Delivered { to, tag });
        }
        let Parcel { from, tag, bytes } = own.parcels.pop_front()?;
        let sender = mailboxes.get_mut(&from).expect("a member has a mailbox");
        sender.delivered.push_back((node, tag));
        *sender.waiting.get_mut(&node).expect("it was posted") -= bytes.len();
        Some(Event::Received { from, incarnation: Incarnation(0), tag, bytes })
    }

    fn parts_received(&self) -> u64 {
        0
    }

    fn cancel_before(&mut self, epoch: Epoch) {
        let node = self.node;
        let mut mailboxes = self.lock();
        let own = mailboxes.get_mut(&node).expect("a member has a mailbox");
        own.oldest = own.oldest.max(epoch);
        let peers: Vec<NodeId> = mailboxes.keys().copied().collect();
        for peer in peers {
            withdraw(&mut mailboxes, node, peer, |tag| tag.epoch < epoch);
            withdraw(&mut mailboxes, peer, node, |tag| tag.epoch < epoch);
            let own = mailboxes.get_mut(&node).expect("a member has a mailbox");
            own.forget_delivered(peer, |tag| tag.epoch < epoch);
        }
    }

    fn give_up(&mut self, peer: NodeId) {
        let node = self.node;
        let mut mailboxes = self.lock();
        withdraw(&mut mailboxes, node, peer, |_| true);
        withdraw(&mut mailboxes, peer, node, |_| true);
        mailboxes.get_mut(&node).expect("a member has a mailbox").forget_delivered(peer, |_| true);
    }
}
