"""What the functional simulator refuses: missing tokens, unwritten bytes, overflows, inputs that do not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from functional_cases import byte_port, program_of

from accel.errors import IsaError, SimError
from accel.program import Port, StoredTensor
from accel.quantisation import TensorScale
from sim.functional import ORDERS, execute, run_program
from sim.functional.run import run_unproven

WINDOW = "kernel_h=1 kernel_w=1 stride_h=1 stride_w=1 dilation_h=1 dilation_w=1 in_h=1"
# 4 x 8 times 8 x 8; the second LDA overwrites what the first brought once the product has read it.
CHAIN = f"""
LDA sram=0 address=0 rows=1 row_bytes=96 push=compute
LDW address=128 blocks=1 code_bits=8 vector_length=1
DEC code_bits=8 vector_length=1 rows=8 columns=8 tile_rows=8 tile_columns=8 groups_per_tile=1 passes=1 release=1
GMC {WINDOW} in_w=4 out_w=4 pixel_stride=8
GMO reduction=8 out_stride=8 parameters=32 tile_rows=8 tile_columns=8 bias=1
GEM a=0 out=512 rows=4 columns=8 chunk=4 groups_per_tile=1 pop=load push=load,vector
LDA sram=0 address=96 rows=1 row_bytes=32 pop=compute push=vector
VEC function=add a=0 b=512 out=1024 rows=4 columns=8 pop=load,compute push=store
STA sram=1024 address=192 rows=1 row_bytes=32 pop=vector
FIN
"""
VRQ = "VRQ a_multiplier=1 b_multiplier=1\nVEC"
CHAIN = CHAIN.replace("VEC", VRQ)
IMAGE = [*range(32), *[0] * 32, *(1 | 5 << 24).to_bytes(4, "little"), *[3] * 60, *[2] * 64]


def chain(*changes, image=IMAGE, **options):
    text = CHAIN
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return program_of(text, image, outputs=[byte_port("y", 192, 32, TensorScale(1.0))], dram=256, **options)


@pytest.mark.parametrize("order", ORDERS)
def test_the_unbroken_program_runs(order):
    y = execute(chain(), {}, order=order)["y"]
    sums = np.arange(32).reshape(4, 8).sum(1) * 2
    np.testing.assert_array_equal(y.reshape(4, 8), np.repeat((sums / 32 + 0.5).astype(int) + 3, 8).reshape(4, 8))


CUT = "DEC code_bits=8 vector_length=1 rows=8 columns=8"
BROKEN = [
    # (changes, the message)
    ([("push=load,vector", "push=vector"), (" pop=compute push=vector", " push=vector")],
     r"instruction 5 'GEM .*' reads activation SRAM byte 0x0, which instruction 6 'LDA .*' has overwritten: no token"),
    ([("row_bytes=96", "row_bytes=66")], r"reads activation SRAM byte 0x42, which nothing has written"),
    ([("a=0 b=512", "a=0 b=513")], r"'VEC .*' reads activation SRAM byte 0x220, which nothing has written"),
    ([("release=1", "release=1 codebook=1 code_bits=4 bank=1"), ("DEC code_bits=8", "DEC")],
     r"instruction 2 'DEC .*': bank 1 holds no codebook of 16 bytes when it starts"),
    ([("FIN", "STA sram=1024 address=192 rows=1 row_bytes=1 pop=compute\nFIN")],
     r"deadlock: store at instruction 10 'STA .*' waits for a token from compute"),
    ([("tile_rows=8 tile_columns=8 bias", "tile_rows=4 tile_columns=8 bias")],
     r"deadlock: .*compute at .*'GEM .* waits for 1 more decoded tiles"),
    ([("blocks=1", "blocks=2")], r"LDW .* reads DRAM byte 0xc0, which nothing has written"),
    ([(CUT, CUT.replace("rows=8", "rows=7"))],
     r"'GEM .*' needs a tile of TileShape\(rows=8, columns=8, groups=1\); .*'DEC .*' sends TileShape\(rows=7"),
    ([("LDW address=128 blocks=1 code_bits=8 vector_length=1\n", "")],
     r"deadlock: .*decode at .*'DEC .* waits for 1 more blocks of weights"),
    ([("rows=1 row_bytes=32 pop=vector", "rows=1 row_bytes=31 pop=vector")],
     "output 'y': the program ends without having written all of it"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BROKEN)
def test_broken_programs_are_refused(changes, message):
    with pytest.raises(SimError, match=message) as error:
        run_unproven(chain(*changes), {})
    assert "\n" not in str(error.value)
    with pytest.raises((IsaError, SimError)):
        execute(chain(*changes), {}, order="program")


def test_reads_that_do_not_wait_for_their_data_are_found_in_lazy_order():
    broken = chain(
        ("pop=compute push=vector", "pop=compute"), ("pop=load,compute push=store", "pop=compute push=store")
    )
    run_unproven(broken, {})
    with pytest.raises(SimError, match=r"'LDA .*' writes .* byte 0x0, which .* 'VEC .*' has read before"):
        run_unproven(broken, {}, order="lazy")


def test_a_read_before_the_write_it_stands_behind_is_found():
    text = """
    LDA sram=0 address=0 rows=1 row_bytes=8 push=vector
    VEC function=copy a=0 out=64 rows=1 columns=8 pop=load
    STA sram=64 address=64 rows=1 row_bytes=8
    FIN
    """
    with pytest.raises(SimError, match=r"instruction 2 'STA .*' reads activation SRAM byte 0x40, which nothing"):
        run_unproven(program_of(text, bytes(64)), {})
    twice = text.replace("LDA", "LDA sram=64 address=0 rows=1 row_bytes=8 push=store\nLDA", 1)
    stale = twice.replace("row_bytes=8\n    FIN", "row_bytes=8 pop=load\n    FIN")
    with pytest.raises(SimError, match=r"'VEC .*' writes .* byte 0x40, which instruction 3 'STA .*' has read before"):
        run_unproven(program_of(stale, bytes(64)), {})
    late = """
    LDA sram=0 address=0 rows=1 row_bytes=8 push=vector
    VEC function=copy a=0 out=64 rows=1 columns=8 pop=load
    LDA sram=64 address=0 rows=1 row_bytes=8
    FIN
    """
    with pytest.raises(
        SimError, match=r"'VEC .*' writes .* byte 0x40, which instruction 2 'LDA .*' has written before"
    ):
        run_unproven(program_of(late, bytes(64)), {})


GMS_PAIR = f"""
LDA sram=0 address=0 rows=1 row_bytes=128 push=compute
GMC {WINDOW} in_w=2 out_w=2 pixel_stride=8
GMO reduction=8 out_stride=8 parameters=64 tile_rows=8 tile_columns=8 b_stride=8
GMS a=0 b=0 out=256 rows=2 columns=8 chunk=2 pop=load
GMS a=256 b=0 out=512 rows=2 columns=8 chunk=2
FIN
"""


def test_a_missing_fence_is_found():
    with pytest.raises(
        SimError, match=r"instruction 4 'GMS .*' reads .* byte 0x100, a result of instruction 3 'GMS .*fence"
    ):
        run_unproven(program_of(GMS_PAIR, bytes(128)), {})
    execute(program_of(GMS_PAIR.replace("chunk=2\nFIN", "chunk=2 fence=1\nFIN"), bytes(128)), {})


@pytest.mark.parametrize(("bias", "fits"), [((1 << 31) - 1 - 8 * 128 * 128, True), ((1 << 31) - 8 * 128 * 128, False)])
def test_overflow_of_the_accumulator_is_exact(bias, fits):
    text = f"""
    LDA sram=0 address=0 rows=1 row_bytes=128 push=compute
    GMC {WINDOW} in_w=1 out_w=1 pixel_stride=8
    GMO reduction=8 out_stride=1 parameters=96 tile_rows=8 tile_columns=8 b_stride=1 bias=1
    GMS a=0 b=8 out=256 rows=1 columns=1 chunk=1 pop=load
    FIN
    """
    program = program_of(text, bytes([128] * 96) + bias.to_bytes(4, "little") + bytes(28))
    if fits:
        execute(program, {})
    else:
        with pytest.raises(SimError, match=r"'GMS .*': sum 2147483648 of row 0, column 0; allowed: int32"):
            execute(program, {})


GATHER = """
LDA sram=0 address=128 rows=1 row_bytes=12
GTH ids=0 sram=64 address=0 row_bytes=16 rows=3 push=store
STA sram=64 address=192 rows=1 row_bytes=48 pop=load
FIN
"""


def gathering(**changes):
    port = replace(Port("ids", (3,), (4,), 128, 12, 12, None), **changes)
    return program_of(GATHER, range(128), inputs=[port], outputs=[byte_port("y", 192, 48)], dram=256)


def test_gathers_follow_their_indices():
    y = execute(gathering(), {"ids": np.array([2, 0, 7])})["y"].reshape(3, 16)
    np.testing.assert_array_equal(y, np.arange(128).reshape(8, 16)[[2, 0, 7]])
    with pytest.raises(SimError, match=r"'GTH .*': index 16 at place 1; allowed: 0 to 15, rows within DRAM"):
        execute(gathering(), {"ids": np.array([2, 16, 7])})
    with pytest.raises(SimError, match=r"'GTH .*' reads DRAM byte 0xc0, which nothing"):
        execute(gathering(), {"ids": np.array([2, 12, 7])})
    minus = replace(gathering(), inputs=(byte_port("ids", 128, 12),))
    with pytest.raises(SimError, match=r"'GTH .*': index -1 at place 0"):
        execute(minus, {"ids": np.full(12, 255, np.uint8)})


INPUTS = [
    ({}, "input 'ids' is missing; the program reads ids"),
    ({"idz": np.zeros(3, np.int32)}, "input 'idz'; allowed: ids; did you mean 'ids'"),
    ({"ids": np.zeros(4, np.int32)}, r"input 'ids' has shape \(4,\); allowed: \(1, 3\) or \(3,\)"),
    ({"ids": np.zeros(3)}, "input 'ids' has type float64; allowed: integers"),
    ({"ids": np.array([0, 1 << 31, 0])}, "input 'ids' holds 0 to 2147483648; allowed"),
    ({"ids": np.array([0, -1, 0])}, "input 'ids' holds -1 to 0; allowed"),
]


@pytest.mark.parametrize(("inputs", "message"), INPUTS)
def test_indices_that_do_not_fit_are_refused(inputs, message):
    with pytest.raises(SimError, match=message):
        execute(gathering(), inputs)


COPY = (
    "LDA sram=0 address=0 rows=2 row_bytes=6 stride=16 push=store\n"
    "STA sram=0 address=32 rows=2 row_bytes=6 stride=16 pop=load\nFIN"
)


def copying(batch=2, **options):
    code, out = TensorScale(0.5, 3, True), TensorScale(0.25, exponents=(0, 1, 2), axis=1)
    ports = [Port(name, (2, 3), (3, 1), at, 32, 16, c) for name, at, c in (("x", 0, code), ("y", 32, out))]
    return program_of(COPY, b"", inputs=ports[:1], outputs=ports[1:], dram=64, batch=batch, **options)


def test_inputs_are_quantised_and_outputs_dequantised():
    x = np.linspace(-3, 9, 12).reshape(2, 2, 3)
    raw = execute(copying(), {"x": x}, raw=True)["y"]
    codes = np.floor(x / 0.5 + 0.5) + 3
    np.testing.assert_array_equal(raw, np.clip(codes, 0, 255))
    y = execute(copying(), {"x": x.astype(np.float32)})["y"]
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, raw * 0.25 * np.array([1, 2, 4]))
    np.testing.assert_array_equal(execute(copying(), {"x": codes.clip(0).astype(np.uint8)}, raw=True)["y"], raw)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 3)), r"shape \(2, 3\); allowed: \(2, 2, 3\)$"),
        (np.zeros((2, 2, 3), np.int8), "type int8; allowed: float16, float32, float64, or uint8"),
        (np.full((2, 2, 3), np.nan), "'x' holds 12 NaN or infinite values"),
    ],
)
def test_values_that_do_not_fit_are_refused(x, message):
    with pytest.raises(SimError, match=message):
        execute(copying(), {"x": x})


def test_uncalibrated_programs_and_unknown_orders_are_refused():
    x = {"x": np.zeros((2, 2, 3))}
    with pytest.raises(SimError, match=r"without calibrated activations.*compress or import with --calibrate"):
        execute(copying(calibrated=False), x)
    execute(copying(calibrated=False), x, allow_uncalibrated=True)
    with pytest.raises(SimError, match="order 'random'; allowed: eager, lazy, program"):
        execute(copying(), x, order="random")


def test_illegal_instructions_are_refused():
    with pytest.raises(IsaError, match=r"'STA .*rows = 0"):
        execute(chain(("address=192 rows=1", "address=192 rows=0")), {})


def test_constants_without_exact_arithmetic_are_refused():
    text = "LDA sram=0 address=0 rows=1 row_bytes=64 push=vector\nVRQ {} pop=load\n"
    text += "VEC function={} a=0 b=32 out=64 rows=1 columns=4\nFIN"
    for settings, function, error, message in [
        ("a_multiplier=0xffffff", "softmax", IsaError, "a_multiplier = -1"),
        ("b_multiplier=0xffffff epsilon_shift=63", "layernorm", IsaError, "epsilon"),
        ("offset_shift=47", "layernorm", IsaError, "offset_shift = 47"),
        ("exponents=1", "layernorm", SimError, "channel exponent -8"),  # only the data tell
    ]:
        with pytest.raises(error, match=message):
            execute(program_of(text.format(settings, function), bytes([8] * 64)), {})


def test_tensors_and_instructions_can_be_watched():
    tensor = StoredTensor("sum", 0, 8, "activation", 1024, (4, 8), (8, 1), TensorScale(2.0))
    seen, tensors = [], []
    program = chain(tensors=[tensor])
    found = run_program(program, {}, order="program", on_instruction=seen.append, on_tensor=tensors.append)
    assert [o.instruction for o in seen] == list(range(11))
    (captured,) = tensors
    np.testing.assert_array_equal(captured.values, captured.codes * 2.0)
    np.testing.assert_array_equal(captured.codes.reshape(-1), found.codes["y"])
    add = seen[8]
    assert (add.space, add.first, add.last, add.bytes) == ("activation", 1024, 1055, 32)
    assert (add.minimum, add.maximum) == (captured.codes.min(), captured.codes.max())
    assert found.sram_bytes == 96 + 32 + 32 and found.instructions == 11


def test_every_pass_meets_the_weights_decoded_for_it():
    """Two passes of two rows: the first with weights of 2, the second with weights of 1, its tile in two parts."""
    dec = "DEC code_bits=8 vector_length=1 columns=8 tile_columns=8 groups_per_tile=1 passes=1 release=1"
    text = CHAIN.replace("blocks=1", "blocks=3").replace("chunk=4", "chunk=2")
    text = text.replace("parameters=32 tile_rows=8", "parameters=32 tile_rows=4")
    old = next(line for line in text.split("\n") if line.startswith("DEC"))
    text = text.replace(old, "\n".join(f"{dec} rows={n} tile_rows=4" for n in (8, 4, 4)))
    text = text.replace("address=192", "address=320")
    program = program_of(text, [*IMAGE, *[1] * 128], outputs=[byte_port("y", 320, 32, TensorScale(1.0))], dram=384)
    sums = np.arange(32).reshape(4, 8).sum(1) * np.array([2, 2, 1, 1])
    expected = np.repeat((sums / 32 + 0.5).astype(int) + 3, 8)
    np.testing.assert_array_equal(execute(program, {})["y"], expected)
