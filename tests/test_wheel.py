"""What users install: a wheel with exactly four packages, every source and preset in it, and a working command."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path

import pytest

from accel import __version__

ROOT = Path(__file__).parents[1]
PACKAGES = ("accel", "compiler", "rtl", "sim")
PATTERNS = ("*.py", "*.toml", "*.csv", "*.md", "*.v", "*.html", "*.css", "*.js")
LIST_PRESETS = """
import accel
from accel.machine import load_machine, preset_names
print(accel.__file__, *(load_machine(name).name for name in preset_names()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built with the installed backend: no network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def content(wheel: zipfile.ZipFile, name: str) -> str:
    """Text of a file in the wheel's ``dist-info`` folder."""
    return wheel.read(f"accel_codesign-{__version__}.dist-info/{name}").decode()


def test_top_level_is_the_four_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert tops == {*PACKAGES, f"accel_codesign-{__version__}.dist-info"}


def test_every_source_and_preset_is_inside(wheel: zipfile.ZipFile) -> None:
    files = [path for package in PACKAGES for pattern in PATTERNS for path in (ROOT / package).rglob(pattern)]
    expected = {path.relative_to(ROOT).as_posix() for path in files}
    references = {f"accel/reference/{name}.csv" for name in ("dram", "systolic")}
    assert {"accel/presets/edge64.toml", *references} <= expected
    assert expected == {name for name in wheel.namelist() if ".dist-info/" not in name}


def test_metadata_names_command_licence_and_readme(wheel: zipfile.ZipFile) -> None:
    metadata = Parser().parsestr(content(wheel, "METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("accel-codesign", __version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert content(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()
    assert str(metadata.get_payload()).strip() == (ROOT / "README.md").read_text().strip()
    scripts = ConfigParser()
    scripts.read_string(content(wheel, "entry_points.txt"))
    assert dict(scripts["console_scripts"]) == {"accel": "accel.cli:main"}


def test_unpacked_wheel_finds_its_presets(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    command = [sys.executable, "-c", LIST_PRESETS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    imported, *presets = done.stdout.split()
    assert Path(imported).is_relative_to(tmp_path)
    assert "edge64" in presets and set(presets) == {path.stem for path in (ROOT / "accel/presets").iterdir()}
