"""What is done for a whole job, beside its chunks: its source is read, and what its feed no longer names is removed.

An errand waits in a line, and a worker takes it under a lease as it takes chunks. What a reader accepts and how far it
has read are one step, so that a reader which dies doubles nothing and loses nothing. The Lua is in `shared/lua`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import redis

from shared.contract import Source, Sync
from shared.parcels import HASH_BYTES, Parcel, id_hash, words
from shared.scripts import Scripts
from shared.settings import Settings

Line = Literal["imports", "syncs"]


def feed_folder(job: str) -> str:
    """Where an import's uploaded and downloaded files are kept until they are read: a key of shared/files.py."""
    return f"feeds/{job}"


def feed_key(job: str, name: str) -> str:
    return f"{feed_folder(job)}/{name}"


def _removal_key(collection: str) -> str:
    return f"lookalike:removing:{collection}"


@dataclass(frozen=True)
class Errand:
    """A job's errand under a lease that `token` names.

    `attempt` counts the tries since it last got on, this one included. An import is to be read from behind `position`
    on, its reader's own word, "" at first; where `is_open` is false it is read or cancelled, and only to be cleared up.
    Of so many of its items nobody can say which images they are: they are `unnamed`.
    """

    line: Line
    job: str
    collection: str
    token: str
    attempt: int
    is_open: bool
    source: Source | None = None
    position: str = ""
    sync: Sync | None = None
    last_error: str | None = None
    unnamed: int = 0


@dataclass(frozen=True)
class Kept:
    """What became of a lease that was renewed, and how much of its job is under way: chunks, and bytes parked."""

    state: Literal["held", "lost", "cancelled"]
    chunks: int
    parked: int


class Errands:
    """The lines of errands. Safe to share between threads."""

    def __init__(self, client: redis.Redis, scripts: Scripts, settings: Settings) -> None:
        self._redis = client
        self._run = scripts.run
        self._ttl = settings.job_ttl
        self._lease_ms = int(settings.lease_seconds * 1000)
        self._resend_ms = int(settings.resend_seconds * 1000)

    def take(self, line: Line) -> Errand | None:
        """The errand that has waited longest, under a new lease; None where none waits."""
        token = secrets.token_hex(8)
        taken = self._run("take", line, token, self._lease_ms)
        if taken is None:
            return None
        job, attempt, flat = taken
        record = dict(zip(flat[::2], flat[1::2], strict=True))
        source, sync = record.get(b"source"), record.get(b"sync")
        return Errand(
            line=line,
            job=job.decode(),
            collection=record[b"collection"].decode(),
            token=token,
            attempt=attempt,
            is_open=record[b"state"] in ((b"accepting",) if line == "imports" else (b"running",)),
            source=None if source is None else Source.model_validate_json(source),
            position=record.get(b"position", b"").decode(),
            sync=None if sync is None else Sync.model_validate_json(sync),
            last_error=record[b"last_error"].decode() if b"last_error" in record else None,
            unnamed=int(record.get(b"unnamed", 0)),
        )

    def keep(self, errand: Errand) -> Kept:
        """Renew the lease."""
        args = (errand.line, errand.job, errand.token, self._lease_ms)
        word, chunks, parked = self._run("keep", *args)
        return Kept(word.decode(), chunks, parked)

    def put_back(self, errand: Errand, *, after: float, counts: bool, reason: str = "") -> int:
        """A worker may take it again `after` seconds. `counts`: was this a try? How many there were since it got on."""
        args = (errand.line, errand.job, errand.token, int(after * 1000), 0 if counts else 1, reason)
        return int(self._run("put_back", *args))

    def let_go(self, errand: Errand) -> None:
        """Nothing is left to do."""
        self._run("let_go", errand.line, errand.job, errand.token)

    def is_over(self, errand: Errand) -> bool:
        """Whether somebody let it go."""
        return self._redis.zscore(f"lookalike:{errand.line}", errand.job) is None

    # Imports

    def accept(self, errand: Errand, position: str, parcels: Sequence[Parcel]) -> list[int] | None:
        """Make the items durable, each parcel a chunk, and the source read up to `position`, all in one step.

        The chunks' numbers; None where the job was cancelled, or another worker reads it.
        """
        return self._run("accept", errand.job, errand.token, position, self._resend_ms, *words(parcels))

    def pin(self, errand: Errand, source: Source) -> None:
        """From now on the job reads `source`: its revision is known."""
        self._run("pin", errand.job, errand.token, source.model_dump_json(exclude_defaults=True))

    def seal(self, errand: Errand) -> bool:
        """The source is read to its end: the job's total is known.

        False, and nothing changes, where the job was cancelled, or another worker reads it.
        """
        return bool(self._run("seal", errand.job, errand.token, self._ttl))

    # Syncs

    def ids(self, errand: Errand, after: int = 0) -> bytes | None:
        """The `id_hash` of every item of its collection that any job accepted since this one began, in no order.

        They become more at the end: what stands behind the first `after` bytes. None where not all are known: a newer
        sync is told them from its beginning on, and Redis may have lost some.
        """
        job = f"lookalike:job:{errand.job}"
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(f"lookalike:syncing:{errand.collection}")
            pipe.hget(job, "named")
            pipe.getrange(f"{job}:ids", after, -1)
            newest, named, more = pipe.execute()
        is_whole = after + len(more) == HASH_BYTES * int(named or 0)
        return more if newest == errand.job.encode() and is_whole else None

    def newer_feed(self, errand: Errand) -> str | None:
        """The sync of the same collection that came after this one."""
        newer = self._redis.hget(f"lookalike:job:{errand.job}", "newer_feed")
        return None if newer is None else newer.decode()

    def mark_removal(self, errand: Errand, ids: Sequence[str]) -> None:
        """Some of these images are about to go, and workers can see it, for as long as a lease lasts at most."""
        self._redis.set(_removal_key(errand.collection), b"".join(map(id_hash, ids)), px=self._lease_ms)

    def count_removal(self, errand: Errand, images: int) -> None:
        """So many of them go now."""
        self._redis.hincrby(f"lookalike:job:{errand.job}", "gone", images)

    def unmark_removal(self, errand: Errand) -> None:
        """Those that should go are gone, or none of them goes."""
        self._redis.delete(_removal_key(errand.collection))

    def is_removing(self, collection: str, ids: Sequence[str]) -> bool:
        """Whether one of these images may be about to go."""
        mark = self._redis.get(_removal_key(collection))
        if not mark:
            return False
        hashes = {mark[start : start + HASH_BYTES] for start in range(0, len(mark), HASH_BYTES)}
        return not hashes.isdisjoint(map(id_hash, ids))

    def compared(self, errand: Errand, absent: int, share: float) -> None:
        """So many images are absent from the feed; said before the first is removed."""
        self._run("compared", errand.job, errand.token, absent, share)

    def synced(self, errand: Errand, refused: str = "") -> None:
        """What was absent is removed, or `refused` says why not all of it is: the job is done."""
        self._run("synced", errand.job, errand.token, self._ttl, refused)
