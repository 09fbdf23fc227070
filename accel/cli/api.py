"""The Python API behind ``accel.load``, ``compile``, ``simulate`` and ``execute``: what the verbs do, on objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from accel.cli.options import DEFAULT_MACHINE
from accel.errors import ConfigError, ModelError

if TYPE_CHECKING:
    import numpy.typing as npt

    from accel.cli.tensors import Calibrating
    from accel.machine import Machine
    from accel.packed import Packed
    from accel.program import Program
    from accel.run import Run
    from compiler.frontend import LoadedModel

Model = Union[str, Path, "LoadedModel", "Packed", "Program"]
PACKED_SUFFIX, PROGRAM_SUFFIX = ".vq.safetensors", ".prog.safetensors"


def load(model: Any, example_inputs: tuple[Any, ...] | None = None, *, seed: int = 0) -> Any:
    """See ``accel.load``."""
    from compiler.frontend import from_torch, load_model

    if example_inputs is not None:
        return from_torch(model, example_inputs)
    if not isinstance(model, (str, Path)):
        _check_model(model)
        return model
    text = str(model)
    if text.endswith(PROGRAM_SUFFIX):
        from accel.program import read_program

        return read_program(text)
    if text.endswith(PACKED_SUFFIX) and ":" not in Path(text).name:
        from accel.packed import read_packed

        return read_packed(text)
    return load_model(text, seed=seed)


def _check_model(model: Any) -> None:
    from accel.packed import Packed
    from accel.program import Program
    from compiler.frontend import LoadedModel

    if not isinstance(model, (LoadedModel, Packed, Program)):
        raise ModelError(
            f"a {type(model).__name__} as model; allowed: a name or path, what accel.load returns, or a torch module "
            "with example_inputs"
        )


def machine_of(machine: str | Path | Machine) -> Machine:
    """A machine by name, path, or itself; raises ``ConfigError``."""
    from accel.machine import Machine, load_machine

    return machine if isinstance(machine, Machine) else load_machine(str(machine))


def compile(
    model: Model,
    machine: str | Path | Machine | None = None,
    *,
    codec: str | None = None,
    keep: Sequence[str] = (),
    calibration: Any = None,
    calibration_method: str = "minmax",
    batch: int = 1,
    seed: int = 0,
    verify: bool = False,
) -> Program:
    """See ``accel.compile``."""
    from accel.packed import Packed
    from accel.program import Program
    from compiler import compile_model

    target = machine_of(machine or DEFAULT_MACHINE)
    loaded = load(model, seed=seed)
    if isinstance(loaded, Program):
        raise ModelError("compile: the model is a program already; allowed: a model or a packed model")
    if not isinstance(loaded, Packed):
        loaded = _compressed(loaded, codec or "int8", keep, calibration, calibration_method, seed)
    elif codec is not None or keep or calibration is not None:
        raise ConfigError("compile: codec, keep and calibration are those of the packed model; allowed: none of them")
    return compile_model(loaded, target, batch=batch, verify=verify)


def _compressed(
    model: LoadedModel, codec: str, keep: Sequence[str], calibration: Any, method: str, seed: int
) -> Packed:
    from accel.cli.compress import kept_codecs, source_facts, with_origin
    from accel.codecs import parse_codec
    from compiler.compress import compress

    calibrating = _calibrating(calibration, model)
    result = compress(
        model.graph,
        model.weights,
        parse_codec(codec),
        kept_codecs(keep),
        seed=seed,
        description=source_facts(model.source),
        calibration=calibrating.samples,
        method=method,
    )
    return with_origin(result, calibrating.origin).packed if calibrating.samples else result.packed


def _calibrating(calibration: Any, model: LoadedModel) -> Calibrating:
    """Samples as ``compress`` takes them, none without; raises ``ConfigError`` for what holds none."""
    from accel.cli.tensors import Calibrating, calibration_samples

    if calibration is None:
        return Calibrating([])
    if isinstance(calibration, (str, Path)):
        return calibration_samples(str(calibration), model.graph)
    samples = list(calibration) if isinstance(calibration, Iterable) else []
    wrong = next((sample for sample in samples if not isinstance(sample, Mapping)), None)
    if not samples or wrong is not None or isinstance(calibration, Mapping):
        given = "no samples" if isinstance(calibration, Sequence) and not samples else f"a {type(calibration).__name__}"
        raise ConfigError(
            f"calibration: {given}; allowed: a list of samples (each a dict, input name to array), the path of an .npz "
            "file, or random:N[:SEED]"
        )
    return Calibrating(samples)


def _program(model: Model, machine: str | Path | Machine | None, options: Mapping[str, Any]) -> Program:
    """The program ``model`` is or compiles to."""
    from accel.program import Program

    loaded = load(model, seed=options.get("seed", 0))
    if not isinstance(loaded, Program):
        return compile(loaded, machine, **options)
    if options:
        raise ConfigError(f"{next(iter(options))}: the model is a program already; allowed: no compile options")
    return loaded


def simulate(model: Model, machine: str | Path | Machine | None = None, **options: Any) -> Run:
    """See ``accel.simulate``."""
    import sim

    program = _program(model, machine, options)
    return sim.simulate(program, machine_of(machine) if machine is not None else None)


def execute(
    model: Model,
    inputs: Mapping[str, npt.NDArray[Any]],
    *,
    raw: bool = False,
    machine: str | Path | Machine | None = None,
    **options: Any,
) -> dict[str, npt.NDArray[Any]]:
    """See ``accel.execute``."""
    from sim.functional import execute as run

    return run(_program(model, machine, options), inputs, raw=raw)
