"""Images that go, and the thumbnails that go with the last image of the same bytes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from shared.contract import SYSTEM_KEY
from shared.thumbnails import Thumbnails
from workers.index.interface import HASH, Index, split_key

_AT_ONCE = 16  # thumbnails; files may lie far away, and while some are deleted others may be needed again


def remove(index: Index, thumbnails: Thumbnails | None, key: str, ids: Sequence[str]) -> None:
    """Delete images from every version of a collection: what is gone does not come back with a swap.

    Ids that do not stand are no error. Where there are several versions it goes through them twice, for a copy from
    one to another may be on its way (`versions.forget_deleted`).
    """
    versions = index.versions(split_key(key)[0])
    systems = [
        point.payload[SYSTEM_KEY]
        for version in versions
        for point in index.retrieve(version.key, ids).values()
    ]
    for version in versions if len(versions) == 1 else [*versions, *versions]:
        index.delete(version.key, ids)
    forget(index, thumbnails, key, {system["sha256"] for system in systems if system.get("thumbnail")})


def forget(index: Index, thumbnails: Thumbnails | None, key: str, hashes: Collection[str]) -> None:
    """Keep no longer the thumbnails of these bytes (sha256) that no image of any version has.

    It is asked after the images are gone, so that of two that go at once the later one finds none.
    """
    if thumbnails is None:
        return
    name, _ = split_key(key)
    wanted = sorted(set(hashes))
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        for sha256 in set(some) - _standing(index, name, some):
            thumbnails.delete(name, sha256)


def _standing(index: Index, name: str, hashes: list[str]) -> set[str]:
    standing: set[str] = set()
    asked = {"must": [{"key": HASH, "match": {"any": hashes}}]}
    for version in index.versions(name):
        counts = index.facet(version.key, HASH, filter=asked, limit=len(hashes))
        standing |= {value for value, count in counts if count}
    return standing
