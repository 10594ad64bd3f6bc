//! Toy physics: a few integer particles for each node, whose impulses cross between nodes, so that double entry means something.
//!
//! A pair gets one impulse, odd in the pair; a field gives each particle a little more. Nothing depends on who owns what.

use std::collections::BTreeMap;

use emmy::{
    coordinator::{Account, Holding, Share},
    ledger::Amounts,
    wire::{Incarnation, NodeId, decode, encode},
};

use crate::chance::{Chance, mix};

/// A particle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Particle {
    pub(crate) id: u32,
    pub(crate) place: i64,
    pub(crate) momentum: i64,
    pub(crate) mass: i64,
}

/// Sorted by id.
pub(crate) type Particles = Vec<Particle>;

/// What a node gained, by account.
pub(crate) type Gains = BTreeMap<Account, Amounts>;

impl Particle {
    fn root(&self) -> u128 {
        let low = mix(u64::from(self.id) ^ mix(self.place as u64 ^ mix(self.momentum as u64)));
        let high = mix(low ^ self.mass as u64 ^ mix(self.place as u64));
        u128::from(high) << 64 | u128::from(low)
    }

    fn amounts(&self) -> Amounts {
        Amounts {
            count: 1,
            mass: i128::from(self.mass),
            momentum: [i128::from(self.momentum), 0, 0],
            ..Amounts::default()
        }
    }
}

pub(crate) fn root(particles: &[Particle]) -> u128 {
    particles.iter().fold(0, |sum, particle| sum.wrapping_add(particle.root()))
}

pub(crate) fn held(particles: &[Particle]) -> Amounts {
    particles.iter().fold(Amounts::default(), |sum, particle| sum.plus(particle.amounts()))
}

pub(crate) fn share(particles: &[Particle], gains: &Gains, work_ns: u64) -> Share {
    let gained = gains.iter().map(|(account, amounts)| (*account, *amounts)).collect();
    Share { held: held(particles), gained, root: root(particles), extra: Vec::new(), work_ns }
}

fn momentum(p: i64) -> Amounts {
    Amounts { momentum: [i128::from(p), 0, 0], ..Amounts::default() }
}

fn post(gains: &mut Gains, account: Account, amounts: Amounts) {
    let sum = gains.entry(account).or_default();
    *sum = sum.plus(amounts);
}

fn impulse(of: &Particle, from: &Particle) -> i64 {
    ((from.place - of.place) / 16).clamp(-900, 900)
}

/// One step of the particles of one node, given those of all.
pub(crate) fn advance(me: NodeId, all: &BTreeMap<NodeId, Particles>, step: u64) -> (Particles, Gains) {
    let mut gains = Gains::new();
    let mut own = all[&me].clone();
    for particle in &mut own {
        let before = *particle;
        for (node, others) in all {
            for other in others.iter().filter(|other| other.id != before.id) {
                let impulse = impulse(&before, other);
                particle.momentum += impulse;
                if *node != me {
                    post(&mut gains, Account::Peer(*node), momentum(impulse));
                }
            }
        }
        let field = (mix(u64::from(before.id) << 32 | step) % 7) as i64 - 3;
        particle.momentum += field;
        post(&mut gains, Account::Reaction, momentum(field));
        particle.place += particle.momentum / 8;
    }
    (own, gains)
}

/// Who owns a particle by these cuts.
fn owner(id: u32, cuts: &(u64, Vec<NodeId>)) -> NodeId {
    let (salt, nodes) = cuts;
    nodes[((mix(u64::from(id)) % 5 + u64::from(id) + salt) % nodes.len() as u64) as usize]
}

/// The cuts after a step: everything moves round a little.
pub(crate) fn write_cuts(step: u64, nodes: Vec<NodeId>) -> Vec<u8> {
    encode(&(step / 3, nodes))
}

/// What a node has after a hand-over, and what it gained from whom.
pub(crate) fn hand_over(me: NodeId, all: &BTreeMap<NodeId, Particles>, cuts: &[u8]) -> (Particles, Gains) {
    let cuts: (u64, Vec<NodeId>) = decode(cuts, "cuts", 1 << 12).expect("cuts of this simulation");
    let mut gains = Gains::new();
    let mut own = Particles::new();
    for (node, particles) in all {
        for particle in particles {
            let to = owner(particle.id, &cuts);
            if to == me {
                own.push(*particle);
            }
            if *node == me && to != me {
                post(&mut gains, Account::Peer(to), particle.amounts().counter_entry());
            } else if *node != me && to == me {
                post(&mut gains, Account::Peer(*node), particle.amounts());
            }
        }
    }
    own.sort_unstable();
    (own, gains)
}

pub(crate) fn add_gains(to: &mut Gains, more: Gains) {
    for (account, amounts) in more {
        post(to, account, amounts);
    }
}

/// The partitions at the start.
pub(crate) fn initial(seed: u64, nodes: u16) -> BTreeMap<NodeId, Particles> {
    let mut chance = Chance::new(seed, 77);
    let mut id = 0;
    let mut partition = |_: u16| {
        let count = chance.between(2, 4);
        let mut particle = || {
            id += 1;
            let place = chance.below(20_000) as i64 - 10_000;
            Particle { id, place, momentum: chance.below(200) as i64 - 100, mass: chance.between(1, 9) as i64 }
        };
        (0..count).map(|_| particle()).collect()
    };
    (0..nodes).map(|node| (NodeId(node), partition(node))).collect()
}

pub(crate) fn holdings(partitions: &BTreeMap<NodeId, Particles>) -> Vec<Holding> {
    let holding = |(node, particles): (&NodeId, &Particles)| Holding {
        node: *node,
        incarnation: Incarnation(1),
        held: held(particles),
        root: root(particles),
    };
    partitions.iter().map(holding).collect()
}

/// What one process that owns everything comes to.
pub(crate) struct Truth {
    /// Root and totals after each step, from 0.
    pub(crate) steps: Vec<(u128, Amounts)>,
}

impl Truth {
    pub(crate) fn of(partitions: &BTreeMap<NodeId, Particles>, steps: u64) -> Self {
        let one = NodeId(0);
        let mut all: Particles = partitions.values().flatten().copied().collect();
        let mut found = vec![(root(&all), held(&all))];
        for step in 1..=steps {
            all = advance(one, &BTreeMap::from([(one, all)]), step).0;
            found.push((root(&all), held(&all)));
        }
        Self { steps: found }
    }
}
