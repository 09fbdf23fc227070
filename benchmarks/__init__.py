"""Benchmarks of this project, run with ``python -m benchmarks NAME``; not shipped in the wheel."""
