//! The state root: one 128-bit number for all particle state, whatever the order of particles, threads and partitions.
//!
//! Each particle's record (id, position, momentum, mass: eight 64-bit words, little-endian) is hashed with MurmurHash3_x86_128
//! (A. Appleby, public domain), which needs nothing but 32-bit multiplications, additions and rotations and so can run on a GPU
//! too; the root is the sum of all hashes modulo 2¹²⁸. It finds faults, not forgers: who must resist an adversary signs files.
//!
//! Whether a particle pulls, and its radius, are no part of it: they never change in a run, and a checkpoint has checksums of its own.

use std::{fmt, str::FromStr};

use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};

use crate::particle::{Mass, Momentum, Particle, ParticleId, Position};

/// A state root. Prints as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct StateRoot(pub u128);

impl StateRoot {
    /// Adds one particle.
    pub fn add(&mut self, id: ParticleId, position: Position, momentum: Momentum, mass: Mass) {
        let [x, p] = [position.0, momentum.0];
        let record = [id.0 as i64, x[0], x[1], x[2], p[0], p[1], p[2], mass.quanta];
        self.0 = self.0.wrapping_add(hash(record));
    }

    /// The root of these particles.
    #[must_use]
    pub fn of_particles(particles: &[Particle]) -> Self {
        let mut root = Self::default();
        particles.iter().for_each(|p| root.add(p.id, p.position, p.momentum, p.mass));
        root
    }

    /// The root of all particles of a world.
    pub fn of(world: &mut World) -> Self {
        let mut root = Self::default();
        let mut particles = world.query::<(&ParticleId, &Position, &Momentum, &Mass)>();
        for (&id, &position, &momentum, &mass) in particles.iter(world) {
            root.add(id, position, momentum, mass);
        }
        root
    }
}

impl fmt::Display for StateRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for StateRoot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let value = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        value.map(Self).ok_or_else(|| format!("`{text}` is not a state root: expected 32 hexadecimal digits"))
    }
}

impl From<StateRoot> for String {
    fn from(root: StateRoot) -> Self {
        root.to_string()
    }
}

impl TryFrom<String> for StateRoot {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// MurmurHash3_x86_128 of a record, seed 0.
fn hash(record: [i64; 8]) -> u128 {
    let mut h = [0_u32; 4];
    for block in record.chunks_exact(2) {
        let [a, b] = [block[0] as u64, block[1] as u64];
        mix_block(&mut h, [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32]);
    }
    let length = size_of_val(&record) as u32;
    h = cross_add(h.map(|lane| lane ^ length)).map(finalise);
    let [a, b, c, d] = cross_add(h).map(u128::from);
    a | b << 32 | c << 64 | d << 96
}

fn mix_block(h: &mut [u32; 4], k: [u32; 4]) {
    const C: [u32; 4] = [0x239b_961b, 0xab0e_9789, 0x38b3_4ae5, 0xa1e3_8b93];
    const K_TURN: [u32; 4] = [15, 16, 17, 18];
    const H_TURN: [u32; 4] = [19, 17, 15, 13];
    const ADD: [u32; 4] = [0x561c_cd1b, 0x0bca_a747, 0x96cd_1c35, 0x32ac_3b17];
    for lane in 0..4 {
        let next = (lane + 1) % 4;
        h[lane] ^= k[lane].wrapping_mul(C[lane]).rotate_left(K_TURN[lane]).wrapping_mul(C[next]);
        h[lane] = h[lane].rotate_left(H_TURN[lane]).wrapping_add(h[next]).wrapping_mul(5).wrapping_add(ADD[lane]);
    }
}

fn cross_add([mut a, b, c, d]: [u32; 4]) -> [u32; 4] {
    a = a.wrapping_add(b).wrapping_add(c).wrapping_add(d);
    [a, b.wrapping_add(a), c.wrapping_add(a), d.wrapping_add(a)]
}

fn finalise(mut h: u32) -> u32 {
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64) -> (ParticleId, Position, Momentum, Mass) {
        let v = id as i64 * 1_000_003;
        (ParticleId(id), Position([v, -v, 7]), Momentum([1, v, 0]), Mass { quanta: 5, pulls: true })
    }

    #[test]
    fn the_hash_is_murmur3() {
        // `mmh3.hash128(struct.pack("<8q", …), 0, False)` of the Python package mmh3.
        assert_eq!(hash([0; 8]), 0xa077_dd63_ad09_3a5e_9939_7841_5dab_a90e);
        assert_eq!(hash([1, -2, 3, -4, 5, 1 << 60, -(1 << 60), 8]), 0x709a_7110_add1_187a_aabb_2ddc_2283_178f);
    }

    #[test]
    fn order_does_not_matter_and_every_bit_does() {
        let root = |ids: &mut dyn Iterator<Item = u64>| {
            let mut root = StateRoot::default();
            ids.for_each(|id| {
                let (a, b, c, d) = record(id);
                root.add(a, b, c, d);
            });
            root
        };
        let forth = root(&mut (0..100));
        assert_eq!(forth, root(&mut (0..100).rev()));
        assert_ne!(forth, root(&mut (0..99)));

        let base = [1, 2, 3, 4, 5, 6, 7, 8];
        for word in 0..8 {
            for bit in 0..64 {
                let mut other = base;
                other[word] ^= 1 << bit;
                assert_ne!(hash(base), hash(other), "word {word} bit {bit}");
            }
        }
    }

    #[test]
    fn text_and_back() {
        let root = StateRoot(0x0123);
        assert_eq!(root.to_string().parse(), Ok(root));
        assert!("12".parse::<StateRoot>().is_err());
        assert!("+0000000000000000000000000000001".parse::<StateRoot>().is_err());
    }
}
