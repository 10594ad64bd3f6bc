//! Proposes steps: walks a splitting over the working set, books every stage, and recounts after every step.
//!
//! A burst of steps runs inside one pass of the pipeline as long as each of them passes its recount. Nothing is final here: the
//! entities still hold the committed state, and because a step is a pure function of integers, proposing fewer steps again
//! from there gives the bits that this burst had at that step. So to undo one step of a burst nothing has to be saved.
//!
//! The walk is written once, over [`Mover`]; large sets move by tiles and blocks, a handful of bodies by [`crate::backend::few`].
//! A device walks by itself, and its records are judged here, some steps late, by the same rules: [`propose_on_device`].

use bevy_ecs::prelude::*;

use crate::{
    audit::{self, Breach},
    backend::{
        cpu::{Bookings, Cpu},
        few::{Few, Walk},
        gpu::{Gpu, Stages, error::GpuError, tally::StepRecord},
        isa::Kernel,
    },
    contract::Contract,
    force::{Kick, Law, PairOverflow},
    integrator::{
        Splitting,
        kernel::{OutOfRange, Stride, Totals, find_outside},
    },
    ledger::{Amounts, DRIFT_ROUNDING, KICK_ROUNDING, Ledger, REACTION},
    math::add3,
    metrics::{Phase, Phases, Stopwatch},
    particle::{self, Names, ParticleRef, WorkingSet},
    quanta::{Quanta, exp2},
    residence::Residence,
};

/// How particles move in one direction of time: a splitting, with its shares turned into factors of the kernels.
#[derive(Resource, Clone, Debug, PartialEq)]
pub struct Plan {
    /// How pairs are evaluated.
    pub contract: Contract,
    /// Kicks of one step, one more than drifts.
    pub kicks: Vec<Kick>,
    /// Drifts of one step.
    pub strides: Vec<Stride>,
    /// Whether impulses may leave their range and are watched.
    pub guarded: bool,
    /// Whether angular momentum is booked.
    pub angular: bool,
}

impl Plan {
    /// The plan for steps of `dt` [time] (negative: backwards). `mass_max` is the largest mass of all [mass quanta], `sources`
    /// the number of particles that pull.
    #[must_use]
    pub fn new(
        splitting: &Splitting,
        law: &Law,
        quanta: &Quanta,
        dt: f64,
        (mass_max, sources): (f64, usize),
        angular: bool,
    ) -> Self {
        let per_momentum = exp2(quanta.momentum.0 - quanta.mass.0 - quanta.position.0);
        let longest = splitting.kick.iter().fold(0.0_f64, |longest, share| longest.max((share * dt).abs()));
        // False for NaN, which is what no gravity without softening gives.
        let bounded = law.impulse_bound(mass_max, longest) < exp2(law.contract.impulse_bits(sources) as i32 - 1);
        Self {
            contract: law.contract,
            kicks: splitting.kick.iter().map(|share| law.kick(share * dt)).collect(),
            strides: splitting.drift.iter().map(|share| Stride((share * dt) * per_momentum)).collect(),
            guarded: !bounded,
            angular,
        }
    }

    /// Force evaluations per step.
    #[must_use]
    pub fn evaluations(&self) -> u64 {
        self.strides.len() as u64
    }
}

/// What the driver asks of a pass.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Steps to propose.
    pub steps: u64,
    /// Whether energy is recounted after the last of them.
    pub recount: bool,
}

/// What a pass proposes: the burst so far, and the book as it was before.
#[derive(Resource, Clone, Debug, Default, PartialEq)]
pub struct Proposal {
    /// What was done.
    pub burst: Burst,
    /// The ledger before the pass.
    pub ledger_before: Ledger,
}

/// Takes the particles into the working set, unless a device is ahead of them.
///
/// # Errors
/// If particles are not stored in dense tables.
pub fn admit(
    particles: Query<'_, '_, ParticleRef>,
    mut set: ResMut<'_, WorkingSet>,
    mut impulse: ResMut<'_, Impulse>,
    gpu: Option<ResMut<'_, Gpu>>,
    residence: Res<'_, Residence>,
) -> Result {
    if residence.is_away() {
        return Ok(());
    }
    let changes = particle::gather(&particles, &mut set)?;
    if changes.pull {
        impulse.forget();
    }
    if let (true, Some(mut gpu)) = (changes.any(), gpu) {
        gpu.unload();
    }
    Ok(())
}

/// Proposes the steps of the pass and posts what they booked.
#[expect(clippy::too_many_arguments, reason = "a system names everything that it reads")]
pub fn advance(
    cpu: Res<'_, Cpu>,
    gpu: Option<ResMut<'_, Gpu>>,
    (plan, pass): (Res<'_, Plan>, Res<'_, Pass>),
    (mut set, mut impulse): (ResMut<'_, WorkingSet>, ResMut<'_, Impulse>),
    mut ledger: ResMut<'_, Ledger>,
    mut proposal: ResMut<'_, Proposal>,
    mut residence: ResMut<'_, Residence>,
    mut phases: ResMut<'_, Phases>,
) {
    proposal.ledger_before = ledger.clone();
    let due = ledger.due();
    proposal.burst = match gpu {
        None => propose(&cpu, &mut set, &mut impulse, &plan, &due, pass.steps),
        Some(mut gpu) => {
            let proposed = propose_on_device(&mut gpu, &cpu, &mut set, &plan, &due, pass.steps);
            proposed.unwrap_or_else(|fault| {
                residence.fault = Some(fault);
                Burst::default()
            })
        }
    };
    phases.add_all(&proposal.burst.phases);
    proposal.burst.book.post(&mut ledger);
}

/// What moves particles: the operations of a splitting, on a state and the impulses of its last force evaluation.
pub trait Mover {
    /// Computes the impulses of a kick at the present positions. The last kick of a step and the first of the next are at the
    /// same positions and equally long, so they are the same integers: the second time there is nothing to do.
    ///
    /// # Errors
    /// A pair whose impulse is out of range.
    fn evaluate(&mut self, kick: Kick, angular: bool) -> Result<(), PairOverflow>;

    /// p ← p + J, x ← x + Δt·p/m.
    fn kick_and_drift(&mut self, stride: Stride, angular: bool) -> Bookings;

    /// p ← p + J, and a recount.
    fn kick_and_count(&mut self, angular: bool) -> (Bookings, Totals);
}

/// What a burst did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Burst {
    /// Steps that passed their recount.
    pub good: u64,
    /// Why the step after them did not.
    pub trouble: Option<Trouble>,
    /// What the particles gained from the accounts in the good steps and in the bad one.
    pub book: Book,
    /// Where the time went.
    pub phases: Phases,
}

/// What a burst posts to the ledger: gains of the particles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// Angular momentum from the rounding of pair impulses.
    pub kick_rounding: [i128; 3],
    /// Angular momentum from the rounding of drifts.
    pub drift_rounding: [i128; 3],
    /// What test particles took without pulling back.
    pub reaction: Amounts,
}

impl Book {
    /// Everything that the particles gained.
    #[must_use]
    pub fn gained(&self) -> Amounts {
        let rounding = add3(self.kick_rounding, self.drift_rounding);
        self.reaction.plus(Amounts { angular_momentum: rounding, ..Amounts::default() })
    }

    /// Both together.
    fn plus(&self, other: &Self) -> Self {
        Self {
            kick_rounding: add3(self.kick_rounding, other.kick_rounding),
            drift_rounding: add3(self.drift_rounding, other.drift_rounding),
            reaction: self.reaction.plus(other.reaction),
        }
    }

    /// Takes in what a kick or a drift did.
    #[inline(always)]
    pub fn take(&mut self, bookings: &Bookings) {
        self.kick_rounding = add3(self.kick_rounding, bookings.sources.torque);
        self.drift_rounding = add3(self.drift_rounding, add3(bookings.sources.sway, bookings.tests.sway));
        self.reaction.momentum = add3(self.reaction.momentum, bookings.tests.impulse);
        self.reaction.angular_momentum = add3(self.reaction.angular_momentum, bookings.tests.torque);
    }

    /// Posts it.
    pub fn post(&self, ledger: &mut Ledger) {
        let angular = |angular_momentum| Amounts { angular_momentum, ..Amounts::default() };
        ledger.post(KICK_ROUNDING, angular(self.kick_rounding));
        ledger.post(DRIFT_ROUNDING, angular(self.drift_rounding));
        if self.reaction != Amounts::default() {
            ledger.post(REACTION, self.reaction);
        }
    }
}

/// Why a step did not pass, by rows; [`Trouble::breach`] puts names to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// A pair came too close.
    Impulse(PairOverflow),
    /// Something left its range.
    Range,
    /// A recount differs from the ledger.
    Counted(Breach),
}

impl Trouble {
    /// The breach, with names. The set is the one that the burst left behind.
    #[must_use]
    pub fn breach(self, set: &WorkingSet, contract: Contract, names: &Names) -> Breach {
        match self {
            Self::Impulse(pair) => {
                let [a, b] = [set.id[pair.row], set.id[pair.column]];
                // Two sources pull each other: the lower is named first, wherever their rows are.
                let swap = pair.row < set.sources && b < a;
                Breach::impulse(if swap { [b, a] } else { [a, b] }, names)
            }
            Self::Range => {
                // A drift too long to be held wraps its position, which then may lie anywhere: the fastest particle made it.
                let (row, what) = find_outside(set, contract).unwrap_or((fastest(set), OutOfRange::Position));
                let what = match what {
                    OutOfRange::Position => "position",
                    OutOfRange::Momentum => "momentum",
                };
                Breach::out_of_range(what, set.id[row], names)
            }
            Self::Counted(breach) => breach,
        }
    }
}

/// The row of the fastest particle, along any axis.
pub(crate) fn fastest(set: &WorkingSet) -> usize {
    let speed = |row: usize| {
        set.momentum_at(row).map(|p| (p as f64 * set.inverse_mass[row]).abs()).into_iter().fold(0.0, f64::max)
    };
    set.real_rows().max_by(|&a, &b| speed(a).total_cmp(&speed(b))).unwrap_or(0)
}

/// Proposes up to `steps` steps and stops at the first that breaches its recount. `due` is what the ledger says at the start.
#[inline(always)]
pub fn walk<M: Mover>(mover: &mut M, plan: &Plan, due: &Amounts, steps: u64) -> Burst {
    let mut burst = Burst::default();
    let last = plan.strides.len();
    for _ in 0..steps {
        for (kick, stride) in plan.kicks.iter().zip(&plan.strides) {
            if let Err(pair) = mover.evaluate(*kick, plan.angular) {
                burst.trouble = Some(Trouble::Impulse(pair));
                return burst;
            }
            let bookings = mover.kick_and_drift(*stride, plan.angular);
            burst.book.take(&bookings);
            // At once: at the end of the step the particle may be back inside, and another one would get the blame.
            if bookings.outside() {
                return out_of_range(burst);
            }
        }
        if let Err(pair) = mover.evaluate(plan.kicks[last], plan.angular) {
            burst.trouble = Some(Trouble::Impulse(pair));
            return burst;
        }
        let (bookings, totals) = mover.kick_and_count(plan.angular);
        burst.book.take(&bookings);
        if bookings.outside() {
            return out_of_range(burst);
        }
        if let Err(trouble) = recount(&totals, due, &burst.book, plan.angular) {
            burst.trouble = Some(trouble);
            return burst;
        }
        burst.good += 1;
    }
    burst
}

/// Kept out of the walk, which is hot.
#[cold]
#[inline(never)]
fn out_of_range(burst: Burst) -> Burst {
    Burst { trouble: Some(Trouble::Range), ..burst }
}

/// Compares the totals after a step with what the ledger and the bookings of the burst say. Count and mass cannot change here:
/// the columns that hold them are only borrowed.
#[inline(always)]
fn recount(totals: &Totals, due: &Amounts, book: &Book, angular: bool) -> Result<(), Trouble> {
    let gained = book.gained();
    let momentum_due = add3(due.momentum, gained.momentum);
    let angular_due = add3(due.angular_momentum, gained.angular_momentum);
    if totals.momentum == momentum_due && (!angular || totals.angular_momentum == angular_due) {
        return Ok(());
    }
    let counted = Amounts { momentum: totals.momentum, angular_momentum: totals.angular_momentum, ..*due };
    let due = Amounts { momentum: momentum_due, angular_momentum: angular_due, ..*due };
    audit::exact(&counted, &due, angular).map_err(Trouble::Counted)
}

/// Proposes up to `steps` steps of the working set, by whatever suits its size. The impulses are scratch.
pub fn propose(
    cpu: &Cpu,
    set: &mut WorkingSet,
    impulse: &mut Impulse,
    plan: &Plan,
    due: &Amounts,
    steps: u64,
) -> Burst {
    // A handful of bodies has a walk of its own, under the contract that planets are computed with.
    let few = if plan.contract == Contract::Native64 { Few::of(set) } else { None };
    match few {
        Some(mut few) => {
            let watch = Stopwatch::start();
            let mut burst = cpu.isa().run(FewWalk { few: &mut few, plan, due, steps });
            few.put_back(set);
            burst.phases.add(Phase::Force, watch.seconds());
            burst
        }
        None => {
            let phases = Phases::default();
            let mut many = Many { cpu, set, impulse, contract: plan.contract, guarded: plan.guarded, phases };
            let burst = walk(&mut many, plan, due, steps);
            Burst { phases: many.phases, ..burst }
        }
    }
}

/// Proposes up to `steps` steps on a device, which takes the working set first if it does not hold it yet.
///
/// What the device finds wrong is looked at on the CPU, from the last good step, because only there pairs and particles have names;
/// the working set then stands after the bad step, as after [`propose`].
///
/// # Errors
/// If the device fails, or if the CPU does not find what the device has found.
pub fn propose_on_device(
    gpu: &mut Gpu,
    cpu: &Cpu,
    set: &mut WorkingSet,
    plan: &Plan,
    due: &Amounts,
    steps: u64,
) -> Result<Burst, GpuError> {
    if !gpu.is_loaded() {
        gpu.upload(set)?;
    }
    gpu.keep();
    let stages = Stages { kicks: &plan.kicks, strides: &plan.strides, guarded: plan.guarded, angular: plan.angular };
    let mut burst = Burst::default();
    let mut good = true;
    gpu.propose(&stages, steps, |record| {
        good = judge(&mut burst, record, due, plan.angular);
        good
    })?;
    if !good {
        gpu.restore();
        gpu.propose(&stages, burst.good, |_| true)?;
        gpu.download(set)?;
        let due = due.plus(burst.book.gained());
        let bad = propose(cpu, set, &mut Impulse::default(), plan, &due, 1);
        if bad.trouble.is_none() {
            return Err(GpuError::Disagrees { device: gpu.device().facts().name.clone() });
        }
        burst = Burst { trouble: bad.trouble, book: burst.book.plus(&bad.book), ..burst };
    }
    burst.phases = gpu.take_phases();
    Ok(burst)
}

/// Takes the record of one step into a burst, if it is good.
fn judge(burst: &mut Burst, record: &StepRecord, due: &Amounts, angular: bool) -> bool {
    let mut book = burst.book;
    book.take(&record.bookings);
    let outside = record.pair_out_of_range || record.bookings.outside();
    if outside || recount(&record.totals, due, &book, angular).is_err() {
        return false;
    }
    burst.book = book;
    burst.good += 1;
    true
}

/// Impulses of the last force evaluation: kept, because the next step begins with them.
#[derive(Resource, Clone, Debug, Default)]
pub struct Impulse {
    /// One `Vec` per axis [momentum quanta].
    sums: [Vec<i64>; 3],
    /// The kick that they belong to, while the positions are those that it was evaluated at.
    fresh: Option<Kick>,
}

impl Impulse {
    /// Says that positions or masses have changed.
    pub fn forget(&mut self) {
        self.fresh = None;
    }
}

struct Many<'a> {
    cpu: &'a Cpu,
    set: &'a mut WorkingSet,
    impulse: &'a mut Impulse,
    contract: Contract,
    guarded: bool,
    phases: Phases,
}

impl Mover for Many<'_> {
    fn evaluate(&mut self, kick: Kick, _angular: bool) -> Result<(), PairOverflow> {
        if self.impulse.fresh == Some(kick) {
            return Ok(());
        }
        self.impulse.fresh = None;
        let Self { cpu, set, impulse, contract, guarded, .. } = self;
        self.phases.time(Phase::Force, || cpu.impulses(set, *contract, kick, *guarded, &mut impulse.sums))?;
        self.impulse.fresh = Some(kick);
        Ok(())
    }

    fn kick_and_drift(&mut self, stride: Stride, angular: bool) -> Bookings {
        self.impulse.fresh = None;
        let Self { cpu, set, impulse, contract, .. } = self;
        self.phases.time(Phase::Motion, || cpu.kick_and_drift(set, &impulse.sums, *contract, stride, angular))
    }

    fn kick_and_count(&mut self, angular: bool) -> (Bookings, Totals) {
        let Self { cpu, set, impulse, .. } = self;
        self.phases.time(Phase::Audit, || cpu.kick_and_count(set, &impulse.sums, angular))
    }
}

struct FewWalk<'a> {
    few: &'a mut Few,
    plan: &'a Plan,
    due: &'a Amounts,
    steps: u64,
}

impl Kernel for FewWalk<'_> {
    type Output = Burst;

    #[inline(always)]
    fn run<const L: usize, const ADDS: bool>(self) -> Burst {
        walk(&mut FewLanes::<'_, L, ADDS>(Walk(self.few)), self.plan, self.due, self.steps)
    }
}

struct FewLanes<'a, const L: usize, const ADDS: bool>(Walk<'a>);

impl<const L: usize, const ADDS: bool> Mover for FewLanes<'_, L, ADDS> {
    #[inline(always)]
    fn evaluate(&mut self, kick: Kick, angular: bool) -> Result<(), PairOverflow> {
        self.0.evaluate::<L, ADDS>(kick, angular)
    }

    #[inline(always)]
    fn kick_and_drift(&mut self, stride: Stride, angular: bool) -> Bookings {
        self.0.kick_and_drift::<ADDS>(stride, angular)
    }

    #[inline(always)]
    fn kick_and_count(&mut self, angular: bool) -> (Bookings, Totals) {
        self.0.kick_and_count(angular)
    }
}
