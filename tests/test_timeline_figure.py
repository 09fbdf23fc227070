"""The figure of a timeline: steps are what slices cover, they add up to the run, and files that are none are named."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_samples import sample_run, write_sample_trace
from test_sim import program

from accel.cli import main
from accel.errors import FormatError
from accel.isa import QUEUES
from accel.plots import block_name, write_figure
from accel.program import write_program
from accel.run import MemoryLevel, read_run, write_run
from accel.timeline import DRAM, TILE_DECODER, UNITS, VECTOR_UNIT, coverage, merged
from accel.timeline_plot import timeline_figure
from accel.trace_reading import open_trace_file, read_timeline
from accel.trace_tracks import DECODER, FIRST_BUS, UNITS_PROCESS, VECTOR

Captured = pytest.CaptureFixture[str]
Edit = Callable[[bytes], bytes]


@pytest.mark.parametrize("seed", range(20))
def test_steps_hold_what_spans_cover(seed: int) -> None:
    """Against a walk cycle by cycle; overlaps count each, and once when merged."""
    rng = random.Random(seed)
    spans = [sorted((rng.randrange(200), rng.randrange(200))) for _ in range(rng.randrange(1, 30))]
    begins, ends = (list(column) for column in zip(*spans, strict=True))
    edges = np.linspace(rng.randrange(50), 150, 1 + rng.choice((1, 2, 5, 10)))
    fine = np.arange(0, 20_000) / 100  # hundredths of a cycle
    counts = sum(((fine >= begin) & (fine < end)).astype(int) for begin, end in spans)
    for counted, found in ((counts, (begins, ends)), (np.minimum(counts, 1), merged(begins, ends))):
        steps = [(fine >= low) & (fine < high) for low, high in itertools.pairwise(edges)]
        expected = [counted[step].sum() / 100 for step in steps]
        assert coverage(edges, *found) == pytest.approx(expected, abs=0.3)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with program, run and timeline of a small network."""
    folder = tmp_path_factory.mktemp("timeline")
    write_program(program(), folder / "net.prog.safetensors")
    names = {kind: str(folder / f"net.{kind}") for kind in ("prog.safetensors", "run.json", "trace.json.gz")}
    made = ["sim", names["prog.safetensors"], "-o", names["run.json"], "--trace", names["trace.json.gz"]]
    assert main(made) == 0
    return folder


def test_a_timeline_adds_up_to_its_run(simulated: Path) -> None:
    run, trace = read_run(simulated / "net.run.json"), open_trace_file(simulated / "net.trace.json.gz")
    assert trace.is_of(run) and trace.cycles == (0, run.total_cycles)
    found = read_timeline(trace, run.machine, trace.cycles, 37)
    width = found.step_cycles
    for cause, cycles in run.cycles_by_cause.items():
        assert found.causes[cause].sum() * width == pytest.approx(cycles, abs=2)
    assert sum(found.causes.values()).max() <= 1 + 1e-9
    assert max(share.max() for share in found.queues.values()) <= 1 + 1e-9  # instructions overlap
    assert set(found.units) == set(UNITS) and set(found.queues) == set(QUEUES)
    slices: dict[int, float] = {}
    for event in json.loads(gzip.decompress(trace.path.read_bytes()))["traceEvents"]:
        if event["ph"] == "X" and event["pid"] == UNITS_PROCESS:
            slices[event["tid"]] = slices.get(event["tid"], 0) + event["dur"]
    for unit, track in ((TILE_DECODER, DECODER), (VECTOR_UNIT, VECTOR), (DRAM, FIRST_BUS)):
        assert found.units[unit].sum() * width == pytest.approx(slices.get(track, 0), rel=1e-6)
    for level in run.occupancy:
        assert found.held_bytes[level.memory].max() == max(level.held_bytes) or level.memory == "weight"
    assert [span.begin for span in found.layers[1:]] == [span.end for span in found.layers[:-1]]
    assert {span.name for span in found.layers} == {layer.name for layer in run.layers if layer.cycles}


def test_a_window_shows_the_same_in_finer_steps(simulated: Path) -> None:
    run, trace = read_run(simulated / "net.run.json"), open_trace_file(simulated / "net.trace.json.gz")
    whole, part = (read_timeline(trace, run.machine, window, 50) for window in ((0, 1000), (500, 1000)))
    for name in ("causes", "units", "queues"):
        for key, share in getattr(part, name).items():
            assert share.reshape(25, 2).mean(axis=1) == pytest.approx(getattr(whole, name)[key][25:]), key
    for memory, held in part.held_bytes.items():
        assert held.reshape(25, 2).max(axis=1).tolist() == whole.held_bytes[memory][25:].tolist()


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_two_runs_make_one_figure(tmp_path: Path, suffix: str) -> None:
    shown = []
    for codec in ("int8", "int4"):
        run = sample_run(codec, blocks=20)
        trace = open_trace_file(write_sample_trace(run, tmp_path / f"{codec}.trace.json"))
        shown.append((run, read_timeline(trace, run.machine, trace.cycles)))
    figure = timeline_figure(shown)
    write_figure(figure, tmp_path / f"a.{suffix}")
    assert {axes.get_xlim() for axes in figure.axes} == {(0, max(run.total_cycles for run, _ in shown) / 1e3)}
    lanes = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert lanes == ["array", *UNITS, *(f"{queue} queue" for queue in QUEUES)]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "mean" in texts and any(text.endswith("blocks.19") for text in texts)
    assert "cycles; steps of" in figure.axes[1].get_xlabel() and not figure.axes[0].get_xlabel()


@pytest.mark.parametrize("stop", [1, 10, 399])
def test_a_few_cycles_are_steps_of_whole_ones_without_a_warning(
    stop: int, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Nothing is held yet in the first cycles: there is no memory to show."""
    run = sample_run(blocks=1)
    trace = open_trace_file(write_sample_trace(run, tmp_path / "a.trace.json"))
    timeline = read_timeline(trace, run.machine, (0, stop))
    assert timeline.step_cycles == 1 and len(timeline.edges) == stop + 1
    figure = timeline_figure([(run, timeline)])
    write_figure(figure, tmp_path / "a.png")
    assert not [str(warning.message) for warning in recwarn]
    assert "steps of 1 cycle" in figure.axes[-1].get_xlabel() and "cycles" not in figure.axes[-1].get_xlabel()[8:]


def test_peaks_are_those_of_the_run_where_the_counters_of_a_file_miss_them(tmp_path: Path) -> None:
    level = MemoryLevel("activation", 1 << 18, (0.0,), (5120,))
    run = replace(sample_run(blocks=1), occupancy=(level,))
    trace = open_trace_file(write_sample_trace(run, tmp_path / "a.trace.json"))
    for window, peak in ((trace.cycles, "5 of"), ((0, trace.cycles[1] - 1), "4 of")):
        figure = timeline_figure([(run, read_timeline(trace, run.machine, window))])
        assert any(text.get_text().startswith(peak) for text in figure.axes[1].texts), peak


def test_a_large_file_shows_how_far_it_is_read(simulated: Path) -> None:
    told: list[tuple[float, float, str]] = []
    trace = open_trace_file(simulated / "net.trace.json.gz", lambda *at: told.append(at))
    read_timeline(trace, read_run(simulated / "net.run.json").machine, trace.cycles, tell=lambda *at: told.append(at))
    size = trace.path.stat().st_size
    assert len(told) > 1 and {(total, what) for _, total, what in told} == {(size, f"reading {trace.path}")}
    assert all(0 <= done <= size for done, _, _ in told)


def test_blocks_are_what_precedes_the_first_number() -> None:
    names = ["blocks.3.attn.qkv", "layer1.0.conv1", "head", "/encoder/layer.0/attention/MatMul"]
    assert [block_name(name) for name in names] == ["blocks.3", "layer1.0", "head", "encoder.layer.0"]


DAMAGE: dict[str, tuple[Edit, str]] = {
    "truncated": (lambda data: data[: len(data) // 2], "truncated, or not a timeline of accel sim --trace"),
    "other JSON": (lambda data: b'{"traceEvents": []}\n', "not a timeline"),
    "one line": (lambda data: b"[" + b"0," * (1 << 20), "not one event a line"),
    "cut gzip": (lambda data: gzip.compress(data)[:-9], "truncated or damaged"),
    "newer": (lambda data: data.replace(b"accel.trace/1", b"accel.trace/9"), "accel.trace/9"),
    "no digest": (lambda data: data.replace(b'"digest"', b'"digost"'), "damaged: KeyError 'digest'"),
    "no cause": (lambda data: data.replace(b'"cause"', b'"course"', 1), "damaged: KeyError 'cause'"),
    "endless": (lambda data: data.replace(b'"dur":', b'"dur":1e999,"was":', 1), "damaged: ValueError a slice from"),
    "no track": (lambda data: data.replace(b'"pid":1,"tid":1000,', b'"pid":1,"tid":99999,', 1), "damaged: KeyError 99"),
    "endless run": (
        lambda data: data.replace(b'"total_cycles":', b'"total_cycles":1e999,"was":'),
        "damaged: OverflowError",
    ),
    "endless bytes": (lambda data: data.replace(b'{"bytes":4096}', b'{"bytes":1e999}', 1), "damaged: OverflowError"),
    "less than empty": (
        lambda data: data.replace(b'{"bytes":4096}', b'{"bytes":-1}', 1),
        "damaged: ValueError -1 bytes",
    ),
    "nested": (lambda data: data.replace(b'"args":{', b'"args":{"x":' + b"[" * 200_000, 1), "damaged: RecursionError"),
    "other cause": (lambda data: data.replace(b'"compute"', b'"leisure"', 1), "damaged: ValueError cause 'leisure' of"),
    "no name": (
        lambda data: data.replace(b'"layer":"', b'"layer":5,"was":"', 1),
        "damaged: ValueError cause 'compute' of layer 5",
    ),
    "no unit": (lambda data: data.replace(b'"tid":11,', b'"tid":0,', 1), "damaged: KeyError 0"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_what_is_no_timeline_is_named(case: str, tmp_path: Path) -> None:
    edit, message = DAMAGE[case]
    path = write_sample_trace(sample_run(blocks=1), tmp_path / "a.trace.json")
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(FormatError) as raised:
        trace = open_trace_file(path)
        read_timeline(trace, sample_run().machine, trace.cycles)
    assert str(raised.value).startswith(f"trace '{path}': ") and message in str(raised.value)
    assert "\n" not in str(raised.value)


MISTAKES = {
    "unused": (["--trace", "a.trace.json"], "--trace a.trace.json: nothing shows it; allowed with --format html or"),
    "no trace": (["--trace-window", "1:2"], "--trace-window is about the files of --trace, which are not given"),
    "none given": (["--plot", "timeline=a.png"], "--plot timeline: runs do not hold it: accel sim --trace FILE"),
    "a run twice": (
        ["--plot", "timeline=a.png", "--trace", "a.trace.json", "--trace", "a2.trace.json"],
        "--trace a2.trace.json: of the same run as 'a.trace.json'; allowed: one of each run",
    ),
    "another run": (["--plot", "timeline=a.png", "--trace", "b.trace.json"], "none of the runs is"),
    "window": (
        ["--plot", "timeline=a.png", "--trace", "a.trace.json", "--trace-window", "900000:900001"],
        "--trace-window 900000:900001; allowed: within 0:",
    ),
    "no file": (["--plot", "timeline=a.png", "--trace", "c.json"], "trace 'c.json': No such file or directory"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_leave_nothing(name: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(sample_run(blocks=1), tmp_path / "a.run.json")
    write_sample_trace(sample_run(blocks=1), tmp_path / "a.trace.json")
    write_sample_trace(sample_run(blocks=1), tmp_path / "a2.trace.json")
    write_sample_trace(sample_run(blocks=2), tmp_path / "b.trace.json")
    before = set(tmp_path.iterdir())
    arguments, message = MISTAKES[name]
    assert main(["report", "a.run.json", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and message in err
    assert set(tmp_path.iterdir()) == before
