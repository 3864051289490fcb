"""Pictures that differ as photographs do, made from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def make_pixels(seed: int, height: int, width: int) -> np.ndarray:
    """Waves and grain in the seed's own colours and direction, uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    period, angle = np.exp(rng.uniform(1, 4)), rng.uniform(0, np.pi)
    waves = np.sin((x * np.cos(angle) + y * np.sin(angle)) / period)[..., None]
    picture = rng.uniform(50, 200, 3) + rng.uniform(10, 120, 3) * waves + rng.normal(0, 8, (height, width, 3))
    return picture.clip(0, 255).astype(np.uint8)


def make_photographs(folder: Path, count: int) -> Path:
    """`count` JPEGs of 160 x 120."""
    for seed in range(count):
        Image.fromarray(make_pixels(seed, 120, 160)).save(folder / f"{seed:03}.jpg")
    return folder
