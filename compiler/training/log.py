"""What happened in every step: rows of a CSV file, and of TensorBoard where that is installed."""

from __future__ import annotations

import csv
import io
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from accel.atomic import write_text
from accel.errors import ConfigError


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step: its number (from 1), loss, share of the full learning rate, norm of all gradients, share of learned
    signs that are frozen."""

    step: int
    loss: float
    rate_share: float
    gradient_norm: float
    frozen_share: float


COLUMNS = tuple(field.name for field in fields(StepRow))


class CsvLog:
    """Appends rows to ``path``, each on disk when ``add`` returns. A run that goes on after ``step`` keeps the rows up
    to it and replaces the rest; one that starts (step 0) replaces the file."""

    def __init__(self, path: Path, step: int = 0) -> None:
        kept = _rows(path, step) if step else []
        write_text(path, _text([list(COLUMNS), *kept]))
        self.path = path

    def add(self, row: StepRow) -> None:
        """Append one row."""
        with self.path.open("a", newline="") as file:
            file.write(_text([list(map(repr, astuple(row)))]))


def _rows(path: Path, step: int) -> list[list[str]]:
    """Whole rows of steps up to ``step``; the last line of a run that was killed may be cut off."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) == len(COLUMNS) and row[0].isdigit()]
    return [row for row in rows if int(row[0]) <= step]


def _text(rows: list[list[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


class TensorBoardLog:
    """Writes the same rows for TensorBoard into ``folder``. Raises ``ConfigError`` if that is not installed."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError("a TensorBoard log needs tensorboard: pip install tensorboard") from error
        self.writer: Any = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def add(self, row: StepRow) -> None:
        """Append one row."""
        for name in COLUMNS[1:]:
            self.writer.add_scalar(name, getattr(row, name), row.step)
        self.writer.flush()
