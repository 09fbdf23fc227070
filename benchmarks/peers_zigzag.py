"""ZigZag on a list of layers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.children import ChildError, run
from benchmarks.peers_environments import Result, Say, announcer, environment
from benchmarks.workloads import Layer

ZIGZAG_MACHINE = "tpu_like"  # ships with it: 32x32, 2 MiB of SRAM, DRAM of 8 bytes a cycle
ZIGZAG_LOOPS = 6  # temporal loops a layer is cut into (loma's lpf_limit); its default
_ZIGZAG = """
import json, sys
from pathlib import Path
import zigzag
from zigzag.api import get_hardware_performance_zigzag
workload, machine, loops, results = sys.argv[1:]
inputs = Path(zigzag.__file__).parent / "inputs"
for layer in json.loads(Path(workload).read_text()):
    _, cycles, _ = get_hardware_performance_zigzag(
        [layer], f"{inputs}/hardware/{machine}.yaml", f"{inputs}/mapping/{machine}.yaml",
        opt="latency", lpf_limit=int(loops), dump_folder=results, loma_show_progress_bar=False,
    )
    print("cycles", int(cycles), flush=True)
"""


def zigzag(layers: Sequence[Layer], say: Say) -> Result:
    """ZigZag on its own TPU-like machine, searching the mapping of least latency for every layer."""
    python = environment("zigzag", say)
    with tempfile.TemporaryDirectory(prefix="zigzag-") as name:
        workload = Path(name, "workload.json")
        workload.write_text(json.dumps([_zigzag_layer(layer) for layer in layers]))
        started = announcer("Processing  ", len(layers), say)
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
    cycles = tuple(int(line.split()[1]) for line in bill.lines if line.startswith("cycles "))
    if len(cycles) != len(layers):
        raise ChildError(f"ZigZag reports {len(cycles)} layers of {len(layers)}")
    return Result(cycles, bill)


def _zigzag_layer(layer: Layer) -> dict[str, object]:
    """Its description of a convolution; every layer stands alone, as in SCALE-Sim."""
    loops = {
        "B": 1, "K": layer.filters, "OX": layer.out_width, "OY": layer.out_height,
        "C": layer.channels, "FX": layer.kernel_width, "FY": layer.kernel_height,
    }  # fmt: skip
    top, left, bottom, right = layer.padding
    return {
        "id": 0,
        "name": layer.name,
        "operator_type": "Conv",
        "equation": "O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]",
        "dimension_relations": [f"ix={layer.stride}*ox+1*fx", f"iy={layer.stride}*oy+1*fy"],
        "loop_dims": list(loops),
        "loop_sizes": list(loops.values()),
        "operand_precision": {"W": 8, "I": 8, "O": 16, "O_final": 8},
        "operand_source": {"W": 0, "I": 0},
        "pr_loop_dims": ["IX", "IY"],
        "pr_loop_sizes": [layer.in_width, layer.in_height],
        "padding": [[left, right], [top, bottom]],
    }
