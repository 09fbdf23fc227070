"""Points of a sweep share a compilation where programs do not depend on what differs."""

from __future__ import annotations

import pytest
from strategies import Coding, pack_randomly
from tiny_models import attention, cnn

pytest.importorskip("pyarrow")

from accel.machine import KEYS, load_machine
from compiler import compile_model
from compiler.dependence import compiled_part


@pytest.mark.parametrize("graph", [attention, cnn])
def test_programs_depend_on_nothing_but_the_compiled_part(graph) -> None:
    """Every other key of the machine may change, and the program stays the same to the bit."""
    base = load_machine("edge64", ["array.rows=8", "array.columns=8", "sram.activation_bytes=4096"])
    packed = pack_randomly(graph(), Coding("vq:k=4,d=4", "out", False))
    program = compile_model(packed, base)
    others = {
        "clock.hz": "2e9", "decoder.codebook_banks": "4", "decoder.input_bits": "256", "decoder.fifo_words": "99",
        "vector.lanes": "3", "dram.latency_cycles": "7", "dram.load_engines": "2", "dram_timing.cl": "50",
        "dram_timing.trcd_read": "50",
    }  # fmt: skip
    for key, value in others.items():
        machine = load_machine("edge64", [f"{k}={v}" for k, v in (*_settings(base), (key, value))])
        assert compiled_part(machine) == compiled_part(base), key
        again = compile_model(packed, machine)
        assert bytes(again.words) == bytes(program.words) and bytes(again.image) == bytes(program.image), key
    changed = ("array", "sram", "decoder.codebook_bytes", "decoder.codebook_buffers", "decoder.lookups_per_cycle")
    dram = ("dram.standard", "dram.data_width_bits", "dram.channels", "dram.mapping", "dram.bandwidth_bytes_per_cycle")
    left = [key for key in KEYS if not key.startswith((*changed, *dram, "dram_timing")) and key not in others]
    assert not left, f"say of {left} whether programs depend on them"


def _settings(machine: object) -> list[tuple[str, object]]:
    return [(key, value) for key, value in machine.flat().items() if key.partition(".")[0] in ("array", "sram")]


@pytest.mark.parametrize(
    "setting", ["array.dataflow=os", "sram.weight_bytes=32768", "decoder.lookups_per_cycle=2", "dram.channels=2"]
)
def test_what_programs_depend_on_tells_machines_apart(setting: str) -> None:
    assert compiled_part(load_machine("edge64", [setting])) != compiled_part(load_machine("edge64"))
