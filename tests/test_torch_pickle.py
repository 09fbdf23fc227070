"""Pickles that are short to store and long to read: what they would have hashed, written out or walked through."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from test_cli_import import Captured, refused, zip_of

from compiler.frontend.torch_checkpoint import read_torch_tree


def doubled(times: int) -> bytes:
    """Opcodes that put a tuple into memo 0: ``("a", "a")``, of two of these, of two of those..."""
    return b"X\x01\x00\x00\x00aq\x000" + b"h\x00h\x00\x86q\x000" * times


HASHED = {
    "SETITEM": b"}h\x00K\x01s.",
    "SETITEMS": b"}(h\x00K\x01u.",
    "DICT": b"(h\x00K\x01d.",
    "ADDITEMS": b"\x8f(h\x00\x90.",
    "FROZENSET": b"(h\x00\x91.",
    "REDUCE": b"ccollections\nOrderedDict\n]h\x00K\x01\x86a\x85R.",
    "PERSID": b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nh\x00X\x03\x00\x00\x00cpuK\x04tQ.",
}


@pytest.mark.parametrize("name", HASHED)
@pytest.mark.parametrize("zipped", [True, False])
def test_keys_that_take_long_to_hash(name: str, zipped: bool, tmp_path: Path, capsys: Captured) -> None:
    """A few hundred bytes that would take until the end of the universe; a file of torch has text there."""
    pickled = b"\x80\x04" + doubled(100) + HASHED[name]
    (tmp_path / "c.pth").write_bytes(zip_of(pickled) if zipped else pickled)
    error = refused(capsys, "import", str(tmp_path / "c.pth"), "-o", str(tmp_path / "o"))
    assert "a key of type tuple in a mapping or set; allowed: text and numbers" in error


@pytest.mark.parametrize(
    ("key", "message"), [("a" * 2000, "a key of 2000 characters"), (1 << 70, "a key of 71 bits"), (None, "NoneType")]
)
def test_other_keys_beyond_reason(key: object, message: str, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "c.pth").write_bytes(zip_of(pickle.dumps({key: 1}, 2)))
    assert message in refused(capsys, "import", str(tmp_path / "c.pth"), "-o", str(tmp_path / "o"))


def test_sizes_that_take_long_to_write_out(tmp_path: Path, capsys: Captured) -> None:
    pid = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuh\x00tQ."
    (tmp_path / "c.pth").write_bytes(zip_of(b"\x80\x02" + doubled(100) + pid))
    error = refused(capsys, "import", str(tmp_path / "c.pth"), "-o", str(tmp_path / "o"))
    assert "a storage whose size is no natural number" in error


def test_mappings_of_more_names_than_the_file_has(tmp_path: Path, capsys: Captured) -> None:
    """Eight levels of a hundred mappings each, all the same one below: 10^16 names."""
    top: dict[str, object] = {}
    for _ in range(8):
        top = {f"{at:0200}": top for at in range(100)}
    (tmp_path / "c.pth").write_bytes(zip_of(pickle.dumps(top, 2)))
    error = refused(capsys, "import", str(tmp_path / "c.pth"), "-o", str(tmp_path / "o"))
    assert "names in its mappings take more than" in error


def test_ordered_mappings_as_python_2_wrote_them(tmp_path: Path) -> None:
    pairs: list[Any] = [["a", 1], ["b", 2]]
    made = b"ccollections\nOrderedDict\n" + pickle.dumps((pairs,), 2)[2:-1] + b"R."
    (tmp_path / "c.pth").write_bytes(zip_of(b"\x80\x02" + made))
    assert {name: int(array) for name, array in read_torch_tree(tmp_path / "c.pth").items()} == dict(pairs)
