//! What a run means: a RON file, read, checked and turned into particles.
//!
//! `format` is the file as data, `read` turns text into it (with places for every fault), `check` finds what cannot be right,
//! `facts` is what follows from it by arithmetic, `generate` makes the particles. `place` finds values in the text of a file
//! and changes them. Nothing here knows quanta, worlds or integrators: positions are `f64` in scenario units.

pub mod check;
pub mod facts;
pub mod format;
pub mod generate;
mod nearest;
pub mod place;
pub mod read;
