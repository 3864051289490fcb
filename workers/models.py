"""The models that this worker has loaded, each with what feeds it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from shared.contract import ModelCard
from shared.errors import RequestCode, RequestError
from shared.settings import Settings
from workers.batcher import Batcher
from workers.decode import Picture, PixelShape
from workers.decoders import Decoders
from workers.embed import Embedder, load_embedder
from workers.rows import Rows


@dataclass(frozen=True)
class Model:
    """A model ready to embed, the processes that decode for it, their shared rows, and the line before it."""

    embedder: Embedder
    rows: Rows
    decoders: Decoders
    batcher: Batcher

    @property
    def card(self) -> ModelCard:
        return self.embedder.card

    def line_up(self, data: bytes | bytearray, *, urgent: bool = False) -> tuple[Picture, Future[np.ndarray]]:
        """Decode a picture and line it up for the model. Its pixels stand until its vector is there, no longer."""
        picture = self.decoders.decode(data, urgent=urgent)
        try:
            vector = self.batcher.submit(picture.pixels, urgent=urgent)
        except BaseException:
            picture.let_go()
            raise
        vector.add_done_callback(lambda _: picture.let_go())
        return picture, vector

    def close(self) -> None:
        self.decoders.close()
        self.batcher.close()
        self.rows.close()


def load_model(settings: Settings) -> Model:
    """The model that the settings name, warm. StartError says what to change."""
    embedder = load_embedder(settings)
    rows = _rows(settings, embedder.shape)
    decoders = Decoders(settings, embedder.shape, rows)
    decoders.warm()
    batcher = Batcher(embedder, batch_size=settings.batch_size, threads=settings.embed_threads)
    return Model(embedder, rows, decoders, batcher)


def _rows(settings: Settings, shape: PixelShape) -> Rows:
    """For what is in the model, for three times as much that waits for it, and for what is being decoded."""
    waiting = 4 * settings.batch_size * settings.embed_threads
    return Rows(waiting + 2 * settings.decode_processes, shape, reserve=settings.decode_processes)


class Models:
    """Safe to share between the worker's threads."""

    def __init__(self, default: Model) -> None:
        self.default = default

    @contextmanager
    def of(self, card: ModelCard) -> Iterator[Model]:
        """The model of a collection, for as long as the block lasts. RequestError(MODEL_UNAVAILABLE)."""
        if card != self.default.card:
            raise RequestError(
                RequestCode.MODEL_UNAVAILABLE,
                f"This needs the model `{card.fingerprint}`, and this worker runs `{self.default.card.fingerprint}`. "
                "Search by `id` or `vector`, or start a worker with that model.",
            )
        yield self.default

    def close(self) -> None:
        self.default.close()
