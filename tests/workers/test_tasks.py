"""workers/tasks.py: take, call, record, with the real ledger and engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from shared.contract import INGEST_CHUNK, TASKS, Item
from shared.errors import FilesUnavailable, IndexUnavailable, ModelAway, OutOfMemory, ServiceError
from shared.settings import Settings
from tests.hub import hub
from tests.image_server import ImageServer, jpeg
from tests.models import make_vit
from workers import app as worker
from workers import tasks
from workers.models import Models
from workers.parts import Parts


@pytest.fixture
def running(parts: Parts) -> Iterator[Parts]:
    """These parts, as a started worker has them."""
    worker._running["parts"] = parts
    yield parts
    del worker._running["parts"]


def accepted(parts: Parts, *items: Item) -> str:
    job = parts.ledger.open_job("shop")
    parts.ledger.accept_chunk(job, list(items))
    parts.ledger.seal_job(job)
    return job


def broken(monkeypatch: pytest.MonkeyPatch, parts: Parts, error: Exception) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(parts.index, "upsert", fail)


def test_the_contract_and_the_worker_name_the_same_tasks() -> None:
    ours = {name for name in worker.app.tasks if not name.startswith("celery.")}
    assert ours == {spec.name for spec in TASKS}
    assert {spec.name for spec in TASKS if worker.app.tasks[spec.name].ignore_result} == {INGEST_CHUNK.name}


def test_a_chunk_is_run_once_however_often_its_message_comes(running: Parts, images: ImageServer) -> None:
    job = accepted(running, Item(id="a", url=images.url("/jpeg/1.jpg")))
    for _ in range(3):
        tasks.ingest_chunk(job, 1)
    end = running.ledger.snapshot(job)
    assert (end.state, end.indexed, end.unchanged) == ("done", 1, 0)
    assert images.requests["/jpeg/1.jpg"] == 1


def test_an_index_that_is_away_costs_no_attempt(
    running: Parts, images: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = accepted(running, Item(id="a", url=images.url("/jpeg/1.jpg")))
    with monkeypatch.context() as away:
        broken(away, running, IndexUnavailable("The index is away."))
        for _ in range(10):
            tasks.ingest_chunk(job, 1)
    waiting = running.ledger.snapshot(job)
    assert (waiting.state, waiting.pending, waiting.last_error) == (
        "running",
        1,
        "IndexUnavailable: The index is away.",
    )
    tasks.ingest_chunk(job, 1)
    assert running.ledger.snapshot(job).indexed == 1


def test_a_chunk_that_breaks_every_run_ends_with_its_last_error(
    running: Parts, images: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = accepted(running, Item(id="a", url=images.url("/jpeg/1.jpg")))
    broken(monkeypatch, running, RuntimeError("boom"))
    for _ in range(running.settings.max_attempts + 1):
        tasks.ingest_chunk(job, 1)
    end = running.ledger.snapshot(job)
    assert (end.state, end.failures) == ("done", {"attempts_exhausted": 1})
    (row,), _ = running.ledger.failures(job, 1)
    assert "RuntimeError: boom" in row.detail


def test_one_item_that_breaks_its_run_takes_no_other_along(
    running: Parts, images: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = running.fetcher.fetch

    def break_on_poison(url: str, *known: Any) -> Any:
        if url.endswith("/jpeg/13.jpg"):
            raise RuntimeError("boom")
        return fetch(url, *known)

    monkeypatch.setattr(running.fetcher, "fetch", break_on_poison)
    job = accepted(running, *[Item(id=f"i{n}", url=images.url(f"/jpeg/{n}.jpg")) for n in range(20)])
    while pending := running.redis.hkeys(f"lookalike:job:{job}:chunks"):
        for number in pending:
            tasks.ingest_chunk(job, int(number))
    end = running.ledger.snapshot(job)
    assert (end.state, end.indexed, end.failures) == ("done", 19, {"attempts_exhausted": 1})
    (row,), _ = running.ledger.failures(job, 10)
    assert (row.item.id, row.retryable) == ("i13", True)
    assert "boom" in row.detail


def test_a_worker_that_lost_its_lease_fails_nobody(
    running: Parts, images: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = accepted(running, *[Item(id=f"i{n}", url=images.url(f"/jpeg/{n}.jpg")) for n in range(4)])
    for _ in range(running.settings.max_attempts):
        chunk = running.ledger.claim(job, 1)
        assert chunk
        running.ledger.release(chunk, after=0, counts=True, reason="boom")
    snapshot = running.ledger.snapshot

    def lose_the_lease(id: str) -> Any:
        running.redis.hset(f"lookalike:job:{job}:leases", "token:1", "another worker's")
        return snapshot(id)

    monkeypatch.setattr(running.ledger, "snapshot", lose_the_lease)
    tasks.ingest_chunk(job, 1)
    assert (snapshot(job).failed, snapshot(job).pending) == (0, 4)


def test_a_worker_whose_model_broke_ends_and_costs_no_attempt(
    running: Parts, images: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(pixels: Any) -> Any:
        raise RuntimeError("device-side assert triggered")

    reasons: list[str] = []
    monkeypatch.setattr(tasks, "end", reasons.append)
    monkeypatch.setattr(running.models.default.embedder, "embed", break_down)
    job = accepted(running, Item(id="a", url=images.url("/jpeg/1.jpg")))
    tasks.ingest_chunk(job, 1)
    assert "device-side assert" in reasons[0]
    assert running.ledger.look(job, 1) == "fresh"


def test_a_worker_that_stops_claims_nothing_more(running: Parts, images: ImageServer) -> None:
    job = accepted(running, Item(id="a", url=images.url("/jpeg/1.jpg")))
    running.leases.refuse()
    tasks.ingest_chunk(job, 1)
    assert running.ledger.snapshot(job).state == "queued"


def test_a_collection_under_another_model_fails_its_items_at_once(
    running: Parts, images: ImageServer
) -> None:
    card = running.models.default.embedder.card.model_copy(update={"name": "another"})
    running.index.create("shop", card)
    job = accepted(running, Item(id="a", url=images.url("/jpeg/1.jpg")))
    tasks.ingest_chunk(job, 1)
    end = running.ledger.snapshot(job)
    assert (end.state, end.failures) == ("done", {"attempts_exhausted": 1})
    (row,), _ = running.ledger.failures(job, 1)
    assert "another" in row.detail


def test_a_model_whose_hub_is_away_costs_no_attempt_and_a_client_is_told_to_come_again(
    running: Parts, images: ImageServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the hub library's own tries
    settings = Settings(models=("shop/vit",), device="cpu", runtime="torch", embed_threads=1)
    with hub(monkeypatch, tmp_path / "cache") as here:
        commit = here.push("shop/vit", make_vit(tmp_path / "vit"))
        models = Models(settings, running.models.default)
        worker._running["parts"] = replace(running, models=models)
        here.away = True
        card = running.models.default.card.model_copy(update={"name": "shop/vit", "revision": commit})
        running.index.create("shop", card)
        job = accepted(running, Item(id="a", url=images.url("/jpeg/1.jpg")))
        for _ in range(3):
            tasks.ingest_chunk(job, 1)
        waiting = running.ledger.snapshot(job)
        assert (waiting.pending, running.ledger.look(job, 1)) == (1, "fresh")
        assert "hub does not give the model shop/vit" in (waiting.last_error or "")
        assert tasks.put_collection("new", "shop/vit", {})["error"]["code"] == "workers_unavailable"
        here.away = False
        models._others._places.clear()  # its pause is over
        tasks.ingest_chunk(job, 1)
        assert running.ledger.snapshot(job).indexed == 1
        assert tasks.put_collection("new", "shop/vit", {})["ok"]["collection"]["revision"] == commit
        models._others.close()


@pytest.mark.parametrize("bytes_", [jpeg(1), jpeg(1)[:2000]])
def test_an_upload_is_let_go_once_its_item_has_ended(running: Parts, bytes_: bytes) -> None:
    sha256 = running.uploads.park_for_ingest(bytes_)
    tasks.ingest_chunk(accepted(running, Item(id="a", upload=sha256)), 1)
    assert running.uploads.read(sha256) is None


def test_an_answer_that_breaks_says_so_and_is_no_crash(
    running: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(running.index, "collections", fail)
    assert tasks.list_collections()["error"]["code"] == "internal"
    assert tasks.get_collection("nowhere")["error"]["code"] == "collection_not_found"


def test_a_search_and_a_batch_that_break_say_so_and_are_no_crash(
    running: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = {"collection": "shop", "id": "x", "sent_at": time.time()}
    assert tasks.run_search(query)["problem"]["code"] == "collection_not_found"
    assert tasks.run_searches([query])["results"][0]["problem"]["code"] == "collection_not_found"

    def away(name: str) -> None:
        raise IndexUnavailable("The index is away.")

    monkeypatch.setattr(running.index, "find", away)
    for answer in (tasks.run_search(query), tasks.run_searches([query])):
        assert (answer["state"], answer["problem"]["code"]) == ("failed", "index_unavailable")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (IndexUnavailable("The index is away."), "index_unavailable"),
        (FilesUnavailable("S3 is away."), "files_unavailable"),
        (ModelAway("It is being loaded."), "workers_unavailable"),
        (OutOfMemory("The GPU is full."), "workers_unavailable"),
        (ServiceError("No process that decodes pictures starts."), "workers_unavailable"),
        (redis.ConnectionError("refused"), "queue_unavailable"),
    ],
)
def test_what_a_search_leans_on_is_named_where_it_does_not_answer(
    running: Parts, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(running.index, "find", fail)
    problem = tasks.run_search({"collection": "shop", "id": "x", "sent_at": time.time()})["problem"]
    assert problem["code"] == code
    assert str(error) in problem["detail"]
    assert tasks.get_collection("shop")["error"] == problem
