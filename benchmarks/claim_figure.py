"""The figure of ``python -m benchmarks claim``: speed-ups against bandwidth, and where 3x ends."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from accel.codecs import parse_codec
from accel.plots import in_style, new_figure
from accel.speedup_plot import curve_style
from benchmarks.claim_findings import CHIP, CLAIM, CODECS, LOOKUPS, SETTINGS, Findings

FIGURE_ARRAY = 64  # of the panels that show one array


@in_style
def claim_figure(found: Findings) -> Figure:
    """Four panels: arrays; then, on 64x64, formats, decoders and what is charged."""
    size = FIGURE_ARRAY if FIGURE_ARRAY in found.arrays else found.arrays[-1]
    best, bench, length = CODECS[0], found.bench, parse_codec(CODECS[0]).vector_length
    panels: dict[str, dict[str, Sequence[float]]] = {
        f"{best}: arrays": {f"{array}x{array}": found.curves[best, array, CHIP] for array in found.arrays},
        f"{size}x{size}: formats": {codec: found.curves[codec, size, CHIP] for codec in CODECS},
        f"{size}x{size}, {best}: look-ups a cycle of the decoder": {
            f"{n} ({n * length} weights)": [bench.speedup(best, size, each, CHIP, n) for each in found.bandwidths]
            for n in LOOKUPS[:4]
        },
        f"{size}x{size}, {best}: what is charged": {
            setting.name: found.curves[best, size, setting] for setting in SETTINGS
        },
    }
    figure = new_figure(11.5, 8.4)
    for axes, (title, curves) in zip(figure.subplots(2, 2, sharey=True).flat, panels.items(), strict=True):
        _panel(axes, title, found.bandwidths, curves)
    first, formats, _, charged = figure.axes
    _mark(first, [found.holds_to(best, array) for array in found.arrays])
    _mark(formats, [found.holds_to(codec, size) for codec in CODECS])
    _mark(charged, [found.holds_to(best, size, setting) for setting in SETTINGS])
    return figure


def _mark(axes: Axes, crossings: Sequence[float | None]) -> None:
    """A ring where the tables say that 3x ends: lines join points an octave apart and pass it by a little."""
    held = [bandwidth for bandwidth in crossings if bandwidth is not None]
    axes.plot(
        held, [CLAIM] * len(held), "o", fillstyle="none", color="black", markersize=9, label=f"{CLAIM:g}x ends (tables)"
    )
    axes.legend(fontsize=8, handlelength=4, loc="upper right")


def _panel(axes: Axes, title: str, bandwidths: Sequence[float], curves: dict[str, Sequence[float]]) -> None:
    for index, (label, curve) in enumerate(curves.items()):
        axes.plot(bandwidths, curve, label=label, **curve_style(index, reference=False))
    axes.axhline(CLAIM, color="black", linewidth=1.0, linestyle=(0, (8, 3)))
    axes.text(bandwidths[-1], CLAIM + 0.05, f"{CLAIM:g}x", ha="right", va="bottom", fontsize=8)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=16))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylim(0, 5.4)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("DRAM bandwidth [B/cycle], log scale", fontsize=9)
    axes.set_ylabel("speed-up over int8 [x]", fontsize=9)
    axes.tick_params(labelsize=8, labelleft=True)
    axes.grid(alpha=0.4)
    axes.legend(fontsize=8, handlelength=4, loc="upper right")
