"""accel gemm: closed form and simulation of one product, as JSON and as text; one line for whatever is impossible."""

from __future__ import annotations

import json

import pytest

from accel.cli import main
from accel.metrics import CAUSES, TRAFFIC
from accel.systolic_reference import ReferenceRow, systolic_reference_rows

Captured = pytest.CaptureFixture[str]


def measured(capsys: Captured, shape: str, *argv: str) -> dict:
    codec = () if "--codec" in argv else ("--codec", "int8")
    assert main(["gemm", shape, *codec, *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def arguments(row: ReferenceRow) -> list[str]:
    array = row.array
    sizes = ["--set", f"array.rows={array.rows}", "--set", f"array.columns={array.columns}"]
    return [*sizes, "--dataflow", array.dataflow, "--array-model", array.model]


def test_json_has_everything_and_sums_up(capsys: Captured) -> None:
    found = measured(capsys, "197x192x576", "-m", "edge32", "--dataflow", "os", "--array-model", "scalesim")
    assert {name: found[name] for name in ("m", "k", "n", "codec", "machine", "dataflow", "array_model")} == {
        "m": 197, "k": 192, "n": 576, "codec": "int8", "machine": "edge32", "dataflow": "os", "array_model": "scalesim",
    }  # fmt: skip
    assert (found["macs"], found["folds"], found["compute_cycles"]) == (197 * 192 * 576, 126, 126 * 254)
    assert list(found["cycles_by_cause"]) == list(CAUSES) and list(found["dram_bytes"]) == list(TRAFFIC)
    assert sum(found["cycles_by_cause"].values()) == found["total_cycles"] > found["compute_cycles"]
    assert sum(found["dram_bytes"].values()) == found["dram_bytes_total"]
    assert found["dram_bytes"]["weights"] == 192 * 576
    assert found["utilisation"] == pytest.approx(found["macs"] / found["total_cycles"] / 1024)
    assert found["notes"] == ["machine: edge32 changed: array.dataflow = os, array.model = scalesim"]


@pytest.mark.parametrize(
    "layer", ["conv1/8/ws", "head/16/is", "layer4.1.conv2/64/os", "fc/32/ws", "197x192x192/16/os"], ids=str
)
def test_layers_of_other_simulators_are_simulated_too(capsys: Captured, layer: str) -> None:
    rows = {f"{r.layer}/{r.array.rows}/{r.array.dataflow}": r for r in systolic_reference_rows()}
    row = rows[layer]
    found = measured(capsys, f"{row.gemm.m}x{row.gemm.k}x{row.gemm.n}", *arguments(row))
    assert (found["folds"], found["compute_cycles"]) == (row.folds, row.cycles)
    assert found["total_cycles"] > found["compute_cycles"] * 0.9


def test_unlimited_memory_leaves_the_closed_form_and_the_ends(capsys: Captured) -> None:
    """What remains beside it: fetching, the first and the last transfers, each a matter of latencies."""
    fast = ["--set", "dram.bandwidth_bytes_per_cycle=65536", "--set", "dram.latency_cycles=0"]
    large = ["--set", "sram.activation_bytes=16777216", "--set", "sram.weight_bytes=16777216"]
    for dataflow in ("ws", "os", "is"):
        for model in ("pipelined", "scalesim"):
            argv = ["-m", "edge64-ideal", *fast, *large, "--dataflow", dataflow, "--array-model", model]
            found = measured(capsys, "60x500x333", *argv)
            assert 0 <= found["total_cycles"] - found["compute_cycles"] < 10, (dataflow, model)


def test_codecs_are_taken_at_their_word(capsys: Captured) -> None:
    """A codebook larger than what it saves does not turn the layer into int8."""
    found = measured(capsys, "4x8x16", "--codec", "vq:k=16,d=4")
    assert found["codec"] == "vq:k=16,d=4" and found["dram_bytes"]["codebooks"] == 64


def test_text_says_what_bounds_it(capsys: Captured) -> None:
    assert main(["gemm", "197x192x576", "--codec", "ssvq:k=16,d=8", "-m", "edge32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "GEMM 197x192x576, ssvq:k=16,d=8 weights, on edge32: 32x32 ws"
    assert any(line.split() == ["array", "alone", "21,372", "cycles"] for line in lines)
    assert lines[-1].startswith("Bound by activation_dma, ") and lines[-1].endswith(f"{CAUSES['activation_dma']}.")


@pytest.mark.parametrize(
    ("shape", "argv", "note"),
    [
        ("1000000x1000000x1000000", (), "not simulated: 1,000,000,000,000 weights; allowed: "),
        ("1000000x300x8", (), "not simulated: 308,000,000 bytes of activations; allowed: "),
        (
            "9x8x8",
            ("--codec", "vq:k=4096,d=8"),
            "not simulated: weight 'weight': codebook of vq:k=4096,d=8",
        ),
    ],
)
def test_the_closed_form_stands_alone(capsys: Captured, shape: str, argv: tuple[str, ...], note: str) -> None:
    found = measured(capsys, shape, *argv, "--array-model", "scalesim")
    m, k, n = map(int, shape.split("x"))
    assert found["compute_cycles"] == -(-k // 64) * -(-n // 64) * (m + 3 * 64 - 2)
    assert found["total_cycles"] is found["dram_bytes"] is found["cycles_by_cause"] is found["utilisation"] is None
    assert found["notes"][0].startswith(note)
    codec = argv or ("--codec", "int8")
    assert main(["gemm", shape, *codec]) == 0
    assert "note: not simulated: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["12x13", "--codec", "int8"], "'12x13'; allowed: MxKxN"),
        (["0x1x1", "--codec", "int8"], "'0x1x1'; allowed: MxKxN, three sizes of at least 1"),
        (["1048576x1x1", "--codec", "int8"], "M = 1048576; allowed: below 1048576, what GEM.rows holds"),
        (["1x" + "9" * 5000 + "x1", "--codec", "int8"], "allowed: below 1048576, what GMO.reduction holds"),
        (["4x4x4"], "required: --codec"),
        (["4x4x4", "--codec", "int7"], "codec 'int7'"),
        (["4x4x4", "--codec", "int8", "--dataflow", "rs"], "invalid choice: 'rs'"),
        (["4x4x4", "--codec", "int8", "--array-model", "stone"], "invalid choice: 'stone'"),
        (["4x4x4", "--codec", "int8", "--array-model", "stonne"], "allowed with array.model = 'stonne': os"),
        (["4x4x4", "--codec", "int8", "-m", "edge46"], "did you mean 'edge64'"),
    ],
)
def test_mistakes_are_one_line(capsys: Captured, argv: list[str], message: str) -> None:
    try:
        code = main(["gemm", *argv])
    except SystemExit as leaving:
        code = leaving.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err
