"""Whole weight streams of programs through a decoder in Verilator: what comes out has the digest the program names."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decoder_coverage import groups
from decoder_runs import run_scenarios, weights_of
from decoder_scenarios import Scenario, Stalls
from test_rtl_top_program import layer_of, matrix
from weight_cases import random_layer, weight_program

from accel.codecs import parse_codec
from accel.machine import load_machine
from accel.program import Program, WeightStream
from compiler import compile_model
from compiler.compress import compress
from compiler.frontend import load_model
from rtl.configuration import DecoderConfig
from rtl.vectors import LayerVectors, OutputBeat

pytestmark = pytest.mark.rtl

CODEC = "ssvq:k=256,d=8"
CONFIG = DecoderConfig(parse_codec(CODEC), 4)  # 32 weights a cycle: the build of test_rtl_cocotb
# Zoo model -> the layer that is compressed by CODEC; the others are int8, which takes no time.
LAYERS = {"minilm": "encoder.layer.3.intermediate.dense", "vit_s14": "encoder.layer.3.mlp.fc1"}


def sized_layer(program: Program, stream: WeightStream) -> LayerVectors:
    """A stream whose weights are known by their digest alone: what is expected are sizes and ends of tiles."""
    layer = layer_of(CONFIG, program, stream)
    size = CONFIG.vector_length
    output = tuple(OutputBeat(bytes(group.vectors * size), group.ends_tile) for group in groups(CONFIG, [layer]))
    return replace(layer, output=output)


def decoded_digest(program: Program, stream: WeightStream, folder: Path, stalls: Stalls) -> str:
    layer = sized_layer(program, stream)
    scenario = Scenario("stream", [layer], stalls, unknown=range(len(layer.output)))
    began = time.perf_counter()
    run_scenarios(CONFIG, [scenario], folder, "verilator")
    seconds = time.perf_counter() - began
    weights = matrix(stream, CONFIG.vector_length, [OutputBeat(weights_of(folder, "stream"), True)])
    logging.getLogger(__name__).info("%s: %d weights in %.1f s", stream.weight, weights.size, seconds)
    return hashlib.sha256(np.ascontiguousarray(weights)).hexdigest()


def test_a_million_weights(tmp_path: Path) -> None:
    program = weight_program([random_layer(CODEC, (1024, 1024), "out", np.random.default_rng(1))], 64, 64)
    (stream,) = program.streams
    assert decoded_digest(program, stream, tmp_path, Stalls()) == stream.digest


@pytest.mark.network
@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_real_networks(name: str, tmp_path: Path) -> None:
    model = load_model(f"zoo:{name}")
    kept = [(f"{LAYERS[name]}*", parse_codec(CODEC))]
    packed = compress(model.graph, model.weights, parse_codec("int8"), kept).packed
    program = compile_model(packed, load_machine("edge64"))
    (stream,) = (row for row in program.streams if row.codec == CODEC)
    assert decoded_digest(program, stream, tmp_path, Stalls(output=(0.1, 8))) == stream.digest
