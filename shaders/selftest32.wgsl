// The operations of the self-test in 32 bits. CPU twin: engine/src/backend/gpu/selftest/single.rs::operations
//
// Each invocation takes one input and writes one result per operation, in the order of the twin: 64 bits as (low, high).
// A result of 32 bits stands in the low word.
struct Input { x: f32, y: f32, z: f32, w: f32, a: u32, b: u32, c: u32, d: u32 }

@group(0) @binding(0) var<storage, read> inputs: array<Input>;
@group(0) @binding(1) var<storage, read_write> results: array<vec2u>;

const OPERATIONS = 15u;
const MAGIC = 12582912.0f; // 1.5 * 2^23

fn word(v: f32) -> vec2u {
    return vec2u(bitcast<u32>(v), 0u);
}

fn two_sum_error(x: f32, y: f32) -> f32 {
    let sum = x + y;
    let part = sum - x;
    return (x - (sum - part)) + (y - part);
}

fn add(a: vec2u, b: vec2u) -> vec2u {
    let low = a.x + b.x;
    return vec2u(low, a.y + b.y + select(0u, 1u, low < a.x));
}

// a * b in 64 bits, from four products of 16 by 16 bits.
fn multiply(a: u32, b: u32) -> vec2u {
    let al = a & 0xffffu;
    let ah = a >> 16u;
    let bl = b & 0xffffu;
    let bh = b >> 16u;
    let ll = al * bl;
    // At most (2^16 - 1)^2 + 2^16 - 1: no carry is lost.
    let middle = ah * bl + (ll >> 16u);
    let lower = al * bh + (middle & 0xffffu);
    return vec2u((lower << 16u) | (ll & 0xffffu), ah * bh + (middle >> 16u) + (lower >> 16u));
}

// A shift by 32 or more has no meaning in WGSL, hence the three cases.
fn shift_left(a: vec2u, n: u32) -> vec2u {
    if n == 0u {
        return a;
    }
    if n >= 32u {
        return vec2u(0u, a.x << (n - 32u));
    }
    return vec2u(a.x << n, (a.y << n) | (a.x >> (32u - n)));
}

fn shift_right(a: vec2u, n: u32) -> vec2u {
    if n == 0u {
        return a;
    }
    if n >= 32u {
        return vec2u(a.y >> (n - 32u), 0u);
    }
    return vec2u((a.x >> n) | (a.y << (32u - n)), a.y >> n);
}

fn shift_right_signed(a: vec2u, n: u32) -> vec2u {
    let high = bitcast<i32>(a.y);
    if n == 0u {
        return a;
    }
    if n >= 32u {
        return vec2u(bitcast<u32>(high >> (n - 32u)), bitcast<u32>(high >> 31u));
    }
    return vec2u((a.x >> n) | (a.y << (32u - n)), bitcast<u32>(high >> n));
}

fn rotate_left(a: u32, n: u32) -> u32 {
    return (a << n) | (a >> ((32u - n) & 31u));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= arrayLength(&inputs) {
        return;
    }
    let v = inputs[id.x];
    let first = id.x * OPERATIONS;
    let ab = vec2u(v.a, v.b);
    results[first] = word(v.x * v.y + v.z);
    results[first + 1u] = word(v.x * v.y - v.x * v.z);
    results[first + 2u] = word((v.x + v.z) - v.x);
    results[first + 3u] = word(two_sum_error(v.x, v.y));
    results[first + 4u] = word(v.y * (1.5f - (v.y * v.y) * v.w));
    results[first + 5u] = vec2u(0x5f3759dfu - (bitcast<u32>(v.w) >> 1u), 0u);
    results[first + 6u] = word(v.x + MAGIC);
    results[first + 7u] = word(f32(v.a >> 8u));
    results[first + 8u] = word(f32(bitcast<i32>(v.b) >> 7u));
    results[first + 9u] = add(ab, vec2u(v.c, v.d));
    results[first + 10u] = multiply(v.a, v.b);
    results[first + 11u] = shift_left(ab, v.d & 63u);
    results[first + 12u] = shift_right(ab, v.d & 63u);
    results[first + 13u] = shift_right_signed(ab, v.d & 63u);
    results[first + 14u] = vec2u(rotate_left(v.a, v.d & 31u), 0u);
}
