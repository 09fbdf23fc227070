"""The decoder's pipeline: jobs, beats and codewords in, vectors of int8 weights out."""

from __future__ import annotations

import math
from collections.abc import Mapping

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.codecs.masks import masks
from accel.decoder_timing import TIMING
from rtl.codebook import READ_CYCLES, Codebooks, codeword_layout
from rtl.configuration import DecoderConfig, WordFormat
from rtl.credit_queue import CreditQueue
from rtl.extractor import Barrel, BarrelShape
from rtl.jobs import job_layout
from rtl.packer import Packer
from rtl.placer import Placer
from rtl.queue import Queue
from rtl.sequencer import GroupSource, TileSource, group_layout
from rtl.skid import SkidBuffer
from rtl.splitter import Splitter, beat_layout
from rtl.words import Words


def output_layout(config: DecoderConfig) -> data.StructLayout:
    """An output beat: int8 weights, first one in the low byte, of ``extra + 1`` vectors; ``last`` ends a tile."""
    return data.StructLayout({"weights": 8 * config.output_bytes, "extra": range(config.lookups), "last": 1})


class Core(wiring.Component):
    """Streams around one pipeline that starts a group when its words, its codebook and a place at the end are there.

    ``starved`` (no words) and ``blocked`` (output not taken) are flags of the cycle at hand; errors pulse.
    """

    def __init__(self, config: DecoderConfig, memory_style: str = "distributed") -> None:
        self._config, self._style = config, memory_style
        ports = {
            "job": In(stream.Signature(job_layout(config))),
            "beat": In(stream.Signature(beat_layout(config.input_bits))),
            "output": Out(stream.Signature(output_layout(config))),
            **dict.fromkeys(("starved", "blocked", "error_early", "error_late"), Out(1)),
        }
        if config.has_codebook:
            ports["codeword"] = In(stream.Signature(codeword_layout(config)))
            ports |= dict.fromkeys(("error_overflow", "error_range"), Out(1))
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.tiles = tiles = TileSource(config)
        m.submodules.groups = groups = GroupSource(config)
        m.submodules.placer = placer = Placer(config)
        m.submodules.splitter = splitter = Splitter(config)
        m.submodules.end = end = CreditQueue(output_layout(config), TIMING.output_queue, self._style)
        wiring.connect(m, tiles.tile, groups.tile)
        m.submodules.skid = skid = SkidBuffer(group_layout(config))
        wiring.connect(m, groups.group, skid.input)
        wiring.connect(m, skid.output, placer.group)
        wiring.connect(m, wiring.flipped(self.beat), splitter.beat)
        wiring.connect(m, end.output, wiring.flipped(self.output))
        self._share_jobs(m, splitter, tiles)
        issue, ready = Signal(), Signal()
        group = placer.placed.p.group
        m.d.comb += [
            issue.eq(placer.placed.valid & ready),
            placer.placed.ready.eq(issue),
            placer.credit.eq(end.credit),
            end.start.eq(placer.start),
            self.starved.eq(placer.placed.valid & ~ready),
            self.blocked.eq(self.output.valid & ~self.output.ready),
            self.error_early.eq(splitter.error_early),
            self.error_late.eq(splitter.error_late),
        ]
        fields = {name: self._extract(m, name, splitter, placer, issue) for name in self._names()}
        m.d.comb += ready.eq(Cat(there for _, _, there in fields.values()).all())
        self._finish(m, fields, group, issue, end, tiles)
        return m

    def _names(self) -> tuple[str, ...]:
        return ("code", "side") if self._config.side_bits else ("code",)

    def _extract(
        self, m: Module, name: str, splitter: Splitter, placer: Placer, issue: Signal
    ) -> tuple[Value, int, Value]:
        """The window of a group's codes (side bits), how many cycles after ``issue`` it comes, and whether its words
        are there."""
        config = self._config
        shape = barrel_shape(config, name)
        m.submodules[f"{name}_words"] = words = Words(config.input_bits, self._style, config.halves)
        m.submodules[f"{name}_barrel"] = barrel = Barrel(shape)
        place = placer.placed.p[name]
        write, word = (getattr(splitter, f"{name}_{what}") for what in ("write", "word"))
        if config.halves:
            m.submodules[f"{name}_packer"] = packer = Packer(config.input_bits)
            m.d.comb += [
                packer.take.eq(write),
                packer.data.eq(word),
                packer.close.eq(getattr(splitter, f"{name}_close")),
            ]
            write, word = packer.write, packer.write_data
            m.d.comb += words.close.eq(packer.close)
        m.d.comb += [
            words.write.eq(write),
            words.write_data.eq(word),
            getattr(splitter, f"{name}_room").eq(words.room),
            words.place.eq(place),
            words.issue.eq(issue),
            barrel.current.eq(words.current),
            barrel.following.eq(words.following),
            barrel.shift.eq(place.shift),
        ]
        with m.Switch(placer.placed.p.group.code_bits):
            for row in config.formats.values():
                joint = joint_of(config, row, name)
                with m.Case(row.code_bits):
                    m.d.comb += barrel.joint.eq(shape.joints.index(joint) if joint in shape.joints[1:] else 0)
        return barrel.window, shape.cycles, words.ready

    def _share_jobs(self, m: Module, splitter: Splitter, tiles: TileSource) -> None:
        """The splitter takes a job when it begins with it; for the other side of the pipeline it is kept."""
        m.submodules.jobs = jobs = Queue(job_layout(self._config), memory_style=self._style)
        m.d.comb += [
            splitter.job.payload.eq(self.job.payload),
            splitter.job.valid.eq(self.job.valid & jobs.room),
            self.job.ready.eq(splitter.job.ready),
            jobs.write.eq(splitter.job.ready),
            jobs.write_data.eq(self.job.payload),
            tiles.job.valid.eq(jobs.valid),
            tiles.job.payload.eq(jobs.data),
            jobs.take.eq(tiles.job.ready),
        ]

    def _finish(
        self,
        m: Module,
        fields: dict[str, tuple[Value, int, Value]],
        group: data.View,
        issue: Signal,
        end: CreditQueue,
        tiles: TileSource,
    ) -> None:
        """From windows to weights: codes apart, codewords, signs."""
        config = self._config
        taken = max(cycles for _, cycles, _ in fields.values())
        windows = {name: delayed(m, window, taken - cycles, name) for name, (window, cycles, _) in fields.items()}
        early = data.View(tag_layout(config), delayed(m, Cat(issue, group.as_value()), taken - 1, "tag"))
        at_window = data.View(tag_layout(config), delayed(m, early.as_value(), 1, "tag_window"))
        codes = split_codes(m, config, windows["code"], early.group.code_bits)
        at_codes = data.View(tag_layout(config), delayed(m, at_window.as_value(), 1, "tag_code"))
        if config.has_codebook:
            codewords = self._look_up(m, codes, at_codes, tiles)
        else:
            integers = [Value.cast(code.as_signed()) for code in codes]
            codewords = [delayed(m, sized(code, 8), READ_CYCLES, f"integer{n}") for n, code in enumerate(integers)]
            m.d.comb += [tiles.codebook_loaded.eq(1), tiles.idle.eq(1)]
        at_words = data.View(tag_layout(config), delayed(m, at_codes.as_value(), READ_CYCLES, "tag_words"))
        weights = apply_side(m, config, Cat(codewords), windows.get("side"))
        at_end = data.View(tag_layout(config), delayed(m, at_words.as_value(), SIDE_CYCLES, "tag_end"))
        m.d.comb += [
            end.write.eq(at_end.valid),
            end.write_data.weights.eq(weights),
            end.write_data.extra.eq(at_end.group.extra),
            end.write_data.last.eq(at_end.group.tile_end),
        ]

    def _look_up(self, m: Module, codes: list[Value], tag: data.View, tiles: TileSource) -> list[Value]:
        m.submodules.codebooks = books = Codebooks(self._config)
        wiring.connect(m, wiring.flipped(self.codeword), books.load)
        last = Signal()
        # The bank is given back when its last lookup is over: what is written from then on is not read.
        m.d.sync += last.eq(tag.valid & tag.group.layer_end)
        m.d.comb += [
            tiles.codebook_loaded.eq(books.loaded),
            tiles.idle.eq(books.idle),
            books.begin.eq(tiles.layer_begun),
            books.release.eq(last | tiles.layer_dropped),
            books.bank.eq(tag.group.bank),
            *(port.eq(code) for port, code in zip(books.codes, codes, strict=True)),
            self.error_overflow.eq(books.error_overflow),
            self.error_range.eq(books.error_range),
        ]
        return list(books.codewords)


SIDE_CYCLES = TIMING.side
SIDE_AHEAD = TIMING.codes + READ_CYCLES


def tag_layout(config: DecoderConfig) -> data.StructLayout:
    """What accompanies a group through the pipeline."""
    return data.StructLayout({"valid": 1, "group": group_layout(config)})


def joint_of(config: DecoderConfig, row: WordFormat, name: str) -> tuple[int, int]:
    """``(length, reach)`` of words of codes or side bits (``BarrelShape``)."""
    return row.field(name, config.side_bits)[1], config.reach(row, name)


def barrel_shape(config: DecoderConfig, name: str) -> BarrelShape:
    """Where windows of codes or side bits may begin, over all code widths of a build."""
    rows = config.formats.values()
    widths = {config.side_bits if name == "side" else row.code_bits for row in rows}
    joints = {joint_of(config, row, name) for row in rows}
    # A full word needs no joining of its own: the widest reach covers all.
    full = max((reach for length, reach in joints if length == config.input_bits), default=0)
    short = sorted(joint for joint in joints if joint[0] < config.input_bits and joint[1])
    grain = math.gcd(*widths, *(length for length, _ in joints))
    return BarrelShape(config.input_bits, config.lookups * max(widths), grain, ((config.input_bits, full), *short))


def sized(value: Value, bits: int) -> Value:
    """``value``, extended by its sign to ``bits``."""
    return Cat(value, value[-1].replicate(bits - len(value)))


def delayed(m: Module, value: Value, cycles: int, name: str) -> Value:
    """``value``, ``cycles`` registers later."""
    for cycle in range(cycles):
        register = Signal(len(value), name=f"{name}_{cycle + 1}")
        m.d.sync += register.eq(value)
        value = register
    return value


def split_codes(m: Module, config: DecoderConfig, window: Value, code_bits: Value) -> list[Value]:
    """The codes of a window, each in its place, zero above its width: one register stage. ``code_bits`` come a cycle
    before the window, to be decoded."""
    width = config.codec.code_bits
    used, less_1 = Signal(width, name="code_bits_used"), Signal(range(width), name="code_bits_less_1")
    codes = [Signal(width, name=f"code{lane}") for lane in range(config.lookups)]
    m.d.sync += [used.eq(Cat(code_bits > index for index in range(width))), less_1.eq(code_bits - 1)]
    for lane, code in enumerate(codes):
        starts = {row - 1: lane * row for row in config.formats}
        m.d.sync += code.eq(chosen(window, less_1, starts, width) & used)
    return codes


def chosen(window: Value, key: Value, starts: Mapping[int, int], width: int) -> Value:
    """``width`` bits from the start that belongs to ``key``, as two-way multiplexers; anything if none does."""
    slices = {start: window[start : start + width] for start in starts.values()}
    parts = [slices.get(starts.get(row, -1)) for row in range(1 << len(key))]
    for bit in key:
        parts = [_either(bit, *pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
    assert parts[0] is not None, "a build has a width"
    return parts[0]


def _either(bit: Value, low: Value | None, high: Value | None) -> Value | None:
    if low is None or high is None or low is high:
        return low if high is None else high
    return Mux(bit, high, low)


def apply_side(m: Module, config: DecoderConfig, codewords: Value, side: Value | None) -> Value:
    """Weights from codewords and side bits, the former ``SIDE_CYCLES`` later; side bits come ``SIDE_AHEAD`` earlier."""
    if side is None:
        return delayed(m, codewords, SIDE_CYCLES, "weights")
    if config.codec.mask:
        kept = delayed(m, mask_bits(m, config, side), SIDE_AHEAD - 1, "kept")
        masked = Cat(codewords[8 * index : 8 * index + 8] & kept[index].replicate(8) for index in range(len(kept)))
        return delayed(m, masked, SIDE_CYCLES, "weights")
    signs = delayed(m, side, SIDE_AHEAD, "signs")
    magnitudes = [codewords[8 * index : 8 * index + 7] for index in range(len(signs))]
    return Cat(
        negated(m, value, sign, f"weight{n}") for n, (value, sign) in enumerate(zip(magnitudes, signs, strict=True))
    )


def mask_bits(m: Module, config: DecoderConfig, side: Value) -> Value:
    """A bit for every weight, from the combination indices of its group: one cycle later. Nothing is kept of a group
    whose index no mask has."""
    mask = config.codec.mask
    assert mask is not None
    table = masks(mask.kept, mask.group).tolist()
    kept: list[Value] = []
    for number, start in enumerate(range(0, len(side), mask.index_bits)):
        rom = memory.Memory(shape=mask.group, depth=1 << mask.index_bits, init=table)
        m.submodules[f"masks{number}"] = rom
        port = rom.read_port()
        m.d.comb += port.addr.eq(side[start : start + mask.index_bits])
        kept.append(port.data)
    return Cat(kept)


def negated(m: Module, magnitude: Value, sign: Value, name: str) -> Value:
    """``-magnitude`` where ``sign``, else itself: 7 bits to 8, two register stages of at most four inputs each."""
    bits = Signal(7, name=f"{name}_bits")
    negative, flip3, flip5 = Signal(name=f"{name}_sign"), Signal(name=f"{name}_flip3"), Signal(name=f"{name}_flip5")
    m.d.sync += [
        bits[0].eq(magnitude[0]),
        bits[1].eq(magnitude[1] ^ (sign & magnitude[0])),
        bits[2].eq(magnitude[2] ^ (sign & magnitude[:2].any())),
        bits[3:].eq(magnitude[3:]),
        flip3.eq(sign & magnitude[:3].any()),
        negative.eq(sign),
        flip5.eq(magnitude[3:5].any()),
    ]
    result = Signal(8, name=name)
    later = flip3 | (negative & flip5)
    m.d.sync += [
        result[:3].eq(bits[:3]),
        result[3].eq(bits[3] ^ flip3),
        result[4].eq(bits[4] ^ (flip3 | (negative & bits[3]))),
        result[5].eq(bits[5] ^ later),
        result[6].eq(bits[6] ^ (later | (negative & bits[5]))),
        result[7].eq(later | (negative & bits[5:7].any())),
    ]
    return result
