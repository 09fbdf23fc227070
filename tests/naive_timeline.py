"""What ``naive.Naive`` does, written down: the slow twin of the slices of a timeline (ideal DRAM only)."""

from __future__ import annotations

from naive import TICKS, Naive

from accel.isa import BLOCK_BYTES


def millicycles(tick):
    return tick * 1000 // TICKS


class NaiveTimeline(Naive):
    """``slices``: (track, begin, end, instruction, bytes) of every tile, burst and instruction, in millicycles."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.spans, self.users, self.fetches = [], {}, 0

    def transfer(self, who, n, instruction):
        self.users[who] = n
        yield from super().transfer(who, n, instruction)

    def arbitrate(self):
        standing = set(self.requests)
        granted = super().arbitrate()
        for who in standing - set(self.requests):
            user = 4 * self.fetches if who == "fetch" else self.users[who]
            self.fetches += who == "fetch"
            track = "words" if who == "fetch" else "data"
            self.spans.append((track, self.time, self.time + self.block_ticks, user, BLOCK_BYTES))
        return granted

    def decode_cycles(self, dec, rows, place, strip):
        cycles = super().decode_cycles(dec, rows, place, strip)
        self.spans.append(("decoder", self.time, self.time + cycles * TICKS, self.finished["decode"][-1], 0))
        return cycles

    def stream(self, tile, use):
        before = self.streamed
        yield from super().stream(tile, use)
        end = self.time + self.streamed - before
        self.spans.append(("array: streams", self.time, end, self.finished["compute"][-1], 0))

    @property
    def slices(self):
        """Bursts that follow each other without a gap are one."""
        joined = [span for span in self.spans if not span[4]]
        bursts = []
        for span in (span for span in self.spans if span[4]):
            before = bursts[-1] if bursts else (None,) * 5
            if (before[0], before[2], before[3]) == (span[0], span[1], span[3]):
                bursts[-1] = (*before[:2], span[2], span[3], before[4] + span[4])
            else:
                bursts.append(span)
        joined += bursts
        for n, instruction in enumerate(self.program):
            joined.append((instruction.spec.queue, self.started[n], self.completed[n], n, 0))
        return sorted((name, millicycles(a), millicycles(b), n, size) for name, a, b, n, size in joined)
