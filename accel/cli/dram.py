"""Replay a trace of 64-byte accesses through one DRAM channel.

A trace is a file of little-endian 64-bit integers in pairs (0 read or 1 write, byte address), or trace:NAME for one of
those the reference cycle counts were measured on. Accesses carry no times: each is offered as soon as the
controller's queue takes it (unless --outstanding limits them), so latency includes waiting in the queue.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from accel.cli.options import add_json, non_negative_integer, positive_integer, print_json
from accel.dram import DRAM_STANDARDS, MAPPINGS, SCHEDULERS, TIMING_KEYS, DramStandard, dram_standard
from accel.errors import ConfigError, FormatError, SimError, listed, nearest

if TYPE_CHECKING:
    from sim.dram.trace import Replay
    from sim.dram.traces import Accesses

HELP = "replay a memory trace through a DRAM channel"
EXAMPLE = "accel dram trace:a1_seq_read_1MB --standard DDR4-2400 --mapping bgLow"
BUILT_IN = "trace:"
DIGITS = 18  # of a whole number that fits 64 bits

# Key in JSON -> attribute of a Replay.
FIGURES = (
    *("width_bits", "mapping", "scheduler", "outstanding", "requests", "accesses", "total_cycles", "seconds"),
    *("bandwidth_bytes_per_cycle", "bandwidth_bytes_per_second", "peak_share", "row_hits", "row_hit_percent"),
    *("activates", "precharges", "refreshes", "mean_read_latency_cycles"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("trace", metavar="TRACE", help="a file, or trace:NAME")
    parser.add_argument("--standard", metavar="NAME", required=True, help=f"one of {listed(DRAM_STANDARDS)}")
    widths = ", ".join(f"{row.name} {row.widths[0]}" for row in DRAM_STANDARDS.values())
    parser.add_argument("--width", metavar="BITS", type=positive_integer, help=f"data bus (default: {widths})")
    parser.add_argument("--mapping", choices=MAPPINGS, default="bgLow", help="of addresses to banks (default bgLow)")
    parser.add_argument("--scheduler", choices=SCHEDULERS, default=SCHEDULERS[0], help=f"default {SCHEDULERS[0]}")
    parser.add_argument(
        "--outstanding",
        metavar="N",
        type=non_negative_integer,
        help="accesses of the device that may be under way at once (default: no limit, 0)",
    )
    parser.add_argument(
        "--set-timing",
        dest="timing",
        metavar="KEY=CYCLES",
        action="append",
        default=[],
        help="override one timing parameter, e.g. trcd_read=20 (repeatable; --json prints all)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the figures."""
    from sim.dram.trace import check_channel, replay_trace

    standard = dram_standard(arguments.standard).with_timing(_timing(arguments.timing))
    width = standard.widths[0] if arguments.width is None else arguments.width
    check_channel(standard, width, arguments.mapping, arguments.scheduler, arguments.outstanding or 0)
    accesses, outstanding = _trace(arguments.trace)
    if arguments.outstanding is not None:
        outstanding = arguments.outstanding
    try:
        replay = replay_trace(standard, width, arguments.mapping, arguments.scheduler, *accesses, outstanding)
    except SimError as error:
        raise FormatError(f"trace '{arguments.trace}': {error}") from error
    if arguments.json:
        print_json(_document(replay))
    else:
        _print_text(arguments.trace, replay)
    return 0


def _timing(overrides: list[str]) -> dict[str, int]:
    changes = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or key not in TIMING_KEYS:
            near = nearest(key, TIMING_KEYS)
            allowed = f"KEY=CYCLES with KEY in {listed(TIMING_KEYS)}{near}"
            raise ConfigError(f"--set-timing {override}; allowed: {allowed}")
        if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
            raise ConfigError(f"--set-timing {override}; allowed: a whole number")
        changes[key] = int(text)
    return changes


def _trace(spec: str) -> tuple[Accesses, int]:
    """The accesses of a trace, and how many of them its table allows to be under way."""
    from sim.dram.trace import read_trace
    from sim.dram.traces import TRACES

    if not spec.startswith(BUILT_IN):
        return read_trace(spec), 0
    name = spec.removeprefix(BUILT_IN)
    if name not in TRACES:
        raise ConfigError(f"trace '{spec}'; allowed: a file or {BUILT_IN} and {listed(TRACES)}{nearest(name, TRACES)}")
    return TRACES[name].make(), TRACES[name].outstanding


def _document(replay: Replay) -> dict[str, Any]:
    figures = {name: getattr(replay, name) for name in FIGURES}
    return {"standard": replay.standard.name, **figures, "timing": timing_document(replay.standard)}


def timing_document(standard: DramStandard) -> dict[str, int]:
    """Every timing parameter, in clock cycles (``tck_ps``: picoseconds)."""
    return asdict(standard.timing)


def changed_timing(standard: DramStandard) -> dict[str, int]:
    """The timing parameters that are not those of the standard's row."""
    usual = timing_document(dram_standard(standard.name))
    return {key: value for key, value in timing_document(standard).items() if value != usual[key]}


def _print_text(trace: str, replay: Replay) -> None:
    from accel.reporting import Column, Table, to_text

    columns = (
        Column("requests", "requests", "1", "count"),
        Column("total_cycles", "total", "cycles"),
        Column("seconds", "time", "s"),
        Column("bandwidth_bytes_per_cycle", "bandwidth", "B/cycle"),
        Column("gigabytes_per_second", "bandwidth", "GB/s"),
        Column("peak_share", "of peak", "1", "share"),
        Column("row_hit_share", "row hits", "1", "share"),
        Column("activates", "ACTIVATE", "1", "count"),
        Column("precharges", "PRECHARGE", "1", "count"),
        Column("refreshes", "REFRESH", "1", "count"),
        Column("mean_read_latency_cycles", "read latency", "cycles"),
    )
    row = {name: getattr(replay, name) for name in FIGURES}
    row["gigabytes_per_second"] = replay.bandwidth_bytes_per_second / 1e9
    row["row_hit_share"] = replay.row_hit_percent / 100
    changed = "".join(f", {key} = {value}" for key, value in changed_timing(replay.standard).items())
    channel = f"{replay.standard.name} x{replay.width_bits}, {replay.mapping}{changed}, {replay.scheduler} scheduler"
    limit = f", at most {replay.outstanding} under way" if replay.outstanding else ""
    clock = f"cycles are of the DRAM's clock of {replay.standard.timing.tck_ps} ps"
    print(to_text(Table(f"{trace} on {channel}{limit}", columns, (row,), (clock,))), end="")
