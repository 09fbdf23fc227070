"""Weight streams as a program holds them, through the hardware: what is decoded has the digest the program names."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from decoder_bench import packet_beats, run_layers
from weight_cases import random_layer, weight_program

from accel.codecs import parse_codec
from accel.errors import ConfigError
from accel.program import Program, WeightStream
from accel.tiles import TileShape, tile_runs
from rtl.configuration import DecoderConfig
from rtl.layer import plan_of_stream
from rtl.vectors import LayerVectors, OutputBeat

pytestmark = pytest.mark.rtl


def layer_of(config: DecoderConfig, program: Program, stream: WeightStream) -> LayerVectors:
    """What hardware gets of a stream; the output is only counted, not known."""
    plan = plan_of_stream(config, stream)
    data = program.image[stream.address :].tobytes()
    ends = np.cumsum([0, *(strip.beats * config.input_bits // 8 for strip in plan)]).tolist()
    assert ends[-1] == stream.blocks * 64
    book = program.image[stream.codebook_address : stream.codebook_address + stream.codebook_bytes].tobytes()
    beats = sum(
        (strip.tiles - 1) * -(-strip.vectors // config.lookups) + -(-strip.last_vectors // config.lookups)
        for strip in plan
    )
    packets = tuple(data[start:end] for start, end in pairwise(ends))
    return LayerVectors(plan, book, packets, (OutputBeat(b"", False),) * beats)


def matrix(stream: WeightStream, length: int, output: list[OutputBeat]) -> npt.NDArray[np.int8]:
    """``int8[out, reduction]`` from vectors, tile after tile."""
    weights = np.zeros((stream.columns, stream.rows), np.int8)
    vectors = np.frombuffer(b"".join(beat.weights for beat in output), np.int8).reshape(-1, length)
    at = row = column = 0
    for run in tile_runs(stream.rows, stream.columns, TileShape(stream.tile_rows, stream.tile_columns, 1), 1):
        for _ in range(run.count):
            rows, columns = run.shape.rows, run.shape.columns
            if stream.vector_axis == "in":
                high = -(-rows // length)
                part = vectors[at : at + high * columns].reshape(high, columns, length)
                tile = part.transpose(1, 0, 2).reshape(columns, -1)[:, :rows]
            else:
                high = -(-columns // length)
                tile = vectors[at : at + high * rows].reshape(rows, -1)[:, :columns].T
            at += high * (columns if stream.vector_axis == "in" else rows)
            weights[column : column + columns, row : row + rows] = tile
            row += rows
            if row == stream.rows:
                row, column = 0, column + columns
    assert at == len(vectors)
    return weights


@pytest.mark.parametrize("axis", ["out", "in"])
@pytest.mark.parametrize(("spelling", "lookups"), [("ssvq:k=16,d=8", 2), ("ssvq:k=256,d=8", 4), ("vq:k=32,d=4", 2)])
def test_decoded_streams_have_the_digest_of_the_program(spelling: str, lookups: int, axis: str) -> None:
    rng = np.random.default_rng(4)
    program = weight_program([random_layer(spelling, (21, 37), axis, rng)], tile_rows=16, tile_columns=8)
    config = DecoderConfig(parse_codec(spelling), lookups)
    stream = program.streams[0]
    layer = layer_of(config, program, stream)
    run = run_layers(config, [layer], codebook=packet_beats(layer.codebook, 8))
    decoded = matrix(stream, config.vector_length, run.output)
    assert hashlib.sha256(np.ascontiguousarray(decoded)).hexdigest() == stream.digest
    assert run.registers["LAYERS_DONE"] == 1


def test_streams_of_other_codecs_are_refused() -> None:
    program = weight_program([random_layer("ssvq:k=16,d=8", (21, 37), "out", np.random.default_rng(4))])
    config = DecoderConfig(parse_codec("ssvq:k=8,d=8"))
    for codec in ("ssvq:k=16,d=8", "vq:k=8,d=8", "ssvq:k=8,d=4"):
        stream = replace(program.streams[0], codec=codec)
        with pytest.raises(ConfigError, match=rf"^weight 'w0': codec {codec}; allowed: ssvq:k=8,d=8 or fewer"):
            plan_of_stream(config, stream)
