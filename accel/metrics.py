"""What is measured: kinds of DRAM traffic, causes of a cycle, metrics of a run. One table each, read by all.

Units are true SI: GB/s is 1e9 bytes a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

RUN_SCHEMA = "accel.run/1"

# Kind of DRAM traffic -> definition. The order is the order of every table, plot and counter array.
TRAFFIC: Mapping[str, str] = MappingProxyType(
    {
        "weights": "integer weight streams (int8, int4), padding to 64-byte blocks included",
        "indices": "codebook indices of VQ codecs, of all stages, and mask indices of MVQ, padding of records and "
        "blocks included",
        "signs": "sign bits of SSVQ",
        "codebooks": "codebooks (of LR2VQ the factors it is folded from), one load a layer",
        "scales": "per-channel weight scales",
        "parameters": "biases, norms, embeddings, position tables and other constants",
        "activations_read": "network inputs and spilled activations read back",
        "activations_written": "network outputs and spilled activations",
        "instructions": "the instruction stream itself",
    }
)

# Cause of a cycle -> definition. Every cycle of a run is charged to exactly one.
CAUSES: Mapping[str, str] = MappingProxyType(
    {
        "compute": "operands stream through the array",
        "weight_dma": "the array waits for compressed weights from DRAM",
        "activation_dma": "the array waits for activations or parameters to arrive from, or leave for, DRAM",
        "decode": "weights have arrived; the array waits for the decoder or for the tile to load",
        "codebook_load": "the decoder waits for a codebook from DRAM, or for one to be folded",
        "vector": "the array waits for the vector unit",
        "dependency": "the array waits for a token that none of the causes above explains (e.g. instruction fetch)",
        "drain": "results leave the array pipeline, or the last stores finish, with nothing left to overlap",
    }
)

# What the decoder's front end counts -> definition. Integers bypass it and count nothing.
DECODER: Mapping[str, str] = MappingProxyType(
    {
        "lookup_groups": "groups of decoder.lookups_per_cycle codes (S for a vector of S stages; the last of a tile "
        "may be smaller) looked up",
        "lookup_cycles": "cycles the codebook served them: one each from copies, more when codes meet in a bank",
        "index_fifo_empty": "cycles without look-ups, as the index FIFO did not hold the next group",
        "sign_fifo_empty": "cycles without look-ups, as the sign FIFO lacked signs or masks of the next group",
    }
)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of ``METRICS``. ``better`` is 'lower', 'higher' or '' when neither is."""

    name: str
    unit: str
    definition: str
    better: str = ""


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        row.name: row
        for row in (
            Metric("total_cycles", "cycles", "first instruction fetched to last store finished", "lower"),
            Metric("seconds", "s", "total_cycles / clock.hz", "lower"),
            Metric("macs", "MAC", "multiply-accumulates of the network's GEMMs, convolutions and attention products"),
            Metric("dram_bytes_total", "B", "DRAM bytes moved, whole 64-byte blocks, instructions included", "lower"),
            Metric("utilisation", "1", "macs / (total_cycles * array.rows * array.columns)", "higher"),
            Metric("dram_bandwidth", "GB/s", "dram_bytes_total / seconds", ""),
            Metric(
                "conflict_factor", "1", "lookup_cycles / lookup_groups: what codebook banks cost a look-up", "lower"
            ),
            Metric("energy_total", "J", "sum of energy_joules over components", "lower"),
            Metric("speedup", "1", "total_cycles of the int8 run / total_cycles, same machine and model", "higher"),
        )
    }
)


def cosine(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Of two arrays of one size, seen as vectors; 0 if one of them is zero."""
    x, y = (np.asarray(v, np.float64).reshape(-1) for v in (a, b))
    length = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / length if length else 0.0
