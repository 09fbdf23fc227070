"""Samples from the command line: ``.npz`` files with one array an input, or random numbers in their place."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from accel.cli.arrays import Array, read_npz
from accel.errors import ConfigError, ModelError
from accel.graph import Graph, Shape

RANDOM_LIMIT = 1024  # samples

Samples = list[dict[str, Array]]


@dataclass(frozen=True, slots=True)
class Calibrating:
    """Samples to calibrate on, and where they came from if not from a file: `` on random inputs``."""

    samples: Samples
    origin: str = ""


def calibration_samples(text: str, graph: Graph) -> Calibrating:
    """What ``--calibrate FILE.npz`` or ``--calibrate random:N[:SEED]`` asks for."""
    if text != "random" and not text.startswith("random:"):
        return Calibrating(read_samples(text, graph.inputs))
    from compiler.quantise import random_samples

    count, seed = _count_and_seed(text)
    return Calibrating(random_samples(graph, count, seed), " on random inputs")


def _count_and_seed(text: str) -> tuple[int, int]:
    words = text.split(":")[1:]
    sound = 1 <= len(words) <= 2 and all(word.isascii() and word.isdigit() and len(word) < 10 for word in words)
    if not sound or not 1 <= int(words[0]) <= RANDOM_LIMIT:
        raise ConfigError(f"--calibrate {text}; allowed: FILE.npz, or random:N[:SEED] with N from 1 to {RANDOM_LIMIT}")
    return int(words[0]), int(words[1]) if len(words) == 2 else 0


def read_samples(path: str | os.PathLike[str], shapes: Mapping[str, Shape]) -> Samples:
    """Samples from an ``.npz`` file with an array for every input in ``shapes``: exactly of the input's shape, with one
    more leading axis (samples), or with samples in place of a leading size of 1.

    Raises what ``read_npz`` raises, and ``ModelError`` for inputs that differ in their number of samples.
    """

    stacked = read_stacks(path, shapes)
    return [{name: array[i] for name, array in stacked.items()} for i in range(len(next(iter(stacked.values()), ())))]


def read_stacks(
    path: str | os.PathLike[str], shapes: Mapping[str, Shape], one_a_sample: Sequence[str] = ()
) -> dict[str, Array]:
    """The arrays of ``read_samples``, samples in front; and further ones, by name, of one number a sample."""

    def fit(name: str, shape: Shape) -> Shape:
        if name in one_a_sample:
            if len(shape) != 1:
                raise ModelError(f"'{name}': shape {list(shape)}; allowed: [samples], one number each")
            return shape
        wanted = tuple(shapes[name])
        stack = _stack(shape, wanted)
        if stack is None:
            known = f"{list(wanted)}, or that with one more leading axis, samples"
            raise ModelError(f"input '{name}': shape {list(shape)}; allowed: {known}")
        return stack

    stacked = read_npz(path, (*shapes, *one_a_sample), fit)
    counts = {name: len(array) for name, array in stacked.items()}
    if len(set(counts.values())) > 1:
        raise ModelError(f"'{os.fspath(path)}': samples of each input: {counts}; allowed: equal numbers")
    return stacked


def _stack(shape: Shape, wanted: Shape) -> Shape | None:
    """The shape with samples in front, None if an array of ``shape`` holds no samples of ``wanted``."""
    if shape == wanted:
        return (1, *wanted)
    in_front, in_place = shape[1:] == wanted, wanted[:1] == (1,) and shape[1:] == wanted[1:]
    return (shape[0], *wanted) if shape and shape[0] > 0 and (in_front or in_place) else None
