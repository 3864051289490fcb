"""The models of a worker, each with what feeds it: its own, and those that a collection may name beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np

from shared.contract import ModelCard
from shared.errors import RequestCode, RequestError, StartError
from shared.settings import Settings
from workers.batcher import Batcher
from workers.decode import Crop, Picture, PixelShape
from workers.decoders import Decoders
from workers.embed import Embedder, choose_device, is_on_hub, load_embedder, newest
from workers.plan import planned
from workers.rows import Rows
from workers.shelf import PATIENCE_SECONDS, Key, Shelf

_MIB = 2**20


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

    @property
    def memory(self) -> int:
        """Bytes of its weights and of the pictures before it."""
        return self.embedder.memory + self.rows.memory

    @property
    def has_text(self) -> bool:
        return self.embedder.text is not None

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """One or more texts -> float32 [B, D], rows of length 1 in the space of its pictures.

        RequestError(TEXT_UNSUPPORTED) of a model without a text side.
        """
        if self.embedder.text is None:
            raise RequestError(
                RequestCode.TEXT_UNSUPPORTED,
                f"The model `{self.card.name}` takes no text: search by image, url, id or vector. CLIP and SigLIP "
                "models take it, where their tokenizer is beside them.",
            )
        return self.embedder.text.embed(texts)

    def line_up(
        self,
        data: bytes | bytearray,
        *,
        urgent: bool = False,
        crop: Crop | None = None,
        thumbnail: bool = False,
    ) -> tuple[Picture, Future[np.ndarray]]:
        """Decode a picture and line it up for the model. Its pixels stand until its vector is there, no longer.

        Of a `crop` only that part is embedded; `thumbnail` asks for one of the whole picture.
        """
        picture = self.decoders.decode(data, urgent=urgent, crop=crop, thumbnail=thumbnail)
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
    """The model that the settings name, warm. StartError says what to change, a ServiceError may pass."""
    embedder = load_embedder(settings)
    rows = _rows(settings, embedder.shape)
    decoders = Decoders(settings, embedder.shape, rows)
    try:
        decoders.warm()
    except BaseException:
        decoders.close()
        rows.close()
        raise
    batcher = Batcher(embedder, batch_size=settings.batch_size, threads=settings.embed_threads)
    return Model(embedder, rows, decoders, batcher)


def _rows(settings: Settings, shape: PixelShape) -> Rows:
    """For what is in the model, for three times as much that waits for it, and for what is being decoded."""
    waiting = 4 * settings.batch_size * settings.embed_threads
    return Rows(waiting + 2 * settings.decode_processes, shape, reserve=settings.decode_processes)


class Models:
    """The worker's own model, which always stands, and those of LOOKALIKE_MODELS, loaded when they are asked for.

    `settings` leave threads and batch sizes to a plan for each model. Safe to share between the worker's threads.
    """

    def __init__(self, settings: Settings, default: Model) -> None:
        self.default = default
        self._settings = settings
        self._names = tuple(dict.fromkeys((default.card.name, *settings.models)))
        self._others = Shelf(self._load, settings.models_memory_mib * _MIB)

    def card_of(self, name: str | None) -> ModelCard:
        """What a new collection under a model stands under; None: this worker's own.

        RequestError(MODEL_UNAVAILABLE) of one that may not be loaded here, or cannot be; ModelAway where it takes
        longer than a client waits for an answer: it is loaded meanwhile.
        """
        if name in (None, self.default.card.name):
            return self.default.card
        self._check_allowed(name)
        try:
            key = name, newest(name)
        except StartError as error:
            raise RequestError(RequestCode.MODEL_UNAVAILABLE, error.detail) from error
        with self._others.take(key, min(PATIENCE_SECONDS, 0.8 * self._settings.answer_seconds)) as model:
            return model.card

    @contextmanager
    def of(self, card: ModelCard) -> Iterator[Model]:
        """The model of a collection, for as long as the block lasts.

        RequestError(MODEL_UNAVAILABLE) where its vectors cannot be made here, ModelAway where they can be in a while.
        """
        with self._named(card) as model:
            if model.card != card:
                raise RequestError(
                    RequestCode.MODEL_UNAVAILABLE,
                    f"This needs the model `{card.fingerprint}`, and by that name stands `{model.card.fingerprint}` "
                    "here: its weights, its processor or LOOKALIKE_POOLING is another. Search by `id` or `vector`, "
                    "bring the model back as it was, or index the images anew.",
                )
            yield model

    def key_of(self, card: ModelCard) -> Key:
        """Whose vectors are the same under a name: a hub's at one commit, any other as it stands."""
        return card.name, card.revision if is_on_hub(card.name) else None

    def standing(self) -> dict[Key, int]:
        """Those that nobody has to wait for, with their bytes."""
        return {self.key_of(self.default.card): self.default.memory} | self._others.standing()

    def prepare(self, key: Key, memory: int) -> bool:
        """Load one of so many bytes before anybody asks for it, where it may be and there is room.

        False while it is being loaded.
        """
        is_other = key[0] in self._names and key != self.key_of(self.default.card)
        return not is_other or self._others.prepare(key, memory)

    def close(self) -> None:
        self._others.close()
        self.default.close()

    def _named(self, card: ModelCard) -> AbstractContextManager[Model]:
        """The model of that name; of a hub's, at the commit of the card."""
        key = self.key_of(card)
        if key == self.key_of(self.default.card):
            return nullcontext(self.default)
        self._check_allowed(card.name)
        return self._others.take(key)

    def _check_allowed(self, name: str) -> None:
        if name not in self._names:
            allowed = ", ".join(f"`{each}`" for each in self._names)
            raise RequestError(
                RequestCode.MODEL_UNAVAILABLE,
                f"This needs the model `{name}`, and the workers may load {allowed}. Take one of those, or start the "
                "workers with it in LOOKALIKE_MODELS.",
            )

    def _load(self, key: Key) -> Model:
        name, commit = key
        settings = self._settings.model_copy(update={"model": name, "model_revision": commit})
        return load_model(planned(settings, choose_device(settings)))
