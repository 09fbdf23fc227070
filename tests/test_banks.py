"""Where streams begin in DRAM: the pass itself, and what it is worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Coding, pack_randomly

from accel.dram import DRAM_STANDARDS, MAPPINGS, address_map
from accel.machine import Machine, load_machine
from benchmarks.banks import machine_with, two_streams
from compiler import compile_model
from compiler.banks import NO_TURNS, BankTurns, bank_turns
from compiler.frontend import load_model
from sim import simulate


def test_padding_prefers_another_group_then_another_bank_then_few_bytes() -> None:
    turns = BankTurns(stretch_bytes=8192, banks=16, groups=4)
    assert turns.padding(0, []) == 0 and turns.padding(0, [8192]) == 0
    assert turns.padding(0, [0]) == 8192  # the next bank is of the next group
    assert turns.padding(100, [0, 8192]) == 2 * 8192 - 100
    assert turns.padding(0, [0, 8192, 2 * 8192, 3 * 8192]) == 4 * 8192  # all groups are taken


@pytest.mark.parametrize("standard", sorted(DRAM_STANDARDS))
@pytest.mark.parametrize("mapping", MAPPINGS)
@given(address=st.integers(0, (1 << 26) - 1))
def test_turns_are_those_of_the_address_map(standard: str, mapping: str, address: int) -> None:
    """Streams whose starts are of different turns lie in different banks, of different groups where it says so."""
    width = DRAM_STANDARDS[standard].widths[0]
    machine = load_machine(
        "edge64", [f"dram.standard={standard}", f"dram.data_width_bits={width}", f"dram.mapping={mapping}"]
    )
    turns = bank_turns(machine)
    if turns == NO_TURNS:
        assert mapping == "MOP4CLXOR"
        return
    layout = address_map(machine.dram_standard, width, mapping)
    here, next_turn = layout.locate(address), layout.locate(address + turns.stretch_bytes)
    bank = ("pseudo_channel", "group", "bank")
    if turns.banks > 1:
        assert [here[name] for name in bank] != [next_turn[name] for name in bank]
    around = layout.locate(address + turns.stretch_bytes * turns.banks)
    assert [here[name] for name in bank] == [around[name] for name in bank] and around["row"] == here["row"] + 1


def test_two_column_low_streams_pay_for_a_shared_bank() -> None:
    machine, row_bytes = machine_with("colLow"), 8192
    same_bank, same_group, apart = (two_streams(machine, banks * row_bytes) for banks in (0, 4, 1))
    assert same_bank > 1.8 * apart and same_group > 1.6 * apart
    assert two_streams(machine_with("bgLow"), 0) < 1.1 * two_streams(machine_with("bgLow"), 4 * row_bytes)


def test_a_network_with_spilled_activations_is_placed_and_legal() -> None:
    def compiled(machine: Machine) -> int:
        program = compile_model(packed, machine, verify=True)
        simulate(program)
        return program.dram_bytes

    packed = pack_randomly(load_model("resnet18").graph, Coding("int8", "out", False))
    assert compiled(machine_with("colLow")) > compiled(machine_with("MOP4CLXOR"))  # padding, where placing matters
