//! Where a particle stands along the Hilbert curve, from its integer position alone.
//!
//! The curve visits all cells of a cube of 2⁴² cells an edge, each next to the one before it (J. Skilling, "Programming the Hilbert
//! curve", AIP Conf. Proc. 707, 381 (2004)): ranges of keys are compact in space. The cube is the range of positions of the
//! contract, so that a key is a function of the position and of nothing else.

/// Bits of a key for each axis.
const BITS: u32 = 42;

/// The place of a position along the curve, among 2¹²⁶.
///
/// `position_bits`: positions stay within ±2^(this) quanta; one that does not is taken for the nearest that does.
#[must_use]
pub fn key(position: [i64; 3], position_bits: u32) -> u128 {
    let edge = 1_i64 << position_bits;
    let cell = |x: i64| {
        let offset = (x.clamp(-edge, edge - 1) + edge) as u64;
        if position_bits + 1 >= BITS {
            offset >> (position_bits + 1 - BITS)
        } else {
            offset << (BITS - position_bits - 1)
        }
    };
    hilbert(position.map(cell), BITS)
}

/// The index of a cell along the curve through a cube of 2^`bits` cells an edge.
fn hilbert(cell: [u64; 3], bits: u32) -> u128 {
    let transposed = transpose(cell, bits);
    let interleave =
        |index: u128, bit: u32| transposed.iter().fold(index, |index, word| index << 1 | u128::from(word >> bit & 1));
    (0..bits).rev().fold(0, interleave)
}

/// Skilling's `AxestoTranspose`: the bits of the index, spread over three words.
fn transpose(mut x: [u64; 3], bits: u32) -> [u64; 3] {
    let highest = 1_u64 << (bits - 1);
    let mut q = highest;
    while q > 1 {
        let below = q - 1;
        for axis in 0..3 {
            if x[axis] & q != 0 {
                x[0] ^= below;
            } else {
                let swapped = (x[0] ^ x[axis]) & below;
                x[0] ^= swapped;
                x[axis] ^= swapped;
            }
        }
        q >>= 1;
    }
    x[1] ^= x[0];
    x[2] ^= x[1];
    let mut flip = 0;
    let mut q = highest;
    while q > 1 {
        if x[2] & q != 0 {
            flip ^= q - 1;
        }
        q >>= 1;
    }
    x.map(|word| word ^ flip)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_curve_visits_every_cell_once_and_each_is_next_to_the_one_before() {
        for bits in 1..=4 {
            let edge = 1_u64 << bits;
            let cells = (0..edge * edge * edge).map(|k| [k % edge, k / edge % edge, k / edge / edge]);
            let curve: BTreeMap<u128, [u64; 3]> = cells.map(|cell| (hilbert(cell, bits), cell)).collect();

            assert_eq!(curve.len() as u64, edge * edge * edge);
            assert_eq!(curve.keys().copied().collect::<Vec<_>>(), (0..1 << (3 * bits)).collect::<Vec<_>>());
            let way: Vec<[u64; 3]> = curve.into_values().collect();
            for pair in way.windows(2) {
                let steps: u64 = (0..3).map(|axis| pair[0][axis].abs_diff(pair[1][axis])).sum();
                assert_eq!(steps, 1, "{bits} bits: {pair:?}");
            }
        }
    }

    #[test]
    fn every_position_has_a_key() {
        for bits in [20, 41, 47, 52, 61] {
            let edge = 1_i64 << bits;
            for position in [[-edge; 3], [edge - 1; 3], [i64::MIN, i64::MAX, 0], [0, -1, 1]] {
                assert!(key(position, bits) < 1 << 126);
            }
            let [low, high] = [-edge, edge - 1].map(|x| key([x, 0, 0], bits));
            assert_ne!(low, high);
        }
        let far = 1 << 40;
        assert_ne!(key([far, 0, 0], 61), key([far + (1 << 20), 0, 0], 61), "a cell is 2^20 quanta");
    }
}
