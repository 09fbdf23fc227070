"""The load queue's side of emission: staged operands, parameters, codebooks and weights, and how far ahead they go.

Loads are in order and weight loads wait for room in the ring, so weights are only fetched ahead of a visit's own loads
as far as the ring can hold them without that visit having run: nothing can deadlock.
"""

from __future__ import annotations

from collections.abc import Iterator

from accel.fold import fold_fields
from accel.isa import BLOCK_BYTES, BY_MNEMONIC, Instruction
from accel.tiles import record_fields
from compiler.emission import Emission, WeightSource
from compiler.moves import contiguous, move
from compiler.place import dram_operands, staged_view
from compiler.steps import GatherStep, GemmStep
from compiler.views import View

STREAM_BLOCKS = BY_MNEMONIC["LDW"].field("blocks").limit - 1


def load_operands(state: Emission, index: int, number: int) -> None:
    """Stage the operands of one part that lie in DRAM, except what the part before left in the same place."""
    part = state.resources.placement.visits[index].parts[number]
    kept = set(staging_areas(state, index, number - 1)) if number else set()
    for view, sram in staging_areas(state, index, number):
        if view not in part.reads or (view, sram) in kept:
            continue
        home = state.resources.buffers[view.buffer].home
        kind = "parameters" if home == "constant" else "activations_read"
        address = state.resources.dram_address[view.buffer]
        state.add(part.layer, *move("LDA", kind, sram, address, view, staged_view(view)))


def staging_areas(state: Emission, index: int, number: int) -> Iterator[tuple[View, int]]:
    sets = state.resources.placement.staging.get(index)
    if sets:
        part = state.resources.placement.visits[index].parts[number]
        yield from zip(dram_operands(part, state.resources.placement.address), sets[number % len(sets)], strict=False)


def fetch_parameters(state: Emission, upto: int) -> None:
    """Parameter blocks of all visits up to ``upto``, in order."""
    for index in range(state.parameters_until, upto + 1):
        block = state.resources.blocks.get(index)
        if block is None:
            continue
        layer = state.resources.placement.visits[index].step.layer
        sram, address = state.resources.block_sram[index], state.resources.block_dram[index]
        start, stop = block.scales
        runs = (("parameters", 0, start), ("scales", start, stop), ("parameters", stop, block.size_bytes))
        for kind, begin, end in runs:
            if begin < end:
                state.add(layer, *contiguous("LDA", kind, sram + begin, address + begin, end - begin))
    state.parameters_until = max(state.parameters_until, upto + 1)


def fetch_weights(state: Emission, index: int, blocks: int, with_codebook: bool = True) -> None:
    """Codebook and weight blocks of a visit, up to ``blocks`` of them."""
    visit = state.resources.placement.visits[index]
    assert isinstance(visit.step, GemmStep)
    source, layer = state.resources.weights[visit.step.weight], visit.step.layer
    if index not in state.bank_of and with_codebook:
        _fetch_codebook(state, index, source, layer)
    done = state.fetched_blocks.get(index, 0)
    while done < blocks:
        count = min(blocks - done, STREAM_BLOCKS)
        state.add(layer, _ldw(source, source.address + done * BLOCK_BYTES, count))
        done += count
    state.fetched_blocks[index] = done


def fetch_strip(state: Emission, index: int, first_block: int, blocks: int) -> None:
    """One strip of a visit's weights for one pass; what was fetched ahead counts for the first."""
    fetch_weights(state, index, 0)
    visit = state.resources.placement.visits[index]
    assert isinstance(visit.step, GemmStep)
    source, ahead = state.resources.weights[visit.step.weight], state.fetched_blocks[index]
    state.fetched_blocks[index] = 0
    if blocks > ahead:
        address = source.address + (first_block + ahead) * BLOCK_BYTES
        state.add(visit.step.layer, _ldw(source, address, blocks - ahead))


def _fetch_codebook(state: Emission, index: int, source: WeightSource, layer: int) -> None:
    """The codebook of a visit, if its weights have one, goes into the buffers in turn."""
    codec, bank = source.layer.codec, state.codebooks % state.resources.machine.decoder.codebook_buffers
    state.bank_of[index] = bank
    if codec.codebook_entries:
        values = {"address": source.codebook_address, "bytes": codec.stored_codebook_bytes, "bank": bank}
        state.add(layer, Instruction("LDC", values | fold_fields(source.layer)))
        state.codebooks += 1


def _ldw(source: WeightSource, address: int, blocks: int) -> Instruction:
    return Instruction("LDW", {"address": address, "blocks": blocks, **record_fields(source.layer.codec)})


def fetch_ahead(state: Emission, index: int) -> None:
    """What the visits after ``index`` need, up to and including the next one with weights."""
    visits, plans = state.resources.placement.visits, state.resources.plans
    if index not in plans and state.fetched_blocks:
        return
    following = next((i for i in range(index + 1, len(visits)) if i in plans), None)
    if following is None:
        fetch_parameters(state, len(visits) - 1)
        return
    fetch_parameters(state, following)
    blocks, later = plans[following].ahead_blocks, _codebook_must_wait(state, following)
    if later or any(_loads_operands(state, i) for i in range(index + 1, following + 1)):
        blocks = min(blocks, state.resources.machine.sram.weight_bytes // BLOCK_BYTES)
    fetch_weights(state, following, blocks, with_codebook=not later)


def _codebook_must_wait(state: Emission, following: int) -> bool:
    """With a single buffer the codebook is a load of the visit's own: the visit before still reads the one in it."""
    step = state.resources.placement.visits[following].step
    assert isinstance(step, GemmStep)
    single = state.resources.machine.decoder.codebook_buffers == 1
    return single and state.resources.weights[step.weight].layer.codec.codebook_entries > 0


def _loads_operands(state: Emission, index: int) -> bool:
    """Whether a visit puts loads of its own into the queue, behind the weights fetched ahead of it."""
    placement = state.resources.placement
    return index in placement.staging or isinstance(placement.visits[index].step, GatherStep)
