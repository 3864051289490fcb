"""api/idempotency.py: a request that is sent again makes no second job."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api import idempotency
from shared.contract import ChunkReport, ItemOutcome
from shared.errors import FailureCode
from shared.ledger import Ledger
from tests.api.conftest import assert_problem

JOBS = "/v1/collections/shop/jobs"
KEY = {"Idempotency-Key": "order-1"}
ONE, OTHER = b'{"url":"http://a.example/1.jpg"}\n', b'{"url":"http://a.example/2.jpg"}\n'


def submit(client: FlaskClient, body: bytes = ONE, path: str = JOBS, **options: Any) -> TestResponse:
    given = {"headers": KEY, "content_type": "application/x-ndjson", "data": body, **options}
    return client.post(path, **given)


class Body:
    """A body whose second half arrives when it is let go."""

    def __init__(self, *halves: bytes) -> None:
        self.read_on, self.waits = threading.Event(), threading.Event()
        self._halves = self._arriving(halves)

    def _arriving(self, halves: tuple[bytes, ...]) -> Iterator[bytes]:
        yield halves[0]
        self.waits.set()
        assert self.read_on.wait(60)
        yield from halves[1:]

    def read(self, size: int = -1) -> bytes:
        return next(self._halves, b"")


class Sender:
    """A request of its own thread, whose body stands still in the middle."""

    def __init__(self, client: FlaskClient, *halves: bytes) -> None:
        self._body = Body(*halves)
        overrides = {"wsgi.input": self._body, "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
        self._thread = threading.Thread(target=self._send, args=(client, overrides))
        self._thread.start()
        assert self._body.waits.wait(60)

    def _send(self, client: FlaskClient, overrides: dict[str, Any]) -> None:
        self._response = submit(client, environ_overrides=overrides, data=None)

    def finish(self) -> TestResponse:
        self._body.read_on.set()
        self._thread.join(60)
        return self._response


def ids(ledger: Ledger, *states: str) -> list[str]:
    return [job.id for job in ledger.jobs(100)[0] if not states or job.state in states]


def test_the_same_request_finds_its_job(client: FlaskClient, ledger: Ledger) -> None:
    first, again = submit(client, ONE * 200), submit(client, ONE * 200)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json == first.json
    assert again.headers["Location"] == first.headers["Location"]
    assert ids(ledger) == [first.json["id"]]
    assert ledger.pending_items() == 200


@pytest.mark.parametrize(
    "other",
    [
        {"body": OTHER},
        {"body": ONE + ONE},
        {"body": b""},
        {"path": "/v1/collections/other/jobs"},
        {"path": f"{JOBS}?id_column=sku"},
    ],
)
def test_another_request_with_the_key_is_refused(
    client: FlaskClient, ledger: Ledger, other: dict[str, Any]
) -> None:
    first = submit(client).json["id"]
    assert_problem(submit(client, **other), 422, "idempotency_conflict", first, "new key")
    assert ids(ledger) == [first]
    assert submit(client).json["id"] == first


def test_the_items_count_and_not_how_they_are_written(client: FlaskClient) -> None:
    first = submit(client).json["id"]
    spaced = submit(client, b'\n{"url":  "http://a.example/1.jpg"}')
    as_list = submit(client, b'{"items":[{"url":"http://a.example/1.jpg"}]}', content_type="application/json")
    assert (spaced.json["id"], as_list.json["id"]) == (first, first)


def test_without_a_key_or_with_another_it_is_another_job(client: FlaskClient, ledger: Ledger) -> None:
    made = {submit(client, headers=headers).json["id"] for headers in ({}, {}, KEY, {"Idempotency-Key": "b"})}
    assert len(made) == len(ids(ledger)) == 4


def test_each_api_key_has_its_own(client_with: Callable[..., FlaskClient]) -> None:
    client = client_with(api_keys="one=ingest,other=ingest")
    made = {
        submit(client, headers={**KEY, "Authorization": f"Bearer {key}"}).json["id"]
        for key in ("one", "other", "one")
    }
    assert len(made) == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "ü", "a\x7fb", "a\tb"])
def test_a_key_that_is_none_is_refused(client: FlaskClient, ledger: Ledger, key: str) -> None:
    response = submit(client, headers={"Idempotency-Key": key})
    assert_problem(response, 422, "invalid_request", "`Idempotency-Key`", "255")
    assert ids(ledger) == []


@pytest.mark.parametrize("key", ["x", "~" * 255, "a b", "*:{}"])
def test_a_key_may_be_any_printable_text(client: FlaskClient, key: str) -> None:
    first, again = (submit(client, headers={"Idempotency-Key": key}) for _ in range(2))
    assert first.json["id"] == again.json["id"]


def test_while_the_first_is_read_the_second_waits(client: FlaskClient, ledger: Ledger) -> None:
    first = Sender(client, ONE * 200, ONE)
    response = submit(client, ONE * 201)
    assert_problem(response, 409, "request_in_progress", "still being read")
    assert int(response.headers["Retry-After"]) > 0
    answer = first.finish()
    assert (answer.status_code, answer.json["total"]) == (202, 201)
    assert submit(client, ONE * 201).json["id"] == answer.json["id"]
    assert ids(ledger) == [answer.json["id"]]


def test_a_turn_lasts_while_its_body_arrives(
    client: FlaskClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough that a busy machine does not pause for so long, and the body takes twice as long.
    monkeypatch.setattr(idempotency, "turn_seconds", lambda settings: 2.0)

    def slowly() -> Iterator[bytes]:
        until = time.monotonic() + 4.0
        while time.monotonic() < until:
            time.sleep(0.02)
            yield ONE
            assert_problem(submit(client), 409, "request_in_progress")

    class Slow:
        pieces = slowly()

        def read(self, size: int) -> bytes:
            return next(self.pieces, b"")

    overrides = {"wsgi.input": Slow(), "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    assert submit(client, data=None, environ_overrides=overrides).status_code == 202


@pytest.fixture
def short_turns(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that stands still for half a second loses its turn."""
    monkeypatch.setattr(idempotency, "turn_seconds", lambda settings: 0.5)


def test_a_request_that_stands_still_is_taken_over_and_its_half_job_cancelled(
    client: FlaskClient, ledger: Ledger, short_turns: None
) -> None:
    first = Sender(client, ONE * 200, ONE)
    [half] = ids(ledger, "accepting")
    while (response := submit(client, ONE * 201)).status_code == 409:
        time.sleep(0.05)
    assert (response.status_code, response.json["total"]) == (202, 201)
    assert ledger.snapshot(half).state == "cancelled"
    assert "same one came again" in (ledger.snapshot(half).last_error or "")
    assert_problem(first.finish(), 409, "request_in_progress", "took over")
    assert submit(client, ONE * 201).json["id"] == response.json["id"]
    assert ids(ledger, "queued") == [response.json["id"]]


def test_of_many_at_once_exactly_one_makes_a_job(
    client_with: Callable[..., FlaskClient], ledger: Ledger
) -> None:
    clients, answers = [client_with() for _ in range(2)], []
    ready = threading.Barrier(16)

    def send(client: FlaskClient) -> None:
        ready.wait()
        answers.append(submit(client, ONE * 300))

    senders = [threading.Thread(target=send, args=(clients[n % 2],)) for n in range(16)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(60)
    [job] = ids(ledger)
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert {answer.json["id"] for answer in answers if answer.status_code == 202} == {job}
    assert ledger.pending_items() == 300


@pytest.mark.parametrize("body", [b"{", ONE * 200 + b"{", b""])
def test_a_request_that_failed_frees_its_key(client: FlaskClient, ledger: Ledger, body: bytes) -> None:
    assert submit(client, body).status_code in (400, 422)
    response = submit(client)
    assert (response.status_code, ids(ledger, "queued")) == (202, [response.json["id"]])


def test_a_request_that_was_put_off_frees_its_key(client_with: Callable[..., FlaskClient]) -> None:
    client = client_with(max_pending=10)
    job = submit(client, ONE * 20, headers={}).json["id"]
    assert_problem(submit(client), 429, "backlog_full")
    client.delete(f"/v1/jobs/{job}")
    assert submit(client).status_code == 202


def test_a_replay_is_no_submission_and_not_put_off(client_with: Callable[..., FlaskClient]) -> None:
    client = client_with(max_pending=10)
    first, again = submit(client, ONE * 20), submit(client, ONE * 20)
    assert (again.status_code, again.json["id"]) == (202, first.json["id"])


def test_a_job_whose_api_died_before_it_was_sealed_is_sealed_by_the_next(
    client: FlaskClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(self: Ledger, job: str) -> None:
        raise redis.TimeoutError("Timeout reading from socket")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "seal_job", lose)
        assert_problem(submit(client), 503, "queue_unavailable")
    [job] = ids(ledger, "accepting")
    assert submit(client).json["id"] == job
    assert ids(ledger, "queued") == [job]


def test_a_job_that_redis_had_no_room_to_seal_frees_its_key(
    client: FlaskClient, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Ledger, job: str) -> None:
        raise redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "seal_job", refuse)
        problem = assert_problem(submit(client), 429, "backlog_full")
    assert ledger.snapshot(problem["job"]).state == "cancelled"
    assert submit(client).json["id"] not in (None, problem["job"])


def test_a_retry_under_its_key_is_one_job_whatever_fails_meanwhile(
    client: FlaskClient, ledger: Ledger
) -> None:
    job = submit(client, ONE * 65, headers={}).json["id"]

    def fail(number: int) -> None:
        chunk = ledger.claim(job, number)
        assert chunk is not None
        outcomes = [ItemOutcome(item, "failed", FailureCode.EMPTY, "-") for item in chunk.items]
        ledger.commit(ChunkReport(chunk, outcomes))

    def retry(**headers: str) -> TestResponse:
        return client.post(f"/v1/jobs/{job}/retry", headers=headers or KEY)

    fail(1)
    first = retry()
    fail(2)
    assert (first.status_code, retry().json["id"]) == (202, first.json["id"])
    assert (first.json["total"], retry(**{"Idempotency-Key": "b"}).json["total"]) == (64, 65)
    assert_problem(submit(client), 422, "idempotency_conflict")


def test_a_key_is_kept_as_long_as_its_job_can_be_read(
    client_with: Callable[..., FlaskClient], redis_client: redis.Redis
) -> None:
    submit(client_with(job_ttl=1000))
    [record] = redis_client.keys("lookalike:request:*")
    assert 0 < redis_client.ttl(record) <= 1000
    assert b"order-1" not in record


def test_a_million_items_under_a_key_are_no_larger_in_redis(
    client: FlaskClient, redis_client: redis.Redis
) -> None:
    submit(client, ONE * 20_000)
    [record] = redis_client.keys("lookalike:request:*")
    assert redis_client.memory_usage(record) < 1000


def test_items_that_differ_only_in_where_they_part_are_not_the_same(client: FlaskClient) -> None:
    submit(client, b'{"url":"http://a.example/1","id":"a"}\n')
    response = submit(client, b'{"url":"http://a.example/1","payload":{"id":"a"}}\n')
    assert_problem(response, 422, "idempotency_conflict")


def test_without_redis_a_key_is_told_so(client_with: Callable[..., FlaskClient]) -> None:
    client = client_with(redis_url="unix:///nowhere/s?db=0")
    assert_problem(submit(client), 503, "queue_unavailable")


def test_a_full_redis_puts_off_a_new_request_and_answers_an_old_one(
    client: FlaskClient, redis_client: redis.Redis
) -> None:
    first = submit(client).json["id"]
    redis_client.config_set("maxmemory", 1)
    try:
        assert_problem(submit(client, headers={"Idempotency-Key": "b"}), 429, "backlog_full")
        assert submit(client).json["id"] == first
    finally:
        redis_client.config_set("maxmemory", 0)
