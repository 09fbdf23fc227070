"""Generate hardware: Verilog of a decoder with its size and speed on FPGAs, and weight streams to test it with."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from accel.cli.options import add_json, check_outputs, output_file, output_folder, positive_integer, print_json, say
from accel.errors import ConfigError, listed, nearest

if TYPE_CHECKING:
    from rtl.fpga_report import FpgaReport
    from rtl.generate import DecoderRequest, FpgaRequest
    from rtl.names import DecoderNames

HELP = "generate hardware"
EXAMPLE = "accel rtl decoder --codec ssvq:k=256,d=8 -o decoder.v --fpga ecp5-25k"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    decoder = kinds.add_parser("decoder", help="Verilog of a decoder", allow_abbrev=False)
    _add_decoder(decoder)
    _add_fpga(decoder)
    add_json(decoder)
    decoder.set_defaults(generate=_decoder)
    streams = kinds.add_parser("export", help="weight streams of a program as $readmemh files", allow_abbrev=False)
    _add_export(streams)
    streams.set_defaults(generate=_export)


def _add_decoder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--codec", required=True, help="e.g. ssvq:k=256,d=8 (accel codecs)")
    parser.add_argument("--lookups", metavar="P", type=positive_integer, default=1, help="vectors a cycle (default 1)")
    parser.add_argument(
        "--input-bits", metavar="BITS", type=positive_integer, default=64, help="of the stream, 64 or 128 (default 64)"
    )
    parser.add_argument("--kmax", metavar="K", type=positive_integer, help="codewords there is room for (the codec's)")
    parser.add_argument(
        "--fabric", metavar="NAME", default="generic", help="generic (default), or ecp5, ice40: their memories"
    )
    parser.add_argument(
        "--name",
        metavar="NAME",
        help="of Verilog module, C header (accel_NAME.h) and FuseSoC core, one each in a design (default decoder)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=output_file, required=True, help="the Verilog to write")
    parser.add_argument(
        "--package",
        metavar="DIR",
        type=output_folder,
        help="write generic Verilog with README (ports, streams), registers (Markdown, C), FuseSoC core, testbench",
    )


def _add_fpga(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fpga",
        metavar="DEVICE",
        nargs="+",
        default=[],
        help="synthesise and place: ecp5-25k, ecp5-85k, up5k, gw1nr-9; xc7 is synthesised only",
    )
    parser.add_argument("--speed", metavar="GRADE", help="speed grade (default: the slowest; ecp5: 6, 7, 8)")
    parser.add_argument("--seeds", metavar="N", type=positive_integer, default=3, help="runs of the placer (default 3)")
    parser.add_argument(
        "--target", metavar="MHZ", type=positive_integer, help="clock asked for (default: the device's)"
    )
    parser.add_argument("--report", metavar="FILE", type=output_file, help="JSON with all that --fpga found")


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROG", help="a compiled program (*.prog.safetensors)")
    parser.add_argument("-o", "--output", metavar="DIR", type=output_folder, required=True, help="where files go")
    parser.add_argument("--weights", metavar="NAME", nargs="+", help="these weights (default: all that have a stream)")


def run(arguments: argparse.Namespace) -> int:
    """Generate what was asked for."""
    code: int = arguments.generate(arguments)
    return code


def _export(arguments: argparse.Namespace) -> int:
    from accel.program import read_program
    from rtl.export import export_streams

    for path in export_streams(read_program(arguments.program), arguments.output, arguments.weights):
        print(path)
    return 0


def _decoder(arguments: argparse.Namespace) -> int:
    from accel.atomic import write_text
    from accel.cli.progress import progress
    from rtl.generate import decoder_verilog, measure_decoder, write_decoder_package

    config, request, names = _config(arguments), _request(arguments), _names(arguments.name)
    fabric = _fabric(arguments.fabric)
    write_text(arguments.output, decoder_verilog(config, fabric, names))
    say(f"wrote {arguments.output}")
    if arguments.package:
        say(f"wrote {len(write_decoder_package(config, arguments.package, names))} files to {arguments.package}")
    with progress() as report:
        reports = list(measure_decoder(config, request, report))
    document = _document(config, reports)
    if arguments.report:
        write_text(arguments.report, json.dumps(document, indent=1) + "\n")
    if arguments.json:
        print_json(document)
    elif reports:
        _print_text(config, reports)
    return 0


def _config(arguments: argparse.Namespace) -> DecoderRequest:
    from accel.codecs import parse_codec
    from rtl.generate import DecoderRequest

    codec = str(parse_codec(arguments.codec))
    return DecoderRequest(codec, arguments.lookups, arguments.input_bits, arguments.kmax)


def _names(module: str | None) -> DecoderNames:
    from rtl.names import DECODER, DecoderNames

    return DECODER if module is None else DecoderNames(module)


def _request(arguments: argparse.Namespace) -> FpgaRequest:
    from rtl.devices import device_named
    from rtl.generate import FpgaRequest

    _check_report(arguments)
    return FpgaRequest(tuple(map(device_named, arguments.fpga)), arguments.speed, arguments.seeds, arguments.target)


def _check_report(arguments: argparse.Namespace) -> None:
    for option in ("report", "speed", "target"):
        if getattr(arguments, option) is not None and not arguments.fpga:
            raise ConfigError(f"--{option} without --fpga: there is nothing to report")
    check_outputs([arguments.output, arguments.report], ())


def _fabric(name: str) -> Any:
    from rtl.devices import FABRICS

    if name not in FABRICS:
        raise ConfigError(f"--fabric {name}; allowed: {listed(FABRICS)}{nearest(name, FABRICS)}")
    return FABRICS[name]


def _document(config: DecoderRequest, reports: list[FpgaReport]) -> dict[str, Any]:
    from dataclasses import asdict

    from rtl.fpga_report import report_to_document
    from rtl.generate import weights_per_cycle

    facts = {"decoder": asdict(config), "weights_per_cycle": weights_per_cycle(config)}
    return {**facts, "fpga": [report_to_document(report) for report in reports]}


def _print_text(config: DecoderRequest, reports: list[FpgaReport]) -> None:
    from accel.reporting import to_text
    from rtl.fpga_report import reports_table
    from rtl.generate import weights_per_cycle

    title = f"Decoder of {config.codec}, {config.lookups_per_cycle} lookups a cycle, input {config.input_bits} bits"
    print(to_text(reports_table(title, reports, weights_per_cycle(config))), end="")
