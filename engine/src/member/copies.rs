//! Snapshots of a member's own particles, and copies that members keep for each other.

use super::{
    Member,
    message::{Kept, Kind, Snapshot, read_particles, write_particles},
    setup::held_by,
};
use crate::{
    coordinator::{Account, CopyShare, Input, Share},
    particle::Particle,
    partition::{Offence, cuts::Cuts},
    snapshot::root::StateRoot,
    transport::{Tag, Transport},
    wire::{NodeId, Time, encode},
};

impl<T: Transport> Member<T> {
    /// Keeps a snapshot of the committed state, and sends a copy of it to the buddy.
    pub(super) fn copy(&mut self, step: u64, buddy: Option<NodeId>, now: Time) {
        let partition = self.partition.as_mut().expect("it handed over");
        let (particles, cuts) = (partition.particles(), partition.cuts().clone());
        let (held, root) = held_by(&particles, self.common.rules.angular_momentum);
        let gained = partition.carried().iter().map(|(&node, &gained)| (Account::Peer(node), gained)).collect();
        let share = Share { held, gained, root, extra: Vec::new(), work_ns: 0 };
        let epoch = self.machine.epoch();
        let copy = CopyShare { step, share };
        match buddy {
            Some(buddy) => {
                let tag = Tag { epoch, step, kind: Kind::Copy as u16, part: 0 };
                self.post_surely(buddy, tag, write_particles(&cuts, &particles));
                self.copying = Some((epoch, copy));
            }
            None => self.tell(Input::Copied { epoch, copy }, now),
        }
        self.snapshots.insert(step, Snapshot { cuts, particles });
    }

    /// Keeps what another node owns.
    pub(super) fn keep_copy(&mut self, owner: NodeId, tag: Tag, bytes: &[u8], now: Time) {
        let config = self.machine.config().filter(|config| tag.epoch == config.epoch);
        let Some(config) =
            config.filter(|config| config.buddy(owner) == Some(self.me) && tag.step > config.restart.step)
        else {
            return;
        };
        let members: Vec<NodeId> = config.nodes().collect();
        let read = read_particles::<Cuts>(bytes).map_err(|error| error.to_string());
        let sound = |(cuts, _): &(Cuts, Vec<Particle>)| {
            if cuts.sound_for(&members) { Ok(()) } else { Err("a copy with cuts that cannot be used".to_owned()) }
        };
        let (cuts, particles) = match read.and_then(|copy| sound(&copy).map(|()| copy)) {
            Ok(copy) => copy,
            Err(what) => {
                self.accuse(Offence { from: owner, what, block: bytes.to_vec() }, now);
                return;
            }
        };
        let root = StateRoot::of_particles(&particles).0;
        self.copies.insert((owner, tag.step), Snapshot { cuts, particles });
        self.tell(Input::Stored { owner, step: tag.step }, now);
        // However many an owner sends, only so many are kept.
        let machine = &self.machine;
        self.copies.retain(|(owner, step), _| machine.keeps_copy(*owner, *step));
        let receipt = Tag { kind: Kind::Kept as u16, ..tag };
        self.post_surely(owner, receipt, encode(&Kept { step: tag.step, root }));
    }

    pub(super) fn copy_kept(&mut self, from: NodeId, kept: Kept, now: Time) {
        let buddy = self.machine.config().and_then(|config| config.buddy(self.me));
        let fits = self.copying.as_ref().is_some_and(|(_, copy)| copy.step == kept.step);
        if !fits || buddy != Some(from) {
            return;
        }
        let (epoch, copy) = self.copying.take().expect("it was seen just now");
        if copy.share.root == kept.root {
            self.tell(Input::Copied { epoch, copy }, now);
        } else {
            let what = format!("it keeps another copy of step {} than was sent to it", kept.step);
            self.accuse(Offence { from, what, block: encode(&kept) }, now);
        }
    }

    /// What a node owned after a step that was copied.
    pub(super) fn snapshot_of(&self, owner: NodeId, step: u64) -> Snapshot {
        if step == 0 {
            return Snapshot { cuts: self.setup.cuts.clone(), particles: self.setup.particles_of(owner) };
        }
        let own = self.snapshots.get(&step).filter(|_| owner == self.me);
        let kept = own.or_else(|| self.copies.get(&(owner, step)));
        kept.unwrap_or_else(|| panic!("{} was given what it does not keep: {owner} after step {step}", self.me)).clone()
    }
}
