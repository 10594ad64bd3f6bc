//! The datagrams of the bulk layer as bytes: a header, and then frames until the end.
//!
//! Every number is little-endian and of a fixed size. What is decoded here is consistent in itself (indices within counts, stretches
//! that do not run below zero) and borrows from the datagram: nothing is allocated for what a stranger claims.
//!
//! ```text
//! header   version u8 | kind u8 | session u32 | to session u32 | to incarnation u64 | number u64, if kind is NUMBERED
//! open     1 | block u64 | length u32 | chunk size u16 | epoch u32 | step u64 | kind u16 | part u16 | hash [u8; 16]
//! chunk    2 | block u64 | index u32 | count u32 | length u32 | chunk size u16 | data
//! ack      3 | largest u64 | waited u32 [ns] | credit u64 | finished below u64 | words u8, u64s | ranges u8, (gap u32, run u32)s
//! skip     4 | block u64 | length u32
//! credit   5 | credit u64
//! blocked  6 | credit u64
//! ```

use std::ops::Range;

use super::limits::{BLOCKS_OPEN_MAX, CHUNK_MIN, RANGES_MAX};
use crate::{
    transport::Tag,
    wire::{Epoch, Incarnation},
};

/// First byte of every datagram.
pub const VERSION: u8 = 1;
/// Bytes of a header without a number.
pub const PLAIN_HEADER_BYTES: usize = 18;
/// Bytes of a header with a number.
pub const NUMBERED_HEADER_BYTES: usize = 26;
/// Bytes of a chunk before its data.
pub const CHUNK_HEADER_BYTES: usize = 23;
/// Bytes of an announcement.
pub const OPEN_BYTES: usize = 47;
/// Bytes of a notice that a block is not coming.
pub const SKIP_BYTES: usize = 13;
/// Most bytes of an acknowledgement.
pub const ACK_BYTES_MAX: usize = 31 + BLOCKS_OPEN_MAX / 8 + 8 * RANGES_MAX;
/// Bytes of a block's hash that travel.
pub const HASH_BYTES: usize = 16;

const PLAIN: u8 = 0;
const NUMBERED: u8 = 1;

/// Which connection a datagram belongs to, and its number there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The sender's count of connections with this receiver.
    pub session: u32,
    /// The receiver's, as the sender knows it; 0 if it does not.
    pub to_session: u32,
    /// Which life of the receiver is meant; 0 if the sender does not know it.
    pub to_incarnation: Incarnation,
    /// Its number, if it wants to be acknowledged.
    pub number: Option<u64>,
}

/// How a block is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// All of it [bytes].
    pub length: u32,
    /// Each chunk but the last [bytes].
    pub size: u16,
}

impl Shape {
    /// Into how many chunks.
    #[must_use]
    pub fn chunks(self) -> u32 {
        self.length.div_ceil(u32::from(self.size))
    }

    /// Which bytes a chunk holds.
    #[must_use]
    pub fn span(self, index: u32) -> Range<usize> {
        let first = index as usize * usize::from(self.size);
        first..(first + usize::from(self.size)).min(self.length as usize)
    }
}

/// A part of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Announces a block.
    Open {
        /// Its number.
        block: u64,
        /// How it is cut.
        shape: Shape,
        /// What it is about.
        tag: Tag,
        /// Of its contents and tag.
        hash: [u8; HASH_BYTES],
    },
    /// A part of a block.
    Chunk {
        /// The block.
        block: u64,
        /// Which part.
        index: u32,
        /// How the block is cut.
        shape: Shape,
        /// The part.
        bytes: &'a [u8],
    },
    /// What has come.
    Ack(Ack<'a>),
    /// A block will not come: it was cancelled.
    Skip {
        /// The block.
        block: u64,
        /// Its length [bytes].
        length: u32,
    },
    /// How much may have been sent, all in all.
    Credit(u64),
    /// The sender waits for more credit than this.
    Blocked(u64),
}

/// What has come: datagrams by number, blocks that are finished, and how much may have been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The largest number that came.
    pub largest: u64,
    /// How long it has waited here [ns].
    pub waited_ns: u32,
    /// How much may have been sent, all in all, overheads included [bytes].
    pub credit: u64,
    /// Every block below this is finished.
    pub finished_below: u64,
    finished: &'a [u8],
    ranges: &'a [u8],
}

impl<'a> Ack<'a> {
    /// Puts one together; `None` if the parts contradict each other. `finished` is whole words, `ranges` pairs of (gap, run).
    #[must_use]
    pub fn new(fixed: (u64, u32, u64, u64), finished: &'a [u8], ranges: &'a [u8]) -> Option<Self> {
        let (largest, waited_ns, credit, finished_below) = fixed;
        let ack = Self { largest, waited_ns, credit, finished_below, finished, ranges };
        let whole = finished.len().is_multiple_of(8) && ranges.len().is_multiple_of(8);
        let bounded = finished.len() <= BLOCKS_OPEN_MAX / 8 && (8..=8 * RANGES_MAX).contains(&ranges.len());
        (whole && bounded && ack.stretches_are_sound()).then_some(ack)
    }

    /// Blocks beyond `finished_below` that are finished too.
    pub fn finished_beyond(&self) -> impl Iterator<Item = u64> + use<'a> {
        let below = self.finished_below;
        self.finished.chunks_exact(8).zip((0_u64..).step_by(64)).flat_map(move |(word, base)| {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            (0..64).filter(move |bit| word >> bit & 1 == 1).filter_map(move |bit| below.checked_add(base + bit))
        })
    }

    /// Stretches `first..=last` of the numbers that came, newest first.
    pub fn stretches(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        // Sound, because they were checked when this was made.
        let mut above = self.largest.wrapping_add(1);
        pairs(self.ranges).map(move |(gap, run)| {
            let last = above.wrapping_sub(1).wrapping_sub(u64::from(gap));
            let first = last.wrapping_sub(u64::from(run));
            above = first;
            (first, last)
        })
    }

    fn stretches_are_sound(&self) -> bool {
        let mut next = Some(self.largest);
        for (at, (gap, run)) in pairs(self.ranges).enumerate() {
            // The first stretch ends with the largest; between two there is a gap.
            if (at == 0) != (gap == 0) {
                return false;
            }
            let first = next.and_then(|next| next.checked_sub(u64::from(gap) + u64::from(run)));
            let Some(first) = first else { return false };
            next = first.checked_sub(1);
        }
        true
    }
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = (u32, u32)> + use<'_> {
    bytes.chunks_exact(8).map(|pair| {
        let (gap, run) = pair.split_at(4);
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        (number(gap), number(run))
    })
}

/// Appends a stretch to the bytes of `Ack::ranges`; false, and nothing was appended, if it cannot be told.
/// `above` is the first number of the stretch before, or one more than the largest.
pub(super) fn put_stretch(bytes: &mut Vec<u8>, above: u64, (first, last): (u64, u64)) -> bool {
    assert!(first <= last, "a stretch is not empty");
    let gap = above.wrapping_sub(1).wrapping_sub(last);
    let run = (last - first).min(u64::from(u32::MAX));
    let Ok(gap) = u32::try_from(gap) else { return false };
    bytes.extend(gap.to_le_bytes());
    bytes.extend((run as u32).to_le_bytes());
    // A run that was cut short is the last that can be told.
    run == last - first
}

/// What is wrong with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It ends in the middle of something.
    #[error("it ends too early")]
    Truncated,
    /// Another version, or nothing of ours.
    #[error("version {0}")]
    Version(u8),
    /// A kind of datagram or frame that there is not.
    #[error("kind {0}")]
    Kind(u8),
    /// Its numbers contradict each other.
    #[error("its numbers contradict each other")]
    Contradiction,
}

/// Appends a header.
pub fn put_header(out: &mut Vec<u8>, header: &Header) {
    out.push(VERSION);
    out.push(if header.number.is_some() { NUMBERED } else { PLAIN });
    out.extend(header.session.to_le_bytes());
    out.extend(header.to_session.to_le_bytes());
    out.extend(header.to_incarnation.0.to_le_bytes());
    if let Some(number) = header.number {
        out.extend(number.to_le_bytes());
    }
}

/// Appends a frame.
pub fn put_frame(out: &mut Vec<u8>, frame: &Frame<'_>) {
    match frame {
        Frame::Open { block, shape, tag, hash } => {
            out.push(1);
            out.extend(block.to_le_bytes());
            out.extend(shape.length.to_le_bytes());
            out.extend(shape.size.to_le_bytes());
            out.extend(tag_bytes(*tag));
            out.extend(hash);
        }
        Frame::Chunk { block, index, shape, bytes } => {
            debug_assert_eq!(bytes.len(), shape.span(*index).len(), "a chunk is as long as its index says");
            let mut head = [0; CHUNK_HEADER_BYTES];
            head[0] = 2;
            head[1..9].copy_from_slice(&block.to_le_bytes());
            head[9..13].copy_from_slice(&index.to_le_bytes());
            head[13..17].copy_from_slice(&shape.chunks().to_le_bytes());
            head[17..21].copy_from_slice(&shape.length.to_le_bytes());
            head[21..23].copy_from_slice(&shape.size.to_le_bytes());
            out.extend_from_slice(&head);
            out.extend_from_slice(bytes);
        }
        Frame::Ack(ack) => {
            out.push(3);
            out.extend(ack.largest.to_le_bytes());
            out.extend(ack.waited_ns.to_le_bytes());
            out.extend(ack.credit.to_le_bytes());
            out.extend(ack.finished_below.to_le_bytes());
            out.push((ack.finished.len() / 8) as u8);
            out.extend(ack.finished);
            out.push((ack.ranges.len() / 8) as u8);
            out.extend(ack.ranges);
        }
        Frame::Skip { block, length } => {
            out.push(4);
            out.extend(block.to_le_bytes());
            out.extend(length.to_le_bytes());
        }
        Frame::Credit(credit) => {
            out.push(5);
            out.extend(credit.to_le_bytes());
        }
        Frame::Blocked(credit) => {
            out.push(6);
            out.extend(credit.to_le_bytes());
        }
    }
}

/// A tag as it travels and as it is hashed.
#[must_use]
pub fn tag_bytes(tag: Tag) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&tag.epoch.0.to_le_bytes());
    bytes[4..12].copy_from_slice(&tag.step.to_le_bytes());
    bytes[12..14].copy_from_slice(&tag.kind.to_le_bytes());
    bytes[14..].copy_from_slice(&tag.part.to_le_bytes());
    bytes
}

/// The header of a datagram, and its frames.
///
/// # Errors
/// If there is no whole header.
pub fn decode(datagram: &[u8]) -> Result<(Header, Frames<'_>), Fault> {
    let mut cursor = Cursor { rest: datagram };
    let version = cursor.u8()?;
    if version != VERSION {
        return Err(Fault::Version(version));
    }
    let kind = cursor.u8()?;
    if kind > NUMBERED {
        return Err(Fault::Kind(kind));
    }
    let session = cursor.u32()?;
    let to_session = cursor.u32()?;
    let to_incarnation = Incarnation(cursor.u64()?);
    let number = if kind == NUMBERED { Some(cursor.u64()?) } else { None };
    // The sender must be able to say how many came; the last number of all would leave no room for that.
    if number == Some(u64::MAX) {
        return Err(Fault::Contradiction);
    }
    Ok((Header { session, to_session, to_incarnation, number }, Frames { cursor }))
}

/// The frames of a datagram; after a fault there are no more.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.rest.is_empty() {
            return None;
        }
        let frame = self.cursor.frame();
        if frame.is_err() {
            self.cursor.rest = &[];
        }
        Some(frame)
    }
}

#[derive(Clone, Debug)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Fault> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    fn frame(&mut self) -> Result<Frame<'a>, Fault> {
        match self.u8()? {
            1 => self.open(),
            2 => self.chunk(),
            3 => self.ack(),
            4 => Ok(Frame::Skip { block: self.u64()?, length: self.u32()? }),
            5 => Ok(Frame::Credit(self.u64()?)),
            6 => Ok(Frame::Blocked(self.u64()?)),
            kind => Err(Fault::Kind(kind)),
        }
    }

    fn shape(&mut self) -> Result<Shape, Fault> {
        let shape = Shape { length: self.u32()?, size: self.u16()? };
        if shape.size < CHUNK_MIN { Err(Fault::Contradiction) } else { Ok(shape) }
    }

    fn open(&mut self) -> Result<Frame<'a>, Fault> {
        let block = self.u64()?;
        let shape = self.shape()?;
        let tag = Tag { epoch: Epoch(self.u32()?), step: self.u64()?, kind: self.u16()?, part: self.u16()? };
        Ok(Frame::Open { block, shape, tag, hash: self.array()? })
    }

    fn chunk(&mut self) -> Result<Frame<'a>, Fault> {
        let (block, index, count) = (self.u64()?, self.u32()?, self.u32()?);
        let shape = self.shape()?;
        if count != shape.chunks() || index >= count {
            return Err(Fault::Contradiction);
        }
        let bytes = self.take(shape.span(index).len())?;
        Ok(Frame::Chunk { block, index, shape, bytes })
    }

    fn ack(&mut self) -> Result<Frame<'a>, Fault> {
        let fixed = (self.u64()?, self.u32()?, self.u64()?, self.u64()?);
        let words = self.u8()?;
        let finished = self.take(8 * usize::from(words))?;
        let ranges = self.u8()?;
        let ranges = self.take(8 * usize::from(ranges))?;
        Ack::new(fixed, finished, ranges).map(Frame::Ack).ok_or(Fault::Contradiction)
    }
}
