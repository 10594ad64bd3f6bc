//! The shaders of a run, put together, compiled and bound to their parameters.
//!
//! A shader is made of constants, shared parts and its own text. The parameters of a dispatch are immediates: a few words that
//! come with the command. Their mirrors stand here; `tests/gpu.rs` holds every one to its shader, field by field.

use bytemuck::{Pod, Zeroable};

use super::{
    compute::{Access, Pipeline},
    device::Device,
    strict::{self, Strictness},
    tally::{Layout, SurveyRecord},
};
use crate::contract::Contract;

/// Invocations of a workgroup, and bodies of a tile. `portable32` adds up a tile in 32 bits: at most 256.
pub const GROUP: u32 = 128;

const WIDE: &str = include_str!("../../../../shaders/part/wide.wgsl");
const TALLY: &str = include_str!("../../../../shaders/part/tally.wgsl");
const MOTION: &str = include_str!("../../../../shaders/motion.wgsl");
const SURVEY: &str = include_str!("../../../../shaders/survey.wgsl");
const PACK: &str = include_str!("../../../../shaders/pack.wgsl");
const FORCE64: &str = include_str!("../../../../shaders/force64.wgsl");
const FORCE32: &str = include_str!("../../../../shaders/force32.wgsl");

/// Parameters of kicks and drifts: `Stage` of `shaders/motion.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Stage {
    /// Rows of all columns.
    pub rows: u32,
    /// The first row of a test particle.
    pub tests: u32,
    /// The record of the step.
    pub slot: u32,
    /// Parts of the impulses.
    pub parts: u32,
    /// Bits of the stride, low word first.
    pub stride: [u32; 2],
    /// The range of positions.
    pub position_bits: u32,
    /// Whether angular momentum is booked.
    pub angular: u32,
}

/// Parameters of a force evaluation on f64: `Pull` of `shaders/force64.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Pull64 {
    /// G·Δt in quanta, or G in energy quanta.
    pub factor: f64,
    /// [position quanta²]
    pub softening2: f64,
    /// What it goes over.
    pub over: Over,
}

/// Parameters of a force evaluation on f32: `Pull` of `shaders/force32.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Pull32 {
    /// G·Δt, or G for energies, with lengths in spans: see [`crate::force::portable32`].
    pub factor: f32,
    /// [span²]
    pub softening2: f32,
    /// What it goes over.
    pub over: Over,
}

/// What a force evaluation goes over: the last fields of both `Pull`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Over {
    /// Rows of all columns.
    pub rows: u32,
    /// The first of them are the sources.
    pub sources: u32,
    /// Tiles of a part.
    pub tiles: u32,
    /// The record of the step.
    pub slot: u32,
    /// The range of impulses.
    pub range_bits: u32,
    /// Fills the words up to pairs.
    pub unused: u32,
}

/// Parameters of a survey: `Survey` of `shaders/survey.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Survey {
    /// Rows of all columns.
    pub rows: u32,
    /// The first row of a test particle.
    pub tests: u32,
    /// See [`crate::integrator::portable::kinetic_scale`].
    pub kinetic_scale: i32,
    /// Fills the words up to pairs.
    pub unused: u32,
}

/// Parameters of packing: `Pack` of `shaders/pack.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Pack {
    /// Rows of all columns.
    pub rows: u32,
    /// How many are chosen.
    pub chosen: u32,
}

/// The pipelines of one contract.
#[derive(Debug)]
pub struct Programs {
    pub(super) impulses: Pipeline,
    /// The same, with every impulse watched.
    pub(super) impulses_guarded: Pipeline,
    pub(super) potential: Pipeline,
    pub(super) kick_and_drift: Pipeline,
    pub(super) kick_and_count: Pipeline,
    pub(super) count: Pipeline,
    pub(super) pack: Pipeline,
}

impl Programs {
    /// Compiles all of them.
    #[must_use]
    pub fn compile(device: &Device, contract: Contract, strictness: Strictness) -> Self {
        use Access::{Read, ReadWrite};

        let pair = [Read, Read, ReadWrite, ReadWrite];
        let pull = if contract.is_single() { size_of::<Pull32>() } else { size_of::<Pull64>() };
        let module = |label: &str, source: String| strict::module(device, label, &source, strictness);
        let force = module("force", force_source(contract, false));
        let guarded = module("guarded force", force_source(contract, true));
        let potential = module("potential", potential_source(contract));
        let motion = module("motion", motion_source());
        let moved = |entry| {
            let bindings = [ReadWrite, ReadWrite, Read, Read, ReadWrite];
            Pipeline::new(device, &motion, entry, &bindings, size_of::<Stage>())
        };
        let surveyed = [Read, Read, Read, Read, Read, ReadWrite];
        let pack = module("pack", pack_source());
        let pair_of_columns = [Read, Read, Read, ReadWrite];
        Self {
            impulses: Pipeline::new(device, &force, "impulses", &pair, pull),
            impulses_guarded: Pipeline::new(device, &guarded, "impulses", &pair, pull),
            potential: Pipeline::new(device, &potential, "potential", &pair, pull),
            kick_and_drift: moved("kick_and_drift"),
            kick_and_count: moved("kick_and_count"),
            pack: Pipeline::new(device, &pack, "pack_rows", &pair_of_columns, size_of::<Pack>()),
            count: Pipeline::new(device, &module("survey", survey_source()), "count", &surveyed, size_of::<Survey>()),
        }
    }
}

/// All shaders as they are compiled, by the name of their file.
#[must_use]
pub fn sources() -> Vec<(&'static str, String)> {
    vec![
        ("shaders/motion.wgsl", motion_source()),
        ("shaders/survey.wgsl", survey_source()),
        ("shaders/pack.wgsl", pack_source()),
        ("shaders/force64.wgsl", force_source(Contract::Portable64, false)),
        ("shaders/force64.wgsl", force_source(Contract::Portable64, true)),
        ("shaders/force64.wgsl", potential_source(Contract::Portable64)),
        ("shaders/force32.wgsl", force_source(Contract::Portable32, false)),
        ("shaders/force32.wgsl", force_source(Contract::Portable32, true)),
        ("shaders/force32.wgsl", potential_source(Contract::Portable32)),
    ]
}

fn motion_source() -> String {
    assembled(Layout::STEP, "", MOTION)
}

fn pack_source() -> String {
    format!("const GROUP: u32 = {GROUP}u;\n{PACK}")
}

fn survey_source() -> String {
    assembled(Layout::SURVEY, "", SURVEY)
}

fn force_source(contract: Contract, guarded: bool) -> String {
    pair_source(Layout::STEP, contract, guarded)
}

fn potential_source(contract: Contract) -> String {
    pair_source(Layout::SURVEY, contract, false)
}

fn pair_source(layout: Layout, contract: Contract, guarded: bool) -> String {
    let potential = SurveyRecord::POTENTIAL;
    let constants = format!("const GUARDED: bool = {guarded};\nconst POTENTIAL: u32 = {potential}u;\n");
    assembled(layout, &constants, if contract.is_single() { FORCE32 } else { FORCE64 })
}

fn assembled(layout: Layout, constants: &str, shader: &str) -> String {
    format!("{}const GROUP: u32 = {GROUP}u;\n{constants}{WIDE}{TALLY}{shader}", layout.constants())
}
