"""What every importer yields: weights as another tool stores them, decoded exactly, before anything is rounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.codecs import VectorAxis
from accel.errors import ModelError
from accel.graph import Shape, gemm_shape

Matrix = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Tensors = Mapping[str, npt.NDArray[Any]]


def refuse_strays(codes: Indices, entries: int, where: str = "") -> None:
    """Raise ``ModelError`` for codes without codeword; NumPy would read those below 0 from the end."""
    low, high = int(codes.min()), int(codes.max())
    if low < 0 or high >= entries:
        raise ModelError(f"code {low if low < 0 else high}{where} is out of range; allowed: 0 to {entries - 1}")


@dataclass(frozen=True, slots=True)
class Coding:
    """A matrix whose vectors are sums of codewords: ``W[out, reduction] = scale * (C_1[a_1] + C_2[a_2] + ...)``.

    ``codes[stages, rows, columns]`` index ``codebooks`` (float32 ``[k, d]`` each, k free); rows and columns are those
    of ``accel.codecs.codes_shape``. ``scale`` is float32 ``[1]`` or ``[out]``. ``row_groups`` above 1 says that the
    codebook is made of so many equal parts and that equal runs of output channels use one each; ``tables``, of
    how many of the tool's own the first codebook was put together, for remarks. Raises ``ModelError``
    for codes without codeword and arrays that do not fit together.
    """

    codes: Indices
    codebooks: tuple[Matrix, ...]
    vector_axis: VectorAxis
    scale: Matrix
    row_groups: int = 1
    tables: int = 1

    def __post_init__(self) -> None:
        if self.codes.ndim != 3 or len(self.codes) != len(self.codebooks) or not self.codes.size:
            raise ModelError(f"codes of shape {list(self.codes.shape)} for {len(self.codebooks)} codebooks")
        if any(words.ndim != 2 or words.shape[1] != self.vector_length for words in self.codebooks):
            raise ModelError(f"codebooks of shapes {[list(words.shape) for words in self.codebooks]}; expected [k, d]")
        for stage, (codes, words) in enumerate(zip(self.codes, self.codebooks, strict=True)):
            refuse_strays(codes, len(words), f" of codebook {stage}" if len(self.codebooks) > 1 else "")
        if not all(np.isfinite(each).all() for each in (*self.codebooks, self.scale)):
            raise ModelError("a codeword or scale is NaN or infinite")
        if self._reach() > np.finfo(np.float32).max:
            raise ModelError(f"codewords and scales that make weights up to {self._reach():.3g}: NaN or infinite")

    def _reach(self) -> float:
        """No weight is larger: the largest elements of all codebooks and the largest scale together."""
        return sum(float(np.abs(words).max()) for words in self.codebooks) * float(np.abs(self.scale).max())

    @property
    def vector_length(self) -> int:
        """Weights per codeword (d)."""
        return int(self.codebooks[0].shape[1])

    def vectors(self) -> Matrix:
        """``float32[n, d]``: the sums of codewords, in row-major order of the codes."""
        total: Matrix = self.codebooks[0][self.codes[0].reshape(-1)]
        for codes, words in zip(self.codes[1:], self.codebooks[1:], strict=True):
            total += words[codes.reshape(-1)]
        return total

    def decode(self, shape: tuple[int, int]) -> Matrix:
        """``float32[out, reduction]``, as the tool itself decodes in float32."""
        return placed(self.vectors(), shape, self.vector_axis) * self.scale[:, None]


def placed(vectors: Matrix, shape: tuple[int, int], vector_axis: VectorAxis) -> Matrix:
    """Vectors ``[n, d]`` at their places in the matrix of ``shape``; what is padded beyond it is dropped."""
    (out, reduction), length = shape, vectors.shape[1]
    if vector_axis == "in":
        return np.ascontiguousarray(vectors.reshape(out, -1)[:, :reduction])
    return np.ascontiguousarray(vectors.reshape(-1, reduction, length).transpose(0, 2, 1).reshape(-1, reduction)[:out])


@dataclass(frozen=True, slots=True)
class ColumnNorm:
    """What comes after decoding: each input column times its ``scale`` plus its ``offset``, float32 ``[reduction]``."""

    scale: Matrix
    offset: Matrix

    def __post_init__(self) -> None:
        if self.scale.ndim != 1 or self.scale.shape != self.offset.shape:
            raise ModelError(f"scales {list(self.scale.shape)} and offsets {list(self.offset.shape)} of input columns")
        if not (np.isfinite(self.scale).all() and np.isfinite(self.offset).all()):
            raise ModelError("a scale or offset of an input column is NaN or infinite")

    @property
    def has_scales(self) -> bool:
        """Whether some scale is not 1."""
        return bool((self.scale != 1).any())

    @property
    def has_offsets(self) -> bool:
        """Whether some offset is not 0."""
        return bool(self.offset.any())

    @property
    def parts(self) -> str:
        """In words."""
        return " and ".join(["scales"] * self.has_scales + ["offsets"] * self.has_offsets)


@dataclass(frozen=True, slots=True)
class ForeignLayer:
    """One weight: ``form`` is the tool's own notation (``1x16 g8``), ``shape`` the tensor's, [out, ...].

    Either ``coding`` holds it or, where no codec of ours could, ``dense`` (float32 ``[out, reduction]``) with the
    ``obstacle`` in words. A coded layer may have a ``norm`` that does something.
    """

    form: str
    shape: Shape
    coding: Coding | None = None
    dense: Matrix | None = None
    obstacle: str = ""
    norm: ColumnNorm | None = None

    def __post_init__(self) -> None:
        if (self.coding is None) == (self.dense is None) or (self.dense is None) == bool(self.obstacle):
            raise AssertionError("a layer is coded, or dense for a reason")
        if self.norm is not None and (self.coding is None or not self.norm.parts):
            raise AssertionError("a norm is part of a coded layer and does something")
        if self.dense is not None and self.dense.shape != self.matrix_shape:
            raise ModelError(f"weights of shape {list(self.dense.shape)}; expected {list(self.matrix_shape)}")
        if self.dense is not None and not np.isfinite(self.dense).all():
            raise ModelError("some weights are NaN or infinite")
        if self.coding is not None:
            self._check(self.coding)

    def _check(self, coding: Coding) -> None:
        (out, reduction), d = self.matrix_shape, coding.vector_length
        expected = (-(-out // d), reduction) if coding.vector_axis == "out" else (out, -(-reduction // d))
        if coding.codes.shape[1:] != expected:
            raise ModelError(
                f"codes of shape {list(coding.codes.shape[1:])}; {list(self.shape)} needs {list(expected)}"
            )
        if coding.scale.shape not in ((1,), (out,)):
            raise ModelError(f"scales of shape {list(coding.scale.shape)}; allowed: [1] or [{out}]")
        if self.norm is not None and len(self.norm.scale) != reduction:
            raise ModelError(f"{len(self.norm.scale)} scales of input columns; expected {reduction}")
        if self.norm is not None and not np.isfinite(self.values()).all():
            raise ModelError("some weights are NaN or infinite")

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """``(out, reduction)``."""
        return gemm_shape(self.shape)

    def values(self) -> Matrix:
        """The exact weights, ``float32[out, reduction]``."""
        if self.coding is not None:
            coded = self.coding.decode(self.matrix_shape)
            return coded if self.norm is None else coded * self.norm.scale + self.norm.offset
        assert self.dense is not None
        return self.dense


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All of a foreign file: ``layers`` by the name of their weight, every other tensor in ``tensors``.

    ``folded_norms``: batch normalisations hold gain and offset alone, with statistics 0 and 1. ``flat_names``: names
    lost their dots, and have what the exporter appended (``fc_weight_cast_fp16`` for ``fc.weight``). ``notes`` say what
    of the file was left out. ``biases``: tensors that are layers' biases, by layer, where names do not tell.
    """

    layers: Mapping[str, ForeignLayer]
    tensors: Tensors
    folded_norms: bool = False
    flat_names: bool = False
    notes: tuple[str, ...] = ()
    biases: Mapping[str, str] = field(default_factory=dict)

    def bias_name(self, layer: str) -> str:
        """The tensor that would be the bias of ``layer``; "" for none."""
        return self.biases.get(layer, "") if self.flat_names else f"{layer.removesuffix('.weight')}.bias"
