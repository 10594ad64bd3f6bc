//! What a balanced step still has to pass: the ledger of the whole run, and the bounds of energy and centre of mass. And what is to
//! change at a boundary: who owns what, and how often pairs are evaluated.
//!
//! The rules are those of a run on one node ([`crate::commit`]); the book and the record travel from decision to decision as notes, so
//! that whoever becomes coordinator judges as the one before would have.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use super::message::{Arrangement, Extra, Notes};
use crate::{
    audit::{self, Breach, Rules, Verdict},
    commit,
    coordinator::{Account, Judge, Ruling, Share, Totals},
    exchange::Way,
    ledger::{Amounts, DRIFT_ROUNDING, KICK_ROUNDING, Ledger, REACTION, UNEXPLAINED},
    node::History,
    partition::{
        RecountShare,
        cuts::{Cuts, Effort, Sketch, rebalanced},
    },
    quanta::Quanta,
    step::Clock,
    wire::{NodeId, decode, encode},
};

/// Judges by the rules of a scenario.
#[derive(Clone, Debug)]
pub struct Physics {
    /// What is checked.
    pub rules: Rules,
    /// Sizes of the integer units.
    pub quanta: Quanta,
    /// Where the run stood at step 0 of the protocol.
    pub start: Clock,
    /// The book and the record at that time, once they are known.
    pub history: Arc<OnceLock<History>>,
}

/// Notes from bytes; nothing if there are none, or if they are not what a judge writes. They come with decisions and configurations of
/// peers, and a hash says only that all have the same ones.
#[must_use]
pub fn read_notes(bytes: &[u8]) -> Option<Notes> {
    decode(bytes, "notes of a judge", crate::coordinator::NOTES_BYTES_MAX).ok()
}

impl Physics {
    /// The book and the record before a step; nothing while they are not known here.
    fn notes(&self, bytes: &[u8]) -> Option<Notes> {
        if !bytes.is_empty() {
            return read_notes(bytes);
        }
        self.history.get().map(|history| Notes { ledger: history.ledger.clone(), drifts: history.drifts })
    }

    /// What shares say beyond their amounts; one that cannot be read says nothing.
    fn extras(shares: &BTreeMap<NodeId, Share>) -> BTreeMap<NodeId, Extra> {
        let read = |share: &Share| decode(&share.extra, "share", crate::coordinator::EXTRA_BYTES_MAX);
        shares.iter().map(|(&node, share)| (node, read(share).unwrap_or_default())).collect()
    }

    fn check(
        &self,
        step: u64,
        notes: &mut Notes,
        totals: &Totals,
        extras: &BTreeMap<NodeId, Extra>,
    ) -> Result<(), Breach> {
        let due = notes.ledger.due();
        let exact = audit::exact(&totals.held, &due, self.rules.angular_momentum);
        let shares: Option<Vec<RecountShare>> = extras.values().map(|extra| extra.recount).collect();
        let Some(shares) = shares else { return exact };
        let step = self.start.after(step);
        let share = shares.into_iter().fold(RecountShare::default(), RecountShare::plus);
        let recount = share.recount(&notes.ledger, step);
        let time = step as f64 * self.start.dt;
        exact.and(notes.drifts.take(&recount, time, &self.quanta, &self.rules))
    }
}

fn post(ledger: &mut Ledger, account: Account, gained: Amounts) {
    match account {
        Account::KickRounding => ledger.post(KICK_ROUNDING, gained),
        Account::DriftRounding => ledger.post(DRIFT_ROUNDING, gained),
        Account::Reaction => ledger.post(REACTION, gained),
        // What one partition gained another one lost.
        Account::Peer(_) => {}
    }
}

impl Judge for Physics {
    fn is_ready(&self, notes: &[u8]) -> bool {
        self.notes(notes).is_some()
    }

    fn judge(&self, step: u64, notes: &[u8], shares: &BTreeMap<NodeId, Share>, totals: &Totals) -> (Ruling, Vec<u8>) {
        let before = self.notes(notes).expect("nothing is judged before this node is ready");
        let mut after = before.clone();
        // The accounts of a run on one node are there from the first step on, whatever they hold.
        [KICK_ROUNDING, DRIFT_ROUNDING].into_iter().for_each(|account| after.ledger.post(account, Amounts::default()));
        for (account, gained) in shares.values().flat_map(|share| &share.gained) {
            post(&mut after.ledger, *account, *gained);
        }
        let found = self.check(step, &mut after, totals, &Self::extras(shares));
        let verdict = found.map_or_else(|breach| commit::decide(breach, 0, &self.rules), |()| Verdict::Keep);
        let ruling = match verdict {
            Verdict::Keep => Ruling::Keep,
            Verdict::KeepAndRecord(breach) => {
                let surplus = totals.held.plus(after.ledger.due().counter_entry()).without_energy();
                if surplus != Amounts::default() {
                    after.ledger.post(UNEXPLAINED, surplus);
                }
                Ruling::Record(breach)
            }
            Verdict::KeepAndStop(breach) => Ruling::KeepAndStop(breach),
            Verdict::Undo { breach, .. } => {
                after = before;
                Ruling::Undo(breach)
            }
        };
        (ruling, encode(&after))
    }

    fn cuts(&self, _step: u64, shares: &BTreeMap<NodeId, Share>) -> Vec<u8> {
        let extras = Self::extras(shares);
        Arrangement { cuts: cuts(shares, &extras), way: way(shares, &extras) }.to_bytes()
    }
}

fn particles(share: &Share) -> u64 {
    share.held.count.clamp(0, i128::from(u64::MAX)) as u64
}

/// Where partitions are to be cut from now on, if that is to change.
fn cuts(shares: &BTreeMap<NodeId, Share>, extras: &BTreeMap<NodeId, Extra>) -> Option<Cuts> {
    let effort = |(&node, share): (&NodeId, &Share)| {
        (node, Effort { particles: particles(share), nanoseconds: extras[&node].effort_ns })
    };
    let efforts: Vec<(NodeId, Effort)> = shares.iter().map(effort).collect();
    let sketches: Option<Vec<Sketch>> = extras.values().map(|extra| extra.sketch.clone()).collect();
    let (sketches, shares) = sketches.zip(rebalanced(&efforts))?;
    Some(Cuts::by_shares(&sketches, &shares))
}

/// How pairs of two partitions are to be evaluated from now on, if that is to change: by both where that takes less time than an answer
/// would. A third of difference changes nothing: what is measured is noisy.
fn way(shares: &BTreeMap<NodeId, Share>, extras: &BTreeMap<NodeId, Extra>) -> Option<Way> {
    // What nodes say of themselves is bounded before it is multiplied.
    let bounded = |value: u64| u128::from(value.min(1 << 40));
    let all = shares.values().fold(0_u64, |sum, share| sum.saturating_add(particles(share)));
    let (mut more_ns, mut round_trip_ns, mut present) = (0, 0, None);
    for (node, share) in shares {
        let pace = extras[node].pace?;
        let (here, elsewhere) = (bounded(particles(share)), bounded(all.saturating_sub(particles(share))));
        // Of the pairs with others, half are evaluated here already.
        let more = here * elsewhere / 2 * bounded(pace.pair_ns) / bounded(pace.pairs).max(1);
        more_ns = more_ns.max(if pace.pairs == 0 && here > 0 { u128::MAX / 8 } else { more });
        round_trip_ns = round_trip_ns.max(bounded(pace.round_trip_ns));
        present = present.or(Some(pace.way));
    }
    let one_way_ns = round_trip_ns / 2;
    match present? {
        Way::Shared if 4 * more_ns < 3 * one_way_ns => Some(Way::Twice),
        Way::Twice if 3 * more_ns > 4 * one_way_ns => Some(Way::Shared),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::message::Pace;

    /// Four nodes of so many particles each; a pair takes a nanosecond.
    fn judged(particles: i128, pace: Pace) -> Option<Way> {
        let share = Share {
            held: Amounts { count: particles, ..Amounts::default() },
            gained: Vec::new(),
            root: 0,
            extra: encode(&Extra { pace: Some(pace), ..Extra::default() }),
            work_ns: 0,
        };
        let shares: BTreeMap<NodeId, Share> = (0..4).map(|node| (NodeId(node), share.clone())).collect();
        way(&shares, &Physics::extras(&shares))
    }

    #[test]
    fn pairs_are_evaluated_twice_where_that_is_faster_than_an_answer_and_small_differences_change_nothing() {
        let pace = |round_trip_ns, way| Pace { pairs: 1_000_000, pair_ns: 1_000_000, round_trip_ns, way };
        // 64 · 192 / 2 pairs more take 6.1 µs, 256 · 768 / 2 take 98 µs.
        assert_eq!(judged(64, pace(40_000, Way::Shared)), Some(Way::Twice));
        assert_eq!(judged(64, pace(40_000, Way::Twice)), None);
        assert_eq!(judged(64, pace(13_000, Way::Shared)), None);
        assert_eq!(judged(64, pace(11_000, Way::Twice)), None);
        assert_eq!(judged(64, pace(9_000, Way::Twice)), Some(Way::Shared));
        assert_eq!(judged(256, pace(40_000, Way::Shared)), None);
        assert_eq!(judged(256, pace(300_000, Way::Shared)), Some(Way::Twice));
    }

    #[test]
    fn whoever_says_nothing_or_nonsense_changes_nothing() {
        let pace = Pace { pairs: 0, pair_ns: 0, round_trip_ns: u64::MAX, way: Way::Shared };
        assert_eq!(judged(64, pace), None, "pairs that nobody counted are not chosen about");
        assert_eq!(judged(1 << 50, Pace { pairs: 1, pair_ns: u64::MAX, ..pace }), None);
        let share = Share { held: Amounts::default(), gained: Vec::new(), root: 0, extra: vec![255; 9], work_ns: 0 };
        let shares = BTreeMap::from([(NodeId(0), share)]);
        assert_eq!(way(&shares, &Physics::extras(&shares)), None);
    }
}
