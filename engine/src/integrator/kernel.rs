//! Drifts and kicks of a block of particles, with their bookings, in safe code that the [backend](crate::backend) compiles once
//! per instruction set.
//!
//! State is integers; a float appears only on the way to one. All sums wrap, so that even an overflow leaves every sum over
//! particles as it was; ranges are watched and an overflow is reported, never hidden.

use super::portable::Multiplier;
use crate::{
    contract::Contract,
    math::{add3, f64_from_i64, sum_of_crosses, wide_product},
    particle::WorkingSet,
};

/// Δt in position quanta per momentum quantum, for a particle of one mass quantum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stride(pub f64);

/// Rows per block of parallel work.
///
/// Integer sums do not care how they are grouped, so this is a matter of speed alone: 1024 rows of positions, momenta and
/// impulses are 72 KiB, they stay in the second-level cache between kick and drift.
pub const BLOCK_ROWS: usize = 1024;

/// A block of rows: what kicks and drifts touch, one slice per axis.
#[derive(Debug)]
pub struct Block<'a> {
    /// Positions [position quanta].
    pub position: [&'a mut [i64]; 3],
    /// Momenta [momentum quanta].
    pub momentum: [&'a mut [i64]; 3],
    /// 1 / mass [1 / mass quanta].
    pub inverse_mass: &'a [f64],
    /// Impulses of the coming kick [momentum quanta].
    pub impulse: [&'a [i64]; 3],
}

/// What a block did in one motion, for the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Booking {
    /// Σ of the momenta gained [momentum quanta].
    pub impulse: [i128; 3],
    /// Σ x × Δp [position quanta · momentum quanta].
    pub torque: [i128; 3],
    /// Σ Δx × p [position quanta · momentum quanta].
    pub sway: [i128; 3],
    /// Not zero if a position or a momentum left its range.
    pub outside: i64,
}

impl Booking {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            impulse: add3(self.impulse, other.impulse),
            torque: add3(self.torque, other.torque),
            sway: add3(self.sway, other.sway),
            outside: self.outside | other.outside,
        }
    }
}

/// Counted totals of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Σ p [momentum quanta].
    pub momentum: [i128; 3],
    /// Σ x × p [position quanta · momentum quanta].
    pub angular_momentum: [i128; 3],
}

impl Totals {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            momentum: add3(self.momentum, other.momentum),
            angular_momentum: add3(self.angular_momentum, other.angular_momentum),
        }
    }
}

/// p ← p + J.
#[inline(always)]
pub fn kick(block: &mut Block<'_>, book_angular: bool) -> Booking {
    let mut booking = Booking::default();
    for axis in 0..3 {
        let mut sum = 0_i128;
        for (p, &j) in block.momentum[axis].iter_mut().zip(block.impulse[axis]) {
            *p = p.wrapping_add(j);
            booking.outside |= momentum_outside(*p) | momentum_outside(j);
            sum += i128::from(j);
        }
        booking.impulse[axis] = sum;
    }
    if book_angular {
        booking.torque = sum_of_crosses(block.position.each_ref().map(|x| &**x), block.impulse);
    }
    booking
}

/// x ← x + round(Δt · p / m), to nearest: an odd function of p and of Δt, so that −Δt takes it back.
///
/// The portable contracts do it in integers, the others by a float product in two levels.
#[inline(always)]
pub fn drift<const ADDS: bool>(
    block: &mut Block<'_>,
    contract: Contract,
    stride: Stride,
    book_angular: bool,
) -> Booking {
    let to_f64 = |v: i64| if ADDS { f64_from_i64(v) } else { v as f64 };
    let bits = contract.position_bits();
    let mut booking = Booking::default();
    let rows = block.inverse_mass.len();
    for first in (0..rows).step_by(SOME_ROWS) {
        let some = first..rows.min(first + SOME_ROWS);
        let inverse_mass = &block.inverse_mass[some.clone()];
        let mut multipliers = [Multiplier::default(); SOME_ROWS];
        if contract.is_portable() {
            multipliers.iter_mut().zip(inverse_mass).for_each(|(m, &w)| *m = Multiplier::new(stride.0, w));
        }
        let mut moved = [[0_i64; SOME_ROWS]; 3];
        for (axis, moved) in moved.iter_mut().enumerate() {
            let (x, p) = (&mut block.position[axis][some.clone()], &block.momentum[axis][some.clone()]);
            booking.outside |= if contract.is_portable() {
                drift_axis([x, moved], p, inverse_mass, &multipliers, bits, |p, multiplier| {
                    let (dx, beyond) = multiplier.displacement(p);
                    (dx, i64::from(beyond))
                })
            } else {
                let product = |p, w| wide_product(to_f64(p), stride.0 * w);
                drift_axis([x, moved], p, inverse_mass, inverse_mass, bits, product)
            };
        }
        if book_angular {
            let momentum = block.momentum.each_ref().map(|p| &p[some.clone()]);
            let sway = sum_of_crosses(moved.each_ref().map(|dx| &dx[..some.len()]), momentum);
            booking.sway = add3(booking.sway, sway);
        }
    }
    booking
}

/// Rows whose displacements are kept on the stack until they are booked.
const SOME_ROWS: usize = 64;

/// Drifts a few rows along one axis and leaves the displacements in `moved`. Not zero if one was too far. Rows without mass are
/// padding, which stands out of range for good.
///
/// `displacement` makes of a momentum and a row's factor how far it goes, and a value that is not zero if that cannot be held.
#[inline(always)]
fn drift_axis<F: Copy>(
    [x, moved]: [&mut [i64]; 2],
    p: &[i64],
    inverse_mass: &[f64],
    factors: &[F],
    position_bits: u32,
    displacement: impl Fn(i64, F) -> (i64, i64),
) -> i64 {
    let mut outside = 0;
    for ((((x, &p), &w), &factor), moved) in x.iter_mut().zip(p).zip(inverse_mass).zip(factors).zip(moved) {
        let (dx, too_far) = displacement(p, factor);
        *x = x.wrapping_add(dx);
        *moved = dx;
        outside |= too_far | if w == 0.0 { 0 } else { position_outside(*x, position_bits) };
    }
    outside
}

/// Counts what rows hold.
#[inline(always)]
#[must_use]
pub fn totals(position: [&[i64]; 3], momentum: [&[i64]; 3], angular: bool) -> Totals {
    Totals {
        momentum: momentum.map(|axis| axis.iter().map(|&p| i128::from(p)).sum()),
        angular_momentum: if angular { sum_of_crosses(position, momentum) } else { [0; 3] },
    }
}

/// Not zero iff x is not in [−2^`bits`, 2^`bits`).
#[inline(always)]
#[must_use]
pub fn position_outside(x: i64, bits: u32) -> i64 {
    x.wrapping_add(1 << bits) >> (bits + 1)
}

/// Not zero iff |p| is beyond 2⁶².
#[inline(always)]
#[must_use]
pub fn momentum_outside(p: i64) -> i64 {
    p.wrapping_add(1 << 62) >> 63
}

/// The first row whose position or momentum is out of range, and which of the two.
#[must_use]
pub fn find_outside(set: &WorkingSet, contract: Contract) -> Option<(usize, OutOfRange)> {
    set.real_rows().find_map(|row| outside_in(set, row, contract).map(|what| (row, what)))
}

/// What of a row is out of range.
#[must_use]
pub fn outside_in(set: &WorkingSet, row: usize, contract: Contract) -> Option<OutOfRange> {
    let bits = contract.position_bits();
    if set.position_at(row).map(|x| position_outside(x, bits)) != [0; 3] {
        Some(OutOfRange::Position)
    } else if set.momentum_at(row).map(momentum_outside) != [0; 3] {
        Some(OutOfRange::Momentum)
    } else {
        None
    }
}

/// What left its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfRange {
    /// A position, or a drift too long to be held.
    Position,
    /// A momentum.
    Momentum,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drift_back_takes_back_every_bit() {
        let mut x = [[1_i64 << 40, -5], [77, 1 << 58], [0, -(1 << 60)]];
        let mut p = [[3_i64 << 50, 12_345], [-7, 1 << 61], [1, -(1 << 55)]];
        let start = x;
        let inverse_mass = [1.0 / 3.0, 1.0 / 1e9];
        let both = [Contract::Native64, Contract::Portable64];
        for (contract, stride) in both.into_iter().flat_map(|contract| [(contract, 0.017), (contract, -0.017)]) {
            let mut block = Block {
                position: x.each_mut().map(|axis| &mut axis[..]),
                momentum: p.each_mut().map(|axis| &mut axis[..]),
                inverse_mass: &inverse_mass,
                impulse: [&[0; 2]; 3],
            };
            let booking = drift::<false>(&mut block, contract, Stride(stride), true);
            assert!(booking.outside == 0 || contract != Contract::Native64);
        }
        assert_eq!(x, start);
    }

    #[test]
    fn leaving_a_range_is_seen_on_both_sides() {
        let edge = 1_i64 << 61;
        let outside = |x| position_outside(x, 61);
        assert_eq!(outside(edge - 1) | outside(-edge), 0);
        assert_ne!(outside(edge), 0);
        assert_ne!(outside(-edge - 1), 0);
        assert_ne!(outside(i64::MIN), 0);
        assert_eq!(position_outside((1 << 47) - 1, 47) | position_outside(-(1 << 47), 47), 0);
        assert_ne!(position_outside(1 << 47, 47), 0);
        assert_eq!(momentum_outside((1 << 62) - 1) | momentum_outside(-(1 << 62)), 0);
        assert_ne!(momentum_outside(1 << 62), 0);
        assert_ne!(momentum_outside(i64::MIN), 0);
    }
}
