"""What holds of a Qdrant server, beyond the contract: it may be shared with others, and it may be away."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from shared.errors import IndexUnavailable, ModelMismatch, RequestCode, RequestError
from tests.workers.index.shop import CARD, OTHER_CARD, image
from workers.index.server import ServerIndex


@pytest.fixture
def foreign(qdrant_url: str) -> Iterator[QdrantClient]:
    """A server on which somebody else keeps the collection `theirs`."""
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    client.create_collection("theirs", models.VectorParams(size=4, distance=models.Distance.COSINE))
    yield client
    client.delete_collection("theirs")
    client.close()


def test_a_collection_of_somebody_else_is_left_alone(foreign: QdrantClient, qdrant_url: str) -> None:
    index = ServerIndex(qdrant_url)
    assert index.find("theirs") is None
    assert index.collections() == []
    with pytest.raises(ModelMismatch, match="was not made by Lookalike"):
        index.create("theirs", CARD)
    for ask in (lambda: index.drop("theirs"), lambda: index.upsert("theirs", [image("a")])):
        with pytest.raises(RequestError) as caught:
            ask()
        assert caught.value.code is RequestCode.COLLECTION_NOT_FOUND
    assert foreign.collection_exists("theirs")
    assert foreign.count("theirs").count == 0


def test_a_collection_that_another_worker_made_anew_is_met_with_its_new_model(qdrant_url: str) -> None:
    one, other = ServerIndex(qdrant_url), ServerIndex(qdrant_url)
    one.create("shared", CARD)
    one.upsert("shared", [image("a")])
    other.drop("shared")
    with pytest.raises(RequestError, match="no collection `shared`"):
        one.count("shared")
    other.create("shared", CARD.model_copy(update={"dimension": 6}))
    one.upsert("shared", [image("a", np.ones(6))])
    assert one.count("shared") == 1
    one.drop("shared")


@pytest.fixture
def unversioned(qdrant_url: str) -> Iterator[ServerIndex]:
    """A server on which `old` stands as before there were versions, with one image."""
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    client.create_collection(
        "old",
        models.VectorParams(size=4, distance=models.Distance.COSINE),
        metadata={"lookalike": CARD.model_dump()},
    )
    index = ServerIndex(qdrant_url)
    index.upsert("old", [image("a")])
    yield index
    index.drop("old")
    assert index.collections() == []
    client.close()


def test_a_collection_from_before_there_were_versions_is_used_as_version_1(unversioned: ServerIndex) -> None:
    collection = unversioned.find("old")
    assert collection is not None
    assert (collection.key, collection.live) == ("old@1", True)
    assert unversioned.find("old@1") == collection
    assert unversioned.versions("old") == unversioned.collections() == [collection]
    assert unversioned.create("old", CARD) is False
    unversioned.upsert("old@1", [image("b")])
    assert unversioned.count("old") == unversioned.count("old@1") == 2
    unversioned.go_live("old", 1)


def test_its_name_cannot_be_given_to_another_version_and_the_words_say_how_to_go_on(
    unversioned: ServerIndex,
) -> None:
    with pytest.raises(RequestError, match="lookalike export old FOLDER"):
        unversioned.create("old@2", OTHER_CARD)
    assert [found.key for found in unversioned.versions("old")] == ["old@1"]


def test_a_collection_whose_maker_died_before_it_went_live_is_put_live_by_the_next(qdrant_url: str) -> None:
    index = ServerIndex(qdrant_url)
    index.create("half", CARD)
    client = QdrantClient(url=qdrant_url, check_compatibility=False)
    away = models.DeleteAlias(alias_name="half")
    client.update_collection_aliases([models.DeleteAliasOperation(delete_alias=away)])
    assert index.find("half") is None
    with pytest.raises(ModelMismatch, match="m@1/p"):
        index.create("half", OTHER_CARD)
    assert index.create("half", CARD) is False
    assert index.count("half") == 0
    index.drop("half")
    client.close()


def test_a_version_that_another_worker_put_live_is_met_under_the_plain_name(qdrant_url: str) -> None:
    one, other = ServerIndex(qdrant_url), ServerIndex(qdrant_url)
    one.create("shared", CARD)
    one.upsert("shared", [image("a")])
    other.create("shared@2", CARD.model_copy(update={"dimension": 6}))
    other.go_live("shared", 2)
    one.upsert("shared", [image("a", np.ones(6)), image("b", np.ones(6))])
    assert (one.count("shared"), one.count("shared@1")) == (2, 1)
    one.drop("shared")


def test_a_server_that_is_not_there_is_unavailable() -> None:
    index = ServerIndex("http://127.0.0.1:9")
    for ask in (index.ping, index.collections, lambda: index.count("shop"), lambda: index.create("a", CARD)):
        with pytest.raises(IndexUnavailable, match="does not answer"):
            ask()


@pytest.mark.parametrize(
    ("status", "said"), [(500, "broken"), (503, "broken"), (401, "set QDRANT_API_KEY"), (404, "404")]
)
def test_a_server_that_answers_with_a_failure_is_unavailable(status: int, said: str) -> None:
    with answering(status) as url, pytest.raises(IndexUnavailable, match=said):
        ServerIndex(url).ping()


@contextmanager
def answering(status: int) -> Iterator[str]:
    """The URL of a server that gives this one answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"broken")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n\r\n<html>",
        b"nonsense\r\n",
    ],
)
def test_a_server_whose_answer_breaks_off_is_unavailable(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        index = ServerIndex(f"http://127.0.0.1:{listener.getsockname()[1]}")
        for ask in (index.ping, lambda: index.count("shop"), lambda: index.create("a", CARD)):
            with pytest.raises(IndexUnavailable, match="does not answer"):
                ask()


def test_a_server_that_never_answers_is_unavailable_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.index.server._TIMEOUT", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = ServerIndex(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(IndexUnavailable, match="does not answer"):
            index.count("shop")
