"""Built-in networks on built-in machines: everything compiles, is proven legal, decodes to the right weights and runs.

Weights are random codes: neither programs nor cycles depend on their values. ``python -m benchmarks chain`` covers
all networks, machines and more codecs with the time they take.
"""

from __future__ import annotations

import pytest
from strategies import Coding, pack_randomly
from test_chain_properties import check_loads, check_outputs, check_run  # the properties hold for large networks too

from accel.errors import CompileError
from accel.graph import Graph
from accel.machine import Machine, load_machine
from compiler import compile_model
from compiler.frontend.architectures import build_architecture
from sim import check_weights, simulate

CASES = [
    ("deit_tiny", "int8", "edge32"),
    ("deit_tiny", "ssvq:k=16,d=8", "ecp5"),
    ("deit_small", "ssvq:k=16,d=8", "edge64"),
    ("resnet18", "int8", "edge64"),
    ("resnet18", "ssvq:k=16,d=8", "ecp5"),
    ("resnet50", "int8", "u65-mid"),
    ("mobilenet_v1", "ssvq:k=16,d=8", "edge64"),
    ("mobilenet_v1", "int8", "ecp5"),
    ("mobilenet_v2", "int8", "u65-mid"),
    ("mobilenet_v2", "ssvq:k=16,d=8", "ecp5"),
    ("efficientnet_lite0", "ssvq:k=16,d=8", "edge32"),
    ("minilm", "ssvq:k=16,d=8", "edge64"),
    ("minilm", "int8", "ecp5"),
]

ARRAY_CASES = [
    ("deit_tiny", "int8", "edge32", "os", "pipelined"),
    ("deit_tiny", "ssvq:k=16,d=8", "edge64", "is", "pipelined"),
    ("resnet18", "int8", "edge64", "os", "pipelined"),
    ("resnet18", "ssvq:k=16,d=8", "u65-mid", "os", "stonne"),
    ("resnet18", "int8", "edge32", "is", "scalesim"),
    ("mobilenet_v2", "int8", "edge64", "is", "pipelined"),
    ("mobilenet_v2", "ssvq:k=16,d=8", "ecp5", "os", "pipelined"),
    ("mobilenet_v2", "ssvq:k=16,d=8", "edge64", "ws", "scalesim"),
]


def graph_of(name: str) -> Graph:
    return build_architecture(name, None).graph


@pytest.mark.parametrize(("name", "codec", "machine"), CASES, ids=lambda value: str(value))
def test_networks_go_all_the_way(name: str, codec: str, machine: str) -> None:
    check_all_the_way(name, codec, load_machine(machine))


@pytest.mark.parametrize(("name", "codec", "machine", "dataflow", "model"), ARRAY_CASES, ids=lambda value: str(value))
def test_networks_run_with_every_dataflow(name: str, codec: str, machine: str, dataflow: str, model: str) -> None:
    array = [f"array.dataflow={dataflow}", f"array.model={model}"]
    check_all_the_way(name, codec, load_machine(machine, array))


def check_all_the_way(name: str, codec: str, machine: Machine) -> None:
    graph = graph_of(name)
    program = compile_model(pack_randomly(graph, Coding(codec, "out", False)), machine, verify=True)
    check_weights(program)
    check_loads(program, graph)
    check_outputs(program)
    check_run(simulate(program), program, graph, batch=1)


def test_batches_share_weights_that_stay_in_the_ring() -> None:
    packed = pack_randomly(graph_of("mobilenet_v1"), Coding("int8", "out", False))
    machine = load_machine("edge64", ["sram.weight_bytes=2097152"])
    one, two = (simulate(compile_model(packed, machine, batch=batch, verify=True)) for batch in (1, 2))
    assert two.macs == 2 * one.macs
    assert two.dram_bytes["weights"] == one.dram_bytes["weights"]


def test_impossible_batches_are_refused() -> None:
    packed = pack_randomly(graph_of("mobilenet_v1"), Coding("int8", "out", False))
    with pytest.raises(CompileError, match="batch 0; allowed: 1 to 1024"):
        compile_model(packed, load_machine("edge64"), batch=0)
    with pytest.raises(CompileError, match=r"sram.activation_bytes = 2048.*allowed"):
        compile_model(packed, load_machine("edge64", ["sram.activation_bytes=2048"]))
