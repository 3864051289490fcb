"""What a source of models hands over: a network and how it wants to be fed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from workers.decode import PixelShape
from workers.embed.text import TextSide


def plain(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The module as its authors wrote it, with numbers of `dtype`."""
    return module.to(dtype=dtype, memory_format=torch.channels_last)


@dataclass(frozen=True)
class Network:
    """A network in fp32 on the CPU, fed with `(pixels - mean) / std`: levels 0 to 255, float [3] each.

    `features` takes the module and such a batch, float [B, 3, H, W], and gives [B, D]; `pooling` says in a
    word how. `revision` changes whenever the weights do. `lean` takes a copy of the module and gives the form of it
    that a CPU computes quickest, in fp32, or in bf16 where it bears it. `text` embeds words into the same space,
    where the model can.
    """

    module: nn.Module
    features: Callable[[nn.Module, Tensor], Tensor]
    shape: PixelShape
    mean: np.ndarray
    std: np.ndarray
    pooling: str
    revision: str
    lean: Callable[[nn.Module, torch.dtype], nn.Module] = plain
    text: TextSide | None = None

    @property
    def memory(self) -> int:
        """Bytes of its weights."""
        weights = [*self.module.parameters(), *(self.text.parameters() if self.text else ())]
        return sum(weight.numel() * weight.element_size() for weight in weights)
