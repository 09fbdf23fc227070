"""Fixtures for tests of the command line: models that stand for any MODEL. A plugin, never imported."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from run_samples import sample_run

import compiler
import sim
from accel.graph import Graph, Op
from accel.machine import Machine
from accel.packed import Packed
from accel.run import Run
from compiler import frontend


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> frontend.LoadedModel:
    """A model of one linear layer that every MODEL argument stands for."""
    parameters = {"w": (64, 64), "b": (64,)}
    graph = Graph("tiny", {"x": (1, 4, 64)}, parameters, (Op("fc", "gemm", ("x", "w", "b"), "y"),), ("y",))
    values = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    source = {"spec": "tiny", "description": "one layer", "weights": "from net.onnx", "sha256": "0" * 64}
    model = frontend.LoadedModel(graph, {"w": values, "b": np.zeros(64, np.float32)}, source)
    monkeypatch.setattr(frontend, "load_model", lambda spec, **options: model)
    return model


@dataclass
class FakeProgram:
    """Stands for a compiled program: all the sample runs need to know is its codec."""

    codec: str


@pytest.fixture
def sampled_chain(tiny_model: frontend.LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiler and simulator replaced by the closed form of ``run_samples``."""

    def compile_model(packed: Packed, machine: Machine, **options: object) -> FakeProgram:
        return FakeProgram(str(packed.layers["w"].codec))

    def simulate(program: FakeProgram, machine: Machine, energy: object = None) -> Run:
        return sample_run(program.codec, machine, blocks=2)

    monkeypatch.setattr(compiler, "compile_model", compile_model, raising=False)
    monkeypatch.setattr(sim, "simulate", simulate, raising=False)
    monkeypatch.setattr("sim.levels.simulate_with_levels", simulate)
