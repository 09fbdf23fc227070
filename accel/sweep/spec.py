"""The spec of a sweep: a TOML file, read into one frozen object. Unknown keys are refused with the nearest known."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from accel.codecs import VectorAxis, parse_codec
from accel.errors import AccelError, ConfigError, listed, nearest
from accel.schemas import kind_text, schema_of
from accel.sweep.axes import Axis, expand_braces, flattened, parse_axes
from accel.sweep.columns import OBJECTIVE_COLUMNS

METHODS = ("grid", "random", "tpe")
DIRECTIONS = ("minimize", "maximize")
MOST_POINTS = 100_000
AT_A_TIME = 16  # points a TPE search asks for before it learns from their results
OBJECTIVES: Mapping[str, str] = MappingProxyType(dict.fromkeys(("seconds", "energy_total", "sram_bytes"), "minimize"))
ScaleMode = Literal["channel", "tensor"]


@dataclass(frozen=True, slots=True)
class Search:
    """How points are chosen. ``points``: how many (of a grid, all); ``at_a_time`` matters to TPE alone."""

    method: str = "grid"
    points: int = 0
    at_a_time: int = AT_A_TIME
    seed: int = 0


@dataclass(frozen=True, slots=True)
class SweepSpec:
    """A sweep. Paths are absolute or as the spec's folder makes them; ``objectives`` maps columns to directions.

    ``accuracy`` maps (model, codec) to a figure; the model is empty where the table ``accuracy_file`` names none.
    """

    models: tuple[str, ...]
    machines: tuple[str, ...]
    codecs: tuple[str, ...]
    axes: tuple[Axis, ...] = ()
    search: Search = Search()
    objectives: Mapping[str, str] = field(default_factory=lambda: OBJECTIVES)
    batch: int = 1
    seed: int = 0
    keep: tuple[str, ...] = ()
    scale: ScaleMode = "channel"
    vector_axis: VectorAxis = "out"
    energy: str | None = None
    accuracy: Mapping[tuple[str, str], float] | None = None
    accuracy_file: str | None = None

    def __post_init__(self) -> None:
        for name in ("models", "machines", "codecs"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty: the sweep has no points; allowed: at least one")
        if self.search.method == "grid":
            self._check_grid()
        elif not self.search.points:
            raise ConfigError(f"[search] method = {self.search.method}: points is missing; allowed: 1 to {MOST_POINTS}")
        if self.search.method == "tpe" and len(self.models) > 1:
            raise ConfigError(f"[search] method = tpe, {len(self.models)} models: the smallest would win; allowed: one")
        if self.search.method == "tpe" and "speedup" in self.objectives:
            raise ConfigError(
                "[search] method = tpe, objective 'speedup': a point alone has none, so nothing could be learned; "
                "allowed: seconds, which ranks points on one machine the same"
            )
        if "accuracy" in self.objectives and self.accuracy is None:
            raise ConfigError("objective 'accuracy': the spec names no table of accuracies (accuracy = FILE.csv)")

    def _check_grid(self) -> None:
        if spans := [axis.name for axis in self.axes if axis.span]:
            raise ConfigError(f"axis '{spans[0]}': a grid needs step, factor or points beside from and to")
        if self.search.points:
            raise ConfigError(f"[search] points = {self.search.points}; allowed for method = grid: none, it has all")
        if self.grid_points > MOST_POINTS:
            raise ConfigError(f"a grid of {self.grid_points:,} points; allowed: at most {MOST_POINTS:,}")

    @property
    def grid_points(self) -> int:
        """Points of the grid."""
        count = len(self.models) * len(self.machines) * len(self.codecs)
        for axis in self.axes:
            count *= len(axis.choices)
        return count

    @property
    def files(self) -> tuple[str, ...]:
        """Where the sweep reads from, as far as that are files."""
        models = (model.rpartition(":")[2] for model in self.models)
        return (*models, *self.machines, *filter(None, (self.energy, self.accuracy_file)))

    def accuracy_of(self, model: str, codec: str) -> float | None:
        """From the table: of this model, else of the codec alone."""
        table = self.accuracy or {}
        return table.get((model, codec), table.get(("", codec)))


def load_spec(path: str) -> SweepSpec:
    """Read a spec; raises ``ConfigError``, one line that names the file."""
    try:
        return spec_from_document(_read(path), Path(path).parent)
    except AccelError as error:
        raise ConfigError(f"sweep '{path}': {error}") from error


def _read(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise ConfigError("no such file") from error
    except OSError as error:
        raise ConfigError(error.strerror or "cannot be read") from error
    except ValueError as error:  # not text, or not TOML
        found = schema_of(path)
        raise ConfigError(f"{kind_text(found)}; expected a spec in TOML" if found else str(error)) from error


def spec_from_document(document: Mapping[str, Any], folder: Path) -> SweepSpec:
    """The spec of parsed TOML; raises ``ConfigError`` or ``CodecError``. Relative paths start in ``folder``."""
    _check_known(document, (*_TEXT_LISTS, *_PLAIN, "accuracy", "energy", "axes", "search", "objectives"), "key")
    for name in ("models", "codecs"):
        if name not in document:
            raise ConfigError(f"key '{name}' is missing")
    lists: dict[str, Any] = {name: _texts(name, document.get(name, default)) for name, default in _TEXT_LISTS.items()}
    lists["models"] = tuple(_model_path(model, folder) for model in lists["models"])
    lists["machines"] = tuple(_path(m, folder) if m.endswith(".toml") else m for m in lists["machines"])
    lists["codecs"] = tuple(dict.fromkeys(str(parse_codec(c)) for text in lists["codecs"] for c in expand_braces(text)))
    plain = {name: check(name, document[name]) for name, check in _PLAIN.items() if name in document}
    table = _path(_text("accuracy", document["accuracy"]), folder) if "accuracy" in document else None
    accuracy = _accuracy(table, folder) if table else None
    usual = {**OBJECTIVES, **({"accuracy": "maximize"} if accuracy is not None else {})}
    return SweepSpec(
        **lists,
        **plain,
        axes=parse_axes(_table("axes", document)),
        search=_search(_table("search", document)),
        objectives=_objectives(_table("objectives", document)) if "objectives" in document else usual,
        energy=_path(_text("energy", document["energy"]), folder) if "energy" in document else None,
        accuracy=accuracy,
        accuracy_file=table,
    )


def _check_known(given: Mapping[str, Any], allowed: Sequence[str], what: str) -> None:
    for name in given:
        if name not in allowed:
            raise ConfigError(f"unknown {what} '{name}'; allowed: {listed(allowed)}{nearest(name, allowed)}")


def _table(name: str, document: Mapping[str, Any]) -> Mapping[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, Mapping):
        raise ConfigError(f"{name} = {table!r}; allowed: a table")
    return table


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{name} = {value!r}; allowed: a text")
    return value


def _texts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ConfigError(f"{name} = {value!r}; allowed: a list of texts")
    return tuple(dict.fromkeys(value))


def _whole(least: int, most: int) -> Callable[[str, object], int]:
    def check(name: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ConfigError(f"{name} = {value!r}; allowed: {least} to {most}")
        return value

    return check


def _one_of(words: Sequence[str]) -> Callable[[str, object], str]:
    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise ConfigError(f"{name} = {value!r}; allowed: {listed(words)}{nearest(str(value), words)}")
        return value

    return check


_TEXT_LISTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"models": (), "machines": ("edge64",), "codecs": (), "keep": ()}
)
_SEED = _whole(0, 2**32 - 1)
_PLAIN: Mapping[str, Callable[[str, object], Any]] = MappingProxyType(
    {
        "batch": _whole(1, 1024),
        "seed": _SEED,
        "scale": _one_of(get_args(ScaleMode)),
        "vector_axis": _one_of(get_args(VectorAxis)),
    }
)
_SEARCH: Mapping[str, Callable[[str, object], Any]] = MappingProxyType(
    {
        "method": _one_of(METHODS),
        "points": _whole(1, MOST_POINTS),
        "at_a_time": _whole(1, 1024),
        "seed": _SEED,
    }
)


def _search(table: Mapping[str, Any]) -> Search:
    _check_known(table, tuple(_SEARCH), "key of [search]")
    return Search(**{name: _SEARCH[name](f"[search] {name}", value) for name, value in table.items()})


def _objectives(table: Mapping[str, Any]) -> dict[str, str]:
    flat = dict(flattened(table, OBJECTIVE_COLUMNS))
    _check_known(flat, OBJECTIVE_COLUMNS, "objective")
    if not flat:
        raise ConfigError("[objectives] is empty; allowed: at least one")
    check = _one_of(DIRECTIONS)
    return {name: check(f"[objectives] {name}", direction) for name, direction in flat.items()}


def _path(text: str, folder: Path) -> str:
    return str(folder / text)


def _model_path(model: str, folder: Path) -> str:
    """A file beside the spec (also behind ``ARCH:``) by its path; anything else as it is."""
    name, colon, file = model.rpartition(":")
    return f"{name}{colon}{folder / file}" if (folder / file).is_file() else model


def _accuracy(path: str, folder: Path) -> dict[tuple[str, str], float]:
    """The table of accuracies: CSV with columns ``codec``, ``accuracy`` and perhaps ``model``, spelled as in spec."""
    try:
        with Path(path).open(newline="") as file:
            return dict(_accuracy_rows(csv.DictReader(file), folder))
    except AccelError as error:
        raise ConfigError(f"accuracy '{path}': {error}") from error
    except OSError as error:
        raise ConfigError(f"accuracy '{path}': {error.strerror or error}") from error
    except (ValueError, csv.Error) as error:
        raise ConfigError(f"accuracy '{path}': not a CSV text file: {error}") from error


def _accuracy_rows(reader: csv.DictReader[str], folder: Path) -> Iterator[tuple[tuple[str, str], float]]:
    allowed = ("codec", "accuracy", "model")
    names = tuple(reader.fieldnames or ())
    if not {"codec", "accuracy"} <= set(names) <= set(allowed):
        raise ConfigError(f"columns {listed(names) or 'none'}; allowed: codec, accuracy and, if you like, model")
    seen: set[tuple[str, str]] = set()
    for row in reader:
        model = row.get("model")
        key = (_model_path(model, folder) if model else "", str(parse_codec(row["codec"] or "")))
        if key in seen:
            raise ConfigError(f"line {reader.line_num}: {key[1]} for the second time; allowed: once a model")
        seen.add(key)
        yield key, _figure(row["accuracy"], reader.line_num)


def _figure(text: str | None, line: int) -> float:
    try:
        figure = float(text or "")
    except ValueError:
        figure = float("nan")
    if not abs(figure) < float("inf"):
        raise ConfigError(f"line {line}: accuracy '{text}'; allowed: a number")
    return figure
