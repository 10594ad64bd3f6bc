//! A step's worth of encrypted datagrams over loopback, from one thread to another, through the whole stack: laminar, Noise, batches.
//!
//! `cargo bench --bench transport -- [bytes per step] [steps]`, 1,000,000 and 200 if nothing is said. Prints the time from the first
//! send of a step until its last payload was taken out at the other end, CPU time per datagram of either side, what arrived, and system
//! calls. Nothing is paced and nothing is sent again.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use emmy::{
    metrics::Stopwatch,
    security::{
        handshake::{Hello, Suite},
        keys::{PublicKey, SecretKey},
    },
    transport::{
        Datagrams,
        laminar::{Config, Counters, KernelUdp, LaminarDatagrams, Place},
    },
    wire::{Incarnation, NodeId, Time},
};

const SENDER: NodeId = NodeId(0);
const RECEIVER: NodeId = NodeId(1);
const SOCKET_BUFFER: usize = 4 << 20;
/// A step whose payloads are not all there by then is counted as it is [s].
const STEP_MAX: f64 = 0.04;

type Node = LaminarDatagrams<KernelUdp>;

fn secret(node: NodeId) -> SecretKey {
    SecretKey::from_bytes([41 + 8 * node.0 as u8; 32])
}

fn node(id: NodeId, suite: Suite) -> Node {
    let local = "127.0.0.1:0".parse().expect("a literal address");
    let udp = KernelUdp::bind(local, SOCKET_BUFFER).expect("loopback");
    let hello = Hello { program: "bench".to_owned(), incarnation: Incarnation(1), ..Hello::default() };
    LaminarDatagrams::new(udp, secret(id), Config { suite, ..Config::new(hello, [5; 32]) })
}

/// CPU time of this thread [ns]; 0 where the system does not say.
#[cfg(unix)]
fn thread_cpu() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    spent.tv_sec as u64 * 1_000_000_000 + spent.tv_nsec as u64
}

#[cfg(not(unix))]
fn thread_cpu() -> u64 {
    0
}

fn time(clock: Stopwatch) -> Time {
    Time(clock.elapsed().as_nanos() as u64)
}

/// What both threads look at.
#[derive(Default)]
struct Shared {
    arrived: AtomicU64,
    stop: AtomicBool,
    /// CPU time of the receiver so far [ns].
    receiver_cpu: AtomicU64,
}

/// Takes payloads out until told to stop.
fn receive(suite: Suite, clock: Stopwatch, shared: &Shared, here: &mpsc::Sender<SocketAddr>) -> Counters {
    let mut node = node(RECEIVER, suite);
    let peer = (secret(SENDER).public(), Place { node: Some(SENDER), address: None });
    node.set_peers(&[peer].into()).expect("one place");
    here.send(node.local_address().expect("bound")).expect("the sender waits for it");
    while !shared.stop.load(Relaxed) {
        node.poll(time(clock));
        let mut count = 0;
        while let Some((_, _, payload)) = node.receive() {
            std::hint::black_box(payload);
            count += 1;
        }
        if count == 0 {
            shared.receiver_cpu.store(thread_cpu(), Relaxed);
            node.wait(Duration::from_millis(1)).expect("poll");
        } else {
            shared.arrived.fetch_add(count, Relaxed);
        }
    }
    *node.counters()
}

fn connect(node: &mut Node, key: PublicKey, to: SocketAddr, clock: Stopwatch) {
    node.connect(RECEIVER, key, to).expect("a free place");
    while !node.status(RECEIVER).is_some_and(|status| status.connected && status.last_heard.is_some()) {
        assert!(clock.seconds() < 10.0, "no handshake: {:?}", node.counters());
        node.poll(time(clock));
        thread::sleep(Duration::from_micros(200));
    }
}

/// Sends one step and waits for its arrival; returns the time that took [s] and the CPU time that sending took [ns].
fn step(node: &mut Node, count: u64, clock: Stopwatch, shared: &Shared, payload: &[u8]) -> (f64, u64) {
    let goal = shared.arrived.load(Relaxed) + count;
    let (watch, cpu) = (Stopwatch::start(), thread_cpu());
    (0..count).for_each(|_| node.send(RECEIVER, payload));
    node.poll(time(clock));
    while node.gate().bytes_waiting(0) > 0 && watch.seconds() < STEP_MAX {
        thread::yield_now();
        node.poll(time(clock));
    }
    let cpu = thread_cpu() - cpu;
    while shared.arrived.load(Relaxed) < goal && watch.seconds() < STEP_MAX {
        thread::yield_now();
    }
    (watch.seconds(), cpu)
}

fn measure(suite: Suite, bytes: usize, steps: usize) {
    let shared = Arc::new(Shared::default());
    let clock = Stopwatch::start();
    let (here, there) = mpsc::channel();
    let receiver = thread::spawn({
        let shared = shared.clone();
        move || receive(suite, clock, &shared, &here)
    });
    let mut sender = node(SENDER, suite);
    println!("{suite:?}: receive buffer granted: {} of {SOCKET_BUFFER} bytes asked", sender.udp().granted());
    connect(&mut sender, secret(RECEIVER).public(), there.recv().expect("the receiver says where"), clock);
    let payload = vec![9; sender.payload_max()];
    let count = bytes.div_ceil(payload.len()) as u64;
    // The first steps fault memory in.
    for _ in 0..10 {
        step(&mut sender, count, clock, &shared, &payload);
    }
    thread::sleep(Duration::from_millis(20));

    let before = (*sender.counters(), shared.arrived.load(Relaxed), shared.receiver_cpu.load(Relaxed));
    let (mut walls, mut cpu) = (Vec::with_capacity(steps), 0);
    for _ in 0..steps {
        let (wall, spent) = step(&mut sender, count, clock, &shared, &payload);
        walls.push(wall);
        cpu += spent;
    }
    thread::sleep(Duration::from_millis(20));
    let total = count * steps as u64;
    let arrived = shared.arrived.load(Relaxed) - before.1;
    let receiver_cpu = shared.receiver_cpu.load(Relaxed) - before.2;
    shared.stop.store(true, Relaxed);
    let received = receiver.join().expect("the receiver ends");
    walls.sort_by(f64::total_cmp);
    println!(
        "    {count} datagrams of {} B payload a step, {steps} steps: best {:.2} ms, p50 {:.2} ms, p99 {:.2} ms, {:.2} % arrived; CPU per datagram: \
         sender {} ns, receiver {} ns; calls: {} to send {total}, {} to receive (handshake and idle waits included)",
        payload.len(),
        walls[0] * 1e3,
        walls[steps / 2] * 1e3,
        walls[steps * 99 / 100] * 1e3,
        100.0 * arrived as f64 / total as f64,
        cpu / total,
        receiver_cpu / total,
        sender.counters().send_calls - before.0.send_calls,
        received.receive_calls,
    );
    assert_eq!(received.drops.forged + received.drops.replayed + received.drops.unreadable, 0, "{received:?}");
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let bytes = numbers.next().unwrap_or(1_000_000);
    let steps = numbers.next().unwrap_or(200).max(1);
    for suite in [Suite::AesGcm, Suite::ChaChaPoly] {
        measure(suite, bytes, steps);
    }
}
