"""The decoder as it is delivered: AXI4-Stream in and out, AXI4-Lite registers, flat port names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from amaranth.hdl import Cat, Module, Mux, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.codecs import parse_codec
from rtl.axi_lite import AxiLite, axi_lite_ports
from rtl.codebook_loader import BEAT_BYTES, CodebookLoader
from rtl.configuration import DecoderConfig
from rtl.core import Core
from rtl.planner import JobSource, LayerRegisters, LayerTracker
from rtl.register_file import RegisterFile
from rtl.registers import ADDRESS_BITS, register_map

if TYPE_CHECKING:
    from rtl import generate

BUS = "s_axil_"


class Decoder(wiring.Component):
    """Ports (``clk``, ``rst``: synchronous, active high):

    - ``s_axil_*``: AXI4-Lite, the registers of ``rtl.registers``.
    - ``s_axis_*``: the weight stream, ``input_bits`` wide; each strip is a packet.
    - ``s_axis_codebook_*``: 64 bits; each codebook is a packet, one for every layer, in their order. Absent for codecs
      without codebooks.
    - ``m_axis_*``: int8 weights of up to ``lookups`` vectors, first one in the low byte; ``tkeep`` marks the bytes of
      those that are there, ``tlast`` ends a tile.
    - ``irq``: an enabled event has happened; high until it is cleared.
    """

    def __init__(self, config: DecoderConfig) -> None:
        self._config = config
        super().__init__(dict(decoder_ports(config)))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, registers = self._config, register_map(self._config)
        style = "distributed" if getattr(platform, "lut_memory", True) else "block"
        m.submodules.core = core = Core(config, style)
        m.submodules.bus = bus = AxiLite(ADDRESS_BITS)
        m.submodules.registers = file = RegisterFile(registers, style)
        m.submodules.layer = layer = LayerRegisters(config, registers)
        m.submodules.source = source = JobSource(config, style)
        m.submodules.tracker = tracker = LayerTracker(config, style)
        self._connect_bus(m, bus, file, layer)
        self._connect_streams(m, core)
        tile_left = self.m_axis_tvalid & self.m_axis_tready & self.m_axis_tlast
        m.d.sync += tracker.tile_left.eq(tile_left)
        m.d.comb += [
            source.layer.eq(layer.layer),
            source.start.eq(file.start_start),
            source.paused.eq(tracker.full),
            tracker.job.eq(source.job.valid & source.job.ready),
            *(getattr(tracker, name).eq(source.job.p[name]) for name in ("tiles_less_2", "single", "last", "drop")),
        ]
        wiring.connect(m, source.job, core.job)
        partial = self._load_codebooks(m, core)
        self._count(m, file, core, tracker, source)
        self._report(m, file, core, partial, source, tracker, layer)
        return m

    def _connect_bus(self, m: Module, bus: AxiLite, file: RegisterFile, layer: LayerRegisters) -> None:
        for name, member in axi_lite_ports(ADDRESS_BITS).items():
            ours, theirs = getattr(self, f"{BUS}{name}"), getattr(bus, name)
            m.d.comb += theirs.eq(ours) if member.flow is In else ours.eq(theirs)
        for name in ("write", "write_address", "write_data"):
            m.d.comb += [getattr(user, name).eq(getattr(bus, name)) for user in (file, layer)]
        m.d.comb += [file.read_address.eq(bus.read_address), self.irq.eq(file.irq)]
        m.d.comb += [
            getattr(bus, name).eq(getattr(file, name)) for name in ("write_refused", "read_refused", "read_data")
        ]

    def _connect_streams(self, m: Module, core: Core) -> None:
        config, output = self._config, core.output
        keep = Cat((output.p.extra >= lane).replicate(config.vector_length) for lane in range(config.lookups))
        m.d.comb += [
            core.beat.valid.eq(self.s_axis_tvalid),
            core.beat.p.data.eq(self.s_axis_tdata),
            core.beat.p.last.eq(self.s_axis_tlast),
            self.s_axis_tready.eq(core.beat.ready),
            self.m_axis_tvalid.eq(output.valid),
            self.m_axis_tdata.eq(output.p.weights),
            self.m_axis_tkeep.eq(keep),
            self.m_axis_tlast.eq(output.p.last),
            output.ready.eq(self.m_axis_tready),
        ]

    def _load_codebooks(self, m: Module, core: Core) -> Value | int:
        """Between the stream of codebooks and ``core``; returns the loader's error."""
        if not self._config.has_codebook:
            return 0
        m.submodules.loader = loader = CodebookLoader(self._config)
        wiring.connect(m, loader.codeword, core.codeword)
        m.d.comb += [
            loader.beat.valid.eq(self.s_axis_codebook_tvalid),
            loader.beat.p.data.eq(self.s_axis_codebook_tdata),
            loader.beat.p.keep.eq(self.s_axis_codebook_tkeep),
            loader.beat.p.last.eq(self.s_axis_codebook_tlast),
            self.s_axis_codebook_tready.eq(loader.beat.ready),
        ]
        return loader.error_partial

    def _count(self, m: Module, file: RegisterFile, core: Core, tracker: LayerTracker, source: JobSource) -> None:
        m.d.comb += [
            file.busy_cycles.eq(file.status_busy),
            file.starved_cycles.eq(core.starved),
            file.blocked_cycles.eq(core.blocked),
            file.layers_done.eq(tracker.layer_done),
            file.tiles_out.eq(tracker.tile_left),
            file.status_room.eq(source.room),
        ]
        queued = file.start_start & source.room
        m.d.sync += file.status_busy.eq(file.status_layers.any())
        with m.If(queued ^ tracker.layer_done):  # up or down: what is added is a register
            m.d.sync += file.status_layers.eq(file.status_layers + Mux(tracker.layer_done, -1, 1))

    def _report(
        self,
        m: Module,
        file: RegisterFile,
        core: Core,
        partial: Value | int,
        source: JobSource,
        tracker: LayerTracker,
        layer: LayerRegisters,
    ) -> None:
        coded = self._config.has_codebook
        events = {
            "width": file.start_start & layer.layer.width.unknown,
            "packet_early": core.error_early,
            "packet_late": core.error_late,
            "codebook_overflow": core.error_overflow if coded else 0,
            "codebook_partial": partial,
            "codeword_range": core.error_range if coded else 0,
            "start_overrun": file.start_start & ~source.room,
            "layer_done": tracker.layer_done,
        }
        m.d.sync += [getattr(file, f"events_{name}").eq(event) for name, event in events.items()]


def decoder_ports(config: DecoderConfig) -> Mapping[str, wiring.Member]:
    """Every port but ``clk`` and ``rst``."""
    ports = {f"{BUS}{name}": member for name, member in axi_lite_ports(ADDRESS_BITS).items()}
    ports |= _stream("s_axis_", In, {"tdata": config.input_bits, "tlast": 1})
    if config.has_codebook:
        ports |= _stream("s_axis_codebook_", In, {"tdata": 8 * BEAT_BYTES, "tkeep": BEAT_BYTES, "tlast": 1})
    output = {"tdata": 8 * config.output_bytes, "tkeep": config.output_bytes, "tlast": 1}
    return {**ports, **_stream("m_axis_", Out, output), "irq": Out(1)}


def _stream(prefix: str, flow: Any, payload: dict[str, int]) -> dict[str, wiring.Member]:
    """The ports of an AXI4-Stream."""
    back = Out if flow is In else In
    names = {name: flow(width) for name, width in payload.items()}
    return {f"{prefix}{name}": member for name, member in {**names, "tvalid": flow(1), "tready": back(1)}.items()}


def hardware_config(asked: generate.DecoderRequest) -> DecoderConfig:
    """The hardware that a spelled-out request takes: its codec, with room for as many codewords as asked for."""
    codec: Any = parse_codec(asked.codec)
    if asked.max_entries is not None and codec.codebook_entries:
        codec = replace(codec, k=asked.max_entries)
    return DecoderConfig(codec, asked.lookups_per_cycle, asked.input_bits)
