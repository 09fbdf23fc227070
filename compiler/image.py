"""The DRAM image: weight streams, codebooks, parameters and constants first, scratch space for activations behind."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from accel.errors import CompileError
from accel.isa import BLOCK_BYTES, BY_MNEMONIC
from compiler.sram import aligned

Bytes = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Image:
    """Grows region by region; every region starts on a block."""

    parts: list[Bytes] = field(default_factory=list)
    size_bytes: int = 0
    scratch_bytes: int = 0

    def add(self, data: npt.NDArray[np.generic]) -> int:
        """Append constant data and return its address."""
        assert not self.scratch_bytes, "constants precede scratch"
        raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        padded = np.zeros(aligned(raw.size), np.uint8)
        padded[: raw.size] = raw
        self.parts.append(padded)
        address, self.size_bytes = self.size_bytes, self.size_bytes + padded.size
        return self._checked(address)

    def reserve(self, size: int) -> int:
        """Scratch space behind the constants."""
        address = self.size_bytes + self.scratch_bytes
        self.scratch_bytes += aligned(size)
        return self._checked(address)

    def _checked(self, address: int) -> int:
        limit = BY_MNEMONIC["LDA"].field("address").limit
        if self.dram_bytes > limit:
            raise CompileError(
                f"the program needs {self.dram_bytes} bytes of DRAM; the instruction set reaches {limit}"
            )
        return address

    @property
    def dram_bytes(self) -> int:
        """Bytes of DRAM the program uses."""
        return self.size_bytes + self.scratch_bytes

    def data(self) -> Bytes:
        """The constant part."""
        return np.concatenate(self.parts) if self.parts else np.zeros(BLOCK_BYTES * 0, np.uint8)
