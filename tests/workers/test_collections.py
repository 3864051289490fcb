"""workers/collections.py on the embedded engine."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest

from shared.contract import ModelCard
from shared.errors import ModelMismatch, RequestCode, RequestError
from shared.files import Files
from shared.settings import Settings
from shared.thumbnails import Thumbnails
from workers import collections
from workers.index.edge import EdgeIndex
from workers.index.interface import Index, Point

CARD = ModelCard(name="vit", revision="1", preprocessing="squash", dimension=3)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return EdgeIndex(tmp_path / "index")


def card_of(model: str | None) -> ModelCard:
    if model not in (None, "vit"):
        raise RequestError(RequestCode.MODEL_UNAVAILABLE, "No such model.")
    return CARD


def refusal(call: object, *args: object) -> RequestCode:
    with pytest.raises(RequestError) as refused:
        call(*args)  # type: ignore[operator]
    return refused.value.code


def add(index: Index, *ids: str) -> None:
    index.upsert(
        "shop", [Point(id, {"_image": {"id": id, "url": None}}, np.ones(3, np.float32)) for id in ids]
    )


def test_putting_a_collection_makes_it_once(index: Index) -> None:
    first = collections.put(index, card_of, "shop", None, {"dx": "keyword"})
    second = collections.put(index, card_of, "shop", "vit", {})
    assert (first["created"], second["created"]) == (True, False)
    assert first["collection"] == second["collection"] == collections.get(index, "shop")
    assert first["collection"]["indexes"] == {"dx": "keyword"}


def test_another_model_on_a_standing_collection_is_a_conflict(index: Index) -> None:
    collections.put(index, card_of, "shop", None, {})
    assert refusal(collections.put, index, card_of, "shop", "clip", {}) == RequestCode.MODEL_CONFLICT


def test_a_model_that_no_worker_runs_makes_no_collection(index: Index) -> None:
    assert refusal(collections.put, index, card_of, "shop", "clip", {}) == RequestCode.MODEL_UNAVAILABLE
    assert refusal(collections.get, index, "shop") == RequestCode.COLLECTION_NOT_FOUND


def test_an_image_is_read_listed_and_removed(index: Index) -> None:
    index.create("shop", CARD)
    add(index, "a", "b", "c")
    assert collections.image(index, "shop", "b")["id"] == "b"
    page = collections.images(index, "shop", None, 2, None)
    rest = collections.images(index, "shop", None, 2, page["next_cursor"])
    assert {each["id"] for each in page["images"] + rest["images"]} == {"a", "b", "c"}
    collections.remove_image(index, None, "shop", "b")
    assert refusal(collections.remove_image, index, None, "shop", "b") == RequestCode.IMAGE_NOT_FOUND
    assert collections.get(index, "shop")["images"] == 2


def test_a_collection_is_described_with_its_version_and_each_version_by_itself(index: Index) -> None:
    index.create("shop", CARD)
    add(index, "a")
    index.create("shop@2", CARD)
    live, other = collections.get(index, "shop"), collections.get(index, "shop@2")
    assert (live["name"], live["version"], live["live"], live["images"]) == ("shop", 1, True, 1)
    assert (other["name"], other["version"], other["live"], other["images"]) == ("shop", 2, False, 0)
    assert collections.list_all(index) == [live]


def test_a_plain_name_is_made_where_it_is_missing_and_one_version_never_is(index: Index) -> None:
    assert collections.find_or_make(index, "shop", CARD).key == "shop@1"
    assert refusal(collections.find_or_make, index, "shop@2", CARD) == RequestCode.COLLECTION_NOT_FOUND
    assert [version.key for version in index.versions("shop")] == ["shop@1"]


def test_a_name_that_others_use_is_a_mismatch_and_not_waited_for(index: Index) -> None:
    class Taken:
        """An index where the name is somebody else's."""

        def find(self, name: str) -> None:
            return None

        def create(self, name: str, card: ModelCard) -> bool:
            raise ModelMismatch("It was not made by Lookalike.")

    with pytest.raises(ModelMismatch):
        collections.find_or_make(Taken(), "shop", CARD)  # type: ignore[arg-type]


def test_a_deleted_collection_leaves_no_thumbnails(index: Index, tmp_path: Path) -> None:
    thumbnails = Thumbnails(Files(Settings(files=str(tmp_path / "files"))))
    for name in ("shop", "lamps"):
        index.create(name, CARD)
        thumbnails.write(name, "0" * 64, b"webp")
    index.create("shop@2", CARD)
    collections.drop(index, thumbnails, "shop")
    assert index.collections() == [index.find("lamps")]
    assert (thumbnails.read("shop", "0" * 64), thumbnails.read("lamps", "0" * 64)) == (None, b"webp")


def test_a_collection_that_cannot_be_deleted_keeps_its_thumbnails(index: Index, tmp_path: Path) -> None:
    thumbnails = Thumbnails(Files(Settings(files=str(tmp_path / "files"))))
    thumbnails.write("shop", "0" * 64, b"webp")
    assert refusal(collections.drop, index, thumbnails, "shop") == RequestCode.COLLECTION_NOT_FOUND
    assert thumbnails.read("shop", "0" * 64) == b"webp"


def test_images_are_listed_with_their_vectors_where_these_are_wanted(index: Index) -> None:
    index.create("shop", CARD)
    add(index, "a")
    (plain,) = collections.images(index, "shop", None, 2, None)["images"]
    (image,) = collections.images(index, "shop", None, 2, None, vectors=True)["images"]
    assert image.keys() - plain.keys() == {"vector"}
    vector = np.frombuffer(b64decode(image["vector"]), "<f4")
    assert vector.tolist() == pytest.approx([3**-0.5] * 3)


def test_an_image_names_the_thumbnail_that_is_kept_of_it(index: Index) -> None:
    index.create("shop", CARD)
    system = {"id": "a b", "url": None, "sha256": "0" * 64, "thumbnail": True}
    index.upsert("shop", [Point("a b", {"_image": system}, np.ones(3, np.float32))])
    add(index, "c")
    path = "/v1/collections/shop/images/a%20b/thumbnail?of=0000000000000000"
    assert collections.image(index, "shop", "a b")["thumbnail"] == path
    assert collections.image(index, "shop", "c")["thumbnail"] is None
