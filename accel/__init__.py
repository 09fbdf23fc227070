"""Accel: a co-design kit for neural networks whose weights are vector-quantised.

    model = accel.load("model.onnx")
    program = accel.compile(model, "edge64", codec="ssvq:k=16,d=8", calibration=samples)
    run = accel.simulate(program)  # run.total_cycles, run.energy_joules, run.layers ...
    outputs = accel.execute(program, {"input": x})  # {name: float32 array}

``samples`` is a list of inputs as ``execute`` takes them: ``[{"input": x}, ...]``.

This package is the shared vocabulary (machine, instruction set, codecs, file formats, metrics). It imports
nothing of ``compiler``, ``sim`` or ``rtl``; only ``accel.cli`` does, and lazily. The four functions above are those of
``accel.cli.api``, imported when they are called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from accel.program import Program
    from accel.run import Run

__all__ = ["__version__", "compile", "execute", "load", "simulate"]

__version__ = "0.1.0"


def load(model: Any, example_inputs: tuple[Any, ...] | None = None, *, seed: int = 0) -> Any:
    """A model: ``zoo:NAME``, ``ARCH[:FILE]`` (random weights from ``seed`` without a file), a path (.onnx, .pt2,
    .vq.safetensors, .prog.safetensors), or a live torch module with ``example_inputs``.

    Returns a ``LoadedModel``, ``Packed`` or ``Program``. Raises an ``AccelError`` for what cannot be loaded.
    """
    from accel.cli import api

    return api.load(model, example_inputs, seed=seed)


def compile(model: Any, machine: Any = None, **options: Any) -> Program:
    """The program of a model (anything ``load`` takes or returns) for a machine: a name, a TOML path, a ``Machine``.

    ``options``: ``codec`` (default int8), ``keep`` (a sequence of GLOB=CODEC), ``calibration`` (a list of
    samples, each a dict from input name to array of the model's shape; or what ``--calibrate`` takes: the path of an
    .npz file, ``random:N[:SEED]``; without, values mean nothing), ``calibration_method`` (default minmax), ``batch``,
    ``seed``, ``verify``.
    Raises an ``AccelError`` if the model does not map onto the machine.
    """
    from accel.cli import api

    return api.compile(model, machine, **options)


def simulate(model: Any, machine: Any = None, **options: Any) -> Run:
    """Time a program, or a model compiled with ``options`` of ``compile``; cycles by cause, DRAM bytes, joules."""
    from accel.cli import api

    return api.simulate(model, machine, **options)


def execute(model: Any, inputs: Mapping[str, Any], *, raw: bool = False, **options: Any) -> dict[str, Any]:
    """What a program computes: float32 outputs by name, or the stored codes if ``raw``.

    ``inputs`` maps every input to real values, codes or indices (``sim.functional.execute``). ``options`` are those of
    ``compile``, ``machine`` included. Raises an ``AccelError`` for inputs that do not fit.
    """
    from accel.cli import api

    return api.execute(model, inputs, raw=raw, **options)
