"""Scales and offsets of input columns, which no codec of ours holds, as operators around a layer's product.

``W = Wq * s + b`` gives ``W x = Wq z + 1 (r . z)`` with ``z = s * x`` and ``r = b / s``: a ``mul`` before the product
and, unless b is all zero, a product with the one row r, added to every output channel. Reading z, not x, lets z take
the place of x in memory. s stays in floating point in the file. Weights of products are always coded: r is rounded to
int8, with one step. Where that step would be coarser than the codewords' own, b and x stand in for r and z.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from accel.codecs import EncodedLayer, Int8, layer_bytes
from accel.graph import Graph, Op, weight_name
from compiler.compress import relative_error
from compiler.frontend.weights import refuse_names
from compiler.importers.encode import ImportReport, coded_anew, remark, rounded, unfit
from compiler.importers.foreign import Coding, ColumnNorm, ForeignLayer, Matrix

Layers = Mapping[str, tuple[ForeignLayer, Matrix]]
"""Foreign layers by weight, and what their output channels are multiplied by."""

REMARK = "{} of its input columns: operators of the graph"


@dataclass(frozen=True, slots=True)
class ColumnOperators:
    """Constants of the operators around one product, float32 ``[in]`` each: ``scale`` of the ``mul``, if there is one,
    ``offset`` of the other product's row, if there is one; whether that reads the scaled input."""

    scale: Matrix | None
    offset: Matrix | None
    of_scaled: bool = False

    @staticmethod
    def of(layer: ForeignLayer) -> ColumnOperators:
        """Those of a coded layer with a norm."""
        coding, norm = layer.coding, layer.norm
        assert coding is not None and norm is not None
        scale = norm.scale if norm.has_scales else None
        if not norm.has_offsets:
            return ColumnOperators(scale, None)
        relative = None if scale is None else _relative(coding, norm)
        return ColumnOperators(scale, norm.offset if relative is None else relative, relative is not None)

    def applied(self, rows: Matrix, offset: Matrix | float) -> Matrix:
        """What ``rows`` of the product's weight amount to, with ``offset`` for the other product's row."""
        if self.scale is None:
            return rows + offset
        return rows * self.scale + (offset * self.scale if self.of_scaled else offset)


def _relative(coding: Coding, norm: ColumnNorm) -> Matrix | None:
    """``b / s``, unless it exceeds all codewords in use in some column: its int8 step would be coarser than theirs."""
    if norm.offset[norm.scale == 0].any():
        return None
    with np.errstate(over="ignore"):
        relative = np.divide(norm.offset, norm.scale, out=np.zeros_like(norm.offset), where=norm.scale != 0)
    used = (words[np.unique(codes)] for words, codes in zip(coding.codebooks, coding.codes, strict=True))
    largest = max(float(np.abs(words).max()) for words in used)
    return relative if np.abs(relative).max() <= largest * np.abs(coding.scale).max() else None


def scale_name(weight: str) -> str:
    """The parameter that holds the columns' scales, float32 ``[in]``."""
    return f"{weight}:column_scale"


def offset_name(weight: str) -> str:
    """The weight that holds the columns' offsets, over their scales or as they are, ``[1, in]``."""
    return f"{weight}:column_offset"


def expressible(graph: Graph, layers: Layers) -> dict[str, tuple[ForeignLayer, Matrix]]:
    """``layers``, those of them dense whose norm cannot become operators of ``graph``, with the obstacle in words."""
    readers = graph.consumers()
    return {name: (_settled(name, *layers[name], readers[name]), layers[name][1]) for name in layers}


def _settled(name: str, layer: ForeignLayer, gains: Matrix, readers: list[Op]) -> ForeignLayer:
    if layer.norm is None:
        return layer
    reason = unfit(layer) or _misplaced(name, layer.norm.parts, gains, readers)
    return ForeignLayer(layer.form, layer.shape, dense=layer.values(), obstacle=reason) if reason else layer


def _misplaced(name: str, parts: str, gains: Matrix, readers: list[Op]) -> str:
    for op in readers:
        if op.kind != "gemm" or name in (op.inputs[0], *op.inputs[2:]):
            return f"it has {parts} of input columns, which matrix products take, not node '{op.name}' ({op.kind})"
    if (gains != 1).any():
        return f"it has {parts} of input columns, and a normalisation is to be folded into it"
    return ""


def with_column_operators(graph: Graph, columns: Mapping[str, ColumnOperators]) -> Graph:
    """``graph`` with the operators of ``columns`` (by weight) around every product with such a weight.

    Products keep their names, tensors that existed keep their names and meaning. Raises ``ModelError`` if the graph has
    tensors by the names of the parameters added.
    """
    added = {name: values.shape for name, values in column_parameters(columns).items()}
    refuse_names(sorted(added.keys() & graph.shapes.keys()), f"'{graph.name}' already has tensors of these names")
    ops = (each for op in graph.ops for each in _operators(op, columns))
    return Graph(graph.name, graph.inputs, {**graph.parameters, **added}, tuple(ops), graph.outputs)


def column_parameters(columns: Mapping[str, ColumnOperators]) -> dict[str, Matrix]:
    """Values of the parameters that ``with_column_operators`` adds."""
    scales = {scale_name(weight): each.scale for weight, each in columns.items() if each.scale is not None}
    return scales | {
        offset_name(weight): each.offset[None] for weight, each in columns.items() if each.offset is not None
    }


def _operators(op: Op, columns: Mapping[str, ColumnOperators]) -> Iterator[Op]:
    around = columns.get(weight_name(op)) if op.kind == "gemm" else None
    if around is None:
        yield op
        return
    x, weight, *bias = op.inputs
    offset, scaled, product = (f"{op.name}:{part}" for part in ("offset", "scaled", "product"))
    if around.scale is not None:
        yield Op(scaled, "mul", (x, scale_name(weight)), f"{scaled}:out")
    coded = x if around.scale is None else f"{scaled}:out"
    yield Op(op.name, "gemm", (coded, weight, *bias), op.output if around.offset is None else f"{product}:out")
    if around.offset is not None:
        yield Op(offset, "gemm", (coded if around.of_scaled else x, offset_name(weight)), f"{offset}:out")
        yield Op(f"{op.name}:sum", "add", (f"{offset}:out", f"{product}:out"), op.output)


def encode_normed(name: str, layer: ForeignLayer) -> tuple[dict[str, EncodedLayer], ImportReport]:
    """The weights that a layer with a norm becomes, by name, and its report, whose error and bytes are those of all."""
    coding, norm, around = layer.coding, layer.norm, ColumnOperators.of(layer)
    assert coding is not None and norm is not None
    encoded = {name: rounded(coding, layer.matrix_shape, np.ones(1, np.float32))}
    offset: Matrix | float = 0.0
    if around.offset is not None:
        row = encoded[offset_name(name)] = coded_anew(offset_name(name), around.offset[None], Int8())
        offset = (row.codec.decode(row) * row.scale[:, None])[0]
    size = sum(sum(layer_bytes(each).values()) for each in encoded.values())
    size += 0 if around.scale is None else around.scale.nbytes
    error = relative_error(layer.values(), encoded[name], lambda rows: around.applied(rows, offset))
    note = "; ".join(filter(None, (remark(coding, encoded[name]), REMARK.format(norm.parts))))
    return encoded, ImportReport(name, layer.form, layer.matrix_shape, encoded[name].codec, error, size, note)
