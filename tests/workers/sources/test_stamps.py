"""workers/sources/stamps.py: a file that was replaced is told from the one that was read before."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.workers.sources.conftest import read_here, written
from workers.sources.stamps import stamp

ROWS = ["url", *(f"http://a.example/{number}" for number in range(4))]


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    return written(tmp_path / "a.csv", ROWS)


def test_what_stands_as_it_stood_has_its_stamp(tmp_path: Path, feed: Path) -> None:
    (tmp_path / "sub").mkdir()
    picture = written(tmp_path / "sub" / "1.jpg", b"one")
    (tmp_path / "sub" / "3.jpg").symlink_to(tmp_path / "nothing")
    changed = picture.stat().st_mtime_ns
    stamps = [stamp([str(path)]) for path in (feed, tmp_path)]
    os.utime(picture, ns=(1, changed))  # it was read
    assert [stamp([str(path)]) for path in (feed, tmp_path)] == stamps
    os.utime(picture, ns=(1, changed + 1))
    assert [stamp([str(path)]) for path in (feed, tmp_path)] != stamps
    os.utime(picture, ns=(1, changed))
    written(tmp_path / "sub" / "2.jpg", b"two")
    assert stamp([str(tmp_path)]) != stamps[1]


def test_it_is_the_same_wherever_they_stand_and_another_where_one_is_renamed(
    tmp_path: Path, feed: Path
) -> None:
    (tmp_path / "shop").mkdir()
    shutil.copy2(feed, tmp_path / "shop" / "a.csv")
    stamps = [stamp([str(path)]) for path in (feed, tmp_path / "shop")]
    moved = [feed.rename(tmp_path / "b.csv"), (tmp_path / "shop").rename(tmp_path / "store")]
    assert [stamp([str(path)]) for path in moved] == stamps
    (tmp_path / "store" / "a.csv").rename(tmp_path / "store" / "b.csv")
    assert stamp([str(tmp_path / "store")]) != stamps[1]


def test_a_file_that_was_replaced_is_not_read_on(feed: Path) -> None:
    first = read_here(feed)
    revision = first.frames[0].head.revision
    assert revision
    given = {"skip": 2}
    assert len(read_here(feed, revision=revision, given=given).items) == 2
    written(feed, [*ROWS[:1], "http://a.example/new", *ROWS[1:]])
    rest = read_here(feed, revision=revision, given=given)
    assert (rest.items, "`a.csv`" in (rest.error or "")) == ([], True)
    assert "import it again" in (rest.error or "")


def test_one_of_which_no_row_was_taken_yet_may_be_another(feed: Path) -> None:
    revision = read_here(feed).frames[0].head.revision
    written(feed, ROWS[:3])
    again = read_here(feed, revision=revision)
    assert (again.error, len(again.items)) == (None, 2)
    assert again.frames[0].head.revision != revision
