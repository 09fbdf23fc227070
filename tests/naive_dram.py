"""DRAM once more, written to be obvious: one clock at a time, lists of requests, a log of commands, a table of gaps.

The slow twin of ``sim.dram``; it reads ``accel.dram`` and shares nothing else with it. A command may issue when every
gap to the last command it must keep a distance from has passed. Clocks count from 0. Each clock is: ``tick``, which
advances to it and lets the controller act, then any number of ``offer``. (The dramsim3 scheduler acts on what was
offered at the clock before the one ``tick`` advances to, which comes to the same for whoever offers.)
"""

from __future__ import annotations

from dataclasses import dataclass, field

from accel.dram import DramStandard, address_map

QUEUE = 32
DRAIN_ABOVE, DRAIN_UNTIL = 0.8 * QUEUE, 0.2 * QUEUE
BANK_QUEUE = 8
WORTH_DRAINING = 16
HITS_CAP = 4
ACCESSES = ("RD", "WR")


@dataclass(eq=False)
class Request:
    """One access. ``order`` counts arrivals; ``accepted``, ``done``: clocks.

    A write is done when its WR issues (row-hit), or when it is queued (dramsim3). Whoever posts writes may go on at
    ``accepted`` already.
    """

    address: int
    is_write: bool
    order: int = 0
    accepted: int | None = None
    done: int | None = None
    place: dict = field(default_factory=dict)
    tag: object = None

    @property
    def access(self):
        return "WR" if self.is_write else "RD"


class Devices:
    """Banks, and the clocks at which commands may issue."""

    def __init__(self, standard: DramStandard, width_bits: int, mapping: str):
        t, late = standard.timing, standard.activate_clocks - 1
        self.standard, self.t = standard, t
        self.map = address_map(standard, width_bits, mapping)
        self.banks = [
            (rank, group, bank)
            for rank in range(standard.pseudo_channels)
            for group in range(standard.bank_groups)
            for bank in range(standard.banks_per_group)
        ]
        self.row = dict.fromkeys(self.banks)  # open row, or None
        self.last = {}  # {(command, scope): clock}; scope: the first of (rank, group, bank)
        self.activates = {bank[0]: [] for bank in self.banks}  # clocks, by rank
        written = t.cwl + t.burst
        close = {"RD": t.trtp, "WR": written + t.twr, "ACT": t.tras + late}
        # {parts: {(earlier, later): clocks}}; so many parts of (rank, group, bank) must agree
        self.gaps = {
            3: {
                ("ACT", "ACT"): t.trc,
                ("ACT", "RD"): t.trcd_read + late,
                ("ACT", "WR"): t.trcd_write + late,
                ("PRE", "ACT"): t.trp - late,
                **{(command, "PRE"): gap for command, gap in close.items()},
            },
            2: {
                ("RD", "RD"): t.tccd_l,
                ("WR", "WR"): t.tccd_l,
                ("WR", "RD"): written + t.burst_extra + t.twtr_l,
                ("ACT", "ACT"): t.trrd_l,
            },
            1: {
                ("RD", "RD"): t.tccd_s,
                ("WR", "WR"): t.tccd_s,
                ("WR", "RD"): written + t.twtr_s,
                ("RD", "WR"): t.cl + t.burst + t.trtrs - t.cwl,
                ("ACT", "ACT"): t.trrd_s,
                ("PRE", "PRE"): t.tppd,
                ("PRE", "PREA"): t.tppd,
                ("PREA", "PRE"): t.tppd,
                ("PREA", "ACT"): t.trp_all - late,
                ("PREA", "REF"): t.trp,
                ("PRE", "REF"): t.trp,
                ("ACT", "REF"): t.trc + late,
                ("REF", "REF"): t.trfc,
                ("REF", "ACT"): t.trfc - late,
                ("REF", "PREA"): t.trfc,
                **{(command, "PREA"): gap for command, gap in close.items()},
            },
        }

    def locate(self, address):
        place = self.map.locate(address)
        return {"bank": (place["pseudo_channel"], place["group"], place["bank"]), "row": place["row"]}

    def ready(self, command, bank, clock):
        """Whether every gap to earlier commands has passed."""
        for parts, gaps in self.gaps.items():
            for (earlier, later), gap in gaps.items():
                if later == command and clock < self.last.get((earlier, bank[:parts]), -gap) + gap:
                    return False
        four_before = self.activates[bank[0]][-4:]
        return command != "ACT" or len(four_before) < 4 or four_before[0] + self.t.tfaw <= clock

    def do(self, command, bank, clock, row=None):
        self.last.update({(command, bank[:parts]): clock for parts in self.gaps})
        if command == "ACT":
            self.activates[bank[0]].append(clock)
            self.row[bank] = row
        elif command == "PRE":
            self.row[bank] = None
        elif command == "PREA":
            self.row.update({each: None for each in self.banks if each[0] == bank[0]})

    def open_banks(self, rank):
        return [bank for bank in self.banks if bank[0] == rank and self.row[bank] is not None]


class NaiveDram:
    """The row-hit scheduler."""

    def __init__(self, standard: DramStandard, width_bits: int, mapping: str):
        self.devices, self.standard, self.t = Devices(standard, width_bits, mapping), standard, standard.timing
        self.clock = self.arrivals = 0
        self.reads, self.writes = [], []
        self.active = []  # requests whose ACT has issued, in that order
        self.activating = None  # of them, the one whose second half of the ACT is due, and when at the latest
        self.synchronised = None
        self.data_clock_until = 0
        self.write_mode = False
        self.due = {bank[0]: 0 for bank in self.devices.banks}
        self.row_bus_free = self.column_bus_free = 0
        self.finishing = []
        self.counts = dict.fromkeys(("ACT", "PRE", "PREA", "REF", "RD", "WR", "hit"), 0)

    def offer(self, request: Request) -> bool:
        """Take a request at the present clock; False if there is no room."""
        queue = self.writes if request.is_write else self.reads
        if len(queue) >= QUEUE:
            return False
        request.accepted, request.place = self.clock, self.devices.locate(request.address)
        request.order, self.arrivals = self.arrivals, self.arrivals + 1
        if any(write.address == request.address for write in self.writes):
            self.finish(request, self.clock + 1)
        else:
            queue.append(request)
        return True

    def tick(self) -> list[Request]:
        """Advance one clock; the requests that are done at it."""
        self.clock += 1
        if self.clock % self.t.trefi == 0:
            self.due = {rank: due + 1 for rank, due in self.due.items()}
        if self.standard.dual_command:
            if not any(self.due.values()):
                self.served_queue()
            self.column_command(self.best_column())
            if self.clock >= self.row_bus_free:
                self.row_command(self.best_row())
        else:
            self.single_command()
        done = [request for request in self.finishing if request.done == self.clock]
        self.finishing = [request for request in self.finishing if request.done > self.clock]
        return done

    # -- which command -----------------------------------------------------------------------------------------------
    def single_command(self):
        if self.synchronised:
            self.column_command(self.synchronised)
            self.synchronised = None
            return
        column = self.best_active()
        if self.activating and self.activating[1] <= self.clock:
            self.second_half()
        elif column:
            self.synchronise_or_access(column)
        elif any(self.due.values()):
            self.row_command(self.best_row()) or self.second_half()
        else:
            column, row = self.best_column(), self.best_row()
            if column and (row is None or column.order < row[1].order):
                self.synchronise_or_access(column)
            elif not self.row_command(row):
                self.second_half()

    def second_half(self):
        if self.activating:
            self.activating = None

    def synchronise_or_access(self, request):
        if not self.t.twck_post or self.clock < self.data_clock_until:
            self.column_command(request)
        elif self.activating and self.activating[1] <= self.clock + 1:
            self.second_half()
        else:
            self.synchronised = request

    def served_queue(self):
        """The queue of the present mode, which is chosen anew."""
        if self.write_mode and len(self.writes) < DRAIN_UNTIL and self.reads:
            self.write_mode = False
        elif not self.write_mode and (len(self.writes) > DRAIN_ABOVE or not self.reads):
            self.write_mode = True
        return self.writes if self.write_mode else self.reads

    def may_access(self, request):
        bank, devices = request.place["bank"], self.devices
        is_open = devices.row[bank] == request.place["row"] and not self.is_activating(bank)
        return is_open and devices.ready(request.access, bank, self.clock)

    def is_activating(self, bank):
        return self.activating is not None and self.activating[0].place["bank"] == bank

    def best_active(self):
        """Activated requests go before waiting ones."""
        ready = [request for request in self.active if self.may_access(request)]
        return min(ready, key=lambda request: request.accepted, default=None)

    def best_column(self):
        ready = self.best_active()
        if ready or any(self.due.values()):
            return ready
        return next((request for request in self.served_queue() if self.may_access(request)), None)

    def best_row(self):
        """(command, request or bank) of the row command that should issue now."""
        devices, clock = self.devices, self.clock
        for rank, due in self.due.items():
            if due:
                return self.refresh_step(rank)
        for request in (queue := self.served_queue()):
            bank = request.place["bank"]
            if devices.row[bank] is None:
                if self.activating is None and devices.ready("ACT", bank, clock):
                    return "ACT", request
            elif request.place["row"] == devices.row[bank] or self.is_kept_open(request, queue):
                continue
            elif devices.ready("PRE", bank, clock):
                return "PRE", request
        return None

    def is_kept_open(self, request, queue):
        bank, row = request.place["bank"], self.devices.row[request.place["bank"]]
        if any(active.place["bank"] == bank for active in self.active):
            return True
        hits = [other for other in queue if other.place == {"bank": bank, "row": row}]
        return any(hit.accepted <= request.accepted for hit in hits)

    def refresh_step(self, rank):
        whole_rank = (rank, None, None)
        if not self.devices.open_banks(rank):
            return ("REF", whole_rank) if self.devices.ready("REF", whole_rank, self.clock) else None
        if any(request.place["bank"][0] == rank for request in self.active):
            return None
        return ("PREA", whole_rank) if self.devices.ready("PREA", whole_rank, self.clock) else None

    # -- commands ----------------------------------------------------------------------------------------------------
    def column_command(self, request):
        if request is None:
            return
        self.counts["hit"] += request not in self.active
        for queue in (self.active, self.reads, self.writes):
            if request in queue:
                queue.remove(request)
        self.record(request.access, request.place["bank"])
        latency = self.t.cwl if request.is_write else self.t.cl
        self.data_clock_until = max(self.data_clock_until, self.clock + latency + self.t.burst + self.t.twck_post)
        self.finish(request, self.clock if request.is_write else self.clock + self.t.cl + self.t.burst)

    def row_command(self, found):
        if found is None:
            return False
        command, target = found
        if command == "ACT":
            (self.writes if target.is_write else self.reads).remove(target)
            self.active.append(target)
            self.record(command, target.place["bank"], target.place["row"])
            self.row_bus_free = self.clock + self.standard.activate_clocks
            if self.t.taad:
                self.activating = (target, self.clock + self.t.taad)
        elif command == "PRE":
            self.record(command, target.place["bank"])
        else:
            self.record(command, target)
            if command == "REF":
                self.due[target[0]] -= 1
        return True

    def record(self, command, bank, row=None):
        self.counts[command] += 1
        self.devices.do(command, bank, self.clock, row)

    def finish(self, request, at):
        request.done = at
        self.finishing.append(request)


class NaiveRoundRobin:
    """The dramsim3 scheduler; writes are done as soon as they are queued."""

    def __init__(self, standard: DramStandard, width_bits: int, mapping: str):
        self.devices, self.standard, self.t = Devices(standard, width_bits, mapping), standard, standard.timing
        self.clock = 0
        self.reads, self.writes = [], []
        self.queues = {bank: [] for bank in self.devices.banks}
        self.served = dict.fromkeys(self.devices.banks, 0)  # accesses of the open row
        self.last_bank = self.devices.banks[0]
        self.refresh_due = 0
        self.draining = 0
        self.finishing = []
        self.counts = dict.fromkeys(("ACT", "PRE", "REF", "RD", "WR", "hit"), 0)

    def offer(self, request: Request) -> bool:
        """Take a request at the present clock; False if there is no room."""
        queue = self.writes if request.is_write else self.reads
        if len(queue) >= QUEUE:
            return False
        request.accepted, request.place = self.clock, self.devices.locate(request.address)
        queue.append(request)
        if request.is_write:
            self.finish(request, self.clock + 1)
        return True

    def tick(self) -> list[Request]:
        """Advance one clock; the requests that are done at it."""
        if self.clock and self.clock % self.t.trefi == 0:
            self.refresh_due += 1
        if self.refresh_due:
            self.refresh_step()
        else:
            first = self.issue_one()
            if first and self.standard.dual_command:
                self.issue_one(first)
        self.move_one()
        self.clock += 1
        done = [request for request in self.finishing if request.done == self.clock]
        self.finishing = [request for request in self.finishing if request.done > self.clock]
        return done

    def refresh_step(self):
        rank = (0, None, None)
        for bank in self.devices.open_banks(0):
            if self.devices.ready("PRE", bank, self.clock):
                self.record("PRE", bank)
                return
        if not self.devices.open_banks(0) and self.devices.ready("REF", rank, self.clock):
            self.record("REF", rank)
            self.refresh_due -= 1

    def issue_one(self, first=None):
        """One command; a second one of the clock only if one of the two is an access and the other is not."""
        banks = self.devices.banks
        start = banks.index(self.last_bank) + 1
        for bank in banks[start:] + banks[:start]:
            found = self.first_ready(bank)
            if found:
                self.last_bank = bank
                if first is None or (found[0] in ACCESSES) != (first in ACCESSES):
                    self.issue(*found)
                return found[0]
        return None

    def first_ready(self, bank):
        """(command, request) of the first entry of a bank's queue whose next command may issue."""
        queue, row, clock = self.queues[bank], self.devices.row[bank], self.clock
        for position, request in enumerate(queue):
            if row is None:
                command = "ACT"
            elif request.place["row"] == row:
                command = request.access
                if request.is_write and any(
                    other.address == request.address and not other.is_write for other in queue[:position]
                ):
                    continue
            else:
                command = "PRE"
                hits_wait = any(other.place["row"] == row for other in queue)
                if position > 0 or (hits_wait and self.served[bank] < HITS_CAP):
                    continue
            if self.devices.ready(command, bank, clock):
                return command, request
        return None

    def issue(self, command, request):
        bank = request.place["bank"]
        if command in ACCESSES:
            self.counts["hit"] += self.served[bank] > 0
            self.served[bank] += 1
            self.queues[bank].remove(request)
            if command == "RD":
                self.finish(request, self.clock + self.t.cl + self.t.burst + 1)
        elif command == "ACT":
            self.served[bank] = 0
        self.record(command, bank, request.place["row"])

    def move_one(self):
        """The first transaction whose bank has room goes there."""
        if not self.draining and (len(self.writes) >= QUEUE or (not self.reads and len(self.writes) >= WORTH_DRAINING)):
            self.draining = len(self.writes)
        source = self.writes if self.draining else self.reads
        for request in source:
            queue = self.queues[request.place["bank"]]
            if len(queue) < BANK_QUEUE:
                queue.append(request)
                source.remove(request)
                self.draining -= self.draining > 0
                return

    def record(self, command, bank, row=None):
        self.counts[command] += 1
        self.devices.do(command, bank, self.clock, row)

    def finish(self, request, at):
        request.done = at
        self.finishing.append(request)


SCHEDULERS = {"row-hit": NaiveDram, "dramsim3": NaiveRoundRobin}


def replay(dram: NaiveDram | NaiveRoundRobin, requests: list[Request], outstanding: int = 0) -> None:
    """Offer ``requests`` in order, up to four a clock, and run until all are done."""
    sent = under_way = 0
    while any(request.done is None for request in requests) or dram.finishing:
        for _ in range(4):
            if sent == len(requests) or 0 < outstanding <= under_way or not dram.offer(requests[sent]):
                break
            sent, under_way = sent + 1, under_way + 1
        under_way -= len(dram.tick())
