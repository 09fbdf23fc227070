"""Compress a model and fine-tune what is compressed: codebooks, signs, scales, biases and norms learn from a loss.

--data is a data set (fashion_mnist), an .npz file, or a folder of such files: an array for each input, samples in
front, and optionally the classes in "labels". With labels the loss is cross-entropy; without, the model is taught to
answer as its float self, and to compute the same on the way there. What is held back is only scored. Freezing of signs
is checked every 500 steps, or a twentieth of a shorter run, at least 10. Activations are calibrated on the first
training samples, or those of --calibrate.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from accel.cli.compress import (
    compression_totals,
    layers_table,
    load,
    model_files,
    source_facts,
    with_origin,
)
from accel.cli.finetune_options import add_data, add_loop, add_records, add_weights, recipe_of
from accel.cli.options import (
    add_calibration,
    add_compression,
    add_json,
    add_model,
    add_output,
    check_outputs,
    created_folder,
    print_json,
    say,
)
from accel.errors import ConfigError, ModelError, listed

if TYPE_CHECKING:
    from accel.cli.progress import Report
    from accel.cli.tensors import Calibrating
    from accel.cli.training_data import Split
    from accel.reporting import Table
    from compiler.compress import Compression
    from compiler.frontend import LoadedModel
    from compiler.training import Checkpointing, FineTuning, Log, Recipe, Samples

HELP = "compress a model and fine-tune it"
EXAMPLE = "accel finetune net.pt2 --codec ssvq:k=16,d=8 --data samples.npz --epochs 3 -o net.vq.safetensors"

CALIBRATION_SAMPLES = 64
NAMED = 3  # of the layers that are in another codec
FEW_STEPS = 50  # our choice: at the default rates AdamW moves codebooks by some 3% in so many


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    add_model(parser)
    parser.add_argument("--codec", required=True, help="e.g. int4 or ssvq:k=16,d=8 (accel codecs)")
    add_data(parser)
    add_loop(parser)
    add_weights(parser)
    add_compression(parser)
    add_calibration(parser)
    add_records(parser)
    add_output(parser, "the packed file to write (*.vq.safetensors)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compress, train, write, and print how well the model did before and after."""
    from accel.cli.progress import progress
    from accel.cli.training_data import load_split
    from accel.packed import write_packed
    from compiler.compress import check_of_use
    from compiler.quantise import candidate_methods
    from compiler.training import holds_checkpoint

    _check_arguments(arguments)
    candidate_methods(arguments.calibration_method)
    asked = recipe_of(arguments, labelled=True)  # a mistake in it shows before anything is loaded
    model = load(arguments)
    if not model.graph.weight_ops():
        raise ModelError(f"nothing to compress: '{model.source['spec']}' has no conv or gemm with constant weights")
    check_of_use(model.graph, asked.codec, asked.keep, asked.vector_axis)
    split = load_split(arguments.data, model.graph, arguments.hold_back, arguments.seed)
    recipe = recipe_of(arguments, split.training.labels is not None)
    _check_imitation(arguments, recipe)
    if arguments.resume and not holds_checkpoint(arguments.checkpoint):
        say(f"note: '{arguments.checkpoint}' holds no checkpoint yet: the run starts from the beginning")
    with progress() as report, _threads(arguments.threads):
        tuned = _tuned(arguments, model, recipe, split, report)
    say(f"warning: {text}" for text in tuned.compression.warnings)
    write_packed(tuned.compression.packed, arguments.output)
    _print(arguments, model, recipe, split, tuned)
    say(f"wrote {arguments.output} ({arguments.output.stat().st_size:,} bytes)")
    return 0


def _check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ``ConfigError`` for what argparse cannot see."""
    from accel.cli.training_data import SAMPLE_FILES

    inputs = (*model_files(arguments.model), arguments.data, arguments.calibrate or "")
    check_outputs([arguments.output, arguments.log], inputs, (SAMPLE_FILES,))
    if arguments.resume and not arguments.checkpoint:
        raise ConfigError("--resume without --checkpoint DIR; allowed: together, DIR holds where to go on")
    if arguments.no_freezing and arguments.freeze_interval:
        raise ConfigError("--freeze-interval with --no-freezing; allowed: one of them")
    if arguments.checkpoint and not arguments.resume:
        from compiler.training import check_no_checkpoint

        check_no_checkpoint(arguments.checkpoint)


def _check_imitation(arguments: argparse.Namespace, recipe: Recipe) -> None:
    """Raise ``ConfigError`` if what is asked for would have no effect."""
    from compiler.training.losses import DISTILLED

    if arguments.imitate and not recipe.imitates:
        raise ConfigError(
            f"--imitate {arguments.imitate} with loss '{recipe.loss}'; allowed: with --loss {listed(DISTILLED)}"
        )


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """torch computes on ``count`` threads inside."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tuned(
    arguments: argparse.Namespace, model: LoadedModel, recipe: Recipe, split: Split, report: Report
) -> FineTuning:
    from compiler.training import finetune

    calibrating = _calibrating(arguments, model, split.training)
    with contextlib.ExitStack() as stack:
        if arguments.checkpoint:
            stack.enter_context(created_folder(arguments.checkpoint))
        tuned = finetune(
            model.graph,
            model.weights,
            recipe,
            split.training,
            split.held_back,
            checkpoints=_checkpointing(arguments, model, recipe, split),
            open_logs=lambda step: _logs(arguments, step),
            progress=report,
            description=source_facts(model.source) | {"fine-tuning": _summary(recipe, arguments.threads)},
            calibration=calibrating.samples,
            method=arguments.calibration_method,
        )
    return replace(tuned, compression=with_origin(tuned.compression, calibrating.origin))


def _calibrating(arguments: argparse.Namespace, model: LoadedModel, samples: Samples) -> Calibrating:
    """What ``--calibrate`` says, or the first samples trained on."""
    from accel.cli.tensors import Calibrating, calibration_samples

    if arguments.calibrate:
        return calibration_samples(arguments.calibrate, model.graph)
    first = range(min(CALIBRATION_SAMPLES, len(samples)))
    return Calibrating([{name: array[i] for name, array in samples.inputs.items()} for i in first])


def _checkpointing(
    arguments: argparse.Namespace, model: LoadedModel, recipe: Recipe, split: Split
) -> Checkpointing | None:
    from compiler.training import Checkpointing

    if not arguments.checkpoint:
        return None
    # The seed comes first: which samples are held back follows from it, and so does the digest of those that are not.
    facts = {"seed": str(recipe.loop.seed), **recipe.facts()}
    identity = {"model": model.source["sha256"], **facts, "data": _digest(split.training)}
    return Checkpointing(arguments.checkpoint, identity, arguments.checkpoint_every, arguments.resume)


def _digest(samples: Samples) -> str:
    """sha256 of what is trained on."""
    import numpy as np

    digest = hashlib.sha256()
    for array in (*samples.inputs.values(), *(() if samples.labels is None else (samples.labels,))):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _logs(arguments: argparse.Namespace, step: int) -> list[Log]:
    from compiler.training import CsvLog, TensorBoardLog

    logs: list[Log] = [CsvLog(arguments.log, step)] if arguments.log else []
    return [*logs, TensorBoardLog(arguments.tensorboard, step)] if arguments.tensorboard else logs


def _summary(recipe: Recipe, threads: int) -> str:
    """What the packed file remembers of the training."""
    loop = recipe.loop
    imitated = f" imitating {recipe.imitate}" if recipe.imitates else ""
    return (
        f"{loop.epochs} epochs, batch {loop.batch}, learning rate {loop.rate:g}, loss {recipe.loss}{imitated}, "
        f"seed {loop.seed}, threads {threads}"
    )


def _print(arguments: argparse.Namespace, model: LoadedModel, recipe: Recipe, split: Split, tuned: FineTuning) -> None:
    from accel.reporting import to_records, to_text

    totals = compression_totals(tuned.compression)
    scores = _scores_table(recipe, split, tuned, totals)
    if not arguments.json:
        print(f"{model.source['spec']}: {model.source['description']}\n\n{to_text(scores)}", end="")
        return
    layers = layers_table(tuned.compression.reports, totals, ())
    facts = {"source": dict(model.source), **totals, "steps": tuned.steps, "frozen_share": tuned.frozen_share}
    print_json({**facts, "recipe": recipe.facts(), "scores": to_records(scores), "layers": to_records(layers)[:-1]})


def _scores_table(recipe: Recipe, split: Split, tuned: FineTuning, totals: Mapping[str, float]) -> Table:
    from accel.reporting import Column, Table

    columns = (
        Column("stage", "model"),
        Column("loss", f"loss: {'1 - cosine' if recipe.loss == 'cosine' else recipe.loss}", "1"),
        Column("cosine", "cosine to float", "1"),
        Column("relations", "pairs of samples: r with float", "1"),
        Column("accuracy", "accuracy", "percent"),
    )
    known = columns if split.held_back.labels is not None else columns[:-1]
    rows = tuple({column.key: getattr(score, column.key) for column in known} for score in tuned.scores)
    return Table("Held-back samples", known, rows, tuple(_notes(recipe, split, tuned, totals)))


def _notes(recipe: Recipe, split: Split, tuned: FineTuning, totals: Mapping[str, float]) -> Iterator[str]:
    yield (
        f"trained on {len(split.training):,} samples in {tuned.steps:,} steps, "
        f"scored on {len(split.held_back):,} others"
    )
    if tuned.steps < FEW_STEPS:
        yield f"these are few optimiser steps (below {FEW_STEPS}); a smaller --batch or more --epochs gives more"
    yield (
        f"{totals['weights']:,} weights in {totals['weight_bytes']:,} bytes: {totals['bits_per_weight']:.2f} bits "
        "each, codebooks and scales included"
    )
    yield from _int8_notes(recipe, tuned.compression)
    if recipe.weights.freezing is not None and tuned.frozen_share:
        interval = recipe.weights.freezing.interval(tuned.steps)
        yield f"{tuned.frozen_share:.2%} of signs are frozen; checked every {interval} steps"


def _int8_notes(recipe: Recipe, compression: Compression) -> Iterator[str]:
    """Which layers did not get the codec asked for, though nobody asked for another."""
    from compiler.compress.choices import kept_choices

    kept = kept_choices(compression.packed.graph, recipe.keep)
    found = [f"{each.name} ({each.reason})" for each in compression.reports if each.reason and each.name not in kept]
    if found:
        more = f" and {len(found) - NAMED} others (--json)" if len(found) > NAMED else ""
        verb = "are" if len(found) > 1 else "is"
        yield f"{len(found)} of {len(compression.reports)} layers {verb} int8: {listed(found[:NAMED])}{more}"
