"""List the machines that ship with Accel: what -m accepts besides the path of a TOML file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from accel.cli.options import add_json, print_table

if TYPE_CHECKING:
    from accel.machine import Machine

HELP = "list the built-in machines"
EXAMPLE = "accel machines"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print one row a preset."""
    from accel.machine import load_machine, preset_names
    from accel.reporting import Column, Table

    columns = (
        Column("name", "name"),
        Column("array", "array"),
        Column("dataflow", "dataflow"),
        Column("clock_hz", "clock", "Hz"),
        Column("macs_per_cycle", "peak", "MAC/cycle"),
        Column("bandwidth_bytes_per_cycle", "DRAM", "B/cycle"),
        Column("dram", "model"),
        Column("activation_bytes", "activations", "B", "KiB"),
        Column("weight_bytes", "weights", "B", "KiB"),
        Column("lookups_per_cycle", "lookups a cycle", "1", "count"),
        Column("vector_lanes", "vector lanes", "1", "count"),
        Column("description", "description"),
    )
    rows = tuple(_row(load_machine(name)) for name in preset_names())
    print_table(Table("Machines", columns, rows), as_json=arguments.json)
    return 0


def _row(machine: Machine) -> dict[str, Any]:
    return {
        "name": machine.name,
        "array": f"{machine.array.rows}x{machine.array.columns}",
        "dataflow": machine.array.dataflow,
        "clock_hz": machine.clock.hz,
        "macs_per_cycle": machine.macs_per_cycle,
        "bandwidth_bytes_per_cycle": machine.bandwidth_bytes_per_cycle,
        "dram": machine.dram.standard + (f" x{machine.dram.data_width_bits}" if machine.is_banked else ""),
        "activation_bytes": machine.sram.activation_bytes,
        "weight_bytes": machine.sram.weight_bytes,
        "lookups_per_cycle": machine.decoder.lookups_per_cycle,
        "vector_lanes": machine.vector.lanes,
        "description": machine.description,
    }
