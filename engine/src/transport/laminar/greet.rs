//! Begins, answers, repeats and ends handshakes, and says to each peer from time to time that we are there.
//!
//! What a peer's initiation makes is kept beside the session in use until a datagram was opened under it: an initiation can be
//! captured and sent again, a datagram under its keys cannot be made. If two peers begin at once, the one with the lower key goes
//! first, for the first few attempts.

use std::net::SocketAddr;

use super::{
    gate::Gate,
    notice::Notice,
    peers::{Live, Peer, Pending},
};
use crate::{
    security::{
        cookie,
        frame::{CHALLENGE_BYTES, INITIATION_BYTES, REFUSAL_BYTES, RESPONSE_BYTES, SessionId},
        handshake::{self, Asked, Hello, Initiation, Refusal},
    },
    wire::{NodeId, Time},
};

/// Attempts in which the lower key goes first. Later ones give way, in case only the peer's can get through.
const PRECEDENCE: u32 = 4;
/// A session that the peer began and that is no older goes before the answer to ours [ns].
const FRESH: u64 = 1_000_000_000;
/// Attempts after which the owner hears that nobody answers, each time.
const ATTEMPTS_TOLD: u32 = 6;
/// How often the new keys are used for nothing, until the peer has used them too [ns].
const CONFIRM_EVERY: u64 = 250_000_000;
const SECOND: u64 = 1_000_000_000;

impl Gate {
    /// What we say of ourselves now.
    fn hello(&self, now: Time) -> Hello {
        let mut hello = self.config.hello.clone();
        if hello.unix_seconds > 0 {
            hello.unix_seconds += now.0 / SECOND;
        }
        hello
    }

    /// What this node says of itself from now on: its place in a run, what its application adds. Its incarnation stays.
    ///
    /// # Panics
    /// If what the application adds is too long for a handshake.
    pub fn say(&mut self, node: Option<NodeId>, application: &[u8]) {
        self.config.hello.node = node;
        self.config.hello.application = application.to_vec();
        assert!(self.config.hello.fits(), "{} bytes of an application", application.len());
    }

    // ------------------------------------------------------------------------------------------------ of others

    pub(super) fn take_initiation(&mut self, now: Time, from: SocketAddr, theirs: SessionId, datagram: &[u8]) {
        let initiation: &[u8; INITIATION_BYTES] = datagram.try_into().expect("the frame was measured");
        if !self.identity.is_for_us(initiation) {
            self.counters.drops.not_for_us += 1;
            let own = self.identity.public();
            return self.tell(now, Notice::WrongKey { from, own });
        }
        if !self.affords_handshake(now, from, theirs, datagram) {
            return;
        }
        match Asked::read(&self.identity, datagram) {
            Err(_) => self.counters.drops.bad_handshake += 1,
            Ok(asked) => self.consider(now, from, theirs, asked, datagram),
        }
    }

    /// Whether there is time for a handshake with this address. If there are too many, it is asked to show a cookie.
    fn affords_handshake(&mut self, now: Time, from: SocketAddr, theirs: SessionId, datagram: &[u8]) -> bool {
        let known = self.peers.of_address(from).and_then(|slot| self.peers.get_mut(slot));
        if known.is_some_and(|peer| peer.handshakes.take(now)) || self.handshakes.take(now) {
            return true;
        }
        if self.jar.accepts(now, from, datagram) {
            let takes = self.proved.take(now);
            self.counters.drops.stranger_rate += u64::from(!takes);
            return takes;
        }
        self.counters.drops.challenged += 1;
        if self.answers.take(now) {
            let mut out = [0; CHALLENGE_BYTES];
            let cookie = self.jar.cookie(now, from);
            cookie::challenge(&self.identity.public(), theirs, datagram, &cookie, &mut out);
            self.counters.challenges += 1;
            self.push_answer(from, &out);
        }
        false
    }

    /// Someone has proved a key.
    fn consider(&mut self, now: Time, from: SocketAddr, theirs: SessionId, asked: Asked, datagram: &[u8]) {
        let Some(slot) = self.peers.of_key(&asked.key) else {
            self.counters.drops.untrusted += 1;
            self.refuse(now, from, theirs, Refusal::Untrusted, datagram);
            let notice = Notice::Untrusted { from, key: asked.key, program: asked.hello.program };
            return self.tell(now, notice);
        };
        let own = self.identity.public();
        let peer = self.peers.get_mut(slot).expect("a key has a peer");
        let (newest, found) = (peer.newest.0, asked.hello.incarnation);
        if found < newest {
            let peer = peer.node;
            self.counters.drops.old_incarnation += 1;
            self.refuse(now, from, theirs, Refusal::OldIncarnation, datagram);
            return self.tell(now, Notice::OldIncarnation { peer, address: from, found, newest });
        }
        if (found, asked.attempt) <= peer.newest {
            self.counters.drops.stale_handshake += 1;
            return;
        }
        let ours_goes_first = own < peer.key && peer.pending.as_ref().is_some_and(|ours| ours.tries <= PRECEDENCE);
        // A new life of a peer knows nothing of ours: nobody would answer it.
        if ours_goes_first && (found == newest || peer.current.is_none()) {
            self.counters.drops.simultaneous += 1;
            return;
        }
        peer.newest = (found, asked.attempt);
        self.answer(now, from, slot, asked);
    }

    fn answer(&mut self, now: Time, from: SocketAddr, slot: u32, asked: Asked) {
        let mut out = [0; RESPONSE_BYTES];
        let own_hello = self.hello(now);
        let local = self.peers.name_session(slot);
        let (hello, incarnation) = (asked.hello.clone(), asked.hello.incarnation);
        let session = asked.answer(local, &own_hello, &mut out);
        let live = Live { session, incarnation, hello, since: now, heard: false, confirm_at: now };
        let peer = self.peers.get_mut(slot).expect("it has a slot");
        if let Some(unused) = peer.next.replace(live) {
            self.peers.forget_session(unused.session.local());
        }
        self.counters.handshakes_answered += 1;
        self.push_answer(from, &out);
    }

    fn refuse(&mut self, now: Time, from: SocketAddr, theirs: SessionId, reason: Refusal, datagram: &[u8]) {
        if self.answers.take(now) {
            let mut out = [0; REFUSAL_BYTES];
            handshake::refuse(&self.identity.public(), theirs, reason, datagram, &mut out);
            self.push_answer(from, &out);
        }
    }

    pub(super) fn take_foreign(
        &mut self,
        now: Time,
        from: SocketAddr,
        version: u16,
        theirs: SessionId,
        datagram: &[u8],
    ) {
        self.counters.drops.other_version += 1;
        self.refuse(now, from, theirs, Refusal::Version, datagram);
        self.tell(now, Notice::OtherVersion { from, version });
    }

    /// The peer has used the keys that its initiation made: they are the keys from now on.
    pub(super) fn promote(&mut self, now: Time, slot: u32, from: SocketAddr) {
        let peer = self.peers.get_mut(slot).expect("it has just sent something");
        let mut live = peer.next.take().expect("something was opened under it");
        live.since = now;
        let ours = peer.pending.take();
        if let Some(ours) = ours {
            self.peers.forget_session(ours.initiation.local());
        }
        self.install(now, slot, from, live);
    }

    // ------------------------------------------------------------------------------------------------ of our own

    pub(super) fn take_response(&mut self, now: Time, from: SocketAddr, to: SessionId, datagram: &[u8]) {
        let slot = self.peers.of_session(to);
        let Some((slot, peer)) = slot.and_then(|slot| Some((slot, self.peers.get_mut(slot)?))) else {
            self.counters.drops.unexpected += 1;
            return;
        };
        let yields = is_crossed(now, peer) && peer.key < self.identity.public();
        let expected = peer.pending.as_mut().filter(|pending| pending.initiation.local() == to && !yields);
        let Some(pending) = expected else {
            self.counters.drops.unexpected += 1;
            return;
        };
        if !peer.handshakes.take(now) {
            self.counters.drops.peer_rate += 1;
            return;
        }
        let Ok((session, hello)) = pending.initiation.finish(datagram) else {
            self.counters.drops.bad_handshake += 1;
            return;
        };
        let sent = pending.sent;
        peer.pending = None;
        let (found, newest) = (hello.incarnation, peer.newest.0);
        if found < newest {
            let peer = peer.node;
            self.counters.drops.old_incarnation += 1;
            self.peers.forget_session(to);
            return self.tell(now, Notice::OldIncarnation { peer, address: from, found, newest });
        }
        if found > newest {
            peer.newest = (found, 0);
        }
        peer.round_trip = Some(now.since(sent));
        let live = Live { session, incarnation: found, hello, since: now, heard: false, confirm_at: now };
        self.install(now, slot, from, live);
    }

    pub(super) fn take_challenge(&mut self, now: Time, to: SessionId, datagram: &[u8]) {
        let peer = self.peers.of_session(to).and_then(|slot| self.peers.get_mut(slot));
        let pending = peer.and_then(|peer| {
            let pending = peer.pending.as_mut().filter(|pending| pending.initiation.local() == to)?;
            let cookie = cookie::read_challenge(&peer.key, pending.initiation.datagram(), datagram)?;
            Some((pending, &mut peer.cookie, cookie))
        });
        let Some((pending, kept, cookie)) = pending else {
            self.counters.drops.unexpected += 1;
            return;
        };
        // The next attempt goes at once, but a peer that challenges every one is not asked more often than one that is silent.
        if *kept != Some(cookie) {
            pending.next = now;
        }
        *kept = Some(cookie);
    }

    pub(super) fn take_refusal(&mut self, now: Time, to: SessionId, (reason, version): (u8, u16), datagram: &[u8]) {
        let own = self.identity.public();
        let retry_max = self.config.retry_max;
        let peer = self.peers.of_session(to).and_then(|slot| self.peers.get_mut(slot));
        let notice = peer.and_then(|peer| {
            let pending = peer.pending.as_mut().filter(|pending| pending.initiation.local() == to)?;
            let reason = Refusal::of_number(reason).filter(|_| pending.initiation.is_refused_by(datagram))?;
            // A hint, not a proof: it makes us slower, never silent.
            pending.next = now.plus(retry_max);
            let address = peer.address?;
            Some(Notice::RefusedBy { peer: peer.node, address, reason, version, own })
        });
        match notice {
            None => self.counters.drops.unexpected += 1,
            Some(notice) => self.tell(now, notice),
        }
    }

    // ------------------------------------------------------------------------------------------------- sessions

    /// Makes a session the one that is sealed under, and tells the peer so by using it.
    fn install(&mut self, now: Time, slot: u32, from: SocketAddr, live: Live) {
        let (incarnation, hello) = (live.incarnation, live.hello.clone());
        let peer = self.peers.get_mut(slot).expect("it has a slot");
        let (node, key) = (peer.node, peer.key);
        let replaced = peer.current.replace(live);
        let restarted = replaced.as_ref().is_some_and(|old| old.incarnation != incarnation);
        let same_life = replaced.is_some() && !restarted;
        let older = peer.previous.take();
        // What an older life has under way is not opened any more, and nothing is sent to it.
        let dropped = if restarted { replaced } else { std::mem::replace(&mut peer.previous, replaced) };
        if restarted {
            peer.outbox.clear();
        }
        peer.unanswered_since = Some(now);
        for old in [older, dropped].into_iter().flatten() {
            self.peers.forget_session(old.session.local());
        }
        self.counters.handshakes_done += 1;
        self.counters.rekeys += u64::from(same_life);
        self.peers.settle(slot, from);
        if !same_life {
            self.tell(now, Notice::Connected { peer: node, key, address: from, incarnation, restarted });
            self.compare(now, node, &hello);
        }
        self.confirm(now, slot);
    }

    /// What a peer says of itself against what we know.
    fn compare(&mut self, now: Time, peer: NodeId, hello: &Hello) {
        if let Some(itself) = hello.node.filter(|itself| *itself != peer && peer < super::TEMPORARY_FIRST) {
            self.tell(now, Notice::Named { peer, itself });
        }
        let own = self.hello(now).unix_seconds;
        let ahead = i128::from(hello.unix_seconds) - i128::from(own);
        if own > 0 && hello.unix_seconds > 0 && ahead.unsigned_abs() > u128::from(self.config.clock_tolerance) {
            let ahead = ahead.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
            self.tell(now, Notice::ClockOff { peer, ahead });
        }
    }

    /// Uses the keys for nothing.
    fn confirm(&mut self, now: Time, slot: u32) {
        self.seal_for(now, slot, &[]);
        if let Some(live) = self.peers.get_mut(slot).and_then(|peer| peer.current.as_mut()) {
            live.confirm_at = now.plus(CONFIRM_EVERY);
        }
    }

    /// Does what is due: handshakes and signs of life.
    pub fn tend(&mut self, now: Time) {
        for slot in self.peers.slots() {
            let Some(peer) = self.peers.get(slot) else { continue };
            let due = self.handshake_is_due(now, peer);
            let owes = peer.owing_since.is_some_and(|since| now.since(since) >= self.config.keepalive);
            let unheard = peer.current.as_ref().is_some_and(|live| !live.heard && now >= live.confirm_at);
            let abandoned = peer.pending.is_some() && !self.wants_handshake(now, peer);
            if abandoned {
                self.abandon(slot);
            }
            if due {
                self.begin(now, slot);
            }
            if owes || unheard {
                self.confirm(now, slot);
            }
        }
    }

    fn handshake_is_due(&self, now: Time, peer: &Peer) -> bool {
        let waited = match &peer.pending {
            Some(pending) => now >= pending.next,
            None => !is_crossed(now, peer),
        };
        waited && self.wants_handshake(now, peer)
    }

    /// Whether there should be other keys than there are.
    fn wants_handshake(&self, now: Time, peer: &Peer) -> bool {
        let config = &self.config;
        let silent = peer.unanswered_since.is_some_and(|since| now.since(since) >= config.silence);
        match &peer.current {
            _ if peer.address.is_none() => false,
            None => peer.home.is_some(),
            Some(live) => {
                // Who began the last handshake begins the next, unless it does not.
                let patience = if live.session.is_initiator() { 4 } else { 5 };
                let worn = live.session.sealed() / patience >= config.rekey_after / 4;
                worn || now.since(live.since) / patience >= config.rekey_age / 4 || silent
            }
        }
    }

    fn abandon(&mut self, slot: u32) {
        let pending = self.peers.get_mut(slot).and_then(|peer| peer.pending.take());
        if let Some(pending) = pending {
            self.peers.forget_session(pending.initiation.local());
        }
    }

    fn begin(&mut self, now: Time, slot: u32) {
        let tries = self.peers.get(slot).and_then(|peer| peer.pending.as_ref()).map_or(1, |pending| pending.tries + 1);
        self.abandon(slot);
        let hello = self.hello(now);
        let local = self.peers.name_session(slot);
        self.attempts += 1;
        let peer = self.peers.get_mut(slot).expect("its handshake is due");
        let address = address_to_try(peer, tries);
        let names = (local, self.attempts);
        let initiation =
            Initiation::new(&self.identity, peer.key, self.config.suite, names, &hello, peer.cookie.as_ref());
        let wait = (self.config.retry << (tries - 1).min(16)).min(self.config.retry_max);
        let datagram: [u8; INITIATION_BYTES] = initiation.datagram().try_into().expect("as long as every initiation");
        peer.pending = Some(Pending { initiation, sent: now, next: now.plus(wait), tries });
        let (node, key) = (peer.node, peer.key);
        self.counters.handshakes_begun += 1;
        self.push_initiation(address, &datagram);
        if tries.is_multiple_of(ATTEMPTS_TOLD) {
            self.tell(now, Notice::Unanswered { peer: node, key, address, attempts: tries });
        }
    }
}

/// Whether the peer has just begun a handshake of its own.
fn is_crossed(now: Time, peer: &Peer) -> bool {
    peer.next.as_ref().is_some_and(|next| now.since(next.since) < FRESH)
}

/// Where a peer was last heard; if nobody answers there, every other attempt goes where it should be.
fn address_to_try(peer: &Peer, tries: u32) -> SocketAddr {
    let last = peer.address.expect("a handshake is due only with an address");
    if tries.is_multiple_of(2) { peer.home.unwrap_or(last) } else { last }
}
