"""workers/sources/archives.py: tar files of samples."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workers.sources.conftest import read_here, written

Tar = Callable[..., Path]


@pytest.fixture
def tar(tmp_path: Path) -> Tar:
    def make(*members: tuple[str, bytes], name: str = "a.tar") -> Path:
        with tarfile.open(tmp_path / name, "w") as archive:
            for member, data in members:
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return tmp_path / name

    return make


def sample(number: int) -> list[tuple[str, bytes]]:
    return [
        (f"x/{number:03}.jpg", b"picture %d" % number),
        (f"x/{number:03}.json", json.dumps({"lesion": number // 2, "of": {"a": None, "b": [1]}}).encode()),
        (f"x/{number:03}.txt", "a düne".encode()),
        (f"x/{number:03}.cls", b"3"),
    ]


def test_members_of_one_name_are_one_row_and_their_json_its_fields(tar: Tar) -> None:
    feed = tar(*(member for number in range(5) for member in sample(number)))
    read = read_here(feed, group_column="lesion")
    assert [item.id for item in read.items] == [f"x/{number:03}" for number in range(5)]
    assert read.images == {f"x/{number:03}": b"picture %d" % number for number in range(5)}
    assert read.items[3].payload == {"lesion": 1, "of": {"b": [1]}, "txt": "a düne", "cls": 3, "group": 1}


def test_reading_on_begins_at_the_sample_after(tar: Tar) -> None:
    first = tar(*(member for number in range(3) for member in sample(number)))
    second = tar(*(member for number in range(3, 5) for member in sample(number)), name="b.tar")
    for skip in (1, 3, 4, 5):
        ids = [item.id for item in read_here(first, second, given={"skip": skip}).items]
        assert ids == [f"x/{number:03}" for number in range(skip, 5)]


def test_another_picture_of_the_sample_is_named_by_its_suffix(tar: Tar) -> None:
    feed = tar(("a.left.png", b"left"), ("a.right.png", b"right"), ("b.left.png", b"left"))
    assert read_here(feed).images == {"a": b"left", "b": b"left"}
    read = read_here(feed, image_column="right.png")
    assert read.images == {"a": b"right"}
    assert read.refusals()["b"][0] == "empty"


def test_what_is_unusable_fails_its_sample_alone_and_nothing_is_unpickled(tar: Tar) -> None:
    feed = tar(
        *[("a.jpg", b"x"), ("a.json", b"{nope")],
        *[("b.json", b"{}")],
        *[("c.jpg", b"x" * 2000), ("c.pickle", pickle.dumps(print))],
        *[("d.jpg", b"fine"), ("d.pth", b"x"), ("d.txt", b"\xff")],
        *[("e.jpg", b"fine"), ("e.pyd", b"x"), ("e.url", b"x")],
    )
    read = read_here(feed, given={"max_image_bytes": 1000})
    codes = {id: code for id, (code, _) in read.refusals().items()}
    assert codes == {"row:0": "payload_invalid", "b": "empty", "c": "too_large", "row:3": "payload_invalid"}
    assert (read.images, read.items[4].payload) == ({"e": b"fine"}, {})
    assert "Of the sample `a`, `json` cannot be read" in read.refusals()["row:0"][1]


def test_links_and_folders_and_files_without_a_suffix_are_no_members(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind, name in (
            (tarfile.DIRTYPE, "d.jpg"),
            (tarfile.SYMTYPE, "l.jpg"),
            (tarfile.REGTYPE, "README"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, __file__
            archive.addfile(info)
    assert read_here(tmp_path / "a.tar").error == "The source has no rows."


def test_a_broken_file_is_said_in_words(tar: Tar, tmp_path: Path) -> None:
    rubbish = written(tmp_path / "broken.tar", bytes(range(1, 256)) * 20)
    assert "`broken.tar` is no sound tar file" in (read_here(rubbish).error or "")
    whole = tar(*sample(0), ("y.jpg", b"z" * 20_000)).read_bytes()
    cut = read_here(written(tmp_path / "cut.tar", whole[:10_000]))
    assert "`cut.tar` is no sound tar file" in (cut.error or "")
    assert [item.id for item in cut.items] == ["x/000"]
