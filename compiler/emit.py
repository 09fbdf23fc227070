"""Placed visits to instructions, in an order that lets loads run ahead.

While a visit with weights computes, the load queue fetches what follows up to and including the next visit with
weights. Loads are in order and weight loads wait for room in the ring, so weights are only fetched ahead of a staged
activation as far as the ring can hold them without that activation's visit having run: nothing can deadlock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from accel.codecs.base import EncodedLayer
from accel.isa import ACTIVATIONS, BLOCK_BYTES, BY_MNEMONIC, Instruction
from accel.machine import Machine
from compiler.emit_vector import pixel_stride, vector_instructions, window_fields
from compiler.moves import contiguous, move
from compiler.parameters import PRODUCT_SCALE_BYTES, ParameterBlock, channel_scales
from compiler.place import Placement, dram_operands, staged_view
from compiler.plan import Fetch, WeightPlan
from compiler.steps import Buffer, GatherStep, GemmStep, ProductStep, Step, VectorStep, Visit, Window
from compiler.tile import Tiling
from compiler.views import View, narrow, reshape

STREAM_BLOCKS = BY_MNEMONIC["LDW"].field("blocks").limit - 1


@dataclass(frozen=True, slots=True)
class WeightSource:
    """One weight matrix as emission needs it: the encoded layer, its tiles and where they lie in DRAM."""

    layer: EncodedLayer
    tiling: Tiling
    address: int
    codebook_address: int


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything emission looks up. Addresses are of DRAM unless said otherwise; by visit index where they vary."""

    machine: Machine
    placement: Placement
    buffers: Mapping[str, Buffer]
    dram_address: Mapping[str, int]
    weights: Mapping[str, WeightSource]
    plans: Mapping[int, WeightPlan]
    blocks: Mapping[int, ParameterBlock]
    block_dram: Mapping[int, int]
    block_sram: Mapping[int, int]
    product_scales: tuple[int, int, int]  # DRAM address, SRAM address, bytes


@dataclass(slots=True)
class Emission:
    """Instructions so far with their layers, and how far loads have run ahead."""

    resources: Resources
    instructions: list[Instruction] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    configured: dict[str, Instruction] = field(default_factory=dict)
    parameters_until: int = 0
    fetched_blocks: dict[int, int] = field(default_factory=dict)
    bank_of: dict[int, int] = field(default_factory=dict)
    codebooks: int = 0
    product_layers: list[int] = field(default_factory=list)

    def add(self, layer: int, *instructions: Instruction) -> None:
        """Append, leaving out configuration that is in force already."""
        for instruction in instructions:
            if instruction.mnemonic in ("GMC", "GMO", "VST", "VBT", "VWN"):
                if self.configured.get(instruction.mnemonic) == instruction:
                    continue
                self.configured[instruction.mnemonic] = instruction
            self.instructions.append(instruction)
            self.layers.append(layer)


def emit(resources: Resources) -> Emission:
    """All instructions of a program, without tokens."""
    state = Emission(resources)
    visits = resources.placement.visits
    address, sram, size = resources.product_scales
    if size:
        first = next(v.step.layer for v in visits if isinstance(v.step, ProductStep))
        state.add(first, *contiguous("LDA", "scales", sram, address, size))
    for index, visit in enumerate(visits):
        _emit_visit(state, index, visit)
    state.add(visits[-1].step.layer, Instruction("FIN"))
    return state


def _emit_visit(state: Emission, index: int, visit: Visit) -> None:
    _load_operands(state, index, 0)
    _fetch_parameters(state, index)
    plan = state.resources.plans.get(index)
    if plan is not None and plan.fetch is Fetch.STRIPS:
        _fetch_weights(state, index, plan.blocks)
        _fetch_ahead(state, index)
        _emit_strips(state, index, visit)
        return
    early = len(state.resources.placement.staging.get(index, ())) != 1  # one staging set: load after its last use
    for number, part in enumerate(visit.parts):
        if plan is not None:
            _fetch_weights(state, index, plan.blocks)
        last = number + 1 == len(visit.parts)
        if early and not last:
            _load_operands(state, index, number + 1)
        gathers = isinstance(part, GatherStep)  # itself a load: nothing that waits for the ring may come before it
        if last and not gathers:
            _fetch_ahead(state, index)
        _emit_part(state, index, number, part)
        if last and gathers:
            _fetch_ahead(state, index)
        if plan is not None and plan.fetch is Fetch.RELOAD:
            state.fetched_blocks[index] = 0
        if not early and not last:
            _load_operands(state, index, number + 1)


# --- loads ----------------------------------------------------------------------------------------------------------


def _load_operands(state: Emission, index: int, number: int) -> None:
    """Stage the operands of one part that lie in DRAM, except what the part before left in the same place."""
    part = state.resources.placement.visits[index].parts[number]
    kept = set(_staging(state, index, number - 1)) if number else set()
    for view, sram in _staging(state, index, number):
        if view not in part.reads or (view, sram) in kept:
            continue
        home = state.resources.buffers[view.buffer].home
        kind = "parameters" if home == "constant" else "activations_read"
        address = state.resources.dram_address[view.buffer]
        dense = _as_bytes(part, staged_view(view))
        state.add(part.layer, *move("LDA", kind, sram, address, _as_bytes(part, view), dense))


def _as_bytes(part: Step, view: View) -> View:
    """Indices of a gather are four bytes each; everything else is one."""
    if isinstance(part, GatherStep) and view.strides[0] > 1 and len(view.shape) == 1:
        return View(view.buffer, view.offset, (4 * view.shape[0],), (1,))
    return view


def _staging(state: Emission, index: int, number: int) -> Iterator[tuple[View, int]]:
    sets = state.resources.placement.staging.get(index)
    if sets:
        part = state.resources.placement.visits[index].parts[number]
        yield from zip(dram_operands(part, state.resources.placement.address), sets[number % len(sets)], strict=False)


def _fetch_parameters(state: Emission, upto: int) -> None:
    """Parameter blocks of all visits up to ``upto``, in order."""
    for index in range(state.parameters_until, upto + 1):
        block = state.resources.blocks.get(index)
        if block is None:
            continue
        layer = state.resources.placement.visits[index].step.layer
        sram, address = state.resources.block_sram[index], state.resources.block_dram[index]
        scales = block.size_bytes - block.scales_at
        if block.scales_at:
            state.add(layer, *contiguous("LDA", "parameters", sram, address, block.scales_at))
        if scales:
            at = block.scales_at
            state.add(layer, *contiguous("LDA", "scales", sram + at, address + at, scales))
    state.parameters_until = max(state.parameters_until, upto + 1)


def _fetch_weights(state: Emission, index: int, blocks: int) -> None:
    """Codebook and weight blocks of a visit, up to ``blocks`` of them."""
    visit = state.resources.placement.visits[index]
    assert isinstance(visit.step, GemmStep)
    source, layer = state.resources.weights[visit.step.weight], visit.step.layer
    if index not in state.bank_of:
        codec = source.layer.codec
        state.bank_of[index] = state.codebooks % 2
        if codec.codebook_entries:
            values = {"address": source.codebook_address, "bytes": codec.codebook_bytes, "bank": state.codebooks % 2}
            state.add(layer, Instruction("LDC", values))
            state.codebooks += 1
    done = state.fetched_blocks.get(index, 0)
    while done < blocks:
        count = min(blocks - done, STREAM_BLOCKS)
        state.add(layer, _ldw(source, source.address + done * BLOCK_BYTES, count))
        done += count
    state.fetched_blocks[index] = done


def _ldw(source: WeightSource, address: int, blocks: int) -> Instruction:
    layout = source.tiling.layout
    values = {"address": address, "blocks": blocks, "code_bits": layout.code_bits}
    return Instruction("LDW", values | {"vector_length": layout.vector_length, "signed": int(layout.has_signs)})


def _fetch_ahead(state: Emission, index: int) -> None:
    """What the visits after ``index`` need, up to and including the next one with weights."""
    visits, plans = state.resources.placement.visits, state.resources.plans
    if index not in plans and state.fetched_blocks:
        return
    following = next((i for i in range(index + 1, len(visits)) if i in plans), None)
    if following is None:
        _fetch_parameters(state, len(visits) - 1)
        return
    _fetch_parameters(state, following)
    blocks = plans[following].blocks
    if any(_loads_operands(state, i) for i in range(index + 1, following + 1)):
        blocks = min(blocks, state.resources.machine.sram.weight_bytes // BLOCK_BYTES)
    _fetch_weights(state, following, blocks)


def _loads_operands(state: Emission, index: int) -> bool:
    """Whether a visit puts loads of its own into the queue, behind the weights fetched ahead of it."""
    placement = state.resources.placement
    return index in placement.staging or isinstance(placement.visits[index].step, GatherStep)


# --- work -----------------------------------------------------------------------------------------------------------


def _emit_part(state: Emission, index: int, number: int, part: Step) -> None:
    located = dict(_staging(state, index, number))
    placed = _in_sram(state, part, located)
    if isinstance(placed, GemmStep):
        _emit_gemm(state, index, number, placed)
    elif isinstance(placed, ProductStep):
        _emit_product(state, placed)
    elif isinstance(placed, VectorStep):
        parameters = state.resources.block_sram.get(index, 0)
        state.add(placed.layer, *vector_instructions(placed, parameters))
    else:
        state.add(placed.layer, _gather(state, placed))
    _store(state, part, located)


def _store(state: Emission, part: Step, located: Mapping[View, int]) -> None:
    """Write a result that lives in DRAM back from its staging area."""
    if part.writes in located:
        view, sram = part.writes, located[part.writes]
        address = state.resources.dram_address[view.buffer]
        state.add(part.layer, *move("STA", "activations_written", sram, address, view, staged_view(view)))


def _in_sram(state: Emission, part: Step, located: Mapping[View, int]) -> Step:
    """The part with every view's offset an SRAM address."""

    def place(view: View) -> View:
        if view in located:
            return replace(staged_view(view), offset=located[view])
        return replace(view, offset=state.resources.placement.address[view.buffer] + view.offset)

    if isinstance(part, GatherStep):
        return replace(part, ids=place(part.ids), out=place(part.out))
    if isinstance(part, ProductStep):
        return replace(part, a=place(part.a), b=place(part.b), out=place(part.out))
    if isinstance(part, GemmStep):
        return replace(part, a=place(part.a), out=place(part.out))
    a = part.a if part.function == "fill" else place(part.a)
    return replace(part, a=a, b=None if part.b is None else place(part.b), out=place(part.out))


def _emit_gemm(state: Emission, index: int, number: int, step: GemmStep) -> None:
    """All columns of one part: decode and compute, gemm by gemm."""
    source, plan = state.resources.weights[step.weight], state.resources.plans[index]
    last = number == len(state.resources.placement.visits[index].parts) - 1
    release = last or plan.fetch is not Fetch.ONCE
    width = source.tiling.columns
    stop = step.first_column + step.out.shape[2]
    first = step.first_column
    while first < stop:
        columns = min(width - first % width, stop - first)
        _emit_columns(state, index, step, first, columns, release)
        first += columns


def _emit_strips(state: Emission, index: int, visit: Visit) -> None:
    """Strip by strip, every part in turn; the last part releases the strip."""
    assert isinstance(visit.step, GemmStep)
    tiling = state.resources.weights[visit.step.weight].tiling
    for gemm in range(tiling.gemms):
        for strip in range(tiling.strips):
            first = strip * tiling.tile_columns
            for number, part in enumerate(visit.parts):
                placed = _in_sram(state, part, {})
                assert isinstance(placed, GemmStep)
                release = number == len(visit.parts) - 1
                at = gemm * tiling.columns + first
                _emit_columns(state, index, placed, at, tiling.strip_columns(strip), release)


def _emit_columns(state: Emission, index: int, step: GemmStep, first: int, columns: int, release: bool) -> None:
    """DEC, configuration and GEM for ``columns`` output channels from ``first`` on, all of one gemm."""
    source = state.resources.weights[step.weight]
    tiling, rows = source.tiling, step.out.shape[0] * step.out.shape[1]
    channels = step.a.shape[2] // step.groups * (1 if tiling.gemms > 1 else step.groups)
    gemm = first // tiling.columns
    a = narrow(step.a, 2, gemm * channels, (gemm + 1) * channels)
    at = first - step.first_column
    out = narrow(step.out, 2, at, at + columns)
    chunk = min(rows, state.resources.machine.accumulator_rows, BY_MNEMONIC["GEM"].field("chunk").limit - 1)
    state.add(step.layer, _dec(state, index, source, columns, -(-rows // chunk), release))
    window = replace(step.window, channel_major=tiling.vector_axis == "in" and step.window.kernel != (1, 1))
    state.add(step.layer, Instruction("GMC", window_fields(window, a, step.out.shape[1])))
    state.add(step.layer, _gmo(state, index, step, source, first, out))
    values = {"a": a.offset, "out": out.offset, "rows": rows, "columns": columns, "chunk": chunk}
    state.add(step.layer, Instruction("GEM", values | {"groups_per_tile": tiling.groups_per_tile}))


def _dec(state: Emission, index: int, source: WeightSource, columns: int, passes: int, release: bool) -> Instruction:
    tiling, codec = source.tiling, source.layer.codec
    return Instruction(
        "DEC",
        {
            "code_bits": tiling.layout.code_bits,
            "vector_length": tiling.layout.vector_length,
            "signed": int(tiling.layout.has_signs),
            "axis_in": int(tiling.vector_axis == "in"),
            "codebook": int(codec.codebook_entries > 0),
            "bank": state.bank_of[index] if codec.codebook_entries else 0,
            "rows": tiling.rows,
            "columns": columns,
            "tile_rows": tiling.tile_rows,
            "tile_columns": tiling.tile_columns,
            "groups_per_tile": tiling.groups_per_tile,
            "passes": passes,
            "release": int(release),
        },
    )


def _gmo(state: Emission, index: int, step: GemmStep, source: WeightSource, first: int, out: View) -> Instruction:
    """Output stage of the GEM whose first output channel is ``first``."""
    tiling, block = source.tiling, state.resources.blocks[index]
    return Instruction(
        "GMO",
        {
            "reduction": tiling.rows,
            "out_stride": pixel_stride(out),
            "parameters": state.resources.block_sram[index] + block.offsets[first],
            "tile_rows": tiling.tile_rows,
            "tile_columns": tiling.tile_columns,
            "bias": int(bool(step.bias)),
            "channel_scales": int(channel_scales(step, source.layer)),
            "activation": ACTIVATIONS.index(step.activation),
        },
    )


def _emit_product(state: Emission, step: ProductStep) -> None:
    rows, reduction = step.a.shape
    array = state.resources.machine.array
    a = reshape(step.a, (rows, 1, reduction))
    out = step.out
    assert a is not None
    _, sram, _ = state.resources.product_scales
    if step.layer not in state.product_layers:
        state.product_layers.append(step.layer)
    configuration = {
        "reduction": reduction,
        "out_stride": out.strides[0],
        "parameters": sram + PRODUCT_SCALE_BYTES * state.product_layers.index(step.layer),
        "b_stride": step.b.strides[0],
        "tile_rows": array.rows,
        "tile_columns": array.columns,
        "activation": ACTIVATIONS.index(step.activation),
    }
    chunk = min(rows, state.resources.machine.accumulator_rows, BY_MNEMONIC["GMS"].field("chunk").limit - 1)
    values = {"a": step.a.offset, "b": step.b.offset, "out": out.offset, "rows": rows, "columns": out.shape[1]}
    state.add(step.layer, Instruction("GMC", window_fields(Window(), a, 1)), Instruction("GMO", configuration))
    state.add(step.layer, Instruction("GMS", values | {"chunk": chunk, "transpose_b": int(step.transpose_b)}))


def _gather(state: Emission, step: GatherStep) -> Instruction:
    address = state.resources.dram_address[step.table]
    values = {"sram": step.out.offset, "ids": step.ids.offset, "address": address}
    return Instruction("GTH", values | {"row_bytes": step.row_bytes, "rows": step.out.shape[0]})
