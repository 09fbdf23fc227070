"""Compress a model's weights, layer by layer, and say what that costs in error and saves in bytes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from accel.calibration import BUDGET_SAMPLES, WHOLE_SAMPLES
from accel.cli.options import (
    add_calibration,
    add_compression,
    add_json,
    add_model,
    add_output,
    check_outputs,
    print_json,
    say,
)
from accel.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from accel.cli.progress import Report
    from accel.cli.tensors import Calibrating
    from accel.codecs import Codec
    from accel.packed import Packed
    from accel.packed_spool import Spool
    from accel.reporting import Table
    from compiler.compress import Budget, Compression, LayerReport
    from compiler.frontend import LoadedModel

HELP = "compress a model's weights"
EXAMPLE = "accel compress deit_tiny --codec ssvq:k=16,d=8 --keep 'head*=int8' -o net.vq.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    add_model(parser)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--codec", help="e.g. int8 or ssvq:k=16,d=8 (accel codecs)")
    asked.add_argument(
        "--budget",
        metavar="BITS",
        type=float,
        help="stored bits a weight on average, codebooks and scales included: each layer gets one of --codecs, by the "
        f"error of the outputs on the first {BUDGET_SAMPLES} samples of --calibrate (whole models on {WHOLE_SAMPLES}), "
        "or that of the weights without",
    )
    parser.add_argument("--codecs", metavar="CODEC", nargs="+", help="what --budget may choose from")
    parser.add_argument(
        "--weighted",
        action="store_true",
        help="weigh the error of each weight by the mean square of the activations it multiplies (with --calibrate)",
    )
    add_compression(parser)
    add_calibration(parser)
    add_output(
        parser,
        "the packed file to write (*.vq.safetensors). Layers leave memory as they are coded; those of "
        "ARCH:weights.safetensors also enter it one at a time, unless --calibrate or --budget needs the whole model",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compress, write, and print one row a layer and the totals."""
    from accel.cli.budget_report import spending_facts, spending_notes
    from accel.cli.progress import progress
    from accel.cli.tensors import calibration_samples
    from accel.packed import write_packed
    from accel.packed_spool import Spool
    from accel.reporting import to_records, to_text
    from compiler.compress import Budget, check_of_use
    from compiler.quantise import candidate_methods

    check_outputs([arguments.output], (*model_files(arguments.model), arguments.calibrate or ""))
    candidate_methods(arguments.calibration_method)
    codec, keep = asked_codec(arguments), kept_codecs(arguments.keep)
    if arguments.weighted and not arguments.calibrate:
        raise ConfigError("--weighted without --calibrate; allowed: with --calibrate FILE.npz")
    model = load(arguments)
    if not isinstance(codec, Budget):
        check_of_use(model.graph, codec, keep, arguments.vector_axis)
    calibrating = calibration_samples(arguments.calibrate, model.graph) if arguments.calibrate else None
    with Spool(arguments.output) as spool:
        with progress() as report:
            result = compress_loaded(model, codec, arguments, report, keep, calibrating, arguments.weighted, spool)
        write_packed(result.packed, arguments.output, spool)
        say(f"warning: {text}" for text in result.warnings)
        totals = compression_totals(result)
    notes = (*spending_notes(result.spending), *_calibration_notes(result.packed))
    table = layers_table(result.reports, totals, notes)
    if arguments.json:
        found = {"budget": spending_facts(result.spending), "calibration": _calibration(result.packed)}
        facts = {"source": dict(model.source), **totals, **found}
        print_json({**facts, "layers": to_records(table)[:-1]})
    else:
        print(f"{model.source['spec']}: {model.source['description']}\n\n{to_text(table)}", end="")
    say(f"wrote {arguments.output} ({arguments.output.stat().st_size:,} bytes)")
    return 0


def asked_codec(arguments: argparse.Namespace) -> Codec | Budget:
    """What ``--codec``, or ``--budget`` and ``--codecs``, ask for; raises ``ConfigError`` or ``CodecError``."""
    from accel.codecs import parse_codec
    from compiler.compress import Budget

    if arguments.budget is None:
        if arguments.codecs:
            raise ConfigError("--codecs without --budget; allowed: with --budget BITS")
        return parse_codec(arguments.codec)
    if not arguments.codecs:
        raise ConfigError("--budget without --codecs; allowed: with --codecs CODEC [CODEC ...]")
    return Budget(arguments.budget, tuple(map(parse_codec, arguments.codecs)))


def model_files(spec: str) -> tuple[str, str]:
    """What may be a file in MODEL: all of it, or what follows ``ARCH:``."""
    return spec, spec.partition(":")[2]


def load(arguments: argparse.Namespace) -> LoadedModel:
    """The MODEL of ``add_model``; messages of the loader go to stderr."""
    from compiler.frontend import load_model

    shapes = dict(arguments.input_shapes) or None
    return load_model(arguments.model, seed=arguments.seed, input_shapes=shapes, progress=say)


def compress_loaded(
    model: LoadedModel,
    codec: Codec | Budget,
    arguments: argparse.Namespace,
    report: Report,
    keep: Sequence[tuple[str, Codec]] = (),
    calibrating: Calibrating | None = None,
    weighted: bool = False,
    spool: Spool | None = None,
) -> Compression:
    """Compress with the options of ``add_compression``; the result remembers where the weights came from. With a
    ``spool`` its layers are kept there, not in memory.

    Raises ``ModelError`` for a model in which no weight could be compressed.
    """
    from compiler.compress import compress

    if not model.graph.weight_ops():
        raise ModelError(f"nothing to compress: '{model.source['spec']}' has no conv or gemm with constant weights")
    samples = calibrating.samples if calibrating else ()
    result = compress(
        model.graph,
        model.weights,
        codec,
        keep,
        arguments.scale,
        arguments.vector_axis,
        seed=arguments.seed,
        progress=report,
        description=source_facts(model.source),
        calibration=samples,
        method=arguments.calibration_method if calibrating else "minmax",
        weighted=weighted,
        spool=spool,
    )
    return with_origin(result, calibrating.origin) if calibrating else result


def with_origin(result: Compression, origin: str) -> Compression:
    """Scales found on random inputs say so wherever they go."""
    quantisation = result.packed.quantisation
    assert quantisation is not None
    named = replace(quantisation, method=quantisation.method + origin)
    return replace(result, packed=replace(result.packed, quantisation=named))


def _calibration(packed: Packed) -> dict[str, Any] | None:
    """What the report says of it: samples, method, tensors in all and with channel exponents."""
    found = packed.quantisation
    if found is None:
        return None
    channels = sum(bool(code.exponents) for code in found.tensors.values())
    return {
        "samples": found.samples,
        "method": found.method,
        "tensors": len(found.tensors),
        "tensors_with_exponents": channels,
    }


def _calibration_notes(packed: Packed) -> Iterator[str]:
    facts = _calibration(packed)
    if facts is not None:
        yield (
            f"activations calibrated on {facts['samples']} sample{'s' if facts['samples'] > 1 else ''} "
            f"({facts['method']}): {facts['tensors']} tensors, {facts['tensors_with_exponents']} with channel exponents"
        )


def source_facts(source: Mapping[str, Any]) -> dict[str, str]:
    """What the packed file records of where its weights came from."""
    return {key: str(source[key]) for key in ("spec", "description", "weights")}


def kept_codecs(texts: Sequence[str]) -> list[tuple[str, Codec]]:
    """Pattern and codec of each ``--keep``; raises ``ConfigError`` or ``CodecError``."""
    return [_kept(text) for text in texts]


def _kept(text: str) -> tuple[str, Codec]:
    from accel.codecs import parse_codec

    glob, equals, codec = text.partition("=")
    if not (glob and equals):
        raise ConfigError(f"--keep {text}; allowed: GLOB=CODEC, e.g. 'head*=int8'")
    return glob, parse_codec(codec)


def compression_totals(result: Compression) -> dict[str, float]:
    """Figures of all layers together, in the units of ``layers_table``."""
    weights = sum(report.shape[0] * report.shape[1] for report in result.reports)
    stored = sum(sum(report.bytes_by_kind.values()) for report in result.reports)
    side = parameter_bytes(result.packed)
    return {
        "weights": weights,
        "bits_per_weight": bits_per_weight(result.reports),
        "relative_error": mean_relative_error(result.reports),
        "weight_bytes": stored,
        "parameter_bytes": side,
        "ratio_to_int8": weights / stored,
        "ratio_to_float32": 4 * weights / stored,
    }


def parameter_bytes(packed: Packed) -> int:
    """Bytes of everything no codec touches (biases, norms, embeddings) as the packed file stores it."""
    return sum(array.nbytes for array in packed.parameters.values())


def bits_per_weight(reports: Sequence[LayerReport]) -> float:
    """All bits stored for conv and gemm weights, codebooks and scales included, over those weights."""
    stored = sum(sum(report.bytes_by_kind.values()) for report in reports)
    return 8 * stored / sum(report.shape[0] * report.shape[1] for report in reports)


def mean_relative_error(reports: Sequence[LayerReport]) -> float:
    """Relative squared error of the layers, averaged over their weights."""
    weights = [report.shape[0] * report.shape[1] for report in reports]
    errors = [report.relative_error for report in reports]
    return sum(w * e for w, e in zip(weights, errors, strict=True)) / sum(weights)


def layers_table(reports: Sequence[LayerReport], totals: Mapping[str, float], calibration: Iterable[str]) -> Table:
    """One row a layer and one for all."""
    from accel.reporting import Column, Table, times_less

    columns = (
        Column("layer", "layer"),
        Column("shape", "out x reduction"),
        Column("codec", "codec"),
        Column("bits_per_weight", "bits/weight", "bit"),
        Column("relative_error", "relative error", "1"),
        Column("bytes", "stored", "B", "kB"),
        Column("padded_weights", "padded weights", "1", "count"),
        Column("reason", "why another codec"),
    )
    total = {
        "layer": "all",
        "bits_per_weight": totals["bits_per_weight"],
        "relative_error": totals["relative_error"],
        "bytes": totals["weight_bytes"],
        "padded_weights": sum(report.padded_weights for report in reports),
        "reason": "",
    }
    notes = (
        "relative error: squared error over squared weights, averaged over weights in the last row",
        f"{totals['weights']:,} weights in {totals['weight_bytes']:,} bytes (codebooks and scales included): "
        f"{times_less(totals['ratio_to_int8'])} than one byte a weight, "
        f"{times_less(totals['ratio_to_float32'])} than fp32",
        f"biases, norms and embeddings take {totals['parameter_bytes']:,} bytes beside that, uncompressed",
        *calibration,
    )
    return Table("Layers", columns, (*_layer_rows(reports), total), notes)


def _layer_rows(reports: Sequence[LayerReport]) -> Iterator[dict[str, Any]]:
    for report in reports:
        yield {
            "layer": report.name,
            "shape": f"{report.shape[0]}x{report.shape[1]}",
            "codec": str(report.codec),
            "bits_per_weight": report.bits_per_weight,
            "relative_error": report.relative_error,
            "bytes": sum(report.bytes_by_kind.values()),
            "padded_weights": report.padded_weights,
            "reason": report.reason,
        }
