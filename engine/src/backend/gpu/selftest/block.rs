//! The last part of the self-test: a block of bodies takes two steps on the device and on the CPU.
//!
//! What single operations cannot show is how a driver treats whole shaders. Sources and test particles, with softening and
//! without, and everything that comes back is compared: the state, what was booked, what was counted.

use super::{Difference, Failure, Random};
use crate::{
    backend::{
        cpu::{Bookings, Cpu},
        gpu::{Gpu, Stages, error::GpuError, tally::StepRecord},
        isa::Isa,
    },
    contract::Contract,
    force::Law,
    integrator::kernel::Stride,
    particle::{Mass, Momentum, Packed, Particle, ParticleId, Position, Radius, WorkingSet},
    quanta::{Quanta, Quantum, exp2},
};

const BODIES: u64 = 256;
const SOURCES: u64 = 211;
const STEPS: u64 = 2;
const STRIDE: Stride = Stride(0.3 * (1_u64 << 20) as f64);
/// Only the ratios matter: kinetic energy is to have some bits.
const QUANTA: Quanta =
    Quanta { position: Quantum(-40), momentum: Quantum(-30), mass: Quantum(-16), energy: Quantum(-60) };

/// Compares.
pub(super) fn compare(gpu: &mut Gpu) -> Result<(), GpuError> {
    let set = bodies();
    for softening2 in [0.0, exp2(70)] {
        let law = Law {
            contract: gpu.contract(),
            factor: 0.7 * exp2(76),
            softening2,
            // Potential energies of about 2⁶⁰ quanta.
            energy_factor: 0.7 * exp2(74),
        };
        let (there, here) = (on_device(gpu, &set, &law)?, on_cpu(&set, &law));
        if there != here {
            return Err(refused(gpu, softening2 != 0.0, &there, &here));
        }
    }
    Ok(())
}

/// Rows that are fetched by themselves, in no order; the last is a test particle.
const SOME_ROWS: [u32; 4] = [210, 3, 0, 220];

/// Every number that came out, with its name.
type Outcome = Vec<(String, i128)>;

fn bodies() -> WorkingSet {
    let mut random = Random::default();
    let mut integer = |bits: u32| (random.bits() as i64) >> (64 - bits);
    let particles: Vec<Particle> = (0..BODIES)
        .map(|id| Particle {
            id: ParticleId(id * id),
            position: Position(std::array::from_fn(|_| integer(47))),
            momentum: Momentum(std::array::from_fn(|_| integer(31))),
            mass: Mass { quanta: 1 + integer(17).abs(), pulls: id < SOURCES },
            radius: Radius(0),
        })
        .collect();
    WorkingSet::of(&particles)
}

fn on_device(gpu: &mut Gpu, set: &WorkingSet, law: &Law) -> Result<Outcome, GpuError> {
    let kick = law.kick(1.0);
    let stages = Stages { kicks: &[kick, kick], strides: &[STRIDE], guarded: law.softening2 == 0.0, angular: true };
    gpu.upload(set)?;
    let mut outcome = Outcome::new();
    gpu.propose(&stages, STEPS, |record| {
        tell_record(&mut outcome, record);
        true
    })?;
    let survey = gpu.survey(&QUANTA, Some(law))?;
    outcome.push(("kinetic energy".into(), survey.kinetic));
    outcome.push(("potential energy".into(), -survey.binding));
    let mut moved = set.clone();
    gpu.download(&mut moved)?;
    tell_state(&mut outcome, &moved);
    tell_packed(&mut outcome, &gpu.pack(&SOME_ROWS)?);
    Ok(outcome)
}

fn on_cpu(set: &WorkingSet, law: &Law) -> Outcome {
    let cpu = Cpu::new(Isa::widest(), 1).expect("one thread needs no pool");
    let (kick, mut moved, mut impulse) = (law.kick(1.0), set.clone(), Default::default());
    let evaluate = |moved: &WorkingSet, impulse: &mut [Vec<i64>; 3]| {
        // A refused impulse would leave sums that are of no use: the bodies are far enough apart.
        cpu.impulses(moved, law.contract, kick, law.softening2 == 0.0, impulse).expect("impulses are in range");
    };
    let mut outcome = Outcome::new();
    for _ in 0..STEPS {
        evaluate(&moved, &mut impulse);
        let drifted = cpu.kick_and_drift(&mut moved, &impulse, law.contract, STRIDE, true);
        evaluate(&moved, &mut impulse);
        let (kicked, totals) = cpu.kick_and_count(&mut moved, &impulse, true);
        let bookings = drifted.plus(kicked);
        tell_record(&mut outcome, &StepRecord { bookings, totals, pair_out_of_range: false });
    }
    outcome.push(("kinetic energy".into(), cpu.kinetic_energy(&moved, law.contract, &QUANTA)));
    outcome.push(("potential energy".into(), cpu.potential_energy(&moved, law)));
    tell_state(&mut outcome, &moved);
    tell_packed(&mut outcome, &moved.pack(&SOME_ROWS));
    outcome
}

fn tell_record(outcome: &mut Outcome, record: &StepRecord) {
    let Bookings { sources, tests } = record.bookings;
    let sway = std::array::from_fn(|axis| sources.sway[axis].wrapping_add(tests.sway[axis]));
    let vectors = [
        ("impulse on test particles", tests.impulse),
        ("torque on sources", sources.torque),
        ("torque on test particles", tests.torque),
        ("drift rounding", sway),
        ("momentum", record.totals.momentum),
        ("angular momentum", record.totals.angular_momentum),
    ];
    let components = vectors.into_iter().flat_map(|(name, v)| v.map(|component| (name.to_owned(), component)));
    outcome.extend(components);
    let flags = [("out of range", record.bookings.outside()), ("pair out of range", record.pair_out_of_range)];
    outcome.extend(flags.map(|(name, flag)| (name.to_owned(), i128::from(flag))));
}

fn tell_packed(outcome: &mut Outcome, packed: &[Packed]) {
    let name = |row: &u32| format!("row {row}, packed");
    outcome.extend(SOME_ROWS.iter().zip(packed).flat_map(|(row, state)| state.map(|v| (name(row), i128::from(v)))));
}

fn tell_state(outcome: &mut Outcome, set: &WorkingSet) {
    for row in set.real_rows() {
        let id = set.id[row];
        outcome.extend(set.position_at(row).map(|x| (format!("position of body {id}"), i128::from(x))));
        outcome.extend(set.momentum_at(row).map(|p| (format!("momentum of body {id}"), i128::from(p))));
    }
}

fn refused(gpu: &Gpu, softened: bool, there: &Outcome, here: &Outcome) -> GpuError {
    let mut wrong = there.iter().zip(here).filter(|(got, expected)| got.1 != expected.1);
    let ((name, got), (_, expected)) = wrong.next().expect("something differs");
    let softening = if softened { "with softening" } else { "without softening" };
    let first =
        Difference { input: format!("{name}, {softening}"), got: got.to_string(), expected: expected.to_string() };
    let failure = Failure {
        operation: "two steps of 256 bodies",
        numbers: gpu.contract().name(),
        differ: 1 + wrong.count(),
        inputs: here.len(),
        first,
    };
    GpuError::SelfTest { device: gpu.device().facts().name.clone(), failure: Box::new(failure) }
}

const _: () =
    assert!(Contract::Portable32.position_bits() == 47, "the bodies stand within the range of every contract");
