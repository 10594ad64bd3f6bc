//! Logs that are what was written and logs that are not, on disks that fail.

use std::{cell::RefCell, io, path::Path, rc::Rc};

use super::*;

const UTC: &str = "2026-01-01T00:00:00Z";

/// What a disk has, and how it fails.
#[derive(Debug, Default)]
struct Platter {
    bytes: Vec<u8>,
    /// How much would outlast a crash.
    synced: usize,
    /// Bytes that it takes yet.
    room: Option<usize>,
    /// Whether a sync fails; what was written before is lost then, and reads as if it were there.
    sync_fails: bool,
    lost_from: Option<usize>,
    truncations: usize,
}

#[derive(Clone, Debug, Default)]
struct MemoryDisk(Rc<RefCell<Platter>>);

impl Disk for MemoryDisk {
    fn length(&mut self) -> io::Result<u64> {
        Ok(self.0.borrow().bytes.len() as u64)
    }

    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let platter = self.0.borrow();
        let rest = &platter.bytes[(at as usize).min(platter.bytes.len())..];
        let some = rest.len().min(into.len());
        into[..some].copy_from_slice(&rest[..some]);
        Ok(some)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.0.borrow_mut();
        let taken = platter.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        platter.bytes.extend_from_slice(&bytes[..taken]);
        platter.room = platter.room.map(|room| room - taken);
        if taken == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut platter = self.0.borrow_mut();
        assert!(length as usize >= platter.synced, "what was on the disk for good is cut off");
        platter.bytes.truncate(length as usize);
        platter.lost_from = platter.lost_from.filter(|from| *from < length as usize);
        platter.truncations += 1;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut platter = self.0.borrow_mut();
        if platter.sync_fails {
            platter.lost_from = platter.lost_from.or(Some(platter.synced));
            return Err(io::Error::other("the disk does not answer"));
        }
        platter.synced = platter.lost_from.unwrap_or(platter.bytes.len());
        Ok(())
    }
}

impl MemoryDisk {
    fn bytes(&self) -> Vec<u8> {
        self.0.borrow().bytes.clone()
    }

    /// What is there after a crash.
    fn crashed(&self) -> Vec<u8> {
        let platter = self.0.borrow();
        platter.bytes[..platter.synced].to_vec()
    }

    fn of(bytes: &[u8]) -> Self {
        Self(Rc::new(RefCell::new(Platter { bytes: bytes.to_vec(), ..Platter::default() })))
    }
}

fn signer() -> Signer {
    Signer::of(&[7; 32])
}

fn hash(of: u64) -> String {
    blake3::hash(&of.to_le_bytes()).to_string()
}

fn root(of: u64) -> String {
    hash(of)[..32].to_owned()
}

fn opened() -> Event {
    let text = str::to_owned;
    Event::Opened {
        run: text("test"),
        scenario: hash(0),
        program: text("emmy"),
        node: 0,
        life: 1,
        step: 0,
        backwards: false,
        signer: signer().public(),
    }
}

fn resumed(life: u64) -> Event {
    Event::Resumed { life, cut_bytes: 0, cut_hash: hash(0) }
}

/// An epoch that begins after as many decisions as steps.
fn epoch(number: u32, from_step: u64, to_step: u64) -> Event {
    begins(0, number, from_step, (to_step, to_step))
}

fn begins(branch: u64, epoch: u32, from_step: u64, (to_step, index): (u64, u64)) -> Event {
    let (root, decision) = (root(to_step), hash(index));
    let (members, isolated) = (vec![0, 1], vec![2]);
    Event::Epoch {
        branch,
        epoch,
        coordinator: 0,
        members,
        isolated,
        why: Vec::new(),
        from_step,
        to_step,
        index,
        root,
        decision,
    }
}

/// Steps without an undo before them.
fn committed(epoch: u32, from: u64, to: u64) -> Event {
    decided(epoch, from, to, to)
}

fn decided(epoch: u32, from: u64, to: u64, index: u64) -> Event {
    Event::Committed { epoch, from, to, index, root: root(to), decision: hash(index) }
}

fn undone(epoch: u32, step: u64, index: u64) -> Event {
    Event::Undone { epoch, step, index, why: "momentum".into(), decision: hash(index) }
}

fn closed(step: u64) -> Event {
    Event::Closed { step, root: root(step), reason: "closed".into() }
}

fn log_on(disk: &MemoryDisk) -> (AuditLog<MemoryDisk>, Recovered) {
    AuditLog::open(disk.clone(), Path::new("log"), signer(), None).expect("a log")
}

fn checked(bytes: &[u8]) -> Result<Verified, String> {
    verify(Path::new("log"), bytes, None).map_err(|error| error.to_string())
}

/// A log of these entries, signed at its end.
fn log_of(entries: &[Event]) -> Vec<u8> {
    let disk = MemoryDisk::default();
    let (mut log, _) = log_on(&disk);
    entries.iter().for_each(|entry| log.append(UTC, entry.clone()).unwrap());
    log.sign(UTC).unwrap();
    disk.bytes()
}

/// A log of twelve lines, five of them signatures.
fn written() -> Vec<u8> {
    let disk = MemoryDisk::default();
    let (mut log, _) = log_on(&disk);
    log.append(UTC, opened()).unwrap();
    log.append(UTC, epoch(1, 0, 0)).unwrap();
    for from in [1, 11, 21] {
        log.append(UTC, committed(1, from, from + 9)).unwrap();
        log.sign(UTC).unwrap();
    }
    log.append(UTC, undone(1, 31, 31)).unwrap();
    log.sign(UTC).unwrap();
    log.append(UTC, closed(30)).unwrap();
    log.sign(UTC).unwrap();
    log.sign(UTC).unwrap();
    disk.bytes()
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|&byte| byte == b'\n').collect()
}

#[test]
fn what_was_written_verifies_and_says_what_happened() {
    let bytes = written();
    let found = checked(&bytes).unwrap();
    assert_eq!((found.entries, found.signatures, found.unsigned), (12, 5, 0));
    assert_eq!((found.committed, found.undone, found.closed.as_deref()), (30, 1, Some("closed")));

    let with = |bytes: &[u8], signer: &Signer| verify(Path::new("log"), bytes, Some(&signer.public()));
    assert_eq!(with(&bytes, &signer()).unwrap(), found);
    assert!(with(&bytes, &Signer::of(&[8; 32])).unwrap_err().to_string().contains("not with"));
    let unsigned = lines(&bytes)[..2].concat();
    assert_eq!(checked(&unsigned).unwrap().unsigned, 2);
    let refused = with(&unsigned, &signer()).unwrap_err().to_string();
    assert!(refused.contains("line 2: the log ends here"), "{refused}");
}

#[test]
fn any_changed_byte_and_any_moved_line_is_found() {
    let bytes = written();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(checked(&bad).is_err(), "byte {at}");
    }
    let lines = lines(&bytes);
    for at in 0..lines.len() {
        let mut fewer = lines.clone();
        fewer.remove(at);
        // Only the last lines can go without a trace in the chain itself: others have witnessed them.
        assert!(checked(&fewer.concat()).is_err() || at + 1 == lines.len(), "line {at}");
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        assert!(checked(&twice.concat()).is_err(), "line {at} twice");
    }
}

// ------------------------------------------------------------------------------------------------------ disks

#[test]
fn wherever_a_crash_tears_the_last_write_the_log_goes_on_and_says_what_was_cut() {
    let bytes = written();
    let before = lines(&bytes)[..10].concat().len();
    for at in before..bytes.len() {
        let disk = MemoryDisk::of(&bytes[..at]);
        let (mut log, found) = log_on(&disk);
        let whole = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        assert_eq!((found.cut_bytes, found.index), ((at - whole) as u64, 31), "at byte {at}");
        assert_eq!(found.cut_hash, blake3::hash(&bytes[whole..at]).to_string());
        let Recovered { cut_bytes, cut_hash, .. } = found;
        log.append(UTC, Event::Resumed { life: 2, cut_bytes, cut_hash }).unwrap();
        log.sign(UTC).unwrap();
        let found = checked(&disk.bytes()).unwrap();
        assert_eq!((found.cut_bytes, found.unsigned, found.lives), ((at - whole) as u64, 0, vec![1, 2]));
        assert!(disk.bytes().starts_with(&bytes[..whole]));
    }
}

#[test]
fn what_a_crash_mixed_up_behind_the_last_sync_is_cut_off() {
    let bytes = written();
    // The line before the last signature never reached the disk: zeros stand in its place.
    let from = lines(&bytes)[..10].concat().len();
    let to = from + lines(&bytes)[10].len();
    let mut holed = bytes.clone();
    holed[from..to].fill(0);
    let (_, found) = log_on(&MemoryDisk::of(&holed));
    assert_eq!((found.entries, found.cut_bytes), (10, (bytes.len() - from) as u64));
}

#[test]
fn what_was_changed_in_front_of_two_signatures_was_no_crash() {
    let bytes = written();
    let mut changed = bytes.clone();
    changed[lines(&bytes)[..4].concat().len() + 40] ^= 1;
    let disk = MemoryDisk::of(&changed);
    let refused = AuditLog::open(disk.clone(), Path::new("log"), signer(), None).unwrap_err().to_string();
    assert!(refused.contains("log, line 5: ") && refused.contains("no crash did this"), "{refused}");
    assert_eq!(disk.bytes(), changed, "evidence is left alone");
    // Nor is it gone on with under another key.
    let other = AuditLog::open(MemoryDisk::of(&bytes), Path::new("log"), Signer::of(&[8; 32]), None);
    assert!(other.unwrap_err().to_string().contains("log, line 1: the log of somebody who signs with"));
}

#[test]
fn a_full_disk_loses_nothing_and_leaves_no_half_line() {
    let disk = MemoryDisk::default();
    let (mut log, _) = log_on(&disk);
    log.append(UTC, opened()).unwrap();
    log.append(UTC, epoch(1, 0, 0)).unwrap();
    log.sign(UTC).unwrap();
    let head = log.head().cloned();
    let good = disk.bytes();
    for room in 0..60 {
        disk.0.borrow_mut().room = Some(room);
        let step = room as u64 + 1;
        assert!(log.append(UTC, committed(1, step, step)).is_err());
        assert!(log.sign(UTC).is_err());
        assert_eq!(log.head(), head.as_ref(), "nothing is told that is not on the disk");
        assert!(log.waits() && disk.bytes().starts_with(&good));
    }
    disk.0.borrow_mut().room = None;
    log.sign(UTC).unwrap();
    assert_ne!(log.head(), head.as_ref());
    let found = checked(&disk.bytes()).unwrap();
    assert_eq!((found.committed, found.unsigned), (60, 0));
    assert!(disk.0.borrow().truncations > 50, "half lines were cut off");
}

#[test]
fn a_sync_that_failed_is_not_believed_afterwards() {
    let disk = MemoryDisk::default();
    let (mut log, _) = log_on(&disk);
    log.append(UTC, opened()).unwrap();
    log.append(UTC, epoch(1, 0, 0)).unwrap();
    log.sign(UTC).unwrap();
    let good = disk.crashed();
    disk.0.borrow_mut().sync_fails = true;
    for step in 1..=5 {
        log.append(UTC, committed(1, step, step)).unwrap();
        assert!(log.sign(UTC).is_err());
        assert_eq!(disk.crashed(), good);
    }
    let signatures = String::from_utf8(disk.bytes()).unwrap().matches("\"signed\"").count();
    assert_eq!(signatures, 2, "one signature at most waits for its sync");
    disk.0.borrow_mut().sync_fails = false;
    log.sign(UTC).unwrap();
    let found = checked(&disk.crashed()).unwrap();
    assert_eq!((found.committed, found.unsigned, found.signatures), (5, 0, 3));
    assert_eq!(log.head().map(|head| head.entry), Some(found.entries));
}

#[test]
fn what_waits_for_a_disk_has_an_end_and_an_entry_beyond_it_is_refused_by_name() {
    let disk = MemoryDisk::default();
    let (mut log, _) = log_on(&disk);
    log.append(UTC, opened()).unwrap();
    disk.0.borrow_mut().room = Some(0);
    let why = "x".repeat(1 << 18);
    let refused = (0..100).find_map(|_| {
        let appended = log.append(UTC, Event::UnsoundCopy { step: 0, why: why.clone() });
        appended.err().filter(|error| matches!(error, AuditLogError::Full { .. }))
    });
    assert!(refused.is_some_and(|error| error.to_string().contains("wait for the disk")));
    disk.0.borrow_mut().room = None;
    log.sign(UTC).unwrap();
    assert!(!log.waits() && checked(&disk.bytes()).is_ok());
}

// --------------------------------------------------------------------------------------------------- contents

/// The words of a refusal, and the line that it names.
#[track_caller]
fn refused(entries: &[Event], line: u64, words: &str) {
    let all = [&[opened()], entries].concat();
    let fault = checked(&log_of(&all)).expect_err(words);
    assert!(fault.starts_with(&format!("log, line {line}: ")) && fault.contains(words), "{fault}");
}

fn fine(entries: &[Event]) -> Verified {
    let all = [&[opened()], entries].concat();
    checked(&log_of(&all)).unwrap()
}

#[test]
fn what_follows_what_is_fine() {
    assert_eq!(fine(&[epoch(1, 0, 0), committed(1, 1, 5), committed(1, 6, 6), closed(6)]).committed, 6);
    // Undone, and taken again in the next epoch: decision 7 is on step 6.
    let again = [committed(1, 1, 5), undone(1, 6, 6), begins(0, 2, 3, (5, 6)), decided(2, 6, 9, 10), closed(9)];
    assert_eq!(fine(&[&[epoch(1, 0, 0)], &again[..]].concat()).committed, 9);
    // The last decision of an epoch may come with the beginning of the next.
    assert_eq!(fine(&[epoch(1, 0, 0), committed(1, 1, 5), committed(1, 6, 6), epoch(2, 4, 6)]).committed, 6);
    // Absent from decision 6 to 19, and in epoch 2.
    let absent = [epoch(1, 0, 0), committed(1, 1, 5), committed(1, 20, 22), committed(2, 23, 30), epoch(3, 20, 30)];
    assert_eq!(fine(&[&absent[..], &[committed(3, 31, 31), closed(31)]].concat()).committed, 31);
    // Started anew, and handed over what it had known.
    let anew =
        [epoch(1, 0, 0), committed(1, 1, 9), resumed(2), committed(1, 3, 9), committed(1, 10, 12), epoch(2, 3, 12)];
    assert_eq!(fine(&anew).lives, [1, 2]);
    // Sent on alone, killed, and taken in by the others again.
    let alone = [epoch(1, 0, 0), committed(1, 1, 9), begins(5, 2, 3, (9, 9)), committed(2, 10, 12)];
    fine(&[&alone[..], &[resumed(2), committed(1, 3, 9), committed(2, 10, 11), epoch(3, 3, 11)]].concat());
    // Nothing whole was left of the log, and it begins anew.
    assert_eq!(fine(&[resumed(1), epoch(1, 0, 0), committed(1, 1, 3)]).lives, [1]);
    // Never taken in.
    assert_eq!(fine(&[closed(0)]).committed, 0);
    // Cut off before the epoch that would say why: that is for whoever reads it to judge.
    let open = fine(&[epoch(1, 0, 0), committed(1, 1, 5), committed(1, 9, 9)]);
    assert_eq!(open.gap, Some((4, "decision 6 of epoch 1".to_owned())));
}

#[test]
fn steps_and_decisions_that_do_not_follow_are_named() {
    let begun = [epoch(1, 0, 0), committed(1, 1, 5)];
    let after = |entries: &[Event]| [&begun[..], entries].concat();
    refused(&after(&[decided(1, 7, 8, 7)]), 4, "step 7 was decided here, and step 6 should have been");
    refused(&after(&[decided(1, 5, 6, 7)]), 4, "step 5 was decided here, and step 6 should have been");
    refused(&after(&[committed(1, 5, 6)]), 4, "decision 5 stands here, and decision 6 should");
    refused(&after(&[committed(1, 7, 7), closed(7)]), 5, "line 4 is not decision 6 of epoch 1, and no epoch began");
    refused(&after(&[undone(1, 6, 6), decided(1, 6, 6, 7), closed(6)]), 6, "line 5 is not decision 7 of epoch 1");
    refused(&after(&[committed(1, 9, 9), decided(1, 11, 11, 11)]), 5, "decision 11 stands here, and decision 10");
    refused(&after(&[committed(1, 7, 600)]), 4, "594 decisions, and no epoch that hands them over: decision 6");
    refused(&[closed(3), closed(3)], 3, "an entry after the end of the run");
    refused(&after(&[closed(4)]), 4, "the run ends after step 4, and step 5 was the last");
    refused(&[committed(1, 1, 1), closed(1)], 3, "1 decisions before this, and no epoch");
    refused(&[epoch(1, 0, 0), committed(1, 0, 3)], 3, "the last of them should not come first");
    refused(&[epoch(1, 0, 0), committed(1, 4, 3)], 3, "the last of them should not come first");
    refused(&[epoch(1, 0, 0), decided(1, 1, 9, 3)], 3, "there are fewer decisions than steps");
    refused(&[epoch(1, 0, 0), decided(1, 0, u64::MAX, 3)], 3, "the last of them should not come first");
    refused(&after(&[undone(1, 8, 6)]), 4, "step 8 was decided here, and step 6 should have been");
}

#[test]
fn epochs_that_begin_elsewhere_are_named() {
    let begun = [epoch(1, 0, 0), committed(1, 1, 9)];
    let after = |entries: &[Event]| [&begun[..], entries].concat();
    refused(&after(&[epoch(1, 3, 9)]), 4, "epoch 1 begins, and epoch 1 has begun before");
    refused(&after(&[epoch(2, 3, 8)]), 4, "the epoch begins after decision 8, and 9 was decided");
    refused(&after(&[epoch(2, 10, 9)]), 4, "epoch 2 goes back to step 10, and step 9 is the last");
    refused(&after(&[epoch(2, 3, 12)]), 4, "what stands before it ends with decision 9 on step 9");
    refused(&after(&[begins(0, 2, 3, (9, 10))]), 4, "what stands before it ends with decision 9 on step 9");
    refused(&after(&[begins(5, 2, 3, (9, 9)), epoch(3, 3, 9)]), 5, "went on alone in branch 5");
    refused(&after(&[committed(1, 15, 15), epoch(2, 3, 16)]), 5, "ends with decision 15 on step 15");
    refused(&[epoch(1, 0, 5)], 2, "ends with decision 0 on step 0");
    refused(&after(&[Event::TookOver { from: 0, by: 1, copy_of_step: 0 }]), 4, "a copy of step 0 is taken over");
    let took = Event::TookOver { from: 0, by: 1, copy_of_step: 4 };
    refused(&after(&[epoch(2, 3, 9), took]), 5, "a copy of step 4 is taken over; the epoch began with that of step 3");
    refused(&after(&[resumed(1)]), 4, "life 1 begins after life 1");
}

#[test]
fn another_decision_or_root_for_what_was_decided_before_is_named() {
    let begun = [epoch(1, 0, 0), committed(1, 1, 9), resumed(2)];
    let other = |root_of: u64, decision: u64| Event::Committed {
        epoch: 1,
        from: 1,
        to: 9,
        index: 9,
        root: root(root_of),
        decision: hash(decision),
    };
    let then = [committed(1, 10, 12), epoch(2, 3, 12)];
    let all = |event: Event| [&begun[..], &[event], &then[..]].concat();
    fine(&all(other(9, 9)));
    refused(&all(other(8, 9)), 7, "decision 9 on step 9 was another one before");
    refused(&all(other(9, 8)), 7, "decision 9 on step 9 was another one before");
    let wrong = Event::Closed { step: 9, root: root(8), reason: "closed".into() };
    refused(&[epoch(1, 0, 0), committed(1, 1, 9), wrong], 4, "another root than step 9 had");
    let bad = Event::Committed { epoch: 1, from: 1, to: 1, index: 1, root: "r".into(), decision: hash(1) };
    refused(&[epoch(1, 0, 0), bad], 3, "the root is no 32 hexadecimal digits");
}

#[test]
fn what_belongs_to_a_decision_stands_behind_it() {
    let breached = |step| Event::Breached { step, what: "momentum".into() };
    let isolated = || Event::Isolated { node: 1, why: "momentum".into() };
    let begun = [epoch(1, 0, 0), committed(1, 1, 5)];
    let after = |entries: &[Event]| [&begun[..], entries].concat();
    fine(&after(&[breached(5)]));
    fine(&after(&[undone(1, 6, 6), isolated()]));
    refused(&after(&[breached(4)]), 4, "a breach of step 4, and step 5 was the last");
    refused(&after(&[isolated()]), 4, "node 1 is left out, and no step was undone for it");
}

#[test]
fn a_run_that_goes_backwards_counts_down() {
    let opened = Event::Opened {
        run: "test".into(),
        scenario: hash(0),
        program: "emmy".into(),
        node: 0,
        life: 1,
        step: 100,
        backwards: true,
        signer: signer().public(),
    };
    let steps = |from, to, index| Event::Committed { epoch: 1, from, to, index, root: root(to), decision: hash(index) };
    let begin = begins(0, 1, 100, (100, 0));
    let found = checked(&log_of(&[opened.clone(), begin.clone(), steps(99, 90, 10), closed(90)])).unwrap();
    assert_eq!(found.committed, 10);
    let fault = checked(&log_of(&[opened, begin, steps(101, 102, 2)])).unwrap_err();
    assert!(fault.contains("step 101 lies before the start of the run, step 100"), "{fault}");
}

#[test]
fn no_number_is_too_large_to_be_refused() {
    let numbers = [0, 1, 2, 1 << 53, u64::MAX - 1, u64::MAX];
    let mut refused = 0;
    for a in numbers {
        for b in numbers {
            for (c, number) in [(1, 1), (b, 1), (u64::MAX, u32::MAX)] {
                let begun = [epoch(1, 0, 0), decided(number, a, b, c), undone(number, b, c)];
                let others =
                    [begins(b, number, a, (b, c)), Event::Breached { step: a, what: String::new() }, closed(b)];
                for one in begun.iter().chain(&others) {
                    let all = [opened(), epoch(1, 0, 0), one.clone(), begins(a, number, b, (a, c)), closed(a)];
                    refused += usize::from(checked(&log_of(&all)).is_err());
                }
            }
        }
    }
    assert!(refused > 500, "{refused}");
}

// ---------------------------------------------------------------------------------------------------- witness

/// The log of another node, which bears witness for these lines of a log.
fn witness(of: &[u8], life: u64, entries: &[u64]) -> Vec<u8> {
    let mut chain = chain::Chain::new(of, None);
    let mut all = vec![opened_by(1)];
    while let Ok(Some(line)) = chain.next() {
        if let Some(head) = Head::of(&line).filter(|head| entries.contains(&head.entry)) {
            let Head { entry, utc, previous, key, signature } = head;
            all.push(Event::Witness { node: 0, life, entry, utc, previous, key, signature });
        }
    }
    log_of(&all)
}

fn opened_by(who: u16) -> Event {
    let Event::Opened { run, scenario, program, life, step, backwards, signer, .. } = opened() else { unreachable!() };
    Event::Opened { run, scenario, program, node: who, life, step, backwards, signer }
}

fn crossed(log: &[u8], other: &[u8]) -> Result<Witnessed, String> {
    let found = checked(log)?;
    cross_check_lines((Path::new("log"), &found, log), (Path::new("other"), other)).map_err(|error| error.to_string())
}

#[test]
fn a_log_fits_to_what_was_witnessed_of_it_and_one_that_was_written_anew_does_not() {
    let bytes = written();
    let other = witness(&bytes, 1, &[4, 8, 12]);
    assert_eq!(crossed(&bytes, &other).unwrap(), Witnessed { heads: 3, up_to: 12, of_other_lives: 0 });
    // By its owner, who has the key: all but the first steps are others.
    let disk = MemoryDisk::of(&lines(&bytes)[..4].concat());
    let (mut log, _) = log_on(&disk);
    log.append(UTC, committed(1, 11, 30)).unwrap();
    log.sign(UTC).unwrap();
    (0..6).for_each(|_| log.append(UTC, Event::Breached { step: 30, what: "mass".into() }).unwrap());
    let anew = disk.bytes();
    assert!(checked(&anew).is_ok(), "by itself it is what was written");
    let fault = crossed(&anew, &other).unwrap_err();
    assert!(fault.starts_with("log, line 8: another line 8 was witnessed (other, line 3)"), "{fault}");
    // Cut off behind a signature.
    let fault = crossed(&lines(&bytes)[..10].concat(), &other).unwrap_err();
    assert!(fault.starts_with("log, line 10: the log ends here, and its line 12 was witnessed"), "{fault}");
}

#[test]
fn witness_counts_for_the_lives_of_a_log_and_for_its_run_and_key_alone() {
    let bytes = written();
    let later = witness(&bytes, 9, &[4, 8]);
    assert_eq!(crossed(&bytes, &later).unwrap(), Witnessed { heads: 0, up_to: 0, of_other_lives: 2 });
    let forged = Signer::of(&[8; 32]);
    let line = event::Line { entry: 4, utc: UTC.into(), event: unsigned(&forged), previous: hash(4) };
    let (key, signature, utc, previous) = (forged.public(), forged.sign(&line), line.utc.clone(), hash(4));
    let event = Event::Witness { node: 0, life: 1, entry: 4, utc, previous, key, signature };
    let fault = crossed(&bytes, &log_of(&[opened_by(1), event.clone()])).unwrap_err();
    assert!(fault.contains(&format!("log, line 1: node 0 signed with the key {}", forged.public())), "{fault}");

    let Event::Witness { node, life, utc, previous, key, signature, .. } = event else { unreachable!() };
    let other = Event::Witness { node, life, entry: 5, utc, previous, key, signature };
    let fault = crossed(&bytes, &log_of(&[opened_by(1), other])).unwrap_err();
    assert!(fault.contains("other, line 2: witness for node 0: the signature is not of"), "{fault}");
}

fn unsigned(by: &Signer) -> Event {
    Event::Signed { key: by.public(), signature: String::new() }
}
