//! One partition: the particles that one node owns, and how it takes steps together with the others.
//!
//! A partition waits for nobody. Its owner begins a step, hands it the blocks that came, lets it work a little at a time, and sends
//! what it leaves in its outbox; [`step`] says how far it is. Own pairs are evaluated while the halos of others travel. Nothing here
//! reads a clock, knows a network or decides anything: the same blocks in any order give the same bits.
//!
//! The entities hold the committed state; they are brought up to date when someone looks.

pub mod cuts;
pub mod evaluation;
pub mod handover;
pub mod keys;
pub mod share;
pub mod step;
mod traffic;

use std::{collections::BTreeMap, sync::Arc};

use bevy_ecs::prelude::*;

pub use self::share::{Proposal, RecountShare, Took, Violation};
use self::{
    cuts::{Cuts, Sketch},
    evaluation::{COUNT, Evaluation},
    handover::Handover,
    step::Walk,
    traffic::Links,
};
use crate::{
    advance::Plan,
    audit::Rules,
    backend::cpu::Cpu,
    contract::Contract,
    exchange::{Pairing, Way, codec::ColumnError, message::Kind, packing::Packing},
    force::{Kick, Law},
    integrator::Splitting,
    ledger::Amounts,
    metrics::Phases,
    particle::{self, Mass, Momentum, Particle, ParticleId, Position, Radius, WorkingSet},
    quanta::Quanta,
    snapshot::root::StateRoot,
    transport::{Path, Tag},
    wire::{Epoch, NodeId},
};

/// What all partitions of a run have in common.
#[derive(Clone, Copy, Debug)]
pub struct Common {
    /// Sizes of the integer units.
    pub quanta: Quanta,
    /// The law of gravity.
    pub law: Law,
    /// How particles move.
    pub splitting: &'static Splitting,
    /// Length of a step [time], negative backwards.
    pub dt: f64,
    /// What is checked.
    pub rules: Rules,
    /// The largest mass of all [mass quanta].
    pub mass_max: f64,
    /// How many particles pull, of all partitions.
    pub sources: usize,
}

impl Common {
    /// What these particles, all that there are, have in common.
    #[must_use]
    pub fn of(state: &crate::partition::share::Whole<'_>) -> Self {
        let masses = state.particles.iter().map(|p| p.mass.quanta as f64);
        Self {
            quanta: state.quanta,
            law: state.law,
            splitting: state.splitting,
            dt: state.dt,
            rules: state.rules,
            mass_max: masses.fold(0.0, f64::max),
            sources: state.particles.iter().filter(|p| p.mass.pulls).count(),
        }
    }

    fn plan(&self) -> Plan {
        let masses = (self.mass_max, self.sources);
        Plan::new(self.splitting, &self.law, &self.quanta, self.dt, masses, self.rules.angular_momentum)
    }

    fn contract(&self) -> Contract {
        self.law.contract
    }
}

/// A block that waits to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// To whom.
    pub to: NodeId,
    /// What it is about.
    pub tag: Tag,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// A peer sent what no correct node sends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{from} sent a block that is none: {what}")]
pub struct Offence {
    /// Who it was.
    pub from: NodeId,
    /// What was wrong.
    pub what: String,
    /// The block itself.
    pub block: Vec<u8>,
}

impl Offence {
    fn of(from: NodeId, error: &ColumnError, block: Vec<u8>) -> Self {
        Self { from, what: error.to_string(), block }
    }
}

/// How far a partition is.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// It has nothing to do.
    Idle,
    /// There is more to do here.
    Working,
    /// Nothing can be done until blocks of others come.
    Waiting,
    /// The step is done.
    Proposed(Box<Proposal>),
    /// The step cannot be done.
    Violated(Box<Violation>),
    /// The step was stopped on request, with nothing wrong up to this stage.
    Held {
        /// The step.
        step: u64,
        /// The stage, as [`Violation::stage`] counts.
        stage: u16,
    },
    /// Every particle is where it belongs.
    HandedOver {
        /// The last committed step.
        step: u64,
    },
    /// What was to be counted is counted.
    Counted(Box<RecountShare>),
}

/// Positions and momenta, as they stood after a step.
#[derive(Clone, Debug, Default, PartialEq)]
struct Columns {
    position: [Vec<i64>; 3],
    momentum: [Vec<i64>; 3],
}

impl Columns {
    fn of(set: &WorkingSet) -> Self {
        Self { position: set.position.clone(), momentum: set.momentum.clone() }
    }
}

/// One partition and its world.
#[derive(Debug)]
pub struct Partition {
    me: NodeId,
    epoch: Epoch,
    members: Vec<NodeId>,
    cuts: Cuts,
    common: Common,
    plan: Plan,
    cpu: Arc<Cpu>,
    packing: Packing,
    /// How often pairs with other partitions are evaluated.
    way: Way,
    world: World,
    /// The proposal, once it is begun.
    set: WorkingSet,
    /// The committed state, while the entities or the working set are not it.
    committed: Columns,
    /// Proposed steps that are not decided, oldest first.
    undecided: Vec<Columns>,
    /// Impulses at the present positions.
    impulse: [Vec<i64>; 3],
    /// The kick that they belong to.
    fresh: Option<Kick>,
    /// What they take from each other partition and give to the particles here, where source meets source.
    transfers: BTreeMap<NodeId, Amounts>,
    links: Links,
    walk: Option<Walk>,
    evaluation: Option<Evaluation>,
    handover: Option<Handover>,
    /// What changed hands since the last step.
    carried: BTreeMap<NodeId, Amounts>,
    /// No step goes beyond this stage.
    halt: Option<u16>,
    /// Blocks that came before they could be used.
    early: BTreeMap<(Kind, u64, u16, NodeId), Vec<u8>>,
    outbox: Vec<Outgoing>,
    phases: Phases,
    /// Time spent computing in this step [s].
    busy: f64,
    /// Pairs evaluated in this step, and the time that went into them [s].
    pairs: u64,
    pair_seconds: f64,
    sent: Sent,
}

/// What a partition has sent, in particles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Positions for force evaluations.
    pub halo_particles: u64,
    /// Impulses that went back.
    pub return_particles: u64,
    /// Particles that left for another partition.
    pub handed_over: u64,
}

impl Partition {
    /// The partition of `me` among `members` in an epoch, with these particles, committed. Blocks of other epochs are nothing to it.
    ///
    /// # Panics
    /// If `me` is no member.
    #[must_use]
    pub fn new(
        (me, epoch): (NodeId, Epoch),
        members: &[NodeId],
        cuts: Cuts,
        common: Common,
        particles: impl IntoIterator<Item = Particle>,
        cpu: Arc<Cpu>,
    ) -> Self {
        let mut partition = Self {
            me,
            epoch,
            members: members.to_vec(),
            cuts,
            common,
            plan: common.plan(),
            cpu,
            packing: Packing::given(false),
            way: Way::default(),
            world: World::new(),
            set: WorkingSet::default(),
            committed: Columns::default(),
            undecided: Vec::new(),
            impulse: Default::default(),
            fresh: None,
            transfers: BTreeMap::new(),
            links: Links::default(),
            walk: None,
            evaluation: None,
            handover: None,
            carried: BTreeMap::new(),
            halt: None,
            early: BTreeMap::new(),
            outbox: Vec::new(),
            phases: Phases::default(),
            busy: 0.0,
            pairs: 0,
            pair_seconds: 0.0,
            sent: Sent::default(),
        };
        let particles: Vec<Particle> = particles.into_iter().collect();
        partition.world.spawn_batch(particles.into_iter().map(Particle::bundle));
        partition.gather();
        partition.relink();
        partition
    }

    /// Whether blocks are packed: not where they cross no network.
    pub fn pack(&mut self, packing: Packing) {
        self.packing = packing;
    }

    /// Chooses anew whether to pack, if there is a choice, by the paths that blocks take.
    pub fn weigh_packing(&mut self, paths: impl Iterator<Item = Path>) {
        self.packing.weigh(paths);
    }

    /// Whether blocks are packed at present.
    #[must_use]
    pub fn packs(&self) -> bool {
        self.packing.is_on()
    }

    /// How often pairs with other partitions are evaluated from now on; all partitions must be told the same between the same steps.
    /// Under `fast32`, whose blocks are made of all particles, it changes nothing.
    ///
    /// # Panics
    /// If something is being done.
    pub fn evaluate(&mut self, way: Way) {
        self.assert_at_rest();
        self.way = way;
        self.relink();
    }

    /// How often pairs with other partitions are evaluated.
    #[must_use]
    pub fn way(&self) -> Way {
        self.way
    }

    /// Whether both owners of a pair evaluate it.
    fn is_twice(&self) -> bool {
        self.way == Way::Twice && self.common.contract() != Contract::Fast32
    }

    /// The node.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// Everybody, in the order of places.
    #[must_use]
    pub fn members(&self) -> &[NodeId] {
        &self.members
    }

    /// Who owns what.
    #[must_use]
    pub fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    /// Number of particles here.
    #[must_use]
    pub fn count(&self) -> usize {
        self.set.count()
    }

    /// Where the time went since it was last asked.
    pub fn take_phases(&mut self) -> Phases {
        std::mem::take(&mut self.phases)
    }

    /// Turns the direction of time, or changes the length of steps; between steps only.
    pub fn set_dt(&mut self, dt: f64) {
        self.assert_at_rest();
        assert!(self.undecided.is_empty(), "{}: a step is undecided", self.me);
        self.common.dt = dt;
        self.plan = self.common.plan();
        self.fresh = None;
        self.relink();
    }

    /// Makes the oldest proposed step final.
    ///
    /// # Panics
    /// If there is none.
    pub fn commit(&mut self) {
        assert!(!self.undecided.is_empty(), "{}: there is nothing to commit", self.me);
        self.committed = self.undecided.remove(0);
    }

    /// Whether nothing is proposed that is not decided.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.undecided.is_empty()
    }

    /// What changed hands since the last step: gains from each other partition.
    #[must_use]
    pub fn carried(&self) -> &BTreeMap<NodeId, Amounts> {
        &self.carried
    }

    /// Counts the present state as proposed, to be committed like a step: that of a copy that was restored.
    pub fn propose_restored(&mut self) {
        self.assert_at_rest();
        self.undecided.push(Columns::of(&self.set));
    }

    /// Takes back everything that is not committed, and what is being done.
    pub fn undo(&mut self) {
        self.undecided.clear();
        self.walk = None;
        self.evaluation = None;
        self.handover = None;
        self.carried.clear();
        self.outbox.clear();
        // Others may have begun to count already.
        self.early.retain(|(_, _, part, _), _| part & COUNT != 0);
        self.set.position.clone_from(&self.committed.position);
        self.set.momentum.clone_from(&self.committed.momentum);
        self.fresh = None;
        self.relink();
    }

    /// The committed particles here.
    pub fn particles(&mut self) -> Vec<Particle> {
        self.look();
        type Whole = (&'static ParticleId, &'static Position, &'static Momentum, &'static Mass, &'static Radius);
        let mut query = self.world.query::<Whole>();
        let whole = query.iter(&self.world).map(|(&id, &position, &momentum, &mass, &radius)| Particle {
            id,
            position,
            momentum,
            mass,
            radius,
        });
        whole.collect()
    }

    /// One of them.
    pub fn particle(&mut self, id: ParticleId) -> Option<Particle> {
        self.set.row_of(id)?;
        self.particles().into_iter().find(|particle| particle.id == id)
    }

    /// How many sources and how many test particles are here.
    #[must_use]
    pub fn groups(&self) -> [usize; 2] {
        [self.set.sources, self.set.tests]
    }

    /// Force evaluations per step.
    #[must_use]
    pub fn evaluations(&self) -> u64 {
        self.plan.evaluations()
    }

    /// What was sent since the start, in particles.
    #[must_use]
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// Some keys of the particles here, which stand for all of them.
    #[must_use]
    pub fn sketch(&mut self) -> Sketch {
        let bits = self.common.contract().position_bits();
        let mut keys: Vec<u128> = self.set.real_rows().map(|row| keys::key(self.set.position_at(row), bits)).collect();
        Sketch::of(&mut keys)
    }

    /// The world, at the committed state.
    pub fn world_mut(&mut self) -> &mut World {
        self.look();
        &mut self.world
    }

    /// What the particles of the working set hold, energy aside.
    #[must_use]
    pub fn held(&self) -> Amounts {
        crate::commit::count(&self.cpu, &self.set, self.common.rules.angular_momentum)
    }

    /// The share of the state root of the working set.
    #[must_use]
    pub fn root(&self) -> StateRoot {
        let mut root = StateRoot::default();
        for row in self.set.real_rows() {
            let mass = Mass { quanta: self.set.mass[row] as i64, pulls: true };
            let (position, momentum) = (self.set.position_at(row), self.set.momentum_at(row));
            root.add(ParticleId(self.set.id[row]), Position(position), Momentum(momentum), mass);
        }
        root
    }

    /// Brings the entities up to date with the committed state.
    fn look(&mut self) {
        let mut query = self.world.query::<particle::ParticleMut>();
        let set = &mut self.set;
        // The columns of the proposal stand aside for a moment.
        std::mem::swap(&mut set.position, &mut self.committed.position);
        std::mem::swap(&mut set.momentum, &mut self.committed.momentum);
        particle::scatter(&mut query.query_mut(&mut self.world), set).expect("particles are stored in dense tables");
        std::mem::swap(&mut set.position, &mut self.committed.position);
        std::mem::swap(&mut set.momentum, &mut self.committed.momentum);
    }

    /// Takes the entities into the working set.
    fn gather(&mut self) {
        let mut query = self.world.query::<particle::ParticleRef>();
        let changes = particle::gather(&query.query(&self.world), &mut self.set);
        changes.expect("particles are stored in dense tables");
        self.committed = Columns::of(&self.set);
    }

    /// Begins links anew: who is who must be told again, and nothing is predicted.
    fn relink(&mut self) {
        let everywhere = self.is_twice() || self.common.contract() == Contract::Fast32;
        let pairing = if everywhere { Pairing::everywhere } else { Pairing::shared };
        self.links = Links::new(pairing(&self.members, self.me), &self.set);
    }

    /// Where it is (step, stage), and from whom blocks are awaited there: without them nothing can be done, if the last [`Progress`] was
    /// [`Progress::Waiting`]. Whoever is farther has sent what is awaited.
    #[must_use]
    pub fn waits_for(&self) -> Option<((u64, u16), Vec<NodeId>)> {
        match (&self.handover, &self.evaluation) {
            (Some(handover), _) => Some(handover.waits_for()),
            (None, Some(evaluation)) => Some(evaluation.waits_for()),
            (None, None) => None,
        }
    }

    fn assert_at_rest(&self) {
        let busy = self.walk.is_some() || self.evaluation.is_some() || self.handover.is_some();
        assert!(!busy, "{} is in the middle of something", self.me);
    }
}
