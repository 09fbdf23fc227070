"""VPTQ: vectors along the output, residual codebooks, outlier columns (arXiv 2409.17066; package ``vptq`` 0.0.5).

Settings are in ``config.json`` (``config_for_layers``, else ``shared_layer_config`` by the last part of the name); its
pairs are [outlier, main], -1 for none. Of G column groups with S columns each, vector-row r and column c:
``W0[r*v+j, g*S+c] = centroids[g, idx[g,r,c], j] (+ res_centroids[g, res[g,r,c], j])``; outlier columns, coded with
vectors of their own, come before. ``W1 = W0[:, argsort(perm)]`` and ``W = W1 * weight_scale + weight_bias``, per input
column. ``indices`` are 32-bit words holding S fields ``res << log2 K | idx`` a row, or unpacked 16-bit integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel.errors import ModelError
from compiler.importers.fields import unpack_fields
from compiler.importers.foreign import (
    Checkpoint,
    Coding,
    ColumnNorm,
    ForeignLayer,
    Indices,
    Matrix,
    Tensors,
    placed,
    refuse_strays,
)
from compiler.importers.source import Source, modules, remaining, taken

PARTS = ("centroids.weight", "indices", "res_centroids.weight", "res_indices", "outlier_centroids.weight",
         "outlier_indices", "perm", "weight_scale", "weight_bias")  # fmt: skip
PAIRS = ("vector_lens", "num_centroids", "num_res_centroids")
NUMBERS = ("in_features", "out_features", "group_num", "group_size", "outlier_size")  # as in _Settings


@dataclass(frozen=True, slots=True)
class _Settings:
    """What ``config.json`` says of a layer, checked only against the tensors."""

    in_features: int
    out_features: int
    groups: int
    group_size: int
    outliers: int
    v: int
    k: int
    res_k: int
    outlier_v: int
    outlier_k: int
    packed: bool

    def __post_init__(self) -> None:
        if min(self.v, self.out_features) < 1:
            raise ModelError(f"vector_lens[1]={self.v}, out_features={self.out_features}; allowed: at least 1")
        sizes = (self.in_features, self.groups, self.group_size)
        if min(sizes) < 1 or self.outliers < 0 or self.in_features != self.groups * self.group_size + self.outliers:
            raise ModelError(
                f"in_features={self.in_features}, group_num={self.groups}, group_size={self.group_size}, "
                f"outlier_size={self.outliers}: the groups and outliers do not add up to the columns"
            )
        for what, k in (("num_centroids", self.k), ("num_res_centroids", self.res_k)):
            if not (2 <= k <= 1 << 16 and k & (k - 1) == 0) and not (what == "num_res_centroids" and k <= 0):
                raise ModelError(f"{what}={k}; allowed: a power of two, 2 to {1 << 16}")

    @property
    def bits(self) -> tuple[int, int]:
        """Of an index and of a residual index."""
        return self.k.bit_length() - 1, max(self.res_k, 1).bit_length() - 1


def is_vptq(tensors: Tensors) -> bool:
    """Whether some module has centroids and indices."""
    return any(f"{name}.indices" in tensors for name in modules(tensors, "centroids.weight"))


def read_vptq(source: Source) -> Checkpoint:
    """All layers; raises ``ModelError`` naming the one at fault."""
    config = source.quantization_config()
    layers, used = {}, set[str]()
    for module in modules(source.tensors, "centroids.weight"):
        if module.endswith((".res_centroids", ".outlier_centroids")):
            continue
        try:
            layers[f"{module}.weight"] = _layer(module, _settings(module, config), source.tensors)
        except ModelError as error:
            raise ModelError(f"{source.path}: layer '{module}': {error}") from error
        used.update(f"{module}.{part}" for part in PARTS)
    return Checkpoint(layers, remaining(source.tensors, used))


def _settings(module: str, config: Mapping[str, Any]) -> _Settings:
    rows, shared = (config.get(key) or {} for key in ("config_for_layers", "shared_layer_config"))
    try:
        row = rows.get(module) or shared[module.rpartition(".")[2]]
        (outlier_v, v), (outlier_k, k), (outlier_res, res_k) = (row[key] for key in PAIRS)
        in_features, out_features, groups, group_size, outliers = (row[key] for key in NUMBERS)
        packed = bool(row.get("is_indice_packed", False))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"config.json lacks a setting: {type(error).__name__} {error}") from error
    numbers = (in_features, out_features, groups, group_size, outliers, v, k, res_k, outlier_v, outlier_k)
    if any(type(number) is not int for number in (*numbers, outlier_res)) or outlier_res > 0:
        raise ModelError(f"settings {list(numbers)} in config.json; expected whole numbers, no residual for outliers")
    return _Settings(*numbers, packed)


def _layer(module: str, settings: _Settings, tensors: Tensors) -> ForeignLayer:
    stages = [_grouped(module, settings, tensors, number) for number in range(2 if settings.res_k > 0 else 1)]
    codes, books = np.stack([codes for codes, _ in stages]), [words for _, words in stages]
    outlier = _outliers(module, settings, tensors) if settings.outliers else None
    order = _column_order(module, settings, tensors)  # after the tensors that bear out how many columns there are
    scale, bias = _norm(module, settings, tensors)
    shape = (settings.out_features, settings.in_features)
    form = _form(settings)
    if obstacle := _obstacle(settings):
        main = Coding(codes, tuple(books), "out", np.ones(1, np.float32))
        dense = _dense(main, outlier, settings)[:, order] * scale + bias
        return ForeignLayer(form, shape, dense=dense.astype(np.float32), obstacle=obstacle)
    if outlier is not None:
        codes, books = _with_outliers(codes, books, *outlier)
    even = bool((scale == scale[0]).all())  # one scale for all columns is the layer's
    layer_scale, scale = (scale[:1].copy(), np.ones_like(scale)) if even else (np.ones(1, np.float32), scale)
    norm = ColumnNorm(scale, bias)
    tables = settings.groups + (outlier is not None)
    coding = Coding(codes[:, :, order], tuple(books), "out", layer_scale, tables=tables)
    return ForeignLayer(form, shape, coding, norm=norm if norm.parts else None)


def _form(settings: _Settings) -> str:
    parts = [f"v{settings.v} k={settings.k}"]
    parts += [f"+{settings.res_k}"] if settings.res_k > 0 else []
    parts += [f"{settings.groups} groups"] if settings.groups > 1 else []
    parts += [f"{settings.outliers} outliers"] if settings.outliers else []
    return " ".join(parts)


def _obstacle(settings: _Settings) -> str:
    if settings.outliers and settings.outlier_v != settings.v:
        return f"outlier columns have vectors of {settings.outlier_v}, the others of {settings.v}"
    return ""


def _grouped(module: str, settings: _Settings, tensors: Tensors, stage: int) -> tuple[Indices, Matrix]:
    """Codes ``[rows, G*S]`` of a stage and its codebooks one after another, ``[G*k, v]``."""
    k, part = ((settings.k, "centroids"), (settings.res_k, "res_centroids"))[stage]
    words = taken(tensors, f"{module}.{part}.weight", 2, "f").astype(np.float32)
    if words.shape != (settings.groups, k * settings.v):
        raise ModelError(f"{part} {list(words.shape)}; expected [{settings.groups}, {k}*{settings.v}]")
    codes = _indices(module, settings, tensors, stage)
    refuse_strays(codes, k, f" of {part}")
    codes = codes + k * np.arange(settings.groups)[:, None, None]
    return codes.transpose(1, 0, 2).reshape(codes.shape[1], -1), words.reshape(-1, settings.v)


def _indices(module: str, settings: _Settings, tensors: Tensors, stage: int) -> Indices:
    """``int64[G, rows, S]``."""
    rows, bits = -(-settings.out_features // settings.v), settings.bits
    if not settings.packed:
        name = f"{module}.{('indices', 'res_indices')[stage]}"
        codes = _uint16(taken(tensors, name, 3, "iuf"), name)
        return np.asarray(_shaped(codes, (settings.groups, rows, settings.group_size)))
    words = taken(tensors, f"{module}.indices", 3, "i")
    if words.dtype.itemsize != 4:
        raise ModelError(f"packed indices of type {words.dtype}; expected int32")
    _shaped(words, (settings.groups, rows, -(-settings.group_size * sum(bits) // 32)))
    fields = unpack_fields(words, sum(bits), settings.group_size)
    return np.asarray(fields >> bits[0] if stage else fields & ((1 << bits[0]) - 1))


def _uint16(stored: Any, name: str) -> Indices:
    """16-bit indices, whatever type they were disguised as."""
    if stored.dtype.itemsize not in (2, 8):
        raise ModelError(f"tensor '{name}' has type {stored.dtype}; expected 16 bits")
    if stored.dtype.itemsize == 8:
        codes = np.asarray(stored, np.int64)
        if (codes != stored).any():
            raise ModelError(f"tensor '{name}' has numbers that are not whole, or beyond 64 bits")
        return codes
    return np.ascontiguousarray(stored).view(np.uint16).astype(np.int64)


def _shaped(array: Any, shape: tuple[int, ...]) -> Any:
    if array.shape != shape:
        raise ModelError(f"indices {list(array.shape)}; expected {list(shape)}")
    return array


def _outliers(module: str, settings: _Settings, tensors: Tensors) -> tuple[Indices, Matrix]:
    """Codes ``[rows, outliers]`` and codebook ``[k, v]`` of the outlier columns."""
    v, k = settings.outlier_v, settings.outlier_k
    if v < 1 or k < 1:
        raise ModelError(f"outlier_size={settings.outliers}, but vector_lens[0]={v} and num_centroids[0]={k}")
    words = taken(tensors, f"{module}.outlier_centroids.weight", 2, "f").astype(np.float32)
    if words.shape != (1, k * v):
        raise ModelError(f"outlier_centroids {list(words.shape)}; expected [1, {k}*{v}]")
    codes = _uint16(taken(tensors, f"{module}.outlier_indices", 3, "iuf"), f"{module}.outlier_indices")
    codes = _shaped(codes, (1, -(-settings.out_features // v), settings.outliers))[0]
    refuse_strays(codes, k, " of outlier_centroids")
    return codes, words.reshape(k, v)


def _with_outliers(
    codes: Indices, books: list[Matrix], outlier_codes: Indices, outlier_words: Matrix
) -> tuple[Indices, list[Matrix]]:
    """Outlier columns in front; their codewords join the first codebook, later stages get a codeword of zeros."""
    stages = [np.concatenate([outlier_codes + len(books[0]), codes[0]], axis=1)]
    joined = [np.concatenate([books[0], outlier_words])]
    for own, words in zip(codes[1:], books[1:], strict=True):
        stages.append(np.concatenate([np.full_like(outlier_codes, len(words)), own], axis=1))
        joined.append(np.concatenate([words, np.zeros((1, words.shape[1]), np.float32)]))
    return np.stack(stages), joined


def _dense(main: Coding, outlier: tuple[Indices, Matrix] | None, settings: _Settings) -> Matrix:
    matrix = main.decode((settings.out_features, settings.in_features - settings.outliers))
    if outlier is None:
        return matrix
    codes, words = outlier
    front = placed(words[codes.reshape(-1)], (settings.out_features, settings.outliers), "out")
    return np.concatenate([front, matrix], axis=1)


def _column_order(module: str, settings: _Settings, tensors: Tensors) -> Indices:
    """``argsort(perm)``: which coded column each input has."""
    name = f"{module}.perm"
    if name not in tensors:
        return np.arange(settings.in_features)
    perm = _uint16(taken(tensors, name, 1, "iuf"), name)
    if not np.array_equal(np.sort(perm), np.arange(settings.in_features)):
        raise ModelError(f"perm is not a permutation of its {settings.in_features} columns")
    return np.argsort(perm)


def _norm(module: str, settings: _Settings, tensors: Tensors) -> tuple[Matrix, Matrix]:
    if f"{module}.weight_scale" not in tensors:
        return np.ones(settings.in_features, np.float32), np.zeros(settings.in_features, np.float32)
    both = [taken(tensors, f"{module}.{part}", 1, "f").astype(np.float32) for part in ("weight_scale", "weight_bias")]
    if any(each.shape != (settings.in_features,) or not np.isfinite(each).all() for each in both):
        raise ModelError(f"weight_scale or weight_bias: expected {settings.in_features} finite numbers")
    return both[0], both[1]
