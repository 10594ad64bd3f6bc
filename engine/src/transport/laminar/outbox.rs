//! Where sealed datagrams to one peer wait until a system call takes many of them.
//!
//! They lie one after another in one piece of memory, which is taken once and never grows. A run is what one call may send:
//! datagrams of equal length, of which the last may be shorter.

use std::collections::VecDeque;

#[derive(Clone, Copy, Debug)]
struct Run {
    bytes: usize,
    segment: usize,
}

impl Run {
    /// A shorter datagram ends a run.
    fn takes(&self, length: usize) -> bool {
        length <= self.segment && self.bytes.is_multiple_of(self.segment)
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    room: Vec<u8>,
    begin: usize,
    end: usize,
    runs: VecDeque<Run>,
}

impl Outbox {
    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.end - self.begin
    }

    /// Room for a datagram of this length, if `capacity` bytes in all leave it; [`Outbox::push`] makes it part of the outbox.
    pub(super) fn room(&mut self, length: usize, capacity: usize) -> Option<&mut [u8]> {
        if self.room.is_empty() {
            self.room = vec![0; capacity];
        }
        if self.room.len() - self.end < length && self.begin > 0 {
            self.room.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        self.room.get_mut(self.end..self.end + length)
    }

    /// Takes in the datagram that was written into the room.
    pub(super) fn push(&mut self, length: usize) {
        self.end += length;
        match self.runs.back_mut() {
            Some(run) if run.takes(length) => run.bytes += length,
            _ => self.runs.push_back(Run { bytes: length, segment: length }),
        }
    }

    /// What the next call may send: at most `segments` datagrams and `bytes_max` bytes.
    pub(super) fn front(&self, segments: usize, bytes_max: usize) -> Option<(&[u8], usize)> {
        let run = self.runs.front()?;
        let segments = segments.min(bytes_max / run.segment).max(1);
        let bytes = run.bytes.min(segments * run.segment);
        Some((&self.room[self.begin..self.begin + bytes], run.segment))
    }

    /// Forgets what was sent.
    pub(super) fn pop(&mut self, bytes: usize) {
        let run = self.runs.front_mut().expect("what was sent was there");
        assert!(bytes <= run.bytes, "{bytes} of {} bytes", run.bytes);
        run.bytes -= bytes;
        self.begin += bytes;
        if run.bytes == 0 {
            self.runs.pop_front();
        }
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        (self.begin, self.end) = (0, 0);
        self.runs.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(outbox: &mut Outbox, length: usize) -> bool {
        let fits = outbox.room(length, 1000).map(|room| room.fill(length as u8)).is_some();
        if fits {
            outbox.push(length);
        }
        fits
    }

    #[test]
    fn a_run_ends_with_a_shorter_datagram_and_before_a_longer_one() {
        let mut outbox = Outbox::default();
        for length in [100, 100, 100, 40, 100, 120] {
            assert!(put(&mut outbox, length));
        }
        let mut sent = Vec::new();

        while let Some((bytes, segment)) = outbox.front(2, 65_000) {
            sent.push((bytes.len(), segment));
            let bytes = bytes.len();
            outbox.pop(bytes);
        }

        assert_eq!(sent, [(200, 100), (140, 100), (100, 100), (120, 120)]);
        assert_eq!(outbox.waiting(), 0);
    }

    #[test]
    fn it_takes_no_more_than_its_capacity_and_moves_what_waits_to_the_front() {
        let mut outbox = Outbox::default();
        while put(&mut outbox, 300) {}
        assert_eq!(outbox.waiting(), 900);

        outbox.pop(300);
        assert!(put(&mut outbox, 300));

        assert!(!put(&mut outbox, 300));
        assert_eq!(outbox.front(9, 65_000).map(|(bytes, _)| bytes.len()), Some(900));
    }
}
