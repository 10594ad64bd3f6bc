//! Who owns which range of keys, and where to cut so that all have equally much to do.

use serde::{Deserialize, Serialize};

use crate::wire::NodeId;

/// Ranges of keys along the curve, each with its owner. A node may own several ranges, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cuts {
    /// The first key of each range, growing; the first range begins at 0.
    first: Vec<u128>,
    /// Who owns it.
    owner: Vec<NodeId>,
}

/// Keys of particles at equal distances along a partition, so that cuts can be chosen without knowing all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sketch {
    /// Number of particles.
    pub count: u64,
    /// Some of their keys, growing, each standing for equally many.
    pub keys: Vec<u128>,
}

/// Keys of a sketch, at most.
pub const SKETCH_KEYS: usize = 128;
/// Particles, and nanoseconds, that a node may say it has: within what can be added for any number of nodes.
const SAID_MAX: u64 = 1 << 45;
/// Partitions are cut anew if the slowest node takes longer than the mean by more than this many thousandths.
const TOLERATED_PER_MILLE: u64 = 50;

impl Sketch {
    /// Of these keys, which it sorts.
    #[must_use]
    pub fn of(keys: &mut [u128]) -> Self {
        keys.sort_unstable();
        let some = keys.len().min(SKETCH_KEYS);
        // The middle of each of equal parts.
        let at = |k: usize| keys[(2 * k + 1) * keys.len() / (2 * some)];
        Self { count: keys.len() as u64, keys: (0..some).map(at).collect() }
    }
}

impl Cuts {
    /// Everything is owned by one node.
    #[must_use]
    pub fn whole(owner: NodeId) -> Self {
        Self { first: vec![0], owner: vec![owner] }
    }

    /// Cuts the particles of these sketches so that each owner gets its share of them, in this order along the curve. An owner
    /// whose share is 0 gets none.
    ///
    /// # Panics
    /// If nobody has a share.
    #[must_use]
    pub fn by_shares(sketches: &[Sketch], shares: &[(NodeId, u64)]) -> Self {
        let total: u128 = shares.iter().map(|&(_, share)| u128::from(share)).sum();
        assert!(total > 0, "somebody must own what there is");
        let weighed = weighed_keys(sketches);
        let all: u128 = weighed.iter().map(|&(_, weight)| weight).sum();
        let (mut first, mut owner) = (Vec::new(), Vec::new());
        let mut before = 0_u128;
        for &(node, share) in shares.iter().filter(|(_, share)| *share > 0) {
            // The key before which this share of all particles stands.
            let due = all * before / total;
            let start = if first.is_empty() { 0 } else { key_at(&weighed, due) };
            before += u128::from(share);
            if first.last().is_some_and(|&last| last >= start) {
                continue;
            }
            first.push(start);
            owner.push(node);
        }
        Self { first, owner }
    }

    /// Cuts with these first keys and owners.
    ///
    /// # Errors
    /// If the keys do not grow from 0, or if there are not as many owners.
    pub fn new(first: Vec<u128>, owner: Vec<NodeId>) -> Result<Self, &'static str> {
        let cuts = Self { first, owner };
        cuts.check().map(|()| cuts)
    }

    /// Whether it is what cuts must be; those that came over a network may not be.
    ///
    /// # Errors
    /// What they are not.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.first.len() != self.owner.len() {
            return Err("there are not as many owners as ranges");
        }
        if self.first.first() != Some(&0) {
            return Err("the first range does not begin at 0");
        }
        if self.first.windows(2).all(|pair| pair[0] < pair[1]) { Ok(()) } else { Err("the ranges are not in order") }
    }

    /// Whether they can be used among these members.
    #[must_use]
    pub fn sound_for(&self, members: &[NodeId]) -> bool {
        self.check().is_ok() && self.owner.iter().all(|owner| members.contains(owner))
    }

    /// Who owns a key.
    #[must_use]
    pub fn owner(&self, key: u128) -> NodeId {
        self.owner[self.first.partition_point(|&first| first <= key) - 1]
    }

    /// What belonged to one node belongs to another.
    #[must_use]
    pub fn adopted(mut self, from: NodeId, to: NodeId) -> Self {
        self.owner.iter_mut().filter(|owner| **owner == from).for_each(|owner| *owner = to);
        self
    }

    /// All owners.
    pub fn owners(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.owner.iter().copied()
    }
}

/// Keys with the number of particles that each stands for, in thousandths, growing.
fn weighed_keys(sketches: &[Sketch]) -> Vec<(u128, u128)> {
    let weighed = |sketch: &Sketch| {
        let weight = 1000 * u128::from(sketch.count.min(SAID_MAX)) / (sketch.keys.len().max(1) as u128);
        sketch.keys.iter().map(|&key| (key, weight)).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = sketches.iter().flat_map(weighed).collect();
    all.sort_unstable();
    all
}

/// The first key with at least so much before it; beyond the last if there is not so much.
fn key_at(weighed: &[(u128, u128)], due: u128) -> u128 {
    let mut before = 0;
    for &(key, weight) in weighed {
        if before >= due {
            return key;
        }
        before += weight;
    }
    u128::MAX
}

/// What a node did in some steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effort {
    /// Its particles.
    pub particles: u64,
    /// Time in which it computed [ns]; that in which it waited for others does not count.
    pub nanoseconds: u64,
}

impl Effort {
    /// Within what can be added for any number of nodes.
    fn bounded(self) -> Self {
        Self { particles: self.particles.min(SAID_MAX), nanoseconds: self.nanoseconds.min(SAID_MAX) }
    }
}

/// New shares of particles for nodes that do not take equally long; `None` while it is not worth moving anything.
///
/// Half of the way to where all would take equally long: what is measured is noisy, and a share that overshoots swings. Times
/// decide where a particle lives, never its bits.
#[must_use]
pub fn rebalanced(efforts: &[(NodeId, Effort)]) -> Option<Vec<(NodeId, u64)>> {
    // What nodes say of themselves is bounded before it is added.
    let efforts: Vec<(NodeId, Effort)> = efforts.iter().map(|&(node, effort)| (node, effort.bounded())).collect();
    let particles: u64 = efforts.iter().map(|(_, effort)| effort.particles).sum();
    let working: Vec<_> = efforts.iter().filter(|(_, effort)| effort.particles > 0 && effort.nanoseconds > 0).collect();
    let longest = working.iter().map(|(_, effort)| effort.nanoseconds).max()?;
    let total: u64 = working.iter().map(|(_, effort)| effort.nanoseconds).sum();
    let mean = total / working.len() as u64;
    let idle = efforts.len() > working.len() && particles >= 2 * efforts.len() as u64;
    if !idle && longest <= mean + mean * TOLERATED_PER_MILLE / 1000 {
        return None;
    }
    // Particles a microsecond; a node that had none is taken to be as fast as the mean.
    let speed = |effort: &Effort| u128::from(effort.particles) * 1_000_000 / u128::from(effort.nanoseconds.max(1)) + 1;
    let mean_speed = working.iter().map(|(_, effort)| speed(effort)).sum::<u128>() / working.len() as u128;
    let speed_of =
        |effort: &Effort| if effort.particles > 0 && effort.nanoseconds > 0 { speed(effort) } else { mean_speed };
    let all: u128 = efforts.iter().map(|(_, effort)| speed_of(effort)).sum();
    let share = |&(node, effort): &(NodeId, Effort)| {
        let fair = 1000 * u128::from(particles) * speed_of(&effort) / all;
        (node, ((1000 * u128::from(effort.particles) + fair) / 2) as u64)
    };
    Some(efforts.iter().map(share).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u16) -> Vec<NodeId> {
        (0..count).map(NodeId).collect()
    }

    #[test]
    fn shares_are_kept_and_every_key_has_an_owner() {
        let mut keys: Vec<u128> = (0..10_000).map(|k| (k * 7919 % 10_007) << 100).collect();
        let sketch = Sketch::of(&mut keys.clone());
        for shares in [vec![1, 1, 1, 1], vec![5, 1, 0, 2], vec![0, 0, 3], vec![1]] {
            let shares: Vec<_> = nodes(shares.len() as u16).into_iter().zip(shares).collect();
            let cuts = Cuts::by_shares(std::slice::from_ref(&sketch), &shares);
            let total: u64 = shares.iter().map(|(_, share)| share).sum();
            assert_eq!(cuts.check(), Ok(()));
            for &(node, share) in &shares {
                let owned = keys.iter().filter(|&&key| cuts.owner(key) == node).count() as u64;
                let due = 10_000 * share / total;
                assert!(owned.abs_diff(due) <= 10_000 / SKETCH_KEYS as u64 + 1, "{node}: {owned} of {due}");
            }
        }
        keys.clear();
        let nobody = Cuts::by_shares(&[Sketch::of(&mut keys)], &[(NodeId(0), 1), (NodeId(1), 1)]);
        assert_eq!((nobody.owner(0), nobody.owner(1 << 125)), (NodeId(0), NodeId(0)));
    }

    #[test]
    fn who_is_slower_gets_less_and_small_differences_move_nothing() {
        let effort = |particles, nanoseconds| Effort { particles, nanoseconds };
        let even = [(NodeId(0), effort(100, 1000)), (NodeId(1), effort(100, 1040))];
        assert_eq!(rebalanced(&even), None);

        let uneven = [(NodeId(0), effort(100, 1000)), (NodeId(1), effort(100, 3000))];
        let shares = rebalanced(&uneven).unwrap();
        // Fair would be 150 to 50: half of the way is 125 to 75.
        assert!(shares[0].1.abs_diff(125_000) < 500 && shares[1].1.abs_diff(75_000) < 500, "{shares:?}");

        let idle = [(NodeId(0), effort(100, 1000)), (NodeId(1), effort(0, 0))];
        assert!(rebalanced(&idle).unwrap()[1].1 > 0, "who has nothing gets something");
        assert_eq!(rebalanced(&[]), None);
    }

    #[test]
    fn what_is_no_cut_is_refused() {
        assert!(Cuts::new(vec![0, 5], vec![NodeId(0)]).is_err());
        assert!(Cuts::new(vec![1], vec![NodeId(0)]).is_err());
        assert!(Cuts::new(vec![0, 5, 5], nodes(3)).is_err());
        assert!(Cuts::new(vec![], vec![]).is_err());
        let cuts = Cuts::new(vec![0, 5], nodes(2)).unwrap().adopted(NodeId(0), NodeId(7));
        assert_eq!((cuts.owner(4), cuts.owner(5)), (NodeId(7), NodeId(1)));
    }
}
