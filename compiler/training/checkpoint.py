"""Checkpoints: everything a run needs to go on as if it had never stopped, in one file without pickles.

Which samples a step sees, and every random number in it, follow from the seed and the step's number: beside the
model (with what freezing knows of every sign) and the optimiser, the number of steps done is all there is to keep.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import accel
from accel.container import read_container, write_container
from accel.errors import ConfigError, FormatError

SCHEMA = "accel.checkpoint/1"
FILE_NAME = "last.checkpoint.safetensors"
NEXT_NAME = "next.checkpoint.safetensors"  # until it is known to be good

Identity = Mapping[str, str]
EARLIER = {"imitate": "outputs"}  # what runs did before they could be told otherwise
TOLD = ("codec", "epochs")  # of an identity, where it is told from others in one line


def holds_checkpoint(folder: Path) -> bool:
    """Whether a run in ``folder`` came as far as its first."""
    return (folder / FILE_NAME).exists()


def check_no_checkpoint(folder: Path) -> None:
    """Raise ``ConfigError`` if ``folder`` holds a checkpoint, which a run that starts would overwrite; ``FormatError``
    if that is a damaged one."""
    if not holds_checkpoint(folder):
        return
    step, known, _ = _read(folder / FILE_NAME)
    told = "".join(f", {key} {known[key]}" for key in TOLD if key in known)
    kept = "--resume goes on with it, or name another folder"
    raise ConfigError(f"'{folder}' holds a checkpoint of an earlier run (step {step}{told}); {kept}")


def write_checkpoint(
    folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, step: int, identity: Identity
) -> Path:
    """The state after ``step`` steps, atomically; raises ``FormatError`` if that fails. It takes the place of the last
    one when ``settle_checkpoint`` is called: a step can leave numbers that only the next one shows to be useless."""
    tensors = {name: tensor.detach().numpy() for name, tensor in _state(model, optimiser)}
    document = {"tool_version": accel.__version__, "step": step, "identity": dict(identity)}
    write_container(folder / NEXT_NAME, SCHEMA, document, tensors)
    return folder / NEXT_NAME


def settle_checkpoint(folder: Path) -> None:
    """What ``write_checkpoint`` wrote, if anything, is good."""
    with contextlib.suppress(FileNotFoundError):
        (folder / NEXT_NAME).replace(folder / FILE_NAME)


def drop_unsettled(folder: Path) -> None:
    """What ``write_checkpoint`` wrote since the last ``settle_checkpoint``, if anything, is not to be used."""
    (folder / NEXT_NAME).unlink(missing_ok=True)


def read_checkpoint(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, identity: Identity) -> int:
    """Put the state of ``write_checkpoint`` into ``model`` and ``optimiser``; returns the number of steps done.

    Raises ``ConfigError`` if the run was another one (the first difference in ``identity`` is named), ``FormatError``
    for a damaged file.
    """
    path = folder / FILE_NAME
    step, known, tensors = _read(path)
    known |= {key: value for key, value in EARLIER.items() if key in identity.keys() - known.keys()}
    for key in {**identity, **known}:  # in the order of this run: files have theirs sorted
        if known.get(key) != identity.get(key):
            raise ConfigError(f"'{path}' is of a run with {key} = {known.get(key)}; this one has {identity.get(key)}")
    _prepare(optimiser)
    _drop_idle(model, optimiser, tensors)
    state = dict(_state(model, optimiser))
    _check(path, state, tensors)
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(torch.from_numpy(np.array(tensors[name])))
    return step


def _read(path: Path) -> tuple[int, dict[str, Any], Mapping[str, Any]]:
    """Number of steps, identity and tensors."""
    document, tensors = read_container(path, SCHEMA)
    step, known = document.get("step"), document.get("identity")
    if type(step) is not int or step < 0 or not isinstance(known, dict):
        raise FormatError(f"'{path}': no number of steps, or nothing of the run it belongs to")
    return step, known, tensors


def _state(model: nn.Module, optimiser: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in model.state_dict(keep_vars=True).items():
        yield f"model:{name}", tensor
    names = {parameter: name for name, parameter in model.named_parameters()}
    for parameter, values in optimiser.state.items():
        for key, value in values.items():
            yield f"optimiser:{names[parameter]}:{key}", value


def _prepare(optimiser: torch.optim.Optimizer) -> None:
    """Let the optimiser make its state, which it does in its first step: one without gradient or rate."""
    rates = [group["lr"] for group in optimiser.param_groups]
    for group in optimiser.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    optimiser.zero_grad()
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate


def _drop_idle(model: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Any]) -> None:
    """Forget the state of parameters that had none in the run before: nothing has used them, so nothing moved them."""
    for name, parameter in model.named_parameters():
        if not any(key.startswith(f"optimiser:{name}:") for key in tensors):
            optimiser.state.pop(parameter, None)


def _check(path: Path, state: Mapping[str, Tensor], tensors: Mapping[str, Any]) -> None:
    for name in {**state, **tensors}:
        if name not in state or name not in tensors:
            raise FormatError(f"'{path}': tensor '{name[:80]}' is {'missing' if name in state else 'unexpected'}")
        found, wanted = tensors[name], state[name].detach().numpy()
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise FormatError(
                f"'{path}': tensor '{name}' is {found.dtype}{list(found.shape)}; "
                f"expected {wanted.dtype}{list(wanted.shape)}"
            )
