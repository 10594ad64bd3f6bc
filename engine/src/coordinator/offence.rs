//! Offences: a member that sends what no correct node sends, or keeps back what the others wait for.
//!
//! The books cannot find these: no step is there to be balanced. Whoever is offended accuses instead of voting, the step is undone, and
//! nobody can prove anything, because a block is sealed for its receiver and not signed. So the first accusation is a reason to take
//! the step again in a new epoch, where all that may be stuck or spoilt begins anew. Whoever is accused again before the next copy
//! is left out; and at the word of one accuser one node is left out and no more: who wants a second one out goes itself.
//!
//! Somebody who keeps things back is found by the coordinator: with every beat members say how far they are and whom they wait for.
//! When nothing has moved anywhere for a long time, whoever is ahead of those that wait for it is accused, if it is one node.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Machine, NODES_MAX, Then, Vote, planted::Planted};
use crate::wire::{Epoch, NodeId};

/// Bytes of what is said of an offence.
pub const WHAT_BYTES_MAX: usize = 512;
/// Offences that a configuration remembers.
pub(super) const OFFENCES_MAX: usize = 16;
/// How often the time for which nothing may move is doubled, when new epochs change nothing.
const DOUBLINGS_MAX: u32 = 4;

/// What somebody says that somebody else did.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Offence {
    /// Who did it.
    pub of: NodeId,
    /// Who says so.
    pub by: NodeId,
    /// What it was, for people.
    pub what: String,
}

impl std::fmt::Display for Offence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} says of {}: {}", self.by, self.of, self.what)
    }
}

/// How far the computing of a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Another number whenever anything has moved: work done, blocks or parts of them come.
    pub progress: u64,
    /// Where: a step and a stage of it; the largest there is where nothing is to be done.
    pub at: (u64, u16),
    /// From whom blocks are awaited, without which nothing can be done here.
    pub waits_for: Vec<NodeId>,
}

impl Default for Standing {
    fn default() -> Self {
        Self { progress: 0, at: (u64::MAX, u16::MAX), waits_for: Vec::new() }
    }
}

/// Cuts a text to its limit.
pub(super) fn shortened(mut what: String) -> String {
    let end = (0..=WHAT_BYTES_MAX.min(what.len())).rev().find(|&end| what.is_char_boundary(end));
    what.truncate(end.unwrap_or(0));
    what
}

/// Why an epoch is over although nothing was decided that ends it.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// Members that are wrong, and what they did.
    pub(super) isolate: BTreeMap<NodeId, String>,
    /// Committed steps were recomputed and are others, but nobody can be named: what was found.
    pub(super) trouble: Option<String>,
    /// Somebody was accused, and nothing can be decided about it.
    pub(super) offence: Option<Offence>,
    /// Nothing moves any more.
    pub(super) stall: Option<Stall>,
}

impl Findings {
    pub(super) fn something(&self) -> bool {
        !self.isolate.is_empty() || self.trouble.is_some() || self.offence.is_some() || self.stall.is_some()
    }
}

/// Whether nobody can be named, or who.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stall {
    /// Nothing moves, and everybody waits for somebody.
    Unnamed,
    /// Others wait for this one, and it for nobody.
    By(NodeId, String),
}

impl Machine {
    /// This node was sent something that it cannot use: it accuses the sender instead of voting on the step that it is at.
    pub(super) fn take_offence(&mut self, epoch: Epoch, of: NodeId, what: String) {
        let member = self.config.as_ref().is_some_and(|config| config.incarnation(of).is_some());
        if epoch != self.epoch || !member || of == self.me || self.work.undone {
            return;
        }
        let next = self.work.next;
        let step = if matches!(self.work.outcomes.get(&next), Some(Vote::Yes(_))) { next + 1 } else { next };
        let open = matches!(self.work.outcomes.get(&step), None | Some(Vote::Held { .. }));
        if open {
            self.say(step, Vote::Accuses { of, what: shortened(what) });
        }
    }

    /// The accusation that a step is undone for: the same, whoever was heard first of those that are known.
    pub(super) fn accusation(&self) -> Option<Offence> {
        let accuses = |(&by, vote): (&NodeId, &Vote)| match vote {
            Vote::Accuses { of, what } => Some(Offence { of: *of, by, what: shortened(what.clone()) }),
            _ => None,
        };
        self.chair.as_ref()?.votes.iter().filter_map(accuses).min()
    }

    /// What follows an accusation.
    pub(super) fn after_offence(&self, offence: &Offence) -> Then {
        let config = self.current();
        let known =
            config.offences.iter().any(|earlier| earlier.of == offence.of) && !self.plants(Planted::AccusedStays);
        let spent = config.believed.contains(&offence.by) && !self.plants(Planted::AccusersAlwaysBelieved);
        // Who accuses a stranger, or itself in a vote, says nothing about anybody else.
        let sound = config.incarnation(offence.of).is_some() && (offence.of != offence.by || offence.by == self.me);
        if config.members.len() == 1 {
            Then::Stop
        } else if !sound || (known && spent) {
            Then::Isolate(offence.by)
        } else if known {
            Then::Isolate(offence.of)
        } else {
            Then::Retry
        }
    }

    /// A step cannot be finished, and nothing can be decided about it: the epoch is over.
    pub(super) fn offended_again(&mut self, offence: Offence) {
        let then = self.after_offence(&offence);
        if let Then::Isolate(node) = then {
            self.found.isolate.insert(node, offence.to_string());
        }
        self.found.offence = Some(offence);
    }

    /// An accusation of this node that its coordinator has not followed; it may be the one that is accused.
    pub(super) fn accuses_in_vain(&self) -> bool {
        let accuses = matches!(self.work.outcomes.get(&self.work.next), Some(Vote::Accuses { .. }));
        accuses && !self.work.undone
    }

    /// What the next configuration remembers: nothing older than the last complete copy.
    pub(super) fn remembered_offences(&self, copy_step: u64, decided: Option<&Offence>) -> Vec<Offence> {
        let config = self.current();
        let earlier = config.offences.iter().filter(|_| config.copy.step == copy_step).cloned();
        let own = match self.work.outcomes.get(&self.work.next) {
            Some(Vote::Accuses { of, what }) => Some(Offence { of: *of, by: self.me, what: what.clone() }),
            _ => None,
        };
        let new = self.found.offence.clone().or(decided.cloned()).or(own);
        let mut all: Vec<Offence> = earlier.collect();
        let new = new.filter(|new| !all.contains(new));
        all.extend(new);
        all.drain(..all.len().saturating_sub(OFFENCES_MAX));
        all
    }

    /// A decision that its coordinator cannot have made: it is accused to the other replicas, by one of them.
    pub(super) fn object_to(&mut self, from: NodeId, what: String) {
        assert_ne!(from, self.me, "{what}");
        if !self.found.something() {
            self.offended_again(Offence { of: from, by: self.me, what: shortened(what) });
        }
    }

    // ---------------------------------------------------------------------------------------- nothing moves

    /// Looks whether nothing has moved anywhere for too long while there is something to be done. The coordinator looks first; the other
    /// replicas, in turn, in case it is the coordinator that does not.
    pub(super) fn watch_standing(&mut self) {
        if self.found.something() || self.plants(Planted::StandsStill) {
            return;
        }
        let Some(stall) = self.stall() else { return };
        // A coordinator that keeps something back itself gets a second chance like everybody, and leaves after that.
        if let Stall::By(of, what) = &stall {
            self.offended_again(Offence { of: *of, by: self.me, what: what.clone() });
        }
        self.found.stall = Some(stall);
    }

    fn stall(&self) -> Option<Stall> {
        let config = self.config.as_ref()?;
        let rank = config.replicas.iter().position(|node| *node == self.me)? as u64;
        let patience_ns = (1 + rank) * (self.options.stall_ns << config.stalls.min(DOUBLINGS_MAX));
        let under_way = self.work.started >= self.work.next && !self.work.undone && !self.chain.is_stopped();
        let waits = !self.standing.waits_for.is_empty();
        if config.members.len() == 1 || !(under_way || waits) || self.now.since(self.moved) <= patience_ns {
            return None;
        }
        let mut standings: BTreeMap<NodeId, &Standing> = BTreeMap::from([(self.me, &self.standing)]);
        for node in config.nodes().filter(|node| *node != self.me) {
            let peer = self.peers.get(&node)?;
            if self.now.since(peer.moved) <= patience_ns {
                return None;
            }
            standings.insert(node, &peer.standing);
        }
        Some(Self::who_keeps_back(&standings))
    }

    /// Of nodes that all stand still, the one that is ahead of those that have come least far and wait for it, if there is one: what
    /// they need it has behind it.
    pub(super) fn who_keeps_back(standings: &BTreeMap<NodeId, &Standing>) -> Stall {
        let waiting = standings.iter().filter(|(_, standing)| !standing.waits_for.is_empty());
        let Some(last) = waiting.clone().map(|(_, standing)| standing.at).min() else { return Stall::Unnamed };
        let waiting = waiting.filter(|(_, standing)| standing.at == last);
        let ahead = |node: &&NodeId| standings.get(node).is_some_and(|standing| standing.at > last);
        let wanted: BTreeSet<NodeId> =
            waiting.clone().flat_map(|(_, standing)| &standing.waits_for).filter(ahead).copied().collect();
        let mut wanted = wanted.into_iter();
        let (Some(one), None) = (wanted.next(), wanted.next()) else { return Stall::Unnamed };
        let waiting = waiting.filter(|(_, standing)| standing.waits_for.contains(&one));
        let waiting: Vec<String> = waiting.map(|(node, _)| node.to_string()).collect();
        Stall::By(one, format!("it keeps back what {} waits for", waiting.join(", ")))
    }

    /// A member said how far it is.
    pub(super) fn hear_standing(&mut self, from: NodeId, standing: Standing) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&from).filter(|_| standing.waits_for.len() <= NODES_MAX) else { return };
        if peer.standing != standing {
            (peer.standing, peer.moved) = (standing, now);
        }
    }

    /// This node's own computing says how far it is.
    pub(super) fn take_standing(&mut self, standing: Standing) {
        if self.standing != standing {
            (self.standing, self.moved) = (standing, self.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Node, step, whom it waits for.
    type Case<'a> = (u16, u64, &'a [u16]);

    fn named(cases: &[Case<'_>]) -> Option<NodeId> {
        let standing = |(node, step, waits): &Case<'_>| {
            let waits_for = waits.iter().map(|&node| NodeId(node)).collect();
            (NodeId(*node), Standing { progress: 7, at: (*step, 0), waits_for })
        };
        let standings: BTreeMap<NodeId, Standing> = cases.iter().map(standing).collect();
        match Machine::who_keeps_back(&standings.iter().map(|(node, standing)| (*node, standing)).collect()) {
            Stall::By(node, _) => Some(node),
            Stall::Unnamed => None,
        }
    }

    #[test]
    fn of_nodes_that_stand_still_the_one_that_is_ahead_of_those_that_wait_for_it_is_named() {
        const REST: u64 = u64::MAX;
        assert_eq!(named(&[(1, 5, &[3]), (2, 5, &[3]), (3, REST, &[])]), Some(NodeId(3)), "it waits for nobody");
        assert_eq!(named(&[(1, 5, &[3]), (2, 5, &[1, 3]), (3, 6, &[1, 2])]), Some(NodeId(3)), "it is one step ahead");
        assert_eq!(named(&[(1, 5, &[2]), (2, 5, &[1])]), None, "each may have kept back what the other waits for");
        assert_eq!(named(&[(1, 5, &[2, 3]), (2, 6, &[1]), (3, 6, &[1])]), None, "two may be meant");
        assert_eq!(named(&[(1, REST, &[]), (2, REST, &[])]), None, "nobody is waited for");
        assert_eq!(named(&[(1, 5, &[9]), (2, REST, &[])]), None, "a stranger is nobody");
    }

    #[test]
    fn what_is_said_is_cut_at_a_letter() {
        let long = "é".repeat(WHAT_BYTES_MAX);

        let short = shortened(long.clone());

        assert!(short.len() <= WHAT_BYTES_MAX && long.starts_with(&short), "{}", short.len());
        assert_eq!(shortened("short".into()), "short");
    }
}
