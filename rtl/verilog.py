"""Amaranth components as Verilog: stable port names, a header with all parameters, the same text each time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from accel import __version__
from rtl.devices import GENERIC, Fabric

TOP = "decoder"


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a Verilog module, ``width`` bits wide; ``direction`` is ``input`` or ``output``."""

    name: str
    width: int
    direction: str


def to_verilog(
    component: Any,
    name: str = TOP,
    header: Mapping[str, object] | None = None,
    *,
    fabric: Fabric = GENERIC,
    source_lines: bool = False,
) -> str:
    """Verilog of an Amaranth ``wiring.Component`` whose top module is ``name``.

    ``header``: facts (codec, parameters) for the comment on top. ``fabric`` reaches the component's ``elaborate`` as
    its ``platform``, so that it may use hard blocks. ``source_lines`` keeps ``src`` attributes (lines of Python).
    """
    from amaranth.back import verilog

    text: str = verilog.convert(
        component, name=name, platform=fabric, emit_src=source_lines, strip_internal_attrs=not source_lines
    )
    facts = {**(header or {}), "fabric": fabric.name}
    return _comment(name, facts) + "\n" + text.rstrip() + "\n"


def _comment(name: str, facts: Mapping[str, object]) -> str:
    made_by = f"// {name}: made by accel {__version__} with Amaranth {version('amaranth')}"
    return "\n".join([made_by, *(f"// {key}: {_one_line(value)}" for key, value in facts.items())]) + "\n"


def _one_line(value: object) -> str:
    return " ".join(str(value).split())


def without_header(verilog: str) -> str:
    """The text without its leading ``//`` lines: what decides how it is synthesised."""
    return re.sub(r"\A(//[^\n]*\n|\n)*", "", verilog)


def ports_of(verilog: str, name: str = TOP) -> tuple[Port, ...]:
    """The ports of module ``name`` in a text of ``to_verilog``, ordered by name, inputs first."""
    body = re.search(rf"^module {re.escape(name)}\((.*?)\);.*?^endmodule", verilog, re.MULTILINE | re.DOTALL)
    assert body, f"no module {name}"
    found = re.findall(r"^  (input|output) (?:signed )?(?:\[(\d+):0\] )?(\w+) ?;", body[0], re.MULTILINE)
    assert {port for _, _, port in found} == set(re.findall(r"[^,\s]+", body[1])), f"ports of {name} beyond plain names"
    ports = (Port(port, int(high or 0) + 1, direction) for direction, high, port in found)
    return tuple(sorted(ports, key=lambda port: (port.direction, port.name)))
