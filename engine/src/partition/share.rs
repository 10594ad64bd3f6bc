//! Who gets which share of the particles at the start, and what a partition says of a step: its share of everything that is audited
//! over all of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    cuts::{Cuts, Sketch},
    keys::key,
};
use crate::{
    advance::Book,
    audit::{self, Breach, Centre, Recount, Rules},
    backend::cpu::Cpu,
    contract::Contract,
    force::Law,
    integrator::Splitting,
    ledger::{Amounts, Ledger},
    math::{Exact, add3, cross},
    particle::{Particle, WorkingSet},
    quanta::Quanta,
    snapshot::root::StateRoot,
    wire::NodeId,
};

/// Cuts by which each node owns its share of these particles, and the owner of each particle. Keys are made once, whatever the number of
/// nodes.
///
/// # Panics
/// If nobody has a share.
#[must_use]
pub fn share_out(particles: &[Particle], contract: Contract, shares: &[(NodeId, u64)]) -> (Cuts, Vec<NodeId>) {
    let bits = contract.position_bits();
    let keys: Vec<u128> = particles.iter().map(|particle| key(particle.position.0, bits)).collect();
    let cuts = Cuts::by_shares(&[Sketch::of(&mut keys.clone())], shares);
    let owners = keys.into_iter().map(|key| cuts.owner(key)).collect();
    (cuts, owners)
}

/// The particles of one owner, of all those that [`share_out`] found owners for.
pub fn owned_by<'a>(
    particles: &'a [Particle],
    owners: &'a [NodeId],
    node: NodeId,
) -> impl Iterator<Item = Particle> + use<'a> {
    particles.iter().zip(owners).filter(move |(_, owner)| **owner == node).map(|(particle, _)| *particle)
}

/// A run as a whole, before it is cut into partitions.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    /// All particles.
    pub particles: &'a [Particle],
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
}

/// A step that one partition has done.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The step.
    pub step: u64,
    /// What its particles hold after it, energy aside.
    pub held: Amounts,
    /// What they gained from the accounts that belong to nobody.
    pub book: Book,
    /// What they gained from each other partition.
    pub peers: BTreeMap<NodeId, Amounts>,
    /// Their share of the state root.
    pub root: StateRoot,
    /// Their share of energy and centre of mass, if that was asked for.
    pub recount: Option<RecountShare>,
    /// How long that took; it reaches no state.
    pub took: Took,
}

/// What a step took to compute; time in which a partition waited for others does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Took {
    /// All of it [ns].
    pub nanoseconds: u64,
    /// Pairs evaluated, padding included. Under `fast32`, where who evaluates what is not chosen, they are not counted.
    pub pairs: u64,
    /// The time that went into them [ns].
    pub pair_nanoseconds: u64,
}

impl Took {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            nanoseconds: self.nanoseconds.saturating_add(other.nanoseconds),
            pairs: self.pairs.saturating_add(other.pairs),
            pair_nanoseconds: self.pair_nanoseconds.saturating_add(other.pair_nanoseconds),
        }
    }
}

impl Proposal {
    /// Everything that they gained.
    #[must_use]
    pub fn gained(&self) -> Amounts {
        self.peers.values().fold(self.book.gained(), |sum, gained| sum.plus(*gained))
    }
}

/// Why a step cannot be done, and what comes first where several partitions have something to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// The step.
    pub step: u64,
    /// How far into the step: twice the stage, and one more for what kicks and drifts do. Whoever is stopped earliest counts.
    pub stage: u16,
    /// Among violations at one stage the lowest counts.
    pub order: [u64; 2],
    /// What broke.
    pub breach: Breach,
}

/// The share of one partition in a recount of the bounded quantities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecountShare {
    /// Kinetic energy, a part for [`Exact::sum_of_parts`] [energy quanta].
    pub kinetic: i128,
    /// Minus the potential energy, the same.
    pub binding: i128,
    /// Σ|x × p| in units of [`audit::TAXICAB_UNIT`].
    pub angular_size: u128,
    /// Σ m·x of the sources.
    pub centre: [i128; 3],
    /// Their mass.
    pub mass: i128,
    /// Their momentum.
    pub momentum: [i128; 3],
}

impl RecountShare {
    /// Of the particles of one partition; `binding` is what it evaluated of all pairs.
    #[must_use]
    pub fn of(cpu: &Cpu, set: &WorkingSet, law: &Law, quanta: &Quanta, binding: i128) -> Self {
        let mut share = Self { kinetic: cpu.kinetic(set, law.contract, quanta), binding, ..Self::default() };
        for row in 0..set.sources {
            let (x, p, m) = (set.position_at(row), set.momentum_at(row), set.mass[row] as i128);
            share.angular_size = share.angular_size.saturating_add(audit::taxicab(cross(x, p)));
            share.centre = add3(share.centre, x.map(|x| m * i128::from(x)));
            share.momentum = add3(share.momentum, p.map(i128::from));
            share.mass += m;
        }
        share
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            kinetic: self.kinetic.saturating_add(other.kinetic),
            binding: self.binding.saturating_add(other.binding),
            angular_size: self.angular_size.saturating_add(other.angular_size),
            centre: add3(self.centre, other.centre),
            mass: self.mass.wrapping_add(other.mass),
            momentum: add3(self.momentum, other.momentum),
        }
    }

    /// The centre of mass.
    #[must_use]
    pub fn centre(&self) -> Centre {
        Centre::of_sums(self.centre, self.mass)
    }

    /// The recount that all shares together come to.
    #[must_use]
    pub fn recount(&self, ledger: &Ledger, step: u64) -> Recount {
        Recount {
            step,
            kinetic: Exact::sum_of_parts(self.kinetic),
            potential: Exact::sum_of_parts(self.binding).saturating_neg(),
            booked: ledger.booked().energy,
            angular_rounding: crate::commit::angular_rounding(ledger),
            angular_size: self.angular_size as f64 * audit::TAXICAB_UNIT,
            centre: self.centre().place(),
        }
    }
}
