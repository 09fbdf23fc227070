"""Names beside the points of a plot, none over another or over what is drawn: one that finds no room is left out.

Libraries that push labels apart until few overlap promise no plot without overlaps and no two files that are the same.
Here each label takes the first of a fixed list of places that is free.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

Floats = npt.NDArray[np.float64]  # boxes, one a row: left, bottom, right, top in points from the figure's lower left

_INCH = 72  # points
_FONT_SIZE = 7
_CLEAR = 1.5  # points around a label: renderers differ in the width of letters
_DISTANCES = (5.0, 14.0, 24.0, 36.0, 50.0)  # points from a point to its label; a line leads to all but the first
_STEP = 2.0  # points between samples of a line
# Which way from the point, sideways and up: corners before sides, as points often lie in rows.
_WAYS = ((1, -1), (1, 1), (-1, -1), (-1, 1), (0, -1), (0, 1), (1, 0), (-1, 0))
_BESIDE, _ABOVE = {1: "left", 0: "center", -1: "right"}, {1: "bottom", 0: "center", -1: "top"}


@dataclass(frozen=True, slots=True)
class PointLabel:
    """A text and the point it names, in the units of the axes."""

    text: str
    x: float
    y: float


@dataclass(slots=True)
class _Room:
    """The frame of a plot, and what is in it: what is ``drawn``, which lines to labels may cross, and ``texts``."""

    frame: Floats
    drawn: Floats
    texts: Floats

    def has(self, label: Floats, leader: Floats) -> bool:
        """Whether there is room for a label and the line to it."""
        inside = (label[:2] >= self.frame[:2]).all() and (label[2:] <= self.frame[2:]).all()
        return bool(inside) and not (
            _overlap(label[None], self.drawn) or _overlap(label[None], self.texts) or _overlap(leader, self.texts)
        )

    def take(self, label: Floats, leader: Floats) -> None:
        """Nothing else may lie there."""
        self.texts = np.vstack([self.texts, label])
        self.drawn = np.vstack([self.drawn, leader])


def place_labels(axes: Axes, labels: Sequence[PointLabel], most: int) -> tuple[str, ...]:
    """Draw the first ``most`` of ``labels`` for which there is room; returns their texts.

    Everything else of the figure must be drawn already: its layout is worked out here, and labels leave it as it is.
    """
    room, drawn = _room(axes), list[str]()
    for label in labels:
        if len(drawn) == most:
            break
        if _place(axes, label, room):
            drawn.append(label.text)
    return tuple(drawn)


def _room(axes: Axes) -> _Room:
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    scale = _INCH / figure.dpi
    boxes = [box for line in axes.lines for box in (_markers(line, scale), _samples(line, scale))]
    return _Room(np.asarray(axes.bbox.extents) * scale, np.vstack([*boxes, np.empty((0, 4))]), np.empty((0, 4)))


def _vertices(line: Line2D, scale: float) -> Floats:
    found: Floats = line.get_transform().transform(line.get_xydata()) * scale
    return found


def _markers(line: Line2D, scale: float) -> Floats:
    if line.get_marker() in ("None", "none", "", None):
        return np.empty((0, 4))
    return _boxes(_vertices(line, scale), (line.get_markersize() + line.get_markeredgewidth()) / 2)


def _samples(line: Line2D, scale: float) -> Floats:
    """Small boxes along a line."""
    if line.get_linestyle() in ("None", "none", "", " "):
        return np.empty((0, 4))
    pieces = [_between(a, b) for a, b in itertools.pairwise(_vertices(line, scale))]
    return _boxes(np.vstack(pieces), line.get_linewidth() / 2)


def _between(start: Floats, end: Floats) -> Floats:
    """Points of the straight line between two, ``_STEP`` apart at most."""
    count = int(np.ceil(np.abs(end - start).max() / _STEP)) + 1
    return np.linspace(start, end, count)


def _boxes(points: Floats, half: float) -> Floats:
    return np.hstack([points - half, points + half])


def _overlap(some: Floats, others: Floats) -> bool:
    """Whether any box of the one kind and any of the other have a point in common."""
    apart = (some[:, None, :2] > others[None, :, 2:]).any(-1) | (some[:, None, 2:] < others[None, :, :2]).any(-1)
    return not apart.all()


def _place(axes: Axes, label: PointLabel, room: _Room) -> bool:
    """Draw a label in the first place with room for it and the line to it; whether there is one."""
    measured = axes.text(label.x, label.y, label.text, fontsize=_FONT_SIZE)
    scale = _INCH / measured.figure.dpi
    size: Floats = np.asarray(measured.get_window_extent().size) * scale + 2 * _CLEAR
    measured.remove()
    at: Floats = axes.transData.transform((label.x, label.y)) * scale
    for distance, way in itertools.product(_DISTANCES, _WAYS):
        start: Floats = at + distance * np.array(way)
        corner = start + size * (np.array(way) - 1) / 2
        box = np.concatenate([corner, corner + size])
        leader = _boxes(_between(at, start), 0.0)[: None if distance > _DISTANCES[0] else 0]
        if room.has(box, leader):
            room.take(box, leader)
            _draw(axes, label, distance, way)
            return True
    return False


def _draw(axes: Axes, label: PointLabel, distance: float, way: tuple[int, int]) -> None:
    nearest = ((1 - way[0]) / 2, (1 - way[1]) / 2)  # corner or side of the label that the line leads to
    line = {"arrowstyle": "-", "linewidth": 0.5, "relpos": nearest, "shrinkA": 0, "shrinkB": 3}
    inwards = distance + _CLEAR
    axes.annotate(
        label.text, (label.x, label.y), (way[0] * inwards, way[1] * inwards), textcoords="offset points",
        fontsize=_FONT_SIZE, ha=_BESIDE[way[0]], va=_ABOVE[way[1]], in_layout=False, zorder=4,
        arrowprops=line if distance > _DISTANCES[0] else None,
    )  # fmt: skip
