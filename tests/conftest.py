"""Set-up of every test session: a kernel cache of its own, and Hypothesis without deadlines."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Timing decides no test. On CI the same examples run every time: what a commit broke is never left to luck.
settings.register_profile("accel", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("accel")


def pytest_configure(config: pytest.Config) -> None:
    """Compiled kernels go to a folder that only this session sees; downloaded weights stay in the user's cache.

    So no run can leave a kernel behind that was compiled while a test had patched a constant. To keep kernels between
    runs (they take 10 s to compile), set ``ACCEL_CACHE`` to a folder of your own. Workers of xdist inherit theirs.
    """
    if hasattr(config, "workerinput") or "ACCEL_CACHE" in os.environ:
        return
    from compiler.frontend.packages import cache_folder

    weights = cache_folder()
    weights.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="accel-test-"))
    (folder / weights.name).symlink_to(weights)
    os.environ["ACCEL_CACHE"] = str(folder)
    config.add_cleanup(lambda: _remove(folder))


def _remove(folder: Path) -> None:
    os.environ.pop("ACCEL_CACHE", None)
    shutil.rmtree(folder, ignore_errors=True)  # follows no link: the weights stay
