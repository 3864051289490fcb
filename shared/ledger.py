"""The durable record of jobs in Redis: what was accepted, who works on it, how it ended.

Celery's messages are the doorbell; this is the record (ARCHITECTURE.md, "Why a ledger"). Every change is one
Lua script of `shared/lua`, so it happens whole or not at all. Counters move in `commit` and on cancelling only.
"""

from __future__ import annotations

import logging
import secrets
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import redis

from shared.contract import FAILURES, ITEMS, Chunk, ChunkReport, Failure, Item, PutOff, Source, Sync
from shared.errands import Errands
from shared.errors import FailureCode, RequestCode, RequestError
from shared.parcels import Parcel, chunk_words, pack, uploads_of, words
from shared.scripts import Scripts
from shared.settings import Settings

log = logging.getLogger("lookalike.ledger")

_JOBS = "lookalike:jobs"
_DUE = "lookalike:due"
_AGAIN = "lookalike:again"
_ACCEPTING = "lookalike:accepting"
_PENDING = "lookalike:pending"

# A chunk that breaks every run is split into so many pieces, and each is tried so often before it is split again.
_PIECES = 8
_TRIES_OF_A_PIECE = 2

# Where the picture itself is at fault, its bytes will not be better the next time.
_WORTH_KEEPING = (FailureCode.ATTEMPTS_EXHAUSTED, FailureCode.CANCELLED)

# Less than any client of Redis waits for an answer (`connect_redis`).
_DISK_MS = 1500
_MOST_AGAIN = 64
_LOOKED_AT = 100

JobState = Literal["accepting", "queued", "running", "done", "cancelled"]


@dataclass(frozen=True)
class SyncSnapshot:
    """What a job removes: so many images are `absent` from its feed, a `share` of all, both None until it has looked.

    `refused` says why none of them was removed.
    """

    absent: int | None
    share: float | None
    refused: str | None
    removed: int


@dataclass(frozen=True)
class JobSnapshot:
    """One job at one moment. While accepting, `total` is None and `pending` counts what came so far."""

    id: str
    collection: str
    state: JobState
    total: int | None
    indexed: int
    unchanged: int
    failed: int
    pending: int
    failures: dict[str, int]
    images_per_second: float | None
    eta_seconds: float | None
    created_at: float
    finished_at: float | None
    last_error: str | None
    sync: SyncSnapshot | None = None


class Ledger:
    """Jobs, chunks and leases, and the `errands` of whole jobs. Safe to share between threads."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._ttl = settings.job_ttl
        self._lease_ms = int(settings.lease_seconds * 1000)
        self._resend_ms = int(settings.resend_seconds * 1000)
        self._max_attempts = settings.max_attempts
        self._has_disk = True
        self._scripts = Scripts(client)
        self.errands = Errands(client, self._scripts, settings)

    # Accepting

    def open_job(self, collection: str, *, source: Source | None = None, sync: Sync | None = None) -> str:
        """A new job in state `accepting`; returns its id.

        Of a `source` it is an import, which a worker reads from `begin_import` on.
        """
        job = f"job_{secrets.token_hex(10)}"
        now = time.time()
        fields: dict[str, str | int] = {
            "collection": collection,
            "state": "accepting",
            "created_at": int(now * 1000),
        }
        if source:
            fields["source"] = source.model_dump_json(exclude_defaults=True)
            fields["holder:imports"] = "nobody"
        if sync:
            fields["sync"] = sync.model_dump_json()
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(_key(job), mapping=fields)
            pipe.zadd(_JOBS, {job: int(now * 1_000_000)})
            pipe.zadd(_ACCEPTING, {job: int(now * 1000)})
            if sync:
                pipe.set(f"lookalike:syncing:{collection}", job, get=True)
            *_, overtaken = pipe.execute()
        if sync and overtaken:
            self._redis.hset(_key(overtaken.decode()), "newer_feed", job)
        return job

    def accept_chunk(self, job: str, items: Sequence[Item]) -> int:
        """Make `items` durable as the job's next chunk; returns its number (from 1).

        RequestError(JOB_CANCELLED) where the job takes no more.
        """
        numbers = self._run("accept", job, "", "", self._resend_ms, *words([Parcel(items)]))
        if numbers is None:
            raise RequestError(
                RequestCode.JOB_CANCELLED, f"Job `{job}` was cancelled while its body was read."
            )
        return int(numbers[0])

    def seal_job(self, job: str) -> None:
        """The body is read to its end: the total is known. Waits for Redis's disk, where Redis can say so."""
        self._run_to_disk("seal", job, "", self._ttl)

    def begin_import(self, job: str) -> bool:
        """What the import's source needs is here: a worker may read it. Waits for Redis's disk too.

        False where the job was cancelled meanwhile.
        """
        return bool(self._run_to_disk("begin", job))

    def _run_to_disk(self, script: str, *args: Any) -> Any:
        with self._redis.client() as connection:  # WAITAOF speaks of what its own connection wrote
            answer = self._scripts.run(script, *args, client=connection)
            self._await_disk(connection)
        return answer

    def _await_disk(self, connection: redis.Redis) -> None:
        """WAITAOF (Redis 7.2, Valkey)."""
        if not self._has_disk:
            return
        try:
            synced, _ = connection.execute_command("WAITAOF", 1, 0, _DISK_MS)
        except redis.TimeoutError:
            synced = 0
        except redis.ResponseError as error:
            self._has_disk = False
            log.warning(
                "Redis keeps no append-only file that can be waited for (%s): a crash can lose jobs.", error
            )
            return
        if not synced:
            log.warning("Redis did not write to its disk within %d ms.", _DISK_MS)

    # Working

    def claim(self, job: str, number: int) -> Chunk | None:
        """The chunk under a new lease, or None where it has ended or another worker holds it.

        A chunk whose attempts are used up comes back too, with `attempt > max_attempts`: see `is_exhausted`.
        """
        token = secrets.token_hex(8)
        claimed = self._run("claim", job, number, token, self._lease_ms, self._ttl)
        if claimed is None:
            return None
        collection, body, attempt, fetches, origin = claimed
        return Chunk(
            job,
            number,
            collection.decode(),
            token,
            int(attempt),
            ITEMS.validate_json(zlib.decompress(body)),
            int(fetches),
            None if int(origin) == number else int(origin),
        )

    def look(self, job: str, number: int) -> Literal["fresh", "suspect"] | None:
        """What a claim would find: nothing to do, a chunk, or one that may break the next worker too.

        Suspect is a chunk whose last run broke, or one of its pieces.
        """
        word = self._run("look", job, number)
        return word.decode() if word else None

    def is_exhausted(self, chunk: Chunk) -> bool:
        """Whether the chunk broke too many runs to be tried again."""
        return chunk.attempt > self._max_attempts

    def split(self, chunk: Chunk) -> Literal["split", "whole", "lost"]:
        """Put pieces in the place of a chunk that broke every run, in search of the item at fault.

        It stays whole where there is nothing to search for: items of one id stay together, and a service that was
        away too often is no item's fault.
        """
        pieces = _pieces(chunk.items)
        if len(pieces) < 2:
            return "whole"
        attempts = max(min(1, self._max_attempts - 1), self._max_attempts - _TRIES_OF_A_PIECE)
        flat = (word for piece in pieces for word in chunk_words(piece))
        return self._run("split", chunk.job, chunk.number, chunk.token, attempts, *flat).decode()

    def renew(self, chunk: Chunk) -> Literal["held", "lost", "cancelled"]:
        """Keep the lease for its whole length from now on."""
        return self._run("renew", chunk.job, chunk.number, chunk.token, self._lease_ms).decode()

    def release(self, chunk: Chunk, *, after: float, counts: bool, reason: str) -> None:
        """Give the chunk back; it is sent again `after` seconds. `counts`: was this an attempt?"""
        self._run(
            "release",
            chunk.job,
            chunk.number,
            chunk.token,
            int(after * 1000),
            0 if counts else 1,
            reason,
            self._ttl,
        )

    def commit(self, report: ChunkReport) -> bool:
        """Record how the chunk's items ended. False where that was recorded before: then nothing changes.

        Parked bytes are let go of with that, save those of items that a retry may index yet.
        """
        failures = report.failures()
        codes = Counter(failure.code for failure in failures)
        rows = pack(FAILURES.dump_json(failures, exclude_defaults=True)) if failures else b""
        return bool(
            self._run(
                "commit",
                report.chunk.job,
                report.chunk.number,
                self._ttl,
                report.count("indexed"),
                report.count("unchanged"),
                report.count("failed"),
                rows,
                uploads_of(each.item for each in report.outcomes if each.code not in _WORTH_KEEPING),
                uploads_of(each.item for each in report.outcomes if each.code in _WORTH_KEEPING),
                len(report.put_off),
                *(word for later in report.put_off for word in _put_off(later)),
                *(part for pair in codes.items() for part in pair),
            )
        )

    def overdue(self, room: int) -> list[tuple[str, int]]:
        """Chunks (job, number) that stand still: no live lease, not sent lately.

        Up to 64 of those that are in no queue for sure, and up to `room` of those that may be. Each is counted as
        sent from now on. Cancelled chunks whose lease ran out are ended on the way.
        """
        flat = self._run("overdue", _MOST_AGAIN, room, self._resend_ms, self._ttl)
        return [(job.decode(), int(number)) for job, number in zip(flat[::2], flat[1::2], strict=True)]

    def abandoned(self, idle_seconds: float) -> list[str]:
        """Jobs whose body has brought no chunk for so long: the API that read it died, or lost Redis."""
        seconds, _ = self._redis.time()  # the clock that `accept` reads, whatever ours says
        oldest = int((seconds - idle_seconds) * 1000)
        return [raw_id.decode() for raw_id in self._redis.zrangebyscore(_ACCEPTING, "-inf", oldest)]

    def forget_expired(self) -> None:
        """Take the oldest jobs off the list whose time to be read is over."""
        oldest = self._redis.zrange(_JOBS, 0, _LOOKED_AT - 1)
        with self._redis.pipeline(transaction=False) as pipe:
            for raw_id in oldest:
                pipe.exists(_key(raw_id.decode()))
            gone = [raw_id for raw_id, stands in zip(oldest, pipe.execute(), strict=True) if not stands]
        if gone:
            self._redis.zrem(_JOBS, *gone)

    # Reading and cancelling

    def cancel(self, job: str, word: str = "") -> bool:
        """What is not started is never done. False where the job had ended. `word` says why."""
        self._require(job)
        return bool(self._run("cancel", job, self._ttl, word))

    def snapshot(self, job: str) -> JobSnapshot:
        """The job now; RequestError(JOB_NOT_FOUND) where it never was or has expired."""
        return _snapshot(job, self._require(job), time.time())

    def source(self, job: str) -> Source | None:
        """What an import reads; None of a job whose items came in a body."""
        source = self._redis.hget(_key(job), "source")
        return None if source is None else Source.model_validate_json(source)

    def jobs(self, limit: int, cursor: str | None = None) -> tuple[list[JobSnapshot], str | None]:
        """A page of jobs, newest first, and the next page's cursor."""
        newest = f"({cursor}" if cursor else "+inf"
        page = self._redis.zrevrangebyscore(_JOBS, newest, "-inf", start=0, num=limit, withscores=True)
        snapshots = []
        for raw_id, _ in page:
            record = self._redis.hgetall(_key(raw_id.decode()))
            if record:
                snapshots.append(_snapshot(raw_id.decode(), record, time.time()))
            else:
                self._redis.zrem(_JOBS, raw_id)
        return snapshots, f"{page[-1][1]:.0f}" if len(page) == limit else None

    def unfinished_jobs(self, collection: str) -> list[str]:
        """Ids of the jobs that have not ended, of the collection and of each of its versions (`shop@2`)."""
        jobs = [raw_id.decode() for raw_id in self._redis.zrevrange(_JOBS, 0, -1)]
        records = [(job, self._redis.hmget(_key(job), "collection", "state")) for job in jobs]
        return [
            job
            for job, (name, state) in records
            if _is_of(name, collection) and state not in (b"done", b"cancelled")
        ]

    def failures(self, job: str, limit: int, cursor: str | None = None) -> tuple[list[Failure], str | None]:
        """A page of the job's failures and the next page's cursor, `<entry>.<row>` of the failure list."""
        self._require(job)
        entry, row = _parse_cursor(cursor)
        page: list[Failure] = []
        while len(page) < limit:
            packed = self._redis.lindex(_key(job, "failures"), entry)
            if packed is None:
                return page, None
            rows = _failure_rows(packed)
            taken = rows[row : row + limit - len(page)]
            page += taken
            entry, row = (entry, row + len(taken)) if row + len(taken) < len(rows) else (entry + 1, 0)
        more = self._redis.llen(_key(job, "failures")) > entry
        return page, f"{entry}.{row}" if more else None

    def all_failures(self, job: str) -> Iterator[Failure]:
        """Every failure of the job, entry by entry."""
        cursor: str | None = None
        while True:
            page, cursor = self.failures(job, 1000, cursor)
            yield from page
            if cursor is None:
                return

    def pending_chunks(self) -> int:
        """Chunks of all jobs that have not ended."""
        return int(self._redis.zcard(_DUE) + self._redis.zcard(_AGAIN))

    def pending_items(self) -> int:
        """Items of all jobs that have not ended."""
        return int(self._redis.get(_PENDING) or 0)

    def _require(self, job: str) -> dict[bytes, bytes]:
        record = self._redis.hgetall(_key(job))
        if not record:
            raise RequestError(
                RequestCode.JOB_NOT_FOUND,
                f"There is no job `{job}`. Ended jobs can be read for {self._ttl // 3600} hours.",
            )
        return record

    def _run(self, script: str, *args: Any) -> Any:
        return self._scripts.run(script, *args)


def _is_of(name: bytes | None, collection: str) -> bool:
    """Whether a job's collection is this one, or a version of it."""
    return name is not None and (name.decode() == collection or name.decode().startswith(f"{collection}@"))


def _key(job: str, part: str | None = None) -> str:
    return f"lookalike:job:{job}:{part}" if part else f"lookalike:job:{job}"


def _put_off(later: PutOff) -> tuple[int, bytes, str, int, int]:
    return *chunk_words(later.items), int(later.pause * 1000), later.fetches


def _pieces(items: Sequence[Item]) -> list[list[Item]]:
    """Up to eight parts of about one size, items of one id together: so each still knows its chunk's own work."""
    by_id: dict[str, list[Item]] = {}
    for item in items:
        by_id.setdefault(item.id, []).append(item)
    same_ids = list(by_id.values())
    size = -(-len(same_ids) // _PIECES)
    return [
        [item for group in same_ids[start : start + size] for item in group]
        for start in range(0, len(same_ids), size)
    ]


def _failure_rows(packed: bytes) -> list[Failure]:
    kind, body = packed[:1], zlib.decompress(packed[1:])
    if kind == b"F":
        return FAILURES.validate_json(body)
    return [
        Failure(
            item=item,
            code=FailureCode.CANCELLED,
            detail="The job was cancelled before this item was started.",
            retryable=True,
            attempts=0,
        )
        for item in ITEMS.validate_json(body)
    ]


def _parse_cursor(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return 0, 0
    entry, dot, row = cursor.partition(".")
    if not (dot and entry.isascii() and entry.isdigit() and row.isascii() and row.isdigit()):
        raise RequestError(RequestCode.INVALID_REQUEST, f"`{cursor}` is not a cursor that a page gave out.")
    return int(entry), int(row)


def _snapshot(job: str, record: dict[bytes, bytes], now: float) -> JobSnapshot:
    def number(name: str) -> int:
        return int(record.get(name.encode(), 0))

    def moment(name: str) -> float | None:
        return int(record[name.encode()]) / 1000 if name.encode() in record else None

    indexed, unchanged, failed = number("indexed"), number("unchanged"), number("failed")
    ended = indexed + unchanged + failed
    pending = number("accepted") - ended
    state = record[b"state"].decode()
    started, finished = moment("started_at"), moment("finished_at")
    busy = (finished or now) - started if started else 0.0
    rate = ended / busy if busy > 0 and ended else None
    return JobSnapshot(
        id=job,
        collection=record[b"collection"].decode(),
        state=state,  # type: ignore[arg-type]
        total=number("total") if b"total" in record else None,
        indexed=indexed,
        unchanged=unchanged,
        failed=failed,
        pending=pending,
        failures={
            name[5:].decode(): int(count)
            for name, count in sorted(record.items())
            if name.startswith(b"code:")
        },
        images_per_second=round(rate, 2) if rate else None,
        eta_seconds=round(pending / rate, 1) if rate and pending and state != "cancelled" else None,
        created_at=moment("created_at") or 0.0,
        finished_at=finished,
        last_error=record[b"last_error"].decode() if b"last_error" in record else None,
        sync=_sync_snapshot(record) if b"sync" in record else None,
    )


def _sync_snapshot(record: dict[bytes, bytes]) -> SyncSnapshot:
    return SyncSnapshot(
        absent=int(record[b"absent"]) if b"absent" in record else None,
        share=float(record[b"absent_share"]) if b"absent_share" in record else None,
        refused=record[b"sync_refused"].decode() if b"sync_refused" in record else None,
        removed=int(record.get(b"removed", 0)),
    )
