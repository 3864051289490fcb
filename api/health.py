"""Health: whether this process lives, and whether every part behind it does."""

from __future__ import annotations

import threading
import time
from typing import Any

import redis
from flask import Blueprint, current_app
from flask.blueprints import BlueprintSetupState

from api.parts import ask, lending, parts
from api.problems import problem, problem_response
from shared.contract import LIST_COLLECTIONS
from shared.errors import QueueUnavailable, RequestCode, RequestError

health = Blueprint("health", __name__)

_INDEX_SECONDS = 3.0
_FRESH_SECONDS = 1.0


class _Index:
    """Whether the index answers, asked once a second for whoever wants to know: they need no key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known_at = -_FRESH_SECONDS
        self._error: Exception | None = None

    def check(self) -> None:
        """As `ask` raises."""
        with lending():
            self._lock.acquire()
        try:
            if time.monotonic() - self._known_at >= _FRESH_SECONDS:
                self._look()
            if self._error:
                raise self._error
        finally:
            self._lock.release()

    def _look(self) -> None:
        self._error = None
        try:
            ask(LIST_COLLECTIONS, seconds=_INDEX_SECONDS)
        except (redis.RedisError, QueueUnavailable, RequestError) as error:
            self._error = error
        self._known_at = time.monotonic()


@health.record
def _remember_the_index(state: BlueprintSetupState) -> None:
    state.app.extensions["lookalike.index"] = _Index()


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
        current_app.extensions["lookalike.index"].check()
    except RequestError as error:
        found["index"] = error.detail
        raise
    found["index"] = "ok"


def _not_ready(code: RequestCode, detail: str, found: dict[str, Any]) -> Any:
    return problem_response({**problem(code, detail), "parts": found})
