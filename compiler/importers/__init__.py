"""Checkpoints compressed by other tools: ``FORMATS`` lists them, ``read_foreign`` tells them apart and reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from accel.errors import ModelError, listed, nearest
from compiler.importers.aqlm import is_aqlm, read_aqlm
from compiler.importers.bgd import is_bgd, read_bgd
from compiler.importers.coreml import read_coreml
from compiler.importers.coreml_torch import is_coreml_torch, read_coreml_torch
from compiler.importers.foreign import Checkpoint, Coding, ForeignLayer, Tensors
from compiler.importers.pqf import is_pqf, read_pqf
from compiler.importers.source import Source, open_source
from compiler.importers.vptq import is_vptq, read_vptq

__all__ = ["FORMATS", "Checkpoint", "Coding", "ForeignFormat", "ForeignLayer", "read_foreign"]


@dataclass(frozen=True, slots=True)
class ForeignFormat:
    """One row of ``FORMATS``: ``recognises`` a source by its tensors' names or its kind, ``read``s it or raises
    ``ModelError``."""

    name: str
    doc: str
    files: str
    recognises: Callable[[Source], bool]
    read: Callable[[Source], Checkpoint]


def _by_tensors(test: Callable[[Tensors], bool]) -> Callable[[Source], bool]:
    return lambda source: source.package is None and test(source.tensors)


_ROWS = (
    ForeignFormat(
        "coreml-torch",
        "palettised torch state_dict of coremltools 9",
        ".pt, .pth, .bin, .safetensors",
        _by_tensors(is_coreml_torch),
        read_coreml_torch,
    ),
    ForeignFormat(
        "coreml",
        "Core ML package with look-up tables, iOS 18 or later",
        ".mlpackage, .mlpackage.zip",
        lambda source: source.package is not None,
        read_coreml,
    ),
    ForeignFormat(
        "aqlm",
        "additive codebooks along the input",
        ".safetensors or a folder of them",
        _by_tensors(is_aqlm),
        read_aqlm,
    ),
    ForeignFormat(
        "vptq",
        "vectors along the output, residual codebooks, outliers, permutations",
        ".safetensors or a folder of them, with config.json",
        _by_tensors(is_vptq),
        read_vptq,
    ),
    ForeignFormat("bgd", "And the bit goes down: compressed ResNets", ".pth", _by_tensors(is_bgd), read_bgd),
    ForeignFormat("pqf", "Permute, Quantize, and Fine-tune: compressed ResNets", ".pth", _by_tensors(is_pqf), read_pqf),
)

FORMATS: Mapping[str, ForeignFormat] = MappingProxyType({row.name: row for row in _ROWS})


def find_format(name: str) -> ForeignFormat:
    """The row called ``name``; raises ``ModelError`` naming what exists."""
    if name not in FORMATS:
        raise ModelError(f"unknown format '{name}'; allowed: {listed(FORMATS)}{nearest(name, FORMATS)}")
    return FORMATS[name]


def read_foreign(path: Path, name: str | None = None) -> tuple[ForeignFormat, Checkpoint]:
    """The format of ``path`` (detected, or the one called ``name``) and all it holds.

    Raises ``ModelError``, one line naming the file and the layer, for files that are damaged, hostile or of no format.
    """
    row = find_format(name) if name else None
    source = open_source(path)
    row = row or _detected(source)
    if not row.recognises(source):
        raise ModelError(f"{path}: does not look like {row.name} ({row.doc}; {row.files})")
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused, with its name
        checkpoint = row.read(source)
    if not checkpoint.layers:
        raise ModelError(f"{path}: {row.name} with no compressed layer, only {len(checkpoint.tensors)} plain tensors")
    return row, checkpoint


def _detected(source: Source) -> ForeignFormat:
    found = [row for row in _ROWS if row.recognises(source)]
    if len(found) != 1:
        what = f"looks like {' and '.join(row.name for row in found)}" if found else "is of no format we know"
        raise ModelError(f"{source.path}: {what}; --format takes {listed(FORMATS)}")
    return found[0]
