"""Machine to the plain integers kernels take: the only bridge between the two."""

from __future__ import annotations

from typing import NamedTuple

from accel.dram import DRAM_STANDARDS, MAPPINGS
from accel.isa import BLOCK_BYTES, QUEUE_DEPTH
from accel.machine import Machine
from accel.systolic import ARRAY_MODELS, DATAFLOWS
from sim.dram.spacing import address_bits, spacing
from sim.dram.state import Channels, new_channels

TICKS = 1 << 20  # ticks per cycle: fine enough for the block time of any bandwidth, coarse enough for 2**43 cycles
FETCH_AHEAD = 32  # instructions fetched or requested ahead of dispatch
WEIGHTS_STAY, OUTPUTS_STAY, INPUTS_STAY = map(list(DATAFLOWS).index, ("ws", "os", "is"))  # values of ``dataflow``


class Params(NamedTuple):
    """Times in ticks; ``lanes`` 0 makes vector work free; ``instruction_address``: where the instruction words lie.

    ``block_ticks``: of the ideal channel; ``longest_block_ticks``: at most what a block takes. ``clock_ticks``: of the
    banked DRAM's clock, 0 for an ideal channel; ``accesses`` of it make a block.
    ``lookups`` to ``fifo_words`` are the decoder's keys; ``codebook_banks`` 0: a copy of the codebook a port.

    The array (``accel.systolic``): ``edge_rows`` and ``edge_columns`` are what every fold's skew counts, 0 for what its
    tiles use. ``row_cycles``: cycles an array row of a weight tile takes to load; 0 where weights stream and the model
    lets them come straight from memory. ``macs``: multiply-accumulates a cycle, of which LDC folds.
    """

    block_ticks: int
    longest_block_ticks: int
    latency_ticks: int
    clock_ticks: int
    accesses: int
    channels: int
    load_engines: int
    lookups: int
    codebook_banks: int
    input_bits: int
    fifo_words: int
    lanes: int
    ring_blocks: int
    queue_depth: int
    fetch_ahead: int
    instruction_address: int
    dataflow: int = WEIGHTS_STAY
    overlapped: int = 1
    edge_rows: int = 0
    edge_columns: int = 0
    overhead_cycles: int = 0
    row_cycles: int = 1
    macs: int = 1


def _clock_ticks(machine: Machine) -> int:
    if not machine.is_banked:
        return 0
    return max(1, round(machine.dram_standard.timing.tck_ps * 1e-12 * machine.clock.hz * TICKS))


def _block_ticks(machine: Machine) -> int:
    return max(1, round(BLOCK_BYTES / machine.bandwidth_bytes_per_cycle * TICKS))


def _longest_block_ticks(machine: Machine) -> int:
    """Between two refreshes, or in an activation window that is longer, at least one access is served."""
    if not machine.is_banked:
        return _block_ticks(machine)
    timing = machine.dram_standard.timing
    return _accesses(machine) * (max(timing.trefi, timing.tfaw) + timing.trc) * _clock_ticks(machine)


def _accesses(machine: Machine) -> int:
    """An access of more than a block (none of the standards has one) would be counted as one."""
    if not machine.is_banked:
        return 1
    return max(1, BLOCK_BYTES // machine.dram_standard.access_bytes(machine.dram.data_width_bits))


def channels_of(machine: Machine) -> Channels:
    """The banks of the machine's DRAM before the first clock."""
    if not machine.is_banked:
        return unused_channels()
    standard, dram = machine.dram_standard, machine.dram
    return new_channels(dram.channels, spacing(standard), address_bits(standard, dram.data_width_bits, dram.mapping))


def unused_channels() -> Channels:
    """Something of the same type beside an ideal memory."""
    standard = next(iter(DRAM_STANDARDS.values()))
    return new_channels(1, spacing(standard), address_bits(standard, standard.widths[0], MAPPINGS[0]))


def machine_params(machine: Machine, dram_bytes: int) -> Params:
    """Parameters of ``machine``; instruction words are taken to follow the program's ``dram_bytes``."""
    array, model = machine.array, ARRAY_MODELS[machine.array.model]
    whole = model.edge == "full"
    return Params(
        block_ticks=_block_ticks(machine),
        longest_block_ticks=_longest_block_ticks(machine),
        latency_ticks=machine.dram.latency_cycles * TICKS,
        clock_ticks=_clock_ticks(machine),
        accesses=_accesses(machine),
        channels=machine.dram.channels if machine.is_banked else 1,
        load_engines=machine.dram.load_engines,
        lookups=machine.decoder.lookups_per_cycle,
        codebook_banks=machine.decoder.codebook_banks,
        input_bits=machine.decoder.input_bits,
        fifo_words=machine.decoder.fifo_words,
        lanes=machine.vector.lanes,
        ring_blocks=machine.sram.weight_bytes // BLOCK_BYTES,
        queue_depth=QUEUE_DEPTH,
        fetch_ahead=FETCH_AHEAD,
        instruction_address=-(-dram_bytes // BLOCK_BYTES) * BLOCK_BYTES,
        dataflow=list(DATAFLOWS).index(array.dataflow),
        overlapped=int(model.overlapped),
        edge_rows=array.rows * whole,
        edge_columns=array.columns * whole,
        overhead_cycles=model.overhead_cycles,
        macs=array.rows * array.columns,
        row_cycles=int(model.overlapped or array.dataflow == "ws"),
    )
