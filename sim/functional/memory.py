"""Memories that know, byte by byte, who wrote and who read them: exact sets of bytes, not bounding intervals.

Instructions carry stamps in program order, whatever order they run in. A byte read must not hold a later instruction's
result, and a byte written must not have been read or written by a later one: either would give a program other values
than its order in memory promises, and only tokens can hold it back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import SimError

Bytes = npt.NDArray[np.uint8]
Stamps = npt.NDArray[np.int32]
Name = Callable[[int], str]  # how errors name an instruction

UNWRITTEN, LOADED, FIRST = 0, 1, 2  # stamps: instruction i is FIRST + i


@dataclass(frozen=True, slots=True)
class Box:
    """Bytes ``start + sum(index * strides)`` for every index of ``shape``. ``rows`` keeps some of the last axis but one
    (an input image of which a window touches only some pixels)."""

    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    rows: npt.NDArray[np.int64] | None = None

    @property
    def stop(self) -> int:
        """The first address behind the last byte of the unselected box."""
        reach = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        return self.start + reach + 1

    def view(self, memory: npt.NDArray[Any], origin: int = 0) -> npt.NDArray[Any]:
        """The unselected box in ``memory``, whose first element stands for address ``origin``; shares its bytes."""
        size = memory.itemsize
        strides = tuple(size * stride for stride in self.strides)
        offset = size * (self.start - origin)
        return np.ndarray(self.shape, memory.dtype, memory.data, offset, strides)

    def addresses(self) -> npt.NDArray[np.int64]:
        """Address of every element, selected rows only."""
        total = np.full((1,) * len(self.shape), self.start, np.int64)
        for axis, (size, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            steps = np.arange(size, dtype=np.int64) * stride
            total = total + steps.reshape([-1 if at == axis else 1 for at in range(len(self.shape))])
        return total if self.rows is None else total[..., self.rows, :]


def run_of(start: int, size: int) -> Box:
    """``size`` bytes in a row."""
    return Box(start, (size,), (1,))


class Memory:
    """``data`` of one memory, and the stamps of who wrote and read each byte from ``origin`` on; bytes below it hold
    data from the start and are never written."""

    def __init__(self, name: str, data: Bytes, name_of: Name, origin: int = 0) -> None:
        self.name, self.data, self.name_of, self.origin = name, data, name_of, origin
        self.written: Stamps = np.zeros(data.size - origin, np.int32)
        self.seen: Stamps = np.zeros(data.size - origin, np.int32)

    def mark_loaded(self, start: int, stop: int) -> None:
        """Bytes that hold data before the program starts."""
        self.written[max(0, start - self.origin) : max(0, stop - self.origin)] = LOADED

    @property
    def touched(self) -> int:
        """Bytes ever written, the data loaded before included."""
        return int(np.count_nonzero(self.written)) + self.origin

    def read(self, box: Box, reader: int, unfenced: int | None = None) -> Bytes:
        """The box's bytes, shared with the memory unless it selects rows. Raises ``SimError`` for bytes that nothing,
        or a later instruction, has written. ``unfenced``: a first instruction of the same queue whose results, and
        those of all behind it, may still be on their way."""
        if box.stop > self.origin:
            self._check_read(box, reader, unfenced)
        data: Bytes = box.view(self.data)
        return data if box.rows is None else data[..., box.rows, :]

    def peek(self, box: Box) -> Bytes:
        """The box's bytes, whoever wrote them."""
        data: Bytes = box.view(self.data)
        return data

    def unwritten(self, box: Box) -> bool:
        """Whether nothing has written one of the box's bytes."""
        where = box.addresses().reshape(-1)
        return bool((self.written[where[where >= self.origin] - self.origin] == UNWRITTEN).any())

    def write(self, box: Box, values: npt.NDArray[np.uint8] | int, writer: int) -> None:
        """Store ``values`` (broadcast to the box, which selects no rows). Raises ``SimError`` if a later instruction
        has read or written one of the bytes."""
        stamp = FIRST + writer
        written, seen = box.view(self.written, self.origin), box.view(self.seen, self.origin)
        if (seen > stamp).any():
            self._fail_write(box, self.seen, writer, "has read before: no token makes it wait")
        if (written > stamp).any():
            self._fail_write(box, self.written, writer, "has written before: no token makes it wait")
        written[...] = stamp
        box.view(self.data)[...] = values

    def _check_read(self, box: Box, reader: int, unfenced: int | None) -> None:
        stamp = FIRST + reader
        if box.start < self.origin:
            where = box.addresses().reshape(-1)
            at = where[where >= self.origin] - self.origin
            writers = self.written[at]
            self.seen[at] = np.maximum(self.seen[at], stamp)
        else:
            writers, seen = box.view(self.written, self.origin), box.view(self.seen, self.origin)
            if box.rows is None:
                np.maximum(seen, stamp, out=seen)
            else:
                writers = writers[..., box.rows, :]
                seen[..., box.rows, :] = np.maximum(seen[..., box.rows, :], stamp)
        if not writers.size:
            return
        latest = int(writers.max())
        if latest > stamp or writers.min() == UNWRITTEN:
            self._fail_read(box, reader)
        if unfenced is not None and latest >= FIRST + unfenced:
            self._check_fence(box, reader, unfenced)

    def _fail_read(self, box: Box, reader: int) -> None:
        """Name the first byte that must not be read, and why."""
        where = box.addresses().reshape(-1)
        where = where[where >= self.origin]
        stamps = self.written[where - self.origin]
        bad = int(np.argmax((stamps == UNWRITTEN) | (stamps > FIRST + reader)))
        what = f"{self.name_of(reader)} reads {self.name} byte {int(where[bad]):#x}"
        if stamps[bad] == UNWRITTEN:
            raise SimError(f"{what}, which nothing has written")
        later = self.name_of(int(stamps[bad]) - FIRST)
        raise SimError(f"{what}, which {later} has overwritten: no token holds it back")

    def _check_fence(self, box: Box, reader: int, unfenced: int) -> None:
        """Array operations overlap: results of one that is not fenced off may still be on their way."""
        where = box.addresses().reshape(-1)
        stamps = self.written[where - self.origin]
        late = np.flatnonzero(stamps >= FIRST + unfenced)
        for at in late[np.unique(stamps[late], return_index=True)[1]]:
            writer = int(stamps[at]) - FIRST
            if " 'GEM " in self.name_of(writer) or " 'GMS " in self.name_of(writer):
                raise SimError(
                    f"{self.name_of(reader)} reads {self.name} byte {int(where[at]):#x}, a result of "
                    f"{self.name_of(writer)} that may not have left the array: no fence between them"
                )

    def _fail_write(self, box: Box, stamps: Stamps, writer: int, why: str) -> None:
        where = box.addresses().reshape(-1)
        found = stamps[where - self.origin]
        bad = int(np.argmax(found > FIRST + writer))
        raise SimError(
            f"{self.name_of(writer)} writes {self.name} byte {int(where[bad]):#x}, which "
            f"{self.name_of(int(found[bad]) - FIRST)} {why}"
        )
