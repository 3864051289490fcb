"""api/admission.py: the backlog. The rate of a key is in test_access.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.contract import ChunkReport, ItemOutcome
from shared.ledger import Ledger
from tests.api.conftest import assert_problem

JOBS = "/v1/collections/shop/jobs"
LINE = b'{"url":"http://a.example/1.jpg"}\n'
MIB = 2**20


def submit(client: FlaskClient, count: int) -> TestResponse:
    return client.post(JOBS, data=LINE * count, content_type="application/x-ndjson")


def drain(ledger: Ledger, job: str) -> None:
    number = 1
    while chunk := ledger.claim(job, number):
        ledger.commit(ChunkReport(chunk, [ItemOutcome(item, "indexed") for item in chunk.items]))
        number += 1


def load(redis_client: redis.Redis, mebibytes: int) -> None:
    """So much ballast, in pieces that leave no large buffers behind."""
    for _ in range(mebibytes * 16):
        redis_client.rpush("ballast", b"x" * (MIB // 16))


@pytest.fixture
def maxmemory(redis_client: redis.Redis) -> Iterator[Callable[[int], object]]:
    """Sets how many bytes Redis may have, from what it has now on."""
    yield lambda more: redis_client.config_set("maxmemory", redis_client.info("memory")["used_memory"] + more)
    redis_client.config_set("maxmemory", 0)


def test_submissions_are_put_off_while_too_much_is_pending_and_then_taken_again(
    client_with: Callable[..., FlaskClient], ledger: Ledger
) -> None:
    client = client_with(max_pending=100)
    jobs = [submit(client, 60).json["id"] for _ in range(2)]
    response = submit(client, 1)
    assert_problem(
        response, 429, "backlog_full", "120 items are pending", "above 100", "LOOKALIKE_MAX_PENDING"
    )
    assert int(response.headers["Retry-After"]) == response.json["retry_after"] > 0
    assert len(ledger.jobs(10)[0]) == 2
    drain(ledger, jobs[0])
    assert submit(client, 1).status_code == 202


def test_a_body_that_fills_the_backlog_is_cut_off_and_its_job_cancelled(
    client_with: Callable[..., FlaskClient], ledger: Ledger
) -> None:
    response = submit(client_with(max_pending=1000), 100_000)
    problem = assert_problem(response, 429, "backlog_full", "LOOKALIKE_MAX_PENDING")
    assert "Retry-After" in response.headers
    job = ledger.snapshot(problem["job"])
    assert (job.state, job.pending, ledger.pending_items()) == ("cancelled", 0, 0)
    assert 1000 < job.failed < 1100


def test_a_retry_is_put_off_too(client_with: Callable[..., FlaskClient], ledger: Ledger) -> None:
    client = client_with(max_pending=1)
    job = submit(client, 1).json["id"]
    client.delete(f"/v1/jobs/{job}")
    submit(client, 2)
    assert_problem(client.post(f"/v1/jobs/{job}/retry"), 429, "backlog_full")


def test_submissions_are_put_off_while_redis_holds_too_much(
    client_with: Callable[..., FlaskClient], redis_client: redis.Redis
) -> None:
    client = client_with(max_broker_memory_mib=redis_client.info("memory")["used_memory"] // MIB + 4)
    load(redis_client, 8)
    response = submit(client, 1)
    assert_problem(response, 429, "backlog_full", "Redis holds", "MiB", "LOOKALIKE_MAX_BROKER_MEMORY_MIB")
    redis_client.delete("ballast")
    assert submit(client, 1).status_code == 202


def test_without_a_bound_of_ours_four_fifths_of_redis_own_count(
    client: FlaskClient, redis_client: redis.Redis, maxmemory: Callable[[int], object]
) -> None:
    maxmemory(40 * MIB)
    assert submit(client, 1).status_code == 202
    load(redis_client, 37)
    assert_problem(submit(client, 1), 429, "backlog_full", "four fifths")


@pytest.mark.parametrize("more", [-1024, 16 * 1024, 128 * 1024])
def test_a_redis_that_fills_up_puts_off_and_leaves_no_job_open(
    client_with: Callable[..., FlaskClient], ledger: Ledger, maxmemory: Callable[[int], object], more: int
) -> None:
    """Our own bound is out of the way here, so that Redis itself refuses."""
    client = client_with(max_broker_memory_mib=2**20)
    maxmemory(more)
    response = client.post(
        JOBS, data=LINE * 200_000, content_type="application/x-ndjson", headers={"Idempotency-Key": "k"}
    )
    assert_problem(response, 429, "backlog_full")
    assert "Retry-After" in response.headers
    maxmemory(100 * MIB)
    for job in ledger.jobs(10)[0]:
        ledger.cancel(job.id)  # as the reconciler does with a job that nobody could cancel
        assert ledger.snapshot(job.id).state == "cancelled"
    assert submit(client, 1).status_code == 202
