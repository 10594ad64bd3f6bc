//! Many nodes on one thread, under a simulated network and clock, with every fault that a seed can draw: the step protocol keeps its
//! promises, and goes on as soon as it can.
//!
//! Nodes run the production machines of `emmy::coordinator`; only their physics is a toy. Each seed first breaks things while every
//! promise is checked after every event, then heals a core, leaves all else broken for good, and demands progress. A failing seed
//! prints itself: `EMMY_SEED=7 cargo test --test simulator one_seed` runs it again. `EMMY_SEEDS=10000` runs more of them.

#[path = "simulator/chance.rs"]
mod chance;
#[path = "simulator/checks.rs"]
mod checks;
#[path = "simulator/disk.rs"]
mod disk;
#[path = "simulator/driver.rs"]
mod driver;
#[path = "simulator/faults.rs"]
mod faults;
#[path = "simulator/logs.rs"]
mod logs;
#[path = "simulator/physics.rs"]
mod physics;
#[path = "simulator/wear.rs"]
mod wear;
#[path = "simulator/world.rs"]
mod world;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

use emmy::{
    audit_log,
    coordinator::planted::{self, Planted},
    wire::NodeId,
};
use faults::Swarm;
use world::{MS, STEPS_MAX, World};

/// Seeds of a run unless EMMY_SEEDS says otherwise.
const SEEDS: u64 = 1_500;

/// Commits that a healed core must reach, and in what time.
const MORE_STEPS: u64 = 10;
const PATIENCE_NS: u64 = 60_000 * MS;

/// How long after the rest died a configuration may come that was accepted before: attempts wait for each other.
const LATE_NS: u64 = 15_000 * MS;

/// Threads that share the seeds; no result depends on them.
const THREADS: u64 = 2;

/// How a seed ended.
struct Outcome {
    trace: u64,
    events: u64,
    steps: u64,
    simulated_ns: u64,
    counts: BTreeMap<&'static str, u64>,
}

fn run(seed: u64, planted: Option<Planted>) -> Outcome {
    run_as(seed, Swarm::of(seed), planted)
}

fn run_as(seed: u64, swarm: Swarm, planted: Option<Planted>) -> Outcome {
    let mut world = World::new(seed, swarm, planted);
    let safety_ns = world.swarm.safety_ns;
    world.run_until(safety_ns);
    world.heal_a_core();
    demand_progress(&mut world);
    world.check_logs();
    Outcome {
        trace: world.trace,
        events: world.events,
        steps: world.checks.committed_max(),
        simulated_ns: world.now,
        counts: world.checks.counts,
    }
}

/// Liveness: the core goes on, or has stopped for a reason.
fn demand_progress(world: &mut World) {
    let healed = world.now;
    let goal = (world.checks.committed_max() + MORE_STEPS).min(STEPS_MAX);
    while world.now < healed + PATIENCE_NS {
        let next = world.now + 100 * MS;
        world.run_until(next);
        let core = world.checks.core.clone();
        let members = core.iter().filter(|id| world.machine(**id).is_some_and(|machine| machine.config().is_some()));
        let members: Vec<NodeId> = members.copied().collect();
        let there = |id: &NodeId| world.checks.committed_by(*id) >= goal || world.checks.stopped.contains(id);
        if !members.is_empty() && members.iter().all(there) {
            return;
        }
    }
    // A configuration that was under way while the rest died may have too many of its replicas there. A later one may not.
    if !world.core_can_go_on() && world.checks.newest_began < healed + LATE_NS {
        world.checks.count("too many died");
        return;
    }
    let state = |id: &NodeId| {
        let machine = world.machine(*id)?;
        let config = machine.config().map(|config| (config.coordinator, &config.members, &config.replicas));
        let (epoch, head, sealed) = (machine.epoch(), machine.head(), machine.is_sealed());
        let jobs = &world.nodes[id].driver.jobs;
        Some(format!("{id}: {epoch} {head:?} sealed {sealed} granted {} {config:?} {jobs:?}", world.granted))
    };
    let states: Vec<_> = world.checks.core.iter().filter_map(state).collect();
    panic!("{:?} no progress to {goal} in {} s:\n{}", world.checks.counts, PATIENCE_NS / 1000 / MS, states.join("\n"));
}

fn seeds() -> u64 {
    std::env::var("EMMY_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

fn fails(run: impl FnOnce() -> Outcome) -> Option<String> {
    let outcome = catch_unwind(AssertUnwindSafe(run));
    let fault = outcome.err()?;
    let text = fault.downcast_ref::<String>().cloned();
    text.or_else(|| fault.downcast_ref::<&str>().map(|text| (*text).to_owned())).or(Some("?".to_owned()))
}

/// What a run of all seeds must have met.
const FLOORS: &[&str] = &[
    "coordinator crashed between storing a decision and telling it",
    "crash between the choice of a successor and telling it",
    "crash after a vote and before its decision",
    "crash during an epoch change",
    "restart during an epoch change",
    "an epoch was changed",
    "the coordinator changed",
    "an accepted successor was proposed again",
    "a stored decision was carried on that nobody had heard",
    "a copy became complete",
    "a copy was used for adoption",
    "all began again at step 0",
    "committed steps were computed again",
    "a node was left out",
    "left out while alive",
    "a node joined",
    "an old letter came again",
    "an old vote came again",
    "a decision was forged",
    "late result of an older epoch",
    "somebody lied",
    "a liar was named",
    "a liar was isolated",
    "a pair was retried",
    "a disputed pair stopped the run",
    "a copy was refused",
    "a step was refused",
    "a breach was recorded",
    "somebody went on alone",
    "somebody was accused",
    "a step was undone for an offence",
    "somebody was slandered and left out",
    "an epoch in which nothing moved was ended",
    "a torn write was recovered from",
    "a disk was full",
    "a sync failed",
    "a disk was slow",
    "restart with the old disk",
    "restart with an empty disk",
    "a log was held to another",
    "a letter came cut off",
    "a link dropped what it had no room for",
];

/// Of a hundred seeds, how many may end because more replicas died than may.
const DEAD_PER_100_MAX: u64 = 5;

#[test]
fn every_seed_is_safe_and_goes_on() {
    let seeds = seeds();
    let [next, events, steps, simulated_ms] = [const { AtomicU64::new(0) }; 4];
    let work = || {
        let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return counts;
            }
            let twice = [(); 2].map(|()| {
                let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, None)));
                outcome.unwrap_or_else(|_| panic!("EMMY_SEED={seed}: {:#?}", Swarm::of(seed)))
            });
            assert_eq!(twice[0].trace, twice[1].trace, "EMMY_SEED={seed}: two runs differ");
            events.fetch_add(twice[0].events, Ordering::Relaxed);
            steps.fetch_add(twice[0].steps, Ordering::Relaxed);
            simulated_ms.fetch_add(twice[0].simulated_ns / MS, Ordering::Relaxed);
            for (what, count) in &twice[0].counts {
                *counts.entry(what).or_default() += count;
            }
        }
    };
    let counts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let mut all: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (what, count) in threads.into_iter().flat_map(|thread| thread.join().expect("a seed failed")) {
            *all.entry(what).or_default() += count;
        }
        all
    });
    let hours = simulated_ms.load(Ordering::Relaxed) as f64 / 3.6e6;
    println!("{seeds} seeds twice, {events:?} events, {steps:?} steps in {hours:.2} simulated hours\n{counts:#?}");
    let dead = counts.get("too many died").copied().unwrap_or(0);
    assert!(
        dead * 100 <= seeds.max(100) * DEAD_PER_100_MAX,
        "{dead} of {seeds} seeds end too early to show that they go on"
    );
    let missed: Vec<_> = FLOORS.iter().filter(|what| !counts.contains_key(**what)).collect();
    assert!(missed.is_empty() || seeds < SEEDS, "never met: {missed:#?}");
}

#[test]
fn one_seed() {
    let Some(seed) = std::env::var("EMMY_SEED").ok().and_then(|text| text.parse().ok()) else { return };
    let outcome = run(seed, None);
    println!("{} events, {} steps, {:#?}", outcome.events, outcome.steps, outcome.counts);
}

/// Seeds within which a planted fault must be found.
const SEEDS_TO_FIND: u64 = 4_000;

#[test]
fn every_planted_fault_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicU64::new(0);
    let work = || {
        let mut found = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed) as usize;
            let Some(planted) = planted::ALL.get(at) else { return found };
            let first = (0..SEEDS_TO_FIND).find_map(|seed| Some((seed, fails(|| run(seed, Some(*planted)))?)));
            found.push((*planted, first));
        }
    };
    let found: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic gets here")).collect()
    });
    drop(std::panic::take_hook());
    let text = |(planted, first): &(Planted, Option<(u64, String)>)| match first {
        Some((seed, why)) => format!("{planted:?}: seed {seed}: {}", why.lines().next().unwrap_or_default()),
        None => format!("{planted:?}: NOT FOUND"),
    };
    let lines: Vec<String> = found.iter().map(text).collect();
    println!("{}", lines.join("\n"));
    assert!(found.iter().all(|(_, first)| first.is_some()), "\n{}", lines.join("\n"));
}

/// Faults of the writer of logs, and the seeds within which each must be found.
const LOG_FAULTS: [audit_log::Planted; 5] = [
    audit_log::Planted::TornLineStays,
    audit_log::Planted::UnwrittenForgotten,
    audit_log::Planted::HeadBeforeSync,
    audit_log::Planted::SyncRetried,
    audit_log::Planted::CrashedLineStays,
];

#[test]
fn every_planted_fault_of_the_log_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let worn = |seed, planted| {
        let mut swarm = Swarm::of(seed);
        swarm.wear.planted = planted;
        run_as(seed, swarm, None)
    };
    let first = |planted| (0..SEEDS_TO_FIND).find_map(|seed| Some((seed, fails(|| worn(seed, Some(planted)))?)));
    let found: Vec<_> = LOG_FAULTS.iter().map(|planted| (planted, first(*planted))).collect();
    drop(std::panic::take_hook());
    for (planted, first) in found {
        let (seed, why) = first.unwrap_or_else(|| panic!("{planted:?}: not found"));
        println!("{planted:?}: seed {seed}: {}", why.lines().next().unwrap_or_default());
    }
}

#[test]
fn a_survivor_may_be_sent_on_alone_in_a_branch_of_its_own() {
    let mut swarm = Swarm::of(1);
    swarm = Swarm { nodes: 3, refusals: Vec::new(), liars: None, crashes: false, loss: 0, ..swarm };
    let mut world = World::new(1, swarm, None);
    world.calm = true;
    world.checks.core = world.nodes.keys().copied().collect();
    world.run_until(1_000 * MS);
    let survivor = NodeId(2);
    world.crash(NodeId(0));
    world.crash(NodeId(1));
    world.run_until(4_000 * MS);
    let (frozen, committed) =
        (world.checks.committed_max(), world.machine(survivor).map(|machine| machine.committed()));
    assert!(frozen > 10 && committed <= Some(frozen), "a minority decides nothing: {frozen}, {committed:?}");

    world.go_on_alone(survivor);
    world.granted += 20;
    let up_to = world.granted;
    world.tell(survivor, emmy::coordinator::Input::Grant { up_to });
    world.run_until(8_000 * MS);

    let machine = world.machine(survivor).expect("it lives");
    assert!(machine.committed() > frozen, "it goes on: {} after {frozen}", machine.committed());
    assert!(machine.config().is_some_and(|config| config.branch != 0 && config.members.len() == 1));
    assert_eq!(world.checks.committed_max(), frozen, "the run itself does not");
}

#[test]
fn a_copy_is_asked_for_before_the_log_is_full() {
    let quiet = Swarm { nodes: 2, boundary_every: 1_000_000, grant_ahead: 400, ..Swarm::of(1) };
    let quiet = Swarm { refusals: Vec::new(), liars: None, work_mean: MS, delay_mean: MS / 2, ..quiet };
    let mut world = World::new(3, quiet, None);
    world.calm = true;
    world.checks.core = world.nodes.keys().copied().collect();

    while world.checks.committed_max() < 2 * emmy::coordinator::LOG_MAX as u64 && world.now < 60_000 * MS {
        let next = world.now + 500 * MS;
        world.run_until(next);
    }

    let machine = world.machine(NodeId(0)).expect("it lives");
    assert!(machine.committed() >= 2 * emmy::coordinator::LOG_MAX as u64, "stuck at {}", machine.committed());
    assert!(machine.copy().step > 0 && machine.sizes()[0] < emmy::coordinator::LOG_MAX, "{:?}", machine.sizes());
}
