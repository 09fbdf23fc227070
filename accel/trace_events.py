"""Chrome's trace-event format, written event by event: what Perfetto and ``chrome://tracing`` open.

One event a line, so that neither writer nor reader needs the whole file. Times are given in thousandths of a cycle and
written as the format's microseconds such that one microsecond is one cycle: viewers keep whole nanoseconds, and slices
that abut must not overlap after rounding. Source of the format: "Trace Event Format" of the Catapult project.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from accel.atomic import open_atomic
from accel.schemas import TRACE_HEAD

TIME_UNIT = "1 us in the viewer is 1 cycle"
MILLICYCLES = 1000
_COMPRESSION = 4  # of gzip: most of what 9 saves, at a third of the time
_SEPARATOR = b",\n"


class TraceFile:
    """An open trace. Tracks are rows of a viewer: ``(process, thread)``, both numbers from 1."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._empty = file, True
        file.write(TRACE_HEAD + b"\n")

    def write(self, lines: Iterable[str]) -> None:
        """Append events, made by the functions below."""
        text = ",\n".join(lines).encode()
        if text:
            self._file.write(text if self._empty else _SEPARATOR + text)
            self._empty = False

    def finish(self, other_data: Mapping[str, Any]) -> None:
        """Close the document; ``other_data`` describes the trace."""
        self._file.write(b'\n],"otherData":' + json.dumps(other_data).encode() + b"}\n")


@contextmanager
def open_trace(path: Path) -> Iterator[TraceFile]:
    """A trace that becomes ``path`` when the block ends, and vanishes if it raises; ``*.gz`` is compressed."""
    with open_atomic(path) as file:
        if path.suffix != ".gz":
            yield TraceFile(file)
            return
        with gzip.GzipFile("", "wb", _COMPRESSION, file, mtime=0) as packed:
            yield TraceFile(cast(BinaryIO, packed))


def names(process: int, name: str, tracks: Mapping[int, str]) -> Iterator[str]:
    """Events that name a process and its tracks, which viewers show in the order of their numbers."""
    yield from _named(process, 0, "process", name)
    for thread, text in tracks.items():
        yield from _named(process, thread, "thread", text)


def _named(process: int, thread: int, what: str, name: str) -> Iterator[str]:
    for key, args in ((f"{what}_name", {"name": name}), (f"{what}_sort_index", {"sort_index": thread or process})):
        yield json.dumps({"ph": "M", "pid": process, "tid": thread, "name": key, "args": args})


def slice_event(track: tuple[int, int], begin: int, end: int, name: str, args: str) -> str:
    """Something that lasts; ``name`` is JSON text with its quotes, ``args`` the inside of a JSON object."""
    process, thread = track
    return (
        f'{{"ph":"X","pid":{process},"tid":{thread},"ts":{_time(begin)},"dur":{_time(end - begin)},'
        f'"name":{name},"args":{{{args}}}}}'
    )


def counter_event(process: int, at: int, name: str, values: Mapping[str, int]) -> str:
    """The values a counter has from now on, one a series."""
    series = ",".join(f'"{key}":{value}' for key, value in values.items())
    return f'{{"ph":"C","pid":{process},"ts":{_time(at)},"name":{json.dumps(name)},"args":{{{series}}}}}'


def flow_events(name: str, number: int, source: tuple[int, int, int], target: tuple[int, int, int]) -> tuple[str, str]:
    """An arrow between two slices: process, thread and a time within each."""
    parts = (("s", source, ""), ("f", target, '"bp":"e",'))
    start, finish = (
        f'{{"ph":"{phase}",{extra}"cat":"{name}","name":"{name}","id":{number},'
        f'"pid":{at[0]},"tid":{at[1]},"ts":{_time(at[2])}}}'
        for phase, at, extra in parts
    )
    return start, finish


def _time(millicycles: int) -> str:
    whole, rest = divmod(millicycles, MILLICYCLES)
    return f"{whole}.{rest:03d}" if rest else str(whole)
