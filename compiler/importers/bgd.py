"""BGD, "And the bit goes down" (arXiv 1907.05686): ``state_dict_compressed.pth`` of ``facebookresearch/kill-the-bits``.

A dictionary a layer: ``centroids[k, d]``, ``assignments`` (flat, block after block: index ``b*C_out + o``),
``n_blocks``, ``is_conv`` and ``k`` (the kernel's size). Vectors run along the flattened (C_in, kh, kw). Others are
dictionaries of tensors; ``fc_bias`` holds the classifier's bias. Batch normalisations without statistics have them
folded in: the tool evaluates them with mean 0 and variance 1 (``src/inference.py``).
"""

from __future__ import annotations

import numpy as np

from accel.errors import ModelError
from accel.graph import Shape
from compiler.importers.foreign import Checkpoint, Coding, ForeignLayer, Tensors
from compiler.importers.source import Source, modules, remaining, taken

PARTS = ("centroids", "assignments", "n_blocks", "is_conv", "k")
CLASSIFIER_BIAS = ("fc_bias.bias", "fc.bias")
"""Its name in the file, and the usual one."""


def is_bgd(tensors: Tensors) -> bool:
    """Whether some layer has centroids and assignments."""
    return any(f"{name}.assignments" in tensors for name in modules(tensors, "centroids"))


def read_bgd(source: Source) -> Checkpoint:
    """All layers; raises ``ModelError`` naming the one at fault."""
    layers, used = {}, set[str]()
    for module in modules(source.tensors, "centroids"):
        try:
            layers[f"{module}.weight"] = _layer(module, source.tensors)
        except ModelError as error:
            raise ModelError(f"{source.path}: layer '{module}': {error}") from error
        used.update(f"{module}.{part}" for part in PARTS)
    rest = remaining(source.tensors, used)
    if CLASSIFIER_BIAS[0] in rest:
        rest[CLASSIFIER_BIAS[1]] = rest.pop(CLASSIFIER_BIAS[0])
    return Checkpoint(layers, rest, folded_norms=True)


def _layer(module: str, tensors: Tensors) -> ForeignLayer:
    words = taken(tensors, f"{module}.centroids", 2, "f").astype(np.float32)
    codes = taken(tensors, f"{module}.assignments", 1, "iu").astype(np.int64)
    blocks, is_conv, kernel = (_number(tensors, f"{module}.{part}") for part in PARTS[2:])
    d = words.shape[1]
    if blocks < 1 or len(codes) % blocks:
        raise ModelError(f"{len(codes)} assignments in n_blocks={blocks} blocks; expected a whole number in each")
    shape: Shape = (len(codes) // blocks, blocks * d)
    if is_conv:
        if kernel < 1 or shape[1] % kernel**2:
            raise ModelError(f"{shape[1]} weights a channel; a kernel of k={kernel} needs a multiple of {kernel**2}")
        shape = (shape[0], shape[1] // kernel**2, kernel, kernel)
    grid = codes.reshape(blocks, -1).T[None]
    return ForeignLayer(f"k={len(words)} d={d}", shape, Coding(grid, (words,), "in", np.ones(1, np.float32)))


def _number(tensors: Tensors, name: str) -> int:
    if name not in tensors:
        raise ModelError(f"'{name}' is missing, or no whole number")
    return int(taken(tensors, name, 0, "iub"))
