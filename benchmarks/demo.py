"""``python -m benchmarks.demo [FOLDER]``: a real vision transformer through the whole tool, in a few minutes.

Compress ViT-S/14 with a sign-split codebook, calibrated on photographs, compile it, simulate it while checking every
decoded weight, execute it on a picture, compare speed and answers of all formats with int8: each is a command of
``accel``, shown as you would type it. Then two weight streams are exported for
Verilog. ``FOLDER`` (build/demo) keeps everything; a failing command ends the demo with its exit code.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from accel.cli import main as accel
from benchmarks import inputs

MODEL = "zoo:vit_s14"  # trained weights, DeiT-small's shape; downloaded once
CODEC = "ssvq:k=16,d=8"
MACHINE = "edge64"
SAMPLES = 4  # photographs to calibrate on
WEIGHTS_EXPORTED = 2
DEFAULT_FOLDER = "build/demo"


def main(folder: Path) -> int:
    """Run all steps into ``folder``; returns the exit code of the last one that ran."""
    folder.mkdir(parents=True, exist_ok=True)
    packed, program = folder / "vit_s14.vq.safetensors", folder / "vit_s14.prog.safetensors"
    data = folder / "data"
    print(f"$ python -m benchmarks inputs {MODEL.removeprefix('zoo:')} --samples {SAMPLES} -o {data}", flush=True)
    parser = argparse.ArgumentParser()
    inputs.add_arguments(parser)
    inputs.main(parser.parse_args([MODEL.removeprefix("zoo:"), "--samples", str(SAMPLES), "-o", str(data)]))
    calibration = ["--calibrate", str(data / "calibrate.npz")]
    commands = (
        ["compress", MODEL, "--codec", CODEC, *calibration, "-o", str(packed)],
        ["compile", str(packed), "-m", MACHINE, "-o", str(program)],
        ["sim", str(program), "--check", "-o", str(folder / "vit_s14.run.json")],
        ["run", str(program), "--input", str(data / "inputs.npz"), "-o", str(folder / "vit_s14.outputs.npz")],
        ["compare", MODEL, "-m", MACHINE, *calibration, "--inputs", str(data / "scored.npz"), "-o", str(folder)],
    )
    for command in commands:
        if code := _step(command):
            return code
    _export(program, folder / "verilog")
    _list(folder)
    return 0


def _step(command: list[str]) -> int:
    """Run one command of ``accel``, with its exit code as the result."""
    print(f"\n$ accel {shlex.join(command)}", flush=True)
    start = time.monotonic()
    code = accel(command)
    print(f"({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)
    return code


def _export(program: Path, folder: Path) -> None:
    """The first weight streams as ``$readmemh`` files, with what a decoder in Verilog must make of them."""
    from accel.program import read_program
    from rtl.export import export_streams

    compiled = read_program(program)
    weights = [stream.weight for stream in compiled.streams if stream.codec == CODEC][:WEIGHTS_EXPORTED]
    print(f"\nexporting the streams of {', '.join(weights)} for Verilog testbenches", flush=True)
    export_streams(compiled, folder, weights)


def _list(folder: Path) -> None:
    print(f"\nleft in {folder}:")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        print(f"{path.stat().st_size:>12,} bytes  {path.relative_to(folder)}")


if __name__ == "__main__":
    sys.exit(main(Path(*sys.argv[1:2] or [DEFAULT_FOLDER])))
