//! Machines beside each other without a network between: what is told to one is heard by the others at once. Faults are the
//! business of `tests/simulator.rs`.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::ledger::Amounts;

const MS: u64 = 1_000_000;

/// A few machines, a clock, and what is under way.
struct Table {
    now: Time,
    machines: BTreeMap<NodeId, Machine>,
    letters: VecDeque<(NodeId, NodeId, Letter)>,
    /// What each machine asked for, letters aside.
    asked: BTreeMap<NodeId, Vec<Output>>,
    /// Nodes that answer nothing any more.
    dead: BTreeSet<NodeId>,
}

/// Every node holds one particle, of which nothing ever changes.
fn share(node: NodeId) -> Share {
    let held = Amounts { count: 1, mass: 5, ..Amounts::default() };
    Share { held, root: u128::from(node.0) + 7, ..Share::default() }
}

fn genesis(nodes: u16) -> CopyRecord {
    let holding = |node: u16| {
        let Share { held, root, .. } = share(NodeId(node));
        Holding { node: NodeId(node), incarnation: Incarnation(1), held, root }
    };
    let partitions: Vec<Holding> = (0..nodes).map(holding).collect();
    CopyRecord { step: 0, root: partitions.iter().map(|part| part.root).sum(), partitions }
}

impl Table {
    fn of(nodes: u16) -> Self {
        let (machines, letters) = (BTreeMap::new(), VecDeque::new());
        let mut table = Self { now: Time(0), machines, letters, asked: BTreeMap::new(), dead: BTreeSet::new() };
        for node in (0..nodes).map(NodeId) {
            let judge = Box::new(Lenient);
            let (machine, outputs) = Machine::starting(node, genesis(nodes), judge, Options::default(), table.now);
            table.machines.insert(node, machine);
            table.take(node, outputs);
        }
        table
    }

    fn take(&mut self, node: NodeId, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { to, letter } => self.letters.push_back((node, to, *letter)),
                output => self.asked.entry(node).or_default().push(output),
            }
        }
    }

    fn tell(&mut self, node: NodeId, input: Input) {
        let now = self.now;
        let outputs = self.machines.get_mut(&node).expect("a machine").step(now, input);
        self.take(node, outputs);
    }

    /// Delivers everything, and proposes whatever a machine asks to compute, until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if let Some((from, to, letter)) = self.letters.pop_front() {
                if !self.dead.contains(&from) && !self.dead.contains(&to) {
                    let letter = Box::new(letter);
                    self.tell(to, Input::Message { from, incarnation: Incarnation(1), letter });
                }
            } else if let Some((node, epoch, step)) = self.work() {
                let mut said = share(node);
                let config = self.machines[&node].config().expect("a member");
                for (owner, adopter) in &config.adoption {
                    if *adopter == node && *owner != node {
                        said.held = said.held.plus(share(*owner).held);
                        said.root = said.root.wrapping_add(share(*owner).root);
                    }
                }
                self.tell(node, Input::Proposed { epoch, step, share: said });
            } else {
                return;
            }
        }
        panic!("it never settles");
    }

    /// The next step that a machine wants to be computed, or restored.
    fn work(&mut self) -> Option<(NodeId, Epoch, u64)> {
        for (node, asked) in self.asked.iter_mut().filter(|(node, _)| !self.dead.contains(node)) {
            let epoch = self.machines[node].epoch();
            let wanted = |output: &Output| match output {
                Output::Compute { step } => Some(*step),
                Output::Start(config) => Some(config.restart.step),
                _ => None,
            };
            let latest = asked.iter().rposition(|output| matches!(output, Output::Start(_))).unwrap_or(0);
            let at = (latest..asked.len()).find(|at| wanted(&asked[*at]).is_some());
            if let Some(step) = at.map(|at| asked.remove(at)).as_ref().and_then(wanted) {
                return Some((*node, epoch, step));
            }
        }
        None
    }

    fn wait(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.now = self.now.plus(10 * MS);
            for node in self.machines.keys().copied().filter(|node| !self.dead.contains(node)).collect::<Vec<_>>() {
                self.tell(node, Input::Tick);
            }
            self.settle();
        }
    }

    fn committed(&self, node: u16) -> u64 {
        self.machines[&NodeId(node)].committed()
    }
}

#[test]
fn steps_are_committed_as_far_as_they_are_granted() {
    let mut table = Table::of(3);
    table.settle();
    assert_eq!(table.committed(0), 0, "nothing was granted yet");

    table.tell(NodeId(2), Input::Grant { up_to: 5 });
    table.wait(200);

    assert_eq!([0, 1, 2].map(|node| table.committed(node)), [5; 3], "the others heard of the grant by beats");
    let heads: BTreeSet<Hash> = table.machines.values().map(|machine| machine.head().hash).collect();
    assert_eq!(heads.len(), 1, "one chain");
}

#[test]
fn when_the_coordinator_dies_the_others_go_on_with_its_partition() {
    let mut table = Table::of(3);
    table.tell(NodeId(1), Input::Grant { up_to: 4 });
    table.wait(200);

    table.dead.insert(NodeId(0));
    table.tell(NodeId(1), Input::Grant { up_to: 9 });
    table.wait(3_000);

    assert_eq!([1, 2].map(|node| table.committed(node)), [9; 2]);
    let config = table.machines[&NodeId(1)].config().expect("a member");
    assert_eq!(config.nodes().collect::<Vec<_>>(), [NodeId(1), NodeId(2)]);
    assert_ne!(config.adoption[&NodeId(0)], NodeId(0), "somebody took its partition over");
    assert!(config.log.iter().all(|decision| decision.step <= 4), "what was committed stays");
}

#[test]
fn one_of_three_decides_nothing() {
    let mut table = Table::of(3);
    table.tell(NodeId(0), Input::Grant { up_to: 4 });
    table.wait(200);

    table.dead.extend([NodeId(1), NodeId(2)]);
    table.tell(NodeId(0), Input::Grant { up_to: 100 });
    table.wait(10_000);

    assert_eq!(table.committed(0), 4);
    assert_eq!(table.machines[&NodeId(0)].epoch(), Epoch(1));
    assert!(table.machines[&NodeId(0)].phi_hundredths(NodeId(1)) >= Some(800), "and it says why");
}

#[test]
fn letters_of_an_older_life_change_nothing() {
    let mut table = Table::of(3);
    table.settle();
    let fresh = Letter { branch: 0, epoch: Epoch(0), to: None, body: Body::Join { granted: 0, hears: Vec::new() } };
    let message = |incarnation, letter| Input::Message { from: NodeId(2), incarnation, letter: Box::new(letter) };
    table.tell(NodeId(0), message(Incarnation(2), fresh));

    let vote = Body::Vote { step: 1, vote: Vote::Yes(share(NodeId(2))) };
    table.tell(NodeId(0), message(Incarnation(1), Letter { branch: 0, epoch: Epoch(1), to: None, body: vote.clone() }));
    table.tell(NodeId(0), message(Incarnation(2), Letter { branch: 0, epoch: Epoch(1), to: None, body: vote }));

    let chair = table.machines[&NodeId(0)].chair.as_ref().expect("the coordinator");
    assert!(!chair.votes.contains_key(&NodeId(2)), "neither the dead life nor the one that is no member votes");
}

#[test]
fn a_changed_decision_has_another_hash() {
    let mut table = Table::of(2);
    table.tell(NodeId(0), Input::Grant { up_to: 2 });
    table.wait(200);
    let chain: Vec<Decision> = table.machines[&NodeId(1)].chain.log.values().cloned().collect();

    let mut changed = chain[0].clone();
    changed.totals.held.mass += 1;

    assert_eq!(chain[1].previous, chain[0].hash());
    assert_ne!(chain[1].previous, changed.hash());
}

#[test]
fn an_accusation_waits_until_there_is_a_step_that_was_not_voted_for() {
    let mut table = Table::of(3);
    table.tell(NodeId(0), Input::Grant { up_to: 1 });
    table.settle();
    let epoch = table.machines[&NodeId(1)].epoch();
    let what = || "it cannot be read".to_owned();

    // Nothing is under way, and everything so far was voted for.
    table.tell(NodeId(1), Input::Offended { epoch, of: NodeId(2), what: what() });
    table.settle();
    table.wait(1_000);

    let config = table.machines[&NodeId(0)].config().expect("a member");
    assert!(config.epoch > epoch, "another epoch was begun");
    let (of, by) = (NodeId(2), NodeId(1));
    assert_eq!(config.offences, [Offence { of, by, what: what(), seen: false }]);
    assert_eq!(config.members.len(), 3, "once is forgiven");
}

#[test]
fn what_somebody_says_who_is_no_member_leaves_nobody_out_and_ends_nothing() {
    let mut table = Table::of(4);
    table.tell(NodeId(0), Input::Grant { up_to: 2 });
    table.settle();
    let forged = |table: &Table| {
        let config = table.machines[&NodeId(0)].config().expect("a member").clone();
        // A chain of its own.
        let head = Head { index: 0, step: 0, root: 1, hash: Hash::default() };
        Letter {
            branch: 0,
            epoch: config.epoch,
            to: None,
            body: Body::Begin(Box::new(Config { epoch: Epoch(config.epoch.0 + 5), head, ..config })),
        }
    };
    table.dead.insert(NodeId(3));
    table.wait(3_000);
    let before = table.machines[&NodeId(0)].config().expect("a member").clone();
    assert!(before.incarnation(NodeId(3)).is_none(), "node 3 was left out");
    let letter = Box::new(forged(&table));
    for node in [NodeId(0), NodeId(1), NodeId(2)] {
        table.tell(node, Input::Message { from: NodeId(3), incarnation: Incarnation(1), letter: letter.clone() });
    }
    table.settle();
    table.wait(2_000);

    let after = table.machines[&NodeId(0)].config().expect("a member");
    assert_eq!((after.epoch, &after.isolated), (before.epoch, &before.isolated));
    // One that remembers nothing is asked to believe it, too.
    let (roster, judge) = ((0..4).map(NodeId).collect(), Box::new(Lenient));
    let me = (NodeId(2), Incarnation(2));
    let mut newcomer = Machine::joining(me, genesis(4), roster, judge, Options::default(), table.now);
    let config = Config { members: vec![me], replicas: vec![me.0], coordinator: me.0, ..before };
    let body = Body::Begin(Box::new(Config { adoption: BTreeMap::new(), ..config }));
    let letter = Box::new(Letter { branch: 0, epoch: Epoch(9), to: None, body });
    newcomer.step(table.now, Input::Message { from: NodeId(3), incarnation: Incarnation(1), letter });
    assert!(newcomer.config().is_none(), "it asks to be taken in all the same");
}
