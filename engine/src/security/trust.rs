//! Reads whom a node trusts: a text file with a public key and a name in each line.
//!
//! ```text
//! # the machines of the lab
//! emmy-key-1:5f0c…  left rack
//! emmy-key-1:88a1…  right rack   # moved in May
//! ```
//!
//! A fault is told with file, line, column, what was expected and what to do. Whatever the bytes are, reading them ends.

use std::{collections::BTreeMap, fmt, fs, io::Read, path::Path};

use super::keys::PublicKey;
use crate::text::harmless;

/// A longer file is refused [bytes].
pub const FILE_MAX: u64 = 1 << 20;
/// More peers than this are refused.
pub const PEERS_MAX: usize = 4096;
/// A longer name is refused [bytes].
pub const NAME_MAX: usize = 128;

/// Someone who may speak with us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// By this it is known.
    pub key: PublicKey,
    /// For people.
    pub name: String,
}

/// What is wrong with a trust file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustError {
    /// The file.
    pub file: String,
    /// Its line, from 1; 0 if it is about the file as a whole.
    pub line: usize,
    /// The character in that line, from 1; 0 as above.
    pub column: usize,
    /// What is wrong.
    pub fault: String,
    /// What to do.
    pub remedy: &'static str,
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, fault, remedy } = self;
        if *line == 0 {
            return write!(f, "{file}: {fault}; {remedy}");
        }
        write!(f, "{file}:{line}:{column}: {fault}; {remedy}")
    }
}

impl std::error::Error for TrustError {}

/// Reads a trust file.
///
/// # Errors
/// If it cannot be read, or at the first line that is not as it should be.
pub fn read(path: &Path) -> Result<Vec<Trusted>, TrustError> {
    let file = path.display().to_string();
    let whole = |fault: String, remedy| TrustError { file: file.clone(), line: 0, column: 0, fault, remedy };
    let mut bytes = Vec::new();
    let opened = fs::File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes));
    opened
        .map_err(|error| whole(error.to_string(), "a trust file lists the public keys of peers, one in each line"))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(whole(format!("more than {FILE_MAX} bytes"), "is this a trust file?"));
    }
    parse(&file, &bytes)
}

/// What the lines of a trust file say. `file` is for messages.
///
/// # Errors
/// At the first line that is not as it should be.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Vec<Trusted>, TrustError> {
    let mut trusted = Vec::new();
    let mut lines_of_keys = BTreeMap::new();
    for (row, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let fault = |column: usize, fault: String, remedy| TrustError {
            file: file.to_owned(),
            line: row + 1,
            column,
            fault,
            remedy,
        };
        let Some((column, peer)) = parse_line(line).map_err(|(column, what, remedy)| fault(column, what, remedy))?
        else {
            continue;
        };
        if let Some(earlier) = lines_of_keys.insert(peer.key, row + 1) {
            let what = format!("this key stands in line {earlier} already");
            return Err(fault(column, what, "remove one of the two lines"));
        }
        trusted.push(peer);
        if trusted.len() > PEERS_MAX {
            return Err(fault(column, format!("more than {PEERS_MAX} peers"), "remove those that are gone"));
        }
    }
    Ok(trusted)
}

type Fault = (usize, String, &'static str);

/// The peer of a line and the column of its key; `None` for one that is empty or a comment.
fn parse_line(line: &[u8]) -> Result<Option<(usize, Trusted)>, Fault> {
    let text = std::str::from_utf8(line).map_err(|error| {
        let before = String::from_utf8_lossy(&line[..error.valid_up_to()]).chars().count();
        (before + 1, "not UTF-8 text".to_owned(), "write names in UTF-8, or leave them out")
    })?;
    let text = text.split('#').next().unwrap_or_default();
    let body = text.trim_start();
    let column = text[..text.len() - body.len()].chars().count() + 1;
    let body = body.trim_end();
    if body.is_empty() {
        return Ok(None);
    }
    let (word, name) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
    let key = word.parse().map_err(|error| {
        let fault = format!("`{}` is not a public key: {error}", shortened(word));
        (column, fault, "paste the line that the peer's `emmy` shows as its public key, then a name if you like")
    })?;
    let name = name.trim();
    if name.len() > NAME_MAX {
        let fault = format!("a name of {} bytes, at most {NAME_MAX} expected", name.len());
        return Err((column, fault, "shorten it, or put the rest behind a `#`"));
    }
    Ok(Some((column, Trusted { key, name: name.to_owned() })))
}

fn shortened(word: &str) -> String {
    const SHOWN: usize = 24;
    let mut shown: String = word.chars().take(SHOWN).collect();
    if shown.len() < word.len() {
        shown.push('…');
    }
    harmless(&shown)
}
