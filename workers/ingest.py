"""One chunk's story: fetch → decode → embed → upsert → report. No Celery here."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from shared.contract import Chunk, ChunkReport, Item, ItemOutcome
from shared.errors import FailureCode, ItemError, ServiceError
from workers.collections import find_or_make, still_stands_for
from workers.index.interface import Collection, Point
from workers.lease import LeaseState
from workers.parts import Parts
from workers.patience import Patience
from workers.preparation import Preparation, Prepared
from workers.removal import forget
from workers.versions import forget_deleted, overtaken
from workers.writes import Writes

_REMOVAL_SECONDS = 10.0
_LOOK_SECONDS = 0.1
_WRITERS = 8  # thumbnails of one chunk that are written at once


def ingest(chunk: Chunk, parts: Parts, lease: Callable[[], LeaseState]) -> ChunkReport | None:
    """Index a chunk's items; the report says how each one ended, or None where the lease was lost.

    When it returns, all that it reports as indexed is durable. A service that fails raises, and nothing is
    reported. `lease` renews the chunk's lease and says what became of it. Items whose fault may pass by itself are
    put off, to be fetched again.
    """
    _await_removal(chunk, parts)
    while True:
        collection = find_or_make(parts.index, chunk.collection, parts.models.default.card)
        report = _ingest_into(collection, chunk, parts, lease)
        # Else another version was put live meanwhile: what was written is not where searches look.
        if report is None or still_stands_for(parts.index, chunk.collection, collection):
            return report


def _await_removal(chunk: Chunk, parts: Parts) -> None:
    """Until no sync is removing an image of the chunk: it would look as if it stood. ServiceError: it takes long."""
    ids = [item.id for item in chunk.items]
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while parts.ledger.errands.is_removing(chunk.collection, ids):
        if time.monotonic() >= deadline:
            raise ServiceError("A sync is removing images that this chunk brings again.")
        time.sleep(_LOOK_SECONDS)


def _ingest_into(
    collection: Collection, chunk: Chunk, parts: Parts, lease: Callable[[], LeaseState]
) -> ChunkReport | None:
    standing = parts.index.retrieve(collection.key, [item.id for item in chunk.items])
    with parts.models.of(collection.card) as model:
        preparation = Preparation(collection, model, parts)
        ready = parts.pool.map(lambda item: preparation.of(item, standing.get(item.id)), chunk.items)
        prepared = list(zip(chunk.items, ready, strict=True))
        return _write(chunk, collection, standing, prepared, parts, lease)


def _write(
    chunk: Chunk,
    collection: Collection,
    standing: dict[str, Point],
    prepared: list[tuple[Item, Prepared | ItemError]],
    parts: Parts,
    lease: Callable[[], LeaseState],
) -> ChunkReport | None:
    put_off = Patience(chunk, parts.settings).put_off(prepared)
    waiting = {item.id for later in put_off for item in later.items}
    writes = Writes(chunk, standing, collection.card.fingerprint)
    for item, ready in prepared:
        if item.id not in waiting:
            writes.add(item, ready)
    # Before the points: an image that says it has a thumbnail has one. It may take a while, so it is asked again.
    if parts.thumbnails and writes.thumbnails and lease() == "held":
        _keep(writes.thumbnails, parts.thumbnails.write, collection.name)
    match lease():
        case "lost":
            return None
        case "cancelled":
            return _all_cancelled(chunk)
    is_copy = chunk.collection == collection.key
    if is_copy:
        writes.leave(overtaken(parts.index, collection, chunk.items))
    _write_all(writes, collection, parts)
    if is_copy:
        forget_deleted(parts.index, collection, list(writes.points))
    return ChunkReport(chunk, writes.outcomes, put_off)


def _keep(made: dict[str, bytes], write: Callable[[str, str, bytes], None], collection: str) -> None:
    """Side by side, for they may lie far away; and not on the fetch threads, where others may wait for slow hosts."""
    writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="thumbnails")
    try:
        list(writers.map(lambda each: write(collection, *each), made.items()))
    finally:
        writers.shutdown(cancel_futures=True)


def _write_all(writes: Writes, collection: Collection, parts: Parts) -> None:
    if writes.points:
        parts.index.upsert(collection.key, list(writes.points.values()))
    if writes.payloads:
        parts.index.set_payloads(collection.key, writes.payloads)
    if parts.thumbnails and writes.thumbnails:
        # Others may have deleted one since, while no image that stood had its bytes (`removal.forget`).
        _keep(writes.thumbnails, parts.thumbnails.keep, collection.name)
    forget(parts.index, parts.thumbnails, collection.key, set(writes.replaced()))


def exhausted(chunk: Chunk, last_error: str | None) -> ChunkReport:
    """The report of an item that broke every run: a job always ends."""
    detail = f"{chunk.attempt - 1} runs with this item broke. The last: {last_error or 'its worker died'}"
    return _all_failed(chunk, FailureCode.ATTEMPTS_EXHAUSTED, detail, attempts=chunk.attempt - 1)


def hopeless(chunk: Chunk, reason: str) -> ChunkReport:
    """The report of a chunk that would break in every run, for a reason of its collection's."""
    return _all_failed(chunk, FailureCode.ATTEMPTS_EXHAUSTED, reason)


def _all_cancelled(chunk: Chunk) -> ChunkReport:
    return _all_failed(chunk, FailureCode.CANCELLED, "The job was cancelled before this item was indexed.")


def _all_failed(chunk: Chunk, code: FailureCode, detail: str, attempts: int = 1) -> ChunkReport:
    outcomes = [ItemOutcome(item, "failed", code, detail, True, attempts) for item in chunk.items]
    return ChunkReport(chunk, outcomes)
