"""Scenarios on the Verilog of a decoder, or on what became of it, in a simulator."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench_runner import run_bench
from decoder_scenarios import Scenario, write_scenarios

from rtl.configuration import DecoderConfig
from rtl.decoder import Decoder
from rtl.verilog import TOP, to_verilog

BENCH = "tb_decoder"


def run_scenarios(
    config: DecoderConfig,
    scenarios: Sequence[Scenario],
    folder: Path,
    simulator: str = "icarus",
    sources: Sequence[Path] | None = None,
) -> Mapping[str, list[int]]:
    """Run them on a decoder of ``config`` (``sources``: on other Verilog of it); returns by name how the ports stalled
    before each beat. Raises ``BenchError`` if anything is not as it must be."""
    verilog, told, seen = (folder / name for name in ("decoder.v", "scenarios.json", "seen.json"))
    if sources is None:
        verilog.write_text(to_verilog(Decoder(config)))
    write_scenarios(told, config, scenarios)
    environment = {"DECODER_SCENARIOS": str(told), "DECODER_SEEN": str(seen), "COCOTB_LOG_LEVEL": "WARNING"}
    seen.unlink(missing_ok=True)
    run_bench(sources or [verilog], TOP, BENCH, folder, simulator=simulator, environment=environment)
    return json.loads(seen.read_text())


def weights_of(folder: Path, name: str) -> bytes:
    """All that came out in a scenario of ``run_scenarios``."""
    return (folder / f"{name}.weights").read_bytes()
