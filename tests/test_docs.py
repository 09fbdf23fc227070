"""Documents say what the code does: ISA.md is fresh, FORMATS.md names every key, type and constant of real files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strategies import Coding, pack_randomly

from accel.codecs import CODECS, parse_codec
from accel.codecs.base import EncodedLayer
from accel.codecs.records import RecordLayout
from accel.container import DIMENSION_LIMIT, HEADER_LIMIT_BYTES, read_container
from accel.documents import energy_markdown, isa_markdown, table
from accel.graph import GraphBuilder
from accel.isa import BLOCK_BYTES, INSTRUCTIONS, ISA_VERSION, VECTOR_FUNCTIONS, Instruction, encode_program
from accel.machine import KEYS, load_machine
from accel.metrics import CAUSES, DECODER, RUN_SCHEMA, TRAFFIC
from accel.packed import PARAMETER_TYPES, SCHEMA, Packed, Source, write_packed
from accel.program import (
    LAYER_KINDS,
    PROGRAM_SCHEMA,
    Layer,
    Port,
    Program,
    StoredTensor,
    WeightStream,
    write_program,
)
from accel.quantisation import Quantisation, TensorScale, stored_tensors

ROOT = Path(__file__).parents[1]
FORMATS = (ROOT / "FORMATS.md").read_text()


CHAPTERS = {part.partition("\n")[0]: part for part in re.split(r"^## ", FORMATS, flags=re.MULTILINE)}


def test_isa_document_is_fresh() -> None:
    assert (ROOT / "ISA.md").read_text() == isa_markdown(), "run: accel isa --markdown > ISA.md"


def test_the_energy_chapter_is_fresh() -> None:
    assert energy_markdown() in FORMATS, "put the output of accel.documents.energy_markdown into FORMATS.md"


def test_isa_document_names_every_field_function_kind_and_cause() -> None:
    text = isa_markdown()
    for row in INSTRUCTIONS:
        chapter = text.partition(f"### {row.mnemonic}\n")[2].partition("\n##")[0]
        assert all(f"| {f.name} | {f.width} |" in chapter for f in row.fields), row.mnemonic
    for name in (*(function.name for function in VECTOR_FUNCTIONS), *TRAFFIC, *CAUSES):
        assert f"| {name} |" in text


def test_cells_are_escaped() -> None:
    assert table(["a"], [["x|y"]]) == "| a |\n| --- |\n| x\\|y |\n"


def keys(document: Any, free: tuple[str, ...] = ()) -> Iterator[str]:
    """Every key of a JSON document, at any depth; objects under ``free`` keys have names that are data."""
    if isinstance(document, list):
        for item in document:
            yield from keys(item, free)
    elif isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from keys(list(value.values()) if key in free and isinstance(value, dict) else value, free)


def undocumented(document: Any, chapters: str, free: tuple[str, ...]) -> set[str]:
    """Keys that no code span of the chapters ends in."""
    spans = set(re.findall(r"`([^`]+)`", chapters))
    known = {re.split(r"\.|\[\]", span)[-1] for span in spans} | {span.partition(".")[0] for span in spans}
    return {key for key in keys(document, free) if key not in known}


def packed() -> Packed:
    """A model of one linear layer and a relu, ssvq."""
    builder = GraphBuilder("net")
    x, w, b = builder.input("x", (2, 8)), builder.parameter("w", (8, 8)), builder.parameter("b", (8,))
    builder.op("softmax", builder.op("gemm", x, w, b), output="y", axis=1)
    codec = parse_codec("ssvq:k=2,d=4")
    codes, negative = np.zeros((2, 8), np.uint16), np.zeros((2, 8, 4), np.bool_)
    layer = EncodedLayer(codec, (8, 8), "out", codes, negative, np.ones((2, 4), np.int8), np.ones(1, np.float32))
    source = Source("0" * 64, {"weights": "random"})
    graph = builder.build("y")
    scales = Quantisation(dict.fromkeys(stored_tensors(graph), TensorScale(0.5)), True, "minmax", 1)
    return Packed(graph, {"w": layer}, {"b": np.zeros(8, np.float32)}, source, quantisation=scales)


def program() -> Program:
    """The shortest program, with one of everything in its document."""
    code = TensorScale(0.5)
    port = Port("x", (2, 8), (8, 1), 64, 16, 16, code)
    return Program(
        model="net", codec="int8", source={"sha256": "0" * 64, "description": {}}, packed_digest="0" * 64,
        machine=load_machine("ecp5"), batch=1, words=encode_program([Instruction("FIN")]),
        instruction_layer=np.zeros(1, np.int32), image=np.zeros(128, np.uint8), dram_bytes=256,
        layers=(Layer("l", "gemm"),), inputs=(port,), outputs=(port,), notes=("a note",), report={"figure": 1},
        calibrated=True, tensors=(StoredTensor("x", 0, 0, "dram", 64, (2, 8), (8, 1), code),),
        streams=(WeightStream(0, "w", "int8", "out", 0, 1, 8, 8, 8, 8, 0, 0, "0" * 64),),
    )  # fmt: skip


def test_packed_files_are_described(tmp_path: Path) -> None:
    path = tmp_path / "net.vq.safetensors"
    write_packed(packed(), path)
    document, tensors = read_container(path, SCHEMA)
    free = ("description", "inputs", "parameters", "layers", "attributes", "tensors")
    assert undocumented(document, CHAPTERS["Packed"], free) - {"axis"} == set()
    for spelling in ("mvq:k=4,d=4,nm=2:4", "lr2vq:k=4,m=2,r=1", "rvq:k=2,d=4,stages=2"):
        other = pack_randomly(packed().graph, Coding(spelling, "out", True))
        write_packed(other, path)
        found, more = read_container(path, SCHEMA)
        assert undocumented(found, CHAPTERS["Packed"], free) == set()
        assert all(f"`layers.*.{key}`" in CHAPTERS["Packed"] for row in found["layers"].values() for key in row)
        tensors = {**tensors, **more}
    prefixes = {name.partition(":")[0] for name in tensors}
    assert prefixes == set(re.findall(r"^\| `(\w+):[WP]`", CHAPTERS["Packed"], re.MULTILINE))
    spelled = {"float32": "F32", "float16": "F16", "int8": "I8", "int32": "I32"}
    row = next(line for line in CHAPTERS["Packed"].splitlines() if line.startswith("| `parameter:P`"))
    assert all(spelled[str(kind)] in row for kind in PARAMETER_TYPES)


def test_program_files_are_described(tmp_path: Path) -> None:
    path = tmp_path / "net.prog.safetensors"
    write_program(program(), path)
    document, tensors = read_container(path, PROGRAM_SCHEMA)
    chapter = CHAPTERS["Program"]
    assert undocumented(document, chapter + CHAPTERS["Packed"], ("report", "description")) == set()
    assert set(tensors) == set(re.findall(r"^\| `(\w+)` \| (?:U8|I32) `\[", chapter, re.MULTILINE))
    assert all(f"`{kind}`" in chapter for kind in LAYER_KINDS)
    assert all(f"`{key}`" in chapter for key in KEYS)
    assert f"instruction set, {ISA_VERSION} |" in chapter and str(1 << 34) in chapter


def test_run_files_are_described() -> None:
    from accel.run import LayerRun, MemoryLevel, Run, run_to_document

    machine = load_machine("ecp5")
    cycles, moved = dict.fromkeys(CAUSES, 1), dict.fromkeys(TRAFFIC, 64)
    layer = LayerRun("l", "gemm", 1, len(CAUSES), cycles, moved, "compute")
    facts = {"digest": "", "model": "", "codec": "", "source": {}}
    run = Run(machine, facts, len(CAUSES), 1, cycles, moved, {"dram": 1.0}, (layer,), ("a note",))
    run = replace(run, occupancy=(MemoryLevel("weight", 64, (0.0,), (64,)),))
    chapters = CHAPTERS["Run"] + CHAPTERS["Program"]
    assert all(f"`{name}`" in CHAPTERS["Run"] for name in (*CAUSES, *TRAFFIC, *DECODER))
    assert (
        undocumented(run_to_document(run), chapters, ("energy_joules", "source", "changed_picojoules")) - {"dram"}
        == set()
    )
    assert f"`{RUN_SCHEMA}`" in FORMATS


def test_memories_comparisons_and_differences_are_described() -> None:
    from accel.cli.curves import COMPARISON_SCHEMA
    from accel.cli.diff import DIFFERENCE_SCHEMA
    from accel.occupancy import MEMORIES
    from accel.run_changes import KINDS

    assert all(f"`{name}`" in CHAPTERS["Run"] for name in MEMORIES)
    assert f"`{COMPARISON_SCHEMA}`" in CHAPTERS["Comparison"]
    assert all(f"`{name}`" in CHAPTERS["Difference"] for name in (*KINDS, DIFFERENCE_SCHEMA))


def test_undocumented_keys_would_be_found() -> None:
    assert undocumented({"layers": [{"colour": 1}]}, CHAPTERS["Program"], ()) == {"colour"}


@pytest.mark.parametrize("schema", [SCHEMA, PROGRAM_SCHEMA, RUN_SCHEMA])
def test_schemas_are_named(schema: str) -> None:
    assert FORMATS.count(f"`{schema}`") >= 2


def test_constants_are_those_of_the_code() -> None:
    assert f"at most {HEADER_LIMIT_BYTES} bytes" in FORMATS and f"at most {DIMENSION_LIMIT} axes" in FORMATS
    assert f"a {BLOCK_BYTES}-byte block" in FORMATS
    assert all(f"`{family}" in FORMATS for family in CODECS)
    aligned, superblock = RecordLayout(8, 8, 8), RecordLayout(4, 8, 8)
    assert aligned.record_bytes == 2 and "`ssvq:k=256,d=8`: 16 bits a vector" in FORMATS
    assert (superblock.vectors_per_record, superblock.record_bytes) == (16, 24)
    assert "`ssvq:k=16,d=8`: G = 16, one word of codes and two of signs" in FORMATS
