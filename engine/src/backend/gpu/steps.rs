//! Steps on a device: several in one submission, their records read late.
//!
//! Two submissions are in flight: while the host judges the records of one, the device works on the next. When a record is bad,
//! what was computed after it is of no use, and the caller takes the last good state back; nothing is final before it was judged.

use std::{collections::VecDeque, sync::mpsc};

use super::{
    Gpu, Stages,
    columns::{Columns, STEPS_AT_ONCE, ring_bytes},
    compute::Pipeline,
    device::Device,
    error::GpuError,
    programs::{Pull32, Pull64, Stage},
    tally::{Layout, StepRecord},
};
use crate::{
    force::{
        Kick, Law,
        portable32::{self, Kick32},
    },
    integrator::kernel::Stride,
    metrics::{Phase, Phases, Stopwatch},
};

/// A submission that takes less than this is followed by a larger one [s].
const SUBMISSION_SECONDS: f64 = 0.01;
/// Submissions in flight.
const IN_FLIGHT: usize = 2;
/// Time stamps of one submission: the most that a query set may have.
const STAMPS: u32 = 4096;

/// What reads the records of one half of the ring, and the times of its phases.
#[derive(Debug)]
pub(super) struct Reader {
    records: wgpu::Buffer,
    /// Missing where a device cannot time the inside of a pass.
    clock: Option<Clock>,
}

#[derive(Debug)]
struct Clock {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    read: wgpu::Buffer,
}

impl Reader {
    pub(super) fn new(device: &Device) -> Self {
        let make = |size: u64, usage: wgpu::BufferUsages| {
            let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
            device.wgpu().create_buffer(&descriptor)
        };
        let read = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let clock = device.facts().features.timestamps_inside_passes.then(|| Clock {
            queries: device.wgpu().create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: STAMPS,
            }),
            resolved: make(8 * u64::from(STAMPS), wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            read: make(8 * u64::from(STAMPS), read),
        });
        Self { records: make(ring_bytes(), read), clock }
    }
}

/// A submission that is not read yet.
struct InFlight {
    half: usize,
    steps: usize,
    phases: Vec<Phase>,
    submission: wgpu::SubmissionIndex,
    mapped: mpsc::Receiver<bool>,
}

/// Records dispatches of one pass, with a time stamp after each.
struct Dispatcher<'a, 'p> {
    pass: &'a mut wgpu::ComputePass<'p>,
    queries: Option<&'a wgpu::QuerySet>,
    phases: Vec<Phase>,
}

impl Dispatcher<'_, '_> {
    fn dispatch(
        &mut self,
        phase: Phase,
        pipeline: &Pipeline,
        bindings: &wgpu::BindGroup,
        parameters: &[u8],
        groups: [u32; 3],
    ) {
        self.pass.set_pipeline(&pipeline.pipeline);
        self.pass.set_bind_group(0, bindings, &[]);
        self.pass.set_immediates(0, parameters);
        self.pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
        if let Some(queries) = self.queries {
            self.pass.write_timestamp(queries, 1 + self.phases.len() as u32);
            self.phases.push(phase);
        }
    }
}

impl Gpu {
    /// Takes up to `steps` steps and hands over the record of each, in order, until one is refused. The columns then stand
    /// somewhere after that step: only a state in which no record was refused may be believed.
    ///
    /// # Errors
    /// If the device fails; what it holds is then of no use.
    ///
    /// # Panics
    /// If nothing was uploaded.
    pub fn propose(
        &mut self,
        stages: &Stages<'_>,
        steps: u64,
        mut accept: impl FnMut(&StepRecord) -> bool,
    ) -> Result<(), GpuError> {
        let mut in_flight = VecDeque::new();
        let (mut submitted, mut half, mut good) = (0, 0, true);
        while good && (submitted < steps || !in_flight.is_empty()) {
            while in_flight.len() < IN_FLIGHT && submitted < steps {
                let some = (steps - submitted).min(self.pace as u64) as usize;
                in_flight.push_back(self.submit(stages, some, half)?);
                submitted += some as u64;
                half = 1 - half;
            }
            let watch = Stopwatch::start();
            let Some(oldest) = in_flight.pop_front() else { break };
            let full = oldest.steps == self.pace;
            good = self.read(oldest)?.iter().all(&mut accept);
            self.adapt(full, watch.seconds());
        }
        // What is left was computed after a step that nobody wants; it must not stay mapped.
        for left in in_flight {
            self.read(left)?;
        }
        Ok(())
    }

    /// More steps at once while that is fast, fewer when it is slow: a device shared with a screen must not be kept too long.
    fn adapt(&mut self, full: bool, seconds: f64) {
        if full && seconds < SUBMISSION_SECONDS {
            self.pace = (2 * self.pace).min(STEPS_AT_ONCE);
        } else if seconds > 4.0 * SUBMISSION_SECONDS {
            self.pace = (self.pace / 2).max(1);
        }
    }

    fn submit(&mut self, stages: &Stages<'_>, steps: usize, half: usize) -> Result<InFlight, GpuError> {
        let columns = self.columns.as_ref().expect("columns were uploaded");
        let reader = &self.readers[half];
        let mut encoder = self.device.wgpu().create_command_encoder(&Default::default());
        let bytes = steps as u64 * Layout::STEP.bytes();
        encoder.clear_buffer(&columns.ring[half], 0, Some(bytes));
        let mut fresh = self.fresh;
        let phases = {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            let queries = reader.clock.as_ref().map(|clock| &clock.queries);
            if let Some(queries) = queries {
                pass.write_timestamp(queries, 0);
            }
            let mut dispatcher = Dispatcher { pass: &mut pass, queries, phases: Vec::new() };
            for slot in 0..steps {
                self.encode_step(&mut dispatcher, columns, stages, [half, slot], &mut fresh);
            }
            dispatcher.phases
        };
        encoder.copy_buffer_to_buffer(&columns.ring[half], 0, &reader.records, 0, bytes);
        if let Some(clock) = &reader.clock {
            let stamps = 1 + phases.len() as u32;
            encoder.resolve_query_set(&clock.queries, 0..stamps, &clock.resolved, 0);
            encoder.copy_buffer_to_buffer(&clock.resolved, 0, &clock.read, 0, 8 * u64::from(stamps));
        }
        self.fresh = fresh;
        let submission = self.device.queue().submit([encoder.finish()]);
        let (tell, mapped) = mpsc::channel();
        let map = |buffer: &wgpu::Buffer, bytes: u64| {
            let tell = tell.clone();
            buffer.map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
                // Nobody listens any more after an error.
                let _ = tell.send(result.is_ok());
            });
        };
        let stamps = 8 * (1 + phases.len() as u64);
        map(&reader.records, bytes);
        if let Some(clock) = &reader.clock {
            map(&clock.read, stamps);
        }
        self.traffic += bytes + if reader.clock.is_some() { stamps } else { 0 };
        Ok(InFlight { half, steps, phases, submission, mapped })
    }

    /// One step of a splitting. The last kick of a step and the first of the next are at the same positions: if they are equally
    /// long, their impulses are the same integers and need no second evaluation.
    fn encode_step(
        &self,
        dispatcher: &mut Dispatcher<'_, '_>,
        columns: &Columns,
        stages: &Stages<'_>,
        [half, slot]: [usize; 2],
        fresh: &mut Option<Kick>,
    ) {
        let (cut, bindings) = (columns.cut, &columns.bindings);
        let stage = |stride: Stride| Stage {
            rows: cut.rows as u32,
            tests: cut.tests as u32,
            slot: slot as u32,
            parts: cut.parts as u32,
            stride: [stride.0.to_bits() as u32, (stride.0.to_bits() >> 32) as u32],
            position_bits: self.contract.position_bits(),
            angular: u32::from(stages.angular),
        };
        for (number, kick) in stages.kicks.iter().enumerate() {
            // Without gravity nothing is ever written to the impulses; and 0·∞ would be no number where two bodies meet.
            if kick.factor != 0.0 && *fresh != Some(*kick) {
                let (pipeline, bound) = if stages.guarded {
                    (&self.programs.impulses_guarded, &bindings.impulses_guarded[half])
                } else {
                    (&self.programs.impulses, &bindings.impulses[half])
                };
                let parameters = self.pull(columns, *kick, slot);
                dispatcher.dispatch(Phase::Force, pipeline, bound, &parameters, cut.pair_groups());
                *fresh = Some(*kick);
            }
            match stages.strides.get(number) {
                Some(stride) => {
                    let (pipeline, bound) = (&self.programs.kick_and_drift, &bindings.kick_and_drift[half]);
                    let parameters = bytemuck::bytes_of(&stage(*stride)).to_vec();
                    dispatcher.dispatch(Phase::Motion, pipeline, bound, &parameters, cut.row_groups());
                    *fresh = None;
                }
                None => {
                    let (pipeline, bound) = (&self.programs.kick_and_count, &bindings.kick_and_count[half]);
                    let parameters = bytemuck::bytes_of(&stage(Stride(0.0))).to_vec();
                    dispatcher.dispatch(Phase::Audit, pipeline, bound, &parameters, cut.row_groups());
                }
            }
        }
    }

    /// The parameters of a force evaluation.
    fn pull(&self, columns: &Columns, kick: Kick, slot: usize) -> Vec<u8> {
        let cut = columns.cut;
        let over = cut.over(slot, self.contract.impulse_bits(cut.sources));
        if self.contract.is_single() {
            let Kick32 { factor, softening2 } = Kick32::of(kick);
            return bytemuck::bytes_of(&Pull32 { factor, softening2, over }).to_vec();
        }
        bytemuck::bytes_of(&Pull64 { factor: kick.factor, softening2: kick.softening2, over }).to_vec()
    }

    /// The parameters of the potential energy.
    pub(super) fn binding(&self, columns: &Columns, law: &Law) -> Vec<u8> {
        let over = columns.cut.over(0, 0);
        if self.contract.is_single() {
            let factor = portable32::energy_factor_in_spans(law.energy_factor);
            let softening2 = portable32::in_spans2(law.softening2);
            return bytemuck::bytes_of(&Pull32 { factor, softening2, over }).to_vec();
        }
        bytemuck::bytes_of(&Pull64 { factor: law.energy_factor, softening2: law.softening2, over }).to_vec()
    }

    /// Waits for a submission, and takes its records and times.
    fn read(&mut self, done: InFlight) -> Result<Vec<StepRecord>, GpuError> {
        let watch = Stopwatch::start();
        self.device.wait_for(done.submission)?;
        self.waited += watch.seconds();
        let reader = &self.readers[done.half];
        let buffers = 1 + usize::from(reader.clock.is_some());
        // A range that is not mapped must not be touched: wgpu would panic.
        if done.mapped.try_iter().filter(|mapped| *mapped).count() < buffers {
            self.device.check()?;
            let message = "the records of a submission could not be read".to_owned();
            return Err(GpuError::Driver { device: self.device.facts().name.clone(), message });
        }
        let bytes = done.steps as u64 * Layout::STEP.bytes();
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&reader.records.get_mapped_range(0..bytes));
        reader.records.unmap();
        if let Some(clock) = &reader.clock {
            let stamps = 8 * (1 + done.phases.len() as u64);
            let times: Vec<u64> = bytemuck::pod_collect_to_vec(&clock.read.get_mapped_range(0..stamps));
            clock.read.unmap();
            let period = f64::from(self.device.queue().get_timestamp_period()) * 1e-9;
            account(&mut self.phases, &done.phases, &times, period);
        }
        Ok(words.chunks_exact(Layout::STEP.words()).map(StepRecord::of).collect())
    }
}

/// Books the time from one stamp to the next.
fn account(phases: &mut Phases, dispatched: &[Phase], stamps: &[u64], period: f64) {
    for (phase, pair) in dispatched.iter().zip(stamps.windows(2)) {
        phases.add(*phase, pair[1].saturating_sub(pair[0]) as f64 * period);
    }
}
