"""PQF, "Permute, Quantize, and Fine-tune" (arXiv 2010.15703): ``.pth`` of ``uber-research/permute-quantize-finetune``.

A state dict in which ``codes_matrix[C_out, n_sub]`` and ``codebook[k, d]`` stand for a weight; vectors run along the
flattened (C_in, kh, kw), whose kernel the file does not tell. The permutations have been applied to the weights, none
is stored. Batch normalisations without statistics have them folded in (``src/utils/state_dict_utils.py``).
"""

from __future__ import annotations

import numpy as np

from accel.errors import ModelError
from compiler.importers.foreign import Checkpoint, Coding, ForeignLayer, Tensors
from compiler.importers.source import Source, modules, remaining, taken

PARTS = ("codebook", "codes_matrix")


def is_pqf(tensors: Tensors) -> bool:
    """Whether some module has a codebook and a matrix of codes."""
    return any(f"{name}.codes_matrix" in tensors for name in modules(tensors, "codebook"))


def read_pqf(source: Source) -> Checkpoint:
    """All layers; raises ``ModelError`` naming the one at fault."""
    layers, used = {}, set[str]()
    for module in modules(source.tensors, "codebook"):
        try:
            layers[f"{module}.weight"] = _layer(module, source.tensors)
        except ModelError as error:
            raise ModelError(f"{source.path}: layer '{module}': {error}") from error
        used.update(f"{module}.{part}" for part in PARTS)
    return Checkpoint(layers, remaining(source.tensors, used), folded_norms=True)


def _layer(module: str, tensors: Tensors) -> ForeignLayer:
    words = taken(tensors, f"{module}.codebook", 2, "f").astype(np.float32)
    codes = taken(tensors, f"{module}.codes_matrix", 2, "iu").astype(np.int64)
    shape = (len(codes), codes.shape[1] * words.shape[1])
    coding = Coding(codes[None], (words,), "in", np.ones(1, np.float32))
    return ForeignLayer(f"k={len(words)} d={words.shape[1]}", shape, coding)
