"""The passes in order, and the Program they add up to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from accel.codecs.base import stored_codebook
from accel.errors import CompileError
from accel.graph import weight_name
from accel.isa import BLOCK_BYTES, encode_program
from accel.machine import Machine
from accel.packed import Packed, packed_digest
from accel.program import Layer, Port, Program, WeightStream
from accel.quantisation import Quantisation
from compiler.banks import bank_turns, used_together
from compiler.cut import Cutter
from compiler.emission import Emission, ProductBlocks, Resources, WeightSource
from compiler.emit import emit
from compiler.image import Image
from compiler.lower import lower
from compiler.observable import stored_tensors
from compiler.parameters import ParameterBlock, Parameters
from compiler.place import Placement, dram_operands, place
from compiler.plan import WeightPlan, batched_buffers, build_visits, fetch_plan, gem_columns, stays_in_ring
from compiler.quantise import check_codes, nominal
from compiler.sram import aligned
from compiler.steps import GatherStep, GemmStep, Lowered, ProductStep, Visit
from compiler.tile import Tiling, pack_stream, reduction_order, stream_digests, tile_layer
from compiler.tokens import add_tokens
from compiler.verify import verify_lowered, verify_placement, verify_program
from compiler.views import View


def build_program(packed: Packed, machine: Machine, *, batch: int, verify: bool) -> Program:
    """See ``compiler.compile_model``."""
    if not 1 <= batch <= 1024:
        raise CompileError(f"batch {batch}; allowed: 1 to 1024")
    quantisation = packed.quantisation or nominal(packed.graph, packed.parameters)
    check_codes(packed.graph, packed.parameters, quantisation)
    parameters = Parameters.of(packed, quantisation)
    lowered = lower(packed.graph, packed.parameters, quantisation)
    tilings = _tilings(packed, machine)
    visits = build_visits(lowered, batch)
    area = ParameterArea.of(visits, parameters, tilings)
    names = [layer.name for layer in lowered.layers]
    products = _product_blocks(visits, parameters, names)
    reserved = aligned(products.data.size)
    first_free = reserved + area.size_bytes
    if first_free >= machine.sram.activation_bytes:
        raise CompileError(
            f"sram.activation_bytes = {machine.sram.activation_bytes}: biases and scales of two layers alone take "
            f"{first_free} bytes; allowed: more than that"
        )
    buffers = batched_buffers(lowered.buffers, batch)
    capacity_bytes = machine.sram.activation_bytes - first_free
    cutter = Cutter(tilings, stays_in_ring(tilings, machine), machine)
    placement = _shifted(place(visits, buffers, capacity_bytes, cutter, names), first_free)
    if verify:
        verify_lowered(lowered, packed.graph)
        verify_placement(placement, machine)
    plans = _plans(placement, tilings, machine)
    image = Image()
    resources = _resources(machine, names, placement, tilings, plans, parameters, area.moved(reserved), products, image)
    emission = emit(resources)
    program = _program(packed, machine, batch, lowered, resources, emission, image)
    if verify:
        verify_program(program, packed)
    return program


def _tilings(packed: Packed, machine: Machine) -> dict[str, Tiling]:
    tilings: dict[str, Tiling] = {}
    for op in packed.graph.weight_ops():
        name = weight_name(op)
        tilings[name] = tile_layer(packed.layers[name], op.attributes.get("groups", 1), machine, name)
    return tilings


@dataclass(frozen=True, slots=True)
class ParameterArea:
    """SRAM for parameter blocks: two halves in turn, each holding the blocks fetched during one visit with weights."""

    addresses: Mapping[int, int]
    size_bytes: int

    @staticmethod
    def of(visits: Sequence[Visit], parameters: Parameters, tilings: Mapping[str, Tiling]) -> ParameterArea:
        """Assign every visit's block; a new half begins after each visit with weights."""
        offsets: dict[int, tuple[int, int]] = {}
        half = used = 0
        largest = [0, 0]
        for index, visit in enumerate(visits):
            offsets[index] = (half, used)
            used += aligned(parameters.largest_block_bytes(visit, tilings))
            largest[half] = max(largest[half], used)
            if isinstance(visit.step, GemmStep):
                half, used = 1 - half, 0
        return ParameterArea({i: half * largest[0] + at for i, (half, at) in offsets.items()}, sum(largest))

    def moved(self, base: int) -> dict[int, int]:
        """SRAM address of every visit's block when the area begins at ``base``."""
        return {index: base + at for index, at in self.addresses.items()}


def _shifted(placement: Placement, base: int) -> Placement:
    """The placement with all SRAM addresses moved behind the reserved areas."""
    return replace(
        placement,
        address={name: at + base for name, at in placement.address.items()},
        staging={i: tuple(tuple(at + base for at in area) for area in sets) for i, sets in placement.staging.items()},
        peak_bytes=placement.peak_bytes + base,
    )


def _plans(placement: Placement, tilings: Mapping[str, Tiling], machine: Machine) -> dict[int, WeightPlan]:
    plans = {}
    for index, visit in enumerate(placement.visits):
        if isinstance(visit.step, GemmStep):
            staged = any(dram_operands(part, placement.address) for part in visit.parts)
            plans[index] = fetch_plan(visit, tilings[visit.step.weight], machine, staged)
    return plans


def _product_blocks(visits: Sequence[Visit], parameters: Parameters, names: Sequence[str]) -> ProductBlocks:
    """Blocks of all layers that multiply activations, one behind the other from SRAM address 0."""
    blocks: dict[int, npt.NDArray[np.uint8]] = {}
    for step in (visit.step for visit in visits):
        if isinstance(step, ProductStep) and step.layer not in blocks:
            blocks[step.layer] = parameters.product_block(step, names[step.layer])
    ends = np.cumsum([block.size for block in blocks.values()]).tolist()
    offsets = dict(zip(blocks, [0, *ends], strict=False))
    return ProductBlocks(np.concatenate([np.zeros(0, np.uint8), *blocks.values()]), offsets)


def _resources(
    machine: Machine,
    names: Sequence[str],
    placement: Placement,
    tilings: Mapping[str, Tiling],
    plans: Mapping[int, WeightPlan],
    parameters: Parameters,
    block_sram: Mapping[int, int],
    products: ProductBlocks,
    image: Image,
) -> Resources:
    """Lay out DRAM: weight streams in the order they are used, then side data, then scratch."""
    model = parameters.model
    weights = {name: _weight_source(image, model.packed, name, tiling) for name, tiling in tilings.items()}
    blocks = _blocks(parameters, placement, tilings, plans)
    block_dram = {index: image.add(block.data) for index, block in blocks.items()}
    if products.data.size:
        products = replace(products, dram=image.add(products.data))
    buffers = placement.buffers
    address = {n: image.add(model.constant_bytes(n)) for n, b in buffers.items() if b.home == "constant"}
    scratch = [n for n, b in buffers.items() if b.home in ("input", "output") or n in placement.spilled]
    address |= _scratch(
        image, {name: buffers[name].size_bytes for name in scratch}, placement, machine, weights, address
    )
    return Resources(
        machine, names, placement, buffers, address, weights, plans, blocks, block_dram, block_sram, products, model,
        parameters.excess,
    )  # fmt: skip


def _scratch(
    image: Image,
    sizes: Mapping[str, int],
    placement: Placement,
    machine: Machine,
    weights: Mapping[str, WeightSource],
    constants: Mapping[str, int],
) -> dict[str, int]:
    """Addresses of the buffers in DRAM, each beginning in a bank far from those of what is used with it."""
    turns, peers = bank_turns(machine), used_together(placement.visits)
    known = dict(constants) | {name: source.address for name, source in weights.items()}
    address: dict[str, int] = {}
    for name, size in sizes.items():
        others = [known[peer] for peer in sorted(peers.get(name, ())) if peer in known]
        image.reserve(turns.padding(image.dram_bytes, others))
        address[name] = known[name] = image.reserve(size)
    return address


def _weight_source(image: Image, packed: Packed, name: str, tiling: Tiling) -> WeightSource:
    layer = packed.layers[name]
    order = reduction_order(packed.graph.shapes[name], layer.vector_axis)
    address = image.add(pack_stream(layer, tiling, order))
    stored = stored_codebook(layer)
    codebook = image.add(stored) if stored is not None else 0
    return WeightSource(layer, tiling, address, codebook)


def _blocks(
    parameters: Parameters, placement: Placement, tilings: Mapping[str, Tiling], plans: Mapping[int, WeightPlan]
) -> dict[int, ParameterBlock]:
    blocks = {}
    for index, visit in enumerate(placement.visits):
        step = visit.step
        firsts = gem_columns(visit, plans[index], tilings[step.weight]) if isinstance(step, GemmStep) else ()
        block = parameters.block(visit, firsts)
        if block is not None:
            blocks[index] = block
    return blocks


def _program(
    packed: Packed,
    machine: Machine,
    batch: int,
    lowered: Lowered,
    resources: Resources,
    emission: Emission,
    image: Image,
) -> Program:
    weight_of = {s.layer: s.weight for s in lowered.steps if isinstance(s, GemmStep)}
    layers = tuple(_with_codec(row, i, packed, weight_of, batch) for i, row in enumerate(lowered.layers))
    return Program(
        model=packed.graph.name,
        codec=_codecs(packed),
        source=asdict(packed.source),
        packed_digest=packed_digest(packed),
        machine=machine,
        batch=batch,
        words=encode_program(add_tokens(emission.instructions)),
        instruction_layer=np.array(emission.layers, np.int32),
        image=image.data(),
        dram_bytes=image.dram_bytes,
        layers=layers,
        streams=tuple(_streams(packed, resources, weight_of)),
        inputs=tuple(_ports(lowered.inputs, resources, batch)),
        outputs=tuple(_ports(lowered.outputs, resources, batch)),
        calibrated=resources.model.quantisation.calibrated,
        tensors=tuple(stored_tensors(lowered, resources, emission)),
        notes=tuple(_notes(resources)),
        report=_report(resources),
    )


def _with_codec(row: Layer, index: int, packed: Packed, weight_of: Mapping[int, str], batch: int) -> Layer:
    weight = weight_of.get(index)
    codec = str(packed.layers[weight].codec) if weight else ""
    return replace(row, codec=codec, macs=row.macs * batch)


def _codecs(packed: Packed) -> str:
    """The codec most weights use; ``mixed`` tells that others occur too."""
    sizes: dict[str, int] = {}
    for layer in packed.layers.values():
        sizes[str(layer.codec)] = sizes.get(str(layer.codec), 0) + math.prod(layer.shape)
    main = max(sizes, key=lambda name: (sizes[name], name), default="none")
    return main if len(sizes) <= 1 else f"{main} (mixed)"


def _streams(packed: Packed, resources: Resources, weight_of: Mapping[int, str]) -> Sequence[WeightStream]:
    layer_of = {weight: layer for layer, weight in sorted(weight_of.items(), reverse=True)}
    rows = []
    for name, source in resources.weights.items():
        tiling, encoded = source.tiling, source.layer
        order = reduction_order(packed.graph.shapes[name], encoded.vector_axis)
        for gemm, digest in enumerate(stream_digests(encoded, tiling, order)):
            rows.append(
                WeightStream(
                    layer=layer_of[name],
                    weight=name if tiling.gemms == 1 else f"{name}[{gemm}]",
                    codec=str(encoded.codec),
                    vector_axis=encoded.vector_axis,
                    address=source.address + gemm * tiling.gemm_blocks * BLOCK_BYTES,
                    blocks=tiling.gemm_blocks,
                    rows=tiling.rows,
                    columns=tiling.columns,
                    tile_rows=tiling.tile_rows,
                    tile_columns=tiling.tile_columns,
                    codebook_address=source.codebook_address,
                    codebook_bytes=encoded.codec.stored_codebook_bytes,
                    digest=digest,
                )
            )
    return rows


def _ports(views: Mapping[str, View], resources: Resources, batch: int) -> Sequence[Port]:
    ports, codes = [], resources.model.quantisation.tensors
    for name, view in views.items():
        size = resources.buffers[view.buffer].size_bytes
        address = resources.dram_address[view.buffer] + view.offset
        room = size - view.offset
        ports.append(Port(name, view.shape, view.strides, address, room, size // batch, codes.get(name)))
    return ports


def _notes(resources: Resources) -> Sequence[str]:
    placement, notes = resources.placement, []
    if placement.spilled:
        size = sum(resources.buffers[name].size_bytes for name in placement.spilled)
        notes.append(
            f"{len(placement.spilled)} activation tensors ({size} bytes) do not fit sram.activation_bytes = "
            f"{resources.machine.sram.activation_bytes} and are spilled to DRAM (`accel compile` lists them)"
        )
    reloaded = [
        placement.visits[i].step.weight  # type: ignore[union-attr]
        for i, plan in resources.plans.items()
        if plan.loads_again
    ]
    if reloaded:
        names = ", ".join(sorted(set(reloaded))[:4]) + (" …" if len(reloaded) > 4 else "")
        notes.append(
            f"{len(reloaded)} weights do not fit sram.weight_bytes = {resources.machine.sram.weight_bytes} and are "
            f"loaded again for every part of their output rows: {names}"
        )
    inexact = {name: steps for name, steps in resources.excess.items() if steps > 1}
    if inexact and resources.model.quantisation.calibrated:
        worst = max(inexact, key=lambda name: inexact[name])
        notes.append(
            f"{len(inexact)} weights have channels next to nothing beside their biases; what these add may count too "
            f"much, by {inexact[worst]:.0f} steps of the result at worst ({worst})"
        )
    if any(isinstance(visit.step, GatherStep) for visit in placement.visits):
        notes.append("embedding look-ups are charged as one DRAM row read a token")
    return notes


def _scales(quantisation: Quantisation) -> str:
    """Where scales of activations come from."""
    if not quantisation.calibrated:
        return "nominal (not calibrated): for timing only"
    return f"calibrated: {quantisation.method}, {quantisation.samples} samples"


def _report(resources: Resources) -> dict[str, object]:
    placement = resources.placement
    return {
        "activation_scales": _scales(resources.model.quantisation),
        "sram_peak_bytes": placement.peak_bytes,
        "spilled": {name: resources.buffers[name].size_bytes for name in placement.spilled},
        "reloaded_weights": sum(plan.loads_again for plan in resources.plans.values()),
        "weight_stream_bytes": sum(BLOCK_BYTES * plan.blocks for plan in resources.plans.values()),
    }
