"""Tile streams and hazards against twins that walk every tile and every byte."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.check import check_program
from accel.codecs.records import RecordLayout
from accel.errors import IsaError
from accel.footprint import accesses
from accel.isa import BLOCK_BYTES, QUEUES, VECTOR_CODE, Instruction
from accel.machine import load_machine
from accel.tiles import RECORD_FIELDS, TileShape, region_of, tile_runs

# code_bits, d, signed, N, M and the side bits that makes; with M = 1, N codes a vector
LAYOUTS = {
    **{(bits, d, 0, 0, 0): 0 for bits, d in ((8, 1), (4, 1), (8, 4), (5, 3), (6, 1))},
    **{(bits, d, 1, 0, 0): d for bits, d in ((4, 8), (8, 8), (3, 5))},
    (9, 16, 0, 4, 16): 11,
    (5, 16, 0, 4, 16): 11,
    (4, 8, 0, 2, 4): 6,
    (10, 8, 0, 2, 4): 6,
    (6, 6, 0, 1, 2): 3,
    **{(bits, d, 0, stages, 1): 0 for bits, d, stages in ((8, 8, 2), (5, 3, 3), (3, 1, 2))},
}


@st.composite
def regions(draw: st.DrawFn) -> Instruction:
    record = dict(zip(RECORD_FIELDS, draw(st.sampled_from(sorted(LAYOUTS))), strict=True))
    small = st.integers(1, 40)
    values = {name: draw(small) for name in ("rows", "columns", "tile_rows", "tile_columns")}
    flags = {name: draw(st.integers(0, 1)) for name in ("axis_in", "release")}
    return Instruction("DEC", {**values, **flags, **record, "groups_per_tile": 1, "passes": draw(st.integers(1, 3))})


def walk(dec: Instruction) -> Iterator[tuple[int, int, int, int]]:
    """Slow twin: (rows, columns, bytes needed, bytes freed afterwards) of each tile, in order of decoding."""
    layout = RecordLayout(dec["code_bits"], dec["vector_length"], LAYOUTS[tuple(dec[n] for n in RECORD_FIELDS)])
    d, base, freed = dec["vector_length"], 0, 0
    each = dec["mask_kept"] if dec["mask_group"] == 1 else 1
    for left in range(0, dec["columns"], dec["tile_columns"]):
        columns = min(dec["tile_columns"], dec["columns"] - left)
        for turn in range(dec["passes"]):
            codes = 0
            for top in range(0, dec["rows"], dec["tile_rows"]):
                rows = min(dec["tile_rows"], dec["rows"] - top)
                for row in range(rows):
                    for column in range(columns):
                        codes += each * ((row if dec["axis_in"] else column) % d == 0)  # a vector starts here
                bits = codes * dec["code_bits"]
                whole_records = layout.side_bits or top + rows == dec["rows"]
                needed = layout.stream_bytes(codes) if whole_records else bits // 8 + (bits % 8 > 0)
                stored = layout.stream_bytes(codes) + -layout.stream_bytes(codes) % BLOCK_BYTES
                if dec["release"] and turn == dec["passes"] - 1:
                    freed = base + (stored if top + rows == dec["rows"] else needed - needed % BLOCK_BYTES)
                yield rows, columns, base + needed, freed
        base += stored


@settings(deadline=None)
@given(regions())
def test_regions_agree_with_the_walk(dec: Instruction) -> None:
    region, tiles = region_of(dec), list(walk(dec))
    assert region.tiles == len(tiles)
    assert [region.freed_bytes(n) for n in range(1, len(tiles) + 1)] == [freed for *_, freed in tiles]
    starts = [index * region.full.stored_bytes for index in range(region.strips) for _ in range(region.strip_tiles)]
    needed = [n for i in range(region.strips) for _ in range(region.passes) for n in region.strip(i).needed]
    assert [start + n for start, n in zip(starts, needed, strict=True)] == [need for _, _, need, _ in tiles]
    if dec["release"]:
        assert region.stored_bytes == tiles[-1][3]


@settings(deadline=None)
@given(regions())
def test_tile_runs_agree_with_the_walk(dec: Instruction) -> None:
    runs = tile_runs(dec["rows"], dec["columns"], TileShape(dec["tile_rows"], dec["tile_columns"], 1), dec["passes"])
    shapes = [run.shape for run in runs for _ in range(run.count)]
    assert [(shape.rows, shape.columns) for shape in shapes] == [(rows, columns) for rows, columns, *_ in walk(dec)]


TINY = {
    "load": Instruction("LDA", {"rows": 1}),
    "vector": Instruction("VEC", {"function": VECTOR_CODE["copy"], "rows": 1}),
    "store": Instruction("STA", {"rows": 1}),
}


@st.composite
def programs(draw: st.DrawFn) -> list[Instruction]:
    """Loads, vector operations and stores on a few bytes, with tokens from earlier to later instructions."""
    count = draw(st.integers(1, 8))
    queues = [draw(st.sampled_from(sorted(TINY))) for _ in range(count)]
    address, size = st.integers(0, 12), st.integers(1, 6)
    pops: list[set[str]] = [set() for _ in range(count)]
    pushes: list[set[str]] = [set() for _ in range(count)]
    waiting = [queue for queue in ("load", "store") if queue in queues]
    for queue in waiting:
        pops[queues.index(queue)].add("vector")
    for i, j in combinations(range(count), 2):
        wanted = queues[i] != queues[j] and queues[i] not in pops[j] and queues[j] not in pushes[i]
        if wanted and draw(st.booleans()):
            pops[j].add(queues[i])
            pushes[i].add(queues[j])
    body = []
    for i, queue in enumerate(queues):
        length = draw(size)
        names = {"vector": ("a", "out")}.get(queue, ("sram", "address"))
        values = {name: draw(address) for name in names} | {"columns" if queue == "vector" else "row_bytes": length}
        tokens = (tuple(sorted(group, key=QUEUES.index)) for group in (pops[i], pushes[i]))
        body.append(Instruction(TINY[queue].mnemonic, {**TINY[queue].values, **values}, *tokens))
    # All bytes are written to begin with, before the first load and store.
    first = Instruction("VEC", {"function": VECTOR_CODE["fill"], "rows": 1, "columns": 24}, push=tuple(waiting))
    return [first, *body, Instruction("FIN")]


def is_ordered(program: list[Instruction]) -> Iterator[tuple[int, int]]:
    """Slow twin: all pairs (i, j) such that j starts after i is complete, by closing the relation over all events."""
    start, done = (lambda i: 2 * i), (lambda i: 2 * i + 1)
    after = [[False] * (2 * len(program)) for _ in range(2 * len(program))]
    for i, one in enumerate(program):
        after[start(i)][done(i)] = True
        for j in range(i + 1, len(program)):
            if program[j].spec.queue == one.spec.queue:
                after[start(i)][start(j)] = after[done(i)][done(j)] = True
                after[done(i)][start(j)] |= one.spec.queue == "vector"
    for a in QUEUES:
        for b in QUEUES:
            pushes = [i for i, one in enumerate(program) if one.spec.queue == a and b in one.push]
            pops = [i for i, one in enumerate(program) if one.spec.queue == b and a in one.pop]
            for i, j in zip(pushes, pops, strict=True):
                after[done(i)][start(j)] = True
    events = range(len(after))
    for k in events:
        for i in events:
            if after[i][k]:
                after[i] = [x or y for x, y in zip(after[i], after[k], strict=True)]
    return (pair for pair in combinations(range(len(program)), 2) if after[done(pair[0])][start(pair[1])])


def races(program: list[Instruction]) -> bool:
    """Slow twin: whether any pair of conflicting accesses in different queues is unordered, byte by byte."""
    ordered, found = set(is_ordered(program)), list(accesses(program))
    for i, j in combinations(range(len(program)), 2):
        if program[i].spec.queue == program[j].spec.queue or (i, j) in ordered:
            continue
        for a in found[i]:
            for b in found[j]:
                shared = set(range(a.start, a.stop)) & set(range(b.start, b.stop))
                if a.space == b.space and shared and (a.write or b.write):
                    return True
    return False


@settings(max_examples=400, deadline=None)
@given(programs())
def test_races_agree_with_the_comparison_of_all_pairs(program: list[Instruction]) -> None:
    machine = load_machine("ecp5")
    if races(program):
        with pytest.raises(IsaError, match="no chain of tokens"):
            check_program(program, machine, 64)
    else:
        check_program(program, machine, 64)
