"""Every form of Qdrant's filter, on every engine, with and without payload indexes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from shared.contract import point_id
from shared.errors import RequestCode, RequestError
from tests.workers.index.conftest import ENGINES, opened
from tests.workers.index.shop import fill
from workers.index.interface import FieldType, Filter, Index

FIRST = np.array([1, 0, 0, 0], dtype=np.float32)
INDEXES: dict[str, FieldType] = {
    "brand": "keyword",
    "price": "integer",
    "weight": "float",
    "sale": "bool",
    "name": "text",
    "added": "datetime",
    "tags": "keyword",
    "_image.id": "keyword",
}


@pytest.fixture(
    scope="module",
    params=[(kind, indexed) for kind in ENGINES for indexed in ("bare", "indexed")],
    ids="-".join,
)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """An index that holds the shop. The tests only read it."""
    kind, indexed = request.param
    with opened(kind, request, tmp_path_factory.mktemp("index")) as index:
        fill(index)
        if indexed == "indexed":
            index.ensure_indexes("shop", INDEXES)
        yield index


def field(key: str, **condition: Any) -> Filter:
    return {"must": [{"key": key, **condition}]}


NEAR_BERLIN = {"lon": 13.41, "lat": 52.51}
SQUARE = [{"lon": lon, "lat": lat} for lon, lat in ((13, 52), (14, 52), (14, 53), (13, 53), (13, 52))]
HOLE = [
    {"lon": lon, "lat": lat}
    for lon, lat in ((13.3, 52.4), (13.5, 52.4), (13.5, 52.6), (13.3, 52.6), (13.3, 52.4))
]
FILTERS: dict[str, tuple[Filter, str]] = {
    "empty": ({}, "01234567"),
    "match a word": (field("brand", match={"value": "ada"}), "01"),
    "match a number": (field("price", match={"value": 30}), "2"),
    "match a bool": (field("sale", match={"value": True}), "024"),
    "match in a list": (field("tags", match={"value": "y"}), "13"),
    "match any": (field("brand", match={"any": ["ada", "cat"]}), "015"),
    "match any number": (field("price", match={"any": [10, 20]}), "01"),
    "match none of": (field("brand", match={"except": ["ada", "bob"]}), "5"),
    "match text": (field("name", match={"text": "red"}), "014"),
    "match a phrase": (field("name", match={"phrase": "red shoes"}), "0"),
    "match any text": (field("name", match={"text_any": "green hat"}), "135"),
    "range of whole numbers": (field("price", range={"gte": 20, "lt": 40}), "12"),
    "range of fractions": (field("weight", range={"gt": 1.5, "lte": 3.5}), "23"),
    "range of times": (field("added", range={"gte": "2024-01-10T00:00:00Z"}), "7"),
    "range of days": (field("added", range={"lt": "2024-01-10"}), "6"),
    "range with a zone": (field("added", range={"gt": "2024-02-01T13:30:00+02:00"}), "7"),
    "is_empty": ({"must": [{"is_empty": {"key": "tags"}}]}, "24567"),
    "is_empty of a field": (field("tags", is_empty=False), "013"),
    "is_null": ({"must": [{"is_null": {"key": "brand"}}]}, "6"),
    "is_null of a field": (field("sale", is_null=True), "5"),
    "has_id": ({"must": [{"has_id": [point_id("i3"), point_id("absent")]}]}, "3"),
    "has_vector": ({"must": [{"has_vector": ""}]}, "01234567"),
    "values_count": (field("tags", values_count={"gte": 2}), "13"),
    "nested objects": (
        {
            "must": [
                {
                    "nested": {
                        "key": "offers",
                        "filter": {
                            "must": [
                                {"key": "shop", "match": {"value": "north"}},
                                {"key": "price", "range": {"lt": 10}},
                            ]
                        },
                    }
                }
            ]
        },
        "0",
    ),
    "path into objects": (field("offers[].price", range={"lt": 10}), "01"),
    "path into the system's part": (field("_image.id", match={"value": "i6"}), "6"),
    "geo box": (
        field(
            "place",
            geo_bounding_box={"top_left": {"lon": 13, "lat": 53}, "bottom_right": {"lon": 14, "lat": 52}},
        ),
        "7",
    ),
    "geo radius": (field("place", geo_radius={"center": NEAR_BERLIN, "radius": 5000}), "7"),
    "geo radius too small": (field("place", geo_radius={"center": NEAR_BERLIN, "radius": 50}), ""),
    "geo polygon": (field("place", geo_polygon={"exterior": {"points": SQUARE}}), "7"),
    "geo polygon with a hole": (
        field("place", geo_polygon={"exterior": {"points": SQUARE}, "interiors": [{"points": HOLE}]}),
        "",
    ),
    "must, all of them": (
        {"must": [{"key": "brand", "match": {"value": "bob"}}, {"key": "sale", "match": {"value": True}}]},
        "24",
    ),
    "should, one of them": (
        {"should": [{"key": "brand", "match": {"value": "cat"}}, {"key": "price", "range": {"lt": 15}}]},
        "05",
    ),
    "must_not": ({"must_not": [{"key": "brand", "match": {"any": ["ada", "bob"]}}]}, "567"),
    "min_should": (
        {
            "min_should": {
                "conditions": [
                    {"key": "brand", "match": {"value": "bob"}},
                    {"key": "sale", "match": {"value": True}},
                    {"key": "price", "range": {"lte": 20}},
                ],
                "min_count": 2,
            }
        },
        "024",
    ),
    "one condition for a list": ({"must": {"key": "brand", "match": {"value": "cat"}}}, "5"),
    "one condition to rule out": ({"must_not": {"is_empty": {"key": "brand"}}}, "012345"),
    "a filter in a filter": (
        {
            "must": [
                {"should": {"key": "price", "match": {"value": 10}}, "must_not": []},
                {"must_not": [{"should": [{"key": "sale", "match": {"value": False}}]}]},
            ]
        },
        "0",
    ),
}


@pytest.mark.parametrize("form", FILTERS)
def test_every_form_of_filter_chooses_the_right_images(shop: Index, form: str) -> None:
    filter, expected = FILTERS[form]
    chosen = {f"i{digit}" for digit in expected}
    points, _ = shop.scroll("shop", filter=filter)
    assert {point.id for point in points} == chosen
    assert shop.count("shop", filter=filter) == len(chosen)
    assert {hit.id for hit in shop.query("shop", FIRST, filter=filter)} == chosen


@pytest.mark.parametrize(
    "filter",
    [
        {"most": []},
        {"must": [{"key": "a"}]},
        {"must": [{"match": {"value": 1}}]},
        {"must": [{"key": "a", "match": {"value": 1.5}}]},
        {"must": [{"key": "a", "match": {"any": [1, "x"]}}]},
        {"must": [{"key": "a b", "match": {"value": 1}}]},
        {"must": [{"key": "a", "range": {"gte": "soon"}}]},
        {"must": [{"has_id": ["not-a-uuid"]}]},
        {"must": [{"key": "a", "geo_radius": {"center": {"lon": 500, "lat": 0}, "radius": 1}}]},
        {"must": [{"key": "a", "geo_polygon": {"exterior": {"points": [{"lon": 1, "lat": 1}]}}}]},
        {"must": [{"slice": {"total": 2, "index": 0}}]},
    ],
    ids=str,
)
def test_a_filter_that_the_engine_cannot_use_is_refused(shop: Index, filter: Filter) -> None:
    for ask in (
        lambda: shop.query("shop", FIRST, filter=filter),
        lambda: shop.scroll("shop", filter=filter),
        lambda: shop.count("shop", filter=filter),
        lambda: shop.facet("shop", "brand", filter=filter),
    ):
        with pytest.raises(RequestError) as caught:
            ask()
        assert caught.value.code is RequestCode.INVALID_FILTER


@pytest.mark.parametrize(("text", "expected"), [("red shoes", "04"), ("SHOES", "024"), ("sho", "")])
def test_an_indexed_text_is_matched_word_by_word(index: Index, text: str, expected: str) -> None:
    fill(index)
    index.ensure_indexes("shop", {"name": "text"})
    points, _ = index.scroll("shop", filter=field("name", match={"text": text}))
    assert {point.id for point in points} == {f"i{digit}" for digit in expected}
