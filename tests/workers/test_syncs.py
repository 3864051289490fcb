"""workers/syncs.py: what a feed no longer names goes, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shared.contract import ChunkReport, Item, ItemOutcome, Refusal, Sync
from shared.errors import FailureCode, ServiceError
from shared.ledger import JobSnapshot, SyncSnapshot
from tests.image_server import ImageServer
from workers import ingest, syncs
from workers.errands import Held, Runner
from workers.index.interface import Point
from workers.parts import Parts
from workers.syncs import Syncs

Feed = Callable[..., str]


def ids(numbers: range) -> list[str]:
    return [f"p{n}" for n in numbers]


@pytest.fixture
def standing(parts: Parts) -> None:
    """A collection of twenty images."""
    parts.index.create("shop", parts.models.default.card)
    random = np.random.default_rng(0)
    dimension = parts.models.default.card.dimension
    points = []
    for name in ids(range(20)):
        system = {"id": name, "url": "http://shop.example/", "sha256": "0" * 64}
        vector = random.normal(size=dimension).astype(np.float32)
        points.append(Point(name, {"_image": system}, vector / np.linalg.norm(vector)))
    parts.index.upsert("shop", points)


@pytest.fixture
def fed(parts: Parts, standing: None) -> Feed:
    """A job of a feed that names these ids, whose items have all ended."""

    def feed(names: list[str], sync: Sync | None = None, status: Any = "unchanged", unread: int = 0) -> str:
        ledger = parts.ledger
        job = ledger.open_job("shop", sync=sync or Sync())
        refused = Refusal(code=FailureCode.PAYLOAD_INVALID, detail="It is no JSON.", unnamed=True)
        items = [Item(id=name, url="http://shop.example/") for name in names]
        items += [Item(id=f"row:{row}", refused=refused) for row in range(unread)]
        for start in range(0, len(items), 7):
            ledger.accept_chunk(job, items[start : start + 7])
        ledger.seal_job(job)
        number = 1
        while chunk := ledger.claim(job, number):
            ledger.commit(ChunkReport(chunk, [ItemOutcome(item, status) for item in chunk.items]))
            number += 1
        return job

    return feed


def synced(parts: Parts, job: str, kind: type[Syncs] = Syncs) -> JobSnapshot:
    Runner(kind(parts), parts.ledger.errands, parts.leases).run()
    return parts.ledger.snapshot(job)


def left(parts: Parts) -> set[str]:
    return {point.id for point in parts.index.scroll("shop", limit=1000)[0]}


def test_what_the_feed_no_longer_names_is_removed_once_its_items_have_ended(parts: Parts, fed: Feed) -> None:
    job = fed(ids(range(17)))
    before = parts.ledger.snapshot(job)
    assert (before.state, before.pending) == ("running", 0)
    assert before.sync == SyncSnapshot(absent=None, share=None, refused=None, removed=0)
    after = synced(parts, job)
    assert (after.state, after.sync) == ("done", SyncSnapshot(absent=3, share=0.15, refused=None, removed=3))
    assert left(parts) == set(ids(range(17)))


def test_items_that_failed_are_in_the_feed_all_the_same(parts: Parts, fed: Feed) -> None:
    job = fed(ids(range(20)), status="failed")
    after = synced(parts, job)
    assert (after.state, after.failed) == ("done", 20)
    assert len(left(parts)) == 20


def test_more_than_the_stated_share_is_not_removed(parts: Parts, fed: Feed) -> None:
    after = synced(parts, fed(ids(range(12))))
    assert after.state == "done"
    assert after.sync
    assert (after.sync.absent, after.sync.share, after.sync.removed) == (8, 0.4, 0)
    assert after.sync.refused
    for words in ("8 images", "40.0%", "20.0%", "force=true"):
        assert words in after.sync.refused
    assert len(left(parts)) == 20


@pytest.mark.parametrize("sync", [Sync(force=True), Sync(share=0.4)])
def test_it_is_where_a_person_says_so(parts: Parts, fed: Feed, sync: Sync) -> None:
    after = synced(parts, fed(ids(range(12)), sync))
    assert after.sync == SyncSnapshot(absent=8, share=0.4, refused=None, removed=8)
    assert left(parts) == set(ids(range(12)))


def test_rows_that_could_not_be_read_may_name_any_image_so_none_is_removed(parts: Parts, fed: Feed) -> None:
    after = synced(parts, fed(ids(range(19)), unread=2))
    assert (after.state, len(left(parts))) == ("done", 20)
    assert after.sync
    assert (after.sync.absent, after.sync.share, after.sync.removed) == (1, 0.05, 0)
    assert after.sync.refused
    for words in ("items 2 could not be read", "force=true"):
        assert words in after.sync.refused


def test_they_are_removed_where_a_person_says_so(parts: Parts, fed: Feed) -> None:
    after = synced(parts, fed(ids(range(19)), Sync(force=True), unread=2))
    assert after.sync == SyncSnapshot(absent=1, share=0.05, refused=None, removed=1)


def test_where_redis_lost_what_the_feed_named_nothing_is_removed(parts: Parts, fed: Feed) -> None:
    job = fed(ids(range(19)), Sync(force=True))
    parts.redis.delete(f"lookalike:job:{job}:ids")
    send(parts, *ids(range(20, 60)))
    after = synced(parts, job)
    assert (after.state, len(left(parts))) == ("done", 20)
    assert after.sync
    assert after.sync.refused
    assert "noeviction" in after.sync.refused


def test_a_job_that_began_under_an_earlier_version_removes_nothing(parts: Parts, fed: Feed) -> None:
    job = fed(ids(range(19)), Sync(force=True))
    parts.redis.delete("lookalike:syncing:shop")
    parts.redis.hdel(f"lookalike:job:{job}", "named")
    after = synced(parts, job)
    assert (after.state, len(left(parts))) == ("done", 20)
    assert after.sync
    assert "an earlier version" in (after.sync.refused or "")


def test_of_two_feeds_at_once_the_newer_one_removes(parts: Parts, fed: Feed) -> None:
    older = fed(ids(range(18)))
    newer = fed(ids(range(1, 19)))
    for job in (older, newer):
        synced(parts, job)
    first, second = parts.ledger.snapshot(older).sync, parts.ledger.snapshot(newer).sync
    assert first
    assert (first.absent, first.removed) == (None, 0)
    assert f"`{newer}`" in (first.refused or "")
    assert second == SyncSnapshot(absent=2, share=0.1, refused=None, removed=2)
    assert left(parts) == set(ids(range(1, 19)))


def test_an_older_feed_is_overtaken_also_by_one_that_has_ended(parts: Parts, fed: Feed) -> None:
    older = fed(ids(range(18)))
    newer = parts.ledger.open_job("shop", sync=Sync())
    parts.ledger.cancel(newer)
    after = synced(parts, older)
    assert after.sync
    assert f"`{newer}`" in (after.sync.refused or "")
    assert len(left(parts)) == 20


def test_a_feed_that_is_overtaken_in_the_middle_removes_no_more(
    parts: Parts, fed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncs, "_REMOVED_AT_ONCE", 2)
    job = fed(ids(range(10)), Sync(force=True))
    newer = lambda *_: parts.ledger.open_job("shop", sync=Sync())  # noqa: E731
    monkeypatch.setattr(syncs, "remove", _then(syncs.remove, newer))
    after = synced(parts, job)
    assert after.sync
    assert (after.sync.absent, after.sync.removed) == (10, 2)
    assert "A newer feed" in (after.sync.refused or "")
    assert not parts.ledger.errands.is_removing("shop", ids(range(20)))
    assert len(left(parts)) == 18


def test_a_feed_that_is_overtaken_while_it_is_compared_says_so(
    parts: Parts, fed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = fed(ids(range(18)))
    compared = parts.ledger.errands.compared

    def overtaken(*args: Any) -> None:
        compared(*args)
        parts.ledger.open_job("shop", sync=Sync())

    monkeypatch.setattr(type(parts.ledger.errands), "compared", lambda _, *args: overtaken(*args))
    after = synced(parts, job)
    assert after.sync
    assert (after.sync.absent, after.sync.removed) == (2, 0)
    assert "A newer feed" in (after.sync.refused or "")


def test_a_removal_that_is_stopped_before_it_began_holds_up_no_chunk(
    parts: Parts, fed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = fed(ids(range(18)))
    mark = parts.ledger.errands.mark_removal

    def cancelled(*args: Any) -> None:
        mark(*args)
        assert parts.ledger.errands.is_removing("shop", ["p18"])
        parts.ledger.cancel(job)

    monkeypatch.setattr(type(parts.ledger.errands), "mark_removal", lambda _, *args: cancelled(*args))
    assert synced(parts, job).state == "cancelled"
    assert not parts.ledger.errands.is_removing("shop", ["p18"])
    assert len(left(parts)) == 20


def send(parts: Parts, *names: str, collection: str = "shop") -> None:
    """Another job names these images; none of its items has ended."""
    job = parts.ledger.open_job(collection)
    parts.ledger.accept_chunk(job, [Item(id=name, url="http://shop.example/") for name in names])
    parts.ledger.seal_job(job)


def test_what_another_job_names_meanwhile_stays_however_it_ends(parts: Parts, fed: Feed) -> None:
    job = fed(ids(range(18)))
    send(parts, "p18")
    send(parts, "p19", collection="lamps")
    after = synced(parts, job)
    assert after.sync == SyncSnapshot(absent=1, share=0.05, refused=None, removed=1)
    assert left(parts) == set(ids(range(19)))


def test_what_another_job_names_after_the_comparison_stays_too(
    parts: Parts, fed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncs, "_REMOVED_AT_ONCE", 2)
    job = fed(ids(range(10)), Sync(force=True))
    removed: list[str] = []

    def remove(*args: Any) -> None:
        removed.extend(args[-1])
        send(parts, *set(ids(range(10, 20))) - set(removed))

    monkeypatch.setattr(syncs, "remove", _then(syncs.remove, remove))
    after = synced(parts, job)
    assert after.sync == SyncSnapshot(absent=10, share=0.5, refused=None, removed=2)
    assert left(parts) == set(ids(range(20))) - set(removed)


def test_what_another_job_names_before_it_is_asked_for_the_last_time_stays(
    parts: Parts, fed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = fed(ids(range(18)))
    missing = syncs.Named.missing

    def named_just_before(named: Any, ids: Any) -> list[str]:
        if parts.ledger.errands.is_removing("shop", ["p19"]):
            send(parts, "p19")
        return missing(named, ids)

    monkeypatch.setattr(syncs.Named, "missing", named_just_before)
    after = synced(parts, job)
    assert after.sync == SyncSnapshot(absent=2, share=0.1, refused=None, removed=1)
    assert "p19" in left(parts)


def test_what_another_job_names_after_that_is_not_taken_for_standing(
    parts: Parts, fed: Feed, images: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "_REMOVAL_SECONDS", 0)
    job = fed(ids(range(18)))
    url = images.url("/jpeg/19.jpg")
    parts.index.set_payloads("shop@1", {"p19": {"_image": {"id": "p19", "url": url}}})
    other = parts.ledger.open_job("shop")
    given_back: list[str] = []

    def index_again(*_: Any) -> None:
        parts.ledger.accept_chunk(other, [Item(id="p19", url=url)])
        with pytest.raises(ServiceError) as waits:
            ingest_chunk(parts, other)
        given_back.append(str(waits.value))

    remove = syncs.remove
    monkeypatch.setattr(syncs, "remove", lambda *args: (index_again(), remove(*args)))
    synced(parts, job)
    assert "p19" not in left(parts)
    assert len(given_back) == 1
    (outcome,) = ingest_chunk(parts, other).outcomes
    assert (outcome.status, "p19" in left(parts)) == ("indexed", True)


def ingest_chunk(parts: Parts, job: str) -> ChunkReport:
    chunk = parts.ledger.claim(job, 1)
    assert chunk
    try:
        report = ingest.ingest(chunk, parts, lease=lambda: "held")
    except ServiceError:
        parts.ledger.release(chunk, after=0, counts=False, reason="")
        raise
    assert report
    return report


def test_a_cancelled_job_removes_nothing(parts: Parts, fed: Feed) -> None:
    job = fed(ids(range(19)))
    parts.ledger.cancel(job)
    assert synced(parts, job).state == "cancelled"
    assert len(left(parts)) == 20


def test_a_job_that_is_cancelled_between_two_batches_removes_no_more(
    parts: Parts, fed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncs, "_REMOVED_AT_ONCE", 2)
    job = fed(ids(range(10)), Sync(force=True))
    monkeypatch.setattr(syncs, "remove", _then(syncs.remove, lambda *_: parts.ledger.cancel(job)))
    assert synced(parts, job).state == "cancelled"
    assert len(left(parts)) == 18


def test_a_worker_that_dies_in_the_middle_is_followed_by_one_that_ends_it(
    parts: Parts, fed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncs, "_REMOVED_AT_ONCE", 2)
    job = fed(ids(range(10)), Sync(share=0.5))

    class Dies(Syncs):
        def do(self, errand: Any, hand: Held) -> None:
            monkeypatch.setattr(syncs, "remove", _then(syncs.remove, _die))
            super().do(errand, hand)

    with pytest.raises(SystemExit):
        synced(parts, job, Dies)
    monkeypatch.undo()
    assert len(left(parts)) == 18
    parts.redis.zadd("lookalike:syncs", {job: 0})
    after = synced(parts, job)
    assert (after.state, after.sync) == ("done", SyncSnapshot(absent=10, share=0.5, refused=None, removed=10))
    assert left(parts) == set(ids(range(10)))


def test_a_collection_that_was_deleted_meanwhile_has_nothing_to_remove(parts: Parts, fed: Feed) -> None:
    job = fed(ids(range(19)))
    parts.index.drop("shop")
    assert synced(parts, job).sync == SyncSnapshot(absent=0, share=0.0, refused=None, removed=0)


def test_a_large_collection_is_compared_page_by_page(
    parts: Parts, fed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncs, "_PAGE", 3)
    after = synced(parts, fed(ids(range(18))))
    assert after.sync
    assert after.sync.removed == 2
    assert left(parts) == set(ids(range(18)))


def _then(function: Callable[..., None], what: Callable[..., object]) -> Callable[..., None]:
    def both(*args: Any) -> None:
        function(*args)
        what(*args)

    return both


def _die(*_: object) -> None:
    raise SystemExit
