"""What the API's tests lean on: workers that answer as told, and a look at what was accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from shared import contract
from shared.broker import make_celery
from shared.contract import Item
from shared.ledger import Ledger
from shared.settings import Settings


class Workers:
    """A real Celery worker on the search queue, which answers each task as the test says."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._answers: dict[str, Any] = {}

    def answer(self, spec: contract.TaskSpec, answer: Any) -> None:
        self._answers[spec.name] = answer

    def forget(self) -> None:
        self.calls, self._answers = [], {}

    def register(self, app: Celery) -> None:
        for spec in contract.TASKS:
            if spec.answers:
                app.task(name=spec.name, ignore_result=False, shared=False)(self._task(spec.name))

    def _task(self, name: str) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            self.calls.append((name, *args))
            return self._answers[name]

        return run


@pytest.fixture
def settings(redis_url: str, request: pytest.FixtureRequest) -> Settings:
    """The workers have a database of their own, so that they take no other test's messages."""
    return (
        _settings_with_workers(redis_url)
        if "workers" in request.fixturenames
        else Settings(redis_url=redis_url)
    )


def _settings_with_workers(redis_url: str) -> Settings:
    return Settings(redis_url=redis_url.replace("db=0", "db=1"))


@pytest.fixture(scope="session")
def running_workers(redis_url: str) -> Iterator[Workers]:
    answering, celery = Workers(), make_celery(_settings_with_workers(redis_url))
    answering.register(celery)
    options = {"pool": "threads", "concurrency": 2, "queues": ["search"], "perform_ping_check": False}
    with start_worker(celery, shutdown_timeout=30, **options):
        yield answering


@pytest.fixture
def workers(running_workers: Workers, redis_client: object) -> Workers:
    """They know no answers yet."""
    running_workers.forget()
    return running_workers


@pytest.fixture
def client_with(settings: Settings, redis_client: object) -> Callable[..., FlaskClient]:
    """The API under other settings."""
    return lambda **changes: create_app(settings.model_copy(update=changes)).test_client()


@pytest.fixture
def full_redis(redis_client: redis.Redis) -> Iterator[None]:
    """Redis has used up its `maxmemory`, and takes nothing more."""
    redis_client.config_set("maxmemory", redis_client.info("memory")["used_memory"] // 2)
    yield
    redis_client.config_set("maxmemory", 0)


@pytest.fixture
def accepted(ledger: Ledger) -> Callable[[TestResponse], list[Item]]:
    """The items of the job that an answer made, in order."""

    def read(response: TestResponse) -> list[Item]:
        assert response.status_code == 202, response.text
        items: list[Item] = []
        number = 1
        while chunk := ledger.claim(response.json["id"], number):
            items += chunk.items
            number += 1
        return items

    return read


def assert_problem(response: TestResponse, status: int, code: str, *words: str) -> dict[str, Any]:
    """It is a whole problem, with this status and code, and its detail says these words."""
    assert (response.status_code, response.mimetype) == (status, "application/problem+json"), response.text
    problem: dict[str, Any] = response.get_json()
    assert problem.keys() >= {"type", "title", "status", "detail", "code", "request_id"}
    assert (problem["status"], problem["code"]) == (status, code), problem
    assert problem["request_id"] == response.headers["X-Request-Id"]
    for word in words:
        assert word in problem["detail"], problem["detail"]
    return problem
