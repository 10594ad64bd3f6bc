//! The socket that laminar sees: what it sends is sealed and batched, what it receives was sealed by a peer.
//!
//! One poll takes in a bounded number of datagrams, then says `WouldBlock`: laminar reads until then before it sends. Sealed datagrams
//! leave in runs of equal length, as soon as a run is worth a call, and at the end of the poll; the system never makes us wait: what
//! it does not take stays in the outbox of its peer, and what no longer fits there is lost and counted, as a network would do it.

use std::{io, net::SocketAddr, time::Duration};

use laminar::DatagramSocket;

use super::{
    gate::Gate,
    udp::{SLOTS, Slot, Udp},
};
use crate::{security::frame::DATAGRAM_MAX, wire::Time};

/// The kernel takes at most 65,535 bytes in one segmented send, headers included [bytes].
const SEND_BYTES_MAX: usize = 65_000;

/// What has come and was not looked at yet.
#[derive(Debug)]
struct Inbox {
    slots: Vec<Slot>,
    filled: usize,
    slot: usize,
    offset: usize,
}

impl Inbox {
    fn new() -> Self {
        Self { slots: vec![Slot::new(); SLOTS], filled: 0, slot: 0, offset: 0 }
    }

    fn is_empty(&self) -> bool {
        self.slot == self.filled
    }

    fn fill(&mut self, udp: &mut impl Udp) -> io::Result<()> {
        (self.filled, self.slot, self.offset) = (0, 0, 0);
        self.filled = udp.receive(&mut self.slots)?;
        Ok(())
    }

    /// The next datagram. An empty one is a datagram too.
    fn next(&mut self) -> Option<(&[u8], SocketAddr)> {
        let slot = self.slots[..self.filled].get(self.slot)?;
        let begin = self.offset;
        let end = (begin + slot.stride.max(1)).min(slot.length);
        self.offset = end;
        if end >= slot.length {
            (self.slot, self.offset) = (self.slot + 1, 0);
        }
        Some((&slot.bytes[begin..end], slot.from))
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct SecureBatchSocket<U> {
    udp: U,
    gate: Gate,
    inbox: Inbox,
    now: Time,
    /// Datagrams that this poll may still take in.
    budget: usize,
}

impl<U: Udp> SecureBatchSocket<U> {
    /// Puts a gate before a socket.
    #[must_use]
    pub fn new(udp: U, gate: Gate) -> Self {
        Self { udp, gate, inbox: Inbox::new(), now: Time(0), budget: 0 }
    }

    /// The gate.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The gate, to change its peers.
    pub fn gate_mut(&mut self) -> &mut Gate {
        &mut self.gate
    }

    /// The socket below.
    #[must_use]
    pub fn udp(&self) -> &U {
        &self.udp
    }

    /// Begins a poll: from now on so many datagrams may be taken in.
    pub fn begin_poll(&mut self, now: Time) {
        self.now = now;
        self.budget = self.gate.config().datagrams_per_poll;
    }

    /// Ends a poll: does what is due and hands to the system whatever waits.
    pub fn end_poll(&mut self) {
        self.gate.tend(self.now);
        self.send_replies();
        for slot in self.gate.slots() {
            self.flush(slot);
        }
    }

    /// Sleeps until something has come, or for so long.
    ///
    /// # Errors
    /// If the system cannot wait.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        if self.inbox.is_empty() { self.udp.wait(timeout) } else { Ok(()) }
    }

    fn send_replies(&mut self) {
        while let Some(reply) = self.gate.reply() {
            let bytes = reply.bytes();
            let counters = self.gate.counters_mut();
            counters.send_calls += 1;
            match self.udp.send(reply.to, bytes, bytes.len()) {
                Ok(()) => counters.bytes_sent += bytes.len() as u64,
                Err(_) => counters.drops.send_refused += 1,
            }
        }
    }

    /// Hands to the system what waits for a peer, until it takes no more.
    fn flush(&mut self, slot: u32) {
        loop {
            let segments = self.udp.segments_max();
            let Some((to, bytes, segment)) = self.gate.waiting(slot, segments, SEND_BYTES_MAX) else { return };
            let (length, count) = (bytes.len(), bytes.len().div_ceil(segment));
            let result = self.udp.send(to, bytes, segment);
            let counters = self.gate.counters_mut();
            counters.send_calls += 1;
            match result {
                Ok(()) => counters.bytes_sent += length as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => counters.drops.send_refused += count as u64,
            }
            self.gate.sent(slot, length);
        }
    }

    /// Fills the inbox if it is empty; an error of the network is counted and treated as silence.
    fn refill(&mut self) -> io::Result<()> {
        if !self.inbox.is_empty() {
            return Ok(());
        }
        self.gate.counters_mut().receive_calls += 1;
        self.inbox.fill(&mut self.udp).inspect_err(|error| {
            let failed = error.kind() != io::ErrorKind::WouldBlock;
            self.gate.counters_mut().receive_errors += u64::from(failed);
        })
    }
}

impl<U: Udp> DatagramSocket for SecureBatchSocket<U> {
    fn send_packet(&mut self, address: &SocketAddr, bytes: &[u8]) -> io::Result<usize> {
        let Some(slot) = self.gate.seal(self.now, *address, bytes) else { return Ok(0) };
        // A run that fills a call goes at once: the receiver opens it while we seal the next.
        if self.gate.bytes_waiting(slot) > SEND_BYTES_MAX - DATAGRAM_MAX {
            self.flush(slot);
        }
        Ok(bytes.len())
    }

    fn receive_packet<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<(&'b [u8], SocketAddr)> {
        while self.budget > 0 {
            self.refill().map_err(|_| io::ErrorKind::WouldBlock)?;
            let Some((datagram, from)) = self.inbox.next() else { break };
            self.budget -= 1;
            if let Some((length, address)) = self.gate.take(self.now, from, datagram, buffer) {
                return Ok((&buffer[..length], address));
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_address()
    }

    fn is_blocking_mode(&self) -> bool {
        false
    }
}
