"""What was synthesised, simulated with models of its cells: equal to the RTL, strict where hardware is undefined."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from bench_runner import run_bench
from rtl_stand_in import Broken, StandIn

from accel.errors import ToolError
from rtl.devices import FABRICS
from rtl.netlist import Netlist, cell_models, post_synthesis_netlist
from rtl.tools import locate
from rtl.verilog import ports_of, to_verilog

pytestmark = pytest.mark.rtl

# RTL and netlist side by side under the same random inputs. Few addresses, so that most reads find what was written.
SIDE_BY_SIDE = """
`timescale 1ns/1ps
module side_by_side;
  reg clk = 0, write_enable = 0, enable = 0;
  reg [8:0] write_address = 0, read_address = 0;
  reg [35:0] write_data = 0;
  wire [35:0] word_a, word_b;
  wire [8:0] total_a, total_b;
  decoder rtl(.clk(clk), .rst(1'b0), .write_enable(write_enable), .write_address(write_address),
    .write_data(write_data), .enable(enable), .read_address(read_address), .word(word_a), .total(total_a));
  netlist cells(.clk(clk), .rst(1'b0), .write_enable(write_enable), .write_address(write_address),
    .write_data(write_data), .enable(enable), .read_address(read_address), .word(word_b), .total(total_b));
  always #5 clk = ~clk;
  integer i, different = 0, nonzero = 0;
  initial begin
    for (i = 0; i < 4000; i = i + 1) begin
      @(negedge clk);
      // Before their first enabled reads, registers of the RTL are X; those of hardware start with 0.
      if (i > 20 && (word_a !== word_b || total_a !== total_b)) different = different + 1;
      if (total_a != 0) nonzero = nonzero + 1;
      enable = $random;
      write_address = {$random} % 16 * 33;
      read_address = {$random} % 16 * 33;
      write_enable = $random && (COLLIDE || write_address != read_address);
      write_data = {$random, $random};
    end
    $display("different %0d nonzero %0d", different, nonzero);
    $finish;
  end
endmodule
"""


@pytest.fixture(scope="module", params=FABRICS)
def synthesised(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Netlist]:
    """RTL (always the generic one) and the netlist of a memory that Yosys found, or that was instantiated."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "decoder.v").write_text(to_verilog(StandIn()))
    verilog = to_verilog(StandIn(), fabric=FABRICS[request.param])
    return folder / "decoder.v", post_synthesis_netlist(verilog, folder, renamed="netlist")


def simulate(rtl: Path, netlist: Netlist, collide: bool) -> list[str]:
    """Words of the last line that Icarus prints."""
    folder = rtl.parent
    (folder / "tb.v").write_text(SIDE_BY_SIDE.replace("COLLIDE", str(int(collide))))
    command = [locate("iverilog"), "-g2012", "-s", "side_by_side", "-o", "tb.vvp", "tb.v", *map(str, netlist.sources)]
    subprocess.run([*command, str(rtl)], cwd=folder, check=True)
    done = subprocess.run([locate("vvp"), "tb.vvp"], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[-1].split()


def test_netlist_has_the_ports_of_the_rtl(synthesised: tuple[Path, Netlist]) -> None:
    rtl, netlist = synthesised
    assert ports_of(netlist.verilog.read_text(), netlist.top) == ports_of(rtl.read_text())


def test_netlist_does_what_the_rtl_does(synthesised: tuple[Path, Netlist]) -> None:
    different, nonzero = simulate(*synthesised, collide=False)[1::2]
    assert (int(different), int(nonzero) > 2000) == (0, True)


def test_reading_what_is_being_written_is_unknown(synthesised: tuple[Path, Netlist]) -> None:
    different = int(simulate(*synthesised, collide=True)[1])
    assert different > 50


@pytest.mark.parametrize(
    ("synthesised", "simulator"),
    [("generic", "icarus"), ("ecp5", "icarus"), ("ecp5", "verilator")],
    indirect=["synthesised"],
)
def test_the_same_bench_runs_on_the_netlist(synthesised: tuple[Path, Netlist], simulator: str, tmp_path: Path) -> None:
    _, netlist = synthesised
    passed = run_bench(netlist.sources, netlist.top, "tb_stand_in", tmp_path, simulator=simulator).passed
    assert passed == ("reads_what_was_written", "reset_leaves_the_table")


def test_a_wrong_netlist_is_noticed(synthesised: tuple[Path, Netlist], tmp_path: Path) -> None:
    rtl, netlist = synthesised
    text = netlist.verilog.read_text()
    broken = tmp_path / "netlist.v"
    broken.write_text(text.replace(".CEB(enable)", ".CEB(1'h1)"))
    assert broken.read_text() != text
    shutil.copy(rtl, tmp_path / "decoder.v")
    assert int(simulate(tmp_path / "decoder.v", Netlist("netlist", broken, netlist.cell_models), False)[1]) > 0


def test_models_of_the_cells_a_decoder_is_made_of() -> None:
    needed = {"LUT4", "PFUMX", "L6MUX21", "CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4", "DP16KD"}
    assert needed <= cell_models().keys()


def test_cell_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ToolError):
        post_synthesis_netlist(to_verilog(Broken()), tmp_path)
    verilog = "module decoder(input clk, input signed [17:0] a, b, output reg signed [35:0] q);\n"
    verilog += "  always @(posedge clk) q <= a * b;\nendmodule\n"
    with pytest.raises(ToolError, match=r"^no simulation model of MULT18X18D"):
        post_synthesis_netlist(verilog, tmp_path)
