"""Pictures that stand for many products, such as a shop's "no image", found by their bytes among what is near."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from shared.contract import SYSTEM_KEY, point_id
from workers.conditions import Condition, index_fields, narrowed, one_of
from workers.index.interface import HASH, Collection, Index, ScoredPoint, values_at
from workers.neighbours import Neighbours, check_time

GROUP = "group"  # the field that views of one product share (API.md)

_PRODUCTS = 3  # under so many groups a picture is a placeholder
_SECONDS = 60.0  # that pictures are remembered
_MOST = 100_000  # pictures that are remembered
_LOOKS = 10  # of one question; a collection that has hardly anything else gets fewer hits
_FIRST_LOOK = 100  # images
_LARGEST_LOOK = 1000


class Placeholders:
    """What is known of the pictures of each collection, for a minute. Safe to share between threads."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._known: dict[tuple[str, str], Pictures] = {}

    def of(self, collection: Collection, group: str = GROUP) -> Pictures:
        """Of one version of a collection. `group` is the field whose values are products."""
        key, now = (collection.key, group), time.monotonic()
        pictures = self._known.get(key)
        if pictures is None or pictures.until < now:
            index_fields({HASH: "keyword"}, collection, self._index)
            pictures = Pictures(self._index, collection.key, group, now + _SECONDS)
            self._known = {key: pictures} | {
                known: others for known, others in self._known.items() if others.until >= now and known != key
            }
        return pictures


class Pictures:
    """The pictures of one collection, by the sha256 of their bytes: which are placeholders, as far as is known.

    A picture is one where it stands under three or more values of the field `group`; an image without the field is
    a product by itself. Where threads learn at once, one may forget what another learnt, and learn it again.
    """

    def __init__(self, index: Index, collection: str, group: str, until: float) -> None:
        self.until = until
        self.placeholders: frozenset[str] = frozenset()
        self._others: frozenset[str] = frozenset()
        self._index = index
        self._collection = collection
        self._group = group

    def learn(self, hashes: Iterable[str], until: float) -> bool:
        """Look at those that are not known yet; whether there is a placeholder among them.

        ItemError(TIMEOUT) after `until`, in seconds of the epoch.
        """
        new = sorted(set(hashes) - self.placeholders - self._others)
        found = {sha256 for sha256 in self._repeated(new, until) if self._is_under_many(sha256, until)}
        self.placeholders |= found
        self._others = (
            self._others.union(new) - found if len(self._others) < _MOST else frozenset(new) - found
        )
        return bool(found)

    def _repeated(self, hashes: Sequence[str], until: float) -> list[str]:
        """Those that many images have. All are counted together, and in halves where they are more than should be."""
        if not hashes:
            return []
        check_time(until)
        images = self._index.count(self._collection, filter=narrowed(None, must=one_of(HASH, hashes)))
        if images < len(hashes) + _PRODUCTS - 1:
            return []
        if len(hashes) == 1:
            return list(hashes)
        half = len(hashes) // 2
        return self._repeated(hashes[:half], until) + self._repeated(hashes[half:], until)

    def _is_under_many(self, sha256: str, until: float) -> bool:
        """Each look at its images leaves out the products that were seen."""
        same, products = narrowed(None, must=one_of(HASH, [sha256])), 0
        while products < _PRODUCTS:
            check_time(until)
            points, _ = self._index.scroll(self._collection, filter=same, limit=1)
            if not points:
                return False
            products += 1
            values = values_at(points[0].payload, self._group)
            seen = one_of(self._group, values) or [{"has_id": [point_id(points[0].id)]}]
            same = narrowed(same, must_not=seen)
        return True


@dataclass(frozen=True)
class RealNeighbours:
    """Neighbours without placeholders. Those of which nothing is known yet are counted."""

    neighbours: Neighbours
    pictures: Pictures

    def nearest(self, limit: int, offset: int = 0) -> list[ScoredPoint]:
        """Looked at from the first one on, so that pages join whichever placeholders are known."""
        wanted = offset + limit
        points: list[ScoredPoint] = []
        for look in range(_LOOKS):
            room = max(wanted, min(_FIRST_LOOK * 2**look, _LARGEST_LOOK))
            points = self._without_known().nearest(room)
            if not self.pictures.learn(map(_hash, points), self.neighbours.until):
                break
        real = [point for point in points if _hash(point) not in self.pictures.placeholders]
        return real[offset:wanted]

    def narrowed(
        self, *, must: Iterable[Condition] = (), must_not: Iterable[Condition] = (), exact: bool = False
    ) -> RealNeighbours:
        return replace(self, neighbours=self.neighbours.narrowed(must=must, must_not=must_not, exact=exact))

    def more_than(self, number: int) -> bool:
        return self._without_known().more_than(number)

    def count(self) -> int:
        return self._without_known().count()

    def _without_known(self) -> Neighbours:
        return self.neighbours.narrowed(must_not=one_of(HASH, sorted(self.pictures.placeholders)))


def _hash(point: ScoredPoint) -> str:
    return str(point.payload[SYSTEM_KEY].get("sha256"))
