"""Tokens and fences of compiled programs: enough for the checker's proof, and not one more than it needs."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from strategies import codings, graphs, machines, pack_randomly
from tiny_models import TINY

from accel.check import check_program
from accel.errors import CompileError, IsaError
from accel.isa import Instruction, decode_program
from accel.program import Program
from compiler import compile_model
from compiler.tokens import add_tokens

relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=40)


def bare(program: Sequence[Instruction]) -> list[Instruction]:
    """The program without tokens and fences."""
    return [replace(i, values={k: v for k, v in i.values.items() if k != "fence"}, pop=(), push=()) for i in program]


def check(program: Sequence[Instruction], compiled: Program) -> None:
    """The checker's verdict on other instructions for a compiled program's image."""
    loaded = [(0, len(compiled.image)), *((port.address, port.address + port.bytes) for port in compiled.inputs)]
    check_program(program, compiled.machine, compiled.dram_bytes, loaded)


def tokens(program: Sequence[Instruction]) -> Iterator[tuple[int, int]]:
    """(pushing, popping) instruction of every token: counters are first in, first out in program order."""
    waiting: dict[tuple[str, str], deque[int]] = defaultdict(deque)
    for i, instruction in enumerate(program):
        for queue in instruction.pop:
            yield waiting[queue, instruction.spec.queue].popleft(), i
        for queue in instruction.push:
            waiting[instruction.spec.queue, queue].append(i)
    assert not any(waiting.values())


def without_token(program: Sequence[Instruction], source: int, target: int) -> list[Instruction]:
    done, queues = list(program), (program[source].spec.queue, program[target].spec.queue)
    done[source] = replace(done[source], push=tuple(q for q in done[source].push if q != queues[1]))
    done[target] = replace(done[target], pop=tuple(q for q in done[target].pop if q != queues[0]))
    return done


def mutants(program: Sequence[Instruction]) -> Iterator[tuple[str, list[Instruction]]]:
    """The program with one token or one fence less."""
    for source, target in tokens(program):
        yield f"token {source} to {target}", without_token(program, source, target)
    for i, instruction in enumerate(program):
        if instruction["fence"]:
            done = list(program)
            done[i] = replace(instruction, values={**instruction.values, "fence": 0})
            yield f"fence of {i}", done


def survivors(compiled: Program) -> list[str]:
    """Mutants the checker does not refuse."""
    found = []
    for name, mutant in mutants(decode_program(compiled.words)):
        try:
            check(mutant, compiled)
        except IsaError:
            continue
        found.append(name)
    return found


@pytest.mark.parametrize("name", TINY)
def test_every_token_and_fence_is_needed(name: str) -> None:
    model = TINY[name]
    compiled = compile_model(pack_randomly(model.graph, model.coding), model.machine, verify=True)
    program = decode_program(compiled.words)
    assert list(tokens(program))
    assert survivors(compiled) == []


def test_a_half_token_is_refused() -> None:
    model = TINY["attention"]
    compiled = compile_model(pack_randomly(model.graph, model.coding), model.machine)
    program = decode_program(compiled.words)
    for source, target in tokens(program):
        whole = without_token(program, source, target)
        for half in ((source, target), (target, source)):
            mutant = list(whole)
            mutant[half[0]] = program[half[0]]
            with pytest.raises(IsaError):
                check(mutant, compiled)


@relaxed
@given(graphs(most_blocks=3), codings(), machines())
def test_tokens_prove_random_programs(graph, coding, machine) -> None:
    try:
        compiled = compile_model(pack_randomly(graph, coding), machine)
    except CompileError:
        assume(False)
    program = decode_program(compiled.words)
    again = add_tokens(bare(program))
    check(again, compiled)
    assert [(i.mnemonic, i.pop, i.push, i["fence"]) for i in again] == [
        (i.mnemonic, i.pop, i.push, i["fence"]) for i in program
    ]


def test_programs_without_conflicts_get_no_tokens() -> None:
    load = Instruction("LDA", {"sram": 0, "rows": 1, "row_bytes": 64})
    work = Instruction("VEC", {"function": 0, "a": 128, "out": 256, "rows": 1, "columns": 64})
    assert add_tokens([load, work]) == [load, work]


def test_the_latest_conflict_is_the_one_waited_for() -> None:
    loads = [Instruction("LDA", {"sram": 64 * n, "rows": 1, "row_bytes": 64}) for n in range(3)]
    work = Instruction("VEC", {"function": 0, "a": 0, "out": 256, "rows": 1, "columns": 192})
    done = add_tokens([*loads, work])
    assert [i.push for i in done] == [(), (), ("vector",), ()]
    assert done[-1].pop == ("load",)


def test_writing_over_what_another_queue_reads_waits() -> None:
    work = Instruction("VEC", {"function": 0, "a": 0, "out": 256, "rows": 1, "columns": 64})
    load = Instruction("LDA", {"sram": 0, "rows": 1, "row_bytes": 64})
    done = add_tokens([work, load])
    assert done[0].push == ("load",) and done[1].pop == ("vector",)
