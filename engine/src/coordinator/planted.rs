//! Faults that the simulator plants to see that it would find them. Nothing else ever sets one.

/// One rule of the protocol, left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// Letters of older epochs count.
    OldEpochCounts,
    /// A decision counts when the coordinator has stored it.
    CoordinatorAloneDecides,
    /// A decision is made when all but one have voted.
    OneVoteMissing,
    /// A vote for another step counts for this one.
    StaleVoteCounts,
    /// What one node gained another need not have lost.
    PairsUnchecked,
    /// A node's recount need not fit its gains.
    NodesUnchecked,
    /// A sealed replica still stores decisions.
    SealedStores,
    /// A successor that was accepted is not proposed again.
    AcceptedForgotten,
    /// The new epoch starts from the proposer's own log.
    OwnLogOnly,
    /// A decision from anybody counts.
    AnybodyDecides,
    /// Older copies are dropped when a new one is begun.
    CopiesDroppedEarly,
    /// A copy counts as complete before all have it.
    CopyIncomplete,
    /// The next step begins although a boundary comes before it.
    BoundaryNotDrained,
    /// The refusal that comes first is reported.
    FirstRefusalReported,
    /// Who was found to be wrong stays a member.
    IsolatedStays,
    /// Half of the replicas are enough.
    HalfIsEnough,
    /// Recomputed steps are not compared.
    RecomputedUnchecked,
    /// Votes are sent once.
    VotesSentOnce,
    /// Decisions are sent to replicas once.
    AcceptsSentOnce,
    /// A step begins that was not granted.
    GrantIgnored,
    /// Somebody who is accused again and again stays.
    AccusedStays,
    /// Every accuser is believed, as often as it likes.
    AccusersAlwaysBelieved,
    /// Nobody notices that nothing moves.
    StandsStill,
}

/// All of them.
pub const ALL: &[Planted] = &[
    Planted::OldEpochCounts,
    Planted::CoordinatorAloneDecides,
    Planted::OneVoteMissing,
    Planted::StaleVoteCounts,
    Planted::PairsUnchecked,
    Planted::NodesUnchecked,
    Planted::SealedStores,
    Planted::AcceptedForgotten,
    Planted::OwnLogOnly,
    Planted::AnybodyDecides,
    Planted::CopiesDroppedEarly,
    Planted::CopyIncomplete,
    Planted::BoundaryNotDrained,
    Planted::FirstRefusalReported,
    Planted::IsolatedStays,
    Planted::HalfIsEnough,
    Planted::RecomputedUnchecked,
    Planted::VotesSentOnce,
    Planted::AcceptsSentOnce,
    Planted::GrantIgnored,
    Planted::AccusedStays,
    Planted::AccusersAlwaysBelieved,
    Planted::StandsStill,
];
