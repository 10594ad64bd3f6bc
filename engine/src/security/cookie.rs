//! Asks a stranger, when there are too many of them, to prove that its address is its own before anything dear is done for it.
//!
//! In the manner of WireGuard: the cookie is a MAC of the sender's address under a secret that only we know and that changes every
//! two minutes. So nothing has to be remembered about those who are asked. A cookie is sent in clear, with a MAC over the request
//! that it answers: only who saw that request can make one up, and such a one could stop the request itself.

use std::net::{IpAddr, SocketAddr};

use super::frame::{CHALLENGE_BYTES, CLEAR_BYTES, COOKIE_BYTES, KIND_CHALLENGE, MAC_BYTES, SessionId, clear};
use super::keys::PublicKey;
use crate::wire::Time;

/// How long a secret makes cookies; they are taken for as long again [ns].
pub const PERIOD: u64 = 120_000_000_000;

/// What proves an address.
pub type Cookie = [u8; COOKIE_BYTES];

/// The first bytes of a keyed hash.
pub(super) fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; MAC_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for part in parts {
        hasher.update(part);
    }
    let mut bytes = [0; MAC_BYTES];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..MAC_BYTES]);
    bytes
}

/// Compares two MACs in a time that does not tell where they differ.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// Makes cookies and recognises them.
#[derive(Clone)]
pub struct CookieJar {
    seed: [u8; 32],
}

impl std::fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CookieJar")
    }
}

impl CookieJar {
    /// From random bytes that nobody else knows.
    #[must_use]
    pub const fn new(seed: [u8; 32]) -> Self {
        Self { seed }
    }

    /// The cookie of an address at a time.
    #[must_use]
    pub fn cookie(&self, now: Time, from: SocketAddr) -> Cookie {
        self.cookie_of_period(now.0 / PERIOD, from)
    }

    /// Whether the last bytes of this initiation are a MAC of the rest under a cookie of this address.
    #[must_use]
    pub fn accepts(&self, now: Time, from: SocketAddr, initiation: &[u8]) -> bool {
        let Some((message, found)) = initiation.split_last_chunk::<MAC_BYTES>() else { return false };
        let period = now.0 / PERIOD;
        [Some(period), period.checked_sub(1)].into_iter().flatten().any(|period| {
            let cookie = self.cookie_of_period(period, from);
            same(&mac(&cookie, &[message]), found)
        })
    }

    fn cookie_of_period(&self, period: u64, from: SocketAddr) -> Cookie {
        let ip = match from.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher.update(&period.to_le_bytes()).update(&ip.octets()).update(&from.port().to_le_bytes());
        hasher.finalize().into()
    }
}

/// The key under which someone who knows a public key proves it, without a signature and at the price of a hash.
#[must_use]
pub(super) fn knocking_key(purpose: &'static str, key: &PublicKey) -> [u8; 32] {
    blake3::derive_key(purpose, key.as_bytes())
}

pub(super) const ANSWER: &str = "emmy datagrams 1: answer to an initiation";

/// Writes the challenge that answers an initiation.
pub fn challenge(own: &PublicKey, to: SessionId, initiation: &[u8], cookie: &Cookie, out: &mut [u8; CHALLENGE_BYTES]) {
    out[..CLEAR_BYTES].copy_from_slice(&clear(KIND_CHALLENGE, 0, to));
    out[CLEAR_BYTES..CHALLENGE_BYTES - MAC_BYTES].copy_from_slice(cookie);
    let (body, tag) = out.split_at_mut(CHALLENGE_BYTES - MAC_BYTES);
    tag.copy_from_slice(&mac(&knocking_key(ANSWER, own), &[body, initiation]));
}

/// The cookie in a challenge, if it answers this initiation to this peer.
#[must_use]
pub fn read_challenge(peer: &PublicKey, initiation: &[u8], challenge: &[u8]) -> Option<Cookie> {
    let (body, tag) = challenge.split_last_chunk::<MAC_BYTES>()?;
    let genuine = same(&mac(&knocking_key(ANSWER, peer), &[body, initiation]), tag);
    if genuine { body.get(CLEAR_BYTES..)?.try_into().ok() } else { None }
}
