"""Program files: round trips, and thousands of damaged ones that must be refused in one line or still be programs."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import Coding, pack_randomly
from test_packed import joined, parts, sealed
from tiny_models import machine

from accel.errors import AccelError, FormatError
from accel.graph import GraphBuilder
from accel.program import Program, read_program, write_program
from compiler import compile_model
from sim import simulate


@pytest.fixture(scope="module")
def program() -> Program:
    b = GraphBuilder("tiny")
    x = b.op("gemm", b.input("x", (5, 8)), b.parameter("w", (8, 8)), b.parameter("b", (8,)))
    graph = b.build(b.op("softmax", x, axis=-1))
    return compile_model(pack_randomly(graph, Coding("ssvq:k=4,d=4", "out", True)), machine(4))


@pytest.fixture(scope="module")
def data(program: Program, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("program") / "net.prog.safetensors"
    write_program(program, path)
    return path.read_bytes()


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        read_program(path)
    assert str(caught.value).isprintable() and str(path) in str(caught.value)
    return str(caught.value)


def test_round_trip(program: Program, tmp_path: Path) -> None:
    write_program(program, tmp_path / "again")
    again = read_program(tmp_path / "again")
    assert again.digest == program.digest and again.layers == program.layers and again.streams == program.streams
    assert np.array_equal(again.words, program.words) and np.array_equal(again.image, program.image)
    assert simulate(again).total_cycles == simulate(program).total_cycles


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("isa_version", 99, "instruction set version 99"),
        ("dram_bytes", 1, "DRAM of 1 bytes"),
        ("dram_bytes", "many", "dram_bytes = 'many'"),
        ("machine", {}, "machine"),
        ("layers", [], "layer index"),
        ("layers", [{"name": "x", "kind": "magic"}], "kind 'magic'"),
        ("inputs", [{"name": "x"}], "program document"),
        ("streams", 3, "program document"),
    ],
)
def test_hostile_documents_are_refused(data: bytes, tmp_path: Path, key: str, value: object, message: str) -> None:
    header, body = parts(data)
    document = json.loads(header["__metadata__"]["accel"])
    document[key] = value
    header["__metadata__"]["accel"] = json.dumps(document)
    assert message in refusal(tmp_path / "net", joined(header, body))


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("batch", 0, "batch 0; allowed: at least 1"),
        ("batch", 1.5, "batch = 1.5; allowed: an integer"),
        ("tensors", {"code": None}, "code = None; allowed: an object"),
        ("tensors", {"code.exponents": [1, 2]}, "2 channel exponents along axis 0 of [5, 8]"),
        ("tensors", {"shape": [1 << 40, 8], "strides": [0, 1]}, "8796093022208 elements; allowed"),
        ("outputs", {"code.exponents": [1] * 5, "code.axis": 2}, "5 channel exponents along axis 2 of [5, 8]"),
        ("outputs", {"code.scale": -1.0}, "activation scale -1.0; allowed"),
        ("outputs", {"shape": [1 << 40, 8], "strides": [0, 1]}, "8796093022208 elements; allowed"),
        ("inputs", {"shape": [5, 1 << 40], "strides": [8, 0]}, "5497558138880 elements; allowed"),
        ("tensors", None, "two tensors are named"),
        ("inputs", None, "two inputs are named 'x'"),
        ("outputs", None, "two outputs are named"),
    ],
)
def test_impossible_places_are_refused(data: bytes, tmp_path: Path, key: str, change: object, message: str) -> None:
    header, body = parts(data)
    document = json.loads(header["__metadata__"]["accel"])
    rows = document[key]
    if change is None:
        rows.append(rows[0])
    elif isinstance(change, dict):
        for path, value in change.items():
            entry, _, inner = path.rpartition(".")
            (rows[0][entry] if entry else rows[0])[inner] = value
    else:
        document[key] = change
    header["__metadata__"]["accel"] = json.dumps(document)
    told = refusal(tmp_path / "net", joined(header, body))
    assert message in told and (not isinstance(change, dict) or f"'{rows[0]['name']}'" in told)


def test_illegal_instructions_are_refused(data: bytes, tmp_path: Path) -> None:
    header, body = parts(data)
    begin = header["words"]["data_offsets"][0]
    broken = body[:begin] + b"\x1f" + body[begin + 1 :]
    assert "instruction 0" in refusal(tmp_path / "net", sealed(joined(header, broken)))


@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    cut=st.one_of(st.none(), st.integers(0, 4000)),
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), max_size=5),
    in_header=st.booleans(),
    seal=st.booleans(),
)
def test_damaged_files_are_refused_or_programs(
    data: bytes, tmp_path_factory: pytest.TempPathFactory, cut: int | None, flips: list, in_header: bool, seal: bool
) -> None:
    changed = bytearray(data if cut is None else data[:cut])
    header = 8 + struct.unpack("<Q", data[:8])[0]
    for at, bits in flips:
        where = at % header if in_header else header + at % (len(data) - header)
        if where < len(changed):
            changed[where] ^= bits
    path = tmp_path_factory.getbasetemp() / "mutant"
    path.unlink(missing_ok=True)
    path.write_bytes(sealed(bytes(changed)) if seal else bytes(changed))
    try:
        simulate(read_program(path))
    except AccelError as error:
        assert str(error).isprintable()
