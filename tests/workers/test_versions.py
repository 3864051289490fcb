"""workers/versions.py and workers/comparison.py on the embedded engine, with vectors by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.contract import Chunk, Item, ModelCard, point_id
from shared.errors import FailureCode, RequestCode, RequestError
from tests.image_server import ImageServer, jpeg
from workers import app as worker
from workers import removal, tasks, versions
from workers.comparison import compare
from workers.index.edge import EdgeIndex
from workers.index.interface import Index, Point
from workers.ingest import ingest
from workers.lease import LeaseState
from workers.parts import Parts

OLD = ModelCard(name="old", revision="1", preprocessing="p", dimension=4)
NEW = ModelCard(name="new", revision="1", preprocessing="p", dimension=6)
EARLY, LATE, LATER = (f"2026-01-01T00:00:0{second}.000Z" for second in (1, 2, 3))
VECTORS = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """`shop@1`, live and empty, and `shop@2` under another model."""
    index = EdgeIndex(tmp_path / "index")
    index.create("shop", OLD)
    index.create("shop@2", NEW)
    yield index
    index.close()


def image(
    id: str, vector: Any, indexed_at: str = EARLY, url: str | None = "http://a/x", **fields: Any
) -> Point:
    own = {name: fields.pop(name) for name in ("updated_at", "thumbnail", "sha256") if name in fields}
    system = {"id": id, "url": url, "sha256": "0" * 64, "indexed_at": indexed_at} | own
    return Point(id, fields | {"_image": system}, np.asarray(vector, np.float32))


def old(index: Index, *points: str, **options: Any) -> None:
    index.upsert("shop@1", [image(id, np.ones(4), **options) for id in points])


def new(index: Index, *points: str, **options: Any) -> None:
    index.upsert("shop@2", [image(id, np.ones(6), **options) for id in points])


def missing(index: Index, after: str = "") -> Iterator[Item]:
    return versions.missing(index, "shop@1", "shop@2", lambda: None, after)


def ids(items: Iterator[Item]) -> list[str]:
    return [item.id for item in items]


def refusal(call: Any, *args: Any) -> RequestError:
    with pytest.raises(RequestError) as refused:
        call(*args)
    return refused.value


# Versions


def test_a_version_is_added_empty_and_not_live_with_the_indexes_of_the_live_one(index: Index) -> None:
    index.ensure_indexes("shop", {"dx": "keyword"})
    made = versions.add(index, OLD, "shop")
    assert (made["version"], made["live"], made["images"], made["model"]) == (3, False, 0, "old")
    assert made["indexes"] == {"dx": "keyword"}
    listed = versions.list_all(index, "shop")["versions"]
    assert [(each["version"], each["live"]) for each in listed] == [(1, True), (2, False), (3, False)]


def test_a_version_has_a_number_that_none_had_before_it(index: Index) -> None:
    versions.drop(index, "shop", 2)
    assert versions.add(index, NEW, "shop")["version"] == 3


def test_no_more_than_ten_versions_stand_and_none_of_what_is_not_there(index: Index) -> None:
    for _ in range(8):
        versions.add(index, NEW, "shop")
    assert "10 versions" in refusal(versions.add, index, NEW, "shop").detail
    assert refusal(versions.add, index, NEW, "lamps").code is RequestCode.COLLECTION_NOT_FOUND


def test_a_swap_describes_what_is_live_now_and_the_live_version_stays(index: Index) -> None:
    assert versions.go_live(index, "shop", 2)["model"] == "new"
    assert refusal(versions.drop, index, "shop", 2).code is RequestCode.INVALID_REQUEST
    versions.drop(index, "shop", 1)
    assert [each.key for each in index.versions("shop")] == ["shop@2"]


@pytest.mark.parametrize(
    ("live", "version", "origin", "expected"),
    [
        (1, 2, None, ("shop@1", "shop@2")),
        (1, 3, 2, ("shop@2", "shop@3")),
        (2, 2, None, ("shop@1", "shop@2")),
        (3, 3, None, ("shop@2", "shop@3")),
        (1, 1, None, ("shop@2", "shop@1")),
        (3, 1, None, ("shop@3", "shop@1")),
    ],
)
def test_a_copy_comes_from_the_live_version_or_into_it_from_the_one_before(
    index: Index, live: int, version: int, origin: int | None, expected: tuple[str, str]
) -> None:
    index.create("shop@3", OLD)
    index.go_live("shop", live)
    assert versions.route(index, "shop", version, origin) == expected


def test_a_copy_from_nowhere_is_refused(index: Index) -> None:
    index.create("lamps", OLD)
    assert "itself" in refusal(versions.route, index, "shop", 2, 2).detail
    assert "one version alone" in refusal(versions.route, index, "lamps", 1, None).detail
    for version, origin in ((3, None), (2, 3)):
        refused = refusal(versions.route, index, "shop", version, origin)
        assert refused.code is RequestCode.COLLECTION_NOT_FOUND


# What a copy brings


def test_what_a_new_version_lacks_comes_in_order_of_point_ids_and_goes_on_behind_any(index: Index) -> None:
    names = [f"i{number}" for number in range(1200)]  # more than one page
    old(index, *names)
    new(index, *names[:100])
    expected = sorted(names[100:], key=point_id)
    assert ids(missing(index)) == expected
    assert ids(missing(index, after=expected[700])) == expected[701:]
    index.delete("shop@1", [expected[700]])
    assert ids(missing(index, after=expected[700])) == expected[701:]


def test_it_goes_on_after_its_last_image_was_taken(index: Index) -> None:
    old(index, "a", "b")
    last = max("a", "b", key=point_id)
    assert ids(missing(index, after=last)) == []


def test_a_new_version_is_brought_up_to_what_changed_in_the_live_one(index: Index) -> None:
    old(index, "same", "paid", "moved", "redrawn", price=1)
    new(index, "same", price=1, indexed_at=LATE)
    new(index, "paid", price=2, indexed_at=LATE)
    new(index, "moved", price=1, indexed_at=LATE, url="http://a/before")
    new(index, "redrawn", price=1, indexed_at=LATE, sha256="1" * 64)
    assert set(ids(missing(index))) == {"paid", "moved", "redrawn"}


def test_the_live_version_takes_only_what_changed_later_elsewhere(index: Index) -> None:
    index.go_live("shop", 2)
    old(index, "absent", "older", price=1)
    old(index, "written", price=1, indexed_at=LATER)
    old(index, "paid", price=1, updated_at=LATER)
    new(index, "older", "written", "paid", price=2, indexed_at=LATE)
    old(index, "new price since", price=1, indexed_at=LATE)
    new(index, "new price since", price=2, updated_at=LATER)
    assert set(ids(missing(index))) == {"absent", "written", "paid"}


def test_an_item_brings_its_payload_and_its_url(index: Index) -> None:
    old(index, "a", price=1, tags=["x"])
    (item,) = missing(index)
    assert item == Item(id="a", url="http://a/x", payload={"price": 1, "tags": ["x"]}, changed_at=EARLY)


def test_an_image_without_a_url_comes_from_its_thumbnail_and_without_one_fails_by_itself(
    index: Index,
) -> None:
    old(index, "kept", url=None, thumbnail=True)
    old(index, "gone", url=None)
    items = {item.id: item for item in missing(index)}
    assert (items["kept"].thumbnail, items["kept"].refused) == ("0" * 64, None)
    refused = items["gone"].refused
    assert refused is not None
    assert refused.code is FailureCode.EMPTY


def test_whoever_copies_looks_up_at_each_page_though_nothing_be_missing(index: Index) -> None:
    names = [f"i{number}" for number in range(1200)]
    old(index, *names)
    new(index, *names)
    looks: list[None] = []
    assert ids(versions.missing(index, "shop@1", "shop@2", lambda: looks.append(None))) == []
    assert len(looks) == 3


# What was deleted


def test_a_deleted_image_is_gone_from_every_version(index: Index) -> None:
    old(index, "a", "b")
    new(index, "a", "b")
    removal.remove(index, None, "shop", ["a"])
    assert [set(index.retrieve(key, ["a", "b"])) for key in ("shop@1", "shop@2")] == [{"b"}, {"b"}]


def test_a_copy_of_an_image_that_was_deleted_on_its_way_does_not_stand(index: Index) -> None:
    old(index, "stays", "goes")
    removal.remove(index, None, "shop", ["goes"])
    new(index, "stays", "goes", "other")
    copied = index.find("shop@2")
    assert copied is not None
    versions.forget_deleted(index, copied, ["stays", "goes"])
    assert set(index.retrieve("shop@2", ["stays", "goes", "other"])) == {"stays", "other"}


def test_where_no_other_version_stands_any_longer_a_copy_stays(index: Index) -> None:
    new(index, "a")
    index.go_live("shop", 2)
    copied = index.find("shop")
    index.drop("shop@1")
    assert copied is not None
    versions.forget_deleted(index, copied, ["a"])
    assert index.count("shop") == 1


# Chunks that are on their way while a collection swaps


def run(chunk: Chunk, parts: Parts, during: Callable[[], object] = lambda: None) -> list[str]:
    """How the chunk's items ended; `during` is done once, just before its first write."""
    todo = [during]

    def lease() -> LeaseState:
        if todo:
            todo.pop()()
        return "held"

    report = ingest(chunk, parts, lease)
    assert report is not None
    return [outcome.code or outcome.status for outcome in report.outcomes]


def chunk(images: ImageServer, collection: str, *paths: str, **payload: Any) -> Chunk:
    items = [Item(id=path, url=images.url(path), payload=payload) for path in paths]
    return Chunk("job_a", 1, collection, "token", 1, items)


@pytest.fixture
def shop(parts: Parts, images: ImageServer) -> Parts:
    """`shop@1`, live, with one image, and `shop@2`, both under the worker's model."""
    run(chunk(images, "shop", "/jpeg/1.jpg"), parts)
    parts.index.create("shop@2", parts.models.default.card)
    return parts


def standing(parts: Parts, key: str) -> set[str]:
    points, _ = parts.index.scroll(key)
    return {point.id for point in points}


def test_a_chunk_whose_collection_swapped_under_it_is_written_where_searches_look(
    shop: Parts, images: ImageServer
) -> None:
    ended = run(chunk(images, "shop", "/jpeg/2.jpg"), shop, during=lambda: shop.index.go_live("shop", 2))
    assert ended == ["indexed"]
    assert standing(shop, "shop") == standing(shop, "shop@2") == {"/jpeg/2.jpg"}


def test_a_copy_is_written_into_its_own_version_whatever_is_live(shop: Parts, images: ImageServer) -> None:
    (item,) = missing(shop.index)
    copied = Chunk("job_b", 1, "shop@2", "token", 1, [item])
    assert run(copied, shop, during=lambda: shop.index.go_live("shop", 2)) == ["indexed"]
    assert standing(shop, "shop@2") == {"/jpeg/1.jpg"}
    assert list(missing(shop.index)) == []


def listed(shop: Parts) -> Chunk:
    """The copy of `shop@1`'s image, on its way into `shop@2`."""
    return Chunk("job_b", 1, "shop@2", "token", 1, [*missing(shop.index)])


def price(shop: Parts, key: str) -> int:
    (point,) = shop.index.scroll(key)[0]
    return int(point.payload["price"])


def test_a_copy_gives_way_to_what_came_into_the_live_version_since_it_was_listed(
    shop: Parts, images: ImageServer
) -> None:
    copied = listed(shop)
    shop.index.go_live("shop", 2)
    ended = run(copied, shop, during=lambda: run(chunk(images, "shop", "/jpeg/1.jpg", price=2), shop))
    assert (ended, price(shop, "shop@2")) == (["unchanged"], 2)


def test_a_copy_gives_way_also_where_its_version_went_live_while_it_was_on_its_way(
    shop: Parts, images: ImageServer
) -> None:
    def swapped() -> None:
        shop.index.go_live("shop", 2)
        run(chunk(images, "shop", "/jpeg/1.jpg", price=2), shop)

    assert (run(listed(shop), shop, during=swapped), price(shop, "shop@2")) == (["unchanged"], 2)


def test_what_was_deleted_and_sent_again_while_its_copy_was_on_its_way_stands(
    shop: Parts, images: ImageServer
) -> None:
    copied = listed(shop)
    shop.index.go_live("shop", 2)

    def resent() -> None:
        removal.remove(shop.index, None, "shop", ["/jpeg/1.jpg"])
        run(chunk(images, "shop", "/jpeg/1.jpg", price=2), shop)

    assert run(copied, shop, during=resent) == ["unchanged"]
    assert (standing(shop, "shop@1"), price(shop, "shop@2")) == (set(), 2)


def test_what_gave_way_leaves_no_thumbnail_behind(shop: Parts, images: ImageServer) -> None:
    keeping = replace(shop, settings=shop.settings.model_copy(update={"thumbnails": True}))
    assert keeping.thumbnails
    copied = listed(keeping)
    shop.index.go_live("shop", 2)
    resent = [Item(id="/jpeg/1.jpg", url=images.url("/jpeg/2.jpg"))]

    def replaced() -> None:
        removal.remove(shop.index, keeping.thumbnails, "shop", ["/jpeg/1.jpg"])
        run(Chunk("job_c", 1, "shop", "token", 1, resent), keeping)

    assert run(copied, keeping, during=replaced) == ["unchanged"]
    of_copy, of_resent = (hashlib.sha256(jpeg(n)).hexdigest() for n in (1, 2))
    assert keeping.thumbnails.read("shop", of_copy) is None
    assert keeping.thumbnails.read("shop", of_resent)


def test_a_second_run_of_a_copy_counts_its_own_work(shop: Parts) -> None:
    copied = listed(shop)
    shop.index.go_live("shop", 2)
    assert run(copied, shop) == run(replace(copied, attempt=2), shop) == ["indexed"]


def test_a_version_that_is_not_live_takes_over_what_is_older_too(shop: Parts, images: ImageServer) -> None:
    run(chunk(images, "shop", "/jpeg/1.jpg", price=1), shop)
    run(chunk(images, "shop@2", "/jpeg/1.jpg", price=2), shop)
    assert run(listed(shop), shop) == ["unchanged"]  # its bytes are
    assert price(shop, "shop@2") == 1


def test_what_changed_while_its_copy_was_on_its_way_is_copied_once_more_after_the_swap(
    shop: Parts, images: ImageServer
) -> None:
    copied = listed(shop)
    run(chunk(images, "shop", "/jpeg/1.jpg", price=2), shop)
    run(copied, shop)
    shop.index.go_live("shop", 2)
    run(listed(shop), shop)
    assert price(shop, "shop@2") == 2


def test_an_image_that_is_deleted_while_its_copy_is_on_its_way_does_not_come_back(
    shop: Parts, images: ImageServer
) -> None:
    (item,) = missing(shop.index)
    copied = Chunk("job_b", 1, "shop@2", "token", 1, [item])
    run(copied, shop, during=lambda: removal.remove(shop.index, None, "shop", ["/jpeg/1.jpg"]))
    assert standing(shop, "shop@1") == standing(shop, "shop@2") == set()


def test_a_copy_into_a_version_that_was_dropped_makes_nothing(shop: Parts, images: ImageServer) -> None:
    (item,) = missing(shop.index)
    shop.index.drop("shop@2")
    refused = refusal(run, Chunk("job_b", 1, "shop@2", "token", 1, [item]), shop)
    assert refused.code is RequestCode.COLLECTION_NOT_FOUND
    assert [version.key for version in shop.index.versions("shop")] == ["shop@1"]


def test_a_payload_that_changed_alone_is_copied_again(shop: Parts, images: ImageServer) -> None:
    run(Chunk("job_b", 1, "shop@2", "token", 1, [*missing(shop.index)]), shop)
    run(chunk(images, "shop", "/jpeg/1.jpg", price=2), shop)
    shop.index.go_live("shop", 2)
    (late,) = missing(shop.index)
    assert late.payload == {"price": 2}
    run(Chunk("job_c", 1, "shop@2", "token", 1, [late]), shop)
    assert list(missing(shop.index)) == []


def test_a_version_whose_model_cannot_be_had_does_not_go_live(shop: Parts) -> None:
    shop.index.create("shop@3", NEW)
    worker._running["parts"] = shop
    try:
        assert tasks.go_live("shop", 3)["error"]["code"] == RequestCode.MODEL_UNAVAILABLE
        assert tasks.go_live("shop", 4)["error"]["code"] == RequestCode.COLLECTION_NOT_FOUND
        assert tasks.go_live("shop", 2)["ok"]["live"] is True
    finally:
        del worker._running["parts"]
    assert [version.live for version in shop.index.versions("shop")] == [False, True, False]


# Comparing


def test_versions_that_say_the_same_are_wholly_alike(index: Index) -> None:
    for number, vector in enumerate(VECTORS):
        index.upsert("shop@1", [image(str(number), vector)])
        index.upsert("shop@2", [image(str(number), np.append(vector, [0, 0]))])
    index.delete("shop@1", ["3"])
    found = compare(index, "shop", 2, 20)
    assert (found["version"], found["live"], found["sampled"]) == (2, 1, 20)
    assert found["images"] == {"version": 40, "live": 39}
    assert found["overlap"] > 0.9
    assert found["same_first"] > 0.9
    assert found == compare(index, "shop", 2, 20)


def test_the_overlap_is_the_share_of_the_nearest_that_both_name(index: Index) -> None:
    """Of twelve images on an arc, version 2 turns the order of the one half."""
    angles = np.linspace(0, 1, 12)
    for number, angle in enumerate(angles):
        turned = angle if number != 11 else angles[0] - 0.01
        index.upsert("shop@1", [image(f"{number:02}", [np.cos(angle), np.sin(angle), 0, 0])])
        index.upsert("shop@2", [image(f"{number:02}", [np.cos(turned), np.sin(turned), 0, 0, 0, 0])])
    found = compare(index, "shop", 2, 500)
    # Of eleven others ten are named: only the farthest is left out, by the one version 11, by the other 10 or 00.
    apart = {
        id: {near(index, "shop@1", id), near(index, "shop@2", id)}
        for id in (f"{number:02}" for number in range(12))
    }
    expected = np.mean([1 if len(left_out) == 1 else 0.9 for left_out in apart.values()])
    assert found["overlap"] == pytest.approx(expected, abs=1e-4)
    assert 0.9 < found["overlap"] < 1
    assert found["least_alike"][0]["overlap"] == 0.9


def near(index: Index, key: str, id: str) -> str:
    """The one that is not among the ten nearest of `id`."""
    vector = index.retrieve(key, [id], vectors=True)[id].vector
    assert vector is not None
    hits = index.query(key, vector, limit=12, exact=True)
    return [hit.id for hit in hits if hit.id != id][-1]


def test_nothing_in_common_is_nothing_to_compare(index: Index) -> None:
    new(index, "a")
    found = compare(index, "shop", 2, 20)
    assert (found["sampled"], found["overlap"], found["same_first"]) == (0, None, None)
    assert refusal(compare, index, "shop", 1, 20).code is RequestCode.INVALID_REQUEST
