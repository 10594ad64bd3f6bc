//! Starts a run on many servers, as its client.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::{
    Line, PATIENCE, PROGRAM, Stack,
    message::{Begin, Description, Kind, Opened, Seat, Status},
    new_life, sleep, tell_notices,
};
use crate::{
    backend::cpu::Cpu,
    coordinator::NODES_MAX,
    member::{
        Setup,
        message::{MESSAGE_BYTES_MAX, write_particles},
    },
    metrics::Stopwatch,
    node::{History, State},
    particle::Particle,
    remote::Remote,
    security::keys::{PublicKey, SecretKey},
    snapshot::root::StateRoot,
    text::harmless,
    transport::{Event, Tag, Transport, laminar::Place},
    wire::{Epoch, Incarnation, NodeId, Time, decode},
};

/// How long servers may take to answer [s].
const ANSWER_SECONDS: f64 = 20.0;

/// A server, as the client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its key.
    pub key: PublicKey,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Why a run was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No socket.
    #[error("no socket: {0}")]
    Socket(#[from] std::io::Error),
    /// Some server does not answer.
    #[error("no answer from {0}")]
    Silent(String),
    /// Some server will not.
    #[error("{server} refuses: {why}")]
    Refused {
        /// The server.
        server: String,
        /// Why.
        why: String,
    },
    /// The run does not begin.
    #[error("{0}")]
    Run(String),
}

/// What a list of servers says: for each its key, and a word for where it is, which nobody has looked up yet.
///
/// `in_file`: a key and an address in each line, `#` before a remark; else `KEY@ADDRESS`, with commas between.
///
/// # Errors
/// What is no key, or is there twice, and what is none at all; as a terminal may show it.
pub fn read_list(text: &str, in_file: bool) -> Result<Vec<(PublicKey, String)>, String> {
    let entries: Vec<&str> = if in_file {
        text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).collect()
    } else {
        text.split(',').map(str::trim).collect()
    };
    let mut servers: Vec<(PublicKey, String)> = Vec::new();
    for entry in entries.into_iter().filter(|entry| !(in_file && entry.is_empty())) {
        let split = if in_file { entry.split_once(char::is_whitespace) } else { entry.split_once('@') };
        let (key, rest) = split.unwrap_or((entry, ""));
        let key: PublicKey = key.parse().map_err(|error| format!("`{}`: {error}", harmless(key)))?;
        if servers.iter().any(|(known, _)| *known == key) {
            return Err(format!("{key} is there twice"));
        }
        if servers.len() == NODES_MAX {
            return Err(format!("more than {NODES_MAX} servers"));
        }
        servers.push((key, rest.split_whitespace().next().unwrap_or_default().to_owned()));
    }
    if servers.is_empty() { Err("no server is named".into()) } else { Ok(servers) }
}

fn table(servers: &[Address]) -> BTreeMap<PublicKey, Place> {
    let place = |(k, server): (usize, &Address)| {
        (server.key, Place { node: Some(NodeId(k as u16)), address: Some(server.address) })
    };
    servers.iter().enumerate().map(place).collect()
}

/// Any address of ours from which these servers can be reached.
fn from_here(servers: &[Address]) -> SocketAddr {
    let v6 = servers.iter().any(|server| server.address.is_ipv6());
    if v6 { SocketAddr::from(([0_u16; 8], 0)) } else { SocketAddr::from(([0_u8; 4], 0)) }
}

fn name(servers: &[Address], node: NodeId) -> String {
    servers.get(usize::from(node.0)).map_or_else(|| node.to_string(), |server| format!("{node} at {}", server.address))
}

/// Starts a run of this state on these servers. `scenario`: its text, every default filled in.
///
/// # Errors
/// If a server does not answer, or refuses.
pub fn launch(
    servers: &[Address],
    secret: &SecretKey,
    scenario: &str,
    state: State,
    cpu: Cpu,
    silence_seconds: f64,
) -> Result<Remote<Stack>, LaunchError> {
    let mut line = Line::open(from_here(servers), secret, (Some(NodeId::CLIENT), new_life()), &table(servers))?;
    let root = StateRoot::of_particles(&state.particles);
    let description = Description {
        run: new_life().0,
        program: PROGRAM.to_owned(),
        scenario: scenario.to_owned(),
        names: state.names.0.clone(),
        quanta: state.quanta,
        step: state.clock.step,
        // The client remembers breaches of the past; there may be many.
        history: state.history.clone().map(|history| History { breaches: Vec::new(), ..history }),
        root: root.0,
        seats: servers.iter().map(|s| Seat { key: s.key.to_string(), address: s.address.to_string() }).collect(),
        you: 0,
        joins: false,
        lives: Vec::new(),
    };
    let lives = open(&mut line, servers, &description, &state)?;
    begin(&mut line, servers, &Begin { run: description.run, lives: lives.clone() })?;
    // From the same port, which the servers know by now.
    let address = line.address()?;
    drop(line);
    let invitation = Description { joins: true, lives: lives.clone(), ..description };
    let particles = state.particles.clone();
    let nodes = lives.iter().enumerate().map(|(k, &life)| (NodeId(k as u16), Incarnation(life))).collect();
    let setup = Setup::even(state, nodes);
    let line = Line::open(address, secret, (Some(NodeId::CLIENT), new_life()), &table(servers))?;
    let watch = Stopwatch::start();
    let idle = Box::new(move |stack: &mut Stack| {
        tell_notices(stack);
        sleep(stack, Time(watch.elapsed().as_nanos() as u64), PATIENCE);
    });
    // Whoever sleeps and whoever polls look at one clock.
    let now = Box::new(move || Time(watch.elapsed().as_nanos() as u64));
    let remote = Remote::with_clock(setup, cpu, line.stack, silence_seconds, (now, idle));
    let mut remote = remote.map_err(LaunchError::Run)?;
    remote.on_restart(Box::new(move |stack, node| invite(stack, node, &invitation, &particles)));
    Ok(remote)
}

/// A server was started anew: it has forgotten the run, and is asked to join it. One that takes part already does not hear this.
fn invite(stack: &mut Stack, node: NodeId, invitation: &Description, particles: &[Particle]) {
    tracing::info!("{node} is there again, and is asked to join");
    let invitation = Description { you: node.0, ..invitation.clone() };
    let tag = Tag { epoch: Epoch(u32::MAX), step: new_life().0, kind: Kind::Open as u16, part: 0 };
    if let Err(error) = stack.post(node, tag, write_particles(&invitation, particles)) {
        tracing::warn!("{error}");
    }
}

/// Opens the run everywhere: the lives in which the servers will take part.
fn open(
    line: &mut Line,
    servers: &[Address],
    description: &Description,
    state: &State,
) -> Result<Vec<u64>, LaunchError> {
    for k in 0..servers.len() as u16 {
        let description = Description { you: k, ..description.clone() };
        line.send_bytes(NodeId(k), Kind::Open, write_particles(&description, &state.particles));
    }
    let mut lives: BTreeMap<NodeId, u64> = BTreeMap::new();
    let watch = Stopwatch::start();
    while lives.len() < servers.len() {
        for event in line.listen() {
            let Event::Received { from, tag, bytes, .. } = event else { continue };
            if Kind::of(tag.kind) != Some(Kind::Opened) {
                continue;
            }
            match decode::<Opened>(&bytes, "answer", MESSAGE_BYTES_MAX) {
                Ok(Opened::Ready { run, life, threads, isa }) if run == description.run => {
                    tracing::info!("{} is ready: {threads} threads, {isa}", name(servers, from));
                    lives.insert(from, life);
                }
                Ok(Opened::Refused { run, why }) if run == description.run || run == 0 => {
                    return Err(LaunchError::Refused { server: name(servers, from), why });
                }
                other => tracing::debug!("{from} answers {other:?}"),
            }
        }
        if watch.seconds() > ANSWER_SECONDS {
            let silent = (0..servers.len() as u16).map(NodeId).filter(|node| !lives.contains_key(node));
            let silent: Vec<String> = silent.map(|node| name(servers, node)).collect();
            return Err(LaunchError::Silent(silent.join(", ")));
        }
    }
    Ok(lives.into_values().collect())
}

/// Tells all servers that it begins, and waits until they know.
fn begin(line: &mut Line, servers: &[Address], begin: &Begin) -> Result<(), LaunchError> {
    let mut waiting: BTreeSet<NodeId> = (0..servers.len() as u16).map(NodeId).collect();
    waiting.iter().for_each(|&node| line.send(node, Kind::Begin, begin));
    let watch = Stopwatch::start();
    while !waiting.is_empty() {
        for event in line.listen() {
            if let Event::Delivered { to, tag } = event
                && tag.kind == Kind::Begin as u16
            {
                waiting.remove(&to);
            }
        }
        if watch.seconds() > ANSWER_SECONDS {
            let silent: Vec<String> = waiting.iter().map(|&node| name(servers, node)).collect();
            return Err(LaunchError::Silent(silent.join(", ")));
        }
    }
    Ok(())
}

/// Asks each server how it is; those that do not answer within `seconds` are left out.
///
/// # Errors
/// If there is no socket.
pub fn ask(servers: &[Address], secret: &SecretKey, seconds: f64) -> Result<BTreeMap<usize, Status>, LaunchError> {
    converse(servers, secret, seconds, Kind::Ask)
}

/// Tells a server that takes part in a run to go on without the others, in a branch of its own; nothing if it does not answer.
///
/// # Errors
/// If there is no socket.
pub fn alone(server: Address, secret: &SecretKey, seconds: f64) -> Result<Option<Status>, LaunchError> {
    Ok(converse(&[server], secret, seconds, Kind::Alone)?.remove(&0))
}

fn converse(
    servers: &[Address],
    secret: &SecretKey,
    seconds: f64,
    what: Kind,
) -> Result<BTreeMap<usize, Status>, LaunchError> {
    // Not as the client of a run: nobody here may be taken for one.
    let mut line = Line::open(from_here(servers), secret, (None, new_life()), &table(servers))?;
    (0..servers.len() as u16).for_each(|k| line.send(NodeId(k), what, &()));
    let (mut answers, watch) = (BTreeMap::new(), Stopwatch::start());
    while answers.len() < servers.len() && watch.seconds() < seconds {
        for event in line.listen() {
            let Event::Received { from, tag, bytes, .. } = event else { continue };
            if Kind::of(tag.kind) == Some(Kind::Status)
                && let Ok(status) = decode::<Status>(&bytes, "status", MESSAGE_BYTES_MAX)
            {
                answers.insert(usize::from(from.0), status);
            }
        }
    }
    Ok(answers)
}
