"""Pictures that a model is tried on when it starts."""

from __future__ import annotations

import numpy as np

from workers.decode import PixelShape


def probe(shape: PixelShape) -> list[np.ndarray]:
    """Three, uint8 [H, W, 3], always the same: waves with some grain, dim ones, and a square on white.

    Flat ground is where number formats differ most: each of its pixels is rounded the same way.
    """
    y, x = np.mgrid[0 : shape.height, 0 : shape.width]
    waves = np.stack([np.sin(x / period + y / (2 * period)) for period in (9, 17, 31)], axis=-1)
    grain = np.random.default_rng(0).normal(0, 8, waves.shape)
    square = np.full(waves.shape, 255.0)
    square[shape.height // 4 : -shape.height // 4, shape.width // 4 : -shape.width // 4] = (180, 60, 20)
    pictures = (128 + 90 * waves + grain, 60 + 20 * waves, square)
    return [picture.clip(0, 255).astype(np.uint8) for picture in pictures]
