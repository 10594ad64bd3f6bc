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
    advance::{Impulse, Pass, Plan, Proposal},
    audit::{BreachReport, Centre, Drifts, Recount, Rules, Verdict},
    backend::cpu::Cpu,
    commit::{self, Breaches, Finding},
    force::Law,
    integrator::Splitting,
    ledger::{Amounts, Ledger},
    metrics::Work,
    particle::{self, Mass, Momentum, Names, Particle, ParticleId, Position, Radius, WorkingSet},
    plugins,
    quanta::Quanta,
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
#[derive(Clone, Debug, PartialEq)]
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
    /// A node with this state.
    #[must_use]
    pub fn new(state: State, cpu: Cpu) -> Self {
        let mut world = World::new();
        world.add_schedule(plugins::step_schedule());
        world.spawn_batch(state.particles.into_iter().map(Particle::bundle));
        world.insert_resource(cpu);
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
        while committed < steps && !self.stopped() {
            let before = self.clock().step;
            let pass = self.next_pass(steps - committed);
            self.world.insert_resource(pass);
            self.world.run_schedule(Step);
            committed += self.clock().step.abs_diff(before);
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
        let steps = longest.min(until_recount);
        Pass { steps, recount: steps == until_recount }
    }

    /// Turns the direction of time: the steps taken so far are then taken back, bit by bit.
    pub fn reverse(&mut self) {
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
        self.gather();
        let world = &self.world;
        let (cpu, law, quanta) = (world.resource::<Cpu>(), world.resource::<Law>(), world.resource::<Quanta>());
        let set = world.resource::<WorkingSet>();
        commit::recount(cpu, set, law, quanta, world.resource::<Ledger>(), world.resource::<Clock>().step)
    }

    /// What the particles hold now; with the accounts of the ledger it is what there was at the start.
    pub fn counted(&mut self) -> Amounts {
        self.gather();
        let angular = self.rules().angular_momentum;
        let mut amounts = commit::count(self.cpu(), self.world.resource::<WorkingSet>(), angular);
        amounts.energy = self.drifts().energy_last() - self.ledger().booked().energy;
        amounts
    }

    /// The state root now.
    pub fn root(&mut self) -> StateRoot {
        StateRoot::of(&mut self.world)
    }

    /// The particles now, in order of identity.
    pub fn particles(&mut self) -> Vec<Particle> {
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

    /// Unique pairs that one step evaluates.
    pub fn pairs_per_step(&mut self) -> u64 {
        self.gather();
        self.world.resource::<WorkingSet>().pairs() * self.world.resource::<Plan>().evaluations()
    }

    /// The world, for extensions that add components and resources of their own.
    pub fn world_mut(&mut self) -> &mut World {
        &mut self.world
    }

    /// Brings the working set up to date with the particles.
    fn gather(&mut self) {
        let mut query = self.world.query::<particle::ParticleRef>();
        self.world.resource_scope(|world, mut set: Mut<'_, WorkingSet>| {
            let changed =
                particle::gather(&query.query(world), &mut set).expect("particles are stored in dense tables");
            if changed {
                world.resource_mut::<Impulse>().forget();
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
