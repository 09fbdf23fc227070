"""Testbench files: what is written, read back the way ``$readmemh`` does, is what the image holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from weight_cases import random_layer, weight_program

from accel.errors import ConfigError, FormatError
from accel.isa import Instruction, encode_program
from accel.machine import load_machine
from accel.program import Layer, Program, WeightStream
from rtl.export import export_streams, file_names, memh

IMAGE = np.random.default_rng(1).integers(0, 256, 1024, np.uint8)


def stream(weight: str, codec: str, address: int, codebook_bytes: int) -> WeightStream:
    return WeightStream(
        layer=0, weight=weight, codec=codec, vector_axis="out", address=address, blocks=2, rows=16, columns=8,
        tile_rows=8, tile_columns=8, codebook_address=512, codebook_bytes=codebook_bytes, digest="ab" * 32,
    )  # fmt: skip


def program(*streams: WeightStream) -> Program:
    return Program(
        model="m", codec="vq:k=16,d=4", source={}, packed_digest="", machine=load_machine("ecp5"), batch=1,
        words=encode_program([Instruction("FIN")]), instruction_layer=np.zeros(1, np.int32), image=IMAGE,
        dram_bytes=2048, layers=(Layer("l", "gemm"),), streams=streams, inputs=(), outputs=(),
    )  # fmt: skip


PROGRAM = program(stream("a/b:w", "vq:k=16,d=4", 0, 64), stream("head.w", "int8", 128, 0))


def read_memh(path: Path) -> list[int]:
    """As a simulator reads it: one hexadecimal word a line."""
    return [int(line, 16) for line in path.read_text().splitlines()]


def test_streams_and_codebooks_hold_the_bytes_of_the_image(tmp_path: Path) -> None:
    paths = export_streams(PROGRAM, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [
        "a_b_w.stream.memh", "a_b_w.codebook.memh", "a_b_w.json", "head.w.stream.memh", "head.w.json",
    ]  # fmt: skip
    beats = b"".join(word.to_bytes(8, "little") for word in read_memh(paths[0]))
    assert beats == IMAGE[:128].tobytes()
    assert {len(line) for line in paths[0].read_text().splitlines()} == {16}
    codewords = b"".join(word.to_bytes(4, "little") for word in read_memh(paths[1]))
    assert codewords == IMAGE[512:576].tobytes()
    assert b"".join(word.to_bytes(8, "little") for word in read_memh(paths[3])) == IMAGE[128:256].tobytes()


def test_description_tells_a_decoder_everything(tmp_path: Path) -> None:
    paths = export_streams(PROGRAM, tmp_path, ["a/b:w"])
    assert len(paths) == 3 == len(list(tmp_path.iterdir()))
    assert json.loads(paths[2].read_text()) == {
        "weight": "a/b:w",
        "files": ["a_b_w.stream.memh", "a_b_w.codebook.memh"],
        "codec": "vq:k=16,d=4",
        "code_bits": 4,
        "d": 4,
        "signed": False,
        "side_bits": 0,
        "mask": None,
        "codes_per_vector": 1,
        "axis": "out",
        "axis_in": 0,
        "rows": 16,
        "columns": 8,
        "tile_rows": 8,
        "tile_columns": 8,
        "digest": "ab" * 32,
    }


def test_memh_puts_the_first_byte_lowest() -> None:
    assert memh(np.array([[1, 2, 0xFF], [0, 0, 0x10]], np.uint8)) == b"ff0201\n100000\n"
    assert memh(np.zeros((0, 8), np.uint8)) == b""


def test_names_are_safe_and_distinct() -> None:
    assert file_names(["../../etc/passwd", "a b", "a_b", "A:B", "", "..", "é"]) == [
        "_.._etc_passwd", "a_b", "a_b~2", "A_B~3", "weight", "weight~2", "_",
    ]  # fmt: skip
    assert all(len(name) < 130 for name in file_names(["x" * 999, "x" * 998]))


def test_unknown_weight_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"weight 'head.v' has no stream; allowed: a/b:w, head.w; did you mean 'head"):
        export_streams(PROGRAM, tmp_path / "out", ["head.v"])
    assert not (tmp_path / "out").exists()


def test_masks_and_folded_codebooks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layers = [random_layer(name, (32, 16), "out", rng) for name in ("mvq:k=16,d=16,nm=4:16", "lr2vq:k=16,m=8,r=3")]
    paths = export_streams(weight_program(layers), tmp_path)
    masked, folded = (json.loads(path.read_text()) for path in paths if path.suffix == ".json")
    assert (masked["side_bits"], masked["signed"]) == (11, False)
    assert masked["mask"] == {"kept": 4, "group": 16, "index_bits": 11}
    assert (folded["side_bits"], folded["mask"], folded["d"]) == (0, None, 8)
    words = b"".join(word.to_bytes(8, "little") for word in read_memh(tmp_path / folded["files"][1]))
    np.testing.assert_array_equal(np.frombuffer(words, np.int8).reshape(16, 8), layers[1].codec.codewords(layers[1]))


def test_a_fold_that_no_ldc_describes(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="weight 'w': no LDC loads its codebook at 0x200"):
        export_streams(program(stream("w", "lr2vq:k=16,m=8,r=2", 0, 16 * 2 + 2 * 8)), tmp_path)


def test_bad_codebook_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="codebook of 60 bytes; vq:k=16,d=4 takes 64"):
        export_streams(program(stream("w", "vq:k=16,d=4", 0, 60)), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match="cannot write folder"):
        export_streams(PROGRAM, tmp_path / "file")
