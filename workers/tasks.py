"""The tasks: take, call, record. The stories are in `ingest.py`, `search.py` and `collections.py`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import redis

from shared import contract
from shared.contract import Chunk, ChunkReport, Query, TaskSpec
from shared.errors import (
    FilesUnavailable,
    IndexUnavailable,
    LookalikeError,
    ModelBroken,
    RequestCode,
    RequestError,
    ServiceError,
)
from workers import collections, comparison, versions
from workers.app import app, end, parts
from workers.index.interface import version_key
from workers.ingest import exhausted, hopeless, ingest
from workers.search import search, search_all

log = logging.getLogger("lookalike.tasks")

_SERVICE_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 60.0
_CREW_SECONDS = 20.0  # with the minute that a model may take here, less than the API waits for a swap


def _answers(spec: TaskSpec) -> Callable[[Callable[..., Any]], Any]:
    """A task whose answer the API waits for: `{"ok": value}`, or `{"error": {"code", "detail"}}`."""

    def register(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def run(*args: Any) -> dict[str, Any]:
            try:
                return {"ok": function(*args)}
            except RequestError as error:
                return {"error": {"code": error.code, "detail": error.detail}}
            except Exception as error:
                return {"error": _problem(error, spec)}

        return app.task(name=spec.name, ignore_result=False, shared=False)(run)

    return register


@app.task(name=contract.INGEST_CHUNK.name, shared=False)
def ingest_chunk(job: str, number: int) -> None:
    """Run one chunk under a lease and record how its items ended."""
    ledger = parts().ledger
    found = ledger.look(job, number)
    if not found:
        return
    # Claimed only when its turn has come: what waits while a suspect kills this worker shall not count as broken.
    with parts().turns.take(alone=found == "suspect"):
        chunk = None if parts().leases.refused else ledger.claim(job, number)
        if chunk:
            with parts().leases.hold(chunk):
                _work(chunk)


def _work(chunk: Chunk) -> None:
    try:
        report = _run(chunk)
        if report:
            _record(report)
    except ModelBroken as error:
        end(str(error))
        _give_back(chunk, error, after=0, counts=False)
    except (ServiceError, redis.RedisError) as error:
        _give_back(chunk, error, after=_SERVICE_PAUSE_SECONDS, counts=False)
    except LookalikeError as error:
        _record(hopeless(chunk, error.detail))
    except Exception as error:
        _give_back(chunk, error, after=min(2.0**chunk.attempt, _LONGEST_PAUSE_SECONDS), counts=True)


def _run(chunk: Chunk) -> ChunkReport | None:
    """The chunk's report; None where there is nothing to report: its lease was lost, or it was split."""
    ledger = parts().ledger
    if not ledger.is_exhausted(chunk):
        return ingest(chunk, parts(), lease=lambda: parts().leases.state(chunk))
    last_error = ledger.snapshot(chunk.job).last_error
    match ledger.split(chunk):
        case "whole":
            return exhausted(chunk, last_error)
        case "split":
            ids = {"job": chunk.job, "chunk": chunk.number}
            log.warning("broke every run and is split: %s", last_error, extra=ids)
    return None


def _record(report: ChunkReport) -> None:
    if parts().ledger.commit(report):
        log.info(
            "chunk done: %d indexed, %d unchanged, %d failed, %d put off",
            *(report.count(status) for status in ("indexed", "unchanged", "failed")),
            sum(len(later.items) for later in report.put_off),
            extra={"job": report.chunk.job, "chunk": report.chunk.number},
        )


def _give_back(chunk: Chunk, error: Exception, *, after: float, counts: bool) -> None:
    reason = f"{type(error).__name__}: {error}"
    log.warning(
        "chunk broke, again in %.0f s: %s",
        after,
        reason,
        exc_info=counts,
        extra={"job": chunk.job, "chunk": chunk.number},
    )
    parts().ledger.release(chunk, after=after, counts=counts, reason=reason)


@app.task(name=contract.SEARCH.name, ignore_result=False, shared=False)
def run_search(query: dict[str, Any]) -> dict[str, Any]:
    """Answer one search; what went wrong is part of the answer."""
    try:
        return search(Query.model_validate(query), parts())
    except Exception as error:
        return {"state": "failed", "problem": _problem(error, contract.SEARCH), "took_ms": {}}


@app.task(name=contract.SEARCH_BATCH.name, ignore_result=False, shared=False)
def run_searches(queries: list[dict[str, Any]]) -> dict[str, Any]:
    """Answer a batch of searches."""
    try:
        return search_all([Query.model_validate(query) for query in queries], parts())
    except Exception as error:
        return {"state": "failed", "problem": _problem(error, contract.SEARCH_BATCH)}


def _problem(error: Exception, spec: TaskSpec) -> dict[str, str]:
    """What the API says of an answer that broke: whoever waits hears of it at once."""
    if isinstance(error, ModelBroken):
        end(str(error))
    match error:
        case FilesUnavailable():
            return {"code": RequestCode.FILES_UNAVAILABLE, "detail": error.detail}
        case IndexUnavailable():
            return {"code": RequestCode.INDEX_UNAVAILABLE, "detail": error.detail}
        case redis.RedisError():
            return {"code": RequestCode.QUEUE_UNAVAILABLE, "detail": f"Redis does not answer: {error}"}
        case ServiceError():
            log.warning("%s: %s", spec.name, error)
            return {"code": RequestCode.WORKERS_UNAVAILABLE, "detail": error.detail}
    log.exception("%s broke", spec.name)
    return {"code": RequestCode.INTERNAL, "detail": "The worker met an error; its log says more."}


@_answers(contract.LIST_COLLECTIONS)
def list_collections() -> Any:
    """Every collection."""
    return collections.list_all(parts().index)


@_answers(contract.GET_COLLECTION)
def get_collection(name: str) -> Any:
    """One collection."""
    return collections.get(parts().index, name)


@_answers(contract.PUT_COLLECTION)
def put_collection(name: str, model: str | None, indexes: dict[str, Any]) -> Any:
    """Make a collection, or find it."""
    return collections.put(parts().index, parts().models.card_of, name, model, indexes)


@_answers(contract.DELETE_COLLECTION)
def delete_collection(name: str) -> None:
    """Drop a collection and all of its images."""
    collections.drop(parts().index, parts().thumbnails, name)


@_answers(contract.LIST_VERSIONS)
def list_versions(name: str) -> Any:
    """Every version of a collection."""
    return versions.list_all(parts().index, name)


@_answers(contract.ADD_VERSION)
def add_version(name: str, model: str) -> Any:
    """Make a version under another model."""
    return versions.add(parts().index, parts().models.card_of(model), name)


@_answers(contract.ROUTE_COPY)
def route_copy(name: str, version: int, origin: int | None) -> Any:
    """From which version to which a copy goes."""
    return versions.route(parts().index, name, version, origin)


@_answers(contract.COMPARE_VERSIONS)
def compare_versions(name: str, version: int, sample: int) -> Any:
    """How alike a version and the live one answer."""
    return comparison.compare(parts().index, name, version, sample)


@_answers(contract.GO_LIVE)
def go_live(name: str, version: int) -> Any:
    """Let the plain name stand for a version, once no search has to wait for its model, whoever answers it."""
    card = versions.find(parts().index, version_key(name, version)).card
    with parts().models.of(card):
        parts().crew.wait_for(card, _CREW_SECONDS)
        return versions.go_live(parts().index, name, version)


@_answers(contract.DROP_VERSION)
def drop_version(name: str, version: int) -> None:
    """Drop a version that is not live."""
    versions.drop(parts().index, name, version)


@_answers(contract.GET_FACETS)
def get_facets(name: str, field: str, filter: dict[str, Any] | None, limit: int) -> Any:
    """A field's values with their counts."""
    return collections.facets(parts().index, name, field, filter, limit)


@_answers(contract.LIST_IMAGES)
def list_images(
    name: str, filter: dict[str, Any] | None, limit: int, cursor: str | None, vectors: bool = False
) -> Any:
    """A page of images."""
    return collections.images(parts().index, name, filter, limit, cursor, vectors=vectors)


@_answers(contract.GET_IMAGE)
def get_image(name: str, id: str) -> Any:
    """One image."""
    return collections.image(parts().index, name, id)


@_answers(contract.DELETE_IMAGE)
def delete_image(name: str, id: str) -> None:
    """Remove one image."""
    collections.remove_image(parts().index, parts().thumbnails, name, id)
