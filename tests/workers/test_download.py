"""workers/fetch.py: large files, which go to a file and not into memory, under the address rules of every fetch."""

from __future__ import annotations

import io
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import FailureCode, ItemError
from shared.settings import Settings
from tests.image_server import HOSTILE, ImageServer
from workers import fetch
from workers.fetch import Fetcher

FEED = b"id,url\n" * 100_000


@pytest.fixture(scope="module")
def server() -> Iterator[ImageServer]:
    with ImageServer({"/feed.csv": FEED}) as server:
        yield server


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    """One whose images are small and quick: a feed need not be."""
    settings = Settings(fetch_allow="127.0.0.0/8", fetch_max_bytes=1024, fetch_timeout=0.3, fetch_threads=4)
    fetcher = Fetcher(settings)
    yield fetcher
    fetcher.close()


def failure(fetcher: Fetcher, url: str, *, most_bytes: int = 10**9, seconds: float = 60) -> ItemError:
    with pytest.raises(ItemError) as caught:
        fetcher.download(url, io.BytesIO(), most_bytes=most_bytes, seconds=seconds)
    return caught.value


def test_a_file_arrives_whole_whatever_bounds_images_have(
    fetcher: Fetcher, server: ImageServer, tmp_path: Path
) -> None:
    for path in ("/feed.csv", "/redirect?to=/feed.csv&after=0.5"):
        with (tmp_path / "feed").open("wb") as file:
            fetcher.download(server.url(path), file, most_bytes=len(FEED), seconds=60)
        assert (tmp_path / "feed").read_bytes() == FEED


@pytest.mark.parametrize(
    ("head", "body", "is_sure"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close", b"hello", False),
        (b"HTTP/1.0 200 OK", b"hello", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5", b"hello", True),
    ],
)
def test_one_whose_end_nobody_can_be_sure_of_is_refused_at_its_head_where_that_is_asked_for(
    fetcher: Fetcher,
    server: ImageServer,
    monkeypatch: pytest.MonkeyPatch,
    head: bytes,
    body: bytes,
    is_sure: bool,
) -> None:
    monkeypatch.setitem(HOSTILE, "/some.csv", lambda handler: handler.raw(head + b"\r\n\r\n" + body))
    url, file = server.url("/some.csv"), io.BytesIO()
    fetcher.download(url, file, most_bytes=10, seconds=60)
    assert file.getvalue() == b"hello"
    if is_sure:
        fetcher.download(url, file, most_bytes=10, seconds=60, whole=True)
        assert file.getvalue() == b"hello" * 2
        return
    with pytest.raises(ItemError, match="Content-Length") as caught:
        fetcher.download(url, file, most_bytes=10, seconds=60, whole=True)
    assert (caught.value.code, caught.value.retryable) == (FailureCode.TRUNCATED, False)
    assert file.getvalue() == b"hello"


def test_its_own_bound_holds_declared_or_not(fetcher: Fetcher, server: ImageServer) -> None:
    for path in ("/huge", "/huge-without-length", "/endless-body", "/endless-trailers"):
        error = failure(fetcher, server.url(path), most_bytes=1_000_000)
        assert error.code == FailureCode.TOO_LARGE, path
        assert "LOOKALIKE_FEED_MAX_BYTES" in error.detail or "no body" in error.detail


def test_its_own_time_holds(fetcher: Fetcher, server: ImageServer) -> None:
    error = failure(fetcher, server.url("/endless"), seconds=0.5)
    assert (error.code, error.retryable) == (FailureCode.TIMEOUT, True)
    assert "0.5 s" in error.detail


def test_one_that_stands_still_is_let_go(
    fetcher: Fetcher, server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_SILENCE_SECONDS", 0.3)
    error = failure(fetcher, server.url("/dribble"))
    assert error.code == FailureCode.TIMEOUT
    assert "nothing came for 0.3 s" in error.detail


def test_the_address_rules_are_those_of_every_fetch(fetcher: Fetcher, server: ImageServer) -> None:
    for url in ("http://169.254.169.254/feed.csv", server.url("/redirect?to=http://10.0.0.1/feed.csv")):
        assert failure(fetcher, url).code == FailureCode.ADDRESS_REFUSED


def test_what_the_file_raises_ends_it(fetcher: Fetcher, server: ImageServer) -> None:
    class Enough(Exception):
        pass

    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise Enough

    with pytest.raises(Enough):
        fetcher.download(server.url("/feed.csv"), Full(), most_bytes=len(FEED), seconds=60)


def test_a_large_file_costs_no_memory(fetcher: Fetcher, server: ImageServer, tmp_path: Path) -> None:
    done: list[int] = []

    def download() -> None:
        tracemalloc.start()
        with (tmp_path / "huge").open("wb") as file:
            fetcher.download(server.url("/huge"), file, most_bytes=10**9, seconds=60)
        done.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    thread = threading.Thread(target=download)
    thread.start()
    thread.join()
    assert (tmp_path / "huge").stat().st_size == 200_000_000
    assert done[0] < 20_000_000
