// The contract portable32 on tiles of pairs. CPU twin: engine/src/force/portable32.rs::impulse
//
// Impulses, and the potential energy that goes with them. Each invocation has one
// row and goes through the sources, a tile of them at a time in workgroup memory. Only + − × on f32, in the order of the
// contract, and integers of 32 bits; the module is compiled so that no driver may fuse or reorder them.

/// What one dispatch needs to know. Its mirror is `Pull32` in engine/src/backend/gpu/programs.rs.
struct Pull {
    /// G·Δt, or for the potential G, in quanta but for lengths, which are in spans of 2²⁴ quanta.
    factor: f32,
    /// [span²]
    softening2: f32,
    /// Rows of all columns, padding included.
    rows: u32,
    /// The sources are the first rows.
    sources: u32,
    /// Tiles that one part of the sources has.
    tiles: u32,
    slot: u32,
    /// Impulses stay below 2^(this); more than 32.
    range_bits: u32,
    unused: u32,
}

@group(0) @binding(0) var<storage, read> position: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> mass: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> impulse: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> tally: array<atomic<u32>>;
var<immediate> pull: Pull;

const IMPULSE_OUT_OF_RANGE: u32 = 2u;
const POTENTIAL_OUT_OF_RANGE: u32 = 4u;
/// 1.5·2²³ and 1.5·2⁴⁵, with their bits.
const MAGIC: f32 = 12582912.0;
const MAGIC_BITS: u32 = 0x4b400000u;
const UPPER: f32 = 52776558133248.0;
const UPPER_BITS: u32 = 0x56400000u;

/// High parts and mass of one tile, and its low parts.
var<workgroup> tile_high: array<vec4<f32>, GROUP>;
var<workgroup> tile_low: array<vec4<f32>, GROUP>;

/// A coordinate as the nearest whole number of spans and what is left, both exact.
fn split(x: vec2<u32>) -> vec2<f32> {
    let shifted = add2(x, vec2<u32>(1u << 23u, 0u));
    let high = bitcast<i32>((shifted.y << 8u) | (shifted.x >> 24u));
    let low = i32(shifted.x & 0xffffffu) - 0x800000;
    return vec2<f32>(f32(high), f32(low) * 5.9604644775390625e-8);
}

/// The nearest f32 to an integer below 2⁵³, ties to even.
fn nearest_float(m: vec2<u32>) -> f32 {
    if m.y == 0u && m.x < 0x1000000u { return f32(m.x); }
    let zeros = select(32u + countLeadingZeros(m.x), countLeadingZeros(m.y), m.y != 0u);
    let shift = 40u - zeros;
    let wide = vec4<u32>(m, 0u, 0u);
    let kept = shifted_right4(wide, shift).x;
    let rest = add4(wide, negate4(shifted_left4(vec4<u32>(kept, 0u, 0u, 0u), shift))).xy;
    let half = shifted_left4(vec4<u32>(1u, 0u, 0u, 0u), shift - 1u).xy;
    let above = rest.y > half.y || (rest.y == half.y && rest.x > half.x);
    let up = above || (all(rest == half) && (kept & 1u) == 1u);
    // The exponent is added to the bits: 2^shift, exactly.
    return bitcast<f32>(bitcast<u32>(f32(kept + select(0u, 1u, up))) + (shift << 23u));
}

struct Body {
    high: vec4<f32>,
    low: vec4<f32>,
}

/// A body; beyond the last source, one without mass.
fn body(row: u32) -> Body {
    if row >= pull.rows { return Body(vec4<f32>(0.0), vec4<f32>(0.0)); }
    let x = split(position[row]);
    let y = split(position[pull.rows + row]);
    let z = split(position[2u * pull.rows + row]);
    let m = select(0.0, nearest_float(mass[row]), row < pull.sources);
    return Body(vec4<f32>(x.x, y.x, z.x, m), vec4<f32>(x.y, y.y, z.y, 0.0));
}

fn reciprocal_root(r2: f32) -> f32 {
    let h = r2 * 0.5;
    var y = bitcast<f32>(0x5f3759dfu - (bitcast<u32>(r2) >> 1u));
    y = y * (1.5 - (y * y) * h);
    y = y * (1.5 - (y * y) * h);
    y = y * (1.5 - (y * y) * h);
    return y;
}

/// Impulses of some pairs, in two levels: `upper`·2²² + `lower`.
struct Levels {
    upper: vec3<u32>,
    lower: vec3<u32>,
}

/// Rounds f·d to an integer in two levels.
fn levels(t: vec3<f32>) -> Levels {
    let shifted = t + UPPER;
    let rest = t - (shifted - UPPER);
    return Levels(bitcast<vec3<u32>>(shifted) - UPPER_BITS, bitcast<vec3<u32>>(rest + MAGIC) - MAGIC_BITS);
}

fn signed_word(v: u32) -> vec2<u32> {
    return vec2<u32>(v, select(0u, 0xffffffffu, (v >> 31u) != 0u));
}

/// upper·2²² + lower.
fn joined(upper: u32, lower: u32) -> vec2<u32> {
    let high = signed_word(upper);
    return add2(vec2<u32>(high.x << 22u, (high.y << 22u) | (high.x >> 10u)), signed_word(lower));
}

/// Whether |k| ≥ 2^range_bits.
fn beyond(k: vec2<u32>) -> bool {
    return (absolute2(k).y >> (pull.range_bits - 32u)) != 0u;
}

@compute @workgroup_size(GROUP)
fn impulses(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = id.x;
    let me = body(row);
    // Test particles have mass too, but not as sources.
    let my_mass = nearest_float(mass[min(row, pull.rows - 1u)]);
    var sums = array<vec2<u32>, 3>(vec2<u32>(0u), vec2<u32>(0u), vec2<u32>(0u));
    var outside = false;
    let first = id.y * pull.tiles * GROUP;
    let last = min(first + pull.tiles * GROUP, pull.sources);
    for (var start = first; start < last; start += GROUP) {
        let mine = body(start + lane);
        tile_high[lane] = mine.high;
        tile_low[lane] = mine.low;
        workgroupBarrier();
        var upper = vec3<u32>(0u);
        var lower = vec3<u32>(0u);
        for (var k = 0u; k < GROUP; k++) {
            let high = tile_high[k];
            let d = (high.xyz - me.high.xyz) + (tile_low[k].xyz - me.low.xyz);
            let r2 = d.x * d.x + (d.y * d.y + (d.z * d.z + pull.softening2));
            let y = reciprocal_root(r2);
            let f = (((my_mass * high.w) * pull.factor) * y) * (y * y);
            let rounded = levels(f * d);
            if GUARDED {
                // A body does not pull itself, and padding pulls nobody.
                let takes_part = start + k != row && high.w != 0.0 && my_mass != 0.0;
                if takes_part {
                    upper += rounded.upper;
                    lower += rounded.lower;
                    outside = outside || beyond(joined(rounded.upper.x, rounded.lower.x))
                        || beyond(joined(rounded.upper.y, rounded.lower.y))
                        || beyond(joined(rounded.upper.z, rounded.lower.z));
                }
            } else {
                upper += rounded.upper;
                lower += rounded.lower;
            }
        }
        // A tile has at most 256 pairs: their sums stay within 32 bits.
        for (var axis = 0u; axis < 3u; axis++) { sums[axis] = add2(sums[axis], joined(upper[axis], lower[axis])); }
        workgroupBarrier();
    }
    if row >= pull.rows { return; }
    let at = id.y * 3u * pull.rows + row;
    for (var axis = 0u; axis < 3u; axis++) { impulse[at + axis * pull.rows] = sums[axis]; }
    if outside { tally_flag(pull.slot, IMPULSE_OUT_OF_RANGE); }
}

/// A float from 0 to 2⁹⁰ as the nearest integer, ties to even.
fn nearest_integer(v: f32) -> vec4<u32> {
    let bits = bitcast<u32>(v);
    let exponent = i32((bits >> 23u) & 0xffu) - 150;
    let mantissa = (bits & 0x7fffffu) | 0x800000u;
    if exponent >= 0 { return shifted_left4(vec4<u32>(mantissa, 0u, 0u, 0u), u32(exponent)); }
    if exponent < -25 { return vec4<u32>(0u); }
    let shift = u32(-exponent);
    let odd = select(0u, (mantissa >> shift) & 1u, shift < 32u);
    return vec4<u32>((mantissa + ((1u << (shift - 1u)) - 1u) + odd) >> shift, 0u, 0u, 0u);
}

/// Minus the potential energy of the sources: each pair once, rounded to a quantum and added as integers.
@compute @workgroup_size(GROUP)
fn potential(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = id.x;
    let me = body(row);
    var sum = vec4<u32>(0u);
    var outside = false;
    let first = id.y * pull.tiles * GROUP;
    let last = min(first + pull.tiles * GROUP, pull.sources);
    for (var start = first; start < last; start += GROUP) {
        let mine = body(start + lane);
        tile_high[lane] = mine.high;
        tile_low[lane] = mine.low;
        workgroupBarrier();
        for (var k = 0u; k < GROUP; k++) {
            if start + k < row && row < pull.sources {
                let high = tile_high[k];
                let d = (me.high.xyz - high.xyz) + (me.low.xyz - tile_low[k].xyz);
                let r2 = d.x * d.x + (d.y * d.y + (d.z * d.z + pull.softening2));
                let v = ((high.w * me.high.w) * pull.factor) * reciprocal_root(r2);
                // 2⁹⁰ and above, and what is no number.
                let fits = bitcast<u32>(v) < 0x6c800000u;
                outside = outside || !fits;
                sum = add4(sum, nearest_integer(select(0.0, v, fits)));
            }
        }
        workgroupBarrier();
    }
    tally_add(POTENTIAL, sum);
    if outside { tally_flag(pull.slot, POTENTIAL_OUT_OF_RANGE); }
    tally_close(pull.slot, lane);
}
