//! Two nodes prove their keys to each other and agree on new ones for one session: Noise IK, one datagram each way.
//!
//! The initiator knows the responder's static key beforehand and sends its own sealed; the responder knows who asks once it has read
//! the first message. What each says of itself ([`Hello`]) travels sealed in the same two datagrams. The first message can be captured
//! and sent again: that makes keys which nobody else has, so a responder must not give up its old session until something has been
//! opened under the new one. Each initiation also carries an attempt number that grows, by which a responder knows an old one.
//!
//! The last bytes of both messages are a MAC under the receiver's public key: who does not even know that key costs a hash, no more.

use std::fmt;

use serde::{Deserialize, Serialize};
use snow::{Builder, HandshakeState, params::NoiseParams};

use super::{
    cookie::{ANSWER, Cookie, knocking_key, mac, same},
    frame::{
        CLEAR_BYTES, HELLO_BYTES, INITIATION_BYTES, KIND_INITIATION, KIND_REFUSAL, KIND_RESPONSE, MAC_BYTES,
        NOISE_FIRST_BYTES, NOISE_SECOND_BYTES, REFUSAL_BYTES, RESPONSE_BYTES, SessionId, WIRE_VERSION, clear,
    },
    keys::{PublicKey, SecretKey},
    session::Session,
};
use crate::wire::{self, Incarnation, NodeId};

/// Longest name of a program [bytes].
pub const PROGRAM_MAX: usize = 32;
/// Most that an application may say in a handshake [bytes].
pub const APPLICATION_MAX: usize = 256;

const PROLOGUE: &[u8] = b"emmy datagrams 1";
const KNOCK: &str = "emmy datagrams 1: first look at a handshake";
const LENGTH_BYTES: usize = 2;

/// Which cipher seals. The initiator chooses, the responder takes either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suite {
    /// Fast where the processor has instructions for AES.
    AesGcm,
    /// Fast where it has none.
    ChaChaPoly,
}

impl Suite {
    /// The faster one on this machine.
    #[must_use]
    pub fn for_this_processor() -> Self {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        let aes = std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq");
        #[cfg(target_arch = "aarch64")]
        let aes = std::arch::is_aarch64_feature_detected!("aes");
        #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
        let aes = false;
        if aes { Self::AesGcm } else { Self::ChaChaPoly }
    }

    const fn number(self) -> u8 {
        match self {
            Self::AesGcm => 1,
            Self::ChaChaPoly => 2,
        }
    }

    const fn of_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::AesGcm),
            2 => Some(Self::ChaChaPoly),
            _ => None,
        }
    }

    fn params(self) -> NoiseParams {
        let name = match self {
            Self::AesGcm => "Noise_IK_25519_AESGCM_BLAKE2s",
            Self::ChaChaPoly => "Noise_IK_25519_ChaChaPoly_BLAKE2s",
        };
        name.parse().expect("a pattern that snow knows")
    }
}

/// What a node says of itself to a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Name and version of its program.
    pub program: String,
    /// Which life of it this is.
    pub incarnation: Incarnation,
    /// What it calls itself, if it has been given a place. Who it is, only its key says.
    pub node: Option<NodeId>,
    /// Its wall clock [s since 1970]; 0 if it does not say.
    pub unix_seconds: u64,
    /// Whatever the application adds, at most [`APPLICATION_MAX`] bytes.
    pub application: Vec<u8>,
}

impl Hello {
    /// Whether it fits: sizes of what is of variable length.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.program.len() <= PROGRAM_MAX && self.application.len() <= APPLICATION_MAX
    }
}

/// What is sealed in either message.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Introduction {
    wire_version: u16,
    session: u32,
    attempt: u64,
    hello: Hello,
}

/// Why a handshake goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Its sender does not know our public key.
    #[error("meant for another key than ours")]
    NotForUs,
    /// No such cipher.
    #[error("no such cipher")]
    Suite,
    /// It does not decrypt.
    #[error("not made by who it says, or changed on the way")]
    Forged,
    /// It decrypts to something that no program of ours says.
    #[error("its contents are malformed")]
    Malformed,
}

/// Why a peer will not speak with us; it can be told only in the peer's own words, so it is a hint and changes no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It speaks another version.
    Version,
    /// Our key is not among those that it trusts.
    Untrusted,
    /// It has met a later incarnation of us.
    OldIncarnation,
}

impl Refusal {
    const fn number(self) -> u8 {
        match self {
            Self::Version => 1,
            Self::Untrusted => 2,
            Self::OldIncarnation => 3,
        }
    }

    /// The reason of a number.
    #[must_use]
    pub const fn of_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Version),
            2 => Some(Self::Untrusted),
            3 => Some(Self::OldIncarnation),
            _ => None,
        }
    }
}

/// Writes what refuses an initiation. It is 24 bytes long and may answer any version.
pub fn refuse(own: &PublicKey, to: SessionId, reason: Refusal, initiation: &[u8], out: &mut [u8; REFUSAL_BYTES]) {
    out[..CLEAR_BYTES].copy_from_slice(&clear(KIND_REFUSAL, reason.number(), to));
    let (body, tag) = out.split_at_mut(CLEAR_BYTES);
    tag.copy_from_slice(&mac(&knocking_key(ANSWER, own), &[body, initiation]));
}

/// What a node needs to take part in handshakes.
pub struct Identity {
    secret: SecretKey,
    public: PublicKey,
    knock: [u8; 32],
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public)
    }
}

impl Identity {
    /// Of a secret key.
    #[must_use]
    pub fn new(secret: SecretKey) -> Self {
        let public = secret.public();
        Self { knock: knocking_key(KNOCK, &public), secret, public }
    }

    /// Its public key.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Whether the sender of this initiation knows our public key: costs a hash.
    #[must_use]
    pub fn is_for_us(&self, initiation: &[u8; INITIATION_BYTES]) -> bool {
        let (knocked, tag) = initiation[..INITIATION_BYTES - MAC_BYTES].split_at(INITIATION_BYTES - 2 * MAC_BYTES);
        same(&mac(&self.knock, &[knocked]), tag)
    }

    fn builder(&self, suite: Suite) -> Builder<'_> {
        let builder = Builder::new(suite.params()).local_private_key(self.secret.as_bytes());
        builder.and_then(|builder| builder.prologue(PROLOGUE)).expect("each is given once")
    }
}

/// Writes an introduction into as many bytes as every one has.
fn introduce(session: SessionId, attempt: u64, hello: &Hello) -> [u8; HELLO_BYTES] {
    assert!(hello.fits(), "what is said of a node must fit: {hello:?}");
    let introduction =
        Introduction { wire_version: WIRE_VERSION, session: session.number(), attempt, hello: hello.clone() };
    let encoded = wire::encode(&introduction);
    assert!(encoded.len() + LENGTH_BYTES <= HELLO_BYTES, "{} bytes", encoded.len());
    let mut bytes = [0; HELLO_BYTES];
    bytes[..LENGTH_BYTES].copy_from_slice(&(encoded.len() as u16).to_le_bytes());
    bytes[LENGTH_BYTES..LENGTH_BYTES + encoded.len()].copy_from_slice(&encoded);
    bytes
}

fn read_introduction(bytes: &[u8]) -> Option<(SessionId, u64, Hello)> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    let encoded = rest.get(..usize::from(u16::from_le_bytes(*length)))?;
    let introduction: Introduction = wire::decode(encoded, "introduction", HELLO_BYTES).ok()?;
    let session = SessionId::new(introduction.session)?;
    let fits = introduction.wire_version == WIRE_VERSION && introduction.hello.fits();
    fits.then_some((session, introduction.attempt, introduction.hello))
}

/// A handshake that we began and that has not been answered.
pub struct Initiation {
    state: Option<Box<HandshakeState>>,
    peer: PublicKey,
    knock: [u8; 32],
    suite: Suite,
    local: SessionId,
    datagram: Box<[u8; INITIATION_BYTES]>,
}

impl fmt::Debug for Initiation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Initiation({:?}, to {})", self.local, self.peer)
    }
}

impl Initiation {
    /// Begins one: `local` is what we shall call the session, `attempt` must be larger than in every earlier one of this
    /// incarnation, `cookie` what the peer asked us to show.
    ///
    /// # Panics
    /// If the hello is too large.
    #[must_use]
    pub fn new(
        own: &Identity,
        peer: PublicKey,
        suite: Suite,
        (local, attempt): (SessionId, u64),
        hello: &Hello,
        cookie: Option<&Cookie>,
    ) -> Self {
        let builder = own.builder(suite).remote_public_key(peer.as_bytes()).expect("given once");
        let mut state = Box::new(builder.build_initiator().expect("all that IK needs is given"));
        let mut datagram = Box::new([0; INITIATION_BYTES]);
        datagram[..CLEAR_BYTES].copy_from_slice(&clear(KIND_INITIATION, suite.number(), local));
        let noise = &mut datagram[CLEAR_BYTES..CLEAR_BYTES + NOISE_FIRST_BYTES];
        let written = state.write_message(&introduce(local, attempt, hello), noise).expect("the lengths are right");
        assert_eq!(written, NOISE_FIRST_BYTES, "the first message of IK");
        let (body, macs) = datagram.split_at_mut(CLEAR_BYTES + NOISE_FIRST_BYTES);
        macs[..MAC_BYTES].copy_from_slice(&mac(&knocking_key(KNOCK, &peer), &[body]));
        if let Some(cookie) = cookie {
            let (body, tag) = datagram.split_at_mut(INITIATION_BYTES - MAC_BYTES);
            tag.copy_from_slice(&mac(cookie, &[body]));
        }
        let knock = own.knock;
        Self { state: Some(state), peer, knock, suite, local, datagram }
    }

    /// The datagram to send.
    #[must_use]
    pub fn datagram(&self) -> &[u8] {
        &self.datagram[..]
    }

    /// What we call the session.
    #[must_use]
    pub const fn local(&self) -> SessionId {
        self.local
    }

    /// Takes the peer's answer. A forged one changes nothing: the true one may still come.
    ///
    /// # Errors
    /// If it is not the answer of this peer to this initiation.
    pub fn finish(&mut self, response: &[u8]) -> Result<(Session, Hello), HandshakeError> {
        let response: &[u8; RESPONSE_BYTES] = response.try_into().map_err(|_| HandshakeError::Malformed)?;
        let (body, tag) = response.split_at(RESPONSE_BYTES - MAC_BYTES);
        if !same(&mac(&self.knock, &[body]), tag) {
            return Err(HandshakeError::NotForUs);
        }
        if response[1] != self.suite.number() {
            return Err(HandshakeError::Suite);
        }
        let state = self.state.as_mut().ok_or(HandshakeError::Forged)?;
        let mut plain = [0; HELLO_BYTES];
        state.read_message(&body[CLEAR_BYTES..], &mut plain).map_err(|_| HandshakeError::Forged)?;
        let state = self.state.take().expect("it was there a line ago");
        let (remote, _, hello) = read_introduction(&plain).ok_or(HandshakeError::Malformed)?;
        let keys = state.into_stateless_transport_mode().map_err(|_| HandshakeError::Forged)?;
        Ok((Session::new(keys, self.local, remote), hello))
    }

    /// Whether this refusal is the peer's own answer to this initiation, as far as one can tell without a shared secret.
    #[must_use]
    pub fn is_refused_by(&self, refusal: &[u8]) -> bool {
        let Some((body, tag)) = refusal.split_last_chunk::<MAC_BYTES>() else { return false };
        same(&mac(&knocking_key(ANSWER, &self.peer), &[body, self.datagram()]), tag)
    }
}

/// An initiation that was read: who asks is proved, that it asks now is not.
pub struct Asked {
    state: Box<HandshakeState>,
    suite: Suite,
    remote: SessionId,
    /// The peer's key.
    pub key: PublicKey,
    /// Which of its initiations this is.
    pub attempt: u64,
    /// What it says of itself.
    pub hello: Hello,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asked(by {}, attempt {})", self.key, self.attempt)
    }
}

impl Asked {
    /// Reads an initiation. This is the dear part: about a tenth of a millisecond.
    ///
    /// # Errors
    /// If it is not for us or not genuine.
    pub fn read(own: &Identity, initiation: &[u8]) -> Result<Self, HandshakeError> {
        let initiation: &[u8; INITIATION_BYTES] = initiation.try_into().map_err(|_| HandshakeError::Malformed)?;
        if !own.is_for_us(initiation) {
            return Err(HandshakeError::NotForUs);
        }
        let suite = Suite::of_number(initiation[1]).ok_or(HandshakeError::Suite)?;
        let mut state = Box::new(own.builder(suite).build_responder().expect("all that IK needs is given"));
        let mut plain = [0; HELLO_BYTES];
        let noise = &initiation[CLEAR_BYTES..CLEAR_BYTES + NOISE_FIRST_BYTES];
        state.read_message(noise, &mut plain).map_err(|_| HandshakeError::Forged)?;
        let key = state.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(HandshakeError::Forged)?;
        let (remote, attempt, hello) = read_introduction(&plain).ok_or(HandshakeError::Malformed)?;
        // What stands in clear for those who cannot read must be what was sealed.
        if initiation[4..CLEAR_BYTES] != remote.number().to_le_bytes() {
            return Err(HandshakeError::Malformed);
        }
        Ok(Self { state, suite, remote, key: PublicKey::proved(key), attempt, hello })
    }

    /// Answers it: the datagram to send, and the session, which is confirmed once a datagram was opened under it.
    ///
    /// # Panics
    /// If the hello is too large.
    #[must_use]
    pub fn answer(mut self, local: SessionId, hello: &Hello, out: &mut [u8; RESPONSE_BYTES]) -> Session {
        out[..CLEAR_BYTES].copy_from_slice(&clear(KIND_RESPONSE, self.suite.number(), self.remote));
        let noise = &mut out[CLEAR_BYTES..CLEAR_BYTES + NOISE_SECOND_BYTES];
        let introduction = introduce(local, self.attempt, hello);
        let written = self.state.write_message(&introduction, noise).expect("the lengths are right");
        assert_eq!(written, NOISE_SECOND_BYTES, "the second message of IK");
        let (body, tag) = out.split_at_mut(RESPONSE_BYTES - MAC_BYTES);
        tag.copy_from_slice(&mac(&knocking_key(KNOCK, &self.key), &[body]));
        let keys = self.state.into_stateless_transport_mode().expect("both messages are through");
        Session::new(keys, local, self.remote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a peer seals into a handshake is its own choice: its key is proved by then, and nothing else.
    #[test]
    fn an_introduction_of_any_bytes_is_read_or_refused() {
        let hello = Hello { program: "emmy".into(), application: vec![7; 40], ..Hello::default() };
        let id = SessionId::new(77).expect("small");
        let honest = introduce(id, 5, &hello);
        assert_eq!(read_introduction(&honest), Some((id, 5, hello)));
        let (mut seed, mut read) = (1_u64, 0);
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for _ in 0..50_000 {
            let mut lie = honest;
            for _ in 0..=random() % 4 {
                // Beyond these bytes there is only what fills it up.
                lie[random() as usize % 70] = random() as u8;
            }
            if let Some((session, _, hello)) = read_introduction(&lie[..random() as usize % (HELLO_BYTES + 1)]) {
                assert!(hello.fits() && session.number() < SessionId::COUNT);
                read += 1;
            }
        }
        assert!(read > 100, "only {read} were read: the others were broken too much");
    }
}
