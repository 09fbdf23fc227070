"""One ``jit`` for every kernel, with a disk cache that cannot go stale.

Numba checks only the file that defines a kernel; constants and helpers from other files are baked in unseen. So the
cache folder is named by a digest of all ``accel`` and ``sim`` sources: ``$ACCEL_CACHE/numba/DIGEST``, by default under
``~/.cache/accel``. A folder that cannot be written only costs the compilation at each start.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

from accel import cache

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


@functools.cache
def cache_folder() -> Path | None:
    """Where compiled kernels are kept, or ``None`` if no such folder can be written."""
    folder = cache.cache_folder("numba") / cache.source_digest(("accel", "sim"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def jit(function: Kernel) -> Kernel:
    """Compile a kernel that only other kernels call: inlined there, and no wrapper for Python.

    The interpreted twin stays reachable as ``.py_func``.
    """
    return _compiled(function, no_cpython_wrapper=True)


def jit_call(function: Kernel) -> Kernel:
    """Compile a kernel that others call and that is rarely run: not inlined, which would only bloat them."""
    return _compiled(function, no_cpython_wrapper=True, forceinline=False)


def jit_inline(function: Kernel) -> Kernel:
    """Compile a kernel into its callers: for what cannot be returned from a call, like tuples with a record."""
    return cast(Kernel, numba.njit(inline="always")(function))


def jit_entry(function: Kernel) -> Kernel:
    """Compile a kernel that Python calls."""
    return _compiled(function, no_cpython_wrapper=False)


def _compiled(function: Kernel, no_cpython_wrapper: bool, forceinline: bool | None = None) -> Kernel:
    folder, previous = cache_folder(), numba.config.CACHE_DIR
    # Kernels allocate nothing, so arrays need no reference counts; and a call would copy the state's many descriptors.
    # Without either a run is some 30 times faster.
    options = {"nogil": True, "_nrt": False, "forceinline": no_cpython_wrapper if forceinline is None else forceinline}
    wrappers = {"no_cfunc_wrapper": True, "no_cpython_wrapper": no_cpython_wrapper}
    numba.config.CACHE_DIR = str(folder or previous)
    try:
        return cast(Kernel, numba.njit(cache=folder is not None, **options, **wrappers)(function))
    finally:
        numba.config.CACHE_DIR = previous
