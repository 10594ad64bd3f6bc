//! The blocks that partitions send each other: halos, returned impulses, and particles that change hands.
//!
//! What is read comes from a peer. A block is taken whole or refused whole: after one that is refused, what is known of the peer's
//! particles and of their past is what it was before. What is refused is whatever kernels do not expect: positions, momenta, masses and
//! radii out of their ranges, and a number that two particles have. Impulses may be anything: a peer in which a pair came too close sends
//! what its sums wrapped to, and the step ends with that breach, not here. Reading takes at most 24 bytes for each particle whose
//! identity was told, as many for each column of the past, and what the block itself is long.

use super::codec::{ColumnError, Predictor};
use crate::{
    backend::cpu::Cpu,
    particle::{Mass, Momentum, Particle, ParticleId, Position, Radius},
    quanta::MASS_RANGE_BITS,
    wire::bytes::{Reader, Writer},
};

/// What a block is, in [`crate::transport::Tag::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Kind {
    /// Positions of particles, for one evaluation.
    Halo = 1,
    /// Their impulses.
    Return = 2,
    /// Particles for their new owner.
    Migrants = 3,
}

impl Kind {
    /// The kind of a number.
    #[must_use]
    pub fn of(number: u16) -> Option<Self> {
        [Self::Halo, Self::Return, Self::Migrants].into_iter().find(|kind| *kind as u16 == number)
    }
}

/// Words of a particle that changes hands: what it is, and the impulse that waits for it.
const MIGRANT_WORDS: usize = 12;

/// Who the particles of a halo are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// How many of them pull: they come first.
    pub sources: usize,
    /// Their identities.
    pub id: Vec<u64>,
    /// Their masses [mass quanta].
    pub mass: Vec<i64>,
}

impl Roster {
    /// Number of particles.
    #[must_use]
    pub fn len(&self) -> usize {
        self.id.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.id.is_empty()
    }
}

/// A halo: positions, and who they are of unless that is known.
#[must_use]
pub fn halo(
    roster: Option<&Roster>,
    positions: [&[i64]; 3],
    predictor: &mut Predictor,
    pack: bool,
    cpu: &Cpu,
) -> Vec<u8> {
    let mut out = Writer::default();
    match roster {
        None => out.byte(0),
        Some(roster) => {
            out.byte(1);
            out.count(roster.len());
            out.count(roster.sources);
            roster.id.iter().for_each(|id| out.0.extend(id.to_le_bytes()));
            out.column(&roster.mass);
        }
    }
    out.0.extend(predictor.encode(positions, pack, cpu));
    out.0
}

/// Reads a halo, whose positions are within ±2^`position_bits` quanta. `known` is who they are, if that was told before; the first halo
/// tells it, and no other.
///
/// # Errors
/// If it is not one; `known` and `predictor` are then as they were.
pub fn read_halo(
    bytes: &[u8],
    position_bits: u32,
    known: &mut Option<Roster>,
    predictor: &mut Predictor,
    cpu: &Cpu,
) -> Result<[Vec<i64>; 3], ColumnError> {
    let mut reader = Reader(bytes);
    let fresh = match reader.byte()? {
        0 => None,
        1 if known.is_some() => return Err(refused("it says again who they are")),
        1 => Some(read_roster(&mut reader)?),
        other => return Err(refused(format!("a halo of kind {other}"))),
    };
    let roster = fresh.as_ref().or(known.as_ref());
    let rows = roster.map(Roster::len).ok_or(ColumnError::NoPast { asked: 1, kept: 0 })?;
    let positions = predictor.decode(&mut reader, rows, cpu)?;
    end(reader)?;
    if positions.iter().flatten().any(|x| x.unsigned_abs() > 1 << position_bits) {
        return Err(refused("a position out of range"));
    }
    predictor.keep(&positions);
    if fresh.is_some() {
        *known = fresh;
    }
    Ok(positions)
}

fn read_roster(reader: &mut Reader<'_>) -> Result<Roster, ColumnError> {
    let (count, sources) = (reader.count()?, reader.count()?);
    if sources > count {
        return Err(refused(format!("{sources} of {count} particles pull")));
    }
    let id: Vec<u64> = reader.column(count)?.into_iter().map(|id| id as u64).collect();
    let mass = reader.column(count)?;
    if !mass.iter().all(|mass| (1..=1 << MASS_RANGE_BITS).contains(mass)) {
        return Err(refused("a mass out of range"));
    }
    let mut sorted = id.clone();
    sorted.sort_unstable();
    // Rows that only fill up a lane carry the largest number.
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) || sorted.last() == Some(&u64::MAX) {
        return Err(refused("a number that is no particle's, or of two"));
    }
    Ok(Roster { sources, id, mass })
}

fn refused(why: impl Into<String>) -> ColumnError {
    ColumnError::Packing(why.into())
}

/// Impulses on the particles of a halo, in its order.
#[must_use]
pub fn impulses(sums: [&[i64]; 3], predictor: &mut Predictor, pack: bool, cpu: &Cpu) -> Vec<u8> {
    predictor.encode(sums, pack, cpu)
}

/// Reads impulses on so many particles. They may be any integers.
///
/// # Errors
/// If it is not that; `predictor` is then as it was.
pub fn read_impulses(
    bytes: &[u8],
    rows: usize,
    predictor: &mut Predictor,
    cpu: &Cpu,
) -> Result<[Vec<i64>; 3], ColumnError> {
    let mut reader = Reader(bytes);
    let sums = predictor.decode(&mut reader, rows, cpu)?;
    end(reader)?;
    predictor.keep(&sums);
    Ok(sums)
}

/// A particle for its new owner, with the impulse that the next kick will give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrant {
    /// All of it.
    pub particle: Particle,
    /// [momentum quanta]
    pub impulse: [i64; 3],
}

/// Particles for a new owner.
#[must_use]
pub fn migrants(migrants: &[Migrant]) -> Vec<u8> {
    let mut out = Writer::default();
    for Migrant { particle, impulse } in migrants {
        let ([x, y, z], [px, py, pz]) = (particle.position.0, particle.momentum.0);
        let mass = if particle.mass.pulls { particle.mass.quanta } else { -particle.mass.quanta };
        let [jx, jy, jz] = *impulse;
        let words: [i64; MIGRANT_WORDS] =
            [particle.id.0 as i64, x, y, z, px, py, pz, mass, particle.radius.0, jx, jy, jz];
        out.column(&words);
    }
    out.0
}

/// Reads particles for a new owner, each within its ranges, no two with one number.
///
/// # Errors
/// If it is not that.
pub fn read_migrants(bytes: &[u8], position_bits: u32) -> Result<Vec<Migrant>, ColumnError> {
    let (records, rest) = bytes.as_chunks::<{ 8 * MIGRANT_WORDS }>();
    if !rest.is_empty() {
        return Err(refused(format!("{} bytes of a particle", rest.len())));
    }
    let migrants: Vec<Migrant> = records.iter().map(migrant_of).collect();
    migrants.iter().try_for_each(|migrant| migrant.particle.check(position_bits)).map_err(refused)?;
    let mut ids: Vec<ParticleId> = migrants.iter().map(|migrant| migrant.particle.id).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(refused(format!("particle {} twice", pair[0].0))),
        None => Ok(migrants),
    }
}

fn migrant_of(record: &[u8; 8 * MIGRANT_WORDS]) -> Migrant {
    let word = |k: usize| i64::from_le_bytes(record.as_chunks().0[k]);
    let three = |k: usize| [word(k), word(k + 1), word(k + 2)];
    let mass = word(7);
    let particle = Particle {
        id: ParticleId(word(0) as u64),
        position: Position(three(1)),
        momentum: Momentum(three(4)),
        mass: Mass { quanta: mass.saturating_abs(), pulls: mass > 0 },
        radius: Radius(word(8)),
    };
    Migrant { particle, impulse: three(9) }
}

fn end(reader: Reader<'_>) -> Result<(), ColumnError> {
    if reader.is_empty() { Ok(()) } else { Err(refused(format!("{} bytes too many", reader.0.len()))) }
}
