"""The tables, figure, page and CSV file of ``python -m benchmarks claim``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from accel.atomic import write_text
from accel.cli.pipeline_reference import MODEL
from accel.codecs import parse_codec
from accel.plots import write_figure
from accel.reporting import Column, Table, to_csv, to_text
from benchmarks.claim_figure import FIGURE_ARRAY, claim_figure
from benchmarks.claim_findings import (
    AMPLE_LOOKUPS,
    BASELINE,
    CHIP,
    CLAIM,
    CODECS,
    LOOKUPS,
    PRESET,
    REAL_PRESET,
    SETTINGS,
    SUFFICIENT,
    Findings,
    Setting,
)
from benchmarks.markdown import command, markdown
from sim import simulate

NAME = "claim"
SMALL = SETTINGS[2]
INTRODUCTION = """# 3x over 8-bit weights on DeiT-tiny: where it holds

Made by `COMMAND`: do not edit, run it again.

SSVQ's authors report 3x over int8 on DeiT-tiny (arXiv 2503.08668). That is no constant of a format but a point on a
curve, so here is the curve, for four square weight-stationary arrays. Their abstract says that the gain is one over
"the 8-bit compressed model by reducing memory access"; array, memories, bandwidth and what their simulator counts we
have not found published, so theirs need not be the quantity plotted here.

Everything is simulated from compiled programs: DeiT-tiny at 224x224, one image, every convolution and matrix product in
the format (one scale a tensor), the preset `edge64-ideal` with another array (ideal DRAM of the stated bandwidth, 100
cycles of latency, 256 KiB for activations). Weights are random: time depends on their number only. Unless a table says
otherwise vector work is free, the decoder is as fast as it needs to be (32 look-ups a cycle) and 1 MiB on chip holds
the compressed weights of the operators that follow. Speed-ups are of the whole network over raw int8, on the same
machine.
What entropy-coded int8 and palettes would leave of the gain is in [peers.md](peers.md).

![Speed-up over int8 against DRAM bandwidth](claim.svg)
"""


def write_page(found: Findings, folder: Path) -> Iterator[Path]:
    """Print summary and tables; write ``claim.md``, ``.svg``, ``.png`` and ``.csv`` (every curve); yields paths."""
    found.curves  # noqa: B018 - simulated now, so that progress comes before tables
    tables = [holds_table(found), curve_table(found), decoder_table(found), harm_table(found), charged_table(found)]
    print("\n".join([summary(found), together(found), *map(to_text, tables)]))
    folder.mkdir(parents=True, exist_ok=True)
    page, sheet = folder / f"{NAME}.md", folder / f"{NAME}.csv"
    write_text(
        page,
        "\n".join(
            [INTRODUCTION.replace("COMMAND", command(NAME)), summary(found) + together(found), *map(markdown, tables)]
        ),
    )
    write_text(sheet, to_csv(points_table(found)))
    yield from (page, sheet)
    for suffix in ("svg", "png"):
        write_figure(claim_figure(found), folder / f"{NAME}.{suffix}")
        yield folder / f"{NAME}.{suffix}"


def summary(found: Findings) -> str:
    """What the tables come to, as a list of sentences."""
    best, held = CODECS[0], {array: found.holds_to(CODECS[0], array) for array in found.arrays}
    reached = {array: bandwidth for array, bandwidth in held.items() if bandwidth is not None}
    where = ", ".join(f"{array}x{array} up to {bandwidth:.3g} B/cycle" for array, bandwidth in reached.items())
    rates = ", ".join(f"{array**2 / bandwidth:,.0f} on {array}x{array}" for array, bandwidth in reached.items())
    never = [codec for codec in CODECS if all(found.holds_to(codec, array) is None for array in found.arrays)]
    needs = {array: found.lookups_needed(best, array, bandwidth) for array, bandwidth in reached.items()}
    decoder = ", ".join(f"{lookups} on {array}x{array}" for array, lookups in needs.items())
    lines = [
        f"* **Where {CLAIM:g}x holds** ({best}; vector work free, {AMPLE_LOOKUPS} look-ups a cycle, 1 MiB for weights, "
        f"one scale a tensor): {where}."
    ]
    if rates:
        lines += [
            f"  Multipliers for each byte a cycle, at least: {rates}.",
            f"* **What the decoder must sustain** at those bandwidths: {decoder} look-ups a cycle.",
        ]
    if never:
        lines.append(f"* **Where it cannot**: above those bandwidths, and at no bandwidth with {' or '.join(never)}.")
    for setting in SETTINGS[1:]:
        most = max(max(found.curves[best, array, setting]) for array in found.arrays)
        lines.append(
            f"* **{setting.name}**: at most {most:.2f}x on any array, at any bandwidth; {_kept(found, setting)}."
        )
    return "\n".join([*lines, ""])


def _kept(found: Findings, setting: Setting) -> str:
    """How far the smallest format keeps 3x in a setting."""
    held = {array: found.holds_to(CODECS[0], array, setting) for array in found.arrays}
    where = [f"{to:.3g} on {array}x{array}" for array, to in held.items() if to is not None]
    return f"{CLAIM:g}x up to {', '.join(where)} B/cycle" if where else f"never {CLAIM:g}x"


def together(found: Findings) -> str:
    """All handicaps at once, as a preset has them; then why a memory half as large costs so much."""
    peak, best = found.bench.peak_activation_bytes() / 1024, CODECS[0]
    settings = " ".join(("--scale tensor --codecs", BASELINE, best))
    lines = [
        f"* **All at once**, as the preset `{REAL_PRESET}` has it (vector work charged, four look-ups, 64 KiB "
        f"for weights, "
        f"LPDDR4 bank by bank): {found.bench.as_is(best):.2f}x, by "
        f"`accel compare {MODEL} -m {REAL_PRESET} {settings}`.",
        f"* **256 KiB are enough, 128 are not**: on `{PRESET}` int8 holds at most {peak:.0f} KiB of activations "
        f"at once, so "
        "this is a cliff, not a slope. `accel sim -o` writes that as `occupancy` (`accel compress --scale tensor` and "
        "`accel compile` before it); its page draws it.",
        _spilled(found, best),
    ]
    return "\n".join([*lines, ""])


def _spilled(found: Findings, codec: str, bandwidth: float = 16.0) -> str:
    """Why a speed-up with spilled activations can be above the one without."""
    size = FIGURE_ARRAY
    cycles = {
        (setting, each): found.bench.cycles(each, size, bandwidth, setting)
        for setting in (CHIP, SMALL)
        for each in (BASELINE, codec)
    }
    roomy, small = (cycles[setting, BASELINE] / cycles[setting, codec] for setting in (CHIP, SMALL))
    return (
        f'* **Why 128 KiB lies above "on chip"** in the figure at 16 to 32 B/cycle: spilling slows both. At '
        f"{bandwidth:g} "
        f"B/cycle on {size}x{size} int8 takes {cycles[CHIP, BASELINE]:,} cycles with activations on chip and "
        f"{cycles[SMALL, BASELINE]:,} with 128 KiB, {codec} {cycles[CHIP, codec]:,} and {cycles[SMALL, codec]:,}: DRAM "
        f"decides again, so fewer weight bytes gain {small:.2f}x on a slow machine instead of {roomy:.2f}x on a "
        f"fast one."
    )


def holds_table(found: Findings) -> Table:
    """How far each format keeps 3x, for each array."""
    columns = [Column("array", "array")]
    for codec in CODECS:
        columns += [Column(f"{codec} to", f"{codec}: {CLAIM:g}x up to", "B/cycle")]
        columns += [Column(f"{codec} best", "at most", "1", "ratio")]
    rows = []
    for array in found.arrays:
        row: dict[str, object] = {"array": f"{array}x{array}"}
        for codec in CODECS:
            row[f"{codec} to"] = found.holds_to(codec, array)
            row[f"{codec} best"] = max(found.curves[codec, array, CHIP])
        rows.append(row)
    notes = (
        f"`-`: {CLAIM:g}x is not reached at any bandwidth from {found.bandwidths[0]:g} to {found.bandwidths[-1]:g} "
        "B/cycle.",
        "A gain ends where the array, not DRAM, decides the pace of int8 as well; it cannot exceed the ratio of the "
        "bytes moved, however slow the DRAM.",
    )
    return Table("Where 3x holds, and the most there is", tuple(columns), tuple(rows), notes)


def curve_table(found: Findings) -> Table:
    """Speed-up of the smallest format, an array a column."""
    columns = [Column("bandwidth", "DRAM [B/cycle]")]
    columns += [Column(str(array), f"{array}x{array}", "1", "ratio") for array in found.arrays]
    rows = []
    for index, bandwidth in enumerate(found.bandwidths):
        speedups = {str(array): found.curves[CODECS[0], array, CHIP][index] for array in found.arrays}
        rows.append({"bandwidth": f"{bandwidth:g}", **speedups})
    return Table(f"Speed-up of {CODECS[0]} over int8", tuple(columns), tuple(rows))


def decoder_table(found: Findings) -> Table:
    """Look-ups a cycle that the smallest format needs, at each bandwidth."""
    columns = [Column("bandwidth", "DRAM [B/cycle]")]
    columns += [Column(str(array), f"{array}x{array}", "1", "count") for array in found.arrays]
    rows = [
        {
            "bandwidth": f"{bandwidth:g}",
            **{str(array): found.lookups_needed(CODECS[0], array, bandwidth) for array in found.arrays},
        }
        for bandwidth in found.bandwidths
    ]
    length = parse_codec(CODECS[0]).vector_length
    note = (
        f"The fewest of {', '.join(map(str, LOOKUPS))} look-ups a cycle ({length} weights each) with which the network "
        f"takes at most {SUFFICIENT - 1:.0%} longer than with {LOOKUPS[-1]}."
    )
    return Table(
        f"What the decoder must sustain for {CODECS[0]}: look-ups a cycle", tuple(columns), tuple(rows), (note,)
    )


def harm_table(found: Findings) -> Table:
    """From which bandwidth on a slow decoder makes the format slower than int8, and how slow it gets."""
    columns = [Column("lookups", "look-ups a cycle", "1", "count")]
    for array in found.arrays:
        columns += [Column(f"{array} from", f"{array}x{array}: slower than int8 from", "B/cycle")]
        columns += [Column(f"{array} worst", "worst", "1", "ratio")]
    rows = []
    for lookups in LOOKUPS[:4]:
        row: dict[str, object] = {"lookups": lookups}
        for array in found.arrays:
            row[f"{array} from"] = found.harmful_from(CODECS[0], array, lookups)
            speedups = [found.bench.speedup(CODECS[0], array, each, CHIP, lookups) for each in found.bandwidths]
            row[f"{array} worst"] = min(speedups)
        rows.append(row)
    note = "On the grid of bandwidths of the CSV file; `-`: nowhere. int8 passes the decoder by."
    return Table(f"What a slow decoder costs {CODECS[0]}", tuple(columns), tuple(rows), (note,))


def charged_table(found: Findings) -> Table:
    """The smallest format in every setting: traffic, the most it gains, and how far 3x holds."""
    columns = (
        Column("setting", "machine"),
        Column("array", "array"),
        Column("baseline_bytes", "int8 DRAM", "B"),
        Column("bytes", f"{CODECS[0]} DRAM", "B"),
        Column("activation_bytes", "of it activations", "B"),
        Column("best", "at most", "1", "ratio"),
        Column("holds_to", f"{CLAIM:g}x up to", "B/cycle"),
    )
    rows = []
    for setting in SETTINGS:
        for array in found.arrays:
            runs = [simulate(found.bench.program(each, array, setting)) for each in (BASELINE, CODECS[0])]
            moved = runs[1].dram_bytes
            rows.append(
                {
                    "setting": setting.name,
                    "array": f"{array}x{array}",
                    "baseline_bytes": runs[0].dram_bytes_total,
                    "bytes": runs[1].dram_bytes_total,
                    "activation_bytes": moved["activations_read"] + moved["activations_written"],
                    "best": max(found.curves[CODECS[0], array, setting]),
                    "holds_to": found.holds_to(CODECS[0], array, setting),
                }
            )
    note = "Activation bytes include the input image and the answer, which every machine moves."
    return Table("What spilled activations and vector work leave", columns, tuple(rows), (note,))


def points_table(found: Findings) -> Table:
    """Every simulated point of every curve."""
    columns = (
        Column("codec", "codec"),
        Column("array", "array rows", "1", "count"),
        Column("setting", "machine"),
        Column("bandwidth", "bandwidth", "B/cycle"),
        Column("baseline_cycles", "int8", "cycles"),
        Column("cycles", "cycles", "cycles"),
        Column("speedup", "speed-up", "1", "ratio"),
    )
    rows = []
    for (codec, array, setting), curve in found.curves.items():
        for bandwidth, speedup in zip(found.bandwidths, curve, strict=True):
            cycles = [found.bench.cycles(each, array, bandwidth, setting) for each in (BASELINE, codec)]
            rows.append(
                {
                    "codec": codec, "array": array, "setting": setting.name, "bandwidth": bandwidth,
                    "baseline_cycles": cycles[0], "cycles": cycles[1], "speedup": speedup,
                }
            )  # fmt: skip
    return Table("Every curve", columns, tuple(rows))
