//! What every node says of a proposed step, and whether it adds up across nodes: exact double entry.
//!
//! A global sum would say *that* something broke. Here every node says what it held before and after and what it gained from
//! whom, and every pair of nodes says the same thing twice, with opposite signs: so an error names a node, or the two that
//! disagree. Everything is an integer and compared with `==`; energy is bounded, not exact, and left to the [`super::Judge`].

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    audit::{self, Breach},
    ledger::Amounts,
    wire::NodeId,
};

/// Nodes that a run may have.
pub const NODES_MAX: usize = 256;
/// Bytes that a node may add to a vote for the judge.
pub const EXTRA_BYTES_MAX: usize = 4096;

/// Where a node gained something from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Account {
    /// Rounding of pair impulses.
    KickRounding,
    /// Rounding of drifts.
    DriftRounding,
    /// What test particles took without pulling back.
    Reaction,
    /// Another node.
    Peer(NodeId),
}

/// What a node says of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// What its particles hold after the step, recounted.
    pub held: Amounts,
    /// What they gained in the step (and in the hand-over before it), by account: sorted, each account once.
    pub gained: Vec<(Account, Amounts)>,
    /// Its share of the state root; the root of all is the wrapping sum.
    pub root: u128,
    /// For the judge alone.
    pub extra: Vec<u8>,
    /// What the step cost [ns]. Measured: it may decide where particles live, never their bits.
    pub work_ns: u64,
}

impl Share {
    /// Whether it keeps its limits: sorted accounts, sizes.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let sorted = self.gained.windows(2).all(|pair| pair[0].0 < pair[1].0);
        sorted && self.gained.len() <= NODES_MAX + 3 && self.extra.len() <= EXTRA_BYTES_MAX
    }

    /// What was gained in all.
    #[must_use]
    pub fn gained_in_all(&self) -> Amounts {
        self.gained.iter().fold(Amounts::default(), |sum, (_, gained)| sum.plus(*gained))
    }

    /// What was gained from a peer.
    #[must_use]
    pub fn gained_from(&self, peer: NodeId) -> Amounts {
        let found = self.gained.iter().find(|(account, _)| *account == Account::Peer(peer));
        found.map_or_else(Amounts::default, |(_, gained)| *gained)
    }
}

/// Why shares do not add up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fault {
    /// A node's recount is not what it held before plus what it says it gained.
    Node {
        /// The node.
        node: NodeId,
        /// The quantity and both amounts.
        breach: Breach,
    },
    /// Two nodes do not say the same of what passed between them.
    Pair {
        /// The one with the smaller number.
        a: NodeId,
        /// The other.
        b: NodeId,
        /// The quantity: what `a` gained, and what `b` says it gave.
        breach: Breach,
    },
    /// A share that breaks its own form, or names a peer that is no member.
    Malformed {
        /// Its node.
        node: NodeId,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { node, breach } => write!(f, "{node} does not add up: {breach}"),
            Self::Pair { a, b, breach } => write!(f, "{a} and {b} disagree on what passed between them: {breach}"),
            Self::Malformed { node } => write!(f, "{node} sent accounts that are unsorted, too many, or of strangers"),
        }
    }
}

/// What all nodes hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Sum of what the nodes hold.
    pub held: Amounts,
    /// The state root of all.
    pub root: u128,
}

/// What must be looked at; tests leave single checks out to see that they are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checks {
    pub(super) nodes: bool,
    pub(super) pairs: bool,
}

/// Exact double entry: for each node, new = old + gained; for each pair, what one gained the other lost.
///
/// # Errors
/// The first fault: nodes in order, then pairs in order. A node that fails on its own is not also blamed for a pair.
///
/// # Panics
/// If `previous` does not name exactly the nodes of `shares`: who is asked is decided elsewhere.
pub fn balance(previous: &BTreeMap<NodeId, Amounts>, shares: &BTreeMap<NodeId, Share>) -> Result<Totals, Fault> {
    balance_with(previous, shares, Checks { nodes: true, pairs: true })
}

pub(super) fn balance_with(
    previous: &BTreeMap<NodeId, Amounts>,
    shares: &BTreeMap<NodeId, Share>,
    checks: Checks,
) -> Result<Totals, Fault> {
    assert!(previous.keys().eq(shares.keys()), "{:?} voted, {:?} held", shares.keys(), previous.keys());
    for (node, share) in shares {
        let known = |account: &Account| match account {
            Account::Peer(peer) => peer != node && shares.contains_key(peer),
            _ => true,
        };
        if !share.is_well_formed() || !share.gained.iter().all(|(account, _)| known(account)) {
            return Err(Fault::Malformed { node: *node });
        }
    }
    for (node, share) in shares.iter().filter(|_| checks.nodes) {
        let due = previous[node].plus(share.gained_in_all());
        audit::exact(&share.held, &due, true).map_err(|breach| Fault::Node { node: *node, breach })?;
    }
    for (a, of_a) in shares.iter().filter(|_| checks.pairs) {
        for (b, of_b) in shares.range(*a..).skip(1) {
            let due = of_b.gained_from(*a).counter_entry();
            audit::exact(&of_a.gained_from(*b), &due, true).map_err(|breach| Fault::Pair { a: *a, b: *b, breach })?;
        }
    }
    let add = |sum: Totals, share: &Share| Totals {
        held: sum.held.plus(share.held),
        root: sum.root.wrapping_add(share.root),
    };
    Ok(shares.values().fold(Totals::default(), add))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn momentum(p: i128) -> Amounts {
        Amounts { momentum: [p, 0, 0], ..Amounts::default() }
    }

    /// Three nodes; 0 gives 5 to 1, 1 gives 2 to 2, and rounding gives 1 to 2.
    fn honest() -> (BTreeMap<NodeId, Amounts>, BTreeMap<NodeId, Share>) {
        let [a, b, c] = [0, 1, 2].map(NodeId);
        let share = |held, gained: Vec<(Account, Amounts)>, root| Share { held, gained, root, ..Share::default() };
        let previous = BTreeMap::from([(a, momentum(10)), (b, momentum(20)), (c, momentum(30))]);
        let shares = BTreeMap::from([
            (a, share(momentum(5), vec![(Account::Peer(b), momentum(-5))], 1)),
            (b, share(momentum(23), vec![(Account::Peer(a), momentum(5)), (Account::Peer(c), momentum(-2))], 2)),
            (
                c,
                share(
                    momentum(33),
                    vec![(Account::KickRounding, momentum(1)), (Account::Peer(b), momentum(2))],
                    u128::MAX,
                ),
            ),
        ]);
        (previous, shares)
    }

    #[test]
    fn honest_books_balance_and_add_up() {
        let (previous, shares) = honest();

        let totals = balance(&previous, &shares).unwrap();

        assert_eq!(totals.held, momentum(61));
        assert_eq!(totals.root, 2, "roots add up modulo 2^128");
    }

    #[test]
    fn momentum_from_nowhere_names_the_node() {
        let (previous, mut shares) = honest();
        shares.get_mut(&NodeId(1)).unwrap().held = momentum(24);

        let fault = balance(&previous, &shares).unwrap_err();

        assert_eq!(fault.to_string(), "node 1 does not add up: momentum along x is 24 quanta, the ledger says 23");
    }

    #[test]
    fn a_lie_that_fits_its_own_recount_names_the_pair() {
        let (previous, mut shares) = honest();
        let liar = shares.get_mut(&NodeId(2)).unwrap();
        liar.held = momentum(34);
        liar.gained[1].1 = momentum(3);

        let fault = balance(&previous, &shares).unwrap_err();

        assert!(matches!(fault, Fault::Pair { a: NodeId(1), b: NodeId(2), .. }), "{fault}");
    }

    #[test]
    fn every_exact_quantity_is_compared_and_energy_is_not() {
        let changes: [fn(&mut Amounts); 6] = [
            |held| held.count += 1,
            |held| held.mass -= 1,
            |held| held.momentum[0] += 1,
            |held| held.momentum[2] += 1,
            |held| held.angular_momentum[1] += 1,
            |held| held.energy += 1,
        ];
        let verdicts = changes.map(|change| {
            let (previous, mut shares) = honest();
            change(&mut shares.get_mut(&NodeId(0)).unwrap().held);
            balance(&previous, &shares).is_err()
        });

        assert_eq!(verdicts, [true, true, true, true, true, false]);
    }

    #[test]
    fn unsorted_accounts_and_strangers_are_malformed() {
        for account in [Account::KickRounding, Account::Peer(NodeId(9)), Account::Peer(NodeId(0))] {
            let (previous, mut shares) = honest();
            shares.get_mut(&NodeId(0)).unwrap().gained.push((account, Amounts::default()));

            let fault = balance(&previous, &shares).unwrap_err();

            assert_eq!(fault, Fault::Malformed { node: NodeId(0) });
        }
    }
}
