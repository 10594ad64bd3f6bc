//! From what the step protocol records to lines of the audit log. Steps that became final one after another are one line.

use std::path::Path;

use crate::{
    audit_log::{AuditLog, AuditLogError, Event, Signer},
    coordinator::{AuditEvent, Decision, Then, Verdict},
    metrics::Stopwatch,
    snapshot::root::StateRoot,
    step::Clock,
};

/// Final steps are written down at least this often [s].
const WRITE_SECONDS: f64 = 1.0;

/// Writes the audit log of one node in one run.
#[derive(Debug)]
pub struct Journal {
    log: AuditLog,
    start: Clock,
    /// Final steps that are not written down yet: the first, and the decision about the last.
    open: Option<(u64, Decision)>,
    written: Stopwatch,
}

fn hex_of(decision: &Decision) -> String {
    blake3::Hash::from_bytes(decision.hash().0).to_string()
}

fn utc() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

impl Journal {
    /// Begins a log.
    ///
    /// # Errors
    /// If it is there already, or cannot be written.
    pub fn create(path: &Path, signer: Signer, start: Clock, opened: Event) -> Result<Self, AuditLogError> {
        let mut log = AuditLog::create(path, signer)?;
        log.append(&utc(), opened)?;
        Ok(Self { log, start, open: None, written: Stopwatch::start() })
    }

    /// Writes down what was recorded.
    ///
    /// # Errors
    /// If the disk is full, say.
    pub fn record(&mut self, event: AuditEvent) -> Result<(), AuditLogError> {
        match event {
            AuditEvent::Decided(decision) => self.decided(*decision),
            AuditEvent::Began(config) => {
                self.flush()?;
                let event = Event::Epoch {
                    epoch: config.epoch.0,
                    coordinator: config.coordinator.0,
                    members: config.nodes().map(|node| node.0).collect(),
                    from_step: self.start.after(config.restart.step),
                    to_step: self.start.after(config.head.step),
                };
                self.log.append(&utc(), event)?;
                for (&from, &by) in config.adoption.iter().filter(|(from, by)| from != by) {
                    let copy_of_step = self.start.after(config.restart.step);
                    self.log.append(&utc(), Event::TookOver { from: from.0, by: by.0, copy_of_step })?;
                }
                self.log.sign(&utc())
            }
            AuditEvent::UnsoundCopy { step, why } => {
                self.flush()?;
                self.log.append(&utc(), Event::UnsoundCopy { step: self.start.after(step), why })
            }
        }
    }

    fn decided(&mut self, decision: Decision) -> Result<(), AuditLogError> {
        let (step, hash) = (self.start.after(decision.step), hex_of(&decision));
        match &decision.verdict {
            Verdict::Commit => {
                let first = self.open.take().map_or(decision.step, |(first, _)| first);
                self.open = Some((first, decision));
                return if self.written.seconds() > WRITE_SECONDS { self.flush() } else { Ok(()) };
            }
            Verdict::CommitAndRecord(breach) | Verdict::CommitAndStop(breach) => {
                let what = breach.to_string();
                self.flush()?;
                self.open = Some((decision.step, decision));
                self.flush()?;
                self.log.append(&utc(), Event::Breached { step, what })?;
            }
            Verdict::Undo { cause, then } => {
                self.flush()?;
                self.log.append(&utc(), Event::Undone { step, why: cause.to_string(), decision: hash })?;
                if let Then::Isolate(node) = then {
                    self.log.append(&utc(), Event::Isolated { node: node.0, why: cause.to_string() })?;
                }
            }
        }
        self.log.sign(&utc())
    }

    /// Writes down the steps that became final, and signs.
    ///
    /// # Errors
    /// If the disk is full, say.
    pub fn flush(&mut self) -> Result<(), AuditLogError> {
        self.written = Stopwatch::start();
        let Some((first, last)) = self.open.take() else { return Ok(()) };
        let event = Event::Committed {
            from: self.start.after(first),
            to: self.start.after(last.step),
            root: StateRoot(last.totals.root).to_string(),
            decision: hex_of(&last),
        };
        self.log.append(&utc(), event)?;
        self.log.sign(&utc())
    }

    /// The last line.
    ///
    /// # Errors
    /// If the disk is full, say.
    pub fn close(mut self, step: u64, root: StateRoot, reason: &str) -> Result<(), AuditLogError> {
        self.flush()?;
        let event = Event::Closed { step: self.start.after(step), root: root.to_string(), reason: reason.to_owned() };
        self.log.append(&utc(), event)?;
        self.log.sign(&utc())
    }
}
