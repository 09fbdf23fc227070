"""Post-training compression: k-means codebooks, integer rounding, scales; a graph and its weights become ``Packed``."""

from __future__ import annotations

from compiler.compress.budget import Budget, Spending
from compiler.compress.choices import check_of_use, codec_choices
from compiler.compress.layer import compress_layer, relative_error
from compiler.compress.model import Compression, LayerReport, calibrated, compress, layer_report
from compiler.compress.scales import SCALE_MODES, ScaleMode

__all__ = [
    "SCALE_MODES",
    "Budget",
    "Compression",
    "LayerReport",
    "ScaleMode",
    "Spending",
    "calibrated",
    "check_of_use",
    "codec_choices",
    "compress",
    "compress_layer",
    "layer_report",
    "relative_error",
]
