"""Axes of a sweep: one or more keys of the machine and the values they take together."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from accel.errors import ConfigError, listed, nearest
from accel.machine import KEYS, TABLES

Value = str | int | float
MOST_VALUES = 100_000
LARGEST = 2**63 - 1  # whole number that a column of the results holds
_RANGE_KEYS = ("from", "to", "step", "factor", "points", "scale")
_STEPS = ("step", "factor", "points")
_SCALES = ("linear", "log")


@dataclass(frozen=True, slots=True)
class Span:
    """A range without steps, for random and TPE search; both ends belong to it. ``integer``: whole numbers only."""

    low: float
    high: float
    log: bool
    integer: bool


@dataclass(frozen=True, slots=True)
class Axis:
    """``choices[i]`` has a value for each of ``keys``; a ``span`` (of a single key) stands in place of choices."""

    keys: tuple[str, ...]
    choices: tuple[tuple[Value, ...], ...]
    span: Span | None = None

    @property
    def name(self) -> str:
        """As the spec spells it."""
        return ", ".join(self.keys)

    @property
    def is_ordered(self) -> bool:
        """Whether choices grow from first to last, as numbers of a single key do."""
        values = [choice[0] for choice in self.choices]
        return len(self.keys) == 1 and all(isinstance(v, int | float) for v in values) and values == sorted(values)

    def settings(self, choice: Sequence[Value]) -> tuple[tuple[str, Value], ...]:
        """Key and value of a choice."""
        return tuple(zip(self.keys, choice, strict=True))


def flattened(table: Mapping[str, Any], keys: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Names and values of ``table``, where TOML takes the dots of one of ``keys`` for tables in tables."""
    for name, value in table.items():
        if isinstance(value, Mapping) and any(key.startswith(f"{name}.") for key in keys):
            inner = [key.removeprefix(f"{name}.") for key in keys if key.startswith(f"{name}.")]
            yield from ((f"{name}.{key}", each) for key, each in flattened(value, inner))
        else:
            yield name, value


def parse_axes(table: Mapping[str, Any]) -> tuple[Axis, ...]:
    """The axes of a spec's ``[axes]``; raises ``ConfigError`` for unknown keys, empty axes, and keys on two axes."""
    axes = tuple(_axis(name, value) for name, value in flattened(table, KEYS))
    keys = [key for axis in axes for key in axis.keys]
    if doubled := [key for key in keys if keys.count(key) > 1]:
        raise ConfigError(f"axis {doubled[0]}: the key is on two axes; allowed: one")
    return axes


def _axis(name: str, value: object) -> Axis:
    keys = tuple(key.strip() for key in name.split(","))
    for key in keys:
        if key not in KEYS:
            raise ConfigError(f"axis '{name}': unknown key '{key}'; allowed: {listed(KEYS)}{nearest(key, KEYS)}")
    if isinstance(value, list):
        choices: tuple[tuple[Value, ...], ...] = tuple(dict.fromkeys(_choice(keys, each) for each in value))
        return Axis(keys, _not_empty(name, choices))
    if isinstance(value, Mapping) and len(keys) == 1:
        return _range(keys[0], value)
    allowed = "a list of values, or a range like { from = 1, to = 16, points = 5 }"
    raise ConfigError(f"axis '{name}' = {value!r}; allowed: {allowed if len(keys) == 1 else 'a list of values'}")


def _not_empty(name: str, choices: tuple[tuple[Value, ...], ...]) -> tuple[tuple[Value, ...], ...]:
    if not choices:
        raise ConfigError(f"axis '{name}' has no values; allowed: at least one")
    return choices


def _choice(keys: Sequence[str], value: object) -> tuple[Value, ...]:
    """A value for each key: the same for all, or a list with one each."""
    values = value if isinstance(value, list) else [value] * len(keys)
    if len(values) != len(keys):
        raise ConfigError(f"axis '{', '.join(keys)}': {value!r}; allowed: one value, or a list of {len(keys)}")
    return tuple(_value(key, each) for key, each in zip(keys, values, strict=True))


def _kind(key: str) -> type:
    table, name = key.split(".")
    kind: type = get_type_hints(TABLES[table])[name]
    return kind


def _value(key: str, value: object) -> Value:
    kind = _kind(key)
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return float(value)
    if not isinstance(value, kind) or isinstance(value, bool) or (kind is float and not math.isfinite(value)):  # type: ignore[arg-type]
        raise ConfigError(f"axis '{key}': {value!r}; allowed: {_KIND_NAMES[kind]}")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ConfigError(f"axis '{key}': a number of {len(str(abs(value)))} digits; allowed: up to {LARGEST}")
    return value  # type: ignore[return-value]


_KIND_NAMES = {int: "whole numbers", float: "numbers", str: "texts"}


def _range(key: str, table: Mapping[str, Any]) -> Axis:
    kind, where = _kind(key), f"axis '{key}'"
    if kind is str:
        raise ConfigError(f"{where} = {dict(table)!r}; allowed: a list of texts")
    for name in table:
        if name not in _RANGE_KEYS:
            raise ConfigError(
                f"{where}: unknown key '{name}'; allowed: {listed(_RANGE_KEYS)}{nearest(name, _RANGE_KEYS)}"
            )
    low, high = (_end(key, table, name) for name in ("from", "to"))
    if low > high:
        raise ConfigError(f"{where}: from = {low} to = {high}; allowed: an end at or above the start")
    steps = [name for name in _STEPS if name in table]
    scale = table.get("scale", "linear")
    if len(steps) > 1 or scale not in _SCALES or (scale == "log" and "step" in table):
        raise ConfigError(
            f"{where} = {dict(table)!r}; allowed: one of {listed(_STEPS)}; scale linear or log, log without step"
        )
    if (scale == "log" or "factor" in table) and low <= 0:
        raise ConfigError(f"{where}: from = {low}; allowed for a logarithmic range: numbers above 0")
    if not steps:
        return Axis((key,), (), Span(low, high, scale == "log", kind is int))
    numbers = _numbers(where, steps[0], table[steps[0]], low, high, scale == "log")
    choices = dict.fromkeys((round(number) if kind is int else number,) for number in numbers)
    return Axis((key,), tuple(choices))


def _end(key: str, table: Mapping[str, Any], name: str) -> float:
    if name not in table:
        raise ConfigError(f"axis '{key}' = {dict(table)!r}: '{name}' is missing")
    return _value(key, table[name])  # type: ignore[return-value]


def _numbers(where: str, how: str, amount: object, low: float, high: float, log: bool) -> list[float]:
    """Numbers from ``low`` to ``high``; with ``step`` and ``factor`` the last may fall short of it."""
    whole = isinstance(amount, int) and not isinstance(amount, bool)
    least = {"step": 0.0, "factor": 1.0, "points": 1.0}[how]
    if not (whole or (isinstance(amount, float) and how != "points")) or not least < amount < LARGEST:  # type: ignore[operator]
        allowed = {"step": "a number above 0", "factor": "a number above 1", "points": "a whole number from 2 on"}[how]
        raise ConfigError(f"{where}: {how} = {amount!r}; allowed: {allowed}")
    size = float(amount)  # type: ignore[arg-type]
    reach = {
        "step": lambda: (high - low) / size,
        "factor": lambda: math.log(high / low, size),
        "points": lambda: size - 1,
    }
    most = reach[how]() + 1e-9
    if most >= MOST_VALUES:
        raise ConfigError(f"{where}: {most + 1:.10g} values; allowed: at most {MOST_VALUES}")
    count = math.floor(most) + 1
    if how == "step":
        return [low + size * index for index in range(count)]
    if how == "factor":
        return [low * size**index for index in range(count)]
    shares = [index / (count - 1) for index in range(count)]
    inner = [low * (high / low) ** share if log else low + (high - low) * share for share in shares]
    return [low, *inner[1:-1], high]


_BRACES = re.compile(r"\{([^{}]*)\}")


def expand_braces(text: str) -> list[str]:
    """``vq:k={16,256},d={4,8}`` as the four spellings it stands for, as a shell would."""
    parts = _BRACES.split(text)  # plain, braced, plain, braced, ..., plain
    choices = [part.split(",") if index % 2 else [part] for index, part in enumerate(parts)]
    return ["".join(words) for words in itertools.product(*choices)]
