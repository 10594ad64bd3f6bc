// What is counted over particles one by one. CPU twin: engine/src/commit.rs::recount
//
// In one pass: what the audit compares, what may drift, and the state root (engine/src/snapshot/root.rs).

/// What one dispatch needs to know. Its mirror is `Survey` in engine/src/backend/gpu/programs.rs.
struct Survey {
    /// Rows of all columns, padding included; those from `tests` on are test particles.
    rows: u32,
    tests: u32,
    /// The exponent that turns p²/m into energy quanta, see `kinetic_scale`.
    kinetic_scale: i32,
    unused: u32,
}

@group(0) @binding(0) var<storage, read> position: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> momentum: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> mass: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> inverse_mass: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> identity: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> tally: array<atomic<u32>>;
var<immediate> survey: Survey;

/// Where the sums of the record stand. Their mirror is `SurveyRecord` in engine/src/backend/gpu/tally.rs.
const COUNT: u32 = 0u;
const MASS: u32 = 1u;
const MOMENTUM: u32 = 2u;
const ANGULAR_MOMENTUM: u32 = 5u;
const KINETIC: u32 = 8u;
const ANGULAR_SIZE: u32 = 9u;
const CENTRE: u32 = 10u;
const SOURCE_MASS: u32 = 13u;
const SOURCE_MOMENTUM: u32 = 14u;
const ROOT: u32 = 17u;

/// v·2^−shift, cut, and at most 2⁹⁶.
fn bounded_shift(v: vec4<u32>, shift: i32) -> vec4<u32> {
    let most = vec4<u32>(0u, 0u, 0u, 1u);
    if shift >= 128 || all(v == vec4<u32>(0u)) { return vec4<u32>(0u); }
    if shift >= 0 {
        let moved = shifted_right4(v, u32(shift));
        return select(moved, most, moved.w != 0u);
    }
    if shift < -96 || i32(leading_zeros4(v)) <= 31 - shift { return most; }
    return shifted_left4(v, u32(-shift));
}

/// p²/2m of one axis [energy quanta].
fn kinetic(row: u32, p: vec2<u32>) -> vec4<u32> {
    let w = scaled(inverse_mass[row]);
    let reciprocal = shifted_left4(vec4<u32>(w.mantissa, 0u, 0u), 11u).xy;
    let size = absolute2(p);
    let velocity = product(size, reciprocal).zw;
    return bounded_shift(product(size, velocity), -(64 + w.exponent - 11 + survey.kinetic_scale));
}

fn absolute4(v: vec4<u32>) -> vec4<u32> {
    return select(v, negate4(v), (v.w >> 31u) != 0u);
}

fn rotated(v: u32, turn: u32) -> u32 {
    return (v << turn) | (v >> (32u - turn));
}

const C: array<u32, 4> = array<u32, 4>(0x239b961bu, 0xab0e9789u, 0x38b34ae5u, 0xa1e38b93u);
const K_TURN: array<u32, 4> = array<u32, 4>(15u, 16u, 17u, 18u);
const H_TURN: array<u32, 4> = array<u32, 4>(19u, 17u, 15u, 13u);
const ADD: array<u32, 4> = array<u32, 4>(0x561ccd1bu, 0x0bcaa747u, 0x96cd1c35u, 0x32ac3b17u);

fn cross_add(h: vec4<u32>) -> vec4<u32> {
    let a = h.x + h.y + h.z + h.w;
    return vec4<u32>(a, h.y + a, h.z + a, h.w + a);
}

fn finalised(word: u32) -> u32 {
    var h = word;
    h ^= h >> 16u;
    h *= 0x85ebca6bu;
    h ^= h >> 13u;
    h *= 0xc2b2ae35u;
    return h ^ (h >> 16u);
}

/// One block of MurmurHash3_x86_128.
fn mixed(before: vec4<u32>, a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
    var constants = C;
    var k_turn = K_TURN;
    var h_turn = H_TURN;
    var add = ADD;
    var k = vec4<u32>(a, b);
    var h = before;
    for (var lane = 0u; lane < 4u; lane++) {
        let next = (lane + 1u) % 4u;
        h[lane] ^= rotated(k[lane] * constants[lane], k_turn[lane]) * constants[next];
        h[lane] = (rotated(h[lane], h_turn[lane]) + h[next]) * 5u + add[lane];
    }
    return h;
}

/// The hash of one particle: its identity, position, momentum and mass.
fn hash(row: u32, x: array<vec2<u32>, 3>, p: array<vec2<u32>, 3>) -> vec4<u32> {
    var h = mixed(vec4<u32>(0u), identity[row], x[0]);
    h = mixed(h, x[1], x[2]);
    h = mixed(h, p[0], p[1]);
    h = mixed(h, p[2], mass[row]);
    h = cross_add(h ^ vec4<u32>(64u));
    return cross_add(vec4<u32>(finalised(h.x), finalised(h.y), finalised(h.z), finalised(h.w)));
}

fn count_source(row: u32, x: array<vec2<u32>, 3>, p: array<vec2<u32>, 3>) {
    tally_add(SOURCE_MASS, widen(mass[row]));
    for (var axis = 0u; axis < 3u; axis++) {
        tally_add(KINETIC, kinetic(row, p[axis]));
        tally_add(CENTRE + axis, signed_product(mass[row], x[axis]));
        tally_add(SOURCE_MOMENTUM + axis, widen(p[axis]));
    }
    let l = add4(
        add4(absolute4(cross_component(x[1], x[2], p[1], p[2])), absolute4(cross_component(x[2], x[0], p[2], p[0]))),
        absolute4(cross_component(x[0], x[1], p[0], p[1])),
    );
    tally_add(ANGULAR_SIZE, shifted_right4(l, 16u));
}

@compute @workgroup_size(GROUP)
fn count(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let rows = survey.rows;
    for (var row = id.x; row < rows; row += groups.x * GROUP) {
        // Padding has no mass, and is not counted.
        if all(mass[row] == vec2<u32>(0u, 0u)) { continue; }
        let x = array<vec2<u32>, 3>(position[row], position[rows + row], position[2u * rows + row]);
        let p = array<vec2<u32>, 3>(momentum[row], momentum[rows + row], momentum[2u * rows + row]);
        tally_add(COUNT, vec4<u32>(1u, 0u, 0u, 0u));
        tally_add(MASS, widen(mass[row]));
        for (var axis = 0u; axis < 3u; axis++) { tally_add(MOMENTUM + axis, widen(p[axis])); }
        tally_cross(ANGULAR_MOMENTUM, x, p);
        tally_add(ROOT, hash(row, x, p));
        if row < survey.tests { count_source(row, x, p); }
    }
    tally_close(0u, lane);
}
