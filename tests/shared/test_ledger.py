"""shared/ledger.py on a real Valkey: what is accepted ends exactly once."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from shared.broker import connect_redis
from shared.contract import Chunk, ChunkReport, Item, ItemOutcome, PutOff
from shared.errors import FailureCode, RequestCode, RequestError
from shared.ledger import JobSnapshot, Ledger
from shared.settings import Settings
from shared.uploads import Uploads
from tests.valkey import valkey


def items(count: int, start: int = 0) -> list[Item]:
    return [Item(id=f"i{n}", url=f"http://shop.example/{n}.jpg") for n in range(start, start + count)]


def open_sealed(ledger: Ledger, *sizes: int) -> str:
    job = ledger.open_job("shop")
    for number, size in enumerate(sizes):
        ledger.accept_chunk(job, items(size, start=number * 1000))
    ledger.seal_job(job)
    return job


def claimed(ledger: Ledger, job: str, number: int) -> Chunk:
    chunk = ledger.claim(job, number)
    assert chunk is not None
    return chunk


def all_indexed(chunk: Chunk) -> ChunkReport:
    return ChunkReport(chunk, [ItemOutcome(item, "indexed") for item in chunk.items])


def all_failed(chunk: Chunk, code: FailureCode) -> ChunkReport:
    return ChunkReport(chunk, [ItemOutcome(item, "failed", code, "why") for item in chunk.items])


def balanced(job: JobSnapshot) -> bool:
    return job.indexed + job.unchanged + job.failed + job.pending == job.total


@pytest.fixture
def hasty(redis_client: redis.Redis, settings: Settings) -> Ledger:
    """A ledger whose leases and resends run out at once, so that no test waits for them."""
    return Ledger(redis_client, settings.model_copy(update={"lease_seconds": 0.001, "resend_seconds": 0.001}))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.005)


def test_the_total_is_unknown_while_the_body_is_read(ledger: Ledger) -> None:
    job = ledger.open_job("shop")
    ledger.accept_chunk(job, items(3))
    before = ledger.snapshot(job)
    ledger.seal_job(job)
    after = ledger.snapshot(job)
    assert (before.state, before.total, before.pending) == ("accepting", None, 3)
    assert (after.state, after.total, after.pending) == ("queued", 3, 3)


def test_a_claim_brings_the_items_back_as_they_were_accepted(ledger: Ledger) -> None:
    item = Item(
        id="x", url="http://a.example/ü.jpg", payload={"price": 3.5, "tags": ["a", None], "né": {"x": True}}
    )
    job = ledger.open_job("shop")
    assert ledger.accept_chunk(job, [item]) == 1
    chunk = claimed(ledger, job, 1)
    assert (chunk.items, chunk.collection, chunk.attempt) == ([item], "shop", 1)


def test_one_worker_at_a_time_holds_a_chunk(ledger: Ledger) -> None:
    job = open_sealed(ledger, 2)
    claimed(ledger, job, 1)
    assert ledger.claim(job, 1) is None


def test_many_threads_claim_each_chunk_once(ledger: Ledger) -> None:
    job = open_sealed(ledger, *[1] * 20)
    won: list[int] = []
    claim_all = lambda: won.extend(n for n in range(1, 21) if ledger.claim(job, n))  # noqa: E731
    threads = [threading.Thread(target=claim_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(1, 21))


def test_the_first_commit_counts_and_the_second_changes_nothing(ledger: Ledger) -> None:
    job = open_sealed(ledger, 3)
    chunk = claimed(ledger, job, 1)
    assert ledger.commit(all_indexed(chunk))
    once = ledger.snapshot(job)
    assert not ledger.commit(all_failed(chunk, FailureCode.TIMEOUT))
    assert (once.indexed, once.failed, once.pending, once.state) == (3, 0, 0, "done")
    again = ledger.snapshot(job)
    assert (again.indexed, again.failed, again.failures) == (3, 0, {})


def test_a_job_is_done_only_when_every_chunk_has_ended(ledger: Ledger) -> None:
    job = open_sealed(ledger, 2, 5)
    ledger.commit(all_indexed(claimed(ledger, job, 2)))
    halfway = ledger.snapshot(job)
    assert (halfway.state, halfway.pending) == ("running", 2)
    assert balanced(halfway)
    ledger.commit(all_failed(claimed(ledger, job, 1), FailureCode.TIMEOUT))
    end = ledger.snapshot(job)
    assert (end.state, end.indexed, end.failed, end.failures) == ("done", 5, 2, {"timeout": 2})
    assert end.finished_at is not None


def test_chunks_that_end_while_the_body_is_read_end_the_job_at_its_seal(ledger: Ledger) -> None:
    job = ledger.open_job("shop")
    ledger.accept_chunk(job, items(2))
    ledger.commit(all_indexed(claimed(ledger, job, 1)))
    assert ledger.snapshot(job).state == "accepting"
    ledger.seal_job(job)
    assert ledger.snapshot(job).state == "done"


def test_a_lease_that_ran_out_lets_another_worker_in_and_counts_the_attempt(hasty: Ledger) -> None:
    job = open_sealed(hasty, 2)
    first = claimed(hasty, job, 1)
    until(lambda: hasty.overdue(10) == [(job, 1)])
    second = claimed(hasty, job, 1)
    assert second.attempt == 2
    assert hasty.renew(first) == "lost"
    assert hasty.renew(second) == "held"


def test_a_worker_that_was_slow_may_still_commit_first_and_only_once(hasty: Ledger) -> None:
    job = open_sealed(hasty, 2)
    slow = claimed(hasty, job, 1)
    until(lambda: bool(hasty.overdue(10)))
    quick = claimed(hasty, job, 1)
    assert [hasty.commit(all_indexed(slow)), hasty.commit(all_indexed(quick))] == [True, False]
    assert hasty.snapshot(job).indexed == 2


def test_what_stands_still_is_overdue_once_and_then_counts_as_sent(
    redis_client: redis.Redis, settings: Settings
) -> None:
    accepting = Ledger(redis_client, settings.model_copy(update={"resend_seconds": 0.001}))
    job = open_sealed(accepting, 1)
    patient = Ledger(redis_client, settings)
    until(lambda: patient.overdue(10) == [(job, 1)])
    assert patient.overdue(10) == []


def test_a_chunk_under_a_live_lease_is_not_overdue(redis_client: redis.Redis, settings: Settings) -> None:
    ledger = Ledger(redis_client, settings.model_copy(update={"resend_seconds": 0.001}))
    job = open_sealed(ledger, 1)
    claimed(ledger, job, 1)
    time.sleep(0.01)
    assert ledger.overdue(10) == []


def test_a_chunk_that_is_given_back_comes_again_and_says_why(hasty: Ledger) -> None:
    job = open_sealed(hasty, 1)
    chunk = claimed(hasty, job, 1)
    hasty.release(chunk, after=0, counts=False, reason="IndexUnavailable: away")
    assert hasty.snapshot(job).last_error == "IndexUnavailable: away"
    assert claimed(hasty, job, 1).attempt == 1


def test_a_chunk_that_breaks_every_run_is_exhausted(hasty: Ledger, settings: Settings) -> None:
    job = open_sealed(hasty, 1)
    for _ in range(settings.max_attempts):
        chunk = claimed(hasty, job, 1)
        assert not hasty.is_exhausted(chunk)
        hasty.release(chunk, after=0, counts=True, reason="broke")
    assert hasty.is_exhausted(claimed(hasty, job, 1))


def test_cancelling_ends_what_is_not_started_and_keeps_its_rows(ledger: Ledger) -> None:
    job = open_sealed(ledger, 2, 3)
    held = claimed(ledger, job, 1)
    assert ledger.cancel(job)
    meanwhile = ledger.snapshot(job)
    assert (meanwhile.state, meanwhile.pending, meanwhile.failures) == ("cancelled", 2, {"cancelled": 3})
    assert balanced(meanwhile)
    assert ledger.renew(held) == "cancelled"
    ledger.commit(all_indexed(held))
    end = ledger.snapshot(job)
    assert (end.state, end.indexed, end.pending) == ("cancelled", 2, 0)
    rows, cursor = ledger.failures(job, 10)
    assert [row.code for row in rows] == ["cancelled"] * 3
    assert cursor is None
    assert ledger.claim(job, 2) is None
    assert not ledger.cancel(job)


def test_a_cancelled_chunk_whose_worker_died_ends_too(hasty: Ledger) -> None:
    job = open_sealed(hasty, 2)
    claimed(hasty, job, 1)
    hasty.cancel(job)
    until(lambda: (hasty.overdue(10), hasty.snapshot(job).pending)[1] == 0)
    assert hasty.snapshot(job).failures == {"cancelled": 2}


def test_cancelling_while_the_body_is_read_takes_no_more(ledger: Ledger) -> None:
    job = ledger.open_job("shop")
    ledger.accept_chunk(job, items(2))
    ledger.cancel(job, "line 3 is not JSON")
    with pytest.raises(RequestError) as refused:
        ledger.accept_chunk(job, items(2))
    assert refused.value.code == RequestCode.JOB_CANCELLED
    ledger.seal_job(job)
    end = ledger.snapshot(job)
    assert (end.state, end.total, end.last_error) == ("cancelled", 2, "line 3 is not JSON")


def test_failures_are_read_page_by_page_without_gap_or_double(ledger: Ledger) -> None:
    job = open_sealed(ledger, 7, 5, 1)
    for number in (1, 2, 3):
        ledger.commit(all_failed(claimed(ledger, job, number), FailureCode.HTTP_STATUS))
    seen, cursor = [], None
    while True:
        page, cursor = ledger.failures(job, 3, cursor)
        assert len(page) <= 3
        seen += [row.item.id for row in page]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 13
    assert seen == [row.item.id for row in ledger.all_failures(job)]


def test_a_made_up_cursor_is_refused(ledger: Ledger) -> None:
    job = open_sealed(ledger, 1)
    with pytest.raises(RequestError) as refused:
        ledger.failures(job, 3, "x.1")
    assert refused.value.code == RequestCode.INVALID_REQUEST


def test_jobs_come_newest_first_page_by_page(ledger: Ledger) -> None:
    made = [open_sealed(ledger, 1) for _ in range(5)]
    seen, cursor = [], None
    while True:
        page, cursor = ledger.jobs(2, cursor)
        seen += [job.id for job in page]
        if cursor is None:
            break
    assert seen == made[::-1]


def test_an_unknown_job_is_not_found(ledger: Ledger) -> None:
    with pytest.raises(RequestError) as refused:
        ledger.snapshot("job_nobody")
    assert refused.value.code == RequestCode.JOB_NOT_FOUND


def test_only_ended_jobs_expire_and_nothing_of_their_chunks_stays(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    job = open_sealed(ledger, 1)
    assert redis_client.ttl(f"lookalike:job:{job}") == -1
    ledger.commit(all_failed(claimed(ledger, job, 1), FailureCode.EMPTY))
    assert redis_client.ttl(f"lookalike:job:{job}") > 0
    assert redis_client.ttl(f"lookalike:job:{job}:failures") > 0
    assert not redis_client.exists(f"lookalike:job:{job}:chunks", f"lookalike:job:{job}:leases")
    assert ledger.pending_chunks() == 0


def test_only_the_unfinished_jobs_of_a_collection_are_listed(ledger: Ledger) -> None:
    done, waiting = open_sealed(ledger, 1), open_sealed(ledger, 1)
    ledger.commit(all_indexed(claimed(ledger, done, 1)))
    ledger.open_job("other")
    assert ledger.unfinished_jobs("shop") == [waiting]


class LossyRelay:
    """Stands between a client and Valkey, and on request loses one answer after Valkey has acted."""

    def __init__(self, target: str, path: str) -> None:
        self._target = target
        self.lose_next = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            caller, server = self._listener.accept()[0], socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            threading.Thread(target=self._carry, args=(caller, server, None), daemon=True).start()
            threading.Thread(target=self._carry, args=(server, caller, self.lose_next), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, lose: threading.Event | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if lose is not None and lose.is_set():
                    lose.clear()
                    sink.shutdown(socket.SHUT_RDWR)
                    return
                sink.sendall(data)


def test_a_lost_answer_is_an_error_and_never_accepted_twice(
    redis_client: redis.Redis, settings: Settings
) -> None:
    with tempfile.TemporaryDirectory(prefix="lookalike-") as folder:
        relay = LossyRelay(settings.redis_url.removeprefix("unix://").removesuffix("?db=0"), f"{folder}/r")
        ledger = Ledger(connect_redis(Settings(redis_url=f"unix://{folder}/r?db=0")), settings)
        job = ledger.open_job("shop")
        ledger.accept_chunk(job, items(1))
        relay.lose_next.set()
        with pytest.raises(redis.ConnectionError):
            ledger.accept_chunk(job, items(10))
        assert ledger.snapshot(job).pending == 11


def test_a_service_that_is_away_costs_no_attempt_but_not_for_ever(hasty: Ledger, settings: Settings) -> None:
    job = open_sealed(hasty, 1)
    runs = 0
    while not hasty.is_exhausted(chunk := claimed(hasty, job, 1)):
        hasty.release(chunk, after=0, counts=False, reason="IndexUnavailable: away")
        runs += 1
        assert runs < 1000, "the job would never end"
    assert runs > 50


def test_a_cancelled_chunk_that_is_given_back_ends_at_once(ledger: Ledger) -> None:
    job = open_sealed(ledger, 2)
    chunk = claimed(ledger, job, 1)
    ledger.cancel(job, "by its owner")
    ledger.release(chunk, after=60, counts=True, reason="RuntimeError: late")
    end = ledger.snapshot(job)
    assert (end.pending, end.failures, end.last_error) == (0, {"cancelled": 2}, "by its owner")
    assert end.finished_at is not None


def test_a_cancelled_chunk_of_a_dead_worker_ends_though_nothing_may_be_sent(hasty: Ledger) -> None:
    job = open_sealed(hasty, 2)
    claimed(hasty, job, 1)
    hasty.cancel(job)
    until(lambda: (hasty.overdue(0), hasty.snapshot(job).pending)[1] == 0)


def test_a_chunk_that_breaks_every_run_is_split_until_the_one_item_at_fault_stands_alone(
    hasty: Ledger, settings: Settings
) -> None:
    job = open_sealed(hasty, 20)
    poison = "i13"
    deaths = 0
    while (state := hasty.snapshot(job)).pending:
        for number in chunks_of(hasty, job):
            time.sleep(0.002)
            chunk = claimed(hasty, job, number)
            holds_it = poison in [item.id for item in chunk.items]
            if not hasty.is_exhausted(chunk):
                if holds_it:
                    deaths += 1  # its worker dies: nothing is committed
                else:
                    hasty.commit(all_indexed(chunk))
            elif hasty.split(chunk) == "whole":
                assert [item.id for item in chunk.items] == [poison]
                hasty.commit(all_failed(chunk, FailureCode.ATTEMPTS_EXHAUSTED))
        assert balanced(state)
    assert (state.state, state.indexed, state.failed) == ("done", 19, 1)
    assert deaths == settings.max_attempts + 2 * 2  # 20 items, then 3, then 1
    assert hasty.pending_items() == 0


def chunks_of(ledger: Ledger, job: str) -> list[int]:
    return sorted(int(number) for number in ledger._redis.hkeys(f"lookalike:job:{job}:chunks"))


def test_pieces_know_their_chunk_and_keep_items_of_one_id_together(hasty: Ledger) -> None:
    job = hasty.open_job("shop")
    twins = [Item(id="twin", url="http://a.example/1"), Item(id="twin", url="http://a.example/2")]
    hasty.accept_chunk(job, [*items(10), *twins])
    hasty.seal_job(job)
    whole = claimed(hasty, job, 1)
    assert hasty.split(whole) == "split"
    pieces = [claimed(hasty, job, number) for number in chunks_of(hasty, job)]
    assert {piece.mark for piece in pieces} == {whole.mark}
    assert sorted(item.url or "" for piece in pieces for item in piece.items) == sorted(
        item.url or "" for item in whole.items
    )
    assert next(len(piece.items) for piece in pieces if piece.items[-1].id == "twin") >= 2
    assert hasty.snapshot(job).pending == 12


def test_who_lost_the_lease_splits_nothing(hasty: Ledger) -> None:
    job = open_sealed(hasty, 10)
    late = claimed(hasty, job, 1)
    time.sleep(0.005)
    claimed(hasty, job, 1)
    assert hasty.split(late) == "lost"
    assert chunks_of(hasty, job) == [1]


def test_only_what_broke_before_is_suspect(hasty: Ledger, ledger: Ledger) -> None:
    job = open_sealed(hasty, 10, 10)
    assert hasty.look(job, 1) == "fresh"
    held = claimed(ledger, job, 1)
    assert ledger.look(job, 1) is None
    ledger.release(held, after=0, counts=False, reason="Qdrant was away")
    assert ledger.look(job, 1) == "fresh"
    claimed(hasty, job, 1)
    time.sleep(0.005)
    assert hasty.look(job, 1) == "suspect"
    hasty.split(claimed(hasty, job, 2))
    assert hasty.look(job, 2) is None
    assert hasty.look(job, 3) == "suspect"


def test_what_is_put_off_stays_pending_and_comes_again_with_its_fetches(ledger: Ledger) -> None:
    job = open_sealed(ledger, 5)
    chunk = claimed(ledger, job, 1)
    done = [ItemOutcome(item, "indexed") for item in chunk.items[:3]]
    report = ChunkReport(chunk, done, [PutOff(chunk.items[3:4], 1, 0.05), PutOff(chunk.items[4:], 0, 0.1)])
    assert ledger.commit(report)
    assert not ledger.commit(report)
    between = ledger.snapshot(job)
    assert (between.state, between.indexed, between.pending) == ("running", 3, 2)
    assert balanced(between)
    assert ledger.overdue(10) == []
    for number, id, fetches in ((2, "i3", 1), (3, "i4", 0)):
        until(lambda number=number: ledger.overdue(10) == [(job, number)])
        again = claimed(ledger, job, number)
        assert ([item.id for item in again.items], again.fetches, again.attempt) == ([id], fetches, 1)
        ledger.commit(all_indexed(again))
    assert ledger.snapshot(job).state == "done"


def test_what_is_put_off_when_its_job_was_cancelled_ends_at_once(ledger: Ledger) -> None:
    job = open_sealed(ledger, 4)
    chunk = claimed(ledger, job, 1)
    ledger.cancel(job)
    ledger.commit(ChunkReport(chunk, [], [PutOff(chunk.items, 1, 60)]))
    end = ledger.snapshot(job)
    assert (end.pending, end.failures, end.finished_at is not None) == (0, {"cancelled": 4}, True)
    assert ledger.pending_items() == 0


def test_pending_items_are_those_of_all_jobs(ledger: Ledger) -> None:
    first, second = open_sealed(ledger, 5), open_sealed(ledger, 7)
    assert ledger.pending_items() == 12
    ledger.commit(all_indexed(claimed(ledger, first, 1)))
    assert ledger.pending_items() == 7
    ledger.cancel(second)
    assert ledger.pending_items() == 0


def test_a_sealed_job_is_on_the_disk_of_a_redis_that_has_one(tmp_path: Path, settings: Settings) -> None:
    with valkey("--appendonly", "yes", "--appendfsync", "everysec", "--dir", str(tmp_path)) as url:
        client = connect_redis(settings.model_copy(update={"redis_url": url}))
        ledger = Ledger(client, settings)
        job = open_sealed(ledger, 3)
        assert client.execute_command("WAITAOF", 1, 0, 1)[0] == 1
        assert any(job.encode() in path.read_bytes() for path in tmp_path.rglob("*.aof"))


def test_a_redis_without_a_disk_takes_jobs_all_the_same(ledger: Ledger) -> None:
    assert ledger.snapshot(open_sealed(ledger, 3)).state == "queued"


def test_a_full_redis_takes_no_more_and_still_drains(settings: Settings) -> None:
    with valkey("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as url:
        client = connect_redis(settings.model_copy(update={"redis_url": url}))
        ledger, uploads = Ledger(client, settings), Uploads(client, settings)
        job = open_sealed(ledger, 5)
        sha256 = uploads.park_for_ingest(b"picture")
        for size in (10_000, 100, 1):
            with contextlib.suppress(redis.OutOfMemoryError):
                for n in range(1_000_000):
                    client.set(f"filler:{size}:{n}", bytes(size))
        with pytest.raises(redis.OutOfMemoryError):
            open_sealed(ledger, 5)
        chunk = claimed(ledger, job, 1)
        assert ledger.renew(chunk) == "held"
        assert ledger.commit(all_indexed(chunk))
        assert ledger.snapshot(job).state == "done"
        uploads.release(sha256)
        assert uploads.read(sha256) is None


def test_a_service_that_is_away_for_ever_splits_nothing(hasty: Ledger, settings: Settings) -> None:
    job = open_sealed(hasty, 10)
    for _ in range(200 + settings.max_attempts):
        hasty.release(claimed(hasty, job, 1), after=0, counts=False, reason="Qdrant was away")
    chunk = claimed(hasty, job, 1)
    assert hasty.is_exhausted(chunk)
    assert hasty.split(chunk) == "whole"


def test_what_is_in_no_queue_is_sent_however_long_the_queue_is(ledger: Ledger, hasty: Ledger) -> None:
    job = open_sealed(hasty, 2, 2, 2)
    time.sleep(0.005)
    ledger.release(claimed(ledger, job, 1), after=0, counts=True, reason="boom")
    chunk = claimed(ledger, job, 2)
    ledger.commit(ChunkReport(chunk, [], [PutOff(chunk.items, 1, 0)]))
    assert sorted(ledger.overdue(0)) == [(job, 1), (job, 4)]
    assert ledger.overdue(10) == [(job, 3)]


def test_what_was_put_off_knows_the_work_of_its_chunk(ledger: Ledger) -> None:
    job = open_sealed(ledger, 2, 2)
    chunk = claimed(ledger, job, 2)
    ledger.commit(ChunkReport(chunk, [], [PutOff(chunk.items, 1, 0)]))
    assert claimed(ledger, job, 3).mark == chunk.mark
    assert claimed(ledger, job, 1).mark != chunk.mark


def test_a_job_that_expired_leaves_the_list(ledger: Ledger, redis_client: redis.Redis) -> None:
    gone, kept = open_sealed(ledger, 1), open_sealed(ledger, 1)
    redis_client.delete(f"lookalike:job:{gone}")
    ledger.forget_expired()
    assert redis_client.zrange("lookalike:jobs", 0, -1) == [kept.encode()]
