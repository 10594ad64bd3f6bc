//! Checks logs: each by itself, and one by what the logs of others have witnessed of it.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use super::{
    AuditLogError, Event,
    chain::{Chain, Fault, next_line},
    history::{History, witnessed},
};

/// A log of a node that was started anew more often than this is none.
const LIVES_MAX: usize = 1 << 12;

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
    /// What crashes left behind whole lines, and was cut off [bytes].
    pub cut_bytes: u64,
    /// Entries that bear witness for other nodes.
    pub witnesses: u64,
    /// The run.
    pub run: String,
    /// Who writes it.
    pub node: u16,
    /// The lives in which it did.
    pub lives: Vec<u64>,
    /// The key that signs it.
    pub key: String,
    /// How the run ended, if the log says so.
    pub closed: Option<String>,
    /// What is missing, if the log ends before the epoch that would say why: the line that does not follow, and what would have.
    pub gap: Option<(u64, String)>,
}

/// Heads of a log that another log bears witness for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witnessed {
    /// How many.
    pub heads: u64,
    /// The last line of the log that one of them covers.
    pub up_to: u64,
    /// Heads of the same node in lives that are none of this log's: of another log of that node.
    pub of_other_lives: u64,
}

/// Checks a log from its first line to its last. `key`: the only one that may have signed it, and it must have; without one, that
/// which the first line names.
///
/// # Errors
/// The first line that is not what was written, or does not fit to what stands before it.
pub fn verify(path: &Path, bytes: &[u8], key: Option<&str>) -> Result<Verified, AuditLogError> {
    verify_lines(path, bytes, key)
}

/// Checks the log in a file as [`verify`] does, one line at a time: however long the file is, it takes no more memory.
///
/// # Errors
/// If the file cannot be read; the first line that is not what was written, or does not fit to what stands before it.
pub fn verify_file(path: &Path, key: Option<&str>) -> Result<Verified, AuditLogError> {
    verify_lines(path, open(path)?, key)
}

fn open(path: &Path) -> Result<BufReader<File>, AuditLogError> {
    File::open(path).map(BufReader::new).map_err(|error| AuditLogError::File { path: path.to_owned(), error })
}

fn fault(path: &Path, line: u64, fault: Fault) -> AuditLogError {
    match fault {
        Fault::Read(error) => AuditLogError::File { path: path.to_owned(), error },
        Fault::Broken(what) => AuditLogError::Broken { path: path.to_owned(), line, what },
    }
}

fn verify_lines(path: &Path, lines: impl BufRead, key: Option<&str>) -> Result<Verified, AuditLogError> {
    let (mut chain, mut history, mut found) = (Chain::new(lines, key), History::new(), Verified::nothing());
    let broken = |line: u64, what: String| fault(path, line, Fault::Broken(what));
    while let Some(line) = chain.next().map_err(|what| fault(path, chain.entries + 1, what))? {
        history.take(line.entry, &line.event).map_err(|what| broken(line.entry, what))?;
        found.count(&line.event).map_err(|what| broken(line.entry, what))?;
        found.committed = found.committed.max(history.steps());
    }
    (found.entries, found.gap) = (chain.entries, history.gap());
    match (found.entries, key) {
        (0, _) => Err(broken(1, "the log is empty".into())),
        (last, Some(key)) if found.signatures == 0 => {
            Err(broken(last, format!("the log ends here, and nothing in it is signed with {key}")))
        }
        _ => Ok(found),
    }
}

impl Verified {
    fn nothing() -> Self {
        Self {
            entries: 0,
            signatures: 0,
            unsigned: 0,
            committed: 0,
            undone: 0,
            cut_bytes: 0,
            witnesses: 0,
            run: String::new(),
            node: 0,
            lives: Vec::new(),
            key: String::new(),
            closed: None,
            gap: None,
        }
    }

    fn count(&mut self, event: &Event) -> Result<(), String> {
        self.unsigned += 1;
        match event {
            Event::Opened { run, node, life, signer, .. } => {
                (self.run, self.node, self.key) = (run.clone(), *node, signer.clone());
                self.lives.push(*life);
            }
            Event::Resumed { life, cut_bytes, .. } => {
                self.cut_bytes = self.cut_bytes.saturating_add(*cut_bytes);
                self.closed = None;
                if self.lives.last() != Some(life) {
                    self.lives.push(*life);
                }
                if self.lives.len() > LIVES_MAX {
                    return Err(format!("more than {LIVES_MAX} lives"));
                }
            }
            Event::Undone { .. } => self.undone += 1,
            Event::Witness { .. } => self.witnesses += 1,
            Event::Closed { reason, .. } => self.closed = Some(reason.clone()),
            Event::Signed { .. } => {
                self.signatures += 1;
                self.unsigned = 0;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Holds a log, which was verified, to what another one bears witness for; that one is verified, too. Reads both line by line.
///
/// # Errors
/// If a file cannot be read, or the other log is not what was written; the first line of `path` that another one was witnessed for.
pub fn cross_check(path: &Path, of: &Verified, other: &Path) -> Result<Witnessed, AuditLogError> {
    cross_check_lines((path, of, open(path)?), (other, open(other)?))
}

/// As [`cross_check`], of logs that are no files.
///
/// # Errors
/// As there.
pub fn cross_check_lines(
    (path, of, lines): (&Path, &Verified, impl BufRead),
    (other, other_lines): (&Path, impl BufRead),
) -> Result<Witnessed, AuditLogError> {
    let (mut chain, mut history, mut found) = (Chain::new(other_lines, None), History::new(), Witnessed::default());
    let mut cursor = Cursor { lines, entry: 0, hash: blake3::hash(b""), text: Vec::new() };
    while let Some(line) = chain.next().map_err(|what| fault(other, chain.entries + 1, what))? {
        let broken = |what| fault(other, line.entry, Fault::Broken(what));
        history.take(line.entry, &line.event).map_err(broken)?;
        if let Event::Opened { run, node, .. } = &line.event
            && *run != of.run
        {
            return Err(broken(format!(
                "this is node {node} in the run {run}, and {} is of another run",
                path.display()
            )));
        }
        let Some((node, life, head)) = witnessed(&line.event).filter(|(node, ..)| *node == of.node) else { continue };
        if !of.lives.contains(&life) {
            found.of_other_lives += 1;
            continue;
        }
        let by = format!("({}, line {})", other.display(), line.entry);
        if head.key != of.key {
            let what = format!("node {node} signed with the key {} {by}; this log says {}", head.key, of.key);
            return Err(fault(path, 1, Fault::Broken(what)));
        }
        cursor.hold_to(head.entry, head.hash(), &by).map_err(|what| fault(path, cursor.entry, what))?;
        (found.heads, found.up_to) = (found.heads + 1, head.entry);
    }
    Ok(found)
}

/// A place in a log that was verified.
struct Cursor<R> {
    lines: R,
    entry: u64,
    hash: blake3::Hash,
    text: Vec<u8>,
}

impl<R: BufRead> Cursor<R> {
    /// Goes on to a line, which must be the one that was witnessed.
    fn hold_to(&mut self, entry: u64, hash: blake3::Hash, by: &str) -> Result<(), Fault> {
        while self.entry < entry {
            let Some(text) = next_line(&mut self.lines, &mut self.text).map_err(Fault::Read)? else {
                let what = format!("the log ends here, and its line {entry} was witnessed {by}: the rest was cut off");
                return Err(Fault::Broken(what));
            };
            self.hash = blake3::hash(text.strip_suffix(b"\n").unwrap_or(text));
            self.entry += 1;
        }
        if self.entry == entry && self.hash == hash {
            return Ok(());
        }
        let what =
            format!("another line {entry} was witnessed {by}: from some line up to it, this log was written anew");
        Err(Fault::Broken(what))
    }
}
