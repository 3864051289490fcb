"""One query's story: picture → pixels → vector → nearest images. No Celery here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from shared.contract import SYSTEM_KEY, Hit, Query, point_id
from shared.errors import FailureCode, ItemError, RequestCode, RequestError
from workers.index.interface import Collection, FieldType, Filter, ScoredPoint
from workers.index.refusals import no_collection, no_image
from workers.parts import Parts

# Past it a filter is answered without an index: a search must not grow a collection without bound.
_MOST_INDEXES = 256


def search(query: Query, parts: Parts) -> dict[str, Any]:
    """The search's result as the API hands it out, `{state, hits, took_ms}`, or `{state, problem, took_ms}`.

    What is wrong with the query or its picture is part of the answer; a service that fails raises.
    """
    took = Stopwatch(queue=max(0.0, time.time() - query.sent_at) * 1000)
    try:
        collection = parts.index.find(query.collection)
        if collection is None:
            raise no_collection(query.collection)
        vector = _vector(query, collection, parts, took)
        with took.of("search"):
            hits = _nearest(query, collection, vector, parts)
    except (ItemError, RequestError) as error:
        problem = {"code": error.code, "detail": error.detail}
        return {"state": "failed", "problem": problem, "took_ms": took.milliseconds}
    return {"state": "done", "hits": [hit.model_dump() for hit in hits], "took_ms": took.milliseconds}


class Stopwatch:
    """Milliseconds of each stage."""

    def __init__(self, queue: float) -> None:
        self.milliseconds = {"queue": round(queue, 2), "fetch": 0.0, "embed": 0.0, "search": 0.0}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.milliseconds[stage] = round((time.perf_counter() - start) * 1000, 2)


def _vector(query: Query, collection: Collection, parts: Parts, took: Stopwatch) -> np.ndarray:
    if query.vector is not None:
        return _given_vector(query.vector, collection)
    if query.id is not None:
        return _standing_vector(query.id, collection, parts)
    with parts.models.of(collection.card) as model:
        with took.of("fetch"):
            data = _query_bytes(query, parts)
        with took.of("embed"):
            _, vector = model.line_up(data, urgent=True)
            return vector.result()


def _given_vector(values: list[float], collection: Collection) -> np.ndarray:
    vector = np.asarray(values, dtype=np.float32)
    if vector.shape != (collection.card.dimension,) or not np.isfinite(vector).all() or not vector.any():
        raise RequestError(
            RequestCode.INVALID_REQUEST,
            f"`vector` must be {collection.card.dimension} finite numbers, not all zero, for collection "
            f"`{collection.name}`; it has {len(values)}.",
        )
    return vector


def _standing_vector(id: str, collection: Collection, parts: Parts) -> np.ndarray:
    point = parts.index.retrieve(collection.key, [id], vectors=True).get(id)
    if point is None or point.vector is None:
        raise no_image(collection.name, id)
    return point.vector


def _query_bytes(query: Query, parts: Parts) -> bytes | bytearray:
    if query.url is not None:
        return parts.fetcher.fetch(query.url).data
    data = parts.uploads.read(query.upload or "")
    if data is None:
        raise ItemError(FailureCode.EMPTY, "The query picture is no longer kept; send the search again.")
    parts.uploads.release(query.upload or "")
    return data


def _nearest(query: Query, collection: Collection, vector: np.ndarray, parts: Parts) -> list[Hit]:
    _index_filtered_fields(query.filter, collection, parts)
    points = parts.index.query(
        collection.key,
        vector,
        filter=_without_itself(query.filter, query.id),
        limit=query.limit,
        offset=query.offset,
        score_threshold=query.score_threshold,
        exact=query.exact,
    )
    return [_hit(point, query.with_payload) for point in points]


def _without_itself(filter: Filter | None, id: str | None) -> Filter | None:
    """As in Qdrant, an image that asks for its like is not its own answer."""
    if id is None:
        return filter
    others: Filter = {"must_not": [{"has_id": [point_id(id)]}]}
    return others | ({"must": [filter]} if filter else {})


def _hit(point: ScoredPoint, with_payload: bool | list[str]) -> Hit:
    if isinstance(with_payload, list):
        payload = {name: point.payload[name] for name in with_payload if name in point.payload}
    else:
        payload = point.payload if with_payload else {}
    return Hit(id=point.id, score=point.score, payload=payload, url=point.payload[SYSTEM_KEY].get("url"))


def _index_filtered_fields(filter: Filter | None, collection: Collection, parts: Parts) -> None:
    """A filter on a field makes its payload index, if none stands (API.md)."""
    wanted = {field: type for field, type in filtered_fields(filter or {}) if field not in collection.indexes}
    if wanted and len(collection.indexes) + len(wanted) <= _MOST_INDEXES:
        parts.index.ensure_indexes(collection.key, wanted)


def filtered_fields(filter: Filter) -> Iterator[tuple[str, FieldType]]:
    """The fields that a filter asks about, with the type of index that serves the question."""
    for clause in ("must", "should", "must_not"):
        conditions = filter.get(clause) or []
        for condition in [conditions] if isinstance(conditions, dict) else conditions:
            yield from _fields_of_condition(condition)
    yield from (
        pair
        for part in (filter.get("min_should") or {}).get("conditions", [])
        for pair in _fields_of_condition(part)
    )


def _fields_of_condition(condition: dict[str, Any]) -> Iterator[tuple[str, FieldType]]:
    if "key" not in condition:
        yield from filtered_fields(condition)
    elif condition.get("match"):
        type = _type_of_match(condition["match"])
        if type:
            yield condition["key"], type
    elif condition.get("range"):
        bounds = [bound for bound in condition["range"].values() if bound is not None]
        yield condition["key"], "datetime" if any(isinstance(bound, str) for bound in bounds) else "float"


def _type_of_match(match: dict[str, Any]) -> FieldType | None:
    values = match.get("any") or match.get("except") or [match.get("value")]
    match values[0]:
        case bool():
            return "bool"
        case int():
            return "integer"
        case str():
            return "keyword"
    return "text" if "text" in match or "phrase" in match or "text_any" in match else None
