"""A Qdrant server (1.16 or later), through qdrant-client. The model card is the collection's own metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any, TypeVar, cast

import numpy as np
from pydantic import BaseModel
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from shared.contract import SYSTEM_KEY, ModelCard, point_id
from shared.errors import IndexUnavailable, LookalikeError, RequestCode, RequestError
from workers.index.facets import prepare_facet
from workers.index.filters import parse_filter
from workers.index.interface import Collection, FieldType, Filter, Point, ScoredPoint
from workers.index.refusals import (
    check_cursor,
    check_model,
    check_name,
    invalid_filter,
    no_collection,
    other_index,
    plain_vector,
)

_METADATA = "lookalike"
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
        self._cards: dict[str, ModelCard] = {}

    def collections(self) -> list[Collection]:
        with self._asking():
            names = sorted(entry.name for entry in self._client.get_collections().collections)
        found = [self.find(name) for name in names]
        return [collection for collection in found if collection]

    def find(self, name: str) -> Collection | None:
        info = self._info(name)
        card = _card(info) if info else None
        if info is None or card is None:
            return None
        return Collection(name, card, _indexes(info))

    def create(self, name: str, card: ModelCard) -> bool:
        check_name(name)
        info = self._info(name)
        if info is None:
            try:
                self._make(name, card)
                return True
            except RequestError:
                info = self._info(name)  # did another worker make it just now?
                if info is None:
                    raise
        check_model(name, _card(info), card)
        return False

    def drop(self, name: str) -> None:
        self._forget(name)
        self._card(name)  # never one that is not ours
        with self._asking(name):
            self._client.delete_collection(name)
        self._forget(name)

    def ensure_indexes(self, name: str, fields: Mapping[str, FieldType]) -> None:
        self._card(name)
        info = self._info(name)
        standing = _indexes(info) if info else {}
        for field, kind in fields.items():
            if field not in standing:
                with self._asking(name):
                    self._client.create_payload_index(name, field, _SCHEMAS[kind], wait=True)
            elif standing[field] != kind:
                raise other_index(field, standing[field], kind)

    def upsert(self, name: str, points: Sequence[Point]) -> None:
        dimension = self._dimension(name, [point.vector for point in points])
        written = [_written(point, dimension) for point in points]
        with self._asking(name):
            for batch in _batches(written):
                self._client.upsert(name, batch, wait=True)

    def set_payloads(self, name: str, payloads: Mapping[str, dict[str, Any]]) -> None:
        self._card(name)
        with self._asking(name):
            for batch in _batches(_overwrite(id, payload) for id, payload in payloads.items()):
                self._client.batch_update_points(name, batch, wait=True)

    def retrieve(self, name: str, ids: Sequence[str], *, vectors: bool = False) -> dict[str, Point]:
        self._card(name)
        with self._asking(name):
            records = self._client.retrieve(
                name, [point_id(id) for id in ids], with_payload=True, with_vectors=vectors
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
        with self._asking(name, filter):
            found = self._client.query_points(
                name,
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
        self, name: str, *, filter: Filter | None = None, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[Point], str | None]:
        check_cursor(cursor)
        self._card(name)
        with self._asking(name, filter):
            records, following = self._client.scroll(
                name, scroll_filter=parse_filter(filter), limit=limit, offset=cursor, with_payload=True
            )
        return [_read(record) for record in records], str(following) if following else None

    def count(self, name: str, *, filter: Filter | None = None) -> int:
        self._card(name)
        with self._asking(name, filter):
            return self._client.count(name, count_filter=parse_filter(filter), exact=True).count

    def delete(self, name: str, ids: Sequence[str]) -> None:
        self._card(name)
        if not ids:
            return  # Qdrant calls it a bad request
        with self._asking(name):
            self._client.delete(name, [point_id(id) for id in ids], wait=True)

    def facet(
        self, name: str, key: str, *, filter: Filter | None = None, limit: int = 20
    ) -> list[tuple[Any, int]]:
        if not prepare_facet(self, name, key):
            return []
        with self._asking(name, filter):
            found = self._client.facet(name, key, facet_filter=parse_filter(filter), limit=limit, exact=True)
        return [(hit.value, hit.count) for hit in found.hits]

    def ping(self) -> None:
        with self._asking():
            self._client.get_collections()

    def close(self) -> None:
        self._client.close()

    def _make(self, name: str, card: ModelCard) -> None:
        with self._asking(name):
            self._client.create_collection(
                name,
                vectors_config=models.VectorParams(size=card.dimension, distance=models.Distance.COSINE),
                metadata={_METADATA: card.model_dump()},
            )

    def _info(self, name: str) -> models.CollectionInfo | None:
        try:
            with self._asking(name):
                return self._client.get_collection(name)
        except RequestError as error:
            if error.code is RequestCode.COLLECTION_NOT_FOUND:
                return None
            raise

    def _card(self, name: str) -> ModelCard:
        """The collection's card, asked for once. COLLECTION_NOT_FOUND also for one that is not ours."""
        if name not in self._cards:
            info = self._info(name)
            card = _card(info) if info else None
            if card is None:
                raise no_collection(name)
            self._cards[name] = card
        return self._cards[name]

    def _forget(self, name: str) -> None:
        self._cards.pop(name, None)

    def _dimension(self, name: str, vectors: Sequence[np.ndarray | None]) -> int:
        if any(vector is None or len(vector) != self._card(name).dimension for vector in vectors):
            self._forget(name)  # it may have been dropped and made again, under another model
        return self._card(name).dimension

    @contextmanager
    def _asking(self, name: str = "", filter: Filter | None = None) -> Iterator[None]:
        try:
            yield
        except (ResponseHandlingException, ResourceExhaustedResponse, JSONDecodeError) as error:
            reason = getattr(error, "source", error)
            raise IndexUnavailable(f"Qdrant at {self._url} does not answer: {reason}") from error
        except UnexpectedResponse as error:
            self._forget(name)
            raise self._refusal(error, name, filter) from error

    def _refusal(self, error: UnexpectedResponse, name: str, filter: Filter | None) -> LookalikeError:
        reason = _reason(error)
        if error.status_code == 404 and name:
            return no_collection(name)
        if error.status_code in (400, 409, 422):
            return invalid_filter(reason) if filter else RequestError(RequestCode.INVALID_REQUEST, reason)
        if error.status_code in (401, 403):
            reason = "it refuses the API key, so set QDRANT_API_KEY"
        return IndexUnavailable(f"Qdrant at {self._url} answered {error.status_code}: {reason}")


def _reason(error: UnexpectedResponse) -> str:
    """What Qdrant says went wrong, or the start of whatever answered in its place."""
    try:
        return str(error.structured()["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return error.content[:200].decode(errors="replace")


def _card(info: models.CollectionInfo) -> ModelCard | None:
    """None for a collection that we did not make."""
    card = (info.config.metadata or {}).get(_METADATA)
    return ModelCard.model_validate(card) if card else None


def _indexes(info: models.CollectionInfo) -> dict[str, FieldType]:
    return {field: cast(FieldType, index.data_type.value) for field, index in info.payload_schema.items()}


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
