"""Compresses the layers of a torch model in place, and gives them back encoded."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from accel.codecs import LR2VQ, MVQ, SSVQ, VQ, Codec, EncodedLayer, Int4, Int8, VectorAxis
from accel.errors import CodecError, ModelError, listed
from accel.graph import gemm_shape
from compiler.compress import ScaleMode, compress_layer
from compiler.training.codebooks import CodebookWeight, MaskedWeight, ProjectedWeight
from compiler.training.coded import CodedWeight, IntegerWeight
from compiler.training.options import WeightOptions
from compiler.training.signs import SignedWeight


class PlainWeight(nn.Module):
    """A weight by the ``name`` it has in a model that is not made of layers (``GraphModule``)."""

    def __init__(self, weight: torch.Tensor, name: str) -> None:
        super().__init__()
        self.name = name
        self.weight = nn.Parameter(weight)


COMPRESSED_MODULES: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d, PlainWeight)

WEIGHTS: Mapping[type[Codec], Callable[..., CodedWeight]] = MappingProxyType(
    {
        Int8: IntegerWeight,
        Int4: IntegerWeight,
        VQ: CodebookWeight,
        SSVQ: SignedWeight,
        MVQ: MaskedWeight,
        LR2VQ: ProjectedWeight,
    }
)

CodecOf = Callable[[str, tuple[int, int]], Codec | None]
Progress = Callable[[int, int, str], None]


def compress_modules(
    model: nn.Module,
    codec_of: CodecOf,
    options: WeightOptions | None = None,
    *,
    scale: ScaleMode = "channel",
    vector_axis: VectorAxis = "out",
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Make the weights of Linear and Conv2d layers functions of trained codebooks; returns the names of their weights.

    ``codec_of(name, (out, reduction))`` says how weight ``name`` (as in ``state_dict``) is stored; None leaves the
    layer as it is. Each starts as ``compiler.compress.compress_layer`` codes it, with the seed ``compress`` takes for a
    weight of that name. All layers are coded before any is changed. Raises ``CodecError`` naming the weight.
    """
    chosen = {
        name: (module, codec)
        for name, module in _layers(model)
        if (codec := codec_of(name, gemm_shape(tuple(module.weight.shape)))) is not None
    }
    started: dict[str, CodedWeight] = {}
    for done, (name, (module, codec)) in enumerate(chosen.items()):
        if progress is not None:
            progress(done, len(chosen), name)
        try:
            started[name] = _started(module, name, codec, options or WeightOptions(), scale, vector_axis, seed)
        except CodecError as error:
            raise CodecError(f"weight '{name}': {error}") from error
    for name, (module, _) in chosen.items():
        parametrize.register_parametrization(module, "weight", started[name])
    return tuple(chosen)


def _started(
    module: Any, name: str, codec: Codec, options: WeightOptions, scale: ScaleMode, vector_axis: VectorAxis, seed: int
) -> CodedWeight:
    if type(codec) not in WEIGHTS:
        raise CodecError(f"codec '{codec}' cannot be fine-tuned; allowed: {listed(each.family for each in WEIGHTS)}")
    shape = tuple(module.weight.shape)
    matrix = module.weight.detach().numpy().astype(np.float32).reshape(gemm_shape(shape))
    layer = compress_layer(matrix, codec, scale, vector_axis, seed ^ zlib.crc32(name.encode()))
    return WEIGHTS[type(codec)](layer, shape, matrix, options)


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers that can be compressed, by the name of their weight; raises ``ModelError`` for one that already is."""
    for name, module in model.named_modules():
        if isinstance(module, COMPRESSED_MODULES):
            if parametrize.is_parametrized(module, "weight"):
                raise ModelError(f"weight '{_weight_name(name, module)}' is parametrised already; compress only once")
            yield _weight_name(name, module), module


def _weight_name(path: str, module: nn.Module) -> str:
    return module.name if isinstance(module, PlainWeight) else f"{path}.weight".lstrip(".")


def coded_weights(model: nn.Module) -> dict[str, CodedWeight]:
    """What ``compress_modules`` put in, by weight."""
    found = {}
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            (coded,) = module.parametrizations.weight
            if isinstance(coded, CodedWeight):
                found[_weight_name(name, module)] = coded
    return found


def encoded_layers(model: nn.Module) -> dict[str, EncodedLayer]:
    """The compressed weights of ``model`` as they are now: ``scale * decode`` of each is what its layer computes with,
    bit for bit in float32."""
    return {name: coded.encoded() for name, coded in coded_weights(model).items()}


def frozen_share(model: nn.Module) -> float:
    """Share of all learned signs that are frozen; 0 without such."""
    states = [
        coded.frozen.sign
        for coded in coded_weights(model).values()
        if isinstance(coded, SignedWeight) and coded.frozen is not None
    ]
    total = sum(state.numel() for state in states)
    return sum(int(state.count_nonzero()) for state in states) / total if total else 0.0
