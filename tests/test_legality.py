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
