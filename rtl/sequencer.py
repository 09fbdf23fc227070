"""Which vectors are decoded together: jobs become tiles, tiles become groups. It runs ahead of the data."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.configuration import DecoderConfig
from rtl.jobs import job_layout


def group_layout(config: DecoderConfig) -> data.StructLayout:
    """A group: ``extra`` vectors besides the first, of which ``tile_end``, ``strip_end`` and ``layer_end`` tell
    whether it is the last one, looked up in codebook ``bank``."""
    return data.StructLayout(
        {
            "code_bits": config.code_width_bits,
            "extra": range(config.lookups),
            "tile_end": 1,
            "strip_end": 1,
            "layer_end": 1,
            "bank": 1,
        }
    )


def tile_layout(config: DecoderConfig) -> data.StructLayout:
    """A tile: ``groups``, the last one of ``extra`` vectors besides the first; all groups before it are full."""
    return data.StructLayout(
        {
            "code_bits": config.code_width_bits,
            "groups": config.count_bits,
            "extra": range(config.lookups),
            "strip_end": 1,
            "layer_end": 1,
            "bank": 1,
        }
    )


class TileSource(wiring.Component):
    """One tile after the other of each job that is not to be dropped; the first of a layer waits for its codebook.

    A layer to be dropped also waits until no other is in the pipeline (``idle``): codebooks are given back in order.
    """

    def __init__(self, config: DecoderConfig) -> None:
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(job_layout(config))),
                "codebook_loaded": In(1),
                "idle": In(1),
                "tile": Out(stream.Signature(tile_layout(config))),
                "layer_begins": Out(1),
                "layer_dropped": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        job, tile = self.job.p, self.tile.p
        index, bank = Signal(self._config.count_bits, init=1), Signal()
        end, go, waits, allowed = Signal(), Signal(), Signal(), Signal()
        vectors = Signal(self._config.count_bits)
        shift = (self._config.lookups - 1).bit_length()
        m.d.comb += [
            end.eq((index == job.tiles) | job.drop),
            go.eq(self.job.valid & (~self.tile.valid | self.tile.ready) & (~waits | allowed)),
            allowed.eq(self.codebook_loaded & (self.idle | ~job.drop)),
            waits.eq(job.first & (index == 1)),
            self.job.ready.eq(go & end),
            vectors.eq(Mux(index == job.tiles, job.last_vectors, job.vectors)),
            self.layer_begins.eq(go & waits),
            self.layer_dropped.eq(go & job.drop & job.last),
        ]
        with m.If(self.tile.ready):
            m.d.sync += self.tile.valid.eq(0)
        with m.If(go):
            m.d.sync += [
                self.tile.valid.eq(~job.drop),
                index.eq(Mux(end, 1, index + 1)),
                bank.eq(bank ^ (end & job.last)),
                tile.code_bits.eq(job.code_bits),
                tile.groups.eq((vectors + self._config.lookups - 1) >> shift),
                tile.extra.eq(vectors - 1),
                tile.strip_end.eq(end),
                tile.layer_end.eq(end & job.last),
                tile.bank.eq(bank),
            ]
        return m


class GroupSource(wiring.Component):
    """One group after the other of each tile."""

    def __init__(self, config: DecoderConfig) -> None:
        self._config = config
        super().__init__(
            {
                "tile": In(stream.Signature(tile_layout(config))),
                "group": Out(stream.Signature(group_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        tile, group = self.tile.p, self.group.p
        index, end, go = Signal(self._config.count_bits, init=1), Signal(), Signal()
        m.d.comb += [
            end.eq(index == tile.groups),
            go.eq(self.tile.valid & (~self.group.valid | self.group.ready)),
            self.tile.ready.eq(go & end),
        ]
        with m.If(self.group.ready):
            m.d.sync += self.group.valid.eq(0)
        with m.If(go):
            m.d.sync += [
                self.group.valid.eq(1),
                index.eq(Mux(end, 1, index + 1)),
                group.code_bits.eq(tile.code_bits),
                group.extra.eq(Mux(end, tile.extra, self._config.lookups - 1)),
                group.tile_end.eq(end),
                group.strip_end.eq(end & tile.strip_end),
                group.layer_end.eq(end & tile.layer_end),
                group.bank.eq(tile.bank),
            ]
        return m
