"""Hits by group: one row a product, with its best views and how many matched."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from shared.contract import GroupId, point_id
from shared.errors import RequestCode, RequestError
from workers.conditions import Condition, besides, empty, one_of
from workers.index.interface import Collection, Index, ScoredPoint, values_at
from workers.neighbours import Neighbours
from workers.placeholders import RealNeighbours

_FIRST_ROUND = 100  # images
_LARGEST_ROUND = 1000
_TOGETHER = 200  # images whose groups are filled by one question
_MOST_PASSED = 10_000  # images in no group, on the way to those that are
_MOST_IN_VAIN = 200  # of them while there is no group at all: most likely no value of the field makes one

_Key = tuple[type, GroupId]  # `True` and `1` are different groups


@dataclass(frozen=True)
class FoundGroup:
    """One value of the field, how many images with it match, and the best of them, best first."""

    id: GroupId
    count: int
    points: list[ScoredPoint]


class Groups:
    """The groups that a field's values make, over `Index.query` alone and so the same on every engine.

    As in Qdrant, an image of several values is in the group of each, and one that has none that is a text, a whole
    number or a truth value is in no group. RequestError(INVALID_REQUEST) where the nearest ones are all in none.
    """

    def __init__(self, neighbours: Neighbours | RealNeighbours, field: str) -> None:
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
        found: dict[_Key, GroupId] = {}
        passed: list[str] = []
        room = _FIRST_ROUND
        while len(found) < wanted and len(passed) < (_MOST_PASSED if found else _MOST_IN_VAIN):
            points = having.narrowed(must=self._besides(found), must_not=_these(passed)).nearest(room)
            is_last, known = len(points) < room, set(found)
            for point in points if is_last else _settled(points):
                ids = self._ids(point)
                found |= ids
                if ids.keys() <= known:
                    passed.append(point.id)
            if is_last:
                break
            room = min(2 * room, _LARGEST_ROUND)
        if passed and not found:
            raise self._no_groups()
        return list(found.values())[:wanted]

    def _filled(self, ids: Sequence[GroupId], size: int) -> list[FoundGroup]:
        """With all that is in them; where that is much, in halves, down to a group by itself."""
        members = self._neighbours.narrowed(must=[{"should": one_of(self._field, ids)}], exact=True)
        if not members.more_than(_TOGETHER):
            return self._divided(members.nearest(_TOGETHER), ids, size)
        if len(ids) == 1:
            return [FoundGroup(ids[0], members.count(), members.nearest(size))]
        half = len(ids) // 2
        return [*self._filled(ids[:half], size), *self._filled(ids[half:], size)]

    def _divided(self, points: list[ScoredPoint], ids: Sequence[GroupId], size: int) -> list[FoundGroup]:
        shares: dict[_Key, list[ScoredPoint]] = {(type(id), id): [] for id in ids}
        for point in points:
            for key in self._ids(point).keys() & shares.keys():
                shares[key].append(point)
        return [FoundGroup(id, len(share), share[:size]) for (_, id), share in shares.items()]

    def _ids(self, point: ScoredPoint) -> dict[_Key, GroupId]:
        values = values_at(point.payload, self._field)
        return {(type(value), value): value for value in values if isinstance(value, str | int)}

    def _besides(self, found: dict[_Key, GroupId]) -> list[Condition]:
        return [besides(self._field, list(found.values()))] if found else []

    def _no_groups(self) -> RequestError:
        return RequestError(
            RequestCode.INVALID_REQUEST,
            f"Images cannot be grouped by `{self._field}`: those nearest to the query have no value there "
            "that is a text, a whole number or a truth value.",
        )


def index_group_field(field: str, collection: Collection, index: Index) -> bool:
    """Grouping asks by the field's values, so it makes their payload index, if none stands.

    False where no image has the field.
    """
    if field not in collection.indexes:
        with suppress(RequestError):  # of a field that cannot have one the rounds say what there is to say
            return index.index_values(collection.key, field)
    return True


def _settled(points: list[ScoredPoint]) -> list[ScoredPoint]:
    """Without those that tie with the last: an engine chooses freely among them where a round ends.

    The next round finds them. Where all of a round tie, they stand as they came.
    """
    return [point for point in points if point.score > points[-1].score] or points


def _these(ids: Sequence[str]) -> list[Condition]:
    return [{"has_id": [point_id(id) for id in ids]}] if ids else []
