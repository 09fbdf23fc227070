"""Small checkpoints in the layouts of other tools, and slow decoders written from their published formulas.

Each writer returns the file and the weights that the formula gives, float32, a number at a time.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

Weights = dict[str, np.ndarray]
Tensors = dict[str, np.ndarray]


def aqlm_tensors(rng: np.random.Generator, stages: int, bits: int, out_group: int, in_group: int) -> Tensors:
    """One layer ``q`` of 24 x 32 weights."""
    codes = rng.integers(-(1 << bits - 1), 1 << bits - 1, (24 // out_group, 32 // in_group, stages))
    return {
        "m.q.codes": codes.astype(np.int8 if bits <= 8 else np.int16),
        "m.q.codebooks": rng.normal(size=(stages, 1 << bits, out_group, in_group)).astype(np.float16),
        "m.q.scales": rng.uniform(0.5, 2, (24 // out_group, 1, 1, 1)).astype(np.float16),
        "m.q.bias": rng.normal(size=24).astype(np.float16),
    }


def aqlm_weights(tensors: Tensors) -> np.ndarray:
    """AQLM's formula: ``W[o*go+a, i*gi+b] = s[o] * sum_m C[m, codes[o,i,m] mod 2^bits, a, b]``."""
    codes, books, scales = (tensors[f"m.q.{part}"] for part in ("codes", "codebooks", "scales"))
    stages, entries, out_group, in_group = books.shape
    weights = np.zeros((len(codes) * out_group, codes.shape[1] * in_group), np.float32)
    for o, i, a, b in np.ndindex(*codes.shape[:2], out_group, in_group):
        total = np.float32(0)
        for m in range(stages):
            total += np.float32(books[m, int(codes[o, i, m]) % entries, a, b])
        weights[o * out_group + a, i * in_group + b] = total * np.float32(scales[o, 0, 0, 0])
    return weights


def write_aqlm(folder: Path, rng: np.random.Generator, *shape: int) -> tuple[Path, np.ndarray]:
    """``shape`` is codebooks, bits, out group, in group."""
    tensors = aqlm_tensors(rng, *shape)
    save_file(tensors, folder / "model.safetensors")
    return folder / "model.safetensors", aqlm_weights(tensors)


VPTQ_PLAIN: dict[str, Any] = {
    "in_features": 24, "out_features": 20, "vector_lens": [-1, 8], "num_centroids": [-1, 16],
    "num_res_centroids": [-1, -1], "group_num": 1, "group_size": 24, "outlier_size": 0,
    "indices_as_float": False, "enable_norm": False, "enable_perm": False, "is_indice_packed": True, "bias": False,
}  # fmt: skip
VPTQ_CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "residual": {"num_res_centroids": [-1, 64]},
    "groups": {"group_num": 2, "group_size": 12},
    "permuted": {"enable_perm": True},
    "outliers": {"vector_lens": [8, 8], "num_centroids": [4, 16], "group_size": 20, "outlier_size": 4},
    "everything": {
        "vector_lens": [8, 8], "num_centroids": [4, 16], "num_res_centroids": [-1, 8], "group_num": 2,
        "group_size": 10, "outlier_size": 4, "enable_perm": True,
    },
    "unpacked": {"num_res_centroids": [-1, 8], "is_indice_packed": False},
    "even scale": {"enable_norm": True},
}  # fmt: skip
VPTQ_INEXACT: dict[str, dict[str, Any]] = {
    "short outliers": {"vector_lens": [4, 8], "num_centroids": [4, 16], "group_size": 20, "outlier_size": 4},
}


class VPTQLayer:
    """A layer ``l.q`` with random contents, its stored tensors and the weights its formula gives."""

    def __init__(
        self, rng: np.random.Generator, changes: dict[str, Any], uneven: bool = False, whole: bool = False
    ) -> None:
        """``uneven``: scales and offsets differ between columns. ``whole``: int8 holds codewords, and b over s."""
        self.config = c = {**VPTQ_PLAIN, **changes}
        (self.ov, self.v), (self.ok, self.k), self.r = c["vector_lens"], c["num_centroids"], c["num_res_centroids"][1]
        groups, size, rows = c["group_num"], c["group_size"], -(-c["out_features"] // self.v)
        self.books = rng.normal(size=(groups, self.k, self.v)).astype(np.float16)
        self.index = rng.integers(0, self.k, (groups, rows, size))
        self.res_books = (rng.normal(size=(groups, max(self.r, 1), self.v)) / 8).astype(np.float16)
        self.res = rng.integers(0, max(self.r, 1), (groups, rows, size))
        self.out_books = rng.normal(size=(max(self.ok, 1), max(self.ov, 1))).astype(np.float16)
        self.out_index = rng.integers(0, max(self.ok, 1), (-(-c["out_features"] // max(self.ov, 1)), c["outlier_size"]))
        self.perm = rng.permutation(c["in_features"])
        spread = rng.uniform(0.5, 2, c["in_features"]) if uneven else np.full(c["in_features"], 1.5)
        offsets = rng.normal(size=c["in_features"]) / 4 * uneven
        self.scale, self.bias = spread.astype(np.float16), offsets.astype(np.float16)
        if whole:
            self._make_whole(rng)

    def _make_whole(self, rng: np.random.Generator) -> None:
        """Integers of which none, and no sum of two, passes 127, which one sum and one offset reach: steps are 1."""
        for name in ("books", "res_books", "out_books"):
            setattr(self, name, rng.integers(-63, 64, getattr(self, name).shape).astype(np.float16))
        self.books[0, 0, 0], self.res_books[0, 0, 0], self.index[0, 0, 0], self.res[0, 0, 0] = 64, 63, 0, 0
        steps = rng.integers(-127, 128, self.bias.shape)
        steps[0] = 127
        self.bias = np.float32(self.scale) * np.float32(steps / 64)  # exact, and over the scales again

    def tensors(self) -> Tensors:
        """As VPTQ stores them; packed rows are streams of ``res << log2 k | index``, least significant bit first."""
        c, found = self.config, {"centroids.weight": self.books.reshape(len(self.books), -1)}
        if self.r > 0:
            found["res_centroids.weight"] = self.res_books.reshape(len(self.books), -1)
        if c["is_indice_packed"]:
            found["indices"] = self._packed()
        else:
            found |= {"indices": self.index.astype(np.int16), "res_indices": self.res.astype(np.int16)}
        if c["outlier_size"]:
            found["outlier_centroids.weight"] = self.out_books.reshape(1, -1)
            found["outlier_indices"] = self.out_index[None].astype(np.int16)
        if c["enable_perm"]:
            found["perm"] = self.perm.astype(np.int16)
        if c["enable_norm"]:
            found |= {"weight_scale": self.scale, "weight_bias": self.bias}
        return {f"l.q.{name}": np.ascontiguousarray(array) for name, array in found.items()}

    def _packed(self) -> np.ndarray:
        low, high = int(math.log2(self.k)), int(math.log2(self.r)) if self.r > 0 else 0
        words = -(-self.index.shape[2] * (low + high) // 32)
        packed = np.zeros((*self.index.shape[:2], words), np.int64)
        for g, row in np.ndindex(*self.index.shape[:2]):
            stream = 0
            for at in range(self.index.shape[2]):
                field = int(self.index[g, row, at]) | int(self.res[g, row, at]) << low
                stream |= field << at * (low + high)
            packed[g, row] = [stream >> 32 * word & 0xFFFFFFFF for word in range(words)]
        return packed.astype(np.uint32).view(np.int32)

    def weights(self) -> np.ndarray:
        """VPTQ's formula, a weight at a time."""
        c = self.config
        coded = np.zeros((c["out_features"], c["in_features"]), np.float32)
        for o, i in np.ndindex(*coded.shape):
            coded[o, i] = self._coded(o, i)
        order = np.argsort(self.perm) if c["enable_perm"] else np.arange(c["in_features"])
        moved = coded[:, order]
        return moved * np.float32(self.scale) + np.float32(self.bias) if c["enable_norm"] else moved

    def _coded(self, o: int, i: int) -> np.float32:
        if i < self.config["outlier_size"]:
            return np.float32(self.out_books[self.out_index[o // self.ov, i], o % self.ov])
        g, at = divmod(i - self.config["outlier_size"], self.config["group_size"])
        value = np.float32(self.books[g, self.index[g, o // self.v, at], o % self.v])
        if self.r > 0:
            value += np.float32(self.res_books[g, self.res[g, o // self.v, at], o % self.v])
        return value

    def write(self, folder: Path) -> Path:
        """A folder (made if need be) with weights and ``config.json``."""
        folder.mkdir(exist_ok=True)
        save_file(self.tensors(), folder / "model.safetensors")
        config = {"quant_method": "vptq", "config_for_layers": {"l.q": self.config}}
        (folder / "config.json").write_text(json.dumps({"quantization_config": config}))
        return folder


def resnet_state(
    blueprint_tensors: dict[str, tuple[int, ...]], rng: np.random.Generator, tool: str
) -> tuple[Any, Weights]:
    """A ResNet as BGD or PQF compress it (codebooks kept small), and the weights of its compressed layers."""
    state: dict[str, Any] = {}
    weights: Weights = {}
    for name, shape in blueprint_tensors.items():
        module, _, part = name.rpartition(".")
        if name.endswith(("running_mean", "running_var")):
            continue
        if part == "weight" and len(shape) > 1 and module != "conv1":
            d = 9 if shape[-1] == 3 else 4
            words = torch.from_numpy(rng.normal(size=(16, d)) / 16).half()
            codes = rng.integers(0, 16, (shape[0], math.prod(shape[1:]) // d))
            weights[name] = np.float32(words.numpy())[codes].reshape(shape)
            state |= _bgd(module, shape, words, codes) if tool == "bgd" else _pqf(module, words, codes)
        else:
            gain = rng.choice([-1, 1], shape) if part == "weight" and len(shape) == 1 else 1
            value = torch.from_numpy(rng.uniform(0.5, 1, shape) * gain * 0.1).half()
            weights[name] = np.float32(value.numpy())
            if tool == "bgd":
                module = "fc_bias" if name == "fc.bias" else module
                state.setdefault(module, {})[part] = torch.nn.Parameter(value) if module == "fc_bias" else value
            else:
                state[name] = value
    return state, weights


def _bgd(module: str, shape: tuple[int, ...], words: torch.Tensor, codes: np.ndarray) -> dict[str, Any]:
    """``assignments`` block after block: index ``b*C_out + o``."""
    conv = len(shape) == 4
    flat = torch.from_numpy(np.ascontiguousarray(codes.T).reshape(-1))
    row = {"centroids": words, "assignments": flat.short() if module == "fc" else flat.byte()}
    return {module: row | {"n_blocks": codes.shape[1], "is_conv": conv, "k": shape[2] if conv else 1}}


def _pqf(module: str, words: torch.Tensor, codes: np.ndarray) -> dict[str, Any]:
    return {f"{module}.codebook": words, f"{module}.codes_matrix": torch.from_numpy(codes).byte()}
