"""The speed-up curves of ``accel compare`` as its document (``comparison.json``) holds them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.errors import FormatError
from accel.schemas import misplaced, schema_of

if TYPE_CHECKING:
    from accel.speedup_plot import SpeedupPanel

COMPARISON_SCHEMA = "accel.comparison/2"
_APART = 0.4  # octaves between two shapes of as many multipliers


def read_comparison(path: str | Path) -> dict[str, Any]:
    """The document of a comparison, its curves checked; raises ``FormatError`` with one line."""
    try:
        document = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise FormatError(f"comparison '{path}': {error.strerror or 'cannot be read'}") from error
    except (ValueError, RecursionError) as error:
        expected = "not JSON; expected the comparison.json of accel compare -o"
        why = misplaced(schema, COMPARISON_SCHEMA) if (schema := schema_of(path)) else expected
        raise FormatError(f"comparison '{path}': {why}") from error
    if not isinstance(document, dict) or document.get("schema") != COMPARISON_SCHEMA:
        found = (document.get("schema") if isinstance(document, dict) else None) or schema_of(path) or None
        raise FormatError(f"comparison '{path}': {misplaced(found, COMPARISON_SCHEMA)}")
    try:
        if not bandwidth_panels(document):
            raise ValueError("no machines")
        array_panels(document)
        [str(machine["verdict"]) for machine in document["machines"]]
        [dict(row) for row in document["rows"]], [str(note) for note in document["notes"]]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise FormatError(f"comparison '{path}': damaged: {type(error).__name__} {error}") from error
    return document


def bandwidth_panels(document: Mapping[str, Any]) -> tuple[SpeedupPanel, ...]:
    """Speed-up against DRAM bandwidth, a panel a machine; the best format's GEMM-only curve is a thin reference."""
    from accel.speedup_plot import Curve

    panels = []
    for machine in document["machines"]:
        swept = _numbers(machine["bandwidths_bytes_per_cycle"])
        curves = [Curve(str(codec), swept, _numbers(row["speedup"])) for codec, row in machine["curves"].items()]
        best = machine["curves"][machine["best"]]["speedup_gemm_only"]
        curves.append(Curve(f"{machine['best']}, GEMM-only", swept, _numbers(best), reference=True))
        crossover = machine["crossover"]["bandwidth_bytes_per_cycle"]
        panels.append(
            _panel(document, machine, curves, float(machine["own_bandwidth_bytes_per_cycle"]), crossover, "above")
        )
    return tuple(panels)


def array_panels(document: Mapping[str, Any]) -> tuple[SpeedupPanel, ...]:
    """Speed-up against the size of the array at the machine's own bandwidth; no panel where there is but one size."""
    from dataclasses import replace

    from accel.speedup_plot import ARRAY, Curve

    panels = []
    for machine in document["machines"]:
        arrays = machine["arrays"]
        if len(arrays["macs_per_cycle"]) < 2:
            continue
        sizes = _numbers(arrays["macs_per_cycle"])
        swept, alike = _side_by_side(sizes), len(set(sizes)) < len(sizes)
        order = f"log scale of multipliers{' (shapes of as many side by side)' if alike else ''}"
        curves = [Curve(str(codec), swept, _numbers(row)) for codec, row in arrays["speedup"].items()]
        names, crossover = tuple(map(str, arrays["names"])), arrays["crossover_macs_per_cycle"]
        own_name, own = _own_place(machine["machine"]["array"], names, swept)
        place = None if crossover is None else _place(float(crossover), sizes, swept)
        panel = _panel(document, machine, curves, own, place, "below")
        told = "" if crossover is None else f"{float(crossover):,.0f} {ARRAY.unit}"
        panels.append(
            replace(panel, sweep=ARRAY, names=names, order=order, own_text=own_name, crossover_text=told)
        )  # fmt: skip
    return tuple(panels)


def _own_place(array: Mapping[str, Any], names: Sequence[str], swept: Sequence[float]) -> tuple[str, float]:
    """The machine's own shape and where it stands: among shapes of as many multipliers, only one of them is its own."""
    name = f"{array['rows']}x{array['columns']}"
    return name, swept[names.index(name)] if name in names else float(array["rows"] * array["columns"])


def _place(size: float, sizes: Sequence[float], swept: Sequence[float]) -> float:
    """Where a number of multipliers stands between ascending ``sizes`` that stand at ``swept``."""
    if size in sizes:
        alike = [place for each, place in zip(sizes, swept, strict=True) if each == size]
        return math.sqrt(alike[0] * alike[-1])
    last = dict(zip(sizes, swept, strict=True))
    first = dict(zip(reversed(sizes), reversed(swept), strict=True))
    below = max((each for each in sizes if each < size), default=sizes[0])
    above = min((each for each in sizes if each > size), default=sizes[-1])
    share = math.log(size / below) / math.log(above / below) if above > below else 0.0
    return float(last[below] * (first[above] / last[below]) ** share)


def _panel(
    document: Mapping[str, Any], machine: Mapping[str, Any], curves: Any, own: float, crossover: Any, side: str
) -> SpeedupPanel:
    from accel.speedup_plot import SpeedupPanel

    return SpeedupPanel(
        title=f"{document['model']} on {machine['machine']['name']}: whole network",
        curves=curves,
        own=own,
        crossover=None if crossover is None else float(crossover),
        caption=f"crossover: {side} it {machine['best']}, the fastest compressed format here, gains less than "
        f"{document['gain_threshold']}x",
    )


def _side_by_side(sizes: tuple[float, ...]) -> tuple[float, ...]:
    """Where ascending sizes stand on a logarithmic axis: shapes of equal size next to each other, around it."""
    places = []
    for index, size in enumerate(sizes):
        others, before = sizes.count(size) - 1, sizes[:index].count(size)
        places.append(size * 2 ** (_APART * (before - others / 2)))
    return tuple(places)


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(map(float, values))
