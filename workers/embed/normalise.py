"""Pixels as a network wants to be fed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from workers.embed.network import Network


class Normaliser:
    """`(pixels - mean) / std` in one pass, on a device."""

    def __init__(self, network: Network, device: str) -> None:
        shape = (network.shape.height, network.shape.width, 3)

        def plane(colours: np.ndarray) -> Tensor:  # of the whole picture: nothing is repeated three by three
            return torch.tensor(colours, dtype=torch.float32, device=device).expand(shape).contiguous()

        self._scale = plane(1 / network.std)
        self._shift = plane(-network.mean / network.std)

    def __call__(self, pixels: Tensor, out: Tensor) -> None:
        """Levels [..., H, W, 3] of any number format into a tensor of that shape and any other."""
        torch.addcmul(self._shift, pixels, self._scale, out=out)
