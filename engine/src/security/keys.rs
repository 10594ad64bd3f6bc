//! The static keys of nodes: made once, kept in a file that nobody else can read, shown to others as one word.
//!
//! A secret key is a text file of one line, `emmy-secret-key-1` and 64 hexadecimal digits. It is never overwritten, and it is not
//! used while others may read it. A public key is one word, `emmy-key-1:` and 64 digits, to be pasted into the trust files of peers.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

use snow::{
    params::DHChoice,
    resolvers::{CryptoResolver, DefaultResolver},
    types::Dh,
};

const SECRET_WORD: &str = "emmy-secret-key-1";
const PUBLIC_WORD: &str = "emmy-key-1";
const KEY_BYTES: usize = 32;
/// A file longer than this is no secret key [bytes].
const SECRET_FILE_MAX: u64 = 1024;

/// Why a key is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// There is a key already.
    #[error("{path} exists, and a secret key is never overwritten: its peers would no longer know this node. To make a new one, \
             move the old file away first", path = path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others may read it.
    #[error("{path} can be read by others (mode {mode:o}): a secret key must be its owner's alone. Run `chmod 600 {path}`, and make \
             a new key if someone may have seen it", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is not a secret key.
    #[error("{path} is not a secret key: `{SECRET_WORD}`, a space and 64 hexadecimal digits are expected in one line", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
}

/// Why a word is not a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// It begins differently.
    #[error("a public key begins with `{PUBLIC_WORD}:`")]
    Word,
    /// Not 64 digits.
    #[error("64 hexadecimal digits are expected after `{PUBLIC_WORD}:`, not {0} characters")]
    Length(usize),
    /// Something that is no digit.
    #[error("character {0} after `{PUBLIC_WORD}:` is no hexadecimal digit")]
    Digit(usize),
    /// A point that makes the same secret with everybody.
    #[error("this key is of low order: no secret can be shared with it. It was not made by `emmy`")]
    LowOrder,
}

/// 32 bytes that nobody can foresee.
///
/// # Errors
/// If the system has none.
pub fn random_seed() -> Result<[u8; 32], KeyError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| KeyError::Random(error.to_string()))?;
    Ok(bytes)
}

fn curve() -> Box<dyn Dh> {
    DefaultResolver.resolve_dh(&DHChoice::Curve25519).expect("snow is built with this curve")
}

/// Who a node is, as only the node knows it.
#[derive(Clone)]
pub struct SecretKey([u8; KEY_BYTES]);

impl fmt::Debug for SecretKey {
    /// Never the key: it would end up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

impl SecretKey {
    /// A new one.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        random_seed().map(Self)
    }

    /// The key of these bytes: any 32 will do.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Another secret that only the holder of this one can make, and that does not tell this one. `purpose` says what for: a text of
    /// its own for each use, fixed in the code.
    #[must_use]
    pub fn derive(&self, purpose: &'static str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.0)
    }

    /// Who the node is to others.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut curve = curve();
        curve.set(&self.0);
        PublicKey(curve.pubkey().try_into().expect("a public key has 32 bytes"))
    }

    /// Writes it to a file that did not exist, for its owner's eyes only.
    ///
    /// # Errors
    /// If the file exists or cannot be written.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
            _ => KeyError::File { path: path.to_owned(), error },
        };
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(failed)?;
        let text = format!("{SECRET_WORD} {}\n", Hex(&self.0));
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| {
            // Half a key, made here a moment ago, would only stand in the way of a second try.
            let _ = fs::remove_file(path);
            failed(error)
        })
    }

    /// Reads it from its file.
    ///
    /// # Errors
    /// If the file cannot be read, if others can read it as well, or if it is not a secret key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |error| KeyError::File { path: path.to_owned(), error };
        let file = fs::File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        refuse_exposed(path, &metadata)?;
        let mut bytes = Vec::new();
        file.take(SECRET_FILE_MAX).read_to_end(&mut bytes).map_err(failed)?;
        Self::parse(&bytes).ok_or_else(|| KeyError::Malformed { path: path.to_owned() })
    }

    /// The key that a file with these bytes holds.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(bytes).ok()?.trim_end_matches(['\r', '\n']);
        let digits = line.strip_prefix(SECRET_WORD)?.strip_prefix(' ')?;
        digits_to_bytes(digits.as_bytes()).ok().map(Self)
    }
}

#[cfg(unix)]
fn refuse_exposed(path: &Path, metadata: &fs::Metadata) -> Result<(), KeyError> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyError::Exposed { path: path.to_owned(), mode }) }
}

/// Other systems have other rules: there the folder must be the owner's.
#[cfg(not(unix))]
fn refuse_exposed(_path: &Path, _metadata: &fs::Metadata) -> Result<(), KeyError> {
    Ok(())
}

/// Who a node is to others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// The key of these bytes.
    ///
    /// # Errors
    /// If no secret can be shared with it.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Result<Self, PublicKeyError> {
        let mut curve = curve();
        // Any secret tells points of low order: it is a multiple of eight, which takes each of them to zero.
        curve.set(&[1; KEY_BYTES]);
        let mut shared = [0; KEY_BYTES];
        let failed = curve.dh(&bytes, &mut shared).is_err();
        if failed || shared == [0; KEY_BYTES] { Err(PublicKeyError::LowOrder) } else { Ok(Self(bytes)) }
    }

    /// The key that a handshake has proved.
    pub(super) const fn proved(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_WORD}:{}", Hex(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(word: &str) -> Result<Self, PublicKeyError> {
        let digits =
            word.strip_prefix(PUBLIC_WORD).and_then(|rest| rest.strip_prefix(':')).ok_or(PublicKeyError::Word)?;
        Self::from_bytes(digits_to_bytes(digits.as_bytes())?)
    }
}

struct Hex<'b>(&'b [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn digits_to_bytes(digits: &[u8]) -> Result<[u8; KEY_BYTES], PublicKeyError> {
    if digits.len() != 2 * KEY_BYTES {
        return Err(PublicKeyError::Length(digits.len()));
    }
    let digit = |at: usize| (digits[at] as char).to_digit(16).ok_or(PublicKeyError::Digit(at + 1));
    let mut bytes = [0; KEY_BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = (16 * digit(2 * at)? + digit(2 * at + 1)?) as u8;
    }
    Ok(bytes)
}
