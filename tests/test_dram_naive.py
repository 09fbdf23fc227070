"""The DRAM kernels against their slow twin, access by access, on random channels; and compiled against their source."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass

import naive_dram
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim.dram.banks
import sim.dram.dramsim3
import sim.dram.queues
import sim.dram.replay
import sim.dram.rowhit
from accel.dram import DRAM_STANDARDS, FIELDS, MAPPINGS, SCHEDULERS, DramStandard, address_map
from accel.errors import ConfigError
from sim.dram.queues import channel, locate
from sim.dram.spacing import address_bits, spacing
from sim.dram.state import BANK, ENTRY, GROUP, RANK, REGISTERS, new_channels
from sim.dram.trace import Replay, check_channel, replay_trace
from sim.dram.traces import TRACES, Integers

KERNEL_MODULES = (sim.dram.banks, sim.dram.dramsim3, sim.dram.queues, sim.dram.replay, sim.dram.rowhit)
KNOWN_TO_DRAMSIM3 = [row for row in DRAM_STANDARDS.values() if row.pseudo_channels == 1 and not row.timing.taad]
PREFIX = 150  # accesses of each named trace that the twin replays


@dataclass(frozen=True)
class Case:
    """A channel and a short trace of 64-byte accesses."""

    standard: DramStandard
    width_bits: int
    mapping: str
    scheduler: str
    outstanding: int
    writes: Integers
    addresses: Integers

    def replay(self) -> Replay:
        return replay_trace(
            self.standard,
            self.width_bits,
            self.mapping,
            self.scheduler,
            self.writes,
            self.addresses,
            self.outstanding,
        )


def perturbed(standard: DramStandard, choose: random.Random) -> DramStandard:
    """Some timing parameters changed, sometimes far, refreshes often; only what the standard allows."""
    for name in choose.sample([*standard.timing.__slots__[1:]], choose.choice((0, 3, 20))):
        value = getattr(standard.timing, name)
        others = (value - 3, value - 1, value + 1, value + 5, value // 2, value // 8 + 1, 2 * value, value + 100)
        with contextlib.suppress(ConfigError):
            standard = standard.with_timing({name: max(0, choose.choice(others))})
    often = standard.longest_refresh + choose.choice((0, 1, 300))
    return standard.with_timing({"trefi": often}) if choose.random() < 0.5 else standard


def random_trace(choose: random.Random, count: int, capacity: int) -> tuple[Integers, Integers]:
    """Sequences and jumps among a few rows; sometimes the same addresses again."""
    places, pitch = choose.choice((2, 8, 1000)), choose.choice((64, 1024, 8192, 1 << 20))
    jumps, write_share = choose.choice((0.05, 0.3, 0.9)), choose.choice((0, 0.1, 0.5, 1))
    address, writes, addresses = 0, [], []
    for _ in range(count):
        jump = choose.randrange(places) * pitch + 64 * choose.randrange(16)
        address = (jump if choose.random() < jumps else address + 64) % capacity
        addresses.append(address)
        writes.append(int(choose.random() < write_share))
    return np.array(writes, np.int64), np.array(addresses, np.int64)


def random_case(seed: int, count: int = 60) -> Case:
    choose = random.Random(seed)
    scheduler = choose.choice(SCHEDULERS)
    rows = list(DRAM_STANDARDS.values()) if scheduler == "row-hit" else KNOWN_TO_DRAMSIM3
    standard = perturbed(choose.choice(rows), choose)
    width = choose.choice(standard.widths)
    accesses = random_trace(choose, count * standard.access_bytes(width) // 64 or 1, standard.capacity_bytes(width))
    outstanding = choose.choice((0, 0, 0, 1, 2, 5, 40))
    return Case(standard, width, choose.choice(MAPPINGS), scheduler, outstanding, *accesses)


def twin_clocks(case: Case) -> list[tuple[int, int]]:
    """(accepted, done) of every access of the device."""
    size = case.standard.access_bytes(case.width_bits)
    requests = [
        naive_dram.Request(int(address) + part, bool(write))
        for write, address in zip(case.writes, case.addresses, strict=True)
        for part in range(0, 64, size)
    ]
    dram = naive_dram.SCHEDULERS[case.scheduler](case.standard, case.width_bits, case.mapping)
    naive_dram.replay(dram, requests, case.outstanding)
    return [(request.accepted, request.done) for request in requests]


def assert_equal_to_twin(case: Case) -> None:
    fast = case.replay()
    assert list(zip(fast.accepted.tolist(), fast.done.tolist(), strict=True)) == twin_clocks(case), case


@settings(max_examples=200)
@given(st.integers(0, 1 << 32))
def test_kernel_agrees_with_the_naive_twin(seed: int) -> None:
    assert_equal_to_twin(random_case(seed))


@pytest.mark.parametrize("deadline", [1, 2, 3, 8])
def test_split_activates_wait_for_the_data_clock(deadline: int) -> None:
    standard = DRAM_STANDARDS["LPDDR5-6400"].with_timing({"taad": deadline})
    for seed in range(15):
        choose = random.Random(seed)
        accesses = random_trace(choose, 60, standard.capacity_bytes(16))
        assert_equal_to_twin(Case(standard, 16, choose.choice(MAPPINGS), "row-hit", choose.choice((0, 2)), *accesses))


@pytest.mark.parametrize("name", TRACES)
def test_named_traces_begin_as_the_twin_says(name: str) -> None:
    writes, addresses = TRACES[name].make()
    for index, (standard, scheduler) in enumerate([("LPDDR5-6400", "row-hit"), ("DDR4-2400", "dramsim3")]):
        row = DRAM_STANDARDS[standard]
        mapping = MAPPINGS[(index + len(name)) % len(MAPPINGS)]
        trace = writes[:PREFIX], addresses[:PREFIX]
        assert_equal_to_twin(Case(row, row.widths[0], mapping, scheduler, TRACES[name].outstanding, *trace))


def test_compiled_kernels_equal_their_source(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [random_case(seed, 60) for seed in range(12)]
    assert {case.scheduler for case in cases} == set(SCHEDULERS)
    compiled = [case.replay() for case in cases]
    for module in KERNEL_MODULES:
        for name, value in vars(module).copy().items():
            if hasattr(value, "py_func"):
                monkeypatch.setattr(module, name, value.py_func)
    for case, fast in zip(cases, compiled, strict=True):
        plain = case.replay()
        assert plain == fast
        assert plain.accepted.tolist() == fast.accepted.tolist() and plain.done.tolist() == fast.done.tolist()


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("standard", DRAM_STANDARDS.values(), ids=DRAM_STANDARDS)
def test_kernel_locates_addresses_as_the_map_does(standard: DramStandard, mapping: str) -> None:
    draw = random.Random(0)
    for width in standard.widths:
        layout = address_map(standard, width, mapping)
        dram = channel.py_func(new_channels(1, spacing(standard), address_bits(standard, width, mapping)), 0)
        for address in (0, standard.capacity_bytes(width) - 1, *(draw.getrandbits(29) for _ in range(100))):
            place = layout.locate(address)
            banks = (place["pseudo_channel"] * standard.bank_groups + place["group"]) * standard.banks_per_group
            assert locate.py_func(dram, address) == (banks + place["bank"], place["row"])


@given(st.sampled_from(list(DRAM_STANDARDS.values())), st.sampled_from(MAPPINGS), st.data())
def test_maps_are_bijections(standard: DramStandard, mapping: str, data: st.DataObject) -> None:
    """Neighbouring stretches of a channel fill their rows and banks exactly once, within the organisation."""
    width = data.draw(st.sampled_from(standard.widths))
    layout, size = address_map(standard, width, mapping), standard.access_bytes(width)
    stretch = standard.row_bytes(width) * standard.banks  # one row of every bank
    first = data.draw(st.integers(0, standard.rows - 1)) * stretch
    places = [layout.locate(address) for address in range(first, first + stretch, size)]
    assert len({tuple(place[name] for name in FIELDS) for place in places}) == len(places)
    limits = {
        "pseudo_channel": standard.pseudo_channels,
        "group": standard.bank_groups,
        "bank": standard.banks_per_group,
        "column": standard.row_bytes(width) // size,
        "row": standard.rows,
    }
    for place in places:
        assert all(0 <= place[name] < limit for name, limit in limits.items())


@settings(max_examples=60)
@given(st.integers(0, 1 << 32))
def test_no_refresh_is_left_out_however_often_they_fall_due(seed: int) -> None:
    """So every replay ends: each refresh is over, and a row opened, before the next falls due."""
    case = random_case(seed)
    fast = case.replay()
    due = (fast.total_cycles - 1) // case.standard.timing.trefi * case.standard.pseudo_channels
    assert due - case.standard.pseudo_channels <= fast.refreshes <= due + case.standard.pseudo_channels


def test_no_record_field_hides_behind_a_numpy_method() -> None:
    names = (*BANK, *GROUP, *RANK, *ENTRY, *REGISTERS)
    assert not [name for name in names if hasattr(np.record, name)]


def test_schedulers_and_the_twin_know_the_same_names() -> None:
    assert set(naive_dram.SCHEDULERS) == set(SCHEDULERS)
    for row in KNOWN_TO_DRAMSIM3:
        check_channel(row, row.widths[0], MAPPINGS[0], "dramsim3")
