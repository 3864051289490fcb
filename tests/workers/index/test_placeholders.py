"""workers/placeholders.py over every engine."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

from shared.errors import ItemError
from tests.workers.index.shop import CARD
from tests.workers.index.shop import image as made
from workers.groups import Groups
from workers.index.interface import Collection, Index, Point
from workers.neighbours import Neighbours
from workers.placeholders import Pictures, Placeholders, RealNeighbours

FIRST = np.array([1, 0, 0, 0], dtype=np.float32)


def image(id: str, bytes: str, vector: Any = (1, 0, 0, 0), **payload: Any) -> Point:
    point = made(id, vector, **payload)
    point.payload["_image"]["sha256"] = bytes
    return point


@pytest.fixture
def shop(index: Index) -> Collection:
    """`a` stands under three products, `b` three times under one, `c` under two, `d` under three ids without one."""
    return put(
        index,
        *(image(f"a{n}", "a", group=f"p{n}", brand="x") for n in range(3)),
        *(image(f"b{n}", "b", group="p7") for n in range(3)),
        *(image(f"c{n}", "c", group=f"p{n}") for n in range(2)),
        *(image(f"d{n}", "d") for n in range(3)),
        image("e", "e", group="p9"),
    )


def put(index: Index, *points: Point) -> Collection:
    index.create("shop", CARD)
    index.upsert("shop", points)
    collection = index.find("shop")
    assert collection is not None
    return collection


def real(index: Index, pictures: Pictures, **options: Any) -> RealNeighbours:
    return RealNeighbours(Neighbours(index, "shop", FIRST, **options), pictures)


def placeholders(pictures: Pictures, hashes: str) -> str:
    pictures.learn(hashes, math.inf)
    return "".join(sorted(pictures.placeholders))


def test_a_picture_under_three_products_or_ids_is_a_placeholder(index: Index, shop: Collection) -> None:
    assert placeholders(Placeholders(index).of(shop), "abcde") == "ad"
    for one, is_one in {"a": True, "b": False, "c": False, "d": True, "e": False}.items():
        assert Placeholders(index).of(shop).learn([one], math.inf) is is_one


def test_another_field_may_say_what_a_product_is(index: Index, shop: Collection) -> None:
    assert placeholders(Placeholders(index).of(shop, "brand"), "abcde") == "bd"


def test_no_question_is_asked_when_nobody_waits_any_more(index: Index, shop: Collection) -> None:
    late = real(index, Placeholders(index).of(shop), until=time.time() - 1)
    for question in (late.count, lambda: late.nearest(1), lambda: late.more_than(1)):
        with pytest.raises(ItemError, match="LOOKALIKE_SEARCH_TTL"):
            question()


def test_no_picture_is_looked_at_when_nobody_waits_any_more(index: Index, shop: Collection) -> None:
    pictures = Placeholders(index).of(shop)
    with pytest.raises(ItemError, match="LOOKALIKE_SEARCH_TTL"):
        pictures.learn("abcde", time.time() - 1)
    assert placeholders(pictures, "abcde") == "ad"


def test_they_are_remembered_for_a_while(index: Index, shop: Collection) -> None:
    known = Placeholders(index)
    assert placeholders(known.of(shop), "abcde") == "ad"
    index.delete("shop", ["a0"])
    assert "".join(sorted(known.of(shop).placeholders)) == "ad"
    assert placeholders(Placeholders(index).of(shop), "abcde") == "d"


def test_an_empty_collection_has_none(index: Index) -> None:
    assert real(index, Placeholders(index).of(put(index))).nearest(10) == []


def test_they_are_left_out_of_what_is_near(index: Index, shop: Collection) -> None:
    near = real(index, Placeholders(index).of(shop))
    assert sorted(point.id for point in near.nearest(10)) == ["b0", "b1", "b2", "c0", "c1", "e"]
    assert near.count() == 6


def test_pages_join_though_many_placeholders_stand_before_them(index: Index) -> None:
    shown = [image(f"n{n}", f"none{n % 40}", (1, n % 40 / 99, 0, 0), group=f"g{n}") for n in range(400)]
    photos = [image(f"i{n}", f"photo{n}", (1, 0.2 + n / 99, 0, 0), group=f"g{n}") for n in range(60)]
    shop = put(index, *shown, *photos)
    pages = [
        # Nothing is known before the page is asked for.
        real(index, Placeholders(index).of(shop), exact=True).nearest(7, offset)
        for offset in range(0, 63, 7)
    ]
    assert [point.id for page in pages for point in page] == [f"i{n}" for n in range(60)]


def test_a_collection_of_nothing_else_ends_the_search(index: Index) -> None:
    shop = put(index, *(image(f"n{n}", f"none{n // 3}", group=f"g{n}") for n in range(3000)))
    assert real(index, Placeholders(index).of(shop)).nearest(5) == []


def test_groups_are_made_and_counted_without_them(index: Index) -> None:
    shop = put(
        index,
        *(image(f"n{n}", "none", group=f"g{n}") for n in range(3)),
        *(image(f"i{n}", f"photo{n}", (1, n, 0, 0), group=f"g{n % 2}") for n in range(6)),
    )
    page = Groups(real(index, Placeholders(index).of(shop, "group")), "group").page(10, 0, 5)
    assert [(group.id, group.count) for group in page] == [("g0", 3), ("g1", 3)]


def test_a_threshold_and_a_filter_hold_as_ever(index: Index, shop: Collection) -> None:
    near = real(index, Placeholders(index).of(shop), score_threshold=2.0)
    assert (near.nearest(10), near.count()) == ([], 0)
    filter = {"must": [{"key": "group", "match": {"value": "p7"}}]}
    assert len(real(index, Placeholders(index).of(shop), filter=filter).nearest(10)) == 3
    assert len(Neighbours(index, "shop", FIRST, filter).nearest(10)) == 3
