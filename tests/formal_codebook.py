"""Properties of the codebook's two banks.

The reference knows layers only: each takes the oldest codebook that is there, looks up in it, and gives it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value
from formal_flow import Bench, implies, opened
from formal_splitter import small

from rtl.codebook import BANKS, READ_CYCLES, Codebooks


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers that have begun and not ended, ``oldest`` the bank of the first of them; codebooks loaded, not begun."""

    using: Signal
    loaded: Signal
    oldest: Signal

    def uses(self, bank: Value) -> Value:
        return (self.using == BANKS) | ((self.using == 1) & (self.oldest == bank))


def layers(bench: Bench, unit: Codebooks, done: Value) -> Layers:
    """They begin when a codebook is there, and end in order; ``done``: a codebook counts from the next cycle on."""
    at = Layers(Signal(3), Signal(3), Signal())
    bench.claim(unit.loaded == (at.loaded != 0))
    # It may be late to tell that the last one ended, not that one began.
    bench.claim(implies(unit.idle, at.using == 0))
    bench.claim(implies(bench.begun & bench.before((at.using == 0) & ~unit.begin), unit.idle))
    bench.claim(at.using + at.loaded + done <= BANKS)
    bench.m.d.sync += [
        at.using.eq(at.using + unit.begin - unit.release),
        at.loaded.eq(at.loaded + done - unit.begin),
        at.oldest.eq(at.oldest ^ unit.release),
    ]
    return at


def in_use(bench: Bench, at: Layers, cycles: int) -> Array:
    """Of each bank, whether a layer uses it or did so until ``cycles`` ago."""
    used = [[at.uses(Const(bank, 1)) for bank in range(BANKS)]]
    for _ in range(cycles):
        used.append([bench.before(value) for value in used[-1]])
    return Array(Cat(values).any() for values in zip(*used, strict=True))


def codebooks(bench: Bench, codec: str, late: int) -> None:
    """No bank is written while it is in use, and what is looked up is what was loaded for that layer.

    ``late``: cycles after a bank was given back in which the layer may still look up.
    """
    config = small(codec, 2)
    unit = Codebooks(config)
    inner = bench.add("books", unit)
    load = unit.load
    bench.free(load.valid, load.payload, unit.bank, unit.codes[0])
    copy, taken = inner.copy, load.valid & load.ready
    done = bench.before(taken & load.p.last)
    at = layers(bench, unit, done)
    bench.free(unit.begin, unit.release)
    bench.assume(implies(unit.begin, unit.loaded))
    bench.assume(implies(unit.release, (at.using != 0) | unit.begin))
    used = in_use(bench, at, late)
    bench.claim(implies(copy.write, ~used[copy.write_address[-1]] & (at.using + at.loaded < BANKS)))
    bench.claim(load.ready == ((at.using + at.loaded < BANKS) & ~done))
    value = recorded(bench, unit, taken)
    # Looked up by a layer that has begun: its result comes after READ_CYCLES, whatever has been loaded since.
    looks, found = used[unit.bank] & (unit.codes[0] == value.code) & value.known[unit.bank], value.data[unit.bank]
    for _ in range(READ_CYCLES):
        looks, found = bench.before(looks), bench.before(found)
    bench.claim(implies(looks, unit.codewords[0] == found))
    help_codebooks(bench, inner, at, value, done)
    bench.reach(looks & found.any() & (at.using == BANKS))
    bench.reach(unit.error_overflow & (at.using == 1))


def recorded(bench: Bench, unit: Codebooks, taken: Value) -> SimpleNamespace:
    """One codeword, any of them: what each bank has of it. ``number`` counts codewords of the codebook coming in."""
    code = bench.constant(len(unit.codes[0]), "code")
    word = unit.load.p.weights
    number, into = Signal(len(code) + 1), Signal()
    known, values = Array(Signal() for _ in range(BANKS)), Array(Signal(len(word)) for _ in range(BANKS))
    last = unit.load.p.last
    with bench.m.If(taken):
        bench.m.d.sync += [
            into.eq(into ^ last),
            number.eq(Mux(last, 0, Mux(number[-1], number, number + 1))),
        ]
        with bench.m.If(number == 0):
            bench.m.d.sync += known[into].eq(0)
        with bench.m.If(number == code):
            bench.m.d.sync += [known[into].eq(1), values[into].eq(word)]
    return SimpleNamespace(code=code, known=known, data=values, number=number, into=into)


def help_codebooks(bench: Bench, inner: SimpleNamespace, at: Layers, value: SimpleNamespace, done: Value) -> None:
    """Invariants: counts and places agree, and the memory holds what was recorded."""
    bench.helper(inner.free == BANKS - at.using - at.loaded)
    bench.helper(inner.unused == at.loaded)
    bench.helper(inner.done == done)
    bench.helper(inner.bank == value.into)
    # Banks in use, loaded and being loaded follow one another.
    bench.helper(value.into == (at.oldest + at.using + at.loaded + done)[0])
    bench.helper(inner.overflow == value.number[-1])
    bench.helper(inner.overflow | (inner.address == value.number[: len(inner.address)]))
    ram, copy, entry = opened(inner.copy).ram, inner.copy, inner.entry
    for bank in range(BANKS):
        port, address = ram.read_port(domain="comb"), Cat(value.code, Const(bank, 1))
        bench.m.d.comb += port.addr.eq(address)
        coming = copy.write & (entry.address == address)
        bench.helper(implies(value.known[bank], Mux(coming, entry.weights, port.data) == value.data[bank]))
