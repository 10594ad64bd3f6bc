//! Whether what a log says fits together: decisions follow each other, and where one is missing, an epoch says why.
//!
//! A member hears of every decision. It misses some only while it is absent: left out, or dead. Then the epoch that takes it in again hands it
//! the last decisions, and says where it begins. So a log may jump forward before an epoch's beginning, and back behind a
//! restart; at the beginning everything must fit again.

use std::collections::{BTreeMap, VecDeque};

use super::{
    event::Event,
    head::{Head, digest, unhex},
};

/// An epoch hands no more decisions than this to who is taken in.
pub const CARRIED_MAX: u64 = 512;
/// No run has more steps, decisions or epochs than this.
const NUMBER_MAX: u64 = 1 << 53;
const EPOCH_MAX: u32 = 1 << 31;
/// Ends of ranges that are remembered: what an epoch hands over again lies among the last [`CARRIED_MAX`] decisions.
const ENDS_MAX: usize = 2 * CARRIED_MAX as usize;
/// Other nodes that a log may bear witness for.
const WITNESSED_MAX: usize = 1 << 10;

/// A decision, as far as it was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    index: u64,
    /// The last committed step, counted from the start.
    step: u64,
    /// The root after it, where the log says so.
    root: Option<[u8; 16]>,
    hash: [u8; 32],
    epoch: u32,
    undone: bool,
}

/// Decisions that came together: one, or one for each of several steps.
struct Range {
    first_index: u64,
    first_step: u64,
    end: End,
}

/// Decisions of a time when this node was absent.
#[derive(Debug, Default)]
struct CatchUp {
    /// Where it began: the line, and what would have fitted there; nothing at the start and behind a restart.
    gap: Option<(u64, String)>,
    /// How many there are.
    count: u64,
    ends: Vec<End>,
}

/// What a log has said so far, as much as what follows must fit to.
#[derive(Debug)]
pub(super) struct History {
    line: u64,
    start: u64,
    backwards: bool,
    /// Branch and number of the epoch.
    epoch: Option<(u64, u32)>,
    from_step: u64,
    last: Option<End>,
    catch_up: Option<CatchUp>,
    /// Whether nothing was decided since the epoch began.
    fresh: bool,
    /// Whether the line before the signatures was an undo.
    undone: bool,
    life: u64,
    closed: bool,
    /// The last decisions of each range, by branch and index.
    ends: BTreeMap<(u64, u64), End>,
    /// In which order they came.
    order: VecDeque<(u64, u64)>,
    /// The newest head of each other node: life, line, hash, key.
    witnessed: BTreeMap<u16, (u64, u64, blake3::Hash, String)>,
}

impl History {
    pub(super) fn new() -> Self {
        Self {
            line: 0,
            start: 0,
            backwards: false,
            epoch: None,
            from_step: 0,
            last: None,
            catch_up: Some(CatchUp::default()),
            fresh: false,
            undone: false,
            life: 0,
            closed: false,
            ends: BTreeMap::new(),
            order: VecDeque::new(),
            witnessed: BTreeMap::new(),
        }
    }

    /// Takes in the entry of a line; what does not fit.
    pub(super) fn take(&mut self, line: u64, event: &Event) -> Result<(), String> {
        self.line = line;
        let after_the_end = matches!(event, Event::Signed { .. } | Event::Witness { .. } | Event::Resumed { .. });
        if self.closed && !after_the_end {
            return Err("an entry after the end of the run".into());
        }
        let undone = std::mem::take(&mut self.undone);
        match event {
            Event::Opened { step, backwards, life, .. } => {
                (self.start, self.backwards, self.life) = (*step, *backwards, *life);
                Ok(())
            }
            Event::Resumed { life, cut_hash, .. } => self.resumed(*life, cut_hash),
            Event::Epoch { .. } => self.began(event),
            Event::Committed { epoch, from, to, index, root, decision } => {
                self.committed(*epoch, (*from, *to), *index, root, decision)
            }
            Event::Undone { epoch, step, index, decision, .. } => {
                self.undone = true;
                self.undo(*epoch, *step, *index, decision)
            }
            Event::Breached { step, .. } => self.breached(*step),
            Event::Isolated { node, .. } if !undone => {
                Err(format!("node {node} is left out, and no step was undone for it"))
            }
            Event::TookOver { copy_of_step, .. } => self.took_over(*copy_of_step),
            Event::UnsoundCopy { .. } => self.settled(),
            Event::Witness { .. } => self.witness(event),
            Event::Closed { step, root, .. } => self.close(*step, root),
            Event::Signed { .. } => {
                self.undone = undone;
                Ok(())
            }
            Event::Isolated { .. } => Ok(()),
        }
    }

    /// What is missing, where the log ends in the middle of it: the line that does not follow, and what would have.
    pub(super) fn gap(&self) -> Option<(u64, String)> {
        self.catch_up.as_ref().and_then(|catch_up| catch_up.gap.clone())
    }

    /// Steps that became final, counted from the start.
    pub(super) fn steps(&self) -> u64 {
        self.last.map_or(0, |last| last.step)
    }

    /// How many steps lie between the start and a step of the run.
    fn steps_to(&self, step: u64) -> Result<u64, String> {
        let steps = if self.backwards { self.start.checked_sub(step) } else { step.checked_sub(self.start) };
        steps.ok_or_else(|| format!("step {step} lies before the start of the run, step {}", self.start))
    }

    /// A number of steps from the start as a step of the run.
    fn step_of(&self, steps: u64) -> u64 {
        if self.backwards { self.start.saturating_sub(steps) } else { self.start.saturating_add(steps) }
    }

    // ---------------------------------------------------------------------------------------- decisions

    fn committed(
        &mut self,
        epoch: u32,
        (from, to): (u64, u64),
        index: u64,
        root: &str,
        decision: &str,
    ) -> Result<(), String> {
        let (first_step, step) = (self.steps_to(from)?, self.steps_to(to)?);
        let more = step.checked_sub(first_step).filter(|_| first_step > 0);
        let more = more.ok_or_else(|| format!("steps {from} to {to}: the last of them should not come first"))?;
        let first_index = index.checked_sub(more).filter(|first| *first > 0);
        let first_index = first_index.ok_or_else(|| {
            format!("{} steps with decisions up to {index}: there are fewer decisions than steps", more + 1)
        })?;
        let (root, hash) = (root_of(root)?, digest(decision, "the hash of the decision")?);
        let end = End { index, step, root: Some(root), hash, epoch, undone: false };
        self.decided(&Range { first_index, first_step, end })
    }

    fn undo(&mut self, epoch: u32, step: u64, index: u64, decision: &str) -> Result<(), String> {
        let first_step = self.steps_to(step)?;
        if index == 0 || first_step == 0 {
            return Err(format!("decision {index} on step {step}: the first decision is 1, on the first step"));
        }
        let hash = digest(decision, "the hash of the decision")?;
        let end = End { index, step: first_step - 1, root: None, hash, epoch, undone: true };
        self.decided(&Range { first_index: index, first_step, end })
    }

    fn decided(&mut self, range: &Range) -> Result<(), String> {
        in_range(range.end.index, range.first_step, range.end.epoch)?;
        if self.catch_up.is_none() {
            let Some(gap) = self.unfitting(range)? else { return self.follow(range) };
            self.catch_up = Some(CatchUp { gap: Some((self.line, gap)), ..CatchUp::default() });
        }
        self.carry(range)
    }

    /// What would have fitted, if these are decisions of a time when the node was absent; fails if there is no such time.
    fn unfitting(&self, range: &Range) -> Result<Option<String>, String> {
        let (Some(last), Some((_, epoch))) = (self.last, self.epoch) else { return Ok(Some("an epoch".into())) };
        let due = last.index + 1;
        if range.first_index < due {
            return Err(format!("decision {} stands here, and decision {due} should", range.first_index));
        }
        let follows = range.first_index == due && range.end.epoch == epoch && !last.undone;
        Ok((!follows).then(|| format!("decision {due} of epoch {epoch}")))
    }

    fn follow(&mut self, range: &Range) -> Result<(), String> {
        let last = self.last.expect("an epoch began");
        self.step_follows(&last, range)?;
        let (branch, _) = self.epoch.expect("an epoch began");
        self.fresh = false;
        self.remember(branch, range.end)
    }

    fn step_follows(&self, last: &End, range: &Range) -> Result<(), String> {
        if range.first_step == last.step + 1 {
            return Ok(());
        }
        let [found, due, last] = [range.first_step, last.step + 1, last.step].map(|steps| self.step_of(steps));
        Err(format!("step {found} was decided here, and step {due} should have been: step {last} was the last"))
    }

    /// Decisions that the next epoch hands over.
    fn carry(&mut self, range: &Range) -> Result<(), String> {
        let catch_up = self.catch_up.as_ref().expect("it was just begun");
        if let Some(last) = catch_up.ends.last() {
            let (due, found) = (last.index + 1, range.first_index);
            if found != due {
                return Err(format!("decision {found} stands here, and decision {due} should"));
            }
            self.step_follows(last, range)?;
            let least = last.epoch + u32::from(last.undone);
            if range.end.epoch < least {
                return Err(format!("a decision of epoch {} after epoch {} was over", range.end.epoch, last.epoch));
            }
        }
        let count = catch_up.count.saturating_add(range.end.index - range.first_index + 1);
        if count > CARRIED_MAX {
            let due = catch_up.gap.as_ref().map_or("an epoch", |(_, due)| due);
            return Err(format!("{count} decisions, and no epoch that hands them over: {due} is missing"));
        }
        let catch_up = self.catch_up.as_mut().expect("as above");
        catch_up.count = count;
        catch_up.ends.push(range.end);
        Ok(())
    }

    /// One decision for each index, with one root.
    fn remember(&mut self, branch: u64, end: End) -> Result<(), String> {
        let place = (branch, end.index);
        if let Some(known) = self.ends.get(&place) {
            if known.hash != end.hash || known.root != end.root {
                return Err(format!(
                    "decision {} on step {} was another one before, with another hash or root",
                    end.index,
                    self.step_of(end.step)
                ));
            }
        } else {
            self.ends.insert(place, end);
            self.order.push_back(place);
        }
        if self.order.len() > ENDS_MAX {
            let oldest = self.order.pop_front().expect("there are many");
            self.ends.remove(&oldest);
        }
        self.last = Some(end);
        Ok(())
    }

    // ---------------------------------------------------------------------------------------- epochs

    fn began(&mut self, event: &Event) -> Result<(), String> {
        let Event::Epoch { branch, epoch, members, isolated, from_step, to_step, index, root, decision, .. } = event
        else {
            unreachable!("{event:?} is no epoch")
        };
        if let Some(node) = members.iter().find(|node| isolated.contains(node)) {
            return Err(format!("node {node} takes part in epoch {epoch}, and was left out for good"));
        }
        let resumed = self.catch_up.as_ref().is_some_and(|catch_up| catch_up.gap.is_none());
        if let Some((before, last)) = self.epoch {
            let elsewhere = before != *branch;
            if elsewhere && !resumed && *branch == 0 {
                return Err(format!("epoch {epoch} is one of the run, and the node went on alone in branch {before}"));
            }
            if *epoch <= last && !(elsewhere && resumed) {
                return Err(format!("epoch {epoch} begins, and epoch {last} has begun before"));
            }
        }
        let (from, step) = (self.steps_to(*from_step)?, self.steps_to(*to_step)?);
        in_range(*index, step, *epoch)?;
        if from > step {
            return Err(format!("epoch {epoch} goes back to step {from_step}, and step {to_step} is the last"));
        }
        let (root, hash) = (root_of(root)?, digest(decision, "the hash of the decision")?);
        let due = End { index: *index, step, root: Some(root), hash, epoch: *epoch, undone: false };
        self.absorb(*branch, due)?;
        (self.epoch, self.from_step, self.fresh) = (Some((*branch, *epoch)), from, true);
        self.last = Some(due);
        Ok(())
    }

    /// The decisions that an epoch hands over are those that it begins after.
    fn absorb(&mut self, branch: u64, due: End) -> Result<(), String> {
        let resumed = self.catch_up.as_ref().is_some_and(|catch_up| catch_up.gap.is_none());
        let elsewhere = self.epoch.is_some_and(|(before, _)| before != branch);
        let CatchUp { ends, .. } = self.catch_up.take().unwrap_or_default();
        let newest = self.ends.range((branch, 0)..=(branch, u64::MAX)).next_back().map(|(_, end)| *end);
        if let Some(newest) = newest.filter(|newest| newest.index > due.index) {
            return Err(format!("the epoch begins after decision {}, and {} was decided", due.index, newest.index));
        }
        // Who went on alone and comes back in another life goes on where the run was, not where it was itself.
        let before = if resumed && elsewhere { newest } else { self.last };
        let last = ends.last().copied().or(before);
        let fits = |last: &End| {
            (last.index, last.step, last.hash) == (due.index, due.step, due.hash)
                && (last.root.is_none() || last.root == due.root)
        };
        if last.is_none_or(|last| !fits(&last)) && (last.is_some() || due.index > 0) {
            let (index, step) = last.map_or((0, 0), |last| (last.index, last.step));
            return Err(format!(
                "the epoch begins after decision {} on step {}; what stands before it ends with decision {index} on step {}",
                due.index,
                self.step_of(due.step),
                self.step_of(step)
            ));
        }
        ends.into_iter().try_for_each(|end| self.remember(branch, end))
    }

    fn resumed(&mut self, life: u64, cut_hash: &str) -> Result<(), String> {
        digest(cut_hash, "the hash of what was cut off")?;
        // A log of which nothing whole was left begins anew, and says so in its second line.
        let anew = self.line == 2 && life == self.life;
        if life <= self.life && !anew {
            return Err(format!("life {life} begins after life {}", self.life));
        }
        (self.life, self.catch_up, self.closed) = (life, Some(CatchUp::default()), false);
        Ok(())
    }

    fn took_over(&self, copy_of_step: u64) -> Result<(), String> {
        self.settled()?;
        if !self.fresh || self.steps_to(copy_of_step)? != self.from_step {
            let due = self.step_of(self.from_step);
            return Err(format!(
                "a copy of step {copy_of_step} is taken over; the epoch began with that of step {due}"
            ));
        }
        Ok(())
    }

    fn breached(&self, step: u64) -> Result<(), String> {
        let last = self.catch_up.as_ref().and_then(|catch_up| catch_up.ends.last()).or(self.last.as_ref());
        let last = last.map_or(0, |last| last.step);
        if self.steps_to(step)? == last {
            Ok(())
        } else {
            Err(format!("a breach of step {step}, and step {} was the last", self.step_of(last)))
        }
    }

    /// Nothing is missing.
    fn settled(&self) -> Result<(), String> {
        match &self.catch_up {
            Some(CatchUp { gap: Some((line, due)), .. }) => {
                Err(format!("line {line} is not {due}, and no epoch began since that says why"))
            }
            Some(catch_up) if catch_up.count > 0 => {
                Err(format!("{} decisions before this, and no epoch that hands them over", catch_up.count))
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self, step: u64, root: &str) -> Result<(), String> {
        self.settled()?;
        let (steps, root) = (self.steps_to(step)?, root_of(root)?);
        self.closed = true;
        // Who was never taken in knows no step.
        let Some(last) = self.last.filter(|_| self.catch_up.is_none()) else { return Ok(()) };
        if last.step != steps {
            return Err(format!("the run ends after step {step}, and step {} was the last", self.step_of(last.step)));
        }
        if last.root.is_some_and(|known| known != root) {
            return Err(format!("the run ends with another root than step {step} had"));
        }
        Ok(())
    }

    // ---------------------------------------------------------------------------------------- others

    fn witness(&mut self, event: &Event) -> Result<(), String> {
        let (node, life, head) = witnessed(event).expect("it bears witness");
        head.check().map_err(|why| format!("witness for node {node}: {why}"))?;
        let hash = head.hash();
        if let Some((before, entry, known, key)) = self.witnessed.get(&node) {
            if *key != head.key {
                return Err(format!("node {node} signs with the key {}, and with {key} before", head.key));
            }
            let later = life > *before || (life == *before && head.entry > *entry);
            if !later && (life, head.entry, hash) != (*before, *entry, *known) {
                return Err(format!(
                    "node {node} had signed line {entry} in life {before}, and signs line {} in life {life}",
                    head.entry
                ));
            }
        } else if self.witnessed.len() >= WITNESSED_MAX {
            return Err(format!("more than {WITNESSED_MAX} nodes"));
        }
        self.witnessed.insert(node, (life, head.entry, hash, head.key));
        Ok(())
    }
}

/// The head that an entry bears witness for: node, life, head.
pub(super) fn witnessed(event: &Event) -> Option<(u16, u64, Head)> {
    let Event::Witness { node, life, entry, utc, previous, key, signature } = event else { return None };
    let [utc, previous, key, signature] = [utc, previous, key, signature].map(Clone::clone);
    Some((*node, *life, Head { entry: *entry, utc, previous, key, signature }))
}

/// Whoever writes the file chooses the numbers.
fn in_range(index: u64, step: u64, epoch: u32) -> Result<(), String> {
    if index <= NUMBER_MAX && step <= NUMBER_MAX && epoch <= EPOCH_MAX {
        Ok(())
    } else {
        Err(format!("decision {index} on step {step} of epoch {epoch}: no run is that long"))
    }
}

fn root_of(text: &str) -> Result<[u8; 16], String> {
    unhex(text).ok_or_else(|| "the root is no 32 hexadecimal digits".into())
}
