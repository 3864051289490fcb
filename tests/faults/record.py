"""What stands in Redis, read past the product: chunks, leases, messages, and whether the numbers add up."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

_ENDS = ("indexed", "unchanged", "failed")


class Record:
    """The ledger's keys are those of shared/lua/prelude.lua, the queue's are Celery's."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url, socket_timeout=5, retry=Retry(NoBackoff(), 0), decode_responses=False
        )

    def held(self, job: str) -> set[int]:
        """Chunks under a live lease."""
        (seconds, micros), leases = self._whole("time", ("hgetall", _key(job, "leases")))
        now = seconds * 1000 + micros / 1000
        until = {int(field[6:]): int(ms) for field, ms in leases.items() if field.startswith(b"until:")}
        return {chunk for chunk, ms in until.items() if ms > now}

    def pending(self, job: str) -> set[int]:
        """Chunks that have not ended."""
        return {int(chunk) for chunk in self._redis.hkeys(_key(job, "chunks"))}

    def standing(self, job: str, chunks: set[int]) -> set[int]:
        """Which of `chunks`, or of the pieces that they were split into, have not ended."""
        pending, leases = self._whole(("hkeys", _key(job, "chunks")), ("hgetall", _key(job, "leases")))
        origin = {
            int(field[7:]): int(chunk) for field, chunk in leases.items() if field.startswith(b"origin:")
        }
        return {chunk for chunk in map(int, pending) if origin.get(chunk, chunk) in chunks}

    def ended(self, job: str) -> int:
        """Items of the job that have ended."""
        return sum(int(count or 0) for count in self._redis.hmget(_key(job), _ENDS))

    def state(self, job: str) -> str | None:
        state = self._redis.hget(_key(job), "state")
        return state.decode() if state else None

    def contradiction(self, job: str) -> str | None:
        """What does not add up at this moment: what was accepted has ended, or stands in a chunk, and never both."""
        job_key, chunks = self._whole(("hgetall", _key(job)), ("hvals", _key(job, "chunks")))
        if not job_key:
            return f"{job} is gone"
        ended = sum(int(job_key.get(name.encode(), 0)) for name in _ENDS)
        pending = sum(int(body.split(b":", 1)[0]) for body in chunks)
        accepted = int(job_key.get(b"accepted", 0))
        if ended + pending != accepted:
            return f"{job}: {ended} ended and {pending} stand in chunks, but {accepted} were accepted"
        coded = sum(int(count) for field, count in job_key.items() if field.startswith(b"code:"))
        failed = int(job_key.get(b"failed", 0))
        return None if coded == failed else f"{job}: {failed} items failed, {coded} with a code"

    def accepting(self) -> set[str]:
        """Jobs whose body is being read."""
        return {job.decode() for job in self._redis.zrange("lookalike:accepting", 0, -1)}

    def workers(self) -> set[str]:
        """Names of the ingest workers that said lately that they live."""
        prefix = "lookalike:worker:ingest:"
        return {key.decode().removeprefix(prefix) for key in self._redis.scan_iter(f"{prefix}*", 1000)}

    def messages(self) -> int:
        """Messages of the ingest queue that Redis knows of, unacknowledged ones too."""
        queued, unacked = self._whole(("llen", "ingest"), ("hlen", "unacked"))
        return int(queued + unacked)

    def unrest(self) -> list[str]:
        """What stands in Redis although no job is worked on."""
        counts: dict[str, int] = {
            "chunks that are due": self._redis.zcard("lookalike:due") + self._redis.zcard("lookalike:again"),
            "jobs that are accepting": self._redis.zcard("lookalike:accepting"),
            "imports that are read": self._redis.zcard("lookalike:imports"),
            "jobs that wait to be synchronised": self._redis.zcard("lookalike:syncs"),
            "items that are pending": int(self._redis.get("lookalike:pending") or 0),
            "messages in the queue": self._redis.llen("ingest"),
        }
        for part in ("chunks", "leases"):
            keys = self._redis.scan_iter(f"lookalike:job:*:{part}", 1000)
            counts[f"jobs with {part}"] = sum(1 for _ in keys)
        return [f"{count} {what}" for what, count in counts.items() if count]

    def unacknowledged(self) -> int:
        """Messages that Celery will deliver again one day."""
        return int(self._redis.hlen("unacked"))

    def _whole(self, *commands: str | tuple[str, str]) -> list[Any]:
        """The answers of one moment."""
        with self._redis.pipeline(transaction=True) as pipe:
            for command in commands:
                name, *args = (command,) if isinstance(command, str) else command
                getattr(pipe, name)(*args)
            return pipe.execute()


def _key(job: str, part: str | None = None) -> str:
    return f"lookalike:job:{job}:{part}" if part else f"lookalike:job:{job}"
