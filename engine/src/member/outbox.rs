//! What a member sends: letters that may get lost, and blocks that must not.

use super::{LETTERS, Member, message::Kind};
use crate::{
    transport::{PostError, Tag, Transport},
    wire::NodeId,
};

/// Letters that may wait for one peer. Who does not read is told again what it missed once it does.
const LETTERS_WAITING_MAX: usize = 128;
/// Bytes of them; one letter may wait however long it is.
const LETTER_BYTES_WAITING_MAX: usize = 8 << 20;

impl<T: Transport> Member<T> {
    pub(super) fn post(&mut self, to: NodeId, tag: Tag, bytes: Vec<u8>) -> bool {
        match self.transport.post(to, tag, bytes) {
            Ok(()) => return true,
            Err(error @ (PostError::Full { .. } | PostError::Unknown(_))) => tracing::debug!("{}: {error}", self.me),
            Err(error @ PostError::Oversize { .. }) => self.remark(error.to_string()),
        }
        false
    }

    /// Posts what may get lost, because it is sent again as long as it matters; says whether it was posted. No epoch cancels it: so only
    /// so much may wait for a peer that is dead, or cut off.
    pub(super) fn post_letter(&mut self, to: NodeId, kind: Kind, bytes: Vec<u8>) -> bool {
        self.letters += 1;
        let waiting = self.waiting.entry(to).or_default();
        let (length, bytes_waiting) = (bytes.len(), waiting.values().sum::<usize>());
        let fits = waiting.is_empty() || bytes_waiting + length <= LETTER_BYTES_WAITING_MAX;
        if waiting.len() >= LETTERS_WAITING_MAX || !fits {
            return false;
        }
        let number = self.letters;
        let posted = self.post(to, Tag { epoch: LETTERS, step: number, kind: kind as u16, part: 0 }, bytes);
        if posted {
            self.waiting.entry(to).or_default().insert(number, length);
        }
        posted
    }

    /// Posts what must arrive if the epoch is to go on: when there is no room for it, it waits here.
    pub(super) fn post_surely(&mut self, to: NodeId, tag: Tag, bytes: Vec<u8>) {
        self.backlog.push_back((to, tag, bytes));
        self.post_backlog();
    }

    pub(super) fn post_backlog(&mut self) {
        for _ in 0..self.backlog.len() {
            let Some((to, tag, bytes)) = self.backlog.pop_front() else { return };
            if self.transport.is_full(to, bytes.len()) {
                self.backlog.push_back((to, tag, bytes));
            } else {
                self.post(to, tag, bytes);
            }
        }
    }

    pub(super) fn send_blocks(&mut self) {
        let Some(partition) = &mut self.partition else { return };
        let outgoing: Vec<_> = partition.outbox().collect();
        self.backlog.extend(outgoing.into_iter().map(|block| (block.to, block.tag, block.bytes)));
        self.post_backlog();
    }
}
