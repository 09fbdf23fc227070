"""Footprints against a twin that enumerates every single byte an instruction touches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import IsaError
from accel.footprint import CODEBOOK_SPAN, Access, accesses
from accel.isa import VECTOR_CODE, VECTOR_FUNCTIONS, Instruction, assemble_program


def last(text: str) -> tuple[Access, ...]:
    """Accesses of the last line of a program."""
    return list(accesses(assemble_program(text)))[-1]


def read(start: int, stop: int, space: str = "activation") -> Access:
    return Access(space, start, stop, write=False)  # type: ignore[arg-type]


def write(start: int, stop: int, space: str = "activation") -> Access:
    return Access(space, start, stop, write=True)  # type: ignore[arg-type]


def test_load_and_store_are_dense_in_sram_and_strided_in_dram() -> None:
    move = "sram=100 address=1000 rows=3 row_bytes=8 stride=64"
    assert last(f"LDA {move}") == (read(1000, 1136, "dram"), write(100, 124))
    assert last(f"STA {move}") == (read(100, 124), write(1000, 1136, "dram"))


def test_loads_of_weights_codebooks_and_tables() -> None:
    assert last("LDW address=640 blocks=2 code_bits=8 vector_length=1") == (read(640, 768, "dram"),)
    bank = write(CODEBOOK_SPAN, CODEBOOK_SPAN + 32, "codebook")
    assert last("LDC address=64 bytes=32 bank=1") == (read(64, 96, "dram"), bank)
    folded = write(CODEBOOK_SPAN, CODEBOOK_SPAN + 16 * 8, "codebook")
    assert last("LDC address=64 bytes=72 bank=1 rank=3 vector_length=8") == (read(64, 136, "dram"), folded)
    assert last("GTH sram=0 ids=100 address=64 row_bytes=16 rows=5") == (
        read(100, 120),
        read(64, 80, "dram"),
        write(0, 80),
    )


def test_decoder_reads_its_bank_only_when_codes_are_looked_up() -> None:
    assert last("DEC code_bits=4 vector_length=8 codebook=1 rows=8 columns=8") == (read(0, 128, "codebook"),)
    assert last("DEC code_bits=8 vector_length=1 rows=8 columns=8") == ()


GMC = "GMC kernel_h=1 kernel_w=1 stride_h=1 stride_w=1 dilation_h=1 dilation_w=1 in_h=1 in_w=5 out_w=5 pixel_stride=16"


def test_plain_gemm() -> None:
    gmo = "GMO reduction=12 out_stride=32 parameters=500 tile_rows=8 tile_columns=8 bias=1 channel_scales=1"
    found = last(f"{GMC}\n{gmo}\nGEM a=1000 out=2000 rows=5 columns=20")
    # five pixels 16 bytes apart, 12 channels of the last; 20 biases and 20 scales of 4 bytes; five rows 32 apart
    assert found == (read(1000, 1076), read(500, 660), write(2000, 2148))


@pytest.mark.parametrize(("transpose", "stationary"), [(0, (300, 300 + 11 * 32 + 20)), (1, (300, 300 + 19 * 32 + 12))])
def test_attention_product_reads_both_operands(transpose: int, stationary: tuple[int, int]) -> None:
    gmo = "GMO reduction=12 out_stride=20 b_stride=32 parameters=500 tile_rows=8 tile_columns=8"
    found = last(f"{GMC}\n{gmo}\nGMS a=1000 b=300 out=2000 rows=5 columns=20 transpose_b={transpose}")
    assert found == (read(*stationary), read(1000, 1076), read(500, 504), write(2000, 2100))


def test_table_of_a_gem_lies_where_b_stride_says_and_that_of_a_gms_behind_its_multipliers() -> None:
    gmo = "GMO reduction=12 out_stride=32 parameters=500 b_stride=72 tile_rows=8 tile_columns=8 bias=1 table=1"
    gem = last(f"{GMC}\n{gmo}\nGEM a=1000 out=2000 rows=5 columns=20")
    assert gem == (read(1000, 1076), read(500, 584), read(572, 828), write(2000, 2148))  # 20 biases, one multiplier
    gms = last(f"{GMC}\n{gmo}\nGMS a=1000 b=300 out=2000 rows=5 columns=20")
    assert gms[1:] == (read(1000, 1076), read(500, 584), read(584, 840), write(2000, 2148))


def test_grouped_convolution_reads_the_channels_of_all_groups() -> None:
    gmc = GMC.replace("kernel_w=1", "kernel_w=3").replace("pixel_stride=16", "pixel_stride=10 pad_left=1")
    gmo = "GMO reduction=3 out_stride=10 tile_rows=3 tile_columns=4"
    found = last(f"{gmc}\n{gmo}\nGEM a=0 out=100 rows=5 columns=10 groups_per_tile=4")
    assert found[0] == read(0, 50)  # depthwise: one column a group, ten groups, one channel of each


VRS = "VRS in_h=2 in_w=3 out_h=4 out_w=6 pixel_stride=2"


def touched_pixels(rows: int, w: dict[str, int]) -> Iterator[int]:
    """Slow twin: every tap of every output pixel."""
    for row in range(rows):
        for ky in range(w["kernel_h"]):
            for kx in range(w["kernel_w"]):
                y = row // w["out_w"] * w["stride_h"] + ky * w["dilation_h"] - w["pad_top"]
                x = row % w["out_w"] * w["stride_w"] + kx * w["dilation_w"] - w["pad_left"]
                if 0 <= y < w["in_h"] and 0 <= x < w["in_w"]:
                    yield y * w["in_w"] + x


SMALL = {
    **dict.fromkeys(("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w"), (1, 4)),
    **dict.fromkeys(("pad_top", "pad_left"), (0, 4)),
    **dict.fromkeys(("in_h", "in_w", "out_w"), (1, 6)),
    "pixel_stride": (1, 9),
}
windows = st.fixed_dictionaries({name: st.integers(*bounds) for name, bounds in SMALL.items()})


@settings(max_examples=300, deadline=None)
@given(windows, st.integers(1, 30), st.integers(1, 5))
def test_window_walk_is_exact(window: dict[str, int], rows: int, channels: int) -> None:
    reduction = channels * window["kernel_h"] * window["kernel_w"]
    program = [
        Instruction("GMC", window),
        Instruction("GMO", {"reduction": reduction, "tile_rows": 8, "tile_columns": 8}),
        Instruction("GEM", {"a": 1000, "rows": rows, "columns": 1, "groups_per_tile": 1}),
    ]
    pixels = list(touched_pixels(rows, window))
    *moving, _, _ = list(accesses(program))[-1]
    first, end = (1000 + pixel * window["pixel_stride"] for pixel in (min(pixels, default=0), max(pixels, default=0)))
    assert moving == ([read(first, end + channels)] if pixels else [])


PLAIN = ("copy", "add", "mul", "div", "table", "softmax", "exponentials", "layernorm", "mean")
STRIDES = ("a_stride", "b_stride", "out_stride", "a_column_stride", "out_column_stride")
vst = st.fixed_dictionaries({name: st.integers(0, 9) for name in STRIDES})
vbt = st.fixed_dictionaries({"count": st.integers(1, 3), **{name: st.integers(0, 40) for name in STRIDES[:3]}})


def vector_bytes(
    name: str, vec: dict[str, int], s: dict[str, int], batch: dict[str, int], exponents: bool
) -> dict[str, set[int]]:
    """Slow twin: the bytes each operand of a VEC without window touches, those of its channel exponents at 3000."""
    touched: dict[str, set[int]] = {"a": set(), "b": set(), "exponents": set(), "out": set()}
    column = {"a": s["a_column_stride"], "b": 1, "out": s["out_column_stride"]}
    for n in range(batch["count"]):
        at = {operand: vec[operand] + n * batch[f"{operand}_stride"] for operand in column}
        for r in range(vec["rows"]):
            for c in range(vec["columns"]):
                spot = {operand: at[operand] + r * s[f"{operand}_stride"] + c * column[operand] for operand in column}
                touched["a"].add(spot["a"])
                if name in ("add", "mul", "div"):
                    touched["b"].add(spot["b"])
                if name in ("add", "mean") and exponents:
                    touched["exponents"].add(3000 + c)
                if name != "mean" or r == 0:
                    touched["out"].add(spot["out"])
                if name == "layernorm":  # gains, offsets and exponents of all columns lie one behind the other
                    touched["b"] |= {at["b"] + i * vec["columns"] + c for i in range(4 + exponents)}
        if name == "table":
            touched["b"] |= {at["b"] + entry for entry in range(256)}
    return touched


def bounds(touched: set[int]) -> tuple[int, int]:
    return min(touched), max(touched) + 1


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PLAIN), vst, vbt, st.integers(1, 4), st.integers(1, 4), st.tuples(*[st.booleans()] * 3))
def test_vector_operands(
    name: str, s: dict[str, int], batch: dict[str, int], rows: int, columns: int, flags: tuple[bool, bool, bool]
) -> None:
    with_vst, with_vbt, exponents = flags
    exponents &= name in ("add", "mean", "layernorm")
    vec = {"function": VECTOR_CODE[name], "a": 100, "b": 1000, "out": 2000, "rows": rows, "columns": columns}
    vrq = Instruction("VRQ", {"parameters": 3000, "exponents": int(exponents)})
    configuration = [Instruction("VST", s)] * with_vst + [Instruction("VBT", batch)] * with_vbt + [vrq]
    dense = dict.fromkeys(STRIDES[:3], columns) | dict.fromkeys(STRIDES[3:], 1)
    once = {"count": 1, **dict.fromkeys(STRIDES[:3], 0)}
    expected = vector_bytes(name, vec, s if with_vst else dense, batch if with_vbt else once, exponents)
    found = list(accesses([*configuration, Instruction("VEC", vec)]))[-1]
    reads = (read(*bounds(expected[operand])) for operand in ("a", "b", "exponents") if expected[operand])
    assert found == (*reads, write(*bounds(expected["out"])))


def test_special_vector_functions() -> None:
    assert last("VEC function=fill out=10 rows=2 columns=3") == (write(10, 16),)
    assert last("VRQ\nVEC function=mean a=0 out=100 rows=7 columns=4") == (read(0, 28), write(100, 104))
    mean = last("VRQ exponents=1 parameters=600\nVEC function=mean a=0 out=100 rows=7 columns=4")
    assert mean == (read(0, 28), read(600, 604), write(100, 104))
    layernorm = last("VRQ\nVEC function=layernorm a=0 b=50 out=100 rows=2 columns=4")
    assert layernorm == (read(0, 8), read(50, 66), write(100, 108))
    exponents = last("VRQ exponents=1 parameters=600\nVEC function=layernorm a=0 b=50 out=100 rows=2 columns=4")
    assert exponents == (read(0, 8), read(50, 70), write(100, 108))  # its exponents lie behind the offsets
    table = last("VBT count=3 b_stride=300\nVEC function=table a=0 b=50 out=2000 rows=1 columns=4")
    assert table == (read(0, 4), read(50, 906), write(2000, 2004))
    vwn = GMC.replace("GMC", "VWN").replace("kernel_h=1 kernel_w=1", "kernel_h=2 kernel_w=2")
    vwn = vwn.replace("in_h=1 in_w=5 out_w=5", "in_h=3 in_w=4 out_w=3")
    pooled = last(f"VRQ\n{vwn}\nVEC function=maxpool a=0 out=1000 rows=3 columns=16")
    assert pooled == (read(0, 128), write(1000, 1048))  # the first two image rows of four pixels


def resized_rows(out: int, in_size: int, out_size: int) -> set[int]:
    """Slow twin: input rows an output row of either kind of resizing reads."""
    centre = Fraction(2 * out + 1, 2) * in_size / out_size - Fraction(1, 2)
    low = min(math.floor(max(centre, Fraction(0))), in_size - 1)
    return {math.floor(Fraction(out * in_size, out_size)), low, min(low + 1, in_size - 1)}


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(("resize_nearest", "resize_bilinear")),
    st.fixed_dictionaries({name: st.integers(1, 9) for name in ("in_h", "in_w", "out_h", "out_w")}),
    st.data(),
)
def test_resizing_reads_whole_rows_of_its_images(name: str, sizes: dict[str, int], data: st.DataObject) -> None:
    out_row = data.draw(st.integers(0, sizes["out_h"] - 1))
    rows = data.draw(st.integers(1, (sizes["out_h"] - out_row) * sizes["out_w"]))
    lines = range(out_row, out_row + -(-rows // sizes["out_w"]))
    needed = set().union(*(resized_rows(line, sizes["in_h"], sizes["out_h"]) for line in lines))
    in_row = data.draw(st.integers(0, min(needed)))
    vrs = Instruction("VRS", {**sizes, "out_row": out_row, "in_row": in_row, "pixel_stride": 7})
    vec = Instruction("VEC", {"function": VECTOR_CODE[name], "a": 50, "out": 5000, "rows": rows, "columns": 5})
    pixels = [(row - in_row) * sizes["in_w"] + x for row in needed for x in range(sizes["in_w"])]
    expected = read(50 + 7 * min(pixels), 50 + 7 * max(pixels) + 5), write(5000, 5000 + 5 * rows)
    assert list(accesses([Instruction("VRQ"), vrs, vec]))[-1] == expected


def test_every_vector_function_has_as_many_reads_as_operands() -> None:
    for code, function in enumerate(VECTOR_FUNCTIONS):
        vec = Instruction("VEC", {"function": code, "out": 9000, "rows": 2, "columns": 2})
        found = list(accesses([*assemble_program(f"{GMC.replace('GMC', 'VWN')}\n{VRS}\nVRQ"), vec]))[-1]
        assert sum(not access.write for access in found) == function.operands


@pytest.mark.parametrize(
    ("program", "missing"),
    [
        ("GEM rows=1 columns=1", "GMC"),
        (f"{GMC}\nGMS rows=1", "GMO"),
        ("VRQ\nVEC function=maxpool rows=1 columns=1", "VWN"),
        ("VEC function=resize_nearest rows=1 columns=1", "VRS"),
        ("VEC function=add rows=1 columns=1", "VRQ"),
    ],
)
def test_missing_configuration_is_named(program: str, missing: str) -> None:
    with pytest.raises(IsaError, match=f"needs a {missing} before it"):
        last(program)
