"""The two errors of a low-rank codebook over its rank, and the rank they suggest."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from accel.plots import new_figure
from compiler.compress.rank import SLACK, RankError, estimated_rank


def rank_figure(errors: Sequence[RankError], title: str) -> Figure:
    """Low-rank error with clustering error stacked on it, and the estimate marked."""
    figure = new_figure(6.4, 4.0)
    axes = figure.subplots()
    ranks = [each.rank for each in errors]
    low, clustering = [each.low_rank_error for each in errors], [each.clustering_error for each in errors]
    axes.bar(ranks, low, color="#56B4E9", edgecolor="black", linewidth=0.4, label="low-rank error")
    axes.bar(
        ranks, clustering, bottom=low, color="#E69F00", hatch="//", edgecolor="black", linewidth=0.4,
        label="clustering error",
    )  # fmt: skip
    chosen, least = estimated_rank(errors), min(each.total for each in errors)
    axes.axhline((1 + SLACK) * least, color="black", linestyle="--", linewidth=1, label=f"least sum + {SLACK:.0%}")
    axes.set_xticks(ranks)
    axes.get_xticklabels()[ranks.index(chosen)].set_fontweight("bold")
    axes.set_xlabel(f"rank of the codebook r (estimate: {chosen})")
    axes.set_ylabel("squared error over power (scaled weights)")
    axes.set_title(title, fontsize=10)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure
