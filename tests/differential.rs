//! A device against the CPU on random sets: positions, momenta and masses up to the edges of every range, bodies at one place, kicks
//! and drifts that are far too long, few rows and many. Same verdict, same book, same state, same count, or it fails.
//!
//! `EMMY_FUZZ_CASES` says how many sets of each contract; `EMMY_DEVICE` names another device than lavapipe.

use emmy::{
    advance::{Burst, Impulse, Plan, propose, propose_on_device},
    backend::{
        cpu::Cpu,
        gpu::{Gpu, adapter::Adapters, device::Device},
        isa::Isa,
    },
    commit,
    contract::Contract,
    force::Law,
    integrator::kernel::Stride,
    ledger::Ledger,
    particle::{Mass, Momentum, Particle, ParticleId, Position, Radius, WorkingSet},
    quanta::{Quanta, Quantum, exp2},
};

const CASES: u64 = 200;

/// Marsaglia's xorshift with the shifts 13, 7, 17.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.bits() >> 11) % n
    }

    fn one_of<T: Copy, const N: usize>(&mut self, all: [T; N]) -> T {
        all[self.below(N as u64) as usize]
    }

    /// Within ±2^bits: of every size, and now and then 0 or an edge.
    fn integer(&mut self, bits: u32) -> i64 {
        match self.below(12) {
            0 => 0,
            1 => (1 << bits) - 1,
            2 => -(1 << bits),
            _ => {
                let bits = 1 + self.below(u64::from(bits)) as u32;
                (self.bits() as i64) >> (63 - bits)
            }
        }
    }

    /// A float of either sign whose size is 2^`low` to 2^`high`.
    fn float(&mut self, low: i32, high: i32) -> f64 {
        let exponent = low + self.below((high - low) as u64) as i32;
        let sign = if self.below(2) == 0 { 1.0 } else { -1.0 };
        sign * exp2(exponent) * (1.0 + (self.bits() >> 12) as f64 * exp2(-52))
    }
}

/// A set, a law and a plan.
struct Case {
    set: WorkingSet,
    law: Law,
    plan: Plan,
    quanta: Quanta,
    steps: u64,
}

impl Case {
    /// A case, or none if the numbers are none that a scenario would be let through with.
    fn draw(random: &mut Random, contract: Contract) -> Option<Self> {
        let sources = random.one_of([0, 1, 2, 7, 8, 9, 127, 128, 129, 300, 1500]);
        let tests = random.one_of([0, 1, 8, 9, 130]);
        let x_bits = contract.position_bits() - random.one_of([0, 1, 3, 10, 30]);
        let p_bits = random.one_of([62, 61, 50, 31, 5]);
        let set = particles(random, sources, tests, [x_bits, p_bits]);
        let masses = set.real_rows().map(|row| set.mass[row]);
        let [least, most] = masses.fold([f64::INFINITY, 1.0], |[a, b], mass| [mass.min(a), mass.max(b)]);
        let law = law(random, contract, x_bits, most, sources);
        if sources + tests == 0 || !law.fits([1.0], [least, most]) || law.energy_factor == 0.0 {
            return None;
        }
        let stride = match random.below(12) {
            0 => 0.0,
            1 => random.float(-200, 200),
            2 => random.float(-1070, 1000),
            _ => {
                let typical = x_bits as i32 - p_bits as i32;
                random.float(typical - 25, typical + 6)
            }
        };
        let bounded = law.impulse_bound(most, 1.0) < exp2(contract.impulse_bits(sources) as i32 - 1);
        let stages = 1 + random.below(2) as usize;
        let plan = Plan {
            contract,
            kicks: vec![law.kick(1.0); stages + 1],
            strides: vec![Stride(stride); stages],
            guarded: !bounded,
            angular: random.below(4) != 0,
        };
        let energy = Quantum(random.below(160) as i32 - 140);
        let quanta = Quanta { position: Quantum(-40), momentum: Quantum(-30), mass: Quantum(-16), energy };
        Some(Self { set, law, plan, quanta, steps: 1 + random.below(4) })
    }
}

fn particles(random: &mut Random, sources: usize, tests: usize, [x_bits, p_bits]: [u32; 2]) -> WorkingSet {
    let m_bits = random.one_of([52, 40, 20, 3]);
    let crowded = random.below(4) == 0;
    let mut particle = |k: usize| Particle {
        id: ParticleId(random.bits()),
        position: Position(std::array::from_fn(|_| {
            if crowded && k.is_multiple_of(3) { 5 } else { random.integer(x_bits) }
        })),
        momentum: Momentum(std::array::from_fn(|_| random.integer(p_bits))),
        mass: Mass {
            quanta: 1 + (random.integer(m_bits).unsigned_abs() as i64).min((1 << 52) - 1),
            pulls: k < sources,
        },
        radius: Radius(0),
    };
    WorkingSet::of(&(0..sources + tests).map(&mut particle).collect::<Vec<_>>())
}

/// A law under which impulses are mostly in range, and sometimes not.
fn law(random: &mut Random, contract: Contract, x_bits: u32, most: f64, sources: usize) -> Law {
    let softening2 =
        if random.below(2) == 0 { 0.0 } else { random.float(0, 2 * contract.position_bits() as i32).abs() };
    let near2 = exp2(2 * (x_bits as i32 - 2)) + softening2;
    let range = contract.impulse_bits(sources.max(1)) as i32;
    let (impulse, energy) = match softening2 == 0.0 {
        true => (random.float(-30, 53), random.float(0, 30)),
        false => (random.float(-10, range + 3), random.float(0, 86)),
    };
    let product = most * most;
    Law {
        contract,
        factor: impulse * near2 / product,
        softening2,
        energy_factor: energy.abs() * near2.sqrt() / product,
    }
}

fn device(contract: Contract) -> Gpu {
    let name = std::env::var("EMMY_DEVICE").unwrap_or_else(|_| "llvmpipe".to_owned());
    let adapters = Adapters::find();
    let opened = adapters.choose(Some(&name)).and_then(Device::open).and_then(|device| Gpu::new(device, contract));
    opened.unwrap_or_else(|error| panic!("{error}: {}", error.remedy()))
}

/// Both ways; whether the steps were good.
fn compare(case: &Case, gpu: &mut Gpu, cpu: &Cpu, what: &str) -> bool {
    let Case { set, law, plan, quanta, steps } = case;
    let due = commit::count(cpu, set, plan.angular);
    let (mut here, mut there) = (set.clone(), set.clone());
    gpu.unload();
    let on_cpu = propose(cpu, &mut here, &mut Impulse::default(), plan, &due, *steps);
    let on_device = propose_on_device(gpu, cpu, &mut there, plan, &due, *steps);
    let on_device = on_device.unwrap_or_else(|fault| panic!("{what}: the CPU says {:?}, and {fault}", on_cpu.trouble));
    let verdict = |burst: &Burst| (burst.good, burst.trouble.clone());
    assert_eq!(verdict(&on_device), verdict(&on_cpu), "{what}");
    if on_cpu.trouble.is_some() {
        return false;
    }
    gpu.download(&mut there).expect("the device works");
    assert_eq!(on_device.book, on_cpu.book, "{what}");
    assert!(there.position == here.position && there.momentum == here.momentum, "{what}: the state differs");
    let survey = gpu.survey(quanta, Some(law)).expect("the device works");
    let book = Ledger::default();
    assert_eq!(commit::recount_of(&survey, &book, 0), commit::recount(cpu, &here, law, quanta, &book, 0), "{what}");
    assert_eq!(commit::count_of(&survey, plan.angular), commit::count(cpu, &here, plan.angular), "{what}");
    true
}

#[test]
fn a_device_and_the_cpu_agree_on_random_sets_up_to_the_edges_of_every_range() {
    let cases = std::env::var("EMMY_FUZZ_CASES").map_or(CASES, |text| text.parse().expect("a number of cases"));
    let cpu = Cpu::new(Isa::widest(), 2).expect("threads start");
    for contract in Contract::ALL.into_iter().filter(|contract| contract.is_portable()) {
        let (mut gpu, mut random) = (device(contract), Random(88_172_645_463_325_252));
        let (mut good, mut bad) = (0, 0);
        for number in 0..cases {
            let Some(case) = Case::draw(&mut random, contract) else { continue };
            let what = format!(
                "{contract}, case {number}: {} + {} particles, softening² {:e}, factor {:e}, stride {:e}, guarded {}",
                case.set.sources,
                case.set.tests,
                case.law.softening2,
                case.law.factor,
                case.plan.strides[0].0,
                case.plan.guarded
            );
            let held = compare(&case, &mut gpu, &cpu, &what);
            (good, bad) = (good + u64::from(held), bad + u64::from(!held));
        }
        println!("{contract}: {good} good, {bad} bad");
        assert!(good > cases / 10 && bad > cases / 10, "{contract}: {good} good and {bad} bad cases prove little");
    }
}
