"""Core ML packages written by hand: what coremltools never writes, and where it is not installed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from compiler.importers import mil

FLOAT32, INT8, UINT8 = 11, 21, 31
"""Element types, as ``mil.ELEMENT_TYPES`` numbers them."""
MEMBERS = ("Manifest.json", "Data/m.mlmodel", "Data/weights/weight.bin")
Tensor = tuple[np.ndarray, int]


class Program:
    """A model under construction: operations by function, tensors in one weight file."""

    def __init__(self) -> None:
        self.model, self.blobs = mil._classes()["accel_mil.Model"](), bytearray(64)

    def function(self, name: str = "main") -> Any:
        """The operations of a new function."""
        return self.model.mlProgram.functions.add(key=name).value.block_specializations.add(key="CoreML8").value

    def operation(self, block: Any, kind: str, name: str, **inputs: Tensor | str | int) -> None:
        """Inputs are tensors with the number of their element type, results of other operations, whole numbers."""
        operation = block.operations.add(type=kind)
        operation.outputs.add(name=name)
        for key, given in inputs.items():
            binding = operation.inputs.add(key=key).value.arguments.add()
            if isinstance(given, str):
                binding.name = given
            elif isinstance(given, int):
                binding.value.type.tensorType.dataType = 23
                binding.value.immediateValue.tensor.ints.values.append(given)
            else:
                self._store(binding.value, *given)

    def constant(self, block: Any, name: str, array: np.ndarray) -> None:
        """A float32 tensor that is no weight."""
        operation = block.operations.add(type="const")
        operation.outputs.add(name=name)
        self._store(operation.attributes.add(key="val").value, array.astype(np.float32), FLOAT32)

    def _store(self, value: Any, array: np.ndarray, number: int) -> None:
        value.type.tensorType.dataType = number
        for size in array.shape:
            value.type.tensorType.dimensions.add().constant.size = size
        value.blobFileValue.fileName, value.blobFileValue.offset = "@model_path/weights/weight.bin", len(self.blobs)
        kind = mil.ELEMENT_TYPES[number].blob_type
        header = mil.BLOB_HEADER.pack(mil.BLOB_MAGIC, kind, array.nbytes, len(self.blobs) + 64, 0)
        self.blobs += header.ljust(64, b"\0") + array.tobytes()
        self.blobs += bytes(-len(self.blobs) % 64)

    def table(self, block: Any, name: str, seed: int = 0, **inputs: Any) -> None:
        """A weight of 8 x 6: pairs along the output out of 16 codewords."""
        rng = np.random.default_rng(seed)
        indices, lut = rng.integers(0, 16, (4, 6)).astype(np.uint8), rng.normal(size=(1, 1, 16, 2)).astype(np.float32)
        given = {"indices": (indices, UINT8), "lut": (lut, FLOAT32), "vector_axis": 0} | inputs
        self.operation(block, "constexpr_lut_to_dense", name, **given)

    def archive(self, path: Path, compression: int = zipfile.ZIP_DEFLATED) -> str:
        """``path`` (``.mlpackage.zip``) with the package."""
        manifest = {"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "m.mlmodel"}}}
        contents = json.dumps(manifest).encode(), self.model.SerializeToString(), bytes(self.blobs)
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in zip(MEMBERS, contents, strict=True):
                archive.writestr(name, data)
        return str(path)
