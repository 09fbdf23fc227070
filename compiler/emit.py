"""Placed visits to instructions, in an order that lets loads run ahead.

While a visit with weights computes, the load queue fetches what follows up to and including the next visit with
weights (``compiler.fetch``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from accel.errors import CompileError, IsaError
from accel.isa import Instruction
from accel.tiles import record_fields
from compiler.emission import Emission, Resources, WeightSource
from compiler.emit_vector import pixel_stride, vector_instructions, window_fields
from compiler.fetch import fetch_ahead, fetch_parameters, fetch_strip, fetch_weights, load_operands, staging_areas
from compiler.moves import contiguous, move
from compiler.output_stage import has_bias, has_channel_words, target_code, uses_table
from compiler.place import staged_view
from compiler.plan import Fetch, chunk_rows
from compiler.scaled import ScaledModel
from compiler.steps import GatherStep, GemmStep, OutputStage, ProductStep, Step, VectorStep, Visit, Window
from compiler.tile import Tiling
from compiler.vector_numbers import vector_fields
from compiler.views import View, narrow, reshape


def emit(resources: Resources) -> Emission:
    """All instructions of a program, without tokens."""
    state = Emission(resources)
    visits = resources.placement.visits
    products = resources.products
    if products.data.size:
        first = next(v.step.layer for v in visits if isinstance(v.step, ProductStep))
        state.add(first, *contiguous("LDA", "scales", products.sram, products.dram, products.data.size))
    for index, visit in enumerate(visits):
        try:
            _emit_visit(state, index, visit)
            state.finished[visit.step.result] = index, _last_write(state)
        except IsaError as error:
            name = resources.names[visit.step.layer]
            raise CompileError(f"layer '{name}' does not fit an instruction: {error}") from error
    state.add(visits[-1].step.layer, Instruction("FIN"))
    return state


def _last_write(state: Emission) -> int:
    """Number of the last instruction that wrote a result; loads of weights for later passes may follow it."""
    writers = ("GEM", "GMS", "VEC", "GTH", "STA")
    numbers = range(len(state.instructions) - 1, -1, -1)
    return next(number for number in numbers if state.instructions[number].mnemonic in writers)


def _emit_visit(state: Emission, index: int, visit: Visit) -> None:
    load_operands(state, index, 0)
    fetch_parameters(state, index)
    plan = state.resources.plans.get(index)
    if plan is not None and plan.fetch is Fetch.STRIPS:
        fetch_weights(state, index, plan.blocks)
        fetch_ahead(state, index)
        _emit_strips(state, index, visit)
        return
    early = len(state.resources.placement.staging.get(index, ())) != 1  # one staging set: load after its last use
    by_pass = plan is not None and plan.fetch is Fetch.PASSES
    for number, part in enumerate(visit.parts):
        if plan is not None and not (by_pass and number):
            fetch_weights(state, index, plan.ahead_blocks)
        last = number + 1 == len(visit.parts)
        if early and not last:
            load_operands(state, index, number + 1)
        # Nothing that waits for the ring may come before a load: a gather, or the weights of later passes.
        loads = by_pass or isinstance(part, GatherStep)
        if last and not loads:
            fetch_ahead(state, index)
        _emit_part(state, index, number, part)
        if last and loads:
            fetch_ahead(state, index)
        if plan is not None and plan.fetch is Fetch.RELOAD:
            state.fetched_blocks[index] = 0
        if not early and not last:
            load_operands(state, index, number + 1)


def _emit_part(state: Emission, index: int, number: int, part: Step) -> None:
    located = dict(staging_areas(state, index, number))
    placed = _in_sram(state, part, located)
    if isinstance(placed, GemmStep):
        _emit_gemm(state, index, number, placed)
    elif isinstance(placed, ProductStep):
        _emit_product(state, placed)
    elif isinstance(placed, VectorStep):
        parameters = state.resources.block_sram.get(index, 0)
        fields = vector_fields(placed, state.resources.model)
        state.add(placed.layer, *vector_instructions(placed, parameters, fields))
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
    """DEC, configuration and GEM for ``columns`` output channels from ``first`` on, all of one gemm.

    Where every pass loads its strip again, all but the first load and DEC follow the GEM: they wait for it.
    """
    source, plan = state.resources.weights[step.weight], state.resources.plans[index]
    tiling, rows = source.tiling, step.out.shape[0] * step.out.shape[1]
    a = _channels_read(step, tiling, first, columns)
    at = first - step.first_column
    out = narrow(step.out, 2, at, at + columns)
    chunk = chunk_rows("GEM", rows, state.resources.machine)
    passes = -(-rows // chunk)
    loads = _strip_loads(tiling, first, columns, passes) if plan.fetch is Fetch.PASSES else []
    if loads:
        _emit_strip(state, index, source, *loads[0])
    else:
        state.add(step.layer, _dec(state, index, source, columns, passes, release))
    window = replace(step.window, channel_major=tiling.vector_axis == "in" and step.window.kernel != (1, 1))
    unsigned = int(state.resources.model.code(step.stage.operands[0]).unsigned)
    fields = window_fields(window, a, step.out.shape[1]) | {"a_unsigned": unsigned}
    state.add(step.layer, Instruction("GMC", fields))
    state.add(step.layer, _gmo(state, index, step, source, first, out))
    values = {"a": a.offset, "out": out.offset, "rows": rows, "columns": columns, "chunk": chunk}
    state.add(step.layer, Instruction("GEM", values | {"groups_per_tile": tiling.groups_per_tile}))
    for load in loads[1:]:
        _emit_strip(state, index, source, *load)


def _strip_loads(tiling: Tiling, first: int, columns: int, passes: int) -> list[tuple[int, int, int]]:
    """``(first block, blocks, columns)`` of every strip of ``columns`` channels from ``first`` on, once a pass."""
    gemm, at = divmod(first, tiling.columns)
    strips = range(at // tiling.tile_columns, -(-(at + columns) // tiling.tile_columns))
    base = gemm * tiling.gemm_blocks
    each = ((base + n * tiling.strip_blocks(0), tiling.strip_blocks(n), tiling.strip_columns(n)) for n in strips)
    return [load for load in each for _ in range(passes)]


def _emit_strip(state: Emission, index: int, source: WeightSource, block: int, blocks: int, columns: int) -> None:
    """Load one strip and decode it once."""
    fetch_strip(state, index, block, blocks)
    layer = state.resources.placement.visits[index].step.layer
    state.add(layer, _dec(state, index, source, columns, 1, release=True))


def _channels_read(step: GemmStep, tiling: Tiling, first: int, columns: int) -> View:
    """Input channels that ``columns`` output channels from ``first`` on are made of: those of their groups."""
    per_group, channels = tiling.gemms * tiling.columns // step.groups, step.a.shape[2] // step.groups
    return narrow(step.a, 2, first // per_group * channels, -(-(first + columns) // per_group) * channels)


def _dec(state: Emission, index: int, source: WeightSource, columns: int, passes: int, release: bool) -> Instruction:
    tiling, codec = source.tiling, source.layer.codec
    return Instruction(
        "DEC",
        {
            **record_fields(codec),
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
    tiling, block, model = source.tiling, state.resources.blocks[index], state.resources.model
    return Instruction(
        "GMO",
        stage_fields(step.stage, model)
        | {
            "reduction": tiling.rows,
            "out_stride": pixel_stride(out),
            "parameters": state.resources.block_sram[index] + block.offsets[first],
            "b_stride": block.table_at - block.offsets[first] if uses_table(step.stage, model) else 0,
            "tile_rows": tiling.tile_rows,
            "tile_columns": tiling.tile_columns,
            "bias": int(has_bias(step, model)),
            "channel_scales": int(has_channel_words(step, model)),
        },
    )


def stage_fields(stage: OutputStage, model: ScaledModel) -> dict[str, int]:
    """Fields of GMO that say what sums become."""
    return {
        "unsigned": int(target_code(stage, model).unsigned),
        "table": int(uses_table(stage, model)),
        "normalise": int(stage.normalised),
    }


def _emit_product(state: Emission, step: ProductStep) -> None:
    rows, reduction = step.a.shape
    array = state.resources.machine.array
    a = reshape(step.a, (rows, 1, reduction))
    out = step.out
    assert a is not None
    products, model = state.resources.products, state.resources.model
    configuration = stage_fields(step.stage, model) | {
        "reduction": reduction,
        "out_stride": out.strides[0],
        "parameters": products.sram + products.offsets[step.layer],
        "b_stride": step.b.strides[0],
        "tile_rows": array.rows,
        "tile_columns": array.columns,
    }
    chunk = chunk_rows("GMS", rows, state.resources.machine)
    values = {"a": step.a.offset, "b": step.b.offset, "out": out.offset, "rows": rows, "columns": out.shape[1]}
    window = window_fields(Window(), a, 1) | {"a_unsigned": int(model.code(step.stage.operands[0]).unsigned)}
    state.add(step.layer, Instruction("GMC", window), Instruction("GMO", configuration))
    state.add(step.layer, Instruction("GMS", values | {"chunk": chunk, "transpose_b": int(step.transpose_b)}))


def _gather(state: Emission, step: GatherStep) -> Instruction:
    address = state.resources.dram_address[step.table]
    values = {"sram": step.out.offset, "ids": step.ids.offset, "address": address}
    return Instruction("GTH", values | {"row_bytes": step.row_bytes, "rows": step.out.shape[0]})
