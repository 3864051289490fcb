"""One import's story: bring its source here → read it → park its pictures → accept its rows. No Celery here.

A source is read no further ahead than its job is worked on, so that what waits in Redis has a bound. What is accepted
and how far was read are one step of the ledger: a reader that dies loses nothing and doubles nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice

import redis

from shared.broker import Broker
from shared.contract import INGEST_CHUNK, Item, Source
from shared.errands import Errand, Line
from shared.errors import QueueUnavailable
from shared.parcels import Parcel
from workers import versions
from workers.errands import Held
from workers.feeds import Feeds
from workers.parts import Parts
from workers.sources.orders import Orders
from workers.sources.reading import Reading
from workers.sources.rows import SourceError

log = logging.getLogger("lookalike.imports")

_MOST_PARKED = 256 * 2**20  # bytes of one job's pictures that wait in Redis
_HEAVY_CHUNK = 4 * 2**20  # characters of payload after which a chunk is full
_ROOM_SECONDS = 0.1


@dataclass(frozen=True)
class Batch:
    """Items, the bytes of those that are pictures, by place, and the position that the source is read to with them."""

    position: str
    items: Sequence[Item]
    images: Mapping[int, bytes]


class Imports:
    """The work on the line of imports."""

    line: Line = "imports"
    tries = 3

    def __init__(self, parts: Parts, broker: Broker) -> None:
        self._parts = parts
        self._errands = parts.ledger.errands
        self._broker = broker
        self._feeds = Feeds(parts.fetcher, parts.files, parts.settings)

    def do(self, errand: Errand, hand: Held) -> None:
        """Read the source to its end, and clear up; only the latter where the job is cancelled."""
        if errand.is_open:
            self._read(errand, hand)
            if not self._errands.seal(errand):
                hand.rejected()
            log.info("import read", extra={"job": errand.job})
        self._feeds.forget(errand.job)
        self._errands.let_go(errand)

    def give_up(self, errand: Errand, reason: str) -> None:
        """The job is cancelled; its feeds are cleared up by who takes it next."""
        self._parts.ledger.cancel(errand.job, reason)
        self._errands.put_back(errand, after=0, counts=False)

    def lost(self, errand: Errand) -> None:
        """Its feeds are another reader's now, unless that one has cleared up before this one kept some."""
        if self._errands.is_over(errand):
            self._feeds.forget(errand.job)

    def _read(self, errand: Errand, hand: Held) -> None:
        assert errand.source
        if errand.source.collection:
            self._accept_all(errand, self._copied(errand, errand.source.collection, hand), hand)
            return
        whole = errand.sync is not None  # what a feed broke off before would be removed
        with (
            self._feeds.at_hand(errand.job, errand.source, hand.check, whole=whole) as paths,
            closing(self._rows(errand, errand.source, paths, hand)) as rows,
        ):
            self._accept_all(errand, rows, hand)

    def _copied(self, errand: Errand, origin: str, hand: Held) -> Iterator[Batch]:
        """What another version has and this one lacks; the position is the last one's id."""
        items = versions.missing(
            self._parts.index, origin, errand.collection, hand.check, after=errand.position
        )
        while some := list(islice(items, self._parts.settings.chunk_size)):
            yield Batch(some[-1].id, some, {})

    def _rows(
        self, errand: Errand, source: Source, paths: Sequence[str], hand: Held
    ) -> Generator[Batch, None, None]:
        """What a process of its own reads, from behind the rows that are taken already; the position is their count."""
        settings = self._parts.settings
        orders = Orders(
            source=source,
            paths=list(paths),
            skip=int(errand.position or 0),
            frame_items=settings.chunk_size,
            max_image_bytes=settings.fetch_max_bytes,
            max_item_bytes=settings.max_item_bytes,
            memory_mib=settings.import_memory_mib,
        )
        ended = False
        with Reading(orders) as reading, hand.interruptible(reading.end):
            for frame in reading:
                head = frame.head
                if head.revision:
                    self._errands.pin(errand, source.model_copy(update={"revision": head.revision}))
                yield Batch(str(head.row), head.items, frame.images)
                if head.error:
                    raise SourceError(head.error)
                ended = head.end
        hand.check()
        if not ended:
            raise ChildProcessError("The process that read it said nothing for too long.")

    def _accept_all(self, errand: Errand, batches: Iterable[Batch], hand: Held) -> None:
        for batch in batches:
            weights = {place: len(data) for place, data in batch.images.items()}
            self._await_room(sum(weights.values()), hand)
            self._accept(errand, batch, weights, hand)

    def _accept(self, errand: Errand, batch: Batch, weights: Mapping[int, int], hand: Held) -> None:
        items = self._park(batch)
        parcels = list(_parcels(items, weights, self._parts.settings.chunk_size))
        try:
            numbers = self._errands.accept(errand, batch.position, parcels)
        except redis.ResponseError:  # Redis is full, and took nothing
            self._unpark(items)
            raise
        if numbers is None:
            self._unpark(items)
            hand.rejected()
        for number in numbers:
            self._send(errand.job, number)

    def _await_room(self, size: int, hand: Held) -> None:
        """Until the job has so few chunks under way, and so little parked, that `size` bytes may be parked too."""
        while (kept := hand.look()).chunks >= self._parts.settings.import_ahead or (
            kept.parked and kept.parked + size > _MOST_PARKED
        ):
            time.sleep(_ROOM_SECONDS)

    def _park(self, batch: Batch) -> list[Item]:
        """The items, those of pictures with the key of their parked bytes."""
        items = list(batch.items)
        try:
            for place, data in batch.images.items():
                sha256 = self._parts.uploads.park_for_ingest(data)
                items[place] = items[place].model_copy(update={"upload": sha256})
        except redis.RedisError:
            self._unpark(items)
            raise
        return items

    def _unpark(self, items: Sequence[Item]) -> None:
        with suppress(redis.RedisError):  # what is not let go of expires
            for item in items:
                if item.upload:
                    self._parts.uploads.release(item.upload)

    def _send(self, job: str, number: int) -> None:
        try:
            self._broker.send(INGEST_CHUNK, job, number)
        except QueueUnavailable as error:
            # The ledger has the chunk, so the reconciler will send it.
            log.warning("chunk not sent: %s", error, extra={"job": job, "chunk": number})


def _parcels(items: Sequence[Item], weights: Mapping[int, int], most: int) -> Iterator[Parcel]:
    """Chunks of `most` items, or of fewer where their payloads are heavy."""
    start, heavy = 0, 0
    for place, item in enumerate(items):
        heavy += len(repr(item.payload)) if item.payload else 0
        if place + 1 - start == most or heavy >= _HEAVY_CHUNK or place + 1 == len(items):
            parked = sum(weights.get(each, 0) for each in range(start, place + 1))
            yield Parcel(items[start : place + 1], parked)
            start, heavy = place + 1, 0
