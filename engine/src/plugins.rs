//! Puts the step together: who runs in which phase. This file knows everybody and does nothing else.

use bevy_ecs::{
    prelude::*,
    schedule::{
        IntoScheduleConfigs, LogLevel, ScheduleBuildError, ScheduleBuildSettings, ScheduleConfigs,
        SingleThreadedExecutor,
    },
    system::ScheduleSystem,
};

use crate::{
    advance::{self, Proposal},
    commit::{self, Before},
    residence::Residence,
    step::{Step, StepSystems},
};

/// The schedule of a step without extensions. Systems run one after the other; parallelism lives inside them.
#[must_use]
pub fn step_schedule() -> Schedule {
    let mut schedule = Schedule::new(Step);
    schedule.set_executor(SingleThreadedExecutor::new());
    // Two systems that touch the same data without a declared order would make bits depend on luck: such a schedule is refused.
    schedule.set_build_settings(ScheduleBuildSettings { ambiguity_detection: LogLevel::Error, ..Default::default() });
    let [admit, advance, extend, audit, commit, account] = StepSystems::ORDER;
    schedule.configure_sets((admit, advance, extend, audit, commit, account).chain());
    let extended = resource_exists::<Before>;
    // A proposal that broke off in the middle of a step is nothing to show: it is undone whatever extensions would say.
    // So is one that a device could not finish.
    let whole = |proposal: Res<'_, Proposal>, residence: Res<'_, Residence>| {
        proposal.burst.trouble.is_none() && residence.fault.is_none()
    };
    schedule.configure_sets(extend.run_if(whole));
    schedule.add_systems((
        (advance::admit, commit::remember.run_if(extended)).chain().in_set(StepSystems::Admit),
        (advance::advance, commit::show.run_if(extended).run_if(whole)).chain().in_set(StepSystems::Advance),
        (advance::admit.run_if(extended).run_if(whole), commit::audit).chain().in_set(StepSystems::Audit),
        (commit::undo, commit::commit).chain().in_set(StepSystems::Commit),
        crate::metrics::account.in_set(StepSystems::Account),
    ));
    schedule
}

/// Adds systems of an extension. They run after every step, see the proposed state of all particles, and post what they do to
/// the [`crate::ledger::Ledger`]; what they do not post is a breach, and the step is undone.
///
/// Undo puts the components of the engine back, and particles that were removed or added; what an extension keeps in components
/// and resources of its own is the extension's to restore. A step taken backwards runs extensions too: whether they take back what
/// they did is theirs as well.
///
/// # Errors
/// If two systems touch the same data and have no order: say `.before`, `.after` or `.chain()`.
pub fn extend<M>(
    world: &mut World,
    systems: impl IntoScheduleConfigs<ScheduleSystem, M>,
) -> Result<(), ScheduleBuildError> {
    let systems: ScheduleConfigs<ScheduleSystem> = systems.into_configs();
    world.init_resource::<Before>();
    world.schedule_scope(Step, |world, schedule| {
        schedule.add_systems(systems.in_set(StepSystems::Extend));
        schedule.initialize(world).map(|_| ())
    })
}
