"""The report as a page: complete, self-contained, the same every time, and unmoved by what names in files hold."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from run_samples import sample_run, write_sample_trace

from accel.cli import main
from accel.cli.curves import array_panels, bandwidth_panels
from accel.cli.figures import FIGURES, Evidence
from accel.cli.origin_tables import identity_table, machines_table
from accel.cli.page import html_page
from accel.cli.report import FIGURE_NAMES
from accel.cli.run_tables import run_tables
from accel.cli.run_verdict import run_verdicts
from accel.cli.timelines import timelines_of
from accel.machine import machine_digest
from accel.metrics import METRICS
from accel.reporting import dominant, plain
from accel.run import MemoryLevel, Run, write_run

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>$\\frac{{{7*7}}}\x1b[31m"
Captured = pytest.CaptureFixture[str]


def _run(codec: str = "int8", blocks: int = 1) -> Run:
    run = sample_run(codec, blocks=blocks)
    return replace(run, occupancy=(MemoryLevel("activation", 4096, (0.0, 9.0), (64, 1024)),))


def comparison() -> dict[str, object]:
    """The document of a comparison of two formats on one machine."""
    rows = {"int8": [1.0, 1.0, 1.0], "int4": [2.0, 1.5, 1.0]}
    machine = {
        "machine": {"name": "edge64", "array": {"rows": 64, "columns": 64}},
        "own_bandwidth_bytes_per_cycle": 5.0,
        "bandwidths_bytes_per_cycle": [1.0, 4.0, 16.0],
        "curves": {codec: {"speedup": row, "speedup_gemm_only": row} for codec, row in rows.items()},
        "best": "int4",
        "crossover": {"status": "crosses", "bandwidth_bytes_per_cycle": 12.0},
        "arrays": {
            "names": ["16x16", "64x64"],
            "macs_per_cycle": [256, 4096],
            "speedup": {"int8": [1.0, 1.0], "int4": [1.0, 1.8]},
            "crossover_macs_per_cycle": 400.0,
        },
        "verdict": "edge64: compression pays",
    }
    return {
        "schema": "accel.comparison/2",
        "model": "sample",
        "gain_threshold": 1.1,
        "notes": [],
        "rows": [{"machine": "edge64", "codec": "int4", "speedup": 1.5}],
        "machines": [machine],
    }


class Page(HTMLParser):
    """Every element with its attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Everything a page can have."""
    runs, folder = (_run("int8"), _run("ssvq:k=16,d=8")), tmp_path_factory.mktemp("traces")
    traces = [str(write_sample_trace(run, folder / f"{i}.trace.json")) for i, run in enumerate(runs)]
    return Evidence(runs, comparison(), timelines=timelines_of(runs, traces, None))


@pytest.fixture(scope="module")
def whole(evidence: Evidence) -> str:
    """A page of it."""
    return html_page(evidence)


def test_the_page_shows_every_table_of_the_report(whole: str) -> None:
    cells = {text.strip() for text in Page(whole).texts}
    runs = [_run("int8"), _run("ssvq:k=16,d=8")]
    for table in (*run_tables(runs), identity_table(runs)):
        for row in table.rows:
            assert {plain(column.cell(row.get(column.key))) for column in table.columns} <= cells, table.title
    assert {metric.definition for metric in METRICS.values()} <= cells
    assert {machine_digest(runs[0].machine), "0" * 64, "edge64: compression pays"} <= cells


def test_the_page_shows_every_figure(whole: str) -> None:
    assert tuple(FIGURES) == FIGURE_NAMES
    page = Page(whole)
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert {f"figure-{name}" for name in FIGURES} <= ids
    labels = [str(image["aria-label"]) for image in page.named("svg")]
    assert len(labels) == len(FIGURES)
    assert all(any(label.startswith(row.title) for label in labels) for row in FIGURES.values())
    titles = "".join(page.texts)
    assert "transformer.encoder.blocks.0.fc1: weight_dma" in titles  # what a bar says when the pointer rests on it


def test_the_page_needs_nothing_from_elsewhere(whole: str) -> None:
    page = Page(whole)
    assert not {tag for tag, _ in page.elements} & {"link", "img", "iframe", "object", "base", "form"}
    for _, attributes in page.elements:
        for key in ("src", "href", "xlink:href"):
            assert (attributes.get(key) or "#").startswith("#")
    assert not re.search(r"url\((?!#)|@import", whole)
    (script,) = re.findall(r"<script>(.*?)</script>", whole, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (str(meta["content"]) for meta in page.named("meta") if meta.get("http-equiv"))
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_ids_are_unique(whole: str) -> None:
    ids = [attributes["id"] for _, attributes in Page(whole).elements if "id" in attributes]
    assert len(set(ids)) == len(ids)


def test_the_same_evidence_makes_the_same_page(whole: str, evidence: Evidence) -> None:
    assert whole == html_page(evidence)


def test_machines_of_one_name_have_a_column_each() -> None:
    """``--set`` keeps a machine's name: what differs must still show."""
    run = _run()
    other = replace(run, machine=replace(run.machine, vector=replace(run.machine.vector, lanes=3)))
    table = machines_table([run, other, run])
    first, *_ = table.rows
    assert first["key"] == "vector.lanes" and len(table.columns) == 3
    assert [first[column.key] for column in table.columns[1:]] == [str(run.machine.vector.lanes), "3"]
    titles = [column.title for column in table.columns[1:]]
    assert all(title.startswith(f"{run.machine.name} (") for title in titles) and len(set(titles)) == 2
    assert [column.title for column in machines_table([run, run]).columns] == ["key", run.machine.name]


def hostile_run() -> Run:
    run = _run()
    return replace(
        run,
        machine=replace(run.machine, name=HOSTILE, description=HOSTILE),
        layers=tuple(replace(layer, name=f"{HOSTILE}{i}", kind=HOSTILE) for i, layer in enumerate(run.layers)),
        program={"digest": HOSTILE, "model": HOSTILE, "codec": HOSTILE, "batch": HOSTILE},
        notes=(HOSTILE,),
        tool=HOSTILE,
        occupancy=(MemoryLevel(HOSTILE, 1, (0.0,), (1,)),),
    )


def test_names_from_files_stay_text(tmp_path: Path) -> None:
    document = json.loads(json.dumps(comparison()).replace("edge64", "HOSTILE").replace("sample", "HOSTILE"))
    document = json.loads(json.dumps(document), object_hook=lambda found: {
        key: HOSTILE if value == "HOSTILE" else value for key, value in found.items()})  # fmt: skip
    run = hostile_run()
    trace = write_sample_trace(run, tmp_path / "a.trace.json")
    whole = html_page(Evidence((run,), document, timelines=timelines_of([run], [str(trace)], None)))
    page = Page(whole)
    assert len(page.named("script")) == 1 and not page.named("img") and "\x1b" not in whole
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
    assert "49" not in "".join(text for text in page.texts if "alert" in text)  # no template either
    assert sum(HOSTILE[:20] in text for text in page.texts) > 5


def _written(folder: Path, *runs: Run) -> list[str]:
    paths = [folder / f"{i}.run.json" for i in range(len(runs))]
    for run, path in zip(runs, paths, strict=True):
        write_run(run, path)
    return [str(path) for path in paths]


def test_every_figure_can_be_plotted_and_the_page_written(tmp_path: Path, capsys: Captured) -> None:
    files, curves = _written(tmp_path, _run(), _run("int4")), tmp_path / "comparison.json"
    curves.write_text(json.dumps(comparison()))
    plots = [word for name in FIGURE_NAMES for word in ("--plot", f"{name}={tmp_path / name}.svg")]
    for run, name in ((_run(), "a.trace.json.gz"), (_run("int4"), "b.trace.json")):
        plots += ["--trace", str(write_sample_trace(run, tmp_path / name))]
    argv = ["report", *files, "--curves", str(curves), "--format", "html", "-o", str(tmp_path / "a.html"), *plots]
    assert main(argv) == 0
    assert (tmp_path / "a.html").read_text().startswith("<!DOCTYPE html>")
    for name in FIGURE_NAMES:
        assert (tmp_path / f"{name}.svg").read_bytes().startswith(b"<?xml")
    out, err = capsys.readouterr()
    assert out == "" and all(line.startswith("wrote ") for line in err.splitlines())
    assert len(err.splitlines()) == len(FIGURE_NAMES) + 1


def test_a_timeline_of_one_of_several_runs_is_shown(tmp_path: Path, capsys: Captured) -> None:
    files, plot = _written(tmp_path, _run(), _run("int4")), tmp_path / "timeline.svg"
    trace = str(write_sample_trace(_run("int4"), tmp_path / "b.trace.json"))
    assert main(["report", *files, "--trace", trace, "--format", "html", "--plot", f"timeline={plot}"]) == 0
    out = capsys.readouterr().out
    assert "accel sim --trace FILE" not in out and "what the array does, or waits for" in out
    assert "not shown, as no trace of it is given: int8" in out
    assert plot.exists()


def test_a_page_without_curves_says_how_to_get_them(tmp_path: Path, capsys: Captured) -> None:
    (file,) = _written(tmp_path, replace(_run(), occupancy=()))
    assert main(["report", file, "--format", "html"]) == 0
    out = capsys.readouterr().out
    missing = out.partition('id="missing"')[2]
    assert "Speed-up against DRAM bandwidth, Speed-up against array size: runs do not hold it: accel compare" in missing
    assert "accel sim -o" in missing and "accel sim --trace FILE" in missing and 'href="#missing"' in out
    assert 'id="speedup"' not in out and 'id="timeline"' not in out
    assert "cycles" in re.search(r'<dl class="tiles">.*?</dl>', out, re.DOTALL).group()  # type: ignore[union-attr]


def test_a_page_without_a_comparison_says_what_bounds_its_runs() -> None:
    int8, ssvq = _run("int8"), _run("ssvq:k=16,d=8")
    first, second = run_verdicts([int8, ssvq])
    cause, share = dominant(ssvq.cycles_by_cause)
    assert first.startswith(f"int8: {int8.total_cycles:,} cycles, ") and "as fast" not in first
    speed, traffic = int8.total_cycles / ssvq.total_cycles, int8.dram_bytes_total / ssvq.dram_bytes_total
    assert f"ssvq:k=16,d=8: {speed:.2f}x as fast as int8 and moves {traffic:.2f}x less" in second
    assert f"bound by {cause.replace('_', ' ')} ({100 * share:.0f} % of cycles" in second
    assert f"Of its {len(ssvq.layers)} layers none takes more than transformer.encoder.blocks.0.fc1, " in second
    other = replace(ssvq, program=ssvq.program | {"model": "another"})
    assert run_verdicts([int8, other])[1].startswith(f"ssvq:k=16,d=8 (model another): {ssvq.total_cycles:,} cycles")
    four = replace(ssvq, program=ssvq.program | {"batch": 4})
    assert run_verdicts([int8, four])[1].startswith(f"ssvq:k=16,d=8 (batch 4): {ssvq.total_cycles:,} cycles")
    cells = "".join(Page(html_page(Evidence((int8, ssvq)))).texts)
    assert first in cells and second in cells
    summary = html_page(Evidence((int8,))).partition('<section id="cycles"')[0]
    texts = Page(summary).texts
    assert first in texts and METRICS["utilisation"].definition in texts


def test_runs_at_two_clocks_are_compared_in_time() -> None:
    """At half the clock DRAM is twice as fast in cycles: fewer cycles may take longer."""
    run = _run("int8")
    slow = replace(run, machine=replace(run.machine, clock=replace(run.machine.clock, hz=run.machine.clock.hz / 2)))
    assert ": 0.50x as fast as " in run_verdicts([run, slow])[1]
    assert " and moves about as much from and to DRAM. " in run_verdicts([run, slow])[1]


def test_a_verdict_of_few_layers_and_cycles() -> None:
    """Of layers that cost the same none takes most."""
    layer = _run().layers[0]
    parts = {field: getattr(layer, field) for field in ("cycles_by_cause", "dram_bytes", "decoder")}
    alone = replace(_run(), layers=(layer,), total_cycles=layer.cycles, **parts)
    twice = {field: {key: 2 * value for key, value in table.items()} for field, table in parts.items()}
    twins = replace(alone, layers=(layer, layer), total_cycles=2 * layer.cycles, **twice)
    assert f"Of its 2 layers none takes more than {layer.name}, 50.0 % of the cycles." in run_verdicts([twins])[0]
    (verdict,) = run_verdicts([alone])
    assert "Of its" not in verdict and f" {alone.seconds * 1e6:.3f} µs at " in verdict


def test_a_run_of_nothing_has_a_page() -> None:
    none = {field: dict.fromkeys(getattr(_run(), field), 0) for field in ("cycles_by_cause", "dram_bytes")}
    idle = replace(_run(), layers=(), total_cycles=0, macs=0, occupancy=(), **none)
    assert "0 cycles" in html_page(Evidence((idle,))) and "0 cycles" in html_page(Evidence((_run(), idle)))


MISTAKES = {
    "figure": (["--plot", "pie=a.png"], "no figure 'pie'; allowed: bandwidth, arrays"),
    "no curves": (["--plot", "bandwidth=a.png"], "--plot bandwidth: runs do not hold it: accel compare"),
    "format": (["--plot", "roofline=a.gif"], "allowed: .png, .svg, .pdf"),
    "one file twice": (["--plot", "roofline=a.png", "--plot", "layers=a.png"], "the file of two outputs"),
    "unused curves": (["--curves", "c.json"], "--curves c.json: nothing shows it; allowed with --format html"),
    "older curves": (["--curves", "c.json", "--format", "html"], "an older version of accel"),
    "another model": (["--curves", "o.json", "--format", "html"], "of model 'other'; runs of sample"),
    "no file": (["--curves", "none.json", "--format", "html"], "comparison 'none.json': No such file"),
    "damaged": (["--curves", "d.json", "--format", "html"], "comparison 'd.json': damaged: KeyError 'machines'"),
    "uneven": (["--curves", "u.json", "--format", "html"], "damaged: ValueError curve 'int8': 1 speed-ups for 3"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    uneven = json.dumps(comparison()).replace('"int8": {"speedup": [1.0, 1.0, 1.0]', '"int8": {"speedup": [1.0]')
    texts = {"c": '{"schema": "accel.comparison/1"}', "d": '{"schema": "accel.comparison/2"}', "u": uneven}
    texts["o"] = json.dumps(comparison() | {"model": "other"})
    for stem, text in texts.items():
        Path(f"{stem}.json").write_text(text)
    argv, expected = MISTAKES[name]
    files = _written(tmp_path, replace(_run(), occupancy=()))
    before = set(tmp_path.iterdir())
    try:
        code: object = main(["report", *files, *argv])
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert expected in err
    assert set(tmp_path.iterdir()) == before


def test_panels_carry_the_numbers_of_the_comparison() -> None:
    (bandwidth,), (array,) = bandwidth_panels(comparison()), array_panels(comparison())
    assert [curve.label for curve in bandwidth.curves] == ["int8", "int4", "int4, GEMM-only"]
    assert (bandwidth.own, bandwidth.crossover, array.own, array.crossover) == (5.0, 12.0, 4096.0, 400.0)
    assert array.names == ("16x16", "64x64") and array.curves[1].speedups == (1.0, 1.8)
    assert "above it int4" in bandwidth.caption and "below it int4" in array.caption
