"""From outside, through HTTP: pictures are found."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image

from tests.image_server import ImageServer, jpeg
from tests.system.stack import Stack


@pytest.fixture(scope="module")
def shop(stack: Stack, images: ImageServer) -> str:
    items = [
        {
            "url": images.url(f"/jpeg/{n}.jpg"),
            "id": f"p{n}",
            "payload": {"kind": "odd" if n % 2 else "even", "n": n},
        }
        for n in range(60)
    ]
    assert stack.ended(stack.submit("search", items))["indexed"] == 60
    return "search"


def ids(result: dict[str, Any]) -> list[str]:
    assert result["state"] == "done", result
    return [hit["id"] for hit in result["hits"]]


def cropped(data: bytes) -> bytes:
    """Cropped by 10 %, halved in size, recompressed at quality 40."""
    image = Image.open(io.BytesIO(data))
    width, height = image.size
    image = image.crop((width // 20, height // 20, width - width // 20, height - height // 20))
    buffer = io.BytesIO()
    image.resize((image.width // 2, image.height // 2)).save(buffer, "JPEG", quality=40)
    return buffer.getvalue()


def test_crops_that_were_halved_and_recompressed_find_their_originals(stack: Stack, shop: str) -> None:
    found = [ids(stack.search(shop, cropped(jpeg(n)), limit=1))[0] == f"p{n}" for n in range(30)]
    assert sum(found) >= 26  # generated pictures are far more alike than photographs are


def test_an_upload_a_url_an_id_and_a_vector_find_the_same_neighbours(
    stack: Stack, images: ImageServer, shop: str
) -> None:
    upload = stack.search(shop, jpeg(7), limit=6)
    url = stack.search(shop, url=images.url("/jpeg/7.jpg"), limit=6)
    by_id = stack.search(shop, id="p7", limit=5)
    assert ids(upload)[0] == ids(url)[0] == "p7"
    assert upload["hits"][0]["score"] == pytest.approx(1, abs=0.01)
    assert ids(upload)[1:] == ids(url)[1:] == ids(by_id)


def test_without_prefer_the_search_is_polled(stack: Stack, shop: str) -> None:
    answer = stack.call("POST", f"/v1/collections/{shop}/searches", json={"id": "p1"})
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    location = answer.headers["Location"]
    assert location == f"/v1/searches/{answer.json()['id']}"
    stack.until(lambda: stack.ok("GET", location)["state"] == "done", "the search never ended")
    assert len(stack.ok("GET", location)["hits"]) == 10


def test_a_filter_narrows_and_facets_count(stack: Stack, shop: str) -> None:
    odd = {"must": [{"key": "kind", "match": {"value": "odd"}}, {"key": "n", "range": {"gte": 50}}]}
    assert set(ids(stack.search(shop, id="p0", filter=odd))) == {"p51", "p53", "p55", "p57", "p59"}
    facets = stack.ok("GET", f"/v1/collections/{shop}/facets/kind")
    assert {value["value"]: value["count"] for value in facets["values"]} == {"odd": 30, "even": 30}
    assert stack.ok("GET", f"/v1/collections/{shop}")["indexes"]["kind"] == "keyword"


def test_a_picture_that_is_none_fails_with_its_code(stack: Stack, shop: str) -> None:
    result = stack.search(shop, b"<html>no picture</html>")
    assert (result["state"], result["problem"]["code"]) == ("failed", "not_an_image")


def test_searches_are_answered_while_a_job_is_worked_on(stack: Stack, images: ImageServer, shop: str) -> None:
    items = [{"url": images.url(f"/jpeg/{n}.jpg")} for n in range(3000, 3200)]
    job = stack.submit("bulk", items)
    stack.until(lambda: stack.job(job)["indexed"] > 0, "the job stood still")
    found = [ids(stack.search(shop, jpeg(n), limit=1))[0] for n in range(5)]
    assert stack.job(job)["state"] == "running"
    assert found == [f"p{n}" for n in range(5)]
    stack.ended(job)


def test_an_image_is_read_and_deleted_by_its_id(stack: Stack, images: ImageServer, collection: str) -> None:
    url = images.url("/jpeg/1.jpg")
    stack.ended(stack.submit(collection, [{"url": url}]))
    path = f"/v1/collections/{collection}/images/{quote(url, safe='')}"
    assert stack.ok("GET", path)["payload"]["_image"]["format"] == "jpeg"
    assert stack.call("DELETE", path).status_code == 204
    assert stack.call("GET", path).status_code == 404
    assert stack.count(collection) == 0


def test_groups_and_a_batch_are_found_over_http(stack: Stack, shop: str) -> None:
    grouped = stack.search(shop, jpeg(7), group_by="kind", group_size=3)
    assert [(group["id"], group["count"]) for group in grouped["groups"]] == [("odd", 30), ("even", 30)]
    assert ids(grouped) == [group["hits"][0]["id"] for group in grouped["groups"]]
    queries = [
        {"id": "p7", "limit": 3},
        {"like": ["p7", "p9"], "exclude": {"kind": "even"}},
        {"id": "nobody"},
    ]
    path, wait = f"/v1/collections/{shop}/searches/batch", {"Prefer": "wait=20"}
    one, two, three = stack.ok("POST", path, json={"queries": queries}, headers=wait)["results"]
    assert ids(one) == ids(stack.search(shop, id="p7", limit=3))
    assert {hit["payload"]["kind"] for hit in two["hits"]} == {"odd"}
    assert not {"p7", "p9"} & set(ids(two))
    assert three["problem"]["code"] == "image_not_found"


def test_text_is_refused_under_a_model_that_reads_none(stack: Stack, shop: str) -> None:
    answer = stack.call("POST", f"/v1/collections/{shop}/searches", json={"text": "a red radio"})
    assert (answer.status_code, answer.json()["code"]) == (422, "text_unsupported")
