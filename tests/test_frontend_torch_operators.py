"""Each ATen operator the torch front end lowers, or refuses, against torch itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_models import Lambda, agree

from accel.errors import ModelError
from compiler.frontend.torch_import import import_torch

I = (2, 4, 6, 8)  # noqa: E741
T = (2, 4, 8)
OPERATORS: dict[str, tuple[Callable[[Lambda, Tensor], object], tuple[int, ...], list[str]]] = {
    "scalars": (lambda m, x: (1 - x * 2 + 3) / 4, T, ["mul", "sub", "add", "div"]),
    "alpha": (lambda m, x: torch.sub(torch.add(x, m.bias, alpha=2), 3, alpha=0.5), T, ["add", "sub"]),
    "addmm": (lambda m, x: torch.addmm(m.bias, x[0], m.weight), T, ["slice", "reshape", "gemm"]),
    "mm_left": (lambda m, x: m.weight @ x.transpose(1, 2), T, ["gemm", "transpose"]),
    "bmm": (lambda m, x: torch.bmm(x, x.transpose(1, 2)), T, ["matmul"]),
    "broadcast_matmul": (lambda m, x: x @ x[0].t(), T, None),
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
    "pieces": (lambda m, x: torch.cat([*x.split(3, -1), *x.chunk(2, -1)[::-1],
                                       x.select(1, -1)[:, None].expand(2, 4, 8)], -1), T,
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
    "resizes": (lambda m, x: (functional.interpolate(x, scale_factor=2),
                              functional.interpolate(x, (4, 12), mode="bilinear"),
                              functional.interpolate(x, (7, 5))), I, ["resize", "resize", "resize"]),
    "same_conv": (lambda m, x: functional.conv2d(x, m.weight.view(4, 4, 2, 2), padding="same"), I, ["conv"]),
    "causal": (lambda m, x: functional.scaled_dot_product_attention(x, x, x, is_causal=True), T,
               ["matmul", "mul", "add", "softmax", "matmul"]),
    "masked": (lambda m, x: functional.scaled_dot_product_attention(x, x, x, m.table[:4, :4] > 0.0, scale=0.2), T,
               ["matmul", "mul", "add", "softmax", "matmul"]),
    "lookup": (lambda m, x: functional.embedding(torch.arange(4), m.table) + x, T, ["add"]),
    "where": (lambda m, x: torch.where(m.table[0] > 99, 0.0, x).relu(), T, ["relu"]),
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
    "transposed": (lambda m, x: functional.conv_transpose2d(x[None], m.weight.view(4, 4, 2, 2)[:2]), "transpose2d"),
    "reflect": (lambda m, x: functional.pad(x, (1, 1), mode="reflect"), "reflect"),
    "align_corners": (lambda m, x: functional.interpolate(x[None], (8, 4), mode="bilinear", align_corners=True),
                      "supported: nearest"),
    "adaptive": (lambda m, x: functional.adaptive_avg_pool2d(x[None], (3, 3)), "must divide"),
    "indices": (lambda m, x: functional.max_pool2d(x[None], 2, return_indices=True)[1], "only the first is lowered"),
    "where": (lambda m, x: torch.where(m.table[0] > 0, 0.0, x), "differs between elements"),
    "comparison": (lambda m, x: (x == 0) * x, "comparison"),
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
