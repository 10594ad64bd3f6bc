//! Reads a log line by line, and holds each to the one before: number, hash, signature. What the lines say is not looked at here.

use std::io::{self, BufRead, Read};

use super::{
    event::{Event, Line},
    head::Head,
};

/// A line holds a message of this engine and some numbers: what is longer is none.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;

/// Why a line is not read.
#[derive(Debug)]
pub(super) enum Fault {
    /// The system does not let it.
    Read(io::Error),
    /// It is not what was written.
    Broken(String),
}

/// A log that is being read.
pub(super) struct Chain<R> {
    lines: R,
    /// The only key that may have signed it: a given one, or else that which the first line names.
    key: Option<String>,
    /// Lines that were read, and their bytes.
    pub(super) entries: u64,
    pub(super) bytes: u64,
    /// Hash of the last of them.
    pub(super) last: blake3::Hash,
    text: Vec<u8>,
}

impl<R: BufRead> Chain<R> {
    pub(super) fn new(lines: R, key: Option<&str>) -> Self {
        let (last, key) = (blake3::hash(b""), key.map(str::to_owned));
        Self { lines, key, entries: 0, bytes: 0, last, text: Vec::new() }
    }

    /// The next line; nothing behind the last one.
    pub(super) fn next(&mut self) -> Result<Option<Line>, Fault> {
        let Some(text) = next_line(&mut self.lines, &mut self.text).map_err(Fault::Read)? else { return Ok(None) };
        let Some(text) = text.strip_suffix(b"\n") else {
            let what = "the line does not end: the file was cut off, or something else was put in";
            return Err(Fault::Broken(what.into()));
        };
        let line = Line::parse(text).map_err(Fault::Broken)?;
        let (bytes, hash) = (text.len() as u64 + 1, blake3::hash(text));
        self.check(&line).map_err(Fault::Broken)?;
        (self.entries, self.last) = (line.entry, hash);
        self.bytes += bytes;
        Ok(Some(line))
    }

    fn check(&mut self, line: &Line) -> Result<(), String> {
        let due = self.entries + 1;
        if line.entry != due {
            return Err(format!("entry {} stands where entry {due} should", line.entry));
        }
        if line.previous != self.last.to_string() {
            return Err(
                "the line before is not the one that this one was written after: one of the two was changed".into()
            );
        }
        match (&line.event, due) {
            (Event::Opened { signer, .. }, 1) => {
                self.key.get_or_insert_with(|| signer.clone());
                Ok(())
            }
            (_, 1) => Err("the first entry does not say what run this is".into()),
            (Event::Opened { .. }, _) => Err("a run begins in the middle of the log".into()),
            (Event::Signed { .. }, _) => self.check_signed(line),
            _ => Ok(()),
        }
    }

    fn check_signed(&self, line: &Line) -> Result<(), String> {
        let head = Head::of(line).expect("it is signed");
        let expected = self.key.as_deref().expect("the first line names one");
        if head.key == expected {
            head.check()
        } else {
            Err(format!("signed with the key {}, not with {expected}", head.key))
        }
    }
}

/// The bytes up to the next end of a line and it included; a longer line than any is cut there. Nothing at the end.
pub(super) fn next_line<'t>(lines: &mut impl BufRead, text: &'t mut Vec<u8>) -> io::Result<Option<&'t [u8]>> {
    text.clear();
    let read = lines.take(LINE_BYTES_MAX as u64).read_until(b'\n', text)?;
    Ok((read > 0).then_some(text.as_slice()))
}
