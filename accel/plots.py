"""Figures of runs. Series differ in more than colour (hatch, marker, dash), so that they read in black and white.

Figures are drawn without pyplot, so nothing global is left open, and written atomically in the format of the suffix.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any, ParamSpec

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import Locator, LogLocator, NullFormatter

from accel.atomic import write_bytes
from accel.energy import COMPONENTS
from accel.errors import ConfigError, listed
from accel.machine import changes_from_preset
from accel.metrics import CAUSES, TRAFFIC
from accel.reporting import plain, run_labels
from accel.run import Run
from accel.svg import add_hover, svg_file

FORMATS = ("png", "svg", "pdf")
DPI = 130

# Okabe and Ito's palette, which colour-blind readers tell apart, and grey; hatches repeat the distinction.
COLOURS = ("#0072B2", "#E69F00", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#F0E442", "#BBBBBB", "#555555")
_HATCHES = ("", "///", "||||", "xxx", "\\\\\\", "+++", "//--", "---", "\\\\||")  # dots take 100 kB of SVG
MARKERS = ("s", "o", "^", "D", "v", "P", "X", "*", "<", ">")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 1, 2)))
LINE_COLOURS = (*COLOURS[:6], *COLOURS[7:])  # yellow is too pale for a line
_LARGEST_NAME = 30
_MOST_COLUMNS, _LEGEND_MARGIN = 5, 0.05  # of a legend below a figure; inches at either side
_MOST_CHANGES = 2  # of a machine, in a title
_LETTERS_PER_INCH, _LABEL_LETTERS_PER_INCH = 13.5, 12.0  # of titles, of 9 points, and of labels of an axis, of 10
_FEW_DECADES = 2.5  # of a logarithmic axis


P = ParamSpec("P")

# Names of layers and models are texts, not formulas, whatever dollar signs they hold.
_STYLE: Mapping[str, Any] = MappingProxyType(
    {"text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False, "pdf.fonttype": 42}
)


def in_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorates what draws a figure: the settings all figures share."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(dict(_STYLE)):
            return draw(*args, **kwargs)

    return styled


def plot_format(path: Path) -> str:
    """The format a suffix stands for; raises ``ConfigError`` for one we do not write."""
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        raise ConfigError(f"plot file '{path}': suffix '.{suffix}'; allowed: {listed('.' + name for name in FORMATS)}")
    return suffix


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, without pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_figure(figure: Figure, path: Path) -> None:
    """Write atomically; raises ``ConfigError`` for a suffix not in ``FORMATS``, ``FormatError`` if the disk refuses."""
    form = plot_format(path)
    with rc_context(dict(_STYLE)):
        write_bytes(path, svg_file(figure) if form == "svg" else _saved(figure, form))


def _saved(figure: Figure, form: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, dpi=DPI, metadata={"CreationDate": None} if form == "pdf" else {})
    return buffer.getvalue()


def plain_number(value: float, _: object = None) -> str:
    """A tick's number as tables show it."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:g}"


def log_axis(axis: XAxis | YAxis, locator: Locator | None = None) -> None:
    """A logarithmic axis with plain numbers: matplotlib's own are formulas, which these figures do not have."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    if locator:
        axis.set_major_locator(locator)
    axis.set_major_formatter(plain_number)
    axis.set_minor_formatter(NullFormatter())


def short_log_axis(axis: XAxis | YAxis) -> None:
    """One that may be short: it has numbers between powers of ten then, as one number alone says nothing of a scale."""
    log_axis(axis)
    low, high = sorted(axis.get_view_interval())  # on the new scale
    if math.log10(high / low) < _FEW_DECADES:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))


def bar_style(index: int) -> dict[str, Any]:
    """How the segments at ``index`` look: a colour and a hatch of their own."""
    return {"color": COLOURS[index % 9], "hatch": _HATCHES[index % 9], "edgecolor": "black", "linewidth": 0.4}


@dataclass(frozen=True, slots=True)
class Split:
    """A total of a run in its parts: field of ``Run``, its keys, and how an axis shows it."""

    field: str
    keys: Mapping[str, str]
    scale: float
    unit: str
    legend: str


SPLITS: Mapping[str, Split] = MappingProxyType(
    {
        "cycles": Split("cycles_by_cause", CAUSES, 1e-3, "thousand cycles", "cause of a cycle"),
        "traffic": Split("dram_bytes", TRAFFIC, 1e-6, "DRAM MB (1e6 B)", "kind of DRAM traffic"),
        "energy": Split("energy_joules", COMPONENTS, 1e6, "µJ", "where energy goes"),
    }
)


def stacked_bars(axes: Axes, names: Sequence[str], parts: Sequence[Mapping[str, float]], split: Split) -> None:
    """Horizontal bars, first name on top, one segment a key; keys that are nowhere used stay out of the legend."""
    left = [0.0] * len(names)
    for index, key in enumerate(split.keys):
        values = [part.get(key, 0) * split.scale for part in parts]
        if any(values):
            bars = axes.barh(range(len(names)), values, left=left, height=0.8, label=key, **bar_style(index))
            for bar, name, value in zip(bars, names, values, strict=True):
                add_hover(bar, plain(f"{name}: {key} {value:,.4g} {split.unit}"))
            left = [a + b for a, b in zip(left, values, strict=True)]
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(plain_number)
    axes.grid(axis="x", alpha=0.4)
    axes.set_axisbelow(True)


def short_labels(names: Sequence[str]) -> list[str]:
    """Names short enough for an axis: if one is too long, all lose what they start with up to the block's index.

    Block index and last two components always stay: they tell layers apart.
    """
    names = [plain(name) for name in names]
    if max(map(len, names), default=0) <= _LARGEST_NAME:
        return names
    split = [_components(name) for name in names]
    stems = Counter(_stem(parts) for parts in split if any(part.isdigit() for part in parts))
    common = max(stems, key=lambda stem: stems[stem], default=())
    labels = [_abbreviated(parts[len(common) :] if _stem(parts) == common else parts) for parts in split]
    return labels if len(set(labels)) == len(labels) else [_abbreviated(parts) for parts in split]


def _components(name: str) -> tuple[str, ...]:
    """Parts between dots and slashes, a part that repeats the one before left out: ``attention.attention.query``."""
    parts = [part for part in re.split(r"[./]", name) if part]
    return tuple(part for i, part in enumerate(parts) if part.isdigit() or i == 0 or part != parts[i - 1])


def block_name(layer: str) -> str:
    """The block a layer belongs to: its name up to the first number, ``blocks.3`` of ``blocks.3.attn.qkv``."""
    parts = _components(plain(layer))
    return ".".join(parts[: len(_stem(parts)) + 1])


def _stem(parts: tuple[str, ...]) -> tuple[str, ...]:
    """What precedes the first number."""
    return tuple(itertools.takewhile(lambda part: not part.isdigit(), parts))


def _abbreviated(parts: tuple[str, ...]) -> str:
    text = ".".join(parts)
    if len(text) <= _LARGEST_NAME:
        return text
    index = next((part for part in parts[:-1] if part.isdigit()), "")
    tail = ".".join(part for part in parts[-2:] if part != index)
    return f"{index}…{tail[len(index) + 1 - _LARGEST_NAME :]}"


def run_title(run: Run) -> str:
    """What stands above a panel that shows one run: of what, in which format, on what; a long one in several lines.

    A machine that has a preset's name is told apart by what it has otherwise: two runs could have one title.
    """
    changes = [f"{key} = {value}" for key, value in changes_from_preset(run.machine).items()]
    more = f" and {len(changes) - _MOST_CHANGES} more" if len(changes) > _MOST_CHANGES else ""
    settings = f" with {', '.join(changes[:_MOST_CHANGES])}{more}" if changes else ""
    return wrapped(f"{run.program.get('model')}, {run.program.get('codec')} on {run.machine.name}{settings}")


def wrapped(text: str, inches: float = 4.6) -> str:
    """A title in lines that panels of a width are wide enough for."""
    return textwrap.fill(plain(text), max(20, int(inches * _LETTERS_PER_INCH)))


def shared_legend(figure: Figure, panels: Iterable[Axes], title: str) -> None:
    """One legend below all panels, each key once, in as many columns as the figure is wide enough for."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    for columns in range(min(len(handles), _MOST_COLUMNS), 0, -1):
        legend = figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=columns, title=title,
            fontsize=8, handleheight=1.4, handlelength=2.4,
        )  # fmt: skip
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width - 2 * _LEGEND_MARGIN * figure.dpi:
            return
        legend.remove()


@in_style
def comparison_figure(runs: Sequence[Run]) -> Figure:
    """Total cycles by cause and DRAM bytes by kind, one bar a run."""
    figure = new_figure(10, 3.4 + 0.5 * len(runs))
    labels = run_labels(runs)
    for axes, split in zip(figure.subplots(2, 1), (SPLITS["cycles"], SPLITS["traffic"]), strict=True):
        stacked_bars(axes, labels, [getattr(run, split.field) for run in runs], split)
        axes.set_xlabel(f"{split.unit}, by {split.legend}")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, handleheight=1.4, handlelength=2.4)
    return figure


@in_style
def split_figure(groups: Mapping[str, Mapping[str, Run]], split: Split) -> Figure:
    """A total in its parts, one labelled bar a run, the total beside it; one titled panel a group, all of one scale."""
    rows = sum(map(len, groups.values()))
    longest = max(len(label) for runs in groups.values() for label in runs)
    figure = new_figure(9, 1.8 + 0.9 * len(groups) + 0.42 * rows)
    ratios = [len(runs) + 1 for runs in groups.values()]
    grid = {"height_ratios": ratios}
    panels = figure.subplots(len(groups), 1, squeeze=False, sharex=True, gridspec_kw=grid)[:, 0]
    totals = [[_total(run, split) for run in labelled.values()] for labelled in groups.values()]
    widest = max(max(row) for row in totals) or 1
    panels[0].set_xlim(0, widest * 1.14)
    for axes, (title, labelled), row in zip(panels, groups.items(), totals, strict=True):
        stacked_bars(axes, list(labelled), [getattr(run, split.field) for run in labelled.values()], split)
        axes.set_title(wrapped(_with_model(title, labelled), 8.7 - longest / _LABEL_LETTERS_PER_INCH), fontsize=9)
        axes.set_xlabel(f"{split.unit} a run{' (same scale for every machine)' if len(groups) > 1 else ''}")
        axes.tick_params(axis="x", labelbottom=True)
        _label_totals(axes, row, widest)
    shared_legend(figure, panels, split.legend)
    return figure


def _with_model(title: str, runs: Mapping[str, Run]) -> str:
    """A title of runs of one model names it; of several, their labels do."""
    models = {str(run.program.get("model")) for run in runs.values()}
    return f"{models.pop()}; {title}" if len(models) == 1 else title


def _total(run: Run, split: Split) -> float:
    return float(sum(getattr(run, split.field).values()) * split.scale)


def _label_totals(axes: Axes, totals: Sequence[float], widest: float) -> None:
    for row, total in enumerate(totals):
        axes.text(
            total + widest * 0.01, row, f"{total:,.3f}" if total < 100 else f"{total:,.1f}", va="center", fontsize=8
        )
