"""Points of a sweep: what is simulated together, and the digest that says whether it has been already."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from accel.machine import Machine, load_machine, machine_from_document, machine_to_document
from accel.sweep.axes import Value
from accel.sweep.spec import SweepSpec


@dataclass(frozen=True, slots=True)
class Point:
    """A model in a codec on a machine: one of the spec's, with the axes' ``settings`` (key and value) in place."""

    model: str
    codec: str
    machine: str
    settings: tuple[tuple[str, Value], ...] = ()


def grid(spec: SweepSpec) -> Iterator[Point]:
    """All points of a grid; the last axis varies fastest."""
    choices = [[axis.settings(choice) for choice in axis.choices] for axis in spec.axes]
    for model, machine, codec in itertools.product(spec.models, spec.machines, spec.codecs):
        for settings in itertools.product(*choices):
            yield Point(model, codec, machine, tuple(itertools.chain.from_iterable(settings)))


def base_machines(spec: SweepSpec) -> dict[str, dict[str, Any]]:
    """The documents of the spec's machines; raises ``ConfigError`` for one that is impossible as it stands."""
    return {name: machine_to_document(load_machine(name)) for name in spec.machines}


def machine_document(point: Point, bases: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The machine of a point as a document; nobody has looked yet whether it is possible."""
    document = deepcopy(dict(bases[point.machine]))
    for key, value in point.settings:
        table, name = key.split(".")
        document.setdefault(table, {})[name] = value
    return document


def machine_of(document: Mapping[str, Any]) -> Machine:
    """The machine of a document; raises ``ConfigError``."""
    return machine_from_document(document, str(document.get("name")))


def machine_digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of a machine's keys and values. Its description changes nothing; its name is in messages."""
    return content_digest({key: value for key, value in document.items() if key != "description"})


def content_digest(content: Any) -> str:
    """SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
