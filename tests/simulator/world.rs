//! The simulated world: a clock, an event heap, links that lose and delay, nodes that run the production machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use emmy::{
    coordinator::{
        Body, CopyRecord, Input, Judge, Letter, Machine, Options, Output, Ruling, Share, Totals, planted::Planted,
    },
    wire::{Incarnation, NodeId, Time},
};

use crate::{
    chance::{Chance, mix},
    checks::Checks,
    driver::{Board, BoardKey, Driver, Job},
    faults::Swarm,
    logs::Logs,
    physics::{self, Particles, Truth},
    wear::DiskEvent,
};

pub(crate) const MS: u64 = 1_000_000;

/// Steps that the reference run knows.
pub(crate) const STEPS_MAX: u64 = 1_500;

/// What happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A letter arrives.
    Arrival { to: NodeId, from: NodeId, life: Incarnation, letter: Arc<Letter> },
    /// The clock of a node.
    Tick { node: NodeId, life: Incarnation },
    /// A node looks whether its work is finished.
    Work { node: NodeId, life: Incarnation, generation: u64, job: Job },
    /// A node answers that it goes no further, or what it refused.
    Stalled { node: NodeId, life: Incarnation, generation: u64, step: u64, stage: u16 },
    /// A copy is on its way to the buddy, or its receipt back.
    Copying { node: NodeId, life: Incarnation, generation: u64, step: u64, stored: bool },
    /// The result of work that was dropped by a new epoch.
    Stale { node: NodeId, life: Incarnation, input: Box<Input> },
    /// A node starts again with empty memory.
    Restart { node: NodeId },
    /// Something breaks, or is mended.
    Chaos,
    /// So does a disk, or a node hears of another one's log.
    Disk(DiskEvent),
    /// The client allows more steps.
    Grant,
}

/// One direction of a link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) chance: Chance,
    pub(crate) cut: bool,
    pub(crate) clogged_until: u64,
    /// What was posted before is on its way.
    pub(crate) busy_until: u64,
    /// In a burst of losses.
    pub(crate) burst: bool,
}

/// A node, up or down.
pub(crate) struct Node {
    pub(crate) machine: Option<Machine>,
    pub(crate) life: Incarnation,
    pub(crate) paused_until: u64,
    pub(crate) clock_offset: i64,
    pub(crate) clock_ppm: i64,
    pub(crate) driver: Driver,
    pub(crate) chance: Chance,
    pub(crate) votes_under_way: bool,
}

/// Where the particles live, and nothing else.
pub(crate) struct Rounds {
    /// Judged as a breach that is remembered.
    pub(crate) record_at: Option<u64>,
}

impl Judge for Rounds {
    fn judge(&self, step: u64, notes: &[u8], _: &BTreeMap<NodeId, Share>, totals: &Totals) -> (Ruling, Vec<u8>) {
        // The notes count steps: a coordinator that lost them would be seen by the checks.
        let count = notes.first().copied().unwrap_or(0).wrapping_add(1);
        assert_eq!(u64::from(count), step & 0xff, "the judge's notes were lost: {totals:?}");
        let breach = emmy::audit::Breach::out_of_range("position", 1, &emmy::particle::Names::default());
        let ruling = if self.record_at == Some(step) { Ruling::Record(breach) } else { Ruling::Keep };
        (ruling, vec![count])
    }

    fn cuts(&self, step: u64, shares: &BTreeMap<NodeId, Share>) -> Vec<u8> {
        physics::write_cuts(step, shares.keys().copied().collect())
    }
}

/// Everything.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) swarm: Swarm,
    pub(crate) planted: Option<Planted>,
    pub(crate) now: u64,
    serial: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pub(crate) chaos: Chance,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) links: BTreeMap<(NodeId, NodeId), Link>,
    pub(crate) boards: BTreeMap<BoardKey, Board>,
    pub(crate) genesis: CopyRecord,
    pub(crate) partitions: BTreeMap<NodeId, Particles>,
    pub(crate) checks: Checks,
    pub(crate) logs: Logs,
    pub(crate) granted: u64,
    /// After the safety phase nothing new breaks.
    pub(crate) calm: bool,
    pub(crate) trace: u64,
    pub(crate) events: u64,
    /// Old letters of liars, and of anybody, that may come again.
    pub(crate) archive: Vec<(NodeId, NodeId, Incarnation, Arc<Letter>)>,
}

impl World {
    pub(crate) fn new(seed: u64, mut swarm: Swarm, planted: Option<Planted>) -> Self {
        let partitions = physics::initial(seed, swarm.nodes);
        let ids: BTreeSet<u32> = partitions.values().flatten().map(|particle| particle.id).collect();
        swarm.refusals.retain(|refusal| ids.contains(&refusal.particle));
        let parts = physics::holdings(&partitions);
        let truth = Truth::of(&partitions, STEPS_MAX);
        let genesis = CopyRecord { step: 0, root: truth.steps[0].0, partitions: parts };
        let mut world = Self {
            seed,
            planted,
            now: 0,
            serial: 0,
            queue: BTreeMap::new(),
            chaos: Chance::new(seed, 1),
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            boards: BTreeMap::new(),
            genesis,
            partitions,
            checks: Checks::new(truth, &swarm),
            logs: Logs::new(seed, swarm.wear.planted),
            granted: 0,
            calm: false,
            trace: 0,
            events: 0,
            archive: Vec::new(),
            swarm,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let ids: Vec<NodeId> = self.partitions.keys().copied().collect();
        for from in &ids {
            for to in ids.iter().filter(|to| *to != from) {
                let chance = Chance::new(self.seed, 1000 + u64::from(from.0) * 64 + u64::from(to.0));
                self.links
                    .insert((*from, *to), Link { chance, cut: false, clogged_until: 0, busy_until: 0, burst: false });
            }
        }
        for id in &ids {
            let mut chance = Chance::new(self.seed, 500 + u64::from(id.0));
            let ppm = if self.swarm.clocks { chance.below(400) as i64 - 200 } else { 0 };
            let offset = chance.below(5_000 * MS) as i64;
            let node = Node {
                machine: None,
                life: Incarnation(1),
                paused_until: 0,
                clock_offset: offset,
                clock_ppm: ppm,
                driver: Driver::default(),
                chance,
                votes_under_way: false,
            };
            self.nodes.insert(*id, node);
        }
        self.begin_logs();
        for id in ids {
            let (judge, options, time) = (self.judge(), self.options(id), self.local(id));
            let (machine, outputs) = Machine::starting(id, self.genesis.clone(), judge, options, time);
            self.node(id).machine = Some(machine);
            self.perform(id, outputs);
            self.at(self.now + MS, Event::Tick { node: id, life: Incarnation(1) });
        }
        self.at(MS, Event::Grant);
        self.at(20 * MS, Event::Chaos);
    }

    pub(crate) fn judge(&self) -> Box<dyn Judge> {
        Box::new(Rounds { record_at: self.swarm.record_at })
    }

    pub(crate) fn options(&self, id: NodeId) -> Options {
        Options {
            boundary_every: self.swarm.boundary_every,
            suspect_ns_max: 600 * MS,
            patience_ns: 150 * MS,
            report_ns: 120 * MS,
            bid_ns: 300 * MS,
            stall_ns: 2_500 * MS,
            bids_for_copies: 3,
            seed: mix(self.seed ^ u64::from(id.0)),
            planted: self.planted,
            ..Options::default()
        }
    }

    pub(crate) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node of this world")
    }

    pub(crate) fn machine(&self, id: NodeId) -> Option<&Machine> {
        self.nodes[&id].machine.as_ref()
    }

    /// A machine that takes part in the run itself, and was not sent on alone.
    pub(crate) fn in_run(&self, id: NodeId) -> Option<&Machine> {
        self.machine(id).filter(|machine| machine.branch() == 0)
    }

    /// What a node's clock says.
    pub(crate) fn local(&self, id: NodeId) -> Time {
        let node = &self.nodes[&id];
        let drift = i128::from(self.now) * i128::from(node.clock_ppm) / 1_000_000;
        let local = i128::from(self.now) + drift + i128::from(node.clock_offset);
        Time(u64::try_from(local.max(0)).expect("a simulation is short"))
    }

    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.serial += 1;
        self.queue.insert((time.max(self.now), self.serial), event);
        assert!(self.queue.len() < 200_000, "{} events wait", self.queue.len());
    }

    /// Lets the world run until a moment.
    pub(crate) fn run_until(&mut self, end: u64) {
        while let Some(((time, serial), event)) = self.queue.pop_first() {
            if time > end {
                self.queue.insert((time, serial), event);
                break;
            }
            self.now = time;
            self.events += 1;
            self.happen(event);
        }
        self.now = end;
    }

    fn note(&mut self, what: u64, node: NodeId) {
        self.trace = mix(self.trace ^ mix(self.now ^ (what << 48) ^ (u64::from(node.0) << 40)));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival { to, from, life, letter } => {
                if self.deferred(to, || Event::Arrival { to, from, life, letter: Arc::clone(&letter) }) {
                    return;
                }
                self.note(1, to);
                let letter = Box::new(Letter::clone(&letter));
                self.tell(to, Input::Message { from, incarnation: life, letter });
            }
            Event::Tick { node, life } => self.on_tick(node, life),
            Event::Work { node, life, generation, job } => {
                if self.current(node, life, generation)
                    && !self.deferred(node, || Event::Work { node, life, generation, job: job.clone() })
                {
                    self.note(3, node);
                    self.work(node, job.clone());
                }
            }
            Event::Stalled { node, life, generation, step, stage } => {
                if self.current(node, life, generation) {
                    self.note(4, node);
                    self.stalled(node, step, stage);
                }
            }
            Event::Copying { node, life, generation, step, stored } => {
                if self.current(node, life, generation) {
                    self.note(5, node);
                    self.copy(node, step, stored);
                }
            }
            Event::Stale { node, life, input } => {
                if self.nodes[&node].life == life && self.nodes[&node].machine.is_some() {
                    self.tell(node, *input);
                }
            }
            Event::Restart { node } => self.restart(node),
            Event::Chaos => self.on_chaos(),
            Event::Disk(event) => self.on_disk(event),
            Event::Grant => self.on_grant(),
        }
    }

    fn current(&self, node: NodeId, life: Incarnation, generation: u64) -> bool {
        let node = &self.nodes[&node];
        node.life == life && node.machine.is_some() && node.driver.generation == generation
    }

    /// Whether a paused node sleeps through this, and gets it when it wakes.
    fn deferred(&mut self, node: NodeId, event: impl FnOnce() -> Event) -> bool {
        let until = self.nodes[&node].paused_until;
        if until > self.now {
            self.at(until, event());
        }
        until > self.now
    }

    fn on_tick(&mut self, node: NodeId, life: Incarnation) {
        if self.nodes[&node].life != life || self.nodes[&node].machine.is_none() {
            return;
        }
        if self.deferred(node, || Event::Tick { node, life }) {
            return;
        }
        self.note(2, node);
        let wait = 8 * MS + self.node(node).chance.below(8 * MS);
        self.at(self.now + wait, Event::Tick { node, life });
        self.report_standing(node);
        self.tend_log(node);
        self.tell(node, Input::Tick);
    }

    fn report_standing(&mut self, node: NodeId) {
        let Some(epoch) = self.machine(node).map(Machine::epoch) else { return };
        let standing = self.standing(node);
        self.tell(node, Input::Standing { epoch, standing });
    }

    fn on_grant(&mut self) {
        self.at(self.now + 200 * MS, Event::Grant);
        let newest = self.checks.committed_max();
        self.granted = (newest + self.swarm.grant_ahead).min(STEPS_MAX).max(self.granted);
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        // The client reaches one of them; the others hear it from each other.
        if let Some(id) = self.chaos.pick(&ids).copied() {
            self.tell(id, Input::Grant { up_to: self.granted });
        }
    }

    /// Hands something to a machine, and does what it answers.
    pub(crate) fn tell(&mut self, id: NodeId, input: Input) {
        let time = self.local(id);
        let Some(machine) = self.node(id).machine.as_mut() else { return };
        let outputs = machine.step(time, input);
        let cut_short = self.crash_within(id, &outputs);
        self.trace = mix(self.trace ^ outputs.len() as u64);
        match cut_short {
            Some(done) => {
                self.perform(id, outputs.into_iter().take(done).collect());
                self.crash(id);
            }
            None => self.perform(id, outputs),
        }
        self.look(id);
    }

    pub(crate) fn perform(&mut self, id: NodeId, outputs: Vec<Output>) {
        for output in outputs {
            self.check_output(id, &output);
            match output {
                Output::Send { to, letter } => self.post(id, to, Arc::new(*letter)),
                output => self.drive(id, output),
            }
        }
    }

    /// A letter goes on its way, or does not.
    fn post(&mut self, from: NodeId, to: NodeId, letter: Arc<Letter>) {
        let life = self.nodes[&from].life;
        if self.chaos.once_in_1000(10) {
            let again = Letter::from_bytes(&letter.to_bytes()).expect("a letter can be read");
            assert_eq!(again, *letter, "a letter is another one when it was read");
        }
        if self.swarm.archives && self.archive.len() < 400 && self.chaos.once_in_1000(60) {
            self.archive.push((to, from, life, Arc::clone(&letter)));
        }
        let (now, swarm, calm) = (self.now, self.swarm.clone(), self.calm);
        let link = self.links.get_mut(&(from, to)).expect("a link of this world");
        if link.cut {
            return;
        }
        let healed = calm && self.checks.core.contains(&from) && self.checks.core.contains(&to);
        if healed {
            let delay = MS / 5 + link.chance.below(MS);
            self.at(now + delay, Event::Arrival { to, from, life, letter });
            return;
        }
        let Some(queued) = self.carry((from, to), &letter) else { return };
        let link = self.links.get_mut(&(from, to)).expect("a link of this world");
        if swarm.bursts && link.chance.once_in_1000(if link.burst { 250 } else { 15 }) {
            link.burst = !link.burst;
        }
        let lost = link.chance.once_in_1000(swarm.loss) || (link.burst && link.chance.once_in_1000(800));
        let copies = 1 + u64::from(link.chance.once_in_1000(swarm.duplicates));
        let mut times = Vec::new();
        for _ in 0..copies {
            let delay = swarm.delay_min + link.chance.exponential(swarm.delay_mean);
            times.push(link.clogged_until.max(now) + queued + delay);
        }
        if swarm.late && link.chance.once_in_1000(20) {
            times.push(now + link.chance.between(300 * MS, 5_000 * MS));
        }
        if !lost {
            for time in times {
                self.at(time, Event::Arrival { to, from, life, letter: Arc::clone(&letter) });
            }
        }
    }

    pub(crate) fn crash(&mut self, id: NodeId) {
        let bidding = self.nodes.values().filter_map(|node| node.machine.as_ref()).any(Machine::is_bidding);
        if bidding {
            self.checks.count("crash during an epoch change");
        }
        if self.nodes[&id].votes_under_way {
            self.checks.count("crash after a vote and before its decision");
        }
        let node = self.node(id);
        node.machine = None;
        node.votes_under_way = false;
        node.driver = Driver { generation: node.driver.generation + 1, ..Driver::default() };
        node.paused_until = 0;
        self.crash_log(id);
    }

    /// A new life, with empty memory.
    pub(crate) fn restart(&mut self, id: NodeId) {
        if self.nodes[&id].machine.is_some() || (self.calm && !self.checks.core.contains(&id)) {
            return;
        }
        let life = Incarnation(self.nodes[&id].life.0 + 1);
        let roster: BTreeSet<NodeId> = self.nodes.keys().copied().collect();
        let (judge, options, time) = (self.judge(), self.options(id), self.local(id));
        let machine = Machine::joining((id, life), self.genesis.clone(), roster, judge, options, time);
        if self.nodes.values().filter_map(|node| node.machine.as_ref()).any(Machine::is_bidding) {
            self.checks.count("restart during an epoch change");
        }
        self.checks.forget(id);
        let node = self.node(id);
        node.life = life;
        node.machine = Some(machine);
        self.reopen_log(id, life.0);
        let now = self.now;
        self.at(now, Event::Tick { node: id, life });
    }

    /// Which output the node dies before, if it dies now.
    fn crash_within(&mut self, id: NodeId, outputs: &[Output]) -> Option<usize> {
        if !self.swarm.crashes || self.calm || outputs.len() < 2 {
            return None;
        }
        let is = |wanted: fn(&Body) -> bool| {
            move |output: &Output| output.letter().is_some_and(|(_, letter)| wanted(&letter.body))
        };
        let decides = outputs.iter().position(is(|body| matches!(body, Body::Decide(_))));
        let begins = outputs.iter().position(is(|body| matches!(body, Body::Begin(_))));
        let leads = self.machine(id)?.config().is_some_and(|config| config.coordinator == id);
        let (at, what, odds) = match (decides, begins) {
            (Some(at), _) if leads => (at, "coordinator crashed between storing a decision and telling it", 8),
            (_, Some(at)) => (at, "crash between the choice of a successor and telling it", 60),
            _ => return None,
        };
        // Now and then one or two hear of it.
        let at = at + self.chaos.below(3) as usize;
        if !self.chaos.once_in_1000(odds) || !self.may_crash(id) {
            return None;
        }
        self.checks.count(what);
        let back = self.chaos.between(50 * MS, 2_000 * MS);
        self.at(self.now + back, Event::Restart { node: id });
        Some(at.min(outputs.len()))
    }
}
