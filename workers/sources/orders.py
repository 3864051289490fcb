"""What a reading process is told once."""

from __future__ import annotations

from pydantic import Field

from shared.contract import Message, Source


class Orders(Message):
    """`paths` are the files, or folders, on this machine that stand for the source's; a data set of the hub has none.

    `skip` rows have been taken already, so the first one that is read is row `skip`, from 0. A frame holds about
    `frame_items` items. What is larger than `max_image_bytes` or `max_item_bytes` becomes a failure row, and the
    process may take `memory_mib` over what it needs to start.
    """

    source: Source
    paths: list[str] = Field(default_factory=list)
    skip: int = 0
    frame_items: int = 64
    max_image_bytes: int = 20 * 2**20
    max_item_bytes: int = 2**20
    memory_mib: int = 2048
