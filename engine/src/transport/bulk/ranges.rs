//! Which numbers have come: a bounded list of stretches, newest kept.

use std::collections::VecDeque;

use super::limits::RANGES_MAX;

/// A set of numbers as stretches `first..=last`, ascending, never touching; the oldest are forgotten when there are too many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    stretches: VecDeque<(u64, u64)>,
}

/// What became of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insertion {
    /// It follows the newest.
    InOrder,
    /// It lies elsewhere: something is missing, or was late.
    OutOfOrder,
    /// It was there.
    Repeated,
}

impl Ranges {
    pub(super) fn insert(&mut self, number: u64) -> Insertion {
        // Nearly always the newest stretch grows by one.
        match self.stretches.back_mut() {
            None => {
                self.stretches.push_back((number, number));
                return if number == 0 { Insertion::InOrder } else { Insertion::OutOfOrder };
            }
            Some((_, last)) if last.checked_add(1) == Some(number) => {
                *last = number;
                return Insertion::InOrder;
            }
            Some(_) => {}
        }
        let after = self.stretches.iter().rposition(|&(first, _)| first <= number).map_or(0, |at| at + 1);
        if after > 0 && number <= self.stretches[after - 1].1 {
            return Insertion::Repeated;
        }
        self.insert_at(after, number);
        if self.stretches.len() > RANGES_MAX {
            self.stretches.pop_front();
        }
        assert!(self.stretches.len() <= RANGES_MAX, "the list is bounded");
        Insertion::OutOfOrder
    }

    /// Puts a number that is not there between the stretches before and from `after`.
    fn insert_at(&mut self, after: usize, number: u64) {
        let joins_lower = after > 0 && self.stretches[after - 1].1.checked_add(1) == Some(number);
        let joins_upper = after < self.stretches.len() && number.checked_add(1) == Some(self.stretches[after].0);
        match (joins_lower, joins_upper) {
            (true, true) => {
                self.stretches[after - 1].1 = self.stretches[after].1;
                self.stretches.remove(after);
            }
            (true, false) => self.stretches[after - 1].1 = number,
            (false, true) => self.stretches[after].0 = number,
            (false, false) => self.stretches.insert(after, (number, number)),
        }
    }

    /// The stretches, newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = (u64, u64)> {
        self.stretches.iter().rev().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_is_the_set_of_what_was_put_in() {
        let mut random = 7_u64;
        for _ in 0..200 {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for _ in 0..100 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let number = (random >> 33) % 100;
                let repeated = ranges.insert(number) == Insertion::Repeated;
                assert_eq!(repeated, !set.insert(number));
            }
            let listed: BTreeSet<u64> = ranges.newest_first().flat_map(|(first, last)| first..=last).collect();
            assert_eq!(listed, set);
        }
    }

    #[test]
    fn the_largest_numbers_do_no_harm() {
        let mut ranges = Ranges::default();
        for number in [u64::MAX, 0, u64::MAX - 1, u64::MAX, 1] {
            ranges.insert(number);
        }
        assert_eq!(ranges.newest_first().collect::<Vec<_>>(), [(u64::MAX - 1, u64::MAX), (0, 1)]);
    }
}
