//! Where the columns live and who computes on them. `cpu` works on the tiles that a `deal` cuts and on blocks, `fast` on the blocks of
//! one contract, `few` on a handful of bodies, `isa` chooses the instruction set for all three; `gpu` is the way to other processors.

pub mod cpu;
pub mod deal;
pub mod fast;
pub mod few;
pub mod gpu;
pub mod isa;

/// Who does the work of a run: always a CPU, and a device where the contract allows one.
#[derive(Debug)]
pub struct Backend {
    /// What every run has: it starts, looks at, and if need be finishes what a device does.
    pub cpu: cpu::Cpu,
    /// A device that holds the particles and moves them.
    pub gpu: Option<gpu::Gpu>,
}

impl From<cpu::Cpu> for Backend {
    fn from(cpu: cpu::Cpu) -> Self {
        Self { cpu, gpu: None }
    }
}
