"""Findings of ``benchmarks post_training``, kept model by model: a run that is cut short goes on where it ended.

A file a model under ``$ACCEL_CACHE/post_training``; those of other sources, codecs or settings than today's are not
read. When a whole run has ended its files are dropped, so the next one measures anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accel.atomic import write_text
from accel.cache import cache_folder, source_digest
from benchmarks.post_training_findings import Findings, Layer, Outcome, Weighing


def kept_findings(
    name: str, codecs: Sequence[str], weighed: Sequence[str], measure: Callable[[], Findings]
) -> Findings:
    """Of model ``name`` in these codecs: kept, or measured now and kept."""
    setting = hashlib.sha256(json.dumps([list(codecs), list(weighed)]).encode()).hexdigest()[:12]
    path = _folder() / f"{name}-{setting}.json"
    try:
        return _findings(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, KeyError):  # not there, or damaged: it can be measured again
        found = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asdict(found)) + "\n")
    return found


def drop_kept() -> None:
    """Forget what was kept, of any sources."""
    shutil.rmtree(_folder().parent, ignore_errors=True)


def _folder() -> Path:
    return cache_folder("post_training") / source_digest(("accel", "benchmarks", "compiler"))


def _findings(fields: dict[str, Any]) -> Findings:
    uniform, budgets = (tuple(map(_outcome, fields[key])) for key in ("uniform", "budgets"))
    return Findings(fields["model"], uniform, budgets, tuple(Weighing(**each) for each in fields["weighings"]))


def _outcome(fields: dict[str, Any]) -> Outcome:
    return Outcome(**{**fields, "layers": tuple(Layer(**each) for each in fields["layers"])})
