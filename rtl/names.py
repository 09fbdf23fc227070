"""What a decoder is called in Verilog, in C and in FuseSoC: decoders of different names live in one design."""

from __future__ import annotations

import re
from dataclasses import dataclass

from accel.errors import ConfigError
from rtl.verilog import TOP

# IEEE 1800-2017, table B.1; holds all keywords of Verilog (IEEE 1364-2005).
_TABLE_B1 = """
accept_on alias always always_comb always_ff always_latch and assert assign assume automatic before begin bind bins
binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle checker class clocking cmos config const
constraint context continue cover covergroup coverpoint cross deassign default defparam design disable dist do edge else
end endcase endchecker endclass endclocking endconfig endfunction endgenerate endgroup endinterface endmodule endpackage
endprimitive endprogram endproperty endsequence endspecify endtable endtask enum event eventually expect export extends
extern final first_match for force foreach forever fork forkjoin function generate genvar global highz0 highz1 if iff
ifnone ignore_bins illegal_bins implements implies import incdir include initial inout input inside instance int integer
interconnect interface intersect join join_any join_none large let liblist library local localparam logic longint
macromodule matches medium modport module nand negedge nettype new nexttime nmos nor noshowcancelled not notif0 notif1
null or output package packed parameter pmos posedge primitive priority program property protected pull0 pull1 pulldown
pullup pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase randsequence rcmos real realtime ref reg
reject_on release repeat restrict return rnmos rpmos rtran rtranif0 rtranif1 s_always s_eventually s_nexttime s_until
s_until_with scalared sequence shortint shortreal showcancelled signed small soft solve specify specparam static string
strong strong0 strong1 struct super supply0 supply1 sync_accept_on sync_reject_on table tagged task this throughout time
timeprecision timeunit tran tranif0 tranif1 tri tri0 tri1 triand trior trireg type typedef union unique unique0 unsigned
until until_with untyped use uwire var vectored virtual void wait wait_order wand weak weak0 weak1 while wildcard wire
with within wor xnor xor
"""
KEYWORDS = frozenset(_TABLE_B1.split())
_ALLOWED = "letters, digits and _, the first a letter"


@dataclass(frozen=True, slots=True)
class DecoderNames:
    """All names of a decoder, from the one it was given, which is that of its Verilog module.

    C macros are in capitals: names that differ in case only are one to C. Raises ``ConfigError`` for a name that is
    not one of letters, digits and underscores, the first a letter, or that is a keyword.
    """

    module: str = TOP

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.module):
            raise ConfigError(f"decoder named {self.module!r}; allowed: {_ALLOWED}")
        if self.module in KEYWORDS:
            raise ConfigError(
                f"decoder named {self.module!r}, a keyword of SystemVerilog; allowed: others of {_ALLOWED}"
            )

    @property
    def verilog(self) -> str:
        """The file of the module."""
        return f"{self.module}.v"

    @property
    def testbench(self) -> str:
        """The module of the testbench; its file is called the same."""
        return f"{self.module}_tb"

    @property
    def prefix(self) -> str:
        """Of C functions and types."""
        return f"accel_{self.module}"

    @property
    def macro_prefix(self) -> str:
        """Of C macros and constants."""
        return self.prefix.upper()

    @property
    def header(self) -> str:
        """The C header."""
        return f"{self.prefix}.h"

    @property
    def core(self) -> str:
        """The file that describes the FuseSoC core."""
        return f"{self.module}.core"

    def fields(self) -> dict[str, str]:
        """Each name under the field by which templates tell it."""
        return {
            "module": self.module,
            "verilog": self.verilog,
            "testbench": self.testbench,
            "prefix": self.prefix,
            "PREFIX": self.macro_prefix,
            "header": self.header,
            "core": self.core,
            "blank": " " * len(self.prefix),  # what lines begin with that go on below a prefix
        }


DECODER = DecoderNames()
