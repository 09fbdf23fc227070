"""One model in one format: compressed, executed on all inputs as compiled programs, scored, and timed on machines."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from accel.codecs import parse_codec
from accel.machine import load_machine
from accel.packed import Packed
from accel.quantisation import dequantise
from accel.run import Run
from benchmarks.quality_models import Array, Subject, cut, fitted
from compiler import compile_model
from compiler.compress import compress
from compiler.interpreter import interpret
from compiler.quantise import evaluate
from sim import simulate
from sim.functional import execute

VALUES_ON = "edge64"  # the machine whose programs are executed: values do not depend on it
WEIGHT_TRAFFIC = ("weights", "indices", "signs", "codebooks", "scales")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one inference moves and takes on a machine."""

    machine: str
    weight_bytes: int
    dram_bytes: int
    cycles: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Quality:
    """Scores of one format and what it costs; ``cpu_seconds`` an inference of the functional simulator takes."""

    codec: str
    bits_per_weight: float
    values: Mapping[str, float]
    cpu_seconds: float
    costs: tuple[Cost, ...]


def float_outputs(subject: Subject) -> Array:
    """Outputs [N, ...] of the float model for all inputs."""
    found: list[Array] = []
    for batch in _batches(subject.inputs, subject.batch):
        graph = subject.graph_of(batch.shape)
        weights = cut(subject.weights, graph)
        found.append(_split(evaluate(graph, weights, {subject.input_name: batch})[subject.output_name], len(batch)))
    return np.concatenate(found)


def measure(subject: Subject, codec: str, method: str, machines: Sequence[str], wanted: Array) -> Quality:
    """Compress, execute, score against the float model's outputs ``wanted``, and simulate on ``machines``."""
    result = compress(
        subject.graph, subject.weights, parse_codec(codec), calibration=subject.calibration, method=method
    )
    found, seconds = executed_outputs(subject, result.packed)
    if subject.executed < len(subject.inputs):
        found = _interpreted_outputs(subject, result.packed, found)
    costs = tuple(_cost(subject, result.packed, machine) for machine in machines)
    stored = 8 * sum(sum(report.bytes_by_kind.values()) for report in result.reports)
    weights = sum(report.shape[0] * report.shape[1] for report in result.reports)
    return Quality(codec, stored / weights, subject.score(found, wanted), seconds, costs)


def executed_outputs(subject: Subject, packed: Packed) -> tuple[Array, float]:
    """Outputs of compiled programs for the first inputs, and CPU seconds each took; a program serves all of a shape."""
    found: dict[int, Array] = {}
    machine, seconds = load_machine(VALUES_ON), 0.0
    order = sorted(range(subject.executed), key=lambda index: subject.inputs[index].shape)
    for shape, indices in groupby(order, key=lambda index: subject.inputs[index].shape):
        program = compile_model(fitted(packed, subject.graph_of(shape)), machine)
        for index in indices:
            start = time.process_time()
            found[index] = execute(program, {subject.input_name: subject.inputs[index]})[subject.output_name]
            seconds += time.process_time() - start
    return np.stack([found[index] for index in range(subject.executed)]), seconds / subject.executed


def _interpreted_outputs(subject: Subject, packed: Packed, executed: Array) -> Array:
    """Outputs of the interpreter for all inputs, which must be those of the programs wherever these were executed."""
    found: list[Array] = []
    assert packed.quantisation is not None
    code = packed.quantisation.tensors[subject.output_name]
    for batch in _batches(subject.inputs, subject.batch):
        model = fitted(packed, subject.graph_of(batch.shape))
        codes = interpret(model, {subject.input_name: batch})[subject.output_name]
        found.append(_split(dequantise(codes, code), len(batch)))
    outputs = np.concatenate(found)
    if not np.array_equal(outputs[: len(executed)], executed):
        raise AssertionError(f"{subject.graph.name}: a program's outputs differ from the interpreter's")
    return outputs


def _batches(inputs: Sequence[Array], size: int) -> list[Array]:
    return [np.concatenate(inputs[start : start + size]) for start in range(0, len(inputs), size)]


def _split(outputs: Array, count: int) -> Array:
    """Outputs of a batch as [count, 1, ...]."""
    return outputs.reshape(count, 1, *outputs.shape[1:])


def _cost(subject: Subject, packed: Packed, machine: str) -> Cost:
    program = compile_model(fitted(packed, subject.graph_of(subject.cost_shape)), load_machine(machine))
    run: Run = simulate(program)
    weights = sum(run.dram_bytes[kind] for kind in WEIGHT_TRAFFIC)
    return Cost(machine, weights, run.dram_bytes_total, run.total_cycles, run.seconds)
