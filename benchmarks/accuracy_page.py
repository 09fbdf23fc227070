"""Tables of trained compression: a row a method and level in Markdown, and a row a cell for a CSV file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel.errors import ConfigError, FormatError
from accel.reporting import STYLES, Column, Table
from benchmarks.accuracy_cells import SOURCES
from benchmarks.accuracy_methods import LEVELS, METHODS, TUNED_ON, Trial
from benchmarks.accuracy_parts import PROFILES
from benchmarks.quality_models import Measure

Row = dict[str, Any]
FLOAT, NO_LEVEL = "float", 0.0
# What papers lead one to expect: the first of each pair is better.
CONTRASTS = (
    ("ssvq-free", "ssvq-fixed"),
    ("ssvq", "ssvq-free"),
    ("ssvq-fixed", "vq"),
    ("ssvq-free", "vq"),
    ("ssvq", "vq"),
    ("lr2vq", "vq"),
    ("mvq", "vq"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One method at one level: scores of every seed, ``trained`` and, from the same start, ``untrained``."""

    part: str
    method: str
    level: float
    codec: str
    bits: float
    untrained: tuple[Row, ...]
    trained: tuple[Row, ...]

    def values(self, key: str, rows: Sequence[Row] | None = None) -> list[float]:
        """Score ``key`` of every seed; of ``trained`` unless told otherwise."""
        return [row["scores"][key] for row in (self.trained if rows is None else rows)]

    def of_seeds(self, key: str) -> dict[int, float]:
        """Score ``key`` of trained models by seed."""
        return {row["setting"]["seed"]: row["scores"][key] for row in self.trained}


def read_rows(folder: Path) -> list[Row]:
    """All kept cells; raises ``FormatError`` for a damaged one, ``ConfigError`` for a part trained in two ways."""
    rows = [_read(path) for path in sorted((folder / "cells").glob("*.json"))]
    for part in {row["setting"]["part"] for row in rows}:
        kinds = {json.dumps(row["setting"]["training"]) for row in rows if row["setting"]["part"] == part}
        if len(kinds) > 1:
            raise ConfigError(f"'{folder}': cells of '{part}' were trained in {len(kinds)} ways; use another folder")
    return rows


def _read(path: Path) -> Row:
    try:
        row: Row = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FormatError(f"'{path}': {error}; delete it and it will be measured again") from error
    return row


def of_other_sources(rows: Sequence[Row]) -> Iterator[str]:
    """A line a part with cells that were not measured with the sources of today."""
    for part in PROFILES:
        cells = [row for row in rows if row["setting"]["part"] == part]
        others = [row for row in cells if row.get("sources") != SOURCES]
        if others:
            yield f"{part}: {len(others)} of {len(cells)} cells are of other sources than today's (CSV: sources)"


def entries(rows: Sequence[Row], folder: Path) -> list[Entry]:
    """Finished cells by part, level and method, in the order of the tables."""
    scored = [row for row in rows if not row["setting"]["tuning"]]
    found = []
    for part in PROFILES:
        of_part = [row for row in scored if row["setting"]["part"] == part]
        for level in (NO_LEVEL, *LEVELS):
            for method in METHODS.values():
                codec = _codec(folder, part, method.name, level)
                if codec is not None:
                    found += _entry(of_part, part, method.name, level, codec)
    return found


def _codec(folder: Path, part: str, name: str, level: float) -> str | None:
    """Spelling of the codec of a method at a level ("" for none), or None if it has not been chosen or is not one."""
    method = METHODS[name]
    if method.family is None or method.fixed_codec is not None:
        return None if level else str(method.fixed_codec or "")
    path = folder / "choices" / f"{part}.{method.family.family}.{level:g}.json"
    return str(_read(path)["codec"]) if level and path.exists() else None


def _entry(rows: Sequence[Row], part: str, method: str, level: float, codec: str) -> Iterator[Entry]:
    same = [row for row in rows if (row["setting"]["codec"] or "") == codec]
    trained = tuple(row for row in same if row["setting"]["method"] == method)
    untrained = tuple(row for row in same if row["setting"]["trial"] is None)
    if trained:
        yield Entry(part, method, level, codec, trained[0]["bits_per_weight"], untrained, trained)


# --- text ------------------------------------------------------------------------------------------------------------


def shown(measure: Measure, value: float, signed: bool = False) -> str:
    """A value in the measure's style; percentages without their sign."""
    style = STYLES[measure.style]
    spec = style.spec if measure.style == "percent" else ".3f"
    return f"{value * style.factor:{'+' if signed else ''}{spec}}"


def spread(measure: Measure, values: Sequence[float], signed: bool = False) -> str:
    """Mean ± standard deviation over seeds (n - 1); ``-`` for none, no deviation for one."""
    if not values:
        return "-"
    mean = shown(measure, statistics.fmean(values), signed)
    return f"{mean} ± {shown(measure, statistics.stdev(values))}" if len(values) > 1 else mean


def _heading(measure: Measure) -> str:
    return f"{measure.title} [%]" if measure.style == "percent" else measure.title


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _summary(found: Sequence[Entry], measures: Sequence[Measure]) -> str:
    """The table of a part."""
    first = measures[0]
    header = ["method", "codec", "bits/weight", f"{_heading(first)}, untrained", *map(_heading, measures), "seeds"]
    rows = []
    for each in found:
        title = METHODS[each.method].title
        scores = [spread(measure, each.values(measure.key)) for measure in measures]
        before = spread(first, each.values(first.key, each.untrained))
        codec = f"`{each.codec}`" if each.codec else "-"
        rows.append([title, codec, f"{each.bits:.3f}", before, *scores, str(len(each.trained))])
    return _markdown(header, rows)


def _every_seed(found: Sequence[Entry], measures: Sequence[Measure]) -> str:
    header = ["method", "bits/weight", *map(_heading, measures), "signs flipped", "signs frozen", "loss, first to last"]
    return _markdown(header, (_seed_row(each, measures) for each in found))


def _seed_row(each: Entry, measures: Sequence[Measure]) -> list[str]:
    rows = sorted(each.trained, key=lambda row: row["setting"]["seed"])

    def listed(texts: Iterable[str]) -> str:
        return " / ".join(texts)

    scores = [listed(shown(measure, row["scores"][measure.key]) for row in rows) for measure in measures]
    signs = each.codec.startswith("ssvq")
    shares = [listed(f"{row[key]:.1%}" for row in rows) if signs else "-" for key in ("flipped", "frozen")]
    losses = listed(f"{row['first_loss']:.3f} to {row['last_loss']:.3f}" for row in rows)
    return [METHODS[each.method].title, f"{each.bits:.3f}", *scores, *shares, losses]


def contrasts(found: Sequence[Entry], measures: Sequence[Measure]) -> str:
    """Differences between methods, seed by seed."""
    rows = []
    for level in LEVELS:
        at_level = {each.method: each for each in found if each.level == level}
        for one, other in CONTRASTS:
            if one in at_level and other in at_level:
                title = f"{METHODS[one].title} − {METHODS[other].title}"
                rows.append([f"{level:g}", title, *(_difference(at_level[one], at_level[other], m) for m in measures)])
    return _markdown(["level", "difference", *map(_heading, measures)], rows)


def _difference(one: Entry, other: Entry, measure: Measure) -> str:
    first, second = one.of_seeds(measure.key), other.of_seeds(measure.key)
    pairs = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    each = ", ".join(shown(measure, value, signed=True) for value in pairs)
    return f"{spread(measure, pairs, signed=True)} ({each})" if pairs else "-"


def _trials(rows: Sequence[Row], part: str) -> str:
    """Validation score of every trial."""
    tuning = [row for row in rows if row["setting"]["tuning"] and row["setting"]["part"] == part]
    lines = []
    for name, method in METHODS.items():
        tried = [row for row in tuning if row["setting"]["method"] == name]
        best = max((row["scores"]["validation"] for row in tried), default=None)
        texts = (_trial_text(row, row["scores"]["validation"] == best) for row in tried)
        lines += [[method.title, "; ".join(texts)]] if tried else []
    return _markdown(["method", "rates (plain, codebooks and scales, signs): validation score, best in bold"], lines)


def _trial_text(row: Row, best: bool) -> str:
    flipped = f" ({row['flipped']:.1%} of signs flipped)" if row["flipped"] else ""
    text = f"{Trial(**row['setting']['trial'])}: {row['scores']['validation']:.4f}{flipped}"
    return f"**{text}**" if best else text


def sections(rows: Sequence[Row], folder: Path) -> dict[str, str]:
    """All tables: by part, in the order of ``PROFILES``, a section that starts with its heading."""
    found = entries(rows, folder)
    parts = {part: [each for each in found if each.part == part] for part in PROFILES}
    return {part: _section(rows, part, of_part) for part, of_part in parts.items() if of_part}


def _section(rows: Sequence[Row], part: str, found: Sequence[Entry]) -> str:
    profile = PROFILES[part]
    trials = [] if part in TUNED_ON else ["Learning rates tried:\n", _trials(rows, part)]
    return "\n".join(
        [
            f"## {profile.title}\n",
            f"{profile.facts}\n",
            f"![bits against quality](accuracy_{part}.svg)\n",
            "Mean ± standard deviation over seeds.\n",
            _summary(found, profile.measures),
            "Differences at equal seeds (mean ± standard deviation; every seed):\n",
            contrasts(found, profile.measures),
            "Every seed:\n",
            _every_seed(found, profile.measures),
            *trials,
        ]
    )


def cell_table(found: Sequence[Entry]) -> Table:
    """A row a cell, everything in it."""
    scores = list(dict.fromkeys(measure.key for profile in PROFILES.values() for measure in profile.measures))
    texts = ("part", "method", "codec", "stage")
    numbers = ("level", "bits_per_weight", "seed", "steps", "rate", "codebook_factor", "sign_factor", *scores)
    more = ("flipped", "frozen", "first_loss", "last_loss", "cpu_seconds", "sources")
    columns = tuple(Column(key, key) for key in (*texts, *numbers, *more))
    return Table("cells", columns, tuple(row for each in found for row in _cell_rows(each)))


def _cell_rows(each: Entry) -> Iterator[Row]:
    facts = {"part": each.part, "method": each.method, "codec": each.codec or "float32", "level": each.level or None}
    keys = ("bits_per_weight", "steps", "flipped", "frozen", "first_loss", "last_loss", "cpu_seconds", "sources")
    for stage, rows in (("untrained", each.untrained), ("trained", each.trained)):
        for row in rows:
            measured = {key: row.get(key) for key in keys}
            trial = row["setting"]["trial"] or dict.fromkeys(("rate", "codebook_factor", "sign_factor"))
            yield {**facts, "stage": stage, "seed": row["setting"]["seed"], **measured, **trial, **row["scores"]}
