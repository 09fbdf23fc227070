"""SCALE-Sim on a list of layers."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path

from accel.machine import Machine
from benchmarks.children import ChildError, run
from benchmarks.peers_environments import Result, Say, announcer, environment
from benchmarks.workloads import Layer

# The keys of its configs/scale.cfg, which its wheel leaves out; what is not about the machine has its values there.
_SCALESIM_CONFIG = """[general]
run_name = run
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {columns}
IfmapSramSzkB = {kib}
FilterSramSzkB = {kib}
OfmapSramSzkB = {kib}
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = {dataflow}
Bandwidth = 10
ReadRequestBuffer = 32
WriteRequestBuffer = 32
[layout]
IfmapCustomLayout = False
FilterCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""
SCALESIM_KIB = 64  # each of its three double-buffered SRAMs
_TOPOLOGY_HEADER = "layer, IFMAP height, IFMAP width, filter height, filter width, channels, filters, stride,"
_LAYOUT_COLUMNS = 20
_WITHOUT_TRACES = """
import sys
from scalesim.scale_sim import scalesim
config, topology, layout, results = sys.argv[1:]
scalesim(save_disk_space=True, verbose=True, config=config, topology=topology, layout=layout).run_scale(results)
"""


def scalesim(layers: Sequence[Layer], machine: Machine, traces: bool, say: Say) -> Result:
    """SCALE-Sim on the machine's array; with ``traces`` by its command line, which writes them, else by its API."""
    python = environment("scalesim", say)
    with tempfile.TemporaryDirectory(prefix="scalesim-") as name:
        folder = Path(name)
        config, topology, layout = _scalesim_inputs(layers, machine, folder)
        started = announcer("Running Layer", len(layers), say)
        if traces:
            options: list[str | Path] = ["-c", config, "-t", topology, "-l", layout, "-p", folder, "-i", "conv"]
            bill = run([python, "-m", "scalesim.scale", *options], started, folder)
        else:
            bill = run([python, "-c", _WITHOUT_TRACES, config, topology, layout, folder], started, folder)
        with (folder / "run" / "COMPUTE_REPORT.csv").open(newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    if len(rows) != len(layers):
        raise ChildError(f"SCALE-Sim reports {len(rows)} layers of {len(layers)}")
    return Result(tuple(int(float(row["Total Cycles"])) for row in rows), bill)


def _scalesim_inputs(layers: Sequence[Layer], machine: Machine, folder: Path) -> tuple[Path, Path, Path]:
    """Its three files. It knows no padding: maps are given as large as the windows reach."""
    array = machine.array
    config, topology, layout = folder / "machine.cfg", folder / "network.csv", folder / "layout.csv"
    config.write_text(
        _SCALESIM_CONFIG.format(rows=array.rows, columns=array.columns, dataflow=array.dataflow, kib=SCALESIM_KIB)
    )
    rows = [
        f"L{i}, {x.reach_height}, {x.reach_width}, {x.kernel_height}, {x.kernel_width}, {x.channels}, {x.filters}, "
        f"{x.stride},"
        for i, x in enumerate(layers)
    ]
    topology.write_text("\n".join([_TOPOLOGY_HEADER, *rows, ""]))
    blank = ", ".join(["1"] * _LAYOUT_COLUMNS)  # it wants a row a layer even though layouts are off
    layout.write_text("\n".join(["layer, layout,", *(f"L{i}, {blank}," for i in range(len(layers))), ""]))
    return config, topology, layout
