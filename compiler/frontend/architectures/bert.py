"""BERT encoders with Hugging Face names, for single text segments of exactly ``T`` tokens (no padding, no mask).

Source: Devlin et al., "BERT", NAACL 2019; MiniLM-L6 (Wang et al., 2020) as packaged by sentence-transformers, whose
sentence embedding is the mean of the last hidden states.
"""

from __future__ import annotations

from dataclasses import dataclass

from accel.errors import ModelError
from accel.graph import Shape
from compiler.frontend.architectures.base import Array, Blueprint, ModelBuilder, Tensors

NORM_EPSILON = 1e-12
WORD, POSITION, SEGMENT = (f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))


@dataclass(frozen=True, slots=True)
class Bert:
    """Size of an encoder."""

    layers: int
    width: int
    heads: int
    hidden: int
    vocabulary: int = 30522
    positions: int = 512


MINILM_L6 = Bert(layers=6, width=384, heads=12, hidden=1536)


def bert(size: Bert, name: str, shape: Shape) -> Blueprint:
    """The encoder for token ids ``shape`` [B,T]; gives the sentence embedding [B,D], not yet normalised to length 1."""
    if shape[1] > size.positions:
        raise ModelError(f"input {list(shape)}: {shape[1]} tokens; the position table holds {size.positions}")
    builder = ModelBuilder(name, ignored=("embeddings.position_ids", "pooler.*"))
    x = _embed(builder, size, shape)
    for index in range(size.layers):
        x = _layer(builder, x, f"encoder.layer.{index}", size)
    return builder.finish(builder.op("mean", x, name="sentence_embedding", axes=(1,), keepdims=False))


def _embed(builder: ModelBuilder, size: Bert, shape: Shape) -> str:
    """Word rows plus one table that holds position and (constant) segment together."""
    ids = builder.input("input_ids", shape)
    words = builder.op("embedding", builder.weight(WORD, (size.vocabulary, size.width)), ids, name="embeddings.word")
    builder.tensors[POSITION] = (size.positions, size.width)
    builder.tensors[SEGMENT] = (2, size.width)
    count = shape[1]

    def position_and_segment(tensors: Tensors) -> Array:
        return tensors[POSITION][:count] + tensors[SEGMENT][:1]

    places = builder.derive("embeddings.position_and_segment", (count, size.width), position_and_segment)
    summed = builder.op("add", words, places, name="embeddings.add")
    return builder.layernorm(summed, "embeddings.LayerNorm", NORM_EPSILON)


def _layer(builder: ModelBuilder, x: str, name: str, size: Bert) -> str:
    query, key, value = (
        builder.split_heads(builder.linear(x, f"{name}.attention.self.{part}", size.width), size.heads)
        for part in ("query", "key", "value")
    )
    attended = builder.attend(query, key, value, f"{name}.attention.self")
    attended = builder.linear(attended, f"{name}.attention.output.dense", size.width)
    x = _add_norm(builder, attended, x, f"{name}.attention.output")
    widened = builder.mlp(x, f"{name}.intermediate.dense", f"{name}.output.dense", size.hidden)
    return _add_norm(builder, widened, x, f"{name}.output")


def _add_norm(builder: ModelBuilder, branch: str, x: str, name: str) -> str:
    summed = builder.op("add", branch, x, name=f"{name}.add")
    return builder.layernorm(summed, f"{name}.LayerNorm", NORM_EPSILON)
