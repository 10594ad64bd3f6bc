//! The columns of a run on a device: they stay there from step to step.
//!
//! A column of three axes is one buffer: x of all rows, then y, then z, as 64-bit integers. Positions and momenta are there twice:
//! as they are, and as they were when they were last good, so that undo costs no transfer.

use super::{
    adapter::Facts,
    compute::{Pipeline, buffer, filled_buffer, read_back},
    device::Device,
    error::GpuError,
    programs::{GROUP, Over, Programs},
    tally::Layout,
};
use crate::particle::{self, WorkingSet};

/// Invocations that keep a large device busy. Fewer rows than this share the sources among several invocations.
const BUSY: usize = 1 << 20;
/// Steps whose records fit one half of the ring.
pub(super) const STEPS_AT_ONCE: usize = 64;

/// How the work is cut. No bit depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Rows of all columns, padding included.
    pub(super) rows: usize,
    /// The first row of a test particle.
    pub(super) tests: usize,
    /// The first rows are so many sources.
    pub(super) sources: usize,
    /// Parts into which the sources are cut for every row.
    pub(super) parts: usize,
    /// Tiles of a part.
    pub(super) tiles: usize,
}

impl Cut {
    pub(super) fn of(set: &WorkingSet) -> Self {
        Self::new(set.test_rows().start, set.rows(), set.sources)
    }

    fn new(tests: usize, rows: usize, sources: usize) -> Self {
        let tiles = sources.div_ceil(GROUP as usize).max(1);
        let wanted = (BUSY / rows.max(1)).clamp(1, tiles);
        let of_a_part = tiles.div_ceil(wanted);
        let parts = tiles.div_ceil(of_a_part);
        Self { rows, tests, sources, parts, tiles: of_a_part }
    }

    /// Workgroups of a force evaluation.
    pub(super) fn pair_groups(self) -> [u32; 3] {
        [self.rows.div_ceil(GROUP as usize) as u32, self.parts as u32, 1]
    }

    /// Workgroups of a motion: limbs have room for 65,536 additions, and a step has up to twelve stages.
    pub(super) fn row_groups(self) -> [u32; 3] {
        [self.rows.div_ceil(GROUP as usize).min(4096) as u32, 1, 1]
    }

    pub(super) fn over(self, slot: usize, range_bits: u32) -> Over {
        Over {
            rows: self.rows as u32,
            sources: self.sources as u32,
            tiles: self.tiles as u32,
            slot: slot as u32,
            range_bits,
            unused: 0,
        }
    }

    /// Bytes of one column of three axes.
    fn column(self) -> u64 {
        24 * self.rows as u64
    }

    /// Bytes of all buffers together.
    pub(super) fn bytes(self) -> u64 {
        let columns = (4 + self.parts as u64) * self.column() + 24 * self.rows as u64;
        columns + 4 * ring_bytes() + 2 * Layout::SURVEY.bytes()
    }

    /// The largest single buffer.
    fn largest(self) -> u64 {
        self.parts as u64 * self.column()
    }
}

/// Bytes of one half of the ring of records.
pub(super) fn ring_bytes() -> u64 {
    STEPS_AT_ONCE as u64 * Layout::STEP.bytes()
}

/// The buffers of a run.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) cut: Cut,
    position: wgpu::Buffer,
    momentum: wgpu::Buffer,
    kept_position: wgpu::Buffer,
    kept_momentum: wgpu::Buffer,
    /// Two halves of the ring, so that one can be read while the other is written.
    pub(super) ring: [wgpu::Buffer; 2],
    pub(super) survey: wgpu::Buffer,
    pub(super) bindings: Bindings,
}

/// What the programs see of the buffers; those that write records, once for each half of the ring.
#[derive(Debug)]
pub(super) struct Bindings {
    pub(super) impulses: [wgpu::BindGroup; 2],
    pub(super) impulses_guarded: [wgpu::BindGroup; 2],
    pub(super) kick_and_drift: [wgpu::BindGroup; 2],
    pub(super) kick_and_count: [wgpu::BindGroup; 2],
    pub(super) potential: wgpu::BindGroup,
    pub(super) count: wgpu::BindGroup,
}

impl Columns {
    /// Takes a working set to the device.
    pub(super) fn upload(device: &Device, programs: &Programs, set: &WorkingSet) -> Result<Self, GpuError> {
        let cut = Cut::of(set);
        fits(device.facts(), cut)?;
        let storage = wgpu::BufferUsages::STORAGE;
        let empty = |bytes: u64| buffer(device, bytes.max(24), storage);
        // A set without particles has buffers all the same.
        let filled = |bytes: &[u8]| if bytes.is_empty() { empty(24) } else { filled_buffer(device, bytes, storage) };
        let column = |axes: &[Vec<i64>; 3]| filled(bytemuck::cast_slice(&axes.concat()));
        let (position, momentum) = (column(&set.position)?, column(&set.momentum)?);
        let words = |values: &[u64]| filled(bytemuck::cast_slice(values));
        let mass: Vec<u64> = set.mass.iter().map(|&mass| mass as u64).collect();
        let inverse_mass: Vec<u64> = set.inverse_mass.iter().map(|w| w.to_bits()).collect();
        let (mass, inverse_mass, identity) = (words(&mass)?, words(&inverse_mass)?, words(&set.id)?);
        let impulse = empty(cut.largest())?;
        let (ring, survey) = ([empty(ring_bytes())?, empty(ring_bytes())?], empty(Layout::SURVEY.bytes())?);
        let with_ring = |pipeline: &Pipeline, buffers: [&wgpu::Buffer; 4]| {
            ring.each_ref().map(|half| pipeline.bind(device, &[&buffers[..], &[half]].concat()))
        };
        let pairs = |pipeline: &Pipeline| {
            ring.each_ref().map(|half| pipeline.bind(device, &[&position, &mass, &impulse, half]))
        };
        let moved = [&position, &momentum, &impulse, &inverse_mass];
        let counted = [&position, &momentum, &mass, &inverse_mass, &identity, &survey];
        let bindings = Bindings {
            impulses: pairs(&programs.impulses),
            impulses_guarded: pairs(&programs.impulses_guarded),
            kick_and_drift: with_ring(&programs.kick_and_drift, moved),
            kick_and_count: with_ring(&programs.kick_and_count, moved),
            potential: programs.potential.bind(device, &[&position, &mass, &impulse, &survey]),
            count: programs.count.bind(device, &counted),
        };
        let (kept_position, kept_momentum) = (empty(cut.column())?, empty(cut.column())?);
        device.check()?;
        Ok(Self { cut, position, momentum, kept_position, kept_momentum, ring, survey, bindings })
    }

    /// Positions and momenta.
    pub(super) fn state(&self) -> [&wgpu::Buffer; 2] {
        [&self.position, &self.momentum]
    }

    /// Brings positions and momenta back.
    pub(super) fn download(&self, device: &Device, set: &mut WorkingSet) -> Result<(), GpuError> {
        let bytes = read_back(device, &[&self.position, &self.momentum])?;
        for (axes, bytes) in [&mut set.position, &mut set.momentum].into_iter().zip(&bytes) {
            let values = bytes.as_chunks::<8>().0;
            for (axis, values) in axes.iter_mut().zip(values.chunks(self.cut.rows.max(1))) {
                axis.iter_mut().zip(values).for_each(|(value, bytes)| *value = i64::from_le_bytes(*bytes));
            }
        }
        Ok(())
    }

    /// Records that the present state is good.
    pub(super) fn keep(&self, encoder: &mut wgpu::CommandEncoder) {
        let bytes = self.cut.column();
        encoder.copy_buffer_to_buffer(&self.position, 0, &self.kept_position, 0, bytes);
        encoder.copy_buffer_to_buffer(&self.momentum, 0, &self.kept_momentum, 0, bytes);
    }

    /// Records that the last good state is taken back.
    pub(super) fn restore(&self, encoder: &mut wgpu::CommandEncoder) {
        let bytes = self.cut.column();
        encoder.copy_buffer_to_buffer(&self.kept_position, 0, &self.position, 0, bytes);
        encoder.copy_buffer_to_buffer(&self.kept_momentum, 0, &self.momentum, 0, bytes);
    }
}

/// Whether so many sources and test particles fit on a device, as far as it tells: its memory may be in use by others.
///
/// # Errors
/// If they do not, with what is needed and what there is.
pub fn room(facts: &Facts, sources: usize, tests: usize) -> Result<(), GpuError> {
    fits(facts, of_counts(sources, tests))
}

/// What the buffers of so many sources and test particles take on a device [bytes].
#[must_use]
pub fn bytes(sources: usize, tests: usize) -> u64 {
    of_counts(sources, tests).bytes()
}

fn of_counts(sources: usize, tests: usize) -> Cut {
    let first_test = particle::padded(sources);
    Cut::new(first_test, first_test + particle::padded(tests), sources)
}

fn fits(facts: &Facts, cut: Cut) -> Result<(), GpuError> {
    let one = facts.limits.storage_binding.min(facts.limits.buffer);
    let refuse = |needed, available| Err(GpuError::Memory { device: facts.name.clone(), needed, available });
    let most_rows = u64::from(facts.limits.workgroups) * u64::from(GROUP);
    match facts.memory {
        _ if cut.rows as u64 > most_rows => {
            // Told in bytes, like the rest: what the rows of one dispatch take.
            refuse(cut.bytes(), cut.bytes() / cut.rows as u64 * most_rows)
        }
        Some(available) if cut.bytes() > available => refuse(cut.bytes(), available),
        _ if cut.largest() > one => refuse(cut.largest(), one),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::adapter::{Interface, Kind, Limits};

    #[test]
    fn what_does_not_fit_is_refused_before_a_device_is_opened_with_both_sizes() {
        let limits = |binding| Limits {
            buffer: 1 << 40,
            storage_binding: binding,
            workgroup_memory: 0,
            workgroup_invocations: 0,
            workgroups: 65_535,
            immediates: 0,
        };
        let facts = |memory, binding| Facts {
            number: 0,
            name: "small".to_owned(),
            kind: Kind::Discrete,
            driver: String::new(),
            backend: Interface::Vulkan,
            features: wgpu::Features::empty().into(),
            limits: limits(binding),
            memory,
        };
        let needed = bytes(100_000, 10);
        let refused = |needed, available| Err(GpuError::Memory { device: "small".to_owned(), needed, available });

        assert_eq!(room(&facts(Some(needed), 1 << 40), 100_000, 10), Ok(()));
        assert_eq!(room(&facts(Some(needed - 1), 1 << 40), 100_000, 10), refused(needed, needed - 1));
        assert_eq!(room(&facts(None, 1 << 40), 100_000, 10), Ok(()), "the device does not tell");
        // One buffer of all impulses.
        let largest = of_counts(100_000, 10).largest();
        assert_eq!(room(&facts(None, largest - 1), 100_000, 10), refused(largest, largest - 1));
        // More workgroups than a dispatch may have.
        assert!(
            room(&facts(None, 1 << 40), 8_388_480, 0).is_ok() && room(&facts(None, 1 << 40), 8_388_481, 0).is_err()
        );
    }

    #[test]
    fn what_is_estimated_beforehand_is_what_the_columns_take() {
        for (sources, tests) in [(0, 0), (1, 0), (150, 5), (100_000, 17)] {
            let set = WorkingSet::with_room_for(sources, tests);
            assert_eq!(of_counts(sources, tests), Cut::of(&set), "{sources} sources, {tests} test particles");
        }
    }
}
