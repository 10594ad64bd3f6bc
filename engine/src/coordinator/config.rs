//! Who takes part in an epoch, where it starts, and who takes over what.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    account::Totals,
    decision::{CopyRecord, Decision, Hash, Head},
    offence::{OFFENCES_MAX, Offence, WHAT_BYTES_MAX},
};
use crate::wire::{Epoch, Incarnation, NodeId};

/// Replicas of the coordinator, where there are as many members: 2F + 1 with F = 1.
pub const REPLICAS: usize = 3;
/// Decisions that are kept since the last complete copy. A new copy is asked for when half of them are there.
pub const LOG_MAX: usize = 512;

/// The configuration of an epoch. Each is chosen by a majority of the replicas of the one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// 0 for the run itself; something else for a survivor that an operator let go on alone. Branches never hear each other.
    pub branch: u64,
    /// Its number: one more than that of its parent.
    pub epoch: Epoch,
    /// Hash of the configuration before.
    pub parent: Hash,
    /// Who gathers votes and decides.
    pub coordinator: NodeId,
    /// Who computes and votes, sorted.
    pub members: Vec<(NodeId, Incarnation)>,
    /// Who stores decisions before they count, and chooses the next configuration; the coordinator is the first.
    pub replicas: Vec<NodeId>,
    /// The copy from which everybody starts.
    pub restart: CopyRecord,
    /// For each partition of that copy, who takes it.
    pub adoption: BTreeMap<NodeId, NodeId>,
    /// The last complete copy: [`Config::restart`], unless that one was lost with its holders.
    pub copy: CopyRecord,
    /// The end of the chain. Steps up to it are computed again and must give the roots that they had.
    pub head: Head,
    /// The last decisions of the chain: those that the roots are taken from.
    pub log: Vec<Decision>,
    /// The judge's notes after [`Config::head`].
    pub notes: Vec<u8>,
    /// The first boundary of the epoch.
    pub next_boundary: u64,
    /// Nodes that were found to be wrong, and why: they never take part again.
    pub isolated: BTreeMap<NodeId, String>,
    /// What was found, epoch after epoch, when steps were recomputed and were not what they had been, and no single node could be
    /// named. The run stops at [`TROUBLES_MAX`] in a row.
    pub troubles: Vec<String>,
    /// Of what nodes were accused since the last complete copy: who is accused again is left out.
    pub offences: Vec<Offence>,
    /// At whose word a node was left out. Nobody is left out at the same word a second time.
    pub believed: BTreeSet<NodeId>,
    /// How many epochs in a row ended because nothing moved any more.
    pub stalls: u32,
}

/// How often recomputing may fail, with nobody to name, before the run stops.
pub const TROUBLES_MAX: usize = 3;

impl Config {
    /// The first of a run, whose nodes own these partitions of the initial state.
    ///
    /// # Panics
    /// If there is no partition, or two of the same node, or they are not sorted.
    #[must_use]
    pub fn first(genesis: &CopyRecord, next_boundary: u64) -> Self {
        let members: Vec<_> = genesis.partitions.iter().map(|part| (part.node, part.incarnation)).collect();
        assert!(!members.is_empty() && members.windows(2).all(|pair| pair[0].0 < pair[1].0), "{members:?}");
        assert_eq!(genesis.step, 0, "a run starts before its first step");
        let coordinator = members[0].0;
        Self {
            branch: 0,
            epoch: Epoch(1),
            parent: Hash::default(),
            coordinator,
            replicas: replicas_of(coordinator, &members),
            adoption: members.iter().map(|(node, _)| (*node, *node)).collect(),
            members,
            restart: genesis.clone(),
            copy: genesis.clone(),
            head: Head { index: 0, step: 0, root: genesis.root, hash: Hash::of(genesis) },
            log: Vec::new(),
            notes: Vec::new(),
            next_boundary,
            isolated: BTreeMap::new(),
            troubles: Vec::new(),
            offences: Vec::new(),
            believed: BTreeSet::new(),
            stalls: 0,
        }
    }

    /// Covers everything.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(self)
    }

    /// How many replicas must store something before it counts.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.replicas.len() / 2 + 1
    }

    /// Whether a life of a node takes part.
    #[must_use]
    pub fn has(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.incarnation(node) == Some(incarnation)
    }

    /// The life of a node that takes part.
    #[must_use]
    pub fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        let at = self.members.binary_search_by_key(&node, |(member, _)| *member).ok()?;
        Some(self.members[at].1)
    }

    /// The numbers of the members.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().map(|(node, _)| *node)
    }

    /// Who keeps a copy of what a node owns: the next in the ring; nobody where there is nobody else.
    #[must_use]
    pub fn buddy(&self, node: NodeId) -> Option<NodeId> {
        let next = self.nodes().find(|other| *other > node).or_else(|| self.nodes().next())?;
        (next != node).then_some(next)
    }

    /// What each member holds at the start, by the copy, and its share of the root.
    #[must_use]
    pub fn holdings_at_restart(&self) -> BTreeMap<NodeId, Totals> {
        let mut holdings: BTreeMap<NodeId, Totals> = self.nodes().map(|node| (node, Totals::default())).collect();
        for part in &self.restart.partitions {
            let adopter = self.adoption[&part.node];
            let sum = holdings.get_mut(&adopter).expect("adopters are members");
            *sum = Totals { held: sum.held.plus(part.held), root: sum.root.wrapping_add(part.root) };
        }
        holdings
    }

    /// Whether recomputing failed so often that the run stops here.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.troubles.len() >= TROUBLES_MAX
    }

    /// Whether what is said for people keeps its limits: it is written down on one line.
    fn has_short_texts(&self) -> bool {
        let texts =
            self.isolated.values().chain(&self.troubles).chain(self.offences.iter().map(|offence| &offence.what));
        texts.map(String::len).max().unwrap_or(0) <= WHAT_BYTES_MAX
    }

    /// Whether the parts fit each other: a configuration is checked before it is proposed and when it is taken in.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let members: BTreeSet<NodeId> = self.nodes().collect();
        let sorted = self.members.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let replicas: BTreeSet<NodeId> = self.replicas.iter().copied().collect();
        let chained =
            self.log.windows(2).all(|pair| pair[1].index == pair[0].index + 1 && pair[1].previous == pair[0].hash());
        let ends = self.log.last().is_none_or(|last| Head::after(last) == self.head);
        sorted
            && !members.is_empty()
            && self.replicas == replicas_of(self.coordinator, &self.members)
            && replicas.len() == self.replicas.len()
            && replicas.is_subset(&members)
            && self
                .restart
                .partitions
                .iter()
                .all(|part| self.adoption.get(&part.node).is_some_and(|adopter| members.contains(adopter)))
            && self.isolated.keys().all(|node| !members.contains(node))
            && self.log.len() <= LOG_MAX
            && self.troubles.len() <= TROUBLES_MAX
            && self.offences.len() <= OFFENCES_MAX
            && self.has_short_texts()
            && self.restart.step <= self.head.step
            && self.next_boundary > self.head.step
            && chained
            && ends
    }
}

/// The coordinator and the first others, three in all; fewer where there are fewer.
#[must_use]
pub fn replicas_of(coordinator: NodeId, members: &[(NodeId, Incarnation)]) -> Vec<NodeId> {
    let others = members.iter().map(|(node, _)| *node).filter(|node| *node != coordinator);
    std::iter::once(coordinator).chain(others).take(REPLICAS).collect()
}
