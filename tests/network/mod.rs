//! A wire in memory beneath the whole stack, with every fault that a real one has, and nodes on it.
//!
//! One seed decides every fault, the time is handed in: a run repeats itself to the bit, but for the keys of handshakes.
#![allow(dead_code, unreachable_pub, reason = "a module of several test files, each of which uses some of it")]

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use emmy::{
    security::{
        handshake::Hello,
        keys::{PublicKey, SecretKey},
    },
    transport::{
        Datagrams,
        laminar::{Config, Drops, LaminarDatagrams, Notice, Place, Slot, Udp},
    },
    wire::{Incarnation, NodeId, Time},
};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// Whether something of this many percent happens.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let word = self.draw().to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
    }
}

/// What goes wrong, in percent of datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub lost: u64,
    pub doubled: u64,
    pub overtaken: u64,
    pub flipped: u64,
    pub cut: u64,
}

pub type Datagram = (SocketAddr, Vec<u8>);

/// Datagrams under way, by destination, and a copy of everything that was sent.
#[derive(Debug)]
pub struct Net {
    pub queues: BTreeMap<SocketAddr, VecDeque<Datagram>>,
    pub faults: Faults,
    pub random: Random,
    /// From, to, bytes; kept only while somebody listens.
    pub tap: Option<Vec<(SocketAddr, SocketAddr, Vec<u8>)>>,
    /// Nothing from the first arrives at the second.
    pub cut: Vec<(SocketAddr, SocketAddr)>,
    /// Whose sends the system refuses, or has no room for.
    pub refusing: Vec<SocketAddr>,
    pub blocking: Vec<SocketAddr>,
}

impl Net {
    pub fn put(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if let Some(tap) = &mut self.tap {
            tap.push((from, to, bytes.to_vec()));
        }
        let Faults { lost, doubled, overtaken, flipped, cut } = self.faults;
        if self.cut.contains(&(from, to)) || self.random.percent(lost) {
            return;
        }
        for _ in 0..=u64::from(self.random.percent(doubled)) {
            let mut bytes = bytes.to_vec();
            if self.random.percent(flipped) {
                let bit = self.random.below(8 * bytes.len() as u64) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            if self.random.percent(cut) {
                bytes.truncate(self.random.below(bytes.len() as u64) as usize);
            }
            let queue = self.queues.entry(to).or_default();
            let place = if self.random.percent(overtaken) {
                self.random.below(queue.len() as u64 + 1) as usize
            } else {
                queue.len()
            };
            queue.insert(place, (from, bytes));
        }
    }
}

#[derive(Clone, Debug)]
pub struct Network(pub Rc<RefCell<Net>>);

impl Network {
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(Net {
            queues: BTreeMap::new(),
            faults: Faults::default(),
            random: Random(seed),
            tap: None,
            cut: Vec::new(),
            refusing: Vec::new(),
            blocking: Vec::new(),
        })))
    }

    pub fn with<T>(&self, act: impl FnOnce(&mut Net) -> T) -> T {
        act(&mut self.0.borrow_mut())
    }

    pub fn put(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.with(|net| net.put(from, to, bytes));
    }

    /// Takes away what is on its way to an address.
    pub fn intercept(&self, to: SocketAddr) -> Vec<Datagram> {
        self.with(|net| net.queues.remove(&to).unwrap_or_default().into())
    }

    pub fn listen(&self) {
        self.with(|net| net.tap = Some(Vec::new()));
    }

    /// What was sent since.
    pub fn heard(&self) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        self.with(|net| net.tap.take().unwrap_or_default())
    }

    pub fn udp(&self, me: SocketAddr) -> MemoryUdp {
        MemoryUdp { net: self.clone(), me, sends: 0 }
    }
}

/// One end of the wire.
#[derive(Debug)]
pub struct MemoryUdp {
    net: Network,
    pub me: SocketAddr,
    pub sends: u64,
}

impl Udp for MemoryUdp {
    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.me)
    }

    fn segments_max(&self) -> usize {
        64
    }

    fn send(&mut self, to: SocketAddr, bytes: &[u8], segment: usize) -> io::Result<()> {
        assert!(bytes.len() <= 65_507 && bytes.len().div_ceil(segment) <= 64, "the system would not take this");
        self.sends += 1;
        self.net.with(|net| {
            if net.refusing.contains(&self.me) {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            if net.blocking.contains(&self.me) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            bytes.chunks(segment).for_each(|datagram| net.put(self.me, to, datagram));
            Ok(())
        })
    }

    fn receive(&mut self, slots: &mut [Slot]) -> io::Result<usize> {
        self.net.with(|net| {
            let queue = net.queues.entry(self.me).or_default();
            let mut filled = 0;
            while filled < slots.len() {
                let Some((from, bytes)) = queue.pop_front() else { break };
                let slot = &mut slots[filled];
                slot.bytes[..bytes.len()].copy_from_slice(&bytes);
                (slot.length, slot.stride, slot.from) = (bytes.len(), bytes.len(), from);
                filled += 1;
            }
            if filled == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(filled) }
        })
    }

    fn wait(&self, _timeout: Duration) -> io::Result<()> {
        Ok(())
    }
}

pub fn address(host: u16) -> SocketAddr {
    format!("192.0.2.{}:{}", host % 250 + 1, 7000 + host / 250).parse().expect("a literal address")
}

pub fn secret(host: u16) -> SecretKey {
    let mut bytes = [7; 32];
    // Not the first byte: the curve ignores three bits of it.
    bytes[8..10].copy_from_slice(&host.to_le_bytes());
    SecretKey::from_bytes(bytes)
}

pub fn key(host: u16) -> PublicKey {
    secret(host).public()
}

pub fn config(incarnation: u64) -> Config {
    let hello = Hello { program: "emmy test".to_owned(), incarnation: Incarnation(incarnation), ..Hello::default() };
    Config::new(hello, [3; 32])
}

pub type Stack = LaminarDatagrams<MemoryUdp>;

/// A node of that number, with that key and address, in a first or later life.
pub fn stack(network: &Network, host: u16, config: Config) -> Stack {
    LaminarDatagrams::new(network.udp(address(host)), secret(host), config)
}

/// Everyone in the table, nobody at a known address.
pub fn table(hosts: &[u16]) -> BTreeMap<PublicKey, Place> {
    hosts.iter().map(|&host| (key(host), Place { node: Some(NodeId(host)), address: None })).collect()
}

/// Two nodes, 1 and 2; the first looks for the second.
pub struct Pair {
    pub network: Network,
    pub a: Stack,
    pub b: Stack,
    pub now: Time,
}

pub const A: NodeId = NodeId(1);
pub const B: NodeId = NodeId(2);

impl Pair {
    pub fn new() -> Self {
        Self::with(config(10), config(10))
    }

    pub fn with(config_a: Config, config_b: Config) -> Self {
        let network = Network::new(1);
        let mut a = stack(&network, 1, config_a);
        let mut b = stack(&network, 2, config_b);
        a.connect(B, key(2), address(2)).expect("a free place");
        b.set_peers(&table(&[1])).expect("one place each");
        Self { network, a, b, now: Time(0) }
    }

    /// A pair with a session that both have used.
    pub fn connected() -> Self {
        let mut pair = Self::new();
        pair.polls(6);
        assert!(pair.are_connected(), "{:?} {:?}", pair.a.counters(), pair.b.counters());
        pair
    }

    pub fn are_connected(&self) -> bool {
        let connected = |stack: &Stack, peer| stack.status(peer).is_some_and(|status| status.connected);
        connected(&self.a, B) && connected(&self.b, A)
    }

    pub fn poll(&mut self) {
        self.after(MS);
    }

    pub fn polls(&mut self, count: usize) {
        (0..count).for_each(|_| self.poll());
    }

    pub fn after(&mut self, nanoseconds: u64) {
        self.now = self.now.plus(nanoseconds);
        self.a.poll(self.now);
        self.b.poll(self.now);
    }

    /// The second node dies and is started anew.
    pub fn restart_b(&mut self, incarnation: u64) {
        self.b = stack(&self.network, 2, config(incarnation));
        self.b.set_peers(&table(&[1])).expect("one place each");
        self.network.intercept(address(2));
    }
}

/// Payloads that came.
pub fn payloads<U: Udp>(stack: &mut LaminarDatagrams<U>) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| stack.receive()).map(|(_, _, payload)| payload).collect()
}

pub fn notices(stack: &mut Stack) -> Vec<Notice> {
    std::iter::from_fn(|| stack.notice()).collect()
}

/// All drops together.
pub fn dropped(drops: &Drops) -> u64 {
    let value = serde_json::to_value(drops).expect("numbers");
    value.as_object().expect("a struct").values().filter_map(serde_json::Value::as_u64).sum()
}
