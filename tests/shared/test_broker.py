"""shared/broker.py on a real Valkey, and without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis

from shared.broker import Broker, make_celery
from shared.contract import INGEST_CHUNK, SEARCH
from shared.errors import QueueUnavailable
from shared.settings import Settings


def sent(client: redis.Redis, queue: str) -> dict[str, object]:
    return dict(json.loads(client.lindex(queue, 0))["headers"])


def test_a_chunk_goes_to_its_queue_and_never_expires(redis_client: redis.Redis, settings: Settings) -> None:
    Broker(make_celery(settings)).send(INGEST_CHUNK, "job_a", 1)
    headers = sent(redis_client, "ingest")
    assert (headers["task"], headers["expires"], headers["ignore_result"]) == ("ingest_chunk", None, True)


def test_a_question_that_nobody_waits_for_any_more_expires(
    redis_client: redis.Redis, settings: Settings
) -> None:
    id = Broker(make_celery(settings)).send(SEARCH, {}, expires=5)
    headers = sent(redis_client, "search")
    assert headers["id"] == id
    assert headers["expires"] is not None
    assert headers["ignore_result"] is False


def test_an_answer_that_is_not_there_yet_is_none(redis_client: redis.Redis, settings: Settings) -> None:
    broker = Broker(make_celery(settings))
    assert broker.wait("nobody", 0) is None
    assert broker.wait("nobody", 0.1) is None


def test_a_broker_that_is_away_is_said_so(tmp_path: Path) -> None:
    broker = Broker(make_celery(Settings(redis_url=f"unix://{tmp_path}/nothing.sock?db=0")))
    with pytest.raises(QueueUnavailable):
        broker.send(INGEST_CHUNK, "job_a", 1)
    with pytest.raises(QueueUnavailable):
        broker.send(SEARCH, {})
