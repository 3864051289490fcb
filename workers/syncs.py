"""What a feed no longer names is removed, once every item of its job has ended."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from shared.errands import Errand, Errands, Line
from shared.parcels import HASH_BYTES, id_hash
from workers.errands import Held, Stopped
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
            self._errands.compared(errand, len(absent), share)
            refused = _refusal(errand, len(absent), share)
            if collection and not refused:
                for start in range(0, len(absent), _REMOVED_AT_ONCE):
                    batch = absent[start : start + _REMOVED_AT_ONCE]
                    self._remove(batch, named, collection.key, errand, hand)
        except Unsure:
            refused = _unsure(self._errands.newer_feed(errand))
        self._errands.synced(errand, refused)
        log.info("synchronised: %s", refused or "what was absent is removed", extra={"job": errand.job})

    def give_up(self, errand: Errand, reason: str) -> None:
        self._errands.synced(errand, f"The collection could not be compared with the feed: {reason}")

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

    def _remove(self, batch: list[str], named: Named, key: str, errand: Errand, hand: Held) -> None:
        """Those that nobody has sent since they were compared.

        Items are accepted before their chunk is claimed: so either this hears of one, or its chunk sees the mark.
        """
        batch = named.missing(batch)  # so that one which is overtaken marks nothing
        self._errands.mark_removal(errand, batch)
        try:
            gone = named.missing(batch)
            hand.look()
        except (Unsure, Stopped):
            self._errands.unmark_removal(errand)
            raise
        if gone:  # where this breaks the mark stays: the engine may remove them yet
            self._errands.count_removal(errand, len(gone))
            remove(self._parts.index, self._parts.thumbnails, key, gone)
        self._errands.unmark_removal(errand)


def _unsure(newer_feed: str | None) -> str:
    if newer_feed:
        return (
            f"A newer feed (job `{newer_feed}`) came meanwhile; it removes what is absent from it, and this one "
            "removes nothing more. If that job was cancelled, send the newest feed again."
        )
    return (
        "Redis does not know all that was sent since this job began, so nothing more is removed: it began under an "
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
            f"Of the feed's items {errand.unnamed:,} could not be read, and any of them may be an image that stands: "
            "none was removed. Mend what the job's failures name, or send the feed again with `force=true`."
        )
    if share > errand.sync.share:
        return (
            f"{absent:,} images, {share:.1%} of all, are not in the feed, and at most {errand.sync.share:.1%} "
            "(`sync_share`) are removed: none was. If the feed is right, send it again with `force=true`."
        )
    return ""
