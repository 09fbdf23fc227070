"""``replay_trace``, ``accel dram`` and ``accel validate``: figures, and mistakes answered with one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from accel.cli import main, validate
from accel.dram import DRAM_STANDARDS, MAX_CYCLES, TIMING_KEYS
from accel.errors import ConfigError, FormatError, SimError
from accel.validation import Bound, Comparison, Group, Section
from sim.dram.trace import MAX_OUTSTANDING, read_trace, replay_trace
from sim.dram.traces import TRACES

DDR4 = DRAM_STANDARDS["DDR4-2400"]
Captured = pytest.CaptureFixture[str]


def trace_file(folder: Path, *accesses: tuple[int, int]) -> str:
    path = folder / "trace.bin"
    path.write_bytes(np.array(accesses, "<i8").tobytes())
    return str(path)


def document(capsys: Captured, *argv: str) -> dict[str, object]:
    assert main(["dram", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: Captured, *argv: str) -> str:
    try:
        code = main(["dram", *argv])
    except SystemExit as leaving:
        code = leaving.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), err
    return err


def test_one_read_takes_activate_read_and_burst() -> None:
    """Offered at clock 0, ACTIVATE at 1, READ tRCD later, data tCL and a burst later."""
    found = replay_trace(DDR4, 64, "bgLow", "row-hit", np.array([0]), np.array([0]))
    t = DDR4.timing
    assert found.total_cycles == found.mean_read_latency_cycles == 1 + t.trcd_read + t.cl + t.burst
    assert (found.accesses, found.row_hits, found.activates, found.precharges) == (1, 0, 1, 0)
    assert found.seconds == pytest.approx(found.total_cycles * t.tck_ps * 1e-12)
    assert found.peak_share == pytest.approx(t.burst / found.total_cycles)


def test_accesses_are_as_wide_as_the_channel() -> None:
    writes, addresses = np.zeros(4, np.int64), np.array([0, 64, 200, 256])
    aligned = addresses // 64 * 64
    for row in DRAM_STANDARDS.values():
        for width in row.widths:
            found = replay_trace(row, width, "MOP4CLXOR", "row-hit", writes, addresses)
            assert found.accesses * row.access_bytes(width) == found.requests * 64 == 256
            assert found == replay_trace(row, width, "MOP4CLXOR", "row-hit", writes, aligned)


def test_a_write_and_reads_of_it_while_it_waits_are_one_access() -> None:
    found = replay_trace(DDR4, 64, "bgLow", "row-hit", np.array([0, 1, 1, 0]), np.array([0, 4096, 4096, 4096]))
    assert found.commands == 2
    assert found.done[2:].tolist() == (found.accepted[2:] + 1).tolist()


@pytest.mark.parametrize("scheduler", ["row-hit", "dramsim3"])
def test_outstanding_limits_what_is_under_way(scheduler: str) -> None:
    writes, addresses = TRACES["d1_rw70_30_64B"].make()
    for limit in (1, 3, 10):
        found = replay_trace(DDR4, 64, "colLow", scheduler, writes[:500], addresses[:500], limit)
        for at in np.unique(found.accepted):
            assert ((found.accepted <= at) & (found.done > at)).sum() <= limit
    unlimited = replay_trace(DDR4, 64, "colLow", scheduler, writes[:500], addresses[:500])
    many = replay_trace(DDR4, 64, "colLow", scheduler, writes[:500], addresses[:500], MAX_OUTSTANDING)
    assert many.done.tolist() == unlimited.done.tolist()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"trc": 55}, "trc >= tras \\+ trp"),
        ({"tras": 10, "trc": 60}, "tras >= trcd_read"),
        ({"cwl": 23}, "cwl = 23; allowed: less than"),
        ({"trefi": 974}, "trefi = 974; allowed: at least 975"),
        ({"twr": MAX_CYCLES}, "trefi = 9360; allowed: at least 1049"),
        ({"trp": 0}, "trp = 0; allowed: 1 to"),
        ({"trfc": MAX_CYCLES + 1}, "trfc = 1048577; allowed"),
        ({"taad": 8}, "DDR4-2400 has no such parameter"),
    ],
)
def test_contradictory_timing_is_refused(change: dict[str, int], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        DDR4.with_timing(change)


@pytest.mark.parametrize("scheduler", ["row-hit", "dramsim3"])
def test_hostile_timing_ends(scheduler: str) -> None:
    """The longest times that are allowed, refreshes as often as they fit, and an activation window beyond them."""
    slow = DDR4.with_timing({"trefi": MAX_CYCLES, "twr": 500_000, "tfaw": MAX_CYCLES, "trfc": 400_000})
    often = slow.with_timing({"trefi": slow.longest_refresh})
    writes, addresses = TRACES["d3_rw50_50_64B"].make()
    for row in (slow, often):
        found = replay_trace(row, 64, "colLow", scheduler, writes[:60], addresses[:60] * 16)
        assert found.total_cycles < 60 * 2 * MAX_CYCLES


@pytest.mark.parametrize(
    ("name", "scheduler", "mapping", "width", "outstanding", "why"),
    [
        ("HBM2-2000", "dramsim3", "bgLow", 128, 0, "it knows no pseudo channels; allowed: row-hit"),
        ("LPDDR5-6400", "dramsim3", "bgLow", 16, 0, "it knows no split ACTIVATEs"),
        ("DDR4-2400", "row-hits", "bgLow", 64, 0, "did you mean 'row-hit'"),
        ("DDR4-2400", "row-hit", "bglow", 64, 0, "did you mean 'bgLow'"),
        ("DDR4-2400", "row-hit", "bgLow", 128, 0, "128 bits; allowed for DDR4-2400: 64, 32, 16, 8"),
        ("DDR4-2400", "row-hit", "bgLow", 64, -1, "-1 requests outstanding"),
    ],
)
def test_impossible_channels_are_refused(
    name: str, scheduler: str, mapping: str, width: int, outstanding: int, why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        replay_trace(DRAM_STANDARDS[name], width, mapping, scheduler, np.array([0]), np.array([0]), outstanding)


def test_wrong_accesses_are_named_by_row() -> None:
    capacity = DDR4.capacity_bytes(64)
    for accesses, why in (
        ([(0, 0), (7, 64)], "row 1 of the trace: operation 7; allowed: 0"),
        ([(0, 0), (0, 0), (1, -64)], "row 2 of the trace: address -64; allowed: 0 to"),
        ([(0, capacity)], f"row 0 of the trace: address {capacity}"),
        ([], "the trace is empty"),
    ):
        writes, addresses = np.array(accesses, np.int64).reshape(-1, 2).T
        with pytest.raises(SimError, match=why):
            replay_trace(DDR4, 64, "bgLow", "row-hit", writes, addresses)


def test_trace_files(tmp_path: Path) -> None:
    writes, addresses = read_trace(trace_file(tmp_path, (0, 64), (1, 1 << 40)))
    assert (writes.tolist(), addresses.tolist()) == ([0, 1], [64, 1 << 40])
    for size in (0, 8, 17, 24):
        (tmp_path / "short.bin").write_bytes(bytes(size))
        with pytest.raises(FormatError, match=f"{size} bytes; allowed: one or more pairs"):
            read_trace(tmp_path / "short.bin")


def test_cli_document_and_table(capsys: Captured, tmp_path: Path) -> None:
    path = trace_file(tmp_path, *((n % 2, 64 * n) for n in range(100)))
    found = document(capsys, path, "--standard", "LPDDR5-6400", "--mapping", "colLow", "--outstanding", "4")
    channel = {"standard": "LPDDR5-6400", "width_bits": 16, "mapping": "colLow", "scheduler": "row-hit"}
    assert found.items() >= {**channel, "outstanding": 4, "requests": 100, "accesses": 200}.items()
    assert set(found["timing"]) == {*TIMING_KEYS, "burst"}
    assert found["bandwidth_bytes_per_second"] == pytest.approx(6400 / found["seconds"])
    assert found["peak_share"] == pytest.approx(found["bandwidth_bytes_per_second"] / 12.8e9)
    assert found["row_hits"] / 200 == pytest.approx(found["row_hit_percent"] / 100)
    assert main(["dram", path, "--standard", "LPDDR5-6400", "--mapping", "colLow", "--outstanding", "4"]) == 0
    text = capsys.readouterr().out
    assert f"{found['total_cycles']:,}" in text and "at most 4 under way" in text


def test_cli_built_in_traces_and_timing(capsys: Captured) -> None:
    argv = ("trace:g2_dep_rand", "--standard", "DDR4-2400", "--mapping", "colLow")
    found = document(capsys, *argv)
    assert (found["outstanding"], found["total_cycles"]) == (1, 233282)
    assert document(capsys, *argv, "--outstanding", "0")["total_cycles"] < found["total_cycles"]
    slower = document(capsys, *argv, "--set-timing", "trcd_read=20", "--set-timing", "cl=18")
    assert (slower["timing"]["trcd_read"], slower["timing"]["cl"]) == (20, 18)
    assert slower["total_cycles"] > found["total_cycles"]
    assert main(["dram", *argv, "--set-timing", "trcd_read=20"]) == 0
    assert "colLow, trcd_read = 20, row-hit" in capsys.readouterr().out


def test_defaults_are_the_widths_of_the_reference(capsys: Captured) -> None:
    widths = {"DDR4-2400": 64, "DDR4-3200": 64, "LPDDR4-3200": 32, "LPDDR5-6400": 16, "HBM2-2000": 128}
    for name, width in widths.items():
        assert document(capsys, "trace:g1_dep_seq", "--standard", name)["width_bits"] == width


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--standard", "DDR4-2401"], "did you mean 'DDR4-2400'"),
        (["--standard", "DDR4-2400", "--width", "0"], "'0'; allowed: a whole number of at least 1"),
        (["--standard", "DDR4-2400", "--width", "48"], "48 bits; allowed"),
        (["--standard", "DDR4-2400", "--mapping", "rowLow"], "invalid choice: 'rowLow'"),
        (["--standard", "HBM2-2000", "--scheduler", "dramsim3"], "it knows no pseudo channels"),
        (["--standard", "DDR4-2400", "--set-timing", "trcd_rd=20"], "did you mean 'trcd_read'"),
        (["--standard", "DDR4-2400", "--set-timing", "cl=many"], "allowed: a whole number"),
        (["--standard", "DDR4-2400", "--set-timing", "burst=2"], "--set-timing burst=2; allowed: KEY=CYCLES"),
        (["--standard", "DDR4-2400", "--set-timing", "trc=1"], "trc >= tras + trp"),
        (["--standard", "DDR4-2400", "--outstanding", "5000"], "5000 requests outstanding"),
        ([], "required: --standard"),
    ],
)
def test_cli_mistakes(capsys: Captured, argv: list[str], why: str) -> None:
    assert why in refused(capsys, "trace:g1_dep_seq", *argv)


def test_cli_bad_traces(capsys: Captured, tmp_path: Path) -> None:
    standard = ("--standard", "DDR4-2400")
    assert "row 1 of the trace: operation 7" in refused(capsys, trace_file(tmp_path, (0, 0), (7, 0)), *standard)
    (tmp_path / "odd.bin").write_bytes(bytes(40))
    assert "40 bytes; allowed" in refused(capsys, str(tmp_path / "odd.bin"), *standard)
    assert "No such file" in refused(capsys, str(tmp_path / "none.bin"), *standard)
    assert "Is a directory" in refused(capsys, str(tmp_path), *standard)
    assert "did you mean 'a1_seq_read_1MB'" in refused(capsys, "trace:a1_seq_read", *standard)


def section(error: float) -> Section:
    comparisons = (Comparison("one", 100 + 100 * error, 100), Comparison("two", 100, 100))
    return Section("Test", (Group("theirs", Bound(mean=0.01, largest=0.015, close=1.0), comparisons),))


def test_validate_fails_when_a_bound_is_missed(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, code in ((0.0, 0), (0.015, 0), (-0.016, 1), (0.05, 1), (0.06, 1)):
        monkeypatch.setattr(validate, "SECTIONS", (lambda report, error=error: section(error),))
        assert main(["validate"]) == code
        assert ("NO" in capsys.readouterr().out) == bool(code)
    assert main(["validate", "--json", "--all"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert found["is_met"] is False
    assert found["groups"][0].items() >= {"rows": 2, "max_error": 0.06, "close_share": 0.5}.items()
    assert [row["error"] for row in found["rows"]] == [0.06, 0.0]
