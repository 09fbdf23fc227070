"""Verilog of components: ports, header, the same text each time, hard blocks only where the fabric has them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from rtl_stand_in import StandIn

from accel import __version__
from rtl.devices import FABRICS
from rtl.harness import harness
from rtl.tools import tool_environment
from rtl.verilog import Port, ports_of, to_verilog, without_header

pytestmark = pytest.mark.rtl

WRITE = """
from rtl_stand_in import StandIn
from rtl.verilog import to_verilog
print(to_verilog(StandIn(), header={"codec": "vq:k=2,d=2"}), end="")
"""
PORTS = {
    "input": {
        "clk": 1,
        "enable": 1,
        "read_address": 9,
        "rst": 1,
        "write_address": 9,
        "write_data": 36,
        "write_enable": 1,
    },
    "output": {"total": 9, "word": 36},
}


def test_header_holds_version_and_parameters_in_one_line_each() -> None:
    lines = to_verilog(StandIn(), header={"codec": "ssvq:k=256,d=8", "note": "two\nlines"}).splitlines()
    assert lines[0].startswith(f"// decoder: made by accel {__version__} with Amaranth 0.5")
    assert lines[1:5] == ["// codec: ssvq:k=256,d=8", "// note: two lines", "// fabric: generic", ""]


def test_ports_are_those_of_the_component() -> None:
    ports = [Port(name, width, kind) for kind, row in PORTS.items() for name, width in row.items()]
    assert list(ports_of(to_verilog(StandIn()))) == ports


@pytest.mark.parametrize("seed", ["0", "1"])
def test_text_is_the_same_in_every_process(seed: str) -> None:
    path = ":".join(map(str, (Path(__file__).parent, Path(__file__).parents[1])))
    environment = {**tool_environment(), "PYTHONHASHSEED": seed, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", WRITE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == to_verilog(StandIn(), header={"codec": "vq:k=2,d=2"})


def test_hard_memory_only_on_its_fabric() -> None:
    texts = {name: to_verilog(StandIn(), fabric=fabric) for name, fabric in FABRICS.items()}
    assert {name: "DP16KD" in text for name, text in texts.items()} == {"generic": False, "ecp5": True, "ice40": False}


def test_source_lines_only_when_asked_for() -> None:
    assert "rtl_stand_in.py" not in to_verilog(StandIn())
    assert "rtl_stand_in.py" in to_verilog(StandIn(), source_lines=True)


def test_header_does_not_decide_what_is_synthesised() -> None:
    texts = {without_header(to_verilog(StandIn(), header={"codec": codec})) for codec in ("int8", "int4")}
    assert len(texts) == 1


class Signed(wiring.Component):
    """A signed port beside an unsigned one."""

    def __init__(self) -> None:
        super().__init__({"a": In(signed(4)), "q": Out(signed(4))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.q.eq(-self.a)
        return m


def test_signed_ports_are_ports() -> None:
    assert [(port.name, port.width) for port in ports_of(to_verilog(Signed()))] == [
        *(("a", 4), ("clk", 1), ("rst", 1)),
        ("q", 4),
    ]


def test_harness_connects_every_port_once_and_folds_every_output() -> None:
    text = harness([Port("clk", 1, "input"), Port("a", 3, "input"), Port("b", 2, "input"), Port("q", 9, "output")])
    assert "decoder dut(.clk(clk), .a(shift[2:0]), .b(shift[4:3]), .q(results[8:0]));" in text
    assert "{^fold0[8:8], ^fold0[7:4], ^fold0[3:0]}" in text
    assert "assign serial_out = fold2[0];" in text


def test_harness_of_one_output_bit_has_one_register() -> None:
    text = harness([Port("q", 1, "output")], "lone")
    assert "lone dut(.q(results[0:0]));" in text
    assert "assign serial_out = fold0[0];" in text
