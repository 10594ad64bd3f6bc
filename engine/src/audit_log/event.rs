//! What is written down, and the lines that it is written in.

use serde::{Deserialize, Serialize};

/// What is written down. Steps are those of the run, roots and hashes are hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// A run began here.
    Opened {
        /// Its name.
        run: String,
        /// The BLAKE3 hash of its scenario.
        scenario: String,
        /// The program and its version.
        program: String,
        /// The node that writes this log.
        node: u16,
        /// In which life it began.
        life: u64,
        /// The step that the run starts from.
        step: u64,
        /// Whether steps go down from there.
        backwards: bool,
        /// The key that signs it.
        signer: String,
    },
    /// The node was started anew, and goes on with what it finds of its log.
    Resumed {
        /// In which life.
        life: u64,
        /// What a crash left behind the last whole line, and was cut off [bytes].
        cut_bytes: u64,
        /// The BLAKE3 hash of that.
        cut_hash: String,
    },
    /// An epoch began: who takes part, who decides, and where it starts from.
    Epoch {
        /// 0 for the run itself; something else where an operator sent this node on alone.
        branch: u64,
        /// Its number.
        epoch: u32,
        /// Who decides.
        coordinator: u16,
        /// Who takes part.
        members: Vec<u16>,
        /// Who was found to be wrong, and takes no part ever again.
        isolated: Vec<u16>,
        /// What they did, and of what else nodes were accused: for people.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        why: Vec<String>,
        /// The step from which everybody computes.
        from_step: u64,
        /// The last committed step: up to it roots are known and must be found again.
        to_step: u64,
        /// Index of the last decision.
        index: u64,
        /// The state root after the last committed step.
        root: String,
        /// Hash of the last decision.
        decision: String,
    },
    /// Steps became final: one decision for each, one after another.
    Committed {
        /// The epoch in which it was decided.
        epoch: u32,
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
        /// Index of the last decision.
        index: u64,
        /// The state root after the last.
        root: String,
        /// Hash of the last decision, which stands on all before it.
        decision: String,
    },
    /// A step was undone.
    Undone {
        /// The epoch in which it was decided.
        epoch: u32,
        /// The step.
        step: u64,
        /// Index of the decision.
        index: u64,
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
    /// Another node's log ended in this signature at some time: that node cannot write what stands before it anew.
    Witness {
        /// The node.
        node: u16,
        /// The life in which it said so.
        life: u64,
        /// Number of the signed line in its log, and how it begins and ends there: with these the line can be written out.
        entry: u64,
        /// When it was signed, by the clock of that node.
        utc: String,
        /// Hash of the line before.
        previous: String,
        /// The key.
        key: String,
        /// The signature.
        signature: String,
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
pub(super) struct Line {
    pub(super) entry: u64,
    /// When it was written, by the clock of the writer.
    pub(super) utc: String,
    pub(super) event: Event,
    /// BLAKE3 of the line before; of nothing before the first.
    pub(super) previous: String,
}

impl Line {
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("an entry is plain numbers and text")
    }

    /// From what stands between two ends of lines.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let line: Self = serde_json::from_slice(text).map_err(|error| no_entry(&error))?;
        if line.text().as_bytes() == text {
            Ok(line)
        } else {
            Err("the entry is written otherwise than this program writes it".into())
        }
    }
}

/// To serde each line is a text of its own, of one line.
fn no_entry(error: &serde_json::Error) -> String {
    let (what, column) = (error.to_string(), error.column());
    let what = what.strip_suffix(&format!(" at line 1 column {column}")).unwrap_or(&what);
    format!("no entry of an audit log: column {column}: {what}")
}
