"""torch import against torch itself: through torch.export, ``.pt2`` files and ONNX."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from graph_reference import evaluate
from torch import Tensor, nn
from torch.nn import functional

from accel.errors import ModelError
from accel.graph import Graph
from compiler.frontend.onnx_import import import_onnx
from compiler.frontend.torch_import import import_pt2, import_torch


class Lambda(nn.Module):
    """A module around a function, with some weights to use."""

    def __init__(self, function: Callable[[Lambda, Tensor], object]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(8, 8))
        self.bias = nn.Parameter(torch.randn(8))
        self.register_buffer("table", torch.randn(5, 8))

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


class ConvNet(nn.Module):
    """Convolution, batch norm with real statistics, depthwise, residual, squeeze and excitation, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
        self.norm2 = nn.BatchNorm2d(8)
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.excite = nn.Conv2d(4, 8, 1)
        self.act = nn.ReLU6(inplace=True)
        self.head = nn.Linear(8, 5)
        for norm in (self.norm, self.norm2):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.stem(x)))
        y = functional.hardswish(self.norm2(self.depthwise(x)))
        gate = self.excite(functional.silu(self.squeeze(functional.adaptive_avg_pool2d(y, 1))))
        x = x + y * functional.hardsigmoid(gate)
        x = functional.avg_pool2d(functional.max_pool2d(x, 3, 2, 1), 2)
        return self.head(functional.dropout(x.mean((2, 3)), 0.2, self.training))


class Perceptron(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Linear(8, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 16, bias=False), nn.Tanh(), nn.Linear(16, 3)
        )


class Block(nn.Module):
    """A vision transformer's block: packed qkv, exact GELU, pre-norm residuals."""

    def __init__(self, dim: int = 8, heads: int = 2, fused: bool = True) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.heads, self.fused = heads, fused

    def attend(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v)
        else:
            y = ((q @ k.transpose(-2, -1)) * (dim // self.heads) ** -0.5).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(batch, tokens, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convnet": (ConvNet, (2, 3, 32, 32)),
    "perceptron": (Perceptron, (3, 8)),
    "block": (Block, (2, 5, 8)),
    "block_spelled_out": (lambda: Block(fused=False), (2, 5, 8)),
    "encoder_layer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True), (2, 5, 8)),
}


def build(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    make, shape = MODELS[name]
    return make().eval(), torch.randn(shape)


def agree(graph: Graph, params: dict[str, np.ndarray], module: nn.Module, x: Tensor) -> None:
    """The graph computes what the module does, and every weight the graph names exists with its shape."""
    with torch.no_grad():
        expected = module(x.clone())
    expected = expected if isinstance(expected, tuple | list) else (expected,)
    (name,) = graph.inputs
    for ours, theirs in zip(evaluate(graph, params, {name: x.numpy()}), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)
    assert {key: value.shape for key, value in params.items()} == dict(graph.parameters)


def export_onnx(module: nn.Module, x: Tensor, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates the exporter that needs no further package
        torch.onnx.export(module, (x,), path, dynamo=False, opset_version=17)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_exported_program_agrees_with_torch(name: str, tmp_path: Path) -> None:
    module, x = build(name)
    graph, params = import_torch(module, (x,))
    agree(graph, params, module, x)
    state = module.state_dict()
    weights = [op.inputs[1] for op in graph.weight_ops()]
    assert weights and all(weight in state for weight in weights)
    assert all(params[w].shape == tuple(state[w].shape) for w in weights)


@pytest.mark.parametrize("name", MODELS)
def test_onnx_export_gives_the_same_weight_layers(name: str, tmp_path: Path) -> None:
    module, x = build(name)
    graph, params = import_onnx(export_onnx(module, x, tmp_path / "model.onnx"))
    agree(graph, params, module, x)
    exported, _ = import_torch(module, (x,))
    if name != "encoder_layer":  # its packed projection has no bias of the same stem to take the name from
        assert [op.inputs[1:] for op in graph.weight_ops() if len(op.inputs) == 3 and op.kind == "gemm"] == [
            op.inputs[1:] for op in exported.weight_ops() if len(op.inputs) == 3 and op.kind == "gemm"
        ]
    assert [graph.parameters[op.inputs[1]] for op in graph.weight_ops()] == [
        exported.parameters[op.inputs[1]] for op in exported.weight_ops()
    ]


def test_pt2_file_agrees_with_torch_also_after_decomposition(tmp_path: Path) -> None:
    """Core ATen (addmm, native norms, decomposed attention) is what others' ``.pt2`` files may hold."""
    for name in ("convnet", "block"):
        module, x = build(name)
        program = _export(module, x)
        for candidate in (program, _decomposed(program)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.export.save(candidate, tmp_path / "model.pt2")
            graph, params = import_pt2(tmp_path / "model.pt2")
            agree(graph, params, module, x)
            assert all(op.inputs[1] in module.state_dict() for op in graph.weight_ops())


def _export(module: nn.Module, x: Tensor, **options: object) -> torch.export.ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(module, (x,), **options)


def _decomposed(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return program.run_decompositions()


I = (2, 4, 6, 8)  # noqa: E741
T = (2, 4, 8)
OPERATORS: dict[str, tuple[Callable[[Lambda, Tensor], object], tuple[int, ...], list[str]]] = {
    "scalars": (lambda m, x: (1 - x * 2 + 3) / 4, T, ["mul", "sub", "add", "div"]),
    "alpha": (lambda m, x: torch.sub(torch.add(x, m.bias, alpha=2), 3, alpha=0.5), T, ["add", "sub"]),
    "addmm": (lambda m, x: torch.addmm(m.bias, x[0], m.weight), T, ["slice", "reshape", "gemm"]),
    "mm_left": (lambda m, x: m.weight @ x.transpose(1, 2), T, ["gemm", "transpose"]),
    "bmm": (lambda m, x: torch.bmm(x, x.transpose(1, 2)), T, ["matmul"]),
    "broadcast_matmul": (lambda m, x: x @ x[0].t(), T, ["slice", "reshape", "expand", "matmul"]),
    "clamps": (lambda m, x: x.clamp(-0.5, 1).clamp_min(0).clamp(max=0.7), T, ["clip", "relu", "clip"]),
    "hardtanh": (lambda m, x: functional.hardtanh(x), T, ["clip"]),
    "layernorm_plain": (lambda m, x: functional.layer_norm(x, (8,)), T, ["layernorm"]),
    "layernorm_two_axes": (lambda m, x: functional.layer_norm(x, (4, 8)), T, ["reshape", "layernorm", "reshape"]),
    "layernorm_parts": (
        lambda m, x: (x - x.mean(-1, True)) * torch.rsqrt((x - x.mean(-1, True)).pow(2).mean(-1, True) + 1e-5) * m.bias,
        T, ["layernorm"],
    ),
    "batchnorm_alone": (lambda m, x: functional.batch_norm(x, m.bias[:4], m.bias[:4] ** 2), T, ["mul", "add"]),
    "transposed_view": (lambda m, x: x.permute(0, 2, 1).contiguous().view(2, 2, 4, 4).flatten(2), T,
                        ["transpose", "reshape"]),
    "squeezes": (lambda m, x: x.unsqueeze(1).squeeze().unsqueeze(-1).tanh(), T, ["reshape", "tanh"]),
    "pieces": (lambda m, x: torch.cat([*x.split(3, -1), *x.chunk(2, -1)[::-1], x.select(1, -1)[:, None].expand(2, 4, 8)],
                                      -1), T,
               ["slice", "slice", "slice", "slice", "slice", "slice", "expand", "concat"]),
    "unbind_stack": (lambda m, x: torch.stack(x.unbind(1)[::-1], 1), T, None),
    "patch_merge": (lambda m, x: torch.cat([x[:, :, 0::2], x[:, :, 1::2]], 1), T,
                    ["reshape", "slice", "reshape", "slice", "reshape", "concat"]),
    "roll": (lambda m, x: torch.roll(x, (-1, 2), (1, 2)) + torch.roll(x, 3), T,
             ["roll", "roll", "reshape", "roll", "reshape", "add"]),
    "pad": (lambda m, x: functional.pad(x, (1, 2, 0, 3)), T, ["pad"]),
    "crop": (lambda m, x: functional.pad(x, (-1, 2)), T, ["slice", "pad"]),
    "pools": (lambda m, x: (functional.max_pool2d(x, 3, 2, 1, ceil_mode=True),
                            functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
                            functional.adaptive_avg_pool2d(x, (3, 2))), I, ["maxpool", "avgpool", "mul", "avgpool"]),
    "resizes": (lambda m, x: (functional.interpolate(x, scale_factor=2), functional.interpolate(x, (4, 12), mode="bilinear"),
                              functional.interpolate(x, (7, 5))), I, ["resize", "resize", "resize"]),
    "same_conv": (lambda m, x: functional.conv2d(x, m.weight.view(4, 4, 2, 2), padding="same"), I, ["conv"]),
    "causal": (lambda m, x: functional.scaled_dot_product_attention(x, x, x, is_causal=True), T,
               ["matmul", "mul", "add", "softmax", "matmul"]),
    "masked": (lambda m, x: functional.scaled_dot_product_attention(x, x, x, m.table[:4, :4] > 0.0, scale=0.2), T,
               ["matmul", "mul", "add", "softmax", "matmul"]),
    "lookup": (lambda m, x: functional.embedding(torch.arange(4), m.table) + x, T, ["add"]),
    "numbers_only": (lambda m, x: x * (torch.arange(8).float() / 8).cos(), T, ["mul"]),
    "gelu_by_hand": (lambda m, x: 0.5 * x * (1 + torch.erf(x / 2**0.5)), T, ["gelu"]),
    "silu_by_hand": (lambda m, x: x * torch.sigmoid(x), T, ["silu"]),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_agrees_with_torch(name: str) -> None:
    torch.manual_seed(5)
    function, shape, expected = OPERATORS[name]
    module, x = Lambda(function).eval(), torch.randn(shape)
    graph, params = import_torch(module, (x,))
    agree(graph, params, module, x)
    if expected is not None:
        assert [op.kind for op in graph.ops] == expected


def test_embedding_of_run_time_ids() -> None:
    module, ids = nn.Embedding(9, 4).eval(), torch.tensor([[1, 8, 0]])
    graph, params = import_torch(module, (ids,))
    assert [op.kind for op in graph.ops] == ["embedding"]
    agree(graph, params, module, ids)


REFUSED: dict[str, tuple[Callable[[Lambda, Tensor], object], str]] = {
    "unknown": (lambda m, x: torch.cumsum(x, 1), r"operator 'aten.cumsum.default' cannot be lowered; supported: .*add"),
    "conv1d": (lambda m, x: functional.conv1d(x, m.weight[:4, :4, None]), "aten.conv1d.default"),
    "transposed": (lambda m, x: functional.conv_transpose2d(x[None], m.weight.view(4, 4, 2, 2)), "conv_transpose2d"),
    "reflect": (lambda m, x: functional.pad(x, (1, 1), mode="reflect"), "reflect"),
    "align_corners": (lambda m, x: functional.interpolate(x[None], (8, 4), mode="bilinear", align_corners=True),
                      "supported: nearest"),
    "adaptive": (lambda m, x: functional.adaptive_avg_pool2d(x[None], (3, 3)), "must divide"),
    "indices": (lambda m, x: functional.max_pool2d(x[None], 2, return_indices=True)[1], "only the first is lowered"),
    "power": (lambda m, x: x**1.5, "power 1.5"),
    "truncation": (lambda m, x: x.int() * 2, "floating-point activation to torch.int32"),
    "random": (lambda m, x: x + torch.rand(8), "is random"),
    "constant": (lambda m, x: m.bias * 2, "does not depend on any input"),
    "infinite": (lambda m, x: x * (m.bias / 0), "NaN or infinite"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name: str) -> None:
    function, message = REFUSED[name]
    with pytest.raises(ModelError, match=message) as caught:
        import_torch(Lambda(function).eval(), (torch.randn(2, 4, 8)[:, :, :8],))
    assert "\n" not in str(caught.value)


def test_module_that_cannot_be_traced_or_is_training() -> None:
    with pytest.raises(ModelError, match="module 'Lambda' is in training mode"):
        import_torch(Lambda(lambda m, x: x), (torch.ones(1),))
    branching = Lambda(lambda m, x: x if x.sum() > 0 else -x).eval()
    with pytest.raises(ModelError, match=r"module 'Lambda': torch\.export cannot trace it"):
        import_torch(branching, (torch.ones(1),))


def test_dynamic_and_damaged_files(tmp_path: Path) -> None:
    module, x = build("perceptron")
    program = _export(module, x, dynamic_shapes=({0: torch.export.Dim("batch")},))
    path = tmp_path / "model.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
    with pytest.raises(ModelError, match=r"input 'input' has shape \[s\d+, 8\], which is not fixed"):
        import_pt2(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"model\.pt2.*truncated or corrupt") as caught:
        import_pt2(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="no such file"):
        import_pt2(tmp_path / "absent.pt2")
