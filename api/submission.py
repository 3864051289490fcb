"""A submission: items → a job in the ledger, chunk by chunk, and a message for each chunk."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedReader
from typing import Any, cast

import redis
from flask import g, jsonify, url_for
from werkzeug.datastructures import FileStorage

from api import limits
from api.access import caller
from api.admission import check_backlog
from api.idempotency import Turn
from api.parts import parts
from api.problems import BrokenSubmission, Unprocessable, problem_of
from shared.contract import INGEST_CHUNK, Item, Message, Source, Sync
from shared.errands import feed_folder, feed_key
from shared.errors import FilesUnavailable, QueueUnavailable, RequestCode, RequestError
from shared.ledger import JobSnapshot

log = logging.getLogger("lookalike.api")

_CHUNKS_A_LOOK = 16

# What stands for a chunk's pictures while it is accepted; lists of URLs have none.
Keep = Callable[[list[Item]], AbstractContextManager[None]]


def _no_pictures(chunk: list[Item]) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Feed:
    """An uploaded file that an import reads, and the name that it is kept under."""

    name: str
    file: FileStorage


class _FeedBytes(Message):
    """What makes two feeds the same."""

    name: str
    sha256: str


def accept(
    collection: str,
    items: Iterable[Item],
    *,
    of_body: bool = True,
    keep: Keep = _no_pictures,
    sync: Sync | None = None,
) -> str:
    """Make the items durable as a new job, which workers begin at once; returns its id.

    The same request sent again under its `Idempotency-Key` returns the job that it made before. `of_body`: they came
    in this request's body, and are what makes it the same. `keep` holds on to a chunk's pictures. `sync`: what the
    collection has beside these items is removed when they have ended.

    Where the items cannot be read or taken to their end the job is cancelled: BrokenSubmission, or the error itself
    if nothing was accepted yet. redis.RedisError where the ledger is away. Of the key: the errors of `Turn`.
    """
    turn = Turn()
    items = turn.read(items) if of_body else iter(items)
    if turn.earlier:
        return _replay(turn.earlier, turn, items if of_body else ())
    try:
        return _accept_all(collection, items, turn, keep, sync)
    except Exception as error:
        if not _is_away(error):  # else the key is free by itself after a while
            turn.give_up()
        raise


def _replay(job: str, turn: Turn, items: Iterable[Item]) -> str:
    """The job that the same request made before."""
    for _ in items:
        pass
    turn.require_same()
    parts().ledger.seal_job(job)  # the API that accepted it may have died just before
    return job


def _accept_all(collection: str, items: Iterator[Item], turn: Turn, keep: Keep, sync: Sync | None) -> str:
    """The items as a new job. Its body's fingerprint stands before it is sealed, so that a replay can seal it."""
    ledger, job = parts().ledger, None
    try:
        for count, chunk in enumerate(_chunks(items, parts().settings.chunk_size)):
            turn.keep()
            if count % _CHUNKS_A_LOOK == 0:
                check_backlog()
            if job is None:
                job = ledger.open_job(collection, sync=sync)
                turn.began(job)
            with keep(chunk):
                number = ledger.accept_chunk(job, chunk)
            _send(job, number)
        if job is None:
            raise Unprocessable(RequestCode.INVALID_BODY, "The body holds no items.")
        turn.done()
        ledger.seal_job(job)
        log.info("job accepted for `%s`", caller(), extra={"request": g.request_id, "job": job})
    except Exception as error:
        if job is None or _is_away(error) or not _cancelled(job, error):
            raise
        raise BrokenSubmission(error, job) from error
    return job


def accept_import(
    collection: str, source: Source, feeds: Sequence[Feed] = (), sync: Sync | None = None
) -> str:
    """Make an import durable as a new job, whose source a worker reads from now on; returns its id.

    The same request sent again under its `Idempotency-Key` returns the job that it made before. The errors of `accept`.
    """
    turn = Turn()
    for _ in turn.read(_told(source, feeds, sync)):
        pass
    if turn.earlier:
        turn.require_same()
        parts().ledger.begin_import(turn.earlier)  # the API that accepted it may have died just before
        return turn.earlier
    try:
        check_backlog()
        job = parts().ledger.open_job(collection, source=source, sync=sync)
        turn.began(job)
        _begin(job, feeds, turn)
    except Exception as error:
        if not _is_away(error):
            turn.give_up()
        raise
    log.info("import accepted for `%s`", caller(), extra={"request": g.request_id, "job": job})
    return job


def _told(source: Source, feeds: Sequence[Feed], sync: Sync | None) -> Iterator[Message]:
    yield source
    if sync:
        yield sync
    for feed in feeds:
        yield _FeedBytes(name=feed.name, sha256=hashlib.file_digest(_opened(feed), "sha256").hexdigest())


def _begin(job: str, feeds: Sequence[Feed], turn: Turn) -> None:
    try:
        for feed in feeds:
            turn.keep()
            files = parts().files
            assert files
            files.write(feed_key(job, feed.name), _opened(feed))
        turn.done()
        if not parts().ledger.begin_import(job):
            raise RequestError(
                RequestCode.JOB_CANCELLED,
                f"Job `{job}` was cancelled before all of its source was here; import it again.",
            )
    except Exception as error:
        if _is_away(error) or not _cancelled(job, error):
            raise
        if feeds:
            _forget_feeds(job)
        raise BrokenSubmission(error, job) from error


def _forget_feeds(job: str) -> None:
    """The worker that clears up after the job may have done so before the last of them was kept."""
    files = parts().files
    assert files
    with suppress(FilesUnavailable):
        files.delete_folder(feed_folder(job))


def _opened(feed: Feed) -> BufferedReader:
    feed.file.stream.seek(0)
    return cast(BufferedReader, feed.file.stream)


def _chunks(items: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """Chunks of `most` items, or of fewer where payloads or vectors are heavy: many bodies may be read at once."""
    chunk: list[Item] = []
    weight = 0
    for item in items:
        chunk.append(item)
        weight += (len(repr(item.payload)) if item.payload else 0) + len(item.vector or "")
        if len(chunk) == most or weight >= limits.HEAVY_CHUNK:
            yield chunk
            chunk, weight = [], 0
    if chunk:
        yield chunk


def _is_away(error: Exception) -> bool:
    """A Redis that is away can do nothing about it either; one that is full still answers."""
    return isinstance(error, redis.RedisError) and not isinstance(error, redis.OutOfMemoryError)


def _cancelled(job: str, error: Exception) -> bool:
    """Whether the job could be cancelled. Otherwise it is ended by the workers' reconciler, later."""
    try:
        parts().ledger.cancel(job, problem_of(error)["detail"])
    except redis.RedisError as failure:
        log.warning("job not cancelled: %s", failure, extra={"request": g.request_id, "job": job})
        return False
    return True


def accepted(job: str) -> Any:
    """202 with the job and where to find it."""
    return jsonify(job_json(parts().ledger.snapshot(job))), 202, {"Location": url_for("jobs.get", id=job)}


def job_json(job: JobSnapshot) -> dict[str, Any]:
    """A job in the words of the HTTP contract."""
    shown: dict[str, Any] = {
        "id": job.id,
        "collection": job.collection,
        "state": job.state,
        "total": job.total,
        "indexed": job.indexed,
        "unchanged": job.unchanged,
        "failed": job.failed,
        "pending": job.pending,
        "failures": job.failures,
        "images_per_second": job.images_per_second,
        "eta_seconds": job.eta_seconds,
        "created_at": _timestamp(job.created_at),
        "finished_at": None if job.finished_at is None else _timestamp(job.finished_at),
    }
    if job.sync:
        shown["removed"] = job.sync.removed
        shown["sync"] = {"absent": job.sync.absent, "share": job.sync.share, "refused": job.sync.refused}
    return shown | ({"last_error": job.last_error} if job.last_error else {})


def _send(job: str, number: int) -> None:
    try:
        parts().broker.send(INGEST_CHUNK, job, number)
    except QueueUnavailable as error:
        # The ledger has the chunk, so the workers' reconciler will send it.
        log.warning("chunk not sent: %s", error, extra={"request": g.request_id, "job": job, "chunk": number})


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
