//! What a balanced step still has to pass: the ledger of the whole run, and the bounds of energy and centre of mass.
//!
//! The rules are those of a run on one node ([`crate::commit`]); the book and the record travel from decision to decision as notes, so
//! that whoever becomes coordinator judges as the one before would have.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use super::message::{Extra, Notes};
use crate::{
    audit::{self, Breach, Rules, Verdict},
    commit,
    coordinator::{Account, Judge, Ruling, Share, Totals},
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
        let efforts: Vec<(NodeId, Effort)> = shares
            .iter()
            .map(|(&node, share)| {
                let particles = share.held.count.clamp(0, i128::from(u64::MAX)) as u64;
                (node, Effort { particles, nanoseconds: extras[&node].effort_ns })
            })
            .collect();
        let sketches: Option<Vec<Sketch>> = extras.into_values().map(|extra| extra.sketch).collect();
        let new = sketches.zip(rebalanced(&efforts));
        new.map_or_else(Vec::new, |(sketches, shares)| encode(&Cuts::by_shares(&sketches, &shares)))
    }
}
