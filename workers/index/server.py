"""A Qdrant server (1.16 or later), through qdrant-client. Where collections stand there is in `places.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel
from qdrant_client import QdrantClient, models

from shared.contract import SYSTEM_KEY, ModelCard, point_id
from shared.errors import RequestError
from workers.index.facets import Facets
from workers.index.filters import parse_filter
from workers.index.interface import Collection, FieldType, Filter, Point, ScoredPoint
from workers.index.places import Places
from workers.index.refusals import check_cursor, no_collection, other_index, plain_vector
from workers.index.replies import asking

_TIMEOUT = 30  # seconds
# Of the graph's search: with Qdrant's own 100, one of the ten nearest in twenty is missed at 100,000 vectors.
_CANDIDATES = 256
_BATCH_BYTES = 4 * 2**20  # Qdrant takes 32 MB in one request; smaller ones hold up its other work less

_T = TypeVar("_T", bound=BaseModel)

_SCHEMAS: dict[FieldType, models.PayloadSchemaType | models.TextIndexParams] = {
    "keyword": models.PayloadSchemaType.KEYWORD,
    "integer": models.PayloadSchemaType.INTEGER,
    "float": models.PayloadSchemaType.FLOAT,
    "bool": models.PayloadSchemaType.BOOL,
    "datetime": models.PayloadSchemaType.DATETIME,
    "text": models.TextIndexParams(
        type=models.TextIndexType.TEXT,
        tokenizer=models.TokenizerType.WORD,
        lowercase=True,
        phrase_matching=True,
    ),
    "uuid": models.PayloadSchemaType.UUID,
}


class ServerIndex:
    """The index on a Qdrant server. Threads may share it. Collections that others made are left alone."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self._url = url
        self._client = QdrantClient(url=url, api_key=api_key, timeout=_TIMEOUT, check_compatibility=False)
        self._places = Places(self._client, url)
        self._facets = Facets(self)

    def collections(self) -> list[Collection]:
        return self._places.collections()

    def find(self, name: str) -> Collection | None:
        return self._places.find(name)

    def versions(self, name: str) -> list[Collection]:
        return self._places.versions(name)

    def create(self, name: str, card: ModelCard) -> bool:
        return self._places.create(name, card)

    def go_live(self, name: str, version: int) -> None:
        self._places.go_live(name, version)

    def drop(self, name: str) -> None:
        self._places.drop(name)

    def ensure_indexes(self, name: str, fields: Mapping[str, FieldType]) -> None:
        collection = self.find(name)
        if collection is None:
            raise no_collection(name)
        for field, kind in fields.items():
            standing = collection.indexes.get(field)
            if standing is None:
                with self._at(collection.key) as place:
                    self._client.create_payload_index(place, field, _SCHEMAS[kind], wait=True)
            elif standing != kind:
                raise other_index(field, standing, kind)

    def upsert(self, name: str, points: Sequence[Point]) -> None:
        dimension = self._dimension(name, [point.vector for point in points])
        written = [_written(point, dimension) for point in points]
        with self._at(name) as place:
            for batch in _batches(written):
                self._client.upsert(place, batch, wait=True)
        self._facets.forget()

    def set_payloads(self, name: str, payloads: Mapping[str, dict[str, Any]]) -> None:
        with self._at(name) as place:
            for batch in _batches(_overwrite(id, payload) for id, payload in payloads.items()):
                self._client.batch_update_points(place, batch, wait=True)
        self._facets.forget()

    def retrieve(self, name: str, ids: Sequence[str], *, vectors: bool = False) -> dict[str, Point]:
        with self._at(name) as place:
            records = self._client.retrieve(
                place, [point_id(id) for id in ids], with_payload=True, with_vectors=vectors
            )
        points = [_read(record) for record in records]
        return {point.id: point for point in points}

    def query(
        self,
        name: str,
        vector: np.ndarray,
        *,
        filter: Filter | None = None,
        limit: int = 10,
        offset: int = 0,
        score_threshold: float | None = None,
        exact: bool = False,
    ) -> list[ScoredPoint]:
        wanted = plain_vector(vector, self._dimension(name, [vector]))
        with self._at(name, filter) as place:
            found = self._client.query_points(
                place,
                query=wanted,
                query_filter=parse_filter(filter),
                limit=limit,
                offset=offset,
                score_threshold=score_threshold,
                search_params=models.SearchParams(exact=exact, hnsw_ef=_CANDIDATES),
                with_payload=True,
            ).points
        hits = [_scored(point) for point in found]
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))

    def scroll(
        self,
        name: str,
        *,
        filter: Filter | None = None,
        limit: int = 100,
        cursor: str | None = None,
        vectors: bool = False,
    ) -> tuple[list[Point], str | None]:
        check_cursor(cursor)
        with self._at(name, filter) as place:
            records, following = self._client.scroll(
                place,
                scroll_filter=parse_filter(filter),
                limit=limit,
                offset=cursor,
                with_payload=True,
                with_vectors=vectors,
            )
        return [_read(record) for record in records], str(following) if following else None

    def count(self, name: str, *, filter: Filter | None = None) -> int:
        with self._at(name, filter) as place:
            return self._client.count(place, count_filter=parse_filter(filter), exact=True).count

    def delete(self, name: str, ids: Sequence[str]) -> None:
        with self._at(name) as place:
            if ids:  # Qdrant calls none a bad request
                self._client.delete(place, [point_id(id) for id in ids], wait=True)

    def facet(
        self, name: str, key: str, *, filter: Filter | None = None, limit: int = 20
    ) -> list[tuple[Any, int]]:
        if not self.index_values(name, key):
            return []
        with self._at(name, filter) as place:
            found = self._client.facet(place, key, facet_filter=parse_filter(filter), limit=limit, exact=True)
        return [(hit.value, hit.count) for hit in found.hits]

    def index_values(self, name: str, key: str) -> bool:
        return self._facets.prepare(name, key)

    def ping(self) -> None:
        with asking(self._url):
            self._client.get_collections()

    def close(self) -> None:
        self._client.close()

    def _dimension(self, name: str, vectors: Sequence[np.ndarray | None]) -> int:
        if any(
            vector is None or len(vector) != self._places.known(name).card.dimension for vector in vectors
        ):
            self._places.forget(name)  # it may have been dropped and made again, under another model
        return self._places.known(name).card.dimension

    @contextmanager
    def _at(self, name: str, filter: Filter | None = None) -> Iterator[str]:
        """Where to ask, and what went wrong there in our own words."""
        place = self._places.known(name).place
        try:
            with asking(self._url, name, filter):
                yield place
        except RequestError:
            self._places.forget(name)
            raise


def _batches(entries: Iterable[_T]) -> Iterator[list[_T]]:
    """Operations in lists that stay small as JSON."""
    batch: list[_T] = []
    size = 0
    for entry in entries:
        length = len(entry.model_dump_json())
        if batch and size + length > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += length
    if batch:
        yield batch


def _written(point: Point, dimension: int) -> models.PointStruct:
    return models.PointStruct(
        id=point_id(point.id), vector=plain_vector(point.vector, dimension), payload=point.payload
    )


def _overwrite(id: str, payload: dict[str, Any]) -> models.OverwritePayloadOperation:
    """By filter, because by id Qdrant fails on an image that was deleted meanwhile."""
    chosen = models.Filter(must=[models.HasIdCondition(has_id=[point_id(id)])])
    return models.OverwritePayloadOperation(
        overwrite_payload=models.SetPayload(payload=payload, filter=chosen)
    )


def _read(record: models.Record) -> Point:
    payload = record.payload or {}
    vector = None if record.vector is None else np.asarray(record.vector, dtype=np.float32)
    return Point(payload[SYSTEM_KEY]["id"], payload, vector)


def _scored(point: models.ScoredPoint) -> ScoredPoint:
    payload = point.payload or {}
    return ScoredPoint(payload[SYSTEM_KEY]["id"], point.score, payload)
