"""What every embedder asks of its pictures and of its vectors, and says where it has no memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared.errors import OutOfMemory
from workers.decode import PixelShape


def check_pictures(pictures: Sequence[np.ndarray], shape: PixelShape) -> None:
    """ValueError where there is none, or one that is not uint8 [H, W, 3] of `shape`."""
    wanted = (shape.height, shape.width, 3)
    if len(pictures) == 0:
        raise ValueError(f"A batch is uint8 [1 or more, {wanted}], not empty.")
    for picture in pictures:
        if picture.dtype != np.uint8 or picture.shape != wanted:
            raise ValueError(
                f"A batch is uint8 [1 or more, {wanted}], and one picture is {picture.dtype} {picture.shape}."
            )


def check_vectors(vectors: np.ndarray) -> None:
    """ValueError where one of float32 [B, D] is not finite: it names the rows."""
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()
    if broken:
        raise ValueError(f"The model gave no finite vector for the rows {broken} of the batch.")


def out_of_memory(device: str, count: int) -> OutOfMemory:
    """For `count` pictures at once."""
    knob = "LOOKALIKE_EMBED_THREADS" if device == "cpu" else "LOOKALIKE_BATCH_SIZE"
    return OutOfMemory(
        f"The model has no memory on {device} for {count} pictures at once. Lower {knob}, or "
        "give the device more memory or fewer other users."
    )
