"""Health: whether this process lives, and whether every part behind it does."""

from __future__ import annotations

from typing import Any

import redis
from flask import Blueprint

from api.parts import ask, parts
from api.problems import problem, problem_response
from shared.contract import LIST_COLLECTIONS
from shared.errors import QueueUnavailable, RequestCode, RequestError

health = Blueprint("health", __name__)

_INDEX_SECONDS = 3.0


@health.get("/livez")
def livez() -> Any:
    return {"status": "ok"}


@health.get("/readyz")
def readyz() -> Any:
    """Every part by name, also where one of them is away."""
    found: dict[str, Any] = {"redis": "ok", "index": "unknown", "ingest workers": [], "search workers": []}
    try:
        _look(found)
    except (redis.RedisError, QueueUnavailable) as error:
        found["redis"] = str(error)
        return _not_ready(RequestCode.QUEUE_UNAVAILABLE, f"Redis does not answer: {error}", found)
    except RequestError as error:
        return _not_ready(error.code, error.detail, found)
    return {"status": "ready", "parts": found}


def _look(found: dict[str, Any]) -> None:
    for queue in ("ingest", "search"):
        found[f"{queue} workers"] = parts().presence.alive(queue)
    if found["search workers"]:
        _ask_the_index(found)
    missing = [queue for queue in ("ingest", "search") if not found[f"{queue} workers"]]
    if missing:
        raise RequestError(
            RequestCode.WORKERS_UNAVAILABLE,
            f"No worker serves the queue {' or '.join(missing)}: start one, `celery -A workers.app worker -Q …`.",
        )


def _ask_the_index(found: dict[str, Any]) -> None:
    try:
        ask(LIST_COLLECTIONS, seconds=_INDEX_SECONDS)
    except RequestError as error:
        found["index"] = error.detail
        raise
    found["index"] = "ok"


def _not_ready(code: RequestCode, detail: str, found: dict[str, Any]) -> Any:
    return problem_response({**problem(code, detail), "parts": found})
