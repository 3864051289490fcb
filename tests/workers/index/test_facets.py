"""workers/index/facets.py: how fields come to be counted. The counts themselves: test_index.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.errors import RequestCode, RequestError
from tests.workers.index.shop import fill, image
from workers.conditions import index_fields
from workers.groups import index_group_field
from workers.index import facets, interface
from workers.index.edge import EdgeIndex
from workers.index.interface import HASH, Collection, Point


class Looked(EdgeIndex):
    """An embedded index that counts how often all of its images were looked at."""

    looks = 0

    def scroll(self, name: str, **asked: Any) -> tuple[list[Point], str | None]:
        self.looks += 1
        return super().scroll(name, **asked)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Looked]:
    index = Looked(tmp_path)
    fill(index)
    yield index
    index.close()


def shop(index: EdgeIndex) -> Collection:
    collection = index.find("shop")
    assert collection is not None
    return collection


def test_that_no_image_has_a_field_is_remembered(index: Looked) -> None:
    for _ in range(3):
        assert index.facet("shop", "nothing") == []
        assert index_group_field("nothing", shop(index), index) is False
    assert index.looks == 1
    assert index.facet("shop@1", "nobody") == []
    assert index.looks == 2


def test_it_is_looked_at_again_when_images_came(index: Looked) -> None:
    assert index.facet("shop", "nothing") == []
    index.upsert("shop", [image("new", nothing="x")])
    assert index.facet("shop", "nothing") == [("x", 1)]


def test_it_is_looked_at_again_when_payloads_were_brought_up_to_date(index: Looked) -> None:
    assert index.facet("shop", "nothing") == []
    index.set_payloads("shop", {"i1": image("i1", nothing="x").payload})
    assert index.facet("shop", "nothing") == [("x", 1)]


def test_it_is_remembered_though_images_go(index: Looked) -> None:
    index.facet("shop", "nothing")
    index.delete("shop", ["i1"])
    index.facet("shop", "nothing")
    assert index.looks == 1


@pytest.mark.parametrize(
    ("field", "payload", "values"),
    [
        ("sizes[].eu", {"sizes": [{"us": 40}, {"eu": 7}]}, [(7, 1)]),
        ("of", {"of": [None, "a"]}, [("a", 1)]),
    ],
)
def test_a_field_is_counted_whose_first_member_lacks_it(
    index: Looked, field: str, payload: dict[str, Any], values: list[tuple[Any, int]]
) -> None:
    index.upsert("shop", [image("new", **payload)])
    assert index_group_field(field, shop(index), index) is True
    assert index.facet("shop", field) == values


def test_nulls_of_one_image_do_not_hide_the_values_of_others(index: Looked) -> None:
    index.upsert("shop", [image(f"n{n}", of=value) for n, value in enumerate([[None], [None], "a", [None]])])
    assert index.facet("shop", "of") == [("a", 1)]


def test_it_is_looked_at_again_after_a_while(index: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facets, "_SECONDS", 0.0)
    index.facet("shop", "nothing")
    index.facet("shop", "nothing")
    assert index.looks == 2


def test_no_more_payload_indexes_are_made_than_a_collection_has_room_for(
    index: Looked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interface, "MOST_INDEXES", 2)
    for field in ("brand", "price"):
        index.facet("shop", field)
    with pytest.raises(RequestError, match="`tags` needs a payload index") as refused:
        index.facet("shop", "tags")
    assert refused.value.code is RequestCode.INVALID_REQUEST
    assert index_group_field("tags", shop(index), index) is True
    index_fields({"name": "keyword"}, shop(index), index)
    assert shop(index).indexes.keys() == {"brand", "price"}
    assert index.facet("shop", "brand", limit=1) == [("bob", 3)]


def test_there_is_always_room_for_the_index_that_removal_needs(
    index: Looked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interface, "MOST_INDEXES", 1)
    point = image("a")
    point.payload["_image"]["sha256"] = "f00"
    index.upsert("shop", [point])
    index.facet("shop", "brand")
    assert index.facet("shop", HASH) == [("f00", 1)]
