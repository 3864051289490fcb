"""workers/reconcile.py: a lost message is made good, a long queue is not sent twice."""

from __future__ import annotations

import threading
import time

import redis

from shared.broker import Broker, make_celery
from shared.contract import INGEST_CHUNK, Item
from shared.ledger import Ledger
from shared.settings import Settings
from workers.reconcile import Reconciler


def overdue_chunk(redis_client: redis.Redis, settings: Settings) -> None:
    """Accepted by an API that died before it sent the message."""
    ledger = Ledger(redis_client, settings.model_copy(update={"resend_seconds": 0.001}))
    job = ledger.open_job("shop")
    ledger.accept_chunk(job, [Item(id="a", url="http://a.example/")])
    ledger.seal_job(job)
    time.sleep(0.005)


def drain(redis_client: redis.Redis, messages: int) -> None:
    for _ in range(messages):
        redis_client.blpop([INGEST_CHUNK.queue], timeout=5)


def reconciler(redis_client: redis.Redis, ledger: Ledger, settings: Settings) -> Reconciler:
    hasty = settings.model_copy(update={"reconcile_seconds": 0.01})
    return Reconciler(redis_client, ledger, Broker(make_celery(settings)), hasty)


def test_a_chunk_that_was_never_sent_is_sent(
    redis_client: redis.Redis, ledger: Ledger, settings: Settings
) -> None:
    overdue_chunk(redis_client, settings)
    assert reconciler(redis_client, ledger, settings).run() == 1
    assert redis_client.llen(INGEST_CHUNK.queue) == 1


def test_what_waits_in_a_long_queue_is_not_sent_again(
    redis_client: redis.Redis, ledger: Ledger, settings: Settings
) -> None:
    overdue_chunk(redis_client, settings)
    redis_client.rpush(INGEST_CHUNK.queue, *[b"message"] * 64)
    assert reconciler(redis_client, ledger, settings).run() == 0


def test_more_than_the_queue_has_room_for_is_sent_as_the_queue_drains(
    redis_client: redis.Redis, ledger: Ledger, settings: Settings
) -> None:
    for _ in range(100):
        overdue_chunk(redis_client, settings)
    draining = threading.Thread(target=drain, args=(redis_client, 100))
    draining.start()
    sent = Reconciler(redis_client, ledger, Broker(make_celery(settings)), settings).run()
    draining.join()
    assert sent == 100


def test_one_reconciler_at_a_time_is_let_through(
    redis_client: redis.Redis, ledger: Ledger, settings: Settings
) -> None:
    overdue_chunk(redis_client, settings)
    broker = Broker(make_celery(settings))
    first, second = (Reconciler(redis_client, ledger, broker, settings) for _ in range(2))
    assert [first.run(), second.run()] == [1, 0]


def test_a_job_whose_api_died_while_it_read_the_body_is_ended_with_a_word(
    redis_client: redis.Redis, ledger: Ledger, settings: Settings
) -> None:
    broken, alive = ledger.open_job("shop"), ledger.open_job("shop")
    for job in (broken, alive):
        ledger.accept_chunk(job, [Item(id="a", url="http://a.example/")])
    redis_client.zincrby("lookalike:accepting", -601_000, broken)
    reconciler(redis_client, ledger, settings).run()
    ended = ledger.snapshot(broken)
    assert (ended.state, ended.pending, ended.failures) == ("cancelled", 0, {"cancelled": 1})
    assert "Submit it again" in (ended.last_error or "")
    assert ledger.snapshot(alive).state == "accepting"
    ledger.seal_job(alive)
    assert ledger.abandoned(0) == []
