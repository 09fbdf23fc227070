"""Findings of ``benchmarks post_training``, kept model by model: a run that is cut short goes on where it ended.

A file a model under ``$ACCEL_CACHE/post_training``; those of other sources, codecs or settings than today's are not
read. When a whole run has ended its own files are dropped, so the next one measures anew; those of a run of other
models or codecs that was cut short stay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accel.atomic import write_text
from accel.cache import cache_folder, source_digest
from benchmarks.post_training_findings import Findings, Layer, Outcome, Weighing

# As they were when this process began: it computes by these, whatever is edited meanwhile.
SOURCES = source_digest(("accel", "benchmarks", "compiler"))


def kept_findings(
    name: str, codecs: Sequence[str], weighed: Sequence[str], measure: Callable[[], Findings]
) -> Findings:
    """Of model ``name`` in these codecs: kept, or measured now and kept."""
    path = _path(name, codecs, weighed)
    try:
        return _findings(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, KeyError):  # not there, or damaged: it can be measured again
        found = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asdict(found)) + "\n")
    return found


def drop_kept(names: Sequence[str], codecs: Sequence[str], weighed: Sequence[str]) -> None:
    """Forget what was kept of these models in these codecs."""
    for name in names:
        _path(name, codecs, weighed).unlink(missing_ok=True)


def _path(name: str, codecs: Sequence[str], weighed: Sequence[str]) -> Path:
    setting = hashlib.sha256(json.dumps([list(codecs), list(weighed)]).encode()).hexdigest()[:12]
    return cache_folder("post_training") / SOURCES / f"{name}-{setting}.json"


def _findings(fields: dict[str, Any]) -> Findings:
    uniform, budgets = (tuple(map(_outcome, fields[key])) for key in ("uniform", "budgets"))
    return Findings(fields["model"], uniform, budgets, tuple(Weighing(**each) for each in fields["weighings"]))


def _outcome(fields: dict[str, Any]) -> Outcome:
    return Outcome(**{**fields, "layers": tuple(Layer(**each) for each in fields["layers"])})
