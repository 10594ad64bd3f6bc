// Kicks and drifts with their bookings. CPU twin: engine/src/integrator/portable.rs::displacement
//
// And the recount after a step: integers alone, the same for every portable contract.

/// What one dispatch needs to know. Its mirror is `Stage` in engine/src/backend/gpu/programs.rs.
struct Stage {
    /// Rows of all columns, padding included; those from `tests` on are test particles.
    rows: u32,
    tests: u32,
    /// The record of this step.
    slot: u32,
    /// Parts in which the force evaluation left the impulses.
    parts: u32,
    /// Bits of Δt in position quanta per momentum quantum, an f64.
    stride: vec2<u32>,
    /// Positions stay within ±2^(this).
    position_bits: u32,
    /// Not zero if angular momentum is booked.
    angular: u32,
}

@group(0) @binding(0) var<storage, read_write> position: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> momentum: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> impulse: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> inverse_mass: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> tally: array<atomic<u32>>;
var<immediate> stage: Stage;

/// Where the sums of a record stand. Their mirror is `StepRecord` in engine/src/backend/gpu/tally.rs.
const TEST_IMPULSE: u32 = 0u;
const SOURCE_TORQUE: u32 = 3u;
const TEST_TORQUE: u32 = 6u;
const SWAY: u32 = 9u;
const MOMENTUM: u32 = 12u;
const ANGULAR_MOMENTUM: u32 = 15u;
const OUT_OF_RANGE: u32 = 1u;

fn position_of(row: u32) -> array<vec2<u32>, 3> {
    return array<vec2<u32>, 3>(position[row], position[stage.rows + row], position[2u * stage.rows + row]);
}

/// Whether v is not within ±2⁶².
fn momentum_outside(v: vec2<u32>) -> bool {
    return is_negative(add2(v, vec2<u32>(0u, 0x40000000u)));
}

/// Whether x is not within ±2^position_bits; these are more than 32.
fn position_outside(x: vec2<u32>) -> bool {
    let reach = vec2<u32>(0u, 1u << (stage.position_bits - 32u));
    return (add2(x, reach).y >> (stage.position_bits - 31u)) != 0u;
}

/// p ← p + J; books J and x × J.
fn kick(row: u32, x: array<vec2<u32>, 3>) -> array<vec2<u32>, 3> {
    var p: array<vec2<u32>, 3>;
    var gained: array<vec2<u32>, 3>;
    var outside = false;
    for (var axis = 0u; axis < 3u; axis++) {
        let at = axis * stage.rows + row;
        var j = vec2<u32>(0u, 0u);
        for (var part = 0u; part < stage.parts; part++) {
            j = add2(j, impulse[part * 3u * stage.rows + at]);
        }
        gained[axis] = j;
        p[axis] = add2(momentum[at], j);
        momentum[at] = p[axis];
        outside = outside || momentum_outside(j) || momentum_outside(p[axis]);
        if row >= stage.tests { tally_add(TEST_IMPULSE + axis, widen(j)); }
    }
    if outside { tally_flag(stage.slot, OUT_OF_RANGE); }
    if stage.angular != 0u { tally_cross(select(SOURCE_TORQUE, TEST_TORQUE, row >= stage.tests), x, gained); }
    return p;
}

/// The size of Δt/m as mantissa·2^−shift.
struct Multiplier {
    mantissa: vec2<u32>,
    shift: i32,
}

fn multiplier(row: u32) -> Multiplier {
    let stride = scaled(stage.stride);
    let w = scaled(inverse_mass[row]);
    let mantissa = shifted_right4(product(stride.mantissa, w.mantissa), 42u).xy;
    return Multiplier(mantissa, -(stride.exponent + w.exponent + 42));
}

/// How far a momentum goes [position quanta], and a third word that is not 0 if that cannot be held.
fn displacement(factor: Multiplier, p: vec2<u32>) -> vec3<u32> {
    let exact = product(absolute2(p), factor.mantissa);
    if factor.shift < 1 {
        return vec3<u32>(0u, 0u, exact.x | exact.y | exact.z | exact.w);
    }
    if factor.shift > 127 { return vec3<u32>(0u, 0u, 0u); }
    let shift = u32(factor.shift);
    // To nearest, ties to even: half a unit less the last bit, and one more if the result would be odd.
    let odd = shifted_right4(exact, shift).x & 1u;
    let one = vec4<u32>(1u, 0u, 0u, 0u);
    let half_less_one = add4(shifted_left4(one, shift - 1u), ~vec4<u32>(0u));
    let size = shifted_right4(add4(add4(exact, half_less_one), vec4<u32>(odd, 0u, 0u, 0u)), shift);
    let kept = vec2<u32>(size.x, size.y & 0x3fffffffu);
    let backwards = (stage.stride.y >> 31u) != 0u;
    let moved = select(kept, negate2(kept), backwards != is_negative(p));
    return vec3<u32>(moved, (size.y >> 30u) | size.z | size.w);
}

/// x ← x + Δt·p/m, rounded; books Δx × p. Rows without mass are padding, which stands out of range for good.
fn drift(row: u32, x: array<vec2<u32>, 3>, p: array<vec2<u32>, 3>) {
    let factor = multiplier(row);
    let padding = all(inverse_mass[row] == vec2<u32>(0u, 0u));
    var moved: array<vec2<u32>, 3>;
    var outside = false;
    for (var axis = 0u; axis < 3u; axis++) {
        let dx = displacement(factor, p[axis]);
        moved[axis] = dx.xy;
        let there = add2(x[axis], dx.xy);
        position[axis * stage.rows + row] = there;
        outside = outside || dx.z != 0u || (!padding && position_outside(there));
    }
    if outside { tally_flag(stage.slot, OUT_OF_RANGE); }
    if stage.angular != 0u { tally_cross(SWAY, moved, p); }
}

@compute @workgroup_size(GROUP)
fn kick_and_drift(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var row = id.x; row < stage.rows; row += groups.x * GROUP) {
        let x = position_of(row);
        let p = kick(row, x);
        drift(row, x, p);
    }
    tally_close(stage.slot, lane);
}

@compute @workgroup_size(GROUP)
fn kick_and_count(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var row = id.x; row < stage.rows; row += groups.x * GROUP) {
        let x = position_of(row);
        let p = kick(row, x);
        for (var axis = 0u; axis < 3u; axis++) { tally_add(MOMENTUM + axis, widen(p[axis])); }
        if stage.angular != 0u { tally_cross(ANGULAR_MOMENTUM, x, p); }
    }
    tally_close(stage.slot, lane);
}
