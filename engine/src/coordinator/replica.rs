//! The replica: stores decisions before they count, and takes part in choosing what follows the epoch.

use super::{Ballot, Body, Config, Decision, Machine, planted::Planted};
use crate::wire::NodeId;

/// Decisions that may be stored beyond the last that is known to count: the coordinator has one stored at a time, and this node is
/// a member, without whose vote the step after it is not decided.
const STORED_MAX: usize = 2;

/// No epoch sees so many attempts to change it: a ballot beyond is made up.
pub(super) const ROUNDS_MAX: u32 = 1 << 30;

/// What a replica has promised about the successor of its epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct Acceptor {
    pub(super) promised: Option<Ballot>,
    accepted: Option<(Ballot, Config)>,
}

impl Acceptor {
    /// Whether the epoch is over for this replica.
    pub(super) fn is_sealed(&self) -> bool {
        self.promised.is_some()
    }
}

impl Machine {
    pub(super) fn is_replica(&self) -> bool {
        self.config.as_ref().is_some_and(|config| config.replicas.contains(&self.me))
    }

    /// How many replicas must agree.
    pub(super) fn majority(&self) -> usize {
        let majority = self.current().majority();
        if self.plants(Planted::HalfIsEnough) { (majority - 1).max(1) } else { majority }
    }

    pub(super) fn hear_accept(&mut self, from: NodeId, decision: Decision) {
        let sealed = self.acceptor.is_sealed() && !self.plants(Planted::SealedStores);
        if sealed || !self.is_replica() || from != self.current().coordinator {
            return;
        }
        let (index, hash) = (decision.index, decision.hash());
        if index > self.chain.head.index {
            let known = self.chain.stored.get(&index).map(Decision::hash);
            let other = known.is_some_and(|known| known != hash);
            let full = known.is_none() && self.chain.stored.len() >= STORED_MAX;
            if decision.config != self.config_hash || other || full {
                self.object_to(from, format!("a decision at {index} that is none: other {other}, too many {full}"));
                return;
            }
            self.chain.stored.insert(index, decision);
        } else if self.chain.log.get(&index).is_some_and(|known| known.hash() != hash) {
            self.object_to(from, format!("two decisions at {index}"));
            return;
        }
        self.send(from, Body::Accepted { index, hash });
    }

    pub(super) fn hear_prepare(&mut self, from: NodeId, ballot: Ballot) {
        if !self.is_replica() || !self.current().replicas.contains(&from) || ballot.round > ROUNDS_MAX {
            return;
        }
        if let Some(promised) = self.acceptor.promised.filter(|promised| *promised > ballot) {
            self.send(from, Body::Refuse { promised });
            return;
        }
        self.promise(ballot);
        let log = self.chain.log.values().chain(self.chain.stored.values()).cloned().collect();
        let accepted = self.acceptor.accepted.clone().map(|(ballot, config)| (ballot, Box::new(config)));
        self.send(from, Body::Promise { ballot, log, accepted });
    }

    /// From here on this replica stores nothing of the epoch. A proposal of its own with a lower ballot has no chance.
    fn promise(&mut self, ballot: Ballot) {
        self.acceptor.promised = Some(ballot);
        self.round_max = self.round_max.max(ballot.round);
        if self.bid.as_ref().is_some_and(|bid| bid.ballot < ballot) {
            self.give_up_bid();
        }
    }

    pub(super) fn hear_propose(&mut self, from: NodeId, ballot: Ballot, config: Config) {
        let follows = Some(config.epoch.0) == self.epoch.0.checked_add(1) && config.parent == self.config_hash;
        let known = self.is_replica() && self.current().replicas.contains(&from) && ballot.round <= ROUNDS_MAX;
        if !known || !follows || !config.is_sound() {
            return;
        }
        if let Some(promised) = self.acceptor.promised.filter(|promised| *promised > ballot) {
            self.send(from, Body::Refuse { promised });
            return;
        }
        self.promise(ballot);
        self.acceptor.accepted = Some((ballot, config));
        self.send(from, Body::Agreed(ballot));
    }
}
