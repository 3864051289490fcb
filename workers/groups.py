"""Hits by group: one row a product, with its best views and how many matched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.contract import GroupId
from shared.errors import RequestCode, RequestError
from workers.conditions import empty, index_fields, one_of, values_at
from workers.index.interface import Collection, FieldType, Index, ScoredPoint
from workers.neighbours import Neighbours

_FIRST_ROUND = 100  # images
_LARGEST_ROUND = 1000
_TOGETHER = 200  # images whose groups are filled by one question

_KINDS: dict[type, FieldType] = {str: "keyword", int: "integer", bool: "bool"}


@dataclass(frozen=True)
class FoundGroup:
    """One value of the field, how many images with it match, and the best of them, best first."""

    id: GroupId
    count: int
    points: list[ScoredPoint]


class Groups:
    """The groups that a field's values make, over `Index.query` alone and so the same on every engine.

    An image that has no value there, or several, is in none. RequestError(INVALID_REQUEST) where that is all of many.
    """

    def __init__(self, neighbours: Neighbours, field: str) -> None:
        self._neighbours = neighbours
        self._field = field

    def page(self, limit: int, offset: int, size: int) -> list[FoundGroup]:
        """Those from `offset` on, best first, each with its best `size` images."""
        ids = self._nearest(offset + limit)[offset:]
        groups = [group for group in self._filled(ids, size) if group.points] if ids else []
        return sorted(groups, key=lambda group: (-group.points[0].score, group.points[0].id))

    def _nearest(self, wanted: int) -> list[GroupId]:
        """The nearest groups, in rounds, each without the groups that are found.

        The rounds are the same whatever is `wanted`, so that pages join without gap or double.
        """
        having = self._neighbours.narrowed(must_not=[empty(self._field)])
        found: dict[tuple[type, GroupId], GroupId] = {}
        room = _FIRST_ROUND
        while len(found) < wanted:
            points = having.narrowed(must_not=one_of(self._field, list(found.values()))).nearest(room)
            is_last = len(points) < room
            ids = self._ids(points if is_last else _settled(points))
            if points and not ids and not (is_last and found):
                raise self._no_groups()
            found |= {(type(id), id): id for id in ids}
            if is_last:
                break
            room = min(2 * room, _LARGEST_ROUND)
        return list(found.values())[:wanted]

    def _filled(self, ids: Sequence[GroupId], size: int) -> list[FoundGroup]:
        """With all that is in them; where that is much, in halves, down to a group by itself."""
        members = self._neighbours.narrowed(must=[{"should": one_of(self._field, ids)}], exact=True)
        if members.total() <= _TOGETHER:
            return self._divided(members.nearest(_TOGETHER), ids, size)
        if len(ids) == 1:
            return [FoundGroup(ids[0], members.count(), members.nearest(size))]
        half = len(ids) // 2
        return [*self._filled(ids[:half], size), *self._filled(ids[half:], size)]

    def _divided(self, points: list[ScoredPoint], ids: Sequence[GroupId], size: int) -> list[FoundGroup]:
        shares: dict[tuple[type, GroupId], list[ScoredPoint]] = {(type(id), id): [] for id in ids}
        for point in points:
            for id in self._ids([point]):
                shares[type(id), id].append(point)
        return [FoundGroup(id, len(share), share[:size]) for (_, id), share in shares.items()]

    def _ids(self, points: Iterable[ScoredPoint]) -> list[GroupId]:
        values = [values_at(point.payload, self._field) for point in points]
        return [only[0] for only in values if len(only) == 1 and isinstance(only[0], str | int)]

    def _no_groups(self) -> RequestError:
        return RequestError(
            RequestCode.INVALID_REQUEST,
            f"Images cannot be grouped by `{self._field}`: those nearest to the query have several values there, or "
            "none that is a text, a whole number or a truth value.",
        )


def index_group_field(field: str, collection: Collection, index: Index) -> None:
    """Grouping asks by the field's values, so it makes their payload index, if none stands."""
    if field in collection.indexes:
        return
    points, _ = index.scroll(collection.key, filter={"must_not": [empty(field)]}, limit=1)
    values = values_at(points[0].payload, field) if points else []
    kind = _KINDS.get(type(values[0])) if values else None
    if kind:
        index_fields({field: kind}, collection, index)


def _settled(points: list[ScoredPoint]) -> list[ScoredPoint]:
    """Without those that tie with the last: an engine chooses freely among them where a round ends.

    The next round finds them. Where all of a round tie, they stand as they came.
    """
    return [point for point in points if point.score > points[-1].score] or points
