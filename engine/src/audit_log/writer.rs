//! Writes a log, whatever the disk does meanwhile.
//!
//! Every line that was not yet brought to the disk for sure is kept in memory, too. So a write that fails half-way costs nothing: the file
//! is cut back to its last whole line, and the rest is written again. A sync that fails may have lost any of what was written since
//! the last one, and the next may say that all is well: everything since then is written again. Only what a sync has
//! confirmed is told to others ([`AuditLog::head`]).
//!
//! At most one signature waits for its sync. So whoever finds two behind a damaged line knows that no crash has damaged it.

use std::{
    collections::BTreeMap,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use super::{
    AuditLogError, Event,
    chain::{Chain, Fault, LINE_BYTES_MAX, next_line},
    disk::{Disk, FileDisk, Reading},
    event::Line,
    head::{Head, Signer},
    history::witnessed,
};

/// Lines that wait for a disk which takes none, at most [bytes].
pub const WAITING_BYTES_MAX: usize = 4 * LINE_BYTES_MAX;

/// Faults that the simulator plants in the writer to see that it would find them. Nothing else ever sets one.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// What a failed write left is not cut off before the next one.
    TornLineStays,
    /// What could not be written is forgotten.
    UnwrittenForgotten,
    /// A signed line counts before it was synced.
    HeadBeforeSync,
    /// After a failed sync nothing is written again.
    SyncRetried,
    /// What a crash left behind the last whole line is not cut off.
    CrashedLineStays,
}

/// A log that is being written.
#[derive(Debug)]
pub struct AuditLog<D = FileDisk> {
    disk: D,
    path: PathBuf,
    signer: Signer,
    entries: u64,
    previous: blake3::Hash,
    /// Whether the last line is a signature.
    signed: bool,
    /// How much of the file outlasts a crash: whole lines [bytes].
    synced: u64,
    /// The lines after that.
    waiting: Vec<u8>,
    /// How much of them the file has [bytes].
    written: usize,
    /// Whether the file may have something after that.
    torn: bool,
    /// The signed line that waits for its sync, and the last that outlasts a crash.
    unsynced: Option<Head>,
    head: Option<Head>,
    planted: Option<Planted>,
}

/// What was found in a log that is gone on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Its lines.
    pub entries: u64,
    /// Index of the last decision that it tells of.
    pub index: u64,
    /// The last end of each other node's log that it bears witness for, with the life in which that was said.
    pub witnessed: BTreeMap<u16, (u64, Head)>,
    /// What a crash left behind the last whole line, and was cut off [bytes].
    pub cut_bytes: u64,
    /// The BLAKE3 hash of that.
    pub cut_hash: String,
}

impl AuditLog {
    /// A new log. It must not be there yet.
    ///
    /// # Errors
    /// If it is there, or cannot be written.
    pub fn create(path: &Path, signer: Signer) -> Result<Self, AuditLogError> {
        let disk = FileDisk::create(path).map_err(|error| AuditLogError::File { path: path.to_owned(), error })?;
        Ok(Self::empty(disk, path, signer, None))
    }
}

impl<D: Disk> AuditLog<D> {
    fn empty(disk: D, path: &Path, signer: Signer, planted: Option<Planted>) -> Self {
        Self {
            disk,
            path: path.to_owned(),
            signer,
            entries: 0,
            previous: blake3::hash(b""),
            signed: false,
            synced: 0,
            waiting: Vec::new(),
            written: 0,
            torn: false,
            unsynced: None,
            head: None,
            planted,
        }
    }

    /// Goes on with what a disk has; `path` is how it is called. What a crash left behind the last whole line is cut off, and the caller
    /// writes down that it was.
    ///
    /// # Errors
    /// If it cannot be read or cut, or if it was damaged by something else than a crash.
    pub fn open(
        disk: D,
        path: &Path,
        signer: Signer,
        planted: Option<Planted>,
    ) -> Result<(Self, Recovered), AuditLogError> {
        let mut log = Self::empty(disk, path, signer, planted);
        let found = log.recover()?;
        Ok((log, found))
    }

    fn recover(&mut self) -> Result<Recovered, AuditLogError> {
        let key = self.signer.public();
        let mut chain = Chain::new(BufReader::new(Reading { disk: &mut self.disk, at: 0 }), Some(&key));
        let (mut index, mut known) = (0, BTreeMap::new());
        let damage = loop {
            match chain.next() {
                Ok(Some(Line { event: Event::Opened { signer, .. }, .. })) if signer != key => {
                    let what = format!("the log of somebody who signs with {signer}; the key here is {key}");
                    return Err(AuditLogError::Broken { path: self.path.clone(), line: 1, what });
                }
                Ok(Some(line)) => {
                    index = index_of(&line.event).unwrap_or(index);
                    known.extend(witnessed(&line.event).map(|(node, life, head)| (node, (life, head))));
                    self.signed = matches!(line.event, Event::Signed { .. });
                }
                Ok(None) => break None,
                Err(Fault::Broken(what)) => break Some(what),
                Err(Fault::Read(error)) => return Err(self.failed(error)),
            }
        };
        (self.entries, self.synced, self.previous) = (chain.entries, chain.bytes, chain.last);
        let length = self.disk.length().map_err(|error| self.failed(error))?;
        let cut = self.read_cut(length).map_err(|error| self.failed(error))?;
        if let Some(what) = damage
            && (cut.len() as u64 != length - self.synced || signatures_in(&cut, &key) > 1)
        {
            let what = format!(
                "{what}; no crash did this: what stood here was on the disk for good. Move the file away, and a new log is begun"
            );
            return Err(AuditLogError::Broken { path: self.path.clone(), line: self.entries + 1, what });
        }
        if self.planted != Some(Planted::CrashedLineStays) {
            // What is there may be in the memory of the system only, if nothing but the program crashed.
            let cut_off = self.disk.truncate(self.synced).and_then(|()| self.disk.sync());
            cut_off.map_err(|error| self.failed(error))?;
        }
        let (cut_bytes, cut_hash) = (cut.len() as u64, blake3::hash(&cut).to_string());
        Ok(Recovered { entries: self.entries, index, witnessed: known, cut_bytes, cut_hash })
    }

    /// What stands behind the last whole line: no more than a crash can have left there.
    fn read_cut(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let left = usize::try_from(length.saturating_sub(self.synced)).unwrap_or(usize::MAX);
        let mut cut = vec![0; left.min(WAITING_BYTES_MAX)];
        let mut reading = Reading { disk: &mut self.disk, at: self.synced };
        io::Read::read_exact(&mut reading, &mut cut)?;
        Ok(cut)
    }

    /// Lines that are there or wait to be.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The last signed line that outlasts a crash.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Whether lines wait for the disk.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Appends an entry. After [`AuditLogError::File`] it counts all the same: it is written with the next one, or by [`AuditLog::flush`].
    ///
    /// # Errors
    /// If the disk is full, say; [`AuditLogError::Full`] if so much waits for it already that this entry is not taken.
    pub fn append(&mut self, utc: &str, event: Event) -> Result<(), AuditLogError> {
        let line = Line { entry: self.entries + 1, utc: utc.to_owned(), event, previous: self.previous.to_string() };
        let text = line.text();
        if text.len() >= LINE_BYTES_MAX || self.waiting.len() + text.len() >= WAITING_BYTES_MAX {
            return Err(AuditLogError::Full { path: self.path.clone(), waiting: self.waiting.len() });
        }
        (self.entries, self.previous) = (line.entry, blake3::hash(text.as_bytes()));
        self.unsynced = Head::of(&line).or_else(|| self.unsynced.take());
        self.signed = matches!(line.event, Event::Signed { .. });
        self.waiting.extend_from_slice(text.as_bytes());
        self.waiting.push(b'\n');
        self.write().map_err(|error| self.failed(error))
    }

    /// Signs what stands there, and brings it to the disk.
    ///
    /// # Errors
    /// If the disk is full, say. Then nothing more is signed until it was brought there.
    pub fn sign(&mut self, utc: &str) -> Result<(), AuditLogError> {
        if self.unsynced.is_some() {
            self.flush()?;
        }
        if !self.signed {
            let previous = self.previous.to_string();
            let event = |signature| Event::Signed { key: self.signer.public(), signature };
            let unsigned = Line { entry: self.entries + 1, utc: utc.to_owned(), event: event(String::new()), previous };
            let signed = event(self.signer.sign(&unsigned));
            self.append(utc, signed)?;
        }
        self.flush()
    }

    /// Brings to the disk what waits for it.
    ///
    /// # Errors
    /// If the disk is full, say. Then it waits on.
    pub fn flush(&mut self) -> Result<(), AuditLogError> {
        if self.planted == Some(Planted::HeadBeforeSync) {
            self.head = self.unsynced.clone().or_else(|| self.head.take());
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.write().and_then(|()| self.sync()).map_err(|error| self.failed(error))
    }

    fn write(&mut self) -> io::Result<()> {
        if self.torn && self.planted != Some(Planted::TornLineStays) {
            self.disk.truncate(self.synced + self.written as u64)?;
        }
        self.torn = self.written < self.waiting.len();
        if self.torn {
            let appended = self.disk.append(&self.waiting[self.written..]);
            if appended.is_err() && self.planted == Some(Planted::UnwrittenForgotten) {
                self.waiting.truncate(self.written);
            }
            appended?;
            (self.torn, self.written) = (false, self.waiting.len());
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Err(error) = self.disk.sync() {
            if self.planted != Some(Planted::SyncRetried) {
                (self.torn, self.written) = (true, 0);
            }
            return Err(error);
        }
        assert_eq!(self.written, self.waiting.len(), "what was not written is not on the disk");
        self.synced += self.written as u64;
        self.waiting.clear();
        self.written = 0;
        self.head = self.unsynced.take().or_else(|| self.head.take());
        Ok(())
    }

    fn failed(&self, error: io::Error) -> AuditLogError {
        AuditLogError::File { path: self.path.clone(), error }
    }
}

/// Index of the last decision that an entry tells of.
fn index_of(event: &Event) -> Option<u64> {
    match event {
        Event::Committed { index, .. } | Event::Undone { index, .. } => Some(*index),
        _ => None,
    }
}

/// Signatures of this key in something that is no chain.
fn signatures_in(bytes: &[u8], key: &str) -> usize {
    let (mut rest, mut text, mut found) = (bytes, Vec::new(), 0);
    while let Some(line) = next_line(&mut rest, &mut text).expect("memory can be read") {
        let head = line.strip_suffix(b"\n").and_then(|line| Line::parse(line).ok()).and_then(|line| Head::of(&line));
        found += usize::from(head.is_some_and(|head| head.key == key && head.check().is_ok()));
    }
    found
}
