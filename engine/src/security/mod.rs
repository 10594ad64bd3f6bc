//! Who a peer is, and that what it says is its own: keys, handshakes, sealed datagrams, and what a stranger may cost.
//!
//! A node has one static key, made once ([`keys`]). Whom it speaks with stands in a file of public keys ([`trust`]); nothing else
//! makes a peer, neither its address nor what it calls itself. Two peers agree on fresh keys by Noise IK ([`handshake`]), then seal
//! every datagram under a counter that never repeats ([`session`]); what was captured and sent again is refused ([`replay`]). What
//! strangers may cost is counted out by [`bucket`], and made dearer by [`cookie`] when they are many. [`frame`] is the layout.
//!
//! No sockets, no clock: the owner hands in datagrams, addresses and the time. Random numbers are drawn in two places: keys that are
//! made here, and the ephemeral keys of a handshake. Ciphers, curve and handshake are those of snow, hashes those of BLAKE3.

pub mod bucket;
pub mod cookie;
pub mod frame;
pub mod handshake;
pub mod keys;
pub mod replay;
pub mod session;
pub mod trust;
