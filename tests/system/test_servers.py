"""The same stack against servers of one's own: REDIS_URL and QDRANT_URL take the embedded parts' place."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from cli.broker import server
from tests.image_server import ImageServer, jpeg
from tests.qdrant_server import qdrant_for_tests
from tests.system.reindexing import Reindexing
from tests.system.stack import Stack


@pytest.fixture(scope="module")
def qdrant_url() -> Iterator[str]:
    with qdrant_for_tests() as server:
        yield server.url


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    folder = str(tmp_path_factory.mktemp("redis"))
    command = [*server(), "--bind", "127.0.0.1", "--port", port, "--dir", folder, "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        yield f"redis://127.0.0.1:{port}/3"
        process.terminate()


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str], redis_url: str, qdrant_url: str
) -> Iterator[Stack]:
    _until_it_listens(redis_url)
    servers = {"REDIS_URL": redis_url, "QDRANT_URL": qdrant_url}
    stack = Stack(tmp_path_factory.mktemp("servers") / "data", **settings, **servers)
    stack.start()
    yield stack
    assert stack.stop() == 0


def test_ingest_and_search_run_on_given_servers(stack: Stack, images: ImageServer) -> None:
    items = [{"url": images.url(f"/jpeg/{n}.jpg"), "id": f"p{n}", "payload": {"n": n}} for n in range(30)]
    assert stack.ended(stack.submit("shop", items))["indexed"] == 30
    assert stack.ended(stack.submit("shop", items))["unchanged"] == 30
    assert stack.count("shop") == 30
    assert stack.search("shop", jpeg(3), limit=3)["hits"][0]["id"] == "p3"
    few = stack.search("shop", id="p3", filter={"must": [{"key": "n", "range": {"lt": 3}}]})
    assert {hit["id"] for hit in few["hits"]} == {"p0", "p1", "p2"}
    assert not stack.processes("valkey") + stack.processes("workers.index.store")


class TestReindexing(Reindexing):
    pass


def _until_it_listens(url: str) -> None:
    redis.Redis.from_url(url, retry=Retry(ConstantBackoff(0.1), 100)).ping()
