//! A run whose particles are moved by nodes elsewhere: what the client of a cluster sees of it.
//!
//! The client allows steps, hears where the run stands, and asks for particles or energies when someone looks; it decides nothing. It
//! believes who decides about what was decided, and takes particles only if their root is that one. When it hears nothing for too long it stands still at the last state that it holds in full.

use std::{collections::BTreeMap, fmt};

use crate::{
    audit::{BreachReport, Drifts, Recount, Rules},
    backend::cpu::Cpu,
    commit::Breaches,
    ledger::{Amounts, Ledger},
    member::{
        Setup,
        message::{Ask, Counted, Grant, Kind, MESSAGE_BYTES_MAX, News, Remarks, read_particles},
    },
    metrics::{Phases, Stopwatch},
    node::{History, State},
    particle::{Names, Particle, ParticleId},
    partition::RecountShare,
    quanta::Quanta,
    run::{ExitReason, engine::Engine},
    snapshot::{root::StateRoot, validate::check_history},
    step::Clock,
    transport::{Event, Tag, Transport},
    wire::{Epoch, NodeId, Time, decode, encode},
};

/// Questions that are not answered are asked again after so long [ns].
const ASK_NS: u64 = 500_000_000;
/// A call for more steps does not take longer than this, so that signals and progress are answered [ns].
const SPRINT_NS: u64 = 100_000_000;

/// How long the nodes are told that the run is over [ns].
const CLOSE_NS: u64 = 200_000_000;

/// What passes the time while nothing comes.
pub type Idle<T> = Box<dyn FnMut(&mut T)>;
/// What time it is for the client.
pub type Now = Box<dyn Fn() -> Time>;

/// What is done when a node is there again in another life.
pub type OnRestart<T> = Box<dyn FnMut(&mut T, NodeId)>;

/// The client of a run on many nodes.
pub struct Remote<T> {
    transport: T,
    idle: Idle<T>,
    on_restart: Option<OnRestart<T>>,
    now: Now,
    nodes: Vec<NodeId>,
    cpu: Cpu,
    names: Names,
    /// The last state that is held here in full.
    held: State,
    start: Clock,
    clock: Clock,
    history: Option<History>,
    breaches: Breaches,
    root: StateRoot,
    news: Option<News>,
    heard_at: Time,
    /// After such a silence nothing more is expected [ns].
    silence_ns_max: u64,
    lost: Option<String>,
    granted: u64,
    /// The step of the protocol at which somebody looks next.
    looks_at: u64,
    granted_at: Time,
    questions: u16,
    messages: u64,
    pairs_per_step: u64,
    /// The last count: at which step, of which state.
    last_count: Option<(u64, StateRoot, RecountShare, Amounts)>,
    /// The branch that is followed: once an operator has let a node go on alone, its own.
    branch: u64,
    epochs: Vec<Epoch>,
}

impl<T> fmt::Debug for Remote<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("clock", &self.clock).field("news", &self.news).finish_non_exhaustive()
    }
}

impl<T: Transport> Remote<T> {
    /// The client of nodes that were set up like this, and opens the books with them if the run is new. `idle` passes the time while nothing
    /// comes.
    ///
    /// # Errors
    /// If the nodes do not answer.
    pub fn new(setup: Setup, cpu: Cpu, transport: T, silence_seconds: f64, idle: Idle<T>) -> Result<Self, String> {
        let watch = Stopwatch::start();
        let now = Box::new(move || Time(watch.elapsed().as_nanos() as u64));
        Self::with_clock(setup, cpu, transport, silence_seconds, (now, idle))
    }

    /// The same by another clock than that on the wall.
    ///
    /// # Errors
    /// If the nodes do not answer.
    pub fn with_clock(
        setup: Setup,
        cpu: Cpu,
        transport: T,
        silence_seconds: f64,
        (now, idle): (Now, Idle<T>),
    ) -> Result<Self, String> {
        let nodes: Vec<NodeId> = setup.nodes.iter().map(|(node, _)| *node).collect();
        let state = setup.state;
        let root = StateRoot::of_particles(&state.particles);
        let sources = state.particles.iter().filter(|p| p.mass.pulls).count() as u64;
        let tests = state.particles.len() as u64 - sources;
        let pairs = sources * sources.saturating_sub(1) / 2 + sources * tests;
        let mut remote = Self {
            transport,
            idle,
            on_restart: None,
            heard_at: now(),
            granted_at: now(),
            now,
            nodes,
            cpu,
            names: state.names.clone(),
            start: state.clock,
            clock: state.clock,
            history: state.history.clone(),
            breaches: Breaches::default(),
            root,
            news: None,
            silence_ns_max: (silence_seconds * 1e9) as u64,
            lost: None,
            granted: 0,
            looks_at: 0,
            questions: 0,
            messages: 0,
            pairs_per_step: pairs * state.splitting.evaluations() as u64,
            last_count: None,
            branch: 0,
            epochs: Vec::new(),
            held: state,
        };
        if let Some(history) = &remote.history {
            remote.breaches.reports = history.breaches.clone();
        } else {
            remote.open_books()?;
        }
        Ok(remote)
    }

    fn now(&self) -> Time {
        (self.now)()
    }

    /// The number of epochs that were heard of: one more than changes of membership.
    #[must_use]
    pub fn epochs(&self) -> usize {
        self.epochs.len()
    }

    /// Says what is done when a node is there again in another life.
    pub fn on_restart(&mut self, on_restart: OnRestart<T>) {
        self.on_restart = Some(on_restart);
    }

    /// What carries its blocks.
    pub fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    fn open_books(&mut self) -> Result<(), String> {
        self.wait_for_news()?;
        let (share, held) = self.count()?;
        let first = share.recount(&Ledger::default(), self.clock.step);
        let drifts = Drifts::starting_at(&first, share.centre(), share.momentum, &self.held.quanta);
        let ledger = Ledger::opened_with(Amounts { energy: first.energy(), ..held });
        check_history(&ledger, &drifts).map_err(|why| format!("what the nodes count cannot be: {why}"))?;
        let history = History { ledger, drifts, breaches: Vec::new() };
        self.held.history = Some(history.clone());
        self.history = Some(history);
        Ok(())
    }

    fn wait_for_news(&mut self) -> Result<(), String> {
        while self.news.is_none() {
            self.listen()?;
        }
        Ok(())
    }

    // ---------------------------------------------------------------------------------------- messages

    fn send(&mut self, to: NodeId, kind: Kind, part: u16, bytes: Vec<u8>) {
        self.messages += 1;
        let tag = Tag { epoch: Epoch(u32::MAX), step: self.messages, kind: kind as u16, part };
        if let Err(error) = self.transport.post(to, tag, bytes) {
            tracing::debug!("the client: {error}");
        }
    }

    /// Says something without contents to all nodes.
    pub fn say_all(&mut self, kind: u16) {
        for node in self.nodes.clone() {
            self.messages += 1;
            let tag = Tag { epoch: Epoch(u32::MAX), step: self.messages, kind, part: 0 };
            if let Err(error) = self.transport.post(node, tag, Vec::new()) {
                tracing::debug!("the client: {error}");
            }
        }
    }

    /// Sends what is to be sent, and hears nothing.
    pub fn let_go(&mut self) {
        let now = self.now();
        while self.transport.poll(now).is_some() {}
        (self.idle)(&mut self.transport);
    }

    /// Takes in what has come, or passes a little time. Answers to questions are given back.
    ///
    /// # Errors
    /// If nothing has come for too long.
    fn listen(&mut self) -> Result<Vec<(NodeId, Kind, Vec<u8>)>, String> {
        let now = self.now();
        let mut answers = Vec::new();
        while let Some(event) = self.transport.poll(now) {
            if let Event::Restarted { peer, .. } = event
                && let Some(on_restart) = &mut self.on_restart
            {
                on_restart(&mut self.transport, peer);
            }
            let Event::Received { from, tag, bytes, .. } = event else { continue };
            match Kind::of(tag.kind) {
                Some(Kind::News) => match decode::<News>(&bytes, "news", MESSAGE_BYTES_MAX) {
                    // Who does not decide has no news to tell.
                    Ok(news) if news.coordinator == from && self.nodes.contains(&from) => self.hear(news, now),
                    Ok(news) => tracing::warn!("{from} told news of {}: not heard", news.coordinator),
                    Err(error) => tracing::warn!("{from} sent news that cannot be read: {error}"),
                },
                Some(Kind::Remarks) => match decode::<Remarks>(&bytes, "remarks", MESSAGE_BYTES_MAX) {
                    Ok(remarks) => remarks.0.iter().for_each(|remark| tracing::warn!("{from}: {remark}")),
                    Err(error) => tracing::warn!("{from} sent remarks that cannot be read: {error}"),
                },
                Some(kind @ (Kind::Particles | Kind::Counted)) => answers.push((from, kind, bytes)),
                Some(_) => tracing::warn!("{from} sent the client a block of kind {}", tag.kind),
                // Answers to what was said around the run.
                None => {}
            }
        }
        if answers.is_empty() {
            let silent = now.since(self.heard_at);
            if silent > self.silence_ns_max {
                let seconds = silent as f64 * 1e-9;
                return Err(format!("no news for {seconds:.0} s: too few nodes are there to decide anything"));
            }
            if now.since(self.granted_at) > ASK_NS {
                self.grant();
            }
            (self.idle)(&mut self.transport);
        }
        Ok(answers)
    }

    fn hear(&mut self, news: News, now: Time) {
        if news.branch != self.branch && self.branch != 0 {
            return;
        }
        if news.branch != self.branch {
            tracing::warn!("{} goes on alone, in branch {:x} of the run", news.coordinator, news.branch);
            self.branch = news.branch;
        }
        let older = self.news.as_ref().is_some_and(|known| (news.epoch, news.index) < (known.epoch, known.index));
        if older {
            return;
        }
        if news.can_decide || news.stopped {
            self.heard_at = now;
        }
        if self.epochs.last().is_none_or(|last| *last < news.epoch) {
            self.epochs.push(news.epoch);
            let members: Vec<String> = news.members.iter().map(|node| node.0.to_string()).collect();
            tracing::info!("{}: nodes {}, {} decides", news.epoch, members.join(", "), news.coordinator);
        }
        // A new coordinator may still be computing steps again that were told already.
        if self.start.after(news.step).abs_diff(self.start.step) >= self.clock.step.abs_diff(self.start.step) {
            self.clock.step = self.start.after(news.step);
            self.root = StateRoot(news.root);
            if let (Some(notes), Some(history)) = (&news.notes, &mut self.history) {
                history.ledger = notes.ledger.clone();
                history.drifts = notes.drifts;
            }
            // Who decides now may not have been there when earlier ones were found.
            for breach in &news.breaches {
                if !self.breaches.reports.contains(breach) {
                    self.breaches.record(breach.clone());
                }
            }
            self.breaches.stopped = news.stopped;
        }
        self.news = Some(news);
    }

    /// Allows so many more steps, and waits for none of them.
    pub fn allow(&mut self, steps: u64) {
        self.granted = self.granted.max(self.clock.step.abs_diff(self.start.step).saturating_add(steps));
        self.grant();
    }

    fn grant(&mut self) {
        self.granted_at = self.now();
        // Who says nothing is taken for gone.
        let Some(history) = self.history.clone() else { return self.say_all(Kind::Ping as u16) };
        let history = History { breaches: Vec::new(), ..history };
        let bytes = encode(&Grant { up_to: self.granted, history });
        for node in self.nodes.clone() {
            self.send(node, Kind::Grant, 0, bytes.clone());
        }
    }

    /// Asks all members of the present epoch, again and again, until all have answered for the step where the run stands.
    fn ask(&mut self, kind: Kind) -> Result<BTreeMap<NodeId, Vec<u8>>, String> {
        loop {
            self.questions = (self.questions + 1) & 0x7fff;
            let news = self.news.as_ref().ok_or("the nodes have not said where they are")?;
            let step = self.clock.step.abs_diff(self.start.step);
            let ask = Ask { id: self.questions, epoch: news.epoch, step };
            let members = news.members.clone();
            members.iter().for_each(|&node| self.send(node, kind, ask.id, encode(&ask)));
            let (mut answers, asked_at) = (BTreeMap::new(), self.now());
            while self.now().since(asked_at) < ASK_NS.max(self.patience_ns()) {
                for (from, _, bytes) in self.listen()? {
                    if members.contains(&from) && answers_to(&bytes, kind) == Some(ask) {
                        answers.insert(from, bytes);
                    }
                }
                // The run may have gone on meanwhile: then the answers are to a question that is no longer the right one.
                let epoch = self.news.as_ref().map(|news| news.epoch);
                if epoch != Some(ask.epoch) || self.clock.step.abs_diff(self.start.step) != ask.step {
                    break;
                }
                if members.iter().all(|node| answers.contains_key(node)) {
                    return Ok(answers);
                }
            }
        }
    }

    /// How long an answer may take: counting energies is a step's work [ns].
    fn patience_ns(&self) -> u64 {
        self.silence_ns_max / 4
    }

    /// Energy, centre of mass and what the particles hold, where the run stands. Counting costs a step's work, so that it is not done
    /// twice for one state.
    fn count(&mut self) -> Result<(RecountShare, Amounts), String> {
        if let Some((step, root, share, held)) = self.last_count
            && (step, root) == (self.clock.step, self.root)
        {
            return Ok((share, held));
        }
        let answers = self.ask(Kind::Count)?;
        let mut share = RecountShare::default();
        let mut held = Amounts::default();
        let mut root = 0_u128;
        for bytes in answers.values() {
            let counted: Counted = decode(bytes, "count", MESSAGE_BYTES_MAX).map_err(|error| error.to_string())?;
            share = share.plus(counted.share);
            held = held.plus(counted.held);
            root = root.wrapping_add(counted.root);
        }
        if StateRoot(root) == self.root {
            self.last_count = Some((self.clock.step, self.root, share, held));
            Ok((share, held))
        } else {
            Err(format!("the nodes hold a state with root {}, decided was {}", StateRoot(root), self.root))
        }
    }

    fn collect(&mut self) -> Result<Vec<Particle>, String> {
        let answers = self.ask(Kind::Collect)?;
        let mut all = Vec::new();
        for bytes in answers.values() {
            let (_, particles) = read_particles::<Ask>(bytes).map_err(|error| error.to_string())?;
            all.extend(particles);
        }
        all.sort_unstable_by_key(|particle| particle.id);
        let root = StateRoot::of_particles(&all);
        if root == self.root {
            Ok(all)
        } else {
            Err(format!("the nodes sent particles with root {root}, decided was {}", self.root))
        }
    }

    /// Goes back to the last state that is here in full: the run stands still there.
    fn lose(&mut self, why: String) {
        if self.lost.is_some() {
            return;
        }
        tracing::error!("{why}; the run stands at step {}", self.held.clock.step);
        self.lost = Some(why);
        self.clock = self.held.clock;
        self.history.clone_from(&self.held.history);
        self.breaches = Breaches {
            reports: self.history.iter().flat_map(|history| history.breaches.clone()).collect(),
            stopped: false,
        };
        self.root = StateRoot::of_particles(&self.held.particles);
    }

    /// Why the run stands still, if it does.
    #[must_use]
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    fn open_history(&self) -> &History {
        self.history.as_ref().expect("the books are open")
    }
}

/// Which question an answer is to.
fn answers_to(bytes: &[u8], kind: Kind) -> Option<Ask> {
    match kind {
        Kind::Count => decode::<Counted>(bytes, "count", MESSAGE_BYTES_MAX).ok().map(|counted| counted.ask),
        _ => read_particles::<Ask>(bytes).ok().map(|(ask, _)| ask),
    }
}

impl<T: Transport> Engine for Remote<T> {
    fn advance(&mut self, steps: u64) -> u64 {
        let before = self.clock.step;
        let done_steps = self.clock.step.abs_diff(self.start.step);
        let (begun, target) = (self.now(), done_steps.saturating_add(steps));
        // As many again, if nobody looks before: who takes steps does not wait for leave to take the next. Not more, because a run that is
        // interrupted stops where leave ends.
        let ahead = target.saturating_add(steps).min(self.looks_at.max(target));
        if ahead > self.granted {
            self.allow(ahead - done_steps);
        }
        let done = |remote: &Self| remote.clock.step.abs_diff(remote.start.step) >= target || remote.breaches.stopped;
        while !done(self) && self.lost.is_none() {
            if let Err(why) = self.listen() {
                self.lose(why);
                return 0;
            }
            if self.now().since(begun) > SPRINT_NS {
                break;
            }
        }
        self.clock.step.abs_diff(before)
    }

    fn head_for(&mut self, step: u64) {
        self.looks_at = step.abs_diff(self.start.step);
    }

    fn reverse(&mut self) {
        unreachable!("the command line takes runs back on one node only");
    }

    fn look(&mut self) {}

    fn root(&mut self) -> StateRoot {
        self.root
    }

    fn particles(&mut self) -> Vec<Particle> {
        if self.lost.is_none() && self.clock != self.held.clock {
            match self.collect() {
                Ok(particles) => {
                    self.held.particles = particles;
                    self.held.clock = self.clock;
                    let breaches = self.breaches.reports.clone();
                    self.held.history = self.history.clone().map(|history| History { breaches, ..history });
                }
                Err(why) => self.lose(why),
            }
        }
        self.held.particles.clone()
    }

    fn particle(&mut self, id: ParticleId) -> Option<Particle> {
        self.particles().into_iter().find(|particle| particle.id == id)
    }

    fn recount(&mut self) -> Recount {
        let recount = self.count_bounded();
        let (time, quanta, rules) = (self.clock.time(), self.held.quanta, self.held.rules);
        let drifts = &mut self.history.as_mut().expect("the books are open").drifts;
        if let Err(breach) = drifts.take(&recount, time, &quanta, &rules) {
            self.breaches.record(BreachReport { step: recount.step, time, breach, undone: false });
        }
        recount
    }

    fn count_bounded(&mut self) -> Recount {
        if self.lost.is_none() {
            match self.count() {
                Ok((share, _)) => return share.recount(&self.open_history().ledger, self.clock.step),
                Err(why) => self.lose(why),
            }
        }
        // Nobody else can count what is here now.
        let set = crate::particle::WorkingSet::of(&self.held.particles);
        let ledger = &self.open_history().ledger;
        crate::commit::recount(&self.cpu, &set, &self.held.law, &self.held.quanta, ledger, self.clock.step)
    }

    fn counted(&mut self) -> Amounts {
        let mut counted = match self.lost.is_none().then(|| self.count()) {
            Some(Ok((_, held))) => held,
            Some(Err(why)) => {
                self.lose(why);
                self.open_history().ledger.due()
            }
            None => self.open_history().ledger.due(),
        };
        counted.energy = self.drifts().energy_last().saturating_sub(self.ledger().booked().energy);
        counted
    }

    fn state(&mut self) -> State {
        let particles = self.particles();
        let breaches = self.breaches.reports.clone();
        let history = Some(History { breaches, ..self.open_history().clone() });
        State { particles, clock: self.clock, history, ..self.held.clone() }
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn quanta(&self) -> &Quanta {
        &self.held.quanta
    }

    fn ledger(&self) -> &Ledger {
        &self.open_history().ledger
    }

    fn drifts(&self) -> &Drifts {
        &self.open_history().drifts
    }

    fn rules(&self) -> &Rules {
        &self.held.rules
    }

    fn names(&self) -> &Names {
        &self.names
    }

    fn breaches(&self) -> &[BreachReport] {
        &self.breaches.reports
    }

    fn stopped(&self) -> bool {
        self.breaches.stopped
    }

    fn set_stopped(&mut self, stopped: bool) {
        self.breaches.stopped = stopped;
    }

    fn phases(&self) -> &Phases {
        const NONE: &Phases = &Phases { force: 0.0, motion: 0.0, audit: 0.0, transfer: 0.0 };
        NONE
    }

    fn pairs_per_step(&mut self) -> u64 {
        self.pairs_per_step
    }

    fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    fn stands_still(&self) -> bool {
        self.lost.is_some()
    }

    fn standstill(&self) -> ExitReason {
        ExitReason::ClusterLost
    }

    fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn branch(&self) -> u64 {
        self.branch
    }

    fn close(&mut self) {
        self.say_all(Kind::Close as u16);
        let begun = self.now();
        while self.now().since(begun) < CLOSE_NS {
            self.let_go();
        }
    }
}
