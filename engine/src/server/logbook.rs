//! What a member of a run does with its audit log: writes down what happens, tells the other members how the log ends, hears the same of
//! theirs.

use super::{
    PATIENCE, Stack,
    journal::{Journal, Stamp},
    message::Kind,
    sleep,
};
use crate::{
    audit_log::{AuditLogError, Head},
    coordinator::AuditEvent,
    member::Member,
    snapshot::root::StateRoot,
    transport::{Event, Transport},
    wire::{NodeId, Time, decode, encode},
};

/// A moment before a member leaves: first the client hears that it was heard, then the others hear how the audit log ends [ns].
pub(super) const FAREWELL_NS: u64 = 100_000_000;
/// The end of an audit log is no longer than this as a message [bytes].
const HEAD_BYTES_MAX: usize = 1 << 10;

/// Now.
pub(super) fn stamp(now: Time) -> Stamp {
    Stamp { now, unix_us: jiff::Timestamp::now().as_microsecond() }
}

/// Writes down what happened, and tells the others how the log ends when that is due. Whether there is room for more.
pub(super) fn write_down(journal: &mut Journal, member: &mut Member<Stack>, events: Vec<AuditEvent>, at: Time) -> bool {
    let stamp = stamp(at);
    let recorded = events.into_iter().map(|event| journal.record(stamp, event));
    let errors: Vec<AuditLogError> = recorded.filter_map(Result::err).collect();
    let errors = errors.into_iter().chain(journal.tend(stamp).err());
    let full = errors.inspect(|error| tracing::error!("the audit log: {error}"));
    let full = full.filter(|error| matches!(error, AuditLogError::Full { .. })).count() > 0;
    tell_head(journal, member);
    !full
}

/// Tells the other members how the log ends, if that is due.
fn tell_head<T: Transport>(journal: &mut Journal, member: &mut Member<T>) {
    let Some(head) = journal.take_head() else { return };
    let me = member.me();
    let others: Vec<NodeId> = member.machine().config().iter().flat_map(|config| config.nodes()).collect();
    for node in others.into_iter().filter(|node| *node != me) {
        member.post_message(node, Kind::Head as u16, encode(&head));
    }
}

/// Another node says how its log ends: it has proved who it is, and the members have agreed on its life.
pub(super) fn hear_head<T: Transport>(journal: &mut Journal, member: &Member<T>, from: NodeId, bytes: &[u8]) {
    let Some(life) = member.machine().config().and_then(|config| config.incarnation(from)) else {
        tracing::debug!("{from} is no member, and says how its audit log ends");
        return;
    };
    let head: Result<Head, String> = decode(bytes, "end of a log", HEAD_BYTES_MAX).map_err(|error| error.to_string());
    if let Err(why) = head.and_then(|head| journal.hear(from, life.0, head)) {
        tracing::warn!("{from} says how its audit log ends, and it does not: {why}");
    }
}

/// Writes the last lines; those who leave together tell each other how their logs end. Nothing else is listened to any more.
pub(super) fn close_journal(
    mut journal: Journal,
    member: &mut Member<Stack>,
    ended: &str,
    now: impl Fn() -> Time,
) -> Result<(), AuditLogError> {
    let head = member.machine().head();
    let closed = journal.close(stamp(now()), head.step, StateRoot(head.root), ended);
    tell_head(&mut journal, member);
    let since = now();
    while now().since(since) < FAREWELL_NS {
        let at = now();
        while let Some(event) = member.transport_mut().poll(at) {
            if let Event::Received { from, tag, bytes, .. } = event
                && Kind::of(tag.kind) == Some(Kind::Head)
            {
                hear_head(&mut journal, member, from, &bytes);
            }
        }
        sleep(member.transport_mut(), at, PATIENCE);
    }
    closed.and_then(|()| journal.finish(stamp(now())))
}
