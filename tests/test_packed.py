"""The packed file: round trips, and hostile or damaged files, which must be refused in one line."""

import dataclasses
import errno
import json
import math
import os
import random
import struct
from pathlib import Path

import numpy as np
import pytest

from accel import atomic
from accel.atomic import open_atomic, write_bytes
from accel.codecs import LR2VQ, MVQ, RVQ, SSVQ, VQ, Int4, Int8
from accel.codecs.masks import Mask
from accel.codecs.projection import Projection
from accel.container import (
    CONTENT_KEY,
    ELEMENT_TYPES,
    HEADER_LIMIT_BYTES,
    content_digest,
    read_container,
    write_container,
)
from accel.errors import FormatError
from accel.graph import GraphBuilder
from accel.packed import SCHEMA, Packed, Source, model_digest, packed_digest, read_packed, write_packed

MUTATIONS = 4000


def small_packed():
    """A conv and six gemms, one codec each, a tied embedding, a norm and a scalar; scales of both kinds."""
    rng = np.random.default_rng(0)
    build = GraphBuilder("small")
    image = build.input("image", (1, 2, 4, 4))
    conv = build.op(
        "conv", image, build.parameter("conv/w", (6, 2, 3, 3)), build.parameter("conv/b", (6,)), name="conv",
        kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1), dilation=(1, 1), groups=1,
    )  # fmt: skip
    rows = build.op("reshape", conv, name="rows", shape=(12, 8))
    wide = build.op("gemm", rows, build.parameter("fc1", (10, 8)), build.parameter("fc1.b", (10,)), name="fc1")
    wide = build.op("mul", wide, build.parameter("gain", ()), name="gain")
    back = build.op("gemm", wide, build.parameter("fc2", (8, 10)), name="fc2")
    norm = build.op(
        "layernorm", back, build.parameter("gamma", (8,)), build.parameter("beta", (8,)), name="norm", epsilon=1e-6
    )
    masked = build.op("gemm", norm, build.parameter("fc3", (8, 8)), name="fc3")
    factored = build.op("gemm", masked, build.parameter("fc4", (8, 8)), name="fc4")
    residual = build.op("gemm", factored, build.parameter("fc5", (8, 8)), name="fc5")
    logits = build.op("gemm", residual, build.parameter("table", (9, 8)), name="head")
    embedded = build.op("embedding", build.parameter("table", (9, 8)), build.input("ids", (3,)), name="embed")
    graph = build.build(logits, embedded)
    weights = {name: rng.normal(0, 30, shape).astype(np.float32) for name, shape in graph.parameters.items()}
    one = np.ones(1, np.float32)
    words = rng.integers(0, 128, (4, 4)).astype(np.int8)
    layers = {
        "conv/w": Int4().encode(weights["conv/w"].reshape(6, 18), None, 5 * np.ones(6, np.float32)),
        "fc1": VQ(4, 4).encode(weights["fc1"], words - np.int8(60), one),
        "fc2": SSVQ(4, 4).encode(weights["fc2"], words, np.full(8, 2, np.float32), "in"),
        "fc3": MVQ(4, 4, Mask(2, 4)).encode(weights["fc3"], words - np.int8(60), one),
        "fc4": LR2VQ(4, 4, 2).encode(
            weights["fc4"], words[:, :2] - np.int8(60), one, projection=Projection(words[:2] - np.int8(60), 6)
        ),
        "fc5": RVQ(4, 4, 3).encode(weights["fc5"], np.tile(words - np.int8(60), (3, 1)), one, "in"),
        "table": Int8().encode(weights["table"], None, one),
    }
    parameters = {name: weights[name] for name in ("conv/b", "gamma", "beta", "table", "gain")}
    parameters |= {"conv/b": parameters["conv/b"].astype(np.int32), "gamma": parameters["gamma"].astype(np.float16)}
    parameters["fc1.b"] = weights["fc1.b"].astype(np.int8)
    return Packed(graph, layers, parameters, Source(model_digest(graph, weights), {"weights": "random"}))


def assert_equal(found, expected):
    assert (found.graph, found.source, found.tool_version) == (expected.graph, expected.source, expected.tool_version)
    assert found.layers.keys() == expected.layers.keys()
    for name, layer in expected.layers.items():
        assert found.layers[name].codec == layer.codec
        np.testing.assert_equal(dataclasses.asdict(found.layers[name]), dataclasses.asdict(layer))
    assert found.parameters.keys() == expected.parameters.keys()
    for name, array in expected.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], array)
        assert found.parameters[name].dtype == array.dtype


@pytest.fixture
def path(tmp_path):
    target = tmp_path / "net.vq.safetensors"
    write_packed(small_packed(), target)
    return target


def parts(data):
    """Header and body of a safetensors file."""
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header, body):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def sealed(data):
    """The file with the content digest it should state, as an attacker would write it; damaged headers stay as is."""
    try:
        header, body = parts(data)
        document = json.loads(header["__metadata__"]["accel"])
        tensors = {
            name: np.frombuffer(
                body, ELEMENT_TYPES[row["dtype"]], math.prod(row["shape"]), row["data_offsets"][0]
            ).reshape(row["shape"])
            for name, row in header.items()
            if name != "__metadata__"
        }
        document[CONTENT_KEY] = content_digest(tensors)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError, struct.error, RecursionError):
        return data
    header["__metadata__"]["accel"] = json.dumps(document)
    return joined(header, body)


def refused(path, data, message="", seal=True):
    path.write_bytes(sealed(data) if seal else data)
    with pytest.raises(FormatError) as caught:
        read_packed(path)
    text = str(caught.value)
    assert text.isprintable() and str(path) in text and message in text, text


def test_round_trip(path):
    assert_equal(read_packed(path), small_packed())


def test_equal_content_gives_equal_bytes(path, tmp_path):
    packed = small_packed()
    turned = dataclasses.replace(packed, parameters=dict(reversed(packed.parameters.items())))
    write_packed(turned, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_safetensors_itself_reads_it(path):
    from safetensors.numpy import load_file

    tensors = load_file(path)
    np.testing.assert_array_equal(tensors["codebook:fc1"], small_packed().layers["fc1"].codebook)


def test_digest_is_of_the_content(path, tmp_path):
    packed = small_packed()
    digest = packed_digest(packed)
    assert packed_digest(path) == digest
    header, body = parts(path.read_bytes())
    turned = tmp_path / "turned"
    turned.write_bytes(joined(dict(reversed(header.items())), body))
    assert packed_digest(turned) == digest
    assert packed_digest(dataclasses.replace(packed, tool_version="0.0.0")) == digest
    other = {**packed.parameters, "beta": packed.parameters["beta"] + np.float32(1)}
    assert packed_digest(dataclasses.replace(packed, parameters=other)) != digest


def test_tensors_are_read_only(path):
    with pytest.raises(ValueError, match="read-only"):
        read_packed(path).parameters["beta"][0] = 1


def test_a_packed_model_cannot_be_incomplete():
    packed = small_packed()
    for field in ("layers", "parameters"):
        whole = getattr(packed, field)
        for name in whole:
            with pytest.raises(FormatError, match=f"'{name}' is missing"):
                dataclasses.replace(packed, **{field: {key: whole[key] for key in whole if key != name}})
        with pytest.raises(FormatError, match=r"unexpected .* 'tabel'; did you mean 'table'"):
            dataclasses.replace(packed, **{field: {**whole, "tabel": whole["table"]}})


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros(7, np.float32), "the graph has"),
        (np.zeros(8, np.float64), "element type float64; allowed: float32, float16, int8, int32"),
        (np.full(8, np.nan, np.float32), "NaN or infinite"),
    ],
)
def test_wrong_parameters_are_refused(array, message):
    packed = small_packed()
    with pytest.raises(FormatError, match=message):
        dataclasses.replace(packed, parameters={**packed.parameters, "beta": array})


def test_missing_empty_and_special_files(tmp_path):
    for name, message in (("absent", "No such file"), ("", "not a regular file"), ("nul\0", "null")):
        with pytest.raises(FormatError, match=message):
            read_packed(f"{tmp_path}/{name}")
    refused(tmp_path / "empty", b"", "truncated")


def test_every_truncation_is_refused(path):
    data = path.read_bytes()
    for size in [*range(0, len(data), 37), len(data) - 1]:
        refused(path, data[:size])
    refused(path, data + b"\0", "1 bytes after the last tensor")


@pytest.mark.parametrize("length", [0, 1, HEADER_LIMIT_BYTES, HEADER_LIMIT_BYTES + 1, 2**62, 2**64 - 1])
def test_wrong_header_lengths_are_refused(path, length):
    message = f"header of {length} bytes in a file of" if length > 1 else "bad JSON"
    refused(path, struct.pack("<Q", length) + path.read_bytes()[8:], message)


def change_tensor(name, **change):
    def mutate(header, document):
        header[name].update(change)

    return mutate


def change_document(*keys, value):
    def mutate(header, document):
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return mutate


def rename_tensor(old, new):
    def mutate(header, document):
        header[new] = header.pop(old)

    return mutate


def enlarge_last_tensor(header, document):
    last = max(header.keys() - {"__metadata__"}, key=lambda name: header[name]["data_offsets"][1])
    begin = header[last]["data_offsets"][0]
    header[last] = {"dtype": "U8", "shape": [2**40], "data_offsets": [begin, begin + 2**40]}


def add_tensor(header, document):
    header["extra"] = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}


HOSTILE = {
    "extra tensor": (add_tensor, "unexpected tensor 'extra'"),
    "overlap": (change_tensor("signs:fc2", data_offsets=[0, 12]), "starts at byte 0"),
    "negative": (change_tensor("signs:fc2", data_offsets=[-12, 0]), "no extent"),
    "backwards": (change_tensor("signs:fc2", data_offsets=[24, 12]), "bytes for shape"),
    "huge": (enlarge_last_tensor, "truncated, tensor"),
    "overflow": (change_tensor("signs:fc2", shape=[2**32, 2**32, 0, 12]), "bytes for shape"),
    "no elements": (change_tensor("signs:fc2", shape=[2**62, 2**62, 0], data_offsets=[0, 0]), "signs:fc2"),
    "not a number": (change_tensor("signs:fc2", shape=[True] * 2), "no extent"),
    "fraction": (change_tensor("signs:fc2", shape=[12.0]), "no extent"),
    "element type": (change_tensor("signs:fc2", dtype="BF16"), "element type 'BF16'; allowed: U8, I8"),
    "list of types": (change_tensor("signs:fc2", dtype=["U8"]), "element type"),
    "unknown key": (change_tensor("signs:fc2", strides=[1]), "expected exactly dtype, shape and data_offsets"),
    "signed codes": (change_tensor("codes:fc1", dtype="I8"), "expected uint8["),
    "shape of codes": (change_tensor("codes:table", shape=[9, 8]), "expected uint8[72]"),
    "renamed": (rename_tensor("codes:fc1", "codes:fc9"), "'codes:fc1' is missing"),
    "control characters": (rename_tensor("codes:fc1", "\x1b[31m\n"), ""),
    "schema": (
        change_document("schema", value="accel.packed/2"),
        "schema 'accel.packed/2': written by a newer version of",
    ),
    "schema type": (change_document("schema", value=[1]), "schema [1]"),
    "codec": (change_document("layers", "fc1", "codec", value="vqq:k=4,d=4"), "did you mean 'vq'"),
    "larger codec": (change_document("layers", "fc1", "codec", value="vq:k=65536,d=64"), "expected uint8[16]"),
    "codec type": (change_document("layers", "fc1", "codec", value=8), "codec is a int; expected text"),
    "masks renamed": (rename_tensor("masks:fc3", "signs:fc3"), "'masks:fc3' is missing"),
    "another mask": (change_document("layers", "fc3", "codec", value="mvq:k=4,d=4,nm=1:4"), "expected uint8[4]"),
    "impossible mask": (change_document("layers", "fc3", "codec", value="mvq:k=4,d=4,nm=4:4"), "allowed: 1 to 3"),
    "shift without projection": (change_document("layers", "fc3", "shift", value=1), "unexpected entry of layer 'fc3'"),
    "missing projection": (rename_tensor("projection:fc4", "projection:fc9"), "'projection:fc4' is missing"),
    "shape of projection": (change_tensor("projection:fc4", shape=[4, 2]), "rank 4 of codewords of 2 weights"),
    "other projection": (change_tensor("projection:fc4", shape=[1, 8]), "projection of shape (1, 8); expected (2, 4)"),
    "type of projection": (change_tensor("projection:fc4", dtype="U8"), "projection uint8[2, 4]; expected int8[r, m]"),
    "shift": (change_document("layers", "fc4", "shift", value=21), "shift 21; allowed: 0 to 20"),
    "shift type": (change_document("layers", "fc4", "shift", value="6"), "shift '6'; allowed: 0 to 20"),
    "truth as shift": (change_document("layers", "fc4", "shift", value=True), "shift True; allowed: 0 to 20"),
    "larger rank": (change_document("layers", "fc4", "codec", value="lr2vq:k=4,m=4,r=4"), "codebook of shape (4, 2)"),
    "more stages": (change_document("layers", "fc5", "codec", value="rvq:k=4,d=4,stages=4"), "expected uint8[16]"),
    "too many stages": (change_document("layers", "fc5", "codec", value="rvq:k=4,d=4,stages=9"), "allowed: 2 to 8"),
    "a stage": (change_document("layers", "fc5", "codec", value="vq:k=4,d=4"), "expected uint8[4]"),
    "same bits of codes": (
        change_document("layers", "fc5", "codec", value="rvq:k=8,d=4,stages=2"),
        "codebook of shape (12, 4); expected (16, 4)",
    ),
    "codebook of two stages": (change_tensor("codebook:fc5", shape=[8, 6]), "codebook of shape (8, 6)"),
    "no shift": (
        lambda header, document: document["layers"]["fc4"].pop("shift"),
        "entry of layer 'fc4' 'shift' is missing",
    ),
    "axis": (change_document("layers", "fc1", "vector_axis", value="up\n"), "allowed: out, in"),
    "other axis": (change_document("layers", "fc1", "vector_axis", value="in"), "codes:fc1"),
    "layer entry": (change_document("layers", "fc1", value=None), "expected an object"),
    "extra layer": (change_document("layers", "fc9", value={}), "unexpected layer 'fc9'; did you mean"),
    "digest": (change_document("source", "sha256", value="0"), "hexadecimal"),
    "description": (change_document("source", "description", value={"a": 1}), "a is a int; expected text"),
    "extra entry": (change_document("more", value=1), "unexpected entry 'more'"),
    "graph": (change_document("graph", value=[]), "graph is a list"),
    "graph ops": (change_document("graph", "ops", value=[{}]), "graph document"),
    "dimension bomb": (change_document("graph", "parameters", "fc1", value=[2**40, 8]), ""),
    "lone surrogate": (change_document("graph", "name", value="\ud800"), "surrogates"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers_are_refused(path, case):
    mutate, message = HOSTILE[case]
    header, body = parts(path.read_bytes())
    document = json.loads(header["__metadata__"]["accel"])
    mutate(header, document)
    header["__metadata__"]["accel"] = json.dumps(document)
    refused(path, joined(header, body), message)


def test_mask_indices_without_mask_are_refused(path):
    header, body = parts(path.read_bytes())
    first = header["masks:fc3"]["data_offsets"][0]
    refused(
        path,
        joined(header, body[:first] + b"\xff" + body[first + 1 :]),
        "mask index 7 is out of range; allowed: below 6",
    )


@pytest.mark.parametrize(
    "document, message",
    [
        ("", "bad JSON"),
        ("[]", "document is a list"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"schema":1,"schema":2}', "key 'schema' appears twice"),
        ('{"a":NaN}', "NaN is not a JSON number"),
        ('{"a":1e999}', "too large"),
        ('{"a":' + "9" * 5000 + "}", "bad JSON"),
        ("{}", "schema None"),
    ],
    ids=range(9),
)
def test_hostile_documents_are_refused(path, document, message, seal=False):
    header, body = parts(path.read_bytes())
    header["__metadata__"]["accel"] = document
    refused(path, joined(header, body), message, seal=False)


@pytest.mark.parametrize("header", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a":1,"a":2}', b"[" * 10**6, b"{}"])
def test_broken_headers_are_refused(path, header):
    refused(path, joined(header, b""))


@pytest.mark.parametrize("metadata", [None, [], {}, {"accel": 1}, "accel"])
def test_files_of_other_tools_are_refused(path, metadata):
    header, body = parts(path.read_bytes())
    refused(path, joined({**header, "__metadata__": metadata}, body), "not a file of this tool")


def test_codes_out_of_range_are_refused(path):
    """int4 knows no -8; scales must be numbers; vq knows no -128."""
    header, body = parts(path.read_bytes())
    for tensor, value, message in (
        ("codes:conv/w", b"\x88", "integer -8 is out of range"),
        ("codes:table", b"\x80", "integer -128 is out of range"),
        ("scale:fc1", b"\0\0\xc0\x7f", "NaN or infinite"),
        ("codebook:fc1", b"\x80", "codebook element -128"),
        ("codebook:fc2", b"\xff", "codebook element -1"),
        ("parameter:beta", b"\0\0\x80\x7f", "NaN or infinite"),
    ):
        begin = header[tensor]["data_offsets"][0]
        refused(path, joined(header, body[:begin] + value + body[begin + len(value) :]), message)


def mutated(data, rng):
    """One of: cut, bits flipped in header or body, bytes replaced or moved, a piece of JSON put elsewhere."""
    header = 8 + struct.unpack("<Q", data[:8])[0]
    changed = bytearray(data)
    kind = rng.randrange(6)
    if kind == 0:
        return bytes(changed[: rng.randrange(len(data))])
    if kind == 1:
        at, size, to = rng.randrange(header), rng.randrange(1, 40), rng.randrange(header)
        changed[to : to + size] = changed[at : at + size]
        return bytes(changed)
    if kind == 2:  # digits keep JSON legal, so that sizes and offsets get wrong
        digits = [i for i in range(8, header) if changed[i] in b"0123456789"]
        changed[rng.choice(digits)] = rng.choice(b"0123456789-e.")
        return bytes(changed)
    low, high = {3: (0, 8), 4: (8, header), 5: (header, len(data))}[kind]
    for _ in range(rng.randrange(1, 5)):
        changed[rng.randrange(low, high)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def test_mutated_files_are_refused_or_valid(path):
    """Thousands of damaged files: a one-line ``FormatError``, or a model that can be decoded and written again."""
    data, rng = path.read_bytes(), random.Random(0)
    target = path.with_name("mutant")
    survived = 0
    for number in range(MUTATIONS):
        target.unlink(missing_ok=True)  # earlier mutants may still be mapped
        damaged = mutated(data, rng)
        target.write_bytes(sealed(damaged) if number % 2 else damaged)
        try:
            packed = read_packed(target)
        except FormatError as error:
            assert str(error).isprintable(), (number, error)
            continue
        survived += 1
        for layer in packed.layers.values():
            layer.codec.decode(layer)
        write_packed(packed, path)
        assert packed_digest(path) == packed_digest(packed), number
    assert MUTATIONS // 50 < survived < MUTATIONS // 2, survived


def test_every_flipped_bit_of_the_data_is_noticed(path):
    header, body = parts(path.read_bytes())
    for at in range(0, len(body), 7):
        changed = bytearray(body)
        changed[at] ^= 1 << at % 8
        path.with_name("flipped").write_bytes(joined(header, bytes(changed)))
        with pytest.raises(FormatError, match="corrupt"):
            read_packed(path.with_name("flipped"))


def test_containers_of_one_kind_are_not_taken_for_another(path):
    with pytest.raises(FormatError, match=r"it is a packed model \(schema 'accel.packed/1'\); accel compile takes it"):
        read_container(path, "accel.program/1")


def test_containers_keep_shapes_types_and_documents(tmp_path):
    tensors = {
        "scalar": np.array(3, np.int64),
        "empty": np.zeros((0, 4), np.uint16),
        "turned": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    }
    write_container(tmp_path / "c", "x/1", {"a": [1, {"b": None}]}, tensors)
    document, found = read_container(tmp_path / "c", "x/1")
    assert document == {"a": [1, {"b": None}]}
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
    write_container(tmp_path / "none", "x/1", {}, {})
    assert read_container(tmp_path / "none", "x/1") == ({}, {})


def test_failed_writes_leave_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "file"
    write_bytes(target, b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(FormatError, match=r"cannot write '.*file': No space left on device"):
        write_bytes(target, b"new")
    with pytest.raises(KeyboardInterrupt), open_atomic(target) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_impossible_targets_are_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for target in (tmp_path / "absent" / "x", tmp_path / "file" / "x", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(FormatError, match=r"cannot write '.*': [^\n]*$"):
            write_packed(small_packed(), target)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_links_are_followed_and_devices_written_directly(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_bytes(tmp_path / "link", b"1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"1"
    write_bytes("/dev/null", b"1")
    assert not Path("/dev/null").is_file()


def test_new_files_have_ordinary_permissions(tmp_path):
    (tmp_path / "ordinary").touch()
    write_bytes(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
    assert SCHEMA == "accel.packed/1"
