"""MiniLM as a part of ``python -m benchmarks accuracy``: it learns from its own float answers to unlabelled text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.graph import Graph
from accel.packed import weight_parameters
from benchmarks.accuracy_parts import (
    MINILM_BATCH,
    MINILM_POOL,
    MINILM_SAMPLES,
    MINILM_TOKENS,
    MINILM_VALIDATION,
    SPLIT_SEED,
    WARM_UP,
    Part,
)
from benchmarks.quality_data import (
    TOKEN_LIMIT,
    all_calibration_tokens,
    lee_correlation,
    lee_sentences,
    tokenised,
    word_correlation,
    word_pairs,
)
from benchmarks.quality_models import cut
from benchmarks.quality_scores import cosines
from compiler.frontend import load_model
from compiler.frontend.architectures import build_architecture
from compiler.training import GraphModule, TrainingData, TrainingOptions, outputs_of
from compiler.training.graph_module import trained_parameters

Array = npt.NDArray[Any]

WORD_SETS = ("simlex999", "wordsim353")


@cache
def minilm() -> Part:
    """The sentence encoder, trained towards its float embeddings and scored on longer texts and on single words."""
    longest = load_model("zoo:minilm", input_shapes={"input_ids": (1, TOKEN_LIMIT)}).weights
    graph = build_architecture("minilm", {"input_ids": (1, MINILM_TOKENS)}).graph
    weights = cut(longest, graph)
    reference = GraphModule(graph, weights)
    chunks = _chunks(all_calibration_tokens())
    order = np.random.default_rng(SPLIT_SEED).permutation(len(chunks))[: MINILM_VALIDATION + MINILM_POOL]
    chunks = chunks[order][:, None]  # [N, 1, MINILM_TOKENS]
    wanted = outputs_of(reference, {"input_ids": chunks})
    held_back = slice(None, MINILM_VALIDATION)
    pool = np.arange(MINILM_VALIDATION, len(chunks))

    def training(seed: int, count: int) -> TrainingData:
        chosen = np.random.default_rng([seed, 2]).permutation(pool)[:count]
        return TrainingData({"input_ids": chunks[chosen]}, wanted[chosen])

    def validate(trained: GraphModule) -> float:
        found = outputs_of(trained, {"input_ids": chunks[held_back]})
        return float(cosines(found, wanted[held_back]).mean())

    texts, words = lee_sentences(), _words()
    answers = embeddings(reference, longest, texts)

    def score(trained: GraphModule) -> dict[str, float]:
        found, of_words = embeddings(trained, longest, texts), embeddings(trained, longest, list(words.values()))
        vectors = dict(zip(words, of_words, strict=True))
        return {
            "cosine": float(cosines(found, answers).mean()),
            "lee": lee_correlation(found.astype(np.float64)),
            **{name: word_correlation(vectors, word_pairs(name)) for name in WORD_SETS},
        }

    return Part(
        name="minilm",
        graph=graph,
        weights=weights,
        compressed=weight_parameters(graph),
        training=training,
        samples=MINILM_SAMPLES,
        validate=validate,
        score=score,
        loss="cosine",
        options=TrainingOptions(epochs=1, batch=MINILM_BATCH, warm_up=WARM_UP, precision="bfloat16"),
        augment=None,
    )


def _chunks(texts: Sequence[Array]) -> npt.NDArray[np.int32]:
    """Consecutive pieces of each text, both marks around each: int32 [N, MINILM_TOKENS]."""
    inner = MINILM_TOKENS - 2
    pieces = [
        np.concatenate([ids[:1], ids[start : start + inner], ids[-1:]])
        for ids in texts
        for start in range(1, len(ids) - 1 - inner + 1, inner)
    ]
    return np.stack(pieces).astype(np.int32)


def _words() -> dict[str, Array]:
    """Token ids of every word that is compared."""
    words = sorted({word for name in WORD_SETS for one, other, _ in word_pairs(name) for word in (one, other)})
    return dict(zip(words, tokenised(words), strict=True))


def embeddings(model: GraphModule, longest: Mapping[str, Array], texts: Sequence[Array]) -> Array:
    """Sentence embeddings [N, D] of texts of any length, those of one length together; constants are those of a graph
    for the ``longest`` text."""
    lengths = np.array([len(ids) for ids in texts])
    found: dict[int, Array] = {}
    values = {**longest, **_trained_values(model)}
    for length in np.unique(lengths):
        (where,) = np.nonzero(lengths == length)
        batch = np.stack([texts[index] for index in where])[:, None]
        outputs = outputs_of(_at_length(values, int(length)), {"input_ids": batch})
        found.update(zip(where.tolist(), outputs[:, 0], strict=True))
    return np.stack([found[index] for index in range(len(texts))])


def _trained_values(model: GraphModule) -> dict[str, Array]:
    """Every parameter that learns as it is now, weights decoded."""
    trained = trained_parameters(model.graph)
    plain = {name: tensor.detach().numpy() for name, tensor in model.plain().items() if name in trained}
    return plain | {each.name: each.weight.detach().numpy() for each in model.weights}


def _at_length(values: Mapping[str, Array], tokens: int) -> GraphModule:
    graph: Graph = build_architecture("minilm", {"input_ids": (1, tokens)}).graph
    return GraphModule(graph, cut(values, graph))
