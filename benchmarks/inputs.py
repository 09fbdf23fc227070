"""``python -m benchmarks inputs MODEL -o DIR``: real data for a zoo model, in the form the command line reads.

``calibrate.npz`` goes to ``accel compress --calibrate``, ``inputs.npz`` (the first scored input) to ``accel run
--input``, ``scored.npz`` (the first few) to ``accel compare --inputs``.
Texts are cut to the length of the model's default graph: none is padded, since the graph has no mask.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.atomic import write_bytes
from benchmarks import quality_data
from benchmarks.quality_data import EFFICIENTNET_LITE, TORCHVISION
from compiler.frontend.architectures import build_architecture

Array = npt.NDArray[Any]
PICTURES = {"vit_s14": TORCHVISION, "efficientnet_lite0": EFFICIENTNET_LITE}
TEXTS = ("minilm",)
SAMPLES, SCORED = 20, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("model", choices=(*TEXTS, *PICTURES), help="as in zoo:MODEL")
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"to calibrate on; default {SAMPLES}")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="where the files go")


def main(options: argparse.Namespace) -> bool:
    """Write the files."""
    ((name, shape),) = build_architecture(options.model).graph.inputs.items()
    calibration, scored = _texts(shape[1], options.samples) if options.model in TEXTS else _pictures(options)
    options.output.mkdir(parents=True, exist_ok=True)
    for file, array in (("calibrate.npz", calibration), ("inputs.npz", scored[:1]), ("scored.npz", scored)):
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{name: array})
        write_bytes(options.output / file, buffer.getvalue())
        print(f"{options.output / file}: {name} {array.dtype} {list(array.shape)}")
    return True


def _texts(length: int, samples: int) -> tuple[Array, Array]:
    """The first texts that are long enough, cut to ``length`` tokens with both marks."""
    others = quality_data.calibration_sentences(300, length)
    return fill(others, length)[:samples], fill(quality_data.lee_sentences(length), length)[:SCORED]


def fill(texts: tuple[Array, ...], length: int) -> Array:
    """Those of exactly ``length`` tokens, [N, length]."""
    return np.stack([ids for ids in texts if ids.size == length])


def _pictures(options: argparse.Namespace) -> tuple[Array, Array]:
    normalisation = PICTURES[options.model]
    views = quality_data.calibration_images(options.samples, normalisation)
    return views, quality_data.imagenet_images(normalisation).pictures[:SCORED]
