//! The layout of a datagram: what stands in clear at its beginning, and how long each kind is.
//!
//! | kind | bytes |
//! |---|---|
//! | initiation | kind, suite, version (2), the sender's session (4), Noise message 1, MAC (16), cookie MAC (16): 480 |
//! | response | kind, suite, version (2), the receiver's session (4), Noise message 2, MAC (16): 416 |
//! | challenge | kind, 0, version (2), the receiver's session (4), cookie (32), MAC (16): 56 |
//! | refusal | kind, reason, version (2), the receiver's session (4), MAC (16): 24 |
//! | data | kind, the receiver's session (3), counter (8), sealed payload and tag |
//!
//! Numbers are little endian. The first eight bytes of an initiation and all of a refusal stay as they are in every later version, so
//! that two programs that cannot speak with each other can at least say so. No answer is longer than what it answers.

/// The version of this layout, of the handshake and of everything inside datagrams: peers of different versions do not speak.
pub const WIRE_VERSION: u16 = 1;

/// Longest datagram that is sent or taken: what fits a 1500 byte frame with IPv6 and UDP headers [bytes].
pub const DATAGRAM_MAX: usize = 1452;

/// Kind and session of a data datagram [bytes].
pub const HEADER_BYTES: usize = 4;
/// Its counter [bytes].
pub const COUNTER_BYTES: usize = 8;
/// What the cipher adds [bytes].
pub const TAG_BYTES: usize = 16;
/// By how much a data datagram is longer than its payload [bytes].
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + COUNTER_BYTES + TAG_BYTES;

/// Kind, suite or reason, version and session of every other datagram [bytes].
pub const CLEAR_BYTES: usize = 8;
/// A MAC in clear [bytes].
pub const MAC_BYTES: usize = 16;
/// A cookie [bytes].
pub const COOKIE_BYTES: usize = 32;
/// What a node says of itself in a handshake, with its length and filled up with zeros: every handshake is equally long [bytes].
pub const HELLO_BYTES: usize = 344;
const KEY_BYTES: usize = 32;

/// First message of Noise IK: ephemeral key, sealed static key, sealed hello [bytes].
pub const NOISE_FIRST_BYTES: usize = KEY_BYTES + KEY_BYTES + TAG_BYTES + HELLO_BYTES + TAG_BYTES;
/// Second message: ephemeral key, sealed hello [bytes].
pub const NOISE_SECOND_BYTES: usize = KEY_BYTES + HELLO_BYTES + TAG_BYTES;
/// [bytes]
pub const INITIATION_BYTES: usize = CLEAR_BYTES + NOISE_FIRST_BYTES + 2 * MAC_BYTES;
/// [bytes]
pub const RESPONSE_BYTES: usize = CLEAR_BYTES + NOISE_SECOND_BYTES + MAC_BYTES;
/// [bytes]
pub const CHALLENGE_BYTES: usize = CLEAR_BYTES + COOKIE_BYTES + MAC_BYTES;
/// [bytes]
pub const REFUSAL_BYTES: usize = CLEAR_BYTES + MAC_BYTES;

const _: () = assert!(RESPONSE_BYTES <= INITIATION_BYTES && CHALLENGE_BYTES <= INITIATION_BYTES, "no amplification");
const _: () = assert!(INITIATION_BYTES <= 1200, "a handshake passes wherever a datagram does");

/// First byte of each kind. Far apart, so that no single flipped bit makes one of another.
pub(super) const KIND_INITIATION: u8 = 0x17;
pub(super) const KIND_RESPONSE: u8 = 0x28;
pub(super) const KIND_CHALLENGE: u8 = 0x4d;
pub(super) const KIND_REFUSAL: u8 = 0x72;
pub(super) const KIND_DATA: u8 = 0x9b;

/// What its receiver calls a session: 24 bits, so that a data datagram needs no address to be understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(u32);

impl SessionId {
    /// How many there are.
    pub const COUNT: u32 = 1 << 24;

    /// The session of a number; `None` if it needs more than 24 bits.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    fn read(bytes: [u8; 4]) -> Option<Self> {
        Self::new(u32::from_le_bytes(bytes))
    }
}

/// A datagram, by what stands in clear. Nothing in it has been proved yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'d> {
    /// Someone wants to speak with us.
    Initiation {
        /// What the sender calls the session.
        from: SessionId,
    },
    /// Someone of another version wants to speak with us.
    Foreign {
        /// The version.
        version: u16,
        /// What the sender calls the session.
        from: SessionId,
    },
    /// The answer to our initiation.
    Response {
        /// What we call the session.
        to: SessionId,
    },
    /// The peer is flooded and wants to know whether our address is ours.
    Challenge {
        /// What we call the session.
        to: SessionId,
    },
    /// The peer will not speak with us.
    Refusal {
        /// What we call the session.
        to: SessionId,
        /// Why, as a number: see [`super::handshake::Refusal`].
        reason: u8,
        /// The version that the peer speaks.
        version: u16,
    },
    /// A sealed payload.
    Data {
        /// What we call the session.
        to: SessionId,
        /// Under which number it was sealed.
        counter: u64,
        /// Payload and tag.
        sealed: &'d [u8],
    },
}

/// Why a datagram is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// No such kind.
    Kind,
    /// Too short or too long for its kind.
    Length,
    /// A version that only an initiation or a refusal may have.
    Version,
    /// A session with more than 24 bits.
    Session,
}

/// Reads what stands in clear. Takes no memory, whatever came.
///
/// # Errors
/// If no datagram of ours looks like this.
pub fn parse(datagram: &[u8]) -> Result<Frame<'_>, Unreadable> {
    if datagram.len() > DATAGRAM_MAX {
        return Err(Unreadable::Length);
    }
    match datagram.first() {
        None => Err(Unreadable::Length),
        Some(&KIND_DATA) => parse_data(datagram),
        Some(&(KIND_INITIATION | KIND_RESPONSE | KIND_CHALLENGE | KIND_REFUSAL)) => parse_other(datagram),
        Some(_) => Err(Unreadable::Kind),
    }
}

fn parse_data(datagram: &[u8]) -> Result<Frame<'_>, Unreadable> {
    let (&[_, a, b, c], rest) = datagram.split_first_chunk().ok_or(Unreadable::Length)?;
    let (counter, sealed) = rest.split_first_chunk().ok_or(Unreadable::Length)?;
    if sealed.len() < TAG_BYTES {
        return Err(Unreadable::Length);
    }
    let to = SessionId(u32::from_le_bytes([a, b, c, 0]));
    Ok(Frame::Data { to, counter: u64::from_le_bytes(*counter), sealed })
}

fn parse_other(datagram: &[u8]) -> Result<Frame<'_>, Unreadable> {
    let (&[kind, reason, low, high, a, b, c, d], _) =
        datagram.split_first_chunk::<CLEAR_BYTES>().ok_or(Unreadable::Length)?;
    let version = u16::from_le_bytes([low, high]);
    let session = SessionId::read([a, b, c, d]).ok_or(Unreadable::Session)?;
    let (frame, bytes) = match kind {
        // An answer to it is a refusal, which must not be longer.
        KIND_INITIATION if version != WIRE_VERSION => {
            let frame = Frame::Foreign { version, from: session };
            return if datagram.len() < REFUSAL_BYTES { Err(Unreadable::Length) } else { Ok(frame) };
        }
        KIND_INITIATION => (Frame::Initiation { from: session }, INITIATION_BYTES),
        KIND_REFUSAL => (Frame::Refusal { to: session, reason, version }, REFUSAL_BYTES),
        _ if version != WIRE_VERSION => return Err(Unreadable::Version),
        KIND_RESPONSE => (Frame::Response { to: session }, RESPONSE_BYTES),
        _ => (Frame::Challenge { to: session }, CHALLENGE_BYTES),
    };
    if datagram.len() == bytes { Ok(frame) } else { Err(Unreadable::Length) }
}

/// The clear beginning of a datagram that is no data.
pub(super) fn clear(kind: u8, reason: u8, session: SessionId) -> [u8; CLEAR_BYTES] {
    let [low, high] = WIRE_VERSION.to_le_bytes();
    let [a, b, c, d] = session.0.to_le_bytes();
    [kind, reason, low, high, a, b, c, d]
}

/// The clear beginning of a data datagram.
pub(super) fn clear_data(session: SessionId, counter: u64) -> [u8; HEADER_BYTES + COUNTER_BYTES] {
    let mut bytes = [0; HEADER_BYTES + COUNTER_BYTES];
    let [a, b, c, _] = session.0.to_le_bytes();
    bytes[..HEADER_BYTES].copy_from_slice(&[KIND_DATA, a, b, c]);
    bytes[HEADER_BYTES..].copy_from_slice(&counter.to_le_bytes());
    bytes
}
