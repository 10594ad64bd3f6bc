//! The audit logs of all nodes, written by the production journal onto fake disks, and what must hold of them.
//!
//! Checked whenever a node is started anew and at the end of a seed: a log verifies from its first line; what a sync has confirmed is there,
//! byte for byte; so is every decision, undo and epoch that the node had handed out when its journal said that all is on the disk, and every
//! end that others were told; and what it says of a decision is what all others say.

use std::{collections::BTreeMap, path::Path};

use emmy::{
    audit_log::{self, Event as Entry, Head, Planted, Signer, Verified, cross_check_lines},
    coordinator::{AuditEvent, Hash, Then, Verdict},
    server::journal::{Journal, Stamp, Subject},
    step::Clock,
    wire::{NodeId, Time},
};
use serde_json::Value;

use crate::{
    chance::Chance,
    disk::FakeDisk,
    wear::DiskEvent,
    world::{Event, MS, World},
};

/// What a node handed out for its log.
#[derive(Clone, Debug)]
enum Handed {
    Decision { branch: u64, index: u64, isolates: Option<NodeId>, undone: bool },
    Epoch { branch: u64, epoch: u32 },
}

/// One disk, and what its log must have.
#[derive(Debug)]
struct NodeLog {
    disk: FakeDisk,
    journal: Option<Journal<FakeDisk>>,
    branch: u64,
    handed: Vec<Handed>,
    /// How many of them the journal said are on the disk for good.
    safe: usize,
    /// Ends that others were told.
    told: Vec<Head>,
    /// The log as it was checked last.
    prefix: Vec<u8>,
    cut_bytes: u64,
}

/// All logs.
pub(crate) struct Logs {
    pub(crate) chance: Chance,
    seed: u64,
    planted: Option<Planted>,
    logs: BTreeMap<NodeId, NodeLog>,
}

/// What a log says.
#[derive(Default)]
struct Said {
    /// Hashes of all lines.
    lines: Vec<String>,
    /// The first decision of each range, by branch and last.
    ranges: BTreeMap<(u64, u64), u64>,
    undone: BTreeMap<(u64, u64), Option<u16>>,
    epochs: Vec<(u64, u32)>,
    /// Hashes of decisions of the run itself, by index.
    hashes: BTreeMap<u64, String>,
}

impl Logs {
    pub(crate) fn new(seed: u64, planted: Option<Planted>) -> Self {
        Self { chance: Chance::new(seed, 5), seed, planted, logs: BTreeMap::new() }
    }

    pub(crate) fn disk(&self, node: NodeId) -> &FakeDisk {
        &self.logs[&node].disk
    }

    fn signer(&self, node: NodeId) -> Signer {
        Signer::of(&[node.0 as u8 + 1; 32])
    }

    fn of(&mut self, node: NodeId) -> &mut NodeLog {
        self.logs.get_mut(&node).expect("a node of this world")
    }

    /// A node begins its log, or goes on with what its disk has.
    fn open(&mut self, node: NodeId, life: u64, stamp: Stamp) {
        let (signer, planted) = (self.signer(node), self.planted);
        let subject = Subject {
            run: format!("{:016x}", self.seed),
            scenario: String::new(),
            program: "simulator".to_owned(),
            node,
            life,
            start: Clock { step: 0, dt: 1.0, backwards: false },
        };
        let log = self.of(node);
        let journal = Journal::open(log.disk.clone(), &path(node), signer, subject, stamp, planted);
        log.journal = Some(journal.unwrap_or_else(|error| panic!("{node} cannot go on with its log: {error}")));
        log.branch = 0;
    }
}

fn path(node: NodeId) -> std::path::PathBuf {
    Path::new(&node.to_string()).to_owned()
}

fn stamp(now: u64) -> Stamp {
    Stamp { now: Time(now), unix_us: (now / 1000) as i64 }
}

impl NodeLog {
    fn new(disk: FakeDisk) -> Self {
        Self {
            disk,
            journal: None,
            branch: 0,
            handed: Vec::new(),
            safe: 0,
            told: Vec::new(),
            prefix: Vec::new(),
            cut_bytes: 0,
        }
    }

    fn hand(&mut self, event: &AuditEvent) {
        match event {
            AuditEvent::Decided(decision) => {
                let isolates = match &decision.verdict {
                    Verdict::Undo { then: Then::Isolate(node), .. } => Some(*node),
                    _ => None,
                };
                let (index, undone) = (decision.index, !decision.verdict.is_commit());
                self.handed.push(Handed::Decision { branch: self.branch, index, isolates, undone });
            }
            AuditEvent::Began(config) => {
                self.branch = config.branch;
                self.handed.push(Handed::Epoch { branch: config.branch, epoch: config.epoch.0 });
            }
            AuditEvent::UnsoundCopy { .. } => {}
        }
    }

    /// Looks how much the journal says is safe, and which end it has told.
    fn look(&mut self) -> Option<Head> {
        let journal = self.journal.as_mut()?;
        if journal.is_settled() {
            self.safe = self.handed.len();
        }
        let head = journal.take_head()?;
        self.told.push(head.clone());
        Some(head)
    }

    /// Holds the log to what it must have.
    fn check(&mut self, node: NodeId, signer: &Signer, truth: impl Fn(u64) -> Option<Hash>) -> Verified {
        let bytes = self.disk.bytes();
        let found = audit_log::verify(&path(node), &bytes, Some(&signer.public()));
        let found = found.unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(&bytes)));
        assert!(bytes.starts_with(&self.prefix), "{node}: the log was changed");
        let said = Said::of(&bytes);
        for head in &self.told {
            let line = said.lines.get(head.entry as usize - 1);
            assert_eq!(line, Some(&head.hash().to_string()), "{node} has told others of line {}", head.entry);
        }
        self.handed[..self.safe].iter().for_each(|handed| said.must_hold(node, handed));
        for (index, hash) in &said.hashes {
            let due = truth(*index).unwrap_or_else(|| panic!("{node}: nobody was told decision {index}"));
            assert_eq!(
                *hash,
                blake3::Hash::from_bytes(due.0).to_string(),
                "{node}: its log has another decision {index}"
            );
        }
        self.prefix = bytes;
        found
    }
}

impl Said {
    fn of(bytes: &[u8]) -> Self {
        let (mut said, mut branch, mut undone) = (Self::default(), 0, None);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let value: Value = serde_json::from_slice(line).expect("it was verified");
            said.lines.push(blake3::hash(line.trim_ascii_end()).to_string());
            let entry: Entry = serde_json::from_value(value["event"].clone()).expect("it was verified");
            match entry {
                Entry::Resumed { .. } => branch = 0,
                Entry::Epoch { branch: now, epoch, .. } => {
                    branch = now;
                    said.epochs.push((branch, epoch));
                }
                Entry::Committed { from, to, index, decision, .. } => {
                    let first = index - (to - from);
                    // What is handed over again may begin later and end there, too.
                    said.ranges.entry((branch, index)).and_modify(|known| *known = first.min(*known)).or_insert(first);
                    said.hashes.extend((branch == 0).then_some((index, decision)));
                }
                Entry::Undone { index, decision, .. } => {
                    undone = Some((branch, index));
                    said.undone.insert((branch, index), None);
                    said.hashes.extend((branch == 0).then_some((index, decision)));
                }
                Entry::Isolated { node, .. } => {
                    said.undone.insert(undone.expect("a step was undone for it"), Some(node));
                }
                _ => {}
            }
        }
        said
    }

    fn must_hold(&self, node: NodeId, handed: &Handed) {
        let there = match handed {
            Handed::Decision { branch, index, isolates, undone: true } => {
                self.undone.get(&(*branch, *index)) == Some(&isolates.map(|node| node.0))
            }
            Handed::Decision { branch, index, .. } => {
                let mut ranges = self.ranges.range((*branch, *index)..=(*branch, u64::MAX));
                ranges.any(|(_, first)| first <= index)
            }
            Handed::Epoch { branch, epoch } => self.epochs.contains(&(*branch, *epoch)),
        };
        assert!(there, "{node}: {handed:?} is not in the log, and was on the disk");
    }
}

impl World {
    /// Everybody begins a log.
    pub(crate) fn begin_logs(&mut self) {
        let ids: Vec<NodeId> = self.partitions.keys().copied().collect();
        for id in ids {
            let disk = FakeDisk::empty(Chance::new(self.seed, 2000 + u64::from(id.0)));
            self.logs.logs.insert(id, NodeLog::new(disk));
            self.logs.open(id, 1, stamp(self.now));
        }
        self.at(30 * MS, Event::Disk(DiskEvent::Chaos));
    }

    /// A node hands something out for its log.
    pub(crate) fn write_down(&mut self, id: NodeId, event: AuditEvent) {
        let at = stamp(self.now);
        let log = self.logs.of(id);
        log.hand(&event);
        let journal = log.journal.as_mut().expect("it lives");
        let refused = journal.record(at, event).is_err();
        self.after_writing(id, refused);
    }

    /// What is due by the clock.
    pub(crate) fn tend_log(&mut self, id: NodeId) {
        let at = stamp(self.now);
        let refused = self.logs.of(id).journal.as_mut().expect("it lives").tend(at).is_err();
        self.after_writing(id, refused);
    }

    fn after_writing(&mut self, id: NodeId, refused: bool) {
        if refused {
            let platter = self.logs.disk(id).0.borrow();
            let full = platter.is_full;
            drop(platter);
            self.checks.count(if full { "a disk was full" } else { "a sync failed" });
        }
        let Some(head) = self.logs.of(id).look() else { return };
        let Some(config) = self.machine(id).and_then(|machine| machine.config()) else { return };
        let others: Vec<NodeId> = config.nodes().filter(|node| *node != id).collect();
        // One of them hears it: a signature takes long to check.
        let chance = &mut self.logs.chance;
        let (to, wait) = (chance.pick(&others).copied(), chance.exponential(10 * MS));
        if let Some(to) = to.filter(|_| self.logs.chance.once_in_1000(300)) {
            let life = self.nodes[&id].life.0;
            self.at(self.now + wait, Event::Disk(DiskEvent::Heard { to, from: id, life, head }));
        }
    }

    pub(crate) fn hear_head(&mut self, to: NodeId, (from, life): (NodeId, u64), head: Head) {
        if self.machine(to).is_some() {
            let journal = self.logs.of(to).journal.as_mut().expect("it lives");
            journal.hear(from, life, head).unwrap_or_else(|why| panic!("{to} does not believe {from}: {why}"));
        }
    }

    /// The power goes.
    pub(crate) fn crash_log(&mut self, id: NodeId) {
        let log = self.logs.of(id);
        log.journal = None;
        log.disk.crash();
        // What was not safe may be there or not.
        log.handed.truncate(log.safe);
    }

    /// A new life finds the old disk, or an empty one.
    pub(crate) fn reopen_log(&mut self, id: NodeId, life: u64) {
        let lost = self.swarm.wear.emptied && self.logs.chance.once_in_1000(400);
        if lost {
            let disk = FakeDisk::empty(Chance::new(self.seed, 3000 + u64::from(id.0) + 64 * life));
            *self.logs.of(id) = NodeLog::new(disk);
        }
        // Nothing is wrong with the disk of somebody who is started: they would not be.
        self.logs.disk(id).mend();
        self.checks.count(if lost { "restart with an empty disk" } else { "restart with the old disk" });
        self.logs.open(id, life, stamp(self.now));
        self.check_log(id);
    }

    fn check_log(&mut self, id: NodeId) -> Verified {
        let signer = self.logs.signer(id);
        let log = self.logs.logs.get_mut(&id).expect("a node of this world");
        let found = log.check(id, &signer, |index| self.checks.decision(index));
        if found.cut_bytes > log.cut_bytes {
            log.cut_bytes = found.cut_bytes;
            self.checks.count("a torn write was recovered from");
        }
        found
    }

    /// At the end of a seed: those that live bring all to their disks, the others are started once more.
    pub(crate) fn check_logs(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let mut found = BTreeMap::new();
        for id in &ids {
            self.logs.disk(*id).mend();
            let (at, lives) = (stamp(self.now), self.machine(*id).is_some());
            if !lives {
                self.crash_log(*id);
                let life = self.nodes[id].life.0 + 1;
                self.logs.open(*id, life, at);
            }
            let log = self.logs.of(*id);
            let flushed = log.journal.as_mut().expect("it was opened").flush(at);
            flushed.unwrap_or_else(|error| panic!("{id}: nothing is wrong with its disk: {error}"));
            log.look();
            assert!(!lives || log.safe == log.handed.len(), "{id}: not all that was handed out is on the disk");
            found.insert(*id, self.check_log(*id));
        }
        self.hold_a_log_to_another(&ids, &found);
    }

    /// What one log witnesses of another is there. One pair of each seed: signatures take long to check.
    fn hold_a_log_to_another(&mut self, ids: &[NodeId], found: &BTreeMap<NodeId, Verified>) {
        let of = *self.logs.chance.pick(ids).expect("there are nodes");
        let by = ids.iter().copied().filter(|id| *id != of).max_by_key(|id| found[id].witnesses);
        let Some(by) = by else { return };
        let (bytes, others) = (self.logs.disk(of).bytes(), self.logs.disk(by).bytes());
        let (path, other) = (path(of), path(by));
        let crossed = cross_check_lines((&path, &found[&of], &bytes[..]), (&other, &others[..]));
        let crossed = crossed.unwrap_or_else(|error| panic!("{error}"));
        if crossed.heads > 0 {
            self.checks.count("a log was held to another");
        }
    }
}
