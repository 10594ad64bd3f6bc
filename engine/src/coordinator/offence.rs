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
use crate::wire::{Epoch, NodeId, Time};

/// Bytes of what is said of an offence.
pub const WHAT_BYTES_MAX: usize = 512;
/// Offences that a configuration remembers: one of each member, and as many again.
pub(super) const OFFENCES_MAX: usize = 2 * NODES_MAX;
/// Different members that one may accuse between two copies; who accuses one more goes itself.
const ACCUSED_MAX: usize = 2;
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
    /// Whether it follows from what all members said of themselves, and is not the word of one.
    pub seen: bool,
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
    /// Nothing moves any more where it should.
    pub(super) stalled: bool,
}

impl Findings {
    pub(super) fn something(&self) -> bool {
        !self.isolate.is_empty() || self.trouble.is_some() || self.offence.is_some() || self.stalled
    }
}

/// Why nothing moves.
enum Stall {
    /// Everybody stands still, and nobody can be named.
    Unnamed,
    /// Those that have come least far wait for this one, which is ahead of them.
    By(NodeId, String),
}

impl Machine {
    /// This node was sent something that it cannot use: it accuses the sender instead of voting on the next step.
    pub(super) fn take_offence(&mut self, epoch: Epoch, of: NodeId, what: String) {
        let member = self.config.as_ref().is_some_and(|config| config.incarnation(of).is_some());
        if epoch != self.epoch || !member || of == self.me || self.work.undone {
            return;
        }
        self.work.grievance.get_or_insert_with(|| (of, shortened(what)));
    }

    /// Accuses as soon as there is a step to be voted on that this node has not voted for.
    pub(super) fn complain(&mut self) {
        let next = self.work.next;
        let open = matches!(self.work.outcomes.get(&next), None | Some(Vote::Held { .. }));
        if let Some((of, what)) = self.work.grievance.clone().filter(|_| open) {
            self.say(next, Vote::Accuses { of, what });
        }
    }

    /// The accusation that a step is undone for: the same, whoever was heard first of those that are known.
    pub(super) fn accusation(&self) -> Option<Offence> {
        let accuses = |(&by, vote): (&NodeId, &Vote)| match vote {
            Vote::Accuses { of, what } => Some(Offence { of: *of, by, what: shortened(what.clone()), seen: false }),
            _ => None,
        };
        self.chair.as_ref()?.votes.iter().filter_map(accuses).min()
    }

    /// What follows an accusation.
    pub(super) fn after_offence(&self, offence: &Offence) -> Then {
        let config = self.current();
        // Slander and bad luck do not add up.
        let same = |earlier: &Offence| earlier.of == offence.of && earlier.seen == offence.seen;
        let known = config.offences.iter().any(same) && !self.plants(Planted::AccusedStays);
        let earlier = config.offences.iter().filter(|earlier| earlier.by == offence.by && !earlier.seen);
        let others: BTreeSet<NodeId> = earlier.map(|earlier| earlier.of).filter(|of| *of != offence.of).collect();
        let slanders = others.len() >= ACCUSED_MAX || (known && config.believed.contains(&offence.by));
        let spent = slanders && !offence.seen && !self.plants(Planted::AccusersAlwaysBelieved);
        // Who accuses a stranger, or itself in a vote, says nothing about anybody else.
        let sound = config.incarnation(offence.of).is_some() && (offence.of != offence.by || offence.by == self.me);
        if config.members.len() == 1 {
            Then::Stop
        } else if !sound || spent {
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
            Some(Vote::Accuses { of, what }) => Some(Offence { of: *of, by: self.me, what: what.clone(), seen: false }),
            _ => None,
        };
        let new = self.found.offence.clone().or(decided.cloned()).or(own);
        let mut all: Vec<Offence> = earlier.collect();
        let new = new.filter(|new| !all.contains(new));
        all.extend(new);
        all.drain(..all.len().saturating_sub(OFFENCES_MAX));
        all
    }

    /// Somebody wrote what the protocol does not allow. A replica has the epoch changed; another member stands still, and is seen to wait.
    /// Who is no member is not heard, and nothing follows.
    pub(super) fn object_to(&mut self, from: NodeId, what: String) {
        let member = self.config.as_ref().is_some_and(|config| config.incarnation(from).is_some());
        if from == self.me {
            self.found.trouble.get_or_insert(shortened(what));
        } else if member && !self.found.something() {
            self.offended_again(Offence { of: from, by: self.me, what: shortened(what), seen: false });
        }
    }

    /// What this node says of how far it is. Who objects goes no further, and waits for the one that it objects to.
    pub(super) fn standing_told(&self) -> Standing {
        match &self.found.offence {
            Some(offence) => Standing { progress: 0, at: (self.work.next, 0), waits_for: vec![offence.of] },
            None => self.standing.clone(),
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
        if let Stall::By(of, what) = stall {
            self.offended_again(Offence { of, by: self.me, what, seen: true });
        }
        self.found.stalled = true;
    }

    fn stall(&self) -> Option<Stall> {
        let config = self.config.as_ref()?;
        let rank = config.replicas.iter().position(|node| *node == self.me)? as u64;
        let patience_ns = (1 + rank) * (self.options.stall_ns << config.stalls.min(DOUBLINGS_MAX));
        let under_way = self.work.started >= self.work.next && !self.work.undone && !self.chain.is_stopped();
        let waits = !self.standing.waits_for.is_empty();
        if config.members.len() == 1 {
            return None;
        }
        let mut standings: BTreeMap<NodeId, &Standing> = BTreeMap::from([(self.me, &self.standing)]);
        let stands = |since: Time| self.now.since(since) > patience_ns;
        let mut still: BTreeSet<NodeId> = stands(self.moved).then_some(self.me).into_iter().collect();
        for node in config.nodes().filter(|node| *node != self.me) {
            let peer = self.peers.get(&node)?;
            still.extend(stands(peer.moved).then_some(node));
            standings.insert(node, &peer.standing);
        }
        let all_still = still.len() == standings.len();
        match Self::who_keeps_back(&standings, &still) {
            Some((one, what)) => Some(Stall::By(one, what)),
            None => (all_still && (under_way || waits)).then_some(Stall::Unnamed),
        }
    }

    /// Of those that have come least far all wait, and stand still: the one that they wait for and that is ahead of them, if it is one.
    /// What they need it has behind it, whatever it says that it is doing now.
    fn who_keeps_back(standings: &BTreeMap<NodeId, &Standing>, still: &BTreeSet<NodeId>) -> Option<(NodeId, String)> {
        let last = standings.values().map(|standing| standing.at).min()?;
        let waiting = standings.iter().filter(|(_, standing)| standing.at == last);
        if !waiting.clone().all(|(node, standing)| still.contains(node) && !standing.waits_for.is_empty()) {
            return None;
        }
        let ahead = |node: &&NodeId| standings.get(node).is_some_and(|standing| standing.at > last);
        let wanted: BTreeSet<NodeId> =
            waiting.clone().flat_map(|(_, standing)| &standing.waits_for).filter(ahead).copied().collect();
        let mut wanted = wanted.into_iter();
        let (Some(one), None) = (wanted.next(), wanted.next()) else { return None };
        let waiting = waiting.filter(|(_, standing)| standing.waits_for.contains(&one));
        let waiting: Vec<String> = waiting.map(|(node, _)| node.to_string()).collect();
        Some((one, format!("it keeps back what {} waits for", waiting.join(", "))))
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
        named_while(cases, &[])
    }

    fn named_while(cases: &[Case<'_>], moving: &[u16]) -> Option<NodeId> {
        let standing = |(node, step, waits): &Case<'_>| {
            let waits_for = waits.iter().map(|&node| NodeId(node)).collect();
            (NodeId(*node), Standing { progress: 7, at: (*step, 0), waits_for })
        };
        let standings: BTreeMap<NodeId, Standing> = cases.iter().map(standing).collect();
        let all: BTreeMap<NodeId, &Standing> = standings.iter().map(|(node, standing)| (*node, standing)).collect();
        let still = all.keys().copied().filter(|node| !moving.contains(&node.0)).collect();
        Machine::who_keeps_back(&all, &still).map(|(node, _)| node)
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
        let kept = [(1, 5, &[3][..]), (2, 5, &[3]), (3, 6, &[])];
        assert_eq!(named_while(&kept, &[3]), Some(NodeId(3)), "what it pretends to do now changes nothing");
        assert_eq!(named_while(&kept, &[2]), None, "one of them may be about to go on");
        assert_eq!(named(&[(1, 5, &[3]), (2, 5, &[]), (3, 6, &[])]), None, "who does not wait is at work");
    }

    #[test]
    fn what_is_said_is_cut_at_a_letter() {
        let long = "é".repeat(WHAT_BYTES_MAX);

        let short = shortened(long.clone());

        assert!(short.len() <= WHAT_BYTES_MAX && long.starts_with(&short), "{}", short.len());
        assert_eq!(shortened("short".into()), "short");
    }
}
