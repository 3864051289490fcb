"""What a source of models hands over: a network and how it wants to be fed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from workers.decode import PixelShape


@dataclass(frozen=True)
class Network:
    """A network in fp32 on the CPU, fed with `(pixels - mean) / std`: levels 0 to 255, float [3] each.

    `features` takes the module and such a batch, float [B, 3, H, W], and gives [B, D]; `pooling` says in a
    word how. `revision` changes whenever the weights do.
    """

    module: nn.Module
    features: Callable[[nn.Module, Tensor], Tensor]
    shape: PixelShape
    mean: np.ndarray
    std: np.ndarray
    pooling: str
    revision: str
