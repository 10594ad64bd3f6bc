//! What partitions send each other within a step, and who evaluates what.
//!
//! For each force evaluation a node sends the positions of its particles to the nodes that evaluate pairs with them ([`pairing`]) and
//! gets back one integer impulse for each. A pair of particles is evaluated once, wherever that is; who evaluates it keeps +K and
//! returns −K, so that momentum is conserved whoever did the work. Where the network is slower than the pairs, both sides evaluate them
//! and nothing goes back: the kernel is odd, so one finds +K and the other −K. Positions and impulses change smoothly and travel as differences
//! to what both sides predict ([`codec`]), packed where that pays ([`packing`]); who a particle is and what it weighs travels only after particles changed hands.

pub mod codec;
pub mod field;
pub mod message;
pub mod packing;
pub mod pairing;

pub use pairing::{Pairing, Segment, Way};
