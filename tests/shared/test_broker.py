"""shared/broker.py on a real Valkey, and without one."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from shared.broker import Broker, connect_redis, make_celery
from shared.contract import INGEST_CHUNK, SEARCH
from shared.errors import QueueUnavailable
from shared.settings import Settings
from tests.running import Proxy, Valkey


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


@pytest.fixture
def direct(tmp_path: Path) -> Iterator[Settings]:
    """A Valkey on a port."""
    server = Valkey(tmp_path / "valkey")
    yield Settings(redis_url=server.url)
    server.kill()


@pytest.fixture
def proxy(direct: Settings) -> Iterator[Proxy]:
    """The same, behind a proxy whose connections can die without a word."""
    made = Proxy(direct.redis_url)
    yield made
    made.close()


def test_connections_that_died_without_a_word_cost_one_command(proxy: Proxy) -> None:
    with connect_redis(Settings(redis_url=proxy.url), patience=1) as client:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: client.blpop(["nothing"], 0.5), range(8)))
        assert proxy.go_dead() == 8
        with pytest.raises(redis.TimeoutError):
            client.ping()
        assert all(client.ping() for _ in range(8))


def test_a_message_is_sent_although_the_connection_died_without_a_word(
    direct: Settings, proxy: Proxy
) -> None:
    broker = Broker(make_celery(Settings(redis_url=proxy.url)))
    broker.send(INGEST_CHUNK, "job_a", 1)
    assert proxy.go_dead()
    broker.send(INGEST_CHUNK, "job_a", 2)
    with connect_redis(direct) as client:
        assert client.llen("ingest") == 2


def test_after_connections_died_without_a_word_answers_are_found_again(
    direct: Settings, proxy: Proxy
) -> None:
    broker, worker = Broker(make_celery(Settings(redis_url=proxy.url))), make_celery(direct)

    def answered(id: str) -> object:
        threading.Timer(0.2, worker.backend.store_result, (id, {"ok": id}, "SUCCESS")).start()
        try:
            return broker.wait(broker.send(SEARCH, {}, task_id=id), 5)
        except QueueUnavailable:
            return "unavailable"

    assert answered("first") == {"ok": "first"}
    assert proxy.go_dead()
    assert answered("second") in ({"ok": "second"}, "unavailable")
    assert answered("third") == {"ok": "third"}
    assert answered("fourth") == {"ok": "fourth"}


def test_a_redis_that_stopped_is_said_so_before_the_wait_is_over(tmp_path: Path) -> None:
    server = Valkey(tmp_path / "valkey")
    broker = Broker(make_celery(Settings(redis_url=server.url)))
    threading.Timer(0.5, server.process.send_signal, (signal.SIGSTOP,)).start()
    began = time.monotonic()
    with pytest.raises(QueueUnavailable):
        broker.wait("nobody", 60)
    assert time.monotonic() - began < 30
    server.kill()


def test_a_redis_that_takes_no_connection_costs_a_crowd_no_more_than_one_of_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        client = connect_redis(Settings(redis_url=f"unix://{tmp_path}/s?db=0"), patience=1)
        with pytest.raises(redis.TimeoutError):
            client.ping()
        for _ in range(20):
            with pytest.raises(redis.ConnectionError, match="Timeout"):
                client.ping()


def test_a_redis_that_comes_back_is_asked_again(tmp_path: Path) -> None:
    server = Valkey(tmp_path / "valkey")
    with connect_redis(Settings(redis_url=server.url)) as client:
        client.ping()
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        server.start()
        deadline = time.monotonic() + 30
        while True:
            try:
                assert client.ping()
                break
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "it was never asked again"
                time.sleep(0.1)
        server.kill()
