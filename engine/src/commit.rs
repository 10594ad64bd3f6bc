//! Makes proposed steps final, or undoes them.
//!
//! Without extensions the entities hold the state before the pass until [`commit`] overwrites them: to undo, it leaves them alone
//! and, if only the last step of a burst was bad, proposes the good ones again, which gives the same bits. With extensions the
//! proposal must be visible to their systems, so the state before is copied aside first and put back on undo. A device keeps the
//! state before the pass beside the present one; the entities stay behind until someone looks.

use bevy_ecs::prelude::*;

use crate::{
    advance::{Burst, Impulse, Pass, Plan, Proposal, propose, propose_on_device},
    audit::{self, Breach, BreachReport, Centre, Drifts, Exact, Recount, Rules, Verdict},
    backend::{
        cpu::Cpu,
        gpu::{Gpu, error::GpuError, tally::SurveyRecord},
    },
    force::Law,
    ledger::{Amounts, DRIFT_ROUNDING, KICK_ROUNDING, Ledger, UNEXPLAINED},
    math::{add3, negate3},
    metrics::{Phase, Phases, Stopwatch},
    particle::{
        self, Mass, Momentum, Names, Particle, ParticleId, ParticleMut, ParticleRef, Position, Radius, WorkingSet,
    },
    quanta::Quanta,
    residence::{Anchor, Residence},
    scenario::format::OnBreach,
    step::Clock,
};

/// There are extensions: what the particles were before the pass.
#[derive(Resource, Clone, Debug, Default)]
pub struct Before(Vec<Particle>);

/// Everything that a particle of the engine is.
type Whole = (&'static ParticleId, &'static Position, &'static Momentum, &'static Mass, &'static Radius);

/// Copies the state aside, for extensions.
pub fn remember(particles: Query<'_, '_, Whole>, mut before: ResMut<'_, Before>) {
    before.0.clear();
    before.0.extend(particles.iter().map(|(&id, &position, &momentum, &mass, &radius)| Particle {
        id,
        position,
        momentum,
        mass,
        radius,
    }));
}

/// Shows the proposal to extensions.
///
/// # Errors
/// If particles are not stored in dense tables.
pub fn show(
    mut particles: Query<'_, '_, ParticleMut>,
    mut set: ResMut<'_, WorkingSet>,
    gpu: Option<ResMut<'_, Gpu>>,
    mut residence: ResMut<'_, Residence>,
) -> Result {
    if let (Some(mut gpu), None) = (gpu, &residence.fault) {
        residence.fault = gpu.download(&mut set).err();
    }
    if residence.fault.is_some() { Ok(()) } else { particle::scatter(&mut particles, &set) }
}

/// What a recount of the bounded quantities found, with the record as it would be.
#[derive(Resource, Clone, Debug, Default, PartialEq)]
pub struct Finding {
    /// The last recount.
    pub recount: Option<Recount>,
    /// What was counted, less what the ledger said it must be.
    surplus: Amounts,
    /// The record with that recount taken in.
    drifts: Option<Drifts>,
}

/// Recounts the particles where they are, compares them with the ledger, and decides.
#[expect(clippy::too_many_arguments, reason = "a system names everything that it reads")]
pub fn audit(
    (cpu, gpu): (Res<'_, Cpu>, Option<ResMut<'_, Gpu>>),
    (law, quanta, rules, names): (Res<'_, Law>, Res<'_, Quanta>, Res<'_, Rules>, Res<'_, Names>),
    (clock, pass, proposal): (Res<'_, Clock>, Res<'_, Pass>, Res<'_, Proposal>),
    (set, before): (Res<'_, WorkingSet>, Option<Res<'_, Before>>),
    (ledger, drifts): (Res<'_, Ledger>, Option<Res<'_, Drifts>>),
    mut residence: ResMut<'_, Residence>,
    (mut finding, mut verdict): (ResMut<'_, Finding>, ResMut<'_, Verdict>),
    mut phases: ResMut<'_, Phases>,
) {
    finding.drifts = None;
    *verdict = Verdict::Keep;
    if residence.fault.is_some() {
        return;
    }
    let burst = &proposal.burst;
    if let Some(trouble) = burst.trouble.clone() {
        // The working set stands in the middle of a bad step: it cannot be kept, whatever the rules say.
        *verdict = Verdict::Undo { good: burst.good, breach: trouble.breach(&set, law.contract, &names) };
        return;
    }
    let watch = Stopwatch::start();
    let step = clock.after(burst.good);
    let terms = Terms { law: &law, quanta: &quanta, ledger: &ledger, step, angular: rules.angular_momentum };
    // What extensions did is in the working set alone.
    let found = match gpu.filter(|_| before.is_none()) {
        Some(mut gpu) => terms.on_device(&mut gpu, pass.recount),
        None => Ok(terms.on_cpu(&cpu, &set, pass.recount)),
    };
    phases.add(Phase::Audit, watch.seconds());
    match found {
        Ok((counted, recount)) => {
            let due = ledger.due();
            finding.surplus = counted.plus(due.counter_entry()).without_energy();
            if !rules.angular_momentum {
                finding.surplus.angular_momentum = [0; 3];
            }
            let mut result = audit::exact(&counted, &due, rules.angular_momentum);
            if let (Some(recount), Some(drifts)) = (recount, drifts) {
                let mut next = *drifts;
                let bounded = next.take(&recount, step as f64 * clock.dt, &quanta, &rules);
                (finding.recount, finding.drifts) = (Some(recount), Some(next));
                result = result.and(bounded);
            }
            *verdict = judge(result, burst, &rules);
        }
        Err(fault) => residence.fault = Some(fault),
    }
}

fn judge(result: Result<(), Breach>, burst: &Burst, rules: &Rules) -> Verdict {
    match result {
        Ok(()) => Verdict::Keep,
        // Count and mass cannot change inside a burst: they were wrong before its first step.
        Err(breach @ Breach::Exact { what: Exact::Count | Exact::Mass, .. }) => decide(breach, 0, rules),
        Err(breach) => decide(breach, burst.good.saturating_sub(1), rules),
    }
}

pub(crate) fn decide(breach: Breach, good: u64, rules: &Rules) -> Verdict {
    match rules.on_breach {
        OnBreach::Undo => Verdict::Undo { good, breach },
        OnBreach::Stop => Verdict::KeepAndStop(breach),
        OnBreach::Record => Verdict::KeepAndRecord(breach),
    }
}

/// What the particles of a working set hold, energy aside.
#[must_use]
pub fn count(cpu: &Cpu, set: &WorkingSet, angular: bool) -> Amounts {
    let totals = cpu.count(set, angular);
    Amounts {
        count: set.count() as i128,
        mass: set.real_rows().map(|row| set.mass[row] as i128).sum(),
        momentum: totals.momentum,
        angular_momentum: totals.angular_momentum,
        energy: 0,
    }
}

/// Recounts energy and centre of mass, and reads from the book what rounding did to angular momentum. On a device it is
/// `shaders/survey.wgsl` that counts.
#[must_use]
pub fn recount(cpu: &Cpu, set: &WorkingSet, law: &Law, quanta: &Quanta, ledger: &Ledger, step: u64) -> Recount {
    Recount {
        step,
        kinetic: cpu.kinetic_energy(set, law.contract, quanta),
        potential: cpu.potential_energy(set, law),
        booked: ledger.booked().energy,
        angular_rounding: angular_rounding(ledger),
        angular_size: audit::angular_size(set),
        centre: Centre::of(set).place(),
    }
}

/// The same from the survey of a device.
#[must_use]
pub fn recount_of(survey: &SurveyRecord, ledger: &Ledger, step: u64) -> Recount {
    Recount {
        step,
        kinetic: survey.kinetic,
        potential: -survey.binding,
        booked: ledger.booked().energy,
        angular_rounding: angular_rounding(ledger),
        angular_size: survey.angular_size as f64 * audit::TAXICAB_UNIT,
        centre: Centre::of_sums(survey.centre, survey.source_mass).place(),
    }
}

/// What the particles hold by the survey of a device, energy aside.
#[must_use]
pub fn count_of(survey: &SurveyRecord, angular: bool) -> Amounts {
    Amounts {
        count: survey.count,
        mass: survey.mass,
        momentum: survey.totals.momentum,
        angular_momentum: if angular { survey.totals.angular_momentum } else { [0; 3] },
        energy: 0,
    }
}

pub(crate) fn angular_rounding(ledger: &Ledger) -> [i128; 3] {
    let angular = |account: &str| ledger.accounts.get(account).map_or([0; 3], |held| held.angular_momentum);
    negate3(add3(angular(KICK_ROUNDING), angular(DRIFT_ROUNDING)))
}

/// What a count needs to know.
struct Terms<'a> {
    law: &'a Law,
    quanta: &'a Quanta,
    ledger: &'a Ledger,
    step: u64,
    angular: bool,
}

impl Terms<'_> {
    fn on_cpu(&self, cpu: &Cpu, set: &WorkingSet, bounded: bool) -> (Amounts, Option<Recount>) {
        let recount = || recount(cpu, set, self.law, self.quanta, self.ledger, self.step);
        (count(cpu, set, self.angular), bounded.then(recount))
    }

    fn on_device(&self, gpu: &mut Gpu, bounded: bool) -> Result<(Amounts, Option<Recount>), GpuError> {
        let survey = gpu.survey(self.quanta, bounded.then_some(self.law))?;
        let recount = bounded.then(|| recount_of(&survey, self.ledger, self.step));
        Ok((count_of(&survey, self.angular), recount))
    }
}

/// Breaches so far, and whether the run must stop.
#[derive(Resource, Clone, Debug, Default, PartialEq)]
pub struct Breaches {
    /// In the order in which they came.
    pub reports: Vec<BreachReport>,
    /// Whether the last one ends the run.
    pub stopped: bool,
}

impl Breaches {
    /// Adds a report. A bound that stays broken from one recount to the next is one breach, not a flood of them.
    pub fn record(&mut self, report: BreachReport) {
        let bound = |breach: &Breach| match breach {
            Breach::Bounded { what, .. } => Some(*what),
            _ => None,
        };
        let last = self.reports.last().and_then(|last| bound(&last.breach));
        if last.is_none() || last != bound(&report.breach) || report.undone {
            self.reports.push(report);
        }
    }
}

/// Takes the state before the pass back, if the verdict says so, and proposes the good steps again.
///
/// # Errors
/// If particles are not stored in dense tables.
#[expect(clippy::too_many_arguments, reason = "a system names everything that it reads")]
pub fn undo(
    (cpu, plan, gpu): (Res<'_, Cpu>, Res<'_, Plan>, Option<ResMut<'_, Gpu>>),
    (verdict, proposal): (Res<'_, Verdict>, Res<'_, Proposal>),
    particles: Query<'_, '_, ParticleRef>,
    (mut set, mut impulse): (ResMut<'_, WorkingSet>, ResMut<'_, Impulse>),
    mut residence: ResMut<'_, Residence>,
    mut ledger: ResMut<'_, Ledger>,
    before: Option<Res<'_, Before>>,
    mut commands: Commands<'_, '_>,
) -> Result {
    let Verdict::Undo { good, .. } = *verdict else { return Ok(()) };
    *ledger = proposal.ledger_before.clone();
    impulse.forget();
    if let Some(before) = before {
        restore(before.0.clone(), &mut commands);
        return Ok(());
    }
    let again = match gpu {
        Some(mut gpu) => {
            gpu.restore();
            propose_on_device(&mut gpu, &cpu, &mut set, &plan, &ledger.due(), good)
        }
        None => {
            particle::gather(&particles, &mut set)?;
            Ok(propose(&cpu, &mut set, &mut impulse, &plan, &ledger.due(), good))
        }
    };
    match again {
        Ok(burst) => {
            assert_eq!((burst.good, &burst.trouble), (good, &None), "steps proposed again must be good again");
            burst.book.post(&mut ledger);
        }
        Err(fault) => residence.fault = Some(fault),
    }
    Ok(())
}

/// Makes final what the verdict keeps: after it the entities, or the device that is ahead of them, hold the committed state, and the
/// clock, the ledger and the record go with it.
///
/// # Errors
/// If particles are not stored in dense tables.
#[expect(clippy::too_many_arguments, reason = "a system names everything that it reads")]
pub fn commit(
    (mut verdict, finding, proposal): (ResMut<'_, Verdict>, Res<'_, Finding>, Res<'_, Proposal>),
    mut particles: Query<'_, '_, ParticleMut>,
    (set, gpu): (Res<'_, WorkingSet>, Option<Res<'_, Gpu>>),
    mut residence: ResMut<'_, Residence>,
    mut ledger: ResMut<'_, Ledger>,
    (mut clock, mut breaches): (ResMut<'_, Clock>, ResMut<'_, Breaches>),
    drifts: Option<ResMut<'_, Drifts>>,
    before: Option<Res<'_, Before>>,
) -> Result {
    let Outcome { kept, breach, undone, stopped } = Outcome::of(std::mem::take(&mut *verdict), proposal.burst.good);
    if residence.fault.is_some() {
        // Nothing of this pass counts: the driver gives it to the CPU.
        *ledger = proposal.ledger_before.clone();
        return Ok(());
    }
    match (before, gpu) {
        // The particles were put back already.
        (Some(_), _) if undone => {}
        (None, Some(_)) => residence.leave(|| Anchor {
            clock: *clock,
            ledger: proposal.ledger_before.clone(),
            drifts: drifts.as_deref().copied(),
            breaches: breaches.reports.clone(),
        }),
        _ => particle::scatter(&mut particles, &set)?,
    }
    if !undone {
        if let (Some(mut drifts), Some(next)) = (drifts, finding.drifts) {
            *drifts = next;
        }
        if breach.is_some() && !stopped && finding.surplus != Amounts::default() {
            // From here on the books balance again, so that each breach is recorded once.
            ledger.post(UNEXPLAINED, finding.surplus);
        }
    }
    let judged = clock.after(if undone { kept + 1 } else { kept });
    clock.advance(kept);
    breaches.stopped |= stopped;
    if let Some(breach) = breach {
        breaches.record(BreachReport { step: judged, time: judged as f64 * clock.dt, breach, undone });
    }
    Ok(())
}

/// What a verdict comes to.
struct Outcome {
    /// Steps of the pass that are kept.
    kept: u64,
    breach: Option<Breach>,
    /// Whether the step after them is taken back.
    undone: bool,
    stopped: bool,
}

impl Outcome {
    fn of(verdict: Verdict, proposed: u64) -> Self {
        let (kept, breach, undone, stopped) = match verdict {
            Verdict::Keep => (proposed, None, false, false),
            Verdict::KeepAndRecord(breach) => (proposed, Some(breach), false, false),
            Verdict::KeepAndStop(breach) => (proposed, Some(breach), false, true),
            Verdict::Undo { good, breach } => (good, Some(breach), true, true),
        };
        Self { kept, breach, undone, stopped }
    }
}

/// Puts the particles back as they were, whatever extensions did: by identity, spawning what is gone and removing what is new.
fn restore(before: Vec<Particle>, commands: &mut Commands<'_, '_>) {
    commands.queue(move |world: &mut World| {
        let mut missing: std::collections::BTreeMap<ParticleId, Particle> =
            before.into_iter().map(|p| (p.id, p)).collect();
        let mut entities = world.query::<(Entity, &ParticleId)>();
        let present: Vec<(Entity, ParticleId)> = entities.iter(world).map(|(entity, id)| (entity, *id)).collect();
        for (entity, id) in present {
            match missing.remove(&id) {
                Some(particle) => drop(world.entity_mut(entity).insert(particle.bundle())),
                None => drop(world.despawn(entity)),
            }
        }
        world.spawn_batch(missing.into_values().map(Particle::bundle));
    });
}
