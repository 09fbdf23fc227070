"""``accel import``: from a file to a simulated program; hostile files end in one line and leave nothing behind."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_files import VPTQ_INEXACT, VPTQLayer, aqlm_tensors, resnet_state, write_aqlm
from safetensors.numpy import save_file

from accel.cli import main
from accel.packed import read_packed
from compiler.frontend.architectures import build_architecture
from compiler.importers import FORMATS

Captured = pytest.CaptureFixture[str]


def refused(capsys: Captured, *argv: str) -> str:
    """The one line a mistake is answered with."""
    assert main(list(argv)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("accel: ") and "Traceback" not in err
    return err


@pytest.mark.parametrize("shape", [(1, 8, 1, 8), (2, 8, 1, 8)], ids=["one codebook", "two"])
def test_from_a_checkpoint_to_values(shape: tuple[int, ...], tmp_path: Path, capsys: Captured) -> None:
    """Import, compile, simulate, run: the program computes with the imported weights."""
    source, _ = write_aqlm(tmp_path, np.random.default_rng(0), *shape)
    packed, program = str(tmp_path / "n.vq.safetensors"), str(tmp_path / "n.prog.safetensors")
    x = np.random.default_rng(1).uniform(-1, 1, (1, 32)).astype(np.float32)
    np.savez(tmp_path / "x.npz", **{"m.q.weight:in": x})
    inputs = str(tmp_path / "x.npz")
    assert main(["import", str(source), "-o", packed, "--json", "--calibrate", inputs]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["format"] == "aqlm" and [row["layer"] for row in report["layers"]] == ["m.q.weight"]
    assert 0 < report["relative_error"] < 1e-3 and report["layers"][0]["codec"].startswith(
        "rvq" if shape[0] > 1 else "vq"
    )
    assert main(["compile", packed, "-o", program]) == main(["sim", program, "--json"]) == 0
    assert main(["run", program, "--input", inputs, "-o", str(tmp_path / "y.npz")]) == 0
    (y,) = np.load(tmp_path / "y.npz").values()
    model = read_packed(packed)
    layer = model.layers["m.q.weight"]
    exact = x @ (layer.codec.decode(layer) * layer.scale[:, None]).T + model.parameters["m.q.weight:bias"]
    assert model.quantisation is not None
    step = model.quantisation.tensors[model.graph.outputs[0]].scale
    np.testing.assert_allclose(y, exact, atol=3 * step)  # input and output are rounded to 8 bits


def test_a_resnet_onto_its_architecture(tmp_path: Path, capsys: Captured) -> None:
    state, _ = resnet_state(dict(build_architecture("resnet18").tensors), np.random.default_rng(0), "pqf")
    torch.save(state, tmp_path / "r.pth")
    out = tmp_path / "r.vq.safetensors"
    assert main(["import", str(tmp_path / "r.pth"), "--arch", "resnet18", "-o", str(out)]) == 0
    table = capsys.readouterr().out
    assert "layer4.1.conv2.weight" in table and "not compressed in the checkpoint" in table
    assert {str(each.codec) for each in read_packed(out).layers.values()} == {"int8", "vq:k=16,d=9", "vq:k=16,d=4"}
    out.unlink()
    message = refused(capsys, "import", str(tmp_path / "r.pth"), "--arch", "resnet50", "-o", str(out))
    assert "needs tensors that are missing" in message and not out.exists()


@pytest.mark.parametrize("name", VPTQ_INEXACT)
def test_what_no_codec_holds_needs_leave(name: str, tmp_path: Path, capsys: Captured) -> None:
    stored = VPTQLayer(np.random.default_rng(1), VPTQ_INEXACT[name], uneven=True)
    out = tmp_path / "n.vq.safetensors"
    folder = str(stored.write(tmp_path / "tool"))
    assert "layer 'l.q.weight' (v8 k=16" in refused(capsys, "import", folder, "-o", str(out)) and not out.exists()
    assert main(["import", folder, "--inexact", "int8", "-o", str(out)]) == 0
    assert "coded anew: " in capsys.readouterr().out
    layer = read_packed(out).layers["l.q.weight"]
    np.testing.assert_allclose(layer.codec.decode(layer) * layer.scale[:, None], stored.weights(), atol=0.05)


class Call:
    """Pickles to a call of anything, on a marker file."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.parts  # type: ignore[return-value]


def zip_of(pickled: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/data/0", bytes(16))
    return buffer.getvalue()


def rebuilt(state: bytes) -> bytes:
    """A pickle of a good tensor on which BUILD is then called with ``state``."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00K\x02\x85K\x01\x85\x89}tR"
    return b"\x80\x02}X\x01\x00\x00\x00w" + tensor + state + b"bs."


# The dictionary entry's key keeps the pickle otherwise legal; every one of these would touch the marker if obeyed.
PICKLES: dict[str, tuple[Callable[[str], bytes], str]] = {
    "REDUCE of os.system": (lambda m: pickle.dumps({"w": Call(os.system, f"touch {m}")}, 2), "GLOBAL at byte"),
    "STACK_GLOBAL": (lambda m: pickle.dumps({"w": Call(os.system, f"touch {m}")}, 4), "STACK_GLOBAL at byte"),
    "nested": (lambda m: pickle.dumps([{"b": (Call(eval, f"open('{m}','w')"),)}], 4), "asks for 'builtins.eval'"),
    "protocol 0": (lambda m: pickle.dumps({"w": Call(os.system, f"touch {m}")}, 0), r"asks for 'posix.system'"),
    "INST": (lambda m: f"(S'touch {m}'\nios\nsystem\n.".encode(), "opcode INST"),
    "OBJ": (lambda m: f"(cos\nsystem\nS'touch {m}'\no.".encode(), "opcode OBJ"),
    "NEWOBJ": (lambda m: b"ccollections\nOrderedDict\n)\x81.", "opcode NEWOBJ"),
    "EXT1": (lambda m: b"\x82\x01.", "opcode EXT1"),
    "getattr": (lambda m: b"cbuiltins\ngetattr\n(ctorch\nload\nX\x01\x00\x00\x00xtR.", "asks for 'builtins.getattr'"),
    "BUILD on a tensor": (lambda m: rebuilt(b"](NK\x00K\x08\x85M\x00\x04\x85e"), "opcode BUILD changes an object"),
    "BUILD on a function": (
        lambda m: b"ctorch._utils\n_rebuild_parameter\n}X\x08\x00\x00\x00__code__Nsb.",
        "opcode BUILD changes an object",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_that_do_more_than_hold_tensors(name: str, tmp_path: Path, capsys: Captured) -> None:
    make, message = PICKLES[name]
    marker, out = tmp_path / "harmed", tmp_path / "o.vq.safetensors"
    (tmp_path / "c.pth").write_bytes(zip_of(make(str(marker))))
    assert message in refused(capsys, "import", str(tmp_path / "c.pth"), "-o", str(out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.pth"]


@pytest.mark.parametrize("forks", [1, 2])
def test_mappings_without_end(forks: int, tmp_path: Path, capsys: Captured) -> None:
    """A dictionary that holds itself, and forty that hold the next one twice."""
    top: dict[str, object] = {}
    if forks == 1:
        top["again"] = top
    for _ in range(40 if forks == 2 else 0):
        top = {"a": top, "b": top}
    (tmp_path / "c.pth").write_bytes(zip_of(pickle.dumps(top, 2)))
    assert "no format we know" in refused(capsys, "import", str(tmp_path / "c.pth"), "-o", str(tmp_path / "o"))


def test_the_pickle_that_build_is_tried_on_is_good(tmp_path: Path) -> None:
    from compiler.frontend.torch_checkpoint import read_torch_checkpoint

    plain = rebuilt(b"").replace(b"bs.", b"s.")
    (tmp_path / "c.pth").write_bytes(zip_of(plain))
    np.testing.assert_array_equal(read_torch_checkpoint(tmp_path / "c.pth")["w"], [0, 0])


def changed(tensors: dict[str, np.ndarray], **parts: np.ndarray) -> dict[str, np.ndarray]:
    return {**tensors, **{f"m.q.{name}": array for name, array in parts.items()}}


AQLM = aqlm_tensors(np.random.default_rng(0), 2, 4, 1, 8)
BAD_AQLM = {
    "code too large": (
        changed(AQLM, codes=np.full((24, 4, 2), 16, np.int8)),
        "code 16 is out of range; allowed: -8 to 15",
    ),
    "code too small": (changed(AQLM, codes=np.full((24, 4, 2), -9, np.int8)), "code -9 is out of range"),
    "codes of floats": (changed(AQLM, codes=np.zeros((24, 4, 2), np.float32)), "expected integers with 3 axes"),
    "codes of two axes": (
        changed(AQLM, codes=np.zeros((24, 8), np.int8)),
        "int8[24, 8]; expected integers with 3 axes",
    ),
    "another number of codebooks": (
        changed(AQLM, codes=np.zeros((24, 4, 3), np.int8)),
        "codes [24, 4, 3], codebooks [2, ",
    ),
    "scales": (changed(AQLM, scales=np.ones((3, 1, 1, 1), np.float16)), "scales [3, 1, 1, 1]"),
    "no power of two": (
        changed(AQLM, codebooks=np.ones((2, 15, 1, 8), np.float16)),
        "15 codewords; expected a power of two",
    ),
    "infinite": (changed(AQLM, codebooks=np.full((2, 16, 1, 8), np.inf, np.float16)), "a codeword or scale is NaN"),
    "nothing": (changed(AQLM, codes=np.zeros((0, 4, 2), np.int8)), "int8[0, 4, 2]; expected integers"),
}


@pytest.mark.parametrize("name", BAD_AQLM)
def test_bad_tensors_are_named(name: str, tmp_path: Path, capsys: Captured) -> None:
    tensors, message = BAD_AQLM[name]
    save_file(tensors, tmp_path / "m.safetensors")
    error = refused(capsys, "import", str(tmp_path / "m.safetensors"), "-o", str(tmp_path / "o.vq.safetensors"))
    assert message in error and "layer 'm.q'" in error and not (tmp_path / "o.vq.safetensors").exists()


BAD_VPTQ = {
    "huge": ({"in_features": 1 << 60, "group_size": 1 << 60}, "indices [1, 3, 3]; expected [1, 3, "),
    "columns": ({"in_features": 25}, "the groups and outliers do not add up to the columns"),
    "codewords": ({"num_centroids": [-1, 12]}, "num_centroids=12; allowed: a power of two"),
    "more codewords": ({"num_centroids": [-1, 32]}, "centroids [1, 128]; expected [1, 32*8]"),
    "text": ({"group_num": "2"}, "expected whole numbers"),
    "no pair": ({"vector_lens": [8]}, "config.json lacks a setting"),
    "vectors of none": ({"vector_lens": [-1, 0]}, "vector_lens[1]=0, out_features=20; allowed: at least 1"),
}


@pytest.mark.parametrize("name", BAD_VPTQ)
def test_bad_settings_are_named(name: str, tmp_path: Path, capsys: Captured) -> None:
    changes, message = BAD_VPTQ[name]
    layer = VPTQLayer(np.random.default_rng(0), {})
    layer.config = layer.config | changes
    VPTQLayer.write(layer, tmp_path) if "vector_lens" in changes else write_with(layer, changes, tmp_path)
    error = refused(capsys, "import", str(tmp_path), "-o", str(tmp_path / "o"))
    assert message in error and "layer 'l.q'" in error


def write_with(layer: VPTQLayer, changes: dict[str, object], folder: Path) -> None:
    VPTQLayer(np.random.default_rng(0), {}).write(folder)
    config = {"config_for_layers": {"l.q": layer.config | changes}}
    (folder / "config.json").write_text(json.dumps({"quantization_config": config}))


@pytest.mark.parametrize("config", [None, b"", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_vptq_without_its_settings(config: bytes | None, tmp_path: Path, capsys: Captured) -> None:
    VPTQLayer(np.random.default_rng(0), {}).write(tmp_path)
    (tmp_path / "config.json").unlink() if config is None else (tmp_path / "config.json").write_bytes(config)
    assert "config.json" in refused(capsys, "import", str(tmp_path), "-o", str(tmp_path / "o"))


BAD_BGD = {
    "assignment too large": ({"assignments": torch.full((24,), 16, dtype=torch.uint8)}, "code 16 is out of range"),
    "negative assignment": ({"assignments": torch.full((24,), -1, dtype=torch.int16)}, "code -1 is out of range"),
    "blocks": ({"n_blocks": 7}, "24 assignments in n_blocks=7 blocks"),
    "no blocks": ({"n_blocks": 0}, "n_blocks=0"),
    "kernel": ({"k": 5}, "a kernel of k=5 needs a multiple of 25"),
    "huge kernel": ({"k": 1 << 62}, "a kernel of k="),
    "no kernel": ({"k": "3"}, "'a.k' is missing, or no whole number"),
}


@pytest.mark.parametrize("name", BAD_BGD)
def test_bad_layers_of_bgd_are_named(name: str, tmp_path: Path, capsys: Captured) -> None:
    changes, message = BAD_BGD[name]
    good = {
        "centroids": torch.ones(16, 9),
        "assignments": torch.zeros(24).byte(),
        "n_blocks": 3,
        "is_conv": True,
        "k": 3,
    }
    torch.save({"a": good}, tmp_path / "c.pth")
    assert main(["import", str(tmp_path / "c.pth"), "-o", str(tmp_path / "good.vq.safetensors")]) == 0
    capsys.readouterr()
    torch.save({"a": good | changes}, tmp_path / "c.pth")
    error = refused(capsys, "import", str(tmp_path / "c.pth"), "-o", str(tmp_path / "o.vq.safetensors"))
    assert message in error and "layer 'a'" in error and not (tmp_path / "o.vq.safetensors").exists()


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_truncation_anywhere(suffix: str, tmp_path: Path, capsys: Captured) -> None:
    path, _ = write_aqlm(tmp_path, np.random.default_rng(0), 1, 4, 1, 8)
    if suffix == "pth":
        path = tmp_path / "m.pth"
        torch.save({k: torch.from_numpy(v.copy()) for k, v in AQLM.items()}, path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        assert str(path) in refused(capsys, "import", str(path), "-o", str(tmp_path / "o"))
    assert not (tmp_path / "o").exists()


MISTAKES = {
    "no file": (["nothing.pth"], "nothing.pth: no such file"),
    "suffix": (["m.txt"], "suffix '.txt'; allowed: .safetensors, .pth"),
    "empty folder": (["empty"], "holds no .safetensors file"),
    "format": (["model.safetensors", "--format", "vqtp"], "unknown format 'vqtp'; allowed: coreml-torch"),
    "other format": (["model.safetensors", "--format", "bgd"], "does not look like bgd"),
    "architecture": (["model.safetensors", "--arch", "resnet81"], "unknown model 'resnet81'"),
    "not of it": (["model.safetensors", "--arch", "resnet18"], "'resnet18' needs tensors that are missing"),
    "codec": (["model.safetensors", "--inexact", "int7"], "codec 'int7'"),
    "missing": (["model.safetensors", "--arch", "resnet18", "--missing", "guess"], "missing 'guess'; allowed: error"),
    "no graph": (["model.safetensors", "--missing", "random"], "describe the graph of --arch, which is not given"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    argv, message = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    Path("m.txt").write_text("x")
    Path("empty").mkdir()
    if argv[0] != "empty":
        write_aqlm(tmp_path, np.random.default_rng(0), 1, 4, 1, 8)
    before = sorted(tmp_path.iterdir())
    assert message in refused(capsys, "import", *argv, "-o", "o.vq.safetensors")
    assert sorted(tmp_path.iterdir()) == before


def test_the_input_is_never_overwritten(tmp_path: Path, capsys: Captured) -> None:
    path, _ = write_aqlm(tmp_path, np.random.default_rng(0), 1, 4, 1, 8)
    assert "would be lost" in refused(capsys, "import", str(path), "-o", str(path))


def test_the_page_describes_every_format() -> None:
    page = (Path(__file__).parents[1] / "docs" / "importing.md").read_text()
    for row in FORMATS.values():
        assert f"`{row.name}`" in page
