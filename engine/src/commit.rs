//! Makes proposed steps final, or undoes them.
//!
//! Without extensions the entities hold the state before the pass until [`commit`] overwrites them: to undo, it leaves them alone
//! and, if only the last step of a burst was bad, proposes the good ones again, which gives the same bits. With extensions the
//! proposal must be visible to their systems, so the state before is copied aside first and put back on undo.

use bevy_ecs::prelude::*;

use crate::{
    advance::{Impulse, Pass, Plan, Proposal, propose},
    audit::{self, Breach, BreachReport, Centre, Drifts, Exact, Recount, Rules, Verdict},
    backend::cpu::Cpu,
    force::Law,
    ledger::{Amounts, DRIFT_ROUNDING, KICK_ROUNDING, Ledger, UNEXPLAINED},
    math::{add3, negate3},
    particle::{
        self, Mass, Momentum, Names, Particle, ParticleId, ParticleMut, ParticleRef, Position, Radius, WorkingSet,
    },
    quanta::Quanta,
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
pub fn show(mut particles: Query<'_, '_, ParticleMut>, set: Res<'_, WorkingSet>) -> Result {
    particle::scatter(&mut particles, &set)
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

/// Recounts the working set, compares it with the ledger, and decides.
#[expect(clippy::too_many_arguments, reason = "a system names everything that it reads")]
pub fn audit(
    cpu: Res<'_, Cpu>,
    (law, quanta, rules, names): (Res<'_, Law>, Res<'_, Quanta>, Res<'_, Rules>, Res<'_, Names>),
    (clock, pass, proposal): (Res<'_, Clock>, Res<'_, Pass>, Res<'_, Proposal>),
    set: Res<'_, WorkingSet>,
    ledger: Res<'_, Ledger>,
    drifts: Option<Res<'_, Drifts>>,
    mut finding: ResMut<'_, Finding>,
    mut verdict: ResMut<'_, Verdict>,
) {
    finding.drifts = None;
    let burst = &proposal.burst;
    if let Some(trouble) = burst.trouble.clone() {
        // The working set stands in the middle of a bad step: it cannot be kept, whatever the rules say.
        *verdict = Verdict::Undo { good: burst.good, breach: trouble.breach(&set, law.contract, &names) };
        return;
    }
    let counted = count(&cpu, &set, rules.angular_momentum);
    finding.surplus = counted.plus(ledger.due().counter_entry()).without_energy();
    if !rules.angular_momentum {
        finding.surplus.angular_momentum = [0; 3];
    }
    let mut result = audit::exact(&counted, &ledger.due(), rules.angular_momentum);
    if let (true, Some(drifts)) = (pass.recount, drifts) {
        let step = clock.after(burst.good);
        let recount = recount(&cpu, &set, &law, &quanta, &ledger, step);
        let mut next = *drifts;
        let bounded = next.take(&recount, step as f64 * clock.dt, &quanta, &rules);
        (finding.recount, finding.drifts) = (Some(recount), Some(next));
        result = result.and(bounded);
    }
    *verdict = match result {
        Ok(()) => Verdict::Keep,
        // Count and mass cannot change inside a burst: they were wrong before its first step.
        Err(breach @ Breach::Exact { what: Exact::Count | Exact::Mass, .. }) => decide(breach, 0, &rules),
        Err(breach) => decide(breach, burst.good.saturating_sub(1), &rules),
    };
}

fn decide(breach: Breach, good: u64, rules: &Rules) -> Verdict {
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

/// Recounts energy and centre of mass, and reads from the book what rounding did to angular momentum.
#[must_use]
pub fn recount(cpu: &Cpu, set: &WorkingSet, law: &Law, quanta: &Quanta, ledger: &Ledger, step: u64) -> Recount {
    let angular = |account: &str| ledger.accounts.get(account).map_or([0; 3], |held| held.angular_momentum);
    Recount {
        step,
        kinetic: cpu.kinetic_energy(set, law.contract, quanta),
        potential: cpu.potential_energy(set, law),
        booked: ledger.booked().energy,
        angular_rounding: negate3(add3(angular(KICK_ROUNDING), angular(DRIFT_ROUNDING))),
        angular_size: audit::angular_size(set),
        centre: Centre::of(set).place(),
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

/// Applies the verdict: after it the entities hold the committed state, and the clock, the ledger and the record go with it.
///
/// # Errors
/// If particles are not stored in dense tables.
#[expect(clippy::too_many_arguments, reason = "a system names everything that it reads")]
pub fn commit(
    (cpu, plan): (Res<'_, Cpu>, Res<'_, Plan>),
    (mut verdict, finding): (ResMut<'_, Verdict>, Res<'_, Finding>),
    mut particles: ParamSet<'_, '_, (Query<'_, '_, ParticleRef>, Query<'_, '_, ParticleMut>)>,
    (mut set, mut impulse): (ResMut<'_, WorkingSet>, ResMut<'_, Impulse>),
    (mut ledger, proposal): (ResMut<'_, Ledger>, Res<'_, Proposal>),
    (mut clock, mut breaches): (ResMut<'_, Clock>, ResMut<'_, Breaches>),
    drifts: Option<ResMut<'_, Drifts>>,
    before: Option<Res<'_, Before>>,
    mut commands: Commands<'_, '_>,
) -> Result {
    let verdict = std::mem::take(&mut *verdict);
    let (kept, breach, undone, stopped) = match verdict {
        Verdict::Keep => (proposal.burst.good, None, false, false),
        Verdict::KeepAndRecord(breach) => (proposal.burst.good, Some(breach), false, false),
        Verdict::KeepAndStop(breach) => (proposal.burst.good, Some(breach), false, true),
        Verdict::Undo { good, breach } => (good, Some(breach), true, true),
    };
    let judged = clock.after(if undone { kept + 1 } else { kept });
    if undone {
        *ledger = proposal.ledger_before.clone();
        impulse.forget();
        match before {
            Some(before) => restore(before.0.clone(), &mut commands),
            None => {
                particle::gather(&particles.p0(), &mut set)?;
                let burst = propose(&cpu, &mut set, &mut impulse, &plan, &ledger.due(), kept);
                assert_eq!((burst.good, &burst.trouble), (kept, &None), "steps proposed again must be good again");
                burst.book.post(&mut ledger);
                particle::scatter(&mut particles.p1(), &set)?;
            }
        }
    } else {
        particle::scatter(&mut particles.p1(), &set)?;
        if let (Some(mut drifts), Some(next)) = (drifts, finding.drifts) {
            *drifts = next;
        }
        if breach.is_some() && !stopped {
            // From here on the books balance again, so that each breach is recorded once.
            ledger.post(UNEXPLAINED, finding.surplus);
        }
    }
    clock.advance(kept);
    breaches.stopped |= stopped;
    if let Some(breach) = breach {
        breaches.record(BreachReport { step: judged, time: judged as f64 * clock.dt, breach, undone });
    }
    Ok(())
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
