"""Layers through Vela, one network of one operator each. Runs in Vela's own environment, with its classes of TFLite.

``python vela_network.py LAYERS.json WEIGHTS.npz FOLDER OPTION...`` prints a JSON object a layer: Vela's summary of it.
Layers stand alone, as in every other peer: none is given what lies between them.
"""

import contextlib
import csv
import io
import json
import sys
from pathlib import Path

import flatbuffers
import numpy as np
from ethosu.vela.tflite import (
    BatchMatMulOptions,
    Buffer,
    Conv2DOptions,
    FullyConnectedOptions,
    Model,
    Operator,
    OperatorCode,
    QuantizationParameters,
    SubGraph,
    Tensor,
)
from ethosu.vela.tflite.BuiltinOperator import BuiltinOperator
from ethosu.vela.tflite.BuiltinOptions import BuiltinOptions
from ethosu.vela.tflite.Padding import Padding
from ethosu.vela.tflite.TensorType import TensorType
from ethosu.vela.vela import main as vela

SCALE, BIAS_SCALE = 0.05, 0.05**2  # of every tensor, and of biases: an input's times a weight's
KINDS = {
    "conv": BuiltinOperator.CONV_2D,
    "gemm": BuiltinOperator.FULLY_CONNECTED,
    "matmul": BuiltinOperator.BATCH_MATMUL,
}


class Network:
    """A flatbuffer being built: tensors and operators so far, and which tensors go in and out."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1 << 20)
        self.tensors: list[int] = []
        self.buffers = [self._buffer(None)]  # buffer 0 is empty, by convention
        self.operators: list[int] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []

    def _buffer(self, data: bytes | None) -> int:
        content = None if data is None else self.builder.CreateByteVector(data)
        Buffer.Start(self.builder)
        if content is not None:
            Buffer.AddData(self.builder, content)
        return Buffer.End(self.builder)

    def tensor(self, name: str, shape: list[int], constant: np.ndarray | None = None) -> int:
        """The index of a new int8 tensor (a constant of int32 is a bias)."""
        kind, scale = (TensorType.INT8, SCALE)
        if constant is not None:
            self.buffers.append(self._buffer(constant.tobytes()))
            if constant.dtype == np.int32:
                kind, scale = TensorType.INT32, BIAS_SCALE
        title, sizes = self.builder.CreateString(name), self._integers(shape)
        scales = self.builder.CreateNumpyVector(np.array([scale], np.float32))
        zeros = self.builder.CreateNumpyVector(np.array([0], np.int64))
        QuantizationParameters.Start(self.builder)
        QuantizationParameters.AddScale(self.builder, scales)
        QuantizationParameters.AddZeroPoint(self.builder, zeros)
        quantisation = QuantizationParameters.End(self.builder)
        Tensor.Start(self.builder)
        Tensor.AddName(self.builder, title)
        Tensor.AddShape(self.builder, sizes)
        Tensor.AddType(self.builder, kind)
        Tensor.AddBuffer(self.builder, 0 if constant is None else len(self.buffers) - 1)
        Tensor.AddQuantization(self.builder, quantisation)
        self.tensors.append(Tensor.End(self.builder))
        return len(self.tensors) - 1

    def operator(self, kind: str, inputs: list[int], output: int, options: tuple[int, int]) -> None:
        """Append an operator; ``options`` are the schema's kind of options and their offset."""
        into, out = self._integers(inputs), self._integers([output])
        Operator.Start(self.builder)
        Operator.AddOpcodeIndex(self.builder, list(KINDS).index(kind))
        Operator.AddInputs(self.builder, into)
        Operator.AddOutputs(self.builder, out)
        Operator.AddBuiltinOptionsType(self.builder, options[0])
        Operator.AddBuiltinOptions(self.builder, options[1])
        self.operators.append(Operator.End(self.builder))

    def finish(self) -> bytes:
        """The file."""
        builder = self.builder
        codes = []
        for code in KINDS.values():
            OperatorCode.Start(builder)
            OperatorCode.AddDeprecatedBuiltinCode(builder, code)
            OperatorCode.AddBuiltinCode(builder, code)
            codes.append(OperatorCode.End(builder))
        parts = [self._offsets(row) for row in (self.tensors, self.operators)]
        ends = [self._integers(row) for row in (self.inputs, self.outputs)]
        SubGraph.Start(builder)
        SubGraph.AddTensors(builder, parts[0])
        SubGraph.AddOperators(builder, parts[1])
        SubGraph.AddInputs(builder, ends[0])
        SubGraph.AddOutputs(builder, ends[1])
        graph = SubGraph.End(builder)
        rows = [self._offsets(row) for row in (codes, [graph], self.buffers)]
        Model.Start(builder)
        Model.AddVersion(builder, 3)
        Model.AddOperatorCodes(builder, rows[0])
        Model.AddSubgraphs(builder, rows[1])
        Model.AddBuffers(builder, rows[2])
        builder.Finish(Model.End(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _integers(self, values: list[int]) -> int:
        return self.builder.CreateNumpyVector(np.array(values, np.int32))

    def _offsets(self, values: list[int]) -> int:
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependUOffsetTRelative(value)
        return self.builder.EndVector()


def one_layer(layer: dict, weights: np.ndarray | None) -> bytes:
    """The file of one operator; ``weights`` are ``[out, ...]``, none of a product of activations."""
    network = Network()
    network.inputs = [network.tensor(f"in{i}", shape) for i, shape in enumerate(layer["inputs"])]
    operands = list(network.inputs)
    if weights is not None:
        bias = np.zeros(len(weights), np.int32)
        operands += [network.tensor("weights", list(weights.shape), weights), network.tensor("bias", [len(bias)], bias)]
    network.outputs = [network.tensor("out", layer["output"])]
    network.operator(layer["kind"], operands, network.outputs[0], layer_options(network.builder, layer))
    return network.finish()


def layer_options(builder: flatbuffers.Builder, layer: dict) -> tuple[int, int]:
    """The schema's kind of options of a layer, and their offset."""
    if layer["kind"] == "conv":
        Conv2DOptions.Start(builder)
        Conv2DOptions.AddPadding(builder, Padding.VALID)
        Conv2DOptions.AddStrideH(builder, layer["stride"])
        Conv2DOptions.AddStrideW(builder, layer["stride"])
        return BuiltinOptions.Conv2DOptions, Conv2DOptions.End(builder)
    if layer["kind"] == "gemm":
        FullyConnectedOptions.Start(builder)
        return BuiltinOptions.FullyConnectedOptions, FullyConnectedOptions.End(builder)
    BatchMatMulOptions.Start(builder)
    return BuiltinOptions.BatchMatMulOptions, BatchMatMulOptions.End(builder)


def main(layers: str, weights: str, folder: str, *options: str) -> None:
    """Compile each layer and print Vela's summary of it."""
    network = Path(folder, "layer.tflite")
    with np.load(weights) as arrays:
        for layer in json.loads(Path(layers).read_text()):
            network.write_bytes(one_layer(layer, arrays[layer["weights"]] if layer["weights"] else None))
            words = io.StringIO()
            with contextlib.redirect_stdout(words):
                vela([str(network), "--output-dir", folder, *options])
            if "CPU operators = 0 " not in words.getvalue():
                sys.exit(f"Vela leaves layer {layer['name']} to the CPU")
            (summary,) = Path(folder).glob("*_summary_*.csv")
            with summary.open(newline="") as file:
                print(json.dumps(next(csv.DictReader(file))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
