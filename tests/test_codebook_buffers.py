"""One codebook buffer instead of two: codebooks wait for the layer before, and nothing is ever read too late."""

from __future__ import annotations

import pytest
from strategies import Coding, pack_randomly

from accel.check import check_compiled, check_program
from accel.errors import IsaError
from accel.graph import Graph, GraphBuilder
from accel.isa import decode_program
from accel.machine import load_machine
from accel.packed import Packed
from accel.run import Run
from compiler import compile_model
from sim import check_weights, simulate

LAYERS, WIDTH = 8, 128
# Weights come faster than they are used: what is left to wait for is the latency of a codebook.
SETTINGS = ("dram.bandwidth_bytes_per_cycle=32", "vector.lanes=0")


def chain() -> Graph:
    """Linear layers, one after another."""
    builder = GraphBuilder("chain")
    x = builder.input("x", (1, 16, WIDTH))
    for layer in range(LAYERS):
        x = builder.op("gemm", x, builder.parameter(f"w{layer}", (WIDTH, WIDTH)))
    return builder.build(x)


@pytest.fixture(scope="module")
def packed() -> Packed:
    return pack_randomly(chain(), Coding("vq:k=256,d=4", "out", False))


def run_with(packed: Packed, buffers: int) -> Run:
    machine = load_machine("edge64-ideal", [*SETTINGS, f"decoder.codebook_buffers={buffers}"])
    program = compile_model(packed, machine, verify=True)
    check_compiled(program)
    check_weights(program)
    banks = {i["bank"] for i in decode_program(program.words) if i.mnemonic in ("LDC", "DEC")}
    assert banks == set(range(buffers))
    return simulate(program)


def test_a_second_buffer_hides_codebook_loads(packed: Packed) -> None:
    one, two = run_with(packed, 1), run_with(packed, 2)
    assert one.dram_bytes == two.dram_bytes
    assert one.total_cycles > two.total_cycles
    waits = one.cycles_by_cause["codebook_load"], two.cycles_by_cause["codebook_load"]
    latency = one.machine.dram.latency_cycles
    assert waits[0] > (LAYERS - 1) * latency > LAYERS * waits[1]


def test_a_second_bank_is_refused_on_a_machine_with_one_buffer(packed: Packed) -> None:
    program = compile_model(packed, load_machine("edge64-ideal"))
    single = load_machine("edge64-ideal", ["decoder.codebook_buffers=1"])
    with pytest.raises(IsaError, match=r"'LDC .*bank=1.*': bank = 1; allowed: below decoder.codebook_buffers = 1"):
        check_program(program.words, single, program.dram_bytes)
