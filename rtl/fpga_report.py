"""What the FPGA flow found out: resources, clock frequencies, the path that limits them; as JSON and as a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from accel.reporting import Column, Table
from rtl.devices import DEVICES, GENERIC


@dataclass(frozen=True, slots=True)
class Step:
    """One delay on a path: ``kind`` is clk-to-q, logic, routing or setup; ``start`` and ``end`` are ``cell.port``."""

    kind: str
    delay_ns: float
    start: str
    end: str


@dataclass(frozen=True, slots=True)
class Placement:
    """One run of the placer: its seed, the clock frequency reached, and the path that limits it."""

    seed: int
    fmax_mhz: float
    critical_path: tuple[Step, ...]

    @property
    def start(self) -> str:
        """Where the critical path starts, as ``cell.port``."""
        return self.critical_path[0].start

    @property
    def end(self) -> str:
        """Where the critical path ends, as ``cell.port``."""
        return self.critical_path[-1].end

    def delay_ns(self, *kinds: str) -> float:
        """Time on the critical path spent in steps of these kinds."""
        return sum(step.delay_ns for step in self.critical_path if step.kind in kinds)


@dataclass(frozen=True, slots=True)
class FpgaReport:
    """A module on a device. ``resources`` (names of ``RESOURCES``) and ``cells`` (by type) are the bare module's,
    frequencies those of the module in its harness. LUTs have the inputs, block RAMs the bits the family's row says.
    ``cpu_seconds``: of all tools, when they ran (for the very first time they also compile themselves, a minute and
    a half); ``cached``: whether that was in an earlier run.
    """

    device: str
    speed: str
    target_mhz: int
    resources: Mapping[str, int]
    cells: Mapping[str, int]
    placements: tuple[Placement, ...]
    tools: Mapping[str, str]
    cpu_seconds: float
    cached: bool = False

    @property
    def fmax_median_mhz(self) -> float | None:
        """Median over seeds; None for a device that is only counted."""
        return statistics.median(run.fmax_mhz for run in self.placements) if self.placements else None

    @property
    def worst(self) -> Placement | None:
        """The slowest placement."""
        return min(self.placements, key=lambda run: run.fmax_mhz, default=None)

    @property
    def fmax_worst_mhz(self) -> float | None:
        """The lowest frequency of any seed."""
        return self.worst.fmax_mhz if self.worst else None


def report_to_document(report: FpgaReport) -> dict[str, Any]:
    """JSON of exact values (MHz, ns, seconds)."""
    family = DEVICES[report.device].family
    placements = [{**asdict(run), "start": run.start, "end": run.end} for run in report.placements]
    derived = {
        "placements": placements,
        "title": DEVICES[report.device].title,
        "lut_inputs": family.lut_inputs,
        "block_ram_bits": family.block_ram_bits,
        "fmax_median_mhz": report.fmax_median_mhz,
        "fmax_worst_mhz": report.fmax_worst_mhz,
    }
    return {**asdict(report), **derived}


def report_from_document(document: Mapping[str, Any]) -> FpgaReport:
    """The report of ``report_to_document``; raises ``KeyError`` or ``TypeError`` for any other document."""
    placements = tuple(
        Placement(run["seed"], run["fmax_mhz"], tuple(Step(**step) for step in run["critical_path"]))
        for run in document["placements"]
    )
    fields = {name: document[name] for name in FpgaReport.__slots__}
    return FpgaReport(**{**fields, "placements": placements})


_NAME_LIMIT = 48  # characters of a name in text

_COLUMNS = (
    Column("device", "device"),
    Column("speed", "speed grade"),
    Column("luts", "LUT", "1", "count"),
    Column("flip_flops", "FF", "1", "count"),
    Column("block_rams", "block RAM", "1", "count"),
    Column("distributed_rams", "LUT RAM", "1", "count"),
    Column("dsps", "DSP", "1", "count"),
    Column("fmax_median_hz", "median Fmax", "Hz"),
    Column("fmax_worst_hz", "worst", "Hz"),
    Column("seeds", "each seed, MHz"),
    Column("weights_per_second", "weights", "1/s"),
)


def reports_table(title: str, reports: Sequence[FpgaReport], weights_per_cycle: float) -> Table:
    """One row a device; notes name units, the worst seed's critical path, tools and time."""
    notes = [note for report in reports for note in _notes(report)]
    notes.append(f"weights: {weights_per_cycle:g} a cycle at the median Fmax; int8 would need as many bytes a second")
    return Table(title, _COLUMNS, tuple(_row(report, weights_per_cycle) for report in reports), tuple(notes))


def _row(report: FpgaReport, weights_per_cycle: float) -> dict[str, Any]:
    fmax_hz = _hertz(report.fmax_median_mhz)
    return {
        "weights_per_second": None if fmax_hz is None else weights_per_cycle * fmax_hz,
        "device": report.device,
        "speed": report.speed,
        **report.resources,
        "fmax_median_hz": fmax_hz,
        "fmax_worst_hz": _hertz(report.fmax_worst_mhz),
        "seeds": " ".join(f"{run.fmax_mhz:.0f}" for run in report.placements) or None,
    }


def _hertz(megahertz: float | None) -> float | None:
    return None if megahertz is None else megahertz * 1e6


def _notes(report: FpgaReport) -> list[str]:
    family = DEVICES[report.device].family
    units = f"LUTs of {family.lut_inputs} inputs, block RAMs of {family.block_ram_bits:,} bits"
    notes = [f"{report.device}: {units}; LUT RAM: {family.distributed_ram}"]
    if family.fabric.name != GENERIC.name:
        notes.append(f"{report.device}: made of its cells, as --fabric {family.fabric.name} writes it")
    if report.worst:
        notes.append(f"{report.device}: worst seed's critical path: {path_text(report.worst)}")
    when = "from the cache; they took" if report.cached else "which took"
    tools = ", ".join(f"{name} {version}" for name, version in report.tools.items())
    return [*notes, f"{report.device}: {tools}, {when} {report.cpu_seconds:.0f} CPU seconds"]


def path_text(run: Placement) -> str:
    """Its ends and where the time goes, in one line."""
    routing, total = run.delay_ns("routing"), sum(step.delay_ns for step in run.critical_path)
    hops = sum(step.kind == "logic" for step in run.critical_path)
    ends = f"{_short(run.start)} to {_short(run.end)}"
    return f"{ends}, {total:.2f} ns, {routing:.2f} ns of it routing, {hops} cells between"


def _short(name: str) -> str:
    """Its two ends: synthesis makes names by stringing together those on the way."""
    return name if len(name) <= _NAME_LIMIT else f"{name[: _NAME_LIMIT // 2]}…{name[-_NAME_LIMIT // 2 :]}"
