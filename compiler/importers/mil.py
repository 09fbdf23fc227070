"""The part of Core ML's model format that weights are in: a protobuf schema, and the blobs beside it.

Field numbers are those of ``MIL.proto`` and ``Model.proto`` in coremltools 9.0; fields not listed are skipped by the
parser. Maps are spelled as what they are on the wire: repeated entries of ``key`` (1) and ``value`` (2).
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.container import DIMENSION_LIMIT
from accel.errors import ModelError, listed
from compiler.importers.fields import unpack_fields

BLOB_MAGIC = 0xDEADBEEF
BLOB_HEADER = struct.Struct("<IIQQQ")  # magic, element type, bytes, offset of the data, bits of padding

# message: field: (number, type), repeated ones with a star
SCHEMA: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Model": {"mlProgram": (502, "Program")},
    "Program": {"functions": (2, "*FunctionEntry")},
    "FunctionEntry": {"key": (1, "string"), "value": (2, "Function")},
    "Function": {"block_specializations": (3, "*BlockEntry")},
    "BlockEntry": {"key": (1, "string"), "value": (2, "Block")},
    "Block": {"operations": (3, "*Operation")},
    "Operation": {
        "type": (1, "string"),
        "inputs": (2, "*InputEntry"),
        "outputs": (3, "*NamedValueType"),
        "attributes": (5, "*ValueEntry"),
    },
    "NamedValueType": {"name": (1, "string")},
    "InputEntry": {"key": (1, "string"), "value": (2, "Argument")},
    "ValueEntry": {"key": (1, "string"), "value": (2, "Value")},
    "Argument": {"arguments": (1, "*Binding")},
    "Binding": {"name": (1, "string"), "value": (2, "Value")},
    "Value": {"type": (2, "ValueType"), "immediateValue": (3, "ImmediateValue"), "blobFileValue": (5, "BlobFileValue")},
    "BlobFileValue": {"fileName": (1, "string"), "offset": (2, "uint64")},
    "ValueType": {"tensorType": (1, "TensorType")},
    "TensorType": {"dataType": (1, "int32"), "dimensions": (3, "*Dimension")},
    "Dimension": {"constant": (1, "ConstantDimension")},
    "ConstantDimension": {"size": (1, "uint64")},
    "ImmediateValue": {"tensor": (1, "TensorValue")},
    "TensorValue": {"floats": (1, "Floats"), "ints": (2, "Ints"), "bytes": (7, "Bytes")},
    "Floats": {"values": (1, "*float")},
    "Ints": {"values": (1, "*int32")},
    "Bytes": {"values": (1, "bytes")},
}


@dataclass(frozen=True, slots=True)
class ElementType:
    """One row of ``ELEMENT_TYPES``: ``bits`` of an element; ``dtype`` it is read as; number in the blob's header."""

    bits: int
    dtype: str
    blob_type: int


# by number in TensorType.dataType
ELEMENT_TYPES: Mapping[int, ElementType] = {
    10: ElementType(16, "<f2", 1),
    11: ElementType(32, "<f4", 2),
    21: ElementType(8, "<i1", 4),
    23: ElementType(32, "<i4", 14),
    31: ElementType(8, "<u1", 3),
    35: ElementType(4, "<u1", 11),
    36: ElementType(2, "<u1", 10),
    37: ElementType(1, "<u1", 9),
    38: ElementType(6, "<u1", 13),
    39: ElementType(3, "<u1", 12),
}


def parse_model(data: bytes) -> Any:
    """The ``Model`` message; raises ``ModelError``."""
    from google.protobuf.message import DecodeError

    try:
        return _classes()["accel_mil.Model"].FromString(data)
    except (DecodeError, ValueError) as error:  # ValueError: text that is not UTF-8
        raise ModelError(f"not a readable Core ML model: {error}") from error


@functools.cache
def _classes() -> Mapping[str, Any]:
    from google.protobuf import descriptor_pb2, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="accel_mil.proto", package="accel_mil", syntax="proto3")
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            added = message.field.add(name=field, number=number)
            added.label = added.LABEL_REPEATED if kind.startswith("*") else added.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            if kind in SCHEMA:
                added.type, added.type_name = added.TYPE_MESSAGE, f".accel_mil.{kind}"
            else:
                added.type = getattr(added, f"TYPE_{kind.upper()}")
    found: Mapping[str, Any] = message_factory.GetMessages([file])
    return found


def read_value(value: Any, blobs: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """The tensor of a ``Value`` message: immediate, or in the file ``blobs``. Raises ``ModelError``."""
    tensor = value.type.tensorType
    shape = tuple(int(each.constant.size) for each in tensor.dimensions)
    element = ELEMENT_TYPES.get(tensor.dataType)
    if element is None or 0 in shape or len(shape) > DIMENSION_LIMIT:
        what = f"a tensor of {len(shape)} axes {list(shape[:DIMENSION_LIMIT])} and element type {tensor.dataType}"
        raise ModelError(
            f"{what}; readable: at most {DIMENSION_LIMIT} axes, none empty, types {listed(map(str, ELEMENT_TYPES))}"
        )
    if value.HasField("blobFileValue"):
        return _fitting(_blob(value.blobFileValue.offset, element, math.prod(shape), blobs), shape)
    return _fitting(_immediate(value.immediateValue.tensor, element), shape)


def _immediate(tensor: Any, element: ElementType) -> npt.NDArray[Any]:
    if tensor.HasField("bytes") and element.bits >= 8:
        data = tensor.bytes.values
        return np.frombuffer(data, element.dtype, len(data) // (element.bits // 8))
    if tensor.HasField("ints"):
        return np.array(tensor.ints.values, np.int64)
    return np.array(tensor.floats.values, np.float32)


def _fitting(flat: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if flat.size != math.prod(shape):
        raise ModelError(f"{flat.size} values for shape {list(shape)}")
    return flat.reshape(shape)


def _blob(offset: int, element: ElementType, count: int, blobs: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """``count`` elements of a blob (version 2), whose header lies at ``offset``."""
    if offset + BLOB_HEADER.size > blobs.size:
        raise ModelError(f"a blob at byte {offset} of a weight file of {blobs.size} bytes")
    magic, kind, size, start, _ = BLOB_HEADER.unpack(blobs[offset : offset + BLOB_HEADER.size].tobytes())
    if magic != BLOB_MAGIC or kind != element.blob_type:
        raise ModelError(f"the blob at byte {offset} begins with {magic:#x} and type {kind}; expected {BLOB_MAGIC:#x}")
    needed = -(-count * element.bits // 8)
    if size != needed or start + size > blobs.size:
        what = f"the blob at byte {offset} has {size} bytes at {start} of a weight file of {blobs.size}"
        raise ModelError(f"{what}; {count} values need {needed}")
    data = blobs[start : start + size]
    if element.bits >= 8:
        return data.view(element.dtype) if start % (element.bits // 8) == 0 else data.copy().view(element.dtype)
    return unpack_fields(data, element.bits, count)
