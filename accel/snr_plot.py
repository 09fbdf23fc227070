"""The signal-to-noise ratio of a network's tensors in the order of execution: where accuracy is lost, at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accel.plots import in_style, new_figure, short_labels

# Kinds differ in shape and filling, so that they read in black and white; colours repeat the distinction.
_KINDS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "conv": ("o", "#0072B2", "#0072B2"),
        "gemm": ("s", "#000000", "#000000"),
        "attention": ("^", "#D55E00", "#D55E00"),
        "vector": ("D", "white", "#009E73"),
        "io": ("*", "#E69F00", "#000000"),
    }
)
_MOST_SHOWN = 60.0  # dB; beyond what 8 bits give
_CUT = 1e-3  # share of values beyond the codes that is worth a ring


@dataclass(frozen=True, slots=True)
class SnrPoint:
    """One tensor. ``rounding_snr``: what rounding alone would leave; ``beyond``: share of values its codes cannot hold;
    ``labelled`` points carry their name."""

    name: str
    kind: str
    snr: float
    rounding_snr: float | None
    beyond: float
    labelled: bool = False


@in_style
def snr_figure(points: Sequence[SnrPoint], limit: float, title: str) -> Figure:
    """SNR over execution order, a marker a kind of layer, the limit dashed, the worst points named."""
    figure = new_figure(9.5, 4.8)
    axes = figure.subplots()
    shown = [min(point.snr, _MOST_SHOWN) for point in points]
    axes.plot(range(len(shown)), shown, "-", color="#999999", linewidth=0.8, zorder=1)
    for kind, style in _KINDS.items():
        _draw_kind(axes, [(i, shown[i]) for i, point in enumerate(points) if point.kind == kind], kind, style)
    _draw_rounding(axes, points)
    _draw_rings(axes, points, shown)
    axes.axhline(limit, color="black", linestyle="--", linewidth=1, label=f"limit: {limit:g} dB")
    _draw_labels(axes, points, shown)
    axes.set_xlabel("stored tensor, in order of execution")
    axes.set_ylabel("signal to noise against float [dB]")
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)
    axes.set_xlim(-1, max(len(points), 2))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=8, fontsize=8)
    return figure


def _draw_kind(axes: Axes, places: Sequence[tuple[int, float]], kind: str, style: tuple[str, str, str]) -> None:
    if places:
        marker, face, edge = style
        size = 9 if marker == "*" else 5
        at, values = zip(*places, strict=True)
        axes.plot(
            at,
            values,
            marker,
            label="input" if kind == "io" else kind,
            markersize=size,
            markerfacecolor=face,
            markeredgecolor=edge,
            zorder=3,
        )


def _draw_rounding(axes: Axes, points: Sequence[SnrPoint]) -> None:
    """What each tensor's own code alone would leave: short dashes, as neighbours have nothing to do with each other."""
    alone = [(i, min(p.rounding_snr, _MOST_SHOWN)) for i, p in enumerate(points) if p.rounding_snr is not None]
    if alone:
        style: dict[str, Any] = {"color": "#777777", "markersize": 5, "zorder": 1}
        axes.plot(*zip(*alone, strict=True), "_", label="rounding to its code alone", **style)


def _draw_rings(axes: Axes, points: Sequence[SnrPoint], shown: Sequence[float]) -> None:
    cut = [i for i, point in enumerate(points) if point.beyond > _CUT]
    if cut:
        style: dict[str, Any] = {"markersize": 10, "markerfacecolor": "none", "markeredgecolor": "black"}
        axes.plot(cut, [shown[i] for i in cut], "o", label=f"over {100 * _CUT:g} % beyond its range", zorder=2, **style)


def _draw_labels(axes: Axes, points: Sequence[SnrPoint], shown: Sequence[float]) -> None:
    """Names on rows of their own below all points, each at the foot of a vertical line."""
    named = _rows_of_labels([i for i, point in enumerate(points) if point.labelled], len(points))
    texts = short_labels([points[i].name.removesuffix(":out") for i in named])
    lowest = min(shown)
    step = 0.06 * max(max(shown) - lowest, 20)
    for row, (place, text) in enumerate(zip(named, texts, strict=True)):
        side, end = ("left", 0.0) if place < len(points) / 2 else ("right", 1.0)
        line = {"arrowstyle": "-", "color": "black", "linewidth": 0.6, "relpos": (end, 0.5), "shrinkB": 4}
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.annotate(
            f" {text}: {points[place].snr:.1f} dB ", (place, shown[place]), (place, lowest - (row + 1.3) * step),
            ha=side, va="center", fontsize=8, arrowprops=line, bbox=box,
        )  # fmt: skip
    axes.set_ylim(bottom=lowest - (len(named) + 1.3) * step)


def _rows_of_labels(places: Sequence[int], count: int) -> list[int]:
    """From the top row down, so that no line passes through a text: outermost lowest on either side."""
    left = [place for place in places if place < count / 2]
    return [*reversed(left), *(place for place in places if place >= count / 2)]
