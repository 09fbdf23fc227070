"""Input pixels of windows: which ones each tap of each output pixel reads, and which are read at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from accel.isa import Instruction

Integers = npt.NDArray[np.int64]
_GEOMETRY = (
    *("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w"),
    *("pad_top", "pad_left", "in_h", "in_w", "out_w"),
)


@dataclass(frozen=True, slots=True)
class Window:
    """``taps[rows, taps]``: the place in ``pixels`` of what each tap reads, ``len(pixels)`` outside the image;
    ``pixels``: input pixels (``y * in_w + x``) that are read, ascending. ``dense``: one tap, pixel r for row r."""

    taps: npt.NDArray[np.intp]
    pixels: Integers
    dense: bool

    @property
    def span(self) -> int:
        """Pixels from number 0 to the last one read."""
        return int(self.pixels[-1]) + 1 if self.pixels.size else 0

    @property
    def selection(self) -> Integers | None:
        """``pixels``, or ``None`` if they are all of ``span``."""
        return None if self.pixels.size == self.span else self.pixels


def window_of(configuration: Instruction, rows: int) -> Window:
    """The window a GMC or VWN describes, over ``rows`` output pixels."""
    return _window(rows, *(configuration[name] for name in _GEOMETRY))


@lru_cache(maxsize=64)
def _window(
    rows: int,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    dilation_h: int,
    dilation_w: int,
    pad_top: int,
    pad_left: int,
    in_h: int,
    in_w: int,
    out_w: int,
) -> Window:
    out_y, out_x = np.divmod(np.arange(rows), out_w)
    y = _tapped(out_y, stride_h, np.arange(kernel_h), dilation_h, pad_top)[:, :, None]
    x = _tapped(out_x, stride_w, np.arange(kernel_w), dilation_w, pad_left)[:, None, :]
    inside = (y >= 0) & (y < in_h) & (x >= 0) & (x < in_w)
    flat = np.where(inside, y * in_w + x, -1).reshape(rows, -1)
    touched = np.zeros(int(flat.max(initial=-1)) + 2, np.bool_)
    touched[flat] = True  # -1 marks the spare last entry
    touched[-1] = False
    pixels = np.flatnonzero(touched)
    place = np.full(touched.size, pixels.size, np.intp)
    place[pixels] = np.arange(pixels.size)
    taps = place[flat]
    dense = flat.shape[1] == 1 and pixels.size == rows and bool((flat[:, 0] == np.arange(rows)).all())
    return Window(taps, pixels, dense)


def _tapped(out: Integers, stride: int, tap: Integers, dilation: int, pad: int) -> Integers:
    """Input coordinate of every output coordinate and tap."""
    return out[:, None] * stride + tap * dilation - pad
