"""A module between registers with three pins, so that neither pins nor input delays limit how fast it is placed.

A shift register feeds every input of the module; every output goes to a register of its own, and a tree of registered
XORs of four folds these into one pin. So every path inside the module starts and ends at a register, and no path of the
harness is longer than one LUT.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rtl.verilog import TOP, Port

HARNESS = "harness"
INSTANCE = "dut"
CLOCK = "clk"
_FAN_IN = 4  # of a LUT


def harness(ports: Sequence[Port], top: str = TOP) -> str:
    """Verilog of module ``harness`` (clk, serial_in, serial_out) around an instance of ``top`` with ``ports``."""
    inputs = [port for port in ports if port.direction == "input" and port.name != CLOCK]
    outputs = [port for port in ports if port.direction == "output"]
    width = sum(port.width for port in outputs)
    connections = [*_slices(inputs, "shift"), *_slices(outputs, "results")]
    clock = [f".{CLOCK}({CLOCK})"] if any(port.name == CLOCK for port in ports) else []
    return "\n".join(
        [
            f"module {HARNESS}(input {CLOCK}, input serial_in, output serial_out);",
            f"  reg [{max(1, sum(port.width for port in inputs))}:0] shift;",
            f"  always @(posedge {CLOCK}) shift <= {{shift, serial_in}};",
            f"  wire [{width - 1}:0] results;",
            f"  {top} {INSTANCE}({', '.join([*clock, *connections])});",
            *_fold(width),
            "endmodule\n",
        ]
    )


def _slices(ports: Sequence[Port], bus: str) -> Iterator[str]:
    low = 0
    for port in ports:
        yield f".{port.name}({bus}[{low + port.width - 1}:{low}])"
        low += port.width


def _fold(width: int) -> Iterator[str]:
    """Registered stages: the results, then XORs of four, until one bit is left."""
    yield _stage(0, width, ["results"])
    stage = 0
    while width > 1:
        bits = [f"^fold{stage}[{min(low + _FAN_IN, width) - 1}:{low}]" for low in range(0, width, _FAN_IN)]
        stage, width = stage + 1, len(bits)
        yield _stage(stage, width, bits[::-1])
    yield f"  assign serial_out = fold{stage}[0];"


def _stage(stage: int, width: int, bits: Sequence[str]) -> str:
    value = f"{{{', '.join(bits)}}}"
    return f"  reg [{width - 1}:0] fold{stage};\n  always @(posedge {CLOCK}) fold{stage} <= {value};"
