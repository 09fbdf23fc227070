"""A whole model: which codec each weight gets, every layer compressed, and what that cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.codecs import Codec, EncodedLayer, VectorAxis, layer_bytes, padded_weights
from accel.errors import ConfigError, ModelError, listed, nearest
from accel.graph import Graph
from accel.packed import Packed, Source, model_digest, plain_parameters
from accel.packed_spool import Spool, SpooledLayers, SpooledParameters
from compiler.compress.budget import OUTPUT_ERROR, WEIGHT_ERROR, Budget, Spending, candidates, check_possible, spend
from compiler.compress.choices import Choice, Keep, codec_choices, kept_choices
from compiler.compress.coder import Coder, float32
from compiler.compress.layer import relative_error
from compiler.compress.moments import folded_moments, second_moments
from compiler.compress.output_error import FloatModel, WholeModel
from compiler.compress.scales import SCALE_MODES, ScaleMode
from compiler.quantise import (
    Exponents,
    calibrate_model,
    candidate_methods,
    choose_exponents,
    fold_exponents,
    packed_values,
    unfold_exponents,
)
from compiler.quantise.fold import folded_factors
from compiler.quantise.trial import closest

Tensors = Mapping[str, npt.NDArray[Any]]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What compressing one weight came to. ``reason`` is empty when it got the codec asked for the whole model.

    ``relative_error`` is that of the matrix as coded, with channel exponents in it if the model was calibrated.
    """

    name: str
    codec: Codec
    shape: tuple[int, int]
    relative_error: float
    bytes_by_kind: Mapping[str, int]
    padded_weights: int
    reason: str

    @property
    def bits_per_weight(self) -> float:
        """All stored bits, codebook and scales included, over the real weights."""
        return 8 * sum(self.bytes_by_kind.values()) / (self.shape[0] * self.shape[1])


@dataclass(frozen=True, slots=True)
class Compression:
    """A compressed model and the report of each of its layers, in the graph's order; ``warnings`` of calibration;
    how a budget was spent, if there was one."""

    packed: Packed
    reports: tuple[LayerReport, ...]
    warnings: tuple[str, ...] = ()
    spending: Spending | None = None


def compress(
    graph: Graph,
    weights: Tensors,
    codec: Codec | Budget,
    keep: Keep = (),
    scale: ScaleMode = "channel",
    vector_axis: VectorAxis = "out",
    seed: int = 0,
    progress: Progress | None = None,
    description: Mapping[str, str] | None = None,
    calibration: Sequence[Tensors] = (),
    method: str = "minmax",
    weighted: bool = False,
    spool: Spool | None = None,
) -> Compression:
    """Compress every conv and gemm weight of ``graph``; ``weights`` holds the values of all its parameters.

    ``keep`` pairs a glob over weight or operator names with the codec such layers get instead; the last match wins.
    A layer that ``codec`` would not make smaller than int8 stays int8, and a depthwise convolution does without split
    signs where a plain codebook is better in no more bytes. A ``Budget`` for ``codec`` chooses the codec of each layer
    (``compiler.compress.budget``), by the error of the outputs on ``calibration`` if there is any. ``progress`` is
    called with (layers done, layers in all, name of the next) before each layer. ``description`` goes into
    ``Packed.source``.

    ``calibration`` holds samples (input name to array of the graph's shape) that ``Packed.quantisation`` is found on by
    ``method`` (``minmax``, ``percentile:P``, ``mse`` or ``best``): the float model chooses the channel exponents, which
    are folded into the weights before these are coded, and the model with decoded weights sets the scales. With
    ``weighted`` the error of each weight counts as much as the mean square of the activations it multiplies in them.

    With a ``spool`` layers and parameters are kept there instead of in memory, and the result is good for as long as it
    is open. ``weights`` are asked for one at a time, several times over, and not kept: if they come from disk too (as
    those of ``compiler.frontend.load_model`` from a safetensors file do), memory holds one layer at a time. Only
    ``calibration`` and a ``Budget`` need the whole model.

    Raises ``ModelError`` for missing or misshapen parameters and samples, ``CodecError`` for weights that cannot be
    coded (NaN), ``ConfigError`` for a glob that matches nothing or an unknown method.
    """
    if scale not in SCALE_MODES:
        raise ConfigError(f"scale '{scale}'; allowed: {listed(SCALE_MODES)}{nearest(scale, SCALE_MODES)}")
    if weighted and not calibration:
        raise ConfigError("weighted errors need samples to calibrate on; allowed: at least 1")
    candidate_methods(method)
    _check_weights(graph, weights)
    kept_choices(graph, keep)  # refused before anything slow
    if isinstance(codec, Budget):
        check_possible(codec, graph, keep, vector_axis, scale)
    exponents = choose_exponents(graph, weights, calibration, progress) if calibration else {}
    moments = second_moments(graph, weights, calibration, progress) if weighted else {}
    folded = fold_exponents(graph, weights, exponents) if exponents else weights
    coder = Coder(graph, folded, scale, vector_axis, seed, folded_moments(graph, moments, exponents))
    layers: MutableMapping[str, EncodedLayer] = {} if spool is None else SpooledLayers(spool, graph)
    parameters: MutableMapping[str, npt.NDArray[Any]] = {} if spool is None else SpooledParameters(spool)
    spending: Spending | None = None
    if isinstance(codec, Budget):
        model = FloatModel(graph, weights, dict(folded_factors(graph, exponents)))
        spending = _spent(coder, codec, keep, model, calibration, progress)
        reports = _taken(coder, spending, layers)
    else:
        reports = _coded(coder, codec_choices(graph, codec, keep, vector_axis), layers, progress)
    for name in plain_parameters(graph):
        parameters[name] = _parameter(name, weights[name])
    source = Source(model_digest(graph, weights), dict(description or {}))
    result = Compression(Packed(graph, layers, parameters, source), tuple(reports), spending=spending)
    return _calibrated(result, calibration, method, exponents, progress) if calibration else result


def _spent(
    coder: Coder, budget: Budget, keep: Keep, model: FloatModel, samples: Sequence[Tensors], progress: Progress | None
) -> Spending:
    """By the errors of weights where there are no samples."""
    tried = candidates(coder, budget.codecs, keep, model, samples, progress)
    if not samples:
        return spend(budget, tried, WEIGHT_ERROR)
    return spend(budget, tried, OUTPUT_ERROR, WholeModel.of(model, tuple(tried), samples), progress)


def _taken(coder: Coder, spending: Spending, layers: MutableMapping[str, EncodedLayer]) -> list[LayerReport]:
    """The layers chosen, into ``layers``."""
    chosen = spending.candidates
    layers.update((name, each.layer) for name, each in chosen.items())
    return [layer_report(name, coder.matrix(name), layers[name], each.choice[1]) for name, each in chosen.items()]


def _coded(
    coder: Coder, chosen: Mapping[str, Choice], layers: MutableMapping[str, EncodedLayer], progress: Progress | None
) -> list[LayerReport]:
    """Code each weight into ``layers``."""
    reports = []
    for done, (name, choice) in enumerate(chosen.items()):
        if progress is not None:
            progress(done, len(chosen), name)
        reports.append(_one_coded(coder, name, choice, layers))
    return reports


def _one_coded(coder: Coder, name: str, choice: Choice, layers: MutableMapping[str, EncodedLayer]) -> LayerReport:
    """A function of its own so that nothing of a layer outlives it."""
    layer, reason = coder.chosen(name, choice)
    report = layer_report(name, coder.matrix(name), layer, reason)
    layers[name] = layer
    return report


def _calibrated(
    result: Compression, samples: Sequence[Tensors], method: str, exponents: Exponents, progress: Progress | None
) -> Compression:
    """With scales found on what the decoded weights compute."""
    graph = result.packed.graph
    values = unfold_exponents(graph, packed_values(result.packed), exponents)
    methods = candidate_methods(method)
    found = [calibrate_model(graph, values, samples, each, exponents, progress) for each in methods]
    scales = [each.quantisation for each in found]
    chosen = closest(result.packed, scales, values, samples) if len(scales) > 1 else scales[0]
    return replace(result, packed=replace(result.packed, quantisation=chosen), warnings=found[0].warnings)


def calibrated(
    packed: Packed, samples: Sequence[Tensors], method: str = "minmax", progress: Progress | None = None
) -> Compression:
    """``packed`` with activation scales found on ``samples`` as ``compress`` does, its layers as they are: channel
    exponents, which would be folded into them, are not used. The result has no reports. Raises ``ModelError`` and
    ``ConfigError`` as ``compress`` does."""
    return _calibrated(Compression(packed, ()), samples, method, {}, progress)


def layer_report(name: str, matrix: npt.NDArray[np.float32], layer: EncodedLayer, reason: str) -> LayerReport:
    """What storing ``matrix[out, reduction]`` as ``layer`` came to."""
    padding = padded_weights(layer.codec, layer.shape, layer.vector_axis)
    error = relative_error(matrix, layer)
    return LayerReport(name, layer.codec, layer.shape, error, layer_bytes(layer), padding, reason)


def _check_weights(graph: Graph, weights: Tensors) -> None:
    for name, shape in graph.parameters.items():
        if name not in weights:
            raise ModelError(f"parameter '{name}' has no values{nearest(name, weights)}")
        if tuple(weights[name].shape) != tuple(shape):
            raise ModelError(f"parameter '{name}': values of shape {tuple(weights[name].shape)}; the graph has {shape}")


def _parameter(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Floats as float32 (the compiler decides their width on the device), integers as int32."""
    if not np.issubdtype(values.dtype, np.integer):
        return float32(values)
    limits = np.iinfo(np.int32)
    if values.size and (int(values.min()) < limits.min or int(values.max()) > limits.max):
        raise ModelError(f"parameter '{name}': integers from {values.min()} to {values.max()} do not fit into 32 bits")
    return np.asarray(values, dtype=np.int32, order="C")
