"""Tables of the accuracy benchmark, and the page they go to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accel.errors import ConfigError, FormatError
from benchmarks import accuracy
from benchmarks.__main__ import main as run_benchmark
from benchmarks.accuracy_cells import SOURCES
from benchmarks.accuracy_methods import LEVELS
from benchmarks.accuracy_page import contrasts, entries, read_rows
from benchmarks.accuracy_parts import PROFILES
from benchmarks.accuracy_plots import write_plots
from benchmarks.accuracy_report import BEGIN, write_report


def lay_cell(
    folder: Path, method: str, codec: str, seed: int, score: float, trained: bool = True, batch: int = 8
) -> None:
    """A cell file with made-up scores."""
    setting = {
        "part": "fashion",
        "method": method if trained else "",
        "codec": codec or None,
        "seed": seed,
        "trial": {"rate": 1e-3, "codebook_factor": 5.0, "sign_factor": 0.0} if trained else None,
        "tuning": False,
        "training": {"batch": batch},
    }
    facts = dict.fromkeys(("steps", "flipped", "frozen", "first_loss", "last_loss"), 0.5) if trained else {}
    row = {"setting": setting, "bits_per_weight": 1.5, **facts, "scores": {"accuracy": score}, "cpu_seconds": 1.0}
    (folder / "cells").mkdir(exist_ok=True)
    (folder / "cells" / f"{method}.{codec.replace(':', '_')}.{seed}.{trained}.json").write_text(json.dumps(row))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """SSVQ with signs fixed and learned, two seeds, and the float model."""
    (tmp_path / "choices").mkdir()
    (tmp_path / "choices" / "fashion.ssvq.1.5.json").write_text('{"codec": "ssvq:k=16,d=8"}')
    for seed, (fixed, free) in enumerate(((0.80, 0.83), (0.82, 0.83))):
        lay_cell(tmp_path, "ssvq-fixed", "ssvq:k=16,d=8", seed, fixed)
        lay_cell(tmp_path, "ssvq-free", "ssvq:k=16,d=8", seed, free)
        lay_cell(tmp_path, "ssvq", "ssvq:k=16,d=8", seed, 0.75, trained=False)
    lay_cell(tmp_path, "float", "", 0, 0.9)
    lay_cell(tmp_path, "float", "", 0, 0.88, trained=False)
    return tmp_path


def test_entries_join_seeds_and_their_start(folder: Path) -> None:
    found = entries(read_rows(folder), folder)
    assert [(each.method, each.level, each.values("accuracy")) for each in found] == [
        ("float", 0.0, [0.9]),
        ("ssvq-fixed", LEVELS[0], [0.80, 0.82]),
        ("ssvq-free", LEVELS[0], [0.83, 0.83]),
    ]
    assert found[1].values("accuracy", found[1].untrained) == [0.75, 0.75]


def test_differences_are_taken_seed_by_seed(folder: Path) -> None:
    text = contrasts(entries(read_rows(folder), folder), PROFILES["fashion"].measures)
    assert "| SSVQ, no freezing − SSVQ, signs fixed | +2.00 ± 1.41 (+3.00, +1.00) |" in text
    assert text.count("\n") == 3  # pairs that were not measured have no row


def test_the_page_keeps_what_stands_above_its_mark(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Accuracy\n\nProse.\n\n{BEGIN}\n\n")
    found = write_report(folder, page)
    text = page.read_text()
    assert text.startswith(f"# Accuracy\n\nProse.\n\n{BEGIN}\n")
    assert "81.00 ± 1.41" in text
    assert len(page.with_suffix(".csv").read_text().splitlines()) == 1 + 2 + 2 * 4
    assert all(path.stat().st_size for path in write_plots(found, tmp_path))
    page.write_text("no mark")
    with pytest.raises(ConfigError, match="lacks the line"):
        write_report(folder, page)
    assert page.read_text() == "no mark"


def test_the_page_keeps_parts_that_were_not_measured(folder: Path, tmp_path: Path) -> None:
    page, sheet = tmp_path / "page.md", tmp_path / "page.csv"
    titles = {part: f"## {PROFILES[part].title}" for part in ("fashion", "minilm", "vit_s14")}
    page.write_text(
        f"{BEGIN}\n\n{titles['fashion']}\n\nof before\n\n{titles['vit_s14']}\n\nkept\n\n{titles['minilm']}\n\ntoo\n"
    )
    sheet.write_text("part,method,lee\nvit_s14,vq,0.1\nfashion,vq,0.2\nminilm,vq,0.65625\n")
    for _ in range(2):  # the second time changes nothing
        write_report(folder, page)
        text, rows = page.read_text(), sheet.read_text().splitlines()[1:]
        assert list(map(text.index, titles.values())) == sorted(map(text.index, titles.values()))
        assert "81.00 ± 1.41" in text and "of before" not in text
        assert text.endswith(f"\n\n{titles['minilm']}\n\ntoo\n\n{titles['vit_s14']}\n\nkept\n")
        assert [row.partition(",")[0] for row in rows] == ["fashion"] * 10 + ["minilm", "vit_s14"]
        assert ",0.65625," in rows[-2] and not any(",0.2," in row for row in rows)


TITLE = f"## {PROFILES['minilm'].title}"
REFUSED = {
    "unknown section": (
        f"{BEGIN}\n\n## Another\n\ntext\n",
        "part\nfashion\n",
        "section 'Another'",
    ),
    "section twice": (f"{BEGIN}\n\n{TITLE}\n\na\n\n{TITLE} \n\nb\n", "part\n", "once each"),
    "preamble": (f"{BEGIN}\n\ntext\n\n{TITLE}\n\na\n", "part\n", "text between the mark and the first section"),
    "unknown part": (f"{BEGIN}\n\n{TITLE}\n\na\n", "part\nother\n", "part 'other'"),
    "unknown column": (f"{BEGIN}\n\n{TITLE}\n\na\n", "part,mine\nminilm,1\n", "columns mine"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_page_that_would_lose_something_stays_as_it_is(case: str, folder: Path, tmp_path: Path) -> None:
    page, sheet = tmp_path / "page.md", tmp_path / "page.csv"
    *texts, message = REFUSED[case]
    for path, text in zip((page, sheet), texts, strict=True):
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        write_report(folder, page)
    assert [page.read_text(), sheet.read_text()] == texts


def test_a_page_is_looked_at_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["accuracy", "--part", "fashion", "-o", str(tmp_path / "d"), "--page", str(tmp_path / "none.md")]
    monkeypatch.setattr(accuracy, "PARTS", {"fashion": None})  # cannot be measured
    assert run_benchmark(command) == 2
    assert capsys.readouterr().err == f"benchmarks accuracy: '{tmp_path / 'none.md'}': No such file or directory\n"


def test_cells_of_two_trainings_are_not_mixed(folder: Path) -> None:
    lay_cell(folder, "ssvq-free", "ssvq:k=16,d=8", 2, 0.9, batch=16)
    with pytest.raises(ConfigError, match="trained in 2 ways"):
        read_rows(folder)


def test_cells_of_other_sources_are_counted_and_marked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = folder / "cells" / "ssvq-free.ssvq_k=16,d=8.0.True.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"sources": SOURCES}))
    write_report(folder, None)
    assert "fashion: 7 of 8 cells are of other sources than today's" in capsys.readouterr().err
    assert (folder / "accuracy.csv").read_text().count(SOURCES) == 1


def test_a_damaged_cell_is_named(folder: Path) -> None:
    (folder / "cells" / "x.json").write_text("{")
    with pytest.raises(FormatError, match=r"x\.json"):
        read_rows(folder)
