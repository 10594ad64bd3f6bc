//! Halos, returned impulses and migrants: read from changed, cut, repeated, swapped and random blocks, between honest ones.

use std::sync::OnceLock;

use emmy::{
    backend::{cpu::Cpu, isa::Isa},
    exchange::{
        codec::{ColumnError, Predictor},
        field::Arena,
        message::{Migrant, Roster, halo, impulses, migrants, read_halo, read_impulses, read_migrants},
    },
    particle::{Mass, Momentum, Particle, ParticleId, Position, Radius, WorkingSet},
    wire::NodeId,
};

use crate::{chance::Chance, hostile, number, sessions};

const BITS: u32 = 52;
const ROUNDS: u64 = 6;
const LIES_EACH: u64 = 3;

type Columns = [Vec<i64>; 3];

fn cpu() -> &'static Cpu {
    static CPU: OnceLock<Cpu> = OnceLock::new();
    CPU.get_or_init(|| Cpu::new(Isa::widest(), 1).expect("no thread is started"))
}

fn slices(columns: &Columns) -> [&[i64]; 3] {
    columns.each_ref().map(Vec::as_slice)
}

fn roster(chance: &mut Chance) -> Roster {
    // Around the numbers where packing begins, where only a sample is looked at, and from which axes are packed apart.
    let count = match chance.below(200) {
        0 => 4090 + chance.below(12),
        1..50 => chance.below(4),
        50..100 => 20 + chance.below(10),
        100..150 => 55 + chance.below(20),
        _ => chance.below(80),
    };
    let first = chance.below(1 << 40);
    Roster {
        sources: chance.below(count + 1) as usize,
        id: (0..count).map(|k| first + 3 * k).collect(),
        mass: (0..count).map(|_| 1 + chance.below(1 << BITS) as i64).collect(),
    }
}

/// Where particles are in a round: on smooth paths, or anywhere.
fn columns(chance: &mut Chance, start: &Columns, round: u64) -> Columns {
    let wild = chance.below(8) == 0;
    let edge = 1_i64 << BITS;
    let (speed, noise) = (1 + chance.below(1 << 30) as i64, 1 + chance.below(1000));
    start.each_ref().map(|axis| {
        let at = |&x: &i64| x + speed * round as i64 + chance.below(noise) as i64;
        let smooth: Vec<i64> = axis.iter().map(at).collect();
        let anywhere = |x: i64| if wild { x.wrapping_mul(0x9e37_79b9) % edge } else { x.clamp(-edge, edge) };
        smooth.into_iter().map(anywhere).collect()
    })
}

fn start(chance: &mut Chance, count: usize) -> Columns {
    std::array::from_fn(|_| (0..count).map(|_| chance.below(1 << 50) as i64 - (1 << 49)).collect())
}

fn own_bodies() -> WorkingSet {
    let body = |k: u64| Particle {
        id: ParticleId(u64::MAX - 2 - k),
        position: Position([k as i64 * 1000, -7, 5]),
        momentum: Momentum([1, 2, 3]),
        mass: Mass { quanta: 1 + k as i64, pulls: !k.is_multiple_of(3) },
        radius: Radius(0),
    };
    WorkingSet::of(&(0..11).map(body).collect::<Vec<_>>())
}

/// What one node knows of another's particles, and a bound on what reading may make of a block.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    roster: Option<Roster>,
    past: Predictor,
}

impl Known {
    fn read(&mut self, bytes: &[u8]) -> Result<Columns, ColumnError> {
        let before = self.clone();
        let read = read_halo(bytes, BITS, &mut self.roster, &mut self.past, cpu());
        if read.is_err() {
            assert_eq!(*self, before, "a block that was refused has changed something");
        }
        read
    }
}

/// Whatever is accepted fits the roster and the ranges, and can be seated and placed.
fn seats(known: &Known, positions: &Columns, bytes: &[u8]) {
    let roster = known.roster.as_ref().expect("it was accepted");
    assert!(positions.iter().all(|axis| axis.len() == roster.len()));
    assert!(positions.iter().flatten().all(|x| x.unsigned_abs() <= 1 << BITS));
    assert!(16 * roster.len() <= bytes.len() || bytes[0] == 0, "a roster is no longer than its block");
    let mut arena = Arena::default();
    arena.begin(&own_bodies());
    arena.seat(NodeId(1), roster);
    arena.place(NodeId(1), positions);
    let group = arena.guests(NodeId(1)).expect("they were seated");
    assert_eq!(group.sources.count + group.tests.count, roster.len());
}

fn a_link_of_halos(chance: &mut Chance) -> u64 {
    let roster = roster(chance);
    let start = start(chance, roster.len());
    let (mut sender, mut known, mut heard) = (Predictor::default(), Known::default(), Vec::new());
    for round in 0..ROUNDS {
        let positions = columns(chance, &start, round);
        let told = (round == 0).then_some(&roster);
        let honest = halo(told, slices(&positions), &mut sender, chance.below(4) > 0, cpu());
        heard.push(honest.clone());
        for _ in 0..LIES_EACH {
            let lie = hostile(chance, &heard);
            let before = known.clone();
            if let Ok(accepted) = known.read(&lie) {
                seats(&known, &accepted, &lie);
            }
            // As if the lie had not come.
            known = before;
        }
        let read = known.read(&honest).expect("an honest block is read whatever came before it");
        assert_eq!(read, positions);
        seats(&known, &read, &honest);
    }
    assert_eq!(known.roster, Some(roster));
    ROUNDS * (1 + LIES_EACH)
}

#[test]
fn halos_of_a_liar_are_refused_or_can_be_placed_and_honest_ones_come_through() {
    sessions("halos", 250, a_link_of_halos);
}

fn a_link_of_impulses(chance: &mut Chance) -> u64 {
    let rows = chance.below(300) as usize;
    let start = start(chance, rows);
    let (mut sender, mut past, mut heard) = (Predictor::default(), Predictor::default(), Vec::new());
    for round in 0..ROUNDS {
        let sums = columns(chance, &start, round);
        let honest = impulses(slices(&sums), &mut sender, chance.below(4) > 0, cpu());
        heard.push(honest.clone());
        for _ in 0..LIES_EACH {
            let (lie, before) = (hostile(chance, &heard), past.clone());
            match read_impulses(&lie, rows, &mut past, cpu()) {
                Ok(sums) => assert!(sums.iter().all(|axis| axis.len() == rows)),
                Err(_) => assert_eq!(past, before, "a block that was refused has changed something"),
            }
            past = before;
        }
        assert_eq!(read_impulses(&honest, rows, &mut past, cpu()), Ok(sums));
    }
    ROUNDS * (1 + LIES_EACH)
}

#[test]
fn impulses_of_a_liar_are_as_many_as_were_asked_for_and_honest_ones_come_through() {
    sessions("returned impulses", 150, a_link_of_impulses);
}

/// A particle with each number small, at an edge of its range or anywhere.
fn migrant(chance: &mut Chance) -> Migrant {
    let mut any = || (number(chance) as i64).wrapping_mul(if chance.below(2) == 0 { 1 } else { -1 });
    let mass = any().saturating_abs();
    Migrant {
        particle: Particle {
            id: ParticleId(any() as u64),
            position: Position([any(), any(), any()]),
            momentum: Momentum([any(), any(), any()]),
            mass: Mass { quanta: mass, pulls: any() % 2 == 0 },
            radius: Radius(any()),
        },
        impulse: [any(), any(), any()],
    }
}

fn some_migrants(chance: &mut Chance) -> u64 {
    let mut all: Vec<Migrant> = (0..chance.below(20)).map(|_| migrant(chance)).collect();
    if chance.below(2) == 0 {
        // Each of them right, no two with one number: then the block must be taken.
        all.retain(|migrant| migrant.particle.check(BITS).is_ok());
        all.sort_by_key(|migrant| migrant.particle.id);
        all.dedup_by_key(|migrant| migrant.particle.id);
        assert_eq!(read_migrants(&migrants(&all), BITS), Ok(all.clone()));
    }
    let lie = hostile(chance, &[migrants(&all)]);
    let lies = if chance.below(2) == 0 { migrants(&all) } else { lie };
    let Ok(read) = read_migrants(&lies, BITS) else { return 1 };
    let mut ids: Vec<u64> = read.iter().map(|migrant| migrant.particle.id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), read.len(), "no two have one number");
    for Migrant { particle, .. } in &read {
        let numbers = [particle.position.0, [particle.radius.0, particle.mass.quanta, 0]].concat();
        assert!(numbers.iter().all(|value| value.unsigned_abs() <= 1 << 52), "{particle:?}");
        assert!(particle.momentum.0.iter().all(|p| p.unsigned_abs() <= 1 << 62), "{particle:?}");
        assert!(particle.mass.quanta > 0 && particle.radius.0 >= 0 && particle.id.0 != u64::MAX, "{particle:?}");
    }
    1
}

#[test]
fn migrants_are_within_their_ranges_and_different() {
    sessions("migrants", 100, some_migrants);
}

/// A block of pco in its other ways asks for windows and dictionaries of many MiB; a count may claim more than there is.
#[test]
fn what_claims_more_than_it_brings_is_refused_before_it_is_given_room() {
    let rows = 100;
    let smooth: Columns = std::array::from_fn(|_| (0..rows).map(|k| 1000 + k % 7).collect());
    let honest = impulses(slices(&smooth), &mut Predictor::default(), true, cpu());
    assert_eq!(honest[1], 2, "it is worth packing, all axes together");
    // Order, flag, length, then pco: magic, version, type, hint, format, then a chunk: type, count, way.
    let [low, high, ..] = (3 * rows - 1).to_le_bytes();
    let type_of_chunk = honest.windows(4).position(|four| four[1..] == [low, high, 0]).expect("a chunk");
    for way in 1..=255_u8 {
        let mut lie = honest.clone();
        lie[type_of_chunk + 4] = way;
        let refused = read_impulses(&lie, rows as usize, &mut Predictor::default(), cpu()).expect_err("another way");
        assert!(refused.to_string().contains("another way"), "{refused}");
    }
    for count in [1_u32 << 20, u32::MAX] {
        let claims = [&[1][..], &count.to_le_bytes(), &count.to_le_bytes(), &[0; 64]].concat();
        let refused = Known::default().read(&claims).expect_err("nothing of it is there");
        assert!(matches!(refused, ColumnError::TooShort(_)), "{refused}");
    }
}
