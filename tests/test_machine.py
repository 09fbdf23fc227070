"""Machine descriptions: presets, overrides, and refusals that name key, value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from accel.errors import ConfigError
from accel.isa import BY_MNEMONIC
from accel.machine import (
    KEYS,
    Machine,
    changes_from_preset,
    load_machine,
    machine_from_document,
    machine_to_document,
    preset_names,
)

PRESETS = ("ecp5", "edge32", "edge64", "edge64-ideal", "u65-mid")


def test_presets_are_found() -> None:
    assert preset_names() == PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_presets_load_and_round_trip(name: str) -> None:
    machine = load_machine(name)
    assert machine.name == name and machine.description
    assert machine_from_document(machine_to_document(machine), "again") == machine
    assert tuple(machine.flat()) == tuple(key for key in KEYS if not key.startswith("dram_timing."))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_be_encoded(name: str) -> None:
    """No memory or array of a preset is larger than the instruction fields that address it."""
    machine = load_machine(name)
    assert machine.sram.activation_bytes <= BY_MNEMONIC["LDA"].field("sram").limit
    assert machine.decoder.codebook_bytes < BY_MNEMONIC["LDC"].field("bytes").limit
    assert machine.array.rows < BY_MNEMONIC["DEC"].field("tile_rows").limit
    assert machine.array.columns < BY_MNEMONIC["DEC"].field("tile_columns").limit
    assert machine.accumulator_rows < BY_MNEMONIC["GEM"].field("chunk").limit


def test_largest_machine_can_be_encoded() -> None:
    """The bounds of the tables themselves stay within the fields."""
    largest = ["array.rows=1024", "array.columns=1024", f"sram.activation_bytes={1 << 24}"]
    largest += [f"decoder.codebook_bytes={1 << 20}", f"sram.accumulator_bytes={1 << 22}"]
    machine = load_machine("edge64", largest)
    assert machine.array.rows < BY_MNEMONIC["GMO"].field("tile_rows").limit
    assert machine.decoder.codebook_bytes < BY_MNEMONIC["LDC"].field("bytes").limit
    assert machine.sram.activation_bytes <= BY_MNEMONIC["VEC"].field("a").limit


def test_peak_of_lpddr4() -> None:
    machine = load_machine("edge64")
    # 3200 MT/s * 2 bytes = 6.4 GB/s peak; 80 % of it at 1 GHz
    assert machine.bandwidth_bytes_per_cycle == pytest.approx(6.4)
    assert machine.is_banked and machine.sustained_bandwidth_bytes_per_cycle == pytest.approx(6.4 * (1 - 288 / 6247))
    assert load_machine("edge64", ["dram.data_width_bits=32"]).bandwidth_bytes_per_cycle == pytest.approx(12.8)
    assert load_machine("edge64", ["dram.channels=2"]).bandwidth_bytes_per_cycle == pytest.approx(12.8)
    assert load_machine("edge64", ["clock.hz=5e8"]).bandwidth_bytes_per_cycle == pytest.approx(12.8)
    ideal = load_machine("edge64-ideal")
    assert ideal.bandwidth_bytes_per_cycle == 5.12 and not ideal.is_banked


def test_derived_figures() -> None:
    machine = load_machine("edge64")
    assert machine.accumulator_rows == 512 and machine.macs_per_cycle == 4096


def test_overrides() -> None:
    overrides = ["array.rows=0x20", "dram.bandwidth_bytes_per_cycle=2.5", "array.dataflow=os"]
    machine = load_machine("edge64-ideal", overrides)
    assert (machine.array.rows, machine.array.dataflow, machine.dram.bandwidth_bytes_per_cycle) == (32, "os", 2.5)
    assert load_machine("edge64-ideal").array.rows == 64


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("array.row=8", r"--set array.row=8; did you mean 'array.rows'\? allowed: KEY=VALUE with KEY in "),
        ("array.rows", "--set array.rows; allowed: KEY=VALUE"),
        ("array.rows=many", "--set array.rows=many; allowed: an integer"),
        ("array.rows=8.5", "--set array.rows=8.5; allowed: an integer"),
        ("clock.hz=fast", "--set clock.hz=fast; allowed: a number"),
        ("clock.hz=nan", "machine key clock.hz = nan; allowed: 1000 to 1e"),
        ("array.rows=0", "machine key array.rows = 0; allowed: 1 to 1024"),
        ("array.dataflow=rs", "array.dataflow = 'rs'; allowed: ws, os, is"),
        ("dram.standard=LPDDR4-320", "dram.standard = 'LPDDR4-320'; allowed: ideal, .*; did you mean 'LPDDR4-3200'"),
        ("array.model=stone", "array.model = 'stone'; allowed: pipelined, scalesim, stonne; did you mean 'stonne'"),
        ("array.model=stonne", "array.dataflow = 'ws'; allowed with array.model = 'stonne': os"),
        ("dram.bandwidth_bytes_per_cycle=9", "LPDDR4-3200 fixes the bandwidth; set dram.standard = ideal"),
        ("dram.data_width_bits=12", "dram.data_width_bits = 12; allowed: 32, 16 for LPDDR4-3200"),
        ("dram.mapping=x", "dram.mapping = 'x'; allowed: colLow, bgLow, MOP4CLXOR"),
        ("sram.accumulator_bytes=128", "for array.columns = 64 takes 256 bytes"),
        ("vector.lanes=-1", "vector.lanes = -1; allowed: 0 to 4096"),
    ],
)
def test_bad_overrides(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_machine("edge64", [override])


def test_ideal_dram_needs_a_bandwidth() -> None:
    with pytest.raises(ConfigError, match=r"dram.bandwidth_bytes_per_cycle = 0.0; allowed: 0.001 to 65536"):
        load_machine("edge64", ["dram.standard=ideal"])


@pytest.mark.parametrize("change", ["dram.channels=4", "dram.mapping=colLow", "dram.data_width_bits=64"])
def test_ideal_dram_has_no_banks_to_set(change: str) -> None:
    with pytest.raises(ConfigError, match=f"{change.partition('=')[0]} = .*; allowed: .* as dram.standard = ideal has"):
        load_machine("edge32", [change])


def test_burst_is_not_to_be_set() -> None:
    with pytest.raises(ConfigError, match=r"--set dram_timing.burst=4; did you mean .*\? allowed: KEY=VALUE"):
        load_machine("edge64", ["dram_timing.burst=4"])


def test_changes_from_a_preset() -> None:
    assert all(not changes_from_preset(load_machine(name)) for name in PRESETS)
    changed = {"vector.lanes": 0, "dram_timing.cl": 30}
    machine = load_machine("edge64", [f"{key}={value}" for key, value in changed.items()])
    assert changes_from_preset(machine) == changed
    assert changes_from_preset(machine_from_document({**document(), "name": "mine"}, "mine")) == {}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("edge46", "machine 'edge46'; allowed: ecp5, .* or a path.toml; did you mean 'edge"),
        ("missing.toml", "machine file 'missing.toml': no such file"),
    ],
)
def test_unknown_machines(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_machine(spec)


def document() -> dict[str, dict[str, object]]:
    return machine_to_document(load_machine("ecp5"))


def test_unknown_and_missing_keys_of_a_file() -> None:
    with pytest.raises(ConfigError, match="machine 'x': unknown key 'arrays'"):
        machine_from_document(document() | {"arrays": {}}, "x")
    wrong = document()
    wrong["array"]["row"] = 3
    with pytest.raises(ConfigError, match=r"unknown key 'array.row'; allowed: .*; did you mean 'array.rows'"):
        machine_from_document(wrong, "x")
    short = document()
    del short["array"]["rows"]
    with pytest.raises(ConfigError, match=r"table \[array\] lacks .*rows"):
        machine_from_document(short, "x")
    with pytest.raises(ConfigError, match=r"table \[dram\] is missing"):
        machine_from_document({k: v for k, v in document().items() if k != "dram"}, "x")
    typed = document()
    typed["array"]["rows"] = True
    with pytest.raises(ConfigError, match=r"array.rows = True; allowed: int"):
        machine_from_document(typed, "x")


def test_toml_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    tables = {name: keys for name, keys in document().items() if isinstance(keys, dict)}
    lines = [f"[{name}]\n" + "\n".join(f"{k} = {v!r}" for k, v in keys.items()) for name, keys in tables.items()]
    path.write_text("\n".join(lines))
    machine = load_machine(str(path))
    assert isinstance(machine, Machine) and machine.name == "mine" and machine.array.rows == 8
    path.write_text("[array\n")
    with pytest.raises(ConfigError, match=r"machine file '.*mine.toml': "):
        load_machine(str(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"machine file '.*mine.toml': "):
        load_machine(str(path))
