"""Rules for single instructions under their configuration: what just passes, and the smallest step beyond."""

from __future__ import annotations

import pytest

from accel.errors import IsaError
from accel.isa import VECTOR_FUNCTIONS, assemble_program
from accel.legality import check_instructions
from accel.machine import load_machine

MACHINE = load_machine("edge64-ideal")
SRAM = MACHINE.sram.activation_bytes
WINDOW = "kernel_h=1 kernel_w=1 stride_h=1 stride_w=1 dilation_h=1 dilation_w=1 in_h=4 in_w=4 out_w=4 pixel_stride=64"
VRS = "VRS in_h=4 in_w=4 out_h=8 out_w=8 pixel_stride=64"


def check(*lines: str) -> None:
    check_instructions(assemble_program("\n".join([*lines, "FIN"])), MACHINE, 1 << 20)


def refused(message: str, *lines: str) -> None:
    with pytest.raises(IsaError, match=message) as caught:
        check(*lines)
    assert "\n" not in str(caught.value)


def vec(function: str, rows: int = 4) -> str:
    return f"VEC function={function} a=0 b=0x1000 out=0x2000 rows={rows} columns=8"


@pytest.mark.parametrize("row", VECTOR_FUNCTIONS, ids=lambda row: row.name)
def test_functions_need_vrq_if_they_requantise_and_read_exponents_only_if_they_have_any(row) -> None:
    around = [f"VWN {WINDOW}", VRS]
    check(*around, "VRQ", vec(row.name))
    if row.requantises:
        refused(r"instruction 2 'VEC .*' needs a VRQ before it in the program; there is none", *around, vec(row.name))
    else:
        check(*around, vec(row.name))
    if row.requantises and row.name not in ("add", "mean", "layernorm"):
        message = f"VRQ.exponents = 1 with {row.name}; allowed: with add, mean, layernorm only"
        refused(message, *around, "VRQ exponents=1", vec(row.name))
    else:
        check(*around, "VRQ exponents=1", vec(row.name))


@pytest.mark.parametrize("function", ["softmax", "exponentials"])
def test_factors_of_distances_are_not_negative(function: str) -> None:
    check("VRQ a_multiplier=0x7fffff", vec(function))
    refused(r"VRQ.a_multiplier = -8388608; allowed: at least 0", "VRQ a_multiplier=0x800000", vec(function))
    check("VRQ a_multiplier=0x800000", vec("add"))


def test_numbers_of_layernorm_keep_its_arithmetic_exact() -> None:
    check("VRQ b_multiplier=0xffffff epsilon_shift=38 offset_shift=46", vec("layernorm"))
    check("VRQ b_multiplier=0x7fffff epsilon_shift=39", vec("layernorm"))
    message = r"VRQ.b_multiplier \* 2\*\*epsilon_shift = 4611686018427387904; allowed: below 2\*\*62"
    refused(message, "VRQ b_multiplier=0x800000 epsilon_shift=39", vec("layernorm"))
    refused(r"VRQ.offset_shift = 47; allowed: at most 46", "VRQ offset_shift=47", vec("layernorm"))
    check("VRQ b_multiplier=0x800000 epsilon_shift=39 offset_shift=47", vec("add"))


def test_rows_of_layernorm_are_short_enough_for_its_sums() -> None:
    line = "VEC function=layernorm a=0 b=0x10000 out=0 rows=1 columns="
    check("VRQ", f"{line}32767")
    refused("columns of a layernorm = 32768; allowed: at most 32767", "VRQ", f"{line}32768")


def test_resizing_stays_in_both_images() -> None:
    refused(r"'VEC .*' needs a VRS before it", vec("resize_nearest"))
    check(f"{VRS} out_row=6", vec("resize_nearest", 16))
    refused(r"VRS.out_row \+ rows / out_w = 9; allowed: at most 8", f"{VRS} out_row=6", vec("resize_nearest", 17))
    check(f"{VRS} out_row=6 in_row=2", vec("resize_nearest", 16))  # row 6 lies between input rows 2 and 3
    refused(r"VRS.in_row = 3; allowed: at most 2", f"{VRS} out_row=6 in_row=3", vec("resize_nearest", 16))
    for name in ("in_h", "in_w", "out_h", "out_w"):
        refused(f"{name} = 0; allowed: at least 1", VRS.replace(f"{name}={4 if 'in' in name else 8}", f"{name}=0"))


def test_resizing_reads_no_byte_behind_the_sram() -> None:
    at = SRAM - (3 * 4 + 3) * 64 - 8  # the last of 4 x 4 pixels ends with the memory
    check(VRS, f"VEC function=resize_nearest a={at} out=0 rows=64 columns=8")
    refused(
        f"reads activation bytes .* to {SRAM}; allowed: below {SRAM}",
        VRS, f"VEC function=resize_nearest a={at + 1} out=0 rows=64 columns=8",
    )  # fmt: skip


GMO = "GMO reduction=64 out_stride=8 tile_rows=32 tile_columns=8"
GMS = "GMS a=0 b=0x1000 out=0x2000 rows=4 columns=8 chunk=4"
GEM = "GEM a=0 out=0x2000 rows=4 columns=8 chunk=4 groups_per_tile=1"


def test_only_attention_products_of_uint8_rows_are_normalised() -> None:
    message = "normalise = 1; allowed: with GMS, a_unsigned = 1 and bias = 0 only"
    unsigned = f"GMC {WINDOW} a_unsigned=1"
    check(unsigned, f"{GMO} normalise=1", GMS)
    refused(message, f"GMC {WINDOW}", f"{GMO} normalise=1", GMS)
    refused(message, unsigned, f"{GMO} normalise=1 bias=1", GMS)
    refused(message, unsigned, f"{GMO} normalise=1", GEM)


FOLD = "LDC address=0 bytes=72 bank=0 rank=3 vector_length=8 shift=20"


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("bytes=72", "bytes=73", "bytes = 73; allowed: multiples of rank = 3 from 27 on"),
        ("bytes=72", "bytes=24", "bytes = 24; allowed: multiples of rank = 3 from 27 on"),
        ("shift=20", "shift=21", "shift = 21; allowed: at most 20"),
        ("rank=3", "rank=0", "vector_length = 8, shift = 20; allowed: 0 with rank = 0"),
        ("rank=3", "rank=9", "rank 9 of codewords of 8 weights; allowed: 1 to m"),
        ("vector_length=8", "vector_length=65", "rank 3 of codewords of 65 weights; allowed: 1 to m, and m at most 64"),
        ("bytes=72", "bytes=6000", "codebook bytes = 15936; allowed: at most 8192"),
    ],
)
def test_folds_make_a_codebook_that_fits(old: str, new: str, message: str) -> None:
    check(FOLD)
    refused(message, FOLD.replace(old, new))


@pytest.mark.parametrize(
    "fields, message",
    [
        ("mask_kept=4 mask_group=4", "mask 4:4: N=4 of M=4 kept; allowed: 1 to 3"),
        ("mask_kept=2", "mask 2:0: groups of M=0 weights; allowed: 2 to 16"),
        ("mask_group=4", "mask 0:4: N=0 of M=4 kept"),
        ("mask_kept=8 mask_group=16", "an index of 14 bits; allowed: at most 12 bits"),
        ("mask_kept=1 mask_group=3", "vectors of 16 weights; allowed: multiples of M=3"),
        ("mask_kept=2 mask_group=4 signed=1", "signs beside masks of 2:4; allowed: one of the two"),
        ("mask_kept=1 mask_group=1", "mask_group = 1, mask_kept = 1 codes a vector; allowed: 2 to 8"),
        ("mask_kept=9 mask_group=1", "mask_group = 1, mask_kept = 9 codes a vector; allowed: 2 to 8"),
        (
            "mask_kept=2 mask_group=1 signed=1",
            "record of 2 codes a vector with 16 side bits; allowed: 1 beside side bits",
        ),
    ],
)
@pytest.mark.parametrize("mnemonic", ["LDW", "DEC"])
def test_masks_of_records_are_possible(mnemonic: str, fields: str, message: str) -> None:
    rest = "rows=8 columns=16 tile_rows=8 tile_columns=16 groups_per_tile=1 passes=1 codebook=1"
    refused(message, f"{mnemonic} code_bits=4 vector_length=16 {fields} {rest if mnemonic == 'DEC' else 'blocks=1'}")


def test_tables_of_products_lie_in_the_sram() -> None:
    """Eight biases and one multiplier: 36 bytes."""
    gmo = f"{GMO} bias=1 table=1 parameters="
    at = SRAM - 36 - 256
    check(f"GMC {WINDOW}", f"{gmo}{at} b_stride=36", GEM)
    check(f"GMC {WINDOW}", f"{gmo}0 b_stride=36", GMS)
    message = f"reads activation bytes {SRAM - 255} to {SRAM}; allowed: below"
    refused(message, f"GMC {WINDOW}", f"{gmo}{at} b_stride=37", GEM)
    refused(message, f"GMC {WINDOW}", f"{gmo}{at + 1} b_stride=8", GMS)
    check(f"GMC {WINDOW}", f"{GMO} bias=1 parameters={SRAM - 36} b_stride=37", GEM)


def test_groups_share_the_columns_of_a_tile_evenly() -> None:
    gem, gmo = GEM.replace("groups_per_tile=1", "groups_per_tile=4"), GMO.replace("tile_rows=32", "tile_rows=16")
    check(f"GMC {WINDOW}", gmo, gem)
    for columns in (2, 9):
        message = f"tile_columns = {columns}; allowed: multiples of groups_per_tile = 4"
        refused(message, f"GMC {WINDOW}", gmo.replace("tile_columns=8", f"tile_columns={columns}"), gem)
