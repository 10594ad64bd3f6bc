//! Particles change hands: after new cuts, or because they moved beyond their owner's range.
//!
//! It happens between committed steps, with everybody: each node sends each other one block of what is theirs now, most of them
//! empty. A particle takes along the impulse that waits for it, so that nothing is evaluated again, and with it what its old
//! partition would have had from others: that is posted between the two as if it had gone there by way of the old owner.
//!
//! A block of particles is taken whole or not at all: each of them must belong here by the cuts, and none may be here already, or come
//! from somebody else too.

use std::collections::{BTreeMap, BTreeSet};

use bevy_ecs::prelude::*;

use super::{Offence, Partition, Progress, cuts::Cuts, keys::key};
use crate::{
    exchange::message::{self, Kind, Migrant},
    ledger::Amounts,
    math::cross,
    metrics::{Phase, Stopwatch},
    particle::{Mass, Momentum, Particle, ParticleId, Position, Radius},
    wire::NodeId,
};

/// A hand-over in progress.
#[derive(Clone, Debug)]
pub(super) struct Handover {
    step: u64,
    waiting: BTreeSet<NodeId>,
    arrived: Vec<(NodeId, Migrant)>,
    left: BTreeSet<u64>,
}

impl Handover {
    /// Where it is in the run, and who has not sent yet. It comes after all stages of its step.
    pub(super) fn waits_for(&self) -> ((u64, u16), Vec<NodeId>) {
        ((self.step, u16::MAX), self.waiting.iter().copied().collect())
    }
}

impl Partition {
    /// Begins to hand over what belongs to others after `step`: by new cuts, or by those that there are. What changes hands is part of
    /// the next step.
    ///
    /// # Panics
    /// If a step is being taken or is undecided.
    pub fn hand_over(&mut self, step: u64, cuts: Option<Cuts>) {
        self.assert_at_rest();
        assert!(self.undecided.is_empty(), "particles change hands at committed steps only");
        let watch = Stopwatch::start();
        self.cuts = cuts.unwrap_or_else(|| self.cuts.clone());
        assert!(self.cuts.sound_for(&self.members), "{}: cuts that name strangers", self.me);
        let others: BTreeSet<NodeId> = self.members.iter().copied().filter(|&node| node != self.me).collect();
        let mut leaving: BTreeMap<NodeId, Vec<Migrant>> = others.iter().map(|&node| (node, Vec::new())).collect();
        let bits = self.common.contract().position_bits();
        let mut left = BTreeSet::new();
        if self.set.rows() > self.impulse[0].len() {
            self.impulse = std::array::from_fn(|_| vec![0; self.set.rows()]);
        }
        for particle in self.particles() {
            let owner = self.cuts.owner(key(particle.position.0, bits));
            if owner != self.me {
                left.insert(particle.id.0);
                self.sent.handed_over += 1;
                let migrant = Migrant { particle, impulse: [0; 3] };
                leaving.get_mut(&owner).expect("cuts name members only").push(migrant);
            }
        }
        if !left.is_empty() {
            let rows: BTreeMap<u64, usize> = self.set.real_rows().map(|row| (self.set.id[row], row)).collect();
            for (&node, migrants) in &mut leaving {
                for migrant in migrants {
                    let row = rows[&migrant.particle.id.0];
                    migrant.impulse = std::array::from_fn(|axis| self.impulse[axis][row]);
                    self.book_migrant(node, migrant, true);
                }
            }
        }
        for (node, migrants) in leaving {
            self.post(node, Kind::Migrants, step, 0, message::migrants(&migrants));
        }
        self.handover = Some(Handover { step, waiting: others, arrived: Vec::new(), left });
        self.phases.add(Phase::Transfer, watch.seconds());
    }

    /// What a particle that leaves for a node, or comes from it, takes along.
    fn book_migrant(&mut self, node: NodeId, migrant: &Migrant, leaves: bool) {
        let (x, p) = (migrant.particle.position.0, migrant.particle.momentum.0);
        let angular = self.plan.angular;
        let amounts = |momentum: [i64; 3]| Amounts {
            momentum: momentum.map(i128::from),
            angular_momentum: if angular { cross(x, momentum) } else { [0; 3] },
            ..Amounts::default()
        };
        let whole = Amounts { count: 1, mass: i128::from(migrant.particle.mass.quanta), ..amounts(p) };
        // What sources give a test particle is booked as reaction, whoever owns it.
        let pending = if migrant.particle.mass.pulls { amounts(migrant.impulse) } else { Amounts::default() };
        let signed = |amounts: Amounts| if leaves { amounts.counter_entry() } else { amounts };
        let entry = self.carried.entry(node).or_default();
        *entry = entry.plus(signed(whole));
        let entry = self.transfers.entry(node).or_default();
        *entry = entry.plus(signed(pending));
    }

    /// Takes in what came.
    pub(super) fn work_on_handover(&mut self) -> Result<Progress, Offence> {
        let mut handover = self.handover.take().expect("there is one");
        for node in handover.waiting.clone() {
            let Some(bytes) = self.early.remove(&(Kind::Migrants, handover.step, 0, node)) else { continue };
            match self.read_arrivals(&bytes, &handover) {
                Ok(migrants) => handover.arrived.extend(migrants.into_iter().map(|migrant| (node, migrant))),
                Err(what) => {
                    self.handover = Some(handover);
                    return Err(Offence { from: node, what, block: bytes });
                }
            }
            handover.waiting.remove(&node);
        }
        if !handover.waiting.is_empty() {
            self.handover = Some(handover);
            return Ok(Progress::Waiting);
        }
        if !(handover.left.is_empty() && handover.arrived.is_empty()) {
            self.settle(&handover);
        }
        // Others may have changed even where nothing did here.
        self.relink();
        Ok(Progress::HandedOver { step: handover.step })
    }

    /// The particles of a block that came, if they can live here.
    fn read_arrivals(&self, bytes: &[u8], handover: &Handover) -> Result<Vec<Migrant>, String> {
        let bits = self.common.contract().position_bits();
        let migrants = message::read_migrants(bytes, bits).map_err(|error| error.to_string())?;
        if migrants.is_empty() {
            return Ok(migrants);
        }
        let here = self.set.real_rows().map(|row| self.set.id[row]).filter(|id| !handover.left.contains(id));
        let arrived = handover.arrived.iter().map(|(_, migrant)| migrant.particle.id.0);
        let taken: BTreeSet<u64> = here.chain(arrived).collect();
        for Migrant { particle, .. } in &migrants {
            let id = particle.id.0;
            if taken.contains(&id) {
                return Err(format!("particle {id} is here already"));
            }
            if self.cuts.owner(key(particle.position.0, bits)) != self.me {
                return Err(format!("particle {id} belongs to somebody else"));
            }
        }
        Ok(migrants)
    }

    /// Lets go of those that left, and houses those that came.
    fn settle(&mut self, handover: &Handover) {
        let watch = Stopwatch::start();
        let mut impulses: BTreeMap<u64, [i64; 3]> = self
            .set
            .real_rows()
            .map(|row| (self.set.id[row], std::array::from_fn(|axis| self.impulse[axis][row])))
            .collect();
        let mut entities = self.world.query::<(Entity, &ParticleId)>();
        let gone = entities.iter(&self.world).filter(|(_, id)| handover.left.contains(&id.0));
        for entity in gone.map(|(entity, _)| entity).collect::<Vec<_>>() {
            self.world.despawn(entity);
        }
        for (node, migrant) in &handover.arrived {
            self.book_migrant(*node, migrant, false);
            impulses.insert(migrant.particle.id.0, migrant.impulse);
        }
        type Bundle = (ParticleId, Position, Momentum, Mass, Radius);
        let housed: Vec<Bundle> =
            handover.arrived.iter().map(|(_, migrant)| Particle::bundle(migrant.particle)).collect();
        self.world.spawn_batch(housed);
        self.gather();
        let mut impulse: [Vec<i64>; 3] = std::array::from_fn(|_| vec![0; self.set.rows()]);
        for row in self.set.real_rows() {
            let waiting = impulses[&self.set.id[row]];
            for axis in 0..3 {
                impulse[axis][row] = waiting[axis];
            }
        }
        self.impulse = impulse;
        self.phases.add(Phase::Transfer, watch.seconds());
    }
}
