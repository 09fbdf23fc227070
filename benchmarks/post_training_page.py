"""The page, plot and CSV files of ``python -m benchmarks post_training``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accel.atomic import write_text
from accel.calibration import BUDGET_SAMPLES, WHOLE_SAMPLES
from accel.codecs import CODECS as KINDS
from accel.plots import MARKERS, log_axis, new_figure, short_log_axis, write_figure
from accel.reporting import Table, to_csv
from benchmarks.markdown import command, markdown
from benchmarks.post_training_findings import CODECS, HELD_BACK
from benchmarks.post_training_tables import UNIFORM, bits, layer_table

if TYPE_CHECKING:
    from benchmarks.post_training_findings import Findings

NAME = "post_training"
INTRODUCTION = f"""# Codecs before any training

Made by `COMMAND`: do not edit
anything but *What was found*, run it again. Every figure is of real, trained weights out of `accel models`, coded and
not fine-tuned; activations stay float32, so that only weights are judged. LEFT_OUT

* *Output error*: squared error over squares of the model's outputs, on {HELD_BACK} inputs a model (Lee-50's news texts,
  ImageNet pictures) that neither calibration nor any choice has seen: so few that close figures are as good as equal.
  Above about 0.5 a model is broken, and differences mean little. resnet50_thin answers with two probabilities next to 0
  and 1: its outputs here are what its last layer reads and gives.
* *Layers*: squared error over squares of each layer's weights. What hurts most is told by coding one layer at a time
  and measuring the outputs on {BUDGET_SAMPLES} of the calibration samples; budgets choose by the same errors.
* *Bits* count codebooks, scales and padding. A layer for which a codec would take more than int8 is int8, and depthwise
  convolutions go without split signs where a plain codebook is better: *layers in another codec*.
* *Budget*: `accel compress --budget` with all codecs of the table to choose from and as many bytes as one of them
  takes. The integer program minimises the sum of the errors that each layer makes alone; no choice within the bytes
  has a sum below *bound*. That errors add up is an assumption, so its choice is held against those it makes without
  one of the codecs each and against each codec for all layers: the whole model that is best on {WHOLE_SAMPLES} samples
  is taken, whatever its sum. So more bytes need not make a better model: a larger budget is held against other rivals.
* *Weighed*: `accel compress --weighted`, for vectors along output channels and along the reduction.

![Output error against stored bits](post_training.png)
"""

FINDINGS = re.compile(r"^## What was found$.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def write_page(
    models: Sequence[Findings], tables: Sequence[Table], folder: Path, layers: Path | None
) -> Iterator[Path]:
    """Write ``post_training.md``, ``.png`` and ``.csv`` (one row a model and codec) into ``folder``; yields paths."""
    folder.mkdir(parents=True, exist_ok=True)
    page, plot, sheet = (folder / f"{NAME}.{suffix}" for suffix in ("md", "png", "csv"))
    parts = [introduction(models), *_findings(page), *(markdown(each, without=("model",)) for each in tables)]
    write_text(page, "\n".join(parts))
    write_figure(error_figure(models), plot)
    write_text(sheet, to_csv(_joined([each for each in tables if each.title.endswith(UNIFORM)])))
    yield from (page, plot, sheet)
    if layers is not None:
        write_text(layers, to_csv(layer_table(models)))
        yield layers


def _findings(page: Path) -> list[str]:
    """What people wrote of the figures stays until they write something else."""
    found = FINDINGS.search(page.read_text()) if page.exists() else None
    return [found.group().rstrip() + "\n"] if found else []


def introduction(models: Sequence[Findings]) -> str:
    """What the page says above its tables: how it was made, and which codecs of ``accel codecs`` are not in it."""
    shown = {each.codec.partition(":")[0] for found in models for each in found.uniform}
    absent = [name for name in KINDS if name not in shown]
    left_out = f"Not measured here: {', '.join(absent)}." if absent else "Every kind of codec is here."
    return INTRODUCTION.replace("COMMAND", command(NAME)).replace("LEFT_OUT", left_out)


def _joined(tables: Sequence[Table]) -> Table:
    return Table("All models", tables[0].columns, tuple(row for each in tables for row in each.rows))


def error_figure(models: Sequence[Findings]) -> Figure:
    """Output error against bits: codecs as points, budgets as a line; a panel a model."""
    columns = min(len(models), 2)
    rows = -(-len(models) // columns)
    figure = new_figure(4.9 * columns, 3.3 * rows + 0.8)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, found in zip(panels, models, strict=False):
        _panel(axes, found)
    for axes in panels[len(models) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def _look(codec: str, codecs: Sequence[str]) -> dict[str, Any]:
    """Marker and colour: a codec's own, whichever others are asked for, unless it is not of ``CODECS``."""
    again, index = divmod(codecs.index(codec), len(MARKERS))  # as many markers as colours: shifted against them
    marker = MARKERS[(index + again) % len(MARKERS)]
    return {"marker": marker, "color": f"C{index}", "markeredgecolor": "black", "markersize": 7}


def _panel(axes: Axes, found: Findings) -> None:
    budgets = sorted((bits(each), each.output_error) for each in found.budgets)
    axes.plot(*zip(*budgets, strict=True), "k.-", linewidth=1, label="budget, all codecs")
    known = list(dict.fromkeys([*CODECS, *(each.codec for each in found.uniform)]))
    for each in found.uniform:
        axes.plot(bits(each), each.output_error, linestyle="", label=each.codec, **_look(each.codec, known))
    axes.set_title(found.model)
    log_axis(axes.xaxis)
    short_log_axis(axes.yaxis)
    axes.set_xticks([1.5, 2, 3, 4, 6, 8], labels=["1.5", "2", "3", "4", "6", "8"])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("stored bits a weight", fontsize=8)
    axes.set_ylabel("output error (squared, relative)", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.4)
