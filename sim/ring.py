"""The weight ring's contents: which DRAM bytes the blocks that LDW brings, and DEC takes in order, came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel.errors import SimError
from accel.isa import BLOCK_BYTES
from sim.decode import Column, Rows

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Ring:
    """LDW blocks in order: those of instruction ``i`` are ring blocks ``start[i]`` on, from DRAM ``address[i]``."""

    start: Column
    address: Column
    blocks: Column

    def address_of(self, block: int, where: str) -> int:
        """DRAM address of a ring block; ``SimError`` if it is never loaded."""
        i = int(np.searchsorted(self.start, block, side="right")) - 1
        if i < 0 or block >= self.start[i] + self.blocks[i]:
            raise SimError(f"{where} decodes ring block {block}, which no LDW loads")
        return int(self.address[i] + (block - self.start[i]) * BLOCK_BYTES)

    def read(self, image: Bytes, block: int, blocks: int, where: str) -> Bytes:
        """``blocks`` blocks of the ring's stream, from ``block`` on; ``SimError`` if they are not in the image."""
        parts, end = [], block + blocks
        while block < end:
            address = self.address_of(block, where)
            i = int(np.searchsorted(self.start, block, side="right")) - 1
            count = min(end, int(self.start[i] + self.blocks[i])) - block
            parts.append(image[address : address + count * BLOCK_BYTES])
            block += count
        data = np.concatenate(parts) if len(parts) > 1 else parts[0]
        if data.size != blocks * BLOCK_BYTES:
            raise SimError(f"{where}: the weights LDW brings lie outside the image of {image.size} bytes")
        return data

    def blocks_read(self, memory: Bytes, block: int, blocks: int) -> Bytes:
        """As ``read``, of ``memory_blocks``; what the image does not cover reads as zeros. LDWs load all of them."""
        wanted = np.arange(block, block + blocks)
        i = np.searchsorted(self.start, wanted, side="right") - 1
        place = self.address[i] // BLOCK_BYTES + wanted - self.start[i]
        data: Bytes = memory[np.minimum(place, len(memory) - 1)].reshape(-1)
        return data


def weight_ring(ldw: Rows) -> Ring:
    """The ring of a program with these LDWs."""
    start = np.concatenate([np.zeros(1, np.int64), np.cumsum(ldw["blocks"])])[:-1]
    return Ring(start, ldw["address"], ldw["blocks"])


def memory_blocks(image: Bytes) -> Bytes:
    """The image as ``uint8[blocks + 1, 64]``, the last row zeros: what every block behind the image reads as."""
    blocks = -(-image.size // BLOCK_BYTES)
    memory = np.zeros((blocks + 1, BLOCK_BYTES), np.uint8)
    memory.reshape(-1)[: image.size] = image
    return memory
