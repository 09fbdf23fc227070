"""Giving each content of a buffer that is overwritten in place a buffer of its own, so that one of them can be spilled
while the others stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compiler.steps import Buffer, GatherStep, GemmStep, ProductStep, Step, VectorStep, Visit
from compiler.views import View


def split_versions(visits: Sequence[Visit], buffer: Buffer) -> tuple[list[Visit], list[Buffer]] | None:
    """The visits with ``buffer`` renamed up to each overwriting visit, and its versions, the last under its own name;
    ``None`` if it has just one."""
    changes = [index for index, visit in enumerate(visits) if _overwrites(visit, buffer)]
    if not changes:
        return None
    last = len(changes)
    renamed: list[Visit] = []
    version = 0
    for index, visit in enumerate(visits):
        before = version
        version += index in changes
        names = _version(buffer.name, before, last), _version(buffer.name, version, last)
        renamed.append(Visit(tuple(_rename(part, buffer.name, *names) for part in visit.parts)))
    earlier = [Buffer(_version(buffer.name, number, last), buffer.size_bytes) for number in range(last)]
    return renamed, [*earlier, buffer]


def _version(name: str, number: int, last: int) -> str:
    """The last version keeps the buffer's name, and so its place among the outputs."""
    return name if number == last else f"{name}#{number}"


def _overwrites(visit: Visit, buffer: Buffer) -> bool:
    """Whether a visit reads all of the buffer and writes its result over it."""
    in_place = [
        p for p in visit.parts if isinstance(p, VectorStep) and p.out.buffer == buffer.name and p.out in p.reads
    ]
    return len(in_place) == len(visit.parts) and sum(part.out.elements for part in in_place) == buffer.size_bytes


def _rename(step: Step, name: str, source: str, target: str) -> Step:
    """Reads of ``name`` become ``source``, writes ``target``."""

    def renamed(view: View, to: str) -> View:
        return replace(view, buffer=to) if view.buffer == name else view

    if not any(view.buffer == name for view in (*step.reads, step.writes)):
        return step
    if isinstance(step, GatherStep):
        return replace(step, ids=renamed(step.ids, source), out=renamed(step.out, target))
    if isinstance(step, GemmStep):
        return replace(step, a=renamed(step.a, source), out=renamed(step.out, target))
    if isinstance(step, ProductStep):
        a, b = renamed(step.a, source), renamed(step.b, source)
        return replace(step, a=a, b=b, out=renamed(step.out, target))
    second = None if step.b is None else renamed(step.b, source)
    return replace(step, a=renamed(step.a, source), b=second, out=renamed(step.out, target))
