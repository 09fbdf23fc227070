"""The instruction set against words worked out by hand, and against itself.

Changing one of the golden words changes what existing program files mean: bump ``ISA_VERSION`` and ``PROGRAM_SCHEMA``.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import IsaError
from accel.isa import (
    BY_MNEMONIC,
    INSTRUCTION_BYTES,
    INSTRUCTIONS,
    PAYLOAD_LSB,
    QUEUES,
    Instruction,
    assemble,
    assemble_program,
    decode,
    decode_program,
    disassemble,
    encode,
    encode_program,
)

# Text, then the upper and lower 64 bits. Bits 0-4 opcode; 5-9 pop, 10-14 push (load, decode, compute, vector, store).
# In the comments, "x<<n" is a field of value x at bit n, or at bit n-64 of the upper half; low half first.
GOLDEN: list[tuple[str, int, int]] = [
    # 15 | pop vector 1<<8
    ("FIN pop=vector", 0, 0x10F),
    # 3 | push decode 1<<11 | 0x40<<16 | 128<<50 = 1<<57;  bank 1<<7
    ("LDC address=0x40 bytes=128 bank=1 push=decode", 0x80, 0x0200_0000_0040_0803),
    # 3 | 0x40<<16 | 1056<<50 = 0x1080<<48;  bank 1<<7 | rank 4<<8 | d 8<<15 = 0x40000 | shift 7<<22 = 0x1C<<20
    ("LDC address=0x40 bytes=1056 bank=1 rank=4 vector_length=8 shift=7", 0x01C4_0480, 0x1080_0000_0040_0003),
    # 1 | push compute 1<<12 | kind 5<<16 | 0x1000<<20 = 1<<32 | 0x2000<<44 = 1<<57;  rows 1<<14 | 0x280<<26
    (
        "LDA kind=parameters sram=0x1000 address=0x2000 rows=1 row_bytes=640 push=compute",
        0x0000_000A_0000_4000, 0x0200_0001_0005_1001,
    ),
    # 1 | pop bits 6-9 0x3C0 | push bits 11-14 0x7800 | kind 8<<16 | bits 20-127 all set: five fields at their limits
    (
        "LDA kind=instructions sram=0xffffff address=0x3ffffffff rows=4095 row_bytes=1048575 stride=262143 "
        "pop=decode,compute,vector,store push=decode,compute,vector,store",
        0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF_FFF8_7BC1,
    ),
    # 2 | 0x300000040<<16 | blocks 7<<50 = 0x1C<<48;  code_bits 4<<10 = 0x1000 | d 8<<15 = 0x40000 | signed 1<<22
    (
        "LDW address=0x300000040 blocks=7 code_bits=4 vector_length=8 signed=1",
        0x0000_0000_0044_1000, 0x001F_0000_0040_0002,
    ),
    # the same, but code_bits 9<<10 = 0x2400 | d 16<<15 = 0x80000 | mask_kept 4<<23 = 1<<25 | mask_group 16<<27 = 1<<31
    (
        "LDW address=0x300000040 blocks=7 code_bits=9 vector_length=16 mask_kept=4 mask_group=16",
        0x0000_0000_8208_2400, 0x001F_0000_0040_0002,
    ),
    # 4 | 0x10<<16 | ids 0x20<<40 = 1<<45;  address 0x40 | 384<<34 = 0x600<<32 | rows 197<<50 = 0x314<<48
    (
        "GTH sram=0x10 ids=0x20 address=0x40 row_bytes=384 rows=197",
        0x0314_0600_0000_0040, 0x0000_2000_0010_0004,
    ),
    # 5 | pop load 1<<5 | code_bits 4<<16 | d 8<<21 = 1<<24 | four flags 0xF<<28 | rows 192<<32 | columns 576<<52
    # tile_rows 64<<8 = 0x4000 | tile_columns 64<<19 = 1<<25 | groups 1<<30 | passes 2<<38 = 1<<39 | release 1<<54
    (
        "DEC code_bits=4 vector_length=8 signed=1 axis_in=1 codebook=1 bank=1 rows=192 columns=576 tile_rows=64 "
        "tile_columns=64 groups_per_tile=1 passes=2 release=1 pop=load",
        0x0040_0080_4200_4000, 0x2400_00C0_F104_0025,
    ),
    # as above, but code_bits 9<<16 | d 16<<21 = 1<<25 | three flags 0xE<<28;  mask_kept 1<<57 | mask_group 16<<59
    (
        "DEC code_bits=9 vector_length=16 axis_in=1 codebook=1 bank=1 rows=192 columns=576 tile_rows=64 "
        "tile_columns=64 groups_per_tile=1 passes=2 release=1 mask_kept=4 mask_group=16 pop=load",
        0x8240_0080_4200_4000, 0x2400_00C0_E209_0025,
    ),
    # the first DEC unsigned and of two codes a vector: three flags 0xE<<28, mask_kept 2<<55 = 1<<56, mask_group 1<<59
    (
        "DEC code_bits=4 vector_length=8 axis_in=1 codebook=1 bank=1 rows=192 columns=576 tile_rows=64 "
        "tile_columns=64 groups_per_tile=1 passes=2 release=1 mask_kept=2 mask_group=1 pop=load",
        0x0940_0080_4200_4000, 0x2400_00C0_E104_0025,
    ),
    # 6 | 3<<16 | 3<<22 = 0xC<<20 | 2<<28 | 2<<33 = 4<<32 | 1<<38 | 1<<44 | 1<<50 | 1<<56 | in_h 224<<62: 224/4 above
    # 56 = 0x38 | in_w 224<<12 = 0xE0000 | out_w 112<<26 = 0x1C<<28 | 3<<40 | channel_major 1<<60 | a_unsigned 1<<61
    (
        "GMC kernel_h=3 kernel_w=3 stride_h=2 stride_w=2 dilation_h=1 dilation_w=1 pad_top=1 pad_left=1 in_h=224 "
        "in_w=224 out_w=112 pixel_stride=3 channel_major=1 a_unsigned=1",
        0x3000_0301_C00E_0038, 0x0104_1044_20C3_0006,
    ),
    # 7 | 768<<16 = 0x300<<16 | 192<<36 = 0xC00<<32 | parameters 0x3F000<<56: 0x3F0 above
    # 0x3F0 | b_stride 64<<16 = 1<<22 | 64<<36 = 1<<42 | 64<<47 = 1<<53 | bias 1<<58 | channel_scales 1<<59
    # table 1<<61
    (
        "GMO reduction=768 out_stride=192 parameters=0x3f000 b_stride=64 tile_rows=64 tile_columns=64 bias=1 "
        "channel_scales=1 table=1",
        0x2C20_0400_0040_03F0, 0x0000_0C00_0300_0007,
    ),
    # 7 | 197<<16 = 0xC5<<16 | 64<<36 = 1<<42
    # b_stride 0xC5<<16 | 16<<36 = 1<<40 | 16<<47 = 1<<51 | unsigned 1<<60 | normalise 1<<62
    (
        "GMO reduction=197 out_stride=64 b_stride=197 tile_rows=16 tile_columns=16 unsigned=1 normalise=1",
        0x5008_0100_00C5_0000, 0x0000_0400_00C5_0007,
    ),
    # 8 | pop load, vector 0x120 | push vector, store 0x6000 | 0x100<<16 | 0x20000<<40 = 1<<57
    # rows 197 = 0xC5 | columns 768<<20 = 0x300<<20 | chunk 0xC5<<40 | groups 1<<54 | fence 1<<62
    (
        "GEM a=0x100 out=0x20000 rows=197 columns=768 chunk=197 groups_per_tile=1 fence=1 pop=load,vector "
        "push=vector,store",
        0x4040_C500_3000_00C5, 0x0200_0000_0100_6128,
    ),
    # 9 | pop vector 1<<8 | 1<<16 | 2<<40;  out 3 | rows 0xC5<<24 | 64<<38 = 1<<44 | chunk 0xC5<<52 | 1<<62 | 1<<63
    (
        "GMS a=0x1 b=0x2 out=0x3 rows=197 columns=64 chunk=197 transpose_b=1 fence=1 pop=vector",
        0xCC50_1000_C500_0003, 0x0000_0200_0001_0109,
    ),
    # 10 | 192<<16 = 0xC0<<16;  out 768 = 0x300 | a_column 1<<24 | out_column 64<<44 = 1<<50
    (
        "VST a_stride=192 out_stride=768 a_column_stride=1 out_column_stride=64",
        0x0004_0000_0100_0300, 0x0000_0000_00C0_000A,
    ),
    # 11 | 3<<16 | 64<<32 | b 0x800<<56 = 1<<67: 8 above;  8 | out 0x10<<16
    ("VBT count=3 a_stride=64 b_stride=2048 out_stride=16", 0x0010_0008, 0x0000_0040_0003_000B),
    # 12 | 2<<16 | 2<<22 = 8<<20 | 2<<28 | 2<<33 = 4<<32 | 1<<38 | 1<<44 | in_h 14<<62: low bits 0b10, 3 above
    # 3 | in_w 14<<12 | out_w 7<<26 = 0x1C<<24 | pixel_stride 64<<40 = 1<<46
    (
        "VWN kernel_h=2 kernel_w=2 stride_h=2 stride_w=2 dilation_h=1 dilation_w=1 in_h=14 in_w=14 out_w=7 "
        "pixel_stride=64",
        0x0000_4000_1C00_E003, 0x8000_1044_2082_000C,
    ),
    # 13 | pop compute 1<<7 | push compute 1<<12 | softmax 6<<16 | 0x100<<21 = 1<<29
    # out 0x200<<5 = 0x4000 | rows 0xC5<<29 = 0x18A<<28 | columns 0xC5<<45 = 0x18A<<44
    (
        "VEC function=softmax a=0x100 out=0x200 rows=197 columns=197 pop=compute push=compute",
        0x0018_A018_A000_4000, 0x0000_0000_2006_108D,
    ),
    # 13 | table 5<<16 | a 0x80<<21 = 1<<28 | b 0x200<<45 = 1<<54
    # out 0x300<<5 = 0x6000 | rows 1<<29 | columns 64<<45 = 1<<51
    (
        "VEC function=table a=0x80 b=0x200 out=0x300 rows=1 columns=64",
        0x0008_0000_2000_6000, 0x0040_0000_1005_000D,
    ),
    # 14 | pop vector 1<<8 | kind 7<<16 | address 0x100000<<44 = 1<<64: 1 above
    # 1 | rows 0xC5<<14 = 0x314000 | 192<<26 = 3<<32 | stride 768<<46 = 3<<54
    (
        "STA kind=activations_written address=0x100000 rows=197 row_bytes=192 stride=768 pop=vector",
        0x00C0_0003_0031_4001, 0x0000_0000_0007_010E,
    ),
    # 16 | pop load 1<<5 | 0x400000<<16 = 1<<38 | b 0xC00000<<40 = 0xC<<60
    # shift 22 = 0x16 | epsilon_shift 3<<6 = 0xC0 | offset_shift 12<<12 = 0xC000 | 0x1000<<18 = 1<<30
    # a_unsigned 1<<42 | exponents 1<<45
    (
        "VRQ a_multiplier=4194304 b_multiplier=12582912 shift=22 epsilon_shift=3 offset_shift=12 parameters=0x1000 "
        "a_unsigned=1 exponents=1 pop=load",
        0x0000_2400_4000_C0D6, 0xC000_0040_0000_0030,
    ),
    # 16 | 5956 = 0x1744<<16;  b_unsigned 1<<43 | exponents 1<<45
    ("VRQ a_multiplier=5956 b_unsigned=1 exponents=1", 0x0000_2800_0000_0000, 0x1744_0010),
    # 17 | push compute 1<<12 | 7<<16 | 14<<30 = 0x38<<28 | 28<<44 = 0x1C<<44 | out_w 224<<58: low bits 1<<63, 3 above
    # 3 | in_row 3<<8 | out_row 12<<22 = 3<<24 | 64<<36 = 1<<42
    (
        "VRS in_h=7 in_w=14 out_h=28 out_w=224 in_row=3 out_row=12 pixel_stride=64 push=compute",
        0x0000_0400_0300_0303, 0x8001_C003_8007_1011,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "upper", "lower"), GOLDEN, ids=[row[0].split()[0] for row in GOLDEN])
def test_golden_words(text: str, upper: int, lower: int) -> None:
    word = (upper << 64 | lower).to_bytes(16, "little")
    assert encode(assemble(text)) == word
    assert disassemble(decode(word)) == text


def test_every_opcode_has_a_golden_word() -> None:
    assert {text.split()[0] for text, _, _ in GOLDEN} == set(BY_MNEMONIC)


@st.composite
def instructions(draw: st.DrawFn) -> Instruction:
    """Any instruction of the table."""
    spec = draw(st.sampled_from(INSTRUCTIONS))
    values = {f.name: draw(st.integers(0, f.limit - 1) | st.just(f.limit - 1)) for f in spec.fields}
    others = [queue for queue in QUEUES if queue != spec.queue]
    pop, push = (draw(st.lists(st.sampled_from(others), unique=True).map(_ordered)) for _ in range(2))
    return Instruction(spec.mnemonic, values, pop, push)


def _ordered(queues: list[str]) -> tuple[str, ...]:
    return tuple(sorted(queues, key=QUEUES.index))


@given(instructions())
def test_encode_and_decode_are_inverse(instruction: Instruction) -> None:
    assert decode(encode(instruction)) == instruction


@given(instructions())
def test_assemble_and_disassemble_are_inverse(instruction: Instruction) -> None:
    assert encode(assemble(disassemble(instruction))) == encode(instruction)


@given(st.lists(instructions(), max_size=8))
def test_programs_round_trip_as_words_and_as_text(program: list[Instruction]) -> None:
    words = encode_program(program)
    assert words.shape == (len(program), INSTRUCTION_BYTES) and words.dtype == np.uint8
    assert decode_program(words) == program
    text = "# a comment\n\n" + "\n".join(f"  {disassemble(i)}  # {n}" for n, i in enumerate(program))
    assert encode_program(assemble_program(text)).tobytes() == words.tobytes()


@given(st.binary(min_size=16, max_size=16), st.integers(0, 31))
def test_any_word_is_illegal_or_canonical(data: bytes, opcode: int) -> None:
    word = bytes([data[0] & 0xE0 | opcode, *data[1:]])
    try:
        instruction = decode(word)
    except IsaError:
        return
    assert encode(instruction) == word


def test_fields_lie_side_by_side_without_gaps() -> None:
    for spec in INSTRUCTIONS:
        ends = [PAYLOAD_LSB, *(f.lsb + f.width for f in spec.fields)]
        assert [f.lsb for f in spec.fields] == ends[:-1] and ends[-1] <= 8 * INSTRUCTION_BYTES


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("LDB", "instruction 'LDB'; allowed: .*; did you mean 'LD"),
        ("", "instruction ''; allowed: LDA"),
        (
            "LDC adress=1",
            "LDC: no field 'adress'; allowed: address, bytes, .*, shift; did you mean 'address'",
        ),
        ("LDC bank=2", "LDC.bank = 2; allowed: 0 to 1"),
        ("LDC bank=-1", "LDC.bank = -1; allowed: 0 to 1"),
        ("LDC bank=x", "'LDC bank=x': bank=x; allowed: an integer"),
        ("LDC bank", "'bank' is no NAME=VALUE"),
        ("LDC bank=1 bank=1", "repeated"),
        ("LDC push=load", "token queue 'load'; allowed: decode, compute, vector, store"),
        ("LDC push=decoder", "token queue 'decoder'; allowed"),
        ("LDC push=decode,decode", "allowed: each queue once"),
        ("VEC function=softmaks", "function=softmaks; allowed: copy, .*; did you mean 'softmax'"),
        ("VEC function=31", "VEC.function = 31; allowed: copy, fill"),
        ("LDA kind=15", "LDA.kind = 15; allowed: weights"),
    ],
)
def test_assembler_messages(line: str, message: str) -> None:
    with pytest.raises(IsaError, match=message):
        assemble(line)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (0, "opcode 0; allowed: 16 bytes, 1 LDA"),
        (31, "opcode 31"),
        (15 | 1 << 15, "FIN has reserved bits set: 0f80"),
        (15 | 1 << 127, "FIN has reserved bits set"),
        (15 | 1 << 9, "FIN: token queue 'store'; allowed: load"),
        (13 | 31 << 16, "VEC.function = 31; allowed: copy"),
        (14 | 15 << 16, "STA.kind = 15; allowed: weights"),
    ],
)
def test_decoder_messages(word: int, message: str) -> None:
    with pytest.raises(IsaError, match=re.escape("instruction 1: ")) as caught:
        decode_program(
            np.frombuffer((15).to_bytes(16, "little") + word.to_bytes(16, "little"), np.uint8).reshape(2, 16)
        )
    assert message in str(caught.value)


def test_short_words_are_refused() -> None:
    with pytest.raises(IsaError, match="here: 15 bytes"):
        decode(encode(Instruction("FIN"))[:15], "here")
