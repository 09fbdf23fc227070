"""Which vectors are decoded together: jobs become tiles, tiles become groups. It runs ahead of the data."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.configuration import DecoderConfig
from rtl.jobs import job_layout, run_layout


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
    """A tile of a strip: its groups, and whether it is the last one of its strip and its layer."""
    return data.StructLayout(
        {"code_bits": config.code_width_bits, "run": run_layout(config), "strip_end": 1, "layer_end": 1, "bank": 1}
    )


# A flag that ends a run does so without being reset by itself: Yosys would take the way through a register's reset for
# a loop of logic, break it there, and map what comes after as if it began anew.


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
                "layer_begun": Out(1),
                "layer_dropped": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        job, tile = self.job.p, self.tile.p
        index, last, started, bank = Signal(self._config.tile_count_bits), Signal(), Signal(), Signal()
        go, end, waits, granted, begins = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            end.eq(last | job.single),
            waits.eq(job.first & ~started & ~granted),
            go.eq(self.job.valid & (~self.tile.valid | self.tile.ready) & ~waits),
            self.job.ready.eq(go & end),
            begins.eq(go & job.first & ~started),
        ]
        # A layer is let in by a cycle of its own: counting codebooks and moving on would be one long path.
        may_begin = self.codebook_loaded & ~begins & ~self.layer_begun & (self.idle | ~job.drop)
        m.d.sync += [
            self.layer_begun.eq(begins),
            self.layer_dropped.eq(go & end & job.drop & job.last),
            granted.eq(self.job.valid & job.first & ~started & may_begin),
        ]
        with m.If(self.tile.ready):
            m.d.sync += self.tile.valid.eq(0)
        with m.If(go):
            m.d.sync += [
                self.tile.valid.eq(~job.drop),
                started.eq(~end),
                index.eq(index + 1),
                last.eq((index == job.tiles_less_2) & ~end),
                bank.eq(bank ^ (end & job.last)),
                tile.code_bits.eq(job.code_bits),
                tile.run.eq(Mux(end, job.last_run, job.run)),
                tile.strip_end.eq(end),
                tile.layer_end.eq(end & job.last),
                tile.bank.eq(bank),
            ]
        with m.If(go & end):
            m.d.sync += index.eq(0)
        return m


class GroupSource(wiring.Component):
    """One group after the other of each tile, in the cycle in which it is asked for."""

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
        index, last, end = Signal(self._config.group_count_bits), Signal(), Signal()
        m.d.comb += [
            end.eq(last | tile.run.single),
            self.tile.ready.eq(self.group.ready & end),
            self.group.valid.eq(self.tile.valid),
            group.code_bits.eq(tile.code_bits),
            group.extra.eq(Mux(end, tile.run.extra, self._config.lookups - 1)),
            group.tile_end.eq(end),
            group.strip_end.eq(end & tile.strip_end),
            group.layer_end.eq(end & tile.layer_end),
            group.bank.eq(tile.bank),
        ]
        go = self.group.valid & self.group.ready
        with m.If(go):
            m.d.sync += [index.eq(index + 1), last.eq((index == tile.run.groups_less_2) & ~end)]
        with m.If(go & end):
            m.d.sync += index.eq(0)
        return m
