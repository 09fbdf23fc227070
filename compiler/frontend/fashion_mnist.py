"""Fashion-MNIST (Xiao et al., arXiv 1708.07747) as arrays: pictures of mean 0 and deviation 1, and their classes."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from accel.errors import ConfigError, FormatError, listed
from compiler.frontend.datasets import fetch_dataset
from compiler.frontend.packages import Progress

FASHION_FILES: Mapping[str, str] = MappingProxyType({"train": "train", "test": "t10k"})
FASHION_MEAN, FASHION_DEVIATION = 0.2860, 0.3530  # of the training pictures, between 0 and 1
IDX_UINT8 = b"\x00\x00\x08"


def fashion_mnist(
    split: str, progress: Progress | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Pictures float32 [N,1,28,28] and classes int64 [N]; ``split``: train (60000) or test (10000).

    Raises ``ConfigError`` for another split, ``ModelError`` when the files cannot be had.
    """
    if split not in FASHION_FILES:
        raise ConfigError(f"unknown split '{split}'; there are: {listed(FASHION_FILES)}")
    files = fetch_dataset("fashion_mnist", progress)
    pixels = read_idx(files[f"{FASHION_FILES[split]}-images-idx3-ubyte.gz"])[:, None].astype(np.float32)
    labels = read_idx(files[f"{FASHION_FILES[split]}-labels-idx1-ubyte.gz"]).astype(np.int64)
    return ((pixels / 255 - FASHION_MEAN) / FASHION_DEVIATION).astype(np.float32), labels


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Bytes of a gzipped IDX file in its shape (format: MNIST's web page). Raises ``FormatError``."""
    try:
        with gzip.open(path) as file:
            data = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(f"'{path}': cannot read: {error}") from error
    axes = data[3] if data[:3] == IDX_UINT8 and len(data) > 3 else 0
    shape = np.frombuffer(data[4 : 4 + 4 * axes], ">u4").tolist() if len(data) >= 4 + 4 * axes else []
    if not axes or len(shape) != axes or len(data) != 4 + 4 * axes + math.prod(shape):
        raise FormatError(f"'{path}': not an IDX file of bytes, or truncated")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
