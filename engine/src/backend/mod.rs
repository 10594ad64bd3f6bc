//! Where the columns live and who computes on them. `cpu` works on tiles and blocks, `few` on a
//! handful of bodies, `isa` chooses the instruction set for both; `gpu` is the way to other processors.

pub mod cpu;
pub mod few;
pub mod gpu;
pub mod isa;
