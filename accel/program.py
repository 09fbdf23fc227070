"""The compiled artefact: instruction words, the DRAM image, and maps from both back to layers. Format: FORMATS.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from accel import __version__
from accel.container import read_container, write_container
from accel.errors import AccelError, FormatError, printable
from accel.isa import BLOCK_BYTES, INSTRUCTION_BYTES, ISA_VERSION, decode_program
from accel.machine import Machine, machine_from_document, machine_to_document
from accel.places import check_code, check_elements, check_unique, reach, require
from accel.quantisation import TensorScale, code_from_json

PROGRAM_SCHEMA = "accel.program/2"
INDEX_BYTES = 4  # an index of an embedding: int32
LAYER_KINDS = ("gemm", "conv", "attention", "vector", "io")


@dataclass(frozen=True, slots=True)
class Layer:
    """One row of the layer map: what the instructions that carry its index compute.

    ``rows`` x ``reduction`` x ``columns`` is the GEMM (per group for grouped convolutions, per head for attention);
    ``macs`` counts all of it; ``codec`` is a spelling or empty.
    """

    name: str
    kind: str
    macs: int = 0
    rows: int = 0
    reduction: int = 0
    columns: int = 0
    weights: int = 0
    codec: str = ""

    def __post_init__(self) -> None:
        if self.kind not in LAYER_KINDS:
            raise FormatError(f"layer '{self.name}': kind '{self.kind}'; allowed: {', '.join(LAYER_KINDS)}")


@dataclass(frozen=True, slots=True)
class WeightStream:
    """Where one weight matrix lies in DRAM and how it is cut; ``digest`` is SHA-256 of the codec's ``int8[out, red]``.

    Strips of ``tile_columns`` output channels each start on a block and hold tiles of ``tile_rows`` reduction rows.
    Within a tile, codes run row-major: for axis ``out`` each row holds ceil(columns/d) codes; for axis ``in`` each
    group of d rows holds one code a column. ``strip_bytes`` is a whole number of blocks, the last strip's included.
    """

    layer: int
    weight: str
    codec: str
    vector_axis: str
    address: int
    blocks: int
    rows: int
    columns: int
    tile_rows: int
    tile_columns: int
    codebook_address: int
    codebook_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Port:
    """A network input or output in DRAM: elements of ``shape`` (source framework's order), ``strides`` bytes apart.

    ``bytes`` is the room of all items of the batch, ``item_bytes`` that of one. ``code`` says what a byte means;
    ``None`` marks int32 indices."""

    name: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    address: int
    bytes: int
    item_bytes: int
    code: TensorScale | None


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where the tensor ``name`` of the graph lies, whole, once ``instruction`` has completed (the first item of a
    batch): in ``space``, elements of ``shape`` at ``address``, ``strides`` bytes apart."""

    name: str
    layer: int
    instruction: int
    space: str
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    code: TensorScale

    def __post_init__(self) -> None:
        if self.space not in ("activation", "dram"):
            raise FormatError(f"tensor '{self.name}': space '{self.space}'; allowed: activation, dram")
        if not isinstance(self.code, TensorScale):
            raise FormatError(f"tensor '{self.name}': code = {self.code}; allowed: an object, as of a port")


@dataclass(frozen=True, slots=True)
class Program:
    """All that a simulator, a driver or a testbench needs.

    ``words`` is ``uint8[n, 16]``, ``instruction_layer`` ``int32[n]`` (index into ``layers``), ``image`` ``uint8`` from
    DRAM address 0; ``dram_bytes`` also covers the scratch area behind it. ``notes`` are what the user should know
    (spills, padding); ``report`` holds the compiler's figures by name. Values are meaningful if ``calibrated``;
    ``tensors`` says where results of layers can be seen, in the order in which they are complete.
    """

    model: str
    codec: str
    source: Mapping[str, Any]
    packed_digest: str
    machine: Machine
    batch: int
    words: npt.NDArray[np.uint8]
    instruction_layer: npt.NDArray[np.int32]
    image: npt.NDArray[np.uint8]
    dram_bytes: int
    layers: tuple[Layer, ...]
    streams: tuple[WeightStream, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    calibrated: bool = False
    tensors: tuple[StoredTensor, ...] = ()
    notes: tuple[str, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.words)
        if self.batch < 1:
            raise FormatError(f"program: batch {self.batch}; allowed: at least 1")
        require(self.words.shape == (count, INSTRUCTION_BYTES), f"words of shape {self.words.shape}")
        require(self.instruction_layer.shape == (count,), "one layer index an instruction is needed")
        require(len(self.image) <= self.dram_bytes < 1 << 34, f"DRAM of {self.dram_bytes} bytes")
        indices = self.instruction_layer
        require(not count or 0 <= indices.min() <= indices.max() < len(self.layers), "a layer index is out of range")
        for stream in self.streams:
            end = stream.address + stream.blocks * BLOCK_BYTES
            inside = stream.address >= 0 and stream.blocks >= 0 and end <= len(self.image)
            require(inside, f"weight stream '{stream.weight}' ends at {end} outside the image")
            cut = min(stream.rows, stream.columns, stream.tile_rows, stream.tile_columns) >= 1
            require(cut and 0 <= stream.layer < len(self.layers), f"weight stream '{stream.weight}' is cut impossibly")
            end = stream.codebook_address + stream.codebook_bytes
            fits = stream.codebook_address >= 0 and stream.codebook_bytes >= 0 and end <= len(self.image)
            require(fits, f"codebook of '{stream.weight}' ends at {end} outside the image")
        self._check_ports()
        self._check_tensors()

    def _check_ports(self) -> None:
        for what, ports in (("inputs", self.inputs), ("outputs", self.outputs)):
            check_unique(what, (port.name for port in ports))
        for port in (*self.inputs, *self.outputs):
            what = f"port '{port.name}'"
            inside = port.address >= 0 and 0 <= port.bytes <= self.dram_bytes - port.address
            require(inside, f"{what} lies outside DRAM")
            end = reach(port.shape, port.strides) + (0 if port.code else INDEX_BYTES - 1)
            fits = end + (self.batch - 1) * port.item_bytes <= port.bytes and port.item_bytes >= 0
            require(fits, f"elements of {what} lie outside it")
            check_elements(what, port.shape, self.batch, self.dram_bytes)
            check_code(what, port.shape, port.code)

    def _check_tensors(self) -> None:
        check_unique("tensors", (tensor.name for tensor in self.tensors))
        limits = {"activation": self.machine.sram.activation_bytes, "dram": self.dram_bytes}
        for tensor in self.tensors:
            what, limit = f"tensor '{tensor.name}'", limits[tensor.space]
            inside = tensor.address >= 0 and tensor.address + reach(tensor.shape, tensor.strides) <= limit
            known = 0 <= tensor.instruction < len(self.words) and 0 <= tensor.layer < len(self.layers)
            require(inside and known, f"{what} lies outside its memory or program")
            check_elements(what, tensor.shape, 1, limit)
            check_code(what, tensor.shape, tensor.code)

    @property
    def digest(self) -> str:
        """SHA-256 over everything that decides behaviour."""
        parts = (self.words, self.instruction_layer, self.image)
        state = hashlib.sha256(json.dumps(_document(self), sort_keys=True).encode())
        for part in parts:
            state.update(np.ascontiguousarray(part).data)
        return state.hexdigest()


def _document(program: Program) -> dict[str, Any]:
    return {
        "isa_version": ISA_VERSION,
        "model": program.model,
        "codec": program.codec,
        "source": dict(program.source),
        "packed_digest": program.packed_digest,
        "machine": machine_to_document(program.machine),
        "batch": program.batch,
        "dram_bytes": program.dram_bytes,
        "layers": [asdict(layer) for layer in program.layers],
        "streams": [asdict(stream) for stream in program.streams],
        "inputs": [asdict(port) for port in program.inputs],
        "outputs": [asdict(port) for port in program.outputs],
        "calibrated": program.calibrated,
        "tensors": [asdict(tensor) for tensor in program.tensors],
        "notes": list(program.notes),
        "report": dict(program.report),
    }


def write_program(program: Program, path: str | Path) -> None:
    """Write atomically; raises ``FormatError`` when the disk or folder refuses."""
    names = ("words", "instruction_layer", "image")
    tensors: dict[str, npt.NDArray[Any]] = {name: getattr(program, name) for name in names}
    write_container(path, PROGRAM_SCHEMA, {"tool": __version__, **_document(program)}, tensors)


def read_program(path: str | Path) -> Program:
    """Read and check a program file; raises ``FormatError`` with one line for anything amiss."""
    document, tensors = read_container(path, PROGRAM_SCHEMA)
    try:
        program = _from_document(document, tensors)
        decode_program(program.words)
        return program
    except FormatError as error:
        raise FormatError(f"'{path}': {printable(error)}") from error
    except (AccelError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise FormatError(f"'{path}': program document: {type(error).__name__}: {printable(error)}") from error


Row = TypeVar("Row", Layer, WeightStream, Port, StoredTensor)


def _rows(cls: Callable[..., Row], rows: list[dict[str, Any]]) -> tuple[Row, ...]:
    return tuple(_row(cls, row) for row in rows)


def _row(cls: Callable[..., Row], row: dict[str, Any]) -> Row:
    try:
        return cls(**{k: _checked(k, v) for k, v in row.items()})
    except FormatError as error:
        raise FormatError(
            f"{cls.__name__.lower()} {ascii(row.get('name', row.get('weight')))[:80]}: {error}"
        ) from error


_TEXTS = ("name", "kind", "codec", "weight", "vector_axis", "digest", "space")


def _checked(key: str, value: Any) -> Any:
    if key == "code":
        return None if value is None else code_from_json(value)
    if key in ("shape", "strides"):
        return tuple(_checked(f"{key}[]", item) for item in value)
    if not isinstance(value, str if key in _TEXTS else int) or isinstance(value, bool):
        raise FormatError(f"{key} = {value!r}; allowed: {'text' if key in _TEXTS else 'an integer'}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise FormatError(f"calibrated = {value!r}; allowed: true or false")
    return value


def _from_document(document: dict[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Program:
    if document["isa_version"] != ISA_VERSION:
        raise FormatError(f"instruction set version {document['isa_version']!r}; this tool reads {ISA_VERSION}")
    expected = {"words": np.uint8, "instruction_layer": np.int32, "image": np.uint8}
    if {name: array.dtype for name, array in tensors.items()} != expected:
        raise FormatError(f"tensors {sorted(tensors)}; expected {sorted(expected)} as U8, I32, U8")
    return Program(
        model=str(document["model"]),
        codec=str(document["codec"]),
        source=dict(document["source"]),
        packed_digest=str(document["packed_digest"]),
        machine=machine_from_document(document["machine"], "program file"),
        batch=_checked("batch", document["batch"]),
        dram_bytes=_checked("dram_bytes", document["dram_bytes"]),
        layers=_rows(Layer, document["layers"]),
        streams=_rows(WeightStream, document["streams"]),
        inputs=_rows(Port, document["inputs"]),
        outputs=_rows(Port, document["outputs"]),
        calibrated=_flag(document["calibrated"]),
        tensors=_rows(StoredTensor, document["tensors"]),
        notes=tuple(map(str, document["notes"])),
        report=dict(document["report"]),
        words=tensors["words"],
        instruction_layer=tensors["instruction_layer"],
        image=tensors["image"],
    )
