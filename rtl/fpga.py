"""How large a module is on an FPGA, and how fast: Yosys, then nextpnr with several seeds.

Resources are counted from the bare module, Fmax is found for the module inside ``rtl.harness``. What is placed is
exactly what was synthesised. Results are kept under ``~/.cache/accel/rtl``, named by a digest of all that decides them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from accel.atomic import write_text
from accel.cache import cache_folder
from accel.errors import ConfigError, FormatError, ToolError
from rtl import tools
from rtl.devices import YOSYS, Device, Family
from rtl.fpga_report import FpgaReport, Placement, Step, report_from_document
from rtl.harness import HARNESS, harness
from rtl.verilog import TOP, ports_of, without_header

Progress = Callable[[float, float, str], None]

FLOW_VERSION = 1  # raised when a change of this flow changes its results
MAX_SEEDS = 64
PARALLEL = 2  # placers at a time

# Names are shortened before synthesis: with Amaranth's, ABC's results cannot always be merged back (yosys 0.70 then
# dies of "Assert count_id(wire->name)==0", without a word where it runs as WebAssembly).
_PRELUDE = "read_verilog {files}; hierarchy -top {top}; proc; flatten; rename -hide w:* x:* %d"


def measure(
    verilog: str,
    device: Device,
    *,
    top: str = TOP,
    speed: str | None = None,
    seeds: int = 3,
    target_mhz: int | None = None,
    progress: Progress | None = None,
) -> FpgaReport:
    """Resources and Fmax of module ``top`` of a text of ``to_verilog`` (for ``device.family.fabric``).

    ``seeds``: the placer runs with seeds 1 to this one, asked for ``target_mhz`` (default: the device's). Raises
    ``ConfigError`` for an impossible speed grade or number of seeds and ``ToolError`` for a tool that is missing or
    fails; its log is kept then.
    """
    check_seeds(seeds)
    speed, target = device.speed(speed), device.target_mhz if target_mhz is None else target_mhz
    versions = {name: tools.tool_version(name) for name in device.family.tools}
    place = _cached_file(verilog, top, device, speed, seeds, target, versions)
    if (known := _read(place)) is not None:
        return known
    started = _cpu_seconds()
    with _work_folder() as folder:
        flow = _Flow(folder, verilog, top, device, speed, target)
        cells, placements = flow.run(seeds, progress or (lambda done, total, what: None))
    report = FpgaReport(
        device=device.name,
        speed=speed,
        target_mhz=target,
        resources=device.family.resources(cells),
        cells=cells,
        placements=placements,
        tools=versions,
        cpu_seconds=_cpu_seconds() - started,
    )
    _write(place, report)
    return report


def check_seeds(seeds: int) -> None:
    """Raise ``ConfigError`` for a number of seeds that makes no sense."""
    if not 1 <= seeds <= MAX_SEEDS:
        raise ConfigError(f"{seeds} seeds; allowed: 1 to {MAX_SEEDS}")


class _Flow:
    """One run of the tools in one folder."""

    def __init__(self, folder: Path, verilog: str, top: str, device: Device, speed: str, target_mhz: int) -> None:
        self.folder, self.top, self.device = folder, top, device
        self.arguments = (*device.arguments, *device.speeds[speed], "--freq", str(target_mhz), "--timing-allow-fail")
        (folder / "module.v").write_text(without_header(verilog))
        (folder / f"{HARNESS}.v").write_text(harness(ports_of(verilog, top), top))
        (folder / "pins.cst").write_text(device.pins)

    def run(self, seeds: int, progress: Progress) -> tuple[dict[str, int], tuple[Placement, ...]]:
        """Cells of the bare module, and one placement a seed where the family has a placer."""
        if self.device.family.placer is None:
            seeds = 0
        steps = 1 + (1 + seeds if seeds else 0)
        progress(0, steps, f"{self.device.name}: synthesis")
        cells = self.count()
        if not seeds:
            return cells, ()
        progress(1, steps, f"{self.device.name}: synthesis within the harness")
        synthesise(self.folder, f"module.v {HARNESS}.v", HARNESS, self.device.family, f"write_json {HARNESS}.json")
        return cells, self.place_all(seeds, lambda done: progress(2 + done, steps, f"{self.device.name}: placement"))

    def count(self) -> dict[str, int]:
        """Cells by type of the bare module."""
        synthesise(self.folder, "module.v", self.top, self.device.family, "tee -q -o stat.json stat -json")
        found = json.loads((self.folder / "stat.json").read_text())["design"]["num_cells_by_type"]
        return {kind: count for kind, count in sorted(found.items()) if not kind.startswith("$")}

    def place_all(self, seeds: int, done: Callable[[int], None]) -> tuple[Placement, ...]:
        """Placements with seeds 1, 2, ..., some at a time."""
        done(0)
        with ThreadPoolExecutor(PARALLEL) as pool:
            runs = [pool.submit(self.place, seed) for seed in range(1, seeds + 1)]
            try:
                for count, run in enumerate(as_completed(runs), 1):
                    run.result()
                    done(count)
            except BaseException:  # also when interrupted from the keyboard: nothing may run on
                pool.shutdown(wait=False, cancel_futures=True)
                tools.stop_all()
                raise
        return tuple(run.result() for run in runs)

    def place(self, seed: int) -> Placement:
        """One run of the placer."""
        assert self.device.family.placer
        report = f"{seed}.report.json"
        arguments = [*self.arguments, "--json", f"{HARNESS}.json", "--seed", str(seed), "--report", report]
        tools.run_tool(self.device.family.placer, arguments, self.folder, log=f"{seed}.log")
        return placement(seed, json.loads((self.folder / report).read_text()))


def synthesise(folder: Path, files: str, top: str, family: Family, then: str) -> None:
    """Run Yosys on Verilog ``files`` in ``folder`` for a family, and a command on the result."""
    script = "; ".join([_PRELUDE.format(files=files, top=top), family.synthesis.format(top=top), then])
    tools.run_tool(YOSYS, ["-p", script], folder, log=f"{top}.synthesis.log")


def placement(seed: int, report: Mapping[str, Any]) -> Placement:
    """What nextpnr's ``--report`` says: the harness has one clock, hence one frequency and one critical path."""
    if len(report["fmax"]) != 1:
        raise ToolError(f"nextpnr reports {len(report['fmax'])} clocks; expected: one")
    (clock,) = report["fmax"]
    edge = f"posedge {clock}"
    path = next(path for path in report["critical_paths"] if path["from"] == path["to"] == edge)
    return Placement(seed, report["fmax"][clock]["achieved"], tuple(map(_step, path["path"])))


def _step(step: Mapping[str, Any]) -> Step:
    start, end = (f"{step[side]['cell']}.{step[side]['port']}" for side in ("from", "to"))
    return Step(step["type"], step["delay"], start, end)


@contextlib.contextmanager
def _work_folder() -> Iterator[Path]:
    """A folder that goes again, unless a tool failed in it: then its logs are worth reading."""
    folder = Path(tempfile.mkdtemp(prefix="accel-rtl-"))
    try:
        yield folder
    except ToolError:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cached_file(
    verilog: str, top: str, device: Device, speed: str, seeds: int, target: int, versions: Mapping[str, str]
) -> Path:
    """Where the result is kept: named by all that decides it."""
    row = {**asdict(replace(device, speeds={})), "speeds": dict(device.speeds)}
    parts: Sequence[object] = (FLOW_VERSION, without_header(verilog), top, row, speed, seeds, target, dict(versions))
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return cache_folder("rtl") / f"{digest}.json"


def _read(path: Path) -> FpgaReport | None:
    try:
        return replace(report_from_document(json.loads(path.read_text())), cached=True)
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged: it is made again
        return None


def _write(path: Path, report: FpgaReport) -> None:
    with contextlib.suppress(OSError, FormatError):  # a cache that cannot be written only costs time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(asdict(report)) + "\n")
