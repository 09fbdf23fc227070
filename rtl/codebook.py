"""The codebook: a copy for each lookup, two banks, so that one is loaded while the other is in use."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.decoder_timing import TIMING
from rtl.block_ram import Dp16kd, has_dp16kd
from rtl.configuration import DecoderConfig

READ_CYCLES = TIMING.read
BANKS = 2


class LookupMemory(wiring.Component):
    """``depth`` entries of ``width`` bits: a write port and a read port of ``READ_CYCLES`` cycles.

    What is read in the cycle in which it is written is undefined.
    """

    def __init__(self, depth: int, width: int, style: str) -> None:
        self.depth, self.width, self._style = depth, width, style
        bits = (depth - 1).bit_length()
        super().__init__(
            {
                "write": In(1),
                "write_address": In(bits),
                "write_data": In(width),
                "read_address": In(bits),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self._style == "block" and has_dp16kd(platform):
            m.submodules.cells = cells = Dp16kd(self.depth, self.width)
            wiring.connect(m, wiring.flipped(self), cells)
            return m
        ram = memory.Memory(shape=self.width, depth=self.depth, init=[], attrs={"ram_style": self._style})
        m.submodules.ram = ram
        write, read = ram.write_port(), ram.read_port()
        m.d.comb += [
            write.en.eq(self.write),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            read.addr.eq(self.read_address),
        ]
        m.d.sync += self.read_data.eq(read.data)
        return m


def codeword_layout(config: DecoderConfig) -> data.StructLayout:
    """A codeword, first weight in the low byte, and whether it is the last of its codebook."""
    return data.StructLayout({"weights": 8 * config.vector_length, "last": 1})


class Codebooks(wiring.Component):
    """Codebooks come in by ``load``, codeword 0 first, and are used in the same order.

    ``loaded``: one is there that no layer has begun with; ``begin`` takes it, ``release`` gives its bank back;
    ``idle``: none is taken; it may come a cycle late.
    ``error_overflow`` pulses for a codeword beyond the build's k, which is ignored; ``error_range`` for one with an
    element a codec may not hold (-128, or any negative one for magnitudes).
    """

    def __init__(self, config: DecoderConfig) -> None:
        self._config = config
        bits = config.codec.code_bits
        super().__init__(
            {
                "load": In(stream.Signature(codeword_layout(config))),
                "loaded": Out(1),
                "idle": Out(1, init=1),
                "begin": In(1),
                "release": In(1),
                "error_overflow": Out(1),
                "error_range": Out(1),
                "bank": In(1),
                "codes": In(bits).array(config.lookups),
                "codewords": Out(8 * config.vector_length).array(config.lookups),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, load = self._config, self.load.p
        entries = config.codec.codebook_entries
        address, overflow, bank = Signal(range(entries)), Signal(), Signal()
        free, unused = Signal(range(BANKS + 1), init=BANKS), Signal(range(BANKS + 1))
        taken, done, ready = Signal(), Signal(), Signal(init=1)
        m.d.comb += [
            self.load.ready.eq(ready),
            taken.eq(self.load.valid & self.load.ready),
            self.error_overflow.eq(taken & overflow),
            self.error_range.eq(taken & self._out_of_range()),
        ]
        # A codebook counts a cycle after its end, and none begins in that cycle.
        end = taken & load.last
        m.d.sync += [
            done.eq(end),
            free.eq(free - done + self.release),
            unused.eq(unused + done - self.begin),
            # What the new counts say: whether a bank is free and no codebook has just ended; whether one is unused.
            ready.eq(((free != done) | self.release) & ~end),
            self.loaded.eq(done | (unused != self.begin)),
            self.idle.eq((free + unused == BANKS) & ~self.begin),
        ]
        with m.If(taken):
            m.d.sync += [
                address.eq((address + 1) & ~load.last.replicate(len(address))),
                overflow.eq((overflow | address.all()) & ~load.last),
                bank.eq(bank ^ load.last),
            ]
        # Writing takes a cycle more: the way from the stream to all copies is long.
        entry = Signal(data.StructLayout({"address": range(BANKS * entries), "weights": 8 * config.vector_length}))
        write = Signal()
        m.d.sync += [
            write.eq(taken & ~overflow),
            entry.address.eq(Cat(address, bank)),
            entry.weights.eq(load.weights),
        ]
        for lane in range(config.lookups):
            m.submodules[f"copy{lane}"] = copy = LookupMemory(
                BANKS * entries, 8 * config.vector_length, config.codebook_memory
            )
            m.d.comb += [
                copy.write.eq(write),
                copy.write_address.eq(entry.address),
                copy.write_data.eq(entry.weights),
                copy.read_address.eq(Cat(self.codes[lane], self.bank)),
                self.codewords[lane].eq(copy.read_data),
            ]
        return m

    def _out_of_range(self) -> Value:
        """Signs are kept apart from magnitudes, which have none; elsewhere -128 has no opposite."""
        size, weights = 8 * self._config.vector_length, self.load.p.weights
        tops = Cat(weights[at + 7] for at in range(0, size, 8))
        if self._config.codec.has_signs:
            return tops.any()
        return Cat(weights[at : at + 8] == 0x80 for at in range(0, size, 8)).any()
