"""``python -m benchmarks post_training``: what each codec does to trained networks before any training, layer by layer.

Every weight of some zoo models is coded in each of some codecs. Errors are relative and squared: of a layer's weights,
of the model's outputs with one layer coded alone (on ``BUDGET_SAMPLES`` of calibration), and of its outputs with all
layers coded, on ``HELD_BACK`` inputs that neither calibration nor the choice of codecs has seen. Activations stay
float32: this is about weights.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.codecs import Codec, parse_codec
from accel.graph import Graph
from accel.packed import weight_parameters
from benchmarks.post_training_findings import CODECS, HELD_BACK, Findings, Layer, Outcome, Weighing
from benchmarks.post_training_kept import drop_kept, kept_findings
from benchmarks.post_training_page import write_page
from benchmarks.post_training_tables import tables
from benchmarks.quality import one_thread
from benchmarks.quality_data import Normalisation, calibration_images, imagenet_images, require_extra, tell
from benchmarks.quality_models import SUBJECTS, Subject, cut
from compiler.compress.budget import (
    OUTPUT_ERROR,
    Budget,
    Candidate,
    candidates,
    spend,
)
from compiler.compress.coder import Coder
from compiler.compress.layer import relative_error
from compiler.compress.moments import second_moments
from compiler.compress.output_error import (
    FloatModel,
    Tensors,
    WholeModel,
    decoded_weight,
    relative,
    squared,
    squared_distance,
)
from compiler.frontend import load_model
from compiler.quantise import evaluate

MODELS = ("minilm", "vit_s14", "efficientnet_lite0", "resnet50_thin")
WEIGHED = ("vq:k=256,d=2", "ssvq:k=256,d=8")  # once broken, networks say little about weighing
VECTOR_AXES = ("out", "in")
WORKERS = 2
CAFFE = Normalisation((123.0, 117.0, 104.0), (1.0, 1.0, 1.0))  # open_nsfw's, which then swaps red and blue


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the benchmark."""
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="default: all")
    parser.add_argument("--codecs", nargs="+", metavar="CODEC", default=CODECS, help=f"default: {' '.join(CODECS)}")
    parser.add_argument(
        "--weighed",
        nargs="*",
        metavar="CODEC",
        default=WEIGHED,
        help=f"those of the codecs to try with errors weighed by activations; default {' '.join(WEIGHED)}",
    )
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"processes, one core each; default {WORKERS}")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, default=Path("docs"), help="default: docs")
    parser.add_argument("--layers", metavar="FILE.csv", type=Path, help="every layer of every model in every codec")


def main(options: argparse.Namespace) -> bool:
    """Measure, write page, plot and tables; whether a budget beat every codec that leaves it a choice."""
    require_extra(options.models)
    begin = time.monotonic()
    found: dict[str, Findings] = {}
    spawn, job = multiprocessing.get_context("spawn"), functools.partial(_kept, weighed=options.weighed)
    with one_thread(), ProcessPoolExecutor(options.workers, spawn) as pool:
        running = {pool.submit(job, name, options.codecs): name for name in options.models}
        for done in as_completed(running):
            found[running[done]] = done.result()
            tell(f"{running[done]}: {time.monotonic() - begin:.0f} s")
            ordered = [found[name] for name in options.models if name in found]
            for path in write_page(ordered, tables(ordered), options.output, options.layers):
                tell(f"wrote {path}")
    drop_kept(options.models, options.codecs, options.weighed)
    lost = [
        f"{each.model}: {own.codec} {own.output_error:.4g}, the budget {other.output_error:.4g}"
        for each in ordered
        for own, other in zip(each.uniform, each.budgets, strict=True)
        if other.output_error > own.output_error
    ]
    for text in lost:
        tell(f"the budget is no better than one codec: {text}")
    return not lost


def _kept(name: str, spellings: Sequence[str], weighed: Sequence[str]) -> Findings:
    return kept_findings(name, spellings, weighed, lambda: findings(name, spellings, weighed))


def findings(name: str, spellings: Sequence[str], weighed: Sequence[str]) -> Findings:
    """Everything about one model (run in a process of its own)."""
    subject = thin_resnet() if name == "resnet50_thin" else SUBJECTS[name]()
    codecs = tuple(map(parse_codec, spellings))
    samples, inputs = subject.calibration, subject.inputs[:HELD_BACK]
    wanted = [_outputs(subject, subject.weights, each) for each in inputs]
    coder = Coder(subject.graph, subject.weights, "channel", "out", 0)
    model = FloatModel(subject.graph, subject.weights, {})
    options = candidates(coder, codecs, (), model, samples, _progress(name))

    def outcome(label: str, taken: Mapping[str, Candidate], bound: float = 0.0) -> Outcome:
        layers = tuple(_layer(coder, name, each) for name, each in taken.items())
        error = _held_back(subject, {name: each.layer for name, each in taken.items()}, inputs, wanted)
        return Outcome(label, sum(each.stored_bytes for each in layers), error, layers, bound)

    uniform = [outcome(str(codec), _uniform(options, codec)) for codec in codecs]
    whole = WholeModel.of(model, tuple(options), samples)
    weights = sum(each.weights for each in uniform[0].layers)
    budgets = []
    for own in uniform:
        spending = spend(Budget.of_bytes(own.stored_bytes, weights, codecs), options, OUTPUT_ERROR, whole)
        budgets.append(outcome(f"budget of {own.codec}", spending.candidates, spending.bound))
    weighings = tuple(_weighings(subject, [each for each in codecs if str(each) in weighed], inputs, wanted))
    return Findings(name, tuple(uniform), tuple(budgets), weighings)


def _uniform(options: Mapping[str, Sequence[Candidate]], codec: Codec) -> dict[str, Candidate]:
    """What a model all in ``codec`` has: that candidate, or what its rules put in its place."""
    return {name: next(each for each in row if codec in each.serves) for name, row in options.items()}


def _weighings(
    subject: Subject, codecs: Sequence[Codec], inputs: Sequence[Any], wanted: Sequence[Tensors]
) -> Iterator[Weighing]:
    moments = second_moments(subject.graph, subject.weights, subject.calibration)
    for codec in codecs:
        for axis in VECTOR_AXES:
            errors = []
            for counted in ({}, moments):
                coder = Coder(subject.graph, subject.weights, "channel", axis, 0, counted)
                names = weight_parameters(subject.graph)
                layers = {name: coder.chosen(name, coder.choice(name, codec))[0] for name in names}
                errors.append(_held_back(subject, layers, inputs, wanted))
            yield Weighing(str(codec), axis, *errors)


def _layer(coder: Coder, name: str, found: Candidate) -> Layer:
    codec, reason = found.choice
    error = relative_error(coder.matrix(name), found.layer)
    size = found.layer.shape[0] * found.layer.shape[1]
    return Layer(name, str(codec), reason, size, found.stored_bytes, error, found.error)


def _held_back(subject: Subject, layers: Mapping[str, Any], inputs: Sequence[Any], wanted: Sequence[Tensors]) -> float:
    """Squared error over squares of the outputs for ``inputs``, weights being those of ``layers``."""
    decoded = {name: decoded_weight(each).reshape(subject.graph.parameters[name]) for name, each in layers.items()}
    values, error, power = {**subject.weights, **decoded}, 0.0, 0.0
    for each, outputs in zip(inputs, wanted, strict=True):
        error += squared_distance(_outputs(subject, values, each), outputs)
        power += squared(outputs)
    return relative(error, power)


def _outputs(subject: Subject, values: Tensors, each: npt.NDArray[Any]) -> Tensors:
    graph = subject.graph_of(each.shape)
    return evaluate(graph, cut(values, graph), {subject.input_name: each})


def _progress(model: str) -> Any:
    last = time.monotonic()

    def report(done: int, total: int, what: str) -> None:
        nonlocal last
        if time.monotonic() - last > 20:
            last = time.monotonic()
            tell(f"{model}: {done} of {total}, {what}")

    return report


def thin_resnet() -> Subject:
    """The content filter on photographs; ImageNet's pictures are held back. It has no labels here."""
    model = load_model("zoo:resnet50_thin", progress=tell)
    graph = without_softmax(model.graph)
    ((name, shape),) = graph.inputs.items()
    views, pictures = (
        np.ascontiguousarray(planes[:, ::-1].transpose(0, 2, 3, 1))
        for planes in (calibration_images(8, CAFFE), imagenet_images(CAFFE).pictures)
    )
    return Subject(
        graph=graph,
        weights=model.weights,
        calibration=[{name: view[None]} for view in views],
        inputs=[picture[None] for picture in pictures],
        score=lambda found, wanted: {},
        graph_of=lambda _: graph,
        cost_shape=shape,
        executed=0,
    )


def without_softmax(graph: Graph) -> Graph:
    """``graph`` up to its last layer, with what that reads and what it gives as outputs.

    Two probabilities next to 0 and 1 tell nothing of weights: any model that is as sure has an error of nearly nothing.
    """
    assert [op.kind for op in graph.ops[-2:]] == ["gemm", "softmax"]
    layer = graph.ops[-2]
    return replace(graph, ops=graph.ops[:-1], outputs=(layer.inputs[0], layer.output))
