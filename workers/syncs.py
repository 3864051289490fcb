"""What a feed no longer names is removed, once every item of its job has ended."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

from shared.errands import Errand, Errands, Line
from shared.parcels import HASH_BYTES, id_hash
from workers.errands import Held
from workers.index.interface import Collection
from workers.parts import Parts
from workers.removal import remove

log = logging.getLogger("lookalike.syncs")

_PAGE = 1000
_REMOVED_AT_ONCE = 500
_HASH = np.dtype(f"u{HASH_BYTES}")


class Unsure(Exception):
    """Not everything that was named is known: what seems absent may stand in a feed."""


class Named:
    """The images that the feed names, and those that anybody sends to the collection since its job began.

    The latter become more while they are asked for. Unsure where not all of them are known.
    """

    def __init__(self, errands: Errands, errand: Errand) -> None:
        self._errands = errands
        self._errand = errand
        self._read = 0
        self._hashes = np.empty(0, _HASH)
        self._read_on()

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that nobody has named until now."""
        self._read_on()
        hashes = np.frombuffer(b"".join(map(id_hash, ids)), _HASH)
        places = np.searchsorted(self._hashes, hashes)
        ends = np.searchsorted(self._hashes, hashes, side="right")
        return [id for id, is_missing in zip(ids, places == ends, strict=True) if is_missing]

    def _read_on(self) -> None:
        more = self._errands.ids(self._errand, after=self._read)
        if more is None:
            raise Unsure
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
        collection = self._parts.index.find(errand.collection)
        try:
            named = Named(self._errands, errand)
            absent, share = self._absent(named, collection, hand) if collection else ([], 0.0)
        except Unsure:
            self._errands.synced(errand, refused=_unsure(errand))
            return
        self._errands.compared(errand, len(absent), share)
        if refused := _refusal(errand, len(absent), share):
            self._errands.synced(errand, refused=refused)
            return
        removed = self._remove(absent, named, collection.key, errand, hand) if collection else 0
        self._errands.synced(errand, spared=len(absent) - removed)
        log.info("removed %d images that the feed no longer names", removed, extra={"job": errand.job})

    def give_up(self, errand: Errand, reason: str) -> None:
        self._errands.synced(errand, refused=f"The collection could not be compared with the feed: {reason}")

    def lost(self, errand: Errand) -> None:
        """Nothing of it stays."""

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

    def _remove(self, absent: list[str], named: Named, key: str, errand: Errand, hand: Held) -> int:
        """How many went: not those that somebody has sent since they were compared."""
        removed = 0
        with suppress(Unsure):  # a newer feed came, and the rest is its own
            for start in range(0, len(absent), _REMOVED_AT_ONCE):
                batch = absent[start : start + _REMOVED_AT_ONCE]
                removed += self._remove_some(batch, named, key, errand, hand)
        return removed

    def _remove_some(self, batch: list[str], named: Named, key: str, errand: Errand, hand: Held) -> int:
        """Items are accepted before their chunk is claimed: so either this hears of one, or its chunk sees the mark."""
        with self._errands.removing(errand, batch):
            gone = named.missing(batch)
            hand.look()
            if gone:
                remove(self._parts.index, self._parts.thumbnails, key, gone)
        return len(gone)


def _unsure(errand: Errand) -> str:
    if errand.newer_feed:
        return (
            f"A newer feed (job `{errand.newer_feed}`) came meanwhile; it removes what is absent from it, and this one "
            "removed nothing. If that job was cancelled, send the newest feed again."
        )
    return (
        "Redis does not know all that was sent since this job began, so nothing was removed: the job began under an "
        "earlier version of Lookalike, or Redis lost some of it (let it evict nothing, `maxmemory-policy noeviction`). "
        "Send the feed again."
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
