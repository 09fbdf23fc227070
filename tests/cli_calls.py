"""What tests of the command line share: calls that print JSON, or that are refused, and files of runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accel.cli import main
from accel.run import Run, write_run

Captured = pytest.CaptureFixture[str]


def printed_json(capsys: Captured, *argv: str) -> object:
    assert main(list(argv)) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: Captured, *argv: str) -> str:
    """The one line a mistake is answered with; argparse leaves by ``SystemExit``."""
    try:
        code = main(list(argv))
    except SystemExit as leaving:
        code = leaving.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("accel") and "Traceback" not in err
    return err


def files_of_runs(folder: Path, *runs: Run) -> list[str]:
    paths = [folder / f"{i}.run.json" for i in range(len(runs))]
    for run, path in zip(runs, paths, strict=True):
        write_run(run, path)
    return [str(path) for path in paths]
