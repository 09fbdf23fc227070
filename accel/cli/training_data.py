"""Data to train on, from the command line: a data set by name, or the user's samples in ``.npz`` files."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from accel.cli.options import say
from accel.cli.tensors import read_stacks
from accel.errors import ConfigError, ModelError, listed, nearest
from accel.graph import Graph
from compiler.frontend.fashion_mnist import fashion_mnist
from compiler.quantise.samples import check_inputs, index_rows
from compiler.training import Samples

LABELS = "labels"  # the array of classes beside the inputs
SAMPLE_FILES = "*.npz"  # of a folder


@dataclass(frozen=True, slots=True)
class Split:
    """What is trained on, and what is held back to score with."""

    training: Samples
    held_back: Samples


def load_split(text: str, graph: Graph, share: float, seed: int) -> Split:
    """What ``--data`` names: a data set with a split of its own, or files of which a random ``share`` is held back.

    Raises ``ConfigError``, ``FormatError`` or ``ModelError`` for data a graph cannot take.
    """
    if text in NAMED:
        return NAMED[text](graph)
    path = Path(text)
    if not path.exists():
        known = f"a folder or file of .npz samples, or one of: {listed(NAMED)}"
        raise ConfigError(f"--data {text}: no such file; allowed: {known}{nearest(text, NAMED)}")
    samples = _joined([_read(each, graph) for each in _files(path)])
    return _split(_checked(samples, graph), share, seed)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob(SAMPLE_FILES))
    if not files:
        raise ConfigError(f"--data {path}: no .npz file in this folder; allowed: at least one")
    return files


def _read(path: Path, graph: Graph) -> Samples:
    held = _names(path)
    labels = (LABELS,) if LABELS not in graph.inputs and LABELS in held else ()
    try:
        stacks = read_stacks(path, graph.inputs, labels)
    except ModelError as error:
        if held <= {*graph.inputs, LABELS} or LABELS in {*graph.inputs, *held}:
            raise
        raise ModelError(f"{error}; classes are called '{LABELS}'") from error
    classes = stacks.pop(LABELS, None)
    if classes is not None and (classes.dtype.kind not in "iu" or (classes < 0).any()):
        raise ModelError(f"'{path}': labels of type {classes.dtype}; allowed: whole numbers from 0")
    if classes is not None and classes.max(initial=0) > np.iinfo(np.int64).max:
        raise ModelError(f"'{path}': labels up to {classes.max()}; allowed: below 2**63")
    return Samples(stacks, None if classes is None else classes.astype(np.int64))


def _names(path: Path) -> set[str]:
    """Of the arrays in a file; one that is no archive is refused by who reads it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return set()


def _joined(parts: list[Samples]) -> Samples:
    labels = [part.labels for part in parts if part.labels is not None]
    if len(labels) not in (0, len(parts)):
        raise ModelError(f"labels in {len(labels)} of {len(parts)} files; allowed: in all or in none")
    inputs = {name: np.concatenate([part.inputs[name] for part in parts]) for name in parts[0].inputs}
    return Samples(inputs, np.concatenate(labels) if labels else None)


def _checked(samples: Samples, graph: Graph) -> Samples:
    """``samples`` with real numbers as float32; raises ``ModelError`` for what the graph cannot take."""
    check_inputs(graph, samples.inputs)
    *rows, classes = graph.shapes[graph.outputs[0]]
    if samples.labels is not None and math.prod(rows) != 1:
        shape = (*rows, classes)
        raise ModelError(f"one label a sample, but '{graph.outputs[0]}' is {shape}; allowed: one row of classes")
    if samples.labels is not None and samples.labels.max(initial=0) >= classes:
        raise ModelError(f"label {samples.labels.max()}; allowed: 0 to {classes - 1}, the model has {classes} outputs")
    indices = index_rows(graph)
    inputs = {name: each if name in indices else each.astype(np.float32) for name, each in samples.inputs.items()}
    return Samples(inputs, samples.labels)


def _split(samples: Samples, share: float, seed: int) -> Split:
    held = max(1, round(len(samples) * share))
    if len(samples) - held < 1:
        raise ConfigError(f"{len(samples)} samples, {held} of them held back; allowed: at least one of either")
    order = np.random.default_rng(seed).permutation(len(samples))
    return Split(samples.take(np.sort(order[held:])), samples.take(np.sort(order[:held])))


def _fashion(graph: Graph) -> Split:
    ((name, shape),) = graph.inputs.items() if len(graph.inputs) == 1 else (("", ()),)
    if tuple(shape) != (1, 1, 28, 28):
        raise ConfigError(f"--data fashion_mnist: inputs {dict(graph.inputs)}; allowed: one of shape (1, 1, 28, 28)")
    pair = [fashion_mnist(split, say) for split in ("train", "test")]
    return Split(*(Samples({name: pictures[:, None]}, labels) for pictures, labels in pair))


NAMED: Mapping[str, Callable[[Graph], Split]] = MappingProxyType({"fashion_mnist": _fashion})
