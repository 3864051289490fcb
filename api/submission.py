"""A submission: items → a job in the ledger, chunk by chunk, and a message for each chunk."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import redis
from flask import g, jsonify, url_for

from api.parts import parts
from api.problems import BrokenSubmission, Unprocessable, problem_of
from shared.contract import INGEST_CHUNK, Item
from shared.errors import QueueUnavailable, RequestCode
from shared.ledger import JobSnapshot

log = logging.getLogger("lookalike.api")


def accept(collection: str, items: Iterable[Item]) -> str:
    """Make the items durable as a new job, which workers begin at once; returns its id.

    Where they cannot be read to their end the job is cancelled: BrokenSubmission, or the reader's own error
    if nothing was accepted yet. redis.RedisError where the ledger is away.
    """
    ledger, size, items = parts().ledger, parts().settings.chunk_size, iter(items)
    job = None
    try:
        while chunk := list(islice(items, size)):
            job = job or ledger.open_job(collection)
            _send(job, ledger.accept_chunk(job, chunk))
        if job is None:
            raise Unprocessable(RequestCode.INVALID_BODY, "The body holds no items.")
        ledger.seal_job(job)
    except redis.RedisError:
        raise  # a ledger that is away cannot cancel either
    except Exception as error:
        if job is None:
            raise
        ledger.cancel(job, problem_of(error)["detail"])
        raise BrokenSubmission(error, job) from error
    return job


def accepted(job: str) -> Any:
    """202 with the job and where to find it."""
    return jsonify(job_json(parts().ledger.snapshot(job))), 202, {"Location": url_for("jobs.get", id=job)}


def job_json(job: JobSnapshot) -> dict[str, Any]:
    """A job in the words of the HTTP contract."""
    shown = {
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
    return shown | ({"last_error": job.last_error} if job.last_error else {})


def _send(job: str, number: int) -> None:
    try:
        parts().broker.send(INGEST_CHUNK, job, number)
    except QueueUnavailable as error:
        # The ledger has the chunk, so the workers' reconciler will send it.
        log.warning("chunk not sent: %s", error, extra={"request": g.request_id, "job": job, "chunk": number})


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
