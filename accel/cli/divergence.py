"""Where a program leaves the float model: every stored tensor measured, in order, and the likely cause of each loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accel.cli.difference import Difference, difference, row_difference
from accel.quantisation import deferred_softmax

if TYPE_CHECKING:
    import numpy.typing as npt

    from accel.cli.against import Reference
    from accel.graph import Graph
    from accel.program import Program
    from sim.functional import Captured

SNR_DB, DROP_DB = 20.0, 15.0  # below that, or that much below its inputs, a tensor has diverged
BEST_DB = 50.0  # what 8 bits give a full-scale signal: inputs count no better than that
_EXPLAINED_DB = 3.0  # within it, a loss is explained by something: half of the error

CAUSES: Mapping[str, str] = {
    "range": "range too small",
    "outliers": "outlier channels",
    "scale": "scale too coarse",
    "layer": "inside the layer",
    "inherited": "inherited",
    "": "",
}


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One stored tensor and its ``found`` difference. ``input_snr`` is that of the worst tensor it is computed from."""

    name: str
    layer: str
    kind: str
    instruction: int
    space: str
    bytes: int
    scale: float
    found: Difference
    worst_input: str = ""
    input_snr: float | None = None

    @property
    def drop(self) -> float | None:
        """dB lost since the worst input, which counts ``BEST_DB`` at most."""
        return None if self.input_snr is None else min(self.input_snr, BEST_DB) - self.found.snr

    @property
    def cause(self) -> str:
        """Key of ``CAUSES``: what explains most of the error; nothing if there is next to none."""
        found = self.found
        if found.snr >= BEST_DB:
            return ""
        if found.rounding_snr is not None and found.rounding_snr - found.snr < _EXPLAINED_DB:
            return "range" if found.cut_share > 0.5 else "outliers" if found.outlier else "scale"
        return "inherited" if self.drop is not None and self.drop < _EXPLAINED_DB else "layer"


@dataclass(frozen=True, slots=True)
class Divergence:
    """All ``rows`` in the order in which tensors are complete, judged by two limits; ``undivided``: tensors compared
    after their rows were divided by their sums."""

    reference: str
    weights: str
    rows: tuple[TensorRow, ...]
    snr_limit: float
    drop_limit: float
    undivided: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def diverged(self, row: TensorRow) -> bool:
        """Whether a tensor is beyond a limit."""
        return row.found.snr < self.snr_limit or (row.drop is not None and row.drop > self.drop_limit)

    @property
    def first(self) -> TensorRow | None:
        """The first tensor beyond a limit."""
        return next(filter(self.diverged, self.rows), None)

    @property
    def ranked(self) -> list[TensorRow]:
        """Largest drop first, then lowest SNR; what has no inputs comes by its own loss."""
        return sorted(self.rows, key=lambda row: (-(row.drop or 0.0), row.found.snr))


class Comparison:
    """Takes captured tensors as they come to be; each is compared at once, so that none is kept."""

    def __init__(self, program: Program, reference: Reference, expected: dict[str, npt.NDArray[Any]]) -> None:
        self.program, self.reference, self.expected = program, reference, expected
        self.undivided = undivided_tensors(reference.graph)
        self.snr: dict[str, float] = {}
        self.rows: list[TensorRow] = []

    def take_inputs(self, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
        """The first error is made where inputs are rounded."""
        from sim.functional.ports import input_codes, saturated_share

        for port in self.program.inputs:
            if port.code is not None:
                codes = input_codes(port, inputs[port.name], self.program.batch)[0]
                share = saturated_share(codes, port.code.unsigned, port.code.zero_point)
                found = difference(codes, port.code, self.expected[port.name], share)
                self._add(TensorRow(port.name, "(input)", "io", -1, "dram", codes.size, port.code.scale, found))

    def take(self, captured: Captured) -> None:
        """One tensor of the program, complete."""
        tensor, layer = captured.tensor, self.program.layers[captured.tensor.layer]
        measure = row_difference if tensor.name in self.undivided else difference
        found = measure(captured.codes, tensor.code, self.expected[tensor.name], captured.saturated)
        sources = {name: self.snr[name] for name in stored_sources(self.reference.graph, tensor.name, self.snr)}
        worst = min(sources, key=lambda name: sources[name], default="")
        where = tensor.instruction, tensor.space, captured.codes.size, tensor.code.scale
        self._add(TensorRow(tensor.name, layer.name, layer.kind, *where, found, worst, sources.get(worst)))

    def _add(self, row: TensorRow) -> None:
        self.snr[row.name] = row.found.snr
        self.rows.append(row)

    def result(self, snr_limit: float, drop_limit: float) -> Divergence:
        """Everything taken so far, judged."""
        undivided = tuple(row.name for row in self.rows if row.name in self.undivided)
        reference = self.reference
        notes = (*reference.notes, *_notes(self.program, undivided))
        return Divergence(reference.spec, reference.weights, tuple(self.rows), snr_limit, drop_limit, undivided, notes)


def _notes(program: Program, undivided: Sequence[str]) -> Iterator[str]:
    if program.batch > 1:
        yield f"the first of the {program.batch} items of the batch is compared"
    if undivided:
        yield (
            f"{len(undivided)} softmax results are stored undivided, their division left to the product that reads "
            "them; they are compared after rows were divided by their sums"
        )


def undivided_tensors(graph: Graph) -> frozenset[str]:
    """Results of softmaxes whose division is deferred, and views of them."""
    deferred = deferred_softmax(graph)[0]
    found = {op.output for op in graph.ops if op.name in deferred}
    for op in graph.ops:
        if op.kind == "reshape" and op.inputs[0] in found:
            found.add(op.output)
    return frozenset(found)


def stored_sources(graph: Graph, name: str, known: Mapping[str, Any]) -> set[str]:
    """The ``known`` tensors that ``name`` is computed from, through others that are not."""
    makers = {op.output: op for op in graph.ops}
    found: set[str] = set()
    open_names, seen = [name], {name}
    while open_names:
        op = makers.get(open_names.pop())
        for source in op.inputs if op else ():
            if source in known:
                found.add(source)
            elif source not in seen:
                seen.add(source)
                open_names.append(source)
    return found


def both(*observers: Callable[[Captured], None] | None) -> Callable[[Captured], None] | None:
    """One observer for all that are there."""
    present = [observer for observer in observers if observer]

    def observe(captured: Captured) -> None:
        for observer in present:
            observer(captured)

    return observe if present else None
