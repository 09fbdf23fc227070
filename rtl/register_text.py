"""The registers of a decoder for people (Markdown) and for drivers in C (a header of its own, C99)."""

from __future__ import annotations

from collections.abc import Iterator
from string import Template

from accel import __version__
from rtl.configuration import DecoderConfig
from rtl.layer import limits
from rtl.names import DECODER, DecoderNames
from rtl.registers import Register, RegisterMap, register_map


def markdown(config: DecoderConfig, names: DecoderNames = DECODER) -> str:
    """A table of registers and one of fields."""
    registers = register_map(config).registers
    rows = [f"| {r.offset:#04x} | {r.name} | {r.access} | {r.reset:#010x} | {r.doc} |" for r in registers]
    fields = [
        f"| {r.name} | {_bits(f.lsb, f.width)} | {f.name} | {f.doc} |"
        for r in registers
        for f in r.fields
        if not _whole(r)
    ]
    recipe = _RECIPE.substitute(names.fields())
    return "\n".join([_INTRODUCTION.substitute(build=facts(config)), *rows, _FIELDS_HEAD, *fields, recipe])


def facts(config: DecoderConfig) -> str:
    """A build in one line."""
    return f"{config.codec}, {config.lookups} vectors a cycle, {config.input_bits}-bit weight stream"


def _whole(register: Register) -> bool:
    return register.fields[0].name == "value"


def _bits(lsb: int, width: int) -> str:
    return f"{lsb}" if width == 1 else f"{lsb + width - 1}:{lsb}"


_INTRODUCTION = Template("""\
# Registers of the decoder

Build: $build. AXI4-Lite, 32 bits, byte offsets. Registers are written whole: a write of fewer bytes, to a register that
is read-only or to an unknown offset gets SLVERR, as does a read of an unknown offset. Bits of no field read as zero and
ignore what is written. A write takes about twelve cycles and has
had its effect when its response comes.

RO: read-only. RW: read and write. WO: acts when written, reads as zero. W1C: write ones to clear. Reset does not touch
the registers of the next layer (0x40 and up): write all of them before the first START.

| Offset | Name | Access | Reset | Meaning |
|---|---|---|---|---|""")

_FIELDS_HEAD = """
| Register | Bits | Field | Meaning |
|---|---|---|---|"""

_RECIPE = Template("""
ID, VERSION and BUILD tell which decoder this is; the header has their values (`${PREFIX}_VERSION_RESET`). A driver
compares them first: registers may mean something else in another major version (1 counted beats where 2 has words).

To decode a layer: write CODE_BITS to EDGE_SIDE_WORDS, then 1 to START; send its codebook as one packet and each of its
strips as one packet. START takes a copy: the next layer can be written, started and sent at once, as long as STATUS
says there is room. The counts follow from the shape of the weight stream: `${prefix}_plan` in `$header`.
`README.md` says what the streams carry and shows a layer with its numbers.
""")


def c_header(config: DecoderConfig, names: DecoderNames = DECODER) -> str:
    """Offsets, masks and shifts of all fields, what the build is, and ``accel_decoder_plan`` (by the name given), which
    computes what a layer is told as ``rtl.layer`` does."""
    registers = register_map(config)
    most = limits(config)
    layer = registers.of("layer")
    return _HEADER.substitute(
        names.fields(),
        version=__version__,
        build=facts(config),
        defines="\n".join(_defines(registers, names.macro_prefix)),
        vector_length=config.vector_length,
        side_bits=config.side_bits,
        input_bits=config.input_bits,
        widths=f"{sum(1 << width for width in config.formats):#x}",
        most_strips=most["strips"],
        most_tiles=most["tiles"],
        most_vectors=most["vectors"],
        most_beats=most["beats"],
        members="\n".join(f"  uint32_t {row.name.lower()}; /* {row.doc} */" for row in layer),
        count=len(layer),
        first=layer[0].name,
    )


def _defines(registers: RegisterMap, prefix: str) -> Iterator[str]:
    for register in registers.registers:
        yield f"\n/* {register.doc} ({register.access}) */\n#define {prefix}_{register.name} {register.offset:#04x}u"
        for field in () if _whole(register) else register.fields:
            name = f"{prefix}_{register.name}_{field.name.upper()}"
            yield f"#define {name}_MASK {field.mask:#010x}u\n#define {name}_SHIFT {field.lsb}"
        if register.storage == "constant":
            yield f"#define {prefix}_{register.name}_RESET {register.reset:#010x}u"


_HEADER = Template("""\
/* Registers of an accel decoder: made by accel $version.
 * Build: $build
 */
#ifndef ${PREFIX}_H
#define ${PREFIX}_H

#include <stdint.h>
$defines

/* The build. Bit w of ${PREFIX}_WIDTHS is set if codes of w bits can be decoded. */
#define ${PREFIX}_VECTOR_LENGTH ${vector_length}u
#define ${PREFIX}_SIDE_BITS ${side_bits}u
#define ${PREFIX}_INPUT_BITS ${input_bits}u
#define ${PREFIX}_WIDTHS ${widths}u
#define ${PREFIX}_BLOCK_BYTES 64u
#define ${PREFIX}_MOST_STRIPS ${most_strips}u
#define ${PREFIX}_MOST_TILES ${most_tiles}u
#define ${PREFIX}_MOST_VECTORS ${most_vectors}u
#define ${PREFIX}_MOST_BEATS ${most_beats}u

/* What ${prefix}_plan returns. */
enum { ${PREFIX}_OK = 0, ${PREFIX}_BAD_WIDTH = -1, ${PREFIX}_BAD_SHAPE = -2, ${PREFIX}_TOO_LARGE = -3 };

/* A layer as its registers want it, in their order from ${PREFIX}_$first on. */
typedef struct {
$members
} ${prefix}_layer;
#define ${PREFIX}_LAYER_WORDS ${count}u

typedef struct {
  uint64_t vectors, last_vectors, beats, code_words, side_words;
} ${prefix}_strip_;

static inline uint64_t ${prefix}_ceil_(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }

static inline uint32_t ${prefix}_gcd_(uint32_t a, uint32_t b) {
  while (b) { uint32_t rest = a % b; a = b; b = rest; }
  return a;
}

/* Codes of a tile: vectors run along its columns, or its rows; the last one is padded. */
static inline uint64_t ${prefix}_codes_(uint64_t rows, uint64_t columns, int axis_in) {
  const uint64_t d = ${PREFIX}_VECTOR_LENGTH;
  return axis_in ? ${prefix}_ceil_(rows, d) * columns : rows * ${prefix}_ceil_(columns, d);
}

/* Vectors of the smallest record: whole bytes of codes; one vector; or whole 64-bit words of codes and of side bits. */
static inline uint32_t ${prefix}_record_(uint32_t code_bits, int *aligned) {
  const uint32_t side = ${PREFIX}_SIDE_BITS, both = code_bits + side;
  uint32_t a, b;
  *aligned = side && (both == 8 || both == 16 || both == 32 || both == 64);
  if (*aligned) return 1;
  if (!side) return 8 / ${prefix}_gcd_(8, code_bits);
  a = 64 / ${prefix}_gcd_(64, code_bits);
  b = 64 / ${prefix}_gcd_(64, side);
  return a / ${prefix}_gcd_(a, b) * b;
}

static inline int ${prefix}_strip_plan_(uint32_t rows, uint32_t columns, uint32_t tile_rows, int axis_in,
${blank}                               uint32_t code_bits, ${prefix}_strip_ *strip) {
  const uint64_t side = ${PREFIX}_SIDE_BITS, beat = ${PREFIX}_INPUT_BITS;
  const uint64_t tiles = ${prefix}_ceil_(rows, tile_rows), both = code_bits + side;
  uint64_t total, blocks, start, within, code_end, side_end;
  int aligned;
  const uint64_t group = ${prefix}_record_(code_bits, &aligned);
  strip->last_vectors = ${prefix}_codes_(rows - (tiles - 1) * tile_rows, columns, axis_in);
  strip->vectors = tiles > 1 ? ${prefix}_codes_(tile_rows, columns, axis_in) : strip->last_vectors;
  if (tiles > ${PREFIX}_MOST_TILES || strip->vectors > ${PREFIX}_MOST_VECTORS ||
      strip->last_vectors > ${PREFIX}_MOST_VECTORS)
    return ${PREFIX}_TOO_LARGE;
  total = (tiles - 1) * strip->vectors + strip->last_vectors;
  blocks = ${prefix}_ceil_(${prefix}_ceil_(total, group) * group * both, 8 * ${PREFIX}_BLOCK_BYTES);
  start = (total - 1) / group * group * both;
  within = (total - 1) % group + 1;
  code_end = start + within * code_bits;
  side_end = side ? start + group * code_bits + within * side : 0;
  strip->beats = blocks * 8 * ${PREFIX}_BLOCK_BYTES / beat;
  strip->code_words = ${prefix}_ceil_(code_end, 64);
  strip->side_words = ${prefix}_ceil_(side_end, 64);
  return strip->beats > ${PREFIX}_MOST_BEATS ? ${PREFIX}_TOO_LARGE : ${PREFIX}_OK;
}

/* What the registers are told of a weight stream of rows (reduction) by columns (out), cut into tiles; axis_in: vectors
 * run along the reduction. Returns ${PREFIX}_OK, or why this build cannot decode it. */
static inline int ${prefix}_plan(uint32_t rows, uint32_t columns, uint32_t tile_rows, uint32_t tile_columns,
${blank}                        int axis_in, uint32_t code_bits, ${prefix}_layer *layer) {
  ${prefix}_strip_ full, edge;
  uint64_t strips;
  int wrong;
  if (code_bits > 31 || !(${PREFIX}_WIDTHS >> code_bits & 1u)) return ${PREFIX}_BAD_WIDTH;
  if (!rows || !columns || !tile_rows || !tile_columns) return ${PREFIX}_BAD_SHAPE;
  strips = ${prefix}_ceil_(columns, tile_columns);
  if (strips > ${PREFIX}_MOST_STRIPS) return ${PREFIX}_TOO_LARGE;
  wrong = ${prefix}_strip_plan_(rows, columns - (uint32_t)(strips - 1) * tile_columns, tile_rows, axis_in,
${blank}                       code_bits, &edge);
  full = edge;
  if (!wrong && strips > 1) wrong = ${prefix}_strip_plan_(rows, tile_columns, tile_rows, axis_in, code_bits, &full);
  if (wrong) return wrong;
  layer->code_bits = code_bits;
  layer->strips = (uint32_t)strips;
  layer->tiles = (uint32_t)${prefix}_ceil_(rows, tile_rows);
  layer->full_vectors = (uint32_t)full.vectors;
  layer->full_last_vectors = (uint32_t)full.last_vectors;
  layer->full_beats = (uint32_t)full.beats;
  layer->full_code_words = (uint32_t)full.code_words;
  layer->full_side_words = (uint32_t)full.side_words;
  layer->edge_vectors = (uint32_t)edge.vectors;
  layer->edge_last_vectors = (uint32_t)edge.last_vectors;
  layer->edge_beats = (uint32_t)edge.beats;
  layer->edge_code_words = (uint32_t)edge.code_words;
  layer->edge_side_words = (uint32_t)edge.side_words;
  return ${PREFIX}_OK;
}

/* Write a layer to the registers at base and queue it; STATUS must say that there is room. */
static inline void ${prefix}_start(volatile uint32_t *base, const ${prefix}_layer *layer) {
  const uint32_t *word = &layer->code_bits;
  for (uint32_t i = 0; i < ${PREFIX}_LAYER_WORDS; ++i) base[${PREFIX}_$first / 4 + i] = word[i];
  base[${PREFIX}_START / 4] = ${PREFIX}_START_START_MASK;
}

#endif
""")
