"""api/searches.py and api/query.py: ask, wait, come back."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.contract import SEARCH
from shared.settings import Settings
from shared.uploads import Uploads
from tests.api.conftest import Workers, assert_problem

SEARCHES = "/v1/collections/shop/searches"
WAIT = {"Prefer": "wait=20"}
HIT = {"id": "x", "score": 0.5, "payload": {"dx": "mel"}, "url": "http://a.example/x", "thumbnail": None}
DONE = {"state": "done", "hits": [HIT], "took_ms": {"queue": 1.0, "fetch": 0.0, "embed": 0.0, "search": 2.0}}


def failed(code: str) -> dict[str, Any]:
    return {"state": "failed", "problem": {"code": code, "detail": "Why."}, "took_ms": {"queue": 1.0}}


def upload(client: FlaskClient, *files: bytes, **parts: Any) -> TestResponse:
    images = [(io.BytesIO(data), f"{n}.jpg") for n, data in enumerate(files)]
    return client.post(SEARCHES, data={"image": images, **parts}, content_type="multipart/form-data")


def sent(redis_client: redis.Redis) -> dict[str, Any]:
    """The query that stands on the queue."""
    message = json.loads(redis_client.lpop("search"))
    arguments, *_ = json.loads(base64.b64decode(message["body"]))
    query: dict[str, Any] = arguments[0]
    return query


def test_a_search_is_pending_until_a_worker_answers(client: FlaskClient) -> None:
    response = client.post(SEARCHES, json={"id": "x"})
    assert (response.status_code, response.json["state"], set(response.json)) == (
        202,
        "pending",
        {"id", "state"},
    )
    assert response.headers["Location"] == f"/v1/searches/{response.json['id']}"
    assert client.get(response.headers["Location"]).json == response.json


def test_its_result_is_there_within_the_wait(client: FlaskClient, workers: Workers) -> None:
    workers.answer(SEARCH, DONE)
    response = client.post(SEARCHES, json={"url": "http://a.example/x"}, headers=WAIT)
    assert (response.status_code, response.headers["Preference-Applied"]) == (200, "wait=20")
    assert response.json == {"id": response.json["id"], **DONE}
    assert client.get(f"/v1/searches/{response.json['id']}").json == response.json


def test_a_wait_that_is_over_answers_pending(client: FlaskClient) -> None:
    response = client.post(SEARCHES, json={"id": "x"}, headers={"Prefer": "wait=1"})
    assert (response.status_code, response.json["state"]) == (202, "pending")
    assert response.headers["Preference-Applied"] == "wait=1"


@pytest.mark.parametrize("prefer", ["", "wait", "wait=x", "wait=-1", "wait=0", "respond-async", "await=5"])
def test_a_preference_that_cannot_be_read_is_none(client: FlaskClient, prefer: str) -> None:
    response = client.post(SEARCHES, json={"id": "x"}, headers={"Prefer": prefer})
    assert (response.status_code, "Preference-Applied" in response.headers) == (202, False)


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [("wait=9999", "wait=30"), ('respond-async, wait="7"', "wait=7"), ("Wait = 5;x", "wait=5")],
)
def test_the_wait_has_a_cap(client: FlaskClient, workers: Workers, prefer: str, applied: str) -> None:
    workers.answer(SEARCH, DONE)
    response = client.post(SEARCHES, json={"id": "x"}, headers={"Prefer": prefer})
    assert response.headers["Preference-Applied"] == applied


def test_the_worker_gets_the_whole_query(client: FlaskClient, redis_client: redis.Redis) -> None:
    query = {
        "vector": [1, 2.5], "filter": {"must": []}, "limit": 1000, "offset": 5, "score_threshold": 0.5, "exact": True,
        "with_payload": ["dx"],
    }  # fmt: skip
    client.post(SEARCHES, json=query)
    got = sent(redis_client)
    assert got.pop("sent_at") > 1e9
    assert got == {"collection": "shop", **query}


def test_null_is_the_same_as_absent(client: FlaskClient, redis_client: redis.Redis) -> None:
    response = client.post(SEARCHES, json={"id": "x", "url": None, "filter": None, "limit": None})
    assert response.status_code == 202
    assert sent(redis_client)["limit"] == 10


def test_an_uploaded_picture_is_parked(
    client: FlaskClient, redis_client: redis.Redis, settings: Settings
) -> None:
    assert upload(client, b"picture", query='{"limit": 3}').status_code == 202
    got = sent(redis_client)
    assert (got["upload"], got["limit"]) == (hashlib.sha256(b"picture").hexdigest(), 3)
    assert Uploads(redis_client, settings).read(got["upload"]) == b"picture"
    assert 0 < redis_client.ttl(f"lookalike:upload:{got['upload']}") <= settings.search_ttl


def test_no_picture_is_parked_while_redis_holds_too_much(
    client_with: Callable[..., FlaskClient], redis_client: redis.Redis
) -> None:
    client = client_with(max_broker_memory_mib=redis_client.info("memory")["used_memory"] // 2**20 + 4)
    redis_client.set("ballast", b"x" * 6 * 2**20)
    assert_problem(upload(client, b"picture"), 429, "backlog_full")
    assert client.post(SEARCHES, json={"id": "x"}).status_code == 202
    assert not redis_client.keys("lookalike:upload:*")


def test_a_query_part_may_be_left_out_or_be_a_file(client: FlaskClient, redis_client: redis.Redis) -> None:
    assert upload(client, b"a").status_code == 202
    assert sent(redis_client)["limit"] == 10
    assert upload(client, b"a", query=(io.BytesIO(b'{"limit":2}'), "q.json")).status_code == 202
    assert sent(redis_client)["limit"] == 2


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        ({}, "invalid_request", "has none"),
        ({"limit": 5}, "invalid_request", "exactly one"),
        ({"id": "x", "url": "http://a"}, "invalid_request", "url and id"),
        ({"image": "x"}, "invalid_request", "multipart"),
        ({"id": "x", "limits": 5}, "invalid_request", "`limits`"),
        ({"id": "x", "collection": "other"}, "invalid_request", "`collection`"),
        ({"upload": "abc"}, "invalid_request", "`upload`"),
        ({"id": "x", "sent_at": 5}, "invalid_request", "`sent_at`"),
        ({"id": "x", "limit": 0}, "invalid_request", "`limit`"),
        ({"id": "x", "limit": 1001}, "invalid_request", "`limit`"),
        ({"id": "x", "limit": "10"}, "invalid_request", "`limit`"),
        ({"id": "x", "limit": True}, "invalid_request", "`limit`"),
        ({"id": "x", "limit": 1.5}, "invalid_request", "`limit`"),
        ({"id": "x", "offset": -1}, "invalid_request", "`offset`"),
        ({"id": "x", "offset": 10**30}, "invalid_request", "`offset`"),
        ({"id": "x", "exact": "yes"}, "invalid_request", "`exact`"),
        ({"id": "x", "score_threshold": "0.5"}, "invalid_request", "`score_threshold`"),
        ({"id": "x", "with_payload": "dx"}, "invalid_request", "`with_payload"),
        ({"id": "x", "with_payload": ["x"] * 1001}, "invalid_request", "`with_payload`"),
        ({"id": ""}, "invalid_request", "`id`"),
        ({"id": "x" * 513}, "invalid_request", "`id`"),
        ({"id": 5}, "invalid_request", "`id`"),
        ({"url": ""}, "invalid_request", "`url`"),
        ({"url": "http://a/" + "x" * 8192}, "invalid_request", "`url`"),
        ({"vector": []}, "invalid_request", "`vector`"),
        ({"vector": [0] * 65_537}, "invalid_request", "`vector`"),
        ({"vector": ["1"]}, "invalid_request", "`vector.0`"),
        ({"vector": [True]}, "invalid_request", "`vector.0`"),
        ({"vector": 5}, "invalid_request", "`vector`"),
        ({"id": "x", "filter": {"x": 1}}, "invalid_filter", "`x`"),
        ({"id": "x", "filter": []}, "invalid_filter", "object"),
        ({"text": "a red shoe"}, "text_unsupported", "text"),
        ({"like": ["x"]}, "not_implemented", "`like`"),
        ({"id": "x", "unlike": ["y"]}, "not_implemented", "`unlike`"),
        ({"id": "x", "group_by": "p"}, "not_implemented", "`group_by`"),
        ({"id": "x", "group_size": 2}, "not_implemented", "`group_size`"),
        ({"id": "x", "crop": [0, 0, 1, 1]}, "not_implemented", "`crop`"),
        ({"id": "x", "exclude": {"a": 1}}, "not_implemented", "`exclude`"),
    ],
)
def test_a_wrong_query_is_refused_by_name(
    client: FlaskClient, body: dict[str, Any], code: str, word: str
) -> None:
    assert_problem(client.post(SEARCHES, json=body), 422, code, word)


@pytest.mark.parametrize("body", [b'{"vector":[1e999]}', b'{"id":"x","score_threshold":1e999}'])
def test_an_infinite_number_is_refused(client: FlaskClient, body: bytes) -> None:
    response = client.post(SEARCHES, data=body, content_type="application/json")
    assert_problem(response, 422, "invalid_request", "finite")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [(b"{", 400, "invalid_body"), (b'{"vector":[NaN]}', 400, "invalid_body"), (b"[]", 422, "invalid_body")],
)
def test_a_body_that_is_no_json_object_is_refused(
    client: FlaskClient, body: bytes, status: int, code: str
) -> None:
    assert_problem(client.post(SEARCHES, data=body, content_type="application/json"), status, code)
    assert_problem(upload(client, b"a", query=body.decode()), status, code)


def test_wrong_parts_are_refused(client_with: Callable[..., FlaskClient]) -> None:
    client = client_with(fetch_max_bytes=1024)
    assert_problem(upload(client), 422, "invalid_body", "`image`")
    assert_problem(upload(client, b"a", b"b"), 422, "invalid_request", "image and image")
    assert_problem(upload(client, b"a", query='{"id":"x"}'), 422, "invalid_request", "id and image")
    assert_problem(upload(client, b"a", limit="5"), 422, "invalid_request", "`limit`")
    assert_problem(upload(client, b"x" * 1025), 413, "body_too_large", "`0.jpg`")
    assert_problem(client.post(SEARCHES, data=b"x", content_type="image/jpeg"), 415, "unsupported_media_type")
    assert_problem(client.post("/v1/collections/-/searches", json={"id": "x"}), 422, "invalid_name")


def test_the_longest_vector_is_taken(client: FlaskClient, redis_client: redis.Redis) -> None:
    vector = [n / 7 for n in range(65_536)]
    assert client.post(SEARCHES, json={"vector": vector}).status_code == 202
    assert sent(redis_client)["vector"] == vector


@pytest.mark.parametrize("id", ["x", "0" * 32, "../jobs", "ü"])
def test_an_unknown_search_is_not_found(client: FlaskClient, id: str) -> None:
    assert_problem(client.get("/v1/searches/" + id.replace("/", "_")), 404, "search_not_found")


def test_an_expired_search_is_not_found(
    client: FlaskClient, redis_client: redis.Redis, settings: Settings
) -> None:
    id = client.post(SEARCHES, json={"id": "x"}).json["id"]
    record = f"lookalike:search:{id}"
    assert 0 < redis_client.ttl(record) <= settings.search_ttl
    redis_client.delete(record)
    assert_problem(client.get(f"/v1/searches/{id}"), 404, "search_not_found", "120 s")


def test_a_pictures_fault_is_a_result(client: FlaskClient, workers: Workers) -> None:
    workers.answer(SEARCH, failed("truncated"))
    response = client.post(SEARCHES, json={"url": "http://a.example/x"}, headers=WAIT)
    assert (response.status_code, response.json["state"]) == (200, "failed")
    assert response.json["problem"] == {
        "type": "about:blank", "title": "Unprocessable Entity", "status": 422, "detail": "Why.", "code": "truncated",
    }  # fmt: skip
    assert client.get(f"/v1/searches/{response.json['id']}").json == response.json


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("collection_not_found", 404),
        ("image_not_found", 404),
        ("invalid_filter", 422),
        ("index_unavailable", 503),
    ],
)
def test_the_requests_own_fault_is_a_problem_where_it_waits(
    client: FlaskClient, workers: Workers, code: str, status: int
) -> None:
    workers.answer(SEARCH, failed(code))
    assert_problem(client.post(SEARCHES, json={"id": "x"}, headers=WAIT), status, code, "Why.")
