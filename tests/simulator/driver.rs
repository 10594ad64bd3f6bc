//! What a real node does around its machine, in toy form: computes steps, hands over, keeps snapshots and copies.
//!
//! Halos and migrants are put on a board that all members of an epoch read; whoever cannot reach the others waits. A liar changes
//! what it says, or what it has, here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use emmy::{
    audit::Breach,
    coordinator::{Account, Boundary, Config, CopyShare, Decision, Input, Output, Standing},
    ledger::Amounts,
    particle::Names,
    wire::{Epoch, NodeId},
};

use crate::{
    faults::Lie,
    physics::{self, Gains, Particles},
    world::{Event, MS, World},
};

/// Branch, epoch, step, and whether it is about a hand-over after that step.
pub(crate) type BoardKey = (u64, Epoch, u64, bool);

/// What the members of an epoch have posted for a step.
pub(crate) type Board = BTreeMap<NodeId, Particles>;

/// Boards that are kept of each branch.
const BOARDS_MAX: usize = 64;

/// Work that takes time.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    /// Restore a partition from the copy.
    Restore,
    /// Compute a step.
    Compute { step: u64 },
    /// Hand over after a step, and copy.
    HandOver { step: u64, boundary: Boundary, buddy: Option<NodeId> },
}

/// A node's state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Driver {
    /// Counts what makes work void: events of older ones are dropped.
    pub(crate) generation: u64,
    pub(crate) config: Option<Box<Config>>,
    /// State after each step: committed, and proposed ones after it.
    pub(crate) states: BTreeMap<u64, Particles>,
    /// Gains of the last hand-over, until they are said.
    pub(crate) handed: Gains,
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) posted: bool,
    pub(crate) snapshots: BTreeMap<u64, Particles>,
    pub(crate) copies: BTreeMap<(NodeId, u64), Particles>,
    /// The copy that is on its way: step, buddy, what to say when it is there.
    pub(crate) copying: Option<(Option<NodeId>, CopyShare, Particles)>,
    /// A step in which this node has found something.
    pub(crate) refused: BTreeSet<u64>,
    pub(crate) lie: Option<Lie>,
    /// Counts work that was done.
    pub(crate) moved: u64,
}

impl World {
    /// Does what a machine asks for, letters aside.
    pub(crate) fn drive(&mut self, id: NodeId, output: Output) {
        match output {
            Output::Start(config) => self.begin(id, config),
            Output::Compute { step } => self.enqueue(id, Job::Compute { step }),
            Output::Commit(decision) => self.promote(id, decision.step, Some(&decision)),
            Output::Again { step } => self.promote(id, step, None),
            Output::Undo(decision) => self.undo(id, decision.step),
            Output::Boundary { step, boundary, buddy } => self.enqueue(id, Job::HandOver { step, boundary, buddy }),
            Output::Halt { step, stage } => {
                let node = self.node(id);
                let wait = node.chance.between(MS, 12 * MS);
                let (life, generation) = (node.life, node.driver.generation);
                self.at(self.now + wait, Event::Stalled { node: id, life, generation, step, stage });
            }
            Output::DropCopiesBefore { step } => {
                let driver = &mut self.node(id).driver;
                driver.snapshots.retain(|kept, _| *kept >= step);
                driver.copies.retain(|(_, kept), _| *kept >= step);
            }
            Output::Expelled => {
                self.checks.count("left out while alive");
                self.void(id);
            }
            Output::Record(event) => self.write_down(id, event),
            Output::Send { .. } | Output::Stop => {}
        }
    }

    /// What was under way is void. Now and then its result comes all the same, with the epoch that it was for.
    fn void(&mut self, id: NodeId) {
        let stale = self.swarm.late && self.chaos.once_in_1000(300);
        let node = self.node(id);
        let life = node.life;
        if let (true, Some(config), Some((step, state))) =
            (stale, &node.driver.config, node.driver.states.last_key_value())
        {
            let share = physics::share(state, &Gains::new(), 1);
            let input = Input::Proposed { epoch: config.epoch, step: *step + 1, share };
            let event = Event::Stale { node: id, life, input: Box::new(input) };
            self.checks.count("late result of an older epoch");
            self.at(self.now + 5 * MS, event);
        }
        let driver = &mut self.node(id).driver;
        driver.generation += 1;
        driver.jobs.clear();
        driver.posted = false;
        driver.handed.clear();
        driver.copying = None;
        driver.refused.clear();
        driver.states.clear();
    }

    fn begin(&mut self, id: NodeId, config: Box<Config>) {
        self.void(id);
        let driver = &mut self.node(id).driver;
        driver.snapshots.retain(|step, _| *step == config.copy.step);
        driver.copies.retain(|(_, step), _| *step == config.copy.step);
        driver.config = Some(config);
        self.enqueue(id, Job::Restore);
    }

    fn enqueue(&mut self, id: NodeId, job: Job) {
        let driver = &mut self.node(id).driver;
        driver.jobs.push_back(job);
        assert!(driver.jobs.len() <= 4, "{:?}", driver.jobs);
        if driver.jobs.len() == 1 {
            self.start_job(id);
        }
    }

    fn start_job(&mut self, id: NodeId) {
        let mean = self.swarm.work_mean;
        let node = self.node(id);
        let Some(job) = node.driver.jobs.front().cloned() else { return };
        node.driver.posted = false;
        let wait = MS + node.chance.exponential(mean);
        let (life, generation) = (node.life, node.driver.generation);
        self.post_to_board(id, &job);
        self.at(self.now + wait, Event::Work { node: id, life, generation, job });
    }

    fn board_key(&self, id: NodeId, step: u64, hand_over: bool) -> Option<BoardKey> {
        let config = self.nodes[&id].driver.config.as_ref()?;
        Some((config.branch, config.epoch, step, hand_over))
    }

    /// What the others need of this node for a job.
    fn post_to_board(&mut self, id: NodeId, job: &Job) {
        let (step, state_step, hand_over) = match job {
            Job::Restore => return,
            Job::Compute { step } => (*step, *step - 1, false),
            Job::HandOver { step, .. } => (*step, *step, true),
        };
        let Some(key) = self.board_key(id, step, hand_over) else { return };
        let Some(state) = self.nodes[&id].driver.states.get(&state_step).cloned() else {
            panic!("{id}: step {step} begins, and the state after {state_step} is not there");
        };
        let board = self.boards.entry(key).or_default();
        board.insert(id, state);
        // The oldest of the same branch goes.
        let branch = key.0;
        let oldest = self.boards.keys().find(|key| key.0 == branch).copied();
        if let Some(oldest) = oldest.filter(|_| self.boards.keys().filter(|key| key.0 == branch).count() > BOARDS_MAX) {
            self.boards.remove(&oldest);
        }
    }

    /// Whether all that a job needs has come: everybody has posted, and can be reached.
    fn inputs(&self, id: NodeId, step: u64, hand_over: bool) -> Option<Board> {
        let config = self.nodes[&id].driver.config.as_ref()?;
        let board = self.boards.get(&self.board_key(id, step, hand_over)?)?;
        let others = config.nodes().filter(|node| *node != id);
        let reached = |other: NodeId| self.reaches(other, id) && !self.keeps_back(other);
        let complete = config.nodes().all(|node| board.contains_key(&node));
        (complete && others.into_iter().all(reached)).then(|| board.clone())
    }

    fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        !self.links[&(from, to)].cut && !self.links[&(to, from)].cut
    }

    fn keeps_back(&self, id: NodeId) -> bool {
        self.nodes[&id].driver.lie == Some(Lie::KeepsBack)
    }

    /// How far a node is, and from whom it has nothing yet that it needs.
    pub(crate) fn standing(&self, id: NodeId) -> Standing {
        let driver = &self.nodes[&id].driver;
        let rest = Standing { progress: driver.moved, ..Standing::default() };
        let (step, hand_over) = match driver.jobs.front() {
            Some(Job::Compute { step }) => (*step, false),
            Some(Job::HandOver { step, .. }) => (*step, true),
            Some(Job::Restore) | None => return rest,
        };
        let Some((config, key)) = driver.config.as_ref().zip(self.board_key(id, step, hand_over)) else {
            return rest;
        };
        let there = |other: NodeId| {
            let posted = self.boards.get(&key).is_some_and(|board| board.contains_key(&other));
            posted && self.reaches(other, id) && !self.keeps_back(other)
        };
        let waits_for = config.nodes().filter(|other| *other != id && !there(*other)).collect();
        Standing { at: (step, u16::from(hand_over)), waits_for, ..rest }
    }

    /// Whether this node got something that it cannot use, or says so.
    fn offended(&mut self, id: NodeId, job: &Job) -> bool {
        let step = match job {
            Job::Restore => return false,
            Job::Compute { step } => *step,
            Job::HandOver { step, .. } => *step,
        };
        let Some(config) = self.nodes[&id].driver.config.clone() else { return false };
        let liar = |node: &NodeId| *node != id && self.nodes[node].driver.lie == Some(Lie::Garbage);
        let sent = self.inputs(id, step, matches!(job, Job::HandOver { .. })).is_some();
        let spoilt = config.nodes().find(liar).filter(|_| sent);
        let accused = if self.nodes[&id].driver.lie == Some(Lie::Accuses) {
            self.lied(id, Lie::Accuses);
            config.nodes().find(|node| *node != id)
        } else {
            spoilt
        };
        let Some(of) = accused else { return false };
        if spoilt == Some(of) {
            self.lied(of, Lie::Garbage);
        }
        self.node(id).driver.generation += 1;
        self.node(id).driver.jobs.clear();
        self.checks.count("somebody was accused");
        self.tell(id, Input::Offended { epoch: config.epoch, of, what: "it cannot be read".into() });
        true
    }

    /// A job may be finished.
    pub(crate) fn work(&mut self, id: NodeId, job: Job) {
        if self.offended(id, &job) {
            return;
        }
        let done = match &job {
            Job::Restore => self.restore(id),
            Job::Compute { step } => self.compute(id, *step),
            Job::HandOver { step, boundary, buddy } => self.hand_over(id, *step, boundary, *buddy),
        };
        let node = self.node(id);
        let (life, generation) = (node.life, node.driver.generation);
        match done {
            Some(input) => {
                node.driver.moved += 1;
                node.driver.jobs.pop_front();
                self.start_job(id);
                if let Some(input) = input {
                    self.tell(id, input);
                }
            }
            None => self.at(self.now + 3 * MS, Event::Work { node: id, life, generation, job }),
        }
    }

    fn restore(&mut self, id: NodeId) -> Option<Option<Input>> {
        let config = self.nodes[&id].driver.config.clone()?;
        let driver = &self.nodes[&id].driver;
        let mut state = Particles::new();
        let step = config.restart.step;
        for (owner, _) in config.adoption.iter().filter(|(_, adopter)| **adopter == id) {
            let part = if step == 0 {
                Some(&self.partitions[owner])
            } else if *owner == id && driver.snapshots.contains_key(&step) {
                driver.snapshots.get(&step)
            } else {
                driver.copies.get(&(*owner, step))
            };
            state.extend(part.unwrap_or_else(|| panic!("{id}: no copy of {owner} at {step}")));
        }
        state.sort_unstable();
        let share = physics::share(&state, &Gains::new(), 1);
        self.node(id).driver.states = BTreeMap::from([(step, state)]);
        Some(Some(Input::Proposed { epoch: config.epoch, step, share }))
    }

    fn compute(&mut self, id: NodeId, step: u64) -> Option<Option<Input>> {
        let epoch = self.nodes[&id].driver.config.as_ref()?.epoch;
        let all = self.inputs(id, step, false)?;
        if let Some(first) = self.swarm.refusals.iter().filter(|refusal| refusal.step == step).map(|r| r.stage).min() {
            return Some(self.refuse(id, epoch, step, first));
        }
        let (mut state, mut gains) = physics::advance(id, &all, step);
        let handed = std::mem::take(&mut self.node(id).driver.handed);
        physics::add_gains(&mut gains, handed);
        let said = self.lie_about_step(id, &mut state, &mut gains);
        let work_ns = self.node(id).chance.below(1000);
        let mut share = physics::share(&state, &gains, work_ns);
        share.held = share.held.plus(said);
        let driver = &mut self.node(id).driver;
        driver.states.insert(step, state);
        self.node(id).votes_under_way = true;
        self.checks.proposed(epoch, step, id);
        Some(Some(Input::Proposed { epoch, step, share }))
    }

    /// A step that is bad physics: whoever owns the particle finds it, unless somebody found something in an earlier stage.
    fn refuse(&mut self, id: NodeId, epoch: Epoch, step: u64, first: u16) -> Option<Input> {
        let own = &self.nodes[&id].driver.states[&(step - 1)];
        let refusals = self.swarm.refusals.iter().filter(|refusal| refusal.step == step && refusal.stage == first);
        let mine = refusals.filter(|refusal| own.iter().any(|particle| particle.id == refusal.particle)).min()?.clone();
        self.node(id).driver.refused.insert(step);
        let order = (u64::from(mine.particle), 0);
        let breach = Breach::out_of_range("position", order.0, &Names::default());
        Some(Input::Violated { epoch, step, stage: first, order, breach })
    }

    /// The machine was told to find out how far this node got in a step that somebody refused.
    pub(crate) fn stalled(&mut self, id: NodeId, step: u64, stage: u16) {
        let driver = &self.nodes[&id].driver;
        let Some(config) = &driver.config else { return };
        let epoch = config.epoch;
        let computing = driver.jobs.iter().any(|job| matches!(job, Job::Compute { step: now } if *now == step));
        let (life, generation) = (self.nodes[&id].life, driver.generation);
        if driver.refused.contains(&step) {
            return;
        }
        if computing {
            // Not there yet: it will either refuse by itself, or be asked again.
            self.at(self.now + 5 * MS, Event::Stalled { node: id, life, generation, step, stage });
        } else {
            self.tell(id, Input::Held { epoch, step, stage });
        }
    }

    fn hand_over(
        &mut self,
        id: NodeId,
        step: u64,
        boundary: &Boundary,
        buddy: Option<NodeId>,
    ) -> Option<Option<Input>> {
        let all = self.inputs(id, step, true)?;
        let (mut state, mut gains) = physics::hand_over(id, &all, &boundary.cuts);
        self.lie_about_migrants(id, &all, &mut state, &mut gains);
        if boundary.copy {
            let (kept, sent) = self.corrupted_by_liar(id, step, &state);
            // It is the buddy who recounts what it got.
            let share = physics::share(&sent, &gains, 0);
            let complete = self.machine(id).map_or(0, |machine| machine.copy().step);
            let driver = &mut self.node(id).driver;
            driver.snapshots.retain(|step, _| *step == complete);
            driver.snapshots.insert(step, kept);
            driver.copying = Some((buddy, CopyShare { step, share }, sent));
            let (life, generation) = (self.nodes[&id].life, self.nodes[&id].driver.generation);
            self.at(self.now + 2 * MS, Event::Copying { node: id, life, generation, step, stored: false });
        }
        let driver = &mut self.node(id).driver;
        driver.handed = gains;
        driver.states.insert(step, state);
        Some(None)
    }

    /// A copy goes to the buddy, and then its receipt comes back; both take as long as the link is cut.
    pub(crate) fn copy(&mut self, id: NodeId, step: u64, stored: bool) {
        let Some((buddy, copy, sent)) = self.nodes[&id].driver.copying.clone() else { return };
        let Some(epoch) = self.nodes[&id].driver.config.as_ref().map(|config| config.epoch) else { return };
        let (life, generation) = (self.nodes[&id].life, self.nodes[&id].driver.generation);
        let reached = buddy.is_none_or(|buddy| {
            let (out, back) = (&self.links[&(id, buddy)], &self.links[&(buddy, id)]);
            let same_life = self.nodes[&id].driver.config.as_ref().and_then(|c| c.incarnation(buddy));
            let there = self.nodes[&buddy].machine.is_some() && Some(self.nodes[&buddy].life) == same_life;
            !out.cut && !back.cut && there && self.nodes[&buddy].paused_until <= self.now
        });
        if copy.step != step || !reached {
            self.at(self.now + 10 * MS, Event::Copying { node: id, life, generation, step, stored });
            return;
        }
        if stored || buddy.is_none() {
            self.node(id).driver.copying = None;
            self.tell(id, Input::Copied { epoch, copy });
            return;
        }
        if let Some(buddy) = buddy {
            self.node(buddy).driver.copies.insert((id, step), sent);
            self.tell(buddy, Input::Stored { owner: id, step });
        }
        let wait = self.node(id).chance.between(MS, 20 * MS);
        self.at(self.now + wait, Event::Copying { node: id, life, generation, step, stored: true });
    }

    /// A step is final: the states before it are not needed any more.
    fn promote(&mut self, id: NodeId, step: u64, decision: Option<&Decision>) {
        let epoch = self.nodes[&id].driver.config.as_ref().map(|config| config.epoch);
        let Some(state) = self.nodes[&id].driver.states.get(&step).cloned() else {
            panic!("{id}: step {step} counts, and there is no state of it");
        };
        let config = self.nodes[&id].driver.config.clone().expect("only members commit");
        self.checks.owned(&config, epoch.expect("as above"), step, id, &state, decision);
        let node = self.node(id);
        node.votes_under_way = false;
        node.driver.states.retain(|kept, _| *kept >= step);
    }

    fn undo(&mut self, id: NodeId, step: u64) {
        let driver = &mut self.node(id).driver;
        driver.generation += 1;
        driver.jobs.clear();
        driver.copying = None;
        driver.states.retain(|kept, _| *kept < step);
        assert!(driver.states.contains_key(&(step - 1)), "{id}: the state before {step} is gone");
    }

    // -------------------------------------------------------------------------------------------------- lies

    /// A liar changes its state, its gains, or what it says that it holds.
    fn lie_about_step(&mut self, id: NodeId, state: &mut Particles, gains: &mut Gains) -> Amounts {
        let nothing = Amounts::default();
        let one = Amounts { momentum: [1, 0, 0], ..nothing };
        let Some(lie) = self.nodes[&id].driver.lie else { return nothing };
        let Some(particle) = state.first_mut() else { return nothing };
        let said = match lie {
            Lie::Momentum => {
                particle.momentum += 1;
                nothing
            }
            Lie::WrongSums => one,
            Lie::Pair | Lie::PairOnce => {
                let peer = gains.iter_mut().find(|(account, _)| matches!(account, Account::Peer(_)));
                let Some((_, gained)) = peer else { return nothing };
                *gained = gained.plus(one);
                particle.momentum += 1;
                nothing
            }
            Lie::LosesMigrant | Lie::DoublesMigrant | Lie::Snapshot => return nothing,
            Lie::Garbage | Lie::Accuses | Lie::KeepsBack => return nothing,
        };
        self.lied(id, lie);
        said
    }

    pub(crate) fn lied(&mut self, id: NodeId, lie: Lie) {
        self.checks.liar(id, lie);
        if !lie.lasts() {
            self.node(id).driver.lie = None;
        }
    }

    fn lie_about_migrants(&mut self, id: NodeId, all: &Board, state: &mut Particles, gains: &mut Gains) {
        let _ = gains;
        match self.nodes[&id].driver.lie {
            Some(Lie::LosesMigrant) => {
                let own = &all[&id];
                let Some(at) = state.iter().position(|particle| !own.contains(particle)) else { return };
                state.remove(at);
                self.lied(id, Lie::LosesMigrant);
            }
            Some(Lie::DoublesMigrant) => {
                let Some(gone) = all[&id].iter().find(|particle| !state.contains(particle)).copied() else { return };
                state.push(gone);
                state.sort_unstable();
                self.lied(id, Lie::DoublesMigrant);
            }
            _ => {}
        }
    }

    /// A snapshot whose bits are wrong, in the node's own memory or in what the buddy gets.
    fn corrupted_by_liar(&mut self, id: NodeId, step: u64, state: &Particles) -> (Particles, Particles) {
        let (mut kept, mut sent) = (state.clone(), state.clone());
        let wrong = if step.is_multiple_of(3) { &mut sent } else { &mut kept };
        if self.nodes[&id].driver.lie == Some(Lie::Snapshot)
            && let Some(particle) = wrong.first_mut()
        {
            particle.place += 1;
            self.lied(id, Lie::Snapshot);
        }
        (kept, sent)
    }
}
