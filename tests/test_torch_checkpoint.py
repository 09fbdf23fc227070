"""Torch checkpoints read without torch: the same numbers, and no favours for files that mean harm."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from upstream_models import invented_checkpoint

from accel.errors import ModelError
from compiler.frontend.architectures import build_architecture
from compiler.frontend.torch_checkpoint import read_torch_checkpoint
from compiler.frontend.weights import load_weights

TENSORS = {
    "float": torch.arange(6.0).reshape(2, 3),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "tail": torch.arange(10.0)[4:],
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "bfloat": torch.tensor([1.5, -3e38], dtype=torch.bfloat16),
    "double": torch.tensor([0.1], dtype=torch.float64),
    "count": torch.tensor(7),
    "empty": torch.zeros(0, 4),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "mask": torch.tensor([True, False]),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("nest", [dict, OrderedDict, lambda t: {"state_dict": t, "epoch": 3, "lr": [0.1]}])
def test_torch_files_are_read_as_torch_reads_them(tmp_path: Path, zipped: bool, nest: Callable[..., object]) -> None:
    path = tmp_path / "w.pth"
    torch.save(nest(TENSORS), path, _use_new_zipfile_serialization=zipped)
    read = read_torch_checkpoint(path)
    assert list(read) == list(TENSORS)
    for name, tensor in TENSORS.items():
        expected = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
        np.testing.assert_array_equal(read[name], expected.numpy())


def test_tensors_that_share_a_storage(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    torch.save({"all": base, "part": base[3:5], "every": base[::3]}, tmp_path / "w.pth")
    read = read_torch_checkpoint(tmp_path / "w.pth")
    np.testing.assert_array_equal(read["every"], [0, 3, 6, 9])
    np.testing.assert_array_equal(read["part"], [3, 4])


def test_an_architecture_loads_a_torch_checkpoint(tmp_path: Path) -> None:
    blueprint = build_architecture("mobilenet_v1")
    checkpoint = invented_checkpoint(blueprint.tensors)
    torch.save({name: torch.from_numpy(value) for name, value in checkpoint.items()}, tmp_path / "w.pth")
    loaded = load_weights(blueprint, tmp_path / "w.pth")
    np.testing.assert_array_equal(loaded["classifier.weight"], checkpoint["classifier.weight"])


class Harm:
    """Pickles to a call of ``os.system``."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_runs_code_is_refused_unrun(tmp_path: Path, zipped: bool) -> None:
    path, marker = tmp_path / "w.pth", tmp_path / "harmed"
    torch.save({"w": torch.ones(2), "x": Harm(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"asks for '(posix|nt)\.system'"):
        read_torch_checkpoint(path)
    assert not marker.exists()


def zip_of(member: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(member), data)
    return buffer.getvalue()


def archive(path: Path, pickled: bytes, storage: bytes = b"", compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("a/data.pkl", pickled)
        file.writestr("a/data/0", storage)
    return path


def tensor_pickle(count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """A pickle of one float tensor, as torch writes it, with whatever numbers are asked for."""

    class Storage:
        pass

    class Tensor:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, shape, strides, False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, item: object) -> object:
            is_storage = isinstance(item, Storage)
            return ("storage", torch.FloatStorage, "0", "cpu", count) if is_storage else None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump({"w": Tensor()})
    return buffer.getvalue()


def test_the_pickles_written_here_are_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "w.pth", tensor_pickle(4, 1, (3,), (1,)), np.arange(4, dtype="<f4").tobytes())
    np.testing.assert_array_equal(read_torch_checkpoint(path)["w"], [1, 2, 3])


@pytest.mark.parametrize(
    ("count", "offset", "shape", "strides"),
    [
        (4, 2, (3,), (1,)),
        (4, 0, (2, 2), (3, 1)),
        (4, 0, (1 << 40,), (0,)),
        (4, -1, (2,), (1,)),
        (4, 3, (2,), (-1,)),
        (4, 0, (2, 2), (2,)),
        (1 << 40, 0, (2,), (1,)),
        (5, 0, (2,), (1,)),
        (-1, 0, (0,), (1,)),
    ],
)
def test_tensors_outside_their_storage_are_refused(
    tmp_path: Path, count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    with pytest.raises(ModelError):
        read_torch_checkpoint(archive(tmp_path / "w.pth", tensor_pickle(count, offset, shape, strides), bytes(16)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable torch checkpoint: no zip archive"),
        (b"GIF89a", "not a readable torch checkpoint: no zip archive"),
        (pickle.dumps({"w": 1}), "neither a zip archive nor torch's older format"),
        (zip_of("a/readme", b"x"), "no data.pkl"),
        (zip_of("a/data.pkl", pickle.dumps([1])), "holds a list"),
        (zip_of("a/data.pkl", pickle.dumps({"epoch": 1})), "no named tensors"),
        (zip_of("a/data.pkl", b"\x80\x02}r\xff\xff\xff\x7f."), "memo index 2147483647"),
        (zip_of("a/data.pkl", pickle.dumps({"w": 1})[:-3]), "not a readable torch checkpoint: truncated or damaged"),
    ],
)
def test_what_is_no_checkpoint_is_one_clear_error(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message) as caught:
        read_torch_checkpoint(path)
    assert str(path) in str(caught.value)


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    pickled = tensor_pickle(4, 0, (4,), (1,))
    with pytest.raises(ModelError, match="compressed entries"):
        read_torch_checkpoint(archive(tmp_path / "w.pth", pickled, bytes(16), zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("zipped", [True, False])
def test_truncation_anywhere_is_refused(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "w.pth"
    torch.save({"w": torch.arange(5.0)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError) as caught:
            read_torch_checkpoint(path)
        text = str(caught.value)
        assert "Error" not in text and "\n" not in text
        assert not zipped or text.endswith("no zip archive (truncated, or not written by torch.save)")
