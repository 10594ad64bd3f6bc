//! What a seed does to a run: whole classes of faults are there or not, so that rare ones have days of their own.

use emmy::{
    coordinator::Options,
    transport::bulk::limits::{BLOCK_OVERHEAD, BLOCKS_OPEN_MAX, Limits, cost},
};

use crate::bulk_network::{Links, Random};

pub(crate) const MS: u64 = 1_000_000;

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Kill {
        place: usize,
        back_after: Option<u64>,
    },
    Restart {
        place: usize,
    },
    Pause {
        place: usize,
        for_ns: u64,
    },
    /// Nothing gets from one to the other, for each pair of places.
    Cut {
        links: Vec<(usize, usize)>,
        for_ns: u64,
    },
    Heal {
        links: Vec<(usize, usize)>,
    },
    HealAll,
}

#[derive(Clone, Debug)]
pub(crate) struct Swarm {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) scene: usize,
    pub(crate) links: Links,
    pub(crate) limits: Limits,
    pub(crate) boundary_every: u64,
    pub(crate) drift_ppm_max: u64,
    /// What a bit of work takes.
    pub(crate) work_ns: u64,
    /// How long things break.
    pub(crate) safety_ns: u64,
    pub(crate) faults_every_ns: u64,
    pub(crate) kills: bool,
    pub(crate) pauses: bool,
    pub(crate) cuts: bool,
    /// Whether the client asks for particles and energies while things break.
    pub(crate) looks: bool,
    pub(crate) default_times: bool,
}

/// Little enough that what waits for a silent peer gets in the way of what it must have.
fn small_limits() -> Limits {
    let block_bytes_max = 128 << 10;
    let room = cost(block_bytes_max) + BLOCKS_OPEN_MAX as u64 * (BLOCK_OVERHEAD + 2048);
    Limits { block_bytes_max, receive_bytes_max: room, send_bytes_max: cost(block_bytes_max), ..Limits::default() }
}

fn links(random: &mut Random) -> Links {
    let mut some = |value: u64| if random.below(2) == 0 { 0 } else { random.below(value + 1) };
    let mut links = Links {
        delay: 20_000 + some(MS),
        jitter: some(MS),
        loss_permille: some(300),
        burst_permille: (some(5), some(800)),
        repeat_permille: some(500),
        very_late_permille: some(300),
        bandwidth: some(125_000_000),
        queue_bytes: 6_000 + some(1 << 18),
        blackout: (0, 0),
    };
    if links.bandwidth > 0 {
        links.bandwidth = links.bandwidth.max(2_000_000);
    }
    links
}

impl Swarm {
    pub(crate) fn of(seed: u64, scenes: usize) -> Self {
        let mut random = Random(seed);
        Self {
            seed,
            nodes: 3 + random.below(4) as usize,
            scene: random.below(scenes as u64) as usize,
            links: links(&mut random),
            limits: small_limits(),
            boundary_every: 3 + random.below(10),
            drift_ppm_max: if random.permille(500) { 200 } else { 0 },
            work_ns: 20_000 + random.below(200_000),
            safety_ns: 1_000 * MS + random.below(1_500 * MS),
            faults_every_ns: 50 * MS + random.below(500 * MS),
            kills: random.permille(750),
            pauses: random.permille(500),
            cuts: random.permille(500),
            looks: random.permille(500),
            default_times: false,
        }
    }

    /// Nothing goes wrong by itself, and times are those of servers.
    pub(crate) fn calm(seed: u64) -> Self {
        let links = Links { delay: 200_000, jitter: 100_000, ..Links::default() };
        let (kills, pauses, cuts, looks) = (false, false, false, false);
        let safety_ns = u64::MAX / 4;
        let some = Self::of(seed, 1);
        Self { nodes: 4, links, kills, pauses, cuts, looks, safety_ns, default_times: true, work_ns: 100_000, ..some }
    }

    pub(crate) fn options(&self, place: usize) -> Options {
        let seed = self.seed << 8 | place as u64;
        if self.default_times {
            return Options { seed, ..Options::default() };
        }
        Options {
            beat_ns: 5 * MS,
            resend_ns: 5 * MS,
            suspect_ns_max: 100 * MS,
            patience_ns: 30 * MS,
            report_ns: 30 * MS,
            bid_ns: 100 * MS,
            boundary_every: self.boundary_every,
            seed,
            ..Options::default()
        }
    }

    /// What goes wrong, and when; at the end everything is mended that can be.
    pub(crate) fn faults(&self) -> Vec<(u64, Fault)> {
        let mut random = Random(self.seed ^ 0xfa17);
        let (mut at, mut faults) = (0, vec![(self.safety_ns, Fault::HealAll)]);
        if !(self.kills || self.pauses || self.cuts) {
            return faults;
        }
        loop {
            at += random.below(2 * self.faults_every_ns);
            if at >= self.safety_ns {
                return faults;
            }
            let place = random.below(self.nodes as u64) as usize;
            let longest = if random.permille(200) { 1_000 * MS } else { 200 * MS };
            let for_ns = random.below(longest);
            let fault = match random.below(4) {
                0 | 1 if self.kills => {
                    // Some die while others are busy with the death before.
                    let other = (place + 1) % self.nodes;
                    let soon = at + 20 * MS + random.below(150 * MS);
                    if random.permille(800) {
                        faults.push((
                            soon.min(self.safety_ns - 1),
                            Fault::Kill { place: other, back_after: Some(for_ns) },
                        ));
                    }
                    Fault::Kill { place, back_after: random.permille(700).then_some(for_ns) }
                }
                2 if self.pauses => Fault::Pause { place, for_ns },
                3 if self.cuts => Fault::Cut { links: self.cut(&mut random), for_ns },
                _ => continue,
            };
            faults.push((at, fault));
        }
    }

    /// One way, or everything between two sides; the client is on one of them.
    fn cut(&self, random: &mut Random) -> Vec<(usize, usize)> {
        let ends = self.nodes + 1;
        let from = random.below(ends as u64) as usize;
        if random.permille(300) {
            let to = (from + 1 + random.below(ends as u64 - 1) as usize) % ends;
            return vec![(from, to)];
        }
        let sides = random.next();
        let side = |place: usize| sides >> place & 1;
        let pairs = (0..ends).flat_map(|a| (0..ends).map(move |b| (a, b)));
        pairs.filter(|&(a, b)| side(a) != side(b)).collect()
    }
}
