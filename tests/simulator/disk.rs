//! A disk that does what disks may do: it takes a part of a write, fills up, fails to sync and forgets then what it was to bring down,
//! and after a crash it has of all that was not synced some writes, not others, and half of the last.

use std::{cell::RefCell, io, rc::Rc};

use emmy::audit_log::Disk;

use crate::chance::Chance;

/// A change that was not synced.
#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Cut { length: usize },
}

/// What a disk has.
#[derive(Debug)]
pub(crate) struct Platter {
    /// As who reads it sees it.
    cached: Vec<u8>,
    /// As it is under the power switch.
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// How much a sync has confirmed.
    confirmed: usize,
    chance: Chance,
    pub(crate) is_full: bool,
    pub(crate) fails_to_sync: bool,
    /// Writes that it did not take, and syncs that failed.
    pub(crate) refused: u64,
    pub(crate) unconfirmed: u64,
}

/// A disk that outlives the node that writes on it.
#[derive(Clone, Debug)]
pub(crate) struct FakeDisk(pub(crate) Rc<RefCell<Platter>>);

impl FakeDisk {
    pub(crate) fn empty(chance: Chance) -> Self {
        Self(Rc::new(RefCell::new(Platter {
            cached: Vec::new(),
            durable: Vec::new(),
            unsynced: Vec::new(),
            confirmed: 0,
            chance,
            is_full: false,
            fails_to_sync: false,
            refused: 0,
            unconfirmed: 0,
        })))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.borrow().cached.clone()
    }

    /// Nothing is wrong with it any more.
    pub(crate) fn mend(&self) {
        let mut platter = self.0.borrow_mut();
        (platter.is_full, platter.fails_to_sync) = (false, false);
    }

    /// The power goes: some changes arrived, the last of them perhaps in part.
    pub(crate) fn crash(&self) {
        let platter = &mut *self.0.borrow_mut();
        let mut arrived: Vec<Change> = std::mem::take(&mut platter.unsynced);
        arrived.retain(|_| platter.chance.once_in_1000(600));
        if let Some(Change::Write { bytes, .. }) = arrived.last_mut() {
            let torn = platter.chance.below(bytes.len() as u64 + 1) as usize;
            bytes.truncate(torn);
        }
        arrived.iter().for_each(|change| change.apply(&mut platter.durable));
        platter.cached = platter.durable.clone();
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                let end = (at + bytes.len()).max(to.len());
                // What lies between, and never arrived, is zeros.
                to.resize(end, 0);
                to[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Cut { length } => to.truncate(*length),
        }
    }
}

impl Disk for FakeDisk {
    fn length(&mut self) -> io::Result<u64> {
        Ok(self.0.borrow().cached.len() as u64)
    }

    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let platter = self.0.borrow();
        let rest = platter.cached.get(at as usize..).unwrap_or_default();
        let some = rest.len().min(into.len());
        into[..some].copy_from_slice(&rest[..some]);
        Ok(some)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let platter = &mut *self.0.borrow_mut();
        let taken = if platter.is_full { platter.chance.below(bytes.len() as u64) as usize } else { bytes.len() };
        let change = Change::Write { at: platter.cached.len(), bytes: bytes[..taken].to_vec() };
        change.apply(&mut platter.cached);
        platter.unsynced.push(change);
        platter.refused += u64::from(platter.is_full);
        if platter.is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let platter = &mut *self.0.borrow_mut();
        let length = length as usize;
        assert!(length >= platter.confirmed, "cut to {length} bytes; {} were on the disk for good", platter.confirmed);
        let change = Change::Cut { length };
        change.apply(&mut platter.cached);
        platter.unsynced.push(change);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let platter = &mut *self.0.borrow_mut();
        if platter.fails_to_sync {
            // The system takes pages that it could not bring down for clean: they read well, and never arrive.
            let chance = &mut platter.chance;
            platter.unsynced.retain(|_| chance.once_in_1000(500));
            platter.unconfirmed += 1;
            return Err(io::Error::other("the disk does not answer"));
        }
        let arrived = std::mem::take(&mut platter.unsynced);
        arrived.iter().for_each(|change| change.apply(&mut platter.durable));
        platter.confirmed = platter.cached.len();
        Ok(())
    }
}
