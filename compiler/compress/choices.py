"""Which codec each weight gets, unless a budget decides: the model's, int8 where that is smaller, or what was asked."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Sequence

from accel.codecs import Codec, Int8, VectorAxis, stored_bytes
from accel.errors import ConfigError, listed, nearest
from accel.graph import Graph, gemm_shape, weight_name
from accel.packed import weight_parameters

Keep = Sequence[tuple[str, Codec]]
Choice = tuple[Codec, str]  # and why, if it is not the codec asked for the whole model


def codec_choices(graph: Graph, codec: Codec, keep: Keep, axis: VectorAxis) -> dict[str, Choice]:
    """Codec and reason for every weight, in the graph's order; raises as ``kept_choices`` does."""
    kept = kept_choices(graph, keep)
    shapes = {name: gemm_shape(graph.parameters[name]) for name in weight_parameters(graph)}
    return {name: kept.get(name) or no_larger_than_int8(codec, shape, axis) for name, shape in shapes.items()}


def check_of_use(graph: Graph, codec: Codec, keep: Keep, axis: VectorAxis) -> None:
    """Raises ``ConfigError`` if ``codec`` would make no layer smaller than int8, but for those kept in another."""
    kept = kept_choices(graph, keep)
    free = {name: each for name, each in codec_choices(graph, codec, keep, axis).items() if name not in kept}
    if free and all(reason for _, reason in free.values()):
        largest = max(free, key=lambda name: math.prod(graph.parameters[name]))
        raise ConfigError(
            f"codec '{codec}' makes no layer smaller than int8: of the largest, '{largest}', {free[largest][1]}; "
            "allowed: one that does for at least 1 layer"
        )


def no_larger_than_int8(codec: Codec, shape: tuple[int, int], axis: VectorAxis) -> Choice:
    """``codec``, or int8 if its codes, signs and codebook would take no fewer bytes."""
    if isinstance(codec, Int8):
        return codec, ""
    packed, plain = (sum(stored_bytes(each, shape, axis, scales=0).values()) for each in (codec, Int8()))
    if packed < plain:
        return codec, ""
    return Int8(), f"{codec} would take {packed} bytes, int8 takes {plain}"


def kept_choices(graph: Graph, keep: Keep) -> dict[str, Choice]:
    """The weights that patterns over weight or operator names match, the last match winning; raises ``ConfigError`` for
    a pattern that matches nothing."""
    aliases: dict[str, list[str]] = {name: [name] for name in weight_parameters(graph)}
    for op in graph.weight_ops():
        aliases[weight_name(op)].append(op.name)
    kept: dict[str, Choice] = {}
    for glob, codec in keep:
        matched = [name for name, known in aliases.items() if any(fnmatch.fnmatchcase(each, glob) for each in known)]
        if not matched:
            raise ConfigError(f"keep pattern '{glob}' matches no weight{_hint(glob, aliases.values())}")
        kept.update((name, (codec, f"kept by pattern '{glob}'")) for name in matched)
    return kept


def _hint(glob: str, aliases: Iterable[list[str]]) -> str:
    groups = list(aliases)
    weights = [group[0] for group in groups]
    return (
        nearest(glob, [each for group in groups for each in group])
        or f"; weights are {listed(weights[:5])}{', ...' if len(weights) > 5 else ''}"
    )
