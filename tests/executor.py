"""Executes compiled programs on bytes, in program order, and evaluates graphs the same way: twins for addressing.

All arithmetic is modulo 256 and scales are only compared, so results are exact whatever the order of summation.
Functions without an exact integer meaning stand for themselves: any function of the same operands would do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from accel.graph import Graph
from accel.isa import ACTIVATIONS, BLOCK_BYTES, VECTOR_FUNCTIONS, Instruction, decode_program
from accel.packed import Packed
from accel.program import Program, WeightStream
from accel.tiles import region_of, strip_of
from compiler.parameters import constant_data
from compiler.tile import reduction_order

Bytes = np.ndarray
BINARY: Mapping[str, Callable[[Bytes, Bytes], Bytes]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: 3 * a + 5 * b + 1,
}


def activation(name: str, x: Bytes) -> Bytes:
    """A different affine map for each element-wise function."""
    at = ACTIVATIONS.index(name)
    return x * (2 * at + 1) + 7 * at


def softmax(x: Bytes) -> Bytes:
    """Along the last axis."""
    return 3 * x + x.sum(-1, keepdims=True)


def layernorm(x: Bytes, gamma: Bytes, beta: Bytes) -> Bytes:
    """Along the last axis."""
    return x * gamma + beta + x.sum(-1, keepdims=True)


def small_integers(packed: Packed, rng: np.random.Generator) -> Packed:
    """The model with integer biases and norms, and scales that are powers of two."""
    from dataclasses import replace

    layers = {
        name: replace(layer, scale=np.exp2(rng.integers(-3, 4, layer.scale.shape)).astype(np.float32))
        for name, layer in packed.layers.items()
    }
    plain = {name: rng.integers(-50, 50, a.shape).astype(np.float32) for name, a in packed.parameters.items()}
    return replace(packed, layers=layers, parameters=plain)


class Executor:
    """Memories of one run; ``run`` executes everything and returns the outputs."""

    def __init__(self, program: Program, packed: Packed, inputs: Mapping[str, Bytes]) -> None:
        self.program, self.packed = program, packed
        self.dram = np.zeros(program.dram_bytes, np.uint8)
        self.dram[: program.image.size] = program.image
        self.sram = np.full(program.machine.sram.activation_bytes, 0xAA, np.uint8)
        self.state: dict[str, Instruction] = {}
        self.ring: list[int] = []
        self.base = 0
        self.decoded: list[tuple[WeightStream, int, Bytes, int]] = []
        for port in program.inputs:
            self._port(port, inputs[port.name])

    def _port(self, port, values: Bytes) -> None:
        view = values.astype("<i4").view(np.uint8).reshape(*values.shape, 4) if values.dtype == np.int32 else None
        addresses = self._addresses(port)
        if view is None:
            self.dram[addresses] = values
        else:
            self.dram[addresses[..., None] + np.arange(4)] = view

    def _addresses(self, port) -> Bytes:
        grid = np.indices(port.shape)
        return port.address + sum((axis * stride for axis, stride in zip(grid, port.strides, strict=True)), 0 * grid[0])

    def run(self) -> dict[str, Bytes]:
        program = decode_program(self.program.words)
        for instruction in program:  # weights do not depend on what is computed, and may be loaded behind their GEM
            if instruction.mnemonic in ("LDW", "DEC"):
                getattr(self, f"do_{instruction.mnemonic}")(instruction)
        for instruction in program:
            if instruction.mnemonic in ("LDW", "DEC"):
                continue
            self.state[instruction.mnemonic] = instruction
            getattr(self, f"do_{instruction.mnemonic}", lambda _: None)(instruction)
        return {port.name: self.dram[self._addresses(port)] for port in self.program.outputs}

    # --- moves ---

    def _rows(self, move: Instruction) -> tuple[Bytes, Bytes]:
        rows, columns = np.arange(move["rows"])[:, None], np.arange(move["row_bytes"])
        far = move["address"] + rows * move["stride"] + columns
        return far, move["sram"] + rows * move["row_bytes"] + columns

    def do_LDA(self, move: Instruction) -> None:
        far, near = self._rows(move)
        self.sram[near] = self.dram[far]

    def do_STA(self, move: Instruction) -> None:
        far, near = self._rows(move)
        self.dram[far] = self.sram[near]

    def do_GTH(self, gather: Instruction) -> None:
        ids = self.sram[gather["ids"] : gather["ids"] + 4 * gather["rows"]].view("<i4")
        for row, index in enumerate(ids.tolist()):
            far = gather["address"] + index * gather["row_bytes"]
            near = gather["sram"] + row * gather["row_bytes"]
            self.sram[near : near + gather["row_bytes"]] = self.dram[far : far + gather["row_bytes"]]

    def do_LDW(self, load: Instruction) -> None:
        self.ring += range(load["address"], load["address"] + load["blocks"] * BLOCK_BYTES, BLOCK_BYTES)

    # --- the array ---

    def do_DEC(self, dec: Instruction) -> None:
        """Note the weights it decodes, ``[columns, rows]``: ``check_weights`` proves that they really are."""
        region, address = region_of(dec), self.ring[self.base]
        end = lambda s: s.address + s.blocks * BLOCK_BYTES  # noqa: E731
        stream = next(s for s in self.program.streams if s.address <= address < end(s))
        strip = strip_of(region.layout, bool(dec["axis_in"]), stream.rows, stream.tile_columns, stream.tile_rows)
        first, rest = divmod(address - stream.address, strip.stored_bytes)
        assert not rest and (dec["rows"], dec["tile_rows"]) == (stream.rows, stream.tile_rows)
        name, _, gemm = stream.weight.partition("[")
        layer = self.packed.layers[name]
        order = reduction_order(self.packed.graph.parameters[name], layer.vector_axis)
        at = int(gemm.rstrip("]") or 0) * stream.columns + first * stream.tile_columns
        weights = layer.codec.decode(layer)[at : at + dec["columns"], order]
        self.decoded.append((stream, at, weights, dec["passes"]))
        self.base += region.stored_bytes // BLOCK_BYTES if region.releases else 0

    def do_GEM(self, gem: Instruction) -> None:
        stream, first, weights = self._weights(gem)
        output, window = self.state["GMO"], self.state["GMC"]
        assert weights.shape == (gem["columns"], output["reduction"])
        taps = window["kernel_h"] * window["kernel_w"]
        channels = output["reduction"] // taps
        per_group = output["tile_columns"] // gem["groups_per_tile"]
        sums = np.zeros((gem["rows"], gem["columns"]), np.int64)
        for column in range(gem["columns"]):
            group = column // per_group if gem["groups_per_tile"] > 1 else 0
            if column == 0 or (gem["groups_per_tile"] > 1 and column % per_group == 0):
                moving = self._moving(window, gem, group * channels, channels)
            sums[:, column] = moving @ weights[column].astype(np.int64)
        layer = self.packed.layers[stream.weight.partition("[")[0]]
        scales = np.broadcast_to(layer.scale, layer.shape[:1])[first : first + gem["columns"]]
        self._out(gem, sums, scales)

    def _weights(self, gem: Instruction) -> tuple[WeightStream, int, Bytes]:
        """What the next DECs bring: all columns once a pass, whether by one DEC or by one for each strip and pass."""
        wanted, found = -(-gem["rows"] // gem["chunk"]) * gem["columns"], {}
        while wanted > 0:
            stream, at, weights, passes = self.decoded.pop(0)
            wanted -= passes * len(weights)
            assert found.setdefault(at, weights) is weights or (found[at] == weights).all()
        assert wanted == 0 and sum(map(len, found.values())) == gem["columns"]
        return stream, min(found), np.concatenate([found[at] for at in sorted(found)])

    def _moving(self, window: Instruction, gem: Instruction, first: int, channels: int) -> Bytes:
        """``[rows, reduction]`` of one group, in the order the weights stream."""
        pixels = window_pixels(window, gem["rows"])
        at = gem["a"] + pixels[:, :, None] * window["pixel_stride"] + first + np.arange(channels)
        values = np.where(
            pixels[:, :, None] < 0, 0, self.sram[np.where(pixels[:, :, None] < 0, 0, at)].astype(np.int64)
        )
        if window["channel_major"]:
            values = values.transpose(0, 2, 1)
        return values.reshape(gem["rows"], -1)

    def do_GMS(self, gms: Instruction) -> None:
        output, window = self.state["GMO"], self.state["GMC"]
        size = (gms["columns"], output["reduction"]) if gms["transpose_b"] else (output["reduction"], gms["columns"])
        at = gms["b"] + np.arange(size[0])[:, None] * output["b_stride"] + np.arange(size[1])
        stationary = self.sram[at].astype(np.int64)
        moving = self._moving(window, gms, 0, output["reduction"])
        self._out(gms, moving @ (stationary.T if gms["transpose_b"] else stationary), np.ones(1, np.float32))

    def _out(self, gem: Instruction, sums: Bytes, scales: Bytes) -> None:
        """Bias, the check of the scales, activation, and the store of the result."""
        output, columns = self.state["GMO"], gem["columns"]
        at = output["parameters"]
        if output["bias"]:
            sums = sums + self.sram[at : at + 4 * columns].copy().view("<i4")
            at += 4 * columns
        count = columns if output["channel_scales"] else 1
        assert (self.sram[at : at + 4 * count].copy().view("<f4") == scales).all(), gem
        result = sums
        if output["activation"]:
            result = activation(ACTIVATIONS[output["activation"]], sums)
        place = gem["out"] + np.arange(gem["rows"])[:, None] * output["out_stride"] + np.arange(columns)
        self.sram[place] = (result % 256).astype(np.uint8)

    # --- the vector unit ---

    def do_VEC(self, vec: Instruction) -> None:
        row = VECTOR_FUNCTIONS[vec["function"]]
        batches = self.state["VBT"]
        for n in range(batches["count"]):
            a, b, out = (vec[name] + n * batches[f"{name}_stride"] for name in ("a", "b", "out"))
            self._vector(vec, row.name, a, b, out)

    def _vector(self, vec: Instruction, name: str, a: int, b: int, out: int) -> None:
        strides = self.state["VST"]
        rows, columns = np.arange(vec["rows"])[:, None], np.arange(vec["columns"])
        place = out + rows * strides["out_stride"] + columns * strides["out_column_stride"]
        first = a + rows * strides["a_stride"] + columns * strides["a_column_stride"]
        second = b + rows * strides["b_stride"] + columns
        if name in ("maxpool", "avgpool"):
            result = self._pool(vec, name, a)
        elif name == "mean":
            result, place = self._read(first).sum(0), place[0]
        elif name == "layernorm":
            parameters = self.sram[b : b + 4 * vec["columns"]].copy().view("<f2").astype(np.int64)
            result = layernorm(self._read(first), *parameters.reshape(2, -1))
        elif name in BINARY:
            result = BINARY[name](self._read(first), self._read(second))
        elif name == "fill":
            result = np.zeros(place.shape, np.int64)
        elif name in ("copy", "softmax"):
            result = softmax(self._read(first)) if name == "softmax" else self._read(first)
        else:
            result = activation(name, self._read(first))
        self.sram[place] = (result % 256).astype(np.uint8)

    def _read(self, at: Bytes) -> Bytes:
        return self.sram[at].astype(np.int64)

    def _pool(self, vec: Instruction, name: str, a: int) -> Bytes:
        window, step = self.state["VWN"], self.state["VST"]["a_column_stride"]
        pixels = window_pixels(window, vec["rows"])[:, :, None]
        values = self._read(
            np.where(pixels < 0, 0, a + pixels * window["pixel_stride"] + np.arange(vec["columns"]) * step)
        )
        return pooled(name, values, pixels >= 0, 1)


def pooled(name: str, values: Bytes, inside: Bytes, axis: int) -> Bytes:
    """Over the taps inside the image; none gives 0."""
    if name == "avgpool":
        return np.where(inside, values, 0).sum(axis)
    return np.where(inside, values, 0).max(axis)


def window_pixels(window: Instruction, rows: int) -> Bytes:
    """``[rows, taps]`` input pixel of every tap of every output pixel, -1 outside."""
    y, x = np.divmod(np.arange(rows), window["out_w"])
    taps = [(i, j) for i in range(window["kernel_h"]) for j in range(window["kernel_w"])]
    found = []
    for i, j in taps:
        row = y * window["stride_h"] + i * window["dilation_h"] - window["pad_top"]
        column = x * window["stride_w"] + j * window["dilation_w"] - window["pad_left"]
        inside = (row >= 0) & (row < window["in_h"]) & (column >= 0) & (column < window["in_w"])
        found.append(np.where(inside, row * window["in_w"] + column, -1))
    return np.stack(found, 1)


# --- the graph ---


def evaluate(graph: Graph, packed: Packed, inputs: Mapping[str, Bytes]) -> dict[str, Bytes]:
    """Outputs of ``graph`` in the same arithmetic, straight from the operators' definitions."""
    values: dict[str, Bytes] = {name: array.astype(np.int64) for name, array in inputs.items()}
    for name, array in packed.parameters.items():
        values[name] = constant_data(array).astype(np.int64)
    for op in graph.ops:
        result = _operator(op, graph, packed, values)
        assert result.shape == graph.shapes[op.output], op
        values[op.output] = result % 256
    return {name: values[name].astype(np.uint8) for name in graph.outputs}


def _operator(op, graph: Graph, packed: Packed, values: Mapping[str, Bytes]) -> Bytes:
    x, a = values.get(op.inputs[0]), op.attributes
    if op.kind in ("conv", "gemm"):
        return _weighted(op, packed, x)
    if op.kind in BINARY:
        scalar = op.inputs[1] in graph.parameters and values[op.inputs[1]].size == 1
        return x if op.kind in ("mul", "div") and scalar else BINARY[op.kind](x, values[op.inputs[1]])
    if op.kind == "layernorm":
        return layernorm(x, *(packed.parameters[name].astype(np.int64) for name in op.inputs[1:]))
    if op.kind == "matmul":
        y = values[op.inputs[1]]
        return x @ (y.swapaxes(-1, -2) if a["transpose_b"] else y)
    if op.kind == "embedding":
        return values[op.inputs[0]][values[op.inputs[1]]]
    if op.kind == "concat":
        return np.concatenate([values[name] for name in op.inputs], a["axis"])
    if op.kind in ("maxpool", "avgpool"):
        return _pool_graph(op, x)
    return _PLAIN[op.kind](a, x) if op.kind in _PLAIN else activation(op.kind, x)


_PLAIN: Mapping[str, Callable[..., Bytes]] = {
    "softmax": lambda a, x: softmax(x.swapaxes(a["axis"], -1)).swapaxes(a["axis"], -1),
    "mean": lambda a, x: x.sum(tuple(a["axes"]), keepdims=a["keepdims"]),
    "pad": lambda a, x: np.pad(x, list(zip(a["before"], a["after"], strict=True))),
    "reshape": lambda a, x: x.reshape(a["shape"]),
    "transpose": lambda a, x: x.transpose(a["perm"]),
    "slice": lambda a, x: x.take(range(a["start"], a["stop"]), a["axis"]),
    "roll": lambda a, x: np.roll(x, a["shift"], a["axis"]),
    "expand": lambda a, x: np.broadcast_to(x, a["shape"]),
}


def _patches(op, x: Bytes, dilation: tuple[int, int]) -> tuple[Bytes, Bytes]:
    """``[N, C, OH, OW, taps]`` and whether each tap is inside the image."""
    top, left, bottom, right = op.attributes["padding"]
    (kh, kw), (sh, sw) = op.attributes["kernel"], op.attributes["stride"]
    wide = np.pad(np.stack([x, np.ones_like(x)]), ((0, 0), (0, 0), (0, 0), (top, bottom), (left, right)))
    oh = (wide.shape[3] - dilation[0] * (kh - 1) - 1) // sh + 1
    ow = (wide.shape[4] - dilation[1] * (kw - 1) - 1) // sw + 1
    taps = [
        wide[..., i * dilation[0] :, j * dilation[1] :][..., : sh * oh : sh, : sw * ow : sw]
        for i in range(kh)
        for j in range(kw)
    ]
    stacked = np.stack(taps, -1)
    return stacked[0], stacked[1] > 0


def _pool_graph(op, x: Bytes) -> Bytes:
    values, inside = _patches(op, x, (1, 1))
    return pooled(op.kind, values, inside, -1)


def _weighted(op, packed: Packed, x: Bytes) -> Bytes:
    layer = packed.layers[op.inputs[1]]
    weights = layer.codec.decode(layer).astype(np.int64)
    bias = np.zeros(layer.shape[0], np.int64)
    if len(op.inputs) > 2:
        bias = np.rint(packed.parameters[op.inputs[2]] / layer.scale).astype(np.int64)
    if op.kind == "gemm":
        return x @ weights.T + bias
    patches, _ = _patches(op, x, op.attributes["dilation"])
    n, c, oh, ow, taps = patches.shape
    groups = op.attributes["groups"]
    split = patches.reshape(n, groups, c // groups, oh, ow, taps).transpose(0, 1, 3, 4, 2, 5)
    split = split.reshape(n, groups, oh * ow, -1)
    cut = weights.reshape(groups, -1, weights.shape[1])
    result = np.einsum("ngpk,gok->ngop", split, cut).reshape(n, -1, oh, ow)
    return result + bias[:, None, None]
