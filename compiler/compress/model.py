"""A whole model: which codec each weight gets, every layer compressed, and what that cost."""

from __future__ import annotations

import fnmatch
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.codecs import Codec, EncodedLayer, Int8, VectorAxis, layer_bytes, padded_weights, stored_bytes
from accel.errors import CodecError, ConfigError, ModelError, listed, nearest
from accel.graph import Graph, gemm_shape, weight_name
from accel.packed import Packed, Source, model_digest, plain_parameters, weight_parameters
from compiler.compress.layer import compress_layer, relative_error
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
from compiler.quantise.trial import closest

Tensors = Mapping[str, npt.NDArray[Any]]
Keep = Sequence[tuple[str, Codec]]
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
    """A compressed model and the report of each of its layers, in the graph's order; ``warnings`` of calibration."""

    packed: Packed
    reports: tuple[LayerReport, ...]
    warnings: tuple[str, ...] = ()


def compress(
    graph: Graph,
    weights: Tensors,
    codec: Codec,
    keep: Keep = (),
    scale: ScaleMode = "channel",
    vector_axis: VectorAxis = "out",
    seed: int = 0,
    progress: Progress | None = None,
    description: Mapping[str, str] | None = None,
    calibration: Sequence[Tensors] = (),
    method: str = "minmax",
) -> Compression:
    """Compress every conv and gemm weight of ``graph``; ``weights`` holds the values of all its parameters.

    ``keep`` pairs a glob over weight or operator names with the codec such layers get instead; the last match wins.
    A layer that ``codec`` would not make smaller than int8 stays int8. ``progress`` is called with (layers done, layers
    in all, name of the next) before each layer. ``description`` goes into ``Packed.source``.

    ``calibration`` holds samples (input name to array of the graph's shape) that ``Packed.quantisation`` is found on by
    ``method`` (``minmax``, ``percentile:P``, ``mse`` or ``best``): the float model chooses the channel exponents, which
    are folded into the weights before these are coded, and the model with decoded weights sets the scales.

    Raises ``ModelError`` for missing or misshapen parameters and samples, ``CodecError`` for weights that cannot be
    coded (NaN), ``ConfigError`` for a glob that matches nothing or an unknown method.
    """
    if scale not in SCALE_MODES:
        raise ConfigError(f"scale '{scale}'; allowed: {listed(SCALE_MODES)}{nearest(scale, SCALE_MODES)}")
    candidate_methods(method)
    _check_weights(graph, weights)
    choices = codec_choices(graph, codec, keep, vector_axis)
    exponents = choose_exponents(graph, weights, calibration, progress) if calibration else {}
    folded = fold_exponents(graph, weights, exponents)
    layers: dict[str, EncodedLayer] = {}
    reports: list[LayerReport] = []
    for done, (name, (chosen, reason)) in enumerate(choices.items()):
        if progress is not None:
            progress(done, len(choices), name)
        matrix = _float32(folded[name]).reshape(gemm_shape(graph.parameters[name]))
        layers[name] = _compressed(name, matrix, chosen, scale, vector_axis, seed)
        reports.append(layer_report(name, matrix, layers[name], reason))
    parameters = {name: _parameter(name, weights[name]) for name in plain_parameters(graph)}
    source = Source(model_digest(graph, weights), dict(description or {}))
    result = Compression(Packed(graph, layers, parameters, source), tuple(reports))
    return _calibrated(result, calibration, method, exponents, progress) if calibration else result


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


def _compressed(
    name: str, matrix: npt.NDArray[np.float32], codec: Codec, scale: ScaleMode, axis: VectorAxis, seed: int
) -> EncodedLayer:
    """A layer's seed depends on its name, not on its position: leaving others out does not change it."""
    try:
        return compress_layer(matrix, codec, scale, axis, seed ^ zlib.crc32(name.encode()))
    except CodecError as error:
        raise CodecError(f"weight '{name}': {error}") from error


def layer_report(name: str, matrix: npt.NDArray[np.float32], layer: EncodedLayer, reason: str) -> LayerReport:
    """What storing ``matrix[out, reduction]`` as ``layer`` came to."""
    padding = padded_weights(layer.codec, layer.shape, layer.vector_axis)
    error = relative_error(matrix, layer)
    return LayerReport(name, layer.codec, layer.shape, error, layer_bytes(layer), padding, reason)


def codec_choices(graph: Graph, codec: Codec, keep: Keep, axis: VectorAxis) -> dict[str, tuple[Codec, str]]:
    """Codec and reason for every weight, in the graph's order."""
    aliases: dict[str, list[str]] = {name: [name] for name in weight_parameters(graph)}
    for op in graph.weight_ops():
        aliases[weight_name(op)].append(op.name)
    choices = {name: _default(codec, gemm_shape(graph.parameters[name]), axis) for name in aliases}
    for glob, kept in keep:
        matched = [name for name, known in aliases.items() if any(fnmatch.fnmatchcase(each, glob) for each in known)]
        if not matched:
            known = [each for group in aliases.values() for each in group]
            hint = (
                nearest(glob, known)
                or f"; weights are {listed(list(aliases)[:5])}{', ...' if len(aliases) > 5 else ''}"
            )
            raise ConfigError(f"keep pattern '{glob}' matches no weight{hint}")
        choices.update((name, (kept, f"kept by pattern '{glob}'")) for name in matched)
    return choices


def _default(codec: Codec, shape: tuple[int, int], axis: VectorAxis) -> tuple[Codec, str]:
    """``codec``, or int8 if its codes, signs and codebook would take no fewer bytes."""
    if isinstance(codec, Int8):
        return codec, ""
    packed, plain = (sum(stored_bytes(each, shape, axis, scales=0).values()) for each in (codec, Int8()))
    if packed < plain:
        return codec, ""
    return Int8(), f"{codec} would take {packed} bytes, int8 takes {plain}"


def _check_weights(graph: Graph, weights: Tensors) -> None:
    for name, shape in graph.parameters.items():
        if name not in weights:
            raise ModelError(f"parameter '{name}' has no values{nearest(name, weights)}")
        if tuple(weights[name].shape) != tuple(shape):
            raise ModelError(f"parameter '{name}': values of shape {tuple(weights[name].shape)}; the graph has {shape}")


def _parameter(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Floats as float32 (the compiler decides their width on the device), integers as int32."""
    if not np.issubdtype(values.dtype, np.integer):
        return _float32(values)
    limits = np.iinfo(np.int32)
    if values.size and (int(values.min()) < limits.min or int(values.max()) > limits.max):
        raise ModelError(f"parameter '{name}': integers from {values.min()} to {values.max()} do not fit into 32 bits")
    return np.asarray(values, dtype=np.int32, order="C")


def _float32(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what does not fit becomes infinite and is refused with its name
        return np.asarray(values, dtype=np.float32, order="C")
