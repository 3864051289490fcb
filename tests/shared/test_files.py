"""shared/files.py on a folder and on fsspec's own memory, which stands for S3 and its kin."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from shared.errors import FilesUnavailable, ItemError, StartError
from shared.files import Files
from shared.settings import Settings


def files_at(url: object) -> Files:
    return Files(Settings(files=str(url)))


@pytest.fixture(params=["folder", "file URL", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    places = {
        "folder": tmp_path / "kept",
        "file URL": f"file://{tmp_path}/kept",
        "memory": "memory://bucket/kept",
    }
    yield files_at(places[request.param])
    MemoryFileSystem.store.clear()


class Breaking(io.RawIOBase):
    """A source that fails after its first piece."""

    def __init__(self) -> None:
        self._pieces = iter([b"half"])

    def read(self, size: int = -1) -> bytes:
        for piece in self._pieces:
            return piece
        raise OSError("the source is gone")


def test_what_is_kept_is_read_again_and_replaced(files: Files) -> None:
    assert files.read("a/b.webp") is None
    files.write("a/b.webp", b"one")
    assert files.read("a/b.webp") == b"one"
    files.write("a/b.webp", b"two, and longer")
    assert files.read("a/b.webp") == b"two, and longer"


def test_it_is_known_what_is_kept_without_reading_it(files: Files) -> None:
    assert not files.has("a/b.webp")
    files.write("a/b.webp", b"one")
    assert files.has("a/b.webp")
    files.delete("a/b.webp")
    assert not files.has("a/b.webp")


def test_an_open_file_is_kept_piece_by_piece_and_read_so(files: Files) -> None:
    data = bytes(range(256)) * 20_000
    files.write("feeds/job_1/1-feed.csv", io.BytesIO(data))
    kept = files.open("feeds/job_1/1-feed.csv")
    assert kept is not None
    with kept:
        assert kept.read(10) + kept.read() == data
    assert files.open("feeds/job_1/2-feed.csv") is None


def test_what_is_deleted_is_gone_and_so_it_may_have_been(files: Files) -> None:
    files.write("a/1", b"x")
    for _ in range(2):
        files.delete("a/1")
        assert files.read("a/1") is None


def test_a_folder_goes_with_all_that_is_in_it_and_nothing_else(files: Files) -> None:
    for key in ("shop/ab/1", "shop/cd/2", "shopping/ab/1"):
        files.write(key, b"x")
    for _ in range(2):
        files.delete_folder("shop")
    assert [files.read(key) for key in ("shop/ab/1", "shop/cd/2", "shopping/ab/1")] == [None, None, b"x"]


def test_a_source_that_breaks_off_leaves_what_stood(files: Files) -> None:
    files.write("a", b"whole")
    for key in ("a", "b"):
        with pytest.raises(FilesUnavailable, match="source is gone"):
            files.write(key, Breaking())
    assert (files.read("a"), files.read("b")) == (b"whole", None)


def test_nothing_is_left_behind_by_a_write_that_breaks(tmp_path: Path) -> None:
    with pytest.raises(FilesUnavailable):
        files_at(tmp_path).write("a/b", Breaking())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_reader_sees_one_file_or_the_other_and_never_half(tmp_path: Path) -> None:
    files, done, seen = files_at(tmp_path), threading.Event(), set()
    one, two = b"1" * 300_000, b"2" * 300_000
    files.write("a", one)

    def look() -> None:
        while not done.is_set():
            seen.add(files.read("a"))

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(100):
        files.write("a", two)
        files.write("a", one)
    done.set()
    reader.join()
    assert seen <= {one, two}


def test_many_threads_keep_what_they_write(files: Files) -> None:
    def write(number: int) -> None:
        for n in range(20):
            files.write(f"folder/{number}/{n}", b"%d" % n)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(files.read(f"folder/{number}/{n}") == b"%d" % n for number in range(8) for n in range(20))


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a//b",
        "a/",
        "a/.b",
        "a\\..\\b",
        "a\0b",
        "~/x",
        "a/*",
        "a\n",
    ],
)
def test_no_key_leads_out_of_its_place(files: Files, key: str) -> None:
    for ask in (
        files.read,
        files.has,
        files.open,
        files.delete,
        files.delete_folder,
        lambda key: files.write(key, b"x"),
    ):
        with pytest.raises(ValueError, match="no key"):
            ask(key)


def test_an_error_of_ours_in_a_source_stays_what_it_is(files: Files) -> None:
    class Refusing(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise ItemError("too_large", "It is too large.")  # type: ignore[arg-type]

    with pytest.raises(ItemError, match="too large"):
        files.write("a", Refusing())


def test_a_place_that_is_none_is_named_at_the_start() -> None:
    with pytest.raises(StartError, match="LOOKALIKE_FILES is empty"):
        Files(Settings(files=""))
    with pytest.raises(StartError, match=r"`nope://x`.*nope"):
        files_at("nope://x")


def test_a_package_that_is_missing_is_named_at_the_start() -> None:
    with pytest.raises(StartError, match="adlfs"):
        files_at("abfs://container/folder")


def test_the_probe_says_what_cannot_be_kept_and_leaves_nothing(tmp_path: Path) -> None:
    files_at(tmp_path).probe()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(StartError, match="LOOKALIKE_FILES"):
        files_at(tmp_path / "file").probe()


def test_a_place_that_fails_says_which_file_it_could_not_bring(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(FilesUnavailable, match="`a`"):
        files_at(tmp_path).read("a")
