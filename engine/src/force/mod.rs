//! Gravity of pairs: from positions and masses to integer impulses, and to the potential energy that goes with them.
//!
//! A contract is defined for one pair: [`native64`] and [`portable64`] on f64, [`portable32`] and [`fast32`] on f32. The kernels are
//! the same on lanes, for tiles or blocks of pairs, in safe code that the [backend](crate::backend) compiles once per instruction
//! set: [`kernel`], [`portable32_kernel`], [`fast32_kernel`]. `tests/exactness.rs` and `tests/contracts32.rs` hold definitions and
//! kernels together, bit for bit.
//!
//! A pair is evaluated once. The one integer that comes out is added to one particle and subtracted from the other, so that
//! momentum is conserved by construction, whatever the rounding.

pub mod fast32;
pub mod fast32_blocks;
pub mod fast32_kernel;
pub mod kernel;
pub mod native64;
pub mod portable32;
pub mod portable32_kernel;
pub mod portable64;

use bevy_ecs::prelude::*;

use self::{fast32::KickFast, portable32::Kick32};
use crate::{
    contract::Contract,
    quanta::{Quanta, exp2},
};

/// Newton's law with Plummer softening, in quanta: what the kernels need to know of it.
#[derive(Resource, Clone, Copy, Debug, PartialEq)]
pub struct Law {
    /// How pairs are evaluated.
    pub contract: Contract,
    /// G in impulse quanta: an impulse is `m·M·(factor·Δt)·d/r³` [momentum quanta], with masses in mass quanta and lengths in
    /// position quanta.
    pub factor: f64,
    /// Softening length squared [position quanta²].
    pub softening2: f64,
    /// G in energy quanta: the energy of a pair is `-m·M·energy_factor/r` [energy quanta].
    pub energy_factor: f64,
}

impl Law {
    /// The law of a scenario with gravitational constant `g` and softening length `softening` [scenario units], in quanta.
    #[must_use]
    pub fn new(contract: Contract, g: f64, softening: f64, quanta: &Quanta) -> Self {
        let [x, p, m, e] = [quanta.position.0, quanta.momentum.0, quanta.mass.0, quanta.energy.0];
        // Powers of two only change exponents: the one rounding is that of G itself, in the scenario.
        Self {
            contract,
            factor: g * exp2(2 * m - p) * exp2(-2 * x),
            softening2: (softening * exp2(-x)) * (softening * exp2(-x)),
            energy_factor: g * exp2(2 * m - e) * exp2(-x),
        }
    }

    /// The factor of one kick that lasts `duration` [time]; odd in it.
    #[must_use]
    pub fn kick(&self, duration: f64) -> Kick {
        Kick { factor: self.factor * duration, softening2: self.softening2 }
    }

    /// Whether the contract can hold the numbers of kicks of these durations [time] and of masses between `masses` [mass quanta]:
    /// f32 has 8 bits of exponent, and a number below its normal range would be flushed to zero on some devices.
    #[must_use]
    pub fn fits(&self, durations: impl IntoIterator<Item = f64>, [least, most]: [f64; 2]) -> bool {
        let normal = |v: f32, of: f64| if of == 0.0 { v == 0.0 } else { v.is_normal() };
        // A factor of four to spare, for what is computed from it.
        let moderate = |v: f64| v.abs() < exp2(126);
        let energy = portable32::energy_factor_in_spans(self.energy_factor);
        durations.into_iter().map(|duration| self.kick(duration)).all(|kick| match self.contract {
            Contract::Native64 | Contract::Portable64 => true,
            Contract::Portable32 => {
                let Kick32 { factor, softening2 } = Kick32::of(kick);
                let products = [factor, energy].map(|f| moderate(most * most * f64::from(f)));
                let normal = normal(factor, kick.factor)
                    && normal(softening2, kick.softening2)
                    && normal(energy, self.energy_factor);
                normal && products == [true; 2]
            }
            Contract::Fast32 => {
                let fast = KickFast::of(kick, self.contract.impulse_bits(1));
                let [weak, strong] = [least, most].map(|mass| fast.strength(mass));
                let normal = normal(weak, kick.factor) && normal(fast.softening2, kick.softening2);
                normal && moderate(f64::from(strong) * f64::from(strong))
            }
        })
    }

    /// The largest impulse that any pair of masses up to `mass` [mass quanta] can get from a kick of `duration`, or infinity
    /// without softening: r/(r² + ε²)^(3/2) is largest at r = ε/√2, where it is 2/(3√3 ε²).
    #[must_use]
    pub fn impulse_bound(&self, mass: f64, duration: f64) -> f64 {
        mass * mass * (self.factor * duration).abs() * (2.0 / (3.0 * 3f64.sqrt())) / self.softening2
    }
}

/// What one kick needs to know: the law times its duration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kick {
    /// `w`: multiplies the product of the masses.
    pub factor: f64,
    /// Softening length squared [position quanta²].
    pub softening2: f64,
}

/// A pair whose impulse cannot be held: the two came closer than the momentum quantum and the time step can resolve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairOverflow {
    /// Row of the particle that is pulled.
    pub row: usize,
    /// Row of the particle that pulls.
    pub column: usize,
}

/// From `from` to `to`, exact as an integer, then to the nearest float.
#[inline(always)]
#[must_use]
pub fn separation(from: [i64; 3], to: [i64; 3]) -> [f64; 3] {
    std::array::from_fn(|axis| to[axis].wrapping_sub(from[axis]) as f64)
}
