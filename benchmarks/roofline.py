"""DeiT-tiny against the closed form: simulated cycles at 50 points of array size, bandwidth and codec."""

from __future__ import annotations

from accel.cli.pipeline_reference import TOLERANCE, compressed, measure, pipeline_reference_points


def main() -> bool:
    """Print the table; whether every point lies between the bounds."""
    print(f"DeiT-tiny, cycles; required: perfect <= ours <= {TOLERANCE} x next")
    print(f"{'array':>5} {'B/cycle':>8} {'codec':<15}{'perfect':>10}{'ours':>10}{'next':>10}{'ours/next':>11}")
    met = True
    for point in measure({codec: compressed(codec) for codec in {row.codec for row in pipeline_reference_points()}}):
        met &= point.is_within
        row, verdict = point.reference, "" if point.is_within else "  MISSED"
        figures = (
            f"{row.perfect_cycles:>10}{point.cycles:>10}{row.next_cycles:>10}{point.cycles / row.next_cycles:>11.4f}"
        )
        print(f"{row.array:>5} {row.bytes_per_cycle:>8} {row.codec:<15}{figures}{verdict}")
    print("every point is within the bounds" if met else "some points are outside the bounds")
    return met
