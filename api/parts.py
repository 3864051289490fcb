"""What the API is made of: connections that open when they are first used, and the one way to ask a worker."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import redis
from flask import current_app, request

from api.connection import Connection
from shared.broker import Broker, connect_redis, make_celery
from shared.contract import TaskSpec
from shared.errors import RequestCode, RequestError
from shared.files import Files
from shared.ledger import Ledger
from shared.presence import Presence
from shared.settings import Settings
from shared.uploads import Uploads


@dataclass(frozen=True)
class Parts:
    """The tools of every request, shared between its threads."""

    settings: Settings
    redis: redis.Redis
    broker: Broker
    ledger: Ledger
    uploads: Uploads
    presence: Presence
    files: Files | None


def build_parts(settings: Settings) -> Parts:
    """Everything that requests need; nothing is connected yet."""
    client = connect_redis(settings, patience=2)
    return Parts(
        settings=settings,
        redis=client,
        broker=Broker(make_celery(settings)),
        ledger=Ledger(client, settings),
        uploads=Uploads(client, settings),
        presence=Presence(client),
        files=Files(settings) if settings.files else None,
    )


def parts() -> Parts:
    """Those of the application that serves this request."""
    return cast(Parts, current_app.extensions["lookalike"])


def lending() -> AbstractContextManager[None]:
    """While this request waits for another process, its place serves another request."""
    connection = request.environ.get("gunicorn.socket")
    return connection.elsewhere() if isinstance(connection, Connection) else nullcontext()


def ask(spec: TaskSpec, *args: Any, seconds: float | None = None) -> Any:
    """A worker's answer. RequestError with the worker's own code, or WORKERS_UNAVAILABLE where none comes."""
    seconds = parts().settings.answer_seconds if seconds is None else seconds
    parts().redis.ping()  # says within 5 s that Redis is away; Celery's own connection tries for longer
    id = parts().broker.send(spec, *args, expires=seconds)
    with lending():
        answer = parts().broker.wait(id, seconds)
    if answer is None:
        raise RequestError(
            RequestCode.WORKERS_UNAVAILABLE,
            f"No search worker answered within {seconds:g} s. Is one running? `GET /readyz` says which are.",
        )
    if "error" in answer:
        raise RequestError(RequestCode(answer["error"]["code"]), answer["error"]["detail"])
    return answer["ok"]
