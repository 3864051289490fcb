"""What a reading process says on its standard output: frames of items and of their images' bytes.

A frame is the length of its head, 4 bytes, big-endian; the head, JSON; and the bytes of the images that it names.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pydantic import Field

from shared.contract import Item, Message
from workers.sources.orders import Orders

_LENGTH = struct.Struct(">I")
_MOST_HEAD = 2**31
_MOST_BYTES = 8 * 2**20  # of images, more or less
_MOST_ROWS = 10_000  # after which a frame says where the reading stands, though it brings no items


class Head(Message):
    """`row`: how many rows of the source are taken once these items are. `images`: which item, how many bytes.

    `revision`: the commit of the data set that is read. `end`: there are no more rows. `error`: why there are no more,
    in words for the person whose source it is.
    """

    row: int
    items: list[Item] = Field(default_factory=list)
    images: list[tuple[int, int]] = Field(default_factory=list)
    revision: str | None = None
    end: bool = False
    error: str | None = None


@dataclass(frozen=True)
class Frame:
    """A head, and the bytes of each image that it names, by the number of its item."""

    head: Head
    images: dict[int, bytes]


class Frames:
    """Gathers items into frames, and says them; its caller waits while the other end does not read."""

    def __init__(self, pipe: BinaryIO, orders: Orders) -> None:
        self._pipe = pipe
        self._most_items = orders.frame_items
        self.row = self._said = orders.skip
        self._items: list[Item] = []
        self._images: list[bytes] = []
        self._places: list[tuple[int, int]] = []
        self._weight = 0

    def add(self, items: Sequence[tuple[Item, bytes | None]]) -> None:
        """What one row of the source gave. A row is never parted, so a frame may hold more than it should."""
        for item, image in items:
            if image is not None:
                self._places.append((len(self._items), len(image)))
                self._images.append(image)
                self._weight += len(image)
            self._items.append(item)
        self.row += 1
        if (
            len(self._items) >= self._most_items
            or self._weight >= _MOST_BYTES
            or self.row - self._said >= _MOST_ROWS
        ):
            self.say()

    def say(self, *, revision: str | None = None, end: bool = False, error: str | None = None) -> None:
        """What was gathered, and whatever else there is to say."""
        head = Head(
            row=self.row, items=self._items, images=self._places, revision=revision, end=end, error=error
        )
        data = head.model_dump_json(exclude_defaults=True).encode()
        for part in (_LENGTH.pack(len(data)), data, *self._images):
            self._pipe.write(part)
        self._pipe.flush()
        self._said = self.row
        self._items, self._images, self._places, self._weight = [], [], [], 0


def read(pipe: BinaryIO) -> Frame:
    """The next frame, waited for. EOFError where the other end is gone, ValueError for nonsense."""
    (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
    if length > _MOST_HEAD:
        raise ValueError(f"a head of {length:,} bytes")
    head = Head.model_validate_json(_exactly(pipe, length))
    return Frame(head, {item: _exactly(pipe, size) for item, size in head.images})


def _exactly(pipe: BinaryIO, size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data
