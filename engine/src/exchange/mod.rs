//! What partitions send each other within a step, and who evaluates what.
//!
//! For each force evaluation a node sends the positions of its particles to the nodes that evaluate pairs with them ([`pairing`]) and
//! gets back one integer impulse for each. A pair of particles is evaluated once, wherever that is; who evaluates it keeps +K and
//! returns −K, so that momentum is conserved whoever did the work. Positions and impulses change smoothly and travel as differences
//! to what both sides predict ([`codec`]); who a particle is and what it weighs travels only after particles changed hands.

pub mod codec;
pub mod field;
pub mod message;
pub mod pairing;

pub use pairing::{Pairing, Segment};
