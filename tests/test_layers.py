"""The direction of imports, read from the sources: accel.cli -> compiler | sim | rtl -> the rest of accel."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

ROOT = Path(__file__).parents[1]
OUTSIDE = ("benchmarks", "tests")  # not in the wheel

# layer: the modules it must not import, and why
FORBIDDEN: Mapping[str, tuple[tuple[str, ...], str]] = MappingProxyType(
    {
        "accel.cli": (OUTSIDE, "the wheel does not contain them"),
        "accel": (("compiler", "sim", "rtl", "accel.cli", *OUTSIDE), "it is the vocabulary the others meet in"),
        "compiler": (("sim", "rtl", "accel.cli", *OUTSIDE), "it meets the others only in accel"),
        "sim": (("compiler", "rtl", "accel.cli", *OUTSIDE), "it meets the others only in accel"),
        "rtl": (("compiler", "sim", "accel.cli", *OUTSIDE), "it meets the others only in accel"),
    }
)

# The Python API: accel.load and its like import what does the work when called; python -m accel is the command.
ALLOWED = frozenset((("accel", "accel.cli.api"), ("accel.__main__", "accel.cli.main")))


def within(module: str, package: str) -> bool:
    """Whether ``module`` is ``package`` or lies in it."""
    return f"{module}.".startswith(f"{package}.")


def layer_of(module: str) -> str:
    """The row of ``FORBIDDEN`` that holds for a module: the most specific one."""
    return next(layer for layer in FORBIDDEN if within(module, layer))


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a module in ``package`` imports, at any depth, also under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package.split(".")[: -node.level + 1 or None], *filter(None, [node.module])])
            base = base if node.level else str(node.module)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names = [name.value for name in node.args[:1] if isinstance(name, ast.Constant)]
            yield from ((node.lineno, str(name)) for name in names)


def violations(source: str, module: str, package: str) -> list[str]:
    """One sentence for every import that points the wrong way."""
    layer = layer_of(module)
    forbidden, reason = FORBIDDEN[layer]
    return [
        f"{module}, line {line}: imports {name}; {layer} must not, since {reason}"
        for line, name in imported(ast.parse(source), package)
        if any(within(name, package) for package in forbidden) and (module, name) not in ALLOWED
    ]


def modules() -> list[Path]:
    """Every source file of the four shipped packages."""
    return [path for layer in FORBIDDEN if "." not in layer for path in sorted((ROOT / layer).rglob("*.py"))]


def test_every_import_points_the_right_way() -> None:
    found = []
    for path in modules():
        parts = path.relative_to(ROOT).with_suffix("").parts
        package = ".".join(parts[:-1])
        module = package if parts[-1] == "__init__" else ".".join(parts)
        found += violations(path.read_text(), module, package)
    assert not found, "\n" + "\n".join(found)


def test_every_package_is_looked_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in modules()} == {"accel", "compiler", "sim", "rtl"}


@pytest.mark.parametrize(
    ("module", "source", "name"),
    [
        ("accel.graph", "import sim", "sim"),
        ("accel.codecs.vq", "def f():\n    from compiler.compress import compress", "compiler.compress.compress"),
        ("accel.run", "from accel.cli import main", "accel.cli.main"),
        ("accel.run", "from accel import cli", "accel.cli"),
        ("accel.run", "from .cli.options import say", "accel.cli.options.say"),
        ("accel.run", "from . import cli", "accel.cli"),
        ("accel.codecs.vq", "from .. import cli", "accel.cli"),
        ("compiler.emit", "if TYPE_CHECKING:\n    import sim.core as core", "sim.core"),
        ("sim.core", "importlib.import_module('rtl.export')", "rtl.export"),
        ("rtl.export", "import os, compiler", "compiler"),
        ("accel.cli.sim", "import benchmarks.packing", "benchmarks.packing"),
    ],
)
def test_imports_the_wrong_way_are_found(module: str, source: str, name: str) -> None:
    (found,) = violations(source, module, module.rpartition(".")[0])
    assert f"{module}, line {1 + source.count(chr(10))}: imports {name};" in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("accel.cli.sim", "from sim import simulate\nfrom accel.cli import options\nimport compiler"),
        ("sim.core", "from sim import array\nfrom . import array\nfrom .array import x\nfrom accel.isa import decode"),
        ("accel", "def load():\n    from accel.cli import api"),
        ("accel.graph", "import simulator, compilers.sim, accel.clio\nfrom .errors import listed"),
    ],
)
def test_imports_the_right_way_pass(module: str, source: str) -> None:
    assert violations(source, module, module.rpartition(".")[0]) == []
