"""simulate: the run it reports, the machine it insists on, columns, the kernel cache."""

import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from program_cases import random_case
from weight_cases import random_layer, weight_program

from accel import cache
from accel.energy import COMPONENTS
from accel.errors import IsaError, SimError
from accel.isa import INSTRUCTIONS, Instruction, encode_program
from accel.machine import Array, load_machine
from accel.metrics import CAUSES, TRAFFIC
from sim import jit, simulate
from sim.decode import decode_words
from sim.energy import count_accesses


def on(dataflow):
    return replace(load_machine("edge64"), array=Array(16, 16, dataflow))


def program(**changes):
    rng = np.random.default_rng(3)
    layers = [random_layer("ssvq:k=16,d=8", (64, 48), "out", rng), random_layer("int8", (32, 64), "out", rng)]
    return weight_program(layers, **changes)


def test_run_holds_every_layer_and_sums_up():
    run = simulate(program())
    assert [layer.name for layer in run.layers] == ["layer0", "layer1"]
    assert sum(run.cycles_by_cause.values()) == run.total_cycles > 0
    assert list(run.cycles_by_cause) == list(CAUSES) and list(run.dram_bytes) == list(TRAFFIC)
    assert run.dram_bytes["codebooks"] == 16 * 8 and run.dram_bytes["weights"] == 32 * 64
    strips = 4 * 192  # 96 vectors each: six records of 24 bytes, padded to blocks
    assert run.dram_bytes["signs"] == strips * 8 // 12 and run.dram_bytes["indices"] == strips * 4 // 12
    assert set(run.energy_joules) == set(COMPONENTS) and run.energy_total > 0
    for layer in run.layers:
        assert layer.cycles_by_cause[layer.bound] == max(layer.cycles_by_cause.values())


def test_simulation_is_deterministic():
    assert simulate(program()) == simulate(program())


def test_notes_name_the_banks():
    banked = simulate(program())
    assert banked.notes == ("a note", "DRAM: LPDDR4-3200 x16, bgLow, timed bank by bank; peak 6.4 B/cycle")
    assert simulate(program(machine=load_machine("edge64-ideal"))).notes == ("a note",)
    changed = simulate(program(), load_machine("edge64", ["dram.load_engines=2", "dram_timing.cl=30"]))
    assert changed.notes[1] == "machine: edge64 changed: dram.load_engines = 2, dram_timing.cl = 30"


def test_free_keys_may_change_and_change_the_time():
    slow = load_machine("edge64-ideal", ["dram.bandwidth_bytes_per_cycle=0.5"])
    assert simulate(program(), slow).total_cycles > simulate(program()).total_cycles


@pytest.mark.parametrize(
    "override",
    [
        "array.rows=32",
        "array.dataflow=os",
        "array.model=scalesim",
        "sram.weight_bytes=1024",
        "decoder.codebook_bytes=64",
        "decoder.codebook_buffers=1",
        "sram.activation_bytes=2048",
    ],
)
def test_keys_the_compiler_used_must_not_change(override):
    with pytest.raises(SimError, match=f"machine key {override.split('=')[0]} = .*recompile"):
        simulate(program(), load_machine("edge64", [override]))


def test_energy_of_a_gemm_by_hand():
    output = Instruction("GMO", {"reduction": 20, "tile_rows": 16, "tile_columns": 16})
    words = encode_program([output, Instruction("GMS", {"rows": 10, "columns": 24, "chunk": 5})])
    accesses = count_accesses(decode_words(words), 640, on("ws"))
    assert accesses["macs"] == 10 * 20 * 24
    assert accesses["activation_read"] == 10 * 20 * 2 + 20 * 24 * 2  # two strips; two chunks load b twice
    assert accesses["activation_written"] == 10 * 24
    assert accesses["accumulator_read"] == accesses["accumulator_written"] == 10 * 24 * 2 * 4
    inputs_stay = count_accesses(decode_words(words), 640, on("is"))
    assert inputs_stay == accesses  # what stays and what streams change places
    outputs_stay = count_accesses(decode_words(words), 640, on("os"))
    assert outputs_stay == accesses | {"accumulator_read": 0, "accumulator_written": 0}


def test_columns_equal_the_decoder_of_the_table():
    case = random_case(random.Random(5))
    decoded = decode_words(encode_program(case.program))
    for row in INSTRUCTIONS:
        found = decoded[row.mnemonic]
        for place, index in enumerate(found.index.tolist()):
            instruction = case.program[index]
            assert {f.name: instruction[f.name] for f in row.fields} == {
                n: int(v[place]) for n, v in found.fields.items()
            }
    assert sum(len(decoded[row.mnemonic].index) for row in INSTRUCTIONS) == len(case.program)


def test_all_bits_of_every_field_arrive():
    for row in INSTRUCTIONS:
        full = {f.name: (len(f.choices) or f.limit) - 1 for f in row.fields}
        found = decode_words(encode_program([Instruction(row.mnemonic, full)]))[row.mnemonic]
        assert {name: int(values[0]) for name, values in found.fields.items()} == full


def test_importing_the_simulator_does_not_load_numba():
    check = "import sim, sys; raise SystemExit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_cache_folder_follows_the_sources(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCEL_CACHE", str(tmp_path))
    jit.cache_folder.cache_clear()
    first = jit.cache_folder()
    assert first == tmp_path / "numba" / cache.source_digest(("accel", "sim"))
    (tmp_path / "sim").mkdir()
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "accel" / "cache.py"))
    (tmp_path / "sim" / "a.py").write_text("A = 1")
    before = cache.source_digest(("accel", "sim"))
    (tmp_path / "sim" / "a.py").write_text("A = 2")
    assert cache.source_digest(("accel", "sim")) != before
    jit.cache_folder.cache_clear()


def test_a_machine_equal_in_what_matters_is_accepted():
    machine = replace(load_machine("edge64"), name="other", description="")
    assert simulate(program(), machine).total_cycles == simulate(program()).total_cycles


def test_a_program_too_large_for_the_dram_is_refused():
    small = load_machine("edge64", ["dram.standard=LPDDR4-3200"])
    too_large = replace(program(machine=small), dram_bytes=small.dram_standard.capacity_bytes(16))
    with pytest.raises(SimError, match=r"needs \d+ bytes of DRAM; allowed with 1 x LPDDR4-3200 x16: 536870912"):
        simulate(too_large)
    assert simulate(replace(program(machine=small), dram_bytes=1 << 28)).total_cycles > 0


def test_illegal_programs_are_refused_before_any_time_is_spent():
    legal = program()
    words = legal.words.copy()
    words[-2] = encode_program([Instruction("GEM", {"rows": 1, "columns": 1, "chunk": 1, "groups_per_tile": 1})])[0]
    with pytest.raises(IsaError, match="instruction"):
        simulate(replace(legal, words=words))
