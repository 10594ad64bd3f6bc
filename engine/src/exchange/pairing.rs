//! Who evaluates the pairs of two partitions: as in a tournament on a circle, each node with the nearer half of those after it; or both.
//!
//! With an odd number of nodes every node evaluates its pairs with as many others as evaluate theirs with it. With an even number
//! two nodes that stand opposite share their pairs: the one with the lower place takes half of the other's particles.

use serde::{Deserialize, Serialize};

use crate::{particle::LANES, wire::NodeId};

/// How often the pairs of two partitions are evaluated. No bit depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// Once, by one of the two, and impulses go back: two messages one after the other.
    #[default]
    Shared,
    /// By both, and nothing goes back: one message, and more work.
    Twice,
}

/// Which of a partition's particles, in the order of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Segment {
    /// All of them.
    All,
    /// The first half of its sources, and of its test particles.
    First,
    /// The rest.
    Second,
}

impl Segment {
    /// The indices of a group of `count` particles that belong to it. Halves are cut at whole lanes.
    #[must_use]
    pub fn of(self, count: usize) -> std::ops::Range<usize> {
        let middle = count / 2 / LANES * LANES;
        match self {
            Self::All => 0..count,
            Self::First => 0..middle,
            Self::Second => middle..count,
        }
    }
}

/// Particles of another node that come here to be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Whose they are.
    pub node: NodeId,
    /// Which of them come.
    pub theirs: Segment,
    /// Which of the particles here they meet.
    pub mine: Segment,
}

/// A node to which particles from here go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The node.
    pub node: NodeId,
    /// Which particles go there.
    pub mine: Segment,
}

/// Who evaluates what, as one node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairing {
    /// Whose particles come here.
    pub guests: Vec<Guest>,
    /// Where particles from here go.
    pub hosts: Vec<Host>,
}

impl Pairing {
    /// Each pair of nodes on one side, or half on either.
    ///
    /// # Panics
    /// If `me` is not among the members.
    #[must_use]
    pub fn shared(members: &[NodeId], me: NodeId) -> Self {
        let here = members.iter().position(|&node| node == me).expect("a node is a member of its own partitions");
        let mut pairing = Self::default();
        for (there, &node) in members.iter().enumerate().filter(|&(there, _)| there != here) {
            let ahead = (there + members.len() - here) % members.len();
            let (theirs, mine) = match (2 * ahead).cmp(&members.len()) {
                std::cmp::Ordering::Less => (Some(Guest { node, theirs: Segment::All, mine: Segment::All }), None),
                std::cmp::Ordering::Greater => (None, Some(Host { node, mine: Segment::All })),
                std::cmp::Ordering::Equal if here < there => {
                    let guest = Guest { node, theirs: Segment::First, mine: Segment::All };
                    (Some(guest), Some(Host { node, mine: Segment::All }))
                }
                std::cmp::Ordering::Equal => {
                    let guest = Guest { node, theirs: Segment::All, mine: Segment::Second };
                    (Some(guest), Some(Host { node, mine: Segment::First }))
                }
            };
            pairing.guests.extend(theirs);
            pairing.hosts.extend(mine);
        }
        pairing
    }

    /// Everybody's particles go to everybody: where pairs are evaluated twice, and for contracts whose pairs depend on where all
    /// particles are.
    #[must_use]
    pub fn everywhere(members: &[NodeId], me: NodeId) -> Self {
        let others = || members.iter().copied().filter(|&node| node != me);
        Self {
            guests: others().map(|node| Guest { node, theirs: Segment::All, mine: Segment::All }).collect(),
            hosts: others().map(|node| Host { node, mine: Segment::All }).collect(),
        }
    }

    /// Where both sides evaluate their pairs: whether what passes between two nodes is counted where the particles of `me` are, or where
    /// those of `other` are. Both must count the same, because rounding moves angular momentum; every other pair of places turns it
    /// round, so that nobody has all the work.
    ///
    /// # Panics
    /// If one of them is not among the members.
    #[must_use]
    pub fn counts_at(members: &[NodeId], me: NodeId, other: NodeId) -> bool {
        let place = |node| members.iter().position(|&member| member == node).expect("partitions belong to members");
        let (here, there) = (place(me), place(other));
        (here < there) == ((here + there) % 2 == 1)
    }

    /// What comes here from a node.
    #[must_use]
    pub fn guest(&self, node: NodeId) -> Option<&Guest> {
        self.guests.iter().find(|guest| guest.node == node)
    }

    /// What goes from here to a node.
    #[must_use]
    pub fn host(&self, node: NodeId) -> Option<&Host> {
        self.hosts.iter().find(|host| host.node == node)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Two particles, each by its node and its index there.
    type Pair = [(u16, usize); 2];

    /// How often each pair of particles of different nodes is met, and how many each node evaluates; `counts` particles a node.
    fn met(counts: &[usize]) -> (BTreeMap<Pair, usize>, Vec<usize>) {
        let members: Vec<NodeId> = (0..counts.len() as u16).map(NodeId).collect();
        let (mut met, mut work) = (BTreeMap::new(), vec![0; counts.len()]);
        for &me in &members {
            let pairing = Pairing::shared(&members, me);
            for guest in &pairing.guests {
                let host = Pairing::shared(&members, guest.node).host(me).copied();
                assert_eq!(host, Some(Host { node: me, mine: guest.theirs }), "what is expected is sent");
                for i in guest.mine.of(counts[me.0 as usize]) {
                    for j in guest.theirs.of(counts[guest.node.0 as usize]) {
                        let mut pair = [(me.0, i), (guest.node.0, j)];
                        pair.sort_unstable();
                        *met.entry(pair).or_default() += 1;
                        work[me.0 as usize] += 1;
                    }
                }
            }
        }
        (met, work)
    }

    #[test]
    fn every_two_particles_of_different_nodes_meet_once() {
        for counts in [&[40, 40][..], &[40, 40, 40], &[3, 0, 17, 90], &[16; 8], &[1, 2, 3, 4, 5], &[7]] {
            let (met, _) = met(counts);
            let all: usize = counts.iter().sum();
            let own: usize = counts.iter().map(|n| n * n.saturating_sub(1) / 2).sum();
            assert_eq!(met.len(), all * all.saturating_sub(1) / 2 - own, "{counts:?}");
            assert!(met.values().all(|&times| times == 1), "{counts:?}");
        }
    }

    #[test]
    fn two_nodes_count_on_one_side_and_agree_on_which() {
        let members: Vec<NodeId> = [4, 2, 9, 0, 7].map(NodeId).to_vec();
        for &me in &members {
            let others = || members.iter().filter(|&&node| node != me);
            assert!(
                others()
                    .all(|&node| { Pairing::counts_at(&members, me, node) != Pairing::counts_at(&members, node, me) })
            );
            let here = others().filter(|&&node| Pairing::counts_at(&members, me, node)).count();
            assert_eq!(here, 2, "of five nodes each counts for two of the others");
        }
    }

    #[test]
    fn equal_partitions_are_equally_much_work() {
        for nodes in 1..=9 {
            let (_, work) = met(&vec![32; nodes]);
            assert!(work.iter().all(|&w| w == work[0]), "{nodes} nodes: {work:?}");
        }
    }
}
