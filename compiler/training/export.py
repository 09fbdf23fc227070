"""Trained modules become packed models, which ``accel compile`` and ``accel run`` take."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils import parametrize

from accel.codecs import EncodedLayer
from accel.errors import ModelError, listed
from accel.graph import Graph, gemm_shape
from accel.packed import Packed, Source, model_digest, plain_parameters, weight_parameters
from compiler.compress import Compression, calibrated, layer_report
from compiler.training.graph_module import GraphModule
from compiler.training.modules import coded_weights, encoded_layers

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]

FOLD_TOLERANCE = 1e-5  # of the largest weight of a channel: float32 arithmetic of a folded norm


def export_graph(
    module: GraphModule,
    weights: Tensors,
    description: Mapping[str, str] | None = None,
    calibration: Sequence[Tensors] = (),
    method: str = "minmax",
    reasons: Mapping[str, str] = MappingProxyType({}),
) -> Compression:
    """The packed model of a compressed ``GraphModule`` and a report of each layer, its error against ``weights``, the
    float model's; ``calibration`` as for ``compiler.compress.compress`` but without channel exponents, which would
    change what was trained. ``reasons`` of weights that are in another codec than the whole model go into the reports.

    Raises ``ModelError`` for a weight without a codec (a packed model has none).
    """
    plain = {name: tensor.detach().numpy() for name, tensor in module.plain().items()}
    return _compression(module.graph, encoded_layers(module), plain, weights, description, calibration, method, reasons)


def export_module(
    module: nn.Module,
    example_inputs: Sequence[torch.Tensor],
    weights: Tensors | None = None,
    description: Mapping[str, str] | None = None,
    calibration: Sequence[Tensors] = (),
    method: str = "minmax",
) -> Compression:
    """``export_graph`` of any torch module whose layers ``compress_modules`` has compressed, traced with
    ``example_inputs``; ``weights`` (those exported, if None) are what errors are told against.

    A norm folded into a layer goes into its scales. Raises ``ModelError`` where that is impossible (a negative gain),
    and for what ``torch.export`` cannot trace.
    """
    from compiler.frontend.torch_import import import_torch

    layers = encoded_layers(module)
    graph, values = import_torch(_with_plain_weights(module), example_inputs)
    encoded = {name: _refolded(name, layers, values[name]) for name in weight_parameters(graph)}
    plain = {name: values[name] for name in plain_parameters(graph)}
    return _compression(graph, encoded, plain, weights or values, description, calibration, method)


def _compression(
    graph: Graph,
    layers: Mapping[str, EncodedLayer],
    plain: Tensors,
    weights: Tensors,
    description: Mapping[str, str] | None,
    calibration: Sequence[Tensors],
    method: str,
    reasons: Mapping[str, str] = MappingProxyType({}),
) -> Compression:
    missing = [name for name in weight_parameters(graph) if name not in layers]
    if missing:
        raise ModelError(f"weights without a codec: {listed(missing[:5])}; give them one, int8 at least")
    source = Source(model_digest(graph, weights), dict(description or {}))
    ordered = {name: layers[name] for name in weight_parameters(graph)}
    packed = Packed(graph, ordered, {name: _stored(plain[name]) for name in plain_parameters(graph)}, source)
    reports = tuple(
        layer_report(name, _matrix(weights[name]), layer, reasons.get(name, "")) for name, layer in ordered.items()
    )
    if not calibration:
        return Compression(packed, reports)
    return replace(calibrated(packed, calibration, method), reports=reports)


def _with_plain_weights(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode that holds the decoded weights themselves.

    Not by ``remove_parametrizations``: it takes the weight from the class, which the copy shares with the original.
    """
    plain = copy.deepcopy(module).eval()
    for path in {name.rpartition(".")[0] for name in coded_weights(plain)}:
        layer: Any = plain.get_submodule(path)
        weights = {name: nn.Parameter(getattr(layer, name).detach()) for name in layer.parametrizations}
        layer.__class__ = parametrize.type_before_parametrizations(layer)
        del layer.parametrizations
        for name, weight in weights.items():
            layer.register_parameter(name, weight)
    return plain


def _refolded(name: str, layers: Mapping[str, EncodedLayer], values: Array) -> EncodedLayer:
    """The layer with what a front end has multiplied its channels by in its scales."""
    if name not in layers:
        raise ModelError(
            f"weight '{name}' has no codec, which all of an exported model need: int8 at least, by compress_modules, "
            "or, if that does not reach it, in a GraphModule of the model (compiler.frontend.from_torch)"
        )
    layer, matrix = layers[name], _matrix(values)
    decoded = layer.codec.decode(layer).astype(np.float32) * layer.scale[:, None]
    if decoded.shape == matrix.shape and np.array_equal(decoded, matrix):
        return layer
    if decoded.shape != matrix.shape:
        raise ModelError(f"weight '{name}': the graph has {matrix.shape}, the compressed layer {decoded.shape}")
    power = np.square(decoded, dtype=np.float64).sum(1)
    factors = np.divide((matrix * decoded).sum(1, dtype=np.float64), power, out=np.ones(len(power)), where=power > 0)
    error = np.abs(matrix - factors[:, None] * decoded).max(1)
    if (factors < 0).any() or (error > FOLD_TOLERANCE * np.abs(matrix).max(1, initial=1e-30)).any():
        raise ModelError(
            f"weight '{name}': a norm with a negative gain, or something else, has been folded into it; fold it before "
            "compression (compiler.frontend.from_torch, then GraphModule)"
        )
    return replace(layer, scale=(layer.scale * factors).astype(np.float32))


def _matrix(values: Array) -> npt.NDArray[np.float32]:
    return np.asarray(values, np.float32).reshape(gemm_shape(values.shape))


def _stored(values: Array) -> Array:
    return np.ascontiguousarray(values, np.int32 if values.dtype.kind in "iu" else np.float32)
