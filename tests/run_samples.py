"""Runs made up from a closed form (the longer of computing and waiting for weights), for tests of what reads runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from accel import trace_tracks as tracks
from accel.machine import Machine, load_machine, machine_digest
from accel.metrics import CAUSES, TRAFFIC
from accel.run import LayerRun, Run
from accel.schemas import TRACE_SCHEMA
from accel.trace_events import MILLICYCLES, counter_event, open_trace, slice_event

BITS = {"int8": (8, 0), "int4": (4, 0), "vq:k=256,d=4": (2, 0), "ssvq:k=256,d=8": (1, 1), "ssvq:k=16,d=8": (0.5, 1)}
ROWS = 197  # tokens of DeiT-tiny
PROJECTIONS = (("qkv", 192, 576), ("proj", 192, 192), ("fc1", 192, 768), ("fc2", 768, 192))


def sample_run(codec: str = "int8", machine: Machine | None = None, blocks: int = 12, trained: bool = False) -> Run:
    """A DeiT-like run; vector work costs nothing when the machine has no lanes."""
    machine = machine or load_machine("edge64-ideal")
    layers = tuple(_layers(codec, machine, blocks))
    program = {
        "digest": "0" * 64,
        "model": "sample",
        "codec": codec,
        "source": {"description": {"weights": "trained" if trained else "random"}},
    }
    return Run(
        machine=machine,
        program=program,
        total_cycles=sum(layer.cycles for layer in layers),
        macs=sum(layer.macs for layer in layers),
        cycles_by_cause={cause: sum(layer.cycles_by_cause[cause] for layer in layers) for cause in CAUSES},
        dram_bytes={kind: sum(layer.dram_bytes[kind] for layer in layers) for kind in TRAFFIC},
        energy_joules={"dram": 1e-4 * BITS[codec][0], "array": 5e-5},
        layers=layers,
        notes=("a made-up run",),
    )


def _layers(codec: str, machine: Machine, blocks: int) -> Iterator[LayerRun]:
    for block in range(blocks):
        for name, reduction, columns in PROJECTIONS:
            yield _product(f"transformer.encoder.blocks.{block}.{name}", codec, machine, reduction, columns)
        yield _vector(f"transformer.encoder.blocks.{block}.norm", machine)


def _product(name: str, codec: str, machine: Machine, reduction: int, columns: int) -> LayerRun:
    code_bits, sign_bits = BITS[codec]
    weights = reduction * columns
    traffic = dict.fromkeys(TRAFFIC, 0)
    traffic["indices" if ":" in codec else "weights"] = math.ceil(weights * code_bits / 8)
    traffic |= {"signs": weights * sign_bits // 8, "codebooks": 1024 if ":" in codec else 0, "parameters": 4 * columns}
    tiles = math.ceil(reduction / machine.array.rows) * math.ceil(columns / machine.array.columns)
    compute = tiles * max(ROWS, machine.array.rows)
    memory = math.ceil(sum(traffic.values()) / machine.sustained_bandwidth_bytes_per_cycle)
    causes = dict.fromkeys(CAUSES, 0) | {"compute": compute, "weight_dma": max(0, memory - compute)}
    return _layer(name, "gemm", ROWS * weights, causes, traffic)


def _vector(name: str, machine: Machine) -> LayerRun:
    cycles = 3 * ROWS * 192 // machine.vector.lanes if machine.vector.lanes else 0
    return _layer(name, "vector", 0, dict.fromkeys(CAUSES, 0) | {"vector": cycles}, dict.fromkeys(TRAFFIC, 0))


def _layer(name: str, kind: str, macs: int, causes: dict[str, int], traffic: dict[str, int]) -> LayerRun:
    bound = max(causes, key=lambda cause: causes[cause])
    return LayerRun(name, kind, macs, sum(causes.values()), causes, traffic, bound)


def write_sample_trace(run: Run, path: Path) -> Path:
    """A timeline of ``run``: its layers one after the other, each cause in one piece, DRAM busy while it streams."""
    with open_trace(path) as file:
        file.write(_sample_slices(run))
        file.finish(
            {
                "schema": TRACE_SCHEMA,
                "machine": {"name": run.machine.name, "sha256": machine_digest(run.machine)},
                "program": {"digest": run.program["digest"]},
                "window_cycles": None,
                "total_cycles": run.total_cycles,
            }
        )
    return path


def _sample_slices(run: Run) -> Iterator[str]:
    at, number = 0, count()
    for layer in run.layers:
        name = json.dumps(layer.name)
        for cause, cycles in layer.cycles_by_cause.items():
            end = at + cycles * MILLICYCLES
            about = f'"cause":"{cause}","layer":{name}'
            track = tracks.STREAMS if cause == "compute" else tracks.WAITS
            yield slice_event((tracks.UNITS_PROCESS, track), at, end, name, about)
            if cause == "compute":
                queue = tracks.queue_track(0, next(number) % 2)
                yield slice_event((tracks.UNITS_PROCESS, tracks.FIRST_BUS), at, end, name, about)
                yield slice_event((tracks.QUEUES_PROCESS, queue), at, end, name, about)
            at = end
        yield counter_event(tracks.COUNTERS_PROCESS, at, tracks.memory_counter("activation"), {"bytes": 4096})
