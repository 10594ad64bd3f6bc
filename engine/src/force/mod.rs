//! Gravity of pairs: from positions and masses to integer impulses, and to the potential energy that goes with them.
//!
//! [`contract`] defines one pair; [`kernel`] is the same on lanes, for tiles of pairs, in safe code that the
//! [backend](crate::backend) compiles once per instruction set. `tests/exactness.rs` holds the two together, bit for bit.
//!
//! A pair is evaluated once. The one integer that comes out is added to one particle and subtracted from the other, so that
//! momentum is conserved by construction, whatever the rounding.

pub mod contract;
pub mod fast32;
pub mod fast32_blocks;
pub mod fast32_kernel;
pub mod kernel;
pub mod portable32;
pub mod portable32_kernel;

use bevy_ecs::prelude::*;

use crate::quanta::{Quanta, exp2};

/// Newton's law with Plummer softening, in quanta: what the kernels need to know of it.
#[derive(Resource, Clone, Copy, Debug, PartialEq)]
pub struct Law {
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
    pub fn new(g: f64, softening: f64, quanta: &Quanta) -> Self {
        let [x, p, m, e] = [quanta.position.0, quanta.momentum.0, quanta.mass.0, quanta.energy.0];
        // Powers of two only change exponents: the one rounding is that of G itself, in the scenario.
        Self {
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
