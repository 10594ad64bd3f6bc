//! What all nodes of a run know at its start.

use crate::{
    coordinator::{CopyRecord, Holding},
    ledger::Amounts,
    node::State,
    particle::Particle,
    partition::{
        Common,
        cuts::Cuts,
        share::{Whole, owned_by, share_out},
    },
    snapshot::root::StateRoot,
    wire::{Incarnation, NodeId},
};

/// Everything that all nodes of a run know at its start, from the scenario alone.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The particles, and what they are moved by.
    pub state: State,
    /// Who takes part, in which life.
    pub nodes: Vec<(NodeId, Incarnation)>,
    /// Who owns what.
    pub cuts: Cuts,
    /// The owner of each particle.
    owners: Vec<NodeId>,
}

impl Setup {
    /// A setup in which all nodes own equally many particles.
    #[must_use]
    pub fn even(state: State, nodes: Vec<(NodeId, Incarnation)>) -> Self {
        let shares: Vec<(NodeId, u64)> = nodes.iter().map(|(node, _)| (*node, 1)).collect();
        let (cuts, owners) = share_out(&state.particles, state.law.contract, &shares);
        Self { state, nodes, cuts, owners }
    }

    /// What a node owns at the start.
    pub(super) fn particles_of(&self, node: NodeId) -> Vec<Particle> {
        owned_by(&self.state.particles, &self.owners, node).collect()
    }

    /// The copy of step 0 that everybody has.
    pub(super) fn genesis(&self) -> CopyRecord {
        let angular = self.state.rules.angular_momentum;
        let holding = |&(node, incarnation): &(NodeId, Incarnation)| {
            let (held, root) = held_by(&self.particles_of(node), angular);
            Holding { node, incarnation, held, root }
        };
        let partitions: Vec<Holding> = self.nodes.iter().map(holding).collect();
        let root = partitions.iter().fold(0, |sum: u128, part| sum.wrapping_add(part.root));
        CopyRecord { step: 0, root, partitions }
    }
}

/// What all partitions of a run have in common that starts from this state.
#[must_use]
pub fn common_of(state: &State) -> Common {
    Common::of(&Whole {
        particles: &state.particles,
        quanta: state.quanta,
        law: state.law,
        splitting: state.splitting,
        dt: state.clock.signed_dt(),
        rules: state.rules,
    })
}

/// What particles hold, energy aside, and their share of the state root.
pub(super) fn held_by(particles: &[Particle], angular: bool) -> (Amounts, u128) {
    let mut held = Amounts::default();
    for particle in particles {
        let whole = Amounts::of_impulse(particle.position.0, particle.momentum.0);
        let one = Amounts { count: 1, mass: i128::from(particle.mass.quanta), ..whole };
        held = held.plus(one);
    }
    if !angular {
        held.angular_momentum = [0; 3];
    }
    (held, StateRoot::of_particles(particles).0)
}
