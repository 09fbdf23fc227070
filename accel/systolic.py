"""Systolic arrays by closed form: dataflows, array models, and the folds and cycles of one GEMM.

A GEMM ``out[m, n] = in[m, k] x weights[k, n]`` meets an array of R rows and C columns. The dataflow lays one of m, k, n
along the rows and one along the columns, R and C at a time, and streams the third. A *fold* is the time the array holds
one tile of the operand that stands still. The model says what a fold costs and whether folds overlap. Weights count as
decoded and at hand: what memory and decoder add is the simulator's business, and ``sim.array`` follows the same table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from accel.errors import ConfigError, listed, nearest

Dimension = Literal["m", "k", "n"]
NEVER_CUT = 1 << 20  # output rows at a time where nothing on the array limits them: more than an instruction can name


@dataclass(frozen=True, slots=True)
class Dataflow:
    """Where each dimension goes. ``preloads``: an operand is loaded into the array before the others stream."""

    name: str
    rows: Dimension
    columns: Dimension
    streamed: Dimension
    preloads: bool
    doc: str


DATAFLOWS: Mapping[str, Dataflow] = MappingProxyType(
    {
        row.name: row
        for row in (
            Dataflow("ws", "k", "n", "m", True, "weight stationary: rows of activations stream through a weight tile"),
            Dataflow("os", "m", "n", "k", False, "output stationary: sums stay, activations and weights stream"),
            Dataflow("is", "k", "m", "n", True, "input stationary: weights stream through a tile of activations"),
        )
    }
)


@dataclass(frozen=True, slots=True)
class ArrayModel:
    """How folds follow one another on an array.

    ``overlapped``: the next tile loads and streams while the last one's results still leave. Otherwise a fold takes its
    preload, the length of the stream, the rows and columns of skew, and ``overhead_cycles``, and the next one waits.
    ``edge``: whether tiles at the edge of a matrix cost what they use (``clipped``) or a ``full`` array.
    """

    name: str
    dataflows: tuple[str, ...]
    overlapped: bool
    edge: Literal["clipped", "full"]
    overhead_cycles: int
    doc: str


# SCALE-Sim: Samajdar et al., ISPASS 2020, and the cycles version 3.0.0 reports (it prints the index of the last cycle,
# one less than their number). STONNE: Muñoz-Martínez et al., IISWC 2021, its TPU_OS_DENSE configuration.
ARRAY_MODELS: Mapping[str, ArrayModel] = MappingProxyType(
    {
        row.name: row
        for row in (
            ArrayModel("pipelined", ("ws", "os", "is"), True, "clipped", 0, "ours: tiles are double-buffered"),
            ArrayModel("scalesim", ("ws", "os", "is"), False, "full", -2, "SCALE-Sim 3: folds one after another"),
            ArrayModel("stonne", ("os",), False, "clipped", 3, "STONNE, TPU_OS_DENSE: folds one after another"),
        )
    }
)


def array_model(name: str, dataflow: str) -> ArrayModel:
    """The model called ``name``; raises ``ConfigError`` if there is none or it does not know the dataflow."""
    if dataflow not in DATAFLOWS:
        raise ConfigError(f"machine key array.dataflow = {dataflow!r}; allowed: {listed(DATAFLOWS)}")
    if name not in ARRAY_MODELS:
        allowed = f"{listed(ARRAY_MODELS)}{nearest(name, ARRAY_MODELS)}"
        raise ConfigError(f"machine key array.model = {name!r}; allowed: {allowed}")
    model = ARRAY_MODELS[name]
    if dataflow not in model.dataflows:
        raise ConfigError(
            f"machine key array.dataflow = {dataflow!r}; allowed with array.model = {name!r}: {listed(model.dataflows)}"
        )
    return model


@dataclass(frozen=True, slots=True)
class ArrayShape:
    """An array of ``rows`` x ``columns`` multipliers as one model and dataflow use it.

    ``accumulator_rows``: output rows the accumulators beside it hold. Raises ``ConfigError`` for a dataflow the model
    does not know.
    """

    rows: int
    columns: int
    dataflow: str
    model: str
    accumulator_rows: int = NEVER_CUT

    def __post_init__(self) -> None:
        array_model(self.model, self.dataflow)

    @property
    def chunk_rows(self) -> int:
        """The most output rows that one pass over a weight tile covers.

        Outputs (``os``) and inputs (``is``) that stand still must fit the array; sums that leave it before they are
        complete (``ws``, ``is``) must fit the accumulators, which other simulators take to be as large as it needs.
        """
        flow, overlapped = DATAFLOWS[self.dataflow], ARRAY_MODELS[self.model].overlapped
        held = {flow.rows: self.rows, flow.columns: self.columns}.get("m", NEVER_CUT)
        return min(held, self.accumulator_rows) if overlapped and flow.streamed != "k" else held


@dataclass(frozen=True, slots=True)
class GemmShape:
    """``out[m, n] = in[m, k] x weights[k, n]``; every size is at least 1."""

    m: int
    k: int
    n: int

    def __post_init__(self) -> None:
        if min(self.m, self.k, self.n) < 1:
            raise ConfigError(f"GEMM of {self.m}x{self.k}x{self.n}; allowed: sizes of at least 1")

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.m * self.k * self.n

    def size(self, dimension: Dimension) -> int:
        """The size called ``dimension``."""
        return {"m": self.m, "k": self.k, "n": self.n}[dimension]


@dataclass(frozen=True, slots=True)
class ArrayCost:
    """``cycles`` from the first operand that enters the array to the last result that has left it."""

    folds: int
    cycles: int


def gemm_cost(gemm: GemmShape, array: ArrayShape) -> ArrayCost:
    """Folds and cycles of one GEMM on an array whose memories and decoder never make it wait."""
    if not ARRAY_MODELS[array.model].overlapped:
        return _serial_cost(gemm, array)
    return _output_stationary_cost(gemm, array) if array.dataflow == "os" else _pipelined_cost(gemm, array)


def _pieces(size: int, step: int) -> Iterator[tuple[int, int]]:
    """``(extent, count)`` of the pieces ``size`` is cut into: full ones, then a ragged one, if there are any."""
    full, rest = divmod(size, step)
    if full:
        yield step, full
    if rest:
        yield rest, 1


def _count(size: int, step: int) -> int:
    return -(-size // step)


def _serial_cost(gemm: GemmShape, array: ArrayShape) -> ArrayCost:
    """Folds one after another, each of its preload, stream, skew and overhead."""
    flow, model = DATAFLOWS[array.dataflow], ARRAY_MODELS[array.model]
    preload, stream = flow.preloads * array.rows, gemm.size(flow.streamed)
    folds = cycles = 0
    for rows, down in _pieces(gemm.size(flow.rows), array.rows):
        for columns, across in _pieces(gemm.size(flow.columns), array.columns):
            skew = array.rows + array.columns if model.edge == "full" else rows + columns
            folds += down * across
            cycles += down * across * (preload + stream + skew + model.overhead_cycles)
    return ArrayCost(folds, cycles)


def _pipelined_cost(gemm: GemmShape, array: ArrayShape) -> ArrayCost:
    """Weight or input stationary: a tile starts to stream when its predecessor has streamed and it is loaded itself.

    It loads, a row a cycle, from the moment its predecessor starts to stream: so starts lie max(stream of one, load of
    the next) apart. Before them stands the first load, behind them the last stream and the skew.
    """
    depths = list(_pieces(gemm.k, array.rows))
    first, stream = depths[0][0], 0
    cycles = 0
    for width, strips in _pieces(gemm.n, array.columns):
        for rows, chunks in _pieces(gemm.m, array.chunk_rows):
            stream = rows if array.dataflow == "ws" else width
            cycles += strips * chunks * sum(max(stream, depth) * count for depth, count in depths)
    cycles += first - max(stream, first) + stream
    folds = _count(gemm.n, array.columns) * _count(gemm.m, array.chunk_rows) * _count(gemm.k, array.rows)
    return ArrayCost(folds, cycles + _skew(gemm, array))


def _output_stationary_cost(gemm: GemmShape, array: ArrayShape) -> ArrayCost:
    """Output stationary: pieces of the reduction, staged as tiles are, stream into one output tile after another.

    A tile's pieces take as long as full ones do: behind a ragged last piece the next tile's first still loads. A tile's
    last piece also waits until the results before it have left the array, a row a cycle.
    """
    pieces, first = _count(gemm.k, array.rows), min(gemm.k, array.rows)
    last, step, cycles = gemm.k - (pieces - 1) * array.rows, 0, 0
    for _width, strips in _pieces(gemm.n, array.columns):
        for rows, chunks in _pieces(gemm.m, array.chunk_rows):
            step = max(pieces * first, rows)
            cycles += strips * chunks * step
    cycles += pieces * first - step + last
    return ArrayCost(_count(gemm.n, array.columns) * _count(gemm.m, array.chunk_rows), cycles + _skew(gemm, array))


def _skew(gemm: GemmShape, array: ArrayShape) -> int:
    """Cycles from the last operand that enters the array to the last result that leaves it."""
    flow = DATAFLOWS[array.dataflow]
    rows, columns = min(gemm.size(flow.rows), array.rows), min(gemm.size(flow.columns), array.columns)
    return rows + (min(columns, array.chunk_rows) if flow.columns == "m" else columns)
