"""Front ends: everything the command line accepts as MODEL becomes a graph, its weights and where they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.errors import ModelError, listed, nearest
from accel.graph import Graph, Shape
from accel.schemas import MODEL_SUFFIXES, kind_text, schema_of

if TYPE_CHECKING:
    from compiler.frontend.architectures.base import Array

__all__ = ["LoadedModel", "ModelRow", "from_torch", "list_models", "load_model"]

ZOO_PREFIX = "zoo:"
TRAINED, RANDOM = "trained", "random"  # where weights come from, unless from a file
UNTRAINED = "shapes, no trained weights"

InputShapes = Mapping[str, Shape] | None
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to compress.

    ``source`` holds ``spec``, ``description``, ``weights`` (``trained``, ``random`` or ``from FILE``), ``sha256`` of
    the weights and, where that is known (a file does not say), ``trained`` as a boolean.
    """

    graph: Graph
    weights: Mapping[str, Array]
    source: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of ``accel models``; ``spec`` is what to write as MODEL."""

    spec: str
    trained: bool
    parameter_count: int | None
    input_shape: Shape | None
    licence: str
    description: str


def load_model(
    spec: str, *, seed: int = 0, input_shapes: InputShapes = None, progress: Progress | None = None
) -> LoadedModel:
    """Load ``path.onnx``, ``path.pt2``, ``ARCH``, ``ARCH:weights.safetensors`` or ``zoo:NAME``.

    ``ARCH`` alone gets random weights from ``seed``. ``input_shapes`` overrides shapes by input name; ``progress`` is
    told about downloads and assumed sizes. Raises ``ModelError`` for anything that is none of these or cannot be read.
    """
    if spec.startswith(ZOO_PREFIX):
        return _from_zoo(spec, input_shapes, progress)
    suffix = Path(spec).suffix
    if suffix in _FILE_READERS:
        return _from_file(spec, suffix, input_shapes, progress)
    name, colon, weights = spec.partition(":")
    if colon and not weights:
        raise ModelError(f"'{spec}': a weight file is missing after the colon")
    return _from_architecture(spec, name, weights, seed, input_shapes)


def from_torch(module: Any, example_inputs: tuple[Any, ...]) -> LoadedModel:
    """Load a live ``torch.nn.Module``, traced with ``example_inputs``; needs torch. Raises ``ModelError``."""
    from compiler.frontend.torch_import import import_torch

    graph, weights = import_torch(module, example_inputs)
    return _loaded(graph, weights, type(module).__name__, "live torch module", "from a live torch module")


def list_models() -> tuple[ModelRow, ...]:
    """Everything built in: architectures first, then the zoo's trained models."""
    return (*_architecture_rows(), *_zoo_rows())


def _architecture_rows() -> Iterator[ModelRow]:
    from compiler.frontend.architectures import ARCHITECTURES

    for row in ARCHITECTURES.values():
        description = f"{row.description} ({row.upstream})"
        yield ModelRow(row.name, False, row.parameter_count, row.input_shape, row.licence, description)


def _zoo_rows() -> Iterator[ModelRow]:
    from compiler.frontend.architectures import ARCHITECTURES
    from compiler.frontend.zoo import ZOO

    for model in ZOO.values():
        base = ARCHITECTURES.get(model.architecture or "")
        count, shape = (base.parameter_count, base.input_shape) if base else (None, None)
        yield ModelRow(ZOO_PREFIX + model.name, True, count, shape, model.licence, model.description)


def _from_zoo(spec: str, input_shapes: InputShapes, progress: Progress | None) -> LoadedModel:
    from compiler.frontend.zoo import load_zoo

    graph, weights, description = load_zoo(spec.removeprefix(ZOO_PREFIX), input_shapes, progress)
    return _loaded(graph, weights, spec, description, TRAINED)


def _from_file(spec: str, suffix: str, input_shapes: InputShapes, progress: Progress | None) -> LoadedModel:
    path = Path(spec)
    if not path.is_file():
        raise ModelError(f"{spec}: no such file")
    graph, weights = _FILE_READERS[suffix](path, input_shapes, progress)
    return _loaded(graph, weights, spec, _FILE_KINDS[suffix], f"from {path.name}")


def _read_onnx(path: Path, input_shapes: InputShapes, note: Progress | None) -> tuple[Graph, Mapping[str, Array]]:
    from compiler.frontend.onnx_import import import_onnx

    return import_onnx(path, input_shapes, note=note)


def _read_pt2(path: Path, input_shapes: InputShapes, _note: Progress | None) -> tuple[Graph, Mapping[str, Array]]:
    from compiler.frontend.torch_import import import_pt2

    if input_shapes:
        raise ModelError(f"{path}: an exported program has fixed input shapes; export it again with other ones")
    return import_pt2(path)


_FILE_READERS = dict(zip(MODEL_SUFFIXES, (_read_onnx, _read_pt2), strict=True))
_FILE_KINDS = dict(zip(MODEL_SUFFIXES, ("ONNX file", "torch.export file"), strict=True))


def _from_architecture(spec: str, name: str, file: str, seed: int, input_shapes: InputShapes) -> LoadedModel:
    from compiler.frontend.architectures import build_architecture, find_architecture
    from compiler.frontend.weights import load_weights, random_weights

    _check_known(spec, name)
    row = find_architecture(name)
    blueprint = build_architecture(name, input_shapes)
    if file:
        weights = load_weights(blueprint, Path(file))
    else:
        weights = random_weights(blueprint.graph, seed, blueprint.constants)
    origin = f"from {Path(file).name}" if file else RANDOM
    told = f"weights {origin}" if file else f"{UNTRAINED}, seed {seed}"
    return _loaded(blueprint.graph, weights, spec, f"{row.upstream}, {told}", origin)


def _check_known(spec: str, name: str) -> None:
    from compiler.frontend.architectures import ARCHITECTURES, find_architecture
    from compiler.frontend.zoo import ZOO

    try:
        find_architecture(name)
    except ModelError:
        if Path(spec).is_file():
            what = kind_text(found) if (found := schema_of(spec)) else f"suffix '{Path(spec).suffix}'"
            raise ModelError(
                f"'{spec}': {what}; MODEL is a file ({listed(_FILE_READERS)}), ARCH:weights.safetensors, or a name "
                "that accel models lists"
            ) from None
        known = [*ARCHITECTURES, *(ZOO_PREFIX + model for model in ZOO)]
        raise ModelError(
            f"unknown model '{spec}'; MODEL is a path ({', '.join(_FILE_READERS)}), or one of: {listed(known)} "
            f"(ARCH:weights.safetensors adds weights){nearest(name, known)}"
        ) from None


def _loaded(graph: Graph, weights: Mapping[str, Array], spec: str, description: str, origin: str) -> LoadedModel:
    from compiler.frontend.weights import weights_digest

    source: dict[str, Any] = {"spec": spec, "description": description, "weights": origin}
    if origin in (TRAINED, RANDOM):
        source["trained"] = origin == TRAINED
    return LoadedModel(graph, weights, source | {"sha256": weights_digest(weights)})
