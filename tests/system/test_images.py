"""From outside, through HTTP: thumbnails, and images that leave and come back with their vectors."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from tests.image_server import ImageServer
from tests.system.stack import Stack


def thumbnails(stack: Stack) -> set[Path]:
    return set((stack.data / "files").rglob("*.webp"))


def images_of(stack: Stack, collection: str, **query: Any) -> dict[str, dict[str, Any]]:
    path = f"/v1/collections/{collection}/images"
    return {image["id"]: image for image in stack.ok("GET", path, params={"limit": 1000, **query})["images"]}


def test_a_hit_shows_its_picture_until_the_image_is_deleted(
    stack: Stack, images: ImageServer, collection: str
) -> None:
    before = thumbnails(stack)
    id = images.url("/jpeg/201.jpg?a&b")
    assert stack.ended(stack.submit(collection, [{"url": id}]))["indexed"] == 1
    (hit,) = stack.search(collection, url=id)["hits"]
    assert hit["thumbnail"] == images_of(stack, collection)[id]["thumbnail"]

    shown = stack.call("GET", hit["thumbnail"])
    assert (shown.status_code, shown.headers["Content-Type"]) == (200, "image/webp")
    assert "immutable" in shown.headers["Cache-Control"]
    with Image.open(io.BytesIO(shown.content)) as picture:
        assert (picture.format, picture.size) == ("WEBP", (256, 192))
    again = stack.call("GET", hit["thumbnail"], headers={"If-None-Match": shown.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")

    assert len(thumbnails(stack) - before) == 1
    assert stack.call("DELETE", hit["thumbnail"].partition("/thumbnail")[0]).status_code == 204
    gone = stack.call("GET", hit["thumbnail"])
    assert (gone.status_code, gone.json()["code"]) == (404, "image_not_found")
    assert thumbnails(stack) == before


def test_a_collection_that_is_deleted_takes_its_thumbnails_with_it(
    stack: Stack, images: ImageServer, collection: str
) -> None:
    before = thumbnails(stack)
    items = [{"url": images.url(f"/jpeg/{seed}.jpg")} for seed in range(210, 215)]
    assert stack.ended(stack.submit(collection, items))["indexed"] == 5
    assert len(thumbnails(stack) - before) == 5
    assert stack.call("DELETE", f"/v1/collections/{collection}").status_code == 204
    assert thumbnails(stack) == before


def test_a_feed_that_is_sent_again_moves_no_bytes_where_the_server_says_so(
    stack: Stack, images: ImageServer, collection: str
) -> None:
    feed = [{"url": images.url(f"/tagged?of=/jpeg/{seed}.jpg"), "id": str(seed)} for seed in range(220, 230)]
    assert stack.ended(stack.submit(collection, feed))["indexed"] == 10
    for price in (1, 2):
        priced = [{**item, "payload": {"price": price}} for item in feed]
        assert stack.ended(stack.submit(collection, priced))["unchanged"] == 10
        assert all(payload["price"] == price for payload in stack.images(collection).values())
    assert sum(images.not_modified[f"/jpeg/{seed}.jpg"] for seed in range(220, 230)) == 20


def test_images_come_back_with_their_vectors_and_nothing_is_fetched(
    stack: Stack, images: ImageServer, collection: str
) -> None:
    items = [
        {"url": images.url(f"/jpeg/{seed}.jpg"), "id": str(seed), "payload": {"n": seed}}
        for seed in range(230, 240)
    ]
    assert stack.ended(stack.submit(collection, items))["indexed"] == 10
    left = images_of(stack, collection, vectors="true")
    near = stack.search(collection, id="230")
    assert stack.call("DELETE", f"/v1/collections/{collection}").status_code == 204

    back = [
        {
            "id": id,
            "url": image["url"],
            "vector": image["vector"],
            "image": image["payload"]["_image"],
            "payload": {"n": image["payload"]["n"]},
        }
        for id, image in left.items()
    ]
    assert stack.ended(stack.submit(collection, back))["indexed"] == 10
    assert stack.ended(stack.submit(collection, back))["unchanged"] == 10
    after = images_of(stack, collection, vectors="true")
    assert {id: image["vector"] for id, image in after.items()} == {
        id: image["vector"] for id, image in left.items()
    }
    scores = lambda found: [(hit["id"], hit["score"]) for hit in found["hits"]]  # noqa: E731
    assert scores(stack.search(collection, id="230")) == scores(near)
    assert all(images.requests[f"/jpeg/{seed}.jpg"] == 1 for seed in range(230, 240))
    # The URL's bytes stand by their hash: a feed that names them again finds them unchanged.
    assert stack.ended(stack.submit(collection, items))["unchanged"] == 10
