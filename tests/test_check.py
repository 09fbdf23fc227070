"""The static checker: one legal program, and for each rule the smallest change to it that must be refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from accel.check import check_compiled, check_program
from accel.errors import IsaError
from accel.isa import QUEUE_DEPTH, Instruction, assemble_program, encode_program
from accel.machine import load_machine
from accel.program import Layer, Port, Program
from accel.quantisation import TensorScale

MACHINE = load_machine("edge64-ideal")
DRAM = 1 << 20

# 16 x 100 inputs times 100 x 80 weights (vq:k=256,d=4, axis out), softmax over the rows, 80 columns a row.
# Strip 0 has 64 columns: 100 rows of 16 codes, 1600 bytes = 25 blocks; strip 1 has 16: 400 bytes = 7 blocks.
LEGAL = """
LDA kind=activations_read sram=0 address=0 rows=1 row_bytes=1600
LDA kind=parameters sram=0x1000 address=0x1000 rows=1 row_bytes=640 push=compute
LDC address=0x2000 bytes=1024 bank=0 push=decode
LDW address=0x4000 blocks=32 code_bits=8 vector_length=4
DEC code_bits=8 vector_length=4 codebook=1 rows=100 columns=80 tile_rows=64 tile_columns=64 groups_per_tile=1 \
passes=2 release=1 pop=load
GMC kernel_h=1 kernel_w=1 stride_h=1 stride_w=1 dilation_h=1 dilation_w=1 in_h=1 in_w=16 out_w=16 pixel_stride=100
GMO reduction=100 out_stride=80 parameters=0x1000 tile_rows=64 tile_columns=64 bias=1 channel_scales=1
GEM a=0 out=0x2000 rows=16 columns=80 chunk=10 groups_per_tile=1 pop=load push=vector
VRQ a_multiplier=6000 b_multiplier=0x400000 shift=39 unsigned=1
VEC function=softmax a=0x2000 out=0x3000 rows=16 columns=80 pop=compute push=store
STA kind=activations_written sram=0x3000 address=0x8000 rows=16 row_bytes=80 stride=80 pop=vector
FIN
""".replace("\\\n", "")


def check(text: str, **machine: object) -> object:
    sram = replace(MACHINE.sram, **machine) if machine else MACHINE.sram  # type: ignore[arg-type]
    return check_program(assemble_program(text), replace(MACHINE, sram=sram), DRAM)


def test_legal_program_and_its_report() -> None:
    report = check_program(encode_program(assemble_program(LEGAL)), MACHINE, DRAM)
    assert report.instructions == 12 and report.tiles == 8  # 2 strips x 2 passes x 2 tiles
    assert report.by_queue == {"load": 4, "decode": 1, "compute": 3, "vector": 2, "store": 2}
    assert (report.tokens, report.peak_tokens) == (4, 1)
    # two LDA and LDC read and write; LDW and DEC read; GEM reads twice and writes; VEC and STA read and write
    assert report.accesses == 6 + 2 + 3 + 4


BROKEN: list[tuple[str, str, str, str]] = [
    # (rule, what to replace, by what, the message)
    ("bounds", "out=0x3000 rows=16", "out=0x3fff0 rows=16", "writes activation bytes 262128 to 263407; allowed: below"),
    ("bounds", "address=0x8000", "address=0xffff0", "writes dram bytes"),
    ("bounds", "bytes=1024", "bytes=8193", "codebook bytes = 8193; allowed: at most 8192"),
    ("bounds", "address=0x4000", "address=0x4010", "multiples of 64"),
    ("size", "rows=16 row_bytes=80", "rows=0 row_bytes=80", r"instruction 10 'STA .*row_bytes=80.*': rows = 0; all"),
    ("array", "columns=80 tile_rows=64", "columns=80 tile_rows=65", r"tile_rows \* groups_per_tile = 65; .* most 64"),
    ("array", "0x1000 tile_rows=64 tile_columns=64", "0x1000 tile_rows=64 tile_columns=65", "tile_columns = 65"),
    ("array", "groups_per_tile=1 passes", "groups_per_tile=2 passes", r"tile_rows \* groups_per_tile = 128"),
    ("accumulators", "chunk=10", "chunk=513", "chunk = 513; allowed: at most 512"),
    ("codebook", "DEC code_bits=8", "DEC code_bits=12", "codebook bytes = 16384; allowed: at most 8192"),
    ("integers", "codebook=1", "codebook=0", "codebook = 0 with 8-bit codes of 4 weights"),
    ("reduction", "kernel_h=1", "kernel_h=3", "reduction = 100; allowed: multiples of the 3 taps"),
    ("window", "function=softmax", "function=maxpool", "needs a VWN before it"),
    ("numbers", "VRQ a_multiplier=6000 b_multiplier=0x400000 shift=39 unsigned=1\n", "", "needs a VRQ before it"),
    ("end", "FIN", "FIN\nFIN", "exactly one"),
    ("tiles", "GMO reduction=100", "GMO reduction=50", "sends tiles of TileShape.*; instruction 7 'GEM .* expects"),
    ("tiles", "chunk=10", "chunk=16", "4 tiles of TileShape|sends tiles"),
    ("tiles", "passes=2", "passes=1", "sends tiles|expected and never sent"),
    ("bytes", "blocks=32", "blocks=33", "1 64-byte blocks of RecordLayout.* are sent and never used"),
    ("bytes", "blocks=32", "blocks=31", "1 64-byte blocks of RecordLayout.* are expected and never sent"),
    ("width", "LDW address=0x4000 blocks=32 code_bits=8", "LDW address=0x4000 blocks=32 code_bits=7", "code_bits=7"),
    ("ring", "release=1", "release=0", "release = 0 rewinds the ring"),
    ("deadlock", "bank=0 push=decode", "bank=0", "decode at instruction 4 'DEC .* a token from load; compute"),
    ("left over", "DEC code_bits", "LDC address=0 bytes=4 push=decode\nDEC code_bits", "1 token.* load to decode"),
    ("race", "rows=16 columns=80 pop=compute push=store", "rows=16 columns=80 push=store", "left over"),
    ("unwritten", "a=0x2000", "a=0x2001", "reads activation bytes 8193 to 9472; nothing has written byte 9472 before"),
    ("unwritten", "address=0x2000 bytes=1024", "address=0x2000 bytes=1023", "codebook bytes .* byte 1023 before"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "old", "new", "message"), BROKEN, ids=[f"{row[0]}{i}" for i, row in enumerate(BROKEN)]
)
def test_broken_programs_are_refused(rule: str, old: str, new: str, message: str) -> None:
    assert LEGAL.count(old) == 1, f"{rule}: the change must be to one place"
    with pytest.raises(IsaError, match=message):
        check(LEGAL.replace(old, new))


def test_ring_must_hold_what_is_decoded_twice() -> None:
    check(LEGAL, weight_bytes=25 * 64)
    with pytest.raises(IsaError, match="2 passes over strips of 1600 bytes; allowed: at most the 1536 bytes"):
        check(LEGAL, weight_bytes=24 * 64 + 63)


ONCE = LEGAL.replace("passes=2", "passes=1").replace("chunk=10", "chunk=16")


def test_one_pass_needs_room_for_a_tile_only() -> None:
    # Tile 0 needs 64 * 16 = 1024 bytes; then 1024 are freed and the rest of the strip follows.
    check(ONCE, weight_bytes=1024)
    with pytest.raises(IsaError, match=r"deadlock: load .*room for 17 more blocks.*decode .*tile 0 of 4"):
        check(ONCE, weight_bytes=1023)


def test_rewinding_decode_feeds_two_gems() -> None:
    dec, gem = (next(line for line in ONCE.splitlines() if line.startswith(name)) for name in ("DEC", "GEM"))
    first = dec.replace("release=1", "release=0")
    second = dec.replace(" pop=load", "")
    halves = [gem.replace("rows=16", "rows=8").replace(" push=vector", "")]
    halves += [gem.replace("rows=16", "rows=8").replace(" pop=load", "").replace("a=0 out=0x2000", "a=800 out=0x2280")]
    text = ONCE.replace(dec, f"{first}\n{second}").replace(gem, "\n".join(halves)).replace("in_w=16", "in_w=8")
    assert "tiles=8" in str(check(text))
    with pytest.raises(IsaError, match="release = 0 keeps 2048 bytes; allowed: at most the 1984"):
        check(text, weight_bytes=1984)
    with pytest.raises(IsaError, match="does not walk the same bytes"):
        check(text.replace(second, second.replace("columns=80", "columns=64", 1)))


def test_split_transfers_are_as_good_as_whole_ones() -> None:
    load = "LDW address=0x4000 blocks=32 code_bits=8 vector_length=4"
    check(LEGAL.replace(load, "\n".join(load.replace("blocks=32", f"blocks={n}") for n in (1, 30, 1))))


def test_race_is_found_without_tokens_and_not_with_them() -> None:
    lda = "LDA sram=0 address=0 rows=1 row_bytes=1600"
    racing = LEGAL.replace("VEC", f"{lda}\nVEC")
    with pytest.raises(
        IsaError, match=r"'LDA .* writes activation bytes 0 to 1599, read by instruction 7 'GEM .*no chain"
    ):
        check(racing)
    check(racing.replace("push=vector", "push=load,vector").replace(f"{lda}\nVEC", f"{lda} pop=compute\nVEC"))


def test_tokens_order_transitively() -> None:
    """GEM to vector to load: the load knows that the GEM is complete, though no token went straight to it."""
    text = LEGAL.replace("push=store", "push=load,store")
    check(text.replace("STA", "LDA sram=0 address=0 rows=1 row_bytes=1600 pop=vector\nSTA"))


def test_read_before_the_write_of_another_queue() -> None:
    text = LEGAL.replace("pop=load push=vector", "push=vector").replace("row_bytes=640 push=compute", "row_bytes=640")
    with pytest.raises(IsaError, match=r"'GEM .* reads activation bytes 0 to 1599, written by instruction 0 'LDA"):
        check(text)


def test_write_write_race() -> None:
    text = LEGAL.replace("VEC", "LDA sram=0x2000 address=0 rows=1 row_bytes=64\nVEC")
    with pytest.raises(IsaError, match=r"'LDA .* writes activation bytes 8192 to 8255, written by instruction 7 'GEM"):
        check(text)


GMC = next(line for line in LEGAL.splitlines() if line.startswith("GMC"))
CHAIN = LEGAL.replace(
    "VEC",
    GMC.replace("pixel_stride=100", "pixel_stride=80")
    + "\nGMO reduction=64 out_stride=16 b_stride=16 parameters=0x1000 tile_rows=64 tile_columns=64\n"
    "GMS a=0x2000 b=0 out=0x5000 rows=16 columns=16 chunk=16 fence=1\nVEC",
)


def test_dependent_products_need_a_fence() -> None:
    check(CHAIN)
    with pytest.raises(
        IsaError, match=r"'GMS .* reads activation bytes 8192 .*written by instruction 7 'GEM .*no fence"
    ):
        check(CHAIN.replace(" fence=1", ""))


TILE = (
    "DEC code_bits=8 vector_length=1 rows=8 columns=8 tile_rows=8 tile_columns=8 groups_per_tile=1 passes=1 release=1"
)
SHADOW = f"""
LDA sram=0 address=0 rows=1 row_bytes=2048 push=compute
LDW address=0 blocks=2 code_bits=8 vector_length=1
{TILE}
{TILE} push=load
{GMC}
GMO reduction=8 b_stride=8 tile_rows=8 tile_columns=8
GEM a=0 out=0x1000 rows=16 columns=8 chunk=16 groups_per_tile=1 pop=load
GMS a=0 out=0x2000 rows=16 columns=8 chunk=16
GEM a=0 out=0x3000 rows=16 columns=8 chunk=16 groups_per_tile=1 pop=load
LDA sram=0x8000 address=0 rows=1 row_bytes=64 pop=decode push=compute
FIN
"""


def test_gms_takes_its_turn_on_the_shadow_tile() -> None:
    """The decoder runs one tile ahead of a GEM that has not started, but not past a GMS that has not."""
    assert "tiles=2" in str(check(SHADOW))
    lines = SHADOW.splitlines()
    gms = next(i for i, line in enumerate(lines) if line.startswith("GMS"))
    lines[gms], lines[gms + 1] = f"{lines[gms]} pop=load", lines[gms + 1].replace(" pop=load", "")
    with pytest.raises(IsaError, match=r"deadlock: load .*pop=decode.* a token from decode; decode .*tile 0 of 1"):
        check("\n".join(lines))


def test_full_queue_stops_dispatch() -> None:
    """A queue whose head waits for something further down the program is fine until the queue is full."""
    vectors = "VEC function=fill out=0x7000 rows=1 columns=1\n"
    early = "VEC function=fill out=0x7000 rows=1 columns=1 pop=load\n"
    late = "LDA sram=0x8000 address=0 rows=1 row_bytes=1 push=vector\nFIN\n"
    check(early + vectors * (QUEUE_DEPTH - 1) + late)
    with pytest.raises(IsaError, match=r"deadlock: load .* waits for its dispatch, behind .*the vector queue is full"):
        check(early + vectors * QUEUE_DEPTH + late)


def test_spilled_bytes_may_be_read_back_after_the_store() -> None:
    text = """
    VEC function=fill out=0 rows=1 columns=64 push=store
    STA kind=activations_written sram=0 address=0x100 rows=1 row_bytes=64 pop=vector push=load
    LDA kind=activations_read sram=64 address=0x100 rows=1 row_bytes=64 pop=store
    FIN
    """
    program = assemble_program(text)
    check_program(program, MACHINE, DRAM, loaded=[])
    missing = program[2:]
    with pytest.raises(IsaError, match="reads dram bytes 256 to 319; nothing has written byte 256"):
        check_program([replace(missing[0], pop=()), missing[1]], MACHINE, DRAM, loaded=[(0, 256)])
    unordered = [program[0], replace(program[1], push=()), replace(program[2], pop=()), program[3]]
    with pytest.raises(IsaError, match=r"'LDA .* reads dram bytes 256 to 319, written by instruction 1 'STA"):
        check_program(unordered, MACHINE, DRAM)


def compiled(text: str, image_bytes: int, inputs: tuple[Port, ...]) -> Program:
    words = encode_program(assemble_program(text))
    return Program(
        model="m", codec="int8", source={}, packed_digest="", machine=MACHINE, batch=1, words=words,
        instruction_layer=np.zeros(len(words), np.int32), image=np.zeros(image_bytes, np.uint8), dram_bytes=DRAM,
        layers=(Layer("io", "io"),), streams=(), inputs=inputs, outputs=(),
    )  # fmt: skip


def test_compiled_program_may_read_its_image_and_inputs_only() -> None:
    text = "LDA sram=0 address=0x100 rows=1 row_bytes=128\nFIN"
    check_compiled(compiled(text, 0x140, (Port("x", (64,), (1,), 0x140, 64, 64, TensorScale(1.0)),)))
    with pytest.raises(IsaError, match="nothing has written byte 320 before"):
        check_compiled(compiled(text, 0x140, ()))


def test_large_programs_take_time_in_proportion() -> None:
    """48,000 instructions over 500 segments; a quadratic checker would not come back."""
    body: list[Instruction] = []
    for i in range(12000):
        a, out = i % 250 * 64, 0x8000 + i % 250 * 64
        body += assemble_program(
            f"LDA sram={a} address={i * 64} rows=1 row_bytes=64 pop=vector push=vector\n"
            f"VEC function=copy a={a} out={out} rows=1 columns=64 pop=load push=load,store\n"
            f"VEC function=fill out={0x10000 + i % 7} rows=64 columns=1\n"
            f"STA kind=activations_written sram={out} address={i * 64} rows=1 row_bytes=64 pop=vector push=load"
        )
    for i in range(0, len(body), 4):  # the load waits for the vector unit; stores for nobody
        body[i + 3] = replace(body[i + 3], push=("vector",))
        body[i + 1] = replace(body[i + 1], pop=("load", "store") if i else ("load",))
    body[0] = replace(body[0], pop=())
    body[-1] = replace(body[-1], push=())
    body[-3] = replace(body[-3], push=("store",))
    report = check_program([*body, Instruction("FIN")], MACHINE, DRAM)
    assert report.instructions == 48001 and report.tokens == 4 * 12000 - 2


def test_errors_name_the_instruction() -> None:
    text = LEGAL.replace("FIN", "VEC function=add a=0x9000 out=0xa000 rows=1 columns=1\nFIN")
    with pytest.raises(IsaError, match="instruction 11 'VEC function=add a=0x9000 out=0xa000 rows=1 columns=1' reads"):
        check(text)
