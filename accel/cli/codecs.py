"""List the codecs: how weights can be stored, and how each is spelled."""

from __future__ import annotations

import argparse

from accel.cli.options import add_json, print_table

HELP = "list the codecs"
EXAMPLE = "accel codecs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print one row a codec family."""
    from accel.codecs import CODECS, parse_codec
    from accel.reporting import Column, Table

    columns = (
        Column("family", "codec"),
        Column("example", "example"),
        Column("bits_per_weight", "its bits/weight", "bit"),
        Column("codebook_bytes", "its codebook", "B", "bytes"),
        Column("parameters", "parameters"),
        Column("doc", "what it is"),
    )
    rows = []
    for name, family in CODECS.items():
        example = parse_codec(family.example)
        rows.append(
            {
                "family": name,
                "example": family.example,
                "bits_per_weight": example.bits_per_weight,
                "codebook_bytes": example.codebook_bytes,
                "parameters": "; ".join(f"{row.name}: {row.doc}" for row in family.parameters) or None,
                "doc": family.doc,
            }
        )
    print_table(Table("Codecs", columns, tuple(rows)), as_json=arguments.json)
    return 0
