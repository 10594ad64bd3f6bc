//! A server: waits for runs, takes part in one at a time, and waits again.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use super::{
    Line, PATIENCE, PROGRAM, Stack,
    journal::{Journal, Stamp, Subject},
    logbook::{FAREWELL_NS, close_journal, hear_head, stamp, write_down},
    message::{Begin, Description, Kind, Opened, RunStatus, Status},
    new_life, sleep, tell_notices,
};
use crate::{
    audit_log::{self, Signer},
    backend::{cpu::Cpu, isa::Isa},
    coordinator::{NODES_MAX, NOTES_BYTES_MAX, Options},
    member::{
        Activity, Evidence, Member, Setup,
        message::{MESSAGE_BYTES_MAX, Notes, read_particles},
    },
    metrics::Stopwatch,
    node::State,
    particle::{Names, Particle},
    run::StopRequest,
    scenario::read,
    security::keys::{PublicKey, SecretKey},
    snapshot::{root::StateRoot, validate},
    spawn,
    step::Clock,
    text::harmless,
    transport::{Datagrams, Event, Transport, laminar::Place},
    wire::{Incarnation, NodeId, Time, decode, encode},
};

/// A run whose client has not been heard of for so long is given up [ns].
const ABANDONED_NS: u64 = 60_000_000_000;
/// How long a server waits for a run to begin after it was opened [s].
const BEGIN_SECONDS: f64 = 30.0;

/// How long the nodes of a run wait for each other before its first step [s].
const MEET_SECONDS: f64 = 3.0;

/// No silence shorter than this is suspicious [ns].
const SUSPECT_NS_MIN: u64 = 1_000_000_000;
/// Any silence longer than this is [ns].
const SUSPECT_NS_MAX: u64 = 4_000_000_000;
/// No run has more steps than this.
const STEPS_MAX: u64 = 1 << 53;

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who it is.
    pub secret: SecretKey,
    /// Whom it trusts.
    pub trusted: Vec<PublicKey>,
    /// Instruction set.
    pub isa: Isa,
    /// Threads.
    pub threads: usize,
    /// Whether it leaves after one run.
    pub once: bool,
    /// Where audit logs go.
    pub log: Option<PathBuf>,
}

/// A server.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    cpu: Arc<Cpu>,
    up: Stopwatch,
    runs: u64,
}

/// A run that was opened here.
struct Booked {
    description: Description,
    state: State,
    life: Incarnation,
    /// Who opened it, and from where.
    client: PublicKey,
    client_address: Option<SocketAddr>,
    /// The lives of all, once it begins.
    lives: Vec<u64>,
}

/// How a run ended here.
#[derive(Debug)]
enum Ended {
    Closed,
    Abandoned,
    Stopped,
    /// The audit log has no room for what happens: no step is taken without it.
    Unrecorded,
}

impl Server {
    /// A server with these settings.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn new(settings: Settings) -> io::Result<Self> {
        let cpu = Cpu::new(settings.isa, settings.threads).map_err(io::Error::other)?;
        Ok(Self { settings, cpu: Arc::new(cpu), up: Stopwatch::start(), runs: 0 })
    }

    /// Takes part in runs until it is asked to stop, or after one run if it was told so. `ready` is told where it listens.
    ///
    /// # Errors
    /// If the address is taken.
    pub fn serve(&mut self, stop: &StopRequest, mut ready: impl FnMut(SocketAddr)) -> io::Result<()> {
        loop {
            let mut line = self.waiting_line()?;
            // The port of the first line is kept, if any would do.
            self.settings.listen.set_port(line.address()?.port());
            if self.runs == 0 {
                ready(line.address()?);
            }
            let Some(booked) = self.wait_for_run(&mut line, stop) else { return Ok(()) };
            drop(line);
            self.runs += 1;
            let name = booked.state_name();
            // A run that breaks an invariant ends here, with a backtrace; the server waits for the next one all the same.
            match std::panic::catch_unwind(AssertUnwindSafe(|| self.take_part(booked, stop))) {
                Ok(Ok(ended)) => tracing::info!("the run {name} is over here: {ended:?}"),
                Ok(Err(error)) => tracing::error!("the run {name}: {error}"),
                Err(_) => {
                    tracing::error!("the run {name} broke an invariant of this program: please report the lines above")
                }
            }
            if self.settings.once || stop.load(Ordering::Relaxed) != 0 {
                return Ok(());
            }
        }
    }

    fn waiting_line(&self) -> io::Result<Line> {
        let table: BTreeMap<PublicKey, Place> =
            self.settings.trusted.iter().map(|key| (*key, Place::default())).collect();
        Line::open(self.settings.listen, &self.settings.secret, (None, new_life()), &table)
    }

    fn status(&self, run: Option<RunStatus>) -> Status {
        Status {
            program: PROGRAM.to_owned(),
            up_seconds: self.up.seconds(),
            runs: self.runs,
            threads: self.cpu.threads() as u32,
            isa: self.cpu.isa().to_string(),
            run,
        }
    }

    // ---------------------------------------------------------------------------------------- waiting

    /// A run that begins, or nothing if the server is to stop.
    fn wait_for_run(&self, line: &mut Line, stop: &StopRequest) -> Option<Booked> {
        let mut booked: Option<(Booked, NodeId, Stopwatch)> = None;
        while stop.load(Ordering::Relaxed) == 0 {
            for event in line.listen() {
                let Event::Received { from, tag, bytes, .. } = event else { continue };
                match Kind::of(tag.kind) {
                    Some(Kind::Open) if booked.as_ref().is_some_and(|(_, owner, _)| *owner != from) => {
                        let why = "another run was just opened here: try again in a minute".to_owned();
                        line.send(from, Kind::Opened, &Opened::Refused { run: 0, why });
                    }
                    Some(Kind::Open) => match self.book(line, from, &bytes) {
                        Ok(run) => {
                            let joins = run.description.joins;
                            booked = Some((run, from, Stopwatch::start()));
                            if joins {
                                settle(line);
                                return booked.map(|(run, ..)| run);
                            }
                        }
                        Err((run, why)) => {
                            tracing::warn!("a run of {from} is refused: {}", harmless(&why));
                            line.send(from, Kind::Opened, &Opened::Refused { run, why });
                        }
                    },
                    Some(Kind::Begin) => {
                        let begin: Option<Begin> = decode(&bytes, "beginning", MESSAGE_BYTES_MAX).ok();
                        let fits = |(run, client, _): &(Booked, NodeId, Stopwatch)| {
                            let seats = run.description.seats.len();
                            *client == from
                                && begin
                                    .as_ref()
                                    .is_some_and(|begin| begin.run == run.description.run && begin.lives.len() == seats)
                        };
                        if booked.as_ref().is_some_and(fits) {
                            let (mut run, ..) = booked.take()?;
                            run.lives = begin?.lives;
                            // What was received is acknowledged before the line is closed.
                            settle(line);
                            return Some(run);
                        }
                    }
                    Some(Kind::Ask | Kind::Alone) => line.send(from, Kind::Status, &self.status(None)),
                    _ => tracing::debug!("{from} sent a block of kind {} to a server that waits", tag.kind),
                }
            }
            if booked.as_ref().is_some_and(|(.., since)| since.seconds() > BEGIN_SECONDS) {
                tracing::warn!("a run was opened and has not begun: it is forgotten");
                booked = None;
            }
        }
        None
    }

    /// Reads what a client wants, and says that all is ready.
    fn book(&self, line: &mut Line, from: NodeId, bytes: &[u8]) -> Result<Booked, (u64, String)> {
        let (description, particles): (Description, Vec<Particle>) =
            read_particles(bytes).map_err(|error| (0, error.to_string()))?;
        let run = description.run;
        let refuse = |why: String| (run, why);
        let (client, client_address) = line.peer(from).ok_or_else(|| refuse("its key is not known".into()))?;
        let state = self.check(&description, particles).map_err(refuse)?;
        // Who joins keeps to the lives that the run began with: they are part of what all start from.
        let lives = description.lives.clone();
        if description.joins && lives.len() != description.seats.len() {
            return Err(refuse(format!("{} lives of {} nodes", lives.len(), description.seats.len())));
        }
        let life = new_life();
        let opened =
            Opened::Ready { run, life: life.0, threads: self.cpu.threads() as u32, isa: self.cpu.isa().to_string() };
        tracing::info!(
            "opened a run of {} particles as node {} of {}",
            state.particles.len(),
            description.you,
            description.seats.len()
        );
        line.send(from, Kind::Opened, &opened);
        Ok(Booked { description, state, life, client, client_address, lives })
    }

    /// Whether a run can be taken part in: the state at its start.
    fn check(&self, description: &Description, particles: Vec<Particle>) -> Result<State, String> {
        let Description { program, scenario, seats, you, root, .. } = description;
        if seats.len() > NODES_MAX || description.step > STEPS_MAX {
            return Err(format!(
                "{} nodes from step {}: at most {NODES_MAX} nodes take part",
                seats.len(),
                description.step
            ));
        }
        let different: BTreeSet<&str> = seats.iter().map(|seat| seat.key.as_str()).collect();
        if different.len() < seats.len() {
            return Err("two places have one key".into());
        }
        if program != PROGRAM {
            return Err(format!("the client is {program}, this server is {PROGRAM}: run the same version on both"));
        }
        let own = self.settings.secret.public().to_string();
        match seats.get(usize::from(*you)) {
            Some(seat) if seat.key == own => {}
            Some(seat) => return Err(format!("place {you} is that of {}, this server is {own}", seat.key)),
            None => return Err(format!("there is no place {you} among {}", seats.len())),
        }
        for seat in seats {
            let key: PublicKey = seat.key.parse().map_err(|error| format!("`{}`: {error}", seat.key))?;
            if seat.key != own && !self.settings.trusted.contains(&key) {
                return Err(format!("{key} takes part, and this server does not trust it: add it to its trust file"));
            }
        }
        let scenario = read::read("the scenario of the client", scenario, &[])
            .map_err(|report| format!("the scenario is refused: {report}"))?;
        let found = StateRoot::of_particles(&particles);
        if found.0 != *root {
            return Err(format!("the particles have root {found}, the client says {}", StateRoot(*root)));
        }
        validate::check_start(&scenario, &description.quanta, &particles)?;
        let history = description.history.as_ref();
        history.map_or(Ok(()), |history| validate::check_history(&history.ledger, &history.drifts))?;
        let names = Names(description.names.clone());
        let mut state = spawn::state_of(&scenario, description.quanta, particles, names);
        state.clock.step = description.step;
        state.history.clone_from(&description.history);
        let book =
            state.history.as_ref().map(|history| Notes { ledger: history.ledger.clone(), drifts: history.drifts });
        let bytes = book.map_or(0, |book| encode(&book).len());
        if bytes > NOTES_BYTES_MAX / 2 {
            return Err(format!(
                "the book of the run so far has {bytes} bytes: at most {} may be",
                NOTES_BYTES_MAX / 2
            ));
        }
        Ok(state)
    }

    // ---------------------------------------------------------------------------------------- a run

    fn take_part(&self, booked: Booked, stop: &StopRequest) -> io::Result<Ended> {
        let me = NodeId(booked.description.you);
        let mut line = self.run_line(&booked)?;
        meet(&mut line, &booked.lives, me);
        let watch = Stopwatch::start();
        let now = || Time(watch.elapsed().as_nanos() as u64);
        let mut journal = self.journal(&booked, stamp(now())).map_err(io::Error::other)?;
        let nodes = booked.lives.iter().enumerate().map(|(k, &life)| (NodeId(k as u16), Incarnation(life))).collect();
        let (name, start, joins) = (booked.state_name(), booked.state.clock, booked.description.joins);
        let setup = Setup::even(booked.state, nodes);
        let options = options(booked.life);
        let cpu = Arc::clone(&self.cpu);
        let mut member = if joins {
            Member::joining((me, booked.life), setup, cpu, line.stack, options, now())
        } else {
            Member::starting(me, setup, cpu, line.stack, options, now())
        };
        let mut closing: Option<Time> = None;
        let ended = loop {
            let at = now();
            let activity = member.poll(at);
            self.answer_others(&mut member, journal.as_mut(), (&name, start), at);
            tell_notices(member.transport_mut());
            self.keep_evidence(&mut member, &name);
            let events = member.take_events();
            if journal.as_mut().is_some_and(|journal| !write_down(journal, &mut member, events, at)) {
                break Ended::Unrecorded;
            }
            if member.is_closed() && at.since(*closing.get_or_insert(at)) > FAREWELL_NS {
                break Ended::Closed;
            }
            if at.since(member.client_heard_at()) > ABANDONED_NS {
                break Ended::Abandoned;
            }
            if stop.load(Ordering::Relaxed) != 0 {
                break Ended::Stopped;
            }
            rest(&mut member, activity, at);
        };
        tracing::info!("{me}: {}", member.spent());
        if let Some(journal) = journal {
            let closed = close_journal(journal, &mut member, &format!("{ended:?}").to_lowercase(), now);
            closed.unwrap_or_else(|error| tracing::error!("the audit log: {error}"));
        }
        Ok(ended)
    }

    /// Blocks that could not be used are kept beside the audit log: their hash stands in the accusation.
    fn keep_evidence<T: Transport>(&self, member: &mut Member<T>, name: &str) {
        for evidence in member.take_evidence() {
            let Some(folder) = &self.settings.log else { continue };
            let Evidence { epoch, of, block } = evidence;
            let path = folder.join(format!("run-{name}-{}-{}-of-node-{}.block", member.me().0, epoch.0, of.0));
            match std::fs::write(&path, block) {
                Ok(()) => tracing::warn!("what {of} sent is kept in {}", path.display()),
                Err(error) => tracing::error!("{}: {error}", path.display()),
            }
        }
    }

    /// Answers what is none of the run's, and hears how the logs of others end.
    fn answer_others<T: Transport>(
        &self,
        member: &mut Member<T>,
        mut journal: Option<&mut Journal>,
        (name, start): (&str, Clock),
        now: Time,
    ) {
        for (from, kind, bytes) in member.take_others() {
            match Kind::of(kind) {
                Some(asked @ (Kind::Ask | Kind::Alone)) => {
                    // Members do not order each other about.
                    if asked == Kind::Alone && !member.has_place(from) {
                        tracing::warn!("an operator wants this node to go on alone");
                        member.go_on_alone(now);
                    }
                    let status = self.status(Some(run_status(member, name, start)));
                    member.post_message(from, Kind::Status as u16, encode(&status));
                }
                // The client of this run invites whoever it takes for restarted; others are told that they come too late.
                Some(Kind::Open) if from != NodeId::CLIENT => {
                    let why = format!("it takes part in the run {name}: try again when that is over");
                    member.post_message(from, Kind::Opened as u16, encode(&Opened::Refused { run: 0, why }));
                }
                Some(Kind::Head) => {
                    if let Some(journal) = journal.as_deref_mut() {
                        hear_head(journal, member, from, &bytes);
                    }
                }
                _ => tracing::debug!("{from} sent a block of kind {kind}"),
            }
        }
    }

    /// The line of a run: its members and its client have places, whoever else is trusted may ask.
    fn run_line(&self, booked: &Booked) -> io::Result<Line> {
        let mut table: BTreeMap<PublicKey, Place> =
            self.settings.trusted.iter().map(|key| (*key, Place::default())).collect();
        for (k, seat) in booked.description.seats.iter().enumerate() {
            let key: PublicKey = seat.key.parse().map_err(io::Error::other)?;
            let address = seat.address.parse().ok();
            table.insert(key, Place { node: Some(NodeId(k as u16)), address });
        }
        table.remove(&self.settings.secret.public());
        table.insert(booked.client, Place { node: Some(NodeId::CLIENT), address: booked.client_address });
        let me = (Some(NodeId(booked.description.you)), booked.life);
        Line::open(self.settings.listen, &self.settings.secret, me, &table)
    }

    /// The audit log, if there is to be one: then no step is taken without it. A node that takes part in a run again goes on with the log
    /// that it has of it.
    fn journal(&self, booked: &Booked, stamp: Stamp) -> Result<Option<Journal>, String> {
        let Some(folder) = &self.settings.log else { return Ok(None) };
        let Description { run, you, scenario, .. } = &booked.description;
        let path = folder.join(format!("run-{run:016x}-node-{you}.jsonl"));
        let signer = Signer::of(&self.settings.secret.derive(audit_log::PURPOSE));
        let subject = Subject {
            run: booked.state_name(),
            scenario: blake3::hash(scenario.as_bytes()).to_string(),
            program: PROGRAM.to_owned(),
            node: NodeId(*you),
            life: booked.life.0,
            start: booked.state.clock,
        };
        let made = std::fs::create_dir_all(folder).map_err(|error| error.to_string());
        let made =
            made.and_then(|()| Journal::in_file(&path, signer, subject, stamp).map_err(|error| error.to_string()));
        made.map(Some).map_err(|error| format!("no audit log: {error}"))
    }
}

impl Booked {
    fn state_name(&self) -> String {
        format!("{:016x}", self.description.run)
    }
}

/// How patient nodes are. On a busy machine a process may not run for a while: who is silent for less than a second is not suspected.
fn options(life: Incarnation) -> Options {
    Options { seed: life.0, suspect_ns_min: SUSPECT_NS_MIN, suspect_ns_max: SUSPECT_NS_MAX, ..Options::default() }
}

/// Lets what is under way arrive before a line is closed.
fn settle(line: &mut Line) {
    let watch = Stopwatch::start();
    while watch.seconds() < 0.03 {
        line.listen();
    }
}

/// Greets the others before the run begins: who has not been heard yet would be suspected at once. What they send waits.
fn meet(line: &mut Line, lives: &[u64], me: NodeId) {
    let watch = Stopwatch::start();
    let lives = lives.iter().enumerate().map(|(k, &life)| (NodeId(k as u16), Incarnation(life)));
    let others: Vec<(NodeId, Incarnation)> = lives.filter(|(node, _)| *node != me).collect();
    while watch.seconds() < MEET_SECONDS {
        let now = line.now();
        let datagrams = line.stack.datagrams_mut();
        datagrams.poll(now);
        let here = |&(node, life): &(NodeId, Incarnation)| {
            datagrams.status(node).is_some_and(|status| status.connected && status.incarnation == Some(life))
        };
        if others.iter().all(here) {
            return;
        }
        let waited = datagrams.wait(std::time::Duration::from_millis(2));
        waited.unwrap_or_else(|error| tracing::debug!("the socket cannot be waited for: {error}"));
    }
}

/// Sleeps until there is something to do, or for a moment.
fn rest(member: &mut Member<Stack>, activity: Activity, at: Time) {
    if let Activity::Idle { until } = activity {
        let most = std::time::Duration::from_nanos(until.since(at)).min(PATIENCE);
        sleep(member.transport_mut(), at, most);
    }
}

fn run_status<T: Transport>(member: &mut Member<T>, name: &str, start: Clock) -> RunStatus {
    let particles = member.partition_mut().map_or(0, |partition| partition.count() as u64);
    let machine = member.machine();
    let members: Vec<u16> =
        machine.config().map(|config| config.nodes().map(|node| node.0).collect()).unwrap_or_default();
    let phi = |&node: &u16| machine.phi_hundredths(NodeId(node)).map(|phi| (node, phi));
    RunStatus {
        name: name.to_owned(),
        node: member.me().0,
        epoch: machine.epoch().0,
        alone: machine.branch() != 0,
        coordinator: machine.config().map(|config| config.coordinator.0),
        step: start.after(machine.committed()),
        root: StateRoot(machine.head().root).to_string(),
        particles,
        phi_hundredths: members.iter().filter_map(phi).collect(),
        members,
    }
}
