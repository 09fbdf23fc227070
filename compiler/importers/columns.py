"""Scales and offsets of input columns, which no codec of ours holds, as operators around a layer's product.

``W = Wq * s + b`` gives ``W x = Wq (s * x) + 1 (b . x)``: a ``mul`` before the product and, unless b is all zero, a
product with b as its one row, added to every output channel. s stays in floating point in the file. Weights of products
are always coded, so b is rounded to int8, with one step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from accel.codecs import EncodedLayer, Int8, layer_bytes
from accel.graph import Graph, Op, weight_name
from compiler.compress import relative_error
from compiler.frontend.weights import refuse_names
from compiler.importers.encode import ImportReport, coded_anew, remark, rounded, unfit
from compiler.importers.foreign import ColumnNorm, ForeignLayer, Matrix

Layers = Mapping[str, tuple[ForeignLayer, Matrix]]
"""Foreign layers by weight, and what their output channels are multiplied by."""

REMARK = "{} of its input columns: operators of the graph"


def scale_name(weight: str) -> str:
    """The parameter that holds the columns' scales, float32 ``[in]``."""
    return f"{weight}:column_scale"


def offset_name(weight: str) -> str:
    """The weight that holds the columns' offsets, ``[1, in]``."""
    return f"{weight}:column_offset"


def expressible(graph: Graph, layers: Layers) -> dict[str, tuple[ForeignLayer, Matrix]]:
    """``layers``, those of them dense whose norm cannot become operators of ``graph``, with the obstacle in words."""
    readers = graph.consumers()
    return {name: (_settled(name, *layers[name], readers[name]), layers[name][1]) for name in layers}


def _settled(name: str, layer: ForeignLayer, gains: Matrix, readers: list[Op]) -> ForeignLayer:
    if layer.norm is None:
        return layer
    reason = unfit(layer) or _misplaced(name, gains, readers)
    return ForeignLayer(layer.form, layer.shape, dense=layer.values(), obstacle=reason) if reason else layer


def _misplaced(name: str, gains: Matrix, readers: list[Op]) -> str:
    for op in readers:
        if op.kind != "gemm" or weight_name(op) != name or name in op.inputs[2:]:
            return f"it has scales or offsets of input columns, and node '{op.name}' ({op.kind}) is no matrix product"
    if (gains != 1).any():
        return "it has scales or offsets of input columns, and a normalisation is to be folded into it"
    return ""


def with_column_operators(graph: Graph, norms: Mapping[str, ColumnNorm]) -> Graph:
    """``graph`` with the operators of ``norms`` (by weight) around every product with such a weight.

    Products keep their names, tensors that existed keep their names and meaning. Raises ``ModelError`` if the graph has
    tensors by the names of the parameters added.
    """
    added = {name: values.shape for name, values in column_parameters(norms).items()}
    refuse_names(sorted(added.keys() & graph.shapes.keys()), f"'{graph.name}' already has tensors of these names")
    ops = (each for op in graph.ops for each in _operators(op, norms))
    return Graph(graph.name, graph.inputs, {**graph.parameters, **added}, tuple(ops), graph.outputs)


def column_parameters(norms: Mapping[str, ColumnNorm]) -> dict[str, Matrix]:
    """Values of the parameters that ``with_column_operators`` adds."""
    scales = {scale_name(weight): norm.scale for weight, norm in norms.items() if norm.has_scales}
    return scales | {offset_name(weight): norm.offset[None] for weight, norm in norms.items() if norm.has_offsets}


def _operators(op: Op, norms: Mapping[str, ColumnNorm]) -> Iterator[Op]:
    norm = norms.get(weight_name(op)) if op.kind == "gemm" else None
    if norm is None:
        yield op
        return
    x, weight, *bias = op.inputs
    offset, scaled, product = (f"{op.name}:{part}" for part in ("offset", "scaled", "product"))
    if norm.has_scales:
        yield Op(scaled, "mul", (x, scale_name(weight)), f"{scaled}:out")
    coded = f"{scaled}:out" if norm.has_scales else x
    yield Op(op.name, "gemm", (coded, weight, *bias), f"{product}:out" if norm.has_offsets else op.output)
    if norm.has_offsets:
        yield Op(offset, "gemm", (x, offset_name(weight)), f"{offset}:out")
        yield Op(f"{op.name}:sum", "add", (f"{offset}:out", f"{product}:out"), op.output)


def encode_normed(name: str, layer: ForeignLayer) -> tuple[dict[str, EncodedLayer], ImportReport]:
    """The weights that a layer with a norm becomes, by name, and its report, whose error and bytes are those of all."""
    coding, norm = layer.coding, layer.norm
    assert coding is not None and norm is not None
    exact = layer.values()
    encoded = {name: rounded(coding, layer.matrix_shape, np.ones(1, np.float32))}
    size, offset = sum(layer_bytes(encoded[name]).values()), np.zeros(1, np.float32)
    if norm.has_offsets:
        row = encoded[offset_name(name)] = coded_anew(offset_name(name), norm.offset[None], Int8())
        size, offset = size + sum(layer_bytes(row).values()), (row.codec.decode(row) * row.scale[:, None])[0]
    size += norm.scale.nbytes if norm.has_scales else 0
    error = relative_error(exact, encoded[name], lambda rows: rows * norm.scale + offset)
    note = "; ".join(filter(None, (remark(coding, encoded[name]), REMARK.format(norm.parts))))
    return encoded, ImportReport(name, layer.form, layer.matrix_shape, encoded[name].codec, error, size, note)
