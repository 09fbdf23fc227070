"""From the parameters of a decoder to its Verilog, and to what it takes on FPGAs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from accel.codecs import parse_codec
from accel.errors import ConfigError, ToolError, listed
from rtl.devices import GENERIC, Device, Fabric
from rtl.fpga import check_seeds, measure
from rtl.fpga_report import FpgaReport
from rtl.names import DECODER, DecoderNames
from rtl.tools import require, require_package

INPUT_BITS = (64, 128)


@dataclass(frozen=True, slots=True)
class DecoderRequest:
    """What a decoder is generated from.

    ``codec``: spelled as everywhere (``ssvq:k=256,d=8``). ``lookups_per_cycle``: vectors decoded a cycle.
    ``input_bits``: width of the weight stream. ``max_entries``: codewords there is room for (default: the codec's).
    Raises ``CodecError`` or ``ConfigError``.
    """

    codec: str
    lookups_per_cycle: int = 1
    input_bits: int = 64
    max_entries: int | None = None

    def __post_init__(self) -> None:
        entries = parse_codec(self.codec).codebook_entries
        if self.input_bits not in INPUT_BITS:
            raise ConfigError(f"input of {self.input_bits} bits; allowed: {listed(map(str, INPUT_BITS))}")
        if self.max_entries is not None and self.max_entries < entries:
            raise ConfigError(f"room for {self.max_entries} codewords; {self.codec} needs {entries}")


class DecoderGenerator(Protocol):
    """The part of ``rtl.decoder`` that is used here."""

    def hardware_config(self, asked: DecoderRequest) -> Any:
        """``rtl.configuration.DecoderConfig`` of what was asked for; raises ``ConfigError`` for what cannot be
        built."""


def _generator() -> DecoderGenerator:
    require_package("amaranth")
    try:
        return cast(DecoderGenerator, importlib.import_module("rtl.decoder"))
    except ModuleNotFoundError as error:
        if error.name != "rtl.decoder":
            raise
        raise ToolError("this version of accel has no generator of decoders") from error


def decoder_verilog(config: DecoderRequest, fabric: Fabric = GENERIC, names: DecoderNames = DECODER) -> str:
    """Verilog of a decoder, made of what ``fabric`` has; its header holds all parameters. The same text as the Verilog
    (``decoder.v`` by default) of its package, which is made for the generic fabric.

    Raises ``ConfigError`` for an impossible decoder and ``ToolError`` if Amaranth is missing.
    """
    hardware = _generator().hardware_config(config)
    return cast(str, importlib.import_module("rtl.package").decoder_text(hardware, fabric, names))


@dataclass(frozen=True, slots=True)
class FpgaRequest:
    """Devices to measure on, and how: see ``rtl.fpga.measure``.

    Raises ``ConfigError`` for what is impossible and ``ToolError`` for a missing tool, before any work is done.
    """

    devices: Sequence[Device]
    speed: str | None = None
    seeds: int = 3
    target_mhz: int | None = None

    def __post_init__(self) -> None:
        check_seeds(self.seeds)
        for device in self.devices:
            device.speed(self.speed)
            require(device.family.tools)


def measure_decoder(
    config: DecoderRequest, request: FpgaRequest, progress: Callable[[float, float, str], None]
) -> Iterator[FpgaReport]:
    """One report a device, each of the decoder as made for the device's fabric. Raises as ``measure`` does.

    What is measured has the default name, whatever the decoder is called: a name costs nothing, and the same decoder
    under another one is found in the cache.
    """
    for device in request.devices:
        yield measure(
            decoder_verilog(config, device.family.fabric),
            device,
            speed=request.speed,
            seeds=request.seeds,
            target_mhz=request.target_mhz,
            progress=progress,
        )


def weights_per_cycle(config: DecoderRequest) -> float:
    """Weights that leave a decoder each cycle, as far as its input allows."""
    hardware = _generator().hardware_config(config)
    return float(hardware.sustained_vectors_per_cycle * hardware.vector_length)


def write_decoder_package(config: DecoderRequest, folder: str | Path, names: DecoderNames = DECODER) -> list[Path]:
    """All files of ``rtl.package`` for a decoder; returns them. Raises as ``decoder_verilog`` and ``FormatError``."""
    hardware = _generator().hardware_config(config)
    return cast("list[Path]", importlib.import_module("rtl.package").write_package(hardware, folder, names))
