"""Post-training compression: k-means codebooks, integer rounding, scales; a graph and its weights become ``Packed``."""

from __future__ import annotations

from compiler.compress.budget import Budget, Spending
from compiler.compress.layer import compress_layer, relative_error
from compiler.compress.model import Compression, LayerReport, calibrated, compress
from compiler.compress.scales import SCALE_MODES, ScaleMode

__all__ = [
    "SCALE_MODES",
    "Budget",
    "Compression",
    "LayerReport",
    "ScaleMode",
    "Spending",
    "calibrated",
    "compress",
    "compress_layer",
    "relative_error",
]
