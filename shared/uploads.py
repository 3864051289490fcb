"""Bytes parked under their content hash, so that messages carry keys and never pictures."""

from __future__ import annotations

import hashlib

import redis

from shared.settings import Settings

_PREFIX = "lookalike:upload:"

# Parked once however often it is sent; freed when the last reference lets go, or when the TTL ends.
_PARK = """
redis.call('HSETNX', KEYS[1], 'data', ARGV[1])
redis.call('HINCRBY', KEYS[1], 'references', 1)
if redis.call('TTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
"""
# Holds again what is parked still.
_HOLD = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[1], 'references', 1)
if redis.call('TTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return 1
"""
_RELEASE = """#!lua flags=allow-oom
if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HINCRBY', KEYS[1], 'references', -1) <= 0 then
  redis.call('DEL', KEYS[1])
end
"""


class Uploads:
    """Where uploaded images wait for a worker."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._ingest_ttl = settings.job_ttl
        self._search_ttl = settings.search_ttl
        self._park = client.register_script(_PARK)
        self._hold = client.register_script(_HOLD)
        self._release = client.register_script(_RELEASE)

    def park_for_ingest(self, data: bytes) -> str:
        """Keep `data` until `release`; returns its sha256."""
        return self._store(data, self._ingest_ttl)

    def park_for_search(self, data: bytes) -> str:
        """Keep `data` as long as a search lives; returns its sha256."""
        return self._store(data, self._search_ttl)

    def hold_for_ingest(self, sha256: str) -> bool:
        """One reference more, until `release`; False where the bytes are gone."""
        return bool(self._hold(keys=[_PREFIX + sha256], args=[self._ingest_ttl]))

    def _store(self, data: bytes, ttl: int) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self._park(keys=[_PREFIX + sha256], args=[data, ttl])
        return sha256

    def read(self, sha256: str) -> bytes | None:
        """The parked bytes, or None when they are gone."""
        return self._redis.hget(_PREFIX + sha256, "data")

    def release(self, sha256: str) -> None:
        """One reference lets go."""
        self._release(keys=[_PREFIX + sha256])
