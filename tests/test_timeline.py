"""The timeline of a run: its format, that it adds up to the run, and that it is what the slow twin does."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import trace_events
from hypothesis import HealthCheck, assume, given, settings
from naive import FifoTooSmallError
from naive_timeline import NaiveTimeline, millicycles
from program_cases import DRAM_BYTES, program_cases, random_case
from test_sim import program

import sim.tape
from accel.cli import main
from accel.errors import IsaError, SimError
from accel.isa import decode_program, disassemble, encode_program
from accel.machine import load_machine
from accel.metrics import CAUSES, TRAFFIC
from accel.program import Layer, Program, write_program
from accel.trace_events import open_trace
from accel.trace_tracks import memory_counter
from sim import Prepared, simulate
from sim.counters import MOST_WINDOWS, WindowSums
from sim.decode import decode_words
from sim.occupancy import sram_occupancy
from sim.timeline import WHOLE_RUN, Timeline, Window, write_timeline
from sim.timing import time_program

BANKED = {"banked": load_machine("edge64"), "ideal": load_machine("edge64-ideal")}
relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck))


def program_of(case):
    """A random program as a ``Program``; its tokens order only what the timing needs, so nothing proves it."""
    nothing = {"source": {}, "streams": (), "inputs": (), "outputs": (), "model": "m", "codec": "", "packed_digest": ""}
    layers = tuple(Layer(f'layer "{n}"', "gemm") for n in range(case.layers))
    words, layer = encode_program(case.program), np.array(case.layer, np.int32)
    image = np.frombuffer(case.image, np.uint8)
    return Program(
        machine=case.machine, batch=1, words=words, instruction_layer=layer, image=image, dram_bytes=DRAM_BYTES,
        layers=layers, **nothing,
    )  # fmt: skip


def traced(case, folder):
    """Document and timing of a random program."""
    made = program_of(case)
    with open_trace(folder / "net.trace.json") as file:
        timeline = Timeline(made, file, WHOLE_RUN, decode_words(made.words))
        timeline._occupancy = lambda *_: ()  # random programs configure only what their timing needs
        timing = time_program(made, case.machine, timeline.take)
        timeline.finish(case.machine, timing)
        file.finish({})
    return trace_events.load(folder / "net.trace.json"), timing


def traced_if_possible(case, folder):
    """As ``traced``; a program whose weights some FIFO cannot take is passed over."""
    try:
        return traced(case, folder)
    except SimError as error:
        assume("decoder.fifo_words" not in str(error))
        raise


@settings(relaxed, max_examples=40)
@given(case=program_cases())
def test_slices_are_what_the_naive_twin_does(case, tmp_path_factory):
    assume(not case.machine.is_banked)
    try:
        slow = NaiveTimeline(case.program, case.machine, dram_bytes=DRAM_BYTES, image=case.image).run()
    except FifoTooSmallError:
        assume(False)
    document, _ = traced(case, tmp_path_factory.mktemp("trace"))
    found = []
    for name, begin, end, event in trace_events.slices(document):
        number = event["args"].get("instruction")
        if name.startswith("queue "):
            name = name.split()[1]
        elif name.startswith("DRAM"):
            name = "words" if event["name"] == "instruction fetch" else "data"
        elif name not in ("decoder", "array: streams"):
            continue
        found.append((name, begin, end, number, event["args"].get("bytes", 0)))
    assert sorted(found) == slow.slices


@settings(relaxed, max_examples=25)
@given(case=program_cases())
def test_random_programs_add_up(case, tmp_path_factory):
    document, timing = traced_if_possible(case, tmp_path_factory.mktemp("trace"))
    check_sums(document, case.program, timing.causes, timing.traffic, millicycles(timing.total))


def check_sums(document, instructions, causes, traffic, total):
    """The array streams or waits at any time; ticks of causes and bytes of kinds are those of the run."""
    array, moved, waited = [], Counter(), defaultdict(list)
    for name, begin, end, event in trace_events.slices(document):
        if name in ("array: streams", "array: waits for"):
            array.append((begin, end))
            waited[event["args"]["cause"]].append(end - begin)
        if name.startswith("DRAM"):
            kinds = {kind: size for kind, size in event["args"].items() if kind in TRAFFIC}
            assert sum(kinds.values()) == event["args"]["bytes"]
            moved.update(kinds)
        if "instruction" in event["args"]:
            assert event["args"]["text"] == disassemble(instructions[event["args"]["instruction"]])
    assert all(before[1] == after[0] for before, after in pairwise(sorted(array)))
    assert not array or (min(array)[0], max(array)[1]) == (0, total)
    for cause, ticks in zip(CAUSES, causes.sum(axis=0).tolist(), strict=True):
        assert sum(waited[cause]) == pytest.approx(millicycles(ticks), abs=len(waited[cause]) + 1)
    assert sum(waited["compute"]) == millicycles(causes[:, list(CAUSES).index("compute")].sum())
    assert dict(moved) == {kind: size for kind, size in zip(TRAFFIC, traffic.sum(axis=0).tolist(), strict=True) if size}
    counted = Counter()
    for event in document["traceEvents"]:
        if event["ph"] == "C" and event["name"].startswith("DRAM"):
            counted.update(event["args"])
    assert counted == moved


@pytest.mark.parametrize("machine", BANKED.values(), ids=BANKED)
def test_a_run_is_the_same_with_and_without_its_timeline(machine, tmp_path):
    made = program(machine=replace(machine, array=replace(machine.array, rows=16, columns=16)))
    plain, timing = simulate(made), time_program(made, made.machine)
    traced_run = write_timeline(made, tmp_path / "a.trace.json.gz")
    assert traced_run == plain
    document = trace_events.load(tmp_path / "a.trace.json.gz")
    check_sums(document, decode_program(made.words), timing.causes, timing.traffic, millicycles(timing.total))
    about = document["otherData"]
    assert about["total_cycles"] == plain.total_cycles and about["dram_bytes"] == dict(plain.dram_bytes)
    assert about["program"]["digest"] == made.digest and about["time_unit"] == "1 us in the viewer is 1 cycle"
    busy = Counter()
    for name, begin, end, event in trace_events.slices(document):
        busy[name] += end - begin
        assert event["args"].get("layer") in {"layer0", "layer1"}
    assert busy["array: streams"] == 1000 * plain.cycles_by_cause["compute"]
    assert busy["array: streams"] + busy["array: waits for"] == millicycles(timing.total)


def test_a_tape_taken_in_many_pieces_holds_the_same(monkeypatch):
    for seed in range(6):
        made = program_of(random_case(random.Random(seed)))
        whole, pieces = [], []
        try:
            before = time_program(made, made.machine, whole.append)
        except SimError:  # some FIFO cannot take its weights
            continue
        monkeypatch.setattr(sim.tape, "LEAST_ROWS", 1)
        monkeypatch.setattr(sim.tape, "new_tape", lambda count: np.zeros((sim.tape.margin(count) + 3, 6), np.int64))
        after = time_program(made, made.machine, pieces.append)
        monkeypatch.undo()
        assert (np.concatenate(whole) == np.concatenate(pieces)).all()
        assert (before.completed == after.completed).all() and (before.causes == after.causes).all()
        assert len(pieces) > len(whole) == 1


def test_a_window_keeps_what_touches_it(tmp_path):
    made = program()
    write_timeline(made, tmp_path / "all.json")
    write_timeline(made, tmp_path / "part.json", window=Window(700, 900))
    whole, part = (trace_events.load(tmp_path / f"{name}.json") for name in ("all", "part"))
    assert part["otherData"]["window_cycles"] == [700, 900] and whole["otherData"]["window_cycles"] is None

    def found(document):
        for name, begin, end, event in trace_events.slices(document):
            yield name.partition(" (")[0], begin, end, event["name"], json.dumps(event["args"])

    expected = sorted(row for row in found(whole) if row[1] // 1000 < 900 and -(-row[2] // 1000) >= 700)
    assert sorted(found(part)) == expected
    assert 0 < len(expected) < len(list(found(whole)))
    assert all(event["ts"] >= 700 for event in part["traceEvents"] if event["ph"] == "C")


@pytest.mark.parametrize("first", [0, 1, 400, 700])
def test_counters_begin_with_what_memories_hold_then(first, tmp_path):
    made = program()
    write_timeline(made, tmp_path / "part.json", window=Window(first, first + 9))
    events = trace_events.load(tmp_path / "part.json")["traceEvents"]
    for memory, found in sram_occupancy(made).items():
        levels = [e for e in events if e["ph"] == "C" and e["name"] == memory_counter(memory)]
        start, *_ = sorted(levels, key=lambda event: event["ts"])
        assert (start["ts"], start["args"]["bytes"]) == (first, found.at(first)), memory
        assert first < 400 or found.at(first) or memory == "codebook", "nothing is held: nothing is tested"


def test_windows_are_joined_as_a_run_grows():
    sums, expected = WindowSums(2), Counter()
    rng = np.random.default_rng(5)
    for end in (100, 64 * MOST_WINDOWS - 1, 64 * MOST_WINDOWS, 10**6, 10**7):
        cycles, series, amounts = rng.integers(0, end + 1, 50), rng.integers(0, 2, 50), rng.integers(1, 9, 50)
        cycles[0] = end
        sums.add(cycles, series, amounts)
        for cycle, which, amount in zip(cycles.tolist(), series.tolist(), amounts.tolist(), strict=True):
            expected[cycle, which] += amount
    for window, (start, end) in enumerate(pairwise(sums.edges())):
        for which in range(2):
            inside = sum(n for (cycle, s), n in expected.items() if s == which and start <= cycle < end)
            assert sums.sums[window, which] == inside
    assert 10**7 in range(sums.edges()[-2], sums.edges()[-1]) and sums.used <= MOST_WINDOWS


def test_nothing_is_left_of_a_trace_that_fails(tmp_path):
    made = program()
    racing = replace(made, words=np.ascontiguousarray(made.words[1:]), instruction_layer=made.instruction_layer[1:])
    with pytest.raises(IsaError):
        write_timeline(racing, tmp_path / "net.trace.json")
    assert not list(tmp_path.iterdir())


def test_a_window_behind_the_run_is_said(tmp_path):
    made = program()
    end = simulate(made).total_cycles
    with pytest.raises(SimError, match=f"from cycle {end}: the run ends at cycle {end}$"):
        write_timeline(made, tmp_path / "net.trace.json", window=Window(end, end + 9))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def prog(tmp_path):
    write_program(program(), tmp_path / "net.prog.safetensors")
    return tmp_path


def run(folder, *arguments):
    return main(["sim", str(folder / "net.prog.safetensors"), *map(str, arguments)])


def test_sim_writes_a_timeline(prog, capsys):
    assert run(prog, "-o", prog / "a.run.json", "--trace", prog / "a.trace.json.gz", "--json") == 0
    traced_run, told = json.loads(capsys.readouterr().out), trace_events.load(prog / "a.trace.json.gz")
    assert run(prog, "--json") == 0
    assert json.loads(capsys.readouterr().out) == traced_run
    assert told["otherData"]["total_cycles"] == traced_run["total_cycles"]
    assert (prog / "a.trace.json.gz").read_bytes()[4:8] == b"\0" * 4  # no date: the same run gives the same bytes


@pytest.mark.parametrize("more", [[], ["--trace", "a.trace.json"]])
def test_one_simulation_is_enough_for_cycles_levels_and_timeline(prog, capsys, monkeypatch, more):
    times = []
    once = Prepared.timing
    monkeypatch.setattr(Prepared, "timing", lambda *given: times.append(1) or once(*given))
    monkeypatch.chdir(prog)
    assert run(prog, "-o", "a.run.json", *more) == 0
    assert len(times) == 1 and len(json.loads((prog / "a.run.json").read_text())["occupancy"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trace", "x.txt"], "'x.txt'; allowed: a name that ends in .json or .json.gz"),
        (["--trace", "none/x.json"], "folder 'none' does not exist"),
        (["--trace-window", "1:2"], "--trace-window is about the file of --trace"),
        (["--trace", "x.json", "--trace-window", "5:5"], "'5:5'; allowed: FROM:TO in cycles"),
        (["--trace", "x.json", "--trace-window", "a:5"], "allowed: FROM:TO"),
        (["--trace", "x.json", "-o", "x.json"], "write them to two files"),
    ],
)
def test_bad_options_leave_nothing(prog, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(prog)
    try:
        code = run(prog, *arguments)
    except SystemExit as error:
        code = error.code
    assert code == 2 and message in capsys.readouterr().err
    assert [path.name for path in prog.iterdir()] == ["net.prog.safetensors"]
