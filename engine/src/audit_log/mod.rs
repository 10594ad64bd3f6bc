//! The audit log: what became of every step, by whom, in lines that cannot be changed afterwards without it showing.
//!
//! One JSON object a line. Each names the BLAKE3 hash of the line before, so that a line that is changed, moved, removed or put in breaks
//! the chain there. From time to time the writer signs the end of the chain (Ed25519): up to the last signature nobody without the
//! key can write another history, however many lines they replace.
//!
//! Whoever has the key is held by the others. Each node tells them its signed ends ([`Head`]), and they write them into their own logs
//! (`witness`). So a log that was written anew by its owner, or cut off behind what was witnessed, does not fit to theirs
//! ([`cross_check`]). Lines after the last witness are as good as the word of their writer; so a log that was brought to its end says
//! so in a last line, is signed after it, and that is told, too.
//!
//! * `writer.rs`: writes, and loses nothing when the disk fails; goes on after a crash, and says what it cut off.
//! * `chain.rs`, `history.rs`, `verify.rs`: read. Chains by their hashes, then what they say by its own logic, then one log by another.
//! * `disk.rs`: what a log is kept on; `event.rs`, `head.rs`: its lines and its signatures.
//!
//! No clock is read here.

mod chain;
mod disk;
mod event;
mod head;
mod history;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::{io, path::PathBuf};

pub use disk::{Disk, FileDisk};
pub use event::Event;
pub use head::{Head, Signer};
pub use history::CARRIED_MAX;
pub use verify::{Verified, Witnessed, cross_check, cross_check_lines, verify, verify_file};
#[doc(hidden)]
pub use writer::Planted;
pub use writer::{AuditLog, Recovered, WAITING_BYTES_MAX};

/// What the secret of a node is derived for, so that its signer is made from other bytes than its datagrams are sealed with:
/// `Signer::of(&secret.derive(PURPOSE))`. With another text the keys of all logs change.
pub const PURPOSE: &str = "emmy 2026 secret of a node for its audit log";

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
    /// The disk has taken nothing for so long that no more can wait for it.
    #[error("{path}: {waiting} bytes wait for the disk, and no more are kept", path = path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What waits [bytes].
        waiting: usize,
    },
}
