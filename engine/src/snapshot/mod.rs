//! What is kept of a state: its root, checkpoints, and the files of a run.

pub mod checkpoint;
pub mod folder;
pub mod root;
pub mod validate;
