"""Which workers live: each says so every few seconds, and `/readyz` reads it."""

from __future__ import annotations

import redis

_PREFIX = "lookalike:worker:"
BEAT_SECONDS = 3.0
_ALIVE_SECONDS = 12


class Presence:
    """A worker's name stands under each queue that it serves, until it is silent for 12 s."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def beat(self, queue: str, worker: str, model: str) -> None:
        self._redis.set(f"{_PREFIX}{queue}:{worker}", model, ex=_ALIVE_SECONDS)

    def leave(self, queue: str, worker: str) -> None:
        self._redis.delete(f"{_PREFIX}{queue}:{worker}")

    def alive(self, queue: str) -> list[str]:
        """Names of the workers that serve `queue`."""
        prefix = f"{_PREFIX}{queue}:"
        return sorted(
            key.decode().removeprefix(prefix) for key in self._redis.scan_iter(match=f"{prefix}*", count=1000)
        )
