"""The bench of ``tb_decoder`` catches every decoder of ``decoder_mutants``, and passes the one that is not broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_runner import BenchError
from decoder_mutants import MUTANTS, WIDE_MUTANTS, mutant_config, mutant_scenarios, mutant_verilog
from decoder_runs import run_scenarios
from formal_flow import Mutant

from rtl.configuration import INPUT_BITS

pytestmark = pytest.mark.rtl


@pytest.mark.parametrize("input_bits", INPUT_BITS)
def test_unbroken_decoder_passes(input_bits: int, tmp_path: Path) -> None:
    config = mutant_config(input_bits)
    scenarios = mutant_scenarios(config)
    assert run_scenarios(config, scenarios, tmp_path).keys() == {row.name for row in scenarios}


CASES = [*((row, 64) for row in MUTANTS.values()), *((row, 128) for row in WIDE_MUTANTS.values())]


@pytest.mark.parametrize(("mutant", "input_bits"), CASES, ids=[*MUTANTS, *WIDE_MUTANTS])
def test_broken_decoder_is_caught(mutant: Mutant, input_bits: int, tmp_path: Path) -> None:
    config, verilog = mutant_config(input_bits), tmp_path / "mutant.v"
    verilog.write_text(mutant_verilog(mutant, input_bits))
    with pytest.raises(
        BenchError, match=r"beat \d+ is|beats, expected|nothing for long|before it was taken|is 0x|_CYCLES"
    ):
        run_scenarios(config, mutant_scenarios(config), tmp_path, sources=[verilog])
