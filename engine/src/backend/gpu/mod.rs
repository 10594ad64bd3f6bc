//! The way to a GPU: which there are, how one is opened, and whether it computes what the CPU computes.
//!
//! From low to high: [`error`] says what can go wrong and what to do about it; [`adapter`] lists what is there and chooses;
//! [`device`] opens one and keeps its first fault; [`strict`] turns WGSL into a module whose arithmetic the driver may not
//! rearrange; [`compute`] runs such a module over buffers; [`selftest`] compares a device with the CPU, bit by bit. `door` is the
//! one file with unsafe code. No window and no display is ever asked for.
//!
//! Shaders stand in `shaders/` at the root of the repository. The first line of each names its twin on the CPU, and
//! `tests/gpu.rs` parses every one of them, without a GPU.

pub mod adapter;
pub mod compute;
pub mod device;
mod door;
pub mod error;
pub mod selftest;
pub mod strict;
