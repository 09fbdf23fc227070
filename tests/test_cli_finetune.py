"""``accel finetune``: data in, packed file and scores out; mistakes are one line and leave nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training_cases import one_thread, stripes

from accel.cli import main
from accel.container import read_container, write_container
from accel.graph import GraphBuilder
from accel.packed import packed_digest, read_packed
from compiler import frontend
from compiler.training.checkpoint import FILE_NAME, SCHEMA

Captured = pytest.CaptureFixture[str]
__all__ = ["one_thread"]  # for all tests here, too


@pytest.fixture
def loaded() -> frontend.LoadedModel:
    """Pictures [1,1,6,6] to scores of two classes, through one hidden layer."""
    builder, random = GraphBuilder("net"), np.random.default_rng(0)
    x = builder.op("reshape", builder.input("x", (1, 1, 6, 6)), shape=(1, 36))
    hidden = builder.op("relu", builder.op("gemm", x, builder.parameter("fc.weight", (32, 36)), name="fc"))
    head = builder.parameter("head.weight", (2, 32)), builder.parameter("head.bias", (2,))
    graph = builder.build(builder.op("gemm", hidden, *head, name="head"))
    weights = {name: random.normal(0, 0.2, shape).astype(np.float32) for name, shape in graph.parameters.items()}
    source = {"spec": "net", "description": "two layers", "weights": "random", "sha256": "0" * 64}
    return frontend.LoadedModel(graph, weights, source)


@pytest.fixture
def folder(loaded: frontend.LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with samples, where MODEL is a small network whatever its name."""
    monkeypatch.setattr(frontend, "load_model", lambda spec, **options: loaded)
    monkeypatch.chdir(tmp_path)
    data = stripes(80)
    np.savez("labelled.npz", x=data.inputs["x"], labels=data.targets)
    np.savez("plain.npz", x=data.inputs["x"])
    return tmp_path


def tune(*more: str, data: str = "labelled.npz", out: str = "net.vq.safetensors") -> list[str]:
    wanted = ["--codec", "ssvq:k=8,d=4", "--data", data, "--batch", "8", "--lr", "0.01", "-o", out]
    return ["finetune", "net", *wanted, *more]


def scores(capsys: Captured) -> dict[str, dict[str, float]]:
    return {row["stage"]: row for row in json.loads(capsys.readouterr().out)["scores"]}


def refused(capsys: Captured, *argv: str) -> str:
    try:
        code = main(list(argv))
    except SystemExit as leaving:
        code = leaving.code  # type: ignore[assignment]
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), err
    return err


def test_labels_are_learned_and_the_file_is_a_calibrated_model(folder: Path, capsys: Captured) -> None:
    assert main([*tune("--epochs", "3", "--json", "--keep", "head.weight=int8", "--log", "log.csv")]) == 0
    found = scores(capsys)
    assert list(found) == ["float model", "compressed", "fine-tuned"]
    assert found["fine-tuned"]["loss"] < found["compressed"]["loss"]
    assert found["float model"]["cosine"] == pytest.approx(1)
    assert found["compressed"]["cosine"] < 0.9999
    assert 0 <= found["fine-tuned"]["accuracy"] <= 1
    packed = read_packed("net.vq.safetensors")
    assert str(packed.layers["head.weight"].codec) == "int8"
    assert packed.quantisation is not None and packed.quantisation.samples == 64
    remembered = packed.source.description["fine-tuning"]
    assert "3 epochs, batch 8" in remembered and "threads 1" in remembered
    assert len((folder / "log.csv").read_text().splitlines()) == 1 + 3 * 9  # 72 samples: a tenth is held back


def test_without_labels_the_float_model_teaches(folder: Path, capsys: Captured) -> None:
    (folder / "parts").mkdir()
    for name in ("a", "b"):
        (folder / "parts" / f"{name}.npz").write_bytes((folder / "plain.npz").read_bytes())
    assert main(tune("--epochs", "2", data="parts")) == 0
    text = capsys.readouterr().out
    assert (
        "cosine to float" in text
        and "pairs of samples: r with float" in text
        and "accuracy" not in text
        and "trained on 144 samples in 36 steps" in text
    )
    assert main([*tune("--loss", "kl", "--json", "--codec", "vq:k=8,d=4", data="plain.npz")]) == 0
    found = scores(capsys)
    assert found["float model"]["loss"] == pytest.approx(0, abs=1e-6)
    assert found["fine-tuned"]["loss"] < found["compressed"]["loss"]
    assert found["float model"]["relations"] == pytest.approx(1)
    options = tune(
        "--loss", "kl", "--codec", "vq:k=8,d=4", "--imitate", "outputs", data="plain.npz", out="out.vq.safetensors"
    )
    assert main(options) == 0
    assert packed_digest("out.vq.safetensors") != packed_digest("net.vq.safetensors")
    remembered = [read_packed(f"{name}.vq.safetensors").source.description["fine-tuning"] for name in ("net", "out")]
    assert "loss kl imitating layers" in remembered[0] and "loss kl imitating outputs" in remembered[1]


def test_with_labels_nothing_is_imitated(folder: Path, capsys: Captured) -> None:
    message = refused(capsys, *tune("--imitate", "outputs"))
    assert "--imitate outputs with loss 'cross_entropy'; allowed: with --loss mse, cosine" in message
    assert main(tune("--json")) == 0
    assert "imitate" not in json.loads(capsys.readouterr().out)["recipe"]
    assert "imitating" not in read_packed("net.vq.safetensors").source.description["fine-tuning"]


@pytest.mark.parametrize("labelled", [True, False])
def test_a_checkpoint_from_before_imitation_goes_on_as_what_it_was(
    labelled: bool, folder: Path, capsys: Captured
) -> None:
    data = "labelled.npz" if labelled else "plain.npz"
    of_outputs = () if labelled else ("--imitate", "outputs")
    options = ("--epochs", "2", "--checkpoint", "run")
    assert main(tune(*options, *of_outputs, data=data)) == 0
    path = folder / "run" / FILE_NAME
    document, tensors = read_container(path, SCHEMA)
    document["identity"].pop("imitate", None)  # as runs wrote it before there was a choice
    write_container(path, SCHEMA, document, tensors)
    assert main(tune(*options, "--resume", *of_outputs, data=data, out="again.vq.safetensors")) == 0
    assert packed_digest("net.vq.safetensors") == packed_digest("again.vq.safetensors")
    capsys.readouterr()
    if not labelled:
        message = refused(capsys, *tune(*options, "--resume", data=data))
        assert "is of a run with imitate = outputs; this one has layers" in message


def test_a_finished_run_is_not_repeated_and_another_is_refused(folder: Path, capsys: Captured) -> None:
    options = ("--epochs", "2", "--checkpoint", "run", "--checkpoint-every", "5")
    assert main(tune(*options)) == 0
    assert main(tune(*options, "--resume", out="again.vq.safetensors")) == 0
    assert packed_digest("net.vq.safetensors") == packed_digest("again.vq.safetensors")
    capsys.readouterr()
    assert "is of a run with codec = ssvq:k=8,d=4; this one has vq:k=8,d=4" in refused(
        capsys, *tune(*options, "--resume", "--codec", "vq:k=8,d=4")
    )
    other = np.load("labelled.npz")
    np.savez("other.npz", x=other["x"] + 1, labels=other["labels"])
    assert "is of a run with data = " in refused(capsys, *tune(*options, "--resume", data="other.npz"))


def test_a_checkpoint_is_not_overwritten(folder: Path, capsys: Captured) -> None:
    assert main(tune("--epochs", "2", "--checkpoint", "run")) == 0
    before = (folder / "run" / FILE_NAME).read_bytes()
    capsys.readouterr()
    message = refused(capsys, *tune("--epochs", "3", "--checkpoint", "run", out="other.vq.safetensors"))
    assert "'run' holds a checkpoint of an earlier run (step 18, codec ssvq:k=8,d=4, epochs 2); --resume" in message
    assert (folder / "run" / FILE_NAME).read_bytes() == before
    assert not (folder / "other.vq.safetensors").exists()


@pytest.mark.parametrize("exists", [True, False])
def test_a_run_killed_before_its_first_checkpoint_starts_again(exists: bool, folder: Path, capsys: Captured) -> None:
    if exists:
        (folder / "run").mkdir()
    assert main(tune()) == 0
    assert "note" not in capsys.readouterr().err
    assert main(tune("--checkpoint", "run", "--resume", out="again.vq.safetensors")) == 0
    assert "note: 'run' holds no checkpoint yet: the run starts from the beginning\n" in capsys.readouterr().err
    assert packed_digest("net.vq.safetensors") == packed_digest("again.vq.safetensors")


def test_the_threads_are_those_asked_for_and_part_of_the_run(folder: Path, capsys: Captured) -> None:
    torch.set_num_threads(2)
    assert main(tune("--checkpoint", "run")) == 0
    assert torch.get_num_threads() == 2
    torch.set_num_threads(3)
    assert main(tune("--checkpoint", "run", "--resume")) == 0
    capsys.readouterr()
    message = refused(capsys, *tune("--checkpoint", "run", "--resume", "--threads", "2"))
    assert "is of a run with threads = 1; this one has 2" in message
    assert torch.get_num_threads() == 3


def test_another_seed_is_what_a_checkpoint_of_another_seed_is_told_by(folder: Path, capsys: Captured) -> None:
    assert main(tune("--checkpoint", "run")) == 0
    capsys.readouterr()
    message = refused(capsys, *tune("--checkpoint", "run", "--resume", "--seed", "1"))
    assert "is of a run with seed = 0; this one has 1" in message


def test_a_run_of_few_steps_says_so(folder: Path, capsys: Captured) -> None:
    assert main(tune("--epochs", "5")) == 0
    assert "in 45 steps" in (text := capsys.readouterr().out) and "smaller --batch or more --epochs" in text
    assert main(tune("--epochs", "6")) == 0
    assert "in 54 steps" in (text := capsys.readouterr().out) and "smaller --batch" not in text


def test_layers_that_are_int8_instead_say_so(folder: Path, capsys: Captured) -> None:
    """Codes, signs and codebook of the head would take 12 + 32 + 64 bytes, which is more than its 2x32 weights."""
    why = "ssvq:k=8,d=8 would take 108 bytes, int8 takes 64"
    options = ["--codec", "ssvq:k=8,d=8", "--epochs", "1"]
    assert main([*tune(*options, "--json")]) == 0
    layers = {row["layer"]: row for row in json.loads(capsys.readouterr().out)["layers"]}
    assert (layers["head.weight"]["codec"], layers["head.weight"]["reason"]) == ("int8", why)
    assert (layers["fc.weight"]["codec"], layers["fc.weight"]["reason"]) == ("ssvq:k=8,d=8", "")
    assert main(tune(*options)) == 0
    assert f"1 of 2 layers is int8: head.weight ({why})" in capsys.readouterr().out
    assert main(tune(*options, "--keep", "head*=int4")) == 0
    assert "int8" not in capsys.readouterr().out


MISTAKES = {
    "a codec for no layer": (
        ["--codec", "vq:k=65536,d=64"],
        "codec 'vq:k=65536,d=64' makes no layer smaller than int8: of the largest, 'fc.weight', vq:k=65536,d=64 would",
    ),
    "data missing": (["--data", "no.npz"], "--data no.npz: no such file; allowed: a folder or file of .npz samples"),
    "data near a name": (["--data", "fashion_mnits"], "did you mean 'fashion_mnist'?"),
    "data of another shape": (["--data", "wrong.npz"], "input 'x': shape [3, 5]"),
    "labels beyond the classes": (["--data", "beyond.npz"], "label 7; allowed: 0 to 1, the model has 2 outputs"),
    "labels by another name": (["--data", "named.npz"], "no input 'y'; inputs are x; classes are called 'labels'"),
    "labels that are no numbers of classes": (["--data", "real.npz"], "labels of type float32"),
    "labels beyond any": (["--data", "huge.npz"], "labels up to 9223372036854775808; allowed: below 2**63"),
    "a torn archive": (["--data", "torn.npz"], "cannot read 'torn.npz': Bad magic number for central directory"),
    "a rate beyond float32": (["--sign-lr", "1e300"], "allowed: learning rates up to 1e+36"),
    "a codec nobody trains": (["--codec", "rvq:k=4,d=4,stages=2"], "cannot be fine-tuned; allowed: int8, int4, vq, "),
    "not enough to hold back": (["--data", "one.npz"], "1 samples, 1 of them held back"),
    "NaN": (["--data", "nan.npz"], "input 'x': some values are NaN, infinite"),
    "fashion pictures": (["--data", "fashion_mnist"], "allowed: one of shape (1, 1, 28, 28)"),
    "no such loss": (["--loss", "hinge"], "loss 'hinge'; allowed: cross_entropy"),
    "resume": (["--resume"], "--resume without --checkpoint DIR"),
    "freezing": (["--no-freezing", "--freeze-interval", "5"], "--freeze-interval with --no-freezing"),
    "rate": (["--lr", "nan"], "argument --lr: 'nan'; allowed: a number above 0"),
    "overwriting": (["-o", "labelled.npz"], "'labelled.npz' is the input"),
    "a rate too high": (["--lr", "1e30"], "training stopped; try a lower learning rate"),
    "pattern": (["--keep", "nothing*=int8"], "keep pattern 'nothing*' matches no weight"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_one_line(what: str, folder: Path, capsys: Captured) -> None:
    options, message = MISTAKES[what]
    pictures = stripes(3).inputs["x"]
    np.savez("wrong.npz", x=np.zeros((3, 5), np.float32))
    np.savez("beyond.npz", x=pictures, labels=np.array([0, 7, 1]))
    np.savez("named.npz", x=pictures, y=np.zeros(3, np.int64))
    np.savez("real.npz", x=pictures, labels=np.zeros(3, np.float32))
    np.savez("huge.npz", x=pictures, labels=np.full(3, 2**63, np.uint64))
    Path("torn.npz").write_bytes(Path("huge.npz").read_bytes().replace(b"PK\1\2", b"PK\1\3"))
    np.savez("one.npz", x=pictures[:1])
    np.savez("nan.npz", x=np.full_like(pictures, np.nan))
    assert message in refused(capsys, *tune(*options))
    assert not (folder / "net.vq.safetensors").exists()


def test_labels_need_one_row_of_classes_a_sample(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, loaded: frontend.LoadedModel
) -> None:
    builder = GraphBuilder("rows")
    graph = builder.build(builder.op("gemm", builder.input("x", (1, 1, 6, 6)), builder.parameter("w", (2, 6))))
    rows = frontend.LoadedModel(graph, {"w": np.ones((2, 6), np.float32)}, loaded.source)
    monkeypatch.setattr(frontend, "load_model", lambda spec, **options: rows)
    message = refused(capsys, *tune("--codec", "int8"))
    assert "one label a sample, but" in message and "is (1, 1, 6, 2); allowed: one row of classes" in message
