"""The synthesised decoder, cell by cell, on the bench of ``tb_decoder``: what is placed decodes as the RTL does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench_runner import BenchError
from decoder_bench import random_plan
from decoder_runs import run_scenarios
from decoder_scenarios import SLOW, Scenario

from accel.codecs import parse_codec
from rtl.configuration import DecoderConfig
from rtl.devices import FABRICS
from rtl.generate import DecoderRequest as Request
from rtl.generate import decoder_verilog
from rtl.netlist import Netlist, post_synthesis_netlist
from rtl.vectors import random_layer

pytestmark = pytest.mark.rtl

CODEC = "ssvq:k=256,d=8"
CONFIG = DecoderConfig(parse_codec(CODEC))


@pytest.fixture(scope="module")
def netlist(tmp_path_factory: pytest.TempPathFactory) -> Netlist:
    """Of a decoder whose codebook is made of ECP5's block RAM cells."""
    return post_synthesis_netlist(decoder_verilog(Request(CODEC), FABRICS["ecp5"]), tmp_path_factory.mktemp("gates"))


def brief(*widths: int) -> Scenario:
    """Few, for gates are slow: superblocks and aligned records, all stalling; a reset amid it."""
    rng = np.random.default_rng(3)
    layers = [random_layer(CONFIG, random_plan(CONFIG, rng, width, 12), rng) for width in widths]
    return Scenario("brief", layers, SLOW, (100,))


def test_netlist_decodes(netlist: Netlist, tmp_path: Path) -> None:
    assert netlist.verilog.read_text().count("DP16KD ") == 2
    assert list(run_scenarios(CONFIG, [brief(3, 8)], tmp_path, sources=netlist.sources)) == ["brief"]


def test_wrong_netlist_is_caught(netlist: Netlist, tmp_path: Path) -> None:
    """The same with a block RAM that has lost its output register."""
    broken, text = tmp_path / "netlist.v", netlist.verilog.read_text()
    broken.write_text(text.replace('REGMODE_B("OUTREG")', 'REGMODE_B("NOREG")', 1))
    with pytest.raises(BenchError, match=r"beat \d+ is|nothing for long"):
        run_scenarios(CONFIG, [brief(3)], tmp_path, sources=[broken, netlist.cell_models])
