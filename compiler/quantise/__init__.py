"""Scales of activations: from samples, or nominal ones from operators alone; channel exponents and their folding."""

from __future__ import annotations

from compiler.quantise.calibrate import Calibration, calibrate, calibrate_model, choose_exponents
from compiler.quantise.exponents import ChannelExponents, Exponents, check_codes
from compiler.quantise.floating import evaluate
from compiler.quantise.fold import exponents_of, fold_exponents, packed_values, unfold_exponents
from compiler.quantise.nominal import nominal
from compiler.quantise.ranges import candidate_methods, parse_method
from compiler.quantise.samples import check_samples, random_samples

__all__ = [
    "Calibration",
    "ChannelExponents",
    "Exponents",
    "calibrate",
    "calibrate_model",
    "candidate_methods",
    "check_codes",
    "check_samples",
    "choose_exponents",
    "evaluate",
    "exponents_of",
    "fold_exponents",
    "nominal",
    "packed_values",
    "parse_method",
    "random_samples",
    "unfold_exponents",
]
