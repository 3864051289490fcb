"""One query's story: what it asks by → a vector → nearest images. No Celery here."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shared.contract import SYSTEM_KEY, Hit, HitGroup, Message, Query, point_id
from shared.errors import ItemError, RequestError
from shared.settings import Settings
from shared.thumbnails import thumbnail_path
from workers.conditions import Condition, index_filtered, narrowed
from workers.groups import Groups, index_group_field
from workers.index.interface import Collection, ScoredPoint
from workers.index.refusals import no_collection
from workers.neighbours import Neighbours, check_time
from workers.parts import Parts
from workers.placeholders import GROUP, RealNeighbours
from workers.queries import Asked, asked
from workers.stopwatch import Stopwatch

_AT_ONCE = 8  # queries of one batch


def search(query: Query, parts: Parts, until: float = math.inf) -> dict[str, Any]:
    """The search's result as the API hands it out, `{state, hits, took_ms}`, or `{state, problem, took_ms}`.

    What is wrong with the query or its picture is part of the answer; a service that fails raises. With `group_by`
    there are `groups` too, and `hits` are the best of each. After `until`, in seconds of the epoch, it is not begun.
    """
    took = Stopwatch(queue=max(0.0, time.time() - query.sent_at) * 1000)
    try:
        check_time(until)
        collection = parts.index.find(query.collection)
        if collection is None:
            raise no_collection(query.collection)
        question = asked(query, collection, parts, took)
        with took.of("search"):
            found = _found(query, _neighbours(query, question, collection, parts), collection, parts)
    except (ItemError, RequestError) as error:
        problem = {"code": error.code, "detail": error.detail}
        return {"state": "failed", "problem": problem, "took_ms": took.milliseconds}
    return {"state": "done", **found, "took_ms": took.milliseconds}


def search_all(queries: Sequence[Query], parts: Parts) -> dict[str, Any]:
    """The results of a batch, in its order: `{state, results}`."""
    until = min(_ends_at(query, parts.settings) for query in queries)
    with ThreadPoolExecutor(min(len(queries), _AT_ONCE)) as threads:
        results = threads.map(lambda query: search(query, parts, until), queries)
        return {"state": "done", "results": list(results)}


def _ends_at(query: Query, settings: Settings) -> float:
    """While its answer can be read, and before the watchdog takes slots full of searches for ones that hang."""
    return min(query.sent_at + settings.search_ttl, time.time() + settings.idle_seconds / 2)


def _neighbours(
    query: Query, question: Asked, collection: Collection, parts: Parts
) -> Neighbours | RealNeighbours:
    index_filtered(query.filter, collection, parts.index)
    neighbours = Neighbours(
        parts.index,
        collection.key,
        question.vector,
        filter=narrowed(query.filter, must_not=_itself(question)),
        score_threshold=query.score_threshold,
        exact=query.exact,
        until=_ends_at(query, parts.settings),  # from now on: its model may have come late
    )
    if query.placeholders:
        return neighbours
    return RealNeighbours(neighbours, parts.placeholders.of(collection, query.group_by or GROUP))


def _itself(question: Asked) -> list[Condition]:
    """As in Qdrant, an image that asks for its like is not its own answer."""
    return [{"has_id": [point_id(id) for id in question.ids]}] if question.ids else []


def _found(
    query: Query, neighbours: Neighbours | RealNeighbours, collection: Collection, parts: Parts
) -> dict[str, Any]:
    def hits(points: Iterable[ScoredPoint]) -> list[Hit]:
        return [_hit(point, query.with_payload, query.collection) for point in points]

    if query.group_by is None:
        return {"hits": _plain(hits(neighbours.nearest(query.limit, query.offset)))}
    stands = index_group_field(query.group_by, collection, parts.index)
    groups_of = Groups(neighbours, query.group_by)
    page = groups_of.page(query.limit, query.offset, query.group_size) if stands else []
    groups = [HitGroup(id=group.id, count=group.count, hits=hits(group.points)) for group in page]
    best = {group.hits[0].id: group.hits[0] for group in groups}  # one image may be the best of several
    return {"hits": _plain(best.values()), "groups": _plain(groups)}


def _hit(point: ScoredPoint, with_payload: bool | list[str], collection: str) -> Hit:
    if isinstance(with_payload, list):
        payload = {name: point.payload[name] for name in with_payload if name in point.payload}
    else:
        payload = point.payload if with_payload else {}
    return Hit(
        id=point.id,
        score=point.score,
        payload=payload,
        url=point.payload[SYSTEM_KEY].get("url"),
        thumbnail=thumbnail_path(collection, point.id, point.payload),
    )


def _plain(messages: Iterable[Message]) -> list[dict[str, Any]]:
    return [message.model_dump() for message in messages]
