"""Reads a trace file as viewers do, and refuses what they refuse: fields, nesting of slices, flows, counters.

Rules from "Trace Event Format" (Catapult) and Perfetto's JSON importer: times become whole nanoseconds, and a complete
event that partially overlaps another one of its track is dropped there.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict

FIELDS = {
    "X": {"pid": int, "tid": int, "ts": (int, float), "dur": (int, float), "name": str, "args": dict},
    "C": {"pid": int, "ts": (int, float), "name": str, "args": dict},
    "M": {"pid": int, "tid": int, "name": str, "args": dict},
    "s": {"pid": int, "tid": int, "ts": (int, float), "name": str, "cat": str, "id": int},
    "f": {"pid": int, "tid": int, "ts": (int, float), "name": str, "cat": str, "id": int, "bp": str},
}
METADATA = {
    "process_name": "name",
    "process_sort_index": "sort_index",
    "thread_name": "name",
    "thread_sort_index": "sort_index",
}


def load(path):
    data = path.read_bytes()
    document = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    check(document)
    return document


def nanoseconds(microseconds):
    return round(microseconds * 1000)


def track_names(document):
    named = [e for e in document["traceEvents"] if e["ph"] == "M" and e["name"] == "thread_name"]
    return {(e["pid"], e["tid"]): e["args"]["name"] for e in named}


def slices(document):
    """(track name, begin, end in millicycles, event) of every slice."""
    names = track_names(document)
    for event in document["traceEvents"]:
        if event["ph"] == "X":
            begin = nanoseconds(event["ts"])
            yield names[event["pid"], event["tid"]], begin, begin + nanoseconds(event["dur"]), event


def check(document):
    assert list(document) == ["displayTimeUnit", "traceEvents", "otherData"]
    events = document["traceEvents"]
    for event in events:
        fields = FIELDS[event["ph"]]
        assert set(event) == {"ph", *fields}, event
        assert all(isinstance(event[key], kind) for key, kind in fields.items()), event
        assert event.get("ts", 0) >= 0 and event.get("dur", 0) >= 0, event
        for key in ("ts", "dur"):
            assert abs(event.get(key, 0) * 1000 - nanoseconds(event.get(key, 0))) < 1e-6 * max(1, event.get(key, 0))
        if event["ph"] == "C":
            assert event["args"] and all(isinstance(v, int) and v >= 0 for v in event["args"].values()), event
        if event["ph"] == "M":
            assert list(event["args"]) == [METADATA[event["name"]]]
    _check_nesting(document)
    _check_flows(events)
    assert not [e for e in events if e["pid"] == e.get("tid")], "Perfetto takes it for a main thread"
    processes = {e["pid"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
    assert {e["pid"] for e in events} <= processes


def _check_nesting(document):
    tracks = defaultdict(list)
    for name, begin, end, _ in slices(document):
        tracks[name].append((begin, -end))
    assert len(track_names(document)) == len(set(track_names(document).values()))
    for name, spans in tracks.items():
        open_ends = []
        for begin, negative_end in sorted(spans):
            while open_ends and open_ends[-1] <= begin:
                open_ends.pop()
            assert not open_ends or -negative_end <= open_ends[-1], (name, begin, -negative_end, open_ends[-1])
            open_ends.append(-negative_end)


def _check_flows(events):
    spans = defaultdict(list)
    for e in events:
        if e["ph"] == "X":
            spans[e["pid"], e["tid"]].append((nanoseconds(e["ts"]), nanoseconds(e["ts"]) + nanoseconds(e["dur"])))
    ends = {phase: {e["id"]: e for e in events if e["ph"] == phase} for phase in "sf"}
    assert ends["s"].keys() == ends["f"].keys()
    assert Counter(e["ph"] for e in events)["s"] == len(ends["s"])
    for number, source in ends["s"].items():
        target = ends["f"][number]
        assert target["bp"] == "e" and source["ts"] <= target["ts"]
        for end in (source, target):
            at = nanoseconds(end["ts"])
            assert any(begin <= at <= stop for begin, stop in spans[end["pid"], end["tid"]])
