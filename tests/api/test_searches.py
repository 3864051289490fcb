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

from shared.contract import SEARCH, SEARCH_BATCH
from shared.settings import Settings
from shared.uploads import Uploads
from tests.api.conftest import Workers, assert_problem

SEARCHES = "/v1/collections/shop/searches"
BATCH = f"{SEARCHES}/batch"
WAIT = {"Prefer": "wait=20"}
HIT = {"id": "x", "score": 0.5, "payload": {"dx": "mel"}, "url": "http://a.example/x", "thumbnail": None}
DONE = {"state": "done", "hits": [HIT], "took_ms": {"queue": 1.0, "fetch": 0.0, "embed": 0.0, "search": 2.0}}


def failed(code: str) -> dict[str, Any]:
    return {"state": "failed", "problem": {"code": code, "detail": "Why."}, "took_ms": {"queue": 1.0}}


def upload(client: FlaskClient, *files: bytes, **parts: Any) -> TestResponse:
    images = [(io.BytesIO(data), f"{n}.jpg") for n, data in enumerate(files)]
    return client.post(SEARCHES, data={"image": images, **parts}, content_type="multipart/form-data")


def sent(redis_client: redis.Redis) -> Any:
    """The query, or the queries of a batch, that stand on the queue."""
    message = json.loads(redis_client.lpop("search"))
    arguments, *_ = json.loads(base64.b64decode(message["body"]))
    return arguments[0]


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
    assert got == {"collection": "shop", "group_size": 1, "placeholders": True, **query}


def test_null_is_the_same_as_absent(client: FlaskClient, redis_client: redis.Redis) -> None:
    response = client.post(SEARCHES, json={"id": "x", "url": None, "filter": None, "limit": None})
    assert response.status_code == 202
    assert sent(redis_client)["limit"] == 10


def test_an_uploaded_picture_is_parked(
    client: FlaskClient, redis_client: redis.Redis, settings: Settings
) -> None:
    assert upload(client, b"picture", query='{"limit": 3}').status_code == 202
    got = sent(redis_client)
    [sha256] = got["uploads"]
    assert (sha256, got["limit"]) == (hashlib.sha256(b"picture").hexdigest(), 3)
    assert Uploads(redis_client, settings).read(sha256) == b"picture"
    assert 0 < redis_client.ttl(f"lookalike:upload:{sha256}") <= settings.search_ttl


def test_several_pictures_are_one_question(client: FlaskClient, redis_client: redis.Redis) -> None:
    assert upload(client, b"one", b"two", query='{"text": "red"}').status_code == 202
    got = sent(redis_client)
    assert got["uploads"] == [hashlib.sha256(data).hexdigest() for data in (b"one", b"two")]
    assert got["text"] == "red"


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
        ({"text": "a shoe", "vector": [1]}, "invalid_request", "text and vector"),
        ({"text": "a shoe", "like": ["x"]}, "invalid_request", "text and like"),
        ({"text": "a shoe", "id": "x", "url": "http://a"}, "invalid_request", "url and id and text"),
        ({"text": ""}, "invalid_request", "`text`"),
        ({"text": " \t"}, "invalid_request", "`text`"),
        ({"text": "x" * 1001}, "invalid_request", "`text`"),
        ({"text": 5}, "invalid_request", "`text`"),
        ({"like": []}, "invalid_request", "`like`"),
        ({"like": ["x"] * 21}, "invalid_request", "`like`"),
        ({"like": [""]}, "invalid_request", "`like`"),
        ({"like": ["x" * 8193]}, "invalid_request", "`like`"),
        ({"like": [5]}, "invalid_request", "`like.0`"),
        ({"like": "x"}, "invalid_request", "`like`"),
        ({"like": ["x"], "unlike": []}, "invalid_request", "`unlike`"),
        ({"like": ["x"], "id": "y"}, "invalid_request", "id and like"),
        ({"id": "x", "unlike": ["y"]}, "invalid_request", "`unlike` goes with `like`"),
        ({"id": "x", "group_by": ""}, "invalid_request", "`group_by`"),
        ({"id": "x", "group_by": "x" * 257}, "invalid_request", "`group_by`"),
        ({"id": "x", "group_by": ["x"]}, "invalid_request", "`group_by`"),
        ({"id": "x", "group_by": 'a"b'}, "invalid_request", "is no field"),
        ({"id": "x", "group_size": 2}, "invalid_request", "`group_size` goes with `group_by`"),
        ({"id": "x", "group_by": "p", "group_size": 0}, "invalid_request", "`group_size`"),
        ({"id": "x", "group_by": "p", "group_size": 101}, "invalid_request", "`group_size`"),
        ({"id": "x", "group_by": "p", "group_size": 100, "limit": 101}, "invalid_request", "10,100"),
        ({"id": "x", "group_by": "p", "offset": 4991}, "invalid_request", "`offset`"),
        ({"id": "x", "placeholders": False, "offset": 4991}, "invalid_request", "`offset`"),
        ({"id": "x", "placeholders": "no"}, "invalid_request", "`placeholders`"),
        ({"id": "x", "crop": [0, 0, 1]}, "invalid_request", "`crop`"),
        ({"id": "x", "crop": [0, 0, 1, 1, 1]}, "invalid_request", "`crop`"),
        ({"id": "x", "crop": [0.5, 0, 0.5, 1]}, "invalid_request", "`crop`"),
        ({"id": "x", "crop": [0, 0.9, 1, 0.1]}, "invalid_request", "`crop`"),
        ({"id": "x", "crop": [-0.1, 0, 1, 1]}, "invalid_request", "`crop`"),
        ({"id": "x", "crop": [0, 0, 1, 1.1]}, "invalid_request", "`crop`"),
        ({"id": "x", "crop": [0, 0, True, 1]}, "invalid_request", "`crop.2`"),
        ({"vector": [1], "crop": [0, 0, 1, 1]}, "invalid_request", "`crop`"),
        ({"text": "x", "crop": [0, 0, 1, 1]}, "invalid_request", "`crop`"),
        ({"like": ["x"], "crop": [0, 0, 1, 1]}, "invalid_request", "`crop`"),
        ({"id": "x", "exclude": []}, "invalid_request", "`exclude`"),
        ({"id": "x", "exclude": {"a": None}}, "invalid_request", "`a`"),
        ({"id": "x", "exclude": {"a": {"b": 1}}}, "invalid_request", "`a`"),
        ({"id": "x", "exclude": {"a": [["b"]]}}, "invalid_request", "`a`"),
        ({"id": "x", "exclude": {"a": 2**63}}, "invalid_request", "`a`"),
        ({"id": "x", "exclude": {f"f{n}": 1 for n in range(33)}}, "invalid_filter", "33 fields"),
        ({"id": "x", "exclude": {"a": list(range(1001))}}, "invalid_filter", "1,001"),
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
    assert_problem(upload(client, *[b"a"] * 21), 422, "invalid_request", "at most 20 pictures")
    assert_problem(
        upload(client, b"a", b"b", query='{"crop":[0,0,1,1]}'), 422, "invalid_request", "one picture"
    )
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


def test_every_option_reaches_the_worker(client: FlaskClient, redis_client: redis.Redis) -> None:
    query = {
        "like": ["x"], "unlike": ["http://a.example/y"], "group_by": "Uniq Id", "group_size": 5, "placeholders": False,
        "exclude": {"lesion_id": "HAM_1"}, "filter": {"must_not": {"key": "Product Name", "match": {"value": "x"}}},
    }  # fmt: skip
    assert client.post(SEARCHES, json=query).status_code == 202
    got = sent(redis_client)
    assert got["filter"] == {
        "must_not": [
            {"key": '"Product Name"', "match": {"value": "x"}},
            {"key": "lesion_id", "match": {"any": ["HAM_1"]}},
        ]
    }
    assert got["group_by"] == '"Uniq Id"'
    assert (got["like"], got["unlike"], got["group_size"], got["placeholders"]) == (
        ["x"],
        ["http://a.example/y"],
        5,
        False,
    )
    client.post(SEARCHES, json={"id": "x", "crop": [0, 0.25, 0.5, 1]})
    assert sent(redis_client)["crop"] == [0, 0.25, 0.5, 1]


def test_text_that_no_model_reads_is_told_at_once(client: FlaskClient, workers: Workers) -> None:
    workers.answer(SEARCH, failed("text_unsupported"))
    assert_problem(client.post(SEARCHES, json={"text": "a red shoe"}), 422, "text_unsupported", "Why.")


def test_text_that_is_read_is_answered_as_any_search(client: FlaskClient, workers: Workers) -> None:
    workers.answer(SEARCH, DONE)
    response = client.post(SEARCHES, json={"text": "a red shoe", "url": "http://a.example/x"})
    assert (response.status_code, response.json["state"]) == (202, "pending")
    assert client.get(response.headers["Location"]).json["state"] == "done"


def test_text_waits_for_no_worker_without_end(client_with: Callable[..., FlaskClient]) -> None:
    response = client_with(answer_seconds=0.1).post(SEARCHES, json={"text": "a red shoe"})
    assert (response.status_code, response.json["state"]) == (202, "pending")


def test_a_batch_is_one_task_of_all_its_queries(client: FlaskClient, redis_client: redis.Redis) -> None:
    response = client.post(BATCH, json={"queries": [{"id": "x"}, {"text": "red", "limit": 3}]})
    assert (response.status_code, response.json["state"]) == (202, "pending")
    first, second = sent(redis_client)
    assert (first["collection"], first["id"], second["text"], second["limit"]) == ("shop", "x", "red", 3)
    assert client.get(response.headers["Location"]).json == response.json


def test_a_batch_has_its_results_in_order_and_whole_problems(client: FlaskClient, workers: Workers) -> None:
    results = [DONE, failed("truncated"), failed("image_not_found")]
    workers.answer(SEARCH_BATCH, {"state": "done", "results": results})
    response = client.post(BATCH, json={"queries": [{"id": "x"}] * 3}, headers=WAIT)
    assert (response.status_code, response.json["state"]) == (200, "done")
    one, two, three = response.json["results"]
    assert one == DONE
    assert (two["problem"]["code"], two["problem"]["status"]) == ("truncated", 422)
    assert (three["problem"]["code"], three["problem"]["status"]) == ("image_not_found", 404)
    assert client.get(f"/v1/searches/{response.json['id']}").json == response.json


def test_a_batch_that_broke_as_a_whole_is_a_problem(client: FlaskClient, workers: Workers) -> None:
    workers.answer(SEARCH_BATCH, failed("index_unavailable"))
    assert_problem(
        client.post(BATCH, json={"queries": [{"id": "x"}]}, headers=WAIT), 503, "index_unavailable"
    )


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        ({}, "invalid_request", "queries"),
        ({"queries": {}}, "invalid_request", "list"),
        ({"queries": [], "limit": 5}, "invalid_request", "nothing else"),
        ({"queries": []}, "invalid_request", "1 to 100"),
        ({"queries": [{"id": "x"}] * 101}, "invalid_request", "101"),
        ({"queries": [{"id": "x"}, 5]}, "invalid_request", "`queries.1`"),
        ({"queries": [{"id": "x"}, {"id": "x", "limits": 5}]}, "invalid_request", "`queries.1`: `limits`"),
        ({"queries": [{"id": "x", "filter": {"x": 1}}]}, "invalid_filter", "`queries.0`"),
        ({"queries": [{"id": "x", "limit": 1000}] * 11}, "invalid_request", "11,000"),
    ],
)
def test_a_wrong_batch_is_refused_by_name(
    client: FlaskClient, body: dict[str, Any], code: str, word: str
) -> None:
    assert_problem(client.post(BATCH, json=body), 422, code, word)
