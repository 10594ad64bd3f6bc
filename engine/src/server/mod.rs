//! Nodes as programs: a server that waits for runs ([`serve`]), and the client that starts one on many of them ([`launch`]).
//!
//! A run is opened over the servers' usual address: who takes part, the particles, the scenario. Then everybody leaves the table of the
//! waiting and speaks as a member of the run, from the same address in a new life of its own; what belongs to the time before, or to
//! another run, is not heard any more. When the run is over the server waits for the next one.

pub mod journal;
pub mod launch;
mod logbook;
pub mod message;
pub mod serve;

use std::{collections::BTreeMap, io, net::SocketAddr, time::Duration};

use crate::{
    metrics::Stopwatch,
    security::{
        handshake::Hello,
        keys::{PublicKey, SecretKey, random_seed},
    },
    transport::{
        Event, Tag, Transport,
        bulk::limits::Limits,
        laminar::{Config, KernelUdp, LaminarDatagrams, Notice, Place},
        network::Network,
    },
    wire::{Epoch, Incarnation, NodeId, Time, encode},
};

/// What the engine speaks over a network.
pub type Stack = Network<LaminarDatagrams<KernelUdp>>;

/// Buffers of sockets [bytes].
const SOCKET_BYTES: usize = 4 << 20;
/// Who has nothing to do looks around at least this often.
pub const PATIENCE: Duration = Duration::from_millis(10);

/// What this program calls itself: nodes of one run must be of one version, because they must give the same bits.
pub const PROGRAM: &str = concat!("emmy ", env!("CARGO_PKG_VERSION"));

/// A stack, and the clock that it is polled with.
#[derive(Debug)]
pub struct Line {
    /// Carries blocks.
    pub stack: Stack,
    watch: Stopwatch,
    messages: u64,
}

/// Microseconds since 1970: a later start of a node is a later life of it.
#[must_use]
pub fn new_life() -> Incarnation {
    Incarnation(jiff::Timestamp::now().as_microsecond().unsigned_abs())
}

impl Line {
    /// Opens a socket and speaks from it as this node, in this life, with these peers.
    ///
    /// # Errors
    /// If the address is taken or the table of peers contradicts itself.
    pub fn open(
        address: SocketAddr,
        secret: &SecretKey,
        (node, life): (Option<NodeId>, Incarnation),
        table: &BTreeMap<PublicKey, Place>,
    ) -> io::Result<Self> {
        let udp = KernelUdp::bind(address, SOCKET_BYTES)?;
        if let Some(warning) = udp.warning() {
            tracing::info!("{warning}");
        }
        let hello = Hello {
            program: PROGRAM.to_owned(),
            incarnation: life,
            node,
            unix_seconds: jiff::Timestamp::now().as_second().unsigned_abs(),
            application: Vec::new(),
        };
        let seed = random_seed().map_err(io::Error::other)?;
        let mut datagrams = LaminarDatagrams::new(udp, secret.clone(), Config::new(hello, seed));
        datagrams.set_peers(table).map_err(io::Error::other)?;
        let peers: Vec<NodeId> = datagrams.gate().nodes().collect();
        // A node that has no place in a run yet needs a number that is nobody's.
        let me = (node.unwrap_or(NodeId(u16::MAX - 1)), life);
        let stack = Network::new(datagrams, me, &peers, Limits::default());
        Ok(Self { stack, watch: Stopwatch::start(), messages: 0 })
    }

    /// Where it speaks from.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&mut self) -> io::Result<SocketAddr> {
        self.stack.datagrams_mut().local_address()
    }

    /// Now, on its clock.
    #[must_use]
    pub fn now(&self) -> Time {
        Time(self.watch.elapsed().as_nanos() as u64)
    }

    /// The key of a peer, and where it is.
    pub fn peer(&mut self, peer: NodeId) -> Option<(PublicKey, Option<SocketAddr>)> {
        self.stack.datagrams_mut().status(peer).map(|status| (status.key, status.address))
    }

    /// Sends a message.
    pub fn send(&mut self, to: NodeId, kind: message::Kind, value: &impl serde::Serialize) {
        self.send_bytes(to, kind, encode(value));
    }

    /// Sends a message.
    pub fn send_bytes(&mut self, to: NodeId, kind: message::Kind, bytes: Vec<u8>) {
        self.messages += 1;
        let tag = Tag { epoch: Epoch(u32::MAX), step: self.messages, kind: kind as u16, part: 0 };
        if let Err(error) = self.stack.post(to, tag, bytes) {
            tracing::warn!("{error}");
        }
    }

    /// What came; sleeps a little if nothing did.
    pub fn listen(&mut self) -> Vec<Event> {
        let now = self.now();
        let events: Vec<Event> = std::iter::from_fn(|| self.stack.poll(now)).collect();
        tell_notices(&mut self.stack);
        if events.is_empty() {
            sleep(&mut self.stack, now, PATIENCE);
        }
        events
    }
}

/// Tells what the sockets have to say.
pub fn tell_notices(stack: &mut Stack) {
    while let Some(notice) = stack.datagrams_mut().notice() {
        match &notice {
            Notice::Connected { .. } | Notice::Moved { .. } => tracing::info!("{notice}"),
            _ => tracing::warn!("{notice}"),
        }
    }
}

/// Sleeps until something comes or is due, or for so long.
pub fn sleep(stack: &mut Stack, now: Time, most: Duration) {
    let due = stack.next_wakeup().map_or(most, |at| Duration::from_nanos(at.since(now)));
    if let Err(error) = stack.datagrams_mut().wait(due.min(most)) {
        tracing::debug!("the socket cannot be waited for: {error}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
