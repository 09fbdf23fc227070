"""``python -m benchmarks NAME``: run one benchmark; exit 0 if it meets its requirement, 1 if not, 2 on a wrong name."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from accel.errors import AccelError

# name: module with ``main() -> bool`` (whether its requirement is met), what it measures. A module that has
# ``add_arguments(parser)`` gets what was parsed: ``main(arguments)``.
BENCHMARKS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "banks": ("benchmarks.banks", "what the start bank of a stream is worth, for two streams and for networks"),
        "commands": ("benchmarks.commands", "whole commands: start-up, a cold simulation, compressing a real ViT"),
        "packing": ("benchmarks.packing", "bit packing and unpacking of weight streams, MB/s of weights on one core"),
        "chain": ("benchmarks.chain", "every built-in network on four machines: compile, prove, simulate"),
        "dram": ("benchmarks.dram", "DRAM requests per CPU-second: sequential, random and mixed traces"),
        "conflicts": ("benchmarks.conflicts", "codebook banks on real index streams against balls in bins"),
        "kmeans": (
            "benchmarks.kmeans",
            "our k-means against scikit-learn's: ratios of time and error",
        ),
        "memory": (
            "benchmarks.memory",
            "memory that compressing a model larger than it takes, against its largest layer",
        ),
        "roofline": ("benchmarks.roofline", "DeiT-tiny: simulated cycles against the closed form, 50 points"),
        "sweep": ("benchmarks.sweep", "points of DeiT-tiny that accel sweep simulates a second"),
        "claim": ("benchmarks.claim", "3x over int8 on DeiT-tiny: where it holds; writes docs/claim.md"),
        "simulate": ("benchmarks.simulate", "the timing kernel on a DeiT-tiny-like program, and its first compilation"),
        "scale": ("benchmarks.scale", "decode steps of up to 1 B weights: time and memory against bytes moved"),
    }
)
# The same, but downloaded or trained on first use: slow, and not about our own speed alone.
COMPARISONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "peers": ("benchmarks.peers", "Vela, SCALE-Sim, ZigZag, Core ML Tools beside ours; writes docs/peers.md"),
        "simulators": ("benchmarks.simulators", "SCALE-Sim and ZigZag on the same networks: CPU time and memory"),
        "fpga": ("benchmarks.fpga", "decoders on an ECP5: cells and clock of three seeds, two speed grades"),
        "fashion": ("benchmarks.fashion", "accuracy of a vision transformer on Fashion-MNIST; trains it on first use"),
        "quality": ("benchmarks.quality", "answers of trained networks in every format, executed, and their latency"),
        "post_training": (
            "benchmarks.post_training",
            "codecs on trained models, layer by layer; budgets; writes docs/post_training.md",
        ),
        "accuracy": ("benchmarks.accuracy", "trained compression at equal total bits: all methods, several seeds"),
        "inputs": (
            "benchmarks.inputs",
            "real samples for a zoo model, in the form accel compress and run read",
        ),
    }
)


def main(arguments: list[str]) -> int:
    """Run the benchmark named in ``arguments``."""
    known = {**BENCHMARKS, **COMPARISONS}
    if not arguments or arguments[0] not in known:
        print("usage: python -m benchmarks NAME", file=sys.stderr)
        width = max(map(len, known)) + 2
        for name, (_, doc) in known.items():
            print(f"  {name:<{width}}{doc}", file=sys.stderr)
        return 2
    name, (module_name, doc) = arguments[0], known[arguments[0]]
    try:
        return _run(importlib.import_module(module_name), name, doc, arguments[1:])
    except (AccelError, ModuleNotFoundError) as error:
        hint = "; pip install '.[torch,quality,bench]' has all there is" if isinstance(error, ImportError) else ""
        print(f"benchmarks {name}: {error}{hint}", file=sys.stderr)
        return 2


def _run(module: Any, name: str, doc: str, arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(f"python -m benchmarks {name}", description=doc)
    takes_options = hasattr(module, "add_arguments")
    if takes_options:
        module.add_arguments(parser)
    options = parser.parse_args(arguments)
    return 0 if (module.main(options) if takes_options else module.main()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
