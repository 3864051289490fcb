"""Versions of a collection: made under another model, filled from the live one, put live, dropped. No Celery here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

from shared.contract import SYSTEM_KEY, Item, ModelCard, Refusal, point_id
from shared.errors import FailureCode, ModelMismatch, RequestCode, RequestError
from workers.collections import describe
from workers.index.interface import Collection, Index, Point, version_key
from workers.index.refusals import no_collection

_MOST_VERSIONS = 10
_PAGE = 500


def list_all(index: Index, name: str) -> dict[str, Any]:
    """Every version, oldest first; RequestError(COLLECTION_NOT_FOUND)."""
    return {"versions": [describe(index, version) for version in index.versions(name)]}


def find(index: Index, name: str) -> Collection:
    """The live version of a plain name, or the one of a key; RequestError(COLLECTION_NOT_FOUND)."""
    collection = index.find(name)
    if collection is None:
        raise no_collection(name)
    return collection


def add(index: Index, card: ModelCard, name: str) -> dict[str, Any]:
    """A new version, empty and not live, with the payload indexes of the live one."""
    standing = index.versions(name)
    if len(standing) >= _MOST_VERSIONS:
        raise RequestError(
            RequestCode.INVALID_REQUEST,
            f"Collection `{name}` has {len(standing)} versions, and no more are kept: drop one that is not live.",
        )
    key = _make_next(index, name, standing[-1].version, card)
    index.ensure_indexes(key, find(index, name).indexes)
    return describe(index, find(index, key))


def _make_next(index: Index, name: str, last: int, card: ModelCard) -> str:
    for number in count(last + 1):
        key = version_key(name, number)
        try:
            if index.create(key, card):
                return key
        except ModelMismatch:  # another one was made at this moment, or was dropped
            continue
    raise AssertionError("numbers do not end")


def route(index: Index, name: str, version: int, origin: int | None) -> tuple[str, str]:
    """The keys of the version that a copy comes from, and of `version`, which it fills.

    `origin` is by default the live version; for the live one, the nearest before it.
    """
    target = find(index, version_key(name, version))
    if origin is None:
        origin = _origin(index, target)
    if origin == version:
        raise RequestError(RequestCode.INVALID_REQUEST, f"Version {version} cannot be copied to itself.")
    return find(index, version_key(name, origin)).key, target.key


def _origin(index: Index, target: Collection) -> int:
    versions = index.versions(target.name)
    if not target.live:
        return next(each.version for each in versions if each.live)
    others = [each.version for each in versions if each.version != target.version]
    if not others:
        raise RequestError(
            RequestCode.INVALID_REQUEST,
            f"Collection `{target.name}` has one version alone: there is nothing to copy from.",
        )
    return max((each for each in others if each < target.version), default=min(others))


def go_live(index: Index, name: str, version: int) -> dict[str, Any]:
    """Let the plain name stand for this version, and describe it."""
    index.go_live(name, version)
    return describe(index, find(index, version_key(name, version)))


def drop(index: Index, name: str, version: int) -> None:
    """Drop a version that is not live."""
    index.drop(version_key(name, version))


def missing(
    index: Index, source: str, target: str, check: Callable[[], None], after: str = ""
) -> Iterator[Item]:
    """What version `target` lacks of version `source` (keys), in the order of point ids.

    `after` is the id of the last item that was taken. `check` is called before each page, and may raise. A version
    that is not live is brought up to its source; the live one, which others write to, takes only what has changed
    later there.
    """
    onto_live = find(index, target).live
    cursor: str | None = point_id(after) if after else None
    while True:
        check()
        points, cursor = index.scroll(source, limit=_PAGE, cursor=cursor)
        twins = index.retrieve(target, [point.id for point in points])
        for point in points:
            if point.id != after and _is_due(point, twins.get(point.id), onto_live):
                yield _item(point)
        if cursor is None:
            return


def overtaken(index: Index, copy: Collection, items: Sequence[Item]) -> set[str]:
    """Ids of the items that are on their way into the live version, where others have written them since."""
    if not find(index, copy.key).live:  # now: it may have gone live while they were on their way
        return set()
    standing = index.retrieve(copy.key, [item.id for item in items])
    return {
        item.id
        for item in items
        if item.changed_at and item.id in standing and _changed_at(standing[item.id]) > item.changed_at
    }


def forget_deleted(index: Index, copy: Collection, ids: Sequence[str]) -> None:
    """Of images that were copied into a version just now, delete those that no other version has any longer.

    They were deleted while their copies were on the way. Deleting goes through all versions twice (`removal.py`): so
    either it meets the copy, or this meets the gap.
    """
    others = [version.key for version in index.versions(copy.name) if version.key != copy.key]
    if others:
        standing = {id for key in others for id in index.retrieve(key, ids)}
        index.delete(copy.key, [id for id in ids if id not in standing])


def _is_due(point: Point, twin: Point | None, onto_live: bool) -> bool:
    if twin is None:
        return True
    return _content(point) != _content(twin) and (not onto_live or _changed_at(point) > _changed_at(twin))


def _content(point: Point) -> tuple[Any, ...]:
    system = point.payload[SYSTEM_KEY]
    return system.get("url"), system.get("sha256"), _own_fields(point)


def _changed_at(point: Point) -> str:
    """When it was last written. All such moments are spelt alike, so that their words compare as they do."""
    system = point.payload[SYSTEM_KEY]
    return max(system.get("indexed_at", ""), system.get("updated_at", ""))


def _own_fields(point: Point) -> dict[str, Any]:
    return {field: value for field, value in point.payload.items() if field != SYSTEM_KEY}


def _item(point: Point) -> Item:
    """The image to be embedded anew: from its URL, or from its kept thumbnail where it has none."""
    system, payload = point.payload[SYSTEM_KEY], _own_fields(point)
    changed_at = _changed_at(point)
    if system.get("url"):
        return Item(id=point.id, url=system["url"], payload=payload, changed_at=changed_at)
    if system.get("thumbnail"):
        sha256 = system["sha256"]
        return Item(id=point.id, thumbnail=sha256, image=system, payload=payload, changed_at=changed_at)
    lost = "It was uploaded, and neither its bytes nor a thumbnail were kept; upload the file again."
    return Item(id=point.id, payload=payload, refused=Refusal(code=FailureCode.EMPTY, detail=lost))
