"""A decoder's package explained to whoever feeds it: ports, streams, and one layer from its shape to its output beats.

Widths, sizes and orders are those of the build; the layer is the first of the packaged vectors.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from string import Template
from types import MappingProxyType

import numpy as np
from amaranth.hdl import Shape
from amaranth.lib.wiring import In

from accel.codecs.records import RecordLayout, unpack_records
from accel.isa import BLOCK_BYTES
from rtl.codebook import BANKS
from rtl.codebook_loader import BEAT_BYTES
from rtl.configuration import DecoderConfig, WordFormat
from rtl.decoder import BUS, decoder_ports
from rtl.layer import Geometry
from rtl.names import DECODER, DecoderNames
from rtl.queue import most_held
from rtl.register_text import facts
from rtl.registers import layer_values, register_map
from rtl.testbench import beat_lines, bench_layers, example_geometry, output_line
from rtl.vectors import LayerVectors
from rtl.verilog import Port

_MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "clk": "Clock of everything; rising edge",
        "rst": "Reset: synchronous, active high",
        "irq": "High while an event enabled in IRQ_ENABLE is set in EVENTS",
        "s_axis_": "Weight stream: one packet a strip",
        "s_axis_codebook_": "Codebooks: one packet a layer",
        "m_axis_": "Decoded weights",
        BUS: "AXI4-Lite: `registers.md`",
    }
)


def ports(config: DecoderConfig) -> list[Port]:
    """Every port of a decoder's module."""
    flows = [
        Port(name, Shape.cast(member.shape).width, "input" if member.flow is In else "output")
        for name, member in decoder_ports(config).items()
    ]
    return [Port("clk", 1, "input"), Port("rst", 1, "input"), *flows]


def stream_markdown(config: DecoderConfig, names: DecoderNames = DECODER) -> str:
    """The package's README: how the ports are to be served, and an example with numbers."""
    layer = bench_layers(config)[0]
    values = {
        **names.fields(),
        "build": facts(config),
        "ports": "\n".join(f"| `{p.name}` | {p.direction} | {p.width} | {_meaning(p.name)} |" for p in ports(config)),
        "records": "\n".join(_record_row(config, row) for row in config.formats.values()),
        "side": _side(config),
        "codebook": _codebook(config) if config.has_codebook else "",
        "queued": most_held(),
        "beat_bytes": config.input_bits // 8,
        "block_bytes": BLOCK_BYTES,
        "block_beats": BLOCK_BYTES * 8 // config.input_bits,
        "input_bits": config.input_bits,
        "last_bit": config.input_bits - 1,
        "lookups": config.lookups,
        "d": config.vector_length,
        "output_bytes": config.output_bytes,
        "latency": config.latency_cycles,
        "example": "\n\n".join(_example(config, layer, names)),
    }
    return "\n\n".join(map(_filled, _TEXT.substitute(values).split("\n\n")))


def _filled(paragraph: str) -> str:
    """Prose in lines of one width: numbers of the build have many."""
    is_prose = paragraph[:1].isalnum() or paragraph.startswith("**")
    return textwrap.fill(paragraph, 120, break_on_hyphens=False) if is_prose else paragraph


def _meaning(name: str) -> str:
    return _MEANINGS[max((prefix for prefix in _MEANINGS if name.startswith(prefix)), key=len)]


def _record_row(config: DecoderConfig, row: WordFormat) -> str:
    layout = RecordLayout(row.code_bits, config.vector_length, config.side_bits)
    count, size, code = layout.vectors_per_record, layout.record_bytes, row.code_bits
    where = f"code i in bits {code}*i to {code}*i+{code - 1}"
    if row.kind == "aligned":
        where = f"code in bits {code - 1}:0, side bits in {row.record_bits - 1}:{code}"
    if row.kind == "superblock":
        start, side = count * code, config.side_bits
        where += f"; from bit {start} on, side bits of vector i: {start}+{side}*i to {start}+{side}*i+{side - 1}"
    return f"| {code} | {row.kind} | {count} | {size} | {where} |"


def _side(config: DecoderConfig) -> str:
    mask = config.codec.mask
    if mask:
        groups = config.vector_length // mask.group
        return (
            f"Side bits of a vector: {config.side_bits}, the indices of {groups} masks of {mask.index_bits} bits, that "
            f"of the first {mask.group} weights lowest; {mask.kept} of {mask.group} weights are kept (FORMATS.md, "
            "section Codes and bits)."
        )
    if config.codec.has_signs:
        return f"Side bits of a vector: {config.side_bits} signs, that of the first weight lowest; 1 is negative."
    return "There are no side bits."


def _codebook(config: DecoderConfig) -> str:
    kind = "magnitudes of 7 bits, 0 to 127; bit 7 is 0" if config.codec.has_signs else "int8, -127 to 127"
    folded = " They are folded (FORMATS.md, section Codes and bits): C and P do not go in." * bool(
        config.codec.projection_shape
    )
    return _CODEBOOK.substitute(
        beat_bits=8 * BEAT_BYTES, beat_bytes=BEAT_BYTES, d=config.vector_length, kind=kind, folded=folded, banks=BANKS
    )


def _example(config: DecoderConfig, layer: LayerVectors, names: DecoderNames) -> Iterator[str]:
    shape = example_geometry(config)
    yield _EXAMPLE.substitute({**names.fields(), **plan_arguments(shape)}, code_bits=layer.plan.code_bits)
    yield _writes(config, layer, names)
    if config.has_codebook:
        beats = list(beat_lines(layer.codebook, BEAT_BYTES, with_keep=True))
        yield (
            f"**3. The codebook**: {1 << layer.plan.code_bits} codewords, {len(layer.codebook)} bytes, one packet of "
            f"{len(beats)} beats: the first {len(beats)} lines of `tb/codebook.memh`, from `{beats[0]}` to "
            f"`{beats[-1]}` (TLAST, TKEEP in two digits, TDATA)."
        )
    yield _packets(config, layer)
    yield _first_vector(config, layer)
    yield _output(config, layer)


def plan_arguments(shape: Geometry) -> dict[str, int]:
    """The arguments of ``accel_decoder_plan`` by which a shape is told, by name."""
    sizes = {name: getattr(shape, name) for name in ("rows", "columns", "tile_rows", "tile_columns")}
    return {**sizes, "axis_in": int(shape.vector_axis == "in")}


def _writes(config: DecoderConfig, layer: LayerVectors, names: DecoderNames) -> str:
    registers = register_map(config)
    values = {**layer_values(layer.plan), "START": 1}
    rows = [f"| {registers[name].offset:#04x} | {name} | {value} |" for name, value in values.items()]
    head = f"**2. Write the registers**, as `{names.prefix}_start` does"
    lines = f"the first {len(rows)} lines of `tb/writes.memh`: offset in two digits, value in eight"
    return "\n".join([f"{head} ({lines}):", "", "| Offset | Register | Value |", "|---|---|---|", *rows])


def _packets(config: DecoderConfig, layer: LayerVectors) -> str:
    size, first = config.input_bits // 8, 1
    rows = []
    for number, (strip, packet) in enumerate(zip(layer.plan, layer.packets, strict=True)):
        beats = list(beat_lines(packet, size))
        held = RecordLayout(layer.plan.code_bits, config.vector_length, config.side_bits)
        used = held.stream_bytes(strip.total_vectors)
        lines = f"{first} to {first + len(beats) - 1}"
        rows.append(f"| {number} | {strip.total_vectors} | {used} | {len(packet)} | {len(beats)} | {lines} |")
        first += len(beats)
    head = "| Strip | Vectors | Bytes of records | Bytes with padding | Beats | Lines of `tb/stream.memh` |"
    text = "**4. The strips**, one packet each (a line is TLAST, then TDATA; padding is random here: nobody reads it):"
    return "\n".join([text, "", head, "|---|---|---|---|---|---|", *rows])


def _first_vector(config: DecoderConfig, layer: LayerVectors) -> str:
    layout = RecordLayout(layer.plan.code_bits, config.vector_length, config.side_bits)
    count = layer.plan.full.total_vectors
    codes, side = unpack_records(np.frombuffer(layer.packets[0], np.uint8), count, layout)
    code, d = int(codes[0]), config.vector_length
    told = [f"code {code}"]
    if side is not None:
        told.append(f"side bits {''.join(str(int(bit)) for bit in side[0])} (lowest first)")
    if config.has_codebook:
        told.append(f"codeword {np.frombuffer(layer.codebook, np.int8)[code * d : code * d + d].tolist()}")
    weights = np.frombuffer(layer.output[0].weights, np.int8)[:d].tolist()
    line = next(beat_lines(layer.packets[0], config.input_bits // 8))
    return f"The first beat is `{line}`. The first vector has {', '.join(told)}; its weights are {weights}."


def _output(config: DecoderConfig, layer: LayerVectors) -> str:
    rows, at = [], 0
    for number, strip in enumerate(layer.plan):
        for tile in range(strip.tiles):
            vectors = strip.last_vectors if tile == strip.tiles - 1 else strip.vectors
            end = at + -(-vectors // config.lookups)
            kept = len(layer.output[end - 1].weights)
            rows.append(f"| {number} | {tile} | {vectors} | {at + 1} to {end} | {kept} of {config.output_bytes} |")
            at = end
    line = output_line(config, layer.output[0].weights, layer.output[0].last)
    head = "| Strip | Tile | Vectors | Lines of `tb/expected.memh` | Bytes kept in the last beat |"
    text = f"**5. What comes out**: {at} beats (TLAST, TKEEP, TDATA), the first of them `{line}`. Then `layer_done`."
    return "\n".join([text, "", head, "|---|---|---|---|---|", *rows])


_TEXT = Template("""\
# Decoder

Build: $build.

- `$verilog`: module `$module`, all of it. `$core`: its FuseSoC description.
- `registers.md`: the registers. `$header`: the same in C, with `${prefix}_plan` and `${prefix}_start`.
- `streams.svg`: a timing diagram of both streams; `streams.json`: the same for WaveDrom.
- `tb/`: `$testbench.v`, a self-checking testbench, and its vectors. In that folder:
  `iverilog -g2005 -o $testbench ../$verilog $testbench.v && ./$testbench`.

FORMATS.md, named below, is the one of accel's documentation; what this build needs of it is said here.

## Ports and streams

| Port | Direction | Bits | Meaning |
|---|---|---|---|
$ports

Streams are AXI4-Stream: a beat moves in a cycle with TVALID and TREADY high. In all of them byte 0 is TDATA[7:0].

### s_axis: weights

A strip (up to `tile_columns` columns of the weight stream, all rows) is one packet: its records, then padding with
zeros to whole blocks of $block_bytes bytes, as it lies in DRAM. Beats have $input_bits bits: byte n of a strip is
byte n mod $beat_bytes of beat n div $beat_bytes; a block is $block_beats beats. There is no TKEEP: all beats are
whole. TLAST comes with the last beat, padding included (FULL_BEATS, for the last strip EDGE_BEATS). Strips come in
order, layers in the order of their START; beats are taken only after it. FORMATS.md, sections Records and Tile
streams.

Tiles of a strip follow one another without padding in between, even within a record. Bits count from the lowest: bit n
of a record is bit n mod 8 of its byte n div 8. The last record is filled up with zeros. One row for each CODE_BITS:

| CODE_BITS | Record | Vectors | Bytes | Where |
|---|---|---|---|---|
$records

$side
$codebook
### m_axis: decoded weights

Weights are int8, two's complement, without their scale; $d to a vector, up to $lookups vectors a beat: weight w of
vector v of a beat is byte $d*v+w, the first vector in the low bytes. TKEEP marks all $output_bytes bytes but in the
last beat of a tile, where it marks the vectors that are left; other bytes are undefined. TLAST ends a tile, not a
strip: a strip is as many packets as it has tiles. Tiles come in the order of the strip, from row 0 down. Within a
tile of r rows and c columns, `axis_in` 0: for each row ceil(c/$d) vectors of $d adjacent columns; `axis_in` 1: for
each $d adjacent rows one vector a column. Vectors that hang over the edge come out whole; drop what is beyond it.

A beat of weights is offered $latency cycles after the beat of the stream that brings the last of its bits was taken, if
the output is taken and neither the beats before it nor its codebook are waited for.

### Layers ahead

START may be written while STATUS.room is 1. $queued layers or more can be queued so, before anything of them is sent;
STATUS.layers says how many are queued or in work. START with no room sets `start_overrun` and queues nothing.

## A layer, step by step

The first of the testbench's layers.

$example
""")

_CODEBOOK = Template("""
### s_axis_codebook: codewords

One packet a layer, in the order of the layers: 2**CODE_BITS codewords, codeword 0 first, $d bytes each (first weight
first), without gaps, in beats of $beat_bits bits: byte n of the codebook is byte n mod $beat_bytes of beat n div
$beat_bytes; elements are $kind.$folded TLAST comes with the last beat. TKEEP is looked at in that beat only: it marks,
from the lowest, the bytes that are there.

A packet may come before or after the START of its layer, and before or after the layer's strips begin. $banks
codebooks fit: further ones wait (TREADY low) until the last vector of an earlier layer is looked up. Whoever sends
both streams in turn must not put the codebook of layer n+$banks before the strips of layer n.
""")

_EXAMPLE = Template("""\
**1. Plan it.** A weight stream of $rows rows (reduction) by $columns columns (out) in tiles of $tile_rows by
$tile_columns, codes of $code_bits bits. `accel rtl export` writes these numbers under the same names.

```c
${prefix}_layer layer;
int wrong = ${prefix}_plan(/* rows */ $rows, /* columns */ $columns,
${blank}                  /* tile_rows */ $tile_rows, /* tile_columns */ $tile_columns,
${blank}                  /* axis_in */ $axis_in, /* code_bits */ $code_bits, &layer);
/* wrong == ${PREFIX}_OK */
${prefix}_start(base, &layer); /* base: volatile uint32_t *, where s_axil is mapped */
```""")
