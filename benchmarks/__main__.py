"""``python -m benchmarks NAME``: run one benchmark; exit 0 if it meets its requirement, 1 if not, 2 on a wrong name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import MappingProxyType

# name: module with ``main() -> bool`` (whether its requirement is met), what it measures
BENCHMARKS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "commands": ("benchmarks.commands", "whole commands: start-up, a cold simulation, compressing a real ViT"),
        "packing": ("benchmarks.packing", "bit packing and unpacking of weight streams, MB/s of weights on one core"),
        "chain": ("benchmarks.chain", "every built-in network on four machines: compile, prove, simulate"),
        "conflicts": ("benchmarks.conflicts", "codebook banks on real index streams against balls in bins"),
        "roofline": ("benchmarks.roofline", "DeiT-tiny: simulated cycles against the closed form, 50 points"),
        "simulate": ("benchmarks.simulate", "the timing kernel on a DeiT-tiny-like program, and its first compilation"),
    }
)


def main(arguments: list[str]) -> int:
    """Run the benchmark named in ``arguments``."""
    if len(arguments) != 1 or arguments[0] not in BENCHMARKS:
        print("usage: python -m benchmarks NAME", file=sys.stderr)
        for name, (_, doc) in BENCHMARKS.items():
            print(f"  {name:<12}{doc}", file=sys.stderr)
        return 2
    module = importlib.import_module(BENCHMARKS[arguments[0]][0])
    return 0 if module.main() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
