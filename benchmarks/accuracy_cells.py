"""One cell of the accuracy tables: a network compressed, scored, trained, scored again. Finished cells are kept."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from accel.atomic import write_text
from accel.cache import source_digest
from accel.codecs import Codec
from accel.errors import FormatError
from benchmarks.accuracy_methods import METHODS, Method, Trial, scale_mode, total_bits
from benchmarks.accuracy_parts import Part
from compiler.training import LOSSES, GraphModule, StepRow, compress_modules, encoded_layers, frozen_share, train

TUNING_SEED = 100  # not used for scoring
SMOOTHED = 5  # steps the loss is averaged over

# What results come from, as it was when this process began; the graph and the benchmark's own settings are in a cell.
SOURCES = source_digest(("accel/codecs", "compiler/compress", "compiler/training"))

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured: ``codec`` None is the float model. ``trial`` None: the compressed model as it is, untrained."""

    part: str
    method: str
    codec: Codec | None
    seed: int
    trial: Trial | None
    tuning: bool = False

    @property
    def setting(self) -> Row:
        """All that a kept result must agree in to be this cell's."""
        values = asdict(self) | {"codec": self.codec and str(self.codec)}
        return json.loads(json.dumps(values))

    @property
    def file_name(self) -> str:
        """Unique among all cells."""
        codec = str(self.codec or "float32").replace(":", "_")
        if self.trial is None:
            return f"{self.part}.untrained.{codec}.{self.seed}.json"
        rates = f".tuning.{self.trial.rate:g}.{self.trial.rate * self.trial.sign_factor:g}" if self.tuning else ""
        return f"{self.part}.{self.method}.{codec}.{self.seed}{rates}.json"


def kept_row(cell: Cell, part: Part, folder: Path) -> Row | None:
    """The row of a cell that has been measured in just this setting; raises ``FormatError`` for a damaged file."""
    path = folder / "cells" / cell.file_name
    if not path.exists():
        return None
    try:
        row = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FormatError(f"'{path}': {error}; delete it and it will be measured again") from error
    return row if row.get("setting") == _whole_setting(cell, part) else None


def measured(cell: Cell, part: Part, folder: Path) -> Row:
    """The row of a cell, kept or measured now."""
    row = kept_row(cell, part, folder)
    if row is None:
        row = {"setting": _whole_setting(cell, part), "sources": SOURCES, **_measure(cell, part)}
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        write_text(folder / "cells" / cell.file_name, json.dumps(row, indent=1) + "\n")
    return row


def _whole_setting(cell: Cell, part: Part) -> Row:
    training = {**asdict(part.options), "loss": part.loss, "samples": part.samples}
    if part.imitation is not None:
        training["imitated"] = len(part.imitation.tensors)
    return json.loads(json.dumps({**cell.setting, "training": training}))


def _measure(cell: Cell, part: Part) -> Row:
    begin = time.process_time()
    method = METHODS[cell.method] if cell.method else None
    model = _compressed(cell, part, method)
    row: Row = {"bits_per_weight": 32.0 if cell.codec is None else total_bits(part.compressed_weights, cell.codec)}
    if cell.trial is not None:
        row |= _trained(cell, part, model)
    scores = {"validation": part.validate(model)} if cell.tuning else part.score(model)
    return {**row, "scores": scores, "cpu_seconds": round(time.process_time() - begin, 1)}


def _compressed(cell: Cell, part: Part, method: Method | None) -> GraphModule:
    """The float model, or one with the codec for what the part compresses; all other weights stay float32."""
    model, codec = GraphModule(part.graph, part.weights), cell.codec
    if codec is not None:
        options, names = method.options if method else None, frozenset(part.compressed)
        compress_modules(
            model, lambda name, _: codec if name in names else None, options, scale=scale_mode(codec), seed=cell.seed
        )
    return model


@dataclass
class _Losses:
    rows: list[StepRow]

    def add(self, row: StepRow) -> None:
        self.rows.append(row)


def _trained(cell: Cell, part: Part, model: GraphModule) -> Row:
    """Train in place; what there is to say of it."""
    assert cell.trial is not None
    data = part.training(cell.seed, part.samples)
    before = _signs(model)
    log = _Losses([])
    options = replace(cell.trial.applied(part.options), seed=cell.seed)
    steps = train(
        model,
        data,
        LOSSES[part.loss],
        options,
        augment=part.augment,
        imitation=part.imitation,
        open_logs=lambda _: (log,),
    )
    losses = [row.loss for row in log.rows]
    after = _signs(model)
    return {
        "steps": steps,
        "first_loss": float(np.mean(losses[:SMOOTHED])),
        "last_loss": float(np.mean(losses[-SMOOTHED:])),
        "flipped": float(np.mean(before != after)) if len(before) else 0.0,
        "frozen": frozen_share(model),
    }


def _signs(model: GraphModule) -> np.ndarray[Any, Any]:
    """Stored signs of all layers that have some."""
    layers = encoded_layers(model).values()
    parts: Sequence[Any] = [
        layer.side.reshape(-1) for layer in layers if layer.side is not None and layer.codec.has_signs
    ]
    return np.concatenate(parts) if parts else np.empty(0, bool)
