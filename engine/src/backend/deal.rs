//! Which pairs are evaluated here: ranges of rows against each other, cut into tiles that are numbered without a list.
//!
//! A node that is alone evaluates all pairs of its set. One of many evaluates its own, and those of some others with its own: the
//! sums are integers, so it shows in no bit who evaluated what.

use std::ops::Range;

use crate::particle::WorkingSet;

/// Ranges of rows that meet, in one field of bodies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deal {
    /// Rows of a tile, at most.
    size: usize,
    parts: Vec<Part>,
    /// Tiles of parts before each, and of all.
    first: Vec<usize>,
}

/// Two ranges of rows, whole lanes each.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    rows: Range<usize>,
    columns: Range<usize>,
    /// Whether the columns take the reaction.
    mutual: bool,
}

/// A block of rows against a block of columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// The rows.
    pub rows: Range<usize>,
    /// The columns: either the same rows, or none of them.
    pub columns: Range<usize>,
    /// Whether the columns take the reaction.
    pub mutual: bool,
}

impl Tile {
    /// Whether it holds the pairs of one block.
    #[must_use]
    pub fn is_diagonal(&self) -> bool {
        self.rows == self.columns
    }
}

impl Part {
    fn is_triangle(&self) -> bool {
        self.rows == self.columns
    }

    fn blocks(&self, size: usize) -> [usize; 2] {
        [&self.rows, &self.columns].map(|range| range.len().div_ceil(size))
    }

    fn tiles(&self, size: usize) -> usize {
        let [rows, columns] = self.blocks(size);
        if self.is_triangle() { rows * (rows + 1) / 2 } else { rows * columns }
    }

    fn tile(&self, number: usize, size: usize) -> Tile {
        let [blocks, across] = self.blocks(size);
        let [i, j] = if self.is_triangle() {
            // As in a tournament, in round c block i meets block i + c, counted in a circle: every two blocks meet once within
            // half a circle. Round 0, the diagonal with half the work, comes last, so that threads end together.
            let game = self.tiles(size) - 1 - number;
            let (round, i) = (game / blocks, game % blocks);
            [i, (i + round) % blocks]
        } else {
            [number / across, number % across]
        };
        Tile { rows: block(&self.rows, i, size), columns: block(&self.columns, j, size), mutual: self.mutual }
    }
}

/// The k-th block of a range.
fn block(range: &Range<usize>, k: usize, size: usize) -> Range<usize> {
    let first = range.start + k * size;
    first..range.end.min(first + size)
}

impl Deal {
    /// No pairs yet, of a field of so many rows.
    ///
    /// A tile is small enough that a few threads can share the work, large enough to sweep, and small enough that positions, masses
    /// and sums of its columns stay in the first-level cache (56 bytes a column).
    #[must_use]
    pub fn of_rows(rows: usize) -> Self {
        Self { size: (rows / 8).next_multiple_of(64).clamp(64, 512), parts: Vec::new(), first: vec![0] }
    }

    /// Every pair of a set: of its sources each once, and each source on each test particle.
    #[must_use]
    pub fn of_all(set: &WorkingSet) -> Self {
        let mut deal = Self::of_rows(set.rows());
        deal.among(set.source_rows());
        deal.on_rows(set.test_rows(), set.source_rows());
        deal
    }

    /// Adds the pairs of one range of sources.
    pub fn among(&mut self, rows: Range<usize>) {
        self.add(Part { columns: rows.clone(), rows, mutual: true });
    }

    /// Adds the pairs of two ranges of sources that are apart.
    pub fn between(&mut self, rows: Range<usize>, columns: Range<usize>) {
        self.add(Part { rows, columns, mutual: true });
    }

    /// Adds what sources do to test particles, which do nothing to them; or to sources, where the reaction is somebody else's to find.
    pub fn on_rows(&mut self, rows: Range<usize>, sources: Range<usize>) {
        self.add(Part { rows, columns: sources, mutual: false });
    }

    fn add(&mut self, part: Part) {
        if !part.rows.is_empty() && !part.columns.is_empty() {
            self.first.push(self.count() + part.tiles(self.size));
            self.parts.push(part);
        }
    }

    /// Number of tiles.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.first.last().expect("there is always a first")
    }

    /// Pairs of all tiles, padding included, as a measure of work.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        let pairs = |part: &Part| {
            let [rows, columns] = [part.rows.len(), part.columns.len()].map(|len| len as u64);
            if part.is_triangle() { rows * rows.saturating_sub(1) / 2 } else { rows * columns }
        };
        self.parts.iter().map(pairs).sum()
    }

    /// Rows of a tile, at most.
    #[must_use]
    pub fn tile_rows(&self) -> usize {
        self.size
    }

    /// The tile of a number.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn tile(&self, number: usize) -> Tile {
        assert!(number < self.count(), "tile {number} of {}", self.count());
        let part = self.first.partition_point(|&first| first <= number) - 1;
        self.parts[part].tile(number - self.first[part], self.size)
    }

    /// The same pairs without those of test particles: what potential energy is made of.
    #[must_use]
    pub fn of_sources(&self) -> Self {
        let mut deal = Self { size: self.size, parts: Vec::new(), first: vec![0] };
        self.parts.iter().filter(|part| part.mutual).for_each(|part| deal.add(part.clone()));
        deal
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// How often each unordered pair of rows is met.
    fn met(deal: &Deal) -> BTreeMap<[usize; 2], usize> {
        let mut met = BTreeMap::new();
        for tile in (0..deal.count()).map(|number| deal.tile(number)) {
            for i in tile.rows.clone() {
                let columns = if tile.is_diagonal() { i + 1..tile.columns.end } else { tile.columns.clone() };
                columns.for_each(|j| *met.entry([i.min(j), i.max(j)]).or_default() += 1);
            }
        }
        met
    }

    #[test]
    fn every_pair_of_a_range_is_met_once_whatever_its_length() {
        for rows in [8, 64, 72, 200, 1000] {
            let mut deal = Deal::of_rows(rows);
            deal.among(0..rows);
            let met = met(&deal);
            assert_eq!(met.len(), rows * (rows - 1) / 2, "{rows} rows");
            assert!(met.values().all(|&times| times == 1), "{rows} rows");
            assert_eq!(deal.pairs(), met.len() as u64);
        }
    }

    #[test]
    fn ranges_that_are_apart_meet_once_and_test_particles_are_rows() {
        let mut deal = Deal::of_rows(800);
        deal.among(0..128);
        deal.between(0..128, 400..600);
        deal.on_rows(200..296, 0..128);
        let met = met(&deal);

        assert_eq!(met.len() as u64, deal.pairs());
        assert!(met.values().all(|&times| times == 1));
        let on_tests = (0..deal.count()).map(|k| deal.tile(k)).filter(|tile| !tile.mutual);
        assert!(on_tests.clone().count() > 0 && on_tests.clone().all(|tile| tile.rows.start >= 200));
        assert_eq!(deal.of_sources().pairs(), 128 * 127 / 2 + 128 * 200);
    }

    #[test]
    fn nobody_to_meet_is_no_tile() {
        let mut deal = Deal::of_rows(0);
        deal.among(0..0);
        deal.between(0..8, 8..8);
        assert_eq!(deal.count(), 0);
    }
}
