"""The paragraph under the table of ``accel compare``: what the best format gains on a machine, why, and up to where."""

from __future__ import annotations

from accel.cli.comparison import SLOWER, WORTHWHILE_GAIN, MachineResult
from accel.cli.run_tables import dram_text, weights_text
from accel.metrics import CAUSES
from accel.reporting import dominant, dram_busy, times_less
from accel.run import Run


def verdict(result: MachineResult, curve_file: str = "") -> str:
    """One paragraph: what the best format gains on this machine, why, and up to which bandwidth.

    ``curve_file`` is where to find the curve; a document goes elsewhere without the files beside it.
    """
    sentences = (
        _gain(result),
        _answers(result),
        _why(result),
        _vector(result),
        _reloads(result),
        crossover_text(result, curve_file),
        _slower(result),
        _caveats(result),
    )
    return f"{result.machine.name}: " + " ".join(filter(None, sentences))


def _gain(result: MachineResult) -> str:
    best, int8 = result.best, result.baseline
    if best is int8:
        return f"int8 alone: {int8.whole.total_cycles:,} cycles; there is no compressed format to compare with."
    speedup = result.speedup(best)
    return (
        f"{_judgement(result)}: {best.codec}, the fastest compressed format, runs {speedup:.2f}x as fast as int8 "
        f"(whole network; GEMM-only {result.gemm_speedup(best):.2f}x) and moves "
        f"{best.whole.dram_bytes_total / 1e6:.3f} MB instead of {int8.whole.dram_bytes_total / 1e6:.3f} MB "
        f"({times_less(result.traffic_ratio(best))})."
    )


ANSWERS_HOLD = 0.95  # cosine with the float model's outputs below which a verdict on speed alone would mislead


def _answers(result: MachineResult) -> str:
    """What the gain costs, where programs were executed."""
    best, int8 = result.best, result.baseline
    if best.output_cosine is None or int8.output_cosine is None or best is int8:
        return ""
    lost = "" if best.output_cosine >= ANSWERS_HOLD else ": without fine-tuning this format does not keep the answers"
    return (
        f"Its outputs have a cosine of {best.output_cosine:.4f} with the float model's, int8's {int8.output_cosine:.4f}"
        f"{lost}."
    )


def _judgement(result: MachineResult) -> str:
    """Compression is credited with a gain only where fewer DRAM bytes explain it."""
    if round(result.speedup(result.best), 2) < WORTHWHILE_GAIN:
        return "compression does not pay here"
    if result.gains_from_memory:
        return "compression pays"
    return (
        "there is a gain, but not one of memory traffic (int8 is not short of DRAM, or the gain stays when there is "
        "plenty): the formats differ in how they map onto the array"
    )


def _slower(result: MachineResult) -> str:
    """Where in the sweep the format that falls behind int8 most is slower than int8, if one is."""
    worst = min(result.results, key=lambda each: min(result.speedup_curve(each)))
    curve = result.speedup_curve(worst)
    slower = [bandwidth for bandwidth, speedup in zip(result.bandwidths, curve, strict=True) if speedup < SLOWER]
    if not slower:
        return ""
    crossing = result.crossing(worst, SLOWER)
    if crossing.bandwidth is not None:
        where = f"Above {crossing.bandwidth:.3g} B/cycle"
    elif crossing.status == "never gains":
        where = "At every bandwidth tried"
    else:
        reach = f"{slower[0]:.3g}" if len(slower) == 1 else f"{slower[0]:.3g} to {slower[-1]:.3g}"
        where = f"At {reach} B/cycle"
    return f"{where} {worst.codec} is slower than int8 (down to {min(curve):.2f}x)."


def _why(result: MachineResult) -> str:
    return "; ".join(f"{each.codec} is {bound_sentence(each.whole)}" for each in result.highlights) + "."


def bound_sentence(run: Run) -> str:
    """``bound by compute (87 % of cycles: the array streams ...; DRAM is busy 20 %)``, from the table of causes."""
    cause, share = dominant(run.cycles_by_cause)
    name = cause.replace("_", " ")
    return f"bound by {name} ({percent(share)} of cycles: {CAUSES[cause]}; DRAM is busy {percent(dram_busy(run))})"


def percent(share: float) -> str:
    """``50 %``."""
    return f"{100 * share:.0f} %"


def _vector(result: MachineResult) -> str:
    if not result.machine.vector.lanes:
        return "The vector unit is free on this machine (vector.lanes = 0)."
    shares = " and ".join(f"{percent(each.vector_share)} of the cycles of {each.codec}" for each in result.highlights)
    return f"What the vector unit costs: a free one would save {shares}."


def _reloads(result: MachineResult) -> str:
    """Weights loaded more than once are traffic a larger SRAM would save, and part of what the formats differ in."""
    shares = [f"{_reloaded_bytes(each.whole) / 1e6:.1f} MB of {each.codec}'s" for each in result.highlights]
    if not any(_reloaded_bytes(each.whole) for each in result.highlights):
        return ""
    return f"Weights loaded more than once, as memories are too small: {' and '.join(shares)} traffic."


def _reloaded_bytes(run: Run) -> int:
    """Bytes of weight streams moved beyond one load of each."""
    once = run.program.get("report", {}).get("weight_stream_bytes", 0)
    moved = sum(run.dram_bytes[kind] for kind in ("weights", "indices", "signs"))
    return max(0, moved - int(once)) if once else 0


def crossover_text(result: MachineResult, curve_file: str = "") -> str:
    """Where on the curve this machine stands, and where the gain ends; never a number without its curve."""
    if result.best is result.baseline:
        return ""
    low, high = result.bandwidths[0], result.bandwidths[-1]
    crossover, codec = result.crossover, result.best.codec
    own = f"this machine has {result.machine.bandwidth_bytes_per_cycle:.3g} B/cycle"
    if crossover.bandwidth is not None:
        where = f"Crossover: above {crossover.bandwidth:.3g} B/cycle {codec} gains less than {WORTHWHILE_GAIN}x"
    elif crossover.status == "never gains":
        where = f"Crossover: below {low:.3g} B/cycle, the lowest tried; {codec} never gains {WORTHWHILE_GAIN}x"
    else:
        where = f"Crossover: above {high:.3g} B/cycle, the highest tried; {codec} gains {WORTHWHILE_GAIN}x throughout"
    curve = f"the curve in {curve_file}" if curve_file else "the curve of speed-up against bandwidth"
    return f"{where}; {own}; the speed-up is one point of {curve}."


def _caveats(result: MachineResult) -> str:
    weights = weights_text(result.weights).removeprefix("weights ")
    return f"DRAM model: {dram_text(result.machine)}. Weights: {weights}."
