// Integers of 64 and 128 bits. CPU twin: engine/src/integrator/portable.rs::round_to_even
//
// They are `u128` and `i128` there. Here, integers of 64 bits (`vec2<u32>`) and of 128 bits (`vec4<u32>`), low word first, signed ones in two's complement. Every
// operation is exact or wraps, on every device: no 64-bit type, no float.

fn is_negative(v: vec2<u32>) -> bool {
    return (v.y >> 31u) != 0u;
}

fn add2(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn negate2(v: vec2<u32>) -> vec2<u32> {
    return add2(~v, vec2<u32>(1u, 0u));
}

fn absolute2(v: vec2<u32>) -> vec2<u32> {
    return select(v, negate2(v), is_negative(v));
}

fn add4(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    let low = add2(a.xy, b.xy);
    let carry = low.y < a.y || (low.y == a.y && low.x < a.x);
    let high = add2(add2(a.zw, b.zw), vec2<u32>(select(0u, 1u, carry), 0u));
    return vec4<u32>(low, high);
}

fn negate4(v: vec4<u32>) -> vec4<u32> {
    return add4(~v, vec4<u32>(1u, 0u, 0u, 0u));
}

/// A signed integer of 64 bits as one of 128.
fn widen(v: vec2<u32>) -> vec4<u32> {
    let sign = select(0u, 0xffffffffu, is_negative(v));
    return vec4<u32>(v, sign, sign);
}

/// a·b in 64 bits, from halves of 16 bits: WGSL has no wide product.
fn product_of_words(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let left = (a >> 16u) * (b & 0xffffu);
    let right = (a & 0xffffu) * (b >> 16u);
    let middle = (low >> 16u) + (left & 0xffffu) + (right & 0xffffu);
    let high = (a >> 16u) * (b >> 16u) + (left >> 16u) + (right >> 16u) + (middle >> 16u);
    return vec2<u32>((low & 0xffffu) | (middle << 16u), high);
}

/// a·b of two unsigned integers.
fn product(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
    let low = product_of_words(a.x, b.x);
    let left = product_of_words(a.y, b.x);
    let right = product_of_words(a.x, b.y);
    let high = product_of_words(a.y, b.y);
    let outer = vec4<u32>(low, high);
    return add4(add4(outer, vec4<u32>(0u, left, 0u)), vec4<u32>(0u, right, 0u));
}

/// a·b of two signed integers.
fn signed_product(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
    let size = product(absolute2(a), absolute2(b));
    return select(size, negate4(size), is_negative(a) != is_negative(b));
}

/// One component of a × b.
fn cross_component(au: vec2<u32>, av: vec2<u32>, bu: vec2<u32>, bv: vec2<u32>) -> vec4<u32> {
    return add4(signed_product(au, bv), negate4(signed_product(av, bu)));
}

/// v >> shift, for shifts of 0 to 127.
fn shifted_right4(v: vec4<u32>, shift: u32) -> vec4<u32> {
    var moved = v;
    if (shift & 64u) != 0u { moved = vec4<u32>(moved.zw, 0u, 0u); }
    if (shift & 32u) != 0u { moved = vec4<u32>(moved.yzw, 0u); }
    let bits = shift & 31u;
    if bits == 0u { return moved; }
    return (moved >> vec4<u32>(bits)) | (vec4<u32>(moved.yzw, 0u) << vec4<u32>(32u - bits));
}

/// v << shift, for shifts of 0 to 127.
fn shifted_left4(v: vec4<u32>, shift: u32) -> vec4<u32> {
    var moved = v;
    if (shift & 64u) != 0u { moved = vec4<u32>(0u, 0u, moved.xy); }
    if (shift & 32u) != 0u { moved = vec4<u32>(0u, moved.xyz); }
    let bits = shift & 31u;
    if bits == 0u { return moved; }
    return (moved << vec4<u32>(bits)) | (vec4<u32>(0u, moved.xyz) >> vec4<u32>(32u - bits));
}

/// Leading zeros of an unsigned integer of 128 bits.
fn leading_zeros4(v: vec4<u32>) -> u32 {
    if v.w != 0u { return countLeadingZeros(v.w); }
    if v.z != 0u { return 32u + countLeadingZeros(v.z); }
    if v.y != 0u { return 64u + countLeadingZeros(v.y); }
    return 96u + countLeadingZeros(v.x);
}

/// A positive normal f64, given as its bits, as mantissa·2^exponent with 53 bits of mantissa; 0 is 0.
struct Scaled {
    mantissa: vec2<u32>,
    exponent: i32,
}

fn scaled(bits: vec2<u32>) -> Scaled {
    let exponent = i32((bits.y >> 20u) & 0x7ffu);
    if exponent == 0 { return Scaled(vec2<u32>(0u, 0u), 0); }
    return Scaled(vec2<u32>(bits.x, (bits.y & 0xfffffu) | 0x100000u), exponent - 1075);
}
