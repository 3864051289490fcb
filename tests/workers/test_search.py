"""workers/search.py with the real model and engine."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from typing import Any

import pytest

from shared.contract import Chunk, Item, Query
from tests.image_server import ImageServer, jpeg, picture
from workers.ingest import ingest
from workers.parts import Parts
from workers.search import search, search_all


@pytest.fixture
def shop(parts: Parts, images: ImageServer) -> ImageServer:
    """Twelve pictures: `kind` even or odd, `price` 0 to 11."""
    items = [
        Item(
            id=f"p{n}",
            url=images.url(f"/jpeg/{n}.jpg"),
            payload={"kind": "odd" if n % 2 else "even", "price": n},
        )
        for n in range(12)
    ]
    ingest(Chunk("job_a", 1, "shop", "t", 1, items), parts, lease=lambda: "held")
    return images


def ask(parts: Parts, **query: Any) -> dict[str, Any]:
    return search(Query(collection="shop", sent_at=time.time(), **query), parts)


def ids(answer: dict[str, Any]) -> list[str]:
    assert answer["state"] == "done", answer
    return [hit["id"] for hit in answer["hits"]]


def test_a_crop_finds_its_original_first(parts: Parts, shop: ImageServer) -> None:
    original = picture(5)
    crop = original.crop((15, 10, original.width - 15, original.height - 10))
    buffer = io.BytesIO()
    crop.resize((crop.width // 2, crop.height // 2)).save(buffer, "JPEG", quality=40)
    assert ids(ask(parts, uploads=[parts.uploads.park_for_search(buffer.getvalue())]))[0] == "p5"


def test_a_url_is_fetched_and_finds_itself_with_a_score_of_one(parts: Parts, shop: ImageServer) -> None:
    answer = ask(parts, url=shop.url("/jpeg/3.jpg"))
    assert ids(answer)[0] == "p3"
    assert answer["hits"][0]["score"] == pytest.approx(1, abs=0.01)
    assert answer["hits"][0]["url"] == shop.url("/jpeg/3.jpg")
    assert set(answer["took_ms"]) == {"queue", "fetch", "embed", "search"}


def test_an_id_finds_its_like_but_not_itself(parts: Parts, shop: ImageServer) -> None:
    found = ids(ask(parts, id="p3", limit=100))
    assert "p3" not in found
    assert len(found) == 11
    even = ids(ask(parts, id="p3", filter={"must": [{"key": "kind", "match": {"value": "odd"}}]}))
    assert set(even) == {f"p{n}" for n in range(1, 12, 2)} - {"p3"}


def test_a_vector_is_taken_as_it_is(parts: Parts, shop: ImageServer) -> None:
    vector = parts.index.retrieve("shop", ["p7"], vectors=True)["p7"].vector
    assert vector is not None
    assert ids(ask(parts, vector=vector.tolist()))[0] == "p7"


@pytest.mark.parametrize("vector", [[1.0, 2.0], [0.0] * 48])
def test_a_vector_that_does_not_fit_is_the_clients_fault(
    parts: Parts, shop: ImageServer, vector: list[float]
) -> None:
    answer = ask(parts, vector=vector)
    assert (answer["state"], answer["problem"]["code"]) == ("failed", "invalid_request")


def test_a_filter_narrows_and_makes_its_payload_index(parts: Parts, shop: ImageServer) -> None:
    wanted = {"must": [{"key": "kind", "match": {"value": "odd"}}, {"key": "price", "range": {"lte": 5}}]}
    assert set(ids(ask(parts, id="p0", filter=wanted))) == {"p1", "p3", "p5"}
    found = parts.index.find("shop")
    assert found is not None
    assert found.indexes == {"kind": "keyword", "price": "float"}


def test_pages_join_without_gap_or_double(parts: Parts, shop: ImageServer) -> None:
    whole = ids(ask(parts, id="p0", limit=11))
    pages = [ids(ask(parts, id="p0", limit=4, offset=offset)) for offset in (0, 4, 8)]
    assert [id for page in pages for id in page] == whole


def test_the_threshold_cuts_the_tail(parts: Parts, shop: ImageServer) -> None:
    whole = ask(parts, url=shop.url("/jpeg/3.jpg"), limit=12)["hits"]
    cut = (whole[3]["score"] + whole[4]["score"]) / 2
    assert len(ids(ask(parts, url=shop.url("/jpeg/3.jpg"), score_threshold=cut))) == 4


def test_only_the_payload_that_is_asked_for_comes(parts: Parts, shop: ImageServer) -> None:
    assert ask(parts, id="p1", with_payload=["price"])["hits"][0]["payload"].keys() == {"price"}
    assert ask(parts, id="p1", with_payload=False)["hits"][0]["payload"] == {}
    assert ask(parts, id="p1")["hits"][0]["payload"].keys() == {"kind", "price", "_image"}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"id": "nobody"}, "image_not_found"),
        ({"uploads": ["0" * 64]}, "empty"),
        ({"url": "http://10.0.0.1/x.jpg"}, "address_refused"),
    ],
)
def test_what_is_wrong_with_a_query_is_said_in_the_answer(
    parts: Parts, shop: ImageServer, query: dict[str, Any], code: str
) -> None:
    answer = ask(parts, **query)
    assert (answer["state"], answer["problem"]["code"]) == ("failed", code)
    assert answer["problem"]["detail"]


def test_a_collection_that_does_not_stand_is_said_so(parts: Parts) -> None:
    assert ask(parts, id="x")["problem"]["code"] == "collection_not_found"


def test_a_picture_is_not_searched_under_another_model(parts: Parts) -> None:
    parts.index.create("shop", parts.models.default.embedder.card.model_copy(update={"revision": "another"}))
    answer = ask(parts, uploads=[parts.uploads.park_for_search(b"x")])
    assert answer["problem"]["code"] == "model_unavailable"


def test_a_query_picture_is_not_kept_once_it_is_read(parts: Parts, shop: ImageServer) -> None:
    sha256 = parts.uploads.park_for_search(jpeg(5))
    ask(parts, uploads=[sha256])
    assert parts.uploads.read(sha256) is None


def test_a_search_does_not_take_away_what_waits_to_be_indexed(parts: Parts, shop: ImageServer) -> None:
    sha256 = parts.uploads.park_for_ingest(jpeg(5))
    parts.uploads.park_for_search(jpeg(5))
    ask(parts, uploads=[sha256])
    assert parts.uploads.read(sha256) is not None


def test_groups_are_one_row_a_product_with_its_best_view_and_how_many_matched(
    parts: Parts, shop: ImageServer
) -> None:
    answer = ask(parts, id="p3", group_by="kind", group_size=2)
    assert [(group["id"], group["count"], len(group["hits"])) for group in answer["groups"]] in (
        [("odd", 5, 2), ("even", 6, 2)],
        [("even", 6, 2), ("odd", 5, 2)],
    )
    assert answer["hits"] == [group["hits"][0] for group in answer["groups"]]
    assert ids(answer)[0] == ids(ask(parts, id="p3"))[0]
    found = parts.index.find("shop")
    assert found is not None
    assert found.indexes == {"kind": "keyword"}


def test_an_image_that_is_the_best_of_several_groups_is_one_hit(parts: Parts, shop: ImageServer) -> None:
    system = {id: point.payload["_image"] for id, point in parts.index.retrieve("shop", ["p4", "p5"]).items()}
    tags = {"p4": ["a", "b"], "p5": ["c"]}
    parts.index.set_payloads("shop", {id: {"_image": system[id], "tags": tags[id]} for id in tags})
    answer = ask(parts, id="p3", group_by="tags")
    assert sorted(group["id"] for group in answer["groups"]) == ["a", "b", "c"]
    assert sorted(ids(answer)) == ["p4", "p5"]


def test_groups_have_the_payload_that_is_asked_for(parts: Parts, shop: ImageServer) -> None:
    answer = ask(parts, id="p3", group_by="kind", with_payload=["price"])
    assert all(hit["payload"].keys() == {"price"} for group in answer["groups"] for hit in group["hits"])


def test_pages_of_groups_join(parts: Parts, shop: ImageServer) -> None:
    whole = [group["id"] for group in ask(parts, id="p0", group_by="price", limit=100)["groups"]]
    pages = [
        ask(parts, id="p0", group_by="price", limit=3, offset=offset)["groups"] for offset in range(0, 12, 3)
    ]
    assert [group["id"] for page in pages for group in page] == whole
    assert sorted(whole) == list(range(1, 12))


def test_a_field_may_be_filtered_by_and_grouped_by_at_once(parts: Parts, shop: ImageServer) -> None:
    dear = {"must": [{"key": "price", "range": {"gte": 6}}]}
    groups = ask(parts, id="p0", filter=dear, group_by="price")["groups"]
    assert sorted((group["id"], group["count"]) for group in groups) == [(n, 1) for n in range(6, 12)]


def test_a_field_that_no_image_has_makes_no_groups_and_no_payload_index(
    parts: Parts, shop: ImageServer
) -> None:
    answer = ask(parts, id="p3", group_by="nothing")
    assert (answer["hits"], answer["groups"]) == ([], [])
    found = parts.index.find("shop")
    assert found is not None
    assert found.indexes == {}


@pytest.mark.parametrize("options", [{}, {"group_by": "kind"}, {"placeholders": False}])
def test_a_search_ends_where_nobody_could_read_its_answer_any_more(
    parts: Parts, shop: ImageServer, options: dict[str, Any]
) -> None:
    long_ago = time.time() - parts.settings.search_ttl - 1
    answer = search(Query(collection="shop", id="p1", sent_at=long_ago, **options), parts)
    assert (answer["state"], answer["problem"]["code"]) == ("failed", "timeout")


@pytest.mark.parametrize("options", [{}, {"group_by": "kind"}, {"placeholders": False}])
def test_a_search_ends_before_its_worker_counts_as_idle(
    parts: Parts, shop: ImageServer, options: dict[str, Any]
) -> None:
    hurried = replace(parts, settings=parts.settings.model_copy(update={"idle_seconds": 1e-6}))
    answer = ask(hurried, id="p1", **options)
    assert (answer["state"], answer["problem"]["code"]) == ("failed", "timeout")
    assert "LOOKALIKE_IDLE_SECONDS" in answer["problem"]["detail"]
    batch = search_all([Query(collection="shop", id="p1", sent_at=time.time(), **options)], hurried)
    assert batch["results"][0]["problem"]["code"] == "timeout"


def test_placeholders_are_left_out_when_asked_to(parts: Parts, shop: ImageServer) -> None:
    same = [Item(id=f"none{n}", url=shop.url("/jpeg/99.jpg"), payload={"group": f"g{n}"}) for n in range(3)]
    ingest(Chunk("job_b", 1, "shop", "t", 1, same), parts, lease=lambda: "held")
    assert {f"none{n}" for n in range(3)} <= set(ids(ask(parts, id="p3", limit=100)))
    assert set(ids(ask(parts, id="p3", limit=100, placeholders=False))) == {f"p{n}" for n in range(12)} - {
        "p3"
    }


def test_a_system_field_may_be_filtered_on(parts: Parts, shop: ImageServer) -> None:
    jpeg_only = {"must": [{"key": "_image.format", "match": {"value": "jpeg"}}]}
    assert len(ids(ask(parts, id="p3", filter=jpeg_only, limit=100))) == 11
    assert ids(ask(parts, id="p3", filter={"must_not": jpeg_only["must"]})) == []


def test_a_hit_says_where_its_thumbnail_is(parts: Parts, shop: ImageServer) -> None:
    payload = parts.index.retrieve("shop", ["p4"])["p4"].payload
    payload["_image"]["thumbnail"] = True
    parts.index.set_payloads("shop", {"p4": payload})
    thumbnails = {hit["id"]: hit["thumbnail"] for hit in ask(parts, id="p3", limit=100)["hits"]}
    assert thumbnails.pop("p4").startswith("/v1/collections/shop/images/p4/thumbnail")
    assert set(thumbnails.values()) == {None}


def test_a_hit_of_one_version_names_the_thumbnail_of_that_version(parts: Parts, shop: ImageServer) -> None:
    payload = parts.index.retrieve("shop", ["p4"])["p4"].payload
    payload["_image"]["thumbnail"] = True
    parts.index.set_payloads("shop", {"p4": payload})
    query = Query(collection="shop@1", sent_at=time.time(), id="p3", limit=100)
    thumbnails = [hit["thumbnail"] for hit in search(query, parts)["hits"] if hit["id"] == "p4"]
    assert thumbnails[0].startswith("/v1/collections/shop@1/images/p4/thumbnail?of=")


def test_a_batch_has_a_result_for_each_query_in_its_order(parts: Parts, shop: ImageServer) -> None:
    now = time.time()
    queries = [
        Query(collection="shop", url=shop.url("/jpeg/3.jpg"), limit=1, sent_at=now),
        Query(collection="shop", id="nobody", sent_at=now),
        Query(collection="nothing", id="p1", sent_at=now),
        Query(collection="shop", id="p1", group_by="kind", sent_at=now),
    ]
    answer = search_all(queries, parts)
    one, two, three, four = answer["results"]
    assert answer["state"] == "done"
    assert ids(one) == ["p3"]
    assert (two["state"], two["problem"]["code"]) == ("failed", "image_not_found")
    assert (three["state"], three["problem"]["code"]) == ("failed", "collection_not_found")
    assert len(four["groups"]) == 2


def test_a_batch_ends_where_nobody_could_read_its_answer_any_more(parts: Parts, shop: ImageServer) -> None:
    long_ago = time.time() - parts.settings.search_ttl - 1
    answer = search_all([Query(collection="shop", id="p1", sent_at=long_ago)], parts)
    assert answer["results"][0]["problem"]["code"] == "timeout"
