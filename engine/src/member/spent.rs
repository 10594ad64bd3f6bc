//! Where a member's time goes: to the step protocol, and to waiting, for whom. Nothing decides by it.

use std::fmt;

use crate::metrics::{Phases, Stopwatch};

/// What an idle member waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// Halos, impulses or particles of others.
    Blocks,
    /// The decision on what it has proposed.
    Decision,
    /// Leave to take more steps.
    Client,
}

/// An account of time [s].
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Computing, exchange included.
    pub phases: Phases,
    /// In the step protocol and its letters.
    pub protocol: f64,
    /// In the transport: sealing, opening, sockets.
    pub transport: f64,
    /// Idle, because blocks of others had not come.
    pub blocks: f64,
    /// Idle, because nothing had been decided about the last steps.
    pub decisions: f64,
    /// Idle, because the client allowed no more steps.
    pub client: f64,
    /// Votes of this member, and how long each waited for its decision, in all.
    pub votes: u64,
    /// The sum of these times, most of which the next step hides.
    pub voted: f64,
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phases, protocol, transport, blocks, decisions, client, votes, voted } = self;
        let Phases { force, motion, audit, transfer } = phases;
        write!(
            f,
            "force {force:.3} s, motion {motion:.3} s, audit {audit:.3} s, exchange {transfer:.3} s, protocol {protocol:.3} s, \
             transport {transport:.3} s; idle for blocks {blocks:.3} s, for decisions {decisions:.3} s, for the client {client:.3} s; {votes} votes, \
             decided after {:.3} ms on average",
            voted / (*votes).max(1) as f64 * 1e3
        )
    }
}

/// Watches while nothing is done.
#[derive(Debug, Default)]
pub(super) struct Idleness {
    since: Option<(Stopwatch, Awaited)>,
    vote: Option<(u64, Stopwatch)>,
}

impl Idleness {
    /// Nothing can be done from here on.
    pub(super) fn begin(&mut self, awaited: Awaited) {
        self.since = Some((Stopwatch::start(), awaited));
    }

    /// The member looks again.
    pub(super) fn end(&mut self, spent: &mut Spent) {
        let Some((watch, awaited)) = self.since.take() else { return };
        let idle = match awaited {
            Awaited::Blocks => &mut spent.blocks,
            Awaited::Decision => &mut spent.decisions,
            Awaited::Client => &mut spent.client,
        };
        *idle += watch.seconds();
    }

    /// A step was voted on.
    pub(super) fn voted(&mut self, step: u64) {
        self.vote.get_or_insert((step, Stopwatch::start()));
    }

    /// A step was decided.
    pub(super) fn decided(&mut self, step: u64, spent: &mut Spent) {
        if let Some((_, watch)) = self.vote.take_if(|(voted, _)| *voted <= step) {
            (spent.votes, spent.voted) = (spent.votes + 1, spent.voted + watch.seconds());
        }
    }
}
