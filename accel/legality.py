"""What each instruction must satisfy by itself: sizes, bounds, and that array, accumulators and banks can hold it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from accel.arithmetic import LARGEST_NORM_ROW, MANTISSA_BITS
from accel.errors import AccelError, IsaError
from accel.fold import check_fold
from accel.footprint import (
    CODEBOOK_SPAN,
    WITH_EXPONENTS,
    Access,
    QueueState,
    decoder_codebook_bytes,
    instruction_accesses,
    resized_rows,
)
from accel.isa import BLOCK_BYTES, VECTOR_FUNCTIONS, Instruction, disassemble
from accel.machine import Machine
from accel.tiles import layout_of

INTEGER_CODE_BITS = 8  # the multipliers take int8: a wider code could only be an index
WIDEST_BITS = 62  # of magnitudes before they are rounded (``accel.arithmetic.rounding_shift``)
LARGEST_OFFSET_SHIFT = WIDEST_BITS - 16  # layernorm's offsets are int16


def place(index: int, instruction: Instruction) -> str:
    """How errors name an instruction: its number and its text."""
    return f"instruction {index} '{disassemble(instruction)}'"


def check_instructions(
    instructions: Sequence[Instruction], machine: Machine, dram_bytes: int
) -> list[tuple[Access, ...]]:
    """Check each instruction under the configuration in force; return their accesses. Raises ``IsaError``."""
    state, found = QueueState(), []
    for index, instruction in enumerate(instructions):
        state.update(instruction)
        try:
            _check(instruction, state, machine)
            found.append(instruction_accesses(instruction, state))
            _check_bounds(found[-1], machine, dram_bytes)
        except AccelError as error:
            raise IsaError(f"{place(index, instruction)}: {error}") from error
    _check_end(instructions)
    return found


def _check_end(instructions: Sequence[Instruction]) -> None:
    ends = [index for index, instruction in enumerate(instructions) if instruction.mnemonic == "FIN"]
    if ends != [len(instructions) - 1]:
        raise IsaError(f"program: FIN at {ends}; allowed: exactly one, as the last of {len(instructions)} instructions")


def _check(instruction: Instruction, state: QueueState, machine: Machine) -> None:
    for name in _POSITIVE.get(instruction.mnemonic, ()):
        _at_least_one(name, instruction[name])
    rule = _RULES.get(instruction.mnemonic)
    if rule:
        rule(instruction, state, machine)


def _at_least_one(what: str, value: int) -> None:
    if value < 1:
        raise IsaError(f"{what} = {value}; allowed: at least 1")


def _at_most(what: str, value: int, limit: int) -> None:
    if value > limit:
        raise IsaError(f"{what} = {value}; allowed: at most {limit}")


def _check_bounds(found: Sequence[Access], machine: Machine, dram_bytes: int) -> None:
    limits = {"dram": dram_bytes, "activation": machine.sram.activation_bytes}
    for access in found:
        if access.space == "codebook":
            _at_most("codebook bytes", access.stop % CODEBOOK_SPAN, machine.decoder.codebook_bytes)
        elif access.stop > limits[access.space]:
            verb = "writes" if access.write else "reads"
            end = limits[access.space]
            raise IsaError(f"{verb} {access.space} bytes {access.start} to {access.stop - 1}; allowed: below {end}")


def _check_ldw(load: Instruction, state: QueueState, machine: Machine) -> None:
    if load["address"] % BLOCK_BYTES:
        raise IsaError(f"address = {load['address']:#x}; allowed: multiples of {BLOCK_BYTES}")
    layout_of(load)


def _check_ldc(load: Instruction, state: QueueState, machine: Machine) -> None:
    _check_bank(load, state, machine)
    check_fold(load)


def _check_bank(user: Instruction, state: QueueState, machine: Machine) -> None:
    if user["bank"] >= machine.decoder.codebook_buffers:
        raise IsaError(
            f"bank = {user['bank']}; allowed: below decoder.codebook_buffers = {machine.decoder.codebook_buffers}"
        )


def _check_dec(dec: Instruction, state: QueueState, machine: Machine) -> None:
    _check_bank(dec, state, machine)
    layout = layout_of(dec)
    _check_tile(dec, dec["groups_per_tile"], machine)
    single = dec["vector_length"] == layout.codes_per_vector == 1
    integers = single and not layout.side_bits and dec["code_bits"] <= INTEGER_CODE_BITS
    if not dec["codebook"] and not integers:
        raise IsaError(
            f"codebook = 0 with {dec['code_bits']}-bit codes of {dec['vector_length']} weights, signed = "
            f"{dec['signed']}; allowed: integers of at most {INTEGER_CODE_BITS} bits, one a code, unsigned records"
        )
    _at_most("codebook bytes", decoder_codebook_bytes(dec), machine.decoder.codebook_bytes)


def _check_tile(instruction: Instruction, groups: int, machine: Machine) -> None:
    _at_most("tile_rows * groups_per_tile", instruction["tile_rows"] * groups, machine.array.rows)
    _at_most("tile_columns", instruction["tile_columns"], machine.array.columns)


def _check_gmo(output: Instruction, state: QueueState, machine: Machine) -> None:
    _check_tile(output, 1, machine)


def _check_gem(gem: Instruction, state: QueueState, machine: Machine) -> None:
    window, output = state.required("GMC", gem), state.required("GMO", gem)
    _check_tile(output, max(1, gem["groups_per_tile"]), machine)
    if output["tile_columns"] % max(1, gem["groups_per_tile"]):
        groups = gem["groups_per_tile"]
        raise IsaError(f"tile_columns = {output['tile_columns']}; allowed: multiples of groups_per_tile = {groups}")
    _at_most("chunk", gem["chunk"], machine.chunk_rows)
    taps = window["kernel_h"] * window["kernel_w"]
    if output["reduction"] % taps:
        raise IsaError(f"reduction = {output['reduction']}; allowed: multiples of the {taps} taps of its window")
    if output["normalise"] and (gem.mnemonic == "GEM" or not window["a_unsigned"] or output["bias"]):
        raise IsaError("normalise = 1; allowed: with GMS, a_unsigned = 1 and bias = 0 only")


def _check_vec(vec: Instruction, state: QueueState, machine: Machine) -> None:
    function = VECTOR_FUNCTIONS[vec["function"]]
    if function.windowed:
        window = state.required("VWN", vec)
        for name in _WINDOW_SIZES:
            _at_least_one(f"VWN.{name}", window[name])
    if function.requantises:
        _check_requantisation(function.name, state.required("VRQ", vec))
    if function.name == "layernorm":
        _at_most("columns of a layernorm", vec["columns"], LARGEST_NORM_ROW)
    if function.name.startswith("resize"):
        _check_resize(vec, state.required("VRS", vec))


def _check_requantisation(function: str, numbers: Instruction) -> None:
    """VRQ asks for nothing the function does not do, and its numbers leave the arithmetic exact."""
    exponents = (*WITH_EXPONENTS, "layernorm")
    if numbers["exponents"] and function not in exponents:
        raise IsaError(f"VRQ.exponents = 1 with {function}; allowed: with {', '.join(exponents)} only")
    if function in ("softmax", "exponentials") and numbers["a_multiplier"] >> (MANTISSA_BITS - 1):
        negative = numbers["a_multiplier"] - (1 << MANTISSA_BITS)
        raise IsaError(f"VRQ.a_multiplier = {negative}; allowed: at least 0, the factor of a distance")
    if function == "layernorm":
        _at_most("VRQ.offset_shift", numbers["offset_shift"], LARGEST_OFFSET_SHIFT)
        epsilon = numbers["b_multiplier"] << numbers["epsilon_shift"]
        if epsilon >> WIDEST_BITS:
            raise IsaError(f"VRQ.b_multiplier * 2**epsilon_shift = {epsilon}; allowed: below 2**{WIDEST_BITS}")


def _check_resize(vec: Instruction, image: Instruction) -> None:
    """Output rows lie in the image, and a does not begin behind the first input row they read."""
    lines = -(-vec["rows"] // image["out_w"])
    _at_most("VRS.out_row + rows / out_w", image["out_row"] + lines, image["out_h"])
    _at_most("VRS.in_row", image["in_row"], resized_rows(image, image["out_row"])[0])


_IMAGE_SIZES = ("in_h", "in_w", "out_w")
_WINDOW_SIZES = ("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w")

# Fields whose 0 means nothing: the loops they count would be empty.
_POSITIVE: Mapping[str, tuple[str, ...]] = {
    "LDA": ("rows", "row_bytes"),
    "STA": ("rows", "row_bytes"),
    "LDW": ("blocks",),
    "LDC": ("bytes",),
    "GTH": ("rows", "row_bytes"),
    "DEC": ("rows", "columns", "tile_rows", "tile_columns", "groups_per_tile", "passes"),
    "GMC": (*_WINDOW_SIZES, *_IMAGE_SIZES),
    "GMO": ("reduction", "tile_rows", "tile_columns"),
    "GEM": ("rows", "columns", "chunk", "groups_per_tile"),
    "GMS": ("rows", "columns", "chunk"),
    "VBT": ("count",),
    "VWN": _IMAGE_SIZES,
    "VRS": (*_IMAGE_SIZES, "out_h"),
    "VEC": ("rows", "columns"),
}

_RULES: Mapping[str, Callable[[Instruction, QueueState, Machine], None]] = {
    "LDW": _check_ldw,
    "LDC": _check_ldc,
    "DEC": _check_dec,
    "GMO": _check_gmo,
    "GEM": _check_gem,
    "GMS": _check_gem,
    "VEC": _check_vec,
}
