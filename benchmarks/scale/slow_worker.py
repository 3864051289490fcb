"""The workers' application with a model that only sleeps: `celery -A benchmarks.scale.slow_worker worker …`.

A known time an image and no work of the processor: so more workers than cores show how the queue itself scales.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from celery import signals

from shared.contract import ModelCard
from shared.settings import Settings
from workers import models
from workers.app import app
from workers.decode import PixelShape
from workers.embed import Embedder
from workers.embed.text import TextSide

__all__ = ["app"]

SECONDS_AN_IMAGE = 0.04

log = logging.getLogger("lookalike.slow_worker")


class SleepingEmbedder:
    """An Embedder that logs each pass. Its vectors are a few of the picture's own pixels."""

    card = ModelCard(name="sleeping", revision="1", preprocessing="squash224x224", dimension=384)
    shape = PixelShape(224, 224)
    device = "cpu"
    memory = 0
    text: TextSide | None = None

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """See Embedder."""
        levels = np.stack([picture[::14, ::28].reshape(-1) for picture in pictures]).astype(np.float32) + 1
        time.sleep(len(pictures) * SECONDS_AN_IMAGE)
        log.info("embedded %d", len(pictures))
        return levels / np.linalg.norm(levels, axis=1, keepdims=True)


def _sleeping(settings: Settings) -> Embedder:
    return SleepingEmbedder()


@signals.celeryd_init.connect
def _put_to_sleep(instance: Any, **_: object) -> None:
    """Before a worker of this application loads its model. What only imports this keeps the models that it has."""
    if instance.app is app:
        models.load_embedder = _sleeping
