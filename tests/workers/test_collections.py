"""workers/collections.py on the embedded engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared.contract import ModelCard
from shared.errors import RequestCode, RequestError
from workers import collections
from workers.index.edge import EdgeIndex
from workers.index.interface import Index, Point

CARD = ModelCard(name="vit", revision="1", preprocessing="squash", dimension=3)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return EdgeIndex(tmp_path / "index")


def refusal(call: object, *args: object) -> RequestCode:
    with pytest.raises(RequestError) as refused:
        call(*args)  # type: ignore[operator]
    return refused.value.code


def add(index: Index, *ids: str) -> None:
    index.upsert(
        "shop", [Point(id, {"_image": {"id": id, "url": None}}, np.ones(3, np.float32)) for id in ids]
    )


def test_putting_a_collection_makes_it_once(index: Index) -> None:
    first = collections.put(index, CARD, "shop", None, {"dx": "keyword"})
    second = collections.put(index, CARD, "shop", "vit", {})
    assert (first["created"], second["created"]) == (True, False)
    assert first["collection"] == second["collection"] == collections.get(index, "shop")
    assert first["collection"]["indexes"] == {"dx": "keyword"}


def test_another_model_on_a_standing_collection_is_a_conflict(index: Index) -> None:
    collections.put(index, CARD, "shop", None, {})
    assert refusal(collections.put, index, CARD, "shop", "clip", {}) == RequestCode.MODEL_CONFLICT


def test_a_model_that_no_worker_runs_makes_no_collection(index: Index) -> None:
    assert refusal(collections.put, index, CARD, "shop", "clip", {}) == RequestCode.MODEL_UNAVAILABLE
    assert refusal(collections.get, index, "shop") == RequestCode.COLLECTION_NOT_FOUND


def test_an_image_is_read_listed_and_removed(index: Index) -> None:
    index.create("shop", CARD)
    add(index, "a", "b", "c")
    assert collections.image(index, "shop", "b")["id"] == "b"
    page = collections.images(index, "shop", None, 2, None)
    rest = collections.images(index, "shop", None, 2, page["next_cursor"])
    assert {each["id"] for each in page["images"] + rest["images"]} == {"a", "b", "c"}
    collections.remove_image(index, "shop", "b")
    assert refusal(collections.remove_image, index, "shop", "b") == RequestCode.IMAGE_NOT_FOUND
    assert collections.get(index, "shop")["images"] == 2
