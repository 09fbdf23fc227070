"""The energy table and its replacements; accesses counted by hand; DRAM energy in proportion to bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from strategies import Coding, pack_randomly
from weight_cases import random_layer, weight_program

import accel.dram
import accel.machine
from accel.cli import main
from accel.energy import COMPONENTS, DEFAULT_ENERGY, ENERGY_ROWS, EnergyTable, load_energy
from accel.errors import ConfigError
from accel.isa import Instruction, encode_program
from accel.machine import IDEAL, load_machine
from accel.program import write_program
from compiler import compile_model
from compiler.frontend import load_model
from sim import simulate
from sim.decode import decode_words
from sim.energy import access_costs, count_accesses, energy_joules

PICO = 1e-12


def program():
    import numpy as np

    rng = np.random.default_rng(3)
    return weight_program([random_layer("ssvq:k=16,d=8", (64, 48), "out", rng)])


@pytest.mark.parametrize("standard", [IDEAL, *accel.machine.DRAM_STANDARDS, *accel.dram.DRAM_STANDARDS])
def test_every_dram_standard_has_a_row(standard: str) -> None:
    assert 1e-12 < DEFAULT_ENERGY.dram_joules(standard) < 50e-12
    assert ENERGY_ROWS[f"dram.{standard}"].unit == "bit"


def test_every_row_has_a_source_and_every_access_a_component() -> None:
    assert all(row.source and row.picojoules > 0 and row.name == name for name, row in ENERGY_ROWS.items())
    machine = load_machine("edge64")
    costs = access_costs(machine, DEFAULT_ENERGY)
    assert {cost.component for cost in costs.values()} == set(COMPONENTS)
    assert set(costs) == set(count_accesses(decode_words(program().words), 0, machine))


def test_memories_between_and_beyond_the_rows() -> None:
    joules = DEFAULT_ENERGY.sram_joules
    sizes = [1, 64, 128, 2048, 8192, 10000, 32768, 1 << 17, 1 << 20, 1 << 24]
    assert [joules(size) for size in sizes] == sorted(joules(size) for size in sizes)
    for name, size in (("sram.8KiB", 8 << 10), ("sram.32KiB", 32 << 10), ("sram.1MiB", 1 << 20)):
        assert joules(size) == pytest.approx(ENERGY_ROWS[name].picojoules * PICO)
    assert joules(16 << 10) == pytest.approx((joules(8 << 10) * joules(32 << 10)) ** 0.5)
    assert joules(128) == pytest.approx(joules(8 << 10) / 8)  # the square root of the size
    assert joules(1 << 22) > joules(1 << 20)
    assert joules(128) / PICO == pytest.approx(0.0214, rel=0.1)  # pJ/bit of CACTI at 45 nm, 128 B


def test_a_gemm_by_hand() -> None:
    output = Instruction("GMO", {"reduction": 20, "tile_rows": 16, "tile_columns": 16})
    decoded = decode_words(encode_program([output, Instruction("GMS", {"rows": 10, "columns": 24, "chunk": 5})]))
    machine = load_machine("edge64-ideal", ["array.rows=16", "array.columns=16", "sram.activation_bytes=131072"])
    accesses = count_accesses(decoded, 640, machine)
    assert accesses["macs"] == 10 * 20 * 24
    assert accesses["activation_read"] == 10 * 20 * 2 + 20 * 24 * 2  # two strips; two chunks load b twice
    assert accesses["activation_written"] == 10 * 24
    assert accesses["accumulator_read"] == accesses["accumulator_written"] == 10 * 24 * 2 * 4
    joules = energy_joules(decoded, 640, machine)
    assert joules["dram"] == pytest.approx(640 * 8 * 12.23 * PICO)
    assert joules["array"] == pytest.approx(10 * 20 * 24 * 0.3 * PICO)
    moved = accesses["activation_read"] + accesses["activation_written"]
    assert joules["sram_activation"] == pytest.approx(moved * 8 * 10 / 64 * PICO)  # 16 banks of 8 KiB


def test_look_ups_by_hand() -> None:
    decoded = decode_words(program().words)
    for settings, copies, bank in (([], 4, 8192), (["decoder.codebook_banks=8"], 1, 1024)):
        machine = load_machine("edge64", settings)
        accesses = count_accesses(decoded, 0, machine)
        assert accesses["codebook_read"] == accesses["signs_applied"] == 64 * 48
        assert accesses["codebook_written"] == 16 * 8 * copies
        bits = 8 * (accesses["codebook_read"] + accesses["codebook_written"])
        expected = bits * DEFAULT_ENERGY.sram_joules(bank) + 64 * 48 * 0.03 * PICO
        assert energy_joules(decoded, 0, machine)["decoder"] == pytest.approx(expected)


def test_masks_and_folds_by_hand() -> None:
    import numpy as np

    rng = np.random.default_rng(3)
    layers = [random_layer(name, (64, 48), "out", rng) for name in ("mvq:k=16,d=8,nm=2:4", "lr2vq:k=16,m=8,r=3")]
    machine = load_machine("edge64")
    accesses = count_accesses(decode_words(weight_program(layers).words), 0, machine)
    assert (accesses["masks_applied"], accesses["signs_applied"]) == (64 * 48, 0)
    assert accesses["fold_macs"] == 16 * 3 * 8
    assert accesses["codebook_written"] == 2 * 16 * 8 * machine.decoder.lookups_per_cycle
    assert accesses["weight_read"] == 64 * 48 // 8 * (4 + 6) // 8 + 64 * 48 // 8 * 4 // 8


def test_stages_by_hand() -> None:
    """Three codewords of 8 weights a vector: three look-ups, two additions a weight."""
    import numpy as np

    layer = random_layer("rvq:k=16,d=8,stages=3", (64, 48), "out", np.random.default_rng(3))
    machine = load_machine("edge64")
    accesses = count_accesses(decode_words(weight_program([layer]).words), 0, machine)
    assert (accesses["codebook_read"], accesses["codewords_added"]) == (3 * 64 * 48, 2 * 64 * 48)
    assert (accesses["masks_applied"], accesses["signs_applied"]) == (0, 0)
    assert accesses["codebook_written"] == 3 * 16 * 8 * machine.decoder.lookups_per_cycle
    assert accesses["weight_read"] == 64 * 48 // 8 * 3 * 4 // 8


def test_dram_energy_of_a_network_is_in_proportion_to_its_bytes() -> None:
    graph, machine = load_model("deit_tiny").graph, load_machine("edge64")
    runs = [
        simulate(compile_model(pack_randomly(graph, Coding(codec, "out", False)), machine))
        for codec in ("int8", "ssvq:k=16,d=8")
    ]
    per_byte = [run.energy_joules["dram"] / run.dram_bytes_total for run in runs]
    assert per_byte[0] == pytest.approx(per_byte[1], rel=1e-12)
    assert per_byte[0] == pytest.approx(8 * DEFAULT_ENERGY.dram_joules(machine.dram.standard))
    assert runs[0].energy_joules["decoder"] == 0 < runs[1].energy_joules["decoder"]


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_file_replaces_rows_and_the_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "dram.LPDDR4-3200 = { pj_per_bit = 16, source = 'a board' }\nadd.int32 = { pj_per_operation = 0.1 }"
    path, net = write(tmp_path / "mine.toml", f"[energy]\n{rows}"), tmp_path / "net.prog.safetensors"
    write_program(program(), net)
    assert main(["sim", str(net), "--energy", path, "--json"]) == 0
    changed = json.loads(capsys.readouterr().out)
    assert main(["sim", str(net), "--json"]) == 0
    default = json.loads(capsys.readouterr().out)
    assert changed["energy_joules"]["dram"] == pytest.approx(2 * default["energy_joules"]["dram"])
    assert changed["energy_joules"]["array"] == default["energy_joules"]["array"]
    assert changed["energy_table"]["changed_picojoules"] == {"dram.LPDDR4-3200": 16}  # the other row is what it was
    assert changed["energy_table"]["source"] == path and f"energy: dram.LPDDR4-3200 from '{path}'" in changed["notes"]
    assert default["energy_table"]["source"] == "default" and not default["energy_table"]["changed_picojoules"]
    assert changed["energy_table"]["sha256"] != default["energy_table"]["sha256"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[energy]\ndram.LPDDR4-320 = { pj_per_bit = 1 }",
            r"no row 'dram.LPDDR4-320'; allowed: .*; did you mean 'dram.LPDDR4-3200'",
        ),
        ("[energy]\nsram.8KiB = { pj_per_bit = -1 }", r"sram.8KiB = -1.0 pJ; allowed: finite numbers from 0 on"),
        ("[energy]\nsram.8KiB = { pj_per_bit = nan }", r"sram.8KiB = nan pJ; allowed: finite"),
        ("[energy]\nsram.8KiB = { pj_per_bit = inf }", r"sram.8KiB = inf pJ; allowed: finite"),
        ("[energy]\nadd.int8 = { pj_per_bit = 1 }", r"add.int8 = {'pj_per_bit': 1}; allowed: pj_per_operation and"),
        ("[energy]\nadd.int8 = { pj_per_operation = 1, joules = 2 }", r"allowed: pj_per_operation and"),
        ("[energy]\nadd.int8 = { pj_per_operation = '1' }", r"pj_per_operation = '1'; allowed: a number"),
        ("[energy]\nadd.int8 = { pj_per_operation = true }", r"pj_per_operation = True; allowed: a number"),
        ("[energy]\nadd.int8 = 3", r"add.int8 = 3; allowed: pj_per_operation"),
        ("[energy]\nadd = 3", r"add = 3; allowed: rows like"),
        ("[power]\nadd.int8 = 3", r"tables power; allowed: \[energy\]"),
        ("energy = 1", r"tables energy; allowed: \[energy\]"),
        ("", r"tables none; allowed: \[energy\]"),
        ("[energy", r"energy file '.*bad.toml': "),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_energy(write(tmp_path / "bad.toml", text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.toml")
    assert main(["compare", "deit_tiny", "-o", str(tmp_path / "out"), "--energy", missing]) == 2
    assert capsys.readouterr().err == f"accel: energy file '{missing}': No such file or directory\n"
    assert not (tmp_path / "out").exists()


def test_free_memory_is_allowed() -> None:
    free = EnergyTable(dict.fromkeys(ENERGY_ROWS, 0.0))
    assert free.sram_joules(100) == free.sram_joules(1 << 22) == 0
    assert simulate(program(), energy=free).energy_total == 0
