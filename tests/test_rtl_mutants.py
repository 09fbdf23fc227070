"""The bench of ``tb_decoder`` catches every decoder of ``decoder_mutants``, and passes the one that is not broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_runner import BenchError
from decoder_mutants import MUTANTS, mutant_config, mutant_scenarios, mutant_verilog
from decoder_runs import run_scenarios

pytestmark = pytest.mark.rtl


def test_unbroken_decoder_passes(tmp_path: Path) -> None:
    config = mutant_config()
    scenarios = mutant_scenarios(config)
    assert run_scenarios(config, scenarios, tmp_path).keys() == {row.name for row in scenarios}


@pytest.mark.parametrize("name", MUTANTS)
def test_broken_decoder_is_caught(name: str, tmp_path: Path) -> None:
    config, verilog = mutant_config(), tmp_path / "mutant.v"
    verilog.write_text(mutant_verilog(MUTANTS[name]))
    with pytest.raises(
        BenchError, match=r"beat \d+ is|beats, expected|nothing for long|before it was taken|is 0x|_CYCLES"
    ):
        run_scenarios(config, mutant_scenarios(config), tmp_path, sources=[verilog])
