"""The whole chain on random networks, codecs and machines: compile, prove, simulate, and what must hold of it all."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from strategies import codings, graphs, machines, pack_randomly, uses_of_weights

from accel.check import check_compiled
from accel.errors import CompileError
from accel.graph import Graph, gemm_shape, weight_name
from accel.isa import BLOCK_BYTES, decode_program
from accel.program import Program, read_program, write_program
from accel.run import Run
from compiler import compile_model
from sim import check_weights, simulate


def graph_macs(graph: Graph) -> int:
    """Multiply-accumulates, from shapes alone."""
    total = 0
    for op in graph.ops:
        out = graph.shapes[op.output]
        if op.kind == "conv":
            total += math.prod(out) * gemm_shape(graph.shapes[weight_name(op)])[1]
        elif op.kind in ("gemm", "matmul"):
            total += math.prod(out) * graph.shapes[op.inputs[0]][-1]
    return total


def loads_of_blocks(program: Program) -> dict[str, np.ndarray]:
    """How often LDW loads each block of each weight."""
    counts = np.zeros(program.dram_bytes // BLOCK_BYTES + 1, np.int64)
    for instruction in decode_program(program.words):
        if instruction.mnemonic == "LDW":
            first = instruction["address"] // BLOCK_BYTES
            counts[first : first + instruction["blocks"]] += 1
    found: dict[str, list[np.ndarray]] = {}
    for stream in program.streams:
        first = stream.address // BLOCK_BYTES
        found.setdefault(stream.weight.partition("[")[0], []).append(counts[first : first + stream.blocks])
    assert counts.sum() == sum(part.sum() for parts in found.values() for part in parts)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def bytes_stored(program: Program) -> np.ndarray:
    """Which bytes of DRAM an STA writes."""
    written = np.zeros(program.dram_bytes, bool)
    for instruction in decode_program(program.words):
        if instruction.mnemonic == "STA":
            for row in range(instruction["rows"]):
                start = instruction["address"] + row * instruction["stride"]
                written[start : start + instruction["row_bytes"]] = True
    return written


def check_loads(program: Program, graph: Graph) -> None:
    reloaded = bool(program.report["reloaded_weights"])
    for name, uses in uses_of_weights(graph).items():
        counts = loads_of_blocks(program)[name]
        assert counts.min() >= 1, name
        assert reloaded or counts.max() <= uses, name


def check_outputs(program: Program) -> None:
    written = bytes_stored(program)
    for port in program.outputs:
        index = np.indices(port.shape).reshape(len(port.shape), -1)
        offsets = port.address + np.array(port.strides) @ index if port.shape else np.array([port.address])
        assert written[offsets].all(), port.name


def check_run(run: Run, program: Program, graph: Graph, batch: int) -> None:
    assert sum(run.cycles_by_cause.values()) == run.total_cycles
    assert sum(run.dram_bytes.values()) == run.dram_bytes_total
    assert sum(layer.cycles for layer in run.layers) == run.total_cycles
    assert run.macs == graph_macs(graph) * batch
    machine = program.machine
    assert run.total_cycles >= run.dram_bytes_total / machine.bandwidth_bytes_per_cycle * (1 - 1e-6)
    assert run.total_cycles >= run.macs / machine.macs_per_cycle


def check_files(program: Program, again: Program, folder) -> None:
    paths = [folder / "a.prog.safetensors", folder / "b.prog.safetensors"]
    for path, each in zip(paths, (program, again), strict=True):
        write_program(each, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    write_program(read_program(paths[0]), paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(), codings(), machines(), st.sampled_from((1, 1, 1, 2)))
def test_whatever_compiles_is_right(tmp_path_factory, graph, coding, machine, batch) -> None:
    packed = pack_randomly(graph, coding)
    try:
        program = compile_model(packed, machine, batch=batch, verify=True)
    except CompileError as error:
        event("refused")
        assert "\n" not in str(error) and str(error)
        return
    event(f"compiled, {'spilled' if program.report['spilled'] else 'resident'}")
    check_compiled(program)
    check_weights(program)
    check_loads(program, graph)
    check_outputs(program)
    check_run(simulate(program), program, graph, batch)
    check_files(program, compile_model(packed, machine, batch=batch), tmp_path_factory.getbasetemp())
