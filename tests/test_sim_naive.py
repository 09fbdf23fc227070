"""The kernel against its slow twin, tick for tick, on random programs; and compiled against its own source."""

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from naive import FifoTooSmallError, Naive
from program_cases import DRAM_BYTES, program_cases, random_case

import sim.array
import sim.arrivals
import sim.causes
import sim.core
import sim.decoder
import sim.dram.banks
import sim.dram.queues
import sim.dram.rowhit
import sim.front_end
import sim.memory
import sim.queues
import sim.tape
import sim.transfers
import sim.unpacker
from accel.errors import SimError
from accel.isa import BY_MNEMONIC, VECTOR_FUNCTIONS, encode_program
from accel.metrics import CAUSES, DECODER, TRAFFIC
from sim.columns import FIELDS
from sim.dram.spacing import AddressBits, Spacing
from sim.dram.state import BANK, ENTRY, GROUP, RANK
from sim.dram.state import REGISTERS as DRAM_REGISTERS
from sim.params import Params, channels_of, machine_params
from sim.state import MOVER, QUEUE, REGISTERS, RING, TIMES, WORDS
from sim.timing import time_words

KERNEL_MODULES = (
    sim.array,
    sim.causes,
    sim.core,
    sim.decoder,
    sim.arrivals,
    sim.memory,
    sim.dram.banks,
    sim.dram.queues,
    sim.dram.rowhit,
    sim.front_end,
    sim.queues,
    sim.tape,
    sim.transfers,
    sim.unpacker,
)
relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck))


def timed(case):
    params = machine_params(case.machine, DRAM_BYTES)._replace(queue_depth=case.queue_depth)
    image = np.frombuffer(case.image, np.uint8)
    layer, channels = np.array(case.layer, np.int32), channels_of(case.machine)
    return time_words(encode_program(case.program), layer, case.layers, params, channels, image)


def timed_if_possible(case):
    """``None`` for a program whose weights some FIFO cannot take."""
    try:
        return timed(case)
    except SimError:
        return None


@settings(relaxed, max_examples=300)
@given(program_cases())
@example(random_case(random.Random(20591)))  # a read answered from the write queue lets the decoder go on
def test_kernel_agrees_with_the_naive_twin(case):
    try:
        slow = Naive(case.program, case.machine, case.queue_depth, DRAM_BYTES, case.image).run()
    except FifoTooSmallError:
        with pytest.raises(SimError, match=r"machine key decoder\.fifo_words = \d+: .* need at least \d+"):
            timed(case)
        return
    fast, count = timed(case), len(case.program)
    assert fast.total == slow.total
    assert fast.started.tolist() == [slow.started[n] for n in range(count)]
    assert fast.completed.tolist() == [slow.completed[n] for n in range(count)]
    assert fast.causes.sum() == slow.total
    assert fast.causes[:, list(CAUSES).index("compute")].sum() == slow.streamed
    assert (fast.causes >= 0).all()
    moved = dict(zip(TRAFFIC, fast.traffic.sum(axis=0).tolist(), strict=True))
    assert {kind: size for kind, size in moved.items() if size} == slow.traffic()
    counted = dict(zip(DECODER, fast.decoder.sum(axis=0).tolist(), strict=True))
    assert counted == {name: slow.decoder_counts[name] for name in DECODER}


@settings(relaxed, max_examples=30)
@given(program_cases())
def test_cycles_of_causes_sum_to_the_total(case):
    timing = timed_if_possible(case)
    assume(timing is not None)
    cycles = timing.cause_cycles
    assert cycles.sum() == timing.total_cycles
    assert (cycles >= 0).all()
    assert (abs(cycles - timing.causes / 2**20) < 1).all()


def test_compiled_kernel_equals_its_source(monkeypatch):
    drawn = [random_case(random.Random(seed)) for seed in range(9)]
    compiled = [(case, timing) for case in drawn if (timing := timed_if_possible(case)) is not None]
    for module in KERNEL_MODULES:
        for name, value in vars(module).copy().items():
            if hasattr(value, "py_func"):
                monkeypatch.setattr(module, name, value.py_func)
    assert len(compiled) > 4
    for case, fast in compiled:
        plain = timed(case)
        for name in ("dispatched", "started", "completed", "causes", "traffic", "decoder"):
            assert (getattr(plain, name) == getattr(fast, name)).all(), name


def test_random_programs_hold_every_instruction_and_vector_function():
    programs = [random_case(random.Random(seed)).program for seed in range(150)]
    drawn = [instruction for program in programs for instruction in program]
    assert {i.mnemonic for i in drawn} == set(BY_MNEMONIC)
    functions = {i["function"] for i in drawn if i.mnemonic == "VEC"}
    assert functions == set(range(len(VECTOR_FUNCTIONS)))


def test_no_record_field_hides_behind_a_numpy_method():
    names = (*FIELDS, *REGISTERS, *TIMES, *QUEUE, *RING, *MOVER, *WORDS)
    names += (*BANK, *GROUP, *RANK, *ENTRY, *DRAM_REGISTERS, *Spacing._fields, *AddressBits._fields, *Params._fields)
    assert not [name for name in names if hasattr(np.record, name)]
