"""Pictures that a model is tried on when it starts."""

from __future__ import annotations

import numpy as np

from workers.decode import PixelShape
from workers.embed.host import PASS


def probe(shape: PixelShape) -> list[np.ndarray]:
    """uint8 [H, W, 3] each, always the same: a CPU's full pass and one more, so that each way it computes is tried.

    Waves with some grain, dim ones, a square on white, and two of these inverted. Flat ground is where number
    formats differ most: each of its pixels is rounded the same way.
    """
    y, x = np.mgrid[0 : shape.height, 0 : shape.width]
    waves = np.stack([np.sin(x / period + y / (2 * period)) for period in (9, 17, 31)], axis=-1)
    grain = np.random.default_rng(0).normal(0, 8, waves.shape)
    square = np.full(waves.shape, 255.0)
    square[shape.height // 4 : -shape.height // 4, shape.width // 4 : -shape.width // 4] = (180, 60, 20)
    upright = (128 + 90 * waves + grain, 60 + 20 * waves, square)
    pictures = [*upright, *(255 - picture[::-1] for picture in upright)][: PASS + 1]
    return [picture.clip(0, 255).astype(np.uint8) for picture in pictures]
