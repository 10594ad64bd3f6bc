#!/usr/bin/env python3
"""The pair contracts in another language: checks every pair of the vectors beside this file.

Exact rationals, each operation rounded once to the format it stands in; nothing but the standard library. It shares no code and no
floating-point unit setting with the engine: `python3 assets/contracts/reference.py` prints how many pairs it reproduced.
"""

import math
import pathlib
import re
import struct
from fractions import Fraction as F


def rounded(value, bits, emin):
    """A rational to the nearest float with so many bits of mantissa, ties to even; subnormals at 2^emin."""
    if value == 0:
        return F(0)
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    if abs(value) < F(2) ** exponent:
        exponent -= 1
    ulp = F(2) ** max(exponent - bits + 1, emin)
    return round(value / ulp) * ulp  # Python rounds halves to even.


def f64(value):
    return rounded(F(value), 53, -1074)


def f32(value):
    return rounded(F(value), 24, -149)


def root(value, to):
    """The correctly rounded square root."""
    shift = 200 + (value.denominator.bit_length() | 1) + 1
    low = F(math.isqrt(int(value * 4**shift)), 2**shift)
    exact = low * low == value
    # A root cut at 200 bits more than needed, with a sticky bit, rounds as the root itself.
    return to(low if exact else low + F(1, 2 ** (shift + 8)))


def bits_of(value, double):
    sign = value < 0
    layout = ("<d", "<Q") if double else ("<f", "<I")
    number = float(value)
    return struct.unpack(layout[1], struct.pack(layout[0], -abs(number) if sign else number))[0]


def float_of(bits, double):
    layout = ("<Q", "<d") if double else ("<I", "<f")
    return F(struct.unpack(layout[1], struct.pack(layout[0], bits))[0])


def reciprocal_root(r2, to, seed, times, double):
    h = to(r2 / 2)
    y = float_of(seed - (bits_of(r2, double) >> 1), double)
    for _ in range(times):
        y = to(y * to(F(3, 2) - to(to(y * y) * h)))
    return y


def two_levels(exact, upper_magic, lower_magic, to):
    """The nearest integer, by way of a multiple of 2^22."""
    upper = to(exact + upper_magic) - upper_magic
    rest = to(exact - upper)
    return upper + (to(rest + lower_magic) - lower_magic)


def native64(d, m, w, e2):
    d = [f64(v) for v in d]
    r2 = f64(d[2] * d[2] + e2)
    r2 = f64(d[1] * d[1] + r2)
    r2 = f64(d[0] * d[0] + r2)
    if r2 == 0:
        return None
    f = f64(f64(f64(m[0] * m[1]) * w) / f64(r2 * root(r2, f64)))
    return [round(f * v) for v in d]


def portable64(d, m, w, e2):
    d = [F(v) for v in d]
    r2 = f64(f64(d[0] * d[0]) + f64(f64(d[1] * d[1]) + f64(f64(d[2] * d[2]) + e2)))
    y = reciprocal_root(r2, f64, 0x5FE6EB50C7B537A9, 4, True)
    f = f64(f64(f64(f64(m[0] * m[1]) * w) * y) * f64(y * y))
    return [round(f64(f * v)) for v in d]


SPAN = F(1, 2**24)


def portable32(d, m, w, e2):
    d = [f32(v * SPAN) for v in d]
    m, w, e2 = [f32(v) for v in m], f32(w * SPAN * SPAN), f32(e2 * SPAN * SPAN)
    r2 = f32(f32(d[0] * d[0]) + f32(f32(d[1] * d[1]) + f32(f32(d[2] * d[2]) + e2)))
    y = reciprocal_root(r2, f32, 0x5F3759DF, 3, False)
    f = f32(f32(f32(f32(m[0] * m[1]) * w) * y) * f32(y * y))
    return [two_levels(f32(f * v), F(3 * 2**44), F(3 * 2**22), f32) for v in d]


def triples(text, name):
    return [tuple(map(int, t)) for t in re.findall(name + r": \((-?\d+), (-?\d+), (-?\d+)\)", text)]


def main():
    folder = pathlib.Path(__file__).parent
    for name, contract in [("native64", native64), ("portable64", portable64), ("portable32", portable32)]:
        text = (folder / f"{name}.ron").read_text().split("cube:")[-2]
        masses = re.findall(r"masses: \((\d+), (\d+)\)", text)
        factors = re.findall(r'factor: "0x([0-9a-f]+)", softening2: "0x([0-9a-f]+)"', text)
        places = zip(triples(text, "from"), triples(text, "to"), masses, factors, triples(text, "impulse"))
        good = 0
        for start, end, m, (w, e2), impulse in places:
            d = [b - a for a, b in zip(start, end)]
            found = contract(d, [F(int(v)) for v in m], float_of(int(w, 16), True), float_of(int(e2, 16), True))
            assert found == list(impulse), (name, start, end, found, impulse)
            good += 1
        print(f"{name}: {good} pairs reproduced")


if __name__ == "__main__":
    main()
