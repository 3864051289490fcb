"""What a feed no longer names is removed, once every item of its job has ended."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np

from shared.contract import SYSTEM_KEY
from shared.errands import Errand, Line
from shared.parcels import HASH_BYTES, point_hash
from workers.errands import Held
from workers.index.interface import Collection, Point
from workers.parts import Parts
from workers.removal import remove

log = logging.getLogger("lookalike.syncs")

_PAGE = 1000
_REMOVED_AT_ONCE = 500
_HASH = np.dtype(f">u{HASH_BYTES}")


class Syncs:
    """The work on the line of syncs."""

    line: Line = "syncs"
    tries = 20

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._errands = parts.ledger.errands

    def do(self, errand: Errand, hand: Held) -> None:
        """Compare the collection with what the job accepted, and remove what is absent, unless that is too much."""
        assert errand.sync
        collection = self._parts.index.find(errand.collection)
        absent, share = self._absent(errand, collection, hand) if collection else ([], 0.0)
        self._errands.compared(errand, len(absent), share)
        if share > errand.sync.share and not errand.sync.force:
            self._errands.synced(errand, refused=_too_many(len(absent), share, errand.sync.share))
            return
        for start in range(0, len(absent), _REMOVED_AT_ONCE):
            assert collection
            hand.look()
            batch = absent[start : start + _REMOVED_AT_ONCE]
            remove(self._parts.index, self._parts.thumbnails, collection.key, batch)
        self._errands.synced(errand)
        log.info("removed %d images that the feed no longer names", len(absent), extra={"job": errand.job})

    def give_up(self, errand: Errand, reason: str) -> None:
        self._errands.synced(errand, refused=f"The collection could not be compared with the feed: {reason}")

    def _absent(self, errand: Errand, collection: Collection, hand: Held) -> tuple[list[str], float]:
        """Ids of the images that the feed does not name, and their share of all.

        What came after the job began may be of a newer feed, and stays.
        """
        named = np.unique(np.frombuffer(self._errands.ids(errand), _HASH))
        began = datetime.fromtimestamp(errand.created_at, UTC)
        absent: list[str] = []
        total = 0
        for page in self._pages(collection, hand):
            total += len(page)
            ids = np.frombuffer(b"".join(point_hash(point.id) for point in page), _HASH)
            is_named = np.isin(ids, named)
            absent += [
                point.id
                for point, stays in zip(page, is_named, strict=True)
                if not stays and _indexed_at(point) < began
            ]
        return absent, len(absent) / max(total, 1)

    def _pages(self, collection: Collection, hand: Held) -> Iterator[list[Point]]:
        cursor: str | None = None
        while True:
            hand.check()
            page, cursor = self._parts.index.scroll(collection.key, limit=_PAGE, cursor=cursor)
            yield page
            if cursor is None:
                return


def _indexed_at(point: Point) -> datetime:
    return datetime.fromisoformat(point.payload[SYSTEM_KEY]["indexed_at"])


def _too_many(absent: int, share: float, most: float) -> str:
    return (
        f"{absent:,} images, {share:.1%} of all, are not in the feed, and at most {most:.1%} (`sync_share`) are "
        "removed: none was. If the feed is right, send it again with `force=true`."
    )
