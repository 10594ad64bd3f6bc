// The operations of the self-test in 64 bits. CPU twin: engine/src/backend/gpu/selftest/double.rs::operations
//
// Each invocation takes one input and writes one result per operation, in the order of the twin, as bits.
// WGSL has no literals of f64: constants come as data.
struct Input { x: f64, y: f64, z: f64, w: f64, a: i64, b: i64 }

@group(0) @binding(0) var<storage, read> inputs: array<Input>;
@group(0) @binding(1) var<storage, read_write> results: array<u64>;
@group(0) @binding(2) var<storage, read> constants: array<f64>; // 1.5; 1.5 * 2^52; 2^84 + 2^63 + 2^52

const OPERATIONS = 10u;

fn two_sum_error(x: f64, y: f64) -> f64 {
    let sum = x + y;
    let part = sum - x;
    return (x - (sum - part)) + (y - part);
}

// The nearest float to an integer: its halves become mantissas of floats near 2^52 and 2^84, exactly, and taking both offsets
// away rounds once.
fn f64_from_i64(v: i64) -> f64 {
    let bits = bitcast<u64>(v);
    let low = bitcast<f64>((bits & 0xfffffffflu) | 0x4330000000000000lu);
    let high = bitcast<f64>((bits >> 32u) ^ 0x4530000080000000lu);
    return (high - constants[2]) + low;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= arrayLength(&inputs) {
        return;
    }
    let v = inputs[id.x];
    let first = id.x * OPERATIONS;
    results[first] = bitcast<u64>(v.x * v.y + v.z);
    results[first + 1u] = bitcast<u64>(v.x * v.y - v.x * v.z);
    results[first + 2u] = bitcast<u64>((v.x + v.z) - v.x);
    results[first + 3u] = bitcast<u64>(two_sum_error(v.x, v.y));
    results[first + 4u] = bitcast<u64>(v.y * (constants[0] - (v.y * v.y) * v.w));
    results[first + 5u] = 0x5fe6eb50c7b537a9lu - (bitcast<u64>(v.w) >> 1u);
    results[first + 6u] = bitcast<u64>(v.x + constants[1]);
    results[first + 7u] = bitcast<u64>(f64_from_i64(v.a));
    results[first + 8u] = bitcast<u64>(v.a + v.b);
    results[first + 9u] = bitcast<u64>(v.a - v.b);
}
