"""A decoder as a folder to hand on: Verilog, README, registers, C header, FuseSoC core, timing diagram, testbench."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType

from accel import __version__
from accel.atomic import write_text
from accel.errors import FormatError
from rtl.configuration import DecoderConfig
from rtl.decoder import Decoder
from rtl.devices import GENERIC, Fabric
from rtl.names import DECODER, DecoderNames
from rtl.register_text import c_header, facts, markdown
from rtl.stream_text import stream_markdown
from rtl.testbench import testbench_files
from rtl.verilog import to_verilog
from rtl.waves import drawn, stream_waves

# What Verilator's -Wall says of Verilog that Yosys wrote, and why it is of no concern. All else stays on: latches,
# loops, undriven signals, multiple drivers, wrong pins.
LINT_WAIVERS: Mapping[str, str] = MappingProxyType(
    {
        "DECLFILENAME": "all modules are in one file",
        "UNUSEDSIGNAL": "intermediate results have carries, and queues fields, that nobody needs",
        "WIDTHEXPAND": "the narrower operand of a sum is extended by Verilog's own rule",
        "WIDTHTRUNC": "the upper bits of a shifted table are not wanted",
        "CASEINCOMPLETE": "every case has a value assigned before it",
        "PROCASSINIT": "registers have their reset value at power-up, too",
        "UNSIGNED": "comparisons with zero stay in for the sake of one form for all parameters",
        "ASCRANGE": "fields without bits, of a decoder of one vector a cycle",
    }
)


def write_package(config: DecoderConfig, folder: str | Path, names: DecoderNames = DECODER) -> list[Path]:
    """Write all files of a decoder into ``folder``, which is made if missing; returns them.

    Raises ``FormatError`` if that is impossible, ``ConfigError`` for what cannot be built.
    """
    target = Path(folder)
    files = package_files(config, names)
    try:
        for name in files:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FormatError(f"cannot write folder '{folder}': {error.strerror or error}") from error
    for name, text in files.items():
        write_text(target / name, text)
    return [target / name for name in files]


def package_files(config: DecoderConfig, names: DecoderNames = DECODER) -> Mapping[str, str]:
    """File name -> text of everything in a package."""
    bench = {f"tb/{name}": text for name, text in testbench_files(config, names=names).items()}
    return {
        names.verilog: decoder_text(config, names=names),
        "README.md": stream_markdown(config, names),
        "registers.md": markdown(config, names),
        names.header: c_header(config, names),
        **_diagram(config),
        **bench,
        names.core: core_file(config, list(bench), names),
    }


def _diagram(config: DecoderConfig) -> dict[str, str]:
    """The streams' timing: for WaveDrom, and drawn by it."""
    text = json.dumps(stream_waves(config), indent=1) + "\n"
    return {"streams.json": text, "streams.svg": drawn(text)}


def decoder_text(config: DecoderConfig, fabric: Fabric = GENERIC, names: DecoderNames = DECODER) -> str:
    """Verilog of the decoder; all parameters and the waivers of lint are comments on top."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    text = to_verilog(Decoder(config), names.module, header=values, fabric=fabric)
    waivers = "\n".join(f"// {why}:\n// verilator lint_off {name}" for name, why in LINT_WAIVERS.items())
    head, body = text.split("\n\n", 1)
    return f"{head}\n//\n{waivers}\n\n{body}"


def core_file(config: DecoderConfig, bench: list[str], names: DecoderNames = DECODER) -> str:
    """FuseSoC's description (CAPI2): ``fusesoc run --target=sim`` and ``--target=lint``."""
    vectors = "\n".join(
        f"      - {name}: {{file_type: user, copyto: {Path(name).name}}}" for name in bench if name.endswith(".memh")
    )
    version = __version__.split("+")[0].split(".dev")[0]
    return _CORE.format(version=version, build=facts(config), vectors=vectors, **names.fields())


_CORE = """\
CAPI=2:
name: "accel:decoder:{module}:{version}"
description: "Weight decoder: {build}"

filesets:
  rtl:
    files:
      - {verilog}: {{file_type: verilogSource}}
  driver:
    files:
      - {header}: {{file_type: user}}
      - README.md: {{file_type: user}}
      - registers.md: {{file_type: user}}
      - streams.json: {{file_type: user}}
      - streams.svg: {{file_type: user}}
  tb:
    files:
      - tb/{testbench}.v: {{file_type: systemVerilogSource}}
{vectors}

targets:
  default:
    filesets: [rtl, driver]
    toplevel: {module}
  sim:
    filesets: [rtl, tb]
    toplevel: {testbench}
    flow: sim
    flow_options:
      tool: icarus
      iverilog_options: [-g2012]
      verilator_options: [--binary, --timing, -Wno-fatal, -CFLAGS, -std=c++20]
  lint:
    filesets: [rtl]
    toplevel: {module}
    flow: lint
    flow_options:
      tool: verilator
      verilator_options: [-Wall]
"""
