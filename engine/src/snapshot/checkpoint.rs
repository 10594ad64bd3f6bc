//! Checkpoints: one file with everything that determines the rest of a run.
//!
//! Layout, little-endian: the magic `EMMYCKPT`, a version (u32), the length of the header (u64), the header (JSON), the particles
//! (one 72-byte record each, in order of identity), and a BLAKE3 hash of all that stands before it. A file is written under a
//! temporary name, synced and renamed, so that a name that ends in `.ckpt` is a whole file or none; what is damaged all the same
//! is found by the hash, refused, and never half-read; and what is whole but cannot be true is refused by [`super::validate`].

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    audit::{BreachReport, Drifts},
    ledger::Ledger,
    particle::{Mass, Momentum, Particle, ParticleId, Position, Radius},
    quanta::Quanta,
    snapshot::{root::StateRoot, validate::validate},
};

/// The first bytes of every checkpoint.
pub const MAGIC: &[u8; 8] = b"EMMYCKPT";
/// The version that this program writes, and the only one that it reads.
pub const VERSION: u32 = 1;
pub(crate) const RECORD_BYTES: usize = 72;
const HASH_BYTES: usize = 32;
const FIXED_BYTES: usize = 8 + 4 + 8;
/// Headers hold a scenario (at most 64 MiB) and the names of particles: what claims to be longer is damaged.
const HEADER_BYTES_MAX: u64 = 256 << 20;

/// What a checkpoint holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Everything but the particles.
    pub header: Header,
    /// The particles, in order of identity.
    pub particles: Vec<Particle>,
}

/// Everything but the particles. Names come from the scenario again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The scenario with every default filled in.
    pub scenario: String,
    /// Names of particles, by identity.
    pub names: std::collections::BTreeMap<u64, String>,
    /// Sizes of the integer units.
    pub quanta: Quanta,
    /// Committed steps.
    pub step: u64,
    /// The step at which the run ends.
    pub last_step: u64,
    /// The root of the initial state.
    pub root_start: StateRoot,
    /// The root of the particles in this file.
    pub root: StateRoot,
    /// The book.
    pub ledger: Ledger,
    /// The record of what may drift.
    pub drifts: Drifts,
    /// Breaches so far.
    pub breaches: Vec<BreachReport>,
    /// Outcomes of the expectations that came up so far.
    pub outcomes: Vec<Outcome>,
    /// Seconds of wall time that the run has taken.
    pub wall_seconds: f64,
    /// Number of particles.
    pub count: u64,
}

/// What became of an expectation of the scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its index in the scenario.
    pub index: usize,
    /// The step at which it was looked at.
    pub step: u64,
    /// What was expected, in words.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// Whether it held.
    pub held: bool,
}

/// Why a checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be opened or read.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is something else.
    #[error("{path} is not a checkpoint: it does not begin with EMMYCKPT")]
    NotOne {
        /// The file.
        path: PathBuf,
    },
    /// It comes from a newer program.
    #[error("{path} has checkpoint version {found}; this program reads version {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It ends too early.
    #[error("{path} is truncated: {found} bytes, at least {expected} expected")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that are there.
        found: u64,
        /// Bytes that must be there.
        expected: u64,
    },
    /// Its hash does not fit.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
}

/// Encodes a checkpoint.
#[must_use]
pub fn encode(checkpoint: &Checkpoint) -> Vec<u8> {
    let header = serde_json::to_vec(&checkpoint.header).expect("a header is plain numbers and text");
    let mut bytes =
        Vec::with_capacity(FIXED_BYTES + header.len() + RECORD_BYTES * checkpoint.particles.len() + HASH_BYTES);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header);
    for particle in &checkpoint.particles {
        record(particle).iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    }
    let hash = blake3::hash(&bytes);
    bytes.extend(hash.as_bytes());
    bytes
}

pub(crate) fn record(particle: &Particle) -> [i64; RECORD_BYTES / 8] {
    let ([x, y, z], [px, py, pz]) = (particle.position.0, particle.momentum.0);
    // A test particle is one whose record says so by a negative mass.
    let mass = if particle.mass.pulls { particle.mass.quanta } else { -particle.mass.quanta };
    [particle.id.0 as i64, x, y, z, px, py, pz, mass, particle.radius.0]
}

/// Decodes a checkpoint. `path` is for messages.
///
/// # Errors
/// Whatever keeps it from being exactly what was written.
pub fn decode(bytes: &[u8], path: &Path) -> Result<Checkpoint, CheckpointError> {
    let path = || path.to_owned();
    let damaged = |what: String| CheckpointError::Damaged { path: path(), what };
    if bytes.len() < MAGIC.len() || &bytes[..MAGIC.len()] != MAGIC {
        return Err(CheckpointError::NotOne { path: path() });
    }
    let truncated = |expected: u64| CheckpointError::Truncated { path: path(), found: bytes.len() as u64, expected };
    if bytes.len() < FIXED_BYTES + HASH_BYTES {
        return Err(truncated((FIXED_BYTES + HASH_BYTES) as u64));
    }
    let version = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
    if version != VERSION {
        return Err(CheckpointError::Version { path: path(), found: version });
    }
    let header_bytes = u64::from_le_bytes(bytes[12..20].try_into().expect("eight bytes"));
    if header_bytes > HEADER_BYTES_MAX {
        return Err(damaged(format!("its header claims {header_bytes} bytes")));
    }
    let expected = FIXED_BYTES as u64 + header_bytes + HASH_BYTES as u64;
    if (bytes.len() as u64) < expected {
        return Err(truncated(expected));
    }
    let (body, hash) = bytes.split_at(bytes.len() - HASH_BYTES);
    let header = &body[FIXED_BYTES..FIXED_BYTES + header_bytes as usize];
    let records = &body[FIXED_BYTES + header_bytes as usize..];
    if blake3::hash(body) != blake3::Hash::from_slice(hash).expect("32 bytes") {
        // The header tells whether bytes are missing; after damage to the header itself nobody can.
        if let Ok(header) = serde_json::from_slice::<Header>(header) {
            let expected = expected.saturating_add(header.count.saturating_mul(RECORD_BYTES as u64));
            if (bytes.len() as u64) < expected {
                return Err(truncated(expected));
            }
        }
        return Err(damaged("its BLAKE3 hash does not match its contents".into()));
    }
    let header: Header = serde_json::from_slice(header).map_err(|error| damaged(format!("its header: {error}")))?;
    if header.count.checked_mul(RECORD_BYTES as u64) != Some(records.len() as u64) {
        return Err(damaged(format!("{} particles do not take {} bytes", header.count, records.len())));
    }
    let particles: Vec<Particle> = records.as_chunks::<RECORD_BYTES>().0.iter().map(particle).collect();
    check_root(&header, &particles).and_then(|()| validate(&header, &particles)).map_err(damaged)?;
    Ok(Checkpoint { header, particles })
}

pub(crate) fn particle(record: &[u8; RECORD_BYTES]) -> Particle {
    let word = |k: usize| i64::from_le_bytes(record[8 * k..8 * k + 8].try_into().expect("eight bytes"));
    let mass = word(7);
    Particle {
        id: ParticleId(word(0) as u64),
        position: Position([word(1), word(2), word(3)]),
        momentum: Momentum([word(4), word(5), word(6)]),
        mass: Mass { quanta: mass.saturating_abs(), pulls: mass > 0 },
        radius: Radius(word(8)),
    }
}

fn check_root(header: &Header, particles: &[Particle]) -> Result<(), String> {
    let root = StateRoot::of_particles(particles);
    if root == header.root {
        Ok(())
    } else {
        Err(format!("its particles have root {root}, its header says {}", header.root))
    }
}

/// Reads a checkpoint.
///
/// # Errors
/// As [`decode`], or if the file cannot be read.
pub fn read(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let io = |error| CheckpointError::Io { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    let mut file = fs::File::open(path).map_err(io)?;
    Read::by_ref(&mut file).take(MAGIC.len() as u64).read_to_end(&mut bytes).map_err(io)?;
    // What is no checkpoint may be endless: it is not read to its end.
    if bytes == MAGIC {
        file.read_to_end(&mut bytes).map_err(io)?;
    }
    decode(&bytes, path)
}

/// Writes a whole file or none: under a temporary name, synced, then renamed.
///
/// # Errors
/// What the system says; the temporary file is then removed.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("partial");
    let written = fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    renamed?;
    // The name must survive a power cut too. Some file systems cannot sync a folder; the file itself is safe.
    if let Some(folder) = path.parent() {
        let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

/// The checkpoints of a folder, newest first, by the step in their names.
///
/// # Errors
/// If the folder cannot be read.
pub fn list(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let digits = name.strip_prefix("step-").and_then(|name| name.strip_suffix(".ckpt"));
        if let Some(step) = digits.and_then(|digits| digits.parse().ok()) {
            found.push((step, path));
        }
    }
    found.sort_unstable();
    found.reverse();
    Ok(found)
}

/// The newest checkpoint of a folder that reads well.
#[must_use]
pub fn newest_good(folder: &Path) -> Option<PathBuf> {
    list(folder).ok()?.into_iter().map(|(_, path)| path).find(|path| read(path).is_ok())
}

/// The name of the checkpoint of a step.
#[must_use]
pub fn file_name(step: u64) -> String {
    format!("step-{step:016}.ckpt")
}
