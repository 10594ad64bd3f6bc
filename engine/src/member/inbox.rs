//! What comes to a member: blocks of a step, letters, questions of the client. What cannot be used is refused here, and its sender
//! accused.

use super::{
    Evidence, LETTERS, Member,
    message::{Grant, Kind, MESSAGE_BYTES_MAX},
};
use crate::{
    coordinator::{Input, Letter},
    metrics::Stopwatch,
    partition::Offence,
    text::harmless,
    transport::{Event, Tag, Transport},
    wire::{Incarnation, NodeId, Time, decode},
};

/// Blocks of epochs that have not begun here, from one peer, at most.
const FUTURE_BLOCKS_MAX: usize = 16;
/// Blocks that wait for the owner, at most.
const OTHERS_MAX: usize = 64;
/// Remarks that are kept for the client, at most.
const REMARKS_MAX: usize = 256;
/// Blocks that are kept as evidence until the owner takes them, at most.
const EVIDENCE_MAX: usize = 4;

impl<T: Transport> Member<T> {
    pub(super) fn take(&mut self, event: Event, now: Time) {
        match event {
            Event::Received { from, incarnation, tag, bytes } => match Kind::of(tag.kind) {
                None if tag.kind < Kind::Letter as u16 => self.take_block(from, tag, bytes, now),
                None => self.take_other(from, tag.kind, bytes),
                Some(kind) => self.take_message(from, incarnation, kind, tag, &bytes, now),
            },
            Event::Delivered { to, tag } => {
                if tag.epoch == LETTERS
                    && let Some(waiting) = self.waiting.get_mut(&to)
                {
                    waiting.remove(&tag.step);
                }
            }
            Event::Restarted { peer, incarnation } => {
                self.waiting.remove(&peer);
                tracing::info!("{peer} is there in another life ({})", incarnation.0);
            }
        }
    }

    /// A block that is none of a run's, for the owner.
    pub(super) fn take_other(&mut self, from: NodeId, kind: u16, bytes: Vec<u8>) {
        if self.others.len() < OTHERS_MAX {
            self.others.push((from, kind, bytes));
        }
    }

    /// A block of a step, for the partition: now, or when its epoch begins here.
    pub(super) fn take_block(&mut self, from: NodeId, tag: Tag, bytes: Vec<u8>, now: Time) {
        let epoch = self.machine.epoch();
        let member = self.machine.config().is_some_and(|config| config.incarnation(from).is_some());
        if !(member && tag.epoch == epoch || self.has_place(from) && tag.epoch > epoch) {
            tracing::debug!("{}: {from} is no member of {}", self.me, tag.epoch);
            return;
        }
        if tag.epoch > epoch {
            if self.future.iter().filter(|(sender, ..)| *sender == from).count() < FUTURE_BLOCKS_MAX {
                self.future.push((from, tag, bytes));
            } else {
                self.remark(format!("{from} is far ahead: a block of {} is dropped", tag.epoch));
            }
            return;
        }
        if let Some(partition) = self.partition.as_mut().filter(|_| self.offended.is_none()) {
            self.moved += 1;
            if let Err(offence) = partition.take(from, tag, bytes) {
                self.accuse(offence, now);
            }
        }
    }

    /// Nothing more can be computed in this epoch, and whose fault that is. It has proved who it is: its own code or memory is at fault.
    pub(super) fn accuse(&mut self, offence: Offence, now: Time) {
        if self.offended.is_some() {
            return;
        }
        let Offence { from: of, what, block } = offence;
        let hash = blake3::hash(&block);
        let what = format!("it sent {} bytes (BLAKE3 {hash}) that cannot be used: {what}", block.len());
        self.remark(format!("{of}: {what}"));
        let epoch = self.machine.epoch();
        if self.evidence.len() < EVIDENCE_MAX {
            self.evidence.push(Evidence { epoch, of, block });
        }
        self.offended = Some((of, self.machine.committed() + 1));
        self.tell(Input::Offended { epoch, of, what }, now);
    }

    pub(super) fn take_message(
        &mut self,
        from: NodeId,
        incarnation: Incarnation,
        kind: Kind,
        tag: Tag,
        bytes: &[u8],
        now: Time,
    ) {
        if from == NodeId::CLIENT {
            self.client_heard_at = now;
        }
        let taken = match (kind, from == NodeId::CLIENT) {
            (Kind::Letter, false) => {
                let watch = Stopwatch::start();
                let letter = Letter::from_bytes(bytes);
                self.spent.protocol += watch.seconds();
                letter.map(|letter| self.tell(Input::Message { from, incarnation, letter: Box::new(letter) }, now))
            }
            (Kind::Copy, false) => {
                self.keep_copy(from, tag, bytes, now);
                Ok(())
            }
            (Kind::Kept, false) => {
                decode(bytes, "receipt", MESSAGE_BYTES_MAX).map(|kept| self.copy_kept(from, kept, now))
            }
            (Kind::Grant, true) => decode(bytes, "grant", MESSAGE_BYTES_MAX).map(|grant| self.take_grant(grant, now)),
            (Kind::Collect, true) => decode(bytes, "question", MESSAGE_BYTES_MAX).map(|ask| self.collect = Some(ask)),
            (Kind::Ping, true) => Ok(()),
            (Kind::Close, true) => {
                self.closed = true;
                Ok(())
            }
            (Kind::Count, true) => decode(bytes, "question", MESSAGE_BYTES_MAX).map(|ask| self.count = Some(ask)),
            _ => {
                self.remark(format!("{from} may not send a message of kind {kind:?}"));
                Ok(())
            }
        };
        if let Err(error) = taken {
            self.remark(format!("{from} sent what cannot be read: {error}"));
        }
    }

    pub(super) fn take_grant(&mut self, grant: Grant, now: Time) {
        if self.history.set(grant.history).is_ok() {
            tracing::debug!("{}: the books are open", self.me);
        }
        self.granted = self.granted.max(grant.up_to);
        self.tell(Input::Grant { up_to: grant.up_to }, now);
        self.send_news(now, true);
    }

    pub(super) fn remark(&mut self, remark: String) {
        tracing::warn!("{}: {}", self.me, harmless(&remark));
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(remark);
        }
    }
}
