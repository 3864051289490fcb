"""What a search asks by, as one vector: its pictures, its words, or what it likes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from shared.contract import SYSTEM_KEY, Query
from shared.errors import FailureCode, ItemError, RequestCode, RequestError
from workers.index.interface import Collection, Point
from workers.index.refusals import no_image
from workers.models import Model
from workers.parts import Parts
from workers.stopwatch import Stopwatch

_AT_ONCE = 8  # pictures of one search that are fetched side by side
_LEAST_LENGTH = 1e-6  # of a sum of unit vectors that still points somewhere

Reader = Callable[[], bytes | bytearray]


@dataclass(frozen=True)
class Asked:
    """A query's vector, float32[dimension], and the images of the collection that it was made of."""

    vector: np.ndarray
    ids: Sequence[str] = ()


def asked(query: Query, collection: Collection, parts: Parts, took: Stopwatch) -> Asked:
    """What `query` asks by, under the collection's model. ItemError for a picture's own fault, else RequestError."""
    asker = Asker(collection, parts, took)
    if query.vector is not None:
        return Asked(asker.given(query.vector))
    if query.like is not None:
        return asker.liked(query.like, query.unlike or [])
    vectors = asker.pictured(query)
    if query.text is not None:
        vectors.append(asker.text(query.text))
    return Asked(_mean(vectors), [query.id] if query.id is not None else [])


class Asker:
    """Makes vectors of what people ask by, under the model of one collection."""

    def __init__(self, collection: Collection, parts: Parts, took: Stopwatch) -> None:
        self._collection = collection
        self._parts = parts
        self._took = took

    def given(self, values: list[float]) -> np.ndarray:
        """Of length 1, whatever it came with: engines count in float32, where squares soon overflow or vanish."""
        vector, dimension = np.asarray(values, dtype=np.float64), self._collection.card.dimension
        with np.errstate(over="ignore"):
            length = float(np.linalg.norm(vector))
        if vector.shape != (dimension,) or not 0 < length < math.inf:
            raise RequestError(
                RequestCode.INVALID_REQUEST,
                f"`vector` must be {dimension} finite numbers for collection `{self._collection.name}`, not all zero "
                f"and none so large or small that its square cannot be counted; it has {len(values)}.",
            )
        return np.asarray(vector / length, dtype=np.float32)

    def liked(self, like: Sequence[str], unlike: Sequence[str]) -> Asked:
        """As Qdrant's average-vector strategy: twice what is liked, less what is not."""
        points = self._standing([*like, *unlike])
        vectors = self._examples([*like, *unlike], points)
        mean = np.mean(vectors[: len(like)], axis=0)
        if unlike:
            mean = 2 * mean - np.mean(vectors[len(like) :], axis=0)
        return Asked(_unit(mean), list(points))

    def pictured(self, query: Query) -> list[np.ndarray]:
        """The vector of the query's picture, or the mean of its pictures; none where it has none."""
        if query.uploads is not None:
            return [
                _mean(self._pictures([partial(self._parked, sha256) for sha256 in query.uploads], query.crop))
            ]
        if query.url is not None:
            return self._pictures([partial(self._fetched, query.url)], query.crop)
        if query.id is None:
            return []
        point = self._standing([query.id]).get(query.id)
        if point is None or point.vector is None:
            raise no_image(self._collection.name, query.id)
        if query.crop is None:
            return [point.vector]
        return self._pictures([partial(self._picture_of, point)], query.crop)

    def text(self, text: str) -> np.ndarray:
        with self._parts.models.of(self._collection.card) as model, self._took.of("embed"):
            vector: np.ndarray = model.embed_text([text])[0]
            return vector

    def _standing(self, ids: Sequence[str]) -> dict[str, Point]:
        return self._parts.index.retrieve(self._collection.key, ids, vectors=True)

    def _examples(self, examples: Sequence[str], points: dict[str, Point]) -> list[np.ndarray]:
        """A vector each: an image of that id, or else the picture at that URL."""
        urls = sorted({example for example in examples if example not in points})
        for url in urls:
            if not url.lower().startswith(("http://", "https://")):
                raise no_image(self._collection.name, url)
        found = {id: point.vector for id, point in points.items()}
        if urls:
            fetched = self._pictures([partial(self._fetched, url) for url in urls])
            found.update(zip(urls, fetched, strict=True))
        return [np.asarray(found[example]) for example in examples]

    def _pictures(self, readers: Sequence[Reader], crop: list[float] | None = None) -> list[np.ndarray]:
        """The vectors of pictures, read side by side. The first one that fails raises its ItemError."""
        with self._parts.models.of(self._collection.card) as model:
            if len(readers) == 1:
                return [self._embedded(readers[0], crop, model)]
            with ThreadPoolExecutor(min(len(readers), _AT_ONCE)) as threads:
                return list(threads.map(lambda read: self._embedded(read, crop, model), readers))

    def _embedded(self, read: Reader, crop: list[float] | None, model: Model) -> np.ndarray:
        with self._took.of("fetch"):
            data = read()
        with self._took.of("embed"):
            cut = (crop[0], crop[1], crop[2], crop[3]) if crop else None
            _, vector = model.line_up(data, urgent=True, crop=cut)
            return vector.result()

    def _fetched(self, url: str) -> bytes | bytearray:
        return self._parts.fetcher.fetch(url).data

    def _parked(self, sha256: str) -> bytes:
        data = self._parts.uploads.read(sha256)
        if data is None:
            raise ItemError(FailureCode.EMPTY, "The query picture is no longer kept; send the search again.")
        self._parts.uploads.release(sha256)
        return data

    def _picture_of(self, point: Point) -> bytes | bytearray:
        """An image's picture again, from where it came from, or else its thumbnail."""
        system, thumbnails = point.payload[SYSTEM_KEY], self._parts.thumbnails
        if system.get("url") is not None:
            return self._fetched(system["url"])
        kept = thumbnails.read(self._collection.name, system["sha256"]) if thumbnails else None
        if kept is None:
            raise ItemError(
                FailureCode.EMPTY,
                f"Image `{point.id}` was uploaded and no picture of it is kept; send the picture itself with its crop.",
            )
        return kept


def _mean(vectors: Sequence[np.ndarray]) -> np.ndarray:
    return vectors[0] if len(vectors) == 1 else _unit(np.mean([_unit(vector) for vector in vectors], axis=0))


def _unit(vector: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    if length < _LEAST_LENGTH:
        raise RequestError(
            RequestCode.INVALID_REQUEST,
            "What this search asks by cancels itself out: its vectors add up to nothing. Leave some of them out.",
        )
    return np.asarray(vector / length, dtype=np.float32)
