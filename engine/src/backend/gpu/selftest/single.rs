//! The operations of the self-test in 32 bits, twin of `shaders/selftest32.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::{Gives, Input, Operation, Random};

/// The shader.
pub(super) const SHADER: &str = include_str!("../../../../../shaders/selftest32.wgsl");

/// 1.5·2²³: added to a float below 2²² it leaves the nearest integer in the low bits of the mantissa.
const MAGIC: f32 = 12_582_912.0;

/// As `Input` in the shader.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Single {
    x: f32,
    y: f32,
    z: f32,
    /// Positive.
    w: f32,
    a: u32,
    b: u32,
    c: u32,
    d: u32,
}

impl Input for Single {
    fn draw(random: &mut Random, k: usize) -> Self {
        let (low, high) = (random.bits(), random.bits());
        // Every eighth x is half an integer, so that ties occur.
        let x = if k.is_multiple_of(8) { k as f32 / 16.0 - 100.0 } else { random.float() as f32 };
        Self {
            x,
            y: random.float() as f32,
            z: random.float() as f32,
            w: random.float().abs() as f32,
            a: low as u32,
            b: (low >> 32) as u32,
            c: high as u32,
            d: (high >> 32) as u32,
        }
    }

    fn show(&self, name: char) -> String {
        match name {
            'x' => format!("{:?}", self.x),
            'y' => format!("{:?}", self.y),
            'z' => format!("{:?}", self.z),
            'w' => format!("{:?}", self.w),
            'a' => format!("{:#010x}", self.a),
            'b' => format!("{:#010x}", self.b),
            'c' => format!("{:#010x}", self.c),
            _ => format!("{:#010x}", self.d),
        }
    }
}

/// The table, in the order of the shader.
pub(super) fn operations() -> Vec<Operation<Single>> {
    let mut all = floats();
    all.extend(integers());
    all
}

fn floats() -> Vec<Operation<Single>> {
    let row = |name, takes, twin| Operation { name, takes, gives: Gives::F32, twin };
    let bits = |name, takes, twin| Operation { name, takes, gives: Gives::U32, twin };
    vec![
        row("x*y + z (two roundings)", "xyz", |i: &Single| word(i.x * i.y + i.z)),
        row("x*y - x*z", "xyz", |i: &Single| word(i.x * i.y - i.x * i.z)),
        row("(x + z) - x", "xz", |i: &Single| word((i.x + i.z) - i.x)),
        row("error term of TwoSum", "xy", |i: &Single| {
            let sum = i.x + i.y;
            let part = sum - i.x;
            word((i.x - (sum - part)) + (i.y - part))
        }),
        row("y*(1.5 - (y*y)*w)", "yw", |i: &Single| word(i.y * (1.5 - (i.y * i.y) * i.w))),
        bits("integer seed of the reciprocal root", "w", |i: &Single| (0x5f37_59df - (i.w.to_bits() >> 1)).into()),
        bits("bits of x + 1.5*2^23", "x", |i: &Single| word(i.x + MAGIC)),
        row("u32 to f32 below 2^24", "a", |i: &Single| word((i.a >> 8) as f32)),
        row("i32 to f32 within 2^24", "b", |i: &Single| word((i.b.cast_signed() >> 7) as f32)),
    ]
}

fn integers() -> Vec<Operation<Single>> {
    let row = |name, takes, twin| Operation { name, takes, gives: Gives::Pair, twin };
    vec![
        row("(a, b) + (c, d) with carry", "abcd", |i: &Single| i.ab().wrapping_add(i.cd())),
        row("a*b to 64 bits from halves of 16", "ab", |i: &Single| u64::from(i.a) * u64::from(i.b)),
        row("(a, b) << d%64", "abd", |i: &Single| i.ab() << (i.d % 64)),
        row("(a, b) >> d%64", "abd", |i: &Single| i.ab() >> (i.d % 64)),
        row("signed (a, b) >> d%64", "abd", |i: &Single| (i.ab().cast_signed() >> (i.d % 64)).cast_unsigned()),
        row("a rotated left by d%32", "ad", |i: &Single| i.a.rotate_left(i.d % 32).into()),
    ]
}

impl Single {
    fn ab(&self) -> u64 {
        u64::from(self.a) | u64::from(self.b) << 32
    }

    fn cd(&self) -> u64 {
        u64::from(self.c) | u64::from(self.d) << 32
    }
}

fn word(v: f32) -> u64 {
    v.to_bits().into()
}
