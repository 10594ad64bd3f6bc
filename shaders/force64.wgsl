// The contract portable64 on tiles of pairs. CPU twin: engine/src/force/portable64.rs::impulse
//
// Impulses, and the potential energy that goes with them. Each invocation has one
// row and goes through the sources, a tile of them at a time in workgroup memory. Only + − × on floats, in the order of the
// contract; the module is compiled so that no driver may fuse or reorder them.

/// What one dispatch needs to know. Its mirror is `Pull64` in engine/src/backend/gpu/programs.rs.
struct Pull {
    /// G·Δt in quanta; for the potential, G in energy quanta.
    factor: f64,
    softening2: f64,
    /// Rows of all columns, padding included.
    rows: u32,
    /// The sources are the first rows.
    sources: u32,
    /// Tiles that one part of the sources has.
    tiles: u32,
    slot: u32,
    /// Impulses stay below 2^(this).
    range_bits: u32,
    unused: u32,
}

@group(0) @binding(0) var<storage, read> position: array<i64>;
@group(0) @binding(1) var<storage, read> mass: array<i64>;
@group(0) @binding(2) var<storage, read_write> impulse: array<i64>;
@group(0) @binding(3) var<storage, read_write> tally: array<atomic<u32>>;
var<immediate> pull: Pull;

const IMPULSE_OUT_OF_RANGE: u32 = 2u;
const POTENTIAL_OUT_OF_RANGE: u32 = 4u;
/// Bits of 1.5·2⁵²: see engine/src/math.rs.
const MAGIC: i64 = 0x4338000000000000li;
/// The same for multiples of 2⁴⁰.
const WIDE_MAGIC: i64 = 0x45b8000000000000li;

/// Positions and masses of one tile: x, y, z, m.
var<workgroup> tile: array<vec4<f64>, GROUP>;

/// A body; beyond the last source, one without mass.
fn body(row: u32) -> vec4<f64> {
    if row >= pull.rows { return vec4<f64>(0.0lf, 0.0lf, 0.0lf, 0.0lf); }
    let m = select(0li, mass[row], row < pull.sources);
    return vec4<f64>(f64(position[row]), f64(position[pull.rows + row]), f64(position[2u * pull.rows + row]), f64(m));
}

fn reciprocal_root(r2: f64) -> f64 {
    let h = r2 * 0.5lf;
    var y = bitcast<f64>(0x5fe6eb50c7b537a9lu - (bitcast<u64>(r2) >> 1u));
    y = y * (1.5lf - (y * y) * h);
    y = y * (1.5lf - (y * y) * h);
    y = y * (1.5lf - (y * y) * h);
    y = y * (1.5lf - (y * y) * h);
    return y;
}

/// Whether |k| ≥ 2^range_bits.
fn beyond(k: i64) -> bool {
    let most = (1lu << pull.range_bits) - 1lu;
    return bitcast<u64>(k) + most > 2lu * most;
}

@compute @workgroup_size(GROUP)
fn impulses(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = id.x;
    let me = body(row);
    // Test particles have mass too, but not as sources.
    let my_mass = f64(mass[min(row, pull.rows - 1u)]);
    let magic = bitcast<f64>(MAGIC);
    var sx = 0li;
    var sy = 0li;
    var sz = 0li;
    var outside = false;
    let first = id.y * pull.tiles * GROUP;
    let last = min(first + pull.tiles * GROUP, pull.sources);
    var met = 0u;
    for (var start = first; start < last; start += GROUP) {
        tile[lane] = body(start + lane);
        workgroupBarrier();
        for (var k = 0u; k < GROUP; k++) {
            let other = tile[k];
            let dx = other.x - me.x;
            let dy = other.y - me.y;
            let dz = other.z - me.z;
            let r2 = dx * dx + (dy * dy + (dz * dz + pull.softening2));
            let y = reciprocal_root(r2);
            let f = (((my_mass * other.w) * pull.factor) * y) * (y * y);
            let kx = bitcast<i64>(f * dx + magic);
            let ky = bitcast<i64>(f * dy + magic);
            let kz = bitcast<i64>(f * dz + magic);
            if GUARDED {
                // A body does not pull itself, and padding pulls nobody.
                let takes_part = start + k != row && other.w != 0.0lf && my_mass != 0.0lf;
                if takes_part {
                    sx += kx - MAGIC;
                    sy += ky - MAGIC;
                    sz += kz - MAGIC;
                    outside = outside || beyond(kx - MAGIC) || beyond(ky - MAGIC) || beyond(kz - MAGIC);
                }
            } else {
                sx += kx;
                sy += ky;
                sz += kz;
            }
        }
        met += GROUP;
        workgroupBarrier();
    }
    if row >= pull.rows { return; }
    if !GUARDED {
        let bias = i64(met) * MAGIC;
        sx -= bias;
        sy -= bias;
        sz -= bias;
    }
    let at = id.y * 3u * pull.rows + row;
    impulse[at] = sx;
    impulse[at + pull.rows] = sy;
    impulse[at + 2u * pull.rows] = sz;
    if outside { tally_flag(pull.slot, IMPULSE_OUT_OF_RANGE); }
}

fn words(v: i64) -> vec2<u32> {
    return vec2<u32>(u32(v & 0xffffffffli), u32((v >> 32u) & 0xffffffffli));
}

/// Minus the potential energy of the sources: each pair once, rounded to a quantum in two levels and added as integers.
@compute @workgroup_size(GROUP)
fn potential(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = id.x;
    let me = body(row);
    let magic = bitcast<f64>(MAGIC);
    let wide_magic = bitcast<f64>(WIDE_MAGIC);
    var upper = 0li;
    var lower = 0li;
    var outside = false;
    let first = id.y * pull.tiles * GROUP;
    let last = min(first + pull.tiles * GROUP, pull.sources);
    for (var start = first; start < last; start += GROUP) {
        tile[lane] = body(start + lane);
        workgroupBarrier();
        for (var k = 0u; k < GROUP; k++) {
            if start + k < row && row < pull.sources {
                let other = tile[k];
                let dx = me.x - other.x;
                let dy = me.y - other.y;
                let dz = me.z - other.z;
                let r2 = dx * dx + (dy * dy + (dz * dz + pull.softening2));
                let v = ((other.w * me.w) * pull.factor) * reciprocal_root(r2);
                let shifted = v + wide_magic;
                let rest = v - (shifted - wide_magic);
                let high = bitcast<i64>(shifted) - WIDE_MAGIC;
                upper += high;
                lower += bitcast<i64>(rest + magic) - MAGIC;
                outside = outside || ((high + (1li << 50u)) >> 51u) != 0li;
            }
        }
        workgroupBarrier();
    }
    let sum = add4(shifted_left4(widen(words(upper)), 40u), widen(words(lower)));
    tally_add(POTENTIAL, sum);
    if outside { tally_flag(pull.slot, POTENTIAL_OUT_OF_RANGE); }
    tally_close(pull.slot, lane);
}
