"""What ``accel compare`` concludes: ratios, curves, crossovers and verdicts."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from run_samples import BITS, sample_run

from accel.cli.comparison import (
    CodecResult,
    Crossover,
    MachineResult,
    array_grid,
    bandwidth_grid,
    find_crossover,
)
from accel.cli.comparison_tables import comparison_table
from accel.cli.verdict import verdict
from accel.machine import Machine, load_machine


def test_arrays_are_the_machines_own_and_those_wanted() -> None:
    machine = load_machine("u65-mid")
    sizes = [
        [(each.array.rows, each.array.columns) for each in array_grid(machine, wanted)] for wanted in ((), [(8, 8)])
    ]
    assert sizes == [[(4, 8), (8, 16), (16, 32), (32, 64)], [(8, 8), (16, 32)]]
    assert [each.array.label[:5] for each in array_grid(machine, [(32, 16), (32, 16)])] == ["16x32", "32x16"]
    narrow = replace(machine, array=replace(machine.array, rows=1, columns=1))
    assert [each.macs_per_cycle for each in array_grid(narrow)] == [1, 4]  # none without rows
    tight = replace(machine, sram=replace(machine.sram, accumulator_bytes=4 * 32))
    assert [each.array.columns for each in array_grid(tight)] == [8, 16, 32]  # nor one its accumulators do not fit


def test_crossover_is_interpolated_in_log_bandwidth() -> None:
    assert find_crossover((1, 2, 4, 8), (2, 2, 1.2, 1.0)).bandwidth == pytest.approx(4 * 2**0.5)
    assert find_crossover((1, 2), (1.0, 1.09)) == Crossover("never gains")
    assert find_crossover((1, 2), (2.0, 1.1)) == Crossover("always gains")
    assert find_crossover((1, 2, 4, 8), (1.0, 2, 1.1, 1.0)).bandwidth == 4  # the last fall counts


def test_grid_is_logarithmic_and_holds_the_machine_itself() -> None:
    machine = load_machine("edge64")
    grid = np.array(bandwidth_grid(machine))
    assert len(grid) == 14 and machine.bandwidth_bytes_per_cycle in grid
    assert np.allclose(np.diff(np.log2(grid)), 2 / 3)
    assert grid[0] < 0.3 and grid[-1] > 64
    assert bandwidth_grid(machine, [8, 1]) == (1, 6.4, 8)


def _machine_result(name: str, codecs: tuple[str, ...] = tuple(BITS)) -> MachineResult:
    machine = load_machine(name)
    free = load_machine(name, ["vector.lanes=0"])
    grid = bandwidth_grid(machine)

    def curve(codec: str, on: Machine) -> tuple[int, ...]:
        return tuple(sample_run(codec, on.with_bandwidth(b)).total_cycles for b in grid)

    results = (
        CodecResult(
            c, sum(BITS[c]), 0.1, sample_run(c, machine), sample_run(c, free), curve(c, machine), curve(c, free)
        )
        for c in codecs
    )
    return MachineResult(machine, "random", grid, tuple(results))


def test_ratios_refer_to_int8_on_the_same_machine() -> None:
    result = _machine_result("edge64")
    rows = comparison_table([result]).rows
    for row, each in zip(rows, result.results, strict=True):
        assert row["speedup"] == rows[0]["total_cycles"] / row["total_cycles"]
        assert row["traffic_ratio"] == rows[0]["dram_bytes_total"] / row["dram_bytes_total"]
        gemm_only = result.baseline.gemm_only.total_cycles / each.gemm_only.total_cycles
        assert row["speedup_gemm_only"] == gemm_only
        vector = each.whole.cycles_by_cause["vector"] / each.whole.total_cycles
        assert row["vector_share"] == pytest.approx(vector)
    assert rows[-1]["speedup_gemm_only"] > rows[-1]["speedup"] > 3
    assert result.best.codec == "ssvq:k=16,d=8"


def test_the_curve_passes_through_the_table() -> None:
    result = _machine_result("edge64")
    own = result.bandwidths.index(result.machine.bandwidth_bytes_per_cycle)
    for each in result.results:
        assert result.speedup_curve(each)[own] == result.speedup(each)


def test_verdict_says_why_and_names_curve_crossover_weights_and_dram() -> None:
    pays = verdict(_machine_result("edge64"), "d/speedup.png")
    assert "int8 is bound by weight dma (69 % of cycles: the array waits for compressed weights" in pays
    for expected in ("d/speedup.png", "Crossover: above 2", "no trained weights", "bank by bank (bgLow), peak"):
        assert expected in pays
    assert "one point of the curve of speed-up against bandwidth." in verdict(_machine_result("edge64"))
    useless = verdict(_machine_result("u65-mid"), "d/speedup.png")
    assert "does not pay here" in useless and "int8 is bound by compute (98 % of cycles" in useless
    assert "DRAM is busy 34 %" in useless and "Crossover: above 2.6" in useless


def test_crossing_is_simulated_not_interpolated() -> None:
    """int8 takes max(1000, 4000/b) cycles, the format max(1000, 1000/b): 1.1x at b = 4/1.1 exactly."""

    def simulated(each: CodecResult, byte_cycles: int) -> CodecResult:
        def cycles_at(bandwidth: float) -> int:
            return round(1000 * max(1000, byte_cycles / bandwidth))

        return replace(each, curve=tuple(map(cycles_at, grid)), cycles_at=cycles_at)

    result = _machine_result("edge64", ("int8", "ssvq:k=16,d=8"))
    grid = (0.5, 2.0, 8.0)
    pair = zip(result.results, (4000, 1000), strict=True)
    result = replace(result, bandwidths=grid, results=tuple(simulated(*each) for each in pair))
    assert find_crossover(grid, result.speedup_curve(result.best)).bandwidth > 6
    assert result.crossover.bandwidth == pytest.approx(4 / 1.1, rel=0.006)


def _with_curve(result: MachineResult, codec: str, factor: tuple[float, ...]) -> MachineResult:
    """``codec`` slower than int8 by ``factor`` at each bandwidth of the sweep."""
    baseline = result.baseline.curve
    curve = tuple(round(cycles * by) for cycles, by in zip(baseline, factor, strict=True))
    results = (replace(each, curve=curve) if each.codec == codec else each for each in result.results)
    return replace(result, results=tuple(results))


def test_compression_is_not_credited_with_what_fewer_bytes_do_not_explain() -> None:
    memory = _machine_result("edge64")
    assert memory.gains_from_memory
    lasting = _with_curve(memory, memory.best.codec, (0.5,) * 14)
    assert not lasting.gains_from_memory
    text = verdict(lasting, "curve")
    assert "compression pays" not in text and "differ in how they map onto the array" in text
    own = memory.bandwidths.index(memory.machine.bandwidth_bytes_per_cycle) + 1
    cut = (replace(each, curve=each.curve[:own], gemm_curve=each.gemm_curve[:own]) for each in memory.results)
    assert replace(memory, bandwidths=memory.bandwidths[:own], results=tuple(cut)).gains_from_memory
    assert not _machine_result("u65-mid").gains_from_memory  # DRAM is busy 34 %


def test_the_format_that_falls_behind_int8_is_named() -> None:
    result = _machine_result("edge64")
    assert "slower than int8" not in verdict(result, "curve")
    rich = _with_curve(result, "vq:k=256,d=4", (1.0,) * 12 + (1.25, 2.0))
    low, high = result.bandwidths[11], result.bandwidths[12]
    pattern = r"Above ([\d.]+) B/cycle vq:k=256,d=4 is slower than int8 \(down to 0.50x\)"
    (sentence,) = re.findall(pattern, verdict(rich, "curve"))
    assert low <= float(sentence) <= high
    middle = _with_curve(result, "int4", (1.0,) * 5 + (1.25,) + (1.0,) * 8)
    assert f"At {result.bandwidths[5]:.3g} B/cycle int4 is slower" in verdict(middle, "")
    assert "At every bandwidth tried int4 is slower" in verdict(_with_curve(result, "int4", (1.25,) * 14), "")


def test_int8_alone_is_no_comparison() -> None:
    text = verdict(_machine_result("edge64", ("int8",)), "curve")
    assert "no compressed format to compare with" in text and "Crossover" not in text
