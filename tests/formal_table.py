"""The table of proofs: what is proved of which unit, for how long, and the broken units each proof rejects."""

from __future__ import annotations

from formal_codebook import codebooks
from formal_core import core
from formal_flow import Mutant, Proof
from formal_halves import halves, room_of_halves
from formal_layers import layers
from formal_queues import credit_queue, full_speed, queue, skid
from formal_sequencer import groups, placer, tiles
from formal_splitter import splitter
from formal_words import extractor, words, words_room

LATEST = 11  # cycles from announcement to arrival that 16 places cover at full speed
PLAIN, SIGNED = "vq:k=16,d=4", "ssvq:k=16,d=4"
# Bits of a field and of a word: with all bits in use, and with some left over as aligned records have them.
EIGHT = {"word_bits": 8, "formats": ((3, 8), (2, 8), (3, 6)), "lookups": 2}
FULL = {"word_bits": 8, "formats": ((3, 8), (2, 8)), "lookups": 2}
FIELDS = ((3, 16), (2, 16), (3, 12))

QUEUE = {
    "no place for late writes": Mutant("rtl.queue", "_depth - 1 - LATE_WRITES", "_depth - LATE_WRITES"),
    "replaces its output": Mutant("rtl.queue", "(head != tail) & (~self.valid | self.take)", "head != tail"),
    "reads over its output": Mutant("rtl.queue", "read.en.eq(~self.valid | self.take)", "read.en.eq(1)"),
    "shows what an empty queue reads": Mutant("rtl.queue", "(head != tail) & (~", "1 & (~"),
    "repeats an entry": Mutant("rtl.queue", "with m.If(fetch)", "with m.If(self.take)"),
    "output never ends": Mutant("rtl.queue", "fetch | (self.valid & ~self.take)", "fetch | self.valid"),
}
SKID = {
    "keeps late": Mutant("rtl.skid", "with m.If(~full)", "with m.If(self.output.ready)"),
    "forgets": Mutant("rtl.skid", "full.eq(self.output.valid &", "full.eq(self.input.valid &"),
}
CREDIT = {
    "margin of 2": Mutant("rtl.credit_queue", "self._depth - 3", "self._depth - 2", {"depth": 4}),
    "takes what is not there": Mutant(
        "rtl.credit_queue", "queue.valid & self.output.ready", "self.output.ready", {"depth": 4}
    ),
}
WORDS = {
    "flag of two told late": Mutant("rtl.words", "level > left + 1, level > 1", "level > left + 2, level > 2"),
    "flag of two kept late": Mutant("rtl.words", "Mux(go, level > left + 1, level > 1)", "level > 1"),
    "first gone late": Mutant("rtl.words", "Mux(go, level > left, level > 0)", "level > 0"),
    "wrong head after leave_both": Mutant("rtl.words", "head.eq(head + left)", "head.eq(head + 1)"),
    "leaves one of two": Mutant("rtl.words", "Mux(self.place.leave_both, 2, 1)", "1"),
    "straddles unready": Mutant("rtl.words", "(one & ~self.place.straddle)", "one"),
    "never straddles": Mutant("rtl.extractor", "self.place.straddle.eq(~beyond[-1])", "self.place.straddle.eq(0)"),
    "end forgotten": Mutant(
        "rtl.extractor",
        "Mux(self.end, 0, Mux(excess[-1], total, excess)[:bits])",
        "Mux(excess[-1], total, excess)[:bits]",
    ),
}
ROOM = {
    "room margin one too large": Mutant("rtl.words", "DEPTH - 1 - LATE_WRITES", "DEPTH - LATE_WRITES"),
    "two counted as one": Mutant("rtl.words", "two.eq(Mux(go, level > left + 1, ", "two.eq(Mux(go, level > left, "),
}
BLOCK_WORDS = {
    "reads behind": Mutant("rtl.words", "else heads[1]", "else heads[0]"),
}
EXTRACTOR = {
    "shift not delayed": Mutant("rtl.extractor", "bits, shift = stage, later", "bits = stage"),
    "window cut": Mutant("rtl.extractor", "(1 << low) - 1", "(1 << low) - 2"),
    "joint too short": Mutant(
        "rtl.extractor", "joined[length : length + reach].eq", "joined[length : length + reach - 3].eq"
    ),
    "stays in a full word": Mutant("rtl.extractor", "Mux(excess[-1], total, excess)", "Mux(beyond[-1], total, excess)"),
}
SPLITTER = {
    "writes without room": Mutant("rtl.splitter", "(~wants_code | self.code_room) &", ""),
    "strip a beat short": Mutant(
        "rtl.splitter", "index == job.strip.beats_less_2", "index + 1 == job.strip.beats_less_2"
    ),
    "nearly last not cleared": Mutant(
        "rtl.splitter", "(index == job.strip.beats_less_2) & ~last", "index == job.strip.beats_less_2"
    ),
    "keeps surplus": Mutant("rtl.splitter", "missed | (surplus & ~over)", "0"),
    "never recovers": Mutant(
        "rtl.splitter", "given.eq(~self.job.valid & ~late)", "given.eq(given | ~self.job.valid & ~late)"
    ),
    "makes what is dropped": Mutant("rtl.splitter", "reduce(or_, opening) & ~self.job.p.drop", "reduce(or_, opening)"),
    "takes a beat unheeded": Mutant("rtl.splitter", "(opened & has_room)", "opened"),
    "late goes untold": Mutant("rtl.splitter", "missed.eq(fresh & opened & ~beat.last)", "missed.eq(0)"),
    "done a beat late": Mutant("rtl.splitter", "index == part.less_2", "index == part.less_2 + 1"),
    "single not told": Mutant("rtl.splitter", "self.job.p.drop | first.single", "self.job.p.drop"),
    "job copied but not taken": Mutant(
        "rtl.splitter", "self.job.ready.eq(fresh & self.job.valid)", "self.job.ready.eq(0)"
    ),
    "job taken before its strip": Mutant("rtl.splitter", "self.job.ready.eq(fresh & ", "self.job.ready.eq("),
}
SIDES = {
    "words of one kind": Mutant("rtl.splitter", "Mux(phase_end, 0, passed + 1)", "passed + 1"),
    "sides first": Mutant("rtl.splitter", "[strip.aligned | ~in_sides]", "[strip.aligned | in_sides]"),
    "double not told": Mutant("rtl.splitter", "nearly.eq(first.double)", "nearly.eq(0)"),
    "sides at once": Mutant("rtl.splitter", "([aligned], [strip", "([Const(1)], [strip"),
    "side bits from codes": Mutant(
        "rtl.splitter",
        "bits[at + row.code_bits : at + row.record_bits]",
        "bits[at : at + row.record_bits - row.code_bits]",
    ),
}
HALF_WORDS = {
    "upper half not waited for": Mutant("rtl.words", "there[-1], there[0]", "there[0], there[0]"),
    "always waits for a whole word": Mutant("rtl.words", "there[-1], there[0]", "there[-1], there[-1]"),
    "halves never swapped": Mutant("rtl.packer", "odd ^ upper_alone", "upper_alone"),
    "upper half alone not moved": Mutant("rtl.packer", "odd ^ upper_alone", "odd"),
    "one half fills a word": Mutant("rtl.packer", "(odd ^ self.take.xor())", "(odd ^ self.take.all())"),
    "strip goes on in an open word": Mutant("rtl.packer", " & ~self.close)", ")"),
    "open word not closed": Mutant("rtl.words", "tails[0] + self.write[0]", "tails[1] + self.write[1]"),
    "closed before its last half": Mutant("rtl.words", "tails[0] + self.write[0]", "tails[0]"),
    "end in the wrong half": Mutant("rtl.extractor", "position + self.step.bits_less_1", "position + self.step.bits"),
}
NO_ROOM = {"never any room": Mutant("rtl.words", "levels[0] <= DEPTH", "levels[0] > DEPTH")}
HALF_ROOM = {
    "room of whole words": Mutant("rtl.words", "levels[0] <= DEPTH", "levels[-1] <= DEPTH"),
}
HALVES = {
    "upper half kept": Mutant("rtl.splitter", "opening[1] & ~cut_opening", "opening[1]"),
    "cut a beat late": Mutant("rtl.splitter", "following[1] & ~cut_following", "following[1]"),
    "halves alike": Mutant("rtl.splitter", "(passed >= strip.code_words_less_1)", "(passed > strip.code_words_less_1)"),
    "superblock a word long": Mutant("rtl.splitter", "passed != strip.words_less_2 + 1", "1"),
    "never begins anew": Mutant("rtl.splitter", "Mux(rest[-1], passed + 2, rest)", "passed + 2"),
    "two words not told": Mutant("rtl.splitter", "Mux(self.job.p.strip.words_less_2 == 0, 0, 2)", "2"),
    "closes early": Mutant("rtl.splitter", "eq(accept & wants & done)", "eq(accept & wants & nearly)"),
    "never closes": Mutant("rtl.splitter", "eq(accept & wants & done)", "eq(0)"),
    "aligned cut": Mutant("rtl.splitter", "nearly & part.short & ~job.strip.aligned", "nearly & part.short"),
}
TILES = {
    "all wait": Mutant("rtl.sequencer", "job.first & ~started & ~granted", "~started & ~granted"),
    "last like the others": Mutant("rtl.sequencer", "Mux(end, job.last_run, job.run)", "job.run"),
    "a tile short": Mutant("rtl.sequencer", "index == job.tiles_less_2", "index + 1 == job.tiles_less_2"),
    "makes what is dropped": Mutant("rtl.sequencer", "self.tile.valid.eq(~job.drop)", "self.tile.valid.eq(1)"),
}
LAYERS = {
    "idle told late": Mutant("rtl.codebook", " & ~self.begin)", ")"),
    "begins on the codebook of another": Mutant("rtl.sequencer", "& ~begins & ~self.layer_begun &", "& ~begins &"),
    "drops beside others": Mutant("rtl.sequencer", "(self.idle | ~job.drop)", "1"),
}
GROUPS = {
    "a group short": Mutant("rtl.sequencer", "index == tile.run.groups_less_2", "index + 1 == tile.run.groups_less_2"),
    "loses one": Mutant("rtl.sequencer", "go = self.group.valid & self.group.ready", "go = self.group.valid"),
    "all end": Mutant("rtl.sequencer", "end & tile.strip_end", "tile.strip_end"),
}
PLACER = {
    "loses one": Mutant("rtl.placer", "move.eq(go & self.credit)", "move.eq(stepped)"),
    "replaces one": Mutant("rtl.placer", "~placed.valid | placed.ready", "1"),
    "credit ignored": Mutant("rtl.placer", "move.eq(go & self.credit)", "move.eq(go)"),
    "placed without credit": Mutant("rtl.placer", "stepped & self.credit", "stepped"),
    "credit for nothing": Mutant("rtl.placer", "self.start.eq(move & stepped)", "self.start.eq(move)"),
    "end of another": Mutant("rtl.placer", "pointer.end.eq(group.strip_end)", "pointer.end.eq(first.strip_end)"),
    "moves on for nothing": Mutant("rtl.placer", "pointer.advance.eq(move & stepped)", "pointer.advance.eq(move)"),
}
PLACER_SIDES = {
    "sides step like codes": Mutant("rtl.placer", "row.field(name, ", "row.field('code', "),
}
PLACER_PAIRS = {
    "last group as long as the others": Mutant("rtl.placer", "(extra + 1) * each", "config.lookups * each"),
}
PLACER_HALVES = {
    "end told by another bit": Mutant("rtl.extractor", "bits_less_1)[bits - 1]", "bits_less_1)[bits - 4]"),
}
CODEBOOKS = {
    "taken early": Mutant("rtl.codebook", "(free != done) | self.release)", "(free != 0) | self.release)"),
    "taken while it counts": Mutant(
        "rtl.codebook", "((free != done) | self.release) & ~end", "(free != done) | self.release"
    ),
    "release before the last lookup": Mutant(parameters={"late": 2}),
    "one bank only": Mutant("rtl.codebook", "bank.eq(bank ^ load.last)", "bank.eq(bank)"),
    "overflow kept": Mutant("rtl.codebook", "taken & ~overflow", "taken"),
    "free until begun": Mutant("rtl.codebook", "free - done + self.release", "free - self.begin + self.release"),
}
CORE = {
    "group made again": Mutant("rtl.core", "placed.ready.eq(issue)", "placed.ready.eq(0)"),
    "blocked when it flows": Mutant("rtl.core", "self.output.valid & ~self.output.ready", "self.output.valid"),
    "starved while it works": Mutant("rtl.core", "placer.placed.valid & ~ready", "placer.placed.valid"),
    "no credit asked": Mutant("rtl.core", "placer.credit.eq(end.credit)", "placer.credit.eq(1)"),
    "release before the last lookup": Mutant(
        "rtl.core", "books.release.eq(last |", "books.release.eq(tiles.layer_begun |"
    ),
}

PROOFS = (
    Proof("skid", skid, "prove", 4, mutants=SKID),
    Proof("queue of 4", queue, "prove", 6, {"depth": 4}, mutants=QUEUE),
    Proof("queue of 8", queue, "prove", 6, {"depth": 8}),
    Proof("queue of 16", queue, "prove", 6, {"depth": 16}, cover_depth=40),
    Proof("credit queue", credit_queue, "prove", 6, {"depth": 16}, mutants=CREDIT),
    Proof(
        "full speed",
        full_speed,
        "prove",
        4,
        {"depth": 16, "latency": LATEST},
        mutants={"a cycle more": Mutant(parameters={"latency": LATEST + 1})},
    ),
    Proof("words", words, "prove", 2, {**EIGHT, "style": "distributed"}, 25, WORDS, 10),
    Proof("room of words", words_room, "prove", 2, {}, 20, ROOM),
    Proof("words in block RAM", words, "prove", 2, {**EIGHT, "style": "block"}, 25, BLOCK_WORDS, 10),
    Proof("halves of words", halves, "prove", 2, {**FULL, "style": "distributed"}, 20, HALF_WORDS, 12),
    Proof("room of halves", room_of_halves, "prove", 2, {}, 20, NO_ROOM),
    Proof("room of halves to the brim", room_of_halves, "bmc", 6, {}, 20, HALF_ROOM, slow=True),
    Proof("halves of words in block RAM", halves, "prove", 2, {**FULL, "style": "block"}),
    Proof("fields", extractor, "prove", 6, {"word_bits": 16, "formats": FIELDS, "lookups": 1}),
    Proof(
        "pairs of fields", extractor, "prove", 6, {"word_bits": 16, "formats": FIELDS, "lookups": 2}, 20, EXTRACTOR, 10
    ),
    Proof("splitter", splitter, "prove", 4, {"codec": PLAIN, "count_bits": 3}, 20, SPLITTER, 10),
    Proof("splitter of two kinds", splitter, "prove", 4, {"codec": SIGNED, "count_bits": 3}, 20, SIDES, 10),
    Proof(
        "splitter of halves",
        splitter,
        "prove",
        4,
        {"codec": SIGNED, "count_bits": 3, "input_bits": 128},
        20,
        HALVES,
        10,
    ),
    Proof("tiles", tiles, "prove", 4, {"codec": PLAIN, "count_bits": 2}, 20, TILES, 12),
    Proof("groups", groups, "prove", 4, {"codec": PLAIN, "count_bits": 2, "lookups": 2}, 20, GROUPS, 12),
    Proof("placer", placer, "prove", 4, {"codec": PLAIN, "count_bits": 2, "lookups": 1}, 40, PLACER, 20),
    Proof(
        "placer of two kinds", placer, "prove", 4, {"codec": SIGNED, "count_bits": 2, "lookups": 1}, 12, PLACER_SIDES
    ),
    Proof(
        "placer of pairs", placer, "prove", 4, {"codec": SIGNED, "count_bits": 2, "lookups": 2}, 16, PLACER_PAIRS, 12
    ),
    Proof("placer of fours", placer, "prove", 4, {"codec": SIGNED, "count_bits": 2, "lookups": 4}, 12),
    Proof(
        "placer of halves",
        placer,
        "prove",
        4,
        {"codec": SIGNED, "count_bits": 2, "lookups": 1, "input_bits": 128},
        12,
        PLACER_HALVES,
        12,
    ),
    Proof("codebooks", codebooks, "prove", 6, {"codec": "vq:k=2,d=4", "late": 1}, 20, CODEBOOKS, 12),
    Proof("layers", layers, "prove", 4, {"codec": "vq:k=2,d=4", "count_bits": 2}, 20, LAYERS, 16),
    Proof("core", core, "bmc", 23, {"codec": PLAIN, "count_bits": 2}, 20, CORE, 20),
    Proof("core with signs", core, "bmc", 24, {"codec": SIGNED, "count_bits": 2}, 24, slow=True),
)
