//! What goes wrong: which classes of faults a seed has, and when each strikes.

use std::{collections::BTreeSet, sync::Arc};

use emmy::{
    coordinator::{Body, Config, Decision, Input, Letter, Machine, Vote},
    wire::NodeId,
};

use crate::{
    chance::Chance,
    wear::Wear,
    world::{Event, MS, World},
};

/// What a liar does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lie {
    /// Changes a momentum, and books nothing.
    Momentum,
    /// Says that it holds more than it does.
    WrongSums,
    /// Books a gain that its peer does not know of, every time.
    Pair,
    /// The same, once.
    PairOnce,
    /// Loses a particle that was handed to it.
    LosesMigrant,
    /// Keeps a particle that it handed on.
    DoublesMigrant,
    /// Keeps and sends a snapshot with other bits.
    Snapshot,
    /// Sends what nobody can use, every time.
    Garbage,
    /// Says that others do.
    Accuses,
    /// Does not send what others wait for, every time.
    KeepsBack,
}

const LIES: [Lie; 10] = [
    Lie::Momentum,
    Lie::WrongSums,
    Lie::Pair,
    Lie::PairOnce,
    Lie::LosesMigrant,
    Lie::DoublesMigrant,
    Lie::Snapshot,
    Lie::Garbage,
    Lie::Accuses,
    Lie::KeepsBack,
];

impl Lie {
    /// Whether it is told again and again.
    pub(crate) fn lasts(self) -> bool {
        matches!(self, Self::Pair | Self::Garbage | Self::Accuses | Self::KeepsBack)
    }
}

/// A step that is bad physics, whoever computes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refusal {
    pub(crate) step: u64,
    pub(crate) stage: u16,
    pub(crate) particle: u32,
}

/// The faults of a seed. Whole classes are switched off, so that rare ones dominate now and then.
#[derive(Clone, Debug)]
pub(crate) struct Swarm {
    pub(crate) nodes: u16,
    pub(crate) boundary_every: u64,
    pub(crate) grant_ahead: u64,
    pub(crate) delay_min: u64,
    pub(crate) delay_mean: u64,
    pub(crate) work_mean: u64,
    /// Thousandths.
    pub(crate) loss: u64,
    pub(crate) duplicates: u64,
    pub(crate) bursts: bool,
    /// Very late duplicates, and results of work that was dropped.
    pub(crate) late: bool,
    pub(crate) clogs: bool,
    pub(crate) cuts: bool,
    pub(crate) partitions: bool,
    pub(crate) crashes: bool,
    pub(crate) pauses: bool,
    pub(crate) clocks: bool,
    /// Old letters come again, and decisions are forged.
    pub(crate) archives: bool,
    /// Operators send nodes on alone.
    pub(crate) alone: bool,
    pub(crate) liars: Option<Lie>,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) record_at: Option<u64>,
    /// From one fault to the next.
    pub(crate) chaos_ns: u64,
    /// How long the safety phase is.
    pub(crate) safety_ns: u64,
    /// Disks, and what letters suffer on their way.
    pub(crate) wear: Wear,
}

impl Swarm {
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 3);
        let mut has = |thousandths| chance.once_in_1000(thousandths);
        let (bursts, late, clogs, cuts) = (has(300), has(400), has(300), has(400));
        let (partitions, crashes, pauses, clocks) = (has(400), has(600), has(300), has(400));
        let (archives, lies, refuses, records, lossy, doubles) =
            (has(400), has(350), has(150), has(200), has(600), has(500));
        let alone = has(60);
        let lie = *chance.pick(&LIES).expect("there are lies");
        let refusal_step = chance.between(5, 60);
        let stage = chance.between(0, 3) as u16;
        let refusal = |particle| Refusal { step: refusal_step, stage, particle };
        let refusals = (0..chance.between(1, 4)).map(|_| refusal(chance.between(1, 6) as u32)).collect();
        Self {
            nodes: chance.between(1, 7) as u16,
            boundary_every: chance.between(2, 20),
            grant_ahead: chance.between(3, 60),
            delay_min: chance.between(MS / 10, 3 * MS),
            delay_mean: chance.between(MS / 10, 12 * MS),
            work_mean: chance.between(MS, 12 * MS),
            loss: if lossy { chance.below(300) } else { 0 },
            duplicates: if doubles { chance.below(500) } else { 0 },
            bursts,
            late,
            clogs,
            cuts,
            partitions,
            crashes,
            pauses,
            clocks,
            archives,
            alone,
            liars: lies.then_some(lie),
            // A particle that a liar lost is refused by nobody.
            refusals: if refuses && !lies { refusals } else { Vec::new() },
            record_at: records.then(|| chance.between(1, 80)),
            chaos_ns: chance.between(20 * MS, 250 * MS),
            safety_ns: chance.between(1_500 * MS, 6_000 * MS),
            wear: Wear::of(seed),
        }
    }
}

impl World {
    /// Something breaks, or is mended.
    pub(crate) fn on_chaos(&mut self) {
        if self.calm {
            return;
        }
        let wait = self.chaos.between(self.swarm.chaos_ns / 4, self.swarm.chaos_ns);
        self.at(self.now + wait, Event::Chaos);
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let id = *self.chaos.pick(&ids).expect("there are nodes");
        let other = *self.chaos.pick(&ids).expect("there are nodes");
        match self.chaos.below(12) {
            6 => self.links.values_mut().for_each(|link| link.cut = false),
            0 if self.swarm.crashes => self.crash_and_restart(id),
            1 if self.swarm.pauses => {
                let until = self.now + self.chaos.between(20 * MS, 1_500 * MS);
                self.node(id).paused_until = until;
            }
            2 if self.swarm.clocks => {
                let jump = self.chaos.below(2_000 * MS) as i64 - 500 * MS as i64;
                self.node(id).clock_offset += jump;
            }
            3 if self.swarm.cuts && id != other => self.cut(id, other, true),
            4 if self.swarm.cuts && id != other => {
                self.cut(id, other, true);
                self.cut(other, id, true);
            }
            5 if self.swarm.partitions => self.part(&ids),
            8 if self.swarm.clogs && id != other => {
                let until = self.now + self.chaos.between(10 * MS, 1_000 * MS);
                self.links.get_mut(&(id, other)).expect("a link").clogged_until = until;
            }
            9 if self.swarm.archives => self.replay(),
            10 if self.swarm.archives => self.forge(id, other),
            7 if self.swarm.alone && self.may_crash(id) => self.go_on_alone(id),
            11 if self.swarm.liars.is_some() && self.now > 200 * MS => self.set_liar(id),
            _ => {}
        }
    }

    fn cut(&mut self, from: NodeId, to: NodeId, cut: bool) {
        self.links.get_mut(&(from, to)).expect("a link").cut = cut;
    }

    /// Two sides that do not hear each other, or of which only one hears the other.
    fn part(&mut self, ids: &[NodeId]) {
        let lone = self.chaos.once_in_1000(400);
        let first = *self.chaos.pick(ids).expect("there are nodes");
        let side: BTreeSet<NodeId> = if lone {
            BTreeSet::from([first])
        } else {
            ids.iter().copied().filter(|_| self.chaos.once_in_1000(500)).collect()
        };
        let one_way = self.chaos.once_in_1000(250);
        for ((from, to), link) in &mut self.links {
            let out = side.contains(from) && !side.contains(to);
            let back = !side.contains(from) && side.contains(to);
            link.cut = out || (back && !one_way);
        }
    }

    fn crash_and_restart(&mut self, id: NodeId) {
        if !self.may_crash(id) {
            return;
        }
        self.crash(id);
        if self.chaos.once_in_1000(800) {
            let back = self.chaos.between(10 * MS, 2_500 * MS);
            self.at(self.now + back, Event::Restart { node: id });
        }
    }

    /// The configurations whose replicas still matter: the newest that anybody has begun, and the ones before it until a majority of
    /// the replicas of a newer one have begun it.
    pub(crate) fn configs_that_matter(&self) -> Vec<Config> {
        let mut found = Vec::new();
        for (epoch, config) in self.checks.configs.iter().rev() {
            let begun = |node: &&NodeId| self.in_run(**node).is_some_and(|machine| machine.epoch() >= *epoch);
            let settled = config.replicas.iter().filter(begun).count() >= config.majority();
            found.push(config.clone());
            if settled {
                break;
            }
        }
        found
    }

    fn lives_on(&self, config: &Config, node: NodeId) -> bool {
        // Who was left out by a later epoch serves this one no more.
        let serves = |machine: &Machine| machine.config().is_some() || machine.epoch() < config.epoch;
        self.in_run(node).is_some_and(serves) && config.incarnation(node) == Some(self.nodes[&node].life)
    }

    /// Whether the core can go on: it has the newest configuration, or the one before it, and a majority of its replicas.
    pub(crate) fn core_can_go_on(&self) -> bool {
        let matter = self.configs_that_matter();
        let can = |config: &Config| {
            let healed = |node: &NodeId| self.checks.core.contains(node) && self.lives_on(config, *node);
            let majority = config.replicas.iter().filter(|node| healed(node)).count() >= config.majority();
            let held = config
                .nodes()
                .any(|node| healed(&node) && self.in_run(node).is_some_and(|machine| machine.epoch() == config.epoch));
            majority && held
        };
        matter.iter().any(can)
    }

    /// Replicas have no disk: more than F of an epoch may not die, or nobody could go on.
    pub(crate) fn may_crash(&self, id: NodeId) -> bool {
        self.machine(id).is_some()
            && self.configs_that_matter().iter().all(|config| {
                let alive = config.replicas.iter().filter(|node| **node != id && self.lives_on(config, **node));
                alive.count() >= config.majority()
            })
    }

    /// An old letter comes again.
    fn replay(&mut self) {
        let at = self.chaos.below(self.archive.len().max(1) as u64) as usize;
        let Some((to, from, life, letter)) = self.archive.get(at).cloned() else { return };
        self.checks.count("an old letter came again");
        self.at(self.now + MS, Event::Arrival { to, from, life, letter });
    }

    /// Somebody who is no coordinator writes a decision; or votes again with an old vote under a new step.
    fn forge(&mut self, from: NodeId, to: NodeId) {
        let Some(machine) = self.machine(to) else { return };
        let Some(config) = machine.config().cloned() else { return };
        if from == to || config.coordinator == from || !self.lives_on(&config, from) {
            return;
        }
        let head = machine.head();
        let old_vote = self.archive.iter().find_map(|(_, sender, _, letter)| match &letter.body {
            Body::Vote { step, vote: vote @ Vote::Yes(_) } if *sender == from && letter.epoch == config.epoch => {
                Some((*step, vote.clone()))
            }
            _ => None,
        });
        let body = match old_vote {
            Some((step, vote)) if config.coordinator == to => Body::Vote { step, vote },
            _ => Body::Decide(Box::new(forged(&config, head))),
        };
        self.checks.count(if matches!(body, Body::Decide(_)) {
            "a decision was forged"
        } else {
            "an old vote came again"
        });
        let letter = Letter { branch: config.branch, epoch: config.epoch, to: None, body };
        let incarnation = self.nodes[&from].life;
        let event = Event::Arrival { to, from, life: incarnation, letter: Arc::new(letter) };
        self.at(self.now + MS, event);
    }

    fn set_liar(&mut self, id: NodeId) {
        let Some(lie) = self.swarm.liars else { return };
        // One liar: with several, an honest pair may be named for both.
        if self.checks.may_lie(id) && self.machine(id).is_some() {
            self.node(id).driver.lie = Some(lie);
            if lie.lasts() {
                self.lied(id, lie);
            }
        }
    }

    /// Ends the safety phase: a core is healed, and everything else stays as broken as it is.
    pub(crate) fn heal_a_core(&mut self) {
        self.calm = true;
        let matter = self.configs_that_matter();
        let mut core: BTreeSet<NodeId> = BTreeSet::new();
        for config in &matter {
            core.extend(config.replicas.iter().copied().filter(|node| self.lives_on(config, *node)));
        }
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in &ids {
            if self.in_run(*id).is_some() && self.chaos.once_in_1000(600) {
                core.insert(*id);
            }
        }
        for id in &ids {
            if core.contains(id) {
                self.node(*id).paused_until = 0;
            } else if self.chaos.once_in_1000(500) {
                self.node(*id).machine = None;
            }
        }
        for (from, to) in self.links.keys().copied().collect::<Vec<_>>() {
            let inside = core.contains(&from) && core.contains(&to);
            let cut = !inside && self.chaos.once_in_1000(600);
            let link = self.links.get_mut(&(from, to)).expect("a link");
            link.cut = cut;
            link.burst = false;
            link.clogged_until = 0;
        }
        // A node outside that is reached by the whole core is one of it.
        self.checks.core = core;
    }
}

/// A decision that commits the next step with whatever.
fn forged(config: &Config, head: emmy::coordinator::Head) -> Decision {
    Decision {
        epoch: config.epoch,
        index: head.index + 1,
        step: head.step + 1,
        verdict: emmy::coordinator::Verdict::Commit,
        totals: emmy::coordinator::Totals { root: 42, ..Default::default() },
        holdings: Vec::new(),
        next_boundary: head.step + 3,
        boundary: None,
        copy: None,
        notes: vec![(head.step + 1) as u8],
        config: config.hash(),
        previous: head.hash,
    }
}

impl World {
    /// Lets a machine's operator send it on alone.
    pub(crate) fn go_on_alone(&mut self, id: NodeId) {
        self.tell(id, Input::GoOnAlone);
    }
}
