from __future__ import annotations

import platform

import pytest
import torch
from torch import nn
from torch.nn.functional import pad

from tests.embedding import DTYPES
from workers.embed.packed import AVAILABLE, PackedConvolution, PackedLinear, pack_linears

pytestmark = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="oneDNN packs on x86-64 only"
)


def near(ours: torch.Tensor, exact: torch.Tensor, dtype: torch.dtype) -> None:
    assert ours.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(ours.float(), exact, rtol=tolerance, atol=tolerance)


def test_torch_has_the_operators_that_pack() -> None:
    assert AVAILABLE


@DTYPES
@pytest.mark.parametrize("gelu", [None, "none", "tanh"])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_a_linear_layer_with_what_follows_it(dtype: torch.dtype, gelu: str | None, bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(48, 96, bias=bias)
    after = nn.Identity() if gelu is None else nn.GELU(gelu)
    inputs = torch.randn(2, 7, 48)
    exact = after(linear(inputs))
    near(PackedLinear(linear.to(dtype), gelu)(inputs.to(dtype)), exact, dtype)


@DTYPES
@pytest.mark.parametrize("relu6", [True, False])
@pytest.mark.parametrize(
    "padding", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 0, 1), (1, 2, 1, 2), (0, 1, 1, 1)], ids=str
)
@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (8, 2)])
@torch.inference_mode()
def test_a_convolution_with_its_padding_and_what_follows_it(
    dtype: torch.dtype, relu6: bool, padding: tuple[int, int, int, int], groups: int, stride: int
) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(8, 16, 3, stride=stride, groups=groups)
    inputs = torch.randn(2, 8, 20, 20).to(memory_format=torch.channels_last)
    exact = convolution(pad(inputs, padding))
    packed = PackedConvolution(convolution, padding, dtype, relu6=relu6)
    near(packed(inputs), nn.ReLU6()(exact) if relu6 else exact, dtype)


def test_all_linear_layers_within_are_packed() -> None:
    module = nn.Sequential(
        nn.Linear(4, 4), nn.ModuleDict({"deep": nn.Sequential(nn.Linear(4, 4), nn.ReLU())})
    )
    pack_linears(module)
    assert [type(layer) for layer in module.modules() if not list(layer.children())] == [
        PackedLinear,
        PackedLinear,
        nn.ReLU,
    ]
