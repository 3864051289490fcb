"""workers/feeds.py: feeds come here once, stay as they were, and go."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.contract import Source
from shared.errands import feed_key
from shared.errors import FilesUnavailable, ItemError, RequestError
from shared.files import Files
from shared.settings import Settings
from tests.image_server import ImageServer
from workers.errands import Stopped
from workers.feeds import Feeds, below
from workers.fetch import Fetcher

JOB = "job_0123456789abcdef0123"


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer({"/feeds/my feed.csv": b"one", "/b.csv": b"two"}) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(fetch_allow="127.0.0.0/8", files=str(tmp_path / "files"), fetch_threads=4)


@pytest.fixture
def files(settings: Settings) -> Files:
    return Files(settings)


@pytest.fixture
def feeds(settings: Settings, files: Files) -> Iterator[Feeds]:
    fetcher = Fetcher(settings)
    yield Feeds(fetcher, files, settings)
    fetcher.close()


def never() -> None:
    """Nothing stops it."""


def contents(feeds: Feeds, source: Source) -> list[tuple[str, bytes]]:
    with feeds.at_hand(JOB, source, never) as paths:
        return [(Path(path).name, Path(path).read_bytes()) for path in paths]


def here() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"lookalike-feeds-{JOB}*"))


def test_feeds_come_in_order_under_names_that_say_what_they_are(feeds: Feeds, server: ImageServer) -> None:
    source = Source(files=[server.url("/feeds/my%20feed.csv?v=1"), server.url("/b.csv")])
    assert contents(feeds, source) == [("1-my_feed.csv", b"one"), ("2-b.csv", b"two")]
    assert here() == []


def test_they_are_fetched_once_and_read_as_they_were(feeds: Feeds, server: ImageServer, files: Files) -> None:
    source = Source(files=[server.url("/b.csv")])
    assert contents(feeds, source) == contents(feeds, source) == [("1-b.csv", b"two")]
    assert server.requests["/b.csv"] == 1
    feeds.forget(JOB)
    assert files.read(feed_key(JOB, "1-b.csv")) is None
    feeds.forget(JOB)


def test_one_that_breaks_off_is_not_kept(feeds: Feeds, server: ImageServer, files: Files) -> None:
    with pytest.raises(ItemError):
        contents(feeds, Source(files=[server.url("/short")]))
    assert files.read(feed_key(JOB, "1-short")) is None
    assert here() == []


def test_an_upload_that_is_gone_is_named(feeds: Feeds, files: Files) -> None:
    files.write(feed_key(JOB, "1-a.csv"), b"x" * 3_000_000)
    assert contents(feeds, Source(upload=["1-a.csv"])) == [("1-a.csv", b"x" * 3_000_000)]
    with pytest.raises(RequestError, match=r"2-b\.csv"):
        contents(feeds, Source(upload=["1-a.csv", "2-b.csv"]))


def test_who_brings_them_may_be_stopped(feeds: Feeds, server: ImageServer) -> None:
    def stop() -> None:
        raise Stopped("cancelled")

    with pytest.raises(Stopped), feeds.at_hand(JOB, Source(files=[server.url("/b.csv")]), stop):
        pass
    assert here() == []


def test_what_a_killed_worker_left_behind_is_taken_over(feeds: Feeds, server: ImageServer) -> None:
    left = Path(tempfile.gettempdir()) / f"lookalike-feeds-{JOB}"
    left.mkdir()
    (left / "1-b.csv").write_bytes(b"ha")
    assert contents(feeds, Source(files=[server.url("/b.csv")])) == [("1-b.csv", b"two")]


def test_a_worker_that_keeps_no_files_says_so(server: ImageServer, settings: Settings) -> None:
    fetcher = Fetcher(settings)
    with pytest.raises(FilesUnavailable, match="LOOKALIKE_FILES"):
        contents(Feeds(fetcher, None, settings), Source(files=[server.url("/b.csv")]))
    fetcher.close()


def test_only_what_stands_below_a_named_folder_is_read(tmp_path: Path) -> None:
    inside, outside = tmp_path / "feeds", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.csv").write_text("x")
    (inside / "out").symlink_to(outside)
    (inside / "in").symlink_to(inside)
    (inside / "round").symlink_to(inside / "round")
    assert below([inside], str(inside / "in" / "a.csv")) == inside / "a.csv"
    assert below([inside], str(inside)) == inside
    for path in ("out/a.csv", "../outside/a.csv", "round", "nothing.csv"):
        with pytest.raises(RequestError, match=path.split("/")[-1]):
            below([inside], str(inside / path))
    with pytest.raises(RequestError):
        below([], str(inside / "a.csv"))
