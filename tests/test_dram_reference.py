"""Banked DRAM against Ramulator 2.1 and DRAMsim3: every reference row, and every timing parameter matters."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import numpy as np
import pytest

import sim.dram.validate
from accel.dram import DRAM_STANDARDS, SCHEDULERS, TIMING_KEYS, DramStandard
from accel.dram_reference import DramReferenceRow, dram_reference_rows
from accel.errors import ConfigError
from accel.validation import Section
from sim.dram.trace import Replay, replay_trace
from sim.dram.traces import TRACES, Accesses
from sim.dram.validate import dram_section, replay_reference

# Trace: accesses, first 16 digits of the SHA-256 over (operation, address) pairs, as measured on the other simulators.
DIGESTS = {
    "a1_seq_read_1MB": (16384, "0f6705c6f72d7c06"),
    "a2_seq_read_16MB": (262144, "b9053635ab7bdc92"),
    "a3_seq_write_1MB": (16384, "36a1a14e23f4d919"),
    "b1_2stream_64_64_sameBank": (32768, "198cb35387ff6668"),
    "b2_2stream_64_64_offBank": (32768, "15db67f6b2064306"),
    "b3_2stream_256_1024_sameBank": (81920, "88458ac9c6a59cf3"),
    "b4_2stream_256_1024_offBank": (81920, "ac721ad0ba990208"),
    "b5_2stream_4K_4K_sameBank": (32768, "eb4a2184e1ad264c"),
    "c1_rand64_read_256MB": (65536, "7572db652310ccd7"),
    "d1_rw70_30_64B": (65540, "3d9e87b16e86d885"),
    "d2_rw70_30_4K": (65280, "cc5e6da9b9a61c50"),
    "d3_rw50_50_64B": (32768, "72d24b6fa626a822"),
    "e1_rows192_pitch4K": (24576, "4bbb4552fe77ab63"),
    "e2_rows192_pitch192": (24576, "89d1b9cf92b2c177"),
    "e3_rows64_pitch4K": (16384, "cd7d9598bebd3dae"),
    "e4_rows1K_pitch8K": (16384, "020e49aa08ee5282"),
    "g1_dep_seq": (4096, "32ea5b995777d562"),
    "g2_dep_rand": (4096, "2e288c4d923bfbce"),
}

# Changes of one clock that cannot be seen, because another parameter is always the stricter one.
DOMINATED: dict[tuple[str, str, int], str] = {
    **{
        (name, "trp_all", step): "after PRECHARGE ALL comes REFRESH (tRP), then tRFC"
        for name in DRAM_STANDARDS
        for step in (1, -1)
    },
    ("LPDDR4-3200", "trrd_s", -1): "no other bank group: tRRD_L",
    ("LPDDR4-3200", "twtr_s", -1): "no other bank group: tWTR_L",
    ("LPDDR4-3200", "tfaw", -1): "four times tRRD",
    ("LPDDR5-6400", "tfaw", -1): "four times tRRD",
    ("HBM2-2000", "tfaw", 1): "four times tRRD",
    ("HBM2-2000", "tfaw", -1): "four times tRRD",
}
MIXED_TRACES = 8


def test_traces_are_those_of_the_reference() -> None:
    assert set(DIGESTS) == set(TRACES)
    for name, trace in TRACES.items():
        pairs = np.stack(trace.make(), 1).astype("<i8")
        assert (len(pairs), hashlib.sha256(pairs.tobytes()).hexdigest()[:16]) == DIGESTS[name], name


@pytest.fixture(scope="module")
def validated() -> tuple[Section, list[tuple[DramReferenceRow, Replay]]]:
    """What ``accel validate`` finds, and every reference row with our replay of it."""
    replays: list[tuple[DramReferenceRow, Replay]] = []

    def recorded(row: DramReferenceRow) -> Replay:
        replays.append((row, replay_reference(row)))
        return replays[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sim.dram.validate, "replay_reference", recorded)
        return dram_section(lambda done, total, what: None), replays


def test_errors_keep_their_bounds(validated: tuple[Section, list[tuple[DramReferenceRow, Replay]]]) -> None:
    section, replays = validated
    assert section.is_met
    assert sum(len(group.comparisons) for group in section.groups) == len(replays) == len(list(dram_reference_rows()))
    assert {row.simulator for row, _ in replays} == {"Ramulator", "DRAMsim3"}


def test_the_row_hit_scheduler_is_ramulator_to_the_cycle(
    validated: tuple[Section, list[tuple[DramReferenceRow, Replay]]],
) -> None:
    for row, replay in validated[1]:
        if row.simulator == "Ramulator":
            assert (replay.total_cycles, replay.refreshes) == (row.cycles, row.refreshes), row
            assert replay.row_hit_percent == pytest.approx(row.row_hit_percent, abs=0.0006), row
            assert (replay.mean_read_latency_cycles or 0) == pytest.approx(row.read_latency_cycles, abs=0.006), row


def test_the_other_scheduler_is_close_to_dramsim3(
    validated: tuple[Section, list[tuple[DramReferenceRow, Replay]]],
) -> None:
    errors = [abs(ours.total_cycles / row.cycles - 1) for row, ours in validated[1] if row.simulator == "DRAMsim3"]
    assert len(errors) == 126
    assert max(errors) < 0.002 and sum(errors) / len(errors) < 0.0001
    assert sum(error == 0 for error in errors) >= 105


def mixed_trace(seed: int, count: int = 1200) -> Accesses:
    """Sequences and jumps, reads and writes, over rows of several pitches."""
    choose = random.Random(seed)
    jumps, write_share = choose.choice((0.1, 0.5, 1)), choose.choice((0, 0.2, 0.5, 1))
    pitch, address, writes, addresses = choose.choice((4096, 65536, 1 << 20)), 0, [], []
    for _ in range(count):
        jump = choose.randrange(64) * pitch + 64 * choose.randrange(16)
        address = jump if choose.random() < jumps else address + 64
        addresses.append(address)
        writes.append(int(choose.random() < write_share))
    return np.array(writes), np.array(addresses)


CHANNELS = [
    pytest.param(standard, scheduler, id=f"{standard.name} {scheduler}")
    for standard in DRAM_STANDARDS.values()
    for scheduler in SCHEDULERS
    if scheduler == SCHEDULERS[0] or (standard.pseudo_channels == 1 and not standard.timing.taad)
]


@pytest.mark.parametrize(("standard", "scheduler"), CHANNELS)
def test_every_timing_parameter_matters(standard: DramStandard, scheduler: str) -> None:
    cases = [
        (mapping, mixed_trace(seed), outstanding)
        for seed in range(MIXED_TRACES)
        for mapping, outstanding in (("bgLow", 0), ("colLow", 0), ("MOP4CLXOR", 0), ("bgLow", 1))
    ]

    def cycles(changed: DramStandard) -> Iterator[int]:
        width = changed.widths[0]
        for mapping, trace, outstanding in cases:
            yield replay_trace(changed, width, mapping, scheduler, *trace, outstanding).total_cycles

    expected = list(cycles(standard))
    for name in (*TIMING_KEYS, "burst"):
        for step in (1, -1):
            try:
                changed = standard.with_timing({name: getattr(standard.timing, name) + step})
            except ConfigError:
                continue  # contradicts another parameter, or the standard has none
            matters = any(ours != before for ours, before in zip(cycles(changed), expected, strict=True))
            if name == "tck_ps":
                assert not matters and changed.peak_bytes_per_second(64) != standard.peak_bytes_per_second(64)
            else:
                assert matters != ((standard.name, name, step) in DOMINATED), (name, step)
