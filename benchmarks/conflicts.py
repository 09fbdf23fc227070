"""What banks instead of copies cost: cycles a group of P look-ups takes on a codebook in P single-port banks.

If indices were independent and uniform, the expected factor would be that of P balls thrown into P bins. Real streams
are the indices k-means leaves, in the order the array takes them. Required: within ``TOLERANCE`` of the expectation for
codebooks of at least ``LARGE`` codewords; smaller ones are printed for comparison, as is a stream of random weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import factorial

from accel.codecs import parse_codec
from accel.machine import Machine, load_machine
from accel.program import Program
from compiler import compile_model
from compiler.compress import compress
from compiler.frontend import load_model
from sim import simulate

MODELS = ("zoo:vit_s14", "zoo:minilm", "deit_tiny")  # the last one has seeded random weights
CODECS_MEASURED = ("vq:k=256,d=4", "ssvq:k=256,d=8", "ssvq:k=16,d=8")
PORTS = (2, 4, 8, 16)
TOLERANCE, LARGE = 0.03, 256


@dataclass(frozen=True, slots=True)
class Point:
    """The factor measured on one stream, and the one of balls in bins."""

    model: str
    codec: str
    ports: int
    factor: float
    expectation: float

    @property
    def deviation(self) -> float:
        """Relative to the expectation."""
        return self.factor / self.expectation - 1


def expected_factor(balls: int, bins: int) -> Fraction:
    """The expected largest load when ``balls`` are thrown into ``bins`` at random: the sum of P(load > m) over m."""
    tails = [1 - _share_within(balls, bins, most) for most in range(balls)]
    return sum(tails, Fraction(0))


def _share_within(balls: int, bins: int, most: int) -> Fraction:
    """Probability that no bin gets more than ``most``: balls! / bins**balls times the coefficient of x**balls in
    (sum over j up to most of x**j / j!) ** bins."""
    ways = [Fraction(1)] + [Fraction(0)] * balls
    for _ in range(bins):
        ways = [
            sum((ways[n - j] / factorial(j) for j in range(min(most, n) + 1)), Fraction(0)) for n in range(balls + 1)
        ]
    return ways[balls] * factorial(balls) / Fraction(bins) ** balls


def banked(ports: int) -> Machine:
    """``edge64`` with ``ports`` look-ups a cycle on as many banks."""
    settings = (f"decoder.lookups_per_cycle={ports}", f"decoder.codebook_banks={ports}", "decoder.input_bits=512")
    return load_machine("edge64", settings)


def measure(program: Program) -> Iterator[tuple[int, float]]:
    """Ports and factor of a compiled model."""
    for ports in PORTS:
        factor = simulate(program, banked(ports)).conflict_factor
        assert factor is not None, "the model has look-ups"
        yield ports, factor


def points() -> Iterator[Point]:
    """Every model, codec and number of ports."""
    for name in MODELS:
        model = load_model(name)
        for codec in CODECS_MEASURED:
            packed = compress(model.graph, model.weights, parse_codec(codec)).packed
            for ports, factor in measure(compile_model(packed, load_machine("edge64"))):
                yield Point(name, codec, ports, factor, float(expected_factor(ports, ports)))


def main() -> bool:
    """Print the table; whether large codebooks behave like balls in bins."""
    print(f"cycles a group of P look-ups takes on P banks; required with k >= {LARGE}: within {TOLERANCE:.0%}")
    print(f"{'model':<14}{'codec':<16}{'P':>4}{'factor':>9}{'expected':>10}{'deviation':>11}")
    met = True
    for point in points():
        missed = parse_codec(point.codec).codebook_entries >= LARGE and abs(point.deviation) > TOLERANCE
        met &= not missed
        figures = f"{point.ports:>4}{point.factor:>9.3f}{point.expectation:>10.3f}{point.deviation:>+11.1%}"
        print(f"{point.model:<14}{point.codec:<16}{figures}{'  MISSED' if missed else ''}", flush=True)
    print("large codebooks behave like balls in bins" if met else "some large codebooks do not")
    return met
