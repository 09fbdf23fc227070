"""The comparison with other tools: what they are given, what is made of their answers, and what if one fails."""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from accel.codecs import parse_codec
from accel.machine import load_machine
from accel.packed import Packed
from benchmarks import peers, peers_ladder, peers_rows, peers_vela
from benchmarks.children import Bill, ChildError
from benchmarks.peers_environments import PEERS, Result
from benchmarks.peers_ladder import Rung
from benchmarks.peers_rows import Row
from benchmarks.workloads import Layer, network_layers
from compiler.compress import Compression, compress
from compiler.frontend import load_model

PATCHES = Layer("embed", 8, 8, 4, 4, 2, 2, channels=3, filters=5, stride=2, weights="w")
WINDOWS = Layer("conv", 8, 8, 8, 8, 3, 3, channels=3, filters=5, padding=(1, 1, 1, 1), weights="w")
PRODUCT = Layer("attention", 7, 1, 7, 1, 1, 1, channels=4, filters=9)
BILL = Bill(1.5, 2_000_000, ())


@pytest.fixture(scope="module")
def int8() -> Compression:
    model = load_model("deit_tiny")
    return compress(model.graph, model.weights, parse_codec("int8"), scale="tensor")


def test_layers_know_their_weights_and_products_of_activations_have_none(int8: Compression) -> None:
    layers = network_layers(int8.packed.graph)
    assert {layer.weights for layer in layers if layer.weights} == set(int8.packed.layers)
    assert sum(not layer.weights for layer in layers) == 2 * 3 * 12  # two a head and block


def test_every_peer_is_pinned_to_exact_versions() -> None:
    for peer in PEERS.values():
        assert all("==" in each for each in peer.requirements), peer.name
        assert peer.version and peer.reason


def test_patches_are_given_to_vela_as_a_product_with_the_same_arithmetic() -> None:
    rng = np.random.default_rng(0)
    image, weights = rng.integers(-9, 9, (3, 8, 8)), rng.integers(-9, 9, (5, 3, 2, 2)).astype(np.int8)
    assert peers_vela._description(PATCHES)["kind"] == "gemm"
    assert peers_vela._description(PATCHES)["inputs"] == [[16, 12]]
    matrix = peers_vela._matrix(PATCHES, {"w": weights})
    patch = image[:, 2:4, 4:6].transpose(1, 2, 0).reshape(-1)  # TFLite's order: rows, columns, channels
    assert (matrix.astype(int) @ patch == np.einsum("oihw,ihw->o", weights, image[:, 2:4, 4:6])).all()


def test_windows_stay_a_convolution_over_what_they_reach() -> None:
    row = peers_vela._description(WINDOWS)
    assert (row["kind"], row["inputs"], row["output"]) == ("conv", [[1, 10, 10, 3]], [1, 8, 8, 5])
    assert peers_vela._matrix(WINDOWS, {"w": np.zeros((5, 3, 3, 3), np.int8)}).shape == (5, 3, 3, 3)
    assert peers_vela._description(PRODUCT)["inputs"] == [[1, 7, 4], [1, 4, 9]]


def test_cycles_of_distinct_layers_count_as_often_as_they_occur(int8: Compression) -> None:
    network = peers_rows.Network("net", int8, (), Counter({PATCHES: 1, PRODUCT: 36}))
    assert network.total(Result((100, 7), BILL)) == 100 + 36 * 7


def test_entropy_is_that_of_the_definition() -> None:
    values = np.array([[0, 0, 0, 0, 1, 1, 2, 3]], np.int8)
    bits = -sum(n * math.log2(n / values.size) for n in (4, 2, 1, 1))
    assert peers_ladder._entropy_bytes(values) == math.ceil(bits / 8)


def timed(packed: Packed) -> tuple[int, int]:
    return peers_ladder._timed(packed, load_machine("edge64-ideal"))


def test_integers_that_stand_in_for_lossless_weights_are_timed_like_our_own(int8: Compression) -> None:
    model = load_model("deit_tiny")
    int4 = compress(model.graph, model.weights, parse_codec("int4"), scale="tensor").packed
    for packed, width in ((int8.packed, 8), (int4, 4)):
        stand_in = peers_ladder._with_widths(int8.packed, dict.fromkeys(packed.layers, width - 0.25), math.ceil)
        assert timed(stand_in) == timed(packed)


def test_a_lossless_rung_lies_between_its_two_programs(int8: Compression, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("deit_tiny")
    monkeypatch.setattr(
        peers_ladder, "lossless_bytes", lambda values, say: {name: each.size * 3 // 4 for name, each in values.items()}
    )
    rung = peers_ladder.Ladder(model, lambda _: None)._lossless("lossless", int8)
    whole = timed_on_ladder(int8.packed)
    assert rung.cycles is not None and rung.cycles_at_best is not None and rung.stored_bytes is not None
    assert rung.cycles_at_best <= rung.cycles < whole
    assert rung.stored_bytes == pytest.approx(0.75 * rung.weights, rel=0.01)


def timed_on_ladder(packed: Packed) -> int:
    return peers_ladder._timed(packed, load_machine(peers_ladder.LADDER_MACHINE))[0]


def test_a_peer_that_fails_is_listed_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(network: object, machine: object) -> Row:
        raise ChildError("cannot install vela==0: no such version")

    monkeypatch.setattr(peers_rows, "_ours", lambda network, what, overrides: Row(network.name, "Accel", what, 1, 2))
    monkeypatch.setitem(peers_rows.TOOLS, "vela", fails)
    monkeypatch.setattr(peers, "Ladder", lambda model, say: SimpleNamespace(rungs=lambda: iter(RUNGS)))
    monkeypatch.setattr(peers, "load_model", lambda name, progress: None)
    options = argparse.Namespace(networks=["deit_tiny"], peers=["vela"], ladders=["zoo:vit_s14"], output=tmp_path)
    assert not peers.main(options)
    page = (tmp_path / "peers.md").read_text()
    assert "cannot install vela==0: no such version" in page
    assert "could not be run" in page and "no room" in page
    assert (tmp_path / "peers.csv").read_text().count("\n") == 5  # header, three of ours, the peer


def test_a_run_that_is_cut_short_goes_on_where_it_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What failed is measured again, what was measured is not, and a run that ends well leaves nothing behind."""
    measured, working = [], []

    def ours(network: peers_rows.Network, what: str, overrides: object) -> Row:
        measured.append(what)
        return Row(network.name, "Accel", what, 1, 2, 3, 4, 0.5, 6)

    def rungs() -> Iterator[Rung]:
        measured.append("ladder")
        yield RUNGS[0]
        if not working:
            raise KeyboardInterrupt

    monkeypatch.setenv("ACCEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(peers_rows, "_ours", ours)
    monkeypatch.setattr(peers, "Ladder", lambda model, say: SimpleNamespace(rungs=rungs))
    monkeypatch.setattr(peers, "load_model", lambda name, progress: None)
    options = argparse.Namespace(networks=["deit_tiny"], peers=[], ladders=["zoo:vit_s14"], output=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        peers.main(options)
    working.append(True)
    assert peers.main(options)
    assert measured == ["whole network", "array only: vector work free", "ladder", "ladder"]
    assert (tmp_path / "peers.csv").read_text().count("deit_tiny,Accel,whole network,1,2,3,4,0.5,6") == 1
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_stored_weights_are_those_of_the_file_and_not_what_crosses_the_bus(
    int8: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[object] = Counter()

    def python(*words: object) -> Bill:
        if "-o" in words and str(words[-1]).endswith(".json"):
            Path(str(words[-1])).write_text(json.dumps(RUN_DOCUMENT))
        seen[words[2]] += 1
        return BILL if seen[words[2]] > 1 else Bill(1000.0, 10**12, ())  # kernels are compiled

    monkeypatch.setattr(peers_rows, "python", python)
    row = peers_rows._ours(peers_rows.Network("net", int8, (), Counter()), "whole network", ())
    assert (row.cpu_seconds, row.peak_bytes) == (2 * BILL.cpu_seconds, BILL.peak_bytes)
    assert (row.weight_bytes, row.dram_bytes) == (sum(math.prod(report.shape) for report in int8.reports), 640)


RUN_DOCUMENT = {"total_cycles": 10, "dram_bytes": {"weights": 64}, "dram_bytes_total": 640}
RUNGS = (
    Rung("int8", 1000, 1000, 0.0, 1100, 500, None, "as stored"),
    Rung("lossless", 900, 1000, 0.0, 1000, 450, 440, "bracket"),
    Rung("palettes", None, 0, problem="no room"),
)


def test_a_lossless_row_costs_no_more_than_the_same_weights_uncoded() -> None:
    uncoded = Rung("int4", 100, 200, dram_bytes=50, cycles=1000)
    coded = peers_ladder.no_worse(Rung("lossless", 90, 200, dram_bytes=49, cycles=1001, cycles_at_best=900), uncoded)
    assert (coded.dram_bytes, coded.cycles, coded.cycles_at_best) == (49, 1000, 900)
    failed = Rung("lossless", None, 0, problem="no package")
    assert peers_ladder.no_worse(failed, uncoded) == failed
