//! The audit log: what became of every step, by whom, in lines that cannot be changed afterwards without it showing.
//!
//! One JSON object a line. Each names the BLAKE3 hash of the line before, so that a line that is changed, moved, removed or put in breaks
//! the chain there. From time to time the writer signs the end of the chain (Ed25519): up to the last signature nobody without the
//! key can write another history, however many lines they replace. Lines after it, and lines cut off at the end, are as good as the
//! word of whoever keeps the file; so a log that was brought to its end says so in a last line and is signed after it.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

/// What the secret of a node is derived for, so that its signer is made from other bytes than its datagrams are sealed with:
/// `Signer::of(&secret.derive(PURPOSE))`. With another text the keys of all logs change.
pub const PURPOSE: &str = "emmy 2026 secret of a node for its audit log";
/// A line holds a message of this engine and some numbers: what is longer is none.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Keeps a signature of a chain from being one of anything else.
const DOMAIN: &str = "emmy audit log head 1";

/// What is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// A run began here.
    Opened {
        /// Its name, and the BLAKE3 hash of its scenario.
        run: String,
        /// The hash.
        scenario: String,
        /// The program and its version.
        program: String,
        /// Who writes this log: a node, or the client.
        writer: String,
        /// The key that signs it.
        signer: String,
    },
    /// An epoch began: who takes part, who decides, and where it starts from.
    Epoch {
        /// Its number.
        epoch: u32,
        /// Who decides.
        coordinator: u16,
        /// Who takes part.
        members: Vec<u16>,
        /// The step from which everybody computes.
        from_step: u64,
        /// The last committed step: up to it roots are known and must be found again.
        to_step: u64,
    },
    /// Steps became final.
    Committed {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
        /// The state root after the last.
        root: String,
        /// Hash of the last decision, which stands on all before it.
        decision: String,
    },
    /// A step was undone.
    Undone {
        /// The step.
        step: u64,
        /// Why.
        why: String,
        /// Hash of the decision.
        decision: String,
    },
    /// A step was kept although something broke.
    Breached {
        /// The step.
        step: u64,
        /// What broke.
        what: String,
    },
    /// A node was left out for what it did.
    Isolated {
        /// The node.
        node: u16,
        /// What it did.
        why: String,
    },
    /// A node took over what another one owned.
    TookOver {
        /// Who owned it.
        from: u16,
        /// Who owns it now.
        by: u16,
        /// The step after which the copy was taken.
        copy_of_step: u64,
    },
    /// A copy did not add up and does not count.
    UnsoundCopy {
        /// Its step.
        step: u64,
        /// What did not.
        why: String,
    },
    /// The run ended here.
    Closed {
        /// The last step.
        step: u64,
        /// The state root after it.
        root: String,
        /// How it ended.
        reason: String,
    },
    /// The chain up to the line before, signed.
    Signed {
        /// The key.
        key: String,
        /// The signature of this line without it.
        signature: String,
    },
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    entry: u64,
    /// When it was written, by the clock of the writer.
    utc: String,
    event: Event,
    /// BLAKE3 of the line before; of nothing before the first.
    previous: String,
}

/// Signs the ends of chains.
#[derive(Clone)]
pub struct Signer(SigningKey);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// The signer that belongs to a secret: another key than any that the secret is used as.
    #[must_use]
    pub fn of(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&blake3::derive_key("emmy 2026 audit log signing key", secret)))
    }

    /// The key that others check signatures with.
    #[must_use]
    pub fn public(&self) -> String {
        hex(self.0.verifying_key().as_bytes())
    }
}

/// A log that is being written.
#[derive(Debug)]
pub struct AuditLog {
    file: File,
    path: PathBuf,
    signer: Signer,
    entries: u64,
    previous: blake3::Hash,
    /// Whether the last line is a signature.
    signed: bool,
}

/// Why a log cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum AuditLogError {
    /// The system does not let it.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is not what was written.
    #[error("{path}, line {line}: {what}", path = path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The first line that does not fit.
        line: u64,
        /// What does not.
        what: String,
    },
}

impl AuditLog {
    /// A new log. It must not be there yet.
    ///
    /// # Errors
    /// If it is there, or cannot be written.
    pub fn create(path: &Path, signer: Signer) -> Result<Self, AuditLogError> {
        let file = OpenOptions::new().append(true).create_new(true).open(path);
        let file = file.map_err(|error| AuditLogError::File { path: path.to_owned(), error })?;
        let previous = blake3::hash(b"");
        Ok(Self { file, path: path.to_owned(), signer, entries: 0, previous, signed: false })
    }

    /// Goes on writing a log, which must be whole; half a line at its end, which a crash left there, is cut off.
    ///
    /// # Errors
    /// If it is not whole, or cannot be read or written.
    pub fn resume(path: &Path, signer: Signer) -> Result<Self, AuditLogError> {
        let failed = |error| AuditLogError::File { path: path.to_owned(), error };
        let mut file = OpenOptions::new().read(true).append(true).open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let checked = verify(path, &bytes[..whole], None)?;
        file.set_len(whole as u64).map_err(failed)?;
        let (entries, previous) = (checked.entries, checked.last);
        Ok(Self {
            file,
            path: path.to_owned(),
            signer,
            entries,
            previous,
            signed: checked.unsigned == 0 && entries > 0,
        })
    }

    /// Appends an entry, in one write.
    ///
    /// # Errors
    /// If the disk is full, say.
    pub fn append(&mut self, utc: &str, event: Event) -> Result<(), AuditLogError> {
        let signed = matches!(event, Event::Signed { .. });
        let line = self.line(utc, event);
        let mut text = line.text();
        let hash = blake3::hash(text.as_bytes());
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(|error| self.failed(error))?;
        (self.entries, self.previous, self.signed) = (line.entry, hash, signed);
        Ok(())
    }

    /// Signs what stands there, and brings it to the disk.
    ///
    /// # Errors
    /// If the disk is full, say.
    pub fn sign(&mut self, utc: &str) -> Result<(), AuditLogError> {
        if !self.signed {
            let line = self.line(utc, Event::Signed { key: self.signer.public(), signature: String::new() });
            let signature = hex(&self.signer.0.sign(&message(&line)).to_bytes());
            self.append(utc, Event::Signed { key: self.signer.public(), signature })?;
        }
        self.file.sync_data().map_err(|error| self.failed(error))
    }

    fn line(&self, utc: &str, event: Event) -> Line {
        Line { entry: self.entries + 1, utc: utc.to_owned(), event, previous: self.previous.to_string() }
    }

    fn failed(&self, error: io::Error) -> AuditLogError {
        AuditLogError::File { path: self.path.clone(), error }
    }
}

impl Line {
    fn text(&self) -> String {
        serde_json::to_string(self).expect("an entry is plain numbers and text")
    }
}

/// What a signature signs: the line that it stands in, which names the one before.
fn message(unsigned: &Line) -> Vec<u8> {
    [DOMAIN, &unsigned.text()].concat().into_bytes()
}

/// A log that is what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Lines.
    pub entries: u64,
    /// Signatures.
    pub signatures: u64,
    /// Lines after the last of them.
    pub unsigned: u64,
    /// Steps that became final.
    pub committed: u64,
    /// Steps that were undone.
    pub undone: u64,
    /// Who writes it, and the key that signs it.
    pub opened: Option<(String, String)>,
    /// How the run ended, if the log says so.
    pub closed: Option<String>,
    /// Hash of the last line.
    last: blake3::Hash,
}

/// Checks a log from its first line to its last. `key`: the only one that may have signed it, and it must have; without one, that
/// which the first line names.
///
/// # Errors
/// The first line that is not what was written.
pub fn verify(path: &Path, bytes: &[u8], key: Option<&str>) -> Result<Verified, AuditLogError> {
    verify_lines(path, bytes, key)
}

/// Checks the log in a file as [`verify`] does, one line at a time: however long the file is, it takes no more memory.
///
/// # Errors
/// If the file cannot be read; the first line that is not what was written.
pub fn verify_file(path: &Path, key: Option<&str>) -> Result<Verified, AuditLogError> {
    let file = File::open(path).map_err(|error| AuditLogError::File { path: path.to_owned(), error })?;
    verify_lines(path, BufReader::new(file), key)
}

fn verify_lines(path: &Path, mut lines: impl BufRead, key: Option<&str>) -> Result<Verified, AuditLogError> {
    let mut checked = Verified {
        entries: 0,
        signatures: 0,
        unsigned: 0,
        committed: 0,
        undone: 0,
        opened: None,
        closed: None,
        last: blake3::hash(b""),
    };
    let broken = |line: u64, what: String| AuditLogError::Broken { path: path.to_owned(), line, what };
    let mut text = Vec::new();
    loop {
        text.clear();
        let read = lines.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut text);
        if read.map_err(|error| AuditLogError::File { path: path.to_owned(), error })? == 0 {
            break;
        }
        let number = checked.entries + 1;
        let Some(line) = text.strip_suffix(b"\n") else {
            return Err(broken(
                number,
                "the line does not end: the file was cut off, or something else was put in".into(),
            ));
        };
        check_line(&mut checked, line, key).map_err(|what| broken(number, what))?;
    }
    match (checked.entries, key) {
        (0, _) => Err(broken(1, "the log is empty".into())),
        (last, Some(key)) if checked.signatures == 0 => {
            Err(broken(last, format!("the log ends here, and nothing in it is signed with {key}")))
        }
        _ => Ok(checked),
    }
}

fn check_line(checked: &mut Verified, text: &[u8], key: Option<&str>) -> Result<(), String> {
    let line: Line = serde_json::from_slice(text).map_err(|error| no_entry(&error))?;
    if line.text().as_bytes() != text {
        return Err("the entry is written otherwise than this program writes it".into());
    }
    if line.entry != checked.entries + 1 {
        return Err(format!("entry {} stands where entry {} should", line.entry, checked.entries + 1));
    }
    if line.previous != checked.last.to_string() {
        return Err("the line before is not the one that this one was written after: one of the two was changed".into());
    }
    checked.unsigned += 1;
    match &line.event {
        Event::Opened { writer, signer, .. } if line.entry == 1 => {
            checked.opened = Some((writer.clone(), signer.clone()));
        }
        _ if line.entry == 1 => return Err("the first entry does not say what run this is".into()),
        Event::Opened { .. } => return Err("a run begins in the middle of the log".into()),
        _ if checked.closed.is_some() && !matches!(line.event, Event::Signed { .. }) => {
            return Err("an entry after the end of the run".into());
        }
        Event::Committed { from, to, .. } => {
            // Whoever writes the file chooses the numbers.
            checked.committed = checked.committed.saturating_add(to.saturating_add(1).saturating_sub(*from));
        }
        Event::Undone { .. } => checked.undone += 1,
        Event::Closed { reason, .. } => checked.closed = Some(reason.clone()),
        Event::Signed { key: by, signature } => {
            let named = checked.opened.as_ref().map(|(_, signer)| signer.as_str()).unwrap_or_default();
            let expected = key.unwrap_or(named);
            if by != expected {
                return Err(format!("signed with the key {by}, not with {expected}"));
            }
            let unsigned = Event::Signed { key: by.clone(), signature: String::new() };
            check_signature(&message(&Line { event: unsigned, ..line.clone() }), by, signature)?;
            checked.signatures += 1;
            checked.unsigned = 0;
        }
        _ => {}
    }
    checked.entries = line.entry;
    checked.last = blake3::hash(text);
    Ok(())
}

/// To serde each line is a text of its own, of one line.
fn no_entry(error: &serde_json::Error) -> String {
    let (what, column) = (error.to_string(), error.column());
    let what = what.strip_suffix(&format!(" at line 1 column {column}")).unwrap_or(&what);
    format!("no entry of an audit log: column {column}: {what}")
}

fn check_signature(message: &[u8], key: &str, signature: &str) -> Result<(), String> {
    let key = unhex::<32>(key).ok_or("the key is no 64 hexadecimal digits")?;
    let key = VerifyingKey::from_bytes(&key).map_err(|_| "the key is no point of the curve")?;
    let signature = unhex::<64>(signature).ok_or("the signature is no 128 hexadecimal digits")?;
    key.verify_strict(message, &Signature::from_bytes(&signature)).map_err(|_| {
        "the signature is not of what stands before it: a line was changed, or somebody else signed".to_owned()
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let byte = |k: usize| u8::from_str_radix(&text[2 * k..2 * k + 2], 16).expect("two digits");
    Some(std::array::from_fn(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTC: &str = "2026-01-01T00:00:00Z";

    fn written(name: &str) -> (PathBuf, Vec<u8>, Signer) {
        let path = std::env::temp_dir().join(format!("emmy-audit-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let signer = Signer::of(&[7; 32]);
        let mut log = AuditLog::create(&path, signer.clone()).unwrap();
        let text = str::to_owned;
        log.append(
            UTC,
            Event::Opened {
                run: text("test"),
                scenario: text("abc"),
                program: text("emmy"),
                writer: text("node 0"),
                signer: signer.public(),
            },
        )
        .unwrap();
        for step in 0..4 {
            let event =
                Event::Committed { from: 10 * step + 1, to: 10 * step + 10, root: text("r"), decision: text("d") };
            log.append(UTC, event).unwrap();
            log.sign(UTC).unwrap();
        }
        log.append(UTC, Event::Undone { step: 41, why: text("momentum"), decision: text("d") }).unwrap();
        drop(log);
        let mut log = AuditLog::resume(&path, signer.clone()).unwrap();
        log.append(UTC, Event::Closed { step: 40, root: text("r"), reason: text("breach") }).unwrap();
        log.sign(UTC).unwrap();
        log.sign(UTC).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        (path, bytes, signer)
    }

    #[test]
    fn what_was_written_verifies_and_says_what_happened() {
        let (path, bytes, signer) = written("good");
        let found = verify(&path, &bytes, Some(&signer.public())).unwrap();
        assert_eq!((found.entries, found.signatures, found.unsigned), (12, 5, 0));
        assert_eq!((found.committed, found.undone, found.closed.as_deref()), (40, 1, Some("breach")));

        let other = Signer::of(&[8; 32]).public();
        assert!(verify(&path, &bytes, Some(&other)).unwrap_err().to_string().contains("not with"));
        let unsigned: Vec<u8> = bytes.split_inclusive(|&byte| byte == b'\n').take(2).flatten().copied().collect();
        assert_eq!(verify(&path, &unsigned, None).unwrap().unsigned, 2);
        let refused = verify(&path, &unsigned, Some(&signer.public())).unwrap_err();
        assert!(refused.to_string().contains("line 2: the log ends here"), "{refused}");
        assert_eq!(verify_file(&path, None).unwrap(), found);
        let refused = AuditLog::create(&path, signer).unwrap_err();
        assert!(refused.to_string().contains("exists"), "{refused}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn any_changed_byte_and_any_moved_line_is_found() {
        let (path, bytes, _) = written("bad");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(verify(&path, &bad, None).is_err(), "byte {at}");
        }
        let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
        for at in 0..lines.len() {
            let mut fewer = lines.clone();
            fewer.remove(at);
            // Only the last lines can go without a trace in the chain itself: the count of signatures tells.
            let found = verify(&path, &fewer.concat(), None);
            assert!(found.is_err() || at + 1 == lines.len(), "line {at}");
            let mut twice = lines.clone();
            twice.insert(at, lines[at]);
            assert!(verify(&path, &twice.concat(), None).is_err(), "line {at} twice");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn half_a_line_that_a_crash_left_is_cut_off() {
        let (path, bytes, signer) = written("torn");
        std::fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
        let mut log = AuditLog::resume(&path, signer).unwrap();
        log.sign(UTC).unwrap();
        assert_eq!(verify(&path, &std::fs::read(&path).unwrap(), None).unwrap().unsigned, 0);
        std::fs::remove_file(path).unwrap();
    }
}
