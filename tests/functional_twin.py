"""What ISA.md says of every computing instruction, in plain Python integers and loops: the twin of sim.functional.

``sram`` is a list of bytes, changed in place; configurations are dictionaries of instruction fields.
"""

from __future__ import annotations

import math


def floor_half(value, shift):
    """round(v, s) = floor(v / 2^s + 1/2)."""
    return (2 * value + (1 << shift)) // (1 << (shift + 1))


def number(byte, unsigned):
    return byte if unsigned or byte < 128 else byte - 256


def sat(value, unsigned):
    return max(0, min(255, value)) if unsigned else max(-128, min(127, value))


def signed(value, bits):
    return value - (1 << bits) if value >> (bits - 1) else value


def word(sram, at, size=4):
    return int.from_bytes(bytes(sram[at : at + size]), "little")


def nibbles(byte):
    return signed(byte & 15, 4), signed(byte >> 4, 4)


def pixel(window, out, tap):
    """Input pixel of a tap of an output pixel, or None outside."""
    y = out // window["out_w"] * window["stride_h"] + tap[0] * window["dilation_h"] - window["pad_top"]
    x = out % window["out_w"] * window["stride_w"] + tap[1] * window["dilation_w"] - window["pad_left"]
    return y * window["in_w"] + x if 0 <= y < window["in_h"] and 0 <= x < window["in_w"] else None


def taps(window):
    return [(i, j) for i in range(window["kernel_h"]) for j in range(window["kernel_w"])]


# --- the array ---


def product(sram, gem, gmc, gmo, weight, groups_per_tile=0):
    """GEM, or GMS (no ``groups_per_tile``): ``weight(column, k)``. Raises OverflowError for a sum that is no int32."""
    channels = gmo["reduction"] // len(taps(gmc))
    at = gmo["parameters"]
    biases = [signed(word(sram, at + 4 * c), 32) for c in range(gem["columns"])] if gmo["bias"] else None
    at += 4 * gem["columns"] if gmo["bias"] else 0
    words = [word(sram, at + 4 * c * gmo["channel_scales"]) for c in range(gem["columns"])]
    at += 4 * gem["columns"] if gmo["channel_scales"] else 4
    at = gmo["parameters"] + gmo["b_stride"] if groups_per_tile else at  # of a GEM; GMS strides through b with b_stride
    table = sram[at : at + 256]
    results = []
    for r in range(gem["rows"]):
        for c in range(gem["columns"]):
            group = c // (gmo["tile_columns"] // groups_per_tile) if groups_per_tile > 1 else 0
            order = [(t, k) for t in taps(gmc) for k in range(channels)]
            if gmc["channel_major"]:
                order = [(t, k) for k in range(channels) for t in taps(gmc)]
            total = row_sum = 0
            for position, (tap, k) in enumerate(order):
                p = pixel(gmc, r, tap)
                if p is not None:
                    x = number(sram[gem["a"] + p * gmc["pixel_stride"] + group * channels + k], gmc["a_unsigned"])
                    total += x * weight(c, position)
                    row_sum += x
            if gmo["normalise"]:
                total = floor_half(total * ((1 << 40) // row_sum), 24) if row_sum else 0
            if biases:
                total += biases[c]
            if not -(1 << 31) <= total < 1 << 31:
                raise OverflowError(total)
            mantissa, shift = signed(words[c] & 0xFFFFFF, 24), words[c] >> 24 & 63
            result = sat(floor_half(total * mantissa, shift), gmo["unsigned"]) & 255
            results.append((gem["out"] + r * gmo["out_stride"] + c, table[result] if gmo["table"] else result))
    for place, byte in results:
        sram[place] = byte


def gms_weight(sram, gms, gmo):
    """The stationary operand of a GMS."""

    def weight(c, k):
        row, column = (c, k) if gms["transpose_b"] else (k, c)
        return number(sram[gms["b"] + row * gmo["b_stride"] + column], False)

    return weight


# --- the vector unit ---


def vector(sram, name, vec, vst, vbt, vrq, vwn, vrs):
    """One VEC of function ``name``."""
    before, results = list(sram), []
    for n in range(vbt["count"]):
        base = {operand: vec[operand] + n * vbt[f"{operand}_stride"] for operand in ("a", "b", "out")}
        for r, row in enumerate(_ROWS[name](_Reader(before, vec, vst, vrq, vwn, vrs, base))):
            for c, value in enumerate(row):
                results.append((base["out"] + r * vst["out_stride"] + c * vst["out_column_stride"], value & 255))
    for place, byte in results:
        sram[place] = byte


class _Reader:
    def __init__(self, sram, vec, vst, vrq, vwn, vrs, base):
        self.sram, self.vec, self.vst, self.vrq, self.vwn, self.vrs, self.base = sram, vec, vst, vrq, vwn, vrs, base
        self.rows, self.columns = range(vec["rows"]), range(vec["columns"])
        self.A, self.B = signed(vrq["a_multiplier"], 24), signed(vrq["b_multiplier"], 24)
        self.shift = vrq["shift"]

    def byte(self, r, c):
        return self.sram[self.base["a"] + r * self.vst["a_stride"] + c * self.vst["a_column_stride"]]

    def a(self, r, c):
        return number(self.byte(r, c), self.vrq["a_unsigned"])

    def b(self, r, c):
        return number(self.sram[self.base["b"] + r * self.vst["b_stride"] + c], self.vrq["b_unsigned"])

    def exponents(self, c):
        return nibbles(self.sram[self.vrq["parameters"] + c])

    def at_pixel(self, image, p, c):
        return self.sram[self.base["a"] + p * image["pixel_stride"] + c * self.vst["a_column_stride"]]

    def sat(self, value, extra=0):
        return sat(floor_half(value, self.shift + extra), self.vrq["unsigned"])

    def each(self, value):
        return [[value(r, c) for c in self.columns] for r in self.rows]


def add(x):
    def value(r, c):
        if not x.vrq["exponents"]:
            return x.sat(x.a(r, c) * x.A + x.b(r, c) * x.B)
        da, db = x.exponents(c)
        return x.sat(x.a(r, c) * x.A * 2 ** (da + 8) + x.b(r, c) * x.B * 2 ** (db + 8), 8)

    return x.each(value)


def div(x):
    def value(r, c):
        n, d = x.a(r, c) * x.A, x.b(r, c)
        quotient = (2 * n + d) // (2 * d) if d else ((n > 0) - (n < 0)) * 2**31
        return x.sat(quotient)

    return x.each(value)


def mean(x):
    row = []
    for c in x.columns:
        total = sum(x.a(r, c) for r in x.rows) * x.A
        row.append(x.sat(total * 2 ** (x.exponents(c)[0] + 8), 8) if x.vrq["exponents"] else x.sat(total))
    return [row]


def powers(x, r):
    """e of a row."""
    top = max(x.a(r, c) for c in x.columns)
    steps = [((top - x.a(r, c)) * x.A + 128) // 256 for c in x.columns]
    return [round(2 ** (15 - p % 256 / 256)) // 2 ** (p // 256) for p in steps]


def softmax(x):
    rows = []
    for r in x.rows:
        e = powers(x, r)
        rows.append([x.sat(v * (2**40 // sum(e)) // 2**16 * x.B) for v in e])
    return rows


def layernorm(x):
    n, b = x.vec["columns"], x.base["b"]
    epsilon = x.vrq["b_multiplier"] * 2 ** x.vrq["epsilon_shift"]
    rows = []
    for r in x.rows:
        shifts = [nibbles(x.sram[b + 4 * n + c])[0] if x.vrq["exponents"] else 0 for c in x.columns]
        values = [x.a(r, c) * 2 ** shifts[c] for c in x.columns]
        middle = (2 * 256 * sum(values) + n) // (2 * n)
        centred = [256 * v - middle for v in values]
        root = max(1, math.isqrt(sum(c * c for c in centred) // n + epsilon))
        row = []
        for c in x.columns:
            gain = signed(word(x.sram, b + 2 * c, 2), 16)
            offset = signed(word(x.sram, b + 2 * n + 2 * c, 2), 16)
            z = floor_half(centred[c] * (2**38 // root), 26)
            row.append(x.sat(z * gain + offset * 2 ** x.vrq["offset_shift"]))
        rows.append(row)
    return rows


def pool(x, join):
    rows = []
    for r in x.rows:
        pixels = [p for tap in taps(x.vwn) if (p := pixel(x.vwn, r, tap)) is not None]
        unsigned = x.vrq["a_unsigned"]
        rows.append([join([number(x.at_pixel(x.vwn, p, c), unsigned) for p in pixels]) for c in x.columns])
    return rows


def nearest(x):
    s = x.vrs

    def value(r, c):
        row, column = s["out_row"] + r // s["out_w"], r % s["out_w"]
        source = (row * s["in_h"] // s["out_h"] - s["in_row"]) * s["in_w"] + column * s["in_w"] // s["out_w"]
        return x.at_pixel(s, source, c)

    return x.each(value)


def linear(out, in_size, out_size):
    q = max(0, (2 * out + 1) * in_size - out_size)
    low = min(q // (2 * out_size), in_size - 1)
    w = ((q - 2 * out_size * low) * 2**11 + out_size) // (2 * out_size)
    return (low, 2**11 - w), (min(low + 1, in_size - 1), w)


def bilinear(x):
    s = x.vrs

    def value(r, c):
        total = 0
        for y, down in linear(s["out_row"] + r // s["out_w"], s["in_h"], s["out_h"]):
            for at, right in linear(r % s["out_w"], s["in_w"], s["out_w"]):
                byte = x.at_pixel(s, (y - s["in_row"]) * s["in_w"] + at, c)
                total += number(byte, x.vrq["a_unsigned"]) * down * right
        return floor_half(total, 22)

    return x.each(value)


_ROWS = {
    "copy": lambda x: x.each(x.byte),
    "fill": lambda x: x.each(lambda r, c: 0),
    "add": add,
    "mul": lambda x: x.each(lambda r, c: x.sat(x.a(r, c) * x.b(r, c) * x.A)),
    "div": div,
    "table": lambda x: x.each(lambda r, c: x.sram[x.base["b"] + x.byte(r, c)]),
    "softmax": softmax,
    "exponentials": lambda x: [[floor_half(255 * e, 15) for e in powers(x, r)] for r in x.rows],
    "layernorm": layernorm,
    "maxpool": lambda x: pool(x, lambda values: max(values, default=0)),
    "avgpool": lambda x: pool(x, lambda values: x.sat(sum(values) * x.A)),
    "mean": mean,
    "resize_nearest": nearest,
    "resize_bilinear": bilinear,
}
