"""Registers: one table, and what is made of it: words, Markdown, and a C header that plans layers as Python does."""

from __future__ import annotations

import hashlib
import json
import random
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext
from weight_cases import random_layer, weight_program

from accel.codecs import parse_codec
from accel.errors import ConfigError
from rtl.configuration import DecoderConfig
from rtl.export import description
from rtl.layer import Geometry, layer_plan
from rtl.queue import Queue, most_held
from rtl.register_text import c_header, markdown
from rtl.registers import EVENTS, VERSION, layer_values, register_map
from rtl.tools import require

pytestmark = pytest.mark.rtl

BUILDS = [
    ("ssvq:k=256,d=8", 4, 64),
    ("ssvq:k=16,d=8", 1, 64),
    ("vq:k=4096,d=4", 2, 64),
    ("mvq:k=64,d=8,nm=2:4", 4, 64),
    ("int8", 8, 64),
    ("ssvq:k=256,d=8", 8, 128),
    ("vq:k=64,d=9", 2, 128),
]
# By version of the register map: a digest of its registers and fields. To one that has changed belongs a new row.
MAPS = {(1, 0): "ee49c1ff0c867a30", (2, 0): "303f885fce4fbf00"}
# Small counters: shapes that do not fit are as likely as those that do.
COUNTERS = {"beat_count_bits": 8, "tile_count_bits": 4, "group_count_bits": 6}

MAIN = r"""
#include <stdio.h>
#include "accel_decoder.h"
int main(void) {
  unsigned rows, columns, tile_rows, tile_columns, axis_in, code_bits;
  while (scanf("%u %u %u %u %u %u", &rows, &columns, &tile_rows, &tile_columns, &axis_in, &code_bits) == 6) {
    accel_decoder_layer layer;
    uint32_t base[64] = {0};
    int wrong = accel_decoder_plan(rows, columns, tile_rows, tile_columns, (int)axis_in, code_bits, &layer);
    if (!wrong) accel_decoder_start(base, &layer);
    printf("%d", wrong);
    for (int i = 0; i < 32; ++i) printf(" %u", (unsigned)base[i]);
    printf("\n");
  }
  return 0;
}
"""


def config_of(spelling: str, lookups: int, input_bits: int = 64, **counters: int) -> DecoderConfig:
    return DecoderConfig(parse_codec(spelling), lookups, input_bits, **counters)


@pytest.mark.parametrize("build", BUILDS)
def test_map_is_sound(build: tuple[str, int, int]) -> None:
    registers = register_map(config_of(*build)).registers
    assert [r.offset for r in registers] == sorted({r.offset for r in registers})
    assert len({r.name for r in registers}) == len(registers)
    for register in registers:
        assert register.offset % 4 == 0 and register.offset < 128
        masks = [field.mask for field in register.fields]
        assert sum(masks) < 1 << 32 and sum(masks) == sum(set(masks))
        for field in register.fields:
            assert field.reset < 1 << field.width and field.doc


def test_version_is_that_of_the_map() -> None:
    """A driver tells by it what registers mean."""
    registers = register_map(config_of("ssvq:k=256,d=8", 1)).registers
    rows = [(r.offset, r.name, r.access, [(field.lsb, field.name) for field in r.fields]) for r in registers]
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] == MAPS[VERSION]


def test_words_from_fields_and_back() -> None:
    build = register_map(config_of("ssvq:k=256,d=8", 4))["BUILD"]
    fields = build.unpack(build.reset)
    assert fields == {"family": 3, "lookups": 4, "vector_length": 8, "input_bits": 64, "code_bits": 8}
    assert build.pack(**fields) == build.reset
    with pytest.raises(ConfigError, match=r"^register BUILD: lookups=16; allowed: 0 to 15$"):
        build.pack(lookups=16)
    with pytest.raises(ConfigError, match=r"^register BUILD: field 'lookup'; allowed: .*; did you mean 'lookups'\?$"):
        build.pack(lookup=1)
    with pytest.raises(ConfigError, match=r"^register 'BILD'; allowed: .*; did you mean 'BUILD'\?$"):
        register_map(config_of("int8", 1))["BILD"]


def test_documentation_names_every_field() -> None:
    text = markdown(config_of("ssvq:k=256,d=8", 1))
    for register in register_map(config_of("ssvq:k=256,d=8", 1)).registers:
        assert f"| {register.offset:#04x} | {register.name} | {register.access} |" in text
    assert all(f"| EVENTS | {bit} | {name} |" in text for bit, name in enumerate(EVENTS))


def random_shape(rng: random.Random, config: DecoderConfig) -> tuple[int, ...]:
    sizes = [rng.choice([0, 1, *(rng.randrange(1, 400) for _ in range(8))]) for _ in range(2)]
    tile = [rng.choice([1, 7, 8, 16, 33]) for _ in range(2)]
    width = rng.choice([*config.formats, *config.formats, 13])
    return (*sizes, *tile, rng.randrange(2), width)


def expected(config: DecoderConfig, shape: tuple[int, ...]) -> list[int]:
    """The words at 0x00 to 0x7c once the layer is started; only zeros if it cannot be."""
    words = [0] * 32
    rows, columns, tile_rows, tile_columns, axis_in, code_bits = shape
    try:
        geometry = Geometry(rows, columns, tile_rows, tile_columns, "in" if axis_in else "out")
        values = layer_values(layer_plan(config, geometry, code_bits))
    except ConfigError:
        return words
    registers = register_map(config)
    for name, value in {**values, "START": 1}.items():
        words[registers[name].offset // 4] = value
    return words


@pytest.mark.parametrize("build", BUILDS)
def test_c_header_plans_as_python_does(build: tuple[str, int, int], tmp_path: Path) -> None:
    require(["g++"])
    config = config_of(*build, **COUNTERS)
    (tmp_path / "accel_decoder.h").write_text(c_header(config))
    (tmp_path / "main.c").write_text(MAIN)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"]
    subprocess.run(["gcc", *flags, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    rng = random.Random(5)
    shapes = [random_shape(rng, config) for _ in range(3000)]
    text = "\n".join(" ".join(map(str, shape)) for shape in shapes)
    told = subprocess.run([tmp_path / "main"], input=text, capture_output=True, text=True, check=True)
    lines = told.stdout.split("\n")
    verdicts = set()
    for shape, line in zip(shapes, lines, strict=False):
        wrong, *words = map(int, line.split())
        verdicts.add(wrong)
        assert words == expected(config, shape), shape
        assert (wrong == 0) == any(words)
    assert verdicts == {0, -1, -2, -3}


def test_c_names_are_those_of_the_table(tmp_path: Path) -> None:
    config = config_of("ssvq:k=256,d=8", 1)
    header = c_header(config)
    defines = dict(re.findall(r"^#define (\w+) (\w+)$", header, re.MULTILINE))
    for register in register_map(config).registers:
        assert defines[f"ACCEL_DECODER_{register.name}"] == f"{register.offset:#04x}u"
    assert defines["ACCEL_DECODER_BUILD_LOOKUPS_MASK"] == "0x000000f0u"
    assert defines["ACCEL_DECODER_BUILD_LOOKUPS_SHIFT"] == "4"


def test_export_names_what_the_c_function_takes() -> None:
    """The JSON of ``accel rtl export`` has every argument of ``accel_decoder_plan`` under its name."""
    header = c_header(config_of("ssvq:k=256,d=8", 1))
    arguments = re.search(r"int accel_decoder_plan\((.*?), accel_decoder_layer", header, re.DOTALL)
    assert arguments
    names = re.findall(r"(\w+)(?:,|$)", arguments[1])
    program = weight_program([random_layer("ssvq:k=16,d=8", (32, 16), "in", np.random.default_rng(0))])
    described = description(program.streams[0], parse_codec("ssvq:k=16,d=8"), [])
    assert len(names) == 6 and all(isinstance(described[name], int) for name in names)
    assert described["axis_in"] == 1


def test_layers_that_can_wait() -> None:
    """With writers as slow as the bus."""
    queue, taken = Queue(8), 0

    async def bench(ctx: SimulatorContext) -> None:
        nonlocal taken
        while ctx.get(queue.room):
            ctx.set(queue.write, 1)
            await ctx.tick()
            ctx.set(queue.write, 0)
            await ctx.tick().repeat(11)
            taken += 1

    sim = Simulator(queue)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert taken == most_held()


def test_what_cannot_be_counted_is_refused() -> None:
    config = config_of("ssvq:k=256,d=8", 2, **COUNTERS)
    with pytest.raises(ConfigError, match=r"^layer: code_bits=9; allowed in this build: 1, 2, .*8$"):
        layer_plan(config, Geometry(8, 8, 8, 8), 9)
    with pytest.raises(ConfigError, match=r"^full strip: tiles=17; allowed in this build: at most 16$"):
        layer_plan(config, Geometry(17, 8, 1, 8), 8)
    with pytest.raises(ConfigError, match=r"^full strip: vectors=129; allowed in this build: at most 128$"):
        layer_plan(config, Geometry(130, 8, 129, 8), 8)
    with pytest.raises(ConfigError, match=r"^layer: tile_rows=0; allowed: at least 1$"):
        Geometry(8, 8, 0, 8)
    with pytest.raises(ConfigError, match=r"^layer: vector_axis='up'; allowed: out, in$"):
        Geometry(8, 8, 8, 8, "up")
