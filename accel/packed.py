"""The packed file ``*.vq.safetensors`` (schema ``accel.packed/1``): a graph with compressed weights and its parameters.

Tensors, for every weight parameter W of a conv or gemm: ``codes:W`` and ``signs:W`` or ``masks:W`` (U8, bit-packed LSB
first in row-major order of ``EncodedLayer``), ``codebook:W`` (I8 ``[k, d]``, of several stages ``[stages*k, d]``, or
``[k, r]`` with ``projection:W``, I8 ``[r, m]``), ``scale:W`` (F32), as far as its codec has them. Every parameter that
something else reads is ``parameter:NAME``, as given. The JSON document holds ``tool_version``, ``source`` (sha256 of
the model and a description), ``graph``, ``layers`` (codec, vector axis, shift of a projection) and, if the model has
been calibrated, ``quantisation`` (the scale of every activation).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

import accel
from accel.codecs import Codec, EncodedLayer, VectorAxis, codes_shape, parse_codec, vector_grid
from accel.codecs.bits import pack_bits, packed_bytes, unpack_bits
from accel.codecs.projection import MAX_FOLD_SHIFT, Projection
from accel.codecs.records import SideBits, unpack_side
from accel.container import Tensor, one_line, read_container, tensor_bytes, write_container
from accel.errors import AccelError, FormatError, listed, nearest
from accel.graph import OPERATORS, Graph, gemm_shape, graph_from_json, graph_to_json, weight_name
from accel.quantisation import Quantisation, check_quantisation, quantisation_from_json, quantisation_to_json

SCHEMA = "accel.packed/1"
PARAMETER_TYPES = tuple(map(np.dtype, ("float32", "float16", "int8", "int32")))
_OPTIONAL = frozenset(("quantisation",))
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the weights came from: ``sha256`` as of ``model_digest`` and free-form facts (``weights``: ``random``)."""

    sha256: str
    description: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256):
            raise FormatError(f"source digest '{self.sha256[:80]}'; expected 64 lower-case hexadecimal digits")


@dataclass(frozen=True, slots=True)
class Packed:
    """A compressed model. ``layers`` has one entry for each conv/gemm weight, ``parameters`` one for every other
    parameter; raises ``FormatError`` if any is missing, extra or of the wrong shape or type.

    ``quantisation`` holds calibrated scales, if any; channel exponents among them are folded into ``layers``."""

    graph: Graph
    layers: Mapping[str, EncodedLayer]
    parameters: Mapping[str, Tensor]
    source: Source
    tool_version: str = accel.__version__
    quantisation: Quantisation | None = None

    def __post_init__(self) -> None:
        _check_names("layer", self.layers, weight_parameters(self.graph))
        _check_names("parameter", self.parameters, plain_parameters(self.graph))
        for name, layer in self.layers.items():
            if layer.shape != gemm_shape(self.graph.parameters[name]):
                raise FormatError(f"layer '{name}': shape {layer.shape}; the graph has {self.graph.parameters[name]}")
        for name, array in self.parameters.items():
            if array.shape != self.graph.parameters[name]:
                raise FormatError(f"parameter '{name}': {array.shape}; the graph has {self.graph.parameters[name]}")
            if array.dtype not in PARAMETER_TYPES:
                allowed = listed(map(str, PARAMETER_TYPES))
                raise FormatError(f"parameter '{name}': element type {array.dtype}; allowed: {allowed}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise FormatError(f"parameter '{name}': some values are NaN or infinite")
        if self.quantisation is not None:
            if not self.quantisation.calibrated:
                raise FormatError("nominal activation scales; a packed model keeps calibrated ones or none")
            check_quantisation(self.graph, self.quantisation, self.parameters)


def weight_parameters(graph: Graph) -> tuple[str, ...]:
    """Names of the parameters that convs and gemms multiply by, in order of first use."""
    return tuple(dict.fromkeys(weight_name(op) for op in graph.weight_ops()))


def plain_parameters(graph: Graph) -> tuple[str, ...]:
    """Names of the parameters read in any other role (a tied embedding is both), in the graph's order."""
    plain = {
        tensor
        for op in graph.ops
        for position, tensor in enumerate(op.inputs)
        if position != OPERATORS[op.kind].weight_input
    }
    weights = set(weight_parameters(graph))
    return tuple(name for name in graph.parameters if name in plain or name not in weights)


def model_digest(graph: Graph, weights: Mapping[str, Tensor]) -> str:
    """sha256 of a graph and the values of its parameters: what ``Source.sha256`` records."""
    return _digest(graph_to_json(graph), weights, graph.parameters)


def packed_digest(packed: Packed | str | os.PathLike[str]) -> str:
    """sha256 of the content (graph, layers, parameters, source, scales), whatever the order of tensors in a file and
    whichever version of the tool wrote it."""
    content = packed if isinstance(packed, Packed) else read_packed(packed)
    document = _document(content)
    del document["tool_version"]
    tensors = _tensors(content)
    return _digest(document, tensors, tensors)


def write_packed(packed: Packed, path: str | os.PathLike[str], stored: Mapping[str, Tensor] | None = None) -> None:
    """Write the file atomically; raises ``FormatError`` if that is impossible. ``stored``: its tensors, if they exist
    already (``accel.packed_spool``)."""
    write_container(path, SCHEMA, _document(packed), _tensors(packed) if stored is None else stored)


def read_packed(path: str | os.PathLike[str]) -> Packed:
    """Read and check a packed file; raises ``FormatError``, one line naming the file, unless it is valid throughout."""
    document, tensors = read_container(path, SCHEMA)
    try:
        return _packed(document, dict(tensors))
    except (AccelError, ArithmeticError, LookupError) as error:  # the latter two: absurd sizes met by shape inference
        raise FormatError(f"'{os.fspath(path)}': {one_line(error)}") from error


def _document(packed: Packed) -> dict[str, Any]:
    scales = {} if packed.quantisation is None else {"quantisation": quantisation_to_json(packed.quantisation)}
    return {
        "tool_version": packed.tool_version,
        "source": {"sha256": packed.source.sha256, "description": dict(packed.source.description)},
        "graph": graph_to_json(packed.graph),
        "layers": {name: layer_row(layer) for name, layer in packed.layers.items()},
        **scales,
    }


def layer_row(layer: EncodedLayer) -> dict[str, Any]:
    """What the document says of a layer."""
    shift = {} if layer.projection is None else {"shift": layer.projection.shift}
    return {"codec": str(layer.codec), "vector_axis": layer.vector_axis, **shift}


def _tensors(packed: Packed) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {parameter_tensor(name): array for name, array in packed.parameters.items()}
    for name, layer in packed.layers.items():
        tensors.update(layer_tensors(name, layer))
    return tensors


def parameter_tensor(name: str) -> str:
    """The tensor that holds a parameter no codec touches."""
    return f"parameter:{name}"


def layer_tensors(name: str, layer: EncodedLayer) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one layer and their names, each made when its turn comes."""
    yield f"codes:{name}", pack_bits(layer.codes, layer.codec.code_bits)
    yield f"scale:{name}", layer.scale
    if layer.side is not None:
        yield _side_tensor(layer.codec, name), np.packbits(layer.side.reshape(-1), bitorder="little")
    if layer.codebook is not None:
        yield f"codebook:{name}", layer.codebook
    if layer.projection is not None:
        yield f"projection:{name}", layer.projection.matrix


def _packed(document: Mapping[str, Any], tensors: dict[str, Tensor]) -> Packed:
    quantisation = _quantisation(document)
    _check_names("entry", document, ("tool_version", "source", "graph", "layers", *_OPTIONAL & document.keys()))
    graph = graph_from_json(_object(document["graph"], "graph"))
    rows = _object(document["layers"], "layers")
    _check_names("layer", rows, weight_parameters(graph))
    layers = {name: read_layer(name, rows[name], graph, tensors) for name in weight_parameters(graph)}
    parameters = {name: _taken(tensors, parameter_tensor(name)) for name in plain_parameters(graph)}
    if tensors:
        raise FormatError(f"unexpected tensor {ascii(next(iter(tensors)))[:80]}")
    version = _text(document["tool_version"], "tool_version")
    return Packed(graph, layers, parameters, _source(document["source"]), version, quantisation)


def _quantisation(document: Mapping[str, Any]) -> Quantisation | None:
    if "quantisation" not in document:
        return None
    row = _object(document["quantisation"], "quantisation")
    _check_names("quantisation entry", row, ("method", "samples", "tensors"))
    _text(row["method"], "quantisation method")
    return quantisation_from_json(row)


def _source(row: Any) -> Source:
    _check_names("source entry", _object(row, "source"), ("sha256", "description"))
    description = _object(row["description"], "description")
    return Source(_text(row["sha256"], "sha256"), {key: _text(value, key) for key, value in description.items()})


def read_layer(name: str, row: Any, graph: Graph, tensors: dict[str, Tensor]) -> EncodedLayer:
    """One layer from its row of the document and its ``tensors``, which are taken out of there; the byte counts of all
    are checked before anything is unpacked."""
    _check_names(f"entry of layer '{name}'", _object(row, name), ("codec", "vector_axis", *{"shift"} & row.keys()))
    codec = parse_codec(_text(row["codec"], "codec"))
    folded = ("shift",) if codec.projection_shape else ()
    _check_names(f"entry of layer '{name}'", row, ("codec", "vector_axis", *folded))
    axis: VectorAxis = _axis(row["vector_axis"], name)
    shape = gemm_shape(graph.parameters[name])
    grid = codes_shape(codec, shape, axis)
    count = math.prod(grid)
    code_stream = _stream(tensors, f"codes:{name}", packed_bytes(count, codec.code_bits))
    side = _side(tensors, name, codec, vector_grid(codec, shape, axis))
    codebook = _taken(tensors, f"codebook:{name}") if codec.codebook_entries else None
    scale = _taken(tensors, f"scale:{name}")
    projection = _projection(tensors, name, row, codec)
    codes = unpack_bits(code_stream, codec.code_bits, count).reshape(grid)
    return EncodedLayer(codec, shape, axis, codes, side, codebook, scale, projection)


def _projection(tensors: dict[str, Tensor], name: str, row: Mapping[str, Any], codec: Codec) -> Projection | None:
    if not codec.projection_shape:
        return None
    shift = row["shift"]
    if type(shift) is not int:
        raise FormatError(f"layer '{name}': shift {ascii(shift)[:40]}; allowed: 0 to {MAX_FOLD_SHIFT}")
    return Projection(_taken(tensors, f"projection:{name}"), shift)


def _side_tensor(codec: Codec, name: str) -> str:
    return f"signs:{name}" if codec.has_signs else f"masks:{name}"


def _side(tensors: dict[str, Tensor], name: str, codec: Codec, grid: tuple[int, int]) -> SideBits | None:
    vectors, side_bits = math.prod(grid), codec.layout.side_bits
    if not side_bits:
        return None
    stream = _stream(tensors, _side_tensor(codec, name), packed_bytes(vectors * side_bits, 1))
    return unpack_side(stream, vectors, side_bits).reshape(*grid, side_bits)


def _stream(tensors: dict[str, Tensor], name: str, size: int) -> npt.NDArray[np.uint8]:
    stream = _taken(tensors, name)
    if stream.dtype != np.uint8 or stream.shape != (size,):
        raise FormatError(f"tensor '{name}': {stream.dtype}{list(stream.shape)}; expected uint8[{size}]")
    return stream


def _taken(tensors: dict[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise FormatError(f"tensor '{name}' is missing")
    return tensors.pop(name)


def _axis(value: Any, name: str) -> VectorAxis:
    if value == "out":
        return "out"
    if value == "in":
        return "in"
    raise FormatError(f"layer '{name}': vector axis {ascii(value)[:40]}; allowed: out, in")


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise FormatError(f"{what} is a {type(value).__name__}; expected an object")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise FormatError(f"{what} is a {type(value).__name__}; expected text")
    return value


def _check_names(kind: str, found: Mapping[str, Any], expected: tuple[str, ...]) -> None:
    for name in found.keys() - set(expected):
        raise FormatError(f"unexpected {kind} '{name[:80]}'{nearest(name[:80], expected)}")
    for name in expected:
        if name not in found:
            raise FormatError(f"{kind} '{name}' is missing")


def _digest(document: Mapping[str, Any], tensors: Mapping[str, Tensor], names: Iterable[str]) -> str:
    """Of ``names`` among ``tensors``, which are asked for one at a time and not kept."""
    digest = hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(names):
        _digest_one(digest, name, tensors[name])
    return digest.hexdigest()


def _digest_one(digest: hashlib._Hash, name: str, array: Tensor) -> None:
    """A function of its own: ``array`` is let go of before the next is asked for."""
    digest.update(f"\n{json.dumps(name)} {array.dtype.str} {list(array.shape)}\n".encode())
    digest.update(tensor_bytes(array))
