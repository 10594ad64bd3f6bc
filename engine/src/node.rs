//! The driver: one world with the particles of one partition, and the passes that move them.
//!
//! A node is a library user's handle on a run. It never blocks, writes nothing and knows no files; `cli` decides when to look.
//! How steps are grouped into passes never shows in a bit of the state.

use bevy_ecs::{
    prelude::*,
    schedule::{IntoScheduleConfigs, ScheduleBuildError},
    system::ScheduleSystem,
};

use crate::{
    advance::{Impulse, Pass, Plan, Proposal, propose},
    audit::{BreachReport, Centre, Drifts, Recount, Rules, Verdict},
    backend::{
        Backend,
        cpu::Cpu,
        gpu::{Gpu, error::GpuError},
    },
    commit::{self, Breaches, Finding},
    force::Law,
    integrator::Splitting,
    ledger::{Amounts, Ledger, UNEXPLAINED},
    metrics::{Phases, Work},
    particle::{self, Mass, Momentum, Names, Particle, ParticleId, Position, Radius, WorkingSet},
    plugins,
    quanta::Quanta,
    residence::{ANCHOR_STEPS, Anchor, OnLoss, Residence},
    snapshot::root::StateRoot,
    step::{Clock, Step},
};

/// Everything that determines a run from here on, backend aside.
#[derive(Clone, Debug)]
pub struct State {
    /// The particles, in any order.
    pub particles: Vec<Particle>,
    /// Their names.
    pub names: Names,
    /// Sizes of the integer units.
    pub quanta: Quanta,
    /// The law of gravity.
    pub law: Law,
    /// How they move.
    pub splitting: &'static Splitting,
    /// Where the run stands.
    pub clock: Clock,
    /// What is checked.
    pub rules: Rules,
    /// The book and the record so far; `None` at the start of a run.
    pub history: Option<History>,
}

/// What a run has behind it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct History {
    /// The book.
    pub ledger: Ledger,
    /// The record of what may drift.
    pub drifts: Drifts,
    /// Breaches.
    pub breaches: Vec<BreachReport>,
}

/// One world and its driver.
#[derive(Debug)]
pub struct Node {
    world: World,
    splitting: &'static Splitting,
}

impl Node {
    /// A node with this state. A device takes part if it was made for the contract of the state; if it fails, now or later, the
    /// CPU goes on alone, and [`Node::fell_back`] says why.
    ///
    /// # Panics
    /// If the device was made for another contract.
    #[must_use]
    pub fn new(state: State, backend: impl Into<Backend>) -> Self {
        let Backend { cpu, gpu } = backend.into();
        let mut world = World::new();
        world.add_schedule(plugins::step_schedule());
        world.spawn_batch(state.particles.into_iter().map(Particle::bundle));
        world.insert_resource(cpu);
        if let Some(gpu) = gpu {
            assert_eq!(gpu.contract(), state.law.contract, "the shaders of the device are those of another contract");
            world.insert_resource(gpu);
        }
        world.insert_resource(state.names);
        world.insert_resource(state.quanta);
        world.insert_resource(state.law);
        world.insert_resource(state.clock);
        world.insert_resource(state.rules);
        world.init_resource::<WorkingSet>();
        world.init_resource::<Impulse>();
        world.init_resource::<Pass>();
        world.init_resource::<Proposal>();
        world.init_resource::<Finding>();
        world.init_resource::<Verdict>();
        world.init_resource::<Breaches>();
        world.init_resource::<Work>();
        world.init_resource::<Phases>();
        world.init_resource::<Residence>();
        let mut node = Self { world, splitting: state.splitting };
        node.plan();
        match state.history {
            Some(history) => {
                node.world.insert_resource(history.ledger);
                node.world.insert_resource(history.drifts);
                node.world.resource_mut::<Breaches>().reports = history.breaches;
            }
            None => node.open_books(),
        }
        node
    }

    /// Adds systems of an extension: see [`plugins::extend`].
    ///
    /// # Errors
    /// If two systems touch the same data and have no order.
    pub fn extend<M>(
        &mut self,
        systems: impl IntoScheduleConfigs<ScheduleSystem, M>,
    ) -> Result<(), ScheduleBuildError> {
        self.look();
        plugins::extend(&mut self.world, systems)?;
        self.plan();
        Ok(())
    }

    /// Takes up to `steps` steps and returns how many were committed: fewer after a breach that stops the run, and fewer
    /// backwards when the start is reached.
    pub fn advance(&mut self, steps: u64) -> u64 {
        let clock = self.clock();
        // Before the start there is nothing to go back to.
        let steps = if clock.backwards { steps.min(clock.step) } else { steps };
        let mut committed = 0;
        while committed < steps && !self.stopped() && !self.stands_still() {
            let pass = self.next_pass(steps - committed);
            self.world.insert_resource(pass);
            self.world.run_schedule(Step);
            if let Some(fault) = self.world.resource_mut::<Residence>().fault.take() {
                self.lose_device(fault);
            }
            // A run that stands still may stand before the step that it was asked to go on from.
            let now = self.clock().step;
            committed = if clock.backwards { clock.step.saturating_sub(now) } else { now.saturating_sub(clock.step) };
            if self.world.resource::<Residence>().ahead(self.clock()) >= self.anchor_steps() {
                self.look();
            }
        }
        committed
    }

    /// The next pass ends at the latest where energy is recounted; extensions act after every step.
    fn next_pass(&self, steps: u64) -> Pass {
        let (clock, every) = (self.clock(), self.rules().energy_every);
        let done = clock.step % every;
        let until_recount = match (clock.backwards, done) {
            (false, _) => every - done,
            (true, 0) => every,
            (true, _) => done,
        };
        let longest = if self.world.contains_resource::<commit::Before>() { 1 } else { steps };
        // So that the entities are never farther behind than they may be.
        let until_look = if self.gpu().is_some() {
            let residence = self.world.resource::<Residence>();
            self.anchor_steps().saturating_sub(residence.ahead(clock)).max(1)
        } else {
            u64::MAX
        };
        let steps = longest.min(until_recount).min(until_look);
        Pass { steps, recount: steps == until_recount }
    }

    /// Turns the direction of time: the steps taken so far are then taken back, bit by bit.
    pub fn reverse(&mut self) {
        self.look();
        let mut clock = self.world.resource_mut::<Clock>();
        clock.backwards = !clock.backwards;
        self.plan();
    }

    /// Recounts energy and centre of mass now and takes them into the record.
    pub fn recount(&mut self) -> Recount {
        let recount = self.count_bounded();
        let (time, quanta, rules) = (self.clock().time(), *self.quanta(), *self.rules());
        let bounded = self.world.resource_mut::<Drifts>().take(&recount, time, &quanta, &rules);
        if let Err(breach) = bounded {
            // There is no step left to undo: the breach is reported, and the run does not pass for one that held.
            let report = BreachReport { step: recount.step, time, breach, undone: false };
            self.world.resource_mut::<Breaches>().record(report);
        }
        recount
    }

    /// Recounts energy and centre of mass now, and leaves the record alone.
    pub fn count_bounded(&mut self) -> Recount {
        let (quanta, law) = (*self.quanta(), *self.world.resource::<Law>());
        let surveyed = self.on_device(|gpu, _| gpu.survey(&quanta, Some(&law)));
        // Not before: a device that is lost may leave the run at an older step.
        let step = self.clock().step;
        if let Some(survey) = surveyed {
            return commit::recount_of(&survey, self.ledger(), step);
        }
        let world = &self.world;
        let (cpu, law, quanta) = (world.resource::<Cpu>(), world.resource::<Law>(), world.resource::<Quanta>());
        let set = world.resource::<WorkingSet>();
        commit::recount(cpu, set, law, quanta, world.resource::<Ledger>(), step)
    }

    /// What the particles hold now; with the accounts of the ledger it is what there was at the start.
    pub fn counted(&mut self) -> Amounts {
        let (quanta, angular) = (*self.quanta(), self.rules().angular_momentum);
        let mut amounts = match self.on_device(|gpu, _| gpu.survey(&quanta, None)) {
            Some(survey) => commit::count_of(&survey, angular),
            None => commit::count(self.cpu(), self.world.resource::<WorkingSet>(), angular),
        };
        amounts.energy = self.drifts().energy_last() - self.ledger().booked().energy;
        amounts
    }

    /// The state root now.
    pub fn root(&mut self) -> StateRoot {
        let quanta = *self.quanta();
        match self.on_device(|gpu, _| gpu.survey(&quanta, None)) {
            Some(survey) => StateRoot(survey.root),
            None => StateRoot::of(&mut self.world),
        }
    }

    /// The particles now, in order of identity.
    pub fn particles(&mut self) -> Vec<Particle> {
        self.look();
        let mut query = self.world.query::<(&ParticleId, &Position, &Momentum, &Mass, &Radius)>();
        let whole = query.iter(&self.world).map(|(&id, &position, &momentum, &mass, &radius)| Particle {
            id,
            position,
            momentum,
            mass,
            radius,
        });
        let mut particles: Vec<Particle> = whole.collect();
        particles.sort_unstable_by_key(|particle| particle.id);
        particles
    }

    /// One particle now; a device that is ahead of the entities is asked for this one alone.
    pub fn particle(&mut self, id: ParticleId) -> Option<Particle> {
        let packed = match self.world.resource::<Residence>().is_away() {
            true => self.on_device(|gpu, set| set.row_of(id).map(|row| gpu.pack(&[row as u32])).transpose()),
            false => None,
        };
        let mut query = self.world.query::<(&ParticleId, &Position, &Momentum, &Mass, &Radius)>();
        let (&id, &position, &momentum, &mass, &radius) = query.iter(&self.world).find(|(found, ..)| **found == id)?;
        let (mut position, mut momentum) = (position, momentum);
        if let Some(&[x, y, z, px, py, pz]) = packed.flatten().as_deref().and_then(<[_]>::first) {
            (position, momentum) = (Position([x, y, z]), Momentum([px, py, pz]));
        }
        Some(Particle { id, position, momentum, mass, radius })
    }

    /// Everything that a checkpoint keeps.
    pub fn state(&mut self) -> State {
        State {
            particles: self.particles(),
            names: self.world.resource::<Names>().clone(),
            quanta: *self.quanta(),
            law: *self.world.resource::<Law>(),
            splitting: self.splitting,
            clock: self.clock(),
            rules: *self.rules(),
            history: Some(History {
                ledger: self.ledger().clone(),
                drifts: *self.drifts(),
                breaches: self.breaches().to_vec(),
            }),
        }
    }

    /// Where the run stands.
    #[must_use]
    pub fn clock(&self) -> Clock {
        *self.world.resource::<Clock>()
    }

    /// Sizes of the integer units.
    #[must_use]
    pub fn quanta(&self) -> &Quanta {
        self.world.resource::<Quanta>()
    }

    /// The book.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        self.world.resource::<Ledger>()
    }

    /// The record of what may drift.
    #[must_use]
    pub fn drifts(&self) -> &Drifts {
        self.world.resource::<Drifts>()
    }

    /// What is checked.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        self.world.resource::<Rules>()
    }

    /// The backend.
    #[must_use]
    pub fn cpu(&self) -> &Cpu {
        self.world.resource::<Cpu>()
    }

    /// Names of particles.
    #[must_use]
    pub fn names(&self) -> &Names {
        self.world.resource::<Names>()
    }

    /// Breaches so far.
    #[must_use]
    pub fn breaches(&self) -> &[BreachReport] {
        &self.world.resource::<Breaches>().reports
    }

    /// Whether a breach ended the run.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.world.resource::<Breaches>().stopped
    }

    /// Says whether one did, after a checkpoint.
    pub fn set_stopped(&mut self, stopped: bool) {
        self.world.resource_mut::<Breaches>().stopped = stopped;
    }

    /// The device that takes part, if there is one.
    #[must_use]
    pub fn gpu(&self) -> Option<&Gpu> {
        self.world.get_resource::<Gpu>()
    }

    /// Why the device that the run began with is no longer used.
    #[must_use]
    pub fn fell_back(&self) -> Option<&GpuError> {
        self.world.resource::<Residence>().lost.as_ref()
    }

    /// Says what happens when the device fails.
    pub fn on_device_loss(&mut self, on_loss: OnLoss) {
        self.world.resource_mut::<Residence>().on_loss = on_loss;
    }

    /// Whether the device has failed and nobody may take its place: the run stands at an older step, and goes no farther.
    #[must_use]
    pub fn stands_still(&self) -> bool {
        let residence = self.world.resource::<Residence>();
        residence.lost.is_some() && residence.on_loss == OnLoss::Stop
    }

    /// Where the time of the steps went.
    #[must_use]
    pub fn phases(&self) -> &Phases {
        self.world.resource::<Phases>()
    }

    /// Unique pairs that one step evaluates.
    pub fn pairs_per_step(&mut self) -> u64 {
        if !self.world.resource::<Residence>().is_away() {
            self.gather();
        }
        self.world.resource::<WorkingSet>().pairs() * self.world.resource::<Plan>().evaluations()
    }

    /// The world, for extensions that add components and resources of their own.
    pub fn world_mut(&mut self) -> &mut World {
        self.look();
        &mut self.world
    }

    /// Brings the entities up to date with a device that is ahead of them.
    pub fn look(&mut self) {
        if !self.world.resource::<Residence>().is_away() {
            return;
        }
        let done = self.world.resource_scope(|world, mut set: Mut<'_, WorkingSet>| {
            let mut gpu = world.resource_mut::<Gpu>();
            let done = gpu.download(&mut set);
            let phases = gpu.take_phases();
            world.resource_mut::<Phases>().add_all(&phases);
            done
        });
        match done {
            Ok(()) => {
                self.world.resource_mut::<Residence>().come_home();
                self.scatter();
            }
            Err(fault) => self.lose_device(fault),
        }
    }

    /// Asks the device that holds the particles, after giving them to it if need be. `None` if there is no device, or none any more;
    /// the working set is then up to date.
    fn on_device<T>(&mut self, ask: impl FnOnce(&mut Gpu, &WorkingSet) -> Result<T, GpuError>) -> Option<T> {
        if !self.world.resource::<Residence>().is_away() {
            self.gather();
        }
        if !self.world.contains_resource::<Gpu>() {
            return None;
        }
        let answer = self.world.resource_scope(|world, mut gpu: Mut<'_, Gpu>| {
            let set = world.resource::<WorkingSet>();
            let loaded = if gpu.is_loaded() { Ok(()) } else { gpu.upload(set) };
            loaded.and_then(|()| ask(&mut gpu, set))
        });
        answer.map_err(|fault| self.lose_device(fault)).ok()
    }

    /// Goes on without the device, or not at all.
    fn lose_device(&mut self, fault: GpuError) {
        self.world.remove_resource::<Gpu>();
        let mut residence = self.world.resource_mut::<Residence>();
        let (anchor, on_loss) = (residence.come_home(), residence.on_loss);
        match on_loss {
            OnLoss::GoOn => tracing::warn!("{fault}; going on with the CPU from the last audited step"),
            OnLoss::Stop => tracing::warn!("{fault}; the run stands still"),
        }
        residence.lost = Some(fault);
        match (anchor, on_loss) {
            (None, _) => self.gather(),
            (Some(anchor), OnLoss::GoOn) => self.catch_up(anchor),
            (Some(anchor), OnLoss::Stop) => self.stand_at(anchor),
        }
    }

    /// What the device had done since the entities were last up to date, the CPU does again: the bits are the same.
    fn catch_up(&mut self, anchor: Anchor) {
        let steps = anchor.clock.step.abs_diff(self.clock().step);
        self.gather();
        let mut ledger = anchor.ledger;
        let burst = self.world.resource_scope(|world, mut set: Mut<'_, WorkingSet>| {
            world.resource_scope(|world, mut impulse: Mut<'_, Impulse>| {
                impulse.forget();
                let (cpu, plan) = (world.resource::<Cpu>(), world.resource::<Plan>());
                propose(cpu, &mut set, &mut impulse, plan, &ledger.due(), steps)
            })
        });
        assert_eq!((burst.good, &burst.trouble), (steps, &None), "audited steps must be good again");
        burst.book.post(&mut ledger);
        // What the audit put there is no work of the device.
        if let Some(held) = self.ledger().accounts.get(UNEXPLAINED) {
            ledger.accounts.insert(UNEXPLAINED.to_owned(), *held);
        }
        assert_eq!(&ledger, self.ledger(), "the book of the CPU must be that of the device");
        self.scatter();
    }

    /// Goes back to what the entities hold.
    fn stand_at(&mut self, anchor: Anchor) {
        self.gather();
        self.world.insert_resource(anchor.clock);
        self.world.insert_resource(anchor.ledger);
        if let Some(drifts) = anchor.drifts {
            self.world.insert_resource(drifts);
        }
        let mut breaches = self.world.resource_mut::<Breaches>();
        breaches.reports = anchor.breaches;
        breaches.stopped = false;
    }

    /// Steps that a device may be ahead of the entities. What is brought home then stays a small part of what a step exchanges.
    fn anchor_steps(&self) -> u64 {
        ANCHOR_STEPS.max(self.world.resource::<WorkingSet>().rows() as u64 / 32)
    }

    /// Brings the particles up to date with the working set.
    fn scatter(&mut self) {
        let mut query = self.world.query::<particle::ParticleMut>();
        self.world.resource_scope(|world, set: Mut<'_, WorkingSet>| {
            particle::scatter(&mut query.query_mut(world), &set).expect("particles are stored in dense tables");
        });
    }

    /// Brings the working set up to date with the particles, which no device may be ahead of.
    fn gather(&mut self) {
        let mut query = self.world.query::<particle::ParticleRef>();
        self.world.resource_scope(|world, mut set: Mut<'_, WorkingSet>| {
            let changes =
                particle::gather(&query.query(world), &mut set).expect("particles are stored in dense tables");
            if changes.pull {
                world.resource_mut::<Impulse>().forget();
            }
            if let (true, Some(mut gpu)) = (changes.any(), world.get_resource_mut::<Gpu>()) {
                gpu.unload();
            }
        });
    }

    /// Turns the splitting into factors for the present direction of time.
    fn plan(&mut self) {
        self.gather();
        let world = &self.world;
        let set = world.resource::<WorkingSet>();
        let masses = (set.mass.iter().copied().fold(0.0, f64::max), set.sources);
        let (law, quanta) = (world.resource::<Law>(), world.resource::<Quanta>());
        let (dt, angular) = (self.clock().signed_dt(), self.rules().angular_momentum);
        let mut plan = Plan::new(self.splitting, law, quanta, dt, masses, angular);
        // Extensions may make masses larger than any that the bound of impulses knew.
        plan.guarded |= world.contains_resource::<commit::Before>();
        self.world.insert_resource(plan);
    }

    /// Counts what there is at the start.
    fn open_books(&mut self) {
        self.world.init_resource::<Ledger>();
        let first = self.count_bounded();
        let (set, quanta) = (self.world.resource::<WorkingSet>(), *self.quanta());
        let mut opening = commit::count(self.cpu(), set, self.rules().angular_momentum);
        let momentum = source_momentum(set);
        let drifts = Drifts::starting_at(&first, Centre::of(set), momentum, &quanta);
        opening.energy = first.energy();
        self.world.insert_resource(drifts);
        self.world.insert_resource(Ledger::opened_with(opening));
    }
}

fn source_momentum(set: &WorkingSet) -> [i128; 3] {
    set.momentum.each_ref().map(|axis| axis[..set.sources].iter().map(|&p| i128::from(p)).sum())
}
