"""workers/sources/frames.py: what a reading process says, and what is no frame."""

from __future__ import annotations

import io

import pytest

from shared.contract import Item
from tests.workers.sources.conftest import orders
from workers.sources.frames import Frames, read

PICTURE = Item(id="picture", payload={"a": [1, None]})
LINK = Item(id="link", url="http://a.example/1")


def said(*rows: list[tuple[Item, bytes | None]]) -> io.BytesIO:
    pipe = io.BytesIO()
    frames = Frames(pipe, orders(given={"skip": 5, "frame_items": 2}, dataset="a/b"))
    for row in rows:
        frames.add(row)
    frames.say(end=True)
    pipe.seek(0)
    return pipe


def test_a_frame_is_read_as_it_was_said() -> None:
    pipe = said([(LINK, None)], [(PICTURE, b"bytes"), (LINK, None)], [])
    first, last = read(pipe), read(pipe)
    assert (first.head.row, first.head.items, first.images) == (7, [LINK, PICTURE, LINK], {1: b"bytes"})
    assert (last.head.row, last.head.items, last.head.end) == (8, [], True)
    with pytest.raises(EOFError):
        read(pipe)


def test_heavy_pictures_fill_a_frame() -> None:
    pipe = said([(PICTURE, bytes(9 * 2**20))], [(PICTURE, b"x")])
    assert [len(read(pipe).images), len(read(pipe).images)] == [1, 1]


@pytest.mark.parametrize("cut", [0, 3, 50, -1])
def test_a_frame_that_breaks_off_is_none(cut: int) -> None:
    pipe = io.BytesIO(said([(PICTURE, bytes(2000))]).getvalue()[:cut])
    with pytest.raises(EOFError):
        read(pipe)


@pytest.mark.parametrize("nonsense", [b"\xff\xff\xff\xff", b"\0\0\0\2{}", b"\0\0\0\4nope"])
def test_nonsense_is_told_from_an_end(nonsense: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read(io.BytesIO(nonsense))
