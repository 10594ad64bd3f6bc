//! Where the columns live and who computes on them. `cpu` works on tiles and blocks, `few` on a
//! handful of bodies, `isa` chooses the instruction set for both.

pub mod cpu;
pub mod few;
pub mod isa;
