"""The timing rules once more, written to be obvious: one generator per agent, a clock, and tokens that are counted.

The slow twin of ``sim.core``: it shares no code with it and is built differently (true time order, a step an event).
An agent yields ``("until", condition)`` or ``("at", tick)``. Conditions are polled until nothing changes; only then
does the DRAM channel choose among the requests that stand, and only then does time move on.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict, deque

from naive_dram import QUEUE, NaiveDram, Request

from accel.isa import BLOCK_BYTES, QUEUE_DEPTH, QUEUES, VECTOR_FUNCTIONS

TICKS = 2**20
WORDS_PER_BLOCK = 4
FETCH_AHEAD = 32


def ceil(a, b):
    return -(-a // b)


def transfer_blocks(i):
    """Every block number a load or store touches, in order."""
    if i.mnemonic == "LDW":
        return [i["address"] // BLOCK_BYTES + n for n in range(i["blocks"])]
    if i.mnemonic == "LDC":
        ranges = [(i["address"], i["bytes"])]
    elif i.mnemonic == "GTH":
        per_row = ceil(i["row_bytes"], BLOCK_BYTES)
        return [i["address"] // BLOCK_BYTES + n for n in range(per_row * i["rows"])]
    elif i.mnemonic in ("LDA", "STA"):
        if i["stride"] == i["row_bytes"] or i["rows"] == 1:
            ranges = [(i["address"], i["rows"] * i["row_bytes"])]
        else:
            ranges = [(i["address"] + row * i["stride"], i["row_bytes"]) for row in range(i["rows"])]
    else:
        return []
    blocks = []
    for begin, size in ranges:
        blocks += range(begin // BLOCK_BYTES, ceil(begin + size, BLOCK_BYTES)) if size else []
    return blocks


def side_bits(i):
    """Bits that a vector has beside its code: signs, or an index for the mask of each group."""
    if i["mask_group"] < 2:
        return i["vector_length"] if i["signed"] else 0
    index_bits = 0
    while 1 << index_bits < math.comb(i["mask_group"], i["mask_kept"]):
        index_bits += 1
    return i["vector_length"] // i["mask_group"] * index_bits


def stages(i):
    """Codes of a vector: one from each codebook, whose codewords are added."""
    return i["mask_kept"] if i["mask_group"] == 1 else 1


def fold_cycles(i, array):
    """Cycles an LDC spends, once its data are here, on the codebook it folds."""
    if i.mnemonic != "LDC" or not i["rank"]:
        return 0
    codewords = (i["bytes"] - i["rank"] * i["vector_length"]) // i["rank"]
    return ceil(codewords * i["rank"] * i["vector_length"], array.rows * array.columns)


def is_aligned(i):
    """Whether one vector with its side bits is a word."""
    return side_bits(i) > 0 and i["code_bits"] + side_bits(i) in (8, 16, 32, 64)


def vectors_and_bytes_of_record(i):
    """Smallest group of vectors whose codes and side bits each fill whole 64-bit words, or one aligned vector."""
    bits, side = i["code_bits"], side_bits(i)
    if is_aligned(i):
        return 1, (bits + side) // 8
    group = 1
    while group * bits % 64 or group * side % 64:
        group += 1
    return group, group * (bits + side) // 8


def stream_bytes(i, codes, end_of_strip):
    if not side_bits(i):
        while end_of_strip and codes * i["code_bits"] % 8:
            codes += 1
        return ceil(codes * i["code_bits"], 8)
    group, size = vectors_and_bytes_of_record(i)
    return ceil(codes, group) * size


def bits_of_vector(i, v):
    """Where vector ``v`` of a strip lies: the first bit of its code, the end of its code, the end of its signs."""
    bits, side = i["code_bits"], side_bits(i)
    if not side:
        return v * bits, (v + 1) * bits, (v + 1) * bits
    group, size = vectors_and_bytes_of_record(i)
    record, place = divmod(v, group)
    code, signs = record * size * 8 + place * bits, record * size * 8 + group * bits + place * side
    return code, code + bits, signs + side


class FifoTooSmallError(Exception):
    """Nothing moves any more: a beat finds no room, and no group has all its words."""


LATE_WRITES = 3  # words that may still come when a queue says that it has no room


class WordQueue:
    """Words of one kind that were begun, in their order, and the beats that came. Counts and flags are registers."""

    def __init__(self, depth):
        self.depth, self.words, self.begun, self.came, self.seen, self.room = depth, [], 0, set(), set(), True

    def clock(self, beat, written, gone):
        """End of a cycle: ``beat`` comes in, with bits of the words ``written``; ``gone`` says of which words nothing
        more is needed."""
        self.room = len(self.words) <= self.depth - 1 - LATE_WRITES
        self.words = [word for word in self.words if not gone(word)]
        self.seen = set(self.came)
        self.came.add(beat)
        self.words += [word for word in sorted(written) if word >= self.begun]
        self.begun = max([self.begun, *(word + 1 for word in written)])


def front_end(i, decoder, tiles, indices):
    """``strip_figures`` with beats always there; refuses queues that suffice by luck: if beats came late, room would be
    known in time."""
    strip_figures(i, decoder, tiles, indices, idle_before_beat=6)
    return strip_figures(i, decoder, tiles, indices, idle_before_beat=0)


def strip_figures(i, decoder, tiles, indices, idle_before_beat):
    """Look up the codes ``indices`` of a strip of ``tiles`` (codes of each), cycle by cycle.

    A beat comes when nothing has moved for so many cycles. Returns for each tile its cycles, from the end of the tile
    before, and the counters: groups, cycles of look-ups, without index, without signs.
    """
    users = {"index": {}, "sign": {}}  # kind: word: the last vector that has a bit in it
    words = {"index": {}, "sign": {}}  # kind: beat: the words it has bits of
    needs = []  # for each vector, the last beat of each kind
    for v in range(sum(tiles)):
        code, code_end, side_end = bits_of_vector(i, v)
        parts = {"index": range(code, code_end), "sign": range(side_end - side_bits(i), side_end)}
        for name, bits in parts.items():
            for number, bit in enumerate(bits):
                beat = bit // decoder.input_bits
                word = beat if is_aligned(i) else (v * len(bits) + number) // decoder.input_bits
                users[name][word] = v
                words[name].setdefault(beat, set()).add(word)
        needs.append({name: bits[-1] // decoder.input_bits for name, bits in parts.items() if bits})
    queues = {name: WordQueue(decoder.fifo_words) for name in users}
    beat, writing, taken, busy, idle = 0, None, 0, 0, 0
    results = []
    for size in tiles:
        end, cycles, groups, lookups, empty = taken + size, 0, 0, 0, Counter()
        while taken < end or busy:
            group = range(taken, min(taken + decoder.lookups_per_cycle, end))
            lacking = (
                [name for name in needs[group[-1]] if needs[group[-1]][name] not in queues[name].seen] if group else []
            )
            if group and not busy and not lacking:
                taken = group.stop
                banks = (
                    Counter(indices[v] % decoder.codebook_banks for v in group) if decoder.codebook_banks else {0: 1}
                )
                busy = max(banks.values())
                groups, lookups = groups + 1, lookups + busy
            elif group and not busy and (groups or results):
                empty.update(lacking)
            brings = [name for name in queues if beat in words[name]]
            accepted = idle >= idle_before_beat and all(queues[name].room for name in brings)
            for name, queue in queues.items():
                written = words[name].get(writing, ())
                queue.clock(writing, written, lambda word, name=name, taken=taken: users[name][word] < taken)
            idle = 0 if accepted or busy else idle + 1
            if idle > 20:
                raise FifoTooSmallError
            writing, beat = (beat, beat + 1) if accepted else (None, beat)
            busy, cycles = max(0, busy - 1), cycles + (groups > 0 or bool(results))
        results.append((cycles, (groups, lookups, empty["index"], empty["sign"])))
    return results


def decoded_tiles(i):
    """For each tile of a DEC: rows; its codes and byte end in its strip; pass; last of its pass, strip, and DEC."""
    d = i["vector_length"]
    for first_column in range(0, i["columns"], i["tile_columns"]):
        width = min(i["tile_columns"], i["columns"] - first_column)
        for turn in range(i["passes"]):
            codes = 0
            for first in range(0, i["rows"], i["tile_rows"]):
                rows = min(i["tile_rows"], i["rows"] - first)
                here = (ceil(rows, d) * width if i["axis_in"] else rows * ceil(width, d)) * stages(i)
                codes += here
                end_of_pass = first + rows == i["rows"]
                end_of_strip = end_of_pass and turn == i["passes"] - 1
                end = end_of_strip and first_column + width == i["columns"]
                place = range(codes - here, codes)
                yield rows, place, stream_bytes(i, codes, end_of_pass), turn, end_of_pass, end_of_strip, end


def used_tiles(i, output):
    """For each tile a GEM or GMS uses: its sizes, and where it stands in the loops over strips, chunks and pieces."""
    groups = i["groups_per_tile"] if i.mnemonic == "GEM" else 1
    for first_column in range(0, i["columns"], output["tile_columns"]):
        width = min(output["tile_columns"], i["columns"] - first_column)
        last_strip = first_column + width == i["columns"]
        for first_row in range(0, i["rows"], i["chunk"]):
            rows = min(i["chunk"], i["rows"] - first_row)
            for first in range(0, output["reduction"], output["tile_rows"]):
                depth = min(output["tile_rows"], output["reduction"] - first)
                piece_ends = first + depth == output["reduction"]
                yield {
                    "rows": rows,
                    "depth": depth * groups,
                    "width": width,
                    "first strip": first_column == 0,
                    "last strip": last_strip,
                    "last piece": piece_ends,
                    "last": piece_ends and last_strip and first_row + rows == i["rows"],
                }


def widest_tile(i, output):
    """Rows, depth and width of the largest tile."""
    return next(used_tiles(i, output))


class Memory:
    """Banked channels beside the agents: each of their clocks they act first, then take a block each."""

    def __init__(self, machine_model, machine):
        standard, dram = machine.dram_standard, machine.dram
        self.owner, self.dram = machine_model, dram
        self.clock_ticks = max(1, round(standard.timing.tck_ps * 1e-12 * machine.clock.hz * TICKS))
        self.channels = [NaiveDram(standard, dram.data_width_bits, dram.mapping) for _ in range(dram.channels)]
        self.access_bytes = standard.access_bytes(dram.data_width_bits)
        self.accesses = BLOCK_BYTES // self.access_bytes
        self.clock = 0
        self.taken_at = {}  # channel: clock
        owner = self.owner
        owner.at(self.clock_ticks, self.tick)

    def tick(self):
        self.clock += 1
        for channel in self.channels:
            for request in channel.tick():
                if not request.is_write:
                    self.owner.at(self.owner.time + self.dram.latency_cycles * TICKS, request.tag)
        if not self.owner.is_over():
            self.owner.at(self.owner.time + self.clock_ticks, self.tick)

    def is_on_clock(self):
        return self.owner.time == self.clock * self.clock_ticks

    def channel(self, block):
        return self.channels[block % self.dram.channels]

    def has_room(self, ticket):
        channel = self.channel(ticket["block"])
        if self.taken_at.get(id(channel)) == self.clock:
            return False
        queue = channel.writes if ticket["is_write"] else channel.reads
        return len(queue) + self.accesses <= QUEUE

    def take(self, ticket):
        self.taken_at[id(self.channel(ticket["block"]))] = self.clock
        waiting = self.accesses

        def arrived():
            nonlocal waiting
            waiting -= 1
            if not waiting:
                ticket["on_done"]()

        for access in range(self.accesses):
            address = ticket["block"] // self.dram.channels * BLOCK_BYTES + access * self.access_bytes
            taken = self.channel(ticket["block"]).offer(Request(address, ticket["is_write"], tag=arrived))
            assert taken
        if ticket["is_write"]:  # posted
            self.owner.at(self.owner.time + self.clock_ticks, ticket["on_done"])


class Naive:
    """Runs ``program``; afterwards ``completed``, ``started``, ``total``, ``streamed``, ``blocks`` hold the results.

    ``image`` is DRAM from address 0; what lies behind it reads as zeros.
    """

    def __init__(self, program, machine, queue_depth=QUEUE_DEPTH, dram_bytes=0, image=b""):
        self.program, self.machine, self.queue_depth = program, machine, queue_depth
        self.ring_data = b"".join(
            self.block(image, n) for i in program if i.mnemonic == "LDW" for n in transfer_blocks(i)
        )
        self.decoder_counts, self.known_strips = Counter(), {}
        self.block_ticks = max(1, round(BLOCK_BYTES / machine.bandwidth_bytes_per_cycle * TICKS))
        self.latency = machine.dram.latency_cycles * TICKS
        self.time, self.alarms, self.order = 0, [], 0
        self.waiting = []  # (generator, condition)
        self.queues = {name: deque() for name in QUEUES}
        self.tokens = defaultdict(int)
        self.started, self.completed, self.dispatched = {}, {}, 0
        self.finished = {name: deque() for name in QUEUES}  # started, not yet completed, in order
        self.results_out = {}
        self.requests, self.channel_free, self.waiting_since = {}, 0, {}
        self.loading = {}  # instructions under way: mnemonic
        self.memory = Memory(self, machine) if machine.is_banked else None
        self.words_arrived = 0
        self.blocks = defaultdict(int)
        self.fetched_blocks = 0
        self.ring_bytes = machine.sram.weight_bytes // BLOCK_BYTES * BLOCK_BYTES
        self.ring_requested = self.ring_arrived = self.ring_freed = 0
        self.ring_here = {}  # block of the ring, counted from the start: whether it has come
        self.words_at = ceil(dram_bytes, BLOCK_BYTES)
        self.flow, self.model = machine.array.dataflow, machine.array.model
        self.grants, self.load_began, self.loaded, self.streamed = 0, {}, set(), 0  # tiles, counted from the start
        self.array_free = self.outputs_gone = 0
        self.array_order = self._array_order()

    @staticmethod
    def block(image, number):
        """The bytes of a DRAM block."""
        return image[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES].ljust(BLOCK_BYTES, b"\0")

    def _array_order(self):
        """Mnemonic of every tile the array will use, in program order."""
        order, output = [], None
        for i in self.program:
            if i.mnemonic == "GMO":
                output = i
            if i.mnemonic in ("GEM", "GMS"):
                order += [i.mnemonic] * len(list(used_tiles(i, output)))
        return order

    # -- clock -----------------------------------------------------------------------------------------------------
    def at(self, tick, action):
        heapq.heappush(self.alarms, (tick, self.order, action))
        self.order += 1

    def step(self, agent):
        """Run an agent to its next wait."""
        wait = next(agent, None)
        if wait is None:
            return
        kind, what = wait
        if kind == "at":
            self.at(what, lambda: self.step(agent))
        else:
            self.waiting.append((agent, what))

    def not_before(self, tick):
        """Waits that take no time must not wait for the DRAM channel to choose in between."""
        if self.time < tick:
            yield "at", tick

    def settle(self):
        """Resume agents until every condition waited for is false."""
        moved = True
        while moved:
            moved = False
            waiting, self.waiting = self.waiting, []
            for agent, condition in waiting:
                if condition():
                    self.step(agent)
                    moved = True
                else:
                    self.waiting.append((agent, condition))

    def run(self):
        agents = [self.fetch(), self.dispatch(), self.decode(), self.compute(), self.vector()]
        for agent in (*agents, self.loads(), self.stores()):
            self.step(agent)
        self.settle()
        while self.arbitrate():
            self.settle()
        while self.alarms:
            self.time = self.alarms[0][0]
            while self.alarms and self.alarms[0][0] == self.time:
                heapq.heappop(self.alarms)[2]()
            self.settle()
            while self.arbitrate():
                self.settle()
        assert len(self.completed) == len(self.program), "the program deadlocks"
        self.total = max(self.completed.values(), default=0)
        return self

    def is_over(self):
        return len(self.completed) == len(self.program)

    # -- DRAM ------------------------------------------------------------------------------------------------------
    def request(self, who, block, on_done):
        """Ask for one block; ``granted`` on the ticket turns true when its service begins."""
        ticket = {"granted": False, "is_write": who == "store", "block": block, "on_done": on_done}
        self.requests[who] = ticket
        return ticket

    def in_turn(self):
        """Fetch, then who was granted a block (or started) longest ago; of equals the store, then the earlier load."""

        def rank(who):
            return who != "fetch", self.waiting_since.get(who, 0), who != "store", who if isinstance(who, int) else 0

        return sorted(self.requests, key=rank)

    def arbitrate(self):
        """Grant one request, if one can be granted now; whether it was."""
        if self.memory and not self.memory.is_on_clock():
            return False
        who = next((who for who in self.in_turn() if self.can_take(self.requests[who])), None)
        if self.time < self.channel_free or who is None:
            return False
        self.waiting_since[who] = self.time
        ticket = self.requests.pop(who)
        ticket["granted"] = True
        if self.memory:
            self.memory.take(ticket)
            return True
        self.channel_free = self.time + self.block_ticks
        self.at(self.channel_free, lambda: None)
        self.at(self.channel_free + (0 if ticket["is_write"] else self.latency), ticket["on_done"])
        return True

    def can_take(self, ticket):
        return self.memory is None or self.memory.has_room(ticket)

    # -- front end -------------------------------------------------------------------------------------------------
    def fetch(self):
        here = set()

        def arrived(block):
            here.add(block)
            while self.words_arrived // WORDS_PER_BLOCK in here:
                self.words_arrived += WORDS_PER_BLOCK

        for block in range(ceil(len(self.program), WORDS_PER_BLOCK)):
            ahead = (block + 1) * WORDS_PER_BLOCK - FETCH_AHEAD
            yield "until", lambda ahead=ahead: self.dispatched >= ahead
            ticket = self.request("fetch", self.words_at + block, lambda block=block: arrived(block))
            self.fetched_blocks += 1
            yield "until", lambda ticket=ticket: ticket["granted"]

    def dispatch(self):
        for n, instruction in enumerate(self.program):
            queue = self.queues[instruction.spec.queue]
            yield "until", lambda n=n, queue=queue: self.words_arrived > n and len(queue) < self.queue_depth
            queue.append(n)
            self.dispatched += 1

    # -- tokens and order ------------------------------------------------------------------------------------------
    def start_next(self, name, condition=lambda: True):
        """Wait for the instruction at the head of a queue, its tokens and ``condition``; then take both."""
        yield "until", lambda: self.queues[name] and self.has_tokens(self.queues[name][0]) and condition()
        n = self.queues[name].popleft()
        for source in self.program[n].pop:
            self.tokens[source, name] -= 1
        self.started[n] = self.time
        self.finished[name].append(n)
        return n, self.program[n]

    def has_tokens(self, n):
        name = self.program[n].spec.queue
        if self.program[n].mnemonic == "GTH" and self.finished[name]:
            return False  # its indices may be what an earlier load still brings
        return all(self.tokens[source, name] for source in self.program[n].pop)

    def complete(self, n):
        """``n`` has its result; it completes, and pushes, when everything before it in its queue has."""
        name = self.program[n].spec.queue
        self.results_out[n] = True
        while self.finished[name] and self.finished[name][0] in self.results_out:
            done = self.finished[name].popleft()
            self.completed[done] = self.time
            for target in self.program[done].push:
                self.tokens[name, target] += 1

    def remaining(self, name):
        return [n for n, instruction in enumerate(self.program) if instruction.spec.queue == name]

    # -- load and store --------------------------------------------------------------------------------------------
    def stores(self):
        for _ in self.remaining("store"):
            n, instruction = yield from self.start_next("store")
            yield from self.transfer("store", n, instruction)

    def loads(self):
        """Start loads in order, as many as there are engines; each goes on by itself."""
        for n in self.remaining("load"):
            n, instruction = yield from self.start_next("load", lambda n=n: self.may_start(self.program[n].mnemonic))
            self.loading[n] = instruction.mnemonic
            self.step(self.load(n, instruction))

    def may_start(self, mnemonic):
        under_way = self.loading.values()
        if len(under_way) == self.machine.dram.load_engines or "GTH" in under_way:
            return False
        return mnemonic != "LDW" or "LDW" not in under_way

    def load(self, n, instruction):
        yield from self.transfer(n, n, instruction)
        del self.loading[n]

    def transfer(self, who, n, instruction):
        blocks = transfer_blocks(instruction)
        self.waiting_since[who] = self.time
        if not blocks:
            self.complete(n)
        waiting = len(blocks)

        def arrived(ring=None):
            nonlocal waiting
            waiting -= 1
            if ring is not None:
                self.ring_here[ring] = True
                while self.ring_here.get(self.ring_arrived // BLOCK_BYTES):
                    self.ring_arrived += BLOCK_BYTES
            if not waiting:
                self.at(self.time + fold_cycles(instruction, self.machine.array) * TICKS, lambda: self.complete(n))

        for block in blocks:
            on_done = arrived
            if instruction.mnemonic == "LDW":
                yield "until", lambda: self.ring_requested - self.ring_freed + BLOCK_BYTES <= self.ring_bytes
                on_done = lambda ring=self.ring_requested // BLOCK_BYTES: arrived(ring)  # noqa: E731
                self.ring_requested += BLOCK_BYTES
            ticket = self.request(who, block, on_done)
            self.blocks[n] += 1
            yield "until", lambda ticket=ticket: ticket["granted"]

    # -- decode ----------------------------------------------------------------------------------------------------
    def decode(self):
        uses = iter([n for n, mnemonic in enumerate(self.array_order) if mnemonic == "GEM"])
        region = 0
        for _ in self.remaining("decode"):
            n, dec = yield from self.start_next("decode")
            strip = region
            for rows, place, end_byte, turn, end_of_pass, end_of_strip, end in decoded_tiles(dec):
                use = next(uses)
                needed = strip + ceil(end_byte, BLOCK_BYTES) * BLOCK_BYTES
                yield "until", lambda use=use, needed=needed: self.grants >= use and self.ring_arrived >= needed
                self.load_began[use] = self.time
                yield from self.not_before(self.time + self.decode_cycles(dec, rows, place, strip) * TICKS)
                self.loaded.add(use)
                freed = needed if end_of_pass else strip + end_byte // BLOCK_BYTES * BLOCK_BYTES
                if dec["release"] and turn == dec["passes"] - 1:
                    self.ring_freed = max(self.ring_freed, freed)
                if end_of_strip:
                    strip = needed
                if end:
                    region = strip if dec["release"] else region
                    self.complete(n)

    def decode_cycles(self, dec, rows, place, strip):
        """Cycles of the tile that is ``place`` in the strip that begins at byte ``strip`` of the ring's stream."""
        array_rows = rows * dec["groups_per_tile"]
        if self.model != "pipelined" and self.flow != "ws":
            array_rows = 0  # weights pass through the array, as fast as the memory gives them
        if not dec["codebook"]:
            return array_rows
        cycles, counts = self.look_up(dec, place, strip)
        names = ("lookup_groups", "lookup_cycles", "index_fifo_empty", "sign_fifo_empty")
        self.decoder_counts.update(dict(zip(names, counts, strict=True)))
        return max(array_rows, cycles) + (dec["vector_length"] if dec["axis_in"] else 0)

    def look_up(self, dec, place, strip):
        """The figures of a tile: those of its whole strip are made when its first tile comes, or are known."""
        if place.start == 0:
            self.tiles_left = list(self.strip_figures(dec, self.strip_tiles(dec, place), strip))
        return self.tiles_left.pop(0)

    def strip_tiles(self, dec, first):
        """Codes of the tiles of the strip whose first tile is ``first``: only the last one may have fewer rows."""
        d, rows = dec["vector_length"], min(dec["rows"], dec["tile_rows"])
        per_row = len(first) // (ceil(rows, d) if dec["axis_in"] else rows)
        heights = [min(rows, dec["rows"] - at) for at in range(0, dec["rows"], rows)]
        return tuple((ceil(height, d) if dec["axis_in"] else height) * per_row for height in heights)

    def strip_figures(self, dec, tiles, strip):
        decoder = self.machine.decoder
        if decoder.codebook_banks:
            return front_end(dec, decoder, tiles, [self.index(dec, strip, v) for v in range(sum(tiles))])
        kind = (dec["code_bits"], side_bits(dec), dec["vector_length"], tiles)
        if kind not in self.known_strips:
            self.known_strips[kind] = front_end(dec, decoder, tiles, None)
        return self.known_strips[kind]

    def index(self, dec, strip, v):
        """Where the codebook memory has what code ``v`` of a strip stands for: stages lie behind one another."""
        begin, end, _ = bits_of_vector(dec, v)
        first, last = begin // 8, ceil(end, 8)
        word = int.from_bytes(self.ring_data[strip + first : strip + last], "little")
        return (word >> begin % 8 & ((1 << end - begin) - 1)) + v % stages(dec) * (1 << dec["code_bits"])

    # -- compute ---------------------------------------------------------------------------------------------------
    def compute(self):
        output, use = None, 0
        for n_before, _ in enumerate(self.remaining("compute")):
            n, i = yield from self.start_next("compute")
            if i.mnemonic == "GMO":
                output = i
            if i.mnemonic not in ("GEM", "GMS"):
                self.complete(n)
                continue
            if i["fence"]:
                earlier = self.remaining("compute")[:n_before]
                yield "until", lambda earlier=earlier: all(e in self.completed for e in earlier)
            for tile in used_tiles(i, output):
                yield from self.operands(i, tile, use)
                yield from self.not_before(self.array_free)
                use += 1
                yield from self.stream(tile, use)
                if tile["last"]:
                    leave = self.pipeline_length(widest_tile(i, output)) if self.model == "pipelined" else 0
                    self.at(self.array_free + leave * TICKS, lambda n=n: self.complete(n))

    def operands(self, i, tile, use):
        """Wait until the operands of a tile are where it needs them."""
        if self.model != "pipelined" and self.flow in ("ws", "is") and (i.mnemonic == "GMS" or self.flow == "is"):
            yield from self.not_before(self.array_free)  # what stays in the array follows the fold before
        here = self.time
        self.load_began.setdefault(use, here)
        if i.mnemonic == "GEM":
            yield "until", lambda: use in self.loaded
        yield from self.not_before(here + self.load_cycles(i, tile) * TICKS)
        if self.model == "scalesim" and self.flow == "ws":
            yield from self.not_before(self.load_began[use] + self.machine.array.rows * TICKS)

    def load_cycles(self, i, tile):
        """Cycles for what comes from activation SRAM, from the moment the array may take it."""
        if self.model == "pipelined":
            b = 0 if i.mnemonic == "GEM" else tile["width"] if i["transpose_b"] else tile["depth"]
            return max(b, tile["depth"]) if self.flow == "is" else b
        if self.flow == "is":
            return self.machine.array.rows if tile["first strip"] else 0
        return tile["depth"] if self.flow == "ws" and i.mnemonic == "GMS" else 0

    def stream(self, tile, use):
        """Stream a tile, let the next one load, and wait for nothing else: ``array_free`` says when it is over."""
        cycles = {"ws": tile["rows"], "os": tile["depth"], "is": tile["width"]}[self.flow]
        completes = {"ws": True, "os": tile["last piece"], "is": tile["last strip"]}[self.flow]
        if self.model == "pipelined" and self.flow == "os" and completes:
            yield from self.not_before(self.outputs_gone - cycles * TICKS)
        self.streamed += cycles * TICKS
        self.array_free = self.time + cycles * TICKS
        if completes:
            self.outputs_gone = self.array_free + tile["rows"] * TICKS
        if completes and self.model != "pipelined":
            self.array_free += self.pipeline_length(tile) * TICKS
        if self.model == "scalesim" and self.flow == "ws":
            self.at(self.array_free, lambda: setattr(self, "grants", use))
        else:
            self.grants = use

    def pipeline_length(self, tile):
        """Cycles from the last operand in to the last result out."""
        array = self.machine.array
        if self.model == "scalesim":
            return array.rows + array.columns - 2
        if self.model == "stonne":
            return tile["rows"] + tile["width"] + 3
        return {
            "ws": tile["depth"] + tile["width"],
            "os": tile["rows"] + tile["width"],
            "is": tile["depth"] + tile["rows"],
        }[self.flow]

    # -- vector ----------------------------------------------------------------------------------------------------
    def vector(self):
        repetitions, window = 1, 1
        for _ in self.remaining("vector"):
            n, i = yield from self.start_next("vector")
            if i.mnemonic == "VBT":
                repetitions = i["count"]
            elif i.mnemonic == "VWN":
                window = i["kernel_h"] * i["kernel_w"]
            elif i.mnemonic == "VEC" and self.machine.vector.lanes:
                function = VECTOR_FUNCTIONS[i["function"]]
                work = i["rows"] * i["columns"] * repetitions * function.passes
                work *= window if function.windowed else 1
                yield "at", self.time + ceil(work, self.machine.vector.lanes) * TICKS
            self.complete(n)

    def traffic(self):
        """Bytes by kind."""
        traffic = defaultdict(int, instructions=self.fetched_blocks * BLOCK_BYTES)
        for n, blocks in self.blocks.items():
            i, size = self.program[n], blocks * BLOCK_BYTES
            if i.mnemonic == "LDW" and i["vector_length"] == stages(i) == 1 and not i["signed"]:
                traffic["weights"] += size
            elif i.mnemonic == "LDW":
                signs = size * i["vector_length"] // (i["code_bits"] + i["vector_length"]) if i["signed"] else 0
                traffic["signs"] += signs
                traffic["indices"] += size - signs
            elif i.mnemonic in ("GTH", "LDC"):
                traffic["parameters" if i.mnemonic == "GTH" else "codebooks"] += size
            else:
                traffic[i.spec.field("kind").choices[i["kind"]]] += size
        return {kind: size for kind, size in traffic.items() if size}
