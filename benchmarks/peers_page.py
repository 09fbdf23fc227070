"""The tables, page and CSV files of ``python -m benchmarks peers``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from accel.atomic import write_text
from accel.reporting import Column, Table, to_csv, to_text
from benchmarks.markdown import command, markdown
from benchmarks.peers_environments import PEERS
from benchmarks.peers_ladder import LADDER_MACHINE, SMALLEST, TABLE_LOOKUPS, TENSOR_LOSSLESS, Rung
from benchmarks.peers_rows import MACHINE, OVERRIDES, Row

NAME = "peers"
INTRODUCTION = """# Beside the tools people use now

Made by `COMMAND`: do not edit, run it again.

Each tool runs from its PyPI package in an environment of its own, which the command makes once. CPU seconds
are user and system time of whole processes, peak memory is resident.
"""

# What may be set beside what, and why the rest may not.
COMPARABLE = (
    {
        "tool": "Accel",
        "models": "every DRAM transfer, weight tile and stall of the whole network, from its instructions",
        "cycles": "with Vela and ZigZag to within what they model: same multipliers a cycle, a DRAM port of the "
        "same width; "
        "Vela gets fewer bytes a cycle through it, as its rows say",
        "bytes": "stored weights: yes. DRAM: see Vela; beside weights ours holds the input image, the answer, "
        "instructions, "
        "biases, scales and other parameters",
        "cost": "compile and sim, start-up included; kernels, which are compiled once after an installation, had been "
        "(`python -m benchmarks simulate` says how long that takes)",
    },
    {
        "tool": "Vela",
        "models": "Ethos-U85-1024, its own layout of multipliers; each layer alone, nothing prefetched from layer to "
        "layer; activations in SRAM, weights in DRAM with 500 cycles of latency and a read buffer per channel, so "
        "that "
        "weights of matrix products arrive below the port's 8 B/cycle. A convolution over a large map reads its "
        "kernel "
        "again for each band of rows, and waits that latency each time",
        "cycles": "with the array-only row: no softmax, norms or residuals are in it. Each layer takes at least the "
        "longer of array and DRAM time (some products of activations more, for SRAM); ours fetches weights while the "
        "layer before computes, which hides most of the latter",
        "bytes": "stored weights: yes, padded to its blocks. DRAM: weight reads with biases and scales only; "
        "activations, "
        "input and answer are in its SRAM, instructions are not counted. Only trained weights show what its "
        "lossless code saves; those of resnet18 and deit_tiny are random",
        "cost": "all layers in one process; patch embeddings are given as the matrix products they are, since as "
        "convolutions Vela fetches their kernel once a patch",
    },
    {
        "tool": "SCALE-Sim",
        "models": "a 32x32 weight-stationary array, folds one after another, DRAM that never stalls (CALC mode)",
        "cycles": "with its own closed form only, which must be equal; ours overlaps folds and waits for DRAM",
        "bytes": "no: it stores weights as they are, and its DRAM counts include partial sums no machine would spill",
        "cost": "each distinct layer once: less than a user pays",
    },
    {
        "tool": "ZigZag",
        "models": "its tpu_like: 32x32, 2 MiB SRAM, 8 B/cycle of DRAM; activations of each layer come from DRAM "
        "and go "
        "back; the best mapping it finds",
        "cycles": "as a second opinion only: other memories, other mapping, every layer from and to DRAM",
        "bytes": "no: 8-bit weights as they are",
        "cost": "each distinct layer once; the time is that of a search the others do not make",
    },
    {
        "tool": "Core ML Tools",
        "models": "nothing: it writes files",
        "cycles": "no",
        "bytes": "yes: its weight.bin against our stored bytes; tables are float16, scales are in them",
        "cost": "not measured here: it fits palettes, which we do too",
    },
)

ROW_COLUMNS = (
    Column("network", "network"),
    Column("tool", "tool"),
    Column("what", "what"),
    Column("layers", "layers given", "1", "count"),
    Column("cycles", "cycles", "cycles"),
    Column("weight_bytes", "stored weights", "B"),
    Column("dram_bytes", "DRAM", "B"),
    Column("cpu_seconds", "CPU", "s", "seconds"),
    Column("peak_bytes", "peak memory", "B"),
    Column("problem", "could not be run"),
)
RUNG_COLUMNS = (
    Column("network", "network"),
    Column("name", "weights as"),
    Column("bits", "bits/weight", "bit"),
    Column("stored_bytes", "stored", "B"),
    Column("share", "of raw int8", "1", "percent"),
    Column("error", "weight error", "1", "error"),
    Column("dram_bytes", "DRAM (lossless: at most)", "B"),
    Column("cycles", "cycles", "cycles"),
    Column("speedup", "speed-up (lossless: at least)", "1", "ratio"),
    Column("speedup_at_best", "lossless: at most", "1", "ratio"),
    Column("simulated", "simulated, or why not"),
)


def write_page(rows: Sequence[Row], ladders: Mapping[str, Sequence[Rung]], folder: Path) -> Iterator[Path]:
    """Print the tables, write ``peers.md``, ``peers.csv`` and ``peers_ladder.csv`` into ``folder``; yields paths."""
    networks = row_tables(rows)
    rungs = [ladder_table(name, ladder) for name, ladder in ladders.items()]
    tables = [*networks, comparable_table(), *rungs, pins_table()]
    print("\n".join(map(to_text, tables)))
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        f"{NAME}.md": "\n".join(
            [INTRODUCTION.replace("COMMAND", command(NAME)), *(markdown(each, ("network",)) for each in tables)]
        ),
        f"{NAME}.csv": to_csv(Table("", ROW_COLUMNS, tuple(asdict(row) for row in rows))),
        f"{NAME}_ladder.csv": to_csv(Table("", RUNG_COLUMNS, tuple(row for each in rungs for row in each.rows))),
    }
    for name, text in parts.items():
        write_text(folder / name, text)
        yield folder / name


def row_tables(rows: Sequence[Row]) -> Iterator[Table]:
    """A table a network: every tool on 1024 multipliers and 8 bytes a cycle; what failed, with its reason."""
    settings = " ".join(f"--set {override}" for override in OVERRIDES)
    for network in dict.fromkeys(row.network for row in rows):
        mine = [asdict(row) for row in rows if row.network == network]
        failed = any(row["problem"] for row in mine)
        columns = ROW_COLUMNS if failed else ROW_COLUMNS[:-1]
        note = (
            f"Accel: `-m {MACHINE} {settings}`, int8, a scale a channel. Stored weights: without scales and biases, "
            "which the tables of weights in every form count. "
            "Layers given: those of the network, or, where a tool says the same of equal ones, the distinct ones."
        )
        yield Table(f"{network}: int8, 32x32 multipliers, 8 B/cycle", columns, tuple(mine), (note,))


def comparable_table() -> Table:
    """What is comparable, and what is not."""
    columns = ("tool", "models"), ("cycles", "cycles comparable"), ("bytes", "bytes comparable"), ("cost", "its cost")
    titles = {"tool": "tool", "models": "what it models here", **dict(columns[1:])}
    return Table("What is comparable", tuple(Column(key, title) for key, title in titles.items()), COMPARABLE)


def ladder_table(network: str, rungs: Sequence[Rung]) -> Table:
    """Every way to store the weights, against raw int8."""
    base = rungs[0]
    assert base.cycles and base.stored_bytes, "the baseline is ours and always simulated"
    rows = []
    for rung in rungs:
        rows.append(
            {
                **asdict(rung),
                "simulated": rung.problem or rung.simulated,
                "network": network,
                "bits": 8 * rung.stored_bytes / rung.weights if rung.stored_bytes else None,
                "share": rung.stored_bytes / base.stored_bytes if rung.stored_bytes else None,
                "speedup": base.cycles / rung.cycles if rung.cycles else None,
                "speedup_at_best": base.cycles / rung.cycles_at_best if rung.cycles_at_best else None,
            }
        )
    notes = (
        *_conclusion(base, rungs),
        f"Cycles: whole network on `{LADDER_MACHINE}`. Stored bytes include scales, codebooks and palettes. Weight "
        "error: squared error over squares of the weights; `-`: not measured.",
        "DRAM bytes exceed the stored ones: spilled activations are among them, and weights that `sram.weight_bytes` "
        "cannot hold once for every part of their output rows (`accel compile` lists both). Fewer bits shrink only "
        "the "
        "weights, so traffic and time shrink by less than what is stored.",
        "Lossless: `mlw_codec` of Arm's package on each layer's int8 values row by row, decoded again and compared; "
        "a layer it does not shrink stays as it is. Vela's own order and padding are not in it. We build no such "
        "decoder, so its time is bracketed: the program is compiled and simulated with every layer as integers of "
        "its "
        "stored bits rounded up (*at least*; DRAM bytes and cycles are this one's, but no more than those of the "
        "same weights "
        "uncoded, as a layer can be left as it is) and down (*at most*), streams and buffers that size, and a "
        "decoder that "
        "never limits.",
        f"Palettes: simulated with `{' '.join(TABLE_LOOKUPS)}`, as an entry is one weight only; all else with the "
        "preset's own decoder.",
    )
    return Table(f"{network}: trained weights in every form", RUNG_COLUMNS, tuple(rows), notes)


def _conclusion(base: Rung, rungs: Sequence[Rung]) -> Iterator[str]:
    """What lossless int8 leaves for the smallest format, and at which errors of weights."""
    plain = next((rung for rung in rungs if rung.name == TENSOR_LOSSLESS), None)
    small = next((rung for rung in rungs if rung.name == SMALLEST), None)
    if plain and small and plain.cycles and plain.cycles_at_best and small.cycles and base.cycles:
        assert plain.error is not None and small.error is not None, "what is simulated was compressed"
        yield (
            f"**Side by side**: {plain.name}, gains {base.cycles / plain.cycles:.2f}x to "
            f"{base.cycles / plain.cycles_at_best:.2f}x with {100 * plain.error:.3f} % of weight error and no "
            f"training; "
            f"{small.name} {base.cycles / small.cycles:.2f}x with {100 * small.error:.1f} %. So {small.name} is "
            f"{plain.cycles_at_best / small.cycles:.2f}x to {plain.cycles / small.cycles:.2f}x as fast as 8-bit "
            f"weights "
            "coded without loss, and has to earn its error back by training."
        )


def pins_table() -> Table:
    """What is installed of each peer, and why."""
    rows = tuple(
        {"tool": peer.name, "requirements": " ".join(peer.requirements), "reason": peer.reason}
        for peer in PEERS.values()
    )
    columns = (Column("tool", "tool"), Column("requirements", "installed"), Column("reason", "why these versions"))
    return Table("Environments", columns, rows)
