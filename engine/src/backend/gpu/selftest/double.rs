//! The operations of the self-test in 64 bits, twin of `shaders/selftest64.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::{Gives, Input, Operation, Random};
use crate::math;

/// The shader.
pub(super) const SHADER: &str = include_str!("../../../../../shaders/selftest64.wgsl");

/// 2⁸⁴ + 2⁶³ + 2⁵²: what [`math::f64_from_i64`] takes off again.
const OFFSETS: f64 = f64::from_bits(0x4530_0000_8010_0000);

/// What the shader gets as data, because WGSL has no literals of f64.
pub(super) const CONSTANTS: [f64; 3] = [1.5, math::MAGIC, OFFSETS];

/// As `Input` in the shader.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Double {
    x: f64,
    y: f64,
    z: f64,
    /// Positive.
    w: f64,
    a: i64,
    b: i64,
}

impl Input for Double {
    fn draw(random: &mut Random, k: usize) -> Self {
        // Every eighth x is half an integer, so that ties occur; integers of every size.
        let x = if k.is_multiple_of(8) { k as f64 / 16.0 - 100.0 } else { random.float() };
        Self {
            x,
            y: random.float(),
            z: random.float(),
            w: random.float().abs(),
            a: random.bits().cast_signed() >> (k % 64),
            b: random.bits().cast_signed(),
        }
    }

    fn show(&self, name: char) -> String {
        match name {
            'x' => format!("{:?}", self.x),
            'y' => format!("{:?}", self.y),
            'z' => format!("{:?}", self.z),
            'w' => format!("{:?}", self.w),
            'a' => format!("{:#018x}", self.a),
            _ => format!("{:#018x}", self.b),
        }
    }
}

/// The table, in the order of the shader.
pub(super) fn operations() -> Vec<Operation<Double>> {
    let row = |name, takes, twin| Operation { name, takes, gives: Gives::F64, twin };
    let bits = |name, takes, twin| Operation { name, takes, gives: Gives::I64, twin };
    vec![
        row("x*y + z (two roundings)", "xyz", |i: &Double| (i.x * i.y + i.z).to_bits()),
        row("x*y - x*z", "xyz", |i: &Double| (i.x * i.y - i.x * i.z).to_bits()),
        row("(x + z) - x", "xz", |i: &Double| ((i.x + i.z) - i.x).to_bits()),
        row("error term of TwoSum", "xy", |i: &Double| {
            let sum = i.x + i.y;
            let part = sum - i.x;
            ((i.x - (sum - part)) + (i.y - part)).to_bits()
        }),
        row("y*(1.5 - (y*y)*w)", "yw", |i: &Double| (i.y * (1.5 - (i.y * i.y) * i.w)).to_bits()),
        bits("integer seed of the reciprocal root", "w", |i: &Double| 0x5fe6_eb50_c7b5_37a9 - (i.w.to_bits() >> 1)),
        bits("bits of x + 1.5*2^52", "x", |i: &Double| (i.x + math::MAGIC).to_bits()),
        row("i64 to f64 by two offsets", "a", |i: &Double| math::f64_from_i64(i.a).to_bits()),
        bits("a + b", "ab", |i: &Double| i.a.wrapping_add(i.b).cast_unsigned()),
        bits("a - b", "ab", |i: &Double| i.a.wrapping_sub(i.b).cast_unsigned()),
    ]
}
