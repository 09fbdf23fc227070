"""What happens to a decoder on the bench ``tb_decoder``: layers, stalls, resets, faults, and what must come of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from decoder_bench import random_layers

from rtl.configuration import DecoderConfig
from rtl.layer import LayerPlan, strip_plan
from rtl.registers import COUNTERS, layer_values, register_map
from rtl.vectors import LayerVectors, OutputBeat, random_layer

Stall = tuple[float, float]  # share of the time, cycles on end
FREE: Stall = (0.0, 1.0)
ANY = (0, 1 << 32)


@dataclass(frozen=True)
class Stalls:
    """Of each port."""

    stream: Stall = FREE
    codebook: Stall = FREE
    output: Stall = FREE
    bus: Stall = FREE


@dataclass(frozen=True)
class Scenario:
    """Layers that go through a decoder while ports stall; ``resets``: cycles after which all begins anew.

    ``packets``, ``books``: in place of those of the layers. ``unknown``: numbers of output beats whose weights an error
    leaves open. ``starved``: least and most of STARVED_CYCLES. ``seamless``: a layer is always queued.
    """

    name: str
    layers: Sequence[LayerVectors]
    stalls: Stalls = Stalls()
    resets: Sequence[int] = ()
    packets: Sequence[bytes] | None = None
    books: Sequence[bytes] | None = None
    events: Sequence[str] = ()
    unknown: range = range(0)
    starved: tuple[int, int] = ANY
    seamless: bool = False

    @property
    def output(self) -> list[OutputBeat]:
        """All beats that must come."""
        return [beat for layer in self.layers for beat in layer.output]


def written(config: DecoderConfig, scenario: Scenario) -> dict[str, Any]:
    """As the bench reads it."""
    registers = register_map(config)
    status = registers["STATUS"]
    packets = [p for layer in scenario.layers for p in layer.packets] if scenario.packets is None else scenario.packets
    books = [layer.codebook for layer in scenario.layers] if scenario.books is None else scenario.books
    return {
        "name": scenario.name,
        "writes": [_writes(config, layer.plan) for layer in scenario.layers],
        "packets": [packet.hex() for packet in packets],
        "books": [book.hex() for book in books if book],
        "output": [
            (beat.weights.hex(), beat.last, number not in scenario.unknown)
            for number, beat in enumerate(scenario.output)
        ],
        "stalls": dataclasses.asdict(scenario.stalls),
        "resets": list(scenario.resets),
        "registers": [(name, registers[name].offset, value) for name, value in _final(config, scenario).items()],
        "room": (status.offset, status.pack(room=1)),
        "counters": [registers[name].offset for name in list(COUNTERS)[:3]],
        "starved": scenario.starved,
        "seamless": scenario.seamless,
    }


def _writes(config: DecoderConfig, plan: LayerPlan) -> list[tuple[int, int]]:
    registers = register_map(config)
    return [(registers[name].offset, value) for name, value in {**layer_values(plan), "START": 1}.items()]


def _final(config: DecoderConfig, scenario: Scenario) -> dict[str, int]:
    """Registers when all is done."""
    registers = register_map(config)
    return {
        "EVENTS": registers["EVENTS"].pack(**dict.fromkeys(("layer_done", *scenario.events), 1)),
        "LAYERS_DONE": len(scenario.layers),
        "TILES_OUT": sum(beat.last for beat in scenario.output),
        "STATUS": registers["STATUS"].pack(room=1),
    }


def write_scenarios(path: Path, config: DecoderConfig, scenarios: Sequence[Scenario]) -> None:
    path.write_text(json.dumps([written(config, scenario) for scenario in scenarios]))


SLOW = Stalls((0.4, 1), (0.3, 1), (0.3, 1), (0.3, 1))
BURSTS = Stalls((0.5, 12), (0.3, 8), (0.5, 24), (0.2, 4))


def streams(config: DecoderConfig, seed: int) -> Iterator[Scenario]:
    """Random layers, with nothing, single cycles, or long times in between; either end alone; resets amid it."""
    rows = {
        "free": Stalls(),
        "slow": SLOW,
        "bursts": BURSTS,
        "output_slow": Stalls(output=(0.7, 3)),
        "stream_slow": Stalls(stream=(0.7, 3)),
        "codebook_slow": Stalls(codebook=(0.8, 20)),
    }
    for number, (name, stalled) in enumerate(rows.items()):
        yield Scenario(name, random_layers(config, seed + number, 5), stalled)
    yield Scenario("resets", random_layers(config, seed + 10, 4), SLOW, (140, 333, 501, 3, 25))


def switches(config: DecoderConfig, seed: int) -> Iterator[Scenario]:
    """Many short layers of changing width, the next one always queued: nothing of one may reach the other."""
    rng = np.random.default_rng(seed)
    widths = [width for width in config.formats if width <= 8]
    chosen = [int(width) for width in rng.permutation(widths * max(2, 10 // len(widths)))]
    layers = [random_layer(config, _brief(config, width, rng), rng) for width in chosen]
    for name, stalled in (("switches", Stalls()), ("switches_stalled", Stalls((0.2, 2), (0.2, 2), (0.4, 6), FREE))):
        yield Scenario(name, layers, stalled)


def _brief(config: DecoderConfig, width: int, rng: np.random.Generator) -> LayerPlan:
    sizes = rng.integers(1, 2 * config.lookups + 2, 2).tolist()
    full, edge = (strip_plan(config, width, 1, size, size) for size in sizes)
    return LayerPlan(width, 2, full, edge)


def faults(config: DecoderConfig, seed: int) -> Iterator[Scenario]:
    """Errors of the stream: each is told, and what is behind it is decoded as if nothing had been."""
    for name, beats, event in (
        ("early", -1, "packet_early"),
        ("much_early", -5, "packet_early"),
        ("late", 3, "packet_late"),
    ):
        yield _wrong_length(config, seed, name, beats, event)
    yield _unknown_width(config, seed)


def _wrong_length(config: DecoderConfig, seed: int, name: str, beats: int, event: str) -> Scenario:
    rng, size = np.random.default_rng(seed), config.input_bits // 8
    strip = strip_plan(config, max(config.formats), 2, 20 * config.lookups, 9)
    layers = [random_layer(config, LayerPlan(max(config.formats), 3, strip, strip), rng) for _ in range(2)]
    packets = list(layers[0].packets)
    packets[1] = packets[1][: size * beats] if beats < 0 else packets[1] + bytes(size * beats)
    third = len(layers[0].output) // 3
    lost = range(third, 2 * third) if beats < 0 else range(0)
    sent = [*packets, *layers[1].packets]
    return Scenario(name, layers, SLOW, packets=sent, events=[event], unknown=lost)


def _unknown_width(config: DecoderConfig, seed: int) -> Scenario:
    """Its codebook and its packets are taken, nothing comes out."""
    good, bad = random_layers(config, seed, 3), random_layers(config, seed + 1, 1)[0]
    plan = dataclasses.replace(bad.plan, code_bits=max(config.formats) + 1)
    layers = [good[0], LayerVectors(plan, bad.codebook, bad.packets, ()), *good[1:]]
    return Scenario("unknown_width", layers, SLOW, events=["width"])


def book_faults(config: DecoderConfig, seed: int) -> Iterator[Scenario]:
    """Broken codebooks are told, and the next one is right. One of the most codewords, so that one more is too many."""
    rng, width = np.random.default_rng(seed), max(config.formats)
    strip = strip_plan(config, width, 1, 9, 9)
    first, second = (random_layer(config, LayerPlan(width, 1, strip, strip), rng) for _ in range(2))
    whole, size = first.codebook, config.vector_length
    rows = {
        "book_overflow": (whole + bytes(size), "codebook_overflow", False),
        "book_partial": (whole[:-1], "codebook_partial", True),
        "minus_128_first": (b"\x80" + whole[1:], "codeword_range", True),
        "minus_128_last": (whole[:-1] + b"\x80", "codeword_range", True),
        "minus_128_within": (whole[: size + 1] + b"\x80" + whole[size + 2 :], "codeword_range", True),
    }
    for name, (book, event, opens) in rows.items():
        unknown = range(len(first.output)) if opens else range(0)
        yield Scenario(name, [first, second], SLOW, books=[book, second.codebook], events=[event], unknown=unknown)


def starving(config: DecoderConfig, seed: int) -> Iterator[Scenario]:
    """A stream that comes slowly to an output that is always taken: most cycles are starved ones, none are blocked."""
    width = max(config.formats)
    strip = strip_plan(config, width, 1, 40 * config.lookups, 40 * config.lookups)
    layer = random_layer(config, LayerPlan(width, 2, strip, strip), np.random.default_rng(seed))
    yield Scenario("starving", [layer], Stalls(stream=(0.9, 1)), starved=(100, 1 << 32), seamless=True)


Maker = Callable[[DecoderConfig, int], Iterator[Scenario]]
MAKERS: Mapping[str, Maker] = {maker.__name__: maker for maker in (streams, switches, faults, book_faults, starving)}
