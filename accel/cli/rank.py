"""The rank an LR2VQ codebook needs, estimated layer by layer before any training (arXiv 2211.11397).

Vectors of m weights brought to rank r lose what lies outside (low-rank error) and what k codewords miss inside
(clustering error). Their sum falls with r; the estimate is the least rank whose sum is close to that of full rank.
"""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from accel.cli.compress import load, model_files
from accel.cli.options import (
    add_json,
    add_model,
    add_vectors,
    check_outputs,
    output_file,
    positive_integer,
    print_json,
    say,
)
from accel.errors import ConfigError, listed, nearest

if TYPE_CHECKING:
    from accel.cli.progress import Report
    from accel.reporting import Table
    from compiler.compress.rank import RankError
    from compiler.frontend import LoadedModel

HELP = "estimate which rank an lr2vq codebook needs"
EXAMPLE = "accel rank zoo:minilm --k 64 --m 4 --plot rank.png"

Errors = Mapping[str, "tuple[RankError, ...]"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    add_model(parser)
    parser.add_argument("--k", metavar="K", type=positive_integer, required=True, help="codewords (accel codecs)")
    parser.add_argument("--m", metavar="M", type=positive_integer, required=True, help="weights in a codeword")
    parser.add_argument("--layers", metavar="GLOB", default="*", help="weights by name (default all but the too small)")
    add_vectors(parser)
    parser.add_argument("--plot", metavar="FILE", type=output_file, help="draw the mean (.png, .svg, .pdf)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the estimate of every layer and that of their mean."""
    from accel.cli.progress import progress
    from accel.plots import plot_format, write_figure
    from accel.reporting import to_text
    from compiler.compress.rank import estimated_rank, mean_errors
    from compiler.compress.rank_plot import rank_figure

    check_outputs([arguments.plot], model_files(arguments.model))
    if arguments.plot:
        plot_format(arguments.plot)
    model = load(arguments)
    matrices, small = _matrices(model, arguments)
    with progress() as report:
        errors = _errors(matrices, arguments, report)
    mean = mean_errors(list(matrices.values()), list(errors.values()))
    facts = {"source": dict(model.source), "k": arguments.k, "m": arguments.m, "rank": estimated_rank(mean)}
    if arguments.json:
        layers = [_facts(name, each) for name, each in errors.items()]
        print_json({**facts, "layers": layers, "mean": _rows(mean), "left_out": small})
    else:
        table = to_text(_table(errors, mean, small, arguments))
        print(f"{model.source['spec']}: {model.source['description']}\n\n{table}", end="")
    if arguments.plot:
        title = f"{model.source['spec']}: k = {arguments.k}, m = {arguments.m}, mean of {len(errors)} layers"
        write_figure(rank_figure(mean, title), arguments.plot)
        say(f"wrote {arguments.plot}")
    return 0


def _matrices(model: LoadedModel, arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """What is estimated, as ``[out, reduction]``, and the weights that are too small; raises ``CodecError`` for a codec
    there is none of, ``ConfigError`` if all are too small."""
    import numpy as np

    from accel.codecs import LR2VQ
    from accel.graph import gemm_shape
    from compiler.compress import codec_choices

    choices = codec_choices(model.graph, LR2VQ(arguments.k, arguments.m, 1), (), arguments.vector_axis)
    named = [name for name in choices if fnmatch.fnmatchcase(name, arguments.layers)]
    if not named:
        raise ConfigError(f"--layers '{arguments.layers}' matches no weight{nearest(arguments.layers, choices)}")
    found = {name: np.asarray(model.weights[name], np.float32) for name in named}
    large = {
        name: each.reshape(gemm_shape(each.shape))
        for name, each in found.items()
        if isinstance(choices[name][0], LR2VQ) and each.size >= arguments.k * arguments.m
    }
    if not large:
        most = max(each.size // arguments.m for each in found.values())
        raise ConfigError(
            f"--k {arguments.k}: too many for all layers, which have up to {most} vectors of {arguments.m}"
        )
    return large, [name for name in named if name not in large]


def _errors(matrices: Mapping[str, Any], arguments: argparse.Namespace, report: Report) -> Errors:
    from compiler.compress.rank import rank_errors

    found = {}
    for done, (name, matrix) in enumerate(matrices.items()):
        report(done, len(matrices), name)
        found[name] = rank_errors(
            matrix, arguments.k, arguments.m,
            scale=arguments.scale, vector_axis=arguments.vector_axis, seed=arguments.seed,
        )  # fmt: skip
    return found


def _rows(errors: Sequence[RankError]) -> list[dict[str, float]]:
    return [
        {"rank": each.rank, "low_rank_error": each.low_rank_error, "clustering_error": each.clustering_error}
        for each in errors
    ]


def _facts(name: str, errors: Sequence[RankError]) -> dict[str, Any]:
    from compiler.compress.rank import estimated_rank

    return {"layer": name, "rank": estimated_rank(errors), "errors": _rows(errors)}


def _table(errors: Errors, mean: Sequence[RankError], small: Sequence[str], arguments: argparse.Namespace) -> Table:
    from accel.reporting import Column, Table
    from compiler.compress.rank import SLACK

    columns = (
        Column("layer", "layer"),
        Column("rank", "estimate", "1", "count"),
        *(Column(f"at_{each.rank}", f"r={each.rank}", "1") for each in mean),
    )
    rows = [_row(name, each) for name, each in (*errors.items(), ("mean, by weights", mean))]
    notes = (
        f"columns: low-rank error + clustering error at each rank, over the power of the weights, after scales a "
        f"{arguments.scale}; {arguments.k} codewords of {arguments.m} weights",
        f"estimate: the least rank with at most {1 + SLACK:g} times the error of the best",
    )
    left = f"too small for these codewords: {len(small)} weights, {listed(small[:3])}{' ...' if small[3:] else ''}"
    return Table("LR2VQ: rank before training", columns, tuple(rows), (*notes, left) if small else notes)


def _row(name: str, errors: Sequence[RankError]) -> dict[str, Any]:
    from compiler.compress.rank import estimated_rank

    return {"layer": name, "rank": estimated_rank(errors), **{f"at_{each.rank}": each.total for each in errors}}
