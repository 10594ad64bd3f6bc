//! Datagrams over UDP, through laminar: sealed, batched, and within limits.
//!
//! laminar 0.5 carries datagrams here and nothing else: its manager runs over a socket of ours (`socket.rs`), polled with the time that
//! the owner hands in, and sends `Packet::unreliable` of at most one datagram. Its fragments, acknowledgements, orders and
//! connections have defects (ARCHITECTURE.md lists them, with the test of each); none of them is used.
//!
//! ```text
//! LaminarDatagrams      what the engine sees: a payload to a node, a payload from a life of a node
//! laminar               five bytes before each payload
//! SecureBatchSocket     batches, limits per poll                          socket.rs, outbox.rs
//! Gate                  sessions, handshakes, synthetic addresses, limits  gate.rs, greet.rs, peers.rs
//! Udp                   the system's socket, or one in memory              udp.rs
//! ```
//!
//! A node is a peer because its public key is in the table ([`LaminarDatagrams::set_peers`]), which may change at any time. A key in
//! the table that has no place in a run yet gets a temporary number ([`TEMPORARY_FIRST`]); when it gets a place, its session stays.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    net::SocketAddr,
    time::Duration,
};

use laminar::{ConnectionManager, DatagramSocket, Packet, SocketEvent, VirtualConnection};

use super::Datagrams;
use crate::{
    metrics::Stopwatch,
    security::{
        frame::{DATAGRAM_MAX, OVERHEAD_BYTES},
        keys::{PublicKey, SecretKey},
    },
    wire::{Incarnation, NodeId, Time},
};

mod config;
mod counters;
mod gate;
mod greet;
mod notice;
mod outbox;
mod peers;
mod socket;
mod udp;

pub use config::{Config, LAMINAR_HEADER_BYTES};
pub use counters::{Counters, Drops};
pub use gate::{Gate, PeerStatus, Reply};
pub use notice::Notice;
pub use peers::{Place, TEMPORARY_FIRST, TableError};
pub use socket::SecureBatchSocket;
pub use udp::{KernelUdp, Slot, Udp};

/// Room for what laminar receives: the longest payload of any peer with laminar's header, and then some, because laminar cuts off
/// silently what does not fit [bytes].
const RECEIVE_BYTES: usize = DATAGRAM_MAX;
const _: () = assert!(RECEIVE_BYTES >= DATAGRAM_MAX - OVERHEAD_BYTES, "what can be opened fits");

/// How long laminar remembers a peer that says nothing. It costs some memory, and forgetting costs nothing.
const IDLE: Duration = Duration::from_secs(600);

/// See the head of this file.
pub struct LaminarDatagrams<U: Udp> {
    manager: ConnectionManager<SecureBatchSocket<U>, VirtualConnection>,
    /// What laminar takes for the moment zero.
    origin: Stopwatch,
    now: Time,
    payload_max: usize,
    queued: usize,
    received: VecDeque<(NodeId, Incarnation, Vec<u8>)>,
}

impl<U: Udp> fmt::Debug for LaminarDatagrams<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaminarDatagrams").field("now", &self.now).finish_non_exhaustive()
    }
}

/// How laminar is set up: nothing of it that has a timer or a memory is used.
#[must_use]
pub fn laminar_config(config: &Config) -> laminar::Config {
    laminar::Config {
        heartbeat_interval: None,
        idle_connection_timeout: IDLE,
        receive_buffer_max_size: RECEIVE_BYTES,
        max_unestablished_connections: config.peers_max,
        ..laminar::Config::default()
    }
}

impl<U: Udp> LaminarDatagrams<U> {
    /// A node with this key on this socket, with no peers yet.
    ///
    /// # Panics
    /// If the limits make no sense together.
    #[must_use]
    pub fn new(udp: U, secret: SecretKey, config: Config) -> Self {
        let payload_max = config.payload_max();
        let laminar = laminar_config(&config);
        assert!(laminar.receive_buffer_max_size >= payload_max + LAMINAR_HEADER_BYTES, "laminar would cut payloads");
        let socket = SecureBatchSocket::new(udp, Gate::new(secret, config));
        Self {
            manager: ConnectionManager::new(socket, laminar),
            origin: Stopwatch::start(),
            now: Time(0),
            payload_max,
            queued: 0,
            received: VecDeque::new(),
        }
    }

    /// Our public key.
    #[must_use]
    pub fn own_key(&self) -> PublicKey {
        self.gate().own_key()
    }

    /// Where we receive.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.manager.socket().local_addr()
    }

    /// The socket below.
    #[must_use]
    pub fn udp(&self) -> &U {
        self.manager.socket().udp()
    }

    /// What decides who may pass.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        self.manager.socket().gate()
    }

    /// The same, to change what it decides by.
    pub fn gate_mut(&mut self) -> &mut Gate {
        self.manager.socket_mut().gate_mut()
    }

    /// Says who may speak with us, and who is which node. Whoever is not in the table is a peer no more; whoever stays keeps its
    /// session, even under another name. Peers with an address are greeted at the next poll, the others are waited for.
    ///
    /// # Errors
    /// If two keys have one place; then nothing has changed.
    pub fn set_peers(&mut self, table: &BTreeMap<PublicKey, Place>) -> Result<(), TableError> {
        let now = self.now;
        self.gate_mut().set_peers(table, now)
    }

    /// Adds one peer to the table and greets it at the next poll.
    ///
    /// # Errors
    /// If another key has that place; then nothing has changed.
    pub fn connect(&mut self, peer: NodeId, key: PublicKey, address: SocketAddr) -> Result<(), TableError> {
        let now = self.now;
        self.gate_mut().set_peer(key, &Place { node: Some(peer), address: Some(address) }, now)
    }

    /// What is known of a peer.
    #[must_use]
    pub fn status(&self, peer: NodeId) -> Option<PeerStatus> {
        self.gate().status(peer)
    }

    /// The next thing that the owner should hear of: who came, who was refused and why.
    pub fn notice(&mut self) -> Option<Notice> {
        self.gate_mut().notice()
    }

    /// What has passed and what has not.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        self.gate().counters()
    }

    /// Sleeps until something has come, or for so long: for those who have nothing else to do.
    ///
    /// # Errors
    /// If the system cannot wait.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        self.manager.socket().wait(timeout)
    }

    /// Takes payloads out of laminar's queue. Its other events mean nothing here: a peer is there if it has a session.
    fn drain(&mut self) {
        let most = self.gate().config().receive_queue;
        let mut full = 0;
        for event in self.manager.event_receiver().try_iter() {
            let SocketEvent::Packet(packet) = event else { continue };
            let Some((node, incarnation)) = self.manager.socket().gate().who(packet.addr()) else { continue };
            if self.received.len() < most {
                self.received.push_back((node, incarnation, packet.payload().to_vec()));
            } else {
                full += 1;
            }
        }
        self.gate_mut().counters_mut().drops.receive_queue_full += full;
    }
}

impl<U: Udp> Datagrams for LaminarDatagrams<U> {
    fn payload_max(&self) -> usize {
        self.payload_max
    }

    fn send(&mut self, to: NodeId, payload: &[u8]) {
        assert!(payload.len() <= self.payload_max, "{} bytes, at most {} fit", payload.len(), self.payload_max);
        let most = self.gate().config().send_queue;
        let address = self.gate().address_of(to);
        let drops = &mut self.manager.socket_mut().gate_mut().counters_mut().drops;
        let Some(address) = address else {
            drops.not_connected += 1;
            return;
        };
        if self.queued >= most {
            drops.send_queue_full += 1;
            return;
        }
        self.queued += 1;
        let packet = Packet::unreliable(address, payload.to_vec());
        self.manager.event_sender().send(packet).expect("the manager holds the other end");
    }

    fn poll(&mut self, now: Time) {
        self.now = self.now.max(now);
        self.manager.socket_mut().begin_poll(self.now);
        self.manager.manual_poll(self.origin.moment(Duration::from_nanos(self.now.0)));
        self.queued = 0;
        self.manager.socket_mut().end_poll();
        self.drain();
    }

    fn receive(&mut self) -> Option<(NodeId, Incarnation, Vec<u8>)> {
        self.received.pop_front()
    }
}
