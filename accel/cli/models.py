"""List what MODEL accepts besides a path: built-in architectures and the zoo of trained models."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from accel.cli.options import add_json, print_table

HELP = "list the built-in models"
EXAMPLE = "accel models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print one row a model."""
    from accel.reporting import Column, Table
    from compiler.frontend import list_models

    columns = (
        Column("spec", "MODEL"),
        Column("weights", "weights"),
        Column("parameter_count", "parameters", "1", "count"),
        Column("input_shape", "input"),
        Column("licence", "licence"),
        Column("description", "description"),
    )
    rows = tuple(
        asdict(model)
        | {
            "weights": "trained" if model.trained else "random unless ARCH:FILE",
            "input_shape": "x".join(map(str, model.input_shape)) if model.input_shape else None,
        }
        for model in list_models()
    )
    print_table(Table("Models", columns, rows), as_json=arguments.json)
    return 0
