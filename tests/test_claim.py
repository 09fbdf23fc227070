"""Where a speed-up holds, what the decoder must sustain, and the page that says so, on a made-up network."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from accel.machine import load_machine
from benchmarks.claim_figure import claim_figure
from benchmarks.claim_findings import ARRAYS, CHIP, CODECS, SETTINGS, Bench, Findings, Setting
from benchmarks.claim_page import curve_table, decoder_table, harm_table, holds_table, summary

BEST = CODECS[0]
RATIO = {"int8": 1.0, "int4": 2.0}  # of bytes; every other format moves a quarter
BYTES, MACS, GROUPS = 2**23, 2**30, 2**18


@dataclass
class Roofline(Bench):
    """A network that takes the longest of multiplying, moving its weights and looking them up."""

    def cycles(self, codec: str, array: int, bandwidth: float, setting: Setting = CHIP, lookups: int = 32) -> int:
        memory = BYTES / RATIO.get(codec, 4.0) / bandwidth
        decoding = 0.0 if codec in RATIO else GROUPS / lookups
        return round(max(MACS / array**2, memory, decoding))


@pytest.fixture(scope="module")
def found() -> Findings:
    return Findings(Roofline())


@pytest.mark.parametrize("array", ARRAYS)
def test_3x_ends_where_int8_takes_three_times_the_arithmetic(found: Findings, array: int) -> None:
    assert found.holds_to(BEST, array) == pytest.approx(BYTES / (3 * MACS / array**2), rel=0.01)


def test_3x_is_never_reached_by_what_moves_half(found: Findings) -> None:
    assert all(found.holds_to("int4", array) is None for array in ARRAYS)
    assert all(row["int4 to"] is None and row["int4 best"] == pytest.approx(2) for row in holds_table(found).rows)


def test_the_summary_names_what_holds_and_what_does_not(found: Findings) -> None:
    text = summary(found)
    assert f"16x16 up to {found.holds_to(BEST, 16):.3g} B/cycle" in text and "at no bandwidth with int4" in text
    assert text.count("at most 4.00x") == len(SETTINGS) - 1


def test_the_fewest_look_ups_that_do_are_found(found: Findings) -> None:
    for array in ARRAYS:
        for bandwidth in found.bandwidths:
            needed = found.lookups_needed(BEST, array, bandwidth)
            pace = max(MACS / array**2, BYTES / 4 / bandwidth, GROUPS / 32)
            assert GROUPS / needed <= 1.01 * pace + 1
            assert needed == 1 or GROUPS / (needed / 2) > 1.01 * pace - 1


def test_a_slow_decoder_harms_from_the_bandwidth_where_int8_overtakes_it(found: Findings) -> None:
    limit = BYTES / GROUPS
    assert found.harmful_from(BEST, 128, 1) == min(each for each in found.bandwidths if each > 1.01 * limit)
    assert found.harmful_from(BEST, 128, 8) is None
    assert found.harmful_from(BEST, 64, 1) is None  # there the array takes as long as the look-ups


def test_tables_and_figure_cover_arrays_and_bandwidths(found: Findings) -> None:
    assert len(holds_table(found).rows) == len(ARRAYS)
    assert len(curve_table(found).rows) == len(decoder_table(found).rows) == len(found.bandwidths)
    assert len(harm_table(found).rows) == 4
    panels = claim_figure(found).axes
    assert len(panels) == 4
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in panels)


def test_settings_change_what_they_say_and_nothing_else() -> None:
    plain, *others = (Bench().machine(64, 4.0, setting).flat() for setting in SETTINGS)
    assert [sorted(key for key in plain if plain[key] != other[key]) for other in others] == [
        ["vector.lanes"],
        ["sram.activation_bytes"],
        ["sram.activation_bytes"],
    ]
    assert load_machine("edge64-ideal").vector.lanes == 64
