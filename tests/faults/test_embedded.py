"""`lookalike up` as it comes, while its processes are killed at random moments."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults.pictures import items
from tests.faults.processes import Part, kill, paused, pid_of, second_worker
from tests.faults.rounds import rounds
from tests.faults.site import CHUNK, LEASE_SECONDS, Site, running
from tests.faults.slow_post import broken_post
from tests.faults.trial import Trial
from tests.image_server import ImageServer

Begin = Callable[[str], Trial]


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, images: ImageServer, settings: dict[str, str]
) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("embedded"), images, settings) as site:
        yield site


def _until_all_wait(site: Site) -> None:
    """Until the worker fetches no more: what it has in hand waits for the store, which is paused."""
    last = -1
    while (fetched := site.images.requests.total()) > last:
        last = fetched
        time.sleep(1)


@rounds(short=1, long=50)
def test_a_worker_is_killed(trial: Begin, count: int) -> None:
    worker = trial("ingest worker: SIGKILL")
    for _ in worker.under_load(count):
        kill(worker.site.stack, "worker")


@rounds(short=1, long=10)
def test_a_worker_is_killed_while_it_writes(trial: Begin, count: int) -> None:
    worker = trial("ingest worker: SIGKILL while the store writes for it")
    stack, unreported = worker.site.stack, 0
    for job in worker.under_load(count):
        with paused(pid_of(stack, "store")):
            _until_all_wait(worker.site)
            worker.strike()
            kill(stack, "worker")
            reported = worker.site.record.ended(job.id)
        # The store does what it was asked, though nobody is left to report it.
        unreported += stack.count(job.collection) - reported
    assert unreported > 0


@rounds(short=1, long=10)
def test_the_messages_of_an_idle_worker_are_lost(trial: Begin, count: int) -> None:
    idle = trial("idle ingest worker: SIGSTOP, a job comes, SIGKILL")
    stack, record, lost = idle.site.stack, idle.site.record, 0
    for _ in idle.repeat(count):
        before = record.messages()
        os.kill(pid_of(stack, "worker"), signal.SIGSTOP)
        job = idle.submit(6 * CHUNK)
        idle.pause(1)
        lost += 6 - (record.messages() - before)
        idle.strike()
        kill(stack, "worker")
        idle.measure(lambda job=job: record.state(job.id) == "done", job)  # type: ignore[misc]
        idle.settle(job)
    assert lost > 0


@rounds(short=3, long=10)
def test_redis_is_killed(trial: Begin, count: int) -> None:
    broker = trial("Redis: SIGKILL")
    for _ in broker.under_load(count):
        kill(broker.site.stack, "redis")


@rounds(short=1, long=10)
def test_the_store_is_killed_while_it_writes(trial: Begin, count: int) -> None:
    store = trial("embedded store: SIGKILL while it writes")
    stack = store.site.stack
    for _ in store.under_load(count):
        with paused(pid_of(stack, "store")):
            time.sleep(0.7)  # writes gather
        store.pause(0.03)
        store.strike()
        kill(stack, "store")


@rounds(short=1, long=10)
def test_everything_is_killed_at_once(trial: Begin, count: int) -> None:
    everything = trial("worker, store, Redis and API: SIGKILL, in any order")
    for _ in everything.under_load(count):
        parts: list[Part] = ["worker", "store", "redis", "api"]
        everything.chance.shuffle(parts)
        for part in parts:
            kill(everything.site.stack, part)
            everything.pause(0.3)


@rounds(short=1, long=10)
def test_a_paused_worker_comes_back_after_its_lease(trial: Begin, count: int) -> None:
    sleeper = trial("ingest worker: SIGSTOP past its lease, a second one takes over, SIGCONT")
    stack, record = sleeper.site.stack, sleeper.site.record
    with second_worker(stack) as second:
        stack.until(lambda: len(record.workers()) == 2, "the second worker never came")
        for _ in sleeper.repeat(count):
            holder, heir = sleeper.chance.sample([second, pid_of(stack, "worker")], 2)
            with paused(heir):
                job = sleeper.submit()
                sleeper.until(lambda job=job: bool(record.held(job.id)), job)  # type: ignore[misc]
                sleeper.pause(1)
                os.kill(holder, signal.SIGSTOP)
                sleeper.strike()
            with paused(holder):
                sleeper.await_recovery()
            sleeper.settle(job)


@rounds(long=8)
def test_kills_without_end_fail_nothing_innocent(trial: Begin, count: int) -> None:
    chunk = trial("ingest worker: SIGKILL whenever it holds the same chunks, 5 attempts")
    record = chunk.site.record
    job = chunk.submit(2 * CHUNK, seconds=2)
    for _ in chunk.repeat(count):
        chunk.until(lambda: bool(record.held(job.id)), job)
        chunk.strike()
        chunk.pause(1)
        kill(chunk.site.stack, "worker")
        chunk.until(lambda: not record.held(job.id), job)
    chunk.settle(job)


@rounds(short=1, long=10)
def test_the_api_is_killed_inside_a_post(trial: Begin, count: int) -> None:
    api = trial("API: SIGKILL inside a POST")
    stack, record = api.site.stack, api.site.record
    for _ in api.repeat(count):
        collection = api.new_collection()
        submission = items(api.site.images, 30 * CHUNK, 0.05)
        with broken_post(f"{stack.url}/v1/collections/{collection}/jobs", submission):
            stack.until(lambda: bool(record.accepting()), "no job was opened")
            half = api.adopt(record.accepting().pop(), collection, len(submission))
            api.pause(2)
            api.strike()
            accepted = record.pending(half.id)
            kill(stack, "api")
        assert record.state(half.id) == "accepting"
        api.until(lambda half=half, chunks=accepted: not record.standing(half.id, chunks), half)  # type: ignore[misc]
        api.measure(stack.answers, half)
        again = api.adopt(stack.submit(collection, submission), collection, len(submission))
        api.until(lambda half=half: record.state(half.id) == "cancelled", half)  # type: ignore[misc]
        end = api.end(again)
        assert (end["state"], end["failed"], stack.count(collection)) == ("done", 0, len(submission))
        rest = api.end(half)
        assert rest["last_error"]
        assert set(rest["failures"]) <= {"cancelled"}


@rounds(short=1, long=10)
def test_a_cancelled_job_writes_nothing_more(trial: Begin, count: int) -> None:
    cancel = trial("ingest worker: SIGKILL while its job is cancelled")
    stack, record = cancel.site.stack, cancel.site.record
    for job in cancel.under_load(count):
        for blow in cancel.chance.sample(["kill", "cancel"], 2):
            if blow == "kill":
                kill(stack, "worker")
            else:
                assert stack.call("DELETE", f"/v1/jobs/{job.id}").status_code == 202
            cancel.pause(0.3)
        cancel.measure(lambda job=job: not record.pending(job.id), job)  # type: ignore[misc]
        written = stack.images(job.collection)
        pid_of(stack, "worker")
        time.sleep(LEASE_SECONDS)
        assert stack.images(job.collection) == written
        end = cancel.end(job)
        assert end["state"] == "cancelled"
        assert set(end["failures"]) == {"cancelled"}
