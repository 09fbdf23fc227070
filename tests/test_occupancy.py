"""How full memories are: against a walk byte by byte, and against what the compiler and the machine allow."""

from __future__ import annotations

import numpy as np
import pytest
from strategies import pack_randomly
from tiny_models import TINY

from accel.footprint import accesses
from accel.isa import assemble_program, decode_program
from accel.machine import load_machine
from accel.occupancy import MEMORIES, Occupancy, Schedule, instruction_occupancy, memory_bytes, occupancy
from compiler import compile_model
from sim.occupancy import sram_occupancy

TEXT = """
    LDA sram=0 rows=1 row_bytes=100 kind=activations_read
    LDA sram=100 rows=1 row_bytes=50 kind=activations_read
    VEC function=copy a=0 out=200 rows=1 columns=40
    VEC function=add a=0 b=100 out=20 rows=1 columns=30
    VEC function=copy a=200 out=300 rows=1 columns=40
    STA sram=20 rows=1 row_bytes=30 kind=activations_written
"""


def byte_by_byte(instructions, started, completed, cycles):
    """Bytes of activation SRAM in use at each cycle: every byte's writes and reads on their own, without gaps."""
    uses = {}
    for i, found in enumerate(accesses(instructions)):
        for access in found:
            for byte in range(access.start, access.stop) if access.space == "activation" else ():
                lives = uses.setdefault(byte, [])
                if access.write:
                    if lives:
                        lives[-1][1] = min(lives[-1][1], started[i])
                    lives.append([started[i], completed[i]])
                else:
                    lives[-1][1] = max(lives[-1][1], completed[i])
    return [sum(begin <= at < end for lives in uses.values() for begin, end in lives) for at in cycles]


def test_bytes_are_in_use_from_the_first_write_to_the_last_read():
    instructions = assemble_program(TEXT.replace("VEC function=add", "VRQ a_multiplier=1\nVEC function=add"))
    started = np.array([0, 5, 12, 14, 14, 20, 26], np.float64)
    completed = np.array([10, 11, 14, 14, 20, 26, 40], np.float64)
    schedule = Schedule(instructions, [0] * len(instructions), started, completed)
    found = instruction_occupancy(schedule, load_machine("edge64"))["activation"]
    cycles = np.arange(0, 45, 0.5)
    expected = byte_by_byte(instructions, started, completed, cycles)
    assert found.at(cycles).tolist() == expected
    assert max(expected) == found.peak_bytes == 150 and expected[-1] == 0


def test_heads_side_by_side_do_not_end_each_other():
    """Two writes of one layer into alternate stretches of a buffer: the first head's bytes live on to the read."""
    text = """
        VST a_stride=4 out_stride=8 a_column_stride=1 out_column_stride=1
        VEC function=fill out=0 rows=4 columns=4
        VEC function=fill out=4 rows=4 columns=4
        STA sram=0 rows=1 row_bytes=32 kind=activations_written
    """
    started, completed = np.array([0.0, 0, 10, 30]), np.array([0.0, 5, 15, 40])
    schedule = Schedule(assemble_program(text), [1, 1, 1, 1], started, completed)
    found = instruction_occupancy(schedule, load_machine("edge64"))["activation"]
    assert found.at([2, 7, 12, 20, 39, 40]).tolist() == [32, 32, 32, 32, 32, 0]


@pytest.mark.parametrize("name", TINY)
def test_compiled_programs_stay_within_their_memories(name):
    program = compile_model(pack_randomly(TINY[name].graph, TINY[name].coding), TINY[name].machine)
    found, sizes = sram_occupancy(program), memory_bytes(program.machine)
    assert list(found) == list(MEMORIES)
    for memory, row in found.items():
        assert row.capacity_bytes == sizes[memory] >= row.peak_bytes, memory
        assert row.held_bytes[-1:].sum() == 0
    peak = program.report["sram_peak_bytes"]
    assert 0.5 * peak < found["activation"].peak_bytes <= peak
    assert found["weight"].peak_bytes > 0 and found["accumulator"].peak_bytes > 0
    has_codebook = any(i.mnemonic == "LDC" for i in decode_program(program.words))
    assert (found["codebook"].peak_bytes > 0) == has_codebook


def test_thinning_keeps_peaks():
    rng = np.random.default_rng(2)
    steps = occupancy("weight", 1 << 20, np.append(rng.integers(0, 9999, 500), 10_000), rng.integers(1, 99, 501))
    thin = steps.thinned(40)
    assert len(thin.cycles) == 40 and thin.peak_bytes == steps.peak_bytes and steps.thinned(10**6) is steps
    cycles = np.arange(0, 10_000)
    assert (thin.at(cycles) >= steps.at(cycles)).all()


def test_changes_at_one_cycle_are_one_step():
    row = occupancy("weight", 64, [5, 2, 5, 2, 9], [3, 64, -3, 0, -64])
    assert row.cycles.tolist() == [2, 9] and row.held_bytes.tolist() == [64, 0]
    assert Occupancy("weight", 64, np.zeros(0), np.zeros(0, np.int64)).peak_bytes == 0
