"""Layers whose weights are packed once, in the order that oneDNN's kernels read them.

Torch packs them anew in each call, and some of its other kernels are slower: packed, a linear layer of fp32 takes
half the time on an AMD. The operators are those that torch's own compiler calls. Torch documents none of them, so
they are looked for first.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

_onednn = torch.ops.mkldnn

AVAILABLE: bool = (
    torch.backends.mkldnn.is_available()
    and platform.machine().lower() in ("x86_64", "amd64")
    and all(
        hasattr(_onednn, name)
        for name in (
            "_linear_pointwise",
            "_reorder_linear_weight",
            "_convolution_pointwise",
            "_reorder_convolution_weight",
        )
    )
)


class PackedLinear(nn.Module):
    """A linear layer, and the GELU behind it in the same pass where `gelu` says which: "none" (exact) or "tanh"."""

    def __init__(self, linear: nn.Linear, gelu: str | None = None) -> None:
        super().__init__()
        self._weight = _onednn._reorder_linear_weight(linear.weight.detach())
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._after: tuple[Any, ...] = ("none", [], "") if gelu is None else ("gelu", [], gelu)

    def forward(self, pixels: Tensor) -> Tensor:
        return _onednn._linear_pointwise(pixels, self._weight, self._bias, *self._after)


class PackedConvolution(nn.Module):
    """A convolution computed with numbers of `dtype`, and the ReLU6 behind it in the same pass if `relu6`.

    `padding` is left, right, top, bottom, with no more before the picture than after it. An uneven one becomes even
    by zeros before the kernel's first row and column: cheaper than to copy the picture into a larger one.
    """

    def __init__(
        self, convolution: nn.Conv2d, padding: Sequence[int], dtype: torch.dtype, *, relu6: bool
    ) -> None:
        super().__init__()
        left, right, top, bottom = padding
        weight = pad(convolution.weight.detach(), (right - left, 0, bottom - top, 0)).to(dtype)
        place = ([bottom, right], list(convolution.stride), list(convolution.dilation), convolution.groups)
        self._dtype = dtype
        self._weight = _onednn._reorder_convolution_weight(weight, *place)
        self._bias = None if convolution.bias is None else convolution.bias.detach().to(dtype)
        self._after: tuple[Any, ...] = (
            *place,
            *(("hardtanh", [0.0, 6.0], "") if relu6 else ("none", [], "")),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        return _onednn._convolution_pointwise(pixels.to(self._dtype), self._weight, self._bias, *self._after)


def pack_linears(module: nn.Module) -> None:
    """Put a packed one in place of each linear layer within."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, PackedLinear(child))
        else:
            pack_linears(child)
