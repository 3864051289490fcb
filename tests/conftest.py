"""A real Valkey for the session, and what is built on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app
from shared.broker import connect_redis
from shared.ledger import Ledger
from shared.settings import Settings
from tests.valkey import valkey

_LONG = ("tests/faults/", "tests/system/", "tests/workers/test_app.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole stacks first: where files run side by side, a long one at the end would run alone.

    xdist keeps to this order only under `--no-loadscope-reorder`; else it begins with the files of most tests.
    """
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with valkey() as url:
        yield url


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(redis_url=redis_url)


@pytest.fixture
def redis_client(settings: Settings) -> Iterator[redis.Redis]:
    """Empty before each test."""
    with connect_redis(settings) as client:
        client.flushdb()
        yield client


@pytest.fixture
def ledger(redis_client: redis.Redis, settings: Settings) -> Ledger:
    return Ledger(redis_client, settings)


@pytest.fixture
def app(redis_client: redis.Redis, settings: Settings) -> Flask:
    return create_app(settings)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """The API without workers."""
    return app.test_client()
