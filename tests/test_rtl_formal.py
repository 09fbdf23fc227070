"""Proofs of the stream rules of hardware: each holds, is about something that happens, and catches broken units.

``ACCEL_PROOFS=all`` also runs those that take minutes. A failed run's counterexample is ``trace.vcd`` in its folder.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from formal_flow import Mutant, Proof, write_job
from formal_table import PROOFS

from accel.errors import ToolError
from rtl.tools import run_sby

pytestmark = pytest.mark.rtl
MUTANTS = [(proof, name) for proof in PROOFS for name in proof.mutants]


def skip_slow(proof: Proof) -> None:
    if proof.slow and os.environ.get("ACCEL_PROOFS") != "all":
        pytest.skip("takes minutes: ACCEL_PROOFS=all")


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.name)
def test_holds(proof: Proof, tmp_path: Path) -> None:
    skip_slow(proof)
    log = run_sby(write_job(tmp_path, proof, proof.mode, proof.depth)).read_text()
    assert "DONE (PASS, rc=0)" in log


@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: proof.name)
def test_is_about_something(proof: Proof, tmp_path: Path) -> None:
    skip_slow(proof)
    log = run_sby(write_job(tmp_path, proof, "cover", proof.cover_depth)).read_text()
    assert "Reached cover statement" in log
    assert "Unreached cover statement" not in log


@pytest.mark.parametrize(("proof", "name"), MUTANTS, ids=[f"{proof.name}-{name}" for proof, name in MUTANTS])
def test_catches(proof: Proof, name: str, tmp_path: Path) -> None:
    """By a run from the initial state that breaks a claim, not by an induction that does not close."""
    skip_slow(proof)
    job = write_job(tmp_path, proof, "bmc", proof.mutant_depth, proof.mutants[name])
    with pytest.raises(ToolError, match=r"DONE \(FAIL, rc=2\)"):
        run_sby(job)
    assert re.search(r"Assert failed in bench", (tmp_path / "bmc.log").read_text())


def test_a_mutant_that_changes_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"^rtl.queue has 0 times: no such text"):
        write_job(tmp_path, PROOFS[0], "bmc", 1, Mutant("rtl.queue", "no such text", ""))
