//! What a member tells the client: where the run stands, particles, energies, and what else happened.

use super::{
    Member,
    judge::read_notes,
    message::{Ask, Counted, Kind, NEWS_BREACHES_MAX, News, Remarks, write_particles},
};
use crate::{
    coordinator::Config,
    transport::{Tag, Transport},
    wire::{NodeId, Time, encode},
};

/// How long the client waits for news while steps are taken [ns].
const NEWS_NS: u64 = 5_000_000;
/// A replica that is so suspicious is taken for silent when the client is told whether anything can be decided.
const SILENT_PHI_HUNDREDTHS: u32 = 1000;

impl<T: Transport> Member<T> {
    /// Sends the particles, if they were asked for and are where they were asked for.
    pub(super) fn answer_collect(&mut self) {
        let Some(ask) = self.collect else { return };
        let there = self.is_at(ask);
        let at_rest = self.at.is_none() && self.tasks.is_empty();
        let Some(partition) = self.partition.as_mut().filter(|_| there && at_rest) else { return };
        let bytes = write_particles(&ask, &partition.particles());
        self.collect = None;
        let tag = Tag { epoch: ask.epoch, step: ask.step, kind: Kind::Particles as u16, part: ask.id };
        self.post(NodeId::CLIENT, tag, bytes);
    }

    pub(super) fn answer_count(&mut self, ask: Ask, share: crate::partition::RecountShare) {
        let partition = self.partition.as_ref().expect("it counted");
        let counted = Counted { ask, share, held: partition.held(), root: partition.root().0 };
        let tag = Tag { epoch: ask.epoch, step: ask.step, kind: Kind::Counted as u16, part: ask.id };
        self.post(NodeId::CLIENT, tag, encode(&counted));
    }

    /// Whether a majority of the replicas is there, as far as this node hears.
    pub(super) fn can_decide(&self, config: &Config) -> bool {
        let here = |node: &&NodeId| {
            **node == self.me || self.machine.phi_hundredths(**node).is_some_and(|phi| phi < SILENT_PHI_HUNDREDTHS)
        };
        config.replicas.iter().filter(here).count() >= config.majority()
    }

    /// Tells the client what happened here, once.
    pub(super) fn send_remarks(&mut self) {
        let new = &self.remarks[self.remarks_told..];
        if !new.is_empty() && self.post_letter(NodeId::CLIENT, Kind::Remarks, encode(&Remarks(new.to_vec()))) {
            self.remarks_told = self.remarks.len();
        }
    }

    /// Tells the client where the run stands, if this node decides: now and then, at once when the last allowed step is done, and when it
    /// asks.
    pub(super) fn send_news(&mut self, now: Time, asked: bool) {
        let Some(config) = self.machine.config().filter(|config| config.coordinator == self.me) else { return };
        let head = self.machine.head();
        let done = head.step >= self.granted || self.stopped;
        let due = self.news_at.is_none_or(|at| now >= at.plus(if done { 20 * NEWS_NS } else { NEWS_NS }));
        let news = News {
            branch: config.branch,
            epoch: config.epoch,
            coordinator: config.coordinator,
            members: config.nodes().collect(),
            index: head.index,
            step: head.step,
            root: head.root,
            notes: None,
            breaches: Vec::new(),
            stopped: self.stopped,
            can_decide: self.can_decide(config),
        };
        let mark = (news.step >= self.granted, news.stopped, news.epoch);
        if !(due || asked || self.told != Some(mark)) {
            return;
        }
        (self.news_at, self.told) = (Some(now), Some(mark));
        let known = &self.breaches.reports;
        let breaches = known[known.len().saturating_sub(NEWS_BREACHES_MAX)..].to_vec();
        let news = News { notes: read_notes(self.machine.notes()), breaches, ..news };
        self.post_letter(NodeId::CLIENT, Kind::News, encode(&news));
    }
}
