"""Random legal programs that cannot deadlock, with a machine each: small arrays, tight weight rings, many tokens.

A program is a row of units: transfers, weights through ring and decoder into GEMMs, stationary GEMMs, vector work,
stores. Tokens only go forward in program order, and none may wait for something that itself needs the waiter: tokens
carry the number of the first unit that may take them (LDW and DEC end with the GEMs of their unit, so: the next one).
The transfers of a unit may run ahead of the work of the unit before, as a compiler prefetches.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, replace

from hypothesis import strategies as st
from naive import ceil, decoded_tiles

from accel.dram import DRAM_STANDARDS, MAPPINGS
from accel.isa import BLOCK_BYTES, QUEUES, VECTOR_FUNCTIONS, Instruction
from accel.machine import Array, Decoder, Dram, Machine, Sram, Vector, load_machine
from accel.metrics import TRAFFIC

DRAM_BYTES = 1 << 20
MASKS = ({"mask_kept": 1, "mask_group": 2}, {"mask_kept": 2, "mask_group": 4}, {"mask_kept": 3, "mask_group": 8})
STAGES = ({"mask_kept": 2, "mask_group": 1}, {"mask_kept": 3, "mask_group": 1})


@dataclass(frozen=True)
class ProgramCase:
    """Instructions, the layer of each, and a machine that runs them; ``queue_depth`` to use instead of the real one;
    ``image``: the first bytes of DRAM."""

    program: tuple[Instruction, ...]
    layer: tuple[int, ...]
    machine: Machine
    queue_depth: int
    image: bytes = b""

    @property
    def layers(self):
        return max(self.layer) + 1


def region_blocks(dec):
    """Blocks of a DEC's region, and how many of them the ring must hold at once."""
    blocks, needed, tile_start = 0, 0, 0
    for _, _, end, _, end_of_pass, end_of_strip, _ in decoded_tiles(dec):
        needed = max(needed, ceil(end, BLOCK_BYTES) - tile_start // BLOCK_BYTES)
        if end_of_pass and dec["passes"] > 1:
            needed = max(needed, ceil(end, BLOCK_BYTES))
        tile_start = 0 if end_of_pass else end
        blocks += ceil(end, BLOCK_BYTES) if end_of_strip else 0
    return blocks, blocks if not dec["release"] else needed


class ProgramBuilder:
    """Emits instructions with random tokens; ``random`` is a ``random.Random``."""

    def __init__(self, random, units):
        self.random, self.units = random, units
        self.program, self.layer, self.ring_blocks = [], [], 1
        self.pool = defaultdict(deque)  # (from, to) -> first unit that may take each token
        self.decs = {}

    def emit(self, unit, mnemonic, tokens=True, **values):
        queue = Instruction(mnemonic).spec.queue
        others = [other for other in QUEUES if other != queue]
        able = [q for q in others if self.pool[q, queue] and self.pool[q, queue][0] <= unit]
        pop = tuple(q for q in able if tokens and self.random.random() < 0.7)
        for source in pop:
            self.pool[source, queue].popleft()
        push = tuple(q for q in others if tokens and self.random.random() < 0.25)
        for target in push:
            self.pool[queue, target].append(unit + (mnemonic in ("LDW", "DEC")))
        self.program.append(Instruction(mnemonic, values, pop, push))
        self.layer.append(unit)

    def move(self, unit, mnemonic):
        rows, row_bytes = self.random.randint(1, 4), self.random.randint(0, 300)
        stride = row_bytes if self.random.random() < 0.5 else self.random.randint(0, 500)
        kind = self.random.randrange(len(TRAFFIC))
        address = self.random.randrange(5000)
        self.emit(unit, mnemonic, kind=kind, address=address, rows=rows, row_bytes=row_bytes, stride=stride)

    def codebook(self):
        """What an LDC loads: bytes as they are, or factors to be folded."""
        r = self.random
        if r.random() < 0.5:
            return {"bytes": r.randint(1, 200)}
        rank, codewords = r.randint(1, 5), r.randint(1, 40)
        length = r.randint(rank, 12)
        return {"bytes": rank * (codewords + length), "rank": rank, "vector_length": length, "shift": r.randint(0, 20)}

    def front(self, unit):
        """Transfers and, if the unit has any, its weights: at most two of each, so that no queue of eight overflows."""
        for _ in range(self.random.randint(0, 2)):
            choice = self.random.choice(["LDA", "LDC", "GTH"])
            if choice == "LDA":
                self.move(unit, "LDA")
            elif choice == "LDC":
                self.emit(unit, "LDC", address=self.random.randrange(999), **self.codebook())
            else:
                rows, row_bytes = self.random.randint(1, 3), self.random.randint(1, 130)
                self.emit(unit, "GTH", address=64 * self.random.randrange(9), rows=rows, row_bytes=row_bytes)
        if self.random.random() < 0.75:
            self.weights(unit)

    def weights(self, unit):
        """Choose a matrix and load its blocks by one or two LDW; ``self.decs`` remembers how to use them."""
        r = self.random
        beside, codebook = r.choice([({}, 0), ({}, 1), ({"signed": 1}, 1), (r.choice(MASKS), 1), (r.choice(STAGES), 1)])
        lengths = [d for d in (1, 2, 4, 8) if d % beside.get("mask_group", 2) == 0]
        kind = {"code_bits": r.choice([2, 4, 5, 8]), "vector_length": r.choice(lengths) if codebook else 1, **beside}
        shape = {"rows": r.randint(1, 40), "columns": r.randint(1, 40)}
        tile = {"tile_rows": r.randint(3, 16), "tile_columns": r.randint(3, 16)}
        plan = r.choice(["plain", "rewind", "two users"])
        if plan == "two users":
            shape["columns"] = min(shape["columns"], tile["tile_columns"])
        gems = [{"rows": r.randint(1, 30), "chunk": r.randint(4, 30)} for _ in range(1 if plan == "plain" else 2)]
        passes = [ceil(gem["rows"], gem["chunk"]) for gem in gems]
        axis, groups = {"axis_in": r.randint(0, 1) if codebook else 0}, {"groups_per_tile": r.choice([1, 1, 1, 2])}
        common = {**kind, "codebook": codebook, **shape, **tile, **groups, **axis}
        if plan == "rewind":
            decs = [{**common, "passes": passes[0], "release": 0}, {**common, "passes": passes[1], "release": 1}]
        else:
            decs = [{**common, "passes": sum(passes), "release": 1}]
        sizes = [region_blocks(Instruction("DEC", dec)) for dec in decs]
        self.ring_blocks = max(self.ring_blocks, *(needed for _, needed in sizes))
        self.decs[unit] = decs, gems
        first = r.randint(0, sizes[0][0])
        for blocks in (first, sizes[0][0] - first):
            self.emit(unit, "LDW", address=64 * r.randrange(99), blocks=blocks, **kind)

    def back(self, unit):
        """The work of a unit."""
        before, after = self.random.randint(0, 2), self.random.randint(0, 2)
        for _ in range(before):
            self.small_work(unit)
        if unit in self.decs:
            self.gemms(unit, *self.decs[unit])
        for _ in range(after):
            self.small_work(unit)

    def gemms(self, unit, decs, gems):
        late = self.random.random() < 0.2  # DEC dispatched after its GEM, then without tokens to be safe
        for dec in () if late else decs:
            self.emit(unit, "DEC", **dec)
        if self.random.random() < 0.3:
            self.small_work(unit)
        dec = decs[0]
        self.emit(unit, "GMO", reduction=dec["rows"], tile_rows=dec["tile_rows"], tile_columns=dec["tile_columns"])
        for gem in gems:
            values = {"columns": dec["columns"], "groups_per_tile": dec["groups_per_tile"], **gem}
            self.emit(unit, "GEM", tokens=not late, fence=self.random.randint(0, 1), **values)
        for dec in decs if late else ():
            self.emit(unit, "DEC", tokens=False, **dec)

    def small_work(self, unit):
        r = self.random
        choice = r.choice(["GMS", "VEC", "VEC", "STA", "configure"])
        if choice == "GMS":
            tile = {"tile_rows": r.randint(3, 16), "tile_columns": r.randint(3, 16)}
            self.emit(unit, "GMO", reduction=r.randint(1, 30), **tile)
            size = {"rows": r.randint(1, 20), "columns": r.randint(1, 20), "chunk": r.randint(5, 20)}
            self.emit(unit, "GMS", transpose_b=r.randint(0, 1), fence=r.randint(0, 1), **size)
        elif choice == "VEC":
            function = r.randrange(len(VECTOR_FUNCTIONS))
            self.emit(unit, "VEC", function=function, rows=r.randint(1, 20), columns=r.randint(1, 20))
        elif choice == "STA":
            self.move(unit, "STA")
        else:
            self.configure(unit)

    def configure(self, unit):
        r = self.random
        for _ in range(r.choice([1, 1, 12])):
            mnemonic = r.choice(["VST", "VBT", "VWN", "VRQ", "VRS", "GMC"])
            if mnemonic == "VBT":
                self.emit(unit, "VBT", count=r.randint(1, 3))
            elif mnemonic == "VWN":
                self.emit(unit, "VWN", kernel_h=r.randint(1, 3), kernel_w=r.randint(1, 3))
            elif mnemonic == "VRQ":
                self.emit(unit, "VRQ", a_multiplier=r.randrange(1 << 24), shift=r.randrange(64), exponents=1)
            elif mnemonic == "VRS":
                self.emit(unit, "VRS", in_h=r.randint(1, 9), in_w=r.randint(1, 9), out_h=3, out_w=3)
            else:
                self.emit(unit, mnemonic)

    def build(self):
        prefetched = False
        for unit in range(self.units):
            if not prefetched:
                self.front(unit)
            prefetched = unit + 1 < self.units and self.random.random() < 0.5
            if prefetched:
                self.front(unit + 1)
            self.back(unit)
        self.emit(self.units - 1, "FIN")


def random_array(random):
    """Any model with any dataflow it knows; programs do not ask how large the array is, ``scalesim`` does."""
    model = random.choice(["pipelined", "pipelined", "scalesim", "stonne"])
    dataflow = "os" if model == "stonne" else random.choice(["ws", "os", "is"])
    return Array(random.choice([4, 16]), random.choice([3, 16]), dataflow, model)


def random_machine(random, ring_blocks):
    """A machine whose ring holds at least ``ring_blocks``, often no more."""
    weight_bytes = max(256, 64 * ring_blocks) + random.choice([0, 0, 40, 64, 500])
    base = load_machine("edge64-ideal")
    return replace(
        base,
        array=random_array(random),
        sram=Sram(65536, weight_bytes, 65536),
        decoder=random_decoder(random),
        vector=Vector(random.choice([0, 1, 16])),
        dram=random_dram(random),
    )  # fmt: skip


def random_dram(random):
    """Mostly ideal: the twin of banked DRAM goes clock by clock."""
    common = {"latency_cycles": random.choice([0, 1, 20, 100]), "load_engines": random.choice([1, 2, 2, 3])}
    if random.random() < 0.8:
        return Dram("ideal", bandwidth_bytes_per_cycle=random.choice([0.9, 5.12, 8.0, 64.0, 7.3]), **common)
    standard = random.choice(sorted(DRAM_STANDARDS))
    width = random.choice(DRAM_STANDARDS[standard].widths)
    return Dram(standard, width, random.choice([1, 1, 2]), random.choice(MAPPINGS), **common)


def random_decoder(random):
    """Any look-ups, banks and beats, with FIFOs that suffice for most of the codes programs draw, often barely."""
    words = random.choice([16, 16, 64, 32, 14, 8, 6])
    banks, bits = random.choice([0, 0, 1, 2, 3, 4, 8]), random.choice([64, 128, 256])
    return Decoder(8192, random.choice([1, 2, 3, 4, 8]), codebook_banks=banks, input_bits=bits, fifo_words=words)


def random_case(random):
    """One case from a ``random.Random``."""
    builder = ProgramBuilder(random, random.randint(1, 4))
    builder.build()
    machine = random_machine(random, builder.ring_blocks)
    depth, image = random.choice([8, 9, 64]), random.randbytes(random.choice([0, 5000, 12000]))
    return ProgramCase(tuple(builder.program), tuple(builder.layer), machine, depth, image)


def program_cases():
    """Strategy of ``ProgramCase``."""
    return st.randoms(use_true_random=False).map(random_case)
