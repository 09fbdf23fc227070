"""Which tensors of the graph can be seen in a program's memories as a whole, where, and after which instruction."""

from __future__ import annotations

from collections.abc import Iterator

from accel.program import StoredTensor
from compiler.emission import Emission, Resources
from compiler.steps import Lowered


def stored_tensors(lowered: Lowered, resources: Resources, emission: Emission) -> Iterator[StoredTensor]:
    """In the order in which they are complete. Score maps, of which one head is alive at a time, are never whole."""
    placement, codes = resources.placement, resources.model.quantisation.tensors
    for name, (visit, instruction) in sorted(emission.finished.items(), key=lambda row: row[1][1]):
        view, step = lowered.tensors.get(name), placement.visits[visit].step
        if view is None:
            continue
        buffer = step.writes.buffer  # a version of the view's buffer, if that is overwritten in place
        if buffer.partition("#")[0] != view.buffer.partition("#")[0]:
            continue
        resident = buffer in placement.address
        base = placement.address[buffer] if resident else resources.dram_address[buffer]
        space = "activation" if resident else "dram"
        where = step.layer, instruction, space, base + view.offset
        yield StoredTensor(name, *where, view.shape, view.strides, codes[name])
