//! Blocks arrive once and whole over networks that lose, repeat, reorder and delay; memory stays bounded whatever a peer does; and no
//! bytes whatever make the machine panic.
//!
//! `EMMY_FUZZ_CASES` sets the number of datagrams of the fuzz tests (300 000 if not set), `EMMY_FUZZ_SEED` the seed, which a failure prints.

use std::{collections::BTreeMap, env};

use emmy::{
    transport::{
        Event, PostError, Tag, Transport,
        bulk::{
            Bulk,
            counters::Drops,
            frame::{self, Ack, Frame, Header, Shape},
            limits::{BLOCK_OVERHEAD, BLOCKS_OPEN_MAX, CHUNK_MIN, Limits, RANGES_MAX, SENT_MAX, cost},
        },
        memory,
    },
    wire::{Epoch, Incarnation, NodeId, Time},
};

#[allow(dead_code, reason = "the bench uses it too, and each uses its part")]
mod bulk_network;

use bulk_network::{Links, PAYLOAD_MAX, Random, World};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn small_limits() -> Limits {
    let block_bytes_max = 2 << 20;
    let room = cost(block_bytes_max) + BLOCKS_OPEN_MAX as u64 * (BLOCK_OVERHEAD + 2048);
    Limits { block_bytes_max, receive_bytes_max: room, send_bytes_max: 4 << 20, ..Limits::default() }
}

fn tag(step: u64) -> Tag {
    Tag { epoch: Epoch(1), step, kind: 3, part: 4 }
}

/// What a run must show: every block once, equal, and nothing beyond the limits.
struct Account {
    expected: BTreeMap<(usize, usize, u64), Vec<u8>>,
    delivered: BTreeMap<(usize, usize, u64), u32>,
    received: usize,
    posted: u64,
}

impl Account {
    fn new() -> Self {
        Self { expected: BTreeMap::new(), delivered: BTreeMap::new(), received: 0, posted: 0 }
    }

    fn post(&mut self, world: &mut World, from: usize, to: usize, bytes: Vec<u8>) -> Result<(), PostError> {
        let step = self.posted;
        world.members[from].network.post(NodeId(to as u16), tag(step), bytes.clone())?;
        self.posted += 1;
        self.expected.insert((from, to, step), bytes);
        Ok(())
    }

    fn see(&mut self, place: usize, event: &Event) {
        match event {
            Event::Received { from, tag, bytes, .. } => {
                let key = (usize::from(from.0), place, tag.step);
                let expected = self.expected.remove(&key).unwrap_or_else(|| panic!("{key:?} came twice or never was"));
                assert!(expected == *bytes, "{key:?} is not what was sent");
                self.received += 1;
            }
            Event::Delivered { to, tag } => {
                let times = self.delivered.entry((place, usize::from(to.0), tag.step)).or_default();
                *times += 1;
                assert_eq!(*times, 1, "delivered once");
            }
            Event::Restarted { .. } => panic!("nobody restarted: {event:?}"),
        }
    }
}

fn assert_bounded(world: &World) {
    for (place, member) in world.members.iter().enumerate() {
        for peer in (0..world.members.len()).filter(|&peer| peer != place) {
            let bulk = member.network.bulk();
            let seen = bulk.statistics(NodeId(peer as u16)).expect("it is a peer");
            let limits = bulk.limits();
            assert!(seen.held_bytes <= limits.receive_bytes_max, "{seen:?}");
            assert!(seen.queued_bytes <= limits.send_bytes_max, "{seen:?}");
            assert!(seen.window_bytes <= limits.window_bytes_max, "{seen:?}");
            assert!(seen.open_blocks <= BLOCKS_OPEN_MAX as u64 && seen.incoming_blocks <= BLOCKS_OPEN_MAX as u64);
            assert!(seen.remembered_datagrams <= SENT_MAX as u64, "{seen:?}");
        }
    }
}

fn drops_of_honest_peers(world: &World) {
    for member in &world.members {
        let Drops {
            malformed,
            stranger,
            oversize,
            inconsistent,
            over_credit,
            too_many_blocks,
            wrong_hash,
            impossible_ack,
            ..
        } = member.network.bulk().drops();
        let faults =
            [malformed, stranger, oversize, inconsistent, over_credit, too_many_blocks, wrong_hash, impossible_ack];
        assert_eq!(faults, [0; 8], "honest peers make no faults");
    }
}

/// Sizes around everything that matters.
fn sizes(random: &mut Random) -> usize {
    let chunk = PAYLOAD_MAX - frame::NUMBERED_HEADER_BYTES - frame::CHUNK_HEADER_BYTES;
    let edges = [
        0,
        1,
        2,
        chunk - 1,
        chunk,
        chunk + 1,
        chunk - frame::OPEN_BYTES,
        chunk - frame::OPEN_BYTES + 1,
        2 * chunk,
        64 * chunk,
    ];
    match random.below(10) {
        0..=3 => random.below(200) as usize,
        4..=7 => edges[random.below(edges.len() as u64) as usize],
        8 => random.below(20_000) as usize,
        _ => random.below(150_000) as usize,
    }
}

fn random_links(random: &mut Random) -> Links {
    let mut some = |value: u64| if random.below(2) == 0 { 0 } else { random.below(value + 1) };
    let mut links = Links {
        delay: 1000 + some(2 * MS),
        jitter: some(2 * MS),
        loss_permille: some(300),
        burst_permille: (some(10), some(900)),
        repeat_permille: some(500),
        very_late_permille: some(300),
        bandwidth: some(1_250_000_000),
        queue_bytes: 3_000 + some(1 << 20),
        blackout: (0, 0),
    };
    if links.bandwidth > 0 {
        links.bandwidth = links.bandwidth.max(1_000_000);
    }
    if some(1) == 1 {
        let from = some(50 * MS);
        links.blackout = (from, from + some(SECOND));
    }
    links
}

/// Posts blocks among all nodes while they travel; returns the trace.
fn exchange(seed: u64, blocks: u64) -> u64 {
    let mut random = Random(seed ^ 0x5eed);
    let links = random_links(&mut random);
    let nodes = 2 + random.below(3) as usize;
    eprintln!("seed {seed}: {nodes} nodes, {blocks} blocks, {links:?}");
    let mut world = World::new(seed, nodes, links, small_limits());
    let mut account = Account::new();
    let end = Time(600 * SECOND);
    while account.received < blocks as usize {
        let burst = if account.posted < blocks { 1 + random.below(20).min(blocks - account.posted - 1) } else { 0 };
        for _ in 0..burst {
            let from = random.below(nodes as u64) as usize;
            let to = (from + 1 + random.below(nodes as u64 - 1) as usize) % nodes;
            let bytes = sizes(&mut random);
            let bytes = random.bytes(bytes);
            if !matches!(account.post(&mut world, from, to, bytes), Ok(()) | Err(PostError::Full { .. })) {
                panic!("a block of such a size is taken");
            }
        }
        for _ in 0..=random.below(30) {
            let until = world.now.plus(10 * MS);
            let Some(events) = world.step(until) else { break };
            events.iter().for_each(|(place, event)| account.see(*place, event));
            assert_bounded(&world);
        }
        assert!(world.now < end, "seed {seed}: {} of {blocks} blocks came", account.received);
    }
    // What is left over: late copies and acknowledgements. Nothing comes twice, everything is confirmed, everything is freed.
    while let Some(events) = world.step(end) {
        events.iter().for_each(|(place, event)| account.see(*place, event));
    }
    assert!(account.expected.is_empty() && account.delivered.len() == blocks as usize, "seed {seed}");
    for (place, member) in world.members.iter().enumerate() {
        for peer in (0..nodes).filter(|&peer| peer != place) {
            let seen = member.network.bulk().statistics(NodeId(peer as u16)).expect("it is a peer");
            let left = (seen.held_bytes, seen.queued_bytes, seen.open_blocks, seen.incoming_blocks, seen.flight_bytes);
            assert_eq!(left, (0, 0, 0, 0, 0), "seed {seed}: {seen:?}");
        }
    }
    drops_of_honest_peers(&world);
    world.trace
}

#[test]
fn every_block_arrives_once_and_equal_over_any_network_and_the_same_seed_is_the_same_run() {
    let seeds: u64 = env::var("EMMY_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    for seed in 0..seeds {
        let trace = exchange(seed, 150);
        if seed % 5 == 0 {
            assert_eq!(trace, exchange(seed, 150), "seed {seed}: another run");
        }
    }
}

/// Sends one block and returns how long it took [ns].
fn time_of_one_block(links: Links, length: usize) -> u64 {
    let mut world = World::new(1, 2, links, Limits::default());
    let mut account = Account::new();
    let bytes = Random(9).bytes(length);
    account.post(&mut world, 0, 1, bytes).expect("there is room");
    while account.received == 0 {
        let events = world.step(Time(3600 * SECOND)).expect("something is due until it has come");
        events.iter().for_each(|(place, event)| account.see(*place, event));
        assert_bounded(&world);
    }
    drops_of_honest_peers(&world);
    world.now.0
}

#[test]
fn large_blocks_arrive_over_good_and_bad_links() {
    let good = Links { delay: 500_000, bandwidth: 1_250_000_000, queue_bytes: 1 << 20, ..Links::default() };
    let bad = Links { jitter: MS, loss_permille: 50, repeat_permille: 100, ..good };

    assert!(time_of_one_block(good, 1 << 20) < 40 * MS);
    assert!(time_of_one_block(good, 20 << 20) < SECOND);
    assert!(time_of_one_block(bad, 1 << 20) < 10 * SECOND);
}

#[test]
fn what_a_byte_takes_is_measured_on_the_way() {
    for bandwidth in [1_250_000, 12_500_000, 125_000_000, 1_250_000_000] {
        let links = Links { delay: 50_000, jitter: 2_000, bandwidth, queue_bytes: 1 << 20, ..Links::default() };
        let mut world = World::new(4, 2, links, Limits::default());
        let mut account = Account::new();
        assert_eq!(world.members[0].network.path(NodeId(1)), None, "nothing was sent yet");
        // As in a step: halos, and letters that travel alone.
        for length in [24_000, 100].repeat(60) {
            account.post(&mut world, 0, 1, vec![7; length]).expect("there is room");
            while account.delivered.len() < account.posted as usize {
                let events = world.step(Time(60 * SECOND)).expect("something is due until it is delivered");
                events.iter().for_each(|(place, event)| account.see(*place, event));
            }
        }
        let path = world.members[0].network.path(NodeId(1)).expect("much came back");
        let (found, due) = (path.byte_ps.expect("datagrams left together"), 1_000_000_000_000 / bandwidth);
        assert!((due / 2..=due * 3 / 2).contains(&found), "{bandwidth} bytes a second: {path:?}, not {due} ps");
        assert!(path.round_trip_ns >= 100_000, "{path:?}");
    }
}

#[test]
fn a_lost_last_datagram_costs_a_timeout_and_not_for_ever() {
    for seed in 0..200 {
        let links = Links { delay: 50_000, loss_permille: 300, ..Links::default() };
        let mut world = World::new(seed, 2, links, small_limits());
        let mut account = Account::new();
        account.post(&mut world, 0, 1, vec![7; 3]).expect("there is room");
        while account.received == 0 {
            let events = world.step(Time(30 * SECOND)).unwrap_or_else(|| panic!("seed {seed}: it hangs"));
            events.iter().for_each(|(place, event)| account.see(*place, event));
        }
    }
}

#[test]
fn a_peer_that_never_reads_makes_post_say_full_and_nothing_grows() {
    let mut world = World::new(3, 2, Links { delay: 50_000, ..Links::default() }, small_limits());
    world.members[1].reads = false;
    let mut full = 0;

    for step in 0..20_000 {
        match world.members[0].network.post(NodeId(1), tag(step), vec![0; 5_000]) {
            Ok(()) => {}
            Err(PostError::Full { waiting, most, .. }) => {
                assert!(waiting <= most && waiting + 5_256 > most);
                full += 1;
            }
            Err(other) => panic!("{other}"),
        }
        let until = world.now.plus(10_000);
        while world.step(until).is_some() {}
        assert_bounded(&world);
    }
    assert!(full > 10_000, "{full}");
}

#[test]
fn a_peer_that_pauses_is_waited_for_and_gets_everything() {
    let mut world = World::new(4, 2, Links { delay: 50_000, loss_permille: 100, ..Links::default() }, small_limits());
    let mut account = Account::new();
    // Now and then nobody polls the peer for a while.
    let mut random = Random(4);
    while account.received < 400 {
        if account.posted < 400 {
            let bytes = random.bytes(60_000);
            let _ = account.post(&mut world, 0, 1, bytes);
        }
        if random.below(8) == 0 {
            world.members[1].reads = !world.members[1].reads;
        }
        let until = world.now.plus(500_000);
        while let Some(events) = world.step(until) {
            events.iter().for_each(|(place, event)| account.see(*place, event));
            assert_bounded(&world);
        }
        let seen = world.members[0].network.bulk().statistics(NodeId(1));
        assert!(world.now < Time(20 * SECOND), "{} came: {seen:?}", account.received);
    }
}

#[test]
fn an_owner_that_takes_blocks_late_holds_its_peer_back_and_gets_everything() {
    let limits = small_limits();
    let mut ends = [0, 1].map(|n| Bulk::new(NodeId(n), Incarnation(1), PAYLOAD_MAX, limits));
    assert!(ends[0].add_peer(NodeId(1)) && ends[1].add_peer(NodeId(0)));
    let mut random = Random(6);
    let (mut now, mut posted, mut taken, mut held_most) = (Time(1), 0_u64, 0_u64, 0);
    while taken < 600 {
        now = now.plus(50_000);
        assert!(now < Time(60 * SECOND), "{taken} of {posted} came: {:?}", ends[0].statistics(NodeId(1)));
        // Sizes of which now one, now several fit the credit.
        let length = [0, 500, 70_000, 2 << 20][random.below(4) as usize];
        if posted < 600 && ends[0].post(NodeId(1), tag(posted), vec![posted as u8; length]).is_ok() {
            posted += 1;
        }
        for from in [0, 1] {
            let mut sent = Vec::new();
            ends[from].transmit(now, &mut |_, bytes| sent.push(bytes.to_vec()));
            for bytes in sent.iter().filter(|_| !random.permille(20)) {
                ends[1 - from].receive(now, NodeId(from as u16), Incarnation(1), bytes);
            }
        }
        let seen = ends[1].statistics(NodeId(0)).expect("it is a peer");
        assert!(seen.held_bytes <= limits.receive_bytes_max);
        held_most = held_most.max(seen.held_bytes);
        if random.below(100) == 0
            && let Some(Event::Received { tag, bytes, .. }) = ends[1].event()
        {
            assert!(bytes.iter().all(|&byte| byte == tag.step as u8));
            taken += 1;
        }
        while ends[0].event().is_some() {}
    }
    assert!(held_most > 2 << 20, "the credit was used: {held_most}");
    assert_eq!(ends[1].drops().over_credit, 0);
}

#[test]
fn a_restarted_peer_is_a_new_one_and_nothing_of_its_old_life_comes_through() {
    for seed in 0..60 {
        let links = Links {
            delay: 200_000,
            jitter: 300_000,
            loss_permille: 100,
            repeat_permille: 300,
            very_late_permille: 500,
            ..Links::default()
        };
        let mut world = World::new(seed, 3, links, small_limits());
        let mut random = Random(seed);
        let (mut posted, mut restarts, mut seen_restarts) = (0_u64, 0, 0);
        // What was posted: by whom, to whom, in which lives of both.
        let mut lives: BTreeMap<u64, (usize, Incarnation, usize)> = BTreeMap::new();
        let mut came: BTreeMap<(u64, u64), u32> = BTreeMap::new();
        for round in 0..300 {
            let from = random.below(3) as usize;
            let to = (from + 1 + random.below(2) as usize) % 3;
            let length = sizes(&mut random);
            if world.members[from].network.post(NodeId(to as u16), tag(posted), vec![posted as u8; length]).is_ok() {
                lives.insert(posted, (from, world.members[from].incarnation, to));
                posted += 1;
            }
            if round % 60 == 30 {
                world.restart(random.below(3) as usize);
                restarts += 1;
            }
            let until = world.now.plus(300_000);
            while let Some(events) = world.step(until) {
                for (place, event) in events {
                    match event {
                        Event::Received { from, incarnation, tag, bytes } => {
                            let (poster, life, receiver) = lives[&tag.step];
                            assert_eq!(
                                (poster, life, receiver),
                                (usize::from(from.0), incarnation, place),
                                "seed {seed}"
                            );
                            assert!(bytes.iter().all(|&byte| byte == tag.step as u8));
                            // Once over all lives of the receiver: what an old one took does not come to a new one.
                            let times = came.entry((tag.step, place as u64)).or_default();
                            *times += 1;
                            assert_eq!(*times, 1, "seed {seed}: block {} came twice", tag.step);
                        }
                        Event::Restarted { .. } => seen_restarts += 1,
                        Event::Delivered { .. } => {}
                    }
                }
            }
            assert_bounded(&world);
        }
        assert!(restarts == 5 && seen_restarts >= 5, "seed {seed}: {seen_restarts} notices of {restarts} restarts");
        drops_of_honest_peers(&world);
        everyone_still_talks(&mut world, seed);
    }
}

/// After whatever happened, a block passes between any two.
fn everyone_still_talks(world: &mut World, seed: u64) {
    let nodes = world.members.len();
    let mut wanted = Vec::new();
    for from in 0..nodes {
        for to in (0..nodes).filter(|&to| to != from) {
            let step = 1_000_000 + (from * nodes + to) as u64;
            let tag = Tag { epoch: Epoch(u32::MAX), ..tag(step) };
            world.members[from].network.post(NodeId(to as u16), tag, vec![1; 3000]).expect("there is room");
            wanted.push((to, step));
        }
    }
    let until = world.now.plus(120 * SECOND);
    while !wanted.is_empty() {
        let events = world.step(until).unwrap_or_else(|| panic!("seed {seed}: {wanted:?} never came"));
        for (place, event) in events {
            if let Event::Received { tag, .. } = event {
                wanted.retain(|&expected| expected != (place, tag.step));
            }
        }
    }
}

#[test]
fn giving_a_peer_up_frees_everything_and_a_fresh_start_works() {
    for seed in 0..60 {
        let links = Links {
            delay: 200_000,
            jitter: 100_000,
            loss_permille: 50,
            repeat_permille: 300,
            very_late_permille: 300,
            ..Links::default()
        };
        let mut world = World::new(seed, 2, links, small_limits());
        for step in 0..30 {
            world.members[0].network.post(NodeId(1), tag(step), vec![0; 20_000]).expect("there is room");
            world.members[1].network.post(NodeId(0), tag(100 + step), vec![1; 20_000]).expect("there is room");
        }
        for _ in 0..100 + seed {
            world.step(Time(SECOND));
        }

        world.members[0].network.give_up(NodeId(1));

        let seen = world.members[0].network.bulk().statistics(NodeId(1)).expect("it is a peer");
        assert_eq!((seen.held_bytes, seen.queued_bytes, seen.flight_bytes, seen.remembered_datagrams), (0, 0, 0, 0));
        // The other end hears of it, and forgets what it had under way.
        let until = world.now.plus(2 * SECOND);
        let mut notices = 0;
        while let Some(events) = world.step(until) {
            notices +=
                events.iter().filter(|(place, event)| *place == 1 && matches!(event, Event::Restarted { .. })).count();
        }
        assert_eq!(notices, 1, "seed {seed}");
        everyone_still_talks(&mut world, seed);
        drops_of_honest_peers(&world);
    }
}

#[test]
fn a_cancelled_epoch_is_freed_at_both_ends_and_the_next_one_passes() {
    for seed in 0..60 {
        let links = Links {
            delay: 200_000,
            jitter: 200_000,
            loss_permille: 100,
            repeat_permille: 200,
            very_late_permille: 300,
            ..Links::default()
        };
        let mut world = World::new(seed, 2, links, small_limits());
        let mut random = Random(seed);
        for round in 0..10_u32 {
            for step in 0..20 {
                let length = sizes(&mut random);
                let tag = Tag { epoch: Epoch(round), ..tag(step) };
                let _ = world.members[0].network.post(NodeId(1), tag, vec![0; length]);
            }
            let until = world.now.plus(random.below(3 * MS));
            let mut late = 0;
            while let Some(events) = world.step(until) {
                late += events.iter().filter(|(place, event)| *place == 1 && is_older(event, round)).count();
                assert_bounded(&world);
            }
            assert_eq!(late, 0, "seed {seed}: nothing of a cancelled epoch comes out");
            for place in random_order(&mut random) {
                world.members[place].network.cancel_before(Epoch(round + 1));
            }
        }
        everyone_still_talks(&mut world, seed);
        while world.step(world.now.plus(60 * SECOND)).is_some() {}
        for (place, peer) in [(0, 1), (1, 0)] {
            let seen = world.members[place].network.bulk().statistics(NodeId(peer)).expect("it is a peer");
            assert_eq!(
                (seen.held_bytes, seen.queued_bytes, seen.open_blocks, seen.incoming_blocks),
                (0, 0, 0, 0),
                "seed {seed}"
            );
        }
        drops_of_honest_peers(&world);
    }
}

fn is_older(event: &Event, epoch: u32) -> bool {
    matches!(event, Event::Received { tag, .. } if tag.epoch < Epoch(epoch))
}

fn random_order(random: &mut Random) -> [usize; 2] {
    if random.below(2) == 0 { [0, 1] } else { [1, 0] }
}

#[test]
fn what_is_too_large_or_for_a_stranger_is_refused() {
    let mut bulk = Bulk::new(NodeId(0), Incarnation(1), PAYLOAD_MAX, small_limits());
    assert!(bulk.add_peer(NodeId(1)));
    let most = small_limits().block_bytes_max as usize;

    let oversize = bulk.post(NodeId(1), tag(0), vec![0; most + 1]);
    assert_eq!(oversize, Err(PostError::Oversize { bytes: most + 1, most }));
    assert_eq!(bulk.post(NodeId(2), tag(0), vec![]), Err(PostError::Unknown(NodeId(2))));
    assert_eq!(bulk.post(NodeId(1), tag(0), vec![0; most]), Ok(()));
}

// ------------------------------------------------------------------------------------------------------ liars

/// A machine that has heard of a peer, and what the peer must write to be heard.
fn listener() -> (Bulk, Header) {
    let mut bulk = Bulk::new(NodeId(0), Incarnation(5), PAYLOAD_MAX, small_limits());
    assert!(bulk.add_peer(NodeId(1)));
    (bulk, Header { session: 1, to_session: 1, to_incarnation: Incarnation(5), number: None })
}

fn datagram(header: &Header, number: u64, frames: &[Frame<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::put_header(&mut bytes, &Header { number: Some(number), ..*header });
    frames.iter().for_each(|one| frame::put_frame(&mut bytes, one));
    bytes
}

#[test]
fn claims_beyond_the_limits_are_dropped_counted_and_hold_nothing() {
    let (mut bulk, header) = listener();
    let hash = [0; frame::HASH_BYTES];
    let open = |block, length| Frame::Open { block, shape: Shape { length, size: 1000 }, tag: tag(block), hash };
    let mut number = 0;
    let mut say = |bulk: &mut Bulk, frame: Frame<'_>| {
        bulk.receive(Time(1), NodeId(1), Incarnation(1), &datagram(&header, number, &[frame]));
        number += 1;
    };

    say(&mut bulk, open(0, u32::MAX));
    assert_eq!((bulk.drops().oversize, bulk.statistics(NodeId(1)).unwrap().held_bytes), (1, 0));
    say(&mut bulk, open(BLOCKS_OPEN_MAX as u64, 10));
    say(&mut bulk, open(u64::MAX, 10));
    assert_eq!(bulk.drops().too_many_blocks, 2);
    say(&mut bulk, open(0, 2_000_000));
    say(&mut bulk, open(1, 2_000_000));
    assert_eq!(bulk.drops().over_credit, 1);
    say(&mut bulk, open(0, 1_999_999));
    assert_eq!(bulk.drops().inconsistent, 1);
    let held = bulk.statistics(NodeId(1)).unwrap().held_bytes;
    assert_eq!(held, cost(2_000_000));
    say(&mut bulk, Frame::Skip { block: 0, length: 7 });
    assert_eq!(bulk.statistics(NodeId(1)).unwrap().held_bytes, 0);
}

#[test]
fn a_block_with_another_hash_is_thrown_away_and_counted() {
    let (mut bulk, header) = listener();
    let shape = Shape { length: 4, size: 1000 };
    let open = Frame::Open { block: 0, shape, tag: tag(0), hash: [9; frame::HASH_BYTES] };
    let chunk = Frame::Chunk { block: 0, index: 0, shape, bytes: &[1, 2, 3, 4] };

    bulk.receive(Time(1), NodeId(1), Incarnation(1), &datagram(&header, 0, &[open, chunk]));

    assert_eq!((bulk.drops().wrong_hash, bulk.event()), (1, None));
    assert_eq!(bulk.statistics(NodeId(1)).unwrap().held_bytes, 0);
}

#[test]
fn a_block_that_was_harmed_on_the_way_is_sent_again() {
    let limits = small_limits();
    let mut ends = [0, 1].map(|n| Bulk::new(NodeId(n), Incarnation(1), PAYLOAD_MAX, limits));
    assert!(ends[0].add_peer(NodeId(1)) && ends[1].add_peer(NodeId(0)));
    let contents = Random(1).bytes(10_000);
    ends[0].post(NodeId(1), tag(1), contents.clone()).expect("there is room");
    let (mut now, mut harmed) = (Time(1), false);

    let received = loop {
        now = now.plus(100_000);
        assert!(now < Time(SECOND), "it never came");
        for from in [0, 1] {
            let mut sent = Vec::new();
            ends[from].transmit(now, &mut |_, bytes| sent.push(bytes.to_vec()));
            for mut bytes in sent {
                // One bit of the contents of the first long datagram.
                if !harmed && bytes.len() == PAYLOAD_MAX {
                    *bytes.last_mut().expect("it is long") ^= 1;
                    harmed = true;
                }
                ends[1 - from].receive(now, NodeId(from as u16), Incarnation(1), &bytes);
            }
        }
        if let Some(Event::Received { bytes, .. }) = ends[1].event() {
            break bytes;
        }
    };

    assert!(received == contents && harmed);
    assert_eq!(ends[1].drops().wrong_hash, 1);
    assert_eq!(ends[0].statistics(NodeId(1)).unwrap().repeated_blocks, 1);
}

// -------------------------------------------------------------------------------------------------- the parser

fn cases() -> u64 {
    env::var("EMMY_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300_000)
}

fn seed() -> u64 {
    env::var("EMMY_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// Small, large, or at an edge.
fn number(random: &mut Random) -> u64 {
    match random.below(7) {
        6 => random.below(2 << 20),
        0 => random.next(),
        1 => u64::MAX - random.below(3),
        2 => 1 << random.below(64),
        3 => random.below(600),
        _ => random.below(4),
    }
}

/// Room for the parts of a frame.
struct Parts {
    bytes: Vec<u8>,
    finished: Vec<u8>,
    ranges: Vec<u8>,
}

fn parts(random: &mut Random) -> Parts {
    let length = random.below(1200) as usize;
    let words = random.below(BLOCKS_OPEN_MAX as u64 / 64 + 1) as usize;
    let count = 1 + random.below(RANGES_MAX as u64) as usize;
    let mut ranges = Vec::new();
    for at in 0..count {
        let gap = if at == 0 { 0 } else { 1 + random.below(3) as u32 };
        ranges.extend(gap.to_le_bytes());
        ranges.extend((random.below(5) as u32).to_le_bytes());
    }
    Parts { bytes: random.bytes(length), finished: random.bytes(8 * words), ranges }
}

fn random_frame<'a>(random: &mut Random, parts: &'a Parts) -> Frame<'a> {
    let size = CHUNK_MIN.max(random.below(1200) as u16);
    match random.below(7) {
        0 => {
            let shape = Shape { length: number(random) as u32, size };
            let tag = Tag { epoch: Epoch(random.below(3) as u32), step: random.next(), kind: 1, part: 2 };
            Frame::Open { block: number(random), shape, tag, hash: [random.next() as u8; frame::HASH_BYTES] }
        }
        1..=3 => {
            // A last chunk, or one in the middle, for as many bytes as there are.
            let chunks = 1 + random.below(70) as u32;
            let whole = parts.bytes.len().clamp(usize::from(CHUNK_MIN), usize::from(u16::MAX)) as u16;
            let filled = parts.bytes.len() >= usize::from(CHUNK_MIN);
            let (size, index, length) = match (filled, random.below(2)) {
                (true, 0) => (whole, random.below(u64::from(chunks)) as u32, chunks * u32::from(whole)),
                _ if parts.bytes.is_empty() => return Frame::Blocked(number(random)),
                _ => {
                    let size = size.max(whole);
                    (size, chunks - 1, (chunks - 1) * u32::from(size) + parts.bytes.len() as u32)
                }
            };
            Frame::Chunk { block: number(random), index, shape: Shape { length, size }, bytes: &parts.bytes }
        }
        4 => {
            let fixed = (number(random), random.next() as u32, number(random), number(random));
            let large = (fixed.0.max(2000), fixed.1, fixed.2, fixed.3);
            let ack = Ack::new(fixed, &parts.finished, &parts.ranges);
            Frame::Ack(ack.or_else(|| Ack::new(large, &parts.finished, &parts.ranges)).expect("its stretches fit"))
        }
        5 => Frame::Skip { block: number(random), length: number(random) as u32 },
        _ => {
            if random.below(2) == 0 {
                Frame::Credit(number(random))
            } else {
                Frame::Blocked(number(random))
            }
        }
    }
}

fn random_header(random: &mut Random) -> Header {
    let number = (random.below(4) > 0).then(|| number(random).min(u64::MAX - 1));
    let (session, to_session) = (number_of_session(random), number_of_session(random));
    Header { session, to_session, to_incarnation: Incarnation(5 * random.below(8).min(1)), number }
}

fn number_of_session(random: &mut Random) -> u32 {
    if random.below(20_000) == 0 { random.below(4) as u32 } else { 1 }
}

#[test]
fn decoding_what_was_encoded_gives_it_back() {
    let mut random = Random(seed());
    for case in 0..cases() / 10 {
        let lists: Vec<Parts> = (0..1 + random.below(4)).map(|_| parts(&mut random)).collect();
        let header = random_header(&mut random);
        let frames: Vec<Frame<'_>> = lists.iter().map(|parts| random_frame(&mut random, parts)).collect();
        let mut bytes = Vec::new();
        frame::put_header(&mut bytes, &header);
        frames.iter().for_each(|one| frame::put_frame(&mut bytes, one));

        let (decoded, rest) = frame::decode(&bytes).unwrap_or_else(|fault| panic!("case {case}: {fault}"));
        let decoded_frames: Result<Vec<Frame<'_>>, _> = rest.collect();
        assert_eq!((decoded, decoded_frames), (header, Ok(frames)), "seed {} case {case}", seed());
        // Nothing shorter is the same, and none of it panics.
        let cut = random.below(bytes.len() as u64) as usize;
        if let Ok((_, frames)) = frame::decode(&bytes[..cut]) {
            assert!(frames.count() <= lists.len());
        }
    }
}

/// A datagram of a liar: random bytes, sound frames with wild numbers, or an honest datagram with some bytes changed.
fn lie(random: &mut Random, honest: &[Vec<u8>], out: &mut Vec<u8>) {
    out.clear();
    match random.below(8) {
        0 => {
            let length = random.below(200) as usize;
            *out = random.bytes(length);
            // Mostly behind a sound header.
            if random.below(16) > 0 {
                let mut header = Vec::new();
                frame::put_header(&mut header, &random_header(random));
                out.splice(0..header.len().min(out.len()), header).for_each(drop);
            }
        }
        1..=3 => {
            frame::put_header(out, &random_header(random));
            for _ in 0..1 + random.below(3) {
                let parts = parts(random);
                frame::put_frame(out, &random_frame(random, &parts));
            }
        }
        _ => out.extend(&honest[random.below(honest.len() as u64) as usize]),
    }
    for _ in 0..random.below(4) {
        if out.is_empty() {
            return;
        }
        // Mostly behind the header: one that names another connection hides the rest.
        let from = if random.below(64) > 0 { frame::PLAIN_HEADER_BYTES.min(out.len() - 1) } else { 0 };
        let at = from + random.below((out.len() - from) as u64) as usize;
        match random.below(4) {
            0 => out[at] = random.next() as u8,
            1 => out[at] ^= 1 << random.below(8),
            2 => out.truncate(at),
            _ => out.splice(at..at, [random.next() as u8]).for_each(drop),
        }
    }
}

/// Datagrams that an honest peer of such a listener writes.
fn honest_datagrams() -> Vec<Vec<u8>> {
    let mut ends =
        [(0, 5), (1, 1)].map(|(n, life)| Bulk::new(NodeId(n), Incarnation(life), PAYLOAD_MAX, small_limits()));
    assert!(ends[0].add_peer(NodeId(1)) && ends[1].add_peer(NodeId(0)));
    let mut random = Random(77);
    let mut heard = Vec::new();
    for round in 0..60_u64 {
        for (from, to) in [(0, 1), (1, 0)] {
            let length = sizes(&mut random).min(20_000);
            ends[from].post(NodeId(to), tag(round), random.bytes(length)).expect("there is room");
        }
        for from in [0, 1] {
            let mut sent = Vec::new();
            ends[from].transmit(Time(1 + round * 100_000), &mut |_, bytes| sent.push(bytes.to_vec()));
            for bytes in sent {
                let life = Incarnation([5, 1][from]);
                ends[1 - from].receive(Time(1 + round * 100_000), NodeId(from as u16), life, &bytes);
                if from == 1 {
                    heard.push(bytes);
                }
            }
        }
        if round % 3 == 0 {
            while ends[0].event().is_some() || ends[1].event().is_some() {}
        }
    }
    heard
}

#[test]
fn no_datagram_of_a_liar_makes_the_machine_panic_or_grow() {
    let honest = honest_datagrams();
    let mut random = Random(seed() ^ 0x11a2);
    let (mut bulk, _) = listener();
    let (mut now, mut bytes) = (Time(1), Vec::new());
    let mut reached = [0; 11];
    for case in 0..cases() {
        // A liar that claims a new life has silenced the old one: then nothing deep is reached any more.
        if case % 5_000 == 4_999 || bulk.drops().stale_sender > 3 {
            reached = add_reached(reached, &bulk);
            bulk = listener().0;
        }
        lie(&mut random, &honest, &mut bytes);
        now = now.plus(random.below(200_000));
        let before = bulk.statistics(NodeId(1)).expect("it is a peer").held_bytes;
        bulk.receive(now, NodeId(1), Incarnation(1), &bytes);
        if case % 16 == 0 {
            let length = sizes(&mut random).min(5_000);
            let _ = bulk.post(NodeId(1), tag(case), vec![0; length]);
            bulk.transmit(now, &mut |_, bytes| assert!(bytes.len() <= PAYLOAD_MAX));
            while random.below(4) > 0 && bulk.event().is_some() {}
        }
        let seen = bulk.statistics(NodeId(1)).expect("it is a peer");
        let limits = bulk.limits();
        let within = seen.held_bytes <= limits.receive_bytes_max
            && seen.queued_bytes <= limits.send_bytes_max
            && seen.incoming_blocks <= BLOCKS_OPEN_MAX as u64
            && seen.remembered_datagrams <= SENT_MAX as u64;
        assert!(within, "seed {} case {case}: {before} before, {seen:?}", seed());
    }
    assert!(cases() < 100_000 || reached.iter().all(|&times| times > 0), "every kind of lie was told: {reached:?}");
    eprintln!("lies by kind: {reached:?}");
}

fn add_reached(before: [u64; 11], bulk: &Bulk) -> [u64; 11] {
    let (drops, seen) = (bulk.drops(), bulk.statistics(NodeId(1)).expect("it is a peer"));
    let now = [
        drops.malformed,
        drops.stale_sender,
        drops.stale_receiver,
        drops.repeated_datagram,
        drops.repeated_chunk,
        drops.oversize,
        drops.inconsistent,
        drops.over_credit,
        drops.too_many_blocks,
        drops.impossible_ack,
        seen.received_blocks,
    ];
    std::array::from_fn(|at| before[at] + now[at])
}

// ------------------------------------------------------------------------------------------------ in one process

#[test]
fn members_of_one_process_hand_blocks_over_across_threads() {
    let mut members = memory::hub(&[NodeId(0), NodeId(1)]);
    let (mut second, mut first) = (members.pop().expect("two"), members.pop().expect("two"));
    assert!(!first.capabilities().crosses_a_network);

    let reader = std::thread::spawn(move || {
        let mut sum = 0;
        while sum < 1000 * 999 / 2 {
            if let Some(Event::Received { tag, .. }) = second.poll(Time(0)) {
                sum += tag.step;
            }
        }
    });
    for step in 0..1000 {
        first.post(NodeId(1), tag(step), vec![1; 100]).expect("there is room");
    }
    reader.join().expect("every block came");

    let delivered = std::iter::from_fn(|| first.poll(Time(0))).count();
    assert_eq!(delivered, 1000);
}

#[test]
fn members_of_one_process_are_bounded_and_can_cancel_and_give_up() {
    let mut members = memory::hub(&[NodeId(0), NodeId(1)]);
    let block = || vec![0; 64 << 20];
    let mut taken = 0;
    while members[0].post(NodeId(1), tag(taken), block()).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 4, "four of 64 MiB and their overheads fit 320 MiB");
    assert_eq!(members[0].post(NodeId(9), tag(0), vec![]), Err(PostError::Unknown(NodeId(9))));

    members[1].cancel_before(Epoch(2));
    assert_eq!(members[1].poll(Time(0)), None);
    let next = Tag { epoch: Epoch(2), ..tag(0) };
    members[0].post(NodeId(1), next, block()).expect("there is room again");
    members[0].give_up(NodeId(1));
    assert_eq!((members[1].poll(Time(0)), members[0].poll(Time(0))), (None, None));
}
