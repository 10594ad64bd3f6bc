//! From what the step protocol records to lines of the audit log, and what nodes tell each other of their logs.
//!
//! Steps that became final one after another are one line. At the beginning of an epoch, at every boundary and at the end the journal has
//! the end of its log told to the other members ([`Journal::take_head`]), and writes down the newest end that it has heard of each of
//! theirs ([`Journal::hear`]). It reads no clock: its owner says what time it is.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    audit_log::{AuditLog, AuditLogError, CARRIED_MAX, Disk, Event, FileDisk, Head, Planted, Signer},
    coordinator::{AuditEvent, Config, Decision, LOG_MAX, Then, Verdict},
    snapshot::root::StateRoot,
    step::Clock,
    wire::{NodeId, Time},
};

/// Final steps are written down at least this often [ns].
const WRITE_NS: u64 = 1_000_000_000;

const _: () = assert!(CARRIED_MAX == LOG_MAX as u64, "what an epoch hands over is what a log may catch up with");

/// When something is written down.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// By the clock of the run.
    pub now: Time,
    /// By that on the wall [µs since 1970].
    pub unix_us: i64,
}

impl Stamp {
    fn utc(&self) -> String {
        let time = jiff::Timestamp::from_microsecond(self.unix_us).unwrap_or_default();
        time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
    }
}

/// What a log is of.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The run.
    pub run: String,
    /// The BLAKE3 hash of its scenario.
    pub scenario: String,
    /// The program and its version.
    pub program: String,
    /// The node.
    pub node: NodeId,
    /// Its present life.
    pub life: u64,
    /// Where the run starts.
    pub start: Clock,
}

/// What was heard of another node's log.
#[derive(Debug)]
struct Heard {
    life: u64,
    head: Head,
    written: bool,
}

/// Writes the audit log of one node in one run.
#[derive(Debug)]
pub struct Journal<D = FileDisk> {
    log: AuditLog<D>,
    subject: Subject,
    /// Final steps that are not written down yet: the first, and the decision about the last.
    open: Option<(u64, Decision)>,
    written_at: Time,
    /// Index of the last decision that the log had when it was gone on with: there it can be compared.
    found_index: u64,
    heard: BTreeMap<NodeId, Heard>,
    /// Whether the end of the log is to be told to the others, and the line that they were told last.
    tell: bool,
    told: u64,
    closed: bool,
}

/// What nodes did for which they were left out, or were accused.
fn grievances(config: &Config) -> Vec<String> {
    let isolated = config.isolated.iter().map(|(node, why)| format!("{node} is left out: {why}"));
    let offences = config.offences.iter().map(ToString::to_string);
    isolated.chain(offences).chain(config.troubles.iter().cloned()).collect()
}

fn hex_of(decision: &Decision) -> String {
    blake3::Hash::from_bytes(decision.hash().0).to_string()
}

impl<D: Disk> Journal<D> {
    /// Begins the log that a disk is to have, or goes on with the one that it has; `path` is how it is called.
    ///
    /// # Errors
    /// If it cannot be read or written, or was damaged by something else than a crash.
    pub fn open(
        disk: D,
        path: &Path,
        signer: Signer,
        subject: Subject,
        stamp: Stamp,
        planted: Option<Planted>,
    ) -> Result<Self, AuditLogError> {
        let opened = Event::Opened {
            run: subject.run.clone(),
            scenario: subject.scenario.clone(),
            program: subject.program.clone(),
            node: subject.node.0,
            life: subject.life,
            step: subject.start.step,
            backwards: subject.start.backwards,
            signer: signer.public(),
        };
        let life = subject.life;
        let (log, found) = AuditLog::open(disk, path, signer, planted)?;
        let mut journal = Self {
            log,
            subject,
            open: None,
            written_at: stamp.now,
            found_index: found.index,
            heard: found.witnessed.into_iter().map(Heard::before).collect(),
            tell: false,
            told: 0,
            closed: false,
        };
        if found.entries == 0 {
            journal.write(stamp, opened)?;
        }
        if found.entries > 0 || found.cut_bytes > 0 {
            let resumed = Event::Resumed { life, cut_bytes: found.cut_bytes, cut_hash: found.cut_hash };
            journal.write(stamp, resumed)?;
        }
        journal.log.sign(&stamp.utc())?;
        Ok(journal)
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &AuditLog<D> {
        &self.log
    }

    /// Whether all that was recorded outlasts a crash.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.open.is_none() && !self.log.waits()
    }

    fn write(&mut self, stamp: Stamp, event: Event) -> Result<(), AuditLogError> {
        kept(self.log.append(&stamp.utc(), event))
    }

    fn after(&self, step: u64) -> u64 {
        self.subject.start.after(step)
    }

    /// Writes down what was recorded.
    ///
    /// # Errors
    /// If the disk is full, say: then it is kept and written later. Only after [`AuditLogError::Full`] is something missing.
    pub fn record(&mut self, stamp: Stamp, event: AuditEvent) -> Result<(), AuditLogError> {
        assert!(!self.closed, "{event:?} after the end of the log");
        match event {
            AuditEvent::Decided(decision) => self.decided(stamp, *decision),
            AuditEvent::Began(config) => self.began(stamp, &config),
            AuditEvent::UnsoundCopy { step, why } => {
                self.close_range(stamp)?;
                self.write(stamp, Event::UnsoundCopy { step: self.after(step), why })
            }
        }
    }

    fn began(&mut self, stamp: Stamp, config: &Config) -> Result<(), AuditLogError> {
        self.close_range(stamp)?;
        let copy_of_step = self.after(config.restart.step);
        let event = Event::Epoch {
            branch: config.branch,
            epoch: config.epoch.0,
            coordinator: config.coordinator.0,
            members: config.nodes().map(|node| node.0).collect(),
            isolated: config.isolated.keys().map(|node| node.0).collect(),
            why: grievances(config),
            from_step: copy_of_step,
            to_step: self.after(config.head.step),
            index: config.head.index,
            root: StateRoot(config.head.root).to_string(),
            decision: blake3::Hash::from_bytes(config.head.hash.0).to_string(),
        };
        self.write(stamp, event)?;
        for (&from, &by) in config.adoption.iter().filter(|(from, by)| from != by) {
            self.write(stamp, Event::TookOver { from: from.0, by: by.0, copy_of_step })?;
        }
        self.mark(stamp)?;
        self.written_at = stamp.now;
        self.log.sign(&stamp.utc())
    }

    fn decided(&mut self, stamp: Stamp, decision: Decision) -> Result<(), AuditLogError> {
        match &decision.verdict {
            Verdict::Commit => self.committed(stamp, decision),
            Verdict::CommitAndRecord(breach) | Verdict::CommitAndStop(breach) => {
                let (step, what) = (self.after(decision.step), breach.to_string());
                self.extend_range(stamp, decision)?;
                self.close_range(stamp)?;
                self.write(stamp, Event::Breached { step, what })?;
                self.log.sign(&stamp.utc())
            }
            Verdict::Undo { cause, then } => {
                self.close_range(stamp)?;
                let (step, why, index) = (self.after(decision.step), cause.to_string(), decision.index);
                let event = Event::Undone { epoch: decision.epoch.0, step, index, why, decision: hex_of(&decision) };
                self.write(stamp, event)?;
                if let Then::Isolate(node) = then {
                    self.write(stamp, Event::Isolated { node: node.0, why: cause.to_string() })?;
                }
                self.log.sign(&stamp.utc())
            }
        }
    }

    fn committed(&mut self, stamp: Stamp, decision: Decision) -> Result<(), AuditLogError> {
        let (boundary, compared) = (decision.boundary.is_some(), decision.index == self.found_index);
        self.extend_range(stamp, decision)?;
        if compared {
            self.close_range(stamp)?;
        }
        if boundary {
            self.mark(stamp)?;
        }
        self.tend(stamp)
    }

    /// One line is of one epoch, and without a gap.
    fn extend_range(&mut self, stamp: Stamp, decision: Decision) -> Result<(), AuditLogError> {
        let follows = |last: &Decision| {
            (last.epoch, last.index + 1, last.step + 1) == (decision.epoch, decision.index, decision.step)
        };
        if self.open.as_ref().is_some_and(|(_, last)| !follows(last)) {
            self.close_range(stamp)?;
        }
        let first = self.open.take().map_or(decision.step, |(first, _)| first);
        self.open = Some((first, decision));
        Ok(())
    }

    /// Writes down the steps that became final.
    fn close_range(&mut self, stamp: Stamp) -> Result<(), AuditLogError> {
        let Some((first, last)) = self.open.take() else { return Ok(()) };
        let event = Event::Committed {
            epoch: last.epoch.0,
            from: self.after(first),
            to: self.after(last.step),
            index: last.index,
            root: StateRoot(last.totals.root).to_string(),
            decision: hex_of(&last),
        };
        self.write(stamp, event)
    }

    /// Does what is due: steps that became final a while ago are written down, and what waits for the disk is tried again.
    ///
    /// # Errors
    /// As [`Journal::record`].
    pub fn tend(&mut self, stamp: Stamp) -> Result<(), AuditLogError> {
        let due = stamp.now.since(self.written_at) > WRITE_NS && (self.open.is_some() || self.log.waits());
        if due { self.flush(stamp) } else { Ok(()) }
    }

    /// Writes down the steps that became final, signs, and brings all to the disk.
    ///
    /// # Errors
    /// As [`Journal::record`].
    pub fn flush(&mut self, stamp: Stamp) -> Result<(), AuditLogError> {
        self.written_at = stamp.now;
        self.close_range(stamp)?;
        self.log.sign(&stamp.utc())
    }

    /// The run is over here. Others may still be heard, until [`Journal::finish`].
    ///
    /// # Errors
    /// As [`Journal::record`].
    pub fn close(&mut self, stamp: Stamp, step: u64, root: StateRoot, reason: &str) -> Result<(), AuditLogError> {
        assert!(!self.closed, "the log has an end already");
        self.close_range(stamp)?;
        let event = Event::Closed { step: self.after(step), root: root.to_string(), reason: reason.to_owned() };
        self.write(stamp, event)?;
        (self.closed, self.tell) = (true, true);
        self.flush(stamp)
    }

    /// Nobody is heard any more.
    ///
    /// # Errors
    /// As [`Journal::record`].
    pub fn finish(mut self, stamp: Stamp) -> Result<(), AuditLogError> {
        self.bear_witness(stamp)?;
        self.flush(stamp)
    }

    // ---------------------------------------------------------------------------------------- other nodes' logs

    /// The end of the log that the others are to be told now: signed, and on the disk for good.
    pub fn take_head(&mut self) -> Option<Head> {
        let head = self.log.head().filter(|head| self.tell && head.entry > self.told)?.clone();
        (self.tell, self.told) = (false, head.entry);
        Some(head)
    }

    /// Another node says that its log ends so, in this life. Only the newest is kept, until the next time that is written down.
    ///
    /// # Errors
    /// What is wrong with it. Nothing of it is kept then.
    pub fn hear(&mut self, node: NodeId, life: u64, head: Head) -> Result<(), String> {
        head.check()?;
        if let Some(known) = self.heard.get(&node) {
            if known.head.key != head.key {
                return Err(format!("{node} signs with the key {}, and with {} before", head.key, known.head.key));
            }
            if (life, head.entry) == (known.life, known.head.entry) && head != known.head {
                return Err(format!("{node} has signed two lines {}", head.entry));
            }
            // What was overtaken on its way is no news.
            if (life, head.entry) <= (known.life, known.head.entry) {
                return Ok(());
            }
        }
        self.heard.insert(node, Heard { life, head, written: false });
        Ok(())
    }

    /// Writes down what was heard of other logs since the last time, and has this one told to the others.
    fn mark(&mut self, stamp: Stamp) -> Result<(), AuditLogError> {
        self.tell = true;
        self.bear_witness(stamp)
    }

    fn bear_witness(&mut self, stamp: Stamp) -> Result<(), AuditLogError> {
        let fresh = self.heard.iter_mut().filter(|(_, heard)| !heard.written);
        let entries: Vec<Event> = fresh.map(|(node, heard)| heard.entry(*node)).collect();
        if !entries.is_empty() {
            self.close_range(stamp)?;
        }
        entries.into_iter().try_for_each(|entry| self.write(stamp, entry))
    }
}

impl Heard {
    /// What stands in the log already.
    fn before((node, (life, head)): (u16, (u64, Head))) -> (NodeId, Self) {
        (NodeId(node), Self { life, head, written: true })
    }

    fn entry(&mut self, node: NodeId) -> Event {
        self.written = true;
        let Head { entry, utc, previous, key, signature } = self.head.clone();
        Event::Witness { node: node.0, life: self.life, entry, utc, previous, key, signature }
    }
}

impl Journal {
    /// The log in a file, which may be there already.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn in_file(path: &Path, signer: Signer, subject: Subject, stamp: Stamp) -> Result<Self, AuditLogError> {
        let disk = FileDisk::open(path);
        let disk = disk.map_err(|error| AuditLogError::File { path: PathBuf::from(path), error })?;
        Self::open(disk, path, signer, subject, stamp, None)
    }
}

/// An entry that the disk did not take waits for it: more may follow.
fn kept(appended: Result<(), AuditLogError>) -> Result<(), AuditLogError> {
    match appended {
        Err(AuditLogError::File { .. }) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { now: Time(0), unix_us: 1_767_225_600_000_000 };

    fn journal(name: &str, node: u16, signer: &Signer) -> (Journal, PathBuf) {
        let path = std::env::temp_dir().join(format!("emmy-journal-{name}-{node}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let subject = Subject {
            run: "test".into(),
            scenario: String::new(),
            program: "emmy".into(),
            node: NodeId(node),
            life: 1,
            start: Clock { step: 0, dt: 1.0, backwards: false },
        };
        (Journal::in_file(&path, signer.clone(), subject, STAMP).expect("a new file"), path)
    }

    /// The end of a log that was closed.
    fn end(name: &str, node: u16, signer: &Signer, reason: &str) -> Head {
        let (mut journal, path) = journal(name, node, signer);
        assert_eq!(journal.take_head(), None, "nothing has happened");
        journal.close(STAMP, 0, StateRoot(7), reason).unwrap();
        std::fs::remove_file(path).unwrap();
        let head = journal.take_head().expect("it was signed");
        assert_eq!(journal.take_head(), None, "it was told");
        head
    }

    #[test]
    fn what_others_say_of_their_logs_is_checked_and_the_newest_is_written_down() {
        let (one, other) = (Signer::of(&[1; 32]), Signer::of(&[2; 32]));
        let (mut journal, path) = journal("witness", 0, &one);
        let first = end("witness", 1, &other, "closed");
        let forged = Head { entry: 9, ..first.clone() };
        assert!(journal.hear(NodeId(1), 1, forged).unwrap_err().contains("the signature is not of"));
        journal.hear(NodeId(1), 1, first.clone()).unwrap();
        let second = end("witness", 1, &other, "stopped");
        assert!(journal.hear(NodeId(1), 1, second.clone()).unwrap_err().contains("has signed two lines 4"));
        let wrong_key = end("witness", 1, &one, "closed");
        assert!(journal.hear(NodeId(1), 2, wrong_key).unwrap_err().contains("signs with the key"));
        // In another life it may have another log.
        journal.hear(NodeId(1), 2, second.clone()).unwrap();
        journal.hear(NodeId(1), 1, first).unwrap();
        journal.close(STAMP, 0, StateRoot(7), "closed").unwrap();
        journal.finish(STAMP).unwrap();

        let text = std::fs::read_to_string(&path).unwrap();
        let witness: Vec<&str> = text.lines().filter(|line| line.contains("\"witness\"")).collect();
        assert!(witness.len() == 1 && witness[0].contains(&second.signature), "{text}");
        let found = crate::audit_log::verify_file(&path, Some(&one.public())).unwrap();
        assert_eq!((found.witnesses, found.unsigned, found.closed.as_deref()), (1, 0, Some("closed")));
        std::fs::remove_file(path).unwrap();
    }
}
