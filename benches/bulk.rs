//! The bulk layer: what it costs without a network, and what it carries over bad ones in simulated time.
//!
//! The first table is measured and differs by machine; the second is simulated, and the same everywhere. What is measured is the time
//! that this thread had a processor, where the system tells it (Linux), so that a busy machine does not show; else the time on the clock.

use std::{fs, hint::black_box};

use emmy::{
    metrics::Stopwatch,
    transport::{
        Event, Tag, Transport,
        bulk::{Bulk, limits::Limits},
    },
    wire::{Epoch, Incarnation, NodeId, Time},
};

#[allow(dead_code, reason = "the tests use it too, and each uses its part")]
#[path = "../tests/bulk_network/mod.rs"]
mod bulk_network;

use bulk_network::{Links, PAYLOAD_MAX, Random, World};

const BLOCK: usize = 1 << 20;

/// Starts a count of seconds.
fn seconds() -> impl Fn() -> f64 {
    let (watch, before) = (Stopwatch::start(), processor_ns());
    move || match (before, processor_ns()) {
        (Some(before), Some(now)) => (now - before) as f64 / 1e9,
        _ => watch.elapsed().as_secs_f64(),
    }
}

/// How long this thread has had a processor.
fn processor_ns() -> Option<u64> {
    fs::read_to_string("/proc/thread-self/schedstat").ok()?.split_whitespace().next()?.parse().ok()
}

fn tag(step: u64) -> Tag {
    Tag { epoch: Epoch(1), step, kind: 0, part: 0 }
}

/// Blocks of one size between two machines whose datagrams always arrive, at once: bytes per second and ns per datagram, both ends and
/// the copies between them included.
fn perfect(length: usize, blocks: u64) {
    let mut ends = [0, 1].map(|n| Bulk::new(NodeId(n), Incarnation(1), PAYLOAD_MAX, Limits::default()));
    assert!(ends[0].add_peer(NodeId(1)) && ends[1].add_peer(NodeId(0)));
    // What came is posted again, so that no copy of ours is measured.
    let mut pool: Vec<Vec<u8>> = (0..16).map(|seed| Random(seed).bytes(length)).collect();
    let (mut posted, mut received, mut datagrams, mut hash) = (0, 0, 0_u64, 0_u64);
    // The network: one buffer that is used again, so that no allocation of ours is measured.
    let mut wire: Vec<u8> = Vec::new();
    let mut ends_of: Vec<usize> = Vec::new();
    let elapsed = seconds();
    let mut now = Time(1);
    while received < blocks {
        while posted < blocks && posted - received < 16 {
            let block = pool.pop().expect("sixteen are under way at most");
            ends[0].post(NodeId(1), tag(posted), block).expect("there is room");
            posted += 1;
        }
        now = now.plus(10_000);
        for from in [0, 1] {
            wire.clear();
            ends_of.clear();
            ends[from].transmit(now, &mut |_, payload| {
                wire.extend_from_slice(payload);
                ends_of.push(wire.len());
            });
            let mut begin = 0;
            for &end in &ends_of {
                ends[1 - from].receive(now, NodeId(from as u16), Incarnation(1), &wire[begin..end]);
                begin = end;
            }
            datagrams += ends_of.len() as u64;
        }
        while let Some(event) = ends[1].event() {
            if let Event::Received { bytes, tag, .. } = event {
                hash = hash.rotate_left(5) ^ u64::from(black_box(&bytes)[bytes.len() / 2]) ^ tag.step;
                received += 1;
                pool.push(bytes);
            }
        }
        while ends[0].event().is_some() {}
    }
    let seconds = elapsed();
    println!(
        "{length:>8} B  {blocks:>7} blocks  {:>7.0} MB/s  {:>6.0} ns/datagram  {datagrams:>8} datagrams  check {hash:016x}",
        (length as u64 * blocks) as f64 / seconds / 1e6,
        seconds * 1e9 / datagrams as f64,
    );
}

/// What hashing alone costs, which is part of the above at both ends.
fn hashing(length: usize, times: u64) {
    let contents = Random(1).bytes(length);
    let elapsed = seconds();
    for _ in 0..times {
        black_box(blake3::hash(black_box(&contents)));
    }
    let seconds = elapsed();
    println!("{length:>8} B  BLAKE3 of a block, one end: {:.0} MB/s", (length as u64 * times) as f64 / seconds / 1e6);
}

/// Blocks of 1 MiB one after the other over a bad network, in simulated time.
fn simulated(name: &str, links: Links, blocks: u64) {
    let mut world = World::new(1, 2, links, Limits::default());
    let contents = Random(2).bytes(BLOCK);
    let (mut posted, mut received) = (0, 0);
    while received < blocks {
        while posted < blocks && posted - received < 8 {
            world.members[0].network.post(NodeId(1), tag(posted), contents.clone()).expect("there is room");
            posted += 1;
        }
        let events = world.step(Time(u64::MAX - 1)).expect("something is due");
        received += events.iter().filter(|(_, event)| matches!(event, Event::Received { .. })).count() as u64;
    }
    let seen = world.members[0].network.bulk().statistics(NodeId(1)).expect("it is a peer");
    println!(
        "{name:<44} {:>7.1} MB/s  {:>6} sent  {:>6} sent again  {:>5} wrongly  window {:>5} kB  trace {:016x}",
        (BLOCK as u64 * received) as f64 / (world.now.0 as f64 / 1e9) / 1e6,
        seen.sent_datagrams,
        seen.resent,
        seen.spurious_losses,
        seen.window_bytes / 1000,
        world.trace,
    );
}

fn main() {
    println!(
        "datagrams of {PAYLOAD_MAX} B, two machines in one thread, network without loss, time or copies of its own"
    );
    hashing(BLOCK, 500);
    perfect(BLOCK, 500);
    perfect(BLOCK, 2000);
    perfect(64 << 10, 10_000);
    perfect(100, 500_000);

    println!("blocks of 1 MiB, round trip 1 ms, links of 10 Gbit/s with queues of 1 MiB, simulated time");
    let links = Links { delay: 500_000, bandwidth: 1_250_000_000, queue_bytes: 1 << 20, ..Links::default() };
    simulated("nothing else", links, 400);
    simulated("reordered over 0.2 ms", Links { jitter: 200_000, ..links }, 400);
    simulated("0.1 % lost", Links { loss_permille: 1, ..links }, 100);
    simulated("1 % lost", Links { loss_permille: 10, ..links }, 40);
    simulated("10 % repeated, reordered", Links { repeat_permille: 100, jitter: 200_000, ..links }, 100);
    simulated(
        "10 % lost, 10 % repeated, reordered",
        Links { loss_permille: 100, repeat_permille: 100, jitter: 200_000, ..links },
        20,
    );
    simulated("1 Gbit/s, queue of 100 kB", Links { bandwidth: 125_000_000, queue_bytes: 100_000, ..links }, 200);
}
