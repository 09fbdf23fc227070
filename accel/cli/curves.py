"""The speed-up curves of ``accel compare`` as its document (``comparison.json``) holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.cli.array_axis import ArrayAxis
from accel.errors import FormatError
from accel.schemas import misplaced, schema_of

if TYPE_CHECKING:
    from accel.speedup_plot import SpeedupPanel

COMPARISON_SCHEMA = "accel.comparison/2"


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
    panels = []
    for machine in document["machines"]:
        arrays = machine["arrays"]
        if len(arrays["macs_per_cycle"]) < 2:
            continue
        panels.append(_array_panel(document, machine, ArrayAxis.of(arrays["names"], arrays["macs_per_cycle"])))
    return tuple(panels)


def _array_panel(document: Mapping[str, Any], machine: Mapping[str, Any], axis: ArrayAxis) -> SpeedupPanel:
    from dataclasses import replace

    from accel.speedup_plot import ARRAY, Curve

    arrays, array = machine["arrays"], machine["machine"]["array"]
    curves = [Curve(str(codec), axis.places, _numbers(row)) for codec, row in arrays["speedup"].items()]
    own, crossover = f"{array['rows']}x{array['columns']}", arrays["crossover_macs_per_cycle"]
    place, told = (None, "") if crossover is None else (axis.place(crossover), f"{crossover:,.0f} {ARRAY.unit}")
    panel = _panel(document, machine, curves, axis.place(array["rows"] * array["columns"], own), place, "below")
    return replace(panel, sweep=ARRAY, names=axis.names, order=axis.order, own_text=own, crossover_text=told)


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


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(map(float, values))
