//! Emmy: particle simulation in which every step is a transaction.
//!
//! A step is proposed, audited against what physics says must not change, then committed or undone. Mass and linear momentum
//! are integers and are conserved to the last bit; energy and angular momentum are booked in a ledger; the same scenario gives
//! the same bits on any number of threads and on any instruction set.
//!
//! From low to high: [`quanta`], [`contract`], [`math`], [`units`], [`particle`], [`step`], [`ledger`], [`metrics`] and [`text`] say what things are;
//! [`scenario`] what a run means; [`force`], [`integrator`] and [`backend`] how particles move; [`audit`], [`residence`], [`advance`],
//! [`commit`] and [`snapshot`] whether a step counts and what is kept of it; [`wire`], [`security`], [`transport`], [`exchange`] and [`partition`] how
//! several nodes do it together; [`plugins`], [`node`], [`spawn`], [`run`] and [`cluster`] put it together; [`cli`] is the program. `tests/tidy.rs` holds these layers.
//!
//! To use the engine as a library, make a [`node::Node`]; to add physics of your own, see `engine/examples/drag.rs`.

pub mod advance;
pub mod audit;
pub mod audit_log;
pub mod backend;
pub mod cli;
pub mod cluster;
pub mod commit;
pub mod contract;
pub mod coordinator;
pub mod exchange;
pub mod force;
pub mod integrator;
pub mod ledger;
pub mod math;
pub mod member;
pub mod metrics;
pub mod node;
pub mod particle;
pub mod partition;
pub mod plugins;
pub mod quanta;
pub mod remote;
pub mod residence;
pub mod run;
pub mod scenario;
pub mod security;
pub mod server;
pub mod snapshot;
pub mod spawn;
pub mod step;
pub mod text;
pub mod transport;
pub mod units;
pub mod wire;
