"""api/health.py: what is alive, by name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import redis
from flask import Flask
from flask.testing import FlaskClient

from shared.contract import LIST_COLLECTIONS
from shared.presence import Presence
from tests.api.conftest import Workers, assert_problem


def test_the_process_lives(client: FlaskClient) -> None:
    assert client.get("/livez").json == {"status": "ok"}


def test_everything_is_ready(client: FlaskClient, workers: Workers, redis_client: redis.Redis) -> None:
    Presence(redis_client).beat("ingest", "ingest@a", "m")
    Presence(redis_client).beat("search", "search@b", "m")
    workers.answer(LIST_COLLECTIONS, {"ok": []})
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json == {
        "status": "ready",
        "parts": {
            "redis": "ok",
            "index": "ok",
            "ingest workers": ["ingest@a"],
            "search workers": ["search@b"],
        },
    }


def test_no_worker_at_all_is_named(client: FlaskClient) -> None:
    problem = assert_problem(client.get("/readyz"), 503, "workers_unavailable", "ingest or search")
    assert problem["parts"] == {"redis": "ok", "index": "unknown", "ingest workers": [], "search workers": []}


def test_a_missing_queue_is_named(client: FlaskClient, workers: Workers, redis_client: redis.Redis) -> None:
    Presence(redis_client).beat("search", "search@b", "m")
    workers.answer(LIST_COLLECTIONS, {"ok": []})
    problem = assert_problem(client.get("/readyz"), 503, "workers_unavailable", "the queue ingest")
    assert (problem["parts"]["index"], problem["parts"]["search workers"]) == ("ok", ["search@b"])


def test_an_index_that_is_away_is_named(
    client: FlaskClient, workers: Workers, redis_client: redis.Redis
) -> None:
    Presence(redis_client).beat("search", "search@b", "m")
    workers.answer(LIST_COLLECTIONS, {"error": {"code": "index_unavailable", "detail": "Qdrant is away."}})
    problem = assert_problem(client.get("/readyz"), 503, "index_unavailable", "Qdrant is away.")
    assert problem["parts"]["index"] == "Qdrant is away."


def test_a_worker_that_does_not_answer_is_named(client: FlaskClient, redis_client: redis.Redis) -> None:
    Presence(redis_client).beat("search", "search@b", "m")
    assert_problem(client.get("/readyz"), 503, "workers_unavailable", "within 3 s")


def test_the_index_is_asked_once_however_many_want_to_know(
    app: Flask, workers: Workers, redis_client: redis.Redis
) -> None:
    Presence(redis_client).beat("ingest", "ingest@a", "m")
    Presence(redis_client).beat("search", "search@b", "m")
    workers.answer(LIST_COLLECTIONS, {"ok": []})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: app.test_client().get("/readyz").status_code, range(8)))
    assert answers == [200] * 8
    assert len(workers.calls) < 8
