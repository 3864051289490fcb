"""workers/watchdog.py: it ends a worker that stands still, and never one that works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.worker import state

from shared.broker import connect_redis
from shared.contract import Chunk
from shared.ledger import Ledger
from shared.settings import Settings
from tests.running import Valkey, answers, until
from workers.lease import Leases
from workers.watchdog import Watchdog

IDLE_LOOKS = 5


class Request:
    """What Celery keeps of a message that runs."""

    id = "1"


@pytest.fixture
def reasons() -> list[str]:
    return []


@pytest.fixture
def leases(ledger: Ledger) -> Iterator[Leases]:
    made = Leases(ledger, 60)
    yield made
    made.close()


@pytest.fixture
def dog(redis_client: redis.Redis, leases: Leases, settings: Settings, reasons: list[str]) -> Watchdog:
    settings = settings.model_copy(update={"idle_seconds": float(IDLE_LOOKS)})
    return Watchdog(redis_client, ["ingest"], 2, leases, settings, reasons.append)


@pytest.fixture
def busy() -> Iterator[list[Any]]:
    """Requests that run while they stand in the list that is returned."""
    running = [Request(), Request()]
    state.active_requests.update(running)
    yield running
    state.active_requests.clear()


def look(dog: Watchdog, times: int) -> None:
    for _ in range(times):
        dog.look()


def test_a_worker_that_takes_nothing_from_a_filled_queue_ends(
    dog: Watchdog, redis_client: redis.Redis, reasons: list[str]
) -> None:
    redis_client.rpush("ingest", "a message")
    look(dog, IDLE_LOOKS - 1)
    assert not reasons
    look(dog, 1)
    assert "took nothing from the filled queue ingest for 5 s" in reasons[0]


def test_a_worker_with_nothing_to_take_is_left_alone(dog: Watchdog, reasons: list[str]) -> None:
    look(dog, 10 * IDLE_LOOKS)
    assert not reasons


def test_a_queue_that_was_empty_once_begins_the_count_anew(
    dog: Watchdog, redis_client: redis.Redis, reasons: list[str]
) -> None:
    for _ in range(5):
        redis_client.rpush("ingest", "a message")
        look(dog, IDLE_LOOKS - 1)
        redis_client.delete("ingest")
        look(dog, 1)
    assert not reasons


@pytest.mark.usefixtures("busy")
def test_a_worker_whose_slots_work_on_chunks_is_left_alone(
    dog: Watchdog, redis_client: redis.Redis, leases: Leases, reasons: list[str]
) -> None:
    redis_client.rpush("ingest", "a message")
    with leases.hold(Chunk("job", 1, "shop", "token", 1, [])):
        look(dog, 10 * IDLE_LOOKS)
    assert not reasons


@pytest.mark.usefixtures("busy")
def test_a_worker_whose_slots_are_full_of_searches_that_never_end_is_ended(
    dog: Watchdog, redis_client: redis.Redis, reasons: list[str]
) -> None:
    redis_client.rpush("ingest", "a message")
    look(dog, IDLE_LOOKS)
    assert reasons


def test_a_worker_that_takes_now_and_then_is_left_alone(
    dog: Watchdog, redis_client: redis.Redis, reasons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_client.rpush("ingest", "a message")
    monkeypatch.setattr(state, "all_total_count", [0])
    for _ in range(10):
        look(dog, IDLE_LOOKS - 1)
        state.all_total_count[0] += 1
        look(dog, 1)
    assert not reasons


def test_a_redis_that_is_away_is_no_fault_of_the_worker(
    tmp_path: Path, leases: Leases, reasons: list[str]
) -> None:
    server = Valkey(tmp_path / "valkey")
    settings = Settings(redis_url=server.url, idle_seconds=IDLE_LOOKS)
    with connect_redis(settings) as client:
        dog = Watchdog(client, ["ingest"], 2, leases, settings, reasons.append)
        client.rpush("ingest", "a message")
        for _ in range(3):
            look(dog, IDLE_LOOKS - 1)
            server.kill()
            with pytest.raises(redis.ConnectionError):
                dog.look()
            server.start()
            until(lambda: answers(client), "Redis never came back")
        assert not reasons
        look(dog, IDLE_LOOKS)
        assert reasons
    server.kill()
