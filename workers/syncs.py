"""What a feed no longer names is removed, once every item of its job has ended."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from shared.errands import Errand, Errands, Line
from shared.parcels import HASH_BYTES, point_hash
from workers.errands import Held
from workers.index.interface import Collection
from workers.parts import Parts
from workers.removal import remove

log = logging.getLogger("lookalike.syncs")

_PAGE = 1000
_REMOVED_AT_ONCE = 500
_HASH = np.dtype(f"u{HASH_BYTES}")


class Named:
    """The images that the feed names, and those that anybody sends to the collection since its job began.

    The latter become more while they are asked for.
    """

    def __init__(self, errands: Errands, errand: Errand) -> None:
        self._errands = errands
        self._errand = errand
        self._read = 0
        self._hashes = np.empty(0, _HASH)
        self._read_on()

    def __len__(self) -> int:
        return len(self._hashes)

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that nobody has named until now."""
        self._read_on()
        hashes = np.frombuffer(b"".join(map(point_hash, ids)), _HASH)
        places = np.searchsorted(self._hashes, hashes)
        ends = np.searchsorted(self._hashes, hashes, side="right")
        return [id for id, is_missing in zip(ids, places == ends, strict=True) if is_missing]

    def _read_on(self) -> None:
        more = self._errands.ids(self._errand, after=self._read)
        if more:
            self._read += len(more)
            self._hashes = np.sort(np.concatenate([self._hashes, np.frombuffer(more, _HASH)]), kind="stable")


class Syncs:
    """The work on the line of syncs."""

    line: Line = "syncs"
    tries = 20

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._errands = parts.ledger.errands

    def do(self, errand: Errand, hand: Held) -> None:
        """Compare the collection with what the job accepted, and remove what is absent, unless that may be wrong."""
        named = Named(self._errands, errand)
        if len(named) < errand.accepted:
            self._errands.synced(errand, refused=_LOST)
            return
        collection = self._parts.index.find(errand.collection)
        absent, share = self._absent(named, collection, hand) if collection else ([], 0.0)
        self._errands.compared(errand, len(absent), share)
        if refused := _refusal(errand, len(absent), share):
            self._errands.synced(errand, refused=refused)
            return
        removed = self._remove(absent, named, collection.key, hand) if collection else 0
        self._errands.synced(errand, spared=len(absent) - removed)
        log.info("removed %d images that the feed no longer names", removed, extra={"job": errand.job})

    def give_up(self, errand: Errand, reason: str) -> None:
        self._errands.synced(errand, refused=f"The collection could not be compared with the feed: {reason}")

    def _absent(self, named: Named, collection: Collection, hand: Held) -> tuple[list[str], float]:
        """Ids of the images that nobody named, and their share of all."""
        absent: list[str] = []
        total = 0
        for page in self._pages(collection, hand):
            total += len(page)
            absent += named.missing(page)
        return absent, len(absent) / max(total, 1)

    def _pages(self, collection: Collection, hand: Held) -> Iterator[list[str]]:
        cursor: str | None = None
        while True:
            hand.check()
            page, cursor = self._parts.index.scroll(collection.key, limit=_PAGE, cursor=cursor)
            yield [point.id for point in page]
            if cursor is None:
                return

    def _remove(self, absent: list[str], named: Named, key: str, hand: Held) -> int:
        """How many went: not those that somebody has sent since they were compared."""
        removed = 0
        for start in range(0, len(absent), _REMOVED_AT_ONCE):
            hand.look()
            if batch := named.missing(absent[start : start + _REMOVED_AT_ONCE]):
                remove(self._parts.index, self._parts.thumbnails, key, batch)
                removed += len(batch)
        return removed


_LOST = (
    "Redis no longer knows what the feed named, so nothing was removed. Let it evict nothing (`maxmemory-policy "
    "noeviction`), and send the feed again."
)


def _refusal(errand: Errand, absent: int, share: float) -> str:
    """Why it may be wrong to remove them; empty where it is not, or where a person says that it is right."""
    assert errand.sync
    if errand.sync.force or not absent:
        return ""
    if errand.unnamed:
        return (
            f"{errand.unnamed:,} items of the feed could not be read, and any of them may be an image that stands: "
            "none was removed. Mend what the job's failures name, or send the feed again with `force=true`."
        )
    if share > errand.sync.share:
        return (
            f"{absent:,} images, {share:.1%} of all, are not in the feed, and at most {errand.sync.share:.1%} "
            "(`sync_share`) are removed: none was. If the feed is right, send it again with `force=true`."
        )
    return ""
