"""The functional simulator against plain integers, and every program and input it must refuse."""

from __future__ import annotations

import random
from dataclasses import replace

import functional_twin as twin
import numpy as np
import pytest
import torch
from functional_cases import SIZE, program_of, sram_program
from weight_cases import random_layer, stream_of

from accel.arithmetic import to_bytes
from accel.codecs.base import stored_codebook
from accel.fold import fold_fields
from accel.isa import VECTOR_CODE, Instruction, decode_program, encode_program
from accel.program import Port
from accel.quantisation import TensorScale
from accel.tiles import record_fields
from sim.functional import execute

A, B, EXPONENTS, OUT = 0, 2500, 5000, 5500  # where operands lie in SRAM
FULL = {"kernel_h": 1, "kernel_w": 1, "stride_h": 1, "stride_w": 1, "dilation_h": 1, "dilation_w": 1}


def random_sram(rng):
    return [rng.choice([rng.randrange(256), 0, 127, 128, 255]) for _ in range(SIZE)]


def run_sram(body, sram):
    return execute(sram_program(body, sram), {}, raw=True)["sram"].tolist()


def random_window(rng, rows, columns):
    out_w = rng.randint(1, rows)
    return {
        "kernel_h": rng.randint(1, 3), "kernel_w": rng.randint(1, 3), "stride_h": rng.randint(1, 2),
        "stride_w": rng.randint(1, 3), "dilation_h": rng.randint(1, 2), "dilation_w": rng.randint(1, 2),
        "pad_top": rng.randint(0, 3), "pad_left": rng.randint(0, 3), "in_h": rng.randint(1, 5),
        "in_w": rng.randint(1, 6), "out_w": out_w, "pixel_stride": columns + rng.randint(0, 5),
    }  # fmt: skip


def vector_case(rng, name):
    """VEC and configuration: dense, strided, broadcast; batches; any multipliers that keep exact."""
    rows, columns = rng.randint(1, 7), rng.randint(1, 12)
    column = rng.choice([1, 1, 2])
    vst = {
        "a_stride": rng.choice([columns * column, 40, 0]), "b_stride": rng.choice([columns, 30, 0]),
        "out_stride": columns + rng.randint(0, 6), "a_column_stride": rng.choice([column, 0]), "out_column_stride": 1,
    }  # fmt: skip
    vbt = {
        "count": rng.randint(1, 3),
        "a_stride": rng.choice([0, 300]),
        "b_stride": rng.choice([0, 260]),
        "out_stride": 200,
    }
    if name in ("softmax", "exponentials"):
        multipliers = {"a_multiplier": rng.choice([0, 300, 9000, rng.randrange(1 << 23)])}
        multipliers["b_multiplier"] = rng.randrange(1 << 24)
        shift = rng.randint(20, 50)
    else:
        multipliers = {key: rng.randrange(1 << 24) for key in ("a_multiplier", "b_multiplier")}
        shift = rng.choice([rng.randint(8, 32), rng.randint(0, 63)])
    vrq = {
        **multipliers, "shift": shift, "epsilon_shift": rng.randint(0, 20), "offset_shift": rng.randint(0, 20),
        "parameters": EXPONENTS, "a_unsigned": rng.randint(0, 1), "b_unsigned": rng.randint(0, 1),
        "unsigned": rng.randint(0, 1), "exponents": rng.randint(0, int(name in ("add", "mean", "layernorm"))),
    }  # fmt: skip
    vwn = random_window(rng, rows, columns)
    vrs = {
        "in_h": rng.randint(1, 9),
        "in_w": rng.randint(1, 9),
        "out_h": rng.randint(1, 12),
        "out_w": rng.randint(1, 9),
    }
    vrs |= {"out_row": rng.randrange(vrs["out_h"]), "pixel_stride": columns * 2, "in_row": 0}
    if name.startswith("resize"):
        rows = rng.randint(1, (vrs["out_h"] - vrs["out_row"]) * vrs["out_w"])
        vrs["in_row"] = rng.choice([0, vrs["out_row"] * vrs["in_h"] // vrs["out_h"] // 2])
    vec = {"function": VECTOR_CODE[name], "a": A, "b": B, "out": OUT, "rows": rows, "columns": columns}
    return vec, vst, vbt, vrq, vwn, vrs


@pytest.mark.parametrize("name", VECTOR_CODE)
def test_vector_functions_equal_plain_integers(name):
    for seed in range(60):
        rng = random.Random(f"{name}{seed}")
        vec, vst, vbt, vrq, vwn, vrs = vector_case(rng, name)
        sram = random_sram(rng)
        if name == "layernorm":  # exponents of a are not negative
            for at in range(B, B + 1500):
                sram[at] = sram[at] & 0xF7 if vrq["exponents"] else sram[at]
        body = [
            Instruction(m, v)
            for m, v in (("VST", vst), ("VBT", vbt), ("VRQ", vrq), ("VWN", vwn), ("VRS", vrs), ("VEC", vec))
        ]
        found = run_sram(body, sram)
        expected = list(sram)
        twin.vector(expected, name, vec, vst, vbt, vrq, vwn, vrs)
        assert found == expected, (seed, vec, vst, vbt, vrq, vwn, vrs)


def test_vectors_without_configuration_are_dense_and_in_place():
    sram = random_sram(random.Random(1))
    vec = {"function": VECTOR_CODE["copy"], "a": 3, "out": 4, "rows": 5, "columns": 7}
    expected = list(sram)
    expected[4:39] = sram[3:38]  # all is read before anything is written
    assert run_sram([Instruction("VEC", vec)], sram) == expected


def array_case(rng):
    rows, groups = rng.randint(1, 9), rng.choice([0, 0, 2, 4])
    window = random_window(rng, rows, 1)
    window |= {"a_unsigned": rng.randint(0, 1), "channel_major": rng.randint(0, 1)}
    channels, columns = rng.randint(1, 5), rng.randint(1, 11)
    per_group = rng.randint(1, 2)
    tile_columns = per_group * groups if groups else rng.randint(1, 8)
    used_groups = -(-columns // per_group) if groups else 1
    window["pixel_stride"] = used_groups * channels + rng.randint(0, 3)
    reduction = channels * window["kernel_h"] * window["kernel_w"]
    gmo = {
        "reduction": reduction, "out_stride": columns + rng.randint(0, 4), "parameters": B,
        "tile_rows": rng.randint(1, 16) if not groups else 64 // groups, "tile_columns": tile_columns,
        "bias": rng.randint(0, 1), "channel_scales": rng.randint(0, 1), "unsigned": rng.randint(0, 1),
        "table": rng.randint(0, 1), "normalise": 0, "b_stride": rng.choice([0, 36, 1234]),
    }  # fmt: skip
    gem = {"a": A, "out": OUT, "rows": rows, "columns": columns, "chunk": rng.randint(1, rows)}
    return window, gmo, {**gem, "groups_per_tile": groups or 1}


def small_parameters(rng, sram, gmo, columns):
    """Biases and multipliers that leave something of the sums."""
    at = gmo["parameters"]
    for c in range(columns * gmo["bias"]):
        sram[at + 4 * c : at + 4 * c + 4] = list((rng.randint(-30000, 30000) & 0xFFFFFFFF).to_bytes(4, "little"))
    at += 4 * columns * gmo["bias"]
    for c in range(columns if gmo["channel_scales"] else 1):
        value = (rng.randint(-(1 << 23), (1 << 23) - 1) & 0xFFFFFF) | rng.randint(22, 36) << 24
        sram[at + 4 * c : at + 4 * c + 4] = list(value.to_bytes(4, "little"))


def weight_loads(layer, gmo, gem, address, blocks):
    """LDW and DEC of int8 weights for one GEM."""
    kind = {"code_bits": 8, "vector_length": 1}
    cut = {
        "tile_rows": gmo["tile_rows"],
        "tile_columns": gmo["tile_columns"],
        "groups_per_tile": gem["groups_per_tile"],
    }
    dec = {**kind, **cut, "rows": gmo["reduction"], "columns": gem["columns"], "release": 1}
    dec["passes"] = -(-gem["rows"] // gem["chunk"])
    return [Instruction("LDW", {**kind, "address": address, "blocks": blocks}), Instruction("DEC", dec)]


def test_gem_equals_plain_integers():
    for seed in range(120):
        rng = random.Random(seed)
        gmc, gmo, gem = array_case(rng)
        sram = random_sram(rng)
        small_parameters(rng, sram, gmo, gem["columns"])
        numbers = np.random.default_rng(seed)
        layer = random_layer("int8", (gem["columns"], gmo["reduction"]), "out", numbers)
        weights = layer.codec.decode(layer)
        stream = stream_of(layer, gmo["tile_rows"], gmo["tile_columns"])
        body = [Instruction("GMC", gmc), Instruction("GMO", gmo), Instruction("GEM", gem)]
        program = sram_program(body, [*sram, *bytes(SIZE), *stream.tolist()])
        front = weight_loads(layer, gmo, gem, 2 * SIZE, len(stream) // 64)
        instructions = [*decode_program(program.words)[:1], *front, *decode_program(program.words)[1:]]
        words, owner = encode_program(instructions), np.zeros(len(instructions), np.int32)
        found = execute(replace(program, words=words, instruction_layer=owner), {}, raw=True)["sram"].tolist()
        expected = list(sram)
        twin.product(expected, gem, gmc, gmo, lambda c, k, w=weights: int(w[c, k]), gem["groups_per_tile"])
        assert found == expected, (seed, gmc, gmo, gem)


def test_gms_equals_plain_integers():
    for seed in range(80):
        rng = random.Random(seed)
        gmc, gmo, gem = array_case(rng)
        normalise = rng.randint(0, 1)
        gmo |= {
            "normalise": normalise,
            "tile_columns": rng.randint(1, 8),
            "tile_rows": 8,
            "bias": gmo["bias"] & (1 - normalise),
        }
        gmc["a_unsigned"] |= normalise
        transposed = rng.randint(0, 1)
        gmo["b_stride"] = (gmo["reduction"] if transposed else gem["columns"]) + rng.randint(0, 4)
        del gem["groups_per_tile"]
        gms = {**gem, "b": 3800, "transpose_b": transposed}
        gmc["pixel_stride"] = gmo["reduction"] // (gmc["kernel_h"] * gmc["kernel_w"])
        sram = random_sram(rng)
        small_parameters(rng, sram, gmo, gem["columns"])
        body = [Instruction("GMC", gmc), Instruction("GMO", gmo), Instruction("GMS", gms)]
        expected = list(sram)
        twin.product(expected, gms, gmc, gmo, twin.gms_weight(sram, gms, gmo))
        assert run_sram(body, sram) == expected, (seed, gmc, gmo, gms)


@pytest.mark.parametrize(
    "spelling",
    ["int4", "vq:k=16,d=4", "ssvq:k=16,d=8", "mvq:k=16,d=8,nm=2:4", "lr2vq:k=16,m=4,r=2", "rvq:k=32,d=4,stages=3"],
)
@pytest.mark.parametrize("axis", ["out", "in"])
def test_coded_weights_give_torchs_integer_product(spelling, axis):
    rng = np.random.default_rng(3)
    rows, reduction, columns = 30, 100, 80
    layer = random_layer(spelling, (columns, reduction), axis if spelling != "int4" else "out", rng)
    codec = layer.codec
    x = rng.integers(-128, 128, (rows, reduction)).astype(np.int8)
    stream = stream_of(layer, 64, 64)
    book = b"" if layer.codebook is None else stored_codebook(layer).tobytes()
    multiplier = (1 << 22 | 33 << 24).to_bytes(4, "little")
    image = x.tobytes() + multiplier + bytes(-(rows * reduction + 4) % 64)
    at_book, at_stream = len(image), len(image) + len(book) + -len(book) % 64
    image += book + bytes(-len(book) % 64) + stream.tobytes()
    kind, fold = (
        " ".join(f"{k}={v}" for k, v in fields.items()) for fields in (record_fields(codec), fold_fields(layer))
    )
    at_out = len(image)
    text = f"""
    LDA sram=0 address=0 rows=1 row_bytes={rows * reduction + 4} push=compute
    {f"LDC address={at_book} bytes={len(book)} bank=1 {fold} push=decode" if book else ""}
    LDW address={at_stream} blocks={len(stream) // 64} {kind}
    DEC {kind} axis_in={int(layer.vector_axis == "in")} codebook={int(bool(book))} bank={int(bool(book))} \
rows={reduction} columns={columns} tile_rows=64 tile_columns=64 groups_per_tile=1 passes=3 release=1 \
{"pop=load" if book else ""}
    GMC kernel_h=1 kernel_w=1 stride_h=1 stride_w=1 dilation_h=1 dilation_w=1 in_h=1 in_w=30 out_w=30 pixel_stride=100
    GMO reduction=100 out_stride=80 parameters={rows * reduction} tile_rows=64 tile_columns=64
    GEM a=0 out=4096 rows=30 columns=80 chunk=10 groups_per_tile=1 pop=load push=store
    STA sram=4096 address={at_out} rows=1 row_bytes={rows * columns} pop=compute
    FIN
    """.replace("\\\n", "")
    port = Port("y", (rows, columns), (columns, 1), at_out, rows * columns, rows * columns, TensorScale(0.5))
    program = program_of(text, image, outputs=[port])
    weights = torch.from_numpy(codec.decode(layer).astype(np.int32))
    sums = torch.matmul(torch.from_numpy(x.astype(np.int32)), weights.T)
    expected = torch.clamp(torch.floor(sums.double() * 2.0**-11 + 0.5), -128, 127).numpy()
    np.testing.assert_array_equal(execute(program, {}, raw=True)["y"], expected)
    np.testing.assert_array_equal(execute(program, {}, order="program")["y"], expected.astype(np.float32) / 2)


def test_codes_of_either_type_are_inputs() -> None:
    assert to_bytes(np.array([-128, -1, 0, 127], np.int8)).tolist() == [128, 255, 0, 127]
    assert to_bytes(np.array([0, 255], np.uint8)).tolist() == [0, 255]
