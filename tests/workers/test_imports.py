"""workers/imports.py with real reading processes: what a source names is accepted once, whatever dies on the way."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from shared.broker import Broker, make_celery
from shared.contract import Chunk, ChunkReport, ItemOutcome, Source, Sync
from shared.errands import Errand, feed_key
from shared.files import Files
from shared.ledger import JobSnapshot, Ledger
from shared.uploads import Uploads
from tests.image_server import HOSTILE, ImageServer, jpeg
from workers import imports, versions
from workers.errands import Held, Runner
from workers.imports import Imports
from workers.lease import Leases
from workers.parts import Parts
from workers.sources.rows import SourceError

ROWS = 300
FEED = "id,url,price\n" + "".join(f"p{n},http://shop.example/{n}.jpg,{n}.5\n" for n in range(ROWS))

# More than a pipe holds.
LONG = "id,url,about\n" + "".join(f"p{n},http://shop.example/{n}.jpg,{'words ' * 500}\n" for n in range(ROWS))


@pytest.fixture
def shop() -> Iterator[ImageServer]:
    with ImageServer(
        {"/feed.csv": FEED.encode(), "/long.csv": LONG.encode(), "/broken.csv": b"id,picture\n1,x\n"}
    ) as server:
        yield server


@pytest.fixture
def reader(parts: Parts, tmp_path: Path) -> Parts:
    """The tools of a worker that keeps files, whose leases run out soon once they are renewed no longer."""
    settings = parts.settings.model_copy(
        update={
            "files": str(tmp_path / "files"),
            "chunk_size": 16,
            "import_ahead": 10_000,
            "import_folders": (tmp_path / "feeds",),
            "lease_seconds": 2.0,
        }
    )
    ledger = Ledger(parts.redis, settings)
    leases = Leases(ledger, settings.lease_seconds)
    yield replace(parts, settings=settings, files=Files(settings), ledger=ledger, leases=leases)
    leases.close()


def runner(reader: Parts, kind: type[Imports] = Imports) -> Runner:
    work = kind(reader, Broker(make_celery(reader.settings)))
    return Runner(work, reader.ledger.errands, reader.leases)


def begun(reader: Parts, **source: Any) -> str:
    job = reader.ledger.open_job("shop", source=Source(**source))
    reader.ledger.begin_import(job)
    return job


def read(reader: Parts, **source: Any) -> JobSnapshot:
    """A job whose source was read as far as it can be."""
    job = begun(reader, **source)
    runner(reader).run()
    return reader.ledger.snapshot(job)


def accepted(ledger: Ledger, job: str) -> list[str]:
    """The ids of all that the job accepted, in order."""
    ids: list[str] = []
    number = 1
    while chunk := ledger.claim(job, number):
        ids += [item.id for item in chunk.items]
        number += 1
    return ids


def done(chunk: Chunk) -> ChunkReport:
    return ChunkReport(chunk, [ItemOutcome(item, "indexed") for item in chunk.items])


def finish_all(ledger: Ledger, job: str, while_true: Callable[[], bool]) -> None:
    """Index whatever waits, as workers do."""
    while while_true():
        for number in range(1, ROWS):
            if chunk := ledger.claim(job, number):
                ledger.commit(done(chunk))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.02)


def parquet(rows: int, side: int = 24) -> bytes:
    """A table of pictures, as `datasets` writes one."""
    pictures = [{"bytes": jpeg(n, (side, side)), "path": None} for n in range(rows)]
    table = pa.table({"image": pictures, "name": [f"n{n}" for n in range(rows)], "age": list(range(rows))})
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=7)
    return file.getvalue()


def keep(reader: Parts, job: str, name: str, data: bytes) -> None:
    assert reader.files
    reader.files.write(feed_key(job, name), data)


def begun_upload(reader: Parts, data: bytes, **source: Any) -> str:
    job = reader.ledger.open_job("shop", source=Source(upload=["1-feed.parquet"], **source))
    keep(reader, job, "1-feed.parquet", data)
    reader.ledger.begin_import(job)
    return job


def parked(client: redis.Redis) -> int:
    return len(list(client.scan_iter("lookalike:upload:*")))


def reading_process() -> psutil.Process | None:
    """The one that reads a source for this process."""
    for child in psutil.Process().children():
        try:
            if "workers.sources" in child.cmdline():
                return child
        except psutil.Error:
            continue
    return None


def test_a_feed_is_fetched_and_every_row_becomes_an_item(reader: Parts, shop: ImageServer) -> None:
    job = read(reader, files=[shop.url("/feed.csv")])
    assert (job.state, job.total, job.pending) == ("queued", ROWS, ROWS)
    chunk = reader.ledger.claim(job.id, 1)
    assert chunk
    assert chunk.items[3].model_dump(exclude_defaults=True) == {
        "id": "p3",
        "url": "http://shop.example/3.jpg",
        "payload": {"price": 3.5},
    }
    assert len(chunk.items) == reader.settings.chunk_size


def test_every_chunk_is_sent(reader: Parts, shop: ImageServer) -> None:
    job = read(reader, files=[shop.url("/feed.csv")])
    assert reader.redis.llen("ingest") == reader.ledger.pending_chunks() == -(-ROWS // 16)
    assert job.total == ROWS


def test_its_feeds_are_kept_no_longer_than_it_is_read(reader: Parts, shop: ImageServer) -> None:
    job = read(reader, files=[shop.url("/feed.csv")])
    assert reader.files
    assert reader.files.read(feed_key(job.id, "1-feed.csv")) is None
    assert not reader.redis.zcard("lookalike:imports")


def test_pictures_of_an_upload_are_parked_for_those_who_index_them(
    reader: Parts, redis_client: redis.Redis
) -> None:
    job = begun_upload(reader, parquet(20), id_column="name")
    runner(reader).run()
    chunk = reader.ledger.claim(job, 1)
    assert chunk
    item = chunk.items[5]
    assert (item.id, item.payload, item.url) == ("n5", {"age": 5}, None)
    assert Uploads(redis_client, reader.settings).read(item.upload or "") == jpeg(5, (24, 24))
    assert parked(redis_client) == 20


def test_it_reads_no_further_ahead_than_its_chunks_are_done(reader: Parts, shop: ImageServer) -> None:
    bounded = replace(reader, settings=reader.settings.model_copy(update={"import_ahead": 3}))
    job = begun(bounded, files=[shop.url("/feed.csv")])
    thread = threading.Thread(target=runner(bounded).run)
    thread.start()
    ledger, most = reader.ledger, 0
    for number in range(1, -(-ROWS // 16) + 1):
        until(lambda: ledger.look(job, number))  # noqa: B023
        most = max(most, len(reader.redis.hkeys(f"lookalike:job:{job}:chunks")))
        chunk = ledger.claim(job, number)
        assert chunk
        ledger.commit(done(chunk))
    thread.join(60)
    assert most <= 3
    assert (ledger.snapshot(job).state, ledger.snapshot(job).indexed) == ("done", ROWS)


@pytest.mark.parametrize(("bound", "most"), [(40, 32), (1, 16)])
def test_no_more_than_so_many_bytes_are_parked_or_one_batch(
    reader: Parts, monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis, bound: int, most: int
) -> None:
    data, size = parquet(60, side=64), len(jpeg(1, (64, 64)))
    monkeypatch.setattr(imports, "_MOST_PARKED", bound * size)
    job = begun_upload(reader, data)
    thread = threading.Thread(target=runner(reader).run)
    thread.start()
    ledger = reader.ledger
    for number in range(1, 5):
        until(lambda: ledger.look(job, number))  # noqa: B023
        assert parked(redis_client) <= most
        chunk = ledger.claim(job, number)
        assert chunk
        ledger.commit(done(chunk))
    thread.join(60)
    assert (ledger.snapshot(job).state, parked(redis_client)) == ("done", 0)
    assert int(redis_client.hget(f"lookalike:job:{job}", "parked") or 0) == 0


class Dies(Imports):
    """A reader that dies right after, or right before, it has accepted its fifth batch."""

    after = True
    batches = 0

    def _accept(self, *args: Any) -> None:
        self.batches += 1
        if self.batches == 5 and not self.after:
            raise SystemExit
        super()._accept(*args)
        if self.batches == 5:
            raise SystemExit


class DiesBefore(Dies):
    after = False


@pytest.mark.parametrize("kind", [Dies, DiesBefore])
def test_another_reader_goes_on_where_one_died(reader: Parts, shop: ImageServer, kind: type[Imports]) -> None:
    job = begun(reader, files=[shop.url("/feed.csv")])
    with pytest.raises(SystemExit):
        runner(reader, kind).run()
    assert reader.ledger.snapshot(job).state == "accepting"
    second = runner(reader)
    until(lambda: second.run() or reader.ledger.snapshot(job).state == "queued")
    assert accepted(reader.ledger, job) == [f"p{n}" for n in range(ROWS)]
    assert shop.requests["/feed.csv"] == 1


def test_who_reads_on_after_another_finds_the_feed_as_it_was(reader: Parts, shop: ImageServer) -> None:
    job = begun(reader, files=[shop.url("/feed.csv")])
    with pytest.raises(SystemExit):
        runner(reader, Dies).run()
    shop.stop()
    second = runner(reader)
    until(lambda: second.run() or reader.ledger.snapshot(job).state == "queued")
    assert len(accepted(reader.ledger, job)) == ROWS


def test_a_reader_that_comes_back_too_late_accepts_nothing_and_keeps_nothing_parked(
    reader: Parts, redis_client: redis.Redis
) -> None:
    class Sleeps(Imports):
        def _park(self, batch: imports.Batch) -> Any:
            parked_items = super()._park(batch)
            if batch.position == "32":
                redis_client.zadd("lookalike:imports", {job: 0})
                assert self._errands.take("imports")
            return parked_items

    job = begun_upload(reader, parquet(64))
    runner(reader, Sleeps).run()
    assert len(accepted(reader.ledger, job)) == parked(redis_client) == 16


def test_a_cancelled_job_is_read_no_further_and_its_feed_is_gone(reader: Parts, shop: ImageServer) -> None:
    bounded = replace(reader, settings=reader.settings.model_copy(update={"import_ahead": 2}))
    job = begun(bounded, files=[shop.url("/feed.csv")])
    thread = threading.Thread(target=runner(bounded).run)
    thread.start()
    until(lambda: reader.ledger.snapshot(job).pending == 32)
    reader.ledger.cancel(job)
    thread.join(30)
    assert not thread.is_alive()
    end = reader.ledger.snapshot(job)
    assert (end.state, end.failures, end.pending) == ("cancelled", {"cancelled": 32}, 0)
    assert reader.files
    assert reader.files.read(feed_key(job, "1-feed.csv")) is None
    assert not reader.redis.zcard("lookalike:imports")
    assert reading_process() is None


def test_a_source_that_cannot_be_read_ends_its_job_with_words(reader: Parts, shop: ImageServer) -> None:
    job = read(reader, files=[shop.url("/broken.csv")])
    assert job.state == "cancelled"
    assert job.last_error
    assert "`url`" in job.last_error
    assert "`picture`" in job.last_error


@pytest.mark.parametrize(
    ("path", "words"),
    [("/nothing.csv", "404"), ("/status?code=410", "410"), ("/huge", "LOOKALIKE_FEED_MAX_BYTES")],
)
def test_a_feed_that_cannot_be_fetched_ends_its_job_with_words(
    reader: Parts, shop: ImageServer, path: str, words: str
) -> None:
    small = replace(reader, settings=reader.settings.model_copy(update={"feed_max_bytes": 100_000}))
    job = read(small, files=[shop.url(path)], format="csv")
    assert (job.state, job.total) == ("cancelled", 0)
    assert words in (job.last_error or "")


def test_a_feed_at_a_private_address_is_refused(reader: Parts) -> None:
    job = read(reader, files=["http://169.254.169.254/latest/feed.csv"])
    assert job.state == "cancelled"
    assert "169.254.169.254" in (job.last_error or "")


def test_a_fault_that_may_pass_is_tried_three_times(reader: Parts, shop: ImageServer) -> None:
    job = begun(reader, files=[shop.url("/status?code=503")], format="csv")
    tries = runner(reader)
    for _ in range(3):
        assert reader.ledger.snapshot(job).state == "accepting"
        reader.redis.zadd("lookalike:imports", {job: 0})
        tries.run()
    end = reader.ledger.snapshot(job)
    assert (end.state, shop.requests["/status"]) == ("cancelled", 3)
    assert "503" in (end.last_error or "")


def test_a_reading_process_that_dies_is_followed_by_another_and_no_row_is_lost(
    reader: Parts, shop: ImageServer
) -> None:
    bounded = replace(reader, settings=reader.settings.model_copy(update={"import_ahead": 2}))
    job = begun(bounded, files=[shop.url("/long.csv")])
    thread = threading.Thread(target=runner(bounded).run)
    thread.start()
    until(lambda: reader.ledger.snapshot(job).pending)
    process = reading_process()
    assert process
    process.kill()
    finish_all(reader.ledger, job, while_true=thread.is_alive)
    half = reader.ledger.snapshot(job)
    assert half.state == "accepting"
    assert "SIGKILL" in (half.last_error or "")
    reader.redis.zadd("lookalike:imports", {job: 0})
    runner(reader).run()
    finish_all(reader.ledger, job, while_true=lambda: reader.ledger.snapshot(job).pending > 0)
    end = reader.ledger.snapshot(job)
    assert (end.state, end.total, end.indexed) == ("done", ROWS, ROWS)
    assert 0 < half.indexed < ROWS


def test_a_worker_that_is_to_end_gives_the_import_back_at_once(reader: Parts, shop: ImageServer) -> None:
    class Ends(Imports):
        def _await_room(self, size: int, hand: Held) -> None:
            self._parts.leases.refuse()
            super()._await_room(size, hand)

    job = begun(reader, files=[shop.url("/feed.csv")])
    runner(reader, Ends).run()
    reader.leases.refused = False
    taken = reader.ledger.errands.take("imports")
    assert taken
    assert (taken.job, taken.attempt, taken.is_open) == (job, 1, True)


def test_a_file_of_this_machine_is_read_below_the_named_folders_only(reader: Parts, tmp_path: Path) -> None:
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "feed.csv").write_text(FEED)
    (tmp_path / "secret.csv").write_text(FEED)
    (tmp_path / "feeds" / "link.csv").symlink_to(tmp_path / "secret.csv")
    assert read(reader, files=[str(tmp_path / "feeds" / "feed.csv")]).total == ROWS
    for path in ("feeds/link.csv", "feeds/../secret.csv", "secret.csv", "feeds/nothing.csv"):
        job = read(reader, files=[str(tmp_path / path)])
        assert (job.state, job.total) == ("cancelled", 0), path


def test_an_import_that_is_synchronised_keeps_the_ids_of_all_it_accepted(
    reader: Parts, shop: ImageServer
) -> None:
    job = reader.ledger.open_job("shop", source=Source(files=[shop.url("/feed.csv")]), sync=Sync())
    reader.ledger.begin_import(job)
    runner(reader).run()
    errand = Errand("syncs", job, "shop", "", 1, True)
    assert len(reader.ledger.errands.ids(errand) or b"") == 8 * ROWS


@pytest.mark.parametrize("force", [False, True])
def test_a_synchronised_feed_that_may_have_broken_off_is_refused_also_where_it_is_forced(
    reader: Parts, shop: ImageServer, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + FEED.encode()
    monkeypatch.setitem(HOSTILE, "/unmeasured.csv", lambda handler: handler.raw(answer))
    source = Source(files=[shop.url("/unmeasured.csv")])
    job = reader.ledger.open_job("shop", source=source, sync=Sync(force=force))
    reader.ledger.begin_import(job)
    runner(reader).run()
    end = reader.ledger.snapshot(job)
    assert (end.state, end.total, "Content-Length" in (end.last_error or "")) == ("cancelled", 0, True)


def test_a_file_that_was_replaced_between_two_tries_ends_its_job_with_words(
    reader: Parts, tmp_path: Path
) -> None:
    class Breaks(Imports):
        def _send(self, job: str, number: int) -> None:
            raise ChildProcessError("after the first chunk")

    (tmp_path / "feeds").mkdir()
    feed = tmp_path / "feeds" / "feed.csv"
    feed.write_text(FEED)
    job = begun(reader, files=[str(feed)])
    runner(reader, Breaks).run()
    feed.write_text(FEED.replace("p0,", "new,"))
    reader.redis.zadd("lookalike:imports", {job: 0})
    runner(reader).run()
    end = reader.ledger.snapshot(job)
    assert (end.state, end.total) == ("cancelled", 16)
    assert "`feed.csv`" in (end.last_error or "")


def test_a_full_redis_takes_nothing_in_half(reader: Parts, redis_client: redis.Redis) -> None:
    job = begun_upload(reader, parquet(40))

    class Fills(Imports):
        def _park(self, batch: imports.Batch) -> Any:
            items = super()._park(batch)
            redis_client.config_set("maxmemory", redis_client.info("memory")["used_memory"] // 2)
            return items

    try:
        runner(reader, Fills).run()
    finally:
        redis_client.config_set("maxmemory", 0)
    assert (reader.ledger.snapshot(job).pending, parked(redis_client)) == (0, 0)
    until(lambda: runner(reader).run() or reader.ledger.snapshot(job).state == "queued")
    assert len(accepted(reader.ledger, job)) == 40


def test_a_redis_that_fills_up_while_pictures_are_parked_keeps_none_of_them(
    reader: Parts, redis_client: redis.Redis
) -> None:
    class Filling(Uploads):
        parked = 0

        def park_for_ingest(self, data: bytes) -> str:
            self.parked += 1
            if self.parked == 10:
                redis_client.config_set("maxmemory", redis_client.info("memory")["used_memory"] // 2)
            return super().park_for_ingest(data)

    job = begun_upload(reader, parquet(16))
    try:
        runner(replace(reader, uploads=Filling(redis_client, reader.settings))).run()
        assert "maxmemory" in (reader.ledger.snapshot(job).last_error or "")
    finally:
        redis_client.config_set("maxmemory", 0)
    assert parked(redis_client) == 0


def test_a_reader_that_always_dies_before_it_gets_on_ends_its_job(reader: Parts) -> None:
    class DiesFirst(Imports):
        def _rows(self, errand: Errand, *_: Any) -> Any:
            yield imports.Batch("0", [], {})
            raise ChildProcessError("The process that read it died.")

    job = begun(reader, dataset="marmal88/skin_cancer")
    for _ in range(4):
        reader.redis.zadd("lookalike:imports", {job: 0})
        runner(reader, DiesFirst).run()
    end = reader.ledger.snapshot(job)
    assert (end.state, "died" in (end.last_error or "")) == ("cancelled", True)


class Overtaken(Imports):
    """A reader whose lease runs out, and another takes the import, after it has read the last row."""

    def _read(self, errand: Errand, hand: Held) -> None:
        super()._read(errand, hand)
        self.other = self._overtake(errand)

    def _overtake(self, errand: Errand) -> Errand:
        self._parts.redis.zadd("lookalike:imports", {errand.job: 0})
        other = self._errands.take("imports")
        assert other
        return other


def test_who_was_overtaken_leaves_the_feeds_to_who_reads_now(reader: Parts, shop: ImageServer) -> None:
    job = begun(reader, files=[shop.url("/feed.csv")])
    runner(reader, Overtaken).run()
    assert reader.ledger.snapshot(job).state == "accepting"
    assert reader.files
    assert reader.files.read(feed_key(job, "1-feed.csv")) == FEED.encode()


@pytest.mark.parametrize("breaks", [False, True])
def test_what_a_reader_keeps_after_another_has_cleared_up_does_not_stay(reader: Parts, breaks: bool) -> None:
    class Late(Overtaken):
        def _read(self, errand: Errand, hand: Held) -> None:
            other = self._overtake(errand)
            self._errands.seal(other)
            self._errands.let_go(other)
            keep(reader, errand.job, "1-feed.csv", b"url\n")
            if breaks:
                raise SourceError("There is no column `url`.")
            hand.look()

    job = begun(reader, files=["https://shop.example/feed.csv"])
    runner(reader, Late).run()
    assert reader.files
    assert reader.files.read(feed_key(job, "1-feed.csv")) is None


def test_a_copy_that_finds_nothing_to_copy_is_given_back_too_by_a_worker_that_is_to_end(
    reader: Parts,
) -> None:
    class Ends(Imports):
        def _read(self, errand: Errand, hand: Held) -> None:
            self._parts.leases.refuse()
            super()._read(errand, hand)

    reader.index.create("shop", reader.models.default.card)
    versions.add(reader.index, reader.models.default.card, "shop")
    job = reader.ledger.open_job("shop@2", source=Source(collection="shop@1"))
    reader.ledger.begin_import(job)
    runner(reader, Ends).run()
    assert reader.ledger.snapshot(job).state == "accepting"
    reader.leases.refused = False
    runner(reader).run()
    assert reader.ledger.snapshot(job).state == "done"
