"""workers/feeds.py: feeds come here once, stay as they were, and go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.contract import Source
from shared.errands import feed_key
from shared.errors import FilesUnavailable, ItemError, RequestError
from shared.files import Files
from shared.settings import Settings
from tests.image_server import HOSTILE, ImageServer
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


@pytest.fixture(autouse=True)
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_feeds_come_in_order_under_names_that_say_what_they_are(
    feeds: Feeds, server: ImageServer, temp: Path
) -> None:
    source = Source(files=[server.url("/feeds/my%20feed.csv?v=1"), server.url("/b.csv")])
    assert contents(feeds, source) == [("1-my_feed.csv", b"one"), ("2-b.csv", b"two")]
    assert list(temp.iterdir()) == []


def test_they_are_fetched_once_and_read_as_they_were(feeds: Feeds, server: ImageServer, files: Files) -> None:
    source = Source(files=[server.url("/b.csv")])
    assert contents(feeds, source) == contents(feeds, source) == [("1-b.csv", b"two")]
    assert server.requests["/b.csv"] == 1
    feeds.forget(JOB)
    assert files.read(feed_key(JOB, "1-b.csv")) is None
    feeds.forget(JOB)


def test_one_that_breaks_off_is_not_kept(feeds: Feeds, server: ImageServer, files: Files, temp: Path) -> None:
    with pytest.raises(ItemError):
        contents(feeds, Source(files=[server.url("/short.jpg")]))
    assert files.read(feed_key(JOB, "1-short.jpg")) is None
    assert list(temp.iterdir()) == []


def test_one_whose_end_nobody_announced_is_not_taken_for_the_whole_where_that_is_asked_for(
    feeds: Feeds, server: ImageServer, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nid,url\n"
    monkeypatch.setitem(HOSTILE, "/to-its-end.csv", lambda handler: handler.raw(answer))
    ours, theirs = Source(files=[server.url("/b.csv")]), Source(files=[server.url("/to-its-end.csv")])
    with feeds.at_hand(JOB, ours, never, whole=True):
        pass
    with pytest.raises(ItemError, match="upload the file"), feeds.at_hand(JOB, theirs, never, whole=True):
        pass
    assert files.read(feed_key(JOB, "1-to-its-end.csv")) is None
    assert contents(feeds, theirs) == [("1-to-its-end.csv", b"id,url\n")]


def test_all_that_one_job_fetches_has_one_bound(
    server: ImageServer, settings: Settings, files: Files
) -> None:
    fetcher = Fetcher(settings)
    feeds = Feeds(fetcher, files, settings.model_copy(update={"feed_max_bytes": 5}))
    both = Source(files=[server.url("/feeds/my%20feed.csv"), server.url("/b.csv")])
    for _ in range(2):  # what the first try kept counts in the second
        with pytest.raises(ItemError, match="LOOKALIKE_FEED_MAX_BYTES") as caught:
            contents(feeds, both)
        assert caught.value.code == "too_large"
    assert contents(feeds, Source(files=both.files[1:] if both.files else [])) == [("1-b.csv", b"two")]
    fetcher.close()


def test_an_upload_that_is_gone_is_named(feeds: Feeds, files: Files) -> None:
    files.write(feed_key(JOB, "1-a.csv"), b"x" * 3_000_000)
    assert contents(feeds, Source(upload=["1-a.csv"])) == [("1-a.csv", b"x" * 3_000_000)]
    with pytest.raises(RequestError, match=r"2-b\.csv"):
        contents(feeds, Source(upload=["1-a.csv", "2-b.csv"]))


def test_who_brings_them_may_be_stopped(feeds: Feeds, server: ImageServer, temp: Path) -> None:
    def stop() -> None:
        raise Stopped("cancelled")

    with pytest.raises(Stopped), feeds.at_hand(JOB, Source(files=[server.url("/b.csv")]), stop):
        pass
    assert list(temp.iterdir()) == []


def test_two_readers_of_a_job_are_not_in_each_others_way(feeds: Feeds, server: ImageServer) -> None:
    source = Source(files=[server.url("/b.csv")])
    with feeds.at_hand(JOB, source, never) as [stale]:
        assert contents(feeds, source) == [("1-b.csv", b"two")]
        assert Path(stale).read_bytes() == b"two"


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
