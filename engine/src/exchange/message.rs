//! The blocks that partitions send each other: halos, returned impulses, and particles that change hands.

use super::codec::{ColumnError, Predictor};
use crate::{
    backend::cpu::Cpu,
    particle::{Mass, Momentum, Particle, ParticleId, Position, Radius},
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

/// Reads a halo. `known` is who they are, if that was told before; the first halo tells it, and no other.
///
/// # Errors
/// If it is not one.
pub fn read_halo(
    bytes: &[u8],
    known: &mut Option<Roster>,
    predictor: &mut Predictor,
    cpu: &Cpu,
) -> Result<[Vec<i64>; 3], ColumnError> {
    let mut reader = Reader(bytes);
    let fresh = match reader.byte()? {
        0 => None,
        1 => {
            if known.is_some() {
                return Err(ColumnError::Packing("it says again who they are".into()));
            }
            let (count, sources) = (reader.count()?, reader.count()?);
            if sources > count {
                return Err(ColumnError::Packing(format!("{sources} of {count} particles pull")));
            }
            let id = reader.column(count)?.into_iter().map(|id| id as u64).collect();
            let mass = reader.column(count)?;
            if mass.iter().any(|&mass| mass <= 0) {
                return Err(ColumnError::Packing("a particle without mass".into()));
            }
            Some(Roster { sources, id, mass })
        }
        other => return Err(ColumnError::Packing(format!("a halo of kind {other}"))),
    };
    let roster = fresh.as_ref().or(known.as_ref());
    let rows = roster.map(Roster::len).ok_or(ColumnError::NoPast { asked: 1, kept: 0 })?;
    let positions = predictor.decode(&mut reader, rows, cpu)?;
    end(reader)?;
    if fresh.is_some() {
        *known = fresh;
    }
    Ok(positions)
}

/// Impulses on the particles of a halo, in its order.
#[must_use]
pub fn impulses(sums: [&[i64]; 3], predictor: &mut Predictor, pack: bool, cpu: &Cpu) -> Vec<u8> {
    predictor.encode(sums, pack, cpu)
}

/// Reads impulses on so many particles.
///
/// # Errors
/// If it is not that.
pub fn read_impulses(
    bytes: &[u8],
    rows: usize,
    predictor: &mut Predictor,
    cpu: &Cpu,
) -> Result<[Vec<i64>; 3], ColumnError> {
    let mut reader = Reader(bytes);
    let sums = predictor.decode(&mut reader, rows, cpu)?;
    end(reader)?;
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

/// Reads particles for a new owner.
///
/// # Errors
/// If it is not that.
pub fn read_migrants(bytes: &[u8]) -> Result<Vec<Migrant>, ColumnError> {
    let (records, rest) = bytes.as_chunks::<{ 8 * MIGRANT_WORDS }>();
    if !rest.is_empty() {
        return Err(ColumnError::Packing(format!("{} bytes of a particle", rest.len())));
    }
    records.iter().map(read_migrant).collect()
}

fn read_migrant(record: &[u8; 8 * MIGRANT_WORDS]) -> Result<Migrant, ColumnError> {
    let words = Reader(record).column(MIGRANT_WORDS)?;
    let &[id, x, y, z, px, py, pz, mass, radius, jx, jy, jz] = words.as_slice() else {
        unreachable!("twelve words were read")
    };
    if mass == 0 || mass == i64::MIN {
        return Err(ColumnError::Packing("a particle without mass".into()));
    }
    let particle = Particle {
        id: ParticleId(id as u64),
        position: Position([x, y, z]),
        momentum: Momentum([px, py, pz]),
        mass: Mass { quanta: mass.abs(), pulls: mass > 0 },
        radius: Radius(radius),
    };
    Ok(Migrant { particle, impulse: [jx, jy, jz] })
}

fn end(reader: Reader<'_>) -> Result<(), ColumnError> {
    if reader.is_empty() { Ok(()) } else { Err(ColumnError::Packing(format!("{} bytes too many", reader.0.len()))) }
}
