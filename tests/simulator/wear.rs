//! What wears out: disks that fill up, fail or are slow for a while, letters that come cut off, links that carry only so much.

use emmy::{
    audit_log::{Head, Planted},
    coordinator::Letter,
    wire::NodeId,
};

use crate::{
    chance::Chance,
    world::{Event, MS, World},
};

/// Which of these faults a seed has.
#[derive(Clone, Debug)]
pub(crate) struct Wear {
    pub(crate) full: bool,
    pub(crate) failing: bool,
    pub(crate) slow: bool,
    /// Who is started anew may find an empty disk.
    pub(crate) emptied: bool,
    /// How many of a thousand letters come cut off.
    truncated: u64,
    /// What a link carries [bytes per ms], and how much may wait for it [ns].
    carries: Option<u64>,
    queue_ns: u64,
    /// A fault of the writer of logs.
    pub(crate) planted: Option<Planted>,
}

impl Wear {
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 4);
        let mut has = |thousandths| chance.once_in_1000(thousandths);
        let (full, failing, slow, emptied) = (has(250), has(250), has(150), has(400));
        let (truncated, narrow) = (has(200), has(200));
        Self {
            full,
            failing,
            slow,
            emptied,
            truncated: if truncated { chance.between(1, 100) } else { 0 },
            carries: narrow.then(|| chance.between(20, 400)),
            queue_ns: chance.between(5 * MS, 200 * MS),
            planted: None,
        }
    }
}

/// What happens to disks, and between logs.
#[derive(Clone, Debug)]
pub(crate) enum DiskEvent {
    /// Something happens to a disk.
    Chaos,
    /// A disk is mended.
    Mended { node: NodeId },
    /// A node hears how the log of another one ended in one of its lives.
    Heard { to: NodeId, from: NodeId, life: u64, head: Head },
}

impl World {
    /// How long a letter waits for its link; nothing if it does not get through.
    pub(crate) fn carry(&mut self, way: (NodeId, NodeId), letter: &Letter) -> Option<u64> {
        let (now, wear) = (self.now, self.swarm.wear.clone());
        let link = self.links.get_mut(&way).expect("a link of this world");
        if wear.truncated > 0 && link.chance.once_in_1000(wear.truncated) {
            let bytes = letter.to_bytes();
            let short = &bytes[..link.chance.below(bytes.len() as u64) as usize];
            assert!(Letter::from_bytes(short).is_err(), "{} of {} bytes were read", short.len(), bytes.len());
            self.checks.count("a letter came cut off");
            return None;
        }
        let Some(carries) = wear.carries else { return Some(0) };
        let free = link.busy_until.max(now);
        if free - now > wear.queue_ns {
            self.checks.count("a link dropped what it had no room for");
            return None;
        }
        link.busy_until = free + letter.to_bytes().len() as u64 * MS / carries;
        Some(link.busy_until - now)
    }

    pub(crate) fn on_disk(&mut self, event: DiskEvent) {
        match event {
            DiskEvent::Chaos => self.wear_a_disk(),
            DiskEvent::Mended { node } => self.logs.disk(node).mend(),
            DiskEvent::Heard { to, from, life, head } => self.hear_head(to, (from, life), head),
        }
    }

    /// A disk fills up, fails or is slow for a while.
    fn wear_a_disk(&mut self) {
        if self.calm {
            return;
        }
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let (wear, chance) = (self.swarm.wear.clone(), &mut self.logs.chance);
        let node = *chance.pick(&ids).expect("there are nodes");
        let (what, wait) = (chance.below(3), chance.between(30 * MS, 400 * MS));
        let until = self.now + chance.between(20 * MS, 3_000 * MS);
        let disk = self.logs.disk(node);
        match what {
            0 if wear.full => disk.0.borrow_mut().is_full = true,
            1 if wear.failing => disk.0.borrow_mut().fails_to_sync = true,
            // Who writes waits for it.
            2 if wear.slow => {
                self.checks.count("a disk was slow");
                let wakes = until.min(self.now + 500 * MS).max(self.nodes[&node].paused_until);
                self.node(node).paused_until = wakes;
            }
            _ => {}
        }
        self.at(until, Event::Disk(DiskEvent::Mended { node }));
        self.at(self.now + wait, Event::Disk(DiskEvent::Chaos));
    }
}
