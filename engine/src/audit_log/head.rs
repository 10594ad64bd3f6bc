//! Who signs a log, and what a signed end of one is to others.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::event::{Event, Line};

/// Keeps a signature of a chain from being one of anything else.
const DOMAIN: &str = "emmy audit log head 1";
/// No time stamp is longer than this [bytes].
const UTC_BYTES_MAX: usize = 64;

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

    /// Signs a line that has no signature yet.
    pub(super) fn sign(&self, line: &Line) -> String {
        hex(&self.0.sign(&message(line)).to_bytes())
    }
}

/// What a signature signs: the line that it stands in, which names the one before.
fn message(unsigned: &Line) -> Vec<u8> {
    [DOMAIN, &unsigned.text()].concat().into_bytes()
}

/// The end of a log, as its writer tells it to others: all that the last signed line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Number of the line.
    pub entry: u64,
    /// When it was signed.
    pub utc: String,
    /// Hash of the line before.
    pub previous: String,
    /// The key.
    pub key: String,
    /// The signature.
    pub signature: String,
}

impl Head {
    /// The head that a line is, if it is a signed one.
    pub(super) fn of(line: &Line) -> Option<Self> {
        let Event::Signed { key, signature } = &line.event else { return None };
        let Line { entry, utc, previous, .. } = line.clone();
        Some(Self { entry, utc, previous, key: key.clone(), signature: signature.clone() })
    }

    fn line_with(&self, signature: &str) -> Line {
        let event = Event::Signed { key: self.key.clone(), signature: signature.to_owned() };
        Line { entry: self.entry, utc: self.utc.clone(), event, previous: self.previous.clone() }
    }

    /// Hash of the line: that of the whole log up to it.
    #[must_use]
    pub fn hash(&self) -> blake3::Hash {
        blake3::hash(self.line_with(&self.signature).text().as_bytes())
    }

    /// Whether the holder of its key has signed it, and it is short enough to be kept.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if self.utc.len() > UTC_BYTES_MAX {
            return Err(format!("a time stamp of {} bytes; at most {UTC_BYTES_MAX}", self.utc.len()));
        }
        digest(&self.previous, "the hash of the line before")?;
        let key = unhex::<32>(&self.key).ok_or("the key is no 64 hexadecimal digits")?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| "the key is no point of the curve")?;
        let signature = unhex::<64>(&self.signature).ok_or("the signature is no 128 hexadecimal digits")?;
        let signed = key.verify_strict(&message(&self.line_with("")), &Signature::from_bytes(&signature));
        signed.map_err(|_| {
            "the signature is not of what stands before it: a line was changed, or somebody else signed".to_owned()
        })
    }
}

/// A hash as it stands in a log.
pub(super) fn digest(text: &str, what: &str) -> Result<[u8; 32], String> {
    unhex(text).ok_or_else(|| format!("{what} is no 64 hexadecimal digits"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let byte = |k: usize| u8::from_str_radix(&text[2 * k..2 * k + 2], 16).expect("two digits");
    Some(std::array::from_fn(byte))
}
