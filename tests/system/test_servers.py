"""The same stack against servers of one's own: REDIS_URL and QDRANT_URL take the embedded parts' place."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from cli.broker import server
from tests.image_server import ImageServer, jpeg
from tests.qdrant_server import Unavailable, qdrant_server
from tests.system.conftest import IMAGES_HOST
from tests.system.stack import Stack


@pytest.fixture
def qdrant_url() -> Iterator[str]:
    try:
        with qdrant_server() as url:
            yield url
    except Unavailable as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(reason))


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [*server(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(tmp_path), "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        yield f"redis://127.0.0.1:{port}/3"
        process.terminate()


def test_ingest_and_search_run_on_given_servers(
    tmp_path: Path, redis_url: str, qdrant_url: str, images: ImageServer
) -> None:
    _until_it_listens(redis_url)
    stack = Stack(
        tmp_path / "data",
        REDIS_URL=redis_url,
        QDRANT_URL=qdrant_url,
        LOOKALIKE_FETCH_ALLOW=f"{IMAGES_HOST}/32",
    )
    stack.start()
    items = [{"url": images.url(f"/jpeg/{n}.jpg"), "id": f"p{n}", "payload": {"n": n}} for n in range(30)]
    assert stack.ended(stack.submit("shop", items))["indexed"] == 30
    assert stack.ended(stack.submit("shop", items))["unchanged"] == 30
    assert stack.count("shop") == 30
    assert stack.search("shop", jpeg(3), limit=3)["hits"][0]["id"] == "p3"
    few = stack.search("shop", id="p3", filter={"must": [{"key": "n", "range": {"lt": 3}}]})
    assert {hit["id"] for hit in few["hits"]} == {"p0", "p1", "p2"}
    assert not stack.processes("valkey") + stack.processes("workers.index.store")
    assert stack.stop() == 0


def _until_it_listens(url: str) -> None:
    redis.Redis.from_url(url, retry=Retry(ConstantBackoff(0.1), 100)).ping()
