"""A small shop: eight images whose vectors and payloads are known, for every engine's tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from shared.contract import ModelCard
from workers.index.interface import Index, Point

CARD = ModelCard(name="m", revision="1", preprocessing="p", dimension=4)
OTHER_CARD = ModelCard(name="m", revision="2", preprocessing="p", dimension=4)

_ROWS: list[dict[str, Any]] = [
    {"name": "red shoes", "brand": "ada", "price": 10, "weight": 0.5, "sale": True, "tags": ["x"]},
    {"name": "red hat", "brand": "ada", "price": 20, "weight": 1.5, "sale": False, "tags": ["x", "y"]},
    {"name": "blue shoes", "brand": "bob", "price": 30, "weight": 2.5, "sale": True, "tags": []},
    {"name": "blue hat", "brand": "bob", "price": 40, "weight": 3.5, "sale": False, "tags": ["z", "y", "x"]},
    {"name": "shoes in red", "brand": "bob", "price": 50, "weight": 4.5, "sale": True},
    {"name": "green coat", "brand": "cat", "price": 60, "weight": 5.5, "sale": None},
    {"brand": None, "added": "2024-01-07T00:00:00Z"},
    {"added": "2024-02-01T12:00:00Z", "place": {"lon": 13.4, "lat": 52.5}},
]
_OFFERS = {
    "i0": [{"shop": "north", "price": 5}, {"shop": "south", "price": 50}],
    "i1": [{"shop": "north", "price": 50}, {"shop": "south", "price": 5}],
}


def image(id: str, vector: Any = (1, 0, 0, 0), **payload: Any) -> Point:
    payload["_image"] = {"id": id, "format": "JPEG"}
    return Point(id, payload, np.array(vector, dtype=np.float32))


def fill(index: Index, name: str = "shop") -> None:
    """i0 … i7, each a little farther from [1, 0, 0, 0] than the one before."""
    index.create(name, CARD)
    points = [image(f"i{n}", (1, n / 10, 0, 0), **row) for n, row in enumerate(_ROWS)]
    for point in points:
        if point.id in _OFFERS:
            point.payload["offers"] = _OFFERS[point.id]
    index.upsert(name, points)
