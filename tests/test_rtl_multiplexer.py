"""The multiplexer made of named LUTs is the one that is written out, for every input."""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.errors import ToolError
from rtl.devices import FABRICS, YOSYS
from rtl.multiplexer import one_of_four
from rtl.netlist import cell_models
from rtl.tools import run_tool
from rtl.verilog import to_verilog

pytestmark = pytest.mark.rtl

# ``trigger``: the two differ; a proof over all inputs.
PROOF = """read_verilog plain.v hard.v cells.v; miter -equiv plain hard miter; hierarchy -top miter; proc; flatten
sat -verify -prove trigger 0 miter
"""


class Choice(wiring.Component):
    """Values of two bits, but a last one of one bit. ``swapped``: broken, the number's bits are exchanged."""

    def __init__(self, swapped: bool = False) -> None:
        self._swapped = swapped
        super().__init__({"which": In(2), "values": In(7), "value": Out(2)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        values = [self.values[at : at + 2] for at in range(0, 7, 2)]
        which = Cat(self.which[1], self.which[0]) if self._swapped else self.which
        m.d.comb += self.value.eq(one_of_four(m, platform, which, values))
        return m


def prove(plain: wiring.Component, hard: wiring.Component, folder: Path) -> None:
    (folder / "plain.v").write_text(to_verilog(plain, name="plain"))
    (folder / "hard.v").write_text(to_verilog(hard, name="hard", fabric=FABRICS["ecp5"]))
    (folder / "cells.v").write_text("\n".join(cell_models().values()))
    (folder / "proof.ys").write_text(PROOF)
    run_tool(YOSYS, ["-s", "proof.ys"], folder, log="proof.log")


def test_named_luts_choose_as_written_out(tmp_path: Path) -> None:
    prove(Choice(), Choice(), tmp_path)
    assert (tmp_path / "hard.v").read_text().count("LUT4 ") == 4, "two a bit"
    assert "LUT4" not in (tmp_path / "plain.v").read_text()


def test_the_proof_rejects_another_choice(tmp_path: Path) -> None:
    with pytest.raises(ToolError):
        prove(Choice(), Choice(swapped=True), tmp_path)
