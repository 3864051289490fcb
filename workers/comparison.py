"""How alike two versions of a collection answer: the same images asked for their nearest in both."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import numpy as np

from shared.contract import point_id
from shared.errors import RequestCode, RequestError
from workers.index.interface import Collection, Index, Point, version_key
from workers.versions import find

_NEAREST = 10
_LEAST = 5


def compare(index: Index, name: str, version: int, sample: int) -> dict[str, Any]:
    """Overlap of the ten nearest, in version `version` and in the live one, of up to `sample` images of both.

    Images come in the order of their point ids, which are hashes: an even choice, and the same every time.
    """
    live, other = find(index, name), find(index, version_key(name, version))
    if other.key == live.key:
        raise RequestError(
            RequestCode.INVALID_REQUEST, f"Version {version} is the live one; compare another with it."
        )
    points, _ = index.scroll(other.key, limit=sample, vectors=True)
    twins = index.retrieve(live.key, [point.id for point in points], vectors=True)
    pairs = [(twins[point.id], point) for point in points if point.id in twins]
    nearest = {
        point.id: (_nearest(index, live, twin), _nearest(index, other, point)) for twin, point in pairs
    }
    overlaps = {id: _overlap(*lists) for id, lists in nearest.items()}
    return {
        "version": version,
        "live": live.version,
        "images": {"version": index.count(other.key), "live": index.count(live.key)},
        "sampled": len(pairs),
        "overlap": _mean(overlaps.values()),
        "same_first": _mean(float(ours[:1] == theirs[:1]) for ours, theirs in nearest.values()),
        "least_alike": [
            {"id": id, "overlap": overlaps[id]} for id in sorted(overlaps, key=overlaps.__getitem__)[:_LEAST]
        ],
    }


def _nearest(index: Index, collection: Collection, point: Point) -> list[str]:
    others = {"must_not": [{"has_id": [point_id(point.id)]}]}
    hits = index.query(collection.key, np.asarray(point.vector), filter=others, limit=_NEAREST)
    return [hit.id for hit in hits]


def _overlap(ours: list[str], theirs: list[str]) -> float:
    most = max(len(ours), len(theirs))
    return round(len({*ours} & {*theirs}) / most, 4) if most else 1.0


def _mean(values: Any) -> float | None:
    values = list(values)
    return round(fmean(values), 4) if values else None
