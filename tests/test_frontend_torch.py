"""torch import against torch itself: through torch.export, ``.pt2`` files and ONNX."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_models import Lambda, agree

from accel.errors import ModelError
from compiler.frontend.onnx_import import import_onnx
from compiler.frontend.torch_import import import_pt2, import_torch


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


# torch's TorchScript exporter cannot trace its own encoder layer.
@pytest.mark.parametrize("name", [name for name in MODELS if name != "encoder_layer"])
def test_onnx_export_gives_the_same_weight_layers(name: str, tmp_path: Path) -> None:
    module, x = build(name)
    graph, params = import_onnx(export_onnx(module, x, tmp_path / "model.onnx"))
    agree(graph, params, module, x)
    exported, _ = import_torch(module, (x,))
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


def test_module_that_cannot_be_traced_or_is_training() -> None:
    with pytest.raises(ModelError, match="module 'Lambda' is in training mode"):
        import_torch(Lambda(lambda m, x: x), (torch.ones(1),))
    branching = Lambda(lambda m, x: x if x.sum() > 0 else -x).eval()
    with pytest.raises(ModelError, match=r"module 'Lambda': torch\.export cannot trace it"):
        import_torch(branching, (torch.ones(1),))


def test_dynamic_and_damaged_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module, x = build("perceptron")
    program = _export(module, x, dynamic_shapes=({0: torch.export.Dim("batch")},))
    path = tmp_path / "model.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
    with pytest.raises(ModelError, match=r"input 'input' has shape \[s\d+, 8\], which is not fixed"):
        import_pt2(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"model\.pt2.*no zip archive \(truncated") as caught:
        import_pt2(path)
    assert "\n" not in str(caught.value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")
    caplog.clear()
    with pytest.raises(ModelError, match=r"model\.pt2.*not of torch\.export\.save\)"):
        import_pt2(path)
    assert not caplog.records  # nor any traceback of torch's on stderr
    with pytest.raises(ModelError, match="no such file"):
        import_pt2(tmp_path / "absent.pt2")
