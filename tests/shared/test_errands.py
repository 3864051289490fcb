"""shared/errands.py on a real Valkey: one worker at a time has an errand, and what it accepts is one step."""

from __future__ import annotations

import time

import pytest
import redis

from shared.contract import ChunkReport, Item, ItemOutcome, PutOff, Refusal, Source, Sync
from shared.errands import Errand
from shared.errors import FailureCode, RequestError
from shared.ledger import Ledger
from shared.parcels import Parcel, id_hashes
from shared.settings import Settings
from shared.uploads import Uploads
from tests.shared.test_ledger import hasty as hasty

SOURCE = Source(dataset="marmal88/skin_cancer", fill={"age": 0})


def items(count: int, start: int = 0) -> list[Item]:
    return [Item(id=f"i{n}", url=f"http://shop.example/{n}.jpg") for n in range(start, start + count)]


def begun(ledger: Ledger, sync: Sync | None = None) -> str:
    job = ledger.open_job("shop", source=SOURCE, sync=sync)
    ledger.begin_import(job)
    return job


def taken(ledger: Ledger, line: str = "imports") -> Errand:
    errand = ledger.errands.take(line)  # type: ignore[arg-type]
    assert errand
    return errand


def pictures(uploads: Uploads, count: int, start: int = 0) -> list[Item]:
    """Items whose pictures, ten bytes each, are parked."""
    parked = [(n, uploads.park_for_ingest(b"picture %02d" % n)) for n in range(start, start + count)]
    return [Item(id=f"i{n}", upload=sha256) for n, sha256 in parked]


def parked(client: redis.Redis) -> int:
    return len(list(client.scan_iter("lookalike:upload:*")))


@pytest.fixture
def uploads(redis_client: redis.Redis, settings: Settings) -> Uploads:
    return Uploads(redis_client, settings)


def finish(ledger: Ledger, job: str, number: int) -> None:
    chunk = ledger.claim(job, number)
    assert chunk
    assert ledger.commit(ChunkReport(chunk, [ItemOutcome(item, "indexed") for item in chunk.items]))


def test_an_import_is_read_only_once_its_source_is_here(ledger: Ledger) -> None:
    job = ledger.open_job("shop", source=SOURCE)
    assert ledger.errands.take("imports") is None
    assert ledger.begin_import(job)
    assert ledger.begin_import(job)
    errand = taken(ledger)
    assert (errand.job, errand.collection, errand.source, errand.position) == (job, "shop", SOURCE, "")
    assert errand.is_open
    assert ledger.errands.take("imports") is None


def test_the_oldest_errand_is_taken_first(ledger: Ledger) -> None:
    jobs = []
    for _ in range(3):
        jobs.append(begun(ledger))
        time.sleep(0.002)  # the line knows milliseconds
    assert [taken(ledger).job for _ in jobs] == jobs


def test_what_is_accepted_and_how_far_was_read_are_one_step(ledger: Ledger) -> None:
    job, errand = begun(ledger), taken(ledger)
    assert ledger.errands.accept(errand, "70", [Parcel(items(64)), Parcel(items(6, 64), 500)]) == [1, 2]
    assert ledger.errands.accept(errand, "80", []) == []
    ledger.errands.put_back(errand, after=0, counts=False)
    again = taken(ledger)
    assert (again.position, ledger.snapshot(job).pending) == ("80", 70)
    assert ledger.errands.keep(again).parked == 500


def test_only_who_holds_it_accepts_pins_and_seals(hasty: Ledger) -> None:
    job, first = begun(hasty), taken(hasty)
    time.sleep(0.01)
    second = taken(hasty)
    assert second.attempt == 2
    assert hasty.errands.accept(first, "1", [Parcel(items(1))]) is None
    hasty.errands.pin(first, Source(dataset="another"))
    assert not hasty.errands.seal(first)
    hasty.errands.let_go(first)
    assert hasty.errands.keep(first).state == "lost"
    assert hasty.snapshot(job).state == "accepting"
    assert hasty.errands.accept(second, "1", [Parcel(items(1))]) == [1]
    hasty.errands.put_back(second, after=0, counts=False)
    assert taken(hasty).source == SOURCE


def test_the_api_adds_nothing_to_an_import_and_seals_none(ledger: Ledger) -> None:
    job = begun(ledger)
    with pytest.raises(RequestError):
        ledger.accept_chunk(job, items(1))
    ledger.seal_job(job)
    assert ledger.snapshot(job).state == "accepting"


def test_an_import_is_no_abandoned_job_however_long_it_is_read(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    job = begun(ledger)
    ledger.errands.accept(taken(ledger), "1", [Parcel(items(1))])
    assert ledger.abandoned(-60) == []
    half = ledger.open_job("shop", source=SOURCE)  # its API died before all of its source was here
    assert ledger.abandoned(-60) == [half]
    assert ledger.snapshot(job).state == "accepting"


def test_the_pinned_source_is_read_from_then_on(ledger: Ledger) -> None:
    begun(ledger)
    errand = taken(ledger)
    pinned = SOURCE.model_copy(update={"revision": "abc"})
    ledger.errands.pin(errand, pinned)
    ledger.errands.put_back(errand, after=0, counts=False)
    assert taken(ledger).source == pinned


def test_a_sealed_import_is_cleared_up_once(hasty: Ledger) -> None:
    job, errand = begun(hasty), taken(hasty)
    hasty.errands.seal(errand)
    assert hasty.snapshot(job).state == "done"
    time.sleep(0.01)
    later = taken(hasty)
    assert (later.job, later.is_open) == (job, False)
    hasty.errands.let_go(later)
    time.sleep(0.01)
    assert hasty.errands.take("imports") is None


def test_a_cancelled_import_is_handed_to_a_worker_to_clear_up(ledger: Ledger) -> None:
    waiting, half = begun(ledger), ledger.open_job("shop", source=SOURCE)
    for job in (waiting, half):
        ledger.cancel(job)
    assert not ledger.begin_import(half)
    cleared = [taken(ledger) for _ in (waiting, half)]
    assert {errand.job for errand in cleared} == {waiting, half}
    assert not any(errand.is_open for errand in cleared)


def test_its_holder_hears_that_it_is_cancelled(ledger: Ledger) -> None:
    job, errand = begun(ledger), taken(ledger)
    ledger.errands.accept(errand, "1", [Parcel(items(1))])
    assert ledger.errands.keep(errand).state == "held"
    ledger.cancel(job)
    assert ledger.errands.keep(errand).state == "cancelled"
    assert ledger.errands.accept(errand, "2", [Parcel(items(1))]) is None
    assert not ledger.errands.seal(errand)
    assert ledger.snapshot(job).failures == {"cancelled": 1}


def test_tries_are_counted_until_it_gets_on(ledger: Ledger) -> None:
    begun(ledger)
    tries = []
    for counts in (True, False, True, True):
        errand = taken(ledger)
        tries.append(ledger.errands.put_back(errand, after=0, counts=counts, reason="why"))
    assert tries == [1, 1, 2, 3]
    errand = taken(ledger)
    assert (errand.attempt, errand.last_error) == (4, "why")
    ledger.errands.accept(errand, "1", [])
    assert ledger.errands.put_back(errand, after=0, counts=False) == 0
    errand = taken(ledger)
    assert errand.attempt == 1
    ledger.errands.accept(errand, "1", [])  # where it stands already
    assert ledger.errands.put_back(errand, after=0, counts=True) == 1


def test_a_service_that_is_away_for_good_counts_in_the_end(ledger: Ledger) -> None:
    begun(ledger)
    tries = [ledger.errands.put_back(taken(ledger), after=0, counts=False) for _ in range(203)]
    assert (max(tries[:200]), tries[200:]) == (0, [1, 2, 3])


def test_it_waits_as_long_as_it_was_put_back_for(ledger: Ledger) -> None:
    begun(ledger)
    ledger.errands.put_back(taken(ledger), after=60, counts=True)
    assert ledger.errands.take("imports") is None


def test_bytes_are_counted_until_their_chunk_ends_also_where_it_is_split(
    redis_client: redis.Redis, settings: Settings
) -> None:
    ledger = Ledger(redis_client, settings.model_copy(update={"max_attempts": 1}))
    job, errand = begun(ledger), taken(ledger)
    ledger.errands.accept(errand, "9", [Parcel(items(8), 800), Parcel(items(1, 8), 100)])
    broken = ledger.claim(job, 1)
    assert broken
    assert ledger.split(broken) == "split"
    assert ledger.errands.keep(errand).parked == 900
    for number in (2, *range(3, 11)):
        finish(ledger, job, number)
    assert (ledger.errands.keep(errand).parked, ledger.errands.keep(errand).chunks) == (0, 0)


@pytest.mark.parametrize("code", [None, FailureCode.NOT_AN_IMAGE, FailureCode.ATTEMPTS_EXHAUSTED])
def test_what_an_import_parked_is_let_go_of_however_its_items_end(
    ledger: Ledger, uploads: Uploads, redis_client: redis.Redis, code: FailureCode | None
) -> None:
    job, errand = begun(ledger), taken(ledger)
    ledger.errands.accept(errand, "2", [Parcel(pictures(uploads, 2), 20)])
    chunk = ledger.claim(job, 1)
    assert chunk
    outcomes = [ItemOutcome(item, "failed" if code else "indexed", code) for item in chunk.items]
    ledger.commit(ChunkReport(chunk, outcomes))
    assert parked(redis_client) == 0


def test_a_picture_that_another_job_waits_for_stays_parked(
    ledger: Ledger, uploads: Uploads, redis_client: redis.Redis
) -> None:
    job, errand = begun(ledger), taken(ledger)
    ledger.errands.accept(errand, "3", [Parcel([*pictures(uploads, 2), *pictures(uploads, 1)], 30)])
    uploads.park_for_ingest(b"picture 01")
    chunk = ledger.claim(job, 1)
    assert chunk
    ended = ChunkReport(chunk, [ItemOutcome(item, "indexed") for item in chunk.items])
    ledger.commit(ended)
    ledger.commit(ended)
    assert parked(redis_client) == 1


def test_what_was_uploaded_is_kept_for_a_retry_where_one_may_help(
    ledger: Ledger, uploads: Uploads, redis_client: redis.Redis
) -> None:
    job = ledger.open_job("shop")
    ledger.accept_chunk(job, pictures(uploads, 3))
    chunk = ledger.claim(job, 1)
    assert chunk
    codes = (FailureCode.NOT_AN_IMAGE, FailureCode.ATTEMPTS_EXHAUSTED, FailureCode.CANCELLED)
    ended = zip(chunk.items, codes, strict=True)
    ledger.commit(ChunkReport(chunk, [ItemOutcome(item, "failed", code) for item, code in ended]))
    assert parked(redis_client) == 2


def test_what_a_cancelled_import_parked_is_let_go_of_as_its_chunks_end(
    hasty: Ledger, ledger: Ledger, uploads: Uploads, redis_client: redis.Redis
) -> None:
    job, errand = begun(ledger), taken(ledger)
    parcels = [Parcel(pictures(uploads, 2, start), 20) for start in (0, 10, 20, 30)]
    ledger.errands.accept(errand, "8", parcels)
    held, dies = ledger.claim(job, 1), hasty.claim(job, 2)
    assert held
    assert dies
    redis_client.hset(f"lookalike:job:{job}:leases", "until:2", 2**60)
    ledger.cancel(job)
    assert parked(redis_client) == 4
    ledger.release(held, after=0, counts=True, reason="boom")
    assert parked(redis_client) == 2
    redis_client.hset(f"lookalike:job:{job}:leases", "until:2", 0)
    ledger.overdue(0)
    assert (parked(redis_client), ledger.snapshot(job).pending) == (0, 0)


def test_what_was_split_or_put_off_stays_parked_until_it_ends(
    redis_client: redis.Redis, settings: Settings, uploads: Uploads
) -> None:
    ledger = Ledger(redis_client, settings.model_copy(update={"max_attempts": 1}))
    job, errand = begun(ledger), taken(ledger)
    ledger.errands.accept(
        errand, "9", [Parcel(pictures(uploads, 8), 80), Parcel(pictures(uploads, 2, 10), 20)]
    )
    broken, other = ledger.claim(job, 1), ledger.claim(job, 2)
    assert broken
    assert other
    assert ledger.split(broken) == "split"
    first, second = other.items
    ledger.commit(ChunkReport(other, [ItemOutcome(first, "indexed")], [PutOff([second], 1, 0)]))
    assert parked(redis_client) == 9
    finish(ledger, job, 3)
    assert parked(redis_client) == 8
    ledger.cancel(job)
    assert (parked(redis_client), ledger.snapshot(job).pending) == (0, 0)


def test_items_that_nobody_can_name_are_counted(ledger: Ledger) -> None:
    refused = Refusal(code=FailureCode.PAYLOAD_INVALID, detail="It is no JSON.")
    unnamed = Item(id="row:7", refused=refused.model_copy(update={"unnamed": True}))
    begun(ledger)
    errand = taken(ledger)
    ledger.errands.accept(errand, "3", [Parcel([*items(2), unnamed]), Parcel([unnamed])])
    ledger.errands.accept(errand, "4", [Parcel([Item(id="x", refused=refused)])])
    ledger.errands.put_back(errand, after=0, counts=False)
    assert taken(ledger).unnamed == 2


def test_an_errand_is_over_once_it_was_let_go(hasty: Ledger) -> None:
    begun(hasty)
    first = taken(hasty)
    assert not hasty.errands.is_over(first)
    time.sleep(0.01)
    hasty.errands.let_go(taken(hasty))
    assert hasty.errands.is_over(first)


def test_an_errand_whose_job_has_expired_is_forgotten(ledger: Ledger, redis_client: redis.Redis) -> None:
    gone, stands = begun(ledger), begun(ledger)
    redis_client.delete(f"lookalike:job:{gone}")
    assert taken(ledger).job == stands
    assert ledger.errands.take("imports") is None
    assert redis_client.zcard("lookalike:imports") == 1


def test_a_job_that_is_synchronised_is_done_when_it_has_been(ledger: Ledger) -> None:
    job, errand = begun(ledger, Sync(share=0.5)), taken(ledger)
    ledger.errands.accept(errand, "5", [Parcel(items(3)), Parcel(items(2, 3))])
    finish(ledger, job, 1)
    ledger.errands.seal(errand)
    assert ledger.errands.take("syncs") is None
    finish(ledger, job, 2)
    assert ledger.snapshot(job).state == "running"
    sync = taken(ledger, "syncs")
    assert (sync.job, sync.sync, sync.is_open) == (job, Sync(share=0.5), True)
    assert ledger.errands.ids(sync) == id_hashes(items(5))
    ledger.errands.let_go(errand)  # it is cleared up while another worker compares
    assert ledger.errands.keep(sync).state == "held"
    ledger.errands.compared(sync, 2, 0.25)
    ledger.errands.compared(sync, 1, 0.125)
    ledger.errands.count_removal(sync, 2)
    ledger.errands.synced(sync)
    end = ledger.snapshot(job)
    assert end.sync
    assert (end.state, end.sync.absent, end.sync.removed) == ("done", 2, 2)
    assert ledger.errands.ids(sync) is None
    assert ledger.errands.take("syncs") is None


def test_a_job_of_nothing_is_synchronised_too(ledger: Ledger) -> None:
    job, errand = begun(ledger, Sync()), taken(ledger)
    ledger.errands.seal(errand)
    assert (ledger.snapshot(job).state, ledger.snapshot(job).total) == ("running", 0)
    ledger.errands.synced(taken(ledger, "syncs"), refused="too many")
    end = ledger.snapshot(job)
    assert end.sync
    assert (end.state, end.sync.refused, end.sync.removed) == ("done", "too many", 0)


def test_a_job_that_was_cancelled_is_not_synchronised(ledger: Ledger, redis_client: redis.Redis) -> None:
    job = ledger.open_job("shop", sync=Sync())
    ledger.accept_chunk(job, items(2))
    ledger.seal_job(job)
    finish(ledger, job, 1)
    held = taken(ledger, "syncs")
    ledger.cancel(job)
    ledger.errands.synced(held)
    assert ledger.snapshot(job).state == "cancelled"
    assert ledger.errands.take("syncs") is None
    assert not redis_client.exists(f"lookalike:job:{job}:ids")


def test_of_two_syncs_at_once_the_newer_alone_knows_what_is_named(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    older, newer = ledger.open_job("shop", sync=Sync()), ledger.open_job("shop", sync=Sync())
    ledger.open_job("lamps", sync=Sync())
    ledger.accept_chunk(older, items(2))
    ledger.accept_chunk(newer, items(3))
    for job in (older, newer):
        ledger.seal_job(job)
        finish(ledger, job, 1)
    errands = {errand.job: errand for errand in (taken(ledger, "syncs"), taken(ledger, "syncs"))}
    overtaken, sync = errands[older], errands[newer]
    assert [ledger.errands.newer_feed(errand) for errand in (overtaken, sync)] == [newer, None]
    assert ledger.errands.ids(overtaken) is None
    ids = ledger.errands.ids(sync)
    assert ids == id_hashes(items(2)) + id_hashes(items(3))
    ledger.errands.synced(overtaken, refused="A newer one came.")
    assert ledger.errands.ids(sync) == ids
    assert not redis_client.exists(f"lookalike:job:{older}:ids")
    ledger.errands.synced(sync)
    assert not redis_client.exists("lookalike:syncing:shop")


def test_what_redis_lost_of_the_ids_is_missed_whatever_came_since(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    job = ledger.open_job("shop", sync=Sync())
    ledger.accept_chunk(job, items(5))
    ledger.seal_job(job)
    finish(ledger, job, 1)
    sync = taken(ledger, "syncs")
    redis_client.delete(f"lookalike:job:{job}:ids")
    ledger.accept_chunk(ledger.open_job("shop"), items(9, 5))
    assert ledger.errands.ids(sync) is None


def test_where_the_ids_cannot_be_kept_nothing_is_accepted_and_no_position_reached(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    job, errand = begun(ledger, Sync()), taken(ledger)
    redis_client.lpush(f"lookalike:job:{job}:ids", "no string")
    with pytest.raises(redis.ResponseError):
        ledger.errands.accept(errand, "5", [Parcel(items(5))])
    ledger.errands.put_back(errand, after=0, counts=False)
    assert (taken(ledger).position, ledger.snapshot(job).pending) == ("", 0)


def test_what_is_being_removed_is_marked_until_it_is(ledger: Ledger, redis_client: redis.Redis) -> None:
    begun(ledger, Sync())
    errand = taken(ledger)
    ledger.errands.mark_removal(errand, ["i1", "i2"])
    assert ledger.errands.is_removing("shop", ["i0", "i2"])
    assert not ledger.errands.is_removing("shop", ["i0"])
    assert not ledger.errands.is_removing("lamps", ["i1"])
    assert redis_client.pttl("lookalike:removing:shop") > 0
    ledger.errands.unmark_removal(errand)
    assert not ledger.errands.is_removing("shop", ["i1"])


def test_a_job_that_is_synchronised_keeps_in_mind_what_any_job_names_meanwhile(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    earlier = ledger.open_job("shop")
    job = ledger.open_job("shop", sync=Sync())
    ledger.accept_chunk(job, items(2))
    ledger.accept_chunk(earlier, items(1, 2))
    for collection in ("shop@2", "lamps"):
        ledger.accept_chunk(ledger.open_job(collection), items(1, 8))
    ledger.seal_job(job)
    finish(ledger, job, 1)
    sync = taken(ledger, "syncs")
    assert ledger.errands.ids(sync) == id_hashes(items(3))
    ledger.accept_chunk(ledger.open_job("shop"), items(1, 3))
    assert ledger.errands.ids(sync, after=24) == id_hashes(items(1, 3))
    ledger.errands.synced(sync)
    ledger.accept_chunk(earlier, items(1, 4))
    assert not redis_client.exists(f"lookalike:job:{job}:ids", "lookalike:syncing:shop")


@pytest.mark.parametrize(("gone", "removed"), [((), 0), ((2, 1), 3), ((3, 5), 5)])
def test_what_went_was_removed_and_no_more_than_was_absent(
    ledger: Ledger, gone: tuple[int, ...], removed: int
) -> None:
    job, errand = begun(ledger, Sync()), taken(ledger)
    ledger.errands.seal(errand)
    sync = taken(ledger, "syncs")
    ledger.errands.compared(sync, 5, 0.1)
    for images in gone:
        ledger.errands.count_removal(sync, images)
    ledger.errands.synced(sync)
    end = ledger.snapshot(job)
    assert end.sync
    assert (end.sync.absent, end.sync.removed) == (5, removed)
