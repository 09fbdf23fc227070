"""Compresses the layers of a torch model in place, and gives them back encoded."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

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


COMPRESSED: Mapping[type[nn.Module], tuple[str, ...]] = MappingProxyType(
    {
        nn.Linear: ("weight",),
        nn.Conv2d: ("weight",),
        nn.MultiheadAttention: ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"),
        PlainWeight: ("weight",),
    }
)
"""Layers whose matrices can be compressed, and what these are called there; those that are None are left alone."""

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
    """Make the weights of ``COMPRESSED`` layers functions of trained codebooks; returns the names of these weights.

    ``codec_of(name, (out, reduction))`` says how weight ``name`` (as in ``state_dict``) is stored; None leaves it as it
    is (``export_module`` takes a model only if all have a codec). Each starts as
    ``compiler.compress.compress_layer`` codes it, with the seed ``compress`` takes for a weight of that name. All are
    coded before any is changed. Raises ``CodecError`` or ``ModelError`` naming the weight.
    """
    chosen = {
        name: (place, codec)
        for name, place in _places(model)
        if (codec := codec_of(name, gemm_shape(tuple(place.weight.shape)))) is not None
    }
    _check(model, {name: place for name, (place, _) in chosen.items()})
    started: dict[str, CodedWeight] = {}
    for done, (name, (place, codec)) in enumerate(chosen.items()):
        if progress is not None:
            progress(done, len(chosen), name)
        try:
            started[name] = _started(place.weight, name, codec, options or WeightOptions(), scale, vector_axis, seed)
        except CodecError as error:
            raise CodecError(f"weight '{name}': {error}") from error
    for name, (place, _) in chosen.items():
        parametrize.register_parametrization(place.module, place.attribute, started[name])
    return tuple(chosen)


def _started(
    weight: torch.Tensor,
    name: str,
    codec: Codec,
    options: WeightOptions,
    scale: ScaleMode,
    vector_axis: VectorAxis,
    seed: int,
) -> CodedWeight:
    if type(codec) not in WEIGHTS:
        raise CodecError(f"codec '{codec}' cannot be fine-tuned; allowed: {listed(each.family for each in WEIGHTS)}")
    shape = tuple(weight.shape)
    matrix = weight.detach().numpy().reshape(gemm_shape(shape))
    layer = compress_layer(matrix, codec, scale, vector_axis, seed ^ zlib.crc32(name.encode()))
    return WEIGHTS[type(codec)](layer, shape, matrix, options)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a weight is."""

    module: nn.Module
    attribute: str

    @property
    def weight(self) -> torch.Tensor:
        found: torch.Tensor = getattr(self.module, self.attribute)
        return found

    @property
    def is_compressed(self) -> bool:
        return bool(parametrize.is_parametrized(self.module, self.attribute))


def _places(model: nn.Module) -> Iterator[tuple[str, _Place]]:
    """Weights of ``COMPRESSED`` layers by name, in the model's order."""
    for path, module in model.named_modules():
        for kind, attributes in COMPRESSED.items():
            for attribute in attributes if isinstance(module, kind) else ():
                if getattr(module, attribute) is not None:
                    yield _weight_name(path, module, attribute), _Place(module, attribute)


def _check(model: nn.Module, chosen: Mapping[str, _Place]) -> None:
    """Raise ``ModelError`` for weights that are parametrised, not float32, or used elsewhere in the model, too."""
    uses: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    for name, place in chosen.items():
        if place.is_compressed:
            raise ModelError(f"weight '{name}' is parametrised already; compress only once")
        if place.weight.dtype != torch.float32:
            raise ModelError(f"weight '{name}' is {place.weight.dtype}; allowed: torch.float32 (model.float())")
        if uses[id(place.weight)] > 1:
            raise ModelError(
                f"weight '{name}' is that of another layer, too, and would become two; allowed: a GraphModule of the "
                "model (compiler.frontend.from_torch), where it is one"
            )


def _weight_name(path: str, module: nn.Module, attribute: str) -> str:
    return module.name if isinstance(module, PlainWeight) else f"{path}.{attribute}".lstrip(".")


def coded_weights(model: nn.Module) -> dict[str, CodedWeight]:
    """What ``compress_modules`` put in, by weight."""
    found = {}
    for path, module in model.named_modules():
        for attribute, (coded, *_) in getattr(module, "parametrizations", {}).items():
            if isinstance(coded, CodedWeight):
                found[_weight_name(path, module, attribute)] = coded
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
