"""Hardware side: generators in Amaranth, their Verilog, its size and speed on FPGAs, weight streams for testbenches.

``verilog`` writes Verilog, ``fpga`` measures it (``devices``, ``harness``, ``fpga_report``), ``netlist`` makes what was
synthesised simulable, ``tools`` runs tools of others, ``export`` writes the weight streams of a program.
"""
