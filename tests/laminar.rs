//! The seventeen defects of laminar 0.5.0, by their numbers in ARCHITECTURE.md: each is still there, and none of them reaches us.
//!
//! `still_…` drives laminar's manager directly, over a wire in memory: such a test fails when an update mends (or changes) a defect,
//! and then the rule that stands on it can be looked at again. All other tests drive the whole stack over the same kind of wire.

mod network;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::Duration,
};

use emmy::{
    metrics::Stopwatch,
    security::frame::DATAGRAM_MAX,
    transport::{
        Datagrams,
        laminar::{Config, KernelUdp, LAMINAR_HEADER_BYTES, LaminarDatagrams, Place, laminar_config},
    },
    wire::{Incarnation, NodeId, Time},
};
use laminar::{ConnectionManager, DatagramSocket, Packet, SocketEvent, VirtualConnection};
use network::{A, B, Faults, MS, Network, Pair, SECOND, Stack, address, config, key, payloads, secret, stack, table};

// -------------------------------------------------------------------------------------- laminar itself, as it is

/// Datagrams under way to each address, each with its sender.
type Queues = Rc<RefCell<BTreeMap<SocketAddr, VecDeque<(SocketAddr, Vec<u8>)>>>>;

/// laminar over bare memory: nothing of ours between.
#[derive(Debug)]
struct BareSocket {
    queues: Queues,
    me: SocketAddr,
    reverse: bool,
    refuse: bool,
    drop_next: usize,
    sent_to: Vec<SocketAddr>,
    received_before_first_send: usize,
}

impl DatagramSocket for BareSocket {
    fn send_packet(&mut self, to: &SocketAddr, bytes: &[u8]) -> io::Result<usize> {
        if self.refuse {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.sent_to.push(*to);
        if self.drop_next > 0 {
            self.drop_next -= 1;
            return Ok(bytes.len());
        }
        let mut queues = self.queues.borrow_mut();
        let queue = queues.entry(*to).or_default();
        let datagram = (self.me, bytes.to_vec());
        if self.reverse {
            queue.push_front(datagram)
        } else {
            queue.push_back(datagram)
        }
        Ok(bytes.len())
    }

    fn receive_packet<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<(&'b [u8], SocketAddr)> {
        let mut queues = self.queues.borrow_mut();
        let (from, bytes) = queues.entry(self.me).or_default().pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        self.received_before_first_send += usize::from(self.sent_to.is_empty());
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        Ok((&buffer[..length], from))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.me)
    }

    fn is_blocking_mode(&self) -> bool {
        false
    }
}

type BareManager = ConnectionManager<BareSocket, VirtualConnection>;

/// Two of laminar's managers and a clock.
struct Bare {
    queues: Queues,
    origin: Stopwatch,
    now: Duration,
    config: laminar::Config,
    a: BareManager,
    b: BareManager,
}

fn bare_manager(queues: &Queues, host: u16, config: &laminar::Config) -> BareManager {
    let socket = BareSocket {
        queues: queues.clone(),
        me: address(host),
        reverse: false,
        refuse: false,
        drop_next: 0,
        sent_to: Vec::new(),
        received_before_first_send: 0,
    };
    ConnectionManager::new(socket, config.clone())
}

fn with_heartbeats() -> laminar::Config {
    laminar::Config { heartbeat_interval: Some(Duration::from_millis(100)), ..laminar::Config::default() }
}

impl Bare {
    /// Two that have heard from each other.
    fn new(config: laminar::Config) -> Self {
        let queues = Queues::default();
        let (a, b) = (bare_manager(&queues, 1, &config), bare_manager(&queues, 2, &config));
        let mut pair = Self { queues, origin: Stopwatch::start(), now: Duration::ZERO, config, a, b };
        pair.to_b(Packet::unreliable(address(2), vec![0]));
        pair.to_a(Packet::unreliable(address(1), vec![0]));
        (0..3).for_each(|_| pair.poll());
        for manager in [&mut pair.a, &mut pair.b] {
            bare_events(manager);
            manager.socket_mut().sent_to.clear();
        }
        pair
    }

    fn to_b(&self, packet: Packet) {
        self.a.event_sender().send(packet).expect("the queue is unbounded");
    }

    fn to_a(&self, packet: Packet) {
        self.b.event_sender().send(packet).expect("the queue is unbounded");
    }

    fn poll(&mut self) {
        self.now += Duration::from_millis(1);
        self.poll_a();
        self.poll_b();
    }

    fn poll_a(&mut self) {
        self.a.manual_poll(self.origin.moment(self.now));
    }

    fn poll_b(&mut self) {
        self.b.manual_poll(self.origin.moment(self.now));
    }
}

fn bare_events(manager: &BareManager) -> Vec<SocketEvent> {
    manager.event_receiver().try_iter().collect()
}

fn bare_payloads(manager: &BareManager) -> Vec<Vec<u8>> {
    let payload = |event| match event {
        SocketEvent::Packet(packet) => Some(packet.payload().to_vec()),
        _ => None,
    };
    manager.event_receiver().try_iter().filter_map(payload).collect()
}

fn unordered(payload: Vec<u8>) -> Packet {
    Packet::reliable_unordered(address(2), payload)
}

/// What comes of one message of so many bytes: how many arrive.
fn bare_arrival(config: laminar::Config, packet: fn(Vec<u8>) -> Packet, length: usize) -> Option<usize> {
    let mut pair = Bare::new(config);
    pair.to_b(packet(vec![7; length]));
    pair.poll();
    bare_payloads(&pair.b).first().map(Vec::len)
}

// ------------------------------------------------------------------- 1, 2, 3, 7: fragments, which we never make

#[test]
fn still_1_fragments_are_joined_in_the_order_of_arrival() {
    let mut pair = Bare::new(with_heartbeats());
    let sent: Vec<u8> = (0..4000).map(|i| (i / 1024) as u8).collect();
    pair.a.socket_mut().reverse = true;

    pair.to_b(unordered(sent.clone()));
    pair.poll();

    let got = bare_payloads(&pair.b).concat();
    assert_eq!(got.len(), 4000);
    assert_ne!(got, sent, "mended?");
}

#[test]
fn still_2_a_length_is_cut_to_16_bits_or_panics() {
    let config = || laminar::Config { max_fragments: 255, receive_buffer_max_size: 1 << 20, ..with_heartbeats() };

    assert_eq!(bare_arrival(config(), unordered, 70_000), Some(4_464));
    let panics = catch_unwind(AssertUnwindSafe(|| bare_arrival(config(), unordered, 65_535)));
    assert!(panics.is_err(), "mended?");
}

#[test]
fn still_3_no_more_than_sixteen_fragments_arrive() {
    let config = || laminar::Config { max_fragments: 255, ..with_heartbeats() };

    assert_eq!(bare_arrival(config(), unordered, 16_384), Some(16_384));
    assert_eq!(bare_arrival(config(), unordered, 16_385), None);
}

#[test]
fn still_7_fragmented_ordered_messages_have_no_order() {
    let mut pair = Bare::new(with_heartbeats());
    for k in 0..3 {
        pair.to_b(Packet::reliable_ordered(address(2), vec![k; 2000], None));
    }
    pair.poll_a();
    pair.queues.borrow_mut().get_mut(&address(2)).expect("six datagrams").rotate_left(2);

    pair.poll_b();

    let order: Vec<u8> = bare_payloads(&pair.b).iter().map(|payload| payload[0]).collect();
    assert_eq!(order, [1, 2, 0]);
}

#[test]
fn defects_1_2_3_7_a_payload_above_one_datagram_is_refused_before_laminar_sees_it() {
    let mut pair = Pair::connected();
    let most = pair.a.payload_max();
    assert_eq!(most, 1200 - 28 - 5);

    for length in [most + 1, 16_385, 65_535, 70_000] {
        let refused = catch_unwind(AssertUnwindSafe(|| pair.a.send(B, &vec![0; length])));
        assert!(refused.is_err(), "{length} bytes");
    }
    pair.a.send(B, &vec![1; most]);
    pair.polls(2);

    assert_eq!(payloads(&mut pair.b), [vec![1; most]]);
}

#[test]
fn defects_1_2_3_7_what_we_send_is_one_datagram_each_and_none_is_longer_than_it_may_be() {
    for bytes in [1200, DATAGRAM_MAX] {
        let mut pair =
            Pair::with(Config { datagram_bytes: bytes, ..config(10) }, Config { datagram_bytes: bytes, ..config(10) });
        pair.polls(6);
        let most = pair.a.payload_max();
        pair.network.listen();

        let sent: Vec<Vec<u8>> = (0..=most).map(|length| vec![length as u8; length]).collect();
        for payload in &sent {
            pair.a.send(B, payload);
        }
        pair.polls(3);

        let datagrams = pair.network.heard();
        let to_b: Vec<usize> =
            datagrams.iter().filter(|(_, to, _)| *to == address(2)).map(|(.., bytes)| bytes.len()).collect();
        assert_eq!(to_b.len(), most + 1);
        assert_eq!(to_b.iter().max(), Some(&bytes));
        assert_eq!(payloads(&mut pair.b), sent);
    }
}

// ---------------------------------------------------------------- 4, 5, 6: reliability, which is not laminar's task

#[test]
fn still_4_a_lost_tail_is_never_sent_again() {
    let mut pair = Bare::new(with_heartbeats());
    pair.a.socket_mut().drop_next = 1;
    pair.to_b(Packet::reliable_ordered(address(2), vec![42], None));
    pair.poll();

    let mut delivered = 0;
    for _ in 0..60_000 {
        pair.poll();
        delivered += bare_payloads(&pair.b).len();
    }

    assert_eq!(delivered, 0, "mended?");
}

#[test]
fn still_5_a_reliable_flow_one_way_is_dropped_after_513_packets() {
    let mut pair = Bare::new(with_heartbeats());
    let timed_out = |_: &usize| {
        pair.to_b(unordered(vec![0; 100]));
        pair.poll();
        bare_events(&pair.a).iter().any(|event| matches!(event, SocketEvent::Timeout(_)))
    };

    assert_eq!((1..=2000).find(timed_out), Some(513));
}

#[test]
fn still_6_a_burst_of_reliable_packets_is_delivered_with_duplicates() {
    let mut pair = Bare::new(with_heartbeats());
    for i in 0..100_u8 {
        pair.to_b(unordered(vec![i]));
    }
    let mut delivered = Vec::new();

    for _ in 0..200 {
        pair.to_a(Packet::reliable_unordered(address(1), vec![9]));
        pair.to_b(unordered(vec![200]));
        pair.poll();
        delivered.extend(bare_payloads(&pair.b).into_iter().filter(|payload| payload[0] < 100));
        bare_events(&pair.a);
    }

    let distinct: BTreeSet<_> = delivered.iter().collect();
    assert_eq!(distinct.len(), 100);
    assert!(delivered.len() > 100, "mended?");
}

#[test]
fn defects_4_5_a_flow_one_way_goes_on_for_ever_and_its_tail_arrives() {
    const COUNT: usize = 30_000;
    let mut pair = Pair::connected();
    let mut arrived = 0;

    for n in 0..COUNT {
        pair.a.send(B, &n.to_le_bytes());
        // Ten minutes in all, so that every timer of laminar's comes by.
        pair.after(20 * MS);
        arrived += payloads(&mut pair.b).len();
    }
    pair.polls(2);
    arrived += payloads(&mut pair.b).len();

    assert_eq!(arrived, COUNT);
}

#[test]
fn defect_6_a_burst_arrives_once_even_if_the_network_doubles_it() {
    let mut pair = Pair::connected();
    pair.network.with(|net| net.faults = Faults { doubled: 50, overtaken: 50, ..Faults::default() });

    for n in 0..2000_u32 {
        pair.a.send(B, &n.to_le_bytes());
    }
    pair.polls(6);

    let got = payloads(&mut pair.b);
    let distinct: BTreeSet<_> = got.iter().collect();
    assert_eq!((got.len(), distinct.len()), (2000, 2000));
    assert!(pair.b.counters().drops.replayed > 500);
}

// --------------------------------------------------------------------------------- 8, 9: integrity and strangers

#[test]
fn still_8_a_flipped_byte_is_delivered() {
    let mut pair = Bare::new(with_heartbeats());
    pair.to_b(unordered(vec![1, 2, 3, 4]));
    pair.poll_a();
    *pair.queues.borrow_mut().get_mut(&address(2)).expect("sent")[0].1.last_mut().expect("bytes") ^= 0xff;

    pair.poll_b();

    assert_eq!(bare_payloads(&pair.b), [[1, 2, 3, 251]]);
}

#[test]
fn defect_8_a_flipped_bit_is_dropped_and_counted() {
    let mut pair = Pair::connected();
    pair.network.with(|net| net.faults.flipped = 100);
    let before = pair.b.counters().drops;

    for n in 0..500_u32 {
        pair.a.send(B, &n.to_le_bytes());
    }
    pair.polls(2);

    let drops = pair.b.counters().drops;
    assert_eq!(payloads(&mut pair.b).len(), 0);
    let counted = |drops: &emmy::transport::laminar::Drops| {
        drops.forged + drops.unreadable + drops.unknown_session + drops.not_for_us
    };
    assert_eq!(counted(&drops) - counted(&before), 500);
}

#[test]
fn still_9_a_stranger_is_let_in_and_costs_a_connection() {
    let mut pair = Bare::new(with_heartbeats());
    let mut stranger = bare_manager(&pair.queues, 66, &pair.config);
    stranger.event_sender().send(Packet::unreliable(address(2), vec![66])).expect("unbounded");
    stranger.manual_poll(pair.origin.moment(pair.now));

    pair.poll_b();

    assert_eq!(bare_payloads(&pair.b), [[66]]);
}

#[test]
fn defect_9_what_no_peer_has_sealed_never_reaches_laminar() {
    let mut pair = Pair::connected();
    // What laminar itself would take, from strangers and from the peer's own address.
    let mut bare = Bare::new(with_heartbeats());
    bare.to_b(Packet::unreliable(address(2), vec![66; 40]));
    bare.poll_a();
    let (_, raw) = bare.queues.borrow_mut().get_mut(&address(2)).and_then(VecDeque::pop_front).expect("sent");

    for host in 0..5000 {
        pair.network.put(address(if host % 2 == 0 { 1 } else { host }), address(2), &raw);
    }
    let before = pair.b.counters().datagrams;
    pair.polls(6);

    assert_eq!(pair.b.receive(), None);
    assert_eq!(pair.b.counters().received, 0);
    assert!(pair.b.counters().datagrams - before >= 5000);
    pair.a.send(B, b"not crowded out");
    pair.polls(2);
    assert_eq!(payloads(&mut pair.b), [b"not crowded out"]);
}

// ---------------------------------------------------------------------------------------------- 10: new lives

#[test]
fn still_10_what_a_restarted_peer_sends_vanishes() {
    let mut pair = Bare::new(with_heartbeats());
    for _ in 0..500 {
        pair.to_b(Packet::unreliable_sequenced(address(2), vec![1], None));
        pair.to_a(Packet::unreliable(address(1), vec![1]));
        pair.poll();
    }
    bare_events(&pair.b);
    pair.a = bare_manager(&pair.queues, 1, &pair.config);
    let mut delivered = 0;

    for _ in 0..400 {
        pair.to_b(Packet::unreliable_sequenced(address(2), vec![2], None));
        pair.poll();
        delivered += bare_payloads(&pair.b).len();
    }

    assert_eq!(delivered, 0, "mended?");
}

#[test]
fn defect_10_a_restarted_peer_gets_its_datagrams_through_at_once() {
    let mut pair = Pair::connected();
    for n in 0..5000_u32 {
        pair.b.send(A, &n.to_le_bytes());
        pair.poll();
    }
    pair.poll();
    assert_eq!(payloads(&mut pair.a).len(), 5000);

    pair.restart_b(11);
    pair.b.connect(A, key(1), address(1)).expect("a free place");
    pair.polls(4);
    for n in 0..100_u32 {
        pair.b.send(A, &n.to_le_bytes());
        pair.a.send(B, &n.to_le_bytes());
    }
    pair.polls(2);

    let got: Vec<_> = std::iter::from_fn(|| pair.a.receive()).collect();
    assert_eq!(got.len(), 100);
    assert!(got.iter().all(|(from, incarnation, _)| (*from, *incarnation) == (B, Incarnation(11))));
    assert_eq!(payloads(&mut pair.b).len(), 100);
}

#[test]
fn defect_10_a_restarted_peer_that_waits_to_be_found_is_found() {
    let mut pair = Pair::connected();
    pair.restart_b(11);

    // The one that knows an address notices the silence.
    for _ in 0..70 {
        pair.a.send(B, b"are you there");
        pair.after(100 * MS);
    }
    payloads(&mut pair.b);
    pair.a.send(B, b"there you are");
    pair.polls(2);

    assert_eq!(payloads(&mut pair.b), [b"there you are"]);
    assert_eq!(pair.a.status(B).and_then(|status| status.incarnation), Some(Incarnation(11)));
}

// -------------------------------------------------------------------------------------- 11, 12, 13: flow and errors

#[test]
fn defect_11_every_queue_has_an_end_and_what_does_not_fit_is_counted() {
    let small = || Config { send_queue: 100, receive_queue: 60, ..config(10) };
    let mut pair = Pair::with(small(), small());
    pair.polls(6);

    for _ in 0..150 {
        pair.a.send(B, b"x");
    }
    pair.polls(2);

    assert_eq!(pair.a.counters().drops.send_queue_full, 50);
    assert_eq!(pair.b.counters().drops.receive_queue_full, 40);
    assert_eq!(payloads(&mut pair.b).len(), 60);
    pair.a.send(NodeId(77), b"nobody");
    assert_eq!(pair.a.counters().drops.not_connected, 1);
}

#[test]
fn still_12_a_poll_takes_in_everything_before_it_sends() {
    const FLOOD: usize = 100_000;
    let mut pair = Bare::new(with_heartbeats());
    for _ in 0..FLOOD {
        pair.to_b(Packet::unreliable(address(2), vec![1]));
    }
    pair.poll_a();
    pair.to_a(Packet::unreliable(address(1), vec![2]));
    pair.b.socket_mut().received_before_first_send = 0;

    pair.poll_b();

    assert_eq!(pair.b.socket().received_before_first_send, FLOOD);
}

#[test]
fn defect_12_a_hundred_thousand_waiting_datagrams_do_not_keep_us_from_sending() {
    let mut pair = Pair::connected();
    pair.a.send(B, b"sealed");
    pair.a.poll(pair.now);
    let (from, datagram) = pair.network.intercept(address(2)).remove(0);
    for _ in 0..100_000 {
        pair.network.put(from, address(2), &datagram);
    }

    pair.b.send(A, b"mine");
    pair.b.poll(pair.now);

    let left = pair.network.intercept(address(2)).len();
    assert!(left >= 100_000 - 2048 - 32, "one poll took {}", 100_000 - left);
    pair.a.poll(pair.now);
    assert_eq!(payloads(&mut pair.a), [b"mine"]);
    assert_eq!(payloads(&mut pair.b), [b"sealed"]);
}

#[test]
fn still_13_a_refused_send_makes_no_event() {
    let mut pair = Bare::new(with_heartbeats());
    pair.a.socket_mut().refuse = true;

    pair.to_b(Packet::unreliable(address(2), vec![1]));
    pair.poll();

    assert_eq!(bare_events(&pair.a).len(), 0);
}

#[test]
fn defect_13_a_send_that_the_system_refuses_is_counted() {
    let mut pair = Pair::connected();
    pair.network.with(|net| net.refusing.push(address(1)));

    (0..7).for_each(|_| pair.a.send(B, b"no"));
    pair.poll();

    assert_eq!(pair.a.counters().drops.send_refused, 7);
}

#[test]
fn defect_13_a_system_without_room_makes_us_wait_for_nothing_and_lose_only_what_is_too_much() {
    let mut pair = Pair::with(Config { outbox_bytes: 100_000, ..config(10) }, config(10));
    pair.polls(6);
    pair.network.with(|net| net.blocking.push(address(1)));
    let payload = vec![3; pair.a.payload_max()];

    for _ in 0..100 {
        pair.a.send(B, &payload);
    }
    pair.polls(3);
    let lost = pair.a.counters().drops.outbox_full;
    pair.network.with(|net| net.blocking.clear());
    pair.polls(2);

    assert_eq!(lost, 100 - 100_000 / 1200);
    assert_eq!(payloads(&mut pair.b).len() as u64, 100 - lost);
}

// ------------------------------------------------------------------------------------------ 14, 15: large and longest

#[test]
fn defect_14_a_megabyte_a_step_goes_through_as_datagrams_in_few_calls() {
    let mut pair = Pair::connected();
    let payload = vec![9; pair.a.payload_max()];
    let count = 1_000_000 / payload.len() + 1;
    let before = pair.a.udp().sends;

    (0..count).for_each(|_| pair.a.send(B, &payload));
    pair.poll();

    assert_eq!(payloads(&mut pair.b).len(), count);
    let sends = pair.a.udp().sends - before;
    assert!(sends <= count as u64 / 53 + 2, "{sends} calls for {count} datagrams");
}

#[test]
fn still_15_a_payload_near_the_receive_buffer_arrives_cut() {
    let unreliable = |payload| Packet::unreliable(address(2), payload);

    for (sent, arrives) in [(1447, 1447), (1448, 1447), (1452, 1447)] {
        assert_eq!(bare_arrival(with_heartbeats(), unreliable, sent), Some(arrives));
    }
}

#[test]
fn defect_15_the_longest_payload_of_any_peer_arrives_whole() {
    // One end may be set to longer datagrams than the other.
    let long = Config { datagram_bytes: DATAGRAM_MAX, ..config(10) };
    let mut pair = Pair::with(long, config(10));
    pair.polls(6);
    let longest = vec![4; pair.a.payload_max()];
    assert!(laminar_config(&config(1)).receive_buffer_max_size >= longest.len() + LAMINAR_HEADER_BYTES);

    pair.a.send(B, &longest);
    pair.polls(2);

    assert_eq!(payloads(&mut pair.b), [longest]);
}

#[test]
fn defect_15_limits_that_do_not_fit_laminar_are_refused_at_the_start() {
    for bytes in [0, 100, DATAGRAM_MAX + 1, 9000] {
        let network = Network::new(1);
        let refused =
            catch_unwind(AssertUnwindSafe(|| stack(&network, 1, Config { datagram_bytes: bytes, ..config(1) })));
        assert!(refused.is_err(), "{bytes} bytes");
    }
}

// ------------------------------------------------------------------------------------------- 16, 17: order and time

/// The order in which one of laminar's managers sends heartbeats to its eight peers.
fn heartbeat_order() -> Vec<SocketAddr> {
    let (queues, config, origin) = (Queues::default(), with_heartbeats(), Stopwatch::start());
    let mut hub = bare_manager(&queues, 0, &config);
    for host in 1..=8 {
        let mut other = bare_manager(&queues, host, &config);
        other.event_sender().send(Packet::unreliable(address(0), vec![0])).expect("unbounded");
        other.manual_poll(origin.moment(Duration::ZERO));
        hub.event_sender().send(Packet::unreliable(address(host), vec![0])).expect("unbounded");
    }
    hub.manual_poll(origin.moment(Duration::ZERO));
    hub.socket_mut().sent_to.clear();
    hub.manual_poll(origin.moment(Duration::from_millis(200)));
    std::mem::take(&mut hub.socket_mut().sent_to)
}

#[test]
fn still_16_heartbeats_go_out_in_a_random_order() {
    let orders: BTreeSet<_> = (0..20).map(|_| heartbeat_order()).collect();

    assert!(orders.len() > 1, "mended?");
}

/// Where everything goes that a node with eight peers sends, in ten seconds of traffic and silence.
fn destinations() -> Vec<SocketAddr> {
    let network = Network::new(1);
    let hosts: Vec<u16> = (1..=8).collect();
    let mut hub = stack(&network, 0, config(10));
    let places =
        hosts.iter().map(|&host| (key(host), Place { node: Some(NodeId(host)), address: Some(address(host)) }));
    hub.set_peers(&places.collect()).expect("one place each");
    let mut others: Vec<Stack> = hosts.iter().map(|&host| stack(&network, host, config(10))).collect();
    for other in &mut others {
        other.set_peers(&table(&[0])).expect("one place");
    }
    network.listen();
    for step in 0..100_u64 {
        let now = Time(step * 100 * MS);
        for &host in hosts.iter().rev().filter(|_| step % 3 == 0) {
            hub.send(NodeId(host), b"a");
        }
        hub.poll(now);
        others.iter_mut().for_each(|other| other.poll(now));
    }
    let sent = network.heard();
    sent.into_iter().filter(|(from, ..)| *from == address(0)).map(|(_, to, _)| to).collect()
}

#[test]
fn defect_16_the_order_of_sends_is_the_same_in_every_run() {
    let first = destinations();

    assert!(first.len() > 8 * 30, "{}", first.len());
    for _ in 0..5 {
        assert_eq!(destinations(), first);
    }
}

#[test]
fn still_17_a_sequenced_flow_one_way_dries_up() {
    let mut pair = Bare::new(laminar::Config::default());
    let mut delivered = 0;

    for _ in 0..6000 {
        pair.to_b(Packet::unreliable_sequenced(address(2), vec![1], None));
        pair.now += Duration::from_millis(9);
        pair.poll();
        delivered += bare_payloads(&pair.b).len();
    }

    assert!(delivered < 1000, "{delivered} of 6000: mended?");
}

#[test]
fn defect_17_a_flow_one_way_with_laminars_own_timeouts_loses_nothing() {
    let mut pair = Pair::connected();
    let mut arrived = 0;

    // An hour, so that laminar forgets each side several times.
    for n in 0..3600_u32 {
        pair.a.send(B, &n.to_le_bytes());
        pair.after(SECOND);
        arrived += payloads(&mut pair.b).len();
    }

    assert_eq!(arrived, 3600);
}

// ------------------------------------------------------------------------------------------------ the whole stack

#[test]
fn on_a_bad_wire_nothing_arrives_twice_changed_or_from_someone_else() {
    let mut pair = Pair::new();
    pair.network.with(|net| net.faults = Faults { lost: 20, doubled: 20, overtaken: 30, flipped: 5, cut: 2 });
    for _ in 0..600 {
        pair.after(50 * MS);
    }
    assert!(pair.are_connected(), "{:?}", pair.a.counters());

    let mut got = Vec::new();
    for n in 0..5000_u32 {
        pair.a.send(B, &[n.to_le_bytes(), (!n).to_le_bytes()].concat());
        if n % 10 == 0 {
            pair.after(10 * MS);
            got.extend(payloads(&mut pair.b));
        }
    }
    pair.polls(3);
    got.extend(payloads(&mut pair.b));

    let distinct: BTreeSet<_> = got.iter().collect();
    assert_eq!(distinct.len(), got.len(), "twice");
    for payload in &got {
        let (n, check) = payload.split_at(4);
        assert!(n.iter().zip(check).all(|(n, check)| *n == !*check), "changed");
    }
    assert!((3000..4500).contains(&got.len()), "{} of 5000", got.len());
}

#[test]
fn two_nodes_speak_over_real_udp() {
    let bind = || KernelUdp::bind("127.0.0.1:0".parse().expect("a literal address"), 1 << 20).expect("loopback");
    let mut a = LaminarDatagrams::new(bind(), secret(1), config(10));
    let mut b = LaminarDatagrams::new(bind(), secret(2), config(10));
    let (to_a, to_b) = (a.local_address().expect("bound"), b.local_address().expect("bound"));
    assert!(a.udp().granted() > 0);
    a.connect(B, key(2), to_b).expect("a free place");
    b.set_peers(&table(&[1])).expect("one place");
    let clock = Stopwatch::start();
    let payload = vec![8; a.payload_max()];
    let (mut sent, mut got) = (0, 0);

    while got < 2000 && clock.seconds() < 20.0 {
        let now = Time(clock.elapsed().as_nanos() as u64);
        if a.status(B).is_some_and(|status| status.connected) && sent < 2000 + (clock.seconds() * 100.0) as usize {
            (0..100).for_each(|_| a.send(B, &payload));
            sent += 100;
        }
        a.poll(now);
        b.poll(now);
        got += payloads(&mut b).iter().filter(|found| **found == payload).count();
        if got == 0 {
            b.wait(Duration::from_millis(5)).expect("poll");
        }
    }

    assert!(got >= 2000, "{got} of {sent}; {:?}; {:?}", a.counters(), b.counters());
    assert_eq!(b.status(A).expect("a peer").address, Some(to_a));
    assert!(a.counters().send_calls < a.counters().sent, "datagrams go in batches: {:?}", a.counters());
}

#[test]
fn in_silence_nothing_is_sent() {
    let mut pair = Pair::connected();
    pair.a.send(B, b"the last word");
    for _ in 0..30 {
        pair.after(100 * MS);
    }
    pair.network.listen();

    for _ in 0..600 {
        pair.after(SECOND);
    }

    assert_eq!(pair.network.heard(), []);
    assert!(pair.are_connected());
}

#[test]
fn a_hub_reaches_two_hundred_peers_that_look_for_it_at_once() {
    const PEERS: u16 = 200;
    let network = Network::new(1);
    let mut hub = stack(&network, 0, config(10));
    hub.set_peers(&table(&(1..=PEERS).collect::<Vec<_>>())).expect("one place each");
    let mut others: Vec<Stack> = (1..=PEERS).map(|host| stack(&network, host, config(10))).collect();
    for other in &mut others {
        other.connect(NodeId(0), key(0), address(0)).expect("a free place");
    }

    for step in 0..100_u64 {
        let now = Time(step * 50 * MS);
        others.iter_mut().for_each(|other| other.poll(now));
        hub.poll(now);
    }

    let connected = (1..=PEERS).filter(|&host| hub.status(NodeId(host)).is_some_and(|status| status.connected)).count();
    assert_eq!(connected, usize::from(PEERS), "{:?}", hub.counters());
}

#[test]
fn a_socket_of_both_families_speaks_with_one_of_ipv4() {
    let bind = |text: &str| KernelUdp::bind(text.parse().expect("a literal address"), 1 << 20);
    let Ok(both) = bind("[::]:0") else {
        eprintln!("no IPv6 here: nothing to see");
        return;
    };
    let mut a = LaminarDatagrams::new(both, secret(1), config(10));
    let mut b = LaminarDatagrams::new(bind("127.0.0.1:0").expect("loopback"), secret(2), config(10));
    let to_b = b.local_address().expect("bound");
    a.connect(B, key(2), to_b).expect("a free place");
    b.set_peers(&table(&[1])).expect("one place");
    let clock = Stopwatch::start();
    let mut got = 0;

    while got == 0 && clock.seconds() < 20.0 {
        let now = Time(clock.elapsed().as_nanos() as u64);
        a.poll(now);
        b.send(A, b"from the other family");
        b.poll(now);
        got = payloads(&mut a).len();
    }

    assert!(got > 0, "{:?}; {:?}", a.counters(), b.counters());
    assert_eq!(a.status(B).expect("a peer").address, Some(to_b), "an address of IPv4 is shown as one");
}

#[test]
fn a_receive_buffer_that_was_cut_is_told_with_the_name_of_the_limit() {
    let bind = |buffer| KernelUdp::bind("127.0.0.1:0".parse().expect("a literal address"), buffer).expect("loopback");

    assert_eq!(bind(1 << 16).warning(), None);
    let cut = bind(1 << 30);
    // A system that grants a gibibyte has cut nothing.
    let Some(warning) = cut.warning() else { return };
    assert!(
        warning.contains("net.core.rmem_max=1073741824") && warning.contains(&cut.granted().to_string()),
        "{warning}"
    );
}

#[test]
fn waiting_ends_when_something_comes_or_the_time_is_over() {
    let udp = KernelUdp::bind("127.0.0.1:0".parse().expect("a literal address"), 1 << 16).expect("loopback");
    let node = LaminarDatagrams::new(udp, secret(1), config(10));
    let here = node.local_address().expect("bound");
    let clock = Stopwatch::start();

    node.wait(Duration::from_millis(30)).expect("poll");
    let in_silence = clock.elapsed();
    std::net::UdpSocket::bind("127.0.0.1:0").and_then(|other| other.send_to(b"hello", here)).expect("loopback");
    let clock = Stopwatch::start();
    node.wait(Duration::from_secs(20)).expect("poll");

    assert!(in_silence >= Duration::from_millis(29), "{in_silence:?}");
    assert!(clock.elapsed() < Duration::from_secs(10), "{:?}", clock.elapsed());
}
