"""A foreign checkpoint becomes a packed model: its layers on a graph, or each on its own as a matrix product."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from accel.codecs import Codec, EncodedLayer, Int8
from accel.errors import ConfigError, ModelError, listed, nearest
from accel.graph import Graph, GraphBuilder, gemm_shape
from accel.packed import Packed, Source, model_digest, plain_parameters, weight_parameters
from compiler.frontend import LoadedModel
from compiler.frontend.architectures.base import NEVER_NEEDED, STATISTICS, Blueprint
from compiler.frontend.weights import assign, random_weights, refuse_names
from compiler.importers.columns import (
    ColumnOperators,
    Layers,
    column_parameters,
    encode_normed,
    expressible,
    offset_name,
    with_column_operators,
)
from compiler.importers.encode import ImportReport, encode, encode_dense
from compiler.importers.foreign import Checkpoint, ForeignLayer, Matrix

Missing = Literal["error", "random", "model"]
MISSING: tuple[Missing, ...] = ("error", "random", "model")
"""What to do about parameters that the checkpoint lacks: refuse, draw them at random, take the model's own."""

BARE_NAME = "layers"
EXPORTED_SUFFIX = re.compile(r"(_palettized|_quantized|_cast|_to|_fp16|_fp32|_\d+)+$")
"""What coremltools appends to the names of constants."""
SURELY_EXPORTED = re.compile(r"((_to_fp\d\d|_cast_fp\d\d|_palettized|_quantized)(_\d+)*)+$")
"""The same, where no model says whether a number or a word at the end is the name's own."""

Progress = Callable[[int, int, str], None]
Tensors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Options:
    """How to treat what does not map one to one; ``seed`` is that of ``missing='random'``."""

    inexact: Codec | None = None
    dense: Codec = Int8()  # noqa: RUF009  # immutable
    missing: Missing = "error"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.missing not in MISSING:
            raise ConfigError(f"missing '{self.missing}'; allowed: {listed(MISSING)}{nearest(self.missing, MISSING)}")


@dataclass(frozen=True, slots=True)
class Imported:
    """The packed model, a report for each of its weights, and ``notes`` on what did not come from the checkpoint."""

    packed: Packed
    reports: tuple[ImportReport, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Mapped:
    """Values of all parameters of a graph, and which weights are foreign layers times gains of their channels."""

    graph: Graph
    values: Tensors
    layers: Layers
    notes: tuple[str, ...]


def import_bare(
    checkpoint: Checkpoint, options: Options, facts: Mapping[str, str], progress: Progress | None = None
) -> Imported:
    """Without a graph: every layer is a matrix product of its own with one row of input. Its bias comes along."""
    builder = GraphBuilder(BARE_NAME)
    outputs, biases, used = [], {}, set()
    checkpoint = _without_suffixes(checkpoint) if checkpoint.flat_names else checkpoint
    for name, layer in checkpoint.layers.items():
        out, reduction = layer.matrix_shape
        operands = [builder.input(f"{name}:in", (1, reduction)), builder.parameter(name, (out, reduction))]
        bias = checkpoint.tensors.get(checkpoint.bias_name(name))
        if bias is not None and bias.shape == (out,):
            used.add(checkpoint.bias_name(name))
            biases[f"{name}:bias"] = bias.astype(np.float32)
            operands.append(builder.parameter(f"{name}:bias", (out,)))
        outputs.append(builder.op("gemm", *operands, name=name))
    unused = len(checkpoint.tensors) - len(used)
    note = (f"no graph: {unused} uncompressed tensors left out (--arch MODEL maps them)",) if unused else ()
    values = biases | {name: layer.values() for name, layer in checkpoint.layers.items()}
    layers = {name: (layer, np.ones(1, np.float32)) for name, layer in checkpoint.layers.items()}
    return _packed(_Mapped(builder.build(*outputs), values, layers, note), options, facts, progress)


def import_onto_architecture(
    checkpoint: Checkpoint,
    blueprint: Blueprint,
    options: Options,
    where: str,
    facts: Mapping[str, str],
    progress: Progress | None = None,
) -> Imported:
    """Onto a built-in architecture: names, shapes and batch-normalisation folding are the architecture's.

    Raises ``ModelError`` naming parameters that are missing (unless ``options`` say otherwise), unknown or misshapen.
    """
    wanted = dict(blueprint.tensors)
    layers, tensors = _named(checkpoint, tuple(wanted))
    if checkpoint.folded_norms:
        tensors |= _statistics(wanted, tensors)
    tensors |= {name: _shaped(layer, wanted.get(name)) for name, layer in layers.items()}
    missing = [name for name in wanted if name not in tensors]
    if missing and options.missing == "model":
        raise ConfigError(
            f"--missing model: '{blueprint.graph.name}' is an architecture without weights; allowed: random"
        )
    if missing and options.missing == "random":
        tensors |= {name: _stand_in(name, wanted[name], options.seed) for name in missing}
    values = assign(blueprint, tensors, where)
    found = {name: (layer, _gains(blueprint, name, layer, tensors, values[name])) for name, layer in layers.items()}
    notes = _missing_notes(missing, f"drawn at random (seed {options.seed})")
    return _packed(_Mapped(blueprint.graph, values, found, notes), options, facts, progress)


def import_onto_model(
    checkpoint: Checkpoint,
    model: LoadedModel,
    options: Options,
    where: str,
    facts: Mapping[str, str],
    progress: Progress | None = None,
) -> Imported:
    """Onto the graph of a model file, by the names of its parameters; raises ``ModelError`` as for architectures."""
    shapes = model.graph.parameters
    layers, tensors = _named(checkpoint, tuple(shapes))
    tensors |= {name: _shaped(layer, shapes.get(name)) for name, layer in layers.items()}
    known = {name for name in tensors if not any(fnmatchcase(name, pattern) for pattern in NEVER_NEEDED)}
    refuse_names(sorted(known - shapes.keys()), f"{where}: tensors that '{model.source['spec']}' has no parameter for")
    missing = [name for name in shapes if name not in tensors]
    if options.missing == "error":
        refuse_names(missing, f"{where}: parameters of '{model.source['spec']}' that are missing")
    drawn = random_weights(model.graph, options.seed) if options.missing == "random" else model.weights
    values = {name: tensors.get(name, drawn[name]) for name in shapes}
    refuse_names(
        [f"{name} {list(values[name].shape)} instead of {list(shapes[name])}" for name in shapes
         if values[name].shape != tuple(shapes[name])],
        f"{where}: parameters with the wrong shape",
    )  # fmt: skip
    found = {name: (layer, np.ones(1, np.float32)) for name, layer in layers.items()}
    origin = f"drawn at random (seed {options.seed})" if options.missing == "random" else "those of the model"
    return _packed(_Mapped(model.graph, values, found, _missing_notes(missing, origin)), options, facts, progress)


def _packed(mapped: _Mapped, options: Options, facts: Mapping[str, str], progress: Progress | None) -> Imported:
    stray = sorted(mapped.layers.keys() - set(weight_parameters(mapped.graph)))
    refuse_names(stray, f"compressed tensors that '{mapped.graph.name}' does not multiply by")
    mapped = _with_columns(mapped)
    graph, parts = mapped.graph, {offset_name(name) for name in mapped.layers}
    weights = [name for name in weight_parameters(graph) if name not in parts]
    encoded: dict[str, EncodedLayer] = {}
    reports = []
    for done, name in enumerate(weights):
        if progress is not None:
            progress(done, len(weights), name)
        found, row = _encoded(name, mapped, options)
        encoded |= found
        reports.append(row)
    parameters = {name: np.asarray(mapped.values[name], np.float32) for name in plain_parameters(graph)}
    source = Source(model_digest(graph, mapped.values), dict(facts))
    return Imported(Packed(graph, encoded, parameters, source), tuple(reports), mapped.notes)


def _with_columns(mapped: _Mapped) -> _Mapped:
    """Norms of input columns as operators; their weights are then what is decoded, without norm."""
    layers = expressible(mapped.graph, mapped.layers)
    columns = {name: ColumnOperators.of(layer) for name, (layer, _) in layers.items() if layer.norm is not None}
    if not columns:
        return replace(mapped, layers=layers)
    bare = {name: replace(layers[name][0], norm=None).values().reshape(mapped.values[name].shape) for name in columns}
    note = f"operators were added to the graph for scales or offsets of input columns; layers: {len(columns)}"
    values = {**mapped.values, **bare, **column_parameters(columns)}
    return _Mapped(with_column_operators(mapped.graph, columns), values, layers, (*mapped.notes, note))


def _encoded(name: str, mapped: _Mapped, options: Options) -> tuple[dict[str, EncodedLayer], ImportReport]:
    """The weights that one becomes, by name, and its report."""
    layer, gains = mapped.layers.get(name, (None, np.ones(1, np.float32)))
    if layer is not None and layer.norm is not None:
        return encode_normed(name, layer)
    if layer is not None:
        encoded, row = encode(name, layer, gains, options.inexact)
    else:
        matrix = np.asarray(mapped.values[name], np.float32).reshape(gemm_shape(mapped.graph.parameters[name]))
        encoded, row = encode_dense(name, matrix, options.dense)
    return {name: encoded}, row


def _gains(blueprint: Blueprint, name: str, layer: ForeignLayer, tensors: Tensors, value: npt.NDArray[Any]) -> Matrix:
    """What folding multiplies the channels of a weight by: found by folding ones, and checked on the weight."""
    rule = blueprint.derived.get(name)
    if rule is None:
        return np.ones(1, np.float32)
    ones = {**tensors, name: np.ones(blueprint.tensors[name], np.float32)}
    gains = np.asarray(rule(ones), np.float32).reshape(len(value), -1)[:, 0]
    if not np.array_equal(layer.values() * gains[:, None], value.reshape(len(value), -1)):
        raise ModelError(f"layer '{name}': '{blueprint.graph.name}' changes it by more than a gain a channel")
    return gains


def _named(checkpoint: Checkpoint, wanted: tuple[str, ...]) -> tuple[dict[str, ForeignLayer], dict[str, Any]]:
    """Layers and tensors under the graph's names."""
    if not checkpoint.flat_names:
        return dict(checkpoint.layers), dict(checkpoint.tensors)
    flat = {re.sub(r"\W", "_", name): name for name in wanted}
    if len(flat) != len(wanted):
        raise ModelError(
            "two parameters of the model have the same name but for dots; Core ML names cannot tell them apart"
        )
    full = _full_names((*checkpoint.layers, *checkpoint.tensors), flat)
    layers = {full[name]: layer for name, layer in checkpoint.layers.items()}
    return layers, {full[name]: array for name, array in checkpoint.tensors.items()}


def _without_suffixes(checkpoint: Checkpoint) -> Checkpoint:
    """Under the names from before the export, where that does not make two names one."""
    names = (*checkpoint.layers, *checkpoint.tensors)
    short = {name: SURELY_EXPORTED.sub("", name) for name in names}
    taken = Counter(short.values())
    own = {name: each if each and taken[each] == 1 else name for name, each in short.items()}
    layers = {own[name]: layer for name, layer in checkpoint.layers.items()}
    tensors = {own[name]: array for name, array in checkpoint.tensors.items()}
    biases = {own[weight]: own[bias] for weight, bias in checkpoint.biases.items()}
    return replace(checkpoint, layers=layers, tensors=tensors, biases=biases)


def _full_names(names: tuple[str, ...], flat: Mapping[str, str]) -> dict[str, str]:
    full = {name: flat.get(name) or flat.get(EXPORTED_SUFFIX.sub("", name), name) for name in names}
    twice = sorted(name for name, target in full.items() if list(full.values()).count(target) > 1)
    if twice:
        raise ModelError(f"tensors {listed(twice[:2])} both stand for '{full[twice[0]]}'")
    return full


def _shaped(layer: ForeignLayer, shape: tuple[int, ...] | None) -> Matrix:
    """Its values, in the shape of the model's parameter where only the kernel was unknown."""
    values = layer.values()
    if shape is not None and gemm_shape(shape) == layer.matrix_shape and len(layer.shape) in (2, len(shape)):
        return values.reshape(shape)
    return values.reshape(layer.shape)


def _statistics(wanted: Mapping[str, tuple[int, ...]], tensors: Tensors) -> dict[str, Matrix]:
    """Mean 0 and variance 1 of batch normalisations that are stored without."""
    mean, variance = STATISTICS
    absent = [name for name in wanted if name.endswith(STATISTICS) and name not in tensors]
    whole = [name for name in absent if name.removesuffix(mean).removesuffix(variance) + ".weight" in tensors]
    return {name: np.full(wanted[name], float(name.endswith(variance)), np.float32) for name in whole}


def _stand_in(name: str, shape: tuple[int, ...], seed: int) -> Matrix:
    """A reproducible tensor: vectors are 1 (gains, variances) or 0, everything else Gaussian of variance 1/fan-in."""
    if len(shape) == 1:
        return np.full(shape, float(name.endswith((".weight", STATISTICS[1]))), np.float32)
    stream = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return stream.standard_normal(shape, np.float32) * np.float32(np.prod(shape[1:]) ** -0.5)


def _missing_notes(missing: list[str], origin: str) -> tuple[str, ...]:
    if not missing:
        return ()
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return (f"{len(missing)} parameters are not in the checkpoint, but {origin}: {listed(missing[:3])}{more}",)
