"""workers/app.py, real worker processes: how they start, how they stop, and what they outlive."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.broker import Broker, connect_redis, make_celery
from shared.contract import INGEST_CHUNK, Chunk, Item
from shared.ledger import Ledger
from shared.settings import Settings
from tests.image_server import ImageServer
from tests.running import ROOT, Proxy, Store, Valkey, Worker, until
from workers import app
from workers.memory import taken_bytes


def start(pool: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "workers.app",
        "worker",
        "-P",
        pool,
        "-c",
        "1",
        "-Q",
        "ingest",
    ]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("pool", "wrong", "word"),
    [
        ("prefork", {}, "-P threads"),
        ("threads", {"LOOKALIKE_MODEL": "/no/such/folder"}, "/no/such/folder"),
        ("threads", {"QDRANT_URL": "http://127.0.0.1:99999"}, "cannot start"),
        ("threads", {}, "lookalike up"),
        (
            "threads",
            {"LOOKALIKE_STORE_SOCKET": "/none", "LOOKALIKE_WORKER_MEMORY_MIB": "10"},
            "Raise LOOKALIKE_WORKER_MEMORY_MIB",
        ),
    ],
)
def test_a_worker_that_cannot_start_ends_with_a_word(
    redis_url: str, small_model: Path, pool: str, wrong: dict[str, str], word: str
) -> None:
    ended = start(pool, **({"REDIS_URL": redis_url, "LOOKALIKE_MODEL": str(small_model)} | wrong))
    assert ended.returncode == 1
    assert word in ended.stderr


def test_a_worker_whose_errors_go_nowhere_ends_instead_of_serving_without_tools(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "_set_up_logging", lambda: None)
    monkeypatch.setattr(app, "leave", sys.exit)  # or the tests would end here
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(SystemExit, match="cannot start: fileno"):
        app._start(SimpleNamespace(app=app.app))


class Place:
    """A Valkey, a store and a client of both, for workers that a test starts."""

    def __init__(self, folder: Path, model: Path) -> None:
        self._folder = folder
        self._model = model
        self.valkey = Valkey(folder / "valkey")
        self.store = Store(folder / "store")
        self.settings = Settings(redis_url=self.valkey.url, resend_seconds=3)
        self.ledger = Ledger(connect_redis(self.settings), self.settings)
        self.broker = Broker(make_celery(self.settings))
        self.workers: list[Worker] = []

    def worker(self, redis_url: str | None = None, *, says: str = "ready.", **settings: str) -> Worker:
        """A worker that has said so much."""
        log = self._folder / f"worker-{len(self.workers)}.log"
        worker = Worker(log, redis_url or self.valkey.url, self.store, self._model, **settings)
        self.workers.append(worker)
        worker.says(says)
        return worker

    def submit(self, *urls: str) -> str:
        """A job of one chunk, on its way."""
        job = self.ledger.open_job("shop")
        number = self.ledger.accept_chunk(job, [Item(id=url, url=url) for url in urls])
        self.ledger.seal_job(job)
        self.broker.send(INGEST_CHUNK, job, number)
        return job

    def is_done(self, job: str) -> bool:
        return self.ledger.snapshot(job).state == "done"

    def goes_on(self, images: ImageServer) -> None:
        """A job that is submitted now ends well."""
        job = self.submit(images.url("/jpeg/1.jpg"))
        until(lambda: self.is_done(job), f"job {job} never ended: {self.workers[-1].said}")
        assert self.ledger.snapshot(job).failed == 0

    def claim(self, job: str) -> Chunk | None:
        return self.ledger.claim(job, 1)

    def close(self) -> None:
        for process in (*self.workers, self.store, self.valkey):
            process.process.kill()
            process.process.wait()


@pytest.fixture
def place(tmp_path: Path, small_model: Path) -> Iterator[Place]:
    made = Place(tmp_path, small_model)
    yield made
    made.close()


def test_a_chunk_in_hand_ends_before_its_worker_stops(place: Place, images: ImageServer) -> None:
    worker = place.worker(drain_seconds="60")
    job = place.submit(images.url("/slow?seconds=2"))
    until(lambda: images.requests["/slow"], "nothing was fetched")
    worker.terminate()
    assert worker.ended() == 0
    assert place.ledger.snapshot(job).indexed == 1, place.ledger.failures(job, 9)


def test_a_chunk_that_outlasts_the_drain_is_given_back(place: Place, images: ImageServer) -> None:
    worker = place.worker(drain_seconds="1", lease_seconds="600")
    job = place.submit(images.url("/slow?seconds=60"))
    until(lambda: images.requests["/slow"], "nothing was fetched")
    assert place.claim(job) is None
    worker.terminate()
    assert worker.ended() == 0
    chunk = place.claim(job)
    assert chunk
    assert chunk.attempt == 1


def test_a_second_signal_waits_for_nothing(place: Place, images: ImageServer) -> None:
    worker = place.worker(drain_seconds="600", lease_seconds="600")
    job = place.submit(images.url("/slow?seconds=60"))
    until(lambda: images.requests["/slow"], "nothing was fetched")
    worker.terminate()
    worker.says("Warm shutdown")
    worker.terminate()
    assert worker.ended() == 0
    assert place.claim(job)


def test_a_stopping_worker_takes_nothing_new(place: Place, images: ImageServer) -> None:
    worker = place.worker(drain_seconds="10")
    place.submit(images.url("/slow?seconds=4"))
    until(lambda: images.requests["/slow"], "nothing was fetched")
    worker.terminate()
    time.sleep(1.5)  # Celery hears of the signal when its wait for a message, of 1 s, ends
    late = place.submit(images.url("/jpeg/1.jpg"))
    assert worker.ended() == 0
    assert place.claim(late)
    assert images.requests["/jpeg/1.jpg"] == 0


def test_a_worker_that_grew_ends_what_it_holds_and_then_itself(place: Place, images: ImageServer) -> None:
    small = place.worker()
    taken = taken_bytes(small.process.pid)
    small.terminate()
    assert small.ended() == 0
    # It grows by the processes that decode its first pictures.
    worker = place.worker(worker_memory_mib=str(taken // 2**20 + 10), decode_processes="4")
    job = place.submit(
        images.url("/slow?seconds=4"), *(images.url(f"/jpeg/{seed}.jpg") for seed in range(16))
    )
    assert worker.ended() == 1
    assert "MiB of memory and may take" in worker.said
    assert place.is_done(job)


def test_a_chunk_that_hangs_ends_its_worker_and_can_be_had_at_once(place: Place, images: ImageServer) -> None:
    worker = place.worker(chunk_seconds="2", drain_seconds="1", lease_seconds="600")
    job = place.submit(images.url("/slow?seconds=60"))
    assert worker.ended() == 1
    assert "was in hand for 2 s and hangs" in worker.said
    assert place.claim(job)


def test_a_worker_outlives_kills_of_redis(place: Place, images: ImageServer) -> None:
    worker = place.worker()
    for _ in range(3):
        place.valkey.kill()
        place.valkey.start()
        place.goes_on(images)
    assert worker.process.poll() is None


def test_a_worker_whose_every_slot_was_busy_when_redis_died_goes_on(
    place: Place, images: ImageServer
) -> None:
    worker = place.worker(lease_seconds="6")
    slow = [place.submit(images.url(f"/slow?seconds=4&n={n}")) for n in range(4)]
    until(lambda: images.requests["/slow"] == 4, "the slots never filled")
    place.valkey.kill()
    place.valkey.start()
    place.goes_on(images)
    until(lambda: all(place.is_done(job) for job in slow), "what was in hand never ended")
    assert worker.process.poll() is None


def test_a_worker_waits_for_a_redis_that_is_away_when_it_starts(place: Place, images: ImageServer) -> None:
    place.valkey.kill()
    worker = Worker(place._folder / "early.log", place.valkey.url, place.store, place._model)
    place.workers.append(worker)
    worker.says("Trying again")
    place.valkey.start()
    place.goes_on(images)


def test_a_worker_that_never_reached_redis_stops_well(place: Place) -> None:
    place.valkey.kill()
    worker = place.worker(says="Trying again")
    assert f"serves ingest with {place._model}@" in worker.said
    worker.terminate()
    assert worker.ended() == 0
    assert "Traceback" not in worker.said.rpartition("Trying again")[2]


def test_a_worker_outlives_connections_that_die_without_a_word(place: Place, images: ImageServer) -> None:
    proxy = Proxy(place.valkey.url)
    worker = place.worker(proxy.url, lease_seconds="6", resend_seconds="3")
    place.goes_on(images)
    slow = place.submit(images.url("/slow?seconds=5"))
    until(lambda: images.requests["/slow"], "nothing was fetched")
    assert proxy.go_dead() > 2
    place.goes_on(images)
    until(lambda: place.is_done(slow), "the chunk in hand never ended")
    assert worker.process.poll() is None
    proxy.close()
