"""Hardware side. Here now: ``rtl.export``, which writes the weight streams of a program as files for a testbench."""
