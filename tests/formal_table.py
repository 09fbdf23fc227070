"""The table of proofs."""

from __future__ import annotations

from formal_flow import Mutant, Proof
from formal_queues import credit_queue, full_speed, queue, skid

LATEST = 11  # cycles from announcement to arrival that 16 places cover at full speed

PROOFS = (
    Proof(
        "skid",
        skid,
        "prove",
        4,
        mutants={
            "keeps late": Mutant("rtl.skid", "with m.If(~full)", "with m.If(self.output.ready)"),
            "forgets": Mutant("rtl.skid", "full.eq(self.output.valid &", "full.eq(self.input.valid &"),
        },
    ),
    *(
        Proof(
            f"queue of {depth}",
            queue,
            "prove",
            6,
            {"depth": depth},
            cover_depth=40,
            mutants={
                "no place for late writes": Mutant("rtl.queue", "LATE_WRITES = 3", "LATE_WRITES = 2"),
                "replaces its output": Mutant("rtl.queue", "(~self.valid | self.take)", "1"),
                "repeats an entry": Mutant("rtl.queue", "head.eq(head + fetch)", "head.eq(head + self.take)"),
                "output never ends": Mutant("rtl.queue", "fetch | (self.valid & ~self.take)", "fetch | self.valid"),
            }
            if depth == 4
            else {},
        )
        for depth in (4, 8, 16)
    ),
    Proof(
        "credit queue",
        credit_queue,
        "prove",
        6,
        {"depth": 16},
        mutants={
            "margin of 2": Mutant("rtl.credit_queue", "self._depth - 3", "self._depth - 2", {"depth": 4}),
            "counts what is not there": Mutant(
                "rtl.credit_queue", "queue.valid & self.output.ready", "self.output.ready", {"depth": 4}
            ),
        },
    ),
    Proof(
        "full speed",
        full_speed,
        "prove",
        4,
        {"depth": 16, "latency": LATEST},
        mutants={"a cycle more": Mutant(parameters={"latency": LATEST + 1})},
    ),
)
