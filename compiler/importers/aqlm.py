"""AQLM: additive codebooks along the input (arXiv 2401.06118; package ``aqlm`` 1.1.7, ``QuantizedLinear``).

``codes[out/go, in/gi, M]`` are two's-complement integers (index = code mod 2^bits), ``codebooks[M, 2^bits, go, gi]``,
``scales[out/go, 1, 1, 1]``: ``W[o*go+a, i*gi+b] = scales[o] * sum_m codebooks[m, codes[o,i,m], a, b]``. Training
checkpoints put ``.quantized_weight`` before the three names.
"""

from __future__ import annotations

import numpy as np

from accel.codecs import VectorAxis
from accel.errors import ModelError
from compiler.importers.foreign import Checkpoint, Coding, ForeignLayer, Indices, Matrix, Tensors
from compiler.importers.source import Source, modules, remaining, taken

PARTS = ("codes", "codebooks", "scales")
TRAINING_PREFIX = ".quantized_weight"


def is_aqlm(tensors: Tensors) -> bool:
    """Whether some module has codes, codebooks and scales."""
    return any(all(f"{name}.{part}" in tensors for part in PARTS) for name in modules(tensors, "codebooks"))


def read_aqlm(source: Source) -> Checkpoint:
    """All layers; raises ``ModelError`` naming the one at fault."""
    layers, used = {}, set[str]()
    for module in modules(source.tensors, "codebooks"):
        try:
            layers[f"{module.removesuffix(TRAINING_PREFIX)}.weight"] = _layer(module, source.tensors)
        except ModelError as error:
            raise ModelError(f"{source.path}: layer '{module}': {error}") from error
        used.update(f"{module}.{part}" for part in PARTS)
    return Checkpoint(layers, remaining(source.tensors, used))


def _layer(module: str, tensors: Tensors) -> ForeignLayer:
    codes = taken(tensors, f"{module}.codes", 3, "i")
    codebooks = taken(tensors, f"{module}.codebooks", 4, "f")
    scales = taken(tensors, f"{module}.scales", 4, "f").astype(np.float32)
    stages, entries, out_group, in_group = codebooks.shape
    if codes.shape[2] != stages or scales.shape != (len(codes), 1, 1, 1):
        raise ModelError(
            f"codes {list(codes.shape)}, codebooks {list(codebooks.shape)}, scales {list(scales.shape)}; "
            "expected [O, I, M], [M, K, go, gi], [O, 1, 1, 1]"
        )
    bits = entries.bit_length() - 1
    indices = _unsigned(codes, bits, entries)
    form = f"{stages}x{bits} g{in_group}" + (f" o{out_group}" if out_group > 1 else "")
    shape = (codes.shape[0] * out_group, codes.shape[1] * in_group)
    words = codebooks.astype(np.float32)
    if out_group > 1 and in_group > 1:
        reason = f"codewords are blocks of {out_group}x{in_group} weights; a codec's run along one axis"
        return ForeignLayer(form, shape, dense=_blocks(indices, words, scales), obstacle=reason)
    flat = tuple(words.reshape(stages, entries, -1))
    axis: VectorAxis = "out" if out_group > 1 else "in"
    scale = np.repeat(scales.reshape(-1), out_group)
    return ForeignLayer(form, shape, Coding(indices.transpose(2, 0, 1), flat, axis, scale))


def _unsigned(codes: Indices, bits: int, entries: int) -> Indices:
    """Indices of two's-complement codes; those that ``bits`` cannot hold are refused, not wrapped."""
    if entries != 1 << bits:
        raise ModelError(f"{entries} codewords; expected a power of two")
    low, high = int(codes.min()), int(codes.max())
    half = entries >> 1
    if low < -half or high >= entries:
        raise ModelError(f"code {low if low < -half else high} is out of range; allowed: {-half} to {entries - 1}")
    return codes.astype(np.int64) % entries


def _blocks(indices: Indices, codebooks: Matrix, scales: Matrix) -> Matrix:
    """Dense weights of two-dimensional codewords."""
    summed = sum(words[indices[:, :, stage]] for stage, words in enumerate(codebooks)) * scales
    rows, columns, out_group, in_group = summed.shape
    return np.ascontiguousarray(summed.transpose(0, 2, 1, 3).reshape(rows * out_group, columns * in_group))
