"""api/images.py: uploads, and images by their ids."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.contract import DELETE_IMAGE, GET_IMAGE, LIST_IMAGES, Item
from shared.files import Files
from shared.settings import Settings
from shared.thumbnails import Thumbnails, thumbnail_path
from shared.uploads import Uploads
from tests.api.conftest import Workers, assert_problem

Accepted = Callable[[TestResponse], list[Item]]
IMAGES = "/v1/collections/shop/images"
IDS = [
    "x",
    "https://a.example/b//c.jpg?d=e&f#g",
    "/leading",
    "trailing/",
    "a b",
    "ü/é",
    "%41",
    "sha256:abc",
    ".",
]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def upload(client: FlaskClient, *files: bytes, **parts: Any) -> TestResponse:
    images = [(io.BytesIO(data), f"{n}.jpg") for n, data in enumerate(files)]
    return client.post(IMAGES, data={"image": images, **parts}, content_type="multipart/form-data")


def test_each_file_is_parked_under_its_hash(
    client: FlaskClient, accepted: Accepted, redis_client: redis.Redis, settings: Settings
) -> None:
    items = accepted(upload(client, b"one", b"two" * 400_000, payload='{"dx":"mel"}'))
    assert items == [
        Item(id=f"sha256:{sha256(data)}", upload=sha256(data), payload={"dx": "mel"})
        for data in (b"one", b"two" * 400_000)
    ]
    assert Uploads(redis_client, settings).read(sha256(b"one")) == b"one"


def test_a_list_gives_each_file_its_own_payload(client: FlaskClient, accepted: Accepted) -> None:
    items = accepted(upload(client, b"a", b"b", b"c", payload='[{"n":1},null,{"_n":3}]'))
    assert [(item.payload, item.refused and item.refused.code) for item in items] == [
        ({"n": 1}, None),
        ({}, None),
        ({}, "payload_invalid"),
    ]
    assert items[2].id == f"sha256:{sha256(b'c')}"


def test_a_payload_may_come_as_a_file(client: FlaskClient, accepted: Accepted) -> None:
    [item] = accepted(upload(client, b"a", payload=(io.BytesIO(b'{"n":1}'), "payload.json")))
    assert item.payload == {"n": 1}


def test_no_payload_is_needed(client: FlaskClient, accepted: Accepted) -> None:
    assert [item.payload for item in accepted(upload(client, b"a"))] == [{}]


@pytest.mark.parametrize(
    ("parts", "status", "code", "word"),
    [
        ({"payload": "{"}, 400, "invalid_body", "`payload` is not JSON"),
        ({"payload": "[{}]"}, 422, "invalid_item", "1 payloads for 2 images"),
        ({"id": "x"}, 422, "invalid_request", "`id`"),
        ({"callback_url": "x"}, 422, "not_implemented", "`callback_url`"),
    ],
)
def test_a_wrong_part_is_named(
    client: FlaskClient, parts: dict[str, str], status: int, code: str, word: str
) -> None:
    assert_problem(upload(client, b"a", b"b", **parts), status, code, word)


def test_a_body_without_images_is_refused(client: FlaskClient) -> None:
    assert_problem(upload(client), 422, "invalid_body", "`image`")
    assert_problem(upload(client, image="not a file"), 422, "invalid_body", "`image`")
    assert_problem(client.post(IMAGES, json={"items": []}), 415, "unsupported_media_type", "multipart")


def test_a_file_that_is_too_large_is_named_and_nothing_is_parked(
    client_with: Callable[..., FlaskClient], redis_client: redis.Redis
) -> None:
    response = upload(client_with(fetch_max_bytes=1024), b"a", b"x" * 1025)
    assert_problem(response, 413, "body_too_large", "`1.jpg`", "1,025 bytes")
    assert redis_client.keys("lookalike:*") == []


def test_too_many_files_are_refused(client_with: Callable[..., FlaskClient]) -> None:
    client = client_with(max_images_per_upload=3)
    assert upload(client, b"a", b"b", b"c", payload="{}").status_code == 202
    assert_problem(upload(client, *[b"a"] * 4), 413, "body_too_large", "4 images")
    assert_problem(upload(client, *[b"a"] * 40), 413, "body_too_large")


def test_a_body_over_its_cap_is_refused(client_with: Callable[..., FlaskClient]) -> None:
    assert_problem(
        upload(client_with(max_body_bytes=2048), b"x" * 4096), 413, "body_too_large", "MAX_BODY_BYTES"
    )


def test_the_same_upload_under_its_key_parks_nothing_again(
    client: FlaskClient, redis_client: redis.Redis
) -> None:
    def send(*files: bytes, payload: str = "{}") -> TestResponse:
        images = [(io.BytesIO(data), f"{n}.jpg") for n, data in enumerate(files)]
        headers = {"Idempotency-Key": "k"}
        return client.post(IMAGES, data={"image": images, "payload": payload}, headers=headers)

    def references() -> list[bytes | None]:
        return [redis_client.hget(f"lookalike:upload:{sha256(data)}", "references") for data in (b"a", b"b")]

    first = send(b"a")
    assert (first.status_code, references()) == (202, [b"1", None])
    assert send(b"a").json["id"] == first.json["id"]
    for files, payload in (([b"a", b"b"], "{}"), ([b"b"], "{}"), ([b"a"], '{"n":1}')):
        assert_problem(send(*files, payload=payload), 422, "idempotency_conflict", first.json["id"])
    assert references() == [b"1", None]


def test_pictures_of_a_refused_chunk_are_let_go(
    client_with: Callable[..., FlaskClient], redis_client: redis.Redis
) -> None:
    mebibytes = redis_client.info("memory")["used_memory"] // 2**20
    files = [bytes([n]) * 2**20 for n in range(16)]
    response = upload(client_with(max_broker_memory_mib=mebibytes + 8), *files)
    problem = assert_problem(response, 429, "backlog_full", "MAX_BROKER_MEMORY_MIB")
    assert redis_client.keys("lookalike:upload:*") == []
    assert redis_client.hget(f"lookalike:job:{problem['job']}", "state") == b"cancelled"


def test_pictures_that_redis_has_no_room_for_are_put_off(
    client: FlaskClient, redis_client: redis.Redis, full_redis: None
) -> None:
    assert_problem(upload(client, b"a"), 429, "backlog_full")
    assert redis_client.keys("lookalike:upload:*") == []


def test_images_are_listed(client: FlaskClient, workers: Workers) -> None:
    page = {"images": [{"id": "x", "url": None, "payload": {}}], "next_cursor": "c"}
    workers.answer(LIST_IMAGES, {"ok": page})
    query = {"limit": "7", "cursor": "b", "filter": '{"must":[{"key":"dx","match":{"value":"mel"}}]}'}
    assert client.get(IMAGES, query_string=query).json == page
    assert client.get(f"{IMAGES}?vectors=true").json == page
    filter = {"must": [{"key": "dx", "match": {"value": "mel"}}]}
    assert workers.calls == [
        ("list_images", "shop", filter, 7, "b", False),
        ("list_images", "shop", None, 50, None, True),
    ]


@pytest.mark.parametrize(
    ("query", "code"),
    [("filter=x", "invalid_filter"), ("limit=x", "invalid_request"), ("vectors=1", "invalid_request")],
)
def test_wrong_list_arguments_are_refused(client: FlaskClient, query: str, code: str) -> None:
    assert_problem(client.get(f"{IMAGES}?{query}"), 422, code)


@pytest.mark.parametrize("id", IDS)
def test_any_id_reaches_the_worker_as_it_is(client: FlaskClient, workers: Workers, id: str) -> None:
    image = {"id": id, "url": None, "payload": {"_image": {"sha256": "0" * 64}}}
    workers.answer(GET_IMAGE, {"ok": image})
    workers.answer(DELETE_IMAGE, {"ok": None})
    path = f"{IMAGES}/{quote(id, safe='')}"
    assert client.get(path).json == image
    assert client.delete(path).status_code == 204
    assert_problem(client.get(f"{path}/thumbnail"), 404, "not_found", "No thumbnail is kept")
    assert workers.calls == [
        ("get_image", "shop", id),
        ("delete_image", "shop", id),
        ("get_image", "shop", id),
    ]


def test_the_slashes_of_an_id_may_stand(client: FlaskClient, workers: Workers) -> None:
    workers.answer(GET_IMAGE, {"ok": {}})
    client.get(f"{IMAGES}/https://a.example//b.jpg")
    assert workers.calls == [("get_image", "shop", "https://a.example//b.jpg")]


def test_an_image_that_does_not_stand_is_not_found(client: FlaskClient, workers: Workers) -> None:
    workers.answer(DELETE_IMAGE, {"error": {"code": "image_not_found", "detail": "There is no `x`."}})
    assert_problem(client.delete(f"{IMAGES}/x"), 404, "image_not_found")


def test_bad_names_are_refused(client: FlaskClient) -> None:
    for path in (
        "/v1/collections/-/images",
        "/v1/collections/-/images/x",
        "/v1/collections/-/images/x/thumbnail",
    ):
        assert_problem(client.get(path), 422, "invalid_name")
    assert_problem(client.delete("/v1/collections/-/images/x"), 422, "invalid_name")
    assert_problem(client.post("/v1/collections/-/images"), 422, "invalid_name")


def test_payloads_of_many_files_fit(client: FlaskClient, accepted: Accepted) -> None:
    payloads = [{"text": "x" * 2000, "n": n} for n in range(500)]
    items = accepted(upload(client, *[b"%d" % n for n in range(500)], payload=json.dumps(payloads)))
    assert [item.payload["n"] for item in items] == list(range(500))


def test_an_id_with_a_line_break_can_be_asked_for(client_with: Callable[..., FlaskClient]) -> None:
    answer = client_with(answer_seconds=0.05).get("/v1/collections/shop/images/a%0Ab")
    assert answer.get_json()["code"] != "not_found"


# Thumbnails

HASH = sha256(b"the original")
WEBP = b"RIFF....WEBP, for all that the API knows"


@pytest.fixture
def keeping(client_with: Callable[..., FlaskClient], workers: Workers, tmp_path: Path) -> FlaskClient:
    """The API beside workers that keep one thumbnail, of the image `x`."""
    folder = str(tmp_path / "files")
    Thumbnails(Files(Settings(files=folder))).write("shop", HASH, WEBP)
    show(workers, thumbnail=True)
    return client_with(files=folder)


def show(workers: Workers, **system: Any) -> None:
    payload = {"_image": {"sha256": HASH, **system}}
    workers.answer(GET_IMAGE, {"ok": {"id": "x", "url": None, "payload": payload}})


def test_a_kept_thumbnail_is_served_and_each_client_may_keep_it_for_itself(keeping: FlaskClient) -> None:
    answer = keeping.get(f"{IMAGES}/x/thumbnail")
    assert (answer.status_code, answer.mimetype, answer.data) == (200, "image/webp", WEBP)
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_where_the_address_says_what_it_shows_nobody_need_ask_again(keeping: FlaskClient) -> None:
    path = thumbnail_path("shop", "x", {"_image": {"sha256": HASH, "thumbnail": True}})
    assert path is not None
    answer = keeping.get(path)
    assert answer.data == WEBP
    assert answer.headers["Cache-Control"] == "private, max-age=86400, immutable"
    older = keeping.get(f"{IMAGES}/x/thumbnail?of={HASH[:15]}0")
    assert (older.data, older.headers["Cache-Control"]) == (WEBP, "private, no-cache")


def test_whoever_has_it_is_not_sent_it_again(keeping: FlaskClient) -> None:
    path = f"{IMAGES}/x/thumbnail"
    etag = keeping.get(path).headers["ETag"]
    again = keeping.get(path, headers={"If-None-Match": etag})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", etag)
    assert again.headers["Cache-Control"] == "private, no-cache"
    assert keeping.get(path, headers={"If-None-Match": '"another"'}).data == WEBP


def test_a_version_of_a_collection_has_the_thumbnails_of_all(keeping: FlaskClient) -> None:
    assert keeping.get("/v1/collections/shop@2/images/x/thumbnail").data == WEBP


def test_none_is_served_where_none_is_kept(
    keeping: FlaskClient, client: FlaskClient, workers: Workers
) -> None:
    path = f"{IMAGES}/x/thumbnail"
    assert_problem(client.get(path), 404, "not_found", "No thumbnail is kept")  # this API keeps no files
    assert_problem(keeping.get(path.replace("shop", "clinic")), 404, "not_found", "`x`")
    show(workers)
    assert_problem(keeping.get(path), 404, "not_found")
    workers.answer(GET_IMAGE, {"error": {"code": "image_not_found", "detail": "There is no `x`."}})
    assert_problem(keeping.get(path), 404, "image_not_found")


@pytest.mark.parametrize(
    "id", ["..", "../../../secret", "%2e%2e%2fsecret", "..%2F..%2Fsecret", "x/../../../../secret", "\0"]
)
def test_an_id_is_never_a_path(keeping: FlaskClient, workers: Workers, tmp_path: Path, id: str) -> None:
    (tmp_path / "files" / "secret").write_bytes(b"secret")
    workers.answer(GET_IMAGE, {"error": {"code": "image_not_found", "detail": "There is none."}})
    answer = keeping.get(f"{IMAGES}/{quote(id, safe='%/')}/thumbnail")
    assert (answer.status_code, b"secret" in answer.data) == (404, False)


def test_files_that_cannot_be_reached_are_a_problem_that_passes(keeping: FlaskClient, tmp_path: Path) -> None:
    kept = tmp_path / "files" / "thumbnails" / "shop" / HASH[:2] / f"{HASH}.webp"
    kept.unlink()
    kept.mkdir()
    answer = keeping.get(f"{IMAGES}/x/thumbnail")
    assert_problem(answer, 503, "files_unavailable", HASH)
    assert "Retry-After" in answer.headers
