//! Particles: entities with integer columns, and the lanes into which they are gathered for work.
//!
//! Between passes the entities are the truth, and they hold only committed state. A pass gathers them into the [`WorkingSet`],
//! moves that, and scatters it back when the steps are to be kept: the proposal and the committed state are two copies, so that
//! to undo is to do nothing. Nothing depends on the order of rows: every sum over particles is an integer sum.

use std::{collections::BTreeMap, ops::Range};

use bevy_ecs::prelude::*;

use crate::quanta::{MASS_RANGE_BITS, MOMENTUM_RANGE_BITS, exp2};

/// Lanes of the widest kernel. Rows come in multiples of it; those that stand for no particle are [`PADDING`].
pub const LANES: usize = 8;

/// Where padding rows stand: beyond the range of positions, so that no particle ever meets one, and each at a place of its own.
/// Their mass is 0, so that every impulse they take part in is exactly 0. Differences to particles still do not wrap.
pub(crate) const PADDING: i64 = 1 << 62;

/// A particle's name for life. Unique in a run.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticleId(pub u64);

/// Position [position quanta].
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(pub [i64; 3]);

/// Momentum [momentum quanta].
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Momentum(pub [i64; 3]);

/// Inertial mass, and whether it is also a source of gravity.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mass {
    /// Inertial mass [mass quanta], above zero.
    pub quanta: i64,
    /// False for a test particle: it is pulled but does not pull.
    pub pulls: bool,
}

/// Radius [position quanta].
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Radius(pub i64);

/// Everything that a particle is, as one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Particle {
    /// Its name for life.
    pub id: ParticleId,
    /// Where it is.
    pub position: Position,
    /// Its momentum.
    pub momentum: Momentum,
    /// Its mass.
    pub mass: Mass,
    /// Its size.
    pub radius: Radius,
}

impl Particle {
    /// The components of one entity.
    #[must_use]
    pub fn bundle(self) -> (ParticleId, Position, Momentum, Mass, Radius) {
        (self.id, self.position, self.momentum, self.mass, self.radius)
    }

    /// Whether everything of it is within its range, where positions stay within ±2^`position_bits` quanta: what kernels rely on, and
    /// what comes from a file or a peer must prove.
    ///
    /// # Errors
    /// The first thing that is not, in words.
    pub fn check(&self, position_bits: u32) -> Result<(), String> {
        let (id, mass, radius) = (self.id.0, self.mass.quanta, self.radius.0);
        let within = |values: [i64; 3], bits: u32| values.iter().all(|value| value.unsigned_abs() <= 1 << bits);
        // Rows that only fill up a lane carry the largest number.
        if id == u64::MAX {
            return Err(format!("no particle has the number {id}"));
        }
        if !(1..=1 << MASS_RANGE_BITS).contains(&mass) {
            return Err(format!("particle {id} has a mass of {mass} quanta"));
        }
        if !within(self.position.0, position_bits) {
            return Err(format!("particle {id} is out of the range of positions"));
        }
        if !within(self.momentum.0, MOMENTUM_RANGE_BITS) {
            return Err(format!("particle {id} is out of the range of momenta"));
        }
        if !(0..=1 << position_bits).contains(&radius) {
            return Err(format!("particle {id} has a radius of {radius} quanta"));
        }
        Ok(())
    }
}

/// Names that a scenario gave to particles.
#[derive(Resource, Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(pub BTreeMap<u64, String>);

impl Names {
    /// The name of a particle, or its number.
    #[must_use]
    pub fn of(&self, id: ParticleId) -> String {
        self.0.get(&id.0).cloned().unwrap_or_else(|| format!("particle {}", id.0))
    }

    /// The particle of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ParticleId> {
        self.0.iter().find(|(_, n)| *n == name).map(|(&id, _)| ParticleId(id))
    }
}

/// The particles of this node, one `Vec` per axis, sources first, then test particles, each group padded to whole lanes.
#[derive(Resource, Clone, Debug, Default)]
pub struct WorkingSet {
    /// Identities, row by row (padding: `u64::MAX`).
    pub id: Vec<u64>,
    /// Positions [position quanta].
    pub position: [Vec<i64>; 3],
    /// Momenta [momentum quanta].
    pub momentum: [Vec<i64>; 3],
    /// Inertial masses as floats [mass quanta], exact; 0 for padding.
    pub mass: Vec<f64>,
    /// 1 / mass, rounded once; 0 for padding.
    pub inverse_mass: Vec<f64>,
    /// How many particles pull.
    pub sources: usize,
    /// How many particles are only pulled.
    pub tests: usize,
}

impl WorkingSet {
    /// An empty set with room for these.
    #[must_use]
    pub fn with_room_for(sources: usize, tests: usize) -> Self {
        let rows = padded(sources) + padded(tests);
        let empty = || std::array::from_fn(|axis| if axis == 0 { padding_places(rows) } else { vec![PADDING; rows] });
        Self {
            id: vec![u64::MAX; rows],
            position: empty(),
            momentum: std::array::from_fn(|_| vec![0; rows]),
            mass: vec![0.0; rows],
            inverse_mass: vec![0.0; rows],
            sources,
            tests,
        }
    }

    /// A set of these particles, in this order within each group.
    #[must_use]
    pub fn of(particles: &[Particle]) -> Self {
        let sources = particles.iter().filter(|p| p.mass.pulls).count();
        let mut set = Self::with_room_for(sources, particles.len() - sources);
        let mut rows = Rows::of(&set);
        for particle in particles {
            set.put(rows.next(particle.mass.pulls), particle);
        }
        set
    }

    /// Writes one particle into one row.
    #[inline]
    pub fn put(&mut self, row: usize, particle: &Particle) {
        self.id[row] = particle.id.0;
        for axis in 0..3 {
            self.position[axis][row] = particle.position.0[axis];
            self.momentum[axis][row] = particle.momentum.0[axis];
        }
        self.mass[row] = particle.mass.quanta as f64;
        self.inverse_mass[row] = 1.0 / particle.mass.quanta as f64;
    }

    /// Number of rows, padding included.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.mass.len()
    }

    /// Number of particles.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sources + self.tests
    }

    /// Rows of the sources, padded to whole lanes.
    #[must_use]
    pub fn source_rows(&self) -> Range<usize> {
        0..padded(self.sources)
    }

    /// Rows of the test particles, padded to whole lanes.
    #[must_use]
    pub fn test_rows(&self) -> Range<usize> {
        padded(self.sources)..self.rows()
    }

    /// Rows that stand for particles.
    pub fn real_rows(&self) -> impl Iterator<Item = usize> + Clone + use<> {
        let first_test = padded(self.sources);
        (0..self.sources).chain(first_test..first_test + self.tests)
    }

    /// The position in one row [position quanta].
    #[inline]
    #[must_use]
    pub fn position_at(&self, row: usize) -> [i64; 3] {
        std::array::from_fn(|axis| self.position[axis][row])
    }

    /// The momentum in one row [momentum quanta].
    #[inline]
    #[must_use]
    pub fn momentum_at(&self, row: usize) -> [i64; 3] {
        std::array::from_fn(|axis| self.momentum[axis][row])
    }

    /// The states in chosen rows, packed for exchange: position, then momentum. On a device it is `shaders/pack.wgsl`.
    #[must_use]
    pub fn pack(&self, rows: &[u32]) -> Vec<Packed> {
        let state = |&row: &u32| (self.position_at(row as usize), self.momentum_at(row as usize));
        rows.iter().map(state).map(|([x, y, z], [px, py, pz])| [x, y, z, px, py, pz]).collect()
    }

    /// The row of a particle.
    #[must_use]
    pub fn row_of(&self, id: ParticleId) -> Option<usize> {
        self.real_rows().find(|&row| self.id[row] == id.0)
    }

    /// Pairs whose impulse one force evaluation computes: each pair of sources once, each source on each test particle.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        let (sources, tests) = (self.sources as u64, self.tests as u64);
        sources * sources.saturating_sub(1) / 2 + sources * tests
    }
}

/// Position [position quanta] and momentum [momentum quanta] of one particle.
pub type Packed = [i64; 6];

/// Hands out rows in order: one counter for sources, one for test particles.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    source: usize,
    test: usize,
}

impl Rows {
    /// Starts at the first row of each group.
    #[must_use]
    pub fn of(set: &WorkingSet) -> Self {
        Self { source: 0, test: padded(set.sources) }
    }

    /// The next row for a particle that pulls or does not.
    #[inline]
    pub fn next(&mut self, pulls: bool) -> usize {
        let counter = if pulls { &mut self.source } else { &mut self.test };
        *counter += 1;
        *counter - 1
    }
}

/// The components of a particle that a pass reads.
pub type ParticleRef = (&'static ParticleId, &'static Position, &'static Momentum, &'static Mass);

/// The components of a particle that a pass writes, and the mass that says where its row stands.
pub type ParticleMut = (&'static mut Position, &'static mut Momentum, &'static Mass);

/// How the particles differ from what was gathered before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Positions, masses or identities: impulses must be computed anew.
    pub pull: bool,
    /// Momenta.
    pub motion: bool,
}

impl Changes {
    /// Whether anything differs.
    #[must_use]
    pub fn any(self) -> bool {
        self.pull || self.motion
    }
}

/// Gathers the particles into lanes, sources first, and says what differs from what was there.
///
/// # Errors
/// If particles are not stored in dense tables.
pub fn gather(particles: &Query<'_, '_, ParticleRef>, set: &mut WorkingSet) -> Result<Changes> {
    let (mut sources, mut tests) = (0, 0);
    for (.., masses) in particles.contiguous_iter()? {
        let pulling = masses.iter().filter(|mass| mass.pulls).count();
        sources += pulling;
        tests += masses.len() - pulling;
    }
    let resized = (set.sources, set.tests) != (sources, tests);
    if resized {
        *set = WorkingSet::with_room_for(sources, tests);
    }
    let mut rows = Rows::of(set);
    let mut changes = Changes { pull: resized, motion: resized };
    for (ids, positions, momenta, masses) in particles.contiguous_iter()? {
        for (((&id, &position), &momentum), &mass) in ids.iter().zip(positions).zip(momenta).zip(masses) {
            let row = rows.next(mass.pulls);
            changes.pull |=
                set.position_at(row) != position.0 || set.id[row] != id.0 || set.mass[row] != mass.quanta as f64;
            changes.motion |= set.momentum_at(row) != momentum.0;
            set.put(row, &Particle { id, position, momentum, mass, radius: Radius(0) });
        }
    }
    Ok(changes)
}

/// Writes positions and momenta back to the particles, in the order in which [`gather`] took them.
///
/// # Errors
/// If particles are not stored in dense tables.
pub fn scatter(particles: &mut Query<'_, '_, ParticleMut>, set: &WorkingSet) -> Result {
    let mut rows = Rows::of(set);
    for (mut positions, mut momenta, masses) in particles.contiguous_iter_mut()? {
        let positions = positions.bypass_change_detection();
        let momenta = momenta.bypass_change_detection();
        for ((position, momentum), mass) in positions.iter_mut().zip(momenta).zip(masses) {
            let row = rows.next(mass.pulls);
            *position = Position(set.position_at(row));
            *momentum = Momentum(set.momentum_at(row));
        }
    }
    Ok(())
}

/// Quanta in scenario units.
#[must_use]
pub fn in_units(quanta: [i64; 3], exponent: i32) -> [f64; 3] {
    quanta.map(|q| q as f64 * exp2(exponent))
}

/// Rows that so many particles of one group take.
pub(crate) fn padded(count: usize) -> usize {
    count.next_multiple_of(LANES)
}

fn padding_places(rows: usize) -> Vec<i64> {
    // 2¹⁰ apart: at this distance floats are, and these places must be different as floats too.
    (0..rows as i64).map(|row| PADDING + (row << 10)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn particle(id: u64, pulls: bool) -> Particle {
        let place = id as i64;
        Particle {
            id: ParticleId(id),
            position: Position([place, -place, 7]),
            momentum: Momentum([1, 2, 3]),
            mass: Mass { quanta: 4, pulls },
            radius: Radius(0),
        }
    }

    #[test]
    fn sources_and_test_particles_stand_apart_and_both_are_padded() {
        let particles: Vec<_> = (0..13).map(|id| particle(id, id % 4 != 0)).collect();
        let set = WorkingSet::of(&particles);

        assert_eq!((set.sources, set.tests, set.rows()), (9, 4, 24));
        let ids: Vec<u64> = set.real_rows().map(|row| set.id[row]).collect();
        assert_eq!(ids, [1, 2, 3, 5, 6, 7, 9, 10, 11, 0, 4, 8, 12]);
        assert_eq!(set.pairs(), 36 + 36);
    }

    #[test]
    fn padding_has_no_mass_and_no_two_rows_share_a_place() {
        let set = WorkingSet::of(&[particle(1, true)]);
        let mut places: Vec<_> = set.position[0][1..].to_vec();
        places.dedup();
        assert_eq!(places.len(), 7);
        assert!(set.mass[1..].iter().all(|&m| m == 0.0));
    }
}
