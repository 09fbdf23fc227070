"""From the layer registers to jobs: counts are brought into the form of jobs when they are written, not when they are
needed, so that one layer follows the other without a pause."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.codecs.records import WORD_BITS
from rtl.axi_lite import DATA_BITS
from rtl.configuration import MOST_CODE_BITS, DecoderConfig
from rtl.jobs import extent_layout, job_layout, run_layout, turns, turns_layout
from rtl.layer import STRIP_COUNT_BITS, limits
from rtl.queue import Queue
from rtl.register_file import WORD_ADDRESS_BITS
from rtl.registers import STRIP_KINDS, WORD_BYTES, RegisterMap

TILES_AHEAD_BITS = 4  # tiles that have left before their job is looked at: as many as a change of jobs takes
_WIDTH_BITS = MOST_CODE_BITS.bit_length()


def count_layout(bits: int) -> data.StructLayout:
    """``less_2`` + 2 of something, of which ``double`` marks 2, or a ``single`` one (or none)."""
    return data.StructLayout({"less_2": bits, "single": 1, "double": 1})


def parts(view: data.View) -> list[tuple[str, Value]]:
    """The fields of a count, by name."""
    return [(name, view[name]) for name, _ in view.shape()]


def counts_layout(config: DecoderConfig) -> data.StructLayout:
    """What registers say of the strips of one kind."""
    return data.StructLayout(
        {
            "vectors": run_layout(config),
            "last_vectors": run_layout(config),
            "beats": count_layout(config.beat_count_bits),
            **dict.fromkeys(("code_words", "side_words"), extent_layout(config)),
        }
    )


def width_layout(config: DecoderConfig) -> data.StructLayout:
    """What follows from the width of a code; ``unknown`` is one this build has not."""
    head = {"code_bits": config.code_width_bits, "unknown": 1, "aligned": 1}
    return data.StructLayout({**head, **turns_layout(config)})


def layer_layout(config: DecoderConfig) -> data.StructLayout:
    """All that is known of a layer."""
    return data.StructLayout(
        {
            "width": width_layout(config),
            "strips": count_layout(STRIP_COUNT_BITS),
            "tiles": count_layout(config.tile_count_bits),
            **dict.fromkeys(STRIP_KINDS, counts_layout(config)),
        }
    )


class LayerRegisters(wiring.Component):
    """The next layer, from writes to its registers (``rtl.axi_lite``: written data have stood still for a while)."""

    def __init__(self, config: DecoderConfig, registers: RegisterMap) -> None:
        self._config, self._map = config, registers
        super().__init__(
            {
                "write": In(1),
                "write_address": In(WORD_ADDRESS_BITS),
                "write_data": In(DATA_BITS),
                "layer": Out(layer_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._widths(m)
        whole, groups, extra, extent = self._forms(m)
        counts = [("STRIPS", self.layer.strips, whole), ("TILES", self.layer.tiles, whole)]
        for kind in STRIP_KINDS:
            of_kind = self.layer[kind]
            forms = {"beats": whole, "code_words": extent, "side_words": extent}
            counts += [(f"{kind}_{name}".upper(), of_kind[name], form) for name, form in forms.items()]
            for name in ("vectors", "last_vectors"):
                run = of_kind[name]
                with m.If(self._writes(m, f"{kind}_{name}".upper())):
                    m.d.sync += [run.groups_less_2.eq(groups.less_2), run.single.eq(groups.single), run.extra.eq(extra)]
        for name, count, form in counts:
            with m.If(self._writes(m, name)):
                m.d.sync += [field.eq(form[key]) for key, field in parts(count)]
        return m

    def _writes(self, m: Module, name: str) -> Value:
        chosen = Signal(name=f"{name.lower()}_chosen")
        m.d.sync += chosen.eq(self.write_address == self._map[name].offset // WORD_BYTES)
        return self.write & chosen

    def _forms(self, m: Module) -> tuple[data.View, data.View, Value, Mapping[str, Value]]:
        """What was written, as a count; as a count of groups of so many vectors; the last group's ``extra``; and as
        an extent of so many 64-bit words."""
        bits = max(most.bit_length() for most in limits(self._config).values())
        lanes = (self._config.lookups - 1).bit_length()
        some, less_1 = Signal(), Signal(bits)
        value = self.write_data[:bits]
        m.d.sync += [some.eq(value.any()), less_1.eq(value - some)]
        whole = self._count(m, less_1, "whole")
        groups = self._count(m, less_1[lanes:], "groups")
        return whole, groups, less_1[:lanes], self._extent(m, whole, less_1)

    def _extent(self, m: Module, whole: data.View, less_1: Value) -> Mapping[str, Value]:
        halvings = (self._config.input_bits // WORD_BITS).bit_length() - 1
        beats = self._count(m, less_1[halvings:], "extent") if halvings else whole
        short = Signal()
        if self._config.halves:
            m.d.sync += short.eq(~less_1[0])
        return {**dict(parts(beats)), "short": short}

    def _count(self, m: Module, less_1: Value, name: str) -> data.View:
        more, count = Signal(name=f"{name}_more"), Signal(count_layout(len(less_1)), name=name)
        m.d.sync += [more.eq(less_1.any()), count.less_2.eq(less_1 - more)]
        m.d.sync += [count.single.eq(~more), count.double.eq(less_1 == 1)]
        return count

    def _widths(self, m: Module) -> None:
        """A table of the build's code widths."""
        layout = width_layout(self._config)
        known = {code_bits: layout.const(values).as_bits() for code_bits, values in self._known_widths()}
        unknown = layout.const({"unknown": 1}).as_bits()
        table = Array([known.get(code_bits, unknown) for code_bits in range(1 << _WIDTH_BITS)])
        written, width, too_wide = self.write_data[:8], Signal(layout), Signal()
        m.d.sync += [width.as_value().eq(table[written[:_WIDTH_BITS]]), too_wide.eq(written[_WIDTH_BITS:].any())]
        with m.If(self._writes(m, "CODE_BITS")):
            m.d.sync += [self.layer.width.eq(width), self.layer.width.unknown.eq(width.unknown | too_wide)]

    def _known_widths(self) -> Iterator[tuple[int, dict[str, int]]]:
        for row in self._config.formats.values():
            yield (
                row.code_bits,
                {
                    "code_bits": row.code_bits,
                    "unknown": 0,
                    "aligned": int(row.kind == "aligned"),
                    **{name: turns(row)[name] for name in turns_layout(self._config)},
                },
            )


class JobSource(wiring.Component):
    """A job for each strip of each queued layer, one a cycle; ``paused`` holds them back.

    ``start`` queues ``layer`` if there is ``room``.
    """

    def __init__(self, config: DecoderConfig, memory_style: str = "distributed") -> None:
        self._config, self._style = config, memory_style
        super().__init__(
            {
                "layer": In(layer_layout(config)),
                "start": In(1),
                "room": Out(1),
                "paused": In(1),
                "job": Out(stream.Signature(job_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.layers = layers = Queue(layer_layout(self._config), memory_style=self._style)
        layer = data.View(layer_layout(self._config), layers.data)
        active, first, edge, index, accept = Signal(), Signal(), Signal(), Signal(STRIP_COUNT_BITS), Signal()
        m.d.comb += [
            layers.write.eq(self.start & layers.room),
            layers.write_data.eq(self.layer),
            self.room.eq(layers.room),
            self.job.valid.eq(active & ~self.paused),
            accept.eq(self.job.valid & self.job.ready),
        ]
        # A layer is left in a cycle of its own: nothing as wide as a layer waits for what the reader does.
        m.d.sync += [
            layers.take.eq(accept & edge),
            active.eq(Mux(active, ~(accept & edge), layers.valid & ~layers.take)),
        ]
        with m.If(~active):
            m.d.sync += [first.eq(1), index.eq(0), edge.eq(layer.strips.single)]
        with m.Elif(accept):
            m.d.sync += [first.eq(0), index.eq(index + 1), edge.eq(index == layer.strips.less_2)]
        self._fill(m, layer, first, edge)
        return m

    def _fill(self, m: Module, layer: data.View, first: Signal, edge: Signal) -> None:
        job, counts = self.job.p, Signal(counts_layout(self._config))
        width = layer.width
        strip = {
            "beats_less_2": counts.beats.less_2,
            "code": counts.code_words.as_value(),
            "side": counts.side_words.as_value(),
            **{name: width[name] for name in ("aligned", *turns_layout(self._config))},
        }
        m.d.comb += [
            counts.eq(Mux(edge, layer.edge.as_value(), layer.full.as_value())),
            job.code_bits.eq(width.code_bits),
            job.tiles_less_2.eq(layer.tiles.less_2),
            job.single.eq(layer.tiles.single),
            job.run.eq(counts.vectors),
            job.last_run.eq(counts.last_vectors),
            Cat(job.first, job.last, job.drop).eq(Cat(first, edge, width.unknown)),
            *(Value.cast(job.strip[name]).eq(value) for name, value in strip.items()),
        ]


class LayerTracker(wiring.Component):
    """Which layers are done: follows the tiles that leave (``tile_left``), job by job.

    ``job``: one was handed out, to be remembered; not while ``full``. ``layer_done`` pulses. A job to drop counts as
    done as soon as all before it are.
    """

    def __init__(self, config: DecoderConfig, memory_style: str = "distributed") -> None:
        self._config, self._style = config, memory_style
        super().__init__(
            {
                "job": In(1),
                "tiles_less_2": In(config.tile_count_bits),
                "single": In(1),
                "last": In(1),
                "drop": In(1),
                "full": Out(1),
                "tile_left": In(1),
                "layer_done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        names = ("single", "last", "drop")
        layout = data.StructLayout({"tiles_less_2": self._config.tile_count_bits, **dict.fromkeys(names, 1)})
        m.submodules.jobs = jobs = Queue(layout, memory_style=self._style)
        entry = data.View(layout, jobs.data)
        index, last, count = Signal(self._config.tile_count_bits), Signal(), Signal()
        left, some = Signal(TILES_AHEAD_BITS), Signal()  # ``some``: left != 0
        end = entry.drop | (count & (last | entry.single))
        m.d.comb += [
            jobs.write.eq(self.job),
            jobs.write_data.eq(Cat(getattr(self, name) for name in ("tiles_less_2", *names))),
            self.full.eq(~jobs.room),
            count.eq(jobs.valid & ~entry.drop & some),
            jobs.take.eq(jobs.valid & end),
        ]
        m.d.sync += self.layer_done.eq(jobs.take & entry.last)
        with m.If(self.tile_left ^ count):
            m.d.sync += [left.eq(left + Mux(self.tile_left, 1, -1)), some.eq(self.tile_left | (left != 1))]
        with m.If(count):
            m.d.sync += last.eq((index == entry.tiles_less_2) & ~end)  # no flag resets itself: see rtl.sequencer
        with m.If(jobs.take):
            m.d.sync += index.eq(0)
        with m.Elif(count):
            m.d.sync += index.eq(index + 1)
        return m
