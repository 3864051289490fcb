"""A network's forward on the CPU."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from workers.embed.network import Network, plain
from workers.embed.normalise import Normaliser

# Pictures in one pass. More cost no less each, and from some number on much more: the memory of large layers is
# handed back to the system after each of them, and comes again page by page.
PASS = 4


class HostForward:
    """Features of pictures, a few at a time. Each picture is normalised straight into its pass."""

    def __init__(self, network: Network, dtype: torch.dtype, *, lean: bool) -> None:
        module = copy.deepcopy(network.module).eval().requires_grad_(False)
        self._module = (network.lean if lean else plain)(module, dtype)
        self._features = network.features
        self._size = (network.shape.height, network.shape.width, 3)
        self._normalise = Normaliser(network, "cpu")
        self._dtype = dtype
        self.sizes = [PASS + 1]  # of the batches that warm it: a full pass and one of one

    def __call__(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """uint8 [H, W, 3] each -> float32 [B, D]."""
        passes = (pictures[start : start + PASS] for start in range(0, len(pictures), PASS))
        return torch.cat([self._pass(part) for part in passes])

    def _pass(self, pictures: Sequence[np.ndarray]) -> Tensor:
        batch = torch.empty((len(pictures), *self._size), dtype=self._dtype)
        for picture, row in zip(pictures, batch, strict=True):
            self._normalise(torch.from_numpy(picture), out=row)
        return self._features(self._module, batch.permute(0, 3, 1, 2)).float()  # channels last
