"""Other people's simulators, each in a pinned virtual environment of its own, and how to run a network on them.

Environments are made on first use, from the package index, under ``$ACCEL_CACHE/peers`` (``~/.cache/accel/peers``).
The networks are ours, layer by layer (``benchmarks.workloads``); a peer sees every convolution and matrix product.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from accel.machine import Machine
from benchmarks.children import Bill, ChildError, run
from benchmarks.workloads import Layer

SCALESIM_REQUIREMENTS = ("scalesim==3.0.0", "numpy==1.26.4")  # its newest numpy is 1: it turns arrays into scalars
ZIGZAG_REQUIREMENTS = ("zigzag-dse==3.9.1", "six==1.17.0")  # it needs six and does not say so

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What a peer made of a network: cycles, and what that cost."""

    cycles: int
    bill: Bill


def environment(requirements: Sequence[str], say: Say) -> Path:
    """The Python of a virtual environment with exactly these packages; raises ``ChildError`` if pip cannot make it."""
    root = Path(os.environ.get("ACCEL_CACHE") or Path.home() / ".cache" / "accel")
    folder = root / "peers" / requirements[0].replace("==", "-")
    python, complete = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join(requirements)
    if complete.exists() and complete.read_text() == wanted:
        return python
    say(f"installing {' '.join(requirements)} into {folder}, once")
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise ChildError(f"cannot install {requirements[0]} for Python {sys.version.split()[0]}: {last}")
    complete.write_text(wanted)
    return python


# --- SCALE-Sim -------------------------------------------------------------------------------------------------------

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
    python = environment(SCALESIM_REQUIREMENTS, say)
    with tempfile.TemporaryDirectory(prefix="scalesim-") as name:
        folder = Path(name)
        config, topology, layout = _scalesim_inputs(layers, machine, folder)
        started = _announcer("Running Layer", len(layers), say)
        if traces:
            options: list[str | Path] = ["-c", config, "-t", topology, "-l", layout, "-p", folder, "-i", "conv"]
            bill = run([python, "-m", "scalesim.scale", *options], started, folder)
        else:
            bill = run([python, "-c", _WITHOUT_TRACES, config, topology, layout, folder], started, folder)
        with (folder / "run" / "COMPUTE_REPORT.csv").open(newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    if len(rows) != len(layers):
        raise ChildError(f"SCALE-Sim reports {len(rows)} layers of {len(layers)}")
    return Result(sum(int(float(row["Total Cycles"])) for row in rows), bill)


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


# --- ZigZag ----------------------------------------------------------------------------------------------------------

ZIGZAG_MACHINE = "tpu_like"  # ships with it: 32x32, 2 MiB of SRAM, DRAM of 8 bytes a cycle
ZIGZAG_LOOPS = 6  # temporal loops a layer is cut into (loma's lpf_limit); its default
_ZIGZAG = """
import json, sys
from pathlib import Path
import zigzag
from zigzag.api import get_hardware_performance_zigzag
workload, machine, loops, results = sys.argv[1:]
inputs = Path(zigzag.__file__).parent / "inputs"
_, cycles, _ = get_hardware_performance_zigzag(
    json.loads(Path(workload).read_text()), f"{inputs}/hardware/{machine}.yaml", f"{inputs}/mapping/{machine}.yaml",
    opt="latency", lpf_limit=int(loops), dump_folder=results, loma_show_progress_bar=False,
)
print("cycles", int(cycles))
"""


def zigzag(layers: Sequence[Layer], say: Say) -> Result:
    """ZigZag on its own TPU-like machine, searching the mapping of least latency for every layer."""
    python = environment(ZIGZAG_REQUIREMENTS, say)
    with tempfile.TemporaryDirectory(prefix="zigzag-") as name:
        workload = Path(name, "workload.json")
        workload.write_text(json.dumps([_zigzag_layer(i, layer) for i, layer in enumerate(layers)]))
        started = _announcer("Processing  ", len(layers), say)
        command: list[str | Path] = [
            python,
            "-c",
            _ZIGZAG,
            workload,
            ZIGZAG_MACHINE,
            str(ZIGZAG_LOOPS),
            Path(name, "results"),
        ]
        bill = run(command, started, Path(name))
    word, cycles = bill.lines[-1].split()
    assert word == "cycles", bill.lines[-1]
    return Result(int(cycles), bill)


def _zigzag_layer(index: int, layer: Layer) -> dict[str, object]:
    """Its description of a convolution; every layer stands alone, as in SCALE-Sim."""
    loops = {
        "B": 1, "K": layer.filters, "OX": layer.out_width, "OY": layer.out_height,
        "C": layer.channels, "FX": layer.kernel_width, "FY": layer.kernel_height,
    }  # fmt: skip
    top, left, bottom, right = layer.padding
    return {
        "id": index,
        "name": layer.name,
        "operator_type": "Conv",
        "equation": "O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]",
        "dimension_relations": [f"ix={layer.stride}*ox+1*fx", f"iy={layer.stride}*oy+1*fy"],
        "loop_dims": list(loops),
        "loop_sizes": list(loops.values()),
        "operand_precision": {"W": 8, "I": 8, "O": 16, "O_final": 8},
        "operand_source": {"W": index, "I": index},
        "pr_loop_dims": ["IX", "IY"],
        "pr_loop_sizes": [layer.in_width, layer.in_height],
        "padding": [[left, right], [top, bottom]],
    }


def _announcer(mark: str, layers: int, say: Say) -> Callable[[str], None]:
    """A listener that counts lines with ``mark`` and tells of every tenth layer."""
    count = 0

    def hear(line: str) -> None:
        nonlocal count
        if mark in line:
            count += 1
            if count % 10 == 1:
                say(f"  layer {count} of {layers}")

    return hear
